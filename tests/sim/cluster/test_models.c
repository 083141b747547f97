/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The models that hf-sim judges by: do they take what is right, and refuse what is not?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/sim/cluster/contents.h"
#include "tests/sim/cluster/lin.h"

static void op(struct lin_history *h, uint32_t process, enum lin_kind kind, uint64_t value,
               enum lin_end end, uint64_t call, uint64_t ret)
{
    *lin_add(h, process) = (struct lin_op){
        .kind = kind, .end = end, .to = 1, .value = value, .call_ns = call, .return_ns = ret};
}

static enum lin_verdict verdict(struct lin_history *h)
{
    size_t stuck[LIN_PROCESSES_MAX];
    enum lin_verdict v = lin_check(h, stuck);

    lin_fini(h);
    return v;
}

static void a_read_sees_the_last_write(void **state)
{
    struct lin_history h = {0};

    (void)state;
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 10);
    op(&h, 1, LIN_READ, 1, LIN_OK, 20, 30);
    assert_int_equal(verdict(&h), LIN_LINEARIZABLE);
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 10);
    op(&h, 1, LIN_READ, 0, LIN_OK, 20, 30);
    assert_int_equal(verdict(&h), LIN_VIOLATED);
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 10); /* at the same time: either */
    op(&h, 1, LIN_READ, 0, LIN_OK, 5, 30);
    assert_int_equal(verdict(&h), LIN_LINEARIZABLE);
}

static void values_do_not_come_back(void **state)
{
    struct lin_history h = {0};

    (void)state;
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 100);
    op(&h, 1, LIN_READ, 1, LIN_OK, 10, 20);
    op(&h, 1, LIN_READ, 0, LIN_OK, 30, 40);
    assert_int_equal(verdict(&h), LIN_VIOLATED);
}

static void an_unknown_operation_happened_in_time_or_never(void **state)
{
    struct lin_history h = {0};

    (void)state;
    for (uint64_t seen = 0; seen < 2; seen++) {
        op(&h, 0, LIN_WRITE, 1, LIN_UNKNOWN, 0, 100);
        op(&h, 1, LIN_READ, seen, LIN_OK, 50, 60);
        op(&h, 1, LIN_READ, 1, LIN_OK, 90, 95);
        assert_int_equal(verdict(&h), LIN_LINEARIZABLE);
        op(&h, 0, LIN_WRITE, 1, LIN_UNKNOWN, 0, 100); /* not after its session has ended */
        op(&h, 1, LIN_READ, 0, LIN_OK, 110, 120);
        op(&h, 1, LIN_READ, seen, LIN_OK, 130, 140);
        assert_int_equal(verdict(&h), seen ? LIN_VIOLATED : LIN_LINEARIZABLE);
    }
}

static void only_one_creates(void **state)
{
    struct lin_history h = {0};

    (void)state;
    op(&h, 0, LIN_CREATE, 1, LIN_OK, 0, 10);
    op(&h, 1, LIN_CREATE, 2, LIN_EXISTS, 5, 15);
    op(&h, 1, LIN_DELETE, 0, LIN_OK, 20, 30);
    op(&h, 0, LIN_DELETE, 0, LIN_MISSING, 20, 30);
    assert_int_equal(verdict(&h), LIN_LINEARIZABLE);
    op(&h, 0, LIN_CREATE, 1, LIN_OK, 0, 10);
    op(&h, 1, LIN_CREATE, 2, LIN_OK, 5, 15);
    assert_int_equal(verdict(&h), LIN_VIOLATED);
}

static void a_move_is_seen_whole(void **state)
{
    struct lin_history h = {0};

    (void)state;
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 10);
    op(&h, 0, LIN_MOVE, 0, LIN_OK, 20, 30);
    op(&h, 1, LIN_READ, 0, LIN_OK, 22, 24);
    op(&h, 1, LIN_READ, 1, LIN_OK, 25, 28);
    lin_add(&h, 2)->kind = LIN_READ;
    assert_int_equal(verdict(&h), LIN_VIOLATED); /* gone, and there again */
    op(&h, 0, LIN_WRITE, 1, LIN_OK, 0, 10);
    op(&h, 0, LIN_MOVE, 0, LIN_OK, 20, 30);
    op(&h, 0, LIN_EXCHANGE, 0, LIN_MISSING, 40, 50);
    op(&h, 1, LIN_READ, 1, LIN_OK, 22, 24);
    op(&h, 1, LIN_READ, 0, LIN_OK, 25, 28);
    assert_int_equal(verdict(&h), LIN_LINEARIZABLE);
}

/* Contents */

static void bytes_of(const struct contents *c, uint8_t *ret, uint64_t tag, size_t len)
{
    (void)c;
    contents_pattern(tag, 0, ret, len);
}

static void what_is_not_synced_may_be_there_or_not(void **state)
{
    struct contents *c = contents_new();
    uint8_t old[4096], new[4096], mixed[4096];

    (void)state;
    bytes_of(c, old, 1, sizeof(old));
    bytes_of(c, new, 2, sizeof(new));
    memcpy(mixed, old, sizeof(old));
    memcpy(mixed, new, 1024);
    contents_write(c, 1, 0, sizeof(old));
    contents_synced(c, contents_seq(c));
    assert_int_equal(contents_may_be(c, old, sizeof(old)), -1);
    assert_true(contents_may_be(c, new, sizeof(new)) >= 0);
    contents_write(c, 2, 0, sizeof(new));
    assert_int_equal(contents_is(c, 0, new, sizeof(new)), -1);
    assert_int_equal(contents_is(c, 0, mixed, sizeof(mixed)), 1024);
    assert_int_equal(contents_may_be(c, old, sizeof(old)), -1);
    assert_int_equal(contents_may_be(c, mixed, sizeof(mixed)), -1);
    mixed[2000] ^= 1;
    assert_int_equal(contents_may_be(c, mixed, sizeof(mixed)), 2000);
    contents_synced(c, contents_seq(c));
    assert_true(contents_may_be(c, old, sizeof(old)) >= 0);
    assert_int_equal(contents_may_be(c, new, sizeof(new)), -1);
    contents_free(c);
}

static void sizes_are_checked(void **state)
{
    struct contents *c = contents_new();
    uint8_t bytes[4096];

    (void)state;
    bytes_of(c, bytes, 1, sizeof(bytes));
    contents_write(c, 1, 0, 1000);
    contents_synced(c, contents_seq(c));
    assert_int_equal(contents_may_be(c, bytes, 999), 999);
    contents_truncate(c, 100);
    assert_int_equal(contents_size(c), 100);
    assert_int_equal(contents_may_be(c, bytes, 1000), -1);
    assert_int_equal(contents_may_be(c, bytes, 100), -1);
    assert_int_equal(contents_may_be(c, bytes, 99), 99);
    assert_int_equal(contents_may_be(c, bytes, 1001), 1001);
    contents_free(c);
}

static void one_who_looks_keeps_what_was_synced(void **state)
{
    struct contents *c = contents_new();
    uint8_t old[100], new[100];

    (void)state;
    bytes_of(c, old, 1, sizeof(old));
    bytes_of(c, new, 2, sizeof(new));
    contents_write(c, 1, 0, sizeof(old));
    contents_synced(c, contents_seq(c));
    contents_pin(c);
    contents_write(c, 2, 0, sizeof(new));
    contents_synced(c, contents_seq(c));
    assert_int_equal(contents_may_be(c, old, sizeof(old)), -1);
    assert_int_equal(contents_may_be(c, new, sizeof(new)), -1);
    assert_true(contents_may_be_left(c, old, sizeof(old)) >= 0);
    assert_int_equal(contents_may_be_left(c, new, sizeof(new)), -1);
    contents_unpin(c);
    assert_true(contents_may_be(c, old, sizeof(old)) >= 0);
    contents_free(c);
}

static void what_was_adopted_is_right_from_then_on(void **state)
{
    struct contents *c = contents_new();
    uint8_t zeros[50] = {0}, bytes[50];

    (void)state;
    bytes_of(c, bytes, 1, sizeof(bytes));
    contents_write(c, 1, 0, sizeof(bytes));
    contents_adopt(c, zeros, 0);
    assert_int_equal(contents_generation(c), 1);
    assert_int_equal(contents_may_be(c, zeros, 0), -1);
    assert_int_equal(contents_may_be(c, bytes, sizeof(bytes)), 50);
    contents_see(c, bytes, sizeof(bytes));
    assert_int_equal(contents_is(c, 0, bytes, sizeof(bytes)), -1);
    assert_int_equal(contents_may_be(c, zeros, 0), -1);
    contents_punch(c, 10, 20);
    assert_int_equal(contents_may_be(c, bytes, sizeof(bytes)), -1);
    memset(bytes + 10, 0, 20);
    assert_int_equal(contents_is(c, 0, bytes, sizeof(bytes)), -1);
    contents_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_sees_the_last_write),
        cmocka_unit_test(values_do_not_come_back),
        cmocka_unit_test(an_unknown_operation_happened_in_time_or_never),
        cmocka_unit_test(only_one_creates),
        cmocka_unit_test(a_move_is_seen_whole),
        cmocka_unit_test(what_is_not_synced_may_be_there_or_not),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(one_who_looks_keeps_what_was_synced),
        cmocka_unit_test(what_was_adopted_is_right_from_then_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
