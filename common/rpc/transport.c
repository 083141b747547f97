/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/transport.h"

#include <errno.h>
#include <stdlib.h>

struct plain {
    struct hf_transport base;
    struct hf_stream *stream;
};

static void plain_want(struct hf_transport *t, bool read, bool write)
{
    hf_stream_want(((struct plain *)t)->stream, read, write);
}

static ssize_t plain_readv(struct hf_transport *t, const struct iovec *iov, int iov_count)
{
    return hf_stream_readv(((struct plain *)t)->stream, iov, iov_count);
}

static ssize_t plain_writev(struct hf_transport *t, const struct iovec *iov, int iov_count)
{
    return hf_stream_writev(((struct plain *)t)->stream, iov, iov_count);
}

static const char *plain_peer(const struct hf_transport *t)
{
    return hf_stream_peer(((const struct plain *)t)->stream);
}

static void plain_close(struct hf_transport *t)
{
    hf_stream_close(((struct plain *)t)->stream);
    free(t);
}

static const struct hf_transport_ops plain_ops = {
    .want = plain_want,
    .readv = plain_readv,
    .writev = plain_writev,
    .peer = plain_peer,
    .close = plain_close,
};

int hf_transport_plain_connect(struct hf_env *env, const char *addr,
                               const struct hf_stream_events *events, void *ctx,
                               struct hf_transport **ret)
{
    struct plain *plain = calloc(1, sizeof(*plain));
    int err;

    if (!plain) {
        return -ENOMEM;
    }
    plain->base.ops = &plain_ops;
    err = hf_net_connect(env, addr, events, ctx, &plain->stream);
    if (err) {
        free(plain);
        return err;
    }
    *ret = &plain->base;
    return 0;
}

int hf_transport_plain_accept(struct hf_stream *stream, const struct hf_stream_events *events,
                              void *ctx, struct hf_transport **ret)
{
    struct plain *plain = calloc(1, sizeof(*plain));

    if (!plain) {
        hf_stream_close(stream);
        return -ENOMEM;
    }
    plain->base.ops = &plain_ops;
    plain->stream = stream;
    hf_stream_set_events(stream, events, ctx);
    *ret = &plain->base;
    return 0;
}
