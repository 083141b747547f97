/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsx_shrink.c - a failing sequence made small, by delta debugging (Zeller and Hildebrandt,
 * "Simplifying and Isolating Failure-Inducing Input", 2002): parts are left out, ever smaller ones.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/posix/torture/fsx.h"

#define FIRST_TAIL 32u

struct shrink {
    struct fsx_config config;
    struct fsx_op *ops; /* shared: what is tried */
    unsigned tries;
    uint64_t runs;
    uint64_t failed_at; /* of the last run that failed */
};

static bool still_fails(struct shrink *shrink, const struct fsx_op *ops, uint64_t count)
{
    static struct fsx_result result;
    bool failed = false;

    for (unsigned i = 0; i < shrink->tries && !failed && count > 0; i++) {
        memcpy(shrink->ops, ops, count * sizeof(*ops));
        fsx_run(&shrink->config, shrink->ops, count, &result);
        shrink->runs++;
        failed = result.outcome == FSX_MISMATCH;
        shrink->failed_at = result.failed_index;
    }
    return failed;
}

/* What comes after the one that fails does not matter. */
static uint64_t cut_after(const struct shrink *shrink, uint64_t count)
{
    return shrink->failed_at + 1 < count ? shrink->failed_at + 1 : count;
}

/* The last operations alone, if they do: ever more of them. */
static uint64_t take_tail(struct shrink *shrink, struct fsx_op *ops, uint64_t count)
{
    for (uint64_t tail = FIRST_TAIL; tail < count; tail *= 4) {
        if (still_fails(shrink, ops + count - tail, tail)) {
            memmove(ops, ops + count - tail, tail * sizeof(*ops));
            return cut_after(shrink, tail);
        }
    }
    return count;
}

/* Leave out each part of @part operations once. */
static uint64_t leave_out_parts(struct shrink *shrink, struct fsx_op *ops, uint64_t count,
                                uint64_t part)
{
    struct fsx_op *rest = malloc((count + 1) * sizeof(*rest));
    uint64_t at = 0;

    while (rest && at < count) {
        uint64_t len = part < count - at ? part : count - at;

        memcpy(rest, ops, at * sizeof(*ops));
        memcpy(rest + at, ops + at + len, (count - at - len) * sizeof(*ops));
        if (still_fails(shrink, rest, count - len)) {
            count = cut_after(shrink, count - len);
            memcpy(ops, rest, count * sizeof(*ops));
        } else {
            at += len;
        }
        if (isatty(STDERR_FILENO) && !shrink->config.quiet) {
            fprintf(stderr, "shrinking: %llu operations, run %llu  \r", (unsigned long long)count,
                    (unsigned long long)shrink->runs);
        }
    }
    free(rest);
    return count;
}

/* One process is enough, mostly. */
static void take_one_process(struct shrink *shrink, struct fsx_op *ops, uint64_t count)
{
    struct fsx_op *single = malloc((count + 1) * sizeof(*single));

    if (single) {
        for (uint64_t i = 0; i < count; i++) {
            single[i] = ops[i];
            single[i].process = 0;
        }
        if (still_fails(shrink, single, count)) {
            memcpy(ops, single, count * sizeof(*ops));
        }
    }
    free(single);
}

uint64_t fsx_shrink(const struct fsx_config *config, struct fsx_op *ops, uint64_t count,
                    unsigned tries)
{
    struct shrink shrink = {.config = *config, .tries = tries};
    uint64_t whole = count, before;

    shrink.config.log = NULL;
    shrink.config.quiet = true;
    shrink.ops = torture_shared_memory((count + 1) * sizeof(*ops));
    count = take_tail(&shrink, ops, count);
    if (count < whole || still_fails(&shrink, ops, count)) {
        take_one_process(&shrink, ops, count);
        do {
            before = count;
            for (uint64_t part = count / 2 + 1; part > 1; part /= 2) {
                count = leave_out_parts(&shrink, ops, count, part);
            }
            count = leave_out_parts(&shrink, ops, count, 1);
        } while (count < before);
    }
    (void)munmap(shrink.ops, (whole + 1) * sizeof(*ops));
    return count;
}
