/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/rpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/log/log.h"
#include "common/rpc/frame.h"
#include "tests/sweep/sweep.h"

/* Methods of the test's service */
enum {
    M_ECHO = 1,  /* message and bulk back */
    M_HOLD = 2,  /* kept until let_go() */
    M_FAIL = 3,  /* -ENOENT with the message */
    M_BULK = 4,  /* 1 MiB of bulk */
    M_ORDER = 5, /* notes the order of arrival */
    M_NOTE = 6,  /* one-way: notes the number in the message, checks the bulk, answers with bulk */
};

struct world {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_rpc_server *server;
    struct hf_rpc_peer *peer;
    char addr[HF_ADDR_BYTES_MAX];
    struct hf_rpc_request *held[512];
    uint32_t held_count;
    uint32_t closed_count;
    uint32_t order[64];
    uint32_t order_count;
    uint32_t notes[2048];
    uint32_t note_count;
    uint32_t answers_released;
    uint32_t up_count, down_count;
    int down_err;
    struct hf_session_id session_seen;
    char last_log[512];
    uint32_t warn_count;
};

static struct world w;
static const struct hf_uuid cluster_a = {{1}}, cluster_b = {{2}};
static uint8_t megabyte[HF_FRAME_BULK_MAX];

static void note_log(void *ctx, const char *line)
{
    (void)ctx;
    if (strstr(line, "connection closed")) {
        w.warn_count++;
    }
    (void)snprintf(w.last_log, sizeof(w.last_log), "%s", line);
}

/* ------------------------------------------------------------------------------ running the loop
 */

struct waiter {
    bool (*done)(void *ctx);
    void *ctx;
    uint64_t end_ns;
    bool good;
    struct hf_timer timer;
};

static void waiter_tick(void *ctx)
{
    struct waiter *wt = ctx;

    wt->good = wt->done(wt->ctx);
    if (wt->good || hf_env_mono_ns(w.env) > wt->end_ns) {
        hf_env_real_stop(w.env);
    } else {
        hf_timer_arm(&wt->timer, HF_NS_PER_MS / 2);
    }
}

static bool wait_for(bool (*done)(void *ctx), void *ctx, uint64_t timeout_ns)
{
    struct waiter wt = {.done = done, .ctx = ctx};

    wt.end_ns = hf_env_mono_ns(w.env) + hf_sweep_patience_ns(timeout_ns);
    hf_timer_init(&wt.timer, w.env, waiter_tick, &wt);
    hf_timer_arm(&wt.timer, 0);
    assert_int_equal(hf_env_real_run(w.env), 0);
    hf_timer_fini(&wt.timer);
    return wt.good;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void spin(uint64_t ms)
{
    (void)wait_for(never, NULL, ms * HF_NS_PER_MS);
}

static bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static bool reached(void *ctx)
{
    const uint32_t *const *pair = ctx;

    return *pair[0] >= *pair[1];
}

static bool wait_count(const uint32_t *count, uint32_t want)
{
    const uint32_t *pair[2] = {count, &want};

    return wait_for(reached, pair, 20 * HF_NS_PER_SEC);
}

/* ------------------------------------------------------------------------------------ the server
 */

struct echo_bulk {
    struct hf_buf *buf;
    struct iovec iov[2];
};

static void echo_release(void *ctx)
{
    struct echo_bulk *e = ctx;

    hf_buf_unref(e->buf);
    free(e);
}

static void answer_echo(struct hf_rpc_request *req, int err)
{
    struct hf_rpc_bulk bulk = {0};
    struct echo_bulk *e;

    if (!req->bulk) {
        hf_rpc_reply(req, err, req->msg, req->msg_len, NULL);
        return;
    }
    e = malloc(sizeof(*e));
    assert_non_null(e);
    e->buf = hf_buf_ref(req->bulk);
    e->iov[0] = (struct iovec){e->buf->data, e->buf->len_bytes / 3};
    e->iov[1] = (struct iovec){e->buf->data + e->buf->len_bytes / 3,
                               e->buf->len_bytes - e->buf->len_bytes / 3};
    bulk = (struct hf_rpc_bulk){.iov = e->iov, .iov_count = 2, .release = echo_release, .ctx = e};
    hf_rpc_reply(req, err, req->msg, req->msg_len, &bulk);
}

static void count_answer(void *ctx)
{
    (void)ctx;
    w.answers_released++;
}

static void note(struct hf_rpc_request *req)
{
    const struct iovec iov = {megabyte, sizeof(megabyte)};
    const struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .release = count_answer};

    assert_true(req->oneway);
    assert_true(req->deadline_ns == UINT64_MAX);
    assert_int_equal(req->msg_len, 4);
    memcpy(&w.notes[w.note_count++ % HF_ARRAY_LEN(w.notes)], req->msg, 4);
    if (req->bulk) {
        assert_memory_equal(req->bulk->data, megabyte, req->bulk->len_bytes);
    }
    hf_rpc_reply(req, 0, "answer", 6, &bulk);
}

static void serve(void *ctx, struct hf_rpc_request *req)
{
    const struct iovec iov = {megabyte, sizeof(megabyte)};
    const struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1};

    (void)ctx;
    w.session_seen = req->peer->session;
    switch (req->method) {
    case M_HOLD:
        req->msg = NULL;
        w.held[w.held_count++] = req;
        break;
    case M_FAIL:
        answer_echo(req, -ENOENT);
        break;
    case M_BULK:
        hf_rpc_reply(req, 0, NULL, 0, &bulk);
        break;
    case M_NOTE:
        note(req);
        break;
    case M_ORDER:
        w.order[w.order_count++] = req->msg[0];
        hf_rpc_reply(req, 0, NULL, 0, NULL);
        break;
    default:
        answer_echo(req, 0);
        break;
    }
}

static void let_go(void)
{
    while (w.held_count > 0) {
        hf_rpc_reply(w.held[--w.held_count], 0, NULL, 0, NULL);
    }
}

static void on_closed(void *ctx, struct hf_rpc_conn *conn)
{
    (void)ctx;
    (void)conn;
    w.closed_count++;
}

static const struct hf_rpc_service service = {.request = serve, .closed = on_closed};

static void server_start_with(const char *addr, struct hf_rpc_server_options options)
{
    options.addr = addr;
    options.self = (struct hf_rpc_identity){.cluster = cluster_a, .node = {1}, .name = "node 1"};
    options.pool = options.pool ? options.pool : w.pool;
    assert_int_equal(hf_rpc_server_new(w.env, &options, &service, &w.server), 0);
    (void)snprintf(w.addr, sizeof(w.addr), "%s", hf_rpc_server_addr(w.server));
}

static void server_start(const char *addr)
{
    server_start_with(addr, (struct hf_rpc_server_options){0});
}

static void server_stop(void)
{
    hf_rpc_server_free(w.server);
    w.server = NULL;
}

/* ------------------------------------------------------------------------------------ the client
 */

static void on_state(void *ctx, bool connected, int err)
{
    (void)ctx;
    if (connected) {
        w.up_count++;
    } else {
        w.down_count++;
        w.down_err = err;
    }
}

static void peer_start_with(struct hf_rpc_peer_options options)
{
    options.addr = w.addr;
    options.pool = w.pool;
    options.state = on_state;
    (void)snprintf(options.self.name, sizeof(options.self.name), "test");
    assert_int_equal(hf_rpc_peer_new(w.env, &options, &w.peer), 0);
}

static void peer_start(void)
{
    peer_start_with(
        (struct hf_rpc_peer_options){.self.cluster = cluster_a, .expect_cluster = cluster_a});
}

struct test_call {
    struct hf_rpc_call call;
    struct iovec iov[3];
    bool done;
    bool starting;
    bool released;
    int err;
    uint8_t msg[64];
    size_t msg_len;
    struct hf_buf *bulk;
    void (*then)(struct test_call *c);
};

static uint32_t done_count;

static void test_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct test_call *c = call->ctx;

    assert_false(c->done);
    assert_false(c->starting);
    assert_non_null(reply);
    c->done = true;
    c->err = err;
    done_count++;
    c->msg_len = reply->msg_len;
    if (reply->msg_len) {
        memcpy(c->msg, reply->msg, reply->msg_len < 64 ? reply->msg_len : 64);
    }
    if (reply->bulk) {
        c->bulk = hf_buf_ref(reply->bulk);
    }
    if (c->then) {
        c->then(c);
    }
}

static void mark_released(void *ctx)
{
    bool *released = ctx;

    assert_false(*released);
    *released = true;
}

static void start(struct test_call *c, uint16_t method, size_t bulk_len, uint64_t timeout_ms)
{
    c->call.method = method;
    if (!c->call.msg) {
        c->call.msg = "hello";
        c->call.msg_len = 5;
    }
    c->call.timeout_ns = timeout_ms * HF_NS_PER_MS;
    c->call.done = test_done;
    c->call.ctx = c;
    if (bulk_len) {
        c->iov[0] = (struct iovec){megabyte, bulk_len / 2};
        c->iov[1] = (struct iovec){megabyte + bulk_len / 2, bulk_len - bulk_len / 2};
        c->call.bulk.iov = c->iov;
        c->call.bulk.iov_count = 2;
    }
    c->call.bulk.release = mark_released;
    c->call.bulk.ctx = &c->released;
    c->starting = true;
    hf_rpc_call(w.peer, &c->call);
    c->starting = false;
}

static void await(struct test_call *c)
{
    assert_true(wait_for(is_true, &c->done, 20 * HF_NS_PER_SEC));
    assert_true(c->released);
    assert_int_equal(c->msg_len && c->err == 0 ? c->msg_len : 5, 5);
}

static int call(uint16_t method, uint64_t timeout_ms)
{
    struct test_call c = {0};

    start(&c, method, 0, timeout_ms);
    await(&c);
    hf_buf_unref(c.bulk);
    return c.err;
}

struct test_send {
    uint32_t number;
    struct iovec iov[2];
    uint32_t released;
};

static void count_release(void *ctx)
{
    ((struct test_send *)ctx)->released++;
}

static int send_note(struct test_send *s, uint32_t number, size_t bulk_len, size_t queue_max)
{
    struct hf_rpc_bulk bulk = {.release = count_release, .ctx = s};

    s->iov[0] = (struct iovec){megabyte, bulk_len / 2};
    s->iov[1] = (struct iovec){megabyte + bulk_len / 2, bulk_len - bulk_len / 2};
    bulk.iov = s->iov;
    bulk.iov_count = bulk_len ? 2 : 0;
    s->number = number;
    return hf_rpc_send(w.peer, M_NOTE, &s->number, 4, &bulk, queue_max);
}

/* ------------------------------------------------------------------------------------- fixtures */

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    done_count = 0;
    for (size_t i = 0; i < sizeof(megabyte); i++) {
        megabyte[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    hf_log_set_level(HF_LOG_INFO);
    hf_log_set_sink(note_log, NULL);
    assert_int_equal(hf_env_real_new(&(struct hf_env_real_options){.cpu = -1}, &w.env), 0);
    assert_int_equal(hf_bufpool_new(8u << 20, 0, &w.pool), 0);
    server_start("127.0.0.1:0");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hf_rpc_peer_free(w.peer);
    server_stop();
    let_go();
    spin(2);
    hf_bufpool_free(w.pool); /* asserts that every buffer came back */
    hf_env_real_free(w.env);
    hf_log_set_sink(NULL, NULL);
    return 0;
}

/* ---------------------------------------------------------------------------------------- tests */

static void echo_brings_message_and_bulk_back(void **state)
{
    const size_t lens[] = {0,
                           1,
                           2,
                           100,
                           4095,
                           4096,
                           16383,
                           16384,
                           65535,
                           65536,
                           65537,
                           300000,
                           HF_FRAME_BULK_MAX - 1,
                           HF_FRAME_BULK_MAX};

    (void)state;
    peer_start();
    for (size_t i = 0; i < HF_ARRAY_LEN(lens); i++) {
        struct test_call c = {0};

        start(&c, M_ECHO, lens[i], 10000);
        await(&c);
        assert_int_equal(c.err, 0);
        assert_memory_equal(c.msg, "hello", 5);
        assert_int_equal(c.bulk ? c.bulk->len_bytes : 0, lens[i]);
        if (c.bulk) {
            assert_memory_equal(c.bulk->data, megabyte, lens[i]);
            hf_buf_unref(c.bulk);
        }
    }
    assert_int_equal(w.up_count, 1);
    assert_int_equal(call(M_FAIL, 1000), -ENOENT);
}

static void largest_message_fits(void **state)
{
    static uint8_t big[HF_RPC_MSG_MAX];
    struct test_call c = {.call = {.msg = big, .msg_len = sizeof(big)}};

    (void)state;
    peer_start();
    start(&c, M_ECHO, 70000, 10000);
    assert_true(wait_for(is_true, &c.done, 10 * HF_NS_PER_SEC));
    assert_int_equal(c.err, 0);
    assert_int_equal(c.msg_len, sizeof(big));
    assert_memory_equal(c.bulk->data, megabyte, 70000);
    hf_buf_unref(c.bulk);
}

static void thousand_calls_at_a_time(void **state)
{
    struct test_call *c = calloc(1000, sizeof(*c));

    (void)state;
    assert_non_null(c);
    peer_start();
    for (uint32_t i = 0; i < 1000; i++) {
        start(&c[i], M_ECHO, i % 7 ? 0 : i * 50 + 1, 15000);
    }
    assert_int_equal(hf_rpc_peer_inflight(w.peer), 1000);
    assert_true(hf_rpc_peer_queued_bytes(w.peer) > 1000 * 69);
    assert_true(wait_count(&done_count, 1000));
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(c[i].err, 0);
        assert_true(c[i].released);
        if (i % 7 == 0) {
            assert_int_equal(c[i].bulk->len_bytes, i * 50 + 1);
            assert_memory_equal(c[i].bulk->data, megabyte, i * 50 + 1);
            hf_buf_unref(c[i].bulk);
        }
    }
    assert_int_equal(hf_rpc_peer_inflight(w.peer), 0);
    assert_int_equal(hf_rpc_peer_queued_bytes(w.peer), 0);
    free(c);
}

static void unix_sockets_work_too(void **state)
{
    char addr[64];

    (void)state;
    server_stop();
    (void)snprintf(addr, sizeof(addr), "unix:/tmp/hf-test-rpc-%d", (int)getpid());
    server_start(addr);
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
}

static void deadline_ends_a_call_and_a_late_answer_is_dropped(void **state)
{
    struct test_call c = {0}, later = {0};

    (void)state;
    peer_start();
    start(&later, M_HOLD, 0, 60000);
    start(&c, M_HOLD, 100000, 30);
    await(&c);
    assert_int_equal(c.err, -ETIMEDOUT);
    assert_int_equal(w.held_count, 2);
    let_go();
    await(&later);
    assert_int_equal(later.err, 0);
    assert_int_equal(call(M_ECHO, 1000), 0);
    assert_int_equal(w.up_count, 1);
}

static void deadline_holds_without_a_connection(void **state)
{
    struct test_call c = {0};

    (void)state;
    w.held_count = 0;
    peer_start_with((struct hf_rpc_peer_options){0});
    server_stop();
    assert_int_equal(call(M_ECHO, 5000), -ECONNREFUSED);
    start(&c, M_ECHO, 1000, 5); /* in the backoff, or the next attempt refuses it */
    await(&c);
    assert_true(c.err == -ETIMEDOUT || c.err == -ECONNREFUSED);
}

static void server_death_ends_calls_and_the_peer_reconnects(void **state)
{
    struct test_call c[3] = {0};

    (void)state;
    peer_start();
    for (int i = 0; i < 3; i++) {
        start(&c[i], M_HOLD, i == 2 ? 500000 : 0, 10000);
    }
    assert_true(wait_count(&w.held_count, 3));
    server_stop();
    for (int i = 0; i < 3; i++) {
        await(&c[i]);
        assert_int_equal(c[i].err, -HF_EDISCONNECTED);
    }
    assert_int_equal(w.down_count, 1);
    assert_int_equal(w.closed_count, 1);
    assert_int_equal(w.held_count, 3);
    assert_memory_equal(w.held[2]->bulk->data, megabyte, 500000); /* still theirs */
    let_go();                                                     /* goes nowhere */
    server_start(w.addr);
    assert_true(wait_count(&w.up_count, 2));
    assert_int_equal(call(M_ECHO, 5000), 0);
}

static void refused_connect_ends_calls_that_came_before_it(void **state)
{
    struct test_call before = {0};

    (void)state;
    peer_start();
    server_stop();
    start(&before, M_ECHO, 0, 10000);
    assert_int_equal(hf_rpc_peer_inflight(w.peer), 1);
    await(&before);
    assert_int_equal(before.err, -ECONNREFUSED);
    assert_int_equal(w.down_err, -ECONNREFUSED);
    server_start(w.addr);
    assert_int_equal(call(M_ECHO, 10000), 0); /* waited for the next attempt */
    assert_int_equal(w.up_count, 1);
}

static void wrong_cluster_is_said_by_either_side(void **state)
{
    (void)state;
    peer_start_with((struct hf_rpc_peer_options){.self.cluster = cluster_b});
    assert_int_equal(call(M_ECHO, 5000), -HF_EWRONGCLUSTER);
    assert_int_equal(w.down_err, -HF_EWRONGCLUSTER);
    hf_rpc_peer_free(w.peer);
    peer_start_with((struct hf_rpc_peer_options){.expect_cluster = cluster_b});
    assert_int_equal(call(M_ECHO, 5000), -HF_EWRONGCLUSTER);
    hf_rpc_peer_free(w.peer);
    peer_start_with((struct hf_rpc_peer_options){0}); /* a tool that does not know */
    assert_int_equal(call(M_ECHO, 5000), 0);
}

static void cancel_ends_a_call_wherever_it_is(void **state)
{
    struct test_call c[4] = {0};

    (void)state;
    peer_start();
    start(&c[0], M_HOLD, 0, 10000); /* unconnected */
    hf_rpc_cancel(&c[0].call);
    hf_rpc_cancel(&c[0].call);
    assert_false(c[0].done);
    await(&c[0]);
    assert_int_equal(c[0].err, -ECANCELED);
    assert_int_equal(w.held_count, 0);
    assert_int_equal(call(M_ECHO, 1000), 0);
    for (int i = 1; i < 4; i++) { /* the first is partly sent then, the others wait behind it */
        start(&c[i], M_ECHO, HF_FRAME_BULK_MAX, 10000);
    }
    for (int i = 1; i < 4; i++) {
        hf_rpc_cancel(&c[i].call);
        assert_true(c[i].released);
    }
    for (int i = 1; i < 4; i++) {
        await(&c[i]);
        assert_int_equal(c[i].err, -ECANCELED);
    }
    assert_int_equal(call(M_ECHO, 5000), 0); /* the stream of frames is whole */
    assert_int_equal(w.up_count, 1);
    c[0] = (struct test_call){0};
    start(&c[0], M_HOLD, 0, 10000);
    assert_true(wait_count(&w.held_count, 1));
    let_go();
    hf_rpc_cancel(&c[0].call);
    assert_true(wait_for(is_true, &c[0].done, HF_NS_PER_SEC));
    assert_int_equal(c[0].err, -ECANCELED);
}

static void urgent_calls_overtake_bulk(void **state)
{
    static const uint8_t numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    struct test_call c[12] = {0};

    (void)state;
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    for (uint32_t i = 0; i < 12; i++) {
        c[i].call.msg = &numbers[i];
        c[i].call.msg_len = 1;
        c[i].call.urgent = i == 11;
        start(&c[i], M_ORDER, i == 11 ? 0 : HF_FRAME_BULK_MAX, 10000);
    }
    assert_true(wait_count(&done_count, 13));
    assert_int_equal(w.order_count, 12);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(c[i].err, 0);
        if (w.order[i] == 11) {
            assert_true(i < 10); /* not behind all the bulk that waited */
        }
    }
    for (uint32_t i = 0, next = 0; i < 12; i++) { /* the others in order */
        if (w.order[i] != 11) {
            assert_int_equal(w.order[i], next);
            next++;
        }
    }
}

static void free_peer(struct test_call *c)
{
    (void)c;
    hf_rpc_peer_free(w.peer);
    w.peer = NULL;
}

static void free_server(struct test_call *c)
{
    (void)c;
    server_stop();
}

static void freeing_a_peer_cancels_its_calls(void **state)
{
    struct test_call c[5] = {0};

    (void)state;
    peer_start();
    start(&c[0], M_ECHO, 0, 1000);
    hf_rpc_peer_free(w.peer); /* never connected */
    assert_true(c[0].done);
    assert_int_equal(c[0].err, -ECANCELED);
    peer_start();
    start(&c[1], M_HOLD, 0, 1000);
    assert_true(wait_count(&w.held_count, 1));
    start(&c[2], M_ECHO, HF_FRAME_BULK_MAX, 1000);
    start(&c[3], M_ECHO, HF_FRAME_BULK_MAX, 1000);
    start(&c[4], M_ECHO, 0, 1000);
    hf_rpc_cancel(&c[4].call);
    free_peer(NULL);
    for (int i = 0; i < 5; i++) {
        assert_true(c[i].done);
        assert_true(c[i].released);
        assert_int_equal(c[i].err, -ECANCELED);
    }
}

static void a_done_may_free_peer_and_server(void **state)
{
    struct test_call c[4] = {0};

    (void)state;
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    for (int i = 0; i < 3; i++) {
        c[i].then = i == 1 ? free_peer : NULL;
        start(&c[i], M_ECHO, 0, 1000);
    }
    assert_true(wait_count(&done_count, 4));
    assert_int_equal(c[0].err, 0);
    assert_int_equal(c[1].err, 0);
    assert_int_equal(c[2].err, -ECANCELED);
    peer_start();
    c[3].then = free_server;
    start(&c[3], M_ECHO, 1000, 1000);
    await(&c[3]);
    assert_int_equal(c[3].err, 0);
    hf_buf_unref(c[3].bulk);
}

static void session_reaches_the_server_before_the_next_call(void **state)
{
    (void)state;
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    assert_int_equal(w.session_seen.v, 0);
    hf_rpc_peer_set_session(w.peer, (struct hf_session_id){77});
    assert_int_equal(call(M_ECHO, 1000), 0);
    assert_int_equal(w.session_seen.v, 77);
    assert_int_equal(w.up_count, 1);
}

static void unanswered_requests_are_bounded(void **state)
{
    struct test_call c[20] = {0};

    (void)state;
    server_stop();
    server_start_with("127.0.0.1:0", (struct hf_rpc_server_options){.requests_max = 4});
    /* dropped after 900 ms of silence: the server says PONG though it does not read */
    peer_start_with((struct hf_rpc_peer_options){.idle_ping_ns = 300 * HF_NS_PER_MS});
    for (int i = 0; i < 20; i++) {
        start(&c[i], M_HOLD, 0, 30000);
    }
    assert_true(wait_count(&w.held_count, 4));
    spin(1500);
    assert_int_equal(w.held_count, 4);
    assert_int_equal(w.down_count, 0);
    while (done_count < 20) {
        let_go();
        spin(2);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(c[i].err, 0);
    }
}

static void reading_waits_for_the_pool(void **state)
{
    struct hf_bufpool *small;
    struct hf_buf *hog;
    struct test_call c = {0};

    (void)state;
    assert_int_equal(hf_bufpool_new(0, 2u << 20, &small), 0);
    server_stop();
    server_start_with("127.0.0.1:0", (struct hf_rpc_server_options){.pool = small});
    peer_start();
    hog = hf_buf_get(small, 1u << 20);
    start(&c, M_ECHO, HF_FRAME_BULK_MAX, 10000);
    spin(50);
    assert_false(c.done);
    hf_buf_unref(hog);
    await(&c);
    assert_int_equal(c.err, 0);
    hf_buf_unref(c.bulk);
    server_stop();
    free_peer(NULL);
    spin(2);
    hf_bufpool_free(small);
}

static void too_many_connections_are_refused(void **state)
{
    struct hf_rpc_peer *first;

    (void)state;
    server_stop();
    server_start_with("127.0.0.1:0", (struct hf_rpc_server_options){.conns_max = 1});
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    first = w.peer;
    peer_start();
    assert_true(call(M_ECHO, 1000) < 0);
    assert_string_not_equal(w.last_log, "");
    hf_rpc_peer_free(w.peer);
    w.peer = first;
    assert_int_equal(call(M_ECHO, 1000), 0);
}

/* ------------------------------------------------------------------------------ raw misbehaviour
 */

struct raw {
    struct hf_stream *stream;
    struct hf_listener *listener;
    bool connected;
    bool ended;
    uint8_t out[4096];
    size_t out_len;
    size_t in_bytes;
};

static void raw_connected(void *ctx, int err)
{
    struct raw *r = ctx;
    const struct iovec iov = {r->out, r->out_len};

    assert_int_equal(err, 0);
    r->connected = true;
    if (r->out_len) {
        assert_int_equal(hf_stream_writev(r->stream, &iov, 1), r->out_len);
    }
    hf_stream_want(r->stream, true, false);
}

static void raw_readable(void *ctx)
{
    struct raw *r = ctx;
    uint8_t buf[4096];
    const struct iovec iov = {buf, sizeof(buf)};
    ssize_t n = hf_stream_readv(r->stream, &iov, 1);

    if (n > 0) {
        r->in_bytes += (size_t)n;
    } else if (n != -EAGAIN) {
        r->ended = true;
        hf_stream_want(r->stream, false, false);
    }
}

static const struct hf_stream_events raw_events = {.connected = raw_connected,
                                                   .readable = raw_readable};

static void raw_frame(struct raw *r, struct hf_frame frame, const void *msg)
{
    uint8_t *at = r->out + r->out_len;

    hf_frame_encode(&frame, at);
    if (msg) {
        memcpy(at + HF_FRAME_HEADER_BYTES, msg, frame.msg_len);
    }
    hf_frame_seal(at, msg ? frame.msg_len : 0);
    r->out_len += HF_FRAME_HEADER_BYTES + (msg ? frame.msg_len : 0);
}

static void raw_hello(struct raw *r)
{
    uint8_t hello[HF_HELLO_BYTES];

    hf_hello_encode(&(struct hf_rpc_identity){.cluster = cluster_a, .name = "raw"}, hello);
    raw_frame(r, (struct hf_frame){.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES}, hello);
}

/* The log says at most HF_LOG_BURST lines a second from one place. */
static void let_the_log_breathe(void)
{
    static uint32_t lines;

    if (++lines % (HF_LOG_BURST - 2) == 0) {
        spin(1100);
    }
}

/* Send r->out; the server must close with one line, and serve others as before. */
static void raw_refused(struct raw *r, const char *reason)
{
    uint32_t warns = w.warn_count;

    let_the_log_breathe();
    assert_int_equal(hf_net_connect(w.env, w.addr, &raw_events, r, &r->stream), 0);
    assert_true(wait_for(is_true, &r->ended, 5 * HF_NS_PER_SEC));
    hf_stream_close(r->stream);
    assert_int_equal(w.warn_count, warns + 1);
    if (!strstr(w.last_log, reason)) {
        fail_msg("\"%s\" is not in: %s", reason, w.last_log);
    }
    assert_int_equal(call(M_ECHO, 5000), 0);
    assert_int_equal(w.up_count, 1);
}

enum { CASE_COUNT = 12 };

static const char *make_case(struct raw *r, int which)
{
    static const uint8_t msg[16] = "message";

    *r = (struct raw){0};
    if (which >= 4) {
        raw_hello(r);
    }
    switch (which) {
    case 0:
        memset(r->out, 'x', r->out_len = 200);
        return "not a frame";
    case 1:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .method = M_ECHO}, NULL);
        return "a frame before HELLO";
    case 2:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_HELLO, .msg_len = 16}, msg);
        return "bad HELLO";
    case 3:
        raw_hello(r);
        r->out[HF_FRAME_HEADER_BYTES] = 9; /* version_min */
        r->out[HF_FRAME_HEADER_BYTES + 2] = 9;
        hf_frame_seal(r->out, HF_HELLO_BYTES);
        return "no common protocol version";
    case 4:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .msg_len = HF_RPC_MSG_MAX + 1},
                  NULL);
        return "oversized message";
    case 5:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .bulk_len = UINT32_MAX}, NULL);
        return "oversized bulk";
    case 6:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .msg_len = 16}, msg);
        r->out[r->out_len - 1] ^= 1;
        return "bad checksum of a message";
    case 7:
        raw_frame(r,
                  (struct hf_frame){
                      .kind = HF_FRAME_REQUEST, .msg_len = 16, .bulk_len = 16, .bulk_sum = 5},
                  msg);
        memset(r->out + r->out_len, 'b', 16);
        r->out_len += 16;
        return "bad checksum of bulk";
    case 8:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REPLY}, NULL);
        return "servers do not take";
    case 9:
        raw_frame(r, (struct hf_frame){.kind = (enum hf_frame_kind)99}, NULL);
        return "unknown frame kind";
    case 10:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_PING, .bulk_len = 1}, NULL);
        return "bulk where none belongs";
    default:
        raw_frame(r, (struct hf_frame){.kind = HF_FRAME_REQUEST}, NULL);
        r->out[r->out_len - HF_FRAME_HEADER_BYTES + 4] = 2;
        return "unknown frame version";
    }
}

static void malformed_peers_are_closed_with_one_line(void **state)
{
    struct raw r;

    (void)state;
    peer_start();
    assert_int_equal(call(M_ECHO, 5000), 0);
    for (int i = 0; i < CASE_COUNT; i++) {
        const char *reason = make_case(&r, i);

        raw_refused(&r, reason);
    }
}

static void slow_and_silent_peers_are_closed(void **state)
{
    struct raw r = {0};

    (void)state;
    server_stop();
    server_start_with("127.0.0.1:0",
                      (struct hf_rpc_server_options){.frame_timeout_ns = 50 * HF_NS_PER_MS});
    peer_start();
    assert_int_equal(call(M_ECHO, 5000), 0);
    raw_refused(&r, "no HELLO in time");
    r = (struct raw){0};
    raw_hello(&r);
    raw_frame(&r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .msg_len = 100}, NULL);
    raw_refused(&r, "a frame took too long");
    r = (struct raw){0};
    raw_hello(&r);
    raw_frame(&r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .bulk_len = 100000}, NULL);
    raw_refused(&r, "a frame took too long");
}

static bool raw_is_connected(void *ctx)
{
    return ((struct raw *)ctx)->in_bytes > 0;
}

static void truncated_frames_are_logged_and_idle_ones_live(void **state)
{
    struct raw r = {0};
    uint32_t warns = w.warn_count;

    (void)state;
    let_the_log_breathe();
    server_stop();
    server_start_with("127.0.0.1:0",
                      (struct hf_rpc_server_options){.frame_timeout_ns = 50 * HF_NS_PER_MS});
    raw_hello(&r);
    assert_int_equal(hf_net_connect(w.env, w.addr, &raw_events, &r, &r.stream), 0);
    assert_true(wait_for(raw_is_connected, &r, 5 * HF_NS_PER_SEC));
    assert_int_equal(r.in_bytes, HF_FRAME_HEADER_BYTES + HF_HELLO_BYTES);
    spin(120); /* between frames there is no hurry */
    assert_false(r.ended);
    assert_int_equal(
        hf_stream_writev(r.stream, &(const struct iovec){r.out, HF_FRAME_HEADER_BYTES + 3}, 1),
        HF_FRAME_HEADER_BYTES + 3);
    hf_stream_close(r.stream);
    assert_true(wait_count(&w.warn_count, warns + 1));
    assert_non_null(strstr(w.last_log, "ended inside a frame"));
}

static void raw_accept(void *ctx, struct hf_stream *stream)
{
    struct raw *r = ctx;

    r->stream = stream;
    hf_stream_set_events(stream, &raw_events, r);
    hf_stream_want(stream, true, false);
    (void)hf_stream_writev(stream, &(const struct iovec){r->out, r->out_len}, 1);
}

static void silent_server_is_dropped_by_pings(void **state)
{
    struct raw r = {0};
    struct test_call c = {0};

    (void)state;
    raw_hello(&r);
    assert_int_equal(hf_net_listen(w.env, "127.0.0.1:0", raw_accept, &r, &r.listener), 0);
    (void)snprintf(w.addr, sizeof(w.addr), "%s", hf_listener_addr(r.listener));
    peer_start_with((struct hf_rpc_peer_options){.idle_ping_ns = 20 * HF_NS_PER_MS});
    start(&c, M_ECHO, 0, 20000);
    await(&c);
    assert_int_equal(c.err, -HF_EDISCONNECTED);
    assert_int_equal(w.down_err, -ETIMEDOUT);
    assert_true(r.in_bytes > HF_FRAME_HEADER_BYTES * 3 + HF_HELLO_BYTES); /* and pings */
    hf_listener_close(r.listener);
    free_peer(NULL);
    hf_stream_close(r.stream);
}

static void server_without_hello_is_a_timeout(void **state)
{
    struct raw r = {0};

    (void)state;
    assert_int_equal(hf_net_listen(w.env, "127.0.0.1:0", raw_accept, &r, &r.listener), 0);
    (void)snprintf(w.addr, sizeof(w.addr), "%s", hf_listener_addr(r.listener));
    peer_start_with((struct hf_rpc_peer_options){.connect_timeout_ns = 30 * HF_NS_PER_MS});
    assert_int_equal(call(M_ECHO, 20000), -ETIMEDOUT);
    hf_listener_close(r.listener);
    free_peer(NULL);
    hf_stream_close(r.stream);
}

static void a_peer_that_does_not_drain_is_bounded(void **state)
{
    const size_t all = 50 * (sizeof(megabyte) + HF_FRAME_HEADER_BYTES);
    struct raw r = {0};
    size_t used;

    (void)state;
    server_stop();
    server_start_with("127.0.0.1:0", (struct hf_rpc_server_options){.requests_max = 4});
    raw_hello(&r);
    for (uint64_t i = 0; i < 50; i++) {
        raw_frame(&r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .method = M_BULK, .id = i}, NULL);
    }
    assert_int_equal(hf_net_connect(w.env, w.addr, &raw_events, &r, &r.stream), 0);
    assert_true(wait_for(raw_is_connected, &r, 5 * HF_NS_PER_SEC));
    hf_stream_want(r.stream, false, false);
    spin(50);
    used = r.in_bytes;
    hf_stream_want(r.stream, true, false);
    for (uint32_t i = 0; i < 2000 && r.in_bytes < all; i++) {
        spin(5);
    }
    assert_true(r.in_bytes >= all);
    assert_true(used < r.in_bytes);
    hf_stream_close(r.stream);
}

/* -------------------------------------------------------------------------------------- one-way */

static void one_way_requests_stay_in_order_among_calls_and_bulk(void **state)
{
    enum { N = 1000 };
    static struct test_send s[N];
    struct test_call *c = calloc(N / 10, sizeof(*c));

    (void)state;
    assert_non_null(c);
    memset(s, 0, sizeof(s));
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    for (uint32_t i = 0; i < N; i++) {
        if (i % 10 == 0) {
            start(&c[i / 10], M_ECHO, i * 100, 20000);
        }
        assert_int_equal(send_note(&s[i], i, i % 7 ? 0 : i * 90 + 1, SIZE_MAX), 0);
        if (i % 100 == 99) {
            spin(1);
        }
    }
    assert_true(wait_count(&w.note_count, N));
    assert_true(wait_count(&done_count, N / 10 + 1));
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(w.notes[i], i);
        assert_int_equal(s[i].released, 1);
    }
    for (uint32_t i = 0; i < N / 10; i++) {
        assert_int_equal(c[i].err, 0);
        hf_buf_unref(c[i].bulk);
    }
    assert_int_equal(w.note_count, N);
    assert_int_equal(w.answers_released, N);
    assert_int_equal(hf_rpc_peer_queued_bytes(w.peer), 0);
    assert_int_equal(w.up_count, 1);
    assert_int_equal(w.warn_count, 0);
    free(c);
}

static void one_way_requests_overtake_waiting_bulk(void **state)
{
    static const uint8_t numbers[14] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 21};
    struct test_call c[12] = {0};

    (void)state;
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    for (uint32_t i = 0; i < 12; i++) {
        c[i].call.msg = &numbers[i];
        c[i].call.msg_len = 1;
        start(&c[i], M_ORDER, HF_FRAME_BULK_MAX, 10000);
    }
    assert_true(hf_rpc_peer_queued_bytes(w.peer) > HF_FRAME_BULK_MAX);
    for (uint32_t i = 12; i < 14; i++) { /* queued bulk of calls is not in their way */
        assert_int_equal(hf_rpc_send(w.peer, M_ORDER, &numbers[i], 1, NULL, 1000), 0);
    }
    assert_true(wait_count(&done_count, 13));
    assert_int_equal(w.order_count, 14);
    for (uint32_t i = 0, next = 0; i < 14; i++) {
        if (w.order[i] == 20) {
            assert_true(i < 11);
            assert_int_equal(w.order[++i], 21);
        } else {
            assert_int_equal(w.order[i], next);
            next++;
        }
    }
}

struct raw_want {
    const struct raw *raw;
    size_t bytes;
};

static bool raw_has(void *ctx)
{
    const struct raw_want *want = ctx;

    return want->raw->in_bytes >= want->bytes;
}

static void wait_raw(const struct raw *r, size_t bytes)
{
    struct raw_want want = {r, bytes};

    assert_true(wait_for(raw_has, &want, 20 * HF_NS_PER_SEC));
    assert_int_equal(r->in_bytes, bytes);
}

static void one_way_requests_are_not_answered(void **state)
{
    struct raw r = {0};

    (void)state;
    raw_hello(&r);
    for (uint32_t i = 0; i < 3; i++) {
        raw_frame(&r,
                  (struct hf_frame){.kind = HF_FRAME_REQUEST,
                                    .method = M_NOTE,
                                    .msg_len = 4,
                                    .id = i,
                                    .flags = HF_FRAME_ONEWAY | i % 2},
                  &i);
    }
    raw_frame(&r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .method = M_FAIL, .id = 9}, NULL);
    assert_int_equal(hf_net_connect(w.env, w.addr, &raw_events, &r, &r.stream), 0);
    wait_raw(&r, 2 * HF_FRAME_HEADER_BYTES + HF_HELLO_BYTES); /* M_FAIL's alone, and it is last */
    assert_int_equal(w.note_count, 3);
    assert_int_equal(w.answers_released, 3);
    assert_false(r.ended);
    hf_stream_close(r.stream);
}

static void one_way_requests_without_a_connection_are_dropped(void **state)
{
    struct test_send s[3] = {0};

    (void)state;
    peer_start();
    assert_int_equal(send_note(&s[0], 0, 100, SIZE_MAX), -ENOTCONN);
    assert_int_equal(s[0].released, 1);
    assert_int_equal(hf_rpc_send(w.peer, M_NOTE, "none", 4, NULL, 0), -ENOTCONN);
    assert_true(wait_count(&w.up_count, 1)); /* it began to connect by itself */
    assert_int_equal(send_note(&s[1], 1, 100, 0), 0);
    assert_true(wait_count(&w.note_count, 1));
    assert_int_equal(w.notes[0], 1);
    server_stop();
    assert_true(wait_count(&w.down_count, 1));
    assert_int_equal(send_note(&s[2], 2, 100, SIZE_MAX), -ENOTCONN);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(s[i].released, 1);
    }
    server_start(w.addr);
    assert_true(wait_count(&w.up_count, 2));
    spin(5);
    assert_int_equal(w.note_count, 1); /* nothing was kept for later */
}

/* A server that says HELLO and then neither reads nor writes. */
static void deaf_server(struct raw *r, uint64_t ping_ns)
{
    raw_hello(r);
    assert_int_equal(hf_net_listen(w.env, "127.0.0.1:0", raw_accept, r, &r->listener), 0);
    (void)snprintf(w.addr, sizeof(w.addr), "%s", hf_listener_addr(r->listener));
    peer_start_with((struct hf_rpc_peer_options){.idle_ping_ns = ping_ns});
    assert_int_equal(hf_rpc_send(w.peer, M_NOTE, "down", 4, NULL, 0), -ENOTCONN);
    assert_true(wait_count(&w.up_count, 1));
}

static void one_way_requests_are_bounded_and_released_once_when_lost(void **state)
{
    enum { N = 64 };
    static struct test_send s[N];
    struct test_call behind = {0};
    struct raw r = {0};
    const size_t queue_max = 3u << 20;
    uint32_t taken = 0, waiting = 0;

    (void)state;
    memset(s, 0, sizeof(s));
    deaf_server(&r, 0);
    hf_stream_want(r.stream, false, false);
    while (taken < N && send_note(&s[taken], taken, HF_FRAME_BULK_MAX, queue_max) == 0) {
        taken++;
        spin(1);
    }
    assert_true(taken > 3 && taken < N);
    assert_int_equal(s[taken].released, 1); /* the one refused */
    assert_true(hf_rpc_peer_queued_bytes(w.peer) > queue_max);
    assert_true(hf_rpc_peer_queued_bytes(w.peer) < queue_max + HF_FRAME_BULK_MAX + 100);
    assert_int_equal(hf_rpc_send(w.peer, M_NOTE, "full", 4, NULL, queue_max), -EAGAIN);
    assert_int_equal(hf_rpc_send(w.peer, M_NOTE, "room", 4, NULL, 2 * queue_max), 0);
    start(&behind, M_ECHO, 1000, 20000);
    for (uint32_t i = 0; i < taken; i++) {
        waiting += s[i].released == 0;
    }
    assert_true(waiting >= 3);
    hf_listener_close(r.listener);
    hf_stream_close(r.stream);
    await(&behind);
    assert_int_equal(behind.err, -HF_EDISCONNECTED);
    assert_int_equal(w.down_count, 1);
    for (uint32_t i = 0; i <= taken; i++) {
        assert_int_equal(s[i].released, 1);
    }
    assert_int_equal(send_note(&s[0], 0, 100, SIZE_MAX), -ENOTCONN);
    assert_int_equal(s[0].released, 2);
}

static void freeing_a_peer_releases_its_one_way_requests(void **state)
{
    enum { N = 16 };
    static struct test_send s[N];
    struct raw r = {0};

    (void)state;
    memset(s, 0, sizeof(s));
    deaf_server(&r, 0);
    hf_stream_want(r.stream, false, false);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(send_note(&s[i], i, HF_FRAME_BULK_MAX, SIZE_MAX), 0);
    }
    assert_int_equal(s[N - 1].released, 0);
    free_peer(NULL);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(s[i].released, 1);
    }
    hf_listener_close(r.listener);
    hf_stream_close(r.stream);
}

static void one_way_traffic_alone_is_not_pinged(void **state)
{
    struct raw r = {0};
    size_t bytes = HF_FRAME_HEADER_BYTES + HF_HELLO_BYTES;

    (void)state;
    deaf_server(&r, 10 * HF_NS_PER_MS);
    for (uint32_t i = 0; i < 20; i++, bytes += HF_FRAME_HEADER_BYTES + 4) {
        assert_int_equal(hf_rpc_send(w.peer, M_NOTE, "note", 4, NULL, SIZE_MAX), 0);
        spin(5);
    }
    wait_raw(&r, bytes);
    assert_int_equal(w.down_count, 0);
    assert_int_equal(call(M_ECHO, 20000), -HF_EDISCONNECTED); /* a call asks whether it is there */
    assert_int_equal(w.down_err, -ETIMEDOUT);
    hf_listener_close(r.listener);
    free_peer(NULL);
    hf_stream_close(r.stream);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(echo_brings_message_and_bulk_back),
        TEST(largest_message_fits),
        TEST(thousand_calls_at_a_time),
        TEST(unix_sockets_work_too),
        TEST(deadline_ends_a_call_and_a_late_answer_is_dropped),
        TEST(deadline_holds_without_a_connection),
        TEST(server_death_ends_calls_and_the_peer_reconnects),
        TEST(refused_connect_ends_calls_that_came_before_it),
        TEST(wrong_cluster_is_said_by_either_side),
        TEST(cancel_ends_a_call_wherever_it_is),
        TEST(urgent_calls_overtake_bulk),
        TEST(freeing_a_peer_cancels_its_calls),
        TEST(a_done_may_free_peer_and_server),
        TEST(session_reaches_the_server_before_the_next_call),
        TEST(unanswered_requests_are_bounded),
        TEST(reading_waits_for_the_pool),
        TEST(too_many_connections_are_refused),
        TEST(malformed_peers_are_closed_with_one_line),
        TEST(slow_and_silent_peers_are_closed),
        TEST(truncated_frames_are_logged_and_idle_ones_live),
        TEST(silent_server_is_dropped_by_pings),
        TEST(server_without_hello_is_a_timeout),
        TEST(a_peer_that_does_not_drain_is_bounded),
        TEST(one_way_requests_stay_in_order_among_calls_and_bulk),
        TEST(one_way_requests_overtake_waiting_bulk),
        TEST(one_way_requests_are_not_answered),
        TEST(one_way_requests_without_a_connection_are_dropped),
        TEST(one_way_requests_are_bounded_and_released_once_when_lost),
        TEST(freeing_a_peer_releases_its_one_way_requests),
        TEST(one_way_traffic_alone_is_not_pinged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
