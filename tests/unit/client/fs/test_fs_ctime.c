/* SPDX-License-Identifier: Apache-2.0 */
/* test_fs_ctime.c - the ctime that a program was told stays when what was dirty is committed. */
#include "tests/unit/client/fs/fs_world.h"

static uint64_t ctime_of(struct world *w, struct actor *a)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_getattr(w->fs, a->ino, &o.req)), 0);
    return o.req.attr.ctime_ns;
}

/* A program asks. */
static uint64_t look(struct world *w, struct actor *a)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_getattr(w->fs, a->ino, &o.req)), 0);
    hf_fs_told(w->fs, &o.req.attr);
    return o.req.attr.ctime_ns;
}

static void write_some(struct world *w, struct actor *a, uint64_t off, uint32_t len)
{
    static const uint8_t data[4u << 20];
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_write(a->file, off, data, len, NULL, 0, &o.req)), 0);
}

static void commit(struct world *w, struct actor *a)
{
    struct once o;

    hf_sim_run_ns(w->c->sim, 100 * HF_NS_PER_MS);
    assert_int_equal(WAIT(w, &o, hf_fs_fsync(a->file, &o.req)), 0);
}

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

/* What another mount does meanwhile. Returns the file's ctime after it. */
static uint64_t chmod_elsewhere(struct world *w, struct actor *a)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{8}}, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    hf_sim_run_ns(w->c->sim, 100 * HF_NS_PER_MS);
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = reply.session,
                             .stream = 1,
                             .ino = a->ino,
                             .mask = HF_SET_MODE,
                             .mode = 0600};
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    return reply.attr.ctime_ns;
}

static void what_was_told_stays(void **state)
{
    static const uint32_t lens[] = {100, 200000, 3u << 20};
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 30);
    for (size_t i = 0; i < HF_ARRAY_LEN(lens); i++) {
        uint64_t told, before = look(&w, a);

        hf_sim_run_ns(w.c->sim, HF_NS_PER_MS);
        write_some(&w, a, 0, lens[i]);
        told = look(&w, a);
        assert_true(told > before);
        commit(&w, a);
        assert_int_equal(ctime_of(&w, a), told);
    }
    write_some(&w, a, 0, 100);
    look(&w, a);
    hf_sim_run_ns(w.c->sim, 100 * HF_NS_PER_MS);
    write_some(&w, a, 200, 100); /* untold again */
    commit(&w, a);
    assert_true(ctime_of(&w, a) >= hf_env_wall_ns(w.c->env) - 50 * HF_NS_PER_MS);
    end(&w);
}

/* A backup elsewhere that ran between the two has to find the file newer than itself. */
static void what_nobody_was_told_is_the_time_of_the_commit(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    uint64_t between;

    (void)state;
    world_init(&w, 31);
    write_some(&w, a, 0, 1000);
    ctime_of(&w, a); /* the kernel's own question */
    between = hf_env_wall_ns(w.c->env);
    commit(&w, a);
    assert_true(look(&w, a) > between);
    end(&w);
}

static void it_stays_when_the_data_goes_by_age(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_stats stats;
    uint64_t told;

    (void)state;
    world_init(&w, 32);
    write_some(&w, a, 0, 1000);
    told = look(&w, a);
    hf_sim_run_ns(w.c->sim, 20 * HF_NS_PER_SEC);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes + stats.flush_bytes, 0);
    assert_int_equal(ctime_of(&w, a), told);
    end(&w);
}

/* Each is seen elsewhere as a change, and the last one leaves what was told. */
static void the_last_of_many_commits_leaves_it(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    uint64_t told;

    (void)state;
    world_init(&w, 33);
    w.c->delay_max_ns = 20 * HF_NS_PER_MS;
    commit(&w, a);
    for (uint64_t i = 0; i < 7; i++) {
        write_some(&w, a, i * (4u << 20) / 3, 700000);
    }
    told = look(&w, a);
    a->changes_seen = a->times_seen = 0;
    commit(&w, a);
    assert_true(a->changes_seen > 1);
    assert_int_equal(a->times_seen, a->changes_seen);
    assert_int_equal(ctime_of(&w, a), told);
    end(&w);
}

/* The answer of the commit is not there yet: what it asked for is told already. */
static void what_is_told_while_a_commit_is_under_way_stays(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 34);
    w.c->delay_max_ns = 10 * HF_NS_PER_MS;
    for (uint64_t i = 0; i < 200; i++) {
        struct once sync;
        uint64_t told;

        write_some(&w, a, 0, i % 2 ? 1000 : 200000);
        hf_sim_run_ns(w.c->sim, HF_NS_PER_MS);
        assert_int_equal(hf_fs_fsync(a->file, &once(&sync)->req), HF_FS_PENDING);
        hf_sim_run_ns(w.c->sim, i % 20 * HF_NS_PER_MS);
        told = look(&w, a);
        assert_int_equal(wait_for(&w, &sync, HF_FS_PENDING), 0);
        assert_int_equal(ctime_of(&w, a), told);
        commit(&w, a);
        assert_int_equal(ctime_of(&w, a), told);
    }
    end(&w);
}

static void a_commit_that_goes_again_leaves_it(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    uint64_t told;

    (void)state;
    world_init(&w, 35);
    write_some(&w, a, 0, 1000);
    w.c->commit_fail_one_in = 1;
    w.c->commit_err = -HF_ESTALE_EPOCH;
    assert_int_not_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    told = look(&w, a);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    w.c->commit_fail_one_in = 0;
    hf_sim_run_ns(w.c->sim, 20 * HF_NS_PER_SEC);
    assert_int_equal(ctime_of(&w, a), told);
    w.errors_expected = true;
    end(&w);
}

static void a_change_of_the_mode_between_is_later_and_stays_too(void **state)
{
    struct hf_fs_set set = {.mask = HF_SET_MODE, .mode = 0600};
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    uint64_t told, first;

    (void)state;
    world_init(&w, 36);
    write_some(&w, a, 0, 1000);
    first = look(&w, a);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_MS);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set, &o.req)), 0);
    assert_true(o.req.attr.ctime_ns > first);
    told = look(&w, a);
    assert_true(told > first + HF_NS_PER_MS);
    assert_int_equal(look(&w, a), told);
    a->changes_seen = a->times_seen = 0;
    commit(&w, a);
    assert_int_equal(ctime_of(&w, a), told);
    assert_int_equal(a->changes_seen, 1);
    assert_int_equal(a->times_seen, 1);
    end(&w);
}

static void what_another_mount_changes_is_never_undone(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    uint64_t told, other;

    (void)state;
    world_init(&w, 37);
    write_some(&w, a, 0, 1000);
    told = look(&w, a);
    other = chmod_elsewhere(&w, a); /* after the look: the commit is later */
    assert_true(other > told);
    commit(&w, a);
    assert_true(ctime_of(&w, a) > other);

    write_some(&w, &w.actors[1], 0, 1000);
    other = chmod_elsewhere(&w, &w.actors[1]); /* before the look */
    told = look(&w, &w.actors[1]);
    assert_true(told > other);
    commit(&w, &w.actors[1]);
    assert_int_equal(ctime_of(&w, &w.actors[1]), told);
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_stays),
        cmocka_unit_test(what_nobody_was_told_is_the_time_of_the_commit),
        cmocka_unit_test(it_stays_when_the_data_goes_by_age),
        cmocka_unit_test(the_last_of_many_commits_leaves_it),
        cmocka_unit_test(what_is_told_while_a_commit_is_under_way_stays),
        cmocka_unit_test(a_commit_that_goes_again_leaves_it),
        cmocka_unit_test(a_change_of_the_mode_between_is_later_and_stays_too),
        cmocka_unit_test(what_another_mount_changes_is_never_undone),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
