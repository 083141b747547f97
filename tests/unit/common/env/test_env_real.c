/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/env/env_real.h"
#include "tests/lib/loop.h"

struct fixture {
    struct hf_env *env;
    char dir[64];
};

static int setup(void **state)
{
    static struct fixture f;
    const struct hf_env_real_options options = {.cpu = -1};

    (void)snprintf(f.dir, sizeof(f.dir), "/tmp/hf-test-env.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(hf_env_real_new(&options, &f.env), 0);
    *state = &f;
    return 0;
}

static int remove_name(void *ctx, const char *name)
{
    const char *dir = ctx;
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return remove(path) == 0 ? 0 : -errno;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(hf_disk_list(hf_env_disk(f->env), f->dir, remove_name, f->dir), 0);
    hf_env_real_free(f->env);
    assert_int_equal(rmdir(f->dir), 0);
    return 0;
}

static const char *in_dir(const struct fixture *f, const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *ret = path[turn++ % 4];

    (void)snprintf(ret, sizeof(path[0]), "%s/%s", f->dir, name);
    return ret;
}

/* Timers */

struct note {
    struct hf_timer timer;
    struct notes *notes;
    int id;
};

struct notes {
    struct hf_env *env;
    struct note note[8];
    int seen[16];
    int count;
    int stop_at;
};

static void note_it(void *ctx)
{
    struct note *note = ctx;

    note->notes->seen[note->notes->count++] = note->id;
    if (note->notes->count == note->notes->stop_at) {
        hf_env_real_stop(note->notes->env);
    }
}

static void notes_init(struct notes *notes, struct hf_env *env)
{
    *notes = (struct notes){.env = env};
    for (int i = 0; i < 8; i++) {
        notes->note[i].notes = notes;
        notes->note[i].id = i;
        hf_timer_init(&notes->note[i].timer, env, note_it, &notes->note[i]);
    }
}

static void timers_run_in_order_of_their_deadlines(void **state)
{
    struct fixture *f = *state;
    struct notes notes;
    const uint64_t start_ns = hf_env_mono_ns(f->env);

    notes_init(&notes, f->env);
    notes.stop_at = 4;
    hf_timer_arm(&notes.note[3].timer, 8 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 0);
    hf_timer_arm(&notes.note[2].timer, 4 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[1].timer, 1 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[4].timer, 2 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[5].timer, UINT64_MAX);
    hf_timer_disarm(&notes.note[4].timer);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(notes.count, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(notes.seen[i], i);
        assert_false(notes.note[i].timer.armed);
    }
    assert_true(hf_env_mono_ns(f->env) - start_ns >= 8 * HF_NS_PER_MS);
    assert_true(notes.note[5].timer.armed);
    for (int i = 0; i < 8; i++) {
        hf_timer_fini(&notes.note[i].timer);
    }
    hf_timer_fini(&(struct hf_timer){0});
}

static void rearming_a_timer_moves_it(void **state)
{
    struct fixture *f = *state;
    struct notes notes;

    notes_init(&notes, f->env);
    notes.stop_at = 2;
    hf_timer_arm(&notes.note[1].timer, 1 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 3600 * HF_NS_PER_SEC);
    hf_timer_arm(&notes.note[1].timer, 2 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(notes.seen[0], 0);
    assert_int_equal(notes.seen[1], 1);
    assert_int_equal(notes.count, 2);
    hf_timer_fini(&notes.note[0].timer);
    hf_timer_fini(&notes.note[1].timer);
}

struct self_ender {
    struct hf_timer timer;
    struct hf_env *env;
    int runs;
};

static void end_itself(void *ctx)
{
    struct self_ender *ender = ctx;
    struct hf_env *env = ender->env;

    if (++ender->runs < 3) {
        hf_timer_arm(&ender->timer, 0);
        return;
    }
    hf_timer_fini(&ender->timer);
    free(ender);
    hf_env_real_stop(env);
}

static void a_timer_may_rearm_and_free_itself(void **state)
{
    struct fixture *f = *state;
    struct self_ender *ender = calloc(1, sizeof(*ender));

    assert_non_null(ender);
    ender->env = f->env;
    hf_timer_init(&ender->timer, f->env, end_itself, ender);
    hf_timer_arm(&ender->timer, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
}

/* Tasks */

struct posted {
    struct hf_task task;
    struct hf_env *env;
    int id;
    int *seen;
    int *count;
    int stop_at;
};

static void posted_run(struct hf_task *task)
{
    struct posted *posted = hf_container_of(task, struct posted, task);

    hf_assert_loop(posted->env);
    posted->seen[(*posted->count)++] = posted->id;
    if (*posted->count == posted->stop_at) {
        hf_env_real_stop(posted->env);
    }
}

enum { POST_COUNT = 5 };

static void *post_all(void *arg)
{
    struct posted *posted = arg;

    for (int i = 0; i < POST_COUNT; i++) {
        (void)usleep(200); /* lets the loop fall asleep, or not: both must work */
        hf_env_post(posted[i].env, &posted[i].task);
    }
    return NULL;
}

static void posts_of_a_thread_run_on_the_loop_in_order(void **state)
{
    struct fixture *f = *state;

    for (int round = 0; round < 50; round++) {
        struct posted posted[POST_COUNT];
        int seen[POST_COUNT];
        int count = 0;
        pthread_t thread;

        for (int i = 0; i < POST_COUNT; i++) {
            posted[i] = (struct posted){.task.fn = posted_run,
                                        .env = f->env,
                                        .id = i,
                                        .seen = seen,
                                        .count = &count,
                                        .stop_at = POST_COUNT};
        }
        assert_int_equal(pthread_create(&thread, NULL, post_all, posted), 0);
        assert_int_equal(hf_env_real_run(f->env), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(count, POST_COUNT);
        for (int i = 0; i < POST_COUNT; i++) {
            assert_int_equal(seen[i], i);
        }
    }
}

static void a_task_posted_twice_runs_once(void **state)
{
    struct fixture *f = *state;
    int seen[4];
    int count = 0;
    struct posted posted = {
        .task.fn = posted_run, .env = f->env, .seen = seen, .count = &count, .stop_at = 1};

    hf_env_post(f->env, &posted.task);
    hf_env_post(f->env, &posted.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 1);
    posted.stop_at = 2;
    hf_env_post(f->env, &posted.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 2);
}

static void tasks_queued_when_stopping_still_run(void **state)
{
    struct fixture *f = *state;
    struct posted posted[3];
    int seen[4];
    int count = 0;

    for (int i = 0; i < 3; i++) {
        posted[i] = (struct posted){.task.fn = posted_run,
                                    .env = f->env,
                                    .id = i,
                                    .seen = seen,
                                    .count = &count,
                                    .stop_at = 1};
        hf_env_post(f->env, &posted[i].task);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 3);
}

/* Jobs */

struct work {
    struct hf_job job;
    struct hf_env *env;
    int id;
    int *run_order; /* worker thread */
    int *run_count;
    int *done_count; /* loop thread */
    int stop_at;
};

static void work_run(struct hf_job *job)
{
    struct work *work = hf_container_of(job, struct work, job);

    hf_assert_worker(work->env);
    work->run_order[(*work->run_count)++] = work->id;
}

static void work_done(struct hf_job *job)
{
    struct work *work = hf_container_of(job, struct work, job);

    hf_assert_loop(work->env);
    assert_int_equal(*work->done_count, work->id);
    if (++*work->done_count == work->stop_at) {
        hf_env_real_stop(work->env);
    }
}

static void submit_work(struct hf_env *env, struct work *works, int count, int *run_order,
                        int *run_count, int *done_count)
{
    for (int i = 0; i < count; i++) {
        works[i] = (struct work){.job = {.run = work_run, .done = work_done},
                                 .env = env,
                                 .id = i,
                                 .run_order = run_order,
                                 .run_count = run_count,
                                 .done_count = done_count,
                                 .stop_at = count};
        hf_env_submit(env, HF_POOL_WRITE, &works[i].job);
    }
}

struct submit_task {
    struct hf_task task;
    struct hf_env *env;
    struct work *works;
    int *run_order, *run_count, *done_count;
};

static void submit_from_loop(struct hf_task *task)
{
    struct submit_task *s = hf_container_of(task, struct submit_task, task);

    submit_work(s->env, s->works, 100, s->run_order, s->run_count, s->done_count);
    assert_int_equal(*s->done_count, 0);
}

static void jobs_of_one_thread_run_in_order_and_are_done_on_the_loop(void **state)
{
    struct fixture *f = *state;
    struct work works[100];
    int run_order[100];
    int run_count = 0;
    int done_count = 0;
    struct submit_task s = {.task.fn = submit_from_loop,
                            .env = f->env,
                            .works = works,
                            .run_order = run_order,
                            .run_count = &run_count,
                            .done_count = &done_count};

    hf_env_post(f->env, &s.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(done_count, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(run_order[i], i);
    }
}

struct pool_work {
    struct hf_job job;
    atomic_int *run_count;
    int *done_count;
    struct hf_env *env;
    int stop_at;
};

static void pool_run(struct hf_job *job)
{
    struct pool_work *work = hf_container_of(job, struct pool_work, job);

    (void)atomic_fetch_add(work->run_count, 1);
}

static void pool_done(struct hf_job *job)
{
    struct pool_work *work = hf_container_of(job, struct pool_work, job);

    if (++*work->done_count == work->stop_at) {
        hf_env_real_stop(work->env);
    }
}

static void every_job_of_a_pool_of_threads_is_done_once(void **state)
{
    enum { COUNT = 5000 };
    struct fixture *f = *state;
    struct pool_work *works = calloc(COUNT, sizeof(*works));
    atomic_int run_count = 0;
    int done_count = 0;

    assert_non_null(works);
    for (int i = 0; i < COUNT; i++) {
        works[i] = (struct pool_work){.job = {.run = pool_run, .done = pool_done},
                                      .run_count = &run_count,
                                      .done_count = &done_count,
                                      .env = f->env,
                                      .stop_at = COUNT};
        hf_env_submit(f->env, HF_POOL_DISK, &works[i].job);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(done_count, COUNT);
    assert_int_equal(atomic_load(&run_count), COUNT);
    free(works);
}

static void freeing_the_env_finishes_queued_jobs(void **state)
{
    struct hf_env_real_options options = {.disk_threads = 1};
    struct work works[20];
    int run_order[20];
    int run_count = 0;
    int done_count = 0;
    struct hf_env *env;
    cpu_set_t cpus;

    (void)state;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus), 0);
    while (!CPU_ISSET((size_t)options.cpu, &cpus)) {
        options.cpu++;
    }
    assert_int_equal(hf_env_real_new(&options, &env), 0);
    submit_work(env, works, 20, run_order, &run_count, &done_count);
    for (int i = 0; i < 20; i++) {
        works[i].stop_at = -1;
    }
    hf_env_real_free(env);
    assert_int_equal(run_count, 20);
    assert_int_equal(done_count, 20);
    hf_env_real_free(NULL);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus), 0);
}

static void a_cpu_that_is_not_there_is_refused(void **state)
{
    const struct hf_env_real_options options = {.cpu = 1 << 20};
    struct hf_env *env = NULL;

    (void)state;
    assert_int_equal(hf_env_real_new(&options, &env), -EINVAL);
    assert_null(env);
}

/* Network */

#define TRANSFER_BYTES (8u << 20)

struct echo_side {
    struct hf_stream *stream;
    struct echo *echo;
    uint8_t *buf; /* server: what waits to go back */
    size_t got;
    size_t put;
    bool eof;
};

struct echo {
    struct hf_env *env;
    struct hf_listener *listener;
    struct echo_side server;
    struct echo_side client;
    int connected;
    int connect_err;
    int wrong;
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)((i * 31) ^ (i >> 11));
}

static void server_readable(void *ctx)
{
    struct echo_side *side = ctx;
    struct iovec iov[2] = {
        {.iov_base = side->buf + side->got, .iov_len = (TRANSFER_BYTES - side->got) / 2},
        {.iov_len = 0},
    };
    ssize_t n;

    iov[1].iov_base = side->buf + side->got + iov[0].iov_len;
    iov[1].iov_len = TRANSFER_BYTES + 1 - side->got - iov[0].iov_len;
    n = hf_stream_readv(side->stream, iov, 2);
    if (n == -EAGAIN) {
        return;
    }
    assert_true(n >= 0);
    if (n == 0) {
        side->eof = true;
    }
    side->got += (size_t)n;
    hf_stream_want(side->stream, !side->eof, side->put < side->got);
    if (side->eof && side->put == side->got) {
        hf_stream_close(side->stream);
        side->stream = NULL;
        hf_env_real_stop(side->echo->env);
    }
}

static void server_writable(void *ctx)
{
    struct echo_side *side = ctx;
    const struct iovec iov = {.iov_base = side->buf + side->put, .iov_len = side->got - side->put};
    ssize_t n = hf_stream_writev(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n >= 0);
    side->put += (size_t)n;
    hf_stream_want(side->stream, !side->eof, side->put < side->got);
}

static void server_accept(void *ctx, struct hf_stream *stream)
{
    static const struct hf_stream_events events = {.readable = server_readable,
                                                   .writable = server_writable};
    struct echo *echo = ctx;

    assert_null(echo->server.stream);
    echo->server.stream = stream;
    hf_stream_set_events(stream, &events, &echo->server);
    hf_stream_want(stream, true, false);
}

static void client_connected(void *ctx, int err)
{
    struct echo_side *side = ctx;

    side->echo->connected++;
    side->echo->connect_err = err;
    if (err) {
        hf_env_real_stop(side->echo->env);
    }
}

static void client_readable(void *ctx)
{
    struct echo_side *side = ctx;
    uint8_t buf[65536];
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    ssize_t n = hf_stream_readv(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n > 0);
    for (ssize_t i = 0; i < n; i++) {
        side->echo->wrong += buf[i] != pattern(side->got + (size_t)i);
    }
    side->got += (size_t)n;
    if (side->got == TRANSFER_BYTES) { /* closes from inside its own callback */
        hf_stream_close(side->stream);
        side->stream = NULL;
    }
}

static void client_writable(void *ctx)
{
    struct echo_side *side = ctx;
    const struct iovec iov = {.iov_base = side->buf + side->put,
                              .iov_len = TRANSFER_BYTES - side->put};
    ssize_t n = hf_stream_writev(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n > 0);
    side->put += (size_t)n;
    hf_stream_want(side->stream, true, side->put < TRANSFER_BYTES);
}

static const struct hf_stream_events client_events = {
    .connected = client_connected, .readable = client_readable, .writable = client_writable};

static void echo_over(struct fixture *f, const char *addr)
{
    struct echo echo = {.env = f->env};

    echo.server.echo = &echo;
    echo.client.echo = &echo;
    echo.server.buf = malloc(TRANSFER_BYTES + 1);
    echo.client.buf = malloc(TRANSFER_BYTES);
    assert_true(echo.server.buf && echo.client.buf);
    for (size_t i = 0; i < TRANSFER_BYTES; i++) {
        echo.client.buf[i] = pattern(i);
    }
    assert_int_equal(hf_net_listen(f->env, addr, server_accept, &echo, &echo.listener), 0);
    assert_int_equal(hf_net_connect(f->env, hf_listener_addr(echo.listener), &client_events,
                                    &echo.client, &echo.client.stream),
                     0);
    assert_int_equal(echo.connected, 0);
    assert_string_equal(hf_stream_peer(echo.client.stream), hf_listener_addr(echo.listener));
    hf_stream_want(echo.client.stream, true, true);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 1);
    assert_int_equal(echo.connect_err, 0);
    assert_int_equal(echo.client.got, TRANSFER_BYTES);
    assert_int_equal(echo.server.got, TRANSFER_BYTES);
    assert_int_equal(echo.wrong, 0);
    assert_null(echo.server.stream);
    hf_listener_close(echo.listener);
    free(echo.server.buf);
    free(echo.client.buf);
}

static void eight_megabytes_come_back_over_tcp(void **state)
{
    echo_over(*state, "127.0.0.1:0");
}

static void eight_megabytes_come_back_over_tcp_version_6(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *listener;
    int err = hf_net_listen(f->env, "[::1]:0", NULL, NULL, &listener);

    if (err == -EADDRNOTAVAIL) {
        skip(); /* this machine has no IPv6 */
    }
    assert_int_equal(err, 0);
    hf_listener_close(listener);
    echo_over(f, "[::1]:0");
}

static void eight_megabytes_come_back_over_a_unix_socket(void **state)
{
    struct fixture *f = *state;
    char addr[256];

    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "sock"));
    echo_over(f, addr);
    assert_int_equal(access(addr + 5, F_OK), -1); /* closing removed it */
}

static int connect_result(struct fixture *f, const char *addr)
{
    struct echo echo = {.env = f->env, .connect_err = 1};
    struct iovec iov = {.iov_base = &echo, .iov_len = 1};

    echo.client.echo = &echo;
    assert_int_equal(
        hf_net_connect(f->env, addr, &client_events, &echo.client, &echo.client.stream), 0);
    hf_stream_want(echo.client.stream, true, true);
    assert_int_equal(hf_stream_readv(echo.client.stream, &iov, 1), -EAGAIN);
    assert_int_equal(echo.connected, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 1);
    assert_int_equal(hf_stream_readv(echo.client.stream, &iov, 1), -ENOTCONN);
    hf_stream_close(echo.client.stream);
    return echo.connect_err;
}

static void a_refused_connection_is_told_by_its_callback(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *listener;
    char addr[256];

    assert_int_equal(hf_net_listen(f->env, "127.0.0.1:0", NULL, NULL, &listener), 0);
    (void)snprintf(addr, sizeof(addr), "%s", hf_listener_addr(listener));
    hf_listener_close(listener);
    assert_int_equal(connect_result(f, addr), -ECONNREFUSED);
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "nobody"));
    assert_int_equal(connect_result(f, addr), -ENOENT);
}

static void no_callback_runs_after_close(void **state)
{
    struct fixture *f = *state;
    struct echo echo = {.env = f->env};
    struct notes notes;
    char addr[256];

    echo.client.echo = &echo;
    notes_init(&notes, f->env);
    notes.stop_at = 1;
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "nobody"));
    assert_int_equal(
        hf_net_connect(f->env, addr, &client_events, &echo.client, &echo.client.stream), 0);
    hf_stream_close(echo.client.stream);
    hf_stream_close(NULL);
    hf_timer_arm(&notes.note[0].timer, 1);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 0);
    hf_timer_fini(&notes.note[0].timer);
}

static void a_taken_address_is_refused(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *first, *second;
    char addr[256];
    struct stat st;

    assert_int_equal(hf_net_listen(f->env, "127.0.0.1:0", NULL, NULL, &first), 0);
    assert_int_equal(hf_net_listen(f->env, hf_listener_addr(first), NULL, NULL, &second),
                     -EADDRINUSE);
    hf_listener_close(first);
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "taken"));
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &first), 0);
    assert_int_equal(stat(addr + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &second), -EADDRINUSE);
    hf_listener_close(first);
    hf_listener_close(NULL);
}

static void a_socket_that_nobody_answers_on_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct hf_listener *listener;
    struct hf_file *file;
    char addr[256];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", in_dir(f, "stale"));
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    (void)close(fd);
    (void)snprintf(addr, sizeof(addr), "unix:%s", un.sun_path);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &listener), 0);
    hf_listener_close(listener);

    /* A file that is no socket stays. */
    assert_int_equal(hf_disk_open(hf_env_disk(f->env), un.sun_path, HF_FILE_CREATE, &file), 0);
    hf_file_close(file);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &listener), -EADDRINUSE);
    assert_int_equal(access(un.sun_path, F_OK), 0);
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:1x",
        "localhost:1",
        ":1",
        "[127.0.0.1]:1",
        "::1:80",
        "[::1:80",
        "unix:",
        "[::1]",
        "127.0.0.1:000001",
        "256.0.0.1:1",
        "[]:1",
    };
    struct fixture *f = *state;
    struct hf_listener *listener;
    struct hf_stream *stream;
    char longest[256] = "unix:/";

    for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
        assert_int_equal(hf_net_listen(f->env, bad[i], NULL, NULL, &listener), -EINVAL);
        assert_int_equal(hf_net_connect(f->env, bad[i], &client_events, NULL, &stream), -EINVAL);
    }
    memset(longest + 6, 'x', 200);
    assert_int_equal(hf_net_listen(f->env, longest, NULL, NULL, &listener), -EINVAL);
}

struct closer {
    struct hf_env *env;
    struct hf_listener *listener;
    int accepted;
};

static void accept_and_close_listener(void *ctx, struct hf_stream *stream)
{
    struct closer *closer = ctx;

    closer->accepted++;
    hf_stream_close(stream);
    hf_listener_close(closer->listener);
    closer->listener = NULL;
    hf_env_real_stop(closer->env);
}

static void ignore_connected(void *ctx, int err)
{
    (void)ctx;
    (void)err;
}

static void a_listener_may_be_closed_while_accepting(void **state)
{
    static const struct hf_stream_events events = {.connected = ignore_connected};
    struct fixture *f = *state;
    struct closer closer = {.env = f->env};
    struct hf_stream *streams[3];

    assert_int_equal(
        hf_net_listen(f->env, "127.0.0.1:0", accept_and_close_listener, &closer, &closer.listener),
        0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &streams[i]),
            0);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(closer.accepted, 1);
    for (int i = 0; i < 3; i++) {
        hf_stream_close(streams[i]);
    }
}

static void accept_and_stop(void *ctx, struct hf_stream *stream)
{
    struct closer *closer = ctx;

    closer->accepted++;
    hf_stream_close(stream);
    hf_env_real_stop(closer->env);
}

static bool has_accepted(void *ctx)
{
    return ((struct closer *)ctx)->accepted > 0;
}

struct fd_hog {
    struct hf_timer timer;
    struct rlimit limit;
};

static void give_fds_back(void *ctx)
{
    struct fd_hog *hog = ctx;

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &hog->limit), 0);
}

static void accepting_goes_on_when_descriptors_are_back(void **state)
{
    static const struct hf_stream_events events = {.connected = ignore_connected};
    struct fixture *f = *state;
    struct closer closer = {.env = f->env};
    struct fd_hog hog;
    struct rlimit none;
    struct hf_stream *stream, *more = NULL;

    assert_int_equal(
        hf_net_listen(f->env, "127.0.0.1:0", accept_and_stop, &closer, &closer.listener), 0);
    assert_int_equal(
        hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &stream), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &hog.limit), 0);
    none = hog.limit;
    none.rlim_cur = 3; /* what is open stays open */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(
        hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &more), -EMFILE);
    hf_timer_init(&hog.timer, f->env, give_fds_back, &hog);
    hf_timer_arm(&hog.timer, 20 * HF_NS_PER_MS);
    assert_true(loop_until(f->env, has_accepted, &closer, 30 * HF_NS_PER_SEC));
    assert_int_equal(closer.accepted, 1);
    hf_timer_fini(&hog.timer);
    hf_stream_close(stream);
    hf_listener_close(closer.listener);
}

/* Signals and descriptors */

static void signal_seen(void *ctx, int signum)
{
    assert_int_equal(signum, SIGUSR1);
    hf_env_real_stop(ctx);
}

static void a_signal_reaches_its_callback_on_the_loop(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(hf_env_real_on_signal(f->env, SIGUSR1, signal_seen, f->env), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
}

struct fd_seen {
    struct hf_env *env;
    struct hf_fd_watch *watch;
    int fd;
    int count;
};

static void fd_seen(void *ctx)
{
    struct fd_seen *seen = ctx;
    char c;

    assert_int_equal(read(seen->fd, &c, 1), 1);
    seen->count++;
    if (c == 'x') {
        hf_fd_watch_free(seen->watch);
        hf_env_real_stop(seen->env);
    }
}

static void a_watched_descriptor_calls_only_while_enabled(void **state)
{
    struct fixture *f = *state;
    struct fd_seen seen = {.env = f->env};
    struct notes notes;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    seen.fd = fds[0];
    assert_int_equal(hf_env_real_watch_fd(f->env, fds[0], fd_seen, &seen, &seen.watch), 0);
    hf_fd_watch_set(seen.watch, false);
    assert_int_equal(write(fds[1], "abx", 3), 3);
    notes_init(&notes, f->env);
    notes.stop_at = 1;
    hf_timer_arm(&notes.note[0].timer, 1);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(seen.count, 0);
    hf_fd_watch_set(seen.watch, true);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(seen.count, 3);
    hf_fd_watch_free(NULL);
    hf_timer_fini(&notes.note[0].timer);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Disk */

static void a_replaced_file_is_read_back_whole(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    char *text;
    size_t len;

    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), "first, longer", 13), 0);
    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), "second", 6), 0);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 6, &text, &len), 0);
    assert_int_equal(len, 6);
    assert_string_equal(text, "second");
    free(text);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 5, &text, &len), -EFBIG);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "none"), 5, &text, &len), -ENOENT);
    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), NULL, 0), 0);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 5, &text, NULL), 0);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(access(in_dir(f, "conf.new"), F_OK), -1);
}

static void files_read_write_truncate_and_grow(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_file *file, *again;
    char a[4] = "abcd", b[4] = "efgh", c[16] = {0};
    struct iovec iov[2] = {{.iov_base = a, .iov_len = 4}, {.iov_base = b, .iov_len = 4}};
    struct iovec one = {.iov_base = c, .iov_len = sizeof(c)};
    uint64_t size;
    size_t got;
    ssize_t n;

    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), 0, &file), -ENOENT);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_CREATE, &file), 0);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_CREATE | HF_FILE_EXCL, &again),
                     -EEXIST);
    assert_int_equal(hf_file_pwritev(file, iov, 2, 2), 8);
    assert_int_equal(hf_file_sync(file), 0);
    assert_int_equal(hf_file_preadv(file, &one, 1, 0), 10);
    assert_memory_equal(c, "\0\0abcdefgh", 10);
    n = hf_file_preadv_nowait(file, &one, 1, 4);
    assert_true(n == 6 || n == -EAGAIN);
    assert_int_equal(hf_file_preadv_nowait(file, &one, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(hf_file_read_full(file, c, 11, 0, &got), -EIO);
    assert_int_equal(got, 10);
    assert_int_equal(hf_file_allocate(file, 100), 0);
    assert_int_equal(hf_file_size(file, &size), 0);
    assert_int_equal(size, 100);
    assert_int_equal(hf_file_allocate(file, 50), 0);
    assert_int_equal(hf_file_truncate(file, 3), 0);
    assert_int_equal(hf_file_size(file, &size), 0);
    assert_int_equal(size, 3);
    hf_file_close(file);
    hf_file_close(NULL);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_READ_ONLY, &file), 0);
    assert_int_equal(hf_file_pwritev(file, iov, 2, 0), -EBADF);
    hf_file_close(file);
    assert_int_equal(hf_disk_rename(disk, in_dir(f, "data"), in_dir(f, "moved")), 0);
    assert_int_equal(hf_disk_sync_dir(disk, f->dir), 0);
    assert_int_equal(hf_disk_unlink(disk, in_dir(f, "data")), -ENOENT);
    assert_int_equal(hf_disk_unlink(disk, in_dir(f, "moved")), 0);
}

static void direct_files_take_aligned_transfers(void **state)
{
    struct fixture *f = *state;
    struct hf_file *file;
    void *block = aligned_alloc(HF_BLOCK_BYTES, HF_BLOCK_BYTES);
    struct iovec iov = {.iov_base = block, .iov_len = HF_BLOCK_BYTES};
    int err = hf_disk_open(hf_env_disk(f->env), in_dir(f, "direct"),
                           HF_FILE_CREATE | HF_FILE_DIRECT, &file);

    if (err == -EINVAL) {
        free(block);
        skip(); /* the file system of /tmp has no direct I/O */
    }
    assert_int_equal(err, 0);
    memset(block, 7, HF_BLOCK_BYTES);
    assert_int_equal(hf_file_pwritev(file, &iov, 1, HF_BLOCK_BYTES), HF_BLOCK_BYTES);
    memset(block, 0, HF_BLOCK_BYTES);
    assert_int_equal(hf_file_preadv(file, &iov, 1, HF_BLOCK_BYTES), HF_BLOCK_BYTES);
    assert_int_equal(((char *)block)[17], 7);
    hf_file_close(file);
    free(block);
}

static void mkdir_makes_parents_and_accepts_what_exists(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_disk_space space;
    struct hf_file *file;
    struct stat st;

    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "a/b//c/")), 0);
    assert_int_equal(stat(in_dir(f, "a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "a/b/c")), 0);
    assert_int_equal(hf_disk_mkdir(disk, "/"), 0);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "plain"), HF_FILE_CREATE, &file), 0);
    hf_file_close(file);
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "plain")), -ENOTDIR);
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "plain/x")), -ENOTDIR);
    assert_int_equal(hf_disk_space(disk, f->dir, &space), 0);
    assert_true(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
    assert_int_equal(hf_disk_space(disk, in_dir(f, "none"), &space), -ENOENT);
    assert_int_equal(rmdir(in_dir(f, "a/b/c")), 0);
    assert_int_equal(rmdir(in_dir(f, "a/b")), 0);
}

static int count_to_two(void *ctx, const char *name)
{
    int *count = ctx;

    assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    return ++*count == 2 ? -ECANCELED : 0;
}

static void listing_ends_when_its_callback_says_so(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    int count = 0;

    for (char name[2] = "a"; name[0] < 'd'; name[0]++) {
        assert_int_equal(hf_disk_replace(disk, in_dir(f, name), name, 1), 0);
    }
    assert_int_equal(hf_disk_list(disk, f->dir, count_to_two, &count), -ECANCELED);
    assert_int_equal(count, 2);
    assert_int_equal(hf_disk_list(disk, in_dir(f, "none"), count_to_two, &count), -ENOENT);
}

static void a_lock_is_busy_for_another_process_until_closed(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_file *lock = NULL;
    int ready[2], finish[2];
    int pid = 0;
    int status;
    char c;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(finish), 0);
    child = fork();
    if (child == 0) {
        bool ok = hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid) == 0;

        ok = ok && write(ready[1], "r", 1) == 1 && read(finish[0], &c, 1) == 1;
        _exit(ok ? 0 : 1); /* dies holding it */
    }
    assert_int_equal(close(ready[1]), 0); /* nothing to read if it dies without the lock */
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), -EBUSY);
    assert_int_equal(pid, child);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, NULL), -EBUSY);
    assert_int_equal(write(finish[1], "f", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), 0);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), -EBUSY);
    assert_int_equal(pid, getpid());
    hf_file_close(lock);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), 0);
    hf_file_close(lock);
    (void)close(ready[0]);
    (void)close(finish[0]);
    (void)close(finish[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(timers_run_in_order_of_their_deadlines),
        TEST(rearming_a_timer_moves_it),
        TEST(a_timer_may_rearm_and_free_itself),
        TEST(posts_of_a_thread_run_on_the_loop_in_order),
        TEST(a_task_posted_twice_runs_once),
        TEST(tasks_queued_when_stopping_still_run),
        TEST(jobs_of_one_thread_run_in_order_and_are_done_on_the_loop),
        TEST(every_job_of_a_pool_of_threads_is_done_once),
        TEST(freeing_the_env_finishes_queued_jobs),
        TEST(a_cpu_that_is_not_there_is_refused),
        TEST(eight_megabytes_come_back_over_tcp),
        TEST(eight_megabytes_come_back_over_tcp_version_6),
        TEST(eight_megabytes_come_back_over_a_unix_socket),
        TEST(a_refused_connection_is_told_by_its_callback),
        TEST(no_callback_runs_after_close),
        TEST(a_taken_address_is_refused),
        TEST(a_socket_that_nobody_answers_on_is_replaced),
        TEST(what_is_no_address_is_refused),
        TEST(a_listener_may_be_closed_while_accepting),
        TEST(accepting_goes_on_when_descriptors_are_back),
        TEST(a_signal_reaches_its_callback_on_the_loop),
        TEST(a_watched_descriptor_calls_only_while_enabled),
        TEST(a_replaced_file_is_read_back_whole),
        TEST(files_read_write_truncate_and_grow),
        TEST(direct_files_take_aligned_transfers),
        TEST(mkdir_makes_parents_and_accepts_what_exists),
        TEST(listing_ends_when_its_callback_says_so),
        TEST(a_lock_is_busy_for_another_process_until_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
