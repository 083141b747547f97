/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mlog.h - what the metadata need of a replicated log: entries in, the same entries out on every
 * replica once they are committed. server/node puts server/raft behind it.
 *
 *     leader   propose ──► log ──► hf_replica_apply(entry, proposal)      or failed(err)
 *              read    ──► log ──► done(0): the state holds all that was committed before
 *     others               log ──► hf_replica_apply(entry, NULL)
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_MLOG_H
#define HF_META_MLOG_H

#include <stddef.h>
#include <stdint.h>

#define HF_MLOG_MEMBERS_MAX 64u /* bytes of an encoded configuration */

/** A mutation to be logged; embedded, alive (with msg and bulk) until it ended. */
struct hf_mlog_proposal {
    const void *msg, *bulk; /* msg 1 .. HF_RPC_MSG_MAX bytes */
    uint32_t msg_len, bulk_len;
    /** It was not committed here; a later leader may still commit it. Never from within propose.
     *  -HF_ENOTLEADER, -HF_ENOTREADY (closing), -EIO (the only voter failed). */
    void (*failed)(struct hf_mlog_proposal *proposal, int err);
    void *impl[8]; /* the log's */
};

struct hf_mlog_read {
    /** As failed() where err is not 0. May run from within read. */
    void (*done)(struct hf_mlog_read *read, int err);
    void *impl[8];
};

struct hf_mlog {
    void (*propose)(void *ctx, struct hf_mlog_proposal *proposal);
    void (*read)(void *ctx, struct hf_mlog_read *read);
    /** The state up to @index is checkpointed: the log may let go of entries up to there. */
    void (*checkpointed)(void *ctx, uint64_t index);
    /** Entries up to here are on this disk: a checkpoint must not be ahead of it. */
    uint64_t (*durable)(void *ctx);
    /** This replica cannot go on: its log fails, at once or before this turn of the loop ends, and
     *  the leader here is told to follow, or that it failed. */
    void (*give_up)(void *ctx, int err);
    void *ctx;
};

enum hf_mlog_kind {
    HF_MLOG_NOOP = 1, /* counts, changes nothing */
    HF_MLOG_OP,       /* msg, bulk: an encoded hf_meta_op */
    HF_MLOG_MEMBERS,  /* msg: the configuration from here on, kept with the state, not looked at */
};

struct hf_mlog_entry {
    uint64_t index, term;
    uint64_t time_ns;
    enum hf_mlog_kind kind;
    const uint8_t *msg, *bulk;
    uint32_t msg_len, bulk_len;
};

/** What a state stands for. */
struct hf_mlog_position {
    uint64_t index, term;
    uint8_t members[HF_MLOG_MEMBERS_MAX];
    size_t members_len;
};

#endif
