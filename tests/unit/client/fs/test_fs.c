/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs.c - the file system against a byte model, over the real state machine and fake stores.
 *
 * Actors, one per file, do one thing after another; files run at the same time, so flushes,
 * commits, reads and truncations of different files interleave in every way that chance finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/fs/fs_impl.h"
#include "common/log/log.h"
#include "tests/lib/fake_cluster.h"

#define FILES      4
#define FILE_BYTES (10u << 20)

struct world;

struct actor {
    struct world *w;
    struct hf_fs_req req;
    struct hf_fs_file *file;
    struct hf_ino ino;
    char name[16];
    uint8_t *bytes; /* the model */
    uint64_t size;
    uint64_t cursor; /* of sequential writes and reads */
    uint64_t off;
    uint32_t len;
    int what;
    uint32_t steps;
    uint32_t errors; /* reported by fsync and the like */
    struct hf_timer nap;
    bool done;
};

struct world {
    struct fc_cluster *c;
    struct hf_fs *fs;
    struct actor actors[FILES];
    struct hf_timer watch;
    uint32_t steps_max;
    bool errors_expected;
    uint64_t events;
};

enum {
    DO_WRITE,
    DO_WRITE_SEQ,
    DO_WRITE_BIG,
    DO_WRITE_THROUGH,
    DO_READ,
    DO_READ_SEQ,
    DO_FSYNC,
    DO_FLUSH,
    DO_TRUNCATE,
    DO_GETATTR,
    DO_PUNCH,
    DO_SEEK,
    DO_CLONE,
    DO_NAP,
    DO_RELEASE,
    DO_COUNT
};

static void act(struct actor *a);

static uint64_t below(struct actor *a, uint64_t end)
{
    return fc_below(a->w->c, end);
}

static void on_step(void *ctx)
{
    struct world *w = ctx;

    if (w->fs && w->events++ % 16 == 0) {
        hf_fs_check_invariants(w->fs);
    }
}

static void some_range(struct actor *a, uint32_t max)
{
    a->len = 1 + (uint32_t)below(a, max);
    a->off = below(a, FILE_BYTES - a->len);
    if (below(a, 2)) {
        a->off &= ~UINT64_C(4095);
    }
}

static void model_write(struct actor *a)
{
    uint8_t fill = (uint8_t)(1 + below(a, 255));

    for (uint32_t i = 0; i < a->len; i++) {
        a->bytes[a->off + i] = (uint8_t)(fill + (a->off + i) * 13);
    }
    if (a->off + a->len > a->size) {
        a->size = a->off + a->len;
    }
}

static int start_write(struct actor *a, uint32_t flags)
{
    struct hf_buf *buf = hf_buf_get(a->w->c->pool, a->len + 80);
    int err;

    model_write(a);
    memcpy(buf->data + 80, a->bytes + a->off, a->len);
    err = hf_fs_write(a->file, a->off, buf->data + 80, a->len, buf, flags, &a->req);
    if (__atomic_load_n(&buf->refs, __ATOMIC_RELAXED) == 1) {
        memset(buf->data, 0xee, a->len); /* it was copied: nobody may look at it */
    }
    hf_buf_unref(buf);
    return err;
}

static int start_truncate(struct actor *a)
{
    struct hf_fs_set set = {.mask = HF_SET_SIZE};

    set.size = below(a, 4) == 0 ? 0 : below(a, FILE_BYTES);
    a->off = set.size;
    if (set.size < a->size) {
        memset(a->bytes + set.size, 0, a->size - set.size);
    }
    a->size = set.size;
    return hf_fs_setattr(a->w->fs, a->ino, &set, &a->req);
}

static int start_clone(struct actor *a)
{
    uint64_t half = FILE_BYTES / 2;

    a->len = 1 + (uint32_t)below(a, half - 1);
    a->off = below(a, half - a->len);
    if (a->off >= a->size) {
        return hf_fs_getattr(a->w->fs, a->ino, &a->req);
    }
    if (a->off + a->len > a->size) {
        a->len = (uint32_t)(a->size - a->off);
    }
    return hf_fs_copy(a->file, a->off, a->file, half + a->off, a->len, &a->req);
}

static void napped(void *ctx)
{
    act(ctx);
}

static int start(struct actor *a)
{
    switch (a->what) {
    case DO_WRITE:
        some_range(a, below(a, 3) ? 5000 : 300000);
        return start_write(a, 0);
    case DO_WRITE_SEQ:
        a->len = 4096u << below(a, 6);
        a->off = a->cursor + a->len <= FILE_BYTES ? a->cursor : 0;
        a->cursor = a->off + a->len;
        return start_write(a, 0);
    case DO_WRITE_BIG:
        a->len = 1u << 20;
        a->off = below(a, FILE_BYTES - a->len);
        a->off = below(a, 4) ? a->off & ~UINT64_C(0xfffff) : a->off;
        return start_write(a, 0);
    case DO_WRITE_THROUGH:
        some_range(a, below(a, 2) ? 1u << 20 : 8192);
        return start_write(a, HF_FS_WRITE_THROUGH);
    case DO_READ:
        some_range(a, below(a, 2) ? 1u << 20 : 5000);
        return hf_fs_read(a->file, a->off, a->len, &a->req);
    case DO_READ_SEQ:
        a->len = 128u << 10;
        a->off = a->cursor < FILE_BYTES ? a->cursor : 0;
        a->cursor = a->off + a->len;
        return hf_fs_read(a->file, a->off, a->len, &a->req);
    case DO_FSYNC:
        return hf_fs_fsync(a->file, &a->req);
    case DO_FLUSH:
        return hf_fs_flush(a->file, 7, &a->req);
    case DO_TRUNCATE:
        return start_truncate(a);
    case DO_GETATTR:
        return hf_fs_getattr(a->w->fs, a->ino, &a->req);
    case DO_PUNCH:
        some_range(a, 3u << 20);
        for (uint32_t i = 0; i < a->len && a->off + i < a->size; i++) {
            a->bytes[a->off + i] = 0;
        }
        return hf_fs_fallocate(a->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, a->off, a->len,
                               &a->req);
    case DO_SEEK:
        a->off = below(a, FILE_BYTES);
        a->len = (uint32_t)below(a, 2);
        return hf_fs_lseek(a->file, a->off, a->len ? SEEK_DATA : SEEK_HOLE, &a->req);
    case DO_CLONE:
        return start_clone(a);
    case DO_RELEASE:
        hf_fs_release(a->file);
        a->file = NULL;
        return hf_fs_open(a->w->fs, a->ino, O_RDWR, &a->req);
    default:
        hf_timer_arm(&a->nap, below(a, 3 * HF_NS_PER_SEC));
        return HF_FS_PENDING;
    }
}

static void check_read(struct actor *a)
{
    uint64_t n = a->off >= a->size ? 0 : a->size - a->off, at = a->off;

    n = n < a->len ? n : a->len;
    for (int i = 0; i < a->req.iov_count; i++) {
        const struct iovec *v = &a->req.iov[i];

        assert_true(at + v->iov_len <= a->off + n);
        assert_memory_equal(v->iov_base, a->bytes + at, v->iov_len);
        at += v->iov_len;
    }
    assert_int_equal(at - a->off, n);
}

static void check_seek(struct actor *a, int err)
{
    uint64_t pos = a->req.count;

    if (err == -ENXIO) {
        for (uint64_t b = a->off; b < a->size && a->len; b++) {
            assert_int_equal(a->bytes[b], 0);
        }
        assert_true(a->len || a->off >= a->size);
        return;
    }
    assert_int_equal(err, 0);
    assert_true(pos >= a->off && pos <= a->size);
    for (uint64_t b = a->off; b < pos && a->len; b++) {
        assert_int_equal(a->bytes[b], 0); /* what was skipped is no data */
    }
}

static void check_clone(struct actor *a, int err)
{
    uint64_t half = FILE_BYTES / 2;

    assert_true(err == 0 || err == -EOPNOTSUPP); /* too many pieces: the kernel copies */
    if (err == 0 && a->off < a->size) {
        memcpy(a->bytes + half + a->off, a->bytes + a->off, a->len);
        if (half + a->off + a->len > a->size) {
            a->size = half + a->off + a->len;
        }
    }
}

static void check(struct actor *a, int err)
{
    bool tainted = a->w->errors_expected;

    switch (a->what) {
    case DO_CLONE:
        check_clone(a, err);
        break;
    case DO_READ:
    case DO_READ_SEQ:
        assert_int_equal(err, 0);
        if (!tainted) {
            check_read(a);
        }
        break;
    case DO_SEEK:
        if (!tainted) {
            check_seek(a, err);
        }
        break;
    case DO_GETATTR:
        assert_int_equal(err, 0);
        assert_true(tainted || a->req.attr.size == a->size);
        break;
    case DO_RELEASE:
        assert_int_equal(err, 0);
        a->file = a->req.file;
        assert_true(tainted || a->req.attr.size == a->size);
        break;
    default:
        a->errors += err != 0;
        if (err && !tainted) {
            fail_msg("%s: act %d of [%llu, +%u) ended with %s", a->name, a->what,
                     (unsigned long long)a->off, a->len, hf_err_name(err));
        }
        break;
    }
}

static void acted(struct hf_fs_req *req, int err)
{
    struct actor *a = req->ctx;

    check(a, err);
    hf_timer_arm(&a->nap, 1 + below(a, 20000));
}

static void act(struct actor *a)
{
    int err;

    for (;;) {
        if (a->steps++ >= a->w->steps_max) {
            a->done = true;
            return;
        }
        a->what = (int)below(a, DO_COUNT);
        if (a->what == DO_NAP && below(a, 3)) {
            a->what = DO_WRITE_SEQ;
        }
        err = start(a);
        if (err == HF_FS_PENDING) {
            return;
        }
        check(a, err);
    }
}

/* One request, waited for. */
struct once {
    struct hf_fs_req req;
    bool done;
    int err;
};

static void once_done(struct hf_fs_req *req, int err)
{
    struct once *once = req->ctx;

    once->done = true;
    once->err = err;
}

static struct once *once(struct once *o)
{
    memset(o, 0, sizeof(*o));
    o->req.done = once_done;
    o->req.ctx = o;
    return o;
}

static int wait_for(struct world *w, struct once *o, int err)
{
    if (err != HF_FS_PENDING) {
        return err;
    }
    if (!hf_sim_run_until(w->c->sim, fc_flag, &o->done, 600 * HF_NS_PER_SEC)) {
        struct hf_fs_stats s;

        hf_fs_stats(w->fs, &s);
        fail_msg("stuck: dirty %llu flushing %llu memory %llu flushes %llu writers %llu puts %llu",
                 (unsigned long long)s.dirty_bytes, (unsigned long long)s.flush_bytes,
                 (unsigned long long)s.memory_bytes, (unsigned long long)s.flushes,
                 (unsigned long long)s.writers_waiting, (unsigned long long)w->c->puts_running);
    }
    return o->err;
}

/* Prepared before the call is made, whatever the order of arguments. */
#define WAIT(w, o, call) (once(o), wait_for(w, o, call))

static void fs_open(struct world *w)
{
    const struct hf_fs_options options = {.session = &fc_session,
                                          .io = &fc_io,
                                          .pool = w->c->pool,
                                          .dirty_max_bytes = 8u << 20,
                                          .dirty_target_bytes = 4u << 20};

    assert_int_equal(hf_fs_new(w->c->env, &options, &w->fs), 0);
}

static void fs_close(struct world *w)
{
    struct hf_fs *fs = w->fs;
    struct hf_fs_stats stats;

    hf_sim_run_ns(w->c->sim, HF_NS_PER_SEC); /* releases are told */
    hf_fs_stats(fs, &stats);
    assert_int_equal(stats.dirty_bytes + stats.flush_bytes, 0);
    assert_true(stats.memory_bytes <= HF_NS_PER_SEC && w->c->budget_used == 0);
    w->fs = NULL;
    hf_fs_shutdown(fs);
    hf_fs_free(fs);
}

static void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->c = fc_new(seed);
    fs_open(w);
    hf_sim_on_step(w->c->sim, on_step, w);
    for (int i = 0; i < FILES; i++) {
        struct actor *a = &w->actors[i];
        struct once o;

        a->w = w;
        a->req.done = acted;
        a->req.ctx = a;
        a->bytes = calloc(1, FILE_BYTES);
        assert_non_null(a->bytes);
        hf_timer_init(&a->nap, w->c->env, napped, a);
        snprintf(a->name, sizeof(a->name), "file%d", i);
        assert_int_equal(WAIT(w, &o,
                              hf_fs_create(w->fs, (struct hf_ino){HF_INO_ROOT}, a->name,
                                           S_IFREG | 0644, O_RDWR, &o.req)),
                         0);
        a->file = o.req.file;
        a->ino = hf_fs_file_ino(a->file);
    }
}

static bool all_done(void *ctx)
{
    struct world *w = ctx;

    for (int i = 0; i < FILES; i++) {
        if (!w->actors[i].done) {
            return false;
        }
    }
    return true;
}

/* All of a file, through a file system that knows nothing yet. */
static bool same_when_cold(struct world *w, struct actor *a)
{
    struct once o;
    struct hf_fs_file *file;
    bool same = true;

    assert_int_equal(WAIT(w, &o, hf_fs_open(w->fs, a->ino, O_RDONLY, &o.req)), 0);
    file = o.req.file;
    same = o.req.attr.size == a->size;
    for (uint64_t off = 0; off < a->size && same; off += 1u << 20) {
        a->off = off;
        a->len = 1u << 20;
        /* the answer is only there during done(): compare in the actor's own request */
        a->what = DO_READ;
        a->done = false;
        a->steps = w->steps_max;
        assert_int_equal(hf_fs_read(file, off, a->len, &a->req), HF_FS_PENDING);
        assert_true(hf_sim_run_until(w->c->sim, fc_flag, &a->done, 60 * HF_NS_PER_SEC));
    }
    hf_fs_release(file);
    return same;
}

static void world_fini(struct world *w)
{
    char *text = NULL;

    for (int i = 0; i < FILES; i++) {
        free(w->actors[i].bytes);
        hf_timer_fini(&w->actors[i].nap);
    }
    if (hf_meta_fsck(w->c->meta, &text)) {
        fail_msg("fsck: %s", text ? text : "?");
    }
    free(text);
    fc_free(w->c);
}

static void run(struct world *w, uint32_t steps)
{
    w->steps_max = steps;
    for (int i = 0; i < FILES; i++) {
        hf_timer_arm(&w->actors[i].nap, 1);
    }
    assert_true(hf_sim_run_until(w->c->sim, all_done, w, 36000 * HF_NS_PER_SEC));
}

static void sync_and_close(struct world *w)
{
    struct once o;

    for (int i = 0; i < FILES; i++) {
        struct actor *a = &w->actors[i];
        int err = WAIT(w, &o, hf_fs_fsync(a->file, &o.req));

        assert_true(err == 0 || w->errors_expected);
        a->errors += err != 0;
        hf_fs_release(a->file);
    }
}

static void what_is_written_is_read_now_and_from_a_cold_start(void **state)
{
    const char *more = getenv("HF_TEST_SEEDS");
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 3;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct world w;

        print_message("seed %llu\n", (unsigned long long)seed);
        world_init(&w, seed);
        run(&w, 250);
        sync_and_close(&w);
        fs_close(&w);
        fs_open(&w);
        for (int i = 0; i < FILES; i++) {
            assert_true(same_when_cold(&w, &w.actors[i]));
        }
        fs_close(&w);
        world_fini(&w);
    }
}

/* Puts that fail for a while lose nothing: an fsync may say so, the data still gets there. */
static void passing_put_failures_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 101; seed <= 102; seed++) {
        struct world w;
        struct once o;

        world_init(&w, seed);
        w.c->put_fail_one_in = 3;
        w.c->put_err = -EIO;
        w.c->commit_fail_one_in = 6;
        w.c->commit_err = -HF_ESTALE_EPOCH;
        for (int i = 0; i < FILES; i++) { /* plain writes: nothing whose failure is final */
            struct actor *a = &w.actors[i];

            for (int k = 0; k < 60; k++) {
                some_range(a, k % 4 ? 20000 : 1u << 20);
                assert_int_equal(
                    WAIT(&w, &o,
                         (model_write(a), hf_fs_write(a->file, a->off, a->bytes + a->off, a->len,
                                                      NULL, 0, &o.req))),
                    0);
                if (k % 7 == 0) {
                    (void)WAIT(&w, &o, hf_fs_fsync(a->file, &o.req));
                }
            }
        }
        w.c->put_fail_one_in = w.c->commit_fail_one_in = 0;
        w.errors_expected = true;
        sync_and_close(&w);
        hf_sim_run_ns(w.c->sim, 30 * HF_NS_PER_SEC);
        w.errors_expected = false;
        fs_close(&w);
        fs_open(&w);
        for (int i = 0; i < FILES; i++) {
            assert_true(same_when_cold(&w, &w.actors[i]));
        }
        fs_close(&w);
        world_fini(&w);
    }
}

/* Data that cannot be written is dropped, but never without a word to the file's owner. */
static void final_failures_are_reported_once_to_every_open_file(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_file *second;
    struct once o;
    uint8_t data[100000] = {1};

    (void)state;
    world_init(&w, 7);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    second = o.req.file;
    w.c->put_fail_one_in = 1;
    w.c->put_err = -ENOSPC;
    assert_int_equal(hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 1, &o.req)), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 1, &o.req)), 0);
    w.c->put_fail_one_in = 0;
    assert_int_equal(WAIT(&w, &o,
                          hf_fs_write(a->file, 0, data, sizeof(data), NULL, HF_FS_WRITE_THROUGH,
                                      &once(&o)->req)),
                     0);
    hf_fs_release(second);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void small_fsyncs_ride_in_the_commit(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    uint8_t data[4096] = {1};

    (void)state;
    world_init(&w, 8);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(
            hf_fs_write(a->file, i * 4096, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    }
    assert_int_equal(w.c->object_count, 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

/* Inline bytes of a window are bounded: then the rest goes as objects, and nothing is lost. */
static void a_log_with_many_fsyncs_outgrows_inline_bytes(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 17);
    for (uint64_t i = 0; i < 200; i++) {
        a->off = i * 1000;
        a->len = 1000;
        model_write(a);
        assert_int_equal(WAIT(&w, &o,
                              hf_fs_write(a->file, a->off, a->bytes + a->off, a->len, NULL,
                                          i % 3 ? 0 : HF_FS_WRITE_THROUGH, &o.req)),
                         0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    }
    assert_true(w.c->object_count > 0);
    sync_and_close(&w);
    fs_close(&w);
    fs_open(&w);
    assert_true(same_when_cold(&w, a));
    fs_close(&w);
    world_fini(&w);
}

/* So are its extents: then the window is written whole. */
static void a_window_of_too_many_extents_is_written_whole(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 18);
    for (uint32_t i = 0; i < 20000; i++) {
        a->off = 4u << 20 | (i * 7919u % 20000u) * 100u;
        a->len = 50;
        model_write(a);
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, a->off, a->bytes + a->off, 50, NULL, 0, &o.req)), 0);
        if (i % 1000 == 999) {
            assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        }
    }
    sync_and_close(&w);
    fs_close(&w);
    fs_open(&w);
    assert_true(same_when_cold(&w, a));
    fs_close(&w);
    world_fini(&w);
}

static void small_files_share_an_object_when_they_age(void **state)
{
    struct world w;
    struct once o;
    uint8_t data[5000] = {1};

    (void)state;
    world_init(&w, 9);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(
            hf_fs_write(w.actors[i].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    }
    hf_sim_run_ns(w.c->sim, 4 * HF_NS_PER_SEC);
    assert_int_equal(w.c->object_count, 0);
    hf_sim_run_ns(w.c->sim, 3 * HF_NS_PER_SEC);
    assert_int_equal(w.c->object_count, 1);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_sequential_writer_makes_whole_windows(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[1u << 20];

    (void)state;
    world_init(&w, 10);
    for (uint64_t off = 0; off < 32u << 20; off += sizeof(data)) {
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, off, data, sizeof(data), NULL, 0, &o.req)), 0);
    }
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(w.c->object_count, 8);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_full_cluster_says_so_at_write(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;
    static uint8_t data[100000];

    (void)state;
    world_init(&w, 11);
    w.c->budget_max = 50000;
    assert_int_equal(WAIT(&w, &o, hf_fs_write(a->file, 0, data, sizeof(data), NULL, 0, &o.req)),
                     -ENOSPC);
    for (int i = 0; i < 20; i++) { /* waits for flushes to give back what it needs */
        assert_int_equal(
            WAIT(&w, &o, hf_fs_write(a->file, (uint64_t)i * 40000, data, 40000, NULL, 0, &o.req)),
            0);
    }
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_lost_session_reports_on_every_file_and_holds_nothing(void **state)
{
    struct world w;
    struct once o;
    static uint8_t data[100000];
    struct hf_fs_stats stats;

    (void)state;
    world_init(&w, 12);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(
            hf_fs_write(w.actors[i].file, 0, data, sizeof(data), NULL, 0, &once(&o)->req), 0);
    }
    w.c->lost = true;
    hf_fs_session_lost(w.fs, -HF_EFENCED);
    for (int i = 0; i < FILES; i++) {
        for (int again = 0; again < 2; again++) {
            assert_int_equal(WAIT(&w, &o, hf_fs_fsync(w.actors[i].file, &o.req)), -EIO);
        }
        assert_int_equal(hf_fs_write(w.actors[i].file, 0, data, 1, NULL, 0, &once(&o)->req), -EIO);
        hf_fs_release(w.actors[i].file);
    }
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes + stats.flush_bytes, 0);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    hf_fs_shutdown(w.fs);
    hf_fs_free(w.fs);
    w.fs = NULL;
    world_fini(&w);
}

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
    count = hf_fs_open_inodes(w.fs, opens, HF_ARRAY_LEN(opens));
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

static uint64_t dirty_bytes(const struct world *w)
{
    struct hf_fs_stats stats;

    hf_fs_stats(w->fs, &stats);
    return stats.dirty_bytes + stats.flush_bytes;
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
    assert_false(hf_fs_file_mappable(read_only));
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    both = o.req.file;
    assert_true(hf_fs_file_mappable(read_only));
    hf_fs_release(both);
    assert_false(hf_fs_file_mappable(read_only));
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

static void a_waiting_lock_is_granted_later_or_interrupted(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock mine = {.owner = 1, .type = F_WRLCK}, other = {.owner = 2, .type = F_WRLCK};
    struct once o, p;

    (void)state;
    world_init(&w, 16);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &mine, false, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), -EAGAIN);
    assert_int_equal(hf_fs_setlk(w.fs, a->ino, &other, true, &once(&p)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_false(p.done);
    hf_fs_interrupt(&p.req);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_true(p.done && p.err == -EINTR);
    assert_int_equal(hf_fs_setlk(w.fs, a->ino, &other, true, &once(&p)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 1, &o.req)), 0); /* drops it */
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_true(p.done && p.err == 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void a_lock_taken_through_a_file_ends_with_it(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock mine = {.owner = 1, .type = F_WRLCK}, other = {.owner = 2, .type = F_WRLCK};
    struct hf_fs_file *second;
    struct once o;

    (void)state;
    world_init(&w, 21);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    second = o.req.file;
    mine.through = second; /* an open file description's lock: no flush names its owner */
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &mine, false, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 7, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), -EAGAIN);
    hf_fs_release(second);
    other.through = a->file;
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), 0);
    sync_and_close(&w);
    fs_close(&w);
    world_fini(&w);
}

static void quiet(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_fsyncs_ride_in_the_commit),
        cmocka_unit_test(a_log_with_many_fsyncs_outgrows_inline_bytes),
        cmocka_unit_test(a_window_of_too_many_extents_is_written_whole),
        cmocka_unit_test(small_files_share_an_object_when_they_age),
        cmocka_unit_test(a_sequential_writer_makes_whole_windows),
        cmocka_unit_test(a_full_cluster_says_so_at_write),
        cmocka_unit_test(final_failures_are_reported_once_to_every_open_file),
        cmocka_unit_test(a_lost_session_reports_on_every_file_and_holds_nothing),
        cmocka_unit_test(an_unlinked_files_dirty_data_is_not_written),
        cmocka_unit_test(attributes_have_names_of_known_namespaces),
        cmocka_unit_test(a_creation_opens_under_number_zero),
        cmocka_unit_test(what_is_held_without_a_name_keeps_its_attributes),
        cmocka_unit_test(a_rename_waits_for_the_data_of_what_moves),
        cmocka_unit_test(a_time_that_was_set_is_not_undone_by_the_flush),
        cmocka_unit_test(a_truncation_or_a_time_commits_what_is_dirty),
        cmocka_unit_test(pages_are_kept_only_when_no_other_mount_wrote),
        cmocka_unit_test(a_file_may_be_mapped_while_it_is_open_for_both),
        cmocka_unit_test(a_sync_of_everything_waits_for_all_of_it),
        cmocka_unit_test(a_sync_that_leaves_something_says_so),
        cmocka_unit_test(a_lock_taken_through_a_file_ends_with_it),
        cmocka_unit_test(a_waiting_lock_is_granted_later_or_interrupted),
        cmocka_unit_test(passing_put_failures_lose_nothing),
        cmocka_unit_test(what_is_written_is_read_now_and_from_a_cold_start),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
