/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "common/env/env_impl.h"
#include "common/env/env_real.h"
#include "common/table/snapshot.h"
#include "common/table/snapshot_file.h"
#include "common/table/table.h"
#include "common/table/table_model.h"

enum kind { MODEL, LMDB };

/* A table, a file beside it, and a second place to install into. */
struct world {
    enum kind kind;
    struct hf_env *env;
    struct hf_table_model *model[2];
    char dir[64];
    char base[2][80];
    char file[80];
    struct hf_table *table;
    unsigned waiting;
    int checkpoint_err;
    int export_err;
    int verify_err;
    struct hf_table_export export;
    struct hf_table_verify verify;
};

/* The world */

static int open_at(struct world *w, unsigned place, struct hf_table **ret)
{
    struct hf_table_base *base;
    int err = w->kind == MODEL ? hf_table_base_model(w->model[place], &base)
                               : hf_table_base_lmdb(w->env, w->base[place], &base);

    return err ? err : hf_table_open(w->env, base, NULL, ret);
}

static int install_at(struct world *w, unsigned place)
{
    return w->kind == MODEL ? hf_table_install_model(w->env, w->file, w->model[place])
                            : hf_table_install_lmdb(w->env, w->file, w->base[place]);
}

static void world_init(struct world *w, enum kind kind)
{
    const struct hf_env_real_options options = {.disk_threads = 2, .cpu = -1};

    *w = (struct world){.kind = kind, .dir = "/tmp/hf-snapshot-XXXXXX"};
    assert_int_equal(hf_env_real_new(&options, &w->env), 0);
    assert_non_null(mkdtemp(w->dir));
    for (unsigned i = 0; i < 2; i++) {
        snprintf(w->base[i], sizeof(w->base[i]), "%s/%u", w->dir, i);
        w->model[i] = hf_table_model_new();
        assert_non_null(w->model[i]);
    }
    snprintf(w->file, sizeof(w->file), "%s/file", w->dir);
    assert_int_equal(open_at(w, 0, &w->table), 0);
}

static void remove_base(struct world *w, unsigned place)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/data.mdb", w->base[place]);
    (void)unlink(path);
    snprintf(path, sizeof(path), "%s/lock.mdb", w->base[place]);
    (void)unlink(path);
    (void)rmdir(w->base[place]);
}

static void world_fini(struct world *w)
{
    hf_table_close(w->table);
    hf_env_real_free(w->env);
    for (unsigned i = 0; i < 2; i++) {
        hf_table_model_free(w->model[i]);
        remove_base(w, i);
    }
    (void)unlink(w->file);
    assert_int_equal(rmdir(w->dir), 0);
}

static void arrived(struct world *w)
{
    if (--w->waiting == 0) {
        hf_env_real_stop(w->env);
    }
}

static void on_checkpoint(void *ctx, int err)
{
    struct world *w = ctx;

    w->checkpoint_err = err;
    arrived(w);
}

static void on_export(void *ctx, int err)
{
    struct world *w = ctx;

    w->export_err = err;
    assert_false(hf_table_export_running(w->table));
    arrived(w);
}

static void on_verify(void *ctx, int err)
{
    struct world *w = ctx;

    w->verify_err = err;
    arrived(w);
}

static void await(struct world *w)
{
    assert_int_equal(hf_env_real_run(w->env), 0);
    hf_table_check_invariants(w->table);
}

static void start_checkpoint(struct world *w, const char *mark)
{
    w->waiting++;
    hf_table_checkpoint(w->table, mark, strlen(mark), on_checkpoint, w);
}

static int checkpoint(struct world *w, const char *mark)
{
    start_checkpoint(w, mark);
    await(w);
    return w->checkpoint_err;
}

static void start_export(struct world *w, bool stop)
{
    w->waiting++;
    w->export =
        (struct hf_table_export){.path = w->file, .stop = stop, .done = on_export, .ctx = w};
    hf_table_export(w->table, &w->export);
    assert_true(hf_table_export_running(w->table));
}

static int export(struct world *w)
{
    start_export(w, false);
    await(w);
    return w->export_err;
}

static int verify(struct world *w)
{
    w->waiting++;
    w->verify = (struct hf_table_verify){.path = w->file, .done = on_verify, .ctx = w};
    hf_table_verify(w->env, &w->verify);
    assert_int_equal(hf_env_real_run(w->env), 0);
    return w->verify_err;
}

static void put(struct world *w, const char *key, const char *value)
{
    assert_int_equal(hf_table_put(w->table, key, strlen(key), value, strlen(value)), 0);
}

/* Rows of many sizes; another @round changes, adds and deletes some. */
static void change_rows(struct world *w, uint32_t round, uint32_t count)
{
    static uint8_t value[20000];

    for (uint32_t i = 0; i < count; i++) {
        uint64_t dice = hf_hash64(&i, sizeof(i), round);
        uint8_t key[12] = "row";

        hf_put_be32(key + 3, (uint32_t)(dice % (2 * count)));
        memset(value, (int)(dice >> 32), sizeof(value));
        if (round && dice % 5 == 0) {
            assert_int_equal(hf_table_del(w->table, key, 3 + dice % 10), 0);
        } else {
            size_t len = dice % 97 == 0 ? dice / 97 % sizeof(value) : dice / 97 % 100;

            assert_int_equal(hf_table_put(w->table, key, 7 + dice % 6, value, len), 0);
        }
    }
}

/* Files and tables, compared */

struct text {
    uint8_t *bytes;
    size_t len;
};

static void text_add(struct text *text, const void *data, size_t len)
{
    text->bytes = realloc(text->bytes, text->len + len + 1);
    assert_non_null(text->bytes);
    memcpy(text->bytes + text->len, data, len);
    text->len += len;
}

/* All of a table's rows, one after the other. */
static struct text rows_of(struct hf_table *table)
{
    struct text text = {0};
    struct hf_table_cursor c;
    int err;

    for (err = hf_table_seek(table, NULL, 0, &c); !err; err = hf_table_next(&c)) {
        uint64_t lens[2] = {c.key_len, c.value_len};

        text_add(&text, lens, sizeof(lens));
        text_add(&text, c.key, c.key_len);
        text_add(&text, c.value, c.value_len);
    }
    assert_int_equal(err, -ENOENT);
    return text;
}

static bool same_rows(const struct text *a, const struct text *b)
{
    return a->len == b->len && (!a->len || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static bool holds(struct hf_table *table, const char *mark, const struct text *rows)
{
    struct text got = rows_of(table);
    uint8_t bytes[HF_TABLE_MARK_MAX];
    size_t len;
    bool same;

    assert_int_equal(hf_table_mark(table, bytes, &len), 0);
    assert_int_equal(hf_table_rescan(table), 0);
    same = len == strlen(mark) && memcmp(bytes, mark, len) == 0 && same_rows(&got, rows);
    free(got.bytes);
    return same;
}

static void assert_place_holds(struct world *w, unsigned place, const char *mark,
                               const struct text *rows)
{
    struct hf_table *table;

    assert_int_equal(open_at(w, place, &table), 0);
    assert_true(holds(table, mark, rows));
    hf_table_close(table);
}

static bool is_mark(const struct hf_table_snapshot *snapshot, const char *mark)
{
    return snapshot->mark_len == strlen(mark) &&
           memcmp(snapshot->mark, mark, snapshot->mark_len) == 0;
}

static struct text read_file(const char *path)
{
    struct text text = {0};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    text.len = (size_t)st.st_size;
    text.bytes = malloc(text.len + 1);
    assert_non_null(text.bytes);
    assert_int_equal(read(fd, text.bytes, text.len), text.len);
    close(fd);
    return text;
}

static void write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

static bool file_is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

#define BOTH_BASES(name)                                                                           \
    static void name##_model(void **state)                                                         \
    {                                                                                              \
        struct world w;                                                                            \
        (void)state;                                                                               \
        world_init(&w, MODEL);                                                                     \
        name(&w);                                                                                  \
        world_fini(&w);                                                                            \
    }                                                                                              \
    static void name##_lmdb(void **state)                                                          \
    {                                                                                              \
        struct world w;                                                                            \
        (void)state;                                                                               \
        world_init(&w, LMDB);                                                                      \
        name(&w);                                                                                  \
        world_fini(&w);                                                                            \
    }

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
    text_add(&whole, whole.bytes + whole.len - sizeof(junk) - 1 - HF_SNAPSHOT_TAIL_BYTES,
             HF_SNAPSHOT_TAIL_BYTES);
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

/* Installing */

static void an_installed_base_replaces_one_with_more_history(struct world *w)
{
    struct hf_table *old;
    struct text rows;

    change_rows(w, 0, 2000);
    assert_int_equal(checkpoint(w, "new"), 0);
    rows = rows_of(w->table);
    assert_int_equal(export(w), 0);
    hf_table_close(w->table);

    /* The place to install into has seen many more transactions, and its lock file says so. */
    assert_int_equal(open_at(w, 1, &w->table), 0);
    for (uint32_t i = 0; i < 30; i++) {
        change_rows(w, 100 + i, 100);
        assert_int_equal(checkpoint(w, "old"), 0);
    }
    hf_table_close(w->table);
    assert_int_equal(verify(w), 0);
    assert_int_equal(install_at(w, 1), 0);
    assert_int_equal(open_at(w, 1, &w->table), 0);
    assert_true(holds(w->table, "new", &rows));
    assert_true(hf_table_digest(w->table) == w->verify.snapshot.digest);
    free(rows.bytes);

    /* And it lives on. */
    for (uint32_t i = 0; i < 5; i++) {
        change_rows(w, 200 + i, 500);
        assert_int_equal(checkpoint(w, "newer"), 0);
    }
    rows = rows_of(w->table);
    hf_table_close(w->table);
    assert_int_equal(open_at(w, 1, &w->table), 0);
    assert_true(holds(w->table, "newer", &rows));
    old = w->table;
    assert_int_equal(open_at(w, 0, &w->table), 0);
    hf_table_close(old);
    free(rows.bytes);
}
BOTH_BASES(an_installed_base_replaces_one_with_more_history)

static void the_wrong_kind_of_file_is_not_installed(struct world *w)
{
    const struct text nothing = {0};

    put(w, "a", "1");
    assert_int_equal(checkpoint(w, "1"), 0);
    assert_int_equal(export(w), 0);
    w->kind = w->kind == MODEL ? LMDB : MODEL;
    assert_int_equal(install_at(w, 1), -EBADMSG);
    w->kind = w->kind == MODEL ? LMDB : MODEL;
    assert_int_equal(verify(w), 0);
    assert_place_holds(w, 1, "", &nothing);
}
BOTH_BASES(the_wrong_kind_of_file_is_not_installed)

/* A disk of which the process is cut off after some calls: a crash seen from outside. */

struct cut_disk {
    struct hf_disk disk;
    struct hf_disk *real;
    unsigned left;
    bool struck;
};

struct cut_file {
    struct hf_file file;
    struct hf_file *real;
    struct cut_disk *disk;
};

static bool cut(struct cut_disk *d)
{
    if (d->left) {
        d->left--;
        return false;
    }
    d->struck = true;
    return true;
}

static struct cut_file *cut_of(struct hf_file *file)
{
    return (struct cut_file *)(void *)file;
}

static void cut_close(struct hf_file *file)
{
    hf_file_close(cut_of(file)->real);
    free(cut_of(file));
}

static ssize_t cut_preadv(struct hf_file *file, const struct iovec *iov, int count, uint64_t off)
{
    return hf_file_preadv(cut_of(file)->real, iov, count, off);
}

static int cut_sync(struct hf_file *file)
{
    return cut(cut_of(file)->disk) ? -EIO : hf_file_sync(cut_of(file)->real);
}

static int cut_truncate(struct hf_file *file, uint64_t len_bytes)
{
    return cut(cut_of(file)->disk) ? -EIO : hf_file_truncate(cut_of(file)->real, len_bytes);
}

static int cut_size(struct hf_file *file, uint64_t *ret_bytes)
{
    return hf_file_size(cut_of(file)->real, ret_bytes);
}

static const struct hf_file_ops cut_file_ops = {
    .close = cut_close,
    .preadv = cut_preadv,
    .sync = cut_sync,
    .truncate = cut_truncate,
    .size = cut_size,
};

static struct cut_disk *cut_disk_of(struct hf_disk *disk)
{
    return (struct cut_disk *)(void *)disk;
}

static int cut_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret)
{
    struct cut_disk *d = cut_disk_of(disk);
    struct cut_file *file;
    int err;

    if (cut(d)) {
        return -EIO;
    }
    file = calloc(1, sizeof(*file));
    assert_non_null(file);
    *file = (struct cut_file){.file.ops = &cut_file_ops, .disk = d};
    err = hf_disk_open(d->real, path, flags, &file->real);
    if (err) {
        free(file);
        return err;
    }
    *ret = &file->file;
    return 0;
}

static int cut_mkdir(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_mkdir(cut_disk_of(disk)->real, path);
}

static int cut_unlink(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_unlink(cut_disk_of(disk)->real, path);
}

static int cut_rename(struct hf_disk *disk, const char *from, const char *to)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_rename(cut_disk_of(disk)->real, from, to);
}

static int cut_sync_dir(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_sync_dir(cut_disk_of(disk)->real, path);
}

static const struct hf_disk_ops cut_disk_ops = {
    .open = cut_open,
    .mkdir = cut_mkdir,
    .unlink = cut_unlink,
    .rename = cut_rename,
    .sync_dir = cut_sync_dir,
};

/* Install, but the process ends after @calls calls of the disk. True: it did not get that far. */
static bool install_cut_short(struct world *w, unsigned calls, int *ret_err)
{
    struct cut_disk d = {.disk.ops = &cut_disk_ops, .real = w->env->disk, .left = calls};

    w->env->disk = &d.disk;
    *ret_err = install_at(w, 1);
    w->env->disk = d.real;
    return !d.struck;
}

static void an_install_cut_short_anywhere_leaves_the_old_base_or_the_new(struct world *w)
{
    struct hf_table *source, *target;
    struct text old_rows, new_rows;
    unsigned old_count = 0, new_count = 0;
    bool whole = false;

    change_rows(w, 0, 500);
    assert_int_equal(checkpoint(w, "new"), 0);
    new_rows = rows_of(w->table);
    source = w->table;
    for (unsigned calls = 0; !whole; calls++) {
        int err;

        remove_base(w, 1);
        hf_table_model_free(w->model[1]);
        w->model[1] = hf_table_model_new();
        assert_int_equal(open_at(w, 1, &w->table), 0);
        change_rows(w, 7, 300);
        old_rows = rows_of(w->table);
        assert_int_equal(checkpoint(w, "old"), 0);
        hf_table_close(w->table);
        w->table = source;
        assert_int_equal(export(w), 0);

        whole = install_cut_short(w, calls, &err);
        assert_true(!whole || err == 0);
        assert_int_equal(open_at(w, 1, &target), 0);
        if (holds(target, "new", &new_rows)) {
            new_count++;
            w->table = target;
            change_rows(w, 9, 3000); /* grows over a tail that is still there */
            free(old_rows.bytes);
            old_rows = rows_of(target);
            assert_int_equal(checkpoint(w, "newer"), 0);
            hf_table_close(target);
            assert_place_holds(w, 1, "newer", &old_rows);
            w->table = source;
        } else {
            old_count++;
            assert_true(holds(target, "old", &old_rows));
            hf_table_close(target);
            assert_int_not_equal(err, 0);
            assert_int_equal(verify(w), 0); /* still whole: done over, it works */
            assert_int_equal(install_at(w, 1), 0);
            assert_place_holds(w, 1, "new", &new_rows);
        }
        free(old_rows.bytes);
    }
    assert_true(old_count > 0 && new_count > 1);
    free(new_rows.bytes);
}
BOTH_BASES(an_install_cut_short_anywhere_leaves_the_old_base_or_the_new)

static void an_installed_file_has_no_tail(void **state)
{
    struct world w;
    struct stat st;
    char path[100];

    (void)state;
    world_init(&w, LMDB);
    put(&w, "a", "1");
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(export(&w), 0);
    assert_int_equal(install_at(&w, 1), 0);
    snprintf(path, sizeof(path), "%s/data.mdb", w.base[1]);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_size == w.export.snapshot.file_bytes - HF_SNAPSHOT_TAIL_BYTES);
    assert_int_equal(st.st_size % 4096, 0);
    world_fini(&w);
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
        BOTH(a_flipped_bit_is_found_anywhere),
        BOTH(a_file_of_another_length_is_found),
        BOTH(pieces_in_another_order_are_found),
        BOTH(rows_are_checked_behind_the_sum),
        cmocka_unit_test(a_damaged_base_is_not_exported),
        cmocka_unit_test(a_tail_has_these_bytes),
        BOTH(an_installed_base_replaces_one_with_more_history),
        BOTH(the_wrong_kind_of_file_is_not_installed),
        BOTH(an_install_cut_short_anywhere_leaves_the_old_base_or_the_new),
        cmocka_unit_test(an_installed_file_has_no_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
