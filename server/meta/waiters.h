/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiters.h - sessions that wait until a lock may be free.
 *
 * A waiter is answered when the lock it wants looks free (it then tries to take it with a mutation,
 * and may wait again), after 20 s, when it is given up, or when its session ends. All wait equally
 * long, so the list is in order of their ends. See docs/design/locks.md.
 *
 * Who would close a ring of owners of which each waits for the next is told -EDEADLK at once, as
 * fcntl(2) has it: of flock(2) nobody expects that. (An open file description's own locks look like
 * those of a process here, and are told as well.) One waits for all that are in its way. A lock
 * that is taken may close a ring, too: of those that it keeps waiting.
 *
 * A wait that its client numbered can be given up; sent again, over another connection, it takes
 * the place of the first: who does not wait any more is part of no ring.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_WAITERS_H
#define HF_META_WAITERS_H

#include "common/env/env.h"
#include "server/meta/hmap.h"
#include "server/meta/replica.h"

#define HF_WAITERS_MAX     65536u
#define HF_WAITERS_TIME_NS (20 * HF_NS_PER_SEC)

struct hf_leader;
struct hf_waiter;

struct hf_waiters {
    struct hf_hmap by_ino, by_owner;
    struct hf_waiter *head, *tail;
    uint32_t count;
    struct hf_timer timer;
};

/** Errors: -ENOMEM. */
int hf_waiters_init(struct hf_leader *leader);
void hf_waiters_fini(struct hf_leader *leader);
/** LOCK_WAIT that is not free now; done runs later. Errors (nothing kept): -EDEADLK, -ENOMEM,
 *  -ENOLCK. */
int hf_waiters_add(struct hf_leader *leader, const struct hf_meta_read *rd, hf_leader_done_fn done,
                   void *ctx);
/** The wait that has @rd's number, if there is one, is answered with @err. */
void hf_waiters_give_up(struct hf_leader *leader, const struct hf_meta_read *rd, int err);
/** A lock on @ino changed. */
void hf_waiters_recheck(struct hf_leader *leader, struct hf_ino ino);
/** Drops its waiters; looks at all others again (its locks are gone). */
void hf_waiters_session_ended(struct hf_leader *leader, struct hf_session_id session);
void hf_waiters_fail(struct hf_leader *leader, int err);
/** The lock that is in the way of @rd now; lock_type F_UNLCK: none. */
void hf_waiters_test(struct hf_leader *leader, const struct hf_meta_read *rd,
                     struct hf_meta_reply *reply);

/** Of a leader that serves: whoever waits has a session, a reason and an end. */
void hf_waiters_check_invariants(struct hf_leader *leader);

#endif
