/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/waiters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/meta/leader_impl.h"
#include "server/meta/lock.h"

#define RING_MAX 64u /* owners; a longer one is not found */

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

static uint64_t owner_hash(struct hf_session_id session, uint64_t owner)
{
    return hf_hash_u64(session.v ^ hf_hash_u64(owner));
}

static const struct hf_waiter *waiter_of(struct hf_leader *leader, const struct hf_lock *lock)
{
    struct hf_hmap_node *node =
        hf_hmap_first(&leader->waiters.by_owner, owner_hash(lock->session, lock->owner));

    for (; node; node = hf_hmap_same(node)) {
        const struct hf_waiter *w = hf_container_of(node, struct hf_waiter, by_owner);

        if (w->rd.session.v == lock->session.v && w->rd.lock_owner == lock->owner &&
            !(w->rd.flags & HF_LOCK_FLOCK)) {
            return w;
        }
    }
    return NULL;
}

/* Each waits for one at a time: the first in its way. */
static bool closes_a_ring(struct hf_leader *leader, const struct hf_meta_read *rd)
{
    const struct hf_meta_read *next = rd;

    for (uint32_t i = 0; i < RING_MAX && !(rd->flags & HF_LOCK_FLOCK); i++) {
        struct hf_lock other;
        const struct hf_waiter *waiter;

        if (hf_lock_in_the_way(leader->meta, next, &other) <= 0) {
            return false;
        }
        if (other.session.v == rd->session.v && other.owner == rd->lock_owner) {
            return true;
        }
        waiter = waiter_of(leader, &other);
        if (!waiter) {
            return false;
        }
        next = &waiter->rd;
    }
    return false;
}

static struct hf_waiter *numbered(struct hf_leader *leader, const struct hf_meta_read *rd)
{
    struct hf_hmap_node *node =
        hf_hmap_first(&leader->waiters.by_owner, owner_hash(rd->session, rd->lock_owner));

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

    hf_waiters_give_up(leader, rd, -EAGAIN); /* nobody hears the answer */
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
    hf_hmap_add(&waiters->by_owner, &waiter->by_owner, owner_hash(rd->session, rd->lock_owner));
    if (waiters->head == waiter) {
        hf_timer_arm(&waiters->timer, HF_WAITERS_TIME_NS);
    }
    return 0;
}

/* True when it was answered. */
static bool test(struct hf_leader *leader, struct hf_waiter *waiter)
{
    struct hf_meta_reply reply = {0};

    hf_waiters_test(leader, &waiter->rd, &reply);
    if (reply.err || reply.lock_type == F_UNLCK) {
        answer(leader, waiter, &reply);
        return true;
    }
    if (closes_a_ring(leader, &waiter->rd)) { /* another one is in its way now */
        answer_err(leader, waiter, -EDEADLK);
        return true;
    }
    return false;
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
        (void)test(leader, chosen);
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
            (void)test(leader, w);
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
