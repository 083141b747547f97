/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers that say anything: whatever arrives, the core answers with an error or a step, and its
 * invariants hold. The driver's own events stay truthful.
 */
#include "tests/unit/server/raft/fixture.h"

#include "tests/lib/sim_rng.h"

static struct fx fx;
static struct hf_sim_rng rng;
static bool leading; /* this seed begins with a leader, and mostly answers it */
static uint64_t streams[10];

static uint64_t small(uint64_t end)
{
    return hf_sim_rng_chance(&rng, 2) ? hf_sim_rng_next(&rng) >> 2 : hf_sim_rng_below(&rng, end);
}

/* Near what the core holds, so that it gets past the first checks. */
static uint64_t near_index(void)
{
    const uint64_t last = hf_raft_last_index(fx.r), back = small(6);

    return hf_sim_rng_chance(&rng, 70) ? (last + 2 > back ? last + 2 - back : 0) : small(40);
}

static uint64_t near_term(void)
{
    const uint64_t term = hf_raft_term(fx.r);

    return hf_sim_rng_chance(&rng, leading ? 99 : 85) ? term : term + small(3);
}

static struct hf_raft_config some_config(void)
{
    struct hf_raft_config c = {.count = (uint32_t)hf_sim_rng_below(&rng, 5)};

    for (uint32_t i = 0; i < c.count; i++) {
        c.members[i] = (struct hf_raft_member){
            .id = node((uint16_t)(hf_sim_rng_chance(&rng, 95) ? i + 1 : small(9))),
            .kind = hf_sim_rng_chance(&rng, 70) ? HF_RAFT_VOTER : HF_RAFT_LEARNER,
        };
    }
    return c;
}

static void message(void)
{
    struct hf_raft_msg m = {.type = (enum hf_raft_msg_type)hf_sim_rng_below(&rng, 11)};
    struct hf_raft_head heads[8];
    struct hf_raft_config configs[8];
    uint64_t term;

    if (leading && hf_sim_rng_chance(&rng, 80)) {
        m.type =
            hf_sim_rng_chance(&rng, 80) ? HF_RAFT_MSG_APPEND_RESULT : HF_RAFT_MSG_SNAPSHOT_RESULT;
    }
    m.from = node((uint16_t)(1 + hf_sim_rng_below(&rng, 5)));
    m.term = near_term();
    switch (m.type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        m.u.vote.last_index = near_index();
        m.u.vote.last_term = near_term();
        m.u.vote.transfer = hf_sim_rng_chance(&rng, 30);
        m.term += hf_sim_rng_chance(&rng, 50);
        break;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        m.u.vote_result.granted = hf_sim_rng_chance(&rng, 80);
        m.term += m.type == HF_RAFT_MSG_PREVOTE_RESULT;
        break;
    case HF_RAFT_MSG_APPEND:
        m.u.append.prev_index = near_index();
        m.u.append.prev_term = near_term();
        (void)hf_raft_term_at(fx.r, m.u.append.prev_index, &m.u.append.prev_term);
        m.u.append.count = (uint32_t)hf_sim_rng_below(&rng, 9);
        m.u.append.commit_index = near_index();
        m.u.append.round = small(20);
        m.u.append.stream = small(20);
        m.u.append.incarnation = fx.options.incarnation;
        m.u.append.rejoin_index = small(4);
        term = m.u.append.prev_term;
        for (uint32_t i = 0; i < 8; i++) {
            term = hf_sim_rng_chance(&rng, 80) ? m.term : term;
            configs[i] = some_config();
            heads[i] = (struct hf_raft_head){
                .term = term,
                .bytes = (uint32_t)small(300),
                .type = (uint8_t)(hf_sim_rng_chance(&rng, 90) ? HF_RAFT_ENTRY_NORMAL : small(5)),
                .config = &configs[i],
            };
        }
        if (m.u.append.count > 8) {
            m.u.append.count = 8;
        }
        break;
    case HF_RAFT_MSG_APPEND_RESULT:
        m.u.append_result.status =
            (enum hf_raft_status)(hf_sim_rng_chance(&rng, 60) ? HF_RAFT_OK : small(6));
        m.u.append_result.match_index = near_index();
        m.u.append_result.prev_index = near_index();
        m.u.append_result.hint_index = near_index();
        m.u.append_result.hint_term = hf_sim_rng_chance(&rng, 50) ? 0 : near_term();
        m.u.append_result.round = small(4);
        m.u.append_result.stream = hf_sim_rng_chance(&rng, 80) ? streams[m.from.v] : small(12);
        m.u.append_result.incarnation = 1 + (hf_sim_rng_chance(&rng, 95) ? 0 : small(2));
        m.u.append_result.whole = hf_sim_rng_chance(&rng, 50);
        break;
    case HF_RAFT_MSG_SNAPSHOT:
        m.u.snapshot.index = near_index();
        m.u.snapshot.snapshot_term = near_term();
        m.u.snapshot.total_bytes = small(200);
        m.u.snapshot.offset_bytes = hf_sim_rng_chance(&rng, 60) ? 0 : small(200);
        m.u.snapshot.len_bytes = (uint32_t)small(200);
        m.u.snapshot.stream = small(3);
        m.u.snapshot.config = some_config();
        break;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        m.u.snapshot_result.index =
            hf_sim_rng_chance(&rng, 50) ? hf_raft_base_index(fx.r) : near_index();
        m.u.snapshot_result.offset_bytes = small(300);
        m.u.snapshot_result.stream = streams[m.from.v];
        m.u.snapshot_result.incarnation = 1;
        m.u.snapshot_result.match_index = hf_sim_rng_chance(&rng, 50) ? 0 : near_index();
        break;
    case HF_RAFT_MSG_TIMEOUT_NOW:
    default:
        break;
    }
    (void)fx_recv(&fx, m, heads);
}

/* The driver: finishes what it was asked, in order, sometimes with an error. */
static struct hf_raft_event pending[512];
static uint32_t pending_count;

static void note(const struct hf_raft_action *a)
{
    struct hf_raft_event e = {0};
    static struct hf_raft_config config;

    if (a->type == HF_RAFT_ACT_SEND) {
        if (a->u.send.msg.type == HF_RAFT_MSG_APPEND && a->u.send.msg.to.v < 10) {
            streams[a->u.send.msg.to.v] = a->u.send.msg.u.append.stream;
        }
        return;
    }
    if (a->type == HF_RAFT_ACT_PERSIST) {
        e.type = HF_RAFT_EV_PERSISTED;
        e.u.persisted.seq = a->u.persist.seq;
    } else if (a->type == HF_RAFT_ACT_APPEND) {
        e.type = HF_RAFT_EV_APPENDED;
        e.u.appended.epoch = a->u.append.epoch;
        e.u.appended.last_index = a->u.append.last_index;
    } else if (a->type == HF_RAFT_ACT_SNAPSHOT_WRITE) {
        e.type = HF_RAFT_EV_SNAPSHOT_WRITTEN;
        e.u.snapshot_written.index = a->u.snapshot.index;
        e.u.snapshot_written.end_bytes = a->u.snapshot.offset_bytes + a->u.snapshot.len_bytes;
    } else if (a->type == HF_RAFT_ACT_SNAPSHOT_INSTALL) {
        e.type = HF_RAFT_EV_SNAPSHOT_INSTALLED;
        e.u.snapshot_installed.index = a->u.snapshot.index;
    } else if (a->type == HF_RAFT_ACT_SNAPSHOT_OPEN) {
        config = voters(3);
        e.type = HF_RAFT_EV_SNAPSHOT_OPENED;
        e.u.snapshot_opened.peer = a->u.snapshot.peer;
        e.u.snapshot_opened.index = hf_raft_base_index(fx.r);
        (void)hf_raft_term_at(fx.r, hf_raft_base_index(fx.r), &e.u.snapshot_opened.term);
        e.u.snapshot_opened.total_bytes = 150;
        e.u.snapshot_opened.config = &config;
    } else {
        return;
    }
    if (pending_count < HF_ARRAY_LEN(pending)) {
        pending[pending_count++] = e;
    }
}

static void driver(void)
{
    struct hf_raft_event e;

    if (pending_count == 0) {
        return;
    }
    e = pending[0];
    memmove(pending, pending + 1, --pending_count * sizeof(pending[0]));
    if (hf_sim_rng_chance(&rng, 5) && e.type == HF_RAFT_EV_APPENDED) {
        e.u.appended.err = -EIO;
    }
    (void)fx_event(&fx, &e);
}

static void own_event(void)
{
    switch (hf_sim_rng_below(&rng, 8)) {
    case 0:
        (void)fx_propose(&fx, 1 + (uint32_t)hf_sim_rng_below(&rng, 4), 50);
        break;
    case 1:
        (void)fx_read(&fx, 1);
        break;
    case 2:
        (void)fx_change(&fx, (enum hf_raft_change)small(6), (uint16_t)small(6));
        break;
    case 3:
        (void)fx_transfer(&fx, (uint16_t)small(4));
        break;
    case 4:
        (void)fx_trim(&fx, hf_raft_durable_index(fx.r) < hf_raft_commit_index(fx.r)
                               ? hf_raft_durable_index(fx.r)
                               : hf_raft_commit_index(fx.r));
        break;
    default:
        (void)fx_tick(&fx, hf_sim_rng_below(&rng, TIMEOUT / 2));
        break;
    }
}

static void whatever_peers_say_the_invariants_hold(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        rng.state = seed;
        pending_count = 0;
        fx_init(&fx, 3);
        fx.options.abstain = hf_sim_rng_chance(&rng, 10);
        fx_open(&fx);
        leading = !fx.options.abstain && hf_sim_rng_chance(&rng, 60);
        if (leading) {
            fx_elect(&fx);
            fx_flush(&fx);
        }
        for (int step = 0; step < 500; step++) {
            const uint64_t what = hf_sim_rng_below(&rng, 10);

            if (what < 5) {
                message();
            } else if (what < 8) {
                driver();
            } else {
                own_event();
            }
            for (uint32_t i = 0; i < fx.a.count; i++) {
                note(&fx.a.items[i]);
            }
        }
        fx_fini(&fx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_peers_say_the_invariants_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
