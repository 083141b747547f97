/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/err.h"

const struct hf_store_identity *hf_store_identity(const struct hf_store *store)
{
    return &store->identity;
}

bool hf_store_idle(const struct hf_store *store)
{
    return store->users == 0 && !store->parked && hf_seglog_idle(store->log);
}

/* Space */

/* Free on the disk now: the last look, less what the log's files have grown since. */
static uint64_t disk_free(const struct hf_store *store, uint64_t file_bytes)
{
    uint64_t grown =
        file_bytes > store->space_file_bytes ? file_bytes - store->space_file_bytes : 0;
    uint64_t shrunk =
        file_bytes < store->space_file_bytes ? store->space_file_bytes - file_bytes : 0;

    return store->space.free_bytes + shrunk > grown ? store->space.free_bytes + shrunk - grown : 0;
}

/* What new files may still take; files are whole segments. */
static uint64_t growth(const struct hf_store *store, const struct hf_seglog_stats *stats)
{
    uint64_t disk = disk_free(store, stats->file_bytes);
    uint64_t cap = store->options.capacity_bytes;

    if (cap > 0) {
        cap = cap > stats->file_bytes ? cap - stats->file_bytes : 0;
        disk = cap < disk ? cap : disk;
    }
    return disk / store->options.segment_bytes * store->options.segment_bytes;
}

/* Of new segments: spares and new files, as far as there may be so many. */
static uint64_t fresh_bytes(const struct hf_store *store, const struct hf_seglog_stats *stats)
{
    uint64_t bytes = growth(store, stats) + stats->spare_bytes;
    uint64_t max = store->options.segments_max;
    uint64_t left = max > stats->segments ? max - stats->segments : 0;

    return max > 0 && left < bytes / store->options.segment_bytes
               ? left * store->options.segment_bytes
               : bytes;
}

uint64_t hf_store_room(const struct hf_store *store)
{
    struct hf_seglog_stats stats;

    hf_seglog_stats(store->log, &stats);
    return fresh_bytes(store, &stats) + stats.open_room_bytes;
}

/*
 * Of @bytes of whole segments, what objects can take for sure: at the end of each there may be too
 * little for the next one.
 */
static uint64_t storable(const struct hf_store *store, uint64_t bytes)
{
    uint64_t segment = store->options.segment_bytes;
    uint64_t tail = HF_OBJECT_BYTES_MAX + HF_STORE_TAIL_BYTES;

    return bytes / segment * (segment > 2 * tail ? segment - tail : segment);
}

struct dead {
    struct hf_store *store;
    uint64_t bytes;
};

static void add_dead(void *ctx, const struct hf_seglog_segment_info *info)
{
    struct dead *dead = ctx;
    const struct hf_store_segment *s = hf_store_segment_find(dead->store, info->number);
    uint64_t live = s ? s->live_bytes : 0;

    uint64_t holds = storable(dead->store, info->file_bytes);

    /* A segment that is nearly all alive is not compacted for the little that is dead. */
    if (info->state != HF_SEGMENT_OPEN && info->state != HF_SEGMENT_ROTTEN && holds > live &&
        live <= info->end_bytes / 10 * 9) {
        dead->bytes += holds - live;
    }
}

static enum hf_store_state state_of(const struct hf_store *store)
{
    if (store->index_failed || hf_seglog_broken(store->log)) {
        return HF_STORE_READ_ONLY;
    }
    return hf_store_room(store) < store->options.reserve_put_bytes ? HF_STORE_FULL : HF_STORE_OK;
}

void hf_store_stats(struct hf_store *store, struct hf_store_stats *ret)
{
    struct hf_seglog_stats log;
    struct dead dead = {.store = store};
    uint64_t usable;

    hf_assert_loop(store->env);
    hf_seglog_stats(store->log, &log);
    hf_seglog_segments(store->log, add_dead, &dead);
    *ret = store->stats;
    ret->state = state_of(store);
    ret->segments = log.segments;
    ret->syncs = log.syncs;
    ret->capacity_bytes = fresh_bytes(store, &log) + log.file_bytes - log.spare_bytes;
    usable = storable(store, fresh_bytes(store, &log)) + log.open_room_bytes + dead.bytes;
    ret->free_bytes =
        usable > store->options.reserve_put_bytes ? usable - store->options.reserve_put_bytes : 0;
}

/* Looking */

static void entry_of(const struct hf_oid *oid, const struct hf_store_row *row,
                     struct hf_store_entry *ret)
{
    *ret = (struct hf_store_entry){
        .oid = *oid,
        .len_bytes = row->len_bytes,
        .digest = row->digest,
        .quarantined = (row->flags & HF_STORE_ROW_QUARANTINED) != 0,
    };
}

int hf_store_list(struct hf_store *store, uint16_t group, const struct hf_oid *after,
                  struct hf_store_entry *ret, uint32_t max, uint32_t *ret_count)
{
    struct hf_oid first = {.group = group};
    uint8_t key[HF_OID_BYTES + 1] = {0}; /* with its zero byte: just behind @after */
    struct hf_table_cursor cursor;
    uint32_t count = 0;
    int err;

    hf_assert_loop(store->env);
    hf_oid_encode(after ? after : &first, key);
    err = hf_table_seek(store->index, key, after ? sizeof(key) : HF_OID_BYTES, &cursor);
    while (!err && count < max) {
        struct hf_store_row row;
        struct hf_oid oid;

        if (cursor.key_len != HF_OID_BYTES) {
            return -EBADMSG;
        }
        oid = hf_oid_decode(cursor.key);
        if (oid.group != group) {
            break;
        }
        err = hf_store_row_decode(cursor.value, cursor.value_len, &row);
        if (!err && row.kind == HF_STORE_ROW_OBJECT) {
            entry_of(&oid, &row, &ret[count++]);
        }
        if (!err && count < max) {
            err = hf_table_next(&cursor);
        }
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

int hf_store_lookup(struct hf_store *store, const struct hf_oid *oid, struct hf_store_entry *ret)
{
    struct hf_store_row row;
    int err = hf_store_row_get(store, oid, &row);

    if (err == -ENOENT || (!err && row.kind == HF_STORE_ROW_TOMBSTONE)) {
        return -HF_ENOOBJECT;
    }
    if (!err) {
        entry_of(oid, &row, ret);
    }
    return err;
}

/* Recount everything that is kept as a sum. */
void hf_store_check_invariants(struct hf_store *store)
{
    static const uint8_t lowest[1] = {0};
    uint64_t objects = 0, live = 0, quarantined = 0, tombstones = 0, sum = 0, sum_tombstones = 0;
    struct hf_table_cursor cursor;
    int err;

    hf_seglog_check_invariants(store->log);
    if (store->index_failed) {
        return;
    }
    err = hf_table_seek(store->index, lowest, sizeof(lowest), &cursor);
    while (!err) {
        struct hf_store_row row;

        HF_ASSERT(cursor.key_len == HF_OID_BYTES);
        HF_ASSERT(hf_store_row_decode(cursor.value, cursor.value_len, &row) == 0);
        HF_ASSERT(row.seq <= store->applied_seq || (row.flags & HF_STORE_ROW_QUARANTINED));
        HF_ASSERT(hf_seglog_has_segment(store->log, row.segment) ||
                  (row.flags & HF_STORE_ROW_QUARANTINED) || row.kind == HF_STORE_ROW_TOMBSTONE);
        if (row.kind == HF_STORE_ROW_OBJECT) {
            objects++;
            live += hf_store_record_bytes(&row);
            quarantined += row.flags & HF_STORE_ROW_QUARANTINED ? 1 : 0;
        } else {
            tombstones++;
        }
        err = hf_table_next(&cursor);
    }
    HF_ASSERT(err == -ENOENT);
    for (uint32_t i = 0; i < store->segment_count; i++) {
        sum += store->segments[i].live_bytes;
        sum_tombstones += store->segments[i].tombstones;
    }
    HF_ASSERT(objects == store->stats.objects && quarantined == store->stats.quarantined);
    HF_ASSERT(live == store->stats.live_bytes && live == sum && tombstones == sum_tombstones);
    HF_ASSERT(store->applied_seq <= hf_seglog_synced_seq(store->log));
}
