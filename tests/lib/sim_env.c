/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sim_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/lib/sim_env_impl.h"
#include "tests/sweep/sweep.h"

#define START_MONO_NS    (1000 * HF_NS_PER_SEC)
#define START_WALL_NS    (UINT64_C(1767225600) * HF_NS_PER_SEC) /* 2026-01-01 */
#define TASK_DELAY_NS    2000u
#define JOB_DELAY_NS     (100 * HF_NS_PER_US)
#define DISK_THREADS     2u
#define DIGEST_START     UINT64_C(0xcbf29ce484222325)
#define DIGEST_MULTIPLY  UINT64_C(0x100000001b3)
#define ABANDONED_AT_ONE 1024u

struct hf_sim_timer {
    struct hf_sim_timer *prev, *next; /* all of the env */
    struct hf_sim_event event;
    struct hf_timer *timer;
};

struct hf_sim_work {
    struct hf_sim_work *prev, *next; /* all of the env */
    struct hf_sim_event event;
    struct hf_sim_pool *pool;
    struct hf_job *job;
};

/* The queue of events: a binary heap. */

static bool before(const struct hf_sim_event *a, const struct hf_sim_event *b)
{
    if (a->at_ns != b->at_ns) {
        return a->at_ns < b->at_ns;
    }
    return a->chance != b->chance ? a->chance < b->chance : a->seq < b->seq;
}

static void place(struct hf_sim *sim, size_t index, struct hf_sim_event *event)
{
    sim->heap[index] = event;
    event->index = index;
}

static void sift_up(struct hf_sim *sim, struct hf_sim_event *event)
{
    size_t index = event->index;

    while (index > 0 && before(event, sim->heap[(index - 1) / 2])) {
        place(sim, index, sim->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(sim, index, event);
}

static void sift_down(struct hf_sim *sim, struct hf_sim_event *event)
{
    size_t index = event->index;

    for (;;) {
        size_t child = 2 * index + 1;

        if (child + 1 < sim->count && before(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (child >= sim->count || !before(sim->heap[child], event)) {
            break;
        }
        place(sim, index, sim->heap[child]);
        index = child;
    }
    place(sim, index, event);
}

void hf_sim_schedule(struct hf_sim_env *env, struct hf_sim_event *event, uint64_t delay_ns,
                     void (*fn)(struct hf_sim_event *event))
{
    struct hf_sim *sim = env->sim;

    HF_ASSERT(!event->queued);
    if (sim->count == sim->cap) {
        sim->cap = sim->cap ? 2 * sim->cap : 256;
        sim->heap = reallocarray(sim->heap, sim->cap, sizeof(struct hf_sim_event *));
        HF_ASSERT(sim->heap != NULL);
    }
    if (delay_ns > (uint64_t)INT64_MAX - sim->now_ns) {
        delay_ns = (uint64_t)INT64_MAX - sim->now_ns;
    }
    *event = (struct hf_sim_event){
        .at_ns = sim->now_ns + delay_ns,
        .chance = hf_sim_rng_next(&sim->rng),
        .seq = sim->next_seq++,
        .queued = true,
        .env = env,
        .fn = fn,
    };
    place(sim, sim->count++, event);
    sift_up(sim, event);
}

void hf_sim_cancel(struct hf_sim *sim, struct hf_sim_event *event)
{
    struct hf_sim_event *last;

    if (!event->queued) {
        return;
    }
    HF_ASSERT(sim->heap[event->index] == event);
    event->queued = false;
    last = sim->heap[--sim->count];
    if (last != event) {
        place(sim, event->index, last);
        sift_up(sim, last);
        sift_down(sim, last);
    }
}

/* Clocks and chance */

#define PPM 1000000

static uint64_t sim_mono_ns(struct hf_env *e)
{
    const struct hf_sim_env *env = hf_sim_env_of(e);
    uint64_t now_ns = env->sim->now_ns;
    uint64_t ns = now_ns > env->clock_from_ns ? now_ns - env->clock_from_ns : 0;

    return env->clock_base_ns + ns + (uint64_t)((int64_t)ns / PPM * env->drift_ppm);
}

static uint64_t sim_boot_ns(struct hf_env *e)
{
    return sim_mono_ns(e) + hf_sim_env_of(e)->slept_ns;
}

/* How long it is until the machine's own clock has moved by @ns. */
static uint64_t own_time(const struct hf_sim_env *env, uint64_t ns)
{
    return env->drift_ppm == 0 || ns > (uint64_t)INT64_MAX / PPM
               ? ns
               : (uint64_t)((int64_t)ns * PPM / (PPM + env->drift_ppm)) + 1;
}

void hf_sim_set_drift(struct hf_env *e, int32_t ppm)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    HF_ASSERT(ppm > -PPM / 2 && ppm < PPM / 2);
    env->clock_base_ns = sim_mono_ns(e);
    env->clock_from_ns = env->sim->now_ns;
    env->drift_ppm = ppm;
}

static uint64_t sim_wall_ns(struct hf_env *e)
{
    return hf_sim_env_of(e)->wall_offset_ns + hf_sim_env_of(e)->sim->now_ns;
}

static void sim_random(struct hf_env *e, void *ret, size_t len_bytes)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    uint8_t *bytes = ret;

    while (len_bytes > 0) {
        uint64_t v = hf_sim_rng_next(&env->rng);
        size_t n = len_bytes < sizeof(v) ? len_bytes : sizeof(v);

        memcpy(bytes, &v, n);
        bytes += n;
        len_bytes -= n;
    }
}

/* Timers */

static void timer_rings(struct hf_sim_event *event)
{
    struct hf_timer *timer = hf_container_of(event, struct hf_sim_timer, event)->timer;

    timer->armed = false;
    timer->fn(timer->ctx);
}

static void sim_timer_arm(struct hf_env *e, struct hf_timer *timer, uint64_t delay_ns)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim_timer *t = timer->impl;

    hf_assert_loop(e);
    if (!t) {
        t = calloc(1, sizeof(*t));
        HF_ASSERT(t != NULL);
        t->timer = timer;
        t->next = env->timers;
        if (t->next) {
            t->next->prev = t;
        }
        env->timers = t;
        timer->impl = t;
    }
    hf_sim_cancel(env->sim, &t->event);
    hf_sim_schedule(env, &t->event, own_time(env, delay_ns), timer_rings);
}

static void sim_timer_disarm(struct hf_env *e, struct hf_timer *timer)
{
    struct hf_sim_timer *t = timer->impl;

    hf_assert_loop(e);
    hf_sim_cancel(hf_sim_env_of(e)->sim, &t->event);
}

static void sim_timer_fini(struct hf_env *e, struct hf_timer *timer)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim_timer *t = timer->impl;

    if (!t) {
        return;
    }
    HF_ASSERT(!t->event.queued);
    if (t->prev) {
        t->prev->next = t->next;
    } else {
        env->timers = t->next;
    }
    if (t->next) {
        t->next->prev = t->prev;
    }
    free(t);
    timer->impl = NULL;
}

/* Tasks */

static void next_task(struct hf_sim_event *event);

static void await_task(struct hf_sim_env *env)
{
    if (env->task_head && !env->task_event.queued) {
        hf_sim_schedule(env, &env->task_event, hf_sim_rng_below(&env->sim->rng, TASK_DELAY_NS),
                        next_task);
    }
}

static struct hf_task *take_task(struct hf_sim_env *env)
{
    struct hf_task *task = env->task_head;

    if (task) {
        env->task_head = task->next;
        if (!env->task_head) {
            env->task_tail = &env->task_head;
        }
        task->next = NULL;
        task->queued = false;
    }
    return task;
}

static void next_task(struct hf_sim_event *event)
{
    struct hf_sim_env *env = event->env;
    struct hf_task *task = take_task(env);

    await_task(env);
    task->fn(task);
}

static void sim_post(struct hf_env *e, struct hf_task *task)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    if (!task->queued) {
        task->queued = true;
        task->next = NULL;
        *env->task_tail = task;
        env->task_tail = &task->next;
        await_task(env);
    }
}

/* Jobs: a thread takes one after a delay, runs it at once, and is free again when it is done. */

static void work_runs(struct hf_sim_event *event);
static void work_done(struct hf_sim_event *event);

static uint64_t job_delay_ns(struct hf_sim_env *env)
{
    return hf_sim_rng_below(&env->sim->rng, env->job_delay_ns + 1);
}

static void start_works(struct hf_sim_env *env, struct hf_sim_pool *pool)
{
    while (pool->head && pool->busy < pool->threads) {
        struct hf_sim_work *work = calloc(1, sizeof(*work));

        HF_ASSERT(work != NULL);
        work->pool = pool;
        work->job = pool->head;
        pool->head = work->job->next;
        if (!pool->head) {
            pool->tail = &pool->head;
        }
        pool->busy++;
        work->next = env->works;
        if (work->next) {
            work->next->prev = work;
        }
        env->works = work;
        hf_sim_schedule(env, &work->event, job_delay_ns(env), work_runs);
    }
}

static void work_free(struct hf_sim_env *env, struct hf_sim_work *work)
{
    if (work->prev) {
        work->prev->next = work->next;
    } else {
        env->works = work->next;
    }
    if (work->next) {
        work->next->prev = work->prev;
    }
    work->pool->busy--;
    free(work);
}

static void work_runs(struct hf_sim_event *event)
{
    struct hf_sim_work *work = hf_container_of(event, struct hf_sim_work, event);
    struct hf_sim_env *env = event->env;

    env->in_run = true;
    work->job->run(work->job);
    env->in_run = false;
    hf_sim_schedule(env, &work->event, job_delay_ns(env), work_done);
}

static void work_done(struct hf_sim_event *event)
{
    struct hf_sim_work *work = hf_container_of(event, struct hf_sim_work, event);
    struct hf_sim_env *env = event->env;
    struct hf_sim_pool *pool = work->pool;
    struct hf_job *job = work->job;

    work_free(env, work);
    start_works(env, pool);
    job->done(job);
}

static void sim_submit(struct hf_env *e, enum hf_pool_kind kind, struct hf_job *job)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim_pool *pool = &env->pools[kind];

    hf_assert_loop(e);
    HF_ASSERT(kind < HF_POOL_COUNT);
    job->next = NULL;
    *pool->tail = job;
    pool->tail = &job->next;
    start_works(env, pool);
}

static bool sim_on_loop(struct hf_env *e)
{
    return !hf_sim_env_of(e)->in_run;
}

static bool sim_on_worker(struct hf_env *e)
{
    (void)e;
    return true;
}

static const struct hf_env_ops sim_ops = {
    .mono_ns = sim_mono_ns,
    .boot_ns = sim_boot_ns,
    .wall_ns = sim_wall_ns,
    .random = sim_random,
    .timer_arm = sim_timer_arm,
    .timer_disarm = sim_timer_disarm,
    .timer_fini = sim_timer_fini,
    .post = sim_post,
    .submit = sim_submit,
    .on_loop = sim_on_loop,
    .on_worker = sim_on_worker,
    .listen = hf_sim_net_listen,
    .connect = hf_sim_net_connect,
};

/* Lifecycle */

struct hf_sim *hf_sim_new(uint64_t seed)
{
    struct hf_sim *sim = calloc(1, sizeof(*sim));

    HF_ASSERT(sim != NULL);
    sim->rng.state = seed;
    sim->digest = DIGEST_START;
    sim->net_min_ns = 20 * HF_NS_PER_US;
    sim->net_max_ns = 300 * HF_NS_PER_US;
    sim->next_port = 40000;
    (void)hf_sim_add_env(sim, "10.0.0.1");
    return sim;
}

struct hf_env *hf_sim_add_env(struct hf_sim *sim, const char *host)
{
    struct hf_sim_env *env = calloc(1, sizeof(*env));
    struct hf_sim_env **last = &sim->envs;

    HF_ASSERT(env != NULL && strlen(host) < sizeof(env->host));
    env->sim = sim;
    env->number = sim->env_count++;
    (void)snprintf(env->host, sizeof(env->host), "%s", host);
    env->rng.state = hf_sim_rng_next(&sim->rng);
    env->disk = hf_sim_disk_new(hf_sim_rng_next(&sim->rng));
    env->env = (struct hf_env){.ops = &sim_ops, .disk = hf_sim_disk_base(env->disk)};
    env->wall_offset_ns = START_WALL_NS;
    env->clock_base_ns = START_MONO_NS;
    env->job_delay_ns = JOB_DELAY_NS;
    env->task_tail = &env->task_head;
    for (int i = 0; i < HF_POOL_COUNT; i++) {
        env->pools[i].tail = &env->pools[i].head;
        env->pools[i].threads = i == HF_POOL_DISK || i == HF_POOL_TABLE ? DISK_THREADS : 1;
    }
    while (*last) {
        last = &(*last)->next;
    }
    *last = env;
    return &env->env;
}

struct hf_env *hf_sim_env(struct hf_sim *sim)
{
    return &sim->envs->env;
}

const char *hf_sim_host(struct hf_env *e)
{
    return hf_sim_env_of(e)->host;
}

struct hf_sim_disk *hf_sim_disk(struct hf_env *e)
{
    return hf_sim_env_of(e)->disk;
}

/* Timers know their hf_timer still, so that the code under test may tidy up after itself. */
static void end_process(struct hf_sim_env *env, bool silent)
{
    struct hf_env *e = &env->env;

    HF_ASSERT(!env->in_run);
    hf_sim_net_kill_env(env, silent);
    hf_sim_resume(e);
    while (env->timers) {
        struct hf_timer *timer = env->timers->timer;

        hf_sim_cancel(env->sim, &env->timers->event);
        timer->armed = false;
        sim_timer_fini(e, timer);
    }
    hf_sim_cancel(env->sim, &env->task_event);
    while (take_task(env)) {
    }
    for (int i = 0; i < HF_POOL_COUNT; i++) {
        env->pools[i].head = NULL;
        env->pools[i].tail = &env->pools[i].head;
    }
    while (env->works) {
        hf_sim_cancel(env->sim, &env->works->event);
        work_free(env, env->works);
    }
}

void hf_sim_kill_env(struct hf_env *e)
{
    end_process(hf_sim_env_of(e), false);
    hf_sim_disk_drop_handles(hf_sim_disk(e));
}

void hf_sim_power_cut_env(struct hf_env *e, enum hf_sim_cut mode)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    end_process(env, true);
    env->off = true;
    if (!hf_sim_disk_is_off(env->disk) || hf_sim_disk_has_crashed(env->disk)) {
        hf_sim_disk_power_cut(env->disk, mode);
    }
}

void hf_sim_power_on_env(struct hf_env *e)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    env->off = false;
    if (hf_sim_disk_is_off(env->disk)) {
        hf_sim_disk_restart(env->disk);
    }
}

void hf_sim_kill(struct hf_sim *sim)
{
    for (struct hf_sim_env *env = sim->envs; env; env = env->next) {
        hf_sim_kill_env(&env->env);
    }
}

void hf_sim_free(struct hf_sim *sim)
{
    if (!sim) {
        return;
    }
    for (struct hf_sim_env *env = sim->envs; env; env = env->next) {
        while (env->works) {
            hf_sim_cancel(sim, &env->works->event);
            work_free(env, env->works);
        }
        while (env->timers) { /* without a look at the hf_timer, which may be gone */
            struct hf_sim_timer *t = env->timers;

            hf_sim_cancel(sim, &t->event);
            env->timers = t->next;
            free(t);
        }
        hf_sim_cancel(sim, &env->task_event);
    }
    hf_sim_net_fini(sim);
    while (sim->envs) {
        struct hf_sim_env *env = sim->envs;

        sim->envs = env->next;
        hf_sim_disk_free(env->disk);
        free(env);
    }
    HF_ASSERT(sim->count == 0);
    free(sim->heap);
    free(sim);
}

/* Pauses */

void hf_sim_pause(struct hf_env *e, uint64_t ns)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    uint64_t until_ns = env->sim->now_ns + ns;

    env->paused_until_ns = until_ns > env->paused_until_ns ? until_ns : env->paused_until_ns;
}

/* At another time, at the same place among its equals. */
static void move(struct hf_sim *sim, struct hf_sim_event *event, uint64_t at_ns, uint64_t chance)
{
    hf_sim_cancel(sim, event);
    event->at_ns = at_ns;
    event->chance = chance;
    event->queued = true;
    place(sim, sim->count++, event);
    sift_up(sim, event);
}

/* The event that is due is held back where its machine is paused. */
static bool hold(struct hf_sim *sim, struct hf_sim_event *event)
{
    struct hf_sim_env *env = event->env;

    if (env->paused_until_ns <= sim->now_ns) {
        env->held = 0;
        return false;
    }
    move(sim, event, env->paused_until_ns, env->held++);
    return true;
}

void hf_sim_resume(struct hf_env *e)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim *sim = env->sim;
    uint64_t end_ns = env->paused_until_ns;
    struct hf_sim_event **held = calloc(sim->count + 1, sizeof(struct hf_sim_event *));
    size_t count = 0;

    HF_ASSERT(held != NULL);
    env->paused_until_ns = sim->now_ns;
    for (size_t i = 0; i < sim->count && end_ns > sim->now_ns; i++) {
        struct hf_sim_event *event = sim->heap[i];

        if (event->env == env && event->at_ns == end_ns && event->chance < env->held) {
            held[count++] = event;
        }
    }
    while (count > 0) {
        count--;
        move(sim, held[count], sim->now_ns, held[count]->chance);
    }
    free(held);
}

void hf_sim_suspend(struct hf_env *e, uint64_t ns)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    env->clock_base_ns = sim_mono_ns(e);
    env->clock_from_ns = env->sim->now_ns + ns;
    env->slept_ns += ns;
    for (struct hf_sim_timer *t = env->timers; t; t = t->next) {
        if (t->event.queued) {
            move(env->sim, &t->event, t->event.at_ns + ns, t->event.chance);
        }
    }
    hf_sim_pause(e, ns);
}

/* Running */

void hf_sim_mix(struct hf_sim *sim, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        sim->digest = (sim->digest ^ (v & 0xff)) * DIGEST_MULTIPLY;
        v >>= 8;
    }
}

bool hf_sim_step(struct hf_sim *sim)
{
    struct hf_sim_event *event;

    hf_sim_net_bury(sim);
    if (sim->count == 0) {
        return false;
    }
    event = sim->heap[0];
    HF_ASSERT(event->at_ns >= sim->now_ns);
    sim->now_ns = event->at_ns;
    hf_sim_mix(sim, event->at_ns);
    hf_sim_mix(sim, event->seq);
    hf_sim_mix(sim, event->env->number);
    if (hold(sim, event)) {
        return true;
    }
    hf_sim_cancel(sim, event);
    sim->stepped = &event->env->env;
    event->fn(event);
    if (sim->on_step) {
        sim->on_step(sim->on_step_ctx);
    }
    return true;
}

static uint64_t later(const struct hf_sim *sim, uint64_t ns)
{
    return ns < (uint64_t)INT64_MAX - sim->now_ns ? sim->now_ns + ns : (uint64_t)INT64_MAX;
}

bool hf_sim_run_until(struct hf_sim *sim, bool (*pred)(void *ctx), void *ctx, uint64_t max_ns)
{
    uint64_t end_ns = later(sim, max_ns);

    while (!pred(ctx)) {
        if (sim->count == 0 || sim->heap[0]->at_ns > end_ns) {
            sim->now_ns = end_ns;
            hf_sweep_waited_in_vain();
            return false;
        }
        (void)hf_sim_step(sim);
    }
    return true;
}

void hf_sim_run_ns(struct hf_sim *sim, uint64_t ns)
{
    uint64_t end_ns = later(sim, ns);

    while (sim->count > 0 && sim->heap[0]->at_ns <= end_ns) {
        (void)hf_sim_step(sim);
    }
    sim->now_ns = end_ns;
}

void hf_sim_on_step(struct hf_sim *sim, void (*fn)(void *ctx), void *ctx)
{
    sim->on_step = fn;
    sim->on_step_ctx = ctx;
}

const struct hf_env *hf_sim_stepped(const struct hf_sim *sim)
{
    return sim->stepped;
}

uint64_t hf_sim_now_ns(const struct hf_sim *sim)
{
    return sim->now_ns;
}

uint64_t hf_sim_digest(const struct hf_sim *sim)
{
    return sim->digest;
}

uint64_t hf_sim_random_below(struct hf_sim *sim, uint64_t end)
{
    return hf_sim_rng_below(&sim->rng, end);
}

/* Reachable from here for good: leak checkers see what the code under test leaks by itself only. */
void hf_sim_abandon(void *memory)
{
    static void **abandoned;
    static size_t count, cap;

    hf_sweep_expect_leaks();
    if (count == cap) {
        cap += ABANDONED_AT_ONE;
        abandoned = reallocarray(abandoned, cap, sizeof(*abandoned));
        HF_ASSERT(abandoned != NULL);
    }
    abandoned[count++] = memory;
}

void hf_sim_set_mono_ns(struct hf_env *e, uint64_t mono_ns)
{
    struct hf_sim_env *env = hf_sim_env_of(e);

    HF_ASSERT(!env->timers);
    env->clock_base_ns = mono_ns;
    env->clock_from_ns = env->sim->now_ns;
    env->slept_ns = 0;
}

void hf_sim_set_wall_ns(struct hf_env *e, uint64_t wall_ns)
{
    hf_sim_env_of(e)->wall_offset_ns = wall_ns - hf_sim_env_of(e)->sim->now_ns;
}

void hf_sim_set_job_delay(struct hf_env *e, uint64_t max_ns)
{
    hf_sim_env_of(e)->job_delay_ns = max_ns;
}
