/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/inventory.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define PAGE                512u
#define FAILURES_MAX        5u
#define IN_SERVICE_PAUSE_NS (2 * HF_NS_PER_MS)
#define RETRY_NS            HF_NS_PER_SEC

struct hf_inventory {
    struct hf_leader *leader;
    struct hf_lnode *node;
    struct hf_timer timer;
    bool calling;   /* a list is under way */
    bool cancelled; /* freed when it ends */
    uint32_t group;
    bool has_after;
    struct hf_oid after;
    uint32_t failures;
    uint64_t seen, lacking, strays;
    struct hf_meta_object page[PAGE];
    uint32_t page_count;
    struct hf_oid bad[PAGE], stray[HF_MSG_OIDS_MAX];
    uint32_t bad_count, stray_count;
};

struct stray_call {
    struct hf_leader *leader;
    struct hf_node_id node;
    uint32_t count;
    struct hf_oid oids[];
};

static void inventory_free(struct hf_inventory *run)
{
    hf_timer_fini(&run->timer);
    free(run);
}

static void finish(struct hf_inventory *run, int err)
{
    struct hf_leader *leader = run->leader;
    struct hf_lnode *node = run->node;

    hf_log(err ? HF_LOG_WARN : HF_LOG_INFO, "meta", "inventory",
           "node=%u objects=%llu lacking=%llu strays=%llu%s%s", node->id.v,
           (unsigned long long)run->seen, (unsigned long long)run->lacking,
           (unsigned long long)run->strays, err ? " again_after=" : "",
           err ? hf_err_name(err) : "");
    node->inventory = NULL;
    inventory_free(run);
    hf_nodes_inventory_done(leader, node, err);
}

/* Strays */

static void strays_deleted(void *arg, int err)
{
    struct stray_call *call = arg;

    call->leader->store_calls--;
    if (!err) {
        call->leader->deleted_objects += call->count;
    }
    free(call); /* on failure the next inventory finds them again */
}

static void delete_strays(struct hf_leader *leader, struct hf_node_id node,
                          const struct hf_oid *oids, uint32_t count)
{
    struct stray_call *call;

    if (count == 0) {
        return;
    }
    call = malloc(sizeof(*call) + count * sizeof(call->oids[0]));
    if (call) {
        call->leader = leader;
        call->node = node;
        call->count = count;
        for (uint32_t i = 0; i < count; i++) {
            call->oids[i] = oids[i];
        }
        leader->store_calls++;
        leader->stores.delete_objects(leader->stores.ctx, node, call->oids, count, strays_deleted,
                                      call);
    }
}

/* The object just before @oid in id order; false: there is none in its group. */
static bool oid_before(struct hf_oid oid, struct hf_oid *ret)
{
    if (oid.seq > 0) {
        oid.seq--;
    } else if (oid.session > 0) {
        oid.session--;
        oid.seq = HF_OID_SEQ_MAX;
    } else {
        return false;
    }
    *ret = oid;
    return true;
}

/* Neither named nor dead, and on its way through the reaper, who waits for its readers? */
static bool is_unknown(struct hf_leader *leader, const struct hf_oid *oid)
{
    struct hf_meta_object object;
    struct hf_oid before, dead;

    return hf_meta_object(leader->meta, oid, &object) == -ENOENT &&
           !(oid_before(*oid, &before) && hf_meta_dead(leader->meta, &before, &dead, 1) == 1 &&
             hf_oid_equal(&dead, oid));
}

/* Will no entry ever name it? Its session has ended, and everything it committed is applied. */
static bool is_stray(struct hf_leader *leader, const struct hf_oid *oid)
{
    if (oid->session == 0 || oid->session > leader->sessions.id_max ||
        (hf_meta_session_live(leader->meta, (struct hf_session_id){oid->session}) &&
         !HF_BUG(stray_of_living))) {
        return false;
    }
    return is_unknown(leader, oid);
}

void hf_inventory_refused(struct hf_leader *leader, const struct hf_meta_op *op, int err)
{
    const struct hf_map *map = hf_meta_map(leader->meta);

    if (err == -HF_EGAP || err == -HF_ENOTREADY) {
        return; /* no outcome: it comes again as it is */
    }
    for (uint32_t i = 0; i < op->object_count; i++) {
        const struct hf_oid *oid = &op->objects[i].oid;

        if (oid->session != op->session.v || oid->group >= map->group_count ||
            !is_unknown(leader, oid)) {
            continue;
        }
        for (uint32_t n = 0; n < map->node_count; n++) {
            struct hf_node_id node = map->nodes[n].id;

            if ((hf_map_group_members(map, oid->group) & hf_node_bit(node)) &&
                hf_nodes_live(leader, node)) {
                delete_strays(leader, node, oid, 1);
            }
        }
    }
}

/* Merging */

static void found_lacking(struct hf_inventory *run, const struct hf_oid *oid)
{
    struct hf_leader *leader = run->leader;
    struct hf_meta_object object;

    if (hf_meta_object(leader->meta, oid, &object) == 0 &&
        !hf_meta_is_degraded(leader->meta, run->node->id, oid)) {
        run->bad[run->bad_count++] = *oid;
    }
}

static void compare(struct hf_inventory *run, const struct hf_meta_object *want,
                    const struct hf_msg_list_reply *list, uint32_t i)
{
    run->seen++;
    if (list->quarantined[i] || list->lens[i] != want->len_bytes ||
        list->digests[i] != want->digest) {
        found_lacking(run, &want->oid);
    }
}

static void merge(struct hf_inventory *run, const struct hf_msg_list_reply *list,
                  const struct hf_oid *end)
{
    uint32_t m = 0, l = 0;

    for (;;) {
        bool meta_left = m < run->page_count && (!end || hf_oid_cmp(&run->page[m].oid, end) <= 0);
        bool list_left = l < list->count && (!end || hf_oid_cmp(&list->oids[l], end) <= 0);
        int cmp;

        if (!meta_left && !list_left) {
            return;
        }
        cmp = !meta_left ? 1 : !list_left ? -1 : hf_oid_cmp(&run->page[m].oid, &list->oids[l]);
        if (cmp < 0) {
            found_lacking(run, &run->page[m++].oid);
        } else if (cmp > 0) {
            if (is_stray(run->leader, &list->oids[l])) {
                run->stray[run->stray_count++] = list->oids[l];
            } else if (list->quarantined[l]) {
                hf_nodes_bad_unnamed(run->leader, run->node, &list->oids[l]);
            }
            l++;
        } else {
            compare(run, &run->page[m++], list, l++);
        }
    }
}

/* A list that is not one: of another group, out of order, or not after what was asked. */
static bool list_valid(const struct hf_inventory *run, const struct hf_msg_list_reply *list)
{
    const struct hf_oid *before = run->has_after ? &run->after : NULL;

    if (list->count > HF_MSG_OIDS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->oids[i].group != run->group ||
            (before && hf_oid_cmp(before, &list->oids[i]) >= 0)) {
            return false;
        }
        before = &list->oids[i];
    }
    return true;
}

/* What is read of the metadata may be less than there is, or wrong, once a row cannot be read: this
 * leader is about to go, and its word must not count. */
static bool is_unreadable(struct hf_inventory *run)
{
    if (hf_meta_failed(run->leader->meta) == 0) {
        return false;
    }
    hf_timer_arm(&run->timer, RETRY_NS);
    return true;
}

/* False: that cannot be said now. */
static bool advance(struct hf_inventory *run, const struct hf_msg_list_reply *list)
{
    const struct hf_oid *meta_end = run->page_count == PAGE ? &run->page[PAGE - 1].oid : NULL;
    const struct hf_oid *list_end = list->count > 0 ? &list->oids[list->count - 1] : NULL;
    const struct hf_oid *end = meta_end;

    if (list_end && (!end || hf_oid_cmp(list_end, end) < 0)) {
        end = list_end;
    }
    run->bad_count = 0;
    merge(run, list, end);
    if (is_unreadable(run)) {
        run->stray_count = 0;
        return false;
    }
    run->lacking += run->bad_count;
    hf_leader_propose_oids(run->leader, HF_OP_DEGRADED_ADD, run->node->id, run->bad,
                           run->bad_count);
    delete_strays(run->leader, run->node->id, run->stray, run->stray_count);
    run->strays += run->stray_count;
    run->stray_count = 0;
    if (end) {
        run->after = *end;
        run->has_after = true;
    } else {
        run->group++;
        run->has_after = false;
    }
    return true;
}

static void listed(void *arg, int err, const struct hf_msg_list_reply *list)
{
    struct hf_inventory *run = arg;

    run->leader->store_calls--;
    run->calling = false;
    if (run->cancelled) {
        inventory_free(run);
        return;
    }
    if (!err && !list_valid(run, list)) {
        err = -EBADMSG;
    }
    if (err) {
        if (++run->failures >= FAILURES_MAX) {
            finish(run, err);
            return;
        }
        hf_timer_arm(&run->timer, RETRY_NS);
        return;
    }
    run->failures = 0;
    if (!advance(run, list)) {
        return;
    }
    /* Other work goes in between; nobody waits for the check of a node that is in service. */
    hf_timer_arm(&run->timer,
                 run->has_after && hf_nodes_state(run->leader, run->node->id) == HF_NODE_UP
                     ? IN_SERVICE_PAUSE_NS
                     : 0);
}

static void next_page(struct hf_inventory *run)
{
    struct hf_leader *leader = run->leader;
    const struct hf_map *map = hf_meta_map(leader->meta);
    uint64_t bit = hf_node_bit(run->node->id);

    while (run->group < map->group_count &&
           !(hf_map_group_members(map, (uint16_t)run->group) & bit)) {
        run->group++;
        run->has_after = false;
    }
    if (is_unreadable(run)) {
        return;
    }
    if (run->group >= map->group_count) {
        finish(run, 0);
        return;
    }
    run->page_count = hf_meta_objects(leader->meta, (uint16_t)run->group,
                                      run->has_after ? &run->after : NULL, run->page, PAGE);
    if (is_unreadable(run)) {
        return;
    }
    run->calling = true;
    leader->store_calls++;
    leader->stores.list_objects(leader->stores.ctx, run->node->id, (uint16_t)run->group,
                                run->has_after ? &run->after : NULL, listed, run);
}

static void timer(void *ctx)
{
    next_page(ctx);
}

void hf_inventory_start(struct hf_leader *leader, struct hf_lnode *node)
{
    struct hf_inventory *run = calloc(1, sizeof(*run));

    HF_ASSERT(!node->inventory);
    if (!run) {
        hf_nodes_inventory_done(leader, node, -ENOMEM);
        return;
    }
    run->leader = leader;
    run->node = node;
    hf_timer_init(&run->timer, leader->env, timer, run);
    node->inventory = run;
    hf_timer_arm(&run->timer, 0);
}

void hf_inventory_cancel(struct hf_leader *leader, struct hf_lnode *node)
{
    struct hf_inventory *run = node->inventory;

    (void)leader;
    if (!run) {
        return;
    }
    node->inventory = NULL;
    node->inventory_wanted = true;
    if (run->calling) {
        run->cancelled = true;
        hf_timer_disarm(&run->timer);
    } else {
        inventory_free(run);
    }
}
