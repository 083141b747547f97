/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - one ordered key-value table: a sorted memory table in front of a base (LMDB).
 *
 *     put, del ──► active ──freeze──► frozen ──merge (disk worker)──► base (LMDB, or a model)
 *                    ▲                   ▲                              ▲
 *     get, seek ─────┴───────────────────┴──────────────────────────────┘   newest wins
 *
 * Changes go to memory; a checkpoint freezes what memory holds and a disk worker merges it in
 * sorted batches, one base transaction, together with a mark (what the log had applied). The log
 * in front of the table gives durability: after a restart the base is as of its mark and the owner
 * replays from there.
 *
 * Values carry a checksum in the base, verified on every read from it. An order-independent digest
 * of all (key, value) rows is kept up to date: equal contents, equal digest, whatever the order of
 * changes.
 *
 * Three users: the object index, the metadata, the simulator.
 * Snapshots of a table are in snapshot.h.
 * Threads: loop thread only; the merge runs on HF_POOL_DISK by itself.
 */
#ifndef HF_TABLE_TABLE_H
#define HF_TABLE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/env/env.h"

#define HF_TABLE_KEY_MAX   384u /* keys: 1 .. this; LMDB takes 511 */
#define HF_TABLE_VALUE_MAX (1u << 20)
#define HF_TABLE_MARK_MAX  256u

struct hf_table;
struct hf_table_base;

/* Bases. A base is owned by the table it was given to. */

/**
 * LMDB environment in directory @path (created when missing). Errors: -EIO, -ENOSPC, -EACCES,
 * -EBADMSG  damaged: remove it and rebuild.
 */
int hf_table_base_lmdb(struct hf_env *env, const char *path, struct hf_table_base **ret);
/**
 * A model of the same in memory, which outlives the table: what tests and simulation use. A merge
 * is atomic; contents survive hf_table_close() as LMDB's would a power cut.
 */
struct hf_table_model;
struct hf_table_model *hf_table_model_new(void);
void hf_table_model_free(struct hf_table_model *model);
int hf_table_base_model(struct hf_table_model *model, struct hf_table_base **ret);

struct hf_table_options {
    size_t freeze_bytes;     /* hf_table_wants_checkpoint() from here, or 96 Ki rows; 0: 32 MiB */
    uint64_t merge_delay_ns; /* ... or this long after the first change; 0: 5 s */
};

/**
 * @base  taken, on failure too
 * Errors: -ENOMEM, -EIO, -EBADMSG (base damaged)
 */
int hf_table_open(struct hf_env *env, struct hf_table_base *base,
                  const struct hf_table_options *options, struct hf_table **ret);
/** No checkpoint or export may be running. What only memory holds is gone. NULL is a no-op. */
void hf_table_close(struct hf_table *table);

/** The mark stored by the newest finished checkpoint; *ret_len 0 when there is none. */
int hf_table_mark(struct hf_table *table, uint8_t ret[HF_TABLE_MARK_MAX], size_t *ret_len);

/**
 * @ret_value  borrowed until the next change of the table or the next call on it
 * Errors: -ENOENT; -EBADMSG  the row's checksum fails; -EIO
 */
int hf_table_get(struct hf_table *table, const void *key, size_t key_len, const void **ret_value,
                 size_t *ret_len);
/** Errors: -ENOMEM, -EINVAL (sizes), -EIO (the old row, needed for the digest, is unreadable). */
int hf_table_put(struct hf_table *table, const void *key, size_t key_len, const void *value,
                 size_t value_len);
/** Deleting what is not there is not an error. */
int hf_table_del(struct hf_table *table, const void *key, size_t key_len);

/**
 * A position in key order over all layers. Any change of the table invalidates it, and so does a
 * checkpoint that starts or ends: seek anew. Asserted.
 */
struct hf_table_cursor {
    struct hf_table *table;
    const void *key; /* borrowed until the next move */
    size_t key_len;
    const void *value;
    size_t value_len;
    void *impl[8];
};

/** First row with key >= @key (key_len 0: of all). Errors: -ENOENT  no such row; as next. */
int hf_table_seek(struct hf_table *table, const void *key, size_t key_len,
                  struct hf_table_cursor *ret);
/**
 * Next row. Errors: -ENOENT  that was the last; -EBADMSG  this row is damaged: the call after goes
 * past it; -EIO.
 */
int hf_table_next(struct hf_table_cursor *cursor);

uint64_t hf_table_digest(const struct hf_table *table);
/** Recount the digest over every row and compare. Errors: -EBADMSG. Blocks; for tests and fsck. */
int hf_table_rescan(struct hf_table *table);
size_t hf_table_memory_bytes(const struct hf_table *table);
/** Rows changed since the last freeze? */
bool hf_table_dirty(const struct hf_table *table);
bool hf_table_wants_checkpoint(const struct hf_table *table);
bool hf_table_checkpoint_running(const struct hf_table *table);

/**
 * Freeze memory now and merge it, with @mark, into the base. None may be running.
 * @done  on success the base durably holds everything up to the freeze. On failure nothing is lost
 *        from memory: the frozen layer stays and the next checkpoint merges both.
 *        Errors: -ENOSPC, -EIO.
 */
typedef void (*hf_table_done_fn)(void *ctx, int err);
void hf_table_checkpoint(struct hf_table *table, const void *mark, size_t mark_len,
                         hf_table_done_fn done, void *ctx);

void hf_table_check_invariants(const struct hf_table *table);
/** Walks every row in memory. */
void hf_table_check_rows(const struct hf_table *table);

#endif
