/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/base/store_state.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define TICK_NS_MAX          HF_NS_PER_SEC
#define INVENTORY_RETRY_NS   (2 * HF_NS_PER_SEC)
#define INVENTORY_AUDIT_NS   (600 * HF_NS_PER_SEC) /* after sessions ended: strays of theirs */
#define INVENTORY_REGULAR_NS (6 * 3600 * HF_NS_PER_SEC)

struct hf_lnode *hf_nodes_mut(struct hf_leader *leader, struct hf_node_id id)
{
    HF_ASSERT(id.v >= 1 && id.v <= HF_NODES_MAX);
    return &leader->nodes.nodes[id.v - 1];
}

const struct hf_lnode *hf_nodes_get(const struct hf_leader *leader, struct hf_node_id id)
{
    HF_ASSERT(id.v >= 1 && id.v <= HF_NODES_MAX);
    return &leader->nodes.nodes[id.v - 1];
}

enum hf_node_state hf_nodes_state(const struct hf_leader *leader, struct hf_node_id id)
{
    const struct hf_map_node *node = hf_map_node(hf_meta_map(leader->meta), id);

    return node ? node->state : HF_NODE_NONE;
}

static bool heard_lately(const struct hf_leader *leader, const struct hf_lnode *node)
{
    return node->heard && hf_env_mono_ns(leader->env) - node->heard_ns <= leader->node_timeout_ns;
}

bool hf_nodes_live(const struct hf_leader *leader, struct hf_node_id id)
{
    enum hf_node_state state = hf_nodes_state(leader, id);

    return (state == HF_NODE_UP || state == HF_NODE_RETURNING) &&
           heard_lately(leader, hf_nodes_get(leader, id));
}

/* States */

static void state_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct hf_lnode *node = ctx;

    node->proposing = false;
    if (!reply->err && node->start_proposed) {
        node->start_noted = node->start_proposed;
    }
    if (reply->err) {
        hf_log(HF_LOG_WARN, "meta", "node state not changed", "node=%u err=%s", node->id.v,
               hf_err_name(reply->err));
    }
}

/* @start: of a process that has not been noted yet, or 0. */
static void propose_state(struct hf_leader *leader, struct hf_lnode *node, enum hf_node_state state,
                          const struct hf_uuid *uuid, const char *addr, uint64_t start)
{
    struct hf_meta_op op = {.op = HF_OP_NODE_STATE,
                            .node = node->id,
                            .node_state = state,
                            .uuid = *uuid,
                            .text = addr,
                            .flags = start ? HF_NODE_RESTARTED : 0};
    enum hf_log_level level =
        state == HF_NODE_DOWN || state == HF_NODE_READ_ONLY ? HF_LOG_WARN : HF_LOG_INFO;

    if (node->proposing) {
        return;
    }
    hf_log(level, "meta", "node state", "node=%u state=%s%s", node->id.v, hf_node_state_name(state),
           state == HF_NODE_DOWN
               ? " what=\"not heard any more: what it holds has fewer copies until "
                 "it returns; check the machine and holdfastd on it\""
           : state == HF_NODE_READ_ONLY
               ? " what=\"its disk fails writes: nothing is stored there any more, what it holds "
                 "can be read; replace the disk or mend it, start holdfastd on it again\""
               : "");
    node->proposing = true;
    node->start_proposed = start;
    hf_leader_propose(leader, &op, state_done, node);
}

static uint64_t returned_at(const struct hf_leader *leader, struct hf_node_id id)
{
    const struct hf_map_node *node = hf_map_node(hf_meta_map(leader->meta), id);

    return node ? node->returned.v : 0;
}

void hf_nodes_map_changed(struct hf_leader *leader)
{
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        struct hf_lnode *node = &leader->nodes.nodes[i];
        enum hf_node_state state = hf_nodes_state(leader, node->id);

        if ((state != HF_NODE_UP && state != HF_NODE_RETURNING) ||
            node->inventory_returned != returned_at(leader, node->id)) {
            hf_inventory_cancel(leader, node); /* it may have gone past what is lost now */
        }
        if (state == HF_NODE_RETURNING) {
            node->inventory_wanted = true;
        }
        node->copy_retry_ns = node->copy_backoff_ns = 0;
    }
}

/* Inventories */

static void maybe_inventory(struct hf_leader *leader, struct hf_lnode *node)
{
    uint64_t now_ns = hf_env_mono_ns(leader->env);
    uint64_t since_ns = now_ns - node->inventory_ns;

    if (node->inventory || now_ns < node->inventory_ns || !hf_leader_serving(leader) ||
        !hf_nodes_live(leader, node->id)) {
        return;
    }
    if (!node->inventory_wanted && since_ns < INVENTORY_REGULAR_NS &&
        (since_ns < INVENTORY_AUDIT_NS || node->inventory_ended == leader->sessions.ended)) {
        return;
    }
    node->inventory_wanted = false;
    node->inventory_ended = leader->sessions.ended;
    node->inventory_returned = returned_at(leader, node->id);
    hf_inventory_start(leader, node);
}

void hf_nodes_audit(struct hf_leader *leader)
{
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        leader->nodes.nodes[i].inventory_wanted = true;
    }
}

void hf_nodes_inventory_done(struct hf_leader *leader, struct hf_lnode *node, int err)
{
    const struct hf_map_node *member = hf_map_node(hf_meta_map(leader->meta), node->id);
    uint64_t now_ns = hf_env_mono_ns(leader->env);

    node->inventory_ns = now_ns;
    if (err && !HF_BUG(failed_inventory_counts)) {
        node->inventory_wanted = true;
        node->inventory_ns = now_ns + INVENTORY_RETRY_NS;
        return;
    }
    if (member && member->state == HF_NODE_RETURNING && node->proposing) {
        node->inventory_wanted = true; /* something else about it is on its way */
    } else if (member && member->state == HF_NODE_RETURNING) {
        /* What it lacks was proposed before this and is applied before it. */
        propose_state(leader, node, HF_NODE_UP, &member->uuid, NULL, 0);
    }
    hf_copier_kick(leader);
}

/* Heartbeats */

/* False: this store is not the node it says it is. */
static bool known_store(struct hf_leader *leader, struct hf_lnode *node,
                        const struct hf_map_node *member, const struct hf_msg_heartbeat *beat)
{
    char ours[HF_UUID_STR_MAX], theirs[HF_UUID_STR_MAX];

    if (hf_uuid_is_zero(&member->uuid) || hf_uuid_equal(&member->uuid, &beat->store)) {
        node->refused = false;
        return true;
    }
    if (!node->refused) {
        node->refused = true;
        hf_log(HF_LOG_ERROR, "meta", "foreign store refused",
               "node=%u store=%s expected=%s addr=%s what=\"a new, empty store claims node %u: put "
               "the node's data directory back, or give the new store a node id of its own\"",
               node->id.v, hf_uuid_str(&beat->store, theirs), hf_uuid_str(&member->uuid, ours),
               beat->addr, node->id.v);
    }
    return false;
}

/* A process that the log does not know of: its store may have found less than it held. */
static bool restarted(const struct hf_lnode *node, const struct hf_msg_heartbeat *beat)
{
    return beat->start != node->start_noted && (!beat->noted || node->start_noted) &&
           !HF_BUG(quick_start_trusted);
}

/* False: a process elsewhere is this node, and alive: one of their directories is a copy. */
static bool only_one(struct hf_leader *leader, struct hf_lnode *node,
                     const struct hf_msg_heartbeat *beat)
{
    if (node->start == beat->start || !heard_lately(leader, node) ||
        strcmp(node->addr, beat->addr) == 0) {
        node->doubled = node->doubled && node->start == beat->start;
        node->start = beat->start;
        (void)snprintf(node->addr, sizeof(node->addr), "%s", beat->addr);
        return true;
    }
    if (!node->doubled) {
        node->doubled = true;
        hf_log(
            HF_LOG_ERROR, "meta", "node started twice",
            "node=%u addr=%s also=%s what=\"two processes are node %u with the same store: a data "
            "directory was copied; stop one, and give a new node an empty directory. The second "
            "is not heard until the first is silent\"",
            node->id.v, node->addr, beat->addr, node->id.v);
    }
    return false;
}

static void take_stats(struct hf_lnode *node, const struct hf_msg_heartbeat *beat)
{
    if (!node->heard) {
        node->inventory_wanted = true; /* what an earlier leader was told is not known */
    }
    node->stats = beat->stats;
    node->named_bytes = 0;
}

struct bad_batch {
    struct hf_oid oids[64];
    uint32_t count;
};

static void propose_bad(struct hf_leader *leader, struct hf_lnode *node, struct bad_batch *batch)
{
    if (batch->count > 0) {
        hf_leader_propose_oids(leader, HF_OP_DEGRADED_ADD, node->id, batch->oids, batch->count);
        batch->count = 0;
    }
}

static void add_bad(struct hf_leader *leader, struct hf_lnode *node, struct bad_batch *batch,
                    const struct hf_oid *oid)
{
    hf_copier_void(leader, node, oid);
    batch->oids[batch->count++] = *oid;
    if (batch->count == HF_ARRAY_LEN(batch->oids)) {
        propose_bad(leader, node, batch);
    }
}

static bool is_named(struct hf_leader *leader, const struct hf_oid *oid)
{
    struct hf_meta_object object;

    return hf_meta_object(leader->meta, oid, &object) != -ENOENT;
}

static void take_bad(struct hf_leader *leader, struct hf_lnode *node,
                     const struct hf_msg_heartbeat *beat)
{
    struct bad_batch batch = {.count = 0};

    if (beat->bad_count >= HF_HEARTBEAT_BAD_MAX) {
        node->inventory_wanted = true;
    }
    for (uint32_t i = 0; i < beat->bad_count; i++) {
        if (is_named(leader, &beat->bad[i])) {
            add_bad(leader, node, &batch, &beat->bad[i]);
        } else {
            hf_nodes_bad_unnamed(leader, node, &beat->bad[i]);
        }
    }
    propose_bad(leader, node, &batch);
}

/* A copy may go bad before its object is named: the entry that names it will count on this node. */
void hf_nodes_bad_unnamed(struct hf_leader *leader, struct hf_lnode *node, const struct hf_oid *oid)
{
    if (!hf_meta_session_live(leader->meta, (struct hf_session_id){oid->session})) {
        return; /* nothing will name it */
    }
    for (uint32_t i = 0; i < node->unnamed_bad_count; i++) {
        if (hf_oid_equal(&node->unnamed_bad[i], oid)) {
            return;
        }
    }
    if (node->unnamed_bad_count == HF_ARRAY_LEN(node->unnamed_bad)) {
        node->unnamed_bad_missed = true;
        return;
    }
    node->unnamed_bad[node->unnamed_bad_count++] = *oid;
}

static void look_at_unnamed(struct hf_leader *leader, struct hf_lnode *node)
{
    struct bad_batch batch = {.count = 0};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < node->unnamed_bad_count; i++) {
        const struct hf_oid oid = node->unnamed_bad[i];

        if (is_named(leader, &oid)) {
            add_bad(leader, node, &batch, &oid);
        } else if (hf_meta_session_live(leader->meta, (struct hf_session_id){oid.session})) {
            node->unnamed_bad[kept++] = oid;
        }
    }
    node->unnamed_bad_count = kept;
    propose_bad(leader, node, &batch);
    if (kept == 0 && node->unnamed_bad_missed) {
        node->unnamed_bad_missed = false;
        node->inventory_wanted = true; /* those there was no room for */
    }
}

static void take_state(struct hf_leader *leader, struct hf_lnode *node,
                       const struct hf_map_node *member, const struct hf_msg_heartbeat *beat)
{
    bool moved = beat->addr[0] && strcmp(beat->addr, member->addr) != 0;
    bool first = hf_uuid_is_zero(&member->uuid), again = restarted(node, beat);
    enum hf_node_state state = member->state;

    if (state == HF_NODE_REMOVED) {
        return;
    }
    if (beat->stats.state == HF_STORE_READ_ONLY && !HF_BUG(read_only_is_up)) {
        state = HF_NODE_READ_ONLY;
    } else if (state != HF_NODE_UP || (again && !first)) {
        state = HF_NODE_RETURNING; /* it was away, or its disk was */
    }
    if (again) {
        hf_copier_void_node(leader, node);
    }
    if (state != member->state || moved || first || again) {
        propose_state(leader, node, state, &beat->store, moved ? beat->addr : NULL,
                      again ? beat->start : 0);
    }
    if (state == member->state && !again) {
        maybe_inventory(leader, node);
    }
}

void hf_leader_heartbeat(struct hf_leader *leader, const struct hf_msg_heartbeat *beat,
                         struct hf_msg_heartbeat_reply *ret)
{
    const struct hf_map *map = hf_meta_map(leader->meta);
    const struct hf_map_node *member;
    struct hf_lnode *node;

    hf_assert_loop(leader->env);
    *ret = (struct hf_msg_heartbeat_reply){.state = HF_NODE_NONE};
    if (!hf_leader_serving(leader) || beat->node.v < 1 || beat->node.v > HF_NODES_MAX) {
        return;
    }
    ret->map_epoch = map->epoch.v;
    member = hf_map_node(map, beat->node);
    if (!member) {
        hf_log(HF_LOG_WARN, "meta", "unknown node",
               "node=%u addr=%s what=\"add it to the metadata node's configuration\"", beat->node.v,
               beat->addr);
        return;
    }
    node = hf_nodes_mut(leader, beat->node);
    if (hf_uuid_is_zero(&beat->store) || !known_store(leader, node, member, beat) ||
        !only_one(leader, node, beat)) {
        return;
    }
    ret->state = member->state;
    take_stats(node, beat);
    node->heard = true;
    node->heard_ns = hf_env_mono_ns(leader->env);
    take_bad(leader, node, beat);
    take_state(leader, node, member, beat);
    ret->start = node->start_noted;
}

/* Silence */

static void tick(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_nodes *nodes = &leader->nodes;
    const struct hf_map *map = hf_meta_map(leader->meta);
    uint64_t now_ns = hf_env_mono_ns(leader->env);
    /* While this loop did not run, heartbeats waited unread. */
    uint64_t stall_ns = hf_leader_stall_ns(now_ns, nodes->last_tick_ns, nodes->tick_ns);

    nodes->last_tick_ns = now_ns;
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *member = &map->nodes[i];
        struct hf_lnode *node = hf_nodes_mut(leader, member->id);

        node->heard_ns += stall_ns;
        node->heard_ns = node->heard_ns > now_ns ? now_ns : node->heard_ns;
        if (hf_node_serves(member->state) && now_ns - node->heard_ns > leader->node_timeout_ns &&
            hf_leader_serving(leader)) {
            propose_state(leader, node, HF_NODE_DOWN, &member->uuid, NULL, 0);
        } else {
            maybe_inventory(leader, node);
        }
        if (hf_leader_serving(leader)) {
            look_at_unnamed(leader, node);
        }
    }
    hf_timer_arm(&nodes->timer, nodes->tick_ns);
}

uint32_t hf_leader_nodes(struct hf_leader *leader, struct hf_leader_node_info *ret, uint32_t max)
{
    const struct hf_map *map = hf_meta_map(leader->meta);
    uint32_t count = map->node_count < max ? map->node_count : max;

    for (uint32_t i = 0; i < count; i++) {
        const struct hf_lnode *node = hf_nodes_get(leader, map->nodes[i].id);

        ret[i] = (struct hf_leader_node_info){
            .id = map->nodes[i].id,
            .heard = heard_lately(leader, node),
            .refused = node->refused,
            .last_heard_ns = node->heard ? node->heard_ns : 0,
            .stats = node->stats,
            .lacking = hf_copier_lacking(leader, map->nodes[i].id),
        };
    }
    return count;
}

void hf_nodes_init(struct hf_leader *leader)
{
    hf_timer_init(&leader->nodes.timer, leader->env, tick, leader);
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        leader->nodes.nodes[i].id.v = (uint16_t)(i + 1);
    }
}

void hf_nodes_start(struct hf_leader *leader)
{
    struct hf_nodes *nodes = &leader->nodes;
    uint64_t now_ns = hf_env_mono_ns(leader->env), tick_ns = leader->node_timeout_ns / 4;

    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        nodes->nodes[i].heard_ns = now_ns;
        nodes->nodes[i].inventory_wanted =
            hf_nodes_state(leader, nodes->nodes[i].id) == HF_NODE_RETURNING;
    }
    nodes->tick_ns = tick_ns > TICK_NS_MAX ? TICK_NS_MAX : tick_ns;
    nodes->last_tick_ns = now_ns;
    hf_timer_arm(&nodes->timer, nodes->tick_ns);
}

void hf_nodes_stop(struct hf_leader *leader)
{
    hf_timer_disarm(&leader->nodes.timer);
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        hf_inventory_cancel(leader, &leader->nodes.nodes[i]);
    }
}

void hf_nodes_fini(struct hf_leader *leader)
{
    hf_timer_fini(&leader->nodes.timer);
}
