/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/driver_impl.h"

#include "common/base/assert.h"
#include "server/raft/raft_impl.h"

/* What the core believes of the log is what the driver has of it. */
static void check_core(const struct hf_raft_driver *d)
{
    const struct hf_raft *r = d->raft;
    const uint64_t first = r->log.base + 1, last = r->log.last;
    const struct raft_item *durable = raft_items_get(&d->items, r->durable);

    /* After a failed write what the core gave up stays here until the rest is written again. */
    HF_ASSERT(raft_items_last(&d->items) == last ||
              (raft_items_last(&d->items) > last && r->rewrite_due));
    HF_ASSERT(d->items.first <= first);
    HF_ASSERT(d->applied >= r->log.base && d->applied <= r->commit && d->trim_to <= d->applied);
    if (last >= first) {
        const struct raft_item *oldest = raft_items_get(&d->items, first);

        HF_ASSERT(oldest->entry.term == hf_raft_log_term(&r->log, first));
        HF_ASSERT(raft_items_get(&d->items, last)->entry.term == hf_raft_log_term(&r->log, last));
    }
    HF_ASSERT(!durable || raft_disk_holds(d->disk, durable->seq));
    HF_ASSERT(durable || r->durable < first);
}

static void check_promises(const struct hf_raft_driver *d)
{
    const struct hf_raft *r = d->raft;
    uint64_t seq = d->persisted_seq;
    uint32_t held = 0;

    HF_ASSERT(d->persisted_seq == r->persisted_seq);
    HF_ASSERT(r->dirty || (d->hard.term == r->term && d->hard.vote.v == r->vote.v));
    HF_ASSERT(d->hard.abstain == r->abstain);
    HF_ASSERT(!d->leading || r->role == HF_RAFT_LEADER);
    HF_ASSERT(!d->lead_due || (r->role == HF_RAFT_LEADER && !d->leading));
    HF_ASSERT(!d->held_head || d->held_head->persist_seq > seq); /* else it had gone */
    for (const struct raft_out *out = d->held_head; out; out = out->next) {
        HF_ASSERT(out->persist_seq >= seq && (out->next || out == d->held_tail));
        seq = out->persist_seq;
        held++;
    }
    HF_ASSERT(held == d->held && held <= RAFT_HELD_MAX);
}

static void check_requests(const struct hf_raft_driver *d)
{
    const struct hf_raft_read *first = d->asked.head;
    uint64_t bytes = 0, id = 0;

    for (const struct hf_raft_proposal *p = d->queue.head; p; p = p->next) {
        HF_ASSERT(p->next || p == d->queue.tail);
        bytes += HF_RAFT_ENTRY_HEAD_BYTES + (uint64_t)p->msg_len + p->bulk_len;
    }
    HF_ASSERT(bytes == d->queue_bytes);
    HF_ASSERT(!d->queue.head || d->run.queued || d->own_writes > 0 || d->queue_waits);
    for (const struct hf_raft_read *read = first; read; read = read->next) {
        HF_ASSERT(read->id > id && read->id <= d->read_id);
        HF_ASSERT((read->index > 0) == (read->id <= d->confirmed_id));
        id = read->id;
    }
    HF_ASSERT(!first || first->id > d->confirmed_id || first->index > d->applied);
    HF_ASSERT(!d->fresh.head || d->run.queued);
}

/* Proposals wait in the log only above what is applied, and only at the leader. */
static void check_items(const struct hf_raft_driver *d)
{
    raft_items_check_invariants(&d->items);
    for (uint64_t i = 0; i < d->items.count; i++) {
        const struct raft_item *item = raft_items_get(&d->items, d->items.first + i);

        HF_ASSERT(!item->proposal || item->entry.index > d->applied);
        HF_ASSERT(!item->proposal || hf_raft_role(d->raft) == HF_RAFT_LEADER);
        HF_ASSERT(item->entry.time_ns <= d->last_time_ns);
    }
}

void hf_raft_driver_check_invariants(const struct hf_raft_driver *d)
{
    const bool runs = raft_driver_runs(d);

    HF_ASSERT(!d->stepping && (!runs || d->own_writes <= d->writes));
    HF_ASSERT((d->failed != 0) == (d->state == HF_RAFT_FAILED) || d->state == HF_RAFT_CLOSING);
    HF_ASSERT(runs || !d->held_head);
    raft_disk_check_invariants(d->disk, d->writes);
    check_requests(d);
    raft_transfer_check(d);
    raft_pins_check(d);
    if (runs) {
        check_items(d);
        check_promises(d);
    }
    if (runs && !d->incoming.installing) {
        check_core(d);
    }
}
