/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, for a peer whose next entry is trimmed: the leader's driver pins a checkpoint, the
 * core paces its chunks, one on the way at a time.
 *
 *     leader     OPEN --opened--> chunk -> result(offset) -> chunk ... -> result(match) --> PROBE
 *     follower   WRITE --written--> result(offset) ... INSTALL --installed--> result(match)
 *
 * What a snapshot holds is committed, so it stays true whoever leads; a follower whose log already
 * has its last entry needs none and says so. While one is being installed the log stands still.
 */
#include "server/raft/raft_impl.h"

#include <string.h>

/* Leader */

void hf_raft_snapshot_begin(struct hf_raft *r, struct peer *p)
{
    hf_raft_peer_probe(r, p, p->next);
    p->state = PEER_SNAPSHOT;
    memset(&p->snapshot, 0, sizeof(p->snapshot));
    p->snapshot.asked = true;
    hf_raft_act(r, HF_RAFT_ACT_SNAPSHOT_OPEN)->u.snapshot.peer = p->id;
}

void hf_raft_snapshot_end(struct hf_raft *r, struct peer *p)
{
    if (p->snapshot.asked || p->snapshot.open) {
        hf_raft_act(r, HF_RAFT_ACT_SNAPSHOT_CLOSE)->u.snapshot.peer = p->id;
        p->snapshot.asked = p->snapshot.open = false;
    }
}

void hf_raft_snapshot_pump(struct hf_raft *r, struct peer *p)
{
    struct peer_snapshot *s = &p->snapshot;
    struct hf_raft_msg *m;

    if (!s->open || (s->chunk_sent && !(r->broadcast && r->now_ns - s->sent_ns >=
                                                            r->options.election_timeout_ns / 2))) {
        return;
    }
    s->chunk_sent = true;
    s->sent_ns = r->now_ns;
    m = hf_raft_send(r, HF_RAFT_MSG_SNAPSHOT, p->id);
    m->u.snapshot.index = s->index;
    m->u.snapshot.snapshot_term = s->term;
    m->u.snapshot.offset_bytes = s->offset_bytes;
    m->u.snapshot.total_bytes = s->total_bytes;
    m->u.snapshot.stream = p->stream;
    m->u.snapshot.len_bytes =
        (uint32_t)raft_min(r->options.snapshot_chunk_bytes, s->total_bytes - s->offset_bytes);
    m->u.snapshot.config = s->config;
}

int hf_raft_on_snapshot_opened(struct hf_raft *r, const struct hf_raft_event *ev)
{
    struct peer *p = hf_raft_find(r, ev->u.snapshot_opened.peer);

    if (r->role != HF_RAFT_LEADER || !p || p->state != PEER_SNAPSHOT || !p->snapshot.asked) {
        return -EINVAL; /* it was closed before */
    }
    if (ev->u.snapshot_opened.err) {
        p->snapshot.asked = false; /* nothing to close */
        hf_raft_peer_probe(r, p, p->next);
        p->probe_sent = p->snapshot.none = true;
        return 0;
    }
    if (ev->u.snapshot_opened.index < r->log.base || ev->u.snapshot_opened.index > r->commit ||
        !ev->u.snapshot_opened.config || !hf_raft_config_valid(ev->u.snapshot_opened.config) ||
        hf_raft_log_term(&r->log, ev->u.snapshot_opened.index) != ev->u.snapshot_opened.term) {
        hf_raft_peer_probe(r, p, p->next);
        p->probe_sent = p->snapshot.none = true;
        return -EINVAL;
    }
    p->snapshot.asked = false;
    p->snapshot.open = true;
    p->snapshot.index = ev->u.snapshot_opened.index;
    p->snapshot.term = ev->u.snapshot_opened.term;
    p->snapshot.total_bytes = ev->u.snapshot_opened.total_bytes;
    p->snapshot.config = *ev->u.snapshot_opened.config;
    return 0;
}

int hf_raft_on_snapshot_result(struct hf_raft *r, const struct hf_raft_msg *m)
{
    struct peer *p = hf_raft_find(r, m->from);
    const uint64_t match = m->u.snapshot_result.match_index;

    if (m->term > r->term) {
        hf_raft_become_follower(r, m->term, (struct hf_node_id){0});
        return 0;
    }
    if (r->role != HF_RAFT_LEADER || !p || m->term < r->term ||
        m->u.snapshot_result.stream != p->stream) {
        return 0;
    }
    if (match > r->log.last || !hf_raft_peer_same_store(r, p, m->u.snapshot_result.incarnation)) {
        return match > r->log.last ? -EBADMSG : 0;
    }
    p->heard_ns = r->now_ns;
    if (p->state != PEER_SNAPSHOT || !p->snapshot.open ||
        m->u.snapshot_result.index != p->snapshot.index) {
        return 0;
    }
    if (match != 0) {
        hf_raft_peer_matched(r, p, match);
        hf_raft_peer_probe(r, p, match + 1);
    } else if (m->u.snapshot_result.offset_bytes > p->snapshot.total_bytes) {
        return -EBADMSG;
    } else if (m->u.snapshot_result.offset_bytes != p->snapshot.offset_bytes) {
        p->snapshot.offset_bytes = m->u.snapshot_result.offset_bytes;
        p->snapshot.chunk_sent = false;
    }
    return 0;
}

/* Follower */

static void answer(struct hf_raft *r, const struct incoming_snapshot *in, uint64_t match)
{
    struct hf_raft_msg *m;

    if (r->leader.v == 0 || r->leader.v != in->from.v) {
        return; /* another leads now; it will find out by itself */
    }
    m = hf_raft_send(r, HF_RAFT_MSG_SNAPSHOT_RESULT, in->from);
    m->u.snapshot_result.index = in->index;
    m->u.snapshot_result.offset_bytes = in->held_bytes;
    m->u.snapshot_result.stream = in->stream;
    m->u.snapshot_result.incarnation = r->options.incarnation;
    m->u.snapshot_result.match_index = match;
}

/* The log already reaches over the snapshot: it is committed up to there. */
static bool covered(struct hf_raft *r, const struct incoming_snapshot *in)
{
    if (in->index > r->commit &&
        (in->index > r->log.last || hf_raft_log_term(&r->log, in->index) != in->term)) {
        return false;
    }
    hf_raft_commit_to(r, in->index);
    r->verified = raft_max(r->verified, in->index);
    hf_raft_check_whole(r);
    if (r->durable >= in->index) {
        answer(r, in, in->index);
    }
    return true;
}

static bool same_transfer(const struct incoming_snapshot *a, const struct incoming_snapshot *b)
{
    return a->from.v == b->from.v && a->index == b->index && a->term == b->term &&
           a->total_bytes == b->total_bytes && a->stream == b->stream;
}

/* The next chunk goes to the disk; any other says what is held. */
static void take_chunk(struct hf_raft *r, const struct hf_raft_msg *m)
{
    struct incoming_snapshot *in = &r->incoming;
    struct hf_raft_action *a;

    if (m->u.snapshot.offset_bytes != in->held_bytes) {
        answer(r, in, 0);
        return;
    }
    in->writing = true;
    in->writing_end_bytes = m->u.snapshot.offset_bytes + m->u.snapshot.len_bytes;
    a = hf_raft_act(r, HF_RAFT_ACT_SNAPSHOT_WRITE);
    a->u.snapshot.peer = m->from;
    a->u.snapshot.index = in->index;
    a->u.snapshot.term = in->term;
    a->u.snapshot.offset_bytes = m->u.snapshot.offset_bytes;
    a->u.snapshot.len_bytes = m->u.snapshot.len_bytes;
    a->u.snapshot.total_bytes = in->total_bytes;
}

int hf_raft_on_snapshot(struct hf_raft *r, const struct hf_raft_msg *m)
{
    const struct incoming_snapshot new = {
        .from = m->from,
        .index = m->u.snapshot.index,
        .term = m->u.snapshot.snapshot_term,
        .total_bytes = m->u.snapshot.total_bytes,
        .stream = m->u.snapshot.stream,
        .config = m->u.snapshot.config,
    };

    if (m->term < r->term && !HF_BUG(old_term_snapshot)) {
        struct hf_raft_msg *out = hf_raft_send(r, HF_RAFT_MSG_SNAPSHOT_RESULT, m->from);

        out->u.snapshot_result.incarnation = r->options.incarnation; /* the term is what counts */
        return 0;
    }
    if (m->term == r->term &&
        (r->role == HF_RAFT_LEADER || (r->leader.v != 0 && r->leader.v != m->from.v))) {
        return -EBADMSG;
    }
    hf_raft_become_follower(r, m->term, m->from);
    r->heard_ns = r->now_ns;
    if ((r->abstain && r->rejoin_index == 0) || r->incoming.installing || r->rewrite_due) {
        return 0; /* sent again later */
    }
    if (covered(r, &new)) {
        r->incoming.from.v = 0;
        return 0;
    }
    if (r->incoming.writing) {
        return 0;
    }
    if (!same_transfer(&r->incoming, &new)) {
        r->incoming = new;
    }
    take_chunk(r, m);
    return 0;
}

int hf_raft_on_snapshot_written(struct hf_raft *r, const struct hf_raft_event *ev)
{
    struct incoming_snapshot *in = &r->incoming;
    struct hf_raft_action *a;

    if (in->installing || !in->writing ||
        ev->u.snapshot_written.end_bytes != in->writing_end_bytes) {
        return -EINVAL;
    }
    in->writing = false;
    if (in->from.v == 0) {
        return 0; /* the log got there first */
    }
    if (ev->u.snapshot_written.err) {
        in->from.v = 0;
        return 0;
    }
    in->held_bytes = ev->u.snapshot_written.end_bytes;
    if (in->held_bytes < in->total_bytes) {
        answer(r, in, 0);
        return 0;
    }
    if (covered(r, in) || r->rewrite_due || r->role != HF_RAFT_FOLLOWER) {
        in->from.v = 0;
        return 0;
    }
    in->installing = true;
    a = hf_raft_act(r, HF_RAFT_ACT_SNAPSHOT_INSTALL);
    a->u.snapshot.peer = in->from;
    a->u.snapshot.index = in->index;
    a->u.snapshot.term = in->term;
    a->u.snapshot.total_bytes = in->total_bytes;
    a->u.snapshot.config = in->config;
    return 0;
}

int hf_raft_on_snapshot_installed(struct hf_raft *r, const struct hf_raft_event *ev)
{
    struct incoming_snapshot in = r->incoming;

    if (!in.installing || ev->u.snapshot_installed.index != in.index) {
        return -EINVAL;
    }
    r->incoming.installing = false;
    r->incoming.from.v = 0;
    if (ev->u.snapshot_installed.err) {
        return 0;
    }
    HF_ASSERT(in.index > r->commit);
    if (HF_BUG(snapshot_keeps_log) && in.index < r->log.last) {
        hf_raft_commit_to(r, in.index);
        r->commit_told = in.index;
        return 0;
    }
    hf_raft_log_reset(&r->log, in.index, HF_BUG(snapshot_wrong_term) ? r->term : in.term);
    r->epoch++; /* writes under way belong to a log that is gone */
    r->fail_epoch = r->epoch;
    r->durable = in.index;
    r->commit = r->commit_told = in.index;
    r->verified = raft_max(r->verified, in.index);
    r->rewrite_due = r->ack_due = false;
    r->config_prev.valid = false;
    r->config = (struct config_at){.index = in.index, .valid = true, .config = in.config};
    hf_raft_peers_rebuild(r);
    hf_raft_check_whole(r);
    answer(r, &in, in.index);
    return 0;
}
