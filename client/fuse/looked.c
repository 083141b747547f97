/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/looked.h"

void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t seq, uint64_t now_ns)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    looked->slots[i].thread = thread;
    looked->slots[i].seq = seq;
    looked->slots[i].at_ns = now_ns;
    looked->slots[i].attr = *attr;
}

void hf_looked_changed(struct hf_looked *looked, struct hf_ino ino)
{
    looked->changed[ino.v % HF_LOOKED_MARKS] = ++looked->seq;
}

void hf_looked_drop(struct hf_looked *looked, uint32_t thread)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    if (looked->slots[i].thread == thread) {
        looked->slots[i].thread = 0;
    }
}

bool hf_looked_take(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t now_ns,
                    struct hf_attr *ret)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;
    bool mine = thread != 0 && looked->slots[i].thread == thread;

    if (!mine) {
        return false;
    }
    looked->slots[i].thread = 0;
    if (looked->slots[i].attr.ino.v != ino.v || now_ns - looked->slots[i].at_ns > HF_LOOKED_NS ||
        looked->changed[ino.v % HF_LOOKED_MARKS] > looked->slots[i].seq) {
        return false;
    }
    *ret = looked->slots[i].attr;
    return true;
}
