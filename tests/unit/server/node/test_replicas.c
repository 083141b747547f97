/* SPDX-License-Identifier: Apache-2.0 */
/* test_replicas.c - leaders that come and go, replicas that lag or differ. */
#include "tests/unit/server/node/replicas_world.h"

static void a_stream_across_leaders_has_each_effect_once(void **state)
{
    uint32_t crashes = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(seed);
        struct client *c[CLIENTS] = {client_new(w, 'a'), client_new(w, 'b')};

        while (c[0]->acked < STREAM_OPS || c[1]->acked < STREAM_OPS) {
            struct rnode *any = &w->nodes[hf_sim_random_below(w->c->sim, REPLICAS)];
            const uint64_t what = hf_sim_random_below(w->c->sim, 60);

            client_go_on(c[0]);
            client_go_on(c[1]);
            pass(w, 1 + hf_sim_random_below(w->c->sim, 5 * MSEC));
            if (what < 3 && leader(w)) {
                crash(leader(w));
                crashes++;
            } else if (what == 3) {
                crash(any);
            } else if (what == 4) {
                shut(any);
            } else if (what == 5) { /* one way */
                w->c->cut[any->net->id.v - 1][hf_sim_random_below(w->c->sim, REPLICAS)] = true;
            } else if (what < 8) {
                memset(w->c->cut, 0, sizeof(w->c->cut));
            } else if (what == 8) {
                pass(w, 7 * SEC); /* a checkpoint */
            } else if (what < 16 && !any->replica) {
                start(any);
            } else if (!leader(w)) {
                pass(w, 300 * MSEC);
            }
        }
        settle(w);
        client_check(w, c[0]);
        client_check(w, c[1]);
        settle(w);
        free(c[0]);
        free(c[1]);
        world_free(w);
    }
    assert_true(crashes > 12);
}

/* The third one is behind what the others' logs begin with. */
static struct client *make_lag(struct world *w, struct rnode **ret)
{
    struct client *c = client_new(w, 'a');
    struct rnode *n;

    pass(w, 2 * SEC);
    n = leader(w) == &w->nodes[0] ? &w->nodes[1] : &w->nodes[0];
    crash(n);
    while (c->acked < STREAM_OPS / 2) {
        client_go_on(c);
        pass(w, 5 * MSEC);
    }
    pass(w, 14 * SEC); /* checkpoints */
    for (uint32_t i = 0; i < REPLICAS; i++) {
        if (&w->nodes[i] != n) { /* their logs begin at the checkpoint now */
            shut(&w->nodes[i]);
            start(&w->nodes[i]);
        }
    }
    *ret = n;
    return c;
}

/* The leader hears nobody any more, the others hear it: the next leader commits the unlink, and
 * does not know of the open. */
static void an_open_that_waits_for_an_unlink_is_not_answered_once_deposed(void **state)
{
    struct world *w = world_new(53);
    struct client *c = client_new(w, 'a'), *other = client_new(w, 'b');
    const struct hf_meta_op unlink = {.op = HF_OP_UNLINK,
                                      .session = c->id,
                                      .stream = 2,
                                      .parent = {HF_INO_ROOT},
                                      .name = c->names[0],
                                      .name_len = strlen(c->names[0])};
    const struct hf_meta_read open = {
        .op = HF_RD_OPEN, .session = other->id, .ino = c->ops[0].ino, .cookie = 1};
    struct request unlinked = {0}, opened = {0};
    struct rnode *n;

    (void)state;
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    n = wait_leader(w);
    send_op(n, &unlink, simply_answered, &unlinked);
    hf_replica_read(n->replica, &open, simply_answered, &opened);
    while (!n->replica->leader->guarded.head) {
        assert_false(unlinked.done || opened.done);
        assert_true(hf_sim_step(w->c->sim));
    }
    for (uint32_t i = 0; i < REPLICAS; i++) {
        w->c->cut[i][n->net->id.v - 1] = true;
    }
    pass(w, 4 * SEC);
    assert_true(unlinked.done && opened.done);
    assert_int_not_equal(unlinked.reply.err, 0);
    assert_int_not_equal(opened.reply.err, 0);
    assert_int_equal(lookup(w, c->names[0]), -ENOENT);
    settle(w);
    free(c);
    free(other);
    world_free(w);
}

/* All but what the network needs for its messages. */
static struct hf_buf *take_nearly_all(struct hf_bufpool *pool)
{
    struct hf_buf *taken = NULL, *buf;

    while ((buf = hf_buf_get(pool, HF_FRAME_BULK_MAX))) {
        buf->next = taken;
        taken = buf;
    }
    return taken;
}

static void give_back(struct hf_buf *taken)
{
    while (taken) {
        struct hf_buf *next = taken->next;

        hf_buf_unref(taken);
        taken = next;
    }
}

static void a_node_whose_buffers_are_all_taken_can_lead(void **state)
{
    struct world *w = world_new(11);
    struct client *c = client_new(w, 'a');
    struct rnode *old = wait_leader(w);
    struct hf_buf *taken[REPLICAS] = {NULL};

    (void)state;
    for (uint32_t i = 0; i < REPLICAS; i++) {
        if (&w->nodes[i] != old) {
            taken[i] = take_nearly_all(w->nodes[i].net->pool);
        }
    }
    crash(old);
    assert_ptr_not_equal(wait_leader(w), old);
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    assert_int_equal(lookup(w, c->names[0]), 0);
    for (uint32_t i = 0; i < REPLICAS; i++) {
        give_back(taken[i]);
    }
    start(old);
    pass(w, 5 * SEC);
    free(c);
    world_free(w);
}

static void a_replica_far_behind_gets_a_snapshot_while_others_serve(void **state)
{
    struct world *w = world_new(50);
    struct hf_replica_status status;
    struct rnode *n;
    struct client *c = make_lag(w, &n);

    (void)state;
    start(n);
    while (c->acked < STREAM_OPS) {
        client_go_on(c);
        pass(w, 5 * MSEC);
    }
    settle(w);
    hf_replica_status(n->replica, &status);
    assert_true(status.checkpoint_index > 0); /* which is not its own: it did not live that long */
    client_check(w, c);
    settle(w);
    free(c);
    world_free(w);
}

/* What memory held over the checkpoint is gone with the table: nothing may be applied to the rest.
 */
static void a_snapshot_that_cannot_be_put_in_place_fails_the_replica(void **state)
{
    struct world *w = world_new(51);
    struct client *c = client_new(w, 'a');
    struct hf_raft_driver_status log;
    struct hf_replica_status status;
    struct rnode *n;

    (void)state;
    pass(w, 2 * SEC);
    n = leader(w) == &w->nodes[0] ? &w->nodes[1] : &w->nodes[0];
    while (c->acked < STREAM_OPS / 3) {
        client_go_on(c);
        pass(w, 5 * MSEC);
    }
    for (uint32_t i = 0; i < REPLICAS; i++) {
        w->c->cut[n->net->id.v - 1][i] = w->c->cut[i][n->net->id.v - 1] = true;
    }
    while (c->acked < STREAM_OPS / 2) {
        client_go_on(c);
        pass(w, 5 * MSEC);
    }
    for (uint32_t i = 0; i < REPLICAS; i++) {
        if (&w->nodes[i] != n) { /* with a checkpoint, where the logs begin now */
            shut(&w->nodes[i]);
            start(&w->nodes[i]);
        }
    }
    hf_replica_status(n->replica, &status);
    assert_true(status.checkpoint_index < status.applied_index);
    n->refuse_install = true;
    memset(w->c->cut, 0, sizeof(w->c->cut));
    pass(w, 4 * SEC);
    assert_false(n->refuse_install);
    hf_replica_status(n->replica, &status);
    assert_int_equal(status.failed, -EIO);
    hf_raft_driver_status(hf_meta_log_driver(n->log), &log);
    assert_int_equal(log.state, HF_RAFT_FAILED);
    shut(n);
    while (c->acked < STREAM_OPS) {
        client_go_on(c);
        pass(w, 5 * MSEC);
    }
    settle(w);
    client_check(w, c);
    settle(w);
    free(c);
    world_free(w);
}

/* A row of the table changes behind the replica's back. */
static void tamper(struct rnode *n)
{
    struct hf_table_cursor cursor;
    uint8_t key[HF_TABLE_KEY_MAX], value[HF_TABLE_VALUE_MAX];
    size_t key_len, value_len;

    assert_int_equal(hf_table_seek(n->replica->table, NULL, 0, &cursor), 0);
    while (cursor.value_len == 0) {
        assert_int_equal(hf_table_next(&cursor), 0);
    }
    key_len = cursor.key_len;
    value_len = cursor.value_len;
    memcpy(key, cursor.key, key_len);
    memcpy(value, cursor.value, value_len);
    value[value_len - 1] ^= 1;
    assert_int_equal(hf_table_put(n->replica->table, key, key_len, value, value_len), 0);
    n->differs = true;
}

static void a_replica_whose_row_changed_is_taken_out_and_filled_anew(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) { /* a follower; the leader */
        struct world *w = world_new(60 + i);
        struct client *c = client_new(w, 'a');
        struct hf_replica_status status;
        struct rnode *n;

        pass(w, 2 * SEC);
        n = i ? leader(w) : leader(w) == &w->nodes[0] ? &w->nodes[1] : &w->nodes[0];
        tamper(n);
        while (c->acked < STREAM_OPS / 2 || !is_out(n)) { /* clients go on */
            client_go_on(c);
            pass(w, 20 * MSEC);
        }
        hf_replica_status(n->replica, &status);
        assert_int_equal(status.failed, -HF_EDIFFERS);
        assert_false(status.leads);
        crash(n);
        start(n);
        pass(w, 5 * SEC);
        hf_replica_status(n->replica, &status);
        assert_int_equal(status.failed, -HF_EDIFFERS); /* after a restart as well */
        fill_anew(n);
        while (c->acked < STREAM_OPS) {
            client_go_on(c);
            pass(w, 5 * MSEC);
        }
        settle(w);
        client_check(w, c);
        settle(w);
        free(c);
        world_free(w);
    }
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_across_leaders_has_each_effect_once),
        cmocka_unit_test(an_open_that_waits_for_an_unlink_is_not_answered_once_deposed),
        cmocka_unit_test(a_node_whose_buffers_are_all_taken_can_lead),
        cmocka_unit_test(a_replica_far_behind_gets_a_snapshot_while_others_serve),
        cmocka_unit_test(a_snapshot_that_cannot_be_put_in_place_fails_the_replica),
        cmocka_unit_test(a_replica_whose_row_changed_is_taken_out_and_filled_anew),
    };

    cmocka_set_test_filter(getenv("HF_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
