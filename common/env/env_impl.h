/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_impl.h - what an environment has to supply; for common/env and the simulator only.
 *
 * Streams, listeners and files begin with their vtable pointer; the wrappers in env.c dispatch.
 */
#ifndef HF_ENV_ENV_IMPL_H
#define HF_ENV_ENV_IMPL_H

#include "common/env/env.h"

struct hf_env_ops {
    uint64_t (*mono_ns)(struct hf_env *env);
    uint64_t (*boot_ns)(struct hf_env *env);
    uint64_t (*wall_ns)(struct hf_env *env);
    void (*random)(struct hf_env *env, void *ret, size_t len_bytes);
    void (*timer_arm)(struct hf_env *env, struct hf_timer *timer, uint64_t delay_ns);
    void (*timer_disarm)(struct hf_env *env, struct hf_timer *timer);
    void (*timer_fini)(struct hf_env *env, struct hf_timer *timer);
    void (*post)(struct hf_env *env, struct hf_task *task);
    void (*submit)(struct hf_env *env, enum hf_pool_kind pool, struct hf_job *job);
    bool (*on_loop)(struct hf_env *env);   /* true before the loop runs */
    bool (*on_worker)(struct hf_env *env); /* true before the loop runs, and in simulation */
    int (*listen)(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                  struct hf_listener **ret);
    int (*connect)(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                   void *ctx, struct hf_stream **ret);
};

struct hf_env {
    const struct hf_env_ops *ops;
    struct hf_disk *disk;
    bool starting_up; /* the loop runs, and starts a part up: blocking calls are allowed on it */
};

struct hf_stream_ops {
    void (*set_events)(struct hf_stream *stream, const struct hf_stream_events *events, void *ctx);
    void (*want)(struct hf_stream *stream, bool read, bool write);
    ssize_t (*readv)(struct hf_stream *stream, const struct iovec *iov, int iov_count);
    ssize_t (*writev)(struct hf_stream *stream, const struct iovec *iov, int iov_count);
    const char *(*peer)(const struct hf_stream *stream);
    void (*close)(struct hf_stream *stream);
};

struct hf_stream {
    const struct hf_stream_ops *ops;
};

struct hf_listener_ops {
    const char *(*addr)(const struct hf_listener *listener);
    void (*close)(struct hf_listener *listener);
};

struct hf_listener {
    const struct hf_listener_ops *ops;
};

struct hf_disk_ops {
    int (*open)(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret);
    int (*mkdir)(struct hf_disk *disk, const char *path);
    int (*unlink)(struct hf_disk *disk, const char *path);
    int (*rename)(struct hf_disk *disk, const char *from, const char *to);
    int (*list)(struct hf_disk *disk, const char *path, int (*fn)(void *ctx, const char *name),
                void *ctx);
    int (*sync_dir)(struct hf_disk *disk, const char *path);
    int (*space)(struct hf_disk *disk, const char *path, struct hf_disk_space *ret);
    int (*lock)(struct hf_disk *disk, const char *path, struct hf_file **ret, int *ret_pid);
};

struct hf_disk {
    const struct hf_disk_ops *ops;
};

struct hf_file_ops {
    void (*close)(struct hf_file *file);
    ssize_t (*preadv)(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off);
    ssize_t (*pwritev)(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off);
    ssize_t (*preadv_nowait)(struct hf_file *file, const struct iovec *iov, int iov_count,
                             uint64_t off);
    int (*sync)(struct hf_file *file);
    int (*truncate)(struct hf_file *file, uint64_t len_bytes);
    int (*allocate)(struct hf_file *file, uint64_t len_bytes);
    int (*size)(struct hf_file *file, uint64_t *ret_bytes);
};

struct hf_file {
    const struct hf_file_ops *ops;
};

#endif
