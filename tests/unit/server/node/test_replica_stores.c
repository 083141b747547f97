/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the leader does with stores, and what a power cut leaves of all.
 */
#include "common/base/assert.h"
#include "server/meta/leader_impl.h"
#include "server/meta/replica_impl.h"
#include "tests/unit/server/node/replica_world.h"

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

static void a_store_whose_disk_fails_is_read_only_until_it_is_started_again(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    const struct hf_map *map;
    struct hf_oid during;

    w->nodes[2].state = HF_STORE_READ_ONLY;
    hf_sim_run_ns(w->sim, SEC);
    map = hf_replica_map(w->replica);
    assert_int_equal(state_of(w, 3), HF_NODE_READ_ONLY);
    assert_int_equal(w->nodes[2].told, HF_NODE_READ_ONLY);
    for (uint32_t g = 0; g < map->group_count; g++) {
        assert_int_equal(hf_map_group_writable(map, (uint16_t)g) & 4, 0);
        assert_int_equal(map->groups[g].epoch.v, map->epoch.v);
    }
    during = write_object(w, &s, create(w, &s, "b"), 3);
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(usage(w).degraded, 1);
    assert_int_equal(w->nodes[2].copies, 0); /* it is not asked to make any */
    w->nodes[2].alive = false;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_DOWN);
    w->nodes[2].alive = true; /* it was only cut off: its disk is as it was */
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_READ_ONLY);
    w->nodes[2].state = HF_STORE_OK;
    w->nodes[2].lists = 0;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_UP);
    assert_true(w->nodes[2].lists > 0); /* it came through an inventory */
    assert_int_equal(usage(w).degraded, 0);
    assert_non_null(stored(&w->nodes[2], &during));
}

static bool third_is_not_down(void *ctx)
{
    return state_of(ctx, 3) != HF_NODE_DOWN;
}

/* Objects may have been put to it before it spoke once, and its store be another by then. */
static void a_node_given_up_before_it_was_heard_comes_through_an_inventory(void **state)
{
    struct world *w = *state;
    const struct hf_map_node *node;

    world_fini(w);
    world_init(w, 2);
    w->nodes[2].alive = false;
    boot(w);
    hf_sim_run_ns(w->sim, SEC);
    node = hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){3});
    assert_true(hf_uuid_is_zero(&node->uuid));
    assert_string_equal(hf_map_node_state_name(node), "new");
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_DOWN);
    w->nodes[2].alive = true;
    assert_true(hf_sim_run_until(w->sim, third_is_not_down, w, SEC));
    assert_int_equal(state_of(w, 3), HF_NODE_RETURNING);
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 3), HF_NODE_UP);
    node = hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){3});
    assert_string_equal(hf_map_node_state_name(node), "up");
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
    w->nodes[0].start = 7;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 1), HF_NODE_UP);
    assert_non_null(stored(&w->nodes[0], &oid));
    assert_int_equal(usage(w).degraded, 0);
}

/* The inventory of its return has passed when the object is named. */
static void what_a_node_took_before_it_restarted_counts_for_nothing(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_wr_object lost = put_object(w, &s, 7), late = put_object(w, &s, 3), whole;

    store_delete(&w->nodes[0], &lost.oid);
    w->nodes[0].start = 7;
    hf_sim_run_ns(w->sim, 3 * SEC);
    assert_int_equal(w->nodes[0].start, 0); /* noted */
    assert_int_equal(state_of(w, 1), HF_NODE_UP);
    whole = put_object(w, &s, 7);
    assert_int_equal(name_object(w, &s, ino, whole), 0);
    assert_int_equal(usage(w).degraded, 0);
    assert_int_equal(name_object(w, &s, ino, lost), 0);
    assert_int_equal(usage(w).degraded, 1);
    assert_int_equal(name_object(w, &s, ino, late), -HF_ESTALE_EPOCH); /* one copy is not enough */
    hf_sim_run_ns(w->sim, 3 * SEC);
    assert_non_null(stored(&w->nodes[0], &lost.oid));
    assert_int_equal(usage(w).degraded, 0);
    assert_null(stored(&w->nodes[0], &late.oid)); /* nothing will name it any more */
    assert_null(stored(&w->nodes[1], &late.oid));
}

/* A client cannot have another's objects deleted, nor what a commit has named. */
static void a_refused_commit_deletes_its_own_objects_only(void **state)
{
    struct world *w = *state;
    struct session a = open_session(w, 1), b = open_session(w, 2);
    struct hf_ino ino = create(w, &a, "a");
    struct hf_wr_object waiting = put_object(w, &a, 7);
    struct hf_oid named = write_object(w, &a, ino, 7);
    struct hf_wr_object again = {.oid = named, .len_bytes = OBJECT_LEN, .holders = 7};

    assert_int_equal(name_object(w, &b, ino, waiting), -EINVAL);
    assert_int_equal(name_object(w, &a, ino, again), -EINVAL);
    hf_sim_run_ns(w->sim, 3 * SEC);
    for (uint32_t i = 0; i < 3; i++) {
        assert_non_null(stored(&w->nodes[i], &waiting.oid));
        assert_non_null(stored(&w->nodes[i], &named));
    }
    assert_int_equal(name_object(w, &a, ino, waiting), 0);
}

/* A number that the log cannot take yet is sent again, with the same objects. */
static void a_commit_that_comes_again_keeps_its_objects(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_wr_object waiting = put_object(w, &s, 7);
    const struct hf_meta_op op = {
        .op = HF_OP_WRITE, .session = s.id, .objects = &waiting, .object_count = 1};

    hf_inventory_refused(w->replica->leader, &op, -HF_EGAP);
    hf_inventory_refused(w->replica->leader, &op, -HF_ENOTREADY);
    hf_sim_run_ns(w->sim, SEC);
    assert_non_null(stored(&w->nodes[0], &waiting.oid));
    hf_inventory_refused(w->replica->leader, &op, -HF_ESTALE_EPOCH);
    hf_sim_run_ns(w->sim, SEC);
    assert_null(stored(&w->nodes[0], &waiting.oid));
}

static void a_node_that_restarts_while_it_returns_is_inventoried_anew(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_oid oid = write_object(w, &s, ino, 7);
    uint64_t returned;

    hf_sim_run_ns(w->sim, SEC);
    returned = hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){1})->returned.v;
    w->nodes[0].no_lists = true;
    w->nodes[0].start = 7;
    hf_sim_run_ns(w->sim, 2 * SEC);
    assert_int_equal(state_of(w, 1), HF_NODE_RETURNING);
    store_delete(&w->nodes[0], &oid);
    w->nodes[0].no_lists = false;
    w->nodes[0].start = 9;
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_int_equal(state_of(w, 1), HF_NODE_UP);
    assert_true(hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){1})->returned.v >
                returned + 1);
    assert_non_null(stored(&w->nodes[0], &oid));
    assert_int_equal(usage(w).degraded, 0);
}

/* A data directory was copied: the second is not heard while the first is. */
static void of_two_processes_that_are_one_node_one_is_heard(void **state)
{
    struct world *w = *state;
    struct hf_msg_heartbeat copy = {
        .node = {1}, .store = w->nodes[0].uuid, .addr = "10.0.9.1:7400", .start = 9};
    struct hf_msg_heartbeat_reply reply;
    const struct hf_map_node *node;

    hf_sim_run_ns(w->sim, 2 * SEC);
    for (int i = 0; i < 4; i++) {
        hf_replica_heartbeat(w->replica, &copy, &reply);
        assert_int_equal(reply.state, HF_NODE_NONE);
        hf_sim_run_ns(w->sim, SEC / 2);
    }
    node = hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){1});
    assert_string_equal(node->addr, "10.0.0.1:7400");
    assert_int_equal(node->state, HF_NODE_UP);
    w->nodes[0].network = 9; /* the first is gone, and the other stays */
    w->nodes[0].start = 9;
    hf_sim_run_ns(w->sim, 10 * SEC);
    node = hf_map_node(hf_replica_map(w->replica), (struct hf_node_id){1});
    assert_string_equal(node->addr, "10.0.9.1:7400");
    assert_int_equal(node->state, HF_NODE_UP);
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
    w->nodes[0].start = 7; /* again, and nobody has missed it: an inventory */
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

/* The file's first window, which is there, becomes its first 3,072: each of OBJECT_LEN bytes. */
static void make_windows(struct world *w, struct session *s, struct hf_ino ino)
{
    struct hf_meta_op op = {.op = HF_OP_SETATTR,
                            .session = s->id,
                            .stream = ++s->stream,
                            .ino = ino,
                            .mask = HF_SET_SIZE,
                            .size = HF_WINDOW_BYTES};

    assert_int_equal(run_op(w, &op).err, 0);
    for (uint64_t have = 1; have < 3072; have += op.length / HF_WINDOW_BYTES) {
        op = (struct hf_meta_op){.op = HF_OP_CLONE,
                                 .session = s->id,
                                 .stream = ++s->stream,
                                 .ino = ino,
                                 .ino2 = ino,
                                 .offset2 = have * HF_WINDOW_BYTES,
                                 .length = (have < 1024 ? have : 1024) * HF_WINDOW_BYTES};
        assert_int_equal(run_op(w, &op).err, 0);
    }
    assert_int_equal(usage(w).logical_bytes, 3072u * OBJECT_LEN);
}

static void a_file_cut_off_twice_is_given_up_in_parts(void **state)
{
    static const uint64_t sizes[] = {0, UINT64_C(1) << 40, 0};
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct answer answers[HF_ARRAY_LEN(sizes)];

    (void)write_object(w, &s, ino, 7);
    make_windows(w, &s, ino);
    for (size_t i = 0; i < HF_ARRAY_LEN(sizes); i++) {
        const struct hf_meta_op op = {.op = HF_OP_SETATTR,
                                      .session = s.id,
                                      .stream = ++s.stream,
                                      .ino = ino,
                                      .mask = HF_SET_SIZE,
                                      .size = sizes[i]};

        start_op(w, &op, &answers[i]);
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(sizes); i++) {
        wait_for(w, &answers[i]);
        assert_int_equal(answers[i].reply.err, 0);
        assert_int_equal(answers[i].reply.attr.size, sizes[i]);
    }
    assert_true(usage(w).logical_bytes >= 2048u * OBJECT_LEN);
    keep_alive(w, &s, 10 * SEC);
    assert_int_equal(usage(w).logical_bytes, 0);
    assert_int_equal(usage(w).purging, 0);
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

/* Nothing can be written; that is no reason to say that there is no room. */
static void stores_that_are_away_are_not_full(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_read rd = {.op = HF_RD_STATFS};
    uint64_t before = run_read(w, &rd).free_bytes, budget = 0;

    for (uint32_t alive = NODES; alive-- > 0;) {
        w->nodes[alive].alive = false;
        keep_alive(w, &s, 10 * SEC);
        budget = renew(w, &s, NULL, 0, UINT64_C(200) << 20).budget_bytes;
        assert_int_equal(budget, UINT64_C(200) << 20);
        renew(w, &s, NULL, 0, 0);
        assert_true(run_read(w, &rd).free_bytes >= before / 2);
    }
    w->nodes[0].alive = w->nodes[1].alive = true;
    w->nodes[0].free_bytes = 0; /* of those that can be written again one is full now */
    keep_alive(w, &s, 10 * SEC);
    assert_int_equal(renew(w, &s, NULL, 0, 1u << 20).budget_bytes, 0);
}

/* @more: will be asked for in the same way. */
static int reserve(struct world *w, struct session *s, struct hf_ino ino, uint64_t off,
                   uint64_t len, uint64_t more)
{
    const struct hf_meta_op op = {.op = HF_OP_ALLOCATE,
                                  .session = s->id,
                                  .stream = ++s->stream,
                                  .ino = ino,
                                  .offset = off,
                                  .length = len,
                                  .flags = HF_ALLOC_RESERVE,
                                  .size = more};

    return run_op(w, &op).err;
}

static void what_files_have_reserved_is_promised_to_nobody_else(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_meta_read rd = {.op = HF_RD_STATFS};
    struct hf_ino ino = create(w, &s, "f");
    uint64_t most, half, before;

    for (uint32_t i = 0; i < NODES; i++) { /* what one operation may reserve */
        w->nodes[i].free_bytes = UINT64_C(4) << 30;
    }
    hf_sim_run_ns(w->sim, SEC);
    most = renew(w, &s, NULL, 0, UINT64_MAX).budget_bytes;
    half = most / 2;
    assert_true(most > UINT64_C(2) << 30 && most < UINT64_C(4) << 30);
    assert_int_equal(reserve(w, &s, ino, 0, 4096, 0), -ENOSPC); /* all is granted */
    renew(w, &s, NULL, 0, 0);
    before = run_read(w, &rd).free_bytes;
    assert_int_equal(reserve(w, &s, ino, 0, most + 1, 0), -ENOSPC);
    assert_int_equal(reserve(w, &s, ino, 0, half, most - half + 1), -ENOSPC);
    assert_int_equal(reserve(w, &s, ino, 0, half, UINT64_MAX), -ENOSPC);
    assert_int_equal(reserve(w, &s, ino, 0, half, most - half), 0);
    assert_int_equal(run_read(w, &rd).free_bytes, before - half);
    assert_int_equal(renew(w, &s, NULL, 0, UINT64_MAX).budget_bytes, most - half);
    assert_int_equal(reserve(w, &s, ino, half, 4096, 0), -ENOSPC);
    assert_int_equal(reserve(w, &s, ino, 0, half, 0), 0); /* nothing new */
    renew(w, &s, NULL, 0, 0);
    assert_int_equal(reserve(w, &s, ino, half, most - half, 0), 0);
    assert_int_equal(renew(w, &s, NULL, 0, UINT64_MAX).budget_bytes, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_silent_node_goes_down_and_comes_back_through_an_inventory),
        T(a_store_whose_disk_fails_is_read_only_until_it_is_started_again),
        T(a_node_given_up_before_it_was_heard_comes_through_an_inventory),
        T(a_foreign_store_is_refused_and_its_node_goes_down),
        T(a_store_that_restarted_is_inventoried),
        T(what_a_node_took_before_it_restarted_counts_for_nothing),
        T(a_refused_commit_deletes_its_own_objects_only),
        T(a_commit_that_comes_again_keeps_its_objects),
        T(a_node_that_restarts_while_it_returns_is_inventoried_anew),
        T(of_two_processes_that_are_one_node_one_is_heard),
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
        T(a_file_cut_off_twice_is_given_up_in_parts),
        T(grants_never_exceed_what_the_stores_can_take),
        T(full_stores_mean_no_budget),
        T(stores_that_are_away_are_not_full),
        T(what_files_have_reserved_is_promised_to_nobody_else),
        cmocka_unit_test(whatever_power_cut_keeps_what_was_acknowledged),
        cmocka_unit_test(a_failed_write_or_sync_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(streams_across_power_cuts_have_each_effect_once),
        T(a_log_that_fails_for_good_stops_the_service),
        T(the_log_is_trimmed_behind_checkpoints),
        T(closing_answers_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
