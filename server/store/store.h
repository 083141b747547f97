/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the object store of one node: immutable objects in segments, found through an index.
 *
 *     put ──► group commit ──► segment (O_DIRECT, fdatasync) ──► index row in memory ──► done
 *     get ──► index ──► pread of just the blocks asked for ──► data + stored checksums
 *     delete ──► tombstone record synced ──► index row gone ──► done
 *     compaction: a sealed segment with few live bytes is copied forward, its file recycled
 *
 * The store knows objects, lengths and checksums; nothing of files, RPC or the cluster. The caller
 * has verified a put's checksums against its bytes. Foreground reads are not verified here: the
 * client does that; hf_store_check() re-reads one object and verifies it.
 *
 * Threads: loop thread; appends and syncs run on HF_POOL_WRITE, reads and compaction on
 * HF_POOL_DISK. Every callback runs once, on the loop, never before its starter returned.
 */
#ifndef HF_STORE_STORE_H
#define HF_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/store_state.h"
#include "common/env/env.h"

struct hf_store;

/** Who a data directory belongs to; created once, checked at every start. */
struct hf_store_identity {
    struct hf_uuid cluster;
    struct hf_uuid store; /* made when the directory is */
    struct hf_node_id node;
};

struct hf_store_options {
    const char *dir; /* absolute; created when missing */
    struct hf_uuid cluster;
    struct hf_node_id node;
    struct hf_bufpool *pool;
    struct hf_table_base *index_base; /* taken; NULL: LMDB in DIR/index */
    uint64_t segment_bytes;           /* 0: 256 MiB; tests use small ones (>= 1 MiB) */
    uint64_t reserve_put_bytes;       /* puts stop below this much free space; 0: 512 MiB */
    uint64_t reserve_clean_bytes;     /* compaction stops below; 0: chosen, and the other is made
                                         so large that any segment can be moved where puts stop */
    uint64_t capacity_bytes;          /* use at most this much of the disk; 0: all of it */
    uint32_t segments_max;            /* each holds a file open: what there is room for ends with
                                         this many; 0: as many as there are */
    uint32_t compact_live_percent;    /* compact sealed segments below this; 0: 50 */
    /** A copy failed its check or could not be read; it is quarantined already. */
    void (*on_bad_object)(void *ctx, const struct hf_oid *oid, int err);
    void *ctx;
};

/**
 * Open or create; takes the directory's lock, checks or makes its identity, recovers segments,
 * rebuilds the index where it is missing, damaged or behind. Blocks (start-up).
 *
 * @ret_error  on failure, one sentence with what to do (malloc'd; may be NULL)
 * Errors: -EBUSY            another process has the directory
 *         -HF_EWRONGCLUSTER it belongs to another cluster or node
 *         -EACCES, -EIO, -ENOSPC, -ENOMEM
 */
int hf_store_open(struct hf_env *env, const struct hf_store_options *options, struct hf_store **ret,
                  char **ret_error);
/**
 * No operation of the caller may be in flight. Background work stops at its next boundary, then the
 * store goes; until then it holds its lock and buffers of the pool. What the index has only in
 * memory is replayed at the next open. NULL is a no-op, and done does not run.
 *
 * @done  NULL: nobody waits, and an idle store (hf_store_idle()) is closed on return, which blocks
 */
void hf_store_close(struct hf_store *store, void (*done)(void *ctx), void *ctx);
/** Neither an operation nor background work is running. */
bool hf_store_idle(const struct hf_store *store);

const struct hf_store_identity *hf_store_identity(const struct hf_store *store);

/* Put */

typedef void (*hf_store_put_fn)(void *ctx, int err);

struct hf_store_put {
    struct hf_oid oid;
    uint32_t len_bytes;   /* 1 .. HF_OBJECT_BYTES_MAX */
    struct hf_buf **bufs; /* borrowed until done: the bytes in order; each but the last a
                             multiple of 4 KiB long; the last one's tail up to the next
                             4 KiB is writable (it is zeroed) */
    uint32_t buf_count;
    const uint64_t *sums; /* borrowed until done: one per block */
    hf_store_put_fn done;
    void *ctx;
    void *impl[6];
};

/**
 * Store one object; done(0) means it is durable here. A repeated put of the same id with equal
 * length and checksums succeeds without writing.
 * Errors: -HF_ECONFLICT  the id exists with other contents, or was deleted
 *         -ENOSPC        below the reserve
 *         -EIO           the write failed; the segment is closed for good, try again (or elsewhere)
 */
void hf_store_put(struct hf_store *store, struct hf_store_put *put);

/* Get */

struct hf_store_range {
    uint32_t off_bytes; /* multiple of 4 KiB */
    uint32_t len_bytes; /* > 0; ends at a block boundary or at the object's end */
};

struct hf_store_get {
    struct hf_oid oid;
    struct hf_store_range range;
    /* results, valid in done(): */
    uint32_t object_len_bytes;
    struct hf_buf *buf; /* the bytes; owned by the caller after done(0) */
    uint64_t *sums;     /* one per block of the range; inside the op's own memory until done
                           returns: points into sums_buf */
    uint32_t sum_count;
    struct hf_buf *sums_buf; /* owned by the caller after done(0) */
    void (*done)(void *ctx, int err);
    void *ctx;
    void *impl[12];
};

/**
 * Read blocks and their stored checksums (unverified). A range past the end is cut; one that starts
 * past it is -EINVAL. Served inline from the page cache when that needs no waiting (done still runs
 * later, from a task).
 * Errors: -HF_ENOOBJECT, -HF_EQUARANTINED, -EIO (the copy is quarantined), -ENOMEM (pool limit)
 */
void hf_store_get(struct hf_store *store, struct hf_store_get *get);

/* Delete */

struct hf_store_delete {
    const struct hf_oid *oids; /* borrowed until done */
    uint32_t count;
    void (*done)(void *ctx, int err);
    void *ctx;
    void *impl[8];
};

/** Durable when done(0). Deleting what is not there succeeds (and is remembered no further). */
void hf_store_delete(struct hf_store *store, struct hf_store_delete *del);

/* Checking */

struct hf_store_check {
    struct hf_oid oid;
    uint32_t len_bytes; /* result */
    uint64_t digest;    /* result: hf_checksum_digest() of the stored vector */
    void (*done)(void *ctx, int err);
    void *ctx;
    void *impl[12];
};

/**
 * Re-read one object from the disk (past the page cache) and verify every block.
 * Errors: -HF_ENOOBJECT; -HF_ECHECKSUM or -EIO  bad: it is quarantined now; -HF_EQUARANTINED  was
 */
void hf_store_check(struct hf_store *store, struct hf_store_check *check);

/**
 * Replace a quarantined copy: like put, but the old copy is set aside only when the new one is
 * durable. Also succeeds where the object is missing.
 */
void hf_store_repair(struct hf_store *store, struct hf_store_put *put);

/* Looking */

struct hf_store_entry {
    struct hf_oid oid;
    uint32_t len_bytes;
    uint64_t digest;
    bool quarantined;
};

/**
 * Objects of one group in id order, after @after (NULL: from the first). From memory and index.
 * @ret_count  set; 0 at the end
 */
int hf_store_list(struct hf_store *store, uint16_t group, const struct hf_oid *after,
                  struct hf_store_entry *ret, uint32_t max, uint32_t *ret_count);
/** Errors: -HF_ENOOBJECT. */
int hf_store_lookup(struct hf_store *store, const struct hf_oid *oid, struct hf_store_entry *ret);

struct hf_store_stats {
    enum hf_store_state state;
    uint64_t capacity_bytes; /* what the store may use, with what it uses */
    uint64_t free_bytes;     /* for new puts, recycled and dead space counted */
    uint64_t live_bytes;     /* of objects, headers counted */
    uint64_t objects;
    uint64_t segments;
    uint64_t quarantined;
    uint64_t puts, gets, deletes;
    uint64_t put_bytes, get_bytes;
    uint64_t syncs;
    uint64_t compacted_segments, recycled_segments;
};

void hf_store_stats(struct hf_store *store, struct hf_store_stats *ret);

/** Compaction and index merges go on by themselves; this makes them start now (tests, commands). */
void hf_store_compact_now(struct hf_store *store);

void hf_store_check_invariants(struct hf_store *store);

#endif
