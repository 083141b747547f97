/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, and what the comparison of digests does.
 */
#include "tests/unit/server/raft/cluster.h"

/* Snapshots */

static void a_member_far_behind_gets_a_snapshot_while_others_go_on(void **state)
{
    struct cluster *c = cl_new(80, 3);
    struct cl_node *n;

    (void)state;
    c->pad_bytes = 3000000; /* several chunks */
    cl_lag(c, &n);
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

            cl_lag(c, &node);
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

        cl_lag(c, &n);
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

    return leader && leader->driver->uploads;
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
    cl_lag(c, &n);
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
    cl_lag(c, &n);
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

        cl_lag(c, &n);
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
    cl_lag(c, &n);
    cl_start(n);
    assert_true(hf_sim_run_until(c->sim, loaded, n, 30 * SEC));
    hf_sim_disk_fail_path(hf_sim_disk(n->env), 0, HF_SIM_FAULT_WRITE_EIO, "/log/", NULL);
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
    cl_lag(c, &n);
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

/* A snapshot of several chunks, which take seconds, is on its way to @ret_n. */
static void send_slowly(struct cluster *c, struct cl_node **ret_n)
{
    c->pad_bytes = 5u << 20;
    cl_lag(c, ret_n);
    c->chunk_delay_max_ns = 400 * MSEC;
    cl_start(*ret_n);
    while (left(*ret_n) == 0) {
        assert_true(hf_sim_step(c->sim));
    }
    assert_int_equal((*ret_n)->snapshots_loaded, 0);
}

static bool pins_nothing(void *ctx)
{
    struct cl_node *leader = cl_leader(ctx);

    return leader && raft_pins_lowest(leader->driver) == UINT64_MAX;
}

static void one_snapshot_is_enough_however_much_is_written_while_it_is_sent(void **state)
{
    struct cluster *c = cl_new(86, 3);
    struct cl_node *n;
    uint64_t saves, begin;

    (void)state;
    send_slowly(c, &n);
    saves = c->saves;
    begin = c->truth_last;
    c->delay_max_ns = 150 * MSEC; /* checkpoints fall between two messages too */
    while (n->snapshots_loaded == 0) {
        cl_fill(c, 30);
    }
    assert_true(c->truth_last > begin + 10 * c->checkpoint_every);
    for (uint32_t i = 0; i < 10; i++) { /* the log is sent while it grows */
        cl_fill(c, 30);
    }
    c->delay_max_ns = MSEC;
    cl_fill(c, 30);
    assert_true(n->state.index > c->truth_last - 30);
    assert_true(hf_sim_run_until(c->sim, pins_nothing, c, 5 * SEC));
    cl_fill(c, 30);
    assert_true(cl_status(cl_leader(c)).base_index > c->truth_last - 100);
    cl_settle(c);
    assert_int_equal(c->saves, saves);
    assert_int_equal(n->snapshots_loaded, 1);
    cl_free(c);
}

static void a_peer_that_dies_while_a_snapshot_is_sent_does_not_keep_the_log(void **state)
{
    struct cluster *c = cl_new(87, 3);
    struct cl_node *n, *leader;
    uint64_t base;

    (void)state;
    send_slowly(c, &n);
    leader = cl_leader(c);
    cl_fill(c, 100);
    base = cl_status(leader).base_index;
    cl_kill(n, CL_POWER);
    cl_fill(c, 300);
    assert_int_equal(cl_status(leader).base_index, base); /* it may be back soon */
    hf_sim_run_ns(c->sim, RAFT_PIN_SILENT_NS + 2 * SEC);
    assert_ptr_equal(cl_leader(c), leader);
    assert_true(cl_status(leader).base_index > base + 300); /* though nothing was written */
    cl_fill(c, 300);
    assert_true(cl_status(leader).base_index > base + 600);
    cl_start(n);
    cl_settle(c);
    cl_free(c);
}

static void what_stays_for_a_peer_that_gets_a_snapshot_is_bounded(void **state)
{
    struct cluster *c = cl_new(88, 3);
    struct cl_node *n;
    bool pinned = false;

    (void)state;
    c->pin_bytes = 10000;
    send_slowly(c, &n);
    for (uint32_t i = 0; i < 30; i++) {
        const struct raft_items *items = &cl_leader(c)->driver->items;

        cl_fill(c, 30);
        pinned = pinned || items->bytes > c->pin_bytes / 2;
        assert_true(items->bytes < c->pin_bytes + 100 * c->checkpoint_every);
    }
    assert_true(pinned);
    c->chunk_delay_max_ns = 0;
    cl_settle(c);
    assert_true(n->snapshots_loaded > 1); /* the first one did not do */
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
    cl_lose(n, CL_LOST_ALL);
    n->damage = 0;
    cl_comes_back(n);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_far_behind_gets_a_snapshot_while_others_go_on),
        cmocka_unit_test(a_crash_at_any_disk_call_of_an_installation_is_got_over),
        cmocka_unit_test(closing_at_any_moment_of_an_installation_loses_nothing),
        cmocka_unit_test(the_log_is_not_trimmed_while_a_snapshot_is_saved),
        cmocka_unit_test(a_snapshot_too_old_for_the_log_is_not_sent),
        cmocka_unit_test(a_load_that_failed_late_is_no_lost_log),
        cmocka_unit_test(a_log_that_cannot_be_emptied_behind_a_snapshot_is_tried_again),
        cmocka_unit_test(what_a_crash_leaves_of_snapshots_is_removed),
        cmocka_unit_test(one_snapshot_is_enough_however_much_is_written_while_it_is_sent),
        cmocka_unit_test(a_peer_that_dies_while_a_snapshot_is_sent_does_not_keep_the_log),
        cmocka_unit_test(what_stays_for_a_peer_that_gets_a_snapshot_is_bounded),
        cmocka_unit_test(equal_digests_are_silent),
        cmocka_unit_test(a_follower_that_differs_is_taken_out_until_it_is_filled_anew),
        cmocka_unit_test(a_leader_that_differs_steps_down_and_is_taken_out),
        cmocka_unit_test(a_difference_that_nobody_decides_is_only_told),
        cmocka_unit_test(a_majority_that_is_gone_decides_nothing),
        cmocka_unit_test(three_of_five_that_all_differ_take_nobody_out),
        cmocka_unit_test(two_that_agree_are_no_majority_of_five),
        cmocka_unit_test(after_a_snapshot_digests_begin_anew),
    };

    cmocka_set_test_filter(getenv("HF_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
