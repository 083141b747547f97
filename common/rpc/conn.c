/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/rpc/out.h"
#include "common/rpc/transport.h"

#define READ_AHEAD_BYTES  (16u << 10) /* small: what of it turns out to be bulk is copied */
#define IN_BYTES_FIRST    (32u << 10)
#define IN_BYTES_MAX      (HF_FRAME_HEADER_BYTES + HF_RPC_MSG_MAX + READ_AHEAD_BYTES)
#define TURN_FRAMES_MAX   64u /* one connection's share of a turn of the loop */
#define TURN_BYTES_MAX    (4u << 20)
#define WRITE_BYTES       (1u << 20)
#define WRITE_PIECES      1024
#define CORK_BYTES        (256u << 10) /* frames gather up to here, within a turn */
#define POOL_RETRY_NS     (10 * HF_NS_PER_MS)
#define STALL_PONG_NS     (500 * HF_NS_PER_MS)
#define FRAME_TIMEOUT_DEF (10 * HF_NS_PER_SEC)
#define SILENCE_IDLES     3u

enum conn_state { CONN_OPENING, CONN_OPEN, CONN_LOST, CONN_CLOSED };

struct incoming { /* the frame at in_at */
    struct hf_frame frame;
    bool has_header; /* frame is valid */
    bool has_msg;    /* and its sum checked */
    struct hf_buf *bulk;
    size_t bulk_got;
    size_t next_at; /* in the buffer, where the frame after it begins; with has_msg */
};

struct hf_conn {
    struct hf_env *env;
    struct hf_transport *transport;
    struct hf_conn_events events;
    void *ctx;
    struct hf_bufpool *pool;
    enum conn_state state;
    bool accepted; /* the peer connected */
    uint32_t refs; /* the owner's, running functions', posted tasks' */

    uint8_t *in;
    size_t in_cap;
    size_t in_at;  /* parsed up to here */
    size_t in_len; /* filled up to here */
    struct incoming cur;
    bool ready;
    bool reading; /* inside read_turn() */
    bool paused;
    bool pool_wait;
    bool owes_much; /* by owed_max_bytes */
    uint64_t heard_ns;

    uint64_t frame_timeout_ns;
    uint64_t frame_count; /* whole frames so far */
    uint64_t begun_frame; /* frame_count when begun_ns was taken */
    uint64_t begun_ns;    /* when that frame was first seen incomplete */
    struct hf_timer frame_timer;
    struct hf_timer pool_timer;
    struct hf_timer stall_timer;
    uint64_t idle_ns;
    struct hf_timer idle_timer;

    struct hf_outq outq;
    size_t promised_bytes; /* of answers that are not in outq yet */
    size_t owed_max_bytes; /* of both; 0: no limit */
    uint64_t taken_ns;     /* when bytes were last sent */
    struct hf_out *pong;   /* queued: one is enough */
    bool flushing;
    bool want_write;
    bool corked; /* the first frame of a turn goes at once, what follows it goes together */

    struct hf_task resume_task;
    struct hf_task cork_task;
    struct hf_task lost_task;
    int lost_err;
    char name[64];
};

static void conn_ref(struct hf_conn *c)
{
    c->refs++;
}

static void conn_unref(struct hf_conn *c)
{
    HF_ASSERT(c->refs > 0);
    if (--c->refs == 0) {
        HF_ASSERT(c->state == CONN_CLOSED);
        free(c->in);
        free(c);
    }
}

static bool stalled(const struct hf_conn *c)
{
    return c->paused || c->pool_wait || c->owes_much;
}

static void update_want(struct hf_conn *c)
{
    if (c->state == CONN_OPEN) {
        c->transport->ops->want(c->transport, !stalled(c), c->want_write);
    }
}

static void post(struct hf_conn *c, struct hf_task *task)
{
    if (!task->queued) {
        conn_ref(c);
        hf_env_post(c->env, task);
    }
}

/* ------------------------------------------------------------------------------------- failing */

static void lost_run(struct hf_task *task)
{
    struct hf_conn *c = hf_container_of(task, struct hf_conn, lost_task);

    if (c->state == CONN_LOST) {
        c->events.lost(c->ctx, c->lost_err);
    }
    conn_unref(c);
}

void hf_conn_fail(struct hf_conn *c, int err, const char *why)
{
    if (c->state == CONN_LOST || c->state == CONN_CLOSED) {
        return;
    }
    if (err == -EBADMSG || err == -EPROTO || err == -HF_EWRONGCLUSTER) {
        hf_log(HF_LOG_WARN, "rpc", "connection closed", "peer=%s name=\"%s\" reason=\"%s\"",
               hf_conn_peer(c), c->name, why);
    } else if (c->state == CONN_OPEN) {
        /* Who came may go: every command does. */
        hf_log(c->accepted && err == -HF_EDISCONNECTED ? HF_LOG_DEBUG : HF_LOG_INFO, "rpc",
               "connection lost", "peer=%s name=\"%s\" reason=\"%s\" error=\"%s\"", hf_conn_peer(c),
               c->name, why, hf_err_name(err));
    } else {
        hf_log(HF_LOG_DEBUG, "rpc", "not connected", "peer=%s error=\"%s\"", hf_conn_peer(c),
               hf_err_name(err));
    }
    if (c->state == CONN_OPEN) {
        c->transport->ops->want(c->transport, false, false);
    }
    c->state = CONN_LOST;
    c->lost_err = err;
    post(c, &c->lost_task);
}

/* ----------------------------------------------------------------------- stopping, going on */

static void stall(struct hf_conn *c)
{
    update_want(c);
    if (!c->stall_timer.armed) {
        hf_timer_arm(&c->stall_timer, STALL_PONG_NS);
    }
}

/* Reading goes on after this side had stopped it: the peer is not to blame for the time. */
static void resume(struct hf_conn *c)
{
    c->begun_ns = c->heard_ns = hf_env_mono_ns(c->env);
    update_want(c);
    post(c, &c->resume_task);
}

static void stall_or_resume(struct hf_conn *c)
{
    if (c->state != CONN_OPEN) {
        return;
    }
    if (stalled(c)) {
        stall(c);
    } else {
        resume(c);
    }
}

static bool owes_too_much(const struct hf_conn *c)
{
    return c->owed_max_bytes && c->outq.bytes + c->promised_bytes > c->owed_max_bytes;
}

static void owed_changed(struct hf_conn *c)
{
    const bool much = owes_too_much(c);

    if (c->owes_much != much) {
        c->owes_much = much;
        stall_or_resume(c);
    }
}

/* ------------------------------------------------------------------------------------- writing */

static void flush(struct hf_conn *c)
{
    struct iovec iov[WRITE_PIECES];
    size_t left = TURN_BYTES_MAX;

    if (c->flushing || c->state != CONN_OPEN) {
        return;
    }
    conn_ref(c);
    c->flushing = true;
    while (c->state == CONN_OPEN && !hf_outq_empty(&c->outq) && left > 0) {
        size_t bytes;
        int count = hf_outq_gather(&c->outq, iov, WRITE_PIECES,
                                   left < WRITE_BYTES ? left : WRITE_BYTES, &bytes);
        ssize_t n = c->transport->ops->writev(c->transport, iov, count);

        if (n < 0) {
            if (n != -EAGAIN) {
                hf_conn_fail(c, (int)n, "write failed");
            }
            break;
        }
        c->taken_ns = hf_env_mono_ns(c->env);
        hf_outq_advance(&c->outq, (size_t)n);
        if ((size_t)n < bytes) {
            break;
        }
        left -= bytes < left ? bytes : left;
    }
    c->flushing = false;
    owed_changed(c);
    if (c->state == CONN_OPEN && c->want_write != !hf_outq_empty(&c->outq)) {
        c->want_write = !c->want_write;
        update_want(c);
    }
    conn_unref(c);
}

void hf_conn_send(struct hf_conn *c, struct hf_out *out)
{
    hf_frame_seal(out->iov[0].iov_base, out->msg_len);
    hf_outq_push(&c->outq, out);
    owed_changed(c);
    if (c->want_write) {
        return;
    }
    if (c->reading || c->corked) {
        if (c->outq.bytes > CORK_BYTES) {
            flush(c);
        }
        return;
    }
    flush(c);
    c->corked = true;
    post(c, &c->cork_task);
}

void hf_conn_flush(struct hf_conn *c)
{
    if (!hf_outq_empty(&c->outq) && !c->want_write) {
        flush(c);
    }
}

static void cork_run(struct hf_task *task)
{
    struct hf_conn *c = hf_container_of(task, struct hf_conn, cork_task);

    c->corked = false;
    hf_conn_flush(c);
    conn_unref(c);
}

void hf_conn_withdraw(struct hf_conn *c, struct hf_out *out)
{
    if (hf_outq_withdraw(&c->outq, out) != 0) {
        hf_conn_fail(c, -ENOMEM, "out of memory");
    }
    owed_changed(c);
}

void hf_conn_promise(struct hf_conn *c, size_t bytes)
{
    c->promised_bytes += bytes;
    owed_changed(c);
}

void hf_conn_promise_end(struct hf_conn *c, size_t bytes)
{
    HF_ASSERT(bytes <= c->promised_bytes);
    c->promised_bytes -= bytes;
    owed_changed(c);
}

static struct hf_out *control(enum hf_frame_kind kind, int err)
{
    const struct hf_frame frame = {
        .kind = kind, .flags = HF_FRAME_URGENT, .error = hf_err_to_wire(err)};

    return hf_out_new(&frame, NULL, NULL);
}

static void send_pong(struct hf_conn *c)
{
    struct hf_out *out = c->pong ? NULL : control(HF_FRAME_PONG, 0);

    if (out) { /* out of memory: as if it were lost; the next ping asks again */
        c->pong = out;
        hf_out_watch(out, &c->pong);
        hf_conn_send(c, out);
    }
}

void hf_conn_ping(struct hf_conn *c)
{
    struct hf_out *out = control(HF_FRAME_PING, 0);

    if (out) {
        hf_conn_send(c, out);
    }
}

void hf_conn_goodbye(struct hf_conn *c, int err, const char *why)
{
    struct hf_out *out = c->state == CONN_OPEN ? control(HF_FRAME_GOODBYE, err) : NULL;

    conn_ref(c);
    if (out) {
        hf_conn_send(c, out);
        flush(c);
    }
    hf_conn_fail(c, err, why);
    conn_unref(c);
}

static void conn_writable(void *ctx)
{
    flush((struct hf_conn *)ctx);
}

/* ------------------------------------------------------------------------------------- reading */

enum step { STEP_FRAME, STEP_NEED_BYTES, STEP_NEED_POOL, STEP_STOP };

static void bad_frame(struct hf_conn *c, const char *why)
{
    hf_conn_fail(c, -EBADMSG, why);
}

/* Header and message are whole: find where their bulk goes and take what of it is here. */
static enum step begin_bulk(struct hf_conn *c)
{
    struct incoming *cur = &c->cur;
    size_t have = c->in_len - cur->next_at;

    if (!c->pool || !c->ready) {
        bad_frame(c, "bulk where none belongs");
        return STEP_STOP;
    }
    cur->bulk = hf_buf_get(c->pool, cur->frame.bulk_len);
    if (!cur->bulk) {
        return STEP_NEED_POOL;
    }
    cur->bulk->len_bytes = cur->frame.bulk_len;
    if (have <= cur->frame.bulk_len) {
        memcpy(cur->bulk->data, c->in + cur->next_at, have);
        cur->bulk_got = have;
        c->in_len = cur->next_at; /* what comes after the bulk goes there */
    } else {
        memcpy(cur->bulk->data, c->in + cur->next_at, cur->frame.bulk_len);
        cur->bulk_got = cur->frame.bulk_len;
        cur->next_at += cur->frame.bulk_len;
    }
    return STEP_FRAME;
}

static bool bulk_sum_good(const struct incoming *cur)
{
    const struct iovec whole = {cur->bulk->data, cur->frame.bulk_len};

    return cur->frame.bulk_sum == 0 || hf_frame_bulk_sum(&whole, 1) == cur->frame.bulk_sum;
}

/* Is the frame at in_at whole? */
static enum step parse(struct hf_conn *c)
{
    struct incoming *cur = &c->cur;
    size_t have = c->in_len - c->in_at;
    const char *why;

    if (!cur->has_header) {
        if (have < HF_FRAME_HEADER_BYTES) {
            return STEP_NEED_BYTES;
        }
        if (hf_frame_decode(c->in + c->in_at, &cur->frame, &why) != 0) {
            bad_frame(c, why);
            return STEP_STOP;
        }
        cur->has_header = true;
    }
    if (!cur->has_msg) {
        if (have < HF_FRAME_HEADER_BYTES + cur->frame.msg_len) {
            return STEP_NEED_BYTES;
        }
        if (hf_frame_check(&cur->frame, c->in + c->in_at) != 0 &&
            !(HF_BUG(reply_sum_unchecked) && cur->frame.kind == HF_FRAME_REPLY)) {
            bad_frame(c, "bad checksum of a message");
            return STEP_STOP;
        }
        cur->has_msg = true;
        cur->next_at = c->in_at + HF_FRAME_HEADER_BYTES + cur->frame.msg_len;
    }
    if (cur->frame.bulk_len == 0) {
        return STEP_FRAME;
    }
    if (!cur->bulk) {
        enum step step = begin_bulk(c);

        if (step != STEP_FRAME) {
            return step;
        }
    }
    if (cur->bulk_got < cur->frame.bulk_len) {
        return STEP_NEED_BYTES;
    }
    if (!bulk_sum_good(cur)) {
        bad_frame(c, "bad checksum of bulk");
        return STEP_STOP;
    }
    return STEP_FRAME;
}

static int handle(struct hf_conn *c, const struct hf_frame *frame, const uint8_t *msg,
                  struct hf_buf *bulk, const char **ret_why)
{
    switch (frame->kind) {
    case HF_FRAME_REQUEST:
    case HF_FRAME_REPLY:
    case HF_FRAME_PING:
    case HF_FRAME_PONG:
        if (!c->ready) {
            *ret_why = "a frame before HELLO";
            return -EPROTO;
        }
        break;
    case HF_FRAME_HELLO:
    case HF_FRAME_GOODBYE:
        break;
    }
    if (frame->kind == HF_FRAME_PING) {
        send_pong(c);
        return 0;
    }
    return frame->kind == HF_FRAME_PONG ? 0 : c->events.frame(c->ctx, frame, msg, bulk, ret_why);
}

/* The frame at in_at is whole: hand it on. Nothing moves the buffer meanwhile. */
static void dispatch(struct hf_conn *c)
{
    const struct hf_frame frame = c->cur.frame;
    const uint8_t *msg = c->in + c->in_at + HF_FRAME_HEADER_BYTES;
    struct hf_buf *bulk = c->cur.bulk;
    const char *why = "refused";
    size_t next_at = c->cur.next_at;
    int err;

    c->cur = (struct incoming){0};
    c->frame_count++;
    err = handle(c, &frame, msg, bulk, &why);
    hf_buf_unref(bulk);
    c->in_at = next_at;
    if (err) {
        hf_conn_fail(c, err, why);
    }
}

/* Make room behind in_len for what the frame at in_at still needs of the buffer. */
static int make_room(struct hf_conn *c, size_t need)
{
    if (c->in_at == c->in_len) {
        c->in_at = c->in_len = 0;
    }
    if (c->in_cap - c->in_len >= need) {
        return 0;
    }
    if (c->in_at > 0) {
        memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
        c->cur.next_at -= c->cur.has_msg ? c->in_at : 0;
        c->in_len -= c->in_at;
        c->in_at = 0;
    }
    if (c->in_cap - c->in_len < need) {
        uint8_t *in = realloc(c->in, IN_BYTES_MAX);

        if (!in) {
            return -ENOMEM;
        }
        c->in = in;
        c->in_cap = IN_BYTES_MAX;
    }
    return 0;
}

/* Bytes still missing of header and message, as far as known. */
static size_t missing_bytes(const struct hf_conn *c)
{
    const struct incoming *cur = &c->cur;
    size_t whole = HF_FRAME_HEADER_BYTES + (cur->has_header ? cur->frame.msg_len : 0);

    return cur->has_msg ? 0 : whole - (c->in_len - c->in_at);
}

/* One read. @ret_more: the stream may have more. False: none came, or the connection failed. */
static bool fill(struct hf_conn *c, size_t *ret_bytes, bool *ret_more)
{
    struct incoming *cur = &c->cur;
    size_t need = missing_bytes(c), bulk_rest = 0, asked;
    struct iovec iov[2];
    int count = 0;
    ssize_t n;

    need = need > READ_AHEAD_BYTES ? need : READ_AHEAD_BYTES;
    if (make_room(c, need) != 0) {
        hf_conn_fail(c, -ENOMEM, "out of memory");
        return false;
    }
    if (cur->bulk) {
        bulk_rest = cur->frame.bulk_len - cur->bulk_got;
        iov[count++] = (struct iovec){cur->bulk->data + cur->bulk_got, bulk_rest};
    }
    iov[count++] = (struct iovec){c->in + c->in_len, need};
    asked = bulk_rest + need;
    n = c->transport->ops->readv(c->transport, iov, count);
    if (n == -EAGAIN) {
        return false;
    }
    if (n < 0) {
        hf_conn_fail(c, (int)n, "read failed");
        return false;
    }
    if (n == 0) {
        bool inside = c->in_len > c->in_at || cur->has_header;

        hf_conn_fail(c, inside ? -EBADMSG : -HF_EDISCONNECTED,
                     inside ? "ended inside a frame" : "closed by the peer");
        return false;
    }
    *ret_bytes = (size_t)n;
    *ret_more = (size_t)n == asked;
    if ((size_t)n <= bulk_rest) {
        cur->bulk_got += (size_t)n;
    } else {
        cur->bulk_got += bulk_rest;
        c->in_len += (size_t)n - bulk_rest;
    }
    return true;
}

static void watch_frame(struct hf_conn *c)
{
    bool partial = c->in_len > c->in_at || c->cur.has_header || !c->ready;

    if (c->state != CONN_OPEN || !partial || stalled(c)) {
        return;
    }
    if (c->begun_frame != c->frame_count) {
        c->begun_frame = c->frame_count;
        c->begun_ns = c->heard_ns;
    }
    if (!c->frame_timer.armed) {
        hf_timer_arm(&c->frame_timer, c->frame_timeout_ns);
    }
}

/* Hand on what is in the buffer. True: the stream has to be read for more. */
static bool parse_buffer(struct hf_conn *c, uint32_t *frames)
{
    while (c->state == CONN_OPEN && !stalled(c) && *frames < TURN_FRAMES_MAX) {
        switch (parse(c)) {
        case STEP_FRAME:
            dispatch(c);
            ++*frames;
            break;
        case STEP_NEED_BYTES:
            return true;
        case STEP_NEED_POOL:
            c->pool_wait = true;
            hf_timer_arm(&c->pool_timer, POOL_RETRY_NS);
            stall(c);
            return false;
        case STEP_STOP:
            return false;
        }
    }
    return false;
}

/* One connection's turn: parse, read, parse, ... within bounds. */
static void read_turn(struct hf_conn *c)
{
    uint32_t frames = 0;
    size_t total = 0;
    bool more = true;

    if (c->reading || c->state != CONN_OPEN) {
        return;
    }
    conn_ref(c);
    c->reading = true;
    while (parse_buffer(c, &frames) && more && total < TURN_BYTES_MAX) {
        size_t bytes;

        if (!fill(c, &bytes, &more)) {
            break;
        }
        if (total == 0) {
            c->heard_ns = hf_env_mono_ns(c->env);
        }
        total += bytes;
    }
    c->reading = false;
    if (frames == TURN_FRAMES_MAX && c->in_len > c->in_at && c->state == CONN_OPEN) {
        post(c, &c->resume_task);
    }
    watch_frame(c);
    hf_conn_flush(c);
    conn_unref(c);
}

static void resume_run(struct hf_task *task)
{
    struct hf_conn *c = hf_container_of(task, struct hf_conn, resume_task);

    read_turn(c);
    conn_unref(c);
}

static void conn_readable(void *ctx)
{
    read_turn((struct hf_conn *)ctx);
}

void hf_conn_pause(struct hf_conn *c, bool paused)
{
    if (c->paused == paused) {
        return;
    }
    c->paused = paused;
    stall_or_resume(c);
}

static void pool_expired(void *ctx)
{
    struct hf_conn *c = (struct hf_conn *)ctx;

    c->pool_wait = false;
    if (c->state == CONN_OPEN && !stalled(c)) {
        c->begun_ns = c->heard_ns = hf_env_mono_ns(c->env);
        update_want(c);
        read_turn(c);
    }
}

static void stall_expired(void *ctx)
{
    struct hf_conn *c = (struct hf_conn *)ctx;

    if (c->state == CONN_OPEN && stalled(c)) {
        hf_timer_arm(&c->stall_timer, STALL_PONG_NS);
        if (c->ready) {
            send_pong(c);
        }
    }
}

static void frame_expired(void *ctx)
{
    struct hf_conn *c = (struct hf_conn *)ctx;
    bool partial = c->in_len > c->in_at || c->cur.has_header || !c->ready;
    uint64_t now, end;

    if (c->state != CONN_OPEN || !partial || stalled(c)) {
        return;
    }
    if (c->begun_frame != c->frame_count) {
        watch_frame(c);
        return;
    }
    now = hf_env_mono_ns(c->env);
    end = c->begun_ns + c->frame_timeout_ns;
    if (now >= end) {
        bad_frame(c, c->ready ? "a frame took too long" : "no HELLO in time");
    } else {
        hf_timer_arm(&c->frame_timer, end - now);
    }
}

/* A machine that died says nothing, not even the end of its stream. */
static void idle_expired(void *ctx)
{
    struct hf_conn *c = (struct hf_conn *)ctx;
    uint64_t now = hf_env_mono_ns(c->env);
    uint64_t quiet = now - hf_conn_heard_ns(c);

    if (c->state != CONN_OPEN) {
        return;
    }
    if (quiet >= SILENCE_IDLES * c->idle_ns) {
        hf_conn_fail(c, -ETIMEDOUT, "no byte from the peer");
        return;
    }
    hf_timer_arm(&c->idle_timer, quiet < c->idle_ns ? c->idle_ns - quiet : c->idle_ns);
    if (quiet >= c->idle_ns && c->ready) {
        hf_conn_ping(c);
    }
}

/* ---------------------------------------------------------------------------------- life cycle */

static void conn_opened(struct hf_conn *c)
{
    c->state = CONN_OPEN;
    c->heard_ns = c->begun_ns = hf_env_mono_ns(c->env);
    watch_frame(c);
    if (c->idle_ns) {
        hf_timer_arm(&c->idle_timer, c->idle_ns);
    }
    update_want(c);
}

static void conn_connected(void *ctx, int err)
{
    struct hf_conn *c = (struct hf_conn *)ctx;

    if (c->state != CONN_OPENING) {
        return;
    }
    if (err) {
        hf_conn_fail(c, err, "cannot connect");
        return;
    }
    conn_ref(c);
    conn_opened(c);
    c->events.opened(c->ctx);
    flush(c);
    conn_unref(c);
}

static const struct hf_stream_events stream_events = {
    .connected = conn_connected,
    .readable = conn_readable,
    .writable = conn_writable,
};

static struct hf_conn *conn_new(const struct hf_conn_options *options,
                                const struct hf_conn_events *events, void *ctx)
{
    struct hf_conn *c = calloc(1, sizeof(*c));
    uint8_t *in = malloc(IN_BYTES_FIRST);

    if (!c || !in) {
        free(c);
        free(in);
        return NULL;
    }
    c->env = options->env;
    c->pool = options->pool;
    c->frame_timeout_ns = options->frame_timeout_ns ? options->frame_timeout_ns : FRAME_TIMEOUT_DEF;
    c->events = *events;
    c->ctx = ctx;
    c->state = CONN_OPENING;
    c->refs = 1;
    c->in = in;
    c->in_cap = IN_BYTES_FIRST;
    c->resume_task.fn = resume_run;
    c->cork_task.fn = cork_run;
    c->lost_task.fn = lost_run;
    hf_outq_init(&c->outq);
    hf_timer_init(&c->frame_timer, c->env, frame_expired, c);
    hf_timer_init(&c->pool_timer, c->env, pool_expired, c);
    hf_timer_init(&c->stall_timer, c->env, stall_expired, c);
    hf_timer_init(&c->idle_timer, c->env, idle_expired, c);
    c->idle_ns = options->idle_ns;
    c->owed_max_bytes = options->owed_max_bytes;
    return c;
}

int hf_conn_connect(const struct hf_conn_options *options, const char *addr,
                    const struct hf_conn_events *events, void *ctx, struct hf_conn **ret)
{
    struct hf_conn *c = conn_new(options, events, ctx);
    int err;

    if (!c) {
        return -ENOMEM;
    }
    err = hf_transport_plain_connect(c->env, addr, &stream_events, c, &c->transport);
    if (err) {
        hf_conn_close(c);
        return err;
    }
    *ret = c;
    return 0;
}

int hf_conn_accept(const struct hf_conn_options *options, struct hf_stream *stream,
                   const struct hf_conn_events *events, void *ctx, struct hf_conn **ret)
{
    struct hf_conn *c = conn_new(options, events, ctx);
    int err;

    if (!c) {
        hf_stream_close(stream);
        return -ENOMEM;
    }
    err = hf_transport_plain_accept(stream, &stream_events, c, &c->transport);
    if (err) {
        hf_conn_close(c);
        return err;
    }
    c->accepted = true;
    conn_opened(c);
    *ret = c;
    return 0;
}

void hf_conn_close(struct hf_conn *c)
{
    if (!c) {
        return;
    }
    HF_ASSERT(c->state != CONN_CLOSED);
    c->state = CONN_CLOSED;
    hf_timer_fini(&c->frame_timer);
    hf_timer_fini(&c->pool_timer);
    hf_timer_fini(&c->stall_timer);
    hf_timer_fini(&c->idle_timer);
    if (c->transport) {
        c->transport->ops->close(c->transport);
        c->transport = NULL;
    }
    hf_buf_unref(c->cur.bulk);
    c->cur = (struct incoming){0};
    hf_outq_fini(&c->outq);
    conn_unref(c);
}

void hf_conn_set_ready(struct hf_conn *c)
{
    c->ready = true;
}

bool hf_conn_is_open(const struct hf_conn *c)
{
    return c->state == CONN_OPEN;
}

const char *hf_conn_peer(const struct hf_conn *c)
{
    return c->transport ? c->transport->ops->peer(c->transport) : "";
}

void hf_conn_set_name(struct hf_conn *c, const char *name)
{
    (void)snprintf(c->name, sizeof(c->name), "%s", name);
}

uint64_t hf_conn_heard_ns(const struct hf_conn *c)
{
    if (!stalled(c)) {
        return c->heard_ns;
    }
    if (c->owes_much && c->want_write) { /* the peer is to blame: it does not read either */
        return c->taken_ns > c->heard_ns ? c->taken_ns : c->heard_ns;
    }
    return hf_env_mono_ns(c->env);
}

size_t hf_conn_queued_bytes(const struct hf_conn *c)
{
    return c->outq.bytes;
}

size_t hf_conn_urgent_bytes(const struct hf_conn *c)
{
    return c->outq.urgent_bytes;
}

bool hf_conn_is_paused(const struct hf_conn *c)
{
    return c->paused;
}

static void check_incoming(const struct hf_conn *c)
{
    const struct incoming *cur = &c->cur;

    HF_ASSERT(c->in_at <= c->in_len && c->in_len <= c->in_cap);
    HF_ASSERT(!cur->has_msg || (cur->has_header && cur->next_at <= c->in_len));
    HF_ASSERT(!cur->bulk || (cur->has_msg && cur->bulk->len_bytes == cur->frame.bulk_len));
    HF_ASSERT(!cur->bulk || cur->bulk_got <= cur->frame.bulk_len);
    /* What is in the buffer comes behind the bulk. */
    HF_ASSERT(!cur->bulk || cur->bulk_got == cur->frame.bulk_len || c->in_len == cur->next_at);
}

/* Whatever waits, something will go on with it. */
static void check_open(const struct hf_conn *c)
{
    const bool partial = c->in_len > c->in_at || c->cur.has_header || !c->ready;

    HF_ASSERT(c->want_write || c->corked || hf_outq_empty(&c->outq));
    HF_ASSERT(!c->pool_wait || c->pool_timer.armed);
    HF_ASSERT(c->owes_much == owes_too_much(c));
    HF_ASSERT(!stalled(c) || c->stall_timer.armed);
    HF_ASSERT(!partial || stalled(c) || c->frame_timer.armed || c->resume_task.queued);
    HF_ASSERT(!c->idle_ns || c->idle_timer.armed);
}

void hf_conn_check_invariants(const struct hf_conn *c)
{
    HF_ASSERT(c->state != CONN_CLOSED && !c->reading && !c->flushing);
    HF_ASSERT(c->refs == 1u + c->resume_task.queued + c->cork_task.queued + c->lost_task.queued);
    HF_ASSERT(c->corked == c->cork_task.queued);
    HF_ASSERT((c->state == CONN_LOST) == c->lost_task.queued);
    HF_ASSERT(!c->pong || c->pong->slot == &c->pong);
    hf_outq_check_invariants(&c->outq);
    check_incoming(c);
    if (c->state == CONN_OPEN) {
        check_open(c);
    }
}
