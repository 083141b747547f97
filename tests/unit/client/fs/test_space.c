/* SPDX-License-Identifier: Apache-2.0 */
/* test_space.c - changes of more than one entry of the metadata log may do. */
#include "tests/unit/client/fs/fs_world.h"

#include "common/base/bytes.h"

#define MIB   (UINT64_C(1) << 20)
#define GIB   (UINT64_C(1) << 30)
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO  FALLOC_FL_ZERO_RANGE
#define KEEP  FALLOC_FL_KEEP_SIZE

static int allocate(struct world *w, uint32_t mode, uint64_t off, uint64_t len)
{
    struct once o;

    return WAIT(w, &o, hf_fs_fallocate(w->actors[0].file, mode, off, len, &o.req));
}

static int set_size(struct world *w, uint64_t size)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = size};
    struct once o;

    return WAIT(w, &o, hf_fs_setattr(w->fs, w->actors[0].ino, &set, &o.req));
}

/* 1,000 bytes, committed. */
static void put(struct world *w, uint64_t off)
{
    static const uint8_t data[1000] = {1};
    struct hf_fs_file *file = w->actors[0].file;
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_write(file, off, data, sizeof(data), NULL, 0, &o.req)), 0);
    assert_int_equal(WAIT(w, &o, hf_fs_fsync(file, &o.req)), 0);
}

static struct hf_meta_reply look(struct world *w, enum hf_rd op, uint64_t off, uint64_t len)
{
    const struct hf_meta_read rd = {
        .op = op, .ino = w->actors[0].ino, .offset = off, .length = len};
    struct hf_meta_reply reply;

    hf_sweep_hold();
    hf_meta_read(w->c->meta, &rd, &reply, w->c->look, FC_LOOK_BYTES);
    hf_sweep_release();
    assert_int_equal(reply.err, 0);
    return reply;
}

static uint64_t size_of(struct world *w)
{
    return look(w, HF_RD_GETATTR, 0, 0).attr.size;
}

static uint64_t reserved_in(struct world *w, uint64_t off, uint64_t len)
{
    return look(w, HF_RD_RESERVED, off, len).count;
}

/* Are there extents in the range, whose windows are no more than one look goes through? */
static bool data_in(struct world *w, uint64_t off, uint64_t len)
{
    struct hf_meta_reply reply = look(w, HF_RD_EXTENTS, off, len);

    assert_true(reply.next_cookie >= off + len);
    return hf_get_le32(reply.bulk) > 0;
}

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

static void a_large_range_goes_in_pieces(void **state)
{
    static const struct {
        uint32_t mode;
        bool zeroes, reserves, grows;
    } rows[] = {
        {PUNCH, true, false, false}, {ZERO, true, true, true},   {ZERO | KEEP, true, true, false},
        {0, false, true, true},      {KEEP, false, true, false},
    };

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        uint64_t there = rows[i].zeroes ? 0 : 4000;
        struct world w;

        world_init(&w, 40 + i);
        for (uint64_t at = 0; at <= 12; at += 3) {
            put(&w, at * GIB);
        }
        assert_int_equal(allocate(&w, rows[i].mode, GIB + 100, 14 * GIB), 0);
        assert_int_equal(w.c->space_windows, HF_SPACE_WINDOWS_MAX);
        assert_true(data_in(&w, 0, GIB));
        assert_int_equal(data_in(&w, 3 * GIB, MIB), !rows[i].zeroes);
        assert_int_equal(data_in(&w, 12 * GIB, MIB), !rows[i].zeroes);
        assert_int_equal(size_of(&w), rows[i].grows ? 15 * GIB + 100 : 12 * GIB + 1000);
        assert_int_equal(reserved_in(&w, 0, UINT64_MAX), rows[i].reserves ? 14 * GIB - there : 0);
        end(&w);
    }
}

static void the_largest_file_there_may_be_is_allocated(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 50);
    assert_int_equal(allocate(&w, 0, 5, HF_FILE_BYTES_MAX - 5), 0);
    assert_int_equal(size_of(&w), HF_FILE_BYTES_MAX);
    assert_int_equal(reserved_in(&w, 0, UINT64_MAX), HF_FILE_BYTES_MAX - 5);
    assert_int_equal(allocate(&w, PUNCH, 5, HF_FILE_BYTES_MAX - 5), 0);
    assert_int_equal(reserved_in(&w, 0, UINT64_MAX), 0);
    assert_int_equal(w.c->space_windows, HF_SPACE_WINDOWS_MAX);
    assert_int_equal(allocate(&w, 0, 5, HF_FILE_BYTES_MAX - 4), -EFBIG);
    end(&w);
}

static void a_file_without_data_is_punched_at_once(void **state)
{
    struct world w;
    uint64_t ops;

    (void)state;
    world_init(&w, 55);
    assert_int_equal(set_size(&w, HF_FILE_BYTES_MAX), 0);
    put(&w, 9 * GIB);
    ops = w.c->applied_ops;
    assert_int_equal(allocate(&w, PUNCH, GIB, HF_FILE_BYTES_MAX - GIB), 0);
    assert_int_equal(w.c->applied_ops - ops, 3); /* to where the data was */
    assert_false(data_in(&w, 9 * GIB, MIB));
    ops = w.c->applied_ops;
    assert_int_equal(allocate(&w, PUNCH, GIB, HF_FILE_BYTES_MAX - GIB), 0);
    assert_int_equal(w.c->applied_ops - ops, 1);
    assert_int_equal(allocate(&w, KEEP, 20 * GIB, 10 * GIB), 0);
    assert_int_equal(allocate(&w, PUNCH, 0, 40 * GIB), 0);
    assert_int_equal(reserved_in(&w, 0, UINT64_MAX), 0);
    end(&w);
}

struct applied {
    struct world *w;
    uint64_t count;
};

static bool is_applied(void *ctx)
{
    const struct applied *until = ctx;

    return until->w->c->applied_ops >= until->count;
}

/* Until so many more operations are applied. */
static void run_ops(struct world *w, uint64_t count)
{
    struct applied until = {w, w->c->applied_ops + count};

    assert_true(hf_sim_run_until(w->c->sim, is_applied, &until, 60 * HF_NS_PER_SEC));
}

/* The client ends; what it had under way comes to nothing. */
static void die(struct world *w)
{
    w->c->lost = true;
    hf_sim_run_ns(w->c->sim, HF_NS_PER_SEC);
    hf_fs_session_lost(w->fs, -HF_EFENCED);
    for (int i = 0; i < FILES; i++) {
        hf_fs_release(w->actors[i].file);
    }
    hf_sim_run_ns(w->c->sim, HF_NS_PER_SEC);
    hf_fs_shutdown(w->fs);
    hf_fs_free(w->fs);
    w->fs = NULL;
    world_fini(w);
}

static void who_dies_between_pieces_leaves_a_prefix_done(void **state)
{
    static const uint32_t modes[] = {ZERO, 0, PUNCH};

    (void)state;
    for (uint64_t pieces = 1; pieces <= 3; pieces++) {
        for (size_t i = 0; i < HF_ARRAY_LEN(modes); i++) {
            uint64_t done = pieces * 4 * GIB, was = 6 * GIB + 1000;
            bool zeroes = modes[i] != 0, grows = modes[i] != PUNCH;
            struct world w;
            struct once o;

            if (!grows && pieces > 1) {
                continue; /* there is nothing left then */
            }
            world_init(&w, 60 + i);
            for (uint64_t at = 0; at <= 6; at += 2) {
                put(&w, at * GIB);
            }
            assert_int_equal(
                hf_fs_fallocate(w.actors[0].file, modes[i], 0, 16 * GIB, &once(&o)->req),
                HF_FS_PENDING);
            run_ops(&w, pieces);
            w.c->lost = true;
            assert_int_not_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
            assert_int_equal(size_of(&w), grows && done > was ? done : was);
            for (uint64_t at = 0; at <= 6; at += 2) {
                assert_int_equal(data_in(&w, at * GIB, MIB), !zeroes || at * GIB >= done);
            }
            assert_false(data_in(&w, was, 10 * GIB)); /* where it has grown */
            assert_int_equal(reserved_in(&w, done, UINT64_MAX), 0);
            die(&w);
        }
    }
}

static void what_does_not_fit_as_a_whole_is_not_begun(void **state)
{
    static const uint32_t modes[] = {0, KEEP, ZERO};

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(modes); i++) {
        struct world w;

        world_init(&w, 70 + i);
        w.c->reservable = 12 * GIB;
        w.c->spare = GIB;
        assert_int_equal(allocate(&w, modes[i], 0, 14 * GIB), -ENOSPC);
        assert_int_equal(reserved_in(&w, 0, UINT64_MAX), 0);
        assert_int_equal(size_of(&w), 0);
        assert_int_equal(allocate(&w, modes[i], 0, 13 * GIB), 0); /* with what was spare */
        assert_int_equal(allocate(&w, modes[i], 0, 13 * GIB), 0); /* nothing new */
        assert_int_equal(allocate(&w, modes[i], GIB, 13 * GIB), -ENOSPC);
        assert_int_equal(size_of(&w), modes[i] == KEEP ? 0 : 13 * GIB);
        end(&w);
    }
}

/* Of another mount: 10 bytes to the end of the file. */
static void append(struct world *w)
{
    uint64_t size = size_of(w);
    struct hf_wr_extent extent = {
        .ino = w->actors[0].ino, .off_bytes = size, .len_bytes = 10, .object = HF_EXTENT_INLINE};
    struct hf_wr_inode inode = {.ino = w->actors[0].ino, .size_min_bytes = size + 10};
    struct hf_meta_op op = {.op = HF_OP_WRITE,
                            .session = w->c->session,
                            .stream = ++w->c->stream,
                            .extents = &extent,
                            .extent_count = 1,
                            .inodes = &inode,
                            .inode_count = 1,
                            .bulk = "0123456789",
                            .bulk_len = 10};
    struct hf_meta_reply reply;

    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
}

static void what_is_appended_between_pieces_is_not_zeroed(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 80);
    put(&w, GIB);
    assert_int_equal(hf_fs_fallocate(w.actors[0].file, ZERO, 0, 12 * GIB, &once(&o)->req),
                     HF_FS_PENDING);
    run_ops(&w, 1);
    append(&w);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    assert_false(data_in(&w, GIB, MIB));
    assert_true(data_in(&w, 4 * GIB, MIB));
    assert_int_equal(size_of(&w), 12 * GIB);
    assert_int_equal(set_size(&w, 0), 0);
    end(&w);
}

/* Truncation */

/* [at, at + count) GiB of the first file are the second's first GiB, 256 windows. */
static void copy(struct world *w, uint64_t at, uint64_t count)
{
    struct hf_fs_file *from = w->actors[1].file, *to = w->actors[0].file;
    struct once o;

    for (; count > 0; at++, count--) {
        assert_int_equal(WAIT(w, &o, hf_fs_copy(from, 0, to, at * GIB, GIB, &o.req)), 0);
        assert_int_equal(o.req.count, GIB);
    }
}

/* As the leader does in the background. */
static void purge(struct world *w, uint64_t count)
{
    struct hf_meta_op op = {.op = HF_OP_PURGE, .ino = w->actors[0].ino, .count = count};
    struct hf_meta_reply reply;

    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
}

/* A file from whose middle nothing can be cut off before more is purged. */
static void long_tail_init(struct world *w, uint64_t seed)
{
    static const uint8_t data[10] = {1};
    struct hf_fs_file *file;
    struct once o;

    world_init(w, seed);
    file = w->actors[1].file;
    for (uint64_t off = 0; off <= GIB; off += HF_WINDOW_BYTES) {
        assert_int_equal(WAIT(w, &o, hf_fs_write(file, off, data, sizeof(data), NULL, 0, &o.req)),
                         0);
    }
    assert_int_equal(WAIT(w, &o, hf_fs_fsync(file, &o.req)), 0);
    copy(w, 0, 12);
    assert_int_equal(set_size(w, 0), 0);
    copy(w, 12, 8);
}

static void a_truncation_that_is_refused_for_now_is_tried_again(void **state)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = 8 * GIB};
    struct world w;
    struct once o;
    uint64_t tries;

    (void)state;
    long_tail_init(&w, 90);
    assert_int_equal(hf_fs_setattr(w.fs, w.actors[0].ino, &set, &once(&o)->req), HF_FS_PENDING);
    tries = w.c->applied_ops;
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    tries = w.c->applied_ops - tries;
    assert_in_range(tries, 5, 11);
    assert_false(o.done);
    assert_int_equal(size_of(&w), 20 * GIB);
    purge(&w, 1500);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    assert_int_equal(o.req.attr.size, 8 * GIB);
    assert_int_equal(size_of(&w), 8 * GIB);
    assert_int_equal(set_size(&w, 20 * GIB), 0);
    assert_false(data_in(&w, 0, GIB) || data_in(&w, 8 * GIB, GIB) || data_in(&w, 19 * GIB, GIB));
    end(&w);
}

static void a_truncation_that_waits_ends_with_the_session(void **state)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = 8 * GIB};
    struct world w;
    struct once o;

    (void)state;
    long_tail_init(&w, 91);
    assert_int_equal(hf_fs_setattr(w.fs, w.actors[0].ino, &set, &once(&o)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_false(o.done);
    w.c->lost = true;
    assert_int_not_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    die(&w);
}

/* At a moment when it is to be tried again. */
static void a_truncation_that_waits_ends_with_the_mount(void **state)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = 8 * GIB};
    struct world w;
    struct once o;

    (void)state;
    long_tail_init(&w, 92);
    assert_int_equal(hf_fs_setattr(w.fs, w.actors[0].ino, &set, &once(&o)->req), HF_FS_PENDING);
    while (!w.fs->cuts) {
        assert_false(o.done);
        hf_sim_run_ns(w.c->sim, HF_NS_PER_MS);
    }
    hf_fs_shutdown(w.fs);
    assert_true(o.done && o.err);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC); /* releases are told */
    hf_fs_free(w.fs);
    world_fini(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_range_goes_in_pieces),
        cmocka_unit_test(the_largest_file_there_may_be_is_allocated),
        cmocka_unit_test(a_file_without_data_is_punched_at_once),
        cmocka_unit_test(who_dies_between_pieces_leaves_a_prefix_done),
        cmocka_unit_test(what_does_not_fit_as_a_whole_is_not_begun),
        cmocka_unit_test(what_is_appended_between_pieces_is_not_zeroed),
        cmocka_unit_test(a_truncation_that_is_refused_for_now_is_tried_again),
        cmocka_unit_test(a_truncation_that_waits_ends_with_the_session),
        cmocka_unit_test(a_truncation_that_waits_ends_with_the_mount),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
