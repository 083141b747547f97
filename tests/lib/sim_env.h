/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_env.h - worlds in one thread: environments that share a virtual clock and a network.
 *
 *     hf_sim ── one queue of events by (virtual time, chance)
 *       ├─ env "10.0.0.1" ── timers, tasks, jobs, streams ── its own sim_disk
 *       └─ env "10.0.0.2" ── ...
 *
 * Time stands still while code runs and jumps to the next event. Each environment may have clocks
 * of its own speed, be paused, or sleep. A job's run() happens in one
 * piece when its thread starts it, done() after a delay; pools have as many threads as in
 * production. Streams deliver in order, in pieces of any size, after a seeded delay; windows are
 * small so that writers meet -EAGAIN. hf_assert_loop() fails inside run().
 *
 * The same seed and the same calls give the same run: hf_sim_digest() tells. Threads: one.
 */
#ifndef HF_TESTS_LIB_SIM_ENV_H
#define HF_TESTS_LIB_SIM_ENV_H

#include "common/env/env.h"
#include "tests/lib/sim_disk.h"

struct hf_sim;

/** With one environment, host "10.0.0.1". */
struct hf_sim *hf_sim_new(uint64_t seed);
/** Nothing runs any more; NULL is a no-op. */
void hf_sim_free(struct hf_sim *sim);

/** The first environment. */
struct hf_env *hf_sim_env(struct hf_sim *sim);
/** One more machine. @host is what its connections come from, and its name for cuts. */
struct hf_env *hf_sim_add_env(struct hf_sim *sim, const char *host);
/** "10.0.0.1": what its connections come from. */
const char *hf_sim_host(struct hf_env *env);
/** An environment's disk; it survives kills. */
struct hf_sim_disk *hf_sim_disk(struct hf_env *env);

/* Running */

/** One event; false: there is none. */
bool hf_sim_step(struct hf_sim *sim);
/** Until pred(ctx), asked before each event; false: it did not come true within @max_ns. */
bool hf_sim_run_until(struct hf_sim *sim, bool (*pred)(void *ctx), void *ctx, uint64_t max_ns);
/** Everything due within @ns; time has passed by that much afterwards. */
void hf_sim_run_ns(struct hf_sim *sim, uint64_t ns);
/** Called after every event: for _check_invariants(). NULL: none. */
void hf_sim_on_step(struct hf_sim *sim, void (*fn)(void *ctx), void *ctx);
/** Whose code the last event ran; to compare with, it may be gone. NULL: none ran. */
const struct hf_env *hf_sim_stepped(const struct hf_sim *sim);
uint64_t hf_sim_now_ns(const struct hf_sim *sim);
/** Of everything that happened so far. */
uint64_t hf_sim_digest(const struct hf_sim *sim);
/** Chance for the test itself: 0 .. @end - 1. */
uint64_t hf_sim_random_below(struct hf_sim *sim, uint64_t end);

/* Processes and clocks */

/**
 * The process dies: its timers, tasks, jobs, listeners and streams are gone without a callback,
 * its locks and open files too; peers see their connections end. What the code under test had
 * allocated is never called again: free it (before the next step) or hf_sim_abandon() it. The
 * disk keeps its state; combine with hf_sim_disk_power_cut() and hf_sim_disk_restart().
 */
void hf_sim_kill_env(struct hf_env *env);
/** All environments. */
void hf_sim_kill(struct hf_sim *sim);
/**
 * The machine loses power: like a kill, but nobody is told. Peers' connections stay half open, what
 * they send is lost, and nothing answers a connect, until the power is back; then they get resets.
 * The disk is cut in @mode.
 */
void hf_sim_power_cut_env(struct hf_env *env, enum hf_sim_cut mode);
/** The machine and its disk are up again, with nothing running. */
void hf_sim_power_on_env(struct hf_env *env);
/** Nothing runs for @ns while time goes on (SIGSTOP); bytes that come wait. */
void hf_sim_pause(struct hf_env *env, uint64_t ns);
/** Pauses that are under way end now. */
void hf_sim_resume(struct hf_env *env);
/** The machine sleeps: like a pause, but only the boot clock counts it. */
void hf_sim_suspend(struct hf_env *env, uint64_t ns);
/** Its clocks run this many parts per million too fast, from now on. */
void hf_sim_set_drift(struct hf_env *env, int32_t ppm);
/** Memory of a killed process, with all that it refers to: not a leak. */
void hf_sim_abandon(void *memory);
/** What a machine that was just switched on has counted. No timer may be armed. */
void hf_sim_set_mono_ns(struct hf_env *env, uint64_t mono_ns);
/** The wall clock jumps; timers and the other clocks do not care. */
void hf_sim_set_wall_ns(struct hf_env *env, uint64_t wall_ns);
/** Run and done delays of jobs, each 0 .. @max_ns; at first 100 us. */
void hf_sim_set_job_delay(struct hf_env *env, uint64_t max_ns);

/* Network */

/** One way; at first 20 .. 300 us. */
void hf_sim_net_set_delay(struct hf_sim *sim, uint64_t min_ns, uint64_t max_ns);
/**
 * Nothing gets from hosts that begin with @from to hosts that begin with @to (one way: cut again
 * for the other). Bytes wait for the heal, connecting times out.
 */
void hf_sim_net_cut(struct hf_sim *sim, const char *from, const char *to);
void hf_sim_net_heal(struct hf_sim *sim);
/** Every stream breaks with -ECONNRESET at both ends. */
void hf_sim_net_reset_all(struct hf_sim *sim);
/** Those with an end at each of two hosts that begin with @a and with @b. False: there is none. */
bool hf_sim_net_reset(struct hf_sim *sim, const char *a, const char *b);
/** Of 100 writes, how many are lost once and arrive up to @max_ns later, with all behind them. */
void hf_sim_net_set_stalls(struct hf_sim *sim, unsigned percent, uint64_t max_ns);
/** Of 100,000 writes, how many arrive with one bit flipped. */
void hf_sim_net_set_flips(struct hf_sim *sim, unsigned per_100k);
/** Bits flipped so far. */
uint64_t hf_sim_net_flips(const struct hf_sim *sim);

#endif
