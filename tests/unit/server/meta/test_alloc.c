/* SPDX-License-Identifier: Apache-2.0 */
/* test_alloc.c - what fallocate reserves, and what takes it away again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/meta/rows_format.h"
#include "tests/unit/server/meta/fixture.h"

#define MIB UINT64_C(1048576)
#define GIB (UINT64_C(1) << 30)

static struct fx fx;
static struct fx_session s;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

static int allocate(uint64_t ino, uint64_t off, uint64_t len, uint32_t flags, uint64_t limit)
{
    struct hf_meta_op op = {.op = HF_OP_ALLOCATE,
                            .ino = {ino},
                            .offset = off,
                            .length = len,
                            .flags = HF_ALLOC_RESERVE | flags,
                            .size = limit};

    return fx_do(&fx, &s, &op);
}

static int punch(uint64_t ino, uint64_t off, uint64_t len, uint32_t flags)
{
    struct hf_meta_op op = {.op = HF_OP_PUNCH,
                            .ino = {ino},
                            .offset = off,
                            .length = len,
                            .flags = flags,
                            .size = UINT64_MAX};

    return fx_do(&fx, &s, &op);
}

static uint64_t reserved_in(uint64_t ino, uint64_t off, uint64_t len)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_RESERVED, .ino = {ino}, .offset = off, .length = len};

    assert_int_equal(fx_read(&fx, &rd), 0);
    return fx.reply.count;
}

static uint64_t reserved(void)
{
    return fx_usage(&fx).reserved_bytes;
}

static void a_range_counts_once_and_is_refused_beyond_the_limit(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "f");

    (void)state;
    assert_int_equal(allocate(ino, MIB, 1024 * GIB, 0, 2048 * GIB), 0);
    assert_int_equal(fx_attr(&fx, ino).size, 1024 * GIB + MIB);
    assert_int_equal(fx_attr(&fx, ino).bytes, 1024 * GIB);
    assert_int_equal(reserved(), 1024 * GIB);
    assert_int_equal(allocate(ino, 0, 1024 * GIB, 0, 2048 * GIB), 0);
    assert_int_equal(reserved(), 1024 * GIB + MIB);
    assert_int_equal(allocate(ino, 0, 1024 * GIB, 0, 0), 0); /* there is nothing to add */
    assert_int_equal(allocate(ino, 0, 1025 * GIB, 0, 1025 * GIB - 1), -ENOSPC);
    assert_int_equal(fx_attr(&fx, ino).size, 1024 * GIB + MIB);
    assert_int_equal(allocate(ino, 0, 1025 * GIB, HF_ALLOC_KEEP_SIZE, 1025 * GIB), 0);
    assert_int_equal(fx_attr(&fx, ino).size, 1024 * GIB + MIB);
    assert_int_equal(reserved_in(ino, 1025 * GIB - 100, 500), 100); /* behind EOF */
}

static void what_is_written_is_no_longer_reserved(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "f");

    (void)state;
    assert_int_equal(fx_write(&fx, &s, ino, 3 * MIB, 1000), 0);
    assert_int_equal(allocate(ino, 0, 16 * MIB, 0, GIB), 0);
    assert_int_equal(reserved(), 16 * MIB - 1000); /* but for what is there */
    assert_int_equal(reserved_in(ino, 3 * MIB - 10, 1020), 20);
    assert_int_equal(fx_write(&fx, &s, ino, 4 * MIB - 500, 1000), 0); /* of two windows */
    assert_int_equal(reserved(), 16 * MIB - 2000);
    assert_int_equal(fx_attr(&fx, ino).bytes, 16 * MIB);
    assert_int_equal(fx_write(&fx, &s, ino, 4 * MIB - 500, 1000), 0); /* again */
    assert_int_equal(reserved(), 16 * MIB - 2000);
    assert_int_equal(fx_usage(&fx).logical_bytes, 2000);
}

static void holes_truncations_clones_and_unlinks_give_it_back(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "f"), to = fx_mkfile(&fx, &s, HF_INO_ROOT, "g");
    struct hf_meta_op clone = {.op = HF_OP_CLONE, .ino = {ino}, .length = MIB, .ino2 = {to}};

    (void)state;
    assert_int_equal(fx_write(&fx, &s, ino, 0, 1000), 0);
    assert_int_equal(allocate(ino, 0, 64 * MIB, HF_ALLOC_KEEP_SIZE, GIB), 0);
    assert_int_equal(allocate(to, 0, 64 * MIB, 0, GIB), 0);
    assert_int_equal(punch(ino, 8 * MIB, MIB, 0), 0); /* behind EOF */
    assert_int_equal(reserved_in(ino, 0, GIB), 63 * MIB - 1000);
    assert_int_equal(punch(ino, 0, 2 * MIB, HF_ALLOC_RESERVE), 0); /* zeros, and the space stays */
    assert_int_equal(fx_attr(&fx, ino).size, 1000);
    assert_int_equal(reserved_in(ino, 0, GIB), 63 * MIB);
    assert_int_equal(fx_truncate(&fx, &s, ino, 2 * MIB), 0); /* longer: all stays */
    assert_int_equal(reserved_in(ino, 0, GIB), 63 * MIB);
    assert_int_equal(fx_do(&fx, &s, &clone), 0);
    assert_int_equal(reserved_in(to, 0, GIB), 63 * MIB);
    assert_int_equal(fx_truncate(&fx, &s, ino, 2 * MIB), 0); /* what lies behind EOF goes */
    assert_int_equal(reserved_in(ino, 0, GIB), 2 * MIB);
    assert_int_equal(fx_truncate(&fx, &s, ino, 100), 0);
    assert_int_equal(reserved(), 63 * MIB + 100);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, HF_INO_ROOT, "f", 0), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, HF_INO_ROOT, "g", 0), 0);
    assert_int_equal(reserved(), 0);
}

/* A range is no promise for ever: what would take more than its row may hold is given up. */
static void the_shortest_ranges_are_given_up_when_they_are_too_many(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "f"), n = HF_ALLOC_RANGES_MAX + 10;

    (void)state;
    assert_int_equal(allocate(ino, 0, (n + 1) * 8192 + MIB, 0, GIB), 0);
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(fx_write(&fx, &s, ino, i * 8192, i < 20 ? 8000 : 4096), 0);
    }
    assert_int_equal(reserved_in(ino, (n + 1) * 8192, MIB), MIB);
    assert_true(reserved_in(ino, 0, 20 * 8192) < 8192 + 19 * 192 + 4096);
}

static void of_many_at_once_the_shortest_go_and_of_equal_ones_the_first(void **state)
{
    enum { GAPS = HF_ALLOC_RANGES_MAX + 300 };
    static uint64_t off[GAPS], len[GAPS];
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "f"), at = 0;

    (void)state;
    for (uint32_t i = 0; i < GAPS; i++) {
        len[i] = 1 + UINT64_C(256) * (i * 7 % 5);
        off[i] = at;
        at += len[i] + 100;
        assert_int_equal(fx_write(&fx, &s, ino, at - 100, 100), 0);
    }
    assert_int_equal(allocate(ino, 0, at, 0, GIB), 0);
    for (uint32_t excess = GAPS - HF_ALLOC_RANGES_MAX; excess > 0; excess--) {
        uint32_t least = GAPS;

        for (uint32_t i = 0; i < GAPS; i++) {
            least = len[i] && (least == GAPS || len[i] < len[least]) ? i : least;
        }
        assert_int_equal(reserved_in(ino, off[least], len[least]), 0);
        len[least] = 0;
    }
    for (uint32_t i = 0; i < GAPS; i++) {
        assert_int_equal(reserved_in(ino, off[i], len[i] ? len[i] : 1), len[i]);
    }
}

/* A checkpoint of an earlier build: it has a counter less, and nothing is reserved. */
static void a_mark_without_the_counter_is_read(void **state)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    struct hf_mlog_position now, old;
    size_t len = hf_meta_mark(fx.r[0].meta, mark), at = 15 * sizeof(uint64_t);

    (void)state;
    assert_int_equal(hf_meta_mark_position(mark, len, &now), 0);
    memmove(mark + at, mark + at + 8, len - at - 8);
    assert_int_equal(hf_meta_mark_position(mark, len - 8, &old), 0);
    assert_memory_equal(&now, &old, sizeof(now));
    assert_int_equal(hf_meta_mark_position(mark, len - 16, &old), -EBADMSG);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_range_counts_once_and_is_refused_beyond_the_limit),
        T(what_is_written_is_no_longer_reserved),
        T(holes_truncations_clones_and_unlinks_give_it_back),
        T(the_shortest_ranges_are_given_up_when_they_are_too_many),
        T(of_many_at_once_the_shortest_go_and_of_equal_ones_the_first),
        T(a_mark_without_the_counter_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
