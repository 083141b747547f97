/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in the production environment: real files, threads, LMDB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/env/env_real.h"
#include "common/log/log.h"
#include "server/store/store.h"

#define OBJECTS 64u

struct world {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_store *store;
    char dir[64];
    struct hf_timer poll;
    uint32_t pending;
    uint32_t failed;
};

struct op {
    struct world *w;
    struct hf_store_put put;
    struct hf_store_get get;
    struct hf_store_delete del;
    struct hf_store_check check;
    struct hf_oid oid;
    struct hf_buf *buf;
    uint64_t sums[64];
};

static uint32_t len_of(uint32_t id)
{
    return 1 + id * 3001;
}

static void fill(uint32_t id, uint8_t *ret, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        ret[i] = (uint8_t)(id + i * 13 + (i >> 12));
    }
}

static void poll_idle(void *ctx)
{
    struct world *w = ctx;

    if (w->pending == 0 && hf_store_idle(w->store)) {
        hf_env_real_stop(w->env);
    } else {
        hf_timer_arm(&w->poll, HF_NS_PER_MS / 4);
    }
}

static void run(struct world *w)
{
    hf_timer_init(&w->poll, w->env, poll_idle, w);
    hf_timer_arm(&w->poll, 0);
    assert_int_equal(hf_env_real_run(w->env), 0);
    hf_timer_fini(&w->poll);
}

static void open_store(struct world *w)
{
    const struct hf_store_options options = {.dir = w->dir,
                                             .cluster = {{5}},
                                             .node = {1},
                                             .pool = w->pool,
                                             .segment_bytes = 1 << 20,
                                             .reserve_put_bytes = 4 << 20,
                                             .reserve_clean_bytes = 2 << 20};
    char *error = NULL;
    int err = hf_store_open(w->env, &options, &w->store, &error);

    if (err) {
        print_error("%s\n", error);
    }
    assert_int_equal(err, 0);
}

static void close_store(struct world *w)
{
    run(w);
    hf_store_close(w->store, NULL, NULL);
    w->store = NULL;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    const struct hf_env_real_options options = {.cpu = -1};

    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/hf-test-store.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(hf_env_real_new(&options, &w->env), 0);
    assert_int_equal(hf_bufpool_new(4 << 20, 0, &w->pool), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char cmd[128];

    if (w->store) {
        close_store(w);
    }
    hf_env_real_free(w->env);
    hf_bufpool_free(w->pool);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
    assert_int_equal(system(cmd), 0);
    free(w);
    return 0;
}

static void done(void *ctx, int err)
{
    struct op *op = ctx;

    op->w->pending--;
    op->w->failed += err ? 1 : 0;
}

static void put_all(struct world *w, struct op *ops)
{
    for (uint32_t id = 0; id < OBJECTS; id++) {
        struct op *op = &ops[id];
        uint32_t len = len_of(id);

        op->w = w;
        op->oid = (struct hf_oid){.group = 1, .session = 2, .seq = id};
        op->buf = hf_buf_get(w->pool, len);
        assert_non_null(op->buf);
        fill(id, op->buf->data, len);
        op->buf->len_bytes = len;
        hf_checksum_blocks(&op->oid, 0, op->buf->data, len, op->sums);
        op->put = (struct hf_store_put){.oid = op->oid,
                                        .len_bytes = len,
                                        .bufs = &op->buf,
                                        .buf_count = 1,
                                        .sums = op->sums,
                                        .done = done,
                                        .ctx = op};
        w->pending++;
        hf_store_put(w->store, &op->put);
    }
    run(w);
    assert_int_equal(w->failed, 0);
    for (uint32_t id = 0; id < OBJECTS; id++) {
        hf_buf_unref(ops[id].buf);
    }
}

static void got(void *ctx, int err)
{
    struct op *op = ctx;
    uint32_t id = (uint32_t)op->oid.seq;
    static uint8_t want[256 << 10];

    done(ctx, err);
    if (!err) {
        fill(id, want, len_of(id));
        assert_int_equal(op->get.buf->len_bytes, len_of(id));
        assert_memory_equal(op->get.buf->data, want, len_of(id));
        assert_int_equal(
            hf_checksum_verify(&op->oid, 0, op->get.buf->data, len_of(id), op->get.sums), -1);
        hf_buf_unref(op->get.buf);
        hf_buf_unref(op->get.sums_buf);
    }
}

static void get_from(struct world *w, struct op *ops, uint32_t first)
{
    for (uint32_t id = first; id < OBJECTS; id++) {
        struct op *op = &ops[id];

        op->get = (struct hf_store_get){
            .oid = op->oid, .range = {.len_bytes = len_of(id)}, .done = got, .ctx = op};
        w->pending++;
        hf_store_get(w->store, &op->get);
    }
    run(w);
    assert_int_equal(w->failed, 0);
    for (uint32_t id = first; id < OBJECTS; id++) {
        ops[id].check = (struct hf_store_check){.oid = ops[id].oid, .done = done, .ctx = &ops[id]};
        w->pending++;
        hf_store_check(w->store, &ops[id].check);
    }
    run(w);
    assert_int_equal(w->failed, 0);
    hf_store_check_invariants(w->store);
}

static void objects_survive_reopening_and_a_lost_or_damaged_index(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(OBJECTS, sizeof(*ops));
    struct hf_store_stats stats;
    char path[128];
    int fd;

    open_store(w);
    put_all(w, ops);
    get_from(w, ops, 0);
    close_store(w);
    open_store(w);
    get_from(w, ops, 0);
    hf_store_compact_now(w->store); /* the index reaches LMDB */
    close_store(w);
    (void)snprintf(path, sizeof(path), "rm -rf %s/index", w->dir);
    assert_int_equal(system(path), 0);
    open_store(w);
    get_from(w, ops, 0);
    hf_store_compact_now(w->store);
    close_store(w);
    (void)snprintf(path, sizeof(path), "%s/index/data.mdb", w->dir);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t off = 0; off < 16384; off += 4096) {
        assert_int_equal(pwrite(fd, "damage damage damage damage damage", 32, off), 32);
    }
    assert_int_equal(close(fd), 0);
    open_store(w);
    get_from(w, ops, 0);
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.objects, OBJECTS);
    free(ops);
}

static void deleted_space_is_recycled(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(OBJECTS, sizeof(*ops));
    struct hf_oid oids[OBJECTS];
    struct hf_store_stats before, after;

    open_store(w);
    put_all(w, ops);
    for (uint32_t id = 0; id < 48; id++) {
        oids[id] = ops[id].oid;
    }
    ops[0].del = (struct hf_store_delete){.oids = oids, .count = 48, .done = done, .ctx = &ops[0]};
    w->pending++;
    hf_store_delete(w->store, &ops[0].del);
    run(w);
    assert_int_equal(w->failed, 0);
    hf_store_stats(w->store, &before);
    for (int i = 0; i < 6; i++) {
        hf_store_compact_now(w->store);
        run(w);
    }
    hf_store_stats(w->store, &after);
    assert_true(after.recycled_segments > before.recycled_segments);
    get_from(w, ops, 48);
    close_store(w);
    open_store(w);
    get_from(w, ops, 48);
    free(ops);
}

static void no_log(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(objects_survive_reopening_and_a_lost_or_damaged_index,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_space_is_recycled, setup, teardown),
    };

    hf_log_set_sink(no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
