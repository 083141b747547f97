/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/copier.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define CLEAR_DELAY_NS  (50 * HF_NS_PER_MS)
#define BACKOFF_MIN_NS  HF_NS_PER_SEC
#define BACKOFF_MAX_NS  (30 * HF_NS_PER_SEC)
#define POLL_NS         HF_NS_PER_SEC
#define RATE_WINDOW_NS  HF_NS_PER_SEC
#define RATE_IDLE_NS    (5 * HF_NS_PER_SEC)
#define LACKING_PAGE    256u
#define LACKING_COUNTED 8192u

struct hf_copy {
    struct hf_copy *prev, *next;
    struct hf_leader *leader;
    struct hf_lnode *node;
    struct hf_meta_object object;
    bool voided;
};

struct clear {
    struct hf_leader *leader;
    struct hf_lnode *node;
};

static void look(void *ctx);

/* Clearing */

static void clear_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct clear *clear = ctx;

    (void)reply; /* a failure leaves the rows: the next pass copies again */
    clear->node->clears_in_flight--;
    hf_copier_kick(clear->leader);
    free(clear);
}

static void flush_clears(struct hf_leader *leader, struct hf_lnode *node)
{
    struct hf_meta_op op = {.op = HF_OP_DEGRADED_CLEAR,
                            .node = node->id,
                            .oids = node->clears,
                            .oid_count = node->clear_count};
    struct clear *clear;

    if (node->clear_count == 0) {
        return;
    }
    clear = malloc(sizeof(*clear));
    if (!clear) {
        hf_timer_arm(&leader->copier.clear_timer, CLEAR_DELAY_NS);
        return;
    }
    *clear = (struct clear){leader, node};
    node->clears_in_flight++;
    hf_leader_propose(leader, &op, clear_done, clear);
    node->clear_count = 0;
}

static void clear_timer(void *ctx)
{
    struct hf_leader *leader = ctx;

    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        flush_clears(leader, &leader->nodes.nodes[i]);
    }
}

static void add_clear(struct hf_leader *leader, struct hf_lnode *node, const struct hf_oid *oid)
{
    if (node->clear_count == HF_NODES_CLEARS_MAX) {
        flush_clears(leader, node);
    }
    if (node->clear_count < HF_NODES_CLEARS_MAX) { /* else: copied again */
        node->clears[node->clear_count++] = *oid;
    }
    if (!leader->copier.clear_timer.armed) {
        hf_timer_arm(&leader->copier.clear_timer, CLEAR_DELAY_NS);
    }
}

void hf_copier_void(struct hf_leader *leader, struct hf_lnode *node, const struct hf_oid *oid)
{
    if (HF_BUG(bad_after_copy)) {
        return;
    }
    for (struct hf_copy *copy = leader->copier.head; copy; copy = copy->next) {
        if (copy->node == node && hf_oid_equal(&copy->object.oid, oid)) {
            copy->voided = true;
        }
    }
    for (uint32_t i = 0; i < node->clear_count; i++) {
        if (hf_oid_equal(&node->clears[i], oid)) {
            node->clears[i--] = node->clears[--node->clear_count];
        }
    }
}

void hf_copier_void_node(struct hf_leader *leader, struct hf_lnode *node)
{
    for (struct hf_copy *copy = leader->copier.head; copy; copy = copy->next) {
        copy->voided = copy->voided || copy->node == node;
    }
    node->clear_count = 0;
}

/* Copying */

static uint64_t sources(struct hf_leader *leader, const struct hf_lnode *node,
                        const struct hf_oid *oid)
{
    const struct hf_map *map = hf_meta_map(leader->meta);
    uint64_t members = hf_map_group_members(map, oid->group) & ~hf_node_bit(node->id);
    uint64_t up = 0, second = 0;

    for (uint32_t i = 0; i < map->node_count; i++) {
        struct hf_node_id id = map->nodes[i].id;

        if (!(members & hf_node_bit(id)) || hf_meta_is_degraded(leader->meta, id, oid)) {
            continue;
        }
        if (map->nodes[i].state == HF_NODE_UP) {
            up |= hf_node_bit(id);
        } else if (hf_node_serves(map->nodes[i].state)) {
            second |= hf_node_bit(id); /* not matched, or its disk fails; the copy is verified */
        }
    }
    return up ? up : second;
}

static void count_copied(struct hf_leader *leader, uint32_t len_bytes)
{
    struct hf_copier *copier = &leader->copier;
    uint64_t now_ns = hf_env_mono_ns(leader->env), span_ns = now_ns - copier->window_ns;

    leader->copied_objects++;
    leader->copied_bytes += len_bytes;
    copier->window_bytes += len_bytes;
    if (span_ns >= RATE_WINDOW_NS) {
        uint64_t rate = copier->window_bytes * 1000 / (span_ns / HF_NS_PER_MS);

        copier->rate_bytes =
            copier->rate_bytes && span_ns < RATE_IDLE_NS ? (copier->rate_bytes + rate) / 2 : rate;
        copier->window_ns = now_ns;
        copier->window_bytes = 0;
    }
}

static void copy_failed(struct hf_leader *leader, struct hf_lnode *node, const struct hf_oid *oid,
                        int err)
{
    char text[HF_OID_STR_MAX];

    if (node->copy_failures++ == 0 && leader->state == HF_LEADER_READY) { /* one line a pass */
        hf_log(HF_LOG_WARN, "meta", "copy failed",
               "node=%u object=%s err=%s what=\"tried again later; scrub or bring back the members "
               "of its group when it stays\"",
               node->id.v, hf_oid_str(oid, text), hf_err_name(err));
    }
}

static void copied(void *arg, int err)
{
    struct hf_copy *copy = arg;
    struct hf_leader *leader = copy->leader;
    struct hf_copier *copier = &leader->copier;
    struct hf_lnode *node = copy->node;

    leader->store_calls--;
    copier->inflight--;
    node->copies--;
    if (copy->prev) {
        copy->prev->next = copy->next;
    } else {
        copier->head = copy->next;
    }
    if (copy->next) {
        copy->next->prev = copy->prev;
    }
    if (err) {
        copy_failed(leader, node, &copy->object.oid, err);
    } else if (!copy->voided && leader->state == HF_LEADER_READY) {
        count_copied(leader, copy->object.len_bytes);
        add_clear(leader, node, &copy->object.oid);
    }
    free(copy);
    hf_copier_kick(leader);
}

static void start_copy(struct hf_leader *leader, struct hf_lnode *node,
                       const struct hf_meta_object *object, uint64_t from)
{
    struct hf_copier *copier = &leader->copier;
    struct hf_copy *copy = calloc(1, sizeof(*copy));

    if (!copy) {
        copy_failed(leader, node, &object->oid, -ENOMEM);
        return;
    }
    copy->leader = leader;
    copy->node = node;
    copy->object = *object;
    copy->next = copier->head;
    if (copy->next) {
        copy->next->prev = copy;
    }
    copier->head = copy;
    copier->inflight++;
    node->copies++;
    leader->store_calls++;
    leader->stores.copy_object(leader->stores.ctx, node->id, &copy->object, from, copied, copy);
}

/* Take the next row of the node's pass. False: the pass is over. */
static bool take_row(struct hf_leader *leader, struct hf_lnode *node)
{
    struct hf_meta_object object;
    struct hf_oid oid;
    uint64_t from;

    if (node->copy_over ||
        hf_meta_degraded(leader->meta, node->id, node->copy_started ? &node->copy_after : NULL,
                         &oid, 1) == 0) {
        node->copy_over = true;
        return false;
    }
    node->copy_after = oid;
    node->copy_started = true;
    if (hf_meta_object(leader->meta, &oid, &object)) {
        return true; /* dead: its rows go with it */
    }
    from = sources(leader, node, &oid);
    if (from) {
        start_copy(leader, node, &object, from);
    } else {
        copy_failed(leader, node, &oid, -HF_ENOOBJECT);
    }
    return true;
}

/* A pass is behind us with all that it started: when is the next one? */
static void end_pass(struct hf_leader *leader, struct hf_lnode *node, uint64_t now_ns)
{
    if (node->copies > 0 || node->clear_count > 0 || node->clears_in_flight > 0) {
        return;
    }
    if (node->copy_failures > 0) {
        node->copy_backoff_ns = node->copy_backoff_ns ? node->copy_backoff_ns * 2 : BACKOFF_MIN_NS;
        if (node->copy_backoff_ns > BACKOFF_MAX_NS) {
            node->copy_backoff_ns = BACKOFF_MAX_NS;
        }
        node->copy_retry_ns = now_ns + node->copy_backoff_ns;
    } else {
        node->copy_backoff_ns = 0;
    }
    node->copy_failures = 0;
    node->copy_over = false;
    node->copy_started = false;
    (void)leader;
}

/* One row for this node if there is one to be had. */
static bool work(struct hf_leader *leader, struct hf_lnode *node, uint64_t now_ns)
{
    if (!hf_nodes_live(leader, node->id) || now_ns < node->copy_retry_ns ||
        node->copies >= HF_COPIER_PER_NODE) {
        return false;
    }
    if (take_row(leader, node)) {
        return true;
    }
    end_pass(leader, node, now_ns);
    return false;
}

static void look(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_copier *copier = &leader->copier;
    uint64_t now_ns = hf_env_mono_ns(leader->env);
    uint32_t idle = 0, rows = 0;
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (usage.degraded == 0 || !hf_leader_serving(leader)) {
        return;
    }
    while (copier->inflight < HF_COPIER_PARALLEL && idle < HF_NODES_MAX && rows < LACKING_PAGE) {
        struct hf_lnode *node = &leader->nodes.nodes[copier->next_node];

        copier->next_node = (copier->next_node + 1) % HF_NODES_MAX;
        if (work(leader, node, now_ns)) {
            idle = 0;
            rows++;
        } else {
            idle++;
        }
    }
    if (!copier->timer.armed) {
        hf_timer_arm(&copier->timer, rows == LACKING_PAGE ? HF_NS_PER_MS : POLL_NS);
    }
}

void hf_copier_kick(struct hf_leader *leader)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (usage.degraded > 0 && hf_leader_serving(leader) &&
        leader->copier.inflight < HF_COPIER_PARALLEL) {
        hf_timer_arm(&leader->copier.timer, 0);
    }
}

uint64_t hf_copier_lacking(struct hf_leader *leader, struct hf_node_id node)
{
    struct hf_oid oids[LACKING_PAGE], after;
    uint32_t count;
    uint64_t total = 0;
    struct hf_meta_usage usage;

    do {
        count = hf_meta_degraded(leader->meta, node, total ? &after : NULL, oids, LACKING_PAGE);
        total += count;
        if (count > 0) {
            after = oids[count - 1];
        }
    } while (count == LACKING_PAGE && total < LACKING_COUNTED);
    hf_meta_usage(leader->meta, &usage);
    return total >= LACKING_COUNTED ? usage.degraded : total;
}

uint64_t hf_copier_rate_bytes(struct hf_leader *leader)
{
    uint64_t now_ns = hf_env_mono_ns(leader->env);

    return now_ns - leader->copier.window_ns > RATE_IDLE_NS ? 0 : leader->copier.rate_bytes;
}

uint64_t hf_copier_left_bytes(struct hf_leader *leader)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    return usage.objects ? usage.degraded * (usage.object_bytes / usage.objects) : 0;
}

void hf_copier_init(struct hf_leader *leader)
{
    hf_timer_init(&leader->copier.timer, leader->env, look, leader);
    hf_timer_init(&leader->copier.clear_timer, leader->env, clear_timer, leader);
}

void hf_copier_start(struct hf_leader *leader)
{
    leader->copier.window_ns = hf_env_mono_ns(leader->env);
    hf_copier_kick(leader);
}

void hf_copier_stop(struct hf_leader *leader)
{
    hf_timer_disarm(&leader->copier.timer);
    hf_timer_disarm(&leader->copier.clear_timer);
}

void hf_copier_fini(struct hf_leader *leader)
{
    hf_timer_fini(&leader->copier.timer);
    hf_timer_fini(&leader->copier.clear_timer);
}

void hf_copier_check_invariants(const struct hf_leader *leader)
{
    const struct hf_copier *copier = &leader->copier;
    uint32_t per_node[HF_NODES_MAX] = {0}, count = 0;

    for (const struct hf_copy *copy = copier->head; copy; copy = copy->next) {
        HF_ASSERT(!copy->next || copy->next->prev == copy);
        per_node[copy->node - leader->nodes.nodes]++;
        count++;
    }
    HF_ASSERT(count == copier->inflight && count <= HF_COPIER_PARALLEL);
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        const struct hf_lnode *node = &leader->nodes.nodes[i];

        HF_ASSERT(per_node[i] == node->copies && node->copies <= HF_COPIER_PER_NODE);
        HF_ASSERT(node->clear_count <= HF_NODES_CLEARS_MAX);
        HF_ASSERT(node->clear_count == 0 || copier->clear_timer.armed ||
                  !hf_leader_serving(leader));
    }
}
