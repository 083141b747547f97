/* SPDX-License-Identifier: Apache-2.0 */
/* fallocate(), posix_fallocate(): POSIX.1-2024 posix_fallocate; fallocate(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/posix/posix.h"

#define KEEP     FALLOC_FL_KEEP_SIZE
#define PUNCH    (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO     FALLOC_FL_ZERO_RANGE
#define COLLAPSE FALLOC_FL_COLLAPSE_RANGE
#define INSERT   FALLOC_FL_INSERT_RANGE
#define UNSHARE  FALLOC_FL_UNSHARE_RANGE
#define MIB      ((size_t)1 << 20)

static int open_filled(size_t len, unsigned seed)
{
    int fd;

    NEED(px_make_filled("f", len, seed) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    return fd;
}

/* Every mode over ranges of a file of 1 MiB, synced or not. */

static const struct {
    size_t at, len;
} ranges[] = {{0, 1},         {0, 4096},      {1, 4094},          {4095, 2},
              {4096, 65536},  {5000, 100000}, {0, MIB},           {MIB - 1, 1},
              {MIB - 10, 20}, {MIB, 4096},    {MIB + 5000, 5000}, {100, 2 * MIB}};

#define RANGES (sizeof(ranges) / sizeof(ranges[0]))

static const struct {
    const char *name;
    int mode;
    bool zeroes, grows;
} modes[] = {{"plain", 0, false, true},
             {"KEEP_SIZE", KEEP, false, false},
             {"PUNCH_HOLE", PUNCH, true, false},
             {"ZERO_RANGE", ZERO, true, true},
             {"ZERO_RANGE with KEEP_SIZE", ZERO | KEEP, true, false}};

#define MODES (sizeof(modes) / sizeof(modes[0]))

static void one_range(size_t m, size_t r, bool synced)
{
    size_t at = ranges[r].at, end = at + ranges[r].len, size = MIB;
    const char *state = synced ? "synced" : "just written", *name = modes[m].name;
    int fd = open_filled(MIB, 1);
    bool right;

    NEED(!synced || fsync(fd) == 0);
    NEED(synced || pwrite(fd, "", 0, 0) == 0);
    OK(fallocate(fd, modes[m].mode, (off_t)at, (off_t)(end - at)), "%s, %zu to %zu, %s", name, at,
       end, state);
    size = modes[m].grows && end > size ? end : size;
    EQUAL(px_stat("f").st_size, size, "%s, %zu to %zu, %s: the size", name, at, end, state);
    NEED(ftruncate(fd, 4 * MIB) == 0); /* what was allocated behind the end is zero, too */
    at = modes[m].zeroes && at < MIB ? at : MIB;
    end = modes[m].zeroes && end < MIB ? end : MIB;
    right = px_holds(fd, 0, at, 1) && px_holds(fd, at, end > at ? end - at : 0, 0) &&
            (end <= at || px_holds(fd, end, MIB - end, 1)) && px_holds(fd, MIB, 3 * MIB, 0);
    CLAIM(right, "%s, %zu to %zu, %s: each byte is right", name, ranges[r].at,
          ranges[r].at + ranges[r].len, state);
    NEED(fsync(fd) == 0 && close(fd) == 0);
}

static void every_mode(void)
{
    for (size_t m = 0; m < MODES; m++) {
        for (size_t r = 0; r < RANGES; r++) {
            one_range(m, r, false);
            one_range(m, r, true);
        }
    }
}

/* What is written into a range afterwards is there. */
static void written_again(void)
{
    uint8_t bytes[5000];

    for (size_t m = 0; m < MODES; m++) {
        int fd = open_filled(100000, 1);

        NEED(fallocate(fd, modes[m].mode, 10000, 200000) == 0);
        px_fill(bytes, sizeof(bytes), 20000, 2);
        EQUAL(pwrite(fd, bytes, sizeof(bytes), 20000), 5000, "%s: written after", modes[m].name);
        CLAIM(px_holds(fd, 20000, 5000, 2), "%s: what was written after is there", modes[m].name);
        px_fill(bytes, sizeof(bytes), 150000, 3);
        EQUAL(pwrite(fd, bytes, sizeof(bytes), 150000), 5000, "%s: written behind", modes[m].name);
        CLAIM(px_holds(fd, 150000, 5000, 3) && px_holds(fd, 100000, 50000, 0),
              "%s: what was written behind is there, zeroes before it", modes[m].name);
        NEED(close(fd) == 0);
    }
}

static void empty_file(void)
{
    for (size_t m = 0; m < MODES; m++) {
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);

        NEED(fd >= 0);
        OK(fallocate(fd, modes[m].mode, 0, 10000), "%s of an empty file", modes[m].name);
        EQUAL(px_stat("f").st_size, modes[m].grows ? 10000 : 0, "%s of an empty file: its size",
              modes[m].name);
        CLAIM(px_holds(fd, 0, modes[m].grows ? 10000 : 0, 0), "%s of an empty file: its bytes",
              modes[m].name);
        NEED(close(fd) == 0);
    }
}

static void gives_space_back(void)
{
    int fd = open_filled(4 * MIB, 1);
    blkcnt_t full;

    NEED(fsync(fd) == 0);
    full = px_stat("f").st_blocks;
    CLAIM(full >= (blkcnt_t)(4 * MIB / 512), "4 MiB take their space");
    OK(fallocate(fd, PUNCH, MIB, 2 * MIB), "2 MiB are punched out");
    CLAIM(px_stat("f").st_blocks <= full - (blkcnt_t)(2 * MIB / 512), "and take none");
    OK(fallocate(fd, PUNCH, 0, 4 * MIB), "all is punched out");
    CLAIM(px_stat("f").st_blocks < 64, "and takes next to none");
    EQUAL(px_stat("f").st_size, 4 * MIB, "the size stays");
    NEED(close(fd) == 0);
}

static blkcnt_t blocks_of(size_t bytes)
{
    return (blkcnt_t)(bytes / 512);
}

static void takes_space(void)
{
    char got[4096], zeros[4096] = {0};
    int fd = open("f", O_CREAT | O_RDWR, 0644);

    NEED(fd >= 0);
    OK(fallocate(fd, 0, 0, 4 * MIB), "4 MiB are allocated");
    CLAIM(px_stat("f").st_blocks >= blocks_of(4 * MIB), "and take their space");
    CLAIM(pread(fd, got, sizeof(got), MIB) == (ssize_t)sizeof(got) &&
              memcmp(got, zeros, sizeof(got)) == 0,
          "which reads as zeros");
    NEED(pwrite(fd, "abc", 3, MIB) == 3 && fsync(fd) == 0);
    CLAIM(px_stat("f").st_blocks <= blocks_of(4 * MIB) + 64, "what is written there takes no more");
    OK(fallocate(fd, 0, 0, 4 * MIB), "they are allocated again");
    CLAIM(px_stat("f").st_blocks <= blocks_of(4 * MIB) + 64, "which takes no more");
    CLAIM(pread(fd, got, 3, MIB) == 3 && memcmp(got, "abc", 3) == 0, "what was written stays");
    OK(fallocate(fd, KEEP, 6 * MIB, 2 * MIB), "2 MiB behind the end are allocated");
    EQUAL(px_stat("f").st_size, 4 * MIB, "the size stays");
    CLAIM(px_stat("f").st_blocks >= blocks_of(6 * MIB), "and they take their space");
    OK(ftruncate(fd, 7 * MIB), "the file grows over them");
    CLAIM(px_stat("f").st_blocks >= blocks_of(6 * MIB), "and they stay");
    OK(fallocate(fd, PUNCH, 0, 2 * MIB), "2 MiB are punched out");
    CLAIM(px_stat("f").st_blocks <= blocks_of(4 * MIB) + 64, "and take none");
    OK(fallocate(fd, ZERO, 0, MIB), "1 MiB of them is zeroed");
    CLAIM(px_stat("f").st_blocks >= blocks_of(5 * MIB), "and takes its space");
    NEED(fsync(fd) == 0);
    OK(ftruncate(fd, MIB), "all but 1 MiB is cut off");
    CLAIM(px_stat("f").st_blocks >= blocks_of(MIB), "which is allocated still");
    CLAIM(px_stat("f").st_blocks <= blocks_of(MIB) + 64, "and nothing else is");
    OK(ftruncate(fd, 0), "all is cut off");
    EQUAL(px_stat("f").st_blocks, 0, "and takes no space");
    NEED(close(fd) == 0);
}

/* Collapse, insert, unshare */

static void shifts(void)
{
    uint8_t *bytes;
    int fd;

    if (px_impossible("collapse-range")) {
        return;
    }
    fd = open_filled(MIB, 1);
    bytes = malloc(MIB);
    NEED(bytes != NULL);
    OK(fallocate(fd, COLLAPSE, 65536, 65536), "COLLAPSE_RANGE");
    EQUAL(px_stat("f").st_size, MIB - 65536, "COLLAPSE_RANGE: the size");
    NEED(pread(fd, bytes, MIB, 0) == MIB - 65536);
    CLAIM(px_is_filled(bytes, 65536, 0, 1), "COLLAPSE_RANGE: what is before it");
    CLAIM(px_is_filled(bytes + 65536, MIB - 2 * 65536, 2 * 65536, 1),
          "COLLAPSE_RANGE: what was behind it comes nearer");
    FAILS(fallocate(fd, COLLAPSE, 0, MIB), EINVAL, "COLLAPSE_RANGE to the end");
    FAILS(fallocate(fd, COLLAPSE, 1, 65536), EINVAL, "COLLAPSE_RANGE that is not aligned");
    OK(fallocate(fd, INSERT, 65536, 65536), "INSERT_RANGE");
    EQUAL(px_stat("f").st_size, MIB, "INSERT_RANGE: the size");
    CLAIM(px_holds(fd, 0, 65536, 1) && px_holds(fd, 65536, 65536, 0) &&
              px_holds(fd, 2 * 65536, MIB - 2 * 65536, 1),
          "INSERT_RANGE: a hole, and the rest moves");
    FAILS(fallocate(fd, INSERT, MIB, 65536), EINVAL, "INSERT_RANGE at the end");
    FAILS(fallocate(fd, INSERT, 0, 1), EINVAL, "INSERT_RANGE that is not aligned");
    free(bytes);
    NEED(close(fd) == 0);
}

/* Who cannot says so, and leaves the file alone. */
static void refused_modes(void)
{
    static const struct {
        const char *name;
        int mode, error, other;
    } rows[] = {{"COLLAPSE_RANGE", COLLAPSE, EOPNOTSUPP, 0},
                {"INSERT_RANGE", INSERT, EOPNOTSUPP, 0},
                {"UNSHARE_RANGE", UNSHARE, EOPNOTSUPP, 0},
                {"PUNCH_HOLE without KEEP_SIZE", FALLOC_FL_PUNCH_HOLE, EOPNOTSUPP, -1},
                {"PUNCH_HOLE with ZERO_RANGE", PUNCH | ZERO, EOPNOTSUPP, -1},
                {"COLLAPSE_RANGE with KEEP_SIZE", COLLAPSE | KEEP, EOPNOTSUPP, -1},
                {"COLLAPSE_RANGE with INSERT_RANGE", COLLAPSE | INSERT, EOPNOTSUPP, -1},
                {"an unknown mode", 0x10000, EOPNOTSUPP, -1}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int fd = open_filled(MIB, 1), ret;

        ret = fallocate(fd, rows[i].mode, 65536, 65536);
        CLAIM(ret == rows[i].other ||
                  (ret == -1 && (errno == EOPNOTSUPP || (rows[i].other == -1 && errno == EINVAL))),
              "%s is refused, or done where it may be", rows[i].name);
        NEED(pwrite(fd, "", 0, 0) == 0);
        CLAIM(ret == 0 || px_holds(fd, 0, MIB, 1), "%s refused changes nothing", rows[i].name);
        NEED(close(fd) == 0);
    }
}

/* Errors */

static void descriptors(void)
{
    int pipes[2], sockets[2];
    struct {
        const char *name;
        int fd, error;
    } rows[] = {{"no descriptor", -1, EBADF},
                {"one that is closed", 300, EBADF},
                {"one open for reading", -1, EBADF},
                {"an O_PATH one", -1, EBADF},
                {"a directory", -1, EBADF}, /* it is open for reading */
                {"a FIFO", -1, ESPIPE},
                {"a pipe", -1, ESPIPE},
                {"a socket", -1, ENODEV}};

    NEED(px_make_filled("f", 100, 1) == 0 && mkfifo("p", 0644) == 0 && pipe(pipes) == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    rows[2].fd = open("f", O_RDONLY);
    rows[3].fd = open("f", O_PATH);
    rows[4].fd = open(".", O_RDONLY);
    rows[5].fd = open("p", O_RDWR);
    rows[6].fd = pipes[1];
    rows[7].fd = sockets[0];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t m = 0; m < MODES; m++) {
            FAILS(fallocate(rows[i].fd, modes[m].mode, 0, 100), rows[i].error, "%s of %s",
                  modes[m].name, rows[i].name);
        }
        EQUAL(posix_fallocate(rows[i].fd, 0, 100), rows[i].error, "posix_fallocate of %s",
              rows[i].name);
    }
}

static void arguments(void)
{
    static const struct {
        const char *name;
        off_t at, len;
        int error;
    } rows[] = {{"a start below zero", -1, 10, EINVAL},
                {"no length", 0, 0, EINVAL},
                {"a length below zero", 0, -10, EINVAL},
                {"an end past the last offset", INT64_MAX - 4096, 8192, EFBIG},
                {"an end past the largest file", INT64_MAX - 65536, 4096, EFBIG}};
    int fd = open_filled(1000, 1);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t m = 0; m < MODES; m++) {
            if (rows[i].at > INT64_MAX / 2 && modes[m].mode == PUNCH && rows[i].len == 4096) {
                continue; /* nothing is there: some say that nothing is to be done */
            }
            FAILS(fallocate(fd, modes[m].mode, rows[i].at, rows[i].len), rows[i].error, "%s: %s",
                  modes[m].name, rows[i].name);
        }
        EQUAL(posix_fallocate(fd, rows[i].at, rows[i].len), rows[i].error, "posix_fallocate: %s",
              rows[i].name);
    }
    EQUAL(px_stat("f").st_size, 1000, "after all of which the size is as it was");
    CLAIM(px_holds(fd, 0, 1000, 1), "and each byte");
    NEED(close(fd) == 0);
}

static void by_posix(void)
{
    int fd = open_filled(1000, 1), append = open("f", O_WRONLY | O_APPEND);

    EQUAL(posix_fallocate(fd, 0, 500), 0, "posix_fallocate inside of a file");
    EQUAL(px_stat("f").st_size, 1000, "leaves the size");
    EQUAL(posix_fallocate(fd, 5000, 5000), 0, "posix_fallocate beyond the end");
    EQUAL(px_stat("f").st_size, 10000, "makes it longer");
    CLAIM(px_holds(fd, 0, 1000, 1) && px_holds(fd, 1000, 9000, 0), "by zeroes");
    EQUAL(lseek(fd, 0, SEEK_CUR), 0, "no position moves");
    NEED(append >= 0);
    EQUAL(posix_fallocate(append, 0, 20000), 0, "of what is open for appending");
    EQUAL(px_stat("f").st_size, 20000, "which is longer then");
    NEED(close(fd) == 0 && close(append) == 0);
}

static void times(void)
{
    for (size_t m = 0; m < MODES; m++) {
        int fd = open_filled(100000, 1);
        struct stat before;

        NEED(fsync(fd) == 0);
        before = px_stat("f");
        px_tick();
        NEED(fallocate(fd, modes[m].mode, 50000, 100000) == 0);
        CLAIM(px_later(px_stat("f").st_ctim, before.st_ctim), "%s: ctime moves on", modes[m].name);
        if (modes[m].zeroes || modes[m].grows) {
            CLAIM(px_later(px_stat("f").st_mtim, before.st_mtim), "%s: mtime moves on",
                  modes[m].name);
        }
        NEED(close(fd) == 0);
    }
}

static void mapped(void)
{
    for (size_t m = 0; m < MODES; m++) {
        int fd = open_filled(65536, 1);
        uint8_t *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        size_t zeroes = modes[m].zeroes ? 8192 : 0;

        NEED(map != MAP_FAILED);
        px_fill(map + 4096, 16384, 4096, 2); /* not written back */
        NEED(fallocate(fd, modes[m].mode, 8192, 8192) == 0);
        CLAIM(px_is_filled(map + 4096, 4096, 4096, 2) && px_is_zero(map + 8192, zeroes) &&
                  px_is_filled(map + 8192 + zeroes, 12288 - zeroes, 8192 + zeroes, 2) &&
                  px_is_filled(map + 20480, 65536 - 20480, 20480, 1),
              "%s: a mapping shows it", modes[m].name);
        NEED(munmap(map, 65536) == 0);
        CLAIM(px_holds(fd, 8192, zeroes, 0) && px_holds(fd, 8192 + zeroes, 12288 - zeroes, 2),
              "%s: and so does the file that was mapped", modes[m].name);
        NEED(close(fd) == 0);
    }
}

static void set_id_bits(void)
{
    for (size_t m = 0; m < MODES; m++) {
        int fd;

        NEED(px_make_filled("f", 1000, 1) == 0 && chmod("f", 06777) == 0);
        px_become_user(0);
        fd = open("f", O_WRONLY);
        NEED(fd >= 0 && fallocate(fd, modes[m].mode, 500, 5000) == 0);
        EQUAL(px_stat("f").st_mode & 07777, 0777, "%s by another takes the set-ID bits",
              modes[m].name);
        NEED(close(fd) == 0);
        px_become_root();
    }
}

/* Two mounts */

static void seen_elsewhere(void)
{
    for (size_t m = 0; m < MODES; m++) {
        size_t size = modes[m].grows ? 200000 : 100000, hole = modes[m].zeroes ? 50000 : 0;
        int fd = open_filled(100000, 1), there = open(px_other("f"), O_RDONLY);

        NEED(fsync(fd) == 0 && there >= 0 && px_holds(there, 0, 100000, 1));
        NEED(fallocate(fd, modes[m].mode, 50000, 150000) == 0);
        EQUAL(px_stat(px_other("f")).st_size, size, "%s: the size there", modes[m].name);
        CLAIM(px_holds(there, 0, 100000 - hole, 1) && px_holds(there, 100000 - hole, hole, 0),
              "%s: read there through what was open", modes[m].name);
        NEED(close(there) == 0 && close(fd) == 0);
    }
}

const struct px_group px_fallocate[] = {
    {"every-mode", every_mode, 0},
    {"written-again", written_again, 0},
    {"empty-file", empty_file, 0},
    {"gives-space-back", gives_space_back, 0},
    {"takes-space", takes_space, 0},
    {"shifts", shifts, 0},
    {"refused-modes", refused_modes, 0},
    {"descriptors", descriptors, 0},
    {"arguments", arguments, 0},
    {"by-posix", by_posix, 0},
    {"times", times, 0},
    {"mapped", mapped, 0},
    {"set-id-bits", set_id_bits, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
