/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.h - the rows of extents: one vector per (inode, 4 MiB window of the file).
 *
 *     load ──► meta->vec ── set, punch ──► store: what came and went is counted on the objects,
 *                                                 on the inode and in the usage
 */
#ifndef HF_META_WINDOW_H
#define HF_META_WINDOW_H

#include "server/meta/txn.h"

/** Windows that @size bytes take. */
static inline uint64_t hf_windows(uint64_t size)
{
    return size / HF_WINDOW_BYTES + (size % HF_WINDOW_BYTES != 0);
}

/** Is a vector with this epoch at this window left over from a truncate? */
static inline bool hf_window_is_stale(const struct hf_inode *inode, uint64_t window, uint32_t epoch)
{
    return (inode->flags & HF_INODE_STALE_TAIL) && window >= inode->stale_from &&
           epoch < inode->trunc_epoch;
}

/** For looks: into @vec; empty when there is none or it is stale. */
int hf_window_look(struct hf_meta *meta, const struct hf_inode *inode, uint64_t window,
                   struct hf_extvec *vec);
/** The first window in [@from, @to) that has a row, stale or not. Errors: -ENOENT. */
int hf_window_next(struct hf_meta *meta, struct hf_ino ino, uint64_t from, uint64_t to,
                   uint64_t *ret);
/** Into meta->vec (and meta->vec_old), for a change. */
int hf_window_load(struct hf_meta *meta, const struct hf_inode *inode, uint64_t window);
/**
 * What meta->vec has become. @commit: the bounds for commits hold.
 * Errors: -E2BIG  too many extents or inline bytes: what the client has should go as one object.
 */
int hf_window_store(struct hf_meta *meta, struct hf_inode *inode, uint64_t window, bool commit);

int hf_window_drop(struct hf_meta *meta, struct hf_inode *inode, uint64_t window);
/** Drop up to @max windows in [@from, @to). @ret_next: where to go on. */
int hf_window_drop_from(struct hf_meta *meta, struct hf_inode *inode, uint64_t from, uint64_t to,
                        uint64_t max, uint64_t *ret_next, uint64_t *ret_count);
/** A bounded part of a stale tail; when it is gone, the inode leaves the purge queue. */
int hf_window_drop_stale(struct hf_meta *meta, struct hf_inode *inode, uint64_t max,
                         uint64_t *ret_count);

/** [off, end) reads as zeros. end may be past EOF. */
int hf_window_punch(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end);
/**
 * Give up what lies behind @size, which is below the inode's; the caller sets the size.
 *
 * @bounded  the work is, even beside a tail that is not purged yet (which made it unbounded in
 *           entries that do not say so)
 * Errors: -EAGAIN  bounded, and the purge has to come further first
 */
int hf_window_truncate(struct hf_meta *meta, struct hf_inode *inode, uint64_t size, bool bounded);

#endif
