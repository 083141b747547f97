/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers in one world, one situation each. What must always hold, cluster.h checks meanwhile;
 * test_driver_random.c throws chance at it.
 */
#include "tests/unit/server/raft/cluster.h"

/* Founding */

static void three_empty_stores_found_a_cluster(void **state)
{
    struct cluster *c = cl_new(1, 3);

    (void)state;
    cl_start_all(c);
    cl_fill(c, 20);
    cl_settle(c);
    assert_int_equal(c->nodes[2].state.count, 21);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(cl_status(&c->nodes[i]).config.count, 3);
    }
    cl_free(c);
}

static void five_do_and_one_alone_does(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 5; count += 4) {
        struct cluster *c = cl_new(2, count);

        cl_start_all(c);
        cl_fill(c, 50);
        cl_settle(c);
        assert_int_equal(c->nodes[count - 1].state.count, 51);
        cl_free(c);
    }
}

static void founding_waits_for_a_missing_peer_and_names_it(void **state)
{
    struct cluster *c = cl_new(3, 3);

    (void)state;
    cl_start(&c->nodes[0]);
    cl_start(&c->nodes[2]);
    hf_sim_run_ns(c->sim, 30 * SEC);
    assert_int_equal(cl_status(&c->nodes[0]).state, HF_RAFT_FOUNDING);
    assert_non_null(strstr(cl_status(&c->nodes[0]).waiting_for, "node 2"));
    assert_int_equal(cl_status(&c->nodes[2]).state, HF_RAFT_FOUNDING);
    cl_start(&c->nodes[1]);
    cl_settle(c);
    assert_string_equal(cl_status(&c->nodes[0]).waiting_for, "");
    cl_free(c);
}

static void a_store_with_objects_of_a_lost_cluster_founds_none(void **state)
{
    struct cluster *c = cl_new(4, 3);

    (void)state;
    c->nodes[1].must_join = true;
    cl_start_all(c);
    hf_sim_run_ns(c->sim, 30 * SEC);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(cl_status(&c->nodes[i]).state, HF_RAFT_FOUNDING);
    }
    assert_non_null(strstr(cl_status(&c->nodes[0]).waiting_for, "node 2"));
    cl_free(c);
}

static void a_power_cut_at_any_disk_call_of_founding_alone_is_got_over(void **state)
{
    bool struck = true;

    (void)state;
    for (uint64_t n = 0; struck; n++) {
        struct cluster *c = cl_new(500 + n, 1);
        struct hf_sim_disk *disk = hf_sim_disk(c->nodes[0].env);

        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n, HF_SIM_FAULT_POWER_CUT);
        if (cl_try_start(&c->nodes[0]) == 0) {
            hf_sim_run_ns(c->sim, 3 * SEC);
        }
        struck = hf_sim_disk_struck(disk) > 0;
        cl_kill(&c->nodes[0], CL_POWER);
        cl_start_all(c);
        cl_fill(c, 3);
        cl_settle(c);
        cl_free(c);
    }
}

static void a_power_cut_at_any_disk_call_of_founding_founds_one_cluster(void **state)
{
    bool struck = true;

    (void)state;
    for (uint64_t n = 0; struck; n++) {
        struct cluster *c = cl_new(100 + n, 3);
        struct cl_node *victim = &c->nodes[n % 3];
        struct hf_sim_disk *disk = hf_sim_disk(victim->env);

        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n / 3, HF_SIM_FAULT_POWER_CUT);
        cl_start(&c->nodes[(n + 1) % 3]);
        cl_start(&c->nodes[(n + 2) % 3]);
        if (cl_try_start(victim) == 0) {
            hf_sim_run_ns(c->sim, 3 * SEC);
        }
        struck = hf_sim_disk_struck(disk) > 0 || n % 3 != 2;
        cl_kill(victim, CL_POWER);
        cl_start(victim);
        cl_fill(c, 3);
        cl_settle(c);
        cl_free(c);
    }
}

/* Lost stores */

static bool is_whole(void *ctx)
{
    struct cl_node *n = ctx;
    const struct cl_node *leader = cl_leader(n->c);

    return leader && cl_status(n).state == HF_RAFT_RUNNING && !cl_status(n).abstaining &&
           hf_raft_config_has(&leader->state.config, n->id, HF_RAFT_VOTER) &&
           n->state.index == leader->state.index;
}

static void comes_back(struct cl_node *n)
{
    n->damaged = true;
    cl_start(n);
    assert_true(hf_sim_run_until(n->c->sim, is_whole, n, 60 * SEC));
    hf_sim_run_ns(n->c->sim, SEC);
    n->damaged = false;
}

enum loss { LOST_ALL, LOST_VOTE, LOST_LOG, LOSSES };

static void lose(struct cl_node *n, enum loss loss)
{
    cl_kill(n, CL_POWER);
    if (loss != LOST_LOG) {
        cl_wipe(n, CL_DIR "/vote");
    }
    if (loss != LOST_VOTE) {
        cl_wipe(n, CL_DIR "/log");
    }
    if (loss == LOST_ALL) {
        cl_wipe(n, CL_DIR);
    }
}

/* With checkpoints and without. */
static void a_lost_store_abstains_learns_and_votes_again(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2 * LOSSES; i++) {
        struct cluster *c = cl_new(20 + i, 3);
        struct cl_node *n;

        c->checkpoint_every = i % 2 ? 10 : 100000;
        cl_start_all(c);
        cl_fill(c, 40);
        n = cl_other(c, cl_leader(c));
        lose(n, (enum loss)(i / 2));
        n->damaged = true;
        cl_start(n);
        hf_sim_run_ns(c->sim, 100 * MSEC);
        assert_true(cl_status(n).abstaining);
        assert_true(hf_sim_run_until(c->sim, is_whole, n, 60 * SEC));
        hf_sim_run_ns(c->sim, SEC);
        n->damaged = false;
        cl_fill(c, 5);
        /* It counts: with the third one away there is a majority. */
        cl_kill(n == &c->nodes[2] ? cl_other(c, n) : &c->nodes[2], CL_CRASH);
        cl_fill(c, 5);
        cl_kill(n, CL_POWER);
        cl_start_all(c);
        cl_settle(c);
        cl_free(c);
    }
}

static bool goes_on_whole(void *ctx)
{
    return cl_status(ctx).state == HF_RAFT_RUNNING && !cl_status(ctx).abstaining;
}

static void a_store_is_whole_only_when_its_disk_says_so(void **state)
{
    struct cluster *c = cl_new(25, 3);
    struct cl_node *n;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 40);
    n = cl_other(c, cl_leader(c));
    lose(n, LOST_ALL);
    n->damaged = true;
    cl_start(n);
    assert_true(hf_sim_run_until(c->sim, goes_on_whole, n, 60 * SEC));
    hf_sim_disk_fail_path(hf_sim_disk(n->env), 0, HF_SIM_FAULT_WRITE_EIO, "/vote/");
    assert_true(hf_sim_run_until(c->sim, is_whole, n, 60 * SEC)); /* a voter */
    assert_int_equal(hf_sim_disk_struck(hf_sim_disk(n->env)), 1);
    n->damaged = false;
    cl_kill(n, CL_POWER);
    cl_start(n); /* not abstaining */
    cl_settle(c);
    cl_free(c);
}

static void an_only_voter_that_lost_its_vote_goes_on(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct cluster *c = cl_new(28 + i, 1);

        c->checkpoint_every = i ? 10 : 100000;
        cl_start_all(c);
        cl_fill(c, 30);
        lose(&c->nodes[0], LOST_VOTE);
        cl_start_all(c);
        cl_fill(c, 10);
        cl_settle(c);
        cl_free(c);
    }
}

static void an_only_voter_that_lost_its_log_is_not_opened(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct cluster *c = cl_new(26 + i, 1);

        c->checkpoint_every = i ? 10 : 100000;
        cl_start_all(c);
        cl_fill(c, 30);
        lose(&c->nodes[0], LOST_LOG);
        assert_int_equal(cl_try_start(&c->nodes[0]), -EBADMSG);
        cl_free(c);
    }
}

static void two_lost_stores_of_three_elect_nobody(void **state)
{
    struct cluster *c = cl_new(30, 3);

    (void)state;
    cl_start_all(c);
    cl_fill(c, 10);
    for (uint32_t i = 0; i < 3; i++) {
        if (i) {
            lose(&c->nodes[i], LOST_ALL);
        } else {
            cl_kill(&c->nodes[i], CL_POWER);
        }
        c->nodes[i].damaged = i > 0;
    }
    cl_start_all(c);
    hf_sim_run_ns(c->sim, 60 * SEC);
    assert_null(cl_leader(c));
    cl_free(c);
}

static void a_flipped_record_makes_a_member_abstain(void **state)
{
    struct cluster *c = cl_new(31, 3);
    struct cl_node *n;

    (void)state;
    c->checkpoint_every = 100000;
    cl_start_all(c);
    cl_fill(c, 40);
    n = cl_other(c, cl_leader(c));
    cl_kill(n, CL_POWER);
    assert_int_equal(
        hf_sim_disk_flip(hf_sim_disk(n->env), CL_DIR "/log/0000000001.seg", 5 * 4096 + 100, 1), 0);
    comes_back(n);
    cl_settle(c);
    cl_free(c);
}

/* Leaders that go */

static void a_leader_killed_under_proposals_loses_nothing_answered(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster *c = cl_new(200 + seed, seed % 4 ? 3 : 5);

        c->chatty = true;
        cl_start_all(c);
        for (uint32_t round = 0; round < 4; round++) {
            struct cl_node *leader = cl_wait_leader(c);

            for (uint32_t i = 0; i < 60; i++) {
                (void)cl_propose(leader);
                cl_read(leader);
                hf_sim_run_ns(c->sim, hf_sim_random_below(c->sim, 400 * HF_NS_PER_US));
            }
            cl_kill(leader, round % 2 ? CL_POWER : CL_CRASH);
            hf_sim_run_ns(c->sim, hf_sim_random_below(c->sim, 4 * SEC));
            cl_start(leader);
        }
        cl_settle(c);
        assert_true(c->acked_index > 50);
        cl_free(c);
    }
}

static void a_leader_cut_off_fails_what_it_cannot_commit(void **state)
{
    struct cluster *c = cl_new(40, 3);
    struct cl_node *leader, *next;
    struct cl_proposal *old;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 5);
    leader = cl_leader(c);
    for (uint32_t i = 0; i < 3; i++) {
        c->cut[leader->id.v - 1][i] = true; /* one way: it still hears the others */
    }
    old = cl_propose(leader);
    cl_read(leader);
    hf_sim_run_ns(c->sim, 6 * SEC);
    assert_int_equal(old->end, CL_FAILED);
    assert_int_equal(old->err, -HF_ENOTLEADER);
    assert_null(c->reads);
    next = cl_wait_leader(c);
    assert_ptr_not_equal(next, leader);
    memset(c->cut, 0, sizeof(c->cut));
    cl_settle(c);
    cl_free(c);
}

/* Disks */

static void a_write_error_deposes_a_leader_and_all_go_on(void **state)
{
    static const enum hf_sim_fault kinds[] = {HF_SIM_FAULT_WRITE_EIO, HF_SIM_FAULT_SYNC_EIO};

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        struct cluster *c = cl_new(50 + i, i % 4 == 3 ? 1 : 3);
        struct cl_node *leader;

        cl_start_all(c);
        cl_fill(c, 10);
        leader = cl_leader(c);
        hf_sim_disk_fail_path(hf_sim_disk(leader->env), 0, kinds[i % 2], "/log/");
        for (uint32_t k = 0; k < 10; k++) {
            (void)cl_propose(leader);
        }
        hf_sim_run_ns(c->sim, 5 * SEC);
        assert_int_equal(hf_sim_disk_struck(hf_sim_disk(leader->env)), 1);
        assert_false(leader->failed);
        cl_fill(c, 10);
        cl_settle(c);
        for (uint32_t k = 0; k < c->count; k++) {
            cl_kill(&c->nodes[k], CL_POWER);
        }
        cl_start_all(c); /* nobody abstains */
        cl_settle(c);
        cl_free(c);
    }
}

static void a_leader_whose_disk_gives_up_fails_and_another_goes_on(void **state)
{
    struct cluster *c = cl_new(60, 3);
    struct cl_node *leader;
    struct cl_proposal *p;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 10);
    leader = cl_leader(c);
    for (uint32_t i = 0; i < 16; i++) {
        hf_sim_disk_fail_path(hf_sim_disk(leader->env), 0, HF_SIM_FAULT_WRITE_EIO, "/log/");
    }
    p = cl_propose(leader);
    hf_sim_run_ns(c->sim, 10 * SEC);
    assert_int_equal(p->end, CL_FAILED);
    assert_true(leader->failed);
    assert_int_equal(cl_status(leader).state, HF_RAFT_FAILED);
    p = cl_propose(leader);
    hf_sim_run_ns(c->sim, SEC);
    assert_int_equal(p->err, -EIO);
    cl_fill(c, 10);
    cl_close(leader);
    cl_kill(leader, CL_POWER);
    cl_start(leader);
    cl_settle(c);
    cl_free(c);
}

static void a_follower_with_a_full_disk_catches_up_when_there_is_room(void **state)
{
    struct cluster *c = cl_new(61, 3);
    struct cl_node *n;

    (void)state;
    c->checkpoint_every = 100000;
    c->bulk_max = 20000;
    cl_start_all(c);
    cl_fill(c, 10);
    n = cl_other(c, cl_leader(c));
    hf_sim_disk_set_capacity(hf_sim_disk(n->env), 1500000);
    cl_fill(c, 400);
    hf_sim_run_ns(c->sim, 20 * SEC);
    assert_false(n->failed);
    assert_true(cl_status(n).durable_index < cl_leader(c)->state.index);
    hf_sim_disk_set_capacity(hf_sim_disk(n->env), UINT64_C(1) << 40);
    cl_settle(c);
    cl_free(c);
}

static void a_vote_that_cannot_be_written_holds_few_messages(void **state)
{
    struct cluster *c = cl_new(62, 3);
    struct cl_node *n, *leader;
    uint32_t held = 0;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 10);
    leader = cl_leader(c);
    n = cl_other(c, leader);
    hf_sim_set_job_delay(n->env, 1000000 * SEC); /* its disk does not answer */
    cl_kill(leader, CL_CRASH);
    hf_sim_run_ns(c->sim, 5 * SEC);
    assert_null(cl_leader(c)); /* the one that is left needs this one's vote */
    cl_start(leader);
    hf_sim_run_ns(c->sim, 300 * SEC); /* a message for each heartbeat */
    for (const struct raft_out *out = n->driver->held_head; out; out = out->next) {
        held++;
    }
    assert_in_range(held, 100, RAFT_HELD_MAX);
    assert_false(n->failed);
    hf_sim_set_job_delay(n->env, 100 * HF_NS_PER_US);
    cl_kill(n, CL_POWER);
    cl_start(n);
    cl_settle(c);
    cl_free(c);
}

/* Proposals that wait */

static void what_the_core_does_not_take_yet_waits_in_order(void **state)
{
    struct cluster *c = cl_new(70, 3);
    struct cl_node *leader;
    const char *why;

    (void)state;
    c->bulk_max = 6000;
    cl_start_all(c);
    leader = cl_wait_leader(c);
    for (uint32_t i = 0; i < 3; i++) {
        hf_sim_set_job_delay(c->nodes[i].env, 20 * MSEC);
    }
    hf_sim_run_ns(c->sim, SEC);
    for (uint32_t i = 0; i < 3; i++) { /* whoever takes over cannot: the leader goes on */
        c->cut[i][leader->id.v - 1] = true;
    }
    assert_int_equal(hf_raft_driver_transfer(leader->driver, (struct hf_node_id){0}, &why), 0);
    for (uint32_t i = 0; i < 1500; i++) {
        (void)cl_propose(leader);
    }
    hf_sim_run_ns(c->sim, 100 * MSEC);
    assert_int_equal(c->proposals[1].end, CL_PENDING);
    assert_int_equal(leader->driver->queue_waits, true);
    memset(c->cut, 0, sizeof(c->cut));
    hf_sim_run_ns(c->sim, 10 * SEC);
    for (uint64_t v = 1; v <= 1500; v++) {
        if (c->proposals[v].end == CL_APPLIED && v > 1) {
            assert_true(c->value_index[v] > c->value_index[v - 1]);
        }
    }
    cl_settle(c);
    cl_free(c);
}

static void the_largest_entry_behind_a_new_leaders_no_op_gets_through(void **state)
{
    struct cluster *c = cl_new(71, 3);
    struct cl_node *leader, *away;
    struct cl_proposal *p;

    (void)state;
    c->segment_bytes = 16u << 20;
    cl_start_all(c);
    cl_fill(c, 3);
    leader = cl_leader(c);
    away = cl_other(c, leader);
    cl_kill(away, CL_CRASH);
    leader = cl_wait_leader(c);
    hf_sim_run_ns(c->sim, 3 * SEC);
    cl_kill(leader, CL_CRASH); /* the two that are left elect anew: a no-op */
    cl_start(leader);
    leader = cl_wait_leader(c);
    p = cl_propose_bytes(leader, HF_RAFT_ENTRY_MAX - HF_RAFT_ENTRY_HEAD_BYTES - sizeof(p->value));
    hf_sim_run_ns(c->sim, SEC);
    assert_int_equal(p->end, CL_APPLIED);
    cl_start(away); /* gets both in one message, if they fit */
    hf_sim_run_ns(c->sim, 5 * SEC);
    cl_settle(c);
    cl_free(c);
}

/* Snapshots */

static void lag(struct cluster *c, struct cl_node **ret_n)
{
    c->keep_bytes = 1000;
    c->checkpoint_every = 20;
    cl_start_all(c);
    cl_fill(c, 30);
    *ret_n = cl_other(c, cl_leader(c));
    cl_kill(*ret_n, CL_POWER);
    cl_fill(c, 100);
    hf_sim_run_ns(c->sim, 2 * SEC);
    cl_fill(c, 30);
}

static void a_member_far_behind_gets_a_snapshot_while_others_go_on(void **state)
{
    struct cluster *c = cl_new(80, 3);
    struct cl_node *n;

    (void)state;
    c->pad_bytes = 3000000; /* several chunks */
    lag(c, &n);
    assert_true(cl_status(cl_leader(c)).base_index > 60);
    cl_start(n);
    cl_fill(c, 200);
    cl_settle(c);
    assert_true(n->snapshots_loaded > 0);
    cl_free(c);
}

static void a_crash_at_any_disk_call_of_an_installation_is_got_over(void **state)
{
    static const enum hf_sim_fault kinds[] = {HF_SIM_FAULT_POWER_CUT, HF_SIM_FAULT_CRASH,
                                              HF_SIM_FAULT_WRITE_EIO, HF_SIM_FAULT_SYNC_EIO};

    (void)state;
    for (uint32_t kind = 0; kind < 4; kind++) {
        uint32_t quiet = 0;

        for (uint64_t n = 0; quiet < 3; n++) {
            struct cluster *c = cl_new(1000 * kind + n, 3);
            struct hf_sim_disk *disk;
            struct cl_node *node;

            lag(c, &node);
            cl_start(node);
            disk = hf_sim_disk(node->env);
            hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n, kinds[kind]);
            hf_sim_run_ns(c->sim, 3 * SEC);
            quiet += node->snapshots_loaded > 0 && !hf_sim_disk_struck(disk);
            hf_sim_disk_clear_faults(disk);
            if (kind == 3 || n % 3 || hf_sim_disk_is_off(disk) || node->failed) {
                /* a directory that failed to sync stays so until then */
                cl_kill(node, kind == 3 || n % 2 ? CL_POWER : CL_CRASH);
                cl_start(node); /* without abstaining: nothing was lost */
            }
            cl_settle(c);
            cl_free(c);
        }
    }
}

static bool installs(void *ctx)
{
    const struct cl_node *n = ctx;

    return n->driver->incoming.installing || n->snapshots_loaded > 0;
}

static void closing_at_any_moment_of_an_installation_loses_nothing(void **state)
{
    bool installed = false;

    (void)state;
    for (uint32_t steps = 0; !installed; steps += 1 + steps / 16) {
        struct cluster *c = cl_new(1, 3);
        struct cl_node *n;

        lag(c, &n);
        cl_start(n);
        assert_true(hf_sim_run_until(c->sim, installs, n, 30 * SEC));
        for (uint32_t i = 0; i < steps; i++) {
            (void)hf_sim_step(c->sim);
        }
        installed = !n->driver->incoming.installing;
        cl_close(n);
        cl_start(n); /* without abstaining */
        cl_settle(c);
        cl_free(c);
    }
}

static bool loaded(void *ctx)
{
    return ((struct cl_node *)ctx)->snapshots_loaded > 0;
}

static bool saves(void *ctx)
{
    struct cl_node *leader = cl_leader(ctx);

    return leader && raft_transfer_saves(leader->driver);
}

static bool got_one(void *ctx)
{
    struct cluster *c = ctx;

    return c->nodes[0].snapshots_loaded + c->nodes[1].snapshots_loaded +
               c->nodes[2].snapshots_loaded >
           0;
}

static void the_log_is_not_trimmed_while_a_snapshot_is_saved(void **state)
{
    struct cluster *c = cl_new(83, 3);
    struct cl_node *n, *leader;
    uint64_t base;

    (void)state;
    lag(c, &n);
    c->save_ns = 2 * SEC; /* other checkpoints are ready long before */
    cl_start(n);
    assert_true(hf_sim_run_until(c->sim, saves, c, 30 * SEC));
    leader = cl_leader(c);
    base = cl_status(leader).base_index;
    cl_fill(c, 100);
    assert_int_equal(cl_status(leader).base_index, base);
    assert_true(hf_sim_run_until(c->sim, got_one, c, 3 * SEC)); /* the first that was asked for */
    cl_fill(c, 100);
    assert_true(cl_status(leader).base_index > base);
    cl_settle(c);
    cl_free(c);
}

static void a_snapshot_too_old_for_the_log_is_not_sent(void **state)
{
    struct cluster *c = cl_new(82, 3);
    struct cl_node *n;

    (void)state;
    lag(c, &n);
    c->stale_saves = true;
    cl_start(n);
    c->saves = 0;
    hf_sim_run_ns(c->sim, 3 * SEC);
    assert_in_range(c->saves, 2, 30); /* with the heartbeats */
    assert_int_equal(n->snapshots_loaded, 0);
    c->stale_saves = false;
    cl_settle(c);
    assert_int_equal(n->snapshots_loaded, 1);
    cl_free(c);
}

/* The file was renamed, its directory could not be synced: who knows what is on the disk? */
static void a_load_that_failed_late_is_no_lost_log(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct cluster *c = cl_new(84, 3);
        struct cl_node *n;

        lag(c, &n);
        c->late_loads = true;
        cl_start(n);
        hf_sim_run_ns(c->sim, 3 * SEC);
        assert_int_equal(n->snapshots_loaded, 0);
        c->late_loads = false;
        if (i == 0) {
            cl_kill(n, CL_POWER);
            cl_start(n); /* without abstaining */
        }
        cl_settle(c);
        cl_free(c);
    }
}

static void a_log_that_cannot_be_emptied_behind_a_snapshot_is_tried_again(void **state)
{
    struct cluster *c = cl_new(81, 3);
    struct cl_node *n;

    (void)state;
    lag(c, &n);
    cl_start(n);
    assert_true(hf_sim_run_until(c->sim, loaded, n, 30 * SEC));
    hf_sim_disk_fail_path(hf_sim_disk(n->env), 0, HF_SIM_FAULT_WRITE_EIO, "/log/");
    cl_fill(c, 10);
    assert_int_equal(hf_sim_disk_struck(hf_sim_disk(n->env)), 1);
    cl_settle(c);
    assert_false(n->failed);
    cl_free(c);
}

static int count_left(void *ctx, const char *name)
{
    *(uint32_t *)ctx += strncmp(name, "snapshot-", 9) == 0 || strcmp(name, "incoming") == 0;
    return 0;
}

static uint32_t left(struct cl_node *n)
{
    uint32_t count = 0;

    assert_int_equal(hf_disk_list(hf_env_disk(n->env), CL_DIR, count_left, &count), 0);
    return count;
}

static void what_a_crash_leaves_of_snapshots_is_removed(void **state)
{
    struct cluster *c = cl_new(85, 3);
    struct cl_node *n, *leader;

    (void)state;
    c->pad_bytes = 3000000;
    lag(c, &n);
    cl_start(n);
    leader = cl_leader(c);
    while (left(n) == 0 || left(leader) == 0) {
        (void)hf_sim_step(c->sim);
    }
    cl_kill(n, CL_CRASH);
    cl_kill(leader, CL_CRASH);
    assert_true(left(n) > 0 && left(leader) > 0);
    cl_start(n);
    cl_start(leader);
    assert_true(left(n) == 0 && left(leader) == 0);
    cl_settle(c);
    cl_free(c);
}

/* Digests */

/* As the leader has them. */
static struct hf_raft_compared compared(struct cluster *c, const struct cl_node *with)
{
    const struct hf_raft_driver_status status = cl_status(cl_leader(c));
    uint32_t i = 0;

    while (status.config.members[i].id.v != with->id.v) {
        i++;
        assert_true(i < status.config.count);
    }
    return status.compared[i];
}

static bool told(struct cluster *c, const struct cl_node *of)
{
    const struct hf_raft_driver *d = cl_leader(c)->driver;

    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        if (d->others[i].node.v == of->id.v) {
            return d->others[i].told;
        }
    }
    return false;
}

static uint32_t errors_said; /* may be fewer than there were: lines are limited by time */

static void count_errors(void *ctx, const char *line)
{
    errors_said += strstr(line, "replicas differ") || strstr(line, "taken out");
    cl_no_line(ctx, line);
}

static struct cluster *cluster_with_digests(uint64_t seed, uint32_t count)
{
    struct cluster *c = cl_new(seed, count);

    errors_said = 0;
    hf_log_set_sink(count_errors, NULL);
    c->digest_every = 4;
    cl_start_all(c);
    cl_fill(c, 20);
    cl_settle(c);
    hf_sim_run_ns(c->sim, 3 * SEC);
    return c;
}

static bool is_out(void *ctx)
{
    const struct hf_raft_driver_status status = cl_status(ctx);

    return status.taken_out && status.state == HF_RAFT_FAILED;
}

/* It stays out over a restart, and is whole again when it began with nothing. */
static void stays_out_until_filled_anew(struct cluster *c, struct cl_node *n)
{
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 0) {
            cl_kill(n, CL_POWER);
        } else {
            cl_close(n);
        }
        cl_start(n);
        cl_fill(c, 10);
        hf_sim_run_ns(c->sim, 5 * SEC);
        assert_true(is_out(n));
        assert_true(n->failed);
        assert_true(compared(c, n).taken_out);
    }
    cl_close(n);
    lose(n, LOST_ALL);
    n->damage = 0;
    comes_back(n);
    cl_fill(c, 10);
    cl_settle(c);
    hf_sim_run_ns(c->sim, 3 * SEC);
    assert_false(compared(c, n).taken_out);
    assert_true(compared(c, n).index > 0 && compared(c, n).equal);
}

static void equal_digests_are_silent(void **state)
{
    struct cluster *c = cluster_with_digests(110, 3);

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct cl_node *n = &c->nodes[i];

        assert_int_equal(cl_status(n).state, HF_RAFT_RUNNING);
        assert_false(cl_status(n).taken_out);
        assert_true(n == cl_leader(c) || (compared(c, n).equal && compared(c, n).index >= 16));
    }
    assert_int_equal(errors_said, 0);
    cl_free(c);
}

static void a_follower_that_differs_is_taken_out_until_it_is_filled_anew(void **state)
{
    struct cluster *c = cluster_with_digests(111, 3);
    struct cl_node *leader = cl_leader(c), *n = cl_other(c, leader);

    (void)state;
    n->damage = 1;
    cl_fill(c, 8);
    assert_true(hf_sim_run_until(c->sim, is_out, n, 5 * SEC));
    hf_sim_run_ns(c->sim, 3 * SEC);
    assert_true(n->failed);
    assert_true(told(c, n));
    assert_in_range(errors_said, 0, 2); /* by the leader, and by itself */
    assert_ptr_equal(cl_leader(c), leader);
    assert_true(compared(c, n).taken_out && !compared(c, n).equal);
    stays_out_until_filled_anew(c, n);
    cl_free(c);
}

static void a_leader_that_differs_steps_down_and_is_taken_out(void **state)
{
    struct cluster *c = cluster_with_digests(112, 3);
    struct cl_node *n = cl_leader(c);
    const uint32_t follows = n->follows;
    struct cl_proposal *p;

    (void)state;
    n->damage = 1;
    cl_fill(c, 8);
    assert_true(hf_sim_run_until(c->sim, is_out, n, 5 * SEC));
    assert_true(n->failed && !n->leading);
    assert_int_equal(n->follows, follows + 1); /* who asks it is sent on */
    p = cl_propose(n);
    assert_ptr_not_equal(cl_wait_leader(c), n);
    assert_int_equal(p->end, CL_FAILED);
    stays_out_until_filled_anew(c, n);
    cl_free(c);
}

static void a_difference_that_nobody_decides_is_only_told(void **state)
{
    struct cluster *c = cluster_with_digests(113, 3);
    struct cl_node *n;

    (void)state;
    cl_kill(cl_other(c, cl_leader(c)), CL_POWER);
    hf_sim_run_ns(c->sim, 10 * SEC);
    n = cl_leader(c) == &c->nodes[2] ? cl_other(c, cl_leader(c)) : &c->nodes[2];
    n = n->driver ? n : &c->nodes[1];
    n->damage = 1;
    cl_fill(c, 20);
    hf_sim_run_ns(c->sim, 20 * SEC);
    assert_true(told(c, n));
    assert_in_range(errors_said, 0, 1); /* once */
    assert_true(compared(c, n).index > 0 && !compared(c, n).equal);
    assert_int_equal(cl_status(n).state, HF_RAFT_RUNNING);
    assert_int_equal(cl_status(cl_leader(c)).state, HF_RAFT_RUNNING);
    cl_fill(c, 4);
    n->damage = 0; /* the same again: that counts from the next digest on */
    cl_fill(c, 8);
    hf_sim_run_ns(c->sim, 3 * SEC);
    assert_true(compared(c, n).equal);
    cl_start_all(c);
    cl_settle(c);
    cl_free(c);
}

/* Two agreed, and one of them is gone: without the third there would be no majority. */
static void a_majority_that_is_gone_decides_nothing(void **state)
{
    struct cluster *c = cluster_with_digests(114, 3);
    struct cl_node *leader = cl_leader(c), *n = cl_other(c, leader);
    struct cl_node *third = &c->nodes[3 - (leader - c->nodes) - (n - c->nodes)];
    struct raft_digests *own = &n->driver->digests;

    (void)state;
    cl_kill(third, CL_POWER);
    hf_sim_run_ns(c->sim, 10 * SEC);
    own->list[own->count - 1].value++;
    hf_sim_run_ns(c->sim, 10 * SEC);
    assert_int_equal(cl_status(n).state, HF_RAFT_RUNNING);
    n->damage = 1;
    cl_fill(c, 20);
    hf_sim_run_ns(c->sim, 10 * SEC);
    assert_int_equal(cl_status(n).state, HF_RAFT_RUNNING);
    assert_int_equal(cl_status(cl_leader(c)).state, HF_RAFT_RUNNING);
    cl_start(third); /* it notes again what comes from now on */
    cl_fill(c, 20);
    assert_true(hf_sim_run_until(c->sim, is_out, n, 10 * SEC));
    stays_out_until_filled_anew(c, n);
    cl_free(c);
}

static void three_of_five_that_all_differ_take_nobody_out(void **state)
{
    struct cluster *c = cluster_with_digests(115, 5);

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        c->nodes[i].damage = i + 1;
    }
    cl_fill(c, 20);
    hf_sim_run_ns(c->sim, 20 * SEC);
    assert_true(told(c, &c->nodes[cl_leader(c) == &c->nodes[1] ? 2 : 1]));
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(cl_status(&c->nodes[i]).state, HF_RAFT_RUNNING);
    }
    c->nodes[0].damage = 0; /* three of five agree now */
    cl_fill(c, 20);
    assert_true(hf_sim_run_until(c->sim, is_out, &c->nodes[1], 10 * SEC));
    assert_true(hf_sim_run_until(c->sim, is_out, &c->nodes[2], 10 * SEC));
    hf_sim_run_ns(c->sim, 10 * SEC);
    cl_fill(c, 20);
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(is_out(&c->nodes[i]) == (i == 1 || i == 2));
    }
    cl_free(c);
}

static void two_that_agree_are_no_majority_of_five(void **state)
{
    struct cluster *c = cluster_with_digests(117, 5);
    struct cl_node *n = cl_other(c, cl_leader(c)), *away[2];
    uint32_t count = 0;

    (void)state;
    for (uint32_t i = 0; count < 2; i++) {
        if (&c->nodes[i] != n && &c->nodes[i] != cl_leader(c)) {
            away[count++] = &c->nodes[i];
            cl_close(&c->nodes[i]);
        }
    }
    n->damage = 1;
    cl_fill(c, 20);
    hf_sim_run_ns(c->sim, 20 * SEC);
    assert_true(told(c, n));
    assert_in_range(errors_said, 0, 1); /* once */
    assert_int_equal(cl_status(n).state, HF_RAFT_RUNNING);
    cl_start(away[0]);
    cl_fill(c, 20);
    assert_true(hf_sim_run_until(c->sim, is_out, n, 10 * SEC));
    cl_start(away[1]);
    stays_out_until_filled_anew(c, n);
    cl_free(c);
}

static void after_a_snapshot_digests_begin_anew(void **state)
{
    struct cluster *c = cl_new(116, 3);
    struct cl_node *n;
    uint64_t before;

    (void)state;
    c->digest_every = 4;
    c->keep_bytes = 1000;
    c->checkpoint_every = 20;
    cl_start_all(c);
    cl_fill(c, 30);
    n = cl_other(c, cl_leader(c));
    for (uint32_t i = 0; i < 3; i++) {
        c->cut[n->id.v - 1][i] = c->cut[i][n->id.v - 1] = true;
    }
    before = n->state.index;
    assert_true(n->driver->digests.count > 0);
    cl_fill(c, 100);
    hf_sim_run_ns(c->sim, 2 * SEC);
    cl_fill(c, 30);
    memset(c->cut, 0, sizeof(c->cut));
    cl_settle(c);
    cl_fill(c, 10);
    assert_true(n->snapshots_loaded > 0);
    assert_true(n->driver->digests.count > 0);
    assert_true(n->driver->digests.list[0].index > before + 20);
    hf_sim_run_ns(c->sim, 3 * SEC);
    assert_true(n == cl_leader(c) || (compared(c, n).equal && compared(c, n).index > before));
    cl_free(c);
}

/* Members */

static void a_fourth_member_is_added_and_one_removed(void **state)
{
    struct cluster *c = cl_new(90, 4);
    struct cl_node *leader, *gone;
    const char *why;

    (void)state;
    c->keep_bytes = 1000;
    c->checkpoint_every = 20;
    for (uint32_t i = 0; i < 3; i++) {
        c->nodes[i].member_count = 3;
        cl_start(&c->nodes[i]);
    }
    cl_fill(c, 100);
    c->nodes[3].must_join = true;
    c->nodes[3].damaged = true; /* a new store abstains */
    cl_start(&c->nodes[3]);
    hf_sim_run_ns(c->sim, 5 * SEC);
    assert_true(cl_status(&c->nodes[3]).abstaining);
    leader = cl_leader(c);
    assert_int_equal(hf_raft_driver_add(leader->driver, (struct hf_node_id){2}, &why), -EEXIST);
    assert_non_null(why);
    assert_int_equal(hf_raft_driver_add(leader->driver, (struct hf_node_id){4}, &why), 0);
    assert_true(hf_sim_run_until(c->sim, is_whole, &c->nodes[3], 60 * SEC));
    c->nodes[3].damaged = false;
    cl_fill(c, 10);
    cl_settle(c);
    leader = cl_leader(c);
    gone = cl_other(c, leader);
    assert_int_equal(hf_raft_driver_remove(leader->driver, gone->id, &why), 0);
    assert_null(why);
    hf_sim_run_ns(c->sim, SEC);
    cl_close(gone);
    cl_fill(c, 10);
    assert_int_equal(cl_leader(c)->state.config.count, 3);
    c->chatty = false;
    hf_sim_run_ns(c->sim, 2 * SEC);
    cl_free(c);
}

static void leadership_is_handed_over(void **state)
{
    struct cluster *c = cl_new(91, 3);
    struct cl_node *leader, *next;
    const char *why;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 10);
    leader = cl_wait_leader(c);
    next = cl_other(c, leader);
    assert_int_equal(hf_raft_driver_transfer(next->driver, leader->id, &why), -HF_ENOTLEADER);
    assert_int_equal(hf_raft_driver_transfer(leader->driver, next->id, &why), 0);
    (void)cl_propose(leader); /* waits, and ends */
    hf_sim_run_ns(c->sim, SEC);
    assert_ptr_equal(cl_leader(c), next);
    cl_settle(c);
    cl_free(c);
}

/* Closing */

static void closing_with_everything_in_flight_ends_everything(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct cluster *c = cl_new(300 + seed, 3);
        struct cl_node *n;

        c->pad_bytes = 2500000;
        lag(c, &n);
        c->chatty = true;
        cl_start(n);
        for (uint32_t i = 0; i < 40; i++) {
            (void)cl_propose(cl_wait_leader(c));
            cl_read(cl_leader(c));
        }
        hf_sim_run_ns(c->sim, hf_sim_random_below(c->sim, 100 * MSEC));
        for (uint32_t i = 0; i < 3; i++) {
            cl_close(&c->nodes[(i + seed) % 3]);
        }
        c->chatty = false;
        cl_start_all(c); /* nobody abstains */
        cl_settle(c);
        cl_free(c);
    }
}

/* Also when the disk fails meanwhile: the machine hears nothing any more, nobody is asked. */
static void closing_at_any_moment_of_founding_ends_quietly(void **state)
{
    (void)state;
    for (uint32_t steps = 0; steps < 120; steps++) {
        struct cluster *c = cl_new(600 + steps, 3);
        struct cl_node *n = &c->nodes[steps % 3];

        cl_start_all(c);
        for (uint32_t i = 0; i < steps; i++) {
            (void)hf_sim_step(c->sim);
        }
        for (uint32_t i = 0; i < 8; i++) {
            hf_sim_disk_fail_at(hf_sim_disk(n->env), 0, HF_SIM_FAULT_WRITE_EIO);
        }
        cl_close(n);
        cl_kill(n, CL_POWER);
        cl_start(n);
        cl_fill(c, 3);
        cl_settle(c);
        cl_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_empty_stores_found_a_cluster),
        cmocka_unit_test(five_do_and_one_alone_does),
        cmocka_unit_test(founding_waits_for_a_missing_peer_and_names_it),
        cmocka_unit_test(a_store_with_objects_of_a_lost_cluster_founds_none),
        cmocka_unit_test(a_power_cut_at_any_disk_call_of_founding_founds_one_cluster),
        cmocka_unit_test(a_power_cut_at_any_disk_call_of_founding_alone_is_got_over),
        cmocka_unit_test(a_lost_store_abstains_learns_and_votes_again),
        cmocka_unit_test(a_store_is_whole_only_when_its_disk_says_so),
        cmocka_unit_test(an_only_voter_that_lost_its_vote_goes_on),
        cmocka_unit_test(an_only_voter_that_lost_its_log_is_not_opened),
        cmocka_unit_test(two_lost_stores_of_three_elect_nobody),
        cmocka_unit_test(a_flipped_record_makes_a_member_abstain),
        cmocka_unit_test(a_leader_killed_under_proposals_loses_nothing_answered),
        cmocka_unit_test(a_leader_cut_off_fails_what_it_cannot_commit),
        cmocka_unit_test(a_write_error_deposes_a_leader_and_all_go_on),
        cmocka_unit_test(a_leader_whose_disk_gives_up_fails_and_another_goes_on),
        cmocka_unit_test(a_follower_with_a_full_disk_catches_up_when_there_is_room),
        cmocka_unit_test(a_vote_that_cannot_be_written_holds_few_messages),
        cmocka_unit_test(what_the_core_does_not_take_yet_waits_in_order),
        cmocka_unit_test(the_largest_entry_behind_a_new_leaders_no_op_gets_through),
        cmocka_unit_test(a_member_far_behind_gets_a_snapshot_while_others_go_on),
        cmocka_unit_test(a_crash_at_any_disk_call_of_an_installation_is_got_over),
        cmocka_unit_test(closing_at_any_moment_of_an_installation_loses_nothing),
        cmocka_unit_test(the_log_is_not_trimmed_while_a_snapshot_is_saved),
        cmocka_unit_test(a_snapshot_too_old_for_the_log_is_not_sent),
        cmocka_unit_test(a_load_that_failed_late_is_no_lost_log),
        cmocka_unit_test(a_log_that_cannot_be_emptied_behind_a_snapshot_is_tried_again),
        cmocka_unit_test(what_a_crash_leaves_of_snapshots_is_removed),
        cmocka_unit_test(equal_digests_are_silent),
        cmocka_unit_test(a_follower_that_differs_is_taken_out_until_it_is_filled_anew),
        cmocka_unit_test(a_leader_that_differs_steps_down_and_is_taken_out),
        cmocka_unit_test(a_difference_that_nobody_decides_is_only_told),
        cmocka_unit_test(a_majority_that_is_gone_decides_nothing),
        cmocka_unit_test(three_of_five_that_all_differ_take_nobody_out),
        cmocka_unit_test(two_that_agree_are_no_majority_of_five),
        cmocka_unit_test(after_a_snapshot_digests_begin_anew),
        cmocka_unit_test(a_fourth_member_is_added_and_one_removed),
        cmocka_unit_test(leadership_is_handed_over),
        cmocka_unit_test(closing_at_any_moment_of_founding_ends_quietly),
        cmocka_unit_test(closing_with_everything_in_flight_ends_everything),
    };

    cmocka_set_test_filter(getenv("HF_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
