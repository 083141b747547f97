/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - re-reading one object past the page cache, and setting bad copies aside.
 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/log/log.h"

struct check_wait {
    struct hf_task task;
    struct hf_store *store;
    int err;
};

static_assert(sizeof(struct check_wait) <= sizeof(((struct hf_store_check *)0)->impl), "fits");

struct check_op {
    struct hf_job job;
    struct hf_store *store;
    struct hf_store_check *check;
    struct hf_seglog_segment *segment;
    struct hf_store_row row;
    struct hf_buf *buf;
    int err;
    bool unopened; /* no descriptor, no verdict */
};

int hf_store_verify_copy(const struct hf_seglog_segment *segment, const struct hf_oid *oid,
                         const struct hf_store_row *row, const uint8_t *buf, uint64_t *sums)
{
    struct hf_seglog_record record;
    struct hf_store_object object;
    size_t need;
    int err =
        hf_seglog_segment_decode(segment, row->off_bytes, buf, row->header_bytes, &record, &need);

    if (!err) {
        err = hf_store_object_decode(record.meta, record.meta_have_bytes, record.meta_len_bytes,
                                     record.payload_len_bytes, &object, sums);
    }
    if (err || !hf_oid_equal(&object.oid, oid) || object.len_bytes != row->len_bytes ||
        object.sum_count == 0 ||
        hf_checksum_digest(object.len_bytes, sums, object.sum_count) != row->digest ||
        hf_checksum_verify(oid, 0, buf + row->header_bytes, object.len_bytes, sums) >= 0) {
        return -HF_ECHECKSUM;
    }
    return 0;
}

void hf_store_quarantine(struct hf_store *store, const struct hf_oid *oid,
                         const struct hf_store_row *row, int err)
{
    struct hf_store_row now;
    struct hf_store_note note = {.oid = *oid,
                                 .kind = HF_STORE_NOTE_QUARANTINED,
                                 .segment = row->segment,
                                 .off_bytes = row->off_bytes};
    char text[HF_OID_STR_MAX];

    if (hf_store_row_get(store, oid, &now) != 0 || now.kind != HF_STORE_ROW_OBJECT ||
        now.segment != row->segment || now.off_bytes != row->off_bytes ||
        (now.flags & HF_STORE_ROW_QUARANTINED)) {
        return;
    }
    hf_log(HF_LOG_WARN, "store", "quarantined",
           "oid=%s segment=%llu offset=%llu err=\"%s\" next=\"repair copies it from another node\"",
           hf_oid_str(oid, text), (unsigned long long)row->segment,
           (unsigned long long)row->off_bytes, hf_err_text(err));
    now.flags |= HF_STORE_ROW_QUARANTINED;
    if (hf_store_row_put(store, oid, &now) != 0) {
        return; /* said so already */
    }
    hf_store_wake(store);
    if (!HF_BUG(quarantine_not_logged)) {
        hf_store_note(store, &note);
    }
    if (store->options.on_bad_object) {
        store->options.on_bad_object(store->options.ctx, oid, err);
    }
}

static void answer_run(struct hf_task *task)
{
    struct check_wait *wait = hf_container_of(task, struct check_wait, task);
    struct hf_store_check *check =
        (struct hf_store_check *)(void *)((char *)wait - offsetof(struct hf_store_check, impl));

    wait->store->users--;
    check->done(check->ctx, wait->err);
}

static void answer(struct hf_store *store, struct hf_store_check *check, int err)
{
    struct check_wait *wait = (struct check_wait *)(void *)check->impl;

    *wait = (struct check_wait){.task = {.fn = answer_run}, .store = store, .err = err};
    store->users++;
    hf_env_post(store->env, &wait->task);
}

static void check_run(struct hf_job *job)
{
    struct check_op *op = hf_container_of(job, struct check_op, job);
    size_t len = (size_t)hf_store_record_bytes(&op->row);
    uint64_t *sums = malloc(HF_OBJECT_BLOCKS_MAX * sizeof(*sums));
    struct hf_file *file = NULL;

    op->err = sums ? hf_seglog_segment_open_direct(op->segment, &file) : -ENOMEM;
    op->unopened = op->err != 0;
    if (!op->err) {
        op->err = hf_file_read_full(file, op->buf->data, len, op->row.off_bytes, NULL);
    }
    if (!op->err) {
        op->err = hf_store_verify_copy(op->segment, &op->check->oid, &op->row, op->buf->data, sums);
    }
    hf_file_close(file);
    free(sums);
}

static void check_done(struct hf_job *job)
{
    struct check_op *op = hf_container_of(job, struct check_op, job);
    struct hf_store *store = op->store;
    struct hf_store_check *check = op->check;
    int err = op->err;

    hf_seglog_segment_unref(store->log, op->segment);
    hf_buf_unref(op->buf);
    if (err && !op->unopened) {
        hf_store_quarantine(store, &check->oid, &op->row, err);
    }
    free(op);
    store->users--;
    check->done(check->ctx, err);
}

void hf_store_check(struct hf_store *store, struct hf_store_check *check)
{
    struct hf_store_row row;
    struct check_op *op;
    int err = hf_store_row_get(store, &check->oid, &row);

    hf_assert_loop(store->env);
    if (err || row.kind == HF_STORE_ROW_TOMBSTONE) {
        answer(store, check, err && err != -ENOENT ? -EIO : -HF_ENOOBJECT);
        return;
    }
    check->len_bytes = row.len_bytes;
    check->digest = row.digest;
    if (row.flags & HF_STORE_ROW_QUARANTINED) {
        answer(store, check, -HF_EQUARANTINED);
        return;
    }
    op = calloc(1, sizeof(*op));
    if (!op) {
        answer(store, check, -ENOMEM);
        return;
    }
    *op = (struct check_op){.store = store, .check = check, .row = row};
    op->segment = hf_seglog_segment_ref(store->log, row.segment);
    op->buf =
        op->segment ? hf_buf_get(store->options.pool, (size_t)hf_store_record_bytes(&row)) : NULL;
    if (!op->buf) {
        err = op->segment ? -ENOMEM : -EIO;
        if (op->segment) {
            hf_seglog_segment_unref(store->log, op->segment);
        } else {
            hf_store_quarantine(store, &check->oid, &row, err);
        }
        free(op);
        answer(store, check, err);
        return;
    }
    store->users++;
    op->job = (struct hf_job){.run = check_run, .done = check_done};
    hf_env_submit(store->env, HF_POOL_DISK, &op->job);
}
