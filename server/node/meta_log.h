/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_log.h - the metadata of a node on the replicated log: server/raft behind server/meta.
 *
 *     replica (server/meta) ──hf_mlog──► driver (server/raft) ──► network, disk
 *             ◄──apply, lead, follow, save, load───┘
 *
 * Threads: loop thread only.
 */
#ifndef HF_NODE_META_LOG_H
#define HF_NODE_META_LOG_H

#include "server/meta/replica.h"
#include "server/raft/driver.h"

struct hf_meta_log;

struct hf_meta_log_options {
    const char *dir; /* metadata directory of this node */
    struct hf_uuid cluster;
    struct hf_node_id self;
    const struct hf_node_id *members; /* metadata nodes of the configuration */
    uint32_t member_count;
    bool must_join;         /* as in hf_raft_driver_options */
    uint64_t segment_bytes; /* 0: the default */
    uint64_t keep_bytes;    /* 0: the default */
    uint64_t digest_every;  /* 0: the default */
    uint64_t election_ns, heartbeat_ns;
    struct hf_bufpool *pool;
    struct hf_raft_net net;
};

/**
 * Open the log of @replica, which is borrowed until close, and put it behind it.
 * Errors and @ret_error: those of hf_raft_driver_open()
 */
int hf_meta_log_open(struct hf_env *env, struct hf_replica *replica,
                     const struct hf_meta_log_options *options, struct hf_meta_log **ret,
                     char **ret_error);
void hf_meta_log_start(struct hf_meta_log *log);
/** The replica is told to follow; then done. */
void hf_meta_log_close(struct hf_meta_log *log, void (*done)(void *ctx), void *ctx);
/** Give up one that was never started. NULL: no-op. */
void hf_meta_log_abandon(struct hf_meta_log *log);

/** For messages, members and status. */
struct hf_raft_driver *hf_meta_log_driver(struct hf_meta_log *log);

#endif
