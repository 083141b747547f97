/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hf_replica_check_invariants() is for: a field is broken, and it dies.
 */
#include "server/meta/leader_impl.h"
#include "tests/lib/dies.h"
#include "tests/unit/server/node/replica_world.h"

static void an_unbroken_replica(void *ctx)
{
    struct hf_replica *r = ctx;

    hf_replica_check_invariants(r);
    hf_recent_check_invariants(&r->leader->recent);
}

static void a_session_that_is_not_counted(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->sessions.count--;
    hf_replica_check_invariants(r);
}

static void an_open_file_that_is_not_counted(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->opens.by_ino.count--;
    hf_replica_check_invariants(r);
}

static void a_number_applied_that_was_never_taken_in(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->sessions.head->queued_stream = 0;
    r->leader->sessions.head->next->queued_stream = 0;
    hf_replica_check_invariants(r);
}

static void a_waiter_that_has_no_end(void *ctx)
{
    struct hf_replica *r = ctx;

    hf_timer_disarm(&r->leader->waiters.timer);
    hf_replica_check_invariants(r);
}

static void a_waiter_that_is_not_counted(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->waiters.count--;
    hf_replica_check_invariants(r);
}

static void a_copy_that_nobody_makes(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->copier.inflight++;
    hf_replica_check_invariants(r);
}

static void a_delete_that_is_no_call(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->nodes.nodes[0].deleting = true;
    hf_replica_check_invariants(r);
}

static void a_name_in_flight_that_no_entry_has(void *ctx)
{
    struct hf_replica *r = ctx;
    struct hf_name_mark mark = {.parent = {HF_INO_ROOT}, .name = "x", .len = 1};

    hf_inflight_add(&r->leader->inflight, &mark);
    hf_replica_check_invariants(r);
}

static void a_dead_object_on_no_list(void *ctx)
{
    struct hf_replica *r = ctx;

    r->leader->reaper.by_oid.count++;
    hf_replica_check_invariants(r);
}

static void a_checkpoint_of_what_is_not_applied(void *ctx)
{
    struct hf_replica *r = ctx;

    r->checkpoint_index = UINT64_MAX;
    hf_replica_check_invariants(r);
}

static void a_look_in_the_wrong_set(void *ctx)
{
    struct hf_replica *r = ctx;

    for (uint32_t i = 0; i < HF_RECENT_SETS; i++) {
        r->leader->recent.sets[i][0].ino.v++;
    }
    hf_recent_check_invariants(&r->leader->recent);
}

static void broken_invariants_are_found(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = lock_of(&s, ino, F_WRLCK);
    struct hf_meta_read rd = wait_of(&t, ino), look = {.op = HF_RD_LOOKUP,
                                                       .session = t.id,
                                                       .ino = {HF_INO_ROOT},
                                                       .name = "a",
                                                       .name_len = 1};
    struct answer waited;

    assert_int_equal(run_op(w, &op).err, 0);
    assert_int_equal(run_read(w, &look).err, 0);
    start_read(w, &rd, &waited);
    hf_sim_run_ns(w->sim, SEC);
    assert_false(waited.done);
    assert_false(dies(an_unbroken_replica, w->replica));
    assert_true(dies(a_session_that_is_not_counted, w->replica));
    assert_true(dies(an_open_file_that_is_not_counted, w->replica));
    assert_true(dies(a_number_applied_that_was_never_taken_in, w->replica));
    assert_true(dies(a_waiter_that_has_no_end, w->replica));
    assert_true(dies(a_waiter_that_is_not_counted, w->replica));
    assert_true(dies(a_copy_that_nobody_makes, w->replica));
    assert_true(dies(a_delete_that_is_no_call, w->replica));
    assert_true(dies(a_name_in_flight_that_no_entry_has, w->replica));
    assert_true(dies(a_dead_object_on_no_list, w->replica));
    assert_true(dies(a_checkpoint_of_what_is_not_applied, w->replica));
    assert_true(dies(a_look_in_the_wrong_set, w->replica));
    op = lock_of(&s, ino, F_UNLCK);
    assert_int_equal(run_op(w, &op).err, 0);
    wait_for(w, &waited);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(broken_invariants_are_found, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
