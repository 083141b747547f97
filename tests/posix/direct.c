/* SPDX-License-Identifier: Apache-2.0 */
/* O_DIRECT: open(2), notes on O_DIRECT; read(2), write(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/posix/posix.h"

#define BLOCK     4096u
#define MIB       ((size_t)1 << 20)
#define BYTES_MAX (4 * MIB)

static uint8_t *aligned(void)
{
    uint8_t *bytes =
        mmap(NULL, BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    NEED(bytes != MAP_FAILED);
    return bytes;
}

static int open_as(int flags)
{
    int fd = open("f", O_CREAT | flags, 0644);

    NEED(fd >= 0);
    return fd;
}

static const struct {
    size_t at, len;
} places[] = {{0, BLOCK},         {BLOCK, BLOCK},         {0, 65536},
              {65536, MIB},       {3 * BLOCK, 3 * BLOCK}, {MIB - BLOCK, 2 * BLOCK},
              {2 * MIB, 2 * MIB}, {8 * MIB, 4 * MIB},     {5 * MIB, 33 * BLOCK}};

#define PLACES (sizeof(places) / sizeof(places[0]))

/* What one way of writing wrote, every way of reading reads. */

static void every_way(void)
{
    static const struct {
        const char *name;
        int flags;
    } ways[] = {{"plain", 0}, {"O_DIRECT", O_DIRECT}, {"O_DIRECT with O_SYNC", O_DIRECT | O_SYNC}};
    uint8_t *bytes = aligned(), *back = aligned();

    for (unsigned w = 0; w < 3; w++) {
        for (unsigned r = 0; r < 2; r++) {
            int in = open_as(O_RDWR | O_TRUNC | ways[w].flags),
                out = open_as(O_RDWR | ways[r].flags);

            for (size_t i = 0; i < PLACES; i++) {
                size_t at = places[i].at, len = places[i].len;
                unsigned seed = (unsigned)(1 + w * 20 + i);

                px_fill(bytes, len, at, seed);
                EQUAL(pwrite(in, bytes, len, (off_t)at), len, "%s writes %zu at %zu for %s",
                      ways[w].name, len, at, ways[r].name);
                memset(back, 0, len);
                EQUAL(pread(out, back, len, (off_t)at), len, "%s reads %zu at %zu of %s",
                      ways[r].name, len, at, ways[w].name);
                CLAIM(memcmp(bytes, back, len) == 0, "%s sees what %s wrote, %zu at %zu",
                      ways[r].name, ways[w].name, len, at);
            }
            NEED(close(in) == 0 && close(out) == 0);
        }
    }
}

/* Buffered and direct writes to neighbours and to each other's bytes, compared with a model. */
static void mixed(void)
{
    uint8_t *model = aligned(), *back = aligned();
    int direct = open_as(O_RDWR | O_DIRECT), plain = open_as(O_RDWR);

    NEED(ftruncate(plain, 64 * BLOCK) == 0);
    for (unsigned i = 0; i < 200; i++) {
        size_t at = (size_t)(i * 37 % 60) * BLOCK, len = (1 + i % 4) * BLOCK;
        bool is_direct = i % 3 == 0;

        if (!is_direct) {
            at += i % 7 * 100;
            len -= 700;
        }
        px_fill(model + at, len, at, i + 1);
        NEED(pwrite(is_direct ? direct : plain, model + at, len, (off_t)at) == (ssize_t)len);
        if (i % 20 == 19) {
            NEED(pread(plain, back, 64 * BLOCK, 0) == 64 * BLOCK);
            CLAIM(memcmp(model, back, 64 * BLOCK) == 0, "read plainly after %u writes", i + 1);
            memset(back, 0, 64 * BLOCK);
            NEED(pread(direct, back, 64 * BLOCK, 0) == 64 * BLOCK);
            CLAIM(memcmp(model, back, 64 * BLOCK) == 0, "read directly after %u writes", i + 1);
        }
    }
    NEED(close(direct) == 0 && close(plain) == 0);
}

static void the_end(void)
{
    static const size_t sizes[] = {0, 1, 511, 512, 4095, 4096, 4097, 100000};
    uint8_t *bytes = aligned();

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i], last = size / BLOCK * BLOCK;
        int fd;

        NEED(px_make_filled("f", size, 7) == 0);
        fd = open_as(O_RDWR | O_DIRECT);
        EQUAL(pread(fd, bytes, MIB, 0), size, "more than a file of %zu bytes is asked for", size);
        CLAIM(px_is_filled(bytes, size, 0, 7), "%zu bytes read directly are right", size);
        EQUAL(pread(fd, bytes, BLOCK, (off_t)last), size - last, "the last block of %zu bytes",
              size);
        EQUAL(pread(fd, bytes, BLOCK, (off_t)(last + BLOCK)), 0, "behind %zu bytes", size);
        px_fill(bytes, BLOCK, last + 2 * BLOCK, 8);
        EQUAL(pwrite(fd, bytes, BLOCK, (off_t)(last + 2 * BLOCK)), BLOCK,
              "a block behind a gap behind %zu bytes", size);
        EQUAL(px_stat("f").st_size, last + 3 * BLOCK, "makes %zu bytes longer", size);
        (void)close(fd);
        fd = open_as(O_RDONLY);
        CLAIM(px_holds(fd, 0, size, 7), "the first %zu bytes are as before", size);
        CLAIM(px_holds(fd, size, last + 2 * BLOCK - size, 0), "the gap behind %zu bytes is zero",
              size);
        CLAIM(px_holds(fd, last + 2 * BLOCK, BLOCK, 8), "behind the gap, %zu, is what was written",
              size);
        NEED(close(fd) == 0);
    }
}

/* Without alignment: EINVAL and nothing done, or all of it. */
static void not_aligned(void)
{
    static const struct {
        size_t memory, at, len;
    } rows[] = {{1, 0, BLOCK}, {0, 1, BLOCK},    {0, 0, 1},    {0, 0, BLOCK + 1}, {3, 5, 7},
                {8, 512, 511}, {0, BLOCK, 4095}, {0, 4095, 2}, {100, 0, 65536},   {0, 100, 65536}};
    uint8_t *bytes = aligned(), *back = aligned();

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t at = rows[i].at, len = rows[i].len;
        ssize_t n;
        int fd, plain;

        NEED(px_make_filled("f", 20 * BLOCK, 1) == 0);
        fd = open_as(O_RDWR | O_DIRECT);
        plain = open_as(O_RDONLY);
        n = pread(fd, back + rows[i].memory, len, (off_t)at);
        CLAIM(n == -1 ? errno == EINVAL
                      : n == (ssize_t)len && px_is_filled(back + rows[i].memory, len, at, 1),
              "a read that is not aligned is right or refused, row %zu", i);
        px_fill(bytes + rows[i].memory, len, at, 2);
        n = pwrite(fd, bytes + rows[i].memory, len, (off_t)at);
        CLAIM(n == -1 ? errno == EINVAL : n == (ssize_t)len,
              "a write that is not aligned is whole or refused, row %zu", i);
        CLAIM(px_holds(plain, at, len, n == -1 ? 1 : 2),
              "after one that is not aligned the bytes are old or new, row %zu", i);
        CLAIM(px_holds(plain, 0, at, 1) && px_holds(plain, at + len, 20 * BLOCK - at - len, 1),
              "and all others as they were, row %zu", i);
        NEED(close(fd) == 0 && close(plain) == 0);
    }
}

static void as_a_flag(void)
{
    uint8_t *bytes = aligned();
    int fd = open_as(O_RDWR | O_DIRECT);

    CLAIM(fcntl(fd, F_GETFL) & O_DIRECT, "F_GETFL tells of O_DIRECT");
    OK(fcntl(fd, F_SETFL, 0), "F_SETFL takes it away");
    CLAIM(!(fcntl(fd, F_GETFL) & O_DIRECT), "after which it is gone");
    EQUAL(write(fd, "abc", 3), 3, "and nothing needs to be aligned");
    OK(fcntl(fd, F_SETFL, O_DIRECT), "F_SETFL gives it again");
    EQUAL(pread(fd, bytes, BLOCK, 0), 3, "what was written before is read directly");
    CLAIM(memcmp(bytes, "abc", 3) == 0, "and is right");
    NEED(ftruncate(fd, BLOCK) == 0);
    OK(fcntl(fd, F_SETFL, O_DIRECT | O_APPEND), "with O_APPEND as well");
    px_fill(bytes, BLOCK, BLOCK, 3);
    EQUAL(pwrite(fd, bytes, BLOCK, 0), BLOCK, "a direct write appends");
    EQUAL(px_stat("f").st_size, 2 * BLOCK, "at the end");
    EQUAL(lseek(fd, BLOCK, SEEK_SET), BLOCK, "a position set");
    EQUAL(read(fd, bytes + BLOCK, 2 * BLOCK), BLOCK, "a direct read from a position");
    CLAIM(px_is_filled(bytes + BLOCK, BLOCK, BLOCK, 3), "gives what was appended");
    EQUAL(lseek(fd, 0, SEEK_CUR), 2 * BLOCK, "and moves the position");
    NEED(close(fd) == 0);
}

static void mapped(void)
{
    uint8_t *bytes = aligned(), *map;
    int fd;

    NEED(px_make_filled("f", 4 * BLOCK, 1) == 0);
    fd = open_as(O_RDWR | O_DIRECT);
    map = mmap(NULL, 4 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CLAIM(map != MAP_FAILED, "what is open with O_DIRECT is mapped");
    NEED(map != MAP_FAILED);
    CLAIM(px_is_filled(map, 4 * BLOCK, 0, 1), "a mapping shows the file");
    px_fill(map + BLOCK, BLOCK, BLOCK, 2);
    EQUAL(pread(fd, bytes, BLOCK, BLOCK), BLOCK, "a direct read of a page that was stored to");
    CLAIM(px_is_filled(bytes, BLOCK, BLOCK, 2), "sees what was stored");
    px_fill(bytes, BLOCK, 2 * BLOCK, 3);
    EQUAL(pwrite(fd, bytes, BLOCK, 2 * BLOCK), BLOCK, "a direct write to a page that was read");
    CLAIM(px_is_filled(map + 2 * BLOCK, BLOCK, 2 * BLOCK, 3), "is seen in the mapping");
    CLAIM(px_is_filled(map + BLOCK, BLOCK, BLOCK, 2), "what was stored beside it is there");
    NEED(munmap(map, 4 * BLOCK) == 0 && close(fd) == 0);
    fd = open_as(O_RDONLY);
    CLAIM(px_holds(fd, BLOCK, BLOCK, 2) && px_holds(fd, 2 * BLOCK, BLOCK, 3),
          "both are in the file when all is closed");
    NEED(close(fd) == 0);
}

#define PROCESSES 4
#define BLOCKS    40

static int write_every_fourth(void *arg)
{
    unsigned who = *(unsigned *)arg;
    uint8_t *bytes = aligned();
    int fd = open_as(O_WRONLY | O_DIRECT);

    for (unsigned i = who; i < BLOCKS; i += PROCESSES) {
        px_fill(bytes, BLOCK, i * BLOCK, 5);
        if (pwrite(fd, bytes, BLOCK, i * BLOCK) != BLOCK) {
            return 1;
        }
    }
    return close(fd) ? 1 : 0;
}

static void several_processes(void)
{
    unsigned who[PROCESSES];
    pid_t pids[PROCESSES];
    int fd;

    for (int round = 0; round < 3; round++) {
        unsigned failed = 0;

        NEED(px_write_file("f", "", 0) == 0);
        for (unsigned i = 0; i < PROCESSES; i++) {
            who[i] = i;
            pids[i] = px_start(write_every_fourth, &who[i]);
        }
        for (unsigned i = 0; i < PROCESSES; i++) {
            failed += px_wait(pids[i]) != 0;
        }
        EQUAL(failed, 0, "processes write blocks that are not each other's, round %d", round);
        fd = open_as(O_RDONLY);
        CLAIM(px_holds(fd, 0, BLOCKS * BLOCK, 5), "all of which are there, round %d", round);
        NEED(close(fd) == 0);
    }
}

/* Two mounts: a direct write is committed when it returns. */

static void committed(void)
{
    uint8_t *bytes = aligned();
    int here = open_as(O_RDWR | O_DIRECT), there = open(px_other("f"), O_RDWR | O_DIRECT);

    NEED(there >= 0);
    for (size_t i = 0; i < PLACES; i++) {
        size_t at = places[i].at, len = places[i].len;

        px_fill(bytes, len, at, (unsigned)i + 1);
        NEED(pwrite(i % 2 ? here : there, bytes, len, (off_t)at) == (ssize_t)len);
        memset(bytes, 0, len);
        EQUAL(pread(i % 2 ? there : here, bytes, len, (off_t)at), len,
              "%zu at %zu, not closed, are read directly elsewhere", len, at);
        CLAIM(px_is_filled(bytes, len, at, (unsigned)i + 1), "%zu at %zu are right elsewhere", len,
              at);
    }
    EQUAL(px_stat("f").st_size, px_stat(px_other("f")).st_size, "both see one size");
    NEED(close(here) == 0 && close(there) == 0);
}

const struct px_group px_direct[] = {
    {"every-way", every_way, 0},
    {"mixed", mixed, 0},
    {"the-end", the_end, 0},
    {"not-aligned", not_aligned, 0},
    {"as-a-flag", as_a_flag, 0},
    {"mapped", mapped, 0},
    {"several-processes", several_processes, 0},
    {"committed", committed, PX_TWO},
    {NULL, NULL, 0},
};
