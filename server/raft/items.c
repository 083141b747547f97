/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/items.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

#define CAP_MIN 256u

struct raft_item *raft_item_new(const struct hf_raft_entry *entry)
{
    const size_t bytes = hf_raft_entry_bytes(entry);
    struct raft_item *item = malloc(sizeof(*item) + bytes);

    if (!item) {
        return NULL;
    }
    *item = (struct raft_item){.refs = 1, .bytes = (uint32_t)bytes, .entry = *entry};
    hf_raft_entry_encode(entry, item->data);
    item->entry.msg = item->data + HF_RAFT_ENTRY_HEAD_BYTES;
    item->entry.bulk = item->entry.msg + entry->msg_len;
    return item;
}

int raft_item_parse(const uint8_t *bytes, size_t len, uint64_t index, struct raft_item **ret,
                    size_t *ret_used)
{
    struct hf_raft_entry entry;
    int err = hf_raft_entry_decode(bytes, len, index, &entry, ret_used);

    if (err) {
        return err;
    }
    *ret = raft_item_new(&entry);
    return *ret ? 0 : -ENOMEM;
}

struct raft_item *raft_item_ref(struct raft_item *item)
{
    item->refs++;
    return item;
}

void raft_item_unref(struct raft_item *item)
{
    if (item && --item->refs == 0) {
        free(item);
    }
}

static struct raft_item **slot(const struct raft_items *items, uint64_t index)
{
    return &items->slots[index & (items->cap - 1)];
}

void raft_items_reset(struct raft_items *items, uint64_t first)
{
    raft_items_trim(items, UINT64_MAX);
    items->first = first;
}

void raft_items_fini(struct raft_items *items)
{
    raft_items_reset(items, 1);
    free(items->slots);
    *items = (struct raft_items){0};
}

static int grow(struct raft_items *items)
{
    struct raft_items larger = {.cap = items->cap ? items->cap * 2 : CAP_MIN};

    larger.slots = calloc(larger.cap, sizeof(struct raft_item *));
    if (!larger.slots) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < items->count; i++) {
        *slot(&larger, items->first + i) = *slot(items, items->first + i);
    }
    free(items->slots);
    items->slots = larger.slots;
    items->cap = larger.cap;
    return 0;
}

int raft_items_push(struct raft_items *items, struct raft_item *item)
{
    if (items->count == items->cap && grow(items)) {
        return -ENOMEM;
    }
    if (items->first == 0) {
        items->first = item->entry.index;
    }
    HF_ASSERT(item->entry.index == items->first + items->count);
    *slot(items, item->entry.index) = item;
    items->count++;
    items->bytes += item->bytes;
    return 0;
}

static void drop(struct raft_items *items, uint64_t index)
{
    struct raft_item **at = slot(items, index);

    items->bytes -= (*at)->bytes;
    items->count--;
    raft_item_unref(*at);
    *at = NULL;
}

void raft_items_cut(struct raft_items *items, uint64_t index)
{
    while (items->count > 0 && raft_items_last(items) >= index) {
        drop(items, raft_items_last(items));
    }
}

void raft_items_trim(struct raft_items *items, uint64_t index)
{
    while (items->count > 0 && items->first <= index) {
        drop(items, items->first);
        items->first++;
    }
}

struct raft_item *raft_items_get(const struct raft_items *items, uint64_t index)
{
    if (items->count == 0 || index < items->first || index > raft_items_last(items)) {
        return NULL;
    }
    return *slot(items, index);
}

void raft_items_check_invariants(const struct raft_items *items)
{
    uint64_t bytes = 0, term = 0, seq = 0;

    HF_ASSERT(items->count <= items->cap && (items->count == 0 || items->first > 0));
    for (uint64_t i = 0; i < items->count; i++) {
        const struct raft_item *item = *slot(items, items->first + i);

        HF_ASSERT(item->refs > 0 && item->entry.index == items->first + i);
        HF_ASSERT(item->entry.term >= term && item->seq >= seq);
        bytes += item->bytes;
        term = item->entry.term;
        seq = item->seq;
    }
    HF_ASSERT(bytes == items->bytes);
}
