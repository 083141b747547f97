/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timers.h - the armed timers of one environment, ordered by deadline, then by arming.
 *
 * A binary heap; the clock that wakes the loop for its top is the owner's business. Memory for a
 * timer's place is taken when it is first armed and given back by hf_timers_forget().
 *
 * Threads: loop thread only. Time: absolute, ns, of any one clock.
 */
#ifndef HF_ENV_TIMERS_H
#define HF_ENV_TIMERS_H

#include "common/env/env.h"

struct hf_timer_node;

struct hf_timers {
    struct hf_timer_node **heap;
    size_t count;
    size_t cap;
    uint64_t next_seq; /* of the next arming */
};

void hf_timers_init(struct hf_timers *timers);
/** Timers still armed are abandoned: their nodes go, their callbacks never run. */
void hf_timers_fini(struct hf_timers *timers);

/** (Re)arm. Aborts when out of memory: a lost deadline has no caller to be told. */
void hf_timers_arm(struct hf_timers *timers, struct hf_timer *timer, uint64_t deadline_ns);
void hf_timers_disarm(struct hf_timers *timers, struct hf_timer *timer);
/** Disarmed before. */
void hf_timers_forget(struct hf_timer *timer);

/** UINT64_MAX: none is armed. */
uint64_t hf_timers_next_ns(const struct hf_timers *timers);
/**
 * Take the first timer off when it is due at @now_ns and was armed before @seq_end (so that a
 * callback that re-arms itself with no delay cannot keep its caller). NULL: none. Its callback is
 * for the caller to run.
 */
struct hf_timer *hf_timers_pop(struct hf_timers *timers, uint64_t now_ns, uint64_t seq_end);

#endif
