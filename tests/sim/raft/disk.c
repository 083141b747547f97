/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* Logs of entries */

uint64_t elog_last(const struct elog *log)
{
    return log->first + log->count - 1;
}

struct entry *elog_get(const struct elog *log, uint64_t index)
{
    return index >= log->first && index <= elog_last(log) && log->count
               ? &log->at[index - log->first]
               : NULL;
}

void elog_push(struct elog *log, const struct entry *e)
{
    if (log->count == log->room) {
        log->room = log->room ? log->room * 2 : 32;
        log->at = realloc(log->at, log->room * sizeof(*log->at));
        HF_ASSERT(log->at);
    }
    log->at[log->count++] = *e;
}

void elog_cut(struct elog *log, uint64_t from)
{
    if (from <= elog_last(log)) {
        log->count = from > log->first ? from - log->first : 0;
    }
}

void elog_trim(struct elog *log, uint64_t to)
{
    if (to >= elog_last(log)) {
        elog_reset(log, to + 1);
    } else if (to >= log->first) {
        const uint64_t drop = to + 1 - log->first;

        memmove(log->at, log->at + drop, (log->count - drop) * sizeof(*log->at));
        log->first += drop;
        log->count -= drop;
    }
}

void elog_reset(struct elog *log, uint64_t first)
{
    log->first = first;
    log->count = 0;
}

void elog_copy(struct elog *log, const struct elog *from)
{
    elog_reset(log, from->first);
    for (uint64_t i = 0; i < from->count; i++) {
        elog_push(log, &from->at[i]);
    }
}

/* The disk */

static void run_next(struct sim *s, struct node *n, uint32_t disk)
{
    struct queue *q = &n->disks[disk];
    uint64_t latency = hf_sim_rng_between(&s->rng, 100000, 3 * SIM_MS);

    if (q->running || !q->first) {
        return;
    }
    if (s->now < n->slow_until) {
        latency += hf_sim_rng_below(&s->rng, n->slow_ns);
    }
    if (s->now < n->stall_until && disk == 0) {
        latency += n->stall_until - s->now;
    }
    q->running = true;
    q->first->since_local_ns = sim_local(s, n);
    sim_at(s, latency, EV_DISK, n->id.v)->arg = disk;
}

void sim_disk_add(struct sim *s, struct node *n, const struct op *op)
{
    const uint32_t disk = op->type == OP_PERSIST && s->split_disk ? 1 : 0;
    struct queue *q = &n->disks[disk];
    struct op *copy = malloc(sizeof(*copy));

    HF_ASSERT(copy);
    *copy = *op;
    copy->next = NULL;
    if (q->last) {
        q->last->next = copy;
    } else {
        q->first = copy;
    }
    q->last = copy;
    run_next(s, n, disk);
}

static struct op *take(struct queue *q)
{
    struct op *op = q->first;

    q->first = op->next;
    if (!q->first) {
        q->last = NULL;
    }
    return op;
}

static void op_free(struct op *op)
{
    free(op->entries.at);
    free(op);
}

/* At most @entries of an append reach the disk. */
static void reach_disk(struct node *n, const struct op *op, uint64_t entries)
{
    switch (op->type) {
    case OP_PERSIST:
        n->term = op->term;
        n->vote = op->vote;
        break;
    case OP_APPEND:
        if (n->disk.count == 0 && op->first > n->disk.first) {
            elog_reset(&n->disk, op->first);
        }
        elog_cut(&n->disk, op->first);
        for (uint64_t i = 0; i < op->entries.count && i < entries; i++) {
            if (op->first + i >= n->disk.first) {
                elog_push(&n->disk, &op->entries.at[i]);
            }
        }
        break;
    case OP_CHUNK:
        break;
    case OP_INSTALL:
        n->snapshot = op->snapshot;
        if (entries) { /* a crash may come between the snapshot and the end of the old log */
            elog_reset(&n->disk, op->snapshot.index + 1);
        }
        break;
    }
}

static void report(struct sim *s, struct node *n, const struct op *op, int err)
{
    struct hf_raft_event e = {0};

    switch (op->type) {
    case OP_PERSIST:
        e.type = HF_RAFT_EV_PERSISTED;
        e.u.persisted.seq = op->seq;
        e.u.persisted.err = err;
        if (!err) {
            n->persisted_seq = op->seq;
        }
        break;
    case OP_APPEND:
        e.type = HF_RAFT_EV_APPENDED;
        e.u.appended.epoch = op->epoch;
        e.u.appended.last_index = op->last;
        e.u.appended.err = err;
        break;
    case OP_CHUNK:
        e.type = HF_RAFT_EV_SNAPSHOT_WRITTEN;
        e.u.snapshot_written.from = op->peer;
        e.u.snapshot_written.index = op->first;
        e.u.snapshot_written.end_bytes = op->last;
        e.u.snapshot_written.err = err;
        break;
    case OP_INSTALL:
        e.type = HF_RAFT_EV_SNAPSHOT_INSTALLED;
        e.u.snapshot_installed.index = op->snapshot.index;
        e.u.snapshot_installed.err = err;
        if (!err) {
            n->applied = op->snapshot.index;
            n->hash = op->snapshot.hash;
            n->applied_config = op->snapshot.config;
            elog_reset(&n->cache, op->snapshot.index + 1);
            s->snapshots++;
        }
        break;
    }
    sim_trace(s, "disk", n->id.v, op->type * 2 + (err != 0), op->last);
    (void)sim_step(s, n, &e, NULL, 0);
}

/* A failed append takes those queued behind it along, as a closed segment does. */
static void fail_queued(struct sim *s, struct node *n)
{
    struct queue *q = &n->disks[0];
    struct op *failed = NULL, **tail = &failed, **at = &q->first;

    q->last = NULL;
    while (*at) {
        struct op *op = *at;

        if (op->type == OP_APPEND) {
            *at = op->next;
            op->next = NULL;
            *tail = op;
            tail = &op->next;
        } else {
            q->last = op;
            at = &op->next;
        }
    }
    while (failed) {
        struct op *op = failed;

        failed = op->next;
        report(s, n, op, -EIO);
        op_free(op);
    }
}

void sim_disk_done(struct sim *s, struct node *n, uint32_t disk)
{
    struct op *op = take(&n->disks[disk]);
    const bool fails = s->now < n->fail_until && hf_sim_rng_chance(&s->rng, 30);

    if (!fails) {
        reach_disk(n, op, UINT64_MAX);
    } else if (op->type == OP_APPEND && hf_sim_rng_chance(&s->rng, 30)) {
        reach_disk(n, op, hf_sim_rng_below(&s->rng, op->entries.count + 1));
    }
    report(s, n, op, fails ? -EIO : 0);
    if (fails && op->type == OP_APPEND) {
        fail_queued(s, n);
    }
    op_free(op);
    n->disks[disk].running = false;
    run_next(s, n, disk);
}

/* Power is cut: what was not synced is lost, kept, or kept in part, in order. */
static void crash_queue(struct sim *s, struct node *n, struct queue *q)
{
    const unsigned mode = (unsigned)hf_sim_rng_below(&s->rng, 3);
    bool keep = mode > 0;

    while (q->first) {
        struct op *op = take(q);

        if (keep && mode == 2 && hf_sim_rng_chance(&s->rng, 40)) {
            if (op->type == OP_APPEND) {
                reach_disk(n, op, hf_sim_rng_below(&s->rng, op->entries.count + 1));
            } else if (op->type == OP_INSTALL) {
                reach_disk(n, op, 0);
            }
            keep = false;
        }
        if (keep) {
            reach_disk(n, op, UINT64_MAX);
        }
        op_free(op);
    }
    q->running = false;
}

void sim_disk_crash(struct sim *s, struct node *n)
{
    crash_queue(s, n, &n->disks[0]);
    crash_queue(s, n, &n->disks[1]);
}
