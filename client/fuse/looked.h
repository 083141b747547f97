/* SPDX-License-Identifier: Apache-2.0 */
/*
 * looked.h - the attributes that a LOOKUP gave to a thread a moment ago.
 *
 * With validity 0 the kernel asks for the attributes of what it has just looked up, once more,
 * within the same system call (permission to pass a directory; stat). The LOOKUP's answer is as
 * good: the call may take effect at any moment between its beginning and its end. So a GETATTR is
 * answered from here when it comes from the same thread, for the same inode, with no other request
 * of that thread in between, and at once.
 */
#ifndef HF_FUSE_LOOKED_H
#define HF_FUSE_LOOKED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/meta_op.h"

#define HF_LOOKED_SLOTS 16u
#define HF_LOOKED_NS    UINT64_C(200000) /* the kernel asks within some 20 µs */

struct hf_looked {
    struct {
        uint32_t thread; /* 0: empty */
        uint64_t at_ns;
        struct hf_attr attr;
    } slots[HF_LOOKED_SLOTS];
};

/** Thread 0 (the kernel itself) is never remembered. */
void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t now_ns);
/** The thread asks for something else. */
void hf_looked_drop(struct hf_looked *looked, uint32_t thread);
/** Good for one answer. */
bool hf_looked_take(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t now_ns,
                    struct hf_attr *ret);

#endif
