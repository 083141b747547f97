/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extents.h - the extents of one 4 MiB window of a file, as a sorted vector with inline bytes.
 *
 *     window   |----AAAA------BB-iiii---|      A, B: ranges of objects
 *     vector   {A off len pos} {B ..} {i ..}   i: inline, bytes kept in the vector itself
 *
 * Setting a range overwrites what it covers: extents there are cut, split or dropped. Adjacent
 * extents that continue each other in the same object become one.
 *
 * Invariant: ascending, not empty, not overlapping, within the window, no two that could be one.
 * Pure: no table, no accounting; who owns the vector compares before and after.
 */
#ifndef HF_META_EXTENTS_H
#define HF_META_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"

struct hf_xt {
    uint32_t off_bytes; /* in the window */
    uint32_t len_bytes;
    uint32_t pos_bytes; /* in the object; inline: in the vector's inline bytes */
    struct hf_oid oid;  /* session 0: inline */
};

struct hf_extvec {
    struct hf_xt *v; /* owned */
    uint32_t count, cap;
    uint8_t *bytes; /* owned; inline bytes, of dropped extents too until the next compact */
    uint32_t bytes_len, bytes_cap;
    uint32_t epoch; /* the inode's trunc_epoch when it was stored */
};

static inline bool hf_xt_is_inline(const struct hf_xt *xt)
{
    return xt->oid.session == 0;
}

static inline uint32_t hf_xt_end(const struct hf_xt *xt)
{
    return xt->off_bytes + xt->len_bytes;
}

/** Accepts a zeroed vector. */
void hf_extvec_fini(struct hf_extvec *vec);
/** Empty it; memory stays. */
void hf_extvec_clear(struct hf_extvec *vec);
/** Errors: -ENOMEM. */
int hf_extvec_copy(struct hf_extvec *to, const struct hf_extvec *from);

/** @off, @len: within the window, len > 0. Errors of both: -ENOMEM (the vector is unchanged). */
int hf_extvec_set(struct hf_extvec *vec, uint32_t off, uint32_t len, const struct hf_oid *oid,
                  uint32_t pos);
int hf_extvec_set_inline(struct hf_extvec *vec, uint32_t off, uint32_t len, const void *bytes);
int hf_extvec_punch(struct hf_extvec *vec, uint32_t off, uint32_t len);

/** Index of the first extent that ends after @off; count when there is none. */
uint32_t hf_extvec_find(const struct hf_extvec *vec, uint32_t off);
/** Bytes covered, and those of them that are inline. */
uint64_t hf_extvec_covered(const struct hf_extvec *vec, uint64_t *ret_inline);
/** Same extents (not their inline bytes)? */
static inline bool hf_xt_same(const struct hf_xt *a, const struct hf_xt *b)
{
    return a->off_bytes == b->off_bytes && a->len_bytes == b->len_bytes &&
           a->pos_bytes == b->pos_bytes && hf_oid_equal(&a->oid, &b->oid);
}

/** Lay inline bytes out anew in file order, without those no extent names; join inline
 *  neighbours. Errors: -ENOMEM. */
int hf_extvec_compact(struct hf_extvec *vec);
/** Bytes of a compacted vector as a row's value. */
size_t hf_extvec_row_bytes(const struct hf_extvec *vec);
void hf_extvec_encode(const struct hf_extvec *vec, uint8_t *ret);
/** @vec initialised. Errors: -EBADMSG, -ENOMEM. */
int hf_extvec_decode(struct hf_extvec *vec, const void *bytes, size_t len);

#endif
