/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.h - the metadata of one node: the state machine over its table, fed by a replicated log,
 * and, while this node leads, the leader that serves them.
 *
 *     log ──committed entries──► hf_replica_apply ──► state (table: memory over LMDB)
 *      ▲                              └─► answers of the leader's own proposals
 *      └─propose── leader (leader_impl.h) ◄── op, read, heartbeat
 *
 * A leader lives from hf_replica_lead() to hf_replica_follow(); its memory (which session has which
 * file open, lock waiters, when sessions and nodes were last heard of, space promised) goes with
 * it. A new one counts all sessions as just renewed, and they claim their open files again.
 *
 * Checkpoints: everything applied and durable in the log is merged into the table's base from time
 * to time; the log then lets go of what came before the checkpoint before.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_REPLICA_H
#define HF_META_REPLICA_H

#include "common/env/env.h"
#include "common/wire/store_msg.h"
#include "server/meta/mlog.h"
#include "server/meta/state.h"

struct hf_replica;

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

/** The table under the state. */
struct hf_replica_base {
    int (*open)(void *ctx, struct hf_table_base **ret);
    /** Put @path, made by hf_table_export and verified, in its place. The table over it is only
     *  looked at meanwhile, and opened anew afterwards. Worker. */
    int (*install)(void *ctx, const char *path);
    void *ctx;
};

struct hf_replica_options {
    const char *dir; /* metadata directory of this node: table/ below it */
    struct hf_uuid cluster;
    const struct hf_replica_base *base; /* copied; NULL: LMDB in DIR/table */
    const struct hf_leader_node *nodes; /* copied */
    uint32_t node_count;
    uint32_t copies, min_copies, groups;
    bool alone;               /* no other node has metadata: what is missing here is gone */
    uint64_t session_ttl_ns;  /* 0: 30 s */
    uint64_t node_timeout_ns; /* a node unheard for this long is down; 0: 3 s */
    uint64_t merge_delay_ns;  /* of its table, see there; 0: the default */
    uint64_t reserve_bytes;   /* of the stores' space not promised to sessions; 0: 256 MiB */
    struct hf_leader_stores stores;
};

/**
 * Open the table. Blocks (start-up).
 * @ret_error  on failure one sentence with what to do (malloc'd)
 */
int hf_replica_open(struct hf_env *env, const struct hf_replica_options *options,
                    struct hf_replica **ret, char **ret_error);
/** Once, before anything else: @log is copied, and answers by the functions below. */
void hf_replica_attach(struct hf_replica *replica, const struct hf_mlog *log);
/**
 * The log was closed before. Checkpoint, close. Unanswered requests get -HF_ENOTREADY. Calls to the
 * stores under way are waited for (their caller may cancel them now).
 */
void hf_replica_close(struct hf_replica *replica, void (*done)(void *ctx), void *ctx);
/** Give up one that nothing was attached to. NULL: no-op. */
void hf_replica_abandon(struct hf_replica *replica);

/* For the log */

/** Of the checkpoint that was opened; index 0: nothing was ever applied. */
void hf_replica_position(const struct hf_replica *replica, struct hf_mlog_position *ret);
/** @proposal  NULL, or what the leader here proposed; it has ended, unless there is an error.
 *  Errors: this replica cannot go on: the log fails, and with it the proposal. */
int hf_replica_apply(struct hf_replica *replica, const struct hf_mlog_entry *entry,
                     struct hf_mlog_proposal *proposal);
/** The log's configuration as long as no entry of kind MEMBERS was applied. */
void hf_replica_set_members(struct hf_replica *replica, const void *members, size_t len);
/** Errors: this replica cannot go on; somebody else has to lead. */
int hf_replica_lead(struct hf_replica *replica);
void hf_replica_follow(struct hf_replica *replica);
/** More of the log is durable. */
void hf_replica_durable(struct hf_replica *replica);
/** The log failed. -HF_EDIFFERS: by it, replicas were found to differ, and this is the odd one. */
void hf_replica_log_failed(struct hf_replica *replica, int err);
/** Write the newest checkpoint to @path; done later, exactly once. */
void hf_replica_save(struct hf_replica *replica, const char *path,
                     void (*done)(void *arg, int err, const struct hf_mlog_position *position,
                                  uint64_t bytes),
                     void *arg);
/** The state becomes what @path holds, which must stand for @index; done later, exactly once.
 *  Errors: -ENOTRECOVERABLE  this replica failed; others: the state is what it was. */
void hf_replica_load(struct hf_replica *replica, const char *path, uint64_t index,
                     void (*done)(void *arg, int err), void *arg);

/* For clients and stores */

/** reply (with its bulk) is borrowed during the callback. Exactly once, never before returning. */
typedef void (*hf_leader_done_fn)(void *ctx, const struct hf_meta_reply *reply);

/**
 * A mutation from a client, as its encoded bytes (they go into the log as they are).
 * @read_only   what changes anything is answered -EROFS
 * @msg, @bulk  copied
 */
void hf_replica_op(struct hf_replica *replica, bool read_only, const void *msg, size_t msg_len,
                   const void *bulk, size_t bulk_len, hf_leader_done_fn done, void *ctx);
/** A look. Answered from the applied state; OPEN, RENEW, LOCK_WAIT and so on from memory. */
void hf_replica_read(struct hf_replica *replica, const struct hf_meta_read *rd,
                     hf_leader_done_fn done, void *ctx);
/** A store's heartbeat; tells it its state. Errors: -HF_ENOTLEADER, from a failed leader too. */
int hf_replica_heartbeat(struct hf_replica *replica, const struct hf_msg_heartbeat *beat,
                         struct hf_msg_heartbeat_reply *ret);

/* Looking */

const struct hf_map *hf_replica_map(const struct hf_replica *replica);
struct hf_meta *hf_replica_meta(struct hf_replica *replica);
bool hf_replica_leads(const struct hf_replica *replica);
/** Of every row of the state as of the last entry applied. */
uint64_t hf_replica_digest(const struct hf_replica *replica);

struct hf_leader_node_info {
    struct hf_node_id id;
    bool heard;
    bool refused;           /* a store that is not the node's own claims its number */
    uint64_t last_heard_ns; /* monotonic */
    struct hf_msg_store_stats stats;
    uint64_t lacking; /* objects still to copy to it */
};
/** Returns the count; 0 where nobody leads. */
uint32_t hf_replica_nodes(struct hf_replica *replica, struct hf_leader_node_info *ret,
                          uint32_t max);

struct hf_replica_status {
    uint64_t applied_index, checkpoint_index;
    /* of the leader here, since it leads: */
    uint64_t ops, reads;
    uint64_t copied_objects, copied_bytes, deleted_objects;
    uint64_t copy_left, copy_rate_bytes; /* bytes still to copy (estimate); bytes per second */
    bool leads, ready;
    int failed; /* the log or the table failed: this node serves no metadata any more */
};
void hf_replica_status(struct hf_replica *replica, struct hf_replica_status *ret);

struct hf_leader_session_info {
    struct hf_meta_session session;
    uint64_t idle_ns; /* since it was last heard of */
    uint64_t budget_bytes;
    uint32_t open_files;
};
uint32_t hf_replica_sessions(struct hf_replica *replica, struct hf_leader_session_info *ret,
                             uint32_t max);

/** Between turns of the loop: the replica, those that lead or led here, and the table's layers. */
void hf_replica_check_invariants(struct hf_replica *replica);

#endif
