/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_format.h - what a table's snapshot file holds; docs/format/snapshot.md shows it.
 *
 *     [ body: LMDB's pages, or a model's rows ][ tail, 48 bytes ]
 *
 * LMDB never looks past its last page, so the tail may stay behind a body that became a base. A
 * model's body: the head, the mark, then rows in key order, each its header, key and value.
 */
#ifndef HF_TABLE_SNAPSHOT_FORMAT_H
#define HF_TABLE_SNAPSHOT_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HF_SNAPSHOT_MAGIC       UINT32_C(0x4e534648) /* "HFSN" */
#define HF_SNAPSHOT_VERSION     1u
#define HF_SNAPSHOT_TAIL_SEED   UINT64_C(0x74736e61706c6131)
#define HF_SNAPSHOT_BODY_SEED   UINT64_C(0x626f64796d696231)
#define HF_SNAPSHOT_PIECE_BYTES (1u << 20) /* the body's sum goes over pieces of this size */

enum hf_snapshot_kind {
    HF_SNAPSHOT_LMDB = 1,
    HF_SNAPSHOT_MODEL = 2,
};

/* All fields little-endian. */
struct hf_snapshot_tail_disk {
    uint64_t checksum; /* XXH3-64, HF_SNAPSHOT_TAIL_SEED, of all that follows */
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t body_bytes; /* file size less this tail */
    uint64_t body_sum;   /* XXH3-64 of each piece, seeded by the sum of the one before */
    uint64_t rows;
    uint64_t digest;
};

struct hf_snapshot_model_head_disk {
    uint64_t digest;
    uint32_t mark_len;
    uint32_t zero;
};

struct hf_snapshot_model_row_disk {
    uint64_t checksum; /* hf_memrow_hash() */
    uint32_t value_len;
    uint32_t key_len;
};

#define HF_SNAPSHOT_TAIL_BYTES sizeof(struct hf_snapshot_tail_disk)

static_assert(sizeof(struct hf_snapshot_tail_disk) == 48, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, magic) == 8, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, version) == 12, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, kind) == 14, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, body_bytes) == 16, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, body_sum) == 24, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, rows) == 32, "on disk");
static_assert(offsetof(struct hf_snapshot_tail_disk, digest) == 40, "on disk");
static_assert(sizeof(struct hf_snapshot_model_head_disk) == 16, "on disk");
static_assert(sizeof(struct hf_snapshot_model_row_disk) == 16, "on disk");

#endif
