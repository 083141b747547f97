/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/txn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "server/meta/inode.h"
#include "server/meta/objects.h"

/* Rows */

int hf_txn_get(struct hf_meta *meta, const struct hf_key *key, const void **ret_value,
               size_t *ret_len)
{
    int err = hf_table_get(meta->table, key->b, key->len, ret_value, ret_len);

    return err && err != -ENOENT ? hf_txn_fail(meta, err) : err;
}

int hf_txn_exists(struct hf_meta *meta, const struct hf_key *key, bool *ret)
{
    const void *value;
    size_t len;
    int err = hf_txn_get(meta, key, &value, &len);

    *ret = !err;
    return err == -ENOENT ? 0 : err;
}

static int grow(void **array, size_t *cap, size_t need, size_t elem)
{
    size_t n = *cap ? *cap : 64;
    void *p;

    if (need <= *cap) {
        return 0;
    }
    while (n < need) {
        n *= 2;
    }
    p = realloc(*array, n * elem);
    if (!p) {
        return -ENOMEM;
    }
    *array = p;
    *cap = n;
    return 0;
}

/* A journal record: key length u16, was there u8, value length u32, key, value. */
#define JOURNAL_HEAD 7u

/* Remember what is under @key now. */
static int journal_add(struct hf_meta *meta, const struct hf_key *key)
{
    const void *value = NULL;
    size_t len = 0, cap = meta->journal_at_cap, need;
    int err = hf_txn_get(meta, key, &value, &len);
    bool there = !err;
    uint8_t *p;

    if (err && err != -ENOENT) {
        return err;
    }
    need = meta->journal_len + JOURNAL_HEAD + key->len + len;
    if (grow((void **)&meta->journal, &meta->journal_cap, need, 1) ||
        grow((void **)&meta->journal_at, &cap, meta->journal_count + 1, sizeof(size_t))) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    meta->journal_at_cap = (uint32_t)cap;
    meta->journal_at[meta->journal_count++] = meta->journal_len;
    p = meta->journal + meta->journal_len;
    hf_put_le16(p, (uint16_t)key->len);
    p[2] = there;
    hf_put_le32(p + 3, (uint32_t)len);
    memcpy(p + JOURNAL_HEAD, key->b, key->len);
    if (len) {
        memcpy(p + JOURNAL_HEAD + key->len, value, len);
    }
    meta->journal_len = need;
    return 0;
}

int hf_txn_put(struct hf_meta *meta, const struct hf_key *key, const void *value, size_t len)
{
    int err = meta->in_txn ? journal_add(meta, key) : 0;

    if (!err) {
        err = hf_table_put(meta->table, key->b, key->len, value, len);
    }
    return err ? hf_txn_fail(meta, err) : 0;
}

int hf_txn_put_mark(struct hf_meta *meta, const struct hf_key *key)
{
    const uint8_t version = HF_ROW_VERSION;

    return hf_txn_put(meta, key, &version, HF_ROW_MARK_BYTES);
}

int hf_txn_del(struct hf_meta *meta, const struct hf_key *key)
{
    int err = meta->in_txn ? journal_add(meta, key) : 0;

    if (!err) {
        err = hf_table_del(meta->table, key->b, key->len);
    }
    return err ? hf_txn_fail(meta, err) : 0;
}

static int in_prefix(struct hf_meta *meta, int err, const struct hf_key *from, size_t prefix_len,
                     const struct hf_table_cursor *cursor)
{
    if (err) {
        return err == -ENOENT ? err : hf_txn_fail(meta, err);
    }
    if (cursor->key_len < prefix_len || memcmp(cursor->key, from->b, prefix_len) != 0) {
        return -ENOENT;
    }
    return 0;
}

int hf_txn_seek(struct hf_meta *meta, const struct hf_key *from, size_t prefix_len,
                struct hf_table_cursor *ret)
{
    int err = hf_table_seek(meta->table, from->b, from->len, ret);

    return in_prefix(meta, err, from, prefix_len, ret);
}

int hf_txn_next(struct hf_meta *meta, const struct hf_key *from, size_t prefix_len,
                struct hf_table_cursor *cursor)
{
    int err = hf_table_next(cursor);

    return in_prefix(meta, err, from, prefix_len, cursor);
}

void hf_key_after(struct hf_key *key, const void *at, size_t len)
{
    HF_ASSERT(len < sizeof(key->b));
    memmove(key->b, at, len);
    key->b[len] = 0;
    key->len = len + 1;
}

int hf_txn_del_prefix(struct hf_meta *meta, const struct hf_key *prefix)
{
    struct hf_key from = *prefix;
    struct hf_table_cursor cursor;
    int err;

    while ((err = hf_txn_seek(meta, &from, prefix->len, &cursor)) == 0) {
        struct hf_key key;

        hf_key_after(&from, cursor.key, cursor.key_len);
        memcpy(key.b, from.b, cursor.key_len);
        key.len = from.len - 1;
        err = hf_txn_del(meta, &key);
        if (err) {
            return err;
        }
    }
    return err == -ENOENT ? 0 : err;
}

int hf_txn_scratch(struct hf_meta *meta, size_t len, uint8_t **ret)
{
    if (grow((void **)&meta->value, &meta->value_cap, len, 1)) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    *ret = meta->value;
    return 0;
}

/* Transactions */

static void txn_end(struct hf_meta *meta)
{
    meta->in_txn = false;
    meta->journal_len = 0;
    meta->journal_count = 0;
    meta->slot_count = 0;
    meta->delta_count = 0;
    hf_opindex_clear(&meta->slot_index);
    hf_opindex_clear(&meta->delta_index);
}

void hf_txn_begin(struct hf_meta *meta)
{
    HF_ASSERT(!meta->in_txn && !meta->journal_count && !meta->slot_count && !meta->delta_count);
    meta->in_txn = true;
    meta->map_changed = false;
    meta->saved = meta->c;
}

int hf_txn_commit(struct hf_meta *meta)
{
    int err;

    HF_ASSERT(meta->in_txn);
    meta->in_txn = false; /* from here on nothing is rolled back */
    err = hf_objects_flush(meta);
    if (!err) {
        err = hf_inode_flush(meta);
    }
    txn_end(meta);
    return err;
}

int hf_txn_rollback(struct hf_meta *meta)
{
    int err = 0;

    HF_ASSERT(meta->in_txn);
    meta->in_txn = false;
    for (uint32_t i = meta->journal_count; i-- > 0 && !err;) {
        const uint8_t *p = meta->journal + meta->journal_at[i];
        struct hf_key key = {.len = hf_get_le16(p)};

        memcpy(key.b, p + JOURNAL_HEAD, key.len);
        err = p[2] ? hf_txn_put(meta, &key, p + JOURNAL_HEAD + key.len, hf_get_le32(p + 3))
                   : hf_txn_del(meta, &key);
    }
    meta->c = meta->saved;
    meta->map_changed = false;
    txn_end(meta);
    return err;
}

void hf_txn_fini(struct hf_meta *meta)
{
    for (uint32_t i = 0; i < meta->slot_cap; i++) {
        free(meta->slots[i]);
    }
    free(meta->slots);
    free(meta->slot_index.at);
    free(meta->deltas);
    free(meta->delta_index.at);
    free(meta->journal);
    free(meta->journal_at);
    free(meta->value);
    hf_extvec_fini(&meta->vec);
    hf_extvec_fini(&meta->vec_old);
}

/* Index */

uint32_t hf_opindex_find(const struct hf_meta *meta, const struct hf_opindex *index, uint64_t hash,
                         hf_opindex_same_fn same, const void *key)
{
    if (!index->count) {
        return UINT32_MAX;
    }
    for (uint32_t i = (uint32_t)hash & (index->size - 1); index->at[i];
         i = (i + 1) & (index->size - 1)) {
        if (same(meta, index->at[i] - 1, key)) {
            return index->at[i] - 1;
        }
    }
    return UINT32_MAX;
}

static void opindex_place(struct hf_opindex *index, uint64_t hash, uint32_t at)
{
    uint32_t i = (uint32_t)hash & (index->size - 1);

    while (index->at[i]) {
        i = (i + 1) & (index->size - 1);
    }
    index->at[i] = at + 1;
    index->count++;
}

int hf_opindex_add(const struct hf_meta *meta, struct hf_opindex *index, uint64_t hash, uint32_t at,
                   uint64_t (*hash_of)(const struct hf_meta *meta, uint32_t index))
{
    if (index->count * 2 >= index->size) {
        uint32_t size = index->size ? index->size * 2 : 64;
        uint32_t *bigger = calloc(size, sizeof(*bigger));

        if (!bigger) {
            return -ENOMEM;
        }
        free(index->at);
        *index = (struct hf_opindex){.at = bigger, .size = size};
        for (uint32_t i = 0; i < at; i++) {
            opindex_place(index, hash_of(meta, i), i);
        }
    }
    opindex_place(index, hash, at);
    return 0;
}

void hf_opindex_clear(struct hf_opindex *index)
{
    if (index->size > 4096) { /* one large operation should not slow all later ones */
        free(index->at);
        *index = (struct hf_opindex){0};
    } else if (index->count) {
        memset(index->at, 0, index->size * sizeof(*index->at));
    }
    index->count = 0;
}
