/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - advisory locks: POSIX byte ranges and, in a space of their own, flock.
 *
 * One row per inode and space holds them all, ordered by (start, session, owner). A lock belongs
 * to (session, owner): the owner is the kernel's, unique within one mount.
 *
 * Invariant: the locks of one owner do not overlap, and adjacent ones of one type are one.
 */
#ifndef HF_META_LOCK_H
#define HF_META_LOCK_H

#include "server/meta/txn.h"

struct hf_lock {
    struct hf_session_id session;
    uint64_t owner;
    uint64_t start, end; /* inclusive */
    uint32_t type;       /* F_RDLCK, F_WRLCK */
    uint32_t pid;
};

struct hf_lockvec {
    struct hf_lock *v; /* owned */
    uint32_t count, cap;
};

/* Pure arithmetic on one inode's locks. */

void hf_lockvec_fini(struct hf_lockvec *vec);
/** The first lock that stands in the way of @lock, or NULL. */
const struct hf_lock *hf_lockvec_conflict(const struct hf_lockvec *vec, const struct hf_lock *lock);
/** Give @lock->type to the range for its owner; F_UNLCK takes it away. Errors: -ENOMEM. */
int hf_lockvec_set(struct hf_lockvec *vec, const struct hf_lock *lock);

/** The inode is gone: so are its locks. */
int hf_lock_forget_inode(struct hf_meta *meta, struct hf_ino ino);
/** The session ended. */
int hf_lock_forget_session(struct hf_meta *meta, struct hf_session_id session);

int hf_meta_op_lock(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply);
int hf_meta_op_lock_release(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply);
/** All that stands in the way of the lock that @rd asks for. @ret: zeroed or used before, the
 *  caller's to fini; empty after an error. Errors: -errno. */
int hf_lock_in_the_way(struct hf_meta *meta, const struct hf_meta_read *rd, struct hf_lockvec *ret);
void hf_meta_rd_getlk(struct hf_meta *meta, const struct hf_meta_read *rd,
                      struct hf_meta_reply *reply);

/** One row's locks; @vec zeroed or used before. Errors: -EBADMSG, -ENOMEM. */
int hf_lockvec_decode(struct hf_lockvec *vec, const void *bytes, size_t len);

#endif
