/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/table_model.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/table/base.h"
#include "common/table/model_snapshot.h"
#include "common/table/snapshot.h"

#define TOMBSTONES_MIN 1024u /* fewer are not worth a rebuild */

/* A finished merge that the loop has not seen yet. Durable: it outlives the table. */
struct merged {
    struct merged *next;
    struct hf_memtable *rows;
    struct hf_table_base_mark mark;
};

struct hf_table_model {
    struct hf_memtable *rows; /* what reads see; changed by the loop thread, under the lock */
    struct hf_table_base_mark mark;
    bool marked;          /* there was a merge */
    pthread_mutex_t lock; /* of the rest; an export reads the above under it */
    struct merged *oldest;
    struct merged **newest;
    int fail_err;
    bool crash_next;
    bool crash_persisted;
    uint64_t failed;
    uint32_t unreadable_one_in; /* rows; 0: none */
    uint64_t reads, unread;
};

struct model_base {
    struct hf_table_base base;
    struct hf_table_model *model;
};

static struct hf_table_model *model_of(struct hf_table_base *base)
{
    return hf_container_of(base, struct model_base, base)->model;
}

/* Errors: -ENOMEM. */
static int copy_row(struct hf_memtable *to, const struct hf_memrow *row)
{
    const struct hf_memchange change = {
        .key = row->key,
        .key_len = row->key_len,
        .key_hash = row->key_hash,
        .value = row->value,
        .value_len = row->value_len,
        .hash = row->hash,
        .deleted = row->deleted,
    };

    return hf_memtable_apply(to, NULL, &change);
}

static void drop_tombstones(struct hf_table_model *model)
{
    struct hf_memtable *rows = hf_memtable_new(NULL, 0);

    HF_ASSERT_MEMORY(rows);
    for (struct hf_memrow *row = hf_memtable_seek(model->rows, NULL, 0); row; row = row->next) {
        HF_ASSERT_MEMORY(row->deleted || copy_row(rows, row) == 0);
    }
    hf_memtable_free(model->rows);
    model->rows = rows;
}

static void merged_free(struct merged *merged)
{
    if (merged) {
        hf_memtable_free(merged->rows);
        free(merged);
    }
}

/* Memory that runs out in a test ends the test. */
static void show_merged(struct hf_table_model *model)
{
    struct merged *merged;
    size_t tombstones;

    pthread_mutex_lock(&model->lock);
    merged = model->oldest;
    model->oldest = NULL;
    model->newest = &model->oldest;

    while (merged) {
        struct merged *next = merged->next;

        HF_ASSERT_MEMORY(hf_memtable_absorb(model->rows, merged->rows) == 0);
        model->mark = merged->mark;
        model->marked = true;
        merged_free(merged);
        merged = next;
    }
    tombstones = hf_memtable_tombstones(model->rows);
    if (tombstones >= TOMBSTONES_MIN && tombstones > hf_memtable_count(model->rows) / 2) {
        drop_tombstones(model);
    }
    pthread_mutex_unlock(&model->lock);
}

static void row_out(const struct hf_memrow *row, struct hf_table_base_row *ret)
{
    while (row && row->deleted) {
        row = row->next;
    }
    *ret = (struct hf_table_base_row){0};
    if (row) {
        ret->key = row->key;
        ret->key_len = row->key_len;
        ret->value = row->value;
        ret->value_len = row->value_len;
        ret->hash = row->hash;
        ret->cookie = (uint64_t)(uintptr_t)row;
    }
}

/* Is this the one that cannot be read? */
static bool is_unreadable(struct hf_table_model *model)
{
    if (!model->unreadable_one_in || ++model->reads % model->unreadable_one_in) {
        return false;
    }
    model->unread++;
    return true;
}

static int model_get(struct hf_table_base *base, const void *key, size_t key_len,
                     struct hf_table_base_row *ret)
{
    const struct hf_memrow *row =
        hf_memtable_find(model_of(base)->rows, hf_memrow_key_hash(key, key_len), key, key_len);

    if (is_unreadable(model_of(base))) {
        return -EIO;
    }
    if (!row || row->deleted) {
        return -ENOENT;
    }
    row_out(row, ret);
    return 0;
}

static int model_seek(struct hf_table_base *base, const void *key, size_t key_len,
                      struct hf_table_base_row *ret)
{
    if (is_unreadable(model_of(base))) {
        return -EIO;
    }
    row_out(hf_memtable_seek(model_of(base)->rows, key, key_len), ret);
    return 0;
}

static int model_next(struct hf_table_base *base, struct hf_table_base_row *row)
{
    const struct hf_memrow *at = (const struct hf_memrow *)(uintptr_t)row->cookie;

    if (is_unreadable(model_of(base))) {
        return -EIO;
    }
    row_out(at->next, row);
    return 0;
}

static int model_mark(struct hf_table_base *base, struct hf_table_base_mark *ret)
{
    *ret = model_of(base)->mark;
    return 0;
}

static int merged_new(const struct hf_memtable *rows, const struct hf_table_base_mark *mark,
                      struct merged **ret)
{
    struct merged *merged = calloc(1, sizeof(*merged));
    int err;

    if (!merged) {
        return -ENOMEM;
    }
    merged->mark = *mark;
    merged->rows = hf_memtable_new(NULL, hf_memtable_count(rows));
    err = merged->rows ? 0 : -ENOMEM;
    for (struct hf_memrow *row = hf_memtable_seek(rows, NULL, 0); row && !err; row = row->next) {
        if (hf_table_base_wants(row)) {
            err = copy_row(merged->rows, row);
        }
    }
    if (err) {
        merged_free(merged);
        return err;
    }
    *ret = merged;
    return 0;
}

static int model_merge(struct hf_table_base *base, const struct hf_memtable *rows,
                       const struct hf_table_base_mark *mark)
{
    struct hf_table_model *model = model_of(base);
    struct merged *merged = NULL;
    int err = merged_new(rows, mark, &merged);
    bool keep = !err;

    pthread_mutex_lock(&model->lock);
    if (!err && model->fail_err) {
        err = model->fail_err;
        keep = false;
        model->failed++;
    } else if (!err && model->crash_next) {
        err = -EIO;
        keep = model->crash_persisted;
        model->crash_next = false;
        model->failed++;
    }
    if (keep) {
        *model->newest = merged;
        model->newest = &merged->next;
    }
    pthread_mutex_unlock(&model->lock);

    if (!keep) {
        merged_free(merged);
    }
    return err;
}

static void model_renew(struct hf_table_base *base)
{
    show_merged(model_of(base));
}

/* Snapshots */

static int write_body(void *ctx, struct hf_file *file, const char *path, const atomic_bool *stop,
                      struct hf_table_snapshot *ret)
{
    struct hf_table_model *model = ctx;
    uint8_t *body = NULL;
    struct iovec iov = {0};
    int err = -ENOENT;

    (void)path;
    pthread_mutex_lock(&model->lock);
    if (model->marked) {
        err = hf_model_body_encode(model->rows, &model->mark, stop, ret, &body, &iov.iov_len);
    }
    pthread_mutex_unlock(&model->lock);
    if (!err) {
        iov.iov_base = body;
        err = hf_file_write_full(file, &iov, 1, 0);
    }
    free(body);
    return err;
}

static int model_export(struct hf_table_base *base, struct hf_env *env, const char *path,
                        const atomic_bool *stop, struct hf_table_snapshot *ret)
{
    const struct hf_snapshot_source source = {
        .kind = HF_SNAPSHOT_MODEL, .write_body = write_body, .ctx = model_of(base)};

    return hf_snapshot_write(env, path, &source, stop, ret);
}

static void install(struct hf_table_model *model, struct hf_memtable *rows,
                    const struct hf_table_snapshot *snapshot)
{
    show_merged(model); /* and what it showed goes with the rest */
    pthread_mutex_lock(&model->lock);
    hf_memtable_free(model->rows);
    model->rows = rows;
    model->mark =
        (struct hf_table_base_mark){.len = snapshot->mark_len, .digest = snapshot->digest};
    memcpy(model->mark.bytes, snapshot->mark, snapshot->mark_len);
    model->marked = true;
    pthread_mutex_unlock(&model->lock);
}

int hf_table_install_model(struct hf_env *env, const char *file_path, struct hf_table_model *model)
{
    struct hf_disk *disk = hf_env_disk(env);
    atomic_bool never = false;
    struct hf_table_snapshot snapshot;
    struct hf_snapshot_tail tail;
    struct hf_memtable *rows;
    struct hf_file *file;
    int err;

    hf_assert_worker(env);
    err = hf_disk_open(disk, file_path, HF_FILE_READ_ONLY, &file);
    if (err) {
        return err;
    }
    rows = hf_memtable_new(NULL, 0);
    err = rows ? hf_snapshot_read_tail(file, &tail) : -ENOMEM;
    if (!err && tail.kind != HF_SNAPSHOT_MODEL) {
        err = -EBADMSG;
    }
    if (!err) {
        err = hf_model_snapshot_scan(file, tail.body_bytes, &never, &snapshot, rows);
    }
    hf_file_close(file);
    if (err) {
        hf_memtable_free(rows);
        return err;
    }
    install(model, rows, &snapshot);
    (void)hf_disk_unlink(disk, file_path); /* installing it again would change nothing */
    return 0;
}

static void model_close(struct hf_table_base *base)
{
    free(hf_container_of(base, struct model_base, base));
}

static const struct hf_table_base_ops model_ops = {
    .get = model_get,
    .seek = model_seek,
    .next = model_next,
    .mark = model_mark,
    .merge = model_merge,
    .renew = model_renew,
    .export = model_export,
    .close = model_close,
};

struct hf_table_model *hf_table_model_new(void)
{
    struct hf_table_model *model = calloc(1, sizeof(*model));

    if (!model) {
        return NULL;
    }
    model->rows = hf_memtable_new(NULL, 0);
    if (!model->rows) {
        free(model);
        return NULL;
    }
    model->newest = &model->oldest;
    pthread_mutex_init(&model->lock, NULL);
    return model;
}

void hf_table_model_free(struct hf_table_model *model)
{
    if (!model) {
        return;
    }
    show_merged(model);
    hf_memtable_free(model->rows);
    pthread_mutex_destroy(&model->lock);
    free(model);
}

int hf_table_base_model(struct hf_table_model *model, struct hf_table_base **ret)
{
    struct model_base *base = calloc(1, sizeof(*base));

    if (!base) {
        return -ENOMEM;
    }
    base->base.ops = &model_ops;
    base->model = model;
    show_merged(model);
    *ret = &base->base;
    return 0;
}

void hf_table_model_fail_merges(struct hf_table_model *model, int err)
{
    pthread_mutex_lock(&model->lock);
    model->fail_err = err;
    pthread_mutex_unlock(&model->lock);
}

void hf_table_model_crash_next_merge(struct hf_table_model *model, bool persisted)
{
    pthread_mutex_lock(&model->lock);
    model->crash_next = true;
    model->crash_persisted = persisted;
    pthread_mutex_unlock(&model->lock);
}

uint64_t hf_table_model_failed(struct hf_table_model *model)
{
    uint64_t failed;

    pthread_mutex_lock(&model->lock);
    failed = model->failed;
    pthread_mutex_unlock(&model->lock);
    return failed;
}

void hf_table_model_fail_reads(struct hf_table_model *model, uint32_t one_in)
{
    model->unreadable_one_in = one_in;
}

uint64_t hf_table_model_unread(const struct hf_table_model *model)
{
    return model->unread;
}

int hf_table_model_rot(struct hf_table_model *model, const void *key, size_t key_len)
{
    struct hf_memrow *row =
        hf_memtable_find(model->rows, hf_memrow_key_hash(key, key_len), key, key_len);

    if (!row || row->deleted) {
        return -ENOENT;
    }
    pthread_mutex_lock(&model->lock);
    if (row->value_len) {
        row->value[row->value_len / 2] ^= 0x10;
    } else {
        row->hash ^= 0x10;
    }
    pthread_mutex_unlock(&model->lock);
    return 0;
}
