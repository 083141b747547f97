/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - the calls of a session: the numbered stream of mutations, and looks.
 */
#include "client/meta/session_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/wire/method.h"

#define CALL_TIMEOUT_NS (10 * HF_NS_PER_SEC)
#define WAIT_TIMEOUT_NS (30 * HF_NS_PER_SEC)
/* Looks in flight; below what a server takes unanswered from one connection. */
#define READS_MAX 96u
/* Waits for locks at the leader: who is not among them is woken late, and closes no ring. An answer
 * may take 20 s, so they must leave room for what is answered at once: an unlock, a renewal. */
#define WAITS_MAX 192u
static_assert(WAITS_MAX + 64 <= HF_RPC_REQUESTS_MAX, "waits do not stop the leader's reading");
/* Times the leader may refuse the stream as it stands before the session is given up. */
#define GAPS_MAX 300u

static struct session_call *impl_of(struct hf_meta_call *call)
{
    return (struct session_call *)(void *)call->impl;
}

static struct hf_meta_call *call_of(struct session_call *c)
{
    return hf_container_of((void *)c, struct hf_meta_call, impl);
}

void stream_init(struct hf_session *s)
{
    TAILQ_INIT(&s->ops);
    TAILQ_INIT(&s->reads);
    TAILQ_INIT(&s->reads_sent);
    TAILQ_INIT(&s->reads_back);
    TAILQ_INIT(&s->failed);
}

/* The call is on no list. Nothing of it is touched afterwards. */
static void finish(struct session_call *c, const struct hf_meta_reply *reply)
{
    struct hf_meta_call *call = call_of(c);

    free(c->bytes);
    c->bytes = NULL;
    call->done(call, reply);
}

static void finish_err(struct session_call *c, int err)
{
    struct hf_meta_reply reply = {.err = err};

    finish(c, &reply);
}

static int end_err(const struct hf_session *s, const struct session_call *c)
{
    if (s->freeing) {
        return -ECANCELED;
    }
    return c->kind == CALL_READ && s->lost_err == -ETIMEDOUT ? -ETIMEDOUT : -HF_EFENCED;
}

static void fail_later(struct hf_session *s, struct session_call *c, int err)
{
    c->err = err;
    TAILQ_INSERT_TAIL(&s->failed, c, link);
    session_post(s);
}

void stream_flush_failed(struct hf_session *s)
{
    struct session_call *c;

    while ((c = TAILQ_FIRST(&s->failed)) != NULL) {
        TAILQ_REMOVE(&s->failed, c, link);
        finish_err(c, c->err);
    }
}

/* Take a call that is back from rpc off its list. */
static void unlink_call(struct hf_session *s, struct session_call *c)
{
    if (c->kind == CALL_OP) {
        TAILQ_REMOVE(&s->ops, c, link);
    } else {
        TAILQ_REMOVE(&s->reads_sent, c, link);
    }
}

/* Not answered: stays in the stream, or goes back to the looks that wait, to be sent again. */
static void keep(struct hf_session *s, struct session_call *c)
{
    if (c->kind != CALL_OP) {
        TAILQ_REMOVE(&s->reads_sent, c, link);
        TAILQ_INSERT_TAIL(&s->reads_back, c, link);
    }
}

static bool refused(struct hf_session *s, const struct session_call *c, int err)
{
    switch (-err) {
    case HF_ENOTLEADER:
    case HF_ENOTREADY:
    case HF_EGAP:
        return true;
    case EIO: /* of the leader: never an outcome of applying, so it may have been applied or not */
    case ENOMEM:
    case EBADMSG:
    case EPROTO:
        return c->kind != CALL_READ;
    default:
        return false;
    }
}

static uint64_t refused_delay(struct hf_session *s, int err)
{
    s->refused += s->link == LINK_UP;
    if (err == -HF_ENOTLEADER) {
        return 0;
    }
    return s->refused < 3 ? 20 * HF_NS_PER_MS : 100 * HF_NS_PER_MS;
}

static void call_answered(struct hf_session *s, struct session_call *c, int err,
                          const struct hf_rpc_reply *rpc_reply)
{
    struct hf_meta_reply reply = {0};

    if (rpc_reply && rpc_reply->msg_len > 0 &&
        hf_meta_reply_decode(rpc_reply->msg, rpc_reply->msg_len, &reply) != 0) {
        hf_log(HF_LOG_WARN, "session", "malformed answer", "leader=%s", hf_session_leader(s));
        keep(s, c);
        session_link_lost(s, refused_delay(s, -EBADMSG));
        return;
    }
    reply.err = err;
    if (rpc_reply && rpc_reply->bulk) {
        reply.bulk = rpc_reply->bulk->data;
        reply.bulk_len = rpc_reply->bulk->len_bytes;
    }
    s->refused = 0;
    s->gaps = 0;
    unlink_call(s, c);
    if (err == -HF_EFENCED && c->kind != CALL_CLOSE) {
        session_lost(s, -HF_EFENCED);
    }
    session_learn(s, &reply);
    finish(c, &reply);
}

static void call_done(struct hf_rpc_call *rpc, int err, const struct hf_rpc_reply *reply)
{
    struct session_call *c = rpc->ctx;
    struct hf_session *s = c->session;

    c->sent = false;
    s->inflight--;
    if (c->kind != CALL_OP) {
        s->reads_out--;
        s->waits_out -= c->waits;
    }
    if (session_err_is_link(s, err)) {
        if (session_dead(s) || s->freeing) {
            unlink_call(s, c);
            finish_err(c, end_err(s, c));
        } else {
            keep(s, c);
            if (s->link == LINK_UP) { /* at once the first time; then it is the call's fault */
                session_peer_failed(s, err);
                session_link_lost(s, s->refused++ ? 100 * HF_NS_PER_MS : 0);
            }
        }
    } else if (session_dead(s) && refused(s, c, err)) {
        unlink_call(s, c);
        finish_err(c, end_err(s, c));
    } else if (refused(s, c, err)) {
        keep(s, c);
        session_link_lost(s, refused_delay(s, err));
        if (err != -HF_ENOTREADY && err != -HF_ENOTLEADER && ++s->gaps > GAPS_MAX) {
            hf_log(HF_LOG_ERROR, "session", "stream refused", "session=%llu err=\"%s\"",
                   (unsigned long long)s->id.v, hf_err_text(err));
            session_lost(s, -HF_EFENCED);
        }
    } else {
        call_answered(s, c, err, reply);
    }
    session_call_back(s);
}

static void send_call(struct hf_session *s, struct session_call *c)
{
    memset(&c->rpc, 0, sizeof(c->rpc));
    c->rpc.method = c->kind == CALL_READ ? HF_M_META_READ : HF_M_META_OP;
    c->rpc.msg = c->bytes;
    c->rpc.msg_len = c->msg_len;
    if (c->bulk.iov_len > 0) {
        c->rpc.bulk.iov = &c->bulk;
        c->rpc.bulk.iov_count = 1;
    }
    c->rpc.timeout_ns = c->waits ? WAIT_TIMEOUT_NS : CALL_TIMEOUT_NS;
    c->rpc.done = call_done;
    c->rpc.ctx = c;
    c->sent = true;
    s->inflight++;
    hf_rpc_call(s->peers[s->current].rpc, &c->rpc);
}

static void pump_reads(struct hf_session *s)
{
    struct session_call *c = TAILQ_FIRST(&s->reads);

    while (c && s->reads_out < READS_MAX + WAITS_MAX) {
        struct session_call *next = TAILQ_NEXT(c, link);

        if (c->unwanted) {
            TAILQ_REMOVE(&s->reads, c, link);
            fail_later(s, c, -EINTR);
        } else if (c->waits ? s->waits_out < WAITS_MAX : s->reads_out - s->waits_out < READS_MAX) {
            TAILQ_REMOVE(&s->reads, c, link);
            TAILQ_INSERT_TAIL(&s->reads_sent, c, link);
            s->reads_out++;
            s->waits_out += c->waits;
            send_call(s, c);
        }
        c = next;
    }
}

void stream_pump(struct hf_session *s)
{
    uint64_t acked = hf_session_acked(s);

    while (s->next_op && call_of(s->next_op)->stream <= acked + HF_STREAM_WINDOW) {
        struct session_call *c = s->next_op;

        s->next_op = TAILQ_NEXT(c, link);
        send_call(s, c);
    }
    pump_reads(s);
}

void stream_cancel(struct hf_session *s)
{
    struct session_call *c;

    TAILQ_FOREACH (c, &s->ops, link) {
        if (c->sent) {
            hf_rpc_cancel(&c->rpc);
        }
    }
    TAILQ_FOREACH (c, &s->reads_sent, link) {
        hf_rpc_cancel(&c->rpc);
    }
}

void stream_rewind(struct hf_session *s)
{
    HF_ASSERT(TAILQ_EMPTY(&s->reads_sent));
    TAILQ_CONCAT(&s->reads_back, &s->reads, link);
    TAILQ_CONCAT(&s->reads, &s->reads_back, link);
    s->next_op = TAILQ_FIRST(&s->ops);
}

void stream_fail_all(struct hf_session *s)
{
    struct session_call *c, *next;

    for (c = TAILQ_FIRST(&s->ops); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (!c->sent) {
            TAILQ_REMOVE(&s->ops, c, link);
            fail_later(s, c, end_err(s, c));
        }
    }
    s->next_op = NULL;
    TAILQ_CONCAT(&s->reads, &s->reads_back, link);
    while ((c = TAILQ_FIRST(&s->reads)) != NULL) {
        TAILQ_REMOVE(&s->reads, c, link);
        fail_later(s, c, end_err(s, c));
    }
}

static int keep_bytes(struct session_call *c, const uint8_t *msg, size_t msg_len, const void *bulk,
                      size_t bulk_len)
{
    c->bytes = malloc(msg_len + bulk_len + 1);
    if (!c->bytes) {
        return -ENOMEM;
    }
    memcpy(c->bytes, msg, msg_len);
    if (bulk_len) {
        memcpy(c->bytes + msg_len, bulk, bulk_len);
    }
    c->msg_len = msg_len;
    c->bulk = (struct iovec){.iov_base = c->bytes + msg_len, .iov_len = bulk_len};
    return 0;
}

void stream_submit(struct hf_session *s, const struct hf_meta_op *op, enum call_kind kind,
                   struct hf_meta_call *call)
{
    struct session_call *c = impl_of(call);
    struct hf_meta_op numbered = *op;
    size_t len;
    int err = 0;

    memset(c, 0, sizeof(*c));
    c->session = s;
    c->kind = kind;
    call->stream = 0;
    if (session_dead(s) || (s->close_sent && kind == CALL_OP)) {
        fail_later(s, c, -HF_EFENCED);
        return;
    }
    numbered.session = s->id;
    numbered.acked = hf_session_acked(s);
    numbered.stream = kind == CALL_OP ? s->last_stream + 1 : 0;
    if (!numbered.time_ns) {
        numbered.time_ns = hf_env_wall_ns(s->env);
    }
    if (op->bulk_len > HF_FRAME_BULK_MAX) {
        err = -EMSGSIZE;
    }
    err = err ? err : hf_meta_op_encode(&numbered, s->msg, &len);
    err = err ? err : keep_bytes(c, s->msg, len, op->bulk, op->bulk_len);
    if (err) {
        fail_later(s, c, err); /* takes no number: the stream has no gap */
        return;
    }
    if (kind == CALL_OP) {
        call->stream = ++s->last_stream;
        TAILQ_INSERT_TAIL(&s->ops, c, link);
        if (!s->next_op) {
            s->next_op = c;
        }
    } else {
        TAILQ_INSERT_TAIL(&s->reads, c, link);
    }
    if (s->link == LINK_UP) {
        stream_pump(s);
    }
}

void hf_session_op(struct hf_session *session, const struct hf_meta_op *op,
                   struct hf_meta_call *call)
{
    hf_assert_loop(session->env);
    HF_ASSERT(!session->options.read_only);
    stream_submit(session, op, CALL_OP, call);
}

void hf_session_read(struct hf_session *session, const struct hf_meta_read *rd,
                     struct hf_meta_call *call)
{
    struct hf_session *s = session;
    struct session_call *c = impl_of(call);
    struct hf_meta_read mine = *rd;
    size_t len;
    int err;

    hf_assert_loop(s->env);
    memset(c, 0, sizeof(*c));
    c->session = s;
    c->kind = CALL_READ;
    c->waits = rd->op == HF_RD_LOCK_WAIT && rd->lock_type != F_UNLCK;
    call->stream = 0;
    if (session_dead(s)) {
        fail_later(s, c, end_err(s, c));
        return;
    }
    mine.session = s->id;
    mine.acked = hf_session_acked(s);
    err = hf_meta_read_encode(&mine, s->msg, &len);
    err = err ? err : keep_bytes(c, s->msg, len, NULL, 0);
    if (err) {
        fail_later(s, c, err);
        return;
    }
    TAILQ_INSERT_TAIL(&s->reads, c, link);
    if (s->link == LINK_UP) {
        stream_pump(s);
    }
}

void hf_session_unwanted(struct hf_meta_call *call)
{
    impl_of(call)->unwanted = true;
}

uint64_t hf_session_acked(const struct hf_session *session)
{
    struct session_call *first = TAILQ_FIRST(&session->ops);

    return first ? call_of(first)->stream - (HF_BUG(acks_unanswered) ? 0 : 1)
                 : session->last_stream;
}

uint64_t hf_session_last_stream(const struct hf_session *session)
{
    return session->last_stream;
}

/* Numbers ascend; what is before next_op was sent, and nothing behind it. */
static uint32_t check_ops(const struct hf_session *s)
{
    struct session_call *c;
    uint64_t last = 0;
    uint32_t sent = 0;
    bool before = true;

    TAILQ_FOREACH (c, &s->ops, link) {
        const uint64_t stream = call_of(c)->stream;

        before = before && c != s->next_op;
        HF_ASSERT(c->kind == CALL_OP && c->bytes && stream > last && stream <= s->last_stream);
        HF_ASSERT(before ? c->sent || s->link == LINK_DRAINING : !c->sent);
        HF_ASSERT(!c->sent || stream <= hf_session_acked(s) + HF_STREAM_WINDOW);
        last = stream;
        sent += c->sent;
    }
    HF_ASSERT(!before || !s->next_op);
    return sent;
}

uint32_t stream_check(const struct hf_session *s)
{
    const struct session_call *c;
    uint32_t ops = check_ops(s), reads = 0, waits = 0;

    TAILQ_FOREACH (c, &s->reads_sent, link) {
        HF_ASSERT(c->sent && c->kind != CALL_OP);
        reads++;
        waits += c->waits;
    }
    HF_ASSERT(reads == s->reads_out && waits == s->waits_out);
    HF_ASSERT(waits <= WAITS_MAX && reads - waits <= READS_MAX);
    HF_ASSERT(TAILQ_EMPTY(&s->reads_back) || s->link == LINK_DRAINING);
    TAILQ_FOREACH (c, &s->reads, link) {
        HF_ASSERT(!c->sent && c->kind != CALL_OP);
    }
    HF_ASSERT(TAILQ_EMPTY(&s->failed) || s->task.queued);
    return ops + reads;
}
