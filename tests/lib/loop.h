/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - run the real loop until a condition holds; a test that waits too long fails.
 */
#ifndef TESTS_LIB_LOOP_H
#define TESTS_LIB_LOOP_H

#include "common/env/env.h"
#include "common/env/env_real.h"
#include "tests/sweep/sweep.h"

struct loop_wait {
    struct hf_env *env;
    bool (*met)(void *ctx);
    void *ctx;
    struct hf_timer look;
    uint64_t until_ns;
};

static void loop_look(void *ctx)
{
    struct loop_wait *w = ctx;

    if ((w->met && w->met(w->ctx)) || hf_env_mono_ns(w->env) > w->until_ns) {
        hf_env_real_stop(w->env);
        return;
    }
    hf_timer_arm(&w->look, HF_NS_PER_MS / 2);
}

/* Returns whether it held in time. */
static bool loop_until(struct hf_env *env, bool (*met)(void *ctx), void *ctx, uint64_t timeout_ns)
{
    struct loop_wait w = {
        .env = env,
        .met = met,
        .ctx = ctx,
        .until_ns = hf_env_mono_ns(env) + hf_sweep_patience_ns(timeout_ns),
    };

    hf_timer_init(&w.look, env, loop_look, &w);
    hf_timer_arm(&w.look, 0);
    if (hf_env_real_run(env) != 0) {
        return false;
    }
    hf_timer_fini(&w.look);
    return !met || met(ctx);
}

static bool loop_flag(void *ctx)
{
    return *(bool *)ctx;
}

static bool __attribute__((unused)) loop_until_flag(struct hf_env *env, bool *flag)
{
    return loop_until(env, loop_flag, flag, 30 * HF_NS_PER_SEC);
}

static void __attribute__((unused)) loop_for(struct hf_env *env, uint64_t ns)
{
    (void)loop_until(env, NULL, NULL, ns);
}

#endif
