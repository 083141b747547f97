/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/raft_impl.h"

static void check_log(const struct hf_raft *r)
{
    uint64_t term = r->log.base_term;

    HF_ASSERT(r->log.base <= r->commit && r->commit <= r->log.last);
    HF_ASSERT(r->log.base <= r->durable && r->durable <= r->log.last);
    HF_ASSERT(r->verified <= r->log.last);
    HF_ASSERT(r->log.last - r->log.base <= r->log.capacity);
    for (uint64_t i = r->log.base + 1; i <= r->log.last; i++) {
        const uint64_t next = hf_raft_log_term(&r->log, i);

        HF_ASSERT(next >= term && next <= r->term);
        term = next;
    }
}

static void check_config(const struct hf_raft *r)
{
    HF_ASSERT(r->config.valid && r->config.index <= r->log.last);
    HF_ASSERT(r->config.config.count == 0 || hf_raft_config_valid(&r->config.config));
    HF_ASSERT(!r->config_prev.valid || r->config_prev.index < r->config.index);
    HF_ASSERT(r->peer_count == r->config.config.count);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        HF_ASSERT(r->peers[i].id.v == r->config.config.members[i].id.v);
        HF_ASSERT(r->peers[i].voter == (r->config.config.members[i].kind == HF_RAFT_VOTER));
    }
}

static void check_peer(const struct hf_raft *r, const struct peer *p)
{
    uint64_t bytes = 0, last = 0;

    HF_ASSERT(p->match < p->next && p->next <= r->log.last + 1);
    HF_ASSERT(p->acked_round <= r->round);
    HF_ASSERT(p->inflight_count <= r->options.inflight_msgs_max);
    HF_ASSERT(p->inflight_count == 0 || p->state == PEER_REPLICATE);
    HF_ASSERT((p->state == PEER_SNAPSHOT) == (p->snapshot.asked || p->snapshot.open));
    for (uint32_t i = 0; i < p->inflight_count; i++) {
        const struct inflight *f = &p->inflight[(p->inflight_first + i) % HF_RAFT_INFLIGHT_MAX];

        HF_ASSERT(f->last_index > last && f->last_index < p->next);
        last = f->last_index;
        bytes += f->bytes;
    }
    HF_ASSERT(bytes == p->inflight_bytes);
}

static void check_leader(const struct hf_raft *r)
{
    HF_ASSERT(r->leader.v == r->options.self.v);
    HF_ASSERT(!r->abstain && !r->rewrite_due && !r->incoming.installing);
    HF_ASSERT(r->persisted_seq == r->persist_seq); /* its term and its vote are on disk */
    HF_ASSERT(r->term_start <= r->log.last);
    HF_ASSERT(r->waiting.first_id == 0 || r->reading.first_id != 0 || r->commit < r->term_start);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id.v != r->options.self.v) {
            check_peer(r, &r->peers[i]);
        } else {
            HF_ASSERT(r->peers[i].match <= r->durable);
        }
    }
}

void hf_raft_check_invariants(const struct hf_raft *r)
{
    HF_ASSERT(r->out == NULL);
    HF_ASSERT(!r->dirty || r->election_ns == 0); /* dirty when made, the first step persists it */
    HF_ASSERT(r->persisted_seq <= r->persist_seq);
    check_log(r);
    check_config(r);
    HF_ASSERT(!r->incoming.installing || r->role == HF_RAFT_FOLLOWER);
    if (r->role == HF_RAFT_LEADER) {
        check_leader(r);
    } else {
        HF_ASSERT(r->leader.v != r->options.self.v);
        HF_ASSERT(r->reading.first_id == 0 && r->waiting.first_id == 0);
        HF_ASSERT(r->transfer_to.v == 0);
    }
    if (r->role == HF_RAFT_CANDIDATE) {
        HF_ASSERT(r->vote.v == r->options.self.v);
    }
}
