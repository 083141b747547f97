/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/waiters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/meta/leader_impl.h"
#include "server/meta/lock.h"

#define RING_MAX 64u /* owners looked at; a ring behind more of them is not found */

struct owner {
    struct hf_session_id session;
    uint64_t owner;
};

/* Who is waited for, directly or not, each once. */
struct ring {
    struct owner asks;
    struct owner v[RING_MAX];
    uint32_t count;
};

struct hf_waiter {
    struct hf_hmap_node node; /* by inode */
    struct hf_hmap_node by_owner;
    struct hf_waiter *prev, *next; /* by deadline */
    struct hf_waiter *chosen;      /* among those to be looked at now */
    struct hf_meta_read rd;        /* without its pointers */
    uint64_t deadline_ns;          /* monotonic */
    hf_leader_done_fn done;
    void *ctx;
};

void hf_waiters_test(struct hf_leader *leader, const struct hf_meta_read *rd,
                     struct hf_meta_reply *reply)
{
    struct hf_meta_read getlk = *rd;

    getlk.op = HF_RD_GETLK;
    hf_meta_read(leader->meta, &getlk, reply, NULL, 0);
}

static void answer(struct hf_leader *leader, struct hf_waiter *waiter,
                   const struct hf_meta_reply *reply)
{
    struct hf_waiters *waiters = &leader->waiters;
    hf_leader_done_fn done = waiter->done;
    void *ctx = waiter->ctx;

    if (waiter->prev) {
        waiter->prev->next = waiter->next;
    } else {
        waiters->head = waiter->next;
    }
    if (waiter->next) {
        waiter->next->prev = waiter->prev;
    } else {
        waiters->tail = waiter->prev;
    }
    waiters->count--;
    hf_hmap_del(&waiters->by_ino, &waiter->node);
    hf_hmap_del(&waiters->by_owner, &waiter->by_owner);
    free(waiter);
    done(ctx, reply);
}

static void answer_err(struct hf_leader *leader, struct hf_waiter *waiter, int err)
{
    struct hf_meta_reply reply = {.err = err};

    answer(leader, waiter, &reply);
}

static void expire(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_waiters *waiters = &leader->waiters;
    uint64_t now_ns = hf_env_mono_ns(leader->env);

    while (waiters->head && waiters->head->deadline_ns <= now_ns) {
        answer_err(leader, waiters->head, -EAGAIN);
    }
    if (waiters->head) {
        hf_timer_arm(&waiters->timer, waiters->head->deadline_ns - now_ns);
    }
}

static uint64_t owner_hash(struct owner owner)
{
    return hf_hash_u64(owner.session.v ^ hf_hash_u64(owner.owner));
}

static bool same_owner(struct owner a, struct owner b)
{
    return a.session.v == b.session.v && a.owner == b.owner;
}

static struct owner owner_of(const struct hf_meta_read *rd)
{
    return (struct owner){rd->session, rd->lock_owner};
}

static void ring_add(struct ring *ring, struct owner owner)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        if (same_owner(ring->v[i], owner)) {
            return;
        }
    }
    if (ring->count < RING_MAX) {
        ring->v[ring->count++] = owner;
    }
}

/* Adds all that are in the way of @rd. True: who asks is one of them. */
static bool ring_follow(struct hf_leader *leader, const struct hf_meta_read *rd, struct ring *ring)
{
    struct hf_lockvec others = {0};
    bool closed = false;

    (void)hf_lock_in_the_way(leader->meta, rd, &others); /* an error: nothing is */
    for (uint32_t i = 0; i < others.count && !closed; i++) {
        struct owner owner = {others.v[i].session, others.v[i].owner};

        closed = same_owner(owner, ring->asks);
        ring_add(ring, owner);
    }
    hf_lockvec_fini(&others);
    return closed;
}

/* Whatever @owner waits for: it may have several threads. */
static bool ring_follow_owner(struct hf_leader *leader, struct owner owner, struct ring *ring)
{
    struct hf_hmap_node *node = hf_hmap_first(&leader->waiters.by_owner, owner_hash(owner));
    bool closed = false;

    for (; node && !closed; node = hf_hmap_same(node)) {
        const struct hf_waiter *w = hf_container_of(node, struct hf_waiter, by_owner);

        closed = same_owner(owner_of(&w->rd), owner) && !(w->rd.flags & HF_LOCK_FLOCK) &&
                 ring_follow(leader, &w->rd, ring);
    }
    return closed;
}

static bool closes_a_ring(struct hf_leader *leader, const struct hf_meta_read *rd)
{
    struct ring ring = {.asks = owner_of(rd)};
    bool closed = !(rd->flags & HF_LOCK_FLOCK) && ring_follow(leader, rd, &ring);

    for (uint32_t i = 0; i < ring.count && !closed; i++) {
        closed = ring_follow_owner(leader, ring.v[i], &ring);
    }
    return closed;
}

static struct hf_waiter *numbered(struct hf_leader *leader, const struct hf_meta_read *rd)
{
    struct hf_hmap_node *node = hf_hmap_first(&leader->waiters.by_owner, owner_hash(owner_of(rd)));

    for (; node && rd->cookie; node = hf_hmap_same(node)) {
        struct hf_waiter *w = hf_container_of(node, struct hf_waiter, by_owner);

        if (w->rd.session.v == rd->session.v && w->rd.cookie == rd->cookie) {
            return w;
        }
    }
    return NULL;
}

void hf_waiters_give_up(struct hf_leader *leader, const struct hf_meta_read *rd, int err)
{
    struct hf_waiter *waiter = numbered(leader, rd);

    if (waiter) {
        answer_err(leader, waiter, err);
    }
}

int hf_waiters_add(struct hf_leader *leader, const struct hf_meta_read *rd, hf_leader_done_fn done,
                   void *ctx)
{
    struct hf_waiters *waiters = &leader->waiters;
    struct hf_waiter *waiter;

    if (closes_a_ring(leader, rd)) {
        return -EDEADLK;
    }
    if (waiters->count >= HF_WAITERS_MAX) {
        return -ENOLCK;
    }
    waiter = calloc(1, sizeof(*waiter));
    if (!waiter) {
        return -ENOMEM;
    }
    waiter->rd = *rd;
    waiter->rd.name = NULL;
    waiter->rd.name_len = 0;
    waiter->rd.inos = NULL;
    waiter->rd.ino_count = 0;
    waiter->done = done;
    waiter->ctx = ctx;
    waiter->deadline_ns = hf_env_mono_ns(leader->env) + HF_WAITERS_TIME_NS;
    waiter->prev = waiters->tail;
    if (waiter->prev) {
        waiter->prev->next = waiter;
    } else {
        waiters->head = waiter;
    }
    waiters->tail = waiter;
    waiters->count++;
    hf_hmap_add(&waiters->by_ino, &waiter->node, hf_hash_u64(rd->ino.v));
    hf_hmap_add(&waiters->by_owner, &waiter->by_owner, owner_hash(owner_of(rd)));
    if (waiters->head == waiter) {
        hf_timer_arm(&waiters->timer, HF_WAITERS_TIME_NS);
    }
    return 0;
}

/* Who has the lock by now may be another one, who waits for this one. */
static void test(struct hf_leader *leader, struct hf_waiter *waiter)
{
    struct hf_meta_reply reply = {0};

    hf_waiters_test(leader, &waiter->rd, &reply);
    if (hf_meta_failed(leader->meta)) {
        return; /* refused when this leader ends */
    }
    if (!reply.err && reply.lock_type != F_UNLCK) {
        if (!closes_a_ring(leader, &waiter->rd)) {
            return;
        }
        reply = (struct hf_meta_reply){.err = -EDEADLK};
    }
    answer(leader, waiter, &reply);
}

void hf_waiters_recheck(struct hf_leader *leader, struct hf_ino ino)
{
    struct hf_waiters *waiters = &leader->waiters;
    struct hf_waiter *chosen = NULL, *next;
    struct hf_hmap_node *node;

    if (waiters->count == 0) {
        return;
    }
    for (node = hf_hmap_first(&waiters->by_ino, hf_hash_u64(ino.v)); node;
         node = hf_hmap_same(node)) {
        struct hf_waiter *waiter = hf_container_of(node, struct hf_waiter, node);

        if (waiter->rd.ino.v == ino.v) {
            waiter->chosen = chosen;
            chosen = waiter;
        }
    }
    for (; chosen; chosen = next) {
        next = chosen->chosen;
        test(leader, chosen);
    }
}

void hf_waiters_session_ended(struct hf_leader *leader, struct hf_session_id session)
{
    struct hf_waiter *next;

    for (struct hf_waiter *w = leader->waiters.head; w; w = next) {
        next = w->next;
        if (w->rd.session.v == session.v) {
            answer_err(leader, w, -HF_EFENCED);
        } else {
            test(leader, w);
        }
    }
}

void hf_waiters_fail(struct hf_leader *leader, int err)
{
    while (leader->waiters.head) {
        answer_err(leader, leader->waiters.head, err);
    }
}

int hf_waiters_init(struct hf_leader *leader)
{
    hf_timer_init(&leader->waiters.timer, leader->env, expire, leader);
    return hf_hmap_init(&leader->waiters.by_ino) || hf_hmap_init(&leader->waiters.by_owner)
               ? -ENOMEM
               : 0;
}

void hf_waiters_fini(struct hf_leader *leader)
{
    struct hf_waiters *waiters = &leader->waiters;

    hf_timer_fini(&waiters->timer);
    while (waiters->head) {
        struct hf_waiter *waiter = waiters->head;

        waiters->head = waiter->next;
        free(waiter);
    }
    hf_hmap_fini(&waiters->by_ino);
    hf_hmap_fini(&waiters->by_owner);
}

void hf_waiters_check_invariants(struct hf_leader *leader)
{
    const struct hf_waiters *waiters = &leader->waiters;
    const struct hf_waiter *last = NULL;
    uint32_t count = 0;

    for (const struct hf_waiter *w = waiters->head; w; w = w->next) {
        struct hf_meta_reply reply = {0};

        HF_ASSERT(w->prev == last && (!last || last->deadline_ns <= w->deadline_ns));
        HF_ASSERT(hf_sessions_find(leader, w->rd.session));
        hf_waiters_test(leader, &w->rd, &reply);
        HF_ASSERT(reply.err || reply.lock_type != F_UNLCK); /* else it had been told */
        last = w;
        count++;
    }
    HF_ASSERT(waiters->tail == last && count == waiters->count);
    HF_ASSERT(count == waiters->by_ino.count && count == waiters->by_owner.count);
    HF_ASSERT(count == 0 || waiters->timer.armed);
}
