/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - the life of a session: the link to the leader, renewals, the map.
 */
#include "client/meta/session_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define PROBE_TIMEOUT_NS  (3 * HF_NS_PER_SEC)
#define RENEW_TIMEOUT_NS  (10 * HF_NS_PER_SEC) /* while the link is up: slow is not gone */
#define PING_NS           (400 * HF_NS_PER_MS) /* a leader that vanished is missed after three */
#define SILENT_NS         HF_NS_PER_SEC        /* until a leader is looked for there again */
#define SILENT_STORE_NS   (5 * HF_NS_PER_SEC)  /* until the map says that the node is DOWN */
#define CLOSE_WAIT_NS     (5 * HF_NS_PER_SEC)
#define BACKOFF_MIN_NS    (50 * HF_NS_PER_MS)
#define BACKOFF_MAX_NS    (500 * HF_NS_PER_MS)
#define NOT_READY_NS      (50 * HF_NS_PER_MS)
#define TICKS_PER_RENEWAL 4u

static void probe_send(struct hf_session *s);

bool session_dead(const struct hf_session *s)
{
    return s->state == SESSION_LOST || s->state == SESSION_CLOSED;
}

bool session_err_is_link(const struct hf_session *s, int err)
{
    switch (-err) {
    case HF_EDISCONNECTED:
    case HF_EWRONGCLUSTER:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case ECANCELED:
        return true;
    default:
        /* Nobody can have answered: an error of connecting. */
        return err != 0 && !s->freeing && !hf_rpc_peer_connected(s->peers[s->current].rpc);
    }
}

/* --- callbacks that wait for the task --- */

void session_post(struct hf_session *s)
{
    hf_env_post(s->env, &s->task);
}

static void note(struct hf_session *s, struct session_note *n, int err)
{
    if (n->done && !n->due) {
        n->due = true;
        n->err = err;
        session_post(s);
    }
}

static void session_task(struct hf_task *task)
{
    struct hf_session *s = hf_container_of(task, struct hf_session, task);
    struct session_note *notes[] = {&s->open_note, &s->close_note, &s->lost_note};

    if (s->freed) {
        free(s);
        return;
    }
    stream_flush_failed(s);
    for (size_t i = 0; i < HF_ARRAY_LEN(notes); i++) {
        if (notes[i]->due) {
            struct session_note n = *notes[i];

            memset(notes[i], 0, sizeof(*notes[i]));
            session_post(s); /* for the rest */
            n.done(n.ctx, n.err);
            return; /* the session may be gone */
        }
    }
}

/* --- ends --- */

static void stop_link(struct hf_session *s)
{
    s->link = LINK_DRAINING;
    hf_timer_disarm(&s->retry);
    hf_timer_disarm(&s->deadline);
    hf_timer_disarm(&s->tick);
    hf_timer_disarm(&s->wake);
    stream_cancel(s);
    if (s->probing) {
        hf_rpc_cancel(&s->probe);
    }
    if (s->map_inflight) {
        hf_rpc_cancel(&s->map_call);
    }
}

static void lost_event(void *ctx, int err)
{
    struct hf_session *s = ctx;

    if (s->options.events.lost) {
        s->options.events.lost(s->options.events.ctx, err);
    }
}

void session_lost(struct hf_session *s, int why)
{
    bool opening = s->state == SESSION_OPENING;

    if (session_dead(s) || s->freeing) {
        return;
    }
    s->lost_err = why;
    if (s->close_sent && why == -HF_EFENCED) { /* it was closed, the answer got lost */
        s->state = SESSION_CLOSED;
        note(s, &s->close_note, 0);
    } else {
        s->state = SESSION_LOST;
        hf_log(HF_LOG_WARN, "session", "lost", "session=%llu name=%s err=\"%s\"",
               (unsigned long long)s->id.v, s->name, hf_err_text(why));
        note(s, &s->open_note, why);
        note(s, &s->close_note, why);
        if (!opening) {
            s->lost_note.done = lost_event;
            s->lost_note.ctx = s;
            note(s, &s->lost_note, why);
        }
    }
    stop_link(s);
    stream_fail_all(s);
    ranges_fail(s, -HF_EFENCED);
}

/* --- the link --- */

static void set_deadline(struct hf_session *s)
{
    uint64_t now = hf_env_mono_ns(s->env), at = UINT64_MAX;

    if (s->state == SESSION_OPENING) {
        at = s->open_deadline_ns;
    } else if (s->link != LINK_UP) {
        at = s->down_since_ns + s->options.op_timeout_ns;
    }
    if (s->closing && s->close_deadline_ns < at) {
        at = s->close_deadline_ns;
    }
    if (at == UINT64_MAX) {
        hf_timer_disarm(&s->deadline);
    } else {
        hf_timer_arm(&s->deadline, at > now ? at - now : 0);
    }
}

static int open_error(const struct hf_session *s)
{
    for (uint32_t i = 0; i < s->peer_count; i++) {
        if (s->peers[i].last_err != -ECONNREFUSED) {
            return -ETIMEDOUT;
        }
    }
    return -ECONNREFUSED;
}

static void deadline_passed(void *ctx)
{
    struct hf_session *s = ctx;

    session_lost(s, s->state == SESSION_OPENING ? open_error(s) : -ETIMEDOUT);
}

static void probe_after(struct hf_session *s, uint64_t delay_ns)
{
    s->link = LINK_WAITING;
    hf_timer_arm(&s->retry, delay_ns);
}

static void retry_now(void *ctx)
{
    struct hf_session *s = ctx;

    s->link = LINK_PROBING;
    probe_send(s);
}

void session_peer_failed(struct hf_session *s, int err)
{
    if (err == -ETIMEDOUT) {
        s->peers[s->current].silent_ns = hf_env_mono_ns(s->env);
    }
}

static bool silent_since(const struct hf_session *s, uint32_t peer, uint64_t ago_ns)
{
    const uint64_t at = s->peers[peer].silent_ns;

    return at && hf_env_mono_ns(s->env) - at < ago_ns;
}

static bool is_silent(const struct hf_session *s, uint32_t peer)
{
    return silent_since(s, peer, SILENT_NS);
}

/* One that may answer; the next one where none does. False: a round is over. */
static bool turn_to_next(struct hf_session *s)
{
    bool more = true;

    for (uint32_t i = 0; i < s->peer_count; i++) {
        s->current = (s->current + 1) % s->peer_count;
        more = ++s->round < s->peer_count && more;
        if (!is_silent(s, s->current)) {
            break;
        }
    }
    return more;
}

static void drained(struct hf_session *s)
{
    uint64_t delay = s->backoff_ns;

    if (is_silent(s, s->current)) {
        (void)turn_to_next(s);
    }

    s->backoff_ns = 0;
    s->round = 0;
    s->hinted = false;
    stream_rewind(s);
    probe_after(s, delay);
}

void session_link_lost(struct hf_session *s, uint64_t delay_ns)
{
    if (s->link != LINK_UP || session_dead(s)) {
        return;
    }
    s->link = LINK_DRAINING;
    s->claim_cookie = 0; /* who leads next asks, and is told from the first */
    s->backoff_ns = delay_ns;
    s->down_since_ns = hf_env_mono_ns(s->env);
    hf_timer_disarm(&s->tick);
    set_deadline(s);
    stream_cancel(s);
    if (s->probing) {
        hf_rpc_cancel(&s->probe);
    }
    if (s->map_inflight) {
        hf_rpc_cancel(&s->map_call);
    }
}

void session_call_back(struct hf_session *s)
{
    if (s->freeing || session_dead(s)) {
        return;
    }
    if (s->link == LINK_DRAINING && s->inflight == 0) {
        drained(s);
    } else if (s->link == LINK_UP) {
        session_pump(s);
    }
}

static void link_up(struct hf_session *s)
{
    s->link = LINK_UP;
    s->peers[s->current].silent_ns = 0;
    s->backoff_ns = 0;
    for (uint32_t i = 0; i < s->peer_count; i++) {
        s->peers[i].tried = false;
    }
    set_deadline(s);
    hf_timer_arm(&s->tick, s->ttl_ns / 3 / TICKS_PER_RENEWAL);
}

static int add_peer(struct hf_session *s, const char *addr)
{
    struct hf_rpc_peer_options o = {
        .addr = addr,
        .self = {.cluster = s->options.cluster, .session = s->id},
        .expect_cluster = s->options.cluster,
        .pool = s->options.pool,
        .connect_timeout_ns = HF_NS_PER_SEC,
        .backoff_max_ns = 200 * HF_NS_PER_MS,
        .idle_ping_ns = PING_NS,
    };
    struct session_peer *p = &s->peers[s->peer_count];
    int err;

    if (strlen(addr) >= sizeof(p->addr)) {
        return -EINVAL;
    }
    memcpy(o.self.name, s->name, sizeof(o.self.name));
    memset(p, 0, sizeof(*p));
    err = hf_rpc_peer_new(s->env, &o, &p->rpc);
    if (!err) {
        (void)strcpy(p->addr, addr);
        s->peer_count++;
    }
    return err;
}

/* A follower named the leader: go there next, once a round (two may point at each other). */
static bool follow_hint(struct hf_session *s, const char *addr)
{
    uint32_t i = 0;

    if (!addr[0] || s->hinted) {
        return false;
    }
    while (i < s->peer_count && strcmp(s->peers[i].addr, addr) != 0) {
        i++;
    }
    if (i < s->peer_count && is_silent(s, i)) {
        return false; /* who named it has not noticed yet */
    }
    if (i == s->peer_count && (i == SESSION_PEERS_MAX || add_peer(s, addr) != 0)) {
        return false;
    }
    s->hinted = true;
    s->current = i;
    return true;
}

static void next_peer(struct hf_session *s)
{
    if (turn_to_next(s)) {
        probe_after(s, 0);
        return;
    }
    s->round = 0;
    s->hinted = false;
    s->backoff_ns = s->backoff_ns ? s->backoff_ns * 2 : BACKOFF_MIN_NS;
    s->backoff_ns = s->backoff_ns < BACKOFF_MAX_NS ? s->backoff_ns : BACKOFF_MAX_NS;
    probe_after(s, s->backoff_ns);
}

/* --- probes: open, renew, map --- */

static int encode_open(struct hf_session *s, size_t *ret_len)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN,
        .uuid = s->uuid,
        .text = s->name,
        .ttl_ns = s->options.ttl_ns,
        .time_ns = hf_env_wall_ns(s->env),
    };

    return hf_meta_op_encode(&op, s->msg, ret_len);
}

/* What is open may be more than one message takes: then all but the last part are full. */
static void encode_claims(struct hf_session *s, struct hf_meta_read *rd)
{
    const struct hf_session_events *events = &s->options.events;

    if (!s->claim_cookie) {
        s->claim_count = 0;
        return;
    }
    rd->flags = HF_RENEW_CLAIM;
    rd->cookie = s->claim_cookie;
    s->claim_cookie = 0;
    if (events->open_inodes) {
        rd->inos = s->claims;
        rd->ino_count =
            events->open_inodes(events->ctx, s->claim_count > 0, s->claims, s->options.claims_max);
        HF_ASSERT(rd->ino_count <= s->options.claims_max);
    }
    if (rd->ino_count == s->options.claims_max) {
        rd->flags |= HF_RENEW_MORE;
        s->claim_count += rd->ino_count;
    } else {
        s->claim_count = 0;
        rd->ino_count -= HF_BUG(claims_miss_one) && rd->ino_count > 2 ? 2 : 0;
    }
}

static int encode_renew(struct hf_session *s, size_t *ret_len)
{
    struct hf_meta_read rd = {
        .op = HF_RD_RENEW,
        .session = s->id,
        .acked = hf_session_acked(s),
        .floor = s->floor,
        .want_bytes = ranges_want(s),
    };

    encode_claims(s, &rd);
    s->asked = rd.want_bytes;
    s->spent_at_ask = s->spent;
    s->renew_again = false;
    s->renew_sent_boot_ns = hf_env_boot_ns(s->env);
    return hf_meta_read_encode(&rd, s->msg, ret_len);
}

static int encode_map(struct hf_session *s, size_t *ret_len)
{
    struct hf_meta_read rd = {.session = s->id, .if_version = s->has_map ? s->map.epoch.v : 0};

    return hf_meta_read_encode(&rd, s->msg, ret_len);
}

static void take_map(struct hf_session *s, const struct hf_rpc_reply *reply)
{
    struct hf_map map;
    int err = hf_msg_map_decode(reply->msg, reply->msg_len, &map);

    if (err) {
        hf_log(HF_LOG_WARN, "session", "map not taken", "leader=%s err=%s", hf_session_leader(s),
               hf_err_name(err));
        s->map_wanted = true; /* nobody else asks before there is a first one */
        session_link_lost(s, BACKOFF_MAX_NS);
        return;
    }
    if (s->has_map && map.epoch.v <= s->map.epoch.v) {
        hf_map_fini(&map);
        return;
    }
    if (s->has_map) {
        hf_map_fini(&s->map);
    }
    s->map = map;
    s->has_map = true;
    if (s->state == SESSION_OPENING) {
        s->state = SESSION_LIVE;
        set_deadline(s);
        note(s, &s->open_note, 0);
    } else if (s->options.events.map_changed) {
        s->options.events.map_changed(s->options.events.ctx);
    }
}

static void opened(struct hf_session *s, const struct hf_meta_reply *reply)
{
    s->id = reply->session;
    s->rights = (struct hf_session_rights){.read_only = reply->rights & HF_RIGHTS_READ_ONLY,
                                           .root_squash = reply->rights & HF_RIGHTS_ROOT_SQUASH,
                                           .anon_uid = reply->anon_uid,
                                           .anon_gid = reply->anon_gid};
    s->ttl_ns = reply->ttl_ns ? reply->ttl_ns : s->ttl_ns;
    s->last_stream = reply->last_stream;
    s->ino_next = reply->first_ino.v;
    s->ino_end = reply->first_ino.v + reply->ino_count;
    ranges_granted(s, reply->budget_bytes);
    s->map_wanted = true;
    s->renew_again = true; /* for the budget */
    for (uint32_t i = 0; i < s->peer_count; i++) {
        hf_rpc_peer_set_session(s->peers[i].rpc, s->id);
    }
    hf_log(HF_LOG_INFO, "session", "opened", "session=%llu name=%s leader=%s",
           (unsigned long long)s->id.v, s->name, s->peers[s->current].addr);
}

void session_learn(struct hf_session *s, const struct hf_meta_reply *reply)
{
    if (!session_dead(s) && s->has_map && reply->map_epoch > s->map.epoch.v) {
        s->map_wanted = true;
    }
}

static void probe_succeeded(struct hf_session *s, const struct hf_rpc_reply *rpc_reply)
{
    struct hf_meta_reply reply = {0};
    bool has_reply = rpc_reply && rpc_reply->msg_len > 0;
    int err = has_reply && !s->options.read_only
                  ? hf_meta_reply_decode(rpc_reply->msg, rpc_reply->msg_len, &reply)
                  : 0;

    s->peers[s->current].last_err = 0;
    if (!err && s->id.v && reply.next_cookie) {
        s->claim_cookie = reply.next_cookie;
        if (reply.count != s->claim_count) { /* it does not know of the parts before */
            s->claim_count = 0;
        }
        if (s->link == LINK_PROBING) {
            probe_after(s, 0);
        } else { /* it leads anew, and no connection broke */
            s->renew_again = true;
        }
        return;
    }
    if (s->link == LINK_PROBING) {
        link_up(s);
    }
    if (s->options.read_only) {
        if (has_reply) {
            take_map(s, rpc_reply);
        }
        return;
    }
    if (err || (!s->id.v && !reply.session.v)) {
        session_link_lost(s, BACKOFF_MAX_NS);
        return;
    }
    if (!s->id.v) {
        opened(s, &reply);
        link_up(s); /* with the ttl */
        return;
    }
    s->ttl_ns = reply.ttl_ns ? reply.ttl_ns : s->ttl_ns;
    ranges_granted(s, reply.budget_bytes);
    session_learn(s, &reply);
    ranges_renewed(s);
}

static void probe_refused(struct hf_session *s, int err, const struct hf_rpc_reply *rpc_reply)
{
    struct hf_meta_reply reply = {0};

    s->peers[s->current].last_err = err;
    s->peers[s->current].tried = true;
    session_peer_failed(s, err);
    if (err == -HF_EWRONGCLUSTER && s->state == SESSION_OPENING) {
        session_lost(s, err);
    } else if (err == -HF_ENOTREADY) {
        s->down_since_ns = hf_env_mono_ns(s->env); /* it lives */
        set_deadline(s);
        probe_after(s, NOT_READY_NS);
    } else if (err == -HF_ENOTLEADER) {
        if (rpc_reply && rpc_reply->msg_len > 0) {
            (void)hf_meta_reply_decode(rpc_reply->msg, rpc_reply->msg_len, &reply);
        }
        if (follow_hint(s, reply.leader)) {
            probe_after(s, 0);
        } else {
            next_peer(s);
        }
    } else {
        next_peer(s);
    }
}

static void probe_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct hf_session *s = call->ctx;

    s->probing = false;
    s->inflight--;
    if (s->freeing || session_dead(s)) {
        return;
    }
    if (err == -HF_ENOTMODIFIED && s->options.read_only) {
        err = 0;
        reply = NULL;
    }
    if (err == -HF_EFENCED) {
        session_lost(s, err);
    } else if (s->link != LINK_DRAINING && !err) {
        probe_succeeded(s, reply);
    } else if (s->link == LINK_PROBING) {
        probe_refused(s, err, reply);
    } else if (s->link == LINK_UP) {
        session_peer_failed(s, err);
        session_link_lost(s, session_err_is_link(s, err) ? 0 : NOT_READY_NS);
    }
    session_call_back(s);
}

static void probe_send(struct hf_session *s)
{
    size_t len = 0;
    int err;

    HF_ASSERT(!s->probing);
    memset(&s->probe, 0, sizeof(s->probe));
    if (s->options.read_only) {
        s->probe.method = HF_M_MAP;
        err = encode_map(s, &len);
    } else if (!s->id.v) {
        s->probe.method = HF_M_META_OP;
        err = encode_open(s, &len);
    } else {
        s->probe.method = HF_M_META_READ;
        err = encode_renew(s, &len);
    }
    HF_ASSERT(err == 0);
    s->probe.msg = s->msg;
    s->probe.msg_len = len;
    s->probe.timeout_ns = s->link == LINK_UP ? RENEW_TIMEOUT_NS : PROBE_TIMEOUT_NS;
    s->probe.urgent = true;
    s->probe.done = probe_done;
    s->probe.ctx = s;
    s->probing = true;
    s->inflight++;
    hf_rpc_call(s->peers[s->current].rpc, &s->probe);
}

void session_renew_soon(struct hf_session *s)
{
    s->renew_again = true;
    if (s->link == LINK_UP) {
        session_pump(s);
    }
}

static void tick(void *ctx)
{
    struct hf_session *s = ctx;
    uint64_t since = hf_env_boot_ns(s->env) - s->renew_sent_boot_ns;

    hf_timer_arm(&s->tick, s->ttl_ns / 3 / TICKS_PER_RENEWAL);
    if (!s->options.read_only && since + s->ttl_ns / 3 / TICKS_PER_RENEWAL > s->ttl_ns / 3) {
        session_renew_soon(s);
    }
}

/* --- the map --- */

static void map_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct hf_session *s = call->ctx;

    s->map_inflight = false;
    s->inflight--;
    if (s->freeing || session_dead(s)) {
        return;
    }
    if (!err && reply) {
        take_map(s, reply);
    } else if (err == -HF_ENOTMODIFIED) {
        (void)err; /* asked too early: whoever needs a newer one asks again */
    } else {
        s->map_wanted = true;
        session_link_lost(s, session_err_is_link(s, err) ? 0 : NOT_READY_NS);
    }
    session_call_back(s);
}

static void map_send(struct hf_session *s)
{
    size_t len = 0;
    int err = encode_map(s, &len);

    HF_ASSERT(err == 0);
    memset(&s->map_call, 0, sizeof(s->map_call));
    s->map_call.method = HF_M_MAP;
    s->map_call.msg = s->msg;
    s->map_call.msg_len = len;
    s->map_call.timeout_ns = PROBE_TIMEOUT_NS;
    s->map_call.urgent = true;
    s->map_call.done = map_done;
    s->map_call.ctx = s;
    s->map_wanted = false;
    s->map_inflight = true;
    s->inflight++;
    hf_rpc_call(s->peers[s->current].rpc, &s->map_call);
}

void hf_session_refresh_map(struct hf_session *session)
{
    struct hf_session *s = session;

    if (session_dead(s) || s->map_inflight) {
        return;
    }
    s->map_wanted = true;
    if (s->link == LINK_UP) {
        session_pump(s);
    }
}

/* --- close --- */

static void close_answered(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_session *s = call->ctx;

    if (s->freeing || session_dead(s)) {
        return;
    }
    s->state = SESSION_CLOSED;
    note(s, &s->close_note, reply->err == -HF_EFENCED ? 0 : reply->err);
    stop_link(s);
    stream_fail_all(s);
    ranges_fail(s, -HF_EFENCED);
}

static void close_send(struct hf_session *s)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_CLOSE};

    s->close_sent = true;
    s->close_call.done = close_answered;
    s->close_call.ctx = s;
    stream_submit(s, &op, CALL_CLOSE, &s->close_call);
}

void hf_session_close(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    struct hf_session *s = session;
    uint64_t wait_ns = s->options.op_timeout_ns;

    hf_assert_loop(s->env);
    HF_ASSERT(!s->closing);
    s->closing = true;
    s->close_note = (struct session_note){.done = done, .ctx = ctx};
    if (s->state == SESSION_LOST) {
        note(s, &s->close_note, s->lost_err);
        return;
    }
    if (s->state == SESSION_NEW || s->options.read_only) {
        s->state = SESSION_CLOSED;
        note(s, &s->close_note, 0);
        stop_link(s);
        stream_fail_all(s);
        return;
    }
    if (TAILQ_EMPTY(&s->ops) && wait_ns > CLOSE_WAIT_NS) {
        wait_ns = CLOSE_WAIT_NS; /* nothing but locks and leases would end sooner */
    }
    s->close_deadline_ns = hf_env_mono_ns(s->env) + wait_ns;
    set_deadline(s);
    if (s->link == LINK_UP) {
        session_pump(s);
    }
}

void session_pump(struct hf_session *s)
{
    if (s->link != LINK_UP || session_dead(s)) {
        return;
    }
    if (s->map_wanted && !s->map_inflight && !(s->options.read_only && s->probing)) {
        map_send(s);
    }
    if (s->renew_again && !s->probing && !s->options.read_only && s->id.v) {
        probe_send(s);
    }
    if (s->closing && !s->close_sent && s->state == SESSION_LIVE && TAILQ_EMPTY(&s->ops)) {
        close_send(s);
    }
    stream_pump(s);
}

/* --- lifecycle --- */

static int set_options(struct hf_session *s, const struct hf_session_options *o)
{
    s->options = *o;
    s->options.addrs = NULL; /* the peers hold copies */
    s->options.name = s->name;
    s->options.op_timeout_ns = o->op_timeout_ns ? o->op_timeout_ns : HF_OP_TIMEOUT_NS;
    s->options.open_timeout_ns = o->open_timeout_ns ? o->open_timeout_ns : 10 * HF_NS_PER_SEC;
    s->ttl_ns = o->ttl_ns ? o->ttl_ns : 30 * HF_NS_PER_SEC; /* until the leader tells */
    (void)snprintf(s->name, sizeof(s->name), "%s", o->name ? o->name : "");
    s->options.claims_max = o->claims_max ? o->claims_max : HF_RENEW_CLAIMS_MAX;
    HF_ASSERT(s->options.claims_max % 2 == 0 && s->options.claims_max <= HF_RENEW_CLAIMS_MAX);
    s->claims = calloc(s->options.claims_max, sizeof(s->claims[0]));
    if (!s->claims) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < o->addr_count; i++) {
        int err = add_peer(s, o->addrs[i]);

        if (err) {
            return err;
        }
    }
    return 0;
}

int hf_session_new(struct hf_env *env, const struct hf_session_options *options,
                   struct hf_session **ret)
{
    struct hf_session *s;
    int err;

    if (options->addr_count == 0 || options->addr_count > SESSION_PEERS_MAX) {
        return -EINVAL;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->env = env;
    s->task.fn = session_task;
    stream_init(s);
    ranges_init(s);
    hf_timer_init(&s->retry, env, retry_now, s);
    hf_timer_init(&s->deadline, env, deadline_passed, s);
    hf_timer_init(&s->tick, env, tick, s);
    hf_env_random(env, &s->uuid, sizeof(s->uuid));
    err = set_options(s, options);
    if (err) {
        hf_session_free(s);
        return err;
    }
    *ret = s;
    return 0;
}

void hf_session_open(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    struct hf_session *s = session;

    hf_assert_loop(s->env);
    HF_ASSERT(s->state == SESSION_NEW);
    s->state = SESSION_OPENING;
    s->open_note = (struct session_note){.done = done, .ctx = ctx};
    s->down_since_ns = hf_env_mono_ns(s->env);
    s->open_deadline_ns = s->down_since_ns + s->options.open_timeout_ns;
    set_deadline(s);
    probe_after(s, 0);
}

void hf_session_free(struct hf_session *session)
{
    struct hf_session *s = session;

    if (!s) {
        return;
    }
    s->freeing = true;
    s->state = SESSION_CLOSED;
    for (uint32_t i = 0; i < s->peer_count; i++) {
        struct hf_rpc_peer *peer = s->peers[i].rpc;

        s->peers[i].rpc = NULL;
        hf_rpc_peer_free(peer); /* calls come back here */
    }
    stream_fail_all(s);
    stream_flush_failed(s);
    ranges_fail(s, -ECANCELED);
    stream_flush_failed(s); /* what those callbacks submitted */
    hf_timer_fini(&s->retry);
    hf_timer_fini(&s->deadline);
    hf_timer_fini(&s->tick);
    hf_timer_fini(&s->wake);
    if (s->has_map) {
        hf_map_fini(&s->map);
    }
    free(s->claims);
    s->freed = true;
    if (!s->task.queued) {
        free(s);
    }
}

const char *hf_session_tried(struct hf_session *session)
{
    size_t at = 0;

    session->tried[0] = '\0';
    for (uint32_t i = 0; i < session->peer_count && at < sizeof(session->tried); i++) {
        const struct session_peer *p = &session->peers[i];
        int n =
            snprintf(session->tried + at, sizeof(session->tried) - at, "%s%s (%s)", i ? ", " : "",
                     p->addr, p->last_err ? hf_err_text(p->last_err) : "no answer");

        at += n > 0 ? (size_t)n : 0;
    }
    return session->tried;
}

bool hf_session_live(const struct hf_session *session)
{
    return session->state == SESSION_LIVE;
}

struct hf_session_id hf_session_id(const struct hf_session *session)
{
    return session->id;
}

struct hf_session_rights hf_session_rights(const struct hf_session *session)
{
    return session->rights;
}

const struct hf_map *hf_session_map(const struct hf_session *session)
{
    return &session->map;
}

bool hf_session_silent(const struct hf_session *session, const char *addr)
{
    for (uint32_t i = 0; i < session->peer_count; i++) {
        if (silent_since(session, i, SILENT_STORE_NS) &&
            strcmp(session->peers[i].addr, addr) == 0) {
            return true;
        }
    }
    return false;
}

const char *hf_session_leader(const struct hf_session *session)
{
    return session->link == LINK_UP ? session->peers[session->current].addr : "";
}
