/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/sessions.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"
#include "server/meta/session.h"
#include "server/meta/state.h"

#define TICK_NS_MAX  HF_NS_PER_SEC
#define SESSION_PAGE 64u

struct hf_lsession *hf_sessions_find(struct hf_leader *leader, struct hf_session_id id)
{
    struct hf_hmap_node *node = hf_hmap_first(&leader->sessions.by_id, hf_hash_u64(id.v));

    for (; node; node = hf_hmap_same(node)) {
        struct hf_lsession *session = hf_container_of(node, struct hf_lsession, node);

        if (session->opens.id.v == id.v) {
            return session;
        }
    }
    return NULL;
}

static uint64_t last_stream(struct hf_leader *leader, struct hf_session_id id)
{
    struct hf_meta_read rd = {.op = HF_RD_STREAM, .session = id};
    struct hf_meta_reply reply = {0};

    hf_meta_read(leader->meta, &rd, &reply, NULL, 0);
    return reply.err ? 0 : reply.last_stream;
}

struct hf_lsession *hf_sessions_opened(struct hf_leader *leader, struct hf_session_id id,
                                       uint64_t ttl_ns)
{
    struct hf_sessions *sessions = &leader->sessions;
    struct hf_lsession *session = hf_sessions_find(leader, id);

    if (!session) {
        session = calloc(1, sizeof(*session));
        if (!session) {
            return NULL;
        }
        session->opens.id = id;
        session->ttl_ns = ttl_ns ? ttl_ns : leader->session_ttl_ns;
        session->queued_stream = last_stream(leader, id);
        session->next = sessions->head;
        if (session->next) {
            session->next->prev = session;
        }
        sessions->head = session;
        sessions->count++;
        sessions->unclaimed++;
        if (id.v > sessions->id_max) {
            sessions->id_max = id.v;
        }
        hf_hmap_add(&sessions->by_id, &session->node, hf_hash_u64(id.v));
    }
    hf_sessions_heard(leader, session);
    return session;
}

void hf_sessions_heard(struct hf_leader *leader, struct hf_lsession *session)
{
    session->heard_ns = hf_env_boot_ns(leader->env);
}

void hf_sessions_claimed(struct hf_leader *leader, struct hf_lsession *session)
{
    if (!session->claimed) {
        session->claimed = true;
        leader->sessions.unclaimed--;
    }
}

static void forget(struct hf_leader *leader, struct hf_lsession *session)
{
    struct hf_sessions *sessions = &leader->sessions;

    if (session->prev) {
        session->prev->next = session->next;
    } else {
        sessions->head = session->next;
    }
    if (session->next) {
        session->next->prev = session->prev;
    }
    sessions->count--;
    sessions->unclaimed -= session->claimed ? 0 : 1;
    hf_hmap_del(&sessions->by_id, &session->node);
    free(session);
}

void hf_sessions_closed(struct hf_leader *leader, struct hf_session_id id)
{
    struct hf_lsession *session = hf_sessions_find(leader, id);
    struct hf_lop_list queue;

    if (!session) {
        return;
    }
    queue = (struct hf_lop_list){session->queue_head, session->queue_tail};
    session->queue_head = session->queue_tail = NULL;
    for (struct hf_lop *lop = queue.head; lop; lop = lop->next) {
        leader->queued_ops--;
    }
    leader->sessions.ended++;
    hf_opens_drop(&leader->opens, &session->opens);
    forget(leader, session);
    hf_leader_refuse_list(leader, &queue, -HF_EFENCED);
    hf_waiters_session_ended(leader, id);
    hf_purger_kick(leader);
    hf_reaper_kick(leader);
}

/* Eviction */

static void evict_done(void *ctx, const struct hf_meta_reply *reply)
{
    (void)ctx; /* applied: hf_sessions_closed() ran; failed: the leader is no more */
    (void)reply;
}

static void evict(struct hf_leader *leader, struct hf_lsession *session, uint64_t silent_ns)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_EVICT, .session = session->opens.id};

    hf_log(HF_LOG_WARN, "meta", "session evicted",
           "session=%llx silent_s=%llu ttl_s=%llu open_files=%u what=\"its locks and open files "
           "are given up; what it had not committed goes to its salvage file\"",
           (unsigned long long)session->opens.id.v, (unsigned long long)(silent_ns / HF_NS_PER_SEC),
           (unsigned long long)(session->ttl_ns / HF_NS_PER_SEC), session->opens.count);
    session->evicting = true;
    hf_leader_propose(leader, &op, evict_done, leader);
}

static void tick(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_sessions *sessions = &leader->sessions;
    uint64_t now_ns = hf_env_boot_ns(leader->env);
    /* While this loop did not run, or this machine slept, nobody could be heard. */
    uint64_t stall_ns = hf_leader_stall_ns(now_ns, sessions->last_tick_ns, sessions->tick_ns);

    if (hf_leader_broke(leader)) {
        return; /* by what works in the background, or tells of the sessions */
    }
    sessions->last_tick_ns = now_ns;
    for (struct hf_lsession *s = sessions->head; s; s = s->next) {
        s->heard_ns += stall_ns;
        s->heard_ns = s->heard_ns > now_ns ? now_ns : s->heard_ns;
        if (!s->evicting && now_ns - s->heard_ns > s->ttl_ns && hf_leader_serving(leader)) {
            evict(leader, s, now_ns - s->heard_ns);
        }
    }
    hf_timer_arm(&sessions->timer, sessions->tick_ns);
}

/* Lifecycle */

int hf_sessions_init(struct hf_leader *leader)
{
    struct hf_sessions *sessions = &leader->sessions;
    struct hf_meta_session page[SESSION_PAGE];
    struct hf_session_id after = {0};
    uint32_t count;
    int err = hf_hmap_init(&sessions->by_id);

    if (err) {
        return err;
    }
    hf_timer_init(&sessions->timer, leader->env, tick, leader);
    while ((count = hf_meta_sessions(leader->meta, after, page, SESSION_PAGE)) > 0) {
        for (uint32_t i = 0; i < count; i++) {
            if (!hf_sessions_opened(leader, page[i].id, page[i].ttl_ns)) {
                return -ENOMEM;
            }
        }
        after = page[count - 1].id;
    }
    return hf_meta_failed(leader->meta); /* those not listed would be fenced */
}

void hf_sessions_start(struct hf_leader *leader)
{
    struct hf_sessions *sessions = &leader->sessions;
    uint64_t now_ns = hf_env_boot_ns(leader->env);
    uint64_t tick_ns = leader->session_ttl_ns / 8;

    for (struct hf_lsession *s = sessions->head; s; s = s->next) {
        s->heard_ns = now_ns;
    }
    sessions->tick_ns = tick_ns > TICK_NS_MAX ? TICK_NS_MAX : tick_ns;
    sessions->last_tick_ns = now_ns;
    hf_timer_arm(&sessions->timer, sessions->tick_ns);
}

void hf_sessions_stop(struct hf_leader *leader)
{
    hf_timer_disarm(&leader->sessions.timer);
}

void hf_sessions_fini(struct hf_leader *leader)
{
    struct hf_sessions *sessions = &leader->sessions;

    hf_timer_fini(&sessions->timer);
    while (sessions->head) {
        hf_opens_drop(&leader->opens, &sessions->head->opens);
        forget(leader, sessions->head);
    }
    hf_hmap_fini(&sessions->by_id);
}

static uint32_t check_queue(const struct hf_lsession *session)
{
    const struct hf_lop *last = NULL;
    uint32_t count = 0;

    for (const struct hf_lop *lop = session->queue_head; lop; lop = lop->next) {
        HF_ASSERT(lop->op.session.v == session->opens.id.v);
        HF_ASSERT(lop->op.stream <= session->queued_stream);
        last = lop;
        count++;
    }
    HF_ASSERT(last == session->queue_tail);
    return count;
}

static void check_applied(const struct hf_leader *leader, const struct hf_lsession *session)
{
    const struct hf_stream_state *stream = hf_session_stream(leader->meta, session->opens.id);

    HF_ASSERT(stream && stream->last <= session->queued_stream);
}

void hf_sessions_check_invariants(const struct hf_leader *leader)
{
    const struct hf_sessions *sessions = &leader->sessions;
    uint32_t count = 0, unclaimed = 0, queued = 0;
    size_t opens = 0;

    for (const struct hf_lsession *s = sessions->head; s; s = s->next) {
        HF_ASSERT(s->opens.id.v > 0 && s->opens.id.v <= sessions->id_max);
        HF_ASSERT(!s->next || s->next->prev == s);
        if (hf_leader_serving(leader)) {
            check_applied(leader, s);
        }
        opens += hf_opens_check_session(&leader->opens, &s->opens);
        queued += check_queue(s);
        unclaimed += !s->claimed;
        count++;
    }
    HF_ASSERT(count == sessions->count && count == sessions->by_id.count);
    /* Fewer only where memory ran out: that session's operations are refused. */
    HF_ASSERT(!hf_leader_serving(leader) || count <= leader->meta->stream_count);
    HF_ASSERT(unclaimed == sessions->unclaimed && queued == leader->queued_ops);
    HF_ASSERT(opens == leader->opens.by_ino.count);
}
