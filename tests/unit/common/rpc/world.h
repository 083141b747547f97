/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server and a peer on real sockets in one loop.
 */
#ifndef HF_TESTS_RPC_WORLD_H
#define HF_TESTS_RPC_WORLD_H

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
    M_TAKE = 7,  /* 1 MiB from the pool, at once */
    M_READ = 8,  /* the same a little later, as from a disk */
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
    size_t pool_used_max;
    uint32_t up_count, down_count;
    int down_err;
    struct hf_session_id session_seen;
    char last_log[512];
    uint32_t warn_count;
};

static struct world w;
static const struct hf_uuid cluster_a = {{1}}, cluster_b = {{2}};
static uint8_t megabyte[HF_FRAME_BULK_MAX];

static inline void note_log(void *ctx, const char *line)
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

static inline void waiter_tick(void *ctx)
{
    struct waiter *wt = ctx;

    wt->good = wt->done(wt->ctx);
    if (wt->good || hf_env_mono_ns(w.env) > wt->end_ns) {
        hf_env_real_stop(w.env);
    } else {
        hf_timer_arm(&wt->timer, HF_NS_PER_MS / 2);
    }
}

static inline bool wait_for(bool (*done)(void *ctx), void *ctx, uint64_t timeout_ns)
{
    struct waiter wt = {.done = done, .ctx = ctx};

    wt.end_ns = hf_env_mono_ns(w.env) + hf_sweep_patience_ns(timeout_ns);
    hf_timer_init(&wt.timer, w.env, waiter_tick, &wt);
    hf_timer_arm(&wt.timer, 0);
    assert_int_equal(hf_env_real_run(w.env), 0);
    hf_timer_fini(&wt.timer);
    return wt.good;
}

static inline bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static inline void spin(uint64_t ms)
{
    (void)wait_for(never, NULL, ms * HF_NS_PER_MS);
}

static inline bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static inline bool reached(void *ctx)
{
    const uint32_t *const *pair = ctx;

    return *pair[0] >= *pair[1];
}

static inline bool wait_count(const uint32_t *count, uint32_t want)
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

static inline void echo_release(void *ctx)
{
    struct echo_bulk *e = ctx;

    hf_buf_unref(e->buf);
    free(e);
}

static inline void answer_echo(struct hf_rpc_request *req, int err)
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

static inline void count_answer(void *ctx)
{
    (void)ctx;
    w.answers_released++;
}

static inline void note(struct hf_rpc_request *req)
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

struct pool_answer {
    struct hf_timer timer;
    struct hf_rpc_request *req;
    struct hf_buf *buf;
};

static inline void release_buf(void *ctx)
{
    hf_buf_unref(ctx);
}

static inline void answer_from_pool(void *ctx)
{
    struct pool_answer *a = ctx;
    const struct iovec iov = {a->buf->data, HF_FRAME_BULK_MAX};
    const struct hf_rpc_bulk bulk = {
        .iov = &iov, .iov_count = 1, .release = release_buf, .ctx = a->buf};

    hf_rpc_reply(a->req, 0, NULL, 0, &bulk);
    hf_timer_fini(&a->timer);
    free(a);
}

static inline void take_from_pool(struct hf_rpc_request *req)
{
    struct pool_answer *a = malloc(sizeof(*a));
    size_t used;

    assert_non_null(a);
    a->req = req;
    a->buf = hf_buf_get(w.pool, HF_FRAME_BULK_MAX);
    assert_non_null(a->buf);
    used = hf_bufpool_used_bytes(w.pool);
    w.pool_used_max = used > w.pool_used_max ? used : w.pool_used_max;
    hf_timer_init(&a->timer, w.env, answer_from_pool, a);
    if (req->method == M_TAKE) {
        answer_from_pool(a);
    } else {
        hf_rpc_promise(req, HF_FRAME_BULK_MAX);
        hf_timer_arm(&a->timer, 5 * HF_NS_PER_MS);
    }
}

static inline void serve(void *ctx, struct hf_rpc_request *req)
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
    case M_TAKE:
    case M_READ:
        take_from_pool(req);
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

static inline void let_go(void)
{
    while (w.held_count > 0) {
        hf_rpc_reply(w.held[--w.held_count], 0, NULL, 0, NULL);
    }
}

static inline void on_closed(void *ctx, struct hf_rpc_conn *conn)
{
    (void)ctx;
    (void)conn;
    w.closed_count++;
}

static const struct hf_rpc_service service = {.request = serve, .closed = on_closed};

static inline void server_start_with(const char *addr, struct hf_rpc_server_options options)
{
    options.addr = addr;
    options.self = (struct hf_rpc_identity){.cluster = cluster_a, .node = {1}, .name = "node 1"};
    options.pool = options.pool ? options.pool : w.pool;
    assert_int_equal(hf_rpc_server_new(w.env, &options, &service, &w.server), 0);
    (void)snprintf(w.addr, sizeof(w.addr), "%s", hf_rpc_server_addr(w.server));
}

static inline void server_start(const char *addr)
{
    server_start_with(addr, (struct hf_rpc_server_options){0});
}

static inline void server_stop(void)
{
    hf_rpc_server_free(w.server);
    w.server = NULL;
}

/* ------------------------------------------------------------------------------------ the client
 */

static inline void on_state(void *ctx, bool connected, int err)
{
    (void)ctx;
    if (connected) {
        w.up_count++;
    } else {
        w.down_count++;
        w.down_err = err;
    }
}

static inline void peer_start_with(struct hf_rpc_peer_options options)
{
    options.addr = w.addr;
    options.pool = w.pool;
    options.state = on_state;
    (void)snprintf(options.self.name, sizeof(options.self.name), "test");
    assert_int_equal(hf_rpc_peer_new(w.env, &options, &w.peer), 0);
}

static inline void peer_start(void)
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

static inline void test_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
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

static inline void mark_released(void *ctx)
{
    bool *released = ctx;

    assert_false(*released);
    *released = true;
}

static inline void start(struct test_call *c, uint16_t method, size_t bulk_len, uint64_t timeout_ms)
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

static inline void await(struct test_call *c)
{
    assert_true(wait_for(is_true, &c->done, 20 * HF_NS_PER_SEC));
    assert_true(c->released);
    assert_int_equal(c->msg_len && c->err == 0 ? c->msg_len : 5, 5);
}

static inline int call(uint16_t method, uint64_t timeout_ms)
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

static inline void count_release(void *ctx)
{
    ((struct test_send *)ctx)->released++;
}

static inline int send_note(struct test_send *s, uint32_t number, size_t bulk_len, size_t queue_max)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline void free_peer(struct test_call *c)
{
    (void)c;
    hf_rpc_peer_free(w.peer);
    w.peer = NULL;
}

struct raw {
    struct hf_stream *stream;
    struct hf_listener *listener;
    bool connected;
    bool ended;
    uint8_t out[16384];
    size_t out_len;
    size_t in_bytes;
};

static inline void raw_connected(void *ctx, int err)
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

static inline void raw_readable(void *ctx)
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

static inline void raw_frame(struct raw *r, struct hf_frame frame, const void *msg)
{
    uint8_t *at = r->out + r->out_len;

    hf_frame_encode(&frame, at);
    if (msg) {
        memcpy(at + HF_FRAME_HEADER_BYTES, msg, frame.msg_len);
    }
    hf_frame_seal(at, msg ? frame.msg_len : 0);
    r->out_len += HF_FRAME_HEADER_BYTES + (msg ? frame.msg_len : 0);
}

static inline void raw_hello(struct raw *r)
{
    uint8_t hello[HF_HELLO_BYTES];

    hf_hello_encode(&(struct hf_rpc_identity){.cluster = cluster_a, .name = "raw"}, hello);
    raw_frame(r, (struct hf_frame){.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES}, hello);
}

static inline bool raw_is_connected(void *ctx)
{
    return ((struct raw *)ctx)->in_bytes > 0;
}

static inline void raw_accept(void *ctx, struct hf_stream *stream)
{
    struct raw *r = ctx;

    r->stream = stream;
    hf_stream_set_events(stream, &raw_events, r);
    hf_stream_want(stream, true, false);
    (void)hf_stream_writev(stream, &(const struct iovec){r->out, r->out_len}, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
