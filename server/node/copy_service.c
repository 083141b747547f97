/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_service.c - COPY: this node fetches an object from another store, verifies it, keeps it.
 *
 *     for each source: GET frame by frame ──► verify blocks ──► digest as the metadata has it?
 *                                              no: next source      yes: put (or repair)
 *
 * The metadata leader asks for it where a member lacks an object or has set its copy aside. Nobody
 * need know any more of a copy that is being fetched when its object is deleted here: it is not
 * kept. One that is being stored already is the store's, which deletes behind it.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bugs.h"
#include "common/checksum/checksum.h"
#include "common/log/log.h"
#include "common/wire/method.h"

#define COPY_GET_TIMEOUT_NS (10 * HF_NS_PER_SEC)
#define FRAMES_MAX          (HF_OBJECT_BYTES_MAX / HF_FRAME_BULK_MAX)

struct copy_run {
    struct copy_run *prev, *next; /* of the node's */
    bool deleted;                 /* its object, meanwhile */
    struct hf_node *node;
    struct hf_rpc_request *req;
    struct hf_msg_copy m;
    uint32_t source; /* index into m.sources */
    int last_err;
    struct hf_rpc_peer *peer; /* to the source; owned by the node where it is in the map */
    struct hf_rpc_call call;
    uint32_t got_bytes;
    uint32_t buf_count;
    struct hf_buf *bufs[FRAMES_MAX];
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];
    struct hf_store_put put;
};

static void copy_source(struct copy_run *run);

static void drop_bufs(struct copy_run *run)
{
    for (uint32_t i = 0; i < run->buf_count; i++) {
        hf_buf_unref(run->bufs[i]);
    }
    run->buf_count = 0;
    run->got_bytes = 0;
}

static void copy_end(struct copy_run *run, int err)
{
    drop_bufs(run);
    *(run->prev ? &run->prev->next : &run->node->copies) = run->next;
    if (run->next) {
        run->next->prev = run->prev;
    }
    run->node->inflight--;
    hf_rpc_reply(run->req, err, NULL, 0, NULL);
    free(run);
}

static void copy_next_source(struct copy_run *run, int err)
{
    char oid[HF_OID_STR_MAX];

    hf_log(HF_LOG_WARN, "node", "copy-source-failed", "oid=%s source=%s error=\"%s\"",
           hf_oid_str(&run->m.oid, oid), run->m.sources[run->source], hf_err_name(err));
    if (run->last_err == 0 || err != -HF_ENOOBJECT) {
        run->last_err = err;
    }
    drop_bufs(run);
    run->source++;
    copy_source(run);
}

static void copy_put_done(void *ctx, int err)
{
    copy_end(ctx, HF_BUG(copy_error_lost) ? 0 : err);
}

static void copy_keep(struct copy_run *run)
{
    uint32_t blocks = hf_blocks(run->got_bytes);

    if (run->deleted && !HF_BUG(delete_skips_copying)) {
        copy_end(run, -HF_ENOOBJECT);
        return;
    }
    if (hf_checksum_digest(run->got_bytes, run->sums, blocks) != run->m.digest) {
        copy_next_source(run, -HF_ECHECKSUM);
        return;
    }
    run->put = (struct hf_store_put){
        .oid = run->m.oid,
        .len_bytes = run->got_bytes,
        .bufs = run->bufs,
        .buf_count = run->buf_count,
        .sums = run->sums,
        .done = copy_put_done,
        .ctx = run,
    };
    hf_store_repair(run->node->store, &run->put);
}

static void copy_get(struct copy_run *run);

static void copy_got(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct copy_run *run = call->ctx;
    struct hf_msg_get_reply m;
    void *mem = NULL;
    size_t want = run->m.len_bytes - run->got_bytes;

    want = want < HF_FRAME_BULK_MAX ? want : HF_FRAME_BULK_MAX;
    if (!err) {
        err = hf_msg_get_reply_decode(reply->msg, reply->msg_len, &m, &mem);
    }
    if (!err && (!reply->bulk || reply->bulk->len_bytes != want ||
                 m.object_len_bytes != run->m.len_bytes || m.sum_count != hf_blocks(want))) {
        err = -EBADMSG;
    }
    if (!err && !HF_BUG(copy_unverified) &&
        hf_checksum_verify(&run->m.oid, run->got_bytes / HF_BLOCK_BYTES, reply->bulk->data, want,
                           m.sums) >= 0) {
        err = -HF_ECHECKSUM;
    }
    if (!err) {
        memcpy(run->sums + run->got_bytes / HF_BLOCK_BYTES, m.sums,
               m.sum_count * sizeof(m.sums[0]));
        run->bufs[run->buf_count++] = hf_buf_ref(reply->bulk);
        run->got_bytes += (uint32_t)want;
    }
    hf_msg_release(mem);
    if (err) {
        copy_next_source(run, err);
    } else if (run->got_bytes == run->m.len_bytes) {
        copy_keep(run);
    } else {
        copy_get(run);
    }
}

static void copy_get(struct copy_run *run)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    struct hf_msg_get m = {.oid = run->m.oid, .off_bytes = run->got_bytes};
    uint32_t left = run->m.len_bytes - run->got_bytes;
    size_t len;
    int err;

    m.len_bytes = left < HF_FRAME_BULK_MAX ? left : HF_FRAME_BULK_MAX;
    err = hf_msg_get_encode(&m, msg, &len);
    if (err) {
        copy_end(run, err);
        return;
    }
    memset(&run->call, 0, sizeof(run->call));
    run->call.method = HF_M_GET;
    run->call.msg = msg;
    run->call.msg_len = len;
    run->call.timeout_ns = COPY_GET_TIMEOUT_NS;
    run->call.done = copy_got;
    run->call.ctx = run;
    hf_rpc_call(run->peer, &run->call);
}

/* Sources are nodes of the map; an address that is not is skipped. */
static struct hf_rpc_peer *peer_at(struct hf_node *node, const char *addr)
{
    for (uint32_t i = 0; i < node->map.node_count; i++) {
        if (strcmp(node->map.nodes[i].addr, addr) == 0) {
            return node_peer(node, node->map.nodes[i].id);
        }
    }
    return NULL;
}

static void copy_source(struct copy_run *run)
{
    while (run->source < run->m.source_count) {
        run->peer = peer_at(run->node, run->m.sources[run->source]);
        if (run->peer) {
            copy_get(run);
            return;
        }
        run->source++;
    }
    copy_end(run, HF_BUG(copy_of_nothing) ? 0 : run->last_err ? run->last_err : -HF_ENOOBJECT);
}

void copy_service_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct copy_run *run = NULL;
    int err = 0;

    if (!node_may_lead(node, req->peer->node)) {
        err = -EPERM;
    }
    if (!err) {
        run = calloc(1, sizeof(*run));
        err = run ? hf_msg_copy_decode(req->msg, req->msg_len, &run->m) : -ENOMEM;
    }
    if (!err && (run->m.len_bytes == 0 || run->m.len_bytes > HF_OBJECT_BYTES_MAX)) {
        err = -EINVAL;
    }
    if (err) {
        free(run);
        hf_rpc_reply(req, err, NULL, 0, NULL);
        return;
    }
    run->node = node;
    run->req = req;
    run->next = node->copies;
    if (run->next) {
        run->next->prev = run;
    }
    node->copies = run;
    node->inflight++;
    copy_source(run);
}

void copy_service_deleted(struct hf_node *node, const struct hf_oid *oids, uint32_t count)
{
    for (struct copy_run *run = node->copies; run; run = run->next) {
        for (uint32_t i = 0; i < count; i++) {
            run->deleted = run->deleted || hf_oid_equal(&run->m.oid, &oids[i]);
        }
    }
}
