/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/lmdb_file.h"

#include <errno.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/env/env.h"

#define MAP_BYTES_MIN   ((size_t)1 << 28)
#define DISK_FULL_BYTES ((size_t)1 << 20)
#define ROW_HEAD        sizeof(struct hf_table_row_disk)

int hf_lmdb_err(int rc)
{
    switch (rc) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_VERSION_MISMATCH:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
        return -EBADMSG;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return -ENOSPC;
    case ENOMEM:
        return -ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return -EACCES;
    default:
        return -EIO;
    }
}

int hf_lmdb_open(const char *path, unsigned flags, size_t map_bytes, MDB_env **ret)
{
    MDB_env *mdb;
    int rc;

    for (;;) {
        rc = mdb_env_create(&mdb);
        if (rc) {
            return hf_lmdb_err(rc);
        }
        rc = mdb_env_set_mapsize(mdb, map_bytes);
        if (!rc) {
            rc = mdb_env_open(mdb, path, MDB_NOTLS | flags, 0600);
        }
        if (!rc) {
            *ret = mdb;
            return 0;
        }
        mdb_env_close(mdb);
        if (rc != ENOMEM || map_bytes <= MAP_BYTES_MIN) {
            return hf_lmdb_err(rc);
        }
        map_bytes /= 2; /* so much address space is refused: less has to do */
    }
}

int hf_lmdb_check_size(struct hf_env *env, MDB_env *mdb, const char *file_path)
{
    struct hf_file *file;
    uint64_t bytes = 0;
    MDB_envinfo info;
    MDB_stat stat;
    int err;

    if (mdb_env_info(mdb, &info) || mdb_env_stat(mdb, &stat)) {
        return -EIO;
    }
    err = hf_disk_open(hf_env_disk(env), file_path, HF_FILE_READ_ONLY, &file);
    if (err) {
        return err;
    }
    err = hf_file_size(file, &bytes);
    hf_file_close(file);
    if (!err && bytes / stat.ms_psize <= info.me_last_pgno) {
        err = -EBADMSG;
    }
    return err;
}

bool hf_lmdb_disk_full(struct hf_env *env, const char *path, uint64_t want_bytes)
{
    struct hf_disk_space space;

    return hf_disk_space(hf_env_disk(env), path, &space) == 0 &&
           space.free_bytes < want_bytes + DISK_FULL_BYTES;
}

/* Rows and the mark */

int hf_lmdb_row_decode(const MDB_val *val, struct hf_table_base_row *ret)
{
    if (val->mv_size < ROW_HEAD || val->mv_size - ROW_HEAD > HF_TABLE_VALUE_MAX) {
        return -EBADMSG;
    }
    ret->hash = hf_get_le64(val->mv_data);
    ret->value = (const uint8_t *)val->mv_data + ROW_HEAD;
    ret->value_len = (uint32_t)(val->mv_size - ROW_HEAD);
    return 0;
}

void hf_lmdb_mark_key(uint8_t buf[HF_TABLE_MARK_KEY_BYTES], MDB_val *ret)
{
    memset(buf, HF_TABLE_MARK_KEY_FILL, HF_TABLE_MARK_KEY_BYTES);
    *ret = (MDB_val){.mv_size = HF_TABLE_MARK_KEY_BYTES, .mv_data = buf};
}

size_t hf_lmdb_mark_encode(const struct hf_table_base_mark *mark, uint8_t ret[HF_LMDB_MARK_MAX])
{
    struct hf_writer w = hf_writer_init(ret + 8, HF_LMDB_MARK_MAX - 8);
    size_t len;

    hf_write_le32(&w, HF_TABLE_MARK_MAGIC);
    hf_write_le32(&w, HF_TABLE_FORMAT_VERSION);
    hf_write_le64(&w, mark->digest);
    hf_write_le32(&w, (uint32_t)mark->len);
    hf_write_le32(&w, 0);
    hf_write_bytes(&w, mark->bytes, mark->len);
    HF_ASSERT(!w.bad);
    len = (size_t)(w.at - ret);
    hf_put_le64(ret, hf_hash64(ret + 8, len - 8, HF_TABLE_MARK_HASH_SEED));
    return len;
}

int hf_lmdb_mark_decode(const MDB_val *val, struct hf_table_base_mark *ret)
{
    struct hf_reader r = hf_reader_init(val->mv_data, val->mv_size);
    uint64_t checksum = hf_read_le64(&r);
    uint64_t digest;
    const uint8_t *bytes;
    uint32_t len;

    if (r.bad || checksum != hf_hash64(r.at, hf_reader_left(&r), HF_TABLE_MARK_HASH_SEED) ||
        hf_read_le32(&r) != HF_TABLE_MARK_MAGIC || hf_read_le32(&r) != HF_TABLE_FORMAT_VERSION) {
        return -EBADMSG;
    }
    digest = hf_read_le64(&r);
    len = hf_read_le32(&r);
    (void)hf_read_le32(&r); /* reserved */
    bytes = hf_read_bytes(&r, len);
    if (!bytes || len > HF_TABLE_MARK_MAX || hf_reader_left(&r)) {
        return -EBADMSG;
    }
    memcpy(ret->bytes, bytes, len);
    ret->len = len;
    ret->digest = digest;
    return 0;
}
