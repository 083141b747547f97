/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/bytes.h"
#include "common/table/memtable.h"

static uint64_t next_random(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    return hf_hash64(seed, sizeof(*seed), 1);
}

static void set(struct hf_memtable *mt, const void *key, size_t key_len, const void *value,
                size_t value_len)
{
    const uint64_t key_hash = hf_memrow_key_hash(key, key_len);
    const struct hf_memchange change = {
        .key = key,
        .key_len = key_len,
        .key_hash = key_hash,
        .value = value,
        .value_len = value_len,
        .hash = hf_memrow_hash(key_hash, value, value_len),
    };

    assert_non_null(mt);
    assert_int_equal(hf_memtable_apply(mt, hf_memtable_find(mt, key_hash, key, key_len), &change),
                     0);
}

/* What is on disk and in digests; if this fails, so does every table there is. */
static void row_hashes_are_fixed_for_ever(void **state)
{
    (void)state;
    assert_true(hf_memrow_key_hash("holdfast", 8) == UINT64_C(0x890de97c203fcfcb));
    assert_true(hf_memrow_hash(hf_memrow_key_hash("holdfast", 8), "value", 5) ==
                UINT64_C(0x5c819c975b2112da));
}

static void rows_in_random_order_come_out_sorted(void **state)
{
    struct hf_memtable *mt = hf_memtable_new(NULL, 0);
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < 20000; i++) {
        uint8_t key[24] = {0};
        uint64_t r = next_random(&seed);
        size_t len = 1 + r % sizeof(key);

        /* Few distinct bytes: long common prefixes, zeros, keys that begin other keys. */
        for (size_t b = 0; b < len; b++) {
            key[b] = (uint8_t)((r >> (8 + b)) & 1);
        }
        set(mt, key, len, &r, i % 9);
    }
    hf_memtable_check_invariants(mt);
    hf_memtable_free(mt);
}

static void rows_in_key_order_come_out_sorted(void **state)
{
    (void)state;
    for (int direction = 0; direction < 2; direction++) {
        struct hf_memtable *mt = hf_memtable_new(NULL, 0);
        const size_t count = 50000;

        for (uint64_t i = 0; i < count; i++) {
            uint8_t key[9] = {7};

            hf_put_be64(key + 1, direction ? i : count - i);
            set(mt, key, sizeof(key), &i, sizeof(i));
        }
        assert_int_equal(hf_memtable_count(mt), count);
        hf_memtable_check_invariants(mt);
        hf_memtable_free(mt);
    }
}

static void a_row_keeps_its_address_while_its_value_grows(void **state)
{
    struct hf_memtable *mt = hf_memtable_new(NULL, 0);
    static uint8_t value[100000];
    const struct hf_memrow *row;

    (void)state;
    set(mt, "k", 1, value, 0);
    row = hf_memtable_seek(mt, "k", 1);
    for (size_t len = 0; len < sizeof(value); len += 1 + len / 7) {
        memset(value, (int)len, len);
        set(mt, "k", 1, value, len);
        assert_ptr_equal(hf_memtable_seek(mt, "k", 1), row);
        assert_int_equal(row->value_len, len);
        assert_memory_equal(row->value, value, len);
    }
    /* A value may be a part of the one it replaces. */
    set(mt, "k", 1, row->value + 1, row->value_len - 1);
    hf_memtable_check_invariants(mt);
    hf_memtable_free(mt);
}

static void chunks_go_through_the_pool_and_idle_ones_leave_it(void **state)
{
    struct hf_mempool pool = {0};
    size_t held;

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct hf_memtable *mt = hf_memtable_new(&pool, 100);

        for (uint64_t i = 0; i < 10000; i++) {
            set(mt, &i, sizeof(i), &i, sizeof(i));
        }
        assert_int_equal(pool.count, 0);
        hf_mempool_trim(&pool);
        hf_memtable_free(mt);
        assert_true(pool.count > 5);
    }
    held = pool.count;
    hf_mempool_trim(&pool); /* low is still what the last layer left: 0 */
    assert_int_equal(pool.count, held);
    while (pool.count) {
        held = pool.count;
        hf_mempool_trim(&pool);
        assert_true(pool.count < held);
    }
    hf_mempool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_hashes_are_fixed_for_ever),
        cmocka_unit_test(rows_in_random_order_come_out_sorted),
        cmocka_unit_test(rows_in_key_order_come_out_sorted),
        cmocka_unit_test(a_row_keeps_its_address_while_its_value_grows),
        cmocka_unit_test(chunks_go_through_the_pool_and_idle_ones_leave_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
