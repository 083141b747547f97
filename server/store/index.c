/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/log/log.h"

/* Per-segment sums */

static uint32_t lower_bound(const struct hf_store *store, uint64_t number)
{
    uint32_t lo = 0;
    uint32_t hi = store->segment_count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (store->segments[mid].number < number) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct hf_store_segment *hf_store_segment_find(struct hf_store *store, uint64_t number)
{
    uint32_t at = lower_bound(store, number);

    return at < store->segment_count && store->segments[at].number == number ? &store->segments[at]
                                                                             : NULL;
}

struct hf_store_segment *hf_store_segment_get(struct hf_store *store, uint64_t number)
{
    uint32_t at = lower_bound(store, number);

    if (at < store->segment_count && store->segments[at].number == number) {
        return &store->segments[at];
    }
    if (store->segment_count == store->segment_cap) {
        uint32_t cap = store->segment_cap ? store->segment_cap * 2 : 64;
        struct hf_store_segment *list = realloc(store->segments, cap * sizeof(*list));

        if (!list) {
            return NULL;
        }
        store->segments = list;
        store->segment_cap = cap;
    }
    memmove(&store->segments[at + 1], &store->segments[at],
            (store->segment_count - at) * sizeof(*store->segments));
    store->segments[at] = (struct hf_store_segment){.number = number};
    store->segment_count++;
    return &store->segments[at];
}

void hf_store_segment_forget(struct hf_store *store, uint64_t number)
{
    struct hf_store_segment *s = hf_store_segment_find(store, number);

    if (s) {
        HF_ASSERT((s->live_bytes == 0 && s->tombstones == 0) || HF_BUG(recycles_live));
        store->segment_count--;
        memmove(s, s + 1,
                (size_t)(&store->segments[store->segment_count] - s) * sizeof(*store->segments));
    }
}

uint64_t hf_store_record_bytes(const struct hf_store_row *row)
{
    return row->header_bytes + hf_blocks(row->len_bytes) * (uint64_t)HF_BLOCK_BYTES;
}

int hf_store_account(struct hf_store *store, const struct hf_store_row *row, int sign)
{
    struct hf_store_segment *s = hf_store_segment_get(store, row->segment);
    uint64_t n = sign > 0 ? 1 : UINT64_MAX; /* -1, modulo 2^64 */

    if (!s) {
        return -ENOMEM;
    }
    if (row->kind == HF_STORE_ROW_TOMBSTONE) {
        s->tombstones += n;
        return 0;
    }
    s->live_bytes += n * hf_store_record_bytes(row);
    store->stats.live_bytes += n * hf_store_record_bytes(row);
    store->stats.objects += n;
    if (row->flags & HF_STORE_ROW_QUARANTINED) {
        store->stats.quarantined += n;
    }
    return 0;
}

/* Rows */

int hf_store_row_get(struct hf_store *store, const struct hf_oid *oid, struct hf_store_row *ret)
{
    uint8_t key[HF_OID_BYTES];
    const void *value;
    size_t len;
    int err;

    hf_oid_encode(oid, key);
    err = hf_table_get(store->index, key, sizeof(key), &value, &len);
    if (!err) {
        err = hf_store_row_decode(value, len, ret);
    }
    return err;
}

/* The log has what the index could not take: the next start replays it. Until then no more puts. */
static int index_failed(struct hf_store *store, const struct hf_oid *oid, int err)
{
    char text[HF_OID_STR_MAX];

    store->index_failed = true;
    hf_log(HF_LOG_ERROR, "store", "index row failed",
           "oid=%s err=\"%s\" next=\"restart the node: it rebuilds the index\"",
           hf_oid_str(oid, text), hf_err_text(err));
    return err;
}

int hf_store_row_put(struct hf_store *store, const struct hf_oid *oid,
                     const struct hf_store_row *row)
{
    uint8_t key[HF_OID_BYTES];
    uint8_t value[sizeof(struct hf_store_row_disk)];
    struct hf_store_row old;
    int err = hf_store_row_get(store, oid, &old);
    bool had = err == 0;

    if (err && err != -ENOENT) {
        return index_failed(store, oid, err);
    }
    hf_oid_encode(oid, key);
    hf_store_row_encode(row, value);
    err = hf_store_account(store, row, 1);
    if (!err) {
        err = hf_table_put(store->index, key, sizeof(key), value, sizeof(value));
        if (err) {
            (void)hf_store_account(store, row, -1); /* its segment is there: cannot fail */
        }
    }
    if (err) {
        return index_failed(store, oid, err);
    }
    if (had) {
        (void)hf_store_account(store, &old, -1); /* as above */
    }
    return 0;
}

int hf_store_row_del(struct hf_store *store, const struct hf_oid *oid)
{
    uint8_t key[HF_OID_BYTES];
    struct hf_store_row old;
    int err = hf_store_row_get(store, oid, &old);

    if (err == -ENOENT) {
        return 0;
    }
    hf_oid_encode(oid, key);
    if (!err) {
        err = hf_table_del(store->index, key, sizeof(key));
    }
    if (err) {
        return index_failed(store, oid, err);
    }
    (void)hf_store_account(store, &old, -1); /* its segment is there: cannot fail */
    return 0;
}

int hf_store_apply_object(struct hf_store *store, const struct hf_store_object *object,
                          uint64_t seq, struct hf_seglog_pos pos, uint32_t header_bytes)
{
    struct hf_store_row row = {
        .kind = HF_STORE_ROW_OBJECT,
        .header_bytes = header_bytes,
        .len_bytes = object->len_bytes,
        .digest = object->digest,
        .segment = pos.segment,
        .off_bytes = pos.off_bytes,
        .seq = seq,
        .ref = object->origin,
    };

    return hf_store_row_put(store, &object->oid, &row);
}

int hf_store_apply_note(struct hf_store *store, const struct hf_store_note *note, uint64_t seq,
                        struct hf_seglog_pos pos, uint32_t header_bytes)
{
    struct hf_store_row row;
    int err;

    if (note->kind == HF_STORE_NOTE_DELETED) {
        row = (struct hf_store_row){
            .kind = HF_STORE_ROW_TOMBSTONE,
            .header_bytes = header_bytes,
            .segment = pos.segment,
            .off_bytes = pos.off_bytes,
            .seq = seq,
            .ref = note->segment,
        };
        return hf_store_row_put(store, &note->oid, &row);
    }
    err = hf_store_row_get(store, &note->oid, &row);
    if (err) {
        return err == -ENOENT ? 0 : index_failed(store, &note->oid, err);
    }
    if (row.kind != HF_STORE_ROW_OBJECT || row.segment != note->segment ||
        row.off_bytes != note->off_bytes || (row.flags & HF_STORE_ROW_QUARANTINED)) {
        return 0;
    }
    row.flags |= HF_STORE_ROW_QUARANTINED;
    return hf_store_row_put(store, &note->oid, &row);
}

/* In flight */

static struct hf_store_inflight **inflight_slot(struct hf_store *store, const struct hf_oid *oid)
{
    return &store->inflight[hf_oid_hash(oid) % HF_STORE_INFLIGHT_SLOTS];
}

struct hf_store_inflight *hf_store_inflight_find(struct hf_store *store, const struct hf_oid *oid)
{
    struct hf_store_inflight *in = *inflight_slot(store, oid);

    while (in && !hf_oid_equal(&in->oid, oid)) {
        in = in->next;
    }
    return in;
}

void hf_store_inflight_add(struct hf_store *store, struct hf_store_inflight *in)
{
    struct hf_store_inflight **slot = inflight_slot(store, &in->oid);

    HF_ASSERT(!hf_store_inflight_find(store, &in->oid));
    in->next = *slot;
    *slot = in;
    store->inflight_count++;
}

void hf_store_inflight_remove(struct hf_store *store, struct hf_store_inflight *in)
{
    struct hf_store_inflight **at = inflight_slot(store, &in->oid);

    while (*at != in) {
        at = &(*at)->next;
    }
    *at = in->next;
    store->inflight_count--;
}
