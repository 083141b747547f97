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

static void a_failed_write_is_known_until_the_thread_asks_for_something_else(void **state)
{
    const struct hf_ino ino = {7};

    (void)state;
    hf_looked_failed(&looked, 5, ino, 3000);
    assert_false(hf_looked_take(&looked, 5, ino, 1, &got)); /* it has looked at nothing */
    assert_false(hf_looked_trims(&looked, 5, ino, 3000));   /* behind it: the user's */
    assert_false(hf_looked_trims(&looked, 6, ino, 1000));
    assert_false(hf_looked_trims(&looked, 5, (struct hf_ino){8}, 1000));
    hf_looked_failed(&looked, 5, ino, 2000); /* another request of the same write */
    assert_true(hf_looked_trims(&looked, 5, ino, 2999));
    hf_looked_drop(&looked, 5);
    assert_false(hf_looked_trims(&looked, 5, ino, 1000));
    hf_looked_failed(&looked, 0, ino, 3000); /* the kernel itself */
    assert_false(hf_looked_trims(&looked, 0, ino, 1000));
    hf_looked_failed(&looked, 5, ino, 3000);
    hf_looked_put(&looked, 5, &seven, looked.seq, 1000);
    assert_false(hf_looked_trims(&looked, 5, ino, 1000));
    assert_true(hf_looked_take(&looked, 5, ino, 1001, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_answer_to_the_same_thread_and_inode),
        cmocka_unit_test(another_inode_request_or_moment_ends_it),
        cmocka_unit_test(a_change_since_the_lookup_began_ends_it),
        cmocka_unit_test(the_kernel_itself_is_never_answered_from_here),
        cmocka_unit_test(a_failed_write_is_known_until_the_thread_asks_for_something_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
