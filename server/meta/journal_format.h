/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_format.h - bytes of a metadata log record; docs/format/meta-log.md explains them.
 *
 *     head (48 bytes, first of the record's meta bytes)
 *     entry, entry, ...   behind the head when they fit there, else the record's payload
 *
 * Little-endian. Which bytes are whole, seglog's checksums say. Pure.
 */
#ifndef HF_META_JOURNAL_FORMAT_H
#define HF_META_JOURNAL_FORMAT_H

#include "common/base/bytes.h"
#include "common/base/limits.h"

#define HF_JOURNAL_RECORD_TYPE    1u /* of seglog: entries */
#define HF_JOURNAL_RECORD_VERSION 1u
#define HF_JOURNAL_HEAD_BYTES     48u
#define HF_JOURNAL_ENTRY_HEAD     32u
#define HF_JOURNAL_IN_META        0x1u /* the entries follow the head in the meta bytes */
#define HF_JOURNAL_INDEX_MAX      (UINT64_MAX / 2)

struct hf_journal_head {
    uint32_t version;
    uint32_t flags; /* HF_JOURNAL_IN_META */
    uint64_t first_index;
    uint32_t count;      /* of entries, consecutive from first_index; >= 1 */
    uint32_t bytes;      /* of all entries */
    uint64_t term, vote; /* hard state */
    uint64_t reserved;   /* 0 */
};

struct hf_journal_item { /* an entry in its record */
    uint64_t index, term, time_ns;
    const uint8_t *msg, *bulk; /* borrowed */
    uint32_t msg_len, bulk_len;
};

void hf_journal_head_encode(const struct hf_journal_head *head, uint8_t ret[HF_JOURNAL_HEAD_BYTES]);
/** Errors: -EBADMSG. */
int hf_journal_head_decode(struct hf_reader *r, struct hf_journal_head *ret);
/** Sets w->bad when there is no room. */
void hf_journal_item_encode(struct hf_writer *w, const struct hf_journal_item *item);
/** Errors: -EBADMSG. */
int hf_journal_item_decode(struct hf_reader *r, struct hf_journal_item *ret);

/**
 * A whole record: every entry is passed to fn in order once all of it has been checked.
 * Errors: -EBADMSG, or what fn returned.
 */
int hf_journal_record_decode(const uint8_t *meta, size_t meta_len, const uint8_t *payload,
                             size_t payload_len,
                             int (*fn)(void *ctx, const struct hf_journal_item *item), void *ctx);

#endif
