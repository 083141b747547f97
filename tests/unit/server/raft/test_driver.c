/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers in one world, one situation each. What must always hold, cluster.h checks meanwhile;
 * test_driver_random.c throws chance at it. Snapshots and digests: test_driver_snapshots.c.
 */
#include "tests/lib/dies.h"
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

/* With checkpoints and without. */
static void a_lost_store_abstains_learns_and_votes_again(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2 * CL_LOSSES; i++) {
        struct cluster *c = cl_new(20 + i, 3);
        struct cl_node *n;

        c->checkpoint_every = i % 2 ? 10 : 100000;
        cl_start_all(c);
        cl_fill(c, 40);
        n = cl_other(c, cl_leader(c));
        cl_lose(n, (enum cl_loss)(i / 2));
        n->damaged = true;
        cl_start(n);
        hf_sim_run_ns(c->sim, 100 * MSEC);
        assert_true(cl_status(n).abstaining);
        assert_true(hf_sim_run_until(c->sim, cl_is_whole, n, 60 * SEC));
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
    cl_lose(n, CL_LOST_ALL);
    n->damaged = true;
    cl_start(n);
    assert_true(hf_sim_run_until(c->sim, goes_on_whole, n, 60 * SEC));
    hf_sim_disk_fail_path(hf_sim_disk(n->env), 0, HF_SIM_FAULT_WRITE_EIO, "/vote/", NULL);
    assert_true(hf_sim_run_until(c->sim, cl_is_whole, n, 60 * SEC)); /* a voter */
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
        cl_lose(&c->nodes[0], CL_LOST_VOTE);
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
        cl_lose(&c->nodes[0], CL_LOST_LOG);
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
            cl_lose(&c->nodes[i], CL_LOST_ALL);
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

/* Of three, one that does not lead has lost power. */
static struct cl_node *follower_without_power(struct cluster *c)
{
    struct cl_node *n;

    c->checkpoint_every = 100000;
    cl_start_all(c);
    cl_fill(c, 40);
    n = cl_other(c, cl_leader(c));
    cl_kill(n, CL_POWER);
    return n;
}

/* What it promised is not known any more. */
static void abstains_until_it_is_whole(struct cl_node *n)
{
    struct hf_raft_driver_status status;

    n->damaged = true;
    cl_start(n);
    hf_raft_driver_status(n->driver, &status);
    assert_true(status.abstaining);
    assert_true(hf_sim_run_until(n->c->sim, cl_is_whole, n, 60 * SEC));
    n->damaged = false;
    cl_settle(n->c);
}

static void a_flipped_record_makes_a_member_abstain(void **state)
{
    struct cluster *c = cl_new(31, 3);
    struct cl_node *n = follower_without_power(c);

    (void)state;
    assert_int_equal(
        hf_sim_disk_flip(hf_sim_disk(n->env), CL_DIR "/log/0000000001.seg", 5 * 4096 + 100, 1), 0);
    abstains_until_it_is_whole(n);
    cl_free(c);
}

/* A record that cannot be told from one that was torn goes, and the one before says "new". */
static void a_member_whose_votes_look_torn_abstains(void **state)
{
    struct cluster *c = cl_new(32, 3);
    struct cl_node *n = follower_without_power(c);
    uint64_t record = 1;

    (void)state;
    while (hf_sim_disk_flip(hf_sim_disk(n->env), CL_DIR "/vote/0000000001.seg",
                            (2 + record) * 4096 + 3244, 1) == 0) {
        record++;
    }
    assert_true(record > 1); /* the first says "new" */
    abstains_until_it_is_whole(n);
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
        hf_sim_disk_fail_path(hf_sim_disk(leader->env), 0, kinds[i % 2], "/log/", NULL);
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
        hf_sim_disk_fail_path(hf_sim_disk(leader->env), 0, HF_SIM_FAULT_WRITE_EIO, "/log/", NULL);
    }
    p = cl_propose(leader);
    hf_sim_run_ns(c->sim, 10 * SEC);
    assert_int_equal(p->end, CL_FAILED);
    assert_int_equal(p->err, -HF_ENOTLEADER);
    assert_true(leader->failed && leader->follows > 0);
    assert_int_equal(cl_status(leader).state, HF_RAFT_FAILED);
    p = cl_propose(leader);
    hf_sim_run_ns(c->sim, SEC);
    assert_int_equal(p->err, -HF_ENOTLEADER); /* the others can lead */
    cl_fill(c, 10);
    cl_close(leader);
    cl_kill(leader, CL_POWER);
    cl_start(leader);
    cl_settle(c);
    cl_free(c);
}

static void a_leader_whose_machine_cannot_lead_fails_and_another_goes_on(void **state)
{
    struct cluster *c = cl_new(69, 3);
    struct cl_node *next = NULL;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 10);
    for (uint32_t i = 0; i < c->count; i++) {
        c->nodes[i].cannot_lead = !c->nodes[i].leading;
    }
    cl_kill(cl_leader(c), CL_POWER);
    for (uint32_t i = 0; i < 600 && !next; i++) {
        hf_sim_run_ns(c->sim, 100 * MSEC);
        for (uint32_t k = 0; k < c->count; k++) {
            next = c->nodes[k].failed ? &c->nodes[k] : next;
        }
    }
    assert_non_null(next);
    assert_false(next->leading);
    assert_int_equal(cl_status(next).state, HF_RAFT_FAILED);
    for (uint32_t i = 0; i < c->count; i++) {
        c->nodes[i].cannot_lead = false;
        if (!c->nodes[i].driver) {
            cl_start(&c->nodes[i]);
        }
    }
    cl_fill(c, 10); /* the two others */
    cl_close(next);
    cl_kill(next, CL_POWER);
    cl_start(next);
    cl_settle(c);
    cl_free(c);
}

static void a_leader_whose_machine_gives_up_follows_and_another_goes_on(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) { /* between steps; in one */
        struct cluster *c = cl_new(90 + i, 3);
        struct cl_node *n;
        struct cl_proposal *p;

        cl_start_all(c);
        cl_fill(c, 10);
        n = cl_leader(c);
        p = cl_propose(n);
        if (i) {
            n->gives_up = true;
            hf_sim_run_ns(c->sim, SEC);
            assert_int_equal(p->end, CL_APPLIED);
        } else {
            hf_raft_driver_give_up(n->driver, -EBADMSG);
            assert_int_equal(p->end, CL_FAILED);
            assert_int_equal(p->err, -HF_ENOTLEADER);
        }
        assert_true(n->failed && n->follows == 1);
        assert_int_equal(cl_status(n).state, HF_RAFT_FAILED);
        hf_raft_driver_give_up(n->driver, -EBADMSG); /* it is told once */
        cl_fill(c, 10);
        cl_close(n);
        cl_kill(n, CL_POWER);
        cl_start(n);
        cl_settle(c);
        cl_free(c);
    }
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
    assert_true(hf_sim_run_until(c->sim, cl_is_whole, &c->nodes[3], 60 * SEC));
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
        cl_lag(c, &n);
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

/* What hf_raft_driver_check_invariants() is for */

static void an_unbroken_driver(void *ctx)
{
    hf_raft_driver_check_invariants(ctx);
}

static void an_item_that_the_core_does_not_know(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    raft_items_cut(&d->items, raft_items_last(&d->items));
    hf_raft_driver_check_invariants(d);
}

static void a_durable_entry_without_a_record(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    raft_items_get(&d->items, raft_items_last(&d->items))->seq = UINT64_MAX;
    hf_raft_driver_check_invariants(d);
}

static void bytes_that_are_not_there(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    d->items.bytes++;
    hf_raft_driver_check_invariants(d);
}

static void a_write_that_nobody_made(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    d->writes++;
    hf_raft_driver_check_invariants(d);
}

static void a_vote_that_is_not_the_cores(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    d->hard.term--;
    hf_raft_driver_check_invariants(d);
}

static void an_applied_entry_that_is_not_committed(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    d->applied++;
    hf_raft_driver_check_invariants(d);
}

static void broken_invariants_are_found(void **state)
{
    struct cluster *c = cl_new(99, 3);
    struct hf_raft_driver *d;

    (void)state;
    cl_start_all(c);
    cl_fill(c, 20);
    cl_settle(c);
    d = cl_leader(c)->driver;
    assert_false(dies(an_unbroken_driver, d));
    assert_true(dies(an_item_that_the_core_does_not_know, d));
    assert_true(dies(a_durable_entry_without_a_record, d));
    assert_true(dies(bytes_that_are_not_there, d));
    assert_true(dies(a_write_that_nobody_made, d));
    assert_true(dies(a_vote_that_is_not_the_cores, d));
    assert_true(dies(an_applied_entry_that_is_not_committed, d));
    cl_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_invariants_are_found),
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
        cmocka_unit_test(a_member_whose_votes_look_torn_abstains),
        cmocka_unit_test(a_leader_killed_under_proposals_loses_nothing_answered),
        cmocka_unit_test(a_leader_cut_off_fails_what_it_cannot_commit),
        cmocka_unit_test(a_write_error_deposes_a_leader_and_all_go_on),
        cmocka_unit_test(a_leader_whose_disk_gives_up_fails_and_another_goes_on),
        cmocka_unit_test(a_leader_whose_machine_cannot_lead_fails_and_another_goes_on),
        cmocka_unit_test(a_leader_whose_machine_gives_up_follows_and_another_goes_on),
        cmocka_unit_test(a_follower_with_a_full_disk_catches_up_when_there_is_room),
        cmocka_unit_test(a_vote_that_cannot_be_written_holds_few_messages),
        cmocka_unit_test(what_the_core_does_not_take_yet_waits_in_order),
        cmocka_unit_test(the_largest_entry_behind_a_new_leaders_no_op_gets_through),
        cmocka_unit_test(a_fourth_member_is_added_and_one_removed),
        cmocka_unit_test(leadership_is_handed_over),
        cmocka_unit_test(closing_at_any_moment_of_founding_ends_quietly),
        cmocka_unit_test(closing_with_everything_in_flight_ends_everything),
    };

    cmocka_set_test_filter(getenv("HF_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
