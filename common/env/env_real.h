/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_real.h - the production environment: a libevent loop, worker threads, sockets, files.
 *
 * Threads: made and freed on the thread that runs the loop.
 */
#ifndef HF_ENV_ENV_REAL_H
#define HF_ENV_ENV_REAL_H

#include "common/env/env.h"

struct hf_env_real_options {
    unsigned disk_threads; /* of HF_POOL_DISK; 0: 2 */
    int cpu;               /* pin the loop thread to this CPU; -1: not */
};

/** Errors: -ENOMEM, -EMFILE, -EINVAL (no such cpu). Ignores SIGPIPE. */
int hf_env_real_new(const struct hf_env_real_options *options, struct hf_env **ret);
/** Run the loop until hf_env_real_stop(). Errors: -EIO  the loop itself failed. */
int hf_env_real_run(struct hf_env *env);
/** Loop thread, or a signal callback. The current callback and queued tasks still run. */
void hf_env_real_stop(struct hf_env *env);
/** Joins the workers (queued jobs run first, their done() does too). NULL is a no-op. */
void hf_env_real_free(struct hf_env *env);

/** Let this process have as many files open as it may at most; returns how many. */
uint32_t hf_env_real_raise_files(void);

/** fn runs on the loop when the process gets @signum. */
typedef void (*hf_signal_fn)(void *ctx, int signum);
int hf_env_real_on_signal(struct hf_env *env, int signum, hf_signal_fn fn, void *ctx);

/* A file descriptor of somebody else's (/dev/fuse), watched for reading. */
struct hf_fd_watch;
int hf_env_real_watch_fd(struct hf_env *env, int fd, void (*fn)(void *ctx), void *ctx,
                         struct hf_fd_watch **ret);
void hf_fd_watch_set(struct hf_fd_watch *watch, bool enabled);
/** Does not close the descriptor. NULL is a no-op. */
void hf_fd_watch_free(struct hf_fd_watch *watch);

#endif
