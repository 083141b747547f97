/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - one connection, either side: bytes to whole checked frames, frames to bytes.
 *
 *     OPENING --connected--> OPEN --fail--> LOST --lost()--> owner closes
 *
 * Reading: header and message into a small buffer, bulk straight into a pool buffer. It stops
 * while paused by the owner, while the pool has nothing, and while too much is owed to the peer,
 * queued or promised. Writing: a queue of frames; urgent ones overtake those that wait, never
 * splitting one that has begun. A connection fails at most once, with one logged reason, and its
 * owner hears of it on a later turn of the loop. PING and PONG are dealt with here; a connection
 * that may not read says PONG now and then, to be seen alive.
 *
 * Invariants: bytes from a peer never make it allocate more than one message, one bulk buffer.
 * Threads: loop thread only.
 */
#ifndef HF_RPC_CONN_H
#define HF_RPC_CONN_H

#include "common/rpc/frame.h"
#include "common/rpc/rpc.h"

struct hf_conn;
struct hf_out;

struct hf_conn_events {
    /** Connected; connections made by hf_conn_connect() only. */
    void (*opened)(void *ctx);
    /**
     * A HELLO, REQUEST, REPLY or GOODBYE. All is borrowed. May close the connection.
     * Not 0: the connection fails with it, *ret_why says why.
     */
    int (*frame)(void *ctx, const struct hf_frame *frame, const uint8_t *msg, struct hf_buf *bulk,
                 const char **ret_why);
    /** Connecting failed or the connection is lost; once; never from within a call of the owner. */
    void (*lost)(void *ctx, int err);
};

struct hf_conn_options {
    struct hf_env *env;
    struct hf_bufpool *pool;   /* NULL: bulk is refused */
    uint64_t frame_timeout_ns; /* also until the first frame */
    uint64_t idle_ns;          /* nothing heard: PING; for 3 of these: it fails. 0: never */
    size_t owed_max_bytes;     /* more queued and promised: reading stops. 0: no limit */
};

/** Errors: those of hf_net_connect(), -ENOMEM. */
int hf_conn_connect(const struct hf_conn_options *options, const char *addr,
                    const struct hf_conn_events *events, void *ctx, struct hf_conn **ret);
/** Owns @stream in every case. Errors: -ENOMEM. */
int hf_conn_accept(const struct hf_conn_options *options, struct hf_stream *stream,
                   const struct hf_conn_events *events, void *ctx, struct hf_conn **ret);
/** No callback runs afterwards; frames not sent are released. NULL is a no-op. */
void hf_conn_close(struct hf_conn *conn);

/** Until the first HELLO was accepted, bulk is refused; the owner says so. */
void hf_conn_set_ready(struct hf_conn *conn);
/** Stop or go on reading (frames already read too). */
void hf_conn_pause(struct hf_conn *conn, bool paused);
/** An answer of up to @bytes will be sent: they are owed from now on. */
void hf_conn_promise(struct hf_conn *conn, size_t bytes);
/** It was queued, or there is none. */
void hf_conn_promise_end(struct hf_conn *conn, size_t bytes);
/** Fail it: one log line, lost() later. No-op when LOST. */
void hf_conn_fail(struct hf_conn *conn, int err, const char *why);
/** Try to say GOODBYE(@err), then fail. */
void hf_conn_goodbye(struct hf_conn *conn, int err, const char *why);

bool hf_conn_is_open(const struct hf_conn *conn);
const char *hf_conn_peer(const struct hf_conn *conn);
/** Name for the log, from HELLO; borrowed as long as the connection lives. */
void hf_conn_set_name(struct hf_conn *conn, const char *name);
/**
 * When bytes last came; now while reading is stopped by this side. A peer that does not take what
 * it is owed is not heard.
 */
uint64_t hf_conn_heard_ns(const struct hf_conn *conn);
size_t hf_conn_queued_bytes(const struct hf_conn *conn);
/** Of urgent frames only. */
size_t hf_conn_urgent_bytes(const struct hf_conn *conn);
void hf_conn_ping(struct hf_conn *conn);
bool hf_conn_is_paused(const struct hf_conn *conn);
/** Between turns of the loop: bytes are counted right, and what waits has what wakes it. */
void hf_conn_check_invariants(const struct hf_conn *conn);

/* Frames to send */

/**
 * @msg copied; @bulk borrowed as rpc.h says (its array is copied).
 * NULL: out of memory; bulk is not released.
 */
struct hf_out *hf_out_new(const struct hf_frame *frame, const void *msg,
                          const struct hf_rpc_bulk *bulk);
/** Also releases the bulk. Not once it was sent. */
void hf_out_free(struct hf_out *out);
void hf_out_set_timeout(struct hf_out *out, uint32_t timeout_ms);
size_t hf_out_bytes(const struct hf_out *out);
/** *@slot becomes NULL when the frame is gone: sent, or the connection closed. */
void hf_out_watch(struct hf_out *out, struct hf_out **slot);

/**
 * Owns @out. The first frame of a turn is written at once when nothing waits; what follows it in
 * the same turn is gathered and goes at its end. Any state of the connection.
 */
void hf_conn_send(struct hf_conn *conn, struct hf_out *out);
/** Write now what was gathered. */
void hf_conn_flush(struct hf_conn *conn);
/**
 * The owner's bulk pieces are about to go: drop the frame if nothing of it was sent, else copy
 * what is left of it (out of memory: the connection fails).
 */
void hf_conn_withdraw(struct hf_conn *conn, struct hf_out *out);

#endif
