/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/reaper.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define SCAN_PAGE      256u
#define BATCH          HF_LEADER_OIDS_PER_ENTRY
#define TICK_NS        (500 * HF_NS_PER_MS)
#define BUSY_TICK_NS   (20 * HF_NS_PER_MS)
#define RESCAN_NS      HF_NS_PER_SEC
#define RESCAN_SLOW_NS (60 * HF_NS_PER_SEC)
#define UNSTICK_NS     (5 * HF_NS_PER_SEC)
#define BACKOFF_MIN_NS HF_NS_PER_SEC
#define BACKOFF_MAX_NS (30 * HF_NS_PER_SEC)

struct hf_dead {
    struct hf_hmap_node node;
    struct hf_dead *prev, *next;
    struct hf_dead_list *list; /* NULL: OBJECTS_GONE is on its way */
    struct hf_oid oid;
    uint64_t seen_ns;
    uint64_t confirmed; /* members where it is durably gone */
    uint64_t asked;     /* members with a delete under way */
};

struct delete_call {
    struct hf_leader *leader;
    struct hf_lnode *node;
    uint32_t count;
    struct hf_oid oids[BATCH];
};

struct gone_call {
    struct hf_leader *leader;
    uint32_t count;
    struct hf_oid oids[BATCH];
};

static void list_push(struct hf_dead_list *list, struct hf_dead *dead)
{
    dead->list = list;
    dead->next = NULL;
    dead->prev = list->tail;
    if (list->tail) {
        list->tail->next = dead;
    } else {
        list->head = dead;
    }
    list->tail = dead;
    list->count++;
}

static void list_del(struct hf_dead *dead)
{
    struct hf_dead_list *list = dead->list;

    if (!list) {
        return;
    }
    if (dead->prev) {
        dead->prev->next = dead->next;
    } else {
        list->head = dead->next;
    }
    if (dead->next) {
        dead->next->prev = dead->prev;
    } else {
        list->tail = dead->prev;
    }
    list->count--;
    dead->list = NULL;
}

static struct hf_dead *find(struct hf_reaper *reaper, const struct hf_oid *oid)
{
    struct hf_hmap_node *node = hf_hmap_first(&reaper->by_oid, hf_oid_hash(oid));

    for (; node; node = hf_hmap_same(node)) {
        struct hf_dead *dead = hf_container_of(node, struct hf_dead, node);

        if (hf_oid_equal(&dead->oid, oid)) {
            return dead;
        }
    }
    return NULL;
}

static void forget(struct hf_reaper *reaper, struct hf_dead *dead)
{
    list_del(dead);
    hf_hmap_del(&reaper->by_oid, &dead->node);
    free(dead);
}

/* Finding */

static void make_room(struct hf_leader *leader)
{
    struct hf_reaper *reaper = &leader->reaper;

    /* Members that are away for long must not stop the deletion on those that are here. */
    while (reaper->by_oid.count >= HF_REAPER_OBJECTS_MAX && reaper->stuck.head) {
        forget(reaper, reaper->stuck.head);
        reaper->scan_again_ns = hf_env_mono_ns(leader->env) + RESCAN_SLOW_NS;
    }
}

static void see(struct hf_leader *leader, const struct hf_oid *oid)
{
    struct hf_reaper *reaper = &leader->reaper;
    struct hf_dead *dead;

    if (find(reaper, oid)) {
        return;
    }
    dead = calloc(1, sizeof(*dead));
    if (!dead) {
        return; /* the next pass sees it */
    }
    dead->oid = *oid;
    dead->seen_ns = hf_env_mono_ns(leader->env);
    hf_hmap_add(&reaper->by_oid, &dead->node, hf_oid_hash(oid));
    list_push(&reaper->active, dead);
}

/* True while a pass is under way. */
static bool scan(struct hf_leader *leader, uint64_t now_ns)
{
    struct hf_reaper *reaper = &leader->reaper;
    struct hf_oid oids[SCAN_PAGE];
    struct hf_meta_usage usage;
    uint32_t count;

    hf_meta_usage(leader->meta, &usage);
    if (!reaper->scan_started &&
        (usage.dead <= reaper->by_oid.count || now_ns < reaper->scan_again_ns)) {
        return false;
    }
    make_room(leader);
    if (reaper->by_oid.count >= HF_REAPER_OBJECTS_MAX) {
        return false;
    }
    count = hf_meta_dead(leader->meta, reaper->scan_started ? &reaper->scan_after : NULL, oids,
                         SCAN_PAGE);
    for (uint32_t i = 0; i < count; i++) {
        see(leader, &oids[i]);
    }
    reaper->scan_started = count == SCAN_PAGE;
    if (count > 0) {
        reaper->scan_after = oids[count - 1];
    }
    if (!reaper->scan_started && reaper->scan_again_ns < now_ns + RESCAN_NS) {
        reaper->scan_again_ns = now_ns + RESCAN_NS;
    }
    return reaper->scan_started;
}

/* Rows that end */

static void gone_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct gone_call *call = ctx;
    struct hf_leader *leader = call->leader;

    for (uint32_t i = 0; i < call->count; i++) {
        struct hf_dead *dead = find(&leader->reaper, &call->oids[i]);

        if (dead) {
            forget(&leader->reaper, dead); /* refused: seen anew, and deleted anew */
        }
    }
    if (reply->err) {
        hf_log(HF_LOG_WARN, "meta", "dead objects kept", "count=%u err=%s", call->count,
               hf_err_name(reply->err));
    } else {
        leader->deleted_objects += call->count;
    }
    free(call);
}

static void propose_gone(struct hf_leader *leader, struct gone_call *call)
{
    struct hf_meta_op op = {.op = HF_OP_OBJECTS_GONE, .oids = call->oids, .oid_count = call->count};

    hf_leader_propose(leader, &op, gone_done, call);
}

/* Deleting */

static uint64_t members_of(struct hf_leader *leader, const struct hf_oid *oid)
{
    const struct hf_map *map = hf_meta_map(leader->meta);
    uint64_t members = oid->group < map->group_count ? hf_map_group_members(map, oid->group) : 0;

    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].state == HF_NODE_REMOVED) {
            members &= ~hf_node_bit(map->nodes[i].id);
        }
    }
    return members;
}

static void deleted(void *arg, int err)
{
    struct delete_call *call = arg;
    struct hf_leader *leader = call->leader;
    struct hf_lnode *node = call->node;
    uint64_t bit = hf_node_bit(node->id);

    leader->store_calls--;
    node->deleting = false;
    for (uint32_t i = 0; i < call->count; i++) {
        struct hf_dead *dead = find(&leader->reaper, &call->oids[i]);

        if (dead) {
            dead->asked &= ~bit;
            dead->confirmed |= err && !HF_BUG(failed_delete_counts) ? 0 : bit;
        }
    }
    if (err && leader->state == HF_LEADER_READY) {
        node->delete_backoff_ns =
            node->delete_backoff_ns ? node->delete_backoff_ns * 2 : BACKOFF_MIN_NS;
        if (node->delete_backoff_ns > BACKOFF_MAX_NS) {
            node->delete_backoff_ns = BACKOFF_MAX_NS;
        }
        node->delete_retry_ns = hf_env_mono_ns(leader->env) + node->delete_backoff_ns;
        hf_log(HF_LOG_WARN, "meta", "delete failed", "node=%u objects=%u err=%s retry_s=%llu",
               node->id.v, call->count, hf_err_name(err),
               (unsigned long long)(node->delete_backoff_ns / HF_NS_PER_SEC));
    } else {
        node->delete_backoff_ns = 0;
    }
    free(call);
    if (leader->state == HF_LEADER_READY) {
        hf_timer_arm(&leader->reaper.timer, 0);
    }
}

static bool may_delete(struct hf_leader *leader, const struct hf_lnode *node, uint64_t now_ns)
{
    return !node->deleting && now_ns >= node->delete_retry_ns && hf_nodes_live(leader, node->id);
}

/* What a walk over the active ones collects. */
struct harvest {
    struct delete_call *calls[HF_NODES_MAX];
    struct gone_call *gone;
    uint64_t free_nodes; /* may be given a batch */
    uint64_t present;    /* live */
};

static void collect(struct hf_leader *leader, struct harvest *harvest, struct hf_dead *dead,
                    uint64_t left)
{
    for (uint64_t want = left & ~dead->asked & harvest->free_nodes; want; want &= want - 1) {
        unsigned i = (unsigned)__builtin_ctzll(want);
        struct delete_call *call = harvest->calls[i];

        if (!call) {
            call = harvest->calls[i] = malloc(sizeof(*call));
            if (!call) {
                continue;
            }
            call->leader = leader;
            call->node = &leader->nodes.nodes[i];
            call->count = 0;
        }
        call->oids[call->count++] = dead->oid;
        dead->asked |= UINT64_C(1) << i;
        if (call->count == BATCH) {
            harvest->free_nodes &= ~(UINT64_C(1) << i);
        }
    }
}

static void harvest_one(struct hf_leader *leader, struct harvest *harvest, struct hf_dead *dead)
{
    uint64_t left = members_of(leader, &dead->oid) & ~dead->confirmed;

    if (left == 0 || (HF_BUG(gone_on_one_word) && dead->confirmed)) {
        if (!harvest->gone) {
            harvest->gone = calloc(1, sizeof(*harvest->gone));
        }
        if (harvest->gone && harvest->gone->count < BATCH) {
            harvest->gone->leader = leader;
            harvest->gone->oids[harvest->gone->count++] = dead->oid;
            list_del(dead);
        }
    } else if (!(left & harvest->present) && !dead->asked) {
        list_del(dead);
        list_push(&leader->reaper.stuck, dead);
    } else {
        collect(leader, harvest, dead, left);
    }
}

/* True when there is more to do at once. */
static bool harvest(struct hf_leader *leader, uint64_t now_ns)
{
    struct harvest harvest = {0};
    struct hf_dead *next;
    bool more = false;

    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        const struct hf_lnode *node = &leader->nodes.nodes[i];

        harvest.free_nodes |= may_delete(leader, node, now_ns) ? hf_node_bit(node->id) : 0;
        harvest.present |= hf_nodes_live(leader, node->id) ? hf_node_bit(node->id) : 0;
    }
    for (struct hf_dead *dead = leader->reaper.active.head; dead; dead = next) {
        next = dead->next;
        if (dead->seen_ns + HF_REAPER_GRACE_NS > now_ns) {
            break;
        }
        harvest_one(leader, &harvest, dead);
        if (harvest.gone && harvest.gone->count == BATCH) {
            more = true;
            break;
        }
    }
    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        struct delete_call *call = harvest.calls[i];

        if (call) {
            call->node->deleting = true;
            leader->store_calls++;
            leader->stores.delete_objects(leader->stores.ctx, call->node->id, call->oids,
                                          call->count, deleted, call);
        }
    }
    if (harvest.gone) {
        propose_gone(leader, harvest.gone);
    }
    return more;
}

static void tick(void *ctx)
{
    struct hf_leader *leader = ctx;
    struct hf_reaper *reaper = &leader->reaper;
    uint64_t now_ns = hf_env_mono_ns(leader->env);
    struct hf_meta_usage usage;
    bool busy;

    if (!hf_leader_serving(leader)) {
        return;
    }
    if (reaper->stuck.head && now_ns >= reaper->unstick_ns) {
        hf_reaper_unstick(leader);
    }
    busy = scan(leader, now_ns);
    busy = harvest(leader, now_ns) || busy;
    hf_meta_usage(leader->meta, &usage);
    if (!reaper->timer.armed && (busy || reaper->by_oid.count > 0 || usage.dead > 0)) {
        hf_timer_arm(&reaper->timer, busy ? BUSY_TICK_NS : TICK_NS);
    }
}

void hf_reaper_kick(struct hf_leader *leader)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    if (usage.dead > 0 && hf_leader_serving(leader) && !leader->reaper.timer.armed) {
        hf_timer_arm(&leader->reaper.timer, BUSY_TICK_NS);
    }
}

void hf_reaper_unstick(struct hf_leader *leader)
{
    struct hf_reaper *reaper = &leader->reaper;

    /* In front: they are older than anything active. */
    while (reaper->stuck.tail) {
        struct hf_dead *dead = reaper->stuck.tail;

        list_del(dead);
        dead->list = &reaper->active;
        dead->prev = NULL;
        dead->next = reaper->active.head;
        if (dead->next) {
            dead->next->prev = dead;
        } else {
            reaper->active.tail = dead;
        }
        reaper->active.head = dead;
        reaper->active.count++;
    }
    reaper->unstick_ns = hf_env_mono_ns(leader->env) + UNSTICK_NS;
    hf_reaper_kick(leader);
}

int hf_reaper_init(struct hf_leader *leader)
{
    hf_timer_init(&leader->reaper.timer, leader->env, tick, leader);
    return hf_hmap_init(&leader->reaper.by_oid);
}

void hf_reaper_start(struct hf_leader *leader)
{
    hf_reaper_kick(leader);
}

void hf_reaper_stop(struct hf_leader *leader)
{
    hf_timer_disarm(&leader->reaper.timer);
}

static void free_dead(void *ctx, struct hf_hmap_node *node)
{
    (void)ctx;
    free(hf_container_of(node, struct hf_dead, node));
}

void hf_reaper_fini(struct hf_leader *leader)
{
    hf_timer_fini(&leader->reaper.timer);
    hf_hmap_each(&leader->reaper.by_oid, free_dead, NULL);
    hf_hmap_fini(&leader->reaper.by_oid);
}

static void check_list(const struct hf_leader *leader, const struct hf_dead_list *list)
{
    const struct hf_dead *last = NULL;
    uint32_t count = 0;

    for (const struct hf_dead *dead = list->head; dead; dead = dead->next) {
        HF_ASSERT(dead->list == list && dead->prev == last);
        HF_ASSERT(!(dead->asked & dead->confirmed));
        for (uint64_t asked = dead->asked; asked; asked &= asked - 1) {
            HF_ASSERT(leader->nodes.nodes[__builtin_ctzll(asked)].deleting);
        }
        last = dead;
        count++;
    }
    HF_ASSERT(last == list->tail && count == list->count);
}

void hf_reaper_check_invariants(const struct hf_leader *leader)
{
    const struct hf_reaper *reaper = &leader->reaper;

    check_list(leader, &reaper->active);
    check_list(leader, &reaper->stuck);
    /* The rest is in entries on their way, which keep room in the queue. */
    HF_ASSERT(reaper->active.count + reaper->stuck.count <= reaper->by_oid.count);
    HF_ASSERT(reaper->active.count + reaper->stuck.count == reaper->by_oid.count ||
              leader->queue_bytes > 0);
    HF_ASSERT(reaper->by_oid.count < HF_REAPER_OBJECTS_MAX + SCAN_PAGE);
}
