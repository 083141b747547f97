/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ranges.c - what the leader leases to a session ahead of need: inode numbers, space.
 */
#include "client/meta/session_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/err.h"

#define INO_COUNT       4096u
#define BUDGET_SPARE    (UINT64_C(256) << 20)
#define BUDGET_LOW      (UINT64_C(64) << 20)
#define BUDGET_TRIES    3u /* renewals that must refuse before "no space" is believed */
#define BUDGET_RETRY_NS (100 * HF_NS_PER_MS)
#define BUDGET_FULL_NS  HF_NS_PER_SEC

static void budget_fail_all(struct hf_session *s, int err)
{
    struct budget_waiter *w;

    while ((w = TAILQ_FIRST(&s->budget_waiters)) != NULL) {
        TAILQ_REMOVE(&s->budget_waiters, w, link);
        w->done(w->ctx, err);
        free(w);
    }
}

static void ino_wake(struct hf_session *s, int err)
{
    struct ino_waiter_list list = TAILQ_HEAD_INITIALIZER(list);
    struct ino_waiter *w;

    TAILQ_CONCAT(&list, &s->ino_waiters, link);
    while ((w = TAILQ_FIRST(&list)) != NULL) {
        TAILQ_REMOVE(&list, w, link);
        w->done(w->ctx, err);
        free(w);
    }
}

/* --- inode numbers --- */

static void ino_answered(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_session *s = call->ctx;

    s->ino_inflight = false;
    if (!reply->err) {
        s->ino2_first = reply->first_ino.v;
        s->ino2_count = reply->ino_count;
    }
    ino_wake(s, reply->err);
}

static void ino_refill(struct hf_session *s)
{
    struct hf_meta_op op = {.op = HF_OP_INO_RANGE, .count = INO_COUNT};
    uint64_t left = s->ino_end - s->ino_next + s->ino2_count;

    if (s->ino_inflight || s->ino2_count || left >= INO_COUNT / 2 || s->state != SESSION_LIVE) {
        return;
    }
    s->ino_inflight = true;
    s->ino_call.done = ino_answered;
    s->ino_call.ctx = s;
    hf_session_op(s, &op, &s->ino_call);
}

int hf_session_next_ino(struct hf_session *session, struct hf_ino *ret)
{
    struct hf_session *s = session;

    hf_assert_loop(s->env);
    if (s->ino_next == s->ino_end && s->ino2_count) {
        s->ino_next = s->ino2_first;
        s->ino_end = s->ino2_first + s->ino2_count;
        s->ino2_count = 0;
    }
    if (s->ino_next < s->ino_end) {
        ret->v = s->ino_next++;
        ino_refill(s);
        return 0;
    }
    ino_refill(s);
    return -EAGAIN;
}

void hf_session_wait_ino(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    struct hf_session *s = session;
    struct ino_waiter *w = malloc(sizeof(*w));

    hf_assert_loop(s->env);
    HF_ASSERT_MEMORY(w);
    *w = (struct ino_waiter){.done = done, .ctx = ctx};
    TAILQ_INSERT_TAIL(&s->ino_waiters, w, link);
    ino_refill(s);
    if (!s->ino_inflight) {
        hf_timer_arm(&s->wake, 0); /* there are some already, or there never will be */
    }
}

uint64_t hf_session_next_object(struct hf_session *session)
{
    HF_ASSERT(session->next_object < HF_OID_SEQ_MAX);
    return ++session->next_object;
}

void hf_session_set_floor(struct hf_session *session, uint64_t floor)
{
    HF_ASSERT(floor >= session->floor);
    session->floor = floor;
}

/* --- space --- */

static bool budget_fits(const struct hf_session *s, uint64_t bytes)
{
    return s->granted >= s->used && s->granted - s->used >= bytes;
}

/* @renewed: a renewal just told what is granted. */
static void budget_wake(struct hf_session *s, bool renewed)
{
    struct budget_waiter_list list = TAILQ_HEAD_INITIALIZER(list);
    bool again = false;

    TAILQ_CONCAT(&list, &s->budget_waiters, link);
    while (!TAILQ_EMPTY(&list)) {
        struct budget_waiter *w = TAILQ_FIRST(&list);
        bool fits = !w->spare && budget_fits(s, w->bytes);

        TAILQ_REMOVE(&list, w, link);
        if (renewed && w->asked) {
            w->tries++;
            w->asked = false;
        }
        if (w->spare && w->tries > 0) {
            w->done(w->ctx, 0);
            free(w);
        } else if (fits || w->tries >= BUDGET_TRIES) {
            if (!fits) {
                s->full_until_ns = hf_env_mono_ns(s->env) + BUDGET_FULL_NS;
            }
            w->done(w->ctx, fits ? 0 : -ENOSPC);
            free(w);
        } else {
            again = true;
            TAILQ_INSERT_TAIL(&s->budget_waiters, w, link);
        }
    }
    if (renewed && again && !s->wake.armed) {
        hf_timer_arm(&s->wake, BUDGET_RETRY_NS);
    }
}

static void wake_now(void *ctx)
{
    struct hf_session *s = ctx;

    if (!s->ino_inflight && !TAILQ_EMPTY(&s->ino_waiters)) {
        ino_wake(s, session_dead(s) ? -HF_EFENCED : 0);
    }
    if (session_dead(s)) {
        budget_fail_all(s, -HF_EFENCED);
        return;
    }
    budget_wake(s, false);
    if (!TAILQ_EMPTY(&s->budget_waiters)) {
        session_renew_soon(s);
    }
}

int hf_session_take_budget(struct hf_session *session, uint64_t bytes)
{
    struct hf_session *s = session;

    hf_assert_loop(s->env);
    if (s->no_space_until_ns && hf_env_mono_ns(s->env) < s->no_space_until_ns) {
        return -ENOSPC;
    }
    if (!budget_fits(s, bytes)) {
        if (hf_env_mono_ns(s->env) < s->full_until_ns) {
            return -ENOSPC;
        }
        if (!s->probing) {
            session_renew_soon(s);
        }
        return -EAGAIN;
    }
    s->used += bytes;
    /* Ask early, while nobody waits yet; not when the last answer was that there is no more. */
    if (s->granted - s->used < BUDGET_LOW && s->answered >= s->asked && !s->probing) {
        session_renew_soon(s);
    }
    return 0;
}

void hf_session_give_budget(struct hf_session *session, uint64_t bytes)
{
    struct budget_waiter *w;

    HF_ASSERT(session->used >= bytes);
    session->used -= bytes;
    w = TAILQ_FIRST(&session->budget_waiters);
    if (w && budget_fits(session, w->bytes)) {
        hf_timer_arm(&session->wake, 0);
    }
}

void hf_session_spend_budget(struct hf_session *session, uint64_t bytes)
{
    HF_ASSERT(session->used >= bytes);
    session->used -= bytes;
    session->spent += bytes;
    session->granted -= session->granted < bytes ? session->granted : bytes;
}

void hf_session_no_space(struct hf_session *session)
{
    session->no_space_until_ns = hf_env_mono_ns(session->env) + BUDGET_FULL_NS;
}

static void budget_wait(struct hf_session *s, struct budget_waiter waiter)
{
    struct budget_waiter *w = malloc(sizeof(*w));

    hf_assert_loop(s->env);
    HF_ASSERT_MEMORY(w);
    *w = waiter;
    TAILQ_INSERT_TAIL(&s->budget_waiters, w, link);
    hf_timer_arm(&s->wake, 0);
}

void hf_session_wait_budget(struct hf_session *session, uint64_t bytes,
                            void (*done)(void *ctx, int err), void *ctx)
{
    budget_wait(session, (struct budget_waiter){.bytes = bytes, .done = done, .ctx = ctx});
}

void hf_session_drop_spare(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    budget_wait(session, (struct budget_waiter){.done = done, .ctx = ctx, .spare = true});
}

void ranges_init(struct hf_session *s)
{
    TAILQ_INIT(&s->budget_waiters);
    TAILQ_INIT(&s->ino_waiters);
    hf_timer_init(&s->wake, s->env, wake_now, s);
}

uint64_t ranges_want(struct hf_session *s)
{
    uint64_t want = s->used, spare = BUDGET_SPARE;
    struct budget_waiter *w;

    TAILQ_FOREACH (w, &s->budget_waiters, link) {
        want += w->bytes;
        w->asked = true;
        spare = w->spare ? 0 : spare;
    }
    return want + spare;
}

void ranges_granted(struct hf_session *s, uint64_t bytes)
{
    uint64_t since = s->spent - s->spent_at_ask; /* perhaps not in the leader's figures */

    s->answered = bytes;
    s->granted = bytes - (bytes < since ? bytes : since);
}

void ranges_renewed(struct hf_session *s)
{
    budget_wake(s, true);
}

void ranges_fail(struct hf_session *s, int err)
{
    budget_fail_all(s, err);
    ino_wake(s, err);
}
