/* SPDX-License-Identifier: Apache-2.0 */
#include "common/placement/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GROUPS 2048u

static struct hf_map map;

static void map_make(uint32_t nodes, uint32_t copies, uint32_t domains)
{
    hf_map_fini(&map);
    memset(&map, 0, sizeof(map));
    map.copies = copies;
    map.min_copies = copies > 1 ? copies - 1 : 1;
    map.group_count = GROUPS;
    map.groups = calloc(GROUPS, sizeof(*map.groups));
    assert_non_null(map.groups);
    map.node_count = nodes;
    for (uint32_t i = 0; i < nodes; i++) {
        map.nodes[i].id.v = (uint16_t)(i + 1);
        map.nodes[i].state = HF_NODE_UP;
        map.nodes[i].weight = 100;
        if (domains) {
            (void)snprintf(map.nodes[i].domain, sizeof(map.nodes[i].domain), "rack%u", i % domains);
        }
    }
}

static uint64_t proposed(uint32_t group)
{
    struct hf_node_id ids[HF_REPLICAS_MAX];
    uint32_t count = hf_map_propose(&map, (uint16_t)group, ids);
    uint64_t mask = 0;

    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(mask & hf_node_bit(ids[i]), 0);
        mask |= hf_node_bit(ids[i]);
    }
    for (uint32_t i = count; i < HF_REPLICAS_MAX; i++) {
        assert_int_equal(ids[i].v, 0);
    }
    return mask;
}

static void removing_a_node_moves_only_its_members(void **state)
{
    static uint64_t before[GROUPS];
    const uint32_t domain_counts[] = {0, 3, 4};

    (void)state;
    for (size_t d = 0; d < 3; d++) {
        uint64_t gone = hf_node_bit((struct hf_node_id){5});

        map_make(9, 3, domain_counts[d]);
        for (uint32_t g = 0; g < GROUPS; g++) {
            before[g] = proposed(g);
            assert_int_equal(__builtin_popcountll(before[g]), 3);
        }
        map.nodes[4].state = HF_NODE_DOWN;
        for (uint32_t g = 0; g < GROUPS; g++) {
            uint64_t now = proposed(g);

            assert_int_equal(now & gone, 0);
            if (before[g] & gone) {
                assert_int_equal(__builtin_popcountll(before[g] & now), 2);
            } else {
                assert_int_equal(now, before[g]);
            }
        }
    }
}

static void adding_a_node_moves_only_towards_it(void **state)
{
    static uint64_t before[GROUPS];
    uint32_t moved = 0;

    (void)state;
    map_make(10, 3, 0);
    map.nodes[9].state = HF_NODE_NONE;
    for (uint32_t g = 0; g < GROUPS; g++) {
        before[g] = proposed(g);
    }
    map.nodes[9].state = HF_NODE_UP;
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint64_t now = proposed(g);

        if (now != before[g]) {
            moved++;
            assert_true(now & hf_node_bit((struct hf_node_id){10}));
            assert_int_equal(__builtin_popcountll(now & before[g]), 2);
        }
    }
    /* a tenth of 3 copies */
    assert_in_range(moved, GROUPS * 3 / 10 - GROUPS / 20, GROUPS * 3 / 10 + GROUPS / 20);
}

static void members_are_of_different_domains_while_there_are_enough(void **state)
{
    (void)state;
    map_make(9, 3, 3);
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint64_t mask = proposed(g);
        uint32_t racks = 0;

        for (uint32_t i = 0; i < 9; i++) {
            if (mask & hf_node_bit(map.nodes[i].id)) {
                racks |= 1u << i % 3;
            }
        }
        assert_int_equal(racks, 7);
    }
    map_make(9, 3, 2);
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint64_t mask = proposed(g);

        assert_int_equal(__builtin_popcountll(mask), 3);
        assert_true(mask & 0x155); /* both racks */
        assert_true(mask & 0xaa);
    }
    map_make(2, 3, 0);
    assert_int_equal(proposed(0), 3); /* fewer nodes than copies */
}

static void share_follows_weight(void **state)
{
    uint32_t held[6] = {0};
    uint32_t weight_sum = 0;

    (void)state;
    map_make(6, 1, 0);
    for (uint32_t i = 0; i < 6; i++) {
        map.nodes[i].weight = 50 * (i + 1);
        weight_sum += map.nodes[i].weight;
    }
    for (uint32_t g = 0; g < GROUPS; g++) {
        held[__builtin_ctzll(proposed(g))]++;
    }
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t fair = GROUPS * map.nodes[i].weight / weight_sum;

        assert_in_range(held[i], fair - fair / 4, fair + fair / 4);
    }
    map.nodes[2].weight = 0;
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_int_equal(proposed(g) & hf_node_bit(map.nodes[2].id), 0);
    }
}

static void group_set(uint32_t group, const uint16_t *acting, const uint16_t *target)
{
    memset(&map.groups[group], 0, sizeof(map.groups[group]));
    for (uint32_t i = 0; i < HF_REPLICAS_MAX && acting[i]; i++) {
        map.groups[group].acting[i].v = acting[i];
    }
    for (uint32_t i = 0; target && i < HF_REPLICAS_MAX && target[i]; i++) {
        map.groups[group].target[i].v = target[i];
    }
}

static void readers_come_up_first_and_down_last(void **state)
{
    struct hf_node_id ids[2 * HF_REPLICAS_MAX];

    (void)state;
    map_make(7, 3, 0);
    map.nodes[0].state = HF_NODE_DOWN;
    map.nodes[1].state = HF_NODE_RETURNING;
    map.nodes[5].state = HF_NODE_REMOVED;
    group_set(3, (const uint16_t[]){1, 2, 3, 4, 6}, (const uint16_t[]){3, 5, 7, 6, 0});
    for (uint64_t salt = 0; salt < 4; salt++) {
        assert_int_equal(hf_map_group_readers(&map, 3, salt, ids), 6);
        assert_int_equal(ids[0].v, salt % 2 ? 4 : 3);
        assert_int_equal(ids[1].v, salt % 2 ? 3 : 4);
        assert_int_equal(ids[2].v, 2);
        assert_int_equal(ids[3].v, salt % 2 ? 7 : 5);
        assert_int_equal(ids[5].v, 1);
    }
    assert_int_equal(hf_map_group_readers(&map, GROUPS, 0, ids), 0);
    map.nodes[3].state = HF_NODE_READ_ONLY; /* after those that are UP, and nothing is put there */
    assert_int_equal(hf_map_group_readers(&map, 3, 0, ids), 6);
    assert_int_equal(ids[0].v, 3);
    assert_int_equal(ids[1].v, 2);
    assert_int_equal(ids[2].v, 4);
    assert_int_equal(hf_map_group_writable(&map, 3), 0x56);
    map.nodes[3].state = HF_NODE_UP;
    assert_int_equal(hf_map_group_members(&map, 3), 0x7f);
    assert_int_equal(hf_map_group_writable(&map, 3), 0x5e);
    assert_int_equal(hf_map_group_members(&map, GROUPS), 0);
}

static void pick_group_prefers_whole_groups_without_the_avoided(void **state)
{
    (void)state;
    map_make(6, 3, 0);
    map.group_count = 4;
    group_set(0, (const uint16_t[]){1, 2, 3, 0}, NULL);
    group_set(1, (const uint16_t[]){2, 3, 4, 0}, NULL);
    group_set(2, (const uint16_t[]){4, 5, 6, 0}, NULL);
    group_set(3, (const uint16_t[]){1, 5, 6, 0}, NULL);
    for (uint64_t salt = 0; salt < 8; salt++) {
        assert_int_equal(hf_map_pick_group(&map, salt, 0), salt % 4);
        assert_int_equal(hf_map_pick_group(&map, salt, 0x6), salt % 4 == 3 ? 3 : 2);
    }
    map.nodes[4].state = HF_NODE_DOWN; /* groups 2 and 3 are degraded but can take puts */
    assert_int_equal(hf_map_pick_group(&map, 2, 0), 0);
    assert_int_equal(hf_map_pick_group(&map, 0, 0x6), 2);
    map.nodes[5].state = HF_NODE_RETURNING;
    assert_int_equal(hf_map_pick_group(&map, 1, 0x7), 2); /* what it is given now it holds */
    map.nodes[3].state = HF_NODE_DOWN;
    assert_int_equal(hf_map_pick_group(&map, 1, 0x7),
                     0); /* all contain one to avoid: a whole one */
    for (uint32_t i = 0; i < 6; i++) {
        map.nodes[i].state = i == 1 ? HF_NODE_UP : HF_NODE_DOWN;
    }
    assert_int_equal(hf_map_pick_group(&map, 0, 0), -1);
}

static void groups_may_take_puts_again_unless_too_many_members_are_read_only(void **state)
{
    (void)state;
    map_make(6, 3, 0);
    map.group_count = 2;
    group_set(0, (const uint16_t[]){1, 2, 3, 0}, NULL);
    group_set(1, (const uint16_t[]){4, 5, 6, 0}, NULL);
    map.min_copies = 2;
    for (uint32_t i = 0; i < 6; i++) {
        map.nodes[i].state = HF_NODE_DOWN;
    }
    assert_true(hf_map_may_take_puts(&map));
    map.nodes[0].state = map.nodes[1].state = map.nodes[3].state = HF_NODE_READ_ONLY;
    assert_true(hf_map_may_take_puts(&map)); /* group 1: two others */
    map.nodes[4].state = HF_NODE_READ_ONLY;
    assert_false(hf_map_may_take_puts(&map));
    map.min_copies = 1;
    assert_true(hf_map_may_take_puts(&map));
}

static void dup_is_independent(void **state)
{
    struct hf_map copy;

    (void)state;
    map_make(3, 3, 0);
    assert_int_equal(hf_map_dup(&map, &copy), 0);
    copy.groups[1].acting[0].v = 9;
    hf_map_node_mut(&copy, (struct hf_node_id){2})->weight = 7;
    assert_int_equal(map.groups[1].acting[0].v, 0);
    assert_int_equal(hf_map_node(&map, (struct hf_node_id){2})->weight, 100);
    assert_null(hf_map_node(&map, (struct hf_node_id){0}));
    assert_null(hf_map_node(&map, (struct hf_node_id){4}));
    hf_map_fini(&copy);
}

static int cleanup(void **state)
{
    (void)state;
    hf_map_fini(&map);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removing_a_node_moves_only_its_members),
        cmocka_unit_test(adding_a_node_moves_only_towards_it),
        cmocka_unit_test(members_are_of_different_domains_while_there_are_enough),
        cmocka_unit_test(share_follows_weight),
        cmocka_unit_test(readers_come_up_first_and_down_last),
        cmocka_unit_test(pick_group_prefers_whole_groups_without_the_avoided),
        cmocka_unit_test(groups_may_take_puts_again_unless_too_many_members_are_read_only),
        cmocka_unit_test(dup_is_independent),
    };

    return cmocka_run_group_tests(tests, NULL, cleanup);
}
