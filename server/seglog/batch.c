/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - one group commit, on the worker: close and open segments where needed, build header
 * pages, write everything in one go, sync once.
 */
#include "server/seglog/seglog_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"

#define PAGE         HF_SEGMENT_PAGE_BYTES
#define IOV_MAX_CALL 512

/* Bytes of the arena that @op takes: header pages and, when copied, the payload's pages. */
static size_t arena_bytes(const struct hf_seglog_append *op)
{
    return op->header_bytes +
           (op->aligned ? 0 : (size_t)hf_segment_pages_up(op->payload_len_bytes));
}

static int reserve(struct hf_seglog_batch *b)
{
    size_t bytes = 0;
    uint32_t iovs = 0;

    for (const struct hf_seglog_append *op = b->ops; op; op = op->next) {
        bytes += arena_bytes(op);
        iovs += 1 + (op->aligned ? op->iov_count : 0);
    }
    if (bytes > b->arena_cap) {
        size_t cap = bytes > 2 * b->arena_cap ? bytes : 2 * b->arena_cap;

        free(b->arena);
        b->arena_cap = 0;
        b->arena = hf_segment_aligned_alloc(cap);
        if (!b->arena) {
            return -ENOMEM;
        }
        b->arena_cap = cap;
    }
    if (iovs > b->iov_cap) {
        free(b->iov);
        b->iov_cap = 0;
        b->iov = calloc(iovs, sizeof(*b->iov));
        if (!b->iov) {
            return -ENOMEM;
        }
        b->iov_cap = iovs;
    }
    return 0;
}

/* Copy a payload that is not laid out for O_DIRECT. */
static void copy_payload(const struct hf_seglog_append *op, uint8_t *to)
{
    size_t len = (size_t)hf_segment_pages_up(op->payload_len_bytes);
    uint8_t *at = to;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        if (op->iov[i].iov_len) {
            memcpy(at, op->iov[i].iov_base, op->iov[i].iov_len);
            at += op->iov[i].iov_len;
        }
    }
    memset(at, 0, len - (size_t)(at - to));
}

static uint64_t sum_payload(const struct hf_segment_key *key, const struct hf_seglog_append *op,
                            const uint8_t *copied)
{
    uint64_t sum = hf_record_payload_begin(key, op->pos.off_bytes);

    if (!op->aligned) {
        return hf_record_payload_add(sum, copied, op->payload_len_bytes);
    }
    for (uint32_t i = 0; i < op->iov_count; i++) {
        sum = hf_record_payload_add(sum, op->iov[i].iov_base, op->iov[i].iov_len);
    }
    return sum;
}

static void push_iov(struct hf_seglog_batch *b, uint32_t *count, void *base, size_t len)
{
    if (len == 0) {
        return;
    }
    if (*count > 0 && (uint8_t *)b->iov[*count - 1].iov_base + b->iov[*count - 1].iov_len == base) {
        b->iov[*count - 1].iov_len += len;
        return;
    }
    HF_ASSERT(*count < b->iov_cap);
    b->iov[(*count)++] = (struct iovec){.iov_base = base, .iov_len = len};
}

/* The caller's buffers as they are; the last one's tail is zeroed up to a whole page. */
static void push_payload(struct hf_seglog_batch *b, uint32_t *count,
                         const struct hf_seglog_append *op)
{
    for (uint32_t i = 0; i < op->iov_count; i++) {
        size_t len = op->iov[i].iov_len;
        size_t padded = (size_t)hf_segment_pages_up(len);
        uint8_t *base = op->iov[i].iov_base;

        HF_ASSERT((uintptr_t)base % PAGE == 0 && (padded == len || i + 1 == op->iov_count));
        memset(base + len, 0, padded - len);
        push_iov(b, count, base, padded);
    }
}

static uint32_t build(struct hf_seglog_batch *b, const struct hf_segment_key *key)
{
    uint8_t *at = b->arena;
    uint32_t count = 0;

    for (struct hf_seglog_append *op = b->ops; op; op = op->next) {
        uint8_t *copied = op->aligned ? NULL : at + op->header_bytes;
        struct hf_record_header h = {
            .seq = op->seq,
            .synced_seq = HF_BUG(record_vouches_itself) ? op->seq : b->synced_seq,
            .payload_len_bytes = op->payload_len_bytes,
            .meta_len_bytes = op->meta_len_bytes,
            .type = op->type,
            .flags = op->sum_payload ? HF_RECORD_SUMMED : 0,
        };

        if (copied) {
            copy_payload(op, copied);
        }
        if (op->sum_payload) {
            h.payload_sum = sum_payload(key, op, copied);
        }
        hf_record_header_encode(key, op->pos.off_bytes, &h, op->meta, at);
        push_iov(b, &count, at, arena_bytes(op));
        if (!copied) {
            push_payload(b, &count, op);
        }
        at += arena_bytes(op);
    }
    return count;
}

static int write_all(struct hf_seglog_batch *b, struct hf_seglog_segment *target, uint32_t count)
{
    uint64_t off = b->start_off;
    int err = 0;

    for (uint32_t i = 0; !err && i < count; i += IOV_MAX_CALL) {
        uint32_t n = count - i < IOV_MAX_CALL ? count - i : IOV_MAX_CALL;
        uint64_t len = 0;

        for (uint32_t k = 0; k < n; k++) {
            len += b->iov[i + k].iov_len;
        }
        err = hf_file_write_full(target->writer, b->iov + i, (int)n, off);
        off += len;
    }
    HF_ASSERT(err || off == b->end_off);
    if (err || (HF_BUG(ack_before_sync) && b->count == 1) ||
        (HF_BUG(fresh_unsynced) && target == b->fresh) ||
        (HF_BUG(small_unsynced) && target->file_bytes < b->log->options.segment_bytes)) {
        return err;
    }
    err = hf_file_sync(target->writer);
    return err && HF_BUG(sync_retried) ? hf_file_sync(target->writer) : err;
}

void hf_seglog_batch_run(struct hf_job *job)
{
    struct hf_seglog_batch *b = hf_container_of(job, struct hf_seglog_batch, job);
    struct hf_seglog_segment *target = b->target;
    int err;

    b->seal_err = 0;
    b->create_err = 0;
    b->write_err = 0;
    b->fresh = NULL;
    if (b->retire) {
        b->seal_err = hf_segment_seal(b->retire);
    }
    if (!target) {
        b->create_err = hf_segment_create(&b->create, &b->fresh);
        if (b->create_err) {
            return;
        }
        target = b->fresh;
    }
    for (struct hf_seglog_append *op = b->ops; op; op = op->next) {
        op->pos.segment = target->number;
    }
    err = reserve(b);
    b->write_err = err ? err : write_all(b, target, build(b, &target->key));
}
