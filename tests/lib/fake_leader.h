/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_leader.h - a metadata leader in memory, behind a real RPC server, that misbehaves on demand.
 *
 * What it applied survives fake_leader_stop() and fake_leader_start(), as a disk would. An
 * operation is answered with attr.ino = stream * 10 + times applied, so that a test sees whose
 * answer it got and that it was applied once.
 */
#ifndef TESTS_LIB_FAKE_LEADER_H
#define TESTS_LIB_FAKE_LEADER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/env/env.h"
#include "common/env/env_real.h"
#include "common/rpc/rpc.h"
#include "common/wire/meta_op.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define FAKE_STREAM_MAX 4096u

struct fake_held { /* a request whose answer is held back */
    struct hf_rpc_request *req;
    int err;
    struct hf_meta_reply reply;
};

struct fake_leader {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_uuid cluster;
    struct hf_rpc_server *server;
    char addr[HF_ADDR_BYTES_MAX];
    struct hf_map map;
    /* the one session */
    struct hf_uuid mount;
    uint64_t session, last_stream;
    uint8_t applied[FAKE_STREAM_MAX + 1];
    char names[FAKE_STREAM_MAX + 1][16];
    uint64_t next_ino;
    /* what it saw */
    uint32_t ops, reads, renewals, opens, closes, map_reads, claims;
    uint64_t claimed_ino, floor, want_bytes;
    /* how it misbehaves */
    bool unclaimed;                     /* it leads anew */
    uint64_t claim_cookie, claim_count; /* count: numbers in the parts so far */
    uint32_t claim_parts, drop_at_part; /* stop when so many parts have come, once */
    const char *hint;                   /* not the leader; "" or the address of who is */
    uint32_t not_ready;                 /* answers to go */
    uint32_t drop_every; /* stop after this many operations, the last one applied, unanswered */
    uint32_t drop_count;
    uint32_t gap_at;   /* refuse this stream number once */
    uint32_t hold;     /* hold answers back until there are so many, then answer in reverse */
    uint32_t broken;   /* operations to answer with -EIO; the third last is applied */
    bool fenced, mute; /* mute: never answer reads and operations */
    uint64_t space;    /* the most it grants; 0: all that is asked for */
    struct fake_held held[HF_STREAM_WINDOW];
    uint32_t held_count;
    struct hf_timer restart;
    struct hf_rpc_request *muted[1024];
    uint32_t muted_count;
};

static void fake_leader_stop(struct fake_leader *l);

static void fake_leader_answer(struct fake_leader *l, struct hf_rpc_request *req, int err,
                               struct hf_meta_reply *reply)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;

    reply->map_epoch = l->map.epoch.v;
    HF_ASSERT(hf_meta_reply_encode(reply, msg, &len) == 0);
    hf_rpc_reply(req, err, msg, len, NULL);
}

static void fake_leader_flush(struct fake_leader *l)
{
    while (l->held_count > 0) {
        struct fake_held *h = &l->held[--l->held_count];

        fake_leader_answer(l, h->req, h->err, &h->reply);
    }
}

static void fake_leader_answer_op(struct fake_leader *l, struct hf_rpc_request *req, int err,
                                  struct hf_meta_reply *reply)
{
    if (l->hold) {
        l->held[l->held_count++] = (struct fake_held){req, err, *reply};
        if (l->held_count >= l->hold) {
            fake_leader_flush(l);
        }
        return;
    }
    fake_leader_answer(l, req, err, reply);
}

/* Every seventh operation fails, to see that failures are answers too. */
static int fake_leader_stream(struct fake_leader *l, const struct hf_meta_op *op,
                              struct hf_meta_reply *reply)
{
    reply->last_stream = l->last_stream;
    if (l->gap_at && op->stream == l->gap_at) {
        l->gap_at = 0;
        return -HF_EGAP;
    }
    if (op->stream > l->last_stream + 1) {
        return -HF_EGAP;
    }
    if (op->stream + HF_STREAM_WINDOW <= l->last_stream) {
        return -HF_EFENCED;
    }
    HF_ASSERT(op->stream > 0 && op->stream <= FAKE_STREAM_MAX);
    if (op->stream == l->last_stream + 1) {
        l->last_stream++;
        l->applied[op->stream]++;
        if (op->name) {
            (void)snprintf(l->names[op->stream], sizeof(l->names[0]), "%.*s", (int)op->name_len,
                           op->name);
        }
        if (op->op == HF_OP_INO_RANGE) {
            l->next_ino += op->count;
        }
    }
    reply->last_stream = l->last_stream;
    if (op->op == HF_OP_INO_RANGE) {
        reply->first_ino.v = l->next_ino - op->count;
        reply->ino_count = op->count;
        return 0;
    }
    reply->attr.ino.v = op->stream * 10 + l->applied[op->stream];
    return op->stream % 7 == 0 ? -EEXIST : 0;
}

static void fake_leader_op(struct fake_leader *l, struct hf_rpc_request *req)
{
    struct hf_meta_reply reply = {0};
    struct hf_meta_op op;
    void *mem = NULL;
    int err = 0;

    HF_ASSERT(hf_meta_op_decode(req->msg, req->msg_len, req->bulk ? req->bulk->data : NULL,
                                req->bulk ? req->bulk->len_bytes : 0, &op, &mem) == 0);
    if (op.op == HF_OP_SESSION_OPEN) {
        l->opens++;
        if (!l->session || !hf_uuid_equal(&l->mount, &op.uuid)) {
            l->session = l->session + 7;
            l->last_stream = 0;
            l->mount = op.uuid;
        }
        reply.session.v = l->session;
        reply.first_ino.v = l->next_ino;
        reply.ino_count = 100;
        reply.ttl_ns = op.ttl_ns;
        l->next_ino += 100;
    } else if (l->fenced || op.session.v != l->session) {
        err = -HF_EFENCED;
    } else if (op.op == HF_OP_SESSION_CLOSE) {
        l->closes++;
        l->session = 0;
    } else {
        l->ops++;
        err = l->broken && l->broken != 3 ? -EIO : fake_leader_stream(l, &op, &reply);
        if (l->broken) {
            l->broken--;
            err = -EIO;
        }
        hf_meta_op_release(mem);
        if (l->drop_every && ++l->drop_count % l->drop_every == 0) {
            hf_rpc_reply(req, -EIO, NULL, 0, NULL); /* goes nowhere: */
            fake_leader_stop(l);
            hf_timer_arm(&l->restart, 5 * HF_NS_PER_MS);
            return;
        }
        fake_leader_answer_op(l, req, err, &reply);
        return;
    }
    hf_meta_op_release(mem);
    fake_leader_answer(l, req, err, &reply);
}

/* True: the leader goes with it. */
static bool fake_leader_claims(struct fake_leader *l, const struct hf_meta_read *rd,
                               struct hf_meta_reply *reply)
{
    bool taken = (rd->flags & HF_RENEW_CLAIM) && rd->cookie == l->claim_cookie && l->unclaimed;

    l->claim_count = taken ? l->claim_count + rd->ino_count : 0;
    l->claim_parts = taken ? l->claim_parts + 1 : 0;
    if (taken && l->drop_at_part && l->claim_parts == l->drop_at_part) {
        l->drop_at_part = 0;
        return true;
    }
    if (taken && (rd->flags & HF_RENEW_MORE)) {
        l->claim_cookie += 1000;
        reply->count = l->claim_count;
    } else if (taken) {
        l->unclaimed = false;
    }
    reply->next_cookie = l->unclaimed ? l->claim_cookie : 0;
    return false;
}

static void fake_leader_read(struct fake_leader *l, struct hf_rpc_request *req)
{
    struct hf_meta_reply reply = {0};
    struct hf_meta_read rd;
    void *mem = NULL;
    int err = 0;

    HF_ASSERT(hf_meta_read_decode(req->msg, req->msg_len, &rd, &mem) == 0);
    if (l->fenced || (rd.session.v && rd.session.v != l->session)) {
        err = -HF_EFENCED;
    } else if (rd.op == HF_RD_RENEW) {
        l->renewals++;
        l->floor = rd.floor;
        l->want_bytes = rd.want_bytes;
        if (fake_leader_claims(l, &rd, &reply)) {
            hf_meta_op_release(mem);
            hf_rpc_reply(req, -EIO, NULL, 0, NULL); /* goes nowhere: */
            fake_leader_stop(l);
            hf_timer_arm(&l->restart, 5 * HF_NS_PER_MS);
            return;
        }
        if (rd.ino_count) {
            l->claims++;
            l->claimed_ino = rd.inos[0];
        }
        reply.budget_bytes = l->space && l->space < rd.want_bytes ? l->space : rd.want_bytes;
        reply.last_stream = l->last_stream;
    } else {
        l->reads++;
        reply.attr.ino = rd.ino;
        err = rd.op == HF_RD_LOOKUP ? -ENOENT : 0;
    }
    hf_meta_op_release(mem);
    fake_leader_answer(l, req, err, &reply);
}

static void fake_leader_map(struct fake_leader *l, struct hf_rpc_request *req)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    struct hf_meta_read rd;
    size_t len = 0;
    void *mem = NULL;
    int err;

    l->map_reads++;
    HF_ASSERT(hf_meta_read_decode(req->msg, req->msg_len, &rd, &mem) == 0);
    err = rd.if_version == l->map.epoch.v ? -HF_ENOTMODIFIED : 0;
    hf_meta_op_release(mem);
    if (!err) {
        HF_ASSERT(hf_msg_map_encode(&l->map, msg, &len) == 0);
    }
    hf_rpc_reply(req, err, msg, len, NULL);
}

static void fake_leader_request(void *ctx, struct hf_rpc_request *req)
{
    struct fake_leader *l = ctx;
    struct hf_meta_reply reply = {0};

    if (l->hint) {
        (void)snprintf(reply.leader, sizeof(reply.leader), "%s", l->hint);
        fake_leader_answer(l, req, -HF_ENOTLEADER, &reply);
    } else if (l->mute) {
        l->muted[l->muted_count++] = req;
    } else if (l->not_ready > 0) {
        l->not_ready--;
        hf_rpc_reply(req, -HF_ENOTREADY, NULL, 0, NULL);
    } else if (req->method == HF_M_META_OP) {
        fake_leader_op(l, req);
    } else if (req->method == HF_M_META_READ) {
        fake_leader_read(l, req);
    } else {
        HF_ASSERT(req->method == HF_M_MAP);
        fake_leader_map(l, req);
    }
}

static void fake_leader_start(void *ctx)
{
    struct fake_leader *l = ctx;
    struct hf_rpc_service service = {.request = fake_leader_request, .ctx = l};
    struct hf_rpc_server_options o = {
        .addr = l->addr, .self = {.cluster = l->cluster, .node = {.v = 1}}, .pool = l->pool};
    char addr[HF_ADDR_BYTES_MAX];

    HF_ASSERT(!l->server);
    HF_ASSERT(hf_rpc_server_new(l->env, &o, &service, &l->server) == 0);
    (void)snprintf(addr, sizeof(addr), "%s", hf_rpc_server_addr(l->server));
    memcpy(l->addr, addr, sizeof(addr));
}

static void fake_leader_unmute(struct fake_leader *l)
{
    while (l->muted_count > 0) {
        hf_rpc_reply(l->muted[--l->muted_count], -EIO, NULL, 0, NULL);
    }
}

/* As if killed: connections break, nobody listens. */
static void fake_leader_stop(struct fake_leader *l)
{
    struct hf_rpc_server *server = l->server;

    l->server = NULL;
    hf_rpc_server_free(server);
    fake_leader_flush(l); /* goes nowhere */
    l->unclaimed = l->session != 0;
    l->claim_cookie++;
    fake_leader_unmute(l);
}

static void fake_leader_init(struct fake_leader *l, struct hf_env *env, struct hf_bufpool *pool)
{
    memset(l, 0, sizeof(*l));
    l->env = env;
    l->pool = pool;
    l->next_ino = 1000;
    memset(&l->cluster, 0xc1, sizeof(l->cluster));
    (void)snprintf(l->addr, sizeof(l->addr), "127.0.0.1:0");
    hf_timer_init(&l->restart, env, fake_leader_start, l);
    l->claim_cookie = 1;
}

/* @node_count nodes UP, every group on @copies of them in turn; addresses are the caller's. */
static void fake_leader_make_map(struct fake_leader *l, uint32_t node_count, uint32_t copies,
                                 uint32_t group_count)
{
    struct hf_map *map = &l->map;

    map->epoch.v = 10;
    map->cluster = l->cluster;
    map->copies = copies;
    map->min_copies = copies > 1 ? 2 : 1;
    map->node_count = node_count;
    map->group_count = group_count;
    map->groups = calloc(group_count, sizeof(map->groups[0]));
    HF_ASSERT(map->groups);
    for (uint32_t i = 0; i < node_count; i++) {
        struct hf_map_node *n = &map->nodes[i];

        n->id.v = (uint16_t)(i + 1);
        n->state = HF_NODE_UP;
        n->weight = 100;
        memset(&n->uuid, (int)i + 1, sizeof(n->uuid));
        (void)snprintf(n->addr, sizeof(n->addr), "127.0.0.1:1");
        (void)snprintf(n->domain, sizeof(n->domain), "host%u", i);
    }
    for (uint32_t g = 0; g < group_count; g++) {
        map->groups[g].epoch.v = 10;
        for (uint32_t c = 0; c < copies; c++) {
            map->groups[g].acting[c].v = (uint16_t)((g + c) % node_count + 1);
        }
    }
}

static void __attribute__((unused))
fake_leader_set_node(struct fake_leader *l, uint16_t node, enum hf_node_state node_state)
{
    l->map.epoch.v++;
    l->map.nodes[node - 1].state = node_state;
    for (uint32_t g = 0; g < l->map.group_count; g++) {
        for (uint32_t c = 0; c < HF_REPLICAS_MAX; c++) {
            if (l->map.groups[g].acting[c].v == node) {
                l->map.groups[g].epoch = l->map.epoch;
            }
        }
    }
}

static void fake_leader_fini(struct fake_leader *l)
{
    hf_timer_fini(&l->restart);
    fake_leader_stop(l);
    hf_map_fini(&l->map);
}

#endif
