/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side that asks: one peer, its connection, its calls.
 *
 *     IDLE --request---> CONNECTING --HELLO--> UP --lost--> BACKOFF --timer--> CONNECTING
 *                              \------------failed-----------^
 *
 * A call waits while there is no connection. An attempt that fails ends the calls that waited
 * before it began, so that callers turn to another replica soon; later ones see the next attempt.
 * One-way requests never wait and leave no trace here; their id is 0, which no call has.
 */
#include "common/rpc/rpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/rpc/calls.h"
#include "common/rpc/conn.h"

#define CONNECT_TIMEOUT_DEF (2 * HF_NS_PER_SEC)
#define BACKOFF_FIRST_NS    (20 * HF_NS_PER_MS)
#define BACKOFF_MAX_DEF     HF_NS_PER_SEC
#define IDLE_PING_DEF       HF_NS_PER_SEC
#define CALL_TIMEOUT_DEF    (30 * HF_NS_PER_SEC)
#define SILENCE_PINGS       3u

enum peer_state { PEER_IDLE, PEER_CONNECTING, PEER_UP, PEER_BACKOFF, PEER_FREED };

struct hf_rpc_peer {
    struct hf_env *env;
    struct hf_rpc_peer_options options; /* addr points to addr */
    char addr[HF_ADDR_BYTES_MAX + 16];
    enum peer_state state;
    uint32_t refs; /* the owner's, running functions', posted tasks' */
    struct hf_conn *conn;
    uint32_t attempts;
    uint64_t backoff_ns;
    bool refusal_logged;        /* since it was last connected */
    struct hf_session_id told;  /* the session of the last HELLO */
    struct hf_timer conn_timer; /* CONNECTING: its timeout; BACKOFF: its end */

    struct calls calls;       /* WAITING and SENT */
    struct call_list waiting; /* in order of coming: attempt ascends */
    struct call_list sent;
    struct call_list finished;
    size_t waiting_bytes;
    uint32_t sent_count;
    uint64_t busy_since_ns; /* sent_count > 0 since */
    struct hf_timer deadline_timer;
    uint64_t deadline_armed_ns; /* what it was armed for */
    struct hf_timer ping_timer;
    struct hf_task finish_task;
    struct hf_task connect_task;
};

static void begin_attempt(struct hf_rpc_peer *p);

static void peer_unref(struct hf_rpc_peer *p)
{
    HF_ASSERT(p->refs > 0);
    if (--p->refs == 0) {
        HF_ASSERT(p->state == PEER_FREED);
        calls_fini(&p->calls);
        free(p);
    }
}

static void post(struct hf_rpc_peer *p, struct hf_task *task)
{
    if (!task->queued) {
        p->refs++;
        hf_env_post(p->env, task);
    }
}

static void tell_state(struct hf_rpc_peer *p, bool connected, int err)
{
    if (p->options.state) {
        p->options.state(p->options.ctx, connected, err);
    }
}

/* ---------------------------------------------------------------------------------- ending calls
 */

/* Out of every table; its frame no longer borrows from the caller. */
static void call_detach(struct hf_rpc_peer *p, struct call_state *s)
{
    struct hf_out *out = s->out;

    HF_ASSERT(s->phase != CALL_FINISHED);
    calls_remove(&p->calls, s);
    if (s->phase == CALL_WAITING) {
        TAILQ_REMOVE(&p->waiting, s, link);
        if (out) {
            p->waiting_bytes -= hf_out_bytes(out);
            hf_out_free(out);
        }
    } else {
        TAILQ_REMOVE(&p->sent, s, link);
        p->sent_count--;
        if (out && p->conn) {
            hf_conn_withdraw(p->conn, out);
        }
    }
    s->out = NULL;
}

/* done() on a later turn of the loop. */
static void call_finish_later(struct hf_rpc_peer *p, struct call_state *s, int err)
{
    s->phase = CALL_FINISHED;
    s->err = err;
    TAILQ_INSERT_TAIL(&p->finished, s, link);
    post(p, &p->finish_task);
}

static void finish_all(struct hf_rpc_peer *p)
{
    static const struct hf_rpc_reply nothing;
    struct call_state *s;

    while ((s = TAILQ_FIRST(&p->finished)) != NULL) {
        TAILQ_REMOVE(&p->finished, s, link);
        call_of(s)->done(call_of(s), s->err, &nothing);
    }
}

static void finish_run(struct hf_task *task)
{
    struct hf_rpc_peer *p = hf_container_of(task, struct hf_rpc_peer, finish_task);

    finish_all(p);
    peer_unref(p);
}

/* Every call given to the connection, which is gone. */
static void fail_sent(struct hf_rpc_peer *p, int err)
{
    struct call_state *s;

    while ((s = TAILQ_FIRST(&p->sent)) != NULL) {
        call_detach(p, s);
        call_finish_later(p, s, err);
    }
}

static void deadline_arm(struct hf_rpc_peer *p)
{
    struct call_state *first = calls_first(&p->calls);
    uint64_t now;

    if (!first || (p->deadline_timer.armed && p->deadline_armed_ns <= first->deadline_ns)) {
        return;
    }
    now = hf_env_mono_ns(p->env);
    p->deadline_armed_ns = first->deadline_ns;
    hf_timer_arm(&p->deadline_timer, first->deadline_ns > now ? first->deadline_ns - now : 0);
}

static void deadline_expired(void *ctx)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;
    uint64_t now = hf_env_mono_ns(p->env);
    struct call_state *s;

    p->refs++;
    while ((s = calls_first(&p->calls)) != NULL && s->deadline_ns <= now) {
        call_detach(p, s);
        s->phase = CALL_FINISHED;
        s->err = -ETIMEDOUT;
        TAILQ_INSERT_TAIL(&p->finished, s, link);
    }
    deadline_arm(p);
    finish_all(p);
    peer_unref(p);
}

/* ----------------------------------------------------------------------------------- connection */

static void arm_backoff(struct hf_rpc_peer *p)
{
    uint64_t half = p->backoff_ns / 2;

    p->state = PEER_BACKOFF;
    hf_timer_arm(&p->conn_timer, half + hf_env_random_u64(p->env) % (half + 1));
    p->backoff_ns = 2 * p->backoff_ns < p->options.backoff_max_ns ? 2 * p->backoff_ns
                                                                  : p->options.backoff_max_ns;
}

static void drop_conn(struct hf_rpc_peer *p)
{
    struct hf_conn *conn = p->conn;

    p->conn = NULL;
    hf_conn_close(conn);
}

/* The attempt ended without a connection. */
static void attempt_failed(struct hf_rpc_peer *p, int err)
{
    struct call_state *s;

    drop_conn(p);
    if (!p->refusal_logged) {
        p->refusal_logged = true;
        hf_log(HF_LOG_INFO, "rpc", "cannot connect", "peer=%s error=\"%s\"", p->addr,
               hf_err_text(err));
    }
    while ((s = TAILQ_FIRST(&p->waiting)) != NULL && s->attempt < p->attempts) {
        call_detach(p, s);
        call_finish_later(p, s, err);
    }
    arm_backoff(p);
    tell_state(p, false, err);
}

static void conn_lost(void *ctx, int err)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;

    p->refs++;
    if (p->state == PEER_UP) {
        drop_conn(p);
        hf_timer_disarm(&p->ping_timer);
        fail_sent(p, -HF_EDISCONNECTED);
        p->backoff_ns = BACKOFF_FIRST_NS;
        arm_backoff(p);
        tell_state(p, false, err);
    } else {
        attempt_failed(p, err);
    }
    peer_unref(p);
}

static int send_hello(struct hf_rpc_peer *p)
{
    const struct hf_frame frame = {.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES};
    uint8_t hello[HF_HELLO_BYTES];
    struct hf_out *out;

    hf_hello_encode(&p->options.self, hello);
    out = hf_out_new(&frame, hello, NULL);
    if (!out) {
        return -ENOMEM;
    }
    p->told = p->options.self.session;
    hf_conn_send(p->conn, out);
    return 0;
}

static void conn_opened(void *ctx)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;

    if (send_hello(p) != 0) {
        hf_conn_fail(p->conn, -ENOMEM, "out of memory");
    }
}

static void call_send(struct hf_rpc_peer *p, struct call_state *s)
{
    struct hf_out *out = s->out;
    uint64_t now = hf_env_mono_ns(p->env);
    uint64_t left = s->deadline_ns > now ? s->deadline_ns - now : 1;
    uint64_t ms = (left + HF_NS_PER_MS - 1) / HF_NS_PER_MS;

    s->phase = CALL_SENT;
    TAILQ_INSERT_TAIL(&p->sent, s, link);
    if (p->sent_count++ == 0) {
        p->busy_since_ns = now;
    }
    if (!p->ping_timer.armed) {
        hf_timer_arm(&p->ping_timer, p->options.idle_ping_ns);
    }
    hf_out_set_timeout(out, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX);
    hf_out_watch(out, &s->out);
    hf_conn_send(p->conn, out); /* a release may do anything: nothing is touched afterwards */
}

static int on_hello(struct hf_rpc_peer *p, const struct hf_frame *frame, const uint8_t *msg,
                    const char **ret_why)
{
    struct hf_rpc_identity id;
    struct call_state *s;
    int err = hf_hello_decode(msg, frame->msg_len, &id);

    if (err) {
        *ret_why = "bad HELLO";
        return err;
    }
    if (p->state != PEER_CONNECTING) {
        *ret_why = "a second HELLO";
        return -EPROTO;
    }
    if (!hf_uuid_is_zero(&p->options.expect_cluster) &&
        !hf_uuid_equal(&p->options.expect_cluster, &id.cluster)) {
        *ret_why = "it belongs to another cluster";
        return -HF_EWRONGCLUSTER;
    }
    hf_timer_disarm(&p->conn_timer);
    hf_conn_set_name(p->conn, id.name);
    hf_conn_set_ready(p->conn);
    p->state = PEER_UP;
    p->backoff_ns = BACKOFF_FIRST_NS;
    p->refusal_logged = false;
    if (p->told.v != p->options.self.session.v && send_hello(p) != 0) {
        *ret_why = "out of memory";
        return -ENOMEM;
    }
    p->refs++;
    tell_state(p, true, 0);
    while (p->state == PEER_UP && (s = TAILQ_FIRST(&p->waiting)) != NULL) {
        TAILQ_REMOVE(&p->waiting, s, link);
        p->waiting_bytes -= hf_out_bytes(s->out);
        call_send(p, s);
    }
    peer_unref(p);
    return 0;
}

static int on_reply(struct hf_rpc_peer *p, const struct hf_frame *frame, const uint8_t *msg,
                    struct hf_buf *bulk)
{
    const struct hf_rpc_reply reply = {.msg = msg, .msg_len = frame->msg_len, .bulk = bulk};
    struct call_state *s = calls_find(&p->calls, frame->id);
    struct hf_rpc_call *call;

    if (!s || s->phase != CALL_SENT) {
        return 0; /* its deadline passed, it was cancelled, or nobody asked */
    }
    p->refs++;
    call_detach(p, s);
    peer_unref(p);
    call = call_of(s);
    call->done(call, hf_err_from_wire(frame->error), &reply);
    return 0;
}

static int conn_frame(void *ctx, const struct hf_frame *frame, const uint8_t *msg,
                      struct hf_buf *bulk, const char **ret_why)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;

    switch (frame->kind) {
    case HF_FRAME_HELLO:
        return on_hello(p, frame, msg, ret_why);
    case HF_FRAME_REPLY:
        return on_reply(p, frame, msg, bulk);
    case HF_FRAME_GOODBYE:
        *ret_why = "the peer said goodbye";
        return frame->error ? hf_err_from_wire(frame->error) : -HF_EDISCONNECTED;
    case HF_FRAME_REQUEST:
    case HF_FRAME_PING:
    case HF_FRAME_PONG:
        break;
    }
    *ret_why = "a frame that clients do not take";
    return -EPROTO;
}

static const struct hf_conn_events conn_events = {
    .opened = conn_opened,
    .frame = conn_frame,
    .lost = conn_lost,
};

static void begin_attempt(struct hf_rpc_peer *p)
{
    const struct hf_conn_options options = {.env = p->env, .pool = p->options.pool};
    int err;

    p->state = PEER_CONNECTING;
    p->attempts++;
    err = hf_conn_connect(&options, p->addr, &conn_events, p, &p->conn);
    if (err) {
        p->refs++;
        attempt_failed(p, err);
        peer_unref(p);
        return;
    }
    hf_timer_arm(&p->conn_timer, p->options.connect_timeout_ns);
}

static void conn_expired(void *ctx)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;

    if (p->state == PEER_CONNECTING) {
        p->refs++;
        attempt_failed(p, -ETIMEDOUT);
        peer_unref(p);
    } else if (p->state == PEER_BACKOFF) {
        begin_attempt(p);
    }
}

static void connect_run(struct hf_task *task)
{
    struct hf_rpc_peer *p = hf_container_of(task, struct hf_rpc_peer, connect_task);

    if (p->state == PEER_IDLE) {
        begin_attempt(p);
    }
    peer_unref(p);
}

/* A quiet connection with calls in flight: is anybody there? */
static void ping_expired(void *ctx)
{
    struct hf_rpc_peer *p = (struct hf_rpc_peer *)ctx;
    uint64_t since, quiet;

    if (p->state != PEER_UP || p->sent_count == 0) {
        return;
    }
    since = hf_conn_heard_ns(p->conn);
    since = since > p->busy_since_ns ? since : p->busy_since_ns;
    quiet = hf_env_mono_ns(p->env) - since;
    if (quiet >= SILENCE_PINGS * p->options.idle_ping_ns) {
        hf_conn_fail(p->conn, -ETIMEDOUT, "no byte from the peer");
        return;
    }
    hf_timer_arm(&p->ping_timer, p->options.idle_ping_ns);
    if (quiet >= p->options.idle_ping_ns) {
        hf_conn_ping(p->conn);
    }
}

/* --------------------------------------------------------------------------------------- public */

int hf_rpc_peer_new(struct hf_env *env, const struct hf_rpc_peer_options *options,
                    struct hf_rpc_peer **ret)
{
    struct hf_rpc_peer *p;
    size_t len = strlen(options->addr);

    /* What it says is the environment's matter, and an error of connecting. */
    if (len == 0 || len >= sizeof(p->addr) || !strchr(options->addr, ':')) {
        return -EINVAL;
    }
    p = calloc(1, sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    p->env = env;
    p->refs = 1;
    p->options = *options;
    memcpy(p->addr, options->addr, len + 1);
    p->options.addr = p->addr;
    if (!p->options.connect_timeout_ns) {
        p->options.connect_timeout_ns = CONNECT_TIMEOUT_DEF;
    }
    if (!p->options.backoff_max_ns) {
        p->options.backoff_max_ns = BACKOFF_MAX_DEF;
    }
    if (!p->options.idle_ping_ns) {
        p->options.idle_ping_ns = IDLE_PING_DEF;
    }
    p->backoff_ns = BACKOFF_FIRST_NS;
    calls_init(&p->calls);
    TAILQ_INIT(&p->waiting);
    TAILQ_INIT(&p->sent);
    TAILQ_INIT(&p->finished);
    p->finish_task.fn = finish_run;
    p->connect_task.fn = connect_run;
    hf_timer_init(&p->conn_timer, env, conn_expired, p);
    hf_timer_init(&p->deadline_timer, env, deadline_expired, p);
    hf_timer_init(&p->ping_timer, env, ping_expired, p);
    *ret = p;
    return 0;
}

void hf_rpc_peer_free(struct hf_rpc_peer *p)
{
    struct call_state *s;

    if (!p) {
        return;
    }
    hf_assert_loop(p->env);
    HF_ASSERT(p->state != PEER_FREED);
    p->state = PEER_FREED;
    hf_timer_fini(&p->conn_timer);
    hf_timer_fini(&p->deadline_timer);
    hf_timer_fini(&p->ping_timer);
    drop_conn(p);
    while ((s = calls_first(&p->calls)) != NULL) {
        call_detach(p, s);
        s->phase = CALL_FINISHED;
        s->err = -ECANCELED;
        TAILQ_INSERT_TAIL(&p->finished, s, link);
    }
    finish_all(p);
    peer_unref(p);
}

bool hf_rpc_peer_connected(const struct hf_rpc_peer *p)
{
    return p->state == PEER_UP;
}

const char *hf_rpc_peer_addr(const struct hf_rpc_peer *p)
{
    return p->addr;
}

void hf_rpc_peer_set_session(struct hf_rpc_peer *p, struct hf_session_id session)
{
    p->options.self.session = session;
    if (p->state == PEER_UP && p->told.v != session.v && send_hello(p) != 0) {
        hf_conn_fail(p->conn, -ENOMEM, "out of memory"); /* the next HELLO tells */
    }
}

size_t hf_rpc_peer_queued_bytes(const struct hf_rpc_peer *p)
{
    return p->waiting_bytes + (p->conn ? hf_conn_queued_bytes(p->conn) : 0);
}

uint32_t hf_rpc_peer_inflight(const struct hf_rpc_peer *p)
{
    return p->calls.count;
}

/* The call's frame, or an error. */
static int call_prepare(struct hf_rpc_peer *p, struct hf_rpc_call *call, struct call_state *s)
{
    struct hf_frame frame = {
        .kind = HF_FRAME_REQUEST,
        .method = call->method,
        .msg_len = (uint32_t)call->msg_len,
        .flags = call->urgent ? HF_FRAME_URGENT : 0,
    };
    int err;

    if (p->state == PEER_FREED) {
        return -ECANCELED;
    }
    err = calls_add(&p->calls, s);
    if (err) {
        return err;
    }
    frame.id = s->id;
    s->out = hf_out_new(&frame, call->msg, &call->bulk);
    if (!s->out) {
        calls_remove(&p->calls, s);
        return -ENOMEM;
    }
    return 0;
}

void hf_rpc_call(struct hf_rpc_peer *p, struct hf_rpc_call *call)
{
    struct call_state *s = call_state_of(call);
    uint64_t timeout = call->timeout_ns ? call->timeout_ns : CALL_TIMEOUT_DEF;
    int err;

    hf_assert_loop(p->env);
    HF_ASSERT(call->done && call->msg_len <= HF_RPC_MSG_MAX);
    *s = (struct call_state){.peer = p, .deadline_ns = hf_env_mono_ns(p->env) + timeout};
    if (s->deadline_ns < timeout) {
        s->deadline_ns = UINT64_MAX;
    }
    err = call_prepare(p, call, s);
    if (err) {
        call_finish_later(p, s, err);
        if (call->bulk.release) {
            call->bulk.release(call->bulk.ctx);
        }
        return;
    }
    deadline_arm(p);
    if (p->state == PEER_UP && hf_conn_is_open(p->conn) && TAILQ_EMPTY(&p->waiting)) {
        call_send(p, s);
        return;
    }
    s->phase = CALL_WAITING;
    s->attempt = p->attempts;
    TAILQ_INSERT_TAIL(&p->waiting, s, link);
    p->waiting_bytes += hf_out_bytes(s->out);
    if (p->state == PEER_IDLE) {
        post(p, &p->connect_task);
    }
}

void hf_rpc_cancel(struct hf_rpc_call *call)
{
    struct call_state *s = call_state_of(call);
    struct hf_rpc_peer *p = s->peer;

    if (s->phase == CALL_FINISHED) {
        return;
    }
    p->refs++;
    call_detach(p, s);
    call_finish_later(p, s, -ECANCELED);
    peer_unref(p);
}

int hf_rpc_send(struct hf_rpc_peer *p, uint16_t method, const void *msg, size_t msg_len,
                const struct hf_rpc_bulk *bulk, size_t queue_max)
{
    const struct hf_frame frame = {
        .kind = HF_FRAME_REQUEST,
        .method = method,
        .msg_len = (uint32_t)msg_len,
        .flags = HF_FRAME_URGENT | HF_FRAME_ONEWAY,
    };
    struct hf_out *out = NULL;
    int err = 0;

    hf_assert_loop(p->env);
    HF_ASSERT(msg_len <= HF_RPC_MSG_MAX);
    if (p->conn && hf_conn_urgent_bytes(p->conn) > queue_max) {
        hf_conn_flush(p->conn);
    }
    if (p->state != PEER_UP || !hf_conn_is_open(p->conn)) {
        err = -ENOTCONN;
        if (p->state == PEER_IDLE) {
            post(p, &p->connect_task);
        }
    } else if (hf_conn_urgent_bytes(p->conn) > queue_max) {
        err = -EAGAIN;
    } else {
        out = hf_out_new(&frame, msg, bulk);
        err = out ? 0 : -ENOMEM;
    }
    if (out) {
        hf_conn_send(p->conn, out);
    } else if (bulk && bulk->release) {
        bulk->release(bulk->ctx);
    }
    return err; /* a release may have done anything: the peer is not touched any more */
}

static void check_waiting(const struct hf_rpc_peer *p)
{
    const struct call_state *s;
    uint32_t count = 0, attempt = 0;
    size_t bytes = 0;

    TAILQ_FOREACH (s, &p->waiting, link) {
        HF_ASSERT(s->phase == CALL_WAITING && s->out);
        HF_ASSERT(s->attempt >= attempt && s->attempt <= p->attempts);
        attempt = s->attempt;
        bytes += hf_out_bytes(s->out);
        count++;
    }
    HF_ASSERT(bytes == p->waiting_bytes && count + p->sent_count == p->calls.count);
    HF_ASSERT(count == 0 || p->state != PEER_IDLE || p->connect_task.queued);
    HF_ASSERT(count == 0 || p->state != PEER_UP || !hf_conn_is_open(p->conn));
}

static void check_sent(const struct hf_rpc_peer *p)
{
    const struct call_state *s;
    uint32_t count = 0;

    TAILQ_FOREACH (s, &p->sent, link) {
        HF_ASSERT(s->phase == CALL_SENT && s->peer == p);
        count++;
    }
    HF_ASSERT(count == p->sent_count && (count == 0 || p->state == PEER_UP));
    HF_ASSERT(count == 0 || p->ping_timer.armed || !hf_conn_is_open(p->conn));
    TAILQ_FOREACH (s, &p->finished, link) {
        HF_ASSERT(s->phase == CALL_FINISHED && !s->out);
    }
    HF_ASSERT(TAILQ_EMPTY(&p->finished) || p->finish_task.queued);
}

void hf_rpc_peer_check_invariants(const struct hf_rpc_peer *p)
{
    const struct call_state *first = calls_first(&p->calls);

    HF_ASSERT(p->state != PEER_FREED);
    HF_ASSERT((p->conn != NULL) == (p->state == PEER_CONNECTING || p->state == PEER_UP));
    HF_ASSERT(p->conn_timer.armed == (p->state == PEER_CONNECTING || p->state == PEER_BACKOFF));
    HF_ASSERT(p->refs == 1u + p->finish_task.queued + p->connect_task.queued);
    calls_check_invariants(&p->calls);
    HF_ASSERT(!first || (p->deadline_timer.armed && p->deadline_armed_ns <= first->deadline_ns));
    check_waiting(p);
    check_sent(p);
    if (p->conn) {
        hf_conn_check_invariants(p->conn);
    }
}
