/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/raft/sim.h"

static struct sim sim;

static uint64_t trace_of(uint64_t seed)
{
    uint64_t trace;

    sim_run(&sim, seed, false);
    assert_false(sim.failed);
    assert_true(sim.now > 60 * SIM_S);
    trace = sim.trace;
    sim_fini(&sim);
    return trace;
}

static void the_same_seed_gives_the_same_trace(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const uint64_t first = trace_of(seed), second = trace_of(seed);

        assert_true(first == second);
    }
}

static void another_seed_gives_another_trace(void **state)
{
    (void)state;
    assert_true(trace_of(1) != trace_of(2));
}

static void every_seed_has_its_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sim_run(&sim, seed, false);
        assert_true(sim.faults >= 3);
        assert_true(sim.events >= 5000);
        sim_fini(&sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_trace),
        cmocka_unit_test(another_seed_gives_another_trace),
        cmocka_unit_test(every_seed_has_its_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
