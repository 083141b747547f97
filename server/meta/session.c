/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/session.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "server/meta/lock.h"
#include "server/meta/objects.h"
#include "server/meta/orphan.h"

#define TTL_DEFAULT_NS (30 * HF_NS_PER_SEC)

/* Streams in memory, ascending by session */

static uint32_t stream_place(const struct hf_meta *meta, struct hf_session_id id)
{
    uint32_t low = 0, high = meta->stream_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (meta->streams[mid].session.v >= id.v) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

struct hf_stream_state *hf_session_stream(const struct hf_meta *meta, struct hf_session_id id)
{
    uint32_t at = stream_place(meta, id);

    return at < meta->stream_count && meta->streams[at].session.v == id.v ? &meta->streams[at]
                                                                          : NULL;
}

static int stream_add(struct hf_meta *meta, struct hf_session_id id)
{
    if (meta->stream_count == meta->stream_cap) {
        uint32_t cap = meta->stream_cap ? meta->stream_cap * 2 : 16;
        struct hf_stream_state *streams = realloc(meta->streams, cap * sizeof(*streams));

        if (!streams) {
            return hf_txn_fail(meta, -ENOMEM);
        }
        meta->streams = streams;
        meta->stream_cap = cap;
    }
    HF_ASSERT(!meta->stream_count || meta->streams[meta->stream_count - 1].session.v < id.v);
    meta->streams[meta->stream_count++] = (struct hf_stream_state){.session = id, .low = 1};
    return 0;
}

static void stream_remove(struct hf_meta *meta, struct hf_session_id id)
{
    uint32_t at = stream_place(meta, id);

    memmove(meta->streams + at, meta->streams + at + 1,
            (meta->stream_count - at - 1) * sizeof(*meta->streams));
    meta->stream_count--;
}

/* Where the results of @state begin and end. */
static int stream_load(struct hf_meta *meta, struct hf_stream_state *state)
{
    struct hf_table_cursor cursor;
    struct hf_key key;
    int err;

    hf_key_u64(&key, HF_ROW_RESULT, state->session.v);
    for (err = hf_txn_seek(meta, &key, 9, &cursor); !err;
         err = hf_txn_next(meta, &key, 9, &cursor)) {
        uint64_t stream;

        if (cursor.key_len != 17) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        stream = hf_get_be64((const uint8_t *)cursor.key + 9);
        if (HF_BUG(last_forgotten) && state->last) {
            break;
        }
        if (!state->last) {
            state->low = stream;
        } else if (stream != state->last + 1) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        state->last = stream;
    }
    return err == -ENOENT ? 0 : err;
}

int hf_session_load_all(struct hf_meta *meta)
{
    struct hf_key key;
    struct hf_table_cursor cursor;
    int err;

    hf_key_tag(&key, HF_ROW_SESSION);
    for (err = hf_txn_seek(meta, &key, 1, &cursor); !err;
         err = hf_txn_next(meta, &key, 1, &cursor)) {
        if (cursor.key_len != 9) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        err =
            stream_add(meta, (struct hf_session_id){hf_get_be64((const uint8_t *)cursor.key + 1)});
        if (err) {
            return err;
        }
    }
    for (uint32_t i = 0; err == -ENOENT && i < meta->stream_count; i++) {
        int e = stream_load(meta, &meta->streams[i]);

        err = e ? e : err;
    }
    return err == -ENOENT ? 0 : err;
}

/* Results */

int hf_session_result(struct hf_meta *meta, const struct hf_stream_state *state, uint64_t stream,
                      struct hf_meta_reply *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    if (stream < state->low) {
        return -HF_EFENCED;
    }
    hf_key_u64_u64(&key, HF_ROW_RESULT, state->session.v, stream);
    err = hf_txn_get(meta, &key, &value, &len);
    if (!err) {
        err = hf_row_result_decode(value, len, ret);
    }
    if (!err && ret->bulk_len) {
        memcpy(meta->target, ret->bulk, ret->bulk_len);
        ret->bulk = meta->target; /* the row may go with the next entry */
    }
    return err ? hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err) : 0;
}

int hf_session_store_result(struct hf_meta *meta, struct hf_stream_state *state, uint64_t acked,
                            const struct hf_meta_reply *reply)
{
    uint8_t value[HF_ROW_RESULT_MAX];
    size_t len = hf_row_result_encode(reply, value);
    struct hf_key key;
    int err;

    HF_ASSERT(!meta->in_txn);
    state->last++;
    hf_key_u64_u64(&key, HF_ROW_RESULT, state->session.v, state->last);
    err = hf_txn_put(meta, &key, value, len);
    while (!err && state->low < state->last &&
           (state->low <= acked ||
            state->last - state->low >= (HF_BUG(results_of_few) ? 4 : HF_STREAM_WINDOW))) {
        hf_key_u64_u64(&key, HF_ROW_RESULT, state->session.v, state->low);
        err = hf_txn_del(meta, &key);
        state->low++;
    }
    return err;
}

/* Inode numbers */

static int grant_inos(struct hf_meta *meta, struct hf_session_id session, uint64_t count,
                      struct hf_meta_reply *reply)
{
    uint8_t value[HF_ROW_BITMAP_BYTES];
    struct hf_bitmap all;
    uint64_t first = meta->c.next_ino;

    memset(all.b, 0xff, sizeof(all.b));
    hf_row_bitmap_encode(&all, value);
    for (uint64_t at = 0; at < count; at += HF_BITMAP_BITS) {
        struct hf_key key;
        int err;

        hf_key_u64_u64(&key, HF_ROW_INOS, session.v, (first + at) / HF_BITMAP_BITS);
        err = hf_txn_put(meta, &key, value, sizeof(value));
        if (err) {
            return err;
        }
    }
    meta->c.next_ino += count;
    reply->first_ino.v = first;
    reply->ino_count = count;
    return 0;
}

int hf_session_use_ino(struct hf_meta *meta, struct hf_session_id session, struct hf_ino ino)
{
    uint8_t value[HF_ROW_BITMAP_BYTES];
    struct hf_bitmap left;
    struct hf_key key;
    const void *old;
    size_t len;
    int err;

    hf_key_u64_u64(&key, HF_ROW_INOS, session.v, ino.v / HF_BITMAP_BITS);
    err = hf_txn_get(meta, &key, &old, &len);
    if (err) {
        return err == -ENOENT ? -EINVAL : err;
    }
    err = hf_row_bitmap_decode(old, len, &left);
    if (err) {
        return hf_txn_fail(meta, err);
    }
    if (!hf_bitmap_test(&left, ino.v)) {
        return -EINVAL;
    }
    hf_bitmap_flip(&left, ino.v);
    if (hf_bitmap_is_zero(&left)) {
        return hf_txn_del(meta, &key);
    }
    hf_row_bitmap_encode(&left, value);
    return hf_txn_put(meta, &key, value, sizeof(value));
}

int hf_meta_op_ino_range(struct hf_meta *meta, const struct hf_meta_op *op,
                         struct hf_meta_reply *reply)
{
    uint64_t count = op->count;

    if (count == 0 || count > HF_SESSION_INOS_GRANT_MAX) {
        return -EINVAL;
    }
    count = (count + HF_BITMAP_BITS - 1) / HF_BITMAP_BITS * HF_BITMAP_BITS;
    return grant_inos(meta, op->session, count, reply);
}

/* Open */

static int session_row_load(struct hf_meta *meta, struct hf_session_id id,
                            struct hf_row_session *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_key_u64(&key, HF_ROW_SESSION, id.v);
    err = hf_txn_get(meta, &key, &value, &len);
    if (!err) {
        err = hf_row_session_decode(value, len, ret);
    }
    return err ? hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err) : 0;
}

static void uuid_key(struct hf_key *ret, const struct hf_uuid *uuid)
{
    hf_key_tag(ret, HF_ROW_SESSION_UUID);
    hf_key_add_bytes(ret, uuid->b, sizeof(uuid->b));
}

/* The session this mount has already. Errors: -ENOENT. */
static int find_by_uuid(struct hf_meta *meta, const struct hf_uuid *uuid, struct hf_session_id *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    uuid_key(&key, uuid);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err;
    }
    if (len != HF_ROW_SESSION_UUID_SIZE || *(const uint8_t *)value != HF_ROW_VERSION) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    ret->v = hf_get_le64((const uint8_t *)value + 8);
    return 0;
}

static int session_new(struct hf_meta *meta, const struct hf_meta_op *op,
                       struct hf_meta_reply *reply)
{
    const struct hf_session_id id = {meta->c.next_session++};
    uint8_t value[HF_ROW_SESSION_HEAD + 64], uuid_value[HF_ROW_SESSION_UUID_SIZE] = {0};
    struct hf_row_session row = {
        .uuid = op->uuid,
        .ttl_ns = op->ttl_ns ? op->ttl_ns : TTL_DEFAULT_NS,
        .opened_ns = meta->entry->time_ns,
    };
    struct hf_key key;
    int err = grant_inos(meta, id, HF_SESSION_INOS, reply);

    if (err) {
        return err;
    }
    row.first_ino = reply->first_ino;
    row.ino_count = reply->ino_count;
    if (op->text) {
        memcpy(row.name, op->text, strnlen(op->text, sizeof(row.name) - 1));
    }
    hf_key_u64(&key, HF_ROW_SESSION, id.v);
    err = hf_txn_put(meta, &key, value, hf_row_session_encode(&row, value));
    if (!err) {
        uuid_key(&key, &op->uuid);
        uuid_value[0] = HF_ROW_VERSION;
        hf_put_le64(uuid_value + 8, id.v);
        err = hf_txn_put(meta, &key, uuid_value, sizeof(uuid_value));
    }
    if (!err) {
        err = stream_add(meta, id);
    }
    meta->c.usage.sessions++;
    reply->session = id;
    reply->ttl_ns = row.ttl_ns;
    return err;
}

int hf_meta_op_session_open(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply)
{
    struct hf_session_id id = {0};
    struct hf_row_session row;
    int err;

    if (hf_uuid_is_zero(&op->uuid)) {
        return -EINVAL;
    }
    err = find_by_uuid(meta, &op->uuid, &id);
    if (err) {
        return err == -ENOENT ? session_new(meta, op, reply) : err;
    }
    err = session_row_load(meta, id, &row);
    if (err) {
        return err;
    }
    reply->session = id;
    reply->ttl_ns = row.ttl_ns;
    reply->first_ino = row.first_ino;
    reply->ino_count = row.ino_count;
    return 0;
}

/* End */

int hf_meta_op_session_end(struct hf_meta *meta, const struct hf_meta_op *op,
                           struct hf_meta_reply *reply)
{
    static const enum hf_row prefixes[] = {HF_ROW_RESULT, HF_ROW_INOS};
    struct hf_row_session row;
    struct hf_key key;
    int err;

    (void)reply;
    if (!hf_session_stream(meta, op->session)) {
        return -HF_EFENCED;
    }
    err = session_row_load(meta, op->session, &row);
    if (!err) {
        err = hf_lock_forget_session(meta, op->session);
    }
    if (!err) {
        err = hf_orphan_release_all(meta, op->session);
    }
    if (!err) {
        err = hf_objects_forget_session(meta, op->session);
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(prefixes) && !err; i++) {
        hf_key_u64(&key, prefixes[i], op->session.v);
        err = hf_txn_del_prefix(meta, &key);
    }
    if (!err) {
        uuid_key(&key, &row.uuid);
        err = hf_txn_del(meta, &key);
    }
    if (!err) {
        hf_key_u64(&key, HF_ROW_SESSION, op->session.v);
        err = hf_txn_del(meta, &key);
    }
    if (!err) {
        stream_remove(meta, op->session);
        meta->c.usage.sessions--;
        meta->c.next_session -= HF_BUG(session_id_reused) && op->op == HF_OP_SESSION_EVICT &&
                                op->session.v + 1 == meta->c.next_session;
    }
    return err;
}
