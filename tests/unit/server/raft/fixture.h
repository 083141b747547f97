/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h - one core, fed by hand. Node 1 is the core, the others are played by the test.
 */
#ifndef HF_TESTS_UNIT_SERVER_RAFT_FIXTURE_H
#define HF_TESTS_UNIT_SERVER_RAFT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/raft/raft.h"

#define MS      UINT64_C(1000000)
#define TIMEOUT (100 * MS)
#define LOG_MAX 64u

struct fx {
    struct hf_raft *r;
    struct hf_raft_actions a;
    uint64_t now;
    struct hf_raft_options options;
    struct hf_raft_start start;
    struct hf_raft_head heads[LOG_MAX];
};

static inline struct hf_node_id node(uint16_t id)
{
    return (struct hf_node_id){id};
}

static inline struct hf_raft_config voters(uint32_t count)
{
    struct hf_raft_config c = {.count = count};

    for (uint32_t i = 0; i < count; i++) {
        c.members[i] =
            (struct hf_raft_member){.id = node((uint16_t)(i + 1)), .kind = HF_RAFT_VOTER};
    }
    return c;
}

static inline void fx_init(struct fx *fx, uint32_t voter_count)
{
    memset(fx, 0, sizeof(*fx));
    fx->now = 1000 * MS;
    fx->options = (struct hf_raft_options){
        .self = node(1),
        .seed = 7,
        .incarnation = 11,
        .election_timeout_ns = TIMEOUT,
        .heartbeat_ns = TIMEOUT / 5,
        .batch_entries_max = 8,
        .batch_bytes_max = 1000,
        .inflight_msgs_max = 2,
        .inflight_bytes_max = 2000,
        .window_entries_max = 16,
        .window_bytes_max = 4000,
        .log_entries_max = LOG_MAX,
        .snapshot_chunk_bytes = 100,
        .promote_lag_max = 2,
    };
    fx->start.config = voters(voter_count);
    fx->start.heads = fx->heads;
    fx->start.first_index = 1;
}

/* Entries of these terms are in the log at start. */
static inline void fx_log(struct fx *fx, const uint64_t *terms, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        fx->heads[i] =
            (struct hf_raft_head){.term = terms[i], .bytes = 10, .type = HF_RAFT_ENTRY_NORMAL};
    }
    fx->start.count = count;
    fx->start.term = count ? terms[count - 1] : 0;
}

static inline int fx_event(struct fx *fx, struct hf_raft_event *e)
{
    int err;

    e->now_ns = fx->now;
    err = hf_raft_step(fx->r, e, &fx->a);
    hf_raft_check_invariants(fx->r);
    return err;
}

static inline void fx_open(struct fx *fx)
{
    struct hf_raft_event tick = {.type = HF_RAFT_EV_TICK};
    bool drop;

    assert_int_equal(hf_raft_new(&fx->options, &fx->start, &fx->r, &drop), 0);
    assert_false(drop);
    hf_raft_check_invariants(fx->r);
    assert_int_equal(fx_event(fx, &tick), 0);
}

static inline void fx_fini(struct fx *fx)
{
    hf_raft_free(fx->r);
}

/* The @nth action of the last step of this type; NULL. */
static inline const struct hf_raft_action *fx_act(const struct fx *fx,
                                                  enum hf_raft_action_type type, uint32_t nth)
{
    for (uint32_t i = 0; i < fx->a.count; i++) {
        if (fx->a.items[i].type == type && nth-- == 0) {
            return &fx->a.items[i];
        }
    }
    return NULL;
}

/* The message of the last step of this type to @to; NULL. */
static inline const struct hf_raft_msg *fx_sent(const struct fx *fx, enum hf_raft_msg_type type,
                                                uint16_t to)
{
    for (uint32_t i = 0; i < fx->a.count; i++) {
        const struct hf_raft_msg *m = &fx->a.items[i].u.send.msg;

        if (fx->a.items[i].type == HF_RAFT_ACT_SEND && m->type == type && m->to.v == to) {
            return m;
        }
    }
    return NULL;
}

static inline int fx_tick(struct fx *fx, uint64_t later)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_TICK};

    fx->now += later;
    return fx_event(fx, &e);
}

static inline int fx_recv(struct fx *fx, struct hf_raft_msg m, const struct hf_raft_head *heads)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_RECV};

    m.to = node(1);
    e.u.recv.msg = &m;
    e.u.recv.heads = heads;
    return fx_event(fx, &e);
}

static inline int fx_append(struct fx *fx, uint16_t from, uint64_t term, uint64_t prev,
                            uint64_t prev_term, const uint64_t *terms, uint32_t count,
                            uint64_t commit)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND, .from = node(from), .term = term};
    struct hf_raft_head heads[LOG_MAX];

    for (uint32_t i = 0; i < count; i++) {
        heads[i] =
            (struct hf_raft_head){.term = terms[i], .bytes = 10, .type = HF_RAFT_ENTRY_NORMAL};
    }
    m.u.append.prev_index = prev;
    m.u.append.prev_term = prev_term;
    m.u.append.count = count;
    m.u.append.commit_index = commit;
    m.u.append.stream = 1;
    return fx_recv(fx, m, heads);
}

static inline int fx_vote(struct fx *fx, uint16_t from, uint64_t term, uint64_t last_index,
                          uint64_t last_term, bool transfer)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_VOTE, .from = node(from), .term = term};

    m.u.vote.last_index = last_index;
    m.u.vote.last_term = last_term;
    m.u.vote.transfer = transfer;
    return fx_recv(fx, m, NULL);
}

static inline int fx_vote_result(struct fx *fx, enum hf_raft_msg_type type, uint16_t from,
                                 uint64_t term, bool granted)
{
    struct hf_raft_msg m = {.type = type, .from = node(from), .term = term};

    m.u.vote_result.granted = granted;
    return fx_recv(fx, m, NULL);
}

static inline bool fx_granted(const struct fx *fx, uint16_t to)
{
    const struct hf_raft_msg *m = fx_sent(fx, HF_RAFT_MSG_VOTE_RESULT, to);

    return m && m->u.vote_result.granted;
}

static inline int fx_persisted(struct fx *fx, uint64_t seq, int err)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_PERSISTED};

    e.u.persisted.seq = seq;
    e.u.persisted.err = err;
    return fx_event(fx, &e);
}

static inline int fx_appended(struct fx *fx, uint64_t epoch, uint64_t last, int err)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_APPENDED};

    e.u.appended.epoch = epoch;
    e.u.appended.last_index = last;
    e.u.appended.err = err;
    return fx_event(fx, &e);
}

/* All of the log is durable now. */
static inline void fx_flush(struct fx *fx)
{
    assert_int_equal(fx_appended(fx, hf_raft_epoch(fx->r), hf_raft_last_index(fx->r), 0), 0);
}

static inline uint64_t fx_persist_seq(const struct fx *fx)
{
    const struct hf_raft_action *a = fx_act(fx, HF_RAFT_ACT_PERSIST, 0);

    return a ? a->u.persist.seq : 0;
}

/* Node 1 becomes leader; what it appended is not durable yet. */
static inline void fx_elect(struct fx *fx)
{
    const uint64_t term = hf_raft_term(fx->r) + 1;
    uint64_t seq;

    assert_int_equal(fx_tick(fx, 2 * TIMEOUT), 0);
    if (fx->start.config.count > 1) {
        assert_int_equal(hf_raft_role(fx->r), HF_RAFT_PRE_CANDIDATE);
        for (uint16_t i = 2; i <= fx->start.config.count / 2 + 1; i++) {
            assert_int_equal(fx_vote_result(fx, HF_RAFT_MSG_PREVOTE_RESULT, i, term, true), 0);
        }
    }
    seq = fx_persist_seq(fx);
    assert_int_not_equal(seq, 0);
    assert_int_equal(fx_persisted(fx, seq, 0), 0);
    for (uint16_t i = 2; i <= fx->start.config.count / 2 + 1; i++) {
        assert_int_equal(fx_vote_result(fx, HF_RAFT_MSG_VOTE_RESULT, i, term, true), 0);
    }
    assert_int_equal(hf_raft_role(fx->r), HF_RAFT_LEADER);
    assert_int_equal(hf_raft_term(fx->r), term);
}

static inline uint64_t fx_stream(struct fx *fx, uint16_t peer, uint64_t *ret_prev,
                                 uint64_t *ret_round)
{
    const struct hf_raft_msg *m;

    assert_int_equal(fx_tick(fx, TIMEOUT / 5), 0); /* a heartbeat shows what the leader believes */
    m = fx_sent(fx, HF_RAFT_MSG_APPEND, peer);
    assert_non_null(m);
    *ret_prev = m->u.append.prev_index;
    *ret_round = m->u.append.round;
    return m->u.append.stream;
}

static inline int fx_result(struct fx *fx, uint16_t from, uint64_t term, enum hf_raft_status status,
                            uint64_t match, uint64_t prev, uint64_t hint_index, uint64_t stream,
                            uint64_t round)
{
    struct hf_raft_msg m = {.type = HF_RAFT_MSG_APPEND_RESULT, .from = node(from), .term = term};

    m.u.append_result.status = status;
    m.u.append_result.match_index = match;
    m.u.append_result.prev_index = prev;
    m.u.append_result.hint_index = hint_index;
    m.u.append_result.stream = stream;
    m.u.append_result.round = round;
    m.u.append_result.incarnation = 100u + from;
    m.u.append_result.whole = true;
    return fx_recv(fx, m, NULL);
}

/* The peer says that it holds everything up to @match, in answer to the latest heartbeat. */
static inline void fx_ack(struct fx *fx, uint16_t from, uint64_t match)
{
    uint64_t prev, round;
    const uint64_t stream = fx_stream(fx, from, &prev, &round);

    assert_int_equal(
        fx_result(fx, from, hf_raft_term(fx->r), HF_RAFT_OK, match, prev, 0, stream, round), 0);
}

static inline int fx_propose(struct fx *fx, uint32_t count, uint32_t bytes)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_PROPOSE};
    uint32_t sizes[LOG_MAX];

    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = bytes;
    }
    e.u.propose.bytes = sizes;
    e.u.propose.count = count;
    return fx_event(fx, &e);
}

static inline int fx_change(struct fx *fx, enum hf_raft_change change, uint16_t id)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_CONFIG};

    e.u.config.change = change;
    e.u.config.node = node(id);
    return fx_event(fx, &e);
}

static inline int fx_read(struct fx *fx, uint64_t id)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_READ};

    e.u.read.id = id;
    return fx_event(fx, &e);
}

static inline int fx_transfer(struct fx *fx, uint16_t target)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_TRANSFER};

    e.u.transfer.target = node(target);
    return fx_event(fx, &e);
}

static inline int fx_trim(struct fx *fx, uint64_t index)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_TRIM};

    e.u.trim.index = index;
    return fx_event(fx, &e);
}

#endif
