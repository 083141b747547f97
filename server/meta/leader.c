/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader.c - the life of a leader: from the moment this node leads to the moment it does not; what
 * makes a cluster of nothing, or adds nodes to one.
 */
#include "server/meta/leader_impl.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define CLOSE_POLL_NS (2 * HF_NS_PER_MS)
#define SEED_BYTES    8u

static void set_state(struct hf_leader *leader, enum hf_leader_state state)
{
    static const bool may[HF_LEADER_STATE_COUNT][HF_LEADER_STATE_COUNT] = {
        [HF_LEADER_OPENED] =
            {[HF_LEADER_STARTING] = true, [HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_STARTING] =
            {[HF_LEADER_READY] = true, [HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_READY] = {[HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_FAILED] = {[HF_LEADER_CLOSING] = true},
    };

    HF_ASSERT(may[leader->state][state]);
    leader->state = state;
}

int hf_leader_unready_error(const struct hf_leader *leader)
{
    return leader->state == HF_LEADER_FAILED    ? -EIO
           : leader->state == HF_LEADER_CLOSING ? -HF_ENOTLEADER
                                                : -HF_ENOTREADY;
}

static void stop_parts(struct hf_leader *leader)
{
    hf_sessions_stop(leader);
    hf_nodes_stop(leader);
    hf_copier_stop(leader);
    hf_reaper_stop(leader);
    hf_purger_stop(leader);
}

static void refuse_waiting(struct hf_leader *leader, int err)
{
    for (struct hf_lsession *s = leader->sessions.head; s; s = s->next) {
        struct hf_lop_list queue = {s->queue_head, s->queue_tail};

        s->queue_head = s->queue_tail = NULL;
        hf_leader_refuse_list(leader, &queue, err);
    }
    leader->queued_ops = 0;
    hf_waiters_fail(leader, err);
}

void hf_leader_failed(struct hf_leader *leader)
{
    if (leader->state != HF_LEADER_CLOSING && leader->state != HF_LEADER_FAILED) {
        set_state(leader, HF_LEADER_FAILED);
        stop_parts(leader);
        refuse_waiting(leader, -EIO);
    }
}

bool hf_leader_broke(struct hf_leader *leader)
{
    const int err = hf_meta_failed(leader->meta);

    if (err) {
        hf_replica_fail(leader->replica, err, "the table cannot be read");
    }
    return err != 0;
}

/* Making and ending one */

static void leader_free(struct hf_leader *leader)
{
    hf_sessions_fini(leader);
    hf_waiters_fini(leader);
    hf_opens_fini(&leader->opens);
    hf_recent_fini(&leader->recent);
    hf_reaper_fini(leader);
    hf_nodes_fini(leader);
    hf_copier_fini(leader);
    hf_purger_fini(leader);
    hf_leader_reads_fini(leader);
    hf_leader_ops_fini(leader);
    hf_timer_fini(&leader->close_timer);
    free(leader);
}

static int init_parts(struct hf_leader *leader)
{
    int err = hf_leader_ops_init(leader), purger_err = hf_purger_init(leader);

    hf_nodes_init(leader);
    hf_copier_init(leader);
    hf_leader_reads_init(leader);
    err = err ? err : purger_err; /* all have their timers before one fails */
    err = err ? err : hf_opens_init(&leader->opens);
    err = err ? err : hf_recent_init(&leader->recent);
    err = err ? err : hf_waiters_init(leader);
    err = err ? err : hf_reaper_init(leader);
    return err ? err : hf_sessions_init(leader);
}

static void close_step(void *ctx);

struct hf_leader *hf_leader_new(struct hf_replica *replica)
{
    struct hf_leader *leader = calloc(1, sizeof(*leader));

    if (!leader) {
        return NULL;
    }
    leader->env = replica->env;
    leader->replica = replica;
    leader->meta = replica->meta;
    leader->log = &replica->log;
    leader->stores = replica->stores;
    leader->session_ttl_ns = replica->session_ttl_ns;
    leader->node_timeout_ns = replica->node_timeout_ns;
    leader->reserve_bytes = replica->reserve_bytes;
    hf_timer_init(&leader->close_timer, leader->env, close_step, leader);
    if (init_parts(leader) != 0) {
        leader_free(leader);
        return NULL;
    }
    return leader;
}

static bool busy(const struct hf_leader *leader)
{
    return leader->store_calls > 0 || leader->queue_bytes > 0 || leader->refuse_task.queued ||
           leader->reads.head || leader->asking || leader->read_task.queued ||
           leader->map_task.queued;
}

static void close_step(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_replica *replica = leader->replica;

    if (busy(leader)) {
        hf_timer_arm(&leader->close_timer, CLOSE_POLL_NS);
        return;
    }
    hf_replica_leader_gone(replica, leader);
    leader_free(leader);
}

void hf_leader_close(struct hf_leader *leader, int err)
{
    hf_assert_loop(leader->env);
    stop_parts(leader);
    set_state(leader, HF_LEADER_CLOSING);
    refuse_waiting(leader, err);
    hf_leader_reads_fail(leader, err);
    hf_timer_arm(&leader->close_timer, CLOSE_POLL_NS);
}

/* Starting: the entries that make a cluster of nothing, or add nodes to one */

static void ready(struct hf_leader *leader)
{
    set_state(leader, HF_LEADER_READY);
    leader->started_ns = hf_env_mono_ns(leader->env);
    hf_env_random(leader->env, &leader->claim_cookie, sizeof(leader->claim_cookie));
    leader->claim_cookie |= 1; /* 0 asks for nothing */
    hf_sessions_start(leader);
    hf_nodes_start(leader);
    hf_copier_start(leader);
    hf_reaper_start(leader);
    hf_purger_start(leader);
    hf_env_post(leader->env, &leader->map_task);
    hf_log(HF_LOG_INFO, "meta", "serving", "applied=%llu sessions=%u nodes=%u groups=%u",
           (unsigned long long)hf_meta_applied(leader->meta), leader->sessions.count,
           hf_meta_map(leader->meta)->node_count, hf_meta_map(leader->meta)->group_count);
}

static void propose_groups(struct hf_leader *leader);

static void start_step_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct hf_leader *leader = ctx;

    if (reply->err == -HF_ENOTLEADER) {
        return; /* deposed: about to be closed; the next leader does what is left of this */
    }
    if (reply->err && leader->state == HF_LEADER_STARTING) {
        hf_log(HF_LOG_ERROR, "meta", "start failed",
               "err=%s what=\"check copies, min_copies, "
               "groups and the nodes in the configuration\"",
               hf_err_name(reply->err));
        if (hf_meta_map(leader->meta)->group_count == 0) {
            hf_replica_fail(leader->replica, reply->err, "the cluster could not be formatted");
        }
    }
    if (leader->replica->failed) {
        return; /* about to be told */
    }
    if (--leader->starting_left == 0 && leader->state == HF_LEADER_STARTING) {
        propose_groups(leader);
        if (leader->starting_left == 0) {
            ready(leader);
        }
    }
}

static void start_step(struct hf_leader *leader, const struct hf_meta_op *op)
{
    leader->starting_left++;
    hf_leader_propose(leader, op, start_step_done, leader);
}

/* Members for groups that have none. */
static void propose_groups(struct hf_leader *leader)
{
    const struct hf_map *map = hf_meta_map(leader->meta);

    for (uint32_t group = 0; group < map->group_count; group++) {
        struct hf_node_id members[HF_REPLICAS_MAX];
        uint64_t packed = 0;
        struct hf_meta_op op = {
            .op = HF_OP_GROUP_SET, .count = group, .holders = &packed, .holder_count = 1};
        uint32_t count;

        if (map->groups[group].acting[0].v) {
            continue;
        }
        count = hf_map_propose(map, (uint16_t)group, members);
        for (uint32_t i = 0; i < count; i++) {
            packed |= (uint64_t)members[i].v << (8 * i);
        }
        if (count > 0) {
            start_step(leader, &op);
        }
    }
}

static void propose_format(struct hf_leader *leader)
{
    uint8_t seed[SEED_BYTES];
    uint64_t seed_number;
    const struct hf_replica *replica = leader->replica;
    struct hf_meta_op op = {.op = HF_OP_FORMAT,
                            .uuid = replica->cluster,
                            .count = replica->copies,
                            .size = replica->min_copies,
                            .mode = replica->groups};

    hf_env_random(leader->env, seed, sizeof(seed));
    memcpy(&seed_number, seed, sizeof(seed_number));
    op.offset = seed_number;
    start_step(leader, &op);
}

void hf_leader_start(struct hf_leader *leader)
{
    const struct hf_replica *replica = leader->replica;
    const struct hf_map *map = hf_meta_map(leader->meta);

    set_state(leader, HF_LEADER_STARTING);
    leader->starting_left = 1; /* this one */
    if (map->group_count == 0) {
        propose_format(leader);
    }
    for (uint32_t i = 0; i < replica->node_count; i++) {
        const struct hf_leader_node *node = &replica->nodes[i];
        struct hf_meta_op op = {.op = HF_OP_NODE_ADD,
                                .node = node->id,
                                .text = node->addr,
                                .name = node->domain,
                                .name_len = strlen(node->domain),
                                .count = node->weight};

        if (!hf_map_node(map, node->id)) {
            start_step(leader, &op);
        }
    }
    start_step_done(leader, &(struct hf_meta_reply){0});
}
