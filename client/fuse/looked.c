/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/looked.h"

void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t now_ns)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    looked->slots[i].thread = thread;
    looked->slots[i].at_ns = now_ns;
    looked->slots[i].attr = *attr;
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
    if (looked->slots[i].attr.ino.v != ino.v || now_ns - looked->slots[i].at_ns > HF_LOOKED_NS) {
        return false;
    }
    *ret = looked->slots[i].attr;
    return true;
}
