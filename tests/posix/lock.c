/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Record locks, open file description locks, flock(): POSIX.1-2024 fcntl; fcntl(2),
 * fcntl_locking(2), flock(2).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define BYTES 16 /* of the model; locks beyond are tried apart */

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CREAT, 0644);

    NEED(fd >= 0);
    return fd;
}

static int set(int fd, int command, int type, off_t start, off_t len)
{
    struct flock lock = {
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return fcntl(fd, command, &lock);
}

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

/* Waiting */

static volatile sig_atomic_t rang;

static void on_signal(int number)
{
    (void)number;
    rang++;
}

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
}

enum kind { POSIX, OFD, FLOCK, KINDS };
static const char *const kinds[] = {"POSIX", "OFD", "flock"};

static int lock_by(enum kind kind, int fd, bool exclusive, bool wait)
{
    int type = exclusive ? F_WRLCK : F_RDLCK;

    if (kind == FLOCK) {
        return flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
    }
    if (kind == OFD) {
        return set(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, type, 0, 10);
    }
    return set(fd, wait ? F_SETLKW : F_SETLK, type, 0, 10);
}

static int unlock_by(enum kind kind, int fd)
{
    return kind == FLOCK ? flock(fd, LOCK_UN)
                         : set(fd, kind == OFD ? F_OFD_SETLK : F_SETLK, F_UNLCK, 0, 10);
}

struct waiter {
    enum kind kind;
    const char *path;
    bool interrupted;
    int told; /* a byte goes there before it waits, one when it has the lock */
};

/* 0: locked, 1: EINTR, 2: other */
static int wait_for(void *arg)
{
    const struct waiter *w = arg;
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    int fd = open(w->path, O_RDWR), ret;

    if (w->interrupted) {
        (void)sigaction(SIGUSR1, &action, NULL);
    }
    (void)!write(w->told, "w", 1);
    ret = lock_by(w->kind, fd, true, true);
    if (ret == 0) {
        (void)!write(w->told, "l", 1);
        return 0;
    }
    return errno == EINTR ? 1 : 2;
}

static void interrupts(const char *held, const char *path)
{
    for (int k = 0; k < KINDS; k++) {
        struct waiter w = {.kind = (enum kind)k, .path = path, .interrupted = true};
        int fd = open_file(held, O_RDWR), pipes[2];
        pid_t pid;
        char byte;

        NEED(pipe(pipes) == 0 && lock_by(w.kind, fd, true, false) == 0);
        w.told = pipes[1];
        pid = px_start(wait_for, &w);
        NEED(read(pipes[0], &byte, 1) == 1);
        sleep_ms(100);
        NEED(kill(pid, SIGUSR1) == 0);
        EQUAL(px_wait(pid), 1, "a signal ends the wait for a %s lock: EINTR", kinds[k]);
        NEED(unlock_by(w.kind, fd) == 0);
        OK(lock_by(w.kind, open(path, O_RDWR), true, false), "who was interrupted has no %s lock",
           kinds[k]);
        NEED(close(fd) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0 && unlink(held) == 0);
    }
}

static void interrupted(void)
{
    interrupts("f", "f");
}

/* Waits, is killed: nobody is in the way of the next. */
static void killed_waiter(void)
{
    for (int k = 0; k < KINDS; k++) {
        struct waiter w = {.kind = (enum kind)k, .path = "f"};
        int fd = open_file("f", O_RDWR), pipes[2], status;
        pid_t pid;
        char byte;

        NEED(pipe(pipes) == 0 && lock_by(w.kind, fd, true, false) == 0);
        w.told = pipes[1];
        pid = px_start(wait_for, &w);
        NEED(read(pipes[0], &byte, 1) == 1);
        sleep_ms(50);
        NEED(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
        NEED(unlock_by(w.kind, fd) == 0);
        sleep_ms(50);
        OK(lock_by(w.kind, fd, true, false), "one that waited for a %s lock was killed: it is free",
           kinds[k]);
        NEED(close(fd) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0 && unlink("f") == 0);
    }
}

#define WAITERS 5

static void hands_over(const char *held, const char *path)
{
    for (int k = 0; k < KINDS; k++) {
        struct waiter w = {.kind = (enum kind)k, .path = path};
        int fd = open_file(held, O_RDWR), pipes[2], got = 0, before = 0;
        pid_t pids[WAITERS];
        char byte;

        NEED(pipe2(pipes, 0) == 0 && lock_by(w.kind, fd, true, false) == 0);
        w.told = pipes[1];
        for (int i = 0; i < WAITERS; i++) {
            pids[i] = px_start(wait_for, &w);
        }
        for (int i = 0; i < WAITERS; i++) {
            NEED(read(pipes[0], &byte, 1) == 1);
            before += byte == 'l';
        }
        sleep_ms(100);
        EQUAL(before, 0, "%s: none has the lock while it is held", kinds[k]);
        NEED(unlock_by(w.kind, fd) == 0);
        for (int i = 0; i < WAITERS; i++) {
            got += px_wait(pids[i]) == 0;
        }
        EQUAL(got, WAITERS, "%s: all get it, one after the other", kinds[k]);
        OK(lock_by(w.kind, fd, true, true), "%s: and the first has it again", kinds[k]);
        NEED(close(fd) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0 && unlink(held) == 0);
    }
}

static void handed_over(void)
{
    hands_over("f", "f");
}

/* A counter in a file, raised under a lock by several: none is lost. */

struct counter {
    const char *path;
    enum kind kind;
    int rounds;
};

static int count_up(void *arg)
{
    const struct counter *c = arg;

    for (int i = 0; i < c->rounds; i++) {
        int fd = open(c->path, O_RDWR);
        unsigned n = 0;

        if (fd < 0 || lock_by(c->kind, fd, true, true) || pread(fd, &n, sizeof(n), 0) < 0) {
            return 1;
        }
        n++;
        if (pwrite(fd, &n, sizeof(n), 0) != sizeof(n) || fsync(fd) || unlock_by(c->kind, fd) ||
            close(fd)) {
            return 1;
        }
    }
    return 0;
}

/* With what stays open, and nothing that commits but the lock. */
static int count_on(void *arg)
{
    const struct counter *c = arg;
    int fd = open(c->path, O_RDWR);

    for (int i = 0; i < c->rounds; i++) {
        unsigned n = 0;

        if (fd < 0 || lock_by(c->kind, fd, true, true) || pread(fd, &n, sizeof(n), 0) < 0) {
            return 1;
        }
        n++;
        if (pwrite(fd, &n, sizeof(n), 0) != sizeof(n) || unlock_by(c->kind, fd)) {
            return 1;
        }
    }
    return close(fd) ? 1 : 0;
}

static void counts(const char *here, const char *there, int rounds, int (*count)(void *arg),
                   const char *what)
{
    for (int k = 0; k < KINDS; k++) {
        struct counter c[4];
        pid_t pids[4];
        unsigned n = 0;
        int fd = open_file(here, O_RDWR | O_TRUNC), failed = 0;

        for (int i = 0; i < 4; i++) {
            c[i] = (struct counter){i % 2 ? there : here, (enum kind)k, rounds};
            pids[i] = px_start(count, &c[i]);
        }
        for (int i = 0; i < 4; i++) {
            failed += px_wait(pids[i]) != 0;
        }
        EQUAL(failed, 0, "%s: four count under a lock, %s", kinds[k], what);
        NEED(close(fd) == 0);
        fd = open(here, O_RDONLY);
        NEED(fd >= 0 && pread(fd, &n, sizeof(n), 0) == sizeof(n));
        EQUAL(n, 4 * rounds, "%s: and miss nothing, %s", kinds[k], what);
        NEED(close(fd) == 0);
    }
}

static void excludes(void)
{
    counts("f", "f", 50, count_up, "each opened anew");
    counts("f", "f", 50, count_on, "all open for good");
}

/* EDEADLK: each has one byte and waits for the other's. */

struct pair {
    const char *path;
    int told, go;
};

static int cross(void *arg)
{
    struct pair *p = arg;
    int fd = open(p->path, O_RDWR), ret;
    char byte;

    if (set(fd, F_SETLK, F_WRLCK, 1, 1) || write(p->told, "l", 1) != 1 ||
        read(p->go, &byte, 1) != 1) {
        return 3;
    }
    (void)alarm(10); /* ends the wait of a system that does not see it */
    ret = set(fd, F_SETLKW, F_WRLCK, 0, 1);
    return ret == 0 ? 0 : errno == EDEADLK ? 1 : 2;
}

static void deadlock_of(const char *here, const char *there)
{
    struct sigaction action = {.sa_handler = on_signal};
    int fd = open_file(here, O_RDWR), told[2], go[2], ret, error, other;
    struct pair p = {.path = there};
    pid_t pid;
    char byte;

    NEED(pipe(told) == 0 && pipe(go) == 0 && set(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    p.told = told[1];
    p.go = go[0];
    pid = px_start(cross, &p);
    NEED(read(told[0], &byte, 1) == 1 && write(go[1], "g", 1) == 1);
    sleep_ms(200);
    NEED(sigaction(SIGALRM, &action, NULL) == 0);
    (void)alarm(5);
    ret = set(fd, F_SETLKW, F_WRLCK, 1, 1);
    error = errno;
    (void)alarm(0);
    CLAIM(ret == 0 || error == EDEADLK, "who would wait for ever is told EDEADLK, or the other");
    NEED(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
    other = px_wait(pid);
    CLAIM(ret == -1 ? other == 0 : other == 1, "after which the other goes on");
    EQUAL((ret == -1 && error == EDEADLK) + (other == 1), 1, "just one is told");
    NEED(close(fd) == 0);
}

static void deadlock(void)
{
    deadlock_of("f", "f");
}

/* Who gave up waiting is in no ring. */
static void interrupted_is_no_ring_of(const char *here, const char *there)
{
    struct sigaction action = {.sa_handler = on_signal};
    int fd = open_file(here, O_RDWR), told[2], go[2];
    struct pair p = {.path = there};
    pid_t pid;
    char byte;

    NEED(pipe(told) == 0 && pipe(go) == 0 && set(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    p.told = told[1];
    p.go = go[0];
    pid = px_start(cross, &p);
    NEED(read(told[0], &byte, 1) == 1 && sigaction(SIGALRM, &action, NULL) == 0);
    (void)alarm(1);
    FAILS(set(fd, F_SETLKW, F_WRLCK, 1, 1), EINTR, "a wait is ended by a signal");
    sleep_ms(100);
    NEED(write(go[1], "g", 1) == 1);
    sleep_ms(300);
    NEED(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
    EQUAL(px_wait(pid), 0, "who waits for one that waits no longer is told no EDEADLK");
    NEED(close(fd) == 0);
}

static void interrupted_is_no_ring(void)
{
    interrupted_is_no_ring_of("f", "f");
}

/* Two share a byte that a third waits for; one of them waits for that third. */

struct sharer {
    const char *path;
    int told, go;
    bool waits; /* for the third's byte */
};

static int share(void *arg)
{
    const struct sharer *s = arg;
    int fd = open(s->path, O_RDWR);
    char byte;

    if (set(fd, F_SETLK, F_RDLCK, 0, 1) || write(s->told, "s", 1) != 1 ||
        read(s->go, &byte, 1) != 1) {
        return 3;
    }
    (void)alarm(10);
    if (s->waits) {
        return set(fd, F_SETLKW, F_WRLCK, 1, 1) == 0 ? 0 : errno == EDEADLK ? 1 : 2;
    }
    sleep_ms(500);
    return 0; /* its lock ends with it */
}

static void ring_behind_any_of(const char *here, const char *there)
{
    struct sigaction action = {.sa_handler = on_signal};
    int fd = open_file(here, O_RDWR), told[2], go[2], ret, error, other;
    struct sharer s = {.path = there};
    pid_t pids[2];
    char byte;

    NEED(pipe(told) == 0 && pipe(go) == 0 && set(fd, F_SETLK, F_WRLCK, 1, 1) == 0);
    s.told = told[1];
    s.go = go[0];
    for (int i = 0; i < 2; i++) {
        s.waits = i != 0;
        pids[i] = px_start(share, &s);
        NEED(read(told[0], &byte, 1) == 1);
    }
    NEED(write(go[1], "gg", 2) == 2 && sigaction(SIGALRM, &action, NULL) == 0);
    (void)alarm(5);
    ret = set(fd, F_SETLKW, F_WRLCK, 0, 1);
    error = errno;
    (void)alarm(0);
    NEED(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
    NEED(px_wait(pids[0]) == 0);
    other = px_wait(pids[1]);
    EQUAL((ret == -1 && error == EDEADLK) + (other == 1), 1,
          "a ring through the second of two in the way is told");
    NEED(close(fd) == 0);
}

static void ring_behind_any(void)
{
    ring_behind_any_of("f", "f");
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

static void waits_elsewhere(void)
{
    hands_over("f", px_other("f"));
    interrupts("g", px_other("g"));
}

static void excludes_elsewhere(void)
{
    counts("f", px_other("f"), 25, count_up, "each opened anew");
    counts("f", px_other("f"), 25, count_on, "all open for good");
}

/* By turns, each under a lock of its own bytes, then under one of the other's. */
static void sees_elsewhere(void)
{
    for (int k = 0; k < KINDS; k++) {
        int fds[2] = {open_file("f", O_RDWR | O_TRUNC), open(px_other("f"), O_RDWR)};
        char bytes[2] = "";

        NEED(fds[1] >= 0);
        for (int turn = 0; turn < 20; turn++) {
            int from = fds[turn % 2], to = fds[(turn + 1) % 2];

            NEED(lock_by((enum kind)k, from, true, true) == 0);
            bytes[0] = (char)('a' + turn);
            NEED(pwrite(from, bytes, 1, turn % 2) == 1);
            if (turn % 4 < 2) {
                NEED(lock_by((enum kind)k, from, false, true) == 0);
            } else {
                NEED(unlock_by((enum kind)k, from) == 0);
            }
            OK(lock_by((enum kind)k, to, false, false), "%s: shared by the other, turn %d",
               kinds[k], turn);
            NEED(pread(to, bytes + 1, 1, turn % 2) == 1);
            EQUAL(bytes[1], bytes[0], "%s: what was written under the lock is read, turn %d",
                  kinds[k], turn);
            NEED(unlock_by((enum kind)k, from) == 0 && unlock_by((enum kind)k, to) == 0);
        }
        NEED(close(fds[0]) == 0 && close(fds[1]) == 0);
    }
}

static void deadlock_elsewhere(void)
{
    deadlock_of("f", px_other("f"));
    interrupted_is_no_ring_of("g", px_other("g"));
    ring_behind_any_of("h", px_other("h"));
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
    {"interrupted", interrupted, 0},
    {"killed-waiter", killed_waiter, 0},
    {"handed-over", handed_over, 0},
    {"excludes", excludes, 0},
    {"deadlock", deadlock, 0},
    {"interrupted-is-no-ring", interrupted_is_no_ring, 0},
    {"ring-behind-any", ring_behind_any, 0},
    {"ranges-elsewhere", ranges_elsewhere, PX_TWO},
    {"released-elsewhere", released_elsewhere, PX_TWO},
    {"conflicts-elsewhere", conflicts_elsewhere, PX_TWO},
    {"flock-elsewhere", flock_elsewhere, PX_TWO},
    {"waits-elsewhere", waits_elsewhere, PX_TWO},
    {"excludes-elsewhere", excludes_elsewhere, PX_TWO},
    {"sees-elsewhere", sees_elsewhere, PX_TWO},
    {"deadlock-elsewhere", deadlock_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
