/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/log/log.h"
#include "server/meta/journal_format.h"
#include "server/seglog/seglog.h"

#define TERM              UINT64_C(1)
#define RETRY_NS          HF_NS_PER_SEC
#define CLOSE_POLL_NS     (5 * HF_NS_PER_MS)
#define SPARE_SEGMENTS    2u
#define ENTRY_BYTES_MAX   (HF_JOURNAL_ENTRY_HEAD + HF_RPC_MSG_MAX + HF_FRAME_BULK_MAX)
#define IN_META_BYTES_MAX (HF_SEGLOG_META_MAX - HF_JOURNAL_HEAD_BYTES)

static_assert(ENTRY_BYTES_MAX <= HF_JOURNAL_BATCH_BYTES, "an entry fits a batch");
static_assert(HF_JOURNAL_BATCH_BYTES <= HF_OBJECT_BYTES_MAX, "a batch fits one buffer");

struct entry_list {
    struct hf_journal_entry *head, *tail;
    size_t bytes;
};

struct hf_journal {
    struct hf_env *env;
    struct hf_seglog *log;
    struct entry_list queue;  /* proposed, not yet written */
    struct entry_list flight; /* in the record that is being written */
    struct hf_buf *batch;     /* the record's entries */
    size_t batch_bytes;       /* of several entries; one may be larger */
    uint8_t meta[HF_SEGLOG_META_MAX];
    struct hf_seglog_append append;
    struct iovec iov;
    struct hf_task flush;
    struct hf_timer retry;
    struct hf_timer close_poll;
    void (*failed_fn)(void *ctx, int err);
    void *ctx;
    void (*close_done)(void *ctx);
    void *close_ctx;
    uint64_t last_index, synced_index;
    uint64_t last_time_ns;
    uint64_t committed_seq; /* records up to here are committed */
    uint64_t replay_seq;    /* records up to here hold nothing above the checkpoint */
    uint64_t syncs;
    bool writing;
    bool closing;
    int failed;
};

/* Replay: what hf_journal_open() keeps while the log is read. */
struct replay {
    const struct hf_journal_options *options;
    struct hf_journal *journal;
    uint64_t next_index; /* expected; 0: nothing seen yet */
    uint64_t rot_first_seq, rot_last_seq;
    uint64_t record_seq; /* being replayed */
    uint64_t last_seq;
    char *error;
};

static void list_push(struct entry_list *list, struct hf_journal_entry *entry)
{
    entry->next = NULL;
    if (list->tail) {
        list->tail->next = entry;
    } else {
        list->head = entry;
    }
    list->tail = entry;
    list->bytes += HF_JOURNAL_ENTRY_HEAD + entry->msg_len + entry->bulk_len;
}

static struct hf_journal_entry *list_pop(struct entry_list *list)
{
    struct hf_journal_entry *entry = list->head;

    if (entry) {
        list->head = entry->next;
        if (!list->head) {
            list->tail = NULL;
        }
        list->bytes -= HF_JOURNAL_ENTRY_HEAD + entry->msg_len + entry->bulk_len;
        entry->next = NULL;
    }
    return entry;
}

static struct hf_journal_item item_of(const struct hf_journal_entry *entry)
{
    return (struct hf_journal_item){
        .index = entry->index,
        .term = entry->term,
        .time_ns = entry->time_ns,
        .msg = entry->msg,
        .bulk = entry->bulk,
        .msg_len = entry->msg_len,
        .bulk_len = entry->bulk_len,
    };
}

/* Writing */

static void fail_list(struct entry_list *list, int err)
{
    struct hf_journal_entry *entry;

    while ((entry = list_pop(list))) {
        entry->done(entry, err);
    }
}

static void fail_for_good(struct hf_journal *journal, int err)
{
    journal->failed = err;
    hf_log(HF_LOG_ERROR, "journal", "failed",
           "err=%s index=%llu what=\"the metadata log cannot be written; this node answers no "
           "metadata request any more. Check the disk (dmesg, smartctl), then restart holdfastd\"",
           hf_err_name(err), (unsigned long long)(journal->synced_index + 1));
    if (journal->failed_fn) {
        journal->failed_fn(journal->ctx, err);
    }
    fail_list(&journal->flight, err);
    fail_list(&journal->queue, err);
}

static void append_done(void *ctx, int err);

static void submit(struct hf_journal *journal)
{
    journal->writing = true;
    hf_seglog_append(journal->log, &journal->append);
}

static void flush_queue(struct hf_journal *journal)
{
    struct hf_journal_entry *entry;
    struct hf_writer w;
    struct hf_journal_item item;
    struct hf_journal_head head = {.version = HF_JOURNAL_RECORD_VERSION, .term = TERM};
    uint32_t count = 0, bytes;
    bool in_meta;

    if (journal->writing || journal->flight.head || journal->failed || journal->closing ||
        !journal->queue.head) {
        return; /* a record that waits for space counts as being written */
    }
    head.first_index = journal->queue.head->index;
    w = hf_writer_init(journal->batch->data, HF_JOURNAL_BATCH_BYTES);
    while ((entry = journal->queue.head)) {
        size_t with = (size_t)(w.at - journal->batch->data) + HF_JOURNAL_ENTRY_HEAD +
                      entry->msg_len + entry->bulk_len;

        if (with > (count ? journal->batch_bytes : HF_JOURNAL_BATCH_BYTES)) {
            break;
        }
        (void)list_pop(&journal->queue);
        item = item_of(entry);
        hf_journal_item_encode(&w, &item);
        list_push(&journal->flight, entry);
        count++;
    }
    HF_ASSERT(!w.bad && count > 0);
    bytes = (uint32_t)(w.at - journal->batch->data);
    in_meta = bytes <= IN_META_BYTES_MAX;
    head.count = count;
    head.bytes = bytes;
    head.flags = in_meta ? HF_JOURNAL_IN_META : 0;
    hf_journal_head_encode(&head, journal->meta);
    journal->iov = (struct iovec){.iov_base = journal->batch->data, .iov_len = bytes};
    journal->append = (struct hf_seglog_append){
        .type = HF_JOURNAL_RECORD_TYPE,
        .sum_payload = true,
        .aligned = true,
        .meta = journal->meta,
        .meta_len_bytes = HF_JOURNAL_HEAD_BYTES,
        .iov = &journal->iov,
        .iov_count = 1,
        .payload_len_bytes = bytes,
        .done = append_done,
        .ctx = journal,
    };
    if (in_meta) { /* one page in one write instead of two */
        memcpy(journal->meta + HF_JOURNAL_HEAD_BYTES, journal->batch->data, bytes);
        journal->append.meta_len_bytes += bytes;
        journal->append.iov = NULL;
        journal->append.iov_count = 0;
        journal->append.payload_len_bytes = 0;
    }
    submit(journal);
}

static void flush_task(struct hf_task *task)
{
    flush_queue(hf_container_of(task, struct hf_journal, flush));
}

static void append_failed(struct hf_journal *journal, int err)
{
    if (journal->closing) {
        fail_list(&journal->flight, -HF_ENOTREADY);
        return;
    }
    if (err == -ENOSPC) {
        hf_log(HF_LOG_ERROR, "journal", "no space",
               "index=%llu what=\"the metadata log cannot grow; requests wait. Free space on the "
               "disk of the metadata directory\"",
               (unsigned long long)(journal->synced_index + 1));
        hf_timer_arm(&journal->retry, RETRY_NS);
        return;
    }
    if (hf_seglog_broken(journal->log) || err == -EFBIG) {
        fail_for_good(journal, err);
        return;
    }
    /* Acknowledged to nobody, and its number is free again: write the same record once more. What
     * the failed segment holds of it, if anything, is either never found or the very same. */
    hf_log(HF_LOG_WARN, "journal", "write failed",
           "err=%s index=%llu what=\"writing it again in a new segment\"", hf_err_name(err),
           (unsigned long long)(journal->synced_index + 1));
    submit(journal);
}

static void append_done(void *ctx, int err)
{
    struct hf_journal *journal = ctx;
    struct hf_journal_entry *entry;

    journal->writing = false;
    if (err) {
        append_failed(journal, err);
        return;
    }
    journal->syncs++;
    /* The next record is on its way before anyone hears of this one, and it is filled with what
     * waits by now: entries proposed from within done() join the one after. */
    {
        struct entry_list done = journal->flight;
        uint64_t seq = journal->append.seq;

        journal->flight = (struct entry_list){0};
        flush_queue(journal);
        while ((entry = list_pop(&done))) {
            journal->synced_index = entry->index;
            if (!done.head) {
                journal->committed_seq = seq;
            }
            entry->done(entry, 0);
        }
    }
}

static void retry_timer(void *ctx)
{
    struct hf_journal *journal = ctx;

    if (!journal->failed && !journal->closing && !journal->writing && journal->flight.head) {
        submit(journal);
    }
}

static void reject_task(struct hf_task *task);

struct reject { /* an entry refused at once; done may not run before propose returned */
    struct hf_task task;
    struct hf_journal_entry *entry;
    int err;
};

static void reject_task(struct hf_task *task)
{
    struct reject *reject = hf_container_of(task, struct reject, task);
    struct hf_journal_entry *entry = reject->entry;
    int err = reject->err;

    free(reject);
    entry->done(entry, err);
}

void hf_journal_propose(struct hf_journal *journal, struct hf_journal_entry *entry)
{
    uint64_t now_ns = hf_env_wall_ns(journal->env);

    hf_assert_loop(journal->env);
    HF_ASSERT(entry->msg_len > 0 && entry->msg_len <= HF_RPC_MSG_MAX);
    HF_ASSERT(entry->bulk_len <= HF_FRAME_BULK_MAX && entry->done);
    if (journal->failed || journal->closing || journal->queue.bytes > HF_JOURNAL_QUEUE_BYTES) {
        struct reject *reject = calloc(1, sizeof(*reject));

        HF_ASSERT(reject);
        reject->task.fn = reject_task;
        reject->entry = entry;
        reject->err = journal->failed ? journal->failed : -HF_ENOTREADY;
        hf_env_post(journal->env, &reject->task);
        return;
    }
    journal->last_time_ns = now_ns > journal->last_time_ns ? now_ns : journal->last_time_ns;
    HF_ASSERT(journal->last_index < HF_JOURNAL_INDEX_MAX);
    entry->index = ++journal->last_index;
    entry->term = TERM;
    entry->time_ns = journal->last_time_ns;
    list_push(&journal->queue, entry);
    if (!journal->writing) {
        hf_env_post(journal->env, &journal->flush); /* all of this turn of the loop share one */
    }
}

/* Opening */

static int replay_error(struct replay *replay, const char *fmt, unsigned long long a,
                        unsigned long long b)
{
    if (!replay->error && asprintf(&replay->error, fmt, a, b) < 0) {
        replay->error = NULL;
    }
    return -EBADMSG;
}

static int replay_entry(struct replay *replay, const struct hf_journal_entry *entry,
                        uint64_t record_seq)
{
    struct hf_journal *journal = replay->journal;
    int err = 0;

    if (replay->next_index == 0) { /* the oldest entry held */
        if (entry->index > replay->options->applied_index + 1) {
            return replay_error(replay,
                                "the metadata log starts at entry %llu but the table only holds "
                                "what entry %llu left: restore the table directory",
                                entry->index, replay->options->applied_index);
        }
    } else if (entry->index != replay->next_index) {
        return replay_error(replay,
                            "the metadata log has entry %llu where %llu should be: it is damaged; "
                            "restore the metadata directory from a copy",
                            entry->index, replay->next_index);
    }
    replay->next_index = entry->index + 1;
    journal->last_index = journal->synced_index = entry->index;
    if (entry->time_ns > journal->last_time_ns) {
        journal->last_time_ns = entry->time_ns;
    }
    if (entry->index > replay->options->applied_index) {
        err = replay->options->replay(replay->options->ctx, entry);
    } else {
        journal->replay_seq = record_seq - 1;
    }
    return err;
}

static int replay_item(void *ctx, const struct hf_journal_item *item)
{
    struct replay *replay = ctx;
    struct hf_journal_entry entry = {
        .msg = item->msg,
        .bulk = item->bulk,
        .msg_len = item->msg_len,
        .bulk_len = item->bulk_len,
        .index = item->index,
        .term = item->term,
        .time_ns = item->time_ns,
    };

    return replay_entry(replay, &entry, replay->record_seq);
}

static int replay_record(void *ctx, const struct hf_seglog_record *record)
{
    struct replay *replay = ctx;
    int err = -EBADMSG;

    replay->record_seq = record->seq;
    if (record->type == HF_JOURNAL_RECORD_TYPE) {
        err = hf_journal_record_decode(record->meta, record->meta_len_bytes, record->payload,
                                       record->payload_len_bytes, replay_item, replay);
    }
    if (err == -EBADMSG) {
        return replay_error(replay,
                            "record %llu of the metadata log (type %llu) is not one that this "
                            "version writes: run the version that wrote it",
                            record->seq, record->type);
    }
    replay->last_seq = record->seq;
    return err;
}

static void replay_rot(void *ctx, uint64_t first_seq, uint64_t last_seq, struct hf_seglog_pos pos)
{
    struct replay *replay = ctx;

    replay->rot_first_seq = first_seq;
    replay->rot_last_seq = last_seq > replay->rot_last_seq ? last_seq : replay->rot_last_seq;
    hf_log(HF_LOG_ERROR, "journal", "records unreadable",
           "first=%llu last=%llu segment=%llu offset=%llu", (unsigned long long)first_seq,
           (unsigned long long)last_seq, (unsigned long long)pos.segment,
           (unsigned long long)pos.off_bytes);
}

/* A hole inside shows as a jump of the index; one at the end only here. */
static int check_end(struct replay *replay)
{
    struct hf_journal *journal = replay->journal;

    if (replay->rot_last_seq > replay->last_seq) {
        return replay_error(replay,
                            "records %llu to %llu at the end of the metadata log were synced and "
                            "are unreadable: restore the metadata directory from a copy",
                            replay->rot_first_seq, replay->rot_last_seq);
    }
    if (journal->last_index < replay->options->applied_index) {
        return replay_error(replay,
                            "the metadata log ends at entry %llu but the table holds entry %llu: "
                            "the log directory was lost; restore it",
                            journal->last_index, replay->options->applied_index);
    }
    return 0;
}

int hf_journal_open(struct hf_env *env, const struct hf_journal_options *options,
                    struct hf_journal **ret, char **ret_error)
{
    struct hf_journal *journal = calloc(1, sizeof(*journal));
    struct replay replay = {.options = options, .journal = journal};
    struct hf_seglog_options log_options = {
        .dir = options->dir,
        .pool = HF_POOL_LOG,
        .segment_bytes = options->segment_bytes ? options->segment_bytes : HF_JOURNAL_SEGMENT_BYTES,
        .prezero = true,
        .spares = SPARE_SEGMENTS,
        .identity = options->identity,
        .replay_payload = true,
        .replay = replay_record,
        .rot = replay_rot,
        .ctx = &replay,
    };
    int err = -ENOMEM;

    *ret_error = NULL;
    if (!journal) {
        return -ENOMEM;
    }
    journal->env = env;
    journal->failed_fn = options->failed;
    journal->ctx = options->ctx;
    journal->flush.fn = flush_task;
    hf_timer_init(&journal->retry, env, retry_timer, journal);
    journal->batch_bytes = log_options.segment_bytes / 4 < HF_JOURNAL_BATCH_BYTES
                               ? (size_t)log_options.segment_bytes / 4
                               : HF_JOURNAL_BATCH_BYTES;
    journal->batch = hf_buf_get(options->pool, HF_JOURNAL_BATCH_BYTES);
    if (!journal->batch) {
        goto fail;
    }
    err = hf_seglog_open(env, &log_options, &journal->log);
    if (err) {
        goto fail;
    }
    err = check_end(&replay);
    if (err) {
        goto fail;
    }
    journal->committed_seq = hf_seglog_last_seq(journal->log);
    *ret = journal;
    return 0;

fail:
    *ret_error = replay.error;
    if (!replay.error &&
        asprintf(ret_error, "metadata log in %s: %s", options->dir, hf_err_text(err)) < 0) {
        *ret_error = NULL;
    }
    hf_journal_abandon(journal);
    return err;
}

/* Trimming */

uint64_t hf_journal_position(const struct hf_journal *journal)
{
    return journal->committed_seq;
}

void hf_journal_trim(struct hf_journal *journal, uint64_t position)
{
    if (!journal->failed && !journal->closing && position > 0) {
        hf_seglog_trim_head(journal->log, position);
    }
}

void hf_journal_status(const struct hf_journal *journal, struct hf_journal_status *ret)
{
    struct hf_seglog_stats stats;

    hf_seglog_stats(journal->log, &stats);
    *ret = (struct hf_journal_status){
        .last_index = journal->last_index,
        .synced_index = journal->synced_index,
        .replay_position = journal->replay_seq,
        .log_bytes = stats.file_bytes - stats.spare_bytes,
        .syncs = journal->syncs,
        .failed = journal->failed,
    };
}

/* Closing */

static void journal_free(struct hf_journal *journal)
{
    hf_timer_fini(&journal->retry);
    hf_timer_fini(&journal->close_poll);
    hf_seglog_close(journal->log);
    hf_buf_unref(journal->batch);
    free(journal);
}

static void close_poll(void *ctx)
{
    struct hf_journal *journal = ctx;
    void (*done)(void *ctx) = journal->close_done;
    void *done_ctx = journal->close_ctx;

    if (journal->writing || journal->flush.queued || !hf_seglog_idle(journal->log)) {
        hf_timer_arm(&journal->close_poll, CLOSE_POLL_NS);
        return;
    }
    journal_free(journal);
    if (done) {
        done(done_ctx);
    }
}

void hf_journal_close(struct hf_journal *journal, void (*done)(void *ctx), void *ctx)
{
    HF_ASSERT(!journal->closing);
    journal->closing = true;
    journal->close_done = done;
    journal->close_ctx = ctx;
    hf_timer_disarm(&journal->retry);
    if (!journal->writing) {
        fail_list(&journal->flight, -HF_ENOTREADY);
    }
    fail_list(&journal->queue, -HF_ENOTREADY);
    hf_timer_init(&journal->close_poll, journal->env, close_poll, journal);
    hf_timer_arm(&journal->close_poll, 0);
}

void hf_journal_abandon(struct hf_journal *journal)
{
    if (!journal) {
        return;
    }
    HF_ASSERT(!journal->writing && !journal->queue.head);
    if (journal->log && !hf_seglog_idle(journal->log)) {
        hf_buf_unref(journal->batch);
        journal->batch = NULL;
        hf_journal_close(journal, NULL, NULL);
    } else {
        journal_free(journal);
    }
}
