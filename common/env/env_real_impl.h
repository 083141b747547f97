/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_real_impl.h - the production environment's inside, shared by its files in common/env.
 *
 *     any thread: post, finished job ──► queues ──┐ lock; eventfd when the loop may be asleep
 *                                                 ▼
 *     loop: run queued ► may I sleep? ► libevent: sockets, timerfd, signals, watched fds ► again
 *
 * `asleep` is set, under the lock and with empty queues, before the loop waits, and cleared by the
 * first callback that runs or the first poster, so that only a sleeping loop costs a system call.
 */
#ifndef HF_ENV_ENV_REAL_IMPL_H
#define HF_ENV_ENV_REAL_IMPL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/env/env_impl.h"
#include "common/env/timers.h"
#include "common/env/workers.h"

struct signal_watch;

struct hf_env_real {
    struct hf_env env;
    struct event_base *base;
    pthread_t loop_thread; /* while running */
    atomic_bool running;
    bool stopping;
    struct signal_watch *signals;

    struct hf_timers timers;
    int timer_fd;
    uint64_t timer_fd_ns; /* what timer_fd is set to; UINT64_MAX: nothing; may be too early */
    bool firing;
    struct event timer_event;

    cpu_set_t cpus; /* where the process could run before the loop was pinned */
    struct hf_workers pools[HF_POOL_COUNT];
    size_t jobs_open; /* submitted, not yet done() */

    int wake_fd;
    struct event wake_event;
    atomic_bool asleep;
    pthread_mutex_t lock; /* protects the queues */
    struct hf_task *task_head;
    struct hf_task **task_tail;
    size_t task_count;
    struct hf_job *done_head;
    struct hf_job **done_tail;
};

static inline struct hf_env_real *hf_env_real_of(struct hf_env *env)
{
    return (struct hf_env_real *)env;
}

/** First thing in every libevent callback: nobody needs to wake this loop now. */
static inline void hf_env_real_awake(struct hf_env_real *env)
{
    if (atomic_load_explicit(&env->asleep, memory_order_relaxed)) {
        atomic_store_explicit(&env->asleep, false, memory_order_relaxed);
    }
}

/* net_real.c */
int hf_net_real_listen(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                       struct hf_listener **ret);
int hf_net_real_connect(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                        void *ctx, struct hf_stream **ret);

/* disk_real.c */
struct hf_disk *hf_disk_real(void);

#endif
