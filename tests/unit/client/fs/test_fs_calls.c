/* SPDX-License-Identifier: Apache-2.0 */
/* test_fs_calls.c - names, attributes, openings and syncs: call by call. */
#include "tests/unit/client/fs/fs_world.h"

static void an_unlinked_files_dirty_data_is_not_written(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[200000];
    struct hf_fs_stats stats;

    (void)state;
    world_init(&w, 13);
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(
        WAIT(&w, &o, hf_fs_unlink(w.fs, (struct hf_ino){HF_INO_ROOT}, a->name, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
    hf_fs_release(a->file);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes, 0);
    assert_int_equal(w.c->object_count, 0);
    for (int i = 1; i < FILES; i++) {
        hf_fs_release(w.actors[i].file);
    }
    fs_close(&w);
    world_fini(&w);
}

static void attributes_have_names_of_known_namespaces(void **state)
{
    static const struct {
        const char *name;
        int err;
    } rows[] = {
        {"user.a", 0},
        {"trusted.a", 0},
        {"security.a", 0},
        {"user.", -EINVAL},
        {"trusted.", -EINVAL},
        {"user", -EOPNOTSUPP},
        {"a", -EOPNOTSUPP},
        {"system.posix_acl_foo", -EOPNOTSUPP},
        {"system.posix_acl_access", -EINVAL}, /* known, and this is none */
        {"", -ERANGE},
    };
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 17);
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        assert_int_equal(
            WAIT(&w, &o, hf_fs_setxattr(w.fs, w.actors[0].ino, rows[i].name, "x", 1, 0, &o.req)),
            rows[i].err);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Requests are used again: what an earlier call left in one is no number of this opening. A release
 * under a higher number than the leader knows would take away a later opening of the file. */
static void a_creation_opens_under_number_zero(void **state)
{
    uint64_t opens[2 * (FILES + 1)] = {0};
    struct world w;
    struct once o;
    uint32_t count;
    bool found = false;

    (void)state;
    world_init(&w, 15);
    once(&o)->req.target = 1000; /* as a sync of everything leaves it */
    assert_int_equal(wait_for(&w, &o,
                              hf_fs_create(w.fs, (struct hf_ino){HF_INO_ROOT}, "new",
                                           S_IFREG | 0644, O_RDWR, &o.req)),
                     0);
    count = hf_fs_open_inodes(w.fs, false, opens, HF_ARRAY_LEN(opens));
    for (uint32_t i = 0; i < count; i += 2) {
        if (opens[i] == hf_fs_file_ino(o.req.file).v) {
            assert_int_equal(opens[i + 1], 0);
            found = true;
        }
    }
    assert_true(found);
    hf_fs_release(o.req.file);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static uint64_t dirty_bytes(const struct world *w)
{
    struct hf_fs_stats stats;

    hf_fs_stats(w->fs, &stats);
    return stats.dirty_bytes + stats.flush_bytes;
}

static bool told_open(struct world *w, struct hf_ino ino)
{
    uint64_t opens[2 * (FILES + 4)];
    uint32_t count = hf_fs_open_inodes(w->fs, false, opens, HF_ARRAY_LEN(opens));

    for (uint32_t i = 0; i < count; i += 2) {
        if (opens[i] == ino.v) {
            return true;
        }
    }
    return false;
}

/* What is opened while the parts are on their way is in the last of them, at the latest; what was
 * closed is in none. */
static void what_is_open_is_told_in_parts(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    uint64_t part[2], seen[FILES + 8] = {0};
    struct hf_fs_file *files[6];
    uint32_t count, n = 0;
    struct world w;
    struct once o;
    char name[8];

    (void)state;
    world_init(&w, 23);
    for (uint32_t i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof(name), "part%u", i);
        assert_int_equal(
            WAIT(&w, &o, hf_fs_create(w.fs, root, name, S_IFREG | 0644, O_RDWR, &o.req)), 0);
        files[i] = o.req.file;
    }
    for (count = 2; count == 2;) {
        count = hf_fs_open_inodes(w.fs, n > 0, part, 2);
        if (count > 0) {
            assert_true(n < HF_ARRAY_LEN(seen));
            seen[n++] = part[0];
        }
        if (n == FILES + 2 && files[2]) {
            hf_fs_release(files[2]); /* where the next part begins */
            files[2] = NULL;
            assert_int_equal(
                WAIT(&w, &o, hf_fs_create(w.fs, root, "late", S_IFREG | 0644, O_RDWR, &o.req)), 0);
            files[5] = o.req.file;
        }
    }
    assert_int_equal(n, FILES + 5);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t times = 0;

        for (uint32_t k = 0; files[i] && k < n; k++) {
            times += seen[k] == hf_fs_file_ino(files[i]).v;
        }
        assert_int_equal(times, files[i] != NULL);
    }
    hf_fs_check_invariants(w.fs);
    for (uint32_t i = 0; i < 6; i++) {
        if (files[i]) {
            hf_fs_release(files[i]);
        }
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static bool took_number(void *ctx)
{
    const struct world *w = ctx;

    return w->c->next_ino > w->next_ino;
}

/* The leader may go with the answer: the next one asks what is open before the file is asked for
 * again. */
static void what_is_being_made_counts_as_open(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 22);
    for (int i = 0; i < 3; i++) {
        struct hf_ino ino = {w.c->next_ino};
        int err;

        w.next_ino = ino.v;
        once(&o);
        err = i == 0   ? hf_fs_create(w.fs, root, "new", S_IFREG | 0644, O_RDWR, &o.req)
              : i == 1 ? hf_fs_tmpfile(w.fs, root, S_IFREG | 0644, O_RDWR, &o.req)
                       : hf_fs_create(w.fs, root, "new", S_IFREG | 0644, O_RDWR | O_EXCL, &o.req);
        assert_int_equal(err, HF_FS_PENDING);
        assert_true(hf_sim_run_until(w.c->sim, took_number, &w, HF_NS_PER_SEC));
        assert_false(o.done);
        assert_true(told_open(&w, ino));
        assert_int_equal(wait_for(&w, &o, err), i < 2 ? 0 : -EEXIST);
        assert_int_equal(told_open(&w, ino), i < 2);
        if (i < 2) {
            hf_fs_release(o.req.file);
            assert_false(told_open(&w, ino));
        }
    }
    sync_and_close(&w);
    fs_close(&w);
    assert_int_equal(w.c->releases, FILES + 3);
    world_fini(&w);
}

static struct hf_meta_usage usage_of(const struct world *w)
{
    struct hf_meta_usage usage;

    hf_meta_usage(w->c->meta, &usage);
    return usage;
}

static struct hf_fs_file *make_unnamed(struct world *w, uint32_t flags, struct once *o)
{
    assert_int_equal(WAIT(w, o,
                          hf_fs_tmpfile(w->fs, (struct hf_ino){HF_INO_ROOT}, S_IFREG | 0644,
                                        O_RDWR | flags, &o->req)),
                     0);
    assert_int_equal(o->req.attr.nlink, 0);
    return o->req.file;
}

static void a_file_without_a_name_gets_one_with_its_data(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    static uint8_t data[200000];
    struct hf_fs_file *file;
    struct world w;
    struct once o;
    struct hf_ino ino;

    (void)state;
    world_init(&w, 23);
    file = make_unnamed(&w, 0, &o);
    ino = hf_fs_file_ino(file);
    assert_int_equal(hf_fs_write(file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_link(w.fs, ino, root, "file1", &o.req)), -EEXIST);
    assert_int_equal(hf_fs_write(file, 0, data, 100000, NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_link(w.fs, ino, root, "x", &o.req)), 0);
    assert_int_equal(o.req.attr.nlink, 1);
    assert_int_equal(dirty_bytes(&w), 0);
    assert_int_equal(w.c->object_count, 2);
    assert_int_equal(hf_fs_write(file, 200000, data, 1000, NULL, 0, &once(&o)->req), 0);
    hf_fs_release(file); /* a file like any other by now: its data goes */
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(WAIT(&w, &o, hf_fs_lookup(w.fs, root, "x", &o.req)), 0);
    assert_int_equal(o.req.attr.ino.v, ino.v);
    assert_int_equal(o.req.attr.size, 201000);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Another thread may close it meanwhile. */
static void a_file_closed_while_it_gets_its_name_keeps_its_data(void **state)
{
    static const char *const names[] = {"x", "file1"};
    static uint8_t data[200000];
    struct world w;
    struct once o, p;

    (void)state;
    world_init(&w, 24);
    for (size_t i = 0; i < HF_ARRAY_LEN(names); i++) {
        struct hf_fs_file *file = make_unnamed(&w, 0, &o);
        struct hf_ino ino = hf_fs_file_ino(file);

        assert_int_equal(hf_fs_write(file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
        assert_int_equal(
            hf_fs_link(w.fs, ino, (struct hf_ino){HF_INO_ROOT}, names[i], &once(&o)->req),
            HF_FS_PENDING);
        assert_int_equal(hf_fs_write(file, 200000, data, 1000, NULL, 0, &once(&p)->req), 0);
        hf_fs_release(file);
        assert_true(told_open(&w, ino));
        assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), i == 0 ? 0 : -EEXIST);
        assert_false(told_open(&w, ino));
        hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
        assert_int_equal(dirty_bytes(&w), 0);
        assert_int_equal(usage_of(&w).orphans, 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, ino, &o.req)), i == 0 ? 0 : -ENOENT);
        assert_true(i == 1 || o.req.attr.size == 201000);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_file_that_gets_no_name_goes_with_its_last_opening(void **state)
{
    static uint8_t data[200000];
    struct hf_fs_file *file, *again;
    struct world w;
    struct once o;
    struct hf_ino ino;

    (void)state;
    world_init(&w, 25);
    file = make_unnamed(&w, O_EXCL, &o);
    ino = hf_fs_file_ino(file);
    assert_int_equal(hf_fs_write(file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(file, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_link(w.fs, ino, (struct hf_ino){HF_INO_ROOT}, "x", &o.req)),
                     -ENOENT);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, ino, O_RDONLY, &o.req)), 0);
    again = o.req.file;
    hf_fs_release(file);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(usage_of(&w).orphans, 1);
    hf_fs_release(again);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(usage_of(&w).orphans, 0);
    assert_int_equal(usage_of(&w).dead, 1);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Its last name is gone, and one process closes it while another opens it. */
static void a_close_does_not_reach_past_an_opening_under_way(void **state)
{
    static uint8_t data[1000];
    struct hf_fs_file *file;
    struct world w;
    struct once o;
    struct hf_ino ino;

    (void)state;
    world_init(&w, 27);
    file = make_unnamed(&w, 0, &o);
    ino = hf_fs_file_ino(file);
    assert_int_equal(hf_fs_write(file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(hf_fs_open(w.fs, ino, O_RDONLY, &once(&o)->req), HF_FS_PENDING);
    hf_fs_release(file);
    assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
    assert_int_equal(dirty_bytes(&w), sizeof(data));
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(usage_of(&w).orphans, 1);
    hf_fs_release(o.req.file);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(usage_of(&w).orphans, 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Closed and not yet flushed, it is renamed over by one process between the look and the open of
 * another, who reads what was written. */
static void what_is_replaced_keeps_its_data_for_who_opens_it(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    static uint8_t data[200000];
    struct world w;
    struct actor *a = &w.actors[1];
    struct once o;

    (void)state;
    world_init(&w, 28);
    w.c->keep_replaced = true;
    w.c->put_fail_one_in = 1;
    w.c->put_err = -EIO;
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    hf_fs_release(a->file);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC / 10); /* the first try fails */
    assert_int_equal(WAIT(&w, &o, hf_fs_rename(w.fs, root, "file0", root, a->name, 0, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDONLY, &o.req)), 0);
    a->file = o.req.file;
    assert_int_equal(dirty_bytes(&w), sizeof(data));
    w.c->put_fail_one_in = 0;
    for (int i = 0; i < FILES; i++) {
        hf_fs_release(w.actors[i].file);
    }
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(dirty_bytes(&w), 0);
    assert_int_equal(usage_of(&w).orphans, 0);
    fs_close(&w);
    world_fini(&w);
}

/* A directory that is worked in, a FIFO that is open, an O_PATH descriptor. */
static void what_is_held_without_a_name_keeps_its_attributes(void **state)
{
    static const uint32_t modes[] = {S_IFDIR | 0755, S_IFIFO | 0644, S_IFREG | 0640};
    const struct hf_ino root = {HF_INO_ROOT};
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 21);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct hf_fs_set set = {.mask = HF_SET_MODE, .mode = 0700};
        struct hf_ino ino;
        int err;

        assert_int_equal(WAIT(&w, &o, hf_fs_mknod(w.fs, root, "x", modes[i], 0, NULL, &o.req)), 0);
        ino = o.req.attr.ino;
        err = S_ISDIR(modes[i]) ? WAIT(&w, &o, hf_fs_rmdir(w.fs, root, "x", &o.req))
                                : WAIT(&w, &o, hf_fs_unlink(w.fs, root, "x", &o.req));
        assert_int_equal(err, 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, ino, &o.req)), 0);
        assert_int_equal(o.req.attr.ino.v, ino.v);
        assert_int_equal(o.req.attr.mode, modes[i]);
        assert_int_equal(o.req.attr.nlink, 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, ino, &set, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, ino, &o.req)), 0);
        assert_int_equal(o.req.attr.mode, (modes[i] & S_IFMT) | 0700);
        if (i > 0) { /* the first is held to the end */
            hf_fs_forget(w.fs, ino);
            assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, ino, &o.req)), -ENOENT);
        }
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void make_link(struct world *w, const char *name, const char *target, struct hf_ino *ret)
{
    struct once o;

    assert_int_equal(WAIT(w, &o,
                          hf_fs_mknod(w->fs, (struct hf_ino){HF_INO_ROOT}, name, S_IFLNK | 0777, 0,
                                      target, &o.req)),
                     0);
    *ret = o.req.attr.ino;
}

static void a_link_held_without_a_name_is_read(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    struct hf_ino unlinked, replaced;
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 26);
    make_link(&w, "x", "to/x", &unlinked);
    make_link(&w, "y", "to/y", &replaced);
    assert_int_equal(WAIT(&w, &o, hf_fs_unlink(w.fs, root, "x", &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_rename(w.fs, root, "file0", root, "y", 0, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_readlink(w.fs, unlinked, &o.req)), 0);
    assert_int_equal(o.req.data_len, 4);
    assert_memory_equal(o.data, "to/x", 4);
    assert_int_equal(WAIT(&w, &o, hf_fs_readlink(w.fs, replaced, &o.req)), 0);
    assert_int_equal(o.req.data_len, 4);
    assert_memory_equal(o.data, "to/y", 4);
    hf_fs_forget(w.fs, unlinked);
    assert_int_equal(WAIT(&w, &o, hf_fs_readlink(w.fs, unlinked, &o.req)), -ENOENT);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_rename_waits_for_the_data_of_what_moves(void **state)
{
    struct world w;
    struct once o;
    static uint8_t data[200000];
    struct hf_fs_stats stats;

    (void)state;
    world_init(&w, 14);
    assert_int_equal(hf_fs_write(w.actors[0].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req),
                     0);
    assert_int_equal(WAIT(&w, &o,
                          hf_fs_rename(w.fs, (struct hf_ino){HF_INO_ROOT}, "file0",
                                       (struct hf_ino){HF_INO_ROOT}, "file1", 0, &o.req)),
                     0);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes + stats.flush_bytes, 0);
    assert_int_equal(w.c->object_count, 1);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void an_exchange_waits_for_the_data_of_both(void **state)
{
    const struct hf_ino root = {HF_INO_ROOT};
    struct world w;
    struct once o;
    static uint8_t data[200000];

    (void)state;
    world_init(&w, 28);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k <= i; k++) { /* of the second, then of both */
            assert_int_equal(
                hf_fs_write(w.actors[1 - k].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req),
                0);
        }
        assert_int_equal(
            WAIT(&w, &o, hf_fs_rename(w.fs, root, "file0", root, "file1", RENAME_EXCHANGE, &o.req)),
            0);
        assert_int_equal(dirty_bytes(&w), 0);
    }
    assert_int_equal(
        WAIT(&w, &o, hf_fs_rename(w.fs, root, "file0", root, "none", RENAME_EXCHANGE, &o.req)),
        -ENOENT);
    assert_int_equal(w.c->object_count, 3);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static int do_elsewhere(struct world *w, struct hf_meta_op *op)
{
    struct hf_meta_op other = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{8}}, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    fc_apply(w->c, &other, &reply);
    assert_int_equal(reply.err, 0);
    op->session = reply.session;
    op->stream = 1;
    fc_apply(w->c, op, &reply);
    return reply.err;
}

static void capabilities_are_set_behind_what_was_written(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 30);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            hf_fs_write(a->file, 0, "abc", 3, NULL, i ? HF_FS_WRITE_KILL : 0, &once(&o)->req), 0);
        assert_int_equal(
            WAIT(&w, &o, hf_fs_setxattr(w.fs, a->ino, "user.a", "12345678", 8, 0, &o.req)), 0);
        assert_int_equal(dirty_bytes(&w), 3);
        assert_int_equal(
            WAIT(&w, &o, hf_fs_setxattr(w.fs, a->ino, HF_XATTR_CAPS, "12345678", 8, 0, &o.req)), 0);
        assert_int_equal(dirty_bytes(&w), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_getxattr(w.fs, a->ino, HF_XATTR_CAPS, &o.req)), 0);
        assert_memory_equal(o.data, "12345678", 8);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* It was put in the list of idle ones twice. */
static void a_file_that_nobody_uses_may_be_synced(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_ino ino;
    struct once o;

    (void)state;
    world_init(&w, 35);
    ino = a->ino;
    assert_int_equal(hf_fs_write(a->file, 0, "abc", 3, NULL, 0, &once(&o)->req), 0);
    sync_and_close(&w);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    for (int wait = 0; wait < 2; wait++) {
        uint32_t idle = w.fs->idle_count;

        assert_int_equal(WAIT(&w, &o, hf_fs_sync(w.fs, ino, wait, &o.req)), 0);
        assert_int_equal(w.fs->idle_count, idle);
    }
    fs_close(&w);
    world_fini(&w);
}

static bool is_shorter(void *ctx)
{
    const struct once *o = ctx;

    return o->req.len_bytes == 200000;
}

/* Another mount truncates the source when its size is known. */
static void a_copy_says_how_much_the_server_shared(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0], *b = &w.actors[1];
    struct hf_meta_op cut = {.op = HF_OP_SETATTR, .mask = HF_SET_SIZE, .size = 120000};
    static uint8_t data[200000];
    struct once o, p;

    (void)state;
    world_init(&w, 29);
    cut.ino = a->ino;
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(hf_fs_copy(a->file, 0, b->file, 0, 1u << 20, &once(&p)->req), HF_FS_PENDING);
    assert_true(hf_sim_run_until(w.c->sim, is_shorter, &p, HF_NS_PER_SEC));
    assert_false(p.done);
    assert_int_equal(do_elsewhere(&w, &cut), 0);
    assert_int_equal(wait_for(&w, &p, HF_FS_PENDING), 0);
    assert_int_equal(p.req.count, 120000);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_time_that_was_set_is_not_undone_by_the_flush(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_set set = {.mask = HF_SET_MTIME, .mtime_ns = 12345678900u};
    struct once o;
    static uint8_t data[50000];

    (void)state;
    world_init(&w, 15);
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, a->ino, &o.req)), 0);
    assert_int_equal(o.req.attr.mtime_ns, set.mtime_ns);
    assert_int_equal(o.req.attr.size, sizeof(data));
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void write_all(struct world *w, uint32_t round)
{
    static uint8_t data[3u << 20];
    struct once o;

    for (uint32_t i = 0; i < FILES; i++) {
        uint32_t len =
            i == round % FILES ? (uint32_t)sizeof(data) : 1000u << (i + round) % FILES * 2;

        assert_int_equal(WAIT(w, &o, hf_fs_write(w->actors[i].file, 0, data, len, NULL, 0, &o.req)),
                         0);
    }
}

/* Other mounts tell new contents by a new time: none may come after the time that they saw. */
static void a_truncation_or_a_time_commits_what_is_dirty(void **state)
{
    static const struct hf_fs_set sets[] = {{.mask = HF_SET_SIZE, .size = 80000},
                                            {.mask = HF_SET_MTIME, .mtime_ns = 12345678900u}};
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[50000];

    (void)state;
    world_init(&w, 16);
    for (size_t i = 0; i < HF_ARRAY_LEN(sets); i++) {
        assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
        assert_int_not_equal(dirty_bytes(&w), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &sets[i], &o.req)), 0);
        assert_int_equal(dirty_bytes(&w), 0);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static int seek_to(struct world *w, struct actor *a, uint64_t off, int whence, uint64_t *ret)
{
    struct once o;
    int err = WAIT(w, &o, hf_fs_lseek(a->file, off, whence, &o.req));

    *ret = o.req.count;
    return err;
}

static void a_hole_of_any_size_is_crossed_with_few_looks(void **state)
{
    struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = HF_FILE_BYTES_MAX};
    const uint64_t last = HF_FILE_BYTES_MAX - 4096;
    static uint8_t data[4096];
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    uint64_t pos;

    (void)state;
    memset(data, 1, sizeof(data));
    world_init(&w, 31);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set, &o.req)), 0);
    assert_int_equal(seek_to(&w, a, 0, SEEK_DATA, &pos), -ENXIO);
    assert_true(w.c->extent_looks <= 4);
    assert_int_equal(hf_fs_write(a->file, last, data, 4096, NULL, 0, &once(&o)->req), 0);
    assert_int_equal(hf_fs_write(a->file, 0, data, 4096, NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    w.c->extent_looks = 0;
    assert_int_equal(seek_to(&w, a, 4096, SEEK_DATA, &pos), 0);
    assert_int_equal(pos, last);
    assert_int_equal(seek_to(&w, a, 0, SEEK_HOLE, &pos), 0);
    assert_int_equal(pos, 4096);
    assert_int_equal(seek_to(&w, a, last, SEEK_HOLE, &pos), 0);
    assert_int_equal(pos, HF_FILE_BYTES_MAX);
    assert_true(w.c->extent_looks <= 4 + 1 + 1);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void pages_are_kept_only_when_no_other_mount_wrote(void **state)
{
    const struct hf_fs_set mode = {.mask = HF_SET_MODE, .mode = 0600};
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_inode *inode;
    struct once o;
    static uint8_t data[50000];

    (void)state;
    world_init(&w, 17);
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDONLY, &o.req)), 0);
    hf_fs_release(o.req.file);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &mode, &o.req)), 0);
    assert_true(o.req.keep_cache);
    inode = hf_fs_inode_find(w.fs, a->ino);
    inode->cache_version--; /* as it is when another mount has written since */
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &mode, &o.req)), 0);
    assert_false(o.req.keep_cache);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* The kernel sends it for fchown(fd, -1, -1); its request has served others before. */
static void nothing_is_said_of_pages_where_no_bits_go(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 33);
    once(&o)->req.keep_cache = true;
    assert_int_equal(wait_for(&w, &o, hf_fs_kill_priv(w.fs, w.actors[0].ino, &o.req)), 0);
    assert_false(o.req.keep_cache);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static struct hf_attr attr_of(struct world *w, const struct actor *a)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_getattr(w->fs, a->ino, &o.req)), 0);
    return o.req.attr;
}

/* The kernel knows new contents by size and mtime alone. */
static void a_reader_is_told_of_other_contents_with_the_same_time(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_attr attr;
    struct once o;
    static uint8_t data[50000];

    (void)state;
    world_init(&w, 32);
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    attr = attr_of(&w, a);
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
    assert_int_equal(attr_of(&w, a).mtime_ns, attr.mtime_ns);
    assert_int_equal(attr_of(&w, a).data_version, attr.data_version + 1);
    attr = attr_of(&w, a);
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 0); /* its own */
    attr.data_version++;
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, false), 0); /* drops nothing */
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 2);
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 2);
    attr.data_version++;
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 4);
    attr.data_version++;
    attr.mtime_ns++;
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, false), 0); /* that it sees itself */
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* They hold bytes that no mount reads any more. */
static void pages_of_what_was_dropped_are_not_kept(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_attr attr;
    struct once o;
    static uint8_t data[50000];

    (void)state;
    world_init(&w, 34);
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 0, &o.req)), 0);
    attr = attr_of(&w, a);
    (void)hf_fs_told_contents(w.fs, &attr, true);
    assert_int_equal(hf_fs_told_contents(w.fs, &attr, true), 0);
    assert_int_equal(hf_fs_write(a->file, 0, "abc", 3, NULL, 0, &once(&o)->req), 0);
    w.c->commit_fail_one_in = 1;
    w.c->commit_err = -ENOSPC;
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ENOSPC);
    w.c->commit_fail_one_in = 0;
    assert_int_equal(hf_fs_inode_find(w.fs, a->ino)->cache_version, 0);
    attr = attr_of(&w, a);
    assert_int_not_equal(hf_fs_told_contents(w.fs, &attr, true), 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_file_may_be_mapped_while_it_is_open_for_both(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_file *read_only, *both;
    struct once o;

    (void)state;
    world_init(&w, 18);
    hf_fs_release(a->file);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDONLY, &o.req)), 0);
    read_only = o.req.file;
    assert_false(hf_fs_mappable(w.fs, a->ino));
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    both = o.req.file;
    assert_true(hf_fs_mappable(w.fs, a->ino));
    hf_fs_release(both);
    assert_false(hf_fs_mappable(w.fs, a->ino));
    a->file = read_only;
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_sync_of_everything_waits_for_all_of_it(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 19);
    for (uint32_t round = 0; round < 40; round++) {
        write_all(&w, round);
        assert_int_equal(WAIT(&w, &o, hf_fs_sync(w.fs, (struct hf_ino){0}, true, &o.req)), 0);
        assert_int_equal(dirty_bytes(&w), 0);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Whatever fails meanwhile: success means that nothing is left. */
static void a_sync_that_leaves_something_says_so(void **state)
{
    struct world w;
    struct once o;
    uint32_t failed = 0;

    (void)state;
    world_init(&w, 20);
    w.c->put_fail_one_in = 6;
    w.c->put_err = -EAGAIN;
    for (uint32_t round = 0; round < 60; round++) {
        int err;

        write_all(&w, round);
        err = WAIT(&w, &o, hf_fs_sync(w.fs, (struct hf_ino){0}, true, &o.req));
        assert_true(err == 0 || err == -EIO);
        assert_true(err || dirty_bytes(&w) == 0);
        failed += err != 0;
    }
    assert_true(failed > 0 && failed < 60);
    w.c->put_fail_one_in = 0;
    assert_int_equal(WAIT(&w, &o, hf_fs_sync(w.fs, (struct hf_ino){0}, true, &o.req)), 0);
    assert_int_equal(dirty_bytes(&w), 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unlinked_files_dirty_data_is_not_written),
        cmocka_unit_test(attributes_have_names_of_known_namespaces),
        cmocka_unit_test(a_creation_opens_under_number_zero),
        cmocka_unit_test(what_is_open_is_told_in_parts),
        cmocka_unit_test(what_is_being_made_counts_as_open),
        cmocka_unit_test(a_file_without_a_name_gets_one_with_its_data),
        cmocka_unit_test(a_file_closed_while_it_gets_its_name_keeps_its_data),
        cmocka_unit_test(a_file_that_gets_no_name_goes_with_its_last_opening),
        cmocka_unit_test(a_close_does_not_reach_past_an_opening_under_way),
        cmocka_unit_test(what_is_replaced_keeps_its_data_for_who_opens_it),
        cmocka_unit_test(what_is_held_without_a_name_keeps_its_attributes),
        cmocka_unit_test(a_link_held_without_a_name_is_read),
        cmocka_unit_test(a_rename_waits_for_the_data_of_what_moves),
        cmocka_unit_test(an_exchange_waits_for_the_data_of_both),
        cmocka_unit_test(capabilities_are_set_behind_what_was_written),
        cmocka_unit_test(a_copy_says_how_much_the_server_shared),
        cmocka_unit_test(a_time_that_was_set_is_not_undone_by_the_flush),
        cmocka_unit_test(a_truncation_or_a_time_commits_what_is_dirty),
        cmocka_unit_test(a_hole_of_any_size_is_crossed_with_few_looks),
        cmocka_unit_test(pages_are_kept_only_when_no_other_mount_wrote),
        cmocka_unit_test(a_reader_is_told_of_other_contents_with_the_same_time),
        cmocka_unit_test(a_file_that_nobody_uses_may_be_synced),
        cmocka_unit_test(nothing_is_said_of_pages_where_no_bits_go),
        cmocka_unit_test(pages_of_what_was_dropped_are_not_kept),
        cmocka_unit_test(a_file_may_be_mapped_while_it_is_open_for_both),
        cmocka_unit_test(a_sync_of_everything_waits_for_all_of_it),
        cmocka_unit_test(a_sync_that_leaves_something_says_so),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
