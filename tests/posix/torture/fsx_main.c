/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_main.c - options, one run, what is said of it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/posix/torture/fsx.h"

static const char usage[] =
    "usage: holdfast-fsx [options] DIR\n"
    "\n"
    "two new files in DIR under random operations, compared byte by byte with a model of them\n"
    "\n"
    "  --ops N          operations (100000)\n"
    "  --seed S         what is drawn (the time)\n"
    "  --size MAX       largest size of a file, 8k..1g (256k)\n"
    "  --processes P    that take turns (1)\n"
    "  --dir2 DIR2      DIR through another mount: operations alternate between the mounts\n"
    "  --log FILE       each operation, a line, before it is done\n"
    "  --replay FILE    the operations of a log (with the same --size)\n"
    "  --shrink         of a failing sequence leave out what is not needed, and print the rest\n"
    "  --tries N        ... runs of each candidate: more when it fails only now and then (1)\n"
    "  --stall S        an operation that takes longer than S seconds has failed (300)\n"
    "  --no-NAME        never: read write truncate punch zero allocate copy seek stat fsync "
    "reopen\n"
    "                   drop peek verify, or so: direct mmap held append lseek vector sync keep "
    "path\n"
    "                   other close soft\n"
    "  --quiet          no progress\n"
    "  --selftest       plant flaws: each must be found\n"
    "  --help           this text\n"
    "\n"
    "ends with 0: all as the model says, 1: a mismatch, 2: it could not be tried\n";

struct choice {
    struct fsx_config config;
    const char *replay;
    bool shrink, selftest;
    uint64_t tries;
};

static struct fsx_config defaults(void)
{
    return (struct fsx_config){
        .ops = 100000,
        .max_bytes = 256 << 10,
        .processes = 1,
        .stall_s = 300,
        .weights =
            {
#define X(name, text, weight) [FSX_##name] = weight,
                FSX_KINDS(X)
#undef X
            },
        .hows = (1u << FSX_HOW_COUNT) - 1,
        .seed = (uint64_t)time(NULL),
    };
}

/* --no-NAME are taken out of argv. False: no such name. */
static bool take_no(struct fsx_config *config, int *argc, char **argv)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--no-", 5) != 0) {
            argv[kept++] = argv[i];
        } else if (!fsx_leave_out(config, argv[i] + 5)) {
            fprintf(stderr, "holdfast-fsx: nothing has the name %s\n", argv[i] + 5);
            return false;
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return true;
}

static bool take_number(const char *option, const char *text, uint64_t min, uint64_t max,
                        uint64_t *ret)
{
    if (torture_number(text, ret) && *ret >= min && *ret <= max) {
        return true;
    }
    fprintf(stderr, "holdfast-fsx: --%s: %s is not within %llu..%llu\n", option, text,
            (unsigned long long)min, (unsigned long long)max);
    return false;
}

static bool take_option(struct choice *choice, int opt, const char *arg)
{
    struct fsx_config *config = &choice->config;
    uint64_t value = 0;
    bool fine = true;

    switch (opt) {
    case 'o':
        fine = take_number("ops", arg, 1, UINT32_MAX - 1, &config->ops);
        break;
    case 's':
        fine = take_number("seed", arg, 0, UINT64_MAX, &config->seed);
        break;
    case 'm':
        fine = take_number("size", arg, 8192, 1 << 30, &config->max_bytes);
        config->max_bytes = config->max_bytes / FSX_ALIGN * FSX_ALIGN;
        break;
    case 'p':
        fine = take_number("processes", arg, 1, TORTURE_PROCESSES, &value);
        config->processes = (unsigned)value;
        break;
    case 't':
        fine = take_number("tries", arg, 1, 1000, &choice->tries);
        break;
    case 'w':
        fine = take_number("stall", arg, 1, 86400, &value);
        config->stall_s = (unsigned)value;
        break;
    case 'd':
        config->dirs[1] = arg;
        break;
    case 'l':
        config->log = arg;
        break;
    case 'r':
        choice->replay = arg;
        break;
    case 'k':
        choice->shrink = true;
        break;
    case 'q':
        config->quiet = true;
        break;
    case 'T':
        choice->selftest = true;
        break;
    default:
        fine = false;
        break;
    }
    return fine;
}

static void show_shrunken(const struct choice *choice, struct fsx_op *ops, uint64_t count)
{
    char text[256], path[PATH_MAX];
    uint64_t left = fsx_shrink(&choice->config, ops, count, (unsigned)choice->tries);

    if (left == count) {
        printf("not made smaller: it does not fail again, or all of it is needed\n");
        return;
    }
    printf("%llu operations are enough:\n", (unsigned long long)left);
    for (uint64_t i = 0; i < left && i < 100; i++) {
        fsx_op_text(&ops[i], text, sizeof(text));
        printf("  %s\n", text);
    }
    if (choice->config.log) {
        (void)snprintf(path, sizeof(path), "%s.small", choice->config.log);
        printf("%s %s\n", fsx_log_write(path, ops, left) ? "written to" : "cannot write", path);
    }
}

static int run(const struct choice *choice)
{
    static struct fsx_result result;
    const struct fsx_config *config = &choice->config;
    struct fsx_op *ops = NULL;
    uint64_t count = config->ops;

    if (choice->replay) {
        count = fsx_log_read(choice->replay, config, &ops);
        if (count == 0) {
            return 2;
        }
    }
    fsx_run(config, ops, count, &result);
    if (result.outcome == FSX_CLEAN) {
        printf("%llu operations hold (%llu had nothing to do), %llu MiB read, %llu MiB written, "
               "%llu changes of mount\n",
               (unsigned long long)count, (unsigned long long)result.skipped,
               (unsigned long long)result.bytes_read >> 20,
               (unsigned long long)result.bytes_written >> 20,
               (unsigned long long)result.handovers);
        return 0;
    }
    if (result.outcome == FSX_MISMATCH) {
        uint64_t done = result.failed_index + 1 < count ? result.failed_index + 1 : count;

        printf("MISMATCH at operation %llu, seed %llu:\n%s",
               (unsigned long long)result.failed_index, (unsigned long long)config->seed,
               result.report);
        (void)fflush(stdout);
        if (choice->shrink) {
            show_shrunken(choice, ops ? ops : result.ops, done);
        }
        return 1;
    }
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"ops", required_argument, NULL, 'o'},    {"seed", required_argument, NULL, 's'},
        {"size", required_argument, NULL, 'm'},   {"processes", required_argument, NULL, 'p'},
        {"dir2", required_argument, NULL, 'd'},   {"log", required_argument, NULL, 'l'},
        {"replay", required_argument, NULL, 'r'}, {"shrink", no_argument, NULL, 'k'},
        {"tries", required_argument, NULL, 't'},  {"stall", required_argument, NULL, 'w'},
        {"quiet", no_argument, NULL, 'q'},        {"selftest", no_argument, NULL, 'T'},
        {"help", no_argument, NULL, 'h'},         {0}};
    struct choice choice = {.config = defaults(), .tries = 1};
    int opt;

    if (!take_no(&choice.config, &argc, argv)) {
        return 2;
    }
    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (opt == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (!take_option(&choice, opt, optarg)) {
            fputs(opt == '?' ? usage : "", stderr);
            return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    choice.config.dirs[0] = argv[optind];
    if (!choice.config.dirs[1] && !choice.selftest) {
        choice.config.weights[FSX_PEEK] = 0;
        choice.config.hows &= (uint16_t) ~(FSX_CLOSING | FSX_SOFT);
    }
    return choice.selftest ? fsx_selftest(&choice.config) : run(&choice);
}
