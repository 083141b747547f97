/* SPDX-License-Identifier: Apache-2.0 */
/* fss_run.c - one run: directories, processes, the last comparison. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/torture/fsstress.h"

static void start(void *ctx, unsigned process)
{
    struct fss *fss = ctx;

    fss->process = process;
    fss->model = malloc(sizeof(*fss->model));
    if (!fss->model) {
        _exit(2);
    }
    fss_model_init(fss->model);
    for (unsigned i = 0; i < FSS_HELD; i++) {
        fss->held[i].fd = -1;
    }
}

/* Names out of nowhere mostly do not exist: many operations take one that does. */
static void take_existing(const struct fss *fss, struct fss_op *op)
{
    const struct fss_model *model = fss->model;
    uint64_t chance = torture_hash(op->value, op->id);
    uint32_t from = (uint32_t)(chance >> 8) % FSS_ENTRIES;

    if (chance % 100 >= 65 || model->entry_count == 0) {
        return;
    }
    while (!model->entries[from].used) {
        from = (from + 1) % FSS_ENTRIES;
    }
    op->name = model->entries[from].name;
    for (op->dir = 0; model->dirs[op->dir] != model->entries[from].dir;) {
        op->dir++;
    }
}

/* The process's next operation, drawn or of the log. False: there is none. */
static bool next_op(struct fss *fss, uint64_t index, struct fss_op *ret)
{
    if (!fss->ops) {
        *ret = fss_draw(fss->config, fss->process, index);
        if (ret->kind > FSS_MKFIFO || ret->kind == FSS_WRITE || ret->kind == FSS_READ ||
            ret->kind == FSS_TRUNCATE) {
            take_existing(fss, ret);
        }
        return true;
    }
    while (fss->replay_at < fss->op_count) {
        *ret = fss->ops[fss->replay_at++];
        if (ret->process == fss->process) {
            return true;
        }
    }
    return false;
}

static void step(void *ctx, unsigned process, uint64_t index)
{
    struct fss *fss = ctx;
    char line[520];
    char *text = fss->history[fss->history_next % FSS_HISTORY];

    (void)process;
    if (!next_op(fss, index, &fss->now)) {
        return;
    }
    fss_op_text(fss, fss->op, text, sizeof(fss->history[0]));
    fss->history_next++;
    if (fss->log_fd >= 0) {
        int n = snprintf(line, sizeof(line), "%s\n", text);

        (void)!write(fss->log_fd, line, (size_t)n);
    }
    fss_do(fss);
}

/* Nothing moves any more in this process's directory. */
static void end(void *ctx, unsigned process)
{
    struct fss *fss = ctx;

    for (uint16_t i = 0; i < 2 * FSS_HELD; i++) {
        fss->now = (struct fss_op){.kind = i < FSS_HELD ? FSS_HELD_READ : FSS_RELEASE,
                                   .process = (uint8_t)process,
                                   .dir = i % FSS_HELD};
        fss_do_data(fss, FSS_ROOT, FSS_NONE);
    }
    for (unsigned m = 0; m < fss->mounts; m++) {
        fss_meet_moved(fss, m);
        if (!fss_check_tree(fss, m)) {
            break;
        }
    }
}

/* Directories */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)at;
    return flag == FTW_DP || flag == FTW_DNR ? rmdir(path) : unlink(path);
}

static bool make_dir(const struct fss *fss, const char *name)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", fss->base[0], name);
    if (mkdir(path, 0755)) {
        fprintf(stderr, "holdfast-fsstress: cannot make %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}

static bool prepare(struct fss *fss)
{
    static unsigned runs;
    const struct fss_config *config = fss->config;
    char name[16];
    struct stat st;

    for (unsigned m = 0; m < fss->mounts; m++) {
        (void)snprintf(fss->base[m], sizeof(fss->base[m]), "%s/stress.%d.%u", config->dirs[m],
                       (int)getpid(), runs);
    }
    runs++;
    (void)umask(0);
    if (!make_dir(fss, "") || !make_dir(fss, "shared")) {
        return false;
    }
    fss->counts_subdirs = lstat(fss->base[0], &st) == 0 && st.st_nlink == 3;
    fss->has_xattrs = setxattr(fss->base[0], "user.probe", "1", 1, 0) == 0;
    for (unsigned i = 0; i < config->processes; i++) {
        (void)snprintf(name, sizeof(name), "p%u", i);
        if (!make_dir(fss, name)) {
            return false;
        }
    }
    if (fss->mounts > 1 && access(fss->base[1], F_OK)) {
        fprintf(stderr, "holdfast-fsstress: %s is not %s through another mount\n", config->dirs[1],
                config->dirs[0]);
        return false;
    }
    if (config->log) {
        fss->log_fd = open(config->log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
        if (fss->log_fd < 0) {
            fprintf(stderr, "holdfast-fsstress: %s: %s\n", config->log, strerror(errno));
            return false;
        }
    }
    return true;
}

/* Of one process's operations the most that any has. */
static uint64_t longest(const struct fss_op *ops, uint64_t count)
{
    uint64_t of[TORTURE_PROCESSES] = {0}, most = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t n = ++of[ops[i].process];

        most = n > most ? n : most;
    }
    return most;
}

enum fss_outcome fss_run(const struct fss_config *config, const struct fss_op *ops, uint64_t count,
                         char report[TORTURE_REPORT])
{
    struct fss *fss = calloc(1, sizeof(*fss));
    struct torture_play play = {.processes = config->processes,
                                .stall_s = config->stall_s,
                                .quiet = config->quiet,
                                .tool = "holdfast-fsstress",
                                .step = step,
                                .start = start,
                                .end = end,
                                .ctx = fss};
    enum fss_outcome outcome = FSS_CANNOT;

    if (!fss) {
        return FSS_CANNOT;
    }
    fss->config = config;
    fss->ops = ops;
    fss->op_count = count;
    fss->mounts = config->dirs[1] ? 2 : 1;
    fss->op = &fss->now;
    fss->log_fd = -1;
    fss->shared = play.shared = torture_shared_memory(sizeof(*fss->shared));
    torture_shared_init(fss->shared, ops ? longest(ops, count) * config->processes : config->ops);
    if (prepare(fss)) {
        outcome = torture_play(&play) && fss_check_public(fss) ? FSS_CLEAN : FSS_MISMATCH;
        memcpy(report, fss->shared->report, TORTURE_REPORT);
    }
    (void)nftw(fss->base[0], remove_one, 64, FTW_DEPTH | FTW_PHYS);
    if (fss->log_fd >= 0) {
        (void)close(fss->log_fd);
    }
    (void)munmap(fss->shared, sizeof(*fss->shared));
    free(fss);
    return outcome;
}
