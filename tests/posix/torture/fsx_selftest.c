/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_selftest.c - does the tool find what it is for? */
#include <stdio.h>
#include <string.h>

#include "tests/posix/torture/fsx.h"

#define OPS 20000u

static const struct {
    const char *name;
    enum fsx_plant plant;
    uint64_t most; /* operations left of it, at most */
} flaws[] = {
    {"a bit that changes by itself", FSX_PLANT_FLIP, 3},
    {"a hole without its last byte", FSX_PLANT_PUNCH, 3},
    {"a write that is lost", FSX_PLANT_LOST, 3},
    {"truncate up by a byte too few", FSX_PLANT_SIZE, 2},
    {"a copy of the bytes beside", FSX_PLANT_COPY, 4},
    {"a stale byte after a change of mounts", FSX_PLANT_HANDOVER, 4},
};

/* True: found and made small. */
static bool try_flaw(const struct fsx_config *base, unsigned index)
{
    static struct fsx_result result;
    struct fsx_config config = *base;
    uint64_t left;
    char text[256];

    config.plant = flaws[index].plant;
    config.ops = OPS;
    config.quiet = true;
    config.dirs[1] = config.dirs[1] ? config.dirs[1] : config.dirs[0];
    fsx_run(&config, NULL, config.ops, &result);
    printf("%-40s", flaws[index].name);
    if (result.outcome != FSX_MISMATCH) {
        printf("%s\n", result.outcome == FSX_CLEAN ? "NOT FOUND" : "cannot be tried");
        fsx_result_free(&result);
        return false;
    }
    left = fsx_shrink(&config, result.ops, result.failed_index + 1, 1);
    printf("found by operation %llu, %llu operations are enough\n",
           (unsigned long long)result.failed_index, (unsigned long long)left);
    for (uint64_t i = 0; i < left && i < 6; i++) {
        fsx_op_text(&result.ops[i], text, sizeof(text));
        printf("    %s\n", text);
    }
    fsx_result_free(&result);
    return left <= flaws[index].most;
}

/* The lines are: bytes between members may differ. */
static bool are_same(const struct fsx_op *a, const struct fsx_op *b, uint64_t count)
{
    char line[2][256];
    bool same = true;

    for (uint64_t i = 0; same && i < count; i++) {
        fsx_op_text(&a[i], line[0], sizeof(line[0]));
        fsx_op_text(&b[i], line[1], sizeof(line[1]));
        same = strcmp(line[0], line[1]) == 0;
    }
    return same;
}

/* Without a flaw nothing is found, and the same seed draws the same. */
static bool try_sound(const struct fsx_config *base)
{
    static struct fsx_result first, second;
    struct fsx_config config = *base;
    bool holds;

    config.ops = OPS;
    config.quiet = true;
    config.dirs[1] = config.dirs[1] ? config.dirs[1] : config.dirs[0];
    fsx_run(&config, NULL, config.ops, &first);
    fsx_run(&config, NULL, config.ops, &second);
    holds = first.outcome == FSX_CLEAN && second.outcome == FSX_CLEAN &&
            are_same(first.ops, second.ops, OPS);
    printf("%-40s%s\n%s", "no flaw", holds ? "none found, twice the same" : "FAILS",
           first.outcome == FSX_CLEAN ? second.report : first.report);
    fsx_result_free(&first);
    fsx_result_free(&second);
    return holds;
}

/* Each line of a log is the operation that it was written from. */
static bool try_lines(const struct fsx_config *base)
{
    static struct fsx_result result;
    struct fsx_config config = *base;
    struct fsx_op op;
    char text[256];
    bool holds;

    config.ops = 1000;
    config.quiet = true;
    fsx_run(&config, NULL, config.ops, &result);
    holds = result.outcome == FSX_CLEAN;
    for (uint64_t i = 0; holds && i < config.ops; i++) {
        fsx_op_text(&result.ops[i], text, sizeof(text));
        holds = fsx_op_parse(text, &op) && are_same(&op, &result.ops[i], 1);
    }
    printf("%-40s%s\n", "lines of a log", holds ? "read back as written" : "FAILS");
    fsx_result_free(&result);
    return holds;
}

int fsx_selftest(const struct fsx_config *config)
{
    bool holds = try_sound(config) && try_lines(config);

    for (unsigned i = 0; i < sizeof(flaws) / sizeof(flaws[0]); i++) {
        holds = try_flaw(config, i) && holds;
    }
    printf("%s\n", holds ? "all planted flaws were found" : "the self-test FAILS");
    return holds ? 0 : 1;
}
