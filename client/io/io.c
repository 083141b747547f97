/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.c - the nodes that objects go to, and the lifecycle of object I/O.
 */
#include "client/io/io_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"

#define FIRES_MAX       256u
#define FIRE_TIMEOUT_NS (5 * HF_NS_PER_SEC)
#define SLOW_NS         HF_NS_PER_SEC
#define PING_NS         (300 * HF_NS_PER_MS) /* another copy is read after three */
#define HUNG_NS         (5 * HF_NS_PER_SEC)
#define AVOID_NS        (3 * HF_NS_PER_SEC)

static void io_task(struct hf_task *task)
{
    struct hf_io *io = hf_container_of(task, struct hf_io, task);

    if (io->freed) {
        free(io);
        return;
    }
    put_deliver(io);
    get_deliver(io);
}

void io_post(struct hf_io *io)
{
    hf_env_post(io->env, &io->task);
}

int hf_io_new(struct hf_env *env, const struct hf_io_options *options, struct hf_io **ret)
{
    struct hf_io *io = calloc(1, sizeof(*io));
    int err;

    if (!io) {
        return -ENOMEM;
    }
    io->env = env;
    io->options = *options;
    (void)snprintf(io->name, sizeof(io->name), "%s", options->name ? options->name : "");
    io->options.name = io->name;
    if (!io->options.cache_bytes) {
        io->options.cache_bytes = 64u << 20;
    }
    if (!io->options.get_timeout_ns) {
        io->options.get_timeout_ns = 2 * HF_NS_PER_SEC;
    }
    if (!io->options.put_timeout_ns) {
        io->options.put_timeout_ns = 10 * HF_NS_PER_SEC;
    }
    if (!io->options.op_timeout_ns) {
        io->options.op_timeout_ns = HF_OP_TIMEOUT_NS;
    }
    if (!io->options.puts_max) {
        io->options.puts_max = 8;
    }
    TAILQ_INIT(&io->puts);
    TAILQ_INIT(&io->puts_ready);
    TAILQ_INIT(&io->slot_waiters);
    TAILQ_INIT(&io->gets);
    TAILQ_INIT(&io->gets_ready);
    TAILQ_INIT(&io->fetching);
    io->task.fn = io_task;
    err = cache_init(io);
    if (err) {
        free(io);
        return err;
    }
    *ret = io;
    return 0;
}

static void drop_peer(struct io_node *node)
{
    struct hf_rpc_peer *peer = node->peer;

    node->peer = NULL;
    hf_rpc_peer_free(peer); /* its calls come back with -ECANCELED */
}

void hf_io_free(struct hf_io *io)
{
    if (!io) {
        return;
    }
    io->freeing = true;
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        drop_peer(&io->nodes[i]);
    }
    HF_ASSERT(io->fires == 0);
    put_stop_all(io);
    get_stop_all(io);
    put_deliver(io);
    get_deliver(io);
    cache_fini(io);
    io->freed = true;
    if (!io->task.queued) {
        free(io);
    }
}

void hf_io_map_changed(struct hf_io *io)
{
    const struct hf_map *map = hf_session_map(io->options.session);

    for (uint32_t i = 1; i <= HF_NODES_MAX; i++) {
        const struct hf_map_node *n;

        if (!io->nodes[i].peer) {
            continue;
        }
        n = hf_map_node(map, (struct hf_node_id){.v = (uint16_t)i});
        if (!n || strcmp(n->addr, io->nodes[i].addr) != 0) {
            drop_peer(&io->nodes[i]); /* made afresh when it is needed */
        }
    }
    put_map_changed(io);
}

struct hf_rpc_peer *io_peer(struct hf_io *io, struct hf_node_id node)
{
    const struct hf_map_node *n;
    struct io_node *mine;
    struct hf_rpc_peer_options o = {
        .self = {.cluster = io->options.cluster, .session = hf_session_id(io->options.session)},
        .expect_cluster = io->options.cluster,
        .pool = io->options.pool,
        .backoff_max_ns = 500 * HF_NS_PER_MS,
        .idle_ping_ns = PING_NS,
    };

    if (node.v == 0 || node.v > HF_NODES_MAX || io->freeing) {
        return NULL;
    }
    mine = &io->nodes[node.v];
    if (mine->peer) {
        return mine->peer;
    }
    n = hf_map_node(hf_session_map(io->options.session), node);
    if (!n) {
        return NULL;
    }
    (void)snprintf(mine->addr, sizeof(mine->addr), "%s", n->addr);
    memcpy(o.self.name, io->name, sizeof(o.self.name));
    o.addr = mine->addr;
    if (hf_rpc_peer_new(io->env, &o, &mine->peer) != 0) {
        mine->peer = NULL;
    }
    return mine->peer;
}

struct hf_rpc_peer *hf_io_node_peer(struct hf_io *io, struct hf_node_id node)
{
    return io_peer(io, node);
}

static void fire_done(struct hf_rpc_call *rpc, int err, const struct hf_rpc_reply *reply)
{
    struct io_fire *fire = rpc->ctx;

    (void)err; /* by design: see io_fire() */
    (void)reply;
    fire->io->fires--;
    free(fire);
}

void io_fire(struct hf_io *io, struct hf_node_id node, uint16_t method, size_t len, bool urgent)
{
    struct hf_rpc_peer *peer = io_peer(io, node);
    struct io_fire *fire;

    if (!peer || io->fires >= FIRES_MAX) {
        return;
    }
    fire = calloc(1, sizeof(*fire));
    if (!fire) {
        return;
    }
    fire->io = io;
    fire->rpc.method = method;
    fire->rpc.msg = io->msg;
    fire->rpc.msg_len = len;
    fire->rpc.timeout_ns = FIRE_TIMEOUT_NS;
    fire->rpc.urgent = urgent;
    fire->rpc.done = fire_done;
    fire->rpc.ctx = fire;
    io->fires++;
    hf_rpc_call(peer, &fire->rpc);
}

void io_node_failed(struct hf_io *io, struct hf_node_id node, int err)
{
    struct io_node *n = &io->nodes[node.v];
    uint64_t now = hf_env_mono_ns(io->env);

    n->avoid_until_ns = now + AVOID_NS;
    if (err == -ENOSPC) {
        n->full_until_ns = now + AVOID_NS;
    } else {
        n->slow_until_ns = now + (err == -ETIMEDOUT ? HUNG_NS : SLOW_NS);
    }
}

void hf_io_stats(const struct hf_io *io, struct hf_io_stats *ret)
{
    *ret = io->stats;
}
