/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_world.h - a table, a snapshot file beside it, and a second place to install it into.
 */
#ifndef TESTS_COMMON_TABLE_SNAPSHOT_WORLD_H
#define TESTS_COMMON_TABLE_SNAPSHOT_WORLD_H

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
#include "common/env/env_real.h"
#include "common/table/snapshot.h"
#include "common/table/table.h"
#include "common/table/table_model.h"

enum kind { MODEL, LMDB };

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

static inline int open_at(struct world *w, unsigned place, struct hf_table **ret)
{
    struct hf_table_base *base;
    int err = w->kind == MODEL ? hf_table_base_model(w->model[place], &base)
                               : hf_table_base_lmdb(w->env, w->base[place], &base);

    return err ? err : hf_table_open(w->env, base, NULL, ret);
}

static inline int install_at(struct world *w, unsigned place)
{
    return w->kind == MODEL ? hf_table_install_model(w->env, w->file, w->model[place])
                            : hf_table_install_lmdb(w->env, w->file, w->base[place]);
}

static inline void world_init(struct world *w, enum kind kind)
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

static inline void remove_base(struct world *w, unsigned place)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/data.mdb", w->base[place]);
    (void)unlink(path);
    snprintf(path, sizeof(path), "%s/lock.mdb", w->base[place]);
    (void)unlink(path);
    (void)rmdir(w->base[place]);
}

static inline void world_fini(struct world *w)
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

static inline void arrived(struct world *w)
{
    if (--w->waiting == 0) {
        hf_env_real_stop(w->env);
    }
}

static inline void on_checkpoint(void *ctx, int err)
{
    struct world *w = ctx;

    w->checkpoint_err = err;
    arrived(w);
}

static inline void on_export(void *ctx, int err)
{
    struct world *w = ctx;

    w->export_err = err;
    assert_false(hf_table_export_running(w->table));
    arrived(w);
}

static inline void on_verify(void *ctx, int err)
{
    struct world *w = ctx;

    w->verify_err = err;
    arrived(w);
}

static inline void await(struct world *w)
{
    assert_int_equal(hf_env_real_run(w->env), 0);
    hf_table_check_invariants(w->table);
}

static inline void start_checkpoint(struct world *w, const char *mark)
{
    w->waiting++;
    hf_table_checkpoint(w->table, mark, strlen(mark), on_checkpoint, w);
}

static inline int checkpoint(struct world *w, const char *mark)
{
    start_checkpoint(w, mark);
    await(w);
    return w->checkpoint_err;
}

static inline void start_export(struct world *w, bool stop)
{
    w->waiting++;
    w->export =
        (struct hf_table_export){.path = w->file, .stop = stop, .done = on_export, .ctx = w};
    hf_table_export(w->table, &w->export);
    assert_true(hf_table_export_running(w->table));
}

static inline int export(struct world *w)
{
    start_export(w, false);
    await(w);
    return w->export_err;
}

static inline int verify(struct world *w)
{
    w->waiting++;
    w->verify = (struct hf_table_verify){.path = w->file, .done = on_verify, .ctx = w};
    hf_table_verify(w->env, &w->verify);
    assert_int_equal(hf_env_real_run(w->env), 0);
    return w->verify_err;
}

static inline void put(struct world *w, const char *key, const char *value)
{
    assert_int_equal(hf_table_put(w->table, key, strlen(key), value, strlen(value)), 0);
}

/* Rows of many sizes; another @round changes, adds and deletes some. */
static inline void change_rows(struct world *w, uint32_t round, uint32_t count)
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
    size_t len, cap;
};

static inline void text_add(struct text *text, const void *data, size_t len)
{
    if (text->len + len >= text->cap) {
        text->cap = 2 * (text->len + len) + 1;
        text->bytes = realloc(text->bytes, text->cap);
        assert_non_null(text->bytes);
    }
    memcpy(text->bytes + text->len, data, len);
    text->len += len;
}

/* All of a table's rows, one after the other. */
static inline struct text rows_of(struct hf_table *table)
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

static inline bool same_rows(const struct text *a, const struct text *b)
{
    return a->len == b->len && (!a->len || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static inline bool holds(struct hf_table *table, const char *mark, const struct text *rows)
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

static inline void assert_place_holds(struct world *w, unsigned place, const char *mark,
                                      const struct text *rows)
{
    struct hf_table *table;

    assert_int_equal(open_at(w, place, &table), 0);
    assert_true(holds(table, mark, rows));
    hf_table_close(table);
}

static inline bool is_mark(const struct hf_table_snapshot *snapshot, const char *mark)
{
    return snapshot->mark_len == strlen(mark) &&
           memcmp(snapshot->mark, mark, snapshot->mark_len) == 0;
}

static inline struct text read_file(const char *path)
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

static inline void write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

static inline bool file_is_there(const char *path)
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

#endif
