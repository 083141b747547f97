/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearizable reads without a log entry (Raft, section 6.4). A read may be served at the commit
 * index of its round's start once a majority has answered a heartbeat of that round or a later one:
 * then no newer leader can have committed anything before the read began. Reads that arrive while a
 * round is under way wait for the next, so a round serves them all.
 */
#include "server/raft/raft_impl.h"

void hf_raft_round_begin(struct hf_raft *r)
{
    r->round++;
    r->round_began_ns[r->round % RAFT_ROUNDS_KEPT] = r->now_ns;
}

/* A majority will elect nobody else for a while: what is committed here is all there is. */
static bool lease_holds(const struct hf_raft *r)
{
    const uint64_t lease_ns = r->options.lease_ns * (HF_BUG(lease_too_long) ? 3 : 1);
    uint32_t count = 0;

    if (lease_ns == 0 ||
        ((r->lease_void || r->transfer_to.v != 0) && !HF_BUG(lease_after_transfer))) {
        return false;
    }
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        const bool answered = p->acked_round > 0 && r->round - p->acked_round < RAFT_ROUNDS_KEPT;

        count += p->voter &&
                 (p->id.v == r->options.self.v ||
                  (answered &&
                   r->now_ns < lease_ns + r->round_began_ns[p->acked_round % RAFT_ROUNDS_KEPT]));
    }
    return count >= hf_raft_quorum(r);
}

static void ready(struct hf_raft *r, struct read_batch *batch, uint64_t index)
{
    struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_READ_READY);

    a->u.read.first_id = batch->first_id;
    a->u.read.last_id = batch->last_id;
    a->u.read.index = index;
    batch->first_id = 0;
}

static void begin_round(struct hf_raft *r)
{
    if (r->reading.first_id != 0 || r->waiting.first_id == 0 ||
        (r->commit < r->term_start && !HF_BUG(read_before_own_commit))) {
        return; /* before an entry of its own term is committed a leader does not know what is */
    }
    if (lease_holds(r)) {
        ready(r, &r->waiting, r->commit);
        return;
    }
    r->reading = r->waiting;
    r->waiting.first_id = 0;
    r->reading.index = r->commit;
    if (!HF_BUG(read_old_round)) {
        hf_raft_round_begin(r);
    }
    r->reading.round = r->round;
    r->broadcast = true; /* beside the heartbeats: those also look at the disk and the quorum */
}

static bool confirmed(const struct hf_raft *r)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];

        count += (p->voter || HF_BUG(learner_confirms)) &&
                 (p->id.v == r->options.self.v || p->acked_round >= r->reading.round);
    }
    return count >= hf_raft_quorum(r) || HF_BUG(read_no_round);
}

void hf_raft_reads_advance(struct hf_raft *r)
{
    begin_round(r);
    while (r->reading.first_id != 0 && confirmed(r)) {
        ready(r, &r->reading, r->reading.index);
        begin_round(r);
    }
}

int hf_raft_on_read(struct hf_raft *r, uint64_t id)
{
    if (r->role != HF_RAFT_LEADER) {
        return -HF_ENOTLEADER;
    }
    if (id == 0) {
        return -EINVAL;
    }
    if (r->waiting.first_id == 0) {
        r->waiting.first_id = r->waiting.last_id = id;
    } else if (id == r->waiting.last_id + 1) {
        r->waiting.last_id = id;
    } else {
        return -EINVAL;
    }
    return 0;
}

static void fail(struct hf_raft *r, struct read_batch *batch)
{
    if (batch->first_id != 0) {
        struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_READ_FAILED);

        a->u.read.first_id = batch->first_id;
        a->u.read.last_id = batch->last_id;
        batch->first_id = 0;
    }
}

void hf_raft_reads_fail(struct hf_raft *r)
{
    fail(r, &r->reading);
    fail(r, &r->waiting);
}
