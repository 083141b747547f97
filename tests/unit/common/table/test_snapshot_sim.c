/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/table/snapshot.h"
#include "common/table/table.h"
#include "common/table/table_model.h"
#include "tests/lib/sim_env.h"

#define FILE_PATH "/snapshots/file"

/* A model's table on a simulated machine, whose disk fails. */
struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_sim_disk *disk;
    struct hf_table_model *model;
    struct hf_table_model *other;
    struct hf_table *table;
    struct hf_table_export export;
    struct hf_table_verify verify;
    unsigned done_count;
    int checkpoint_err;
    int export_err;
    int verify_err;
};

static void on_checkpoint(void *ctx, int err)
{
    struct world *w = ctx;

    w->checkpoint_err = err;
    w->done_count++;
}

static void on_export(void *ctx, int err)
{
    struct world *w = ctx;

    w->export_err = err;
    w->done_count++;
}

static void on_verify(void *ctx, int err)
{
    struct world *w = ctx;

    w->verify_err = err;
    w->done_count++;
}

static void run(struct world *w, unsigned want)
{
    while (w->done_count < want) {
        assert_true(hf_sim_step(w->sim));
        if (w->table) {
            hf_table_check_invariants(w->table);
        }
    }
    w->done_count = 0;
}

static void start_checkpoint(struct world *w)
{
    hf_table_checkpoint(w->table, "mark", 4, on_checkpoint, w);
}

static void start_export(struct world *w)
{
    w->export = (struct hf_table_export){.path = FILE_PATH, .done = on_export, .ctx = w};
    hf_table_export(w->table, &w->export);
}

static int verify(struct world *w)
{
    w->verify = (struct hf_table_verify){.path = FILE_PATH, .done = on_verify, .ctx = w};
    hf_table_verify(w->env, &w->verify);
    run(w, 1);
    return w->verify_err;
}

static void change_rows(struct world *w, uint32_t round)
{
    uint8_t key[8], value[300];

    for (uint32_t i = 0; i < 200; i++) {
        hf_put_be64(key, i);
        memset(value, (int)(i + round), sizeof(value));
        assert_int_equal(hf_table_put(w->table, key, sizeof(key), value, i + round % 50), 0);
    }
}

static void world_init(struct world *w, uint64_t seed)
{
    struct hf_table_base *base;

    *w = (struct world){.sim = hf_sim_new(seed)};
    w->env = hf_sim_env(w->sim);
    w->disk = hf_sim_disk(w->env);
    w->model = hf_table_model_new();
    w->other = hf_table_model_new();
    assert_non_null(w->model);
    assert_non_null(w->other);
    assert_int_equal(hf_disk_mkdir(hf_env_disk(w->env), "/snapshots"), 0);
    assert_int_equal(hf_table_base_model(w->model, &base), 0);
    assert_int_equal(hf_table_open(w->env, base, NULL, &w->table), 0);
    change_rows(w, 0);
    start_checkpoint(w);
    run(w, 1);
    assert_int_equal(w->checkpoint_err, 0);
}

static void world_fini(struct world *w)
{
    hf_table_close(w->table);
    hf_table_model_free(w->model);
    hf_table_model_free(w->other);
    hf_sim_free(w->sim);
}

/* With one fault after the other while it runs; the sweep ends when none strikes any more. */
static void an_export_on_a_disk_that_fails_says_so_and_leaves_no_file(void **state)
{
    static const enum hf_sim_fault kinds[] = {HF_SIM_FAULT_WRITE_EIO, HF_SIM_FAULT_SYNC_EIO,
                                              HF_SIM_FAULT_READ_EIO, HF_SIM_FAULT_NOSPC};

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        unsigned struck = 1, total = 0;

        for (uint64_t n = 0; struck; n++) {
            struct world w;
            int expect = kinds[k] == HF_SIM_FAULT_NOSPC ? -ENOSPC : -EIO;

            world_init(&w, n);
            hf_sim_disk_fail_at(w.disk, hf_sim_disk_calls(w.disk) + n, kinds[k]);
            start_export(&w);
            run(&w, 1);
            struck = hf_sim_disk_struck(w.disk);
            total += struck;
            assert_int_equal(w.export_err, struck ? expect : 0);
            hf_sim_disk_clear_faults(w.disk);
            assert_int_equal(verify(&w), struck ? -ENOENT : 0);
            world_fini(&w);
        }
        assert_true(total > 0);
    }
}

static void after_a_power_cut_a_file_is_whole_or_does_not_verify(void **state)
{
    unsigned struck = 1, missing = 0, partial = 0;

    (void)state;
    for (uint64_t n = 0; struck; n++) {
        for (uint64_t seed = 1; seed < 30; seed++) {
            struct world w;
            int err;

            world_init(&w, 1000 * n + seed);
            hf_sim_disk_fail_at(w.disk, hf_sim_disk_calls(w.disk) + n, HF_SIM_FAULT_POWER_CUT);
            start_export(&w);
            run(&w, 1);
            struck = hf_sim_disk_struck(w.disk);
            assert_true(struck || w.export_err == 0);
            if (!struck) {
                hf_sim_disk_power_cut(w.disk, HF_SIM_CUT_RANDOM);
            }
            hf_sim_disk_restart(w.disk);
            err = verify(&w);
            missing += err == -ENOENT;
            partial += err == -EBADMSG;
            if (!err) {
                assert_int_equal(hf_table_install_model(w.env, FILE_PATH, w.other), 0);
                assert_true(w.verify.snapshot.digest == hf_table_digest(w.table));
            } else {
                assert_true(struck);
                assert_true(err == -ENOENT || err == -EBADMSG);
            }
            world_fini(&w);
        }
    }
    assert_true(missing > 0 && partial > 0);
}

static void rot_on_the_disk_is_found(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1);
    start_export(&w);
    run(&w, 1);
    assert_int_equal(w.export_err, 0);
    for (uint64_t off = 0; off < w.export.snapshot.file_bytes; off += 61) {
        assert_int_equal(hf_sim_disk_flip(w.disk, FILE_PATH, off, 0x40), 0);
        assert_int_equal(verify(&w), -EBADMSG);
        assert_int_equal(hf_sim_disk_flip(w.disk, FILE_PATH, off, 0x40), 0);
    }
    assert_int_equal(verify(&w), 0);
    world_fini(&w);
}

static void a_failed_checkpoint_ends_the_export(void **state)
{
    unsigned ended = 0, finished = 0;

    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct hf_table_base *base;
        struct world w;

        world_init(&w, seed);
        change_rows(&w, 1);
        hf_table_model_fail_merges(w.model, -ENOSPC);
        start_checkpoint(&w);
        start_export(&w);
        run(&w, 2);
        assert_int_equal(w.checkpoint_err, -ENOSPC);
        assert_int_equal(verify(&w), w.export_err ? -ENOENT : 0);
        if (w.export_err) {
            assert_int_equal(w.export_err, -ENOSPC);
            ended++;
        } else {
            finished++;
        }
        assert_int_equal(hf_table_rescan(w.table), 0);
        hf_table_model_fail_merges(w.model, 0);
        start_checkpoint(&w);
        run(&w, 1);
        assert_int_equal(w.checkpoint_err, 0);
        hf_table_close(w.table);
        assert_int_equal(hf_table_base_model(w.model, &base), 0);
        assert_int_equal(hf_table_open(w.env, base, NULL, &w.table), 0);
        assert_int_equal(hf_table_rescan(w.table), 0);
        world_fini(&w);
    }
    assert_true(ended > 0 && finished > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_on_a_disk_that_fails_says_so_and_leaves_no_file),
        cmocka_unit_test(after_a_power_cut_a_file_is_whole_or_does_not_verify),
        cmocka_unit_test(rot_on_the_disk_is_found),
        cmocka_unit_test(a_failed_checkpoint_ends_the_export),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
