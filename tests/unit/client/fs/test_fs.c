/* SPDX-License-Identifier: Apache-2.0 */
/* test_fs.c - contents: what is written, flushed, read back, and what becomes of failures. */
#include "tests/unit/client/fs/fs_world.h"

static void what_is_written_is_read_now_and_from_a_cold_start(void **state)
{
    const char *more = getenv("HF_TEST_SEEDS");
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 3;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct world w;

        print_message("seed %llu\n", (unsigned long long)seed);
        world_init(&w, seed);
        run(&w, 250);
        sync_and_close(&w);
        fs_close(&w);
        fs_open(&w);
        for (int i = 0; i < FILES; i++) {
            assert_true(same_when_cold(&w, &w.actors[i]));
        }
        fs_close(&w);
        world_fini(&w);
    }
}

/* Puts that fail for a while lose nothing: an fsync may say so, the data still gets there. */
static void passing_put_failures_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 101; seed <= 102; seed++) {
        struct world w;
        struct once o;

        world_init(&w, seed);
        w.c->put_fail_one_in = 3;
        w.c->put_err = -EIO;
        w.c->commit_fail_one_in = 6;
        w.c->commit_err = -HF_ESTALE_EPOCH;
        for (int i = 0; i < FILES; i++) { /* plain writes: nothing whose failure is final */
            struct actor *a = &w.actors[i];

            for (int k = 0; k < 60; k++) {
                some_range(a, k % 4 ? 20000 : 1u << 20);
                assert_int_equal(
                    WAIT(&w, &o,
                         (model_write(a), hf_fs_write(a->file, a->off, a->bytes + a->off, a->len,
                                                      NULL, 0, &o.req))),
                    0);
                if (k % 7 == 0) {
                    (void)WAIT(&w, &o, hf_fs_fsync(a->file, &o.req));
                }
            }
        }
        w.c->put_fail_one_in = w.c->commit_fail_one_in = 0;
        w.errors_expected = true;
        sync_and_close(&w);
        hf_sim_run_ns(w.c->sim, 30 * HF_NS_PER_SEC);
        w.errors_expected = false;
        fs_close(&w);
        fs_open(&w);
        for (int i = 0; i < FILES; i++) {
            assert_true(same_when_cold(&w, &w.actors[i]));
        }
        fs_close(&w);
        world_fini(&w);
    }
}

/* Data that cannot be written is dropped, but never without a word to the file's owner. */
static void final_failures_are_reported_once_to_every_open_file(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_file *second;
    struct once o;
    uint8_t data[100000] = {1};

    (void)state;
    world_init(&w, 7);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    second = o.req.file;
    w.c->put_fail_one_in = 1;
    w.c->put_err = -ENOSPC;
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 1, &o.req)), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 1, &o.req)), 0);
    w.c->put_fail_one_in = 0;
    assert_int_equal(WAIT(&w, &o,
                          hf_fs_write(a->file, 0, data, sizeof(data), NULL, HF_FS_WRITE_THROUGH,
                                      &once(&o)->req)),
                     0);
    hf_fs_release(second);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void small_fsyncs_ride_in_the_commit(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    uint8_t data[4096] = {1};

    (void)state;
    world_init(&w, 8);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(
            hf_fs_write(a->file, i * 4096, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    }
    assert_int_equal(w.c->object_count, 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Inline bytes of a window are bounded: then the rest goes as objects, and nothing is lost. */
static void a_log_with_many_fsyncs_outgrows_inline_bytes(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 17);
    for (uint64_t i = 0; i < 200; i++) {
        a->off = i * 1000;
        a->len = 1000;
        model_write(a);
        assert_int_equal(WAIT(&w, &o,
                              hf_fs_write(a->file, a->off, a->bytes + a->off, a->len, NULL,
                                          i % 3 ? 0 : HF_FS_WRITE_THROUGH, &o.req)),
                         0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    }
    assert_true(w.c->object_count > 0);
    end_cold(&w, a);
}

/* So are its extents: then the window is written whole. */
static void a_window_of_too_many_extents_is_written_whole(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 18);
    for (uint32_t i = 0; i < 20000; i++) {
        a->off = 4u << 20 | (i * 7919u % 20000u) * 100u;
        a->len = 50;
        model_write(a);
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, a->off, a->bytes + a->off, 50, NULL, 0, &o.req)), 0);
        if (i % 1000 == 999) {
            assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        }
    }
    end_cold(&w, a);
}

static void small_files_share_an_object_when_they_age(void **state)
{
    struct world w;
    struct once o;
    uint8_t data[5000] = {1};

    (void)state;
    world_init(&w, 9);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(
            hf_fs_write(w.actors[i].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    }
    hf_sim_run_ns(w.c->sim, 4 * HF_NS_PER_SEC);
    assert_int_equal(w.c->object_count, 0);
    hf_sim_run_ns(w.c->sim, 3 * HF_NS_PER_SEC);
    assert_int_equal(w.c->object_count, 1);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_sequential_writer_makes_whole_windows(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[1u << 20];

    (void)state;
    world_init(&w, 10);
    for (uint64_t off = 0; off < 32u << 20; off += sizeof(data)) {
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, off, data, sizeof(data), NULL, 0, &o.req)), 0);
    }
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(w.c->object_count, 8);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_full_cluster_says_so_at_write(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[100000];

    (void)state;
    world_init(&w, 11);
    w.c->budget_max = 50000;
    assert_int_equal(WAIT(&w, &o, hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &o.req)),
                     -ENOSPC);
    for (int i = 0; i < 20; i++) { /* waits for flushes to give back what it needs */
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, (uint64_t)i * 40000, data, 40000, NULL, 0, &o.req)),
            0);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static int allocate(struct world *w, struct actor *a, uint32_t mode, uint64_t off, uint64_t len)
{
    struct once o;

    return WAIT(w, &o, hf_fs_fallocate(a->file, mode, off, len, &o.req));
}

static int write_at(struct world *w, struct actor *a, uint64_t off, uint32_t len)
{
    static const uint8_t data[1u << 20];
    struct once o;

    return WAIT(w, &o, hf_fs_write(a->file, off, data, len, NULL, 0, &o.req));
}

static void what_a_file_has_reserved_is_written_in_a_full_cluster(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 23);
    w.c->reservable = 1u << 20;
    w.c->spare = 5u << 20; /* granted to this mount ahead of need */
    assert_int_equal(allocate(&w, a, 0, 0, 7u << 20), -ENOSPC);
    assert_int_equal(allocate(&w, a, 0, 0, 4u << 20), 0);
    assert_int_equal(allocate(&w, a, FALLOC_FL_KEEP_SIZE, 6u << 20, 2u << 20), 0);
    w.c->budget_max = 1000;
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(write_at(&w, a, i << 20, 1u << 20), 0);
    }
    assert_int_equal(write_at(&w, a, (6u << 20) + 5000, 100000), 0); /* was behind EOF */
    assert_int_equal(write_at(&w, a, 4u << 20, 2000), -ENOSPC);
    assert_int_equal(write_at(&w, a, (4u << 20) + 100, 2000), -ENOSPC);
    assert_int_equal(write_at(&w, &w.actors[1], 0, 2000), -ENOSPC);
    assert_int_equal(write_at(&w, &w.actors[1], 0, 500), 0); /* within the budget */
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, a->ino, &o.req)), 0);
    assert_int_equal(o.req.attr.bytes, 6u << 20);
    assert_int_equal(write_at(&w, a, 0, 2000), -ENOSPC); /* written: a new object needs space */
    assert_int_equal(write_at(&w, a, 7u << 20, 2000), 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_lost_session_reports_on_every_file_and_holds_nothing(void **state)
{
    struct world w;
    struct once o;
    static uint8_t data[100000];
    struct hf_fs_stats stats;

    (void)state;
    world_init(&w, 12);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(
            hf_fs_write(w.actors[i].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    }
    w.c->lost = true;
    hf_fs_session_lost(w.fs, -HF_EFENCED);
    for (int i = 0; i < FILES; i++) {
        for (int again = 0; again < 2; again++) {
            assert_int_equal(WAIT(&w, &o, hf_fs_fsync(w.actors[i].file, &o.req)), -EIO);
        }
        assert_int_equal(hf_fs_write(w.actors[i].file, 0, data, 1, NULL, 0, &once(&o)->req), -EIO);
        hf_fs_release(w.actors[i].file);
    }
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes + stats.flush_bytes, 0);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    hf_fs_shutdown(w.fs);
    hf_fs_free(w.fs);
    w.fs = NULL;
    world_fini(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_fsyncs_ride_in_the_commit),
        cmocka_unit_test(a_log_with_many_fsyncs_outgrows_inline_bytes),
        cmocka_unit_test(a_window_of_too_many_extents_is_written_whole),
        cmocka_unit_test(small_files_share_an_object_when_they_age),
        cmocka_unit_test(a_sequential_writer_makes_whole_windows),
        cmocka_unit_test(a_full_cluster_says_so_at_write),
        cmocka_unit_test(what_a_file_has_reserved_is_written_in_a_full_cluster),
        cmocka_unit_test(final_failures_are_reported_once_to_every_open_file),
        cmocka_unit_test(a_lost_session_reports_on_every_file_and_holds_nothing),
        cmocka_unit_test(passing_put_failures_lose_nothing),
        cmocka_unit_test(what_is_written_is_read_now_and_from_a_cold_start),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
