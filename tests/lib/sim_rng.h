/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_rng.h - the simulator's only source of chance: splitmix64, one stream per owner.
 */
#ifndef HF_TESTS_LIB_SIM_RNG_H
#define HF_TESTS_LIB_SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct hf_sim_rng {
    uint64_t state;
};

static inline uint64_t hf_sim_rng_next(struct hf_sim_rng *rng)
{
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** 0 .. @end - 1; @end > 0. */
static inline uint64_t hf_sim_rng_below(struct hf_sim_rng *rng, uint64_t end)
{
    return hf_sim_rng_next(rng) % end;
}

/** @min .. @max. */
static inline uint64_t hf_sim_rng_between(struct hf_sim_rng *rng, uint64_t min, uint64_t max)
{
    return min + hf_sim_rng_below(rng, max - min + 1);
}

static inline bool hf_sim_rng_chance(struct hf_sim_rng *rng, unsigned percent)
{
    return hf_sim_rng_below(rng, 100) < percent;
}

#endif
