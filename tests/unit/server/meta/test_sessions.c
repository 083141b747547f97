/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/meta/fixture.h"

#define ROOT HF_INO_ROOT

static struct fx fx;
static struct fx_session s;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 9);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

static void nothing_works_before_format(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_OPEN, .uuid = {{1}}};
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {ROOT}};

    (void)state;
    fx_init(&fx);
    assert_int_equal(fx_apply(&fx, &op), -HF_ENOTREADY);
    assert_int_equal(fx_read(&fx, &rd), -HF_ENOTREADY);
    assert_int_equal(hf_meta_map(fx.r[0].meta)->group_count, 0);
    fx_format(&fx);
    assert_int_equal(hf_meta_map(fx.r[0].meta)->group_count, 4);
    assert_int_equal(hf_meta_map(fx.r[0].meta)->node_count, 3);
    op = (struct hf_meta_op){.op = HF_OP_FORMAT, .uuid = {{2}}, .count = 1, .size = 1, .mode = 4};
    assert_int_equal(fx_apply(&fx, &op), -EEXIST);
    fx_fini(&fx);
}

static void open_is_the_same_session_for_the_same_mount(void **state)
{
    struct fx_session again, other;

    (void)state;
    fx_session_open(&fx, &again, 9);
    assert_int_equal(again.id.v, s.id.v);
    assert_int_equal(again.next_ino, s.next_ino);
    assert_int_equal(again.ino_end, s.ino_end);
    assert_true(again.ino_end > again.next_ino);
    fx_session_open(&fx, &other, 10);
    assert_int_not_equal(other.id.v, s.id.v);
    assert_true(other.next_ino >= s.ino_end);
    assert_int_equal(fx_usage(&fx).sessions, 2);
}

static void ended_sessions_are_fenced_and_their_ids_not_used_again(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "a");
    struct hf_meta_op op = {.op = HF_OP_SESSION_EVICT, .session = s.id};
    struct hf_meta_read rd = {.op = HF_RD_STREAM, .session = s.id};
    struct fx_session again;

    (void)state;
    assert_int_equal(fx_write(&fx, &s, ino, 0, 100), 0);
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.last_stream, s.stream);
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_false(hf_meta_session_live(fx.r[0].meta, s.id));
    assert_int_equal(fx_create(&fx, &s, ROOT, "b", S_IFREG, NULL), -HF_EFENCED);
    assert_int_equal(fx_read(&fx, &rd), -HF_EFENCED);
    fx_session_open(&fx, &again, 9);
    assert_true(again.id.v > s.id.v);
    assert_int_equal(fx_attr(&fx, ino).size, 100);
}

static void what_a_session_holds_goes_with_it(void **state)
{
    uint64_t a = fx_mkfile(&fx, &s, ROOT, "a"), b = fx_mkfile(&fx, &s, ROOT, "b");
    struct fx_session other;
    uint64_t both[2];
    struct hf_meta_op op = {.op = HF_OP_UNLINK,
                            .parent = {ROOT},
                            .name = "b",
                            .name_len = 1,
                            .holders = both,
                            .holder_count = 2};
    struct hf_meta *meta = fx.r[0].meta;
    struct hf_ino inos[3];
    struct hf_session_id holders[3];

    (void)state;
    fx_session_open(&fx, &other, 10);
    both[0] = s.id.v;
    both[1] = other.id.v;
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", s.id.v), 0);
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(
        hf_meta_orphans(meta, (struct hf_ino){0}, (struct hf_session_id){0}, inos, holders, 3), 3);
    assert_true(inos[0].v == a && holders[0].v == s.id.v);
    assert_true(inos[1].v == b && holders[1].v == s.id.v);
    assert_true(inos[2].v == b && holders[2].v == other.id.v);
    assert_int_equal(hf_meta_orphans(meta, inos[0], holders[0], inos, holders, 1), 1);
    assert_true(inos[0].v == b && holders[0].v == s.id.v);
    op = (struct hf_meta_op){.op = HF_OP_SESSION_CLOSE, .session = s.id};
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx_usage(&fx).orphans, 1);
    assert_int_equal(fx_attr(&fx, b).nlink, 0);
    fx_fsck(&fx);
    op.session = other.id;
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx_usage(&fx).orphans, 0);
    assert_int_equal(fx_usage(&fx).inodes, 1);
}

static void streams_take_only_the_next_number(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_INO_RANGE, .session = s.id, .stream = 2, .count = 100};

    (void)state;
    assert_int_equal(fx_apply(&fx, &op), -HF_EGAP);
    assert_int_equal(fx.reply.last_stream, 0);
    op.stream = 1;
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx.reply.ino_count, 512);
    assert_true(fx.reply.first_ino.v >= s.ino_end);
    op.stream = 0;
    assert_int_equal(fx_apply(&fx, &op), -EINVAL);
    op.stream = 1;
    op.session.v = 77;
    assert_int_equal(fx_apply(&fx, &op), -HF_EFENCED);
}

/* Every kind of operation, twice: the second time it is a resend. */
static void every_operation_sent_again_gets_its_own_answer(void **state)
{
    uint64_t f = fx_mkfile(&fx, &s, ROOT, "f"), g = fx_mkfile(&fx, &s, ROOT, "g");
    struct hf_wr_object object = {
        .oid = {.session = s.id.v, .seq = 1}, .len_bytes = 100, .holders = 7};
    struct hf_wr_extent extent = {.ino = {f}, .len_bytes = 100};
    struct hf_wr_inode inode = {.ino = {f}, .size_min_bytes = 100};
    uint64_t holder = s.id.v;
#define NAME(n) .name = (n), .name_len = sizeof(n) - 1
    struct hf_meta_op ops[] = {
        {.op = HF_OP_INO_RANGE, .count = 512},
        {.op = HF_OP_CREATE,
         .parent = {ROOT},
         NAME("x"),
         .ino = {s.next_ino},
         .mode = S_IFREG | 0644},
        {.op = HF_OP_CREATE, .parent = {ROOT}, NAME("x"), .ino = {9}, .mode = S_IFREG},
        {.op = HF_OP_LINK, .ino = {f}, .parent = {ROOT}, NAME("y")},
        {.op = HF_OP_WRITE,
         .objects = &object,
         .extents = &extent,
         .inodes = &inode,
         .object_count = 1,
         .extent_count = 1,
         .inode_count = 1},
        {.op = HF_OP_SETATTR, .ino = {f}, .mask = HF_SET_SIZE, .size = 50},
        {.op = HF_OP_SETXATTR, .ino = {f}, NAME("user.a"), .bulk = "v", .bulk_len = 1, .flags = 1},
        {.op = HF_OP_REMOVEXATTR, .ino = {f}, NAME("user.a")},
        {.op = HF_OP_REMOVEXATTR, .ino = {f}, NAME("user.a")},
        {.op = HF_OP_PUNCH, .ino = {f}, .length = 10},
        {.op = HF_OP_CLONE, .ino = {f}, .ino2 = {g}, .length = 50},
        {.op = HF_OP_ALLOCATE, .ino = {f}, .length = 1000},
        {.op = HF_OP_LOCK, .ino = {f}, .lock_owner = 1, .lock_type = F_WRLCK, .length = 10},
        {.op = HF_OP_LOCK, .ino = {f}, .lock_owner = 2, .lock_type = F_RDLCK},
        {.op = HF_OP_LOCK_RELEASE, .ino = {f}, .lock_owner = 1},
        {.op = HF_OP_RENAME,
         .parent = {ROOT},
         NAME("g"),
         .parent2 = {ROOT},
         .name2 = "h",
         .name2_len = 1},
        {.op = HF_OP_UNLINK, .parent = {ROOT}, NAME("h"), .holders = &holder, .holder_count = 1},
        {.op = HF_OP_ORPHAN_RELEASE, .ino = {g}},
        {.op = HF_OP_UNLINK, .parent = {ROOT}, NAME("h")},
        {.op = HF_OP_RMDIR, .parent = {ROOT}, NAME("f")},
        {.op = HF_OP_TMPFILE,
         .parent = {ROOT},
         .ino = {s.next_ino + 1},
         .mode = S_IFREG,
         .flags = 1},
        {.op = HF_OP_LINK, .ino = {s.next_ino + 1}, .parent = {ROOT}, NAME("z")},
        {.op = HF_OP_UNLINK, .parent = {ROOT}, NAME("l")},
    };
#undef NAME
    struct hf_meta_reply replies[HF_ARRAY_LEN(ops)];

    (void)state;
    assert_int_equal(fx_create(&fx, &s, ROOT, "l", S_IFLNK, NULL), 0);
    for (size_t i = 0; i < HF_ARRAY_LEN(ops); i++) {
        uint64_t digest;

        (void)fx_do(&fx, &s, &ops[i]);
        replies[i] = fx.reply;
        digest = hf_table_digest(fx.r[0].table);
        (void)fx_apply(&fx, &ops[i]);
        assert_memory_equal(&fx.reply, &replies[i], sizeof(replies[i]));
        assert_true(hf_table_digest(fx.r[0].table) == digest);
    }
    /* all in a row once more: none is acknowledged past eight back */
    for (size_t i = HF_ARRAY_LEN(ops) - 8; i < HF_ARRAY_LEN(ops); i++) {
        (void)fx_apply(&fx, &ops[i]);
        assert_memory_equal(&fx.reply, &replies[i], sizeof(replies[i]));
    }
    assert_int_equal(replies[13].err, -EAGAIN);
    assert_int_equal(replies[13].lock_type, F_WRLCK);
    assert_int_equal(replies[13].lock_end, 9);
}

static void results_are_kept_for_a_window_and_until_acknowledged(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_SETATTR, .session = s.id, .ino = {ROOT}};

    (void)state;
    for (op.stream = 1; op.stream <= HF_STREAM_WINDOW + 10; op.stream++) {
        op.mask = HF_SET_UID;
        op.uid = (uint32_t)op.stream;
        assert_int_equal(fx_apply(&fx, &op), 0);
    }
    op.stream = 10;
    assert_int_equal(fx_apply(&fx, &op), -HF_EFENCED);
    op.stream = 11;
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx.reply.attr.uid, 11);
    op.stream = HF_STREAM_WINDOW + 11;
    op.acked = HF_STREAM_WINDOW + 9;
    assert_int_equal(fx_apply(&fx, &op), 0);
    op.stream = HF_STREAM_WINDOW + 9;
    assert_int_equal(fx_apply(&fx, &op), -HF_EFENCED);
    op.stream = HF_STREAM_WINDOW + 10;
    assert_int_equal(fx_apply(&fx, &op), 0);
    op.stream = HF_STREAM_WINDOW + 12;
    op.acked = UINT64_MAX; /* more than there is: the last stays */
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx_apply(&fx, &op), 0);
}

static void a_failed_operation_changes_only_the_stream(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), version = fx_attr(&fx, ROOT).version;

    (void)state;
    fx_mkfile(&fx, &s, dir, "f");
    fx_mkdir(&fx, &s, ROOT, "e");
    version = fx_attr(&fx, ROOT).version;
    assert_int_equal(fx_rename(&fx, &s, ROOT, "e", ROOT, "d", 0), -ENOTEMPTY);
    assert_int_equal(fx_attr(&fx, ROOT).version, version);
    assert_int_equal(fx_lookup(&fx, ROOT, "e", NULL), 0);
}

static void a_replica_goes_on_from_its_checkpoint(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_SETATTR, .ino = {ROOT}, .mask = HF_SET_UID, .uid = 3};
    struct hf_meta_entry entry = {.term = 1, .op = &op};
    struct hf_meta_reply reply;
    struct hf_meta_session session;
    struct hf_map before;
    uint64_t digest;

    (void)state;
    fx_mkfile(&fx, &s, ROOT, "a");
    fx_checkpoint(&fx, 1);
    assert_int_equal(hf_map_dup(hf_meta_map(fx.r[1].meta), &before), 0);
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    digest = hf_table_digest(fx.r[1].table);
    fx_close_replica(&fx.r[1]);
    fx_open_replica(&fx, &fx.r[1]);
    assert_int_equal(hf_meta_applied(fx.r[1].meta), fx.index - 1);
    assert_int_equal(hf_meta_map(fx.r[1].meta)->epoch.v, before.epoch.v);
    assert_int_equal(hf_meta_map(fx.r[1].meta)->node_count, 3);
    assert_memory_equal(hf_meta_map(fx.r[1].meta)->groups, before.groups,
                        4 * sizeof(*before.groups));
    hf_map_fini(&before);
    entry.index = fx.index;
    entry.time_ns = fx.now_ns - 1000;
    assert_int_equal(hf_meta_apply(fx.r[1].meta, &entry, &reply), 0);
    assert_memory_equal(&reply, &fx.reply, sizeof(reply));
    assert_true(hf_table_digest(fx.r[1].table) == digest);
    assert_int_equal(hf_meta_sessions(fx.r[1].meta, (struct hf_session_id){0}, &session, 1), 1);
    assert_int_equal(session.id.v, s.id.v);
    assert_int_equal(session.last_stream, s.stream);
    assert_string_equal(session.name, "mount");
    assert_int_equal(hf_meta_sessions(fx.r[1].meta, s.id, &session, 1), 0);
}

static void rows_without_a_mark_are_refused(void **state)
{
    struct hf_table_base *base;
    struct hf_table_model *model = hf_table_model_new();
    struct hf_table *table;
    struct hf_meta *meta;

    (void)state;
    assert_non_null(model);
    assert_int_equal(hf_table_base_model(model, &base), 0);
    assert_int_equal(hf_table_open(fx.env, base, NULL, &table), 0);
    assert_int_equal(hf_table_put(table, "x", 1, "y", 1), 0);
    assert_int_equal(hf_meta_open(table, &meta), -EBADMSG);
    hf_table_close(table);
    hf_table_model_free(model);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_works_before_format),
        T(open_is_the_same_session_for_the_same_mount),
        T(ended_sessions_are_fenced_and_their_ids_not_used_again),
        T(what_a_session_holds_goes_with_it),
        T(streams_take_only_the_next_number),
        T(every_operation_sent_again_gets_its_own_answer),
        T(results_are_kept_for_a_window_and_until_acknowledged),
        T(a_failed_operation_changes_only_the_stream),
        T(a_replica_goes_on_from_its_checkpoint),
        T(rows_without_a_mark_are_refused),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
