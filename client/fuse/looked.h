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
 *
 * One write(2) is a run of WRITEs, which may be under way at the same time: when one of them fails
 * the kernel knows nothing of what the others wrote, or takes it that they come first. Which, its
 * next request tells: a cut, or another one.
 */
#ifndef HF_FUSE_LOOKED_H
#define HF_FUSE_LOOKED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/meta_op.h"

#define HF_LOOKED_SLOTS 16u
#define HF_LOOKED_NS    UINT64_C(200000) /* the kernel asks within some 20 µs */
#define HF_LOOKED_MARKS 64u              /* inodes that share one lose an answer, no more */
#define HF_LOOKED_RUNS  128u             /* the oldest that nobody asks for goes */

/* WRITEs of one thread to one inode, with no other request of the thread in between. */
struct hf_looked_run {
    struct hf_ino ino;
    uint32_t running;
    uint64_t seq;
    uint64_t end;        /* of those that succeeded */
    uint64_t failed_end; /* of those that failed; 0: none did */
};

struct hf_looked {
    struct {
        uint32_t thread; /* 0: empty */
        uint64_t at_ns;
        uint64_t seq; /* when the LOOKUP began */
        struct hf_attr attr;
    } slots[HF_LOOKED_SLOTS];
    uint64_t seq;                         /* changes so far */
    uint64_t changed[HF_LOOKED_MARKS];    /* by inode: the last one */
    uint32_t run_threads[HF_LOOKED_RUNS]; /* 0: no run */
    struct hf_looked_run runs[HF_LOOKED_RUNS];
    uint64_t run_seq;
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
/** A WRITE begins that the kernel may take for one behind the end of the file. */
void hf_looked_write(struct hf_looked *looked, uint32_t thread, struct hf_ino ino);
/** It failed, or (@failed false) it succeeded: how far the kernel takes the file to go by that; 0:
 *  it cannot be told yet. */
uint64_t hf_looked_wrote(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t end,
                         bool failed);
/** Is a cut of the file to @size what the kernel does after a failed one? Then its run is over. */
bool hf_looked_trims(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t size);
/** The thread asks for something else: its run is over. How far the kernel takes *ret_ino to go by
 *  what it wrote; 0: nothing new. */
uint64_t hf_looked_run_over(struct hf_looked *looked, uint32_t thread, struct hf_ino *ret_ino);

#endif
