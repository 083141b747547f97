/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/assert.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void hf_assert_fail(const char *expr, const char *file, int line, const char *func)
{
    void *frames[48];
    int count;

    (void)fprintf(stderr, "assertion failed: %s at %s:%d in %s\n", expr, file, line, func);
    (void)fflush(stderr);
    count = backtrace(frames, 48);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    abort();
}
