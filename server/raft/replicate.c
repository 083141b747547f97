/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leader's view of its peers.
 *
 *     PROBE --prev matched--> REPLICATE      rejected, unreachable, another store: back to PROBE
 *       \--behind the trimmed head--> SNAPSHOT --installed--> PROBE
 *
 * A probe is an empty append, repeated with each heartbeat, so losing one costs nothing. In
 * REPLICATE messages follow each other up to the window; a heartbeat carries the index before next
 * as prev, so a lost message shows as a rejection. `stream` numbers each start from PROBE: results
 * of older streams are not believed, which keeps apart two stores that answered to one id.
 */
#include "server/raft/raft_impl.h"

#include <string.h>

static void inflight_clear(struct peer *p)
{
    p->inflight_first = p->inflight_count = 0;
    p->inflight_bytes = 0;
}

static void inflight_add(struct peer *p, uint64_t last_index, uint64_t bytes)
{
    HF_ASSERT(p->inflight_count < HF_RAFT_INFLIGHT_MAX);
    p->inflight[(p->inflight_first + p->inflight_count) % HF_RAFT_INFLIGHT_MAX] =
        (struct inflight){.last_index = last_index, .bytes = bytes};
    p->inflight_count++;
    p->inflight_bytes += bytes;
}

static void inflight_acked(struct peer *p, uint64_t match)
{
    while (p->inflight_count && p->inflight[p->inflight_first].last_index <= match &&
           !HF_BUG(inflight_leak)) {
        p->inflight_bytes -= p->inflight[p->inflight_first].bytes;
        p->inflight_first = (p->inflight_first + 1) % HF_RAFT_INFLIGHT_MAX;
        p->inflight_count--;
    }
}

void hf_raft_peer_probe(struct hf_raft *r, struct peer *p, uint64_t next)
{
    hf_raft_snapshot_end(r, p);
    p->state = PEER_PROBE;
    p->next = HF_BUG(probe_below_match) ? next : raft_max(p->match + 1, next);
    p->probe_sent = false;
    p->stream = ++r->streams;
    if (!HF_BUG(inflight_leak)) {
        inflight_clear(p);
    }
}

void hf_raft_peer_reset(struct hf_raft *r, struct peer *p, uint64_t next)
{
    p->match = 0;
    p->whole = false;
    p->acked_round = 0;
    p->heard_ns = r->now_ns;
    inflight_clear(p);
    hf_raft_peer_probe(r, p, next);
}

bool hf_raft_peer_same_store(struct hf_raft *r, struct peer *p, uint64_t incarnation)
{
    const bool same = p->incarnation == 0 || p->incarnation == incarnation;

    p->incarnation = incarnation;
    if (!same) {
        hf_raft_peer_reset(r, p, r->log.last + 1);
    }
    return same;
}

void hf_raft_peer_matched(struct hf_raft *r, struct peer *p, uint64_t match)
{
    inflight_acked(p, match);
    if (match > p->match) {
        p->match = match;
        p->next = raft_max(p->next, match + 1);
        hf_raft_try_commit(r);
    }
}

/* What the majority of the voters holds. */
static uint64_t quorum_match(const struct hf_raft *r)
{
    uint64_t match[HF_RAFT_MEMBERS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        uint64_t m = p->match;
        uint32_t at = count;

        if (!p->voter && !HF_BUG(learner_counts) &&
            !(HF_BUG(demoted_leader_counts) && p->id.v == r->options.self.v)) {
            continue;
        }
        if (HF_BUG(leader_counts_unflushed) && p->id.v == r->options.self.v) {
            m = r->log.last;
        }
        for (; at > 0 && match[at - 1] < m; at--) {
            match[at] = match[at - 1];
        }
        match[at] = m;
        count++;
    }
    return count < hf_raft_quorum(r) ? 0 : match[hf_raft_quorum(r) - 1];
}

void hf_raft_try_commit(struct hf_raft *r)
{
    uint64_t index;

    if (r->role != HF_RAFT_LEADER) {
        return;
    }
    index = quorum_match(r);
    /* Entries of older terms are committed only behind one of this term: counting their replicas
     * proves nothing (Raft, figure 8). */
    if (index > r->commit &&
        (hf_raft_log_term(&r->log, index) == r->term || HF_BUG(commit_old_term))) {
        hf_raft_commit_to(r, index);
    }
}

/* Sending */

static void send_append(struct hf_raft *r, struct peer *p, uint64_t prev, uint32_t count)
{
    struct hf_raft_msg *m = hf_raft_send(r, HF_RAFT_MSG_APPEND, p->id);

    m->u.append.prev_index = prev;
    m->u.append.prev_term = prev ? hf_raft_log_term(&r->log, prev) : 0;
    m->u.append.count = count;
    m->u.append.commit_index = r->commit;
    m->u.append.round = r->round;
    m->u.append.stream = p->stream;
    m->u.append.incarnation = p->incarnation;
    if (!p->voter && r->config.index <= r->commit) {
        m->u.append.rejoin_index = r->commit;
    }
}

/* How many entries from next on make one message within the limits; 0: the window is full. */
static uint32_t batch(const struct hf_raft *r, const struct peer *p, uint64_t *ret_bytes)
{
    const struct hf_raft_options *o = &r->options;
    uint64_t limit = o->batch_bytes_max, bytes = 0;
    uint32_t count = 0;

    if (p->inflight_count >= o->inflight_msgs_max) {
        return 0;
    }
    if (p->inflight_count) {
        if (p->inflight_bytes >= o->inflight_bytes_max) {
            return 0;
        }
        limit = raft_min(limit, o->inflight_bytes_max - p->inflight_bytes);
    }
    while (p->next + count <= r->log.last && count < o->batch_entries_max) {
        const uint64_t next_bytes = hf_raft_log_bytes(&r->log, p->next - 1, p->next + count);

        if (next_bytes > limit && (count || p->inflight_count)) {
            break;
        }
        bytes = next_bytes;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

static void replicate(struct hf_raft *r, struct peer *p)
{
    uint32_t sent = 0;

    while (sent < RAFT_SENDS_PER_STEP) {
        uint64_t bytes;
        const uint32_t count = batch(r, p, &bytes);

        if (count == 0) {
            break;
        }
        send_append(r, p, p->next - 1, count);
        p->next += count;
        inflight_add(p, p->next - 1, bytes);
        sent++;
    }
    if (r->broadcast && sent == 0) {
        send_append(r, p, p->next - 1, 0);
    }
}

void hf_raft_pump(struct hf_raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];

        if (p->id.v == r->options.self.v) {
            continue;
        }
        if (p->state != PEER_SNAPSHOT && p->next <= r->log.base && !p->abstaining &&
            (r->broadcast || !p->snapshot.none || p->state == PEER_REPLICATE)) {
            hf_raft_snapshot_begin(r, p);
        }
        switch (p->state) {
        case PEER_PROBE:
            if (r->broadcast || !p->probe_sent) {
                /* a peer that abstains may be asked about what is trimmed: 0 always matches */
                const uint64_t prev = p->next <= r->log.base ? 0 : p->next - 1;

                p->probe_sent = true;
                send_append(r, p, prev, 0);
            }
            break;
        case PEER_REPLICATE:
            replicate(r, p);
            break;
        case PEER_SNAPSHOT:
            if (r->broadcast) {
                send_append(r, p, 0, 0); /* alive, and matches anything */
            }
            hf_raft_snapshot_pump(r, p);
            break;
        }
    }
    r->broadcast = false;
}

/* Results */

static void rejected(struct hf_raft *r, struct peer *p, const struct hf_raft_msg *m)
{
    const uint64_t prev = m->u.append_result.prev_index;
    const bool probed = p->state == PEER_PROBE && prev == p->next - 1;
    /* In this stream nothing but the newest probe asks from there: its disk has lost what it
     * acknowledged. It is not counted for any of it, and goes on from what it has. */
    const bool lost = probed && prev == p->match && prev > 0;
    uint64_t next = m->u.append_result.hint_index;

    if (p->state == PEER_SNAPSHOT || (prev <= p->match && !lost) ||
        (p->state == PEER_PROBE && !probed)) {
        return; /* late: it speaks of a message before the last change of direction */
    }
    if (HF_BUG(probe_never_backs_up)) {
        p->probe_sent = false;
        return;
    }
    if (m->u.append_result.hint_term != 0) {
        /* If this log has the peer's term, the two agree at most up to its end there. */
        const uint64_t end = hf_raft_log_term_end(&r->log, prev, m->u.append_result.hint_term);

        if (hf_raft_log_term(&r->log, end) == m->u.append_result.hint_term) {
            next = end + 1;
        }
    }
    next = raft_max(raft_min(next, prev), 1);
    if (lost) {
        hf_raft_peer_reset(r, p, next);
    } else if (p->state == PEER_PROBE) {
        p->next = raft_max(p->match + 1, next);
        p->probe_sent = false;
    } else {
        hf_raft_peer_probe(r, p, next);
    }
}

static void matched(struct hf_raft *r, struct peer *p, const struct hf_raft_msg *m)
{
    const uint64_t match = m->u.append_result.match_index;

    if (p->state == PEER_PROBE &&
        (m->u.append_result.prev_index == p->next - 1 || match >= p->next - 1)) {
        p->state = PEER_REPLICATE;
    }
    hf_raft_peer_matched(r, p, match);
}

/* Neither a quorum nor a read counts it. What an earlier store held is gone; and should this answer
 * be late, from before it was readmitted, then a new stream makes the next answers decide. */
static void abstains(struct hf_raft *r, struct peer *p)
{
    if (!p->abstaining) {
        p->abstaining = true;
        p->match = 0;
        hf_raft_peer_probe(r, p, p->next);
        p->probe_sent = true;
    }
}

int hf_raft_on_append_result(struct hf_raft *r, const struct hf_raft_msg *m)
{
    struct peer *p = hf_raft_find(r, m->from);

    if (m->term > r->term) {
        hf_raft_become_follower(r, m->term, (struct hf_node_id){0});
        return 0;
    }
    if (r->role != HF_RAFT_LEADER || !p ||
        ((m->term < r->term || m->u.append_result.stream != p->stream) &&
         !HF_BUG(result_of_old_term))) {
        return 0;
    }
    if (m->u.append_result.match_index > r->log.last ||
        m->u.append_result.prev_index > r->log.last || m->u.append_result.round > r->round) {
        return -EBADMSG;
    }
    if (!hf_raft_peer_same_store(r, p, m->u.append_result.incarnation)) {
        return 0;
    }
    p->whole = m->u.append_result.whole;
    if (m->u.append_result.status == HF_RAFT_ABSTAIN) {
        abstains(r, p);
        return 0;
    }
    p->abstaining = false;
    p->heard_ns = r->now_ns;
    p->acked_round = raft_max(p->acked_round, m->u.append_result.round);
    switch (m->u.append_result.status) {
    case HF_RAFT_OK:
        matched(r, p, m);
        break;
    case HF_RAFT_REJECT:
        rejected(r, p, m);
        break;
    case HF_RAFT_BUSY:
    case HF_RAFT_ABSTAIN:
        break;
    }
    return 0;
}

int hf_raft_on_unreachable(struct hf_raft *r, struct hf_node_id id)
{
    struct peer *p = hf_raft_find(r, id);

    if (r->role == HF_RAFT_FOLLOWER && r->leader.v == id.v && id.v != 0) {
        hf_raft_leader_lost(r);
        return 0;
    }
    if (r->role != HF_RAFT_LEADER || !p || id.v == r->options.self.v) {
        return 0;
    }
    if (HF_BUG(send_error_advances) && p->state == PEER_REPLICATE) {
        hf_raft_peer_matched(r, p, p->next - 1);
    }
    if (p->state == PEER_REPLICATE) {
        /* What it acknowledged it still has; what was on the way is in doubt. The next heartbeat
         * asks, not this step: a dead connection would only fail again. */
        hf_raft_peer_probe(r, p, p->match + 1);
        p->probe_sent = true;
    } else if (p->state == PEER_SNAPSHOT) {
        p->snapshot.sent_ns = 0; /* the chunk is sent again with the next heartbeat */
    }
    return 0;
}
