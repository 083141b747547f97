/* SPDX-License-Identifier: Apache-2.0 */
/* truncate(), ftruncate(): POSIX.1-2024; truncate(2). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

/* From every size to every size, with what is written lying in memory, or synced, or closed. */

static void one_change(uint64_t from, uint64_t to, int state)
{
    static const char *const states[] = {"just written", "synced", "closed"};
    uint64_t kept = from < to ? from : to;
    uint8_t *bytes = malloc(from + 1);
    int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);

    NEED(fd >= 0 && bytes);
    px_fill(bytes, from, 0, 1);
    NEED(write(fd, bytes, from) == (ssize_t)from);
    NEED(state != 1 || fsync(fd) == 0);
    if (state == 2) {
        NEED(close(fd) == 0);
        OK(truncate("f", (off_t)to), "%s: %llu to %llu bytes", states[state],
           (unsigned long long)from, (unsigned long long)to);
        fd = open("f", O_RDWR);
        NEED(fd >= 0);
    } else {
        OK(ftruncate(fd, (off_t)to), "%s: %llu to %llu bytes", states[state],
           (unsigned long long)from, (unsigned long long)to);
    }
    EQUAL(px_stat("f").st_size, to, "%s, %llu to %llu: the size", states[state],
          (unsigned long long)from, (unsigned long long)to);
    CLAIM(px_holds(fd, 0, kept, 1), "%s, %llu to %llu: what is left is as it was", states[state],
          (unsigned long long)from, (unsigned long long)to);
    CLAIM(px_holds(fd, kept, to - kept, 0), "%s, %llu to %llu: what is new is zero", states[state],
          (unsigned long long)from, (unsigned long long)to);
    if (to < from) {
        NEED(ftruncate(fd, (off_t)from) == 0);
        CLAIM(px_holds(fd, 0, kept, 1) && px_holds(fd, kept, from - kept, 0),
              "%s, %llu to %llu and back: what was cut is zero", states[state],
              (unsigned long long)from, (unsigned long long)to);
    }
    free(bytes);
    NEED(close(fd) == 0);
}

static void sizes(void)
{
    static const uint64_t rows[] = {0, 1, 4095, 4096, 4097, 65536, 300000, 5 * MIB + 1};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            for (int state = 0; state < 3; state++) {
                one_change(rows[i], rows[j], state);
            }
        }
    }
}

static void cut_and_written(void)
{
    uint8_t bytes[1000];
    int fd;

    for (unsigned cut = 0; cut < 10000; cut += 1111) {
        NEED(px_make_filled("f", 10000, 2) == 0);
        fd = open("f", O_RDWR);
        px_fill(bytes, 1000, 12000, 3);
        NEED(fd >= 0 && ftruncate(fd, cut) == 0 && pwrite(fd, bytes, 1000, 12000) == 1000);
        CLAIM(px_holds(fd, 0, cut, 2) && px_holds(fd, cut, 12000 - cut, 0) &&
                  px_holds(fd, 12000, 1000, 3),
              "cut to %u and written behind: zeroes between", cut);
        NEED(ftruncate(fd, 11000) == 0 && fsync(fd) == 0 && ftruncate(fd, 13000) == 0);
        CLAIM(px_holds(fd, 0, cut, 2) && px_holds(fd, cut, 13000 - cut, 0),
              "and cut again, from %u: zeroes to the end", cut);
        NEED(close(fd) == 0);
    }
}

static void large(void)
{
    static const uint64_t rows[] = {2 * GIB - 1, 2 * GIB, 4 * GIB - 1,    4 * GIB + 1,
                                    TIB,         8 * TIB, 16 * TIB - 4096};
    char byte;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned long long size = rows[i];
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);

        NEED(fd >= 0 && write(fd, "start", 5) == 5);
        OK(ftruncate(fd, (off_t)size), "to %llu bytes", size);
        EQUAL(px_stat("f").st_size, size, "%llu bytes: the size", size);
        EQUAL(lseek(fd, 0, SEEK_END), size, "%llu bytes: the end", size);
        CLAIM(px_holds(fd, size - 70000, 70000, 0), "%llu bytes: the last ones are zero", size);
        CLAIM(px_holds(fd, size / 2, 70000, 0), "%llu bytes: those in the middle are zero", size);
        EQUAL(pread(fd, &byte, 1, (off_t)size), 0, "%llu bytes: behind them is nothing", size);
        EQUAL(pwrite(fd, "e", 1, (off_t)size - 1), 1, "%llu bytes: the last is written", size);
        EQUAL(pread(fd, &byte, 1, (off_t)size - 1), 1, "%llu bytes: and read", size);
        CLAIM(byte == 'e', "%llu bytes: as it was written", size);
        OK(fsync(fd), "%llu bytes: synced", size);
        CLAIM(px_stat("f").st_blocks < 2048, "%llu bytes: most of them take no space", size);
        OK(ftruncate(fd, 5), "%llu bytes: back to five", size);
        EQUAL(pread(fd, &byte, 1, 4), 1, "%llu bytes: the fifth is there", size);
        CLAIM(byte == 't', "%llu bytes: and what it was", size);
        NEED(close(fd) == 0);
    }
    FAILS(truncate("f", INT64_MAX), EFBIG, "larger than any file");
    EQUAL(px_stat("f").st_size, 5, "which leaves the size");
}

/* Times */

static void times(void)
{
    static const struct {
        off_t size;
        const char *name;
    } rows[] = {{50, "shorter"}, {5000, "longer"}, {0, "empty"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int by_fd = 0; by_fd < 2; by_fd++) {
            const char *call = by_fd ? "ftruncate" : "truncate";
            struct stat before;
            int fd;

            NEED(px_make_filled("f", 100, 1) == 0);
            fd = open("f", O_RDWR);
            before = px_stat("f");
            px_tick();
            NEED(fd >= 0 &&
                 (by_fd ? ftruncate(fd, rows[i].size) : truncate("f", rows[i].size)) == 0);
            CLAIM(px_later(px_stat("f").st_mtim, before.st_mtim), "%s, %s: mtime moves on", call,
                  rows[i].name);
            CLAIM(px_later(px_stat("f").st_ctim, before.st_ctim), "%s, %s: ctime moves on", call,
                  rows[i].name);
            before = px_stat("f");
            px_tick();
            NEED(ftruncate(fd, -1) == -1 && truncate("f", -1) == -1);
            CLAIM(!px_later(px_stat("f").st_ctim, before.st_ctim),
                  "%s, %s: and a failure moves nothing", call, rows[i].name);
            NEED(close(fd) == 0);
        }
    }
}

/* ftruncate marks the times of a file whose size it leaves. */
static void same_size(void)
{
    struct stat before;
    int fd;

    NEED(px_make_filled("f", 100, 1) == 0);
    fd = open("f", O_RDWR);
    before = px_stat("f");
    px_tick();
    OK(ftruncate(fd, 100), "to the size it has");
    CLAIM(px_later(px_stat("f").st_mtim, before.st_mtim), "ftruncate to the same size: mtime");
    CLAIM(px_later(px_stat("f").st_ctim, before.st_ctim), "ftruncate to the same size: ctime");
    CLAIM(px_holds(fd, 0, 100, 1), "ftruncate to the same size: the bytes stay");
    NEED(close(fd) == 0);
}

/* Errors */

static void types(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        int error = type == PX_REG    ? 0
                    : type == PX_DIR  ? EISDIR
                    : type == PX_LINK ? ENOENT /* leads nowhere */
                                      : EINVAL;

        NEED(px_make(type, "x", 0755) == 0);
        if (error) {
            FAILS(truncate("x", 0), error, "truncate of a %s", px_type_name(type));
            FAILS(truncate("x", 10), error, "truncate of a %s, to ten", px_type_name(type));
        } else {
            OK(truncate("x", 0), "truncate of a %s", px_type_name(type));
            OK(truncate("x", 10), "truncate of a %s, to ten", px_type_name(type));
        }
        NEED(remove("x") == 0);
    }
    NEED(px_make_filled("f", 100, 1) == 0 && symlink("f", "to-f") == 0);
    OK(truncate("to-f", 10), "through a link");
    EQUAL(px_stat("f").st_size, 10, "which cuts what it leads to");
    EQUAL(px_stat("to-f").st_size, 1, "and not the link");
}

static void descriptors(void)
{
    int fds[6], pipes[2];

    NEED(px_make_filled("f", 100, 1) == 0 && mkfifo("p", 0644) == 0 && pipe(pipes) == 0);
    fds[0] = open("f", O_RDONLY);
    fds[1] = open("f", O_PATH);
    fds[2] = open(".", O_RDONLY);
    fds[3] = open("p", O_RDWR);
    FAILS(ftruncate(fds[0], 10), EINVAL, "what is open for reading");
    FAILS(ftruncate(fds[1], 10), EBADF, "an O_PATH descriptor");
    CLAIM(ftruncate(fds[2], 10) == -1 && (errno == EINVAL || errno == EBADF), "a directory");
    FAILS(ftruncate(fds[3], 10), EINVAL, "a FIFO");
    FAILS(ftruncate(pipes[1], 10), EINVAL, "a pipe");
    FAILS(ftruncate(-1, 10), EBADF, "no descriptor");
    fds[4] = open("f", O_WRONLY);
    FAILS(ftruncate(fds[4], -1), EINVAL, "to less than nothing");
    EQUAL(px_stat("f").st_size, 100, "after all of which the size is as it was");
    OK(ftruncate(fds[4], 10), "what is open for writing");
    fds[5] = open("f", O_WRONLY | O_APPEND);
    OK(ftruncate(fds[5], 5), "what is open for appending");
    EQUAL(lseek(fds[4], 0, SEEK_CUR), 0, "no position moves");
}

static void bad_paths(void)
{
    NEED(px_make_filled("f", 100, 1) == 0 && symlink("loop", "loop") == 0);
    FAILS(truncate("none", 0), ENOENT, "what is not there");
    FAILS(truncate("", 0), ENOENT, "an empty path");
    FAILS(truncate("none/f", 0), ENOENT, "in a directory that is not there");
    FAILS(truncate("f/x", 0), ENOTDIR, "below a file");
    FAILS(truncate("f/", 0), ENOTDIR, "a file with a slash behind its name");
    FAILS(truncate("loop", 0), ELOOP, "a loop");
    FAILS(truncate(px_long_name('n', PX_NAME_MAX + 1), 0), ENAMETOOLONG, "a name of 256 bytes");
    FAILS(truncate(px_long_name('/', 4096), 0), ENAMETOOLONG, "a path of 4,096 bytes");
    FAILS(truncate(px_nowhere(), 0), EFAULT, "no address");
    FAILS(truncate("f", -1), EINVAL, "to a length below zero");
    FAILS(truncate("f", INT64_MIN), EINVAL, "to the least length");
    EQUAL(px_stat("f").st_size, 100, "after which nothing was cut");
}

static int sleep_in_copy(void *arg)
{
    (void)arg;
    (void)execl("./prog", "prog", "60", (char *)NULL);
    return 1;
}

static void running_program(void)
{
    char *bytes;
    size_t len;
    pid_t pid;
    int status;
    char exe[64], at[16] = "";

    bytes = px_read_file("/bin/sleep", &len);
    NEED(bytes && px_write_file("prog", bytes, len) == 0 && chmod("prog", 0755) == 0);
    free(bytes);
    pid = px_start(sleep_in_copy, NULL);
    (void)snprintf(exe, sizeof(exe), "/proc/%d/comm", (int)pid);
    for (int i = 0; i < 300 && strncmp(at, "prog", 4) != 0; i++) {
        char *comm = px_read_file(exe, NULL);

        (void)snprintf(at, sizeof(at), "%s", comm ? comm : "");
        free(comm);
        px_tick();
    }
    FAILS(truncate("prog", 10), ETXTBSY, "a program that runs");
    EQUAL(px_stat("prog").st_size, len, "keeps its size");
    NEED(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    OK(truncate("prog", 10), "one that has ended");
}

/* Rights: each class of mode bits, as owner, as group, as other, as root. */

static void rights(void)
{
    NEED(mkdir("d", 0755) == 0);
    for (unsigned who = 0; who < 3; who++) {
        static const char *const names[] = {"owner", "group", "other"};

        for (unsigned bits = 0; bits < 8; bits++) {
            mode_t mode = (mode_t)(0777 & ~(7u << (6 - 3 * who))) | bits << (6 - 3 * who);
            gid_t gid = px_uid(1);
            int fd;

            NEED(px_make_filled("d/f", 100, 1) == 0 && chown("d/f", px_uid(0), gid) == 0);
            NEED(chmod("d/f", mode) == 0);
            px_become(px_uid(who), who == 2 ? px_uid(2) : who == 1 ? gid : px_uid(0), NULL, 0);
            if (bits & 2) {
                OK(truncate("d/f", 10), "%s with bits %o", names[who], bits);
            } else {
                FAILS(truncate("d/f", 10), EACCES, "%s with bits %o", names[who], bits);
            }
            px_become_root();
            EQUAL(px_stat("d/f").st_size, bits & 2 ? 10 : 100, "the size after %s with bits %o",
                  names[who], bits);
            fd = open("d/f", O_WRONLY);
            NEED(fd >= 0 && chmod("d/f", 0) == 0);
            px_become_user(3);
            OK(ftruncate(fd, 20), "ftruncate of what was opened before, %s %o", names[who], bits);
            px_become_root();
            NEED(close(fd) == 0 && unlink("d/f") == 0);
        }
    }
    NEED(px_make_filled("d/f", 100, 1) == 0 && chmod("d/f", 0666) == 0 && chmod("d", 0700) == 0);
    px_become_user(0);
    FAILS(truncate("d/f", 0), EACCES, "in a directory that may not be searched");
    px_become_root();
    NEED(chmod("d/f", 0) == 0);
    OK(truncate("d/f", 0), "root, whatever the mode");
}

static void set_id_bits(void)
{
    static const mode_t rows[] = {04777, 02777, 06777};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int by_fd = 0; by_fd < 2; by_fd++) {
            int fd;

            NEED(px_make_filled("f", 100, 1) == 0 && chown("f", px_uid(0), px_uid(0)) == 0);
            NEED(chmod("f", rows[i]) == 0);
            px_become_user(1);
            fd = open("f", O_WRONLY);
            NEED(fd >= 0 && (by_fd ? ftruncate(fd, 10) : truncate("f", 10)) == 0);
            EQUAL(px_stat("f").st_mode & 07777, 0777, "%04o after another's %s", rows[i],
                  by_fd ? "ftruncate" : "truncate");
            NEED(close(fd) == 0);
            px_become_root();
            NEED(unlink("f") == 0);
        }
    }
}

/* Two mounts */

static void seen_elsewhere(void)
{
    static const uint64_t rows[] = {0, 1, 4097, 300000, 5 * MIB};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned long long to = rows[i];
        int fd, there;

        NEED(px_make_filled("f", 100000, 1) == 0);
        there = open(px_other("f"), O_RDWR);
        NEED(there >= 0 && px_holds(there, 0, 100000, 1));
        fd = open("f", O_RDWR);
        NEED(fd >= 0);
        OK(ftruncate(fd, (off_t)to), "to %llu here", to);
        EQUAL(lseek(there, 0, SEEK_END), to, "to %llu here: the end there", to);
        CLAIM(px_holds(there, 0, to < 100000 ? to : 100000, 1), "to %llu here: the start there",
              to);
        NEED(close(there) == 0);
        OK(truncate(px_other("f"), 200000), "from %llu to 200,000 there", to);
        EQUAL(px_stat("f").st_size, 200000, "from %llu to 200,000 there: the size here", to);
        to = to < 100000 ? to : 100000;
        CLAIM(px_holds(fd, 0, to, 1) && px_holds(fd, to, 200000 - to, 0),
              "from %llu, number %zu: zeroes here behind what was left", to, i);
        NEED(close(fd) == 0);
    }
}

const struct px_group px_truncate[] = {
    {"sizes", sizes, 0},
    {"cut-and-written", cut_and_written, 0},
    {"large", large, 0},
    {"times", times, 0},
    {"same-size", same_size, 0},
    {"types", types, 0},
    {"descriptors", descriptors, 0},
    {"bad-paths", bad_paths, 0},
    {"running-program", running_program, 0},
    {"rights", rights, PX_ROOT},
    {"set-id-bits", set_id_bits, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
