/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get.c - reading blocks and their stored checksums: from memory inline when that needs no
 * waiting, else on a disk worker.
 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"

/* What a get keeps in its impl until its outcome is known. */
struct get_wait {
    struct hf_task task;
    struct hf_store *store;
    int err;
};

static_assert(sizeof(struct get_wait) <= sizeof(((struct hf_store_get *)0)->impl), "fits");

struct get_op {
    struct hf_job job;
    struct hf_store *store;
    struct hf_store_get *get;
    struct hf_seglog_segment *segment;
    struct hf_store_row row;
    struct hf_buf *buf;
    struct hf_buf *sums_buf;
    uint32_t len_bytes;
    uint32_t first_block;
    uint32_t blocks;
    bool have_sums;
    int err;
    uint64_t *all_sums; /* of the whole object, when they had to be read; else NULL */
};

static void answer_run(struct hf_task *task)
{
    struct get_wait *wait = hf_container_of(task, struct get_wait, task);
    struct hf_store_get *get =
        (struct hf_store_get *)(void *)((char *)wait - offsetof(struct hf_store_get, impl));

    wait->store->users--;
    get->done(get->ctx, wait->err);
}

static void answer(struct hf_store *store, struct hf_store_get *get, int err)
{
    struct get_wait *wait = (struct get_wait *)(void *)get->impl;

    *wait = (struct get_wait){.task = {.fn = answer_run}, .store = store, .err = err};
    store->users++;
    hf_env_post(store->env, &wait->task);
}

static int cut_range(const struct hf_store_get *get, const struct hf_store_row *row,
                     uint32_t *ret_len)
{
    uint32_t off = get->range.off_bytes;

    if (off % HF_BLOCK_BYTES != 0 || off >= row->len_bytes || get->range.len_bytes == 0) {
        return -EINVAL;
    }
    *ret_len =
        get->range.len_bytes < row->len_bytes - off ? get->range.len_bytes : row->len_bytes - off;
    if (*ret_len % HF_BLOCK_BYTES != 0 && off + *ret_len != row->len_bytes) {
        return -EINVAL;
    }
    return 0;
}

static uint64_t data_off(const struct get_op *op)
{
    return op->row.off_bytes + op->row.header_bytes + op->get->range.off_bytes;
}

static void take_sums(struct get_op *op, const uint64_t *all)
{
    memcpy(op->sums_buf->data, all + op->first_block, op->blocks * sizeof(uint64_t));
    op->sums_buf->len_bytes = op->blocks * sizeof(uint64_t);
    op->have_sums = true;
}

/* The vector of the object whose header pages are @pages. */
static int decode_sums(const struct get_op *op, const uint8_t *pages, size_t len_bytes,
                       uint64_t *ret)
{
    struct hf_seglog_record record;
    struct hf_store_object object;
    size_t need;
    int err =
        hf_seglog_segment_decode(op->segment, op->row.off_bytes, pages, len_bytes, &record, &need);

    if (!err) {
        err = hf_store_object_decode(record.meta, record.meta_have_bytes, record.meta_len_bytes,
                                     record.payload_len_bytes, &object, ret);
    }
    if (!err && (!hf_oid_equal(&object.oid, &op->get->oid) || object.sum_count == 0 ||
                 hf_checksum_digest(object.len_bytes, ret, object.sum_count) != op->row.digest)) {
        err = -EBADMSG;
    }
    return err == -ERANGE ? -EBADMSG : err;
}

/* From memory, or -EAGAIN. */
static int read_inline(struct get_op *op)
{
    struct hf_file *file = hf_seglog_segment_file(op->segment);
    struct iovec iov = {.iov_base = op->buf->data, .iov_len = op->len_bytes};

    if (!op->have_sums) {
        uint8_t pages[3 * HF_BLOCK_BYTES];
        uint64_t sums[HF_OBJECT_BLOCKS_MAX];
        struct iovec header = {.iov_base = pages, .iov_len = op->row.header_bytes};

        if (hf_file_preadv_nowait(file, &header, 1, op->row.off_bytes) !=
                (ssize_t)op->row.header_bytes ||
            decode_sums(op, pages, op->row.header_bytes, sums) != 0) {
            return -EAGAIN; /* the worker finds out what is wrong */
        }
        hf_sums_cache_put(op->store->sums, op->row.segment, op->row.off_bytes, sums,
                          hf_blocks(op->row.len_bytes));
        take_sums(op, sums);
    }
    return hf_file_preadv_nowait(file, &iov, 1, data_off(op)) == (ssize_t)op->len_bytes ? 0
                                                                                        : -EAGAIN;
}

static void get_run(struct hf_job *job)
{
    struct get_op *op = hf_container_of(job, struct get_op, job);
    struct hf_file *file = hf_seglog_segment_file(op->segment);

    if (!op->have_sums) {
        uint8_t pages[3 * HF_BLOCK_BYTES];

        op->all_sums = malloc(HF_OBJECT_BLOCKS_MAX * sizeof(uint64_t));
        if (!op->all_sums) {
            op->err = -ENOMEM;
            return;
        }
        op->err = hf_file_read_full(file, pages, op->row.header_bytes, op->row.off_bytes, NULL);
        if (!op->err) {
            op->err = decode_sums(op, pages, op->row.header_bytes, op->all_sums);
        }
        if (op->err) {
            return;
        }
        take_sums(op, op->all_sums);
    }
    op->err = hf_file_read_full(file, op->buf->data, op->len_bytes, data_off(op), NULL);
}

static void get_finish(struct get_op *op)
{
    struct hf_store *store = op->store;
    struct hf_store_get *get = op->get;
    int err = op->err;

    if (op->all_sums && !err) {
        hf_sums_cache_put(store->sums, op->row.segment, op->row.off_bytes, op->all_sums,
                          hf_blocks(op->row.len_bytes));
    }
    hf_seglog_segment_unref(store->log, op->segment);
    if (err && err != -ENOMEM) {
        hf_store_quarantine(store, &get->oid, &op->row, err);
        err = -EIO;
    }
    if (err) {
        hf_buf_unref(op->buf);
        hf_buf_unref(op->sums_buf);
    } else {
        op->buf->len_bytes = op->len_bytes;
        get->object_len_bytes = op->row.len_bytes;
        get->buf = op->buf;
        get->sums_buf = op->sums_buf;
        get->sums = (uint64_t *)(void *)op->sums_buf->data;
        get->sum_count = op->blocks;
        store->stats.gets++;
        store->stats.get_bytes += op->len_bytes;
    }
    free(op->all_sums);
    free(op);
    answer(store, get, err);
}

static void get_done(struct hf_job *job)
{
    struct get_op *op = hf_container_of(job, struct get_op, job);
    struct hf_store *store = op->store;

    get_finish(op); /* answers from a task: one more turn of the loop, the same for both ways */
    store->users--;
}

static int get_prepare(struct get_op *op)
{
    struct hf_store *store = op->store;
    const uint64_t *cached;
    uint32_t count = 0;

    op->first_block = op->get->range.off_bytes / HF_BLOCK_BYTES;
    op->blocks = hf_blocks(op->len_bytes);
    op->segment = hf_seglog_segment_ref(store->log, op->row.segment);
    if (!op->segment) {
        return -EIO; /* the file is gone */
    }
    op->buf = hf_buf_get(store->options.pool, op->len_bytes);
    op->sums_buf = op->buf ? hf_buf_get(store->options.pool, op->blocks * sizeof(uint64_t)) : NULL;
    if (!op->sums_buf) {
        return -ENOMEM;
    }
    cached = hf_sums_cache_get(store->sums, op->row.segment, op->row.off_bytes, &count);
    if (cached && count == hf_blocks(op->row.len_bytes)) {
        take_sums(op, cached);
    }
    return 0;
}

void hf_store_get(struct hf_store *store, struct hf_store_get *get)
{
    struct get_op *op;
    struct hf_store_row row;
    uint32_t len = 0;
    int err;

    hf_assert_loop(store->env);
    get->buf = NULL;
    get->sums_buf = NULL;
    get->sums = NULL;
    get->sum_count = 0;
    err = hf_store_row_get(store, &get->oid, &row);
    if (err || row.kind == HF_STORE_ROW_TOMBSTONE) {
        answer(store, get, err && err != -ENOENT ? -EIO : -HF_ENOOBJECT);
        return;
    }
    get->object_len_bytes = row.len_bytes;
    err = row.flags & HF_STORE_ROW_QUARANTINED ? -HF_EQUARANTINED : cut_range(get, &row, &len);
    op = err ? NULL : calloc(1, sizeof(*op));
    if (!op) {
        answer(store, get, err ? err : -ENOMEM);
        return;
    }
    *op = (struct get_op){.store = store, .get = get, .row = row, .len_bytes = len};
    err = get_prepare(op);
    if (err) {
        if (op->segment) {
            hf_seglog_segment_unref(store->log, op->segment);
        } else {
            hf_store_quarantine(store, &get->oid, &row, err);
        }
        hf_buf_unref(op->buf);
        free(op);
        answer(store, get, err);
        return;
    }
    if (read_inline(op) == 0) {
        get_finish(op);
        return;
    }
    store->users++;
    op->job = (struct hf_job){.run = get_run, .done = get_done};
    hf_env_submit(store->env, HF_POOL_DISK, &op->job);
}
