/* SPDX-License-Identifier: Apache-2.0 */
/* test_append.c - what is appended, while it has no place yet: read, refused, dropped, mixed. */
#include "tests/unit/client/fs/fs_world.h"

#define RECORD 100u
#define MIB    (1u << 20)

/* One read; its bytes are borrowed until done() returns. */
struct look {
    struct once once;
    uint8_t bytes[4 * RECORD];
    size_t len;
};

static void looked(struct hf_fs_req *req, int err)
{
    struct look *look = req->ctx;

    assert_int_equal(err, 0);
    for (int i = 0; i < req->iov_count; i++) {
        assert_true(look->len + req->iov[i].iov_len <= sizeof(look->bytes));
        memcpy(look->bytes + look->len, req->iov[i].iov_base, req->iov[i].iov_len);
        look->len += req->iov[i].iov_len;
    }
    look->once.done = true;
}

static void look_start(struct look *look, struct actor *a)
{
    memset(look, 0, sizeof(*look));
    look->once.req.done = looked;
    look->once.req.ctx = look;
    assert_int_equal(hf_fs_read(a->file, 0, sizeof(look->bytes), &look->once.req), HF_FS_PENDING);
}

/* All that the file has: records, each of one letter. */
static void assert_look(struct world *w, struct look *look, const char *letters)
{
    assert_int_equal(wait_for(w, &look->once, HF_FS_PENDING), 0);
    assert_int_equal(look->len, strlen(letters) * RECORD);
    for (size_t i = 0; i < look->len; i++) {
        assert_int_equal(look->bytes[i], letters[i / RECORD]);
    }
}

static void assert_file(struct world *w, const char *letters)
{
    struct look look;

    look_start(&look, &w->actors[0]);
    assert_look(w, &look, letters);
}

/* @guess: the end that the kernel knows. */
static void append(struct world *w, uint64_t guess, uint32_t len, char letter)
{
    static uint8_t data[MIB];
    struct once o;

    memset(data, letter, len);
    assert_int_equal(
        WAIT(w, &o,
             hf_fs_write(w->actors[0].file, guess, data, len, NULL, HF_FS_WRITE_APPEND, &o.req)),
        0);
}

static void append_elsewhere(struct world *w, char letter)
{
    uint8_t data[RECORD];
    struct hf_wr_extent extent = {
        .ino = w->actors[0].ino, .len_bytes = RECORD, .object = HF_EXTENT_INLINE};
    struct hf_wr_inode inode = {.ino = w->actors[0].ino, .size_min_bytes = RECORD};
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{8}}, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    memset(data, letter, sizeof(data));
    op = (struct hf_meta_op){.op = HF_OP_WRITE,
                             .session = reply.session,
                             .stream = 1,
                             .extents = &extent,
                             .extent_count = 1,
                             .inodes = &inode,
                             .inode_count = 1,
                             .bulk = data,
                             .bulk_len = RECORD,
                             .flags = HF_WRITE_APPEND};
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
}

static void fsync_start(struct world *w, struct once *o)
{
    assert_int_equal(hf_fs_fsync(w->actors[0].file, &once(o)->req), HF_FS_PENDING);
}

static void cut_elsewhere(struct world *w, uint64_t size)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{7}}, .text = "cuts", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = reply.session,
                             .stream = 1,
                             .ino = w->actors[0].ino,
                             .mask = HF_SET_SIZE,
                             .size = size};
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
}

/* The commits under way fail with @err, those after them do not. */
static void fail_commits(struct world *w, int err)
{
    w->c->commit_fail_one_in = 1;
    w->c->commit_err = err;
    while (w->c->ops) {
        assert_true(hf_sim_step(w->c->sim));
    }
    w->c->commit_fail_one_in = 0;
}

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

/* Seeds 26, 1007, 1083: it was told zeros in between. */
static void a_read_beyond_the_committed_end_waits_for_what_lies_behind_it(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 60);
    append(&w, 1000, RECORD, 'a'); /* another mount has cut the file meanwhile */
    assert_file(&w, "a");
    end(&w);
}

/* Seeds 1116, 1167: a flush of nothing, made on the way, woke who waited. */
static void an_fsync_waits_for_what_is_refused_and_goes_as_an_object(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 61);
    append(&w, 0, RECORD, 'a');
    fsync_start(&w, &o);
    fail_commits(&w, -E2BIG);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    look_elsewhere(&w.actors[0]);
    assert_int_equal(w.actors[0].seen.size, RECORD);
    end(&w);
}

/* Seed 1795977043: its place had another mount's record by then. */
static void what_is_dropped_is_not_laid_over_another_mounts_record(void **state)
{
    struct world w;
    struct look look;
    struct once o;

    (void)state;
    world_init(&w, 62);
    append(&w, 0, RECORD, 'a');
    fsync_start(&w, &o);
    append_elsewhere(&w, 'b');
    w.c->delay_max_ns = HF_NS_PER_SEC;
    look_start(&look, &w.actors[0]); /* with what is appended in its view */
    w.c->delay_max_ns = 1;
    fail_commits(&w, -ENOSPC);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), -ENOSPC);
    assert_false(look.once.done);
    assert_look(&w, &look, "b");
    end(&w);
}

/* It stood behind those taken after it, and all waited for ever. */
static void what_is_refused_goes_again_before_what_was_taken_after_it(void **state)
{
    struct world w;
    struct once first, second;

    (void)state;
    world_init(&w, 63);
    append(&w, 0, RECORD, 'a');
    fsync_start(&w, &first);
    append(&w, RECORD, RECORD, 'b');
    fsync_start(&w, &second);
    fail_commits(&w, -E2BIG);
    assert_int_equal(wait_for(&w, &first, HF_FS_PENDING), 0);
    assert_int_equal(wait_for(&w, &second, HF_FS_PENDING), 0);
    assert_file(&w, "ab");
    end(&w);
}

/* More than an object holds is sent at once: it overtook them, and they overwrote it. */
static void what_is_appended_waits_for_bytes_written_at_their_place(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 64);
    w.fs->dirty_target_bytes = 6 * MIB; /* nothing is sent to free memory */
    a->size = RECORD + 5 * MIB;
    memset(a->bytes, 'a', RECORD);
    memset(a->bytes + RECORD, 'b', 5 * MIB);
    assert_int_equal(WAIT(&w, &o, hf_fs_write(a->file, 0, a->bytes, RECORD, NULL, 0, &o.req)), 0);
    for (uint64_t i = 0; i < 5; i++) {
        append(&w, RECORD + i * MIB, MIB, 'b');
    }
    hf_sim_run_ns(w.c->sim, 100 * HF_NS_PER_MS); /* what is sent is committed */
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    end_cold(&w, a);
}

/*
 * A short answer to a read tells the kernel where the file ends, and no attributes do: what it
 * appends there was taken for a write at that place, over another mount's record.
 */
static void an_append_goes_behind_what_a_short_read_did_not_see(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 65);
    append(&w, 0, 2 * RECORD, 'a');
    fsync_start(&w, &o);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    cut_elsewhere(&w, RECORD);
    assert_file(&w, "a");
    append_elsewhere(&w, 'b');
    append(&w, RECORD, RECORD, 'c');
    fsync_start(&w, &o);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    assert_file(&w, "abc");
    end(&w);
}

/* One program appends, another rewrites a header all the time: it waited for ever. */
static void what_is_appended_does_not_wait_for_bytes_written_later(void **state)
{
    struct world w;
    struct actor *a;
    struct once o, header;
    uint64_t begun_ns;

    (void)state;
    world_init(&w, 66);
    a = &w.actors[0];
    append(&w, 0, 2 * RECORD, 'a');
    fsync_start(&w, &o);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    append(&w, 2 * RECORD, MIB, 'b'); /* too much to be inline: it has to be put first */
    fsync_start(&w, &o);
    begun_ns = hf_sim_now_ns(w.c->sim);
    while (!o.done) {
        memset(a->bytes, 'h', RECORD);
        assert_int_equal(
            WAIT(&w, &header, hf_fs_write(a->file, 0, a->bytes, RECORD, NULL, 0, &header.req)), 0);
        assert_int_equal(hf_flush_inode(w.fs, hf_fs_inode_find(w.fs, a->ino), true), 0);
        assert_int_equal(
            WAIT(&w, &header, hf_fs_write(a->file, 0, a->bytes, RECORD, NULL, 0, &header.req)), 0);
        assert_true(hf_sim_step(w.c->sim));
        assert_true(hf_sim_now_ns(w.c->sim) - begun_ns < HF_NS_PER_SEC);
    }
    assert_int_equal(o.err, 0);
    look_elsewhere(a);
    assert_int_equal(a->seen.size, 2 * RECORD + MIB);
    end(&w);
}

/* It may be what makes the end: its flush failed, and it goes again. */
static void what_is_appended_waits_for_what_is_undone(void **state)
{
    struct world w;
    struct actor *a;
    struct once o;

    (void)state;
    world_init(&w, 67);
    a = &w.actors[0];
    memset(a->bytes, 'a', 2 * RECORD);
    assert_int_equal(WAIT(&w, &o, hf_fs_write(a->file, 0, a->bytes, 2 * RECORD, NULL, 0, &o.req)),
                     0);
    fsync_start(&w, &o);
    append(&w, 2 * RECORD, RECORD, 'b');
    hf_flush_append(w.fs, hf_fs_inode_find(w.fs, a->ino));
    fail_commits(&w, -EAGAIN);
    (void)wait_for(&w, &o, HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, 10 * HF_NS_PER_SEC);
    assert_file(&w, "aab");
    end(&w);
}

static void put_header(struct world *w, char letter)
{
    struct once o;

    memset(w->actors[0].bytes, letter, RECORD);
    assert_int_equal(
        WAIT(w, &o, hf_fs_write(w->actors[0].file, 0, w->actors[0].bytes, RECORD, NULL, 0, &o.req)),
        0);
}

/* What was undone went before the append, and before an older header behind that. */
static void what_is_undone_does_not_overtake_what_was_written_before(void **state)
{
    struct world w;
    struct once first, second;
    struct look look;

    (void)state;
    world_init(&w, 68);
    put_header(&w, 'a');
    append(&w, RECORD, MIB, 'r');
    fsync_start(&w, &first);
    while (!w.c->ops) { /* the header is being committed, the record not yet */
        assert_true(hf_sim_step(w.c->sim));
    }
    put_header(&w, 'b');
    fsync_start(&w, &second);
    put_header(&w, 'c');
    fail_commits(&w, -HF_ESTALE_EPOCH);
    assert_int_equal(wait_for(&w, &first, HF_FS_PENDING), 0);
    assert_int_equal(wait_for(&w, &second, HF_FS_PENDING), 0);
    sync_and_close(&w);
    assert_int_equal(WAIT(&w, &first, hf_fs_open(w.fs, w.actors[0].ino, O_RDWR, &first.req)), 0);
    w.actors[0].file = first.req.file;
    look_start(&look, &w.actors[0]);
    assert_int_equal(wait_for(&w, &look.once, HF_FS_PENDING), 0);
    assert_int_equal(look.bytes[0], 'c');
    hf_fs_release(w.actors[0].file);
    fs_close(&w);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_beyond_the_committed_end_waits_for_what_lies_behind_it),
        cmocka_unit_test(an_fsync_waits_for_what_is_refused_and_goes_as_an_object),
        cmocka_unit_test(what_is_dropped_is_not_laid_over_another_mounts_record),
        cmocka_unit_test(what_is_refused_goes_again_before_what_was_taken_after_it),
        cmocka_unit_test(what_is_appended_waits_for_bytes_written_at_their_place),
        cmocka_unit_test(an_append_goes_behind_what_a_short_read_did_not_see),
        cmocka_unit_test(what_is_appended_does_not_wait_for_bytes_written_later),
        cmocka_unit_test(what_is_appended_waits_for_what_is_undone),
        cmocka_unit_test(what_is_undone_does_not_overtake_what_was_written_before),
    };

    hf_log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
