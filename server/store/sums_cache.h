/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sums_cache.h - checksum vectors of objects read or written lately, so that a read is one read.
 *
 * Keyed by where the record lies: segment numbers are never used again, so an entry never goes
 * stale. Bounded by bytes; the least recently used go first.
 *
 * Threads: loop thread only.
 */
#ifndef HF_STORE_SUMS_CACHE_H
#define HF_STORE_SUMS_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct hf_sums_cache;

/** Errors: -ENOMEM. */
int hf_sums_cache_new(size_t max_bytes, struct hf_sums_cache **ret);
void hf_sums_cache_free(struct hf_sums_cache *cache);
/** Borrowed until the next put; NULL: not there. */
const uint64_t *hf_sums_cache_get(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes,
                                  uint32_t *ret_count);
/** Copies. Out of memory: not kept. */
void hf_sums_cache_put(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes,
                       const uint64_t *sums, uint32_t count);

#endif
