/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/table/snapshot_file.h"
#include "tests/unit/common/table/snapshot_world.h"

/* Exporting */

static void an_export_holds_a_checkpoint_whatever_runs_beside_it(struct world *w)
{
    struct text rows[9] = {0};
    uint64_t digest[9] = {0};
    char mark[2] = "0";

    change_rows(w, 0, 2000);
    rows[0] = rows_of(w->table);
    digest[0] = hf_table_digest(w->table);
    assert_int_equal(checkpoint(w, mark), 0);
    for (unsigned i = 1; i < HF_ARRAY_LEN(rows); i++) {
        unsigned got;

        change_rows(w, i, 700);
        rows[i] = rows_of(w->table);
        digest[i] = hf_table_digest(w->table);
        mark[0] = (char)('0' + i);
        if (i % 2) {
            start_export(w, false);
            start_checkpoint(w, mark);
        } else {
            start_checkpoint(w, mark);
            start_export(w, false);
        }
        put(w, "new", "beside it");
        assert_int_equal(hf_table_rescan(w->table), 0);
        await(w);
        assert_int_equal(w->checkpoint_err, 0);
        assert_int_equal(w->export_err, 0);
        assert_int_equal(verify(w), 0);
        assert_memory_equal(&w->verify.snapshot, &w->export.snapshot, sizeof(w->export.snapshot));
        got = is_mark(&w->verify.snapshot, mark) ? i : i - 1;
        mark[0] = (char)('0' + got);
        assert_true(is_mark(&w->verify.snapshot, mark));
        assert_true(w->verify.snapshot.digest == digest[got]);
        assert_int_equal(install_at(w, 1), 0);
        assert_false(file_is_there(w->file));
        assert_place_holds(w, 1, mark, &rows[got]);
        assert_int_equal(hf_table_del(w->table, "new", 3), 0);
    }
    for (unsigned i = 0; i < HF_ARRAY_LEN(rows); i++) {
        free(rows[i].bytes);
    }
}
BOTH_BASES(an_export_holds_a_checkpoint_whatever_runs_beside_it)

static void without_a_checkpoint_there_is_nothing_to_export(struct world *w)
{
    put(w, "a", "1");
    write_file(w->file, "older", 5);
    assert_int_equal(export(w), -ENOENT);
    assert_false(file_is_there(w->file));
    assert_int_equal(verify(w), -ENOENT);
    assert_int_equal(install_at(w, 1), -ENOENT);
}
BOTH_BASES(without_a_checkpoint_there_is_nothing_to_export)

static void an_empty_table_has_a_mark_all_the_same(struct world *w)
{
    const struct text nothing = {0};

    assert_int_equal(checkpoint(w, "empty"), 0);
    assert_int_equal(export(w), 0);
    assert_int_equal(verify(w), 0);
    assert_true(is_mark(&w->verify.snapshot, "empty"));
    assert_true(w->verify.snapshot.rows == 0 && w->verify.snapshot.digest == 0);
    assert_int_equal(install_at(w, 1), 0);
    assert_place_holds(w, 1, "empty", &nothing);
}
BOTH_BASES(an_empty_table_has_a_mark_all_the_same)

static void what_was_not_checkpointed_is_not_exported(struct world *w)
{
    char path[100];

    put(w, "a", "1");
    assert_int_equal(checkpoint(w, "1"), 0);
    put(w, "b", "2");
    write_file(w->file, "older", 5);
    assert_int_equal(export(w), 0);
    assert_int_equal(verify(w), 0);
    assert_true(w->verify.snapshot.rows == 1);
    assert_true(is_mark(&w->verify.snapshot, "1"));
    assert_true(w->verify.snapshot.file_bytes == w->export.snapshot.file_bytes);
    snprintf(path, sizeof(path), "%s-lock", w->file); /* as LMDB names it */
    assert_false(file_is_there(path));
}
BOTH_BASES(what_was_not_checkpointed_is_not_exported)

static void stopping_removes_the_file(struct world *w)
{
    change_rows(w, 0, 300);
    assert_int_equal(checkpoint(w, "1"), 0);
    start_export(w, true);
    await(w);
    assert_int_equal(w->export_err, -ECANCELED);
    assert_false(file_is_there(w->file));
    assert_int_equal(export(w), 0);

    w->waiting++;
    w->verify =
        (struct hf_table_verify){.path = w->file, .stop = true, .done = on_verify, .ctx = w};
    hf_table_verify(w->env, &w->verify);
    assert_int_equal(hf_env_real_run(w->env), 0);
    assert_int_equal(w->verify_err, -ECANCELED);
    assert_true(file_is_there(w->file));
}
BOTH_BASES(stopping_removes_the_file)

static void a_directory_that_is_missing_is_an_error(struct world *w)
{
    put(w, "a", "1");
    assert_int_equal(checkpoint(w, "1"), 0);
    snprintf(w->file, sizeof(w->file), "%s/no/file", w->dir);
    assert_int_equal(export(w), -ENOENT);
    assert_false(hf_table_export_running(w->table));
}
BOTH_BASES(a_directory_that_is_missing_is_an_error)

/* Whichever of the two comes first, the table works on and loses nothing. */
static void a_failed_checkpoint_beside_an_export_loses_nothing(struct world *w)
{
    struct text rows;

    change_rows(w, 0, 500);
    assert_int_equal(checkpoint(w, "1"), 0);
    for (uint32_t round = 1; round < 9; round++) {
        change_rows(w, round, 100);
        rows = rows_of(w->table);
        hf_table_model_fail_merges(w->model[0], -ENOSPC);
        start_export(w, false);
        start_checkpoint(w, "2");
        await(w);
        assert_int_equal(w->checkpoint_err, -ENOSPC);
        assert_true(w->export_err == 0 || w->export_err == -ENOSPC);
        assert_true(file_is_there(w->file) == (w->export_err == 0));
        hf_table_model_fail_merges(w->model[0], 0);
        assert_true(holds(w->table, "1", &rows));
        assert_int_equal(checkpoint(w, "1"), 0);
        assert_true(holds(w->table, "1", &rows));
        free(rows.bytes);
    }
}

static void a_failed_checkpoint_beside_an_export_loses_nothing_model(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, MODEL);
    a_failed_checkpoint_beside_an_export_loses_nothing(&w);
    world_fini(&w);
}

/* Make this process's descriptors of data.mdb refuse writes, as a disk that fails would. */
static void break_writes(struct world *w)
{
    char path[100], name[32], target[200];
    unsigned hits = 0;
    int read_only;

    snprintf(path, sizeof(path), "%s/data.mdb", w->base[0]);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read_only >= 0);
    for (int fd = 0; fd < 256; fd++) {
        ssize_t len;

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        len = fd == read_only ? -1 : readlink(name, target, sizeof(target) - 1);
        if (len > 0) {
            target[len] = '\0';
            if (strcmp(target, path) == 0) {
                assert_int_equal(dup2(read_only, fd), fd);
                hits++;
            }
        }
    }
    assert_true(hits > 0);
    close(read_only);
}

/* LMDB is to be reopened then, but not under the export. */
static void a_broken_base_is_reopened_after_the_export(void **state)
{
    struct text rows;
    struct world w;

    (void)state;
    world_init(&w, LMDB);
    for (uint32_t round = 0; round < 10; round++) {
        change_rows(&w, round, 3000);
        assert_int_equal(checkpoint(&w, "1"), 0);
        change_rows(&w, 100 + round, 300);
        rows = rows_of(w.table);
        break_writes(&w);
        if (round % 2) {
            start_checkpoint(&w, "2");
            start_export(&w, false);
        } else {
            start_export(&w, false);
            start_checkpoint(&w, "2");
        }
        await(&w);
        assert_int_equal(w.checkpoint_err, -EIO);
        assert_true(w.export_err == 0 || w.export_err == -EIO);
        assert_true(holds(w.table, "1", &rows));
        free(rows.bytes);
    }
    assert_int_equal(checkpoint(&w, "3"), 0);
    assert_int_equal(export(&w), 0);
    world_fini(&w);
}

/* Verifying */

static void assert_bad(struct world *w, const void *data, size_t len)
{
    write_file(w->file, data, len);
    assert_int_equal(verify(w), -EBADMSG);
}

static void a_flipped_bit_is_found_anywhere(struct world *w)
{
    struct text whole;

    change_rows(w, 0, 400);
    assert_int_equal(checkpoint(w, "mark"), 0);
    assert_int_equal(export(w), 0);
    whole = read_file(w->file);
    for (size_t i = 0; i < whole.len;) {
        bool dense = i < 200 || i > whole.len - 2 * HF_SNAPSHOT_TAIL_BYTES || i % 4096 < 24;

        whole.bytes[i] ^= (uint8_t)(1u << i % 8);
        assert_bad(w, whole.bytes, whole.len);
        whole.bytes[i] ^= (uint8_t)(1u << i % 8);
        i += dense ? 1 : 331;
    }
    write_file(w->file, whole.bytes, whole.len);
    assert_int_equal(verify(w), 0);
    free(whole.bytes);
}
BOTH_BASES(a_flipped_bit_is_found_anywhere)

static void a_file_of_another_length_is_found(struct world *w)
{
    struct text whole;
    uint8_t junk[300];

    change_rows(w, 0, 400);
    assert_int_equal(checkpoint(w, "mark"), 0);
    assert_int_equal(export(w), 0);
    whole = read_file(w->file);
    for (size_t len = 0; len < whole.len; len += len < 100 ? 1 : 499) {
        assert_bad(w, whole.bytes, len);
    }
    for (size_t less = 1; less < 100; less++) {
        assert_bad(w, whole.bytes, whole.len - less);
    }
    assert_bad(w, whole.bytes + 1, whole.len - 1);
    assert_bad(w, whole.bytes + 4096, whole.len - 4096);
    assert_bad(w, whole.bytes + whole.len - HF_SNAPSHOT_TAIL_BYTES, HF_SNAPSHOT_TAIL_BYTES);
    for (size_t i = 0; i < sizeof(junk); i++) {
        junk[i] = (uint8_t)hf_hash64(&i, sizeof(i), 1);
        assert_bad(w, junk, i);
    }
    text_add(&whole, junk, 1);
    assert_bad(w, whole.bytes, whole.len);
    text_add(&whole, junk, sizeof(junk));
    assert_bad(w, whole.bytes, whole.len);
    memcpy(junk, whole.bytes + whole.len - sizeof(junk) - 1 - HF_SNAPSHOT_TAIL_BYTES,
           HF_SNAPSHOT_TAIL_BYTES);
    text_add(&whole, junk, HF_SNAPSHOT_TAIL_BYTES);
    assert_bad(w, whole.bytes, whole.len);
    assert_int_equal(install_at(w, 1), -EBADMSG);
    free(whole.bytes);
}
BOTH_BASES(a_file_of_another_length_is_found)

static void pieces_in_another_order_are_found(struct world *w)
{
    static uint8_t big[HF_TABLE_VALUE_MAX];
    uint8_t *at, *other;
    struct text whole;

    for (uint32_t i = 0; i < 3; i++) {
        memset(big, (int)i, sizeof(big));
        assert_int_equal(hf_table_put(w->table, &i, sizeof(i), big, sizeof(big)), 0);
    }
    assert_int_equal(checkpoint(w, "mark"), 0);
    assert_int_equal(export(w), 0);
    assert_int_equal(verify(w), 0);
    assert_true(w->verify.snapshot.rows == 3);
    whole = read_file(w->file);
    assert_true(whole.len > 3 * HF_SNAPSHOT_PIECE_BYTES);
    at = whole.bytes + HF_SNAPSHOT_PIECE_BYTES;
    other = at + HF_SNAPSHOT_PIECE_BYTES;
    memcpy(big, at, sizeof(big));
    memcpy(at, other, sizeof(big));
    memcpy(other, big, sizeof(big));
    assert_bad(w, whole.bytes, whole.len);
    free(whole.bytes);
}
BOTH_BASES(pieces_in_another_order_are_found)

/* A body whose sum holds is read row by row all the same. */
static void rows_are_checked_behind_the_sum(struct world *w)
{
    atomic_bool never = false;
    struct hf_snapshot_tail tail;
    struct hf_file *file;
    uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES];
    uint64_t sum = HF_SNAPSHOT_BODY_SEED;
    struct text whole;
    uint8_t *at;

    put(w, "a", "some value to change");
    put(w, "b", "another");
    assert_int_equal(checkpoint(w, "mark"), 0);
    assert_int_equal(export(w), 0);
    whole = read_file(w->file);
    at = memmem(whole.bytes, whole.len, "some value to change", 20);
    assert_non_null(at);
    at[5] ^= 1;
    assert_int_equal(
        hf_snapshot_tail_decode(whole.bytes + whole.len - sizeof(bytes), whole.len, &tail), 0);
    assert_true(tail.body_bytes < HF_SNAPSHOT_PIECE_BYTES);
    tail.body_sum = hf_hash64(whole.bytes, tail.body_bytes, sum);
    hf_snapshot_tail_encode(&tail, bytes);
    memcpy(whole.bytes + whole.len - sizeof(bytes), bytes, sizeof(bytes));
    assert_bad(w, whole.bytes, whole.len);
    assert_int_equal(hf_disk_open(hf_env_disk(w->env), w->file, HF_FILE_READ_ONLY, &file), 0);
    assert_int_equal(hf_snapshot_check_body(file, &tail, &never), 0);
    hf_file_close(file);

    at[5] ^= 1;
    tail.body_sum = hf_hash64(whole.bytes, tail.body_bytes, sum);
    tail.rows++;
    hf_snapshot_tail_encode(&tail, whole.bytes + whole.len - sizeof(bytes));
    assert_bad(w, whole.bytes, whole.len);
    free(whole.bytes);
}
BOTH_BASES(rows_are_checked_behind_the_sum)

static void a_damaged_base_is_not_exported(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, MODEL);
    put(&w, "a", "1");
    put(&w, "b", "2");
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(hf_table_model_rot(w.model[0], "b", 1), 0);
    assert_int_equal(export(&w), -EBADMSG);
    assert_false(file_is_there(w.file));
    world_fini(&w);
}

static void a_tail_has_these_bytes(void **state)
{
    static const uint8_t golden[HF_SNAPSHOT_TAIL_BYTES] = {
        0x74, 0x49, 0x24, 0xc1, 0xbc, 0x30, 0x60, 0x58, 0x48, 0x46, 0x53, 0x4e,
        0x01, 0x00, 0x01, 0x00, 0x00, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x2a, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99};
    const struct hf_snapshot_tail tail = {.kind = HF_SNAPSHOT_LMDB,
                                          .body_bytes = 0x5000,
                                          .body_sum = 0x1122334455667788,
                                          .rows = 42,
                                          .digest = 0x99aabbccddeeff00};
    struct hf_snapshot_tail back;
    uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES];

    (void)state;
    hf_snapshot_tail_encode(&tail, bytes);
    assert_memory_equal(bytes, golden, sizeof(golden));
    assert_int_equal(hf_snapshot_tail_decode(golden, 0x5000 + sizeof(golden), &back), 0);
    assert_true(back.kind == tail.kind && back.body_bytes == tail.body_bytes &&
                back.body_sum == tail.body_sum && back.rows == tail.rows &&
                back.digest == tail.digest);
    assert_int_equal(hf_snapshot_tail_decode(golden, 0x5000, &back), -EBADMSG);
}

int main(void)
{
#define BOTH(name) cmocka_unit_test(name##_model), cmocka_unit_test(name##_lmdb)
    const struct CMUnitTest tests[] = {
        BOTH(an_export_holds_a_checkpoint_whatever_runs_beside_it),
        BOTH(without_a_checkpoint_there_is_nothing_to_export),
        BOTH(an_empty_table_has_a_mark_all_the_same),
        BOTH(what_was_not_checkpointed_is_not_exported),
        BOTH(stopping_removes_the_file),
        BOTH(a_directory_that_is_missing_is_an_error),
        cmocka_unit_test(a_failed_checkpoint_beside_an_export_loses_nothing_model),
        cmocka_unit_test(a_broken_base_is_reopened_after_the_export),
        BOTH(a_flipped_bit_is_found_anywhere),
        BOTH(a_file_of_another_length_is_found),
        BOTH(pieces_in_another_order_are_found),
        BOTH(rows_are_checked_behind_the_sum),
        cmocka_unit_test(a_damaged_base_is_not_exported),
        cmocka_unit_test(a_tail_has_these_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
