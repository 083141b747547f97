/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/args.h"

#include <errno.h>
#include <string.h>

/* The digits at *@at, which then is behind them. Too many are -ERANGE. */
static int digits(const char **at, uint64_t *ret)
{
    const char *begin = *at;
    uint64_t value = 0;
    int err = 0;

    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(**at - '0'), &value)) {
            err = -ERANGE;
        }
    }
    if (*at == begin) {
        return -EINVAL;
    }
    *ret = value;
    return err;
}

int args_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
    uint64_t value = 0;
    int err = digits(&text, &value);

    if (err == -EINVAL || *text) {
        return -EINVAL;
    }
    if (err || value < least || value > most) {
        return -ERANGE;
    }
    *ret = value;
    return 0;
}

int args_range(const char *text, uint64_t *ret_first, uint64_t *ret_last)
{
    uint64_t first = 0, last = 0;
    int err = digits(&text, &first), err_last;

    if (err == -EINVAL || strncmp(text, "..", 2) != 0) {
        return -EINVAL;
    }
    text += 2;
    err_last = digits(&text, &last);
    if (err_last == -EINVAL || *text) {
        return -EINVAL;
    }
    if (err || err_last || last > ARGS_RANGE_LAST) {
        return -ERANGE;
    }
    if (last < first) {
        return -EINVAL;
    }
    *ret_first = first;
    *ret_last = last;
    return 0;
}
