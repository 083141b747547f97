/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/snapshot.h"

#include <errno.h>

#include "common/base/assert.h"
#include "common/table/lmdb_snapshot.h"
#include "common/table/model_snapshot.h"
#include "common/table/snapshot_file.h"

/* Errors: -EBADMSG, -EIO, -ECANCELED, -ENOMEM. */
static int verify_file(struct hf_table_verify *op, struct hf_file *file,
                       struct hf_table_snapshot *ret)
{
    struct hf_snapshot_tail tail;
    int err = hf_snapshot_read_tail(file, &tail);

    if (!err) {
        err = hf_snapshot_check_body(file, &tail, &op->stop);
    }
    if (err) {
        return err;
    }
    switch (tail.kind) {
    case HF_SNAPSHOT_LMDB:
        err = hf_lmdb_snapshot_scan(op->env, op->path, tail.body_bytes, &op->stop, ret);
        break;
    case HF_SNAPSHOT_MODEL:
        err = hf_model_snapshot_scan(file, tail.body_bytes, &op->stop, ret, NULL);
        break;
    }
    if (!err && (ret->rows != tail.rows || ret->digest != tail.digest)) {
        err = -EBADMSG;
    }
    ret->file_bytes = tail.body_bytes + HF_SNAPSHOT_TAIL_BYTES;
    return err;
}

static void verify_run(struct hf_job *job)
{
    struct hf_table_verify *op = hf_container_of(job, struct hf_table_verify, job);
    struct hf_table_snapshot snapshot;
    struct hf_file *file;

    hf_assert_worker(op->env);
    op->err = hf_disk_open(hf_env_disk(op->env), op->path, HF_FILE_READ_ONLY, &file);
    if (op->err) {
        return;
    }
    op->err = verify_file(op, file, &snapshot);
    hf_file_close(file);
    if (!op->err) {
        op->snapshot = snapshot;
    }
}

static void verify_done(struct hf_job *job)
{
    struct hf_table_verify *op = hf_container_of(job, struct hf_table_verify, job);

    op->done(op->ctx, op->err);
}

void hf_table_verify(struct hf_env *env, struct hf_table_verify *op)
{
    hf_assert_loop(env);
    op->env = env;
    op->err = 0;
    op->job = (struct hf_job){.run = verify_run, .done = verify_done};
    hf_env_submit(env, HF_POOL_TABLE, &op->job);
}
