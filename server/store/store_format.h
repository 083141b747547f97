/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_format.h - the bytes the store keeps: what is in its records' meta bytes, index rows, the
 * index mark, the identity file; docs/format/disk.md draws them.
 *
 *     OBJECT record   meta: brief (64 bytes), then one le64 checksum per 4 KiB block
 *                     payload: the object's bytes
 *     NOTES record    meta: up to 305 entries of 40 bytes: deletions and quarantines
 *
 * Little-endian but for object ids, which are big-endian so that they sort.
 *
 * Threads: any; pure.
 */
#ifndef HF_STORE_STORE_FORMAT_H
#define HF_STORE_STORE_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"
#include "common/base/limits.h"

#define HF_STORE_RECORD_OBJECT 1u
#define HF_STORE_RECORD_NOTES  2u

#define HF_STORE_ROW_QUARANTINED 0x1u

struct hf_store_object_disk {
    uint8_t oid[HF_OID_BYTES];
    uint32_t len_bytes;
    uint32_t flags;  /* none yet: zero */
    uint64_t digest; /* of length and checksums */
    uint64_t origin; /* segment that holds an older record of the same object; 0: none does */
    uint32_t sum_count;
    uint8_t reserved[20]; /* zero */
};

struct hf_store_note_disk {
    uint8_t oid[HF_OID_BYTES];
    uint8_t kind;
    uint8_t reserved[7]; /* zero */
    uint64_t segment;    /* of the record that is dead or bad */
    uint64_t off_bytes;
};

struct hf_store_row_disk {
    uint8_t kind;
    uint8_t flags;
    uint8_t header_pages;
    uint8_t reserved; /* zero */
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t segment;
    uint64_t off_bytes;
    uint64_t seq;
    uint64_t ref; /* object: origin; tombstone: the segment of the dead record */
};

struct hf_store_mark_disk {
    uint32_t magic;
    uint32_t version;
    uint8_t store[16];
    uint64_t seq; /* the index holds everything up to here */
};

static_assert(sizeof(struct hf_store_object_disk) == 64, "object brief");
static_assert(offsetof(struct hf_store_object_disk, digest) == 24, "object brief");
static_assert(sizeof(struct hf_store_note_disk) == 40, "note");
static_assert(offsetof(struct hf_store_note_disk, segment) == 24, "note");
static_assert(sizeof(struct hf_store_row_disk) == 48, "row");
static_assert(offsetof(struct hf_store_row_disk, seq) == 32, "row");
static_assert(sizeof(struct hf_store_mark_disk) == 32, "mark");

#define HF_STORE_MARK_MAGIC   0x4b4d4648u /* "HFMK" */
#define HF_STORE_MARK_VERSION 1u
#define HF_STORE_OBJECT_META_MAX                                                                   \
    (sizeof(struct hf_store_object_disk) + 8u * (size_t)HF_OBJECT_BLOCKS_MAX)
#define HF_STORE_NOTES_MAX 305u /* entries of one record */

struct hf_store_object {
    struct hf_oid oid;
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t origin;
    uint32_t sum_count;
};

enum hf_store_note_kind {
    HF_STORE_NOTE_DELETED = 1,
    HF_STORE_NOTE_QUARANTINED = 2,
};

struct hf_store_note {
    struct hf_oid oid;
    enum hf_store_note_kind kind;
    uint64_t segment;
    uint64_t off_bytes;
};

enum hf_store_row_kind {
    HF_STORE_ROW_OBJECT = 1,
    HF_STORE_ROW_TOMBSTONE = 2,
};

struct hf_store_row {
    enum hf_store_row_kind kind;
    uint8_t flags; /* HF_STORE_ROW_QUARANTINED */
    uint32_t header_bytes;
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t segment;
    uint64_t off_bytes;
    uint64_t seq;
    uint64_t ref;
};

/** @sums sum_count values in host order; @ret HF_STORE_OBJECT_META_MAX bytes; length returned. */
uint32_t hf_store_object_encode(const struct hf_store_object *object, const uint64_t *sums,
                                uint8_t *ret);
/**
 * @meta       the whole meta, or just its brief (then the sums are not looked at)
 * @ret_sums   room for HF_OBJECT_BLOCKS_MAX, or NULL
 * Errors: -EBADMSG
 */
int hf_store_object_decode(const uint8_t *meta, size_t have_bytes, uint32_t meta_len_bytes,
                           uint32_t payload_len_bytes, struct hf_store_object *ret,
                           uint64_t *ret_sums);

void hf_store_note_encode(const struct hf_store_note *note, uint8_t *ret);
/** Errors: -EBADMSG. */
int hf_store_note_decode(const uint8_t *bytes, struct hf_store_note *ret);
/** Entries in a NOTES record's meta. Errors: -EBADMSG. */
int hf_store_notes_count(uint32_t meta_len_bytes, uint32_t *ret);

void hf_store_row_encode(const struct hf_store_row *row,
                         uint8_t ret[sizeof(struct hf_store_row_disk)]);
/** Errors: -EBADMSG. */
int hf_store_row_decode(const void *bytes, size_t len_bytes, struct hf_store_row *ret);

void hf_store_mark_encode(const struct hf_uuid *store, uint64_t seq,
                          uint8_t ret[sizeof(struct hf_store_mark_disk)]);
/** Errors: -EBADMSG. */
int hf_store_mark_decode(const uint8_t *bytes, size_t len_bytes, struct hf_uuid *ret_store,
                         uint64_t *ret_seq);

#define HF_STORE_IDENTITY_MAX 512u
struct hf_store_identity;
/** Text; returns @ret. */
const char *hf_store_identity_format(const struct hf_store_identity *identity,
                                     char ret[HF_STORE_IDENTITY_MAX]);
/** Errors: -EBADMSG. */
int hf_store_identity_parse(const char *text, struct hf_store_identity *ret);

#endif
