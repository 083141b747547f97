/* SPDX-License-Identifier: Apache-2.0 */
/*
 * txn.h - one operation's changes to the rows: all of them or, when it fails, none.
 *
 *     begin ──► get, put, del, inode_get.. ──┬─► commit: inodes touched are written once
 *                                            └─► roll back: old values put again, newest first
 *
 * Also holds the state machine's memory: counters, the map, the streams of the sessions.
 *
 * Errors here are of two kinds. What the operation is answered with (-ENOENT, -EEXIST, ...), and
 * -EIO, -EBADMSG, -ENOMEM: the replica cannot go on; they stick in meta->failed.
 */
#ifndef HF_META_TXN_H
#define HF_META_TXN_H

#include "common/base/assert.h"
#include "server/meta/extents.h"
#include "server/meta/rows.h"
#include "server/meta/state.h"

/* An inode an operation works on; written at commit. */
struct hf_inode_slot {
    struct hf_inode inode; /* first: slots are found from it */
    bool dirty;
    bool touched; /* version and ctime are new already */
    bool gone;    /* deleted at commit */
};

/* What an operation changes about an object's references; applied at commit. */
struct hf_object_delta {
    struct hf_oid oid;
    int64_t refs;
    int64_t live_bytes;
    bool is_new; /* enters with this operation: the rest says how */
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t lacking;
};

/* Find an element of an array by a 64-bit hash; cleared cheaply between operations. */
struct hf_opindex {
    uint32_t *at;  /* index + 1; 0: free */
    uint32_t size; /* power of two */
    uint32_t count;
};

/* Counters that are not rows: they travel in the checkpoint's mark. */
struct hf_meta_counters {
    uint64_t applied, term;
    uint64_t next_session;
    uint64_t next_ino; /* multiple of HF_BITMAP_BITS */
    struct hf_meta_usage usage;
};

/* A live session's stream. The rows of its results are [low, last]. */
struct hf_stream_state {
    struct hf_session_id session;
    uint64_t last; /* applied; 0: none yet */
    uint64_t low;  /* oldest result kept */
};

struct hf_meta {
    struct hf_table *table;
    int failed; /* sticky */
    struct hf_meta_counters c;
    uint8_t members[HF_MLOG_MEMBERS_MAX]; /* of the log; opaque */
    size_t members_len;
    struct hf_row_format format; /* group_count 0: not formatted */
    struct hf_map map;
    bool map_changed;        /* by this operation */
    uint64_t name_hash_mask; /* all ones; tests narrow it so that names collide */

    struct hf_stream_state *streams; /* ascending id */
    uint32_t stream_count, stream_cap;

    /* the operation under way */
    const struct hf_meta_entry *entry;
    uint64_t latest_ns; /* the leader's time and some: no other may be later */
    uint64_t now_ns;    /* the client's time, no later than that */
    bool in_txn;
    struct hf_meta_counters saved;
    uint8_t *journal; /* old values, for rolling back */
    size_t journal_len, journal_cap;
    size_t *journal_at; /* where each record starts */
    uint32_t journal_count, journal_at_cap;
    struct hf_inode_slot **slots; /* slot_cap of them are allocated */
    uint32_t slot_count, slot_cap;
    struct hf_opindex slot_index;
    struct hf_object_delta *deltas;
    uint32_t delta_count, delta_cap;
    struct hf_opindex delta_index;

    uint8_t target[HF_SYMLINK_MAX]; /* of a link that is gone: the answer borrows it */

    /* scratch */
    struct hf_extvec vec, vec_old;
    uint8_t *value;
    size_t value_cap;
};

/* Rows */

/** Errors: -ENOENT, or the replica fails. */
int hf_txn_get(struct hf_meta *meta, const struct hf_key *key, const void **ret_value,
               size_t *ret_len);
int hf_txn_put(struct hf_meta *meta, const struct hf_key *key, const void *value, size_t len);
int hf_txn_del(struct hf_meta *meta, const struct hf_key *key);
/** A row that only has to exist. */
int hf_txn_put_mark(struct hf_meta *meta, const struct hf_key *key);
/** 0 or 1 in *ret. */
int hf_txn_exists(struct hf_meta *meta, const struct hf_key *key, bool *ret);

/**
 * First row with key >= @from whose key starts with @from's first @prefix_len bytes.
 * Errors: -ENOENT  none; or the replica fails.
 */
int hf_txn_seek(struct hf_meta *meta, const struct hf_key *from, size_t prefix_len,
                struct hf_table_cursor *ret);
/** @prefix  as given to seek */
int hf_txn_next(struct hf_meta *meta, const struct hf_key *from, size_t prefix_len,
                struct hf_table_cursor *cursor);
/** The key after @key in any order: for seeking past a row. */
void hf_key_after(struct hf_key *key, const void *at, size_t len);
/** Delete every row that starts with @prefix. */
int hf_txn_del_prefix(struct hf_meta *meta, const struct hf_key *prefix);

/** @err is one that the replica cannot go on after: remember it. Returns @err. */
static inline int hf_txn_fail(struct hf_meta *meta, int err)
{
    HF_ASSERT(err < 0);
    if (!meta->failed) {
        meta->failed = err;
    }
    return err;
}

/* Transactions */

void hf_txn_begin(struct hf_meta *meta);
/** Write what the inodes and objects touched have become. Errors: the replica fails. */
int hf_txn_commit(struct hf_meta *meta);
int hf_txn_rollback(struct hf_meta *meta);
void hf_txn_fini(struct hf_meta *meta);

/** Scratch of at least @len bytes. Errors: -ENOMEM (fails the replica). */
int hf_txn_scratch(struct hf_meta *meta, size_t len, uint8_t **ret);

/* Index */

/** Array index of the element with this hash for which @same holds, or UINT32_MAX. */
typedef bool (*hf_opindex_same_fn)(const struct hf_meta *meta, uint32_t index, const void *key);
uint32_t hf_opindex_find(const struct hf_meta *meta, const struct hf_opindex *index, uint64_t hash,
                         hf_opindex_same_fn same, const void *key);
/** @hash_of gives the hash of an element, for growing. Errors: -ENOMEM. */
int hf_opindex_add(const struct hf_meta *meta, struct hf_opindex *index, uint64_t hash, uint32_t at,
                   uint64_t (*hash_of)(const struct hf_meta *meta, uint32_t index));
void hf_opindex_clear(struct hf_opindex *index);

#endif
