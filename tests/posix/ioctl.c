/* SPDX-License-Identifier: Apache-2.0 */
/* ioctl() as programs probe with it: ioctl(2), ioctl_iflags(2), ioctl_tty(2), FS_IOC_FIEMAP. */
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/posix/posix.h"

#define UNKNOWN _IOR('z', 250, int)

static int open_of(enum px_type type)
{
    int fd;

    NEED(px_make(type, "x", 0755) == 0);
    fd = open("x", type == PX_FIFO ? O_RDWR : O_RDONLY);
    NEED(fd >= 0);
    return fd;
}

static void close_of(int fd)
{
    NEED(close(fd) == 0 && remove("x") == 0);
}

static const enum px_type types[] = {PX_REG, PX_DIR, PX_FIFO};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* isatty(), stdio, shells: a file is no terminal, and says so with ENOTTY. */
static void no_terminal(void)
{
    for (size_t i = 0; i < TYPES; i++) {
        const char *name = px_type_name(types[i]);
        int fd = open_of(types[i]), pgrp = 0;
        struct termios t;
        struct winsize w;

        FAILS(ioctl(fd, TCGETS, &t), ENOTTY, "TCGETS of a %s", name);
        FAILS(ioctl(fd, TIOCGWINSZ, &w), ENOTTY, "TIOCGWINSZ of a %s", name);
        FAILS(ioctl(fd, TIOCGPGRP, &pgrp), ENOTTY, "TIOCGPGRP of a %s", name);
        EQUAL(isatty(fd), 0, "a %s is no terminal", name);
        FAILS(ioctl(fd, UNKNOWN, &pgrp), ENOTTY, "an unknown request of a %s", name);
        FAILS(ioctl(fd, 0, 0), ENOTTY, "request 0 of a %s", name);
        close_of(fd);
    }
}

static void no_block_device(void)
{
    int fd = open_of(PX_REG), n = 0;
    unsigned long long size = 0;

    FAILS(ioctl(fd, BLKGETSIZE64, &size), ENOTTY, "BLKGETSIZE64 of a file");
    FAILS(ioctl(fd, BLKSSZGET, &n), ENOTTY, "BLKSSZGET of a file");
    FAILS(ioctl(fd, BLKFLSBUF, 0), ENOTTY, "BLKFLSBUF of a file");
    close_of(fd);
}

static void how_much_is_left(void)
{
    static const struct {
        off_t at;
        int want;
    } rows[] = {{0, 1000}, {1, 999}, {999, 1}, {1000, 0}};
    int fd, n = -1;

    NEED(px_make_filled("f", 1000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        NEED(lseek(fd, rows[i].at, SEEK_SET) == rows[i].at);
        OK(ioctl(fd, FIONREAD, &n), "FIONREAD at %lld", (long long)rows[i].at);
        EQUAL(n, rows[i].want, "FIONREAD at %lld says what is left", (long long)rows[i].at);
    }
    NEED(pwrite(fd, "more", 4, 1000) == 4);
    OK(ioctl(fd, FIONREAD, &n), "FIONREAD when more was written");
    EQUAL(n, 4, "FIONREAD counts it");
    NEED(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    OK(ioctl(fd, FIONREAD, &n), "FIONREAD of an empty file");
    EQUAL(n, 0, "FIONREAD says nothing is left");
    FAILS(ioctl(fd, FIONREAD, px_nowhere()), EFAULT, "FIONREAD to no address");
    NEED(close(fd) == 0 && mkfifo("p", 0644) == 0);
    fd = open("p", O_RDWR);
    NEED(fd >= 0 && write(fd, "abc", 3) == 3);
    OK(ioctl(fd, FIONREAD, &n), "FIONREAD of a FIFO");
    EQUAL(n, 3, "FIONREAD of a FIFO says what is in it");
    NEED(close(fd) == 0);
}

static void block_size(void)
{
    for (size_t i = 0; i < 2; i++) {
        const char *name = px_type_name(types[i]);
        int fd = open_of(types[i]), n = 0;

        OK(ioctl(fd, FIGETBSZ, &n), "FIGETBSZ of a %s", name);
        CLAIM(n >= 512 && n <= 1 << 20 && (n & (n - 1)) == 0, "FIGETBSZ of a %s: a power of two",
              name);
        FAILS(ioctl(fd, FIGETBSZ, px_nowhere()), EFAULT, "FIGETBSZ of a %s to no address", name);
        close_of(fd);
    }
}

static void descriptor_flags(void)
{
    for (size_t i = 0; i < TYPES; i++) {
        const char *name = px_type_name(types[i]);
        int fd = open_of(types[i]), on = 1, off = 0;

        OK(ioctl(fd, FIOCLEX), "FIOCLEX of a %s", name);
        EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC, "FIOCLEX of a %s: it is closed on exec", name);
        OK(ioctl(fd, FIONCLEX), "FIONCLEX of a %s", name);
        EQUAL(fcntl(fd, F_GETFD), 0, "FIONCLEX of a %s: it is not", name);
        OK(ioctl(fd, FIONBIO, &on), "FIONBIO of a %s, on", name);
        CLAIM(fcntl(fd, F_GETFL) & O_NONBLOCK, "FIONBIO of a %s sets O_NONBLOCK", name);
        OK(ioctl(fd, FIONBIO, &off), "FIONBIO of a %s, off", name);
        CLAIM(!(fcntl(fd, F_GETFL) & O_NONBLOCK), "FIONBIO of a %s takes O_NONBLOCK away", name);
        close_of(fd);
    }
}

/* What file systems may know or not: an answer that makes sense, or a no that programs expect. */

static bool expected_no(int error)
{
    return error == ENOTTY || error == EOPNOTSUPP;
}

static void inode_flags(void)
{
    for (size_t i = 0; i < 2; i++) {
        const char *name = px_type_name(types[i]);
        int fd = open_of(types[i]), flags = 0, ret;
        struct fsxattr x;
        long version;

        ret = ioctl(fd, FS_IOC_GETFLAGS, &flags);
        CLAIM(ret == 0 ? !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) : expected_no(errno),
              "FS_IOC_GETFLAGS of a new %s: neither immutable nor only for appending, or a no",
              name);
        ret = ret || ioctl(fd, FS_IOC_SETFLAGS, &flags);
        CLAIM(ret == 0 || expected_no(errno), "FS_IOC_SETFLAGS of a %s to what they are, or a no",
              name);
        ret = ioctl(fd, FS_IOC_FSGETXATTR, &x);
        CLAIM(ret == 0 ? !(x.fsx_xflags & (FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND))
                       : expected_no(errno),
              "FS_IOC_FSGETXATTR of a %s agrees, or a no", name);
        ret = ioctl(fd, FS_IOC_GETVERSION, &version);
        CLAIM(ret == 0 || expected_no(errno), "FS_IOC_GETVERSION of a %s, or a no", name);
        close_of(fd);
    }
}

static void extents(void)
{
    union {
        struct fiemap head;
        char room[sizeof(struct fiemap) + 8 * sizeof(struct fiemap_extent)];
    } u;
    int fd, ret;

    NEED(px_make_filled("f", 1 << 20, 1) == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0);
    memset(&u, 0, sizeof(u));
    u.head.fm_length = FIEMAP_MAX_OFFSET;
    u.head.fm_extent_count = 8;
    u.head.fm_flags = FIEMAP_FLAG_SYNC;
    ret = ioctl(fd, FS_IOC_FIEMAP, &u);
    CLAIM(ret == 0 ? u.head.fm_mapped_extents > 0 && u.head.fm_extents[0].fe_logical == 0
                   : expected_no(errno),
          "FS_IOC_FIEMAP of 1 MiB: extents from its start, or a no");
    NEED(close(fd) == 0);
}

static void bad_descriptors(void)
{
    static const struct {
        const char *name;
        unsigned long request;
    } rows[] = {{"TCGETS", TCGETS},
                {"FIONREAD", FIONREAD},
                {"FIGETBSZ", FIGETBSZ},
                {"FIOCLEX", FIOCLEX},
                {"FS_IOC_GETFLAGS", FS_IOC_GETFLAGS},
                {"unknown", UNKNOWN}};
    char room[256];
    int path;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    path = open("f", O_PATH);
    NEED(path >= 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        FAILS(ioctl(-1, rows[i].request, room), EBADF, "%s of no descriptor", rows[i].name);
        FAILS(ioctl(path, rows[i].request, room), EBADF, "%s of an O_PATH one", rows[i].name);
    }
}

static void only_for_root(void)
{
    int fd = open_of(PX_REG), block = 0;

    px_become_user(0);
    FAILS(ioctl(fd, FIFREEZE, 0), EPERM, "FIFREEZE by a user");
    FAILS(ioctl(fd, FITHAW, 0), EPERM, "FITHAW by a user");
    FAILS(ioctl(fd, FIBMAP, &block), EPERM, "FIBMAP by a user");
    px_become_root();
    close_of(fd);
}

static void seen_elsewhere(void)
{
    int fd, n = 0;

    NEED(px_make_filled("f", 100, 1) == 0);
    fd = open(px_other("f"), O_RDONLY);
    NEED(fd >= 0 && px_make_filled("f", 1000, 2) == 0);
    NEED(lseek(fd, 0, SEEK_END) == 1000 && lseek(fd, 10, SEEK_SET) == 10);
    OK(ioctl(fd, FIONREAD, &n), "FIONREAD there");
    EQUAL(n, 990, "FIONREAD there says what was written here");
    NEED(close(fd) == 0);
}

const struct px_group px_ioctl[] = {
    {"no-terminal", no_terminal, 0},
    {"no-block-device", no_block_device, 0},
    {"how-much-is-left", how_much_is_left, 0},
    {"block-size", block_size, 0},
    {"descriptor-flags", descriptor_flags, 0},
    {"inode-flags", inode_flags, 0},
    {"extents", extents, 0},
    {"bad-descriptors", bad_descriptors, 0},
    {"only-for-root", only_for_root, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
