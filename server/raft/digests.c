/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digests.c - replicas that find out by themselves when they are not the same any more.
 *
 * After entries of certain numbers every member notes the digest of its state. The answers that
 * members give each other every second carry the newest of them. What is applied is committed: of
 * equal index, all must be equal.
 *
 * The leader tells of a difference. A member that differs from what more than half of the voters
 * agree on takes itself out: it says nothing more to anybody, and the note of it in its vote keeps
 * it out after a restart, until its directory was removed and the leader has filled it anew. Nobody
 * decides about others, and without such a majority nobody is taken out.
 */
#include <inttypes.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

/* Voters not heard for so long do not count: they may be gone, and with them the majority that
 * would go on without this one. */
#define FRESH_NS (5 * HF_NS_PER_SEC)

/* What is noted here */

void raft_digests_applied(struct hf_raft_driver *d, uint64_t index)
{
    struct raft_digests *own = &d->digests;

    if (index % d->options.digest_every != 0 || !d->options.machine.digest) {
        return;
    }
    if (own->count == HF_RAFT_DIGESTS_MAX) {
        own->count--;
        memmove(own->list, own->list + 1, own->count * sizeof(own->list[0]));
    }
    own->list[own->count++] = (struct hf_raft_digest){
        .index = index, .value = d->options.machine.digest(d->options.machine.ctx)};
}

void raft_digests_clear(struct hf_raft_driver *d)
{
    d->digests.count = 0;
}

void raft_digests_tell(const struct hf_raft_driver *d, struct hf_raft_found *found)
{
    found->taken_out = d->hard.taken_out;
    found->digest_count = d->digests.count;
    memcpy(found->digests, d->digests.list, d->digests.count * sizeof(found->digests[0]));
}

/* What is known of the others */

static const struct raft_other *find(const struct hf_raft_driver *d, struct hf_node_id node)
{
    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        if (d->others[i].node.v == node.v) {
            return &d->others[i];
        }
    }
    return NULL;
}

static bool member(const struct hf_raft_driver *d, struct hf_node_id node)
{
    const struct hf_raft_config *config = hf_raft_config(d->raft, NULL);

    return hf_raft_config_has(config, node, HF_RAFT_VOTER) ||
           hf_raft_config_has(config, node, HF_RAFT_LEARNER);
}

/* The place of a member: its own, or one of a node that is none any more. */
static struct raft_other *place_of(struct hf_raft_driver *d, struct hf_node_id node)
{
    struct raft_other *place = (struct raft_other *)find(d, node);

    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX && !place; i++) {
        if (d->others[i].node.v == 0 || !member(d, d->others[i].node)) {
            place = &d->others[i];
        }
    }
    HF_ASSERT(place); /* there is one for every member */
    return place;
}

static const struct hf_raft_digest *digest_at(const struct raft_digests *digests, uint64_t index)
{
    for (uint32_t i = 0; i < digests->count; i++) {
        if (digests->list[i].index == index) {
            return &digests->list[i];
        }
    }
    return NULL;
}

/* With what was noted here, as far as it is new. The leader tells once of each that differs. */
static void compare(struct hf_raft_driver *d, struct raft_other *o)
{
    for (uint32_t i = 0; i < d->digests.count; i++) {
        const struct hf_raft_digest *mine = &d->digests.list[i];
        const struct hf_raft_digest *theirs = digest_at(&o->digests, mine->index);

        if (theirs && mine->index > o->compared_index) {
            o->compared_index = mine->index;
            o->equal = mine->value == theirs->value;
            o->told = o->told && !o->equal;
        }
        if (theirs && mine->index == o->compared_index && !o->equal && !o->told && d->leading) {
            o->told = true;
            hf_log(HF_LOG_ERROR, "raft", "replicas differ",
                   "index=%llu node=%u digest=%016" PRIx64 " other=%u other_digest=%016" PRIx64
                   " what=\"the metadata of these two nodes are not the same: a defect, or a "
                   "failing disk or memory. The one that differs from a majority takes itself out; "
                   "see 'holdfast meta status'\"",
                   (unsigned long long)mine->index, d->options.self.v, mine->value, o->node.v,
                   theirs->value);
        }
    }
}

/* Judging oneself */

/* What more than half of the voters had at @index; false: not known, or they do not agree. */
static bool majority_at(const struct hf_raft_driver *d, const struct hf_raft_digest *mine,
                        uint64_t *ret)
{
    const struct hf_raft_config *config = hf_raft_config(d->raft, NULL);
    const uint64_t now_ns = hf_env_boot_ns(d->env);
    uint64_t values[HF_RAFT_MEMBERS_MAX];
    uint32_t voters = 0, count = 0;

    for (uint32_t i = 0; i < config->count; i++) {
        const struct hf_raft_member *m = &config->members[i];
        const struct raft_other *o = find(d, m->id);
        const struct hf_raft_digest *digest =
            m->id.v == d->options.self.v ? mine
            : o && !o->taken_out && now_ns - o->heard_ns <= FRESH_NS
                ? digest_at(&o->digests, mine->index)
                : NULL;

        if (m->kind == HF_RAFT_VOTER) {
            voters++;
            if (digest) {
                values[count++] = digest->value;
            }
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same = 0;

        for (uint32_t k = 0; k < count; k++) {
            same += values[k] == values[i];
        }
        if (same > voters / 2) {
            *ret = values[i];
            return true;
        }
    }
    return false;
}

static void kept_out(struct hf_raft_driver *d, int err)
{
    if (err) {
        hf_log(HF_LOG_ERROR, "raft", "not noted",
               "err=%s what=\"a restart will not know that this node's metadata differ: remove %s "
               "before\"",
               hf_err_name(err), d->dir);
    }
}

static void take_out(struct hf_raft_driver *d, const struct hf_raft_digest *mine, uint64_t theirs)
{
    hf_log(
        HF_LOG_ERROR, "raft", "taken out",
        "index=%llu node=%u digest=%016" PRIx64 " majority_digest=%016" PRIx64
        " what=\"the metadata of this node differ from those of a majority: a defect, or a "
        "failing disk or memory. It serves no metadata any more, after a restart neither. Keep a "
        "copy of %s for a report, remove it, then restart holdfastd: the leader fills it again\"",
        (unsigned long long)mine->index, d->options.self.v, mine->value, theirs, d->dir);
    d->hard.taken_out = true;
    raft_driver_persist(d, kept_out);
    raft_driver_stop(d, -HF_EDIFFERS);
}

/* By the newest index at which a majority is known. */
static void judge(struct hf_raft_driver *d)
{
    for (uint32_t i = d->digests.count; i > 0; i--) {
        const struct hf_raft_digest *mine = &d->digests.list[i - 1];
        uint64_t theirs;

        if (majority_at(d, mine, &theirs)) {
            if (mine->value != theirs) {
                take_out(d, mine, theirs);
            }
            return;
        }
    }
}

void raft_digests_heard(struct hf_raft_driver *d, const struct hf_raft_found *found)
{
    struct raft_other *o;

    if (!raft_driver_runs(d) || found->node.v == d->options.self.v || !member(d, found->node)) {
        return;
    }
    o = place_of(d, found->node);
    if (o->node.v != found->node.v || o->incarnation != found->incarnation) {
        *o = (struct raft_other){.node = found->node, .incarnation = found->incarnation};
    }
    o->heard_ns = hf_env_boot_ns(d->env);
    o->taken_out = found->taken_out;
    o->digests.count = found->digest_count;
    memcpy(o->digests.list, found->digests, found->digest_count * sizeof(o->digests.list[0]));
    compare(d, o);
    judge(d);
}

void raft_digests_stay_out(struct hf_raft_driver *d)
{
    hf_log(
        HF_LOG_ERROR, "raft", "taken out",
        "node=%u what=\"the metadata of this node differed from those of a majority before it was "
        "restarted: it serves none. Keep a copy of %s for a report, remove it, then restart "
        "holdfastd: the leader fills it again\"",
        d->options.self.v, d->dir);
    raft_driver_stop(d, -HF_EDIFFERS);
}

void raft_digests_status(const struct hf_raft_driver *d, struct hf_raft_driver_status *ret)
{
    for (uint32_t i = 0; i < ret->config.count; i++) {
        const struct raft_other *o = find(d, ret->config.members[i].id);

        if (o) {
            ret->compared[i] = (struct hf_raft_compared){
                .index = o->compared_index, .equal = o->equal, .taken_out = o->taken_out};
        }
    }
}
