/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/purger.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define ORPHAN_PAGE 256u
#define PURGE_PAGE  (HF_PURGER_PARALLEL * 2)
#define SWEEP_NS    (15 * HF_NS_PER_SEC)
#define BACKOFF_NS  HF_NS_PER_SEC

/* Orphans */

static void release(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_meta_op op = {.op = HF_OP_ORPHAN_RELEASE, .session = session, .ino = ino};

    hf_leader_propose(leader, &op, NULL, NULL);
}

static bool is_open(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    const struct hf_lsession *s = hf_sessions_find(leader, session);

    /* Its end releases everything; until it has told, it holds everything. */
    return !s || (!s->claimed && !HF_BUG(sweep_before_claim)) ||
           hf_opens_has(&leader->opens, session, ino);
}

static bool is_recent(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    return hf_recent_has(&leader->recent, ino, session, hf_env_mono_ns(leader->env));
}

static bool holds(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    return is_open(leader, ino, session) || is_recent(leader, ino, session);
}

static bool is_named(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_session_id holder;
    struct hf_ino found;

    return session.v > 0 &&
           hf_meta_orphans(leader->meta, ino, (struct hf_session_id){session.v - 1}, &found,
                           &holder, 1) == 1 &&
           found.v == ino.v && holder.v == session.v;
}

/* Who may be about to open it is looked at again when that is forgotten. */
static void release_unheld(struct hf_leader *leader, struct hf_ino ino,
                           struct hf_session_id session)
{
    struct hf_purger *p = &leader->purger;

    if (is_open(leader, ino, session)) {
        return;
    }
    if (!is_recent(leader, ino, session)) {
        release(leader, ino, session);
        return;
    }
    if (p->looks_count == HF_PURGER_LOOKS_MAX) {
        return;
    }
    p->looks[(p->looks_first + p->looks_count++) % HF_PURGER_LOOKS_MAX] =
        (struct hf_purger_look){ino, session, hf_env_mono_ns(leader->env) + HF_RECENT_NS};
    if (p->looks_count == 1) {
        hf_timer_arm(&p->looks_timer, HF_RECENT_NS);
    }
}

/* Release what is not held, by @session or, 0, by any. */
static void sweep_orphans(struct hf_leader *leader, struct hf_session_id session)
{
    struct hf_ino inos[ORPHAN_PAGE], after = {0};
    struct hf_session_id holders[ORPHAN_PAGE], after_holder = {UINT64_MAX};
    uint32_t count;

    do {
        count = hf_meta_orphans(leader->meta, after, after_holder, inos, holders, ORPHAN_PAGE);
        for (uint32_t i = 0; i < count; i++) {
            if ((session.v == 0 || session.v == holders[i].v) &&
                !holds(leader, inos[i], holders[i])) {
                release(leader, inos[i], holders[i]);
            }
        }
        if (count > 0) {
            after = inos[count - 1];
            after_holder = holders[count - 1];
        }
    } while (count == ORPHAN_PAGE);
}

void hf_purger_released(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (ino.v > 0 && usage.orphans > 0 && is_named(leader, ino, session)) {
        release_unheld(leader, ino, session);
    }
}

static void looks_due(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_purger *p = &leader->purger;
    uint64_t now_ns = hf_env_mono_ns(leader->env);

    while (p->looks_count > 0 && p->looks[p->looks_first].due_ns <= now_ns) {
        struct hf_purger_look look = p->looks[p->looks_first];

        p->looks_first = (p->looks_first + 1) % HF_PURGER_LOOKS_MAX;
        p->looks_count--;
        if (hf_leader_serving(leader) && is_named(leader, look.ino, look.session) &&
            !holds(leader, look.ino, look.session)) {
            release(leader, look.ino, look.session);
        }
    }
    if (p->looks_count > 0) {
        hf_timer_arm(&p->looks_timer, p->looks[p->looks_first].due_ns - now_ns);
    }
}

void hf_purger_claimed(struct hf_leader *leader, struct hf_session_id session)
{
    sweep_orphans(leader, session);
}

bool hf_purger_is_holder(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session)
{
    return holds(leader, ino, session) && is_named(leader, ino, session);
}

void hf_purger_unlinked(struct hf_leader *leader, struct hf_ino ino, const uint64_t *holders,
                        uint32_t holder_count)
{
    struct hf_attr attr;

    for (uint32_t i = 0; i < holder_count; i++) {
        if (!hf_leader_getattr(leader, ino, &attr) && attr.nlink == 0) {
            release_unheld(leader, ino, (struct hf_session_id){holders[i]});
        }
    }
}

static void sweep_timer(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (usage.orphans > 0 && hf_leader_serving(leader)) {
        sweep_orphans(leader, (struct hf_session_id){0});
    }
    hf_purger_kick(leader);
    hf_timer_arm(&leader->purger.sweep, SWEEP_NS);
}

/* Purging */

struct purge {
    struct hf_leader *leader;
    struct hf_ino ino;
};

static void purge_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct purge *purge = ctx;
    struct hf_leader *leader = purge->leader;

    for (uint32_t i = 0; i < HF_PURGER_PARALLEL; i++) {
        if (leader->purger.busy[i].v == purge->ino.v) {
            leader->purger.busy[i].v = 0;
        }
    }
    if (reply->err) {
        hf_log(HF_LOG_WARN, "meta", "purge failed", "ino=%llu err=%s what=\"tried again later\"",
               (unsigned long long)purge->ino.v, hf_err_name(reply->err));
        leader->purger.backoff_ns = hf_env_mono_ns(leader->env) + BACKOFF_NS;
    }
    free(purge);
    hf_purger_kick(leader);
}

static void purge(struct hf_leader *leader, struct hf_ino ino)
{
    struct hf_meta_op op = {.op = HF_OP_PURGE, .ino = ino};
    struct purge *call = calloc(1, sizeof(*call));

    if (!call) {
        return;
    }
    for (uint32_t i = 0; i < HF_PURGER_PARALLEL; i++) {
        if (leader->purger.busy[i].v == 0) {
            leader->purger.busy[i] = ino;
            break;
        }
    }
    *call = (struct purge){leader, ino};
    hf_leader_propose(leader, &op, purge_done, call);
}

static void purge_timer(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_ino inos[PURGE_PAGE];
    uint64_t now_ns = hf_env_mono_ns(leader->env);
    uint32_t count, free_slots = 0;

    if (!hf_leader_serving(leader) || now_ns < leader->purger.backoff_ns) {
        return; /* the sweep comes back to it */
    }
    for (uint32_t i = 0; i < HF_PURGER_PARALLEL; i++) {
        free_slots += leader->purger.busy[i].v == 0;
    }
    count = hf_meta_purgeable(leader->meta, (struct hf_ino){0}, inos, PURGE_PAGE);
    for (uint32_t i = 0; i < count && free_slots > 0; i++) {
        bool busy = false;

        for (uint32_t k = 0; k < HF_PURGER_PARALLEL; k++) {
            busy = busy || leader->purger.busy[k].v == inos[i].v;
        }
        if (!busy) {
            purge(leader, inos[i]);
            free_slots--;
        }
    }
}

void hf_purger_kick(struct hf_leader *leader)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (usage.purging > 0 && hf_leader_serving(leader) && !leader->purger.timer.armed) {
        hf_timer_arm(&leader->purger.timer, 0);
    }
}

int hf_purger_init(struct hf_leader *leader)
{
    hf_timer_init(&leader->purger.timer, leader->env, purge_timer, leader);
    hf_timer_init(&leader->purger.sweep, leader->env, sweep_timer, leader);
    hf_timer_init(&leader->purger.looks_timer, leader->env, looks_due, leader);
    leader->purger.looks = calloc(HF_PURGER_LOOKS_MAX, sizeof(leader->purger.looks[0]));
    return leader->purger.looks ? 0 : -ENOMEM;
}

void hf_purger_start(struct hf_leader *leader)
{
    hf_purger_kick(leader);
    hf_timer_arm(&leader->purger.sweep, SWEEP_NS);
}

void hf_purger_stop(struct hf_leader *leader)
{
    hf_timer_disarm(&leader->purger.timer);
    hf_timer_disarm(&leader->purger.sweep);
    hf_timer_disarm(&leader->purger.looks_timer);
}

void hf_purger_fini(struct hf_leader *leader)
{
    hf_timer_fini(&leader->purger.timer);
    hf_timer_fini(&leader->purger.sweep);
    hf_timer_fini(&leader->purger.looks_timer);
    free(leader->purger.looks);
}
