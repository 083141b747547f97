/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/background.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define TOMBSTONE_BYTES 64u /* what one counts for when a segment's live share is weighed */

/* Which segment next */

struct choice {
    struct hf_store *store;
    uint64_t now_ns;
    uint32_t percent;
    uint64_t room_bytes; /* for what is moved */
    uint64_t number;     /* 0: none */
    uint64_t weight;     /* live bytes per file KiB, of the best so far */
    bool older_to_go;
    uint64_t rotten; /* may go as it is; 0: none */
};

/*
 * Nothing can be moved out of it. It goes once everything that was known in it is repaired or
 * deleted; one of which nothing was known, as after a rebuild of the index, is the operator's. It
 * may hold copies out of older segments that are to go, and burying a copy buries them all: they go
 * first.
 */
static void consider_rotten(struct choice *choice, const struct hf_store_segment *s)
{
    if (s && s->lost && s->live_bytes == 0 && s->tombstones == 0 &&
        s->dying == HF_STORE_NOT_DYING && !choice->older_to_go && !choice->rotten) {
        choice->rotten = s->number;
    }
}

static void consider(void *ctx, const struct hf_seglog_segment_info *info)
{
    struct choice *choice = ctx;
    const struct hf_store_segment *s = hf_store_segment_find(choice->store, info->number);
    uint64_t live = s ? s->live_bytes + s->tombstones * TOMBSTONE_BYTES : 0;
    /*
     * The share of what was written: a tail that was too short for the next record is not a reason
     * to move everything, again and again. One closed early (a restart) is weighed as a whole.
     */
    uint64_t basis = info->end_bytes >= info->file_bytes / 2 ? info->end_bytes : info->file_bytes;
    bool broken = info->state == HF_SEGMENT_FAILED || info->state == HF_SEGMENT_UNSEALED;
    uint64_t weight = live / (info->file_bytes / 1024);

    if (info->state == HF_SEGMENT_ROTTEN) {
        consider_rotten(choice, s);
        return;
    }
    if (info->state == HF_SEGMENT_OPEN ||
        (!broken && !(s && s->forced) && live >= basis / 100 * choice->percent)) {
        return;
    }
    choice->older_to_go = true;
    if (info->dropping || (s && s->dying != HF_STORE_NOT_DYING)) {
        return;
    }
    if (s && (s->retry_ns > choice->now_ns ||
              (s->blocked_on && hf_seglog_has_segment(choice->store->log, s->blocked_on)) ||
              (s->pinned_live_bytes && s->pinned_live_bytes == s->live_bytes + s->tombstones))) {
        return;
    }
    if (live > choice->room_bytes) {
        return; /* moved in part it frees nothing */
    }
    if (choice->number == 0 || weight < choice->weight) {
        choice->number = info->number;
        choice->weight = weight;
    }
}

static uint64_t choose(struct hf_store *store, uint64_t *ret_rotten)
{
    uint64_t room = hf_store_room(store), reserve = store->options.reserve_clean_bytes;
    struct choice choice = {
        .store = store,
        .now_ns = hf_env_mono_ns(store->env),
        .percent = store->options.compact_live_percent,
        .room_bytes = room > reserve ? room - reserve : 0,
    };

    if (room < 2 * store->options.reserve_put_bytes && choice.percent < 90) {
        choice.percent = 90; /* short of space: take what there is */
    }
    hf_seglog_segments(store->log, consider, &choice);
    *ret_rotten = choice.rotten;
    return choice.number;
}

static void let_go(struct hf_store *store, uint64_t rotten)
{
    hf_store_segment_find(store, rotten)->dying = HF_STORE_DYING;
    store->checkpoint_wanted = true;
    hf_log(HF_LOG_WARN, "store", "rotten segment removed",
           "segment=%llu what=\"all that was known in it is repaired or deleted\"",
           (unsigned long long)rotten);
}

/* Checkpoint, then recycling of what it no longer names */

struct drop_op {
    struct hf_seglog_drop drop;
    struct hf_store *store;
};

static void dropped(void *ctx, int err)
{
    struct drop_op *op = ctx;
    struct hf_store *store = op->store;
    struct hf_store_segment *s = hf_store_segment_find(store, op->drop.segment);

    store->users--;
    if (!err) {
        store->stats.recycled_segments++;
        hf_store_segment_forget(store, op->drop.segment);
    } else if (s && err == -EBUSY) {
        s->dying = HF_STORE_NOT_DYING;
        s->blocked_on = op->drop.blocked_by;
        s->retry_ns = hf_env_mono_ns(store->env) + HF_NS_PER_SEC;
    } else if (s) {
        s->dying = HF_STORE_DYING; /* the tick tries again */
        hf_log(HF_LOG_WARN, "store", "segment not recycled", "segment=%llu err=\"%s\"",
               (unsigned long long)op->drop.segment, hf_err_text(err));
    }
    free(op);
    hf_store_wake(store);
    hf_store_background_run(store);
}

static void drop_checkpointed(struct hf_store *store)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct hf_store_segment *s = &store->segments[i];
        struct drop_op *op = s->dying == HF_STORE_CHECKPOINTED ? calloc(1, sizeof(*op)) : NULL;

        if (op) {
            HF_ASSERT((s->live_bytes == 0 && s->tombstones == 0) || HF_BUG(recycles_live));
            s->dying = HF_STORE_DROPPING;
            op->store = store;
            op->drop = (struct hf_seglog_drop){.segment = s->number, .done = dropped, .ctx = op};
            store->users++;
            hf_seglog_drop_segment(store->log, &op->drop);
        }
    }
}

static void checkpointed(void *ctx, int err)
{
    struct hf_store *store = ctx;

    store->checkpoint_running = false;
    store->users--;
    if (err) {
        hf_log(HF_LOG_WARN, "store", "index checkpoint failed", "err=\"%s\"", hf_err_text(err));
        for (uint32_t i = 0; i < store->segment_count; i++) {
            if (store->segments[i].dying == HF_STORE_CHECKPOINTED) {
                store->segments[i].dying = HF_STORE_DYING;
            }
        }
        hf_store_wake(store); /* the tick tries again */
        return;
    }
    drop_checkpointed(store);
    hf_store_wake(store);
}

static void checkpoint(struct hf_store *store)
{
    uint8_t mark[sizeof(struct hf_store_mark_disk)];

    if (store->checkpoint_running || store->index_failed ||
        !(store->checkpoint_wanted || hf_table_wants_checkpoint(store->index))) {
        return;
    }
    store->checkpoint_wanted = false;
    store->checkpoint_running = true;
    store->users++;
    for (uint32_t i = 0; i < store->segment_count; i++) {
        if (store->segments[i].dying == HF_STORE_DYING) {
            store->segments[i].dying = HF_STORE_CHECKPOINTED;
        }
    }
    hf_store_mark_encode(
        &store->identity.store,
        HF_BUG(index_mark_ahead) ? hf_seglog_last_seq(store->log) : store->applied_seq, mark);
    hf_table_checkpoint(store->index, mark, sizeof(mark), checkpointed, store);
}

/* Space */

static void space_run(struct hf_job *job)
{
    struct hf_store *store = hf_container_of(job, struct hf_store, space_job);

    store->space_err = hf_disk_space(store->disk, store->dir, &store->space_next);
}

static void space_take(struct hf_store *store)
{
    struct hf_seglog_stats stats;

    if (!store->space_err) {
        hf_seglog_stats(store->log, &stats);
        store->space = store->space_next;
        store->space_file_bytes = stats.file_bytes;
    }
}

static void space_done(struct hf_job *job)
{
    struct hf_store *store = hf_container_of(job, struct hf_store, space_job);

    store->space_running = false;
    store->users--;
    space_take(store);
}

void hf_store_space_update(struct hf_store *store)
{
    space_run(&store->space_job);
    space_take(store);
}

/* The tick */

/* Whoever asked for a write that failed goes on elsewhere: the operator learns of it here. */
static void tell_failures(struct hf_store *store)
{
    struct hf_seglog_stats stats;

    hf_seglog_stats(store->log, &stats);
    if (stats.failures > store->failures_told) {
        store->failures_told = stats.failures;
        hf_log(HF_LOG_ERROR, "store", "write failed", "dir=%s failures=%llu what=\"%s\"",
               store->dir, (unsigned long long)stats.failures,
               hf_seglog_broken(store->log)
                   ? "nothing is stored any more until holdfastd is started again; look at the disk"
                   : "its segment is closed for good, others are used; look at the disk");
    }
}

void hf_store_background_run(struct hf_store *store)
{
    if (store->closing) {
        return;
    }
    if (!store->compaction && !store->index_failed && !hf_seglog_broken(store->log)) {
        uint64_t rotten = 0;
        uint64_t number = choose(store, &rotten);

        if (rotten) {
            let_go(store, rotten);
        }
        if (number) {
            hf_store_compaction_start(store, number);
        }
    }
    checkpoint(store);
}

static bool more_to_do(struct hf_store *store)
{
    if (store->active || store->compaction || store->checkpoint_running ||
        hf_table_dirty(store->index)) {
        return true;
    }
    if (hf_store_room(store) < store->options.reserve_put_bytes) {
        return true; /* full: somebody else may make room on the disk */
    }
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct hf_store_segment *s = &store->segments[i];

        if (s->retry_ns > hf_env_mono_ns(store->env) || s->dying == HF_STORE_DYING ||
            s->dying == HF_STORE_CHECKPOINTED) {
            return true;
        }
    }
    return false;
}

static void tick(void *ctx)
{
    struct hf_store *store = ctx;

    store->active = false;
    tell_failures(store);
    if (!store->space_running) {
        store->space_running = true;
        store->users++;
        store->space_job = (struct hf_job){.run = space_run, .done = space_done};
        hf_env_submit(store->env, HF_POOL_DISK, &store->space_job);
    }
    for (uint32_t i = 0; i < store->segment_count; i++) {
        if (store->segments[i].dying == HF_STORE_DYING) {
            store->checkpoint_wanted = true;
        }
    }
    hf_store_background_run(store);
    /* With nothing to do it looks at the disk all the same: others take and free space there, and
     * where there is little, clients are granted none, so nothing would ever wake it. */
    hf_timer_arm(&store->tick, more_to_do(store) ? HF_STORE_TICK_NS : HF_STORE_IDLE_TICK_NS);
}

void hf_store_wake(struct hf_store *store)
{
    if (!store->active && !store->closing) {
        hf_timer_arm(&store->tick, HF_STORE_TICK_NS); /* sooner than an idle one */
    }
    store->active = true;
}

void hf_store_background_start(struct hf_store *store)
{
    hf_timer_init(&store->tick, store->env, tick, store);
    hf_store_wake(store);
}

void hf_store_background_stop(struct hf_store *store)
{
    hf_timer_fini(&store->tick);
}

void hf_store_compact_now(struct hf_store *store)
{
    hf_assert_loop(store->env);
    store->checkpoint_wanted = true;
    hf_store_background_run(store);
}
