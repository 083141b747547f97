/* SPDX-License-Identifier: Apache-2.0 */
/* mknod(), mkfifo(), and FIFOs: POSIX.1-2024 mknod, mkfifo; mknod(2), mkfifo(3), fifo(7). */
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int make_file(const char *path)
{
    return mknod(path, S_IFREG | 0644, 0);
}

static int make_fifo(const char *path)
{
    return mkfifo(path, 0644);
}

static int make_device(const char *path)
{
    return mknod(path, S_IFCHR | 0644, makedev(1, 3));
}

/* Types */

static void types(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        mode_t mode = px_type_mode(type);
        const char *name = px_type_name(type);
        struct stat st;

        if (type == PX_DIR || type == PX_LINK) {
            CLAIM(mknod("x", mode | 0644, 0) == -1 && (errno == EPERM || errno == EINVAL),
                  "mknod makes no %s", name);
            CLAIM(!px_exists("x"), "mknod that makes no %s makes nothing", name);
            continue;
        }
        OK(mknod("x", mode | 0647, type < PX_CHR ? 0 : makedev(1, 3)), "mknod makes a %s", name);
        st = px_stat("x");
        EQUAL(st.st_mode, mode | 0645, "a %s of that mode, less the umask", name);
        EQUAL(st.st_nlink, 1, "a %s has one link", name);
        EQUAL(st.st_size, 0, "a %s is empty", name);
        EQUAL(st.st_uid, geteuid(), "a %s is its maker's", name);
        EQUAL(st.st_rdev, type < PX_CHR ? 0 : makedev(1, 3), "the device number of a %s", name);
        FAILS(mknod("x", S_IFREG | 0644, 0), EEXIST, "the name is that of a %s", name);
        EQUAL(chmod("x", 0600), 0, "the mode of a %s changes", name);
        EQUAL(px_stat("x").st_mode, mode | 0600, "a %s keeps its type when it does", name);
        FAILS(truncate("x/", 0), ENOTDIR, "a %s is no directory", name);
        NEED(unlink("x") == 0);
    }
    OK(mknod("x", 0640, 0), "mknod without a type");
    EQUAL(px_stat("x").st_mode, S_IFREG | 0640, "makes a regular file");
    FAILS(mknod("y", S_IFMT | 0644, 0), EINVAL, "mknod of an unknown type");
}

static void regular(void)
{
    NEED(mknod("f", S_IFREG | 0644, 0) == 0);
    EQUAL(px_write_file("f", "text", 4), 0, "a regular file that mknod made is written");
    EQUAL(px_stat("f").st_size, 4, "and has its size");
    FAILS(truncate("f", -1), EINVAL, "and no negative one");
}

static void times(void)
{
    struct stat d, st;

    NEED(mkdir("d", 0755) == 0);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        if (i == PX_DIR || i == PX_LINK) {
            continue;
        }
        d = px_stat("d");
        px_tick();
        NEED(mknod("d/x", px_type_mode((enum px_type)i) | 0644, 0) == 0);
        st = px_stat("d/x");
        CLAIM(px_later(px_stat("d").st_mtim, d.st_mtim), "%s: the directory's mtime moves on",
              name);
        CLAIM(px_later(st.st_mtim, d.st_mtim) && px_later(st.st_ctim, d.st_ctim) &&
                  px_later(st.st_atim, d.st_ctim),
              "%s: its own times are those of its making", name);
        NEED(unlink("d/x") == 0);
    }
}

static void names(void)
{
    int d, f;

    px_bad_paths("mknod", make_file);
    px_bad_paths("mkfifo", make_fifo);
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    NEED(symlink("new", "dangling") == 0);
    FAILS(make_fifo("f"), EEXIST, "a file's name");
    FAILS(make_fifo("d"), EEXIST, "a directory's name");
    FAILS(make_fifo("dangling"), EEXIST, "the name of a link to nowhere");
    CLAIM(!px_exists("new"), "which makes nothing where it leads");
    FAILS(make_fifo("new/"), ENOENT, "a new name and a slash");
    FAILS(make_fifo("d/"), EEXIST, "a directory's name and a slash");
    FAILS(make_file("."), EEXIST, "the name .");
    OK(make_fifo(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
    d = open("d", O_PATH);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0);
    OK(mkfifoat(d, "p", 0644), "mkfifoat in an open directory");
    CLAIM(S_ISFIFO(px_stat("d/p").st_mode), "and there it is");
    FAILS(mknodat(-1, "p", S_IFIFO | 0644, 0), EBADF, "mknodat in a directory that is not open");
    FAILS(mknodat(f, "p", S_IFIFO | 0644, 0), ENOTDIR, "mknodat in a file");
    NEED(unlink("d/p") == 0 && rmdir("d") == 0);
    FAILS(mknodat(d, "p", S_IFIFO | 0644, 0), ENOENT, "mknodat in a removed directory");
    NEED(close(d) == 0 && close(f) == 0);
}

/* Devices */

static void devices(void)
{
    static const unsigned numbers[][2] = {
        {0, 0},     {1, 0},   {0, 1},      {1, 3},        {8, 255},      {8, 256},
        {255, 255}, {256, 0}, {4095, 255}, {4095, 65536}, {12, 1048575}, {4095, 1048575}};

    for (size_t i = 0; i < COUNT(numbers); i++) {
        dev_t dev = makedev(numbers[i][0], numbers[i][1]);

        if (OK(mknod("c", S_IFCHR | 0600, dev), "character device %u:%u", numbers[i][0],
               numbers[i][1]) == 0) {
            EQUAL(px_stat("c").st_rdev, dev, "character device %u:%u has its number", numbers[i][0],
                  numbers[i][1]);
            NEED(unlink("c") == 0);
        }
        if (OK(mknod("b", S_IFBLK | 0600, dev), "block device %u:%u", numbers[i][0],
               numbers[i][1]) == 0) {
            EQUAL(px_stat("b").st_rdev, dev, "block device %u:%u has its number", numbers[i][0],
                  numbers[i][1]);
            NEED(unlink("b") == 0);
        }
    }
    NEED(make_device("a") == 0 && rename("a", "b") == 0 && link("b", "c") == 0);
    NEED(chmod("c", 0600) == 0 && chown("c", px_uid(0), px_uid(0)) == 0);
    EQUAL(px_stat("c").st_rdev, makedev(1, 3), "a device number survives rename, link and chmod");
    FAILS(truncate("c", 0), EINVAL, "a device is not cut");
}

static void device_rights(void)
{
    NEED(mkdir("d", 0777) == 0 && chmod("d", 0777) == 0);
    px_become_user(0);
    FAILS(make_device("d/c"), EPERM, "only root makes a character device");
    FAILS(mknod("d/b", S_IFBLK | 0644, makedev(8, 0)), EPERM, "only root makes a block device");
    FAILS(make_device("d/../d"), EEXIST, "that a name is taken comes before that");
    OK(make_fifo("d/p"), "anybody makes a FIFO");
    OK(mknod("d/s", S_IFSOCK | 0644, 0), "anybody makes a socket");
    OK(make_file("d/f"), "anybody makes a file");
    EQUAL(px_stat("d/p").st_uid, px_uid(0), "which is the effective user's");
    px_become_root();
    EQUAL(px_count("d"), 3, "what failed has made nothing");
}

static void rights(void)
{
    static const struct {
        const char *who;
        unsigned user, shift;
    } rows[] = {{"owner", 0, 6}, {"group", 1, 3}, {"others", 2, 0}};

    px_needs_write("mknod", NULL, make_file);
    px_needs_write("mkfifo", NULL, make_fifo);
    NEED(make_fifo("p") == 0 && chown("p", px_uid(0), px_uid(1)) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (unsigned have = 0; have < 8; have++) {
            int fd;

            NEED(chmod("p", have << rows[i].shift) == 0);
            px_become(px_uid(rows[i].user), px_uid(rows[i].user), NULL, 0);
            fd = open("p", O_RDONLY | O_NONBLOCK);
            EQUAL(fd < 0 ? errno : close(fd), have & 4 ? 0 : EACCES,
                  "%s with rights %o opens a FIFO for reading", rows[i].who, have);
            fd = open("p", O_RDWR | O_NONBLOCK);
            EQUAL(fd < 0 ? errno : close(fd), (have & 6) == 6 ? 0 : EACCES,
                  "%s with rights %o opens a FIFO for both", rows[i].who, have);
            px_become_root();
        }
    }
}

/* FIFOs that carry data */

#define CARRIED (1u << 20)

static int send_much(void *arg)
{
    int fd = open(arg, O_WRONLY);
    unsigned char bytes[4000];
    size_t sent = 0;

    while (fd >= 0 && sent < CARRIED) {
        size_t len = CARRIED - sent < sizeof(bytes) ? CARRIED - sent : sizeof(bytes);
        ssize_t n;

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (unsigned char)((sent + i) * 7 >> 3);
        }
        n = write(fd, bytes, len);
        if (n <= 0) {
            return 1;
        }
        sent += (size_t)n;
    }
    return fd < 0 || close(fd);
}

static void fifo_carries(void)
{
    unsigned char bytes[5000];
    size_t have = 0, wrong = 0;
    int fd, status = 0;
    ssize_t n;
    pid_t pid;

    NEED(make_fifo("p") == 0 && link("p", "q") == 0);
    pid = fork();
    if (pid == 0) {
        _exit(send_much("q"));
    }
    fd = open("p", O_RDONLY); /* waits for who writes */
    NEED(pid > 0 && fd >= 0);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++, have++) {
            wrong += bytes[i] != (unsigned char)(have * 7 >> 3);
        }
    }
    EQUAL(n, 0, "who reads a FIFO comes to its end when who writes has closed it");
    EQUAL(have, CARRIED, "a FIFO carries all bytes, between two names of it");
    EQUAL(wrong, 0, "in order");
    NEED(wait(&status) == pid);
    EQUAL(status, 0, "who wrote them has no error");
    EQUAL(px_stat("p").st_size, 0, "nothing stays in the file");
    NEED(close(fd) == 0);
}

static void fifo_blocks(void)
{
    struct pollfd poll_fd = {.events = POLLIN};
    char byte;
    int r, w;

    NEED(make_fifo("p") == 0);
    FAILS(open("p", O_WRONLY | O_NONBLOCK), ENXIO, "a FIFO that nobody reads, for writing");
    OK(r = open("p", O_RDONLY | O_NONBLOCK), "a FIFO that nobody writes, for reading");
    EQUAL(read(r, &byte, 1), 0, "which is at its end");
    OK(w = open("p", O_WRONLY | O_NONBLOCK), "a FIFO that is read, for writing");
    FAILS(read(r, &byte, 1), EAGAIN, "which is not at its end, but empty");
    poll_fd.fd = r;
    EQUAL(poll(&poll_fd, 1, 0), 0, "an empty FIFO is not ready to be read");
    EQUAL(write(w, "x", 1), 1, "it is written");
    EQUAL(poll(&poll_fd, 1, 0), 1, "and then ready");
    EQUAL(read(r, &byte, 1), 1, "and is read");
    FAILS(lseek(r, 0, SEEK_SET), ESPIPE, "a FIFO has no offset");
    FAILS(pread(r, &byte, 1, 0), ESPIPE, "nor is it read at one");
    FAILS(ftruncate(w, 0), EINVAL, "a FIFO is not cut");
    FAILS(fsync(w), EINVAL, "a FIFO is not synced");
    FAILS(write(r, "x", 1), EBADF, "what is open for reading is not written");
    NEED(close(r) == 0);
    FAILS(write(w, "x", 1), EPIPE, "a FIFO that nobody reads any more is not written");
    NEED(close(w) == 0);
    r = open("p", O_RDWR);
    NEED(r >= 0 && write(r, "left", 4) == 4 && rename("p", "q") == 0);
    w = open("q", O_RDONLY | O_NONBLOCK);
    EQUAL(read(w, (char[8]){0}, 8), 4, "a FIFO that was renamed is the same to who opens it");
    NEED(close(r) == 0 && close(w) == 0);
    r = open("q", O_RDONLY | O_NONBLOCK);
    EQUAL(read(r, &byte, 1), 0, "a FIFO that all have closed is empty");
    NEED(close(r) == 0);
}

/* Sockets */

static int bind_at(int fd, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    return bind(fd, (const struct sockaddr *)&at, sizeof(at));
}

static int connect_to(int fd, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    return connect(fd, (const struct sockaddr *)&at, sizeof(at));
}

static void sockets(void)
{
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), peer;
    char text[8];

    NEED(server >= 0 && client >= 0 && px_make(PX_REG, "f", 0644) == 0);
    OK(bind_at(server, "s"), "bind makes a socket");
    EQUAL(px_stat("s").st_mode, S_IFSOCK | 0755, "which is one, of the umask's mode");
    FAILS(bind_at(client, "s"), EADDRINUSE, "a name that is taken");
    FAILS(bind_at(client, "none/s"), ENOENT, "a directory that is not there");
    NEED(listen(server, 4) == 0 && link("s", "t") == 0 && rename("s", "u") == 0);
    FAILS(connect_to(client, "f"), ECONNREFUSED, "a file is not connected to");
    FAILS(connect_to(client, "s"), ENOENT, "nor the name that the socket had");
    OK(connect_to(client, "t"), "another name of the socket is");
    peer = accept(server, NULL, NULL);
    NEED(peer >= 0);
    EQUAL(write(client, "text", 4), 4, "it carries data");
    EQUAL(read(peer, text, sizeof(text)), 4, "to the other end");
    FAILS(open("t", O_RDWR), ENXIO, "a socket is not opened");
    NEED(close(client) == 0 && close(peer) == 0 && close(server) == 0);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    NEED(client >= 0);
    FAILS(connect_to(client, "u"), ECONNREFUSED, "a socket that nobody listens to");
    CLAIM(px_exists("u"), "which stays until it is unlinked");
    NEED(close(client) == 0);
}

/* Two mounts */

static void seen_elsewhere(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat here, there;

        NEED(px_make((enum px_type)i, "x", 0640) == 0);
        here = px_stat("x");
        there = px_stat(px_other("x"));
        CLAIM(here.st_mode == there.st_mode && here.st_ino == there.st_ino &&
                  here.st_rdev == there.st_rdev && here.st_nlink == there.st_nlink &&
                  here.st_size == there.st_size,
              "%s is the same through the other mount", name);
        NEED(remove(px_other("x")) == 0);
        NEED(px_make(i == PX_REG ? PX_FIFO : PX_REG, px_other("x"), 0600) == 0);
        EQUAL(px_stat("x").st_mode & S_IFMT, i == PX_REG ? S_IFIFO : S_IFREG,
              "%s that was replaced there is of another type here", name);
        NEED(unlink("x") == 0);
    }
}

const struct px_group px_mknod[] = {
    {"types", types, 0},
    {"regular", regular, 0},
    {"times", times, 0},
    {"names", names, 0},
    {"devices", devices, PX_ROOT},
    {"device-rights", device_rights, PX_ROOT},
    {"rights", rights, PX_ROOT},
    {"fifo-carries", fifo_carries, 0},
    {"fifo-blocks", fifo_blocks, 0},
    {"sockets", sockets, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
