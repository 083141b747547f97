/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/raft_impl.h"

#include <stdlib.h>
#include <string.h>

struct hf_raft_action *hf_raft_act(struct hf_raft *r, enum hf_raft_action_type type)
{
    struct hf_raft_action *a;

    HF_ASSERT(r->out->count < HF_RAFT_ACTIONS_MAX);
    a = &r->out->items[r->out->count++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    return a;
}

struct hf_raft_msg *hf_raft_send(struct hf_raft *r, enum hf_raft_msg_type type,
                                 struct hf_node_id to)
{
    struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_SEND);
    struct hf_raft_msg *m = &a->u.send.msg;

    m->type = type;
    m->from = r->options.self;
    m->to = to;
    m->term = r->term;
    if (r->dirty) {
        a->u.send.persist_seq = r->persist_seq + 1;
    } else if (r->persisted_seq < r->persist_seq && !HF_BUG(persist_under_way)) {
        a->u.send.persist_seq = r->persist_seq;
    }
    if (HF_BUG(vote_not_persisted)) {
        a->u.send.persist_seq = 0;
    }
    return m;
}

void hf_raft_commit_to(struct hf_raft *r, uint64_t index)
{
    HF_ASSERT(index <= r->log.last);
    r->commit = raft_max(r->commit, index);
}

void hf_raft_write_begins(struct hf_raft *r)
{
    if (r->durable == r->log.last ||
        HF_BUG(stall_clock_restarts)) { /* else an older write is what may stall */
        r->write_since_ns = r->now_ns;
    }
}

bool hf_raft_write_stalled(const struct hf_raft *r, uint64_t limit_ns)
{
    return r->durable < r->log.last && !r->rewrite_due && r->now_ns - r->write_since_ns > limit_ns;
}

void hf_raft_append_own(struct hf_raft *r, uint8_t type, const struct hf_raft_config *config)
{
    const uint32_t bytes = r->options.head_bytes + (config ? (uint32_t)sizeof(*config) : 0);
    struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_APPEND);

    hf_raft_write_begins(r);
    hf_raft_log_push(&r->log, r->term, type, bytes);
    if (config) {
        hf_raft_config_set(r, r->log.last, config);
    }
    a->u.append.first_index = a->u.append.last_index = r->log.last;
    a->u.append.epoch = r->epoch;
    a->u.append.source = HF_RAFT_FROM_CORE;
    a->u.append.head = (struct hf_raft_head){
        .term = r->term,
        .bytes = bytes,
        .type = type,
        .config = config ? &r->config.config : NULL,
    };
}

/* Lifecycle */

static bool options_valid(const struct hf_raft_options *o)
{
    return o->self.v != 0 && o->incarnation != 0 && o->heartbeat_ns > 0 &&
           o->heartbeat_ns < o->election_timeout_ns / 2 &&
           o->lease_ns <= o->election_timeout_ns / 4 * 3 && o->batch_entries_max > 0 &&
           o->batch_entries_max <= HF_RAFT_MSG_ENTRIES_MAX && o->batch_bytes_max > 0 &&
           o->inflight_msgs_max > 0 && o->inflight_msgs_max <= HF_RAFT_INFLIGHT_MAX &&
           o->inflight_bytes_max > 0 && o->window_entries_max > 0 &&
           o->window_entries_max <= o->log_entries_max && o->window_bytes_max > 0 &&
           o->log_entries_max > 0 && o->log_entries_max < HF_RAFT_NUMBER_MAX &&
           o->snapshot_chunk_bytes > 0;
}

static bool start_valid(const struct hf_raft_start *s)
{
    uint64_t term = 0;

    if (s->term > HF_RAFT_NUMBER_MAX || s->snapshot_index > HF_RAFT_NUMBER_MAX ||
        s->snapshot_term > HF_RAFT_NUMBER_MAX ||
        (s->count && s->first_index > s->snapshot_index + 1) || (s->count && s->first_index == 0) ||
        s->count > HF_RAFT_NUMBER_MAX || (s->config.count && !hf_raft_config_valid(&s->config))) {
        return false;
    }
    for (uint64_t i = 0; i < s->count; i++) {
        const struct hf_raft_head *h = &s->heads[i];

        if (h->term < term || h->term == 0 || h->term > HF_RAFT_NUMBER_MAX ||
            h->type < HF_RAFT_ENTRY_NOOP || h->type > HF_RAFT_ENTRY_CONFIG ||
            (h->type == HF_RAFT_ENTRY_CONFIG && (!h->config || !hf_raft_config_valid(h->config)))) {
            return false;
        }
        term = h->term;
    }
    return true;
}

/* The log's entries above the snapshot; none when the two contradict each other. */
static int load(struct hf_raft *r, const struct hf_raft_start *s, bool *ret_drop)
{
    const uint64_t end = s->count ? s->first_index + s->count - 1 : 0;
    uint64_t i = s->snapshot_index + 1;

    hf_raft_log_reset(&r->log, s->snapshot_index, s->snapshot_term);
    *ret_drop = s->count && s->first_index <= s->snapshot_index &&
                (end < s->snapshot_index ||
                 s->heads[s->snapshot_index - s->first_index].term != s->snapshot_term);
    if (*ret_drop) {
        i = end + 1;
    }
    if (end > s->snapshot_index && end - s->snapshot_index > r->options.log_entries_max) {
        return -EFBIG;
    }
    if (hf_raft_log_reserve(&r->log, RAFT_SPARE_SLOTS + (end > i ? end - i + 1 : 1),
                            r->options.alloc)) {
        return -ENOMEM;
    }
    for (; i <= end; i++) {
        const struct hf_raft_head *h = &s->heads[i - s->first_index];

        if (h->term < r->log.base_term) {
            return -EBADMSG;
        }
        hf_raft_log_push(&r->log, h->term, h->type, h->bytes);
        if (h->type == HF_RAFT_ENTRY_CONFIG && !HF_BUG(restart_skips_config)) {
            hf_raft_config_set(r, i, h->config);
        }
    }
    return 0;
}

int hf_raft_new(const struct hf_raft_options *options, const struct hf_raft_start *start,
                struct hf_raft **ret, bool *ret_drop_log)
{
    bool drop;
    struct hf_raft *r;
    int err;

    if (!options_valid(options)) {
        return -EINVAL;
    }
    if (!start_valid(start)) {
        return -EBADMSG;
    }
    r = (options->alloc ? options->alloc : malloc)(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    memset(r, 0, sizeof(*r));
    r->options = *options;
    r->rng = options->seed;
    r->term = start->term;
    r->vote = start->vote;
    r->role = r->role_told = HF_RAFT_FOLLOWER;
    r->role_term_told = r->term;
    r->abstain = options->abstain;
    r->config =
        (struct config_at){.index = start->snapshot_index, .valid = true, .config = start->config};
    hf_raft_peers_rebuild(r);
    err = load(r, start, &drop);
    if (err) {
        hf_raft_free(r);
        return err;
    }
    if (hf_raft_log_term(&r->log, r->log.last) > r->term) {
        /* An append may reach the disk before the PERSIST of the term it came in; nothing was said
         * in that term yet. */
        r->term = hf_raft_log_term(&r->log, r->log.last);
        r->vote.v = 0;
        r->dirty = true;
    }
    r->durable = r->log.last;
    r->commit = r->commit_told = r->log.base;
    *ret_drop_log = drop;
    *ret = r;
    return 0;
}

void hf_raft_free(struct hf_raft *r)
{
    if (r) {
        free(r->log.slots);
        free(r);
    }
}

/* Messages */

static bool heads_valid(const struct hf_raft_msg *m, const struct hf_raft_head *heads)
{
    uint64_t term = m->u.append.prev_term;

    if (m->u.append.count > HF_RAFT_MSG_ENTRIES_MAX || (m->u.append.count && !heads) ||
        m->u.append.prev_index > HF_RAFT_NUMBER_MAX || m->u.append.prev_term > m->term) {
        return false;
    }
    for (uint32_t i = 0; i < m->u.append.count; i++) {
        const struct hf_raft_head *h = &heads[i];

        if (h->term < term || h->term == 0 || h->term > m->term || h->type < HF_RAFT_ENTRY_NOOP ||
            h->type > HF_RAFT_ENTRY_CONFIG ||
            (h->type == HF_RAFT_ENTRY_CONFIG && (!h->config || !hf_raft_config_valid(h->config)))) {
            return false;
        }
        term = h->term;
    }
    return true;
}

static bool msg_valid(const struct hf_raft *r, const struct hf_raft_msg *m,
                      const struct hf_raft_head *heads)
{
    if (m->to.v != r->options.self.v || m->from.v == r->options.self.v || m->from.v == 0 ||
        (m->term == 0 && m->type != HF_RAFT_MSG_PREVOTE_RESULT) || m->term > HF_RAFT_NUMBER_MAX) {
        return false;
    }
    switch (m->type) {
    case HF_RAFT_MSG_APPEND:
        return heads_valid(m, heads);
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        return m->u.vote.last_term < m->term && m->u.vote.last_index <= HF_RAFT_NUMBER_MAX;
    case HF_RAFT_MSG_SNAPSHOT:
        return m->u.snapshot.index > 0 && m->u.snapshot.index <= HF_RAFT_NUMBER_MAX &&
               m->u.snapshot.snapshot_term > 0 && m->u.snapshot.snapshot_term <= m->term &&
               m->u.snapshot.offset_bytes <= m->u.snapshot.total_bytes &&
               m->u.snapshot.len_bytes <= m->u.snapshot.total_bytes - m->u.snapshot.offset_bytes &&
               hf_raft_config_valid(&m->u.snapshot.config);
    case HF_RAFT_MSG_APPEND_RESULT:
        return m->u.append_result.status >= HF_RAFT_OK &&
               m->u.append_result.status <= HF_RAFT_ABSTAIN && m->u.append_result.incarnation != 0;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        return m->u.snapshot_result.incarnation != 0;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
    case HF_RAFT_MSG_TIMEOUT_NOW:
        return true;
    }
    return false;
}

static int on_msg(struct hf_raft *r, const struct hf_raft_msg *m, const struct hf_raft_head *heads)
{
    switch (m->type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        return hf_raft_on_vote(r, m);
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        return hf_raft_on_vote_result(r, m);
    case HF_RAFT_MSG_APPEND:
        return hf_raft_on_append(r, m, heads);
    case HF_RAFT_MSG_APPEND_RESULT:
        return hf_raft_on_append_result(r, m);
    case HF_RAFT_MSG_SNAPSHOT:
        return hf_raft_on_snapshot(r, m);
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        return hf_raft_on_snapshot_result(r, m);
    case HF_RAFT_MSG_TIMEOUT_NOW:
        return hf_raft_on_timeout_now(r, m);
    }
    return -EBADMSG;
}

/* The driver keeps at least what it has not applied, and what is not durable cannot be let go. */
static int on_trim(struct hf_raft *r, uint64_t index)
{
    if (index > r->commit || index > r->durable) {
        return -EINVAL;
    }
    if (index > r->log.base) {
        hf_raft_log_trim(&r->log, index);
    }
    return 0;
}

static int dispatch(struct hf_raft *r, const struct hf_raft_event *ev)
{
    switch (ev->type) {
    case HF_RAFT_EV_TICK:
        hf_raft_on_tick(r);
        return 0;
    case HF_RAFT_EV_RECV:
        return on_msg(r, ev->u.recv.msg, ev->u.recv.heads);
    case HF_RAFT_EV_PROPOSE:
        return hf_raft_on_propose(r, ev);
    case HF_RAFT_EV_READ:
        return hf_raft_on_read(r, ev->u.read.id);
    case HF_RAFT_EV_CONFIG:
        return hf_raft_on_config(r, ev);
    case HF_RAFT_EV_TRANSFER:
        return hf_raft_on_transfer(r, ev->u.transfer.target);
    case HF_RAFT_EV_PERSISTED:
        return hf_raft_on_persisted(r, ev);
    case HF_RAFT_EV_APPENDED:
        return hf_raft_on_appended(r, ev);
    case HF_RAFT_EV_TRIM:
        return on_trim(r, ev->u.trim.index);
    case HF_RAFT_EV_UNREACHABLE:
        return hf_raft_on_unreachable(r, ev->u.unreachable.peer);
    case HF_RAFT_EV_SNAPSHOT_OPENED:
        return hf_raft_on_snapshot_opened(r, ev);
    case HF_RAFT_EV_SNAPSHOT_WRITTEN:
        return hf_raft_on_snapshot_written(r, ev);
    case HF_RAFT_EV_SNAPSHOT_INSTALLED:
        return hf_raft_on_snapshot_installed(r, ev);
    }
    return -EINVAL;
}

/* What every step ends with: a leader that left the cluster goes, peers get what they may get, and
 * the driver hears what changed. */
static void finish(struct hf_raft *r)
{
    if (r->role == HF_RAFT_LEADER && r->config.index <= r->commit && !hf_raft_self_votes(r) &&
        !HF_BUG(removed_leader_stays) &&
        !(HF_BUG(demoted_leader_stays) &&
          hf_raft_config_has(&r->config.config, r->options.self, HF_RAFT_LEARNER))) {
        r->broadcast = true; /* the others learn that the change is committed */
        hf_raft_pump(r);
        hf_raft_become_follower(r, r->term, (struct hf_node_id){0});
    }
    if (r->role == HF_RAFT_LEADER) {
        hf_raft_reads_advance(r);
        hf_raft_pump(r);
        hf_raft_transfer_pump(r);
    }
    if (r->commit > r->commit_told) {
        hf_raft_act(r, HF_RAFT_ACT_COMMIT)->u.commit.index = r->commit;
        r->commit_told = r->commit;
    }
    if (r->role != r->role_told || r->term != r->role_term_told ||
        r->leader.v != r->leader_told.v) {
        struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_ROLE);

        a->u.role.role = r->role_told = r->role;
        a->u.role.term = r->role_term_told = r->term;
        a->u.role.leader = r->leader_told = r->leader;
    }
    if (r->dirty) {
        struct hf_raft_action *a = hf_raft_act(r, HF_RAFT_ACT_PERSIST);

        a->u.persist.seq = ++r->persist_seq;
        a->u.persist.term = r->term;
        a->u.persist.vote = r->vote;
        r->dirty = r->persist_failed = false;
    }
}

/* The only allocation of a step, before anything changed. */
static int reserve(struct hf_raft *r, const struct hf_raft_event *ev)
{
    const uint64_t held = r->log.last - r->log.base;
    uint64_t want = 0;

    if (ev->type == HF_RAFT_EV_PROPOSE) {
        want = ev->u.propose.count;
    } else if (ev->type == HF_RAFT_EV_RECV && ev->u.recv.msg->type == HF_RAFT_MSG_APPEND) {
        want = ev->u.recv.msg->u.append.count;
    }
    if (held + want > r->options.log_entries_max) {
        want = held > r->options.log_entries_max ? 0 : r->options.log_entries_max - held;
    }
    return hf_raft_log_reserve(&r->log, want + RAFT_SPARE_SLOTS, r->options.alloc);
}

int hf_raft_step(struct hf_raft *r, const struct hf_raft_event *ev, struct hf_raft_actions *ret)
{
    int err;

    ret->count = 0;
    if (ev->type == HF_RAFT_EV_RECV && !msg_valid(r, ev->u.recv.msg, ev->u.recv.heads)) {
        return -EBADMSG;
    }
    if (ev->type == HF_RAFT_EV_PROPOSE &&
        (ev->u.propose.count == 0 || ev->u.propose.count > HF_RAFT_MSG_ENTRIES_MAX)) {
        return -EINVAL;
    }
    err = reserve(r, ev);
    if (err) {
        return err;
    }
    r->now_ns = raft_max(r->now_ns, ev->now_ns);
    if (r->election_ns == 0) { /* the first event says what time it is */
        hf_raft_election_rearm(r);
        hf_raft_promise(r); /* what was promised before a restart is not known any more */
        if (hf_raft_self_votes(r) && hf_raft_quorum(r) == 1) {
            r->election_ns = r->now_ns; /* nobody else to wait for */
        }
    }
    r->out = ret;
    err = dispatch(r, ev);
    finish(r);
    r->out = NULL;
    return err;
}

/* State */

enum hf_raft_role hf_raft_role(const struct hf_raft *r)
{
    return r->role;
}

uint64_t hf_raft_term(const struct hf_raft *r)
{
    return r->term;
}

struct hf_node_id hf_raft_vote(const struct hf_raft *r)
{
    return r->vote;
}

struct hf_node_id hf_raft_leader(const struct hf_raft *r)
{
    return r->leader;
}

bool hf_raft_abstaining(const struct hf_raft *r)
{
    return r->abstain;
}

bool hf_raft_transferring(const struct hf_raft *r)
{
    return r->role == HF_RAFT_LEADER && r->transfer_to.v != 0;
}

uint64_t hf_raft_base_index(const struct hf_raft *r)
{
    return r->log.base;
}

uint64_t hf_raft_commit_index(const struct hf_raft *r)
{
    return r->commit;
}

uint64_t hf_raft_durable_index(const struct hf_raft *r)
{
    return r->durable;
}

uint64_t hf_raft_last_index(const struct hf_raft *r)
{
    return r->log.last;
}

uint64_t hf_raft_epoch(const struct hf_raft *r)
{
    return r->epoch;
}

int hf_raft_term_at(const struct hf_raft *r, uint64_t index, uint64_t *ret_term)
{
    if (index < r->log.base || index > r->log.last) {
        return -ENOENT;
    }
    *ret_term = hf_raft_log_term(&r->log, index);
    return 0;
}

int hf_raft_head_at(const struct hf_raft *r, uint64_t index, struct hf_raft_head *ret)
{
    const struct raft_slot *slot;

    if (index <= r->log.base || index > r->log.last) {
        return -ENOENT;
    }
    slot = hf_raft_log_slot(&r->log, index);
    *ret = (struct hf_raft_head){
        .term = slot->term,
        .bytes = (uint32_t)hf_raft_log_bytes(&r->log, index - 1, index),
        .type = slot->type,
    };
    return 0;
}

const struct hf_raft_config *hf_raft_config(const struct hf_raft *r, uint64_t *ret_index)
{
    if (ret_index) {
        *ret_index = r->config.index;
    }
    return &r->config.config;
}

int hf_raft_peer(const struct hf_raft *r, struct hf_node_id id, struct hf_raft_peer_status *ret)
{
    if (r->role != HF_RAFT_LEADER) {
        return -HF_ENOTLEADER;
    }
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];

        if (p->id.v == id.v) {
            *ret = (struct hf_raft_peer_status){
                .id = id,
                .kind = p->voter ? HF_RAFT_VOTER : HF_RAFT_LEARNER,
                .abstaining = p->abstaining,
                .snapshotting = p->state == PEER_SNAPSHOT,
                .match_index = p->match,
                .next_index = p->next,
                .heard_ns = p->heard_ns,
                .inflight_msgs = p->inflight_count,
                .inflight_bytes = p->inflight_bytes,
            };
            return 0;
        }
    }
    return -ENOENT;
}
