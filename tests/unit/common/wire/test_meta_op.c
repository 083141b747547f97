/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/meta_op.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/bytes.h"
#include "common/wire/store_msg.h"

static uint64_t seed = 1;

static uint64_t rnd(void)
{
    uint64_t x = seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t rnd64(void) /* of every magnitude; a third are zero */
{
    return rnd() % 3 == 0 ? 0 : rnd() >> rnd() % 64;
}

static uint32_t rnd32(void)
{
    return rnd() % 3 == 0 ? 0 : (uint32_t)rnd() >> rnd() % 32;
}

static void rnd_name(const char **ret, size_t *ret_len)
{
    static char names[4][HF_NAME_MAX];
    static uint32_t turn;
    char *name = names[turn++ % 4];

    *ret_len = rnd() % 8 == 0 ? 0 : rnd() % (HF_NAME_MAX + 1);
    for (size_t i = 0; i < *ret_len; i++) {
        name[i] = (char)(1 + rnd() % 255);
    }
    *ret = rnd() % 4 == 0 ? NULL : name;
    if (!*ret) {
        *ret_len = 0;
    }
}

static struct hf_oid rnd_oid(void)
{
    return (struct hf_oid){rnd64(), rnd64() & HF_OID_SEQ_MAX, (uint16_t)rnd()};
}

static const enum hf_op known[] = {HF_OP_SESSION_OPEN, HF_OP_CREATE, HF_OP_RENAME,   HF_OP_WRITE,
                                   HF_OP_LOCK,         HF_OP_FORMAT, HF_OP_GROUP_SET};

static struct hf_wr_object objects[HF_COMMIT_OBJECTS_MAX];
static struct hf_wr_extent extents[HF_COMMIT_EXTENTS_MAX + 1];
static struct hf_wr_inode inodes[HF_COMMIT_INODES_MAX];
static struct hf_oid oids[HF_MSG_OIDS_MAX];
static uint64_t holders[4096];
static uint8_t bulk[HF_INLINE_BYTES_MAX];

static void rnd_extent(const struct hf_meta_op *op, struct hf_wr_extent *e)
{
    uint32_t object = (uint32_t)(rnd() % (op->object_count + 1));
    bool in = object == op->object_count;
    uint32_t limit = in ? HF_INLINE_BYTES_MAX : objects[object].len_bytes;

    e->ino.v = rnd64();
    e->off_bytes = rnd64() >> 1;
    e->pos_bytes = (uint32_t)(rnd() % limit);
    e->len_bytes = 1 + (uint32_t)(rnd() % (limit - e->pos_bytes));
    e->object = in ? HF_EXTENT_INLINE : object;
    e->digest = op->op == HF_OP_RELOCATE ? rnd64() : 0;
}

static void rnd_columns(struct hf_meta_op *op, uint32_t max)
{
    op->objects = objects;
    op->extents = extents;
    op->inodes = inodes;
    op->oids = oids;
    op->holders = holders;
    op->object_count = (uint32_t)(rnd() % (HF_COMMIT_OBJECTS_MAX + 1));
    op->extent_count = (uint32_t)(rnd() % (max + 1));
    op->inode_count = (uint32_t)(rnd() % (max + 1));
    op->oid_count = (uint32_t)(rnd() % (max + 1));
    op->holder_count = (uint32_t)(rnd() % (max + 1));
    for (uint32_t i = 0; i < op->object_count; i++) {
        objects[i] = (struct hf_wr_object){
            rnd_oid(), 1 + (uint32_t)(rnd() % HF_OBJECT_BYTES_MAX), rnd64(), rnd64(), {rnd64()}};
    }
    for (uint32_t i = 0; i < max; i++) {
        rnd_extent(op, &extents[i]);
        inodes[i] = (struct hf_wr_inode){.ino = {rnd64()},
                                         .size_min_bytes = rnd64(),
                                         .mtime_ns = rnd64(),
                                         .ctime_ns = rnd() % 3 ? 0 : rnd64()};
        oids[i] = rnd_oid();
        holders[i] = rnd64();
    }
}

/* clang-format off */
/* Every scalar: (name, random value). */
#define OP_SCALARS(X)                                                                              \
    X(session.v, rnd64())                                                                          \
    X(stream, rnd64())                                                                             \
    X(acked, rnd64()) X(time_ns, rnd64()) X(ino.v, rnd64()) X(ino2.v, rnd64())                     \
        X(parent.v, rnd64()) X(parent2.v, rnd64()) X(mode, rnd32()) X(umask, rnd32())              \
            X(uid, rnd32()) X(gid, rnd32()) X(flags, rnd32()) X(mask, rnd32()) X(rdev, rnd64())    \
                X(size, rnd64()) X(atime_ns, rnd64()) X(mtime_ns, rnd64()) X(ctime_ns, rnd64()) X( \
                    offset, rnd64()) X(length, rnd64()) X(offset2, rnd64()) X(lock_type, rnd32())  \
                    X(lock_pid, rnd32()) X(lock_owner, rnd64()) X(count, rnd64())                  \
                        X(ttl_ns, rnd64()) X(node.v, (uint16_t)(rnd() % (HF_NODES_MAX + 1)))       \
                            X(node_state, (enum hf_node_state)(rnd() % HF_NODE_STATE_COUNT))       \
                                X(op, known[rnd() % (sizeof(known) / sizeof(known[0]))])
#define READ_SCALARS(X)                                                                            \
    X(op, (enum hf_rd)(rnd() % (HF_RD_RESERVED + 1)))                                                  \
    X(session.v, rnd64())                                                                          \
    X(ino.v, rnd64()) X(cookie, rnd64()) X(offset, rnd64()) X(length, rnd64())                     \
        X(if_version, rnd64()) X(max, rnd32()) X(lock_type, rnd32()) X(flags, rnd32())             \
            X(lock_owner, rnd64()) X(want_bytes, rnd64()) X(acked, rnd64()) X(floor, rnd64())
#define ATTR_SCALARS(X, at)                                                                        \
    X(at.ino.v, rnd64())                                                                           \
    X(at.mode, rnd32())                                                                            \
    X(at.uid, rnd32()) X(at.gid, rnd32()) X(at.nlink, rnd32()) X(at.rdev, rnd64())                 \
        X(at.size, rnd64()) X(at.bytes, rnd64()) X(at.atime_ns, rnd64()) X(at.mtime_ns, rnd64())   \
            X(at.ctime_ns, rnd64()) X(at.btime_ns, rnd64()) X(at.version, rnd64())                 \
                X(at.data_version, rnd64()) X(at.generation, rnd64())
#define REPLY_SCALARS(X)                                                                           \
    ATTR_SCALARS(X, attr)                                                                          \
    ATTR_SCALARS(X, attr2)                                                                         \
    X(lease.kind, (enum hf_lease_kind)(rnd() % 3)) X(lease.id, rnd64()) X(lease.valid_ns, rnd64()) \
        X(session.v, rnd64()) X(last_stream, rnd64()) X(first_ino.v, rnd64())                      \
            X(ino_count, rnd64()) X(ttl_ns, rnd64()) X(budget_bytes, rnd64())                      \
                X(budget_inodes, rnd64()) X(map_epoch, rnd64()) X(next_cookie, rnd64())            \
                    X(eof, rnd() % 2) X(data_version, rnd64()) X(lock_type, rnd32())               \
                        X(lock_pid, rnd32()) X(lock_start, rnd64()) X(lock_end, rnd64())           \
                            X(total_bytes, rnd64()) X(free_bytes, rnd64()) X(inodes, rnd64())      \
                                X(applied_index, rnd64()) X(count, rnd64()) X(rights, rnd32()) X(anon_uid, rnd32()) X(anon_gid, rnd32())
/* clang-format on */

#define FILL(field, value) a->field = (value);
#define SAME(field, value) assert_true(a->field == b->field);
#define SAME_NAME(field)                                                                           \
    do {                                                                                           \
        assert_int_equal(!a->field, !b->field);                                                    \
        assert_int_equal(a->field##_len, b->field##_len);                                          \
        if (a->field##_len) {                                                                      \
            assert_memory_equal(a->field, b->field, a->field##_len);                               \
        }                                                                                          \
    } while (0)

static struct hf_meta_op rnd_op(void)
{
    struct hf_meta_op op = {.bulk = bulk, .bulk_len = sizeof(bulk)}, *a = &op;

    OP_SCALARS(FILL)
    op.text = rnd() % 2 ? "127.0.0.1:7000" : NULL;
    rnd_name(&op.name, &op.name_len);
    rnd_name(&op.name2, &op.name2_len);
    rnd_name(&op.target, &op.target_len);
    if (rnd() % 2) {
        memset(op.uuid.b, (int)rnd() & 0xff, sizeof(op.uuid.b));
    }
    rnd_columns(&op, rnd() % 4 == 0 ? 100 : 3);
    return op;
}

static void assert_columns_equal(const struct hf_meta_op *a, const struct hf_meta_op *b)
{
    SAME(object_count, )
    SAME(extent_count, )
    SAME(inode_count, )
    SAME(oid_count, )
    SAME(holder_count, )
    for (uint32_t i = 0; i < a->object_count; i++) {
        assert_true(hf_oid_equal(&a->objects[i].oid, &b->objects[i].oid));
        SAME(objects[i].len_bytes, )
        SAME(objects[i].digest, )
        SAME(objects[i].holders, )
        SAME(objects[i].epoch.v, )
    }
    for (uint32_t i = 0; i < a->extent_count; i++) {
        SAME(extents[i].ino.v, )
        SAME(extents[i].off_bytes, )
        SAME(extents[i].len_bytes, )
        SAME(extents[i].object, )
        SAME(extents[i].pos_bytes, )
        SAME(extents[i].digest, )
    }
    for (uint32_t i = 0; i < a->inode_count; i++) {
        SAME(inodes[i].ino.v, )
        SAME(inodes[i].size_min_bytes, )
        SAME(inodes[i].mtime_ns, )
        SAME(inodes[i].ctime_ns, )
    }
    for (uint32_t i = 0; i < a->oid_count; i++) {
        assert_true(hf_oid_equal(&a->oids[i], &b->oids[i]));
    }
    for (uint32_t i = 0; i < a->holder_count; i++) {
        SAME(holders[i], )
    }
}

static void assert_op_equal(const struct hf_meta_op *a, const struct hf_meta_op *b)
{
    OP_SCALARS(SAME)
    SAME_NAME(name);
    SAME_NAME(name2);
    SAME_NAME(target);
    SAME(bulk, )
    SAME(bulk_len, )
    assert_true(hf_uuid_equal(&a->uuid, &b->uuid));
    assert_int_equal(!a->text, !b->text);
    if (a->text) {
        assert_string_equal(a->text, b->text);
    }
    assert_columns_equal(a, b);
}

static uint8_t msg[HF_RPC_MSG_MAX];
static size_t msg_len;

static void random_ops_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct hf_meta_op op = rnd_op(), got;
        void *mem;

        assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), 0);
        assert_int_equal(hf_meta_op_decode(msg, msg_len, bulk, sizeof(bulk), &got, &mem), 0);
        assert_op_equal(&op, &got);
        hf_meta_op_release(mem);
    }
}

static void random_looks_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct hf_meta_read rd = {.inos = holders}, got, *a = &rd, *b = &got;
        void *mem;

        READ_SCALARS(FILL)
        rd.ino_count = (uint32_t)(rnd() % 100);
        rnd_name(&rd.name, &rd.name_len);
        assert_int_equal(hf_meta_read_encode(&rd, msg, &msg_len), 0);
        assert_int_equal(hf_meta_read_decode(msg, msg_len, &got, &mem), 0);
        READ_SCALARS(SAME)
        SAME_NAME(name);
        SAME(ino_count, )
        for (uint32_t k = 0; k < rd.ino_count; k++) {
            SAME(inos[k], )
        }
        hf_meta_op_release(mem);
    }
}

static void random_answers_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct hf_meta_reply reply = {0}, got, *a = &reply, *b = &got;

        if (i > 0) {
            REPLY_SCALARS(FILL)
            memcpy(reply.leader, "10.0.0.1:7000", i % 2 ? 14 : 0);
        }
        memset(&got, 0xa5, sizeof(got));
        assert_int_equal(hf_meta_reply_encode(&reply, msg, &msg_len), 0);
        assert_int_equal(hf_meta_reply_decode(msg, msg_len, &got), 0);
        REPLY_SCALARS(SAME)
        assert_string_equal(reply.leader, got.leader);
    }
}

static int recode(struct hf_meta_op *op)
{
    struct hf_meta_op got;
    void *mem;
    int err;

    if (op) {
        assert_int_equal(hf_meta_op_encode(op, msg, &msg_len), 0);
    }
    err = hf_meta_op_decode(msg, msg_len, bulk, 100, &got, &mem);
    if (err == 0) {
        hf_meta_op_release(mem);
    }
    return err;
}

static void bad_ops_are_refused(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_CREATE, .name = "a\0b", .name_len = 3};

    (void)state;
    assert_int_equal(recode(&op), -EBADMSG); /* NUL in a name */
    op.name_len = 1;
    assert_int_equal(recode(&op), 0);
    op.op = (enum hf_op)200;
    assert_int_equal(recode(&op), -EBADMSG);
    op.op = HF_OP_NONE;
    assert_int_equal(recode(&op), -EBADMSG);
    op.op = HF_OP_NODE_STATE;
    op.node_state = HF_NODE_STATE_COUNT;
    assert_int_equal(recode(&op), -EBADMSG);
    op = (struct hf_meta_op){.op = HF_OP_WRITE, .extents = extents, .extent_count = 1};
    extents[0] = (struct hf_wr_extent){{1}, 0, 50, HF_EXTENT_INLINE, 51};
    assert_int_equal(recode(&op), -EBADMSG); /* past the inline bytes */
    extents[0].pos_bytes = 50;
    assert_int_equal(recode(&op), 0);
    extents[0].object = 0;
    assert_int_equal(recode(&op), -EBADMSG); /* no such object */
    op.extent_count = HF_COMMIT_EXTENTS_MAX + 1;
    assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), -EMSGSIZE);
    /* uneven columns: extent_inos of one, and nothing else */
    memcpy(msg, "\x08\x13\x9a\x02\x01\x05", msg_len = 6);
    assert_int_equal(recode(NULL), -EBADMSG);
    /* many tiny fields may not make the decoder take much memory */
    for (msg_len = 0; msg_len < HF_RPC_MSG_MAX; msg_len += 2) {
        memcpy(msg + msg_len, "\x08\x13", 2);
    }
    assert_int_equal(recode(NULL), -EBADMSG);
}

static void what_does_not_fit_a_message_is_emsgsize(void **state)
{
    struct hf_meta_op op = {
        .op = HF_OP_WRITE, .extents = extents, .inodes = inodes, .holders = holders};

    (void)state;
    op.extent_count = HF_COMMIT_EXTENTS_MAX;
    op.inode_count = HF_COMMIT_INODES_MAX;
    for (uint32_t i = 0; i < HF_COMMIT_EXTENTS_MAX; i++) {
        extents[i] = (struct hf_wr_extent){{UINT64_MAX}, UINT64_MAX, 1, HF_EXTENT_INLINE, 0};
    }
    for (uint32_t i = 0; i < HF_COMMIT_INODES_MAX; i++) {
        inodes[i] = (struct hf_wr_inode){.ino = {UINT64_MAX},
                                         .size_min_bytes = UINT64_MAX,
                                         .mtime_ns = UINT64_MAX,
                                         .ctime_ns = UINT64_MAX};
    }
    assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), 0); /* a full commit fits */
    op.holder_count = 1024;
    memset(holders, 0xff, sizeof(holders));
    assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), -EMSGSIZE);
    op.inode_count = 0;
    assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), 0);
}

/* ... so that a commit without any is what it was before there were such. */
static void times_that_were_told_are_a_column_only_if_there_are_any(void **state)
{
    struct hf_wr_inode two[2] = {{.ino = {1}}, {.ino = {2}}};
    struct hf_meta_op op = {.op = HF_OP_WRITE, .inodes = two, .inode_count = 2};
    const uint8_t column[] = {0xa2, 0x03, 2, 0, 5};
    size_t without;

    (void)state;
    assert_int_equal(hf_meta_op_encode(&op, msg, &without), 0);
    two[1].ctime_ns = 5;
    assert_int_equal(hf_meta_op_encode(&op, msg, &msg_len), 0);
    assert_int_equal(msg_len, without + sizeof(column));
    assert_memory_equal(msg + without, column, sizeof(column));
    msg[without + 2] = 1; /* of two files, one time */
    msg_len--;
    assert_int_equal(recode(NULL), -EBADMSG);
}

static int try_extents(const struct hf_extent e[2], size_t len)
{
    uint8_t b[8 + 2 * HF_EXTENT_WIRE_BYTES + 5];
    struct hf_extent *got;
    const uint8_t *in;
    uint32_t count;
    size_t in_len;
    int err;

    hf_put_le32(b, 2);
    hf_put_le32(b + 4, 5);
    hf_extent_encode(&e[0], b + 8);
    hf_extent_encode(&e[1], b + 8 + HF_EXTENT_WIRE_BYTES);
    memcpy(b + 8 + 2 * HF_EXTENT_WIRE_BYTES, "hello", 5);
    err = hf_extents_decode(b, len ? len : sizeof(b), &got, &count, &in, &in_len);
    if (err == 0) {
        assert_int_equal(count, 2);
        assert_int_equal(in_len, 5);
        assert_memory_equal(in, "hello", 5);
        assert_true(got[0].off_bytes == e[0].off_bytes && got[0].len_bytes == e[0].len_bytes &&
                    got[0].pos_bytes == e[0].pos_bytes && hf_oid_equal(&got[0].oid, &e[0].oid));
        free(got);
    }
    return err;
}

static void extents_round_trip_and_are_checked(void **state)
{
    const struct hf_extent good[2] = {{4096, 10, 7, {5, 6, 1}}, {8192, 5, 0, {0, 0, 0}}};
    struct hf_extent e[2];

    (void)state;
    assert_int_equal(try_extents(good, 0), 0);
    for (size_t len = 1; len < 8 + 2 * HF_EXTENT_WIRE_BYTES + 5; len++) {
        assert_int_equal(try_extents(good, len), -EBADMSG);
    }
    for (int turn = 0; turn < 5; turn++) {
        memcpy(e, good, sizeof(e));
        switch (turn) {
        case 0:
            e[0].len_bytes = 4097; /* overlap */
            break;
        case 1:
            e[1].pos_bytes = 1; /* past the inline bytes */
            break;
        case 2:
            e[1].len_bytes = 0;
            break;
        case 3:
            e[0].pos_bytes = HF_OBJECT_BYTES_MAX;
            break;
        default:
            e[1].off_bytes = UINT64_MAX - 4;
            break;
        }
        assert_int_equal(try_extents(e, 0), -EBADMSG);
    }
}

static void entries_round_trip_until_there_is_no_room(void **state)
{
    uint8_t b[600];
    struct hf_writer w = hf_writer_init(b, sizeof(b));
    struct hf_reader r;
    struct hf_dirent e = {.cookie = 1, .type = 0100000, .name = "file", .name_len = 4};
    struct hf_dirent got;
    struct hf_meta_reply fill = {0}, *a = &fill;
    int count = 0, read = 0;

    (void)state;
    ATTR_SCALARS(FILL, attr)
    e.attr = fill.attr;
    while (!w.bad) {
        e.ino.v = 100u + (unsigned)count;
        e.has_attr = count % 2;
        hf_dirent_encode(&w, &e);
        count += !w.bad;
    }
    r = hf_reader_init(b, (size_t)(w.at - b));
    while (hf_dirent_decode(&r, &got) == 0) {
        assert_int_equal(got.ino.v, 100 + read);
        assert_int_equal(got.has_attr, read % 2);
        assert_memory_equal(got.name, "file", 4);
        if (got.has_attr) {
            assert_memory_equal(&got.attr, &e.attr, sizeof(got.attr));
        }
        read++;
    }
    assert_int_equal(read, count);
    assert_int_equal(hf_dirent_decode(&r, &got), -ENOENT);
    r = hf_reader_init(b, (size_t)(w.at - b) - 1);
    while ((read = hf_dirent_decode(&r, &got)) == 0) {
    }
    assert_int_equal(read, -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ops_round_trip),
        cmocka_unit_test(random_looks_round_trip),
        cmocka_unit_test(random_answers_round_trip),
        cmocka_unit_test(bad_ops_are_refused),
        cmocka_unit_test(what_does_not_fit_a_message_is_emsgsize),
        cmocka_unit_test(times_that_were_told_are_a_column_only_if_there_are_any),
        cmocka_unit_test(extents_round_trip_and_are_checked),
        cmocka_unit_test(entries_round_trip_until_there_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
