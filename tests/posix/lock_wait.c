/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who wait for locks, and what a lock protects: POSIX.1-2024 fcntl; fcntl_locking(2),
 * flock(2).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/posix/lock.h"

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

/* One who waits for what @fd has locked. */
static pid_t start_waiter(struct waiter *w, int fd, int pipes[2])
{
    pid_t pid;
    char byte;

    NEED(pipe(pipes) == 0 && lock_by(w->kind, fd, true, false) == 0);
    w->told = pipes[1];
    pid = px_start(wait_for, w);
    NEED(read(pipes[0], &byte, 1) == 1);
    sleep_ms(100);
    return pid;
}

static void interrupts(const char *held, const char *path)
{
    for (int k = 0; k < KINDS; k++) {
        struct waiter w = {.kind = (enum kind)k, .path = path, .interrupted = true};
        int fd = open_file(held, O_RDWR), pipes[2];
        pid_t pid = start_waiter(&w, fd, pipes);

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
        pid_t pid = start_waiter(&w, fd, pipes);

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

struct locked_reader {
    const char *path;
    enum kind kind;
    int told, go;
};

/* Who waits for the lock then reads the first byte of the file: the exit status. */
static int read_locked(void *arg)
{
    const struct locked_reader *r = arg;
    int fd = open(r->path, O_RDWR);
    uint8_t byte = 0;

    if (fd < 0 || read(r->go, &byte, 1) != 1 || write(r->told, "w", 1) != 1 ||
        lock_by(r->kind, fd, false, true) || pread(fd, &byte, 1, 0) != 1) {
        return 255;
    }
    return byte;
}

/* A lock goes with its open file; a mapping keeps that when the descriptor is closed. */
static void sees_mapped_elsewhere(void)
{
    for (int k = OFD; k < KINDS; k++) {
        struct locked_reader r = {.kind = (enum kind)k, .path = px_other("f")};
        int told[2], go[2], fd = open_file("f", O_RDWR);

        NEED(ftruncate(fd, 4096) == 0 && close(fd) == 0 && pipe(told) == 0 && pipe(go) == 0);
        r.told = told[1];
        r.go = go[0];
        for (int turn = 1; turn <= 10; turn++) {
            pid_t pid = px_start(read_locked, &r); /* a later one would have the mapping, too */
            uint8_t *map;
            char byte;

            fd = open("f", O_RDWR);
            NEED(fd >= 0 && lock_by(r.kind, fd, true, true) == 0);
            map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            NEED(map != MAP_FAILED && close(fd) == 0);
            NEED(write(go[1], "g", 1) == 1 && read(told[0], &byte, 1) == 1);
            sleep_ms(20);
            map[0] = (uint8_t)turn;
            NEED(munmap(map, 4096) == 0);
            EQUAL(px_wait(pid), turn, "%s: what was stored before munmap is read, turn %d",
                  kinds[k], turn);
        }
        NEED(close(told[0]) == 0 && close(told[1]) == 0 && close(go[0]) == 0 && close(go[1]) == 0);
    }
}

/* The same lock again and again: each open file may have the kernel's number of the last one. */
static int count_mapped(void *arg)
{
    const struct counter *c = arg;

    for (int i = 0; i < c->rounds; i++) {
        int fd = open(c->path, O_RDWR);
        unsigned *n;

        if (fd < 0 || lock_by(c->kind, fd, true, true)) {
            return 1;
        }
        n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (n == MAP_FAILED || close(fd)) {
            return 1;
        }
        ++*n;
        if (munmap(n, sizeof(*n))) {
            return 1;
        }
    }
    return 0;
}

static void excludes_mapped_elsewhere(void)
{
    for (int k = OFD; k < KINDS; k++) {
        struct counter c[4];
        pid_t pids[4];
        unsigned n = 0;
        int fd = open_file("f", O_RDWR | O_TRUNC), failed = 0;

        NEED(ftruncate(fd, sizeof(n)) == 0 && close(fd) == 0);
        for (int i = 0; i < 4; i++) {
            c[i] = (struct counter){i % 2 ? px_other("f") : "f", (enum kind)k, 25};
            pids[i] = px_start(count_mapped, &c[i]);
        }
        for (int i = 0; i < 4; i++) {
            failed += px_wait(pids[i]) != 0;
        }
        EQUAL(failed, 0, "%s: four count in a mapping under a lock", kinds[k]);
        fd = open("f", O_RDONLY);
        NEED(fd >= 0 && lock_by((enum kind)k, fd, false, true) == 0); /* they closed before */
        NEED(pread(fd, &n, sizeof(n), 0) == sizeof(n));
        EQUAL(n, 100, "%s: and miss nothing", kinds[k]);
        NEED(close(fd) == 0);
    }
}

static void deadlock_elsewhere(void)
{
    deadlock_of("f", px_other("f"));
    interrupted_is_no_ring_of("g", px_other("g"));
    ring_behind_any_of("h", px_other("h"));
}

const struct px_group px_lock_wait[] = {
    {"interrupted", interrupted, 0},
    {"killed-waiter", killed_waiter, 0},
    {"handed-over", handed_over, 0},
    {"excludes", excludes, 0},
    {"deadlock", deadlock, 0},
    {"interrupted-is-no-ring", interrupted_is_no_ring, 0},
    {"ring-behind-any", ring_behind_any, 0},
    {"waits-elsewhere", waits_elsewhere, PX_TWO},
    {"excludes-elsewhere", excludes_elsewhere, PX_TWO},
    {"sees-elsewhere", sees_elsewhere, PX_TWO},
    {"sees-mapped-elsewhere", sees_mapped_elsewhere, PX_TWO},
    {"excludes-mapped-elsewhere", excludes_mapped_elsewhere, PX_TWO},
    {"deadlock-elsewhere", deadlock_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
