/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   0 s          45 s            60 s
 *   work, faults │ heal, converge │ power test, loss test │ read back ─ clients end ─ collect ─
 * compare
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/log/log.h"
#include "tests/sim/cluster/sim.h"

#define BEYOND_WAIT_S 40u

void sim_trace(struct sim *s, const char *format, ...)
{
    va_list args;

    if (!s->options.trace) {
        return;
    }
    printf("%10.6f ", (double)sim_now(s) / 1e9);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    putchar('\n');
    (void)fflush(stdout); /* an assertion would take the end along */
}

static void fail(struct sim *s, const char *invariant, bool guess, const char *format, va_list args)
{
    int n;

    HF_ASSERT(sim_invariant_known(invariant));
    if (s->failed) {
        return;
    }
    s->failed = true;
    n = snprintf(s->why, sizeof(s->why), "%.3f s: %s%s: ", (double)sim_now(s) / 1e9,
                 guess ? "I11: a guess: " : "", invariant);
    (void)vsnprintf(s->why + n, sizeof(s->why) - (size_t)n, format, args);
    sim_trace(s, "FAILED %s", s->why);
}

void sim_fail(struct sim *s, const char *invariant, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail(s, invariant, false, format, args);
    va_end(args);
}

void sim_wrong(struct sim *s, const char *invariant, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail(s, invariant, s->options.beyond, format, args);
    va_end(args);
}

uint64_t sim_now(const struct sim *s)
{
    return hf_sim_now_ns(s->world);
}

/* A node finds that it has lost what it promised: something must have befallen it. */
static void store_damaged(struct sim *s, const char *line)
{
    const char *at = strstr(line, " error raft store damaged node=");
    uint32_t node = at ? (uint32_t)strtoul(strchr(at, '=') + 1, NULL, 10) : 0;

    if (node && node <= s->node_count && !s->nodes[node - 1].befallen && !s->options.beyond) {
        sim_fail(s, "alive", "node %u lost what it promised, and nothing had befallen it", node);
    }
}

static void log_line(void *ctx, const char *line)
{
    struct sim *s = ctx;
    const char *text = strchr(line, ' '); /* behind the time of day, which is this machine's */

    sim_trace(s, "log%s", text ? text : line);
    store_damaged(s, line);
}

static bool has_failed(void *ctx)
{
    return ((struct sim *)ctx)->failed;
}

static void run_until(struct sim *s, uint64_t at_ns)
{
    if (at_ns > sim_now(s)) {
        (void)hf_sim_run_until(s->world, has_failed, s, at_ns - sim_now(s));
    }
}

/* Time passes, faults come and go, supervisors supervise. */
static void pass(struct sim *s, uint64_t until_ns, bool faults)
{
    while (!s->failed && sim_now(s) < until_ns) {
        uint64_t next_ns = sim_now(s) + SIM_TICK_NS;
        uint64_t fault_ns = faults ? sim_atlas_next(s) : UINT64_MAX;

        next_ns = fault_ns < next_ns ? fault_ns : next_ns;
        run_until(s, next_ns < until_ns ? next_ns : until_ns);
        if (faults) {
            sim_atlas_act(s);
        }
        sim_world_tick(s);
        sim_check_tick(s);
    }
}

static void heal(struct sim *s)
{
    sim_trace(s, "healed");
    s->work_over = true;
    sim_atlas_heal(s);
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];

        n->start_at_ns = n->node ? UINT64_MAX : 0;
    }
}

static void converge(struct sim *s)
{
    uint64_t limit_ns = sim_now(s) + SIM_CONVERGE_NS;
    const char *missing = NULL;

    while (!s->failed && (missing = sim_check_converged(s)) && sim_now(s) < limit_ns) {
        pass(s, sim_now(s) + SIM_S, false);
    }
    if (missing && !s->failed) {
        sim_check_say(s);
        sim_fail(s, "alive", "%s, %u s after healing", missing,
                 (unsigned)(SIM_CONVERGE_NS / SIM_S));
    }
}

/* At rest, what was acknowledged is on the disks: the power may go everywhere (I1, I8, I9). */
static void power_test(struct sim *s)
{
    uint64_t members = sim_check_members(s);

    sim_trace(s, "power test");
    sim_power_test(s);
    pass(s, sim_now(s) + SIM_S, false);
    converge(s);
    if (!s->failed && sim_check_members(s) != members) {
        sim_fail(s, "I2", "members of the metadata are %" PRIx64 ", were %" PRIx64,
                 sim_check_members(s), members);
    }
}

/* At rest, all but one copy may go, and a minority of the metadata (I1). */
static void loss_test(struct sim *s)
{
    if (s->config.copies < 2 || s->options.lmdb_dir || !hf_sim_rng_chance(&s->rng, 50)) {
        return;
    }
    sim_trace(s, "loss test");
    sim_loss_test(s);
    pass(s, sim_now(s) + SIM_S, false);
    converge(s);
}

static uint64_t second_most_ops(const struct sim *s)
{
    uint64_t most = 0, second = 0;

    for (uint32_t i = 0; i < s->client_count; i++) {
        uint64_t ops = s->clients[i].ops;

        second = ops > most ? most : ops > second ? ops : second;
        most = ops > most ? ops : most;
    }
    return second;
}

void sim_run(struct sim *s, const struct sim_options *options)
{
    memset(s, 0, sizeof(*s));
    s->options = *options;
    s->options.check_every = options->check_every ? options->check_every : 500;
    s->options.faults_until = options->faults_until ? options->faults_until : SIM_FAULTS_NS;
    s->rng.state = options->seed;
    hf_log_set_level(options->trace ? HF_LOG_INFO : HF_LOG_ERROR);
    hf_log_set_sink(log_line, s);
    sim_world_new(s);
    sim_load_new(s);
    sim_atlas_new(s);
    hf_sim_on_step(s->world, sim_check_step, s);
    pass(s, s->options.faults_until, true);
    heal(s);
    pass(s, s->options.faults_until == SIM_FAULTS_NS ? SIM_LEAST_NS : sim_now(s) + SIM_S, false);
    if (s->options.beyond) {
        for (uint32_t i = 0; i < BEYOND_WAIT_S && !s->failed && sim_check_converged(s); i++) {
            pass(s, sim_now(s) + SIM_S, false);
        }
    } else {
        converge(s);
    }
    if (!s->failed && !s->options.beyond) {
        power_test(s);
        loss_test(s);
    }
    if (!s->failed) {
        uint64_t before = s->counts.bytes_checked;

        sim_load_end(s);
        s->counts.last_bytes = s->counts.bytes_checked - before;
    }
    if (!s->failed && !s->options.beyond) {
        converge(s); /* the last look may have let go of objects */
    }
    if (!s->failed && !s->options.beyond) {
        sim_check_end(s);
    }
    s->counts.virtual_ns = sim_now(s);
    s->counts.second_ops = second_most_ops(s);
}
