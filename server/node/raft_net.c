/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft_net.c - the log's messages between metadata nodes: one-way requests over connections of
 * their own, so that nothing else waits before them; questions of new nodes as calls.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/wire/method.h"

#define QUEUE_BYTES_MAX (8u << 20)
#define ASK_TIMEOUT_NS  (2 * HF_NS_PER_SEC)
#define PING_NS         (400 * HF_NS_PER_MS) /* three without an answer: the connection is dead */

struct raft_link {
    struct hf_node *node;
    struct hf_node_id id;
    struct hf_rpc_peer *rpc;
    bool up;
};

static void link_state(void *ctx, bool connected, int err)
{
    struct raft_link *link = ctx;
    const bool lost = link->up && !connected;

    (void)err;
    link->up = connected;
    if (lost && link->node->log && !link->node->stopping) {
        hf_raft_driver_unreachable(hf_meta_log_driver(link->node->log), link->id);
    }
}

/* NULL: no address for that node, or no memory. */
static struct raft_link *link_to(struct hf_node *node, struct hf_node_id id)
{
    const char *addr = node_addr(node, id);
    struct hf_rpc_peer_options options = {
        .addr = addr,
        .self = node->identity,
        .expect_cluster = node->config->cluster,
        .pool = node->pool,
        .connect_timeout_ns = HF_NS_PER_SEC,
        .backoff_max_ns = 200 * HF_NS_PER_MS,
        .idle_ping_ns = PING_NS,
        .state = link_state,
    };
    struct raft_link *link;

    if (id.v > HF_NODES_MAX || !addr || node->stopping) {
        return NULL;
    }
    if (node->links[id.v]) {
        return node->links[id.v];
    }
    link = calloc(1, sizeof(*link));
    if (!link) {
        return NULL;
    }
    link->node = node;
    link->id = id;
    options.ctx = link;
    if (hf_rpc_peer_new(node->env, &options, &link->rpc) != 0) {
        free(link);
        return NULL;
    }
    node->links[id.v] = link;
    return link;
}

static void send(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                 const struct iovec *iov, int iov_count, void (*release)(void *arg), void *arg)
{
    struct raft_link *link = link_to(ctx, to);
    const struct hf_rpc_bulk bulk = {
        .iov = iov, .iov_count = iov_count, .release = release, .ctx = arg};

    if (!link) {
        release(arg);
        return;
    }
    (void)hf_rpc_send(link->rpc, HF_M_RAFT, msg, msg_len, &bulk, QUEUE_BYTES_MAX);
}

struct question {
    struct hf_rpc_call call;
    struct hf_task refused;
    void (*done)(void *arg, int err, const void *msg, size_t msg_len);
    void *arg;
};

static void question_answered(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct question *q = call->ctx;

    q->done(q->arg, err, reply->msg, reply->msg_len);
    free(q);
}

static void question_refused(struct hf_task *task)
{
    struct question *q = hf_container_of(task, struct question, refused);

    q->done(q->arg, -ENXIO, NULL, 0);
    free(q);
}

static void ask(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                void (*done)(void *arg, int err, const void *msg, size_t msg_len), void *arg)
{
    struct hf_node *node = ctx;
    struct raft_link *link = link_to(node, to);
    struct question *q = calloc(1, sizeof(*q));

    HF_ASSERT_MEMORY(q);
    q->done = done;
    q->arg = arg;
    if (!link) {
        q->refused.fn = question_refused;
        hf_env_post(node->env, &q->refused);
        return;
    }
    q->call = (struct hf_rpc_call){
        .method = HF_M_RAFT_FOUND,
        .msg = msg,
        .msg_len = msg_len,
        .timeout_ns = ASK_TIMEOUT_NS,
        .urgent = true,
        .done = question_answered,
        .ctx = q,
    };
    hf_rpc_call(link->rpc, &q->call);
}

void raft_net_init(struct hf_node *node, struct hf_raft_net *ret)
{
    *ret = (struct hf_raft_net){.send = send, .ask = ask, .ctx = node};
}

void raft_net_request(struct hf_node *node, struct hf_rpc_request *req)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err;

    if (!node->log && req->method == HF_M_RAFT && node_may_lead(node, req->peer->node) &&
        !node->stopping) {
        node_become_metadata(node);
    }
    if (!node->log) {
        err = -HF_ENOTREADY;
    } else if (!req->peer->node.v) {
        err = -EPERM;
    } else if (req->method == HF_M_RAFT) {
        hf_raft_driver_received(hf_meta_log_driver(node->log), req->peer->node, req->msg,
                                req->msg_len, req->bulk);
        err = 0;
    } else {
        err =
            hf_raft_driver_asked(hf_meta_log_driver(node->log), req->msg, req->msg_len, msg, &len);
    }
    hf_rpc_reply(req, err, msg, err ? 0 : len, NULL);
}

void raft_net_free(struct hf_node *node)
{
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        struct raft_link *link = node->links[i];

        if (link) {
            node->links[i] = NULL;
            hf_rpc_peer_free(link->rpc);
            free(link);
        }
    }
}

void raft_net_check(const struct hf_node *node)
{
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        const struct raft_link *link = node->links[i];

        if (link) {
            HF_ASSERT(link->node == node && link->id.v == i && i != node->self->id.v);
            HF_ASSERT(link->up == hf_rpc_peer_connected(link->rpc));
            hf_rpc_peer_check_invariants(link->rpc);
        }
    }
}
