/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of every message are fixed: tests/golden/wire.hex holds one line a message, "name hex".
 * HF_GOLDEN_WRITE=1 in the environment writes the file anew; do so only to add messages.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/wire_types.h"

#define GOLDEN HF_SOURCE_DIR "/tests/golden/wire.hex"

static uint8_t msg[WIRE_TYPE_COUNT][HF_RPC_MSG_MAX];
static size_t msg_len[WIRE_TYPE_COUNT];

static const struct hf_oid oids[2] = {{0x1122334455667788, 0x99aabbccddee, 0x17},
                                      {3, HF_OID_SEQ_MAX, 4095}};
static const uint64_t sums[2] = {0x0102030405060708, UINT64_MAX};
static const uint32_t lens[2] = {4096, 4194304};
static const struct hf_uuid uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static int make_map(uint8_t *ret, size_t *ret_len)
{
    static struct hf_map_group groups[2] = {{{7}, {{1}, {2}, {64}}, {{0}}},
                                            {{8}, {{2}, {1}}, {{64}, {1}}}};
    static struct hf_map map = {.epoch = {9}, .copies = 3, .min_copies = 2, .node_count = 3};
    static const uint16_t ids[3] = {1, 2, 64};

    map.cluster = uuid;
    for (uint32_t i = 0; i < 3; i++) {
        map.nodes[i] = (struct hf_map_node){
            .id = {ids[i]}, .state = HF_NODE_UP, .weight = 100, .addr = "10.0.0.1:7000"};
        memcpy(map.nodes[i].domain, "rack 1", 6);
        map.nodes[i].uuid = uuid;
    }
    map.groups = groups;
    map.group_count = 2;
    return hf_msg_map_encode(&map, ret, ret_len);
}

static int make_meta_op(uint8_t *ret, size_t *ret_len)
{
    struct hf_wr_object objects[2] = {{oids[0], 4194304, 77, 7, {9}}, {oids[1], 1, 78, 3, {8}}};
    struct hf_wr_extent extents[2] = {{{5}, 4096, 8192, 1, 0}, {{5}, 65536, 10, UINT32_MAX, 4}};
    struct hf_wr_inode inodes[1] = {
        {.ino = {5}, .size_min_bytes = 65546, .mtime_ns = 1700000000000000000}};
    struct hf_oid more[2] = {oids[0], oids[1]};
    uint64_t holders[2] = {3, UINT64_MAX};
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .session = {3},
        .stream = 4,
        .acked = 2,
        .time_ns = 1700000000000000001,
        .ino = {5},
        .ino2 = {6},
        .parent = {7},
        .parent2 = {8},
        .name = "name",
        .name_len = 4,
        .name2 = "",
        .name2_len = 0,
        .mode = 0100644,
        .umask = 022,
        .uid = 1000,
        .gid = 1001,
        .flags = 1,
        .mask = 0xff,
        .rdev = 0x801,
        .target = "../x",
        .target_len = 4,
        .size = 9,
        .atime_ns = 10,
        .mtime_ns = 11,
        .ctime_ns = 12,
        .offset = 13,
        .length = 14,
        .offset2 = 15,
        .lock_type = 1,
        .lock_pid = 16,
        .lock_owner = UINT64_MAX,
        .objects = objects,
        .extents = extents,
        .inodes = inodes,
        .object_count = 2,
        .extent_count = 2,
        .inode_count = 1,
        .node = {64},
        .node_state = HF_NODE_RETURNING,
        .uuid = uuid,
        .text = "text",
        .count = 17,
        .ttl_ns = 18,
        .oids = more,
        .oid_count = 2,
        .holders = holders,
        .holder_count = 2,
    };

    extents[0].object = 0;
    return hf_meta_op_encode(&op, ret, ret_len);
}

static int make_meta_reply(uint8_t *ret, size_t *ret_len)
{
    const struct hf_attr attr = {{1}, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct hf_meta_reply m = {.attr = attr,
                              .attr2 = attr,
                              .lease = {HF_LEASE_EXCLUSIVE, 2, 3},
                              .session = {4},
                              .last_stream = 5,
                              .first_ino = {6},
                              .ino_count = 7,
                              .ttl_ns = 8,
                              .budget_bytes = 9,
                              .budget_inodes = 10,
                              .map_epoch = 11,
                              .next_cookie = 12,
                              .eof = true,
                              .data_version = 13,
                              .lock_type = 14,
                              .lock_pid = 15,
                              .lock_start = 16,
                              .lock_end = UINT64_MAX,
                              .total_bytes = 17,
                              .free_bytes = 18,
                              .inodes = 19,
                              .applied_index = 20,
                              .count = 21,
                              .leader = "10.0.0.1:7000"};

    return hf_meta_reply_encode(&m, ret, ret_len);
}

static int make_heartbeat(uint8_t *ret, size_t *ret_len)
{
    struct hf_msg_heartbeat m = {.node = {3},
                                 .store = uuid,
                                 .addr = "10.0.0.1:7000",
                                 .map_epoch = 9,
                                 .stats = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                 .bad = oids,
                                 .bad_count = 2,
                                 .start = 77,
                                 .noted = true};

    return hf_msg_heartbeat_encode(&m, ret, ret_len);
}

static int make(size_t i)
{
    uint8_t *b = msg[i];
    size_t *n = &msg_len[i];
    uint64_t inos[2] = {1, UINT64_MAX};

    switch (i) {
    case 0:
        return hf_msg_put_encode(
            &(struct hf_msg_put){oids[0], {9}, 1048576, true, true, true, 4194304, sums, 2}, b, n);
    case 1:
        return hf_msg_get_encode(&(struct hf_msg_get){oids[1], 4096, 1048576}, b, n);
    case 2:
        return hf_msg_get_reply_encode(&(struct hf_msg_get_reply){4194304, sums, 2}, b, n);
    case 3:
        return hf_msg_oids_encode(&(struct hf_msg_oids){oids, 2}, b, n);
    case 4:
        return hf_msg_check_reply_encode(
            &(struct hf_msg_check_reply){(const int[]){0, -4100}, lens, sums, 2}, b, n);
    case 5:
        return hf_msg_list_encode(&(struct hf_msg_list){23, true, oids[0], 1000}, b, n);
    case 6:
        return hf_msg_list_reply_encode(
            &(struct hf_msg_list_reply){oids, lens, sums, (const bool[]){true, false}, 2}, b, n);
    case 7:
        return hf_msg_copy_encode(
            &(struct hf_msg_copy){oids[0], 4096, 99, {"10.0.0.1:7000", "unix:/run/x"}, 2}, b, n);
    case 8:
        return hf_msg_store_stats_encode(
            &(struct hf_msg_store_stats){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, b, n);
    case 9:
        return make_heartbeat(b, n);
    case 10:
        return hf_msg_heartbeat_reply_encode(&(struct hf_msg_heartbeat_reply){9, HF_NODE_RETURNING},
                                             b, n);
    case 11:
        return hf_msg_admin_encode(&(struct hf_msg_admin){"node", {"list", "", "--all"}, 3}, b, n);
    case 12:
        return make_map(b, n);
    case 13:
        return hf_meta_read_encode(
            &(struct hf_meta_read){
                HF_RD_READDIR, {3}, {4}, "name", 4, 5, 6, 7, 8, 9, 1, 1, 10, 11, 12, 13, inos, 2},
            b, n);
    case 14:
        return make_meta_reply(b, n);
    case 15:
        return make_meta_op(b, n);
    default:
        return -EINVAL;
    }
}

static void messages_have_their_golden_bytes(void **state)
{
    bool write = getenv("HF_GOLDEN_WRITE") != NULL;
    FILE *f = fopen(GOLDEN, write ? "w" : "r");
    static char line[2 * HF_RPC_MSG_MAX], want[2 * HF_RPC_MSG_MAX];

    (void)state;
    assert_non_null(f);
    for (size_t i = 0; i < WIRE_TYPE_COUNT; i++) {
        int at;

        assert_int_equal(make(i), 0);
        at = snprintf(want, sizeof(want), "%s ", wire_types[i].name);
        for (size_t k = 0; k < msg_len[i]; k++) {
            at += snprintf(want + at, sizeof(want) - (size_t)at, "%02x", msg[i][k]);
        }
        (void)snprintf(want + at, sizeof(want) - (size_t)at, "\n");
        if (write) {
            (void)fputs(want, f);
        } else {
            assert_non_null(fgets(line, sizeof(line), f));
            assert_string_equal(line, want);
        }
    }
    (void)fclose(f);
}

static void golden_messages_decode_to_what_was_encoded(void **state)
{
    static uint8_t out[HF_RPC_MSG_MAX];
    size_t len;

    (void)state;
    for (size_t i = 0; i < WIRE_TYPE_COUNT; i++) {
        assert_int_equal(make(i), 0);
        assert_int_equal(wire_types[i].recode(msg[i], msg_len[i], out, &len), 0);
        assert_int_equal(len, msg_len[i]);
        assert_memory_equal(out, msg[i], len);
    }
}

/* An error, or a struct that encodes and decodes to itself. */
static void try(const struct wire_type *type, const uint8_t *bytes, size_t len)
{
    static uint8_t once[HF_RPC_MSG_MAX], twice[HF_RPC_MSG_MAX];
    uint8_t *exact = malloc(len ? len : 1); /* so that a read past the end is seen */
    size_t once_len, twice_len;
    int err;

    assert_non_null(exact);
    memcpy(exact, bytes, len);
    err = type->recode(exact, len, once, &once_len);
    free(exact);
    if (err) {
        assert_int_equal(err, -EBADMSG);
        return;
    }
    assert_int_equal(type->recode(once, once_len, twice, &twice_len), 0);
    assert_int_equal(once_len, twice_len);
    assert_memory_equal(once, twice, once_len);
}

static void every_truncation_and_corruption_is_an_error_or_a_valid_struct(void **state)
{
    (void)state;
    for (size_t i = 0; i < WIRE_TYPE_COUNT; i++) {
        assert_int_equal(make(i), 0);
        for (size_t len = 0; len < msg_len[i]; len++) {
            try(&wire_types[i], msg[i], len);
        }
        for (size_t at = 0; at < msg_len[i]; at++) {
            for (unsigned flip = 1; flip < 256; flip++) {
                msg[i][at] ^= (uint8_t)flip;
                try(&wire_types[i], msg[i], msg_len[i]);
                msg[i][at] ^= (uint8_t)flip;
            }
        }
        for (size_t other = 0; other < WIRE_TYPE_COUNT; other++) {
            try(&wire_types[other], msg[i], msg_len[i]);
        }
    }
}

static void map_members_must_exist_once(void **state)
{
    struct hf_map_group group = {{1}, {{1}, {2}}, {{0}}};
    struct hf_map map = {
        .copies = 2, .min_copies = 1, .node_count = 2, .groups = &group, .group_count = 1};
    struct hf_map got;

    (void)state;
    map.nodes[0].id.v = 1;
    map.nodes[1].id.v = 2;
    assert_int_equal(hf_msg_map_encode(&map, msg[0], &msg_len[0]), 0);
    assert_int_equal(hf_msg_map_decode(msg[0], msg_len[0], &got), 0);
    assert_int_equal(got.groups[0].acting[1].v, 2);
    hf_map_fini(&got);
    group.acting[1].v = 3;
    assert_int_equal(hf_msg_map_encode(&map, msg[0], &msg_len[0]), 0);
    assert_int_equal(hf_msg_map_decode(msg[0], msg_len[0], &got), -EBADMSG);
    group.acting[1].v = 1;
    assert_int_equal(hf_msg_map_encode(&map, msg[0], &msg_len[0]), 0);
    assert_int_equal(hf_msg_map_decode(msg[0], msg_len[0], &got), -EBADMSG);
    group.acting[1].v = 2;
    map.nodes[1].id.v = 1;
    assert_int_equal(hf_msg_map_encode(&map, msg[0], &msg_len[0]), 0);
    assert_int_equal(hf_msg_map_decode(msg[0], msg_len[0], &got), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_have_their_golden_bytes),
        cmocka_unit_test(golden_messages_decode_to_what_was_encoded),
        cmocka_unit_test(every_truncation_and_corruption_is_an_error_or_a_valid_struct),
        cmocka_unit_test(map_members_must_exist_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
