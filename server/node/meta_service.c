/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_service.c - metadata calls, handed to the leader; other nodes say who leads, if they know.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/meta_op.h"
#include "common/wire/method.h"

struct meta_run {
    struct hf_node *node;
    struct hf_rpc_request *req;
    void *mem;
    const struct hf_export *export; /* for whoever asks; NULL: none */
};

void meta_service_not_leader(struct hf_node *node, struct hf_rpc_request *req)
{
    const struct hf_node_id leader = node_leader(node);
    const char *addr = leader.v && leader.v != node->self->id.v ? node_addr(node, leader) : NULL;
    struct hf_meta_reply reply = {0};
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;

    if (addr) {
        (void)snprintf(reply.leader, sizeof(reply.leader), "%s", addr);
    }
    if (hf_meta_reply_encode(&reply, msg, &len) != 0) {
        len = 0;
    }
    hf_rpc_reply(req, -HF_ENOTLEADER, msg, len, NULL);
}

static void release_copy(void *ctx)
{
    free(ctx);
}

static void meta_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct meta_run *run = ctx;
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err = hf_meta_reply_encode(reply, msg, &len);
    void *copy = NULL;

    if (reply->err == -HF_ENOTLEADER) {
        meta_service_not_leader(run->node, run->req);
        hf_meta_op_release(run->mem);
        free(run);
        return;
    }
    if (!err && reply->bulk_len > 0) {
        copy = malloc(reply->bulk_len);
        if (copy) {
            memcpy(copy, reply->bulk, reply->bulk_len);
        } else {
            err = -ENOMEM;
        }
    }
    if (err) {
        hf_rpc_reply(run->req, err, NULL, 0, NULL);
    } else if (copy) {
        struct iovec iov = {.iov_base = copy, .iov_len = reply->bulk_len};
        struct hf_rpc_bulk bulk = {
            .iov = &iov, .iov_count = 1, .release = release_copy, .ctx = copy};

        hf_rpc_reply(run->req, reply->err, msg, len, &bulk);
    } else {
        hf_rpc_reply(run->req, reply->err, msg, len, NULL);
    }
    hf_meta_op_release(run->mem);
    free(run);
}

/* What the client is told when its session is opened, and holds to by itself. */
static void add_rights(const struct hf_export *export, struct hf_meta_reply *reply)
{
    reply->rights |= export->read_only ? HF_RIGHTS_READ_ONLY : 0;
    if (export->root_squash) {
        reply->rights |= HF_RIGHTS_ROOT_SQUASH;
        reply->anon_uid = export->anon_uid;
        reply->anon_gid = export->anon_gid;
    }
}

static void op_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct meta_run *run = ctx;
    struct hf_meta_reply told = *reply;

    if (run->export && told.session.v) {
        add_rights(run->export, &told);
    }
    meta_done(ctx, &told);
}

static void read_or_op(struct hf_node *node, struct hf_rpc_request *req)
{
    struct meta_run *run = calloc(1, sizeof(*run));
    struct hf_meta_read rd;
    int err;

    if (!run) {
        hf_rpc_reply(req, -ENOMEM, NULL, 0, NULL);
        return;
    }
    run->node = node;
    run->req = req;
    if (req->method == HF_M_META_OP) {
        run->export = hf_export_find(node->config->exports, node->config->export_count,
                                     hf_rpc_conn_addr(req->conn));
        hf_replica_op(node->replica, run->export && run->export->read_only, req->msg, req->msg_len,
                      req->bulk ? req->bulk->data : NULL, req->bulk ? req->bulk->len_bytes : 0,
                      op_done, run);
        return;
    }
    err = hf_meta_read_decode(req->msg, req->msg_len, &rd, &run->mem);
    if (err) {
        hf_rpc_reply(req, err, NULL, 0, NULL);
        free(run);
        return;
    }
    hf_replica_read(node->replica, &rd, meta_done, run);
}

static void map_request(struct hf_node *node, struct hf_rpc_request *req)
{
    const struct hf_map *map = hf_replica_map(node->replica);
    uint8_t msg[HF_RPC_MSG_MAX];
    struct hf_meta_read rd;
    size_t len = 0;
    void *mem = NULL;
    int err = hf_meta_read_decode(req->msg, req->msg_len, &rd, &mem);

    if (!err && rd.if_version == map->epoch.v) {
        err = -HF_ENOTMODIFIED;
    }
    hf_meta_op_release(mem);
    if (!err) {
        err = hf_msg_map_encode(map, msg, &len);
    }
    hf_rpc_reply(req, err, msg, err ? 0 : len, NULL);
}

static void heartbeat_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_heartbeat beat;
    struct hf_msg_heartbeat_reply reply;
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    void *mem = NULL;
    int err = hf_msg_heartbeat_decode(req->msg, req->msg_len, &beat, &mem);

    if (!err) {
        err = hf_replica_heartbeat(node->replica, &beat, &reply);
        err = err ? err : hf_msg_heartbeat_reply_encode(&reply, msg, &len);
    }
    hf_msg_release(mem);
    hf_rpc_reply(req, err, msg, err ? 0 : len, NULL);
}

void meta_service_request(struct hf_node *node, struct hf_rpc_request *req)
{
    if (!node->replica || !hf_replica_leads(node->replica)) {
        meta_service_not_leader(node, req);
        return;
    }
    switch (req->method) {
    case HF_M_META_OP:
    case HF_M_META_READ:
        read_or_op(node, req);
        break;
    case HF_M_MAP:
        map_request(node, req);
        break;
    case HF_M_HEARTBEAT:
        heartbeat_request(node, req);
        break;
    default:
        hf_rpc_reply(req, -ENOSYS, NULL, 0, NULL);
        break;
    }
}
