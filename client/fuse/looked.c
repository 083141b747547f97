/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/looked.h"

void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t seq, uint64_t now_ns)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    looked->slots[i].thread = thread;
    looked->slots[i].seq = seq;
    looked->slots[i].at_ns = now_ns;
    looked->slots[i].failed_end = 0;
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
    bool mine = thread != 0 && looked->slots[i].thread == thread && !looked->slots[i].failed_end;

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

void hf_looked_failed(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t end)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;
    uint64_t before = hf_looked_failed_end(looked, thread, ino);

    looked->slots[i].thread = thread;
    looked->slots[i].failed_end = end > before ? end : before;
    looked->slots[i].attr.ino = ino;
}

uint64_t hf_looked_failed_end(const struct hf_looked *looked, uint32_t thread, struct hf_ino ino)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;
    bool mine = thread != 0 && looked->slots[i].thread == thread;

    return mine && looked->slots[i].attr.ino.v == ino.v ? looked->slots[i].failed_end : 0;
}

bool hf_looked_trims(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t size)
{
    return size < hf_looked_failed_end(looked, thread, ino);
}
