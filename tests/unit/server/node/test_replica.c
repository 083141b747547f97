/* SPDX-License-Identifier: Apache-2.0 */
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
    struct hf_uuid uuid;
    struct stored objects[STORED_MAX];
    uint32_t count;
    uint64_t puts, free_bytes;
    struct hf_oid bad[4];
    uint32_t bad_count;
    enum hf_node_state told;
    uint32_t copies, deletes, lists;
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

static struct stored *stored(struct node *node, const struct hf_oid *oid)
{
    for (uint32_t i = 0; i < node->count; i++) {
        if (hf_oid_equal(&node->objects[i].oid, oid)) {
            return &node->objects[i];
        }
    }
    return NULL;
}

static void store_put(struct node *node, const struct hf_oid *oid, uint32_t len, uint64_t digest)
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

static void store_delete(struct node *node, const struct hf_oid *oid)
{
    struct stored *there = stored(node, oid);

    if (there) {
        memmove(there, there + 1,
                (size_t)(&node->objects[node->count] - (there + 1)) * sizeof(*there));
        node->count--;
    }
}

static struct node *node_of(struct world *w, struct hf_node_id id)
{
    assert_in_range(id.v, 1, NODES);
    return &w->nodes[id.v - 1];
}

static struct call *call_new(struct world *w, struct hf_node_id node, void (*run)(void *ctx))
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

static void call_free(struct call *call)
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

static void call_end(struct call *call, int err)
{
    void (*done)(void *arg, int err) = call->done;
    void *arg = call->arg;

    call_free(call);
    done(arg, err);
}

static void run_delete(void *ctx)
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

static void delete_objects(void *ctx, struct hf_node_id node, const struct hf_oid *oids,
                           uint32_t count, void (*done)(void *arg, int err), void *arg)
{
    struct call *call = call_new(ctx, node, run_delete);

    assert_in_range(count, 1, HF_MSG_OIDS_MAX);
    memcpy(call->oids, oids, count * sizeof(*oids));
    call->count = count;
    call->done = done;
    call->arg = arg;
}

static void run_copy(void *ctx)
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

static void copy_object(void *ctx, struct hf_node_id node, const struct hf_meta_object *object,
                        uint64_t sources, void (*done)(void *arg, int err), void *arg)
{
    struct call *call = call_new(ctx, node, run_copy);

    assert_true(sources != 0);
    assert_false(sources & hf_node_bit(node));
    call->object = *object;
    call->sources = sources;
    call->done = done;
    call->arg = arg;
}

static void run_list(void *ctx)
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
    int err = node->alive ? 0 : -ETIMEDOUT;

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

static void list_objects(void *ctx, struct hf_node_id node, uint16_t group,
                         const struct hf_oid *after,
                         void (*done)(void *arg, int err, const struct hf_msg_list_reply *list),
                         void *arg)
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

static void map_changed(void *ctx, const struct hf_map *map)
{
    struct world *w = ctx;

    assert_true(map->epoch.v >= w->map_epoch); /* a new leader tells it again */
    w->map_epoch = map->epoch.v;
}

static void beat(void *ctx)
{
    struct world *w = ctx;

    for (uint32_t i = 0; i < NODES && w->replica; i++) {
        struct node *node = &w->nodes[i];
        struct hf_msg_heartbeat msg = {.node = {(uint16_t)(i + 1)},
                                       .store = node->uuid,
                                       .stats = {.capacity_bytes = 2 * FREE_BYTES,
                                                 .free_bytes = node->free_bytes,
                                                 .puts = node->puts},
                                       .bad = node->bad,
                                       .bad_count = node->bad_count};
        struct hf_msg_heartbeat_reply reply;

        if (node->alive) {
            (void)snprintf(msg.addr, sizeof(msg.addr), "10.0.0.%u:7400", i + 1);
            hf_replica_heartbeat(w->replica, &msg, &reply);
            node->told = reply.state;
            node->bad_count = 0;
        }
    }
    hf_timer_arm(&w->beat, 500 * MSEC);
}

/* Worlds */

static bool is_ready_or_failed(void *ctx)
{
    struct hf_replica_status status;

    hf_replica_status(((struct world *)ctx)->replica, &status);
    return status.ready || status.failed;
}

static int base_open(void *ctx, struct hf_table_base **ret)
{
    return hf_table_base_model(((struct world *)ctx)->model, ret);
}

static int base_install(void *ctx, const char *path)
{
    struct world *w = ctx;

    return hf_table_install_model(w->env, path, w->model);
}

/* The only voter: nothing is sent. */
static void net_send(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                     const struct iovec *iov, int iov_count, void (*release)(void *arg), void *arg)
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

static void net_ask(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                    void (*done)(void *arg, int err, const void *msg, size_t msg_len), void *arg)
{
    (void)ctx;
    (void)to;
    (void)msg;
    (void)msg_len;
    (void)done;
    (void)arg;
    fail();
}

static int open_log(struct world *w, char **ret_error)
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

static int try_boot(struct world *w)
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
    options.pool = w->pool;
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

static void boot(struct world *w)
{
    struct hf_replica_status status;

    assert_int_equal(try_boot(w), 0);
    assert_true(hf_sim_run_until(w->sim, is_ready_or_failed, w, 10 * SEC));
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.failed, 0);
}

static void closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static void log_closed(void *ctx)
{
    struct world *w = ctx;

    w->log = NULL;
    hf_replica_close(w->replica, closed, w);
    w->replica = NULL;
}

static bool is_closed(void *ctx)
{
    return ((struct world *)ctx)->closed;
}

static void shut(struct world *w)
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

static void crash(struct world *w)
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

static void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = hf_sim_new(seed);
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

static void world_fini(struct world *w)
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

static void no_line(void *ctx, const char *line)
{
    (void)ctx;
    if (getenv("HF_TEST_LOG")) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    hf_log_set_sink(no_line, NULL);
    world_init(w, 1);
    boot(w);
    hf_sim_run_ns(w->sim, 2 * SEC); /* every store was heard, the first inventories made */
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_fini(w);
    free(w);
    return 0;
}

/* Requests */

static void answered(void *ctx, const struct hf_meta_reply *reply)
{
    struct answer *answer = ctx;

    assert_false(answer->done);
    answer->done = true;
    answer->reply = *reply;
    answer->reply.bulk = NULL;
}

static bool is_done(void *ctx)
{
    return ((struct answer *)ctx)->done;
}

static void start_op(struct world *w, const struct hf_meta_op *op, struct answer *answer)
{
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;

    *answer = (struct answer){0};
    assert_int_equal(hf_meta_op_encode(op, msg, &len), 0);
    hf_replica_op(w->replica, msg, len, op->bulk, op->bulk_len, answered, answer);
    assert_false(answer->done);
}

static void wait_for(struct world *w, struct answer *answer)
{
    assert_true(hf_sim_run_until(w->sim, is_done, answer, 60 * SEC));
}

static struct hf_meta_reply run_op(struct world *w, const struct hf_meta_op *op)
{
    struct answer answer;

    start_op(w, op, &answer);
    wait_for(w, &answer);
    return answer.reply;
}

static void start_read(struct world *w, const struct hf_meta_read *rd, struct answer *answer)
{
    *answer = (struct answer){0};
    hf_replica_read(w->replica, rd, answered, answer);
    assert_false(answer->done);
}

static struct hf_meta_reply run_read(struct world *w, const struct hf_meta_read *rd)
{
    struct answer answer;

    start_read(w, rd, &answer);
    wait_for(w, &answer);
    return answer.reply;
}

static struct session open_session(struct world *w, uint8_t mount)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_OPEN, .uuid = {{0xee, mount}}, .text = "test"};
    struct hf_meta_reply reply = run_op(w, &op);

    assert_int_equal(reply.err, 0);
    assert_true(reply.session.v > 0);
    assert_true(reply.ino_count > 0);
    return (struct session){.id = reply.session, .next_ino = reply.first_ino.v};
}

static struct hf_meta_op create_of(struct session *s, const char *name)
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

static struct hf_ino create(struct world *w, struct session *s, const char *name)
{
    struct hf_meta_op op = create_of(s, name);
    struct hf_meta_reply reply = run_op(w, &op);

    assert_int_equal(reply.err, 0);
    assert_int_equal(reply.attr.ino.v, op.ino.v);
    return op.ino;
}

static struct hf_meta_op unlink_of(struct session *s, const char *name)
{
    return (struct hf_meta_op){.op = HF_OP_UNLINK,
                               .session = s->id,
                               .stream = ++s->stream,
                               .parent = {HF_INO_ROOT},
                               .name = name,
                               .name_len = strlen(name)};
}

static int unlink_name(struct world *w, struct session *s, const char *name)
{
    struct hf_meta_op op = unlink_of(s, name);

    return run_op(w, &op).err;
}

static int lookup(struct world *w, const char *name)
{
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = {HF_INO_ROOT}, .name = name, .name_len = strlen(name)};

    return run_read(w, &rd).err;
}

static int getattr(struct world *w, struct hf_ino ino)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino};

    return run_read(w, &rd).err;
}

static int inode_read(struct world *w, const struct session *s, enum hf_rd op, struct hf_ino ino)
{
    uint64_t pair[2] = {ino.v, 0};
    struct hf_meta_read rd = {.op = op, .session = s->id, .ino = ino, .inos = pair, .ino_count = 2};

    return run_read(w, &rd).err;
}

static struct hf_meta_reply renew(struct world *w, const struct session *s, uint64_t *inos,
                                  uint32_t count, uint64_t want)
{
    struct hf_meta_read rd = {.op = HF_RD_RENEW,
                              .session = s->id,
                              .flags = HF_RENEW_CLAIM,
                              .inos = inos,
                              .ino_count = count,
                              .want_bytes = want};

    return run_read(w, &rd);
}

static void keep_alive(struct world *w, const struct session *s, uint64_t ns)
{
    for (; ns > 5 * SEC; ns -= 5 * SEC) {
        hf_sim_run_ns(w->sim, 5 * SEC);
        (void)renew(w, s, NULL, 0, 0);
    }
    hf_sim_run_ns(w->sim, ns);
}

/* Write one object over the file's first bytes; put on the nodes of @holders. */
static struct hf_oid write_object(struct world *w, struct session *s, struct hf_ino ino,
                                  uint64_t holders)
{
    const struct hf_map *map = hf_replica_map(w->replica);
    struct hf_wr_object object = {.oid = {.session = s->id.v, .seq = ++s->seq, .group = 1},
                                  .len_bytes = OBJECT_LEN,
                                  .digest = 1000 + s->seq,
                                  .holders = holders,
                                  .epoch = map->groups[1].epoch};
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

    for (uint32_t i = 0; i < NODES; i++) {
        if (holders & (UINT64_C(1) << i)) {
            store_put(&w->nodes[i], &object.oid, object.len_bytes, object.digest);
        }
    }
    assert_int_equal(run_op(w, &op).err, 0);
    return object.oid;
}

static enum hf_node_state state_of(struct world *w, uint16_t node)
{
    return hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){node})->state;
}

static struct hf_meta_usage usage(struct world *w)
{
    struct hf_meta_usage usage;

    hf_meta_usage(hf_replica_meta(w->replica), &usage);
    return usage;
}

/* Starting */

static void a_new_cluster_has_members_for_every_group(void **state)
{
    struct world *w = *state;
    const struct hf_map *map = hf_replica_map(w->replica);

    assert_int_equal(map->node_count, NODES);
    assert_int_equal(map->group_count, 4);
    assert_int_equal(w->map_epoch, map->epoch.v);
    for (uint16_t group = 0; group < 4; group++) {
        assert_int_equal(hf_map_group_members(map, group), 7);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        assert_int_equal(w->nodes[i].told, HF_NODE_UP);
        assert_true(hf_uuid_equal(&map->nodes[i].uuid, &w->nodes[i].uuid));
    }
}

static void state_survives_a_clean_restart_without_replay(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_replica_status before, after;

    (void)create(w, &s, "a");
    hf_replica_status(w->replica, &before);
    shut(w);
    boot(w);
    hf_replica_status(w->replica, &after);
    assert_true(after.checkpoint_index >= before.applied_index);
    assert_int_equal(lookup(w, "a"), 0);
}

static void a_directory_of_another_cluster_is_refused(void **state)
{
    struct world *w = *state;
    const struct hf_replica_base base = {base_open, base_install, w};
    struct hf_replica_options options = {.dir = "/meta", .cluster = {{9}}, .base = &base};
    struct hf_replica *replica;
    char *error;

    shut(w);
    assert_int_equal(hf_bufpool_new(1u << 20, 0, &w->pool), 0);
    options.pool = w->pool;
    assert_int_equal(hf_replica_open(w->env, &options, &replica, &error), -HF_EWRONGCLUSTER);
    assert_non_null(error);
    free(error);
    hf_bufpool_free(w->pool);
    boot(w);
}

static void a_lost_log_is_noticed(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_sim *fresh = hf_sim_new(5);
    struct hf_env *env = w->env;

    (void)create(w, &s, "a");
    shut(w);                    /* the checkpoint holds it all */
    w->env = hf_sim_env(fresh); /* an empty disk, but the table is there */
    assert_int_equal(try_boot(w), -EBADMSG);
    hf_sim_run_ns(fresh, SEC);
    hf_bufpool_free(w->pool);
    w->pool = NULL;
    hf_sim_free(fresh);
    w->env = env;
    boot(w);
}

/* Mutations */

static void a_client_may_not_send_the_leaders_operations(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    const enum hf_op ops[] = {HF_OP_SESSION_EVICT, HF_OP_PURGE,        HF_OP_NODE_STATE,
                              HF_OP_NODE_ADD,      HF_OP_DEGRADED_ADD, HF_OP_DEGRADED_CLEAR,
                              HF_OP_OBJECTS_GONE,  HF_OP_FORMAT,       HF_OP_GROUP_SET};
    struct hf_replica_status before, after;

    hf_replica_status(w->replica, &before);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        struct hf_meta_op op = {.op = ops[i], .session = s.id, .node = {1}, .ino = {1}};

        assert_int_equal(run_op(w, &op).err, -EPERM);
    }
    hf_replica_status(w->replica, &after);
    assert_int_equal(before.applied_index, after.applied_index);
}

static void an_op_without_its_stream_number_is_refused(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op = create_of(&s, "a");

    op.stream = 0;
    assert_int_equal(run_op(w, &op).err, -EINVAL);
}

static void bytes_that_are_no_op_are_refused(void **state)
{
    struct world *w = *state;
    struct answer answer = {0};

    hf_replica_op(w->replica, "\xff\xff\xff", 3, NULL, 0, answered, &answer);
    wait_for(w, &answer);
    assert_int_equal(answer.reply.err, -EBADMSG);
    answer = (struct answer){0};
    hf_replica_op(w->replica, "", 0, NULL, 0, answered, &answer);
    wait_for(w, &answer);
    assert_int_equal(answer.reply.err, -EBADMSG);
}

static void an_unknown_session_is_fenced(void **state)
{
    struct world *w = *state;
    struct session s = {.id = {77}, .next_ino = 1000};
    struct hf_meta_op op = create_of(&s, "a");

    assert_int_equal(run_op(w, &op).err, -HF_EFENCED);
    assert_int_equal(renew(w, &s, NULL, 0, 0).err, -HF_EFENCED);
}

static void a_gap_in_the_stream_is_refused_without_an_entry(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op;
    struct hf_replica_status before, after;

    s.stream = 5;
    op = create_of(&s, "a");
    hf_replica_status(w->replica, &before);
    assert_int_equal(run_op(w, &op).err, -HF_EGAP);
    hf_replica_status(w->replica, &after);
    assert_int_equal(before.applied_index, after.applied_index);
}

static void a_resend_in_flight_and_after_gets_the_first_answer(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op = create_of(&s, "a");
    struct answer first, second;

    start_op(w, &op, &first);
    start_op(w, &op, &second);
    wait_for(w, &first);
    wait_for(w, &second);
    assert_int_equal(first.reply.err, 0);
    assert_int_equal(second.reply.err, 0);
    assert_int_equal(second.reply.attr.ino.v, op.ino.v);
    assert_int_equal(run_op(w, &op).attr.ino.v, op.ino.v);
    assert_int_equal(usage(w).inodes, 2);
}

static void a_resend_after_a_power_cut_is_applied_once(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op = create_of(&s, "a");
    struct hf_meta_reply first = run_op(w, &op), again;

    crash(w);
    boot(w);
    again = run_op(w, &op);
    assert_int_equal(first.err, 0);
    assert_int_equal(again.err, 0);
    assert_int_equal(again.attr.ino.v, first.attr.ino.v);
    assert_int_equal(usage(w).inodes, 2);
}

static void ops_in_flight_together_share_syncs(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct answer answers[64];
    struct hf_raft_driver_status before, after;
    char name[16];

    hf_raft_driver_status(hf_meta_log_driver(w->log), &before);
    for (uint32_t i = 0; i < 64; i++) {
        (void)snprintf(name, sizeof(name), "f%u", i);
        struct hf_meta_op op = create_of(&s, name);

        start_op(w, &op, &answers[i]);
    }
    for (uint32_t i = 0; i < 64; i++) {
        wait_for(w, &answers[i]);
        assert_int_equal(answers[i].reply.err, 0);
    }
    hf_raft_driver_status(hf_meta_log_driver(w->log), &after);
    assert_true(after.syncs - before.syncs <= 3);
}

static void pipelined_ops_on_one_name_go_in_order(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct answer answers[5];
    struct hf_meta_op ops[5] = {create_of(&s, "n"), unlink_of(&s, "n"), create_of(&s, "n"),
                                unlink_of(&s, "n"), create_of(&s, "n")};
    struct hf_meta_op other = create_of(&t, "m");
    struct answer other_answer;

    for (uint32_t i = 0; i < 5; i++) {
        start_op(w, &ops[i], &answers[i]);
    }
    start_op(w, &other, &other_answer);
    for (uint32_t i = 0; i < 5; i++) {
        wait_for(w, &answers[i]);
        assert_int_equal(answers[i].reply.err, 0);
    }
    wait_for(w, &other_answer);
    assert_int_equal(other_answer.reply.err, 0);
    assert_int_equal(lookup(w, "n"), 0);
    /* Held open by their creator: two orphans. */
    assert_int_equal(usage(w).orphans, 2);
}

/* Open files */

static void an_open_file_outlives_its_name_until_it_is_released(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(lookup(w, "a"), -ENOENT);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(usage(w).orphans, 1);
    assert_int_equal(inode_read(w, &s, HF_RD_OPEN, ino), -ESTALE);
    assert_int_equal(inode_read(w, &t, HF_RD_RELEASE, ino), 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(usage(w).orphans, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void a_file_nobody_holds_goes_with_its_name(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(usage(w).orphans, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static int lookup_by(struct world *w, const struct session *s, const char *name)
{
    struct hf_meta_read rd = {.op = HF_RD_LOOKUP,
                              .session = s->id,
                              .ino = {HF_INO_ROOT},
                              .name = name,
                              .name_len = strlen(name)};

    return run_read(w, &rd).err;
}

static void a_file_unlinked_between_look_and_open_can_be_opened(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a"), other = create(w, &s, "b");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, other), 0);
    assert_int_equal(lookup_by(w, &t, "a"), 0);
    assert_int_equal(lookup_by(w, &t, "b"), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, ino), 0);
    hf_sim_run_ns(w->sim, 2 * SEC); /* what was looked up is forgotten */
    assert_int_equal(unlink_name(w, &s, "b"), 0);
    assert_int_not_equal(inode_read(w, &t, HF_RD_OPEN, other), 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, ino), 0); /* held open */
    assert_int_equal(inode_read(w, &t, HF_RD_RELEASE, ino), 0);
    hf_sim_run_ns(w->sim, 2 * SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void a_file_looked_up_and_never_opened_goes_soon_after_its_name(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(lookup_by(w, &t, "a"), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void rename_over_an_open_file_keeps_it_for_its_holder(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino old = create(w, &s, "a");
    struct hf_meta_op op;

    (void)create(w, &s, "b");
    op = (struct hf_meta_op){.op = HF_OP_RENAME,
                             .session = s.id,
                             .stream = ++s.stream,
                             .parent = {HF_INO_ROOT},
                             .name = "b",
                             .name_len = 1,
                             .parent2 = {HF_INO_ROOT},
                             .name2 = "a",
                             .name2_len = 1};
    assert_int_equal(run_op(w, &op).err, 0);
    assert_int_equal(getattr(w, old), 0);
    op = (struct hf_meta_op){
        .op = HF_OP_ORPHAN_RELEASE, .session = s.id, .stream = ++s.stream, .ino = old};
    assert_int_equal(run_op(w, &op).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, old), -ENOENT);
}

static void an_open_during_an_unlink_is_answered_after_it(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = unlink_of(&s, "a");
    struct hf_meta_read rd = {.op = HF_RD_OPEN, .session = t.id, .ino = ino};
    struct answer unlinked, opened;

    start_op(w, &op, &unlinked);
    start_read(w, &rd, &opened);
    wait_for(w, &opened);
    assert_true(unlinked.done);
    assert_int_equal(unlinked.reply.err, 0);
    assert_int_equal(opened.reply.err, -ESTALE);
}

static void a_release_during_an_unlink_leaves_no_orphan(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = unlink_of(&s, "a");
    uint64_t pair[2] = {ino.v, 0};
    struct hf_meta_read rd = {.op = HF_RD_RELEASE, .session = s.id, .inos = pair, .ino_count = 2};
    struct answer unlinked, released;

    start_op(w, &op, &unlinked);
    start_read(w, &rd, &released);
    wait_for(w, &unlinked);
    wait_for(w, &released);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(usage(w).orphans, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void after_a_restart_an_unclaimed_file_is_kept(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino kept = create(w, &s, "kept"), dropped = create(w, &s, "dropped");

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(unlink_name(w, &t, "kept"), 0);
    assert_int_equal(unlink_name(w, &t, "dropped"), 0);
    assert_int_equal(usage(w).orphans, 2);
    assert_int_equal(renew(w, &s, (uint64_t[]){kept.v, 0}, 2, 0).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, kept), 0);
    assert_int_equal(getattr(w, dropped), -ENOENT);
}

/* An opening without an answer is sent again to the next leader, behind what the session claimed,
 * which does not name it: the file is being let go. */
static void an_opening_behind_the_claims_does_not_hold_what_they_let_go(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    const struct hf_meta_read claims = {
        .op = HF_RD_RENEW, .session = s.id, .flags = HF_RENEW_CLAIM};
    const struct hf_meta_read again = {.op = HF_RD_OPEN, .session = s.id, .ino = ino, .cookie = 4};
    struct answer claimed, opened;

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(unlink_name(w, &t, "a"), 0);
    assert_int_equal(getattr(w, ino), 0);
    start_read(w, &claims, &claimed);
    start_read(w, &again, &opened);
    wait_for(w, &claimed);
    wait_for(w, &opened);
    assert_int_equal(claimed.reply.err, 0);
    assert_int_equal(opened.reply.err, -ESTALE);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

/* Its connection did not break when the node led anew: it does not know that it has to claim. */
static void a_renewal_that_claims_nothing_says_nothing_of_open_files(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "open");
    const struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s.id};

    assert_int_equal(unlink_name(w, &t, "open"), 0);
    crash(w);
    boot(w);
    assert_int_equal(run_read(w, &rd).err, -HF_ENOTREADY);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(renew(w, &s, (uint64_t[]){ino.v, 0}, 2, 0).err, 0);
    assert_int_equal(run_read(w, &rd).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
}

/* The answer to a release was lost: it comes again, behind the next opening. */
static void a_release_does_not_reach_past_a_later_opening(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    uint64_t pair[2] = {ino.v, 3};
    const struct hf_meta_read again = {.op = HF_RD_OPEN, .session = s.id, .ino = ino, .cookie = 4};
    struct hf_meta_read release = {
        .op = HF_RD_RELEASE, .session = s.id, .inos = pair, .ino_count = 2};

    assert_int_equal(run_read(w, &again).err, 0);
    assert_int_equal(run_read(w, &release).err, 0);
    assert_int_equal(unlink_name(w, &t, "a"), 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
    pair[1] = 4;
    assert_int_equal(run_read(w, &release).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

/* Sessions */

static void a_silent_session_is_evicted_and_fenced(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = create_of(&s, "b");

    assert_int_equal(unlink_name(w, &t, "a"), 0);
    assert_int_equal(getattr(w, ino), 0);
    keep_alive(w, &t, TTL_NS + 10 * SEC);
    assert_int_equal(run_op(w, &op).err, -HF_EFENCED);
    assert_int_equal(renew(w, &s, NULL, 0, 0).err, -HF_EFENCED);
    assert_int_equal(renew(w, &t, NULL, 0, 0).err, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
    assert_int_equal(usage(w).sessions, 1);
}

static void any_request_counts_as_being_heard(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .session = s.id, .ino = {HF_INO_ROOT}};

    for (uint32_t i = 0; i < 8; i++) {
        hf_sim_run_ns(w->sim, TTL_NS / 2);
        assert_int_equal(run_read(w, &rd).err, 0);
    }
    assert_int_equal(renew(w, &s, NULL, 0, 0).err, 0);
}

static void a_restart_counts_as_a_renewal(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);

    hf_sim_run_ns(w->sim, TTL_NS - 2 * SEC);
    crash(w);
    boot(w);
    hf_sim_run_ns(w->sim, TTL_NS - 2 * SEC);
    assert_int_equal(renew(w, &s, NULL, 0, 0).err, 0);
}

static void a_closed_session_is_gone_at_once(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op = {.op = HF_OP_SESSION_CLOSE, .session = s.id};

    assert_int_equal(run_op(w, &op).err, 0);
    assert_int_equal(renew(w, &s, NULL, 0, 0).err, -HF_EFENCED);
    assert_int_equal(usage(w).sessions, 0);
}

/* Locks */

static struct hf_meta_op lock_of(struct session *s, struct hf_ino ino, uint32_t type)
{
    return (struct hf_meta_op){.op = HF_OP_LOCK,
                               .session = s->id,
                               .stream = ++s->stream,
                               .ino = ino,
                               .lock_owner = 7,
                               .lock_type = type,
                               .lock_pid = 1};
}

static struct hf_meta_read wait_of(const struct session *s, struct hf_ino ino)
{
    return (struct hf_meta_read){
        .op = HF_RD_LOCK_WAIT, .session = s->id, .ino = ino, .lock_type = F_WRLCK, .lock_owner = 8};
}

static void a_lock_waiter_is_told_when_the_lock_is_free(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = lock_of(&s, ino, F_WRLCK);
    struct hf_meta_read rd = wait_of(&t, ino);
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_false(waited.done);
    op = lock_of(&s, ino, F_UNLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    wait_for(w, &waited);
    assert_int_equal(waited.reply.err, 0);
    assert_int_equal(run_read(w, &rd).err, 0); /* free: at once */
}

static void a_lock_waiter_is_told_when_the_holder_dies(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = lock_of(&s, ino, F_WRLCK);
    struct hf_meta_read rd = wait_of(&t, ino);
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    keep_alive(w, &t, TTL_NS - 10 * SEC);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, 15 * SEC);
    assert_true(waited.done);
    assert_int_equal(waited.reply.err, 0);
}

static void a_lock_waiter_gives_up_after_its_time(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = lock_of(&s, ino, F_WRLCK);
    struct hf_meta_read rd = wait_of(&t, ino);
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, 19 * SEC);
    assert_false(waited.done);
    hf_sim_run_ns(w->sim, 2 * SEC);
    assert_true(waited.done);
    assert_int_equal(waited.reply.err, -EAGAIN);
}

static void waiters_of_an_ended_session_are_answered(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = lock_of(&s, ino, F_WRLCK);
    struct hf_meta_op end = {.op = HF_OP_SESSION_CLOSE, .session = t.id};
    struct hf_meta_read rd = wait_of(&t, ino);
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(run_op(w, &end).err, 0);
    assert_true(waited.done);
    assert_int_equal(waited.reply.err, -HF_EFENCED);
}

/* Nodes */

static void a_silent_node_goes_down_and_comes_back_through_an_inventory(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino a = create(w, &s, "a"), b = create(w, &s, "b");
    struct hf_oid before = write_object(w, &s, a, 7), during;
    uint64_t epoch = hf_replica_map(w->replica)->groups[1].epoch.v;

    w->nodes[2].alive = false;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_DOWN);
    assert_true(hf_replica_map(w->replica)->groups[1].epoch.v > epoch);
    during = write_object(w, &s, b, 3);
    assert_int_equal(usage(w).degraded, 1);
    store_delete(&w->nodes[2], &before); /* its disk lost one */
    w->nodes[2].alive = true;
    hf_sim_run_ns(w->sim, SEC);
    assert_true(state_of(w, 3) == HF_NODE_RETURNING || state_of(w, 3) == HF_NODE_UP);
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_UP);
    assert_int_equal(usage(w).degraded, 0);
    assert_non_null(stored(&w->nodes[2], &before));
    assert_non_null(stored(&w->nodes[2], &during));
}

static void a_foreign_store_is_refused_and_its_node_goes_down(void **state)
{
    struct world *w = *state;
    struct hf_uuid own = w->nodes[1].uuid;

    w->nodes[1].uuid.b[5] = 0x55;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 2), HF_NODE_DOWN);
    assert_int_equal(w->nodes[1].told, HF_NODE_NONE);
    w->nodes[1].uuid = own;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 2), HF_NODE_UP);
}

static void a_store_that_restarted_is_inventoried(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid oid = write_object(w, &s, ino, 7);

    hf_sim_run_ns(w->sim, SEC);
    store_delete(&w->nodes[0], &oid); /* a damaged segment */
    w->nodes[0].puts = 0;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 1), HF_NODE_UP);
    assert_non_null(stored(&w->nodes[0], &oid));
    assert_int_equal(usage(w).degraded, 0);
}

static void a_bad_copy_is_replaced(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid oid = write_object(w, &s, ino, 7);
    struct hf_replica_status status;

    stored(&w->nodes[1], &oid)->quarantined = true;
    w->nodes[1].bad[0] = oid;
    w->nodes[1].bad_count = 1;
    hf_sim_run_ns(w->sim, 3 * SEC);
    assert_false(stored(&w->nodes[1], &oid)->quarantined);
    assert_int_equal(usage(w).degraded, 0);
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.copied_objects, 1);
    assert_int_equal(status.copied_bytes, OBJECT_LEN);
}

static void a_copy_that_goes_bad_before_its_object_is_named_is_replaced(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid oid = {.session = s.id.v, .seq = s.seq + 1, .group = 1}, named;

    w->nodes[1].bad[0] = oid;
    w->nodes[1].bad_count = 1;
    hf_sim_run_ns(w->sim, 3 * SEC);
    assert_int_equal(w->nodes[1].bad_count, 0); /* told, while no entry names it */
    named = write_object(w, &s, ino, 7);
    assert_true(hf_oid_equal(&oid, &named));
    stored(&w->nodes[1], &oid)->quarantined = true;
    hf_sim_run_ns(w->sim, 3 * SEC);
    assert_false(stored(&w->nodes[1], &oid)->quarantined);
    assert_int_equal(usage(w).degraded, 0);
}

static void what_cannot_be_copied_is_tried_again_later(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    uint32_t copies;

    w->refuse_copies = true;
    (void)write_object(w, &s, ino, 3);
    keep_alive(w, &s, 60 * SEC);
    copies = w->nodes[2].copies;
    assert_in_range(copies, 3, 12); /* with growing pauses */
    assert_int_equal(usage(w).degraded, 1);
    w->refuse_copies = false;
    keep_alive(w, &s, 60 * SEC);
    assert_int_equal(usage(w).degraded, 0);
}

static void strays_of_ended_sessions_are_deleted_and_others_kept(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_oid ended = {.session = s.id.v, .seq = 9, .group = 2};
    struct hf_oid living = {.session = t.id.v, .seq = 9, .group = 2};
    struct hf_oid unheard = {.session = t.id.v + 1000, .seq = 9, .group = 2};
    struct hf_meta_op op = {.op = HF_OP_SESSION_CLOSE, .session = s.id};

    store_put(&w->nodes[0], &ended, 4096, 1);
    store_put(&w->nodes[0], &living, 4096, 1);
    store_put(&w->nodes[0], &unheard, 4096, 1);
    assert_int_equal(run_op(w, &op).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    w->nodes[0].puts = 0; /* it restarts: an inventory */
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_null(stored(&w->nodes[0], &ended));
    assert_non_null(stored(&w->nodes[0], &living));
    assert_non_null(stored(&w->nodes[0], &unheard));
}

static void strays_of_an_evicted_session_are_deleted_at_once(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_oid put = {.session = s.id.v, .seq = 9, .group = 2}; /* and never committed */

    hf_sim_run_ns(w->sim, 5 * SEC); /* the inventories of the start are over */
    for (uint32_t i = 0; i < NODES; i++) {
        store_put(&w->nodes[i], &put, 4096, 1);
    }
    keep_alive(w, &t, TTL_NS + 5 * SEC);
    for (uint32_t i = 0; i < NODES; i++) {
        assert_null(stored(&w->nodes[i], &put));
    }
}

static void node_info_tells_what_each_lacks(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_leader_node_info info[8];

    w->nodes[2].alive = false;
    hf_sim_run_ns(w->sim, 5 * SEC);
    for (uint32_t i = 0; i < 5; i++) {
        char name[2] = {(char)('a' + i), 0};

        (void)write_object(w, &s, create(w, &s, name), 3);
    }
    assert_int_equal(hf_replica_nodes(w->replica, info, 8), NODES);
    assert_true(info[0].heard);
    assert_false(info[2].heard);
    assert_int_equal(info[0].lacking, 0);
    assert_int_equal(info[2].lacking, 5);
}

/* Dead objects */

static void dead_objects_are_deleted_everywhere_after_the_grace(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid old = write_object(w, &s, ino, 7), now = write_object(w, &s, ino, 7);
    struct hf_replica_status status;

    assert_int_equal(usage(w).dead, 1);
    keep_alive(w, &s, 9 * SEC);
    assert_non_null(stored(&w->nodes[0], &old)); /* a reader may be under way */
    keep_alive(w, &s, 5 * SEC);
    assert_int_equal(usage(w).dead, 0);
    for (uint32_t i = 0; i < NODES; i++) {
        assert_null(stored(&w->nodes[i], &old));
        assert_non_null(stored(&w->nodes[i], &now));
    }
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.deleted_objects, 1);
}

static void objects_of_an_orphan_go_when_its_holder_is_evicted(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_oid oid = write_object(w, &s, create(w, &s, "a"), 7);

    assert_int_equal(unlink_name(w, &t, "a"), 0);
    assert_int_equal(usage(w).orphans, 1);
    keep_alive(w, &t, TTL_NS + 30 * SEC);
    assert_int_equal(usage(w).orphans, 0);
    assert_int_equal(usage(w).dead, 0);
    assert_null(stored(&w->nodes[0], &oid));
}

static void a_dead_object_waits_for_members_that_are_down(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid old = write_object(w, &s, ino, 7);
    uint32_t deletes;

    w->nodes[1].alive = false;
    hf_sim_run_ns(w->sim, 5 * SEC);
    (void)write_object(w, &s, ino, 5);
    keep_alive(w, &s, 20 * SEC);
    assert_int_equal(usage(w).dead, 1);
    assert_null(stored(&w->nodes[0], &old));
    assert_non_null(stored(&w->nodes[1], &old));
    deletes = w->nodes[0].deletes;
    keep_alive(w, &s, 60 * SEC);
    assert_int_equal(w->nodes[0].deletes, deletes); /* confirmed is confirmed */
    w->nodes[1].alive = true;
    keep_alive(w, &s, 10 * SEC);
    assert_int_equal(usage(w).dead, 0);
    assert_null(stored(&w->nodes[1], &old));
}

static void many_dead_objects_go_in_batches(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");

    for (uint32_t i = 0; i < 300; i++) {
        (void)write_object(w, &s, ino, 7);
    }
    keep_alive(w, &s, 20 * SEC);
    assert_int_equal(usage(w).dead, 0);
    for (uint32_t i = 0; i < NODES; i++) {
        assert_int_equal(w->nodes[i].count, 1);
        assert_in_range(w->nodes[i].deletes, 1, 20);
    }
}

static void a_large_unlinked_file_is_purged_to_the_end(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = {.op = HF_OP_SETATTR,
                            .session = s.id,
                            .mask = HF_SET_SIZE,
                            .ino = ino,
                            .size = UINT64_C(1) << 40};

    (void)write_object(w, &s, ino, 7);
    op.stream = ++s.stream;
    assert_int_equal(run_op(w, &op).err, 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    keep_alive(w, &s, 20 * SEC);
    assert_int_equal(usage(w).purging, 0);
    assert_int_equal(usage(w).dead, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
    assert_int_equal(w->nodes[0].count, 0);
}

/* Space */

static void grants_never_exceed_what_the_stores_can_take(void **state)
{
    struct world *w = *state;
    struct session s[4];
    uint64_t sum = 0, usable = FREE_BYTES - (UINT64_C(256) << 20);

    for (uint8_t i = 0; i < 4; i++) {
        s[i] = open_session(w, i);
    }
    for (uint32_t round = 0; round < 3; round++) {
        sum = 0;
        for (uint32_t i = 0; i < 4; i++) {
            uint64_t got = renew(w, &s[i], NULL, 0, UINT64_MAX).budget_bytes;

            assert_true(got > 0);
            sum += got;
        }
        assert_true(sum <= usable);
    }
    assert_int_equal(renew(w, &s[0], NULL, 0, 12345).budget_bytes, 12345);
    assert_int_equal(renew(w, &s[0], NULL, 0, 0).budget_bytes, 0);
}

static void full_stores_mean_no_budget(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_read rd = {.op = HF_RD_STATFS};
    struct hf_meta_reply reply = run_read(w, &rd);

    assert_true(reply.total_bytes > 0 && reply.free_bytes <= reply.total_bytes);
    assert_true(reply.free_bytes > FREE_BYTES / 2);
    w->nodes[1].free_bytes = UINT64_C(100) << 20; /* below the reserve */
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(renew(w, &s, NULL, 0, 1u << 20).budget_bytes, 0);
    assert_int_equal(run_read(w, &rd).free_bytes, 0);
}

/* Power cuts */

#define SCRIPT_OPS 12u

/* The answer to an op, sent again as long as nobody leads; false: none, or a failure. */
static bool answered_in_the_end(struct world *w, const struct hf_meta_op *op, struct answer *answer)
{
    for (uint32_t i = 0; i < 100 && hf_sim_run_until(w->sim, is_done, answer, SEC); i++) {
        const int err = answer->reply.err;

        if (err != -HF_ENOTLEADER && err != -HF_ENOTREADY && err != -HF_EGAP) {
            return err == 0;
        }
        hf_sim_run_ns(w->sim, 50 * MSEC);
        start_op(w, op, answer);
    }
    return false;
}

/* Pipelined creates f0, f1, ...; how many were acknowledged before the power went. */
static uint32_t run_script(struct world *w, struct session *s, uint32_t *ret_sent)
{
    struct answer answers[SCRIPT_OPS];
    struct hf_meta_op ops[SCRIPT_OPS];
    char names[SCRIPT_OPS][8];
    uint32_t acked = 0, sent = 0;

    memset(answers, 0, sizeof(answers));
    for (uint32_t i = 0; i < SCRIPT_OPS; i += 3) {
        for (uint32_t k = i; k < i + 3; k++) {
            (void)snprintf(names[k], sizeof(names[k]), "f%u", k);
            ops[k] = create_of(s, names[k]);
            start_op(w, &ops[k], &answers[k]);
            sent++;
        }
        for (uint32_t k = i; k < i + 3; k++) {
            if (!answered_in_the_end(w, &ops[k], &answers[k])) {
                *ret_sent = sent;
                hf_sim_run_ns(w->sim, 10 * MSEC); /* nothing answers into this frame later */
                return acked;
            }
            acked++;
        }
    }
    *ret_sent = sent;
    return acked;
}

static void check_prefix(struct world *w, uint32_t acked, uint32_t sent)
{
    bool ended = false;

    for (uint32_t i = 0; i < SCRIPT_OPS; i++) {
        char name[8];
        int err;

        (void)snprintf(name, sizeof(name), "f%u", i);
        err = lookup(w, name);
        if (i < acked) {
            assert_int_equal(err, 0);
        }
        assert_false(!err && ended); /* a prefix */
        assert_false(!err && i >= sent);
        ended = ended || err;
    }
}

static void whatever_power_cut_keeps_what_was_acknowledged(void **state)
{
    bool struck = true;

    (void)state;
    hf_log_set_sink(no_line, NULL);
    for (uint64_t n = 0; struck; n++) {
        struct world *w = calloc(1, sizeof(*w));
        struct hf_sim_disk *disk;
        struct session s;
        uint32_t acked, sent;

        world_init(w, 100 + n);
        boot(w);
        s = open_session(w, 1);
        disk = hf_sim_disk(w->env);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n, HF_SIM_FAULT_POWER_CUT);
        acked = run_script(w, &s, &sent);
        struck = hf_sim_disk_struck(disk) > 0;
        crash(w);
        boot(w);
        check_prefix(w, acked, sent);
        world_fini(w);
        free(w);
    }
}

static void a_failed_write_or_sync_loses_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    hf_log_set_sink(no_line, NULL);
    for (uint32_t kind = 0; kind < 2; kind++) {
        bool struck = true;

        for (uint64_t n = 0; struck; n++) {
            struct world *w = calloc(1, sizeof(*w));
            struct hf_sim_disk *disk;
            struct session s;
            uint32_t acked, sent;

            world_init(w, 100 + n);
            boot(w);
            s = open_session(w, 1);
            disk = hf_sim_disk(w->env);
            hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n,
                                kind ? HF_SIM_FAULT_SYNC_EIO : HF_SIM_FAULT_WRITE_EIO);
            acked = run_script(w, &s, &sent);
            struck = hf_sim_disk_struck(disk) > 0;
            assert_int_equal(acked, SCRIPT_OPS); /* one failure is got over */
            hf_sim_disk_clear_faults(disk);
            crash(w);
            boot(w);
            check_prefix(w, acked, sent);
            world_fini(w);
            free(w);
        }
    }
}

#define STREAM_OPS 120u
#define WINDOW     8u

struct client { /* sends a fixed stream, again from the first unanswered op after a crash */
    struct session s;
    struct hf_meta_op ops[STREAM_OPS];
    char names[STREAM_OPS][8];
    struct answer answers[STREAM_OPS];
    uint32_t acked, sent;
};

/* Creates, every third op an unlink of the create before the last; all succeed when each is applied
 * once and in order. */
static void client_init(struct client *c, struct session s, char tag)
{
    c->s = s;
    for (uint32_t i = 0; i < STREAM_OPS; i++) {
        uint32_t name = i % 3 == 2 ? i - 2 : i;

        (void)snprintf(c->names[i], sizeof(c->names[i]), "%c%u", tag, name);
        c->ops[i] = i % 3 == 2 ? unlink_of(&c->s, c->names[i]) : create_of(&c->s, c->names[i]);
        c->ops[i].flags = 0;
    }
}

static void client_go_on(struct world *w, struct client *c)
{
    while (c->acked < c->sent && c->answers[c->acked].done) {
        assert_int_equal(c->answers[c->acked].reply.err, 0);
        c->acked++;
    }
    while (c->sent < STREAM_OPS && c->sent < c->acked + WINDOW) {
        c->ops[c->sent].acked = c->acked;
        start_op(w, &c->ops[c->sent], &c->answers[c->sent]);
        c->sent++;
    }
}

static void streams_across_power_cuts_have_each_effect_once(void **state)
{
    uint32_t crashes = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = calloc(1, sizeof(*w));
        struct client *c = calloc(2, sizeof(*c));

        world_init(w, seed);
        boot(w);
        client_init(&c[0], open_session(w, 1), 'a');
        client_init(&c[1], open_session(w, 2), 'b');
        while (c[0].acked < STREAM_OPS || c[1].acked < STREAM_OPS) {
            client_go_on(w, &c[0]);
            client_go_on(w, &c[1]);
            hf_sim_run_ns(w->sim, hf_sim_random_below(w->sim, 3 * MSEC));
            if (hf_sim_random_below(w->sim, 30) == 0) {
                hf_sim_run_ns(w->sim, 6 * SEC); /* a checkpoint */
            }
            if (hf_sim_random_below(w->sim, 8) == 0) {
                crash(w);
                crashes++;
                c[0].sent = c[0].acked;
                c[1].sent = c[1].acked;
                boot(w);
            }
        }
        /* Until they told that they hold nothing, what was unlinked was kept for them. */
        assert_int_equal(renew(w, &c[0].s, NULL, 0, 0).err, 0);
        assert_int_equal(renew(w, &c[1].s, NULL, 0, 0).err, 0);
        hf_sim_run_ns(w->sim, SEC);
        for (uint32_t i = 0; i < STREAM_OPS; i++) {
            bool gone = i % 3 != 1;

            assert_int_equal(lookup(w, c[0].names[i]), gone ? -ENOENT : 0);
            assert_int_equal(lookup(w, c[1].names[i]), gone ? -ENOENT : 0);
        }
        assert_int_equal(usage(w).inodes, 1 + 2 * STREAM_OPS / 3);
        free(c);
        world_fini(w);
        free(w);
    }
    assert_true(crashes > 20);
}

static void a_log_that_fails_for_good_stops_the_service(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_sim_disk *disk = hf_sim_disk(w->env);
    struct hf_meta_op op = create_of(&s, "a"), next = create_of(&s, "b");
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {HF_INO_ROOT}};
    struct hf_replica_status status;

    for (uint32_t i = 0; i < 16; i++) {
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk), HF_SIM_FAULT_WRITE_EIO);
    }
    assert_int_equal(run_op(w, &op).err, -HF_ENOTLEADER);
    hf_sim_run_ns(w->sim, 10 * SEC); /* it tries again, until the disk gave up three times */
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.failed, -EIO);
    assert_false(status.ready);
    assert_int_not_equal(run_op(w, &next).err, 0);
    assert_int_not_equal(run_read(w, &rd).err, 0);
    hf_sim_disk_clear_faults(disk);
    crash(w);
    boot(w);
    assert_int_equal(lookup(w, "b"), -ENOENT);
}

static void the_log_is_trimmed_behind_checkpoints(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_replica_status status;
    struct hf_raft_driver_status log;
    char value[60000];

    memset(value, 'x', sizeof(value));
    for (uint32_t i = 0; i < 400; i++) {
        struct hf_meta_op op = {.op = HF_OP_SETXATTR,
                                .session = s.id,
                                .stream = ++s.stream,
                                .acked = s.stream - 1,
                                .ino = {HF_INO_ROOT},
                                .name = "user.a",
                                .name_len = 6,
                                .bulk = value,
                                .bulk_len = sizeof(value)};

        value[0] = (char)('a' + i % 26);
        assert_int_equal(run_op(w, &op).err, 0);
        if (i % 40 == 0) {
            keep_alive(w, &s, 6 * SEC); /* a checkpoint's time comes */
        }
    }
    hf_replica_status(w->replica, &status);
    hf_raft_driver_status(hf_meta_log_driver(w->log), &log);
    assert_true(status.checkpoint_index > 0);
    assert_true(log.base_index > 50);
    assert_true(log.kept_bytes < HF_RAFT_KEEP_BYTES + (4u << 20)); /* for peers that lag */
    assert_true(log.log_bytes < 27u << 20);
    crash(w);
    boot(w);
    assert_int_equal(renew(w, &s, NULL, 0, 0).last_stream, s.stream);
}

static void closing_answers_everything(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_op op = create_of(&s, "a");
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {HF_INO_ROOT}};
    struct answer first, second, look;

    start_op(w, &op, &first);
    op = create_of(&s, "b");
    start_op(w, &op, &second);
    start_read(w, &rd, &look);
    shut(w);
    assert_true(first.done && second.done && look.done);
    boot(w);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_cluster_has_members_for_every_group),
        T(state_survives_a_clean_restart_without_replay),
        T(a_directory_of_another_cluster_is_refused),
        T(a_lost_log_is_noticed),
        T(a_client_may_not_send_the_leaders_operations),
        T(an_op_without_its_stream_number_is_refused),
        T(bytes_that_are_no_op_are_refused),
        T(an_unknown_session_is_fenced),
        T(a_gap_in_the_stream_is_refused_without_an_entry),
        T(a_resend_in_flight_and_after_gets_the_first_answer),
        T(a_resend_after_a_power_cut_is_applied_once),
        T(ops_in_flight_together_share_syncs),
        T(pipelined_ops_on_one_name_go_in_order),
        T(an_open_file_outlives_its_name_until_it_is_released),
        T(a_file_nobody_holds_goes_with_its_name),
        T(a_file_unlinked_between_look_and_open_can_be_opened),
        T(a_file_looked_up_and_never_opened_goes_soon_after_its_name),
        T(rename_over_an_open_file_keeps_it_for_its_holder),
        T(an_open_during_an_unlink_is_answered_after_it),
        T(a_release_during_an_unlink_leaves_no_orphan),
        T(after_a_restart_an_unclaimed_file_is_kept),
        T(a_release_does_not_reach_past_a_later_opening),
        T(an_opening_behind_the_claims_does_not_hold_what_they_let_go),
        T(a_renewal_that_claims_nothing_says_nothing_of_open_files),
        T(a_silent_session_is_evicted_and_fenced),
        T(any_request_counts_as_being_heard),
        T(a_restart_counts_as_a_renewal),
        T(a_closed_session_is_gone_at_once),
        T(a_lock_waiter_is_told_when_the_lock_is_free),
        T(a_lock_waiter_is_told_when_the_holder_dies),
        T(a_lock_waiter_gives_up_after_its_time),
        T(waiters_of_an_ended_session_are_answered),
        T(a_silent_node_goes_down_and_comes_back_through_an_inventory),
        T(a_foreign_store_is_refused_and_its_node_goes_down),
        T(a_store_that_restarted_is_inventoried),
        T(a_bad_copy_is_replaced),
        T(a_copy_that_goes_bad_before_its_object_is_named_is_replaced),
        T(what_cannot_be_copied_is_tried_again_later),
        T(strays_of_ended_sessions_are_deleted_and_others_kept),
        T(strays_of_an_evicted_session_are_deleted_at_once),
        T(node_info_tells_what_each_lacks),
        T(dead_objects_are_deleted_everywhere_after_the_grace),
        T(objects_of_an_orphan_go_when_its_holder_is_evicted),
        T(a_dead_object_waits_for_members_that_are_down),
        T(many_dead_objects_go_in_batches),
        T(a_large_unlinked_file_is_purged_to_the_end),
        T(grants_never_exceed_what_the_stores_can_take),
        T(full_stores_mean_no_budget),
        cmocka_unit_test(whatever_power_cut_keeps_what_was_acknowledged),
        cmocka_unit_test(a_failed_write_or_sync_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(streams_across_power_cuts_have_each_effect_once),
        T(a_log_that_fails_for_good_stops_the_service),
        T(the_log_is_trimmed_behind_checkpoints),
        T(closing_answers_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
