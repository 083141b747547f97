/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copier.h - gives nodes the objects they lack: the table `degraded`, worked off.
 *
 *     row (node, object) ──► COPY on the node from members that have it ──► DEGRADED_CLEAR, batched
 *
 * Each live node is passed over in id order; what failed is met again in the next pass, later and
 * later. At most HF_COPIER_PARALLEL copies are under way in the cluster: foreground work goes
 * first.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_COPIER_H
#define HF_META_COPIER_H

#include "common/base/ids.h"
#include "common/env/env.h"

#define HF_COPIER_PARALLEL 4u
#define HF_COPIER_PER_NODE 3u /* one that hangs does not stop the others */

struct hf_leader;
struct hf_lnode;
struct hf_copy;

struct hf_copier {
    struct hf_timer timer;       /* look for work */
    struct hf_timer clear_timer; /* log what was copied */
    struct hf_copy *head;        /* under way */
    uint32_t inflight;
    uint32_t next_node; /* whose turn it is */
    uint64_t window_ns, window_bytes, rate_bytes;
};

void hf_copier_init(struct hf_leader *leader);
void hf_copier_start(struct hf_leader *leader);
void hf_copier_stop(struct hf_leader *leader);
void hf_copier_fini(struct hf_leader *leader);
/** There may be rows, or a node that was away. */
void hf_copier_kick(struct hf_leader *leader);
/** The node's copy turned out bad: a copy just made or under way says nothing about it. */
void hf_copier_void(struct hf_leader *leader, struct hf_lnode *node, const struct hf_oid *oid);
/** Likewise all copies of a node whose process is another by now. */
void hf_copier_void_node(struct hf_leader *leader, struct hf_lnode *node);
/** Objects a node lacks; past a bound an upper estimate. */
uint64_t hf_copier_lacking(struct hf_leader *leader, struct hf_node_id node);
uint64_t hf_copier_rate_bytes(struct hf_leader *leader);
/** Bytes still to copy, estimated from the mean object. */
uint64_t hf_copier_left_bytes(struct hf_leader *leader);

/** Copies under way are those of the nodes; what was copied will be logged. */
void hf_copier_check_invariants(const struct hf_leader *leader);

#endif
