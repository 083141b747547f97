/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/env/timers.h"

enum { COUNT = 1000 };

static uint64_t scatter(uint64_t i)
{
    return (i * 7919) % 257; /* many equal deadlines */
}

static void finish(struct hf_timers *timers, struct hf_timer *timer, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (timer[i].armed) {
            hf_timers_disarm(timers, &timer[i]);
        }
        hf_timers_forget(&timer[i]);
    }
    assert_int_equal(hf_timers_next_ns(timers), UINT64_MAX);
    hf_timers_fini(timers);
}

static void timers_come_by_deadline_then_by_arming_whatever_was_taken_away(void **state)
{
    static struct hf_timer timer[COUNT];
    struct hf_timers timers;
    uint64_t last_ns = 0;
    const struct hf_timer *last = NULL;
    size_t popped = 0;

    (void)state;
    hf_timers_init(&timers);
    for (size_t i = 0; i < COUNT; i++) {
        hf_timers_arm(&timers, &timer[i], scatter(i));
    }
    for (size_t i = 0; i < COUNT; i += 3) {
        hf_timers_disarm(&timers, &timer[i]);
    }
    for (;;) {
        uint64_t next_ns = hf_timers_next_ns(&timers);
        struct hf_timer *t;

        if (next_ns != UINT64_MAX && next_ns > 0) {
            assert_null(hf_timers_pop(&timers, next_ns - 1, UINT64_MAX));
        }
        t = hf_timers_pop(&timers, 1000, UINT64_MAX);
        if (!t) {
            break;
        }
        assert_int_equal(scatter((uint64_t)(t - timer)), next_ns);
        assert_true(next_ns > last_ns || (next_ns == last_ns && t > last));
        assert_false(t->armed);
        assert_true((t - timer) % 3 != 0);
        last_ns = next_ns;
        last = t;
        popped++;
    }
    assert_int_equal(popped, COUNT - (COUNT + 2) / 3);
    finish(&timers, timer, COUNT);
}

static void rearming_moves_a_timer_behind_its_equals(void **state)
{
    struct hf_timer timer[2] = {0};
    struct hf_timers timers;

    (void)state;
    hf_timers_init(&timers);
    hf_timers_arm(&timers, &timer[0], 5);
    hf_timers_arm(&timers, &timer[1], 5);
    hf_timers_arm(&timers, &timer[0], 5);
    assert_ptr_equal(hf_timers_pop(&timers, 5, UINT64_MAX), &timer[1]);
    assert_ptr_equal(hf_timers_pop(&timers, 5, UINT64_MAX), &timer[0]);
    assert_null(hf_timers_pop(&timers, 5, UINT64_MAX));
    finish(&timers, timer, 2);
}

static void timers_armed_since_are_left_for_the_next_pass(void **state)
{
    struct hf_timer timer[2] = {0};
    struct hf_timers timers;
    uint64_t seq_end;

    (void)state;
    hf_timers_init(&timers);
    hf_timers_arm(&timers, &timer[0], 1);
    seq_end = timers.next_seq;
    hf_timers_arm(&timers, &timer[1], 2);
    assert_ptr_equal(hf_timers_pop(&timers, 9, seq_end), &timer[0]);
    assert_null(hf_timers_pop(&timers, 9, seq_end));
    assert_ptr_equal(hf_timers_pop(&timers, 9, timers.next_seq), &timer[1]);
    finish(&timers, timer, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_come_by_deadline_then_by_arming_whatever_was_taken_away),
        cmocka_unit_test(rearming_moves_a_timer_behind_its_equals),
        cmocka_unit_test(timers_armed_since_are_left_for_the_next_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
