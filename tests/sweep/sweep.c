/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of a test program, each in a process of its own.
 *
 *     cmocka_run_group_tests() ─► for each test: a run in which nothing fails, counting calls
 *                                 for each call chosen: a run in which it fails ─► outcome
 *
 * When all calls fail in turn, a test of one thread that touches no file of the machine is run once
 * more: at each call it splits, the child goes on with the failure, and then the parent without.
 *
 * A test program's main() is untouched: the linker leads its call of cmocka to here.
 */
#include "tests/sweep/spare.h"
#undef mkdtemp

#include "tests/sweep/sweep.h"

#include <errno.h>
#include <execinfo.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/sweep/wrap.h"

#define CALLS_MAX    (UINT32_C(1) << 22) /* of one kind in one run; more are not swept */
#define TESTS_MAX    128u
#define BLOCKS_MAX   (UINT32_C(1) << 20) /* alive at a time */
#define STACKS_MAX   (UINT32_C(1) << 16) /* places of one program */
#define FRAMES       4u                  /* of a call's place */
#define BOUND_SEC    15u /* a run takes at most that, and 10 times the counting run */
#define PATIENCE_NS  UINT64_C(3000000000)
#define DIRS_MAX     8u /* of one run */
#define OUTPUT_MAX   (1u << 20)
#define BUGS_SHOWN   5u /* of one test and kind, in full */
#define SECONDS_EACH 4u /* of a sampled sweep, per group of tests */

enum kind { KIND_ALLOC, KIND_EIO, KIND_NOSPC, KIND_SHORT, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {"alloc", "eio", "nospc", "short"};

enum outcome {
    OUTCOME_DIED, /* before it could tell */
    OUTCOME_PASSED,
    OUTCOME_FAILED,  /* a test assertion: the failure was reported to the test */
    OUTCOME_DIFFERS, /* assert_memory_equal(): bytes are wrong, and nothing said so before */
    OUTCOME_LEAKED,
    OUTCOME_WAITED,  /* the simulated world went quiet without the completion */
    OUTCOME_CRASHED, /* a signal */
    OUTCOME_HANGS,
    OUTCOME_MEANT, /* an abort that the design wants */
};

/* Written by the run, read by the sweep. */
struct result {
    enum outcome outcome;
    uint32_t calls[KIND_COUNT];
    bool expects_leaks;
    bool told;
    bool shares; /* threads, files or sockets, which a child would have in common with its parent */
    uint32_t leaked; /* blocks of the code under test still allocated */
    uint32_t waits;  /* in vain */
    uint64_t took_ns;
    char dirs[DIRS_MAX][64]; /* made with mkdtemp() */
    uint32_t dir_count;
    uint64_t places[KIND_COUNT][CALLS_MAX]; /* only of a counting run */
};

/* This process is a run: what it is about. */
static struct {
    bool counting;
    struct sweep *splits; /* ... at each call, for this one */
    enum kind kind;
    uint32_t n;
    pid_t splitter;
    atomic_uint calls[KIND_COUNT];
    struct result *result;
    struct test *of;
    const struct CMUnitTest *test;
    CMFixtureFunction group_setup, group_teardown;
    bool body_ended;
    uint32_t waits_expected;
    bool look_for_leaks; /* the counting run left none behind */
    struct sigaction actions[NSIG];
    const void **blocks; /* open addressing; freed: GONE */
    uint32_t block_count;
    atomic_flag blocks_lock;
} run;

#define GONE ((const void *)&run)

bool hf_sweep_on;

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
_Noreturn void __longjmp_chk(struct __jmp_buf_tag *env, int value);
__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

static bool split(enum kind kind, uint32_t n);

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* @sharing  MAP_SHARED: what a run writes, the sweep reads; MAP_PRIVATE: each run has its own. */
static void *map_zeros(size_t bytes, int sharing)
{
    void *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        perror("sweep: mmap");
        exit(1);
    }
    return p;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Calls of the code under test */

static uintptr_t stack_end(void)
{
    static _Thread_local uintptr_t end;
    pthread_attr_t attr;
    void *base;
    size_t bytes;

    if (!end && pthread_getattr_np(pthread_self(), &attr) == 0) {
        (void)pthread_attr_getstack(&attr, &base, &bytes);
        (void)pthread_attr_destroy(&attr);
        end = (uintptr_t)base + bytes;
    }
    return end;
}

/* The callers, by their frame pointers; ends where a library has none. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static uint64_t place(void)
{
    uintptr_t *frame = __builtin_frame_address(0);
    uint64_t hash = 0;

    for (uint32_t i = 0; i < FRAMES + 3; i++) {
        uintptr_t *next = (uintptr_t *)frame[0];

        hash = i < 3 ? 0 : mix(hash + frame[1]); /* not of the sweep itself */
        if (next <= frame || (uintptr_t)(next + 2) > stack_end() || (uintptr_t)next % 8) {
            break;
        }
        frame = next;
    }
    return hash;
}

static _Thread_local uint32_t holds;

void hf_sweep_hold(void)
{
    holds++;
}

void hf_sweep_release(void)
{
    holds--;
}

/* One more call of that kind; true: it fails. */
static bool strikes(enum kind kind)
{
    void *frames[24];
    uint32_t n;

    if (holds > 0) {
        return false;
    }
    n = atomic_fetch_add(&run.calls[kind], 1) + 1;
    if (run.counting) {
        if (n <= CALLS_MAX) {
            run.result->places[kind][n - 1] = place();
        }
        run.result->shares = run.result->shares || gettid() != getpid();
        return false;
    }
    if (run.splits ? !split(kind, n) : kind != run.kind || n != run.n) {
        return false;
    }
    (void)!write(STDERR_FILENO, "fails:\n", 7);
    backtrace_symbols_fd(frames, backtrace(frames, 24), STDERR_FILENO);
    return true;
}

bool hf_sweep_alloc_fails(void)
{
    return strikes(KIND_ALLOC);
}

int hf_sweep_io(enum hf_sweep_io io, bool *ret_short)
{
    if (!hf_sweep_on) {
        return 0;
    }
    if (strikes(KIND_EIO)) {
        return -EIO;
    }
    if ((io == HF_SWEEP_IO_TAKES || io == HF_SWEEP_IO_TRANSFERS) && strikes(KIND_NOSPC)) {
        return -ENOSPC;
    }
    if ((io == HF_SWEEP_IO_READS || io == HF_SWEEP_IO_TRANSFERS) && strikes(KIND_SHORT)) {
        *ret_short = true;
    }
    return 0;
}

static const void **find_block(const void *p)
{
    uint32_t i = (uint32_t)mix((uintptr_t)p) % BLOCKS_MAX;
    const void **gone = NULL;

    while (run.blocks[i] && run.blocks[i] != p) {
        gone = run.blocks[i] == GONE && !gone ? &run.blocks[i] : gone;
        i = (i + 1) % BLOCKS_MAX;
    }
    return run.blocks[i] || !gone ? &run.blocks[i] : gone;
}

static void lock_blocks(void)
{
    while (atomic_flag_test_and_set(&run.blocks_lock)) {
    }
}

void hf_sweep_allocated(const void *p)
{
    lock_blocks();
    if (p && run.block_count < BLOCKS_MAX / 2) {
        *find_block(p) = p;
        run.block_count++;
    }
    atomic_flag_clear(&run.blocks_lock);
}

void hf_sweep_freed(const void *p)
{
    const void **block;

    lock_blocks();
    block = p ? find_block(p) : NULL;
    if (block && *block == p) {
        *block = GONE;
        run.block_count--;
    }
    atomic_flag_clear(&run.blocks_lock);
}

void hf_sweep_waited_in_vain(void)
{
    if (hf_sweep_on) {
        run.result->waits++;
    }
}

uint64_t hf_sweep_patience_ns(uint64_t timeout_ns)
{
    hf_sweep_shares(); /* on the real loop */
    return hf_sweep_on && !run.counting && timeout_ns > PATIENCE_NS ? PATIENCE_NS : timeout_ns;
}

void hf_sweep_shares(void)
{
    if (hf_sweep_on) {
        run.result->shares = true;
    }
}

void hf_sweep_told(void)
{
    if (hf_sweep_on) {
        run.result->told = true;
    }
}

void hf_sweep_expect_leaks(void)
{
    if (hf_sweep_on) {
        run.result->expects_leaks = true;
    }
}

char *hf_sweep_mkdtemp(char *path)
{
    char *dir = mkdtemp(path);

    if (hf_sweep_on && dir && run.result->dir_count < DIRS_MAX) {
        (void)snprintf(run.result->dirs[run.result->dir_count++], sizeof(run.result->dirs[0]), "%s",
                       dir);
    }
    return dir;
}

/* A run's process */

static bool leaks(void)
{
    return __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check();
}

/* cmocka leaves a failed test with this, the test's stack is still whole: what is not reachable
 * now will never be freed. */
_Noreturn void __longjmp_chk(struct __jmp_buf_tag *env, int value)
{
    if (hf_sweep_on && !run.counting && run.look_for_leaks && !run.result->expects_leaks &&
        leaks()) {
        run.result->outcome = OUTCOME_LEAKED;
    }
    siglongjmp(env, value);
}

static void on_signal(int number)
{
    void *frames[64];

    run.result->outcome = number != SIGALRM  ? OUTCOME_CRASHED
                          : run.result->told ? OUTCOME_FAILED
                                             : OUTCOME_HANGS;
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
    _exit(1);
}

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT, SIGALRM};

/* cmocka takes these as failed assertions. */
static void take_signals_back(void)
{
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        (void)sigaction(fatal[i], &run.actions[fatal[i]], NULL);
    }
}

static int with_setup(void **state)
{
    take_signals_back();
    return run.test->setup_func(state);
}

static void with_body(void **state)
{
    take_signals_back();
    run.test->test_func(state);
    run.body_ended = true;
}

/* Not after a failed assertion: the test left things half done. */
static int with_teardown(void **state)
{
    take_signals_back();
    return run.body_ended ? run.test->teardown_func(state) : 0;
}

static int with_group_setup(void **state)
{
    take_signals_back();
    return run.group_setup(state);
}

static int with_group_teardown(void **state)
{
    take_signals_back();
    return run.body_ended ? run.group_teardown(state) : 0;
}

static enum outcome judge(int failed)
{
    struct result *r = run.result;
    uint32_t i;

    if (r->outcome == OUTCOME_LEAKED) {
        return OUTCOME_LEAKED;
    }
    if (!run.counting && r->waits > run.waits_expected && !r->told) {
        return OUTCOME_WAITED;
    }
    if (failed) {
        return OUTCOME_FAILED;
    }
    if (run.counting || !run.look_for_leaks || r->expects_leaks) {
        return OUTCOME_PASSED;
    }
    for (i = 0; i < BLOCKS_MAX && r->leaked; i++) {
        if (run.blocks[i] && run.blocks[i] != GONE) {
            (void)fprintf(stderr, "leaked: %p\n", run.blocks[i]);
        }
    }
    return r->leaked || leaks() ? OUTCOME_LEAKED : OUTCOME_PASSED;
}

static void play(const char *name)
{
    const struct CMUnitTest test = {
        .name = run.test->name,
        .test_func = with_body,
        .setup_func = run.test->setup_func ? with_setup : NULL,
        .teardown_func = run.test->teardown_func ? with_teardown : NULL,
        .initial_state = run.test->initial_state,
    };
    uint64_t began_ns = now_ns();
    int failed;

    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        (void)sigaction(fatal[i], NULL, &run.actions[fatal[i]]);
        if (run.actions[fatal[i]].sa_handler == SIG_DFL) {
            run.actions[fatal[i]].sa_handler = on_signal;
        }
    }
    take_signals_back();
    hf_sweep_on = true;
    failed =
        __real__cmocka_run_group_tests(name, &test, 1, run.group_setup ? with_group_setup : NULL,
                                       run.group_teardown ? with_group_teardown : NULL);
    hf_sweep_on = false;
    for (int i = 0; i < KIND_COUNT; i++) {
        run.result->calls[i] = atomic_load(&run.calls[i]);
    }
    run.result->took_ns = now_ns() - began_ns;
    run.result->leaked = run.block_count;
    run.result->outcome = judge(failed);
}

/* The sweep's process */

struct candidates {
    uint32_t *calls; /* in the order to try */
    uint32_t next, count;
    uint64_t spent_ns;
};

struct test {
    const struct CMUnitTest *test;
    bool works;
    bool splits;
    uint32_t waits;
    bool look_for_leaks;
    uint64_t took_ns;
    uint32_t calls[KIND_COUNT];
    struct candidates candidates[KIND_COUNT];
    uint32_t shown[KIND_COUNT];
};

/* Written by the sweep and by the runs that split. */
struct counts {
    uint64_t runs[KIND_COUNT];
    uint64_t ends[KIND_COUNT][OUTCOME_MEANT + 1];
    uint32_t bugs;
};

struct sweep {
    const char *name;
    struct result *result;
    struct counts *counts;
    FILE *say;
    struct test tests[TESTS_MAX];
    uint32_t test_count;
    bool all;
    bool show; /* what tests said to failures too */
    uint64_t seed;
    uint64_t until_ns;
    uint64_t *places; /* tried by this group already; open addressing */
    uint32_t place_count;
    FILE *output;
    uint64_t possible[KIND_COUNT];
};

static const char *output_of(struct sweep *s)
{
    static char text[OUTPUT_MAX + 1];
    ssize_t n = pread(fileno(s->output), text, OUTPUT_MAX, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* What a test that failed left behind. */
static void remove_dirs(const struct result *r)
{
    for (uint32_t i = 0; i < r->dir_count; i++) {
        (void)nftw(r->dirs[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* HF_ASSERT_MEMORY(): its definition says where that is right. */
static bool is_meant(const char *output)
{
    return strstr(output, "assertion failed: out of memory: ") != NULL;
}

/* Scaffolding of tests that asserts that the code under test succeeds. */
static bool is_of_a_test(const char *output)
{
    const char *said = strstr(output, "assertion failed: ");
    const char *at = said ? strstr(said, " at ") : NULL;
    const char *end = said ? strchr(said, '\n') : NULL;
    const char *place_text = at ? strstr(at, "tests/") : NULL;

    return place_text && end && place_text < end;
}

static void clear_output(struct sweep *s)
{
    (void)!ftruncate(fileno(s->output), 0);
    (void)lseek(fileno(s->output), 0, SEEK_SET);
    (void)fflush(NULL);
}

static pid_t fork_run(time_t bound_s)
{
    const struct itimerval bound = {.it_value.tv_sec = bound_s};
    pid_t pid = fork();

    if (pid < 0) {
        perror("sweep: fork");
        exit(1);
    }
    if (pid == 0) {
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)setitimer(ITIMER_REAL, &bound, NULL);
    }
    return pid;
}

/* What a run that fails a call may take. */
static time_t bound_s(const struct test *t)
{
    return BOUND_SEC + (time_t)(t->took_ns / 100000000u);
}

static enum outcome wait_run(struct sweep *s, pid_t pid)
{
    enum outcome outcome;
    int status;

    while (waitpid(pid, &status, 0) < 0) {
    }
    (void)kill(-pid, SIGKILL); /* processes of a test that could not wait for them */
    remove_dirs(s->result);
    outcome = s->result->outcome;
    if (outcome == OUTCOME_DIED || outcome == OUTCOME_CRASHED) {
        const char *output = output_of(s);

        outcome = is_meant(output)       ? OUTCOME_MEANT
                  : is_of_a_test(output) ? OUTCOME_FAILED
                                         : OUTCOME_CRASHED;
    } else if (outcome == OUTCOME_FAILED && strstr(output_of(s), "difference at offset ")) {
        outcome = OUTCOME_DIFFERS;
    }
    return outcome;
}

/* One run. @n is 0 to count, or to split. */
static enum outcome try(struct sweep *s, struct test *t, enum kind kind, uint32_t n, bool splits)
{
    pid_t pid;

    memset(s->result, 0, offsetof(struct result, places));
    clear_output(s);
    pid = fork_run(n ? bound_s(t) : splits ? 0 : 300);
    if (pid == 0) {
        (void)dup2(fileno(s->output), STDOUT_FILENO);
        (void)dup2(fileno(s->output), STDERR_FILENO);
        run.counting = n == 0 && !splits;
        run.splits = splits ? s : NULL;
        run.splitter = getpid();
        run.kind = kind;
        run.n = n;
        run.of = t;
        run.test = t->test;
        run.waits_expected = t->waits;
        run.look_for_leaks = t->look_for_leaks;
        play(s->name);
        (void)fflush(NULL);
        _exit(0);
    }
    return wait_run(s, pid);
}

/* False: it was there. */
static bool add_place(struct sweep *s, uint64_t at)
{
    uint32_t i = (uint32_t)at % STACKS_MAX;

    at = at ? at : 1;
    while (s->places[i] && s->places[i] != at) {
        i = (i + 1) % STACKS_MAX;
    }
    if (s->places[i] == at || s->place_count == STACKS_MAX / 2) {
        return false;
    }
    s->places[i] = at;
    s->place_count++;
    return true;
}

static void shuffle(struct candidates *c, uint64_t seed)
{
    for (uint32_t i = c->count; i > 1; i--) {
        uint32_t k = (uint32_t)(mix(seed + i) % i);
        uint32_t call = c->calls[i - 1];

        c->calls[i - 1] = c->calls[k];
        c->calls[k] = call;
    }
}

/* All calls, or of each place that no test of the group has come by yet one call. */
static void choose(struct sweep *s, struct test *t, enum kind kind)
{
    struct candidates *c = &t->candidates[kind];
    uint32_t count = s->result->calls[kind] < CALLS_MAX ? s->result->calls[kind] : CALLS_MAX;
    uint64_t seed = mix(s->seed + (uint64_t)(t - s->tests) * KIND_COUNT + kind);

    t->calls[kind] = s->result->calls[kind];
    c->calls = calloc(count + 1, sizeof(*c->calls));
    for (uint32_t i = 0; i < count; i++) {
        c->calls[i] = i;
    }
    c->count = count;
    c->spent_ns = t->took_ns;
    shuffle(c, seed);
    c->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t call = c->calls[i];

        if (s->all || add_place(s, mix(s->result->places[kind][call] + kind))) {
            c->calls[c->count++] = call + 1;
        }
    }
}

static void count_calls(struct sweep *s, struct test *t)
{
    enum outcome outcome = try(s, t, KIND_ALLOC, 0, false);

    t->works = outcome == OUTCOME_PASSED;
    if (!t->works) {
        (void)printf("not swept, fails by itself: %s\n%s", t->test->name,
                     s->show ? output_of(s) : "");
        s->counts->bugs++;
        return;
    }
    t->splits = s->all && !s->result->shares;
    t->waits = s->result->waits;
    t->look_for_leaks = s->result->leaked == 0 && !s->result->expects_leaks;
    t->took_ns = s->result->took_ns;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        choose(s, t, kind);
        s->possible[kind] += t->calls[kind];
    }
}

static const char *outcome_text(enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_DIED:
    case OUTCOME_CRASHED:
        return "crashes";
    case OUTCOME_PASSED:
        return "passed";
    case OUTCOME_FAILED:
        return "reported";
    case OUTCOME_DIFFERS:
        return "differs";
    case OUTCOME_LEAKED:
        return "leaks";
    case OUTCOME_WAITED:
        return "never completes";
    case OUTCOME_HANGS:
        return "hangs";
    case OUTCOME_MEANT:
        return "aborts as designed";
    }
    return "?";
}

static void note(struct sweep *s, struct test *t, enum kind kind, uint32_t n, enum outcome outcome)
{
    bool bug = outcome != OUTCOME_PASSED && outcome != OUTCOME_FAILED && outcome != OUTCOME_MEANT;

    s->counts->runs[kind]++;
    s->counts->ends[kind][outcome]++;
    if (!bug && !(s->show && outcome == OUTCOME_FAILED)) {
        return;
    }
    (void)fprintf(s->say, "%s: HF_SWEEP=%s:%u:%s %s\n", outcome_text(outcome), kind_names[kind], n,
                  t->test->name, program_invocation_name);
    if (s->show || (bug && t->shown[kind]++ < BUGS_SHOWN)) {
        (void)fprintf(s->say, "%s\n", output_of(s));
    }
    (void)fflush(s->say);
    s->counts->bugs += bug;
}

/* In a run that splits, at a call. True: this is the child, and the call fails. */
static bool split(enum kind kind, uint32_t n)
{
    struct sweep *s = run.splits;
    char before[offsetof(struct result, places)];
    pid_t pid;

    if (getpid() != run.splitter) {
        return false; /* a process that the test made */
    }
    memcpy(before, s->result, sizeof(before));
    clear_output(s);
    pid = fork_run(bound_s(run.of));
    if (pid == 0) {
        run.splits = NULL; /* and its number comes no more */
        return true;
    }
    note(s, run.of, kind, n, wait_run(s, pid));
    memcpy(s->result, before, sizeof(before));
    return false;
}

/* All calls of a test. */
static void split_test(struct sweep *s, struct test *t)
{
    enum outcome outcome = try(s, t, KIND_ALLOC, 0, true);

    if (outcome != OUTCOME_PASSED) {
        (void)fprintf(s->say, "not swept to its end: %s: %s\n%s", t->test->name,
                      outcome_text(outcome), output_of(s));
        s->counts->bugs++;
    }
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        t->candidates[kind].next = t->candidates[kind].count;
    }
}

/* Whoever has taken the least time so far: a bound of time leaves out nothing that is quick. */
static struct candidates *next_candidates(struct sweep *s, struct test **ret_test, enum kind *ret)
{
    struct candidates *least = NULL;
    uint64_t began_ns = now_ns();

    for (uint32_t i = 0; i < s->test_count; i++) {
        if (s->until_ns && began_ns + s->tests[i].took_ns > s->until_ns) {
            continue;
        }
        for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
            struct candidates *c = &s->tests[i].candidates[kind];

            if (c->next < c->count && (!least || c->spent_ns < least->spent_ns)) {
                least = c;
                *ret_test = &s->tests[i];
                *ret = kind;
            }
        }
    }
    return least;
}

static void strike_all(struct sweep *s)
{
    struct candidates *c;
    struct test *t = NULL;
    enum kind kind = 0;

    for (uint32_t i = 0; i < s->test_count && !s->until_ns; i++) {
        if (s->tests[i].works && s->tests[i].splits) {
            split_test(s, &s->tests[i]);
        }
    }
    while ((c = next_candidates(s, &t, &kind)) != NULL) {
        uint64_t began_ns = now_ns();
        uint32_t n = c->calls[c->next++];

        note(s, t, kind, n, try(s, t, kind, n, false));
        c->spent_ns += now_ns() - began_ns;
    }
}

static void report(const struct sweep *s)
{
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        if (s->possible[kind] == 0) {
            continue;
        }
        (void)printf("%-6s %8llu calls, %6llu failed in turn:", kind_names[kind],
                     (unsigned long long)s->possible[kind],
                     (unsigned long long)s->counts->runs[kind]);
        for (enum outcome i = 0; i <= OUTCOME_MEANT; i++) {
            if (s->counts->ends[kind][i]) {
                (void)printf(" %llu %s", (unsigned long long)s->counts->ends[kind][i],
                             outcome_text(i));
            }
        }
        (void)printf("\n");
    }
}

static int sweep(struct sweep *s, const struct CMUnitTest *tests, size_t count)
{
    const char *seconds = getenv("HF_SWEEP_SECONDS");
    const char *seed = getenv("HF_SWEEP_SEED");
    const char *only = getenv("HF_SWEEP_TEST");

    s->seed = seed ? strtoull(seed, NULL, 10) : 1;
    for (size_t i = 0; i < count && s->test_count < TESTS_MAX; i++) {
        if (!only || strstr(tests[i].name, only)) {
            s->tests[s->test_count].test = &tests[i];
            count_calls(s, &s->tests[s->test_count++]);
        }
    }
    if (seconds || !s->all) {
        s->until_ns = now_ns() +
                      UINT64_C(1000000000) * (seconds ? strtoull(seconds, NULL, 10) : SECONDS_EACH);
    }
    strike_all(s);
    report(s);
    for (uint32_t i = 0; i < s->test_count; i++) {
        for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
            free(s->tests[i].candidates[kind].calls);
        }
    }
    (void)fclose(s->output);
    return s->counts->bugs > 0;
}

/* One run in this very process, for a debugger: "alloc:17:name_of_the_test". */
static int replay(struct sweep *s, const char *what, const struct CMUnitTest *tests, size_t count)
{
    struct test *t = &s->tests[0];
    char *end;

    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        size_t len = strlen(kind_names[kind]);

        if (strncmp(what, kind_names[kind], len) == 0 && what[len] == ':') {
            run.kind = kind;
            run.n = (uint32_t)strtoul(what + len + 1, &end, 10);
        }
    }
    for (size_t i = 0; run.n && *end == ':' && i < count; i++) {
        if (strcmp(tests[i].name, end + 1) == 0) {
            t->test = &tests[i];
            count_calls(s, t);
            memset(s->result, 0, offsetof(struct result, places));
            run.test = t->test;
            run.waits_expected = t->waits;
            run.look_for_leaks = t->look_for_leaks;
            play(s->name);
            remove_dirs(s->result);
            (void)printf("%s\n", outcome_text(run.result->outcome));
            return run.result->outcome != OUTCOME_PASSED;
        }
    }
    return 0;
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const char *how = getenv("HF_SWEEP") ?: getenv("HF_SWEEP_SAMPLE") ? "sample" : NULL;
    static struct sweep s;

    if (!how) {
        return __real__cmocka_run_group_tests(name, tests, count, setup, teardown);
    }
    run.result = map_zeros(sizeof(*run.result), MAP_SHARED);
    run.blocks = map_zeros(BLOCKS_MAX * sizeof(*run.blocks), MAP_PRIVATE);
    run.group_setup = setup;
    run.group_teardown = teardown;
    s = (struct sweep){
        .name = name,
        .all = strcmp(how, "all") == 0,
        .show = getenv("HF_SWEEP_SHOW") != NULL,
        .result = run.result,
        .counts = map_zeros(sizeof(*s.counts), MAP_SHARED),
        .say = fdopen(dup(STDOUT_FILENO), "w"),
        .output = tmpfile(),
        .places = map_zeros(STACKS_MAX * sizeof(*s.places), MAP_PRIVATE),
    };
    if (!s.output || !s.say) {
        perror("sweep");
        return 1;
    }
    if (!s.all && strcmp(how, "sample") != 0) {
        return replay(&s, how, tests, count);
    }
    return sweep(&s, tests, count);
}
