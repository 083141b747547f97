/* SPDX-License-Identifier: Apache-2.0 */
/* fss_main.c - options, one run or the self-test, what is said of it. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/posix/torture/fsstress.h"

static const char usage[] =
    "usage: holdfast-fsstress [options] DIR\n"
    "\n"
    "names in a new directory below DIR under random operations of many processes: each in a\n"
    "directory of its own, where a model knows every outcome, and all in one that they share\n"
    "\n"
    "  --ops N          operations of all processes (20000)\n"
    "  --seed S         what is drawn (the time)\n"
    "  --processes P    at a time (4)\n"
    "  --dir2 DIR2      DIR through another mount: each operation takes the one or the other\n"
    "  --log FILE       each operation, a line, before it is done\n"
    "  --replay FILE    the operations of a log (with the same --processes)\n"
    "  --stall S        an operation that takes longer than S seconds has failed (300)\n"
    "  --quiet          no progress\n"
    "  --selftest       plant flaws: each must be found\n"
    "  --help           this text\n"
    "\n"
    "At the end the whole tree is compared with the models, through both mounts. Ends with 0: all\n"
    "as the model says, 1: a mismatch, 2: it could not be tried.\n";

static struct fss_config defaults(void)
{
    return (struct fss_config){
        .ops = 20000,
        .processes = 4,
        .stall_s = 300,
        .weights =
            {
#define X(name, text, weight) [FSS_##name] = weight,
                FSS_KINDS(X)
#undef X
            },
        .seed = (uint64_t)time(NULL),
    };
}

static int selftest(const struct fss_config *base)
{
    static const char *const flaws[FSS_PLANTS + 1] = {"no flaw",
                                                      "a byte that changes by itself",
                                                      "a name that goes by itself",
                                                      "a mode that changes by itself",
                                                      "an attribute that is not kept",
                                                      "NOREPLACE that replaces",
                                                      "files that are published a byte short"};
    static char report[TORTURE_REPORT];
    struct fss_config config = *base;
    bool holds = true;

    config.quiet = true;
    for (config.plant = 0; config.plant <= FSS_PLANTS; config.plant++) {
        enum fss_outcome want = config.plant ? FSS_MISMATCH : FSS_CLEAN;
        enum fss_outcome have = fss_run(&config, NULL, 0, report);

        printf("%-40s%s\n", flaws[config.plant],
               have != want   ? "FAILS"
               : config.plant ? "found"
                              : "none found");
        printf("%s", have == FSS_MISMATCH && !config.plant ? report : "");
        holds = holds && have == want;
    }
    printf("%s\n", holds ? "all planted flaws were found" : "the self-test FAILS");
    return holds ? 0 : 1;
}

static int run(const struct fss_config *config, const char *replay)
{
    static char report[TORTURE_REPORT];
    struct fss_op *ops = NULL;
    uint64_t count = config->ops;
    enum fss_outcome outcome;

    if (replay) {
        ops = fss_log_read(replay, config, &count);
        for (uint64_t i = 0; ops && i < count; i++) {
            ops[i].process = (uint8_t)(ops[i].process % config->processes);
        }
        if (!ops) {
            return 2;
        }
    }
    outcome = fss_run(config, ops, count, report);
    free(ops);
    if (outcome == FSS_CLEAN) {
        printf("%llu operations hold\n", (unsigned long long)count);
    } else if (outcome == FSS_MISMATCH) {
        printf("MISMATCH, seed %llu:\n%s", (unsigned long long)config->seed, report);
    }
    return outcome == FSS_CLEAN ? 0 : outcome == FSS_MISMATCH ? 1 : 2;
}

static bool take_number(const char *option, const char *text, uint64_t max, uint64_t *ret)
{
    if (torture_number(text, ret) && *ret <= max) {
        return true;
    }
    fprintf(stderr, "holdfast-fsstress: --%s: %s is no number up to %llu\n", option, text,
            (unsigned long long)max);
    return false;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"ops", required_argument, NULL, 'o'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"processes", required_argument, NULL, 'p'},
                                          {"dir2", required_argument, NULL, 'd'},
                                          {"log", required_argument, NULL, 'l'},
                                          {"replay", required_argument, NULL, 'r'},
                                          {"stall", required_argument, NULL, 'w'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"selftest", no_argument, NULL, 'T'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct fss_config config = defaults();
    uint64_t processes = config.processes, stall_s = config.stall_s;
    const char *replay = NULL;
    bool fine = true, test = false;
    int opt;

    while (fine && (opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (opt) {
        case 'o':
            fine = take_number("ops", optarg, UINT32_MAX, &config.ops);
            break;
        case 's':
            fine = take_number("seed", optarg, UINT64_MAX, &config.seed);
            break;
        case 'p':
            fine = take_number("processes", optarg, TORTURE_PROCESSES, &processes) && processes;
            break;
        case 'w':
            fine = take_number("stall", optarg, 86400, &stall_s);
            break;
        case 'd':
            config.dirs[1] = optarg;
            break;
        case 'l':
            config.log = optarg;
            break;
        case 'r':
            replay = optarg;
            break;
        case 'q':
            config.quiet = true;
            break;
        case 'T':
            test = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fine = false;
            break;
        }
    }
    if (!fine || optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    config.dirs[0] = argv[optind];
    config.processes = (unsigned)processes;
    config.stall_s = (unsigned)stall_s;
    return test ? selftest(&config) : run(&config, replay);
}
