/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/store/script.h"

static void a_failed_write_at_any_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_failures(HF_SIM_FAULT_WRITE_EIO, 1, "write EIO");
}

static void a_failed_sync_at_any_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_failures(HF_SIM_FAULT_SYNC_EIO, 1, "sync EIO");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_at_any_call_loses_nothing_acknowledged),
        cmocka_unit_test(a_failed_sync_at_any_call_loses_nothing_acknowledged),
    };

    size_shift = 2;
    hf_log_set_sink(no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
