/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_run.c - one run: new files, processes that take turns, a last look, an outcome. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/posix/torture/fsx.h"

#define LARGEST_PAGE 65536u

static void step(void *ctx, unsigned process, uint64_t index)
{
    struct fsx *fsx = ctx;
    char text[256];

    (void)process;
    if (fsx->drawn) {
        fsx->ops[index] = fsx_draw(fsx, index);
    }
    if (fsx->log_fd >= 0) {
        fsx_op_text(&fsx->ops[index], text, sizeof(text) - 1);
        (void)strcat(text, "\n");
        (void)!write(fsx->log_fd, text, strlen(text)); /* before it is done: it may be the last */
    }
    fsx_do(fsx, &fsx->ops[index]);
}

static unsigned owner(void *ctx, uint64_t index)
{
    return fsx_owner(ctx, index);
}

static bool make_files(const struct fsx *fsx)
{
    char path[4400];
    int fd;

    for (unsigned f = 0; f < FSX_FILES; f++) {
        (void)snprintf(path, sizeof(path), "%s/%s.%u", fsx->config->dirs[0], fsx->name, f);
        fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
        if (fd < 0 || close(fd)) {
            fprintf(stderr, "holdfast-fsx: cannot make %s: %s\n", path, strerror(errno));
            return false;
        }
        (void)snprintf(path, sizeof(path), "%s/%s.%u",
                       fsx->config->dirs[fsx->config->dirs[1] ? 1 : 0], fsx->name, f);
        if (access(path, F_OK)) {
            fprintf(stderr, "holdfast-fsx: %s is not %s through another mount\n",
                    fsx->config->dirs[1], fsx->config->dirs[0]);
            return false;
        }
    }
    return true;
}

static void remove_files(const struct fsx *fsx)
{
    char path[4400];

    for (unsigned f = 0; f < FSX_FILES; f++) {
        (void)snprintf(path, sizeof(path), "%s/%s.%u", fsx->config->dirs[0], fsx->name, f);
        (void)unlink(path);
    }
}

static bool prepare(struct fsx *fsx, const struct fsx_config *config)
{
    static unsigned runs;

    memset(fsx->fds, 0xff, sizeof(fsx->fds));
    memset(fsx->direct_fds, 0xff, sizeof(fsx->direct_fds));
    (void)snprintf(fsx->name, sizeof(fsx->name), "fsx.%d.%u", (int)getpid(), runs++);
    fsx->shared = torture_shared_memory(sizeof(*fsx->shared));
    torture_shared_init(&fsx->shared->torture, fsx->count);
    for (unsigned f = 0; f < FSX_FILES; f++) {
        fsx->shared->files[f].bytes = torture_shared_memory(config->max_bytes);
    }
    fsx->buf = aligned_alloc(FSX_ALIGN, config->max_bytes + LARGEST_PAGE);
    fsx->log_fd = -1;
    if (config->log) {
        fsx->log_fd = open(config->log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
        if (fsx->log_fd < 0) {
            fprintf(stderr, "holdfast-fsx: %s: %s\n", config->log, strerror(errno));
            return false;
        }
    }
    return fsx->buf && make_files(fsx);
}

static void finish(struct fsx *fsx, struct fsx_result *ret)
{
    struct fsx_shared *shared = fsx->shared;

    ret->failed_index = shared->torture.failed_id;
    ret->outcome = shared->torture.failed ? FSX_MISMATCH : FSX_CLEAN;
    memcpy(ret->report, shared->torture.report, sizeof(ret->report));
    ret->skipped = shared->skipped;
    ret->bytes_read = shared->bytes_read;
    ret->bytes_written = shared->bytes_written;
    ret->handovers = shared->handovers;
}

static void release(struct fsx *fsx)
{
    for (unsigned f = 0; f < FSX_FILES; f++) {
        (void)munmap(fsx->shared->files[f].bytes, fsx->config->max_bytes);
    }
    (void)munmap(fsx->shared, sizeof(*fsx->shared));
    if (fsx->log_fd >= 0) {
        (void)close(fsx->log_fd);
    }
    free(fsx->buf);
}

void fsx_run(const struct fsx_config *config, struct fsx_op *ops, uint64_t count,
             struct fsx_result *ret)
{
    struct fsx fsx = {.config = config, .ops = ops, .count = count, .drawn = !ops};
    struct torture_play play = {.processes = config->processes,
                                .stall_s = config->stall_s,
                                .quiet = config->quiet,
                                .tool = "holdfast-fsx",
                                .owner = owner,
                                .step = step,
                                .ctx = &fsx};

    memset(ret, 0, sizeof(*ret));
    ret->outcome = FSX_CANNOT;
    ret->count = count;
    if (!ops) {
        fsx.ops = ret->ops = torture_shared_memory((count + 1) * sizeof(*ops));
    }
    if (prepare(&fsx, config)) {
        play.shared = &fsx.shared->torture;
        if (torture_play(&play)) {
            fsx_verify_all(&fsx);
        }
        fsx_close_all(&fsx);
        finish(&fsx, ret);
    }
    remove_files(&fsx);
    release(&fsx);
}

void fsx_result_free(struct fsx_result *result)
{
    if (result->ops) {
        (void)munmap(result->ops, (result->count + 1) * sizeof(*result->ops));
    }
}
