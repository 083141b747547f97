/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - storing and repairing one object: decide, append, enter into the index, answer.
 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"

/* What a put keeps in its impl: to answer later, or to wait for an equal one. */
struct put_wait {
    struct hf_task task;
    struct hf_store *store;
    struct hf_store_put *next;
    int err;
};

static_assert(sizeof(struct put_wait) <= sizeof(((struct hf_store_put *)0)->impl), "fits");

struct put_op {
    struct hf_seglog_append append;
    struct hf_store_inflight in;
    struct hf_store *store;
    struct hf_store_put *put;
    struct hf_store_object object;
    uint64_t bytes;
    struct iovec *iov;
    uint8_t meta[];
};

static void put_appended(void *ctx, int err);

static struct put_wait *wait_of(struct hf_store_put *put)
{
    return (struct put_wait *)(void *)put->impl;
}

static void answer_run(struct hf_task *task)
{
    struct put_wait *wait = hf_container_of(task, struct put_wait, task);
    struct hf_store_put *put =
        (struct hf_store_put *)(void *)((char *)wait - offsetof(struct hf_store_put, impl));

    wait->store->users--;
    put->done(put->ctx, wait->err);
}

static void answer(struct hf_store *store, struct hf_store_put *put, int err)
{
    struct put_wait *wait = wait_of(put);

    *wait = (struct put_wait){.task = {.fn = answer_run}, .store = store, .err = err};
    store->users++;
    hf_env_post(store->env, &wait->task);
}

/* An equal put is on its way to the disk: share its fate. */
static void follow(struct hf_store *store, struct hf_store_put *put, struct hf_store_inflight *in)
{
    *wait_of(put) = (struct put_wait){.store = store, .next = in->followers};
    in->followers = put;
}

static bool room_for_put(const struct hf_store *store, uint64_t bytes)
{
    uint64_t room = hf_store_room(store);
    uint64_t taken = store->pending_bytes + bytes;

    return room > taken && room - taken >= store->options.reserve_put_bytes;
}

/*
 * What is known of the object already. 0: write it (*ret_origin says where an older record lies);
 * 1: it is here; else the error.
 */
static int judge(struct hf_store *store, const struct hf_store_put *put, uint64_t digest,
                 bool repair, uint64_t *ret_origin)
{
    struct hf_store_row row;
    int err = hf_store_row_get(store, &put->oid, &row);

    *ret_origin = 0;
    if (err == -ENOENT) {
        return 0;
    }
    if (err) {
        return -EIO;
    }
    if (row.kind == HF_STORE_ROW_TOMBSTONE && HF_BUG(put_revives)) {
        return 0;
    }
    if (row.kind == HF_STORE_ROW_TOMBSTONE || row.len_bytes != put->len_bytes ||
        row.digest != digest) {
        return -HF_ECONFLICT;
    }
    if (!(row.flags & HF_STORE_ROW_QUARANTINED)) {
        return 1;
    }
    (void)repair; /* an equal put of a bad copy is a repair, whoever asks for it */
    *ret_origin = row.segment;
    return 0;
}

static struct put_op *put_op_new(struct hf_store *store, struct hf_store_put *put, uint64_t digest,
                                 uint64_t origin)
{
    uint32_t blocks = hf_blocks(put->len_bytes);
    size_t meta = sizeof(struct hf_store_object_disk) + 8 * (size_t)blocks;
    struct put_op *op = calloc(1, sizeof(*op) + meta);

    if (!op) {
        return NULL;
    }
    op->iov = calloc(put->buf_count, sizeof(*op->iov));
    if (!op->iov) {
        free(op);
        return NULL;
    }
    op->store = store;
    op->put = put;
    op->object = (struct hf_store_object){.oid = put->oid,
                                          .len_bytes = put->len_bytes,
                                          .digest = digest,
                                          .origin = origin,
                                          .sum_count = blocks};
    op->in = (struct hf_store_inflight){.oid = put->oid,
                                        .kind = HF_STORE_IN_PUT,
                                        .owner = op,
                                        .digest = digest,
                                        .len_bytes = put->len_bytes};
    return op;
}

static void put_op_free(struct put_op *op)
{
    free(op->iov);
    free(op);
}

static void put_start(struct put_op *op)
{
    struct hf_store_put *put = op->put;
    uint32_t left = put->len_bytes;

    for (uint32_t i = 0; i < put->buf_count; i++) {
        size_t len = put->bufs[i]->len_bytes < left ? put->bufs[i]->len_bytes : left;

        op->iov[i] = (struct iovec){.iov_base = put->bufs[i]->data, .iov_len = len};
        left -= (uint32_t)len;
    }
    HF_ASSERT(left == 0);
    op->append = (struct hf_seglog_append){
        .type = HF_STORE_RECORD_OBJECT,
        .aligned = true,
        .meta = op->meta,
        .meta_len_bytes = hf_store_object_encode(&op->object, put->sums, op->meta),
        .iov = op->iov,
        .iov_count = put->buf_count,
        .payload_len_bytes = put->len_bytes,
        .done = put_appended,
        .ctx = op,
    };
    op->bytes = put->len_bytes;
    op->store->pending_bytes += op->bytes;
    op->store->users++;
    hf_store_inflight_add(op->store, &op->in);
    hf_seglog_append(op->store->log, &op->append);
}

static void put_any(struct hf_store *store, struct hf_store_put *put, bool repair)
{
    uint64_t digest = hf_checksum_digest(put->len_bytes, put->sums, hf_blocks(put->len_bytes));
    struct hf_store_inflight *in;
    struct put_op *op;
    uint64_t origin;
    int err;

    hf_assert_loop(store->env);
    HF_ASSERT(put->len_bytes >= 1 && put->len_bytes <= HF_OBJECT_BYTES_MAX && put->buf_count >= 1);
    hf_store_wake(store);
    in = hf_store_inflight_find(store, &put->oid);
    if (in && in->kind == HF_STORE_IN_PUT && in->digest == digest &&
        in->len_bytes == put->len_bytes) {
        if (HF_BUG(equal_put_at_once)) {
            answer(store, put, 0);
            return;
        }
        follow(store, put, in);
        return;
    }
    if (in && in->kind != HF_STORE_IN_COPY) {
        answer(store, put, -HF_ECONFLICT);
        return;
    }
    err = judge(store, put, digest, repair, &origin);
    if (err == 0 && in) {
        err = -HF_ENOTREADY; /* a bad copy is being moved just now: try again */
    }
    if (err == 0 && (store->index_failed || hf_seglog_broken(store->log))) {
        err = -EIO;
    }
    if (err == 0 && !room_for_put(store, put->len_bytes)) {
        err = -ENOSPC;
    }
    if (err) {
        answer(store, put, err > 0 ? 0 : err);
        return;
    }
    op = put_op_new(store, put, digest, origin);
    if (!op) {
        answer(store, put, -ENOMEM);
        return;
    }
    put_start(op);
}

static void put_appended(void *ctx, int err)
{
    struct put_op *op = ctx;
    struct hf_store *store = op->store;
    struct hf_store_put *put = op->put;
    struct hf_store_put *follower = op->in.followers;

    store->pending_bytes -= op->bytes;
    hf_store_inflight_remove(store, &op->in);
    if (!err) {
        err = hf_store_apply_object(store, &op->object, op->append.seq, op->append.pos,
                                    op->append.header_bytes) != 0
                  ? -EIO
                  : 0;
        if (!store->index_failed) {
            store->applied_seq = op->append.seq;
        }
    }
    if (!err) {
        store->stats.puts++;
        store->stats.put_bytes += put->len_bytes;
        hf_sums_cache_put(store->sums, op->append.pos.segment, op->append.pos.off_bytes, put->sums,
                          op->object.sum_count);
    }
    put_op_free(op);
    while (follower) {
        struct hf_store_put *next = wait_of(follower)->next;

        answer(store, follower, err);
        follower = next;
    }
    store->users--;
    put->done(put->ctx, err);
    hf_store_unpark(store);
}

void hf_store_put(struct hf_store *store, struct hf_store_put *put)
{
    put_any(store, put, false);
}

void hf_store_repair(struct hf_store *store, struct hf_store_put *put)
{
    put_any(store, put, true);
}

int hf_store_verify_record(void *ctx, const struct hf_seglog_record *record)
{
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];
    struct hf_store_object o;
    int err;

    (void)ctx;
    if (record->type != HF_STORE_RECORD_OBJECT || HF_BUG(torn_put_kept)) {
        return 0; /* all in the header */
    }
    err = hf_store_object_decode(record->meta, record->meta_have_bytes, record->meta_len_bytes,
                                 record->payload_len_bytes, &o, sums);
    if (err || hf_checksum_digest(o.len_bytes, sums, o.sum_count) != o.digest ||
        hf_checksum_verify(&o.oid, 0, record->payload, o.len_bytes, sums) >= 0) {
        return -EBADMSG;
    }
    return 0;
}
