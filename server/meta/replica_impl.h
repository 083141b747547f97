/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_impl.h - what the replica and its leader share; for server/meta only.
 */
#ifndef HF_META_REPLICA_IMPL_H
#define HF_META_REPLICA_IMPL_H

#include "server/meta/replica.h"

struct hf_leader;
struct hf_replica_load;

struct hf_replica {
    struct hf_env *env;
    struct hf_table *table;
    struct hf_meta *meta;
    struct hf_mlog log; /* functions NULL until attached */
    struct hf_replica_base base;
    uint64_t merge_delay_ns;
    char dir[4200];
    struct hf_uuid cluster;
    struct hf_leader_stores stores;
    uint64_t session_ttl_ns, node_timeout_ns, reserve_bytes;
    struct hf_leader_node *nodes; /* owned, with their strings */
    uint32_t node_count;
    uint32_t copies, min_copies, groups;

    uint8_t *read_bulk; /* HF_FRAME_BULK_MAX bytes: of the answer that a leader here makes */

    struct hf_leader *leader;  /* NULL: this node does not lead */
    struct hf_leader *leaders; /* it, and those that are closing */
    int failed;

    /* checkpoints */
    struct hf_timer checkpoint_timer;
    struct hf_mlog_position opened; /* the checkpoint found at start */
    uint64_t checkpoint_index;      /* newest one durable */
    uint64_t running_index;         /* being made */
    uint64_t checkpoint_retry_ns;
    bool checkpointed; /* one was made or found: there is something to save */

    /* snapshots */
    uint32_t saves; /* under way */
    struct hf_replica_load *load;

    /* closing */
    bool closing, closing_checkpointed;
    void (*close_done)(void *ctx);
    void *close_ctx;
    struct hf_timer close_timer;
};

/** Nothing can be served any more. Found by who is not called by the log: it is told, and ends the
 *  leader here before this turn of the loop does. */
void hf_replica_fail(struct hf_replica *replica, int err, const char *what);
/** A closing leader is no more. */
void hf_replica_leader_gone(struct hf_replica *replica, struct hf_leader *leader);

#endif
