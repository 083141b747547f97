/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines and processes. What a supervisor and an operator do is done here: a process that ended
 * is started again a little later, a client whose session is lost is mounted anew.
 *
 * The memory of a killed process stays until the simulation ends: nothing calls it any more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "common/table/snapshot.h"
#include "common/table/table.h"
#include "common/table/table_model.h"
#include "server/node/node_impl.h"
#include "common/env/env_impl.h"
#include "tests/sim/cluster/actor.h"
#include "tests/sim/cluster/real_disk.h"

#define POOL_KEEP_BYTES   (16u << 20)
#define LOG_SEGMENT_BYTES (2u << 20) /* holds the largest entry */
#define RESTART_NS        (500 * SIM_MS)
#define SKEW_NS           (10 * SIM_S) /* of wall clocks, before any fault */

/* Tables */

void sim_rows_fail(struct sim_node *n, uint32_t one_in)
{
    n->unread_one_in = one_in;
    hf_table_model_fail_reads(n->meta, one_in);
}

static int open_index(void *ctx, struct hf_table_base **ret)
{
    return hf_table_base_model(((struct sim_node *)ctx)->index, ret);
}

static int open_meta(void *ctx, struct hf_table_base **ret)
{
    return hf_table_base_model(((struct sim_node *)ctx)->meta, ret);
}

static int install_meta(void *ctx, const char *path)
{
    struct sim_node *n = ctx;

    sim_rows_fail(n, 0); /* they are written anew, elsewhere on the disk */
    return hf_table_install_model(n->env, path, n->meta);
}

/* Nodes */

static void node_drop(struct sim_node *n)
{
    if (n->real_disk) {
        real_disk_drop(n->real_disk);
    }
}

static void node_start(struct sim_node *n)
{
    struct hf_node_options options = {.merge_delay_ns = n->s->merge_delay_ns,
                                      .log_segment_bytes = n->s->log_segment_bytes,
                                      .log_keep_bytes = n->s->log_keep_bytes};
    char *error = NULL;
    int err;

    if (!n->real_disk) {
        options.open_index = open_index;
        options.ctx = n;
        options.meta = (struct hf_replica_base){open_meta, install_meta, n};
    }
    hf_sim_power_on_env(n->env);
    err = hf_node_start(n->env, &n->s->config, n->id, &options, &n->node, &error);
    n->start_at_ns = UINT64_MAX;
    if (err) { /* the process says why and ends */
        sim_trace(n->s, "node %u does not start: %s: %s", n->id.v, hf_err_name(err),
                  error ? error : "");
        n->node = NULL;
        node_drop(n);
        hf_sim_kill_env(n->env);
        if (++n->failed_starts % 3 == 0) { /* somebody starts the machine anew */
            hf_sim_power_cut_env(n->env, HF_SIM_CUT_KEEP_ALL);
        }
        n->start_at_ns = sim_now(n->s) + 2 * RESTART_NS;
    } else {
        sim_trace(n->s, "node %u started", n->id.v);
        n->lives++;
    }
    free(error);
}

static void node_gone(struct sim_node *n)
{
    if (n->node) {
        hf_bufpool_trim(n->node->pool);
        hf_sim_abandon(n->node);
    }
    n->node = NULL;
    n->stopping = false;
    if (n->start_at_ns == UINT64_MAX) {
        n->start_at_ns = sim_now(n->s) + RESTART_NS + hf_sim_rng_below(&n->s->rng, 3 * SIM_S);
    }
}

void sim_node_kill(struct sim_node *n)
{
    node_drop(n);
    hf_sim_kill_env(n->env);
    node_gone(n);
}

/* What its clocks have counted when a machine is switched on says nothing about another's. */
static void switch_on(struct sim *s, struct hf_env *env)
{
    hf_sim_set_mono_ns(env, hf_sim_rng_between(&s->rng, 1, 1000000) * SIM_S +
                                hf_sim_rng_below(&s->rng, SIM_S));
}

void sim_node_power_cut(struct sim_node *n, enum hf_sim_cut mode)
{
    node_drop(n);
    hf_sim_power_cut_env(n->env, mode);
    switch_on(n->s, n->env);
    node_gone(n);
}

static int unlink_one(void *ctx, const char *name)
{
    struct hf_disk *disk = ((void **)ctx)[0];
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", (const char *)((void **)ctx)[1], name);
    (void)hf_disk_unlink(disk, path); /* fails on a directory: its own files go by themselves */
    return 0;
}

/* As a new disk has nothing of it, and fails no more: a dead one would keep what it has. */
static void lose(struct sim_node *n, const char *const *dirs, size_t count)
{
    struct hf_disk *disk = hf_env_disk(n->env);

    sim_node_power_cut(n, HF_SIM_CUT_KEEP_ALL);
    hf_sim_power_on_env(n->env);
    hf_sim_disk_clear_faults(hf_sim_disk(n->env));
    for (size_t i = 0; i < count; i++) {
        void *ctx[2] = {disk, (void *)(uintptr_t)dirs[i]};

        (void)hf_disk_list(disk, dirs[i], unlink_one, ctx);
        (void)hf_disk_sync_dir(disk, dirs[i]);
    }
}

void sim_node_lose_meta(struct sim_node *n)
{
    static const char *const dirs[] = {"/data/meta", "/data/meta/log", "/data/meta/vote"};

    lose(n, dirs, HF_ARRAY_LEN(dirs));
    sim_rows_fail(n, 0);
    n->meta = hf_table_model_new(); /* the old one is abandoned with the process */
    HF_ASSERT(n->meta != NULL);
}

void sim_node_lose_store(struct sim_node *n)
{
    static const char *const dirs[] = {"/data/store/segments"};

    lose(n, dirs, HF_ARRAY_LEN(dirs));
    n->rotten = false;
}

void sim_node_lose_index(struct sim_node *n)
{
    sim_node_kill(n);
    n->index = hf_table_model_new();
    HF_ASSERT(n->index != NULL);
}

static void stopped(void *ctx)
{
    struct sim_node *n = ctx;

    sim_trace(n->s, "node %u stopped", n->id.v);
    n->node = NULL; /* freed by itself */
    n->stopping = false;
    n->start_at_ns = sim_now(n->s) + RESTART_NS;
}

void sim_node_stop(struct sim_node *n)
{
    if (n->node && !n->stopping) {
        n->stopping = true;
        hf_node_stop(n->node, stopped, n);
    }
}

struct sim_node *sim_leader(struct sim *s)
{
    struct sim_node *best = NULL;
    uint64_t best_term = 0;

    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        struct hf_replica_status status;
        struct hf_raft_driver_status log;

        if (!n->node || !n->node->replica || !n->node->log) {
            continue;
        }
        hf_replica_status(n->node->replica, &status);
        hf_raft_driver_status(hf_meta_log_driver(n->node->log), &log);
        if (status.ready && log.term > best_term) {
            best_term = log.term;
            best = n;
        }
    }
    return best;
}

bool sim_session_known(struct sim *s, struct hf_session_id id)
{
    struct sim_node *n = sim_leader(s);

    return !n || hf_meta_session_live(hf_replica_meta(n->node->replica), id);
}

/* Clients */

static void map_changed(void *ctx)
{
    struct sim_client *c = ctx;

    if (c->io) {
        hf_io_map_changed(c->io);
    }
}

static void session_lost(void *ctx, int why)
{
    struct sim_client *c = ctx;

    sim_trace(c->s, "client %u: session lost: %s", c->number, hf_err_name(why));
    if (c->fs) {
        hf_fs_session_lost(c->fs, why);
    }
    c->state = CLIENT_LOST;
    c->s->counts.evictions++;
}

static uint32_t open_inodes(void *ctx, bool more, uint64_t *ret, uint32_t max)
{
    struct sim_client *c = ctx;

    return c->fs ? hf_fs_open_inodes(c->fs, more, ret, max) : 0;
}

static void session_open(void *ctx, int err)
{
    struct sim_client *c = ctx;
    struct hf_io_options io = {.session = c->session,
                               .pool = c->pool,
                               .cluster = c->s->config.cluster,
                               .name = "sim",
                               .cache_bytes = 8u << 20};
    struct hf_fs_options fs = {.pool = c->pool,
                               .session = c->session,
                               .dirty_max_bytes = c->s->config.client.dirty_max_bytes,
                               .dirty_max_age_ns = c->s->config.client.dirty_max_age_ns,
                               .flush_streams = c->s->config.client.flush_streams,
                               .readahead_bytes = c->s->config.client.readahead_bytes};

    if (err) {
        sim_trace(c->s, "client %u does not mount: %s", c->number, hf_err_name(err));
        c->state = CLIENT_LOST;
        return;
    }
    HF_ASSERT(hf_io_new(c->env, &io, &c->io) == 0);
    fs.io = c->io;
    HF_ASSERT(hf_fs_new(c->env, &fs, &c->fs) == 0);
    c->state = CLIENT_SERVING;
    sim_trace(c->s, "client %u mounted, session %llu", c->number,
              (unsigned long long)hf_session_id(c->session).v);
    sim_load_client(c);
}

static void client_start(struct sim_client *c)
{
    const struct hf_config_node *nodes[HF_NODES_MAX];
    const char *addrs[HF_NODES_MAX];
    struct hf_session_options o = {
        .addrs = addrs,
        .addr_count = hf_config_meta_nodes(&c->s->config, nodes),
        .cluster = c->s->config.cluster,
        .name = "sim",
        .op_timeout_ns = c->s->config.client.op_timeout_ns,
        .open_timeout_ns = c->s->config.client.open_timeout_ns,
        .claims_max = c->number % 2 ? 2 : 0, /* one file a message, or all */
        .events = {map_changed, session_lost, open_inodes, c},
    };

    for (uint32_t i = 0; i < o.addr_count; i++) {
        addrs[i] = nodes[i]->address;
    }
    HF_ASSERT(hf_bufpool_new(POOL_KEEP_BYTES, 0, &c->pool) == 0);
    o.pool = c->pool;
    HF_ASSERT(hf_session_new(c->env, &o, &c->session) == 0);
    c->state = CLIENT_MOUNTING;
    c->leaving = c->flush_again = c->kill_at_sync = c->die = false;
    c->start_at_ns = UINT64_MAX;
    c->lives++;
    hf_session_open(c->session, session_open, c);
}

static void actors_free(struct sim_client *c)
{
    while (c->actors) {
        struct actor *a = c->actors;

        c->actors = a->next;
        actor_free(a);
    }
}

static void client_gone(struct sim_client *c)
{
    c->fs = NULL;
    c->io = NULL;
    c->session = NULL;
    c->pool = NULL;
    c->state = CLIENT_DOWN;
    c->start_at_ns = sim_now(c->s) + RESTART_NS;
}

void sim_client_kill(struct sim_client *c)
{
    if (c->state == CLIENT_DOWN) {
        return;
    }
    if (c->fs) {
        c->last = hf_session_id(c->session);
    }
    hf_sim_kill_env(c->env);
    actors_free(c);
    hf_sim_abandon(c->fs);
    hf_sim_abandon(c->io);
    hf_sim_abandon(c->session);
    hf_bufpool_trim(c->pool);
    hf_sim_abandon(c->pool);
    client_gone(c);
    c->s->counts.crashes++;
}

/* Unmounting, as client/fuse/mount.c does it */

static void closed(void *ctx, int err)
{
    struct sim_client *c = ctx;

    sim_trace(c->s, "client %u: session closed: %s", c->number, hf_err_name(err));
    c->last = hf_session_id(c->session);
    c->state = CLIENT_CLOSED;
}

static void flushed(struct hf_fs_req *req, int err)
{
    struct sim_client *c = req->ctx;
    struct hf_fs_stats stats;

    hf_fs_stats(c->fs, &stats);
    if (stats.dirty_bytes + stats.flush_bytes > 0 && hf_session_live(c->session)) {
        c->flush_again = true;
        return;
    }
    sim_trace(c->s, "client %u: flushed: %s", c->number, hf_err_name(err));
    c->state = CLIENT_CLOSING;
    hf_session_close(c->session, closed, c);
}

static void flush(struct sim_client *c)
{
    int err;

    c->flush_again = false;
    memset(&c->sync, 0, sizeof(c->sync));
    c->sync.done = flushed;
    c->sync.ctx = c;
    err = hf_fs_sync(c->fs, (struct hf_ino){0}, true, &c->sync);
    if (err != HF_FS_PENDING) {
        flushed(&c->sync, err);
    }
}

static bool programs_are_over(const struct sim_client *c)
{
    for (const struct actor *a = c->actors; a; a = a->next) {
        if (!fiber_is_over(a->fiber)) {
            return false;
        }
    }
    return true;
}

static void leave(struct sim_client *c)
{
    if (c->state == CLIENT_SERVING && programs_are_over(c)) {
        sim_trace(c->s, "client %u unmounts", c->number);
        c->state = CLIENT_FLUSHING;
        hf_fs_release_all(c->fs);
        flush(c);
    } else if (c->state == CLIENT_FLUSHING && c->flush_again) {
        flush(c);
    } else if (c->state == CLIENT_CLOSED) {
        hf_fs_shutdown(c->fs);
        hf_io_free(c->io);
        hf_session_free(c->session);
        hf_fs_free(c->fs);
        actors_free(c);
        hf_bufpool_free(c->pool);
        client_gone(c);
    }
}

void sim_synced(struct sim_client *c)
{
    c->s->counts.fsyncs++;
    c->die = c->die || c->kill_at_sync;
    c->s->power_now = c->s->power_now || c->s->power_at_sync;
    for (uint32_t i = 0; i < c->s->node_count; i++) {
        struct sim_node *n = &c->s->nodes[i];

        n->lose_now = n->lose_now || n->lose_at_sync;
    }
}

/* The world */

void sim_world_tick(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];

        if (!n->node && n->start_at_ns <= sim_now(s)) {
            node_start(n);
        }
    }
    for (uint32_t i = 0; i < s->client_count; i++) {
        struct sim_client *c = &s->clients[i];

        if (c->state == CLIENT_LOST) {
            sim_client_kill(c);
        } else if (c->leaving) {
            leave(c);
        }
        if (c->state == CLIENT_DOWN && c->start_at_ns <= sim_now(s)) {
            client_start(c);
        }
    }
}

static void config_new(struct sim *s)
{
    struct hf_config *c = &s->config;
    uint32_t metadata = s->node_count == 5 && hf_sim_rng_chance(&s->rng, 50) ? 5
                        : s->node_count >= 3                                 ? 3
                                                                             : 1;

    (void)snprintf(c->path, sizeof(c->path), "/etc/holdfast/cluster.conf");
    for (size_t i = 0; i < sizeof(c->cluster.b); i++) {
        c->cluster.b[i] = (uint8_t)(i + 1);
    }
    c->copies = s->node_count < 3 ? s->node_count : 3;
    c->min_copies = s->node_count < 3 || hf_sim_rng_chance(&s->rng, 15) ? 1 : 2;
    c->groups = 8;
    c->node_timeout_ns = hf_sim_rng_between(&s->rng, 1, 4) * SIM_S;
    c->session_ttl_ns = hf_sim_rng_between(&s->rng, 5, 12) * SIM_S;
    c->log_level = HF_LOG_INFO;
    c->node_count = s->node_count;
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct hf_config_node *n = &c->nodes[i];

        n->id.v = (uint16_t)(i + 1);
        (void)snprintf(n->address, sizeof(n->address), "%s:7400", hf_sim_host(s->nodes[i].env));
        if (s->options.lmdb_dir) {
            (void)snprintf(n->data, sizeof(n->data), "%s/node%u", s->options.lmdb_dir, i + 1);
        } else {
            (void)snprintf(n->data, sizeof(n->data), "/data");
        }
        (void)snprintf(n->domain, sizeof(n->domain), "node-%u", i + 1);
        n->metadata = i < metadata;
        n->weight = 100;
        n->segment_bytes = (hf_sim_rng_chance(&s->rng, 70) ? 5u : 16u) << 20;
        n->reserve_bytes = hf_sim_rng_chance(&s->rng, 50) ? 64u << 20 : 4u << 20;
    }
    if (hf_sim_rng_chance(&s->rng, 75)) { /* so that they are trimmed, and replicas fall behind */
        s->log_segment_bytes = LOG_SEGMENT_BYTES;
        s->merge_delay_ns = hf_sim_rng_between(&s->rng, 1, 5) * SIM_S;
        s->log_keep_bytes = hf_sim_rng_between(&s->rng, 1, 64) << 12;
    }
    c->client.dirty_max_bytes = hf_sim_rng_between(&s->rng, 4, 16) << 20;
    c->client.readahead_bytes = 1u << 20;
    c->client.dirty_max_age_ns = hf_sim_rng_between(&s->rng, 2, 50) * 100 * SIM_MS;
    c->client.op_timeout_ns = hf_sim_rng_between(&s->rng, 20, 60) * SIM_S;
    c->client.open_timeout_ns = 10 * SIM_S;
    c->client.flush_streams = (uint32_t)hf_sim_rng_between(&s->rng, 1, 4);
}

static void clocks_new(struct sim *s, struct hf_env *env)
{
    switch_on(s, env);
    hf_sim_set_wall_ns(env, hf_env_wall_ns(env) + hf_sim_rng_below(&s->rng, SKEW_NS));
}

void sim_world_new(struct sim *s)
{
    uint64_t draw = hf_sim_rng_below(&s->rng, 100);

    s->world = hf_sim_new(hf_sim_rng_next(&s->rng));
    s->node_count = draw < 5 ? 1 : draw < 10 ? 2 : draw < 75 ? 3 : draw < 85 ? 4 : 5;
    s->client_count = (uint32_t)hf_sim_rng_between(&s->rng, 2, SIM_CLIENTS_MAX);
    s->node_count = s->options.nodes ? s->options.nodes : s->node_count;
    s->client_count = s->options.clients ? s->options.clients : s->client_count;
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        char host[32];

        (void)snprintf(host, sizeof(host), "10.0.0.%u", i + 1);
        n->s = s;
        n->id.v = (uint16_t)(i + 1);
        n->env = i == 0 ? hf_sim_env(s->world) : hf_sim_add_env(s->world, host);
        n->index = hf_table_model_new();
        n->meta = hf_table_model_new();
        HF_ASSERT(n->index && n->meta);
        clocks_new(s, n->env);
        if (s->options.lmdb_dir) {
            n->real_disk = n->env->disk = real_disk_new();
        }
        n->start_at_ns = hf_sim_rng_below(&s->rng, SIM_S);
    }
    for (uint32_t i = 0; i < s->client_count; i++) {
        struct sim_client *c = &s->clients[i];
        char host[32];

        (void)snprintf(host, sizeof(host), "10.0.1.%u", i + 1);
        c->s = s;
        c->number = i;
        c->env = hf_sim_add_env(s->world, host);
        clocks_new(s, c->env);
        c->start_at_ns = hf_sim_rng_below(&s->rng, 2 * SIM_S);
    }
    config_new(s);
}
