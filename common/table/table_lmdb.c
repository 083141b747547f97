/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/table/base.h"
#include "common/table/lmdb_file.h"
#include "common/table/lmdb_snapshot.h"
#include "common/table/table_format.h"

#define CURSORS  8u
#define ROW_HEAD sizeof(struct hf_table_row_disk)

/* Rows know no "close", so the cursors are few, taken in turn, and found again by key. */
struct slot {
    MDB_cursor *cursor;
    uint64_t cookie; /* whose position it is; 0: nobody's */
};

struct lmdb_base {
    struct hf_table_base base;
    struct hf_env *env;
    char *path;
    MDB_env *mdb; /* NULL: could not be reopened */
    MDB_dbi dbi;
    MDB_txn *reader; /* loop thread; renewed after each merge, so that it pins no pages for long */
    bool reader_live;
    bool suspect; /* a commit failed half-way: close and reopen. The merge sets, the loop clears. */
    struct slot slots[CURSORS];
    uint64_t cookie_last;
};

static struct lmdb_base *lmdb_of(struct hf_table_base *base)
{
    return hf_container_of(base, struct lmdb_base, base);
}

/* Making a new one */

/* 0: there is one; 1: none, or an empty one; or -errno. */
static int lacks_file(struct lmdb_base *lb, const char *file_path)
{
    struct hf_file *file;
    uint64_t bytes = 0;
    int err = hf_disk_open(hf_env_disk(lb->env), file_path, HF_FILE_READ_ONLY, &file);

    if (err) {
        return err == -ENOENT ? 1 : err;
    }
    err = hf_file_size(file, &bytes);
    hf_file_close(file);
    return err ? err : bytes == 0;
}

static int sync_file(struct hf_disk *disk, const char *path)
{
    struct hf_file *file;
    int err = hf_disk_open(disk, path, 0, &file);

    if (!err) {
        err = hf_file_sync(file);
        hf_file_close(file);
    }
    return err;
}

static int make_file(struct lmdb_base *lb, const char *new_path, const char *file_path)
{
    struct hf_disk *disk = hf_env_disk(lb->env);
    int err = hf_disk_unlink(disk, new_path); /* left by a crash, in whatever state */
    MDB_env *mdb;

    if (err && err != -ENOENT) {
        return err;
    }
    err = hf_lmdb_open(new_path, MDB_NOSUBDIR | MDB_NOLOCK, HF_LMDB_MAP_MAX, &mdb);
    if (err) {
        return err;
    }
    mdb_env_close(mdb);
    err = sync_file(disk, new_path);
    return err ? err : hf_disk_rename(disk, new_path, file_path);
}

/*
 * LMDB does not sync the first pages of a file that it makes: until the first commit, a power cut
 * could leave the name and damaged pages. So the file gets its name when it is synced; that name is
 * synced when it is opened.
 */
static int make_base(struct lmdb_base *lb)
{
    char *file = NULL;
    char *new = NULL;
    int err = -ENOMEM;

    if (asprintf(&file, "%s/data.mdb", lb->path) < 0) {
        return err;
    }
    if (asprintf(&new, "%s/data.mdb.new", lb->path) >= 0) {
        err = lacks_file(lb, file);
        if (err > 0) {
            err = make_file(lb, new, file);
        }
        free(new);
    }
    free(file);
    return err;
}

/* Opening */

static void close_mdb(struct lmdb_base *lb)
{
    for (size_t i = 0; i < CURSORS; i++) {
        if (lb->slots[i].cursor) {
            mdb_cursor_close(lb->slots[i].cursor);
        }
        lb->slots[i] = (struct slot){0};
    }
    if (lb->reader) {
        mdb_txn_abort(lb->reader);
        lb->reader = NULL;
        lb->reader_live = false;
    }
    if (lb->mdb) {
        mdb_env_close(lb->mdb);
        lb->mdb = NULL;
    }
}

static int check_size(struct lmdb_base *lb)
{
    char *file = NULL;
    int err = -ENOMEM;

    if (asprintf(&file, "%s/data.mdb", lb->path) >= 0) {
        err = hf_lmdb_check_size(lb->env, lb->mdb, file);
        free(file);
    }
    return err;
}

static int open_base(struct lmdb_base *lb)
{
    int err = hf_lmdb_open(lb->path, MDB_NORDAHEAD, HF_LMDB_MAP_MAX, &lb->mdb);
    int dead = 0;

    if (err) {
        lb->mdb = NULL;
        return err;
    }
    (void)mdb_reader_check(lb->mdb, &dead); /* a slot left behind only keeps pages from reuse */
    err = check_size(lb);
    if (!err) {
        /* LMDB syncs its files, not the directory that names them. */
        err = hf_disk_sync_dir(hf_env_disk(lb->env), lb->path);
    }
    if (!err) {
        err = hf_lmdb_err(mdb_txn_begin(lb->mdb, NULL, MDB_RDONLY, &lb->reader));
    }
    if (!err) {
        lb->reader_live = true;
        err = hf_lmdb_err(mdb_dbi_open(lb->reader, NULL, 0, &lb->dbi));
    }
    if (err) {
        close_mdb(lb);
    }
    return err;
}

/* Reading */

static int reader_ready(struct lmdb_base *lb)
{
    if (lb->reader_live) {
        return 0;
    }
    if (!lb->mdb || mdb_txn_renew(lb->reader)) {
        return -EIO;
    }
    lb->reader_live = true;
    for (size_t i = 0; i < CURSORS; i++) {
        struct slot *slot = &lb->slots[i];

        slot->cookie = 0;
        if (slot->cursor && mdb_cursor_renew(lb->reader, slot->cursor)) {
            mdb_cursor_close(slot->cursor);
            slot->cursor = NULL;
        }
    }
    return 0;
}

static int lmdb_get(struct hf_table_base *base, const void *key, size_t key_len,
                    struct hf_table_base_row *ret)
{
    struct lmdb_base *lb = lmdb_of(base);
    MDB_val k = {.mv_size = key_len, .mv_data = (void *)(uintptr_t)key};
    MDB_val v;
    int err = reader_ready(lb);

    if (!err) {
        err = hf_lmdb_err(mdb_get(lb->reader, lb->dbi, &k, &v));
    }
    return err ? err : hf_lmdb_row_decode(&v, ret);
}

static int slot_move(struct slot *slot, MDB_val *k, MDB_cursor_op op, struct hf_table_base_row *row)
{
    MDB_val v;
    int rc = mdb_cursor_get(slot->cursor, k, &v, op);

    if (rc == MDB_NOTFOUND || (rc == 0 && k->mv_size > HF_TABLE_KEY_MAX)) {
        *row = (struct hf_table_base_row){0};
        return 0;
    }
    if (rc) {
        return hf_lmdb_err(rc);
    }
    row->key = k->mv_data;
    row->key_len = (uint32_t)k->mv_size;
    row->cookie = slot->cookie;
    return hf_lmdb_row_decode(&v, row);
}

static int slot_take(struct lmdb_base *lb, struct slot **ret)
{
    uint64_t cookie = ++lb->cookie_last;
    struct slot *slot = &lb->slots[cookie % CURSORS];
    int err = reader_ready(lb);

    if (!err && !slot->cursor) {
        err = hf_lmdb_err(mdb_cursor_open(lb->reader, lb->dbi, &slot->cursor));
    }
    if (err) {
        return err;
    }
    slot->cookie = cookie;
    *ret = slot;
    return 0;
}

static int lmdb_seek(struct hf_table_base *base, const void *key, size_t key_len,
                     struct hf_table_base_row *ret)
{
    struct lmdb_base *lb = lmdb_of(base);
    MDB_val k = {.mv_size = key_len, .mv_data = (void *)(uintptr_t)key};
    struct slot *slot;
    int err = slot_take(lb, &slot);

    return err ? err : slot_move(slot, &k, key_len ? MDB_SET_RANGE : MDB_FIRST, ret);
}

static int lmdb_next(struct hf_table_base *base, struct hf_table_base_row *row)
{
    struct lmdb_base *lb = lmdb_of(base);
    struct slot *slot = &lb->slots[row->cookie % CURSORS];
    MDB_val k = {.mv_size = row->key_len, .mv_data = (void *)(uintptr_t)row->key};
    int err;

    if (slot->cookie != row->cookie) {
        MDB_val v;

        err = slot_take(lb, &slot);
        if (!err) {
            err = hf_lmdb_err(mdb_cursor_get(slot->cursor, &k, &v, MDB_SET));
        }
        if (err) {
            return err == -ENOENT ? -EBADMSG : err; /* it was there a moment ago */
        }
    }
    return slot_move(slot, &k, MDB_NEXT, row);
}

/* The mark */

static int lmdb_mark(struct hf_table_base *base, struct hf_table_base_mark *ret)
{
    struct lmdb_base *lb = lmdb_of(base);
    uint8_t buf[HF_TABLE_MARK_KEY_BYTES];
    MDB_val k, v;
    int err = reader_ready(lb);

    hf_lmdb_mark_key(buf, &k);
    if (!err) {
        err = hf_lmdb_err(mdb_get(lb->reader, lb->dbi, &k, &v));
    }
    if (err == -ENOENT) {
        MDB_stat stat;

        /* The first merge writes the mark with its rows: rows alone were not written by us. */
        if (mdb_stat(lb->reader, lb->dbi, &stat) || stat.ms_entries) {
            return -EBADMSG;
        }
        *ret = (struct hf_table_base_mark){0};
        return 0;
    }
    return err ? err : hf_lmdb_mark_decode(&v, ret);
}

/* Merging */

static int merge_row(MDB_txn *txn, MDB_dbi dbi, MDB_cursor *cursor, const struct hf_memrow *row)
{
    MDB_val k = {.mv_size = row->key_len, .mv_data = (void *)(uintptr_t)row->key};
    MDB_val v = {.mv_size = ROW_HEAD + row->value_len};
    int rc;

    if (row->deleted) {
        rc = mdb_del(txn, dbi, &k, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    rc = mdb_cursor_put(cursor, &k, &v, MDB_RESERVE);
    if (rc == 0) {
        hf_put_le64(v.mv_data, row->hash);
        memcpy((uint8_t *)v.mv_data + ROW_HEAD, row->value, row->value_len);
    }
    return rc;
}

static int merge_mark(MDB_txn *txn, MDB_dbi dbi, const struct hf_table_base_mark *mark)
{
    uint8_t key[HF_TABLE_MARK_KEY_BYTES], record[HF_LMDB_MARK_MAX];
    MDB_val k;
    MDB_val v = {.mv_size = hf_lmdb_mark_encode(mark, record), .mv_data = record};

    hf_lmdb_mark_key(key, &k);
    return mdb_put(txn, dbi, &k, &v, 0);
}

static int merge_into(MDB_txn *txn, MDB_dbi dbi, const struct hf_memtable *rows,
                      const struct hf_table_base_mark *mark)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, dbi, &cursor);

    if (rc) {
        return rc;
    }
    for (struct hf_memrow *row = hf_memtable_seek(rows, NULL, 0); row && !rc; row = row->next) {
        if (hf_table_base_wants(row)) {
            rc = merge_row(txn, dbi, cursor, row);
        }
    }
    mdb_cursor_close(cursor);
    return rc ? rc : merge_mark(txn, dbi, mark);
}

/*
 * One transaction: the owner replays its log from the mark, and replaying over rows newer than
 * the mark need not give the same rows again. So a part of a merge must never be seen.
 */
static int lmdb_merge(struct hf_table_base *base, const struct hf_memtable *rows,
                      const struct hf_table_base_mark *mark)
{
    struct lmdb_base *lb = lmdb_of(base);
    MDB_txn *txn;
    int rc;

    if (!lb->mdb) {
        return -EIO;
    }
    rc = mdb_txn_begin(lb->mdb, NULL, 0, &txn);
    if (rc == 0) {
        rc = merge_into(txn, lb->dbi, rows, mark);
        if (rc) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
    }
    if (rc && hf_lmdb_err(rc) != -ENOSPC && hf_lmdb_err(rc) != -ENOMEM) {
        lb->suspect = true;
        /* LMDB takes the short write of a disk that is full for an I/O error. */
        return hf_lmdb_disk_full(lb->env, lb->path, 2 * hf_memtable_bytes(rows)) ? -ENOSPC : -EIO;
    }
    return hf_lmdb_err(rc);
}

static void lmdb_renew(struct hf_table_base *base)
{
    struct lmdb_base *lb = lmdb_of(base);

    if (lb->suspect || !lb->mdb) {
        /* LMDB refuses to go on after a failed commit: look at what the file says instead. */
        close_mdb(lb);
        lb->suspect = open_base(lb) != 0; /* else the next renew tries again */
        return;
    }
    if (lb->reader_live) {
        mdb_txn_reset(lb->reader);
        lb->reader_live = false;
    }
    (void)reader_ready(lb); /* else every read tries again, and says -EIO meanwhile */
}

static int lmdb_export(struct hf_table_base *base, struct hf_env *env, const char *path,
                       const atomic_bool *stop, struct hf_table_snapshot *ret)
{
    struct lmdb_base *lb = lmdb_of(base);

    /* Stays open: only renew() after a failed merge closes it, and that waits for us. */
    return lb->mdb ? hf_lmdb_snapshot_write(env, lb->mdb, lb->dbi, path, stop, ret) : -EIO;
}

static void lmdb_close(struct hf_table_base *base)
{
    struct lmdb_base *lb = lmdb_of(base);

    close_mdb(lb);
    free(lb->path);
    free(lb);
}

static const struct hf_table_base_ops lmdb_ops = {
    .get = lmdb_get,
    .seek = lmdb_seek,
    .next = lmdb_next,
    .mark = lmdb_mark,
    .merge = lmdb_merge,
    .renew = lmdb_renew,
    .export = lmdb_export,
    .close = lmdb_close,
};

int hf_table_base_lmdb(struct hf_env *env, const char *path, struct hf_table_base **ret)
{
    struct lmdb_base *lb = calloc(1, sizeof(*lb));
    int err = -ENOMEM;

    if (!lb) {
        return err;
    }
    lb->base.ops = &lmdb_ops;
    lb->env = env;
    lb->path = strdup(path);
    if (!lb->path) {
        goto fail;
    }
    err = hf_disk_mkdir(hf_env_disk(env), path);
    if (!err) {
        err = make_base(lb);
    }
    if (!err) {
        err = open_base(lb);
    }
    if (err) {
        goto fail;
    }
    *ret = &lb->base;
    return 0;
fail:
    free(lb->path);
    free(lb);
    return err;
}
