/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/args.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/assert.h"

static void a_number_is_digits_and_within_its_bounds(void **state)
{
    uint64_t n = 0;

    (void)state;
    assert_int_equal(args_number("0", 0, 9, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(args_number("18446744073709551615", 0, UINT64_MAX, &n), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(args_number("18446744073709551616", 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(args_number("99999999999999999999", 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(args_number("0", 1, 9, &n), -ERANGE);
    assert_int_equal(args_number("10", 1, 9, &n), -ERANGE);
    assert_true(n == UINT64_MAX);
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const texts[] = {"",   "-1", "+1",  " 1",  "1 ",
                                        "1x", "x",  "0x1", "1.0", "99999999999999999999x"};
    uint64_t n = 7;

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(texts); i++) {
        assert_int_equal(args_number(texts[i], 0, UINT64_MAX, &n), -EINVAL);
    }
    assert_int_equal(n, 7);
}

static void a_range_ends_where_it_begins_or_later(void **state)
{
    uint64_t first = 7, last = 7;

    (void)state;
    assert_int_equal(args_range("5..1", &first, &last), -EINVAL);
    assert_int_equal(first, 7);
    assert_int_equal(args_range("5..5", &first, &last), 0);
    assert_int_equal(first, 5);
    assert_int_equal(last, 5);
    assert_int_equal(args_range("0..9223372036854775807", &first, &last), 0);
    assert_int_equal(first, 0);
    assert_true(last == ARGS_RANGE_LAST);
}

static void what_is_no_range_is_refused(void **state)
{
    static const char *const texts[] = {"",       "1",     "1..",   "..1",   "1...2", "1..2x",
                                        "-3..-1", "1..-1", "1.. 2", "1 ..2", "1-2"};
    uint64_t first, last;

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(texts); i++) {
        assert_int_equal(args_range(texts[i], &first, &last), -EINVAL);
    }
    assert_int_equal(args_range("1..9223372036854775808", &first, &last), -ERANGE);
    assert_int_equal(args_range("1..99999999999999999999", &first, &last), -ERANGE);
    assert_int_equal(args_range("18446744073709551615..18446744073709551615", &first, &last),
                     -ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_digits_and_within_its_bounds),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_range_ends_where_it_begins_or_later),
        cmocka_unit_test(what_is_no_range_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
