/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what a fuzz target defines. driver.c runs it; so does libFuzzer.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/** Optional: seed @index into @ret; its length, 0 when there are no more. */
size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap) __attribute__((weak));

#endif
