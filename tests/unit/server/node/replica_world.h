/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One replica of the metadata that leads, its log, and stores that are lists.
 */
#ifndef HF_TESTS_REPLICA_WORLD_H
#define HF_TESTS_REPLICA_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/store_state.h"
#include "common/log/log.h"
#include "common/table/snapshot.h"
#include "server/node/meta_log.h"
#include "tests/lib/sim_env.h"

#define NODES      3u
#define STORED_MAX 512u
#define SEC        HF_NS_PER_SEC
#define MSEC       HF_NS_PER_MS
#define FREE_BYTES (UINT64_C(10) << 30)
#define OBJECT_LEN 65536u
#define TTL_NS     (30 * SEC)

struct stored {
    struct hf_oid oid;
    uint32_t len;
    uint64_t digest;
    bool quarantined;
};

struct node { /* a store, as the leader sees it */
    bool alive;
    uint64_t start, process; /* start: its process anew, and the log has not noted it; else 0 */
    enum hf_store_state state;
    struct hf_uuid uuid;
    struct stored objects[STORED_MAX];
    uint32_t count;
    uint64_t puts, free_bytes;
    struct hf_oid bad[4];
    uint32_t bad_count;
    enum hf_node_state told;
    uint32_t copies, deletes, lists;
    bool no_lists;    /* they fail */
    unsigned network; /* where it is */
};

struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_table_model *model;
    struct hf_bufpool *pool;
    struct hf_replica *replica;
    struct hf_meta_log *log;
    struct node nodes[NODES];
    struct hf_timer beat;
    uint32_t calls; /* of stores, under way */
    struct call *call_head;
    uint64_t map_epoch;
    uint64_t ttl_ns;
    bool closed;
    bool refuse_copies;
    bool read_only; /* who sends operations may only read */
};

struct session {
    struct hf_session_id id;
    uint64_t stream, next_ino, seq;
};

struct answer {
    bool done;
    struct hf_meta_reply reply;
};

/* Stores */

struct call {
    struct call *prev, *next;
    struct world *w;
    struct hf_timer timer;
    struct hf_node_id node;
    struct hf_oid oids[HF_MSG_OIDS_MAX];
    uint32_t count;
    struct hf_meta_object object;
    uint64_t sources;
    uint16_t group;
    bool has_after;
    void (*done)(void *arg, int err);
    void (*listed)(void *arg, int err, const struct hf_msg_list_reply *list);
    void *arg;
};

static inline struct stored *stored(struct node *node, const struct hf_oid *oid)
{
    for (uint32_t i = 0; i < node->count; i++) {
        if (hf_oid_equal(&node->objects[i].oid, oid)) {
            return &node->objects[i];
        }
    }
    return NULL;
}

static inline void store_put(struct node *node, const struct hf_oid *oid, uint32_t len,
                             uint64_t digest)
{
    struct stored *there = stored(node, oid);

    if (!there) {
        uint32_t at = node->count++;

        assert_true(node->count <= STORED_MAX);
        while (at > 0 && hf_oid_cmp(&node->objects[at - 1].oid, oid) > 0) {
            node->objects[at] = node->objects[at - 1];
            at--;
        }
        there = &node->objects[at];
    }
    *there = (struct stored){.oid = *oid, .len = len, .digest = digest};
    node->puts++;
}

static inline void store_delete(struct node *node, const struct hf_oid *oid)
{
    struct stored *there = stored(node, oid);

    if (there) {
        memmove(there, there + 1,
                (size_t)(&node->objects[node->count] - (there + 1)) * sizeof(*there));
        node->count--;
    }
}

static inline struct node *node_of(struct world *w, struct hf_node_id id)
{
    assert_in_range(id.v, 1, NODES);
    return &w->nodes[id.v - 1];
}

static inline struct call *call_new(struct world *w, struct hf_node_id node, void (*run)(void *ctx))
{
    struct call *call = calloc(1, sizeof(*call));

    assert_non_null(call);
    call->w = w;
    call->node = node;
    w->calls++;
    call->next = w->call_head;
    if (call->next) {
        call->next->prev = call;
    }
    w->call_head = call;
    hf_timer_init(&call->timer, w->env, run, call);
    hf_timer_arm(&call->timer, MSEC + hf_sim_random_below(w->sim, 5 * MSEC));
    return call;
}

static inline void call_free(struct call *call)
{
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        call->w->call_head = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    }
    call->w->calls--;
    hf_timer_fini(&call->timer);
    free(call);
}

static inline void call_end(struct call *call, int err)
{
    void (*done)(void *arg, int err) = call->done;
    void *arg = call->arg;

    call_free(call);
    done(arg, err);
}

static inline void run_delete(void *ctx)
{
    struct call *call = ctx;
    struct node *node = node_of(call->w, call->node);

    if (!node->alive) {
        call_end(call, -ETIMEDOUT);
        return;
    }
    node->deletes++;
    for (uint32_t i = 0; i < call->count; i++) {
        store_delete(node, &call->oids[i]);
    }
    call_end(call, 0);
}

static inline void delete_objects(void *ctx, struct hf_node_id node, const struct hf_oid *oids,
                                  uint32_t count, void (*done)(void *arg, int err), void *arg)
{
    struct call *call = call_new(ctx, node, run_delete);

    assert_in_range(count, 1, HF_MSG_OIDS_MAX);
    memcpy(call->oids, oids, count * sizeof(*oids));
    call->count = count;
    call->done = done;
    call->arg = arg;
}

static inline void run_copy(void *ctx)
{
    struct call *call = ctx;
    struct world *w = call->w;
    struct node *node = node_of(w, call->node);
    int err = node->alive && !w->refuse_copies ? -HF_ENOOBJECT : -ETIMEDOUT;

    node->copies++;
    for (uint32_t i = 0; i < NODES && err == -HF_ENOOBJECT; i++) {
        struct stored *from = stored(&w->nodes[i], &call->object.oid);

        if ((call->sources & (UINT64_C(1) << i)) && w->nodes[i].alive && from &&
            !from->quarantined && from->digest == call->object.digest) {
            store_put(node, &from->oid, from->len, from->digest);
            err = 0;
        }
    }
    call_end(call, err);
}

static inline void copy_object(void *ctx, struct hf_node_id node,
                               const struct hf_meta_object *object, uint64_t sources,
                               void (*done)(void *arg, int err), void *arg)
{
    struct call *call = call_new(ctx, node, run_copy);

    assert_true(sources != 0);
    assert_false(sources & hf_node_bit(node));
    call->object = *object;
    call->sources = sources;
    call->done = done;
    call->arg = arg;
}

static inline void run_list(void *ctx)
{
    struct call *call = ctx;
    struct node *node = node_of(call->w, call->node);
    struct hf_oid oids[8];
    uint32_t lens[8];
    uint64_t digests[8];
    bool quarantined[8];
    struct hf_msg_list_reply list = {
        .oids = oids, .lens = lens, .digests = digests, .quarantined = quarantined};
    void (*listed)(void *, int, const struct hf_msg_list_reply *) = call->listed;
    void *arg = call->arg;
    int err = node->alive && !node->no_lists ? 0 : -ETIMEDOUT;

    node->lists++;
    for (uint32_t i = 0; i < node->count && list.count < 8; i++) {
        const struct stored *s = &node->objects[i];

        if (s->oid.group == call->group &&
            (!call->has_after || hf_oid_cmp(&s->oid, &call->oids[0]) > 0)) {
            oids[list.count] = s->oid;
            lens[list.count] = s->len;
            digests[list.count] = s->digest;
            quarantined[list.count++] = s->quarantined;
        }
    }
    call_free(call);
    listed(arg, err, err ? NULL : &list);
}

static inline void
list_objects(void *ctx, struct hf_node_id node, uint16_t group, const struct hf_oid *after,
             void (*done)(void *arg, int err, const struct hf_msg_list_reply *list), void *arg)
{
    struct call *call = call_new(ctx, node, run_list);

    call->group = group;
    call->has_after = after != NULL;
    if (after) {
        call->oids[0] = *after;
    }
    call->listed = done;
    call->arg = arg;
}

static inline void map_changed(void *ctx, const struct hf_map *map)
{
    struct world *w = ctx;

    assert_true(map->epoch.v >= w->map_epoch); /* a new leader tells it again */
    w->map_epoch = map->epoch.v;
}

static inline void beat(void *ctx)
{
    struct world *w = ctx;

    for (uint32_t i = 0; i < NODES && w->replica; i++) {
        struct node *node = &w->nodes[i];
        struct hf_msg_heartbeat msg = {.node = {(uint16_t)(i + 1)},
                                       .store = node->uuid,
                                       .stats = {.state = node->state,
                                                 .capacity_bytes = 2 * FREE_BYTES,
                                                 .free_bytes = node->free_bytes,
                                                 .puts = node->puts},
                                       .bad = node->bad,
                                       .bad_count = node->bad_count,
                                       .start = node->start ? node->start : node->process,
                                       .noted = node->start == 0};
        struct hf_msg_heartbeat_reply reply = {0};

        if (node->alive) {
            (void)snprintf(msg.addr, sizeof(msg.addr), "10.0.%u.%u:7400", node->network, i + 1);
            (void)hf_replica_heartbeat(w->replica, &msg, &reply);
            node->told = reply.state;
            node->bad_count = 0;
            if (node->start && reply.start == node->start) {
                node->process = node->start;
                node->start = 0;
            }
        }
    }
    hf_timer_arm(&w->beat, 500 * MSEC);
}

/* Worlds */

static inline bool is_ready_or_failed(void *ctx)
{
    struct hf_replica_status status;

    hf_replica_status(((struct world *)ctx)->replica, &status);
    return status.ready || status.failed;
}

static inline int base_open(void *ctx, struct hf_table_base **ret)
{
    return hf_table_base_model(((struct world *)ctx)->model, ret);
}

static inline int base_install(void *ctx, const char *path)
{
    struct world *w = ctx;

    return hf_table_install_model(w->env, path, w->model);
}

/* The only voter: nothing is sent. */
static inline void net_send(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                            const struct iovec *iov, int iov_count, void (*release)(void *arg),
                            void *arg)
{
    (void)ctx;
    (void)to;
    (void)msg;
    (void)msg_len;
    (void)iov;
    (void)iov_count;
    release(arg);
    fail();
}

static inline void net_ask(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                           void (*done)(void *arg, int err, const void *msg, size_t msg_len),
                           void *arg)
{
    (void)ctx;
    (void)to;
    (void)msg;
    (void)msg_len;
    (void)done;
    (void)arg;
    fail();
}

static inline int open_log(struct world *w, char **ret_error)
{
    static const struct hf_node_id self = {1};
    const struct hf_meta_log_options options = {
        .dir = "/meta",
        .cluster = {{1, 2, 3}},
        .self = self,
        .members = &self,
        .member_count = 1,
        .segment_bytes = 256u << 10,
        .pool = w->pool,
        .net = {.send = net_send, .ask = net_ask, .ctx = w},
    };

    return hf_meta_log_open(w->env, w->replica, &options, &w->log, ret_error);
}

static inline int try_boot(struct world *w)
{
    static const struct hf_leader_node nodes[NODES] = {
        {{1}, 100, "10.0.0.1:7400", "a"},
        {{2}, 100, "10.0.0.2:7400", "b"},
        {{3}, 100, "10.0.0.3:7400", "c"},
    };
    const struct hf_replica_base base = {base_open, base_install, w};
    struct hf_replica_options options = {
        .dir = "/meta",
        .cluster = {{1, 2, 3}},
        .base = &base,
        .nodes = nodes,
        .node_count = NODES,
        .copies = 3,
        .min_copies = 2,
        .groups = 4,
        .alone = true,
        .session_ttl_ns = w->ttl_ns,
        .stores = {delete_objects, copy_object, list_objects, map_changed, w},
    };
    char *error = NULL;
    int err;

    assert_int_equal(hf_bufpool_new(16u << 20, 0, &w->pool), 0);
    w->map_epoch = 0;
    err = hf_replica_open(w->env, &options, &w->replica, &error);
    if (!err) {
        err = open_log(w, &error);
        if (err) {
            hf_replica_abandon(w->replica);
        }
    }
    if (err) {
        assert_non_null(error);
        w->replica = NULL;
        w->log = NULL;
    } else {
        assert_null(error);
        hf_meta_log_start(w->log);
        hf_timer_init(&w->beat, w->env, beat, w);
        hf_timer_arm(&w->beat, 0);
    }
    free(error);
    return err;
}

static inline void boot(struct world *w)
{
    struct hf_replica_status status;

    assert_int_equal(try_boot(w), 0);
    assert_true(hf_sim_run_until(w->sim, is_ready_or_failed, w, 10 * SEC));
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.failed, 0);
}

static inline void closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static inline void log_closed(void *ctx)
{
    struct world *w = ctx;

    w->log = NULL;
    hf_replica_close(w->replica, closed, w);
    w->replica = NULL;
}

static inline bool is_closed(void *ctx)
{
    return ((struct world *)ctx)->closed;
}

static inline void shut(struct world *w)
{
    if (!w->replica) {
        return;
    }
    w->closed = false;
    hf_timer_fini(&w->beat);
    hf_meta_log_close(w->log, log_closed, w);
    assert_true(hf_sim_run_until(w->sim, is_closed, w, 60 * SEC));
    assert_int_equal(w->calls, 0);
    hf_bufpool_free(w->pool);
    w->pool = NULL;
}

static inline void crash(struct world *w)
{
    hf_sim_kill_env(w->env);
    while (w->call_head) {
        call_free(w->call_head);
    }
    hf_sim_abandon(w->log);
    hf_sim_abandon(w->replica);
    w->log = NULL;
    hf_sim_abandon(w->pool);
    w->replica = NULL;
    w->pool = NULL;
    hf_sim_disk_power_cut(hf_sim_disk(w->env), HF_SIM_CUT_RANDOM);
    hf_sim_disk_restart(hf_sim_disk(w->env));
}

static inline void check_step(void *ctx)
{
    struct world *w = ctx;

    if (w->replica && w->log) {
        hf_replica_check_invariants(w->replica);
    }
}

static inline void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = hf_sim_new(seed);
    hf_sim_on_step(w->sim, check_step, w);
    w->env = hf_sim_env(w->sim);
    w->model = hf_table_model_new();
    assert_non_null(w->model);
    w->ttl_ns = TTL_NS;
    for (uint32_t i = 0; i < NODES; i++) {
        w->nodes[i].alive = true;
        w->nodes[i].uuid.b[0] = (uint8_t)(i + 1);
        w->nodes[i].free_bytes = FREE_BYTES;
    }
}

static inline void world_fini(struct world *w)
{
    if (w->replica) {
        char *text = NULL;
        int err = hf_meta_fsck(hf_replica_meta(w->replica), &text);

        if (err) {
            fail_msg("fsck: %s", text ? text : "?");
        }
        free(text);
    }
    shut(w);
    hf_sim_free(w->sim);
    hf_table_model_free(w->model);
}

static inline void no_line(void *ctx, const char *line)
{
    (void)ctx;
    if (getenv("HF_TEST_LOG")) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    hf_log_set_sink(no_line, NULL);
    world_init(w, 1);
    boot(w);
    hf_sim_run_ns(w->sim, 2 * SEC); /* every store was heard, the first inventories made */
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;

    world_fini(w);
    free(w);
    return 0;
}

/* Requests */

static inline void answered(void *ctx, const struct hf_meta_reply *reply)
{
    struct answer *answer = ctx;

    assert_false(answer->done);
    answer->done = true;
    answer->reply = *reply;
    answer->reply.bulk = NULL;
}

static inline bool is_done(void *ctx)
{
    return ((struct answer *)ctx)->done;
}

static inline void start_op(struct world *w, const struct hf_meta_op *op, struct answer *answer)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;

    *answer = (struct answer){0};
    assert_int_equal(hf_meta_op_encode(op, msg, &len), 0);
    hf_replica_op(w->replica, w->read_only, msg, len, op->bulk, op->bulk_len, answered, answer);
    assert_false(answer->done);
}

static inline void wait_for(struct world *w, struct answer *answer)
{
    assert_true(hf_sim_run_until(w->sim, is_done, answer, 60 * SEC));
}

static inline struct hf_meta_reply run_op(struct world *w, const struct hf_meta_op *op)
{
    struct answer answer;

    start_op(w, op, &answer);
    wait_for(w, &answer);
    return answer.reply;
}

static inline void start_read(struct world *w, const struct hf_meta_read *rd, struct answer *answer)
{
    *answer = (struct answer){0};
    hf_replica_read(w->replica, rd, answered, answer);
    assert_false(answer->done);
}

static inline struct hf_meta_reply run_read(struct world *w, const struct hf_meta_read *rd)
{
    struct answer answer;

    start_read(w, rd, &answer);
    wait_for(w, &answer);
    return answer.reply;
}

static inline struct session open_session(struct world *w, uint8_t mount)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_OPEN, .uuid = {{0xee, mount}}, .text = "test"};
    struct hf_meta_reply reply = run_op(w, &op);

    assert_int_equal(reply.err, 0);
    assert_true(reply.session.v > 0);
    assert_true(reply.ino_count > 0);
    return (struct session){.id = reply.session, .next_ino = reply.first_ino.v};
}

static inline struct hf_meta_op create_of(struct session *s, const char *name)
{
    return (struct hf_meta_op){.op = HF_OP_CREATE,
                               .session = s->id,
                               .stream = ++s->stream,
                               .parent = {HF_INO_ROOT},
                               .name = name,
                               .name_len = strlen(name),
                               .ino = {s->next_ino++},
                               .mode = S_IFREG | 0644,
                               .flags = HF_CREATE_OPEN};
}

static inline struct hf_ino create(struct world *w, struct session *s, const char *name)
{
    struct hf_meta_op op = create_of(s, name);
    struct hf_meta_reply reply = run_op(w, &op);

    assert_int_equal(reply.err, 0);
    assert_int_equal(reply.attr.ino.v, op.ino.v);
    return op.ino;
}

static inline struct hf_ino make_unnamed(struct world *w, struct session *s)
{
    struct hf_meta_op op = {.op = HF_OP_TMPFILE,
                            .session = s->id,
                            .stream = ++s->stream,
                            .parent = {HF_INO_ROOT},
                            .ino = {s->next_ino++},
                            .mode = S_IFREG | 0644,
                            .flags = HF_TMPFILE_LINKABLE};
    struct hf_meta_reply reply = run_op(w, &op);

    assert_int_equal(reply.err, 0);
    assert_int_equal(reply.attr.nlink, 0);
    return op.ino;
}

static inline struct hf_meta_op unlink_of(struct session *s, const char *name)
{
    return (struct hf_meta_op){.op = HF_OP_UNLINK,
                               .session = s->id,
                               .stream = ++s->stream,
                               .parent = {HF_INO_ROOT},
                               .name = name,
                               .name_len = strlen(name)};
}

static inline int unlink_name(struct world *w, struct session *s, const char *name)
{
    struct hf_meta_op op = unlink_of(s, name);

    return run_op(w, &op).err;
}

static inline int lookup(struct world *w, const char *name)
{
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = {HF_INO_ROOT}, .name = name, .name_len = strlen(name)};

    return run_read(w, &rd).err;
}

static inline int getattr(struct world *w, struct hf_ino ino)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino};

    return run_read(w, &rd).err;
}

static inline int inode_read(struct world *w, const struct session *s, enum hf_rd op,
                             struct hf_ino ino)
{
    uint64_t pair[2] = {ino.v, 0};
    struct hf_meta_read rd = {.op = op, .session = s->id, .ino = ino, .inos = pair, .ino_count = 2};

    return run_read(w, &rd).err;
}

static inline struct hf_meta_reply renew(struct world *w, const struct session *s, uint64_t *inos,
                                         uint32_t count, uint64_t want)
{
    struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s->id, .want_bytes = want};
    struct hf_meta_reply reply = run_read(w, &rd);

    if (reply.next_cookie) {
        rd.flags = HF_RENEW_CLAIM;
        rd.cookie = reply.next_cookie;
        rd.inos = inos;
        rd.ino_count = count;
        reply = run_read(w, &rd);
        assert_int_equal(reply.next_cookie, 0);
    }
    return reply;
}

static inline void keep_alive(struct world *w, const struct session *s, uint64_t ns)
{
    for (; ns > 5 * SEC; ns -= 5 * SEC) {
        hf_sim_run_ns(w->sim, 5 * SEC);
        (void)renew(w, s, NULL, 0, 0);
    }
    hf_sim_run_ns(w->sim, ns);
}

/* Write one object over the file's first bytes; put on the nodes of @holders. */
/* An object that is on the stores of @holders. */
static inline struct hf_wr_object put_object(struct world *w, struct session *s, uint64_t holders)
{
    struct hf_wr_object object = {.oid = {.session = s->id.v, .seq = ++s->seq, .group = 1},
                                  .len_bytes = OBJECT_LEN,
                                  .digest = 1000 + s->seq,
                                  .holders = holders,
                                  .epoch = hf_replica_map(w->replica)->groups[1].epoch};

    for (uint32_t i = 0; i < NODES; i++) {
        if (holders & (UINT64_C(1) << i)) {
            store_put(&w->nodes[i], &object.oid, object.len_bytes, object.digest);
        }
    }
    return object;
}

static inline int name_object(struct world *w, struct session *s, struct hf_ino ino,
                              struct hf_wr_object object)
{
    struct hf_wr_extent extent = {.ino = ino, .len_bytes = OBJECT_LEN};
    struct hf_wr_inode inode = {.ino = ino, .size_min_bytes = OBJECT_LEN};
    struct hf_meta_op op = {.op = HF_OP_WRITE,
                            .session = s->id,
                            .stream = ++s->stream,
                            .objects = &object,
                            .object_count = 1,
                            .extents = &extent,
                            .extent_count = 1,
                            .inodes = &inode,
                            .inode_count = 1};

    return run_op(w, &op).err;
}

static inline struct hf_oid write_object(struct world *w, struct session *s, struct hf_ino ino,
                                         uint64_t holders)
{
    struct hf_wr_object object = put_object(w, s, holders);

    assert_int_equal(name_object(w, s, ino, object), 0);
    return object.oid;
}

static inline enum hf_node_state state_of(struct world *w, uint16_t node)
{
    return hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){node})->state;
}

static inline struct hf_meta_usage usage(struct world *w)
{
    struct hf_meta_usage usage;

    hf_meta_usage(hf_replica_meta(w->replica), &usage);
    return usage;
}

/* Locks */

static inline struct hf_meta_op lock_of(struct session *s, struct hf_ino ino, uint32_t type)
{
    return (struct hf_meta_op){.op = HF_OP_LOCK,
                               .session = s->id,
                               .stream = ++s->stream,
                               .ino = ino,
                               .lock_owner = 7,
                               .lock_type = type,
                               .lock_pid = 1};
}

static inline struct hf_meta_read wait_of(const struct session *s, struct hf_ino ino)
{
    return (struct hf_meta_read){
        .op = HF_RD_LOCK_WAIT, .session = s->id, .ino = ino, .lock_type = F_WRLCK, .lock_owner = 8};
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
