/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* Sending */

static void release_held(struct sim *s, struct node *n)
{
    while (n->held_first && n->held_first->persist_seq <= n->persisted_seq) {
        struct held *h = n->held_first;

        n->held_first = h->next;
        if (!n->held_first) {
            n->held_last = NULL;
        }
        sim_check_sent(s, n, &h->packet->msg);
        sim_net_send(s, h->packet);
        free(h);
    }
}

static void send(struct sim *s, struct node *n, const struct hf_raft_msg *m, uint64_t persist_seq)
{
    struct packet *p = calloc(1, sizeof(*p));
    struct held *h = calloc(1, sizeof(*h));

    HF_ASSERT(p && h);
    p->msg = *m;
    if (m->type == HF_RAFT_MSG_APPEND && m->u.append.count) {
        p->entries = malloc(m->u.append.count * sizeof(*p->entries));
        HF_ASSERT(p->entries);
        for (uint32_t i = 0; i < m->u.append.count; i++) {
            const struct entry *e = elog_get(&n->cache, m->u.append.prev_index + 1 + i);

            if (!e) {
                sim_fail(s, "node %u sends entry %llu that its cache lacks", n->id.v,
                         (unsigned long long)(m->u.append.prev_index + 1 + i));
                p->msg.u.append.count = i;
                break;
            }
            p->entries[i] = *e;
        }
    } else if (m->type == HF_RAFT_MSG_SNAPSHOT && m->to.v <= SIM_NODES) {
        p->snapshot = n->pinned[m->to.v];
    }
    h->packet = p;
    h->persist_seq = persist_seq;
    if (n->held_last) {
        n->held_last->next = h;
    } else {
        n->held_first = h;
    }
    n->held_last = h;
}

/* Actions */

static void append(struct sim *s, struct node *n, const struct hf_raft_action *a,
                   const struct packet *p, const uint32_t *sizes, uint64_t value)
{
    const uint64_t first = a->u.append.first_index, last = a->u.append.last_index;
    struct op op = {.type = OP_APPEND, .first = first, .last = last, .epoch = a->u.append.epoch};

    op.entries.first = first;
    if (n->cache.count == 0) {
        elog_reset(&n->cache, first);
    }
    elog_cut(&n->cache, a->u.append.source == HF_RAFT_FROM_LOG ? last + 1 : first);
    for (uint64_t i = first; i <= last; i++) {
        struct entry e = {0};

        switch (a->u.append.source) {
        case HF_RAFT_FROM_MESSAGE:
            e = p->entries[a->u.append.skip + (i - first)];
            break;
        case HF_RAFT_FROM_PROPOSAL:
            e.term = hf_raft_term(n->raft);
            e.type = HF_RAFT_ENTRY_NORMAL;
            e.bytes = sizes[i - first];
            e.value = value + (i - first);
            break;
        case HF_RAFT_FROM_CORE:
            e.term = a->u.append.head.term;
            e.type = a->u.append.head.type;
            e.bytes = a->u.append.head.bytes;
            e.value = ++s->value_next;
            if (a->u.append.head.config) {
                e.config = *a->u.append.head.config;
            }
            break;
        case HF_RAFT_FROM_LOG:
            e = *elog_get(&n->cache, i);
            break;
        }
        if (a->u.append.source != HF_RAFT_FROM_LOG) {
            const struct entry *prev = elog_get(&n->cache, i - 1);

            if (i != elog_last(&n->cache) + 1) {
                sim_fail(s, "node %u appends %llu behind %llu", n->id.v, (unsigned long long)i,
                         (unsigned long long)elog_last(&n->cache));
                return;
            }
            sim_check_entry(s, n, i, prev ? prev->term : 0, &e);
            elog_push(&n->cache, &e);
        }
        elog_push(&op.entries, &e);
    }
    sim_disk_add(s, n, &op);
}

static void apply(struct sim *s, struct node *n, uint64_t to)
{
    while (n->applied < to && !s->failed) {
        const struct entry *e = elog_get(&n->cache, n->applied + 1);

        if (!e) {
            sim_fail(s, "node %u must apply %llu and does not have it", n->id.v,
                     (unsigned long long)(n->applied + 1));
            return;
        }
        sim_check_apply(s, n, n->applied + 1, e);
        n->applied++;
        n->hash = sim_hash(n->hash, e->value);
        if (e->type == HF_RAFT_ENTRY_CONFIG) {
            n->applied_config = e->config;
        }
        if (hf_raft_role(n->raft) == HF_RAFT_LEADER && e->type == HF_RAFT_ENTRY_NORMAL &&
            n->applied > s->acked_index) {
            s->acked_index = n->applied; /* a client has its answer */
            s->commits_after_heal += s->healed && e->value >= s->proposed;
        }
    }
}

static void reads_ready(struct sim *s, struct node *n, const struct hf_raft_action *a)
{
    for (uint64_t id = a->u.read.first_id; id <= a->u.read.last_id; id++) {
        if (a->u.read.index < n->read_floor[id % SIM_READS]) {
            sim_fail(s, "node %u serves a read at %llu that began after %llu was acknowledged",
                     n->id.v, (unsigned long long)a->u.read.index,
                     (unsigned long long)n->read_floor[id % SIM_READS]);
        }
        s->reads_done++;
        s->reads_after_heal += s->healed;
    }
}

static void snapshot_action(struct sim *s, struct node *n, const struct hf_raft_action *a,
                            const struct packet *p)
{
    struct op op = {.peer = a->u.snapshot.peer, .first = a->u.snapshot.index};

    if (a->type == HF_RAFT_ACT_SNAPSHOT_WRITE) {
        op.type = OP_CHUNK;
        op.last = a->u.snapshot.offset_bytes + a->u.snapshot.len_bytes;
        n->incoming = p->snapshot;
    } else {
        op.type = OP_INSTALL;
        op.snapshot = n->incoming;
        if (n->incoming.index != a->u.snapshot.index) {
            sim_fail(s, "node %u installs a snapshot it did not receive", n->id.v);
        }
        sim_check_snapshot(s, n, &n->incoming);
    }
    sim_disk_add(s, n, &op);
}

static void act(struct sim *s, struct node *n, const struct hf_raft_action *a,
                const struct packet *p, const uint32_t *sizes, uint64_t value)
{
    const uint32_t peer = a->u.snapshot.peer.v;

    switch (a->type) {
    case HF_RAFT_ACT_SEND:
        send(s, n, &a->u.send.msg, a->u.send.persist_seq);
        break;
    case HF_RAFT_ACT_PERSIST:
        sim_disk_add(s, n,
                     &(struct op){.type = OP_PERSIST,
                                  .seq = a->u.persist.seq,
                                  .term = a->u.persist.term,
                                  .vote = a->u.persist.vote});
        break;
    case HF_RAFT_ACT_APPEND:
        append(s, n, a, p, sizes, value);
        break;
    case HF_RAFT_ACT_COMMIT:
        sim_check_commit(s, n, n->last_commit, a->u.commit.index);
        apply(s, n, a->u.commit.index);
        break;
    case HF_RAFT_ACT_ROLE:
        sim_trace(s, "role", n->id.v, a->u.role.role, a->u.role.term);
        if (a->u.role.role == HF_RAFT_LEADER) {
            sim_check_leader(s, n);
            if (hf_sim_rng_chance(&s->rng, 25)) { /* somebody is in a hurry to change members */
                sim_at(s, hf_sim_rng_below(&s->rng, 30 * SIM_MS), EV_ADMIN, 0)->arg = 1;
            }
        }
        break;
    case HF_RAFT_ACT_READ_READY:
        reads_ready(s, n, a);
        break;
    case HF_RAFT_ACT_READ_FAILED:
        break;
    case HF_RAFT_ACT_SNAPSHOT_OPEN: {
        struct ev *e =
            sim_at(s, hf_sim_rng_between(&s->rng, SIM_MS, 20 * SIM_MS), EV_OPENED, n->id.v);

        e->peer = peer;
        e->arg = ++n->open_serial[peer];
        break;
    }
    case HF_RAFT_ACT_SNAPSHOT_CLOSE:
        n->open_serial[peer]++;
        break;
    case HF_RAFT_ACT_SNAPSHOT_WRITE:
    case HF_RAFT_ACT_SNAPSHOT_INSTALL:
        snapshot_action(s, n, a, p);
        break;
    case HF_RAFT_ACT_ABSTAIN_END:
        n->abstain = n->wiped = false;
        break;
    }
}

static void arm_tick(struct sim *s, struct node *n)
{
    const uint64_t local = sim_local(s, n), due = hf_raft_deadline_ns(n->raft);
    uint64_t delay = due > local ? due - local : 0;

    delay = delay - delay / 1000000 * (uint64_t)(n->drift_ppm > 0 ? n->drift_ppm : 0) / 2 + 10000;
    if (n->tick_at == 0 || n->tick_at > s->now + delay) {
        sim_at(s, delay, EV_TICK, n->id.v);
        n->tick_at = s->now + delay;
    }
}

/* A checkpoint of what is applied and durable; then most of the log can go. */
static void checkpoint(struct sim *s, struct node *n)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_TRIM};
    const uint64_t back = hf_sim_rng_below(&s->rng, 12);
    uint64_t term;

    if (n->applied < n->snapshot.index + s->checkpoint_every ||
        hf_raft_durable_index(n->raft) < n->applied ||
        hf_raft_term_at(n->raft, n->applied, &term)) {
        return;
    }
    n->snapshot = (struct checkpoint){
        .index = n->applied, .term = term, .hash = n->hash, .config = n->applied_config};
    sim_check_snapshot(s, n, &n->snapshot);
    if (n->applied > back && n->applied - back > hf_raft_base_index(n->raft)) {
        e.u.trim.index = n->applied - back;
        if (sim_step(s, n, &e, NULL, 0)) {
            sim_fail(s, "node %u refuses to trim", n->id.v);
        }
        elog_trim(&n->cache, e.u.trim.index - 1);
        elog_trim(&n->disk, e.u.trim.index);
    }
}

int sim_step(struct sim *s, struct node *n, struct hf_raft_event *e, const struct packet *p,
             uint64_t value)
{
    const uint32_t *sizes = e->type == HF_RAFT_EV_PROPOSE ? e->u.propose.bytes : NULL;
    int err;

    e->now_ns = sim_local(s, n);
    err = hf_raft_step(n->raft, e, &s->actions);
    sim_trace(s, "step", n->id.v, (uint64_t)e->type << 32 | s->actions.count,
              hf_raft_last_index(n->raft));
    for (uint32_t i = 0; i < s->actions.count && !s->failed; i++) {
        act(s, n, &s->actions.items[i], p, sizes, value);
    }
    if (s->failed) {
        return err;
    }
    release_held(s, n);
    sim_check_node(s, n, e->type == HF_RAFT_EV_TICK);
    arm_tick(s, n);
    if (e->type != HF_RAFT_EV_TRIM && !s->failed) {
        checkpoint(s, n);
    }
    return err;
}

/* Events */

void sim_deliver(struct sim *s, struct packet *p)
{
    struct node *n = &s->nodes[p->msg.to.v];
    struct hf_raft_head heads[128];
    struct hf_raft_event e = {.type = HF_RAFT_EV_RECV};
    int err;

    if (n->up && !s->cut[p->msg.from.v][p->msg.to.v]) {
        if (p->msg.type == HF_RAFT_MSG_APPEND) {
            HF_ASSERT(p->msg.u.append.count <= HF_ARRAY_LEN(heads));
            for (uint32_t i = 0; i < p->msg.u.append.count; i++) {
                heads[i] = (struct hf_raft_head){
                    .term = p->entries[i].term,
                    .bytes = p->entries[i].bytes,
                    .type = p->entries[i].type,
                    .config = &p->entries[i].config,
                };
            }
        }
        e.u.recv.msg = &p->msg;
        e.u.recv.heads = heads;
        err = sim_step(s, n, &e, p, 0);
        if (err) {
            sim_fail(s, "node %u refuses message %d of %u: error %d", n->id.v, (int)p->msg.type,
                     p->msg.from.v, err);
        }
    }
    sim_packet_free(p);
}

void sim_opened(struct sim *s, struct node *n, uint32_t peer, uint32_t serial)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_SNAPSHOT_OPENED};

    if (serial != n->open_serial[peer]) {
        return;
    }
    n->pinned[peer] = n->snapshot;
    e.u.snapshot_opened.peer.v = (uint16_t)peer;
    e.u.snapshot_opened.err = hf_sim_rng_chance(&s->rng, 10) ? -1 : 0;
    e.u.snapshot_opened.index = n->snapshot.index;
    e.u.snapshot_opened.term = n->snapshot.term;
    e.u.snapshot_opened.total_bytes = hf_sim_rng_below(&s->rng, 500);
    e.u.snapshot_opened.config = &n->pinned[peer].config;
    if (sim_step(s, n, &e, NULL, 0)) {
        sim_fail(s, "node %u refuses its snapshot %llu", n->id.v,
                 (unsigned long long)n->snapshot.index);
    }
}

struct node *sim_leader(struct sim *s)
{
    struct node *best = NULL;

    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct node *n = &s->nodes[i];

        if (n->up && n->pause_until <= s->now && hf_raft_role(n->raft) == HF_RAFT_LEADER &&
            (!best || hf_raft_term(n->raft) > hf_raft_term(best->raft))) {
            best = n;
        }
    }
    return best;
}

/* Life and death */

static void load(struct node *n, struct hf_raft_start *start, struct hf_raft_head *heads)
{
    *start = (struct hf_raft_start){
        .term = n->term,
        .vote = n->vote,
        .snapshot_index = n->snapshot.index,
        .snapshot_term = n->snapshot.term,
        .config = n->snapshot.config,
        .first_index = n->disk.first,
        .heads = heads,
        .count = n->disk.count,
    };
    for (uint64_t i = 0; i < n->disk.count; i++) {
        heads[i] = (struct hf_raft_head){
            .term = n->disk.at[i].term,
            .bytes = n->disk.at[i].bytes,
            .type = n->disk.at[i].type,
            .config = &n->disk.at[i].config,
        };
    }
}

void sim_node_start(struct sim *s, struct node *n)
{
    struct hf_raft_head *heads = calloc(n->disk.count + 1, sizeof(*heads));
    struct hf_raft_start start;
    struct hf_raft_options options = {
        .self = n->id,
        .seed = hf_sim_rng_next(&s->rng),
        .abstain = n->abstain,
        .election_timeout_ns = SIM_TIMEOUT,
        .heartbeat_ns = SIM_TIMEOUT / 5,
        .lease_ns = s->seed % 2 ? SIM_TIMEOUT / 5 * 2 : 0,
        .batch_entries_max = 16,
        .batch_bytes_max = 4000,
        .inflight_msgs_max = 4,
        .inflight_bytes_max = 12000,
        .window_entries_max = s->window_max,
        .window_bytes_max = 60000,
        .log_entries_max = 4000,
        .snapshot_chunk_bytes = 100,
        .promote_lag_max = 20,
    };
    bool drop;
    int err;

    HF_ASSERT(heads && !n->up);
    if (n->incarnation == 0 || n->abstain) {
        n->incarnation = hf_sim_rng_next(&s->rng) | 1;
    }
    options.incarnation = n->incarnation;
    load(n, &start, heads);
    err = hf_raft_new(&options, &start, &n->raft, &drop);
    free(heads);
    if (err) {
        sim_fail(s, "node %u does not start: error %d", n->id.v, err);
        return;
    }
    if (drop) {
        elog_reset(&n->disk, n->snapshot.index + 1);
    }
    elog_copy(&n->cache, &n->disk);
    n->up = true;
    n->life++;
    n->tick_at = 0;
    n->applied = n->last_commit = n->snapshot.index;
    n->hash = n->snapshot.hash;
    n->applied_config = n->snapshot.config;
    n->persisted_seq = 0;
    n->pause_until = 0;
    n->clock_offset = hf_sim_rng_below(&s->rng, 1000 * SIM_S);
    sim_trace(s, "start", n->id.v, n->term, hf_raft_last_index(n->raft));
    sim_check_start(s, n);
    {
        struct hf_raft_event e = {.type = HF_RAFT_EV_TICK};

        (void)sim_step(s, n, &e, NULL, 0);
    }
}

void sim_node_crash(struct sim *s, struct node *n)
{
    sim_trace(s, "crash", n->id.v, n->applied, 0);
    sim_disk_crash(s, n);
    while (n->held_first) {
        struct held *h = n->held_first;

        n->held_first = h->next;
        sim_packet_free(h->packet);
        free(h);
    }
    n->held_last = NULL;
    hf_raft_free(n->raft);
    n->raft = NULL;
    n->up = false;
    n->life++;
    s->crashes++;
}

/* The store is new: nothing that it once said is known here any more. */
void sim_node_wipe(struct sim *s, struct node *n)
{
    if (n->up) {
        sim_node_crash(s, n);
    }
    sim_trace(s, "wipe", n->id.v, 0, 0);
    n->term = 0;
    n->vote.v = 0;
    memset(&n->snapshot, 0, sizeof(n->snapshot));
    elog_reset(&n->disk, 1);
    n->incarnation = 0;
    n->abstain = n->wiped = true;
    n->told_term = n->voted_term = n->acked_term = n->acked_match = n->last_term = 0;
}

/* The end of the log is unreadable, and the store knows that it acknowledged more. */
void sim_node_rot(struct sim *s, struct node *n)
{
    if (n->up) {
        sim_node_crash(s, n);
    }
    elog_cut(&n->disk, n->disk.first + hf_sim_rng_below(&s->rng, n->disk.count + 1));
    sim_trace(s, "rot", n->id.v, elog_last(&n->disk), 0);
    n->abstain = n->wiped = true;
    n->acked_term = n->acked_match = 0;
}
