/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_impl.h - what the parts of a node share; for server/node only.
 */
#ifndef HF_NODE_NODE_IMPL_H
#define HF_NODE_NODE_IMPL_H

#include <sys/queue.h>

#include "common/base/err.h"
#include "common/rpc/rpc.h"
#include "common/wire/store_msg.h"
#include "server/node/meta_log.h"
#include "server/node/node.h"
#include "server/store/store.h"

struct put_partial;
TAILQ_HEAD(put_partials, put_partial);

struct hf_node {
    struct hf_env *env;
    const struct hf_config *config;
    const struct hf_config_node *self;
    struct hf_node_options options;
    const struct hf_config_node *meta_nodes[HF_NODES_MAX]; /* of the configuration */
    uint32_t meta_node_count;
    struct hf_node_id leader; /* where heartbeats go; 0: whoever the log says */
    struct hf_rpc_identity identity;
    struct hf_bufpool *pool;
    struct hf_store *store;
    struct hf_replica *replica; /* NULL: this node holds no metadata */
    struct hf_meta_log *log;    /* of the replica */
    bool join_failed;           /* it was addressed as a metadata node and could not become one */
    struct hf_rpc_server *server;

    struct hf_map map;                           /* newest known; group_count 0: none yet */
    struct hf_rpc_peer *peers[HF_NODES_MAX + 1]; /* by node id; made on first use */
    struct raft_link *links[HF_NODES_MAX + 1]; /* the same, for the log: nothing waits before it */

    struct put_partials partials; /* objects whose last frame has not come */
    uint32_t partial_count;
    struct copy_run *copies; /* being fetched: copy_service.c */
    uint32_t inflight;       /* store operations whose done is still to come */

    struct hf_timer beat_timer;
    struct hf_rpc_call beat_call;
    bool beat_running;
    bool beat_heard;           /* the last one was answered */
    uint64_t start;            /* a number of this process */
    bool start_noted;          /* ... which the log has */
    uint32_t beat_failed;      /* in a row */
    struct hf_node_id beat_to; /* of the one under way */
    struct hf_rpc_call map_call;
    bool map_running;

    struct hf_oid bad[HF_HEARTBEAT_BAD_MAX]; /* quarantined, to be told with the next heartbeat */
    uint32_t bad_count;
    uint32_t bad_told; /* of them in the heartbeat under way */
    bool was_member;   /* noted on the disk: a leader has known this store */

    bool stopping;
    uint64_t leave_until_ns;
    struct hf_timer stop_timer;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/** The file that notes it; text in @buf. */
const char *node_member_path(const struct hf_node *node, char *buf, size_t size_bytes);
/* A newer map was learned. @map is taken. */
void node_set_map(struct hf_node *node, struct hf_map *map);
/** A metadata leader addresses this node, which is none by its configuration: become one. */
void node_become_metadata(struct hf_node *node);
/** Who leads, as far as this node knows; 0: nobody is known. */
struct hf_node_id node_leader(const struct hf_node *node);
/** Is that a node whose word on objects counts, when it leads? */
bool node_may_lead(const struct hf_node *node, struct hf_node_id id);
/** NULL: none is known. */
const char *node_addr(struct hf_node *node, struct hf_node_id id);
/** NULL: no address for that node. */
struct hf_rpc_peer *node_peer(struct hf_node *node, struct hf_node_id id);

/* store_service.c */
void store_service_request(struct hf_node *node, struct hf_rpc_request *req);
void store_service_closed(struct hf_node *node, struct hf_rpc_conn *conn);
void store_service_check(const struct hf_node *node);
void store_stats_msg(struct hf_node *node, struct hf_msg_store_stats *ret);

/* copy_service.c: fetch an object from other stores */
void copy_service_request(struct hf_node *node, struct hf_rpc_request *req);
/** The objects are deleted: copies of them that are being fetched are not kept. */
void copy_service_deleted(struct hf_node *node, const struct hf_oid *oids, uint32_t count);

/* meta_service.c */
void meta_service_request(struct hf_node *node, struct hf_rpc_request *req);
/** Answer "not the leader", naming it where it is known. */
void meta_service_not_leader(struct hf_node *node, struct hf_rpc_request *req);

/* leader_stores.c */
void leader_stores_init(struct hf_node *node, struct hf_leader_stores *ret);

/* raft_net.c: the log's messages */
void raft_net_init(struct hf_node *node, struct hf_raft_net *ret);
void raft_net_request(struct hf_node *node, struct hf_rpc_request *req);
void raft_net_free(struct hf_node *node);
void raft_net_check(const struct hf_node *node);

/* heartbeat.c */
void heartbeat_start(struct hf_node *node);
void heartbeat_stop(struct hf_node *node);
/** A copy went bad: tell the leader soon. */
void heartbeat_bad_object(void *ctx, const struct hf_oid *oid, int err);

/* admin_service.c */
void admin_service_request(struct hf_node *node, struct hf_rpc_request *req);

#endif
