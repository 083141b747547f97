/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts.
 */
#include "client/io/io_impl.h"
#include "tests/lib/dies.h"
#include "tests/unit/client/io/world.h"

static void objects_of_every_size_come_back(void **state)
{
    static const uint32_t sizes[] = {
        1,        4095,           4096,       4097,           300000,
        1u << 20, (1u << 20) + 1, (2u << 20), (4u << 20) - 1, 4u << 20};
    struct world *w = *state;

    world_start(w, 3, 3);
    for (size_t i = 0; i < HF_ARRAY_LEN(sizes); i++) {
        struct hf_oid oid = put_ok(w, sizes[i]);

        for (uint32_t n = 0; n < 3; n++) {
            assert_int_equal(whole_objects(&w->stores[n]), i + 1);
        }
        assert_int_equal(get_run(w, &oid, 0, sizes[i], false), 0);
        assert_int_equal(get_run(w, &oid, sizes[i] / 3, sizes[i] - sizes[i] / 3, true), 0);
        assert_int_equal(get_run(w, &oid, sizes[i] / 2, 1, false), 0);
        assert_int_equal(get_run(w, &oid, 0, sizes[i], true), 0);
    }
}

static void holders_and_epoch_are_told(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 5, 3);
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, hf_map_group_members(&w->leader.map, put.p.oid.group));
    assert_int_equal(put.p.epoch.v, 10);
    assert_int_equal(put.p.oid.session, hf_session_id(w->session).v);
    assert_true(put.p.digest != 0);
}

static bool frames_came(void *ctx)
{
    return ((struct world *)ctx)->stores[0].puts >= 2;
}

static void full_frames_leave_before_the_end(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    put_begin(w, &put);
    for (uint32_t i = 0; i < 9; i++) {
        hf_io_put_append(&put.p, &(struct iovec){w->bytes + i * 262144, 262144}, 1);
    }
    assert_true(loop_until(w->env, frames_came, w, 10 * HF_NS_PER_SEC));
    hf_io_put_finish(&put.p);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(w->stores[0].puts, 3);
    assert_int_equal(get_run(w, &put.p.oid, 0, 9 * 262144, false), 0);
}

static void thousands_of_small_pieces_make_one_object(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    uint32_t at = 0;
    uint8_t *copy = malloc(2u << 20); /* with a hole after each piece: they cannot be joined */

    assert_non_null(copy);
    world_start(w, 3, 3);
    put_begin(w, &put);
    for (uint32_t i = 0; i < 8000; i++) {
        uint32_t len = 1 + i % 250;

        memcpy(copy + at + i, w->bytes + at, len);
        hf_io_put_append(&put.p, &(struct iovec){copy + at + i, len}, 1);
        at += len;
    }
    hf_io_put_finish(&put.p);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(get_run(w, &put.p.oid, 0, at, false), 0);
    free(copy);
}

static void a_dead_member_is_avoided_at_once_where_possible(void **state)
{
    struct world *w = *state;

    world_start(w, 5, 3);
    store_stop(&w->stores[1]);
    for (int i = 0; i < 20; i++) {
        struct put put = {0};
        uint64_t start = hf_env_mono_ns(w->env);

        put_start(w, &put, 0, 2u << 20);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(__builtin_popcountll(put.p.holders), 3);
        assert_int_equal(put.p.holders & 2, 0);
        assert_int_equal(put.p.holders & hf_map_group_members(&w->leader.map, put.p.oid.group),
                         put.p.holders);
        assert_true(hf_env_mono_ns(w->env) - start < 2 * HF_NS_PER_SEC);
    }
    assert_true(stats(w).put_retries > 0);
}

static void node_three_down(void *ctx)
{
    fake_leader_set_node(&((struct world *)ctx)->leader, 3, HF_NODE_DOWN);
}

static void with_no_other_group_a_put_waits_until_the_map_gives_the_member_up(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_timer timer;

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    put_start(w, &put, 0, 3u << 20);
    loop_for(w->env, 300 * HF_NS_PER_MS);
    assert_false(put.done); /* never two copies while the map says three */
    hf_timer_init(&timer, w->env, node_three_down, w);
    hf_timer_arm(&timer, 100 * HF_NS_PER_MS);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
    assert_int_equal(put.p.epoch.v, 11);
    assert_int_equal(whole_objects(&w->stores[0]), 1); /* not sent again */
    assert_int_equal(w->stores[0].puts, 3);
    hf_timer_fini(&timer);
}

static void a_member_that_comes_back_in_time_takes_the_object(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    hf_timer_arm(&w->stores[2].restart, 250 * HF_NS_PER_MS);
    put_start(w, &put, 0, 3u << 20);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 7);
    assert_int_equal(whole_objects(&w->stores[2]), 1);
    assert_int_equal(whole_objects(&w->stores[0]), 1);
}

static void a_connection_lost_between_frames_sends_them_again(void **state)
{
    struct world *w = *state;

    world_start(w, 3, 3);
    for (uint32_t at = 1; at <= 4; at++) {
        struct hf_oid oid;

        w->stores[1].drop_at = at;
        oid = put_ok(w, 4u << 20);
        assert_int_equal(whole_objects(&w->stores[1]), at);
        assert_int_equal(get_run(w, &oid, 0, 4u << 20, false), 0);
    }
}

static void a_member_that_hangs_is_dropped_with_the_map(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_timer timer;

    world_start(w, 3, 3);
    w->stores[2].hang = true;
    hf_timer_init(&timer, w->env, node_three_down, w);
    hf_timer_arm(&timer, 1200 * HF_NS_PER_MS);
    put_start(w, &put, 0, 4u << 20);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
    hf_timer_fini(&timer);
}

static void a_member_that_hangs_is_left_where_possible(void **state)
{
    struct world *w = *state;

    world_start(w, 5, 3);
    w->stores[2].hang = true;
    for (int i = 0; i < 4; i++) {
        struct put put = {0};

        put_start(w, &put, 0, 2u << 20);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(put.p.holders & 4, 0);
        assert_int_equal(__builtin_popcountll(put.p.holders), 3);
    }
}

static void node_three_read_only(void *ctx)
{
    fake_leader_set_node(&((struct world *)ctx)->leader, 3, HF_NODE_READ_ONLY);
}

static void a_member_whose_disk_fails_is_left_out_once_the_map_says_so(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_timer timer;

    world_start(w, 3, 3);
    w->stores[2].put_err = -EIO;
    put_start(w, &put, 0, 3u << 20);
    loop_for(w->env, 300 * HF_NS_PER_MS);
    assert_false(put.done);
    hf_timer_init(&timer, w->env, node_three_read_only, w);
    hf_timer_arm(&timer, 100 * HF_NS_PER_MS);
    put_wait(w, &put);
    hf_timer_fini(&timer);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
    assert_int_equal(put.p.epoch.v, 11);
    assert_int_equal(get_run(w, &put.p.oid, 0, 3u << 20, false), 0);
}

/* All of them, also those that come later; and not those after the stores are back. */
static void without_enough_stores_puts_fail_in_time(void **state)
{
    struct world *w = *state;
    struct put puts[12] = {{.order = 0}}, late = {.order = 0};
    uint64_t start = hf_env_mono_ns(w->env);

    w->op_timeout_ns = 2 * HF_NS_PER_SEC;
    world_start(w, 3, 3);
    fake_leader_set_node(&w->leader, 2, HF_NODE_DOWN);
    fake_leader_set_node(&w->leader, 3, HF_NODE_DOWN);
    hf_session_refresh_map(w->session);
    loop_for(w->env, 100 * HF_NS_PER_MS);
    for (uint32_t i = 0; i < 12; i++) { /* more than may be in flight */
        put_start(w, &puts[i], i * 5000, 5000);
    }
    loop_for(w->env, HF_NS_PER_SEC);
    assert_false(puts[0].done);
    put_start(w, &late, 0, 5000);
    for (uint32_t i = 0; i < 12; i++) {
        put_wait(w, &puts[i]);
        assert_int_equal(puts[i].err, -EIO);
    }
    put_wait(w, &late);
    assert_int_equal(late.err, -EIO);
    assert_true(hf_env_mono_ns(w->env) - start < 4 * HF_NS_PER_SEC);
    late = (struct put){.order = 0};
    put_start(w, &late, 0, 5000);
    loop_for(w->env, HF_NS_PER_SEC);
    assert_false(late.done); /* its time begins anew */
    fake_leader_set_node(&w->leader, 2, HF_NODE_UP);
    fake_leader_set_node(&w->leader, 3, HF_NODE_UP);
    put_wait(w, &late);
    assert_int_equal(late.err, 0);
}

static void the_disks_of_too_many_members_fail_and_a_put_says_so(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    uint64_t start = hf_env_mono_ns(w->env);

    world_start(w, 3, 3);
    w->stores[1].put_err = w->stores[2].put_err = -EIO;
    fake_leader_set_node(&w->leader, 2, HF_NODE_READ_ONLY);
    fake_leader_set_node(&w->leader, 3, HF_NODE_READ_ONLY);
    put_start(w, &put, 0, 100000);
    put_wait(w, &put);
    assert_int_equal(put.err, -EIO);
    assert_true(hf_env_mono_ns(w->env) - start > 9 * HF_NS_PER_SEC);
}

static void two_dead_members_of_three_make_a_put_wait(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[1]);
    store_stop(&w->stores[2]);
    fake_leader_set_node(&w->leader, 2, HF_NODE_DOWN);
    fake_leader_set_node(&w->leader, 3, HF_NODE_DOWN);
    put_start(w, &put, 0, 100000);
    loop_for(w->env, 500 * HF_NS_PER_MS);
    assert_false(put.done);
    store_start(&w->stores[1]);
    fake_leader_set_node(&w->leader, 2, HF_NODE_UP);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 3);
}

static void targets_are_written_too(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 4, 2);
    for (uint32_t g = 0; g < w->leader.map.group_count; g++) {
        w->leader.map.groups[g].target[0].v = (uint16_t)((g + 2) % 4 + 1);
        w->leader.map.groups[g].epoch.v = 11;
    }
    w->leader.map.epoch.v = 11;
    for (uint32_t i = 0; i < 4; i++) {
        w->stores[i].epoch = 11;
    }
    put_start(w, &put, 0, 100000); /* begins under the old map, is refused, fetches the new one */
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(__builtin_popcountll(put.p.holders), 3);
    assert_int_equal(put.p.epoch.v, 11);
}

static void a_full_member_is_avoided_and_a_full_cluster_says_so(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 5, 3);
    w->stores[0].put_err = -ENOSPC;
    for (int i = 0; i < 10; i++) {
        put_start(w, &put, 0, 50000);
        put_wait(w, &put);
        assert_int_equal(put.err, 0);
        assert_int_equal(put.p.holders & 1, 0);
    }
    for (int i = 1; i < 5; i++) {
        w->stores[i].put_err = -ENOSPC;
    }
    put_start(w, &put, 0, 50000);
    put_wait(w, &put);
    assert_int_equal(put.err, -ENOSPC);
}

static void a_busy_store_is_asked_again(void **state)
{
    struct world *w = *state;

    world_start(w, 3, 3);
    w->stores[0].put_err = -EAGAIN;
    w->stores[0].put_err_count = 3;
    w->stores[1].put_err = -HF_ENOTREADY;
    w->stores[1].put_err_count = 6;
    (void)put_ok(w, 4u << 20);
    assert_int_equal(stats(w).put_retries, 0);
}

static void an_id_in_conflict_is_given_up(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    w->stores[0].put_err = -HF_ECONFLICT;
    w->stores[0].put_err_count = 2;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_true(put.p.oid.seq > 1);
    w->stores[0].put_err = -HF_ECONFLICT;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, -EIO);
}

static void a_put_damaged_on_its_way_goes_again(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    w->stores[0].damaged_puts = 8;
    w->stores[1].damaged_puts = 5;
    oid = put_ok(w, 3u << 20);
    assert_int_equal(oid.seq, 1);
    assert_int_equal(stats(w).put_retries, 0);
    assert_int_equal(w->stores[0].puts, 9 * 3);
    assert_int_equal(w->stores[2].puts, 3);
}

/* It has parts of as many objects as it takes; what it refuses is sent again ever more rarely. */
static void a_store_without_room_for_a_put_is_asked_less_and_less(void **state)
{
    struct world *w = *state;
    uint64_t began_ns;

    world_start(w, 3, 3);
    w->stores[0].put_err = -EAGAIN;
    w->stores[0].put_err_count = 12; /* one to three frames a time */
    began_ns = hf_env_mono_ns(w->env);
    (void)put_ok(w, 3u << 20);
    assert_true(hf_env_mono_ns(w->env) - began_ns >= (20 + 40 + 80 + 160) * HF_NS_PER_MS);
}

static void a_fenced_put_fails(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    w->stores[0].put_err = -HF_EFENCED;
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, -HF_EFENCED);
}

static void ignore(void *ctx, int err)
{
    (void)ctx;
    (void)err;
}

static void a_lost_session_ends_puts(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    store_stop(&w->stores[2]);
    put_start(w, &put, 0, 5000);
    loop_for(w->env, 50 * HF_NS_PER_MS);
    w->leader.fenced = true;
    hf_session_wait_budget(w->session, UINT64_C(1) << 40, ignore, NULL); /* renews */
    put_wait(w, &put);
    assert_int_equal(put.err, -HF_EFENCED);
}

static void urgent_puts_go_first(void **state)
{
    struct world *w = *state;
    struct put puts[40];

    memset(puts, 0, sizeof(puts));
    put_order = 0;
    world_start(w, 3, 3);
    for (uint32_t i = 0; i < 3; i++) {
        w->stores[i].delay_ns = 5 * HF_NS_PER_MS;
    }
    for (uint32_t i = 0; i < 40; i++) {
        puts[i].p.urgent = i == 39;
        put_start(w, &puts[i], i * 4096, 4096);
    }
    for (uint32_t i = 0; i < 40; i++) {
        put_wait(w, &puts[i]);
        assert_int_equal(puts[i].err, 0);
    }
    assert_true(puts[39].order < 16);
    assert_int_equal(whole_objects(&w->stores[0]), 40);
}

static void a_put_that_fills_slowly_holds_nobody_up(void **state)
{
    struct world *w = *state;
    struct put slow[12], put = {0};

    memset(slow, 0, sizeof(slow));
    world_start(w, 3, 3);
    for (uint32_t i = 0; i < 12; i++) {
        put_begin(w, &slow[i]);
        hf_io_put_append(&slow[i].p, &(struct iovec){w->bytes, (1u << 20) + 1}, 1);
    }
    put_start(w, &put, 0, 5000);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    for (uint32_t i = 0; i < 12; i++) {
        assert_false(slow[i].done);
        hf_io_put_finish(&slow[i].p);
    }
    for (uint32_t i = 0; i < 12; i++) {
        put_wait(w, &slow[i]);
        assert_int_equal(slow[i].err, 0);
    }
}

static bool abandoned(void *ctx)
{
    struct world *w = ctx;

    return w->stores[0].abandons && w->stores[1].abandons && w->stores[2].abandons;
}

static void a_cancelled_put_is_abandoned_on_the_stores(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    put_begin(w, &put);
    hf_io_put_append(&put.p, &(struct iovec){w->bytes, 3u << 20}, 1);
    hf_io_put_cancel(&put.p);
    assert_false(put.done);
    put_wait(w, &put);
    assert_int_equal(put.err, -ECANCELED);
    assert_true(loop_until(w->env, abandoned, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(whole_objects(&w->stores[0]), 0);
}

static void free_ends_puts_and_gets(void **state)
{
    struct world *w = *state;
    struct put puts[20];
    struct get get, warm;
    struct hf_oid oid;

    memset(puts, 0, sizeof(puts));
    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    w->stores[0].hang = w->stores[1].hang = w->stores[2].hang = true;
    for (uint32_t i = 0; i < 20; i++) {
        put_start(w, &puts[i], 0, 4u << 20);
    }
    get_start(w, &get, &oid, 0, 1u << 20, false);
    get_start(w, &warm, &oid, 0, 1u << 20, true);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_io_free(w->io);
    w->io = NULL;
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(puts[i].done);
        assert_int_equal(puts[i].err, -ECANCELED);
    }
    assert_true(get.done && warm.done);
    assert_int_equal(get.err, -ECANCELED);
    assert_int_equal(warm.err, -ECANCELED);
}

/* --- chaos: stores die, hang, come back and forget; the map follows --- */

struct chaos {
    struct world *w;
    struct hf_timer timer;
    uint64_t seed;
    uint64_t down_since[NODES_MAX];
    bool calm;
};

static uint32_t chance(struct chaos *c, uint32_t n)
{
    c->seed = c->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(c->seed >> 33) % n;
}

static void store_unhang(struct fake_store *s)
{
    s->hang = false;
    store_stop(s); /* what hung is forgotten */
    store_start(s);
}

/* It took all of it, and has come back since: it need not have it any more. */
static void a_member_that_returns_before_the_others_are_done_takes_it_again(void **state)
{
    struct world *w = *state;
    struct put put = {0};

    world_start(w, 3, 3);
    w->stores[1].hang = true;
    put_start(w, &put, 0, 2u << 20);
    loop_for(w->env, 300 * HF_NS_PER_MS);
    assert_false(put.done);
    assert_int_equal(w->stores[2].puts, 2);
    fake_leader_set_node(&w->leader, 3, HF_NODE_UP);
    w->leader.map.nodes[2].returned = w->leader.map.epoch;
    hf_session_refresh_map(w->session);
    loop_for(w->env, 100 * HF_NS_PER_MS);
    store_unhang(&w->stores[1]);
    put_wait(w, &put);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.p.holders, 7);
    assert_int_equal(put.p.epoch.v, w->leader.map.epoch.v);
    assert_int_equal(w->stores[2].puts, 4);
    assert_int_equal(w->stores[0].puts, 2);
}

static void chaos_turn(void *ctx)
{
    struct chaos *c = ctx;
    struct world *w = c->w;
    struct fake_store *s = &w->stores[chance(c, w->node_count)];
    uint64_t now = hf_env_mono_ns(w->env);

    if (!c->calm) {
        switch (chance(c, 6)) {
        case 0:
            if (s->server) {
                store_stop(s);
            }
            break;
        case 1:
            s->hang = s->server != NULL;
            break;
        case 2:
            s->drop_at = s->server ? 1 + chance(c, 5) : 0;
            break;
        case 3:
            s->put_err = chance(c, 2) ? -EAGAIN : -HF_ENOTREADY;
            s->put_err_count = 1 + chance(c, 4);
            break;
        default:
            break;
        }
    }
    for (uint32_t i = 0; i < w->node_count; i++) { /* the leader's view, and repairs */
        struct fake_store *v = &w->stores[i];
        bool sick = !v->server || v->hang;

        c->down_since[i] = !sick ? 0 : c->down_since[i] ? c->down_since[i] : now;
        if (sick && now - c->down_since[i] > 60 * HF_NS_PER_MS &&
            w->leader.map.nodes[i].state == HF_NODE_UP) {
            fake_leader_set_node(&w->leader, v->node, HF_NODE_DOWN);
        }
        if (sick && (c->calm || now - c->down_since[i] > 150 * HF_NS_PER_MS)) {
            v->drop_at = 0;
            if (v->server) {
                store_unhang(v);
            } else {
                store_start(v);
            }
            if (w->leader.map.nodes[i].state != HF_NODE_UP) {
                fake_leader_set_node(&w->leader, v->node, HF_NODE_UP);
                v->epoch = w->leader.map.epoch.v; /* of its groups: refuses what is older */
            }
        }
    }
    hf_timer_arm(&c->timer, (5 + chance(c, 30)) * HF_NS_PER_MS);
}

#define CHAOS_PUTS 60u

/* Every holder that was named has the bytes; there are at least two. */
static void chaos_check(struct world *w, const struct put *put, uint32_t off)
{
    assert_int_equal(put->err, 0);
    assert_true(__builtin_popcountll(put->p.holders) >= 2);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct object *o = object_find(&w->stores[i], &put->p.oid, false);

        if (put->p.holders & UINT64_C(1) << i) {
            assert_true(o && o->whole);
            assert_int_equal(o->len, put->p.len_bytes);
            assert_memory_equal(o->data, w->bytes + off, o->len);
        }
    }
}

static void chaos_run(struct world *w, uint32_t nodes, uint64_t seed)
{
    struct chaos c = {.w = w, .seed = seed};
    struct put puts[CHAOS_PUTS];
    uint32_t offs[CHAOS_PUTS];

    memset(puts, 0, sizeof(puts));
    world_start(w, nodes, 3);
    hf_timer_init(&c.timer, w->env, chaos_turn, &c);
    hf_timer_arm(&c.timer, 0);
    for (uint32_t i = 0; i < CHAOS_PUTS; i++) {
        uint32_t len = 1 + chance(&c, chance(&c, 2) ? 300000 : BYTES);

        offs[i] = chance(&c, BYTES - len + 1) & ~7u;
        puts[i].p.urgent = chance(&c, 8) == 0;
        put_start(w, &puts[i], offs[i], len);
        loop_for(w->env, chance(&c, 8) * HF_NS_PER_MS);
    }
    c.calm = true;
    for (uint32_t i = 0; i < CHAOS_PUTS; i++) {
        put_wait(w, &puts[i]);
        chaos_check(w, &puts[i], offs[i]);
    }
    hf_timer_fini(&c.timer);
}

static void puts_come_through_chaos_on_three_nodes(void **state)
{
    chaos_run(*state, 3, 1);
}

static void puts_come_through_chaos_on_five_nodes(void **state)
{
    chaos_run(*state, 5, 2);
}

/* What hf_io_check_invariants() is for */

static void unbroken_io(void *ctx)
{
    hf_io_check_invariants(ctx);
}

static void a_slot_that_nobody_has(void *ctx)
{
    struct hf_io *io = ctx;

    io->slots_used++;
    hf_io_check_invariants(io);
}

static void a_put_that_nothing_wakes(void *ctx)
{
    struct hf_io *io = ctx;

    hf_timer_disarm(&TAILQ_FIRST(&io->puts)->timer);
    hf_io_check_invariants(io);
}

static void a_member_that_is_there_twice(void *ctx)
{
    struct hf_io *io = ctx;
    struct io_put *p = TAILQ_FIRST(&io->puts);

    p->members[1].node = p->members[0].node;
    hf_io_check_invariants(io);
}

static void a_fetch_with_a_reference_too_many(void *ctx)
{
    struct hf_io *io = ctx;

    TAILQ_FIRST(&io->fetching)->refs++;
    hf_io_check_invariants(io);
}

static void a_part_that_waits_for_nothing(void *ctx)
{
    struct hf_io *io = ctx;

    TAILQ_FIRST(&io->gets)->pending++;
    hf_io_check_invariants(io);
}

static void cached_bytes_that_are_not_there(void *ctx)
{
    struct hf_io *io = ctx;

    io->stats.cache_bytes++;
    hf_io_check_invariants(io);
}

static void broken_invariants_are_found(void **state)
{
    struct world *w = *state;
    struct put put = {0};
    struct hf_oid oid;
    struct get get;

    world_start(w, 3, 3);
    oid = put_ok(w, 2u << 20);
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, true), 0);
    put_start(w, &put, 0, 5000);
    get_start(w, &get, &oid, 1u << 20, 4096, true);
    assert_false(dies(unbroken_io, w->io));
    assert_true(dies(a_slot_that_nobody_has, w->io));
    assert_true(dies(a_put_that_nothing_wakes, w->io));
    assert_true(dies(a_member_that_is_there_twice, w->io));
    assert_true(dies(a_fetch_with_a_reference_too_many, w->io));
    assert_true(dies(a_part_that_waits_for_nothing, w->io));
    assert_true(dies(cached_bytes_that_are_not_there, w->io));
    put_wait(w, &put);
    assert_true(loop_until_flag(w->env, &get.done));
    get_check(w, &get);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(broken_invariants_are_found),
        T(objects_of_every_size_come_back),
        T(holders_and_epoch_are_told),
        T(full_frames_leave_before_the_end),
        T(thousands_of_small_pieces_make_one_object),
        T(a_dead_member_is_avoided_at_once_where_possible),
        T(with_no_other_group_a_put_waits_until_the_map_gives_the_member_up),
        T(a_member_that_comes_back_in_time_takes_the_object),
        T(a_member_that_returns_before_the_others_are_done_takes_it_again),
        T(a_connection_lost_between_frames_sends_them_again),
        T(a_member_that_hangs_is_dropped_with_the_map),
        T(a_member_that_hangs_is_left_where_possible),
        T(two_dead_members_of_three_make_a_put_wait),
        T(a_member_whose_disk_fails_is_left_out_once_the_map_says_so),
        T(without_enough_stores_puts_fail_in_time),
        T(the_disks_of_too_many_members_fail_and_a_put_says_so),
        T(targets_are_written_too),
        T(a_full_member_is_avoided_and_a_full_cluster_says_so),
        T(a_busy_store_is_asked_again),
        T(an_id_in_conflict_is_given_up),
        T(a_put_damaged_on_its_way_goes_again),
        T(a_store_without_room_for_a_put_is_asked_less_and_less),
        T(a_fenced_put_fails),
        T(a_lost_session_ends_puts),
        T(urgent_puts_go_first),
        T(a_put_that_fills_slowly_holds_nobody_up),
        T(a_cancelled_put_is_abandoned_on_the_stores),
        T(free_ends_puts_and_gets),
        T(puts_come_through_chaos_on_three_nodes),
        T(puts_come_through_chaos_on_five_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
