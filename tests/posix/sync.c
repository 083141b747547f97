/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsync(), fdatasync(), sync(), syncfs(), sync_file_range(), msync(), O_SYNC, O_DSYNC:
 * POSIX.1-2024; fsync(2), sync(2), sync_file_range(2), msync(2), open(2).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/posix/posix.h"

#define BLOCK     4096u
#define RANGE_ALL (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

/* Every call for every kind of descriptor. */

static const struct {
    const char *name;
    int (*call)(int fd);
} calls[] = {{"fsync", fsync}, {"fdatasync", fdatasync}, {"syncfs", syncfs}};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

static int path_fd(const char *path)
{
    return open(path, O_PATH);
}

static void descriptors(void)
{
    int pipes[2], sockets[2];
    struct {
        const char *name;
        int fd, sync, fs; /* errors of fsync and fdatasync, of syncfs */
    } rows[] = {{"a file open for writing", open("f", O_WRONLY | O_CREAT, 0644), 0, 0},
                {"a file open for reading", open("f", O_RDONLY), 0, 0},
                {"a directory", open(".", O_RDONLY), 0, 0},
                {"a FIFO", mkfifo("p", 0644) ? -1 : open("p", O_RDWR), EINVAL, 0},
                {"an O_PATH one", path_fd("f"), EBADF, EBADF},
                {"one that is closed", 300, EBADF, EBADF},
                {"none", -1, EBADF, EBADF},
                {"a pipe", -2, EINVAL, 0},
                {"a socket", -3, EINVAL, 0}};

    NEED(pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    rows[7].fd = pipes[1];
    rows[8].fd = sockets[0];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t k = 0; k < CALLS; k++) {
            int error = calls[k].call == syncfs ? rows[i].fs : rows[i].sync;

            if (error) {
                FAILS(calls[k].call(rows[i].fd), error, "%s of %s", calls[k].name, rows[i].name);
            } else {
                OK(calls[k].call(rows[i].fd), "%s of %s", calls[k].name, rows[i].name);
            }
        }
    }
}

/* What is synced stays what it is: contents, size, times; also when the name is gone. */

static void keeps(void)
{
    static const size_t sizes[] = {0, 1, 4096, 100000, (size_t)5 << 20};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < CALLS; k++) {
            struct stat before;
            int fd;

            NEED(px_make_filled("f", sizes[i], 1) == 0);
            fd = open("f", O_RDWR);
            NEED(fd >= 0 && pwrite(fd, "x", 1, (off_t)sizes[i]) == 1);
            before = px_stat("f");
            OK(calls[k].call(fd), "%s of %zu bytes", calls[k].name, sizes[i]);
            CLAIM(px_holds(fd, 0, sizes[i], 1), "%s leaves %zu bytes as they are", calls[k].name,
                  sizes[i]);
            EQUAL(px_stat("f").st_size, before.st_size, "%s of %zu bytes leaves the size",
                  calls[k].name, sizes[i]);
            CLAIM(!px_later(px_stat("f").st_mtim, before.st_mtim), "%s of %zu bytes leaves mtime",
                  calls[k].name, sizes[i]);
            NEED(unlink("f") == 0 && pwrite(fd, "y", 1, 0) == 1);
            OK(calls[k].call(fd), "%s of %zu bytes without a name", calls[k].name, sizes[i]);
            NEED(close(fd) == 0);
        }
    }
}

static void sync_everything(void)
{
    int fd;

    NEED(px_make_filled("f", 100000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && ftruncate(fd, 150000) == 0);
    sync();
    CLAIM(px_holds(fd, 0, 100000, 1) && px_holds(fd, 100000, 50000, 0), "sync changes nothing");
    NEED(close(fd) == 0);
}

/* O_SYNC and O_DSYNC */

static void open_flags(void)
{
    static const struct {
        const char *name;
        int flag;
    } rows[] = {
        {"O_SYNC", O_SYNC}, {"O_DSYNC", O_DSYNC}, {"O_SYNC with O_APPEND", O_SYNC | O_APPEND}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static uint8_t bytes[300000];
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | rows[i].flag, 0644), flags;
        struct iovec iov[2] = {{bytes, 100}, {bytes + 100, 299900}};

        NEED(fd >= 0);
        flags = fcntl(fd, F_GETFL);
        EQUAL(flags & (O_SYNC | O_DSYNC | O_APPEND), rows[i].flag, "F_GETFL tells of %s",
              rows[i].name);
        px_fill(bytes, sizeof(bytes), 0, 2);
        EQUAL(write(fd, bytes, 1), 1, "%s: one byte", rows[i].name);
        EQUAL(write(fd, bytes + 1, 5000), 5000, "%s: a few blocks", rows[i].name);
        NEED(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
        EQUAL(writev(fd, iov, 2), 300000, "%s: vectors", rows[i].name);
        CLAIM(px_holds(fd, 0, 300000, 2), "%s: they are right", rows[i].name);
        EQUAL(px_stat("f").st_size, 300000, "%s: and the size", rows[i].name);
        NEED(close(fd) == 0);
    }
}

/* Ranges */

static void ranges(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644), r, p, path = open("f", O_PATH), dir;

    NEED(fd >= 0 && mkfifo("p", 0644) == 0);
    r = open("f", O_RDONLY);
    p = open("p", O_RDWR);
    dir = open(".", O_RDONLY);
    NEED(r >= 0 && p >= 0 && path >= 0 && dir >= 0 && write(fd, "abcd", 4) == 4);
    OK(sync_file_range(fd, 0, 0, RANGE_ALL), "all of a file");
    OK(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE), "a part, only begun");
    OK(sync_file_range(fd, 0, 4, 0), "no flag");
    OK(sync_file_range(fd, 1000000, 10, RANGE_ALL), "beyond the end");
    OK(sync_file_range(r, 0, 0, RANGE_ALL), "a file open for reading");
    OK(sync_file_range(dir, 0, 0, RANGE_ALL), "a directory");
    FAILS(sync_file_range(fd, 0, 0, 8), EINVAL, "an unknown flag");
    FAILS(sync_file_range(fd, -1, 10, RANGE_ALL), EINVAL, "a start before the file");
    FAILS(sync_file_range(fd, 0, -1, RANGE_ALL), EINVAL, "a length below zero");
    FAILS(sync_file_range(fd, INT64_MAX, 2, RANGE_ALL), EINVAL, "an end past the last offset");
    FAILS(sync_file_range(p, 0, 0, RANGE_ALL), ESPIPE, "a FIFO");
    FAILS(sync_file_range(path, 0, 0, RANGE_ALL), EBADF, "an O_PATH descriptor");
    FAILS(sync_file_range(-1, 0, 0, RANGE_ALL), EBADF, "no descriptor");
}

static void maps(void)
{
    uint8_t *map;
    int fd;

    NEED(px_make_filled("f", 4 * BLOCK, 3) == 0);
    fd = open("f", O_RDWR);
    map = mmap(NULL, 4 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    NEED(fd >= 0 && map != MAP_FAILED);
    px_fill(map, BLOCK, 0, 4);
    OK(msync(map, 4 * BLOCK, MS_SYNC), "MS_SYNC");
    OK(msync(map, 4 * BLOCK, MS_ASYNC), "MS_ASYNC");
    OK(msync(map, 4 * BLOCK, MS_SYNC | MS_INVALIDATE), "MS_SYNC with MS_INVALIDATE");
    OK(msync(map + BLOCK, BLOCK, MS_SYNC), "one page");
    OK(msync(map + BLOCK, 1, MS_SYNC), "one byte");
    OK(msync(map, 0, MS_SYNC), "nothing");
    FAILS(msync(map, BLOCK, MS_SYNC | MS_ASYNC), EINVAL, "MS_SYNC and MS_ASYNC");
    FAILS(msync(map, BLOCK, 64), EINVAL, "an unknown flag of msync");
    FAILS(msync(map + 1, BLOCK, MS_SYNC), EINVAL, "a start inside of a page");
    NEED(munmap(map + 2 * BLOCK, BLOCK) == 0);
    FAILS(msync(map, 4 * BLOCK, MS_SYNC), ENOMEM, "a page that is not mapped");
    CLAIM(px_holds(fd, 0, BLOCK, 4) && px_holds(fd, BLOCK, 3 * BLOCK, 3),
          "the file holds what was stored");
    NEED(close(fd) == 0);
    px_fill(map, BLOCK, 0, 5);
    OK(msync(map, BLOCK, MS_SYNC), "after the descriptor was closed");
    fd = open("f", O_RDONLY);
    CLAIM(px_holds(fd, 0, BLOCK, 5), "which the file holds as well");
    NEED(munmap(map, 2 * BLOCK) == 0 && close(fd) == 0);
}

/* Two mounts: what was synced is committed, and is read elsewhere before any close. */

static bool by_fsync(int fd, const void *bytes, size_t len)
{
    return pwrite(fd, bytes, len, 0) == (ssize_t)len && fsync(fd) == 0;
}

static bool by_fdatasync(int fd, const void *bytes, size_t len)
{
    return pwrite(fd, bytes, len, 0) == (ssize_t)len && fdatasync(fd) == 0;
}

static bool by_write(int fd, const void *bytes, size_t len)
{
    return pwrite(fd, bytes, len, 0) == (ssize_t)len;
}

static bool by_rwf(int fd, const void *bytes, size_t len)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

    return pwritev2(fd, &iov, 1, 0, RWF_DSYNC) == (ssize_t)len;
}

static bool by_msync(int fd, const void *bytes, size_t len)
{
    void *map;
    bool done;

    if (ftruncate(fd, (off_t)len)) {
        return false;
    }
    map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    memcpy(map, bytes, len);
    done = msync(map, len, MS_SYNC) == 0;
    return munmap(map, len) == 0 && done;
}

static bool by_syncfs(int fd, const void *bytes, size_t len)
{
    return pwrite(fd, bytes, len, 0) == (ssize_t)len && syncfs(fd) == 0;
}

/* The descriptor that synced may be another than the one that wrote. */
static bool by_another(int fd, const void *bytes, size_t len)
{
    int other = open("f", O_RDONLY);
    bool done = other >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len && fsync(other) == 0;

    return close(other) == 0 && done;
}

static void seen_elsewhere(void)
{
    static const struct {
        const char *name;
        int flags;
        bool (*put)(int fd, const void *bytes, size_t len);
    } ways[] = {{"fsync", 0, by_fsync},       {"fdatasync", 0, by_fdatasync},
                {"O_SYNC", O_SYNC, by_write}, {"O_DSYNC", O_DSYNC, by_write},
                {"RWF_DSYNC", 0, by_rwf},     {"msync", 0, by_msync},
                {"syncfs", 0, by_syncfs},     {"fsync of another descriptor", 0, by_another}};
    static const size_t sizes[] = {1, 5000, 70000, (size_t)3 << 20};
    uint8_t *bytes = malloc((size_t)3 << 20);

    NEED(bytes != NULL);
    for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
        if (ways[w].put == by_syncfs && px_impossible("syncfs")) {
            continue;
        }
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | ways[w].flags, 0644), there;
            unsigned seed = (unsigned)(w * 10 + i + 1);

            NEED(fd >= 0);
            px_fill(bytes, sizes[i], 0, seed);
            CLAIM(ways[w].put(fd, bytes, sizes[i]), "%s of %zu bytes succeeds", ways[w].name,
                  sizes[i]);
            EQUAL(px_stat(px_other("f")).st_size, sizes[i], "%s of %zu bytes: the size there",
                  ways[w].name, sizes[i]);
            there = open(px_other("f"), O_RDONLY);
            NEED(there >= 0);
            CLAIM(px_holds(there, 0, sizes[i], seed), "%s of %zu bytes: read there before a close",
                  ways[w].name, sizes[i]);
            NEED(close(there) == 0 && close(fd) == 0);
        }
    }
    free(bytes);
}

const struct px_group px_sync[] = {
    {"descriptors", descriptors, 0},
    {"keeps", keeps, 0},
    {"sync-everything", sync_everything, 0},
    {"open-flags", open_flags, 0},
    {"ranges", ranges, 0},
    {"maps", maps, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
