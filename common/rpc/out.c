/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"

/* What has checksums of its own gets another one only where that costs nothing. */
#define BULK_SUM_MAX (64u << 10)

static bool bulk_covered(const struct hf_rpc_bulk *bulk, size_t bulk_len)
{
    return bulk_len > 0 && (bulk_len <= BULK_SUM_MAX || !bulk->summed);
}

struct hf_out *hf_out_new(const struct hf_frame *frame, const void *msg,
                          const struct hf_rpc_bulk *bulk)
{
    struct hf_frame f = *frame;
    int pieces = bulk ? bulk->iov_count : 0;
    size_t iov_bytes = ((size_t)pieces + 1) * sizeof(struct iovec);
    struct hf_out *out;
    size_t bulk_len = 0;
    uint8_t *header;

    HF_ASSERT(pieces >= 0 && pieces <= 1024 && f.msg_len <= HF_RPC_MSG_MAX);
    for (int i = 0; i < pieces; i++) {
        HF_ASSERT(bulk->iov[i].iov_len <= HF_FRAME_BULK_MAX - bulk_len);
        bulk_len += bulk->iov[i].iov_len;
    }
    out = malloc(sizeof(*out) + iov_bytes + HF_FRAME_HEADER_BYTES + f.msg_len);
    if (!out) {
        return NULL;
    }
    header = (uint8_t *)out + sizeof(*out) + iov_bytes;
    f.bulk_len = (uint32_t)bulk_len;
    f.bulk_sum = bulk_covered(bulk, bulk_len) ? hf_frame_bulk_sum(bulk->iov, pieces) : 0;
    hf_frame_encode(&f, header);
    if (f.msg_len) {
        memcpy(header + HF_FRAME_HEADER_BYTES, msg, f.msg_len);
    }
    *out = (struct hf_out){
        .urgent = (f.flags & HF_FRAME_URGENT) != 0,
        .total_bytes = HF_FRAME_HEADER_BYTES + f.msg_len + bulk_len,
        .release = bulk ? bulk->release : NULL,
        .ctx = bulk ? bulk->ctx : NULL,
        .msg_len = f.msg_len,
        .iov_count = pieces + 1,
    };
    out->iov[0] = (struct iovec){header, HF_FRAME_HEADER_BYTES + f.msg_len};
    for (int i = 0; i < pieces; i++) {
        out->iov[i + 1] = bulk->iov[i];
    }
    return out;
}

void hf_out_free(struct hf_out *out)
{
    void (*release)(void *ctx) = out->release;
    void *ctx = out->ctx;

    if (out->slot) {
        *out->slot = NULL;
    }
    free(out->owned);
    free(out);
    if (release) {
        release(ctx);
    }
}

void hf_out_set_timeout(struct hf_out *out, uint32_t timeout_ms)
{
    hf_put_le32((uint8_t *)out->iov[0].iov_base +
                    offsetof(struct hf_frame_header_format, timeout_ms),
                timeout_ms);
}

size_t hf_out_bytes(const struct hf_out *out)
{
    return out->total_bytes - out->sent_bytes;
}

void hf_out_watch(struct hf_out *out, struct hf_out **slot)
{
    out->slot = slot;
}

void hf_outq_init(struct hf_outq *q)
{
    q->begun = NULL;
    q->bytes = 0;
    q->urgent_bytes = 0;
    TAILQ_INIT(&q->urgent);
    TAILQ_INIT(&q->normal);
}

static struct hf_out_list *list_of(struct hf_outq *q, const struct hf_out *out)
{
    return out->urgent ? &q->urgent : &q->normal;
}

/* The next to send. */
static struct hf_out *head(struct hf_outq *q)
{
    if (q->begun) {
        return q->begun;
    }
    return TAILQ_FIRST(&q->urgent) ? TAILQ_FIRST(&q->urgent) : TAILQ_FIRST(&q->normal);
}

static void take_bytes(struct hf_outq *q, const struct hf_out *out, size_t bytes)
{
    q->bytes -= bytes;
    q->urgent_bytes -= out->urgent ? bytes : 0;
}

static void unlink_out(struct hf_outq *q, struct hf_out *out)
{
    take_bytes(q, out, hf_out_bytes(out));
    if (out == q->begun) {
        q->begun = NULL;
    } else {
        TAILQ_REMOVE(list_of(q, out), out, link);
    }
}

void hf_outq_fini(struct hf_outq *q)
{
    struct hf_out *out;

    while ((out = head(q)) != NULL) {
        unlink_out(q, out);
        hf_out_free(out);
    }
}

bool hf_outq_empty(const struct hf_outq *q)
{
    return !q->begun && TAILQ_EMPTY(&q->urgent) && TAILQ_EMPTY(&q->normal);
}

void hf_outq_push(struct hf_outq *q, struct hf_out *out)
{
    TAILQ_INSERT_TAIL(list_of(q, out), out, link);
    q->bytes += out->total_bytes;
    q->urgent_bytes += out->urgent ? out->total_bytes : 0;
}

struct gather {
    struct iovec *iov;
    int count;
    int max;
    size_t bytes;
    size_t bytes_max;
};

/* False: full. */
static bool gather_out(struct gather *g, const struct hf_out *out)
{
    size_t skip = out->sent_bytes;

    for (int i = 0; i < out->iov_count; i++) {
        size_t len = out->iov[i].iov_len;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        if (g->count == g->max || g->bytes >= g->bytes_max) {
            return false;
        }
        g->iov[g->count++] = (struct iovec){(uint8_t *)out->iov[i].iov_base + skip, len - skip};
        g->bytes += len - skip;
        skip = 0;
    }
    return true;
}

int hf_outq_gather(const struct hf_outq *q, struct iovec *iov, int iov_max, size_t bytes_max,
                   size_t *ret_bytes)
{
    struct gather g = {.iov = iov, .max = iov_max, .bytes_max = bytes_max};
    const struct hf_out_list *const lists[2] = {&q->urgent, &q->normal};
    bool room = !q->begun || gather_out(&g, q->begun);

    for (int i = 0; i < 2; i++) {
        const struct hf_out *out;

        for (out = TAILQ_FIRST(lists[i]); out && room; out = TAILQ_NEXT(out, link)) {
            room = gather_out(&g, out);
        }
    }
    *ret_bytes = g.bytes;
    return g.count;
}

void hf_outq_advance(struct hf_outq *q, size_t bytes)
{
    struct hf_out_list sent = TAILQ_HEAD_INITIALIZER(sent);
    struct hf_out *out;

    while (bytes > 0) {
        size_t left;

        out = head(q);
        HF_ASSERT(out != NULL);
        left = hf_out_bytes(out);
        if (bytes < left) {
            if (out != q->begun) {
                TAILQ_REMOVE(list_of(q, out), out, link);
                q->begun = out;
            }
            out->sent_bytes += bytes;
            take_bytes(q, out, bytes);
            break;
        }
        bytes -= left;
        unlink_out(q, out);
        TAILQ_INSERT_TAIL(&sent, out, link);
    }
    /* Only now: a release may push an urgent frame, which would stand before what was gathered. */
    while ((out = TAILQ_FIRST(&sent)) != NULL) {
        TAILQ_REMOVE(&sent, out, link);
        hf_out_free(out);
    }
}

/* Copy what is not yet sent, so that the pieces may go. */
static int own_rest(struct hf_out *out)
{
    size_t rest = hf_out_bytes(out), at = 0, skip = out->sent_bytes;
    uint8_t *copy = malloc(rest);

    if (!copy) {
        return -ENOMEM;
    }
    for (int i = 0; i < out->iov_count; i++) {
        size_t len = out->iov[i].iov_len, from = skip < len ? skip : len;

        skip -= from;
        memcpy(copy + at, (const uint8_t *)out->iov[i].iov_base + from, len - from);
        at += len - from;
    }
    out->owned = copy;
    out->iov[0] = (struct iovec){copy, rest};
    out->iov_count = 1;
    out->total_bytes = rest;
    out->sent_bytes = 0;
    return 0;
}

int hf_outq_withdraw(struct hf_outq *q, struct hf_out *out)
{
    void (*release)(void *ctx) = out->release;

    if (out != q->begun) {
        unlink_out(q, out);
        hf_out_free(out);
        return 0;
    }
    if (out->slot) {
        *out->slot = NULL;
        out->slot = NULL;
    }
    if (out->iov_count > 1 && own_rest(out) != 0) {
        return -ENOMEM;
    }
    out->release = NULL;
    if (release) {
        release(out->ctx);
    }
    return 0;
}

static size_t list_check(const struct hf_out_list *list, bool urgent)
{
    const struct hf_out *out;
    size_t bytes = 0;

    TAILQ_FOREACH (out, list, link) {
        HF_ASSERT(out->urgent == urgent && out->sent_bytes == 0 && out->total_bytes > 0);
        bytes += out->total_bytes;
    }
    return bytes;
}

void hf_outq_check_invariants(const struct hf_outq *q)
{
    size_t urgent = list_check(&q->urgent, true), normal = list_check(&q->normal, false);

    if (q->begun) {
        HF_ASSERT(q->begun->sent_bytes < q->begun->total_bytes);
        HF_ASSERT(q->begun->sent_bytes > 0 || q->begun->owned);
        *(q->begun->urgent ? &urgent : &normal) += hf_out_bytes(q->begun);
    }
    HF_ASSERT(q->urgent_bytes == urgent && q->bytes == urgent + normal);
}
