/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/hmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

#define BUCKETS_MIN 64u

int hf_hmap_init(struct hf_hmap *map)
{
    *map = (struct hf_hmap){.mask = BUCKETS_MIN - 1};
    map->buckets = calloc(BUCKETS_MIN, sizeof(struct hf_hmap_node *));
    return map->buckets ? 0 : -ENOMEM;
}

void hf_hmap_fini(struct hf_hmap *map)
{
    free(map->buckets);
    *map = (struct hf_hmap){0};
}

static void push(struct hf_hmap_node **bucket, struct hf_hmap_node *node)
{
    node->next = *bucket;
    *bucket = node;
}

static void grow(struct hf_hmap *map)
{
    size_t count = (map->mask + 1) * 2;
    struct hf_hmap_node **buckets = calloc(count, sizeof(struct hf_hmap_node *));

    if (!buckets) {
        return;
    }
    for (size_t i = 0; i <= map->mask; i++) {
        struct hf_hmap_node *next;

        for (struct hf_hmap_node *n = map->buckets[i]; n; n = next) {
            next = n->next;
            push(&buckets[n->hash & (count - 1)], n);
        }
    }
    free(map->buckets);
    map->buckets = buckets;
    map->mask = count - 1;
}

void hf_hmap_add(struct hf_hmap *map, struct hf_hmap_node *node, uint64_t hash)
{
    if (map->count > map->mask) {
        grow(map);
    }
    node->hash = hash;
    push(&map->buckets[hash & map->mask], node);
    map->count++;
}

void hf_hmap_del(struct hf_hmap *map, struct hf_hmap_node *node)
{
    struct hf_hmap_node **at = &map->buckets[node->hash & map->mask];

    while (*at != node) {
        HF_ASSERT(*at);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->count--;
}

static struct hf_hmap_node *skip(struct hf_hmap_node *node, uint64_t hash)
{
    while (node && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct hf_hmap_node *hf_hmap_first(const struct hf_hmap *map, uint64_t hash)
{
    return skip(map->buckets[hash & map->mask], hash);
}

struct hf_hmap_node *hf_hmap_same(const struct hf_hmap_node *node)
{
    return skip(node->next, node->hash);
}

void hf_hmap_each(struct hf_hmap *map, void (*fn)(void *ctx, struct hf_hmap_node *node), void *ctx)
{
    if (!map->buckets) {
        return;
    }
    for (size_t i = 0; i <= map->mask; i++) {
        struct hf_hmap_node *next;

        for (struct hf_hmap_node *n = map->buckets[i]; n; n = next) {
            next = n->next;
            fn(ctx, n);
        }
    }
}

uint64_t hf_hash_bytes(uint64_t seed, const void *data, size_t len_bytes)
{
    const uint8_t *p = data;
    uint64_t hash = seed ^ len_bytes;

    for (; len_bytes >= 8; p += 8, len_bytes -= 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        hash = hf_hash_u64(hash ^ word);
    }
    for (; len_bytes > 0; p++, len_bytes--) {
        hash = hf_hash_u64(hash ^ *p);
    }
    return hash;
}
