/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_file.c - open files of one process, their handover between mounts, their mappings. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/posix/torture/fsx.h"

static sigjmp_buf bus_error;

bool fsx_is_planted(const struct fsx *fsx, enum fsx_plant plant)
{
    return fsx->config->plant == plant;
}

struct fsx_model *fsx_model_of(struct fsx *fsx, unsigned file)
{
    return &fsx->shared->files[file];
}

void fsx_fails(struct fsx *fsx, const struct fsx_op *op, const char *what, int error)
{
    char text[256];

    fsx_op_text(op, text, sizeof(text));
    torture_report(&fsx->shared->torture, "%s\n%s: %s\n", text, what, error ? strerror(error) : "");
}

void fsx_differs(struct fsx *fsx, const struct fsx_op *op, const char *what, int64_t have,
                 int64_t want)
{
    char text[256];

    fsx_op_text(op, text, sizeof(text));
    torture_report(&fsx->shared->torture, "%s\n%s: %lld, not %lld; the size is %llu\n", text, what,
                   (long long)have, (long long)want,
                   (unsigned long long)fsx_model_of(fsx, op->file)->size);
    fsx_model_history(fsx, op->file, want > 0 ? (uint64_t)want - 1 : 0);
}

/* Files */

const char *fsx_path(const struct fsx *fsx, unsigned mount, unsigned file)
{
    static char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s.%u", fsx->config->dirs[mount], fsx->name, file);
    return path;
}

/* -1: reported */
int fsx_fd(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file, bool direct)
{
    int *fd = direct ? &fsx->direct_fds[mount][file] : &fsx->fds[mount][file];

    if (*fd < 0) {
        *fd = open(fsx_path(fsx, mount, file), O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (*fd < 0) {
            fsx_fails(fsx, op, direct ? "open with O_DIRECT" : "open", errno);
        }
    }
    return *fd;
}

static bool close_fd(struct fsx *fsx, const struct fsx_op *op, int *fd)
{
    int old = *fd;

    *fd = -1;
    if (old >= 0 && close(old)) {
        fsx_fails(fsx, op, "close", errno);
        return false;
    }
    return true;
}

static bool close_file(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file)
{
    if (fsx->maps[mount][file]) {
        (void)munmap(fsx->maps[mount][file], fsx->config->max_bytes);
        fsx->maps[mount][file] = NULL;
    }
    return close_fd(fsx, op, &fsx->direct_fds[mount][file]) &&
           close_fd(fsx, op, &fsx->fds[mount][file]);
}

bool fsx_reopen(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file)
{
    fsx_model_of(fsx, file)->soft = false;
    return close_file(fsx, op, mount, file) && fsx_fd(fsx, op, mount, file, false) >= 0;
}

void fsx_close_all(struct fsx *fsx)
{
    const struct fsx_op none = {.kind = FSX_REOPEN};

    for (unsigned m = 0; m < FSX_MOUNTS; m++) {
        for (unsigned f = 0; f < FSX_FILES; f++) {
            (void)close_file(fsx, &none, m, f);
        }
    }
}

bool fsx_sync(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file,
              bool data_only)
{
    int fd = fsx_fd(fsx, op, mount, file, false);

    if (fd < 0) {
        return false;
    }
    if (data_only ? fdatasync(fd) : fsync(fd)) {
        fsx_fails(fsx, op, data_only ? "fdatasync" : "fsync", errno);
        return false;
    }
    fsx_model_of(fsx, file)->mapped = false;
    return true;
}

/*
 * Where the kernel goes by the size or by pages that it has, and asks nobody: mappings, O_APPEND,
 * and copy_file_range, which ends where it believes the source to end.
 */
static bool needs_fresh_open(const struct fsx_op *op)
{
    return op->how & (FSX_MMAP | FSX_APPEND) || op->kind == FSX_COPY;
}

/* The operation's mount may use the file: what was done through the other is handed over. */
bool fsx_arrive(struct fsx *fsx, const struct fsx_op *op, unsigned file)
{
    struct fsx_model *model = fsx_model_of(fsx, file);
    bool holds = true;

    if (model->home != op->mount) {
        fsx->shared->handovers++;
        fsx->flaw_due = fsx_is_planted(fsx, FSX_PLANT_HANDOVER);
        if (op->how & FSX_CLOSING) {
            holds = fsx_fd(fsx, op, model->home, file, false) >= 0 &&
                    close_file(fsx, op, model->home, file);
        } else {
            holds = fsx_sync(fsx, op, model->home, file, false);
        }
        model->mapped = false;
        model->home = op->mount;
        model->soft = true;
        if (holds && !(op->how & FSX_SOFT)) {
            holds = fsx_reopen(fsx, op, op->mount, file);
        }
    }
    if (holds && model->soft && needs_fresh_open(op)) {
        holds = fsx_reopen(fsx, op, op->mount, file);
    }
    return holds;
}

/* Mappings */

static void on_bus_error(int signal)
{
    (void)signal;
    siglongjmp(bus_error, 1);
}

/* memcpy to or from a mapping. False: SIGBUS. */
static bool touch(uint8_t *to, const uint8_t *from, uint64_t len)
{
    volatile bool holds = false;

    (void)signal(SIGBUS, on_bus_error);
    if (sigsetjmp(bus_error, 1) == 0) {
        memcpy(to, from, len);
        holds = true;
    }
    (void)signal(SIGBUS, SIG_DFL);
    return holds;
}

static bool map_write(struct fsx *fsx, const struct fsx_op *op, uint8_t *map, uint64_t whole,
                      uint64_t skip, uint64_t len)
{
    if (!touch(map + skip, fsx->buf, len)) {
        fsx_fails(fsx, op, "SIGBUS within the file", 0);
        return false;
    }
    if (!(op->how & FSX_SYNC)) {
        fsx_model_of(fsx, op->file)->mapped = true;
    } else if (msync(map, whole, MS_SYNC)) {
        fsx_fails(fsx, op, "msync", errno);
        return false;
    }
    return true;
}

/* The bytes after the end of a last page are zero. */
static bool map_read(struct fsx *fsx, const struct fsx_op *op, const uint8_t *map, uint64_t whole,
                     uint64_t skip, uint64_t len)
{
    static const uint8_t zero[65536];
    uint64_t tail = whole - skip - len;

    if (!touch(fsx->buf, map + skip, len)) {
        fsx_fails(fsx, op, "SIGBUS within the file", 0);
        return false;
    }
    if (op->off + len == fsx_model_of(fsx, op->file)->size && tail <= sizeof(zero) &&
        memcmp(map + skip + len, zero, tail) != 0) {
        fsx_fails(fsx, op, "mapping: not zero after the end of the file", 0);
        return false;
    }
    return true;
}

static uint8_t *held_map(struct fsx *fsx, const struct fsx_op *op, int fd)
{
    uint8_t **map = &fsx->maps[op->mount][op->file];
    void *new;

    if (!*map) {
        new = mmap(NULL, fsx->config->max_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (new == MAP_FAILED) {
            return MAP_FAILED;
        }
        *map = new;
    }
    return *map;
}

/* fsx->buf from or to a shared mapping. */
bool fsx_map_copy(struct fsx *fsx, const struct fsx_op *op, uint64_t len, bool write)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), skip = op->off % page;
    uint64_t whole = (skip + len + page - 1) / page * page;
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);
    uint8_t *map;
    bool holds;

    if (fd < 0) {
        return false;
    }
    map = op->how & FSX_HELD ? held_map(fsx, op, fd)
                             : mmap(NULL, whole, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED,
                                    fd, (off_t)(op->off - skip));
    if (map == MAP_FAILED) {
        fsx_fails(fsx, op, "mmap", errno);
        return false;
    }
    map += op->how & FSX_HELD ? op->off - skip : 0;
    holds = write ? map_write(fsx, op, map, whole, skip, len)
                  : map_read(fsx, op, map, whole, skip, len);
    if (!(op->how & FSX_HELD)) {
        (void)munmap(map, whole);
    }
    return holds;
}
