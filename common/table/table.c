/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/table/base.h"
#include "common/table/memtable.h"
#include "common/table/snapshot.h"

#define FREEZE_BYTES_DEFAULT   ((size_t)32 << 20)
#define MERGE_DELAY_NS_DEFAULT (5 * HF_NS_PER_SEC)
/*
 * Each row dirties about one page of the base when they all lie apart, and one transaction has to
 * hold them all: LMDB lists 128 Ki dirty pages in memory, then starts to write early.
 */
#define FREEZE_ROWS   (96u << 10)
#define ROW_BYTES_AVG 128u /* guess, for the hash index of a layer */

struct checkpoint {
    struct hf_job job;
    bool running;
    bool failed;       /* the last one; its layer is still there */
    uint64_t retry_ns; /* failed: not wanted again before */
    struct hf_table_base_mark mark;
    int err;
    hf_table_done_fn done;
    void *ctx;
};

struct hf_table {
    struct hf_env *env;
    struct hf_table_base *base;
    struct hf_table_options options;
    struct hf_mempool pool;
    struct hf_memtable *active;
    struct hf_memtable *frozen; /* NULL: none. Read-only while a checkpoint runs */
    uint64_t digest;
    uint64_t changed_ns;            /* first change in active */
    uint32_t generation;            /* of the contents, for cursors */
    struct hf_table_base_mark mark; /* of the newest finished checkpoint */
    struct checkpoint checkpoint;
    struct hf_table_export *export; /* NULL: none runs */
    int export_lost; /* a checkpoint failed with this meanwhile: renew the base after the export */
};

/* What a cursor's impl holds. Each layer stands at its first row >= the cursor's key. */
enum layer { LAYER_ACTIVE = 1, LAYER_FROZEN = 2, LAYER_BASE = 4 };

struct position {
    const struct hf_memrow *active;
    const struct hf_memrow *frozen;
    struct hf_table_base_row base;
    uint32_t layers; /* those that stand at exactly the cursor's key */
    uint32_t generation;
};

static_assert(sizeof(struct position) <= sizeof(((struct hf_table_cursor *)0)->impl),
              "a cursor has room for its position");

static struct hf_memtable *layer_new(struct hf_table *table)
{
    return hf_memtable_new(&table->pool, table->options.freeze_bytes / ROW_BYTES_AVG);
}

/* Lifecycle */

int hf_table_open(struct hf_env *env, struct hf_table_base *base,
                  const struct hf_table_options *options, struct hf_table **ret)
{
    struct hf_table *table = calloc(1, sizeof(*table));
    int err = -ENOMEM;

    hf_assert_loop(env);
    if (!table) {
        base->ops->close(base);
        return err;
    }
    table->env = env;
    table->base = base;
    if (options) {
        table->options = *options;
    }
    if (!table->options.freeze_bytes) {
        table->options.freeze_bytes = FREEZE_BYTES_DEFAULT;
    }
    if (!table->options.merge_delay_ns) {
        table->options.merge_delay_ns = MERGE_DELAY_NS_DEFAULT;
    }
    table->active = layer_new(table);
    if (table->active) {
        err = base->ops->mark(base, &table->mark);
    }
    if (err) {
        hf_table_close(table);
        return err;
    }
    table->digest = table->mark.digest;
    *ret = table;
    return 0;
}

void hf_table_close(struct hf_table *table)
{
    if (!table) {
        return;
    }
    HF_ASSERT(!table->checkpoint.running && !table->export);
    hf_memtable_free(table->active);
    hf_memtable_free(table->frozen);
    hf_mempool_fini(&table->pool);
    table->base->ops->close(table->base);
    free(table);
}

int hf_table_mark(struct hf_table *table, uint8_t ret[HF_TABLE_MARK_MAX], size_t *ret_len)
{
    memcpy(ret, table->mark.bytes, table->mark.len);
    *ret_len = table->mark.len;
    return 0;
}

/* Rows */

/* What is found under a key; `row` only when it is in the active layer. */
struct found {
    struct hf_memrow *row;
    const void *value; /* NULL: deleted, or never there */
    size_t value_len;
    uint64_t hash;
    bool below; /* layers below the active one hold it, or may */
};

static int base_find(struct hf_table *table, uint64_t key_hash, const void *key, size_t key_len,
                     struct found *ret)
{
    struct hf_table_base_row row;
    int err = table->base->ops->get(table->base, key, key_len, &row);

    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    if (hf_memrow_hash(key_hash, row.value, row.value_len) != row.hash) {
        return -EBADMSG;
    }
    ret->value = row.value;
    ret->value_len = row.value_len;
    ret->hash = row.hash;
    ret->below = true;
    return 0;
}

static void memory_found(const struct hf_memrow *row, struct found *ret)
{
    if (!row->deleted) {
        ret->value = row->value;
        ret->value_len = row->value_len;
        ret->hash = row->hash;
    }
}

/* Errors: -EBADMSG, -EIO. */
static int find(struct hf_table *table, uint64_t key_hash, const void *key, size_t key_len,
                struct found *ret)
{
    const struct hf_memrow *row;

    *ret = (struct found){0};
    ret->row = hf_memtable_find(table->active, key_hash, key, key_len);
    if (ret->row) {
        memory_found(ret->row, ret);
        return 0;
    }
    row = table->frozen ? hf_memtable_find(table->frozen, key_hash, key, key_len) : NULL;
    if (row) {
        memory_found(row, ret);
        ret->below = HF_BUG(frozen_not_below) ? row->below : !row->deleted;
        return 0;
    }
    return base_find(table, key_hash, key, key_len, ret);
}

int hf_table_get(struct hf_table *table, const void *key, size_t key_len, const void **ret_value,
                 size_t *ret_len)
{
    struct found found;
    int err;

    if (!key_len || key_len > HF_TABLE_KEY_MAX) {
        return -ENOENT;
    }
    err = find(table, hf_memrow_key_hash(key, key_len), key, key_len, &found);
    if (err) {
        return err;
    }
    if (!found.value) {
        return -ENOENT;
    }
    *ret_value = found.value;
    *ret_len = found.value_len;
    return 0;
}

static int change(struct hf_table *table, const struct hf_memchange *wanted)
{
    struct hf_memchange change = *wanted;
    struct hf_memtable *layer = table->active;
    struct found old;
    int err;

    if (!change.key_len || change.key_len > HF_TABLE_KEY_MAX ||
        change.value_len > HF_TABLE_VALUE_MAX) {
        return -EINVAL;
    }
    change.key_hash = hf_memrow_key_hash(change.key, change.key_len);
    err = find(table, change.key_hash, change.key, change.key_len, &old);
    if (err) {
        return -EIO; /* damaged or unreadable: without it the digest would be wrong */
    }
    if (change.deleted && !old.value) {
        return 0;
    }
    change.hash =
        change.deleted ? 0 : hf_memrow_hash(change.key_hash, change.value, change.value_len);
    change.below = old.below;
    if (hf_memtable_count(table->active) == 0) {
        table->changed_ns = hf_env_mono_ns(table->env);
    }
    if (HF_BUG(large_in_place) && change.value_len >= 128 && table->frozen && !old.row) {
        old.row = hf_memtable_find(table->frozen, change.key_hash, change.key, change.key_len);
        layer = old.row ? table->frozen : layer;
    }
    err = hf_memtable_apply(layer, old.row, &change);
    if (err) {
        return err;
    }
    table->digest += change.hash - old.hash;
    table->generation++;
    return 0;
}

int hf_table_put(struct hf_table *table, const void *key, size_t key_len, const void *value,
                 size_t value_len)
{
    const struct hf_memchange wanted = {
        .key = key,
        .key_len = key_len,
        .value = value,
        .value_len = value_len,
    };

    return change(table, &wanted);
}

int hf_table_del(struct hf_table *table, const void *key, size_t key_len)
{
    const struct hf_memchange wanted = {.key = key, .key_len = key_len, .deleted = true};

    return change(table, &wanted);
}

/* Cursors */

static struct position *position_of(struct hf_table_cursor *cursor)
{
    return (struct position *)(void *)cursor->impl;
}

/* The least key any layer stands at becomes the cursor's. -ENOENT: all are at their end. */
static int position_least(struct hf_table_cursor *cursor)
{
    struct position *p = position_of(cursor);
    const struct {
        const void *key;
        size_t len;
    } at[] = {
        {p->active ? p->active->key : NULL, p->active ? p->active->key_len : 0},
        {p->frozen ? p->frozen->key : NULL, p->frozen ? p->frozen->key_len : 0},
        {p->base.key, p->base.key_len},
    };

    p->layers = 0;
    for (uint32_t i = 0; i < HF_ARRAY_LEN(at); i++) {
        int order;

        if (!at[i].key) {
            continue;
        }
        order = p->layers ? hf_memrow_cmp(at[i].key, at[i].len, cursor->key, cursor->key_len) : -1;
        if (order < 0) {
            p->layers = 0;
            cursor->key = at[i].key;
            cursor->key_len = at[i].len;
        }
        if (order <= 0) {
            p->layers |= 1u << i;
        }
    }
    return p->layers ? 0 : -ENOENT;
}

/* Errors: -EIO, -EBADMSG of the base. */
static int position_pass(struct hf_table_cursor *cursor)
{
    struct position *p = position_of(cursor);

    if (p->layers & LAYER_ACTIVE) {
        p->active = p->active->next;
    }
    if (p->layers & LAYER_FROZEN) {
        p->frozen = p->frozen->next;
    }
    if (p->layers & LAYER_BASE) {
        p->layers = LAYER_BASE; /* what a call after an error has left to do */
        return cursor->table->base->ops->next(cursor->table->base, &p->base);
    }
    return 0;
}

/* Stop at the next row that is not deleted. Newest wins. */
static int position_settle(struct hf_table_cursor *cursor)
{
    struct position *p = position_of(cursor);
    int err = position_least(cursor);

    while (!err && (p->layers & (LAYER_ACTIVE | LAYER_FROZEN))) {
        const struct hf_memrow *row = p->layers & LAYER_ACTIVE ? p->active : p->frozen;

        if (!row->deleted) {
            cursor->value = row->value;
            cursor->value_len = row->value_len;
            return 0;
        }
        err = position_pass(cursor);
        if (!err) {
            err = position_least(cursor);
        }
    }
    if (err) {
        return err;
    }
    cursor->value = p->base.value;
    cursor->value_len = p->base.value_len;
    if (hf_memrow_hash(hf_memrow_key_hash(cursor->key, cursor->key_len), cursor->value,
                       cursor->value_len) != p->base.hash) {
        return -EBADMSG;
    }
    return 0;
}

int hf_table_seek(struct hf_table *table, const void *key, size_t key_len,
                  struct hf_table_cursor *ret)
{
    struct position *p = position_of(ret);
    int err;

    *ret = (struct hf_table_cursor){.table = table};
    p->generation = table->generation;
    err = table->base->ops->seek(table->base, key, key_len, &p->base);
    if (err) {
        return err;
    }
    p->active = hf_memtable_seek(table->active, key, key_len);
    p->frozen = table->frozen ? hf_memtable_seek(table->frozen, key, key_len) : NULL;
    return position_settle(ret);
}

int hf_table_next(struct hf_table_cursor *cursor)
{
    int err;

    HF_ASSERT(position_of(cursor)->generation == cursor->table->generation);
    err = position_pass(cursor);
    return err ? err : position_settle(cursor);
}

/* State */

uint64_t hf_table_digest(const struct hf_table *table)
{
    return table->digest;
}

int hf_table_rescan(struct hf_table *table)
{
    struct hf_table_cursor cursor;
    uint64_t digest = 0;
    int err;

    for (err = hf_table_seek(table, NULL, 0, &cursor); !err; err = hf_table_next(&cursor)) {
        digest += hf_memrow_hash(hf_memrow_key_hash(cursor.key, cursor.key_len), cursor.value,
                                 cursor.value_len);
    }
    if (err != -ENOENT) {
        return err;
    }
    return digest == table->digest ? 0 : -EBADMSG;
}

size_t hf_table_memory_bytes(const struct hf_table *table)
{
    return hf_memtable_bytes(table->active) +
           (table->frozen ? hf_memtable_bytes(table->frozen) : 0);
}

bool hf_table_dirty(const struct hf_table *table)
{
    return hf_memtable_count(table->active) > 0;
}

bool hf_table_wants_checkpoint(const struct hf_table *table)
{
    const struct checkpoint *cp = &table->checkpoint;

    if (cp->running) {
        return false;
    }
    if (cp->failed) {
        return hf_env_mono_ns(table->env) >= cp->retry_ns;
    }
    if (!hf_table_dirty(table)) {
        return false;
    }
    return hf_memtable_bytes(table->active) >= table->options.freeze_bytes ||
           hf_memtable_count(table->active) >= FREEZE_ROWS ||
           hf_env_mono_ns(table->env) - table->changed_ns >= table->options.merge_delay_ns;
}

bool hf_table_checkpoint_running(const struct hf_table *table)
{
    return table->checkpoint.running;
}

/* Checkpoints */

static void checkpoint_run(struct hf_job *job)
{
    struct checkpoint *cp = hf_container_of(job, struct checkpoint, job);
    struct hf_table *table = hf_container_of(cp, struct hf_table, checkpoint);

    hf_assert_worker(table->env);
    if (!cp->err) {
        cp->err = table->base->ops->merge(table->base, table->frozen, &cp->mark);
    }
}

static void checkpoint_done(struct hf_job *job)
{
    struct checkpoint *cp = hf_container_of(job, struct checkpoint, job);
    struct hf_table *table = hf_container_of(cp, struct hf_table, checkpoint);

    if (cp->err && table->export) {
        /* The base reads on as before that checkpoint, whose layer stays. */
        table->export_lost = cp->err;
        atomic_store(&table->export->stop, true);
    } else {
        table->base->ops->renew(table->base);
    }
    table->generation++;
    cp->running = false;
    cp->failed = cp->err != 0;
    if (cp->err) {
        cp->retry_ns = hf_env_mono_ns(table->env) + table->options.merge_delay_ns;
    } else {
        table->mark = cp->mark;
        hf_mempool_trim(&table->pool);
        hf_memtable_free(table->frozen);
        table->frozen = NULL;
    }
    cp->done(cp->ctx, cp->err);
}

/*
 * A layer whose merge failed may be in the base or not: it stays, newer rows go over it, and
 * their tombstones reach the base even for rows that no merge is known to have put there.
 */
static int freeze(struct hf_table *table)
{
    struct hf_memtable *fresh = layer_new(table);
    int err = fresh ? 0 : -ENOMEM;

    if (!err && table->frozen && HF_BUG(failed_layer_dropped)) {
        hf_memtable_free(table->frozen);
        table->frozen = NULL;
    }
    if (!err && table->frozen) {
        err = hf_memtable_absorb(table->frozen, table->active);
    }
    if (err) {
        hf_memtable_free(fresh);
        return err;
    }
    if (table->frozen) {
        hf_memtable_free(table->active);
    } else {
        table->frozen = table->active;
    }
    table->active = fresh;
    return 0;
}

void hf_table_checkpoint(struct hf_table *table, const void *mark, size_t mark_len,
                         hf_table_done_fn done, void *ctx)
{
    struct checkpoint *cp = &table->checkpoint;

    hf_assert_loop(table->env);
    HF_ASSERT(!cp->running && mark_len <= HF_TABLE_MARK_MAX);
    cp->running = true;
    cp->done = done;
    cp->ctx = ctx;
    cp->mark = (struct hf_table_base_mark){.len = mark_len, .digest = table->digest};
    if (mark_len) {
        memcpy(cp->mark.bytes, mark, mark_len);
    }
    cp->err = freeze(table);
    if (!cp->err && table->export_lost) {
        cp->err = -EIO; /* the base is not fit to be merged into before it was renewed */
    }
    table->generation++;
    cp->job = (struct hf_job){.run = checkpoint_run, .done = checkpoint_done};
    hf_env_submit(table->env, HF_POOL_TABLE, &cp->job);
}

/* Exports */

static void export_run(struct hf_job *job)
{
    struct hf_table_export *op = hf_container_of(job, struct hf_table_export, job);
    struct hf_table *table = op->table;

    hf_assert_worker(table->env);
    op->err = table->base->ops->export(table->base, table->env, op->path, &op->stop, &op->snapshot);
}

static void export_done(struct hf_job *job)
{
    struct hf_table_export *op = hf_container_of(job, struct hf_table_export, job);
    struct hf_table *table = op->table;

    table->export = NULL;
    if (table->export_lost) {
        if (op->err == -ECANCELED) {
            op->err = table->export_lost;
        }
        table->export_lost = 0;
        table->base->ops->renew(table->base);
        table->generation++;
    }
    op->done(op->ctx, op->err);
}

void hf_table_export(struct hf_table *table, struct hf_table_export *op)
{
    hf_assert_loop(table->env);
    HF_ASSERT(!table->export && op->path[0] == '/');
    table->export = op;
    op->table = table;
    op->job = (struct hf_job){.run = export_run, .done = export_done};
    hf_env_submit(table->env, HF_POOL_TABLE, &op->job);
}

bool hf_table_export_running(const struct hf_table *table)
{
    return table->export != NULL;
}

void hf_table_check_invariants(const struct hf_table *table)
{
    const struct checkpoint *cp = &table->checkpoint;

    HF_ASSERT(table->active);
    HF_ASSERT(!cp->running || cp->err == -ENOMEM || table->frozen);
    HF_ASSERT(cp->running || cp->failed || !table->frozen);
    HF_ASSERT(!table->export_lost || (table->export && cp->failed));
    HF_ASSERT(table->mark.len <= HF_TABLE_MARK_MAX);
    HF_ASSERT(hf_memtable_tombstones(table->active) <= hf_memtable_count(table->active));
}

void hf_table_check_rows(const struct hf_table *table)
{
    hf_memtable_check_invariants(table->active);
    if (table->frozen) {
        hf_memtable_check_invariants(table->frozen);
    }
}
