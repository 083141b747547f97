/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing.c - what the leader's background work looks for (the second half of state.h).
 */
#include <errno.h>

#include "server/meta/objects.h"
#include "server/meta/session.h"
#include "server/meta/state.h"
#include "server/meta/txn.h"

/* From the row after @from's position: @from holds the position's key, @prefix bytes count. */
static int seek_after(struct hf_meta *meta, struct hf_key *from, size_t prefix,
                      struct hf_table_cursor *ret)
{
    hf_key_after(from, from->b, from->len);
    return hf_txn_seek(meta, from, prefix, ret);
}

static uint64_t key_u64(const struct hf_table_cursor *cursor, size_t at)
{
    return cursor->key_len >= at + 8 ? hf_get_be64((const uint8_t *)cursor->key + at) : 0;
}

bool hf_meta_session_live(struct hf_meta *meta, struct hf_session_id id)
{
    return hf_session_stream(meta, id) != NULL;
}

uint32_t hf_meta_sessions(struct hf_meta *meta, struct hf_session_id after,
                          struct hf_meta_session *ret, uint32_t max)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < meta->stream_count && count < max; i++) {
        const struct hf_stream_state *state = &meta->streams[i];
        struct hf_row_session row;
        struct hf_key key;
        const void *value;
        size_t len;

        if (state->session.v <= after.v) {
            continue;
        }
        hf_key_u64(&key, HF_ROW_SESSION, state->session.v);
        if (hf_txn_get(meta, &key, &value, &len) || hf_row_session_decode(value, len, &row)) {
            (void)hf_txn_fail(meta, -EBADMSG);
            break;
        }
        ret[count] = (struct hf_meta_session){
            .id = state->session,
            .ttl_ns = row.ttl_ns,
            .opened_ns = row.opened_ns,
            .last_stream = state->last,
        };
        memcpy(ret[count].name, row.name, sizeof(row.name));
        count++;
    }
    return count;
}

uint32_t hf_meta_purgeable(struct hf_meta *meta, struct hf_ino after, struct hf_ino *ret,
                           uint32_t max)
{
    struct hf_table_cursor cursor;
    struct hf_key from;
    uint32_t count = 0;
    int err;

    hf_key_u64(&from, HF_ROW_PURGE, after.v);
    for (err = max ? seek_after(meta, &from, 1, &cursor) : -ENOENT; !err && count < max;
         err = hf_txn_next(meta, &from, 1, &cursor)) {
        ret[count++].v = key_u64(&cursor, 1);
    }
    return count;
}

uint32_t hf_meta_orphans(struct hf_meta *meta, struct hf_ino after_ino,
                         struct hf_session_id after_holder, struct hf_ino *ret_inos,
                         struct hf_session_id *ret_holders, uint32_t max)
{
    struct hf_table_cursor cursor;
    struct hf_key from;
    uint32_t count = 0;
    int err;

    hf_key_u64_u64(&from, HF_ROW_ORPHAN, after_ino.v, after_holder.v);
    for (err = max ? seek_after(meta, &from, 1, &cursor) : -ENOENT; !err && count < max;
         err = hf_txn_next(meta, &from, 1, &cursor)) {
        ret_inos[count].v = key_u64(&cursor, 1);
        ret_holders[count++].v = key_u64(&cursor, 9);
    }
    return count;
}

int hf_meta_object(struct hf_meta *meta, const struct hf_oid *oid, struct hf_meta_object *ret)
{
    struct hf_row_object row;
    int err = hf_objects_load(meta, oid, &row);

    if (err) {
        return err;
    }
    *ret = (struct hf_meta_object){
        .oid = *oid,
        .len_bytes = row.len_bytes,
        .live_bytes = row.live_bytes < UINT32_MAX ? (uint32_t)row.live_bytes : UINT32_MAX,
        .digest = row.digest,
    };
    return 0;
}

uint32_t hf_meta_objects(struct hf_meta *meta, uint16_t group, const struct hf_oid *after,
                         struct hf_meta_object *ret, uint32_t max)
{
    struct hf_table_cursor cursor;
    struct hf_key from;
    uint32_t count = 0;
    int err;

    hf_key_tag(&from, HF_ROW_OBJECT);
    hf_key_add_u16(&from, group);
    if (after) {
        hf_key_oid(&from, HF_ROW_OBJECT, after);
    }
    for (err = max ? seek_after(meta, &from, 3, &cursor) : -ENOENT; !err && count < max;
         err = hf_txn_next(meta, &from, 3, &cursor)) {
        struct hf_row_object row;

        if (cursor.key_len != 1 + HF_OID_BYTES ||
            hf_row_object_decode(cursor.value, cursor.value_len, &row)) {
            (void)hf_txn_fail(meta, -EBADMSG);
            break;
        }
        ret[count++] = (struct hf_meta_object){
            .oid = hf_oid_decode((const uint8_t *)cursor.key + 1),
            .len_bytes = row.len_bytes,
            .live_bytes = row.live_bytes < UINT32_MAX ? (uint32_t)row.live_bytes : UINT32_MAX,
            .digest = row.digest,
        };
    }
    return count;
}

/* Object ids at the end of keys, from after @from on. */
static uint32_t list_oids(struct hf_meta *meta, struct hf_key *from, size_t prefix,
                          struct hf_oid *ret, uint32_t max)
{
    struct hf_table_cursor cursor;
    uint32_t count = 0;
    int err;

    for (err = max ? seek_after(meta, from, prefix, &cursor) : -ENOENT; !err && count < max;
         err = hf_txn_next(meta, from, prefix, &cursor)) {
        if (cursor.key_len != prefix + HF_OID_BYTES) {
            (void)hf_txn_fail(meta, -EBADMSG);
            break;
        }
        ret[count++] = hf_oid_decode((const uint8_t *)cursor.key + prefix);
    }
    return count;
}

uint32_t hf_meta_dead(struct hf_meta *meta, const struct hf_oid *after, struct hf_oid *ret,
                      uint32_t max)
{
    struct hf_key from;

    hf_key_tag(&from, HF_ROW_DEAD);
    if (after) {
        hf_key_add_oid(&from, after);
    }
    return list_oids(meta, &from, 1, ret, max);
}

uint32_t hf_meta_degraded(struct hf_meta *meta, struct hf_node_id node, const struct hf_oid *after,
                          struct hf_oid *ret, uint32_t max)
{
    struct hf_key from;

    hf_key_tag(&from, HF_ROW_DEGRADED);
    hf_key_add_u16(&from, node.v);
    if (after) {
        hf_key_add_oid(&from, after);
    }
    return list_oids(meta, &from, 3, ret, max);
}

bool hf_meta_is_degraded(struct hf_meta *meta, struct hf_node_id node, const struct hf_oid *oid)
{
    struct hf_key key;
    bool there;

    hf_key_degraded(&key, node, oid);
    return !hf_txn_exists(meta, &key, &there) && there;
}
