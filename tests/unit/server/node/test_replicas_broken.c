/* SPDX-License-Identifier: Apache-2.0 */
/* test_replicas_broken.c - a leader that cannot begin, or cannot read its table, gives way. */
#include "tests/unit/server/node/replicas_world.h"

static struct rnode *starting(struct world *w)
{
    for (uint32_t i = 0; i < REPLICAS; i++) {
        const struct hf_leader *here = w->nodes[i].replica->leader;

        if (here && here->state == HF_LEADER_STARTING) {
            return &w->nodes[i];
        }
    }
    return NULL;
}

static void a_leader_deposed_while_it_formats_the_cluster_has_not_failed(void **state)
{
    struct world *w = world_new(80);
    struct hf_replica_status status;
    struct rnode *n = NULL;

    (void)state;
    for (uint32_t i = 0; i < STEPS_MAX && !(n = starting(w)); i++) {
        assert_true(hf_sim_step(w->c->sim));
    }
    assert_non_null(n);
    assert_int_equal(hf_replica_map(n->replica)->group_count, 0);
    for (uint32_t i = 0; i < REPLICAS; i++) {
        w->c->cut[n->net->id.v - 1][i] = w->c->cut[i][n->net->id.v - 1] = true;
    }
    pass(w, 5 * SEC);
    hf_replica_status(n->replica, &status);
    assert_false(status.leads);
    assert_int_equal(status.failed, 0);
    assert_ptr_not_equal(wait_leader(w), n);
    settle(w);
    world_free(w);
}

/* A row cannot be read any more, here. */
static void spoil(struct rnode *n, enum hf_row row, uint64_t id)
{
    struct hf_key key;

    hf_key_u64(&key, row, id);
    assert_int_equal(hf_table_put(n->replica->table, key.b, key.len, "", 1), 0);
    n->differs = true;
}

/* Another node leads, and has never heard of a row that cannot be read. */
static void check_it_follows(struct world *w, struct rnode *n)
{
    const struct hf_msg_heartbeat beat = {.node = {1}};
    struct hf_msg_heartbeat_reply reply;
    struct hf_raft_driver_status log;
    struct hf_replica_status status;

    hf_replica_status(n->replica, &status);
    assert_int_equal(status.failed, -EBADMSG);
    assert_false(status.leads);
    hf_raft_driver_status(hf_meta_log_driver(n->log), &log);
    assert_int_equal(log.state, HF_RAFT_FAILED);
    assert_int_equal(hf_replica_heartbeat(n->replica, &beat, &reply), -HF_ENOTLEADER);
    assert_ptr_not_equal(wait_leader(w), n);
}

/* What the table has on its disk was not spoiled. */
static void heal(struct world *w, struct rnode *n)
{
    crash(n);
    n->differs = false;
    start(n);
    settle(w);
}

static void a_leader_that_cannot_apply_an_entry_sends_everybody_to_the_next(void **state)
{
    struct world *w = world_new(70);
    struct client *c = client_new(w, 'a'), *other = client_new(w, 'b');
    const struct hf_ino ino = c->ops[0].ino, locked = c->ops[1].ino;
    struct hf_meta_op op = {.op = HF_OP_LOCK,
                            .session = c->id,
                            .stream = 3,
                            .ino = locked,
                            .lock_owner = 7,
                            .lock_type = F_WRLCK,
                            .lock_pid = 1};
    const struct hf_meta_read wait = {.op = HF_RD_LOCK_WAIT,
                                      .session = other->id,
                                      .ino = locked,
                                      .lock_type = F_WRLCK,
                                      .lock_owner = 8};
    struct request changed = {0}, waited = {0};
    struct rnode *n;

    (void)state;
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    assert_int_equal(run_op(w, &c->ops[1]).err, 0);
    assert_int_equal(run_op(w, &op).err, 0);
    n = wait_leader(w);
    hf_replica_read(n->replica, &wait, simply_answered, &waited);
    pass(w, SEC);
    assert_false(waited.done);
    spoil(n, HF_ROW_INODE, ino.v);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = c->id,
                             .stream = 4,
                             .ino = ino,
                             .mask = HF_SET_MODE,
                             .mode = S_IFREG | 0600};
    send_op(n, &op, simply_answered, &changed);
    pass(w, SEC);
    assert_true(changed.done && waited.done);
    assert_int_equal(changed.reply.err, -HF_ENOTLEADER);
    assert_int_equal(waited.reply.err, -HF_ENOTLEADER);
    check_it_follows(w, n);
    assert_int_equal(run_op(w, &op).err, 0);
    heal(w, n);
    free(c);
    free(other);
    world_free(w);
}

static int look(struct world *w, struct rnode *n, const struct hf_meta_read *rd,
                struct hf_meta_reply *ret)
{
    struct request r = {0};

    hf_replica_read(n->replica, rd, simply_answered, &r);
    for (uint32_t i = 0; i < 1000 && !r.done; i++) {
        pass(w, 10 * MSEC);
    }
    assert_true(r.done);
    *ret = r.reply;
    return r.reply.err;
}

static void a_leader_that_cannot_look_sends_everybody_to_the_next(void **state)
{
    struct world *w = world_new(71);
    struct client *c = client_new(w, 'a');
    const struct hf_ino ino = c->ops[1].ino;
    const struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino},
                              open = {.op = HF_RD_OPEN, .session = c->id, .ino = ino, .cookie = 1};
    struct request looks[3] = {0};
    struct hf_meta_reply reply;
    struct rnode *n;

    (void)state;
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    assert_int_equal(run_op(w, &c->ops[1]).err, 0);
    for (uint32_t i = 0; i < 2; i++) {
        n = wait_leader(w);
        spoil(n, HF_ROW_INODE, ino.v);
        hf_replica_read(n->replica, i ? &open : &rd, simply_answered, &looks[0]);
        hf_replica_read(n->replica, &open, simply_answered, &looks[1]);
        send_op(n, &c->ops[2 + i], simply_answered, &looks[2]);
        pass(w, SEC);
        for (uint32_t k = 0; k < 3; k++) {
            assert_true(looks[k].done);
            assert_int_equal(looks[k].reply.err, -HF_ENOTLEADER);
        }
        check_it_follows(w, n);
        assert_int_equal(look(w, wait_leader(w), &rd, &reply), 0);
        assert_int_equal(run_op(w, &c->ops[2 + i]).err, 0);
        heal(w, n);
        memset(looks, 0, sizeof(looks));
    }
    free(c);
    world_free(w);
}

/* Logged without those who hold the file, the other replicas would give it up. */
static void an_unlink_whose_name_cannot_be_looked_up_goes_to_the_next_leader(void **state)
{
    struct world *w = world_new(73);
    struct client *c = client_new(w, 'a'), *other = client_new(w, 'b');
    const struct hf_ino ino = c->ops[0].ino;
    const struct hf_meta_read open = {.op = HF_RD_OPEN,
                                      .session = other->id,
                                      .ino = ino,
                                      .cookie = 1},
                              rd = {.op = HF_RD_GETATTR, .ino = ino};
    struct request unlinked = {0};
    struct hf_meta_reply reply;
    struct rnode *n;

    (void)state;
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    assert_int_equal(run_op(w, &c->ops[1]).err, 0);
    n = wait_leader(w);
    assert_int_equal(look(w, n, &open, &reply), 0);
    spoil(n, HF_ROW_INODE, ino.v);
    send_op(n, &c->ops[2], simply_answered, &unlinked);
    pass(w, 4 * SEC);
    assert_true(unlinked.done);
    assert_int_equal(unlinked.reply.err, -HF_ENOTLEADER);
    check_it_follows(w, n);
    assert_int_equal(lookup(w, c->names[0]), 0); /* not logged */
    assert_int_equal(run_op(w, &c->ops[2]).err, 0);
    assert_int_equal(look(w, wait_leader(w), &rd, &reply), 0); /* who has not told may hold it */
    assert_int_equal(reply.attr.nlink, 0);
    heal(w, n);
    free(c);
    free(other);
    world_free(w);
}

/* What works in the background looks as well, and an administrator does. */
static void a_leader_that_cannot_list_its_sessions_follows(void **state)
{
    struct world *w = world_new(72);
    struct client *c = client_new(w, 'a');
    struct hf_leader_session_info info;
    struct hf_replica_status status;
    struct rnode *n;

    (void)state;
    n = wait_leader(w);
    spoil(n, HF_ROW_SESSION, c->id.v);
    assert_int_equal(hf_replica_sessions(n->replica, &info, 1), 0);
    pass(w, 2 * SEC);
    check_it_follows(w, n);
    shut(n);
    n->differs = false;
    start(n); /* what was spoiled is in no checkpoint */
    assert_int_equal(run_op(w, &c->ops[0]).err, 0);
    settle(w);
    hf_replica_status(n->replica, &status);
    assert_int_equal(status.failed, 0);
    free(c);
    world_free(w);
}

static void who_cannot_list_the_sessions_does_not_begin_to_lead(void **state)
{
    struct world *w = world_new(74);
    struct client *c = client_new(w, 'a');
    struct hf_replica_status status = {0};
    struct rnode *old, *n;
    const char *error = NULL;

    (void)state;
    pass(w, 5 * SEC);
    old = wait_leader(w);
    n = old == &w->nodes[0] ? &w->nodes[1] : &w->nodes[0];
    spoil(n, HF_ROW_SESSION, c->id.v);
    assert_int_equal(hf_raft_driver_transfer(hf_meta_log_driver(old->log), n->net->id, &error), 0);
    for (uint32_t i = 0; i < STEPS_MAX && !status.failed; i++) {
        assert_false(status.leads);
        assert_true(hf_sim_step(w->c->sim));
        hf_replica_status(n->replica, &status);
    }
    check_it_follows(w, n);
    assert_int_equal(run_op(w, &c->ops[0]).err, 0); /* not fenced */
    fill_anew(n);
    settle(w);
    free(c);
    world_free(w);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_deposed_while_it_formats_the_cluster_has_not_failed),
        cmocka_unit_test(a_leader_that_cannot_apply_an_entry_sends_everybody_to_the_next),
        cmocka_unit_test(a_leader_that_cannot_look_sends_everybody_to_the_next),
        cmocka_unit_test(an_unlink_whose_name_cannot_be_looked_up_goes_to_the_next_leader),
        cmocka_unit_test(a_leader_that_cannot_list_its_sessions_follows),
        cmocka_unit_test(who_cannot_list_the_sessions_does_not_begin_to_lead),
    };

    cmocka_set_test_filter(getenv("HF_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
