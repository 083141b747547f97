/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seglog_format.h - the bytes of a segment file; docs/format/disk.md draws them.
 *
 *     0      segment header, copy 0        one page each
 *     4096   segment header, copy 1
 *     8192   records: 1..3 header pages, then the payload, padded to whole pages
 *     ...
 *     table of the records, then the footer in the file's last page (sealed segments only)
 *
 * Everything is little-endian. The checksum of whatever lies behind the segment header is keyed by
 * the segment's salt, its generation and the offset, so that neither user data nor an earlier life
 * of the file passes for a record.
 *
 * Threads: any; pure.
 */
#ifndef HF_SEGLOG_SEGLOG_FORMAT_H
#define HF_SEGLOG_SEGLOG_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"

#define HF_SEGMENT_PAGE_BYTES   4096u
#define HF_SEGMENT_FIRST_OFF    8192u /* of the first record */
#define HF_SEGMENT_BYTES_MIN    (64u << 10)
#define HF_SEGMENT_BYTES_MAX    (1ull << 40)
#define HF_SEGMENT_MAGIC        0x47455348u /* "HSEG" */
#define HF_SEGMENT_VERSION      1u
#define HF_RECORD_MAGIC         0x43455248u /* "HREC" */
#define HF_RECORD_VERSION       1u
#define HF_RECORD_PAGES_MAX     3u
#define HF_FOOTER_MAGIC         0x4f4f4648u /* "HFOO" */
#define HF_FOOTER_VERSION       1u
#define HF_RECORD_TYPE_TRUNCATE 0xf0u /* meta: le64, the first dropped number */
#define HF_RECORD_SUMMED        0x01u /* flag: payload_sum holds */
#define HF_TABLE_BRIEF_BYTES    64u

struct hf_segment_header_disk {
    uint32_t magic;
    uint16_t version;
    uint16_t copy;     /* 0 or 1 */
    uint64_t checksum; /* XXH3-64 of the page, this field zero, seed 0 */
    uint64_t number;
    uint64_t generation; /* lives of the file so far */
    uint64_t salt;       /* random, anew in each life */
    uint8_t identity[16];
    uint64_t file_bytes;
    uint64_t first_seq;    /* the first record's; everything below was synced or cut */
    uint64_t prev_segment; /* written before this one; 0: none */
    uint64_t prev_end;     /* where its valid records end */
};

struct hf_record_header_disk {
    uint32_t magic;
    uint16_t version;
    uint8_t type;
    uint8_t flags;
    uint64_t checksum; /* keyed; all header pages, this field zero */
    uint64_t seq;
    uint64_t synced_seq; /* everything up to here was durable when this was written */
    uint32_t payload_len_bytes;
    uint32_t meta_len_bytes;
    uint64_t payload_sum; /* keyed XXH3-64 of the payload, with HF_RECORD_SUMMED */
    uint8_t reserved[16]; /* zero */
};

struct hf_table_entry_disk {
    uint32_t off_pages;
    uint8_t header_pages;
    uint8_t type;
    uint8_t flags;
    uint8_t reserved; /* zero */
    uint64_t seq;
    uint32_t payload_len_bytes;
    uint32_t meta_len_bytes;
    uint8_t brief[HF_TABLE_BRIEF_BYTES]; /* the first of the meta bytes, zero-filled */
};

struct hf_footer_disk {
    uint32_t magic;
    uint16_t version;
    uint16_t reserved; /* zero */
    uint64_t checksum; /* keyed; the page, this field zero */
    uint64_t table_off;
    uint64_t table_sum; /* keyed XXH3-64 of the entries */
    uint64_t end_bytes; /* end of the last record */
    uint64_t first_seq;
    uint64_t last_seq;
    uint32_t count;
    uint32_t entry_bytes;
};

static_assert(sizeof(struct hf_segment_header_disk) == 88, "segment header");
static_assert(offsetof(struct hf_segment_header_disk, checksum) == 8, "segment header");
static_assert(offsetof(struct hf_segment_header_disk, identity) == 40, "segment header");
static_assert(offsetof(struct hf_segment_header_disk, first_seq) == 64, "segment header");
static_assert(sizeof(struct hf_record_header_disk) == 64, "record header");
static_assert(offsetof(struct hf_record_header_disk, checksum) == 8, "record header");
static_assert(offsetof(struct hf_record_header_disk, payload_sum) == 40, "record header");
static_assert(sizeof(struct hf_table_entry_disk) == 88, "table entry");
static_assert(offsetof(struct hf_table_entry_disk, brief) == 24, "table entry");
static_assert(sizeof(struct hf_footer_disk) == 64, "footer");
static_assert(offsetof(struct hf_footer_disk, end_bytes) == 32, "footer");

#define HF_RECORD_META_MAX                                                                         \
    (HF_RECORD_PAGES_MAX * HF_SEGMENT_PAGE_BYTES - sizeof(struct hf_record_header_disk))

struct hf_segment_header {
    uint64_t number;
    uint64_t generation;
    uint64_t salt;
    struct hf_uuid identity;
    uint64_t file_bytes;
    uint64_t first_seq;
    uint64_t prev_segment;
    uint64_t prev_end;
};

/** What keys the checksums of one life of a segment file. */
struct hf_segment_key {
    uint64_t salt;
    uint64_t generation;
};

struct hf_record_header {
    uint64_t seq;
    uint64_t synced_seq;
    uint64_t payload_sum;
    uint32_t payload_len_bytes;
    uint32_t meta_len_bytes;
    uint8_t type;
    uint8_t flags;
    const uint8_t *meta; /* decode: within the given pages */
};

struct hf_table_entry {
    uint64_t off_bytes;
    uint64_t seq;
    uint32_t header_bytes;
    uint32_t payload_len_bytes;
    uint32_t meta_len_bytes;
    uint8_t type;
    uint8_t flags;
    uint8_t brief[HF_TABLE_BRIEF_BYTES];
};

struct hf_footer {
    uint64_t table_off;
    uint64_t table_sum;
    uint64_t end_bytes;
    uint64_t first_seq;
    uint64_t last_seq;
    uint32_t count;
};

static inline uint64_t hf_segment_pages_up(uint64_t bytes)
{
    return (bytes + HF_SEGMENT_PAGE_BYTES - 1) / HF_SEGMENT_PAGE_BYTES * HF_SEGMENT_PAGE_BYTES;
}

static inline uint32_t hf_record_header_bytes(uint32_t meta_len_bytes)
{
    return (uint32_t)hf_segment_pages_up(sizeof(struct hf_record_header_disk) + meta_len_bytes);
}

/** Pages that the table of @count records and the footer take at a file's end. */
static inline uint64_t hf_segment_table_bytes(uint64_t count)
{
    return hf_segment_pages_up(count * sizeof(struct hf_table_entry_disk)) + HF_SEGMENT_PAGE_BYTES;
}

/** Writes both copies: 2 pages. */
void hf_segment_header_encode(const struct hf_segment_header *header, uint8_t *ret_pages);
/** One copy. Errors: -EBADMSG. */
int hf_segment_header_decode(const uint8_t *page, struct hf_segment_header *ret);

/** @ret_pages hf_record_header_bytes(meta_len_bytes) of them, zero-filled behind the meta. */
void hf_record_header_encode(const struct hf_segment_key *key, uint64_t off_bytes,
                             const struct hf_record_header *header, const void *meta,
                             uint8_t *ret_pages);
/**
 * @file_bytes  the record must end at or before
 * Errors: -EBADMSG  not a record of this life of the file at this offset
 *         -ERANGE   may be one; *ret_need (> len_bytes) header bytes are needed to tell
 */
int hf_record_header_decode(const struct hf_segment_key *key, uint64_t off_bytes,
                            uint64_t file_bytes, const uint8_t *pages, size_t len_bytes,
                            struct hf_record_header *ret, size_t *ret_need);
/**
 * The payload's checksum: XXH3-64 of each 4 KiB, seeded by the one before, the first by this key.
 * Pieces are chained by passing the sum so far; each but the last is a multiple of 4 KiB long.
 */
uint64_t hf_record_payload_begin(const struct hf_segment_key *key, uint64_t off_bytes);
uint64_t hf_record_payload_add(uint64_t sum, const void *data, size_t len_bytes);

void hf_table_entry_encode(const struct hf_table_entry *entry, uint8_t *ret);
/** Checks one entry against its neighbours' bounds. Errors: -EBADMSG. */
int hf_table_entry_decode(const uint8_t *bytes, uint64_t end_bytes, struct hf_table_entry *ret);

/** @table count encoded entries; fills table_sum. @ret_page one page. */
void hf_footer_encode(const struct hf_segment_key *key, struct hf_footer *footer,
                      const uint8_t *table, uint8_t *ret_page);
/** @file_bytes the footer's page is the last of it. Errors: -EBADMSG. */
int hf_footer_decode(const struct hf_segment_key *key, uint64_t file_bytes, const uint8_t *page,
                     struct hf_footer *ret);
/** Errors: -EBADMSG  the table does not match the footer. */
int hf_footer_check_table(const struct hf_segment_key *key, const struct hf_footer *footer,
                          const uint8_t *table);

#endif
