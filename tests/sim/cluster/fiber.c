/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/fiber.h"

#include <stdlib.h>
#include <ucontext.h>

#include "common/base/assert.h"

#define STACK_BYTES (128u << 10)

struct fiber {
    ucontext_t context, back;
    void (*fn)(void *arg);
    void *arg;
    bool over;
    char *stack;
};

static struct fiber *current;

static void run(void)
{
    struct fiber *fiber = current;

    fiber->fn(fiber->arg);
    fiber->over = true;
}

struct fiber *fiber_new(void (*fn)(void *arg), void *arg)
{
    struct fiber *fiber = calloc(1, sizeof(*fiber));

    HF_ASSERT(fiber != NULL);
    fiber->stack = malloc(STACK_BYTES);
    HF_ASSERT(fiber->stack != NULL && getcontext(&fiber->context) == 0);
    fiber->fn = fn;
    fiber->arg = arg;
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = &fiber->back;
    makecontext(&fiber->context, run, 0);
    return fiber;
}

void fiber_resume(struct fiber *fiber)
{
    HF_ASSERT(!current && !fiber->over);
    current = fiber;
    HF_ASSERT(swapcontext(&fiber->back, &fiber->context) == 0);
    current = NULL;
}

void fiber_yield(void)
{
    struct fiber *fiber = current;

    HF_ASSERT(fiber != NULL);
    HF_ASSERT(swapcontext(&fiber->context, &fiber->back) == 0);
}

bool fiber_is_over(const struct fiber *fiber)
{
    return fiber->over;
}

void fiber_free(struct fiber *fiber)
{
    if (fiber) {
        HF_ASSERT(fiber != current);
        free(fiber->stack);
        free(fiber);
    }
}
