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
#include <sys/resource.h>
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
    uint32_t segments_max; /* of the store's options */
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
    int err; /* of the last call */
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
                                             .reserve_clean_bytes = 2 << 20,
                                             .segments_max = w->segments_max};
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
    op->err = err;
}

static void put_start(struct world *w, struct op *op, uint32_t id)
{
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

/* One after the other, until one fails. Returns its id, or OBJECTS. */
static uint32_t put_from(struct world *w, struct op *ops, uint32_t first)
{
    uint32_t id;

    for (id = first; id < OBJECTS && w->failed == 0; id++) {
        put_start(w, &ops[id], id);
        run(w);
        hf_buf_unref(ops[id].buf);
    }
    return w->failed ? id - 1 : id;
}

static void put_all(struct world *w, struct op *ops)
{
    for (uint32_t id = 0; id < OBJECTS; id++) {
        put_start(w, &ops[id], id);
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

static void get_some(struct world *w, struct op *ops, uint32_t first, uint32_t end)
{
    for (uint32_t id = first; id < end; id++) {
        struct op *op = &ops[id];

        op->get = (struct hf_store_get){
            .oid = op->oid, .range = {.len_bytes = len_of(id)}, .done = got, .ctx = op};
        w->pending++;
        hf_store_get(w->store, &op->get);
    }
    run(w);
    assert_int_equal(w->failed, 0);
}

static void get_from(struct world *w, struct op *ops, uint32_t first)
{
    get_some(w, ops, first, OBJECTS);
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

static void limit_files(rlim_t max)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* No descriptor of this process is higher. */
static int highest_file(void)
{
    int fd = dup(STDERR_FILENO);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return fd;
}

static void a_store_without_descriptors_is_full_and_not_broken(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(OBJECTS, sizeof(*ops));
    struct hf_store_stats stats;
    struct rlimit before;
    uint32_t end = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    open_store(w);
    limit_files((rlim_t)highest_file() + 3);
    for (uint32_t failures = 0; failures < 5;) { /* in a row: more often than a disk may fail */
        uint32_t next = put_from(w, ops, end);

        assert_true(next < OBJECTS);
        assert_int_equal(ops[next].err, -ENOSPC);
        failures = next > end ? 1 : failures + 1;
        end = next;
        w->failed = 0;
    }
    assert_true(end > 0);
    hf_store_stats(w->store, &stats);
    assert_int_not_equal(stats.state, HF_STORE_READ_ONLY);
    assert_int_equal(stats.objects, end);
    get_some(w, ops, 0, end);
    close_store(w);
    open_store(w);
    get_some(w, ops, 0, end);
    limit_files(before.rlim_cur);
    assert_int_equal(put_from(w, ops, end), OBJECTS);
    get_from(w, ops, 0);
    close_store(w);
    open_store(w);
    get_from(w, ops, 0);
    free(ops);
}

static void a_store_is_full_before_its_segments_are_too_many(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(OBJECTS, sizeof(*ops));
    struct hf_oid oids[OBJECTS];
    struct hf_store_stats stats;
    uint32_t end;

    w->segments_max = 8;
    open_store(w);
    end = put_from(w, ops, 0);
    assert_true(end > 40 && end < OBJECTS);
    assert_int_equal(ops[end].err, -ENOSPC);
    w->failed = 0;
    hf_store_stats(w->store, &stats);
    assert_true(stats.segments == 4 && stats.free_bytes < 1 << 20);
    close_store(w);
    open_store(w); /* in a new segment: what was left of the last one is lost */
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_FULL);
    assert_int_equal(stats.free_bytes, 0);
    for (uint32_t id = 0; id < 40; id++) {
        oids[id] = ops[id].oid;
    }
    ops[0].del = (struct hf_store_delete){.oids = oids, .count = 40, .done = done, .ctx = &ops[0]};
    w->pending++;
    hf_store_delete(w->store, &ops[0].del);
    run(w);
    assert_int_equal(w->failed, 0);
    for (int i = 0; i < 6; i++) {
        hf_store_compact_now(w->store);
        run(w);
    }
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_OK);
    assert_true(put_from(w, ops, end) > end);
    w->failed = 0;
    get_some(w, ops, 40, end + 1);
    hf_store_check_invariants(w->store);
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
        cmocka_unit_test_setup_teardown(a_store_without_descriptors_is_full_and_not_broken, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_store_is_full_before_its_segments_are_too_many, setup,
                                        teardown),
    };

    hf_log_set_sink(no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
