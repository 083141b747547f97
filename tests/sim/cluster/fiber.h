/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber.h - straight-line code that waits, inside the one thread of a simulation.
 *
 *     start ──► running ──yield──► waiting ──resume──► running ──► over
 *
 * Threads: one.
 */
#ifndef HF_TESTS_SIM_FIBER_H
#define HF_TESTS_SIM_FIBER_H

#include <stdbool.h>

struct fiber;

/** fn(arg) runs when it is first resumed. */
struct fiber *fiber_new(void (*fn)(void *arg), void *arg);
/** Run it until it yields or ends. Not from within a fiber. */
void fiber_resume(struct fiber *fiber);
/** From within: back to whoever resumed it. */
void fiber_yield(void);
bool fiber_is_over(const struct fiber *fiber);
/** Also one that waits: what it had on its stack is gone without a word. NULL is a no-op. */
void fiber_free(struct fiber *fiber);

#endif
