/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - open and close: find the segments, decide where the log ends, tell rot from a torn
 * tail, replay.
 *
 * What was certainly synced, M: the highest of every valid record's synced mark, of every segment's
 * first number less one (a segment is opened only when the one before it is synced), and of what
 * the user knows. An unreadable record up to M is rot; the first one above M ends the log.
 */
#include "server/seglog/seglog_impl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/bytes.h"

#define PAGE HF_SEGMENT_PAGE_BYTES

struct recovery {
    struct hf_seglog *log;
    uint64_t *numbers;
    uint32_t number_count;
    uint32_t number_cap;
    char (*stale)[HF_SEGMENT_NAME_MAX]; /* half-made files */
    uint32_t stale_count;
    uint64_t synced_seq; /* M */
    uint64_t unread_off; /* of the segment walked last: where a header could not be read; or 0 */
    int unread_err;
    uint8_t *header;  /* scratch: header pages */
    uint8_t *payload; /* scratch */
    size_t payload_cap;
};

/* Finding the files */

/* "0000000012" + @suffix. */
static bool parse_name(const char *name, const char *suffix, uint64_t *ret)
{
    uint64_t v = 0;
    size_t n = 0;

    for (; n < 19 && isdigit((unsigned char)name[n]); n++) {
        v = v * 10 + (uint64_t)(name[n] - '0');
    }
    if (n < 10 || strcmp(name + n, suffix) != 0) {
        return false;
    }
    *ret = v;
    return true;
}

static int note_name(void *ctx, const char *name)
{
    struct recovery *r = ctx;
    uint64_t number = 0;

    if (parse_name(name, ".seg", &number) && number > 0) {
        if (r->number_count == r->number_cap) {
            uint32_t cap = r->number_cap ? r->number_cap * 2 : 64;
            uint64_t *numbers = realloc(r->numbers, cap * sizeof(*numbers));

            if (!numbers) {
                return -ENOMEM;
            }
            r->numbers = numbers;
            r->number_cap = cap;
        }
        r->numbers[r->number_count++] = number;
    } else if (parse_name(name, ".free", &number)) {
        if (hf_seglog_add_spare(r->log, name) != 0) {
            return -ENOMEM;
        }
    } else if (parse_name(name, ".tmp", &number) || parse_name(name, ".free.tmp", &number)) {
        void *stale = realloc(r->stale, (r->stale_count + 1) * sizeof(*r->stale));

        if (!stale) {
            return -ENOMEM;
        }
        r->stale = stale;
        (void)snprintf(r->stale[r->stale_count++], HF_SEGMENT_NAME_MAX, "%s", name);
    }
    if (number >= r->log->next_number) {
        r->log->next_number = number + 1;
    }
    return 0;
}

static int unlink_name(struct hf_seglog *log, const char *name)
{
    char *path = NULL;
    int err;

    if (asprintf(&path, "%s/%s", log->dir, name) < 0) {
        return -ENOMEM;
    }
    err = hf_disk_unlink(log->disk, path);
    free(path);
    return err;
}

static int find_files(struct recovery *r)
{
    struct hf_seglog *log = r->log;
    int err = hf_disk_mkdir(log->disk, log->dir);

    if (!err) {
        /* A file that is not seen now must not be back after a power cut. */
        err = hf_disk_sync_dir(log->disk, log->dir);
    }
    if (!err) {
        err = hf_disk_list(log->disk, log->dir, note_name, r);
    }
    for (uint32_t i = 0; !err && i < r->stale_count; i++) {
        err = unlink_name(log, r->stale[i]);
    }
    while (!err && log->spare_count > log->options.spares) {
        err = unlink_name(log, log->spares[--log->spare_count].name);
    }
    for (uint32_t i = 0; !err && i < r->number_count; i++) {
        struct hf_seglog_segment *s;

        err = hf_segment_load(log->env, log->dir, r->numbers[i], &log->options.identity, &s);
        if (!err) {
            s->whole_meta_types = log->options.whole_meta_types;
            err = hf_seglog_insert(log, s);
            if (err) {
                hf_segment_free(s);
            }
        }
    }
    return err;
}

/* What each segment holds */

static void raise_synced(struct recovery *r, uint64_t seq)
{
    if (seq > r->synced_seq) {
        r->synced_seq = seq;
    }
}

struct walked {
    struct recovery *r;
    struct hf_seglog_segment *segment;
};

static int walked_record(void *ctx, const struct hf_table_entry *entry,
                         const struct hf_record_header *header)
{
    struct walked *w = ctx;

    raise_synced(w->r, header->synced_seq);
    return hf_segment_add_entry(w->segment, entry);
}

static int walked_hole(void *ctx, const struct hf_segment_hole *hole)
{
    struct walked *w = ctx;

    if (hole->read_err) {
        w->r->unread_off = hole->off_bytes;
        w->r->unread_err = hole->read_err;
    }
    return 0;
}

static int walk_segment(struct recovery *r, struct hf_seglog_segment *s, uint64_t limit_bytes)
{
    struct walked w = {.r = r, .segment = s};
    struct hf_segment_walk walk = {
        .limit_bytes = limit_bytes, .ctx = &w, .record = walked_record, .hole = walked_hole};

    s->count = 0;
    r->unread_off = 0;
    return hf_segment_walk(s, &walk);
}

static uint64_t entry_end(const struct hf_table_entry *e)
{
    return e->off_bytes + e->header_bytes + hf_segment_pages_up(e->payload_len_bytes);
}

static void end_after(struct hf_seglog_segment *s, uint32_t count)
{
    s->count = count;
    s->end_bytes = count ? entry_end(&s->entries[count - 1]) : HF_SEGMENT_FIRST_OFF;
    s->last_seq = count ? s->entries[count - 1].seq : s->first_seq - 1;
}

static int examine(struct recovery *r, struct hf_seglog_segment *s)
{
    struct hf_seglog_segment *next = hf_seglog_successor(r->log, s);
    struct hf_footer footer;
    int err = hf_segment_load_footer(s, &footer);

    if (!err) {
        s->state = HF_SEGMENT_SEALED;
        s->last_seq = footer.last_seq;
        s->end_bytes = footer.end_bytes;
        raise_synced(r, footer.last_seq);
        return 0;
    }
    err = walk_segment(r, s,
                       next && !HF_BUG(failed_record_replayed) ? next->prev_end : s->file_bytes);
    if (err) {
        return err;
    }
    end_after(s, s->count);
    if (next) {
        s->end_bytes = next->prev_end;
        if (next->first_seq > s->last_seq + 1) {
            s->last_seq = next->first_seq - 1; /* rot at its end */
        }
    }
    return 0;
}

/* Where the log ends */

static int need_payload(struct recovery *r, size_t bytes)
{
    if (bytes > r->payload_cap) {
        free(r->payload);
        r->payload_cap = 0;
        r->payload = hf_segment_aligned_alloc(bytes);
        if (!r->payload) {
            return -ENOMEM;
        }
        r->payload_cap = bytes;
    }
    return 0;
}

static int load_payload(struct recovery *r, const struct hf_seglog_segment *s,
                        const struct hf_table_entry *e)
{
    int err = need_payload(r, (size_t)hf_segment_pages_up(e->payload_len_bytes));

    return err ? err
               : hf_file_read_full(s->reader, r->payload, e->payload_len_bytes,
                                   e->off_bytes + e->header_bytes, NULL);
}

static void make_record(const struct hf_seglog_segment *s, const struct hf_table_entry *e,
                        struct hf_seglog_record *ret)
{
    *ret = (struct hf_seglog_record){
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
}

/* Header and payload of one record; its checksum, where it has one, is verified. */
static int load_record(struct recovery *r, const struct hf_seglog_segment *s,
                       const struct hf_table_entry *e, bool with_payload,
                       struct hf_seglog_record *ret)
{
    struct hf_record_header h;
    int err = hf_segment_read_header(s, e->off_bytes, r->header, &h);

    if (!err && (h.seq != e->seq || h.payload_len_bytes != e->payload_len_bytes ||
                 h.meta_len_bytes != e->meta_len_bytes)) {
        err = -EBADMSG;
    }
    if (!err && with_payload) {
        err = load_payload(r, s, e);
    }
    if (!err && with_payload && (h.flags & HF_RECORD_SUMMED) &&
        hf_record_payload_add(hf_record_payload_begin(&s->key, e->off_bytes), r->payload,
                              e->payload_len_bytes) != h.payload_sum) {
        err = -EBADMSG;
    }
    if (!err) {
        make_record(s, e, ret);
        ret->meta = h.meta;
        ret->meta_have_bytes = h.meta_len_bytes;
        ret->payload = with_payload ? r->payload : NULL;
    }
    return err;
}

/* Is a record that nobody vouches for whole? */
static int verify_tail(struct recovery *r, const struct hf_seglog_segment *s,
                       const struct hf_table_entry *e)
{
    const struct hf_seglog_options *o = &r->log->options;
    struct hf_seglog_record record;
    int err = load_record(r, s, e, true, &record);

    if (HF_BUG(torn_record_kept)) {
        return 0;
    }
    if (!err && !(e->flags & HF_RECORD_SUMMED) && o->verify && e->type <= HF_SEGLOG_TYPE_MAX) {
        err = o->verify(o->ctx, &record);
    }
    return err;
}

/* Cut the tail of a segment that no later one vouches for. */
static int cut_tail(struct recovery *r, struct hf_seglog_segment *s)
{
    uint64_t expected = s->first_seq;
    uint32_t i;

    for (i = 0; i < s->count; i++) {
        const struct hf_table_entry *e = &s->entries[i];

        if (e->seq > expected && e->seq - 1 > r->synced_seq) {
            break; /* a hole that reaches above what was synced */
        }
        if (e->seq > r->synced_seq) {
            int err = verify_tail(r, s, e);

            if (err == -EBADMSG) {
                break;
            }
            if (err) {
                return err;
            }
        }
        expected = e->seq + 1;
    }
    end_after(s, i);
    if (r->unread_off == s->end_bytes && s->last_seq >= r->synced_seq) {
        return r->unread_err; /* torn or unreadable? Nothing tells: better not to start */
    }
    if (s->last_seq < r->synced_seq) {
        s->last_seq = r->synced_seq; /* rot at its end; first_seq - 1 <= M always */
    }
    return 0;
}

/*
 * No table, no successor, and not the last: it was empty or failed, and was to go when the next one
 * was opened, but the file is still there. Nothing tells where it ends; but what it holds from the
 * next one's first number on was not synced then, and those numbers were given out again.
 */
static void cut_given_up(const struct hf_seglog *log, struct hf_seglog_segment *s)
{
    const struct hf_seglog_segment *next = NULL;
    uint32_t count = s->count;

    for (uint32_t i = log->segment_count; i > 0 && log->segments[i - 1] != s; i--) {
        if (log->segments[i - 1]->state != HF_SEGMENT_ROTTEN) {
            next = log->segments[i - 1];
        }
    }
    while (next && count > 0 && s->entries[count - 1].seq >= next->first_seq) {
        count--;
    }
    end_after(s, count);
}

/* Records that nobody vouches for may be in the page cache only, past a failed sync: write again.
 */
static int rewrite_tail(struct recovery *r, struct hf_seglog_segment *s)
{
    int err = 0;

    for (uint32_t i = 0; !err && i < s->count; i++) {
        const struct hf_table_entry *e = &s->entries[i];
        size_t len = (size_t)(entry_end(e) - e->off_bytes);
        struct iovec iov = {.iov_len = len};

        if (e->seq <= r->synced_seq || HF_BUG(tail_not_rewritten)) {
            continue;
        }
        err = need_payload(r, len);
        if (!err) {
            err = hf_file_read_full(s->reader, r->payload, len, e->off_bytes, NULL);
        }
        iov.iov_base = r->payload;
        if (!err) {
            err = hf_file_write_full(s->writer, &iov, 1, e->off_bytes);
        }
    }
    return err;
}

/*
 * Whatever is kept must be durable before anybody relies on it, also where only the process died.
 * Then the table is written: from now on the file itself says where it ends.
 */
static int settle(struct recovery *r, struct hf_seglog_segment *s, bool last)
{
    int err = hf_disk_open(s->disk, s->path, HF_FILE_DIRECT, &s->writer);

    if (!err && last) {
        err = rewrite_tail(r, s);
    }
    if (err) {
        return err;
    }
    err = hf_file_sync(s->writer);
    if (!err && (s->count > 0 || s->last_seq >= s->first_seq || !last)) {
        enum hf_seglog_segment_state state =
            hf_segment_seal(s) == 0 ? HF_SEGMENT_SEALED : HF_SEGMENT_UNSEALED;

        hf_seglog_retire(s, state);
        return 0;
    }
    hf_seglog_retire(s, HF_SEGMENT_UNSEALED);
    return err;
}

static int find_end(struct recovery *r)
{
    struct hf_seglog *log = r->log;
    struct hf_seglog_segment *last = NULL;
    int err = 0;

    for (uint32_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i]->state != HF_SEGMENT_ROTTEN) {
            raise_synced(r, log->segments[i]->first_seq - 1);
            last = log->segments[i];
        }
    }
    for (uint32_t i = 0; !err && i < log->segment_count; i++) {
        if (log->segments[i]->state != HF_SEGMENT_ROTTEN) {
            err = examine(r, log->segments[i]);
        }
    }
    for (uint32_t i = 0; !err && i < log->segment_count; i++) {
        struct hf_seglog_segment *s = log->segments[i];

        if (s->state != HF_SEGMENT_UNSEALED) {
            continue;
        }
        if (s == last) {
            err = cut_tail(r, s);
        } else if (!hf_seglog_successor(log, s)) {
            cut_given_up(log, s);
        }
        if (!err) {
            err = settle(r, s, s == last);
        }
    }
    log->synced_seq = r->synced_seq;
    for (uint32_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i]->state != HF_SEGMENT_ROTTEN &&
            log->segments[i]->last_seq > log->synced_seq) {
            log->synced_seq = log->segments[i]->last_seq;
        }
    }
    log->next_seq = log->synced_seq + 1;
    return err;
}

/* Replaying */

/* Entries of a segment to be replayed; in memory afterwards. */
static int need_entries(struct recovery *r, struct hf_seglog_segment *s)
{
    int err;

    if (s->entries) {
        return 0;
    }
    err = hf_segment_load_table(s, &s->entries, &s->count);
    s->cap = s->count;
    if (err && err != -ENOMEM) {
        err = walk_segment(r, s, s->end_bytes);
        if (!err && s->count == 0 && r->unread_off != 0) {
            err = r->unread_err; /* not rot: the disk does not answer */
        }
    }
    return err;
}

static bool wanted(const struct recovery *r, const struct hf_seglog_segment *s)
{
    return s->state != HF_SEGMENT_ROTTEN && s->last_seq > r->log->options.replay_after;
}

static void report_rot(struct recovery *r, uint64_t first, uint64_t last, uint64_t segment,
                       uint64_t off)
{
    const struct hf_seglog_options *o = &r->log->options;

    if (o->rot && last >= first && last > o->replay_after) {
        o->rot(o->ctx, first, last, (struct hf_seglog_pos){.segment = segment, .off_bytes = off});
    }
}

static int load_truncations(struct recovery *r)
{
    struct hf_seglog *log = r->log;
    int err = 0;

    for (uint32_t i = 0; !err && i < log->segment_count; i++) {
        struct hf_seglog_segment *s = log->segments[i];

        if (!wanted(r, s)) {
            continue;
        }
        err = need_entries(r, s);
        for (uint32_t k = 0; !err && k < s->count; k++) {
            if (s->entries[k].type == HF_RECORD_TYPE_TRUNCATE) {
                err = hf_seglog_note_dropped(log, hf_get_le64(s->entries[k].brief),
                                             s->entries[k].seq);
            }
        }
    }
    return err;
}

static int replay_entry(struct recovery *r, struct hf_seglog_segment *s,
                        const struct hf_table_entry *e)
{
    const struct hf_seglog_options *o = &r->log->options;
    struct hf_seglog_record record;
    bool whole = o->replay_payload || (e->type < 64 && (o->whole_meta_types >> e->type & 1) &&
                                       e->meta_len_bytes > sizeof(e->brief));

    if (e->seq <= o->replay_after || e->type > HF_SEGLOG_TYPE_MAX ||
        hf_seglog_is_dropped(r->log, e->seq)) {
        return 0;
    }
    make_record(s, e, &record);
    if (whole) {
        int err = load_record(r, s, e, o->replay_payload, &record);

        if (err == -ENOMEM) {
            return err;
        }
        if (err) {
            report_rot(r, e->seq, e->seq, s->number, e->off_bytes);
            return 0;
        }
    }
    return o->replay ? o->replay(o->ctx, &record) : 0;
}

static int replay_segment(struct recovery *r, struct hf_seglog_segment *s)
{
    uint64_t expected = s->first_seq;
    uint64_t off = HF_SEGMENT_FIRST_OFF;
    int err = need_entries(r, s);

    for (uint32_t i = 0; !err && i < s->count; i++) {
        const struct hf_table_entry *e = &s->entries[i];

        report_rot(r, expected, e->seq - 1, s->number, off);
        err = replay_entry(r, s, e);
        expected = e->seq + 1;
        off = entry_end(e);
    }
    if (!err) {
        report_rot(r, expected, s->last_seq, s->number, off);
    }
    if (s->count > HF_SEGMENT_KEEP_ENTRIES && s->state == HF_SEGMENT_SEALED) {
        hf_seglog_retire(s, HF_SEGMENT_SEALED);
    }
    return err;
}

static int replay(struct recovery *r)
{
    struct hf_seglog *log = r->log;
    uint64_t expected = 0;
    int err = load_truncations(r);

    for (uint32_t i = 0; !err && i < log->segment_count; i++) {
        struct hf_seglog_segment *s = log->segments[i];

        if (s->state == HF_SEGMENT_ROTTEN) {
            continue;
        }
        if (expected && s->first_seq > expected && log->options.contiguous) {
            report_rot(r, expected, s->first_seq - 1, 0, 0);
        }
        if (wanted(r, s)) {
            err = replay_segment(r, s);
        }
        expected = s->last_seq + 1;
    }
    return err;
}

/* Empty segments that the open one made superfluous. A failure leaves them to the next start. */
static int drop_empty(struct hf_seglog *log)
{
    for (uint32_t i = log->segment_count - 1; i > 0; i--) {
        struct hf_seglog_segment *s = log->segments[i - 1];
        char name[HF_SEGMENT_NAME_MAX];
        char *to = NULL;
        int err;

        if (s->state != HF_SEGMENT_UNSEALED || s->last_seq >= s->first_seq ||
            log->open->prev_segment != s->prev_segment) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%010" PRIu64 ".free", s->number);
        if (asprintf(&to, "%s/%s", log->dir, name) < 0) {
            return -ENOMEM;
        }
        err = hf_disk_rename(log->disk, s->path, to);
        if (!err) {
            err = hf_disk_sync_dir(log->disk, log->dir);
        }
        free(to);
        if (!err) {
            hf_seglog_remove(log, s);
            hf_segment_free(s);
            err = hf_seglog_add_spare(log, name);
        }
        if (err) {
            return err == -ENOMEM ? err : 0;
        }
    }
    return 0;
}

/* Ready to append: a fresh segment, which keeps what was synced on record. */
static int open_segment(struct hf_seglog *log)
{
    struct hf_segment_create create;
    struct hf_seglog_spare spare;
    struct hf_seglog_segment *s = NULL;
    bool have = hf_seglog_take_spare(log, &spare);
    int err;

    hf_seglog_plan_segment(log, &create);
    create.spare = have ? spare.name : NULL;
    err = hf_segment_create(&create, &s);
    if (!err) {
        err = hf_seglog_insert(log, s);
    }
    if (err) {
        hf_segment_free(s);
        return err == -ENOSPC ? 0 : err; /* full: the first append tries again, and reports */
    }
    log->open = s;
    log->stats.recycled += have ? 1 : 0;
    return drop_empty(log);
}

int hf_seglog_recover(struct hf_seglog *log)
{
    struct recovery r = {.log = log, .synced_seq = log->options.known_synced};
    int err;

    r.header = hf_segment_aligned_alloc(HF_RECORD_PAGES_MAX * PAGE);
    err = r.header ? find_files(&r) : -ENOMEM;
    if (!err) {
        err = find_end(&r);
    }
    if (!err) {
        err = replay(&r);
    }
    if (!err) {
        err = open_segment(log);
    }
    free(r.numbers);
    free(r.stale);
    free(r.header);
    free(r.payload);
    return err;
}

static void log_free(struct hf_seglog *log)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        log->segments[i]->refs = 0;
        hf_segment_free(log->segments[i]);
    }
    free(log->segments);
    free(log->spares);
    free(log->dropped);
    free(log->batch.arena);
    free(log->batch.iov);
    free(log->dir);
    free(log);
}

int hf_seglog_open(struct hf_env *env, const struct hf_seglog_options *options,
                   struct hf_seglog **ret)
{
    struct hf_seglog *log = calloc(1, sizeof(*log));
    int err;

    HF_ASSERT(options->segment_bytes >= HF_SEGMENT_BYTES_MIN &&
              options->segment_bytes <= HF_SEGMENT_BYTES_MAX && options->segment_bytes % PAGE == 0);
    if (!log) {
        return -ENOMEM;
    }
    log->env = env;
    log->disk = hf_env_disk(env);
    log->options = *options;
    log->dir = strdup(options->dir);
    log->options.dir = log->dir;
    log->next_number = HF_BUG(segment_number_reused) ? 1 : options->known_number + 1;
    log->batch.log = log;
    hf_seglog_init_queues(log);
    err = log->dir ? hf_seglog_recover(log) : -ENOMEM;
    if (err) {
        log_free(log);
        return err;
    }
    *ret = log; /* idle: spares are prepared after the first append */
    return 0;
}

bool hf_seglog_idle(const struct hf_seglog *log)
{
    return !log->batch.running && !log->queue && !log->refused && !log->prepare_running &&
           log->drops_running == 0 && log->reads_running == 0;
}

void hf_seglog_close(struct hf_seglog *log)
{
    if (!log) {
        return;
    }
    HF_ASSERT(hf_seglog_idle(log));
    log->closing = true;
    if (log->open && log->open->last_seq >= log->open->first_seq) {
        (void)hf_segment_seal(log->open); /* unsealed, it is scanned at the next start */
    }
    log_free(log);
}
