/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - a store on a simulated machine, and what a client knows of it.
 *
 * An object's bytes follow from its id, so the only thing to remember is whether it was
 * acknowledged: what must be there, what must be gone, what may be either.
 */
#ifndef HF_TESTS_STORE_WORLD_H
#define HF_TESTS_STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/table/table.h"
#include "server/store/store.h"
#include "server/store/store_impl.h"
#include "tests/lib/sim_env.h"

#define OBJECTS  256u
#define DIR_PATH "/node"

enum fate { ABSENT, PRESENT, DELETED, MAYBE_PUT, MAYBE_DELETED };

struct op {
    struct world *w;
    uint32_t id;
    struct hf_store_put put;
    struct hf_store_delete del;
    struct hf_store_get get;
    struct hf_store_check check;
    struct hf_oid oid;
    struct hf_oid oids[16];
    uint32_t ids[16];
    struct hf_buf *bufs[8];
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];
    bool done;
    int err;
};

struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_sim_disk *disk;
    struct hf_bufpool *pool;
    struct hf_table_model *model;
    struct hf_store *store;
    enum fate fate[OBJECTS];
    uint32_t pending;
    uint32_t bad_objects;
    uint32_t acked_puts, acked_deletes;
    uint64_t segment_bytes;
    uint32_t live_percent;
    bool quarantine_ok; /* faults may have hit reads */
    bool own_reserves;  /* those that the store chooses */
};

static inline struct hf_oid oid_of(uint32_t id)
{
    return (struct hf_oid){.group = (uint16_t)(id % 5), .session = 7, .seq = id};
}

static uint32_t size_shift; /* sweeps use smaller objects */

static inline uint32_t len_of(uint32_t id)
{
    static const uint32_t sizes[] = {1, 4096, 4097, 20000, 65536, 100000, 5, 180000};

    return id == 255 ? HF_OBJECT_BYTES_MAX : (sizes[id % 8] >> size_shift) + id / 8 + 1;
}

static inline void bytes_of(uint32_t id, uint32_t off, uint8_t *ret, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        uint32_t at = off + i;

        ret[i] = (uint8_t)(id * 131 + at * 7 + (at >> 12) * 13);
    }
}

static inline void on_bad(void *ctx, const struct hf_oid *oid, int err)
{
    struct world *w = ctx;

    (void)oid;
    (void)err;
    w->bad_objects++;
}

static inline struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    w->sim = hf_sim_new(seed);
    w->env = hf_sim_env(w->sim);
    w->disk = hf_sim_disk(w->env);
    w->model = hf_table_model_new();
    assert_non_null(w->model);
    w->segment_bytes = 8 << 20;
    assert_int_equal(hf_bufpool_new(64 << 10, 0, &w->pool), 0);
    return w;
}

/** @model NULL: the world's own. */
static inline int world_try_open(struct world *w, struct hf_table_model *model, char **ret_error)
{
    struct hf_store_options options = {
        .dir = DIR_PATH,
        .cluster = {{1, 2, 3}},
        .node = {4},
        .pool = w->pool,
        .segment_bytes = w->segment_bytes,
        .reserve_put_bytes = w->own_reserves ? 1 << 20 : 2 << 20,
        .reserve_clean_bytes = w->own_reserves ? 0 : 64 << 10,
        .compact_live_percent = w->live_percent,
        .on_bad_object = on_bad,
        .ctx = w,
    };

    assert_int_equal(hf_table_base_model(model ? model : w->model, &options.index_base), 0);
    return hf_store_open(w->env, &options, &w->store, ret_error);
}

static inline void world_open(struct world *w)
{
    char *error = NULL;
    int err = world_try_open(w, NULL, &error);

    if (err) {
        print_error("open: %s\n", error);
    }
    assert_int_equal(err, 0);
    hf_store_check_invariants(w->store);
}

static inline bool world_settled(void *ctx)
{
    struct world *w = ctx;

    return (w->pending == 0 && hf_store_idle(w->store)) || hf_sim_disk_is_off(w->disk);
}

/** Until nothing runs, or the power is gone. */
static inline void world_run(struct world *w)
{
    assert_true(hf_sim_run_until(w->sim, world_settled, w, 600 * HF_NS_PER_SEC));
}

static inline bool world_off(void *ctx)
{
    return hf_sim_disk_is_off(((struct world *)ctx)->disk);
}

/** Background work included. */
static inline void world_run_ns(struct world *w, uint64_t ns)
{
    (void)hf_sim_run_until(w->sim, world_off, w, ns);
    if (!world_off(w)) {
        world_run(w);
    }
}

static inline void world_close(struct world *w)
{
    world_run(w);
    hf_store_close(w->store, NULL, NULL);
    w->store = NULL;
}

/** The machine is off or the process dead: forget it, bring the machine back. */
static inline void world_crash(struct world *w)
{
    hf_sim_kill(w->sim);
    if (w->store) {
        hf_sim_abandon(w->store);
        hf_sim_abandon(w->pool);
        assert_int_equal(hf_bufpool_new(64 << 10, 0, &w->pool), 0);
        w->store = NULL;
    }
    w->pending = 0;
    hf_sim_disk_restart(w->disk);
}

static inline void world_free(struct world *w)
{
    if (w->store) {
        world_close(w);
    }
    hf_sim_free(w->sim);
    hf_table_model_free(w->model);
    hf_bufpool_free(w->pool);
    free(w);
}

static inline void put_done(void *ctx, int err)
{
    struct op *op = ctx;

    op->w->pending--;
    op->done = true;
    op->err = err;
    if (err == 0) {
        op->w->fate[op->id] = PRESENT;
        op->w->acked_puts++;
    }
    for (uint32_t i = 0; i < HF_ARRAY_LEN(op->bufs); i++) {
        hf_buf_unref(op->bufs[i]);
    }
}

/** Bytes, checksums and buffers of object @id into op->put; @piece bytes a buffer. */
static inline void put_fill(struct world *w, struct op *op, uint32_t id, uint32_t piece)
{
    uint32_t len = len_of(id);
    uint32_t count = 0;

    *op = (struct op){.w = w, .id = id, .oid = oid_of(id)};
    for (uint32_t off = 0; off < len; off += piece) {
        uint32_t n = len - off < piece ? len - off : piece;
        struct hf_buf *buf = hf_buf_get(w->pool, n);

        assert_non_null(buf);
        assert_true(count < HF_ARRAY_LEN(op->bufs));
        bytes_of(id, off, buf->data, n);
        buf->len_bytes = n;
        hf_checksum_blocks(&op->oid, off / HF_BLOCK_BYTES, buf->data, n,
                           op->sums + off / HF_BLOCK_BYTES);
        op->bufs[count++] = buf;
    }
    op->put = (struct hf_store_put){.oid = op->oid,
                                    .len_bytes = len,
                                    .bufs = op->bufs,
                                    .buf_count = count,
                                    .sums = op->sums,
                                    .done = put_done,
                                    .ctx = op};
}

static inline void put_start(struct world *w, struct op *op, uint32_t id)
{
    put_fill(w, op, id, id == 255 ? 1 << 20 : 32 << 10);
    w->pending++;
    if (w->fate[id] == ABSENT) {
        w->fate[id] = MAYBE_PUT;
    }
    hf_store_put(w->store, &op->put);
    assert_false(op->done);
}

/** Put and wait. */
static inline int put_one(struct world *w, uint32_t id)
{
    struct op *op = calloc(1, sizeof(*op));
    int err;

    put_start(w, op, id);
    world_run(w);
    err = op->done ? op->err : -ECANCELED;
    free(op);
    return err;
}

static inline void del_done(void *ctx, int err)
{
    struct op *op = ctx;

    op->w->pending--;
    op->done = true;
    op->err = err;
    if (err == 0) {
        op->w->acked_deletes++;
        for (uint32_t i = 0; i < op->del.count; i++) {
            op->w->fate[op->ids[i]] = DELETED;
        }
    }
}

static inline void del_start(struct world *w, struct op *op, const uint32_t *ids, uint32_t count)
{
    *op = (struct op){.w = w};
    for (uint32_t i = 0; i < count; i++) {
        op->ids[i] = ids[i];
        op->oids[i] = oid_of(ids[i]);
        if (w->fate[ids[i]] == PRESENT || w->fate[ids[i]] == MAYBE_PUT) {
            w->fate[ids[i]] = MAYBE_DELETED;
        }
    }
    op->del =
        (struct hf_store_delete){.oids = op->oids, .count = count, .done = del_done, .ctx = op};
    w->pending++;
    hf_store_delete(w->store, &op->del);
    assert_false(op->done);
}

static inline int del_one(struct world *w, uint32_t id)
{
    struct op *op = calloc(1, sizeof(*op));
    int err;

    del_start(w, op, &id, 1);
    world_run(w);
    err = op->done ? op->err : -ECANCELED;
    free(op);
    return err;
}

static inline void plain_done(void *ctx, int err)
{
    struct op *op = ctx;

    op->w->pending--;
    op->done = true;
    op->err = err;
}

/** Read [off, off + len) of object @id; bytes and checksums must be right when it succeeds. */
static inline int get_one(struct world *w, uint32_t id, uint32_t off, uint32_t len)
{
    struct op *op = calloc(1, sizeof(*op));
    int err;

    op->w = w;
    op->get = (struct hf_store_get){.oid = oid_of(id),
                                    .range = {.off_bytes = off, .len_bytes = len},
                                    .done = plain_done,
                                    .ctx = op};
    w->pending++;
    hf_store_get(w->store, &op->get);
    assert_false(op->done);
    world_run(w);
    assert_true(op->done);
    err = op->err;
    if (!err) {
        uint8_t *want = malloc(len);
        size_t got = op->get.buf->len_bytes;

        assert_int_equal(op->get.object_len_bytes, len_of(id));
        assert_int_equal(got, len < len_of(id) - off ? len : len_of(id) - off);
        bytes_of(id, off, want, (uint32_t)got);
        assert_memory_equal(op->get.buf->data, want, got);
        assert_int_equal(op->get.sum_count, hf_blocks(got));
        assert_int_equal(hf_checksum_verify(&op->get.oid, off / HF_BLOCK_BYTES, op->get.buf->data,
                                            got, op->get.sums),
                         -1);
        free(want);
        hf_buf_unref(op->get.buf);
        hf_buf_unref(op->get.sums_buf);
    }
    free(op);
    return err;
}

static inline int check_one(struct world *w, uint32_t id)
{
    struct op *op = calloc(1, sizeof(*op));
    int err;

    op->w = w;
    op->check = (struct hf_store_check){.oid = oid_of(id), .done = plain_done, .ctx = op};
    w->pending++;
    hf_store_check(w->store, &op->check);
    world_run(w);
    assert_true(op->done);
    err = op->err;
    free(op);
    return err;
}

static inline int repair_one(struct world *w, uint32_t id)
{
    struct op *op = calloc(1, sizeof(*op));
    int err;

    put_fill(w, op, id, 32 << 10);
    w->pending++;
    hf_store_repair(w->store, &op->put);
    world_run(w);
    err = op->done ? op->err : -ECANCELED;
    free(op);
    return err;
}

/** Everything that the client was told holds. @decide: what was open is what it is now. */
static inline void world_verify_maybe(struct world *w, bool decide)
{
    hf_store_check_invariants(w->store);
    for (uint32_t id = 0; id < OBJECTS; id++) {
        struct hf_oid oid = oid_of(id);
        struct hf_store_entry entry;
        int err = hf_store_lookup(w->store, &oid, &entry);

        if (err) {
            assert_int_equal(err, -HF_ENOOBJECT);
            if (w->fate[id] == PRESENT) {
                print_error("object %u was acknowledged and is gone\n", id);
            }
            assert_int_not_equal(w->fate[id], PRESENT);
            if (decide && w->fate[id] != ABSENT) {
                w->fate[id] = w->fate[id] == MAYBE_PUT ? ABSENT : DELETED;
            }
            continue;
        }
        if (w->fate[id] == ABSENT || w->fate[id] == DELETED) {
            print_error("object %u is there, though %s\n", id,
                        w->fate[id] == ABSENT ? "never put" : "deleted");
        }
        assert_true(w->fate[id] != ABSENT && w->fate[id] != DELETED);
        assert_int_equal(entry.len_bytes, len_of(id));
        if (entry.quarantined) {
            assert_true(w->quarantine_ok);
            continue;
        }
        err = get_one(w, id, 0, len_of(id));
        if (err) {
            assert_true(w->quarantine_ok);
            continue;
        }
        if (decide) {
            w->fate[id] = PRESENT;
        }
    }
}

static inline void world_verify(struct world *w)
{
    world_verify_maybe(w, true);
}

#endif
