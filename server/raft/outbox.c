/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to peers: what they name is captured when the core decides to send them, for the log
 * may be another one when they go; they go when the promise they rest on is durable.
 */
#include <stdlib.h>

#include "common/base/assert.h"
#include "server/raft/driver_impl.h"

void raft_out_free(struct raft_out *out)
{
    for (uint32_t i = 0; i < out->count; i++) {
        raft_item_unref(out->items[i]);
    }
    hf_buf_unref(out->chunk);
    free(out->items);
    free(out->iov);
    free(out);
}

static void sent(void *arg)
{
    struct raft_out *out = arg;

    out->driver->sends--;
    raft_out_free(out);
}

static void send_now(struct raft_out *out)
{
    struct hf_raft_driver *d = out->driver;
    uint8_t bytes[HF_RPC_MSG_MAX];
    size_t len;

    if (hf_raft_msg_encode(&out->msg, bytes, &len) != 0) {
        raft_out_free(out);
        return;
    }
    d->sends++;
    if (out->chunk) {
        out->chunk_iov =
            (struct iovec){.iov_base = out->chunk->data, .iov_len = out->msg.u.snapshot.len_bytes};
        d->options.net.send(d->options.net.ctx, out->to, bytes, len, &out->chunk_iov, 1, sent, out);
    } else {
        d->options.net.send(d->options.net.ctx, out->to, bytes, len, out->iov, (int)out->count,
                            sent, out);
    }
}

static void go(struct raft_out *out)
{
    if (out->msg.type == HF_RAFT_MSG_SNAPSHOT && out->msg.u.snapshot.len_bytes > 0) {
        raft_upload_read(out);
    } else {
        send_now(out);
    }
}

void raft_out_chunk(struct raft_out *out, struct hf_buf *chunk)
{
    out->chunk = chunk;
    send_now(out);
}

static struct raft_out *held_pop(struct hf_raft_driver *d)
{
    struct raft_out *out = d->held_head;

    d->held_head = out->next;
    if (!d->held_head) {
        d->held_tail = NULL;
    }
    d->held--;
    return out;
}

static void held_push(struct hf_raft_driver *d, struct raft_out *out)
{
    if (d->held_tail) {
        d->held_tail->next = out;
    } else {
        d->held_head = out;
    }
    d->held_tail = out;
    if (d->held++ == RAFT_HELD_MAX) { /* the disk of the vote answers no more, or is full */
        raft_out_free(held_pop(d));
    }
}

void raft_out_flush(struct hf_raft_driver *d)
{
    while (d->held_head && d->held_head->persist_seq <= d->persisted_seq) {
        go(held_pop(d));
    }
}

/* Entries prev + 1 .. prev + count, as they are now. */
static bool capture(struct hf_raft_driver *d, struct raft_out *out)
{
    const uint64_t first = out->msg.u.append.prev_index + 1;
    const uint32_t count = out->msg.u.append.count;

    out->items = malloc(count * sizeof(*out->items));
    out->iov = malloc(count * sizeof(*out->iov));
    if (!out->items || !out->iov) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct raft_item *item = raft_items_get(&d->items, first + i);

        HF_ASSERT(item);
        out->items[i] = raft_item_ref(item);
        out->iov[i] = (struct iovec){.iov_base = item->data, .iov_len = item->bytes};
        out->count++;
    }
    return true;
}

void raft_out_add(struct hf_raft_driver *d, const struct hf_raft_action *action)
{
    struct raft_out *out = calloc(1, sizeof(*out));

    if (!out) {
        return; /* messages may be lost */
    }
    out->driver = d;
    out->msg = action->u.send.msg;
    out->to = out->msg.to;
    out->persist_seq = action->u.send.persist_seq;
    if (out->msg.type == HF_RAFT_MSG_APPEND && out->msg.u.append.count > 0 && !capture(d, out)) {
        raft_out_free(out);
        return;
    }
    if (!d->held_head && out->persist_seq <= d->persisted_seq) {
        go(out);
        return;
    }
    held_push(d, out);
}

void raft_out_drop_all(struct hf_raft_driver *d)
{
    while (d->held_head) {
        raft_out_free(held_pop(d));
    }
}
