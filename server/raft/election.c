/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terms, votes and roles. A vote is a promise kept on disk: it leaves this node only after its
 * PERSIST, and the own vote counts only then too, so a node whose disk is slow cannot be elected by
 * a promise that it might forget.
 */
#include "server/raft/raft_impl.h"

static uint64_t random_next(struct hf_raft *r)
{
    uint64_t z = (r->rng += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void hf_raft_election_rearm(struct hf_raft *r)
{
    const uint64_t timeout = r->options.election_timeout_ns;

    r->election_ns = r->now_ns + timeout + random_next(r) % timeout;
}

static void leave_leadership(struct hf_raft *r)
{
    hf_raft_reads_fail(r);
    for (uint32_t i = 0; i < r->peer_count && !HF_BUG(deposed_keeps_snapshot); i++) {
        hf_raft_snapshot_end(r, &r->peers[i]);
    }
    r->transfer_to.v = 0;
    r->broadcast = false;
}

/* What was learned from the leader of the term before does not hold in the new one. */
static void enter_term(struct hf_raft *r, uint64_t term, struct hf_node_id vote)
{
    r->term = term;
    r->vote = vote;
    r->dirty = true;
    r->verified = 0;
    r->ack_due = false;
    r->last_round = r->last_stream = r->last_prev = 0;
}

void hf_raft_become_follower(struct hf_raft *r, uint64_t term, struct hf_node_id leader)
{
    HF_ASSERT(term >= r->term || HF_BUG(old_term_append));
    if (r->role == HF_RAFT_LEADER) {
        leave_leadership(r);
    }
    if (HF_BUG(step_down_forgets_vote) && term == r->term && r->role == HF_RAFT_CANDIDATE) {
        r->vote.v = 0;
        r->dirty = true;
    }
    if (term != r->term) {
        enter_term(r, term, (struct hf_node_id){0});
    }
    r->role = HF_RAFT_FOLLOWER;
    r->leader = leader;
    hf_raft_election_rearm(r);
}

/* A leader is alive as far as this node can tell: nobody needs an election. */
static bool leader_lives(const struct hf_raft *r)
{
    return r->role == HF_RAFT_LEADER ||
           (r->leader.v != 0 && r->now_ns - r->heard_ns < r->options.election_timeout_ns);
}

void hf_raft_promise(struct hf_raft *r)
{
    r->promised_until_ns = r->now_ns + r->options.lease_ns + r->options.lease_ns / 4;
    if (HF_BUG(lease_no_promise)) {
        r->promised_until_ns = 0;
    }
}

/* Its connection broke: it died, or this node is cut off from it. The others are asked soon; they
 * refuse as long as they hear it. */
void hf_raft_leader_lost(struct hf_raft *r)
{
    const uint64_t timeout = r->options.election_timeout_ns;

    if (HF_BUG(lost_leader_frees)) {
        r->promised_until_ns = 0;
    }
    r->heard_ns = r->now_ns > timeout ? r->now_ns - timeout : 0;
    r->election_ns = raft_min(r->election_ns, raft_max(r->now_ns, r->promised_until_ns) +
                                                  random_next(r) % r->options.heartbeat_ns);
}

static bool up_to_date(const struct hf_raft *r, const struct hf_raft_msg *m)
{
    const uint64_t last_term = hf_raft_log_term(&r->log, r->log.last);

    return m->u.vote.last_term > last_term ||
           (m->u.vote.last_term == last_term && m->u.vote.last_index >= r->log.last) ||
           HF_BUG(vote_stale_log);
}

static void answer_vote(struct hf_raft *r, const struct hf_raft_msg *m, bool granted)
{
    const bool pre = m->type == HF_RAFT_MSG_PREVOTE;
    struct hf_raft_msg *out =
        hf_raft_send(r, pre ? HF_RAFT_MSG_PREVOTE_RESULT : HF_RAFT_MSG_VOTE_RESULT, m->from);

    out->u.vote_result.granted = granted;
    if (pre && granted) {
        out->term = m->term; /* the term asked about, not one this node is in */
    }
}

int hf_raft_on_vote(struct hf_raft *r, const struct hf_raft_msg *m)
{
    const bool pre = m->type == HF_RAFT_MSG_PREVOTE;
    const bool may = !r->abstain || HF_BUG(abstain_votes);

    if (m->term > r->term && (leader_lives(r) || r->now_ns < r->promised_until_ns) &&
        (pre || !m->u.vote.transfer)) {
        return 0;
    }
    if (pre) {
        answer_vote(r, m, may && m->term > r->term && up_to_date(r, m));
        return 0;
    }
    if (m->term > r->term) {
        hf_raft_become_follower(r, m->term, (struct hf_node_id){0});
    }
    if (may && m->term == r->term && r->role != HF_RAFT_LEADER && up_to_date(r, m) &&
        (r->vote.v == m->from.v || r->vote.v == 0 || HF_BUG(vote_twice))) {
        if (r->vote.v != m->from.v) {
            r->vote = m->from;
            r->dirty = r->dirty || !HF_BUG(vote_in_known_term);
        }
        hf_raft_election_rearm(r);
        answer_vote(r, m, true);
    } else {
        answer_vote(r, m, false);
    }
    return 0;
}

/* Campaigns */

static void become_leader(struct hf_raft *r)
{
    r->role = HF_RAFT_LEADER;
    r->leader = r->options.self;
    r->term_start = r->log.last + 1;
    r->round = 0;
    r->lease_void = false;
    r->transfer_to.v = 0;
    r->reading.first_id = r->waiting.first_id = 0;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];

        p->incarnation = 0;
        p->abstaining = false;
        hf_raft_peer_reset(r, p, r->log.last + 1);
        if (p->id.v == r->options.self.v) {
            p->match = HF_BUG(leader_counts_unflushed) ? r->log.last : r->durable;
        }
    }
    if (!HF_BUG(no_noop)) {
        hf_raft_append_own(r, HF_RAFT_ENTRY_NOOP, NULL);
    }
    r->heartbeat_at_ns = r->now_ns + r->options.heartbeat_ns;
    r->broadcast = true;
}

static void start_votes(struct hf_raft *r, bool pre)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];

        p->granted = p->granted && !pre && HF_BUG(prevotes_count);
        if (p->voter && p->id.v != r->options.self.v) {
            struct hf_raft_msg *m =
                hf_raft_send(r, pre ? HF_RAFT_MSG_PREVOTE : HF_RAFT_MSG_VOTE, p->id);

            m->term = pre ? r->term + 1 : r->term;
            m->u.vote.last_index = r->log.last;
            m->u.vote.last_term = hf_raft_log_term(&r->log, r->log.last);
            m->u.vote.transfer = !pre && r->transfer_vote;
        }
    }
}

static bool won(const struct hf_raft *r)
{
    uint32_t granted = 0;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        granted += r->peers[i].voter && r->peers[i].granted;
    }
    return granted >= hf_raft_quorum(r);
}

static void grant_own(struct hf_raft *r)
{
    struct peer *self = hf_raft_find(r, r->options.self);

    if (self) {
        self->granted = true;
    }
}

static void campaign_for_real(struct hf_raft *r)
{
    r->role = HF_RAFT_CANDIDATE;
    r->leader.v = 0;
    enter_term(r, r->term + 1, r->options.self);
    r->campaign_seq = r->persist_seq + 1;
    r->own_vote_durable = false;
    hf_raft_election_rearm(r);
    start_votes(r, false);
    if (HF_BUG(own_vote_early)) {
        r->own_vote_durable = true;
        grant_own(r);
        if (won(r)) {
            become_leader(r);
        }
    }
}

/* A voter; or one that was until an entry that may not be committed: if the others lack that entry,
 * they need this node, whose log is longer, to bring it to them (Raft thesis, 4.2.2). */
static bool electable(const struct hf_raft *r)
{
    return hf_raft_self_votes(r) ||
           (r->config.index > r->commit && r->config_prev.valid &&
            hf_raft_config_has(&r->config_prev.config, r->options.self, HF_RAFT_VOTER));
}

/* A node that could not write what it promises, or whose log is in doubt, does not ask for votes.
 */
static bool may_campaign(const struct hf_raft *r)
{
    return electable(r) && !r->abstain &&
           (!r->incoming.installing || HF_BUG(campaign_during_install)) && !r->rewrite_due &&
           r->persisted_seq == r->persist_seq && !r->dirty && r->term < HF_RAFT_NUMBER_MAX &&
           !hf_raft_write_stalled(r, r->options.election_timeout_ns / 2);
}

void hf_raft_campaign(struct hf_raft *r, bool transfer)
{
    if (!may_campaign(r)) {
        hf_raft_become_follower(r, r->term, transfer ? r->leader : (struct hf_node_id){0});
        return;
    }
    if (!transfer && r->now_ns < r->promised_until_ns && hf_raft_quorum(r) > 1) {
        r->election_ns = r->promised_until_ns;
        return;
    }
    r->transfer_vote = transfer;
    if (transfer) {
        campaign_for_real(r);
        return;
    }
    r->role = HF_RAFT_PRE_CANDIDATE;
    r->leader.v = 0;
    hf_raft_election_rearm(r);
    start_votes(r, true);
    grant_own(r);
    if (won(r)) {
        campaign_for_real(r);
    }
}

int hf_raft_on_vote_result(struct hf_raft *r, const struct hf_raft_msg *m)
{
    const bool pre = m->type == HF_RAFT_MSG_PREVOTE_RESULT;
    struct peer *p = hf_raft_find(r, m->from);

    if (m->term > r->term && !(pre && m->u.vote_result.granted)) {
        hf_raft_become_follower(r, m->term, (struct hf_node_id){0});
        return 0;
    }
    if (!p || !m->u.vote_result.granted) {
        return 0;
    }
    if (pre && r->role == HF_RAFT_PRE_CANDIDATE && m->term == r->term + 1) {
        p->granted = true;
        if (won(r)) {
            campaign_for_real(r);
        }
    } else if (!pre && r->role == HF_RAFT_CANDIDATE && m->term == r->term) {
        p->granted = true;
        if (r->own_vote_durable && won(r)) {
            become_leader(r);
        }
    }
    return 0;
}

int hf_raft_on_timeout_now(struct hf_raft *r, const struct hf_raft_msg *m)
{
    if (m->term == r->term && r->role == HF_RAFT_FOLLOWER && r->leader.v == m->from.v) {
        hf_raft_campaign(r, true);
    }
    return 0;
}

int hf_raft_on_persisted(struct hf_raft *r, const struct hf_raft_event *ev)
{
    if (ev->u.persisted.seq == 0 || ev->u.persisted.seq > r->persist_seq) {
        return -EINVAL;
    }
    if (ev->u.persisted.seq <= r->persisted_seq) {
        return 0;
    }
    if (ev->u.persisted.err) {
        if (ev->u.persisted.seq == r->persist_seq) {
            r->persist_failed = true;
            r->persist_retry_ns = r->now_ns + r->options.heartbeat_ns;
        }
        if (r->role == HF_RAFT_CANDIDATE) {
            hf_raft_become_follower(r, r->term, (struct hf_node_id){0});
        }
        return 0;
    }
    r->persisted_seq = ev->u.persisted.seq;
    if (r->role == HF_RAFT_CANDIDATE && r->persisted_seq >= r->campaign_seq) {
        r->own_vote_durable = true;
        grant_own(r);
        if (won(r)) {
            become_leader(r);
        }
    }
    return 0;
}

/* Clocks */

static bool quorum_heard(const struct hf_raft *r)
{
    uint32_t heard = 0;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];

        heard += (p->voter || HF_BUG(learner_quorum)) &&
                 (p->id.v == r->options.self.v ||
                  r->now_ns - p->heard_ns < r->options.election_timeout_ns);
    }
    return heard >= hf_raft_quorum(r) || HF_BUG(no_check_quorum) || HF_BUG(deposed_reads);
}

static void leader_tick(struct hf_raft *r)
{
    const bool stalled =
        hf_raft_write_stalled(r, r->options.election_timeout_ns) && !HF_BUG(no_stall_check);

    if (stalled || !quorum_heard(r)) {
        hf_raft_become_follower(r, r->term, (struct hf_node_id){0});
        return;
    }
    if (r->transfer_to.v != 0 && r->now_ns >= r->transfer_until_ns) {
        r->transfer_to.v = 0; /* it did not take over in time: go on */
    }
    if (r->now_ns >= r->heartbeat_at_ns) {
        r->heartbeat_at_ns = r->now_ns + r->options.heartbeat_ns;
        hf_raft_round_begin(r);
        r->broadcast = true;
    }
}

void hf_raft_on_tick(struct hf_raft *r)
{
    if (r->persist_failed && r->now_ns >= r->persist_retry_ns) {
        r->dirty = true;
    }
    if (hf_raft_rewrites(r) && r->now_ns >= r->rewrite_at_ns) {
        hf_raft_rewrite(r);
    }
    if (r->role == HF_RAFT_LEADER) {
        leader_tick(r);
    } else if (r->now_ns >= r->election_ns) {
        hf_raft_campaign(r, false);
    }
}

uint64_t hf_raft_deadline_ns(const struct hf_raft *r)
{
    uint64_t at = r->role == HF_RAFT_LEADER ? r->heartbeat_at_ns : r->election_ns;

    if (r->role == HF_RAFT_LEADER && r->transfer_to.v != 0) {
        at = raft_min(at, r->transfer_until_ns);
    }
    if (r->persist_failed) {
        at = raft_min(at, r->persist_retry_ns);
    }
    if (hf_raft_rewrites(r)) {
        at = raft_min(at, r->rewrite_at_ns);
    }
    return at;
}
