/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proposals and reads: what arrives in one turn of the loop, or while the own disk writes, makes
 * one batch.
 */
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/raft/driver_impl.h"

static uint64_t entry_bytes(const struct hf_raft_proposal *p)
{
    return HF_RAFT_ENTRY_HEAD_BYTES + (uint64_t)p->msg_len + p->bulk_len;
}

static struct hf_raft_proposal *pop(struct hf_raft_driver *d)
{
    struct hf_raft_proposal *p = d->queue.head;

    d->queue.head = p->next;
    if (!d->queue.head) {
        d->queue.tail = NULL;
    }
    p->next = NULL;
    d->queue_bytes -= entry_bytes(p);
    return p;
}

void hf_raft_driver_propose(struct hf_raft_driver *d, struct hf_raft_proposal *p)
{
    hf_assert_loop(d->env);
    HF_ASSERT(p->msg_len > 0 && p->msg_len <= HF_RPC_MSG_MAX && p->failed);
    HF_ASSERT(entry_bytes(p) <= HF_RAFT_ENTRY_MAX);
    p->next = NULL;
    if (d->queue.tail) {
        d->queue.tail->next = p;
    } else {
        d->queue.head = p;
    }
    d->queue.tail = p;
    d->queue_bytes += entry_bytes(p);
    raft_driver_run_soon(d);
}

/* Entries of the queue's head, as many as one batch takes. */
static uint32_t make_items(struct hf_raft_driver *d, struct raft_item **items, uint32_t *sizes)
{
    const uint64_t now_ns = hf_env_wall_ns(d->env);
    const uint64_t first = hf_raft_last_index(d->raft) + 1;
    uint64_t bytes = 0;
    struct hf_raft_proposal *p = d->queue.head;
    uint32_t count = 0;

    d->last_time_ns = now_ns > d->last_time_ns ? now_ns : d->last_time_ns;
    for (; p && count < RAFT_BATCH_ENTRIES_MAX; p = p->next) {
        struct hf_raft_entry entry = {
            .index = first + count,
            .term = hf_raft_term(d->raft),
            .time_ns = d->last_time_ns,
            .type = HF_RAFT_ENTRY_NORMAL,
            .msg = p->msg,
            .bulk = p->bulk,
            .msg_len = p->msg_len,
            .bulk_len = p->bulk_len,
        };

        if (count > 0 && bytes + entry_bytes(p) > RAFT_BATCH_BYTES_MAX) {
            break;
        }
        items[count] = raft_item_new(&entry);
        if (!items[count]) {
            break;
        }
        items[count]->proposal = p;
        sizes[count] = items[count]->bytes;
        bytes += items[count]->bytes;
        count++;
    }
    return count;
}

/* True: go on. */
static bool propose_batch(struct hf_raft_driver *d)
{
    struct raft_item *items[RAFT_BATCH_ENTRIES_MAX];
    uint32_t sizes[RAFT_BATCH_ENTRIES_MAX];
    struct raft_step_source source = {.items = items, .count = make_items(d, items, sizes)};
    struct hf_raft_event event = {.type = HF_RAFT_EV_PROPOSE};
    int err = -ENOMEM;

    if (source.count > 0) {
        /* They leave the queue first: the step may end leadership, and then fails what waits. */
        for (uint32_t i = 0; i < source.count; i++) {
            (void)pop(d);
        }
        event.u.propose.bytes = sizes;
        event.u.propose.count = source.count;
        err = raft_driver_step(d, &event, &source);
    }
    if (err) { /* back to the front, in order */
        for (uint32_t i = source.count; i > 0; i--) {
            struct hf_raft_proposal *p = items[i - 1]->proposal;

            if (!p) {
                continue;
            }
            p->next = d->queue.head;
            d->queue.head = p;
            d->queue.tail = d->queue.tail ? d->queue.tail : p;
            d->queue_bytes += entry_bytes(p);
        }
        d->queue_waits = true;
        if (!raft_driver_runs(d)) {
            raft_driver_run_soon(d); /* that step failed the driver: they fail as well */
        }
    }
    for (uint32_t i = 0; i < source.count; i++) {
        raft_item_unref(items[i]);
    }
    return !err;
}

static void fail_list(struct hf_raft_proposal *list, int err)
{
    struct hf_raft_proposal *next;

    for (struct hf_raft_proposal *p = list; p; p = next) {
        next = p->next;
        p->next = NULL;
        p->failed(p, err);
    }
}

static void fail_queue(struct hf_raft_driver *d, int err)
{
    struct hf_raft_proposal *list = d->queue.head;

    d->queue = (struct raft_proposals){0};
    d->queue_bytes = 0;
    fail_list(list, err);
}

/* Reads */

static void read_push(struct raft_reads *list, struct hf_raft_read *read)
{
    read->next = NULL;
    if (list->tail) {
        list->tail->next = read;
    } else {
        list->head = read;
    }
    list->tail = read;
}

static struct hf_raft_read *read_pop(struct raft_reads *list)
{
    struct hf_raft_read *read = list->head;

    list->head = read->next;
    if (!list->head) {
        list->tail = NULL;
    }
    read->next = NULL;
    return read;
}

static void fail_reads(struct raft_reads *list, int err)
{
    struct raft_reads all = *list;

    *list = (struct raft_reads){0};
    while (all.head) {
        struct hf_raft_read *read = read_pop(&all);

        read->done(read, err);
    }
}

void hf_raft_driver_read(struct hf_raft_driver *d, struct hf_raft_read *read)
{
    hf_assert_loop(d->env);
    read->id = read->index = 0;
    read_push(&d->fresh, read);
    if (d->stepping) {
        raft_driver_run_soon(d);
    } else {
        raft_requests_pump(d);
    }
}

static void ask_reads(struct hf_raft_driver *d)
{
    while (d->fresh.head) {
        struct hf_raft_event event = {.type = HF_RAFT_EV_READ};
        struct hf_raft_read *read = read_pop(&d->fresh);
        int err;

        event.u.read.id = ++d->read_id;
        read->id = d->read_id;
        read_push(&d->asked, read);
        err = raft_driver_step(d, &event, NULL);
        if (err) { /* not taken: it is the last of those asked, if it is still there */
            d->read_id--;
            if (d->asked.tail == read) {
                struct raft_reads keep = {0};

                while (d->asked.head != read) {
                    read_push(&keep, read_pop(&d->asked));
                }
                d->asked = keep;
                read->done(read, err == -EINVAL ? -HF_ENOTREADY : err);
            }
        }
    }
}

void raft_reads_confirmed(struct hf_raft_driver *d, uint64_t last_id, uint64_t index)
{
    for (struct hf_raft_read *read = d->asked.head; read && read->id <= last_id;
         read = read->next) {
        read->index = read->index ? read->index : index;
    }
    d->confirmed_id = last_id;
    raft_reads_serve(d);
}

void raft_reads_serve(struct hf_raft_driver *d)
{
    while (d->asked.head && d->asked.head->id <= d->confirmed_id &&
           d->asked.head->index <= d->applied) {
        struct hf_raft_read *read = read_pop(&d->asked);

        read->done(read, 0);
    }
}

/* Both */

void raft_requests_pump(struct hf_raft_driver *d)
{
    if (d->stepping) {
        raft_driver_run_soon(d);
        return;
    }
    if (!raft_driver_runs(d) || hf_raft_role(d->raft) != HF_RAFT_LEADER) {
        const int err = d->state == HF_RAFT_FAILED    ? d->refused
                        : d->state == HF_RAFT_CLOSING ? -HF_ENOTREADY
                                                      : -HF_ENOTLEADER;

        fail_reads(&d->fresh, err);
        fail_queue(d, err);
        return;
    }
    ask_reads(d);
    while (raft_driver_runs(d) && d->queue.head && d->own_writes < RAFT_OWN_WRITES_MAX &&
           !d->queue_waits && hf_raft_role(d->raft) == HF_RAFT_LEADER && propose_batch(d)) {
    }
}

void raft_requests_cut(struct hf_raft_driver *d, uint64_t index, int err)
{
    for (; index <= raft_items_last(&d->items); index++) {
        struct raft_item *item = raft_items_get(&d->items, index);

        if (item && item->proposal) {
            struct hf_raft_proposal *p = item->proposal;

            item->proposal = NULL;
            p->failed(p, err);
        }
    }
}

void raft_requests_fail(struct hf_raft_driver *d, int err)
{
    fail_queue(d, err);
    raft_requests_cut(d, d->applied + 1, err);
    fail_reads(&d->asked, err);
    fail_reads(&d->fresh, err);
}
