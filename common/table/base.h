/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - what lies below a table's memory: durable sorted rows with a mark, merged into.
 *
 * Reads see the base as of the last renew(), whatever a running merge() does meanwhile; what they
 * hand out is borrowed until the next renew(). Checksums are stored and handed out by the base,
 * checked by the table.
 *
 * Threads: merge() and export() on workers, the rest on the loop; one merge and one export at a
 * time, which may run together.
 */
#ifndef HF_TABLE_BASE_H
#define HF_TABLE_BASE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/table/memtable.h"
#include "common/table/snapshot.h"
#include "common/table/table.h"

/* A row of the base, and the place it was found at. */
struct hf_table_base_row {
    const uint8_t *key; /* NULL: past the last row */
    const uint8_t *value;
    uint32_t key_len;
    uint32_t value_len;
    uint64_t hash;   /* as stored: hf_memrow_hash() of key and value when they were written */
    uint64_t cookie; /* the base's own: where its cursor stands */
};

/* What a merge leaves beside its rows. */
struct hf_table_base_mark {
    uint8_t bytes[HF_TABLE_MARK_MAX];
    size_t len; /* 0: no merge yet */
    uint64_t digest;
};

struct hf_table_base_ops {
    /** Fills value and hash. Errors: -ENOENT; -EBADMSG  structure damaged; -EIO. */
    int (*get)(struct hf_table_base *base, const void *key, size_t key_len,
               struct hf_table_base_row *ret);
    /** First row >= key (key_len 0: of all), or a NULL key. Errors: -EBADMSG, -EIO. */
    int (*seek)(struct hf_table_base *base, const void *key, size_t key_len,
                struct hf_table_base_row *ret);
    /** The row after @row, which seek or next filled in. Errors: -EBADMSG, -EIO. */
    int (*next)(struct hf_table_base *base, struct hf_table_base_row *row);
    /** As of the last renew() or open. Errors: -EBADMSG, -EIO. */
    int (*mark)(struct hf_table_base *base, struct hf_table_base_mark *ret);
    /**
     * Make the base hold @rows (tombstones delete) and @mark: all or nothing, durable on success.
     * On failure it is unknown which of the two. Errors: -ENOSPC, -EIO, -ENOMEM.
     */
    int (*merge)(struct hf_table_base *base, const struct hf_memtable *rows,
                 const struct hf_table_base_mark *mark);
    /**
     * Let reads see what the last merge left. When that fails, so do they, until it succeeds. Not
     * after a failed merge while an export runs: the base may have to be opened anew.
     */
    void (*renew)(struct hf_table_base *base);
    /** As hf_table_export(); @ret is set on success. */
    int (*export)(struct hf_table_base *base, struct hf_env *env, const char *path,
                  const atomic_bool *stop, struct hf_table_snapshot *ret);
    void (*close)(struct hf_table_base *base);
};

struct hf_table_base {
    const struct hf_table_base_ops *ops;
};

/** Has a merge to do anything about @row? Not when it came and went within one layer. */
static inline bool hf_table_base_wants(const struct hf_memrow *row)
{
    return !row->deleted || row->below;
}

#endif
