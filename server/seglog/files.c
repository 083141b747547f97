/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.c - what happens to whole files: spares prepared and taken, segments looked at, held,
 * dropped and recycled.
 */
#include "server/seglog/seglog_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* Spares */

int hf_seglog_add_spare(struct hf_seglog *log, const char *name)
{
    if (log->spare_count == log->spare_cap) {
        uint32_t cap = log->spare_cap ? log->spare_cap * 2 : 8;
        struct hf_seglog_spare *list = realloc(log->spares, cap * sizeof(*list));

        if (!list) {
            return -ENOMEM;
        }
        log->spares = list;
        log->spare_cap = cap;
    }
    (void)snprintf(log->spares[log->spare_count].name, HF_SEGMENT_NAME_MAX, "%s", name);
    log->spare_count++;
    return 0;
}

bool hf_seglog_take_spare(struct hf_seglog *log, struct hf_seglog_spare *ret)
{
    if (log->spare_count == 0) {
        return false;
    }
    *ret = log->spares[--log->spare_count];
    return true;
}

static void prepare_run(struct hf_job *job)
{
    struct hf_seglog *log = hf_container_of(job, struct hf_seglog, prepare_job);

    log->prepare_err = hf_segment_prepare_spare(log->disk, log->dir, log->prepare_spare.name,
                                                log->options.segment_bytes, log->options.prezero);
}

static void prepare_done(struct hf_job *job)
{
    struct hf_seglog *log = hf_container_of(job, struct hf_seglog, prepare_job);

    log->prepare_running = false;
    if (log->prepare_err) {
        log->prepare_failed = true; /* until a segment is opened: that one reports */
        return;
    }
    if (hf_seglog_add_spare(log, log->prepare_spare.name) == 0) {
        hf_seglog_want_spares(log);
    }
}

void hf_seglog_want_spares(struct hf_seglog *log)
{
    if (!log->options.prezero || log->prepare_running || log->prepare_failed ||
        log->spare_count >= log->options.spares || log->closing || hf_seglog_broken(log)) {
        return;
    }
    (void)snprintf(log->prepare_spare.name, HF_SEGMENT_NAME_MAX, "%010" PRIu64 ".free",
                   log->next_number++);
    log->prepare_running = true;
    log->prepare_job = (struct hf_job){.run = prepare_run, .done = prepare_done};
    hf_env_submit(log->env, HF_POOL_DISK, &log->prepare_job);
}

/* Holding */

struct hf_seglog_segment *hf_seglog_segment_ref(struct hf_seglog *log, uint64_t number)
{
    struct hf_seglog_segment *s = hf_seglog_find(log, number);

    if (!s || s->dropping) {
        return NULL;
    }
    s->refs++;
    return s;
}

static void drop_start(struct hf_seglog *log, struct hf_seglog_drop *op);

void hf_seglog_segment_unref(struct hf_seglog *log, struct hf_seglog_segment *segment)
{
    HF_ASSERT(segment->refs > 0);
    segment->refs--;
    if (segment->refs == 0 && segment->drop) {
        drop_start(log, segment->drop);
    }
}

struct hf_file *hf_seglog_segment_file(const struct hf_seglog_segment *segment)
{
    return segment->reader;
}

int hf_seglog_segment_open_direct(const struct hf_seglog_segment *segment, struct hf_file **ret)
{
    return hf_disk_open(segment->disk, segment->path, HF_FILE_READ_ONLY | HF_FILE_DIRECT, ret);
}

/* Dropping */

/* Of an earlier attempt, which may have renamed the file or unlinked it before it failed. */
static int unlink_whatever_is_left(struct hf_disk *disk, const char *path, const char *spare)
{
    int err = hf_disk_unlink(disk, path);

    err = err == -ENOENT ? hf_disk_unlink(disk, spare) : err;
    return err == -ENOENT ? 0 : err;
}

static void drop_run(struct hf_job *job)
{
    struct hf_seglog_drop *op = hf_container_of(job, struct hf_seglog_drop, job);
    struct hf_seglog *log = op->log;
    const char *path = op->target->path;
    char *spare = NULL;
    int err;

    if (asprintf(&spare, "%s/%010" PRIu64 ".free", log->dir, op->number) < 0) {
        op->err = -ENOMEM;
        return;
    }
    if (op->target->drop_failed) {
        err = unlink_whatever_is_left(log->disk, path, spare);
    } else {
        err = op->reuse ? hf_disk_rename(log->disk, path, spare) : hf_disk_unlink(log->disk, path);
    }
    free(spare);
    op->err = err ? err : hf_disk_sync_dir(log->disk, log->dir);
}

static void drop_done(struct hf_job *job)
{
    struct hf_seglog_drop *op = hf_container_of(job, struct hf_seglog_drop, job);
    struct hf_seglog *log = op->log;

    log->drops_running--;
    log->drops_reusing -= op->reuse ? 1 : 0;
    if (!op->err) {
        char name[HF_SEGMENT_NAME_MAX];

        hf_seglog_remove(log, op->target);
        hf_segment_free(op->target);
        (void)snprintf(name, sizeof(name), "%010" PRIu64 ".free", op->number);
        if (op->reuse) {
            (void)hf_seglog_add_spare(log, name); /* lost until the next start otherwise */
        }
    } else {
        op->target->dropping = false;
        op->target->drop_failed = true;
    }
    op->done(op->ctx, op->err);
}

static void drop_start(struct hf_seglog *log, struct hf_seglog_drop *op)
{
    op->target->drop = NULL;
    op->reuse = op->target->state == HF_SEGMENT_SEALED && !op->target->drop_failed &&
                op->target->file_bytes == log->options.segment_bytes &&
                log->spare_count + log->drops_reusing < log->options.spares;
    log->drops_reusing += op->reuse ? 1 : 0;
    op->job = (struct hf_job){.run = drop_run, .done = drop_done};
    hf_env_submit(log->env, HF_POOL_DISK, &op->job);
}

static void drop_refused(struct hf_task *task)
{
    struct hf_seglog_drop *op = hf_container_of(task, struct hf_seglog_drop, task);

    op->log->drops_running--;
    op->done(op->ctx, op->err);
}

/* An older segment without a table, whose end only @s tells. */
static bool vouches(const struct hf_seglog *log, const struct hf_seglog_segment *s)
{
    const struct hf_seglog_segment *prev =
        s->state == HF_SEGMENT_ROTTEN ? NULL : hf_seglog_find(log, s->prev_segment);

    return prev && prev->state != HF_SEGMENT_SEALED && prev->state != HF_SEGMENT_ROTTEN;
}

void hf_seglog_drop_segment(struct hf_seglog *log, struct hf_seglog_drop *op)
{
    struct hf_seglog_segment *s = hf_seglog_find(log, op->segment);

    hf_assert_loop(log->env);
    op->log = log;
    op->target = s;
    op->number = op->segment;
    op->blocked_by = 0;
    op->err = !s || s->dropping ? -ENOENT : s->state == HF_SEGMENT_OPEN ? -EBUSY : 0;
    if (!op->err && vouches(log, s)) {
        op->blocked_by = s->prev_segment;
        op->err = -EBUSY;
    }
    log->drops_running++;
    if (op->err) {
        op->task = (struct hf_task){.fn = drop_refused};
        hf_env_post(log->env, &op->task);
        return;
    }
    s->dropping = true;
    if (s->refs > 0) {
        s->drop = op;
        return;
    }
    drop_start(log, op);
}

/* Looking */

void hf_seglog_segments(const struct hf_seglog *log,
                        void (*fn)(void *ctx, const struct hf_seglog_segment_info *info), void *ctx)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        const struct hf_seglog_segment *s = log->segments[i];
        struct hf_seglog_segment_info info = {
            .number = s->number,
            .state = s->state,
            .file_bytes = s->file_bytes,
            .end_bytes = s->end_bytes,
            .first_seq = s->first_seq,
            .last_seq = s->last_seq,
            .dropping = s->dropping,
        };

        fn(ctx, &info);
    }
}

bool hf_seglog_has_segment(const struct hf_seglog *log, uint64_t number)
{
    return hf_seglog_find(log, number) != NULL;
}

bool hf_seglog_segment_readable(const struct hf_seglog *log, uint64_t number)
{
    const struct hf_seglog_segment *s = hf_seglog_find(log, number);

    return s && s->state != HF_SEGMENT_ROTTEN;
}

static void record_from_header(const struct hf_seglog_segment *s, uint64_t off_bytes,
                               const struct hf_record_header *h, struct hf_seglog_record *ret)
{
    *ret = (struct hf_seglog_record){
        .seq = h->seq,
        .pos = {.segment = s->number, .off_bytes = off_bytes},
        .type = h->type,
        .header_bytes = hf_record_header_bytes(h->meta_len_bytes),
        .payload_len_bytes = h->payload_len_bytes,
        .meta_len_bytes = h->meta_len_bytes,
        .meta = h->meta,
        .meta_have_bytes = h->meta_len_bytes,
    };
}

int hf_seglog_segment_decode(const struct hf_seglog_segment *segment, uint64_t off_bytes,
                             const uint8_t *page, size_t len_bytes, struct hf_seglog_record *ret,
                             size_t *ret_need)
{
    struct hf_record_header h;
    int err = hf_record_header_decode(&segment->key, off_bytes, segment->file_bytes, page,
                                      len_bytes, &h, ret_need);

    if (!err) {
        record_from_header(segment, off_bytes, &h, ret);
    }
    return err;
}

struct scan {
    const struct hf_seglog_segment *segment;
    int (*fn)(void *ctx, const struct hf_seglog_record *record);
    void (*rot)(void *ctx, uint64_t off_bytes, uint64_t end_bytes);
    void *ctx;
};

static int scan_header(void *ctx, const struct hf_table_entry *entry,
                       const struct hf_record_header *header)
{
    struct scan *scan = ctx;
    struct hf_seglog_record record;

    if (header->type > HF_SEGLOG_TYPE_MAX) {
        return 0;
    }
    record_from_header(scan->segment, entry->off_bytes, header, &record);
    return scan->fn(scan->ctx, &record);
}

static int scan_hole(void *ctx, const struct hf_segment_hole *hole)
{
    struct scan *scan = ctx;

    if (scan->rot) {
        scan->rot(scan->ctx, hole->off_bytes, hole->end_bytes);
    }
    return 0;
}

static int scan_entry(struct scan *scan, const struct hf_table_entry *e, uint8_t *pages)
{
    const struct hf_seglog_segment *s = scan->segment;
    struct hf_seglog_record record = {
        .seq = e->seq,
        .pos = {.segment = s->number, .off_bytes = e->off_bytes},
        .type = e->type,
        .header_bytes = e->header_bytes,
        .payload_len_bytes = e->payload_len_bytes,
        .meta_len_bytes = e->meta_len_bytes,
        .meta = e->brief,
        .meta_have_bytes =
            e->meta_len_bytes < sizeof(e->brief) ? e->meta_len_bytes : (uint32_t)sizeof(e->brief),
    };

    if (e->type < 64 && (s->whole_meta_types >> e->type & 1) &&
        e->meta_len_bytes > sizeof(e->brief)) {
        struct hf_record_header h;
        int err = hf_segment_read_header(s, e->off_bytes, pages, &h);

        if (err || h.seq != e->seq) {
            uint64_t end = e->off_bytes + e->header_bytes;

            if (scan->rot) {
                scan->rot(scan->ctx, e->off_bytes, end);
            }
            return err == -ENOMEM ? err : 0;
        }
        record_from_header(s, e->off_bytes, &h, &record);
    }
    return e->type > HF_SEGLOG_TYPE_MAX ? 0 : scan->fn(scan->ctx, &record);
}

int hf_seglog_segment_scan(const struct hf_seglog_segment *segment,
                           int (*fn)(void *ctx, const struct hf_seglog_record *record),
                           void (*rot)(void *ctx, uint64_t off_bytes, uint64_t end_bytes),
                           void *ctx)
{
    struct scan scan = {.segment = segment, .fn = fn, .rot = rot, .ctx = ctx};
    struct hf_table_entry *loaded = NULL;
    const struct hf_table_entry *entries = segment->entries;
    uint32_t count = segment->count;
    uint8_t *pages;
    int err = 0;

    HF_ASSERT(segment->state != HF_SEGMENT_OPEN);
    if (segment->state == HF_SEGMENT_ROTTEN) {
        return -EBADMSG;
    }
    if (!entries || segment->lost_entries) {
        err = hf_segment_load_table(segment, &loaded, &count);
        entries = loaded;
    }
    if (err) {
        struct hf_segment_walk walk = {.limit_bytes = segment->end_bytes,
                                       .ctx = &scan,
                                       .record = scan_header,
                                       .hole = scan_hole};

        return err == -ENOMEM ? err : hf_segment_walk(segment, &walk);
    }
    pages = hf_segment_aligned_alloc(HF_RECORD_PAGES_MAX * HF_SEGMENT_PAGE_BYTES);
    err = pages ? 0 : -ENOMEM;
    for (uint32_t i = 0; !err && i < count; i++) {
        err = scan_entry(&scan, &entries[i], pages);
    }
    free(pages);
    free(loaded);
    return err;
}

void hf_seglog_stats(const struct hf_seglog *log, struct hf_seglog_stats *ret)
{
    *ret = log->stats;
    ret->segments = log->segment_count;
    ret->spares = log->spare_count;
    ret->spare_bytes = log->spare_count * log->options.segment_bytes;
    ret->file_bytes = ret->spare_bytes + log->file_bytes;
    ret->open_room_bytes = log->open ? log->open->file_bytes - log->open->end_bytes : 0;
}

void hf_seglog_check_invariants(const struct hf_seglog *log)
{
    uint64_t file_bytes = 0;

    HF_ASSERT(log->next_seq > log->synced_seq);
    for (uint32_t i = 0; i < log->segment_count; i++) {
        const struct hf_seglog_segment *s = log->segments[i];

        HF_ASSERT(i == 0 || log->segments[i - 1]->number < s->number);
        HF_ASSERT(s->number < log->next_number);
        file_bytes += s->file_bytes;
        if (s->state == HF_SEGMENT_ROTTEN) {
            continue;
        }
        HF_ASSERT(s->last_seq + 1 >= s->first_seq && s->last_seq <= log->synced_seq);
        HF_ASSERT(s->end_bytes <= s->file_bytes && s->prev_segment < s->number);
        HF_ASSERT((s->state == HF_SEGMENT_OPEN) == (s == log->open));
        for (uint32_t k = 1; k < s->count; k++) {
            HF_ASSERT(s->entries[k - 1].seq < s->entries[k].seq &&
                      s->entries[k - 1].off_bytes < s->entries[k].off_bytes);
        }
    }
    HF_ASSERT(file_bytes == log->file_bytes);
}
