/* SPDX-License-Identifier: Apache-2.0 */
/*
 * looked.h - the attributes that a LOOKUP gave to a thread a moment ago.
 *
 * With validity 0 the kernel asks for the attributes of what it has just looked up, once more,
 * within the same system call (permission to pass a directory; stat). The LOOKUP's answer is as
 * good: the call may take effect at any moment between its beginning and its end. So a GETATTR is
 * answered from here when it comes from the same thread, for the same inode, with no other request
 * of that thread in between, and at once.
 *
 * And only when no other request changed the inode since the LOOKUP began: the kernel takes the
 * answer for one of the moment of the GETATTR. With an older, smaller size it would append over
 * what another thread has just appended.
 */
#ifndef HF_FUSE_LOOKED_H
#define HF_FUSE_LOOKED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/meta_op.h"

#define HF_LOOKED_SLOTS 16u
#define HF_LOOKED_NS    UINT64_C(200000) /* the kernel asks within some 20 µs */
#define HF_LOOKED_MARKS 64u              /* inodes that share one lose an answer, no more */

struct hf_looked {
    struct {
        uint32_t thread; /* 0: empty */
        uint64_t at_ns;
        uint64_t seq; /* when the LOOKUP began */
        struct hf_attr attr;
    } slots[HF_LOOKED_SLOTS];
    uint64_t seq;                      /* changes so far */
    uint64_t changed[HF_LOOKED_MARKS]; /* by inode: the last one */
};

/** Thread 0 (the kernel itself) is never remembered. @seq: looked->seq when the LOOKUP began. */
void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t seq, uint64_t now_ns);
/** A request that changes the inode begins, or ends. */
void hf_looked_changed(struct hf_looked *looked, struct hf_ino ino);
/** The thread asks for something else. */
void hf_looked_drop(struct hf_looked *looked, uint32_t thread);
/** Good for one answer. */
bool hf_looked_take(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t now_ns,
                    struct hf_attr *ret);

#endif
