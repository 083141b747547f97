/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heartbeat.c - this store tells the metadata leader that it lives, what it holds, what went bad;
 * the answer says whether the map it has is current.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/log/log.h"
#include "common/wire/meta_op.h"
#include "common/wire/method.h"

#define BEAT_EVERY_NS   (400 * HF_NS_PER_MS)
#define BEAT_AGAIN_NS   (100 * HF_NS_PER_MS) /* another node is asked */
#define BEAT_TIMEOUT_NS (1500 * HF_NS_PER_MS)

static void ask_map(struct hf_node *node);

static void map_got(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct hf_node *node = call->ctx;
    struct hf_map map;

    node->map_running = false;
    if (err || node->stopping) {
        return; /* the next heartbeat asks again */
    }
    if (hf_msg_map_decode(reply->msg, reply->msg_len, &map) == 0) {
        node_set_map(node, &map);
    }
}

static void ask_map(struct hf_node *node)
{
    struct hf_meta_read rd = {.if_version = node->map.epoch.v};
    struct hf_rpc_peer *peer = node_peer(node, node_leader(node));
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;

    if (node->map_running || !peer || hf_meta_read_encode(&rd, msg, &len) != 0) {
        return;
    }
    memset(&node->map_call, 0, sizeof(node->map_call));
    node->map_call.method = HF_M_MAP;
    node->map_call.msg = msg;
    node->map_call.msg_len = len;
    node->map_call.timeout_ns = BEAT_TIMEOUT_NS;
    node->map_call.done = map_got;
    node->map_call.ctx = node;
    node->map_running = true;
    hf_rpc_call(peer, &node->map_call);
}

/* A node that does not lead may say who does. */
static struct hf_node_id hinted(struct hf_node *node, const struct hf_rpc_reply *reply)
{
    struct hf_meta_reply r = {0};

    if (reply->msg_len == 0 || hf_meta_reply_decode(reply->msg, reply->msg_len, &r) != 0) {
        return (struct hf_node_id){0};
    }
    for (uint32_t i = 0; i < node->config->node_count && r.leader[0]; i++) {
        if (strcmp(node->config->nodes[i].address, r.leader) == 0) {
            return node->config->nodes[i].id;
        }
    }
    for (uint32_t i = 0; i < node->map.node_count && r.leader[0]; i++) {
        if (strcmp(node->map.nodes[i].addr, r.leader) == 0) {
            return node->map.nodes[i].id;
        }
    }
    return (struct hf_node_id){0};
}

/* Where the next heartbeat goes after this one failed. */
static void look_elsewhere(struct hf_node *node, int err, const struct hf_rpc_reply *reply)
{
    struct hf_node_id hint = {0};
    uint32_t i = 0;

    if (err == -HF_ENOTLEADER) {
        hint = hinted(node, reply);
    }
    while (i < node->meta_node_count && node->meta_nodes[i]->id.v <= node->beat_to.v) {
        i++;
    }
    node->leader = hint.v && hint.v != node->beat_to.v
                       ? hint
                       : node->meta_nodes[i % node->meta_node_count]->id;
}

/* A node that was part of the cluster never founds it again, whatever else of its data is lost. */
static void note_member(struct hf_node *node)
{
    char path[4200];
    char text[HF_UUID_STR_MAX + 1];
    int err;

    (void)hf_uuid_str(&node->config->cluster, text);
    (void)strcat(text, "\n");
    hf_env_starting_up(node->env, true); /* once in the life of a data directory */
    err = hf_disk_replace(hf_env_disk(node->env), node_member_path(node, path, sizeof(path)), text,
                          strlen(text));
    hf_env_starting_up(node->env, false);
    node->was_member = !err;
    if (err) {
        hf_log(HF_LOG_WARN, "node", "cannot note", "file=%s error=\"%s\"", path, hf_err_text(err));
    }
}

static void beat_answered(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct hf_node *node = call->ctx;
    struct hf_msg_heartbeat_reply r;
    bool heard;

    node->beat_running = false;
    if (!err) {
        err = hf_msg_heartbeat_reply_decode(reply->msg, reply->msg_len, &r);
    }
    /* A leader that does not serve yet, or does not know this store, took nothing in. */
    heard = !err && r.state != HF_NODE_NONE;
    if (heard || HF_BUG(bad_told_once)) {
        memmove(node->bad, node->bad + node->bad_told,
                (node->bad_count - node->bad_told) * sizeof(node->bad[0]));
        node->bad_count -= node->bad_told;
    }
    node->start_noted = node->start_noted || (heard && r.start == node->start);
    if (heard && !node->was_member) {
        note_member(node);
    }
    if (!err && r.map_epoch != node->map.epoch.v) {
        ask_map(node);
    }
    node->beat_failed = err ? node->beat_failed + 1 : 0;
    if (err) {
        look_elsewhere(node, err, reply);
    } else {
        node->leader = node->beat_to;
    }
    if (err ? node->beat_heard && node->beat_failed > node->meta_node_count : !node->beat_heard) {
        node->beat_heard = err == 0;
        if (err) {
            hf_log(HF_LOG_WARN, "node", "leader-unheard", "last=%u error=\"%s\"", node->beat_to.v,
                   hf_err_name(err));
        } else {
            hf_log(HF_LOG_INFO, "node", "leader-heard", "leader=%u state=%s map=%llu",
                   node->beat_to.v, hf_node_state_name(r.state), (unsigned long long)r.map_epoch);
        }
    }
    node->bad_told = 0;
    if (!node->stopping) {
        hf_timer_arm(&node->beat_timer, err                        ? BEAT_AGAIN_NS
                                        : heard && node->bad_count ? 1
                                                                   : BEAT_EVERY_NS);
    }
}

static void beat(void *ctx)
{
    struct hf_node *node = ctx;
    const struct hf_node_id to = node_leader(node);
    struct hf_rpc_peer *peer = node_peer(node, to);
    struct hf_msg_heartbeat m = {
        .node = node->self->id,
        .store = hf_store_identity(node->store)->store,
        .map_epoch = node->map.epoch.v,
        .bad = node->bad,
        .bad_count = node->bad_count,
        .start = node->start,
        .noted = node->start_noted,
    };
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;
    int err;

    if (node->beat_running) {
        return;
    }
    if (!peer) {
        hf_timer_arm(&node->beat_timer, BEAT_EVERY_NS);
        return;
    }
    (void)snprintf(m.addr, sizeof(m.addr), "%s", node->self->address);
    store_stats_msg(node, &m.stats);
    err = hf_msg_heartbeat_encode(&m, msg, &len);
    HF_ASSERT(err == 0);
    node->bad_told = node->bad_count;
    node->beat_to = to;
    memset(&node->beat_call, 0, sizeof(node->beat_call));
    node->beat_call.method = HF_M_HEARTBEAT;
    node->beat_call.msg = msg;
    node->beat_call.msg_len = len;
    node->beat_call.timeout_ns = BEAT_TIMEOUT_NS;
    node->beat_call.urgent = true;
    node->beat_call.done = beat_answered;
    node->beat_call.ctx = node;
    node->beat_running = true;
    hf_rpc_call(peer, &node->beat_call);
}

void heartbeat_bad_object(void *ctx, const struct hf_oid *oid, int err)
{
    struct hf_node *node = ctx;
    char text[HF_OID_STR_MAX];

    hf_log(HF_LOG_WARN, "store", "object-quarantined",
           "oid=%s error=\"%s\" next=\"a good copy is fetched from another node\"",
           hf_oid_str(oid, text), hf_err_name(err));
    if (node->bad_count == HF_HEARTBEAT_BAD_MAX ||
        (HF_BUG(bad_during_beat) && node->beat_running)) {
        return; /* a leader that is told as many takes an inventory, and finds it there */
    }
    node->bad[node->bad_count++] = *oid;
    if (node->beat_timer.env && !node->beat_running && !node->stopping) {
        hf_timer_arm(&node->beat_timer, 1);
    }
}

void heartbeat_start(struct hf_node *node)
{
    node->start = hf_env_random_u64(node->env) | 1;
    hf_timer_init(&node->beat_timer, node->env, beat, node);
    hf_timer_arm(&node->beat_timer, 1);
}

void heartbeat_stop(struct hf_node *node)
{
    hf_timer_fini(&node->beat_timer);
}
