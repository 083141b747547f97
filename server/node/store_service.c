/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_service.c - PUT, GET, DELETE, CHECK, LIST of this node's store.
 *
 * A put comes in frames over one connection. Frames are held in the buffers they were received in
 * until the last one brings length and checksums; then every block is verified and the whole goes
 * to the store. How many are held is bounded: past that, new ones are refused with -EAGAIN.
 */
#include "server/node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/checksum/checksum.h"
#include "common/wire/method.h"

/* Each may grow to a full object; together they stay well below what the buffer pool hands out. */
#define PARTIALS_MAX 24u
#define FRAMES_MAX   (HF_OBJECT_BYTES_MAX / HF_FRAME_BULK_MAX)

struct put_partial {
    TAILQ_ENTRY(put_partial) link;
    struct hf_rpc_conn *conn;
    struct hf_oid oid;
    uint32_t got_bytes;
    uint32_t buf_count;
    struct hf_buf *bufs[FRAMES_MAX];
    uint64_t sums[HF_OBJECT_BLOCKS_MAX]; /* computed here, as frames arrive */
};

struct put_run { /* an object on its way into the store */
    struct hf_store_put put;
    struct hf_node *node;
    struct hf_rpc_request *req;
    struct put_partial *partial;
};

/* --- put --- */

static void partial_free(struct put_partial *p)
{
    for (uint32_t i = 0; i < p->buf_count; i++) {
        hf_buf_unref(p->bufs[i]);
    }
    free(p);
}

static struct put_partial *partial_find(struct hf_node *node, const struct hf_rpc_conn *conn,
                                        const struct hf_oid *oid)
{
    struct put_partial *p;

    TAILQ_FOREACH (p, &node->partials, link) {
        if (p->conn == conn && hf_oid_equal(&p->oid, oid)) {
            return p;
        }
    }
    return NULL;
}

/* Objects of a group are taken only by its members, and not under an epoch older than ours. */
static int check_group(struct hf_node *node, const struct hf_msg_put *m)
{
    const struct hf_map *map = &node->map;

    if (m->repair || map->group_count == 0) {
        return map->group_count == 0 ? -HF_ENOTREADY : 0;
    }
    if (m->oid.group >= map->group_count) {
        return -EINVAL;
    }
    if (m->group_epoch.v < map->groups[m->oid.group].epoch.v) {
        return -HF_ESTALE_EPOCH;
    }
    if (!(hf_map_group_members(map, m->oid.group) & hf_node_bit(node->self->id)) &&
        m->group_epoch.v == map->groups[m->oid.group].epoch.v) {
        return -HF_ESTALE_EPOCH;
    }
    return 0;
}

/* Take one frame into the partial object. Errors leave the partial unchanged. */
static int partial_add(struct hf_node *node, struct put_partial *p, const struct hf_msg_put *m,
                       struct hf_buf *bulk)
{
    size_t len = bulk ? bulk->len_bytes : 0;

    if (len == 0 || m->off_bytes != p->got_bytes || p->got_bytes % HF_BLOCK_BYTES != 0 ||
        p->buf_count == FRAMES_MAX || p->got_bytes + len > HF_OBJECT_BYTES_MAX ||
        (len % HF_BLOCK_BYTES != 0 && !m->last)) {
        return -EINVAL;
    }
    if (p->buf_count == 0 && !m->last && node->partial_count > PARTIALS_MAX) {
        return -EAGAIN;
    }
    hf_checksum_blocks(&p->oid, p->got_bytes / HF_BLOCK_BYTES, bulk->data, len,
                       p->sums + p->got_bytes / HF_BLOCK_BYTES);
    p->bufs[p->buf_count++] = hf_buf_ref(bulk);
    p->got_bytes += (uint32_t)len;
    return 0;
}

static void put_done(void *ctx, int err)
{
    struct put_run *run = ctx;

    run->node->inflight--;
    if (!HF_BUG(put_ack_early)) {
        hf_rpc_reply(run->req, err, NULL, 0, NULL);
    }
    partial_free(run->partial);
    free(run);
}

static int put_finish(struct hf_node *node, struct put_partial *p, const struct hf_msg_put *m,
                      struct hf_rpc_request *req)
{
    struct put_run *run;

    if (m->len_bytes != p->got_bytes || m->sum_count != hf_blocks(p->got_bytes)) {
        return -EINVAL;
    }
    if (memcmp(p->sums, m->sums, m->sum_count * sizeof(m->sums[0])) != 0) {
        return -HF_ECHECKSUM; /* damaged on the way, or in the client's memory */
    }
    run = calloc(1, sizeof(*run));
    if (!run) {
        return -ENOMEM;
    }
    run->node = node;
    run->req = req;
    run->partial = p;
    run->put = (struct hf_store_put){
        .oid = p->oid,
        .len_bytes = p->got_bytes,
        .bufs = p->bufs,
        .buf_count = p->buf_count,
        .sums = p->sums,
        .done = put_done,
        .ctx = run,
    };
    node->inflight++;
    if (HF_BUG(put_ack_early)) {
        hf_rpc_reply(req, 0, NULL, 0, NULL);
    }
    if (m->repair) {
        hf_store_repair(node->store, &run->put);
    } else {
        hf_store_put(node->store, &run->put);
    }
    return 0;
}

static void put_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_put m;
    struct put_partial *p;
    void *mem = NULL;
    int err = hf_msg_put_decode(req->msg, req->msg_len, &m, &mem);

    if (err) {
        hf_rpc_reply(req, err, NULL, 0, NULL);
        return;
    }
    p = partial_find(node, req->conn, &m.oid);
    if (m.abandon) {
        err = 0;
    } else {
        err = check_group(node, &m);
        if (!err && !p) {
            p = calloc(1, sizeof(*p));
            if (p) {
                p->conn = req->conn;
                p->oid = m.oid;
                TAILQ_INSERT_TAIL(&node->partials, p, link);
                node->partial_count++;
            } else {
                err = -ENOMEM;
            }
        }
        if (!err) {
            err = partial_add(node, p, &m, req->bulk);
        }
    }
    if (p && (err || m.last || m.abandon)) {
        TAILQ_REMOVE(&node->partials, p, link);
        node->partial_count--;
        if (!err && m.last && !m.abandon) {
            err = put_finish(node, p, &m, req);
            if (!err) {
                hf_msg_release(mem);
                return; /* put_done() answers */
            }
        }
        partial_free(p);
    }
    hf_msg_release(mem);
    hf_rpc_reply(req, err, NULL, 0, NULL);
}

void store_service_closed(struct hf_node *node, struct hf_rpc_conn *conn)
{
    struct put_partial *p = TAILQ_FIRST(&node->partials);

    while (p) {
        struct put_partial *next = TAILQ_NEXT(p, link);

        if (p->conn == conn) {
            TAILQ_REMOVE(&node->partials, p, link);
            node->partial_count--;
            partial_free(p);
        }
        p = next;
    }
}

/* --- get --- */

struct get_run {
    struct hf_store_get get;
    struct hf_node *node;
    struct hf_rpc_request *req;
};

static void release_buf(void *ctx)
{
    hf_buf_unref(ctx);
}

static void get_done(void *ctx, int err)
{
    struct get_run *run = ctx;
    struct hf_store_get *get = &run->get;
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;

    run->node->inflight--;
    if (!err) {
        struct hf_msg_get_reply m = {.object_len_bytes = get->object_len_bytes,
                                     .sums = get->sums,
                                     .sum_count = get->sum_count};

        err = hf_msg_get_reply_encode(&m, msg, &len);
        if (!err) {
            struct iovec iov = {.iov_base = get->buf->data, .iov_len = get->buf->len_bytes};
            struct hf_rpc_bulk bulk = {.iov = &iov,
                                       .iov_count = 1,
                                       .summed = true,
                                       .release = release_buf,
                                       .ctx = get->buf};

            hf_rpc_reply(run->req, 0, msg, len, &bulk);
        } else {
            hf_buf_unref(get->buf);
        }
        hf_buf_unref(get->sums_buf);
    }
    if (err) {
        hf_rpc_reply(run->req, err, NULL, 0, NULL);
    }
    free(run);
}

static void get_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_get m;
    struct get_run *run;
    int err = hf_msg_get_decode(req->msg, req->msg_len, &m);

    if (!err && (m.len_bytes == 0 || m.len_bytes > HF_FRAME_BULK_MAX ||
                 m.off_bytes % HF_BLOCK_BYTES != 0)) {
        err = -EINVAL;
    }
    run = err ? NULL : calloc(1, sizeof(*run));
    if (!run) {
        hf_rpc_reply(req, err ? err : -ENOMEM, NULL, 0, NULL);
        return;
    }
    run->node = node;
    run->req = req;
    run->get.oid = m.oid;
    run->get.range.off_bytes = m.off_bytes;
    run->get.range.len_bytes = m.len_bytes;
    run->get.done = get_done;
    run->get.ctx = run;
    node->inflight++;
    hf_rpc_promise(req, m.len_bytes);
    hf_store_get(node->store, &run->get);
}

/* --- delete --- */

struct delete_run {
    struct hf_store_delete del;
    struct hf_node *node;
    struct hf_rpc_request *req;
    void *mem;
};

static void delete_done(void *ctx, int err)
{
    struct delete_run *run = ctx;

    run->node->inflight--;
    if (!HF_BUG(delete_ack_early)) {
        hf_rpc_reply(run->req, err, NULL, 0, NULL);
    }
    hf_msg_release(run->mem);
    free(run);
}

static void delete_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_oids m;
    struct delete_run *run;
    void *mem;
    int err;

    if (!node_may_lead(node, req->peer->node)) {
        hf_rpc_reply(req, -EPERM, NULL, 0, NULL); /* clients never delete objects */
        return;
    }
    err = hf_msg_oids_decode(req->msg, req->msg_len, &m, &mem);
    if (err) {
        hf_rpc_reply(req, err, NULL, 0, NULL);
        return;
    }
    run = calloc(1, sizeof(*run));
    if (!run) {
        hf_msg_release(mem);
        hf_rpc_reply(req, -ENOMEM, NULL, 0, NULL);
        return;
    }
    run->node = node;
    run->req = req;
    run->mem = mem;
    run->del.oids = m.oids;
    run->del.count = HF_BUG(deletes_first) && m.count ? 1 : m.count;
    run->del.done = delete_done;
    run->del.ctx = run;
    node->inflight++;
    if (HF_BUG(delete_ack_early)) {
        hf_rpc_reply(req, 0, NULL, 0, NULL);
    }
    copy_service_deleted(node, m.oids, m.count);
    hf_store_delete(node->store, &run->del);
}

/* --- check: one object after the other, so that a long list leaves room for readers --- */

struct check_run {
    struct hf_store_check check;
    struct hf_node *node;
    struct hf_rpc_request *req;
    void *mem;
    struct hf_msg_oids oids;
    uint32_t next;
    int errs[HF_MSG_OIDS_MAX];
    uint32_t lens[HF_MSG_OIDS_MAX];
    uint64_t digests[HF_MSG_OIDS_MAX];
};

static void check_next(struct check_run *run);

static void check_done(void *ctx, int err)
{
    struct check_run *run = ctx;

    run->errs[run->next] = err;
    run->lens[run->next] = run->check.len_bytes;
    run->digests[run->next] = run->check.digest;
    run->next++;
    check_next(run);
}

static void check_reply(struct check_run *run)
{
    struct hf_msg_check_reply m = {
        .errs = run->errs, .lens = run->lens, .digests = run->digests, .count = run->oids.count};
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err = hf_msg_check_reply_encode(&m, msg, &len);

    run->node->inflight--;
    hf_rpc_reply(run->req, err, msg, err ? 0 : len, NULL);
    hf_msg_release(run->mem);
    free(run);
}

static void check_next(struct check_run *run)
{
    if (run->next == run->oids.count) {
        check_reply(run);
        return;
    }
    memset(&run->check, 0, sizeof(run->check));
    run->check.oid = run->oids.oids[run->next];
    run->check.done = check_done;
    run->check.ctx = run;
    hf_store_check(run->node->store, &run->check);
}

static void check_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct check_run *run = calloc(1, sizeof(*run));
    int err = run ? hf_msg_oids_decode(req->msg, req->msg_len, &run->oids, &run->mem) : -ENOMEM;

    if (err) {
        free(run);
        hf_rpc_reply(req, err, NULL, 0, NULL);
        return;
    }
    run->node = node;
    run->req = req;
    node->inflight++;
    check_next(run);
}

/* --- list, stats --- */

#define LIST_MAX 512u

static void list_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_store_entry entries[LIST_MAX];
    struct hf_oid oids[LIST_MAX];
    uint32_t lens[LIST_MAX];
    uint64_t digests[LIST_MAX];
    bool bad[LIST_MAX];
    uint8_t msg[HF_RPC_MSG_MAX];
    struct hf_msg_list m;
    uint32_t count = 0;
    size_t len = 0;
    int err = hf_msg_list_decode(req->msg, req->msg_len, &m);

    if (!err) {
        uint32_t max = m.max && m.max < LIST_MAX ? m.max : LIST_MAX;

        err = hf_store_list(node->store, m.group, m.has_after ? &m.after : NULL, entries, max,
                            &count);
    }
    if (!err) {
        struct hf_msg_list_reply r = {
            .oids = oids, .lens = lens, .digests = digests, .quarantined = bad, .count = count};

        for (uint32_t i = 0; i < count; i++) {
            oids[i] = entries[i].oid;
            lens[i] = entries[i].len_bytes;
            digests[i] = entries[i].digest;
            bad[i] = entries[i].quarantined && !HF_BUG(list_hides_bad);
        }
        err = hf_msg_list_reply_encode(&r, msg, &len);
    }
    hf_rpc_reply(req, err, msg, err ? 0 : len, NULL);
}

void store_stats_msg(struct hf_node *node, struct hf_msg_store_stats *ret)
{
    struct hf_store_stats s;

    hf_store_stats(node->store, &s);
    *ret = (struct hf_msg_store_stats){
        .state = (uint32_t)s.state,
        .capacity_bytes = s.capacity_bytes,
        .free_bytes = s.free_bytes,
        .live_bytes = s.live_bytes,
        .objects = s.objects,
        .segments = s.segments,
        .quarantined = s.quarantined,
        .puts = s.puts,
        .gets = s.gets,
        .deletes = s.deletes,
        .put_bytes = s.put_bytes,
        .get_bytes = s.get_bytes,
        .syncs = s.syncs,
        .compacted = s.compacted_segments,
        .recycled = s.recycled_segments,
    };
}

static void stats_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_store_stats m;
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len = 0;
    int err;

    store_stats_msg(node, &m);
    err = hf_msg_store_stats_encode(&m, msg, &len);
    hf_rpc_reply(req, err, msg, err ? 0 : len, NULL);
}

void store_service_request(struct hf_node *node, struct hf_rpc_request *req)
{
    switch (req->method) {
    case HF_M_PUT:
        put_request(node, req);
        break;
    case HF_M_GET:
        get_request(node, req);
        break;
    case HF_M_DELETE:
        delete_request(node, req);
        break;
    case HF_M_CHECK:
    case HF_M_REPORT_BAD: /* a report only makes the store re-read its own copy */
        check_request(node, req);
        break;
    case HF_M_LIST:
        list_request(node, req);
        break;
    case HF_M_STORE_STATS:
        stats_request(node, req);
        break;
    default:
        hf_rpc_reply(req, -ENOSYS, NULL, 0, NULL);
        break;
    }
}

/* Frames of one object over one connection that lives: whole blocks, in order, not yet the last. */
void store_service_check(const struct hf_node *node)
{
    const struct put_partial *p, *other;
    uint32_t count = 0;

    TAILQ_FOREACH (p, &node->partials, link) {
        size_t bytes = 0;

        for (uint32_t i = 0; i < p->buf_count; i++) {
            bytes += p->bufs[i]->len_bytes;
        }
        HF_ASSERT(p->buf_count > 0 && bytes == p->got_bytes);
        HF_ASSERT(bytes % HF_BLOCK_BYTES == 0 && bytes <= HF_OBJECT_BYTES_MAX);
        HF_ASSERT(hf_rpc_conn_addr(p->conn)[0]);
        for (other = TAILQ_NEXT(p, link); other; other = TAILQ_NEXT(other, link)) {
            HF_ASSERT(p->conn != other->conn || !hf_oid_equal(&p->oid, &other->oid));
        }
        count++;
    }
    HF_ASSERT(count == node->partial_count && count <= PARTIALS_MAX);
}
