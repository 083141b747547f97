/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - one mount's session with the metadata: leader discovery, the numbered stream, ranges.
 *
 *     hf_session_op ──► stream number n ──► leader ──► reply n        resent in order after a lost
 *     hf_session_read ────────────────────► leader ──► reply          connection or a new leader
 *     renewals every ttl / 3: budget, map epoch, open files claimed again
 *
 *   OPENING ──opened──► LIVE ──fenced, or no contact for op_timeout──► LOST      CLOSED
 *
 * Mutations form one stream: each is applied exactly once and gets its own answer, in whatever way
 * connections and leaders come and go. A LOST session answers everything with -HF_EFENCED; nothing
 * of it enters another one.
 *
 * Threads: loop thread only.
 */
#ifndef HF_CLIENT_META_SESSION_H
#define HF_CLIENT_META_SESSION_H

#include "common/base/buf.h"
#include "common/env/env.h"
#include "common/placement/map.h"
#include "common/rpc/rpc.h"
#include "common/wire/meta_op.h"

struct hf_session;

struct hf_session_events {
    /** There is a newer map (hf_session_map()). May be NULL. */
    void (*map_changed)(void *ctx);
    /** The session is LOST; why: -HF_EFENCED or -ETIMEDOUT. May be NULL. */
    void (*lost)(void *ctx, int why);
    /** Inodes this mount holds open, to be claimed when a leader that does not know them asks:
     * pairs of inode and number. Fills at most @max numbers, returns how many: fewer than @max are
     * the last. @more: those behind what it returned before; else from the first. NULL: none. */
    uint32_t (*open_inodes)(void *ctx, bool more, uint64_t *ret, uint32_t max);
    void *ctx;
};

/** Unless options say otherwise: for so long calls wait for a cluster that does not get on. */
#define HF_OP_TIMEOUT_NS (120 * HF_NS_PER_SEC)

struct hf_session_options {
    const char *const *addrs; /* of the metadata nodes; copied */
    uint32_t addr_count;
    struct hf_uuid cluster;
    const char *name; /* for people: "host:/mnt" */
    struct hf_bufpool *pool;
    uint64_t ttl_ns;        /* asked for; 0: what the cluster's configuration says */
    uint64_t op_timeout_ns; /* without any contact for this long the session is LOST; 0: default */
    uint64_t open_timeout_ns; /* for hf_session_open(); 0: 10 s */
    bool read_only;           /* tools: no stream, no ranges; only looks are made (no session is
                                 opened at the leader; session id 0) */
    uint32_t claims_max;      /* numbers in one part of the claims, even; 0: as many as it takes */
    struct hf_session_events events;
};

struct hf_session_rights {
    bool read_only;   /* what changes anything is refused with -EROFS */
    bool root_squash; /* root is to be anon_uid, of the group anon_gid; the client sees to it */
    uint32_t anon_uid, anon_gid;
};

/** Errors: -ENOMEM, -EINVAL (addresses). */
int hf_session_new(struct hf_env *env, const struct hf_session_options *options,
                   struct hf_session **ret);
/**
 * Find the leader, open the session, fetch the map. done(0): LIVE.
 * Errors: -ETIMEDOUT, -ECONNREFUSED  no leader answered in time (hf_session_tried() lists what was
 *         tried), -HF_EWRONGCLUSTER
 */
void hf_session_open(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx);
/**
 * Wait for the stream to be answered, end the session at the leader; bounded by the op timeout, or
 * 5 s where nothing waits for an answer: the session then ends by itself, some time later.
 */
void hf_session_close(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx);
/** Calls in flight end with -ECANCELED before this returns. NULL is a no-op. */
void hf_session_free(struct hf_session *session);
/** Between turns of the loop: the stream is in order, and what waits has what ends its waiting. */
void hf_session_check_invariants(const struct hf_session *session);

/** "127.0.0.11:7400 (connection refused), ..." of the last attempt; borrowed until the next call.
 */
const char *hf_session_tried(struct hf_session *session);
bool hf_session_live(const struct hf_session *session);
struct hf_session_id hf_session_id(const struct hf_session *session);
/** What the leader allowed this client when the session was opened. */
struct hf_session_rights hf_session_rights(const struct hf_session *session);
/** Borrowed until events.map_changed. */
const struct hf_map *hf_session_map(const struct hf_session *session);
/** Someone was told that the map is old: fetch it soon. */
void hf_session_refresh_map(struct hf_session *session);
/** The metadata node at @addr did not answer at all just now: what else lives there is asked last.
 */
bool hf_session_silent(const struct hf_session *session, const char *addr);
/** Address of the leader in use, or "". */
const char *hf_session_leader(const struct hf_session *session);

/* Calls */

struct hf_meta_call;
/** @reply  borrowed until done returns; reply->err is the outcome */
typedef void (*hf_meta_done_fn)(struct hf_meta_call *call, const struct hf_meta_reply *reply);

struct hf_meta_call { /* embedded by the caller, alive until done */
    hf_meta_done_fn done;
    void *ctx;
    uint64_t stream; /* of a mutation: set when hf_session_op() returns */
    void *impl[48];
};

/**
 * Submit a mutation. session, stream, acked and (when 0) time_ns are filled in here; @op, its
 * pointers and its bulk are borrowed for the call only (encoded and copied).
 * done never before this returns; answers of different calls may come in any order.
 * Outcomes: the operation's; -HF_EFENCED (session LOST); -EMSGSIZE (too many extents: split).
 * At most HF_STREAM_WINDOW are in flight; more wait here in order.
 */
void hf_session_op(struct hf_session *session, const struct hf_meta_op *op,
                   struct hf_meta_call *call);
/** Submit a look; repeated until answered. -HF_EFENCED, -ETIMEDOUT as above. */
void hf_session_read(struct hf_session *session, const struct hf_meta_read *rd,
                     struct hf_meta_call *call);
/** Nobody waits for a look's answer any more: it is not sent, or not again, but ends with -EINTR;
 *  what was sent may still be answered. */
void hf_session_unwanted(struct hf_meta_call *call);
/** Highest stream number below which everything is answered. */
uint64_t hf_session_acked(const struct hf_session *session);
uint64_t hf_session_last_stream(const struct hf_session *session);

/* Ids leased to the session */

/** A fresh inode number. Errors: -EAGAIN  none left for the moment (more was asked for): call
 *  hf_session_wait_ino() and try again. */
int hf_session_next_ino(struct hf_session *session, struct hf_ino *ret);
void hf_session_wait_ino(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx);
/** A fresh object sequence; never fails on a LIVE session. */
uint64_t hf_session_next_object(struct hf_session *session);
/** Nothing below this object sequence will be committed any more; sent with renewals. */
void hf_session_set_floor(struct hf_session *session, uint64_t floor);

/* Space: bytes that may be dirty or uncommitted. */

/** Take @bytes of the budget. Errors: -EAGAIN  asking for more: hf_session_wait_budget();
 *  -ENOSPC  the cluster is full. */
int hf_session_take_budget(struct hf_session *session, uint64_t bytes);
void hf_session_give_budget(struct hf_session *session, uint64_t bytes);
/** What was taken lies in the stores now: gone until a renewal tells what is left there. */
void hf_session_spend_budget(struct hf_session *session, uint64_t bytes);
/** A store had no space for what the budget covered: nothing more for a second. */
void hf_session_no_space(struct hf_session *session);
/** done(0): try again; done(-ENOSPC): there is none. */
void hf_session_wait_budget(struct hf_session *session, uint64_t bytes,
                            void (*done)(void *ctx, int err), void *ctx);
/** What is granted ahead of need goes back, until the next renewal: others may have it. done(0). */
void hf_session_drop_spare(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx);

#endif
