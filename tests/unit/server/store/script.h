/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script.h - a scripted life of a store, to be cut or failed at any of its disk calls.
 */
#ifndef HF_TESTS_STORE_SCRIPT_H
#define HF_TESTS_STORE_SCRIPT_H

#include "common/log/log.h"
#include "tests/unit/server/store/world.h"

/* What a killed process had in flight is known to nobody any more. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

#define STEPS   40u
#define OPS_MAX 256u

struct script {
    struct world *w;
    struct op *ops[OPS_MAX];
    uint32_t op_count;
    uint32_t next_id;
    uint64_t rng;
};

/* HF_SWEEP_SEEDS=20 for a long night. */
static inline uint64_t seeds(void)
{
    const char *text = getenv("HF_SWEEP_SEEDS");

    return text ? strtoull(text, NULL, 10) : 2;
}

/* A long night is many short ones: what killed processes leave is never freed. */
static inline uint64_t first_seed(void)
{
    const char *text = getenv("HF_SWEEP_FIRST");

    return text ? strtoull(text, NULL, 10) : 1;
}

/** Without seeds given, the lesser sweeps try every third call. */
static inline uint64_t stride(void)
{
    return getenv("HF_SWEEP_SEEDS") ? 1 : 3;
}

/* How far a sweep got. */
struct sweep {
    uint64_t runs;
    uint64_t calls;
    uint64_t acked;
    uint64_t compacted;
};

static inline uint32_t below(struct script *s, uint32_t end)
{
    s->rng = s->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(s->rng >> 33) % end;
}

static inline struct op *next_op(struct script *s)
{
    struct op *op = calloc(1, sizeof(*op));

    assert_true(s->op_count < OPS_MAX);
    s->ops[s->op_count++] = op;
    return op;
}

static inline void script_end(struct script *s)
{
    for (uint32_t i = 0; i < s->op_count; i++) {
        free(s->ops[i]);
    }
    s->op_count = 0;
}

static inline bool off(const struct script *s)
{
    return hf_sim_disk_is_off(s->w->disk);
}

/* A fault may strike while opening; it strikes once. */
static inline bool open_again(struct script *s)
{
    for (int i = 0; i < 3; i++) {
        char *error = NULL;
        int err = world_try_open(s->w, NULL, &error);

        if (err == 0) {
            assert_null(error);
            return true;
        }
        s->w->store = NULL;
        assert_non_null(error);
        free(error);
        if (off(s)) {
            return false;
        }
        /* A directory whose sync failed is in an unknown state until the machine starts again. */
        hf_sim_disk_power_cut(s->w->disk, HF_SIM_CUT_RANDOM);
        world_crash(s->w);
    }
    fail_msg("the store does not open any more");
    return false;
}

static inline void put_some(struct script *s)
{
    uint32_t n = 1 + below(s, 5);

    for (uint32_t i = 0; i < n && s->next_id < 200; i++) {
        put_start(s->w, next_op(s), s->next_id++);
    }
}

static inline void delete_some(struct script *s)
{
    uint32_t ids[8];
    uint32_t n = 1 + below(s, 8);
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = below(s, s->next_id + 1);
        bool twice = false;

        while (id < s->next_id && s->w->fate[id] != PRESENT) {
            id++; /* mostly what is there, sometimes what is not */
        }

        for (uint32_t k = 0; k < count; k++) {
            twice = twice || ids[k] == id;
        }
        if (!twice && s->w->fate[id] != ABSENT) {
            ids[count++] = id;
        }
    }
    if (count > 0) {
        del_start(s->w, next_op(s), ids, count);
    }
}

/* False: the power went. */
static inline bool play(struct script *s)
{
    if (!open_again(s)) {
        return false;
    }
    for (uint32_t step = 0; step < STEPS && !off(s); step++) {
        uint32_t dice = below(s, 10);

        if (dice < 4) {
            put_some(s);
        } else if (dice < 8) {
            delete_some(s);
        } else if (dice == 8) {
            hf_store_compact_now(s->w->store);
        } else {
            world_run_ns(s->w, 3 * HF_NS_PER_SEC);
        }
        if (below(s, 3) > 0 && !off(s)) {
            world_run(s->w);
        }
        if (step == STEPS / 2 && !off(s)) {
            world_run(s->w);
            if (!off(s)) {
                world_close(s->w);
                if (off(s) || !open_again(s)) {
                    return false;
                }
            }
        }
    }
    if (!off(s)) {
        hf_store_compact_now(s->w->store);
        world_run_ns(s->w, 8 * HF_NS_PER_SEC);
    }
    return !off(s);
}

/* After a crash: from the index as it is, then from none; then life goes on. */
static inline void examine(struct script *s)
{
    struct world *w = s->w;
    struct hf_table_model *fresh = hf_table_model_new();

    assert_non_null(fresh);
    world_open(w);
    world_verify(w);
    world_close(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    world_verify(w);
    world_close(w);
    hf_table_model_free(fresh);
    world_open(w);
    for (int i = 0; i < 4; i++) {
        put_some(s);
        delete_some(s);
        world_run(w);
    }
    hf_store_compact_now(w->store);
    world_run_ns(w, 20 * HF_NS_PER_SEC);
    world_verify(w);
    world_close(w);
    world_open(w);
    world_verify(w);
}

static inline struct world *small_world(uint64_t seed)
{
    struct world *w = world_new(seed);

    w->segment_bytes = 128 << 10;
    w->live_percent = 90;
    return w;
}

/* Errors: the process lives on. */
static inline bool fail_at(uint64_t seed, uint64_t n, enum hf_sim_fault kind, struct sweep *sweep)
{
    struct world *w = small_world(seed * 104729 + n);
    struct script s = {.w = w, .rng = seed};
    bool struck;

    w->quarantine_ok = kind == HF_SIM_FAULT_READ_EIO;
    hf_sim_disk_fail_at(w->disk, n, kind);
    assert_true(play(&s));
    struck = hf_sim_disk_struck(w->disk) > 0;
    hf_sim_disk_clear_faults(w->disk);
    sweep->runs++;
    sweep->acked += w->acked_puts + w->acked_deletes;
    world_verify_maybe(w, false);
    /* What a failed sync lost is seen to be lost by whoever comes next. */
    hf_sim_disk_drop_caches(w->disk);
    if (n % 2 == 0 && kind != HF_SIM_FAULT_SYNC_EIO) { /* or its directories never sync again */
        world_close(w);
    } else {
        hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_RANDOM);
        world_crash(w);
    }
    examine(&s);
    world_free(w);
    script_end(&s);
    return struck;
}

static inline void sweep_failures(enum hf_sim_fault kind, uint64_t every, const char *name)
{
    struct sweep sweep = {0};

    for (uint64_t seed = first_seed(); seed < first_seed() + seeds(); seed++) {
        for (uint64_t n = 0; fail_at(seed, n, kind, &sweep); n += every) {
        }
    }
    print_message("%s: %llu runs, %llu acknowledged operations checked\n", name,
                  (unsigned long long)sweep.runs, (unsigned long long)sweep.acked);
}

static inline void no_log(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

#endif
