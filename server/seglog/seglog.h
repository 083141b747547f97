/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seglog.h - an append-only, checksummed log of records in segment files, with group commit.
 *
 *     append ──► queue ──batch──► one pwritev + one fdatasync (worker) ──► done, in order of seq
 *
 *     DIR/0000000007.seg   sealed    [header ×2][record][record] ... [table][footer]
 *     DIR/0000000008.seg   open      [header ×2][record][record] ...
 *     DIR/0000000003.free  recycled: its blocks were written before, so overwriting syncs cheaply
 *
 * Two users: the object store (large segments, payload written in place from the caller's aligned
 * buffers, any dead segment dropped) and the metadata log (small segments, entries batched in one
 * record, tail truncated, head trimmed). docs/format/disk.md has every byte.
 *
 * Sequence numbers count records, consecutively; those of failed appends are used again, those of
 * truncated records are not. Recovery keeps what was synced: an invalid record at or below the
 * highest `synced` mark seen is rot (reported, the records behind it are still found), above it a
 * torn tail (cut; it never comes back, whatever is written later).
 *
 * A failed write or sync closes the segment for good: its unsynced appends, and those queued behind
 * them, fail; the next append opens a new segment. After three failures in a row the log is broken:
 * every append fails with -EIO until it is opened anew.
 *
 * Threads: loop thread unless said otherwise; writes and syncs run on the pool given.
 */
#ifndef HF_SEGLOG_SEGLOG_H
#define HF_SEGLOG_SEGLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/ids.h"
#include "common/env/env.h"

struct hf_seglog;
struct hf_seglog_segment;

#define HF_SEGLOG_META_MAX     12224u      /* three header pages less the fixed part */
#define HF_SEGLOG_BRIEF_BYTES  64u         /* of the meta bytes, kept in a sealed segment's table */
#define HF_SEGLOG_PAYLOAD_MAX  (16u << 20) /* and never more than fits an empty segment */
#define HF_SEGLOG_TYPE_MAX     0xefu       /* types 1 .. this are the user's */
#define HF_SEGLOG_FAILURES_MAX 3u          /* in a row, then the log is broken */

struct hf_seglog_pos {
    uint64_t segment;
    uint64_t off_bytes; /* of the record's header */
};

/** One record as replay and scans see it. All pointers are borrowed for the call. */
struct hf_seglog_record {
    uint64_t seq;
    struct hf_seglog_pos pos;
    uint8_t type;
    uint32_t header_bytes; /* whole pages; the payload follows */
    uint32_t payload_len_bytes;
    uint32_t meta_len_bytes;
    const uint8_t *meta;
    uint32_t meta_have_bytes; /* without options.replay_payload perhaps only the first
                                 HF_SEGLOG_BRIEF_BYTES, when they come from a table */
    const uint8_t *payload;   /* with options.replay_payload; else NULL */
};

struct hf_seglog_options {
    const char *dir; /* absolute; created when missing; copied */
    enum hf_pool_kind pool;
    uint64_t segment_bytes; /* multiple of 4 KiB, >= 64 KiB; of new files */
    bool prezero;           /* write zeros into new files, ahead of need (else only allocate) */
    uint32_t spares;        /* recycled files kept (with prezero also made); the rest unlinked */
    struct hf_uuid identity;
    bool replay_payload; /* replay gives whole meta and payload, checksums verified */
    bool contiguous;     /* only ever trimmed at the head: a segment missing in the middle is rot */
    uint64_t
        whole_meta_types;  /* bit n: replay and scans give the whole meta of records of type n */
    uint64_t replay_after; /* replay records with higher numbers only */
    uint64_t known_synced; /* the user knows that records up to here were synced */
    uint64_t known_number; /* ... of a segment of this number: no file gets it again */
    /** Every record in order, truncated ones left out. Non-zero ends hf_seglog_open() with it. */
    int (*replay)(void *ctx, const struct hf_seglog_record *record);
    /** Records first .. last were synced and are unreadable (at @pos; segment 0: unknown). */
    void (*rot)(void *ctx, uint64_t first_seq, uint64_t last_seq, struct hf_seglog_pos pos);
    /**
     * Is the payload whole? Asked at open for records above the synced mark that carry no payload
     * checksum. Error: cut here. NULL: trusted.
     */
    int (*verify)(void *ctx, const struct hf_seglog_record *record);
    void *ctx;
};

/**
 * Open or create, recover, replay. Blocks (start-up). Leaves a fresh open segment when there is
 * space for one; else the first append tries. The log is idle on return. Each segment keeps a file
 * open.
 * Errors: -ENOMEM, -EIO, -ENOSPC, -EACCES, -EMFILE, -ENFILE, -HF_EWRONGCLUSTER (a segment of
 *         another identity), or what replay returned
 */
int hf_seglog_open(struct hf_env *env, const struct hf_seglog_options *options,
                   struct hf_seglog **ret);
/** Nothing may be in flight (hf_seglog_idle()). Seals what is open; blocks. NULL is a no-op. */
void hf_seglog_close(struct hf_seglog *log);
/** No append, read, drop or preparation of a spare is running. */
bool hf_seglog_idle(const struct hf_seglog *log);

/* Appending */

struct hf_seglog_append {
    uint8_t type;     /* 1 .. HF_SEGLOG_TYPE_MAX */
    bool sum_payload; /* the log checksums the payload; else the user does, in the meta bytes */
    bool aligned;     /* every iov base is 4 KiB aligned and each but the last a multiple of 4 KiB
                         long; the last one's tail up to the next 4 KiB is writable (zeroed).
                         Else the payload is copied. */
    const void *meta;
    uint32_t meta_len_bytes;
    const struct iovec *iov;
    uint32_t iov_count;
    uint32_t payload_len_bytes; /* sum of the iov */
    void (*done)(void *ctx, int err);
    void *ctx;
    /* results: seq when the starter returns; pos in done(0) */
    uint64_t seq;
    struct hf_seglog_pos pos;
    uint32_t header_bytes;
    /* the log's own: */
    struct hf_seglog_append *next;
    uint64_t truncate_from;
    uint8_t truncate_meta[8];
    int err;
};

/**
 * Append one record; done(0) means it and every record before it is durable. Meta, iov and payload
 * are borrowed until done. Callbacks run in order of seq.
 * Errors: -EIO     the write or sync failed (nobody knows what is on the disk; recovery may only
 *                  find the record if nothing was appended after the failure)
 *         -ENOSPC  no room for a new segment, not even a small one, be it for a quota, or as many
 *                  files are open as may be; nothing was written
 *         -EFBIG   larger than an empty segment
 */
void hf_seglog_append(struct hf_seglog *log, struct hf_seglog_append *op);

/**
 * Drop the records @seq .. last, those in flight included: they are never replayed nor read again.
 * Itself an append (type and contents of @op are ignored); durable when done(0). The dropped
 * numbers are not used again: the next append gets op->seq + 1.
 */
void hf_seglog_truncate_tail(struct hf_seglog *log, uint64_t seq, struct hf_seglog_append *op);

/**
 * Drop whole segments that only hold records below @seq, and unreadable ones before them. In the
 * background; what failed is tried again with the next call.
 */
void hf_seglog_trim_head(struct hf_seglog *log, uint64_t seq);

/** The number of the last record appended (perhaps not yet durable); 0: none ever. */
uint64_t hf_seglog_last_seq(const struct hf_seglog *log);
/** Everything up to here is durable. */
uint64_t hf_seglog_synced_seq(const struct hf_seglog *log);
/** The lowest number still held; last + 1 when there is none. */
uint64_t hf_seglog_first_seq(const struct hf_seglog *log);
/** Broken: failed HF_SEGLOG_FAILURES_MAX times in a row. */
bool hf_seglog_broken(const struct hf_seglog *log);

/* Reading by sequence number */

struct hf_seglog_read {
    uint64_t seq;
    void (*done)(void *ctx, int err);
    void *ctx;
    /* results, in done(0): one allocation, the caller's to free() */
    uint8_t *buf;
    uint8_t type;
    const uint8_t *meta; /* within buf */
    uint32_t meta_len_bytes;
    const uint8_t *payload; /* within buf */
    uint32_t payload_len_bytes;
    /* the log's own: */
    struct hf_job job;
    struct hf_seglog *log;
    struct hf_seglog_segment *segment;
    uint64_t off_bytes; /* 0: look it up in the segment's table */
    uint32_t header_bytes;
    uint32_t record_bytes;
    int err;
};

/**
 * Read one durable record back; runs on HF_POOL_DISK. Verifies header and payload checksum.
 * Errors: -ENOENT  trimmed, truncated or never written; -EBADMSG  rot; -EIO, -ENOMEM
 */
void hf_seglog_read(struct hf_seglog *log, struct hf_seglog_read *op);

/* Segments, for the object store */

enum hf_seglog_segment_state {
    HF_SEGMENT_OPEN,
    HF_SEGMENT_SEALED,
    HF_SEGMENT_UNSEALED, /* closed, but its table could not be written */
    HF_SEGMENT_FAILED,   /* a write or sync failed */
    HF_SEGMENT_ROTTEN,   /* both header copies are unreadable: not even scanned */
};

struct hf_seglog_segment_info {
    uint64_t number;
    enum hf_seglog_segment_state state;
    uint64_t file_bytes;
    uint64_t end_bytes; /* end of its last record */
    uint64_t first_seq;
    uint64_t last_seq; /* first_seq - 1: empty */
    bool dropping;
};

/** Calls fn for each segment in order of number; fn must not append or drop. */
void hf_seglog_segments(const struct hf_seglog *log,
                        void (*fn)(void *ctx, const struct hf_seglog_segment_info *info),
                        void *ctx);
bool hf_seglog_has_segment(const struct hf_seglog *log, uint64_t number);
/** It is there and not rotten. */
bool hf_seglog_segment_readable(const struct hf_seglog *log, uint64_t number);

/** Keep a segment's file from being recycled. NULL: there is no such segment. */
struct hf_seglog_segment *hf_seglog_segment_ref(struct hf_seglog *log, uint64_t number);
void hf_seglog_segment_unref(struct hf_seglog *log, struct hf_seglog_segment *segment);
/** For buffered reads. Borrowed from the reference. Any thread. */
struct hf_file *hf_seglog_segment_file(const struct hf_seglog_segment *segment);
/** Open the file anew for O_DIRECT reading; the caller closes it. Worker. */
int hf_seglog_segment_open_direct(const struct hf_seglog_segment *segment, struct hf_file **ret);
/**
 * Decode a record header read from @off_bytes. @page: @len_bytes of it, at least one page.
 * Pure; any thread. Errors: -EBADMSG  invalid; -ERANGE  valid so far, but *ret_need bytes needed
 */
int hf_seglog_segment_decode(const struct hf_seglog_segment *segment, uint64_t off_bytes,
                             const uint8_t *page, size_t len_bytes, struct hf_seglog_record *ret,
                             size_t *ret_need);
/**
 * Every record of a closed segment, from its table or, where that is damaged, from a scan. Worker.
 * @rot  byte ranges where records were expected and not found; may be NULL
 */
int hf_seglog_segment_scan(const struct hf_seglog_segment *segment,
                           int (*fn)(void *ctx, const struct hf_seglog_record *record),
                           void (*rot)(void *ctx, uint64_t off_bytes, uint64_t end_bytes),
                           void *ctx);

/**
 * Drop one closed segment and recycle its file (a failed one is unlinked) once nobody holds a
 * reference; done after that is durable. The caller made sure that nothing needs it. After another
 * error than these the segment is still there, and may be dropped again.
 * Errors: -EBUSY  it is open, or an older unsealed segment (@blocked_by) has to go first; -ENOENT
 */
struct hf_seglog_drop {
    uint64_t segment;
    void (*done)(void *ctx, int err);
    void *ctx;
    /* result: */
    uint64_t blocked_by; /* with -EBUSY; 0: it is open */
    /* the log's own: */
    struct hf_job job;
    struct hf_task task;
    struct hf_seglog *log;
    struct hf_seglog_drop *next;
    struct hf_seglog_segment *target;
    uint64_t number;
    bool reuse;
    int err;
};
void hf_seglog_drop_segment(struct hf_seglog *log, struct hf_seglog_drop *op);
/** Close the open segment and go on in a new one, so that it can be dropped; with the next append.
 */
void hf_seglog_roll(struct hf_seglog *log);

struct hf_seglog_stats {
    uint64_t segments;
    uint64_t spares;
    uint64_t spare_bytes;
    uint64_t file_bytes; /* of segments and spares */
    uint64_t open_room_bytes;
    uint64_t appends, batches, syncs;
    uint64_t bytes_written; /* of records, padding included */
    uint64_t failures;
    uint64_t recycled; /* files used again */
};
void hf_seglog_stats(const struct hf_seglog *log, struct hf_seglog_stats *ret);

void hf_seglog_check_invariants(const struct hf_seglog *log);

#endif
