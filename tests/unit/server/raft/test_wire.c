/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of server/raft/wire.h are fixed: tests/golden/raft.hex holds one line each, "name hex".
 * HF_GOLDEN_WRITE=1 in the environment writes the file anew; do so only to add lines.
 */
#include "server/raft/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/bytes.h"
#include "tests/lib/raft_types.h"

#define GOLDEN HF_SOURCE_DIR "/tests/golden/raft.hex"
#define TOP    HF_RAFT_NUMBER_MAX

static uint8_t buf[RAFT_BYTES_MAX];

static const struct hf_raft_config three = {
    .count = 3, .members = {{{1}, HF_RAFT_VOTER}, {{7}, HF_RAFT_LEARNER}, {{64}, HF_RAFT_VOTER}}};

static struct hf_raft_config full_config(void)
{
    struct hf_raft_config c = {.count = HF_RAFT_MEMBERS_MAX};

    for (uint16_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        c.members[i] = (struct hf_raft_member){
            {(uint16_t)(HF_NODES_MAX - HF_RAFT_MEMBERS_MAX + 1 + i)}, HF_RAFT_VOTER};
    }
    return c;
}

/* ------------------------------------------------------------------------------------- messages */

#define MSG_KINDS HF_RAFT_MSG_TIMEOUT_NOW

/* Numbers from @n (10 .. TOP) down, so that no two fields can be mixed up. */
static struct hf_raft_msg make_msg(enum hf_raft_msg_type type, uint64_t n)
{
    struct hf_raft_msg m = {.type = type, .from = {1}, .to = {64}, .term = n};

    switch (type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        m.u.vote.last_index = n - 1;
        m.u.vote.last_term = n - 2;
        m.u.vote.transfer = type == HF_RAFT_MSG_VOTE;
        break;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        m.u.vote_result.granted = type == HF_RAFT_MSG_VOTE_RESULT;
        break;
    case HF_RAFT_MSG_APPEND:
        m.u.append.prev_index = n - 1;
        m.u.append.prev_term = n - 2;
        m.u.append.commit_index = n - 3;
        m.u.append.round = n - 4;
        m.u.append.stream = n - 5;
        m.u.append.incarnation = UINT64_MAX - n;
        m.u.append.rejoin_index = n - 6;
        m.u.append.count = HF_RAFT_MSG_ENTRIES_MAX;
        break;
    case HF_RAFT_MSG_APPEND_RESULT:
        m.u.append_result.status = HF_RAFT_ABSTAIN;
        m.u.append_result.match_index = n - 1;
        m.u.append_result.prev_index = n - 2;
        m.u.append_result.hint_index = n - 3;
        m.u.append_result.hint_term = n - 4;
        m.u.append_result.round = n - 5;
        m.u.append_result.stream = n - 6;
        m.u.append_result.incarnation = UINT64_MAX - n;
        m.u.append_result.whole = true;
        break;
    case HF_RAFT_MSG_SNAPSHOT:
        m.u.snapshot.index = n - 1;
        m.u.snapshot.snapshot_term = n - 2;
        m.u.snapshot.total_bytes = n - 3;
        m.u.snapshot.len_bytes = n > HF_FRAME_BULK_MAX ? HF_FRAME_BULK_MAX : 1;
        m.u.snapshot.offset_bytes = n - 3 - m.u.snapshot.len_bytes;
        m.u.snapshot.stream = n - 4;
        m.u.snapshot.config = n == TOP ? full_config() : three;
        break;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        m.u.snapshot_result.index = n - 1;
        m.u.snapshot_result.offset_bytes = n - 2;
        m.u.snapshot_result.stream = n - 3;
        m.u.snapshot_result.incarnation = UINT64_MAX - n;
        m.u.snapshot_result.match_index = n - 4;
        break;
    case HF_RAFT_MSG_TIMEOUT_NOW:
        break;
    }
    return m;
}

/* As much zero as is allowed. */
static struct hf_raft_msg make_least_msg(enum hf_raft_msg_type type)
{
    struct hf_raft_msg m = {.type = type, .from = {64}, .to = {1}};

    switch (type) {
    case HF_RAFT_MSG_APPEND_RESULT:
        m.u.append_result.status = HF_RAFT_OK;
        m.u.append_result.incarnation = 1;
        break;
    case HF_RAFT_MSG_SNAPSHOT:
        m.u.snapshot.config = (struct hf_raft_config){1, {{{1}, HF_RAFT_VOTER}}};
        break;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        m.u.snapshot_result.incarnation = 1;
        break;
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE:
    case HF_RAFT_MSG_VOTE_RESULT:
    case HF_RAFT_MSG_APPEND:
    case HF_RAFT_MSG_TIMEOUT_NOW:
        break;
    }
    return m;
}

static bool config_equal(const struct hf_raft_config *a, const struct hf_raft_config *b)
{
    bool equal = a->count == b->count;

    for (uint32_t i = 0; equal && i < a->count; i++) {
        equal =
            a->members[i].id.v == b->members[i].id.v && a->members[i].kind == b->members[i].kind;
    }
    return equal;
}

#define SAME(field) assert_true(a->u.field == b->u.field)

static void assert_same_msg(const struct hf_raft_msg *a, const struct hf_raft_msg *b)
{
    assert_int_equal(a->type, b->type);
    assert_true(a->from.v == b->from.v && a->to.v == b->to.v && a->term == b->term);
    switch (a->type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        SAME(vote.last_index);
        SAME(vote.last_term);
        SAME(vote.transfer);
        break;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        SAME(vote_result.granted);
        break;
    case HF_RAFT_MSG_APPEND:
        SAME(append.prev_index);
        SAME(append.prev_term);
        SAME(append.commit_index);
        SAME(append.round);
        SAME(append.stream);
        SAME(append.incarnation);
        SAME(append.rejoin_index);
        SAME(append.count);
        break;
    case HF_RAFT_MSG_APPEND_RESULT:
        SAME(append_result.status);
        SAME(append_result.match_index);
        SAME(append_result.prev_index);
        SAME(append_result.hint_index);
        SAME(append_result.hint_term);
        SAME(append_result.round);
        SAME(append_result.stream);
        SAME(append_result.incarnation);
        SAME(append_result.whole);
        break;
    case HF_RAFT_MSG_SNAPSHOT:
        SAME(snapshot.index);
        SAME(snapshot.snapshot_term);
        SAME(snapshot.offset_bytes);
        SAME(snapshot.total_bytes);
        SAME(snapshot.stream);
        SAME(snapshot.len_bytes);
        assert_true(config_equal(&a->u.snapshot.config, &b->u.snapshot.config));
        break;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        SAME(snapshot_result.index);
        SAME(snapshot_result.offset_bytes);
        SAME(snapshot_result.stream);
        SAME(snapshot_result.incarnation);
        SAME(snapshot_result.match_index);
        break;
    case HF_RAFT_MSG_TIMEOUT_NOW:
        break;
    }
}

static void round_trip(const struct hf_raft_msg *m)
{
    struct hf_raft_msg got;
    size_t len;

    memset(&got, 0xee, sizeof(got));
    assert_int_equal(hf_raft_msg_encode(m, buf, &len), 0);
    assert_int_equal(hf_raft_msg_decode(buf, len, &got), 0);
    assert_same_msg(m, &got);
}

static void every_message_round_trips_at_its_bounds(void **state)
{
    (void)state;
    for (uint32_t type = HF_RAFT_MSG_PREVOTE; type <= MSG_KINDS; type++) {
        const uint64_t numbers[] = {100, UINT32_MAX, TOP};
        struct hf_raft_msg m = make_least_msg((enum hf_raft_msg_type)type);

        round_trip(&m);
        for (size_t i = 0; i < 3; i++) {
            m = make_msg((enum hf_raft_msg_type)type, numbers[i]);
            round_trip(&m);
        }
    }
}

static void refused_msg(const struct hf_raft_msg *m)
{
    struct hf_raft_msg got, before;
    size_t len;

    memset(&got, 0xee, sizeof(got));
    memcpy(&before, &got, sizeof(got));
    assert_int_equal(hf_raft_msg_encode(m, buf, &len), 0);
    assert_int_equal(hf_raft_msg_decode(buf, len, &got), -EBADMSG);
    assert_memory_equal(&got, &before, sizeof(got));
}

#define REFUSED(type_, field, value)                                                               \
    do {                                                                                           \
        struct hf_raft_msg refused_ = make_msg(type_, 100);                                        \
        refused_.field = value;                                                                    \
        refused_msg(&refused_);                                                                    \
    } while (0)

static void messages_out_of_bounds_are_refused(void **state)
{
    (void)state;
    REFUSED(HF_RAFT_MSG_TIMEOUT_NOW, type, (enum hf_raft_msg_type)0);
    REFUSED(HF_RAFT_MSG_TIMEOUT_NOW, type, (enum hf_raft_msg_type)(MSG_KINDS + 1));
    for (uint32_t i = HF_RAFT_MSG_PREVOTE; i <= MSG_KINDS; i++) {
        const enum hf_raft_msg_type type = (enum hf_raft_msg_type)i;

        REFUSED(type, from.v, 0);
        REFUSED(type, to.v, 0);
        REFUSED(type, from.v, HF_NODES_MAX + 1);
        REFUSED(type, to.v, UINT16_MAX);
        REFUSED(type, from.v, 64); /* the receiver */
        REFUSED(type, term, TOP + 1);
        REFUSED(type, term, UINT64_MAX);
    }
    REFUSED(HF_RAFT_MSG_PREVOTE, u.vote.last_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_VOTE, u.vote.last_term, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.prev_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.prev_term, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.commit_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.round, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.stream, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.rejoin_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND, u.append.count, HF_RAFT_MSG_ENTRIES_MAX + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.status, (enum hf_raft_status)0);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.status,
            (enum hf_raft_status)(HF_RAFT_ABSTAIN + 1));
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.match_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.prev_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.hint_index, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.hint_term, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.round, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.stream, TOP + 1);
    REFUSED(HF_RAFT_MSG_APPEND_RESULT, u.append_result.incarnation, 0);
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.index, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.snapshot_term, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.total_bytes, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.total_bytes, 96);  /* less than offset and length */
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.offset_bytes, 98); /* past the end */
    REFUSED(HF_RAFT_MSG_SNAPSHOT, u.snapshot.stream, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT_RESULT, u.snapshot_result.index, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT_RESULT, u.snapshot_result.offset_bytes, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT_RESULT, u.snapshot_result.stream, TOP + 1);
    REFUSED(HF_RAFT_MSG_SNAPSHOT_RESULT, u.snapshot_result.incarnation, 0);
    REFUSED(HF_RAFT_MSG_SNAPSHOT_RESULT, u.snapshot_result.match_index, TOP + 1);
}

static void chunks_longer_than_bulk_are_refused(void **state)
{
    struct hf_raft_msg m = make_msg(HF_RAFT_MSG_SNAPSHOT, TOP);

    (void)state;
    round_trip(&m);
    m.u.snapshot.offset_bytes -= 1;
    m.u.snapshot.len_bytes += 1;
    refused_msg(&m);
}

static void snapshots_need_a_good_configuration(void **state)
{
    const struct hf_raft_msg m = make_msg(HF_RAFT_MSG_SNAPSHOT, 100);
    const size_t config_len = 4 + 3 * 4, field_len = config_len + 3; /* the last: tag, length */
    struct hf_raft_msg got;
    size_t len;

    (void)state;
    assert_int_equal(hf_raft_msg_encode(&m, buf, &len), 0);
    assert_int_equal(hf_raft_msg_decode(buf, len - field_len, &got), -EBADMSG); /* none */
    buf[len - config_len] = 2; /* of another version */
    assert_int_equal(hf_raft_msg_decode(buf, len, &got), -EBADMSG);
    buf[len - config_len] = 1;
    assert_int_equal(hf_raft_msg_decode(buf, len, &got), 0);
    buf[len - config_len - 1] = 0; /* empty, then bytes that are no field */
    assert_int_equal(hf_raft_msg_decode(buf, len - config_len, &got), -EBADMSG);
}

static void what_is_no_message_is_refused_and_unknown_fields_are_skipped(void **state)
{
    static const uint8_t unknown[] = {0xa0, 0x06, 0x01}; /* field 100, a number */
    const struct hf_raft_msg m = make_msg(HF_RAFT_MSG_VOTE, 100);
    struct hf_raft_msg got;
    size_t len;

    (void)state;
    assert_int_equal(hf_raft_msg_decode(NULL, 0, &got), -EBADMSG);
    assert_int_equal(hf_raft_msg_decode("\xff\xff\xff", 3, &got), -EBADMSG);
    assert_int_equal(hf_raft_msg_encode(&m, buf, &len), 0);
    memcpy(buf + len, unknown, sizeof(unknown));
    assert_int_equal(hf_raft_msg_decode(buf, len + sizeof(unknown), &got), 0);
    assert_same_msg(&m, &got);
    memset(buf, 0, HF_RPC_MSG_MAX + 1);
    assert_int_equal(hf_raft_msg_decode(buf, HF_RPC_MSG_MAX + 1, &got), -EBADMSG);
}

/* ------------------------------------------------------------------------------- configurations */

static void config_round_trip(const struct hf_raft_config *config)
{
    uint8_t bytes[HF_RAFT_CONFIG_BYTES_MAX];
    size_t len = hf_raft_config_encode(config, bytes);
    struct hf_raft_config got;

    assert_true(len <= sizeof(bytes));
    assert_int_equal(hf_raft_config_decode(bytes, len, &got), 0);
    assert_true(config_equal(config, &got));
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(hf_raft_config_decode(bytes, cut, &got), -EBADMSG);
    }
}

static void configurations_round_trip(void **state)
{
    const struct hf_raft_config one = {1, {{{1}, HF_RAFT_VOTER}}}, full = full_config();

    (void)state;
    config_round_trip(&one);
    config_round_trip(&three);
    config_round_trip(&full);
}

static void bad_configurations_are_refused(void **state)
{
    static const struct {
        uint8_t at, value;
        const char *what;
    } cases[] = {
        {0, 0, "no version"},
        {0, 2, "another version"},
        {1, 0, "no members"},
        {1, 2, "bytes behind the members"},
        {1, 4, "fewer bytes than members"},
        {1, HF_RAFT_MEMBERS_MAX + 1, "too many members"},
        {1, 255, "far too many members"},
        {2, 1, "reserved"},
        {3, 1, "reserved"},
        {4, 0, "node 0"},
        {4, 7, "a node twice"},
        {4, 8, "not in order"},
        {5, 1, "no such node"},
        {12, 65, "no such node"},
        {6, 0, "no kind"},
        {10, 3, "another kind"},
        {7, 1, "reserved"},
        {15, 0x80, "reserved"},
    };
    uint8_t bytes[HF_RAFT_CONFIG_BYTES_MAX + 1] = {0}, bad[HF_RAFT_CONFIG_BYTES_MAX + 1];
    size_t len = hf_raft_config_encode(&three, bytes);
    struct hf_raft_config got;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(bad, bytes, sizeof(bad));
        bad[cases[i].at] = cases[i].value;
        if (hf_raft_config_decode(bad, len, &got) != -EBADMSG) {
            fail_msg("taken: %s", cases[i].what);
        }
    }
    memcpy(bad, bytes, sizeof(bad));
    bad[6] = bad[14] = HF_RAFT_LEARNER; /* no voters */
    assert_int_equal(hf_raft_config_decode(bad, len, &got), -EBADMSG);
    assert_int_equal(hf_raft_config_decode(bytes, len + 1, &got), -EBADMSG);
    assert_int_equal(hf_raft_config_decode(bytes, sizeof(bytes), &got), -EBADMSG);
    assert_int_equal(hf_raft_config_decode(bytes, len, &got), 0);
}

/* -------------------------------------------------------------------------------------- entries */

static uint8_t payload[HF_FRAME_BULK_MAX];

static void entry_round_trip(const struct hf_raft_entry *e)
{
    size_t bytes = hf_raft_entry_bytes(e), used = 0;
    uint8_t *exact = malloc(bytes); /* so that a read past the end is seen */
    struct hf_raft_entry got;

    assert_non_null(exact);
    hf_raft_entry_encode(e, exact);
    assert_int_equal(hf_raft_entry_decode(exact, bytes, e->index, &got, &used), 0);
    assert_int_equal(used, bytes);
    assert_true(got.index == e->index && got.term == e->term && got.time_ns == e->time_ns);
    assert_true(got.type == e->type && got.msg_len == e->msg_len && got.bulk_len == e->bulk_len);
    assert_true((got.msg != NULL) == (e->msg_len > 0));
    assert_true((got.bulk != NULL) == (e->bulk_len > 0));
    if (e->msg_len) {
        assert_memory_equal(got.msg, e->msg, e->msg_len);
    }
    if (e->bulk_len) {
        assert_memory_equal(got.bulk, e->bulk, e->bulk_len);
    }
    for (size_t cut = 0; cut < bytes; cut += cut < 100 || cut + 100 > bytes ? 1 : 997) {
        assert_int_equal(hf_raft_entry_decode(exact, cut, 1, &got, &used), -EBADMSG);
    }
    free(exact);
}

static void entries_round_trip_at_their_bounds(void **state)
{
    const struct hf_raft_config full = full_config();
    uint8_t config[HF_RAFT_CONFIG_BYTES_MAX];
    struct hf_raft_entry e = {.index = 1, .term = 1, .type = HF_RAFT_ENTRY_NOOP};

    (void)state;
    entry_round_trip(&e);
    e = (struct hf_raft_entry){.index = TOP, .term = TOP, .time_ns = UINT64_MAX};
    e.type = HF_RAFT_ENTRY_NORMAL;
    e.msg = payload;
    e.msg_len = 1;
    entry_round_trip(&e);
    e.msg_len = HF_RPC_MSG_MAX;
    e.bulk = payload;
    e.bulk_len = 1;
    entry_round_trip(&e);
    e.bulk_len = HF_FRAME_BULK_MAX;
    assert_int_equal(hf_raft_entry_bytes(&e), HF_RAFT_ENTRY_BYTES_MAX);
    entry_round_trip(&e);
    e = (struct hf_raft_entry){.index = 5, .term = 6, .type = HF_RAFT_ENTRY_CONFIG, .msg = config};
    e.msg_len = (uint32_t)hf_raft_config_encode(&full, config);
    entry_round_trip(&e);
}

static void entries_lie_one_behind_the_other(void **state)
{
    size_t len = 0, at = 0, used;
    struct hf_raft_entry got;

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        const struct hf_raft_entry e = {
            .term = 3,
            .time_ns = i,
            .type = i % 9 == 0 ? HF_RAFT_ENTRY_NOOP : HF_RAFT_ENTRY_NORMAL,
            .msg = payload + i,
            .msg_len = i % 9 == 0 ? 0 : i,
            .bulk = payload + 2 * i,
            .bulk_len = i % 9 == 0 ? 0 : i * 7 % 13,
        };

        hf_raft_entry_encode(&e, buf + len);
        len += hf_raft_entry_bytes(&e);
    }
    for (uint32_t i = 0; i < 50; i++, at += used) {
        assert_int_equal(hf_raft_entry_decode(buf + at, len - at, 1000 + i, &got, &used), 0);
        assert_true(got.index == 1000 + i && got.time_ns == i);
        if (i % 9) {
            assert_int_equal(got.msg_len, i);
            assert_memory_equal(got.msg, payload + i, i);
            assert_int_equal(got.bulk_len, i * 7 % 13);
        }
    }
    assert_int_equal(at, len);
    assert_int_equal(hf_raft_entry_decode(buf + at, 0, 1050, &got, &used), -EBADMSG);
}

/* An entry's bytes with one number of its head changed. */
static void refused_entry(const struct hf_raft_entry *e, size_t at, size_t width, uint64_t value)
{
    size_t bytes = hf_raft_entry_bytes(e), used = 77;
    struct hf_raft_entry got, before;
    uint8_t number[8];

    memset(&got, 0xee, sizeof(got));
    memcpy(&before, &got, sizeof(got));
    hf_raft_entry_encode(e, buf);
    hf_put_le64(number, value);
    memcpy(buf + at, number, width);
    assert_int_equal(hf_raft_entry_decode(buf, bytes, 1, &got, &used), -EBADMSG);
    assert_memory_equal(&got, &before, sizeof(got));
    assert_int_equal(used, 77);
}

enum { AT_TERM = 0, AT_MSG_LEN = 16, AT_BULK_LEN = 20, AT_TYPE = 24, AT_MSG = 32 };

static void bad_entries_are_refused(void **state)
{
    uint8_t config[HF_RAFT_CONFIG_BYTES_MAX];
    const struct hf_raft_entry noop = {.term = 1, .type = HF_RAFT_ENTRY_NOOP};
    const struct hf_raft_entry normal = {.term = 1,
                                         .type = HF_RAFT_ENTRY_NORMAL,
                                         .msg = payload,
                                         .msg_len = 20,
                                         .bulk = payload,
                                         .bulk_len = 10};
    struct hf_raft_entry conf = {.term = 1, .type = HF_RAFT_ENTRY_CONFIG, .msg = config};
    uint32_t config_len = conf.msg_len = (uint32_t)hf_raft_config_encode(&three, config);

    (void)state;
    refused_entry(&normal, AT_TERM, 8, 0);
    refused_entry(&normal, AT_TERM, 8, TOP + 1);
    refused_entry(&normal, AT_TERM, 8, UINT64_MAX);
    refused_entry(&normal, AT_TYPE, 1, 0);
    refused_entry(&normal, AT_TYPE, 1, HF_RAFT_ENTRY_CONFIG + 1);
    refused_entry(&normal, AT_TYPE, 1, 255);
    for (size_t i = 1; i < 8; i++) {
        refused_entry(&normal, AT_TYPE + i, 1, 1);
    }
    refused_entry(&normal, AT_MSG_LEN, 4, 0); /* without a message */
    refused_entry(&normal, AT_MSG_LEN, 4, 21);
    refused_entry(&normal, AT_MSG_LEN, 4, HF_RPC_MSG_MAX + 1);
    refused_entry(&normal, AT_MSG_LEN, 4, UINT32_MAX);
    refused_entry(&normal, AT_BULK_LEN, 4, 11);
    refused_entry(&normal, AT_BULK_LEN, 4, HF_FRAME_BULK_MAX + 1);
    refused_entry(&normal, AT_BULK_LEN, 4, UINT32_MAX);
    refused_entry(&normal, AT_TYPE, 1, HF_RAFT_ENTRY_NOOP); /* a no-op with payload */
    refused_entry(&normal, AT_TYPE, 1, HF_RAFT_ENTRY_CONFIG);
    refused_entry(&noop, AT_TYPE, 1, HF_RAFT_ENTRY_NORMAL);
    refused_entry(&noop, AT_TYPE, 1, HF_RAFT_ENTRY_CONFIG); /* without a configuration */
    refused_entry(&conf, AT_TYPE, 1, HF_RAFT_ENTRY_NOOP);
    refused_entry(&conf, AT_MSG, 1, 9); /* its version */
    refused_entry(&conf, AT_MSG + 1, 1, 0);
    refused_entry(&conf, AT_MSG_LEN, 8, (config_len - 4) | UINT64_C(4) << 32); /* with bulk */
}

static void payload_past_the_bounds_is_refused_though_it_is_there(void **state)
{
    uint8_t *big = calloc(1, HF_RAFT_ENTRY_BYTES_MAX + 1);
    struct hf_raft_entry got;
    size_t used;

    (void)state;
    assert_non_null(big);
    hf_put_le64(big, 1);
    big[AT_TYPE] = HF_RAFT_ENTRY_NORMAL;
    hf_put_le32(big + AT_MSG_LEN, HF_RPC_MSG_MAX + 1);
    assert_int_equal(hf_raft_entry_decode(big, HF_RAFT_ENTRY_BYTES_MAX + 1, 1, &got, &used),
                     -EBADMSG);
    hf_put_le32(big + AT_MSG_LEN, 1);
    hf_put_le32(big + AT_BULK_LEN, HF_FRAME_BULK_MAX + 1);
    assert_int_equal(hf_raft_entry_decode(big, HF_RAFT_ENTRY_BYTES_MAX + 1, 1, &got, &used),
                     -EBADMSG);
    hf_put_le32(big + AT_BULK_LEN, HF_FRAME_BULK_MAX);
    assert_int_equal(hf_raft_entry_decode(big, HF_RAFT_ENTRY_BYTES_MAX + 1, 1, &got, &used), 0);
    free(big);
}

/* ------------------------------------------------------------------------------------- founding */

static struct hf_raft_found make_found(void)
{
    return (struct hf_raft_found){
        .node = {2},
        .incarnation = UINT64_MAX,
        .state = HF_RAFT_STORE_FOUNDED,
        .member_count = 3,
        .members = {{3}, {1}, {2}},
        .founder_count = 3,
        .founders = {{{1}, 0x1122334455667788}, {{2}, 1}, {{3}, UINT64_MAX}},
        .wall_ns = 1700000000000000000,
    };
}

static struct hf_raft_found make_answer(void)
{
    struct hf_raft_found m = make_found();

    m.taken_out = true;
    m.digest_count = 2;
    m.digests[0] = (struct hf_raft_digest){1024, 0x1122334455667788};
    m.digests[1] = (struct hf_raft_digest){2048, 0};
    return m;
}

static void found_round_trip(const struct hf_raft_found *m)
{
    struct hf_raft_found got;
    size_t len;

    assert_int_equal(hf_raft_found_encode(m, buf, &len), 0);
    assert_int_equal(hf_raft_found_decode(buf, len, &got), 0);
    assert_true(got.node.v == m->node.v && got.incarnation == m->incarnation);
    assert_true(got.state == m->state && got.wall_ns == m->wall_ns);
    assert_int_equal(got.member_count, m->member_count);
    assert_int_equal(got.founder_count, m->founder_count);
    for (uint32_t i = 0; i < m->member_count; i++) {
        assert_int_equal(got.members[i].v, m->members[i].v);
    }
    for (uint32_t i = 0; i < m->founder_count; i++) {
        assert_int_equal(got.founders[i].node.v, m->founders[i].node.v);
        assert_true(got.founders[i].incarnation == m->founders[i].incarnation);
    }
    assert_true(got.taken_out == m->taken_out);
    assert_int_equal(got.digest_count, m->digest_count);
    for (uint32_t i = 0; i < m->digest_count; i++) {
        assert_true(got.digests[i].index == m->digests[i].index);
        assert_true(got.digests[i].value == m->digests[i].value);
    }
}

static void found_round_trips_at_its_bounds(void **state)
{
    struct hf_raft_found m = make_found();

    (void)state;
    found_round_trip(&m);
    m = make_answer();
    found_round_trip(&m);
    m.member_count = m.founder_count = HF_RAFT_MEMBERS_MAX;
    for (uint16_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        m.members[i].v = (uint16_t)(HF_NODES_MAX - i);
        m.founders[i] = (struct hf_raft_founder){{(uint16_t)(i + 1)}, UINT64_MAX - i};
    }
    m.wall_ns = UINT64_MAX;
    m.digest_count = HF_RAFT_DIGESTS_MAX;
    for (uint32_t i = 0; i < HF_RAFT_DIGESTS_MAX; i++) {
        m.digests[i] = (struct hf_raft_digest){TOP - HF_RAFT_DIGESTS_MAX + 1 + i, UINT64_MAX - i};
    }
    found_round_trip(&m);
    m = (struct hf_raft_found){.node = {64},
                               .incarnation = 1,
                               .state = HF_RAFT_STORE_NEW,
                               .member_count = 1,
                               .members = {{64}}};
    found_round_trip(&m);
    m.state = HF_RAFT_STORE_JOINING;
    found_round_trip(&m);
    m.member_count = HF_RAFT_MEMBERS_MAX + 1;
    assert_int_equal(hf_raft_found_encode(&m, buf, &(size_t){0}), -EMSGSIZE);
    m.member_count = 1;
    m.founder_count = UINT32_MAX;
    assert_int_equal(hf_raft_found_encode(&m, buf, &(size_t){0}), -EMSGSIZE);
    m.founder_count = 0;
    m.digest_count = HF_RAFT_DIGESTS_MAX + 1;
    assert_int_equal(hf_raft_found_encode(&m, buf, &(size_t){0}), -EMSGSIZE);
}

#define REFUSED_FOUND(field, value)                                                                \
    do {                                                                                           \
        struct hf_raft_found refused_ = make_answer(), got_;                                       \
        size_t len_;                                                                               \
        refused_.field = value;                                                                    \
        assert_int_equal(hf_raft_found_encode(&refused_, buf, &len_), 0);                          \
        assert_int_equal(hf_raft_found_decode(buf, len_, &got_), -EBADMSG);                        \
    } while (0)

static void bad_found_messages_are_refused(void **state)
{
    /* eleven members; one founder's node without an incarnation; one more incarnation */
    static const uint8_t many[] = {0x22, 11, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    static const uint8_t node[] = {0x2a, 1, 9};
    static const uint8_t incarnation[] = {0x32, 8, 1, 1, 1, 1, 1, 1, 1, 1};
    /* an index more than digests */
    static const uint8_t index[] = {0x4a, 2, 0x81, 0x10};
    const struct hf_raft_found m = make_answer();
    struct hf_raft_found got;
    size_t len;

    (void)state;
    REFUSED_FOUND(node.v, 0);
    REFUSED_FOUND(node.v, HF_NODES_MAX + 1);
    REFUSED_FOUND(incarnation, 0);
    REFUSED_FOUND(state, 0);
    REFUSED_FOUND(state, HF_RAFT_STORE_JOINING + 1);
    REFUSED_FOUND(state, HF_RAFT_STORE_NEW); /* with founders */
    REFUSED_FOUND(member_count, 0);
    REFUSED_FOUND(members[1].v, 0);
    REFUSED_FOUND(members[1].v, HF_NODES_MAX + 1);
    REFUSED_FOUND(members[1].v, 3); /* twice */
    REFUSED_FOUND(founders[2].node.v, 0);
    REFUSED_FOUND(founders[2].node.v, UINT16_MAX);
    REFUSED_FOUND(founders[2].node.v, 1); /* twice */
    REFUSED_FOUND(founders[2].incarnation, 0);
    REFUSED_FOUND(digests[0].index, 0);
    REFUSED_FOUND(digests[1].index, 1024); /* twice */
    REFUSED_FOUND(digests[1].index, 1023);
    REFUSED_FOUND(digests[1].index, TOP + 1);
    assert_int_equal(hf_raft_found_encode(&m, buf, &len), 0);
    memcpy(buf + len, many, sizeof(many));
    assert_int_equal(hf_raft_found_decode(buf, len + sizeof(many), &got), -EBADMSG);
    memcpy(buf + len, node, sizeof(node));
    assert_int_equal(hf_raft_found_decode(buf, len + sizeof(node), &got), -EBADMSG);
    memcpy(buf + len + sizeof(node), incarnation, sizeof(incarnation)); /* together they are good */
    assert_int_equal(hf_raft_found_decode(buf, len + sizeof(node) + sizeof(incarnation), &got), 0);
    memcpy(buf + len, incarnation, sizeof(incarnation));
    assert_int_equal(hf_raft_found_decode(buf, len + sizeof(incarnation), &got), -EBADMSG);
    memcpy(buf + len, index, sizeof(index));
    assert_int_equal(hf_raft_found_decode(buf, len + sizeof(index), &got), -EBADMSG);
    for (uint32_t i = 0; i < HF_RAFT_DIGESTS_MAX - 1; i++) { /* with the two: one too many */
        const uint32_t at = 2049 + i;
        const uint8_t pair[] = {0x4a, 2, (uint8_t)(0x80 | (at & 0x7f)), (uint8_t)(at >> 7)};
        const uint8_t digest[] = {0x52, 8, 1, 1, 1, 1, 1, 1, 1, 1};

        memcpy(buf + len, pair, sizeof(pair));
        memcpy(buf + len + sizeof(pair), digest, sizeof(digest));
        len += sizeof(pair) + sizeof(digest);
        assert_int_equal(hf_raft_found_decode(buf, len, &got),
                         i + 3 <= HF_RAFT_DIGESTS_MAX ? 0 : -EBADMSG);
    }
    assert_int_equal(hf_raft_found_decode(NULL, 0, &got), -EBADMSG);
}

/* --------------------------------------------------------------------------------------- golden */

static const struct golden {
    const char *name; /* of its raft_types[], then more */
    enum hf_raft_msg_type type;
} golden[] = {
    {"msg.prevote", HF_RAFT_MSG_PREVOTE},
    {"msg.prevote_result", HF_RAFT_MSG_PREVOTE_RESULT},
    {"msg.vote", HF_RAFT_MSG_VOTE},
    {"msg.vote_result", HF_RAFT_MSG_VOTE_RESULT},
    {"msg.append", HF_RAFT_MSG_APPEND},
    {"msg.append_result", HF_RAFT_MSG_APPEND_RESULT},
    {"msg.snapshot", HF_RAFT_MSG_SNAPSHOT},
    {"msg.snapshot_result", HF_RAFT_MSG_SNAPSHOT_RESULT},
    {"msg.timeout_now", HF_RAFT_MSG_TIMEOUT_NOW},
    {.name = "config"},
    {.name = "entries"},
    {.name = "found"},
    {.name = "found.answer"},
};
#define GOLDEN_COUNT (sizeof(golden) / sizeof(golden[0]))

static const struct raft_type *type_of(const struct golden *g)
{
    size_t i = 0;

    while (strncmp(g->name, raft_types[i].name, strlen(raft_types[i].name)) != 0) {
        i++;
        assert_true(i < RAFT_TYPE_COUNT);
    }
    return &raft_types[i];
}

/* A no-op, a mutation with bulk and one without, a configuration. */
static size_t make_entries(uint8_t *ret)
{
    uint8_t config[HF_RAFT_CONFIG_BYTES_MAX];
    uint32_t config_len = (uint32_t)hf_raft_config_encode(&three, config);
    const uint8_t *msg = (const uint8_t *)"message", *bulk = (const uint8_t *)"bulk bytes";
    const struct hf_raft_entry entries[] = {
        {.term = 8, .time_ns = 1700000000000000000, .type = HF_RAFT_ENTRY_NOOP},
        {0, 8, 1700000000000000001, HF_RAFT_ENTRY_NORMAL, msg, bulk, 7, 10},
        {0, 0x0102030405060708, UINT64_MAX, HF_RAFT_ENTRY_NORMAL, msg, NULL, 7, 0},
        {0, TOP, 0, HF_RAFT_ENTRY_CONFIG, config, NULL, config_len, 0},
    };
    size_t len = 0;

    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        hf_raft_entry_encode(&entries[i], ret + len);
        len += hf_raft_entry_bytes(&entries[i]);
    }
    return len;
}

static size_t make(const struct golden *g, uint8_t *ret)
{
    const struct hf_raft_found found = make_found(), answer = make_answer();
    struct hf_raft_msg m;
    size_t len = 0;

    if (strcmp(g->name, "config") == 0) {
        return hf_raft_config_encode(&three, ret);
    }
    if (strcmp(g->name, "entries") == 0) {
        return make_entries(ret);
    }
    if (strncmp(g->name, "found", 5) == 0) {
        assert_int_equal(
            hf_raft_found_encode(strcmp(g->name, "found") == 0 ? &found : &answer, ret, &len), 0);
        return len;
    }
    m = make_msg(g->type, 0x0102030405060708);
    assert_int_equal(hf_raft_msg_encode(&m, ret, &len), 0);
    return len;
}

static void everything_has_its_golden_bytes(void **state)
{
    bool write = getenv("HF_GOLDEN_WRITE") != NULL;
    FILE *f = fopen(GOLDEN, write ? "w" : "r");
    static char line[8192], want[8192];

    (void)state;
    assert_non_null(f);
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        size_t len = make(&golden[i], buf);
        int at = snprintf(want, sizeof(want), "%s ", golden[i].name);

        for (size_t k = 0; k < len; k++) {
            at += snprintf(want + at, sizeof(want) - (size_t)at, "%02x", buf[k]);
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

/* An error, or what encodes and decodes to itself. */
static void try(const struct raft_type *type, const uint8_t *bytes, size_t len)
{
    static uint8_t once[RAFT_BYTES_MAX], twice[RAFT_BYTES_MAX];
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

static void every_truncation_and_corruption_is_an_error_or_valid(void **state)
{
    static uint8_t bytes[RAFT_BYTES_MAX], out[RAFT_BYTES_MAX];

    (void)state;
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        size_t len = make(&golden[i], bytes), out_len;

        assert_int_equal(type_of(&golden[i])->recode(bytes, len, out, &out_len), 0);
        assert_int_equal(out_len, len);
        assert_memory_equal(out, bytes, len);
        for (size_t cut = 0; cut < len; cut++) {
            try(type_of(&golden[i]), bytes, cut);
        }
        for (size_t at = 0; at < len; at++) {
            for (unsigned flip = 1; flip < 256; flip++) {
                bytes[at] ^= (uint8_t)flip;
                try(type_of(&golden[i]), bytes, len);
                bytes[at] ^= (uint8_t)flip;
            }
        }
        for (size_t other = 0; other < RAFT_TYPE_COUNT; other++) {
            try(&raft_types[other], bytes, len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_round_trips_at_its_bounds),
        cmocka_unit_test(messages_out_of_bounds_are_refused),
        cmocka_unit_test(chunks_longer_than_bulk_are_refused),
        cmocka_unit_test(snapshots_need_a_good_configuration),
        cmocka_unit_test(what_is_no_message_is_refused_and_unknown_fields_are_skipped),
        cmocka_unit_test(configurations_round_trip),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(entries_round_trip_at_their_bounds),
        cmocka_unit_test(entries_lie_one_behind_the_other),
        cmocka_unit_test(bad_entries_are_refused),
        cmocka_unit_test(payload_past_the_bounds_is_refused_though_it_is_there),
        cmocka_unit_test(found_round_trips_at_its_bounds),
        cmocka_unit_test(bad_found_messages_are_refused),
        cmocka_unit_test(everything_has_its_golden_bytes),
        cmocka_unit_test(every_truncation_and_corruption_is_an_error_or_valid),
    };

    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
