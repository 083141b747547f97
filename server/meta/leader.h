/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader.h - the metadata service of the node that leads: log, state machine, what lives in memory.
 *
 *     op ──► propose ──► log (seglog, synced in batches) ──► hf_meta_apply ──► reply
 *     rd ──────────────────────────────────────────────────► hf_meta_read ──► reply
 *     timers ──► evict sessions, mark nodes down, purge, delete dead objects, copy degraded ones
 *
 * Leader memory: which session has which file open, lock waiters, when sessions and nodes were last
 * heard of, space promised to sessions. After a restart sessions count as just renewed and claim
 * their open files again with RENEW.
 *
 * In this version one node holds the metadata; the log is a single voter's. The next one puts Raft
 * between propose and apply; nothing outside this module sees the difference.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_LEADER_H
#define HF_META_LEADER_H

#include "common/env/env.h"
#include "common/wire/store_msg.h"
#include "server/meta/state.h"

struct hf_leader;

/** How the leader reaches the stores; server/node supplies it over RPC, tests as they like. */
struct hf_leader_stores {
    /** Delete objects on a node; done(0) when they are durably gone. */
    void (*delete_objects)(void *ctx, struct hf_node_id node, const struct hf_oid *oids,
                           uint32_t count, void (*done)(void *arg, int err), void *arg);
    /** Make @node fetch the object from one of @sources (mask), verified. */
    void (*copy_object)(void *ctx, struct hf_node_id node, const struct hf_meta_object *object,
                        uint64_t sources, void (*done)(void *arg, int err), void *arg);
    /** Objects of a group on a node, after @after; the entries are borrowed during done(). */
    void (*list_objects)(void *ctx, struct hf_node_id node, uint16_t group,
                         const struct hf_oid *after,
                         void (*done)(void *arg, int err, const struct hf_msg_list_reply *list),
                         void *arg);
    /** The map changed: tell the nodes. Borrowed during the call. */
    void (*map_changed)(void *ctx, const struct hf_map *map);
    void *ctx;
};

struct hf_leader_node { /* a node of the configuration, for formatting a new cluster */
    struct hf_node_id id;
    uint32_t weight;
    const char *addr;
    const char *domain;
};

struct hf_leader_options {
    const char *dir; /* metadata directory of this node: log/ and table/ below it */
    struct hf_uuid cluster;
    struct hf_bufpool *pool;
    struct hf_table_base *table_base;   /* taken; NULL: LMDB in DIR/table */
    const struct hf_leader_node *nodes; /* borrowed for the call */
    uint32_t node_count;
    uint32_t copies, min_copies, groups;
    bool objects_here;          /* this node's store holds objects: metadata that name them are gone
                                   rather than new, and are not made anew */
    uint64_t session_ttl_ns;    /* 0: 30 s */
    uint64_t node_timeout_ns;   /* a node unheard for this long is down; 0: 3 s */
    uint64_t reserve_bytes;     /* of the stores' space not promised to sessions; 0: 256 MiB */
    uint64_t log_segment_bytes; /* 0: 16 MiB; tests use small ones */
    struct hf_leader_stores stores;
};

/**
 * Open or create, replay the log. Blocks (start-up). Nodes of the options that the map does not
 * hold yet are added by a log entry.
 * @ret_error  on failure one sentence with what to do (malloc'd)
 */
int hf_leader_open(struct hf_env *env, const struct hf_leader_options *options,
                   struct hf_leader **ret, char **ret_error);
/** Start timers and background work. */
void hf_leader_start(struct hf_leader *leader);
/**
 * Finish the log write under way, checkpoint, close. Unanswered requests get -HF_ENOTREADY. Calls
 * to the stores under way are waited for (their caller may cancel them now); none is made any more.
 */
void hf_leader_close(struct hf_leader *leader, void (*done)(void *ctx), void *ctx);

/** reply (with its bulk) is borrowed during the callback. Exactly once, never before returning. */
typedef void (*hf_leader_done_fn)(void *ctx, const struct hf_meta_reply *reply);

/**
 * A mutation from a client, as its encoded bytes (they go into the log as they are).
 * @msg, @bulk  copied
 */
void hf_leader_op(struct hf_leader *leader, const void *msg, size_t msg_len, const void *bulk,
                  size_t bulk_len, hf_leader_done_fn done, void *ctx);
/** A look. Answered from the applied state; OPEN, RENEW, LOCK_WAIT and so on from memory. */
void hf_leader_read(struct hf_leader *leader, const struct hf_meta_read *rd, hf_leader_done_fn done,
                    void *ctx);
/** A store's heartbeat; tells it its state. */
void hf_leader_heartbeat(struct hf_leader *leader, const struct hf_msg_heartbeat *beat,
                         struct hf_msg_heartbeat_reply *ret);

const struct hf_map *hf_leader_map(const struct hf_leader *leader);
struct hf_meta *hf_leader_meta(struct hf_leader *leader);

struct hf_leader_node_info {
    struct hf_node_id id;
    bool heard;
    bool refused;           /* a store that is not the node's own claims its number */
    uint64_t last_heard_ns; /* monotonic */
    struct hf_msg_store_stats stats;
    uint64_t lacking; /* objects still to copy to it */
};
/** Returns the count. */
uint32_t hf_leader_nodes(struct hf_leader *leader, struct hf_leader_node_info *ret, uint32_t max);

struct hf_leader_status {
    uint64_t applied_index, synced_index, log_bytes;
    uint64_t checkpoint_index;
    uint64_t ops, reads, log_syncs;
    uint64_t copied_objects, copied_bytes, deleted_objects; /* since start */
    uint64_t copy_left, copy_rate_bytes; /* bytes still to copy (estimate); bytes per second */
    bool ready;
    int failed; /* the log or the table failed: this node serves no metadata any more */
};
void hf_leader_status(struct hf_leader *leader, struct hf_leader_status *ret);

struct hf_leader_session_info {
    struct hf_meta_session session;
    uint64_t idle_ns; /* since it was last heard of */
    uint64_t budget_bytes;
    uint32_t open_files;
};
uint32_t hf_leader_sessions(struct hf_leader *leader, struct hf_leader_session_info *ret,
                            uint32_t max);

#endif
