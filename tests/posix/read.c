/* SPDX-License-Identifier: Apache-2.0 */
/* read(), pread(), readv(), preadv2(): POSIX.1-2024 read, readv; read(2), readv(2). */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/posix/posix.h"

#define MIB     ((size_t)1 << 20)
#define UNKNOWN 0x40000000

static int open_filled(const char *path, size_t len, unsigned seed, int flags)
{
    int fd;

    NEED(px_make_filled(path, len, seed) == 0);
    fd = open(path, flags);
    NEED(fd >= 0);
    return fd;
}

/* Every place around the end of files of many sizes, for counts small and large. */

static void one_place(int fd, size_t size, size_t at, size_t count)
{
    size_t want = at >= size ? 0 : count < size - at ? count : size - at;
    uint8_t *bytes = malloc(count + 1);
    ssize_t n;

    NEED(bytes != NULL);
    bytes[count] = 0xa5;
    n = pread(fd, bytes, count, (off_t)at);
    EQUAL(n, want, "of %zu bytes, %zu are asked for at %zu", size, count, at);
    CLAIM(n <= 0 || px_is_filled(bytes, (size_t)n, at, 1), "of %zu bytes, %zu at %zu are right",
          size, count, at);
    CLAIM(bytes[count] == 0xa5, "of %zu bytes, %zu at %zu: nothing behind the buffer is touched",
          size, count, at);
    free(bytes);
}

static void around_the_end(void)
{
    static const size_t sizes[] = {0, 1, 511, 4095, 4096, 4097, 131072, 131073, 4 * MIB + 1};
    static const size_t counts[] = {0, 1, 4096, MIB + 3};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i], last = SIZE_MAX;
        size_t places[] = {0, 1, size / 2, size > 0 ? size - 1 : 0, size, size + 4096};
        int fd = open_filled("f", size, 1, O_RDONLY);

        for (size_t j = 0; j < sizeof(places) / sizeof(places[0]); j++) {
            bool seen = false;

            for (size_t k = 0; k < j; k++) {
                seen = seen || places[k] == places[j];
            }
            for (size_t k = 0; !seen && k < sizeof(counts) / sizeof(counts[0]); k++) {
                one_place(fd, size, places[j], counts[k]);
            }
            last = places[j];
        }
        EQUAL(pread(fd, &last, 1, INT64_MAX - 1), 0, "of %zu bytes, the last place there is", size);
        NEED(close(fd) == 0);
    }
}

/* Holes: @mask says which cells of 4,096 + 1 bytes are written. */

static void holes(void)
{
    const size_t cell = 4097;
    uint8_t bytes[4097];

    for (unsigned mask = 0; mask < 32; mask++) {
        bool right = true;
        int fd = open("h", O_RDWR | O_CREAT | O_TRUNC, 0644);

        NEED(fd >= 0 && ftruncate(fd, (off_t)(5 * cell)) == 0);
        for (unsigned i = 0; i < 5; i++) {
            px_fill(bytes, cell, i * cell, 2);
            NEED(!(mask >> i & 1) || pwrite(fd, bytes, cell, (off_t)(i * cell)) == (ssize_t)cell);
        }
        for (unsigned i = 0; i < 5; i++) {
            right = right && px_holds(fd, i * cell, cell, mask >> i & 1 ? 2 : 0);
        }
        CLAIM(right, "holes read as zero, and what is between them as written: cells %02x", mask);
        NEED(fsync(fd) == 0 && close(fd) == 0);
        fd = open("h", O_RDONLY);
        NEED(fd >= 0);
        right = true;
        for (unsigned i = 0; i < 5; i++) {
            right = right && px_holds(fd, i * cell, cell, mask >> i & 1 ? 2 : 0);
        }
        CLAIM(right, "so they do when the file is opened anew: cells %02x", mask);
        NEED(close(fd) == 0);
    }
}

/* The position */

static int read_seven(void *arg)
{
    char bytes[7];

    return read(*(int *)arg, bytes, 7) == 7 ? 0 : 1;
}

static void position(void)
{
    char bytes[128];
    int fd = open_filled("f", 100, 3, O_RDONLY), twin, other;

    EQUAL(read(fd, bytes, 30), 30, "a read of 30");
    EQUAL(lseek(fd, 0, SEEK_CUR), 30, "moves the position by 30");
    EQUAL(pread(fd, bytes, 20, 50), 20, "pread reads elsewhere");
    CLAIM(px_is_filled(bytes, 20, 50, 3), "what lies there");
    EQUAL(lseek(fd, 0, SEEK_CUR), 30, "pread leaves the position");
    EQUAL(read(fd, NULL, 0), 0, "a read of nothing");
    EQUAL(lseek(fd, 0, SEEK_CUR), 30, "a read of nothing leaves the position");
    EQUAL(read(fd, bytes, 128), 70, "a read past the end ends there");
    EQUAL(lseek(fd, 0, SEEK_CUR), 100, "with the position");
    EQUAL(read(fd, bytes, 1), 0, "at the end there is nothing");
    EQUAL(lseek(fd, 5, SEEK_SET), 5, "a position set");
    twin = dup(fd);
    other = open("f", O_RDONLY);
    NEED(twin >= 0 && other >= 0);
    EQUAL(read(twin, bytes, 10), 10, "a duplicate reads");
    EQUAL(lseek(fd, 0, SEEK_CUR), 15, "and moves the position of the first");
    EQUAL(lseek(other, 0, SEEK_CUR), 0, "not that of another open");
    EQUAL(px_child(read_seven, &fd), 0, "a child reads");
    EQUAL(lseek(fd, 0, SEEK_CUR), 22, "and moves the position of its parent");
    EQUAL(read(fd, px_nowhere(), 10), -1, "a read that fails");
    EQUAL(lseek(fd, 0, SEEK_CUR), 22, "leaves the position");
    NEED(lseek(fd, 1000, SEEK_SET) == 1000);
    EQUAL(read(fd, bytes, 10), 0, "from a position past the end nothing is read");
    EQUAL(lseek(fd, 0, SEEK_CUR), 1000, "which leaves it there");
    NEED(close(fd) == 0 && close(twin) == 0 && close(other) == 0);
}

static void grows_meanwhile(void)
{
    char bytes[16];
    int r = open_filled("f", 4, 4, O_RDONLY), w = open("f", O_WRONLY | O_APPEND);

    NEED(w >= 0);
    EQUAL(read(r, bytes, 16), 4, "to the end");
    EQUAL(read(r, bytes, 16), 0, "the end");
    px_fill(bytes, 3, 4, 4);
    NEED(write(w, bytes, 3) == 3);
    memset(bytes, 0, sizeof(bytes));
    EQUAL(read(r, bytes, 16), 3, "what was added after the end was met is read");
    CLAIM(px_is_filled(bytes, 3, 4, 4), "and is what was added");
    NEED(ftruncate(w, 2) == 0);
    EQUAL(pread(r, bytes, 16, 0), 2, "a file cut meanwhile ends where it was cut");
    NEED(close(r) == 0 && close(w) == 0);
}

/* Vectors */

static void vectors(void)
{
    static const size_t rows[][4] = {{1, 1, 1, 1},         {0, 5, 0, 5},         {4096, 1, 4095, 2},
                                     {50000, 0, 1, 50000}, {7, 65536, 7, 65536}, {0, 0, 0, 0}};
    int fd = open_filled("f", 100000, 5, O_RDONLY);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct iovec iov[4];
        size_t total = 0, at = 10, want, left;
        bool right = true;

        for (int j = 0; j < 4; j++) {
            iov[j].iov_len = rows[i][j];
            iov[j].iov_base = calloc(1, rows[i][j] + 1);
            NEED(iov[j].iov_base != NULL);
            total += rows[i][j];
        }
        want = total < 99990 ? total : 99990;
        NEED(lseek(fd, 10, SEEK_SET) == 10);
        EQUAL(readv(fd, iov, 4), want, "readv, row %zu", i);
        EQUAL(lseek(fd, 0, SEEK_CUR), 10 + want, "readv moves the position, row %zu", i);
        left = want;
        for (int j = 0; j < 4; j++) {
            size_t n = iov[j].iov_len < left ? iov[j].iov_len : left;

            right = right && px_is_filled(iov[j].iov_base, n, at, 5) &&
                    px_is_zero((uint8_t *)iov[j].iov_base + n, iov[j].iov_len + 1 - n);
            at += n;
            left -= n;
        }
        CLAIM(right, "readv fills one buffer after the other, row %zu", i);
        EQUAL(preadv(fd, iov, 4, 99999), total ? 1 : 0, "preadv at the last byte, row %zu", i);
        EQUAL(lseek(fd, 0, SEEK_CUR), 10 + want, "preadv leaves the position, row %zu", i);
        for (int j = 0; j < 4; j++) {
            free(iov[j].iov_base);
        }
    }
    NEED(close(fd) == 0);
}

static void flags(void)
{
    char bytes[32];
    struct iovec iov = {.iov_base = bytes, .iov_len = 10};
    int fd = open_filled("f", 100, 6, O_RDONLY);
    ssize_t n;

    NEED(lseek(fd, 20, SEEK_SET) == 20);
    EQUAL(preadv2(fd, &iov, 1, -1, 0), 10, "preadv2 with offset -1 reads at the position");
    CLAIM(px_is_filled(bytes, 10, 20, 6), "which had been set");
    EQUAL(lseek(fd, 0, SEEK_CUR), 30, "and moves it");
    EQUAL(preadv2(fd, &iov, 1, 40, 0), 10, "preadv2 with an offset");
    EQUAL(lseek(fd, 0, SEEK_CUR), 30, "leaves the position");
    EQUAL(preadv2(fd, &iov, 1, 40, RWF_HIPRI), 10, "RWF_HIPRI is a hint");
    FAILS(preadv2(fd, &iov, 1, 0, UNKNOWN), EOPNOTSUPP, "an unknown flag");
    FAILS(preadv2(fd, &iov, 1, -2, 0), EINVAL, "an offset of -2");
    memset(bytes, 0, sizeof(bytes));
    n = preadv2(fd, &iov, 1, 50, RWF_NOWAIT);
    CLAIM((n > 0 && n <= 10 && px_is_filled(bytes, (size_t)n, 50, 6)) ||
              (n == -1 && (errno == EAGAIN || errno == EOPNOTSUPP)),
          "RWF_NOWAIT reads, or says that it would wait or cannot tell");
    NEED(close(fd) == 0);
}

/* Errors */

static void bad_descriptors(void)
{
    char bytes[8];
    struct iovec iov = {.iov_base = bytes, .iov_len = 8};
    struct {
        const char *name;
        int fd, error;
    } rows[] = {{"no descriptor", -1, EBADF},
                {"one that was closed", 0, EBADF},
                {"one open for writing", 0, EBADF},
                {"an O_PATH one", 0, EBADF},
                {"a directory", 0, EISDIR}};

    NEED(px_make_filled("f", 8, 1) == 0);
    rows[1].fd = open("f", O_RDONLY);
    rows[2].fd = open("f", O_WRONLY);
    rows[3].fd = open("f", O_PATH);
    rows[4].fd = open(".", O_RDONLY);
    for (int i = 1; i < 5; i++) {
        NEED(rows[i].fd >= 0);
    }
    rows[1].fd = dup2(rows[1].fd, 200);
    NEED(close(200) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int fd = rows[i].fd, error = rows[i].error;

        FAILS(read(fd, bytes, 8), error, "read from %s", rows[i].name);
        FAILS(pread(fd, bytes, 8, 0), error, "pread from %s", rows[i].name);
        FAILS(readv(fd, &iov, 1), error, "readv from %s", rows[i].name);
        FAILS(preadv(fd, &iov, 1, 0), error, "preadv from %s", rows[i].name);
    }
}

static void bad_arguments(void)
{
    static struct iovec many[IOV_MAX + 1];
    static char bytes[IOV_MAX + 1];
    volatile int less = -1;
    struct iovec huge = {bytes, (size_t)SSIZE_MAX + 1};
    struct iovec half[2] = {{bytes, 4}, {px_nowhere(), 4}};
    int fd = open_filled("f", 4096, 7, O_RDONLY);
    ssize_t n;

    for (int i = 0; i <= IOV_MAX; i++) {
        many[i] = (struct iovec){bytes + i, 1};
    }
    FAILS(pread(fd, bytes, 1, -1), EINVAL, "pread at -1");
    FAILS(pread(fd, bytes, 1, INT64_MIN), EINVAL, "pread at the least offset");
    FAILS(preadv(fd, many, 1, -1), EINVAL, "preadv at -1");
    FAILS(read(fd, px_nowhere(), 16), EFAULT, "read to no address");
    FAILS(pread(fd, px_nowhere(), 16, 0), EFAULT, "pread to no address");
    FAILS(readv(fd, px_nowhere(), 1), EFAULT, "readv with vectors at no address");
    FAILS(readv(fd, many, less), EINVAL, "readv with -1 vectors");
    FAILS(readv(fd, many, IOV_MAX + 1), EINVAL, "readv with one vector too many");
    FAILS(readv(fd, &huge, 1), EINVAL, "readv of more than SSIZE_MAX");
    EQUAL(readv(fd, many, 0), 0, "readv with no vector");
    EQUAL(readv(fd, many, IOV_MAX), IOV_MAX, "readv with as many vectors as there may be");
    CLAIM(px_is_filled(bytes, IOV_MAX, 0, 7), "fills each");
    n = preadv(fd, half, 2, 0);
    CLAIM(n == 4 || (n == -1 && errno == EFAULT), "a vector at no address behind a good one");
    NEED(close(fd) == 0);
}

static void fifos(void)
{
    char bytes[8] = "";
    int fd;

    NEED(mkfifo("p", 0644) == 0);
    fd = open("p", O_RDWR | O_NONBLOCK);
    NEED(fd >= 0);
    FAILS(read(fd, bytes, 8), EAGAIN, "an empty FIFO, without waiting");
    FAILS(pread(fd, bytes, 8, 0), ESPIPE, "pread of a FIFO");
    EQUAL(write(fd, "through", 7), 7, "a FIFO is written");
    EQUAL(read(fd, bytes, 8), 7, "and read");
    CLAIM(memcmp(bytes, "through", 7) == 0, "what comes out of a FIFO went in");
    NEED(close(fd) == 0);
    fd = open("p", O_RDONLY | O_NONBLOCK);
    NEED(fd >= 0);
    EQUAL(read(fd, bytes, 8), 0, "a FIFO that nobody writes is at its end");
    EQUAL(px_stat("p").st_size, 0, "a FIFO has no size");
    NEED(close(fd) == 0);
}

/* Rights are those of the open. */

static void kept_rights(void)
{
    char bytes[8];
    int fd;

    NEED(px_make_filled("f", 8, 8) == 0 && chown("f", px_uid(0), px_uid(0)) == 0);
    px_become_user(0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0 && chmod("f", 0) == 0);
    FAILS(open("f", O_RDONLY), EACCES, "a file of mode 0 is not opened by its owner");
    EQUAL(read(fd, bytes, 8), 8, "what has it open reads on");
    px_become_user(1);
    EQUAL(pread(fd, bytes, 8, 0), 8, "so does another user with that descriptor");
    px_become_root();
    NEED(close(fd) == 0);
}

/* Two mounts */

static void written_elsewhere(void)
{
    static const size_t sizes[] = {1, 4096, 100000, 4 * MIB + 1};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned seed = 1; seed < 4; seed++) {
            int fd;

            NEED(px_make_filled(px_other("f"), sizes[i], seed) == 0);
            fd = open("f", O_RDONLY);
            NEED(fd >= 0);
            CLAIM(px_holds(fd, 0, sizes[i], seed), "%zu bytes closed there are read here, time %u",
                  sizes[i], seed);
            NEED(close(fd) == 0);
        }
    }
}

const struct px_group px_read[] = {
    {"around-the-end", around_the_end, 0},
    {"holes", holes, 0},
    {"position", position, 0},
    {"grows-meanwhile", grows_meanwhile, 0},
    {"vectors", vectors, 0},
    {"flags", flags, 0},
    {"bad-descriptors", bad_descriptors, 0},
    {"bad-arguments", bad_arguments, 0},
    {"fifos", fifos, 0},
    {"kept-rights", kept_rights, PX_ROOT},
    {"written-elsewhere", written_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
