/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/env/env_real.h"
#include "common/table/memtable.h"
#include "common/table/table.h"
#include "common/table/table_model.h"

#define KEYS      400u
#define VALUE_MAX 96u

enum kind { MODEL, LMDB };

struct world {
    enum kind kind;
    struct hf_env *env;
    struct hf_table_model *model;
    char dir[64];
    struct hf_table *table;
    int done_err;
    unsigned done_count;
};

/* The world */

static int open_table(struct world *w)
{
    struct hf_table_base *base;
    int err = w->kind == MODEL ? hf_table_base_model(w->model, &base)
                               : hf_table_base_lmdb(w->env, w->dir, &base);

    return err ? err : hf_table_open(w->env, base, NULL, &w->table);
}

static void close_table(struct world *w)
{
    hf_table_close(w->table);
    w->table = NULL;
}

static void world_init(struct world *w, enum kind kind)
{
    const struct hf_env_real_options options = {.disk_threads = 1, .cpu = -1};

    *w = (struct world){.kind = kind, .dir = "/tmp/hf-table-XXXXXX"};
    assert_int_equal(hf_env_real_new(&options, &w->env), 0);
    w->model = hf_table_model_new();
    assert_non_null(w->model);
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(open_table(w), 0);
}

static void world_fini(struct world *w)
{
    char path[128];

    hf_table_close(w->table);
    hf_env_real_free(w->env);
    hf_table_model_free(w->model);
    snprintf(path, sizeof(path), "%s/data.mdb", w->dir);
    (void)unlink(path); /* only LMDB makes them */
    snprintf(path, sizeof(path), "%s/lock.mdb", w->dir);
    (void)unlink(path);
    assert_int_equal(rmdir(w->dir), 0);
}

static void reopen(struct world *w)
{
    close_table(w);
    assert_int_equal(open_table(w), 0);
}

static void on_done(void *ctx, int err)
{
    struct world *w = ctx;

    w->done_err = err;
    w->done_count++;
    hf_env_real_stop(w->env);
}

static void start_checkpoint(struct world *w, const char *mark)
{
    w->done_count = 0;
    hf_table_checkpoint(w->table, mark, strlen(mark), on_done, w);
    assert_int_equal(w->done_count, 0);
    assert_true(hf_table_checkpoint_running(w->table));
}

static int await_checkpoint(struct world *w)
{
    assert_int_equal(hf_env_real_run(w->env), 0);
    assert_int_equal(w->done_count, 1);
    assert_false(hf_table_checkpoint_running(w->table));
    hf_table_check_invariants(w->table);
    return w->done_err;
}

static int checkpoint(struct world *w, const char *mark)
{
    start_checkpoint(w, mark);
    return await_checkpoint(w);
}

static int put(struct world *w, const char *key, const char *value)
{
    return hf_table_put(w->table, key, strlen(key), value, strlen(value));
}

static int del(struct world *w, const char *key)
{
    return hf_table_del(w->table, key, strlen(key));
}

static void assert_value(struct world *w, const char *key, const char *value)
{
    const void *got;
    size_t len;
    int err = hf_table_get(w->table, key, strlen(key), &got, &len);

    if (!value) {
        assert_int_equal(err, -ENOENT);
        return;
    }
    assert_int_equal(err, 0);
    assert_int_equal(len, strlen(value));
    assert_memory_equal(got, value, len);
}

static void assert_mark(struct world *w, const char *mark)
{
    uint8_t got[HF_TABLE_MARK_MAX];
    size_t len;

    assert_int_equal(hf_table_mark(w->table, got, &len), 0);
    assert_int_equal(len, strlen(mark));
    assert_memory_equal(got, mark, len);
}

/* Walk the whole table into text: "key=value " for each row. */
static void dump(struct world *w, char *ret, size_t cap)
{
    struct hf_table_cursor c;
    size_t at = 0;
    int err;

    ret[0] = '\0';
    for (err = hf_table_seek(w->table, NULL, 0, &c); !err; err = hf_table_next(&c)) {
        at += (size_t)snprintf(ret + at, cap - at, "%.*s=%.*s ", (int)c.key_len,
                               (const char *)c.key, (int)c.value_len, (const char *)c.value);
    }
    assert_int_equal(err, -ENOENT);
}

static void assert_rows(struct world *w, const char *rows)
{
    char text[1024];

    dump(w, text, sizeof(text));
    assert_string_equal(text, rows);
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

/* Claims that hold over either base */

static void newest_layer_wins(struct world *w)
{
    assert_int_equal(put(w, "a", "base"), 0);
    assert_int_equal(put(w, "b", "base"), 0);
    assert_int_equal(put(w, "c", "base"), 0);
    assert_int_equal(put(w, "d", "base"), 0);
    assert_int_equal(checkpoint(w, "1"), 0);
    assert_int_equal(put(w, "b", "frozen"), 0);
    assert_int_equal(put(w, "bb", "frozen"), 0);
    assert_int_equal(put(w, "c", "frozen"), 0);
    assert_int_equal(del(w, "d"), 0);
    start_checkpoint(w, "2");
    assert_int_equal(put(w, "c", "active"), 0);
    assert_int_equal(put(w, "d", "active"), 0);
    assert_int_equal(del(w, "bb"), 0);
    assert_int_equal(put(w, "e", "active"), 0);
    assert_rows(w, "a=base b=frozen c=active d=active e=active ");
    assert_value(w, "bb", NULL);
    assert_value(w, "b", "frozen");
    assert_value(w, "d", "active");
    assert_int_equal(hf_table_rescan(w->table), 0);
    assert_int_equal(await_checkpoint(w), 0);
    assert_rows(w, "a=base b=frozen c=active d=active e=active ");
    assert_int_equal(hf_table_rescan(w->table), 0);
    reopen(w);
    assert_rows(w, "a=base b=frozen bb=frozen c=frozen ");
    assert_int_equal(hf_table_rescan(w->table), 0);
    assert_mark(w, "2");
}
BOTH_BASES(newest_layer_wins)

static void mark_moves_only_with_a_finished_checkpoint(struct world *w)
{
    assert_mark(w, "");
    assert_int_equal(checkpoint(w, "first"), 0);
    assert_mark(w, "first");
    assert_int_equal(put(w, "a", "1"), 0);
    start_checkpoint(w, "second");
    assert_mark(w, "first");
    assert_int_equal(await_checkpoint(w), 0);
    assert_mark(w, "second");
    assert_int_equal(put(w, "a", "2"), 0);
    reopen(w);
    assert_mark(w, "second");
    assert_rows(w, "a=1 ");
    assert_int_equal(checkpoint(w, ""), 0);
    reopen(w);
    assert_mark(w, "");
}
BOTH_BASES(mark_moves_only_with_a_finished_checkpoint)

static void sizes_are_bounded(struct world *w)
{
    static uint8_t big[HF_TABLE_VALUE_MAX + 1];
    const void *value;
    size_t len;

    assert_int_equal(hf_table_put(w->table, "", 0, "x", 1), -EINVAL);
    assert_int_equal(hf_table_put(w->table, big, HF_TABLE_KEY_MAX + 1, "x", 1), -EINVAL);
    assert_int_equal(hf_table_put(w->table, "k", 1, big, sizeof(big)), -EINVAL);
    assert_int_equal(hf_table_del(w->table, "", 0), -EINVAL);
    memset(big, 0xff, sizeof(big));
    assert_int_equal(hf_table_put(w->table, big, HF_TABLE_KEY_MAX, big, HF_TABLE_VALUE_MAX), 0);
    assert_int_equal(hf_table_put(w->table, "e", 1, NULL, 0), 0);
    assert_int_equal(checkpoint(w, "m"), 0);
    reopen(w);
    assert_int_equal(hf_table_get(w->table, big, HF_TABLE_KEY_MAX, &value, &len), 0);
    assert_int_equal(len, HF_TABLE_VALUE_MAX);
    assert_memory_equal(value, big, len);
    assert_int_equal(hf_table_get(w->table, "e", 1, &value, &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(hf_table_rescan(w->table), 0);
}
BOTH_BASES(sizes_are_bounded)

static void equal_contents_have_equal_digests(struct world *w)
{
    struct world other;
    uint64_t digest;

    assert_int_equal(put(w, "a", "1"), 0);
    assert_int_equal(put(w, "b", "2"), 0);
    assert_int_equal(put(w, "c", "3"), 0);
    assert_int_equal(checkpoint(w, "x"), 0);
    assert_int_equal(del(w, "b"), 0);
    assert_int_equal(put(w, "a", "9"), 0);
    assert_int_equal(put(w, "a", "1"), 0);
    digest = hf_table_digest(w->table);

    world_init(&other, w->kind);
    assert_true(hf_table_digest(other.table) == 0);
    assert_int_equal(put(&other, "c", "3"), 0);
    assert_int_equal(put(&other, "a", "0"), 0);
    assert_true(hf_table_digest(other.table) != digest);
    assert_int_equal(put(&other, "a", "1"), 0);
    assert_true(hf_table_digest(other.table) == digest);
    assert_int_equal(checkpoint(w, "y"), 0);
    reopen(w);
    assert_true(hf_table_digest(w->table) == digest);
    assert_int_equal(del(&other, "a"), 0);
    assert_int_equal(del(&other, "c"), 0);
    assert_int_equal(del(&other, "never there"), 0);
    assert_true(hf_table_digest(other.table) == 0);
    world_fini(&other);
}
BOTH_BASES(equal_contents_have_equal_digests)

static void cursors_do_not_disturb_each_other(struct world *w)
{
    struct hf_table_cursor outer, inner;
    unsigned outer_count = 0;
    int err;

    for (unsigned i = 0; i < 40; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%03u", i);
        assert_int_equal(put(w, key, key), 0);
    }
    assert_int_equal(checkpoint(w, "x"), 0);
    for (err = hf_table_seek(w->table, NULL, 0, &outer); !err; err = hf_table_next(&outer)) {
        char expect[16];

        snprintf(expect, sizeof(expect), "%03u", outer_count++);
        assert_memory_equal(outer.key, expect, 3);
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(hf_table_seek(w->table, "02", 2, &inner), 0);
            assert_memory_equal(inner.key, "020", 3);
            assert_int_equal(hf_table_next(&inner), 0);
            assert_memory_equal(inner.value, "021", 3);
        }
    }
    assert_int_equal(err, -ENOENT);
    assert_int_equal(outer_count, 40);
}
BOTH_BASES(cursors_do_not_disturb_each_other)

static void a_checkpoint_is_wanted_once_something_is_dirty(struct world *w)
{
    const struct hf_table_options options = {.freeze_bytes = 4096,
                                             .merge_delay_ns = 3600 * HF_NS_PER_SEC};
    struct hf_table_base *base;
    char value[512] = {0};

    close_table(w);
    assert_int_equal(w->kind == MODEL ? hf_table_base_model(w->model, &base)
                                      : hf_table_base_lmdb(w->env, w->dir, &base),
                     0);
    assert_int_equal(hf_table_open(w->env, base, &options, &w->table), 0);
    assert_false(hf_table_dirty(w->table));
    assert_false(hf_table_wants_checkpoint(w->table));
    assert_int_equal(put(w, "a", "1"), 0);
    assert_true(hf_table_dirty(w->table));
    assert_false(hf_table_wants_checkpoint(w->table));
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(hf_table_put(w->table, &i, sizeof(i), value, sizeof(value)), 0);
    }
    assert_true(hf_table_memory_bytes(w->table) >= 4096);
    assert_true(hf_table_wants_checkpoint(w->table));
    start_checkpoint(w, "x");
    assert_false(hf_table_wants_checkpoint(w->table));
    assert_int_equal(await_checkpoint(w), 0);
    assert_false(hf_table_dirty(w->table));
    assert_false(hf_table_wants_checkpoint(w->table));
    assert_int_equal(hf_table_memory_bytes(w->table), 0);
}
BOTH_BASES(a_checkpoint_is_wanted_once_something_is_dirty)

/* Failures of the model */

static void a_failed_merge_loses_nothing(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, MODEL);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(put(&w, "b", "1"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(put(&w, "a", "2"), 0);
    assert_int_equal(del(&w, "b"), 0);
    assert_int_equal(put(&w, "c", "2"), 0);
    hf_table_model_fail_merges(w.model, -ENOSPC);
    assert_int_equal(checkpoint(&w, "2"), -ENOSPC);
    assert_mark(&w, "1");
    assert_rows(&w, "a=2 c=2 ");
    assert_int_equal(put(&w, "b", "3"), 0);
    assert_int_equal(del(&w, "c"), 0);
    assert_int_equal(put(&w, "d", "3"), 0);
    assert_int_equal(checkpoint(&w, "3"), -ENOSPC);
    assert_rows(&w, "a=2 b=3 d=3 ");
    assert_false(hf_table_wants_checkpoint(w.table)); /* not before the delay has passed */
    hf_table_model_fail_merges(w.model, 0);
    assert_int_equal(checkpoint(&w, "4"), 0);
    assert_rows(&w, "a=2 b=3 d=3 ");
    reopen(&w);
    assert_mark(&w, "4");
    assert_rows(&w, "a=2 b=3 d=3 ");
    assert_int_equal(hf_table_rescan(w.table), 0);
    world_fini(&w);
}

/* A row that came and went in memory must not come back from a merge that only seemed to fail. */
static void a_merge_that_failed_after_the_fact_leaves_no_row_behind(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, MODEL);
    assert_int_equal(put(&w, "a", "1"), 0);
    hf_table_model_crash_next_merge(w.model, true);
    assert_int_equal(checkpoint(&w, "1"), -EIO);
    assert_int_equal(del(&w, "a"), 0);
    assert_rows(&w, "");
    hf_table_model_crash_next_merge(w.model, true);
    assert_int_equal(checkpoint(&w, "2"), -EIO);
    assert_int_equal(put(&w, "a", "3"), 0);
    assert_int_equal(del(&w, "a"), 0);
    assert_int_equal(checkpoint(&w, "3"), 0);
    assert_rows(&w, "");
    reopen(&w);
    assert_rows(&w, "");
    assert_true(hf_table_digest(w.table) == 0);
    world_fini(&w);
}

static void a_rotten_row_is_reported_not_returned(void **state)
{
    struct world w;
    struct hf_table_cursor c;
    const void *value;
    size_t len;

    (void)state;
    world_init(&w, MODEL);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(put(&w, "b", "2"), 0);
    assert_int_equal(put(&w, "c", "3"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(hf_table_model_rot(w.model, "x", 1), -ENOENT);
    assert_int_equal(hf_table_model_rot(w.model, "b", 1), 0);
    assert_int_equal(hf_table_get(w.table, "b", 1, &value, &len), -EBADMSG);
    assert_int_equal(put(&w, "b", "4"), -EIO);
    assert_int_equal(del(&w, "b"), -EIO);
    assert_int_equal(hf_table_rescan(w.table), -EBADMSG);
    assert_int_equal(hf_table_seek(w.table, "a", 1, &c), 0);
    assert_int_equal(hf_table_next(&c), -EBADMSG);
    assert_int_equal(hf_table_next(&c), 0);
    assert_memory_equal(c.key, "c", 1);
    assert_int_equal(hf_table_next(&c), -ENOENT);
    world_fini(&w);
}

/* Random operations against a sorted array */

struct entry {
    bool present;
    uint32_t value_len;
    uint8_t value[VALUE_MAX];
};

struct mirror {
    uint8_t key[KEYS][24];
    size_t key_len[KEYS];
    struct entry now[KEYS];
    struct entry durable[KEYS]; /* as of the mark */
    struct entry attempt[KEYS]; /* as of the checkpoint under way */
    uint64_t durable_mark;
    uint64_t attempt_mark;
    uint64_t seed;
};

static uint64_t roll(struct mirror *m, uint64_t below)
{
    m->seed += UINT64_C(0x9e3779b97f4a7c15);
    return hf_hash64(&m->seed, sizeof(m->seed), 2) % below;
}

static struct mirror *key_mirror; /* qsort has no context */

static int key_order(const void *a, const void *b)
{
    const uint16_t *x = a, *y = b;

    return hf_memrow_cmp(key_mirror->key[*x], key_mirror->key_len[*x], key_mirror->key[*y],
                         key_mirror->key_len[*y]);
}

/* Distinct keys in order, short of distinct bytes. */
static void mirror_keys(struct mirror *m)
{
    static const uint8_t alphabet[] = {0x00, 0x01, 0x7f, 0xff};
    static struct mirror unsorted;
    uint16_t order[KEYS];

    for (size_t i = 0; i < KEYS; i++) {
        bool again;

        do {
            again = false;
            m->key_len[i] = 1 + roll(m, sizeof(m->key[i]));
            for (size_t b = 0; b < m->key_len[i]; b++) {
                m->key[i][b] = alphabet[roll(m, 10) < 6 ? 0 : roll(m, sizeof(alphabet))];
            }
            for (size_t j = 0; j < i && !again; j++) {
                again = hf_memrow_cmp(m->key[i], m->key_len[i], m->key[j], m->key_len[j]) == 0;
            }
        } while (again);
        order[i] = (uint16_t)i;
    }
    unsorted = *m;
    key_mirror = &unsorted;
    qsort(order, KEYS, sizeof(order[0]), key_order);
    for (size_t i = 0; i < KEYS; i++) {
        memcpy(m->key[i], unsorted.key[order[i]], sizeof(m->key[i]));
        m->key_len[i] = unsorted.key_len[order[i]];
    }
}

static void mirror_check(struct world *w, struct mirror *m)
{
    struct hf_table_cursor c;
    uint64_t digest = 0;
    int err = hf_table_seek(w->table, NULL, 0, &c);

    for (size_t i = 0; i < KEYS; i++) {
        const struct entry *e = &m->now[i];
        const void *value = NULL;
        size_t len = 0;
        int got = hf_table_get(w->table, m->key[i], m->key_len[i], &value, &len);

        assert_int_equal(got, e->present ? 0 : -ENOENT);
        if (!e->present) {
            continue;
        }
        assert_int_equal(len, e->value_len);
        assert_memory_equal(value, e->value, len);
        assert_int_equal(err, 0);
        assert_int_equal(c.key_len, m->key_len[i]);
        assert_memory_equal(c.key, m->key[i], c.key_len);
        assert_int_equal(c.value_len, len);
        assert_memory_equal(c.value, e->value, len);
        digest += hf_memrow_hash(hf_memrow_key_hash(c.key, c.key_len), value, len);
        err = hf_table_next(&c);
    }
    assert_int_equal(err, -ENOENT);
    assert_true(hf_table_digest(w->table) == digest);
    assert_int_equal(hf_table_rescan(w->table), 0);
}

static void mirror_change(struct world *w, struct mirror *m)
{
    size_t i = roll(m, KEYS);
    struct entry *e = &m->now[i];

    if (roll(m, 3) == 0) {
        e->present = false;
        assert_int_equal(hf_table_del(w->table, m->key[i], m->key_len[i]), 0);
        return;
    }
    e->present = true;
    e->value_len = (uint32_t)roll(m, VALUE_MAX);
    memset(e->value, (int)roll(m, 256), e->value_len);
    assert_int_equal(hf_table_put(w->table, m->key[i], m->key_len[i], e->value, e->value_len), 0);
}

static void mirror_seek(struct world *w, struct mirror *m)
{
    struct hf_table_cursor c;
    size_t i = roll(m, KEYS);
    int err = hf_table_seek(w->table, m->key[i], m->key_len[i], &c);

    for (unsigned steps = 0; steps < 5; steps++) {
        while (i < KEYS && !m->now[i].present) {
            i++;
        }
        if (i == KEYS) {
            assert_int_equal(err, -ENOENT);
            return;
        }
        assert_int_equal(err, 0);
        assert_int_equal(c.key_len, m->key_len[i]);
        assert_memory_equal(c.key, m->key[i], c.key_len);
        assert_memory_equal(c.value, m->now[i].value, m->now[i].value_len);
        err = hf_table_next(&c);
        i++;
    }
}

static void mirror_start(struct world *w, struct mirror *m)
{
    uint8_t mark[8];

    m->attempt_mark = m->durable_mark + 1 + roll(m, 1000);
    memcpy(m->attempt, m->now, sizeof(m->attempt));
    hf_put_le64(mark, m->attempt_mark);
    w->done_count = 0;
    hf_table_checkpoint(w->table, mark, sizeof(mark), on_done, w);
}

/* @fault  0: none; 1: refused; 2: lost in a crash; 3: reported lost, but it happened */
static void mirror_finish(struct world *w, struct mirror *m, uint64_t fault)
{
    int err = await_checkpoint(w);

    assert_int_equal(err, fault == 0 ? 0 : fault == 1 ? -ENOSPC : -EIO);
    if (fault == 0 || fault == 3) {
        memcpy(m->durable, m->attempt, sizeof(m->durable));
        m->durable_mark = m->attempt_mark;
    }
    hf_table_model_fail_merges(w->model, 0);
}

static void mirror_crash(struct world *w, struct mirror *m)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t len;

    reopen(w);
    memcpy(m->now, m->durable, sizeof(m->now));
    assert_int_equal(hf_table_mark(w->table, mark, &len), 0);
    assert_int_equal(len ? hf_get_le64(mark) : 0, m->durable_mark);
    mirror_check(w, m);
}

static void mirror_run(struct world *w, uint64_t seed, unsigned rounds)
{
    struct mirror *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->seed = seed;
    mirror_keys(m);
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t fault = w->kind == MODEL && roll(m, 3) == 0 ? 1 + roll(m, 3) : 0;
        uint64_t during = roll(m, 200);

        for (uint64_t n = roll(m, 300); n > 0; n--) {
            mirror_change(w, m);
            mirror_seek(w, m);
        }
        if (fault == 1) {
            hf_table_model_fail_merges(w->model, -ENOSPC);
        } else if (fault) {
            hf_table_model_crash_next_merge(w->model, fault == 3);
        }
        mirror_start(w, m);
        for (; during > 0; during--) {
            mirror_change(w, m);
            mirror_seek(w, m);
        }
        mirror_check(w, m);
        mirror_finish(w, m, fault);
        mirror_check(w, m);
        if (roll(m, 4) == 0) {
            mirror_crash(w, m);
        }
    }
    free(m);
}

static void random_changes_read_like_a_sorted_array(struct world *w)
{
    const char *seed = getenv("HF_TEST_SEED");
    const char *rounds = getenv("HF_TEST_ROUNDS");

    mirror_run(w, seed ? strtoull(seed, NULL, 0) : 1, rounds ? (unsigned)atol(rounds) : 60);
}
BOTH_BASES(random_changes_read_like_a_sorted_array)

/* Failures of LMDB */

static FILE *open_data(struct world *w, const char *mode)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/data.mdb", w->dir);
    f = fopen(path, mode);
    assert_non_null(f);
    return f;
}

static void cut_data(struct world *w, off_t len)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/data.mdb", w->dir);
    assert_int_equal(truncate(path, len), 0);
}

static off_t data_size(struct world *w)
{
    struct stat st;
    char path[128];

    snprintf(path, sizeof(path), "%s/data.mdb", w->dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* Flip a bit in every place of the file that holds @bytes; older pages may hold it too. */
static void flip_data(struct world *w, const char *bytes)
{
    size_t size = (size_t)data_size(w), len = strlen(bytes);
    FILE *f = open_data(w, "r+");
    char *all = malloc(size);
    unsigned hits = 0;

    assert_non_null(all);
    assert_int_equal(fread(all, 1, size, f), size);
    for (size_t i = 0; i + len <= size; i++) {
        if (memcmp(all + i, bytes, len) == 0) {
            assert_int_equal(fseek(f, (long)i, SEEK_SET), 0);
            assert_int_not_equal(fputc(all[i] ^ 1, f), EOF);
            hits++;
        }
    }
    assert_true(hits > 0);
    free(all);
    assert_int_equal(fclose(f), 0);
}

static void many_rows(struct world *w)
{
    for (uint32_t i = 0; i < 5000; i++) {
        uint8_t key[4];

        hf_put_be32(key, i);
        assert_int_equal(hf_table_put(w->table, key, sizeof(key), "some value", 10), 0);
    }
    assert_int_equal(checkpoint(w, "many"), 0);
}

/* As a power cut may leave it: a new file has its name only when its pages are on the disk. */
static void a_base_that_was_half_made_is_made_anew(void **state)
{
    char file[128], new[128];
    struct world w;
    FILE *f;

    world_init(&w, LMDB);
    close_table(&w);
    snprintf(file, sizeof(file), "%s/data.mdb", w.dir);
    snprintf(new, sizeof(new), "%s/data.mdb.new", w.dir);
    assert_int_equal(rename(file, new), 0);
    assert_int_equal(truncate(new, 0), 0);
    assert_int_equal(truncate(new, 8192), 0); /* its pages were never written */
    assert_int_equal(open_table(&w), 0);
    assert_int_equal(access(new, F_OK), -1);
    close_table(&w);
    cut_data(&w, 0);
    assert_int_equal(open_table(&w), 0);
    close_table(&w);
    f = open_data(&w, "r+");
    for (int i = 0; i < 8192; i++) {
        assert_int_not_equal(fputc(0, f), EOF);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(open_table(&w), -EBADMSG); /* what has the name is never taken for new */
    world_fini(&w);
}

static void a_base_cut_short_or_overwritten_is_damaged(void **state)
{
    const off_t cuts[] = {100, 4096, 8192, 20000};

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(cuts); i++) {
        struct world w;

        world_init(&w, LMDB);
        many_rows(&w);
        close_table(&w);
        cut_data(&w, cuts[i]);
        assert_int_equal(open_table(&w), -EBADMSG);
        world_fini(&w);
    }
    {
        struct world w;
        char junk[8192];
        FILE *f;

        world_init(&w, LMDB);
        many_rows(&w);
        close_table(&w);
        f = open_data(&w, "r+");
        memset(junk, 'x', sizeof(junk));
        assert_int_equal(fwrite(junk, 1, sizeof(junk), f), sizeof(junk));
        assert_int_equal(fclose(f), 0);
        assert_int_equal(open_table(&w), -EBADMSG);
        world_fini(&w);
    }
}

static void a_flipped_value_is_reported_not_returned(void **state)
{
    struct world w;
    const void *value;
    size_t len;

    (void)state;
    world_init(&w, LMDB);
    assert_int_equal(put(&w, "a", "first value"), 0);
    assert_int_equal(put(&w, "b", "second value"), 0);
    assert_int_equal(put(&w, "c", "third value"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    close_table(&w);
    flip_data(&w, "second value");
    assert_int_equal(open_table(&w), 0);
    assert_value(&w, "a", "first value");
    assert_int_equal(hf_table_get(w.table, "b", 1, &value, &len), -EBADMSG);
    assert_int_equal(put(&w, "b", "new"), -EIO);
    assert_int_equal(hf_table_rescan(w.table), -EBADMSG);
    assert_value(&w, "c", "third value");
    world_fini(&w);
}

static void a_flipped_mark_is_damage(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, LMDB);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(checkpoint(&w, "where the log was"), 0);
    close_table(&w);
    flip_data(&w, "where the log was");
    assert_int_equal(open_table(&w), -EBADMSG);
    world_fini(&w);
}

/* The file may not grow: LMDB takes the short write for -EIO, and the disk is not full. */
static void a_file_that_cannot_grow_fails_the_merge_and_room_lets_the_next_succeed(void **state)
{
    struct world w;
    struct rlimit before, tight;
    void (*handler)(int);

    (void)state;
    world_init(&w, LMDB);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    handler = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)data_size(&w) + 8192;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(hf_table_put(w.table, &i, sizeof(i), "some value", 10), 0);
    }
    start_checkpoint(&w, "2");
    assert_int_equal(put(&w, "a", "2"), 0);
    assert_int_equal(await_checkpoint(&w), -EIO);
    assert_value(&w, "a", "2");
    assert_int_equal(hf_table_rescan(w.table), 0);
    assert_int_equal(checkpoint(&w, "3"), -EIO);
    assert_int_equal(hf_table_rescan(w.table), 0);
    assert_mark(&w, "1");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(checkpoint(&w, "4"), 0);
    reopen(&w);
    assert_mark(&w, "4");
    assert_value(&w, "a", "2");
    assert_int_equal(hf_table_rescan(w.table), 0);
    world_fini(&w);
}

/* Make this process's descriptors of data.mdb refuse writes, as a disk that fails would. */
static void break_writes(struct world *w)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    char path[128], name[300], target[300];
    unsigned hits = 0;
    int read_only;

    snprintf(path, sizeof(path), "%s/data.mdb", w->dir);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read_only >= 0 && dir);
    while ((entry = readdir(dir))) {
        ssize_t len;
        int fd = atoi(entry->d_name);

        snprintf(name, sizeof(name), "/proc/self/fd/%s", entry->d_name);
        len = readlink(name, target, sizeof(target) - 1);
        if (len < 0 || fd == read_only) {
            continue;
        }
        target[len] = '\0';
        if (strcmp(target, path) == 0) {
            assert_int_equal(dup2(read_only, fd), fd);
            hits++;
        }
    }
    assert_true(hits > 0);
    close(read_only);
    closedir(dir);
}

static void after_a_failed_write_the_base_is_opened_anew(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, LMDB);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(put(&w, "b", "1"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(del(&w, "a"), 0);
    assert_int_equal(put(&w, "c", "2"), 0);
    break_writes(&w);
    assert_int_equal(checkpoint(&w, "2"), -EIO);
    assert_mark(&w, "1");
    assert_rows(&w, "b=1 c=2 ");
    assert_int_equal(put(&w, "d", "3"), 0);
    assert_int_equal(checkpoint(&w, "3"), 0);
    assert_rows(&w, "b=1 c=2 d=3 ");
    reopen(&w);
    assert_mark(&w, "3");
    assert_rows(&w, "b=1 c=2 d=3 ");
    world_fini(&w);
}

static void a_small_address_space_gets_a_small_map(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    skip(); /* they need the address space themselves */
#else
    struct world w;
    pid_t pid;
    int status;

    (void)state;
    world_init(&w, LMDB);
    assert_int_equal(put(&w, "a", "1"), 0);
    assert_int_equal(checkpoint(&w, "1"), 0);
    close_table(&w);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit limit = {.rlim_cur = UINT64_C(8) << 30, .rlim_max = UINT64_C(8) << 30};
        const void *value;
        size_t len;

        if (setrlimit(RLIMIT_AS, &limit) || open_table(&w) ||
            hf_table_get(w.table, "a", 1, &value, &len)) {
            _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    world_fini(&w);
#endif
}

int main(void)
{
#define BOTH(name) cmocka_unit_test(name##_model), cmocka_unit_test(name##_lmdb)
    const struct CMUnitTest tests[] = {
        BOTH(newest_layer_wins),
        BOTH(mark_moves_only_with_a_finished_checkpoint),
        BOTH(sizes_are_bounded),
        BOTH(equal_contents_have_equal_digests),
        BOTH(cursors_do_not_disturb_each_other),
        BOTH(a_checkpoint_is_wanted_once_something_is_dirty),
        BOTH(random_changes_read_like_a_sorted_array),
        cmocka_unit_test(a_failed_merge_loses_nothing),
        cmocka_unit_test(a_merge_that_failed_after_the_fact_leaves_no_row_behind),
        cmocka_unit_test(a_rotten_row_is_reported_not_returned),
        cmocka_unit_test(a_base_that_was_half_made_is_made_anew),
        cmocka_unit_test(a_base_cut_short_or_overwritten_is_damaged),
        cmocka_unit_test(a_flipped_value_is_reported_not_returned),
        cmocka_unit_test(a_flipped_mark_is_damage),
        cmocka_unit_test(a_file_that_cannot_grow_fails_the_merge_and_room_lets_the_next_succeed),
        cmocka_unit_test(after_a_failed_write_the_base_is_opened_anew),
        cmocka_unit_test(a_small_address_space_gets_a_small_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
