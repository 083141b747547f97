/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c - moving what lives out of one segment, a few records at a time.
 *
 *     pick ──► scan its records (worker) ──► read + verify a chunk (worker) ──► append copies ──┐
 *               ▲                                    ▲───────────────────────────────────────────┘
 *               │                             notes still needed: appended again
 *              tick                           nothing left ──► dying ──► checkpoint ──► dropped
 *
 * Why no crash point loses or revives an object: a copy comes later in the log than its original, a
 * tombstone later than every record of its object (a deletion waits for copies in flight), and
 * replay takes the last. A file goes only when the durable index names nothing in it. A tombstone
 * is kept as long as the segment of the record it buries exists; and a copy names the segment it
 * came from (`origin`), which must go before the copy's own segment may, so burying the last
 * record is burying them all.
 *
 * A copy that fails its check is quarantined and stays where it is: it pins its segment until it
 * is repaired or deleted.
 */
#include "server/store/background.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/log/log.h"

#define CHUNK_COPIES    32u
#define CHUNK_BYTES     (8ull << 20)
#define LOOKUPS_PER_RUN 512u /* index rows looked at before the loop gets a turn */
#define RETRY_NS        HF_NS_PER_SEC

struct object_item {
    struct hf_oid oid;
    uint64_t off_bytes;
    uint64_t origin;
};

struct note_item {
    struct hf_store_note note;
    uint64_t record_off; /* of its NOTES record */
};

struct copy {
    struct hf_seglog_append append;
    struct hf_store_inflight in;
    struct hf_store_compaction *owner;
    struct hf_store_row row; /* as read */
    struct hf_store_object object;
    struct hf_buf *buf;
    struct iovec iov;
    int err;
    uint8_t meta[HF_STORE_OBJECT_META_MAX];
};

struct hf_store_compaction {
    struct hf_store *store;
    uint64_t number;
    struct hf_seglog_segment *segment;
    struct hf_job job;
    struct hf_task task;
    struct object_item *items;
    uint32_t item_count, item_cap, item_at;
    struct note_item *notes;
    uint32_t note_count, note_cap, note_at;
    struct copy *copies; /* CHUNK_COPIES */
    uint32_t copy_count;
    uint32_t appends_left;
    int scan_err;
    bool no_verdict; /* the chunk could not be read for reasons of ours */
    bool incomplete;
    struct hf_seglog_append notes_append;
    struct note_item *moving; /* notes of the append in flight */
    uint32_t moving_count;
    uint8_t notes_meta[HF_STORE_NOTES_MAX * sizeof(struct hf_store_note_disk)];
};

static void step(struct hf_store_compaction *c);

/* Scanning, on the worker */

static int grow(void **array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count == *cap) {
        uint32_t more = *cap ? *cap * 2 : 256;
        void *p = realloc(*array, more * size);

        if (!p) {
            return -ENOMEM;
        }
        *array = p;
        *cap = more;
    }
    return 0;
}

static int scan_record(void *ctx, const struct hf_seglog_record *r)
{
    struct hf_store_compaction *c = ctx;
    uint32_t count = 0;

    if (r->type == HF_STORE_RECORD_OBJECT) {
        struct hf_store_object o;
        int err = hf_store_object_decode(r->meta, r->meta_have_bytes, r->meta_len_bytes,
                                         r->payload_len_bytes, &o, NULL);

        if (err) {
            return 0; /* written by a version that knows more; pins its segment if it is live */
        }
        err = grow((void **)&c->items, c->item_count, &c->item_cap, sizeof(*c->items));
        if (!err) {
            c->items[c->item_count++] = (struct object_item){
                .oid = o.oid, .off_bytes = r->pos.off_bytes, .origin = o.origin};
        }
        return err;
    }
    if (r->type != HF_STORE_RECORD_NOTES || r->meta_have_bytes < r->meta_len_bytes ||
        hf_store_notes_count(r->meta_len_bytes, &count) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct hf_store_note note;
        int err = grow((void **)&c->notes, c->note_count, &c->note_cap, sizeof(*c->notes));

        if (err) {
            return err;
        }
        if (hf_store_note_decode(r->meta + i * sizeof(struct hf_store_note_disk), &note) == 0) {
            c->notes[c->note_count++] =
                (struct note_item){.note = note, .record_off = r->pos.off_bytes};
        }
    }
    return 0;
}

static void scan_run(struct hf_job *job)
{
    struct hf_store_compaction *c = hf_container_of(job, struct hf_store_compaction, job);

    c->scan_err = hf_seglog_segment_scan(c->segment, scan_record, NULL, c);
}

/* Ending */

static void compaction_free(struct hf_store_compaction *c)
{
    free(c->items);
    free(c->notes);
    free(c->copies);
    free(c->moving);
    free(c);
}

static void finish(struct hf_store_compaction *c)
{
    struct hf_store *store = c->store;
    struct hf_store_segment *s = hf_store_segment_get(store, c->number);

    hf_seglog_segment_unref(store->log, c->segment);
    if (s && c->incomplete && !HF_BUG(recycles_live)) {
        s->retry_ns = hf_env_mono_ns(store->env) + RETRY_NS;
    } else if (s && ((s->live_bytes == 0 && s->tombstones == 0) || HF_BUG(recycles_live))) {
        s->dying = HF_STORE_DYING;
        store->checkpoint_wanted = true;
        store->stats.compacted_segments++;
    } else if (s) {
        s->pinned_live_bytes = s->live_bytes + s->tombstones;
        hf_log(HF_LOG_WARN, "store", "segment pinned",
               "segment=%llu bytes=%llu next=\"repair or delete its quarantined objects\"",
               (unsigned long long)c->number, (unsigned long long)s->live_bytes);
    }
    compaction_free(c);
    store->compaction = NULL;
    store->users--;
    hf_store_wake(store);
    hf_store_background_run(store);
}

static void give_up(struct hf_store_compaction *c)
{
    c->incomplete = true;
    finish(c);
}

/* The segment of an older copy goes first. */
static bool blocked(struct hf_store_compaction *c)
{
    for (uint32_t i = 0; i < c->item_count; i++) {
        uint64_t origin = c->items[i].origin;
        struct hf_store_segment *older;
        struct hf_store_segment *self;

        if (origin == 0 || origin == c->number || !hf_seglog_has_segment(c->store->log, origin)) {
            continue;
        }
        older = hf_store_segment_get(c->store, origin);
        self = hf_store_segment_get(c->store, c->number);
        if (older && self) {
            hf_store_segment_find(c->store, origin)->forced = true;
            hf_store_segment_find(c->store, c->number)->blocked_on = origin;
        }
        return true;
    }
    return false;
}

static void scan_done(struct hf_job *job)
{
    struct hf_store_compaction *c = hf_container_of(job, struct hf_store_compaction, job);

    if (c->scan_err || blocked(c)) {
        give_up(c);
        return;
    }
    step(c);
}

/* One chunk of objects */

static bool lives_here(struct hf_store_compaction *c, const struct hf_oid *oid, uint64_t off,
                       struct hf_store_row *ret)
{
    return hf_store_row_get(c->store, oid, ret) == 0 && ret->kind == HF_STORE_ROW_OBJECT &&
           ret->segment == c->number && ret->off_bytes == off;
}

static void chunk_run(struct hf_job *job)
{
    struct hf_store_compaction *c = hf_container_of(job, struct hf_store_compaction, job);
    uint64_t *sums = malloc(HF_OBJECT_BLOCKS_MAX * sizeof(*sums));
    struct hf_file *file = NULL;

    c->no_verdict = !sums || hf_seglog_segment_open_direct(c->segment, &file) != 0;
    for (uint32_t i = 0; !c->no_verdict && i < c->copy_count; i++) {
        struct copy *copy = &c->copies[i];

        copy->err =
            hf_file_read_full(file, copy->buf->data, (size_t)hf_store_record_bytes(&copy->row),
                              copy->row.off_bytes, NULL);
        if (!copy->err) {
            copy->err =
                hf_store_verify_copy(c->segment, &copy->in.oid, &copy->row, copy->buf->data, sums);
        }
        if (!copy->err) {
            copy->object = (struct hf_store_object){.oid = copy->in.oid,
                                                    .len_bytes = copy->row.len_bytes,
                                                    .digest = copy->row.digest,
                                                    .origin = c->number,
                                                    .sum_count = hf_blocks(copy->row.len_bytes)};
            copy->append.meta_len_bytes = hf_store_object_encode(&copy->object, sums, copy->meta);
        }
    }
    hf_file_close(file);
    free(sums);
}

static void copy_settled(struct hf_store_compaction *c)
{
    HF_ASSERT(c->appends_left > 0);
    if (--c->appends_left == 0) {
        c->copy_count = 0;
        if (c->incomplete) {
            finish(c);
        } else {
            step(c);
        }
    }
}

static void copy_appended(void *ctx, int err)
{
    struct copy *copy = ctx;
    struct hf_store_compaction *c = copy->owner;
    struct hf_store *store = c->store;
    struct hf_store_row row;

    hf_store_inflight_remove(store, &copy->in);
    store->pending_bytes -= copy->object.len_bytes;
    hf_buf_unref(copy->buf);
    if (err && !HF_BUG(failed_move_counts)) {
        c->incomplete = true;
    } else {
        if (lives_here(c, &copy->object.oid, copy->row.off_bytes, &row)) {
            (void)hf_store_apply_object(store, &copy->object, copy->append.seq, copy->append.pos,
                                        copy->append.header_bytes); /* index_failed says it */
        }
        if (!store->index_failed) {
            store->applied_seq = copy->append.seq;
        }
    }
    copy_settled(c);
    hf_store_unpark(store);
}

static void copy_append(struct copy *copy)
{
    struct hf_store_compaction *c = copy->owner;

    copy->iov = (struct iovec){.iov_base = copy->buf->data + copy->row.header_bytes,
                               .iov_len = copy->object.len_bytes};
    copy->append = (struct hf_seglog_append){
        .type = HF_STORE_RECORD_OBJECT,
        .aligned = true,
        .meta = copy->meta,
        .meta_len_bytes = copy->append.meta_len_bytes,
        .iov = &copy->iov,
        .iov_count = 1,
        .payload_len_bytes = copy->object.len_bytes,
        .done = copy_appended,
        .ctx = copy,
    };
    copy->in.kind = HF_STORE_IN_COPY;
    copy->in.owner = c;
    copy->in.followers = NULL;
    c->appends_left++;
    c->store->pending_bytes += copy->object.len_bytes;
    hf_store_inflight_add(c->store, &copy->in);
    hf_seglog_append(c->store->log, &copy->append);
}

static void chunk_done(struct hf_job *job)
{
    struct hf_store_compaction *c = hf_container_of(job, struct hf_store_compaction, job);

    c->appends_left = 1; /* ours, until all are started */
    for (uint32_t i = 0; i < c->copy_count; i++) {
        struct copy *copy = &c->copies[i];
        struct hf_store_row row = {0};

        if (!c->no_verdict && copy->err) {
            hf_store_quarantine(c->store, &copy->in.oid, &copy->row, copy->err);
        }
        if (c->no_verdict || hf_store_inflight_find(c->store, &copy->in.oid)) {
            c->incomplete = true;
        } else if (!copy->err &&
                   (lives_here(c, &copy->in.oid, copy->row.off_bytes, &row) ||
                    HF_BUG(copies_deleted)) &&
                   !(row.flags & HF_STORE_ROW_QUARANTINED)) {
            copy_append(copy);
            continue;
        }
        hf_buf_unref(copy->buf);
    }
    copy_settled(c);
}

/* Objects from item_at on that live here, as many as there is room, memory and patience for. */
static void gather_chunk(struct hf_store_compaction *c)
{
    uint64_t room = hf_store_room(c->store);
    uint64_t bytes = c->store->options.reserve_clean_bytes + c->store->pending_bytes;
    uint64_t full = bytes + CHUNK_BYTES;
    uint32_t lookups = 0;

    c->copy_count = 0;
    while (c->item_at < c->item_count && c->copy_count < CHUNK_COPIES && bytes < full &&
           lookups++ < LOOKUPS_PER_RUN) {
        struct object_item *item = &c->items[c->item_at];
        struct copy *copy = &c->copies[c->copy_count];
        struct hf_store_row row;

        if (!lives_here(c, &item->oid, item->off_bytes, &row) ||
            (row.flags & HF_STORE_ROW_QUARANTINED)) {
            c->item_at++;
            continue;
        }
        if (hf_store_inflight_find(c->store, &item->oid)) {
            c->incomplete = true;
            c->item_at++;
            continue;
        }
        bytes += hf_store_record_bytes(&row);
        copy->buf = bytes > room
                        ? NULL
                        : hf_buf_get(c->store->options.pool, (size_t)hf_store_record_bytes(&row));
        if (!copy->buf) {
            break;
        }
        copy->owner = c;
        copy->row = row;
        copy->in.oid = item->oid;
        copy->err = 0;
        c->copy_count++;
        c->item_at++;
    }
}

/* Notes */

/* A note that has to be written again; others are forgotten here. */
static bool note_needed(struct hf_store_compaction *c, const struct note_item *item)
{
    const struct hf_store_note *note = &item->note;
    bool exists = note->segment != c->number && hf_seglog_has_segment(c->store->log, note->segment);
    struct hf_store_row row;

    if (hf_store_row_get(c->store, &note->oid, &row) != 0) {
        return false;
    }
    if (note->kind == HF_STORE_NOTE_QUARANTINED) {
        return exists && row.kind == HF_STORE_ROW_OBJECT && row.segment == note->segment &&
               row.off_bytes == note->off_bytes && (row.flags & HF_STORE_ROW_QUARANTINED);
    }
    if (row.kind != HF_STORE_ROW_TOMBSTONE || row.segment != c->number ||
        row.off_bytes != item->record_off) {
        return false;
    }
    exists = exists && !HF_BUG(tombstone_lost);
    if (!exists) {
        (void)hf_store_row_del(c->store, &note->oid); /* index_failed says it */
    }
    return exists;
}

static void notes_moved(void *ctx, int err)
{
    struct hf_store_compaction *c = ctx;
    struct hf_store *store = c->store;

    for (uint32_t i = 0; !err && i < c->moving_count; i++) {
        const struct note_item *item = &c->moving[i];
        struct hf_store_row row;

        if (item->note.kind == HF_STORE_NOTE_DELETED &&
            hf_store_row_get(store, &item->note.oid, &row) == 0 &&
            row.kind == HF_STORE_ROW_TOMBSTONE && row.segment == c->number &&
            row.off_bytes == item->record_off) {
            (void)hf_store_apply_note(store, &item->note, c->notes_append.seq, c->notes_append.pos,
                                      c->notes_append.header_bytes);
        }
    }
    if (!err && !store->index_failed) {
        store->applied_seq = c->notes_append.seq;
    }
    if (err) {
        give_up(c);
        return;
    }
    step(c);
}

static void move_notes(struct hf_store_compaction *c)
{
    c->moving_count = 0;
    for (uint32_t lookups = 0; c->note_at < c->note_count && c->moving_count < HF_STORE_NOTES_MAX &&
                               lookups < LOOKUPS_PER_RUN;
         lookups++) {
        struct note_item *item = &c->notes[c->note_at++];

        if (note_needed(c, item)) {
            hf_store_note_encode(
                &item->note, c->notes_meta + c->moving_count * sizeof(struct hf_store_note_disk));
            c->moving[c->moving_count++] = *item;
        }
    }
    if (c->moving_count == 0) {
        hf_env_post(c->store->env, &c->task);
        return;
    }
    c->notes_append = (struct hf_seglog_append){
        .type = HF_STORE_RECORD_NOTES,
        .aligned = true,
        .meta = c->notes_meta,
        .meta_len_bytes = c->moving_count * (uint32_t)sizeof(struct hf_store_note_disk),
        .done = notes_moved,
        .ctx = c,
    };
    hf_seglog_append(c->store->log, &c->notes_append);
}

static void step(struct hf_store_compaction *c)
{
    struct hf_store *store = c->store;

    if (store->closing || store->index_failed || hf_seglog_broken(store->log)) {
        give_up(c);
        return;
    }
    if (c->item_at < c->item_count) {
        uint32_t before = c->item_at;

        gather_chunk(c);
        if (c->copy_count > 0) {
            c->job = (struct hf_job){.run = chunk_run, .done = chunk_done};
            hf_env_submit(store->env, HF_POOL_DISK, &c->job);
        } else if (c->item_at == before) {
            give_up(c); /* no buffer, no space */
        } else {
            hf_env_post(store->env, &c->task);
        }
        return;
    }
    if (c->note_at < c->note_count) {
        move_notes(c);
        return;
    }
    finish(c);
}

static void step_run(struct hf_task *task)
{
    step(hf_container_of(task, struct hf_store_compaction, task));
}

void hf_store_compaction_start(struct hf_store *store, uint64_t number)
{
    struct hf_store_compaction *c = calloc(1, sizeof(*c));

    if (c) {
        c->copies = calloc(CHUNK_COPIES, sizeof(*c->copies));
        c->moving = calloc(HF_STORE_NOTES_MAX, sizeof(*c->moving));
        c->segment = hf_seglog_segment_ref(store->log, number);
    }
    if (!c || !c->copies || !c->moving || !c->segment) {
        if (c && c->segment) {
            hf_seglog_segment_unref(store->log, c->segment);
        }
        if (c) {
            compaction_free(c);
        }
        return;
    }
    c->store = store;
    c->number = number;
    c->task.fn = step_run;
    store->compaction = c;
    store->users++;
    c->job = (struct hf_job){.run = scan_run, .done = scan_done};
    hf_env_submit(store->env, HF_POOL_DISK, &c->job);
}
