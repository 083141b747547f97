/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

#define U(x) ((unsigned long long)(x))

/* Log matching: (index, term) names one entry, with one predecessor, everywhere. By induction two
 * logs that share it agree on everything before. */
void sim_check_entry(struct sim *s, struct node *n, uint64_t index, uint64_t prev_term,
                     const struct entry *e)
{
    struct origins *o;

    if (index >= s->origins_room) {
        const uint64_t room = index * 2 + 256;

        s->origins = realloc(s->origins, room * sizeof(*s->origins));
        HF_ASSERT(s->origins);
        memset(s->origins + s->origins_room, 0, (room - s->origins_room) * sizeof(*s->origins));
        s->origins_room = room;
    }
    o = &s->origins[index];
    for (uint32_t i = 0; i < o->count; i++) {
        if (o->at[i].term != e->term) {
            continue;
        }
        if (o->at[i].prev_term == 0) {
            o->at[i].prev_term = prev_term;
        }
        if (o->at[i].value != e->value || o->at[i].type != e->type ||
            (prev_term && o->at[i].prev_term != prev_term)) {
            sim_fail(s, "log matching: node %u entry %llu of term %llu", n->id.v, U(index),
                     U(e->term));
        }
        return;
    }
    o->at = realloc(o->at, (o->count + 1) * sizeof(*o->at));
    HF_ASSERT(o->at);
    o->at[o->count++] = (struct origin){
        .term = e->term, .prev_term = prev_term, .value = e->value, .type = e->type};
}

void sim_check_apply(struct sim *s, struct node *n, uint64_t index, const struct entry *e)
{
    if (index > s->committed_count) {
        sim_fail(s, "node %u applies %llu, committed nowhere", n->id.v, U(index));
    } else if (s->committed[index - 1].term != e->term ||
               s->committed[index - 1].value != e->value) {
        sim_fail(s, "state machine safety: node %u applies (%llu, term %llu), others term %llu",
                 n->id.v, U(index), U(e->term), U(s->committed[index - 1].term));
    } else if (s->committed[index - 1].hash != sim_hash(n->hash, e->value)) {
        sim_fail(s, "node %u differs in state at %llu", n->id.v, U(index));
    }
}

void sim_check_snapshot(struct sim *s, const struct node *n, const struct checkpoint *c)
{
    if (c->index == 0) {
        return;
    }
    if (c->index > s->committed_count || s->committed[c->index - 1].hash != c->hash ||
        s->committed[c->index - 1].term != c->term) {
        sim_fail(s, "snapshot of node %u at %llu is not the state there", n->id.v, U(c->index));
    }
}

/* Election safety, and leader completeness: all that older terms committed is in its log. */
void sim_check_leader(struct sim *s, struct node *n)
{
    const uint64_t term = hf_raft_term(n->raft);
    uint64_t i = s->committed_count, held;

    s->elections++;
    for (uint64_t k = 0; k < s->leaders_count; k++) {
        if (s->leaders[k].term == term && s->leaders[k].leader != n->id.v) {
            sim_fail(s, "election safety: %u and %u lead term %llu", s->leaders[k].leader, n->id.v,
                     U(term));
        }
    }
    if (s->leaders_count == s->leaders_room) {
        s->leaders_room = s->leaders_room ? s->leaders_room * 2 : 64;
        s->leaders = realloc(s->leaders, s->leaders_room * sizeof(*s->leaders));
        HF_ASSERT(s->leaders);
    }
    s->leaders[s->leaders_count].term = term;
    s->leaders[s->leaders_count++].leader = n->id.v;
    while (i > 0 && s->committed[i - 1].commit_term >= term) {
        i--;
    }
    if (i == 0 || i < hf_raft_base_index(n->raft)) {
        return;
    }
    if (hf_raft_term_at(n->raft, i, &held) || held != s->committed[i - 1].term) {
        sim_fail(s, "leader completeness: %u leads term %llu without committed entry %llu", n->id.v,
                 U(term), U(i));
    }
}

/* What a node said binds it: no two votes in a term, no falling term, no acknowledged entry gone.
 */
void sim_check_sent(struct sim *s, struct node *n, const struct hf_raft_msg *m)
{
    const bool pre = m->type == HF_RAFT_MSG_PREVOTE || m->type == HF_RAFT_MSG_PREVOTE_RESULT;
    struct hf_node_id to = m->to;

    if (pre) {
        return;
    }
    if (m->term > n->told_term) {
        n->told_term = m->term;
    }
    if ((m->type == HF_RAFT_MSG_VOTE_RESULT && m->u.vote_result.granted) ||
        m->type == HF_RAFT_MSG_VOTE) {
        if (m->type == HF_RAFT_MSG_VOTE) {
            to = n->id;
        }
        if (n->voted_term == m->term && n->voted_for.v != to.v) {
            sim_fail(s, "node %u votes for %u and %u in term %llu", n->id.v, n->voted_for.v, to.v,
                     U(m->term));
        }
        n->voted_term = m->term;
        n->voted_for = to;
        if (n->abstain) {
            sim_fail(s, "node %u votes while it abstains", n->id.v);
        }
    }
    if (m->type == HF_RAFT_MSG_APPEND_RESULT && m->u.append_result.status == HF_RAFT_OK) {
        if (n->acked_term != m->term) {
            n->acked_term = m->term;
            n->acked_match = 0;
        }
        if (m->u.append_result.match_index > n->acked_match) {
            n->acked_match = m->u.append_result.match_index;
        }
    }
}

static bool holds(const struct node *n, uint64_t index, uint64_t term)
{
    const struct entry *e = elog_get(&n->disk, index);

    return n->wiped || n->abstain || n->snapshot.index >= index || (e && e->term == term);
}

/* At its first commitment an entry is on the disks of a majority. */
static void check_durable(struct sim *s, const struct node *n, uint64_t index, uint64_t term)
{
    const struct hf_raft_config *config = hf_raft_config(n->raft, NULL);
    uint32_t voters = 0, have = 0;

    for (uint32_t i = 0; i < config->count; i++) {
        const struct node *m = &s->nodes[config->members[i].id.v];

        if (config->members[i].kind == HF_RAFT_VOTER) {
            voters++;
            have += holds(m, index, term);
        }
    }
    if (have < voters / 2 + 1) {
        sim_fail(s, "node %u commits %llu with %u of %u disks", n->id.v, U(index), have, voters);
    }
}

void sim_check_commit(struct sim *s, struct node *n, uint64_t from, uint64_t to)
{
    const uint64_t known = s->committed_count;

    if (to < from) {
        sim_fail(s, "commit of node %u falls from %llu to %llu", n->id.v, U(from), U(to));
    }
    for (uint64_t i = s->committed_count + 1; i <= to && !s->failed; i++) {
        const struct entry *e = elog_get(&n->cache, i);
        const uint64_t hash = i > 1 ? s->committed[i - 2].hash : 0;

        if (!e) {
            sim_fail(s, "node %u commits %llu without having it", n->id.v, U(i));
            return;
        }
        if (s->committed_count == s->committed_room) {
            s->committed_room = s->committed_room ? s->committed_room * 2 : 1024;
            s->committed = realloc(s->committed, s->committed_room * sizeof(*s->committed));
            HF_ASSERT(s->committed);
        }
        s->committed[s->committed_count++] = (struct committed){
            .term = e->term,
            .value = e->value,
            .hash = sim_hash(hash, e->value),
            .commit_term = hf_raft_term(n->raft),
        };
    }
    if (to > known && !s->failed && hf_raft_role(n->raft) == HF_RAFT_LEADER &&
        s->committed[to - 1].term != hf_raft_term(n->raft)) {
        sim_fail(s, "node %u commits %llu of term %llu in term %llu by counting", n->id.v, U(to),
                 U(s->committed[to - 1].term), U(hf_raft_term(n->raft)));
    }
    if (to > known && !s->failed) {
        check_durable(s, n, to, s->committed[to - 1].term);
    }
    n->last_commit = to;
}

/* Members change only behind an entry of the leader's own term. */
void sim_check_change(struct sim *s, struct node *n)
{
    const uint64_t commit = hf_raft_commit_index(n->raft);

    if (hf_raft_role(n->raft) == HF_RAFT_LEADER &&
        (commit == 0 || s->committed[commit - 1].term != hf_raft_term(n->raft))) {
        sim_fail(s, "node %u changes members before it committed anything in term %llu", n->id.v,
                 U(hf_raft_term(n->raft)));
    }
}

void sim_check_start(struct sim *s, struct node *n)
{
    if (hf_raft_term(n->raft) < n->told_term) {
        sim_fail(s, "node %u comes back in term %llu after it spoke in %llu", n->id.v,
                 U(hf_raft_term(n->raft)), U(n->told_term));
    }
    n->last_term = hf_raft_term(n->raft);
}

static void check_leading(struct sim *s, struct node *n)
{
    const uint64_t now = sim_local(s, n);
    const struct hf_raft_config *config = hf_raft_config(n->raft, NULL);
    uint32_t voters = 0, heard = 0;
    uint64_t config_index;
    struct hf_raft_peer_status peer;

    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].kind != HF_RAFT_VOTER) {
            continue;
        }
        voters++;
        heard += config->members[i].id.v == n->id.v ||
                 (hf_raft_peer(n->raft, config->members[i].id, &peer) == 0 &&
                  now - peer.heard_ns < 2 * SIM_TIMEOUT);
    }
    if (heard < voters / 2 + 1) {
        sim_fail(s, "node %u leads on without a quorum", n->id.v);
    }
    for (const struct op *op = n->disks[0].first; op; op = NULL) {
        if (op->type == OP_APPEND && now - op->since_local_ns > 2 * SIM_TIMEOUT &&
            op->epoch == hf_raft_epoch(n->raft) && op->last > hf_raft_durable_index(n->raft)) {
            sim_fail(s, "node %u leads on with a stalled disk", n->id.v);
        }
    }
    (void)hf_raft_config(n->raft, &config_index);
    if (config_index <= hf_raft_commit_index(n->raft) &&
        !hf_raft_config_has(config, n->id, HF_RAFT_VOTER)) {
        sim_fail(s, "node %u leads on after its removal", n->id.v);
    }
}

void sim_check_node(struct sim *s, struct node *n, bool tick)
{
    const uint64_t term = hf_raft_term(n->raft), last = hf_raft_last_index(n->raft);
    uint64_t held;

    hf_raft_check_invariants(n->raft);
    if (term < n->last_term) {
        sim_fail(s, "term of node %u falls from %llu to %llu", n->id.v, U(n->last_term), U(term));
    }
    n->last_term = term;
    if (term != 0 && n->voted_term == term && n->voted_for.v != hf_raft_vote(n->raft).v) {
        sim_fail(s, "node %u forgets its vote in term %llu", n->id.v, U(term));
    }
    if (n->acked_term == term && last < n->acked_match) {
        sim_fail(s, "node %u drops what it acknowledged, up to %llu", n->id.v, U(n->acked_match));
    }
    if (hf_raft_commit_index(n->raft) < n->last_commit) {
        sim_fail(s, "commit of node %u falls", n->id.v);
    }
    /* after a failed write the driver may hold more, until it is told to write again */
    if (last > hf_raft_base_index(n->raft) &&
        (!elog_get(&n->cache, last) || hf_raft_term_at(n->raft, last, &held) ||
         held != elog_get(&n->cache, last)->term)) {
        sim_fail(s, "node %u: the core's log and the driver's differ at %llu", n->id.v, U(last));
    }
    if (hf_raft_durable_index(n->raft) > n->snapshot.index &&
        (!elog_get(&n->disk, hf_raft_durable_index(n->raft)) ||
         hf_raft_term_at(n->raft, hf_raft_durable_index(n->raft), &held) ||
         elog_get(&n->disk, hf_raft_durable_index(n->raft))->term != held)) {
        sim_fail(s, "node %u: %llu is not on its disk", n->id.v, U(hf_raft_durable_index(n->raft)));
    }
    if (tick && hf_raft_role(n->raft) == HF_RAFT_LEADER && !s->failed) {
        check_leading(s, n);
    }
}

/* After healing: new proposals committed, reads served, every member equal. */
void sim_check_end(struct sim *s)
{
    const struct node *leader = sim_leader(s);
    const struct hf_raft_config *config;

    if (!leader) {
        sim_fail(s, "liveness: no leader at the end");
        return;
    }
    if (s->commits_after_heal == 0) {
        sim_fail(s, "liveness: nothing proposed after healing was committed");
        return;
    }
    config = hf_raft_config(leader->raft, NULL);
    for (uint32_t i = 0; i < config->count; i++) {
        const struct node *n = &s->nodes[config->members[i].id.v];

        if (!n->up || n->applied != hf_raft_last_index(leader->raft) || n->hash != leader->hash) {
            sim_fail(s, "liveness: node %u is at %llu, the leader at %llu", n->id.v, U(n->applied),
                     U(hf_raft_last_index(leader->raft)));
        }
    }
}
