/* SPDX-License-Identifier: Apache-2.0 */
#include "server/seglog/seglog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/bytes.h"
#include "server/seglog/seglog_impl.h"

static_assert(HF_SEGLOG_META_MAX == HF_RECORD_META_MAX, "meta bytes fill the header pages");
static_assert(HF_SEGLOG_BRIEF_BYTES == HF_TABLE_BRIEF_BYTES, "briefs are the table's");
static_assert(HF_SEGLOG_TYPE_MAX < HF_RECORD_TYPE_TRUNCATE, "the log's own types lie above");

static void start_batch(struct hf_seglog *log);
static void batch_done(struct hf_job *job);

/* The list of segments */

struct hf_seglog_segment *hf_seglog_find(const struct hf_seglog *log, uint64_t number)
{
    uint32_t lo = 0;
    uint32_t hi = log->segment_count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (log->segments[mid]->number < number) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < log->segment_count && log->segments[lo]->number == number ? log->segments[lo]
                                                                          : NULL;
}

int hf_seglog_insert(struct hf_seglog *log, struct hf_seglog_segment *segment)
{
    uint32_t at = log->segment_count;

    if (log->segment_count == log->segment_cap) {
        uint32_t cap = log->segment_cap ? log->segment_cap * 2 : 16;
        struct hf_seglog_segment **list =
            realloc(log->segments, cap * sizeof(struct hf_seglog_segment *));

        if (!list) {
            return -ENOMEM;
        }
        log->segments = list;
        log->segment_cap = cap;
    }
    while (at > 0 && log->segments[at - 1]->number > segment->number) {
        log->segments[at] = log->segments[at - 1];
        at--;
    }
    log->segments[at] = segment;
    log->segment_count++;
    log->file_bytes += segment->file_bytes;
    return 0;
}

void hf_seglog_remove(struct hf_seglog *log, struct hf_seglog_segment *segment)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i] == segment) {
            log->segment_count--;
            log->file_bytes -= segment->file_bytes;
            memmove(&log->segments[i], &log->segments[i + 1],
                    (log->segment_count - i) * sizeof(struct hf_seglog_segment *));
            return;
        }
    }
    HF_UNREACHABLE();
}

struct hf_seglog_segment *hf_seglog_successor(const struct hf_seglog *log,
                                              const struct hf_seglog_segment *segment)
{
    for (uint32_t i = log->segment_count; i > 0; i--) {
        struct hf_seglog_segment *s = log->segments[i - 1];

        if (s->number <= segment->number) {
            break;
        }
        if (s->state != HF_SEGMENT_ROTTEN && s->prev_segment == segment->number) {
            return s;
        }
    }
    return NULL;
}

static uint64_t small_bytes(const struct hf_seglog *log)
{
    uint64_t small = log->options.segment_bytes / HF_SMALL_FRACTION / HF_SEGMENT_PAGE_BYTES *
                     HF_SEGMENT_PAGE_BYTES;

    return small > HF_SEGMENT_BYTES_MIN ? small : HF_SEGMENT_BYTES_MIN;
}

/* The newest segment that holds records, or at least the newest end that is vouched for. */
void hf_seglog_plan_segment(struct hf_seglog *log, struct hf_segment_create *ret)
{
    struct hf_seglog_segment *last = NULL;

    for (uint32_t i = log->segment_count; i > 0 && !last; i--) {
        if (log->segments[i - 1]->state != HF_SEGMENT_ROTTEN && !log->segments[i - 1]->dropping) {
            last = log->segments[i - 1];
        }
    }
    *ret = (struct hf_segment_create){
        .env = log->env,
        .dir = log->dir,
        .identity = log->options.identity,
        .number = log->next_number++,
        .file_bytes = log->short_of_space ? small_bytes(log) : log->options.segment_bytes,
        .first_seq = log->synced_seq + 1,
        .whole_meta_types = log->options.whole_meta_types,
        .prezero = log->options.prezero,
    };
    if (last && last->last_seq < last->first_seq && last->end_bytes == HF_SEGMENT_FIRST_OFF &&
        last->state != HF_SEGMENT_FAILED) {
        /* Empty: it may go at once, so the new one vouches for the one before it. */
        ret->prev_segment = last->prev_segment;
        ret->prev_end = last->prev_end;
    } else if (last) {
        ret->prev_segment = last->number;
        ret->prev_end = last->end_bytes;
    }
}

void hf_seglog_retire(struct hf_seglog_segment *s, enum hf_seglog_segment_state state)
{
    s->state = state;
    hf_file_close(s->writer);
    s->writer = NULL;
    if (s->count > HF_SEGMENT_KEEP_ENTRIES && state == HF_SEGMENT_SEALED) {
        free(s->entries);
        s->entries = NULL;
        s->count = 0;
        s->cap = 0;
    }
}

/* Truncated ranges */

int hf_seglog_note_dropped(struct hf_seglog *log, uint64_t from, uint64_t to)
{
    if (log->dropped_count == log->dropped_cap) {
        uint32_t cap = log->dropped_cap ? log->dropped_cap * 2 : 16;
        struct hf_seglog_dropped *list = realloc(log->dropped, cap * sizeof(*list));

        if (!list) {
            return -ENOMEM;
        }
        log->dropped = list;
        log->dropped_cap = cap;
    }
    /* A range within the new one is subsumed. */
    while (log->dropped_count > 0 && log->dropped[log->dropped_count - 1].from >= from) {
        log->dropped_count--;
    }
    log->dropped[log->dropped_count++] = (struct hf_seglog_dropped){.from = from, .to = to};
    return 0;
}

bool hf_seglog_is_dropped(const struct hf_seglog *log, uint64_t seq)
{
    for (uint32_t i = log->dropped_count; i > 0; i--) {
        if (seq >= log->dropped[i - 1].from && seq <= log->dropped[i - 1].to) {
            return true;
        }
    }
    return false;
}

static void forget_dropped_below(struct hf_seglog *log, uint64_t seq)
{
    uint32_t keep = 0;

    for (uint32_t i = 0; i < log->dropped_count; i++) {
        if (log->dropped[i].to >= seq) {
            log->dropped[keep++] = log->dropped[i];
        }
    }
    log->dropped_count = keep;
}

/* Appending */

static void refuse_run(struct hf_task *task)
{
    struct hf_seglog *log = hf_container_of(task, struct hf_seglog, refuse_task);
    struct hf_seglog_append *op = log->refused;

    log->refused = NULL;
    log->refused_tail = &log->refused;
    log->failing = 0;
    while (op) {
        struct hf_seglog_append *next = op->next;

        op->done(op->ctx, op->err);
        op = next;
    }
}

static void refuse(struct hf_seglog *log, struct hf_seglog_append *op, int err)
{
    op->err = err;
    op->next = NULL;
    *log->refused_tail = op;
    log->refused_tail = &op->next;
    hf_env_post(log->env, &log->refuse_task);
}

static void start_run(struct hf_task *task)
{
    start_batch(hf_container_of(task, struct hf_seglog, start_task));
}

static uint64_t record_bytes(const struct hf_seglog_append *op)
{
    return op->header_bytes + hf_segment_pages_up(op->payload_len_bytes);
}

static void enqueue(struct hf_seglog *log, struct hf_seglog_append *op)
{
    hf_assert_loop(log->env);
    HF_ASSERT(op->meta_len_bytes <= HF_SEGLOG_META_MAX);
    op->next = NULL;
    op->err = 0;
    op->seq = 0;
    op->header_bytes = hf_record_header_bytes(op->meta_len_bytes);
    if (log->failing || hf_seglog_broken(log)) {
        refuse(log, op, log->failing ? log->failing : -EIO);
        return;
    }
    if (op->payload_len_bytes > HF_SEGLOG_PAYLOAD_MAX ||
        !hf_segment_fits(log->options.segment_bytes, HF_SEGMENT_FIRST_OFF, 0, record_bytes(op))) {
        refuse(log, op, -EFBIG);
        return;
    }
    op->seq = log->next_seq++;
    *log->queue_tail = op;
    log->queue_tail = &op->next;
    if (!log->batch.running) {
        hf_env_post(log->env, &log->start_task);
    }
}

void hf_seglog_append(struct hf_seglog *log, struct hf_seglog_append *op)
{
    HF_ASSERT(op->type >= 1 && op->type <= HF_SEGLOG_TYPE_MAX);
    enqueue(log, op);
}

void hf_seglog_truncate_tail(struct hf_seglog *log, uint64_t seq, struct hf_seglog_append *op)
{
    op->type = HF_RECORD_TYPE_TRUNCATE;
    op->meta_len_bytes = sizeof(op->truncate_meta);
    op->iov = NULL;
    op->iov_count = 0;
    op->payload_len_bytes = 0;
    op->sum_payload = false;
    op->aligned = true;
    op->truncate_from = seq;
    hf_put_le64(op->truncate_meta, seq);
    op->meta = op->truncate_meta;
    enqueue(log, op);
}

static bool batch_full(const struct hf_seglog_batch *b, const struct hf_seglog_append *op,
                       size_t arena)
{
    return b->count == HF_BATCH_OPS_MAX ||
           (b->count > 0 && (b->end_off - b->start_off + record_bytes(op) > HF_BATCH_BYTES_MAX ||
                             arena > HF_BATCH_ARENA_BYTES));
}

/* Move what fits from the queue into the batch. */
static void fill_batch(struct hf_seglog *log, uint64_t file_bytes, uint32_t entries)
{
    struct hf_seglog_batch *b = &log->batch;
    size_t arena = 0;

    while (log->queue) {
        struct hf_seglog_append *op = log->queue;

        arena += op->header_bytes + (op->aligned ? 0 : op->payload_len_bytes);
        if (batch_full(b, op, arena) ||
            !hf_segment_fits(file_bytes, b->end_off, entries + b->count, record_bytes(op))) {
            break;
        }
        log->queue = op->next;
        if (!log->queue) {
            log->queue_tail = &log->queue;
        }
        op->next = NULL;
        op->pos.off_bytes = b->end_off;
        *b->ops_tail = op;
        b->ops_tail = &op->next;
        b->count++;
        b->end_off += record_bytes(op);
    }
}

/* Everything not durable fails: numbers are consecutive, so nothing behind a hole may succeed. */
static void fail_all(struct hf_seglog *log, struct hf_seglog_append *ops, int err)
{
    struct hf_seglog_append *queued = log->queue;

    log->queue = NULL;
    log->queue_tail = &log->queue;
    log->next_seq = log->synced_seq + 1;
    log->failing = err;
    while (ops) {
        struct hf_seglog_append *next = ops->next;

        refuse(log, ops, err);
        ops = next;
    }
    while (queued) {
        struct hf_seglog_append *next = queued->next;

        refuse(log, queued, err);
        queued = next;
    }
}

/* Room for what comes next in a new segment; false: not even there. */
static bool plan_roll(struct hf_seglog *log)
{
    struct hf_seglog_batch *b = &log->batch;

    b->retire = log->open;
    hf_seglog_plan_segment(log, &b->create);
    b->start_off = b->end_off = HF_SEGMENT_FIRST_OFF;
    fill_batch(log, b->create.file_bytes, 0);
    if (b->count == 0) {
        return false;
    }
    b->have_spare = !log->short_of_space && hf_seglog_take_spare(log, &b->spare);
    b->create.spare = b->have_spare ? b->spare.name : NULL;
    return true;
}

static void start_batch(struct hf_seglog *log)
{
    struct hf_seglog_batch *b = &log->batch;
    struct hf_seglog_segment *open = log->open;

    if (b->running || !log->queue) {
        return;
    }
    b->ops = NULL;
    b->ops_tail = &b->ops;
    b->count = 0;
    b->synced_seq = log->synced_seq;
    b->target = NULL;
    b->retire = NULL;
    b->have_spare = false;
    if (open && !log->roll) {
        b->start_off = b->end_off = open->end_bytes;
        fill_batch(log, open->file_bytes, open->count);
    }
    if (b->count > 0) {
        b->target = open;
    } else if (!plan_roll(log)) {
        log->short_of_space = false;
        fail_all(log, NULL, -ENOSPC);
        return;
    }
    HF_ASSERT(b->ops->seq == log->synced_seq + 1);
    b->running = true;
    b->job.run = hf_seglog_batch_run;
    b->job.done = batch_done;
    hf_env_submit(log->env, log->options.pool, &b->job);
}

static void add_entries(struct hf_seglog *log, struct hf_seglog_segment *s,
                        const struct hf_seglog_append *ops)
{
    for (const struct hf_seglog_append *op = ops; op; op = op->next) {
        struct hf_table_entry e = {
            .off_bytes = op->pos.off_bytes,
            .seq = op->seq,
            .header_bytes = op->header_bytes,
            .payload_len_bytes = op->payload_len_bytes,
            .meta_len_bytes = op->meta_len_bytes,
            .type = op->type,
            .flags = op->sum_payload ? HF_RECORD_SUMMED : 0,
        };
        size_t brief = op->meta_len_bytes < sizeof(e.brief) ? op->meta_len_bytes : sizeof(e.brief);

        if (brief) {
            memcpy(e.brief, op->meta, brief);
        }
        if (hf_segment_add_entry(s, &e) != 0) {
            /* Without its entries the segment cannot be sealed; recovery scans it. */
            log->roll = true;
            s->lost_entries = true;
        }
        log->stats.appends++;
        log->stats.bytes_written += record_bytes(op);
    }
}

static void batch_succeeded(struct hf_seglog *log, struct hf_seglog_segment *s)
{
    struct hf_seglog_append *op = log->batch.ops;

    add_entries(log, s, op);
    s->end_bytes = log->batch.end_off;
    s->last_seq = s->last_seq + log->batch.count;
    log->synced_seq = s->last_seq;
    log->failures = 0;
    log->stats.batches++;
    log->stats.syncs++;
    while (op) {
        struct hf_seglog_append *next = op->next;

        if (op->type == HF_RECORD_TYPE_TRUNCATE) {
            op->err = hf_seglog_note_dropped(log, op->truncate_from, op->seq);
        }
        op->done(op->ctx, op->err);
        op = next;
    }
}

static void batch_done(struct hf_job *job)
{
    struct hf_seglog_batch *b = hf_container_of(job, struct hf_seglog_batch, job);
    struct hf_seglog *log = b->log;
    struct hf_seglog_segment *target = b->target ? b->target : b->fresh;

    b->running = false;
    if (b->retire) {
        hf_seglog_retire(b->retire, b->seal_err ? HF_SEGMENT_UNSEALED : HF_SEGMENT_SEALED);
        log->open = NULL;
        log->stats.failures += b->seal_err ? 1 : 0;
    }
    if (b->fresh) {
        log->roll = false;
        log->prepare_failed = false;
        log->short_of_space = false;
        log->stats.recycled += b->have_spare ? 1 : 0;
        if (hf_seglog_insert(log, b->fresh) != 0) {
            hf_segment_free(b->fresh);
            b->write_err = -ENOMEM;
            target = NULL;
        } else {
            log->open = b->fresh;
        }
    } else if (b->create_err == -ENOSPC && b->have_spare) {
        (void)hf_seglog_add_spare(log, b->spare.name); /* untouched; after another error: unknown */
    }
    if (b->create_err == -ENOSPC && !log->short_of_space &&
        small_bytes(log) < log->options.segment_bytes) {
        /* Deletions make space: they get a small segment. Nothing was written; try again. */
        log->short_of_space = true;
        *b->ops_tail = log->queue;
        if (!log->queue) {
            log->queue_tail = b->ops_tail;
        }
        log->queue = b->ops;
    } else if (b->create_err || b->write_err) {
        int err = b->create_err ? b->create_err : b->write_err;

        if (target && b->write_err) {
            hf_seglog_retire(target, HF_SEGMENT_FAILED);
            log->open = NULL;
        }
        log->short_of_space = false;
        if (err != -ENOSPC || b->write_err) {
            log->failures++;
            log->stats.failures++;
        }
        fail_all(log, b->ops, err == -ENOSPC ? -ENOSPC : -EIO);
    } else {
        batch_succeeded(log, target);
    }
    hf_seglog_want_spares(log);
    if (log->queue) {
        hf_env_post(log->env, &log->start_task);
    }
}

uint64_t hf_seglog_last_seq(const struct hf_seglog *log)
{
    return log->next_seq - 1;
}

uint64_t hf_seglog_synced_seq(const struct hf_seglog *log)
{
    return log->synced_seq;
}

uint64_t hf_seglog_first_seq(const struct hf_seglog *log)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        const struct hf_seglog_segment *s = log->segments[i];

        if (s->state != HF_SEGMENT_ROTTEN && !s->dropping && s->last_seq >= s->first_seq) {
            return s->first_seq;
        }
    }
    return log->synced_seq + 1;
}

bool hf_seglog_broken(const struct hf_seglog *log)
{
    return log->failures >= HF_SEGLOG_FAILURES_MAX;
}

void hf_seglog_roll(struct hf_seglog *log)
{
    if (log->open && log->open->last_seq >= log->open->first_seq) {
        log->roll = true;
    }
}

/* Trimming the head: one segment after the other, oldest first */

static void trim_next(struct hf_seglog *log);

static void trim_done(void *ctx, int err)
{
    struct hf_seglog *log = ctx;

    log->trim_running = false;
    if (!err) {
        trim_next(log);
    } /* else with the next hf_seglog_trim_head() */
}

/* Does it hold only records below trim_seq? */
static bool below_trim(const struct hf_seglog *log, const struct hf_seglog_segment *s)
{
    return s->state != HF_SEGMENT_OPEN && s->state != HF_SEGMENT_ROTTEN &&
           (HF_BUG(trims_partial) ? s->first_seq : s->last_seq) < log->trim_seq;
}

/* May the oldest one go? What a rotten one held comes before what the next readable one holds. */
static bool oldest_may_go(const struct hf_seglog *log)
{
    uint32_t readable = 0;

    while (readable < log->segment_count && log->segments[readable]->state == HF_SEGMENT_ROTTEN) {
        readable++;
    }
    return readable < log->segment_count && below_trim(log, log->segments[readable]) &&
           !log->segments[0]->dropping && log->segments[0]->refs == 0;
}

static void trim_next(struct hf_seglog *log)
{
    if (!log->trim_running && oldest_may_go(log)) {
        log->trim_running = true;
        log->trim_drop = (struct hf_seglog_drop){
            .segment = log->segments[0]->number, .done = trim_done, .ctx = log};
        hf_seglog_drop_segment(log, &log->trim_drop);
    }
}

void hf_seglog_trim_head(struct hf_seglog *log, uint64_t seq)
{
    hf_assert_loop(log->env);
    if (seq > log->trim_seq) {
        log->trim_seq = seq;
    }
    forget_dropped_below(log, hf_seglog_first_seq(log));
    trim_next(log);
}

/* Reading by number */

static int read_record(struct hf_seglog_read *op)
{
    struct hf_seglog_segment *s = op->segment;
    struct hf_record_header h;
    size_t need = 0;
    uint8_t *buf = malloc(op->record_bytes);
    int err =
        buf ? hf_file_read_full(s->reader, buf, op->record_bytes, op->off_bytes, NULL) : -ENOMEM;

    if (!err) {
        err = hf_record_header_decode(&s->key, op->off_bytes, s->file_bytes, buf, op->record_bytes,
                                      &h, &need);
    }
    if (!err && (h.seq != op->seq || hf_record_header_bytes(h.meta_len_bytes) != op->header_bytes ||
                 op->header_bytes + hf_segment_pages_up(h.payload_len_bytes) != op->record_bytes)) {
        err = -EBADMSG;
    }
    if (!err && (h.flags & HF_RECORD_SUMMED) &&
        hf_record_payload_add(hf_record_payload_begin(&s->key, op->off_bytes),
                              buf + op->header_bytes, h.payload_len_bytes) != h.payload_sum) {
        err = -EBADMSG;
    }
    if (err) {
        free(buf);
        return err;
    }
    op->buf = buf;
    op->type = h.type;
    op->meta = h.meta;
    op->meta_len_bytes = h.meta_len_bytes;
    op->payload = buf + op->header_bytes;
    op->payload_len_bytes = h.payload_len_bytes;
    return 0;
}

static const struct hf_table_entry *find_entry(const struct hf_table_entry *entries, uint32_t count,
                                               uint64_t seq)
{
    uint32_t lo = 0;
    uint32_t hi = count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (entries[mid].seq < seq) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < count && entries[lo].seq == seq ? &entries[lo] : NULL;
}

static int read_locate(struct hf_seglog_read *op, const struct hf_table_entry *entries,
                       uint32_t count)
{
    const struct hf_table_entry *e = find_entry(entries, count, op->seq);

    if (!e) {
        return -EBADMSG;
    }
    op->off_bytes = e->off_bytes;
    op->header_bytes = e->header_bytes;
    op->record_bytes = e->header_bytes + (uint32_t)hf_segment_pages_up(e->payload_len_bytes);
    return 0;
}

static void read_run(struct hf_job *job)
{
    struct hf_seglog_read *op = hf_container_of(job, struct hf_seglog_read, job);
    struct hf_table_entry *entries = NULL;
    uint32_t count = 0;

    if (!op->err && op->off_bytes == 0) {
        op->err = hf_segment_load_table(op->segment, &entries, &count);
        if (!op->err) {
            op->err = read_locate(op, entries, count);
        }
        free(entries);
    }
    if (!op->err) {
        op->err = read_record(op);
    }
}

static void read_done(struct hf_job *job)
{
    struct hf_seglog_read *op = hf_container_of(job, struct hf_seglog_read, job);
    struct hf_seglog *log = op->log;

    log->reads_running--;
    if (op->segment) {
        hf_seglog_segment_unref(log, op->segment);
    }
    op->done(op->ctx, op->err);
}

void hf_seglog_read(struct hf_seglog *log, struct hf_seglog_read *op)
{
    struct hf_seglog_segment *s = NULL;

    hf_assert_loop(log->env);
    op->log = log;
    op->segment = NULL;
    op->buf = NULL;
    op->off_bytes = 0;
    op->err = op->seq <= log->synced_seq && !hf_seglog_is_dropped(log, op->seq) ? 0 : -ENOENT;
    for (uint32_t i = log->segment_count; !op->err && i > 0 && !s; i--) {
        struct hf_seglog_segment *at = log->segments[i - 1];

        if (at->state != HF_SEGMENT_ROTTEN && op->seq >= at->first_seq && op->seq <= at->last_seq) {
            s = at;
        }
    }
    if (!op->err) {
        op->segment = s ? hf_seglog_segment_ref(log, s->number) : NULL;
        op->err = op->segment ? 0 : -ENOENT;
    }
    if (!op->err && s->entries) {
        op->err = read_locate(op, s->entries, s->count);
    }
    log->reads_running++;
    op->job = (struct hf_job){.run = read_run, .done = read_done};
    hf_env_submit(log->env, HF_POOL_DISK, &op->job);
}

void hf_seglog_init_queues(struct hf_seglog *log)
{
    log->queue_tail = &log->queue;
    log->refused_tail = &log->refused;
    log->start_task.fn = start_run;
    log->refuse_task.fn = refuse_run;
}
