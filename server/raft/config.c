/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two configurations are kept, the latest and the one before. That is enough: a leader appends a
 * change only after an entry of its own term is committed, and with it every configuration before;
 * so no log anywhere holds more than one that may still be dropped.
 */
#include "server/raft/raft_impl.h"

#include <string.h>

bool hf_raft_config_has(const struct hf_raft_config *config, struct hf_node_id id,
                        enum hf_raft_member_kind kind)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].id.v == id.v) {
            return config->members[i].kind == kind;
        }
    }
    return false;
}

bool hf_raft_config_valid(const struct hf_raft_config *config)
{
    uint32_t voters = 0;

    if (config->count == 0 || config->count > HF_RAFT_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < config->count; i++) {
        const struct hf_raft_member *m = &config->members[i];

        if (m->id.v <= (i ? config->members[i - 1].id.v : 0) ||
            (m->kind != HF_RAFT_VOTER && m->kind != HF_RAFT_LEARNER)) {
            return false;
        }
        voters += m->kind == HF_RAFT_VOTER;
    }
    return voters > 0;
}

struct peer *hf_raft_find(struct hf_raft *r, struct hf_node_id id)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id.v == id.v) {
            return &r->peers[i];
        }
    }
    return NULL;
}

uint32_t hf_raft_quorum(const struct hf_raft *r)
{
    uint32_t voters = 0;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        voters += r->peers[i].voter || HF_BUG(learner_counts);
    }
    return voters / 2 + 1;
}

bool hf_raft_self_votes(const struct hf_raft *r)
{
    return hf_raft_config_has(&r->config.config, r->options.self, HF_RAFT_VOTER);
}

/* Keeps what is known of the members that stay. */
void hf_raft_peers_rebuild(struct hf_raft *r)
{
    const struct hf_raft_config *config = &r->config.config;
    const uint32_t old_count = r->peer_count;
    struct peer old[HF_RAFT_MEMBERS_MAX];

    memcpy(old, r->peers, sizeof(old[0]) * old_count);
    r->peer_count = config->count;
    for (uint32_t i = 0; i < config->count; i++) {
        struct peer *p = &r->peers[i];
        uint32_t k = 0;

        while (k < old_count && old[k].id.v != config->members[i].id.v) {
            k++;
        }
        if (HF_BUG(rebuild_by_position) && k < old_count) {
            old[k].match = i < old_count ? old[i].match : 0;
        }
        if (k < old_count) {
            *p = old[k];
            old[k].snapshot.asked = old[k].snapshot.open = false; /* moved, not lost */
        } else {
            memset(p, 0, sizeof(*p));
            p->id = config->members[i].id;
            hf_raft_peer_reset(r, p, r->log.last + 1);
        }
        p->voter = config->members[i].kind == HF_RAFT_VOTER;
    }
    for (uint32_t k = 0; k < old_count && !HF_BUG(removed_keeps_snapshot); k++) {
        hf_raft_snapshot_end(r, &old[k]);
    }
}

void hf_raft_config_set(struct hf_raft *r, uint64_t index, const struct hf_raft_config *config)
{
    r->config_prev = r->config;
    r->config.index = index;
    r->config.valid = true;
    r->config.config = *config;
    hf_raft_peers_rebuild(r);
}

bool hf_raft_config_can_drop(const struct hf_raft *r, uint64_t from)
{
    return r->config.index < from || (r->config_prev.valid && r->config_prev.index < from);
}

void hf_raft_config_drop(struct hf_raft *r, uint64_t from)
{
    if (r->config.index < from || HF_BUG(config_no_rollback)) {
        return;
    }
    HF_ASSERT(r->config_prev.valid && r->config_prev.index < from);
    r->config = r->config_prev;
    r->config_prev.valid = false;
    hf_raft_peers_rebuild(r);
}

/* The configuration after one change, or why not. */
static int change(const struct hf_raft *r, enum hf_raft_change what, struct hf_node_id id,
                  struct hf_raft_config *ret)
{
    uint32_t at = 0;
    bool member;

    *ret = r->config.config;
    while (at < ret->count && ret->members[at].id.v < id.v) {
        at++;
    }
    member = at < ret->count && ret->members[at].id.v == id.v;
    if (what == HF_RAFT_ADD_LEARNER) {
        if (member) {
            return -EEXIST;
        }
        if (ret->count == HF_RAFT_MEMBERS_MAX) {
            return -ENOSPC;
        }
        memmove(&ret->members[at + 1], &ret->members[at],
                sizeof(ret->members[0]) * (ret->count - at));
        ret->members[at] = (struct hf_raft_member){.id = id, .kind = HF_RAFT_LEARNER};
        ret->count++;
        return 0;
    }
    if (!member) {
        return -ENOENT;
    }
    if (what == HF_RAFT_REMOVE) {
        memmove(&ret->members[at], &ret->members[at + 1],
                sizeof(ret->members[0]) * (ret->count - at - 1));
        ret->count--;
        memset(&ret->members[ret->count], 0, sizeof(ret->members[0]));
    } else {
        const uint8_t kind = what == HF_RAFT_PROMOTE ? HF_RAFT_VOTER : HF_RAFT_LEARNER;

        if (ret->members[at].kind == kind) {
            return -EEXIST;
        }
        ret->members[at].kind = kind;
    }
    return hf_raft_config_valid(ret) ? 0 : -EPERM;
}

static bool heard(const struct hf_raft *r, const struct peer *p)
{
    return r->now_ns - p->heard_ns < r->options.election_timeout_ns;
}

/* A learner that lags, or that would come back abstaining, would cost the cluster a vote it cannot
 * use. */
static bool caught_up(const struct hf_raft *r, const struct peer *p)
{
    return p && p->whole && p->state == PEER_REPLICATE &&
           p->match + r->options.promote_lag_max >= r->log.last && heard(r, p);
}

/* Taking a healthy voter away must not leave the majority to those that are gone or abstain. */
static bool quorum_stays(struct hf_raft *r, const struct hf_raft_config *next)
{
    uint32_t voters = 0, well = 0;

    for (uint32_t i = 0; i < next->count; i++) {
        const struct peer *p = hf_raft_find(r, next->members[i].id);

        if (next->members[i].kind == HF_RAFT_VOTER) {
            voters++;
            well += p && (p->id.v == r->options.self.v || (p->whole && heard(r, p)));
        }
    }
    return well >= voters / 2 + 1;
}

int hf_raft_on_config(struct hf_raft *r, const struct hf_raft_event *ev)
{
    const enum hf_raft_change what = ev->u.config.change;
    struct hf_raft_config next;
    int err;

    if (what < HF_RAFT_ADD_LEARNER || what > HF_RAFT_REMOVE || ev->u.config.node.v == 0) {
        return -EINVAL;
    }
    if (r->role != HF_RAFT_LEADER) {
        return -HF_ENOTLEADER;
    }
    if (r->config.index > (HF_BUG(config_own_disk) ? r->durable : r->commit) &&
        !HF_BUG(config_two_at_once)) {
        return -EBUSY;
    }
    /* Without this, two leaders in turn could each commit with a majority that misses the other's
     * (the single-server bug of 2015). */
    if (((HF_BUG(change_own_disk) ? r->durable : r->commit) < r->term_start &&
         !HF_BUG(config_before_own_commit)) ||
        r->transfer_to.v != 0 || r->log.last - r->log.base >= r->options.log_entries_max) {
        return -EAGAIN;
    }
    err = change(r, what, ev->u.config.node, &next);
    if (err) {
        return err;
    }
    if (what == HF_RAFT_PROMOTE && !caught_up(r, hf_raft_find(r, ev->u.config.node))) {
        return -EAGAIN;
    }
    if (what != HF_RAFT_ADD_LEARNER && !quorum_stays(r, &next)) {
        return -EAGAIN;
    }
    hf_raft_append_own(r, HF_RAFT_ENTRY_CONFIG, &next);
    hf_raft_try_commit(r); /* a smaller quorum may already hold what is there */
    return 0;
}
