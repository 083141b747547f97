/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.h - numbers and ranges of seeds on the command lines of hf-sim and hf-raft-sim.
 *
 * Digits and nothing else: no sign, no space, nothing behind them.
 */
#ifndef HF_TESTS_SIM_ARGS_H
#define HF_TESTS_SIM_ARGS_H

#include <stdint.h>

/* Last seed of a range: there is a next one, however many are taken at once. */
#define ARGS_RANGE_LAST ((uint64_t)INT64_MAX)

/** Errors: -EINVAL no number, -ERANGE less than @least or more than @most. */
int args_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret);
/** "A..B". Errors: -EINVAL no range, or one that ends before it begins; -ERANGE beyond
 *  ARGS_RANGE_LAST. */
int args_range(const char *text, uint64_t *ret_first, uint64_t *ret_last);

#endif
