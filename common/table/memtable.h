/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.h - one sorted layer of rows in memory; rows are added and changed, never removed.
 *
 *     find:  key hash ──► bucket ──► row ──chain──► row
 *     seek:  B+ tree of (first 16 key bytes, row) ──► row ──next──► row ──next──► ...
 *
 * A deletion is a row that says so (a tombstone), so nothing is ever taken out of either index and
 * both stay small. Everything lies in an arena whose chunks go back to a pool: to drop a layer of
 * 32 MiB takes microseconds, and the next one needs no fresh memory.
 *
 * Invariants: a row's address is stable. Nothing inside changes while the layer only is read.
 * Threads: one writer, or any number of readers.
 */
#ifndef HF_TABLE_MEMTABLE_H
#define HF_TABLE_MEMTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checksum/checksum.h"

struct hf_memrow {
    struct hf_memrow *next;  /* in key order */
    struct hf_memrow *chain; /* same bucket */
    uint64_t key_hash;
    uint64_t hash; /* of key and value: its part of the digest, its checksum in the base */
    uint8_t *value;
    uint32_t value_len;
    uint32_t value_cap;
    uint16_t key_len;
    bool deleted; /* tombstone; value_len 0 */
    bool below;   /* layers below may hold this key: a tombstone has to reach the base */
    uint8_t key[];
};

/** Chunks for layers to come. Zeroed is empty. */
struct hf_mempool {
    struct hf_memchunk *free;
    size_t count;
    size_t low; /* fewest it held since hf_mempool_trim() */
};

void hf_mempool_fini(struct hf_mempool *pool);
/** Give back to the system what lay idle since the last call, a bounded amount. */
void hf_mempool_trim(struct hf_mempool *pool);

struct hf_memtable;

/**
 * @pool        borrowed until free; NULL: none
 * @rows_hint   about how many rows will come; more only costs a stall now and then
 * Errors: NULL, out of memory.
 */
struct hf_memtable *hf_memtable_new(struct hf_mempool *pool, size_t rows_hint);
void hf_memtable_free(struct hf_memtable *mt);

/** What a key hashes to, and with its value: both are on disk and in digests, fixed for ever. */
static inline uint64_t hf_memrow_key_hash(const void *key, size_t key_len)
{
    return hf_hash64(key, key_len, key_len);
}
static inline uint64_t hf_memrow_hash(uint64_t key_hash, const void *value, size_t value_len)
{
    return hf_hash64(value, value_len, key_hash);
}

/** Order of keys: bytes as unsigned, a prefix before what it begins. */
int hf_memrow_cmp(const void *a, size_t a_len, const void *b, size_t b_len);

/** NULL: no such row, not even a tombstone. */
struct hf_memrow *hf_memtable_find(const struct hf_memtable *mt, uint64_t key_hash, const void *key,
                                   size_t key_len);

struct hf_memchange {
    const void *key;
    size_t key_len;
    uint64_t key_hash;
    const void *value; /* may lie in the row it replaces */
    size_t value_len;
    uint64_t hash;
    bool deleted;
    bool below; /* of a new row; ORed into an existing one */
};

/**
 * Add a row, or change @row, which find gave for the key (NULL: there is none).
 * Errors: -ENOMEM  nothing changed.
 */
int hf_memtable_apply(struct hf_memtable *mt, struct hf_memrow *row,
                      const struct hf_memchange *change);
/** Apply every row of @newer. Errors: -ENOMEM  after some rows; calling again is harmless. */
int hf_memtable_absorb(struct hf_memtable *mt, const struct hf_memtable *newer);

/** First row (tombstones included) with key >= @key; key_len 0: the first of all. NULL: none. */
struct hf_memrow *hf_memtable_seek(const struct hf_memtable *mt, const void *key, size_t key_len);

size_t hf_memtable_count(const struct hf_memtable *mt); /* tombstones included */
size_t hf_memtable_tombstones(const struct hf_memtable *mt);
size_t hf_memtable_bytes(const struct hf_memtable *mt);

/** Walks everything. */
void hf_memtable_check_invariants(const struct hf_memtable *mt);

#endif
