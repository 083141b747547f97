/* SPDX-License-Identifier: Apache-2.0 */
/* test_inode.c - sizes and times that are told while data is dirty or on its way. */
#include "tests/unit/client/fs/fs_world.h"

#include "common/base/bytes.h"

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

static uint64_t mtime_of(struct world *w, struct actor *a)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_getattr(w->fs, a->ino, &o.req)), 0);
    return o.req.attr.mtime_ns;
}

static void set_mtime(struct world *w, struct actor *a, uint64_t mtime_ns)
{
    const struct hf_fs_set set = {.mask = HF_SET_MTIME, .mtime_ns = mtime_ns};
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_setattr(w->fs, a->ino, &set, &o.req)), 0);
    assert_int_equal(mtime_of(w, a), mtime_ns);
}

/* Returns its time. */
static uint64_t write_some(struct world *w, struct actor *a, uint32_t len)
{
    static const uint8_t data[300000];
    struct once o;

    assert_int_equal(hf_fs_write(a->file, 0, data, len, NULL, 0, &once(&o)->req), 0);
    return hf_env_wall_ns(w->c->env);
}

static void a_write_is_told_whatever_the_time_was(void **state)
{
    const int64_t offs[] = {INT64_C(7200) * (int64_t)HF_NS_PER_SEC, (int64_t)HF_NS_PER_SEC, 1, 0,
                            -1};
    struct world w;

    (void)state;
    world_init(&w, 70);
    w.c->delay_max_ns = 10 * HF_NS_PER_MS;
    for (uint64_t i = 0; i < 300; i++) {
        struct hf_fs_set mode = {.mask = HF_SET_MODE, .mode = 0600};
        struct actor *a = &w.actors[i % FILES];
        uint64_t now_ns = hf_env_wall_ns(w.c->env), mtime_ns;
        struct once o, sync;

        set_mtime(&w, a,
                  i % 6 == 5 ? (uint64_t)-INT64_C(5000000000)
                             : now_ns + HF_NS_PER_SEC + (uint64_t)offs[i % 6]);
        mtime_ns = write_some(&w, a, i % 2 ? 1000 : 300000);
        assert_int_equal(mtime_of(&w, a), mtime_ns);
        assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &mode, &o.req)), 0);
        assert_int_equal(mtime_of(&w, a), mtime_ns);
        assert_int_equal(hf_fs_fsync(a->file, &once(&sync)->req), HF_FS_PENDING);
        hf_sim_run_ns(w.c->sim, i % 20 * HF_NS_PER_MS);
        while (!sync.done) { /* the answer may be from before the commit */
            assert_int_equal(mtime_of(&w, a), mtime_ns);
        }
        assert_int_equal(sync.err, 0);
        assert_int_equal(mtime_of(&w, a), mtime_ns);
    }
    end(&w);
}

/* The kernel has to hear of it, or it keeps its pages. */
static void a_write_elsewhere_since_is_told(void **state)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{8}}, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_meta_reply reply;
    uint64_t mtime_ns;

    (void)state;
    world_init(&w, 71);
    fc_apply(w.c, &op, &reply);
    assert_int_equal(reply.err, 0);
    mtime_ns = write_some(&w, a, 1000);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_MS);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = reply.session,
                             .stream = 1,
                             .ino = a->ino,
                             .mask = HF_SET_SIZE,
                             .size = 5000};
    fc_apply(w.c, &op, &reply);
    assert_int_equal(reply.err, 0);
    assert_true(reply.attr.mtime_ns > mtime_ns);
    assert_int_equal(mtime_of(&w, a), reply.attr.mtime_ns);
    end(&w);
}

/* The listing is only there during done(). */
struct listing {
    struct once o;
    const struct actor *a;
    struct hf_attr attr; /* of its file */
};

static void listing_done(struct hf_fs_req *req, int err)
{
    struct listing *l = req->ctx;
    struct hf_reader r = hf_reader_init(req->data, req->data_len);
    struct hf_dirent d;

    l->o.done = true;
    l->o.err = err;
    while (hf_dirent_decode(&r, &d) == 0) {
        if (d.ino.v == l->a->ino.v) {
            hf_fs_overlay(req, &d.attr);
            l->attr = d.attr;
        }
    }
}

static struct hf_attr list(struct world *w, const struct actor *a)
{
    struct listing l = {.a = a};

    once(&l.o);
    l.o.req.done = listing_done;
    l.o.req.ctx = &l;
    assert_int_equal(
        wait_for(w, &l.o,
                 hf_fs_readdir(w->fs, (struct hf_ino){HF_INO_ROOT}, 0, 65536, true, &l.o.req)),
        0);
    return l.attr;
}

/* What a look-up tells, also when the answer is from before a commit that has ended since. */
static void a_listing_tells_of_what_is_on_its_way(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 72);
    w.c->delay_max_ns = 10 * HF_NS_PER_MS;
    for (uint32_t i = 0; i < 200; i++) {
        struct actor *a = &w.actors[i % FILES];
        uint32_t size = (i % 2 ? 1000 : 200000) + i;
        uint64_t mtime_ns = write_some(&w, a, size);
        struct once sync;

        size = size > a->size ? size : (uint32_t)a->size;
        a->size = size;
        assert_int_equal(list(&w, a).size, size);
        assert_int_equal(hf_fs_fsync(a->file, &once(&sync)->req), HF_FS_PENDING);
        while (!sync.done) {
            struct hf_attr attr = list(&w, a);

            assert_int_equal(attr.size, size);
            assert_int_equal(attr.mtime_ns, mtime_ns);
        }
        assert_int_equal(list(&w, a).size, size);
    }
    end(&w);
}

/* Each write is an extent of its own. */
static void write_pieces(struct world *w, struct actor *a)
{
    static const uint8_t data[100];
    struct once o;

    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(
            WAIT(w, &o, hf_fs_write(a->file, i * 1000, data, sizeof(data), NULL, 0, &o.req)), 0);
    }
    assert_int_equal(WAIT(w, &o, hf_fs_fsync(a->file, &o.req)), 0);
}

static void what_is_cached_of_extents_is_bounded_over_open_files_too(void **state)
{
    struct world w;
    size_t one;

    (void)state;
    world_init(&w, 75);
    for (int i = 0; i < FILES; i++) {
        write_pieces(&w, &w.actors[i]);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < FILES; i++) {
            struct actor *a = &w.actors[i];
            struct once o;

            assert_int_equal(WAIT(&w, &o, hf_fs_read(a->file, 0, 100000, &o.req)), 0);
            one = hf_fs_inode_find(w.fs, a->ino)->extents.cost_bytes;
            assert_true(one > 100);
            if (w.fs->extent_bytes_max == HF_FS_EXTENT_BYTES) { /* room for two */
                w.fs->extent_bytes_max = one * 5 / 2;
            }
            assert_in_range(w.fs->extent_bytes, one, w.fs->extent_bytes_max);
        }
    }
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_told_whatever_the_time_was),
        cmocka_unit_test(a_write_elsewhere_since_is_told),
        cmocka_unit_test(a_listing_tells_of_what_is_on_its_way),
        cmocka_unit_test(what_is_cached_of_extents_is_bounded_over_open_files_too),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
