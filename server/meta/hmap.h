/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hmap.h - a chained hash table of embedded nodes, for what the leader keeps in memory.
 *
 * The owner compares keys: hf_hmap_first() and hf_hmap_same() walk the nodes of one hash. Growing
 * that fails only makes chains longer. Threads: any, one at a time.
 */
#ifndef HF_META_HMAP_H
#define HF_META_HMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_hmap_node {
    struct hf_hmap_node *next;
    uint64_t hash;
};

struct hf_hmap {
    struct hf_hmap_node **buckets;
    size_t mask, count;
};

/** Errors: -ENOMEM. */
int hf_hmap_init(struct hf_hmap *map);
/** Nodes are the owner's; accepts a zeroed map. */
void hf_hmap_fini(struct hf_hmap *map);
void hf_hmap_add(struct hf_hmap *map, struct hf_hmap_node *node, uint64_t hash);
/** The node must be in the map. */
void hf_hmap_del(struct hf_hmap *map, struct hf_hmap_node *node);
/** First node with this hash, or NULL. */
struct hf_hmap_node *hf_hmap_first(const struct hf_hmap *map, uint64_t hash);
/** The next with the same hash, or NULL. */
struct hf_hmap_node *hf_hmap_same(const struct hf_hmap_node *node);
/** Every node may be deleted (and freed) by fn while it is visited. */
void hf_hmap_each(struct hf_hmap *map, void (*fn)(void *ctx, struct hf_hmap_node *node), void *ctx);

static inline uint64_t hf_hash_u64(uint64_t x)
{ /* splitmix64's finisher */
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
uint64_t hf_hash_bytes(uint64_t seed, const void *data, size_t len_bytes);

#endif
