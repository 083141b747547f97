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

static void a_lone_voter_leads_once_its_vote_is_durable(void **state)
{
    (void)state;
    fx_init(&fx, 1);
    fx_open(&fx); /* it waits for nobody */
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_CANDIDATE);
    assert_int_equal(fx_persisted(&fx, fx_persist_seq(&fx), 0), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_LEADER);
    assert_int_equal(hf_raft_commit_index(fx.r), 0);
    fx_flush(&fx);
    assert_int_equal(hf_raft_commit_index(fx.r), 1);
}

static void a_pre_vote_changes_no_term(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_tick(&fx, 2 * TIMEOUT), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_PRE_CANDIDATE);
    assert_int_equal(hf_raft_term(fx.r), 0);
    assert_non_null(fx_sent(&fx, HF_RAFT_MSG_PREVOTE, 2));
    assert_int_equal(fx_persist_seq(&fx), 0);
}

static void a_broken_connection_to_the_leader_starts_an_election_soon(void **state)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_UNREACHABLE};

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, 0, 0, 0), 0);
    assert_int_equal(hf_raft_leader(fx.r).v, 2);
    assert_int_equal(fx_persisted(&fx, fx_persist_seq(&fx), 0), 0);
    e.u.unreachable.peer = node(3); /* of another: nothing */
    assert_int_equal(fx_event(&fx, &e), 0);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 4), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
    e.u.unreachable.peer = node(2);
    assert_int_equal(fx_event(&fx, &e), 0);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 4), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_PRE_CANDIDATE);
    assert_int_equal(hf_raft_term(fx.r), 1);
}

static void one_vote_in_a_term(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_vote(&fx, 2, 1, 0, 0, false), 0);
    assert_true(fx_granted(&fx, 2));
    assert_int_equal(fx_vote(&fx, 3, 1, 9, 0, false), 0);
    assert_false(fx_granted(&fx, 3));
    assert_int_equal(fx_vote(&fx, 2, 1, 0, 0, false), 0); /* again: the same answer */
    assert_true(fx_granted(&fx, 2));
}

static void a_vote_waits_for_its_persist(void **state)
{
    const struct hf_raft_action *send;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_vote(&fx, 2, 1, 0, 0, false), 0);
    send = fx_act(&fx, HF_RAFT_ACT_SEND, 0);
    assert_non_null(send);
    assert_int_not_equal(fx_persist_seq(&fx), 0);
    assert_int_equal(send->u.send.persist_seq, fx_persist_seq(&fx));
}

static void an_older_log_gets_no_vote(void **state)
{
    (void)state;
    fx_log(&fx, (uint64_t[]){1, 2}, 2);
    fx_open(&fx);
    assert_int_equal(fx_vote(&fx, 2, 3, 5, 1, false), 0);
    assert_false(fx_granted(&fx, 2));
    assert_int_equal(fx_vote(&fx, 3, 3, 2, 2, false), 0);
    assert_true(fx_granted(&fx, 3));
}

static void who_hears_a_leader_ignores_candidates(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, NULL, 0, 0), 0);
    assert_int_equal(fx_vote(&fx, 3, 5, 9, 4, false), 0);
    assert_int_equal(hf_raft_term(fx.r), 1);
    assert_int_equal(fx.a.count, 0);
    fx.now += TIMEOUT;
    assert_int_equal(fx_vote(&fx, 3, 5, 9, 4, false), 0);
    assert_true(fx_granted(&fx, 3));
}

static void a_leader_without_a_quorum_steps_down(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    fx_flush(&fx);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 2), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_LEADER);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 2), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

static void a_leader_whose_disk_stalls_steps_down(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx); /* its no-op never becomes durable */
    for (int i = 0; i < 4; i++) {
        fx_ack(&fx, 2, 1);
        assert_int_equal(hf_raft_role(fx.r), HF_RAFT_LEADER);
    }
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
    assert_int_equal(fx_tick(&fx, 2 * TIMEOUT), 0); /* nor does it stand again */
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

/* PLATFORM: election by a node whose disk is slow. */
static void votes_of_others_do_not_elect_a_node_whose_own_vote_is_not_durable(void **state)
{
    uint64_t seq;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_tick(&fx, 2 * TIMEOUT), 0);
    assert_int_equal(fx_vote_result(&fx, HF_RAFT_MSG_PREVOTE_RESULT, 2, 1, true), 0);
    seq = fx_persist_seq(&fx);
    assert_int_equal(fx_vote_result(&fx, HF_RAFT_MSG_VOTE_RESULT, 2, 1, true), 0);
    assert_int_equal(fx_vote_result(&fx, HF_RAFT_MSG_VOTE_RESULT, 3, 1, true), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_CANDIDATE);
    /* meanwhile term 2 began: the late completion elects nobody */
    assert_int_equal(fx_append(&fx, 2, 2, 0, 0, NULL, 0, 0), 0);
    assert_int_equal(fx_persisted(&fx, seq, 0), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

/* PLATFORM: two votes in a term around leadership transfer. */
static void a_transfer_does_not_get_a_second_vote_in_a_term(void **state)
{
    struct hf_raft_msg now = {.type = HF_RAFT_MSG_TIMEOUT_NOW, .from = node(2), .term = 1};
    uint64_t seq;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, NULL, 0, 0), 0);
    seq = fx_persist_seq(&fx);
    /* the new term is not durable yet: this node may not stand on it */
    assert_int_equal(fx_recv(&fx, now, NULL), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
    assert_int_equal(fx_persisted(&fx, seq, 0), 0);
    assert_int_equal(fx_recv(&fx, now, NULL), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_CANDIDATE);
    assert_int_equal(hf_raft_term(fx.r), 2);
    assert_true(fx_sent(&fx, HF_RAFT_MSG_VOTE, 2)->u.vote.transfer);
    /* it voted for itself in term 2 */
    assert_int_equal(fx_vote(&fx, 3, 2, 9, 1, true), 0);
    assert_false(fx_granted(&fx, 3));
    /* a duplicate of the order belongs to term 1 */
    assert_int_equal(fx_recv(&fx, now, NULL), 0);
    assert_int_equal(hf_raft_term(fx.r), 2);
}

static void a_transfer_passes_stickiness_and_stops_proposals(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
    assert_int_equal(hf_raft_commit_index(fx.r), 1);
    assert_int_equal(fx_transfer(&fx, 2), 0);
    assert_non_null(fx_sent(&fx, HF_RAFT_MSG_TIMEOUT_NOW, 2));
    assert_int_equal(fx_propose(&fx, 1, 1), -EAGAIN);
    assert_int_equal(fx_transfer(&fx, 3), -EBUSY);
    assert_int_equal(fx_vote(&fx, 2, 2, 1, 1, true), 0);
    assert_true(fx_granted(&fx, 2));
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

static void a_transfer_that_leads_nowhere_ends(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
    assert_int_equal(fx_transfer(&fx, 3), 0); /* it has nothing yet */
    for (int i = 0; i < 6; i++) {
        fx_ack(&fx, 2, 1);
    }
    assert_int_equal(fx_propose(&fx, 1, 1), 0);
}

static void a_failed_persist_is_asked_again(void **state)
{
    uint64_t seq;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_vote(&fx, 2, 3, 0, 0, false), 0);
    seq = fx_persist_seq(&fx);
    assert_int_equal(fx_persisted(&fx, seq, -EIO), 0);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    assert_int_equal(fx_persist_seq(&fx), seq + 1);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_PERSIST, 0)->u.persist.vote.v, 2);
}

/* An append reaches the disk before the PERSIST of the term that it came in, then the power goes.
 */
static void a_log_in_a_term_that_was_not_persisted_enters_it(void **state)
{
    const uint64_t terms[] = {1, 2};

    (void)state;
    fx_log(&fx, terms, 2);
    fx.start.term = 1;
    fx.start.vote = node(3); /* of term 1 */
    fx_open(&fx);
    assert_int_equal(hf_raft_term(fx.r), 2);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_PERSIST, 0)->u.persist.term, 2);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_PERSIST, 0)->u.persist.vote.v, 0);
}

static void a_node_that_abstains_neither_votes_nor_stands(void **state)
{
    (void)state;
    fx.options.abstain = true;
    fx_open(&fx);
    assert_int_equal(fx_vote(&fx, 2, 1, 5, 0, false), 0);
    assert_false(fx_granted(&fx, 2));
    assert_int_equal(fx_tick(&fx, 4 * TIMEOUT), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
}

static void nonsense_of_peers_is_refused(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_VOTE, .from = node(2), .term = 0};

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_recv(&fx, m, NULL), -EBADMSG);
    m.term = HF_RAFT_NUMBER_MAX + 1;
    assert_int_equal(fx_recv(&fx, m, NULL), -EBADMSG);
    m.term = 3;
    m.from = node(1);
    assert_int_equal(fx_recv(&fx, m, NULL), -EBADMSG);
    m.from = node(2);
    m.type = (enum hf_raft_msg_type)77;
    assert_int_equal(fx_recv(&fx, m, NULL), -EBADMSG);
    m.type = HF_RAFT_MSG_SNAPSHOT;
    assert_int_equal(fx_recv(&fx, m, NULL), -EBADMSG);
    assert_int_equal(hf_raft_term(fx.r), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_lone_voter_leads_once_its_vote_is_durable),
        T(a_pre_vote_changes_no_term),
        T(a_broken_connection_to_the_leader_starts_an_election_soon),
        T(one_vote_in_a_term),
        T(a_vote_waits_for_its_persist),
        T(an_older_log_gets_no_vote),
        T(who_hears_a_leader_ignores_candidates),
        T(a_leader_without_a_quorum_steps_down),
        T(a_leader_whose_disk_stalls_steps_down),
        T(votes_of_others_do_not_elect_a_node_whose_own_vote_is_not_durable),
        T(a_transfer_does_not_get_a_second_vote_in_a_term),
        T(a_transfer_passes_stickiness_and_stops_proposals),
        T(a_transfer_that_leads_nowhere_ends),
        T(a_failed_persist_is_asked_again),
        T(a_log_in_a_term_that_was_not_persisted_enters_it),
        T(a_node_that_abstains_neither_votes_nor_stands),
        T(nonsense_of_peers_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
