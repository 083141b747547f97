/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls.
 */
#include "tests/unit/common/rpc/world.h"

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

static void nodes_get_in_where_clients_have_all_connections(void **state)
{
    struct hf_rpc_peer *client, *node;

    (void)state;
    server_stop();
    server_start_with("127.0.0.1:0", (struct hf_rpc_server_options){.conns_max = 1});
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), 0);
    client = w.peer;
    peer_start_with((struct hf_rpc_peer_options){.self = {.cluster = cluster_a, .node = {2}}});
    assert_int_equal(call(M_ECHO, 1000), 0);
    node = w.peer;
    peer_start();
    assert_int_equal(call(M_ECHO, 1000), -EBUSY);
    hf_rpc_peer_free(w.peer);
    w.peer = client;
    assert_int_equal(call(M_ECHO, 1000), 0);
    hf_rpc_server_check_invariants(w.server);
    hf_rpc_peer_free(client);
    spin(5);
    peer_start(); /* in its place */
    assert_int_equal(call(M_ECHO, 1000), 0);
    hf_rpc_server_check_invariants(w.server);
    hf_rpc_peer_free(node);
}

/* ------------------------------------------------------------------------------ raw misbehaviour
 */

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

static bool all_read(void *ctx)
{
    return ((struct raw *)ctx)->in_bytes >= 160u * (HF_FRAME_BULK_MAX + HF_FRAME_HEADER_BYTES);
}

static void a_peer_that_does_not_drain_is_bounded(void **state)
{
    static const uint16_t methods[] = {M_TAKE, M_READ};
    /* the one that was one too many; a buffer has a page more than its bulk */
    const size_t held_max = HF_RPC_OWED_BYTES_MAX + HF_FRAME_BULK_MAX + (64u << 10);

    (void)state;
    for (size_t m = 0; m < HF_ARRAY_LEN(methods); m++) {
        struct raw r = {0};
        size_t held;

        raw_hello(&r);
        for (uint64_t i = 0; i < 160; i++) {
            raw_frame(&r,
                      (struct hf_frame){
                          .kind = HF_FRAME_REQUEST, .method = methods[m], .id = i, .timeout_ms = 1},
                      NULL);
        }
        assert_int_equal(hf_net_connect(w.env, w.addr, &raw_events, &r, &r.stream), 0);
        assert_true(wait_for(raw_is_connected, &r, 5 * HF_NS_PER_SEC));
        hf_stream_want(r.stream, false, false);
        spin(300); /* the server is done long before, or would have taken all of it */
        held = hf_bufpool_used_bytes(w.pool);
        assert_true(held > 0 && held <= held_max);
        hf_rpc_server_check_invariants(w.server);
        hf_stream_want(r.stream, true, false);
        assert_true(wait_for(all_read, &r, 60 * HF_NS_PER_SEC));
        assert_true(w.pool_used_max <= held_max);
        assert_int_equal(hf_bufpool_used_bytes(w.pool), 0);
        hf_stream_close(r.stream);
    }
}

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
        TEST(nodes_get_in_where_clients_have_all_connections),
        TEST(malformed_peers_are_closed_with_one_line),
        TEST(slow_and_silent_peers_are_closed),
        TEST(truncated_frames_are_logged_and_idle_ones_live),
        TEST(silent_server_is_dropped_by_pings),
        TEST(server_without_hello_is_a_timeout),
        TEST(a_peer_that_does_not_drain_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
