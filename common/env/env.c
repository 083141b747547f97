/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/env/env_impl.h"

uint64_t hf_env_mono_ns(struct hf_env *env)
{
    return env->ops->mono_ns(env);
}

uint64_t hf_env_boot_ns(struct hf_env *env)
{
    return env->ops->boot_ns(env);
}

uint64_t hf_env_wall_ns(struct hf_env *env)
{
    return env->ops->wall_ns(env);
}

void hf_env_random(struct hf_env *env, void *ret, size_t len_bytes)
{
    env->ops->random(env, ret, len_bytes);
}

uint64_t hf_env_random_u64(struct hf_env *env)
{
    uint64_t v;

    env->ops->random(env, &v, sizeof(v));
    return v;
}

void hf_timer_init(struct hf_timer *timer, struct hf_env *env, hf_timer_fn fn, void *ctx)
{
    *timer = (struct hf_timer){.env = env, .fn = fn, .ctx = ctx};
}

void hf_timer_arm(struct hf_timer *timer, uint64_t delay_ns)
{
    timer->env->ops->timer_arm(timer->env, timer, delay_ns);
    timer->armed = true;
}

void hf_timer_disarm(struct hf_timer *timer)
{
    if (timer->armed) {
        timer->env->ops->timer_disarm(timer->env, timer);
        timer->armed = false;
    }
}

void hf_timer_fini(struct hf_timer *timer)
{
    if (timer->env) {
        hf_timer_disarm(timer);
        timer->env->ops->timer_fini(timer->env, timer);
        timer->env = NULL;
    }
}

void hf_env_post(struct hf_env *env, struct hf_task *task)
{
    env->ops->post(env, task);
}

void hf_env_submit(struct hf_env *env, enum hf_pool_kind pool, struct hf_job *job)
{
    env->ops->submit(env, pool, job);
}

void hf_assert_loop(struct hf_env *env)
{
    HF_ASSERT(env->ops->on_loop(env));
}

void hf_env_starting_up(struct hf_env *env, bool starting_up)
{
    hf_assert_loop(env);
    env->starting_up = starting_up;
}

void hf_assert_worker(struct hf_env *env)
{
    HF_ASSERT(env->starting_up || env->ops->on_worker(env));
}

int hf_net_listen(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                  struct hf_listener **ret)
{
    return env->ops->listen(env, addr, accept, ctx, ret);
}

void hf_listener_close(struct hf_listener *listener)
{
    if (listener) {
        listener->ops->close(listener);
    }
}

const char *hf_listener_addr(const struct hf_listener *listener)
{
    return listener->ops->addr(listener);
}

int hf_net_connect(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                   void *ctx, struct hf_stream **ret)
{
    return env->ops->connect(env, addr, events, ctx, ret);
}

void hf_stream_set_events(struct hf_stream *stream, const struct hf_stream_events *events,
                          void *ctx)
{
    stream->ops->set_events(stream, events, ctx);
}

void hf_stream_want(struct hf_stream *stream, bool read, bool write)
{
    stream->ops->want(stream, read, write);
}

ssize_t hf_stream_readv(struct hf_stream *stream, const struct iovec *iov, int iov_count)
{
    return stream->ops->readv(stream, iov, iov_count);
}

ssize_t hf_stream_writev(struct hf_stream *stream, const struct iovec *iov, int iov_count)
{
    return stream->ops->writev(stream, iov, iov_count);
}

const char *hf_stream_peer(const struct hf_stream *stream)
{
    return stream->ops->peer(stream);
}

void hf_stream_close(struct hf_stream *stream)
{
    if (stream) {
        stream->ops->close(stream);
    }
}

struct hf_disk *hf_env_disk(struct hf_env *env)
{
    return env->disk;
}

int hf_disk_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret)
{
    return disk->ops->open(disk, path, flags, ret);
}

int hf_disk_mkdir(struct hf_disk *disk, const char *path)
{
    return disk->ops->mkdir(disk, path);
}

int hf_disk_unlink(struct hf_disk *disk, const char *path)
{
    return disk->ops->unlink(disk, path);
}

int hf_disk_rename(struct hf_disk *disk, const char *from, const char *to)
{
    return disk->ops->rename(disk, from, to);
}

int hf_disk_list(struct hf_disk *disk, const char *path, int (*fn)(void *ctx, const char *name),
                 void *ctx)
{
    return disk->ops->list(disk, path, fn, ctx);
}

int hf_disk_sync_dir(struct hf_disk *disk, const char *path)
{
    return disk->ops->sync_dir(disk, path);
}

int hf_disk_space(struct hf_disk *disk, const char *path, struct hf_disk_space *ret)
{
    return disk->ops->space(disk, path, ret);
}

int hf_disk_lock(struct hf_disk *disk, const char *path, struct hf_file **ret, int *ret_pid)
{
    return disk->ops->lock(disk, path, ret, ret_pid);
}

void hf_file_close(struct hf_file *file)
{
    if (file) {
        file->ops->close(file);
    }
}

ssize_t hf_file_preadv(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off)
{
    return file->ops->preadv(file, iov, iov_count, off);
}

ssize_t hf_file_pwritev(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off)
{
    return file->ops->pwritev(file, iov, iov_count, off);
}

ssize_t hf_file_preadv_nowait(struct hf_file *file, const struct iovec *iov, int iov_count,
                              uint64_t off)
{
    return file->ops->preadv_nowait(file, iov, iov_count, off);
}

int hf_file_sync(struct hf_file *file)
{
    return file->ops->sync(file);
}

int hf_file_truncate(struct hf_file *file, uint64_t len_bytes)
{
    return file->ops->truncate(file, len_bytes);
}

int hf_file_allocate(struct hf_file *file, uint64_t len_bytes)
{
    return file->ops->allocate(file, len_bytes);
}

int hf_file_size(struct hf_file *file, uint64_t *ret_bytes)
{
    return file->ops->size(file, ret_bytes);
}

int hf_file_read_full(struct hf_file *file, void *buf, size_t len_bytes, uint64_t off,
                      size_t *ret_got)
{
    size_t got = 0;
    int err = 0;

    while (got < len_bytes) {
        struct iovec iov = {.iov_base = (char *)buf + got, .iov_len = len_bytes - got};
        ssize_t n = hf_file_preadv(file, &iov, 1, off + got);

        if (n <= 0) {
            err = n < 0 ? (int)n : -EIO;
            break;
        }
        got += (size_t)n;
    }
    if (ret_got) {
        *ret_got = got;
    }
    return err;
}

int hf_file_write_full(struct hf_file *file, struct iovec *iov, int iov_count, uint64_t off)
{
    while (iov_count > 0) {
        ssize_t n = hf_file_pwritev(file, iov, iov_count, off);

        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        off += (uint64_t)n;
        while (iov_count > 0 && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            iov_count--;
        }
        if (iov_count > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int write_new(struct hf_disk *disk, const char *path, const void *data, size_t len_bytes)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len_bytes};
    struct hf_file *file;
    int err = hf_disk_open(disk, path, HF_FILE_CREATE, &file);

    if (err) {
        return err;
    }
    err = hf_file_truncate(file, 0);
    if (!err) {
        err = hf_file_write_full(file, &iov, len_bytes ? 1 : 0, 0);
    }
    if (!err) {
        err = hf_file_sync(file);
    }
    hf_file_close(file);
    return err;
}

int hf_disk_replace(struct hf_disk *disk, const char *path, const void *data, size_t len_bytes)
{
    const char *slash = strrchr(path, '/');
    char *beside = NULL;
    char *dir = NULL;
    int err = -ENOMEM;

    HF_ASSERT(slash != NULL);
    if (asprintf(&beside, "%s.new", path) < 0) {
        return -ENOMEM;
    }
    dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (dir) {
        err = write_new(disk, beside, data, len_bytes);
    }
    if (!err) {
        err = hf_disk_rename(disk, beside, path);
    }
    if (!err) {
        err = hf_disk_sync_dir(disk, dir);
    }
    free(dir);
    free(beside);
    return err;
}

int hf_disk_slurp(struct hf_disk *disk, const char *path, size_t max_bytes, char **ret,
                  size_t *ret_len_bytes)
{
    struct hf_file *file;
    uint64_t size = 0;
    char *data;
    int err = hf_disk_open(disk, path, HF_FILE_READ_ONLY, &file);

    if (err) {
        return err;
    }
    err = hf_file_size(file, &size);
    if (!err && size > max_bytes) {
        err = -EFBIG;
    }
    data = err ? NULL : malloc((size_t)size + 1);
    if (!err && !data) {
        err = -ENOMEM;
    }
    if (!err) {
        err = hf_file_read_full(file, data, (size_t)size, 0, NULL);
    }
    hf_file_close(file);
    if (err) {
        free(data);
        return err;
    }
    data[size] = '\0';
    *ret = data;
    if (ret_len_bytes) {
        *ret_len_bytes = (size_t)size;
    }
    return 0;
}
