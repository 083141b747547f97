/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delete.c - tombstones: one NOTES record for many ids, synced before the answer.
 *
 * A deletion waits ("parks") while a put or a copy of one of its objects is in flight: its
 * tombstone must come later in the log than every record of the object.
 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"

struct delete_wait {
    struct hf_task task;
    struct hf_store *store;
    struct hf_store_delete *next;
    int err;
};

static_assert(sizeof(struct delete_wait) <= sizeof(((struct hf_store_delete *)0)->impl), "fits");

struct delete_op;

/** One NOTES record of a deletion, or a note nobody waits for. */
struct notes_op {
    struct hf_seglog_append append;
    struct hf_store *store;
    struct delete_op *owner; /* NULL: nobody waits */
    uint32_t count;
    struct hf_store_note *notes;
    struct hf_store_inflight *ins; /* of a deletion */
    uint8_t *meta;
};

struct delete_op {
    struct hf_store *store;
    struct hf_store_delete *del;
    uint32_t records_left;
    int err;
};

static void notes_appended(void *ctx, int err);

static struct delete_wait *wait_of(struct hf_store_delete *del)
{
    return (struct delete_wait *)(void *)del->impl;
}

static void answer_run(struct hf_task *task)
{
    struct delete_wait *wait = hf_container_of(task, struct delete_wait, task);
    struct hf_store_delete *del =
        (struct hf_store_delete *)(void *)((char *)wait - offsetof(struct hf_store_delete, impl));

    wait->store->users--;
    del->done(del->ctx, wait->err);
}

static void answer(struct hf_store *store, struct hf_store_delete *del, int err)
{
    struct delete_wait *wait = wait_of(del);

    *wait = (struct delete_wait){.task = {.fn = answer_run}, .store = store, .err = err};
    store->users++;
    hf_env_post(store->env, &wait->task);
}

static struct notes_op *notes_new(struct hf_store *store, uint32_t cap)
{
    struct notes_op *op = calloc(1, sizeof(*op));

    if (op) {
        op->store = store;
        op->notes = calloc(cap, sizeof(*op->notes));
        op->ins = calloc(cap, sizeof(*op->ins));
        op->meta = calloc(cap, sizeof(struct hf_store_note_disk));
    }
    if (op && (!op->notes || !op->ins || !op->meta)) {
        free(op->notes);
        free(op->ins);
        free(op->meta);
        free(op);
        return NULL;
    }
    return op;
}

static void notes_free(struct notes_op *op)
{
    free(op->notes);
    free(op->ins);
    free(op->meta);
    free(op);
}

static void notes_start(struct notes_op *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        hf_store_note_encode(&op->notes[i], op->meta + i * sizeof(struct hf_store_note_disk));
    }
    op->append = (struct hf_seglog_append){
        .type = HF_STORE_RECORD_NOTES,
        .aligned = true,
        .meta = op->meta,
        .meta_len_bytes = op->count * (uint32_t)sizeof(struct hf_store_note_disk),
        .done = notes_appended,
        .ctx = op,
    };
    op->store->users++;
    hf_seglog_append(op->store->log, &op->append);
}

/* Is something other than this deletion in flight on one of its objects? */
static bool must_park(struct hf_store *store, const struct hf_store_delete *del)
{
    for (uint32_t i = 0; i < del->count; i++) {
        const struct hf_store_inflight *in = hf_store_inflight_find(store, &del->oids[i]);

        if (in && !(HF_BUG(delete_skips_moving) && in->kind == HF_STORE_IN_COPY) &&
            !(HF_BUG(delete_skips_putting) && in->kind == HF_STORE_IN_PUT)) {
            return true;
        }
    }
    return false;
}

static void park(struct hf_store *store, struct hf_store_delete *del)
{
    *wait_of(del) = (struct delete_wait){.store = store};
    *store->parked_tail = del;
    store->parked_tail = &wait_of(del)->next;
}

/* One record's worth of the deletion's objects from *@at on; NULL with *@ret_err 0: none left. */
static struct notes_op *gather(struct delete_op *owner, uint32_t *at, int *ret_err)
{
    struct hf_store *store = owner->store;
    const struct hf_store_delete *del = owner->del;
    struct notes_op *op = NULL;

    *ret_err = 0;
    for (; *at < del->count && (!op || op->count < HF_STORE_NOTES_MAX); (*at)++) {
        const struct hf_oid *oid = &del->oids[*at];
        struct hf_store_row row;
        int err = hf_store_inflight_find(store, oid) ? -ENOENT /* named twice */
                                                     : hf_store_row_get(store, oid, &row);

        if (err == -ENOENT || (!err && row.kind == HF_STORE_ROW_TOMBSTONE)) {
            continue;
        }
        if (!err && !op) {
            uint32_t left = del->count - *at;

            op = notes_new(store, left < HF_STORE_NOTES_MAX ? left : HF_STORE_NOTES_MAX);
            err = op ? 0 : -ENOMEM;
        }
        if (err) {
            *ret_err = err == -ENOMEM ? err : -EIO;
            break;
        }
        op->notes[op->count] = (struct hf_store_note){.oid = *oid,
                                                      .kind = HF_STORE_NOTE_DELETED,
                                                      .segment = row.segment,
                                                      .off_bytes = row.off_bytes};
        op->ins[op->count] =
            (struct hf_store_inflight){.oid = *oid, .kind = HF_STORE_IN_DELETE, .owner = owner};
        hf_store_inflight_add(store, &op->ins[op->count]);
        op->owner = owner;
        op->count++;
    }
    return op;
}

static void start(struct hf_store *store, struct hf_store_delete *del)
{
    struct delete_op *owner = calloc(1, sizeof(*owner));
    struct notes_op *op;
    uint32_t at = 0;
    int err = 0;

    if (!owner || store->index_failed) {
        free(owner);
        answer(store, del, owner ? -EIO : -ENOMEM);
        return;
    }
    *owner = (struct delete_op){.store = store, .del = del};
    while (!err && (op = gather(owner, &at, &err)) != NULL) {
        owner->records_left++;
        notes_start(op);
    }
    owner->err = err;
    if (owner->records_left == 0) {
        free(owner);
        answer(store, del, err);
    }
}

void hf_store_delete(struct hf_store *store, struct hf_store_delete *del)
{
    hf_assert_loop(store->env);
    hf_store_wake(store);
    if (must_park(store, del)) {
        park(store, del);
        return;
    }
    start(store, del);
}

void hf_store_unpark(struct hf_store *store)
{
    struct hf_store_delete *del = store->parked;

    store->parked = NULL;
    store->parked_tail = &store->parked;
    while (del) {
        struct hf_store_delete *next = wait_of(del)->next;

        if (must_park(store, del)) {
            park(store, del);
        } else {
            start(store, del);
        }
        del = next;
    }
}

static void notes_appended(void *ctx, int err)
{
    struct notes_op *op = ctx;
    struct hf_store *store = op->store;
    struct delete_op *owner = op->owner;

    for (uint32_t i = 0; i < op->count; i++) {
        if (owner) {
            hf_store_inflight_remove(store, &op->ins[i]);
        }
        if (!err && hf_store_apply_note(store, &op->notes[i], op->append.seq, op->append.pos,
                                        op->append.header_bytes) != 0) {
            err = -EIO;
        }
    }
    if (op->append.seq > store->applied_seq && !err && !store->index_failed) {
        store->applied_seq = op->append.seq;
    }
    if (!err && owner) {
        store->stats.deletes += op->count;
    }
    notes_free(op);
    store->users--;
    if (owner) {
        owner->err = owner->err ? owner->err : err;
        if (--owner->records_left == 0) {
            struct hf_store_delete *del = owner->del;
            int result = owner->err;

            free(owner);
            del->done(del->ctx, result);
        }
    }
    hf_store_unpark(store);
}

void hf_store_note(struct hf_store *store, const struct hf_store_note *note)
{
    struct notes_op *op = notes_new(store, 1);

    if (!op) {
        return; /* the index has it; only a rebuild would forget */
    }
    op->notes[0] = *note;
    op->count = 1;
    notes_start(op);
}
