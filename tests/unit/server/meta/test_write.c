/* SPDX-License-Identifier: Apache-2.0 */
#include "common/checksum/checksum.h"
#include "tests/unit/server/meta/fixture.h"

#include "server/meta/rows_format.h"

#define ROOT HF_INO_ROOT
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)

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

/* A WRITE of one object and one extent of it, to be changed before it is sent. */
struct commit {
    struct hf_wr_object object;
    struct hf_wr_extent extent;
    struct hf_wr_inode inode;
    struct hf_meta_op op;
};

static struct hf_meta_op *commit_of(struct commit *c, uint64_t ino, uint64_t off, uint32_t len)
{
    *c = (struct commit){
        .object = {.oid = {.group = 1, .session = s.id.v, .seq = s.seq++},
                   .len_bytes = len,
                   .digest = 5,
                   .holders = 7,
                   .epoch = {1000}},
        .extent = {.ino = {ino}, .off_bytes = off, .len_bytes = len},
        .inode = {.ino = {ino}, .size_min_bytes = off + len, .mtime_ns = 12345},
    };
    c->op = (struct hf_meta_op){
        .op = HF_OP_WRITE,
        .objects = &c->object,
        .extents = &c->extent,
        .inodes = &c->inode,
        .object_count = 1,
        .extent_count = 1,
        .inode_count = 1,
    };
    return &c->op;
}

static struct hf_extent *extents_of(uint64_t ino, uint64_t off, uint64_t len, uint32_t *ret_count)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_EXTENTS, .ino = {ino}, .offset = off, .length = len};
    struct hf_extent *extents;
    const uint8_t *in_line;
    size_t in_line_len;

    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(hf_extents_decode(fx.reply.bulk, fx.reply.bulk_len, &extents, ret_count,
                                       &in_line, &in_line_len),
                     0);
    return extents;
}

static uint32_t extent_count(uint64_t ino)
{
    uint32_t count;

    free(extents_of(ino, 0, 0, &count));
    return count;
}

static int write_inline(uint64_t ino, uint64_t off, const void *bytes, uint32_t len)
{
    struct hf_wr_extent extent = {
        .ino = {ino}, .off_bytes = off, .len_bytes = len, .object = HF_EXTENT_INLINE};
    struct hf_wr_inode inode = {.ino = {ino}, .size_min_bytes = off + len};
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .extents = &extent,
        .inodes = &inode,
        .extent_count = 1,
        .inode_count = 1,
        .bulk = bytes,
        .bulk_len = len,
    };

    return fx_do(&fx, &s, &op);
}

static void an_append_goes_to_the_end_that_the_file_has(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_extent *extents;
    struct hf_meta_op *op;
    struct commit c;
    uint32_t count;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, 1000)), 0);
    op = commit_of(&c, ino, 50, 3000); /* its client thinks that the file has 50 bytes */
    op->flags = HF_WRITE_APPEND;
    op->offset = 50;
    assert_int_equal(fx_do(&fx, &s, op), 0);
    assert_int_equal(fx.reply.attr.size, 4000);
    op = commit_of(&c, ino, 8 * MIB - 10, 4 * MIB); /* that it is longer: two windows, not three */
    op->flags = HF_WRITE_APPEND;
    op->offset = 8 * MIB - 10;
    assert_int_equal(fx_do(&fx, &s, op), 0);
    assert_int_equal(fx.reply.attr.size, 4000 + 4 * MIB);
    assert_int_equal(fx.reply.attr.bytes, 4000 + 4 * MIB);
    extents = extents_of(ino, 0, 0, &count);
    assert_int_equal(count, 4);
    assert_int_equal(extents[1].off_bytes, 1000);
    assert_int_equal(extents[1].pos_bytes, 0);
    assert_int_equal(extents[2].off_bytes, 4000);
    assert_int_equal(extents[3].off_bytes, 4 * MIB);
    assert_int_equal(extents[3].pos_bytes, 4 * MIB - 4000);
    free(extents);
    op = commit_of(&c, ino, 0, 10);
    op->flags = HF_WRITE_APPEND;
    op->offset = 5; /* it begins before its own beginning */
    assert_int_equal(fx_do(&fx, &s, op), -EINVAL);
    op = commit_of(&c, ino, 0, 10);
    op->flags = HF_WRITE_APPEND;
    c.inode.size_min_bytes = HF_FILE_BYTES_MAX;
    assert_int_equal(fx_do(&fx, &s, op), -EFBIG);
    assert_int_equal(fx_attr(&fx, ino).size, 4000 + 4 * MIB);
}

static void a_write_shows_as_extents_size_and_times(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_attr before = fx_attr(&fx, ino);
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {ino}, .length = 1};
    struct commit c;
    struct hf_extent *extents;
    uint32_t count;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 4 * MIB - 1000, 3000)), 0);
    assert_int_equal(fx.reply.attr.ino.v, ino);
    assert_int_equal(fx.reply.attr.size, 4 * MIB + 2000);
    assert_int_equal(fx.reply.attr.bytes, 3000);
    assert_int_equal(fx.reply.attr.mtime_ns, 12345);
    assert_int_equal(fx.reply.attr.version, before.version + 1);
    assert_int_equal(fx.reply.attr.data_version, before.version + 1);
    extents = extents_of(ino, 0, 0, &count);
    assert_int_equal(count, 2); /* cut where windows meet */
    assert_int_equal(extents[0].off_bytes, 4 * MIB - 1000);
    assert_int_equal(extents[0].len_bytes, 1000);
    assert_int_equal(extents[1].off_bytes, 4 * MIB);
    assert_int_equal(extents[1].pos_bytes, 1000);
    assert_true(hf_oid_equal(&extents[1].oid, &c.object.oid));
    free(extents);
    rd.if_version = fx_attr(&fx, ino).data_version;
    assert_int_equal(fx_read(&fx, &rd), -HF_ENOTMODIFIED);
    assert_int_equal(fx.reply.attr.ino.v, ino);
}

static void an_object_dies_with_its_last_extent(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_object object;
    struct hf_oid dead[4];
    struct commit c, over;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, 1000)), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &c.object.oid, &object), 0);
    assert_int_equal(object.live_bytes, 1000);
    assert_int_equal(object.digest, 5);
    assert_int_equal(fx_do(&fx, &s, commit_of(&over, ino, 100, 100)), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &c.object.oid, &object), 0);
    assert_int_equal(object.live_bytes, 900);
    assert_int_equal(extent_count(ino), 3);
    assert_int_equal(fx_do(&fx, &s, commit_of(&over, ino, 0, 1000)), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &c.object.oid, &object), -ENOENT);
    assert_int_equal(hf_meta_dead(fx.r[0].meta, NULL, dead, 4), 2);
    assert_true(hf_oid_equal(&dead[0], &c.object.oid));
    assert_int_equal(hf_meta_dead(fx.r[0].meta, &dead[0], dead, 4), 1);
    assert_int_equal(fx_usage(&fx).dead, 2);
}

static void an_object_id_is_used_once(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_oid oids[4];
    struct hf_meta_op gone = {.op = HF_OP_OBJECTS_GONE, .oids = oids};
    struct commit c, again;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, 1000)), 0);
    (void)commit_of(&again, ino, 5000, 1000);
    again.object.oid = c.object.oid; /* alive */
    assert_int_equal(fx_do(&fx, &s, &again.op), -EINVAL);
    assert_int_equal(fx_truncate(&fx, &s, ino, 0), 0);
    assert_int_equal(fx_do(&fx, &s, &again.op), -EINVAL); /* dead */
    gone.oid_count = hf_meta_dead(fx.r[0].meta, NULL, oids, 4);
    assert_int_equal(gone.oid_count, 1);
    assert_int_equal(fx_apply(&fx, &gone), 0);
    assert_int_equal(fx_usage(&fx).dead, 0);
    assert_int_equal(fx_do(&fx, &s, &again.op), -EINVAL); /* gone */
    again.object.oid.group = 2;
    assert_int_equal(fx_do(&fx, &s, &again.op), -EINVAL); /* the sequence, whatever the group */
    again.object.oid.seq = 100000;
    assert_int_equal(fx_do(&fx, &s, &again.op), 0);
    again.object.oid.seq = 99; /* out of order */
    assert_int_equal(fx_do(&fx, &s, &again.op), 0);
    again.object.oid.session++;
    again.object.oid.seq = 98;
    assert_int_equal(fx_do(&fx, &s, &again.op), -EINVAL);
}

static void a_commit_enters_who_lacks_a_copy(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    const struct hf_node_id three = {3}, two = {2};
    struct hf_oid oid;
    struct hf_meta_op clear = {
        .op = HF_OP_DEGRADED_CLEAR, .node = three, .oids = &oid, .oid_count = 1};
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 1000);
    c.object.holders = 3;
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    assert_true(hf_meta_is_degraded(fx.r[0].meta, three, &c.object.oid));
    assert_false(hf_meta_is_degraded(fx.r[0].meta, two, &c.object.oid));
    assert_int_equal(hf_meta_degraded(fx.r[0].meta, three, NULL, &oid, 1), 1);
    assert_true(hf_oid_equal(&oid, &c.object.oid));
    assert_int_equal(hf_meta_degraded(fx.r[0].meta, two, NULL, &oid, 1), 0);
    oid = c.object.oid;
    assert_int_equal(fx_apply(&fx, &clear), 0);
    assert_int_equal(fx_usage(&fx).degraded, 0);
    assert_int_equal(fx_apply(&fx, &clear), 0);
    clear.op = HF_OP_DEGRADED_ADD;
    assert_int_equal(fx_apply(&fx, &clear), 0);
    assert_int_equal(fx_usage(&fx).degraded, 1);
    fx_fsck(&fx);
    assert_int_equal(fx_truncate(&fx, &s, ino, 0), 0); /* dies: nothing to copy */
    assert_int_equal(fx_usage(&fx).degraded, 0);
}

static void too_few_holders_are_refused(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_usage before = fx_usage(&fx);
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 1000);
    c.object.holders = 1;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EAGAIN);
    c.object.epoch.v = 1;
    assert_int_equal(fx_do(&fx, &s, &c.op), -HF_ESTALE_EPOCH);
    c.object.holders = 1 | 1 << 9; /* no member */
    assert_int_equal(fx_do(&fx, &s, &c.op), -HF_ESTALE_EPOCH);
    assert_int_equal(fx_attr(&fx, ino).size, 0);
    assert_int_equal(fx_usage(&fx).objects, before.objects);
    c.object.holders = 3; /* the refusals used nothing up */
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
}

static void a_refused_commit_uses_up_nothing(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_wr_object objects[2];
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 1000);
    objects[0] = c.object;
    objects[1] = c.object;
    objects[1].oid.seq = s.seq++;
    objects[1].holders = 1;
    c.op.objects = objects;
    c.op.object_count = 2;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EAGAIN); /* the first was entered already */
    objects[1].holders = 7;
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    assert_int_equal(fx_usage(&fx).dead, 1); /* no extent names the second */
}

static void a_member_that_leaves_its_group_owes_nothing(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), members[2] = {0x0201, 0};
    struct hf_meta_op set = {
        .op = HF_OP_GROUP_SET, .count = 1, .holders = members, .holder_count = 2};
    uint64_t epoch = hf_meta_map(fx.r[0].meta)->epoch.v;
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 1000);
    c.object.holders = 3;
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    assert_int_equal(fx_usage(&fx).degraded, 1);
    assert_int_equal(fx_apply(&fx, &set), 0);
    assert_int_equal(fx_usage(&fx).degraded, 0);
    assert_int_equal(hf_meta_map(fx.r[0].meta)->epoch.v, epoch + 1);
    assert_int_equal(hf_meta_map(fx.r[0].meta)->groups[1].epoch.v, epoch + 1);
    assert_int_equal(hf_map_group_members(hf_meta_map(fx.r[0].meta), 1), 3);
    members[0] = 0x0909;
    assert_int_equal(fx_apply(&fx, &set), -EINVAL);
}

static void commits_to_files_that_are_gone_are_passed_over(void **state)
{
    uint64_t a = fx_mkfile(&fx, &s, ROOT, "a"), b = fx_mkfile(&fx, &s, ROOT, "b");
    struct hf_wr_object object = {
        .oid = {.group = 0, .session = s.id.v, .seq = 50}, .len_bytes = 300, .holders = 7};
    struct hf_wr_extent extents[] = {{.ino = {a}, .len_bytes = 100},
                                     {.ino = {b}, .len_bytes = 200, .pos_bytes = 100}};
    struct hf_wr_inode inodes[] = {{.ino = {a}, .size_min_bytes = 100},
                                   {.ino = {b}, .size_min_bytes = 200}};
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .objects = &object,
        .extents = extents,
        .inodes = inodes,
        .object_count = 1,
        .extent_count = 2,
        .inode_count = 2,
    };
    struct hf_meta_object seen;

    (void)state;
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", 0), 0);
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &object.oid, &seen), 0);
    assert_int_equal(seen.live_bytes, 200);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "b", 0), 0);
    object.oid.seq++;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &object.oid, &seen), -ENOENT);
    assert_int_equal(fx_usage(&fx).dead, 2);
}

static void a_commit_that_makes_no_sense_changes_nothing(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), dir = fx_mkdir(&fx, &s, ROOT, "d");
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 1000);
    c.extent.len_bytes = 1001;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EINVAL);
    (void)commit_of(&c, ino, 0, 1000);
    c.extent.object = 1;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EINVAL);
    (void)commit_of(&c, ino, HF_FILE_BYTES_MAX - 10, 1000);
    assert_int_equal(fx_do(&fx, &s, &c.op), -EFBIG);
    (void)commit_of(&c, dir, 0, 1000);
    assert_int_equal(fx_do(&fx, &s, &c.op), -EISDIR);
    (void)commit_of(&c, ino, 0, 1000);
    c.extent.len_bytes = 0;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EINVAL);
    c.extent.len_bytes = 1;
    c.object.oid.group = 4;
    assert_int_equal(fx_do(&fx, &s, &c.op), -EINVAL);
    assert_int_equal(fx_attr(&fx, ino).version, 1);
}

static void extents_behind_eof_are_cut(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct commit c;

    (void)state;
    (void)commit_of(&c, ino, 0, 4096);
    c.inode.size_min_bytes = 10;
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    assert_int_equal(fx.reply.attr.size, 10);
    assert_int_equal(fx.reply.attr.bytes, 10);
    assert_int_equal(fx_truncate(&fx, &s, ino, 4096), 0);
    assert_int_equal(fx_attr(&fx, ino).bytes, 10);
}

static void inline_bytes_are_kept_until_an_object_supersedes_them(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {ino}, .length = 100};
    struct hf_extent *extents;
    const uint8_t *in_line;
    size_t in_line_len;
    uint32_t count;
    struct commit c;

    (void)state;
    assert_int_equal(write_inline(ino, 0, "0123456789", 10), 0);
    assert_int_equal(write_inline(ino, 10, "abcdef", 6), 0);
    assert_int_equal(write_inline(ino, 2, "XY", 2), 0);
    assert_int_equal(fx_usage(&fx).inline_bytes, 16);
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.next_cookie, 100);
    assert_int_equal(hf_extents_decode(fx.reply.bulk, fx.reply.bulk_len, &extents, &count, &in_line,
                                       &in_line_len),
                     0);
    assert_int_equal(count, 1);
    assert_int_equal(in_line_len, 16);
    assert_memory_equal(in_line, "01XY456789abcdef", 16);
    free(extents);
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 4, 100)), 0);
    assert_int_equal(fx_usage(&fx).inline_bytes, 4);
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, 100)), 0);
    assert_int_equal(fx_usage(&fx).inline_bytes, 0);
}

static void too_much_inline_in_one_window_is_refused(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    static uint8_t bytes[HF_INLINE_BYTES_MAX + 1];
    uint64_t off = 0;
    struct commit c;
    int err;

    (void)state;
    assert_int_equal(write_inline(ino, 0, bytes, sizeof(bytes)), -EINVAL);
    while ((err = write_inline(ino, off, bytes, HF_INLINE_BYTES_MAX)) == 0) {
        off += HF_INLINE_BYTES_MAX;
        assert_true(off <= HF_WINDOW_INLINE_COMMIT);
    }
    assert_int_equal(err, -E2BIG);
    assert_int_equal(off, HF_WINDOW_INLINE_COMMIT);
    assert_int_equal(write_inline(ino, 5, bytes, 100), 0); /* no more than there was */
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, (uint32_t)off)), 0);
    assert_int_equal(fx_usage(&fx).inline_bytes, 0);
    assert_int_equal(write_inline(ino, off, bytes, HF_INLINE_BYTES_MAX), 0);
}

static void a_truncated_tail_reads_as_zeros_for_ever(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");

    (void)state;
    assert_int_equal(fx_write(&fx, &s, ino, 0, 10000), 0);
    assert_int_equal(fx_truncate(&fx, &s, ino, 5000), 0);
    assert_int_equal(fx_attr(&fx, ino).bytes, 5000);
    assert_int_equal(fx_truncate(&fx, &s, ino, 10000), 0);
    assert_int_equal(extent_count(ino), 1);
    assert_int_equal(fx_truncate(&fx, &s, ino, HF_FILE_BYTES_MAX + 1), -EFBIG);
    assert_int_equal(fx_truncate(&fx, &s, ROOT, 0), -EISDIR);
}

static void a_huge_truncate_hides_its_tail_at_once(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op purge = {.op = HF_OP_PURGE, .ino = {ino}, .count = 2};
    struct hf_ino found;
    struct hf_extent *extents;
    uint32_t count;

    (void)state;
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(fx_write(&fx, &s, ino, i * GIB, 1000), 0);
    }
    assert_int_equal(fx_truncate(&fx, &s, ino, GIB + 500), 0);
    assert_int_equal(extent_count(ino), 2);
    assert_int_equal(fx_usage(&fx).purging, 1);
    assert_int_equal(hf_meta_purgeable(fx.r[0].meta, (struct hf_ino){0}, &found, 1), 1);
    assert_int_equal(found.v, ino);
    assert_int_equal(fx_truncate(&fx, &s, ino, 10 * GIB), 0);
    assert_int_equal(extent_count(ino), 2);
    /* written again before the purge comes */
    assert_int_equal(fx_write(&fx, &s, ino, 4 * GIB + 100, 50), 0);
    assert_int_equal(fx_write(&fx, &s, ino, 6 * GIB + 8 * MIB, 70), 0);
    extents = extents_of(ino, 4 * GIB, GIB, &count);
    assert_int_equal(count, 1);
    assert_int_equal(extents[0].off_bytes, 4 * GIB + 100);
    free(extents);
    fx_fsck(&fx);
    for (int i = 0; i < 10 && fx_usage(&fx).purging; i++) {
        assert_int_equal(fx_apply(&fx, &purge), 0);
        fx_fsck(&fx);
    }
    assert_int_equal(fx_usage(&fx).purging, 0);
    assert_int_equal(extent_count(ino), 4);
    assert_int_equal(fx_attr(&fx, ino).bytes, 1000 + 500 + 50 + 70);
    assert_int_equal(fx_usage(&fx).objects, 4);
    /* and a second time, twice without a purge between */
    assert_int_equal(fx_truncate(&fx, &s, ino, 100), 0);
    assert_int_equal(fx_truncate(&fx, &s, ino, 9 * GIB), 0);
    assert_int_equal(fx_write(&fx, &s, ino, 8 * GIB, 10), 0);
    assert_int_equal(fx_truncate(&fx, &s, ino, 2 * GIB), 0);
    assert_int_equal(extent_count(ino), 1);
    fx_fsck(&fx);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "f", 0), 0);
    fx_fsck(&fx);
    for (int i = 0; i < 10 && fx_usage(&fx).purging; i++) {
        assert_int_equal(fx_apply(&fx, &purge), 0);
    }
    assert_int_equal(fx_usage(&fx).objects, 0);
    assert_int_equal(fx_usage(&fx).inodes, 1);
}

static void large_files_are_purged_in_parts(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), parts = 0;
    struct hf_meta_op purge = {.op = HF_OP_PURGE, .ino = {ino}, .count = 3};
    struct hf_attr attr;

    (void)state;
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(fx_write(&fx, &s, ino, i * 4 * MIB, 1000), 0);
    }
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "f", 0), 0);
    assert_int_equal(fx_getattr(&fx, ino, &attr), -ENOENT);
    assert_int_equal(fx_write(&fx, &s, ino, 0, 10), 0); /* passed over */
    while (fx_usage(&fx).purging) {
        assert_int_equal(fx_apply(&fx, &purge), 0);
        fx_fsck(&fx);
        parts++;
    }
    assert_int_equal(parts, 7);
    assert_int_equal(fx_usage(&fx).inodes, 1);
    assert_int_equal(fx_usage(&fx).dead, 21);
    assert_int_equal(fx_apply(&fx, &purge), 0);
}

static void punch_and_allocate_keep_or_grow_the_size(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op op = {.op = HF_OP_PUNCH, .ino = {ino}, .offset = 100, .length = 20 * MIB};

    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(fx_write(&fx, &s, ino, i * 4 * MIB, 1000), 0);
    }
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.size, 12 * MIB + 1000);
    assert_int_equal(fx.reply.attr.bytes, 100);
    op.flags = HF_PUNCH_EXTEND;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.size, 20 * MIB + 100);
    op.op = HF_OP_ALLOCATE;
    op.length = 30 * MIB;
    op.flags = HF_ALLOC_KEEP_SIZE;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.size, 20 * MIB + 100);
    op.flags = 0;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.size, 30 * MIB + 100);
    op.length = 0;
    assert_int_equal(fx_do(&fx, &s, &op), -EINVAL);
    op.length = UINT64_MAX;
    assert_int_equal(fx_do(&fx, &s, &op), -EFBIG);
}

static void a_clone_shares_objects(void **state)
{
    uint64_t a = fx_mkfile(&fx, &s, ROOT, "a"), b = fx_mkfile(&fx, &s, ROOT, "b");
    struct hf_meta_op op = {
        .op = HF_OP_CLONE, .ino = {a}, .ino2 = {b}, .offset = 0, .length = GIB, .offset2 = 1000};
    struct hf_meta_object object;
    struct commit c;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, a, 0, 4 * MIB)), 0);
    assert_int_equal(write_inline(a, 5 * MIB, "inline", 6), 0);
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.ino.v, b);
    assert_int_equal(fx.reply.attr.size, 5 * MIB + 6 + 1000);
    assert_int_equal(fx.reply.count, 5 * MIB + 6);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &c.object.oid, &object), 0);
    assert_int_equal(object.live_bytes, 8 * MIB);
    assert_int_equal(fx_usage(&fx).inline_bytes, 12);
    fx_fsck(&fx);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", 0), 0);
    assert_int_equal(hf_meta_object(fx.r[0].meta, &c.object.oid, &object), 0);
    assert_int_equal(object.live_bytes, 4 * MIB);
    op.ino.v = b;
    op.offset = 500;
    op.offset2 = 600;
    op.length = 101;
    assert_int_equal(fx_do(&fx, &s, &op), -EINVAL); /* overlaps */
    op.length = 100;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    op.length = 5 * GIB;
    assert_int_equal(fx_do(&fx, &s, &op), -E2BIG);
}

static void writing_takes_privileges_away_when_asked_to(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op chmod_op = {
        .op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_MODE, .mode = 06755};
    struct hf_meta_op cap = {.op = HF_OP_SETXATTR,
                             .ino = {ino},
                             .name = "security.capability",
                             .name_len = 19,
                             .bulk = "x",
                             .bulk_len = 1};
    struct hf_meta_read rd = {
        .op = HF_RD_GETXATTR, .ino = {ino}, .name = "security.capability", .name_len = 19};
    struct commit c;

    (void)state;
    assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
    assert_int_equal(fx_do(&fx, &s, &cap), 0);
    assert_int_equal(fx_do(&fx, &s, commit_of(&c, ino, 0, 10)), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 06755);
    (void)commit_of(&c, ino, 0, 10);
    c.op.mask = HF_SET_KILLPRIV;
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0755);
    assert_int_equal(fx_read(&fx, &rd), -ENODATA);
    chmod_op.mode = 06745; /* not group-executable: that sgid is no privilege */
    assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
    chmod_op.mask = HF_SET_UID;
    chmod_op.uid = 7;
    assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 02745);
}

static void all_changes_of_data_take_privileges_away_when_asked_to(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), from = fx_mkfile(&fx, &s, ROOT, "g");
    struct hf_meta_op chmod_op = {
        .op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_MODE, .mode = 06755};
    struct hf_meta_op changes[] = {
        {.op = HF_OP_PUNCH, .ino = {ino}, .length = 10},
        {.op = HF_OP_ALLOCATE, .ino = {ino}, .length = 10},
        {.op = HF_OP_CLONE, .ino = {from}, .length = 10, .ino2 = {ino}},
    };

    (void)state;
    assert_int_equal(fx_write(&fx, &s, from, 0, 10), 0);
    for (size_t i = 0; i < HF_ARRAY_LEN(changes); i++) {
        assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
        assert_int_equal(fx_do(&fx, &s, &changes[i]), 0);
        assert_int_equal(fx.reply.attr.mode, S_IFREG | 06755);
        changes[i].mask = HF_SET_KILLPRIV;
        assert_int_equal(fx_do(&fx, &s, &changes[i]), 0);
        assert_int_equal(fx.reply.attr.mode, S_IFREG | 0755);
    }
}

static void times_are_bounded_by_the_leaders_clock(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op op = {
        .op = HF_OP_SETATTR,
        .session = s.id,
        .stream = s.stream + 1,
        .ino = {ino},
        .mask = HF_SET_ATIME,
        .atime_ns = 5,
        .time_ns = fx.now_ns + 1000 * FX_SECOND,
    };
    uint64_t latest = fx.now_ns + 10 * FX_SECOND;

    (void)state;
    s.stream++;
    assert_int_equal(fx_apply(&fx, &op), 0);
    assert_int_equal(fx.reply.attr.ctime_ns, latest);
    assert_int_equal(fx.reply.attr.atime_ns, 5);
}

/* Others that saw the ctime before find the contents new; so it is taken only when it is later. */
static void a_ctime_that_was_told_is_taken_if_it_is_later(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), was = fx_attr(&fx, ino).ctime_ns;
    const struct {
        uint64_t told_ns;
        uint64_t want_ns; /* 0: the commit's own time */
    } rows[] = {
        {0, 0},
        {was, 0},
        {was - 1, 0},
        {was + 1, was + 1},
        {was + FX_SECOND, was + FX_SECOND},
        {HF_CTIME_NEXT, was + 1},
        {was + 20 * FX_SECOND, 0},
    };

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        struct hf_meta_op reset = {.op = HF_OP_SETATTR,
                                   .ino = {ino},
                                   .mask = HF_SET_CTIME | HF_SET_MODE,
                                   .mode = 06755,
                                   .ctime_ns = was};
        struct commit c;
        uint64_t now_ns;

        assert_int_equal(fx_do(&fx, &s, &reset), 0);
        commit_of(&c, ino, 0, 1000);
        c.inode.ctime_ns = rows[i].told_ns;
        c.op.mask = i % 2 ? HF_SET_KILLPRIV : 0; /* which is a change, too */
        now_ns = fx.now_ns;
        assert_int_equal(fx_do(&fx, &s, &c.op), 0);
        assert_int_equal(fx.reply.attr.ctime_ns, rows[i].want_ns ? rows[i].want_ns : now_ns);
        assert_int_equal(fx.reply.attr.mtime_ns, 12345);
    }
}

/* Also of root, whose writes take no mode bits away. */
static void what_changes_a_file_takes_its_capabilities(void **state)
{
    uint64_t from = fx_mkfile(&fx, &s, ROOT, "from"), ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op caps = {.op = HF_OP_SETXATTR,
                              .ino = {ino},
                              .name = HF_XATTR_CAPS,
                              .name_len = strlen(HF_XATTR_CAPS),
                              .bulk = "12345678",
                              .bulk_len = 8};
    const struct hf_meta_read rd = {.op = HF_RD_GETXATTR,
                                    .ino = {ino},
                                    .name = HF_XATTR_CAPS,
                                    .name_len = strlen(HF_XATTR_CAPS)};
    struct hf_meta_op changes[] = {
        {.op = HF_OP_PUNCH, .ino = {ino}, .length = 10},
        {.op = HF_OP_ALLOCATE, .ino = {ino}, .length = 10},
        {.op = HF_OP_CLONE, .ino = {from}, .length = 10, .ino2 = {ino}},
    };

    (void)state;
    assert_int_equal(fx_write(&fx, &s, from, 0, 10), 0);
    assert_int_equal(fx_do(&fx, &s, &caps), 0);
    assert_int_equal(fx_write(&fx, &s, from, 0, 10), 0); /* another one */
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx_write(&fx, &s, ino, 0, 10), 0);
    assert_int_equal(fx_read(&fx, &rd), -ENODATA);
    for (size_t i = 0; i < HF_ARRAY_LEN(changes); i++) {
        assert_int_equal(fx_do(&fx, &s, &caps), 0);
        assert_int_equal(fx_do(&fx, &s, &changes[i]), 0);
        assert_int_equal(fx_read(&fx, &rd), -ENODATA);
    }
    fx_fsck(&fx);
}

/* One client's clock is ahead of another's. */
static void a_ctime_does_not_go_back(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), ahead;
    struct hf_meta_op chmod_op = {
        .op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_MODE, .mode = 0600};

    (void)state;
    fx.now_ns += 5 * FX_SECOND;
    assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
    ahead = fx.reply.attr.ctime_ns;
    fx.now_ns -= 5 * FX_SECOND;
    assert_int_equal(fx_do(&fx, &s, &chmod_op), 0);
    assert_int_equal(fx.reply.attr.ctime_ns, ahead + 1);
    assert_int_equal(fx_write(&fx, &s, ino, 0, 10), 0);
    assert_int_equal(fx_attr(&fx, ino).ctime_ns, ahead + 2);
    assert_true(fx_attr(&fx, ino).mtime_ns < ahead);
}

static void an_answer_goes_over_a_hole_of_any_size(void **state)
{
    static uint8_t buf[8 + 32 * 10];
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), last = HF_FILE_BYTES_MAX - 1000;
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {ino}};
    struct hf_meta_reply reply;

    (void)state;
    assert_int_equal(fx_write(&fx, &s, ino, 9 * MIB, 1000), 0);
    assert_int_equal(fx_write(&fx, &s, ino, last, 1000), 0);
    hf_meta_read(fx.r[0].meta, &rd, &reply, buf, sizeof(buf));
    assert_int_equal(reply.err, 0);
    assert_int_equal(hf_get_le32(buf), 2);
    assert_int_equal(reply.next_cookie, UINT64_MAX);
    rd.offset = 10 * MIB;
    rd.length = last - 10 * MIB;
    hf_meta_read(fx.r[0].meta, &rd, &reply, buf, sizeof(buf));
    assert_int_equal(reply.err, 0);
    assert_int_equal(hf_get_le32(buf), 0);
    assert_int_equal(reply.next_cookie, last);
}

static void many_extents_are_answered_in_parts(void **state)
{
    static uint8_t buf[8 + 32 * 10 + 5];
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f"), seen = 0;
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {ino}, .length = 64 * MIB};

    (void)state;
    for (uint64_t i = 0; i < 35; i++) {
        assert_int_equal(fx_write(&fx, &s, ino, i * MIB, 1000), 0);
    }
    while (rd.offset < 64 * MIB) {
        struct hf_meta_reply reply;
        struct hf_extent *extents;
        const uint8_t *in_line;
        size_t in_line_len;
        uint32_t count;

        rd.length = 64 * MIB - rd.offset;
        hf_meta_read(fx.r[0].meta, &rd, &reply, buf, sizeof(buf));
        assert_int_equal(reply.err, 0);
        assert_int_equal(
            hf_extents_decode(reply.bulk, reply.bulk_len, &extents, &count, &in_line, &in_line_len),
            0);
        assert_true(count <= 10);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(extents[i].off_bytes, seen++ * MIB);
        }
        free(extents);
        assert_true(reply.next_cookie > rd.offset);
        rd.offset = reply.next_cookie;
    }
    assert_int_equal(seen, 35);
}

static void relocated_bytes_move_only_while_nobody_wrote(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, HF_INO_ROOT, "relocated");
    struct hf_extent *extents;
    struct commit c;
    struct hf_attr before;
    uint32_t count;

    (void)state;
    assert_int_equal(write_inline(ino, 0, "0123456789", 10), 0);
    before = fx.reply.attr;
    commit_of(&c, ino, 0, 10);
    c.op.op = HF_OP_RELOCATE;
    c.extent.digest = hf_hash64("9876543210", 10, 0);
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    extents = extents_of(ino, 0, 10, &count);
    assert_int_equal(count, 1);
    assert_int_equal(extents[0].oid.session, 0); /* still inline: other bytes */
    free(extents);

    commit_of(&c, ino, 0, 10);
    c.op.op = HF_OP_RELOCATE;
    c.extent.digest = hf_hash64("0123456789", 10, 0);
    assert_int_equal(fx_do(&fx, &s, &c.op), 0);
    extents = extents_of(ino, 0, 10, &count);
    assert_int_equal(count, 1);
    assert_true(hf_oid_equal(&extents[0].oid, &c.object.oid));
    assert_int_equal(fx.reply.attr.data_version, before.data_version);
    assert_int_equal(fx.reply.attr.mtime_ns, before.mtime_ns);
    free(extents);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_append_goes_to_the_end_that_the_file_has),
        T(a_write_shows_as_extents_size_and_times),
        T(an_object_dies_with_its_last_extent),
        T(an_object_id_is_used_once),
        T(a_commit_enters_who_lacks_a_copy),
        T(too_few_holders_are_refused),
        T(a_refused_commit_uses_up_nothing),
        T(a_member_that_leaves_its_group_owes_nothing),
        T(commits_to_files_that_are_gone_are_passed_over),
        T(a_commit_that_makes_no_sense_changes_nothing),
        T(extents_behind_eof_are_cut),
        T(inline_bytes_are_kept_until_an_object_supersedes_them),
        T(too_much_inline_in_one_window_is_refused),
        T(relocated_bytes_move_only_while_nobody_wrote),
        T(a_truncated_tail_reads_as_zeros_for_ever),
        T(a_huge_truncate_hides_its_tail_at_once),
        T(large_files_are_purged_in_parts),
        T(punch_and_allocate_keep_or_grow_the_size),
        T(a_clone_shares_objects),
        T(writing_takes_privileges_away_when_asked_to),
        T(all_changes_of_data_take_privileges_away_when_asked_to),
        T(times_are_bounded_by_the_leaders_clock),
        T(a_ctime_that_was_told_is_taken_if_it_is_later),
        T(what_changes_a_file_takes_its_capabilities),
        T(a_ctime_does_not_go_back),
        T(an_answer_goes_over_a_hole_of_any_size),
        T(many_extents_are_answered_in_parts),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
