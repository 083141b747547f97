/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/disk_format.h"
#include "server/seglog/seglog.h"

#define VOTE_SEGMENT_BYTES (64u << 10)
#define SPARE_SEGMENTS     2u
#define RECORD_BYTES_MAX   (2u << 20) /* of entries; one may be larger */
#define IN_META_BYTES_MAX  (HF_SEGLOG_META_MAX - RAFT_LOG_HEAD_BYTES)
#define PATH_BYTES_MAX     4200u

struct raft_disk {
    struct hf_env *env;
    struct hf_seglog *log, *vote;
    uint64_t record_bytes_max;
    uint32_t writes; /* under way */
};

/* Reading at open */

struct replay {
    struct raft_items *items;
    struct raft_disk_found *found;
    uint64_t last_seq; /* of the last record read */
    uint64_t rot_seq;  /* of the last one that was synced and is unreadable */
    bool gap;          /* it was between the last record read and the next */
    uint64_t seq;
    int err;
};

static int take_entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t len)
{
    struct replay *replay = ctx;
    struct raft_item *item;
    size_t used;
    int err = raft_item_parse(bytes, len, index, &item, &used);

    if (err) {
        return err;
    }
    item->seq = replay->seq;
    err = raft_items_push(replay->items, item);
    if (err) {
        raft_item_unref(item);
    }
    return err;
}

/* Make room for a record that begins at @first. False: entries are missing. One that begins before
 * all others replaces them: what came before it is trimmed with the segment in front, and whether a
 * checkpoint covers that, the driver sees. */
static bool seek_to(struct raft_items *items, uint64_t first)
{
    if (items->first == 0 || first < items->first) {
        raft_items_reset(items, first);
    }
    if (first > raft_items_last(items) + 1) {
        return false;
    }
    raft_items_cut(items, first);
    return true;
}

static int replay_log(void *ctx, const struct hf_seglog_record *record)
{
    struct replay *replay = ctx;
    struct raft_log_head head = {0};
    int err;

    replay->seq = replay->last_seq = record->seq;
    replay->found->log_empty = false;
    if (replay->gap) { /* what was unreadable may have replaced what came before: neither counts */
        replay->gap = false;
        raft_items_reset(replay->items, 0);
    }
    err = record->type == RAFT_RECORD_ENTRIES || record->type == RAFT_RECORD_RESET
              ? raft_log_record_decode(record->meta, record->meta_len_bytes, record->payload,
                                       record->payload_len_bytes, &head, NULL, NULL)
              : -EPROTONOSUPPORT;
    if (err == -EBADMSG) { /* its checksum holds, so this was never a record of this version */
        err = -EPROTONOSUPPORT;
    }
    if (err) {
        return err;
    }
    if (record->type == RAFT_RECORD_RESET) {
        raft_items_reset(replay->items, head.first_index);
        replay->found->log_lost = false; /* what was before it does not matter any more */
        return 0;
    }
    if (!seek_to(replay->items, head.first_index)) {
        replay->found->log_lost = true;
        raft_items_reset(replay->items, head.first_index);
    }
    return raft_log_record_decode(record->meta, record->meta_len_bytes, record->payload,
                                  record->payload_len_bytes, &head, take_entry, replay);
}

static int replay_vote(void *ctx, const struct hf_seglog_record *record)
{
    struct replay *replay = ctx;
    int err = record->type == RAFT_RECORD_HARD
                  ? raft_hard_decode(record->meta, record->meta_len_bytes, &replay->found->hard)
                  : -EPROTONOSUPPORT;

    replay->last_seq = record->seq;
    return err == -EBADMSG ? -EPROTONOSUPPORT : err;
}

static void replay_rot(void *ctx, uint64_t first_seq, uint64_t last_seq, struct hf_seglog_pos pos)
{
    struct replay *replay = ctx;

    replay->rot_seq = last_seq > replay->rot_seq ? last_seq : replay->rot_seq;
    replay->gap = true;
    hf_log(HF_LOG_ERROR, "raft", "records unreadable",
           "first=%llu last=%llu segment=%llu offset=%llu", (unsigned long long)first_seq,
           (unsigned long long)last_seq, (unsigned long long)pos.segment,
           (unsigned long long)pos.off_bytes);
}

static int open_one(struct raft_disk *disk, const struct raft_disk_options *options,
                    const char *name, struct hf_seglog_options *log_options, struct hf_seglog **ret,
                    char **ret_error)
{
    char path[PATH_BYTES_MAX];
    int err;

    (void)snprintf(path, sizeof(path), "%s/%s", options->dir, name);
    log_options->dir = path;
    log_options->pool = HF_POOL_LOG;
    log_options->identity = options->cluster;
    log_options->replay_payload = true;
    log_options->contiguous = true;
    log_options->rot = replay_rot;
    err = hf_seglog_open(disk->env, log_options, ret);
    if (err == -EPROTONOSUPPORT) {
        (void)(asprintf(ret_error,
                        "the metadata log in %s was written by another version of holdfastd: run "
                        "that one, or start with empty data directories",
                        path) < 0 &&
               (*ret_error = NULL));
    } else if (err) {
        (void)(asprintf(ret_error, "metadata log in %s: %s", path, hf_err_text(err)) < 0 &&
               (*ret_error = NULL));
    }
    return err;
}

int raft_disk_open(struct hf_env *env, const struct raft_disk_options *options,
                   struct raft_items *items, struct raft_disk_found *ret_found,
                   struct raft_disk **ret, char **ret_error)
{
    struct raft_disk *disk = calloc(1, sizeof(*disk));
    struct replay log_replay = {.items = items, .found = ret_found};
    struct replay vote_replay = {.found = ret_found};
    struct hf_seglog_options log_options = {
        .segment_bytes = options->segment_bytes,
        .prezero = true,
        .spares = SPARE_SEGMENTS,
        .replay = replay_log,
        .ctx = &log_replay,
    };
    struct hf_seglog_options vote_options = {
        .segment_bytes = VOTE_SEGMENT_BYTES,
        .replay = replay_vote,
        .ctx = &vote_replay,
    };
    int err;

    *ret_error = NULL;
    *ret_found = (struct raft_disk_found){.log_empty = true};
    if (!disk) {
        return -ENOMEM;
    }
    disk->env = env;
    disk->record_bytes_max = options->segment_bytes / 4 < RECORD_BYTES_MAX
                                 ? options->segment_bytes / 4
                                 : RECORD_BYTES_MAX;
    err = open_one(disk, options, "vote", &vote_options, &disk->vote, ret_error);
    err = err ? err : open_one(disk, options, "log", &log_options, &disk->log, ret_error);
    if (err) {
        raft_disk_close(disk);
        return err;
    }
    /* In the middle the log begins behind it: whether a checkpoint covers that, the driver sees. */
    ret_found->log_lost = ret_found->log_lost || log_replay.rot_seq > log_replay.last_seq;
    ret_found->vote_lost = vote_replay.rot_seq > vote_replay.last_seq;
    *ret = disk;
    return 0;
}

void raft_disk_close(struct raft_disk *disk)
{
    if (disk) {
        HF_ASSERT(disk->writes == 0);
        hf_seglog_close(disk->log);
        hf_seglog_close(disk->vote);
        free(disk);
    }
}

bool raft_disk_idle(const struct raft_disk *disk)
{
    return disk->writes == 0 && hf_seglog_idle(disk->log) && hf_seglog_idle(disk->vote);
}

bool raft_disk_broken(const struct raft_disk *disk)
{
    return hf_seglog_broken(disk->log) || hf_seglog_broken(disk->vote);
}

/* Writing */

struct record {
    struct raft_disk *disk;
    struct hf_seglog *log;
    struct hf_seglog_append op;
    struct raft_write *write; /* of the last record of several; else NULL */
    struct raft_item **items; /* held while it is written */
    uint32_t count;
    struct iovec *iov;
    uint8_t *meta;
    bool newest_only; /* records before it may go once it is durable */
};

static void record_done(void *ctx, int err)
{
    struct record *record = ctx;
    struct raft_write *write = record->write;

    record->disk->writes--;
    for (uint32_t i = 0; i < record->count; i++) {
        raft_item_unref(record->items[i]);
    }
    if (!err && record->newest_only) {
        hf_seglog_trim_head(record->log, record->op.seq);
    }
    free(record);
    if (write) {
        write->done(write, err);
    }
}

/* One allocation: the record, @count items and pieces, @meta_len bytes. */
static struct record *record_new(struct raft_disk *disk, struct hf_seglog *log, uint8_t type,
                                 uint32_t count, size_t meta_len)
{
    struct record *record = calloc(
        1, sizeof(*record) + count * (sizeof(*record->items) + sizeof(*record->iov)) + meta_len);

    HF_ASSERT_MEMORY(record); /* to say so would need memory too */
    record->disk = disk;
    record->log = log;
    record->count = count;
    record->iov = (struct iovec *)(record + 1);
    record->items = (struct raft_item **)(record->iov + count);
    record->meta = (uint8_t *)(record->items + count);
    record->op = (struct hf_seglog_append){
        .type = type,
        .sum_payload = true,
        .meta = record->meta,
        .meta_len_bytes = (uint32_t)meta_len,
        .done = record_done,
        .ctx = record,
    };
    return record;
}

static void submit(struct record *record, struct raft_write *write)
{
    record->write = write;
    record->disk->writes++;
    hf_seglog_append(record->log, &record->op);
}

/* Entries @first .. as many as one record takes. Returns the number of the next. */
static uint64_t append_record(struct raft_disk *disk, struct raft_items *items, uint64_t first,
                              uint64_t last, struct raft_write *write)
{
    struct raft_log_head head = {.version = RAFT_LOG_VERSION, .first_index = first};
    struct record *record;
    uint64_t end = first;
    uint8_t *at;

    while (end <= last) {
        const struct raft_item *item = raft_items_get(items, end);

        if (end > first && head.bytes + item->bytes > disk->record_bytes_max) {
            break;
        }
        head.bytes += item->bytes;
        end++;
    }
    head.count = (uint32_t)(end - first);
    head.flags = head.bytes <= IN_META_BYTES_MAX ? RAFT_LOG_IN_META : 0;
    record = record_new(disk, disk->log, RAFT_RECORD_ENTRIES, head.count,
                        RAFT_LOG_HEAD_BYTES + (head.flags ? head.bytes : 0));
    raft_log_head_encode(&head, record->meta);
    at = record->meta + RAFT_LOG_HEAD_BYTES;
    for (uint32_t i = 0; i < head.count; i++) {
        struct raft_item *item = raft_items_get(items, first + i);

        record->items[i] = raft_item_ref(item);
        record->iov[i] = (struct iovec){.iov_base = item->data, .iov_len = item->bytes};
        if (head.flags) { /* one page in one write instead of two */
            memcpy(at, item->data, item->bytes);
            at += item->bytes;
        }
    }
    if (!head.flags) {
        record->op.iov = record->iov;
        record->op.iov_count = head.count;
        record->op.payload_len_bytes = head.bytes;
    }
    submit(record, end > last ? write : NULL);
    for (uint64_t i = first; i < end; i++) {
        raft_items_get(items, i)->seq = hf_seglog_last_seq(disk->log);
    }
    return end;
}

void raft_disk_append(struct raft_disk *disk, struct raft_items *items, uint64_t first,
                      uint64_t last, struct raft_write *write)
{
    do {
        first = append_record(disk, items, first, last, write);
    } while (first <= last);
}

void raft_disk_reset(struct raft_disk *disk, uint64_t index, struct raft_write *write)
{
    const struct raft_log_head head = {
        .version = RAFT_LOG_VERSION, .flags = RAFT_LOG_IN_META, .first_index = index + 1};
    struct record *record = record_new(disk, disk->log, RAFT_RECORD_RESET, 0, RAFT_LOG_HEAD_BYTES);

    raft_log_head_encode(&head, record->meta);
    record->newest_only = true;
    submit(record, write);
}

void raft_disk_persist(struct raft_disk *disk, const struct raft_hard *hard,
                       struct raft_write *write)
{
    struct record *record = record_new(disk, disk->vote, RAFT_RECORD_HARD, 0, RAFT_HARD_BYTES_MAX);

    record->op.meta_len_bytes = (uint32_t)raft_hard_encode(hard, record->meta);
    record->newest_only = true;
    submit(record, write);
}

void raft_disk_trim(struct raft_disk *disk, uint64_t seq)
{
    hf_seglog_trim_head(disk->log, seq);
}

uint64_t raft_disk_bytes(const struct raft_disk *disk)
{
    struct hf_seglog_stats stats;

    hf_seglog_stats(disk->log, &stats);
    return stats.file_bytes - stats.spare_bytes;
}

uint64_t raft_disk_syncs(const struct raft_disk *disk)
{
    struct hf_seglog_stats stats;

    hf_seglog_stats(disk->log, &stats);
    return stats.syncs;
}

void raft_disk_check_invariants(const struct raft_disk *disk, uint32_t write_count)
{
    /* One write may be several records; its last one ends it. */
    HF_ASSERT(disk->writes >= write_count && (disk->writes == 0) == (write_count == 0));
    HF_ASSERT(disk->writes == 0 || !hf_seglog_idle(disk->log) || !hf_seglog_idle(disk->vote));
    hf_seglog_check_invariants(disk->log);
    hf_seglog_check_invariants(disk->vote);
}

bool raft_disk_holds(const struct raft_disk *disk, uint64_t seq)
{
    return seq > 0 && seq <= hf_seglog_synced_seq(disk->log);
}
