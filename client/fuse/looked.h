/* SPDX-License-Identifier: Apache-2.0 */
/*
 * looked.h - what a thread was answered a moment ago: the attributes of a LOOKUP or a CREATE, or
 * that a write failed.
 *
 * With validity 0 the kernel asks for the attributes of what it has just looked up or made, once
 * more, within the same system call (permission to pass a directory, or to open; stat). The
 * LOOKUP's answer is as good: the call may take effect at any moment between its beginning and its
 * end. So a GETATTR is answered from here when it comes from the same thread, for the same inode,
 * with no other request of that thread in between, and at once.
 *
 * And only when no other request changed the inode since the LOOKUP began: the kernel takes the
 * answer for one of the moment of the GETATTR. With an older, smaller size it would append over
 * what another thread has just appended.
 *
 * After a write of O_DIRECT that fails behind what it takes for the end of the file, the kernel
 * cuts the file there, in the same system call: what another mount has written behind it would go.
 * So a SETATTR of a size below the end of the write is not taken for the user's when it is the
 * thread's next request. A failed write leaves nothing to cut.
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
        uint64_t seq;        /* when the LOOKUP began */
        uint64_t failed_end; /* of a write that failed; 0: it looked */
        struct hf_attr attr; /* of a failed write: ino */
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
/** A write up to @end failed that the kernel may have taken for one behind the end of the file. */
void hf_looked_failed(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t end);
/** How far it went; 0: none failed. One write is several requests, of which others may succeed. */
uint64_t hf_looked_failed_end(const struct hf_looked *looked, uint32_t thread, struct hf_ino ino);
/** Is a cut of the file to @size what the kernel does after that? Good for one. */
bool hf_looked_trims(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t size);

#endif
