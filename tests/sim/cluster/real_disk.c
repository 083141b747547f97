/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/real_disk.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "common/base/assert.h"
#include "common/env/env_impl.h"
#include "common/env/env_real_impl.h"

struct file {
    struct hf_file file;
    struct hf_file *real; /* NULL: its process is gone */
    struct real_disk *disk;
    TAILQ_ENTRY(file) in_disk;
};

struct real_disk {
    struct hf_disk disk;
    TAILQ_HEAD(, file) files;
};

static struct file *file_of(struct hf_file *file)
{
    return (struct file *)file;
}

static void file_close(struct hf_file *f)
{
    struct file *file = file_of(f);

    if (file->real) {
        hf_file_close(file->real);
        TAILQ_REMOVE(&file->disk->files, file, in_disk);
    }
    free(file);
}

static ssize_t file_preadv(struct hf_file *f, const struct iovec *iov, int iov_count, uint64_t off)
{
    return hf_file_preadv(file_of(f)->real, iov, iov_count, off);
}

static ssize_t file_pwritev(struct hf_file *f, const struct iovec *iov, int iov_count, uint64_t off)
{
    return hf_file_pwritev(file_of(f)->real, iov, iov_count, off);
}

static ssize_t file_preadv_nowait(struct hf_file *f, const struct iovec *iov, int iov_count,
                                  uint64_t off)
{
    return hf_file_preadv_nowait(file_of(f)->real, iov, iov_count, off);
}

static int file_sync(struct hf_file *f)
{
    return hf_file_sync(file_of(f)->real);
}

static int file_truncate(struct hf_file *f, uint64_t len_bytes)
{
    return hf_file_truncate(file_of(f)->real, len_bytes);
}

static int file_allocate(struct hf_file *f, uint64_t len_bytes)
{
    return hf_file_allocate(file_of(f)->real, len_bytes);
}

static int file_size(struct hf_file *f, uint64_t *ret_bytes)
{
    return hf_file_size(file_of(f)->real, ret_bytes);
}

static const struct hf_file_ops file_ops = {
    .close = file_close,
    .preadv = file_preadv,
    .pwritev = file_pwritev,
    .preadv_nowait = file_preadv_nowait,
    .sync = file_sync,
    .truncate = file_truncate,
    .allocate = file_allocate,
    .size = file_size,
};

static void wrap(struct hf_disk *disk, struct hf_file *real, struct hf_file **ret)
{
    struct file *file = calloc(1, sizeof(*file));

    HF_ASSERT(file != NULL);
    file->file.ops = &file_ops;
    file->real = real;
    file->disk = (struct real_disk *)disk;
    TAILQ_INSERT_TAIL(&file->disk->files, file, in_disk);
    *ret = &file->file;
}

static int disk_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret)
{
    struct hf_file *real;
    int err = hf_disk_open(hf_disk_real(), path, flags & ~HF_FILE_DIRECT, &real);

    if (!err) {
        wrap(disk, real, ret);
    }
    return err;
}

static int disk_lock(struct hf_disk *disk, const char *path, struct hf_file **ret, int *ret_pid)
{
    struct hf_file *real;
    int err = hf_disk_lock(hf_disk_real(), path, &real, ret_pid);

    if (!err) {
        wrap(disk, real, ret);
    }
    return err;
}

static int disk_mkdir(struct hf_disk *disk, const char *path)
{
    (void)disk;
    return hf_disk_mkdir(hf_disk_real(), path);
}

static int disk_unlink(struct hf_disk *disk, const char *path)
{
    (void)disk;
    return hf_disk_unlink(hf_disk_real(), path);
}

static int disk_rename(struct hf_disk *disk, const char *from, const char *to)
{
    (void)disk;
    return hf_disk_rename(hf_disk_real(), from, to);
}

static int disk_list(struct hf_disk *disk, const char *path, int (*fn)(void *ctx, const char *name),
                     void *ctx)
{
    (void)disk;
    return hf_disk_list(hf_disk_real(), path, fn, ctx);
}

static int disk_sync_dir(struct hf_disk *disk, const char *path)
{
    (void)disk;
    return hf_disk_sync_dir(hf_disk_real(), path);
}

static int disk_space(struct hf_disk *disk, const char *path, struct hf_disk_space *ret)
{
    (void)disk;
    return hf_disk_space(hf_disk_real(), path, ret);
}

static const struct hf_disk_ops disk_ops = {
    .open = disk_open,
    .mkdir = disk_mkdir,
    .unlink = disk_unlink,
    .rename = disk_rename,
    .list = disk_list,
    .sync_dir = disk_sync_dir,
    .space = disk_space,
    .lock = disk_lock,
};

struct hf_disk *real_disk_new(void)
{
    struct real_disk *disk = calloc(1, sizeof(*disk));

    HF_ASSERT(disk != NULL);
    disk->disk.ops = &disk_ops;
    TAILQ_INIT(&disk->files);
    return &disk->disk;
}

void real_disk_drop(struct hf_disk *d)
{
    struct real_disk *disk = (struct real_disk *)d;

    while (!TAILQ_EMPTY(&disk->files)) {
        struct file *file = TAILQ_FIRST(&disk->files);

        TAILQ_REMOVE(&disk->files, file, in_disk);
        hf_file_close(file->real);
        file->real = NULL; /* the process's memory, which nothing calls any more */
    }
}
