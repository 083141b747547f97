/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/map_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/bugs.h"
#include "server/meta/inode.h"
#include "server/meta/objects.h"

/* Rows to map */

static int load_nodes(struct hf_meta *meta, struct hf_map *map)
{
    struct hf_table_cursor cursor;
    struct hf_key key;
    int err;

    hf_key_tag(&key, HF_ROW_NODE);
    for (err = hf_txn_seek(meta, &key, 1, &cursor); !err;
         err = hf_txn_next(meta, &key, 1, &cursor)) {
        struct hf_map_node *node = &map->nodes[map->node_count];

        if (cursor.key_len != 3 || map->node_count == HF_NODES_MAX ||
            hf_row_node_decode(cursor.value, cursor.value_len, node)) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        node->id.v = hf_get_be16((const uint8_t *)cursor.key + 1);
        map->node_count++;
    }
    return err == -ENOENT ? 0 : err;
}

static int load_groups(struct hf_meta *meta, struct hf_map *map)
{
    struct hf_table_cursor cursor;
    struct hf_key key;
    int err;

    hf_key_tag(&key, HF_ROW_GROUP);
    for (err = hf_txn_seek(meta, &key, 1, &cursor); !err;
         err = hf_txn_next(meta, &key, 1, &cursor)) {
        uint16_t group;

        if (cursor.key_len != 3) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        group = hf_get_be16((const uint8_t *)cursor.key + 1);
        if (group >= map->group_count ||
            hf_row_group_decode(cursor.value, cursor.value_len, &map->groups[group])) {
            return hf_txn_fail(meta, -EBADMSG);
        }
    }
    return err == -ENOENT ? 0 : err;
}

int hf_map_ops_load(struct hf_meta *meta)
{
    struct hf_row_format *format = &meta->format;
    struct hf_map *map = &meta->map;
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_map_fini(map);
    *map = (struct hf_map){0};
    hf_key_tag(&key, HF_ROW_FORMAT);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        *format = (struct hf_row_format){0};
        return err == -ENOENT ? 0 : err;
    }
    err = hf_row_format_decode(value, len, format);
    if (err) {
        return hf_txn_fail(meta, err);
    }
    map->epoch.v = format->epoch;
    map->cluster = format->cluster;
    map->copies = format->copies;
    map->min_copies = format->min_copies;
    map->groups = calloc(format->group_count, sizeof(*map->groups));
    if (!map->groups) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    map->group_count = format->group_count;
    err = load_nodes(meta, map);
    return err ? err : load_groups(meta, map);
}

/* Map to rows: a new epoch with every change. */

static int format_put(struct hf_meta *meta, const struct hf_row_format *format)
{
    uint8_t value[HF_ROW_FORMAT_BYTES];
    struct hf_key key;

    hf_key_tag(&key, HF_ROW_FORMAT);
    hf_row_format_encode(format, value);
    meta->map_changed = true;
    return hf_txn_put(meta, &key, value, sizeof(value));
}

static int next_epoch(struct hf_meta *meta, uint64_t *ret)
{
    struct hf_row_format format = meta->format;

    *ret = ++format.epoch;
    return format_put(meta, &format);
}

static int node_put(struct hf_meta *meta, const struct hf_map_node *node)
{
    uint8_t value[HF_ROW_NODE_BYTES];
    struct hf_key key;

    hf_key_tag(&key, HF_ROW_NODE);
    hf_key_add_u16(&key, node->id.v);
    hf_row_node_encode(node, value);
    return hf_txn_put(meta, &key, value, sizeof(value));
}

static int group_put(struct hf_meta *meta, uint16_t id, const struct hf_map_group *group)
{
    uint8_t value[HF_ROW_GROUP_BYTES];
    struct hf_key key;

    hf_key_tag(&key, HF_ROW_GROUP);
    hf_key_add_u16(&key, id);
    hf_row_group_encode(group, value);
    return hf_txn_put(meta, &key, value, sizeof(value));
}

static void set_text(char *ret, size_t size, const char *text, size_t len)
{
    memset(ret, 0, size);
    memcpy(ret, text, len < size - 1 ? len : size - 1);
}

int hf_meta_op_format(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply)
{
    const struct hf_row_format format = {
        .cluster = op->uuid,
        .copies = (uint32_t)op->count,
        .min_copies = (uint32_t)op->size,
        .group_count = op->mode ? op->mode : HF_GROUPS_DEFAULT,
        .epoch = 1,
        .seed = op->offset,
    };
    struct hf_inode *root;
    int err;

    if (meta->format.group_count) {
        return -EEXIST;
    }
    if (op->count == 0 || op->count > HF_REPLICAS_MAX || op->size == 0 || op->size > op->count ||
        format.group_count > HF_GROUPS_MAX || hf_uuid_is_zero(&op->uuid)) {
        return -EINVAL;
    }
    err = format_put(meta, &format);
    if (!err) {
        err = hf_inode_add(meta, (struct hf_ino){HF_INO_ROOT}, &root);
    }
    if (err) {
        return err;
    }
    root->attr.mode = S_IFDIR | 0755;
    root->attr.nlink = 2;
    root->parent.v = HF_INO_ROOT;
    reply->attr = root->attr;
    reply->map_epoch = format.epoch;
    return 0;
}

int hf_meta_op_node_add(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply)
{
    const struct hf_map_node *there = hf_map_node(&meta->map, op->node);
    struct hf_map_node node = {.id = op->node, .state = HF_NODE_UP};
    int err;

    if (op->node.v == 0 || op->node.v > HF_NODES_MAX || !op->text ||
        strlen(op->text) >= HF_ADDR_BYTES_MAX || op->name_len >= sizeof(node.domain) ||
        op->count > UINT32_MAX || (uint32_t)op->node_state >= HF_NODE_STATE_COUNT) {
        return -EINVAL;
    }
    if (there) {
        node = *there;
    }
    if (op->node_state != HF_NODE_NONE) {
        node.state = op->node_state;
    }
    if (!hf_uuid_is_zero(&op->uuid)) {
        node.uuid = op->uuid;
    }
    node.weight = op->count ? (uint32_t)op->count : 100;
    set_text(node.addr, sizeof(node.addr), op->text, strlen(op->text));
    set_text(node.domain, sizeof(node.domain), op->name ? op->name : "", op->name_len);
    err = next_epoch(meta, &reply->map_epoch);
    return err ? err : node_put(meta, &node);
}

static bool is_member(const struct hf_map_group *group, struct hf_node_id node)
{
    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        if (group->acting[i].v == node.v || group->target[i].v == node.v) {
            return true;
        }
    }
    return false;
}

int hf_meta_op_node_state(struct hf_meta *meta, const struct hf_meta_op *op,
                          struct hf_meta_reply *reply)
{
    const struct hf_map_node *there = hf_map_node(&meta->map, op->node);
    struct hf_map_node node;
    bool returns, group_changed;
    uint64_t epoch;
    int err;

    if (!there) {
        return -ENOENT;
    }
    if (op->node_state == HF_NODE_NONE || (uint32_t)op->node_state >= HF_NODE_STATE_COUNT ||
        (op->text && strlen(op->text) >= HF_ADDR_BYTES_MAX)) {
        return -EINVAL;
    }
    node = *there;
    returns = op->node_state == HF_NODE_RETURNING && node.state != HF_NODE_RETURNING;
    returns = returns || (op->flags & HF_NODE_RESTARTED);
    group_changed = returns || node.state != op->node_state;
    node.state = op->node_state;
    if (op->text) {
        set_text(node.addr, sizeof(node.addr), op->text, strlen(op->text));
    }
    if (!hf_uuid_is_zero(&op->uuid)) {
        node.uuid = op->uuid;
    }
    err = next_epoch(meta, &epoch);
    if (!err) {
        node.returned.v = returns && !HF_BUG(old_life_counts) ? epoch : node.returned.v;
        err = node_put(meta, &node);
    }
    for (uint32_t i = 0; i < meta->map.group_count && !err && group_changed; i++) {
        struct hf_map_group group = meta->map.groups[i];

        if (is_member(&group, node.id)) {
            group.epoch.v = epoch;
            err = group_put(meta, (uint16_t)i, &group);
            if (!err && HF_BUG(returned_counts) && there->state == HF_NODE_RETURNING &&
                node.state == HF_NODE_UP) {
                err = hf_objects_forget_members(meta, (uint16_t)i, hf_node_bit(node.id));
            }
        }
    }
    reply->map_epoch = epoch;
    return err;
}

/* Members packed in a number, one per byte, first lowest. Errors: -EINVAL. */
static int unpack_members(const struct hf_map *map, uint64_t packed,
                          struct hf_node_id ret[HF_REPLICAS_MAX])
{
    uint32_t count = 0;

    memset(ret, 0, HF_REPLICAS_MAX * sizeof(*ret));
    for (; packed; packed >>= 8) {
        const struct hf_node_id node = {(uint16_t)(packed & 0xff)};

        if (count == HF_REPLICAS_MAX || !hf_map_node(map, node)) {
            return -EINVAL;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (ret[i].v == node.v) {
                return -EINVAL;
            }
        }
        ret[count++] = node;
    }
    return 0;
}

static uint64_t members_mask(const struct hf_map_group *group)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        mask |= hf_node_bit(group->acting[i]) | hf_node_bit(group->target[i]);
    }
    return mask;
}

int hf_meta_op_group_set(struct hf_meta *meta, const struct hf_meta_op *op,
                         struct hf_meta_reply *reply)
{
    struct hf_map_group group = {0};
    uint64_t left;
    int err;

    if (op->count >= meta->map.group_count || op->holder_count < 1) {
        return -EINVAL;
    }
    err = unpack_members(&meta->map, op->holders[0], group.acting);
    if (!err) {
        err = unpack_members(&meta->map, op->holder_count > 1 ? op->holders[1] : 0, group.target);
    }
    if (!err) {
        err = next_epoch(meta, &group.epoch.v);
    }
    if (!err) {
        err = group_put(meta, (uint16_t)op->count, &group);
    }
    reply->map_epoch = group.epoch.v;
    left = members_mask(&meta->map.groups[op->count]) & ~members_mask(&group);
    return err ? err : hf_objects_forget_members(meta, (uint16_t)op->count, left);
}
