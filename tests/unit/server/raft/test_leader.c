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

static uint64_t match_of(uint16_t id)
{
    struct hf_raft_peer_status s;

    assert_int_equal(hf_raft_peer(fx.r, node(id), &s), 0);
    return s.match_index;
}

/* A leader of term 1 that committed its no-op with node 2. */
static void lead(void)
{
    fx_open(&fx);
    fx_elect(&fx);
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
    assert_int_equal(hf_raft_commit_index(fx.r), 1);
}

static void a_new_leader_appends_an_entry_of_its_term(void **state)
{
    struct hf_raft_head head;

    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    assert_int_equal(hf_raft_head_at(fx.r, 1, &head), 0);
    assert_int_equal(head.type, HF_RAFT_ENTRY_NOOP);
    assert_int_equal(head.term, 1);
}

static void proposals_go_out_before_the_own_flush_and_commit_without_it(void **state)
{
    const struct hf_raft_msg *m;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 2, 10), 0);
    m = fx_sent(&fx, HF_RAFT_MSG_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->u.append.prev_index, 1);
    assert_int_equal(m->u.append.count, 2);
    assert_int_equal(hf_raft_durable_index(fx.r), 1);
    fx_ack(&fx, 2, 3);
    assert_int_equal(hf_raft_commit_index(fx.r), 1); /* one disk of three */
    fx_ack(&fx, 3, 3);
    assert_int_equal(hf_raft_commit_index(fx.r), 3); /* two, the own one still busy */
}

/* PLATFORM: old-term entries committed by counting (Figure 8). */
static void entries_of_older_terms_are_not_committed_by_counting(void **state)
{
    (void)state;
    fx_log(&fx, (uint64_t[]){1, 2}, 2);
    fx_open(&fx);
    fx_elect(&fx);
    fx_ack(&fx, 2, 2);
    fx_ack(&fx, 3, 2);
    assert_int_equal(hf_raft_commit_index(fx.r), 0);
    fx_flush(&fx);
    fx_ack(&fx, 2, 3);
    assert_int_equal(hf_raft_commit_index(fx.r), 3);
}

/* PLATFORM: a late append result of an older term, at a leader that was deposed and came back. */
static void an_acknowledgement_of_an_older_term_does_not_count(void **state)
{
    uint64_t prev, round, stream;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 3, 10), 0);
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(fx_append(&fx, 3, 2, 1, 1, (uint64_t[]){2}, 1, 1), 0);
    assert_int_equal(fx_persisted(&fx, fx_persist_seq(&fx), 0), 0);
    fx_flush(&fx);
    fx_elect(&fx);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 3, prev, 0, stream, round), 0);
    assert_int_equal(match_of(2), 0);
    assert_int_equal(hf_raft_commit_index(fx.r), 1);
}

/* PLATFORM: a send error that resets progress. */
static void a_send_error_keeps_what_was_acknowledged(void **state)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_UNREACHABLE};
    struct hf_raft_peer_status s;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 4, 10), 0);
    e.u.unreachable.peer = node(2);
    assert_int_equal(fx_event(&fx, &e), 0);
    assert_int_equal(hf_raft_peer(fx.r, node(2), &s), 0);
    assert_int_equal(s.match_index, 1);
    assert_int_equal(s.next_index, 2);
    assert_int_equal(s.inflight_msgs, 0);
    assert_null(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)); /* not at once, into the same error */
    fx_ack(&fx, 2, 1);                                /* the probe matches: on from there */
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.prev_index, 1);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.count, 4);
}

static void the_window_to_a_peer_is_bounded_and_freed(void **state)
{
    struct hf_raft_peer_status s;

    (void)state;
    lead();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fx_propose(&fx, 1, 10), 0);
    }
    assert_int_equal(hf_raft_peer(fx.r, node(2), &s), 0);
    assert_int_equal(s.inflight_msgs, 2);
    assert_int_equal(s.next_index, 4);
    fx_ack(&fx, 2, 3);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.count, 2); /* batched */
}

static void a_full_window_refuses_proposals(void **state)
{
    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 16, 10), 0);
    assert_int_equal(fx_propose(&fx, 1, 10), -EAGAIN);
    assert_int_equal(hf_raft_last_index(fx.r), 17);
    fx_flush(&fx);
    fx_ack(&fx, 2, 17);
    assert_int_equal(fx_propose(&fx, 1, 100000), 0); /* one always fits an empty window */
    assert_int_equal(fx_propose(&fx, 1, 1), -EAGAIN);
}

static void a_rejection_moves_to_the_hint(void **state)
{
    uint64_t prev, round, stream;

    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1, 1, 1}, 4);
    fx_open(&fx);
    fx_elect(&fx);
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(prev, 4);
    assert_int_equal(fx_result(&fx, 2, 2, HF_RAFT_REJECT, 0, 4, 2, stream, round), 0);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.prev_index, 1);
    /* late, about a message before: ignored */
    assert_int_equal(fx_result(&fx, 2, 2, HF_RAFT_REJECT, 0, 4, 1, stream, round), 0);
    assert_null(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2));
    assert_int_equal(fx_result(&fx, 2, 2, HF_RAFT_OK, 1, 1, 0, stream, round), 0);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.count, 4);
}

static void a_peer_that_lost_what_it_acknowledged_is_sent_it_again(void **state)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_UNREACHABLE};
    uint64_t prev, round, stream;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 4, 10), 0);
    fx_flush(&fx);
    fx_ack(&fx, 2, 5);
    assert_int_equal(match_of(2), 5);
    assert_int_equal(hf_raft_commit_index(fx.r), 5);
    e.u.unreachable.peer = node(2);
    assert_int_equal(fx_event(&fx, &e), 0);
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(prev, 5);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_REJECT, 0, 5, 3, stream, round), 0);
    assert_int_equal(match_of(2), 0);
    assert_int_equal(hf_raft_commit_index(fx.r), 5);
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(prev, 2);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 2, 2, 0, stream, round), 0);
    assert_int_equal(match_of(2), 2);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.prev_index, 2);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2)->u.append.count, 3);
}

static void a_peer_with_another_store_starts_over(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND_RESULT, .from = node(2), .term = 1};

    (void)state;
    lead();
    m.u.append_result.stream =
        fx_stream(&fx, 2, &m.u.append_result.prev_index, &m.u.append_result.round);
    m.u.append_result.status = HF_RAFT_OK;
    m.u.append_result.match_index = 1;
    m.u.append_result.incarnation = 5555;
    assert_int_equal(fx_recv(&fx, m, NULL), 0);
    assert_int_equal(match_of(2), 0);
    assert_int_equal(fx_recv(&fx, m, NULL), 0); /* again: of a stream that has ended */
    assert_int_equal(match_of(2), 0);
}

static void a_leader_whose_append_fails_steps_down(void **state)
{
    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 2, 10), 0);
    assert_int_equal(fx_appended(&fx, hf_raft_epoch(fx.r), 3, -EIO), 0);
    assert_int_equal(hf_raft_role(fx.r), HF_RAFT_FOLLOWER);
    assert_int_equal(hf_raft_last_index(fx.r), 1);
    assert_int_equal(fx_propose(&fx, 1, 1), -HF_ENOTLEADER);
}

static void reads_wait_for_a_round_that_began_after_them(void **state)
{
    uint64_t prev, round, stream;

    (void)state;
    lead();
    stream = fx_stream(&fx, 2, &prev, &round);
    assert_int_equal(fx_read(&fx, 1), 0);
    assert_non_null(fx_sent(&fx, HF_RAFT_MSG_APPEND, 2));
    assert_int_equal(fx_read(&fx, 2), 0); /* rides in the next */
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 1, prev, 0, stream, round), 0);
    assert_null(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0));
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 1, prev, 0, stream, round + 1), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0)->u.read.last_id, 1);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0)->u.read.index, 1);
    assert_int_equal(fx_result(&fx, 2, 1, HF_RAFT_OK, 1, prev, 0, stream, round + 2), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0)->u.read.first_id, 2);
}

static void reads_wait_for_an_entry_of_the_leaders_term(void **state)
{
    (void)state;
    fx_open(&fx);
    fx_elect(&fx);
    assert_int_equal(fx_read(&fx, 1), 0);
    fx_ack(&fx, 2, 0);
    assert_null(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0));
    fx_flush(&fx);
    fx_ack(&fx, 2, 1);
    fx_ack(&fx, 2, 1);
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_READ_READY, 0));
}

/* Or a steady stream of reads would keep a leader whose disk stalls. */
static void reads_do_not_put_off_the_leaders_clock(void **state)
{
    uint64_t due;

    (void)state;
    lead();
    due = hf_raft_deadline_ns(fx.r);
    fx.now += TIMEOUT / 10;
    assert_int_equal(fx_read(&fx, 1), 0);
    assert_true(hf_raft_deadline_ns(fx.r) == due);
}

static void reads_fail_with_the_leadership(void **state)
{
    (void)state;
    lead();
    assert_int_equal(fx_read(&fx, 1), 0);
    assert_int_equal(fx_append(&fx, 3, 2, 1, 1, NULL, 0, 0), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_READ_FAILED, 0)->u.read.first_id, 1);
    assert_int_equal(fx_read(&fx, 2), -HF_ENOTLEADER);
}

static void a_peer_behind_the_trimmed_head_gets_a_snapshot(void **state)
{
    struct hf_raft_event opened = {.type = HF_RAFT_EV_SNAPSHOT_OPENED};
    const struct hf_raft_config config = voters(3);
    const struct hf_raft_msg *m;
    struct hf_raft_msg result = {.type = HF_RAFT_MSG_SNAPSHOT_RESULT, .from = node(3), .term = 1};
    uint64_t prev, round, stream;

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 4, 10), 0);
    fx_flush(&fx);
    fx_ack(&fx, 2, 5);
    assert_int_equal(fx_trim(&fx, 4), 0);
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_OPEN, 0));
    opened.u.snapshot_opened.peer = node(3);
    opened.u.snapshot_opened.index = 5;
    opened.u.snapshot_opened.term = 1;
    opened.u.snapshot_opened.total_bytes = 150;
    opened.u.snapshot_opened.config = &config;
    assert_int_equal(fx_event(&fx, &opened), 0);
    m = fx_sent(&fx, HF_RAFT_MSG_SNAPSHOT, 3);
    assert_int_equal(m->u.snapshot.len_bytes, 100);
    stream = m->u.snapshot.stream;
    result.u.snapshot_result.index = 5;
    result.u.snapshot_result.stream = stream;
    result.u.snapshot_result.incarnation = 103;
    result.u.snapshot_result.offset_bytes = 100;
    assert_int_equal(fx_recv(&fx, result, NULL), 0);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_SNAPSHOT, 3)->u.snapshot.offset_bytes, 100);
    assert_int_equal(fx_sent(&fx, HF_RAFT_MSG_SNAPSHOT, 3)->u.snapshot.len_bytes, 50);
    result.u.snapshot_result.match_index = 5;
    assert_int_equal(fx_recv(&fx, result, NULL), 0);
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_CLOSE, 0));
    assert_int_equal(match_of(3), 5);
    (void)fx_stream(&fx, 3, &prev, &round);
    assert_int_equal(prev, 5);
}

static void a_snapshot_that_is_not_to_be_had_is_asked_for_with_the_heartbeats(void **state)
{
    struct hf_raft_event opened = {.type = HF_RAFT_EV_SNAPSHOT_OPENED};

    (void)state;
    lead();
    assert_int_equal(fx_propose(&fx, 4, 10), 0);
    fx_flush(&fx);
    fx_ack(&fx, 2, 5);
    assert_int_equal(fx_trim(&fx, 4), 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_OPEN, 0));
        opened.u.snapshot_opened.peer = node(3);
        opened.u.snapshot_opened.err = -EAGAIN;
        assert_int_equal(fx_event(&fx, &opened), 0);
        assert_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_OPEN, 0));
        assert_int_equal(fx_propose(&fx, 1, 10), 0);
        assert_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_OPEN, 0));
        assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_new_leader_appends_an_entry_of_its_term),
        T(proposals_go_out_before_the_own_flush_and_commit_without_it),
        T(entries_of_older_terms_are_not_committed_by_counting),
        T(an_acknowledgement_of_an_older_term_does_not_count),
        T(a_send_error_keeps_what_was_acknowledged),
        T(the_window_to_a_peer_is_bounded_and_freed),
        T(a_full_window_refuses_proposals),
        T(a_rejection_moves_to_the_hint),
        T(a_peer_that_lost_what_it_acknowledged_is_sent_it_again),
        T(a_peer_with_another_store_starts_over),
        T(a_leader_whose_append_fails_steps_down),
        T(reads_wait_for_a_round_that_began_after_them),
        T(reads_wait_for_an_entry_of_the_leaders_term),
        T(reads_do_not_put_off_the_leaders_clock),
        T(reads_fail_with_the_leadership),
        T(a_peer_behind_the_trimmed_head_gets_a_snapshot),
        T(a_snapshot_that_is_not_to_be_had_is_asked_for_with_the_heartbeats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
