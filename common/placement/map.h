/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - the cluster map: nodes, and for each placement group its acting and target members.
 *
 * The table of groups is the truth; hf_map_propose() only proposes members (weighted rendezvous
 * hashing over failure domains: a pure function, least movement). Every change of the map has a new
 * epoch; a group's epoch is that of the last change to the group or to the state of a member.
 *
 * Node states:
 *   NEW ──► UP ◄──► DOWN ──► RETURNING ──► UP      (RETURNING: alive and written to, but counts as
 *            │ └──► READ_ONLY ──┘                    holding nothing until its inventory matched)
 *            └────► REMOVED
 * NEW is UP with no store's uuid yet: it is placed on, and the first store that it shows is its
 * own. READ_ONLY: alive, but its disk fails writes; what it holds is read, nothing is put there.
 *
 * Pure. Threads: any, one at a time.
 */
#ifndef HF_PLACEMENT_MAP_H
#define HF_PLACEMENT_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/ids.h"
#include "common/base/limits.h"

enum hf_node_state {
    HF_NODE_NONE,
    HF_NODE_UP,
    HF_NODE_DOWN,
    HF_NODE_RETURNING,
    HF_NODE_REMOVED,
    HF_NODE_READ_ONLY,
    HF_NODE_STATE_COUNT,
};

const char *hf_node_state_name(enum hf_node_state state);
/** Alive as far as is known: reads go there, and it is told of the map. */
static inline bool hf_node_serves(enum hf_node_state state)
{
    return state == HF_NODE_UP || state == HF_NODE_RETURNING || state == HF_NODE_READ_ONLY;
}

struct hf_map_node {
    struct hf_node_id id;
    enum hf_node_state state;
    uint32_t weight; /* relative; 100 is one share */
    char addr[HF_ADDR_BYTES_MAX];
    char domain[64];
    struct hf_uuid uuid;      /* of the store; zero until it was seen */
    struct hf_epoch returned; /* of the map, when it returned last: what it took before counts for
                               * nothing until an inventory finds it */
};

/** Its state as users see it: "new" for a member whose store was not seen yet. */
const char *hf_map_node_state_name(const struct hf_map_node *node);

struct hf_map_group {
    struct hf_epoch epoch;
    struct hf_node_id acting[HF_REPLICAS_MAX]; /* 0-terminated when shorter */
    struct hf_node_id target[HF_REPLICAS_MAX]; /* empty: no movement */
};

struct hf_map {
    struct hf_epoch epoch;
    struct hf_uuid cluster;
    uint32_t copies;
    uint32_t min_copies;
    uint32_t node_count;
    uint32_t group_count;
    struct hf_map_node nodes[HF_NODES_MAX]; /* ascending id */
    struct hf_map_group *groups;            /* group_count; owned */
};

/** Copy; *ret is overwritten, not freed. Errors: -ENOMEM. */
int hf_map_dup(const struct hf_map *map, struct hf_map *ret);
void hf_map_fini(struct hf_map *map);

/** NULL when not in the map. Borrowed. */
const struct hf_map_node *hf_map_node(const struct hf_map *map, struct hf_node_id id);
struct hf_map_node *hf_map_node_mut(struct hf_map *map, struct hf_node_id id);

/** Is the node's bit in a holder mask (bit n: node n + 1)? */
static inline uint64_t hf_node_bit(struct hf_node_id id)
{
    return id.v ? UINT64_C(1) << (id.v - 1) : 0;
}

/** All members of a group, acting then target, without repeats, as a mask. */
uint64_t hf_map_group_members(const struct hf_map *map, uint16_t group);
/** Members a put goes to: acting and target that are UP or RETURNING. */
uint64_t hf_map_group_writable(const struct hf_map *map, uint16_t group);
/**
 * Nodes to read from, best first: UP acting, then READ_ONLY and RETURNING acting, then the rest
 * that is not DOWN, then DOWN. @salt spreads readers. Returns the count.
 */
uint32_t hf_map_group_readers(const struct hf_map *map, uint16_t group, uint64_t salt,
                              struct hf_node_id ret[2 * HF_REPLICAS_MAX]);
/** A group that can take a put now: at least min_copies UP acting members; -1: none. Random start
 *  by @salt, preferring groups with every acting member UP and none in @avoid. */
int hf_map_pick_group(const struct hf_map *map, uint64_t salt, uint64_t avoid);
/** Will some group take puts when the nodes that are not UP have come back? Not where so many
 *  members are READ_ONLY that min_copies others do not exist. */
bool hf_map_may_take_puts(const struct hf_map *map);

/**
 * Proposed members of @group over the nodes that are UP: up to map->copies nodes, of different
 * failure domains while there are enough. Returns the count.
 * Source: weighted rendezvous hashing (Schindelhauer, Schomaker 2005).
 */
uint32_t hf_map_propose(const struct hf_map *map, uint16_t group,
                        struct hf_node_id ret[HF_REPLICAS_MAX]);

#endif
