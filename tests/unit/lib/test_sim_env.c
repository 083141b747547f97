/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/lib/sim_env.h"

struct log {
    int seen[256];
    int count;
};

struct item {
    struct hf_timer timer;
    struct hf_task task;
    struct hf_job job;
    struct hf_env *env;
    struct log *log;
    int id;
};

static void rings(void *ctx)
{
    struct item *item = ctx;

    item->log->seen[item->log->count++] = item->id;
}

static void task_runs(struct hf_task *task)
{
    rings(hf_container_of(task, struct item, task));
}

static void job_runs(struct hf_job *job)
{
    struct item *item = hf_container_of(job, struct item, job);

    hf_assert_worker(item->env);
    item->log->seen[item->log->count++] = -item->id;
}

static void job_done(struct hf_job *job)
{
    struct item *item = hf_container_of(job, struct item, job);

    hf_assert_loop(item->env);
    rings(item);
}

static void items_init(struct item *items, int count, struct hf_env *env, struct log *log)
{
    for (int i = 0; i < count; i++) {
        items[i] = (struct item){.task.fn = task_runs,
                                 .job = {.run = job_runs, .done = job_done},
                                 .env = env,
                                 .log = log,
                                 .id = i + 1};
        hf_timer_init(&items[i].timer, env, rings, &items[i]);
    }
}

static void time_jumps_to_the_next_timer(void **state)
{
    struct hf_sim *sim = hf_sim_new(1);
    struct hf_env *env = hf_sim_env(sim);
    struct log log = {0};
    struct item items[4];
    uint64_t start_ns = hf_env_mono_ns(env);
    uint64_t wall_ns = hf_env_wall_ns(env);

    (void)state;
    items_init(items, 4, env, &log);
    hf_timer_arm(&items[1].timer, 3600 * HF_NS_PER_SEC);
    hf_timer_arm(&items[0].timer, 5);
    hf_timer_arm(&items[2].timer, UINT64_MAX);
    hf_timer_arm(&items[3].timer, 7);
    hf_timer_disarm(&items[3].timer);
    assert_true(hf_sim_step(sim));
    assert_int_equal(hf_env_mono_ns(env), start_ns + 5);
    assert_false(items[0].timer.armed);
    hf_sim_run_ns(sim, 7200 * HF_NS_PER_SEC);
    assert_int_equal(log.count, 2);
    assert_int_equal(log.seen[1], 2);
    assert_int_equal(hf_env_mono_ns(env), start_ns + 5 + 7200 * HF_NS_PER_SEC);
    assert_int_equal(hf_env_boot_ns(env), hf_env_mono_ns(env));
    assert_int_equal(hf_env_wall_ns(env) - wall_ns, 5 + 7200 * HF_NS_PER_SEC);
    hf_sim_set_wall_ns(env, 42);
    assert_int_equal(hf_env_wall_ns(env), 42);
    for (int i = 0; i < 4; i++) {
        hf_timer_fini(&items[i].timer);
    }
    assert_false(hf_sim_step(sim));
    hf_sim_free(sim);
    hf_sim_free(NULL);
}

static void tasks_run_in_order_and_once(void **state)
{
    struct hf_sim *sim = hf_sim_new(1);
    struct log log = {0};
    struct item items[20];

    (void)state;
    items_init(items, 20, hf_sim_env(sim), &log);
    for (int i = 0; i < 20; i++) {
        hf_env_post(hf_sim_env(sim), &items[i].task);
        hf_env_post(hf_sim_env(sim), &items[0].task);
    }
    assert_int_equal(log.count, 0);
    while (hf_sim_step(sim)) {
    }
    assert_int_equal(log.count, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(log.seen[i], i + 1);
    }
    hf_sim_free(sim);
}

static void jobs_of_one_thread_run_and_finish_in_order(void **state)
{
    struct hf_sim *sim = hf_sim_new(3);
    struct log log = {0};
    struct item items[20];

    (void)state;
    items_init(items, 20, hf_sim_env(sim), &log);
    for (int i = 0; i < 20; i++) {
        hf_env_submit(hf_sim_env(sim), HF_POOL_LOG, &items[i].job);
    }
    assert_int_equal(log.count, 0);
    while (hf_sim_step(sim)) {
    }
    assert_int_equal(log.count, 40);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(log.seen[2 * i], -(i + 1));
        assert_int_equal(log.seen[2 * i + 1], i + 1);
    }
    hf_sim_free(sim);
}

static void jobs_of_two_threads_overtake_each_other(void **state)
{
    struct hf_sim *sim = hf_sim_new(3);
    struct log log = {0};
    struct item items[50];
    bool overtaken = false;

    (void)state;
    items_init(items, 50, hf_sim_env(sim), &log);
    for (int i = 0; i < 50; i++) {
        hf_env_submit(hf_sim_env(sim), HF_POOL_DISK, &items[i].job);
    }
    while (hf_sim_step(sim)) {
    }
    assert_int_equal(log.count, 100);
    for (int i = 1, last = 0; i < 100; i++) {
        if (log.seen[i] > 0) {
            overtaken = overtaken || log.seen[i] < last;
            last = log.seen[i];
        }
    }
    assert_true(overtaken);
    hf_sim_free(sim);
}

static bool log_has_two(void *ctx)
{
    return ((struct log *)ctx)->count >= 2;
}

static void count_step(void *ctx)
{
    ++*(int *)ctx;
}

static void running_until_ends_with_the_predicate_or_the_time(void **state)
{
    struct hf_sim *sim = hf_sim_new(1);
    struct log log = {0};
    struct item items[3];
    int steps = 0;

    (void)state;
    items_init(items, 3, hf_sim_env(sim), &log);
    for (int i = 0; i < 3; i++) {
        hf_timer_arm(&items[i].timer, (uint64_t)(i + 1) * 10);
    }
    hf_sim_on_step(sim, count_step, &steps);
    assert_false(hf_sim_run_until(sim, log_has_two, &log, 15));
    assert_int_equal(hf_sim_now_ns(sim), 15);
    assert_true(hf_sim_run_until(sim, log_has_two, &log, 15));
    assert_int_equal(hf_sim_now_ns(sim), 20);
    assert_int_equal(steps, 2);
    hf_sim_free(sim); /* with a timer armed */
}

static void a_killed_process_is_never_called_again(void **state)
{
    struct hf_sim *sim = hf_sim_new(5);
    struct hf_env *env = hf_sim_env(sim);
    struct log log = {0};
    struct item *items = calloc(40, sizeof(*items));
    struct item again;
    struct hf_file *lock, *file;

    (void)state;
    assert_non_null(items);
    items_init(items, 40, env, &log);
    for (int i = 0; i < 10; i++) {
        hf_timer_arm(&items[i].timer, 1 + (uint64_t)i);
        hf_env_post(env, &items[10 + i].task);
        hf_env_submit(env, HF_POOL_WRITE, &items[20 + i].job);
        hf_env_submit(env, HF_POOL_DISK, &items[30 + i].job);
    }
    assert_int_equal(hf_disk_lock(hf_env_disk(env), "/lock", &lock, NULL), 0);
    for (int i = 0; i < 12; i++) {
        assert_true(hf_sim_step(sim));
    }
    log.count = 0;
    hf_sim_kill(sim);
    hf_timer_fini(&items[0].timer); /* tidying up is allowed, but not needed */
    hf_sim_abandon(items);
    assert_false(hf_sim_step(sim));
    assert_int_equal(log.count, 0);

    assert_int_equal(hf_disk_lock(hf_env_disk(env), "/lock", &file, NULL), 0);
    items_init(&again, 1, env, &log);
    hf_env_submit(env, HF_POOL_WRITE, &again.job);
    hf_env_post(env, &again.task);
    while (hf_sim_step(sim)) {
    }
    assert_int_equal(log.count, 3);
    hf_sim_free(sim);
}

static void clocks_drift_and_timers_with_them(void **state)
{
    struct hf_sim *sim = hf_sim_new(5);
    struct hf_env *fast = hf_sim_env(sim), *right = hf_sim_add_env(sim, "10.0.0.2");
    uint64_t fast_ns = hf_env_mono_ns(fast), right_ns = hf_env_mono_ns(right);
    struct log log = {0};
    struct item items[2];

    (void)state;
    items_init(&items[0], 1, fast, &log);
    items_init(&items[1], 1, right, &log);
    items[1].id = 2;
    hf_sim_set_drift(fast, 10000);
    hf_timer_arm(&items[0].timer, 100500 * HF_NS_PER_MS);
    hf_timer_arm(&items[1].timer, 100000 * HF_NS_PER_MS);
    hf_sim_run_ns(sim, 200 * HF_NS_PER_SEC);
    assert_int_equal(hf_env_mono_ns(right) - right_ns, 200 * HF_NS_PER_SEC);
    assert_int_equal(hf_env_mono_ns(fast) - fast_ns, 202 * HF_NS_PER_SEC);
    assert_int_equal(log.seen[0], 1); /* 100.5 s of its own are 99.5 of the other's */
    assert_int_equal(log.seen[1], 2);
    hf_sim_set_drift(fast, -10000);
    assert_int_equal(hf_env_mono_ns(fast) - fast_ns, 202 * HF_NS_PER_SEC);
    hf_sim_free(sim);
}

static void what_falls_into_a_pause_comes_after_it_in_order(void **state)
{
    struct hf_sim *sim = hf_sim_new(5);
    struct hf_env *env = hf_sim_env(sim);
    uint64_t begin_ns = hf_env_mono_ns(env);
    struct log log = {0};
    struct item items[20];

    (void)state;
    items_init(items, 20, env, &log);
    for (int i = 0; i < 20; i++) {
        hf_timer_arm(&items[i].timer, (uint64_t)(i + 1) * HF_NS_PER_MS);
    }
    hf_sim_pause(env, HF_NS_PER_SEC);
    hf_sim_run_ns(sim, HF_NS_PER_SEC - 1);
    assert_int_equal(log.count, 0);
    hf_sim_run_ns(sim, 1);
    assert_int_equal(log.count, 20);
    assert_int_equal(hf_env_mono_ns(env) - begin_ns, HF_NS_PER_SEC);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(log.seen[i], i + 1);
        hf_timer_arm(&items[i].timer, (uint64_t)(i + 1) * HF_NS_PER_MS);
    }
    hf_sim_pause(env, HF_NS_PER_SEC);
    hf_sim_run_ns(sim, 10 * HF_NS_PER_MS);
    hf_sim_resume(env);
    hf_sim_run_ns(sim, 1);
    assert_int_equal(log.count, 30);
    hf_sim_run_ns(sim, 20 * HF_NS_PER_MS);
    assert_int_equal(log.count, 40);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(log.seen[20 + i], i + 1);
    }
    hf_sim_free(sim);
}

static void sleep_is_on_the_boot_clock_only(void **state)
{
    struct hf_sim *sim = hf_sim_new(5);
    struct hf_env *env = hf_sim_env(sim);
    uint64_t mono_ns = hf_env_mono_ns(env), boot_ns = hf_env_boot_ns(env);
    struct log log = {0};
    struct item item;

    (void)state;
    items_init(&item, 1, env, &log);
    hf_timer_arm(&item.timer, HF_NS_PER_SEC);
    hf_sim_suspend(env, 60 * HF_NS_PER_SEC);
    hf_sim_run_ns(sim, 60 * HF_NS_PER_SEC + HF_NS_PER_SEC / 2);
    assert_int_equal(log.count, 0);
    assert_int_equal(hf_env_mono_ns(env) - mono_ns, HF_NS_PER_SEC / 2);
    assert_int_equal(hf_env_boot_ns(env) - boot_ns, 60 * HF_NS_PER_SEC + HF_NS_PER_SEC / 2);
    hf_sim_run_ns(sim, HF_NS_PER_SEC / 2);
    assert_int_equal(log.count, 1);
    hf_sim_free(sim);
}

/* Network */

#define TRANSFER_BYTES 1000000u

struct end {
    struct hf_env *env;
    struct hf_stream *stream;
    int connected; /* times */
    int err;       /* of connecting, or of the stream */
    bool eof;
    size_t sent, got;
    size_t to_send;
    unsigned wrong;
    bool again; /* EAGAIN was met when writing */
};

struct pair {
    struct end client, server;
    struct hf_listener *listener;
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)((i * 131) ^ (i >> 9));
}

static void end_connected(void *ctx, int err)
{
    struct end *end = ctx;

    end->connected++;
    end->err = err;
}

static void end_readable(void *ctx)
{
    struct end *end = ctx;
    uint8_t buf[7000];
    const struct iovec iov[2] = {{.iov_base = buf, .iov_len = 3000},
                                 {.iov_base = buf + 3000, .iov_len = 4000}};
    ssize_t n = hf_stream_readv(end->stream, iov, 2);

    assert_true(n != -EAGAIN);
    if (n <= 0) {
        end->eof = n == 0;
        end->err = n < 0 ? (int)n : end->err;
        hf_stream_close(end->stream);
        end->stream = NULL;
        return;
    }
    for (size_t i = 0; i < (size_t)n; i++) {
        end->wrong += buf[i] != pattern(end->got + i);
    }
    end->got += (size_t)n;
}

static void end_writable(void *ctx)
{
    struct end *end = ctx;

    while (end->sent < end->to_send) {
        uint8_t buf[50000];
        size_t len = end->to_send - end->sent;
        struct iovec iov = {.iov_base = buf};
        ssize_t n;

        iov.iov_len = len < sizeof(buf) ? len : sizeof(buf);
        for (size_t i = 0; i < iov.iov_len; i++) {
            buf[i] = pattern(end->sent + i);
        }
        n = hf_stream_writev(end->stream, &iov, 1);
        if (n == -EAGAIN) {
            end->again = true;
            return;
        }
        if (n < 0) {
            end->err = (int)n;
            break;
        }
        end->sent += (size_t)n;
    }
    hf_stream_want(end->stream, true, false);
}

static const struct hf_stream_events end_events = {
    .connected = end_connected, .readable = end_readable, .writable = end_writable};

static void server_accepts(void *ctx, struct hf_stream *stream)
{
    struct pair *pair = ctx;

    assert_null(pair->server.stream);
    pair->server.stream = stream;
    hf_stream_set_events(stream, &end_events, &pair->server);
    hf_stream_want(stream, true, pair->server.to_send > 0);
}

static struct hf_sim *two_hosts(uint64_t seed, struct pair *pair, const char *listen_addr)
{
    struct hf_sim *sim = hf_sim_new(seed);

    *pair =
        (struct pair){.server.env = hf_sim_env(sim), .client.env = hf_sim_add_env(sim, "10.0.0.2")};
    assert_int_equal(
        hf_net_listen(pair->server.env, listen_addr, server_accepts, pair, &pair->listener), 0);
    return sim;
}

static void start_connect(struct pair *pair, const char *addr)
{
    assert_int_equal(
        hf_net_connect(pair->client.env, addr, &end_events, &pair->client, &pair->client.stream),
        0);
    hf_stream_want(pair->client.stream, true, pair->client.to_send > 0);
}

static bool all_there(void *ctx)
{
    const struct pair *pair = ctx;

    return pair->server.got == pair->client.to_send && pair->client.got == pair->server.to_send;
}

static bool client_told(void *ctx)
{
    return ((struct pair *)ctx)->client.connected > 0;
}

static bool connected_both(void *ctx)
{
    const struct pair *pair = ctx;

    return pair->client.connected > 0 && pair->server.stream != NULL;
}

static bool both_closed(void *ctx)
{
    const struct pair *pair = ctx;

    return !pair->client.stream && !pair->server.stream;
}

static void bytes_cross_both_ways_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct pair pair;
        struct hf_sim *sim = two_hosts(seed, &pair, "10.0.0.1:7400");

        pair.client.to_send = TRANSFER_BYTES;
        pair.server.to_send = TRANSFER_BYTES / 3;
        start_connect(&pair, "10.0.0.1:7400");
        assert_int_equal(pair.client.connected, 0);
        assert_string_equal(hf_stream_peer(pair.client.stream), "10.0.0.1:7400");
        assert_true(hf_sim_run_until(sim, all_there, &pair, 60 * HF_NS_PER_SEC));
        assert_int_equal(pair.client.connected, 1);
        assert_int_equal(pair.client.err, 0);
        assert_int_equal(pair.client.wrong + pair.server.wrong, 0);
        assert_true(pair.client.again); /* the window is small */
        assert_int_equal(strncmp(hf_stream_peer(pair.server.stream), "10.0.0.2:", 9), 0);
        hf_stream_close(pair.client.stream);
        pair.client.stream = NULL;
        assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
        assert_true(pair.server.eof);
        hf_listener_close(pair.listener);
        hf_sim_free(sim);
    }
}

static void closing_with_unread_bytes_resets(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(2, &pair, "10.0.0.1:7400");

    (void)state;
    pair.client.to_send = 100000;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_stream_want(pair.server.stream, false, false);
    hf_sim_run_ns(sim, HF_NS_PER_SEC);
    hf_stream_close(pair.server.stream);
    pair.server.stream = NULL;
    assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ECONNRESET);
    assert_false(pair.client.eof);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void writing_to_a_closed_peer_ends_in_an_error(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(2, &pair, "10.0.0.1:7400");
    const struct iovec iov = {.iov_base = "xy", .iov_len = 2};

    (void)state;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_stream_want(pair.client.stream, false, false);
    hf_stream_close(pair.server.stream);
    assert_int_equal(hf_stream_writev(pair.client.stream, &iov, 1), 2); /* not known here yet */
    hf_sim_run_ns(sim, HF_NS_PER_SEC);
    assert_int_equal(hf_stream_writev(pair.client.stream, &iov, 1), -EPIPE);
    hf_stream_close(pair.client.stream);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void addresses_find_their_listener(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(1, &pair, "0.0.0.0:0");
    struct hf_listener *second;
    char addr[64];
    const char *port = strrchr(hf_listener_addr(pair.listener), ':');

    (void)state;
    assert_string_not_equal(port, ":0");
    assert_int_equal(
        hf_net_listen(pair.server.env, hf_listener_addr(pair.listener), NULL, NULL, &second),
        -EADDRINUSE);
    assert_int_equal(hf_net_listen(pair.server.env, "localhost:1", NULL, NULL, &second), -EINVAL);
    (void)snprintf(addr, sizeof(addr), "10.0.0.1%s", port);
    start_connect(&pair, addr);
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, 0);
    hf_stream_close(pair.client.stream);

    pair.client.connected = 0;
    (void)snprintf(addr, sizeof(addr), "127.0.0.1%s", port); /* the client's own host */
    start_connect(&pair, addr);
    assert_true(hf_sim_run_until(sim, client_told, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ECONNREFUSED);
    hf_stream_close(pair.client.stream);

    pair.client.connected = 0;
    start_connect(&pair, "unix:/run/x");
    assert_true(hf_sim_run_until(sim, client_told, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ENOENT);
    hf_stream_close(pair.client.stream);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void bytes_wait_for_a_cut_to_heal_and_connecting_times_out(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(4, &pair, "10.0.0.1:7400");

    (void)state;
    pair.client.to_send = 50000;
    hf_sim_net_cut(sim, "10.0.0.2", "10.0.0.1");
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, client_told, &pair, 60 * HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ETIMEDOUT);
    hf_stream_close(pair.client.stream);

    hf_sim_net_heal(sim);
    pair.client.connected = 0;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_sim_net_cut(sim, "10.0.0.2", "10.0.0.1");
    assert_false(hf_sim_run_until(sim, all_there, &pair, 60 * HF_NS_PER_SEC));
    hf_sim_net_heal(sim);
    assert_true(hf_sim_run_until(sim, all_there, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.server.wrong, 0);
    hf_stream_close(pair.client.stream);
    hf_stream_close(pair.server.stream);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void a_reset_breaks_both_ends(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(4, &pair, "10.0.0.1:7400");

    (void)state;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_sim_net_reset_all(sim);
    assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ECONNRESET);
    assert_int_equal(pair.server.err, -ECONNRESET);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void a_reset_of_two_hosts_leaves_others_alone(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(4, &pair, "10.0.0.1:7400");

    (void)state;
    pair.client.to_send = 5000;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_sim_net_reset(sim, "10.0.0.3", "10.0.0.1");
    assert_true(hf_sim_run_until(sim, all_there, &pair, HF_NS_PER_SEC));
    hf_sim_net_reset(sim, "10.0.0.1", "10.0.0.2");
    assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void power_loss_leaves_connections_half_open(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(4, &pair, "10.0.0.1:7400");
    struct hf_stream *client;

    (void)state;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
    hf_sim_power_cut_env(pair.server.env, HF_SIM_CUT_RANDOM);
    assert_true(hf_sim_disk_is_off(hf_sim_disk(pair.server.env)));
    pair.server.stream = NULL;
    pair.client.to_send = 1000;
    hf_stream_want(pair.client.stream, true, true);
    hf_sim_run_ns(sim, 60 * HF_NS_PER_SEC);
    assert_int_equal(pair.client.sent, 1000); /* into the void */
    assert_int_equal(pair.client.err, 0);
    assert_false(pair.client.eof);

    client = pair.client.stream;
    pair.client.connected = 0;
    start_connect(&pair, "10.0.0.1:7400");
    assert_true(hf_sim_run_until(sim, client_told, &pair, 60 * HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ETIMEDOUT);
    hf_stream_close(pair.client.stream);

    pair.client.stream = client;
    pair.client.err = 0;
    hf_sim_power_on_env(pair.server.env);
    assert_false(hf_sim_disk_is_off(hf_sim_disk(pair.server.env)));
    pair.client.to_send = 2000;
    hf_stream_want(pair.client.stream, true, true);
    assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
    assert_int_equal(pair.client.err, -ECONNRESET);
    hf_sim_free(sim);
}

static void lost_packets_only_delay_and_flipped_bits_arrive(void **state)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(4, &pair, "10.0.0.1:7400");

    (void)state;
    pair.client.to_send = TRANSFER_BYTES;
    hf_sim_net_set_stalls(sim, 100, HF_NS_PER_SEC);
    start_connect(&pair, "10.0.0.1:7400");
    assert_false(hf_sim_run_until(sim, all_there, &pair, HF_NS_PER_SEC / 2));
    assert_true(hf_sim_run_until(sim, all_there, &pair, 600 * HF_NS_PER_SEC));
    assert_int_equal(pair.server.wrong, 0);
    hf_sim_net_set_flips(sim, 100000);
    pair.client.to_send = 2 * TRANSFER_BYTES;
    hf_stream_want(pair.client.stream, true, true);
    assert_true(hf_sim_run_until(sim, all_there, &pair, 600 * HF_NS_PER_SEC));
    assert_true(pair.server.wrong > 0);
    hf_stream_close(pair.client.stream);
    hf_stream_close(pair.server.stream);
    hf_listener_close(pair.listener);
    hf_sim_free(sim);
}

static void a_killed_process_ends_its_connections_only(void **state)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct pair pair;
        struct hf_sim *sim = two_hosts(seed, &pair, "10.0.0.1:7400");
        struct hf_stream *dead;

        (void)state;
        pair.client.to_send = 100000;
        start_connect(&pair, "10.0.0.1:7400");
        assert_true(hf_sim_run_until(sim, connected_both, &pair, HF_NS_PER_SEC));
        dead = pair.server.stream;
        pair.server.stream = NULL;
        hf_sim_kill_env(pair.server.env);
        assert_true(hf_sim_run_until(sim, both_closed, &pair, HF_NS_PER_SEC));
        hf_stream_close(dead); /* tidying up is allowed */
        hf_listener_close(pair.listener);
        pair.client = (struct end){.env = pair.client.env};
        start_connect(&pair, "10.0.0.1:7400");
        assert_true(hf_sim_run_until(sim, client_told, &pair, HF_NS_PER_SEC));
        assert_int_equal(pair.client.err, -ECONNREFUSED);
        hf_stream_close(pair.client.stream);
        hf_sim_free(sim);
    }
}

static uint64_t digest_of_run(uint64_t seed)
{
    struct pair pair;
    struct hf_sim *sim = two_hosts(seed, &pair, "10.0.0.1:7400");
    struct log log = {0};
    struct item items[30];
    uint64_t digest;

    pair.client.to_send = TRANSFER_BYTES;
    start_connect(&pair, "10.0.0.1:7400");
    items_init(items, 30, pair.server.env, &log);
    for (int i = 0; i < 30; i++) {
        hf_env_submit(pair.server.env, (enum hf_pool_kind)(i % HF_POOL_COUNT), &items[i].job);
        hf_timer_arm(&items[i].timer, hf_env_random_u64(pair.server.env) % HF_NS_PER_MS);
        hf_env_post(pair.server.env, &items[i].task);
    }
    assert_true(hf_sim_run_until(sim, all_there, &pair, 60 * HF_NS_PER_SEC));
    hf_sim_run_ns(sim, HF_NS_PER_SEC);
    assert_int_equal(log.count, 120);
    for (int i = 0; i < 30; i++) {
        hf_timer_fini(&items[i].timer);
    }
    digest = hf_sim_digest(sim);
    hf_sim_free(sim); /* with streams open */
    return digest;
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    assert_true(digest_of_run(1) == digest_of_run(1));
    assert_true(digest_of_run(2) == digest_of_run(2));
    assert_true(digest_of_run(1) != digest_of_run(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_jumps_to_the_next_timer),
        cmocka_unit_test(tasks_run_in_order_and_once),
        cmocka_unit_test(jobs_of_one_thread_run_and_finish_in_order),
        cmocka_unit_test(jobs_of_two_threads_overtake_each_other),
        cmocka_unit_test(running_until_ends_with_the_predicate_or_the_time),
        cmocka_unit_test(a_killed_process_is_never_called_again),
        cmocka_unit_test(bytes_cross_both_ways_in_order),
        cmocka_unit_test(closing_with_unread_bytes_resets),
        cmocka_unit_test(writing_to_a_closed_peer_ends_in_an_error),
        cmocka_unit_test(addresses_find_their_listener),
        cmocka_unit_test(bytes_wait_for_a_cut_to_heal_and_connecting_times_out),
        cmocka_unit_test(a_reset_breaks_both_ends),
        cmocka_unit_test(a_reset_of_two_hosts_leaves_others_alone),
        cmocka_unit_test(power_loss_leaves_connections_half_open),
        cmocka_unit_test(lost_packets_only_delay_and_flipped_bits_arrive),
        cmocka_unit_test(clocks_drift_and_timers_with_them),
        cmocka_unit_test(what_falls_into_a_pause_comes_after_it_in_order),
        cmocka_unit_test(sleep_is_on_the_boot_clock_only),
        cmocka_unit_test(a_killed_process_ends_its_connections_only),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
