/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hf-raft-sim - seeds in, verdicts out.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "tests/sim/args.h"
#include "tests/sim/raft/sim.h"

#define JOBS_MAX 256u

struct range {
    uint64_t first, last;
};

/* Those of the core; the rest of the tree has more. */
static bool is_ours(const struct hf_bug_row *bug)
{
    return strcmp(bug->module, "raft") == 0;
}

/* Shared with the parent, which learns from it which seed a dead child was in. */
struct progress {
    volatile uint64_t seed, done, events, faults, faults_fewest, crashes, elections, commits, reads;
    volatile uint64_t snapshots, changes, transfers;
};

static int set_bug(const char *name)
{
    int err = hf_bug_select(name);

    if (err == -ENOTSUP) {
        fprintf(stderr, "this build has no planted bugs: meson setup -Dplanted_bugs=true\n");
    } else if (err || !(hf_bug_selected() == &hf_bug_rows[0] || is_ours(hf_bug_selected()))) {
        fprintf(stderr, "no planted bug of the core is called %s; see --list-bugs\n", name);
        err = -ENOENT;
    }
    return err;
}

static void replay_line(uint64_t seed)
{
    const struct hf_bug_row *bug = hf_bug_selected();

    if (bug != &hf_bug_rows[0]) {
        printf("replay: hf-raft-sim --bug %s --seed %llu --trace\n", bug->name,
               (unsigned long long)seed);
    } else {
        printf("replay: hf-raft-sim --seed %llu --trace\n", (unsigned long long)seed);
    }
}

static int run_one(uint64_t seed, bool print, bool quiet, struct progress *p)
{
    static struct sim s;
    bool failed;

    sim_run(&s, seed, print);
    failed = s.failed;
    if (failed && !quiet) {
        printf("seed %llu FAILED at %.3f s: %s\n", (unsigned long long)seed, (double)s.now / 1e9,
               s.why);
        replay_line(seed);
    } else if (!quiet && !p) {
        printf(
            "seed %llu ok: %llu events, %llu faults, %llu crashes, %llu elections, %llu committed,"
            " %llu reads, %llu snapshots, %llu changes, %llu transfers, trace %016llx\n",
            (unsigned long long)seed, (unsigned long long)s.events, (unsigned long long)s.faults,
            (unsigned long long)s.crashes, (unsigned long long)s.elections,
            (unsigned long long)s.committed_count, (unsigned long long)s.reads_done,
            (unsigned long long)s.snapshots, (unsigned long long)s.changes,
            (unsigned long long)s.transfers, (unsigned long long)s.trace);
    }
    if (p) {
        p->done++;
        p->events += s.events;
        p->faults += s.faults;
        if (p->done == 1 || s.faults < p->faults_fewest) {
            p->faults_fewest = s.faults;
        }
        p->crashes += s.crashes;
        p->elections += s.elections;
        p->commits += s.committed_count;
        p->reads += s.reads_done;
        p->snapshots += s.snapshots;
        p->changes += s.changes;
        p->transfers += s.transfers;
    }
    fflush(stdout);
    sim_fini(&s);
    return failed ? 1 : 0;
}

/* A range in a child of its own, for a core that asserts must not end the count. Returns whether
 * a seed failed, and which. */
static bool range_fails(struct range range, bool quiet, struct progress *p, uint64_t *ret_seed)
{
    pid_t child;
    int status;

    p->seed = range.first;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        if (quiet) {
            (void)!freopen("/dev/null", "w", stderr);
        }
        for (uint64_t seed = range.first; seed <= range.last; seed++) {
            p->seed = seed;
            if (run_one(seed, false, quiet, p)) {
                _exit(1);
            }
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("hf-raft-sim");
        exit(1);
    }
    *ret_seed = p->seed;
    if (WIFSIGNALED(status) && !quiet) {
        printf("seed %llu FAILED: the core asserted\n", (unsigned long long)p->seed);
        replay_line(p->seed);
    }
    return status != 0;
}

static void summary(struct range range, const struct progress *p, uint64_t failures)
{
    printf("seeds %llu..%llu: %llu run, %llu failed; events %llu, faults %llu (at least %llu "
           "each), crashes %llu, elections %llu, committed %llu, reads %llu, snapshots %llu, "
           "changes %llu, transfers "
           "%llu\n",
           (unsigned long long)range.first, (unsigned long long)range.last,
           (unsigned long long)p->done, (unsigned long long)failures, (unsigned long long)p->events,
           (unsigned long long)p->faults, (unsigned long long)p->faults_fewest,
           (unsigned long long)p->crashes, (unsigned long long)p->elections,
           (unsigned long long)p->commits, (unsigned long long)p->reads,
           (unsigned long long)p->snapshots, (unsigned long long)p->changes,
           (unsigned long long)p->transfers);
}

static struct progress *shared_progress(void)
{
    struct progress *p =
        mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    HF_ASSERT(p != MAP_FAILED);
    return p;
}

/* The seeds of one job, in chunks so that progress shows. Returns the number of failures. */
static uint64_t run_job(struct range range, bool show)
{
    struct progress *p = shared_progress();
    const time_t begun = time(NULL);
    uint64_t failures = 0, at = range.first;
    time_t shown = begun;

    while (at <= range.last && failures < 20) {
        struct range chunk = {at, range.last - at > 99 ? at + 99 : range.last};
        const time_t now = time(NULL);
        uint64_t seed;

        if (range_fails(chunk, false, p, &seed)) {
            failures++;
            at = seed + 1;
        } else {
            at = chunk.last + 1;
        }
        if (show && now >= shown + 5) {
            const uint64_t done = at - range.first, all = range.last - range.first + 1;

            shown = now;
            fprintf(stderr, "%llu of %llu seeds, %llu failed, %llu s left\n",
                    (unsigned long long)done, (unsigned long long)all, (unsigned long long)failures,
                    (unsigned long long)((uint64_t)(now - begun) * (all - done) / done));
        }
    }
    summary(range, p, failures);
    return failures;
}

static void start_job(struct range part, bool show)
{
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child < 0) {
        perror("hf-raft-sim");
        exit(1);
    }
    if (child == 0) {
        const uint64_t failures = run_job(part, show);

        fflush(stdout);
        _exit(failures ? 1 : 0);
    }
}

static int run_range(struct range range, unsigned jobs)
{
    const uint64_t each = (range.last - range.first + jobs) / jobs;
    int bad = 0, status;

    if (jobs <= 1) {
        return run_job(range, true) ? 1 : 0;
    }
    for (unsigned i = 0; i < jobs; i++) { /* nothing wraps below ARGS_RANGE_LAST + JOBS_MAX */
        struct range part = {range.first + i * each, range.first + (i + 1) * each - 1};

        part.last = part.last < range.last ? part.last : range.last;
        if (part.first <= part.last) {
            start_job(part, i == 0);
        }
    }
    while (wait(&status) > 0) {
        bad |= status != 0;
    }
    return bad;
}

static int check_bugs(struct range range)
{
    unsigned found = 0;
    unsigned all = 0;

    for (size_t i = 1; i < HF_ARRAY_LEN(hf_bug_rows); i++) {
        struct progress *p;
        uint64_t seed;

        if (!is_ours(&hf_bug_rows[i])) {
            continue;
        }
        if (set_bug(hf_bug_rows[i].name)) {
            return 2;
        }
        p = shared_progress();
        all++;
        if (range_fails(range, true, p, &seed)) {
            found++;
            printf("%-24s found at seed %llu (%llu run)\n", hf_bug_rows[i].name,
                   (unsigned long long)seed, (unsigned long long)(seed - range.first + 1));
        } else {
            printf("%-24s NOT FOUND in %llu seeds\n", hf_bug_rows[i].name,
                   (unsigned long long)p->done);
        }
        fflush(stdout);
        munmap(p, sizeof(*p));
    }
    printf("%u of %u planted bugs found\n", found, all);
    return found == all ? 0 : 1;
}

static void list_bugs(void)
{
    for (size_t i = 1; i < HF_ARRAY_LEN(hf_bug_rows); i++) {
        if (is_ours(&hf_bug_rows[i])) {
            printf("%-24s %s\n", hf_bug_rows[i].name, hf_bug_rows[i].text);
        }
    }
}

static const char usage_text[] =
    "usage: hf-raft-sim --seed N [--trace] [--bug NAME]\n"
    "       hf-raft-sim --seeds A..B [--jobs N] [--bug NAME]\n"
    "       hf-raft-sim --list-bugs | --check-bugs --seeds A..B\n"
    "\n"
    "Runs clusters of the Raft core, one for each seed, and checks them after every event.\n"
    "\n"
    "  --seed N       one seed; with --trace, every event of it\n"
    "  --seeds A..B   a range, in N processes with --jobs; a seed that fails prints its replay\n"
    "  --bug NAME     with that mistake planted (a build with -Dplanted_bugs=true)\n"
    "  --list-bugs    their names\n"
    "  --check-bugs   is each of them found within the range?\n"
    "\n"
    "Exit status: 0 clean, 1 a seed failed or a bug was not found, 2 misused.\n";

static int misused(const char *why)
{
    fprintf(stderr, "hf-raft-sim: %s; see hf-raft-sim --help\n", why);
    return 2;
}

static int bad_value(const char *option, const char *value, const char *want)
{
    fprintf(stderr, "hf-raft-sim: %s %s: not %s; see hf-raft-sim --help\n", option, value, want);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'r'},
        {"jobs", required_argument, NULL, 'j'},
        {"trace", no_argument, NULL, 't'},
        {"bug", required_argument, NULL, 'b'},
        {"list-bugs", no_argument, NULL, 'l'},
        {"check-bugs", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct range range = {0, 0};
    bool trace = false, check = false;
    uint64_t jobs = 1;
    int c, seeds = 0; /* the option that named them */

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 's':
            if (args_number(optarg, 0, UINT64_MAX, &range.first)) {
                return bad_value("--seed", optarg, "a number from 0 to 2^64 - 1");
            }
            range.last = range.first;
            seeds = c;
            break;
        case 'r':
            if (args_range(optarg, &range.first, &range.last)) {
                return bad_value("--seeds", optarg, "A..B with A <= B < 2^63");
            }
            seeds = c;
            break;
        case 'j':
            if (args_number(optarg, 1, JOBS_MAX, &jobs)) {
                return bad_value("--jobs", optarg, "a number from 1 to 256");
            }
            break;
        case 't':
            trace = true;
            break;
        case 'b':
            if (set_bug(optarg)) {
                return 2;
            }
            break;
        case 'l':
            list_bugs();
            return 0;
        case 'c':
            check = true;
            break;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        default: /* getopt has said what it does not know */
            (void)fputs(usage_text, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        return bad_value("argument", argv[optind], "one that it takes");
    }
    if (check ? seeds != 'r' : !seeds) {
        return misused(check ? "--check-bugs needs --seeds A..B"
                             : "needs --seed N or --seeds A..B");
    }
    if (check) {
        return check_bugs(range);
    }
    return seeds == 's' ? run_one(range.first, trace, false, NULL)
                        : run_range(range, (unsigned)jobs);
}
