/* SPDX-License-Identifier: Apache-2.0 */
/*
 * items.h - the bytes of the log's entries in memory, by index; for server/raft only.
 *
 * An item holds an entry as it lies in records and messages (wire.h), so it is written to the disk
 * and sent to peers from where it is. It is counted: the log, a write and a message may each hold
 * it.
 */
#ifndef HF_RAFT_ITEMS_H
#define HF_RAFT_ITEMS_H

#include "server/raft/wire.h"

struct hf_raft_proposal;

struct raft_item {
    uint32_t refs;
    uint32_t bytes; /* of data */
    uint64_t seq;   /* of the log's record that holds it; 0: none yet */
    struct hf_raft_proposal *proposal;
    struct hf_raft_entry entry; /* its pointers lie in data */
    uint8_t data[];
};

/** One reference. NULL: out of memory. */
struct raft_item *raft_item_new(const struct hf_raft_entry *entry);
/** The first entry of @bytes. Errors: -EBADMSG, -ENOMEM. */
int raft_item_parse(const uint8_t *bytes, size_t len, uint64_t index, struct raft_item **ret,
                    size_t *ret_used);
struct raft_item *raft_item_ref(struct raft_item *item);
/** NULL is a no-op. */
void raft_item_unref(struct raft_item *item);

struct raft_items {
    struct raft_item **slots; /* ring: entry i is at i & (cap - 1) */
    uint64_t cap;
    uint64_t first; /* index of the first held, or of the next when none is */
    uint64_t count;
    uint64_t bytes;
};

void raft_items_fini(struct raft_items *items);
/** Empty, the next entry being @first. */
void raft_items_reset(struct raft_items *items, uint64_t first);
/** Takes the reference. Errors: -ENOMEM. */
int raft_items_push(struct raft_items *items, struct raft_item *item);
/** Drop those from @index on. */
void raft_items_cut(struct raft_items *items, uint64_t index);
/** Drop those up to @index. */
void raft_items_trim(struct raft_items *items, uint64_t index);
/** NULL: not held. */
struct raft_item *raft_items_get(const struct raft_items *items, uint64_t index);
/** Walks them all: indexes without a gap, terms and records that ascend, bytes as counted. */
void raft_items_check_invariants(const struct raft_items *items);
static inline uint64_t raft_items_last(const struct raft_items *items)
{
    return items->first + items->count - 1;
}

#endif
