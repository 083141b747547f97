/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - what a connection reads and writes through: a plain stream now, TLS over one later.
 *
 * The contract is that of struct hf_stream (env.h), callbacks included. A transport that has a
 * handshake answers -EAGAIN until it is over and calls connected() when it is.
 */
#ifndef HF_RPC_TRANSPORT_H
#define HF_RPC_TRANSPORT_H

#include "common/env/env.h"

struct hf_transport;

struct hf_transport_ops {
    void (*want)(struct hf_transport *t, bool read, bool write);
    ssize_t (*readv)(struct hf_transport *t, const struct iovec *iov, int iov_count);
    ssize_t (*writev)(struct hf_transport *t, const struct iovec *iov, int iov_count);
    const char *(*peer)(const struct hf_transport *t);
    void (*close)(struct hf_transport *t);
};

struct hf_transport { /* implementations begin with it */
    const struct hf_transport_ops *ops;
};

/** Errors: those of hf_net_connect(), -ENOMEM. */
int hf_transport_plain_connect(struct hf_env *env, const char *addr,
                               const struct hf_stream_events *events, void *ctx,
                               struct hf_transport **ret);
/** Owns @stream in every case. Errors: -ENOMEM. */
int hf_transport_plain_accept(struct hf_stream *stream, const struct hf_stream_events *events,
                              void *ctx, struct hf_transport **ret);

#endif
