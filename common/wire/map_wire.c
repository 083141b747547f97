/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/store_msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/arena_wire.h"
#include "proto/holdfast.pb-c.h"

/* Members of a group as one number: 8 bits each, the first lowest. */
static uint64_t members_pack(const struct hf_node_id members[HF_REPLICAS_MAX])
{
    uint64_t v = 0;

    for (uint32_t i = 0; i < HF_REPLICAS_MAX && members[i].v; i++) {
        v |= (uint64_t)(members[i].v & 0xff) << 8 * i;
    }
    return v;
}

/* Each exists, none twice, no gaps. */
static bool members_unpack(uint64_t v, uint64_t nodes, struct hf_node_id ret[HF_REPLICAS_MAX])
{
    uint64_t seen = 0;

    memset(ret, 0, HF_REPLICAS_MAX * sizeof(ret[0]));
    for (uint32_t i = 0; v; i++, v >>= 8) {
        struct hf_node_id id = {(uint16_t)(v & 0xff)};

        if (i == HF_REPLICAS_MAX || id.v == 0 || id.v > HF_NODES_MAX) {
            return false;
        }
        if (!(nodes & hf_node_bit(id)) || (seen & hf_node_bit(id))) {
            return false;
        }
        seen |= hf_node_bit(id);
        ret[i] = id;
    }
    return true;
}

struct map_columns {
    uint32_t node_ids[HF_NODES_MAX];
    char *node_addrs[HF_NODES_MAX];
    uint32_t node_states[HF_NODES_MAX];
    uint32_t node_weights[HF_NODES_MAX];
    char *node_domains[HF_NODES_MAX];
    ProtobufCBinaryData node_uuids[HF_NODES_MAX];
    uint64_t node_returned[HF_NODES_MAX];
    uint64_t group_epochs[HF_GROUPS_MAX];
    uint64_t group_acting[HF_GROUPS_MAX];
    uint64_t group_target[HF_GROUPS_MAX];
};

static void columns_fill(struct map_columns *c, const struct hf_map *map)
{
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *node = &map->nodes[i];

        c->node_ids[i] = node->id.v;
        c->node_addrs[i] = (char *)node->addr;
        c->node_states[i] = (uint32_t)node->state;
        c->node_weights[i] = node->weight;
        c->node_domains[i] = (char *)node->domain;
        c->node_uuids[i] = (ProtobufCBinaryData){sizeof(node->uuid.b), (uint8_t *)node->uuid.b};
        c->node_returned[i] = node->returned.v;
    }
    for (uint32_t i = 0; i < map->group_count; i++) {
        c->group_epochs[i] = map->groups[i].epoch.v;
        c->group_acting[i] = members_pack(map->groups[i].acting);
        c->group_target[i] = members_pack(map->groups[i].target);
    }
}

int hf_msg_map_encode(const struct hf_map *map, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__MapReply pb;
    struct map_columns c;

    if (map->node_count > HF_NODES_MAX || map->group_count > HF_GROUPS_MAX) {
        return -EMSGSIZE;
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (!memchr(map->nodes[i].addr, '\0', sizeof(map->nodes[i].addr)) ||
            !memchr(map->nodes[i].domain, '\0', sizeof(map->nodes[i].domain))) {
            return -EMSGSIZE;
        }
    }
    columns_fill(&c, map);
    hf__wire__map_reply__init(&pb);
    WIRE_SET(pb, epoch, map->epoch.v);
    if (!hf_uuid_is_zero(&map->cluster)) {
        WIRE_SET_BYTES(pb, cluster, &map->cluster.b[0], sizeof(map->cluster.b));
    }
    WIRE_SET(pb, copies, map->copies);
    WIRE_SET(pb, min_copies, map->min_copies);
    pb.n_node_ids = pb.n_node_addrs = pb.n_node_states = pb.n_node_weights = pb.n_node_domains =
        pb.n_node_uuids = pb.n_node_returned = map->node_count;
    pb.node_ids = c.node_ids;
    pb.node_addrs = c.node_addrs;
    pb.node_states = c.node_states;
    pb.node_weights = c.node_weights;
    pb.node_domains = c.node_domains;
    pb.node_uuids = c.node_uuids;
    pb.node_returned = c.node_returned;
    pb.n_group_epochs = pb.n_group_acting = pb.n_group_target = map->group_count;
    pb.group_epochs = c.group_epochs;
    pb.group_acting = c.group_acting;
    pb.group_target = c.group_target;
    return wire_pack(&pb.base, ret, ret_len);
}

/* @ret_nodes: the nodes there are, as a mask. */
static bool nodes_get(const Hf__Wire__MapReply *pb, struct hf_map *map, uint64_t *ret_nodes)
{
    size_t n = pb->n_node_ids;
    uint64_t nodes = 0;
    uint32_t before = 0;

    if (n > HF_NODES_MAX || pb->n_node_addrs != n || pb->n_node_states != n ||
        pb->n_node_weights != n || pb->n_node_domains != n || pb->n_node_uuids != n ||
        pb->n_node_returned != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct hf_map_node *node = &map->nodes[i];

        if (pb->node_ids[i] <= before || pb->node_ids[i] > HF_NODES_MAX ||
            pb->node_states[i] >= HF_NODE_STATE_COUNT ||
            !wire_get_text(pb->node_addrs[i], node->addr, sizeof(node->addr)) ||
            !wire_get_text(pb->node_domains[i], node->domain, sizeof(node->domain)) ||
            !wire_get_uuid(1, &pb->node_uuids[i], &node->uuid)) {
            return false;
        }
        before = pb->node_ids[i];
        node->id.v = (uint16_t)before;
        node->state = (enum hf_node_state)pb->node_states[i];
        node->weight = pb->node_weights[i];
        node->returned.v = pb->node_returned[i];
        nodes |= hf_node_bit(node->id);
    }
    map->node_count = (uint32_t)n;
    *ret_nodes = nodes;
    return true;
}

static bool groups_get(const Hf__Wire__MapReply *pb, struct hf_map *map, uint64_t nodes)
{
    for (uint32_t i = 0; i < map->group_count; i++) {
        struct hf_map_group *group = &map->groups[i];

        group->epoch.v = pb->group_epochs[i];
        if (!members_unpack(pb->group_acting[i], nodes, group->acting) ||
            !members_unpack(pb->group_target[i], nodes, group->target)) {
            return false;
        }
    }
    return true;
}

static int map_get(const Hf__Wire__MapReply *pb, struct hf_map *map)
{
    size_t n = pb->n_group_epochs;
    uint64_t nodes;

    if (pb->copies > HF_REPLICAS_MAX || pb->min_copies > pb->copies || n > HF_GROUPS_MAX ||
        pb->n_group_acting != n || pb->n_group_target != n ||
        !wire_get_uuid(pb->has_cluster, &pb->cluster, &map->cluster) ||
        !nodes_get(pb, map, &nodes)) {
        return -EBADMSG;
    }
    map->epoch.v = pb->epoch;
    map->copies = pb->copies;
    map->min_copies = pb->min_copies;
    if (n == 0) {
        return 0;
    }
    map->groups = calloc(n, sizeof(*map->groups));
    if (!map->groups) {
        return -ENOMEM;
    }
    map->group_count = (uint32_t)n;
    if (!groups_get(pb, map, nodes)) {
        hf_map_fini(map);
        return -EBADMSG;
    }
    return 0;
}

int hf_msg_map_decode(const void *msg, size_t len, struct hf_map *ret)
{
    struct hf_map map = {0};
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__map_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    err = map_get((const Hf__Wire__MapReply *)unpacked, &map);
    arena_free(a);
    if (err == 0) {
        *ret = map;
    }
    return err;
}
