/* SPDX-License-Identifier: Apache-2.0 */
/*
 * out.h - the queue of frames to send, and its order. For conn.c.
 *
 * Sent in this order: the frame already begun, urgent ones, the rest; each list first in first out.
 */
#ifndef HF_RPC_OUT_H
#define HF_RPC_OUT_H

#include <sys/queue.h>

#include "common/rpc/conn.h"

struct hf_out {
    TAILQ_ENTRY(hf_out) link;
    struct hf_out **slot; /* may be NULL */
    bool urgent;
    size_t total_bytes;
    size_t sent_bytes;
    void (*release)(void *ctx);
    void *ctx;
    size_t msg_len;
    uint8_t *owned;     /* copy of bulk made by withdraw; may be NULL */
    int iov_count;      /* >= 1 */
    struct iovec iov[]; /* [0]: header and message, behind the array */
};

TAILQ_HEAD(hf_out_list, hf_out);

struct hf_outq {
    struct hf_out *begun; /* partly sent */
    struct hf_out_list urgent;
    struct hf_out_list normal;
    size_t bytes;        /* not yet sent */
    size_t urgent_bytes; /* those of urgent frames */
};

void hf_outq_init(struct hf_outq *q);
/** Releases everything. A release may look at the queue. */
void hf_outq_fini(struct hf_outq *q);
bool hf_outq_empty(const struct hf_outq *q);
void hf_outq_push(struct hf_outq *q, struct hf_out *out);
/** Up to @iov_max pieces and about @bytes_max bytes. Returns the count; *ret_bytes their sum. */
int hf_outq_gather(const struct hf_outq *q, struct iovec *iov, int iov_max, size_t bytes_max,
                   size_t *ret_bytes);
/** @bytes of what gather gave were sent. */
void hf_outq_advance(struct hf_outq *q, size_t bytes);
/** See hf_conn_withdraw(). Errors: -ENOMEM. */
int hf_outq_withdraw(struct hf_outq *q, struct hf_out *out);
/** Bytes are those of the lists; only the frame begun is partly sent. */
void hf_outq_check_invariants(const struct hf_outq *q);

#endif
