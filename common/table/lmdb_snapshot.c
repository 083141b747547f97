/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/lmdb_snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/table/lmdb_file.h"

#define BATCH_BYTES     ((size_t)16 << 20) /* of rows; then what was written goes to the disk */
#define MAP_SLACK_BYTES ((size_t)64 << 20)
#define FILE_FLAGS      (MDB_NOSUBDIR | MDB_NOLOCK | MDB_NORDAHEAD)

/* The file that rows are copied into. */
struct copy {
    struct hf_env *env;
    struct hf_file *file;
    const char *path;
    MDB_env *mdb;
    MDB_txn *txn; /* NULL: none open */
    MDB_dbi dbi;
    MDB_cursor *cursor;
    size_t batch_bytes;
};

/* Writing the copy */

static int copy_err(const struct copy *to, int rc)
{
    int err = hf_lmdb_err(rc);

    return err == -EIO && hf_lmdb_disk_full(to->env, to->path, 2 * BATCH_BYTES) ? -ENOSPC : err;
}

static int copy_begin(struct copy *to)
{
    int rc = mdb_txn_begin(to->mdb, NULL, 0, &to->txn);

    if (rc) {
        to->txn = NULL;
        return rc;
    }
    rc = mdb_dbi_open(to->txn, NULL, 0, &to->dbi);
    if (!rc) {
        rc = mdb_cursor_open(to->txn, to->dbi, &to->cursor);
    }
    if (rc) {
        mdb_txn_abort(to->txn);
        to->txn = NULL;
    }
    to->batch_bytes = 0;
    return rc;
}

/* The transaction ends either way. */
static int copy_commit(struct copy *to)
{
    MDB_txn *txn = to->txn;

    mdb_cursor_close(to->cursor);
    to->txn = NULL;
    return mdb_txn_commit(txn);
}

static int copy_put(struct copy *to, MDB_val *k, MDB_val *v)
{
    int rc = mdb_cursor_put(to->cursor, k, v, MDB_APPEND);
    int err;

    to->batch_bytes += k->mv_size + v->mv_size;
    if (!rc && to->batch_bytes >= BATCH_BYTES) {
        rc = copy_commit(to);
        if (!rc) {
            err = hf_file_sync(to->file); /* all of it at the end would hold up others' syncs */
            if (err) {
                return err;
            }
            rc = copy_begin(to);
        }
    }
    return copy_err(to, rc);
}

/* Reading: the same for a base that is exported and a file that is verified */

/* Errors: -EBADMSG. */
static int check_row(const MDB_val *k, const MDB_val *v, struct hf_table_snapshot *sum)
{
    struct hf_table_base_row row;
    int err = hf_lmdb_row_decode(v, &row);

    if (!err && hf_memrow_hash(hf_memrow_key_hash(k->mv_data, k->mv_size), row.value,
                               row.value_len) != row.hash) {
        err = -EBADMSG;
    }
    if (err) {
        return err;
    }
    sum->digest += row.hash;
    sum->rows++;
    return 0;
}

/* The last row of all, and what it has to say about those before. Errors: -EBADMSG. */
static int check_mark(MDB_cursor *cursor, const MDB_val *k, const MDB_val *v,
                      struct hf_table_snapshot *sum)
{
    uint8_t buf[HF_TABLE_MARK_KEY_BYTES];
    struct hf_table_base_mark mark;
    MDB_val expect, none;
    int err = hf_lmdb_mark_decode(v, &mark);

    hf_lmdb_mark_key(buf, &expect);
    if (err || k->mv_size != expect.mv_size ||
        memcmp(k->mv_data, expect.mv_data, expect.mv_size) != 0 || mark.digest != sum->digest ||
        mdb_cursor_get(cursor, &expect, &none, MDB_NEXT) != MDB_NOTFOUND) {
        return -EBADMSG;
    }
    memcpy(sum->mark, mark.bytes, mark.len);
    sum->mark_len = mark.len;
    return 0;
}

/* @to  NULL: only look. Errors: -ENOENT  nothing there; -EBADMSG, -ECANCELED, those of the copy. */
static int walk(MDB_cursor *cursor, struct copy *to, const atomic_bool *stop,
                struct hf_table_snapshot *sum)
{
    bool marked = false;
    MDB_val k, v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);

    while (rc == 0 && !marked) {
        int err = hf_snapshot_stopped(stop) ? -ECANCELED : 0;

        marked = k.mv_size > HF_TABLE_KEY_MAX;
        if (!err) {
            err = marked ? check_mark(cursor, &k, &v, sum) : check_row(&k, &v, sum);
        }
        if (!err && to) {
            err = copy_put(to, &k, &v);
        }
        if (err) {
            return err;
        }
        if (!marked) {
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        }
    }
    if (rc == MDB_NOTFOUND) {
        return sum->rows ? -EBADMSG : -ENOENT;
    }
    return hf_lmdb_err(rc);
}

static int scan(MDB_txn *txn, MDB_dbi dbi, struct copy *to, const atomic_bool *stop,
                struct hf_table_snapshot *ret)
{
    MDB_cursor *cursor;
    int err = hf_lmdb_err(mdb_cursor_open(txn, dbi, &cursor));

    if (!err) {
        *ret = (struct hf_table_snapshot){0};
        err = walk(cursor, to, stop, ret);
        mdb_cursor_close(cursor);
    }
    return err;
}

/* Exporting */

/* A base that is exported, while others read and change it. */
struct source {
    struct hf_env *env;
    MDB_env *mdb;
    MDB_dbi dbi;
};

/* The copy is packed, so it needs no more room than the base has. */
static int copy_open(const struct source *source, MDB_txn *txn, struct copy *to)
{
    MDB_envinfo info;
    MDB_stat stat;
    size_t map_bytes;
    int err;

    if (mdb_env_info(source->mdb, &info) || mdb_stat(txn, source->dbi, &stat)) {
        return -EIO;
    }
    map_bytes = (info.me_last_pgno + 1) * stat.ms_psize + MAP_SLACK_BYTES;
    err = hf_lmdb_open(to->path, FILE_FLAGS | MDB_NOSYNC, map_bytes, &to->mdb);
    if (err) {
        return err;
    }
    err = hf_lmdb_err(copy_begin(to));
    if (err) {
        mdb_env_close(to->mdb);
    }
    return err;
}

/* LMDB need not have written the last pages it took; a base has to be as long as they say. */
static int copy_whole_pages(struct copy *to)
{
    MDB_envinfo info;
    MDB_stat stat;

    if (mdb_env_info(to->mdb, &info) || mdb_env_stat(to->mdb, &stat)) {
        return -EIO;
    }
    return hf_file_truncate(to->file, ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize);
}

static int write_body(void *ctx, struct hf_file *file, const char *path, const atomic_bool *stop,
                      struct hf_table_snapshot *ret)
{
    const struct source *source = ctx;
    struct copy to = {.env = source->env, .file = file, .path = path};
    MDB_txn *txn;
    int err = hf_lmdb_err(mdb_txn_begin(source->mdb, NULL, MDB_RDONLY, &txn));

    if (err) {
        return err;
    }
    err = copy_open(source, txn, &to);
    if (!err) {
        err = scan(txn, source->dbi, &to, stop, ret);
        if (!err) {
            err = copy_err(&to, copy_commit(&to));
        } else if (to.txn) {
            mdb_txn_abort(to.txn);
        }
        if (!err) {
            err = copy_whole_pages(&to);
        }
        mdb_env_close(to.mdb);
    }
    mdb_txn_abort(txn);
    return err;
}

int hf_lmdb_snapshot_write(struct hf_env *env, MDB_env *mdb, MDB_dbi dbi, const char *path,
                           const atomic_bool *stop, struct hf_table_snapshot *ret)
{
    struct source source = {.env = env, .mdb = mdb, .dbi = dbi};
    const struct hf_snapshot_source what = {
        .kind = HF_SNAPSHOT_LMDB, .write_body = write_body, .ctx = &source};

    return hf_snapshot_write(env, path, &what, stop, ret);
}

/* Verifying */

int hf_lmdb_snapshot_scan(struct hf_env *env, const char *path, uint64_t body_bytes,
                          const atomic_bool *stop, struct hf_table_snapshot *ret)
{
    MDB_env *mdb;
    MDB_txn *txn;
    MDB_dbi dbi;
    int err;

    if (body_bytes > HF_LMDB_MAP_MAX) {
        return -EBADMSG;
    }
    err = hf_lmdb_open(path, FILE_FLAGS | MDB_RDONLY, (size_t)body_bytes + MAP_SLACK_BYTES, &mdb);
    if (err) {
        return err;
    }
    err = hf_lmdb_check_size(env, mdb, path);
    if (!err) {
        err = hf_lmdb_err(mdb_txn_begin(mdb, NULL, MDB_RDONLY, &txn));
    }
    if (!err) {
        err = hf_lmdb_err(mdb_dbi_open(txn, NULL, 0, &dbi));
        if (!err) {
            err = scan(txn, dbi, NULL, stop, ret);
        }
        mdb_txn_abort(txn);
    }
    mdb_env_close(mdb);
    return err == -ENOENT ? -EBADMSG : err;
}

/* Installing */

/* Errors: -EBADMSG  no exported base; -ENOENT, -EIO. */
static int open_verified(struct hf_disk *disk, const char *path, struct hf_file **ret,
                         struct hf_snapshot_tail *tail)
{
    struct hf_file *file;
    int err = hf_disk_open(disk, path, 0, &file);

    if (err) {
        return err;
    }
    err = hf_snapshot_read_tail(file, tail);
    if (!err && tail->kind != HF_SNAPSHOT_LMDB) {
        err = -EBADMSG;
    }
    if (!err) {
        err = hf_file_sync(file);
    }
    if (err) {
        hf_file_close(file);
        return err;
    }
    *ret = file;
    return 0;
}

/*
 * The lock file goes first: LMDB makes a new one, and one that another process holds open (someone
 * who looks at the base with LMDB's tools) would lend the new base the old one's last transaction.
 * The tail goes last: a base that still has it works, a file without it could not be told from a
 * damaged one when this is done over after a crash.
 */
static int replace(struct hf_disk *disk, const char *file_path, const char *path, const char *data,
                   const char *lock)
{
    int err = hf_disk_unlink(disk, lock);

    if (!err || err == -ENOENT) {
        err = hf_disk_rename(disk, file_path, data);
    }
    return err ? err : hf_disk_sync_dir(disk, path);
}

int hf_table_install_lmdb(struct hf_env *env, const char *file_path, const char *path)
{
    struct hf_disk *disk = hf_env_disk(env);
    struct hf_snapshot_tail tail;
    struct hf_file *file;
    char *data = NULL, *lock = NULL;
    int err;

    hf_assert_worker(env);
    err = open_verified(disk, file_path, &file, &tail);
    if (err) {
        return err;
    }
    err = hf_disk_mkdir(disk, path);
    if (!err &&
        (asprintf(&data, "%s/data.mdb", path) < 0 || asprintf(&lock, "%s/lock.mdb", path) < 0)) {
        err = -ENOMEM;
    }
    if (!err) {
        err = replace(disk, file_path, path, data, lock);
    }
    if (!err && hf_file_truncate(file, tail.body_bytes) == 0) {
        (void)hf_file_sync(file); /* a tail that stays is harmless */
    }
    hf_file_close(file);
    free(data);
    free(lock);
    return err;
}
