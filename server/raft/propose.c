/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/raft_impl.h"

/* Refuse what would grow the part of the log that nobody confirmed: one proposal always fits an
 * empty window. */
static bool window_full(const struct hf_raft *r, uint32_t count, uint64_t bytes)
{
    const uint64_t entries =
        r->log.last - (HF_BUG(window_of_log) ? raft_max(r->commit, r->durable) : r->commit);
    const uint64_t held = r->log.last - r->log.base;

    if (held + count > r->options.log_entries_max) {
        return true;
    }
    if (HF_BUG(no_backpressure) || entries == 0) {
        return false;
    }
    return entries + count > r->options.window_entries_max ||
           hf_raft_log_bytes(&r->log, r->commit, r->log.last) + bytes > r->options.window_bytes_max;
}

int hf_raft_on_propose(struct hf_raft *r, const struct hf_raft_event *ev)
{
    const uint32_t count = ev->u.propose.count;
    struct hf_raft_action *a;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++) {
        bytes += ev->u.propose.bytes[i];
    }
    if (r->role != HF_RAFT_LEADER) {
        return -HF_ENOTLEADER;
    }
    if (r->transfer_to.v != 0 || window_full(r, count, bytes)) {
        return -EAGAIN;
    }
    a = hf_raft_act(r, HF_RAFT_ACT_APPEND);
    a->u.append.first_index = r->log.last + 1;
    a->u.append.last_index = r->log.last + count;
    a->u.append.epoch = r->epoch;
    a->u.append.source = HF_RAFT_FROM_PROPOSAL;
    hf_raft_write_begins(r);
    for (uint32_t i = 0; i < count; i++) {
        hf_raft_log_push(&r->log, r->term, HF_RAFT_ENTRY_NORMAL, ev->u.propose.bytes[i]);
    }
    hf_raft_try_commit(r);
    return 0;
}

/* Leadership transfer */

static struct peer *furthest_voter(struct hf_raft *r)
{
    struct peer *best = NULL;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];

        if (p->voter && p->id.v != r->options.self.v && !p->abstaining &&
            (!best || p->match > best->match)) {
            best = p;
        }
    }
    return best;
}

int hf_raft_on_transfer(struct hf_raft *r, struct hf_node_id target)
{
    struct peer *p = target.v ? hf_raft_find(r, target) : furthest_voter(r);

    if (r->role != HF_RAFT_LEADER) {
        return -HF_ENOTLEADER;
    }
    if (r->transfer_to.v != 0) {
        return -EBUSY;
    }
    if (!p || !p->voter || p->abstaining) {
        return -ENOENT;
    }
    if (p->id.v == r->options.self.v) {
        return -EEXIST;
    }
    if (r->commit < r->term_start) {
        return -EAGAIN;
    }
    r->transfer_to = p->id;
    r->transfer_sent = false;
    r->transfer_until_ns = r->now_ns + r->options.election_timeout_ns;
    return 0;
}

void hf_raft_transfer_pump(struct hf_raft *r)
{
    const struct peer *p;

    if (r->transfer_to.v == 0 || r->transfer_sent) {
        return;
    }
    p = hf_raft_find(r, r->transfer_to);
    if (!p || !p->voter) {
        r->transfer_to.v = 0;
    } else if (p->match == r->log.last) {
        r->transfer_sent = true;
        r->lease_void = true; /* late, it may still elect another */
        hf_raft_send(r, HF_RAFT_MSG_TIMEOUT_NOW, p->id);
    }
}
