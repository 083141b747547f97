/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/model_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"

#define HEAD_BYTES     sizeof(struct hf_snapshot_model_head_disk)
#define ROW_HEAD_BYTES sizeof(struct hf_snapshot_model_row_disk)

/* Errors: -EBADMSG. */
static int sum_row(struct hf_table_snapshot *sum, const void *key, size_t key_len,
                   const void *value, size_t value_len, uint64_t hash)
{
    if (hf_memrow_hash(hf_memrow_key_hash(key, key_len), value, value_len) != hash) {
        return -EBADMSG;
    }
    sum->digest += hash;
    sum->rows++;
    return 0;
}

int hf_model_body_encode(const struct hf_memtable *rows, const struct hf_table_base_mark *mark,
                         const atomic_bool *stop, struct hf_table_snapshot *ret, uint8_t **ret_body,
                         size_t *ret_len)
{
    /* A row in memory takes more than its key, its value and our header. */
    size_t cap = HEAD_BYTES + HF_TABLE_MARK_MAX + hf_memtable_bytes(rows);
    uint8_t *body = malloc(cap);
    struct hf_writer w = hf_writer_init(body, body ? cap : 0);
    struct hf_table_snapshot sum = {.mark_len = mark->len};
    int err = body ? 0 : -ENOMEM;

    memcpy(sum.mark, mark->bytes, mark->len);
    hf_write_le64(&w, mark->digest);
    hf_write_le32(&w, (uint32_t)mark->len);
    hf_write_le32(&w, 0);
    hf_write_bytes(&w, mark->bytes, mark->len);
    for (const struct hf_memrow *row = hf_memtable_seek(rows, NULL, 0); row && !err;
         row = row->next) {
        if (row->deleted) {
            continue;
        }
        err = hf_snapshot_stopped(stop)
                  ? -ECANCELED
                  : sum_row(&sum, row->key, row->key_len, row->value, row->value_len, row->hash);
        hf_write_le64(&w, row->hash);
        hf_write_le32(&w, row->value_len);
        hf_write_le32(&w, row->key_len);
        hf_write_bytes(&w, row->key, row->key_len);
        hf_write_bytes(&w, row->value, row->value_len);
    }
    if (!err && sum.digest != mark->digest) {
        err = -EBADMSG;
    }
    if (err) {
        free(body);
        return err;
    }
    HF_ASSERT(!w.bad);
    *ret = sum;
    *ret_body = body;
    *ret_len = (size_t)(w.at - body);
    return 0;
}

/* Errors: -EBADMSG, -ENOMEM. */
static int decode_row(struct hf_reader *r, struct hf_memchange *last, struct hf_table_snapshot *sum,
                      struct hf_memtable *ret_rows)
{
    struct hf_memchange row = {.hash = hf_read_le64(r)};
    int err;

    row.value_len = hf_read_le32(r);
    row.key_len = hf_read_le32(r);
    if (row.key_len == 0 || row.key_len > HF_TABLE_KEY_MAX || row.value_len > HF_TABLE_VALUE_MAX) {
        return -EBADMSG;
    }
    row.key = hf_read_bytes(r, row.key_len);
    row.value = hf_read_bytes(r, row.value_len);
    if (r->bad ||
        (last->key && hf_memrow_cmp(last->key, last->key_len, row.key, row.key_len) >= 0)) {
        return -EBADMSG;
    }
    err = sum_row(sum, row.key, row.key_len, row.value, row.value_len, row.hash);
    if (err) {
        return err;
    }
    row.key_hash = hf_memrow_key_hash(row.key, row.key_len);
    *last = row;
    return ret_rows ? hf_memtable_apply(ret_rows, NULL, &row) : 0;
}

int hf_model_body_decode(const uint8_t *body, size_t len, const atomic_bool *stop,
                         struct hf_table_snapshot *ret, struct hf_memtable *ret_rows)
{
    struct hf_reader r = hf_reader_init(body, len);
    uint64_t digest = hf_read_le64(&r);
    uint32_t mark_len = hf_read_le32(&r);
    uint32_t zero = hf_read_le32(&r);
    const uint8_t *mark = hf_read_bytes(&r, mark_len);
    struct hf_table_snapshot sum = {.mark_len = mark_len};
    struct hf_memchange last = {0};

    if (!mark || mark_len > HF_TABLE_MARK_MAX || zero) {
        return -EBADMSG;
    }
    memcpy(sum.mark, mark, mark_len);
    while (hf_reader_left(&r)) {
        int err = hf_snapshot_stopped(stop) ? -ECANCELED : decode_row(&r, &last, &sum, ret_rows);

        if (err) {
            return err;
        }
    }
    if (sum.digest != digest) {
        return -EBADMSG;
    }
    *ret = sum;
    return 0;
}

int hf_model_snapshot_scan(struct hf_file *file, uint64_t body_bytes, const atomic_bool *stop,
                           struct hf_table_snapshot *ret, struct hf_memtable *ret_rows)
{
    uint8_t *body = malloc(body_bytes ? body_bytes : 1);
    int err = body ? hf_file_read_full(file, body, body_bytes, 0, NULL) : -ENOMEM;

    if (!err) {
        err = hf_model_body_decode(body, body_bytes, stop, ret, ret_rows);
    }
    free(body);
    return err;
}
