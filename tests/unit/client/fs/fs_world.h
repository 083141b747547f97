/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_world.h - a mount over the real state machine and fake stores, with a byte model of its files.
 *
 * Actors, one per file, do one thing after another; files run at the same time, so flushes,
 * commits, reads and truncations of different files interleave in every way that chance finds.
 */
#ifndef TESTS_UNIT_CLIENT_FS_FS_WORLD_H
#define TESTS_UNIT_CLIENT_FS_FS_WORLD_H

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
    uint64_t told_ns;    /* the ctime that it was told since its last change; 0: none */
    struct hf_attr seen; /* by another mount, last */
    uint32_t changes_seen, times_seen; /* of the contents, of ctime with them */
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
    uint64_t next_ino; /* the cluster's, before a file was asked for */
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

static inline void act(struct actor *a);

static inline uint64_t below(struct actor *a, uint64_t end)
{
    return fc_below(a->w->c, end);
}

/* Another mount tells new contents, of which it saw a part or nothing, by a later ctime. (Only
 * commits of one simulated instant have the same.) */
static inline void look_elsewhere(struct actor *a)
{
    const struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = a->ino};
    struct hf_meta_reply reply;

    hf_sweep_hold();
    hf_meta_read(a->w->c->meta, &rd, &reply, a->w->c->look, FC_LOOK_BYTES);
    hf_sweep_release();
    if (reply.err == 0) {
        assert_true(reply.attr.ctime_ns >= a->seen.ctime_ns);
        if (reply.attr.data_version != a->seen.data_version) {
            a->changes_seen++;
            a->times_seen += reply.attr.ctime_ns > a->seen.ctime_ns;
        }
        a->seen = reply.attr;
    }
}

static inline void on_step(void *ctx)
{
    struct world *w = ctx;

    for (int i = 0; i < FILES && w->actors[i].ino.v; i++) {
        look_elsewhere(&w->actors[i]);
    }
    if (w->fs && w->events++ % 16 == 0) {
        hf_fs_check_invariants(w->fs);
    }
}

static inline void some_range(struct actor *a, uint32_t max)
{
    a->len = 1 + (uint32_t)below(a, max);
    a->off = below(a, FILE_BYTES - a->len);
    if (below(a, 2)) {
        a->off &= ~UINT64_C(4095);
    }
}

static inline void model_write(struct actor *a)
{
    uint8_t fill = (uint8_t)(1 + below(a, 255));

    for (uint32_t i = 0; i < a->len; i++) {
        a->bytes[a->off + i] = (uint8_t)(fill + (a->off + i) * 13);
    }
    if (a->off + a->len > a->size) {
        a->size = a->off + a->len;
    }
}

static inline int start_write(struct actor *a, uint32_t flags)
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

static inline int start_truncate(struct actor *a)
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

static inline int start_space(struct actor *a)
{
    static const uint32_t modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_ZERO_RANGE, 0, FALLOC_FL_KEEP_SIZE};
    const uint32_t zeroes = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    uint32_t mode = modes[below(a, HF_ARRAY_LEN(modes))];

    some_range(a, 3u << 20);
    for (uint32_t i = 0; i < a->len && a->off + i < a->size && (mode & zeroes); i++) {
        a->bytes[a->off + i] = 0;
    }
    if (!(mode & FALLOC_FL_KEEP_SIZE) && a->off + a->len > a->size) {
        a->size = a->off + a->len;
    }
    return hf_fs_fallocate(a->file, mode, a->off, a->len, &a->req);
}

static inline int start_clone(struct actor *a)
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

static inline void napped(void *ctx)
{
    act(ctx);
}

static inline bool changes(int what)
{
    return what != DO_READ && what != DO_READ_SEQ && what != DO_FSYNC && what != DO_FLUSH &&
           what != DO_GETATTR && what != DO_SEEK && what != DO_NAP && what != DO_RELEASE;
}

static inline int start(struct actor *a)
{
    a->told_ns = changes(a->what) ? 0 : a->told_ns;
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
        return start_space(a);
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

static inline void check_read(struct actor *a)
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

static inline void check_seek(struct actor *a, int err)
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

static inline void check_clone(struct actor *a, int err)
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

/* A program looks: what it is told stays, whatever of its data is committed meanwhile. */
static inline void check_told(struct actor *a)
{
    assert_true(a->told_ns == 0 || a->req.attr.ctime_ns == a->told_ns);
    a->told_ns = a->req.attr.ctime_ns;
    hf_fs_told(a->w->fs, &a->req.attr);
}

static inline void check(struct actor *a, int err)
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
        if (!tainted) {
            check_told(a);
        }
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

static inline void acted(struct hf_fs_req *req, int err)
{
    struct actor *a = req->ctx;

    check(a, err);
    hf_timer_arm(&a->nap, 1 + below(a, 20000));
}

static inline void act(struct actor *a)
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
    char data[64]; /* as much of it as there is room for: it is borrowed until done returns */
};

static inline void once_done(struct hf_fs_req *req, int err)
{
    struct once *once = req->ctx;

    once->done = true;
    once->err = err;
    if (req->data_len) {
        memcpy(once->data, req->data,
               req->data_len < sizeof(once->data) ? req->data_len : sizeof(once->data));
    }
}

static inline struct once *once(struct once *o)
{
    memset(o, 0, sizeof(*o));
    o->req.done = once_done;
    o->req.ctx = o;
    return o;
}

static inline int wait_for(struct world *w, struct once *o, int err)
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

static inline void fs_open(struct world *w)
{
    const struct hf_fs_options options = {.session = &fc_session,
                                          .io = &fc_io,
                                          .pool = w->c->pool,
                                          .dirty_max_bytes = 8u << 20,
                                          .dirty_target_bytes = 4u << 20};

    assert_int_equal(hf_fs_new(w->c->env, &options, &w->fs), 0);
}

static inline void fs_close(struct world *w)
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

static inline void world_init(struct world *w, uint64_t seed)
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

static inline bool all_done(void *ctx)
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
static inline bool same_when_cold(struct world *w, struct actor *a)
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

static inline void world_fini(struct world *w)
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

static inline void run(struct world *w, uint32_t steps)
{
    w->steps_max = steps;
    for (int i = 0; i < FILES; i++) {
        hf_timer_arm(&w->actors[i].nap, 1);
    }
    assert_true(hf_sim_run_until(w->c->sim, all_done, w, 36000 * HF_NS_PER_SEC));
}

static inline void sync_and_close(struct world *w)
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

/* The end of a world: all of it is committed, and reads as it should where nothing is known. */
static inline void end_cold(struct world *w, struct actor *a)
{
    sync_and_close(w);
    fs_close(w);
    fs_open(w);
    assert_true(same_when_cold(w, a));
    fs_close(w);
    world_fini(w);
}

static inline void quiet(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

#endif
