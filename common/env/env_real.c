/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/env_real.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/env/env_real_impl.h"

#define DISK_THREADS_DEFAULT 2u
#define TABLE_THREADS        2u /* an index and metadata */

struct signal_watch {
    struct signal_watch *next;
    struct hf_env_real *env;
    struct event event;
    hf_signal_fn fn;
    void *ctx;
};

struct hf_fd_watch {
    struct hf_env_real *env;
    struct event event;
    void (*fn)(void *ctx);
    void *ctx;
};

/* Clock and randomness */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    HF_ASSERT(clock_gettime(clock, &ts) == 0);
    return (uint64_t)ts.tv_sec * HF_NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t real_mono_ns(struct hf_env *env)
{
    (void)env;
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t real_boot_ns(struct hf_env *env)
{
    (void)env;
    return clock_ns(CLOCK_BOOTTIME);
}

static uint64_t real_wall_ns(struct hf_env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME);
}

static void real_random(struct hf_env *env, void *ret, size_t len_bytes)
{
    (void)env;
    while (len_bytes > 0) {
        ssize_t n = getrandom(ret, len_bytes, 0);

        HF_ASSERT(n > 0 || errno == EINTR);
        if (n > 0) {
            ret = (char *)ret + n;
            len_bytes -= (size_t)n;
        }
    }
}

/* Timers: one timerfd, set again only when it would ring too late. */

static void set_timer_fd(struct hf_env_real *env)
{
    uint64_t next_ns = hf_timers_next_ns(&env->timers);
    struct itimerspec spec = {0};

    if (env->firing || next_ns >= env->timer_fd_ns) {
        return;
    }
    spec.it_value.tv_sec = (time_t)(next_ns / HF_NS_PER_SEC);
    spec.it_value.tv_nsec = (long)(next_ns % HF_NS_PER_SEC);
    HF_ASSERT(timerfd_settime(env->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    env->timer_fd_ns = next_ns;
}

static void real_timer_arm(struct hf_env *e, struct hf_timer *timer, uint64_t delay_ns)
{
    struct hf_env_real *env = hf_env_real_of(e);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

    if (delay_ns > (uint64_t)INT64_MAX - now_ns) {
        delay_ns = (uint64_t)INT64_MAX - now_ns;
    }
    hf_timers_arm(&env->timers, timer, now_ns + delay_ns);
    set_timer_fd(env);
}

static void real_timer_disarm(struct hf_env *e, struct hf_timer *timer)
{
    hf_timers_disarm(&hf_env_real_of(e)->timers, timer);
}

static void real_timer_fini(struct hf_env *e, struct hf_timer *timer)
{
    (void)e;
    hf_timers_forget(timer);
}

static void timer_fd_rang(evutil_socket_t fd, short what, void *arg)
{
    struct hf_env_real *env = arg;
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t seq_end = env->timers.next_seq;
    uint64_t rings;
    struct hf_timer *timer;

    (void)what;
    hf_env_real_awake(env);
    if (read(fd, &rings, sizeof(rings)) < 0) {
        HF_ASSERT(errno == EAGAIN || errno == EINTR);
        return;
    }
    env->timer_fd_ns = UINT64_MAX;
    env->firing = true;
    while (!env->stopping && (timer = hf_timers_pop(&env->timers, now_ns, seq_end))) {
        timer->fn(timer->ctx);
    }
    env->firing = false;
    set_timer_fd(env);
}

/* Tasks and jobs */

static void wake(struct hf_env_real *env)
{
    const uint64_t one = 1;

    if (atomic_exchange(&env->asleep, false)) {
        while (write(env->wake_fd, &one, sizeof(one)) < 0) {
            HF_ASSERT(errno == EINTR);
        }
    }
}

static void woken(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;

    (void)what;
    hf_env_real_awake(arg);
    if (read(fd, &count, sizeof(count)) < 0) {
        HF_ASSERT(errno == EAGAIN || errno == EINTR);
    }
}

static void real_post(struct hf_env *e, struct hf_task *task)
{
    struct hf_env_real *env = hf_env_real_of(e);

    (void)pthread_mutex_lock(&env->lock);
    if (!task->queued) {
        task->queued = true;
        task->next = NULL;
        *env->task_tail = task;
        env->task_tail = &task->next;
        env->task_count++;
    }
    (void)pthread_mutex_unlock(&env->lock);
    wake(env);
}

static void job_finished(void *ctx, struct hf_job *job)
{
    struct hf_env_real *env = ctx;

    (void)pthread_mutex_lock(&env->lock);
    job->next = NULL;
    *env->done_tail = job;
    env->done_tail = &job->next;
    (void)pthread_mutex_unlock(&env->lock);
    wake(env);
}

static void real_submit(struct hf_env *e, enum hf_pool_kind pool, struct hf_job *job)
{
    struct hf_env_real *env = hf_env_real_of(e);

    hf_assert_loop(e);
    HF_ASSERT(pool < HF_POOL_COUNT);
    env->jobs_open++;
    hf_workers_submit(&env->pools[pool], job);
}

static struct hf_task *take_task(struct hf_env_real *env)
{
    struct hf_task *task;

    (void)pthread_mutex_lock(&env->lock);
    task = env->task_head;
    HF_ASSERT(task != NULL);
    env->task_head = task->next;
    if (!env->task_head) {
        env->task_tail = &env->task_head;
    }
    env->task_count--;
    task->next = NULL;
    task->queued = false;
    (void)pthread_mutex_unlock(&env->lock);
    return task;
}

/* Everything that is queued now; what the callbacks add waits for the next pass. */
static void run_queued(struct hf_env_real *env)
{
    struct hf_job *done;
    size_t task_count;

    (void)pthread_mutex_lock(&env->lock);
    done = env->done_head;
    env->done_head = NULL;
    env->done_tail = &env->done_head;
    task_count = env->task_count;
    (void)pthread_mutex_unlock(&env->lock);
    while (done) {
        struct hf_job *job = done;

        done = job->next;
        job->next = NULL;
        env->jobs_open--;
        job->done(job);
    }
    for (; task_count > 0; task_count--) {
        struct hf_task *task = take_task(env);

        task->fn(task);
    }
}

static bool real_on_loop(struct hf_env *e)
{
    struct hf_env_real *env = hf_env_real_of(e);

    return !atomic_load(&env->running) || pthread_equal(env->loop_thread, pthread_self());
}

static bool real_on_worker(struct hf_env *e)
{
    struct hf_env_real *env = hf_env_real_of(e);

    return !atomic_load(&env->running) || !pthread_equal(env->loop_thread, pthread_self());
}

static const struct hf_env_ops real_ops = {
    .mono_ns = real_mono_ns,
    .boot_ns = real_boot_ns,
    .wall_ns = real_wall_ns,
    .random = real_random,
    .timer_arm = real_timer_arm,
    .timer_disarm = real_timer_disarm,
    .timer_fini = real_timer_fini,
    .post = real_post,
    .submit = real_submit,
    .on_loop = real_on_loop,
    .on_worker = real_on_worker,
    .listen = hf_net_real_listen,
    .connect = hf_net_real_connect,
};

/* Lifecycle */

static int pin(struct hf_env_real *env, int cpu)
{
    cpu_set_t set;

    if (pthread_getaffinity_np(pthread_self(), sizeof(env->cpus), &env->cpus) != 0) {
        return -EINVAL;
    }
    if (cpu < 0) {
        return 0;
    }
    if (cpu >= CPU_SETSIZE) {
        return -EINVAL;
    }
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0 ? 0 : -EINVAL;
}

static int watch(struct hf_env_real *env, struct event *event, int fd, event_callback_fn fn)
{
    if (event_assign(event, env->base, fd, EV_READ | EV_PERSIST, fn, env) != 0 ||
        event_add(event, NULL) != 0) {
        return -ENOMEM;
    }
    return 0;
}

static int open_loop(struct hf_env_real *env)
{
    struct event_config *config = event_config_new();
    int err;

    if (!config) {
        return -ENOMEM;
    }
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    env->base = event_base_new_with_config(config);
    event_config_free(config);
    env->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    env->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (!env->base || env->wake_fd < 0 || env->timer_fd < 0) {
        return errno == EMFILE || errno == ENFILE ? -EMFILE : -ENOMEM;
    }
    err = watch(env, &env->wake_event, env->wake_fd, woken);
    if (!err) {
        err = watch(env, &env->timer_event, env->timer_fd, timer_fd_rang);
    }
    return err;
}

int hf_env_real_new(const struct hf_env_real_options *options, struct hf_env **ret)
{
    unsigned disk_threads = options->disk_threads ? options->disk_threads : DISK_THREADS_DEFAULT;
    struct hf_env_real *env = calloc(1, sizeof(*env));
    int err;

    if (!env) {
        return -ENOMEM;
    }
    env->env = (struct hf_env){.ops = &real_ops, .disk = hf_disk_real()};
    env->wake_fd = -1;
    env->timer_fd = -1;
    env->timer_fd_ns = UINT64_MAX;
    env->task_tail = &env->task_head;
    env->done_tail = &env->done_head;
    hf_timers_init(&env->timers);
    HF_ASSERT(pthread_mutex_init(&env->lock, NULL) == 0);
    hf_workers_init(&env->pools[HF_POOL_LOG], "hf-log", 1, &env->cpus, job_finished, env);
    hf_workers_init(&env->pools[HF_POOL_WRITE], "hf-write", 1, &env->cpus, job_finished, env);
    hf_workers_init(&env->pools[HF_POOL_DISK], "hf-disk",
                    disk_threads < HF_WORKERS_MAX ? disk_threads : HF_WORKERS_MAX, &env->cpus,
                    job_finished, env);
    hf_workers_init(&env->pools[HF_POOL_TABLE], "hf-table", TABLE_THREADS, &env->cpus, job_finished,
                    env);
    (void)signal(SIGPIPE, SIG_IGN);
    err = pin(env, options->cpu);
    if (!err) {
        err = open_loop(env);
    }
    if (err) {
        hf_env_real_free(&env->env);
        return err;
    }
    *ret = &env->env;
    return 0;
}

int hf_env_real_run(struct hf_env *e)
{
    struct hf_env_real *env = hf_env_real_of(e);
    int err = 0;

    HF_ASSERT(!atomic_load(&env->running));
    env->loop_thread = pthread_self();
    atomic_store(&env->running, true);
    for (;;) {
        bool idle;

        run_queued(env);
        if (env->stopping) {
            break;
        }
        (void)pthread_mutex_lock(&env->lock);
        idle = !env->task_head && !env->done_head;
        atomic_store(&env->asleep, idle);
        (void)pthread_mutex_unlock(&env->lock);
        if (event_base_loop(env->base, EVLOOP_ONCE | (idle ? 0 : EVLOOP_NONBLOCK)) != 0) {
            err = -EIO;
            break;
        }
        atomic_store(&env->asleep, false);
    }
    atomic_store(&env->asleep, false);
    env->stopping = false;
    atomic_store(&env->running, false);
    return err;
}

void hf_env_real_stop(struct hf_env *e)
{
    struct hf_env_real *env = hf_env_real_of(e);

    hf_assert_loop(e);
    env->stopping = true;
    (void)event_base_loopbreak(env->base);
}

static void free_signals(struct hf_env_real *env)
{
    while (env->signals) {
        struct signal_watch *watch = env->signals;

        env->signals = watch->next;
        (void)event_del(&watch->event);
        free(watch);
    }
}

void hf_env_real_free(struct hf_env *e)
{
    struct hf_env_real *env = hf_env_real_of(e);

    if (!env) {
        return;
    }
    HF_ASSERT(!atomic_load(&env->running));
    do { /* a done() may submit again, or post */
        for (int i = 0; i < HF_POOL_COUNT; i++) {
            hf_workers_join(&env->pools[i]);
        }
        run_queued(env);
    } while (env->jobs_open > 0);
    for (int i = 0; i < HF_POOL_COUNT; i++) {
        hf_workers_fini(&env->pools[i]);
    }
    free_signals(env);
    if (env->base) {
        struct event *const events[] = {&env->wake_event, &env->timer_event};

        for (size_t i = 0; i < HF_ARRAY_LEN(events); i++) {
            if (event_initialized(events[i])) {
                (void)event_del(events[i]);
            }
        }
        event_base_free(env->base);
    }
    if (env->wake_fd >= 0) {
        (void)close(env->wake_fd);
    }
    if (env->timer_fd >= 0) {
        (void)close(env->timer_fd);
    }
    hf_timers_fini(&env->timers);
    (void)pthread_mutex_destroy(&env->lock);
    free(env);
}

uint32_t hf_env_real_raise_files(void)
{
    struct rlimit limit;
    struct rlimit raised;

    HF_ASSERT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    raised = (struct rlimit){.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
        limit = raised;
    }
    return limit.rlim_cur < UINT32_MAX ? (uint32_t)limit.rlim_cur : UINT32_MAX;
}

/* Signals and foreign descriptors */

static void signalled(evutil_socket_t signum, short what, void *arg)
{
    struct signal_watch *watch = arg;

    (void)what;
    hf_env_real_awake(watch->env);
    watch->fn(watch->ctx, signum);
}

int hf_env_real_on_signal(struct hf_env *e, int signum, hf_signal_fn fn, void *ctx)
{
    struct hf_env_real *env = hf_env_real_of(e);
    struct signal_watch *watch = calloc(1, sizeof(*watch));

    if (!watch) {
        return -ENOMEM;
    }
    *watch = (struct signal_watch){.env = env, .fn = fn, .ctx = ctx};
    if (evsignal_assign(&watch->event, env->base, signum, signalled, watch) != 0 ||
        evsignal_add(&watch->event, NULL) != 0) {
        free(watch);
        return -EINVAL;
    }
    watch->next = env->signals;
    env->signals = watch;
    return 0;
}

static void fd_readable(evutil_socket_t fd, short what, void *arg)
{
    struct hf_fd_watch *watch = arg;

    (void)fd;
    (void)what;
    hf_env_real_awake(watch->env);
    watch->fn(watch->ctx);
}

int hf_env_real_watch_fd(struct hf_env *e, int fd, void (*fn)(void *ctx), void *ctx,
                         struct hf_fd_watch **ret)
{
    struct hf_fd_watch *watch = calloc(1, sizeof(*watch));

    if (!watch) {
        return -ENOMEM;
    }
    *watch = (struct hf_fd_watch){.env = hf_env_real_of(e), .fn = fn, .ctx = ctx};
    if (event_assign(&watch->event, watch->env->base, fd, EV_READ | EV_PERSIST, fd_readable,
                     watch) != 0 ||
        event_add(&watch->event, NULL) != 0) {
        free(watch);
        return -EINVAL;
    }
    *ret = watch;
    return 0;
}

void hf_fd_watch_set(struct hf_fd_watch *watch, bool enabled)
{
    HF_ASSERT((enabled ? event_add(&watch->event, NULL) : event_del(&watch->event)) == 0);
}

void hf_fd_watch_free(struct hf_fd_watch *watch)
{
    if (watch) {
        (void)event_del(&watch->event);
        free(watch);
    }
}
