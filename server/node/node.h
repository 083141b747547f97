/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - one holdfastd: an object store, perhaps the metadata, and the calls to both.
 *
 *     rpc server ──► store service ──► hf_store
 *         │     └──► meta service ───► hf_leader ──► leader_stores ──► rpc peers (other nodes)
 *         └────────► admin
 *     heartbeat ───► the metadata node
 *
 * The only place where store, meta and rpc meet. Threads: loop thread only.
 */
#ifndef HF_NODE_NODE_H
#define HF_NODE_NODE_H

#include "common/config/config.h"
#include "common/env/env.h"
#include "server/meta/replica.h"

struct hf_node;

/** What a daemon is told about its process, and what a simulation has otherwise than a daemon. */
struct hf_node_options {
    uint32_t files_max; /* that may be open; 0: as many as are needed */
    int (*open_index)(void *ctx, struct hf_table_base **ret); /* of the store; NULL: LMDB */
    void *ctx;
    struct hf_replica_base meta; /* open NULL: LMDB */
    uint64_t merge_delay_ns;     /* of its table; 0: the default */
    uint64_t log_segment_bytes;  /* of the metadata log; 0: the default */
    uint64_t log_keep_bytes;     /* of it below a checkpoint; 0: the default */
};

/**
 * Open the store (and the metadata), listen, start the heartbeat. Blocks (start-up).
 * @config     borrowed until hf_node_stop() is done
 * @options    copied; NULL: all zero
 * @ret_error  on failure one sentence with what to do (malloc'd)
 */
int hf_node_start(struct hf_env *env, const struct hf_config *config, struct hf_node_id id,
                  const struct hf_node_options *options, struct hf_node **ret, char **ret_error);
/** Answer what is under way, checkpoint, close everything; done when it is safe to exit. */
void hf_node_stop(struct hf_node *node, void (*done)(void *ctx), void *ctx);

/** Between turns of the loop: what it counts and what it waits for. Not its store nor its log. */
void hf_node_check_invariants(const struct hf_node *node);

#endif
