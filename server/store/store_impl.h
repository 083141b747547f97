/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_impl.h - the store's state, shared by its parts:
 *
 *     open.c     directory, identity, index or its rebuild, close
 *     index.c    rows, and what they add up to: per segment and in all
 *     put.c      put, repair            get.c    reads
 *     delete.c   deletions, notes       check.c  verification, quarantine
 *     compact.c  copying forward, recycling, index checkpoints, the tick
 *     store.c    looking: lists, statistics, space
 *
 * Rule: index rows change in the done callbacks of appends, in their order, so applied_seq names
 * exactly what the index holds: the mark of a checkpoint.
 */
#ifndef HF_STORE_STORE_IMPL_H
#define HF_STORE_STORE_IMPL_H

#include "common/table/table.h"
#include "server/seglog/seglog.h"
#include "server/store/store.h"
#include "server/store/store_format.h"
#include "server/store/sums_cache.h"

#define HF_STORE_SEGMENT_BYTES  (256ull << 20)
#define HF_STORE_TAIL_BYTES     (64ull << 10) /* headers, the table and the footer of a segment */
#define HF_STORE_RESERVE_PUT    (512ull << 20)
#define HF_STORE_SUMS_BYTES     (16u << 20)
#define HF_STORE_TICK_NS        HF_NS_PER_SEC
#define HF_STORE_IDLE_TICK_NS   (5 * HF_NS_PER_SEC)
#define HF_STORE_INFLIGHT_SLOTS 1024u

/** What the index knows of one segment. */
struct hf_store_segment {
    uint64_t number;
    uint64_t live_bytes; /* of objects, headers counted */
    uint64_t tombstones; /* rows of tombstones that lie here */
    bool forced;         /* compact whatever lives */
    bool lost;           /* gone or rotten at open, and objects were known in it: now quarantined */
    enum hf_store_dying {
        HF_STORE_NOT_DYING,
        HF_STORE_DYING,        /* the index in memory does not name it any more */
        HF_STORE_CHECKPOINTED, /* ... and the checkpoint that runs does not either */
        HF_STORE_DROPPING,
    } dying;
    uint64_t blocked_on;        /* segment that has to go first; 0: none */
    uint64_t pinned_live_bytes; /* what could not be moved: bad copies. They wait for repair */
    uint64_t retry_ns;          /* no sooner */
};

enum hf_store_inflight_kind { HF_STORE_IN_PUT, HF_STORE_IN_COPY, HF_STORE_IN_DELETE };

/** An object that an append in flight is about. Embedded in that append's operation. */
struct hf_store_inflight {
    struct hf_store_inflight *next; /* in its hash slot */
    struct hf_oid oid;
    enum hf_store_inflight_kind kind;
    const void *owner;
    uint64_t digest;
    uint32_t len_bytes;
    struct hf_store_put *followers; /* equal puts that wait for this one; by impl[0] */
};

struct hf_store_compaction; /* compact.c */

struct hf_store {
    struct hf_env *env;
    struct hf_disk *disk;
    struct hf_store_options options;
    struct hf_store_identity identity;
    char *dir;
    char *segments_dir;
    char *index_dir;
    struct hf_file *lock;
    struct hf_table *index;
    struct hf_seglog *log;
    struct hf_sums_cache *sums;
    uint64_t applied_seq;
    struct hf_store_segment *segments; /* in order of number */
    uint32_t segment_count;
    uint32_t segment_cap;
    struct hf_store_inflight *inflight[HF_STORE_INFLIGHT_SLOTS];
    uint32_t inflight_count;
    uint64_t pending_bytes;         /* of puts and copies in flight */
    struct hf_store_delete *parked; /* wait for what is in flight on their objects; by impl[0] */
    struct hf_store_delete **parked_tail;
    bool index_failed; /* a row could not be read or changed: no puts until the next start */
    uint32_t users;    /* operations and background work running; 0: may be freed */
    /* background: */
    struct hf_timer tick;
    bool active; /* something happened since the last tick */
    struct hf_store_compaction *compaction;
    bool compact_eagerly;
    bool checkpoint_running;
    bool checkpoint_wanted;
    uint32_t drops_running;
    bool closing;
    struct hf_timer close_poll;
    void (*close_done)(void *ctx);
    void *close_ctx;
    /* space: */
    struct hf_job space_job;
    bool space_running;
    struct hf_disk_space space;      /* as of the last look */
    struct hf_disk_space space_next; /* the job's */
    int space_err;
    uint64_t space_file_bytes; /* of the log's files then */
    struct hf_store_stats stats;
    uint64_t failures_told; /* of the log's writes, to the operator */
    uint64_t rot_records;   /* of the log, found at open */
};

/* index.c */

int hf_store_row_get(struct hf_store *store, const struct hf_oid *oid, struct hf_store_row *ret);
/** Replaces the row and adjusts what it adds up to. Errors: the table's; then index_failed. */
int hf_store_row_put(struct hf_store *store, const struct hf_oid *oid,
                     const struct hf_store_row *row);
int hf_store_row_del(struct hf_store *store, const struct hf_oid *oid);
/** +1 or -1 times @row; open's scan of the index. Errors: -ENOMEM. */
int hf_store_account(struct hf_store *store, const struct hf_store_row *row, int sign);
struct hf_store_segment *hf_store_segment_get(struct hf_store *store, uint64_t number);
struct hf_store_segment *hf_store_segment_find(struct hf_store *store, uint64_t number);
void hf_store_segment_forget(struct hf_store *store, uint64_t number);
uint64_t hf_store_record_bytes(const struct hf_store_row *row);
/** What a durable record means for the index; replay and running operations alike. */
int hf_store_apply_object(struct hf_store *store, const struct hf_store_object *object,
                          uint64_t seq, struct hf_seglog_pos pos, uint32_t header_bytes);
int hf_store_apply_note(struct hf_store *store, const struct hf_store_note *note, uint64_t seq,
                        struct hf_seglog_pos pos, uint32_t header_bytes);

/* In flight */
struct hf_store_inflight *hf_store_inflight_find(struct hf_store *store, const struct hf_oid *oid);
void hf_store_inflight_add(struct hf_store *store, struct hf_store_inflight *in);
void hf_store_inflight_remove(struct hf_store *store, struct hf_store_inflight *in);

/* put.c */
/** Verification of records nobody vouches for, at open. */
int hf_store_verify_record(void *ctx, const struct hf_seglog_record *record);

/* delete.c */
/** Try parked deletions again. */
void hf_store_unpark(struct hf_store *store);
/** Append a note without anybody waiting for it. */
void hf_store_note(struct hf_store *store, const struct hf_store_note *note);

/* check.c */
/** The copy that @row names is bad: set it aside, unless the index names another one by now. */
void hf_store_quarantine(struct hf_store *store, const struct hf_oid *oid,
                         const struct hf_store_row *row, int err);
/** Header and payload of @row in @buf, read in one go: everything as it should be? Pure. */
int hf_store_verify_copy(const struct hf_seglog_segment *segment, const struct hf_oid *oid,
                         const struct hf_store_row *row, const uint8_t *buf, uint64_t *sums);

/* compact.c */
void hf_store_background_start(struct hf_store *store);
void hf_store_background_stop(struct hf_store *store);
/** Something happened: see to it that the tick runs. */
void hf_store_wake(struct hf_store *store);
void hf_store_space_update(struct hf_store *store); /* blocks; at open */

/* store.c */
/** Bytes that can be written now without reclaiming anything. */
uint64_t hf_store_room(const struct hf_store *store);

/* open.c */
void hf_store_destroy(struct hf_store *store);

#endif
