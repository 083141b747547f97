/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/raft/fixture.h"

static struct fx fx;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

static void lead(void)
{
    fx_open(&fx);
    fx_elect(&fx);
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
}

/* Node 2 holds everything, and it is on this disk too. */
static void settle(void)
{
    fx_flush(&fx);
    fx_ack(&fx, 2, hf_raft_last_index(fx.r));
    assert_int_equal(hf_raft_commit_index(fx.r), hf_raft_last_index(fx.r));
}

static void nothing_changes_before_an_entry_of_the_leaders_term(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 4), -EAGAIN);
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 4), 0);
}

static void one_change_at_a_time(void **state)
{
    (void)state;
    lead();
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 4), 0);
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 5), -EBUSY);
    settle();
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 5), 0);
}

static void a_learner_is_promoted_once_it_caught_up_and_not_counted_before(void **state)
{
    (void)state;
    lead();
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 4), 0);
    settle();
    assert_int_equal(fx_change(&fx, HF_RAFT_PROMOTE, 4), -EAGAIN);
    assert_int_equal(fx_propose(&fx, 1, 10), 0);
    fx_ack(&fx, 4, 2);
    fx_ack(&fx, 4, 3); /* two of four hold entry 3, one of three voters */
    assert_int_equal(hf_raft_commit_index(fx.r), 2);
    settle();
    assert_int_equal(fx_change(&fx, HF_RAFT_PROMOTE, 4), 0);
    assert_true(hf_raft_config_has(hf_raft_config(fx.r, NULL), node(4), HF_RAFT_VOTER));
    assert_int_equal(fx_change(&fx, HF_RAFT_PROMOTE, 9), -EBUSY);
}

static void a_removed_leader_goes_when_that_is_committed(void **state)
{
    (void)state;
    lead();
    fx_ack(&fx, 3, 1);
    fx_ack(&fx, 2, 1);
    assert_int_equal(fx_change(&fx, HF_RAFT_REMOVE, 1), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_LEADER);
    fx_flush(&fx);
    fx_ack(&fx, 2, 2);
    assert_int_equal(hf_raft_commit_index(fx.r), 1); /* both that are left must hold it */
    fx_ack(&fx, 3, 2);
    assert_int_equal(hf_raft_commit_index(fx.r), 2);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

/* Found by the simulation: with two voters the other cannot win without this one's longer log. */
static void a_voter_that_left_by_an_uncommitted_entry_still_stands(void **state)
{
    struct hf_raft_config next = voters(2);

    (void)state;
    fx_init(&fx, 2);
    next.members[0].kind = HF_RAFT_LEARNER;
    fx.heads[0] = (struct hf_raft_head){
        .term = 1, .bytes = 40, .type = HF_RAFT_ENTRY_CONFIG, .config = &next};
    fx.start.count = 1;
    fx.start.term = 1;
    fx_open(&fx);
    assert_int_equal(fx_tick(&fx, 2 * TIMEOUT), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_PRE_CANDIDATE);
}

static void the_last_voter_stays(void **state)
{
    (void)state;
    fx_init(&fx, 1);
    fx_open(&fx);
    assert_int_equal(fx_persisted(&fx, fx_persist_seq(&fx), 0), 0);
    fx_flush(&fx);
    assert_int_equal(fx_change(&fx, HF_RAFT_REMOVE, 1), -EPERM);
    assert_int_equal(fx_change(&fx, HF_RAFT_REMOVE, 7), -ENOENT);
    assert_int_equal(fx_change(&fx, HF_RAFT_ADD_LEARNER, 1), -EEXIST);
}

static void a_healthy_voter_is_not_taken_from_a_bare_majority(void **state)
{
    (void)state;
    lead(); /* nothing was ever heard from node 3 */
    fx_ack(&fx, 2, 1);
    assert_int_equal(fx_change(&fx, HF_RAFT_REMOVE, 2), -EAGAIN);
    assert_int_equal(fx_change(&fx, HF_RAFT_REMOVE, 3), 0);
}

static void an_abstaining_voter_is_not_counted_and_can_be_demoted(void **state)
{
    struct hf_raft_peer_status s;
    uint64_t prev, round, stream;

    (void)state;
    lead();
    stream = fx_stream(&fx, 3, &prev, &round);
    assert_int_equal(fx_result(&fx, 3, 1, HF_RAFT_ABSTAIN, 0, prev, 0, stream, round), 0);
    assert_int_equal(hf_raft_peer(fx.r, node(3), &s), 0);
    assert_true(s.abstaining);
    fx_ack(&fx, 2, 1);
    assert_int_equal(fx_change(&fx, HF_RAFT_DEMOTE, 3), 0);
    settle();
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 3)->u.append.rejoin_index, 2);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 3)->u.append.incarnation, 103);
}

/* Found by the simulation: the answer came behind one that said that it is well. */
static void a_late_word_of_abstaining_starts_the_peer_over(void **state)
{
    struct hf_raft_peer_status s;
    uint64_t prev, round, stream;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 2, 10), 0);
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_ABSTAIN, 0, prev, 0, stream, round), 0);
    assert_int_equal(hf_raft_peer(fx.r, node(2), &s), 0);
    assert_int_equal(s.inflight_msgs, 0);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 3, prev, 0, stream, round), 0);
    assert_int_equal(hf_raft_peer(fx.r, node(2), &s), 0);
    assert_int_equal(s.match_index, 0); /* of the stream that ended */
    fx_ack(&fx, 2, 3);
    assert_int_equal(hf_raft_peer(fx.r, node(2), &s), 0);
    assert_int_equal(s.match_index, 3);
    assert_false(s.abstaining);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_changes_before_an_entry_of_the_leaders_term),
        T(one_change_at_a_time),
        T(a_learner_is_promoted_once_it_caught_up_and_not_counted_before),
        T(a_removed_leader_goes_when_that_is_committed),
        T(a_voter_that_left_by_an_uncommitted_entry_still_stands),
        T(the_last_voter_stays),
        T(a_healthy_voter_is_not_taken_from_a_bare_majority),
        T(an_abstaining_voter_is_not_counted_and_can_be_demoted),
        T(a_late_word_of_abstaining_starts_the_peer_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
