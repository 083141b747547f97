/* SPDX-License-Identifier: Apache-2.0 */
/* Random calls through random faults, on simulated networks: every call ends once, in time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/rpc/calls.h"
#include "common/rpc/frame.h"
#include "common/rpc/out.h"
#include "common/rpc/rpc.h"
#include "tests/lib/dies.h"
#include "tests/lib/sim_env.h"

#define CALLS     300u
#define SENDS     300u
#define CONNS_MAX 256u
#define SEEDS     60u
#define SLACK_NS  (50 * HF_NS_PER_MS)
#define SERVER_AT "10.0.0.2:7000"

struct sim_call {
    struct hf_rpc_call call;
    struct iovec iov[2];
    uint8_t msg[8];
    uint64_t deadline_ns;
    bool begun, starting, released, done;
    int err;
};

struct sim_send { /* one-way */
    struct iovec iov;
    uint32_t released;
};

struct sim_conn { /* numbers of one-way requests rise along a connection */
    const struct hf_rpc_conn *conn;
    uint32_t last;
};

struct sim_answer { /* a reply that waits */
    struct hf_timer timer;
    struct hf_rpc_request *req;
    struct hf_buf *bulk;
    uint8_t msg[8];
    struct iovec iov;
};

struct sim_world {
    struct hf_sim *sim;
    struct hf_env *client_env, *server_env;
    struct hf_bufpool *client_pool, *server_pool;
    struct hf_rpc_server *server;
    struct hf_rpc_peer *peer;
    struct sim_call calls[CALLS];
    struct sim_send sends[SENDS + 1]; /* by number; [0] is not used */
    struct sim_conn conns[CONNS_MAX];
    uint32_t begun, ended, good, requests, answers;
    uint32_t sends_begun, sends_taken, sends_came;
};

static struct sim_world s;
static uint8_t megabyte[HF_FRAME_BULK_MAX];

static uint64_t chance(uint64_t end)
{
    return hf_sim_random_below(s.sim, end);
}

static void quiet(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

/* The server echoes, late. */

static void answer_free(void *ctx)
{
    struct sim_answer *a = ctx;

    hf_buf_unref(a->bulk);
    free(a);
}

static void answer_now(void *ctx)
{
    struct sim_answer *a = ctx;
    struct hf_rpc_bulk bulk = {.iov = &a->iov, .iov_count = a->bulk != NULL, .ctx = a};
    uint8_t msg[8];

    bulk.release = answer_free;
    hf_timer_fini(&a->timer);
    memcpy(msg, a->msg, sizeof(msg));
    s.answers++;
    hf_rpc_reply(a->req, 0, msg, sizeof(msg), &bulk);
}

static void note_order(const struct hf_rpc_conn *conn, uint32_t number)
{
    struct sim_conn *at = s.conns;

    while (at->conn && at->conn != conn) {
        at++;
        assert_true(at < s.conns + CONNS_MAX);
    }
    assert_true(number > at->last && number <= s.sends_begun);
    *at = (struct sim_conn){conn, number};
    s.sends_came++;
}

static void forget_order(void *ctx, struct hf_rpc_conn *conn)
{
    (void)ctx;
    for (uint32_t i = 0; i < CONNS_MAX; i++) {
        if (s.conns[i].conn == conn) {
            s.conns[i].last = 0; /* its address may come again */
        }
    }
}

static void serve(void *ctx, struct hf_rpc_request *req)
{
    struct sim_answer *a = calloc(1, sizeof(*a));

    (void)ctx;
    assert_non_null(a);
    s.requests++;
    assert_int_equal(req->msg_len, sizeof(a->msg));
    memcpy(a->msg, req->msg, sizeof(a->msg));
    if (req->oneway) {
        uint32_t number;

        memcpy(&number, req->msg, sizeof(number));
        note_order(req->conn, number);
    }
    a->req = req;
    if (req->bulk) {
        a->bulk = hf_buf_ref(req->bulk);
        a->iov = (struct iovec){a->bulk->data, a->bulk->len_bytes};
        assert_memory_equal(a->bulk->data, megabyte, a->bulk->len_bytes);
    }
    hf_timer_init(&a->timer, s.server_env, answer_now, a);
    hf_timer_arm(&a->timer, chance(4) ? chance(5 * HF_NS_PER_MS) : chance(2 * HF_NS_PER_SEC));
}

static void server_start(void)
{
    const struct hf_rpc_service service = {.request = serve, .closed = forget_order};
    const struct hf_rpc_server_options options = {.addr = SERVER_AT,
                                                  .self = {.node = {1}, .name = "node 1"},
                                                  .pool = s.server_pool,
                                                  .requests_max = 20};

    assert_int_equal(hf_rpc_server_new(s.server_env, &options, &service, &s.server), 0);
}

/* The client. */

static void on_release(void *ctx)
{
    struct sim_call *c = ctx;

    assert_false(c->released);
    assert_false(c->done);
    c->released = true;
}

static void on_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct sim_call *c = call->ctx;
    size_t bulk_len = call->bulk.iov_count ? c->iov[0].iov_len + c->iov[1].iov_len : 0;

    assert_true(c->begun && !c->starting && !c->done && c->released);
    assert_true(hf_sim_now_ns(s.sim) <= c->deadline_ns + SLACK_NS);
    c->done = true;
    c->err = err;
    s.ended++;
    if (err == 0) {
        s.good++;
        assert_int_equal(reply->msg_len, sizeof(c->msg));
        assert_memory_equal(reply->msg, c->msg, sizeof(c->msg));
        assert_int_equal(reply->bulk ? reply->bulk->len_bytes : 0, bulk_len);
        if (reply->bulk) {
            assert_memory_equal(reply->bulk->data, megabyte, bulk_len);
        }
    }
}

static void peer_start(void)
{
    const struct hf_rpc_peer_options options = {.addr = SERVER_AT, .pool = s.client_pool};

    assert_int_equal(hf_rpc_peer_new(s.client_env, &options, &s.peer), 0);
}

static void begin_call(void)
{
    struct sim_call *c = &s.calls[s.begun];
    size_t bulk = chance(3) ? chance(5000) : chance(HF_FRAME_BULK_MAX + 1);
    uint64_t timeout_ns = HF_NS_PER_MS * (1 + chance(chance(3) ? 20000 : 50));

    memcpy(c->msg, &s.begun, sizeof(s.begun));
    s.begun++;
    c->deadline_ns = hf_sim_now_ns(s.sim) + timeout_ns;
    c->iov[0] = (struct iovec){megabyte, bulk / 2};
    c->iov[1] = (struct iovec){megabyte + bulk / 2, bulk - bulk / 2};
    c->call = (struct hf_rpc_call){
        .method = 1,
        .msg = c->msg,
        .msg_len = sizeof(c->msg),
        .bulk = {.iov = c->iov, .iov_count = bulk ? 2 : 0, .release = on_release, .ctx = c},
        .timeout_ns = timeout_ns,
        .urgent = chance(8) == 0,
        .done = on_done,
        .ctx = c,
    };
    c->begun = c->starting = true;
    hf_rpc_call(s.peer, &c->call);
    c->starting = false;
}

static void send_released(void *ctx)
{
    struct sim_send *send = ctx;

    send->released++;
}

static void begin_send(void)
{
    struct sim_send *send = &s.sends[++s.sends_begun];
    const struct hf_rpc_bulk bulk = {
        .iov = &send->iov, .iov_count = chance(2) != 0, .release = send_released, .ctx = send};
    uint8_t msg[8] = {0};
    int err;

    memcpy(msg, &s.sends_begun, sizeof(s.sends_begun));
    send->iov = (struct iovec){megabyte, chance(4) ? chance(5000) : chance(HF_FRAME_BULK_MAX + 1)};
    err = hf_rpc_send(s.peer, 2, msg, sizeof(msg), &bulk, chance(1u << 20));
    assert_true(err == 0 || (send->released == 1 && (err == -ENOTCONN || err == -EAGAIN)));
    s.sends_taken += err == 0;
}

static void cancel_one(void)
{
    struct sim_call *c = &s.calls[chance(CALLS)];

    if (c->begun && !c->done) {
        hf_rpc_cancel(&c->call);
    }
}

static void fault(void)
{
    switch (chance(7)) {
    case 0:
        hf_sim_net_cut(s.sim, "10.0.0.1", "10.0.0.2");
        break;
    case 1:
        hf_sim_net_cut(s.sim, "10.0.0.2", "10.0.0.1");
        break;
    case 2:
    case 3:
        hf_sim_net_heal(s.sim);
        break;
    case 4:
        hf_sim_net_reset_all(s.sim);
        break;
    case 5:
        hf_rpc_server_free(s.server);
        s.server = NULL;
        hf_sim_run_ns(s.sim, chance(3 * HF_NS_PER_SEC));
        server_start();
        break;
    default:
        hf_rpc_peer_free(s.peer);
        s.peer = NULL;
        assert_int_equal(s.ended, s.begun);
        peer_start();
        break;
    }
}

static bool all_ended(void *ctx)
{
    (void)ctx;
    return s.ended == s.begun && s.answers == s.requests;
}

static void check_step(void *ctx)
{
    (void)ctx;
    if (s.peer) {
        hf_rpc_peer_check_invariants(s.peer);
    }
    if (s.server) {
        hf_rpc_server_check_invariants(s.server);
    }
}

static void world_start(uint64_t seed)
{
    memset(&s, 0, sizeof(s));
    s.sim = hf_sim_new(seed);
    assert_non_null(s.sim);
    s.client_env = hf_sim_env(s.sim);
    s.server_env = hf_sim_add_env(s.sim, "10.0.0.2");
    assert_int_equal(hf_bufpool_new(8u << 20, 3u << 20, &s.client_pool), 0);
    assert_int_equal(hf_bufpool_new(8u << 20, 5u << 20, &s.server_pool), 0);
    server_start();
    peer_start();
    hf_sim_on_step(s.sim, check_step, NULL);
}

static void world_end(void)
{
    hf_rpc_peer_free(s.peer);
    hf_rpc_server_free(s.server);
    s.peer = NULL;
    s.server = NULL;
    hf_sim_run_ns(s.sim, 10 * HF_NS_PER_SEC);
    for (uint32_t i = 1; i <= s.sends_begun; i++) {
        assert_int_equal(s.sends[i].released, 1);
    }
    hf_bufpool_free(s.client_pool); /* asserts that every buffer came back */
    hf_bufpool_free(s.server_pool);
    hf_sim_free(s.sim);
}

static void every_call_ends_once_and_in_time(void **state)
{
    uint32_t good = 0, came = 0, taken = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_start(seed);
        while (s.begun < CALLS) {
            begin_call();
            if (s.sends_begun < SENDS && chance(4)) {
                begin_send();
            }
            if (chance(4) == 0) {
                hf_sim_run_ns(s.sim, chance(20 * HF_NS_PER_MS));
            }
            if (chance(10) == 0) {
                cancel_one();
            }
            if (chance(60) == 0) {
                fault();
            }
        }
        if (!hf_sim_run_until(s.sim, all_ended, NULL, 60 * HF_NS_PER_SEC)) {
            fail_msg("seed %llu: %u of %u calls ended, %u of %u requests answered",
                     (unsigned long long)seed, s.ended, s.begun, s.answers, s.requests);
        }
        good += s.good;
        came += s.sends_came;
        taken += s.sends_taken;
        world_end();
    }
    assert_true(came > SEEDS * SENDS / 10 && came <= taken);
    assert_true(good > SEEDS * CALLS / 10); /* it is not all faults */
}

static void without_faults_every_call_succeeds(void **state)
{
    (void)state;
    world_start(7);
    while (s.begun < 100) {
        begin_call();
        s.calls[s.begun - 1].deadline_ns += HF_NS_PER_SEC;
        if (s.begun % 8 == 0) {
            assert_true(hf_sim_run_until(s.sim, all_ended, NULL, 60 * HF_NS_PER_SEC));
        }
    }
    assert_true(hf_sim_run_until(s.sim, all_ended, NULL, 60 * HF_NS_PER_SEC));
    for (uint32_t i = 0; i < s.begun; i++) { /* some had deadlines shorter than the answer took */
        assert_true(s.calls[i].err == 0 || s.calls[i].err == -ETIMEDOUT);
    }
    assert_true(s.good > 60);
    world_end();
}

static uint32_t closed_count;

static void note_closed(void *ctx, struct hf_rpc_conn *conn)
{
    (void)ctx;
    (void)conn;
    closed_count++;
}

static void without_faults_every_one_way_request_taken_arrives(void **state)
{
    (void)state;
    world_start(8);
    while (s.sends_begun < SENDS) {
        const uint32_t taken = s.sends_taken;

        begin_send();
        if (s.sends_taken == taken || chance(4) == 0) { /* refused: what waits goes first */
            hf_sim_run_ns(s.sim, chance(20 * HF_NS_PER_MS));
        }
    }
    hf_sim_run_ns(s.sim, 60 * HF_NS_PER_SEC);
    assert_int_equal(s.sends_came, s.sends_taken);
    assert_true(s.sends_taken > SENDS / 2);
    world_end();
}

static void a_server_forgets_machines_that_went_silent(void **state)
{
    const struct hf_rpc_service service = {.request = serve, .closed = note_closed};
    struct hf_rpc_server_options options = {.addr = SERVER_AT};

    (void)state;
    world_start(3);
    options.pool = s.server_pool;
    hf_rpc_server_free(s.server);
    assert_int_equal(hf_rpc_server_new(s.server_env, &options, &service, &s.server), 0);
    begin_call();
    s.calls[0].deadline_ns = UINT64_MAX / 2;
    assert_true(hf_sim_run_until(s.sim, all_ended, NULL, 60 * HF_NS_PER_SEC));
    assert_int_equal(closed_count, 0);
    hf_sim_run_ns(s.sim, 600 * HF_NS_PER_SEC); /* quiet, but there: it answers pings */
    assert_int_equal(closed_count, 0);
    hf_sim_net_cut(s.sim, "10.0.0.1", "10.0.0.2");
    hf_sim_run_ns(s.sim, 200 * HF_NS_PER_SEC);
    assert_int_equal(closed_count, 1);
    world_end();
}

/* It asks for more than the server wants to owe, and reads only when told to. */
struct slow_reader {
    struct hf_stream *stream;
    uint8_t out[2048];
    size_t out_len;
};

static void serve_bulk(void *ctx, struct hf_rpc_request *req)
{
    const struct iovec iov = {megabyte, sizeof(megabyte)};
    const struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1};

    (void)ctx;
    s.answers++;
    hf_rpc_reply(req, 0, NULL, 0, &bulk);
}

static void slow_put(struct slow_reader *r, struct hf_frame frame, const void *msg)
{
    uint8_t *at = r->out + r->out_len;

    hf_frame_encode(&frame, at);
    if (msg) {
        memcpy(at + HF_FRAME_HEADER_BYTES, msg, frame.msg_len);
    }
    hf_frame_seal(at, frame.msg_len);
    r->out_len += HF_FRAME_HEADER_BYTES + frame.msg_len;
}

static void slow_connected(void *ctx, int err)
{
    struct slow_reader *r = ctx;
    const struct iovec iov = {r->out, r->out_len};

    assert_int_equal(err, 0);
    assert_int_equal(hf_stream_writev(r->stream, &iov, 1), r->out_len);
}

static void slow_read(struct slow_reader *r)
{
    static uint8_t some[64u << 10];
    const struct iovec iov = {some, sizeof(some)};

    assert_true(hf_stream_readv(r->stream, &iov, 1) > 0);
}

static void a_server_drops_a_peer_that_takes_nothing_and_keeps_a_slow_one(void **state)
{
    static const struct hf_stream_events events = {.connected = slow_connected};
    const struct hf_rpc_service service = {.request = serve_bulk, .closed = note_closed};
    struct hf_rpc_server_options options = {.addr = SERVER_AT};
    struct slow_reader r = {0};
    uint8_t hello[HF_HELLO_BYTES];

    (void)state;
    world_start(4);
    closed_count = 0;
    options.pool = s.server_pool;
    hf_rpc_server_free(s.server);
    assert_int_equal(hf_rpc_server_new(s.server_env, &options, &service, &s.server), 0);
    hf_hello_encode(&(struct hf_rpc_identity){.name = "slow"}, hello);
    slow_put(&r, (struct hf_frame){.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES}, hello);
    for (uint64_t i = 0; i < 20; i++) {
        slow_put(&r, (struct hf_frame){.kind = HF_FRAME_REQUEST, .method = 1, .id = i}, NULL);
    }
    assert_int_equal(hf_net_connect(s.client_env, SERVER_AT, &events, &r, &r.stream), 0);
    for (uint32_t i = 0; i < 15; i++) {
        hf_sim_run_ns(s.sim, 20 * HF_NS_PER_SEC);
        slow_read(&r);
    }
    assert_in_range(s.answers, 4, 6);
    assert_int_equal(closed_count, 0);
    hf_sim_run_ns(s.sim, 80 * HF_NS_PER_SEC);
    assert_int_equal(closed_count, 0);
    hf_sim_run_ns(s.sim, 60 * HF_NS_PER_SEC);
    assert_int_equal(closed_count, 1);
    hf_stream_close(r.stream);
    world_end();
}

/* What calls_check_invariants() and its like are for. */

static void a_byte_too_many_is_found(void *ctx)
{
    call_state_of(ctx)->out->total_bytes++;
    hf_rpc_peer_check_invariants(s.peer);
}

static void a_deadline_out_of_order_is_found(void *ctx)
{
    call_state_of(ctx)->deadline_ns = UINT64_MAX;
    hf_rpc_peer_check_invariants(s.peer);
}

static void a_call_in_the_wrong_phase_is_found(void *ctx)
{
    call_state_of(ctx)->phase = CALL_SENT;
    hf_rpc_peer_check_invariants(s.peer);
}

static void a_call_of_another_slot_is_found(void *ctx)
{
    call_state_of(ctx)->id++;
    hf_rpc_peer_check_invariants(s.peer);
}

static void unbroken(void *ctx)
{
    (void)ctx;
    hf_rpc_peer_check_invariants(s.peer);
}

static void broken_invariants_are_found(void **state)
{
    struct hf_rpc_call *call = &s.calls[0].call;

    (void)state;
    world_start(5);
    begin_call(); /* they wait for the connection */
    begin_call();
    call = s.calls[0].deadline_ns < s.calls[1].deadline_ns ? call : &s.calls[1].call;
    assert_false(dies(unbroken, call));
    assert_true(dies(a_byte_too_many_is_found, call));
    assert_true(dies(a_deadline_out_of_order_is_found, call));
    assert_true(dies(a_call_in_the_wrong_phase_is_found, call));
    assert_true(dies(a_call_of_another_slot_is_found, call));
    world_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_invariants_are_found),
        cmocka_unit_test(without_faults_every_call_succeeds),
        cmocka_unit_test(without_faults_every_one_way_request_taken_arrives),
        cmocka_unit_test(every_call_ends_once_and_in_time),
        cmocka_unit_test(a_server_forgets_machines_that_went_silent),
        cmocka_unit_test(a_server_drops_a_peer_that_takes_nothing_and_keeps_a_slow_one),
    };

    for (size_t i = 0; i < sizeof(megabyte); i++) {
        megabyte[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    hf_log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
