/* SPDX-License-Identifier: Apache-2.0 */
/* write(), pwrite(), writev(), pwritev2(): POSIX.1-2024 write, writev; write(2), writev(2). */
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "tests/posix/posix.h"

#define MIB           ((size_t)1 << 20)
#define UNKNOWN       0x40000000
#define RWF_NOAPPEND_ 0x20

/* One write after the other, each compared with what a plain buffer would hold. */

#define MODEL_BYTES (3 * MIB)

struct model {
    uint8_t *bytes;
    size_t size;
};

static void model_write(struct model *m, int fd, size_t at, size_t len, unsigned seed)
{
    px_fill(m->bytes + at, len, at, seed);
    m->size = at + len > m->size ? at + len : m->size;
    EQUAL(pwrite(fd, m->bytes + at, len, (off_t)at), len, "%zu bytes are written at %zu", len, at);
}

static void same_as_model(const struct model *m, const char *when)
{
    size_t len = 0;
    char *have = px_read_file("f", &len);

    CLAIM(have && len == m->size && memcmp(have, m->bytes, len) == 0, "the file is right %s", when);
    free(have);
}

static void overwrites(void)
{
    static const size_t places[] = {0, 1, 511, 4095, 4096, 65535, 131072, MIB - 1, 2 * MIB + 17};
    static const size_t counts[] = {1, 4095, 4096, 4097, 65536, 131073, MIB - 100};
    struct model m = {.bytes = calloc(1, MODEL_BYTES + MIB)};
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    char when[64];

    NEED(m.bytes && fd >= 0);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++) {
            model_write(&m, fd, places[i], counts[j], (unsigned)(1 + i * 10 + j));
            EQUAL(px_stat("f").st_size, m.size, "the size after %zu bytes at %zu", counts[j],
                  places[i]);
            (void)snprintf(when, sizeof(when), "after %zu bytes at %zu", counts[j], places[i]);
            same_as_model(&m, when);
            NEED((i + j) % 5 || fsync(fd) == 0);
        }
    }
    NEED(close(fd) == 0);
    same_as_model(&m, "when all is closed");
    free(m.bytes);
}

static void small_pieces(void)
{
    static const size_t steps[] = {1, 7, 100, 4095};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        uint8_t bytes[4095];
        int fd = open("s", O_RDWR | O_CREAT | O_TRUNC, 0644);
        size_t at = 0;

        NEED(fd >= 0);
        for (int k = 0; k < 300; k++, at += steps[i]) {
            px_fill(bytes, steps[i], at, 9);
            NEED(write(fd, bytes, steps[i]) == (ssize_t)steps[i]);
        }
        CLAIM(px_holds(fd, 0, at, 9), "300 pieces of %zu bytes one after the other", steps[i]);
        for (int k = 299; k >= 0; k--) {
            px_fill(bytes, steps[i], (size_t)k * steps[i], 10);
            NEED(pwrite(fd, bytes, steps[i], (off_t)((size_t)k * steps[i])) == (ssize_t)steps[i]);
        }
        CLAIM(px_holds(fd, 0, at, 10), "300 pieces of %zu bytes from the end to the start",
              steps[i]);
        EQUAL(px_stat("s").st_size, at, "the size of 300 pieces of %zu bytes", steps[i]);
        NEED(close(fd) == 0);
    }
}

static void position(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644), twin;

    NEED(fd >= 0);
    EQUAL(write(fd, "12345", 5), 5, "a write");
    EQUAL(lseek(fd, 0, SEEK_CUR), 5, "moves the position");
    EQUAL(pwrite(fd, "ab", 2, 1), 2, "pwrite");
    EQUAL(lseek(fd, 0, SEEK_CUR), 5, "leaves the position");
    twin = dup(fd);
    NEED(twin >= 0);
    EQUAL(write(twin, "67", 2), 2, "a duplicate writes");
    EQUAL(lseek(fd, 0, SEEK_CUR), 7, "where the first was");
    NEED(lseek(fd, 100, SEEK_SET) == 100);
    EQUAL(px_stat("f").st_size, 7, "a position past the end changes no size");
    EQUAL(write(fd, "", 0), 0, "a write of nothing past the end");
    EQUAL(px_stat("f").st_size, 7, "a write of nothing changes no size");
    EQUAL(write(fd, "x", 1), 1, "a write past the end");
    EQUAL(px_stat("f").st_size, 101, "changes it");
    CLAIM(px_holds(fd, 7, 93, 0), "and leaves zeroes between");
    NEED(close(fd) == 0 && close(twin) == 0);
}

static void times(void)
{
    struct stat before;
    int fd = open("f", O_RDWR | O_CREAT, 0644);

    NEED(fd >= 0 && write(fd, "12345", 5) == 5 && fsync(fd) == 0);
    before = px_stat("f");
    px_tick();
    NEED(write(fd, "", 0) == 0);
    CLAIM(!px_later(px_stat("f").st_mtim, before.st_mtim), "a write of nothing leaves mtime");
    NEED(pwrite(fd, "x", 1, 0) == 1);
    CLAIM(px_later(px_stat("f").st_mtim, before.st_mtim), "a write moves mtime on");
    CLAIM(px_later(px_stat("f").st_ctim, before.st_ctim), "a write moves ctime on");
    before = px_stat("f");
    px_tick();
    NEED(fsync(fd) == 0 && close(fd) == 0);
    CLAIM(!px_later(px_stat("f").st_mtim, before.st_mtim), "fsync and close leave it");
}

/* O_APPEND */

static void append(void)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t) "v", .iov_len = 1};
    char bytes[32] = "";
    int fd, plain;

    NEED(px_write_file("f", "base", 4) == 0);
    fd = open("f", O_RDWR | O_APPEND);
    plain = open("f", O_RDWR);
    NEED(fd >= 0 && plain >= 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 0, "a file opened to append to is at its start");
    EQUAL(read(fd, bytes, 2), 2, "and is read from there");
    EQUAL(write(fd, "1", 1), 1, "a write goes to the end");
    EQUAL(lseek(fd, 0, SEEK_CUR), 5, "and so does the position");
    NEED(lseek(fd, 0, SEEK_SET) == 0);
    EQUAL(write(fd, "2", 1), 1, "wherever that was");
    EQUAL(pwrite(fd, "3", 1, 0), 1, "Linux: pwrite appends too");
    EQUAL(write(plain, "BA", 2), 2, "another open writes at its own position");
    EQUAL(pwrite(plain, "4", 1, 7), 1, "or makes the file longer");
    EQUAL(write(fd, "5", 1), 1, "behind which the next is appended");
    EQUAL(pwritev2(plain, &iov, 1, 0, RWF_APPEND), 1, "RWF_APPEND without O_APPEND");
    EQUAL(lseek(plain, 0, SEEK_CUR), 2, "which leaves the position");
    NEED(fcntl(fd, F_SETFL, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    EQUAL(write(fd, "b", 1), 1, "O_APPEND taken away");
    NEED(fcntl(fd, F_SETFL, O_APPEND) == 0);
    EQUAL(write(fd, "6", 1), 1, "and given again");
    NEED(ftruncate(fd, 12) == 0 && write(fd, "7", 1) == 1);
    EQUAL(pread(fd, bytes, 32, 0), 13, "all of it");
    CLAIM(memcmp(bytes, "bAse12345v6\0007", 13) == 0, "is where it belongs");
    NEED(close(fd) == 0 && close(plain) == 0);
}

#define WRITERS 4
#define RECORDS 150

struct writer {
    const char *path;
    unsigned who;
    size_t len;
    bool reopens;
};

/* A record: who, number, and its bytes made from both. */
static void record(uint8_t *bytes, size_t len, unsigned who, unsigned number)
{
    bytes[0] = (uint8_t)who;
    bytes[1] = (uint8_t)number;
    px_fill(bytes + 2, len - 2, number, who + 1);
}

static int append_records(void *arg)
{
    const struct writer *w = arg;
    uint8_t bytes[9000];
    int fd = open(w->path, O_WRONLY | O_APPEND);

    for (unsigned i = 0; fd >= 0 && i < RECORDS; i++) {
        record(bytes, w->len, w->who, i);
        if (write(fd, bytes, w->len) != (ssize_t)w->len) {
            return 1;
        }
        if (w->reopens) {
            (void)close(fd);
            fd = open(w->path, O_WRONLY | O_APPEND);
        }
    }
    return fd >= 0 && close(fd) == 0 ? 0 : 1;
}

static void many_append(size_t len, bool reopens)
{
    struct writer w[WRITERS];
    pid_t pids[WRITERS];
    unsigned next[WRITERS] = {0}, torn = 0, out_of_order = 0, failed = 0;
    uint8_t want[9000];
    size_t size = 0;
    char *have;

    NEED(px_write_file("f", "", 0) == 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.path = "f", .who = i, .len = len, .reopens = reopens};
        pids[i] = px_start(append_records, &w[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        failed += px_wait(pids[i]) != 0;
    }
    EQUAL(failed, 0, "all write records of %zu%s", len, reopens ? ", closing each time" : "");
    have = px_read_file("f", &size);
    NEED(have != NULL);
    EQUAL(size, WRITERS * RECORDS * len, "no record of %zu is lost%s", len,
          reopens ? ", closing each time" : "");
    for (size_t at = 0; at + len <= size; at += len) {
        unsigned who = (uint8_t)have[at];

        if (who >= WRITERS) {
            torn++;
            continue;
        }
        record(want, len, who, (uint8_t)have[at + 1]);
        torn += memcmp(want, have + at, len) != 0;
        out_of_order += (uint8_t)have[at + 1] != next[who]++;
    }
    EQUAL(torn, 0, "no record of %zu is torn%s", len, reopens ? ", closing each time" : "");
    EQUAL(out_of_order, 0, "those of one process are in order, %zu%s", len,
          reopens ? ", closing each time" : "");
    free(have);
}

static void append_from_many(void)
{
    static const size_t lens[] = {3, 100, 4096, 4097, 9000};

    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        many_append(lens[i], false);
    }
    many_append(100, true);
    many_append(4097, true);
}

/* Vectors and flags */

static void vectors(void)
{
    static const size_t rows[][4] = {{1, 1, 1, 1},         {0, 5, 0, 5},     {4096, 1, 4095, 2},
                                     {50000, 0, 1, 50000}, {7, 65536, 7, 1}, {0, 0, 0, 0}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static uint8_t bytes[200000];
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);
        struct iovec iov[4];
        size_t total = 0;

        NEED(fd >= 0);
        for (int j = 0; j < 4; j++) {
            iov[j] = (struct iovec){bytes + total, rows[i][j]};
            total += rows[i][j];
        }
        px_fill(bytes, total, 0, 3);
        EQUAL(writev(fd, iov, 4), total, "writev, row %zu", i);
        EQUAL(lseek(fd, 0, SEEK_CUR), total, "writev moves the position, row %zu", i);
        CLAIM(px_holds(fd, 0, total, 3), "writev writes one after the other, row %zu", i);
        px_fill(bytes, total, 1000000, 3);
        EQUAL(pwritev(fd, iov, 4, 1000000), total, "pwritev, row %zu", i);
        EQUAL(lseek(fd, 0, SEEK_CUR), total, "pwritev leaves the position, row %zu", i);
        CLAIM(px_holds(fd, 1000000, total, 3), "pwritev writes where it is told, row %zu", i);
        NEED(close(fd) == 0);
    }
}

static void flags(void)
{
    static const struct {
        const char *name;
        int flag;
    } rows[] = {{"RWF_DSYNC", RWF_DSYNC},
                {"RWF_SYNC", RWF_SYNC},
                {"RWF_HIPRI", RWF_HIPRI},
                {"RWF_DSYNC and RWF_SYNC", RWF_DSYNC | RWF_SYNC}};
    uint8_t bytes[5000];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    ssize_t n;

    NEED(fd >= 0);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        px_fill(bytes, sizeof(bytes), 0, i + 1);
        EQUAL(pwritev2(fd, &iov, 1, 0, rows[i].flag), 5000, "%s writes", rows[i].name);
        CLAIM(px_holds(fd, 0, 5000, i + 1), "%s: and what it is given", rows[i].name);
    }
    px_fill(bytes, sizeof(bytes), 0, 9);
    n = pwritev2(fd, &iov, 1, 0, RWF_NOWAIT);
    CLAIM((n > 0 && px_holds(fd, 0, (size_t)n, 9)) ||
              (n == -1 && (errno == EAGAIN || errno == EOPNOTSUPP) && px_holds(fd, 0, 5000, 4)),
          "RWF_NOWAIT writes, or says that it would wait or cannot tell, and then does nothing");
    FAILS(pwritev2(fd, &iov, 1, 0, UNKNOWN), EOPNOTSUPP, "an unknown flag");
    NEED(lseek(fd, 5000, SEEK_SET) == 5000);
    px_fill(bytes, sizeof(bytes), 5000, 9);
    EQUAL(pwritev2(fd, &iov, 1, -1, 0), 5000, "pwritev2 with offset -1 writes at the position");
    EQUAL(lseek(fd, 0, SEEK_CUR), 10000, "and moves it");
    CLAIM(px_holds(fd, 5000, 5000, 9), "that had been set");
    NEED(close(fd) == 0);
}

static void noappend(void)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t) "X", .iov_len = 1};
    char bytes[8] = "";
    int fd;

    NEED(px_write_file("f", "abc", 3) == 0);
    fd = open("f", O_RDWR | O_APPEND);
    NEED(fd >= 0);
    if (pwritev2(fd, &iov, 1, 0, RWF_NOAPPEND_) == 1) { /* Linux 6.9 */
        EQUAL(pread(fd, bytes, 8, 0), 3, "RWF_NOAPPEND leaves the size");
        CLAIM(memcmp(bytes, "Xbc", 3) == 0, "and writes at the offset");
        FAILS(pwritev2(fd, &iov, 1, 0, RWF_NOAPPEND_ | RWF_APPEND), EINVAL,
              "RWF_NOAPPEND and RWF_APPEND exclude each other");
    }
    NEED(close(fd) == 0);
}

/* Errors */

static void bad_descriptors(void)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t) "x", .iov_len = 1};
    struct {
        const char *name;
        int fd;
    } rows[] = {{"no descriptor", -1},
                {"one that was closed", 0},
                {"one open for reading", 0},
                {"an O_PATH one", 0},
                {"a directory", 0}};

    NEED(px_make_filled("f", 8, 1) == 0);
    rows[1].fd = 200;
    rows[2].fd = open("f", O_RDONLY);
    rows[3].fd = open("f", O_PATH);
    rows[4].fd = open(".", O_RDONLY);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int fd = rows[i].fd;

        FAILS(write(fd, "x", 1), EBADF, "write to %s", rows[i].name);
        FAILS(pwrite(fd, "x", 1, 0), EBADF, "pwrite to %s", rows[i].name);
        FAILS(writev(fd, &iov, 1), EBADF, "writev to %s", rows[i].name);
        FAILS(pwritev(fd, &iov, 1, 0), EBADF, "pwritev to %s", rows[i].name);
    }
    CLAIM(px_holds(rows[2].fd, 0, 8, 1), "after all of which the file is as it was");
}

static void bad_arguments(void)
{
    static struct iovec many[IOV_MAX + 1];
    static char bytes[IOV_MAX + 1];
    volatile int less = -1;
    struct iovec huge = {bytes, (size_t)SSIZE_MAX + 1};
    int fd = open("f", O_RDWR | O_CREAT, 0644);

    NEED(fd >= 0);
    px_fill(bytes, IOV_MAX + 1, 0, 2);
    for (int i = 0; i <= IOV_MAX; i++) {
        many[i] = (struct iovec){bytes + i, 1};
    }
    FAILS(pwrite(fd, bytes, 1, -1), EINVAL, "pwrite at -1");
    FAILS(pwrite(fd, bytes, 1, INT64_MIN), EINVAL, "pwrite at the least offset");
    FAILS(pwritev(fd, many, 1, -1), EINVAL, "pwritev at -1");
    FAILS(write(fd, px_nowhere(), 16), EFAULT, "write from no address");
    FAILS(writev(fd, px_nowhere(), 1), EFAULT, "writev with vectors at no address");
    FAILS(writev(fd, many, less), EINVAL, "writev with -1 vectors");
    FAILS(writev(fd, many, IOV_MAX + 1), EINVAL, "writev with one vector too many");
    FAILS(writev(fd, &huge, 1), EINVAL, "writev of more than SSIZE_MAX");
    EQUAL(px_stat("f").st_size, 0, "after all of which the file is empty");
    EQUAL(writev(fd, many, 0), 0, "writev with no vector");
    EQUAL(writev(fd, many, IOV_MAX), IOV_MAX, "writev with as many vectors as there may be");
    CLAIM(px_holds(fd, 0, IOV_MAX, 2), "writes each");
    FAILS(pwrite(fd, "x", 1, INT64_MAX - 4096), EFBIG, "beyond the largest file");
    EQUAL(px_stat("f").st_size, IOV_MAX, "after which the size is as it was");
    NEED(close(fd) == 0);
}

/* A buffer that ends where there is no memory: a part of it is written, or nothing. */
static void half_a_buffer(void)
{
    static const size_t sizes[] = {4096, 65536, MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t good = sizes[i];
        uint8_t *bytes =
            mmap(NULL, 2 * good, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);
        ssize_t n;

        NEED(bytes != MAP_FAILED && fd >= 0 && munmap(bytes + good, good) == 0);
        px_fill(bytes, good, 0, 4);
        n = write(fd, bytes, good + 100);
        CLAIM(n == -1 ? errno == EFAULT : n <= (ssize_t)good,
              "of a buffer with %zu good bytes no more is said to be written", good);
        n = n < 0 ? 0 : n;
        EQUAL(px_stat("f").st_size, n, "the size is that of what was written, %zu", good);
        CLAIM(px_holds(fd, 0, (size_t)n, 4), "which is right, %zu", good);
        NEED(munmap(bytes, good) == 0 && close(fd) == 0);
    }
}

static volatile sig_atomic_t xfsz;

static void on_xfsz(int number)
{
    (void)number;
    xfsz++;
}

static void size_limit(void)
{
    struct rlimit limit = {.rlim_cur = 10000, .rlim_max = RLIM_INFINITY};
    uint8_t bytes[8000];
    int fd = open("f", O_RDWR | O_CREAT, 0644), a;

    NEED(fd >= 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 10000;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, on_xfsz) != SIG_ERR);
    px_fill(bytes, 8000, 0, 5);
    EQUAL(write(fd, bytes, 8000), 8000, "below RLIMIT_FSIZE");
    px_fill(bytes, 8000, 8000, 5);
    EQUAL(write(fd, bytes, 8000), 2000, "a write that crosses it ends there");
    EQUAL(xfsz, 0, "without a signal");
    FAILS(write(fd, "x", 1), EFBIG, "a write at the limit");
    EQUAL(xfsz, 1, "with SIGXFSZ");
    FAILS(pwrite(fd, "x", 1, 20000), EFBIG, "a write beyond it");
    FAILS(ftruncate(fd, 10001), EFBIG, "ftruncate beyond it");
    FAILS(truncate("f", 10001), EFBIG, "truncate beyond it");
    FAILS(fallocate(fd, 0, 0, 10001), EFBIG, "fallocate beyond it");
    EQUAL(px_stat("f").st_size, 10000, "the size is the limit");
    CLAIM(px_holds(fd, 0, 10000, 5), "what is below it was written");
    EQUAL(pwrite(fd, "x", 1, 0), 1, "what is below is written still");
    a = open("f", O_WRONLY | O_APPEND);
    NEED(a >= 0);
    FAILS(write(a, "x", 1), EFBIG, "appending at the limit");
    limit.rlim_cur = 5000;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    OK(ftruncate(fd, 9000), "a file above the limit is made shorter");
    FAILS(pwrite(fd, "x", 1, 5000), EFBIG, "but not written above the limit, inside of it");
    limit.rlim_cur = RLIM_INFINITY;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0 && close(fd) == 0 && close(a) == 0);
}

/* The greatest size that a file takes; 0: that of any offset. */
static off_t largest(int fd)
{
    off_t fits = 0, too_much = INT64_MAX;

    if (ftruncate(fd, INT64_MAX) == 0) {
        return 0;
    }
    while (too_much - fits > 1) {
        off_t middle = fits + (too_much - fits) / 2;

        if (ftruncate(fd, middle) == 0) {
            fits = middle;
        } else {
            too_much = middle;
        }
    }
    return ftruncate(fd, 0) == 0 && fits < INT64_MAX / 2 ? fits : 0;
}

static void largest_file(void)
{
    uint8_t bytes[8192];
    int fd = open("f", O_RDWR | O_CREAT, 0644), a;
    off_t limit;

    NEED(fd >= 0);
    limit = largest(fd);
    if (limit == 0) {
        return; /* the kernel refuses such offsets before a file system is asked */
    }
    px_fill(bytes, sizeof(bytes), (uint64_t)limit - 4096, 5);
    EQUAL(pwrite(fd, bytes, 8192, limit - 4096), 4096, "a write that crosses the largest size");
    FAILS(pwrite(fd, bytes, 1, limit), EFBIG, "one at the largest size");
    FAILS(pwrite(fd, bytes, 1, limit + 1), EFBIG, "one beyond it");
    NEED(fsync(fd) == 0);
    EQUAL(px_stat("f").st_size, limit, "the size is the largest");
    CLAIM(px_holds(fd, (uint64_t)limit - 4096, 4096, 5), "what fits was written");
    NEED(ftruncate(fd, limit - 100) == 0);
    a = open("f", O_WRONLY | O_APPEND);
    NEED(a >= 0);
    EQUAL(write(a, bytes, 8192), 100, "an append that crosses the largest size");
    FAILS(write(a, bytes, 1), EFBIG, "and one at it");
    NEED(close(a) == 0 && close(fd) == 0);
    EQUAL(px_stat("f").st_size, limit, "after which the size is the largest again");
}

/* Set-ID bits: a user's write takes them; the set-group-ID bit of a file that its group may not
 * execute stays when the writer is of the group. */

static void set_id_bits(void)
{
    static const char *const names[] = {"root", "the owner", "another"};
    static const struct {
        mode_t before, after[3];
    } rows[] = {{04777, {04777, 0777, 0777}},  {02777, {02777, 0777, 0777}},
                {06777, {06777, 0777, 0777}},  {06766, {06766, 02766, 0766}},
                {06666, {06666, 02666, 0666}}, {01777, {01777, 01777, 01777}}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned who = 0; who < 3; who++) {
            int fd;

            NEED(px_write_file("f", "x", 1) == 0 && chown("f", px_uid(0), px_uid(0)) == 0);
            NEED(chmod("f", rows[i].before) == 0);
            if (who > 0) {
                px_become_user(who - 1);
            }
            fd = open("f", O_WRONLY);
            NEED(fd >= 0 && write(fd, "", 0) == 0);
            EQUAL(px_stat("f").st_mode & 07777, rows[i].before, "%04o after %s wrote nothing",
                  rows[i].before, names[who]);
            NEED(write(fd, "y", 1) == 1);
            if (rows[i].after[1] == rows[i].after[2] || who < 2 ||
                !px_impossible("write-set-gid")) {
                EQUAL(px_stat("f").st_mode & 07777, rows[i].after[who], "%04o after %s wrote",
                      rows[i].before, names[who]);
            }
            NEED(close(fd) == 0);
            px_become_root();
            NEED(unlink("f") == 0);
        }
    }
}

static void fifos(void)
{
    int r, w;

    NEED(mkfifo("p", 0644) == 0);
    FAILS(open("p", O_WRONLY | O_NONBLOCK), ENXIO, "a FIFO that nobody reads, without waiting");
    r = open("p", O_RDONLY | O_NONBLOCK);
    w = open("p", O_WRONLY | O_NONBLOCK);
    NEED(r >= 0 && w >= 0);
    FAILS(pwrite(w, "x", 1, 0), ESPIPE, "pwrite to a FIFO");
    FAILS(write(r, "x", 1), EBADF, "a FIFO open for reading");
    EQUAL(write(w, "x", 1), 1, "a FIFO with a reader");
    NEED(close(r) == 0);
    FAILS(write(w, "x", 1), EPIPE, "a FIFO whose reader is gone");
    NEED(close(w) == 0);
}

/* Two mounts: both write their halves of one file, block by block. */

static void interleaved(void)
{
    static const size_t blocks[] = {1, 1000, 4096, 5000};

    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        uint8_t bytes[5000];
        size_t len = blocks[i];
        int here, there;

        NEED(px_write_file("f", "", 0) == 0);
        here = open("f", O_RDWR);
        there = open(px_other("f"), O_RDWR);
        NEED(here >= 0 && there >= 0);
        for (size_t k = 0; k < 50; k++) {
            px_fill(bytes, len, k * len, 6);
            NEED(pwrite(k % 2 ? there : here, bytes, len, (off_t)(k * len)) == (ssize_t)len);
        }
        OK(close(here), "blocks of %zu are closed here", len);
        OK(close(there), "blocks of %zu are closed there", len);
        here = open("f", O_RDONLY);
        there = open(px_other("f"), O_RDONLY);
        NEED(here >= 0 && there >= 0);
        CLAIM(px_holds(here, 0, 50 * len, 6), "blocks of %zu written by turns are all here", len);
        CLAIM(px_holds(there, 0, 50 * len, 6), "blocks of %zu written by turns are all there", len);
        NEED(close(here) == 0 && close(there) == 0);
    }
}

const struct px_group px_write[] = {
    {"overwrites", overwrites, 0},
    {"small-pieces", small_pieces, 0},
    {"position", position, 0},
    {"times", times, 0},
    {"append", append, 0},
    {"append-from-many", append_from_many, 0},
    {"vectors", vectors, 0},
    {"flags", flags, 0},
    {"noappend", noappend, 0},
    {"bad-descriptors", bad_descriptors, 0},
    {"bad-arguments", bad_arguments, 0},
    {"half-a-buffer", half_a_buffer, 0},
    {"size-limit", size_limit, 0},
    {"largest-file", largest_file, 0},
    {"set-id-bits", set_id_bits, PX_ROOT},
    {"fifos", fifos, 0},
    {"interleaved", interleaved, PX_TWO},
    {NULL, NULL, 0},
};
