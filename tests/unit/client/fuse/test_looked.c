/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/fuse/looked.h"

static struct hf_looked looked;
static const struct hf_attr seven = {.ino = {7}, .size = 70};
static struct hf_attr got;

static void one_answer_to_the_same_thread_and_inode(void **state)
{
    (void)state;
    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    assert_false(hf_looked_take(&looked, 6, (struct hf_ino){7}, 1001, &got));
    assert_true(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));
    assert_int_equal(got.size, 70);
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1002, &got));
}

static void another_inode_request_or_moment_ends_it(void **state)
{
    (void)state;
    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){8}, 1001, &got));
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));

    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    hf_looked_drop(&looked, 5 + HF_LOOKED_SLOTS);
    hf_looked_drop(&looked, 5);
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));

    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001 + HF_LOOKED_NS, &got));
}

static void the_kernel_itself_is_never_answered_from_here(void **state)
{
    (void)state;
    hf_looked_put(&looked, 0, &seven, looked.seq, 1000);
    assert_false(hf_looked_take(&looked, 0, (struct hf_ino){7}, 1001, &got));
}

static void a_change_since_the_lookup_began_ends_it(void **state)
{
    uint64_t began = looked.seq;

    (void)state;
    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    hf_looked_changed(&looked, (struct hf_ino){7});
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));

    hf_looked_put(&looked, 5, &seven, began, 1000); /* answered after the change */
    assert_false(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));

    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    hf_looked_changed(&looked, (struct hf_ino){8});
    assert_true(hf_looked_take(&looked, 5, (struct hf_ino){7}, 1001, &got));
}

static const struct hf_ino ino = {7};

static void fail_write(uint32_t thread, uint64_t end)
{
    hf_looked_write(&looked, thread, ino);
    assert_int_equal(hf_looked_wrote(&looked, thread, ino, end, true), 0);
}

static void a_failed_write_is_known_until_the_thread_asks_for_something_else(void **state)
{
    struct hf_ino over;

    (void)state;
    fail_write(5, 3000);
    assert_false(hf_looked_take(&looked, 5, ino, 1, &got)); /* it has looked at nothing */
    assert_false(hf_looked_trims(&looked, 5, ino, 3000));   /* behind it: the user's */
    assert_false(hf_looked_trims(&looked, 6, ino, 1000));
    assert_false(hf_looked_trims(&looked, 5, (struct hf_ino){8}, 1000));
    fail_write(5, 2000); /* another request of the same write */
    assert_true(hf_looked_trims(&looked, 5, ino, 2999));
    assert_false(hf_looked_trims(&looked, 5, ino, 2999));
    fail_write(5, 3000);
    assert_int_equal(hf_looked_run_over(&looked, 5, &over), 0);
    assert_false(hf_looked_trims(&looked, 5, ino, 1000));
    fail_write(0, 3000); /* the kernel itself */
    assert_false(hf_looked_trims(&looked, 0, ino, 1000));
    fail_write(5, 3000); /* what others look at, and fail to write, is theirs */
    hf_looked_put(&looked, 5 + HF_LOOKED_SLOTS, &seven, looked.seq, 1000);
    fail_write(5 + HF_LOOKED_SLOTS, 3000);
    assert_true(hf_looked_trims(&looked, 5, ino, 1000));
}

/* One write(2) is several requests at a time. */
static void what_else_a_failed_write_wrote_counts_when_it_is_not_cut_off(void **state)
{
    struct hf_ino over = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        hf_looked_write(&looked, 9, ino);
    }
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 2000, false), 0); /* others are under way */
    assert_int_equal(hf_looked_run_over(&looked, 9, &over), 0);
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 1000, false), 0);
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 3000, false), 3000);
    for (int i = 0; i < 2; i++) {
        hf_looked_write(&looked, 9, ino);
    }
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 5000, true), 0);
    assert_false(hf_looked_trims(&looked, 9, ino, 3000)); /* another is under way */
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 4000, false), 0);
    assert_true(hf_looked_trims(&looked, 9, ino, 3000));
    fail_write(9, 5000);
    hf_looked_write(&looked, 9, ino);
    assert_int_equal(hf_looked_wrote(&looked, 9, ino, 4000, false), 0);
    assert_int_equal(hf_looked_run_over(&looked, 9, &over), 4000);
    assert_int_equal(over.v, ino.v);
}

/* Threads that failed and never came back are forgotten; those that write are not. */
static void the_oldest_run_makes_room(void **state)
{
    (void)state;
    hf_looked_write(&looked, 100, ino);
    for (uint32_t i = 1; i < HF_LOOKED_RUNS + 1; i++) {
        fail_write(100 + i, 3000);
    }
    assert_false(hf_looked_trims(&looked, 101, ino, 1000));
    assert_true(hf_looked_trims(&looked, 102, ino, 1000));
    assert_int_equal(hf_looked_wrote(&looked, 100, ino, 3000, true), 0);
    assert_true(hf_looked_trims(&looked, 100, ino, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_answer_to_the_same_thread_and_inode),
        cmocka_unit_test(another_inode_request_or_moment_ends_it),
        cmocka_unit_test(a_change_since_the_lookup_began_ends_it),
        cmocka_unit_test(the_kernel_itself_is_never_answered_from_here),
        cmocka_unit_test(a_failed_write_is_known_until_the_thread_asks_for_something_else),
        cmocka_unit_test(what_else_a_failed_write_wrote_counts_when_it_is_not_cut_off),
        cmocka_unit_test(the_oldest_run_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
