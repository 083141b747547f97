/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hf-sim - seeds in, verdicts out. Each seed is a process of its own, so that what asserts, hangs
 * or leaks is that seed's.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "tests/sim/args.h"
#include "tests/sim/cluster/sim.h"

#define JOBS_MAX         16u
#define FAILURES_MAX     20u
#define HISTORY_LINES    60u  /* of a failed seed: its faults, and what happened last */
#define SEED_CPU_S       120  /* a seed that takes longer hangs */
#define SECOND_OPS_LEAST 100u /* of the second-busiest client: two work */

enum outcome { OUTCOME_NONE, OUTCOME_OK, OUTCOME_FAILED };

struct result { /* shared with the process that runs the seed */
    enum outcome outcome;
    uint64_t digest;
    struct sim_counts counts;
    char why[1024];
};

struct totals {
    uint64_t run, failed, ok; /* those that ended well are what the rest is of */
    uint64_t faults_fewest, virtual_fewest, second_fewest, read_back;
    struct sim_counts counts;
    time_t took;
};

struct job {
    pid_t pid;
    uint64_t seed;
    struct result *result;
};

static struct result *result_new(void)
{
    struct result *r =
        mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    HF_ASSERT(r != MAP_FAILED);
    return r;
}

/* A run that is whole has to be worth something. False: why not. */
static bool is_worth_it(const struct sim *s, const struct sim_options *options, char why[1024])
{
    if (options->fault_max != UINT32_MAX || options->faults_until) {
        return true; /* made smaller */
    }
    if (s->counts.faults < SIM_FAULTS_LEAST) {
        (void)snprintf(why, 1024, "the simulation: %" PRIu64 " faults acted, of at least %u",
                       s->counts.faults, SIM_FAULTS_LEAST);
        return false;
    }
    if (s->client_count > 1 && s->counts.second_ops < SECOND_OPS_LEAST && !options->beyond) {
        (void)snprintf(why, 1024, "the simulation: one client did all the work but %" PRIu64,
                       s->counts.second_ops);
        return false;
    }
    return true;
}

static void run_here(const struct sim_options *options, struct result *r)
{
    static struct sim s;

    sim_run(&s, options);
    r->digest = hf_sim_digest(s.world);
    r->counts = s.counts;
    memcpy(r->why, s.why, sizeof(r->why));
    r->outcome = s.failed || !is_worth_it(&s, options, r->why) ? OUTCOME_FAILED : OUTCOME_OK;
}

static const char *lmdb_parent(void)
{
    const char *tmp = getenv("TMPDIR");

    return tmp && tmp[0] ? tmp : "/var/tmp";
}

/* Where the process of a seed keeps LMDB's files; gone with it, however it ends. */
static const char *lmdb_path(pid_t pid, char ret[256])
{
    (void)snprintf(ret, 256, "%s/hf-sim.%d", lmdb_parent(), (int)pid);
    return ret;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* One heap, of large pages: the first touch of memory took a third of a run's time. */
static void use_large_pages(void)
{
    const size_t heap_bytes = 512u << 20;
    void *first;

    (void)mallopt(M_MMAP_THRESHOLD, 256 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    (void)mallopt(M_TOP_PAD, (int)heap_bytes);
    first = malloc(heap_bytes / 4); /* more than is free: the heap grows by it and the pad */
    if (first) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

        (void)madvise((void *)(((uintptr_t)first + page - 1) & ~(page - 1)), heap_bytes,
                      MADV_HUGEPAGE);
    }
    free(first);
}

static pid_t start(const struct sim_options *options, struct result *r)
{
    const struct rlimit cpu = {SEED_CPU_S, SEED_CPU_S};
    struct sim_options o = *options;
    char dir[256];
    pid_t pid;

    memset(r, 0, sizeof(*r));
    (void)fflush(stdout);
    pid = fork();
    HF_ASSERT(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CPU, &cpu);
        use_large_pages();
        if (!options->trace) { /* what it asserts is said by the replay */
            (void)!freopen("/dev/null", "w", stderr);
        }
        if (options->lmdb_dir) {
            o.lmdb_dir = lmdb_path(getpid(), dir);
        }
        run_here(&o, r);
        (void)fflush(stdout);
        _exit(0);
    }
    return pid;
}

static void finish(struct result *r, pid_t pid, int status)
{
    char dir[256];

    (void)nftw(lmdb_path(pid, dir), remove_one, 16, FTW_DEPTH | FTW_PHYS); /* if there is one */
    if (r->outcome == OUTCOME_NONE) {
        int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

        r->outcome = OUTCOME_FAILED;
        (void)snprintf(r->why, sizeof(r->why), "code: %s",
                       sig == SIGABRT                     ? "an assertion failed"
                       : sig == SIGXCPU || sig == SIGKILL ? "it does not end"
                       : sig                              ? strsignal(sig)
                                                          : "the process ended");
    }
}

static void run_apart(const struct sim_options *options, struct result *r)
{
    pid_t pid = start(options, r);
    int status = 0;

    HF_ASSERT(waitpid(pid, &status, 0) == pid);
    finish(r, pid, status);
}

/* Fewer faults, then a shorter run, as long as it fails. */
static void shrink(struct sim_options *options, struct result *r)
{
    for (uint32_t faults = 0; faults < 16; faults++) {
        struct sim_options fewer = *options;

        fewer.fault_max = faults;
        run_apart(&fewer, r);
        if (r->outcome == OUTCOME_FAILED) {
            *options = fewer;
            break;
        }
    }
    for (uint64_t until = 8 * SIM_S; until < SIM_FAULTS_NS; until += 4 * SIM_S) {
        struct sim_options shorter = *options;

        shorter.faults_until = until;
        run_apart(&shorter, r);
        if (r->outcome == OUTCOME_FAILED) {
            *options = shorter;
            break;
        }
    }
    run_apart(options, r);
}

/* All that decides what the seed plays, and how often it is looked at. */
static void print_options(FILE *out, const struct sim_options *o)
{
    (void)fprintf(out, "--seed %" PRIu64, o->seed);
    if (hf_bug_selected() != &hf_bug_rows[0]) {
        (void)fprintf(out, " --bug %s", hf_bug_selected()->name);
    }
    if (o->fault_max != UINT32_MAX) {
        (void)fprintf(out, " --faults %u", o->fault_max);
    }
    if (o->nodes) {
        (void)fprintf(out, " --nodes %u", o->nodes);
    }
    if (o->clients) {
        (void)fprintf(out, " --clients %u", o->clients);
    }
    if (o->beyond) {
        (void)fputs(" --beyond", out);
    }
    if (o->lmdb_dir) {
        (void)fputs(" --lmdb", out);
    }
    if (o->faults_until) {
        (void)fprintf(out, " --until %" PRIu64, o->faults_until / SIM_S);
    }
    if (o->check_every) {
        (void)fprintf(out, " --check-every %u", o->check_every);
    }
}

static void say_replay(const struct sim_options *o)
{
    printf("replay: hf-sim ");
    print_options(stdout, o);
    printf(" --trace\n");
}

/* The end of what happened, as the run printed it. */
static void say_history(struct sim_options options, struct result *r)
{
    FILE *file = tmpfile();
    int out = dup(STDOUT_FILENO);
    char line[512];
    uint64_t lines = 0, at = 0;

    HF_ASSERT(file != NULL && out >= 0);
    (void)fflush(stdout);
    HF_ASSERT(dup2(fileno(file), STDOUT_FILENO) >= 0);
    options.trace = true;
    run_apart(&options, r);
    HF_ASSERT(dup2(out, STDOUT_FILENO) >= 0);
    (void)close(out);
    rewind(file);
    while (fgets(line, sizeof(line), file)) {
        lines++;
    }
    rewind(file);
    while (fgets(line, sizeof(line), file)) {
        if (++at + HISTORY_LINES > lines || strstr(line, " fault: ") || strstr(line, " over: ")) {
            printf("    %s", line);
        }
    }
    (void)fclose(file);
}

static void say_failed(struct sim_options options, struct result *r, bool shrink_it)
{
    const uint32_t fault_max = options.fault_max;
    const uint64_t until = options.faults_until;

    printf("seed %" PRIu64 " FAILED: %s\n", options.seed, r->why);
    if (shrink_it) {
        shrink(&options, r);
        if (r->outcome == OUTCOME_FAILED) {
            printf("shrunk: %s\n", r->why);
        } else { /* it failed because of what was not drawn anew: as it was, then */
            options.fault_max = fault_max;
            options.faults_until = until;
        }
    }
    if (!options.trace) {
        say_history(options, r);
    }
    say_replay(&options);
    (void)fflush(stdout);
}

static void least(uint64_t *of, uint64_t value, bool first)
{
    *of = first || value < *of ? value : *of;
}

static void add(struct totals *t, const struct result *r)
{
    const uint64_t *from = (const uint64_t *)&r->counts;
    uint64_t *to = (uint64_t *)&t->counts;

    t->run++;
    t->failed += r->outcome == OUTCOME_FAILED;
    if (r->outcome != OUTCOME_OK) {
        return; /* what it counted is not whole */
    }
    for (size_t i = 0; i < sizeof(t->counts) / sizeof(uint64_t); i++) {
        to[i] += from[i];
    }
    t->ok++;
    t->read_back += r->counts.last_bytes > 0;
    least(&t->faults_fewest, r->counts.faults, t->ok == 1);
    least(&t->virtual_fewest, r->counts.virtual_ns, t->ok == 1);
    least(&t->second_fewest, r->counts.second_ops, t->ok == 1);
}

static void say_totals(uint64_t first, uint64_t last, const struct totals *t, bool beyond)
{
    const struct sim_counts *c = &t->counts;

    printf("seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " run, %" PRIu64 " failed, in %lld s; "
           "%" PRIu64 " virtual seconds (at least %" PRIu64 " each), %" PRIu64 " events, %" PRIu64
           " faults (at least %" PRIu64 " each), %" PRIu64 " operations (at least %" PRIu64
           " each by the second-busiest client), %" PRIu64 " fsyncs, %" PRIu64 " appends, %" PRIu64
           " on shared names, %" PRIu64 " of flags and %" PRIu64 " looks at them, %" PRIu64
           " locks, %" PRIu64 " deadlocks, %" PRIu64 " waits interrupted, %" PRIu64
           " MiB read and compared, %" PRIu64 " segments compacted, %" PRIu64
           " clients ended, %" PRIu64 " sessions lost, %" PRIu64
           " programs told an error that ended them, %" PRIu64
           " nodes started by hand, unchecked histories %" PRIu64 "\n",
           first, last, t->run, t->failed, (long long)t->took, c->virtual_ns / SIM_S,
           t->virtual_fewest / SIM_S, c->events, c->faults, t->faults_fewest, c->ops,
           t->second_fewest, c->fsyncs, c->appends, c->registers, c->flags, c->looks, c->locks,
           c->deadlocks, c->interrupts, c->bytes_checked >> 20, c->compactions, c->crashes,
           c->evictions, c->quit, c->by_hand, c->unchecked);
    if (beyond) { /* the others could not, or lost their time: that is no mistake */
        printf("read back at the end: in %" PRIu64 " of %" PRIu64 " seeds\n", t->read_back, t->ok);
    }
    printf("faults, %" PRIu64 " of them resets at the end for want of others:", c->padded);
    for (int i = 0; i < FAULT_KIND_COUNT; i++) {
        printf(" %s %" PRIu64, sim_fault_name((enum sim_fault)i), c->by_kind[i]);
    }
    printf("\n");
}

static void say_progress(uint64_t done, uint64_t all, const struct totals *t, time_t begun)
{
    static time_t shown;
    time_t now = time(NULL);

    if (now >= shown + 5 && done > 0) {
        shown = now;
        fprintf(stderr,
                "%" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " s left\n", done,
                all, t->failed, (uint64_t)(now - begun) * (all - done) / done);
    }
}

/* Seeds @first .. @last, until @stop_at of them failed; failed() is told of each. */
static struct totals sweep(uint64_t first, uint64_t last, struct sim_options options, unsigned jobs,
                           uint64_t stop_at, bool show,
                           void (*failed)(void *ctx, const struct sim_options *options,
                                          const struct result *r),
                           void *ctx)
{
    struct job slots[JOBS_MAX] = {{0}};
    struct totals totals = {0};
    const time_t begun = time(NULL);
    uint64_t next = first, running = 0;

    for (unsigned i = 0; i < jobs; i++) {
        slots[i].result = result_new();
    }
    while (running > 0 || (next <= last && totals.failed < stop_at)) {
        struct job *job = NULL;
        int status = 0;
        pid_t pid;

        for (unsigned i = 0; i < jobs && next <= last && totals.failed < stop_at; i++) {
            if (slots[i].pid == 0) {
                options.seed = slots[i].seed = next++;
                slots[i].pid = start(&options, slots[i].result);
                running++;
            }
        }
        pid = wait(&status);
        for (unsigned i = 0; i < jobs; i++) {
            job = slots[i].pid == pid ? &slots[i] : job;
        }
        if (!job) {
            continue;
        }
        job->pid = 0;
        running--;
        finish(job->result, pid, status);
        add(&totals, job->result);
        if (job->result->outcome == OUTCOME_FAILED) {
            options.seed = job->seed;
            failed(ctx, &options, job->result);
        }
        if (show) {
            say_progress(totals.run, last - first + 1, &totals, begun);
        }
    }
    for (unsigned i = 0; i < jobs; i++) {
        (void)munmap(slots[i].result, sizeof(*slots[i].result));
    }
    totals.took = time(NULL) - begun;
    return totals;
}

static void seed_failed(void *ctx, const struct sim_options *options, const struct result *r)
{
    struct result copy = *r;
    struct result *shared = result_new();

    *shared = copy;
    say_failed(*options, shared, *(bool *)ctx);
    (void)munmap(shared, sizeof(*shared));
}

static int run_range(uint64_t first, uint64_t last, const struct sim_options *options,
                     unsigned jobs, bool shrink_them)
{
    struct totals totals =
        sweep(first, last, *options, jobs, FAILURES_MAX, true, seed_failed, &shrink_them);

    say_totals(first, last, &totals, options->beyond);
    return totals.failed ? 1 : 0;
}

/* Planted bugs */

struct finding {
    bool found;
    uint64_t seed;
    char why[200];
};

static void bug_found(void *ctx, const struct sim_options *options, const struct result *r)
{
    struct finding *f = ctx;

    if (!f->found || options->seed < f->seed) {
        f->found = true;
        f->seed = options->seed;
        (void)snprintf(f->why, sizeof(f->why), "%.150s", r->why);
    }
}

static int select_bug(const char *name)
{
    int err = hf_bug_select(name);

    if (err == -ENOTSUP) {
        fprintf(stderr, "this build has no planted bugs: meson setup -Dplanted_bugs=true\n");
    } else if (err) {
        fprintf(stderr, "no planted bug is called %s; see --list-bugs\n", name);
    }
    return err;
}

/* The core's are hf-raft-sim's, unless they are asked for by name. */
static bool is_ours(const struct hf_bug_row *bug)
{
    return bug->module[0] && strcmp(bug->module, "raft") != 0;
}

/* Was it asked for? Without @names all of ours are. */
static bool is_asked(const struct hf_bug_row *bug, char *const *names)
{
    if (!*names) {
        return is_ours(bug);
    }
    for (; *names; names++) {
        if (strcmp(*names, bug->name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_bugs(uint64_t first, uint64_t last, const struct sim_options *options,
                      unsigned jobs, char *const *names)
{
    unsigned found = 0, all = 0;

    for (char *const *name = names; *name; name++) {
        if (select_bug(*name)) {
            return 2;
        }
    }

    for (size_t i = 0; i < HF_BUG_end; i++) {
        const struct hf_bug_row *bug = &hf_bug_rows[i];
        struct finding f = {0};
        struct totals totals;

        if (!is_asked(bug, names)) {
            continue;
        }
        if (select_bug(bug->name)) {
            return 2;
        }
        all++;
        totals = sweep(first, last, *options, jobs, 1, false, bug_found, &f);
        if (totals.failed) {
            found++;
            printf("%-12s %-24s found at seed %" PRIu64 " (%" PRIu64 " run): %s\n", bug->module,
                   bug->name, f.seed, f.seed - first + 1, f.why);
        } else {
            printf("%-12s %-24s NOT FOUND in %" PRIu64 " seeds\n", bug->module, bug->name,
                   totals.run);
        }
        (void)fflush(stdout);
    }
    printf("%u of %u planted bugs found\n", found, all);
    return found == all ? 0 : 1;
}

static void list_bugs(void)
{
    for (size_t i = 0; i < HF_BUG_end; i++) {
        if (is_ours(&hf_bug_rows[i])) {
            printf("%-12s %-24s %s\n", hf_bug_rows[i].module, hf_bug_rows[i].name,
                   hf_bug_rows[i].text);
        }
    }
}

/*
 * The verdict that the program prints of a seed when it is started anew, with other addresses: its
 * first line. (A history leaves out lines of the log when many come within a second of real time.)
 * False: the seed failed.
 */
static bool output_of(const struct sim_options *o, char *ret, size_t size)
{
    char command[400] = "", rest[4096];
    FILE *text = fmemopen(command, sizeof(command), "w"), *out;
    size_t n;

    HF_ASSERT(text != NULL);
    (void)fprintf(text, "exec /proc/%d/exe ", (int)getpid());
    print_options(text, o);
    HF_ASSERT(fclose(text) == 0);
    out = popen(command, "r"); /* NOLINT(cert-env33-c): our own program */
    HF_ASSERT(out != NULL);
    n = fread(ret, 1, size - 1, out);
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    while (fread(rest, 1, sizeof(rest), out) > 0) {
    }
    return pclose(out) == 0;
}

/* Twice, in programs of their own: the same seed is the same run. */
static int check_replays(uint64_t first, uint64_t last, struct sim_options options)
{
    char once[512], again[512];

    for (options.seed = first; options.seed <= last; options.seed++) {
        bool ok = output_of(&options, once, sizeof(once));

        ok = output_of(&options, again, sizeof(again)) && ok;
        if (strcmp(once, again) != 0) {
            printf("seed %" PRIu64 " FAILED: two runs, two traces:\n%s\n%s\n", options.seed, once,
                   again);
            say_replay(&options);
            return 1;
        }
        if (!ok) {
            printf("%s\n", once);
            say_replay(&options);
            return 1;
        }
    }
    printf("seeds %" PRIu64 "..%" PRIu64 ": each run twice, each trace the same\n", first, last);
    return 0;
}

static int run_one(const struct sim_options *options)
{
    struct result *r = result_new();

    run_apart(options, r);
    if (r->outcome == OUTCOME_FAILED) {
        say_failed(*options, r, false);
        return 1;
    }
    printf("seed %" PRIu64 " ok: %" PRIu64 " events, %" PRIu64 " faults, %" PRIu64
           " operations, %" PRIu64 " virtual s, trace %016" PRIx64 "\n",
           options->seed, r->counts.events, r->counts.faults, r->counts.ops,
           r->counts.virtual_ns / SIM_S, r->digest);
    return 0;
}

static const char usage_text[] =
    "usage: hf-sim --seed N [--trace] [--faults N] [--until SECONDS]\n"
    "       hf-sim --seeds A..B [--jobs N] [--no-shrink]\n"
    "       hf-sim --replays A..B\n"
    "       hf-sim --list-checks | --list-bugs | --check-bugs A..B [--jobs N] [NAME...]\n"
    "\n"
    "Runs whole clusters in one thread, one for each seed: real nodes and clients on simulated\n"
    "machines, with faults that they should survive, and checks what users see.\n"
    "\n"
    "  --seed N         one seed; with --trace, what happened in it; else its end, if it fails\n"
    "  --seeds A..B     a range, N at a time with --jobs; what fails is made smaller, told, and "
    "prints\n"
    "                   the line that repeats it\n"
    "  --replays A..B   runs each seed twice and compares the traces\n"
    "  --check-bugs A..B  is each planted bug found by one of these seeds?\n"
    "  --list-bugs      their names\n"
    "  --list-checks    what must hold, the rules of the design that it proves, and who looks\n"
    "  --bug NAME       with that mistake planted (a build with -Dplanted_bugs=true)\n"
    "  --faults N       only the first N of the faults drawn\n"
    "  --until SECONDS  faults and work end then, not after 45 s\n"
    "  --nodes N, --clients N  so many, 1 to 5 and 1 to 4; else drawn, 1 to 5 and 2 to 4\n"
    "  --check-every N  events between looks at every row of all stores (default 500); one that\n"
    "                   changed is looked at anyway; 1: every module of a machine at each event\n"
    "  --beyond         more is destroyed than can be survived: errors are right then, guesses "
    "not\n"
    "  --lmdb           real LMDB, in a directory below TMPDIR that goes again: slower, without "
    "faults\n"
    "                   of disks, and need not be the same run twice\n"
    "  --no-shrink      do not make what fails smaller\n"
    "\n"
    "Exit status: 0 clean, 1 a seed failed, 2 misused.\n";

static int misused(const char *why)
{
    fprintf(stderr, "hf-sim: %s; see hf-sim --help\n", why);
    return 2;
}

static int bad_value(const char *option, const char *value, const char *want)
{
    fprintf(stderr, "hf-sim: %s %s: not %s; see hf-sim --help\n", option, value, want);
    return 2;
}

/* 0, or 2 and the reason is told. */
static int number_of(const char *option, const char *value, uint64_t least, uint64_t most,
                     uint64_t *ret)
{
    char want[64];

    if (args_number(value, least, most, ret) == 0) {
        return 0;
    }
    (void)snprintf(want, sizeof(want), "a number from %" PRIu64 " to %" PRIu64, least, most);
    return bad_value(option, value, want);
}

/* Before anything is made there. */
static int check_lmdb_parent(void)
{
    const char *dir = lmdb_parent();
    struct stat st;
    int err = 0;

    if (strlen(dir) > 200) {
        err = ENAMETOOLONG;
    } else if (stat(dir, &st) || access(dir, W_OK | X_OK)) {
        err = errno;
    } else if (!S_ISDIR(st.st_mode)) {
        err = ENOTDIR;
    }
    if (err) {
        fprintf(stderr, "hf-sim: --lmdb keeps its files in %s (TMPDIR): %s\n", dir, strerror(err));
    }
    return err ? 2 : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'r'},
        {"replays", required_argument, NULL, 'p'},
        {"check-bugs", required_argument, NULL, 'c'},
        {"list-bugs", no_argument, NULL, 'l'},
        {"list-checks", no_argument, NULL, 'i'},
        {"bug", required_argument, NULL, 'b'},
        {"jobs", required_argument, NULL, 'j'},
        {"faults", required_argument, NULL, 'f'},
        {"until", required_argument, NULL, 'u'},
        {"check-every", required_argument, NULL, 'e'},
        {"trace", no_argument, NULL, 't'},
        {"no-shrink", no_argument, NULL, 'n'},
        {"beyond", no_argument, NULL, 'y'},
        {"lmdb", no_argument, NULL, 'm'},
        {"nodes", required_argument, NULL, 'N'},
        {"clients", required_argument, NULL, 'C'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct sim_options o = {.fault_max = UINT32_MAX};
    uint64_t first = 0, last = 0, number = 0, jobs = 1;
    bool shrink_them = true;
    int c, mode = 0, index = 0, bad = 0;

    while (!bad && (c = getopt_long(argc, argv, "", options, &index)) != -1) {
        char option[32];

        (void)snprintf(option, sizeof(option), "--%s", options[index].name);
        switch (c) {
        case 's':
            bad = number_of(option, optarg, 0, UINT64_MAX, &o.seed);
            mode = c;
            break;
        case 'r':
        case 'p':
        case 'c':
            if (args_range(optarg, &first, &last)) {
                bad = bad_value(option, optarg, "A..B with A <= B < 2^63");
            }
            mode = c;
            break;
        case 'j':
            bad = number_of(option, optarg, 1, JOBS_MAX, &jobs);
            break;
        case 'f':
            bad = number_of(option, optarg, 0, UINT32_MAX - 1, &number);
            o.fault_max = (uint32_t)number;
            break;
        case 'u':
            bad = number_of(option, optarg, 6, 3600, &number);
            o.faults_until = number * SIM_S;
            break;
        case 'e':
            bad = number_of(option, optarg, 1, UINT32_MAX, &number);
            o.check_every = (uint32_t)number;
            break;
        case 'N':
            bad = number_of(option, optarg, 1, SIM_NODES_MAX, &number);
            o.nodes = (uint32_t)number;
            break;
        case 'C':
            bad = number_of(option, optarg, 1, SIM_CLIENTS_MAX, &number);
            o.clients = (uint32_t)number;
            break;
        case 't':
            o.trace = true;
            break;
        case 'b':
            bad = select_bug(optarg) ? 2 : 0;
            break;
        case 'i':
        case 'l':
            mode = c;
            break;
        case 'y':
            o.beyond = true;
            break;
        case 'm':
            o.lmdb_dir = "";
            break;
        case 'n':
            shrink_them = false;
            break;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        default: /* getopt has said what it does not know */
            (void)fputs(usage_text, stderr);
            return 2;
        }
    }
    if (!bad && o.lmdb_dir) {
        bad = check_lmdb_parent();
    }
    if (bad) {
        return bad;
    }
    if (optind < argc && mode != 'c') {
        return bad_value("argument", argv[optind], "one that it takes");
    }
    switch (mode) {
    case 0:
        return misused(
            "needs --seed, --seeds, --replays, --check-bugs, --list-bugs or --list-checks");
    case 's':
        return run_one(&o);
    case 'p':
        return check_replays(first, last, o);
    case 'c':
        return check_bugs(first, last, &o, (unsigned)jobs, argv + optind);
    case 'i':
        sim_invariants_list();
        return 0;
    case 'l':
        list_bugs();
        return 0;
    default:
        return run_range(first, last, &o, (unsigned)jobs, shrink_them);
    }
}
