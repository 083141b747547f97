/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients ask of the leader: streams, sessions, locks. Open files: test_replica_opens.c.
 */
#include "common/base/assert.h"
#include "server/meta/leader_impl.h"
#include "server/meta/replica_impl.h"
#include "server/meta/rows.h"
#include "tests/unit/server/node/replica_world.h"

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
    assert_int_equal(hf_replica_open(w->env, &options, &replica, &error), -HF_EWRONGCLUSTER);
    assert_non_null(error);
    free(error);
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
                              HF_OP_OBJECTS_GONE,  HF_OP_FORMAT,       HF_OP_GROUP_SET,
                              HF_OP_REFUSED};
    struct hf_replica_status before, after;

    hf_replica_status(w->replica, &before);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        struct hf_meta_op op = {.op = ops[i], .session = s.id, .node = {1}, .ino = {1}};

        assert_int_equal(run_op(w, &op).err, -EPERM);
    }
    hf_replica_status(w->replica, &after);
    assert_int_equal(before.applied_index, after.applied_index);
}

static void who_may_only_read_changes_nothing_and_goes_on(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino a = create(w, &s, "a");
    struct hf_meta_op b, set = {.op = HF_OP_SETATTR, .session = s.id, .ino = a};
    struct hf_meta_op lock = {.op = HF_OP_LOCK, .session = s.id, .ino = a, .lock_owner = 1};
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .session = s.id, .ino = {HF_INO_ROOT}, .name = "b", .name_len = 1};

    w->read_only = true;
    b = create_of(&s, "b");
    assert_int_equal(run_op(w, &b).err, -EROFS);
    assert_int_equal(run_op(w, &b).err, -EROFS);
    set.mask = HF_SET_MODE;
    set.stream = ++s.stream;
    assert_int_equal(run_op(w, &set).err, -EROFS);
    lock.lock_type = F_RDLCK;
    lock.stream = ++s.stream;
    assert_int_equal(run_op(w, &lock).err, 0);
    w->read_only = false;
    assert_int_equal(run_op(w, &b).err, -EROFS); /* it has its answer */
    assert_int_equal(run_read(w, &rd).err, -ENOENT);
    (void)create(w, &s, "b");
}

static void a_range_of_too_many_windows_is_refused_and_the_stream_goes_on(void **state)
{
    static const struct {
        enum hf_op op;
        uint32_t flags;
    } rows[] = {
        {HF_OP_PUNCH, 0},
        {HF_OP_PUNCH, HF_PUNCH_EXTEND | HF_ALLOC_RESERVE},
        {HF_OP_ALLOCATE, HF_ALLOC_RESERVE},
        {HF_OP_ALLOCATE, HF_ALLOC_RESERVE | HF_ALLOC_KEEP_SIZE},
        {HF_OP_ALLOCATE, 0},
    };
    const uint64_t most = (uint64_t)HF_SPACE_WINDOWS_MAX * HF_WINDOW_BYTES;
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino a = create(w, &s, "a");

    (void)write_object(w, &s, a, 7);
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        struct hf_meta_op op = {
            .op = rows[i].op, .flags = rows[i].flags, .session = s.id, .ino = a, .length = most};
        struct hf_meta_usage before = usage(w), after;
        struct answer first, second;

        op.stream = ++s.stream;
        op.length = most + 1;
        start_op(w, &op, &first);
        start_op(w, &op, &second); /* a resend gets the same answer */
        wait_for(w, &first);
        wait_for(w, &second);
        assert_int_equal(first.reply.err, -EFBIG);
        assert_int_equal(second.reply.err, -EFBIG);
        op.stream = ++s.stream;
        op.offset = HF_WINDOW_BYTES - 1; /* and the first byte of one more */
        op.length = most - HF_WINDOW_BYTES + 2;
        assert_int_equal(run_op(w, &op).err, -EFBIG);
        op.stream = ++s.stream;
        op.length = HF_FILE_BYTES_MAX;
        assert_int_equal(run_op(w, &op).err, -EFBIG);
        after = usage(w);
        assert_memory_equal(&before, &after, sizeof(before));
        op.stream = ++s.stream;
        op.length = most - HF_WINDOW_BYTES + 1;
        assert_int_equal(run_op(w, &op).err, 0);
    }
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

    hf_replica_op(w->replica, false, "\xff\xff\xff", 3, NULL, 0, answered, &answer);
    wait_for(w, &answer);
    assert_int_equal(answer.reply.err, -EBADMSG);
    answer = (struct answer){0};
    hf_replica_op(w->replica, false, "", 0, NULL, 0, answered, &answer);
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

/* Who cannot go on */

/* The row of an inode cannot be read any more. */
static void spoil(struct world *w, struct hf_ino ino)
{
    struct hf_key key;

    hf_key_u64(&key, HF_ROW_INODE, ino.v);
    assert_int_equal(hf_table_put(w->replica->table, key.b, key.len, "", 1), 0);
}

static void the_only_voter_that_cannot_apply_an_entry_answers_that_it_failed(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    const struct hf_ino ino = create(w, &s, "a"), locked = create(w, &s, "b");
    struct hf_meta_op op = lock_of(&s, locked, F_WRLCK);
    const struct hf_meta_read rd = wait_of(&t, locked);
    const struct hf_msg_heartbeat beat = {.node = {1}};
    struct hf_msg_heartbeat_reply reply;
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited.done);
    spoil(w, ino);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = s.id,
                             .stream = ++s.stream,
                             .ino = ino,
                             .mask = HF_SET_MODE,
                             .mode = S_IFREG | 0600};
    assert_int_equal(run_op(w, &op).err, -EIO);
    wait_for(w, &waited);
    assert_int_equal(waited.reply.err, -EIO);
    assert_int_equal(lookup(w, "b"), -EIO); /* there is nobody else to ask */
    assert_int_equal(hf_replica_heartbeat(w->replica, &beat, &reply), -HF_ENOTLEADER);
    crash(w);
    boot(w);
    assert_int_equal(run_op(w, &op).err, 0); /* what the disk holds was not spoiled */
}

static void the_only_voter_that_cannot_look_answers_that_it_failed(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    const struct hf_ino ino = create(w, &s, "a");
    struct hf_replica_status status;

    (void)create(w, &s, "b");
    spoil(w, ino);
    assert_int_equal(getattr(w, ino), -EIO);
    hf_replica_status(w->replica, &status);
    assert_int_equal(status.failed, -EBADMSG);
    assert_int_equal(lookup(w, "b"), -EIO);
    crash(w);
    boot(w);
    assert_int_equal(getattr(w, ino), 0);
}

/* Locks */

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

/* Three owners, each with the file that the one before wants: the last to wait is told. */
static void who_closes_a_ring_of_waiters_is_told(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    struct world *w = *state;
    struct session s[3];
    struct answer waited[3];
    struct hf_meta_read rd[3];
    struct hf_meta_op op;
    struct hf_ino inos[3];

    for (uint32_t i = 0; i < 3; i++) {
        s[i] = open_session(w, (uint8_t)(i + 1));
        inos[i] = create(w, &s[i], names[i]);
        op = lock_of(&s[i], inos[i], F_WRLCK);
        assert_int_equal(run_op(w, &op).err, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        rd[i] = wait_of(&s[i], inos[(i + 1) % 3]);
        rd[i].lock_owner = 7;
    }
    start_read(w, &rd[0], &waited[0]);
    start_read(w, &rd[1], &waited[1]);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited[0].done || waited[1].done);
    assert_int_equal(run_read(w, &rd[2]).err, -EDEADLK);
    rd[2].lock_owner = 9; /* another one of the same mount holds nothing */
    start_read(w, &rd[2], &waited[2]);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited[0].done || waited[1].done || waited[2].done);
    op = lock_of(&s[2], inos[2], F_UNLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    wait_for(w, &waited[1]);
    assert_int_equal(waited[1].reply.err, 0);
    assert_false(waited[0].done);
    for (uint32_t i = 0; i < 2; i++) {
        op = lock_of(&s[i], inos[i], F_UNLCK);
        assert_int_equal(run_op(w, &op).err, 0);
    }
    wait_for(w, &waited[0]);
    wait_for(w, &waited[2]);
}

static void who_gives_up_a_wait_is_of_no_ring(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino a = create(w, &s, "a"), b = create(w, &t, "b");
    struct hf_meta_op op = lock_of(&s, a, F_WRLCK);
    struct hf_meta_read mine = wait_of(&s, b), rd = wait_of(&t, a), up;
    struct answer first, again, waited;

    mine.lock_owner = rd.lock_owner = 7;
    mine.cookie = 1;
    assert_int_equal(run_op(w, &op).err, 0);
    op = lock_of(&t, b, F_WRLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    start_read(w, &mine, &first);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(first.done);
    assert_int_equal(run_read(w, &mine).err, -EAGAIN); /* as after a broken connection */
    assert_true(first.done);
    assert_int_equal(first.reply.err, -EAGAIN);
    mine.cookie = 2;
    start_read(w, &mine, &again);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(again.done);
    up = mine;
    up.lock_type = F_UNLCK;
    up.cookie = 3; /* another one */
    assert_int_equal(run_read(w, &up).err, 0);
    assert_false(again.done);
    up.cookie = 2;
    assert_int_equal(run_read(w, &up).err, 0);
    assert_true(again.done);
    assert_int_equal(again.reply.err, -EINTR);
    for (mine.cookie = 1; mine.cookie <= 3; mine.cookie++) { /* late, or behind its end */
        assert_int_equal(run_read(w, &mine).err, -EAGAIN);
    }
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited.done);
    op = lock_of(&s, a, F_UNLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    wait_for(w, &waited);
    assert_int_equal(waited.reply.err, 0);
}

/* One waits for two that share a file; the second of those closes a ring. */
static void all_that_are_in_the_way_are_waited_for(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2), u = open_session(w, 3);
    struct hf_ino a = create(w, &s, "a"), b = create(w, &s, "b");
    struct hf_meta_op ops[] = {lock_of(&s, a, F_RDLCK), lock_of(&t, a, F_RDLCK),
                               lock_of(&u, b, F_WRLCK)};
    struct hf_meta_read rd = wait_of(&u, a);
    struct answer waited;

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        assert_int_equal(run_op(w, &ops[i]).err, 0);
    }
    rd.lock_owner = 7;
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited.done);
    for (int i = 0; i < 2; i++) {
        rd = wait_of(i ? &s : &t, b);
        rd.lock_owner = 7;
        assert_int_equal(run_read(w, &rd).err, -EDEADLK);
    }
    assert_false(waited.done);
    for (int i = 0; i < 2; i++) {
        struct hf_meta_op op = lock_of(i ? &s : &t, a, F_UNLCK);

        assert_int_equal(run_op(w, &op).err, 0);
    }
    wait_for(w, &waited);
    assert_int_equal(waited.reply.err, 0);
}

/* Who waits is in a ring as soon as one that waits for it takes what keeps it waiting. */
static void a_lock_that_closes_a_ring_ends_a_wait(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2), u = open_session(w, 3);
    struct hf_ino a = create(w, &s, "a"), b = create(w, &s, "b");
    struct hf_meta_op ops[] = {lock_of(&s, a, F_RDLCK), lock_of(&u, b, F_WRLCK)};
    struct hf_meta_read u_wants = wait_of(&u, a), t_wants = wait_of(&t, b);
    struct hf_meta_op op = lock_of(&t, a, F_RDLCK);
    struct answer u_waited, t_waited;

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        assert_int_equal(run_op(w, &ops[i]).err, 0);
    }
    u_wants.lock_owner = t_wants.lock_owner = 7;
    start_read(w, &u_wants, &u_waited);
    start_read(w, &t_wants, &t_waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(u_waited.done || t_waited.done);
    assert_int_equal(run_op(w, &op).err, 0); /* another thread of it */
    wait_for(w, &u_waited);
    assert_int_equal(u_waited.reply.err, -EDEADLK);
    assert_false(t_waited.done);
    op = lock_of(&u, b, F_UNLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    wait_for(w, &t_waited);
    assert_int_equal(t_waited.reply.err, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_cluster_has_members_for_every_group),
        T(state_survives_a_clean_restart_without_replay),
        T(a_directory_of_another_cluster_is_refused),
        T(a_lost_log_is_noticed),
        T(a_client_may_not_send_the_leaders_operations),
        T(who_may_only_read_changes_nothing_and_goes_on),
        T(a_range_of_too_many_windows_is_refused_and_the_stream_goes_on),
        T(an_op_without_its_stream_number_is_refused),
        T(bytes_that_are_no_op_are_refused),
        T(an_unknown_session_is_fenced),
        T(a_gap_in_the_stream_is_refused_without_an_entry),
        T(a_resend_in_flight_and_after_gets_the_first_answer),
        T(a_resend_after_a_power_cut_is_applied_once),
        T(ops_in_flight_together_share_syncs),
        T(pipelined_ops_on_one_name_go_in_order),
        T(a_silent_session_is_evicted_and_fenced),
        T(any_request_counts_as_being_heard),
        T(a_restart_counts_as_a_renewal),
        T(a_closed_session_is_gone_at_once),
        T(the_only_voter_that_cannot_apply_an_entry_answers_that_it_failed),
        T(the_only_voter_that_cannot_look_answers_that_it_failed),
        T(a_lock_waiter_is_told_when_the_lock_is_free),
        T(a_lock_waiter_is_told_when_the_holder_dies),
        T(a_lock_waiter_gives_up_after_its_time),
        T(who_closes_a_ring_of_waiters_is_told),
        T(who_gives_up_a_wait_is_of_no_ring),
        T(all_that_are_in_the_way_are_waited_for),
        T(a_lock_that_closes_a_ring_ends_a_wait),
        T(waiters_of_an_ended_session_are_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
