/* SPDX-License-Identifier: Apache-2.0 */
#include "common/placement/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

const char *hf_node_state_name(enum hf_node_state state)
{
    switch (state) {
    case HF_NODE_NONE:
        return "none";
    case HF_NODE_UP:
        return "up";
    case HF_NODE_DOWN:
        return "down";
    case HF_NODE_RETURNING:
        return "returning";
    case HF_NODE_REMOVED:
        return "removed";
    case HF_NODE_READ_ONLY:
        return "read-only";
    case HF_NODE_STATE_COUNT:
        break;
    }
    return "unknown";
}

const char *hf_map_node_state_name(const struct hf_map_node *node)
{
    return node->state == HF_NODE_UP && hf_uuid_is_zero(&node->uuid)
               ? "new"
               : hf_node_state_name(node->state);
}

int hf_map_dup(const struct hf_map *map, struct hf_map *ret)
{
    struct hf_map_group *groups = NULL;

    if (map->group_count) {
        groups = malloc(map->group_count * sizeof(*groups));
        if (!groups) {
            return -ENOMEM;
        }
        memcpy(groups, map->groups, map->group_count * sizeof(*groups));
    }
    *ret = *map;
    ret->groups = groups;
    return 0;
}

void hf_map_fini(struct hf_map *map)
{
    free(map->groups);
    map->groups = NULL;
    map->group_count = 0;
}

const struct hf_map_node *hf_map_node(const struct hf_map *map, struct hf_node_id id)
{
    if (id.v == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].id.v == id.v) {
            return &map->nodes[i];
        }
    }
    return NULL;
}

struct hf_map_node *hf_map_node_mut(struct hf_map *map, struct hf_node_id id)
{
    return (struct hf_map_node *)hf_map_node(map, id);
}

static enum hf_node_state state_of(const struct hf_map *map, struct hf_node_id id)
{
    const struct hf_map_node *node = hf_map_node(map, id);

    return node ? node->state : HF_NODE_NONE;
}

static uint64_t mask_of(const struct hf_node_id members[HF_REPLICAS_MAX])
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < HF_REPLICAS_MAX && members[i].v; i++) {
        mask |= hf_node_bit(members[i]);
    }
    return mask;
}

static const struct hf_map_group *group_at(const struct hf_map *map, uint16_t group)
{
    return group < map->group_count ? &map->groups[group] : NULL;
}

uint64_t hf_map_group_members(const struct hf_map *map, uint16_t group)
{
    const struct hf_map_group *g = group_at(map, group);

    return g ? mask_of(g->acting) | mask_of(g->target) : 0;
}

static uint64_t writable_nodes(const struct hf_map *map)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].state == HF_NODE_UP || map->nodes[i].state == HF_NODE_RETURNING) {
            mask |= hf_node_bit(map->nodes[i].id);
        }
    }
    return mask;
}

uint64_t hf_map_group_writable(const struct hf_map *map, uint16_t group)
{
    return hf_map_group_members(map, group) & writable_nodes(map);
}

/* Place in the order of readers; REMOVED and unknown nodes are not asked at all. */
enum reader_class { READ_UP, READ_SECOND, READ_TARGET, READ_DOWN, READ_CLASS_COUNT, READ_NEVER };

static enum reader_class reader_class(enum hf_node_state state, bool acting)
{
    switch (state) {
    case HF_NODE_UP:
        return acting ? READ_UP : READ_TARGET;
    case HF_NODE_RETURNING:
    case HF_NODE_READ_ONLY:
        return acting ? READ_SECOND : READ_TARGET;
    case HF_NODE_DOWN:
        return READ_DOWN;
    case HF_NODE_NONE:
    case HF_NODE_REMOVED:
    case HF_NODE_STATE_COUNT:
        break;
    }
    return READ_NEVER;
}

uint32_t hf_map_group_readers(const struct hf_map *map, uint16_t group, uint64_t salt,
                              struct hf_node_id ret[2 * HF_REPLICAS_MAX])
{
    const struct hf_map_group *g = group_at(map, group);
    struct hf_node_id classes[READ_CLASS_COUNT][2 * HF_REPLICAS_MAX];
    uint32_t counts[READ_CLASS_COUNT] = {0};
    uint64_t seen = 0;
    uint32_t total = 0;

    if (!g) {
        return 0;
    }
    for (uint32_t i = 0; i < 2 * HF_REPLICAS_MAX; i++) {
        bool acting = i < HF_REPLICAS_MAX;
        struct hf_node_id id = acting ? g->acting[i] : g->target[i - HF_REPLICAS_MAX];
        enum reader_class class = reader_class(state_of(map, id), acting);

        if (class != READ_NEVER && !(seen & hf_node_bit(id))) {
            seen |= hf_node_bit(id);
            classes[class][counts[class]++] = id;
        }
    }
    for (uint32_t c = 0; c < READ_CLASS_COUNT; c++) {
        for (uint32_t i = 0; i < counts[c]; i++) {
            ret[total++] = classes[c][(i + salt) % counts[c]];
        }
    }
    return total;
}

int hf_map_pick_group(const struct hf_map *map, uint64_t salt, uint64_t avoid)
{
    uint64_t up = 0, writable = writable_nodes(map);
    int best = -1, best_rank = -1;
    uint32_t min = map->min_copies ? map->min_copies : 1;

    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].state == HF_NODE_UP) {
            up |= hf_node_bit(map->nodes[i].id);
        }
    }
    for (uint32_t i = 0; i < map->group_count; i++) {
        uint32_t group = (uint32_t)((salt + i) % map->group_count);
        uint64_t acting = mask_of(map->groups[group].acting);
        int rank;

        if ((uint32_t)__builtin_popcountll(acting & writable) < min) {
            continue;
        }
        /* A member to avoid (it hangs) costs more than a missing copy, which repair will make. */
        rank = (acting & avoid ? 0 : 2) + (acting & ~up ? 0 : 1);
        if (rank > best_rank) {
            best = (int)group;
            best_rank = rank;
        }
        if (rank == 3) {
            break;
        }
    }
    return best;
}

bool hf_map_may_take_puts(const struct hf_map *map)
{
    uint64_t read_only = 0;
    uint32_t min = map->min_copies ? map->min_copies : 1;

    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].state == HF_NODE_READ_ONLY) {
            read_only |= hf_node_bit(map->nodes[i].id);
        }
    }
    for (uint32_t i = 0; i < map->group_count; i++) {
        uint64_t acting = mask_of(map->groups[i].acting);

        if ((uint32_t)__builtin_popcountll(acting & ~read_only) >= min) {
            return true;
        }
    }
    return false;
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/*
 * -log2(h / 2^64) in 32.32 fixed point. Integers only: every machine must propose the same, which
 * the last bit of a libm logarithm does not promise.
 */
static uint64_t neg_log2(uint64_t h)
{
    uint32_t top;
    uint64_t x, log;

    h |= 1;
    top = 63 - (uint32_t)__builtin_clzll(h);
    x = h << (63 - top); /* [1, 2) as 1.63 */
    log = (uint64_t)top << 32;
    for (uint32_t bit = 32; bit-- > 0;) {
        unsigned __int128 sq = (unsigned __int128)x * x; /* [1, 4) as 2.126 */

        if (sq >> 127) {
            log |= UINT64_C(1) << bit;
            x = (uint64_t)(sq >> 64);
        } else {
            x = (uint64_t)(sq >> 63);
        }
    }
    return (UINT64_C(64) << 32) - log;
}

/* Exponentially distributed with rate @weight: the least of several is node n with probability
 * weight n / sum of weights, and other nodes coming or going never change a node's own value. */
static uint64_t draw(uint16_t group, struct hf_node_id id, uint32_t weight)
{
    uint64_t h = mix(mix(group) ^ ((uint64_t)id.v << 32));

    return (neg_log2(h) << 24) / weight;
}

static bool same_domain(const struct hf_map_node *a, const struct hf_map_node *b)
{
    return a->domain[0] && strncmp(a->domain, b->domain, sizeof(a->domain)) == 0;
}

struct candidate {
    const struct hf_map_node *node;
    uint64_t draw;
};

static int candidate_cmp(const void *pa, const void *pb)
{
    const struct candidate *a = (const struct candidate *)pa, *b = (const struct candidate *)pb;

    if (a->draw != b->draw) {
        return a->draw < b->draw ? -1 : 1;
    }
    return a->node->id.v < b->node->id.v ? -1 : 1;
}

uint32_t hf_map_propose(const struct hf_map *map, uint16_t group,
                        struct hf_node_id ret[HF_REPLICAS_MAX])
{
    struct candidate c[HF_NODES_MAX];
    const struct hf_map_node *chosen[HF_REPLICAS_MAX];
    uint32_t count = 0, n = 0;
    uint32_t copies = map->copies < HF_REPLICAS_MAX ? map->copies : HF_REPLICAS_MAX;
    uint64_t taken = 0;

    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *node = &map->nodes[i];

        if (node->state == HF_NODE_UP && node->weight) {
            c[count++] = (struct candidate){node, draw(group, node->id, node->weight)};
        }
    }
    qsort(c, count, sizeof(c[0]), candidate_cmp);
    /* First one node a domain, then whatever is left. A node that leaves moves one member only:
     * of the sequence "first node of each domain" one element changes its place. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count && n < copies; i++) {
            bool clash = taken & hf_node_bit(c[i].node->id);

            for (uint32_t k = 0; k < n && !clash && pass == 0; k++) {
                clash = same_domain(c[i].node, chosen[k]);
            }
            if (!clash) {
                taken |= hf_node_bit(c[i].node->id);
                chosen[n++] = c[i].node;
            }
        }
    }
    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        ret[i].v = i < n ? chosen[i]->id.v : 0;
    }
    return n;
}
