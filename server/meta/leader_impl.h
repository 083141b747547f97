/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader_impl.h - what the parts of the leader share: the struct, and each part's door.
 *
 *     leader.c    lifecycle, format, status       check.c   what must hold between the parts
 *     ops.c       mutations: admission, order, proposal, apply, what follows an apply
 *     reads.c     looks, OPEN, RELEASE, RENEW
 *     sessions.c  what the leader knows of each session; eviction
 *     opens.c     who holds which inode open        inflight.c  names in flight
 *     recent.c    who looked an inode up just now
 *     waiters.c   lock waiters                      space.c   budgets, free space
 *     nodes.c     heartbeats, node states           inventory.c  what a node really holds
 *     copier.c    degraded objects                  reaper.c  dead objects
 *     purger.c    unlinked inodes, orphans that nobody holds
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_LEADER_IMPL_H
#define HF_META_LEADER_IMPL_H

#include "server/meta/copier.h"
#include "server/meta/hmap.h"
#include "server/meta/inflight.h"
#include "server/meta/inventory.h"
#include "server/meta/nodes.h"
#include "server/meta/opens.h"
#include "server/meta/purger.h"
#include "server/meta/reaper.h"
#include "server/meta/recent.h"
#include "server/meta/replica_impl.h"
#include "server/meta/sessions.h"
#include "server/meta/space.h"
#include "server/meta/waiters.h"

#define HF_LEADER_SESSION_TTL_NS     (30 * HF_NS_PER_SEC)
#define HF_LEADER_SESSION_TTL_MAX_NS (600 * HF_NS_PER_SEC)
#define HF_LEADER_NODE_TIMEOUT_NS    (3 * HF_NS_PER_SEC)
#define HF_LEADER_RESERVE_BYTES      (UINT64_C(256) << 20)
#define HF_LEADER_QUEUE_BYTES_MAX    (UINT64_C(64) << 20) /* of mutations not yet answered */
#define HF_LEADER_READS_MAX          65536u
#define HF_LEADER_OIDS_PER_ENTRY     512u
#define HF_LEADER_BULK_MAX           (512u << 10) /* of a mutation: an entry travels as one frame */

enum hf_leader_state {
    HF_LEADER_OPENED,
    HF_LEADER_STARTING, /* format and new nodes are on their way through the log */
    HF_LEADER_READY,
    HF_LEADER_FAILED,
    HF_LEADER_CLOSING,
    HF_LEADER_STATE_COUNT,
};

/** One mutation, from its arrival to its answer. */
struct hf_lop {
    struct hf_mlog_proposal proposal;
    struct hf_lop *next; /* in the session's queue, or among those refused */
    struct hf_leader *leader;
    struct hf_meta_op op; /* as it is logged */
    void *op_mem;
    hf_leader_done_fn done; /* NULL: nobody asks */
    void *ctx;
    struct hf_name_mark names[2];
    uint32_t name_count;
    struct hf_guard_mark victim; /* ino 0: none */
    uint64_t *holders;           /* owned; when the leader filled them in */
    uint8_t *recoded;            /* owned; msg with them */
    int err;                     /* of one refused */
    size_t bytes;                /* of queue room taken */
    uint64_t reserving_bytes;    /* of leader->reserving_bytes */
    uint8_t data[];              /* msg, bulk */
};

struct hf_lop_list {
    struct hf_lop *head, *tail;
};

struct hf_lread; /* one look that waits to be answered (reads.c) */

struct hf_lread_list {
    struct hf_lread *head, *tail;
    uint32_t count;
};

struct hf_leader {
    struct hf_env *env;
    struct hf_replica *replica;
    struct hf_leader *next; /* of the replica's leaders */
    struct hf_meta *meta;   /* the replica's */
    const struct hf_mlog *log;
    struct hf_leader_stores stores;
    enum hf_leader_state state;
    uint64_t session_ttl_ns, node_timeout_ns, reserve_bytes;
    uint64_t started_ns;
    uint64_t reserving_bytes; /* by operations in flight */
    uint64_t claim_cookie; /* of this term of office: claims made to another leader have another */

    /* mutations */
    struct hf_inflight inflight;
    struct hf_lop_list refused; /* answered by refuse_task */
    struct hf_task refuse_task;
    size_t queue_bytes;
    uint32_t queued_ops; /* in sessions' queues */
    uint64_t map_epoch_told;
    bool map_task_queued;
    struct hf_task map_task;

    /* looks */
    struct hf_lread_list reads; /* the next round asks for them */
    struct hf_lread_list round; /* wait for the log to say that the state is current */
    struct hf_mlog_read barrier;
    bool asking;                  /* barrier is with the log */
    struct hf_lread_list guarded; /* OPENs of an inode that an entry in flight unlinks */
    struct hf_task read_task;

    struct hf_sessions sessions;
    struct hf_opens opens;
    struct hf_recent recent;
    struct hf_waiters waiters;
    struct hf_nodes nodes;
    struct hf_copier copier;
    struct hf_reaper reaper;
    struct hf_purger purger;

    uint32_t starting_left; /* entries of the start that are not applied yet */

    struct hf_timer close_timer;

    uint32_t store_calls; /* deletes, copies, lists under way */
    uint64_t ops, reads_done;
    uint64_t copied_objects, copied_bytes, deleted_objects;
};

/* leader.c */
static inline bool hf_leader_serving(const struct hf_leader *leader)
{
    return leader->state == HF_LEADER_READY;
}
/** What a request gets while the leader does not serve. */
int hf_leader_unready_error(const struct hf_leader *leader);
/** NULL: hf_meta_failed(), or out of memory. */
struct hf_leader *hf_leader_new(struct hf_replica *replica);
void hf_leader_start(struct hf_leader *leader);
/** It serves nothing any more: @err for everything that waits. */
void hf_leader_stop(struct hf_leader *leader, int err);
/** Stop, wait for the calls to the stores, free; then hf_replica_leader_gone(). */
void hf_leader_close(struct hf_leader *leader, int err);
/** The replica failed. */
void hf_leader_failed(struct hf_leader *leader);
/**
 * Did a look, the leader's own or another's, fail the state? Then the replica fails, and this
 * leader ends before the turn does: what was found by that look counts for nothing.
 */
bool hf_leader_broke(struct hf_leader *leader);

/* check.c */
void hf_leader_check_invariants(struct hf_leader *leader);

/* nodes.c */
/** A store's heartbeat; tells it its state. */
void hf_leader_heartbeat(struct hf_leader *leader, const struct hf_msg_heartbeat *beat,
                         struct hf_msg_heartbeat_reply *ret);
uint32_t hf_leader_nodes(struct hf_leader *leader, struct hf_leader_node_info *ret, uint32_t max);

/* ops.c */
int hf_leader_ops_init(struct hf_leader *leader);
void hf_leader_ops_fini(struct hf_leader *leader);
void hf_leader_op(struct hf_leader *leader, bool read_only, const void *msg, size_t msg_len,
                  const void *bulk, size_t bulk_len, hf_leader_done_fn done, void *ctx);
/** One of its proposals is committed: apply, answer. Errors: the replica cannot go on. */
int hf_leader_committed(const struct hf_mlog_entry *entry, struct hf_mlog_proposal *proposal);
/**
 * Propose an entry of the leader's own. @op and its pointers are borrowed for the call.
 * @done  may be NULL; reply->err is the outcome
 */
void hf_leader_propose(struct hf_leader *leader, const struct hf_meta_op *op,
                       hf_leader_done_fn done, void *ctx);
/** Go on with what waited for a name, after entries were applied or sessions ended. */
void hf_leader_pump(struct hf_leader *leader);
/** Answer (later) with @err; for a session's queue that will not be proposed any more. */
void hf_leader_refuse_list(struct hf_leader *leader, struct hf_lop_list *list, int err);
/** DEGRADED_ADD or DEGRADED_CLEAR or OBJECTS_GONE over any number of oids. */
void hf_leader_propose_oids(struct hf_leader *leader, enum hf_op op, struct hf_node_id node,
                            struct hf_oid *oids, uint32_t count);

/** What waits has a reason to; the room taken is that of what is here. */
void hf_leader_ops_check(const struct hf_leader *leader);

/* reads.c */
void hf_leader_reads_init(struct hf_leader *leader);
void hf_leader_reads_fini(struct hf_leader *leader);
void hf_leader_read(struct hf_leader *leader, const struct hf_meta_read *rd, hf_leader_done_fn done,
                    void *ctx);
/** Look at OPENs that waited for an unlink again. */
void hf_leader_reads_unguard(struct hf_leader *leader);
/** Answer everything that waits with @err, now. */
void hf_leader_reads_fail(struct hf_leader *leader, int err);
/** Every look will be taken: who waits for an entry's inode still has to. */
void hf_leader_reads_check(const struct hf_leader *leader);
/** Attributes of an inode or a name, from the applied state; no bulk. */
int hf_leader_getattr(struct hf_leader *leader, struct hf_ino ino, struct hf_attr *ret);
int hf_leader_lookup(struct hf_leader *leader, struct hf_ino parent, const char *name, size_t len,
                     struct hf_attr *ret);

/** For timers that measure silence: how much later than asked for the loop ran them. */
static inline uint64_t hf_leader_stall_ns(uint64_t now_ns, uint64_t last_ns, uint64_t every_ns)
{
    return now_ns > last_ns + 2 * every_ns ? now_ns - last_ns - every_ns : 0;
}

#endif
