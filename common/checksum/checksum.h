/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checksum.h - XXH3-64 of 4 KiB blocks, seeded by object id and block number.
 *
 * A misplaced or swapped block fails its check, not only a flipped bit. The last block of an object
 * covers only its real bytes. Source: XXH3 of xxHash 0.8, run-time dispatched.
 * Threads: any; pure.
 */
#ifndef HF_CHECKSUM_CHECKSUM_H
#define HF_CHECKSUM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/ids.h"
#include "common/base/limits.h"

/** Blocks that @len_bytes take. */
static inline uint32_t hf_blocks(uint64_t len_bytes)
{
    return (uint32_t)((len_bytes + HF_BLOCK_BYTES - 1) / HF_BLOCK_BYTES);
}

/** Checksum of one block (1 .. 4096 bytes), number @block of @oid. */
uint64_t hf_checksum_block(const struct hf_oid *oid, uint32_t block, const void *data,
                           size_t len_bytes);
/** Checksums of the blocks of @data, which starts at block @first. @ret: hf_blocks(len) values. */
void hf_checksum_blocks(const struct hf_oid *oid, uint32_t first, const void *data,
                        size_t len_bytes, uint64_t *ret);
/** The same for scattered data. */
void hf_checksum_iov(const struct hf_oid *oid, uint32_t first, const struct iovec *iov,
                     int iov_count, uint64_t *ret);
/** Index of the first block that differs, or -1. */
int hf_checksum_verify(const struct hf_oid *oid, uint32_t first, const void *data, size_t len_bytes,
                       const uint64_t *sums);
/** One number for a whole object: over its length and checksum vector. */
uint64_t hf_checksum_digest(uint64_t len_bytes, const uint64_t *sums, uint32_t count);

/** Plain seeded XXH3-64 of bytes, for records, rows and frames. */
uint64_t hf_hash64(const void *data, size_t len_bytes, uint64_t seed);
/** The same over the pieces as if joined. */
uint64_t hf_hash64_iov(const struct iovec *iov, int iov_count, uint64_t seed);

#endif
