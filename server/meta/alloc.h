/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.h - the ranges of a file that fallocate reserved and nobody has written yet.
 *
 *     fallocate ──► the range, less what extents cover ──► reserved
 *                          write, punch, truncate, clone over it ──► no longer
 *
 * One row holds all of an inode's: a range costs 16 bytes, however long it is. They read as holes,
 * and may lie behind EOF. Their bytes count for the inode (attr.bytes) and in usage.reserved_bytes,
 * which the leader promises to nobody else.
 *
 * Invariant: ascending, not empty, not touching; no extent covers any of it. At most
 * HF_ALLOC_RANGES_MAX: when writes tear a file's into more, the shortest are given up, and what is
 * written there needs free space as anywhere.
 */
#ifndef HF_META_ALLOC_H
#define HF_META_ALLOC_H

#include "server/meta/txn.h"

struct hf_alloc_range {
    uint64_t off_bytes, end_bytes;
};

struct hf_alloc {
    struct hf_alloc_range *v; /* owned */
    uint32_t count, cap;
};

/** Errors: -EBADMSG, -ENOMEM. @ret zeroed before; hf_alloc_fini() in any case. */
int hf_alloc_decode(struct hf_alloc *ret, const void *bytes, size_t len);
/** Bytes of its row's value, and those. */
size_t hf_alloc_row_bytes(const struct hf_alloc *alloc);
void hf_alloc_encode(const struct hf_alloc *alloc, uint8_t *ret);
void hf_alloc_fini(struct hf_alloc *alloc);
uint64_t hf_alloc_bytes(const struct hf_alloc *alloc);

/** Errors: -ENOSPC  more than @limit_bytes would be reserved of all files. */
int hf_alloc_reserve(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end,
                     uint64_t limit_bytes);
int hf_alloc_release(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end);
/** The ranges of @count extents of the inode, @shift further on. */
int hf_alloc_release_extents(struct hf_meta *meta, struct hf_inode *inode,
                             const struct hf_wr_extent *extents, uint32_t count, uint64_t shift);
/** reply->count: how many bytes of the range are reserved. */
void hf_meta_rd_reserved(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply);

#endif
