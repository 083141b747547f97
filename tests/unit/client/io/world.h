/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's object I/O over stores that misbehave on order, and a leader that knows their map.
 */
#ifndef HF_TESTS_IO_WORLD_H
#define HF_TESTS_IO_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "client/io/io.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "tests/lib/fake_leader.h"
#include "tests/lib/loop.h"

#define NODES_MAX   5u
#define OBJECTS_MAX 256u
#define BYTES       (HF_OBJECT_BYTES_MAX)

struct object {
    struct hf_oid oid;
    uint8_t *data;
    uint64_t *sums;
    uint32_t len, got;
    bool whole, quarantined;
    struct hf_rpc_conn *conn; /* frames come over one connection */
};

struct delayed {
    struct hf_timer timer;
    struct hf_rpc_request *req;
    int err;
};

struct fake_store { /* in memory; what it holds survives kill and start */
    struct world *w;
    uint16_t node;
    struct hf_rpc_server *server;
    char addr[HF_ADDR_BYTES_MAX];
    struct object objects[OBJECTS_MAX];
    uint32_t object_count;
    uint32_t puts, gets, abandons, reports;
    int put_err, get_err;                /* every put, get fails so */
    uint32_t put_err_count;              /* so many times; 0: always */
    uint32_t damaged_puts, damaged_gets; /* so many more are damaged on their way */
    bool corrupt, hang;                  /* what it holds, until it is told; nothing is answered */
    uint32_t drop_at;                    /* kill and start at this many put frames from now */
    uint64_t delay_ns;                   /* of put answers */
    uint64_t epoch;                      /* older ones are refused */
    struct hf_rpc_request *hung[512];
    uint32_t hung_count;
    struct delayed delayed[256];
    uint32_t delayed_count;
    struct hf_timer restart;
};

struct world {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct fake_leader leader;
    struct hf_session *session;
    struct hf_io *io;
    struct fake_store stores[NODES_MAX];
    uint32_t node_count;
    const char *addrs[2]; /* one that a test may set, the leader's */
    bool opened;
    uint64_t op_timeout_ns; /* of the puts; 0: default */
    uint8_t *bytes;         /* the file of truth */
    struct hf_timer look;
};

/* --- the stores --- */

static inline void store_start(void *ctx);

static inline void store_stop(struct fake_store *s)
{
    struct hf_rpc_server *server = s->server;

    s->server = NULL;
    hf_rpc_server_free(server);
    while (s->hung_count > 0) {
        hf_rpc_reply(s->hung[--s->hung_count], -EIO, NULL, 0, NULL);
    }
    for (uint32_t i = 0; i < s->object_count; i++) {
        s->objects[i].conn = NULL; /* partial ones are dropped */
        if (!s->objects[i].whole) {
            s->objects[i].got = 0;
        }
    }
}

static inline struct object *object_find(struct fake_store *s, const struct hf_oid *oid, bool make)
{
    for (uint32_t i = 0; i < s->object_count; i++) {
        if (hf_oid_equal(&s->objects[i].oid, oid)) {
            return &s->objects[i];
        }
    }
    if (!make) {
        return NULL;
    }
    assert_true(s->object_count < OBJECTS_MAX);
    s->objects[s->object_count].oid = *oid;
    s->objects[s->object_count].data = malloc(BYTES);
    s->objects[s->object_count].sums = malloc(HF_OBJECT_BLOCKS_MAX * 8);
    assert_non_null(s->objects[s->object_count].data);
    return &s->objects[s->object_count++];
}

static inline uint32_t whole_objects(const struct fake_store *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->object_count; i++) {
        n += s->objects[i].whole;
    }
    return n;
}

static inline int put_frame(struct fake_store *s, const struct hf_msg_put *m,
                            struct hf_rpc_request *req)
{
    struct object *o = object_find(s, &m->oid, true);
    size_t len = req->bulk ? req->bulk->len_bytes : 0;
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];

    if (m->off_bytes == 0 && (o->whole || o->conn != req->conn)) {
        o->conn = req->conn;
        o->got = 0;
    }
    if (o->conn != req->conn || m->off_bytes != o->got || len == 0 || o->got + len > BYTES ||
        (!m->last && len % HF_BLOCK_BYTES)) {
        o->got = 0;
        o->conn = NULL;
        return -EINVAL;
    }
    memcpy(o->data + o->got, req->bulk->data, len);
    o->got += (uint32_t)len;
    if (!m->last) {
        return 0;
    }
    if (s->damaged_puts) {
        s->damaged_puts--;
        o->got = 0;
        o->conn = NULL;
        return -HF_ECHECKSUM;
    }
    hf_checksum_blocks(&m->oid, 0, o->data, o->got, sums);
    assert_int_equal(m->len_bytes, o->got);
    assert_int_equal(m->sum_count, hf_blocks(o->got));
    assert_memory_equal(m->sums, sums, m->sum_count * 8);
    memcpy(o->sums, sums, m->sum_count * 8);
    o->len = o->got;
    o->whole = true;
    o->conn = NULL;
    return 0;
}

static inline void delayed_answer(void *ctx)
{
    struct delayed *d = ctx;
    struct hf_rpc_request *req = d->req;

    d->req = NULL;
    hf_timer_fini(&d->timer);
    hf_rpc_reply(req, d->err, NULL, 0, NULL);
}

static inline void store_put(struct fake_store *s, struct hf_rpc_request *req)
{
    struct hf_msg_put m;
    void *mem = NULL;
    int err;

    assert_int_equal(hf_msg_put_decode(req->msg, req->msg_len, &m, &mem), 0);
    if (m.abandon) {
        struct object *o = object_find(s, &m.oid, false);

        s->abandons++;
        if (o && !o->whole) {
            o->got = 0;
            o->conn = NULL;
        }
        err = 0;
    } else if (s->put_err) {
        err = s->put_err;
        if (s->put_err_count && --s->put_err_count == 0) {
            s->put_err = 0;
        }
    } else if (m.group_epoch.v < s->epoch) {
        err = -HF_ESTALE_EPOCH;
    } else {
        s->puts++;
        err = put_frame(s, &m, req);
    }
    hf_msg_release(mem);
    if (s->drop_at && --s->drop_at == 0) {
        hf_rpc_reply(req, err, NULL, 0, NULL);
        store_stop(s);
        store_start(s);
    } else if (s->delay_ns) {
        struct delayed *d = &s->delayed[s->delayed_count++ % 256];

        assert_null(d->req);
        d->req = req;
        d->err = err;
        hf_timer_init(&d->timer, s->w->env, delayed_answer, d);
        hf_timer_arm(&d->timer, s->delay_ns);
    } else {
        hf_rpc_reply(req, err, NULL, 0, NULL);
    }
}

static inline void release_buf(void *ctx)
{
    free(ctx);
}

static inline void store_get(struct fake_store *s, struct hf_rpc_request *req)
{
    struct hf_msg_get m;
    struct object *o;
    uint8_t msg[HF_RPC_MSG_MAX], *copy;
    size_t msg_len, len;
    int err = s->get_err;

    s->gets++;
    assert_int_equal(hf_msg_get_decode(req->msg, req->msg_len, &m), 0);
    assert_int_equal(m.off_bytes % HF_BLOCK_BYTES, 0);
    o = object_find(s, &m.oid, false);
    if (!err && (!o || !o->whole)) {
        err = -HF_ENOOBJECT;
    }
    if (!err && o->quarantined) {
        err = -HF_EQUARANTINED;
    }
    if (!err && m.off_bytes >= o->len) {
        err = -EINVAL;
    }
    if (err) {
        hf_rpc_reply(req, err, NULL, 0, NULL);
        return;
    }
    len = o->len - m.off_bytes < m.len_bytes ? o->len - m.off_bytes : m.len_bytes;
    copy = malloc(len);
    assert_non_null(copy);
    memcpy(copy, o->data + m.off_bytes, len);
    copy[len / 2] ^= s->corrupt || s->damaged_gets;
    s->damaged_gets -= s->damaged_gets > 0;
    assert_int_equal(
        hf_msg_get_reply_encode(&(struct hf_msg_get_reply){.object_len_bytes = o->len,
                                                           .sums = o->sums + m.off_bytes / 4096,
                                                           .sum_count = hf_blocks(len)},
                                msg, &msg_len),
        0);
    hf_rpc_reply(req, 0, msg, msg_len,
                 &(struct hf_rpc_bulk){.iov = &(struct iovec){copy, len},
                                       .iov_count = 1,
                                       .release = release_buf,
                                       .ctx = copy});
}

static inline void store_told(struct fake_store *s, struct hf_rpc_request *req)
{
    struct hf_msg_oids m;
    void *mem = NULL;

    assert_int_equal(hf_msg_oids_decode(req->msg, req->msg_len, &m, &mem), 0);
    assert_int_equal(m.count, 1);
    object_find(s, &m.oids[0], false)->quarantined = s->corrupt;
    s->reports++;
    hf_msg_release(mem);
    hf_rpc_reply(req, 0, NULL, 0, NULL);
}

static inline void store_request(void *ctx, struct hf_rpc_request *req)
{
    struct fake_store *s = ctx;

    if (s->hang) {
        assert_true(s->hung_count < HF_ARRAY_LEN(s->hung));
        s->hung[s->hung_count++] = req;
    } else if (req->method == HF_M_PUT) {
        store_put(s, req);
    } else if (req->method == HF_M_GET) {
        store_get(s, req);
    } else {
        assert_int_equal(req->method, HF_M_REPORT_BAD);
        store_told(s, req);
    }
}

static inline void store_start(void *ctx)
{
    struct fake_store *s = ctx;
    struct hf_rpc_service service = {.request = store_request, .ctx = s};
    struct hf_rpc_server_options o = {
        .addr = s->addr, .self = {.cluster = s->w->leader.cluster}, .pool = s->w->pool};
    char addr[HF_ADDR_BYTES_MAX];

    o.self.node.v = s->node;
    assert_int_equal(hf_rpc_server_new(s->w->env, &o, &service, &s->server), 0);
    (void)snprintf(addr, sizeof(addr), "%s", hf_rpc_server_addr(s->server));
    memcpy(s->addr, addr, sizeof(addr));
}

/* --- the world --- */

static inline int setup(void **state)
{
    struct hf_env_real_options o = {.cpu = -1};
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(hf_env_real_new(&o, &w->env), 0);
    assert_int_equal(hf_bufpool_new(64u << 20, 0, &w->pool), 0);
    fake_leader_init(&w->leader, w->env, w->pool);
    w->bytes = malloc(BYTES);
    assert_non_null(w->bytes);
    for (uint32_t i = 0; i < BYTES / 8; i++) {
        hf_put_le64(w->bytes + i * 8, i * UINT64_C(0x9e3779b97f4a7c15));
    }
    *state = w;
    return 0;
}

static inline void map_changed(void *ctx)
{
    struct world *w = ctx;

    if (w->io) {
        hf_io_map_changed(w->io);
    }
}

static inline void open_done(void *ctx, int err)
{
    assert_int_equal(err, 0);
    ((struct world *)ctx)->opened = true;
}

/* Again and again between turns of the loop, in every test. */
static inline void look(void *ctx)
{
    struct world *w = ctx;

    if (w->io) {
        hf_io_check_invariants(w->io);
        hf_session_check_invariants(w->session);
    }
    hf_timer_arm(&w->look, HF_NS_PER_MS / 4);
}

static inline void world_start(struct world *w, uint32_t nodes, uint32_t copies)
{
    struct hf_session_options so = {
        .addrs = w->addrs,
        .addr_count = w->addrs[0] ? 2 : 1,
        .cluster = w->leader.cluster,
        .pool = w->pool,
        .events = {.map_changed = map_changed, .ctx = w},
    };
    struct hf_io_options io = {.pool = w->pool,
                               .cluster = w->leader.cluster,
                               .name = "test",
                               .cache_bytes = 3u << 20,
                               .get_timeout_ns = 200 * HF_NS_PER_MS};

    w->node_count = nodes;
    fake_leader_make_map(&w->leader, nodes, copies, 16);
    for (uint32_t i = 0; i < nodes; i++) {
        struct fake_store *s = &w->stores[i];

        s->w = w;
        s->node = (uint16_t)(i + 1);
        (void)snprintf(s->addr, sizeof(s->addr), "127.0.0.1:0");
        hf_timer_init(&s->restart, w->env, store_start, s);
        store_start(s);
        memcpy(w->leader.map.nodes[i].addr, s->addr, sizeof(s->addr));
    }
    fake_leader_start(&w->leader);
    w->addrs[so.addr_count - 1] = w->leader.addr;
    assert_int_equal(hf_session_new(w->env, &so, &w->session), 0);
    hf_session_open(w->session, open_done, w);
    assert_true(loop_until_flag(w->env, &w->opened));
    io.session = w->session;
    io.op_timeout_ns = w->op_timeout_ns;
    assert_int_equal(hf_io_new(w->env, &io, &w->io), 0);
    hf_timer_init(&w->look, w->env, look, w);
    hf_timer_arm(&w->look, 0);
}

static inline int teardown(void **state)
{
    struct world *w = *state;

    hf_timer_fini(&w->look);
    hf_io_free(w->io);
    w->io = NULL;
    hf_session_free(w->session);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct fake_store *s = &w->stores[i];

        hf_timer_fini(&s->restart);
        store_stop(s);
        for (uint32_t k = 0; k < HF_ARRAY_LEN(s->delayed); k++) {
            if (s->delayed[k].req) {
                delayed_answer(&s->delayed[k]);
            }
        }
        for (uint32_t k = 0; k < s->object_count; k++) {
            free(s->objects[k].data);
            free(s->objects[k].sums);
        }
    }
    fake_leader_fini(&w->leader);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_bufpool_free(w->pool);
    hf_env_real_free(w->env);
    free(w->bytes);
    free(w);
    return 0;
}

struct put {
    struct hf_io_put p;
    bool done;
    int err;
    uint32_t order;
};

static uint32_t put_order;

static inline void put_done(struct hf_io_put *p, int err)
{
    struct put *put = p->ctx;

    assert_false(put->done);
    put->done = true;
    put->err = err;
    put->order = put_order++;
}

static inline void put_begin(struct world *w, struct put *put)
{
    *put = (struct put){.p = {.done = put_done, .ctx = put, .urgent = put->p.urgent}};
    hf_io_put_begin(w->io, &put->p);
}

static inline void put_start(struct world *w, struct put *put, uint32_t off, uint32_t len)
{
    put_begin(w, put);
    hf_io_put_append(&put->p, &(struct iovec){w->bytes + off, len}, 1);
    assert_int_equal(hf_io_put_bytes(&put->p), len);
    hf_io_put_finish(&put->p);
    assert_false(put->done);
}

static inline void put_wait(struct world *w, struct put *put)
{
    assert_true(loop_until_flag(w->env, &put->done));
}

/* Put bytes [0, len), successfully. */
static inline struct hf_oid put_ok(struct world *w, uint32_t len)
{
    struct put put = {0};

    put_start(w, &put, 0, len);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.len_bytes, len);
    return put.p.oid;
}

struct get {
    struct hf_io_get g;
    bool done;
    int err;
};

static inline void get_done(struct hf_io_get *g, int err)
{
    struct get *get = g->ctx;

    assert_false(get->done);
    get->done = true;
    get->err = err;
}

static inline void get_start(struct world *w, struct get *get, const struct hf_oid *oid,
                             uint32_t off, uint32_t len, bool cache)
{
    *get = (struct get){.g = {.oid = *oid,
                              .off_bytes = off,
                              .len_bytes = len,
                              .cache = cache,
                              .done = get_done,
                              .ctx = get}};
    hf_io_get(w->io, &get->g);
    assert_false(get->done);
}

/* The slices hold the bytes asked for, of an object put from the start of w->bytes. */
static inline void get_check(struct world *w, struct get *get)
{
    uint32_t at = get->g.off_bytes;

    assert_int_equal(get->err, 0);
    for (uint32_t i = 0; i < get->g.slice_count; i++) {
        struct hf_io_slice *s = &get->g.slices[i];

        assert_memory_equal(s->buf->data + s->off_bytes, w->bytes + at, s->len_bytes);
        at += s->len_bytes;
        hf_buf_unref(s->buf);
    }
    assert_int_equal(at, get->g.off_bytes + get->g.len_bytes);
}

static inline int get_run(struct world *w, const struct hf_oid *oid, uint32_t off, uint32_t len,
                          bool cache)
{
    struct get get;

    get_start(w, &get, oid, off, len, cache);
    assert_true(loop_until(w->env, loop_flag, &get.done, 60 * HF_NS_PER_SEC));
    if (!get.err) {
        get_check(w, &get);
    }
    return get.err;
}

static inline uint32_t total_gets(struct world *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->node_count; i++) {
        n += w->stores[i].gets;
    }
    return n;
}

static inline struct hf_io_stats stats(struct world *w)
{
    struct hf_io_stats s;

    hf_io_stats(w->io, &s);
    return s;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
