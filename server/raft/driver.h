/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - one node's part in the replicated log: carries out what the Raft core decides.
 *
 *     propose ──► queue ──batch──► core ──► log (seglog, synced) ──┐
 *                                   └─────► peers (one-way messages) ──► committed ──► apply
 *     read ─────► queue ──batch──► core ──► a round of heartbeats ─────► done
 *
 * The driver owns the bytes of every entry from its proposal or arrival until it is committed,
 * applied, checkpointed and no longer kept for peers that lag; the log on disk is only read at
 * start. The state machine above it (server/meta) is known by a few functions, the network below
 * by two.
 *
 *   FOUNDING ──all founders met──► RUNNING ──disk gives up──► FAILED       any ──close──► CLOSING
 *                                         ──state differs──►
 *
 * A store that was never a member does nothing until it knows what it is: with an empty store on
 * every node of the configuration the lowest one founds the cluster; where a cluster exists the
 * store joins it, abstaining until the leader has made it a learner and caught it up.
 *
 * docs/design/raft.md has the contract with the core, docs/format/raft.md every byte.
 * Threads: loop thread only; writes run on HF_POOL_LOG, snapshots on HF_POOL_DISK.
 */
#ifndef HF_RAFT_DRIVER_H
#define HF_RAFT_DRIVER_H

#include "common/base/buf.h"
#include "common/env/env.h"
#include "server/raft/wire.h"

struct hf_raft_driver;

#define HF_RAFT_ELECTION_NS   HF_NS_PER_SEC
#define HF_RAFT_HEARTBEAT_NS  (200 * HF_NS_PER_MS)
#define HF_RAFT_ENTRY_MAX     HF_FRAME_BULK_MAX /* bytes of one entry, its head included */
#define HF_RAFT_SEGMENT_BYTES (16u << 20)
#define HF_RAFT_KEEP_BYTES    (16u << 20) /* of log kept below the checkpoint, for peers that lag */
#define HF_RAFT_KEEP_ENTRIES  65536u
#define HF_RAFT_PIN_BYTES     (256u << 20) /* of log kept while a peer gets a snapshot */
#define HF_RAFT_DIGEST_EVERY  1024u /* entries from one digest that is compared to the next */

/** A mutation to be logged; embedded by its proposer, alive (with msg and bulk) until it ended. */
struct hf_raft_proposal {
    const void *msg, *bulk;
    uint32_t msg_len, bulk_len;
    /**
     * It was not committed by this leader; it may still be by the next one. Never from within
     * hf_raft_driver_propose(). -HF_ENOTLEADER, -HF_ENOTREADY (closing), -EIO (FAILED).
     * A proposal that succeeds comes back with its entry in machine.apply() instead.
     */
    void (*failed)(struct hf_raft_proposal *proposal, int err);
    struct hf_raft_proposal *next; /* the driver's */
};

/** A question that must not be answered from a state that is behind. */
struct hf_raft_read {
    /** 0: the state holds everything committed before the question. -HF_ENOTLEADER and so on.
     *  May run from within hf_raft_driver_read(). */
    void (*done)(struct hf_raft_read *read, int err);
    /* the driver's: */
    struct hf_raft_read *next;
    uint64_t id, index;
};

/** A checkpoint as a file, for a peer. */
struct hf_raft_snapshot {
    uint64_t index, term, total_bytes;
    struct hf_raft_config config;
};

/** The state machine. Every function is called on the loop. */
struct hf_raft_machine {
    /**
     * Committed entries of every type, in order of index, each once. @proposal: what it was
     * proposed with, when that was here and leadership was not lost since; it has ended now.
     * Errors: this replica cannot go on: FAILED. The proposal has not ended: its failed() will run.
     */
    int (*apply)(void *ctx, const struct hf_raft_entry *entry, struct hf_raft_proposal *proposal);
    /** Who founded the cluster: the configuration until an entry of type CONFIG says otherwise. */
    void (*members)(void *ctx, const struct hf_raft_config *config);
    /** This node leads, and everything that any earlier leader committed is applied.
     *  Errors: this replica cannot go on: FAILED, so that somebody else leads. */
    int (*lead)(void *ctx, uint64_t term);
    /** It does not any more (after lead() only); proposals have failed before. */
    void (*follow)(void *ctx);
    /** More of the log is durable: a checkpoint may be possible now. */
    void (*durable)(void *ctx);
    /** FAILED; once. -HF_EDIFFERS: the state differs from that of a majority, or did before the
     *  restart. A leader was told to follow before, where another node can lead. */
    void (*failed)(void *ctx, int err);
    /** Of the state as of the last entry applied; members compare. NULL: they do not. */
    uint64_t (*digest)(void *ctx);
    /** Write the newest checkpoint to @path; done(err, snapshot) later, exactly once. */
    void (*snapshot_save)(void *ctx, const char *path,
                          void (*done)(void *arg, int err, const struct hf_raft_snapshot *snapshot),
                          void *arg);
    /** The state becomes what the file holds, if that is whole; done(err) later, exactly once.
     * After an error it is in memory what it was before; on the disk it may be either.
     *  -ENOTRECOVERABLE: in memory it is neither: FAILED. */
    void (*snapshot_load)(void *ctx, const char *path, uint64_t index, uint64_t term,
                          const struct hf_raft_config *config, void (*done)(void *arg, int err),
                          void *arg);
    void *ctx;
};

/** The network. */
struct hf_raft_net {
    /** One-way, in order to each peer, may be lost. Pieces and array are borrowed until release. */
    void (*send)(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                 const struct iovec *iov, int iov_count, void (*release)(void *arg), void *arg);
    /** A question to another node's hf_raft_driver_asked(). done later, exactly once. */
    void (*ask)(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                void (*done)(void *arg, int err, const void *msg, size_t msg_len), void *arg);
    void *ctx;
};

struct hf_raft_driver_options {
    const char *dir; /* log/, vote/ and snapshots below it; created when missing */
    struct hf_uuid cluster;
    struct hf_node_id self;
    const struct hf_node_id *members; /* metadata nodes of the configuration, self among them */
    uint32_t member_count;
    bool must_join;         /* what this node holds tells of a cluster: found no new one */
    uint64_t segment_bytes; /* 0: HF_RAFT_SEGMENT_BYTES; smaller where entries are small */
    uint64_t keep_bytes;    /* 0: HF_RAFT_KEEP_BYTES */
    uint64_t pin_bytes;     /* 0: HF_RAFT_PIN_BYTES */
    uint64_t digest_every;  /* 0: HF_RAFT_DIGEST_EVERY; the same on all nodes */
    uint64_t election_ns, heartbeat_ns; /* 0: the defaults */
    struct hf_bufpool *pool;
    struct hf_raft_snapshot applied; /* of the state machine's checkpoint; index 0: it is empty */
    struct hf_raft_machine machine;
    struct hf_raft_net net;
};

/**
 * Open or create, read the log. Blocks (start-up).
 * @ret_error  on failure one sentence with what to do (malloc'd; may be NULL)
 * Errors: -EBADMSG  the only voter's log is damaged; those of hf_seglog_open()
 */
int hf_raft_driver_open(struct hf_env *env, const struct hf_raft_driver_options *options,
                        struct hf_raft_driver **ret, char **ret_error);
/** Take part. Callbacks run from here on. */
void hf_raft_driver_start(struct hf_raft_driver *driver);
/** Proposals and reads end, what is being written is waited for; no callback but done after it. */
void hf_raft_driver_close(struct hf_raft_driver *driver, void (*done)(void *ctx), void *ctx);
/** Give up one that was never started. NULL: no-op. */
void hf_raft_driver_abandon(struct hf_raft_driver *driver);

/** @proposal ends in machine.apply() or failed(), never from within. */
void hf_raft_driver_propose(struct hf_raft_driver *driver, struct hf_raft_proposal *proposal);
void hf_raft_driver_read(struct hf_raft_driver *driver, struct hf_raft_read *read);
/** The state up to @index is checkpointed durably: the log may go, but for what peers may need. */
void hf_raft_driver_checkpointed(struct hf_raft_driver *driver, uint64_t index);

/** The machine cannot go on, as it found by itself: FAILED, at once or when the step under way
 *  ends. No-op where the driver failed before, or closes. */
void hf_raft_driver_give_up(struct hf_raft_driver *driver, int err);

/** A message of method HF_M_RAFT; @bulk may be NULL. Everything is checked. */
void hf_raft_driver_received(struct hf_raft_driver *driver, struct hf_node_id from, const void *msg,
                             size_t msg_len, struct hf_buf *bulk);
/** HF_M_RAFT_FOUND: answer. Errors: -EBADMSG. */
int hf_raft_driver_asked(struct hf_raft_driver *driver, const void *msg, size_t msg_len,
                         uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
/** The connection to a peer was lost. */
void hf_raft_driver_unreachable(struct hf_raft_driver *driver, struct hf_node_id peer);

/**
 * Members. Learners that are whole and caught up become voters by themselves, voters that lost
 * their store start over as learners by themselves.
 * @ret_error  on failure one sentence with what to do, static
 */
int hf_raft_driver_add(struct hf_raft_driver *driver, struct hf_node_id node,
                       const char **ret_error);
int hf_raft_driver_remove(struct hf_raft_driver *driver, struct hf_node_id node,
                          const char **ret_error);
/** @target 0: whoever is furthest. */
int hf_raft_driver_transfer(struct hf_raft_driver *driver, struct hf_node_id target,
                            const char **ret_error);

/** Times of day that differ by more are warned of. */
#define HF_RAFT_CLOCK_APART_S 60

enum hf_raft_driver_state {
    HF_RAFT_FOUNDING,
    HF_RAFT_RUNNING,
    HF_RAFT_FAILED,
    HF_RAFT_CLOSING,
};

/** The state of another member, and the one here. */
struct hf_raft_compared {
    uint64_t index; /* the newest that both had noted; 0: none yet */
    bool equal;     /* then */
    bool taken_out; /* it says so */
};

struct hf_raft_driver_status {
    enum hf_raft_driver_state state;
    enum hf_raft_role role; /* RUNNING */
    bool leading;           /* machine.lead() was called */
    bool transferring;      /* leadership is being handed over */
    bool abstaining;
    bool taken_out; /* the state differs: FAILED, until the directory was removed */
    uint64_t term;
    struct hf_node_id leader; /* 0: unknown */
    uint64_t last_index, commit_index, applied_index, durable_index, base_index;
    uint64_t log_bytes, kept_bytes; /* on disk; in memory */
    uint64_t syncs;
    struct hf_raft_config config;
    struct hf_raft_peer_status peers[HF_RAFT_MEMBERS_MAX]; /* as in config; leader only */
    struct hf_raft_compared compared[HF_RAFT_MEMBERS_MAX]; /* as in config */
    uint64_t now_ns;                                       /* what heard_ns compares with */
    int64_t clock_ahead_s[HF_RAFT_MEMBERS_MAX]; /* as in config: of this node's time of day */
    char waiting_for[160];                      /* FOUNDING: for people; else "" */
};
void hf_raft_driver_status(const struct hf_raft_driver *driver, struct hf_raft_driver_status *ret);
/** Of whoever leads, 0: unknown. Cheap. */
struct hf_node_id hf_raft_driver_leader(const struct hf_raft_driver *driver);
/** Everything up to here is on this disk. Cheap. */
uint64_t hf_raft_driver_durable(const struct hf_raft_driver *driver);
/** Between turns of the loop: driver, core and disk agree. Walks the whole log, in memory. */
void hf_raft_driver_check_invariants(const struct hf_raft_driver *driver);

#endif
