/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/posix/torture/torture.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

/* Chance: splitmix64 */

uint64_t torture_next(struct torture_rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t torture_hash(uint64_t a, uint64_t b)
{
    struct torture_rng rng = {a};

    rng.state = torture_next(&rng) ^ b;
    return torture_next(&rng);
}

uint64_t torture_draw(struct torture_rng *rng, uint64_t below)
{
    return torture_next(rng) % below;
}

bool torture_chance(struct torture_rng *rng, unsigned percent)
{
    return torture_draw(rng, 100) < percent;
}

unsigned torture_weighted(struct torture_rng *rng, const unsigned *weights, unsigned count)
{
    uint64_t sum = 0, at;
    unsigned i = 0;

    for (unsigned k = 0; k < count; k++) {
        sum += weights[k];
    }
    at = torture_draw(rng, sum);
    while (at >= weights[i]) {
        at -= weights[i++];
    }
    return i;
}

void torture_fill(uint8_t *bytes, uint64_t off, size_t len, uint64_t id)
{
    uint64_t word = torture_hash(id, off / 8);

    for (size_t i = 0; i < len; i++) {
        uint64_t at = off + i;
        uint8_t byte;

        if (at % 8 == 0) {
            word = torture_hash(id, at / 8);
        }
        byte = (uint8_t)(word >> (at % 8 * 8));
        bytes[i] = byte ? byte : 0xa5;
    }
}

/* Shared memory */

void *torture_shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        perror("shared memory");
        exit(2);
    }
    return memory;
}

void torture_shared_init(struct torture_shared *shared, uint64_t count)
{
    pthread_mutexattr_t mutex;
    pthread_condattr_t cond;

    memset(shared, 0, sizeof(*shared));
    shared->count = count;
    (void)pthread_mutexattr_init(&mutex);
    (void)pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(&shared->lock, &mutex);
    (void)pthread_condattr_init(&cond);
    (void)pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    (void)pthread_cond_init(&shared->turn, &cond);
}

void torture_report(struct torture_shared *shared, const char *format, ...)
{
    size_t room = sizeof(shared->report) - shared->report_len;
    va_list args;
    int n;

    if (!shared->failed) {
        shared->failed = true;
        shared->failed_id = shared->next;
    }
    va_start(args, format);
    n = vsnprintf(shared->report + shared->report_len, room, format, args);
    va_end(args);
    shared->report_len += n > 0 && (size_t)n < room ? (size_t)n : 0;
}

/* Processes */

/* False: another process died while it held the lock. */
static bool lock(struct torture_shared *shared)
{
    return pthread_mutex_lock(&shared->lock) == 0;
}

static void take_step(const struct torture_play *play, unsigned process, uint64_t index)
{
    uint64_t *began_at = &play->shared->began_at[process];

    __atomic_store_n(began_at, torture_now_ns(), __ATOMIC_RELAXED);
    play->step(play->ctx, process, index);
    __atomic_store_n(began_at, 0, __ATOMIC_RELAXED);
}

static void play_alone(const struct torture_play *play, unsigned process)
{
    struct torture_shared *shared = play->shared;
    uint64_t count = shared->count / play->processes;

    for (uint64_t i = 0; i < count && !__atomic_load_n(&shared->failed, __ATOMIC_RELAXED); i++) {
        take_step(play, process, i);
        __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
    }
}

static void play_turns(const struct torture_play *play, unsigned process)
{
    struct torture_shared *shared = play->shared;

    if (!lock(shared)) {
        return;
    }
    while (!shared->failed && shared->next < shared->count) {
        if (play->owner(play->ctx, shared->next) != process) {
            if (pthread_cond_wait(&shared->turn, &shared->lock)) {
                return;
            }
            continue;
        }
        take_step(play, process, shared->next);
        if (!shared->failed) {
            __atomic_store_n(&shared->next, shared->next + 1, __ATOMIC_RELAXED);
        }
        if (play->processes > 1) {
            (void)pthread_cond_broadcast(&shared->turn);
        }
    }
    (void)pthread_cond_broadcast(&shared->turn);
    (void)pthread_mutex_unlock(&shared->lock);
}

static void show_progress(const struct torture_play *play, uint64_t since)
{
    static uint64_t shown;
    uint64_t now = torture_now_ns(), next = play->shared->next;
    double seconds = (double)(now - since) / 1e9;

    shown = shown < since ? since : shown;
    if (play->quiet || now - shown < (isatty(STDERR_FILENO) ? 1 : 10) * NS_PER_S) {
        return;
    }
    shown = now;
    fprintf(stderr, "%s: %llu of %llu operations, %.0f/s%s", play->tool, (unsigned long long)next,
            (unsigned long long)play->shared->count, seconds > 0 ? (double)next / seconds : 0,
            isatty(STDERR_FILENO) ? "    \r" : "\n");
}

static bool is_stalled(const struct torture_play *play)
{
    uint64_t now = torture_now_ns();

    for (unsigned i = 0; i < play->processes; i++) {
        uint64_t began = __atomic_load_n(&play->shared->began_at[i], __ATOMIC_RELAXED);

        if (began && now > began + play->stall_s * NS_PER_S) {
            return true;
        }
    }
    return false;
}

static void end_all(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (pids[i] > 0) {
            (void)kill(pids[i], SIGKILL);
        }
    }
}

/* One look at the children. Returns how many ended. */
static unsigned reap(const struct torture_play *play, pid_t *pids)
{
    unsigned ended = 0;
    int status;

    for (unsigned i = 0; i < play->processes; i++) {
        if (pids[i] <= 0 || waitpid(pids[i], &status, WNOHANG) != pids[i]) {
            continue;
        }
        pids[i] = 0;
        ended++;
        if (!WIFEXITED(status) || WEXITSTATUS(status)) {
            torture_report(play->shared, "process %u ended by %s %d\n", i,
                           WIFSIGNALED(status) ? "signal" : "status",
                           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            end_all(pids, play->processes);
        }
    }
    return ended;
}

static void watch(const struct torture_play *play, pid_t *pids, unsigned running)
{
    struct timespec pause = {.tv_nsec = 500000};
    uint64_t since = torture_now_ns();
    bool stalled = false;

    while (running > 0) {
        running -= reap(play, pids);
        show_progress(play, since);
        if (!stalled && is_stalled(play)) {
            stalled = true;
            torture_report(play->shared, "an operation takes longer than %u s\n", play->stall_s);
            end_all(pids, play->processes);
        }
        (void)nanosleep(&pause, NULL);
        pause.tv_nsec = pause.tv_nsec < 100000000 ? pause.tv_nsec * 2 : pause.tv_nsec;
    }
    if (isatty(STDERR_FILENO) && !play->quiet) {
        fputs("\n", stderr);
    }
}

bool torture_play(const struct torture_play *play)
{
    pid_t pids[TORTURE_PROCESSES] = {0};
    unsigned running = 0;

    (void)fflush(NULL);
    for (unsigned i = 0; i < play->processes; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            if (play->start) {
                play->start(play->ctx, i);
            }
            (play->owner ? play_turns : play_alone)(play, i);
            if (play->end && !play->shared->failed) {
                play->end(play->ctx, i);
            }
            _exit(0);
        }
        if (pids[i] < 0) {
            torture_report(play->shared, "cannot fork: %s\n", strerror(errno));
            end_all(pids, i);
            break;
        }
        running++;
    }
    watch(play, pids, running);
    return !play->shared->failed;
}

/* Options */

bool torture_number(const char *text, uint64_t *ret)
{
    char *end;
    uint64_t value;
    unsigned shift = 0;

    errno = 0;
    value = strtoull(text, &end, 0);
    if (errno || end == text || text[0] == '-') {
        return false;
    }
    shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;
    if (*(end + (shift ? 1 : 0)) || value > UINT64_MAX >> shift) {
        return false;
    }
    *ret = value << shift;
    return true;
}

uint64_t torture_now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}
