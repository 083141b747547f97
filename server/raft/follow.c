/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A follower's side of the log. Three marks tell what may be said about it:
 *
 *     commit <= last,   durable <= last,   verified: this term's leader holds the same up to here
 *
 * What is acknowledged is min(durable, verified): never what the leader did not check, never what
 * a power cut could take. A write that failed takes everything above durable with it, except what
 * is committed (others hold that): those entries are written again.
 */
#include "server/raft/raft_impl.h"

static struct hf_raft_msg *reply(struct hf_raft *r, enum hf_raft_status status)
{
    struct hf_raft_msg *m = hf_raft_send(r, HF_RAFT_MSG_APPEND_RESULT, r->leader);

    m->u.append_result.status = status;
    m->u.append_result.prev_index = r->last_prev;
    m->u.append_result.round = r->last_round;
    m->u.append_result.stream = r->last_stream;
    m->u.append_result.incarnation = r->options.incarnation;
    m->u.append_result.whole = !r->abstain;
    return m;
}

static void reply_ok(struct hf_raft *r)
{
    uint64_t match = raft_min(r->verified, r->durable);

    if (HF_BUG(ack_whole_log)) {
        match = r->durable;
    } else if (HF_BUG(ack_before_durable)) {
        match = r->verified;
    }
    reply(r, HF_RAFT_OK)->u.append_result.match_index = match;
}

/* Where the leader should go on: behind this log's end, or at the start of the term in conflict. */
static void reply_reject(struct hf_raft *r, uint64_t prev)
{
    struct hf_raft_msg *m = reply(r, HF_RAFT_REJECT);

    if (prev > r->log.last) {
        m->u.append_result.hint_index = r->log.last + 1;
    } else {
        m->u.append_result.hint_term = hf_raft_log_term(&r->log, prev);
        m->u.append_result.hint_index = hf_raft_log_term_start(&r->log, prev, r->commit);
    }
}

/* An abstaining node goes on only when the leader, who knows this very store, says that it is a
 * learner now: then nothing that it forgot can be counted. */
static bool readmitted(struct hf_raft *r, const struct hf_raft_msg *m)
{
    if (r->rejoin_index == 0 && m->u.append.rejoin_index != 0 &&
        m->u.append.incarnation == r->options.incarnation) {
        r->rejoin_index = m->u.append.rejoin_index;
    }
    return r->rejoin_index != 0 || HF_BUG(abstain_acks);
}

void hf_raft_check_whole(struct hf_raft *r)
{
    if (r->abstain && r->rejoin_index != 0 &&
        raft_min(r->verified, r->durable) >= r->rejoin_index) {
        r->abstain = false;
        r->dirty = true; /* what rests on it leaves after the PERSIST of this step */
        hf_raft_act(r, HF_RAFT_ACT_ABSTAIN_END);
    }
}

void hf_raft_log_drop(struct hf_raft *r, uint64_t from)
{
    HF_ASSERT(from > r->commit);
    if (HF_BUG(drop_durable_keeps) && from <= r->durable) {
        r->epoch--; /* not raised below */
    }
    hf_raft_config_drop(r, from);
    hf_raft_log_truncate(&r->log, from);
    r->durable = raft_min(r->durable, from - 1);
    r->verified = raft_min(r->verified, from - 1);
    r->epoch++;
}

/* The first entry of the message that the log does not hold; count when it holds them all.
 * Errors: -EBADMSG  the message contradicts what is committed */
static int first_new(const struct hf_raft *r, const struct hf_raft_msg *m,
                     const struct hf_raft_head *heads, uint32_t *ret)
{
    uint32_t i = 0;

    for (; i < m->u.append.count; i++) {
        const uint64_t index = m->u.append.prev_index + 1 + i;

        if (index < r->log.base) {
            continue;
        }
        if (index > r->log.last) {
            break;
        }
        if (hf_raft_log_term(&r->log, index) != heads[i].term &&
            !(HF_BUG(no_conflict_check) && index > r->commit)) {
            if (index <= r->commit) {
                return -EBADMSG;
            }
            break;
        }
        if (HF_BUG(truncate_always) && index > r->commit) {
            break;
        }
    }
    *ret = i;
    return 0;
}

/* Entries skip .. of the message become the end of the log. */
static int take_entries(struct hf_raft *r, const struct hf_raft_msg *m,
                        const struct hf_raft_head *heads, uint32_t skip)
{
    const uint64_t first = m->u.append.prev_index + 1 + skip;
    struct hf_raft_action *a;

    if (first <= r->log.last) {
        if (!hf_raft_config_can_drop(r, first)) {
            return -EBADMSG; /* would drop a configuration that must be committed */
        }
        hf_raft_log_drop(r, first);
    }
    hf_raft_write_begins(r);
    for (uint32_t i = skip; i < m->u.append.count; i++) {
        hf_raft_log_push(&r->log, heads[i].term, heads[i].type, heads[i].bytes);
        if (heads[i].type == HF_RAFT_ENTRY_CONFIG) {
            hf_raft_config_set(r, r->log.last, heads[i].config);
        }
    }
    a = hf_raft_act(r, HF_RAFT_ACT_APPEND);
    a->u.append.first_index = first;
    a->u.append.last_index = r->log.last;
    a->u.append.epoch = r->epoch;
    a->u.append.source = HF_RAFT_FROM_MESSAGE;
    a->u.append.skip = skip;
    return 0;
}

/* The message comes from the leader of this term, and this log may be changed. */
static int take_append(struct hf_raft *r, const struct hf_raft_msg *m,
                       const struct hf_raft_head *heads, bool new_round)
{
    const uint64_t prev = m->u.append.prev_index;
    const uint64_t checked = prev + m->u.append.count;
    uint32_t skip;
    int err;

    if (prev > r->log.last) {
        reply_reject(r, prev);
        return 0;
    }
    if (prev >= r->log.base && hf_raft_log_term(&r->log, prev) != m->u.append.prev_term) {
        if (prev <= r->commit) {
            return -EBADMSG;
        }
        reply_reject(r, prev);
        return 0;
    }
    err = first_new(r, m, heads, &skip);
    if (err) {
        return err;
    }
    if (skip < m->u.append.count) {
        const uint64_t end = raft_max(checked, r->log.base);

        if (end - r->log.base > r->options.log_entries_max) {
            reply(r, HF_RAFT_BUSY); /* until the head is trimmed */
            return 0;
        }
        err = take_entries(r, m, heads, skip);
        if (err) {
            return err;
        }
    }
    r->verified = raft_max(r->verified, checked);
    hf_raft_commit_to(
        r, raft_min(m->u.append.commit_index, HF_BUG(commit_unverified) ? r->log.last : checked));
    hf_raft_check_whole(r);
    if (new_round || r->durable >= checked) {
        reply_ok(r);
    }
    r->ack_due = r->durable < r->verified;
    return 0;
}

int hf_raft_on_append(struct hf_raft *r, const struct hf_raft_msg *m,
                      const struct hf_raft_head *heads)
{
    bool new_round;
    struct hf_raft_msg moved;

    if (m->term < r->term && !HF_BUG(old_term_append)) {
        struct hf_raft_msg *out = hf_raft_send(r, HF_RAFT_MSG_APPEND_RESULT, m->from);

        out->u.append_result.status = HF_RAFT_REJECT; /* what matters is the higher term */
        out->u.append_result.incarnation = r->options.incarnation;
        return 0;
    }
    if (m->term == r->term &&
        (r->role == HF_RAFT_LEADER || (r->leader.v != 0 && r->leader.v != m->from.v))) {
        return -EBADMSG; /* two leaders in a term: one of them is not what it says */
    }
    hf_raft_become_follower(r, m->term, m->from);
    r->heard_ns = r->now_ns;
    hf_raft_promise(r);
    new_round = m->u.append.round > r->last_round || m->u.append.stream > r->last_stream;
    r->last_round = raft_max(r->last_round, m->u.append.round);
    r->last_stream = raft_max(r->last_stream, m->u.append.stream);
    r->last_prev = m->u.append.prev_index;
    if (r->abstain && !readmitted(r, m)) {
        reply(r, HF_RAFT_ABSTAIN);
        return 0;
    }
    if (r->incoming.installing || r->rewrite_due) {
        reply(r, HF_RAFT_BUSY);
        return 0;
    }
    if (HF_BUG(overlap_misplaced) && m->u.append.count && m->u.append.prev_index < r->log.base) {
        moved = *m;
        moved.u.append.prev_index = r->log.base;
        moved.u.append.prev_term = r->log.base_term;
        return take_append(r, &moved, heads, new_round);
    }
    return take_append(r, m, heads, new_round);
}

/* The own disk */

/* Nothing above durable is known to be on the disk. What is not committed is given up: nobody was
 * told that it is here. What is committed is written again by a later tick. */
static void write_failed(struct hf_raft *r)
{
    const uint64_t keep = raft_max(r->commit, r->durable);

    if (r->role != HF_RAFT_FOLLOWER) {
        hf_raft_become_follower(r, r->term, (struct hf_node_id){0});
    }
    if (keep < r->log.last) {
        hf_raft_log_drop(r, keep + 1);
    } else {
        r->epoch++;
    }
    r->fail_epoch = r->epoch;
    r->ack_due = false;
    r->rewrite_due = true;
    r->rewrite_at_ns = r->now_ns + r->options.heartbeat_ns;
    if (HF_BUG(append_error_keeps_log)) {
        r->rewrite_due = false;
        r->durable = r->log.last;
    }
}

bool hf_raft_rewrites(const struct hf_raft *r)
{
    return r->rewrite_due && !r->incoming.installing;
}

void hf_raft_rewrite(struct hf_raft *r)
{
    struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_APPEND);

    r->rewrite_due = false;
    r->write_since_ns = r->now_ns;
    a->u.append.first_index = r->durable + 1;
    a->u.append.last_index = r->log.last;
    a->u.append.epoch = r->epoch;
    a->u.append.source = HF_RAFT_FROM_LOG;
    if (HF_BUG(rewrite_durable)) {
        r->durable = r->log.last;
    }
}

static void durable_to(struct hf_raft *r, uint64_t index)
{
    struct peer *self = hf_raft_find(r, r->options.self);

    if (index <= r->durable) {
        return;
    }
    r->durable = index;
    r->write_since_ns = r->now_ns;
    if (r->role == HF_RAFT_LEADER) {
        if (self) {
            self->match = raft_max(self->match, index);
            self->next = self->match + 1;
            hf_raft_try_commit(r);
        }
        return;
    }
    hf_raft_check_whole(r);
    if (r->ack_due && r->leader.v != 0 && !r->incoming.installing) {
        reply_ok(r);
        r->ack_due = r->durable < r->verified;
    }
}

int hf_raft_on_appended(struct hf_raft *r, const struct hf_raft_event *ev)
{
    const uint64_t epoch = ev->u.appended.epoch, last = ev->u.appended.last_index;

    if (epoch > r->epoch || (epoch == r->epoch && last > r->log.last)) {
        return -EINVAL;
    }
    if (ev->u.appended.err && !HF_BUG(append_error_ignored)) {
        if (epoch >= r->fail_epoch) {
            write_failed(r);
        }
        return 0;
    }
    if (epoch == r->epoch || HF_BUG(late_append_result)) {
        durable_to(r, raft_min(last, r->log.last));
    }
    return 0;
}
