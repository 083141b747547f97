/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name_to_handle_at and open_by_handle_at: open_by_handle_at(2). A file server's clients have
 * nothing else. Through the second mount an inode is looked for that its kernel has never met.
 */

#include "tests/posix/posix.h"

union handle {
    struct file_handle h;
    char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

/* False: this file system has none. */
static bool handle_of(const char *path, union handle *ret)
{
    int mount, err;

    ret->h.handle_bytes = MAX_HANDLE_SZ;
    err = name_to_handle_at(AT_FDCWD, path, &ret->h, &mount, 0);
    NEED(err == 0 || errno == EOPNOTSUPP);
    return err == 0;
}

/* Any directory of the file system says which it is. */
static int open_handle(const char *dir, union handle *handle, int flags)
{
    int at = open(dir, O_RDONLY | O_DIRECTORY), fd, error;

    NEED(at >= 0);
    fd = open_by_handle_at(at, &handle->h, flags);
    error = errno;
    NEED(close(at) == 0);
    errno = error;
    return fd;
}

static void opens_at(const char *dir, const char *where)
{
    union handle file, sub, link, fifo;
    struct stat st;
    char to[16];
    int fd;

    if (!handle_of("d/f", &file)) {
        return;
    }
    NEED(handle_of("d/e", &sub) && handle_of("d/l", &link) && handle_of("d/p", &fifo));
    fd = open_handle(dir, &file, O_RDWR);
    if (fd < 0 && errno == EPERM) {
        return; /* root of a container */
    }
    OK(fd, "%s: a file is opened by its handle", where);
    NEED(fd >= 0);
    CLAIM(px_holds(fd, 0, 5000, 1), "%s: it has its bytes", where);
    NEED(close(fd) == 0);
    fd = open_handle(dir, &sub, O_RDONLY);
    OK(fd, "%s: a directory is", where);
    NEED(fd >= 0);
    EQUAL(fstatat(fd, "../f", &st, 0) == 0 ? st.st_ino : 0, px_ino("d/f"),
          "%s: what lies beside it is found from there", where);
    NEED(close(fd) == 0);
    fd = open_handle(dir, &link, O_PATH | O_NOFOLLOW);
    OK(fd, "%s: a link is", where);
    EQUAL(readlinkat(fd, "", to, sizeof(to)), 5, "%s: it leads somewhere", where);
    NEED(close(fd) == 0);
    fd = open_handle(dir, &fifo, O_PATH);
    OK(fd, "%s: a FIFO is", where);
    NEED(close(fd) == 0);
}

static void make_all(void)
{
    NEED(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && px_make_filled("d/f", 5000, 1) == 0);
    NEED(symlink("where", "d/l") == 0 && mkfifo("d/p", 0600) == 0);
}

static void opens(void)
{
    make_all();
    opens_at(".", "here");
}

static void opens_elsewhere(void)
{
    make_all();
    opens_at(px_other("."), "there");
}

static void goes_with_the_file(void)
{
    union handle handle;
    int fd;

    NEED(px_make_filled("f", 5000, 1) == 0);
    if (!handle_of("f", &handle)) {
        return;
    }
    NEED(rename("f", "g") == 0);
    fd = open_handle(".", &handle, O_RDONLY);
    if (fd < 0 && errno == EPERM) {
        return;
    }
    OK(close(fd), "a handle outlives a name");
    NEED(unlink("g") == 0);
    FAILS(open_handle(".", &handle, O_RDONLY), ESTALE, "not the file");
    NEED(px_make_filled("f", 5000, 2) == 0);
    FAILS(open_handle(".", &handle, O_RDONLY), ESTALE, "nor does it lead to another");
}

const struct px_group px_handle[] = {
    {"opens", opens, PX_ROOT},
    {"opens-elsewhere", opens_elsewhere, PX_ROOT | PX_TWO},
    {"goes-with-the-file", goes_with_the_file, PX_ROOT},
    {NULL, NULL, 0},
};
