/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader_stores.c - how the metadata leader reaches the stores: calls to their nodes.
 *
 * The leader's own node is called the same way, over its own listener, so that there is one path.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bugs.h"
#include "common/wire/method.h"

#define DELETE_TIMEOUT_NS (20 * HF_NS_PER_SEC)
#define COPY_TIMEOUT_NS   (60 * HF_NS_PER_SEC)
#define LIST_TIMEOUT_NS   (10 * HF_NS_PER_SEC)
#define MAP_TIMEOUT_NS    (2 * HF_NS_PER_SEC)

typedef void (*plain_done)(void *arg, int err);
typedef void (*list_done)(void *arg, int err, const struct hf_msg_list_reply *list);

struct stores_run {
    struct hf_rpc_call call;
    struct hf_node *node;
    struct hf_task fail_task; /* the call could not be made: done(err), from the loop */
    int err;
    plain_done done;
    list_done listed;
    void *arg;
};

static void run_end(struct stores_run *run, int err)
{
    if (run->done) {
        run->done(run->arg, err);
    }
    if (run->listed) {
        run->listed(run->arg, err, NULL);
    }
    free(run);
}

static void run_fail(struct hf_task *task)
{
    struct stores_run *run =
        (struct stores_run *)((char *)task - offsetof(struct stores_run, fail_task));

    run_end(run, run->err);
}

static void run_replied(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct stores_run *run = call->ctx;
    struct hf_msg_list_reply list;
    void *mem = NULL;

    if (HF_BUG(unanswered_counts) && run->done && (err == -ETIMEDOUT || err == -HF_EDISCONNECTED)) {
        err = 0;
    }
    if (!err && run->listed) {
        err = hf_msg_list_reply_decode(reply->msg, reply->msg_len, &list, &mem);
        if (!err) {
            run->listed(run->arg, 0, &list);
            hf_msg_release(mem);
            free(run);
            return;
        }
    }
    run_end(run, err);
}

static void run_start(struct hf_node *node, struct stores_run *run, struct hf_node_id to,
                      uint16_t method, const void *msg, size_t len, uint64_t timeout_ns, int err)
{
    struct hf_rpc_peer *peer = err ? NULL : node_peer(node, to);

    run->node = node;
    if (!peer) {
        run->err = err ? err : -ENXIO;
        run->fail_task.fn = run_fail;
        hf_env_post(node->env, &run->fail_task);
        return;
    }
    run->call.method = method;
    run->call.msg = msg;
    run->call.msg_len = len;
    run->call.timeout_ns = timeout_ns;
    run->call.done = run_replied;
    run->call.ctx = run;
    hf_rpc_call(peer, &run->call);
}

/* Out of memory here means that a bounded piece of background work is put off: say so at once. */
static struct stores_run *run_new(plain_done done, list_done listed, void *arg)
{
    struct stores_run *run = calloc(1, sizeof(*run));

    if (!run) {
        abort();
    }
    run->done = done;
    run->listed = listed;
    run->arg = arg;
    return run;
}

static void delete_objects(void *ctx, struct hf_node_id to, const struct hf_oid *oids,
                           uint32_t count, plain_done done, void *arg)
{
    struct hf_msg_oids m = {.oids = oids, .count = count};
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err = hf_msg_oids_encode(&m, msg, &len);

    run_start(ctx, run_new(done, NULL, arg), to, HF_M_DELETE, msg, len, DELETE_TIMEOUT_NS, err);
}

static void copy_object(void *ctx, struct hf_node_id to, const struct hf_meta_object *object,
                        uint64_t sources, plain_done done, void *arg)
{
    struct hf_node *node = ctx;
    const struct hf_map *map = hf_replica_map(node->replica);
    struct hf_msg_copy m = {
        .oid = object->oid, .len_bytes = object->len_bytes, .digest = object->digest};
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err;

    for (uint32_t i = 0; i < map->node_count && m.source_count < HF_REPLICAS_MAX; i++) {
        if (sources & hf_node_bit(map->nodes[i].id)) {
            memcpy(m.sources[m.source_count++], map->nodes[i].addr, HF_ADDR_BYTES_MAX);
        }
    }
    err = hf_msg_copy_encode(&m, msg, &len);
    run_start(node, run_new(done, NULL, arg), to, HF_M_COPY, msg, len, COPY_TIMEOUT_NS, err);
}

static void list_objects(void *ctx, struct hf_node_id to, uint16_t group,
                         const struct hf_oid *after, list_done done, void *arg)
{
    struct hf_msg_list m = {.group = group, .has_after = after != NULL};
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err;

    if (after) {
        m.after = *after;
    }
    err = hf_msg_list_encode(&m, msg, &len);
    run_start(ctx, run_new(NULL, done, arg), to, HF_M_LIST, msg, len, LIST_TIMEOUT_NS, err);
}

/* A node that misses it learns of the epoch from its next heartbeat and asks. */
static void map_told(void *arg, int err)
{
    (void)arg;
    (void)err;
}

static void map_changed(void *ctx, const struct hf_map *map)
{
    struct hf_node *node = ctx;
    uint8_t msg[HF_RPC_MSG_MAX];
    struct hf_map copy;
    size_t len = 0;

    if (hf_map_dup(map, &copy) == 0) {
        node_set_map(node, &copy);
    }
    if (hf_msg_map_encode(map, msg, &len) != 0) {
        return;
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *n = &map->nodes[i];

        if (n->id.v != node->self->id.v && hf_node_serves(n->state)) {
            run_start(node, run_new(map_told, NULL, NULL), n->id, HF_M_NODE_MAP, msg, len,
                      MAP_TIMEOUT_NS, 0);
        }
    }
}

void leader_stores_init(struct hf_node *node, struct hf_leader_stores *ret)
{
    *ret = (struct hf_leader_stores){
        .delete_objects = delete_objects,
        .copy_object = copy_object,
        .list_objects = list_objects,
        .map_changed = map_changed,
        .ctx = node,
    };
}
