/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/store/script.h"

static void a_full_disk_at_any_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_failures(HF_SIM_FAULT_NOSPC, stride(), "no space");
}

static void short_transfers_at_any_call_change_nothing(void **state)
{
    (void)state;
    sweep_failures(HF_SIM_FAULT_SHORT, stride(), "short");
}

static void a_failed_read_at_any_call_at_most_quarantines(void **state)
{
    (void)state;
    sweep_failures(HF_SIM_FAULT_READ_EIO, stride(), "read EIO");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_at_any_call_loses_nothing_acknowledged),
        cmocka_unit_test(short_transfers_at_any_call_change_nothing),
        cmocka_unit_test(a_failed_read_at_any_call_at_most_quarantines),
    };

    size_shift = 2;
    hf_log_set_sink(no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
