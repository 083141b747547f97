/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_file_range(), FICLONE, FIDEDUPERANGE, sendfile(), splice(): copy_file_range(2),
 * ioctl_ficlonerange(2), ioctl_fideduperange(2), sendfile(2), splice(2).
 */
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "tests/posix/posix.h"

#define MIB ((size_t)1 << 20)

static int open_filled(const char *path, size_t len, unsigned seed)
{
    int fd;

    NEED(px_make_filled(path, len, seed) == 0);
    fd = open(path, O_RDWR);
    NEED(fd >= 0);
    return fd;
}

/* Copies until all is done or nothing comes; returns how much. */
static size_t copy_all(int from, off_t at, int to, off_t to_at, size_t len)
{
    size_t done = 0;
    ssize_t n = 1;

    while (done < len && n > 0) {
        n = copy_file_range(from, &at, to, &to_at, len - done, 0);
        done += n > 0 ? (size_t)n : 0;
    }
    return n < 0 ? SIZE_MAX : done;
}

/* Do the bytes of @fd from @at on be those of @seed from @of on? */
static bool holds_moved(int fd, size_t at, size_t len, unsigned seed, size_t of)
{
    uint8_t *bytes = malloc(len + 1);
    bool right;

    NEED(bytes != NULL);
    right = pread(fd, bytes, len, (off_t)at) == (ssize_t)len && px_is_filled(bytes, len, of, seed);
    free(bytes);
    return right;
}

/* Where from, where to, how much: what is copied, and what stays around it. */

static void one_copy(size_t from, size_t to, size_t len, bool synced)
{
    const size_t size = 300000;
    const char *state = synced ? "synced" : "just written";
    size_t want = from >= size ? 0 : len < size - from ? len : size - from;
    size_t end = want ? to + want : 0;
    int in = open_filled("in", size, 1), out = open_filled("out", size, 2);

    NEED(!synced || (fsync(in) == 0 && fsync(out) == 0));
    EQUAL(copy_all(in, (off_t)from, out, (off_t)to, len), want, "%zu bytes from %zu to %zu, %s",
          len, from, to, state);
    EQUAL(px_stat("out").st_size, end > size ? end : size, "%zu from %zu to %zu, %s: the size", len,
          from, to, state);
    CLAIM(holds_moved(out, to, want, 1, from), "%zu from %zu to %zu, %s: is copied", len, from, to,
          state);
    CLAIM(px_holds(out, 0, to < size && want ? to : size, 2) &&
              (end >= size || px_holds(out, end, size - end, 2)) &&
              (to <= size || !want || px_holds(out, size, to - size, 0)),
          "%zu from %zu to %zu, %s: the rest stays", len, from, to, state);
    CLAIM(px_holds(in, 0, size, 1), "%zu from %zu to %zu, %s: so does the source", len, from, to,
          state);
    NEED(close(in) == 0 && close(out) == 0);
}

static void places(void)
{
    static const struct {
        size_t from, to, len;
    } rows[] = {{0, 0, 300000},      {0, 0, 1},          {1, 0, 4096},
                {0, 1, 4096},        {4096, 8192, 4096}, {100, 200, 70000},
                {0, 300000, 300000}, {0, 500000, 1000},  {299999, 0, 10},
                {300000, 0, 10},     {400000, 5, 10},    {250000, 250000, 100000},
                {0, 100, 0}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        one_copy(rows[i].from, rows[i].to, rows[i].len, false);
        one_copy(rows[i].from, rows[i].to, rows[i].len, true);
    }
}

static void positions(void)
{
    int in = open_filled("in", 10000, 1), out = open_filled("out", 0, 2);
    off_t at = 5000, to = 100;

    NEED(lseek(in, 1000, SEEK_SET) == 1000);
    EQUAL(copy_file_range(in, NULL, out, NULL, 500, 0), 500, "from position to position");
    EQUAL(lseek(in, 0, SEEK_CUR), 1500, "the source's moves");
    EQUAL(lseek(out, 0, SEEK_CUR), 500, "the target's moves");
    CLAIM(holds_moved(out, 0, 500, 1, 1000), "what was at the position is copied");
    EQUAL(copy_file_range(in, &at, out, &to, 300, 0), 300, "from offset to offset");
    EQUAL(at, 5300, "the source's offset moves");
    EQUAL(to, 400, "the target's offset moves");
    EQUAL(lseek(in, 0, SEEK_CUR), 1500, "the source's position stays");
    EQUAL(lseek(out, 0, SEEK_CUR), 500, "the target's position stays");
    EQUAL(copy_file_range(in, &at, out, NULL, 10, 0), 10, "from offset to position");
    EQUAL(lseek(out, 0, SEEK_CUR), 510, "only the position moves");
    at = 10000;
    EQUAL(copy_file_range(in, &at, out, NULL, 10, 0), 0, "at the end nothing is copied");
    EQUAL(at, 10000, "which leaves the offset");
    NEED(close(in) == 0 && close(out) == 0);
}

static void one_file(void)
{
    int fd = open_filled("f", 100000, 1), other = open("f", O_RDWR);
    off_t at = 0, to = 50000;

    NEED(other >= 0);
    EQUAL(copy_all(fd, 0, fd, 200000, 100000), 100000, "to behind itself");
    CLAIM(holds_moved(fd, 200000, 100000, 1, 0) && px_holds(fd, 0, 100000, 1),
          "both are there then");
    EQUAL(copy_all(fd, 0, other, 50000, 50000), 50000, "to just behind the range");
    CLAIM(holds_moved(fd, 50000, 50000, 1, 0), "which is right");
    FAILS(copy_file_range(fd, &at, other, &to, 50001, 0), EINVAL, "onto itself by one byte");
    at = to = 10;
    FAILS(copy_file_range(fd, &at, fd, &to, 10, 0), EINVAL, "onto the very same bytes");
    at = 100;
    FAILS(copy_file_range(fd, &at, fd, &to, 95, 0), EINVAL, "down onto itself");
    CLAIM(px_holds(fd, 0, 50000, 1), "after which nothing has changed");
    NEED(close(fd) == 0 && close(other) == 0);
}

static void holes(void)
{
    for (unsigned mask = 0; mask < 16; mask++) {
        int in = open_filled("in", 0, 1), out = open_filled("out", 4 * 65536, 2);
        uint8_t bytes[65536];
        bool right = true;

        NEED(ftruncate(in, 4 * 65536) == 0);
        for (unsigned i = 0; i < 4; i++) {
            px_fill(bytes, sizeof(bytes), i * 65536, 1);
            NEED(!(mask >> i & 1) || pwrite(in, bytes, 65536, i * 65536) == 65536);
        }
        EQUAL(copy_all(in, 0, out, 0, 4 * 65536), 4 * 65536, "across holes, cells %x", mask);
        for (unsigned i = 0; i < 4; i++) {
            right = right && px_holds(out, i * 65536, 65536, mask >> i & 1);
        }
        CLAIM(right, "holes become zeroes, cells %x", mask);
        NEED(close(in) == 0 && close(out) == 0);
    }
}

static void independent(void)
{
    int in = open_filled("in", MIB, 1), out = open_filled("out", 0, 2), again;
    uint8_t bytes[5000];

    EQUAL(copy_all(in, 0, out, 0, MIB), MIB, "1 MiB");
    px_fill(bytes, 5000, 1000, 3);
    NEED(pwrite(in, bytes, 5000, 1000) == 5000 && fsync(in) == 0);
    CLAIM(px_holds(out, 0, MIB, 1), "a copy does not change with its source");
    NEED(pwrite(out, bytes, 5000, 1000) == 5000 && fsync(out) == 0 && ftruncate(in, 0) == 0);
    CLAIM(px_holds(out, 0, 1000, 1) && px_holds(out, 1000, 5000, 3) &&
              px_holds(out, 6000, MIB - 6000, 1),
          "nor when its source is cut");
    NEED(close(in) == 0 && unlink("in") == 0 && close(out) == 0);
    again = open("out", O_RDONLY);
    CLAIM(px_holds(again, 6000, MIB - 6000, 1), "nor when its source is gone");
    NEED(close(again) == 0);
}

static void times(void)
{
    int in = open_filled("in", 1000, 1), out = open_filled("out", 0, 2);
    struct stat before = px_stat("out"), source;

    NEED(fsync(in) == 0);
    source = px_stat("in");
    px_tick();
    NEED(copy_all(in, 0, out, 0, 1000) == 1000);
    CLAIM(px_later(px_stat("out").st_mtim, before.st_mtim), "the target's mtime moves on");
    CLAIM(px_later(px_stat("out").st_ctim, before.st_ctim), "the target's ctime moves on");
    CLAIM(!px_later(px_stat("in").st_mtim, source.st_mtim), "the source's mtime stays");
    NEED(close(in) == 0 && close(out) == 0);
}

/* Errors */

static void descriptors(void)
{
    int in = open_filled("in", 100, 1), out = open_filled("out", 100, 2), pipes[2];
    struct {
        const char *name;
        int from, to, error;
    } rows[] = {{"from nothing", -1, out, EBADF},
                {"to nothing", in, -1, EBADF},
                {"from what is open for writing", open("in", O_WRONLY), out, EBADF},
                {"to what is open for reading", in, open("out", O_RDONLY), EBADF},
                {"to what is open for appending", in, open("out", O_WRONLY | O_APPEND), EBADF},
                {"from an O_PATH descriptor", open("in", O_PATH), out, EBADF},
                {"to an O_PATH descriptor", in, open("out", O_PATH), EBADF},
                {"from a directory", open(".", O_RDONLY), out, EISDIR},
                {"to a directory", in, open(".", O_RDONLY), -1},
                {"from a FIFO", mkfifo("p", 0644) ? -1 : open("p", O_RDWR), out, EINVAL},
                {"to a FIFO", in, open("p", O_RDWR), EINVAL},
                {"from a pipe", -2, out, EINVAL},
                {"to a pipe", in, -2, EINVAL}};

    NEED(pipe(pipes) == 0);
    rows[11].from = pipes[0];
    rows[12].to = pipes[1];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ssize_t n = copy_file_range(rows[i].from, NULL, rows[i].to, NULL, 10, 0);

        if (rows[i].error == -1) {
            CLAIM(n == -1 && (errno == EISDIR || errno == EBADF), "%s", rows[i].name);
        } else {
            FAILS(n, rows[i].error, "%s", rows[i].name);
        }
    }
    CLAIM(px_holds(out, 0, 100, 2), "after all of which the target is as it was");
}

static void arguments(void)
{
    int in = open_filled("in", 100, 1), out = open_filled("out", 100, 2), mem;
    off_t bad = -1, far = INT64_MAX - 10, at = 0;
    struct rlimit limit;

    FAILS(copy_file_range(in, NULL, out, NULL, 10, 1), EINVAL, "a flag");
    CLAIM(copy_file_range(in, &bad, out, NULL, 10, 0) == -1 &&
              (errno == EINVAL || errno == EOVERFLOW),
          "a source's offset below zero");
    CLAIM(copy_file_range(in, NULL, out, &bad, 10, 0) == -1 &&
              (errno == EINVAL || errno == EOVERFLOW),
          "a target's offset below zero");
    CLAIM(copy_file_range(in, &at, out, &far, 100, 0) == -1 &&
              (errno == EOVERFLOW || errno == EFBIG || errno == EINVAL),
          "a target's offset past the largest file");
    FAILS(copy_file_range(in, px_nowhere(), out, NULL, 10, 0), EFAULT, "no address");
    EQUAL(copy_file_range(in, NULL, out, NULL, 0, 0), 0, "nothing");
    mem = memfd_create("m", 0);
    NEED(mem >= 0 && write(mem, "abcdef", 6) == 6 && lseek(mem, 0, SEEK_SET) == 0);
    CLAIM(copy_file_range(mem, NULL, out, NULL, 6, 0) == 6 || errno == EXDEV,
          "from another file system: copied, or EXDEV");
    NEED(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 50;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    at = 50;
    FAILS(copy_file_range(in, NULL, out, &at, 10, 0), EFBIG, "at RLIMIT_FSIZE");
    at = 40;
    EQUAL(copy_file_range(in, NULL, out, &at, 20, 0), 10, "across RLIMIT_FSIZE: to the limit");
    limit.rlim_cur = RLIM_INFINITY;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0 && close(in) == 0 && close(out) == 0);
}

static void rights(void)
{
    int in, out;

    NEED(px_make_filled("in", 1000, 1) == 0 && px_make_filled("out", 10, 2) == 0);
    NEED(chmod("in", 0644) == 0 && chmod("out", 06777) == 0);
    px_become_user(0);
    in = open("in", O_RDONLY);
    out = open("out", O_WRONLY);
    NEED(in >= 0 && out >= 0);
    px_become_root();
    NEED(chmod("in", 0) == 0);
    px_become_user(1);
    EQUAL(copy_all(in, 0, out, 0, 1000), 1000, "what is open is copied, whoever does it");
    px_become_root();
    EQUAL(px_stat("out").st_mode & 07777, 0777, "a user's copy takes the set-ID bits");
    NEED(close(in) == 0 && close(out) == 0);
}

/* Clones: whole, or not at all. */

static void clones(void)
{
    int in = open_filled("in", MIB, 1), out = open_filled("out", 1000, 2), dir, r;
    struct file_clone_range range = {.src_fd = in, .src_length = 65536, .dest_offset = 65536};
    int ret = ioctl(out, FICLONE, in);

    CLAIM(ret == 0 || errno == EOPNOTSUPP, "FICLONE clones, or says that it cannot");
    CLAIM(ret ? px_stat("out").st_size == 1000 && px_holds(out, 0, 1000, 2)
              : px_stat("out").st_size == MIB && px_holds(out, 0, MIB, 1),
          "after FICLONE the target is the source, or what it was");
    ret = ioctl(out, FICLONERANGE, &range);
    CLAIM(ret == 0 || errno == EOPNOTSUPP, "FICLONERANGE clones, or says that it cannot");
    CLAIM(ret ? px_stat("out").st_size <= (off_t)MIB : holds_moved(out, 65536, 65536, 1, 0),
          "after FICLONERANGE the range is there, or the file as it was");
    dir = open(".", O_RDONLY);
    r = open("out", O_RDONLY);
    CLAIM(ioctl(out, FICLONE, dir) == -1, "no FICLONE of a directory");
    FAILS(ioctl(out, FICLONE, -1), EBADF, "FICLONE of nothing");
    CLAIM(ioctl(r, FICLONE, in) == -1 && (errno == EBADF || errno == EOPNOTSUPP),
          "no FICLONE to what is open for reading");
    NEED(close(in) == 0 && close(out) == 0 && close(dir) == 0 && close(r) == 0);
}

static void dedupes(void)
{
    union {
        struct file_dedupe_range head;
        char room[sizeof(struct file_dedupe_range) + sizeof(struct file_dedupe_range_info)];
    } u = {.head = {.src_length = 65536, .dest_count = 1}};
    int in = open_filled("in", 65536, 1), out = open_filled("out", 65536, 2), ret;
    struct file_dedupe_range_info *info = u.head.info;

    info->dest_fd = out;
    ret = ioctl(in, FIDEDUPERANGE, &u);
    CLAIM(ret == -1 ? errno == EOPNOTSUPP || errno == ENOTTY
                    : info->status == FILE_DEDUPE_RANGE_DIFFERS || info->status == -EOPNOTSUPP,
          "FIDEDUPERANGE of what differs says so, or that it cannot");
    CLAIM(px_holds(out, 0, 65536, 2) && px_holds(in, 0, 65536, 1),
          "FIDEDUPERANGE changes no contents");
    NEED(close(in) == 0 && close(out) == 0);
}

/* sendfile and splice */

static void sends(void)
{
    static const size_t sizes[] = {0, 1, 4097, 100000, 3 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i], done = 0;
        int in = open_filled("in", size, 1), out = open_filled("out", 10, 2);
        ssize_t n = 1;

        while (n > 0) {
            n = sendfile(out, in, NULL, 10 * MIB);
            done += n > 0 ? (size_t)n : 0;
        }
        EQUAL(done, size, "sendfile of %zu bytes", size);
        CLAIM(px_holds(out, 0, size, 1), "sendfile of %zu bytes: they are right", size);
        EQUAL(lseek(in, 0, SEEK_CUR), size, "sendfile of %zu bytes: the source's position", size);
        EQUAL(lseek(out, 0, SEEK_CUR), size, "sendfile of %zu bytes: the target's position", size);
        NEED(close(in) == 0 && close(out) == 0);
    }
}

static void send_details(void)
{
    int in = open_filled("in", 5000, 1), out = open_filled("out", 10, 2), sockets[2];
    int append = open("out", O_WRONLY | O_APPEND), r = open("out", O_RDONLY);
    off_t at = 1000;
    uint8_t bytes[5000];

    NEED(append >= 0 && r >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    EQUAL(sendfile(sockets[0], in, &at, 3000), 3000, "sendfile from an offset to a socket");
    EQUAL(at, 4000, "moves the offset");
    EQUAL(lseek(in, 0, SEEK_CUR), 0, "and leaves the position");
    EQUAL(recv(sockets[1], bytes, 5000, MSG_WAITALL | MSG_DONTWAIT), 3000, "it comes out");
    CLAIM(px_is_filled(bytes, 3000, 1000, 1), "as it is in the file");
    EQUAL(sendfile(sockets[0], in, &at, 3000), 1000, "sendfile ends at the end");
    EQUAL(sendfile(sockets[0], in, &at, 3000), 0, "where there is no more");
    FAILS(sendfile(append, in, NULL, 10), EINVAL, "sendfile to what is open for appending");
    FAILS(sendfile(r, in, NULL, 10), EBADF, "sendfile to what is open for reading");
    FAILS(sendfile(out, append, NULL, 10), EBADF, "sendfile from what is open for writing");
    FAILS(sendfile(out, -1, NULL, 10), EBADF, "sendfile from nothing");
    at = -1;
    FAILS(sendfile(out, in, &at, 10), EINVAL, "sendfile from below zero");
    CLAIM(px_holds(out, 0, 10, 2), "what failed sent nothing");
}

static void splices(void)
{
    int in = open_filled("in", 300000, 1), out = open_filled("out", 0, 2), pipes[2];
    int append = open("out", O_WRONLY | O_APPEND);
    loff_t from = 100, to = 7000, end = 300000;
    size_t done = 0;
    ssize_t n = 1;

    NEED(pipe(pipes) == 0 && append >= 0);
    while (n > 0) {
        n = splice(in, &from, pipes[1], NULL, 65536, 0);
        for (ssize_t left = n; left > 0;) {
            ssize_t m = splice(pipes[0], NULL, out, &to, (size_t)left, 0);

            NEED(m > 0);
            left -= m;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    EQUAL(done, 299900, "through a pipe, to the end");
    EQUAL(from, 300000, "the source's offset has moved");
    EQUAL(to, 7000 + 299900, "the target's offset has moved");
    CLAIM(holds_moved(out, 7000, 299900, 1, 100), "what went through is right");
    CLAIM(px_holds(out, 0, 7000, 0), "before it are zeroes");
    EQUAL(splice(in, &end, pipes[1], NULL, 10, 0), 0, "at the end nothing goes in");
    FAILS(splice(in, &end, pipes[1], &end, 10, 0), ESPIPE, "an offset of a pipe");
    FAILS(splice(in, NULL, out, NULL, 10, 0), EINVAL, "without a pipe");
    NEED(write(pipes[1], "abc", 3) == 3);
    FAILS(splice(pipes[0], NULL, append, NULL, 3, 0), EINVAL, "to what is open for appending");
    FAILS(splice(pipes[0], NULL, -1, NULL, 3, 0), EBADF, "to nothing");
    FAILS(splice(out, NULL, pipes[1], NULL, 3, 1 << 20), EINVAL, "an unknown flag of splice");
}

/* Two mounts */

static void between_mounts(void)
{
    static const size_t sizes[] = {1, 5000, 300000, 5 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        int in, out, there;

        NEED(px_make_filled(px_other("in"), size, 1) == 0);
        in = open("in", O_RDONLY);
        out = open_filled("out", 10, 2);
        EQUAL(copy_all(in, 0, out, 0, size), size, "%zu bytes written there are copied here", size);
        NEED(close(out) == 0);
        there = open(px_other("out"), O_RDWR);
        NEED(there >= 0);
        CLAIM(px_holds(there, 0, size, 1), "the copy of %zu bytes is read there", size);
        EQUAL(copy_all(in, 0, there, (off_t)size, size), size, "%zu bytes from here to there",
              size);
        NEED(close(there) == 0 && close(in) == 0);
        there = open("out", O_RDONLY);
        CLAIM(holds_moved(there, size, size, 1, 0), "%zu bytes from mount to mount are right",
              size);
        NEED(close(there) == 0);
    }
}

const struct px_group px_copy[] = {
    {"places", places, 0},
    {"positions", positions, 0},
    {"one-file", one_file, 0},
    {"holes", holes, 0},
    {"independent", independent, 0},
    {"times", times, 0},
    {"descriptors", descriptors, 0},
    {"arguments", arguments, 0},
    {"rights", rights, PX_ROOT},
    {"clones", clones, 0},
    {"dedupes", dedupes, 0},
    {"sends", sends, 0},
    {"send-details", send_details, 0},
    {"splices", splices, 0},
    {"between-mounts", between_mounts, PX_TWO},
    {NULL, NULL, 0},
};
