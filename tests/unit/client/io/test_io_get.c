/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets, and the cache.
 */
#include <unistd.h>

#include "tests/lib/silent.h"
#include "tests/unit/client/io/world.h"

static void a_corrupt_copy_is_reported_and_another_read(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    w->stores[0].corrupt = w->stores[1].corrupt = true;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(get_run(w, &oid, i << 20, 1u << 20, false), 0);
    }
    if (stats(w).mismatches == 0) { /* all three from the good one */
        w->stores[0].corrupt = false;
        w->stores[2].corrupt = true;
        assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    }
    loop_for(w->env, 20 * HF_NS_PER_MS);
    assert_true(stats(w).mismatches > 0);
    assert_int_equal(w->stores[0].reports + w->stores[1].reports + w->stores[2].reports,
                     stats(w).mismatches);
    w->stores[0].corrupt = w->stores[1].corrupt = w->stores[2].corrupt = true;
    assert_int_equal(get_run(w, &oid, 0, 4096, false), -EIO);
}

static void bytes_damaged_on_their_way_are_asked_for_again(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    w->stores[0].damaged_gets = w->stores[1].damaged_gets = w->stores[2].damaged_gets = 4;
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    assert_int_equal(stats(w).mismatches, 12);
}

static void a_dead_or_hanging_replica_is_passed_over(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    store_stop(&w->stores[0]);
    w->stores[1].hang = true;
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(get_run(w, &oid, i << 19, 1u << 19, i % 2), 0);
    }
    assert_true(w->stores[1].hung_count <= 1); /* asked once, then tried last */
}

static void an_object_that_is_nowhere_is_said_to_be(void **state)
{
    struct world *w = *state;
    struct hf_oid oid = {.session = 99, .seq = 1, .group = 3};

    world_start(w, 3, 3);
    assert_int_equal(get_run(w, &oid, 0, 4096, false), -HF_ENOOBJECT);
    assert_int_equal(get_run(w, &oid, 0, 4096, true), -HF_ENOOBJECT);
    assert_false(hf_io_cached(w->io, &oid, 0, 4096));
    oid = put_ok(w, 5000);
    assert_int_equal(get_run(w, &oid, 4000, 2000, true), -EIO); /* past its end */
    assert_int_equal(get_run(w, &oid, 4000, 1000, true), 0);
}

static void a_replica_that_lacks_it_is_passed_over(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    w->stores[0].get_err = -HF_ENOOBJECT;
    w->stores[1].get_err = -HF_EQUARANTINED;
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
}

static void restart_all(void *ctx)
{
    struct world *w = ctx;

    for (uint32_t i = 0; i < 3; i++) {
        store_start(&w->stores[i]);
    }
}

static void a_get_waits_for_replicas_to_come_back(void **state)
{
    struct world *w = *state;
    struct hf_timer timer;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 3; i++) {
        store_stop(&w->stores[i]);
    }
    hf_timer_init(&timer, w->env, restart_all, w);
    hf_timer_arm(&timer, 700 * HF_NS_PER_MS);
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    hf_timer_fini(&timer);
}

static void a_node_may_move_to_another_address(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 3; i++) {
        struct fake_store *s = &w->stores[i];

        store_stop(s);
        (void)snprintf(s->addr, sizeof(s->addr), "127.0.0.1:0");
        store_start(s);
        memcpy(w->leader.map.nodes[i].addr, s->addr, sizeof(s->addr));
    }
    w->leader.map.epoch.v++;
    assert_int_equal(get_run(w, &oid, 0, 1u << 20, false), 0);
    (void)put_ok(w, 4096);
}

/* Store 1 and the first metadata node are one machine, which takes connections and says nothing.
 */
static void a_node_that_is_silent_as_a_metadata_node_is_read_last(void **state)
{
    struct world *w = *state;
    char addr[SILENT_ADDR_BYTES];
    int silent = silent_listen(addr);
    struct hf_oid oid;

    w->addrs[0] = addr;
    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    memcpy(w->leader.map.nodes[0].addr, addr, sizeof(addr));
    w->leader.map.epoch.v++;
    hf_session_refresh_map(w->session);
    loop_for(w->env, 100 * HF_NS_PER_MS);
    assert_int_equal(hf_session_map(w->session)->epoch.v, w->leader.map.epoch.v);
    assert_false(hf_session_silent(w->session, w->leader.addr));
    assert_true(hf_session_silent(w->session, addr));
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(get_run(w, &oid, i << 17, 1u << 17, true), 0);
    }
    assert_int_equal(stats(w).get_fallbacks, 0);
    (void)close(silent);
}

/* --- the cache --- */

static void cached_bytes_are_not_fetched_again(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, (2u << 20) + 12345);
    assert_false(hf_io_cached(w->io, &oid, 0, 1));
    assert_int_equal(get_run(w, &oid, 300000, 1000, true), 0);
    assert_int_equal(total_gets(w), 1);
    assert_true(hf_io_cached(w->io, &oid, 262144, 262144));
    assert_false(hf_io_cached(w->io, &oid, 262143, 2));
    assert_int_equal(get_run(w, &oid, 262144, 262144, true), 0);
    assert_int_equal(get_run(w, &oid, 270000, 100000, false), 0);
    assert_int_equal(total_gets(w), 1);
    assert_int_equal(get_run(w, &oid, 0, (2u << 20) + 12345, true), 0);
    assert_int_equal(total_gets(w), 1 + 3); /* chunks 0, 2 to 5, 6 to 8: at most 1 MiB each */
    assert_int_equal(get_run(w, &oid, 0, (2u << 20) + 12345, true), 0);
    assert_int_equal(total_gets(w), 4);
    assert_true(stats(w).cache_hits > 0);
}

static void readers_of_one_chunk_share_one_fetch(void **state)
{
    struct world *w = *state;
    struct get gets[10];
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 1u << 20);
    for (uint32_t i = 0; i < 10; i++) {
        get_start(w, &gets[i], &oid, i * 100, 5000, true);
    }
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(loop_until_flag(w->env, &gets[i].done));
        get_check(w, &gets[i]);
    }
    assert_int_equal(total_gets(w), 1);
}

static void chunks_in_many_pieces_are_joined(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 3u << 20);
    for (uint32_t i = 0; i < 12; i++) { /* 12 runs of one chunk: more than an answer's slices */
        assert_int_equal(get_run(w, &oid, i * 262144, 4096, true), 0);
    }
    assert_int_equal(total_gets(w), 12);
    assert_int_equal(get_run(w, &oid, 5, (3u << 20) - 10, true), 0);
}

static void the_cache_stays_within_its_size(void **state)
{
    struct world *w = *state;
    struct hf_oid first, oid;

    world_start(w, 3, 3);
    first = put_ok(w, 1u << 20);
    assert_int_equal(get_run(w, &first, 0, 4096, true), 0);
    for (int i = 0; i < 5; i++) {
        oid = put_ok(w, 1u << 20);
        assert_int_equal(get_run(w, &oid, 0, 1u << 20, true), 0);
        assert_true(stats(w).cache_bytes <= 3u << 20);
    }
    assert_false(hf_io_cached(w->io, &first, 0, 4096));
    assert_true(hf_io_cached(w->io, &oid, 0, 1u << 20));
}

static bool is_warm(void *ctx)
{
    struct world *w = ctx;
    struct hf_oid oid = w->stores[0].objects[0].oid;

    return hf_io_cached(w->io, &oid, 0, 1u << 20);
}

static void prefetch_warms_the_cache_and_is_bounded(void **state)
{
    struct world *w = *state;
    struct hf_oid oid;

    world_start(w, 3, 3);
    oid = put_ok(w, 2u << 20);
    hf_io_prefetch(w->io, &oid, 0, 2u << 20);
    hf_io_prefetch(w->io, &oid, 0, 2u << 20);
    assert_true(loop_until(w->env, is_warm, w, 10 * HF_NS_PER_SEC));
    loop_for(w->env, 20 * HF_NS_PER_MS);
    assert_int_equal(total_gets(w), 2);
    w->stores[0].hang = w->stores[1].hang = w->stores[2].hang = true;
    for (uint64_t i = 0; i < 100; i++) {
        hf_io_prefetch(w->io, &(struct hf_oid){.session = 1, .seq = i + 100}, 0, 1u << 20);
    }
    loop_for(w->env, 50 * HF_NS_PER_MS);
    assert_true(w->stores[0].hung_count + w->stores[1].hung_count + w->stores[2].hung_count <= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_corrupt_copy_is_reported_and_another_read),
        T(bytes_damaged_on_their_way_are_asked_for_again),
        T(a_dead_or_hanging_replica_is_passed_over),
        T(an_object_that_is_nowhere_is_said_to_be),
        T(a_replica_that_lacks_it_is_passed_over),
        T(a_get_waits_for_replicas_to_come_back),
        T(a_node_may_move_to_another_address),
        T(a_node_that_is_silent_as_a_metadata_node_is_read_last),
        T(cached_bytes_are_not_fetched_again),
        T(readers_of_one_chunk_share_one_fetch),
        T(chunks_in_many_pieces_are_joined),
        T(the_cache_stays_within_its_size),
        T(prefetch_warms_the_cache_and_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
