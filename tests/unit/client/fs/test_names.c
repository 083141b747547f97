/* SPDX-License-Identifier: Apache-2.0 */
/* test_names.c - what is written to a file without a name, that only this mount has open or not. */
#include "tests/unit/client/fs/fs_world.h"

static const struct hf_ino root = {HF_INO_ROOT};

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

/* Another mount's session, of which the leader knows that it has open what is unlinked. */
static void open_elsewhere(struct world *w)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{8}}, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    w->c->holders[0] = w->c->session.v;
    w->c->holders[1] = reply.session.v;
    w->c->holder_count = 2;
}

static int take_name(struct world *w, struct actor *a, bool replace)
{
    struct once o;

    if (!replace) {
        return WAIT(w, &o, hf_fs_unlink(w->fs, root, a->name, &o.req));
    }
    assert_int_equal(WAIT(w, &o, hf_fs_mknod(w->fs, root, "x", S_IFREG | 0644, 0, NULL, &o.req)),
                     0);
    return WAIT(w, &o, hf_fs_rename(w->fs, root, "x", root, a->name, 0, &o.req));
}

static void write_some(struct actor *a, uint64_t off, uint32_t len)
{
    static const uint8_t data[300000];
    struct once o;

    assert_int_equal(hf_fs_write(a->file, off, data, len, NULL, 0, &once(&o)->req), 0);
}

/* As the metadata are now, without asking: no time passes. */
static uint64_t committed_size(struct world *w, struct hf_ino ino)
{
    const struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino};
    struct hf_meta_reply reply = {0};

    hf_sweep_hold();
    hf_meta_read(w->c->meta, &rd, &reply, w->c->look, FC_LOOK_BYTES);
    hf_sweep_release();
    assert_int_equal(reply.err, 0);
    return reply.attr.size;
}

static uint64_t commits(const struct world *w)
{
    struct hf_fs_stats stats;

    hf_fs_stats(w->fs, &stats);
    return stats.commits;
}

static void what_others_have_open_is_committed_by_close(void **state)
{
    static const uint32_t sizes[] = {6, 300000};
    struct world w;

    (void)state;
    world_init(&w, 60);
    open_elsewhere(&w);
    for (int i = 0; i < FILES; i++) {
        struct actor *a = &w.actors[i];
        uint32_t size = sizes[i / 2];
        struct once o;

        write_some(a, 0, size);
        assert_int_equal(take_name(&w, a, i % 2), 0);
        write_some(a, size, size);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
        assert_int_equal(committed_size(&w, a->ino), 2 * size);
        write_some(a, 2 * size, size); /* as of a mapping that was written back late */
        hf_fs_release(a->file);
        hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
        assert_int_equal(committed_size(&w, a->ino), 3 * size);
    }
    fs_close(&w);
    world_fini(&w);
}

static void what_only_this_mount_has_open_is_not_committed(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 61);
    open_elsewhere(&w);
    w.c->holder_count = 1;
    for (int i = 0; i < FILES; i++) {
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK};
        struct actor *a = &w.actors[i];
        struct once o;

        assert_int_equal(take_name(&w, a, i % 2), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        write_some(a, 0, 5000);
        lock.type = F_UNLCK;
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
        hf_fs_release(a->file);
    }
    assert_int_equal(commits(&w), 0);
    fs_close(&w);
    world_fini(&w);
}

/* Who else has it open, nobody told this mount. */
static void what_was_unlinked_elsewhere_is_committed_when_opened_anew(void **state)
{
    struct hf_meta_op op = {.op = HF_OP_UNLINK, .stream = 1, .parent = root, .name_len = 5};
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_file *file;
    struct hf_meta_reply reply;
    struct once o;

    (void)state;
    world_init(&w, 62);
    open_elsewhere(&w);
    op.session.v = w.c->holders[1];
    op.name = a->name;
    op.holders = w.c->holders;
    op.holder_count = 2;
    fc_apply(w.c, &op, &reply);
    assert_int_equal(reply.err, 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    assert_int_equal(o.req.attr.nlink, 0);
    file = o.req.file;
    write_some(a, 0, 5000);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(file, 0, &o.req)), 0);
    assert_int_equal(committed_size(&w, a->ino), 5000);
    hf_fs_release(file);
    end(&w);
}

/* The rename was answered first, and another mount has the file open: it is not private. */
static void what_was_replaced_before_it_was_opened_is_committed(void **state)
{
    struct world w;
    struct hf_fs_file *file;
    struct hf_ino ino;
    struct once o;

    (void)state;
    world_init(&w, 63);
    assert_int_equal(WAIT(&w, &o, hf_fs_mknod(w.fs, root, "y", S_IFREG | 0644, 0, NULL, &o.req)),
                     0);
    ino = o.req.attr.ino;
    assert_int_equal(WAIT(&w, &o, hf_fs_mknod(w.fs, root, "x", S_IFREG | 0644, 0, NULL, &o.req)),
                     0);
    open_elsewhere(&w);
    assert_int_equal(WAIT(&w, &o, hf_fs_rename(w.fs, root, "x", root, "y", 0, &o.req)), 0);
    w.c->holder_count = 0;
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, ino, O_RDWR, &o.req)), 0);
    file = o.req.file;
    assert_int_equal(hf_fs_write(file, 0, "abc", 3, NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(file, 0, &o.req)), 0);
    assert_int_equal(committed_size(&w, ino), 3);
    hf_fs_release(file);
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_have_open_is_committed_by_close),
        cmocka_unit_test(what_only_this_mount_has_open_is_not_committed),
        cmocka_unit_test(what_was_unlinked_elsewhere_is_committed_when_opened_anew),
        cmocka_unit_test(what_was_replaced_before_it_was_opened_is_committed),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
