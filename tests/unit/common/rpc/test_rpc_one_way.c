/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-way requests.
 */
#include "tests/unit/common/rpc/world.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
