/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc.h - calls over byte streams: one protobuf message, and bulk bytes out of line, each way.
 *
 *     client: hf_rpc_call ──► frame ──► stream ══► frame ──► handler(req) :server
 *             done(err, reply) ◄────── frame ◄══ stream ◄── hf_rpc_reply(req)
 *
 * Frame: fixed little-endian header (magic, version, kind, method, lengths, request id, deadline,
 * checksums), then the message (<= HF_RPC_MSG_MAX), then bulk (<= HF_FRAME_BULK_MAX). Both sides
 * start with a HELLO (version, cluster, who). docs/format/wire.md has every byte.
 *
 * Every call has a deadline and exactly one outcome. A lost connection fails the calls in flight
 * with -HF_EDISCONNECTED; the peer object reconnects with backoff while it lives; retries are
 * the caller's, requests are idempotent. One-way requests have no outcome at all: hf_rpc_send().
 * Bytes from a peer are never trusted: a malformed, oversized or too slow one closes that
 * connection with one logged reason.
 *
 * Threads: loop thread only.
 */
#ifndef HF_RPC_RPC_H
#define HF_RPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/env/env.h"

/** Who is speaking; sent in HELLO and checked by the other side. */
struct hf_rpc_identity {
    struct hf_uuid cluster;       /* zero: not known yet (tools); servers accept it */
    struct hf_node_id node;       /* 0: a client */
    struct hf_session_id session; /* 0: none yet */
    char name[64];                /* for people: "mount host:/mnt", "node 2" */
};

/* Server */

/** Unless options say otherwise: what a server takes unanswered from one connection. */
#define HF_RPC_REQUESTS_MAX 256u
/** A connection that is owed more, in answers it has not read and promised ones, is not read from.
 */
#define HF_RPC_OWED_BYTES_MAX (4u << 20)

struct hf_rpc_server;
struct hf_rpc_conn; /* one accepted connection */

struct hf_rpc_request {
    uint16_t method;
    uint64_t id;
    const uint8_t *msg; /* borrowed until the handler returns */
    size_t msg_len;
    struct hf_buf *bulk;  /* borrowed until the reply; hf_buf_ref() to keep; NULL: none */
    uint64_t deadline_ns; /* hf_env_mono_ns(); one-way: none, UINT64_MAX */
    bool oneway;          /* nobody waits: the reply goes nowhere */
    struct hf_rpc_conn *conn;
    const struct hf_rpc_identity *peer; /* borrowed until the reply */
    void *impl[8];
};

struct hf_rpc_service {
    /** Must lead to exactly one hf_rpc_reply(req), now or later; one-way requests too. */
    void (*request)(void *ctx, struct hf_rpc_request *req);
    /** The connection is gone; requests not yet answered still have to be (it goes nowhere). */
    void (*closed)(void *ctx, struct hf_rpc_conn *conn);
    void *ctx;
};

struct hf_rpc_server_options {
    const char *addr;
    struct hf_rpc_identity self;
    struct hf_bufpool *pool;   /* for incoming bulk; exhausted: reading stops until some is free */
    uint32_t conns_max;        /* of clients; nodes get in when they have them all; 0: 1024 */
    uint32_t requests_max;     /* unanswered per connection, then reading stops; 0: default */
    uint64_t frame_timeout_ns; /* a started frame must be whole within; 0: 10 s */
};

/** Errors: those of hf_net_listen(). */
int hf_rpc_server_new(struct hf_env *env, const struct hf_rpc_server_options *options,
                      const struct hf_rpc_service *service, struct hf_rpc_server **ret);
const char *hf_rpc_server_addr(const struct hf_rpc_server *server);
/** Closes all connections. Requests still unanswered stay valid until replied to. */
void hf_rpc_server_free(struct hf_rpc_server *server);
/** Between turns of the loop: connections and their unanswered requests are counted right. */
void hf_rpc_server_check_invariants(const struct hf_rpc_server *server);

/**
 * Bulk to send: pieces borrowed until release(ctx) runs, when they were sent or the connection
 * was lost; exactly once, also for no pieces when release is set. It may run before the function
 * that was given the bulk returns (written at once), and never runs after a call's done().
 */
struct hf_rpc_bulk {
    const struct iovec *iov; /* the array itself is copied */
    int iov_count;           /* <= 1024 */
    bool summed;             /* object data: its message has a checksum of each block, and the
                                receiver looks at them. Else the frame has one of all of it */
    void (*release)(void *ctx);
    void *ctx;
};

/**
 * Memory is taken now for an answer with up to @bytes of bulk, which will come later: so that one
 * connection cannot ask for all there is. At most once, in the handler.
 */
void hf_rpc_promise(struct hf_rpc_request *req, size_t bytes);

/**
 * Answer. @err: 0 or a negative error of err.h; a reply with an error may carry a message too.
 * @msg is copied. @bulk may be NULL. To a one-way request nothing is sent, bulk is released.
 */
void hf_rpc_reply(struct hf_rpc_request *req, int err, const void *msg, size_t msg_len,
                  const struct hf_rpc_bulk *bulk);

/** Where it was made from: "HOST:PORT", or "" when it is gone. Borrowed for the moment. */
const char *hf_rpc_conn_addr(const struct hf_rpc_conn *conn);

/* Client */

struct hf_rpc_peer;

struct hf_rpc_peer_options {
    const char *addr;
    struct hf_rpc_identity self;
    struct hf_uuid expect_cluster; /* zero: any */
    struct hf_bufpool *pool;       /* for incoming bulk */
    uint64_t connect_timeout_ns;   /* 0: 2 s */
    uint64_t backoff_max_ns;       /* 0: 1 s */
    uint64_t idle_ping_ns;         /* a quiet connection with calls in flight is pinged; 0: 1 s.
                                      No byte from the peer for 3 of these: it is dropped */
    void (*state)(void *ctx, bool connected, int err); /* may be NULL */
    void *ctx;
};

/** Connects when the first request is made. Errors: -EINVAL (address), -ENOMEM. */
int hf_rpc_peer_new(struct hf_env *env, const struct hf_rpc_peer_options *options,
                    struct hf_rpc_peer **ret);
/** Calls in flight end with -ECANCELED (their done() runs before this returns). NULL: no-op. */
void hf_rpc_peer_free(struct hf_rpc_peer *peer);
bool hf_rpc_peer_connected(const struct hf_rpc_peer *peer);
const char *hf_rpc_peer_addr(const struct hf_rpc_peer *peer);
/** The server knows it before any later call. */
void hf_rpc_peer_set_session(struct hf_rpc_peer *peer, struct hf_session_id session);
/** Bytes queued and not yet taken by the kernel: what back-pressure looks at. */
size_t hf_rpc_peer_queued_bytes(const struct hf_rpc_peer *peer);
uint32_t hf_rpc_peer_inflight(const struct hf_rpc_peer *peer);
/** Between turns of the loop: calls are counted right, and each has what will end it. */
void hf_rpc_peer_check_invariants(const struct hf_rpc_peer *peer);

struct hf_rpc_reply {
    const uint8_t *msg; /* borrowed until done returns */
    size_t msg_len;
    struct hf_buf *bulk; /* borrowed until done returns; hf_buf_ref() to keep; NULL: none */
};                       /* done gets one in every case; empty when the peer did not answer */

struct hf_rpc_call;

/**
 * @err  0, what the server answered, -ETIMEDOUT (deadline), -HF_EDISCONNECTED, -ECONNREFUSED and
 *       other errors of connecting, -ECANCELED, -EBADMSG
 */
typedef void (*hf_rpc_done_fn)(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply);

struct hf_rpc_call { /* embedded by the caller, alive until done */
    uint16_t method;
    const void *msg; /* copied by hf_rpc_call() */
    size_t msg_len;
    struct hf_rpc_bulk bulk; /* release optional: pieces must then live until done */
    uint64_t timeout_ns;     /* 0: 30 s */
    bool urgent;             /* overtakes bulk that waits to be sent; so does its reply */
    hf_rpc_done_fn done;
    void *ctx;
    void *impl[16];
};

/**
 * done runs exactly once, never before this returns. While unconnected the call waits: until its
 * deadline, or until a connection attempt that began after it fails.
 */
void hf_rpc_call(struct hf_rpc_peer *peer, struct hf_rpc_call *call);
/** done runs soon with -ECANCELED unless it is on its way already. */
void hf_rpc_cancel(struct hf_rpc_call *call);

/**
 * One-way: no answer, no deadline, no retry; it may be lost, also after 0 was returned. One-way
 * requests are urgent: they overtake waiting bulk of calls, and of one connection arrive in order.
 * A connection with one-way traffic alone is not pinged: options.state tells when it is lost.
 *
 * @msg        copied
 * @bulk       may be NULL; release(ctx) runs exactly once, sent, lost or refused, perhaps before
 *             this returns
 * @queue_max  urgent bytes of the connection that may wait to be sent before this one
 * Errors: -ENOTCONN  dropped; a connection is being made, or will be after the backoff
 *         -EAGAIN    dropped: more than @queue_max wait
 *         -ENOMEM    dropped
 */
int hf_rpc_send(struct hf_rpc_peer *peer, uint16_t method, const void *msg, size_t msg_len,
                const struct hf_rpc_bulk *bulk, size_t queue_max);

#endif
