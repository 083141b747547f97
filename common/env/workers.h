/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers.h - one pool of worker threads with a first-in first-out queue of jobs.
 *
 *     submit ──► queue ──► run() on a thread ──► finished(ctx, job) on that thread
 *
 * Threads start when work comes and nobody is idle, up to the pool's limit. A sleeping thread is
 * woken; a busy one finds the next job by itself.
 *
 * Threads: submit and join on the loop thread.
 */
#ifndef HF_ENV_WORKERS_H
#define HF_ENV_WORKERS_H

#include <pthread.h>
#include <sched.h>

#include "common/env/env.h"

#define HF_WORKERS_MAX 64u /* threads of one pool */

typedef void (*hf_job_finished_fn)(void *ctx, struct hf_job *job); /* worker thread */

struct hf_workers {
    const char *name; /* of the threads; at most 15 bytes */
    unsigned thread_max;
    const cpu_set_t *cpus; /* where the threads may run, whatever the loop is pinned to */
    hf_job_finished_fn finished;
    void *ctx;

    pthread_t threads[HF_WORKERS_MAX];
    unsigned thread_count; /* loop thread only */

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t work;
    struct hf_job *head;
    struct hf_job **tail;
    unsigned idle;     /* threads waiting on `work` and not yet promised a job */
    unsigned promised; /* threads woken for a job they have not taken yet */
    bool joining;
};

void hf_workers_init(struct hf_workers *workers, const char *name, unsigned thread_max,
                     const cpu_set_t *cpus, hf_job_finished_fn finished, void *ctx);
/** Joined before. */
void hf_workers_fini(struct hf_workers *workers);

/** Aborts when not even one thread can be started: the job has no other way to finish. */
void hf_workers_submit(struct hf_workers *workers, struct hf_job *job);
/** Run everything queued, end the threads. The pool can be used again. */
void hf_workers_join(struct hf_workers *workers);

#endif
