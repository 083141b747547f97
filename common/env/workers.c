/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/workers.h"

#include <signal.h>

#include "common/base/assert.h"

static struct hf_job *take_job(struct hf_workers *workers)
{
    struct hf_job *job = workers->head;

    if (job) {
        workers->head = job->next;
        if (!workers->head) {
            workers->tail = &workers->head;
        }
        job->next = NULL;
    }
    return job;
}

static void *worker_main(void *arg)
{
    struct hf_workers *workers = arg;

    (void)pthread_setname_np(pthread_self(), workers->name);
    (void)pthread_mutex_lock(&workers->lock);
    for (;;) {
        struct hf_job *job = take_job(workers);

        if (job) {
            (void)pthread_mutex_unlock(&workers->lock);
            job->run(job);
            workers->finished(workers->ctx, job);
            (void)pthread_mutex_lock(&workers->lock);
        } else if (workers->joining) {
            break;
        } else {
            workers->idle++;
            while (!workers->promised && !workers->joining) {
                (void)pthread_cond_wait(&workers->work, &workers->lock);
            }
            if (workers->promised) {
                workers->promised--;
            } else {
                workers->idle--;
            }
        }
    }
    (void)pthread_mutex_unlock(&workers->lock);
    return NULL;
}

/* Signals belong to the loop thread; a new thread inherits its creator's mask and CPUs. */
static bool start_thread(struct hf_workers *workers)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int err;

    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    (void)pthread_attr_setaffinity_np(&attr, sizeof(*workers->cpus), workers->cpus);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&workers->threads[workers->thread_count], &attr, worker_main, workers);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (!err) {
        workers->thread_count++;
    }
    return !err;
}

void hf_workers_init(struct hf_workers *workers, const char *name, unsigned thread_max,
                     const cpu_set_t *cpus, hf_job_finished_fn finished, void *ctx)
{
    HF_ASSERT(thread_max >= 1 && thread_max <= HF_WORKERS_MAX);
    *workers = (struct hf_workers){
        .name = name, .thread_max = thread_max, .cpus = cpus, .finished = finished, .ctx = ctx};
    workers->tail = &workers->head;
    HF_ASSERT(pthread_mutex_init(&workers->lock, NULL) == 0);
    HF_ASSERT(pthread_cond_init(&workers->work, NULL) == 0);
}

void hf_workers_fini(struct hf_workers *workers)
{
    HF_ASSERT(workers->thread_count == 0 && !workers->head);
    (void)pthread_cond_destroy(&workers->work);
    (void)pthread_mutex_destroy(&workers->lock);
}

void hf_workers_submit(struct hf_workers *workers, struct hf_job *job)
{
    bool grow;

    job->next = NULL;
    (void)pthread_mutex_lock(&workers->lock);
    *workers->tail = job;
    workers->tail = &job->next;
    grow = workers->idle == 0;
    if (!grow) {
        workers->idle--;
        workers->promised++;
    }
    (void)pthread_mutex_unlock(&workers->lock);
    if (!grow) {
        (void)pthread_cond_signal(&workers->work); /* what it wakes finds the lock free */
    }
    if (grow && workers->thread_count < workers->thread_max && !start_thread(workers)) {
        HF_ASSERT(workers->thread_count > 0);
    }
}

void hf_workers_join(struct hf_workers *workers)
{
    (void)pthread_mutex_lock(&workers->lock);
    workers->joining = true;
    (void)pthread_cond_broadcast(&workers->work);
    (void)pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->thread_count; i++) {
        (void)pthread_join(workers->threads[i], NULL);
    }
    workers->thread_count = 0;
    workers->joining = false;
}
