/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three replicas of the metadata on their logs, in one world: clients stream operations to whoever
 * leads, and send them again to the next one, as client/meta does.
 */
#ifndef HF_TESTS_REPLICAS_WORLD_H
#define HF_TESTS_REPLICAS_WORLD_H

#include "tests/unit/server/raft/cluster.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "common/table/snapshot.h"
#include "server/meta/leader_impl.h"
#include "server/meta/replica_impl.h"
#include "server/meta/rows.h"
#include "server/node/meta_log.h"

#define REPLICAS   3u
#define STREAM_OPS 90u
#define WINDOW     8u
#define CLIENTS    2u
#define POOL_MAX   (64u << 20)
#define STEPS_MAX  100000u

struct world;

struct rnode {
    struct world *w;
    struct cl_node *net; /* its place in the network */
    struct hf_table_model *model;
    struct hf_replica *replica; /* NULL: down */
    struct hf_meta_log *log;
    struct scall *calls;
    uint32_t life;
    bool closed;
    bool refuse_install; /* the next snapshot cannot be put in place */
    bool differs;        /* made so by the test */
};

struct world {
    struct cluster *c;
    struct rnode nodes[REPLICAS];
};

/* Stores that hold nothing */

struct scall {
    struct scall *prev, *next;
    struct rnode *n;
    struct hf_timer timer;
    void (*done)(void *arg, int err);
    void (*listed)(void *arg, int err, const struct hf_msg_list_reply *list);
    void *arg;
};

static inline void scall_free(struct scall *call)
{
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        call->n->calls = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    }
    hf_timer_fini(&call->timer);
    free(call);
}

static inline void scall_ends(void *ctx)
{
    struct scall *call = ctx;
    const struct scall copy = *call;
    const struct hf_msg_list_reply nothing = {0};

    scall_free(call);
    if (copy.done) {
        copy.done(copy.arg, 0);
    } else {
        copy.listed(copy.arg, 0, &nothing);
    }
}

static inline struct scall *scall_new(struct rnode *n, void *arg)
{
    struct scall *call = calloc(1, sizeof(*call));

    assert_non_null(call);
    call->n = n;
    call->arg = arg;
    call->next = n->calls;
    if (call->next) {
        call->next->prev = call;
    }
    n->calls = call;
    hf_timer_init(&call->timer, n->net->env, scall_ends, call);
    hf_timer_arm(&call->timer, MSEC);
    return call;
}

static inline void delete_objects(void *ctx, struct hf_node_id node, const struct hf_oid *oids,
                                  uint32_t count, void (*done)(void *arg, int err), void *arg)
{
    (void)node;
    (void)oids;
    (void)count;
    scall_new(ctx, arg)->done = done;
}

static inline void copy_object(void *ctx, struct hf_node_id node,
                               const struct hf_meta_object *object, uint64_t sources,
                               void (*done)(void *arg, int err), void *arg)
{
    (void)node;
    (void)object;
    (void)sources;
    scall_new(ctx, arg)->done = done;
}

static inline void
list_objects(void *ctx, struct hf_node_id node, uint16_t group, const struct hf_oid *after,
             void (*done)(void *arg, int err, const struct hf_msg_list_reply *list), void *arg)
{
    (void)node;
    (void)group;
    (void)after;
    scall_new(ctx, arg)->listed = done;
}

static inline void map_changed(void *ctx, const struct hf_map *map)
{
    (void)ctx;
    (void)map;
}

/* Nodes */

static inline int base_open(void *ctx, struct hf_table_base **ret)
{
    return hf_table_base_model(((struct rnode *)ctx)->model, ret);
}

static inline int base_install(void *ctx, const char *path)
{
    struct rnode *n = ctx;

    if (n->refuse_install) {
        n->refuse_install = false;
        return -EIO;
    }
    return hf_table_install_model(n->net->env, path, n->model);
}

static inline void start(struct rnode *n)
{
    static const struct hf_node_id members[REPLICAS] = {{1}, {2}, {3}};
    static const struct hf_leader_node nodes[REPLICAS] = {
        {{1}, 100, "10.0.0.1:7400", "a"},
        {{2}, 100, "10.0.0.2:7400", "b"},
        {{3}, 100, "10.0.0.3:7400", "c"},
    };
    const struct hf_replica_base base = {base_open, base_install, n};
    struct hf_replica_options options = {
        .dir = CL_DIR,
        .cluster = {{1, 2, 3}},
        .base = &base,
        .nodes = nodes,
        .node_count = REPLICAS,
        .copies = 3,
        .min_copies = 2,
        .groups = 4,
        .session_ttl_ns = 1000 * SEC,
        .stores = {delete_objects, copy_object, list_objects, map_changed, n},
    };
    struct hf_meta_log_options log = {
        .dir = CL_DIR,
        .cluster = {{1, 2, 3}},
        .self = n->net->id,
        .members = members,
        .member_count = REPLICAS,
        .segment_bytes = 256u << 10,
        .digest_every = 16,
        .net = {.send = cl_send, .ask = cl_ask, .ctx = n->net},
    };
    char *error = NULL;

    assert_null(n->replica);
    assert_int_equal(hf_bufpool_new(16u << 20, POOL_MAX, &n->net->pool), 0);
    log.pool = n->net->pool;
    assert_int_equal(hf_replica_open(n->net->env, &options, &n->replica, &error), 0);
    assert_int_equal(hf_meta_log_open(n->net->env, n->replica, &log, &n->log, &error), 0);
    assert_null(error);
    n->net->driver = hf_meta_log_driver(n->log);
    n->net->closing = false;
    n->life++;
    hf_meta_log_start(n->log);
}

static inline void crash(struct rnode *n)
{
    if (!n->replica) {
        return;
    }
    hf_sim_kill_env(n->net->env);
    cl_forget(n->net);
    while (n->calls) {
        scall_free(n->calls);
    }
    hf_sim_abandon(n->log);
    hf_sim_abandon(n->replica);
    hf_sim_abandon(n->net->pool);
    n->log = NULL;
    n->replica = NULL;
    n->net->driver = NULL;
    n->net->pool = NULL;
    hf_sim_disk_power_cut(hf_sim_disk(n->net->env), HF_SIM_CUT_RANDOM);
    hf_sim_disk_restart(hf_sim_disk(n->net->env));
}

static inline void closed(void *ctx)
{
    ((struct rnode *)ctx)->closed = true;
}

static inline void log_closed(void *ctx)
{
    struct rnode *n = ctx;

    n->net->driver = NULL;
    hf_replica_close(n->replica, closed, n);
}

static inline bool is_closed(void *ctx)
{
    return ((struct rnode *)ctx)->closed;
}

static inline void shut(struct rnode *n)
{
    if (!n->replica) {
        return;
    }
    n->closed = false;
    n->net->closing = true;
    hf_meta_log_close(n->log, log_closed, n);
    assert_true(hf_sim_run_until(n->w->c->sim, is_closed, n, 60 * SEC));
    n->log = NULL;
    n->replica = NULL;
    hf_bufpool_free(n->net->pool);
    n->net->pool = NULL;
}

static inline struct rnode *leader(struct world *w)
{
    struct hf_replica_status status;

    for (uint32_t i = 0; i < REPLICAS; i++) {
        if (w->nodes[i].replica) {
            hf_replica_status(w->nodes[i].replica, &status);
            if (status.ready) {
                return &w->nodes[i];
            }
        }
    }
    return NULL;
}

static inline uint64_t applied(const struct rnode *n)
{
    struct hf_replica_status status = {0};

    if (n->replica) {
        hf_replica_status(n->replica, &status);
    }
    if (status.failed) {
        hf_sweep_told();
    }
    return status.applied_index;
}

/* Replicas at the same index are the same. */
static inline void compare(struct world *w)
{
    for (uint32_t i = 0; i < REPLICAS; i++) {
        for (uint32_t k = 0; k < i; k++) {
            const struct rnode *a = &w->nodes[i], *b = &w->nodes[k];

            if (a->replica && b->replica && !a->differs && !b->differs &&
                applied(a) == applied(b)) {
                assert_int_equal(hf_replica_digest(a->replica), hf_replica_digest(b->replica));
            }
        }
    }
}

static inline bool is_out(const struct rnode *n)
{
    struct hf_raft_driver_status log = {0};

    if (n->replica) {
        hf_raft_driver_status(hf_meta_log_driver(n->log), &log);
    }
    return log.taken_out;
}

/* Replicas that are the same find no difference. */
static inline void check_who_is_out(struct world *w)
{
    for (uint32_t i = 0; i < REPLICAS; i++) {
        assert_true(w->nodes[i].differs || !is_out(&w->nodes[i]));
    }
}

/* Time passes, and the stores are heard. */
static inline void pass(struct world *w, uint64_t ns)
{
    for (uint64_t part; ns > 0; ns -= part) {
        part = ns < SEC / 2 ? ns : SEC / 2;
        for (uint32_t i = 0; i < REPLICAS * REPLICAS; i++) {
            struct hf_msg_heartbeat beat = {
                .node = {(uint16_t)(i % REPLICAS + 1)},
                .store = {{(uint8_t)(i % REPLICAS + 1)}},
                .stats = {.capacity_bytes = UINT64_C(20) << 30, .free_bytes = UINT64_C(10) << 30}};
            struct hf_msg_heartbeat_reply reply;

            (void)snprintf(beat.addr, sizeof(beat.addr), "10.0.0.%u:7400", i % REPLICAS + 1);
            if (w->nodes[i / REPLICAS].replica) {
                (void)hf_replica_heartbeat(w->nodes[i / REPLICAS].replica, &beat, &reply);
            }
        }
        hf_sim_run_ns(w->c->sim, part);
        compare(w);
        check_who_is_out(w);
    }
}

static inline struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->c = cl_new(seed, REPLICAS);
    hf_sim_on_step(w->c->sim, NULL, NULL);
    for (uint32_t i = 0; i < REPLICAS; i++) {
        w->nodes[i].w = w;
        w->nodes[i].net = &w->c->nodes[i];
        w->nodes[i].model = hf_table_model_new();
        assert_non_null(w->nodes[i].model);
        start(&w->nodes[i]);
    }
    return w;
}

static inline void world_free(struct world *w)
{
    for (uint32_t i = 0; i < REPLICAS; i++) {
        shut(&w->nodes[i]);
        hf_table_model_free(w->nodes[i].model);
    }
    cl_free(w->c);
    free(w);
}

static inline struct rnode *wait_leader(struct world *w)
{
    for (uint32_t i = 0; i < 600 && !leader(w); i++) {
        pass(w, 100 * MSEC);
    }
    assert_non_null(leader(w));
    return leader(w);
}

/* Clients */

struct client {
    struct world *w;
    struct hf_session_id id;
    uint64_t next_ino, stream;
    struct hf_meta_op ops[STREAM_OPS];
    char names[STREAM_OPS][12];
    struct rnode *to;
    uint32_t life, attempt; /* of the node; of the stream */
    uint32_t acked, sent;
    bool done[STREAM_OPS];
    struct hf_meta_reply replies[STREAM_OPS];
};

struct request {
    struct client *client;
    uint32_t op, attempt;
    bool done;
    struct hf_meta_reply reply;
};

static inline void answered(void *ctx, const struct hf_meta_reply *reply)
{
    struct request *r = ctx;
    struct client *c = r->client;

    if (r->attempt == c->attempt) {
        assert_false(c->done[r->op]);
        c->done[r->op] = true;
        c->replies[r->op] = *reply;
        c->replies[r->op].bulk = NULL;
    }
    free(r);
}

static inline void send_op(struct rnode *n, const struct hf_meta_op *op, hf_leader_done_fn done,
                           void *ctx)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;

    assert_int_equal(hf_meta_op_encode(op, msg, &len), 0);
    hf_replica_op(n->replica, false, msg, len, op->bulk, op->bulk_len, done, ctx);
}

static inline void simply_answered(void *ctx, const struct hf_meta_reply *reply)
{
    struct request *r = ctx;

    r->done = true;
    r->reply = *reply;
    r->reply.bulk = NULL;
}

static inline struct hf_meta_reply run_op(struct world *w, const struct hf_meta_op *op)
{
    struct request r = {0};

    send_op(wait_leader(w), op, simply_answered, &r);
    for (uint32_t i = 0; i < 1000 && !r.done; i++) {
        pass(w, 10 * MSEC);
    }
    assert_true(r.done);
    return r.reply;
}

static inline int lookup(struct world *w, const char *name)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = {HF_INO_ROOT}, .name = name, .name_len = strlen(name)};
    struct request r = {0};

    hf_replica_read(wait_leader(w)->replica, &rd, simply_answered, &r);
    for (uint32_t i = 0; i < 1000 && !r.done; i++) {
        pass(w, 10 * MSEC);
    }
    assert_true(r.done);
    return r.reply.err;
}

/* Creates, every third op an unlink of the create before the last. */
static inline struct client *client_new(struct world *w, char tag)
{
    struct client *c = calloc(1, sizeof(*c));
    const struct hf_meta_op open = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{0xee, (uint8_t)tag}}, .text = "test"};
    const struct hf_meta_reply reply = run_op(w, &open);

    assert_non_null(c);
    assert_int_equal(reply.err, 0);
    c->w = w;
    c->id = reply.session;
    c->next_ino = reply.first_ino.v;
    for (uint32_t i = 0; i < STREAM_OPS; i++) {
        const bool unlinks = i % 3 == 2;

        (void)snprintf(c->names[i], sizeof(c->names[i]), "%c%u", tag, unlinks ? i - 2 : i);
        c->ops[i] = (struct hf_meta_op){.op = unlinks ? HF_OP_UNLINK : HF_OP_CREATE,
                                        .session = c->id,
                                        .stream = ++c->stream,
                                        .parent = {HF_INO_ROOT},
                                        .name = c->names[i],
                                        .name_len = strlen(c->names[i])};
        if (!unlinks) {
            c->ops[i].ino.v = c->next_ino++;
            c->ops[i].mode = S_IFREG | 0644;
        }
    }
    return c;
}

static inline void client_again(struct client *c)
{
    c->attempt++;
    c->sent = c->acked;
    memset(c->done, 0, sizeof(c->done));
}

static inline void client_go_on(struct client *c)
{
    struct rnode *to = leader(c->w);

    while (c->acked < c->sent && c->done[c->acked]) {
        const struct hf_meta_reply *reply = &c->replies[c->acked];

        if (reply->err == -HF_ENOTLEADER || reply->err == -HF_ENOTREADY || reply->err == -HF_EGAP ||
            reply->err == -EIO) {
            client_again(c);
            break;
        }
        assert_int_equal(reply->err, 0); /* its own answer, however often it was sent */
        if (c->ops[c->acked].op == HF_OP_CREATE) {
            assert_int_equal(reply->attr.ino.v, c->ops[c->acked].ino.v);
        }
        c->acked++;
    }
    if (to != c->to || (to && to->life != c->life)) {
        c->to = to;
        c->life = to ? to->life : 0;
        client_again(c);
    }
    while (to && c->sent < STREAM_OPS && c->sent < c->acked + WINDOW) {
        struct request *r = calloc(1, sizeof(*r));

        assert_non_null(r);
        *r = (struct request){.client = c, .op = c->sent, .attempt = c->attempt};
        c->ops[c->sent].acked = c->acked;
        send_op(to, &c->ops[c->sent++], answered, r);
    }
}

static inline void client_check(struct world *w, struct client *c)
{
    for (uint32_t i = 0; i < STREAM_OPS; i++) {
        assert_int_equal(lookup(w, c->names[i]), i % 3 == 1 ? 0 : -ENOENT);
    }
}

/* All up and equal, and sound. */
static inline void settle(struct world *w)
{
    bool equal = false;

    memset(w->c->cut, 0, sizeof(w->c->cut));
    for (uint32_t i = 0; i < REPLICAS; i++) {
        if (!w->nodes[i].replica) {
            start(&w->nodes[i]);
        }
    }
    (void)wait_leader(w);
    for (uint32_t i = 0; i < 600 && !equal; i++) {
        pass(w, 100 * MSEC);
        equal = applied(&w->nodes[0]) == applied(&w->nodes[1]) &&
                applied(&w->nodes[1]) == applied(&w->nodes[2]) && leader(w);
    }
    assert_true(equal);
    compare(w);
    for (uint32_t i = 0; i < REPLICAS; i++) {
        char *text = NULL;

        assert_int_equal(hf_meta_fsck(hf_replica_meta(w->nodes[i].replica), &text), 0);
        free(text);
    }
}

/* Its metadata directory is removed. */
static inline void fill_anew(struct rnode *n)
{
    shut(n);
    hf_table_model_free(n->model);
    n->model = hf_table_model_new();
    assert_non_null(n->model);
    cl_wipe(n->net, CL_DIR "/vote");
    cl_wipe(n->net, CL_DIR "/log");
    n->differs = false;
    start(n);
}

#endif
