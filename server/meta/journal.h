/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - the metadata log of a single voter: entries in, the same entries out once durable.
 *
 *     propose ──► queue ──batch──► one seglog record, one sync ──► entry->done(0), in order
 *                   ▲                        │
 *                   └── what arrives while a sync runs makes the next batch
 *
 * The interface is the one that consensus will have: an entry gets (index, term) when it is
 * proposed and comes back when it is committed. With one voter, committed means durable here. Term
 * 1, no vote: the hard state is kept in each record for the version that needs it.
 *
 * A failed write or sync closes that segment; the batch was acknowledged to nobody and is written
 * again, in a new segment. When seglog itself gives up the journal has FAILED for good: every entry
 * fails, and every later one.
 *
 *   OPEN ──seglog broken──► FAILED
 *     └──────close────────► CLOSING ──idle──► (freed)
 *
 * Format: docs/format/meta-log.md. Threads: loop thread; writes run on HF_POOL_LOG.
 */
#ifndef HF_META_JOURNAL_H
#define HF_META_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/env/env.h"

struct hf_journal;

#define HF_JOURNAL_BATCH_BYTES   (2u << 20)
#define HF_JOURNAL_QUEUE_BYTES   (64u << 20)
#define HF_JOURNAL_SEGMENT_BYTES (16u << 20)

/** One entry; embedded by the proposer, alive (with msg and bulk) until done. */
struct hf_journal_entry {
    /** Loop thread, in order of index; never before hf_journal_propose() returned. */
    void (*done)(struct hf_journal_entry *entry, int err);
    const void *msg; /* 1 .. HF_RPC_MSG_MAX bytes */
    const void *bulk;
    uint32_t msg_len, bulk_len; /* bulk <= HF_FRAME_BULK_MAX */
    /* set by the journal: */
    uint64_t index, term;
    uint64_t time_ns; /* wall clock when proposed; never goes back */
    struct hf_journal_entry *next;
};

struct hf_journal_options {
    const char *dir;
    struct hf_bufpool *pool;
    struct hf_uuid identity;
    uint64_t
        segment_bytes; /* 0: HF_JOURNAL_SEGMENT_BYTES; smaller ones only where entries are small */
    uint64_t applied_index; /* of the checkpoint: entries above it are replayed */
    /** In order; non-zero ends hf_journal_open() with it. The entry is borrowed. */
    int (*replay)(void *ctx, const struct hf_journal_entry *entry);
    /** The journal FAILED; once, before the first entry fails. */
    void (*failed)(void *ctx, int err);
    void *ctx;
};

/**
 * Open or create, replay. Blocks (start-up).
 * @ret_error  on failure one sentence with what to do (malloc'd; may be NULL)
 * Errors: -EBADMSG  entries that were acknowledged are missing or unreadable
 *         those of hf_seglog_open(), or what replay returned
 */
int hf_journal_open(struct hf_env *env, const struct hf_journal_options *options,
                    struct hf_journal **ret, char **ret_error);

/** Append; entry->done tells. Errors, there: -EIO (FAILED), -HF_ENOTREADY (queue full, closing). */
void hf_journal_propose(struct hf_journal *journal, struct hf_journal_entry *entry);

/** A position behind everything committed so far: what a checkpoint taken now stands for. */
uint64_t hf_journal_position(const struct hf_journal *journal);
/** Nothing before @position will be replayed any more. In the background. */
void hf_journal_trim(struct hf_journal *journal, uint64_t position);

/** Wait for the write under way, fail what only waits, close. done never runs from within. */
void hf_journal_close(struct hf_journal *journal, void (*done)(void *ctx), void *ctx);
/** Give up one that was never proposed to; what its log still does ends on the loop. NULL: no-op.
 */
void hf_journal_abandon(struct hf_journal *journal);

struct hf_journal_status {
    uint64_t last_index;   /* proposed */
    uint64_t synced_index; /* committed */
    uint64_t replay_position;
    uint64_t log_bytes;
    uint64_t syncs;
    int failed;
};
void hf_journal_status(const struct hf_journal *journal, struct hf_journal_status *ret);

#endif
