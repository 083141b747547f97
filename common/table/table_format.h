/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_format.h - what a table's LMDB base holds; every byte of it is fixed for ever.
 *
 *     user key (1..384 bytes)        row header, value
 *     mark key (400 bytes of 0xff)   mark record, the owner's mark
 *
 * The mark key is longer than any user key may be and orders after all of them.
 * The row header's checksum is hf_memrow_hash() of key and value: XXH3-64 of the value, seeded with
 * XXH3-64 of the key, seeded with the key's length.
 */
#ifndef HF_TABLE_TABLE_FORMAT_H
#define HF_TABLE_TABLE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "common/table/table.h"

#define HF_TABLE_MARK_KEY_BYTES 400u
#define HF_TABLE_MARK_KEY_FILL  0xff
#define HF_TABLE_MARK_MAGIC     UINT32_C(0x4b4d4648) /* "HFMK" */
#define HF_TABLE_FORMAT_VERSION 1u
#define HF_TABLE_MARK_HASH_SEED UINT64_C(0x7461626c656d6b31)

/* All fields little-endian. */
struct hf_table_row_disk {
    uint64_t checksum;
};

struct hf_table_mark_disk {
    uint64_t checksum; /* XXH3-64, HF_TABLE_MARK_HASH_SEED, of all that follows, mark included */
    uint32_t magic;
    uint32_t version;
    uint64_t digest; /* of all rows */
    uint32_t mark_len;
    uint32_t zero;
};

static_assert(sizeof(struct hf_table_row_disk) == 8, "on disk");
static_assert(sizeof(struct hf_table_mark_disk) == 32, "on disk");
static_assert(offsetof(struct hf_table_mark_disk, magic) == 8, "on disk");
static_assert(offsetof(struct hf_table_mark_disk, version) == 12, "on disk");
static_assert(offsetof(struct hf_table_mark_disk, digest) == 16, "on disk");
static_assert(offsetof(struct hf_table_mark_disk, mark_len) == 24, "on disk");
static_assert(offsetof(struct hf_table_mark_disk, zero) == 28, "on disk");
static_assert(HF_TABLE_MARK_KEY_BYTES > HF_TABLE_KEY_MAX, "the mark's key is nobody else's");
static_assert(HF_TABLE_MARK_KEY_BYTES <= 511, "LMDB's limit");

#endif
