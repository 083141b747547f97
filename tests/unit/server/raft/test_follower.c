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

static const struct hf_raft_msg *answer(uint16_t to)
{
    return fx_sent(&fx, HF_RAFT_MSG_APPEND_RESULT, to);
}

static void entries_are_acknowledged_when_durable(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, NULL, 0, 0), 0);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1}, 2, 0), 0);
    assert_null(answer(2));
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_APPEND, 0)->u.append.last_index, 2);
    fx_flush(&fx);
    assert_int_equal(answer(2)->u.append_result.match_index, 2);
}

/* PLATFORM: a follower acknowledging entries past what the leader checked. */
static void entries_that_the_leader_did_not_check_are_not_acknowledged(void **state)
{
    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1, 1, 1, 1}, 5);
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 2, 2, 1, NULL, 0, 0), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_OK);
    assert_int_equal(answer(2)->u.append_result.match_index, 2);
    assert_int_equal(hf_raft_last_index(fx.r), 5);
}

/* PLATFORM: leader commit beyond the checked entries. */
static void commit_stops_at_the_last_checked_entry(void **state)
{
    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1, 1, 1, 1}, 5);
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 2, 1, 1, (uint64_t[]){1}, 1, 5), 0);
    assert_int_equal(hf_raft_commit_index(fx.r), 2);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_COMMIT, 0)->u.commit.index, 2);
}

/* PLATFORM: AppendEntries overlapping a compacted prefix. */
static void an_append_over_the_trimmed_head_adds_only_what_is_new(void **state)
{
    const struct hf_raft_action *a;

    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1, 1, 1}, 4);
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 4, 1, NULL, 0, 4), 0);
    assert_int_equal(fx_trim(&fx, 3), 0);
    assert_int_equal(fx_append(&fx, 2, 1, 1, 1, (uint64_t[]){1, 1, 1, 1}, 4, 4), 0);
    a = fx_act(&fx, HF_RAFT_ACT_APPEND, 0);
    assert_int_equal(a->u.append.first_index, 5);
    assert_int_equal(a->u.append.last_index, 5);
    assert_int_equal(a->u.append.skip, 3);
    /* wholly below the head: nothing to do, and nothing beyond it is checked */
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1}, 2, 5), 0);
    assert_null(fx_act(&fx, HF_RAFT_ACT_APPEND, 0));
    assert_int_equal(hf_raft_last_index(fx.r), 5);
    assert_int_equal(hf_raft_commit_index(fx.r), 4);
}

/* PLATFORM: a late append result of an older term. */
static void a_late_completion_of_a_dropped_append_does_not_count(void **state)
{
    uint64_t old_epoch;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1, 1}, 3, 0), 0);
    old_epoch = hf_raft_epoch(fx.r);
    assert_int_equal(fx_append(&fx, 3, 2, 0, 0, (uint64_t[]){2, 2, 2}, 3, 0), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_APPEND, 0)->u.append.first_index, 1);
    assert_int_equal(fx_appended(&fx, old_epoch, 3, 0), 0);
    assert_int_equal(hf_raft_durable_index(fx.r), 0);
    assert_null(answer(3));
    fx_flush(&fx);
    assert_int_equal(answer(3)->u.append_result.match_index, 3);
    assert_int_equal(answer(3)->term, 2);
}

/* PLATFORM: an append error followed by reuse of the index. */
static void after_a_failed_append_the_index_is_used_again_safely(void **state)
{
    uint64_t epoch;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1}, 2, 0), 0);
    epoch = hf_raft_epoch(fx.r);
    assert_int_equal(fx_appended(&fx, epoch, 2, -EIO), 0);
    assert_int_equal(hf_raft_last_index(fx.r), 0);
    assert_null(answer(2));
    /* until the driver has dropped the end, the log stands still */
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1}, 2, 0), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_BUSY);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_APPEND, 0)->u.append.first_index, 1);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_APPEND, 0)->u.append.last_index, 0);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1}, 1, 0), 0);
    assert_int_equal(fx_appended(&fx, epoch, 2, 0), 0); /* the failed one, said to be fine */
    assert_int_equal(hf_raft_durable_index(fx.r), 0);
    fx_flush(&fx);
    assert_int_equal(answer(2)->u.append_result.match_index, 1);
}

static void committed_entries_whose_write_failed_are_written_again(void **state)
{
    const struct hf_raft_action *a;

    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1, 1}, 3, 2), 0);
    assert_int_equal(hf_raft_commit_index(fx.r), 2);
    assert_int_equal(fx_appended(&fx, hf_raft_epoch(fx.r), 3, -EIO), 0);
    assert_int_equal(hf_raft_last_index(fx.r), 2);
    assert_int_equal(fx_tick(&fx, TIMEOUT / 5), 0);
    a = fx_act(&fx, HF_RAFT_ACT_APPEND, 0);
    assert_int_equal(a->u.append.source, HF_RAFT_FROM_LOG);
    assert_int_equal(a->u.append.first_index, 1);
    assert_int_equal(a->u.append.last_index, 2);
}

static void a_conflict_is_hinted_by_the_start_of_its_term(void **state)
{
    (void)state;
    fx_log(&fx, (uint64_t[]){1, 2, 2, 2}, 4);
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 4, 4, 3, NULL, 0, 0), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_REJECT);
    assert_int_equal(answer(2)->u.append_result.hint_index, 2);
    assert_int_equal(answer(2)->u.append_result.hint_term, 2);
    assert_int_equal(fx_append(&fx, 2, 4, 9, 3, NULL, 0, 0), 0);
    assert_int_equal(answer(2)->u.append_result.hint_index, 5);
    assert_int_equal(answer(2)->u.append_result.hint_term, 0);
}

static void an_old_append_truncates_nothing(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1, 1}, 3, 0), 0);
    fx_flush(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1}, 1, 0), 0); /* a duplicate */
    assert_int_equal(hf_raft_last_index(fx.r), 3);
    assert_null(fx_act(&fx, HF_RAFT_ACT_APPEND, 0));
}

static void what_is_committed_is_never_dropped(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, 0, 0, (uint64_t[]){1, 1}, 2, 2), 0);
    assert_int_equal(fx_append(&fx, 3, 2, 0, 0, (uint64_t[]){2}, 1, 0), -EBADMSG);
    assert_int_equal(fx_append(&fx, 3, 2, 2, 2, NULL, 0, 0), -EBADMSG);
    assert_int_equal(hf_raft_last_index(fx.r), 2);
}

static void an_older_leader_learns_the_term(void **state)
{
    (void)state;
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 5, 0, 0, NULL, 0, 0), 0);
    assert_int_equal(fx_append(&fx, 3, 4, 0, 0, (uint64_t[]){4}, 1, 1), 0);
    assert_int_equal(answer(3)->term, 5);
    assert_int_equal(hf_raft_last_index(fx.r), 0);
    assert_int_equal(fx_append(&fx, 3, 5, 0, 0, NULL, 0, 0), -EBADMSG); /* two leaders */
}

/* PLATFORM: configuration rollback. */
static void a_configuration_goes_with_its_entry(void **state)
{
    struct hf_raft_config next = voters(3);
    const struct hf_raft_head head = {
        .term = 1, .bytes = 40, .type = HF_RAFT_ENTRY_CONFIG, .config = &next};
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND, .from = node(2), .term = 1};
    uint64_t index;

    (void)state;
    next.count = 4;
    next.members[3] = (struct hf_raft_member){.id = node(4), .kind = HF_RAFT_LEARNER};
    fx_open(&fx);
    m.u.append.count = 1;
    assert_int_equal(fx_recv(&fx, m, &head), 0);
    assert_int_equal(hf_raft_config(fx.r, &index)->count, 4);
    assert_int_equal(index, 1);
    assert_int_equal(fx_append(&fx, 3, 2, 0, 0, (uint64_t[]){2}, 1, 0), 0);
    assert_int_equal(hf_raft_config(fx.r, &index)->count, 3);
    assert_int_equal(index, 0);
}

static void a_configuration_goes_with_a_failed_write(void **state)
{
    struct hf_raft_config next = voters(2);
    const struct hf_raft_head head = {
        .term = 1, .bytes = 40, .type = HF_RAFT_ENTRY_CONFIG, .config = &next};
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND, .from = node(2), .term = 1};

    (void)state;
    fx_open(&fx);
    m.u.append.count = 1;
    assert_int_equal(fx_recv(&fx, m, &head), 0);
    assert_int_equal(hf_raft_config(fx.r, NULL)->count, 2);
    assert_int_equal(fx_appended(&fx, hf_raft_epoch(fx.r), 1, -EIO), 0);
    assert_int_equal(hf_raft_config(fx.r, NULL)->count, 3);
}

static bool memory_is_out;

static void *may_fail(size_t bytes)
{
    return memory_is_out ? NULL : malloc(bytes);
}

static void without_memory_a_step_is_refused_unchanged(void **state)
{
    uint64_t terms[LOG_MAX];

    (void)state;
    for (uint32_t i = 0; i < LOG_MAX; i++) {
        terms[i] = 4;
    }
    fx.options.alloc = may_fail;
    fx_open(&fx);
    memory_is_out = true;
    assert_int_equal(fx_append(&fx, 2, 4, 0, 0, terms, LOG_MAX, 0), -ENOMEM);
    assert_int_equal(hf_raft_term(fx.r), 0);
    assert_int_equal(hf_raft_last_index(fx.r), 0);
    assert_int_equal(fx.a.count, 0);
    memory_is_out = false;
    assert_int_equal(fx_append(&fx, 2, 4, 0, 0, terms, LOG_MAX, 0), 0);
    assert_int_equal(hf_raft_last_index(fx.r), LOG_MAX);
}

static void a_snapshot_replaces_the_log(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_SNAPSHOT, .from = node(2), .term = 3};
    struct hf_raft_event written = {.type = HF_RAFT_EV_SNAPSHOT_WRITTEN};
    struct hf_raft_event installed = {.type = HF_RAFT_EV_SNAPSHOT_INSTALLED};
    const struct hf_raft_msg *out;
    uint64_t term;

    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1}, 2);
    fx_open(&fx);
    m.u.snapshot.index = 10;
    m.u.snapshot.snapshot_term = 2;
    m.u.snapshot.total_bytes = 150;
    m.u.snapshot.len_bytes = 100;
    m.u.snapshot.stream = 4;
    m.u.snapshot.config = voters(3);
    assert_int_equal(fx_recv(&fx, m, NULL), 0);
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_WRITE, 0));
    written.u.snapshot_written.end_bytes = 100;
    assert_int_equal(fx_event(&fx, &written), 0);
    out = fx_sent(&fx, HF_RAFT_MSG_SNAPSHOT_RESULT, 2);
    assert_int_equal(out->u.snapshot_result.offset_bytes, 100);
    assert_int_equal(fx_recv(&fx, m, NULL), 0); /* the first chunk again */
    assert_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_WRITE, 0));
    m.u.snapshot.offset_bytes = 100;
    m.u.snapshot.len_bytes = 50;
    assert_int_equal(fx_recv(&fx, m, NULL), 0);
    written.u.snapshot_written.end_bytes = 150;
    assert_int_equal(fx_event(&fx, &written), 0);
    assert_int_equal(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_INSTALL, 0)->u.snapshot.index, 10);
    assert_int_equal(fx_append(&fx, 2, 3, 0, 0, NULL, 0, 0), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_BUSY);
    installed.u.snapshot_installed.index = 10;
    assert_int_equal(fx_event(&fx, &installed), 0);
    out = fx_sent(&fx, HF_RAFT_MSG_SNAPSHOT_RESULT, 2);
    assert_int_equal(out->u.snapshot_result.match_index, 10);
    assert_int_equal(hf_raft_commit_index(fx.r), 10);
    assert_int_equal(hf_raft_last_index(fx.r), 10);
    assert_int_equal(hf_raft_term_at(fx.r, 10, &term), 0);
    assert_int_equal(term, 2);
}

/* What a failed write leaves to be written again waits for the snapshot, and goes with the log. */
static void a_failed_write_is_not_repeated_while_a_snapshot_is_installed(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_SNAPSHOT, .from = node(2), .term = 3};
    struct hf_raft_event written = {.type = HF_RAFT_EV_SNAPSHOT_WRITTEN};
    struct hf_raft_event installed = {.type = HF_RAFT_EV_SNAPSHOT_INSTALLED};

    static const int errs[] = {0, -EIO};

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        const int err = errs[i];

        fx_open(&fx);
        assert_int_equal(fx_append(&fx, 2, 3, 0, 0, (uint64_t[]){1, 1}, 2, 2), 0);
        m.u.snapshot.index = 10;
        m.u.snapshot.snapshot_term = 2;
        m.u.snapshot.config = voters(3);
        assert_int_equal(fx_recv(&fx, m, NULL), 0);
        assert_int_equal(fx_event(&fx, &written), 0);
        assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_INSTALL, 0));
        assert_int_equal(fx_appended(&fx, hf_raft_epoch(fx.r), 2, -EIO), 0);
        assert_int_equal(fx_tick(&fx, 10 * TIMEOUT), 0);
        assert_null(fx_act(&fx, HF_RAFT_ACT_APPEND, 0));
        assert_true(hf_raft_deadline_ns(fx.r) > fx.now);
        installed.u.snapshot_installed.index = 10;
        installed.u.snapshot_installed.err = err;
        assert_int_equal(fx_event(&fx, &installed), 0);
        assert_int_equal(fx_tick(&fx, TIMEOUT), 0);
        assert_int_equal(fx_act(&fx, HF_RAFT_ACT_APPEND, 0) != NULL, err != 0);
        fx_fini(&fx);
    }
    fx_open(&fx);
}

/* Found by the simulation: an end of 0 bytes was taken for no write at all. */
static void a_snapshot_of_no_bytes_is_installed(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_SNAPSHOT, .from = node(2), .term = 3};
    struct hf_raft_event written = {.type = HF_RAFT_EV_SNAPSHOT_WRITTEN};

    (void)state;
    fx_open(&fx);
    m.u.snapshot.index = 10;
    m.u.snapshot.snapshot_term = 2;
    m.u.snapshot.config = voters(3);
    assert_int_equal(fx_recv(&fx, m, NULL), 0);
    assert_int_equal(fx_event(&fx, &written), 0);
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_SNAPSHOT_INSTALL, 0));
}

static void a_log_that_contradicts_the_snapshot_is_dropped_at_start(void **state)
{
    bool drop;

    (void)state;
    fx_log(&fx, (uint64_t[]){1, 1, 1}, 3);
    fx.start.snapshot_index = 3;
    fx.start.snapshot_term = 2;
    assert_int_equal(hf_raft_new(&fx.options, &fx.start, &fx.r, &drop), 0);
    assert_true(drop);
    assert_int_equal(hf_raft_last_index(fx.r), 3);
    assert_int_equal(hf_raft_term(fx.r), 2);
}

static void a_node_that_abstains_acknowledges_nothing_until_readmitted(void **state)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND, .from = node(2), .term = 1};
    const struct hf_raft_head heads[2] = {
        {.term = 1, .bytes = 1, .type = HF_RAFT_ENTRY_NORMAL},
        {.term = 1, .bytes = 1, .type = HF_RAFT_ENTRY_NORMAL},
    };

    (void)state;
    fx.options.abstain = true;
    fx_open(&fx);
    m.u.append.count = 2;
    assert_int_equal(fx_recv(&fx, m, heads), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_ABSTAIN);
    assert_int_equal(hf_raft_last_index(fx.r), 0);
    m.u.append.rejoin_index = 2;
    m.u.append.incarnation = 999; /* meant for the store that is gone */
    assert_int_equal(fx_recv(&fx, m, heads), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_ABSTAIN);
    m.u.append.incarnation = fx.options.incarnation;
    assert_int_equal(fx_recv(&fx, m, heads), 0);
    assert_int_equal(hf_raft_last_index(fx.r), 2);
    assert_true(hf_raft_abstaining(fx.r));
    fx_flush(&fx);
    assert_false(hf_raft_abstaining(fx.r));
    assert_non_null(fx_act(&fx, HF_RAFT_ACT_ABSTAIN_END, 0));
    assert_true(answer(2)->u.append_result.whole);
}

static void a_full_log_takes_no_more_until_it_is_trimmed(void **state)
{
    uint64_t terms[LOG_MAX];

    (void)state;
    for (uint32_t i = 0; i < LOG_MAX; i++) {
        terms[i] = 1;
    }
    fx_log(&fx, terms, LOG_MAX);
    fx_open(&fx);
    assert_int_equal(fx_append(&fx, 2, 1, LOG_MAX, 1, terms, 1, LOG_MAX), 0);
    assert_int_equal(answer(2)->u.append_result.status, HF_RAFT_BUSY);
    assert_int_equal(fx_append(&fx, 2, 1, LOG_MAX, 1, NULL, 0, LOG_MAX), 0);
    assert_int_equal(fx_trim(&fx, LOG_MAX), 0);
    assert_int_equal(fx_append(&fx, 2, 1, LOG_MAX, 1, terms, 1, LOG_MAX), 0);
    assert_int_equal(hf_raft_last_index(fx.r), LOG_MAX + 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(entries_are_acknowledged_when_durable),
        T(entries_that_the_leader_did_not_check_are_not_acknowledged),
        T(commit_stops_at_the_last_checked_entry),
        T(an_append_over_the_trimmed_head_adds_only_what_is_new),
        T(a_late_completion_of_a_dropped_append_does_not_count),
        T(after_a_failed_append_the_index_is_used_again_safely),
        T(committed_entries_whose_write_failed_are_written_again),
        T(a_conflict_is_hinted_by_the_start_of_its_term),
        T(an_old_append_truncates_nothing),
        T(what_is_committed_is_never_dropped),
        T(an_older_leader_learns_the_term),
        T(a_configuration_goes_with_its_entry),
        T(a_configuration_goes_with_a_failed_write),
        T(without_memory_a_step_is_refused_unchanged),
        T(a_snapshot_replaces_the_log),
        T(a_failed_write_is_not_repeated_while_a_snapshot_is_installed),
        T(a_snapshot_of_no_bytes_is_installed),
        T(a_log_that_contradicts_the_snapshot_is_dropped_at_start),
        T(a_node_that_abstains_acknowledges_nothing_until_readmitted),
        T(a_full_log_takes_no_more_until_it_is_trimmed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
