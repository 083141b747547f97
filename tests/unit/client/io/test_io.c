/* SPDX-License-Identifier: Apache-2.0 */
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
    bool whole;
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
    int put_err, get_err;   /* every put, get fails so */
    uint32_t put_err_count; /* so many times; 0: always */
    bool corrupt, hang;     /* answers to gets; nothing is answered */
    uint32_t drop_at;       /* kill and start at this many put frames from now */
    uint64_t delay_ns;      /* of put answers */
    uint64_t epoch;         /* older ones are refused */
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
    const char *addrs[1];
    bool opened;
    uint8_t *bytes; /* the file of truth */
};

/* --- the stores --- */

static void store_start(void *ctx);

static void store_stop(struct fake_store *s)
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

static struct object *object_find(struct fake_store *s, const struct hf_oid *oid, bool make)
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

static uint32_t whole_objects(const struct fake_store *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->object_count; i++) {
        n += s->objects[i].whole;
    }
    return n;
}

static int put_frame(struct fake_store *s, const struct hf_msg_put *m, struct hf_rpc_request *req)
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

static void delayed_answer(void *ctx)
{
    struct delayed *d = ctx;
    struct hf_rpc_request *req = d->req;

    d->req = NULL;
    hf_timer_fini(&d->timer);
    hf_rpc_reply(req, d->err, NULL, 0, NULL);
}

static void store_put(struct fake_store *s, struct hf_rpc_request *req)
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

static void release_buf(void *ctx)
{
    free(ctx);
}

static void store_get(struct fake_store *s, struct hf_rpc_request *req)
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
    copy[len / 2] ^= s->corrupt;
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

static void store_request(void *ctx, struct hf_rpc_request *req)
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
        s->reports++;
        hf_rpc_reply(req, 0, NULL, 0, NULL);
    }
}

static void store_start(void *ctx)
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

static int setup(void **state)
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

static void map_changed(void *ctx)
{
    struct world *w = ctx;

    if (w->io) {
        hf_io_map_changed(w->io);
    }
}

static void open_done(void *ctx, int err)
{
    assert_int_equal(err, 0);
    ((struct world *)ctx)->opened = true;
}

static void world_start(struct world *w, uint32_t nodes, uint32_t copies)
{
    struct hf_session_options so = {
        .addrs = w->addrs,
        .addr_count = 1,
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
    w->addrs[0] = w->leader.addr;
    assert_int_equal(hf_session_new(w->env, &so, &w->session), 0);
    hf_session_open(w->session, open_done, w);
    assert_true(loop_until_flag(w->env, &w->opened));
    io.session = w->session;
    assert_int_equal(hf_io_new(w->env, &io, &w->io), 0);
}

static int teardown(void **state)
{
    struct world *w = *state;

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

static void put_done(struct hf_io_put *p, int err)
{
    struct put *put = p->ctx;

    assert_false(put->done);
    put->done = true;
    put->err = err;
    put->order = put_order++;
}

static void put_begin(struct world *w, struct put *put)
{
    *put = (struct put){.p = {.done = put_done, .ctx = put, .urgent = put->p.urgent}};
    hf_io_put_begin(w->io, &put->p);
}

static void put_start(struct world *w, struct put *put, uint32_t off, uint32_t len)
{
    put_begin(w, put);
    hf_io_put_append(&put->p, &(struct iovec){w->bytes + off, len}, 1);
    assert_int_equal(hf_io_put_bytes(&put->p), len);
    hf_io_put_finish(&put->p);
    assert_false(put->done);
}

static void put_wait(struct world *w, struct put *put)
{
    assert_true(loop_until_flag(w->env, &put->done));
}

/* Put bytes [0, len), successfully. */
static struct hf_oid put_ok(struct world *w, uint32_t len)
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

static void get_done(struct hf_io_get *g, int err)
{
    struct get *get = g->ctx;

    assert_false(get->done);
    get->done = true;
    get->err = err;
}

static void get_start(struct world *w, struct get *get, const struct hf_oid *oid, uint32_t off,
                      uint32_t len, bool cache)
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
static void get_check(struct world *w, struct get *get)
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

static int get_run(struct world *w, const struct hf_oid *oid, uint32_t off, uint32_t len,
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

static uint32_t total_gets(struct world *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->node_count; i++) {
        n += w->stores[i].gets;
    }
    return n;
}

static struct hf_io_stats stats(struct world *w)
{
    struct hf_io_stats s;

    hf_io_stats(w->io, &s);
    return s;
}

/* --- puts --- */

static void objects_of_every_size_come_back(void **state)
{
    static const uint32_t sizes[] = {
        1,        4095,           4096,       4097,           300000,
        1u << 20, (1u << 20) + 1, (2u << 20), (4u << 20) - 1, 4u << 20};
    struct world *w = *state;

    world_start(w, 3, 3);
    for (size_t i = 0; i < HF_ARRAY_LEN(sizes); i++) {
        struct hf_oid oid = put_ok(w, sizes[i]);

        for (uint32_t n = 0; n < 3; n++) {
            assert_int_equal(whole_objects(&w->stores[n]), i + 1);
        }
        assert_int_equal(get_run(w, &oid, 0, sizes[i], false), 0);
        assert_int_equal(get_run(w, &oid, sizes[i] / 3, sizes[i] - sizes[i] / 3, true), 0);
        assert_int_equal(get_run(w, &oid, sizes[i] / 2, 1, false), 0);
        assert_int_equal(get_run(w, &oid, 0, sizes[i], true), 0);
    }
}

static void holders_and_epoch_are_told(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 5, 3);
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, hf_map_group_members(&w->leader.map, put.p.oid.group));
    assert_int_equal(put.p.epoch.v, 10);
    assert_int_equal(put.p.oid.session, hf_session_id(w->session).v);
    assert_true(put.p.digest != 0);
}

static bool frames_came(void *ctx)
{
    return ((struct world *)ctx)->stores[0].puts >= 2;
}

static void full_frames_leave_before_the_end(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    put_begin(w, &put);
    for (uint32_t i = 0; i < 9; i++) {
        hf_io_put_append(&put.p, &(struct iovec){w->bytes + i * 262144, 262144}, 1);
    }
    assert_true(loop_until(w->env, frames_came, w, 10 * HF_NS_PER_SEC));
    hf_io_put_finish(&put.p);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(w->stores[0].puts, 3);
    assert_int_equal(get_run(w, &put.p.oid, 0, 9 * 262144, false), 0);
}

static void thousands_of_small_pieces_make_one_object(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    uint32_t at = 0;
    uint8_t *copy = malloc(2u << 20); /* with a hole after each piece: they cannot be joined */

    assert_non_null(copy);
    world_start(w, 3, 3);
    put_begin(w, &put);
    for (uint32_t i = 0; i < 8000; i++) {
        uint32_t len = 1 + i % 250;

        memcpy(copy + at + i, w->bytes + at, len);
        hf_io_put_append(&put.p, &(struct iovec){copy + at + i, len}, 1);
        at += len;
    }
    hf_io_put_finish(&put.p);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(get_run(w, &put.p.oid, 0, at, false), 0);
    free(copy);
}

static void a_dead_member_is_avoided_at_once_where_possible(void **state)
{
    struct world *w = *state;

    world_start(w, 5, 3);
    store_stop(&w->stores[1]);
    for (int i = 0; i < 20; i++) {
        struct put put = {0};
        uint64_t start = hf_env_mono_ns(w->env);

        put_start(w, &put, 0, 2u << 20);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(__builtin_popcountll(put.p.holders), 3);
        assert_int_equal(put.p.holders & 2, 0);
        assert_int_equal(put.p.holders & hf_map_group_members(&w->leader.map, put.p.oid.group),
                         put.p.holders);
        assert_true(hf_env_mono_ns(w->env) - start < 2 * HF_NS_PER_SEC);
    }
    assert_true(stats(w).put_retries > 0);
}

static void node_three_down(void *ctx)
{
    fake_leader_set_node(&((struct world *)ctx)->leader, 3, HF_NODE_DOWN);
}

static void with_no_other_group_a_put_waits_until_the_map_gives_the_member_up(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_timer timer;

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    put_start(w, &put, 0, 3u << 20);
    loop_for(w->env, 300 * HF_NS_PER_MS);
    assert_false(put.done); /* never two copies while the map says three */
    hf_timer_init(&timer, w->env, node_three_down, w);
    hf_timer_arm(&timer, 100 * HF_NS_PER_MS);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
    assert_int_equal(put.p.epoch.v, 11);
    assert_int_equal(whole_objects(&w->stores[0]), 1); /* not sent again */
    assert_int_equal(w->stores[0].puts, 3);
    hf_timer_fini(&timer);
}

static void a_member_that_comes_back_in_time_takes_the_object(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    hf_timer_arm(&w->stores[2].restart, 250 * HF_NS_PER_MS);
    put_start(w, &put, 0, 3u << 20);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 7);
    assert_int_equal(whole_objects(&w->stores[2]), 1);
    assert_int_equal(whole_objects(&w->stores[0]), 1);
}

static void a_connection_lost_between_frames_sends_them_again(void **state)
{
    struct world *w = *state;

    world_start(w, 3, 3);
    for (uint32_t at = 1; at <= 4; at++) {
        struct hf_oid oid;

        w->stores[1].drop_at = at;
        oid = put_ok(w, 4u << 20);
        assert_int_equal(whole_objects(&w->stores[1]), at);
        assert_int_equal(get_run(w, &oid, 0, 4u << 20, false), 0);
    }
}

static void a_member_that_hangs_is_dropped_with_the_map(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_timer timer;

    world_start(w, 3, 3);
    w->stores[2].hang = true;
    hf_timer_init(&timer, w->env, node_three_down, w);
    hf_timer_arm(&timer, 1200 * HF_NS_PER_MS);
    put_start(w, &put, 0, 4u << 20);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
    hf_timer_fini(&timer);
}

static void a_member_that_hangs_is_left_where_possible(void **state)
{
    struct world *w = *state;

    world_start(w, 5, 3);
    w->stores[2].hang = true;
    for (int i = 0; i < 4; i++) {
        struct put put = {0};

        put_start(w, &put, 0, 2u << 20);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(put.p.holders & 4, 0);
        assert_int_equal(__builtin_popcountll(put.p.holders), 3);
    }
}

static void two_dead_members_of_three_make_a_put_wait(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[1]);
    store_stop(&w->stores[2]);
    fake_leader_set_node(&w->leader, 2, HF_NODE_DOWN);
    fake_leader_set_node(&w->leader, 3, HF_NODE_DOWN);
    put_start(w, &put, 0, 100000);
    loop_for(w->env, 500 * HF_NS_PER_MS);
    assert_false(put.done);
    store_start(&w->stores[1]);
    fake_leader_set_node(&w->leader, 2, HF_NODE_UP);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
}

static void targets_are_written_too(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 4, 2);
    for (uint32_t g = 0; g < w->leader.map.group_count; g++) {
        w->leader.map.groups[g].target[0].v = (uint16_t)((g + 2) % 4 + 1);
        w->leader.map.groups[g].epoch.v = 11;
    }
    w->leader.map.epoch.v = 11;
    for (uint32_t i = 0; i < 4; i++) {
        w->stores[i].epoch = 11;
    }
    put_start(w, &put, 0, 100000); /* begins under the old map, is refused, fetches the new one */
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(__builtin_popcountll(put.p.holders), 3);
    assert_int_equal(put.p.epoch.v, 11);
}

static void a_full_member_is_avoided_and_a_full_cluster_says_so(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 5, 3);
    w->stores[0].put_err = -ENOSPC;
    for (int i = 0; i < 10; i++) {
        put_start(w, &put, 0, 50000);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(put.p.holders & 1, 0);
    }
    for (int i = 1; i < 5; i++) {
        w->stores[i].put_err = -ENOSPC;
    }
    put_start(w, &put, 0, 50000);
    put_wait(w, &put);
    assert_int_equal(put.err, -ENOSPC);
}

static void a_busy_store_is_asked_again(void **state)
{
    struct world *w = *state;

    world_start(w, 3, 3);
    w->stores[0].put_err = -EAGAIN;
    w->stores[0].put_err_count = 3;
    w->stores[1].put_err = -HF_ENOTREADY;
    w->stores[1].put_err_count = 6;
    (void)put_ok(w, 4u << 20);
    assert_int_equal(stats(w).put_retries, 0);
}

static void an_id_in_conflict_is_given_up(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    w->stores[0].put_err = -HF_ECONFLICT;
    w->stores[0].put_err_count = 2;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_true(put.p.oid.seq > 1);
    w->stores[0].put_err = -HF_ECONFLICT;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, -EIO);
}

static void a_fenced_put_fails(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    w->stores[0].put_err = -HF_EFENCED;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, -HF_EFENCED);
}

static void ignore(void *ctx, int err)
{
    (void)ctx;
    (void)err;
}

static void a_lost_session_ends_puts(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    put_start(w, &put, 0, 5000);
    loop_for(w->env, 50 * HF_NS_PER_MS);
    w->leader.fenced = true;
    hf_session_wait_budget(w->session, UINT64_C(1) << 40, ignore, NULL); /* renews */
    put_wait(w, &put);
    assert_int_equal(put.err, -HF_EFENCED);
}

static void urgent_puts_go_first(void **state)
{
    struct world *w = *state;
    struct put puts[40];

    memset(puts, 0, sizeof(puts));
    put_order = 0;
    world_start(w, 3, 3);
    for (uint32_t i = 0; i < 3; i++) {
        w->stores[i].delay_ns = 5 * HF_NS_PER_MS;
    }
    for (uint32_t i = 0; i < 40; i++) {
        puts[i].p.urgent = i == 39;
        put_start(w, &puts[i], i * 4096, 4096);
    }
    for (uint32_t i = 0; i < 40; i++) {
        put_wait(w, &puts[i]);
        assert_int_equal(puts[i].err, 0);
    }
    assert_true(puts[39].order < 16);
    assert_int_equal(whole_objects(&w->stores[0]), 40);
}

static void a_put_that_fills_slowly_holds_nobody_up(void **state)
{
    struct world *w = *state;
    struct put slow[12], put = {0};

    memset(slow, 0, sizeof(slow));
    world_start(w, 3, 3);
    for (uint32_t i = 0; i < 12; i++) {
        put_begin(w, &slow[i]);
        hf_io_put_append(&slow[i].p, &(struct iovec){w->bytes, (1u << 20) + 1}, 1);
    }
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    for (uint32_t i = 0; i < 12; i++) {
        assert_false(slow[i].done);
        hf_io_put_finish(&slow[i].p);
    }
    for (uint32_t i = 0; i < 12; i++) {
        put_wait(w, &slow[i]);
        assert_int_equal(slow[i].err, 0);
    }
}

static bool abandoned(void *ctx)
{
    struct world *w = ctx;

    return w->stores[0].abandons && w->stores[1].abandons && w->stores[2].abandons;
}

static void a_cancelled_put_is_abandoned_on_the_stores(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    put_begin(w, &put);
    hf_io_put_append(&put.p, &(struct iovec){w->bytes, 3u << 20}, 1);
    hf_io_put_cancel(&put.p);
    assert_false(put.done);
    put_wait(w, &put);
    assert_int_equal(put.err, -ECANCELED);
    assert_true(loop_until(w->env, abandoned, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(whole_objects(&w->stores[0]), 0);
}

static void free_ends_puts_and_gets(void **state)
{
    struct world *w = *state;
    struct put puts[20];
    struct get get, warm;
    struct hf_oid oid;

    memset(puts, 0, sizeof(puts));
    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    w->stores[0].hang = w->stores[1].hang = w->stores[2].hang = true;
    for (uint32_t i = 0; i < 20; i++) {
        put_start(w, &puts[i], 0, 4u << 20);
    }
    get_start(w, &get, &oid, 0, 1u << 20, false);
    get_start(w, &warm, &oid, 0, 1u << 20, true);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_io_free(w->io);
    w->io = NULL;
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(puts[i].done);
        assert_int_equal(puts[i].err, -ECANCELED);
    }
    assert_true(get.done && warm.done);
    assert_int_equal(get.err, -ECANCELED);
    assert_int_equal(warm.err, -ECANCELED);
}

/* --- chaos: stores die, hang, come back and forget; the map follows --- */

struct chaos {
    struct world *w;
    struct hf_timer timer;
    uint64_t seed;
    uint64_t down_since[NODES_MAX];
    bool calm;
};

static uint32_t chance(struct chaos *c, uint32_t n)
{
    c->seed = c->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(c->seed >> 33) % n;
}

static void store_unhang(struct fake_store *s)
{
    s->hang = false;
    store_stop(s); /* what hung is forgotten */
    store_start(s);
}

static void chaos_turn(void *ctx)
{
    struct chaos *c = ctx;
    struct world *w = c->w;
    struct fake_store *s = &w->stores[chance(c, w->node_count)];
    uint64_t now = hf_env_mono_ns(w->env);

    if (!c->calm) {
        switch (chance(c, 6)) {
        case 0:
            if (s->server) {
                store_stop(s);
            }
            break;
        case 1:
            s->hang = s->server != NULL;
            break;
        case 2:
            s->drop_at = s->server ? 1 + chance(c, 5) : 0;
            break;
        case 3:
            s->put_err = chance(c, 2) ? -EAGAIN : -HF_ENOTREADY;
            s->put_err_count = 1 + chance(c, 4);
            break;
        default:
            break;
        }
    }
    for (uint32_t i = 0; i < w->node_count; i++) { /* the leader's view, and repairs */
        struct fake_store *v = &w->stores[i];
        bool sick = !v->server || v->hang;

        c->down_since[i] = !sick ? 0 : c->down_since[i] ? c->down_since[i] : now;
        if (sick && now - c->down_since[i] > 60 * HF_NS_PER_MS &&
            w->leader.map.nodes[i].state == HF_NODE_UP) {
            fake_leader_set_node(&w->leader, v->node, HF_NODE_DOWN);
        }
        if (sick && (c->calm || now - c->down_since[i] > 150 * HF_NS_PER_MS)) {
            v->drop_at = 0;
            if (v->server) {
                store_unhang(v);
            } else {
                store_start(v);
            }
            if (w->leader.map.nodes[i].state != HF_NODE_UP) {
                fake_leader_set_node(&w->leader, v->node, HF_NODE_UP);
                v->epoch = w->leader.map.epoch.v; /* of its groups: refuses what is older */
            }
        }
    }
    hf_timer_arm(&c->timer, (5 + chance(c, 30)) * HF_NS_PER_MS);
}

#define CHAOS_PUTS 60u

/* Every holder that was named has the bytes; there are at least two. */
static void chaos_check(struct world *w, const struct put *put, uint32_t off)
{
    assert_int_equal(put->err, 0);
    assert_true(__builtin_popcountll(put->p.holders) >= 2);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct object *o = object_find(&w->stores[i], &put->p.oid, false);

        if (put->p.holders & UINT64_C(1) << i) {
            assert_true(o && o->whole);
            assert_int_equal(o->len, put->p.len_bytes);
            assert_memory_equal(o->data, w->bytes + off, o->len);
        }
    }
}

static void chaos_run(struct world *w, uint32_t nodes, uint64_t seed)
{
    struct chaos c = {.w = w, .seed = seed};
    struct put puts[CHAOS_PUTS];
    uint32_t offs[CHAOS_PUTS];

    memset(puts, 0, sizeof(puts));
    world_start(w, nodes, 3);
    hf_timer_init(&c.timer, w->env, chaos_turn, &c);
    hf_timer_arm(&c.timer, 0);
    for (uint32_t i = 0; i < CHAOS_PUTS; i++) {
        uint32_t len = 1 + chance(&c, chance(&c, 2) ? 300000 : BYTES);

        offs[i] = chance(&c, BYTES - len + 1) & ~7u;
        puts[i].p.urgent = chance(&c, 8) == 0;
        put_start(w, &puts[i], offs[i], len);
        loop_for(w->env, chance(&c, 8) * HF_NS_PER_MS);
    }
    c.calm = true;
    for (uint32_t i = 0; i < CHAOS_PUTS; i++) {
        put_wait(w, &puts[i]);
        chaos_check(w, &puts[i], offs[i]);
    }
    hf_timer_fini(&c.timer);
}

static void puts_come_through_chaos_on_three_nodes(void **state)
{
    chaos_run(*state, 3, 1);
}

static void puts_come_through_chaos_on_five_nodes(void **state)
{
    chaos_run(*state, 5, 2);
}

/* --- gets --- */

static void a_corrupt_copy_is_reported_and_another_read(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    w->stores[0].corrupt = w->stores[1].corrupt = true;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(get_run(w, &oid, i << 20, 1u << 20, false), 0);
    }
    if (stats(w).mismatches == 0) { /* all three from the good one */
        w->stores[0].corrupt = false;
        w->stores[2].corrupt = true;
        assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    }
    loop_for(w->env, 20 * HF_NS_PER_MS);
    assert_true(stats(w).mismatches > 0);
    assert_int_equal(w->stores[0].reports + w->stores[1].reports + w->stores[2].reports,
                     stats(w).mismatches);
    w->stores[0].corrupt = w->stores[1].corrupt = w->stores[2].corrupt = true;
    assert_int_equal(get_run(w, &oid, 0, 4096, false), -EIO);
}

static void a_dead_or_hanging_replica_is_passed_over(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    store_stop(&w->stores[0]);
    w->stores[1].hang = true;
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(get_run(w, &oid, i << 19, 1u << 19, i % 2), 0);
    }
    assert_true(w->stores[1].hung_count <= 1); /* asked once, then tried last */
}

static void an_object_that_is_nowhere_is_said_to_be(void **state)
{
    struct world *w = *state;
    struct hf_oid oid = {.session = 99, .seq = 1, .group = 3};

    world_start(w, 3, 3);
    assert_int_equal(get_run(w, &oid, 0, 4096, false), -HF_ENOOBJECT);
    assert_int_equal(get_run(w, &oid, 0, 4096, true), -HF_ENOOBJECT);
    assert_false(hf_io_cached(w->io, &oid, 0, 4096));
    oid = put_ok(w, 5000);
    assert_int_equal(get_run(w, &oid, 4000, 2000, true), -EIO); /* past its end */
    assert_int_equal(get_run(w, &oid, 4000, 1000, true), 0);
}

static void a_replica_that_lacks_it_is_passed_over(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    w->stores[0].get_err = -HF_ENOOBJECT;
    w->stores[1].get_err = -HF_EQUARANTINED;
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
}

static void restart_all(void *ctx)
{
    struct world *w = ctx;

    for (uint32_t i = 0; i < 3; i++) {
        store_start(&w->stores[i]);
    }
}

static void a_get_waits_for_replicas_to_come_back(void **state)
{
    struct world *w = *state;
    struct hf_timer timer;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 3; i++) {
        store_stop(&w->stores[i]);
    }
    hf_timer_init(&timer, w->env, restart_all, w);
    hf_timer_arm(&timer, 700 * HF_NS_PER_MS);
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    hf_timer_fini(&timer);
}

static void a_node_may_move_to_another_address(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 3; i++) {
        struct fake_store *s = &w->stores[i];

        store_stop(s);
        (void)snprintf(s->addr, sizeof(s->addr), "127.0.0.1:0");
        store_start(s);
        memcpy(w->leader.map.nodes[i].addr, s->addr, sizeof(s->addr));
    }
    w->leader.map.epoch.v++;
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    (void)put_ok(w, 4096);
}

/* --- the cache --- */

static void cached_bytes_are_not_fetched_again(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, (2u << 20) + 12345);
    assert_false(hf_io_cached(w->io, &oid, 0, 1));
    assert_int_equal(get_run(w, &oid, 300000, 1000, true), 0);
    assert_int_equal(total_gets(w), 1);
    assert_true(hf_io_cached(w->io, &oid, 262144, 262144));
    assert_false(hf_io_cached(w->io, &oid, 262143, 2));
    assert_int_equal(get_run(w, &oid, 262144, 262144, true), 0);
    assert_int_equal(get_run(w, &oid, 270000, 100000, false), 0);
    assert_int_equal(total_gets(w), 1);
    assert_int_equal(get_run(w, &oid, 0, (2u << 20) + 12345, true), 0);
    assert_int_equal(total_gets(w), 1 + 3); /* chunks 0, 2 to 5, 6 to 8: at most 1 MiB each */
    assert_int_equal(get_run(w, &oid, 0, (2u << 20) + 12345, true), 0);
    assert_int_equal(total_gets(w), 4);
    assert_true(stats(w).cache_hits > 0);
}

static void readers_of_one_chunk_share_one_fetch(void **state)
{
    struct world *w = *state;
    struct get gets[10];
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 10; i++) {
        get_start(w, &gets[i], &oid, i * 100, 5000, true);
    }
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(loop_until_flag(w->env, &gets[i].done));
        get_check(w, &gets[i]);
    }
    assert_int_equal(total_gets(w), 1);
}

static void chunks_in_many_pieces_are_joined(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    for (uint32_t i = 0; i < 12; i++) { /* 12 runs of one chunk: more than an answer's slices */
        assert_int_equal(get_run(w, &oid, i * 262144, 4096, true), 0);
    }
    assert_int_equal(total_gets(w), 12);
    assert_int_equal(get_run(w, &oid, 5, (3u << 20) - 10, true), 0);
}

static void the_cache_stays_within_its_size(void **state)
{
    struct world *w = *state;
    struct hf_oid first, oid;

    world_start(w, 3, 3);
    first = put_ok(w, 1u << 20);
    assert_int_equal(get_run(w, &first, 0, 4096, true), 0);
    for (int i = 0; i < 5; i++) {
        oid = put_ok(w, 1u << 20);
        assert_int_equal(get_run(w, &oid, 0, 1u << 20, true), 0);
        assert_true(stats(w).cache_bytes <= 3u << 20);
    }
    assert_false(hf_io_cached(w->io, &first, 0, 4096));
    assert_true(hf_io_cached(w->io, &oid, 0, 1u << 20));
}

static bool is_warm(void *ctx)
{
    struct world *w = ctx;
    struct hf_oid oid = w->stores[0].objects[0].oid;

    return hf_io_cached(w->io, &oid, 0, 1u << 20);
}

static void prefetch_warms_the_cache_and_is_bounded(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 2u << 20);
    hf_io_prefetch(w->io, &oid, 0, 2u << 20);
    hf_io_prefetch(w->io, &oid, 0, 2u << 20);
    assert_true(loop_until(w->env, is_warm, w, 10 * HF_NS_PER_SEC));
    loop_for(w->env, 20 * HF_NS_PER_MS);
    assert_int_equal(total_gets(w), 2);
    w->stores[0].hang = w->stores[1].hang = w->stores[2].hang = true;
    for (uint64_t i = 0; i < 100; i++) {
        hf_io_prefetch(w->io, &(struct hf_oid){.session = 1, .seq = i + 100}, 0, 1u << 20);
    }
    loop_for(w->env, 50 * HF_NS_PER_MS);
    assert_true(w->stores[0].hung_count + w->stores[1].hung_count + w->stores[2].hung_count <= 8);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(objects_of_every_size_come_back),
        T(holders_and_epoch_are_told),
        T(full_frames_leave_before_the_end),
        T(thousands_of_small_pieces_make_one_object),
        T(a_dead_member_is_avoided_at_once_where_possible),
        T(with_no_other_group_a_put_waits_until_the_map_gives_the_member_up),
        T(a_member_that_comes_back_in_time_takes_the_object),
        T(a_connection_lost_between_frames_sends_them_again),
        T(a_member_that_hangs_is_dropped_with_the_map),
        T(a_member_that_hangs_is_left_where_possible),
        T(two_dead_members_of_three_make_a_put_wait),
        T(targets_are_written_too),
        T(a_full_member_is_avoided_and_a_full_cluster_says_so),
        T(a_busy_store_is_asked_again),
        T(an_id_in_conflict_is_given_up),
        T(a_fenced_put_fails),
        T(a_lost_session_ends_puts),
        T(urgent_puts_go_first),
        T(a_put_that_fills_slowly_holds_nobody_up),
        T(a_cancelled_put_is_abandoned_on_the_stores),
        T(free_ends_puts_and_gets),
        T(puts_come_through_chaos_on_three_nodes),
        T(puts_come_through_chaos_on_five_nodes),
        T(a_corrupt_copy_is_reported_and_another_read),
        T(a_dead_or_hanging_replica_is_passed_over),
        T(an_object_that_is_nowhere_is_said_to_be),
        T(a_replica_that_lacks_it_is_passed_over),
        T(a_get_waits_for_replicas_to_come_back),
        T(a_node_may_move_to_another_address),
        T(cached_bytes_are_not_fetched_again),
        T(readers_of_one_chunk_share_one_fetch),
        T(chunks_in_many_pieces_are_joined),
        T(the_cache_stays_within_its_size),
        T(prefetch_warms_the_cache_and_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
