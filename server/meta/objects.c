/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/objects.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"

/* The operation's changes, found by id */

static bool delta_same(const struct hf_meta *meta, uint32_t index, const void *key)
{
    return hf_oid_equal(&meta->deltas[index].oid, key);
}

static uint64_t delta_hash(const struct hf_meta *meta, uint32_t index)
{
    return hf_oid_hash(&meta->deltas[index].oid);
}

/* The delta of @oid, made when missing; NULL: out of memory. Good until the next call. */
static struct hf_object_delta *delta_of(struct hf_meta *meta, const struct hf_oid *oid)
{
    uint64_t hash = hf_oid_hash(oid);
    uint32_t at = hf_opindex_find(meta, &meta->delta_index, hash, delta_same, oid);

    if (at != UINT32_MAX) {
        return &meta->deltas[at];
    }
    if (meta->delta_count == meta->delta_cap) {
        uint32_t cap = meta->delta_cap ? meta->delta_cap * 2 : 64;
        struct hf_object_delta *deltas = realloc(meta->deltas, cap * sizeof(*deltas));

        if (!deltas) {
            return NULL;
        }
        meta->deltas = deltas;
        meta->delta_cap = cap;
    }
    at = meta->delta_count++;
    meta->deltas[at] = (struct hf_object_delta){.oid = *oid};
    if (hf_opindex_add(meta, &meta->delta_index, hash, at, delta_hash)) {
        meta->delta_count--;
        return NULL;
    }
    return &meta->deltas[at];
}

int hf_objects_count(struct hf_meta *meta, const struct hf_oid *oid, int64_t refs,
                     int64_t live_bytes)
{
    struct hf_object_delta *delta = delta_of(meta, oid);

    if (!delta) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    delta->refs += refs;
    delta->live_bytes += live_bytes;
    return 0;
}

/* Entering */

/* Mark the sequence used. Errors: -EINVAL  it was. */
static int use_sequence(struct hf_meta *meta, const struct hf_oid *oid)
{
    uint8_t value[HF_ROW_BITMAP_BYTES];
    struct hf_bitmap used = {0};
    struct hf_key key;
    const void *old;
    size_t len;
    int err;

    hf_key_u64_u64(&key, HF_ROW_SEQS, oid->session, oid->seq / HF_BITMAP_BITS);
    err = hf_txn_get(meta, &key, &old, &len);
    if (!err) {
        err = hf_row_bitmap_decode(old, len, &used);
        if (err) {
            return hf_txn_fail(meta, err);
        }
    } else if (err != -ENOENT) {
        return err;
    }
    if (hf_bitmap_test(&used, oid->seq)) {
        return -EINVAL;
    }
    hf_bitmap_flip(&used, oid->seq);
    hf_row_bitmap_encode(&used, value);
    return hf_txn_put(meta, &key, value, sizeof(value));
}

/* A node that comes back counts as holding nothing: its inventory may have gone past this. */
static uint64_t returned_since(const struct hf_map *map, struct hf_epoch epoch)
{
    uint64_t nodes = 0;

    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].returned.v > epoch.v) {
            nodes |= hf_node_bit(map->nodes[i].id);
        }
    }
    return nodes;
}

int hf_objects_enter(struct hf_meta *meta, const struct hf_wr_object *object)
{
    const struct hf_meta_op *op = meta->entry->op;
    struct hf_object_delta *delta;
    uint64_t members, holders;
    int err;

    if (object->oid.session != op->session.v || object->oid.seq > HF_OID_SEQ_MAX ||
        object->oid.group >= meta->map.group_count || object->len_bytes == 0 ||
        object->len_bytes > HF_OBJECT_BYTES_MAX) {
        return -EINVAL;
    }
    members = hf_map_group_members(&meta->map, object->oid.group);
    holders = members & object->holders & ~returned_since(&meta->map, object->epoch);
    if (__builtin_popcountll(holders) < (int)meta->map.min_copies) {
        return object->epoch.v < meta->map.groups[object->oid.group].epoch.v ? -HF_ESTALE_EPOCH
                                                                             : -EAGAIN;
    }
    err = use_sequence(meta, &object->oid);
    if (err) {
        return err;
    }
    delta = delta_of(meta, &object->oid);
    if (!delta) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    HF_ASSERT(!delta->is_new && delta->refs == 0);
    delta->is_new = true;
    delta->len_bytes = object->len_bytes;
    delta->digest = object->digest;
    delta->lacking = members & ~holders;
    if (HF_BUG(stale_epoch_enters) &&
        object->epoch.v < meta->map.groups[object->oid.group].epoch.v) {
        delta->lacking = 0;
    }
    return 0;
}

/* Rows */

int hf_objects_load(struct hf_meta *meta, const struct hf_oid *oid, struct hf_row_object *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_key_oid(&key, HF_ROW_OBJECT, oid);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err;
    }
    err = hf_row_object_decode(value, len, ret);
    return err ? hf_txn_fail(meta, err) : 0;
}

static int object_put(struct hf_meta *meta, const struct hf_oid *oid,
                      const struct hf_row_object *row)
{
    uint8_t value[HF_ROW_OBJECT_BYTES];
    struct hf_key key;

    hf_key_oid(&key, HF_ROW_OBJECT, oid);
    hf_row_object_encode(row, value);
    return hf_txn_put(meta, &key, value, sizeof(value));
}

/* Make the degraded rows of @oid say @now where they said @before. */
static int lacking_change(struct hf_meta *meta, const struct hf_oid *oid, uint64_t before,
                          uint64_t now)
{
    for (uint64_t left = before ^ now; left; left &= left - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(left);
        struct hf_key key;
        int err;

        hf_key_degraded(&key, (struct hf_node_id){(uint16_t)(bit + 1)}, oid);
        if ((now >> bit) & 1) {
            meta->c.usage.degraded++;
            err = hf_txn_put_mark(meta, &key);
        } else {
            meta->c.usage.degraded--;
            err = hf_txn_del(meta, &key);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

static int object_dies(struct hf_meta *meta, const struct hf_oid *oid, uint32_t len_bytes)
{
    uint8_t value[HF_ROW_DEAD_BYTES] = {HF_ROW_VERSION};
    struct hf_key key;

    hf_put_le32(value + 4, len_bytes);
    hf_key_oid(&key, HF_ROW_DEAD, oid);
    meta->c.usage.dead++;
    return hf_txn_put(meta, &key, value, sizeof(value));
}

static int flush_new(struct hf_meta *meta, const struct hf_object_delta *delta)
{
    struct hf_row_object row = {
        .len_bytes = delta->len_bytes,
        .refs = (uint32_t)delta->refs,
        .live_bytes = (uint64_t)delta->live_bytes,
        .digest = delta->digest,
        .lacking = delta->lacking,
    };
    int err;

    if (!delta->refs) { /* no extent took hold: its files are gone */
        return object_dies(meta, &delta->oid, delta->len_bytes);
    }
    meta->c.usage.objects++;
    meta->c.usage.object_bytes += delta->len_bytes;
    err = lacking_change(meta, &delta->oid, 0, delta->lacking);
    return err ? err : object_put(meta, &delta->oid, &row);
}

static int flush_old(struct hf_meta *meta, const struct hf_object_delta *delta)
{
    struct hf_row_object row;
    struct hf_key key;
    int64_t refs, live;
    int err;

    if (!delta->refs && !delta->live_bytes) {
        return 0;
    }
    err = hf_objects_load(meta, &delta->oid, &row);
    if (err) {
        return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
    }
    refs = (int64_t)row.refs + delta->refs;
    live = (int64_t)row.live_bytes + delta->live_bytes;
    if (refs < 0 || refs > UINT32_MAX || live < 0 || (refs == 0) != (live == 0)) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    row.refs = (uint32_t)refs;
    row.live_bytes = (uint64_t)live;
    if (refs) {
        return object_put(meta, &delta->oid, &row);
    }
    meta->c.usage.objects--;
    meta->c.usage.object_bytes -= row.len_bytes;
    hf_key_oid(&key, HF_ROW_OBJECT, &delta->oid);
    err = hf_txn_del(meta, &key);
    if (!err) {
        err = lacking_change(meta, &delta->oid, row.lacking, 0);
    }
    return err ? err : object_dies(meta, &delta->oid, row.len_bytes);
}

int hf_objects_flush(struct hf_meta *meta)
{
    for (uint32_t i = 0; i < meta->delta_count; i++) {
        const struct hf_object_delta *delta = &meta->deltas[i];
        int err = delta->is_new ? flush_new(meta, delta) : flush_old(meta, delta);

        if (err) {
            return err;
        }
    }
    return 0;
}

/* The cluster's own operations */

/* Change who lacks the objects of @op: @op->node does, or no longer. Unknown objects are passed
 * over: they died since. */
static int degraded_set(struct hf_meta *meta, const struct hf_meta_op *op, bool lacks)
{
    uint64_t bit = hf_node_bit(op->node);

    if (!hf_map_node(&meta->map, op->node)) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < op->oid_count; i++) {
        const struct hf_oid *oid = &op->oids[i];
        struct hf_row_object row;
        uint64_t before;
        int err = hf_objects_load(meta, oid, &row);

        if (err == -ENOENT || (!err && lacks && oid->group < meta->map.group_count &&
                               !(hf_map_group_members(&meta->map, oid->group) & bit))) {
            continue;
        }
        if (err) {
            return err;
        }
        before = row.lacking;
        row.lacking = lacks ? before | bit : HF_BUG(degraded_clear_all) ? 0 : before & ~bit;
        if (row.lacking == before) {
            continue;
        }
        err = lacking_change(meta, oid, before, row.lacking);
        if (!err) {
            err = object_put(meta, oid, &row);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int hf_meta_op_degraded_clear(struct hf_meta *meta, const struct hf_meta_op *op,
                              struct hf_meta_reply *reply)
{
    (void)reply;
    return degraded_set(meta, op, false);
}

int hf_meta_op_degraded_add(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply)
{
    (void)reply;
    return degraded_set(meta, op, true);
}

int hf_meta_op_objects_gone(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply)
{
    (void)reply;
    for (uint32_t i = 0; i < op->oid_count; i++) {
        struct hf_key key;
        bool dead;
        int err;

        hf_key_oid(&key, HF_ROW_DEAD, &op->oids[i]);
        err = hf_txn_exists(meta, &key, &dead);
        if (!err && dead) {
            meta->c.usage.dead--;
            err = hf_txn_del(meta, &key);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int hf_objects_forget_members(struct hf_meta *meta, uint16_t group, uint64_t nodes)
{
    for (uint64_t left = nodes; left; left &= left - 1) {
        const struct hf_node_id node = {(uint16_t)(__builtin_ctzll(left) + 1)};
        const struct hf_oid first = {.group = group};
        struct hf_table_cursor cursor;
        struct hf_key from;
        int err;

        hf_key_degraded(&from, node, &first);
        while ((err = hf_txn_seek(meta, &from, 5, &cursor)) == 0) {
            struct hf_row_object row;
            struct hf_oid oid;
            uint64_t before;

            if (cursor.key_len != 3 + HF_OID_BYTES) {
                return hf_txn_fail(meta, -EBADMSG);
            }
            oid = hf_oid_decode((const uint8_t *)cursor.key + 3);
            hf_key_after(&from, cursor.key, cursor.key_len);
            err = hf_objects_load(meta, &oid, &row);
            if (err) {
                return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
            }
            before = row.lacking;
            row.lacking &= ~hf_node_bit(node);
            err = lacking_change(meta, &oid, before, row.lacking);
            if (!err) {
                err = object_put(meta, &oid, &row);
            }
            if (err) {
                return err;
            }
        }
        if (err != -ENOENT) {
            return err;
        }
    }
    return 0;
}

int hf_objects_forget_session(struct hf_meta *meta, struct hf_session_id session)
{
    struct hf_key prefix;

    hf_key_u64(&prefix, HF_ROW_SEQS, session.v);
    return hf_txn_del_prefix(meta, &prefix);
}
