/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat(), lstat(), fstat(), fstatat(), statx(), statfs(), fstatfs(), statvfs(): POSIX.1-2024
 * fstatat, fstatvfs, <sys/stat.h>; stat(2), statx(2), statfs(2).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

#include "tests/posix/posix.h"

static bool same_stat(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
           a->st_nlink == b->st_nlink && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
           a->st_rdev == b->st_rdev && a->st_size == b->st_size && a->st_blocks == b->st_blocks &&
           a->st_blksize == b->st_blksize && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void of_each_type(void)
{
    ino_t inos[PX_TYPES] = {0};
    dev_t dev = px_stat(".").st_dev;

    (void)umask(0);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i), path[2] = {(char)('a' + i), 0};
        bool device = i == PX_CHR || i == PX_BLK, taken = false;
        struct stat st;

        NEED(px_make((enum px_type)i, path, 0751) == 0);
        NEED(lstat(path, &st) == 0);
        EQUAL(st.st_mode & S_IFMT, px_type_mode((enum px_type)i), "%s: its type", name);
        EQUAL(st.st_mode & 07777, i == PX_LINK ? 0777 : 0751, "%s: its mode", name);
        EQUAL(st.st_nlink, i == PX_DIR ? 2 : 1, "%s: its links", name);
        EQUAL(st.st_uid, geteuid(), "%s: its owner", name);
        EQUAL(st.st_gid, getegid(), "%s: its group", name);
        EQUAL(st.st_dev, dev, "%s: is on the directory's device", name);
        EQUAL(st.st_rdev, device ? makedev(1, 3) : 0, "%s: the device that it is", name);
        if (i != PX_DIR) {
            EQUAL(st.st_size, i == PX_LINK ? 7 : 0, "%s: its size", name);
            EQUAL(st.st_blocks, 0, "%s: its blocks", name);
        }
        CLAIM(st.st_blksize >= 512 && (st.st_blksize & (st.st_blksize - 1)) == 0,
              "%s: its block size is a power of two", name);
        for (int j = 0; j < i; j++) {
            taken = taken || inos[j] == st.st_ino;
        }
        CLAIM(st.st_ino != 0 && !taken, "%s: its inode number is its own", name);
        inos[i] = st.st_ino;
    }
}

static void device_numbers(void)
{
    static const unsigned rows[][2] = {{0, 0},     {1, 3},   {8, 255},
                                       {255, 256}, {259, 0}, {4095, 1048575}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int t = PX_CHR; t <= PX_BLK; t++) {
            NEED(mknod("x", px_type_mode((enum px_type)t) | 0600,
                       makedev(rows[i][0], rows[i][1])) == 0);
            EQUAL(px_stat("x").st_rdev, makedev(rows[i][0], rows[i][1]), "%s %u:%u",
                  px_type_name((enum px_type)t), rows[i][0], rows[i][1]);
            NEED(unlink("x") == 0);
        }
    }
}

static void ways_to_ask(void)
{
    struct stat a, b;
    int d, f, path;

    NEED(px_write_file("f", "abc", 3) == 0 && symlink("f", "l") == 0 && mkdir("d", 0755) == 0);
    NEED(px_write_file("d/x", "abcd", 4) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("f", O_RDONLY);
    path = open("l", O_PATH | O_NOFOLLOW);
    NEED(d >= 0 && f >= 0 && path >= 0 && stat("f", &a) == 0);
    OK(stat("l", &b), "stat follows a link");
    CLAIM(same_stat(&a, &b), "to the file");
    OK(fstat(f, &b), "fstat of an open file");
    CLAIM(same_stat(&a, &b), "fstat says what stat says");
    OK(fstatat(AT_FDCWD, "f", &b, AT_SYMLINK_NOFOLLOW), "fstatat NOFOLLOW of a file");
    CLAIM(same_stat(&a, &b), "fstatat says what stat says");
    OK(fstatat(f, "", &b, AT_EMPTY_PATH), "fstatat EMPTY_PATH");
    CLAIM(same_stat(&a, &b), "EMPTY_PATH says what stat says");
    NEED(lstat("l", &a) == 0);
    EQUAL(a.st_mode & S_IFMT, S_IFLNK, "lstat takes the link");
    EQUAL(a.st_size, 1, "a link's size is that of its target's name");
    OK(fstat(path, &b), "fstat of an O_PATH descriptor of a link");
    CLAIM(same_stat(&a, &b), "says what lstat says");
    OK(fstatat(d, "x", &b, 0), "fstatat below an open directory");
    EQUAL(b.st_size, 4, "is of the file there");
    NEED(unlink("f") == 0);
    OK(fstat(f, &b), "fstat of a file without a name");
    EQUAL(b.st_nlink, 0, "which has no links");
    NEED(rename("d", "e") == 0 && stat("e", &a) == 0);
    OK(fstat(d, &b), "fstat of a directory that was renamed");
    CLAIM(same_stat(&a, &b), "is that directory");
    NEED(unlink("e/x") == 0 && rmdir("e") == 0);
    OK(fstat(d, &b), "fstat of a directory that was removed");
    EQUAL(b.st_nlink, 0, "it has no links either");
    NEED(close(d) == 0 && close(f) == 0 && close(path) == 0);
}

static void a_while(void)
{
    for (int i = 0; i < 10; i++) {
        px_tick();
    }
}

/* Who has a file open keeps it, whatever was synced, closed and opened before. */
static void held(void)
{
    int log = open("log", O_CREAT | O_WRONLY, 0644), fd;
    struct stat st;
    char text[4] = "";

    NEED(log >= 0);
    for (int i = 0; i < 100; i++) {
        NEED(pwrite(log, "line", 4, 4 * i) == 4 && fsync(log) == 0);
    }
    NEED(px_write_file("f", "abc", 3) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    a_while();
    NEED(unlink("f") == 0);
    a_while();
    OK(fstat(fd, &st), "fstat of a file without a name, a while later");
    EQUAL(st.st_size, 3, "which has its size");
    EQUAL(pread(fd, text, sizeof(text), 0), 3, "and is read");
    CLAIM(memcmp(text, "abc", 3) == 0, "with its bytes");
    EQUAL(pwrite(fd, "d", 1, 3), 1, "and written");
    OK(fsync(fd), "and synced");
    NEED(close(fd) == 0 && close(log) == 0);
}

static int by_stat(const char *path)
{
    struct stat st;

    return stat(path, &st);
}

static int by_lstat(const char *path)
{
    struct stat st;

    return lstat(path, &st);
}

static int by_statx(const char *path)
{
    struct statx st;

    return statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st);
}

static int by_statfs(const char *path)
{
    struct statfs st;

    return statfs(path, &st);
}

static int by_statvfs(const char *path)
{
    struct statvfs st;

    return statvfs(path, &st);
}

static const struct {
    const char *name;
    int (*call)(const char *path);
} calls[] = {
    {"stat", by_stat},     {"lstat", by_lstat},     {"statx", by_statx},
    {"statfs", by_statfs}, {"statvfs", by_statvfs},
};

static void bad_paths(void)
{
    struct stat st;
    int f;

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("loop", "loop") == 0);
    NEED(symlink("none", "dangling") == 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const char *name = calls[i].name;
        bool link = calls[i].call == by_lstat;

        FAILS(calls[i].call("none"), ENOENT, "%s: no such file", name);
        FAILS(calls[i].call(""), ENOENT, "%s: an empty path", name);
        FAILS(calls[i].call("none/x"), ENOENT, "%s: no such directory", name);
        FAILS(calls[i].call("f/x"), ENOTDIR, "%s: a part of the path is a file", name);
        FAILS(calls[i].call("f/"), ENOTDIR, "%s: a file with a slash behind it", name);
        FAILS(calls[i].call("loop/x"), ELOOP, "%s: a loop on the way", name);
        GIVES(calls[i].call("loop"), link ? 0 : ELOOP, "%s: a loop", name);
        GIVES(calls[i].call("dangling"), link ? 0 : ENOENT, "%s: a link that leads nowhere", name);
        FAILS(calls[i].call(px_long_name('n', PX_NAME_MAX + 1)), ENAMETOOLONG,
              "%s: a name of 256 bytes", name);
        FAILS(calls[i].call(px_long_name('/', 4096)), ENAMETOOLONG, "%s: a path of 4,096 bytes",
              name);
        FAILS(calls[i].call(px_nowhere()), EFAULT, "%s: no address", name);
        OK(calls[i].call("f"), "%s: a file that is there", name);
    }
    FAILS(fstat(-1, &st), EBADF, "fstat: -1");
    FAILS(stat("f", px_nowhere()), EFAULT, "stat: nowhere to put it");
    f = open("f", O_RDONLY);
    NEED(f >= 0);
    FAILS(fstatat(f, "x", &st, 0), ENOTDIR, "fstatat: the directory is a file");
    FAILS(fstatat(-1, "x", &st, 0), EBADF, "fstatat: the directory is not open");
    FAILS(fstatat(AT_FDCWD, "f", &st, 0x40000), EINVAL, "fstatat: an unknown flag");
    FAILS(fstatat(f, "", &st, 0), ENOENT, "fstatat: an empty path without EMPTY_PATH");
    NEED(close(f) == 0);
    FAILS(fstat(f, &st), EBADF, "fstat: a closed descriptor");
}

static void needs_search_alone(void)
{
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0) == 0);
    NEED(chown("d", px_uid(0), px_uid(0)) == 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (unsigned rights = 0; rights < 8; rights++) {
            NEED(chmod("d", rights << 6) == 0);
            px_become_user(0);
            GIVES(calls[i].call("d/f"), rights & 1 ? 0 : EACCES,
                  "%s of a file of mode 0 in a directory with rights %o", calls[i].name, rights);
            px_become_root();
        }
    }
}

/* Numbers that change */

static void links_counted(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    NEED(link("f", "g") == 0 && link("f", "d/h") == 0);
    EQUAL(px_stat("f").st_nlink, 3, "three names, three links");
    NEED(unlink("f") == 0);
    EQUAL(px_stat("g").st_nlink, 2, "a name less, a link less");
    NEED(mkdir("d/1", 0755) == 0 && mkdir("d/2", 0755) == 0);
    EQUAL(px_stat("d").st_nlink, 4, "a directory has a link for each directory in it");
    NEED(rmdir("d/1") == 0);
    EQUAL(px_stat("d").st_nlink, 3, "and one less when one is removed");
    NEED(link("g", "d/x") == 0 && unlink("d/x") == 0);
    EQUAL(px_stat("d").st_nlink, 3, "files in it do not count");
}

static void sizes(void)
{
    static char bytes[65536];
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct stat st;

    memset(bytes, 'x', sizeof(bytes));
    NEED(fd >= 0 && write(fd, bytes, 5) == 5 && fstat(fd, &st) == 0);
    EQUAL(st.st_size, 5, "what was written counts at once");
    EQUAL(px_stat("f").st_size, 5, "by name, too");
    NEED(pwrite(fd, bytes, sizeof(bytes), 0) == sizeof(bytes) && fsync(fd) == 0);
    CLAIM(px_stat("f").st_blocks >= (blkcnt_t)sizeof(bytes) / 512, "64 KiB have their blocks");
    CLAIM(px_stat("f").st_blocks <= (blkcnt_t)sizeof(bytes) / 512 + 64, "and not many more");
    NEED(ftruncate(fd, 1 << 30) == 0);
    EQUAL(px_stat("f").st_size, 1 << 30, "a hole counts for the size");
    CLAIM(px_stat("f").st_blocks <= (blkcnt_t)sizeof(bytes) / 512 + 64, "and not for the blocks");
    NEED(pwrite(fd, "x", 1, (1 << 30) + 7) == 1);
    EQUAL(px_stat("f").st_size, (1 << 30) + 8, "the last byte written ends it");
    NEED(ftruncate(fd, 0) == 0 && fsync(fd) == 0 && fstat(fd, &st) == 0);
    CLAIM(st.st_size == 0 && st.st_blocks == 0, "cut to nothing it has no blocks");
    NEED(fallocate(fd, 0, 0, 1 << 20) == 0);
    CLAIM(px_stat("f").st_blocks >= (1 << 20) / 512, "what is allocated has blocks");
    EQUAL(px_stat("f").st_size, 1 << 20, "and size");
    NEED(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 19) == 0);
    CLAIM(px_stat("f").st_blocks <= (1 << 19) / 512 + 64, "a hole punched has none");
    EQUAL(px_stat("f").st_size, 1 << 20, "the size stays");
    NEED(close(fd) == 0);
}

/* statx */

static void statx_fields(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct statx x;
        struct stat st;

        NEED(px_make((enum px_type)i, "x", 0640) == 0 && lstat("x", &st) == 0);
        NEED(statx(AT_FDCWD, "x", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x) == 0);
        EQUAL(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS, "statx of a %s: has all", name);
        CLAIM(x.stx_mode == st.st_mode && x.stx_ino == st.st_ino && x.stx_uid == st.st_uid &&
                  x.stx_gid == st.st_gid && x.stx_nlink == st.st_nlink,
              "statx of a %s: mode, inode, owner, group, links are those of lstat", name);
        CLAIM(x.stx_size == (uint64_t)st.st_size && x.stx_blocks == (uint64_t)st.st_blocks &&
                  x.stx_blksize == (uint64_t)st.st_blksize,
              "statx of a %s: sizes are those of lstat", name);
        CLAIM(makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev &&
                  makedev(x.stx_rdev_major, x.stx_rdev_minor) == st.st_rdev,
              "statx of a %s: devices are those of lstat", name);
        CLAIM(x.stx_mtime.tv_sec == st.st_mtim.tv_sec &&
                  x.stx_mtime.tv_nsec == (uint32_t)st.st_mtim.tv_nsec &&
                  x.stx_ctime.tv_nsec == (uint32_t)st.st_ctim.tv_nsec,
              "statx of a %s: times are those of lstat", name);
        EQUAL(x.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_MOUNT_ROOT),
              0, "statx of a %s: no attributes", name);
        NEED(remove("x") == 0);
    }
}

static void statx_ways(void)
{
    struct statx x;
    int fd;

    NEED(px_write_file("f", "abc", 3) == 0 && symlink("f", "l") == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0);
    OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x), "statx EMPTY_PATH");
    CLAIM((x.stx_mask & STATX_SIZE) && x.stx_size == 3, "gives what was asked");
    OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_SIZE, &x), "statx FORCE_SYNC");
    EQUAL(x.stx_size, 3, "FORCE_SYNC gives the size");
    OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_TYPE, &x), "statx DONT_SYNC");
    EQUAL(x.stx_mode & S_IFMT, S_IFREG, "DONT_SYNC gives the type");
    FAILS(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &x), EINVAL,
          "FORCE_SYNC and DONT_SYNC exclude each other");
    FAILS(statx(AT_FDCWD, "f", 0, 0x80000000u, &x), EINVAL, "the reserved bit of the mask");
    OK(statx(AT_FDCWD, "f", 0, 0x40000000u, &x), "an unknown bit of the mask");
    EQUAL(x.stx_mask & 0x40000000u, 0, "an unknown bit is not given");
    FAILS(statx(AT_FDCWD, "f", 0x40000, STATX_SIZE, &x), EINVAL, "an unknown flag of statx");
    FAILS(statx(-1, "f", 0, STATX_SIZE, &x), EBADF, "statx: the directory is not open");
    FAILS(statx(fd, "f", 0, STATX_SIZE, &x), ENOTDIR, "statx: the directory is a file");
    FAILS(statx(AT_FDCWD, "f", 0, STATX_SIZE, px_nowhere()), EFAULT, "statx: nowhere to put it");
    NEED(close(fd) == 0);
}

static long long birth(const char *path)
{
    struct statx x;

    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &x) ||
        !(x.stx_mask & STATX_BTIME)) {
        return -1;
    }
    return x.stx_btime.tv_sec * 1000000000LL + x.stx_btime.tv_nsec;
}

static long long ns(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void born(void)
{
    struct timespec before, after;

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        const struct timespec old[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
        long long at;

        (void)clock_gettime(CLOCK_REALTIME, &before);
        px_tick();
        NEED(px_make((enum px_type)i, "x", 0640) == 0);
        (void)clock_gettime(CLOCK_REALTIME, &after);
        at = birth("x");
        CLAIM(at >= ns(before) && at <= ns(after), "%s: was born when it was made", name);
        px_tick();
        NEED(utimensat(AT_FDCWD, "x", old, AT_SYMLINK_NOFOLLOW) == 0 && rename("x", "y") == 0);
        CLAIM(at > 0 && birth("y") == at, "%s: and stays born then", name);
        NEED(remove("y") == 0);
    }
}

/* File systems */

static void file_systems(void)
{
    struct statvfs v, w;
    struct statfs s, t;
    int fd, path;

    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0) == 0);
    NEED(statfs(".", &s) == 0 && statvfs(".", &v) == 0);
    CLAIM(s.f_bsize > 0 && v.f_frsize > 0, "blocks have a size");
    CLAIM(s.f_blocks > 0 && s.f_blocks >= s.f_bfree, "there are no more free blocks than blocks");
    CLAIM(s.f_bfree >= s.f_bavail, "what users may have is no more than what is free");
    CLAIM(s.f_files >= s.f_ffree, "no more free files than files");
    CLAIM(s.f_ffree > 0, "some files are free");
    EQUAL(s.f_namelen, PX_NAME_MAX, "names have 255 bytes");
    EQUAL(v.f_namemax, PX_NAME_MAX, "for statvfs, too");
    EQUAL(v.f_blocks * v.f_frsize, s.f_blocks * (uint64_t)s.f_bsize,
          "statvfs has the size of statfs");
    EQUAL(v.f_flag & ST_RDONLY, 0, "it is not read-only");
    NEED(statfs("f", &t) == 0);
    CLAIM(t.f_type == s.f_type && t.f_blocks == s.f_blocks && t.f_bsize == s.f_bsize,
          "asked of a file it is the same");
    OK(statfs("d", &t), "asked of a directory of mode 0");
    fd = open("f", O_RDONLY);
    path = open("f", O_PATH);
    NEED(fd >= 0 && path >= 0);
    OK(fstatfs(fd, &t), "fstatfs");
    EQUAL(t.f_type, s.f_type, "fstatfs is the same");
    OK(fstatvfs(fd, &w), "fstatvfs");
    EQUAL(w.f_fsid, v.f_fsid, "fstatvfs is the same");
    OK(fstatfs(path, &t), "fstatfs of an O_PATH descriptor");
    NEED(close(fd) == 0 && close(path) == 0);
    FAILS(fstatfs(fd, &t), EBADF, "fstatfs of a closed descriptor");
    FAILS(fstatvfs(-1, &w), EBADF, "fstatvfs of -1");
    FAILS(statfs(".", px_nowhere()), EFAULT, "statfs: nowhere to put it");
}

/* Two mounts */

static void seen_elsewhere(void)
{
    struct stat here, there;
    int fd;

    NEED(mkdir("d", 0755) == 0 && symlink("d", "l") == 0 && px_make(PX_FIFO, "p", 0640) == 0);
    fd = open("f", O_CREAT | O_RDWR, 0640);
    NEED(fd >= 0 && px_exists(px_other("f")));
    EQUAL(px_ino("f"), px_ino(px_other("f")), "a file's inode number is the same there");
    EQUAL(px_ino("d"), px_ino(px_other("d")), "a directory's inode number is the same there");
    EQUAL(px_stat("l").st_size, px_stat(px_other("l")).st_size, "a link's size is the same there");
    EQUAL(px_stat("p").st_mode, px_stat(px_other("p")).st_mode, "a FIFO's mode is the same there");
    NEED(write(fd, "0123456789", 10) == 10 && fsync(fd) == 0);
    EQUAL(px_stat(px_other("f")).st_size, 10, "what is written and synced here counts there");
    NEED(truncate(px_other("f"), 4) == 0 && fstat(fd, &here) == 0);
    EQUAL(here.st_size, 4, "what is cut there is cut here");
    NEED(link(px_other("f"), px_other("g")) == 0 && fstat(fd, &here) == 0);
    EQUAL(here.st_nlink, 2, "a link made there counts here");
    NEED(mkdir("d/1", 0755) == 0);
    EQUAL(px_stat(px_other("d")).st_nlink, 3, "a directory made here counts there");
    NEED(lstat("f", &here) == 0 && lstat(px_other("f"), &there) == 0);
    EQUAL(here.st_blocks, there.st_blocks, "blocks are the same there");
    NEED(unlink("f") == 0 && unlink("g") == 0 && fstat(fd, &here) == 0);
    EQUAL(here.st_nlink, 0, "without names it has no links");
    CLAIM(!px_exists(px_other("f")), "nor is it there");
    NEED(close(fd) == 0);
}

const struct px_group px_status[] = {
    {"of-each-type", of_each_type, 0},
    {"device-numbers", device_numbers, PX_ROOT},
    {"ways-to-ask", ways_to_ask, 0},
    {"held", held, 0},
    {"bad-paths", bad_paths, 0},
    {"needs-search-alone", needs_search_alone, PX_ROOT},
    {"links-counted", links_counted, 0},
    {"sizes", sizes, 0},
    {"statx-fields", statx_fields, 0},
    {"statx-ways", statx_ways, 0},
    {"born", born, 0},
    {"file-systems", file_systems, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
