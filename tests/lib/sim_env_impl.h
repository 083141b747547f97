/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_env_impl.h - the simulated world's inside, shared by sim_env.c and sim_net.c.
 */
#ifndef HF_TESTS_LIB_SIM_ENV_IMPL_H
#define HF_TESTS_LIB_SIM_ENV_IMPL_H

#include "common/env/env_impl.h"
#include "tests/lib/sim_env.h"

#define HF_SIM_HOST_BYTES 64
#define HF_SIM_CUTS_MAX   512u

struct hf_sim_env;
struct hf_sim_stream;
struct hf_sim_listener;

/* Embedded in what it happens to; in the queue at most once. */
struct hf_sim_event {
    uint64_t at_ns;
    uint64_t chance; /* order among equal times */
    uint64_t seq;
    size_t index; /* in the heap, while queued */
    bool queued;
    struct hf_sim_env *env; /* whose code it runs */
    void (*fn)(struct hf_sim_event *event);
};

struct hf_sim_pool {
    struct hf_job *head;
    struct hf_job **tail;
    unsigned threads;
    unsigned busy;
};

struct hf_sim_env {
    struct hf_env env;
    struct hf_sim *sim;
    struct hf_sim_env *next;
    char host[HF_SIM_HOST_BYTES];
    uint32_t number;
    struct hf_sim_rng rng; /* hf_env_random() */
    struct hf_sim_disk *disk;
    uint64_t wall_offset_ns; /* wraps */
    uint64_t clock_from_ns;  /* virtual time since when the monotonic clock has run ... */
    uint64_t clock_base_ns;  /* ... from this value ... */
    int32_t drift_ppm;       /* ... with this drift */
    uint64_t slept_ns;       /* by which the boot clock is ahead */
    uint64_t paused_until_ns;
    uint64_t held; /* events of the pause, which keep their order */
    bool off;      /* no power */
    uint64_t job_delay_ns;
    bool in_run; /* inside a job's run() */

    struct hf_sim_timer *timers;
    struct hf_task *task_head;
    struct hf_task **task_tail;
    struct hf_sim_event task_event;
    struct hf_sim_pool pools[HF_POOL_COUNT];
    struct hf_sim_work *works; /* jobs on a thread */
};

struct hf_sim_cut_rule {
    char from[HF_SIM_HOST_BYTES];
    char to[HF_SIM_HOST_BYTES];
};

struct hf_sim {
    struct hf_sim_rng rng;
    uint64_t now_ns;
    uint64_t digest;
    struct hf_sim_event **heap;
    size_t count;
    size_t cap;
    uint64_t next_seq;
    struct hf_sim_env *envs;
    uint32_t env_count;
    struct hf_env *stepped;
    void (*on_step)(void *ctx);
    void *on_step_ctx;

    uint64_t net_min_ns;
    uint64_t net_max_ns;
    unsigned stall_percent;
    uint64_t stall_max_ns;
    unsigned flips_per_100k;
    uint64_t flips; /* made */
    uint16_t next_port;
    struct hf_sim_cut_rule cuts[HF_SIM_CUTS_MAX];
    unsigned cut_count;
    struct hf_sim_stream *streams;     /* open */
    struct hf_sim_stream *closed;      /* freed before the next step */
    struct hf_sim_stream *dead;        /* of killed processes; freed with the sim */
    struct hf_sim_listener *listeners; /* open */
    struct hf_sim_listener *dead_listeners;
};

static inline struct hf_sim_env *hf_sim_env_of(struct hf_env *env)
{
    return (struct hf_sim_env *)env;
}

/* sim_env.c */
void hf_sim_schedule(struct hf_sim_env *env, struct hf_sim_event *event, uint64_t delay_ns,
                     void (*fn)(struct hf_sim_event *event));
void hf_sim_cancel(struct hf_sim *sim, struct hf_sim_event *event);
/* Into the digest. */
void hf_sim_mix(struct hf_sim *sim, uint64_t v);

/* sim_net.c */
int hf_sim_net_listen(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                      struct hf_listener **ret);
int hf_sim_net_connect(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                       void *ctx, struct hf_stream **ret);
/* @silent: peers are not told. */
void hf_sim_net_kill_env(struct hf_sim_env *env, bool silent);
void hf_sim_net_bury(struct hf_sim *sim);
void hf_sim_net_fini(struct hf_sim *sim);

#endif
