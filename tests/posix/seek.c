/* SPDX-License-Identifier: Apache-2.0 */
/* lseek() with SEEK_DATA and SEEK_HOLE, and st_blocks: POSIX.1-2024 lseek; lseek(2), inode(7). */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/posix/posix.h"

#define CELL  65536u
#define CELLS 6u

/* Which cells hold data: every pattern, asked from every place. */

static off_t want_data(unsigned mask, off_t at, bool data)
{
    off_t end = CELLS * CELL;

    for (; at < end; at = at / CELL * CELL + CELL) {
        if ((mask >> (at / CELL) & 1) == data) {
            return at;
        }
    }
    return data ? -1 : end;
}

static bool answers(int fd, unsigned mask, int whence)
{
    static const off_t extra[] = {0, 1, CELL / 2, CELL - 1};

    for (unsigned i = 0; i < CELLS; i++) {
        for (unsigned k = 0; k < 4; k++) {
            off_t at = (off_t)i * CELL + extra[k], want = want_data(mask, at, whence == SEEK_DATA);

            errno = 0;
            if (lseek(fd, at, whence) != want || (want == -1 && errno != ENXIO)) {
                return false;
            }
        }
    }
    return true;
}

static void write_cells(int fd, unsigned mask)
{
    uint8_t *bytes = malloc(CELL);

    NEED(bytes != NULL);
    for (unsigned i = 0; i < CELLS; i++) {
        px_fill(bytes, CELL, i * CELL, 1);
        NEED(!(mask >> i & 1) || pwrite(fd, bytes, CELL, (off_t)i * CELL) == CELL);
    }
    free(bytes);
}

static void patterns(void)
{
    static const char *const states[] = {"just written", "synced", "opened anew", "punched"};

    for (unsigned mask = 0; mask < 1u << CELLS; mask++) {
        for (unsigned state = 0; state < 4; state++) {
            int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);

            NEED(fd >= 0 && ftruncate(fd, CELLS * CELL) == 0);
            write_cells(fd, state == 3 ? ~0u : mask);
            NEED(state == 0 || fsync(fd) == 0);
            if (state == 2) {
                NEED(close(fd) == 0);
                fd = open("f", O_RDONLY);
                NEED(fd >= 0);
            }
            for (unsigned i = 0; state == 3 && i < CELLS; i++) {
                NEED(mask >> i & 1 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                (off_t)i * CELL, CELL) == 0);
            }
            CLAIM(answers(fd, mask, SEEK_DATA), "SEEK_DATA, cells %02x, %s", mask, states[state]);
            CLAIM(answers(fd, mask, SEEK_HOLE), "SEEK_HOLE, cells %02x, %s", mask, states[state]);
            NEED(close(fd) == 0);
        }
    }
}

/* Going from data to hole to data meets all that is not zero, wherever it was put. */
static void copies_by_holes(void)
{
    static const struct {
        off_t at;
        size_t len;
    } puts[] = {{1, 1}, {5000, 100}, {100000, 70000}, {(off_t)1 << 30, 3}, {(off_t)5 << 40, 5000}};
    off_t size = ((off_t)5 << 40) + 100000, at = 0;
    unsigned found = 0, runs = 0;
    uint8_t bytes[70000];
    int fd = open("f", O_RDWR | O_CREAT, 0644);

    NEED(fd >= 0 && ftruncate(fd, size) == 0);
    for (unsigned i = 0; i < 5; i++) {
        px_fill(bytes, puts[i].len, (uint64_t)puts[i].at, 2);
        NEED(pwrite(fd, bytes, puts[i].len, puts[i].at) == (ssize_t)puts[i].len);
    }
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && runs < 100) {
        off_t end = lseek(fd, at, SEEK_HOLE);

        NEED(end > at);
        for (unsigned i = 0; i < 5; i++) {
            found += at <= puts[i].at && puts[i].at + (off_t)puts[i].len <= end;
        }
        at = end;
        runs++;
    }
    EQUAL(found, 5, "every piece of a sparse file of 5 TiB is in a run of data");
    CLAIM(runs >= 3 && runs <= 5, "of which there are no more than pieces");
    CLAIM(errno == ENXIO, "the last search finds no more");
    NEED(close(fd) == 0);
}

static void small_files(void)
{
    static const size_t sizes[] = {1, 100, 4095, 4096, 5000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        off_t size = (off_t)sizes[i];
        int fd;

        NEED(px_make_filled("f", sizes[i], 1) == 0);
        fd = open("f", O_RDONLY);
        NEED(fd >= 0);
        EQUAL(lseek(fd, 0, SEEK_DATA), 0, "%zu bytes are data", sizes[i]);
        EQUAL(lseek(fd, size - 1, SEEK_DATA), size - 1, "the last of %zu bytes is data", sizes[i]);
        EQUAL(lseek(fd, 0, SEEK_HOLE), size, "the end of %zu bytes is a hole", sizes[i]);
        FAILS(lseek(fd, size, SEEK_DATA), ENXIO, "no data at the end of %zu bytes", sizes[i]);
        FAILS(lseek(fd, size, SEEK_HOLE), ENXIO, "no hole at the end of %zu bytes", sizes[i]);
        FAILS(lseek(fd, size + 1, SEEK_HOLE), ENXIO, "no hole behind %zu bytes", sizes[i]);
        FAILS(lseek(fd, -1, SEEK_DATA), ENXIO, "no data before %zu bytes", sizes[i]);
        FAILS(lseek(fd, -1, SEEK_HOLE), ENXIO, "no hole before %zu bytes", sizes[i]);
        EQUAL(lseek(fd, 0, SEEK_CUR), size, "of %zu bytes, what fails leaves the position",
              sizes[i]);
        NEED(close(fd) == 0);
    }
    NEED(px_write_file("f", "", 0) == 0);
    FAILS(lseek(open("f", O_RDONLY), 0, SEEK_DATA), ENXIO, "an empty file has no data");
    FAILS(lseek(open("f", O_RDONLY), 0, SEEK_HOLE), ENXIO, "an empty file has no hole");
}

/* Positions */

static void positions(void)
{
    int fd, r;

    NEED(px_make_filled("f", 1000, 1) == 0);
    fd = open("f", O_RDWR);
    r = open("f", O_RDONLY);
    NEED(fd >= 0 && r >= 0);
    EQUAL(lseek(fd, 0, SEEK_END), 1000, "SEEK_END");
    EQUAL(lseek(fd, -100, SEEK_END), 900, "before the end");
    EQUAL(lseek(fd, 100, SEEK_END), 1100, "behind the end");
    EQUAL(lseek(fd, -1000, SEEK_CUR), 100, "SEEK_CUR, back");
    EQUAL(lseek(fd, 5, SEEK_CUR), 105, "SEEK_CUR, on");
    FAILS(lseek(fd, -106, SEEK_CUR), EINVAL, "SEEK_CUR to before the start");
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL, "SEEK_SET to before the start");
    FAILS(lseek(fd, -1001, SEEK_END), EINVAL, "SEEK_END to before the start");
    FAILS(lseek(fd, 0, 99), EINVAL, "an unknown whence");
    FAILS(lseek(fd, 0, -1), EINVAL, "a whence below zero");
    CLAIM(lseek(fd, INT64_MAX, SEEK_CUR) == -1 && (errno == EINVAL || errno == EOVERFLOW),
          "SEEK_CUR past the last offset");
    EQUAL(lseek(fd, 0, SEEK_CUR), 105, "after all that failed the position is what it was");
    EQUAL(lseek(r, 0, SEEK_CUR), 0, "another open has a position of its own");
    EQUAL(lseek(fd, (off_t)1 << 40, SEEK_SET), (off_t)1 << 40, "far behind the end");
    EQUAL(px_stat("f").st_size, 1000, "which changes no size");
    NEED(ftruncate(fd, 10) == 0);
    EQUAL(lseek(r, 0, SEEK_END), 10, "the end of a file that was cut through another open");
    NEED(pwrite(fd, "x", 1, 4999) == 1);
    EQUAL(lseek(r, 0, SEEK_END), 5000, "the end of a file that was written through another open");
    NEED(close(fd) == 0 && close(r) == 0);
}

static void descriptors(void)
{
    int pipes[2], sockets[2], fifo, path;

    NEED(pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    NEED(mkfifo("p", 0644) == 0 && px_make_filled("f", 10, 1) == 0);
    fifo = open("p", O_RDWR);
    path = open("f", O_PATH);
    for (int whence = SEEK_SET; whence <= SEEK_HOLE; whence++) {
        FAILS(lseek(pipes[0], 0, whence), ESPIPE, "a pipe, whence %d", whence);
        FAILS(lseek(sockets[0], 0, whence), ESPIPE, "a socket, whence %d", whence);
        FAILS(lseek(fifo, 0, whence), ESPIPE, "a FIFO, whence %d", whence);
        FAILS(lseek(path, 0, whence), EBADF, "an O_PATH descriptor, whence %d", whence);
        FAILS(lseek(-1, 0, whence), EBADF, "no descriptor, whence %d", whence);
    }
    OK(lseek(open(".", O_RDONLY), 0, SEEK_SET), "a directory, to its start");
}

/* st_blocks */

static void blocks(void)
{
    static const size_t sizes[] = {1, 4096, 100000, (size_t)3 << 20};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        blkcnt_t n;
        int fd;

        NEED(px_make_filled("f", size, 1) == 0);
        fd = open("f", O_RDWR);
        NEED(fd >= 0 && fsync(fd) == 0);
        n = px_stat("f").st_blocks;
        if (size >= 4096) { /* smaller ones may lie in the inode */
            CLAIM(n * 512 >= (blkcnt_t)size, "%zu bytes take as much space", size);
        }
        CLAIM(n * 512 < (blkcnt_t)size * 2 + 65536, "%zu bytes take not much more", size);
        NEED(ftruncate(fd, (off_t)1 << 40) == 0);
        CLAIM(px_stat("f").st_blocks <= n + 64, "%zu bytes take no more when they end in a hole",
              size);
        NEED(pwrite(fd, "x", 1, 0) == 1 && fsync(fd) == 0);
        CLAIM(px_stat("f").st_blocks <= n + 64, "%zu bytes, one of them written again", size);
        NEED(ftruncate(fd, 0) == 0);
        EQUAL(px_stat("f").st_blocks, 0, "%zu bytes cut to none take no space", size);
        NEED(close(fd) == 0);
    }
    NEED(px_write_file("g", "", 0) == 0 && truncate("g", (off_t)1 << 30) == 0);
    EQUAL(px_stat("g").st_blocks, 0, "a hole of 1 GiB takes no space");
    NEED(px_make_filled("h", 1 << 20, 1) == 0);
    CLAIM(px_stat("h").st_blocks * 512 >= 1 << 20, "what is just written counts at once");
    NEED(truncate("h", 1 << 19) == 0);
    CLAIM(px_stat("h").st_blocks * 512 < (1 << 19) + 65536, "what is cut to a half takes a half");
}

/* Two mounts */

static void far(void)
{
    const off_t last = (off_t)8 << 40;
    int fd = open("f", O_RDWR | O_CREAT, 0644);

    NEED(fd >= 0 && pwrite(fd, "x", 1, last) == 1);
    for (int i = 0; i < 2; i++) {
        const char *when = i ? "synced" : "just written";
        off_t found = lseek(fd, 0, SEEK_DATA);

        CLAIM(found <= last && found > last - (1 << 20), "data behind 8 TiB of hole, %s", when);
        EQUAL(lseek(fd, last, SEEK_HOLE), last + 1, "and the hole behind it, %s", when);
        NEED(fsync(fd) == 0);
    }
    NEED(ftruncate(fd, last) == 0);
    FAILS(lseek(fd, 0, SEEK_DATA), ENXIO, "no data in 8 TiB");
    EQUAL(lseek(fd, 1, SEEK_HOLE), 1, "all hole");
    NEED(close(fd) == 0);
}

static void seen_elsewhere(void)
{
    for (unsigned mask = 0; mask < 1u << CELLS; mask += 7) {
        int fd = open(px_other("f"), O_RDWR | O_CREAT | O_TRUNC, 0644), here;

        NEED(fd >= 0 && ftruncate(fd, CELLS * CELL) == 0);
        here = open("f", O_RDONLY);
        NEED(here >= 0);
        EQUAL(lseek(here, 0, SEEK_END), CELLS * CELL, "cells %02x made there: the end here", mask);
        write_cells(fd, mask);
        NEED(close(fd) == 0);
        CLAIM(answers(here, mask, SEEK_DATA), "cells %02x written there: SEEK_DATA here", mask);
        CLAIM(answers(here, mask, SEEK_HOLE), "cells %02x written there: SEEK_HOLE here", mask);
        EQUAL(px_stat("f").st_blocks, px_stat(px_other("f")).st_blocks,
              "cells %02x written there: the same st_blocks", mask);
        NEED(close(here) == 0);
    }
}

const struct px_group px_seek[] = {
    {"patterns", patterns, 0},
    {"copies-by-holes", copies_by_holes, 0},
    {"small-files", small_files, 0},
    {"positions", positions, 0},
    {"descriptors", descriptors, 0},
    {"blocks", blocks, 0},
    {"far", far, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
