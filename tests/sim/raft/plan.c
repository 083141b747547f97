/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <string.h>

/* Clients */

static void propose(struct sim *s, struct node *n)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_PROPOSE};
    const uint32_t count = (uint32_t)hf_sim_rng_between(&s->rng, 1, 6);
    uint64_t value = s->value_next + 1;
    uint32_t sizes[6];
    const uint64_t commit = hf_raft_commit_index(n->raft);
    const bool empty = hf_raft_last_index(n->raft) == commit;

    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = (uint32_t)hf_sim_rng_between(&s->rng, 1, 2000);
    }
    s->value_next += count;
    e.u.propose.bytes = sizes;
    e.u.propose.count = count;
    if (sim_step(s, n, &e, NULL, value) == 0 && !s->failed && !empty &&
        hf_raft_last_index(n->raft) - commit > s->window_max) {
        sim_fail(s, "node %u accepts more than its window", n->id.v);
    }
}

static void read(struct sim *s, struct node *n)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_READ};
    const uint64_t id = n->read_next + 1;

    e.u.read.id = id;
    n->read_floor[id % SIM_READS] = s->acked_index;
    if (hf_raft_role(n->raft) == HF_RAFT_LEADER) {
        n->read_next = id;
    }
    (void)sim_step(s, n, &e, NULL, 0);
}

/* Clients talk to whoever thinks that it leads, the deposed too. */
void sim_client(struct sim *s, uint32_t how)
{
    const bool quiet = s->healed && s->now < SIM_QUIET_END;
    const bool burst = hf_sim_rng_chance(&s->rng, 5);

    for (uint32_t i = 1; i <= SIM_NODES && !s->failed; i++) {
        struct node *n = &s->nodes[i];

        if (!n->up || n->pause_until > s->now || hf_raft_role(n->raft) != HF_RAFT_LEADER) {
            continue;
        }
        if (how == 1) {
            read(s, n);
            continue;
        }
        if (!quiet) {
            for (int k = 0; k < (burst ? 20 : 1) && !s->failed && n->up; k++) {
                propose(s, n);
            }
        }
        if (!s->failed && hf_sim_rng_chance(&s->rng, 60)) {
            read(s, n);
        }
    }
    if (how != 0) {
        return;
    }
    if (s->now >= SIM_QUIET_END && s->reads_after_heal == 0) {
        sim_fail(s, "liveness: no read was served after healing");
    }
    if (s->now < SIM_STOP_AT) {
        (void)sim_at(s, hf_sim_rng_between(&s->rng, 10 * SIM_MS, 120 * SIM_MS), EV_CLIENT, 0);
    }
}

/* The administrator */

static int change(struct sim *s, struct node *leader, enum hf_raft_change what, uint32_t id)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_CONFIG};
    int err;

    e.u.config.change = what;
    e.u.config.node.v = (uint16_t)id;
    err = sim_step(s, leader, &e, NULL, 0);
    sim_trace(s, "change", what, id, (uint64_t)-err);
    if (err == 0 && !s->failed) {
        sim_check_change(s, leader);
    }
    s->changes += err == 0;
    return err;
}

static uint32_t voters(const struct hf_raft_config *config)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < config->count; i++) {
        count += config->members[i].kind == HF_RAFT_VOTER;
    }
    return count;
}

/*
 * Has it committed an entry of its own term? Before that, an addition that it knows nothing of may
 * still be committed by another.
 */
static bool own_term(const struct node *leader)
{
    const struct entry *e = elog_get(&leader->cache, hf_raft_commit_index(leader->raft));

    return e && e->term == hf_raft_term(leader->raft);
}

/* Nodes that are out for good are turned off; their next life is a new store. */
static void retire(struct sim *s, const struct hf_raft_config *config, bool committed)
{
    for (uint32_t i = 1; i <= SIM_NODES && committed; i++) {
        struct node *n = &s->nodes[i];
        const struct hf_node_id id = {(uint16_t)i};

        if (hf_raft_config_has(config, id, HF_RAFT_VOTER) ||
            hf_raft_config_has(config, id, HF_RAFT_LEARNER)) {
            n->outside_since = s->now;
        } else if (n->up && s->now - n->outside_since > 3 * SIM_S) {
            sim_node_wipe(s, n);
        }
    }
}

static void churn(struct sim *s, struct node *leader, const struct hf_raft_config *config)
{
    const uint32_t id = (uint32_t)hf_sim_rng_between(&s->rng, 1, SIM_NODES);
    const struct hf_node_id node = {(uint16_t)id};

    if (hf_raft_config_has(config, node, HF_RAFT_VOTER)) {
        /* Nobody takes a healthy voter away right after another lost its store: the leader may not
         * have noticed yet, and then the majority is gone for good. */
        for (uint32_t i = 0; i < config->count; i++) {
            if (config->members[i].kind == HF_RAFT_VOTER &&
                s->nodes[config->members[i].id.v].wiped) {
                return;
            }
        }
        if (voters(config) > s->voters_first || voters(config) > 3) {
            (void)change(s, leader,
                         hf_sim_rng_chance(&s->rng, 50) ? HF_RAFT_REMOVE : HF_RAFT_DEMOTE, id);
        }
    } else if (!hf_raft_config_has(config, node, HF_RAFT_LEARNER)) {
        if (!s->nodes[id].up) {
            sim_node_wipe(s, &s->nodes[id]);
            sim_node_start(s, &s->nodes[id]);
            s->nodes[id].outside_since = s->now;
        }
        (void)change(s, leader, HF_RAFT_ADD_LEARNER, id);
    } else if (hf_sim_rng_chance(&s->rng, 20)) {
        (void)change(s, leader, HF_RAFT_REMOVE, id);
    }
}

static bool repair(struct sim *s, struct node *leader, const struct hf_raft_config *config)
{
    for (uint32_t i = 0; i < config->count; i++) {
        const struct hf_raft_member m = config->members[i];
        struct hf_raft_peer_status peer;

        if (hf_raft_peer(leader->raft, m.id, &peer)) {
            continue;
        }
        if (m.kind == HF_RAFT_VOTER && peer.abstaining) {
            (void)change(s, leader, HF_RAFT_DEMOTE, m.id.v);
            return true;
        }
        if (m.kind == HF_RAFT_LEARNER && hf_sim_rng_chance(&s->rng, 60)) {
            (void)change(s, leader, HF_RAFT_PROMOTE, m.id.v);
            return true;
        }
    }
    return false;
}

void sim_admin(struct sim *s, bool once)
{
    for (uint32_t k = 1; k <= SIM_NODES && !s->failed; k++) {
        struct node *leader = &s->nodes[k];
        struct hf_raft_config config;
        uint64_t index;

        if (!leader->up || leader->pause_until > s->now ||
            hf_raft_role(leader->raft) != HF_RAFT_LEADER) {
            continue;
        }
        config = *hf_raft_config(leader->raft, &index);
        if (leader == sim_leader(s)) {
            retire(s, &config, index <= hf_raft_commit_index(leader->raft) && own_term(leader));
        }
        if (leader->up && !s->failed && !repair(s, leader, &config) && !s->healed &&
            hf_sim_rng_chance(&s->rng, 30)) {
            churn(s, leader, &config);
        }
        /* at times a second one at once: it must be refused, or wait */
        if (!s->failed && leader->up && hf_sim_rng_chance(&s->rng, 30) && !s->healed &&
            hf_raft_role(leader->raft) == HF_RAFT_LEADER) {
            config = *hf_raft_config(leader->raft, NULL);
            churn(s, leader, &config);
        }
    }
    if (!once && s->now < SIM_STOP_AT) {
        (void)sim_at(s, hf_sim_rng_between(&s->rng, 100 * SIM_MS, 900 * SIM_MS), EV_ADMIN, 0);
    }
}

/* Faults */

static struct node *some_node(struct sim *s)
{
    struct node *leader = sim_leader(s);

    if (leader && hf_sim_rng_chance(&s->rng, 50)) {
        return leader;
    }
    for (int tries = 0; tries < 20; tries++) {
        struct node *n = &s->nodes[hf_sim_rng_between(&s->rng, 1, SIM_NODES)];

        if (n->up) {
            return n;
        }
    }
    return NULL;
}

static void crash(struct sim *s, struct node *n, uint64_t down_max)
{
    sim_node_crash(s, n);
    (void)sim_at(s, hf_sim_rng_between(&s->rng, 10 * SIM_MS, down_max), EV_RESTART, n->id.v);
}

static void crash_all(struct sim *s)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        if (s->nodes[i].up) {
            crash(s, &s->nodes[i], SIM_S);
        }
    }
}

/* A voter's store may be lost, or the end of its log, while every other voter is well: more is
 * beyond any promise. */
static bool wipe(struct sim *s)
{
    struct node *leader = sim_leader(s), *victim = NULL;
    const struct hf_raft_config *config;
    uint64_t index;

    if (!leader) {
        return false;
    }
    config = hf_raft_config(leader->raft, &index);
    for (uint32_t i = 0; i < config->count; i++) {
        struct node *n = &s->nodes[config->members[i].id.v];
        uint64_t at;

        if (!n->up || n->abstain || n->wiped) {
            return false;
        }
        (void)hf_raft_config(n->raft, &at);
        if (at != index) {
            return false; /* somebody knows of another configuration */
        }
        if (config->members[i].kind == HF_RAFT_VOTER && n != leader &&
            (!victim || hf_sim_rng_chance(&s->rng, 50))) {
            victim = n;
        }
    }
    if (!victim || voters(config) < 3 || index > hf_raft_commit_index(leader->raft)) {
        return false;
    }
    if (hf_sim_rng_chance(&s->rng, 50)) {
        sim_node_rot(s, victim);
    } else {
        sim_node_wipe(s, victim);
    }
    (void)sim_at(s, hf_sim_rng_between(&s->rng, SIM_MS, 2 * SIM_S), EV_RESTART, victim->id.v);
    return true;
}

/* Some connections over links that were cut break at once, on both sides; and clients are in a
 * hurry just then: whoever leads now, and whoever led until now, is asked. */
static void break_links(struct sim *s)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        for (uint32_t k = 1; k <= SIM_NODES; k++) {
            if ((s->cut[i][k] || s->cut[k][i]) && hf_sim_rng_chance(&s->rng, 60)) {
                sim_at(s, hf_sim_rng_between(&s->rng, SIM_MS / 10, 4 * SIM_MS), EV_UNREACHABLE, i)
                    ->peer = k;
            }
        }
    }
    for (uint32_t i = 0; i < 8; i++) {
        sim_at(s, hf_sim_rng_below(&s->rng, SIM_TIMEOUT / 2), EV_CLIENT, 0)->arg = 1;
    }
    for (uint32_t i = 0; i < 3; i++) {
        sim_at(s, hf_sim_rng_below(&s->rng, SIM_TIMEOUT / 2), EV_CLIENT, 0)->arg = 2;
    }
}

static void cut(struct sim *s, uint64_t duration)
{
    const unsigned kind = (unsigned)hf_sim_rng_below(&s->rng, 4);
    const struct node *leader = sim_leader(s);
    const uint64_t side = hf_sim_rng_next(&s->rng);
    const uint32_t a = leader && hf_sim_rng_chance(&s->rng, 60)
                           ? leader->id.v
                           : (uint32_t)hf_sim_rng_between(&s->rng, 1, SIM_NODES);

    memset(s->cut, 0, sizeof(s->cut));
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        for (uint32_t k = 1; k <= SIM_NODES; k++) {
            if (kind == 0) { /* two sides */
                s->cut[i][k] = (side >> i & 1) != (side >> k & 1);
            } else if (kind == 1) { /* one alone */
                s->cut[i][k] = (i == a) != (k == a);
            } else if (kind == 2) { /* one way: a speaks and does not hear, or the reverse */
                s->cut[i][k] = side & 1 ? k == a : i == a;
            } else { /* some links, one way or both */
                s->cut[i][k] = hf_sim_rng_chance(&s->rng, 30);
            }
        }
    }
    break_links(s);
    sim_at(s, duration, EV_LINK, 0)->arg = ++s->cut_serial;
}

static void cut_off(struct sim *s, const struct node *n, uint64_t duration)
{
    memset(s->cut, 0, sizeof(s->cut));
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        s->cut[i][n->id.v] = s->cut[n->id.v][i] = i != n->id.v;
    }
    break_links(s);
    sim_at(s, duration, EV_LINK, 0)->arg = ++s->cut_serial;
}

void sim_link(struct sim *s, uint32_t what)
{
    if (what == 0) {
        s->loss = s->dup = s->slow_net = 0;
    } else if (what == s->cut_serial) {
        memset(s->cut, 0, sizeof(s->cut));
    }
}

void sim_transfer(struct sim *s)
{
    struct node *leader = sim_leader(s);
    struct hf_raft_event e = {.type = HF_RAFT_EV_TRANSFER};

    if (leader && s->now < SIM_STOP_AT) {
        e.u.transfer.target.v = (uint16_t)hf_sim_rng_below(&s->rng, SIM_NODES + 1);
        sim_at(s, hf_sim_rng_between(&s->rng, 0, 60 * SIM_MS), EV_CLIENT, 0)->arg = 1;
        s->transfers += sim_step(s, leader, &e, NULL, 0) == 0;
        if (hf_sim_rng_chance(&s->rng,
                              30)) { /* it is told to leave, and does not hear that it did */
            memset(s->cut, 0, sizeof(s->cut));
            for (uint32_t i = 1; i <= SIM_NODES; i++) {
                s->cut[i][leader->id.v] = i != leader->id.v;
            }
            break_links(s);
            sim_at(s, SIM_TIMEOUT / 2, EV_LINK, 0)->arg = ++s->cut_serial;
        }
    }
    if (!s->failed && s->now < SIM_STOP_AT) {
        (void)sim_at(s, hf_sim_rng_between(&s->rng, SIM_S, 10 * SIM_S), EV_TRANSFER, 0);
    }
}

void sim_fault(struct sim *s)
{
    struct node *n = some_node(s);
    const uint64_t duration = hf_sim_rng_between(&s->rng, 100 * SIM_MS, 5 * SIM_S);
    const unsigned kind = (unsigned)hf_sim_rng_below(&s->rng, 13);

    if (s->healed) {
        return;
    }
    if (!n) { /* all are down already */
        (void)sim_at(s, 200 * SIM_MS, EV_FAULT, 0);
        return;
    }
    s->faults++;
    sim_trace(s, "fault", kind, n->id.v, duration);
    switch (kind) {
    case 0:
    case 1:
        crash(s, n, duration);
        break;
    case 2:
        crash_all(s);
        break;
    case 3:
        n->pause_until = s->now + duration;
        /* the first thing it hears when it wakes is a read: it may have been deposed */
        sim_at(s, duration, EV_CLIENT, 0)->arg = 1;
        break;
    case 4:
    case 5:
    case 6:
        cut(s, duration);
        break;
    case 7:
        s->loss = (unsigned)hf_sim_rng_below(&s->rng, 40);
        s->dup = (unsigned)hf_sim_rng_below(&s->rng, 40);
        s->slow_net = (unsigned)hf_sim_rng_below(&s->rng, 30);
        sim_at(s, duration, EV_LINK, 0)->arg = 0;
        break;
    case 8:
        n->slow_until = s->now + 2 * duration;
        n->slow_ns = hf_sim_rng_between(&s->rng, 5 * SIM_MS, 400 * SIM_MS);
        break;
    case 9:
        n->stall_until = s->now + duration;
        break;
    case 10:
        n->fail_until = s->now + duration;
        break;
    case 11:
        if (!wipe(s)) {
            crash(s, n, duration);
        }
        break;
    default: /* alone, with a disk that comes back after the network did: its log is overwritten
                while the writes are still on their way */
        n = sim_leader(s) ? sim_leader(s) : n;
        cut_off(s, n, 400 * SIM_MS + duration / 5);
        n->stall_until = s->now + 500 * SIM_MS + duration / 5 + hf_sim_rng_below(&s->rng, SIM_S);
        break;
    }
}

void sim_heal(struct sim *s)
{
    s->healed = true;
    memset(s->cut, 0, sizeof(s->cut));
    s->loss = s->dup = s->slow_net = 0;
    s->proposed = s->value_next + 1;
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct node *n = &s->nodes[i];

        n->pause_until = n->slow_until = n->stall_until = n->fail_until = 0;
    }
    if (hf_sim_rng_chance(&s->rng, 50)) {
        crash_all(s);
    }
    sim_trace(s, "heal", s->committed_count, s->acked_index, 0);
}

void sim_plan(struct sim *s)
{
    static const uint32_t sizes[] = {1, 3, 3, 5};
    struct hf_raft_config config = {0};

    s->voters_first = sizes[hf_sim_rng_below(&s->rng, 4)];
    s->delay_max = hf_sim_rng_between(&s->rng, SIM_MS, 20 * SIM_MS);
    s->window_max = hf_sim_rng_between(&s->rng, 30, 100);
    s->split_disk = hf_sim_rng_chance(&s->rng, 50);
    s->checkpoint_every = hf_sim_rng_between(&s->rng, 10, 200);
    for (uint32_t i = 1; i <= s->voters_first; i++) {
        config.members[config.count].id.v = (uint16_t)i;
        config.members[config.count++].kind = HF_RAFT_VOTER;
    }
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct node *n = &s->nodes[i];

        n->id.v = (uint16_t)i;
        n->drift_ppm = (int64_t)hf_sim_rng_below(&s->rng, 200000) - 100000;
        elog_reset(&n->disk, 1);
        elog_reset(&n->cache, 1);
        if (i <= s->voters_first) {
            n->snapshot.config = config;
            sim_node_start(s, n);
        }
    }
    for (uint64_t i = hf_sim_rng_between(&s->rng, 4, 25); i > 0; i--) {
        (void)sim_at(s, hf_sim_rng_between(&s->rng, SIM_S, SIM_HEAL_AT - SIM_S), EV_FAULT, 0);
    }
    (void)sim_at(s, 500 * SIM_MS, EV_CLIENT, 0);
    (void)sim_at(s, 700 * SIM_MS, EV_ADMIN, 0);
    (void)sim_at(s, 3 * SIM_S, EV_TRANSFER, 0);
    (void)sim_at(s, SIM_HEAL_AT, EV_HEAL, 0);
}
