/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Record locks, open file description locks, flock(): POSIX.1-2024 fcntl; fcntl(2),
 * fcntl_locking(2), flock(2).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/posix/lock.h"

#define BYTES 16 /* of the model; locks beyond are tried apart */

/* What F_GETLK says is in the way of @type: the lock, l_type F_UNLCK for none. */
static struct flock in_way(int fd, int command, int type, off_t start, off_t len)
{
    struct flock lock = {
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    NEED(fcntl(fd, command, &lock) == 0);
    return lock;
}

/* Another process asks, through @path: byte by byte which locks there are. */

struct asked {
    const char *path;
    const char *want; /* BYTES of '.', 'r', 'w' */
};

static int ask_bytes(void *arg)
{
    const struct asked *asked = arg;
    int fd = open(asked->path, O_RDWR);

    for (int i = 0; i < BYTES; i++) {
        short type = in_way(fd, F_GETLK, F_WRLCK, i, 1).l_type;

        if ((type == F_UNLCK ? '.' : type == F_RDLCK ? 'r' : 'w') != asked->want[i]) {
            return 1;
        }
    }
    return in_way(fd, F_GETLK, F_WRLCK, BYTES, 0).l_type == F_UNLCK ? 0 : 1;
}

static bool others_see(const char *path, const char *want)
{
    struct asked asked = {.path = path, .want = want};

    return px_child(ask_bytes, &asked) == 0;
}

static const struct step {
    int type;
    off_t start, len;
    const char *want, *what;
} steps[] = {
    {F_WRLCK, 4, 4, "....wwww........", "a range is locked"},
    {F_WRLCK, 4, 4, "....wwww........", "the same again"},
    {F_RDLCK, 5, 2, "....wrrw........", "its middle is made a read lock: split in three"},
    {F_UNLCK, 5, 1, "....w.rw........", "a byte of that is unlocked"},
    {F_WRLCK, 5, 2, "....wwww........", "all is one write lock again"},
    {F_UNLCK, 6, 1, "....ww.w........", "unlocked in the middle"},
    {F_UNLCK, 0, 5, ".....w.w........", "unlocked over the start"},
    {F_RDLCK, 0, 16, "rrrrrrrrrrrrrrrr", "a read lock over all"},
    {F_WRLCK, 0, 1, "wrrrrrrrrrrrrrrr", "the first byte for writing"},
    {F_WRLCK, 15, 1, "wrrrrrrrrrrrrrrw", "the last"},
    {F_UNLCK, 8, 0, "wrrrrrrr........", "unlocked to the end of all"},
    {F_WRLCK, 6, 4, "wrrrrrwwww......", "over the end of one"},
    {F_RDLCK, 8, 4, "wrrrrrwwrrrr....", "over the end of the next"},
    {F_UNLCK, 12, 4, "wrrrrrwwrrrr....", "what is not locked is unlocked"},
    {F_RDLCK, 12, 2, "wrrrrrwwrrrrrr..", "just behind its like"},
    {F_UNLCK, 1, 9, "w.........rrrr..", "over several"},
    {F_UNLCK, 0, 0, "................", "all"},
};

static void ranges(void)
{
    int fd = open_file("f", O_RDWR);

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const struct step *s = &steps[i];

        OK(set(fd, F_SETLK, s->type, s->start, s->len), "fcntl: %s, step %zu", s->what, i);
        CLAIM(others_see("f", s->want), "others see it: %s, step %zu", s->what, i);
    }
    NEED(close(fd) == 0);
}

/* Who is in whose way */

struct attempt {
    const char *path;
    int command, type;
    off_t start, len;
};

/* 0: locked, 1: in the way, 2: another error */
static int attempt(void *arg)
{
    const struct attempt *a = arg;
    int fd = open(a->path, O_RDWR);

    if (fd >= 0 && set(fd, a->command, a->type, a->start, a->len) == 0) {
        return 0;
    }
    return errno == EAGAIN || errno == EACCES ? 1 : 2;
}

static const char *type_name(int type)
{
    return type == F_RDLCK ? "read lock" : "write lock";
}

static const struct {
    off_t start, len;
    bool meets;
} places[] = {{10, 10, true}, {0, 10, false}, {0, 11, true},  {20, 10, false}, {19, 1, true},
              {12, 2, true},  {0, 0, true},   {20, 0, false}, {5, 100, true}};

#define PLACES (sizeof(places) / sizeof(places[0]))

/* Locks of one kind against those of the other: all of them exclude each other the same way. */
static void who_meets(const char *held_path, const char *path, int held_command, int command,
                      const char *what)
{
    static const int types[] = {F_RDLCK, F_WRLCK};
    int fd = open_file(held_path, O_RDWR);

    for (int h = 0; h < 2; h++) {
        NEED(set(fd, held_command, types[h], 10, 10) == 0);
        for (int w = 0; w < 2; w++) {
            for (size_t i = 0; i < PLACES; i++) {
                struct attempt a = {path, command, types[w], places[i].start, places[i].len};
                bool blocks = places[i].meets && (types[h] == F_WRLCK || types[w] == F_WRLCK);

                EQUAL(px_child(attempt, &a), blocks, "%s: %s of 10 to 19, %s from %lld of %lld",
                      what, type_name(types[h]), type_name(types[w]), (long long)a.start,
                      (long long)a.len);
            }
        }
        NEED(set(fd, held_command, F_UNLCK, 0, 0) == 0);
    }
    NEED(close(fd) == 0);
}

static void conflicts(void)
{
    who_meets("f", "f", F_SETLK, F_SETLK, "POSIX, POSIX");
    who_meets("f", "f", F_OFD_SETLK, F_OFD_SETLK, "OFD, OFD");
    who_meets("f", "f", F_SETLK, F_OFD_SETLK, "POSIX, OFD");
    who_meets("f", "f", F_OFD_SETLK, F_SETLK, "OFD, POSIX");
}

static int ask_holder(void *arg)
{
    int fd = open("f", O_RDWR);
    struct flock l = in_way(fd, F_GETLK, F_RDLCK, 0, 0);

    CLAIM(l.l_type == F_WRLCK && l.l_whence == SEEK_SET, "F_GETLK tells of a write lock");
    EQUAL(l.l_start, 10, "where it starts");
    EQUAL(l.l_len, 10, "how long it is");
    EQUAL(l.l_pid, *(pid_t *)arg, "and who has it");
    l = in_way(fd, F_GETLK, F_RDLCK, 100, 0);
    EQUAL(l.l_type, F_WRLCK, "a lock to the end of all is told");
    EQUAL(l.l_start, 200, "with its start");
    EQUAL(l.l_len, 0, "and length 0");
    l = in_way(fd, F_GETLK, F_WRLCK, 30, 10);
    EQUAL(l.l_type, F_UNLCK, "of nothing in the way F_GETLK says F_UNLCK");
    EQUAL(l.l_start, 30, "and changes nothing else");
    return 0;
}

static void holder(void)
{
    int fd = open_file("f", O_RDWR);
    pid_t self = getpid();

    NEED(set(fd, F_SETLK, F_WRLCK, 10, 10) == 0 && set(fd, F_SETLK, F_WRLCK, 200, 0) == 0);
    NEED(px_child(ask_holder, &self) == 0);
    EQUAL(in_way(fd, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK,
          "one's own locks are in no one's way");
    EQUAL(in_way(fd, F_OFD_GETLK, F_WRLCK, 0, 0).l_type, F_WRLCK,
          "but in that of the open file description");
    NEED(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0 && set(fd, F_OFD_SETLK, F_WRLCK, 0, 5) == 0);
    EQUAL(in_way(fd, F_GETLK, F_RDLCK, 0, 0).l_type, F_WRLCK, "an OFD lock is told by F_GETLK");
    if (!px_impossible("ofd-pid")) {
        EQUAL(in_way(fd, F_GETLK, F_RDLCK, 0, 0).l_pid, -1, "as nobody's process");
    }
    NEED(close(fd) == 0);
}

static void relative(void)
{
    int fd = open_file("f", O_RDWR);
    struct flock cur = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -1, .l_len = 2};
    struct flock end = {.l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = -2, .l_len = 1};
    struct flock back = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = -3};

    NEED(ftruncate(fd, 14) == 0 && lseek(fd, 3, SEEK_SET) == 3);
    OK(fcntl(fd, F_SETLK, &cur), "from the position");
    CLAIM(others_see("f", "..ww............"), "which is where it was set");
    OK(fcntl(fd, F_SETLK, &end), "from the end");
    CLAIM(others_see("f", "..ww........r..."), "which is where the file ends");
    OK(fcntl(fd, F_SETLK, &back), "with a length below zero");
    CLAIM(others_see("f", "..ww...www..r..."), "which is what is before the start");
    NEED(close(fd) == 0);
}

/* Errors */

static void errors(void)
{
    int rw = open_file("f", O_RDWR), r = open("f", O_RDONLY), w = open("f", O_WRONLY);
    int path = open("f", O_PATH);
    struct flock l = {.l_type = F_WRLCK, .l_whence = 9};

    FAILS(set(r, F_SETLK, F_WRLCK, 0, 0), EBADF, "a write lock of what is open for reading");
    FAILS(set(w, F_SETLK, F_RDLCK, 0, 0), EBADF, "a read lock of what is open for writing");
    FAILS(set(r, F_OFD_SETLK, F_WRLCK, 0, 0), EBADF, "an OFD write lock of what is open to read");
    FAILS(set(w, F_OFD_SETLK, F_RDLCK, 0, 0), EBADF, "an OFD read lock of what is open to write");
    OK(set(r, F_SETLK, F_RDLCK, 0, 1), "a read lock of what is open for reading");
    OK(set(w, F_SETLK, F_WRLCK, 0, 1), "a write lock of what is open for writing");
    FAILS(set(-1, F_SETLK, F_RDLCK, 0, 0), EBADF, "no descriptor");
    FAILS(set(path, F_SETLK, F_RDLCK, 0, 0), EBADF, "an O_PATH descriptor");
    FAILS(fcntl(rw, F_SETLK, &l), EINVAL, "an unknown whence");
    FAILS(set(rw, F_SETLK, 77, 0, 0), EINVAL, "an unknown type");
    FAILS(set(rw, F_SETLK, F_WRLCK, -1, 1), EINVAL, "a start below zero");
    FAILS(set(rw, F_SETLK, F_WRLCK, 5, -6), EINVAL, "a range that goes below zero");
    CLAIM(set(rw, F_SETLK, F_WRLCK, INT64_MAX, 2) == -1 && (errno == EOVERFLOW || errno == EINVAL),
          "a range past the last offset");
    OK(set(rw, F_SETLK, F_WRLCK, INT64_MAX, 1), "the last byte there is");
    FAILS(fcntl(rw, F_SETLK, px_nowhere()), EFAULT, "no address");
    l = (struct flock){.l_type = F_WRLCK, .l_pid = 1};
    FAILS(fcntl(rw, F_OFD_SETLK, &l), EINVAL, "an OFD lock with a process number");
    l = (struct flock){.l_type = F_UNLCK};
    CLAIM(fcntl(rw, F_OFD_GETLK, &l) == 0 || errno == EINVAL, "F_OFD_GETLK of F_UNLCK");
    FAILS(flock(-1, LOCK_SH), EBADF, "flock of no descriptor");
    FAILS(flock(path, LOCK_SH), EBADF, "flock of an O_PATH descriptor");
    FAILS(flock(rw, 0), EINVAL, "flock of no operation");
    FAILS(flock(rw, LOCK_SH | LOCK_EX), EINVAL, "flock both shared and exclusive");
}

/* Release */

static int one_write_lock(void *arg)
{
    struct attempt a = {arg, F_SETLK, F_WRLCK, 0, 0};

    return attempt(&a);
}

static bool is_free(const char *path)
{
    return px_child(one_write_lock, (void *)(uintptr_t)path) == 0;
}

static int lock_and_exit(void *arg)
{
    return set(open("f", O_RDWR), *(int *)arg, F_WRLCK, 0, 0) ? 1 : 0;
}

static int is_not_inherited(void *arg)
{
    int fd = *(int *)arg;

    CLAIM(set(fd, F_SETLK, F_RDLCK, 0, 0) == -1 && (errno == EAGAIN || errno == EACCES),
          "a child does not have its parent's lock");
    NEED(close(fd) == 0);
    return 0;
}

static void released(void)
{
    int fd = open_file("f", O_RDWR), other = open("f", O_RDONLY), twin = dup(fd);
    int command = F_SETLK, ofd = F_OFD_SETLK;

    NEED(other >= 0 && twin >= 0 && set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
    CLAIM(!is_free("f"), "a lock is in the way");
    NEED(px_child(is_not_inherited, &fd) == 0);
    CLAIM(!is_free("f"), "a child's close does not release its parent's");
    NEED(close(other) == 0);
    CLAIM(is_free("f"), "the close of any descriptor of the file releases all locks");
    NEED(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && close(twin) == 0);
    CLAIM(is_free("f"), "that of a duplicate as well");
    EQUAL(px_child(lock_and_exit, &command), 0, "a child locks and ends");
    CLAIM(is_free("f"), "which releases its lock");
    EQUAL(px_child(lock_and_exit, &ofd), 0, "a child takes an OFD lock and ends");
    CLAIM(is_free("f"), "which releases that, too");
    NEED(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && unlink("f") == 0);
    other = open_file("f", O_RDWR);
    OK(set(other, F_OFD_SETLK, F_WRLCK, 0, 0), "a new file of that name is not locked");
    NEED(close(fd) == 0 && close(other) == 0);
}

/* Open file description locks belong to the open. */

static int child_has_ofd(void *arg)
{
    int fd = *(int *)arg;

    OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 5), "a child has its parent's OFD lock");
    NEED(close(fd) == 0);
    return 0;
}

static void descriptions(void)
{
    int fd = open_file("f", O_RDWR), other = open("f", O_RDWR), twin = dup(fd), third;

    NEED(other >= 0 && twin >= 0);
    OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 10), "an OFD lock");
    FAILS(set(other, F_OFD_SETLK, F_RDLCK, 5, 1), EAGAIN, "another open in the same process");
    OK(set(other, F_OFD_SETLK, F_RDLCK, 10, 1), "beside it");
    OK(set(twin, F_OFD_SETLK, F_RDLCK, 0, 10), "a duplicate changes it");
    OK(set(other, F_OFD_SETLK, F_RDLCK, 5, 1), "to what others may share");
    FAILS(set(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN, "but not write");
    NEED(set(other, F_OFD_SETLK, F_UNLCK, 0, 0) == 0);
    NEED(px_child(child_has_ofd, &fd) == 0);
    third = open("f", O_RDWR);
    NEED(third >= 0 && close(third) == 0);
    FAILS(set(other, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN, "the close of others releases none");
    NEED(close(twin) == 0);
    FAILS(set(other, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN, "nor that of a duplicate");
    NEED(close(fd) == 0);
    OK(set(other, F_OFD_SETLK, F_WRLCK, 0, 5), "the last close does");
    NEED(close(other) == 0);
}

/* flock */

static void whole_files(void)
{
    int fd = open_file("f", O_RDONLY), other = open("f", O_RDWR), twin = dup(fd);

    NEED(other >= 0 && twin >= 0);
    OK(flock(fd, LOCK_SH), "shared");
    OK(flock(other, LOCK_SH | LOCK_NB), "by two");
    FAILS(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK, "not exclusive while another shares");
    NEED(flock(other, LOCK_UN) == 0);
    OK(flock(fd, LOCK_EX | LOCK_NB), "what is open for reading is locked exclusively");
    FAILS(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK, "by one");
    OK(flock(twin, LOCK_SH | LOCK_NB), "a duplicate makes it shared");
    OK(flock(other, LOCK_SH | LOCK_NB), "after which another shares");
    NEED(flock(other, LOCK_UN) == 0 && flock(fd, LOCK_EX) == 0);
    OK(set(other, F_SETLK, F_WRLCK, 0, 0), "record locks do not meet those of flock");
    NEED(close(fd) == 0);
    FAILS(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK, "a duplicate keeps the lock");
    OK(flock(twin, LOCK_UN), "or gives it back");
    OK(flock(other, LOCK_EX | LOCK_NB), "for others");
    NEED(close(other) == 0);
    OK(flock(twin, LOCK_EX | LOCK_NB), "the last close gives it back as well");
    NEED(close(twin) == 0);
}

/* flock(2): the old lock goes first, so two that share may both ask for it alone. */

static int shared_then_alone(void *arg)
{
    const int *pipes = arg; /* told, go */
    int fd = open("f", O_RDWR);
    char byte;

    if (flock(fd, LOCK_SH) || write(pipes[0], "s", 1) != 1 || read(pipes[1], &byte, 1) != 1) {
        return 2;
    }
    (void)alarm(10); /* ends the wait of a system where they wait for each other */
    return flock(fd, LOCK_EX) ? 1 : 0;
}

static void flock_changes(void)
{
    int fd = open_file("f", O_RDWR), other = open("f", O_RDWR), told[2], go[2], pipes[2];
    pid_t pids[2];
    char byte;

    NEED(other >= 0 && flock(fd, LOCK_SH) == 0 && flock(other, LOCK_SH) == 0);
    FAILS(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK, "shared by two it is not to be had alone");
    OK(flock(other, LOCK_EX | LOCK_NB), "who tried that has lost what it had");
    NEED(flock(other, LOCK_UN) == 0 && pipe(told) == 0 && pipe(go) == 0);
    pipes[0] = told[1];
    pipes[1] = go[0];
    for (int i = 0; i < 2; i++) {
        pids[i] = px_start(shared_then_alone, pipes);
        NEED(read(told[0], &byte, 1) == 1);
    }
    NEED(write(go[1], "gg", 2) == 2);
    for (int i = 0; i < 2; i++) {
        EQUAL(px_wait(pids[i]), 0, "two that share both come to lock alone: the %s",
              i ? "other" : "one");
    }
    NEED(close(fd) == 0 && close(other) == 0);
}

static int child_unlocks(void *arg)
{
    return flock(*(int *)arg, LOCK_UN);
}

static void flock_of_children(void)
{
    int fd = open_file("f", O_RDWR), other = open("f", O_RDWR), dir = open(".", O_RDONLY), dir2;

    NEED(other >= 0 && flock(fd, LOCK_EX) == 0);
    EQUAL(px_child(child_unlocks, &fd), 0, "a child unlocks what it inherited");
    OK(flock(other, LOCK_EX | LOCK_NB), "for all");
    dir2 = open(".", O_RDONLY);
    NEED(dir >= 0 && dir2 >= 0);
    OK(flock(dir, LOCK_EX | LOCK_NB), "a directory is locked");
    FAILS(flock(dir2, LOCK_EX | LOCK_NB), EWOULDBLOCK, "by one");
    NEED(close(dir) == 0);
    OK(flock(dir2, LOCK_EX | LOCK_NB), "until it is closed");
    NEED(close(fd) == 0 && close(other) == 0 && close(dir2) == 0);
}

/* Two mounts */

static void conflicts_elsewhere(void)
{
    who_meets("f", px_other("f"), F_SETLK, F_SETLK, "mounts, POSIX, POSIX");
    who_meets("f", px_other("f"), F_OFD_SETLK, F_OFD_SETLK, "mounts, OFD, OFD");
    who_meets("f", px_other("f"), F_SETLK, F_OFD_SETLK, "mounts, POSIX, OFD");
}

static void ranges_elsewhere(void)
{
    int fd = open_file("f", O_RDWR);

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const struct step *s = &steps[i];

        NEED(set(fd, F_SETLK, s->type, s->start, s->len) == 0);
        CLAIM(others_see(px_other("f"), s->want), "the other mount sees it: %s, step %zu", s->what,
              i);
    }
    NEED(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
    CLAIM(!is_free(px_other("f")), "a lock here is in the way there");
    NEED(close(fd) == 0);
    CLAIM(is_free(px_other("f")), "its close here releases it there");
}

static void released_elsewhere(void)
{
    int there = open_file(px_other("f"), O_RDWR), free_at_once = 0;

    for (int i = 0; i < 30; i++) {
        int fd = open("f", O_RDWR);

        NEED(fd >= 0 && set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
        NEED(close(fd) == 0);
        free_at_once += set(there, F_SETLK, F_WRLCK, 0, 0) == 0;
        NEED(set(there, F_SETLK, F_UNLCK, 0, 0) == 0);
    }
    EQUAL(free_at_once, 30, "when close has returned the other mount has the lock at once");
    NEED(close(there) == 0);
}

static void flock_elsewhere(void)
{
    int fd = open_file("f", O_RDWR), there = open(px_other("f"), O_RDWR), dir, dir2;

    NEED(there >= 0);
    OK(flock(fd, LOCK_EX | LOCK_NB), "flock here");
    FAILS(flock(there, LOCK_SH | LOCK_NB), EWOULDBLOCK, "is in the way there");
    OK(flock(fd, LOCK_SH | LOCK_NB), "made shared here");
    OK(flock(there, LOCK_SH | LOCK_NB), "it is shared there");
    FAILS(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK, "and not exclusive here");
    NEED(close(there) == 0);
    OK(flock(fd, LOCK_EX), "until it is closed there"); /* FUSE: a moment after the close */
    NEED(close(fd) == 0);
    if (px_impossible("flock-directory")) {
        return;
    }
    dir = open(".", O_RDONLY);
    dir2 = open(px_other("."), O_RDONLY);
    NEED(dir >= 0 && dir2 >= 0 && flock(dir, LOCK_EX | LOCK_NB) == 0);
    FAILS(flock(dir2, LOCK_EX | LOCK_NB), EWOULDBLOCK, "flock of a directory is in the way there");
    NEED(close(dir) == 0 && close(dir2) == 0);
}

const struct px_group px_lock[] = {
    {"ranges", ranges, 0},
    {"conflicts", conflicts, 0},
    {"holder", holder, 0},
    {"relative", relative, 0},
    {"errors", errors, 0},
    {"released", released, 0},
    {"descriptions", descriptions, 0},
    {"whole-files", whole_files, 0},
    {"flock-changes", flock_changes, 0},
    {"flock-of-children", flock_of_children, 0},
    {"ranges-elsewhere", ranges_elsewhere, PX_TWO},
    {"released-elsewhere", released_elsewhere, PX_TWO},
    {"conflicts-elsewhere", conflicts_elsewhere, PX_TWO},
    {"flock-elsewhere", flock_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
