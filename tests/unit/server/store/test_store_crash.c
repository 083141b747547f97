/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/store/script.h"

/* True: the fault struck. */
static bool crash_at(uint64_t seed, uint64_t n, enum hf_sim_fault kind, enum hf_sim_cut cut,
                     struct sweep *sweep)
{
    struct world *w = small_world(seed * 7919 + n);
    struct script s = {.w = w, .rng = seed};
    bool struck;

    hf_sim_disk_set_cut(w->disk, cut);
    hf_sim_disk_fail_at(w->disk, n, kind);
    (void)play(&s);
    struck = hf_sim_disk_struck(w->disk) > 0;
    sweep->runs++;
    sweep->acked += w->acked_puts + w->acked_deletes;
    if (struck) {
        world_crash(w);
        examine(&s);
    } else {
        struct hf_store_stats stats;

        hf_sim_disk_clear_faults(w->disk);
        hf_store_stats(w->store, &stats);
        sweep->compacted += stats.recycled_segments;
        sweep->calls = hf_sim_disk_calls(w->disk);
        world_verify(w);
    }
    world_free(w);
    script_end(&s);
    return struck;
}

static void sweep_crashes(enum hf_sim_fault kind, enum hf_sim_cut cut, uint64_t every,
                          const char *name)
{
    struct sweep sweep = {0};

    for (uint64_t seed = first_seed(); seed < first_seed() + seeds(); seed++) {
        for (uint64_t n = 0; crash_at(seed, n, kind, cut, &sweep); n += every) {
        }
    }
    print_message("%s: %llu runs, %llu acknowledged operations checked, %llu segments recycled\n",
                  name, (unsigned long long)sweep.runs, (unsigned long long)sweep.acked,
                  (unsigned long long)sweep.compacted);
    assert_true(sweep.runs > 300 / every && sweep.compacted >= 4);
}

static void a_power_cut_at_any_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_crashes(HF_SIM_FAULT_POWER_CUT, HF_SIM_CUT_RANDOM, 1, "power cut, random");
}

static void a_power_cut_that_loses_all_unsynced_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_crashes(HF_SIM_FAULT_POWER_CUT, HF_SIM_CUT_LOSE_ALL, stride(), "power cut, lose all");
}

static void a_killed_process_at_any_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_crashes(HF_SIM_FAULT_CRASH, HF_SIM_CUT_KEEP_ALL, stride(), "crash");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_at_any_call_loses_nothing_acknowledged),
        cmocka_unit_test(a_power_cut_that_loses_all_unsynced_loses_nothing_acknowledged),
        cmocka_unit_test(a_killed_process_at_any_call_loses_nothing_acknowledged),
    };

    size_shift = 2;
    hf_log_set_sink(no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
