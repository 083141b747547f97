/* SPDX-License-Identifier: Apache-2.0 */
/* The side that answers: listener, connections, requests not yet answered. */
#include "common/rpc/rpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/rpc/conn.h"

#define CONNS_MAX_DEF   1024u
#define CONNS_OF_OTHERS 128u /* of nodes, and of whoever has not said yet what it is */
#define IDLE_NS         (30 * HF_NS_PER_SEC)

/* hf_rpc_request.impl */
enum { IMPL_FLAGS, IMPL_PROMISED };

struct hf_rpc_conn {
    struct hf_conn *conn;         /* NULL: gone */
    struct hf_rpc_server *server; /* NULL: gone; not before conn */
    struct hf_env *env;
    struct hf_rpc_identity peer;
    bool greeted;
    uint32_t refs; /* the server's, and one per request */
    uint32_t unanswered;
    TAILQ_ENTRY(hf_rpc_conn) link;
};

struct hf_rpc_server {
    struct hf_env *env;
    struct hf_listener *listener;
    struct hf_rpc_server_options options; /* addr not kept */
    struct hf_rpc_service service;
    TAILQ_HEAD(conn_list, hf_rpc_conn) conns;
    uint32_t conn_count;   /* <= conns_max + CONNS_OF_OTHERS */
    uint32_t client_count; /* of them, those that greeted as clients; <= conns_max */
};

static void conn_unref(struct hf_rpc_conn *c)
{
    if (--c->refs == 0) {
        HF_ASSERT(!c->conn);
        free(c);
    }
}

/* ---------------------------------------------------------------------------------- connections */

static bool is_client(const struct hf_rpc_identity *id)
{
    return id->node.v == 0;
}

/* Take it from its server, tell the service, close it. */
static void conn_drop(struct hf_rpc_conn *c)
{
    struct hf_rpc_server *server = c->server;
    struct hf_conn *conn = c->conn;

    c->server = NULL;
    c->conn = NULL;
    TAILQ_REMOVE(&server->conns, c, link);
    server->conn_count--;
    server->client_count -= c->greeted && is_client(&c->peer) ? 1 : 0;
    hf_conn_close(conn);
    if (c->greeted && server->service.closed) {
        server->service.closed(server->service.ctx, c);
    }
    conn_unref(c);
}

static void conn_lost(void *ctx, int err)
{
    (void)err; /* logged where it failed */
    conn_drop((struct hf_rpc_conn *)ctx);
}

static int send_hello(struct hf_rpc_conn *c)
{
    const struct hf_frame frame = {.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES};
    uint8_t hello[HF_HELLO_BYTES];
    struct hf_out *out;

    hf_hello_encode(&c->server->options.self, hello);
    out = hf_out_new(&frame, hello, NULL);
    if (!out) {
        return -ENOMEM;
    }
    hf_conn_send(c->conn, out);
    return 0;
}

static int on_hello(struct hf_rpc_conn *c, const struct hf_frame *frame, const uint8_t *msg,
                    const char **ret_why)
{
    const struct hf_uuid *ours = &c->server->options.self.cluster;
    struct hf_rpc_identity id;
    int err = hf_hello_decode(msg, frame->msg_len, &id);

    if (err) {
        *ret_why = err == -EPROTO ? "no common protocol version" : "bad HELLO";
        hf_conn_goodbye(c->conn, err, *ret_why);
        return 0;
    }
    if (c->greeted) { /* a later one may tell the session, and nothing else */
        if (!hf_uuid_equal(&id.cluster, &c->peer.cluster) || id.node.v != c->peer.node.v) {
            *ret_why = "a second HELLO of another identity";
            return -EPROTO;
        }
        c->peer.session = id.session;
        return 0;
    }
    if (!hf_uuid_is_zero(&id.cluster) && !hf_uuid_is_zero(ours) &&
        !hf_uuid_equal(&id.cluster, ours)) {
        hf_conn_set_name(c->conn, id.name);
        hf_conn_goodbye(c->conn, -HF_EWRONGCLUSTER, "it belongs to another cluster");
        return 0;
    }
    if (is_client(&id) && c->server->client_count >= c->server->options.conns_max) {
        hf_conn_set_name(c->conn, id.name);
        hf_conn_goodbye(c->conn, -EBUSY, "too many connections of clients");
        return 0;
    }
    c->greeted = true;
    c->peer = id;
    c->server->client_count += is_client(&id) ? 1 : 0;
    hf_conn_set_name(c->conn, id.name);
    hf_conn_set_ready(c->conn);
    *ret_why = "out of memory";
    return send_hello(c);
}

static int on_request(struct hf_rpc_conn *c, const struct hf_frame *frame, const uint8_t *msg,
                      struct hf_buf *bulk, const char **ret_why)
{
    struct hf_rpc_server *server = c->server;
    struct hf_rpc_request *req = malloc(sizeof(*req));
    bool oneway = (frame->flags & HF_FRAME_ONEWAY) != 0;

    if (!req) {
        *ret_why = "out of memory";
        return -ENOMEM;
    }
    *req = (struct hf_rpc_request){
        .method = frame->method,
        .id = frame->id,
        .msg = msg,
        .msg_len = frame->msg_len,
        .bulk = bulk ? hf_buf_ref(bulk) : NULL,
        .deadline_ns =
            oneway ? UINT64_MAX : hf_env_mono_ns(server->env) + frame->timeout_ms * HF_NS_PER_MS,
        .oneway = oneway,
        .conn = c,
        .peer = &c->peer,
        .impl[IMPL_FLAGS] = (void *)(uintptr_t)(frame->flags & HF_FRAME_URGENT),
    };
    c->refs++;
    if (++c->unanswered >= server->options.requests_max) {
        hf_conn_pause(c->conn, true);
    }
    server->service.request(server->service.ctx, req);
    return 0;
}

static int conn_frame(void *ctx, const struct hf_frame *frame, const uint8_t *msg,
                      struct hf_buf *bulk, const char **ret_why)
{
    struct hf_rpc_conn *c = (struct hf_rpc_conn *)ctx;

    switch (frame->kind) {
    case HF_FRAME_HELLO:
        return on_hello(c, frame, msg, ret_why);
    case HF_FRAME_REQUEST:
        return on_request(c, frame, msg, bulk, ret_why);
    case HF_FRAME_GOODBYE:
        *ret_why = "the peer said goodbye";
        return -HF_EDISCONNECTED;
    case HF_FRAME_REPLY:
    case HF_FRAME_PING:
    case HF_FRAME_PONG:
        break;
    }
    *ret_why = "a frame that servers do not take";
    return -EPROTO;
}

static const struct hf_conn_events conn_events = {.frame = conn_frame, .lost = conn_lost};

/* Too many: tell why, if one write can. */
static void refuse(struct hf_stream *stream)
{
    const struct hf_frame frame = {.kind = HF_FRAME_GOODBYE, .error = hf_err_to_wire(-EBUSY)};
    uint8_t header[HF_FRAME_HEADER_BYTES];
    const struct iovec iov = {header, sizeof(header)};

    hf_frame_encode(&frame, header);
    hf_frame_seal(header, 0);
    (void)hf_stream_writev(stream, &iov, 1); /* it is closed either way */
    hf_log(HF_LOG_WARN, "rpc", "connection refused", "peer=%s reason=\"too many connections\"",
           hf_stream_peer(stream));
    hf_stream_close(stream);
}

static void accepted(void *ctx, struct hf_stream *stream)
{
    struct hf_rpc_server *server = (struct hf_rpc_server *)ctx;
    const struct hf_conn_options options = {
        .env = server->env,
        .pool = server->options.pool,
        .frame_timeout_ns = server->options.frame_timeout_ns,
        .idle_ns = IDLE_NS,
        .owed_max_bytes = HF_RPC_OWED_BYTES_MAX,
    };
    struct hf_rpc_conn *c;

    if (server->conn_count >= (uint64_t)server->options.conns_max + CONNS_OF_OTHERS) {
        refuse(stream);
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        hf_stream_close(stream);
        return;
    }
    if (hf_conn_accept(&options, stream, &conn_events, c, &c->conn) != 0) {
        free(c);
        return;
    }
    c->server = server;
    c->env = server->env;
    c->refs = 1;
    TAILQ_INSERT_TAIL(&server->conns, c, link);
    server->conn_count++;
}

/* --------------------------------------------------------------------------------------- public */

int hf_rpc_server_new(struct hf_env *env, const struct hf_rpc_server_options *options,
                      const struct hf_rpc_service *service, struct hf_rpc_server **ret)
{
    struct hf_rpc_server *server = calloc(1, sizeof(*server));
    int err;

    if (!server) {
        return -ENOMEM;
    }
    server->env = env;
    server->options = *options;
    server->options.addr = NULL;
    if (!server->options.conns_max) {
        server->options.conns_max = CONNS_MAX_DEF;
    }
    if (!server->options.requests_max) {
        server->options.requests_max = HF_RPC_REQUESTS_MAX;
    }
    server->service = *service;
    TAILQ_INIT(&server->conns);
    err = hf_net_listen(env, options->addr, accepted, server, &server->listener);
    if (err) {
        free(server);
        return err;
    }
    *ret = server;
    return 0;
}

const char *hf_rpc_server_addr(const struct hf_rpc_server *server)
{
    return hf_listener_addr(server->listener);
}

void hf_rpc_server_free(struct hf_rpc_server *server)
{
    struct hf_rpc_conn *c;

    if (!server) {
        return;
    }
    hf_listener_close(server->listener);
    while ((c = TAILQ_FIRST(&server->conns)) != NULL) {
        hf_conn_goodbye(c->conn, -ESHUTDOWN, "the server stops");
        conn_drop(c);
    }
    free(server);
}

void hf_rpc_promise(struct hf_rpc_request *req, size_t bytes)
{
    HF_ASSERT(!req->impl[IMPL_PROMISED] && bytes <= HF_FRAME_BULK_MAX);
    hf_assert_loop(req->conn->env);
    req->impl[IMPL_PROMISED] = (void *)(uintptr_t)bytes;
    if (req->conn->conn) {
        hf_conn_promise(req->conn->conn, bytes);
    }
}

void hf_rpc_reply(struct hf_rpc_request *req, int err, const void *msg, size_t msg_len,
                  const struct hf_rpc_bulk *bulk)
{
    struct hf_rpc_conn *c = req->conn;
    const struct hf_frame frame = {
        .kind = HF_FRAME_REPLY,
        .method = req->method,
        .msg_len = (uint32_t)msg_len,
        .id = req->id,
        .error = hf_err_to_wire(err),
        .flags = (uint32_t)(uintptr_t)req->impl[IMPL_FLAGS],
    };
    const size_t promised = (uintptr_t)req->impl[IMPL_PROMISED];
    bool answer = c->conn && !req->oneway;
    struct hf_out *out = NULL;

    HF_ASSERT(err <= 0 && msg_len <= HF_RPC_MSG_MAX);
    hf_assert_loop(c->env);
    hf_buf_unref(req->bulk);
    free(req);
    c->unanswered--;
    if (answer) {
        out = hf_out_new(&frame, msg, bulk);
        if (!out) {
            hf_conn_fail(c->conn, -ENOMEM, "out of memory");
        }
    }
    if (out) {
        hf_conn_send(c->conn, out);
    } else if (bulk && bulk->release) {
        bulk->release(bulk->ctx);
    }
    if (c->conn) { /* a release may have freed the server */
        hf_conn_promise_end(c->conn, promised);
        hf_conn_pause(c->conn, c->unanswered >= c->server->options.requests_max);
    }
    conn_unref(c);
}

const char *hf_rpc_conn_addr(const struct hf_rpc_conn *c)
{
    return c->conn ? hf_conn_peer(c->conn) : "";
}

void hf_rpc_server_check_invariants(const struct hf_rpc_server *server)
{
    const struct hf_rpc_conn *c;
    uint32_t count = 0;
    uint32_t clients = 0;

    TAILQ_FOREACH (c, &server->conns, link) {
        HF_ASSERT(c->server == server && c->conn);
        HF_ASSERT(c->refs == 1 + c->unanswered && (c->greeted || c->unanswered == 0));
        HF_ASSERT(hf_conn_is_paused(c->conn) == (c->unanswered >= server->options.requests_max));
        hf_conn_check_invariants(c->conn);
        count++;
        clients += c->greeted && is_client(&c->peer) ? 1 : 0;
    }
    HF_ASSERT(count == server->conn_count &&
              count <= (uint64_t)server->options.conns_max + CONNS_OF_OTHERS);
    HF_ASSERT(clients == server->client_count && clients <= server->options.conns_max);
}
