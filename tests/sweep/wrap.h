/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrap.h - what wrap.c, where the wrapped calls arrive, asks of sweep.c.
 */
#ifndef HF_TESTS_SWEEP_WRAP_H
#define HF_TESTS_SWEEP_WRAP_H

#include <stdbool.h>
#include <stddef.h>

/* Nothing is swept: every call passes as fast as it can. */
extern bool hf_sweep_on;

/** This allocation fails. */
bool hf_sweep_alloc_fails(void);
/** What this run does, another process would see: its files, its sockets. */
void hf_sweep_shares(void);
/** Memory of the code under test, from here until it is freed by whomever. NULL is a no-op. */
void hf_sweep_allocated(const void *p);
void hf_sweep_freed(const void *p);

#endif
