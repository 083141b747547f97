/* SPDX-License-Identifier: Apache-2.0 */
/* test_compact.c - windows that are written whole, and what else happens to them meanwhile. */
#include "server/meta/rows_format.h"
#include "tests/unit/client/fs/fs_world.h"

#define BASE        HF_WINDOW_BYTES /* of the window */
#define PIECE_BYTES 50u
#define SLOT_BYTES  100u /* a piece and what lies between it and the next */
#define SLOTS       20000u
#define PUNCHED     10000u /* from this slot on there are holes; nobody writes there again */

struct torn {
    struct world w;
    struct actor *a;
    uint32_t used; /* of its slots */
};

/* Whichever way they are written, neighbours do not become one extent. */
static uint64_t slot(uint32_t i)
{
    return BASE + (i * 7919u % SLOTS) * SLOT_BYTES;
}

static void write_piece(struct torn *t, uint64_t off)
{
    struct actor *a = t->a;
    struct once o;

    a->off = off;
    a->len = PIECE_BYTES;
    model_write(a);
    assert_int_equal(
        WAIT(&t->w, &o, hf_fs_write(a->file, off, a->bytes + off, a->len, NULL, 0, &o.req)), 0);
}

/* Pieces where none is yet. */
static void write_new(struct torn *t, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_true(t->used < SLOTS);
        write_piece(t, slot(t->used++));
    }
}

static void start_sync(struct torn *t, struct once *o)
{
    once(o);
    o->err = hf_fs_fsync(t->a->file, &o->req);
    o->done = o->err != HF_FS_PENDING;
}

static int finish(struct torn *t, struct once *o)
{
    return o->done ? o->err : wait_for(&t->w, o, HF_FS_PENDING);
}

static void sync_now(struct torn *t)
{
    struct once o;

    start_sync(t, &o);
    assert_int_equal(finish(t, &o), 0);
}

/* A window that has as many extents as a commit may leave. */
static void torn_init(struct torn *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    world_init(&t->w, seed);
    t->a = &t->w.actors[0];
    while (t->used < HF_WINDOW_EXTENTS_COMMIT) {
        write_new(t, 1024);
        sync_now(t);
    }
}

static void torn_fini(struct torn *t)
{
    sync_and_close(&t->w);
    fs_close(&t->w);
    fs_open(&t->w);
    assert_true(same_when_cold(&t->w, t->a));
    fs_close(&t->w);
    world_fini(&t->w);
}

/* The window is being read, its bytes are on their way. */
static void hold_the_read(struct torn *t, struct once *o)
{
    t->w.c->gets_held = true;
    write_new(t, 10);
    start_sync(t, o);
    hf_sim_run_ns(t->w.c->sim, 100 * HF_NS_PER_MS);
    assert_false(o->done);
}

static void what_is_committed_while_a_window_is_read_stays(void **state)
{
    struct torn t;
    struct once first, second;

    (void)state;
    torn_init(&t, 90);
    hold_the_read(&t, &first);
    for (uint32_t i = 0; i < 3; i++) {
        write_piece(&t, slot(i));
    }
    start_sync(&t, &second);
    hf_sim_run_ns(t.w.c->sim, 100 * HF_NS_PER_MS);
    t.w.c->gets_held = false;
    assert_int_equal(finish(&t, &first), 0);
    assert_int_equal(finish(&t, &second), 0);
    torn_fini(&t);
}

/* Both were submitted before the first was refused. */
static void commits_refused_together_are_both_made(void **state)
{
    struct torn t;
    struct once first, second, third;

    (void)state;
    torn_init(&t, 91);
    write_new(&t, 10);
    start_sync(&t, &first);
    write_new(&t, 10);
    start_sync(&t, &second);
    t.w.c->gets_held = true;
    hf_sim_run_ns(t.w.c->sim, 100 * HF_NS_PER_MS);
    write_new(&t, 10);
    start_sync(&t, &third);
    hf_sim_run_ns(t.w.c->sim, 100 * HF_NS_PER_MS);
    t.w.c->gets_held = false;
    assert_int_equal(finish(&t, &first), 0);
    assert_int_equal(finish(&t, &second), 0);
    assert_int_equal(finish(&t, &third), 0);
    torn_fini(&t);
}

/* A commit of several windows does not say which of them has too many. */
static void only_the_torn_one_of_a_commits_windows_is_written_whole(void **state)
{
    struct torn t;
    uint64_t objects;

    (void)state;
    torn_init(&t, 92);
    for (uint32_t i = 0; i < 700; i++) { /* too many to go inline */
        write_piece(&t, i * SLOT_BYTES);
        write_piece(&t, 2 * HF_WINDOW_BYTES + i * SLOT_BYTES);
    }
    sync_now(&t);
    objects = t.w.c->object_count;
    write_piece(&t, 700 * SLOT_BYTES);
    write_new(&t, 700);
    write_piece(&t, 2 * HF_WINDOW_BYTES + 700 * SLOT_BYTES);
    sync_now(&t);
    assert_int_equal(t.w.c->object_count, objects + 3); /* refused, the window, and again */
    torn_fini(&t);
}

/* What comes before a truncation does not come back behind it. */
static void a_truncation_waits_for_the_window(void **state)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = HF_WINDOW_BYTES + 300000};
    struct torn t;
    struct once o, cut;

    (void)state;
    torn_init(&t, 93);
    hold_the_read(&t, &o);
    assert_int_equal(hf_fs_setattr(t.w.fs, t.a->ino, &set, &once(&cut)->req), HF_FS_PENDING);
    memset(t.a->bytes + set.size, 0, t.a->size - set.size);
    t.a->size = set.size;
    t.w.c->put_fail_one_in = 1;
    t.w.c->put_err = -EIO;
    t.w.c->gets_held = false;
    assert_int_equal(finish(&t, &cut), 0);
    t.w.c->put_fail_one_in = 0;
    assert_int_equal(finish(&t, &o), -EIO);
    torn_fini(&t);
}

static void what_waits_for_a_window_survives_its_failure(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC, -HF_ESTALE_EPOCH};
    struct torn t;

    (void)state;
    torn_init(&t, 94);
    for (size_t i = 0; i < HF_ARRAY_LEN(errors); i++) {
        struct once o;

        hold_the_read(&t, &o);
        t.w.c->put_fail_one_in = errors[i] != -HF_ESTALE_EPOCH;
        t.w.c->commit_fail_one_in = errors[i] == -HF_ESTALE_EPOCH;
        t.w.c->put_err = t.w.c->commit_err = errors[i];
        t.w.c->gets_held = false;
        assert_int_equal(finish(&t, &o), errors[i]);
        t.w.c->put_fail_one_in = t.w.c->commit_fail_one_in = 0;
    }
    sync_now(&t);
    torn_fini(&t);
}

static void a_session_is_lost_while_a_window_is_written(void **state)
{
    struct torn t;
    struct once o;

    (void)state;
    torn_init(&t, 95);
    hold_the_read(&t, &o);
    t.w.c->lost = true;
    hf_fs_session_lost(t.w.fs, -HF_EFENCED);
    t.w.c->gets_held = false;
    assert_int_equal(finish(&t, &o), -EIO);
    for (int i = 0; i < FILES; i++) {
        hf_fs_release(t.w.actors[i].file);
    }
    hf_sim_run_ns(t.w.c->sim, HF_NS_PER_SEC);
    hf_fs_shutdown(t.w.fs);
    hf_fs_free(t.w.fs);
    t.w.fs = NULL;
    world_fini(&t.w);
}

/* Piece @i of those that nobody writes any more. */
static void start_punch(struct torn *t, struct once *o, uint32_t i)
{
    uint64_t off = slot(PUNCHED + i);

    once(o);
    memset(t->a->bytes + off, 0, off < t->a->size ? PIECE_BYTES : 0);
    o->err = hf_fs_fallocate(t->a->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
                             PIECE_BYTES, &o->req);
    o->done = o->err != HF_FS_PENDING;
}

/* It waited for one commit, and that behind it is refused before it goes. */
static void a_punch_does_not_go_into_a_window_that_is_being_written(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct torn t;
        struct once punch, sync;

        torn_init(&t, seed);
        t.w.c->delay_max_ns = 5 * HF_NS_PER_MS;
        t.w.c->op_delay_ns = 50 * HF_NS_PER_MS;
        t.w.c->gets_held = true;
        t.a->file->inode->no_inline = 2; /* both go as objects, at the same time */
        write_piece(&t, slot(0));
        start_punch(&t, &punch, 0);
        write_new(&t, 10);
        start_sync(&t, &sync);
        hf_sim_run_ns(t.w.c->sim, 250 * HF_NS_PER_MS);
        t.w.c->gets_held = false;
        assert_int_equal(finish(&t, &punch), 0);
        assert_int_equal(finish(&t, &sync), 0);
        torn_fini(&t);
    }
}

/* As many holes in pieces as make the window as full as it may be at all. */
static void tear_to_the_limit(struct torn *t)
{
    for (uint32_t i = 0; t->used + i < HF_WINDOW_EXTENTS_MAX; i++) {
        struct hf_meta_op op = {.op = HF_OP_PUNCH,
                                .session = t->w.c->session,
                                .stream = ++t->w.c->stream,
                                .ino = t->a->ino,
                                .offset = slot(i) + 10,
                                .length = 10};
        struct hf_meta_reply reply;

        fc_apply(t->w.c, &op, &reply);
        assert_int_equal(reply.err, 0);
        memset(t->a->bytes + op.offset, 0, op.length);
    }
}

static void start_zero(struct torn *t, struct once *o, uint32_t mode, uint64_t off, uint64_t len)
{
    once(o);
    memset(t->a->bytes + off, 0, len);
    o->err = hf_fs_fallocate(t->a->file, mode | FALLOC_FL_KEEP_SIZE, off, len, &o->req);
    o->done = o->err != HF_FS_PENDING;
}

static void holes_are_made_in_a_full_window(void **state)
{
    static const uint32_t modes[] = {FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(modes); i++) {
        struct torn t;
        struct once o;

        torn_init(&t, 100);
        tear_to_the_limit(&t);
        start_zero(&t, &o, modes[i], slot(5000) + 10, 10);
        assert_int_equal(finish(&t, &o), 0);
        start_zero(&t, &o, modes[i], slot(5001) + 10, HF_WINDOW_BYTES);
        assert_int_equal(finish(&t, &o), 0);
        torn_fini(&t);
    }
}

/* Whoever changes the file while its window is written whole for a hole goes behind that. */
static void others_wait_for_a_hole_in_a_full_window(void **state)
{
    const struct hf_fs_set set = {.mask = HF_SET_SIZE, .size = BASE + 600000};
    struct torn t;
    struct once hole, other, sync, cut;

    (void)state;
    torn_init(&t, 101);
    tear_to_the_limit(&t);
    t.w.c->gets_held = true;
    start_zero(&t, &hole, FALLOC_FL_PUNCH_HOLE, slot(5000) + 10, 10);
    hf_sim_run_ns(t.w.c->sim, 100 * HF_NS_PER_MS);
    start_zero(&t, &other, FALLOC_FL_ZERO_RANGE, slot(5001) + 10, 10);
    write_piece(&t, slot(0));
    start_sync(&t, &sync);
    once(&cut);
    memset(t.a->bytes + set.size, 0, t.a->size - set.size);
    t.a->size = set.size;
    assert_int_equal(hf_fs_setattr(t.w.fs, t.a->ino, &set, &cut.req), HF_FS_PENDING);
    hf_sim_run_ns(t.w.c->sim, 100 * HF_NS_PER_MS);
    assert_false(hole.done || other.done || sync.done || cut.done);
    t.w.c->gets_held = false;
    assert_int_equal(finish(&t, &hole), 0);
    assert_int_equal(finish(&t, &other), 0);
    assert_int_equal(finish(&t, &sync), 0);
    assert_int_equal(finish(&t, &cut), 0);
    torn_fini(&t);
}

static void a_hole_in_a_full_window_fails_as_its_rewriting_does(void **state)
{
    struct torn t;
    struct once o;

    (void)state;
    torn_init(&t, 102);
    tear_to_the_limit(&t);
    t.w.c->put_fail_one_in = 1;
    t.w.c->put_err = -ENOSPC;
    assert_int_equal(WAIT(&t.w, &o,
                          hf_fs_fallocate(t.a->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                          slot(5000) + 10, 10, &o.req)),
                     -ENOSPC);
    t.w.c->put_fail_one_in = 0;
    write_new(&t, 10);
    sync_now(&t);
    torn_fini(&t);
}

/* What is appended is one extent more. */
static void a_record_is_appended_to_a_full_window(void **state)
{
    struct torn t;
    struct once o;

    (void)state;
    torn_init(&t, 103);
    tear_to_the_limit(&t);
    for (uint32_t i = 0; i < 3; i++) {
        t.a->off = t.a->size;
        t.a->len = 3000;
        model_write(t.a);
        assert_int_equal(WAIT(&t.w, &o,
                              hf_fs_write(t.a->file, t.a->off, t.a->bytes + t.a->off, t.a->len,
                                          NULL, HF_FS_WRITE_APPEND, &o.req)),
                         0);
        sync_now(&t);
    }
    torn_fini(&t);
}

static void cut(struct torn *t)
{
    struct hf_fs_set set = {.mask = HF_SET_SIZE};
    uint64_t off = BASE + below(t->a, HF_WINDOW_BYTES);
    struct once o;

    memset(t->a->bytes + off, 0, FILE_BYTES - off);
    t->a->size = set.size = off < t->a->size ? off : t->a->size;
    assert_int_equal(WAIT(&t->w, &o, hf_fs_setattr(t->w.fs, t->a->ino, &set, &o.req)), 0);
}

/* Old pieces, some of them just now written, and new ones. */
static void write_some(struct torn *t)
{
    uint32_t old = (uint32_t)below(t->a, 60);

    for (uint32_t i = 0; i < old; i++) {
        write_piece(t, slot((uint32_t)below(t->a, i % 2 ? 50 : PUNCHED)));
    }
    write_new(t, (uint32_t)below(t->a, 90));
}

static void whatever_happens_to_a_torn_window_nothing_is_lost(void **state)
{
    const char *more = getenv("HF_TEST_SEEDS");
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 4;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct once calls[20];
        struct torn t;

        print_message("seed %llu\n", (unsigned long long)seed);
        torn_init(&t, seed);
        t.w.c->delay_max_ns = 3 * HF_NS_PER_MS;
        for (uint32_t i = 0; i < HF_ARRAY_LEN(calls); i++) {
            write_some(&t);
            if (below(t.a, 12) == 0) {
                cut(&t);
            }
            if (below(t.a, 3) == 0) {
                start_punch(&t, &calls[i], i);
            } else {
                start_sync(&t, &calls[i]);
            }
            hf_sim_run_ns(t.w.c->sim, below(t.a, 4 * HF_NS_PER_MS));
        }
        for (uint32_t i = 0; i < HF_ARRAY_LEN(calls); i++) {
            assert_int_equal(finish(&t, &calls[i]), 0);
        }
        torn_fini(&t);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_committed_while_a_window_is_read_stays),
        cmocka_unit_test(commits_refused_together_are_both_made),
        cmocka_unit_test(only_the_torn_one_of_a_commits_windows_is_written_whole),
        cmocka_unit_test(a_truncation_waits_for_the_window),
        cmocka_unit_test(what_waits_for_a_window_survives_its_failure),
        cmocka_unit_test(a_session_is_lost_while_a_window_is_written),
        cmocka_unit_test(a_punch_does_not_go_into_a_window_that_is_being_written),
        cmocka_unit_test(holes_are_made_in_a_full_window),
        cmocka_unit_test(others_wait_for_a_hole_in_a_full_window),
        cmocka_unit_test(a_hole_in_a_full_window_fails_as_its_rewriting_does),
        cmocka_unit_test(a_record_is_appended_to_a_full_window),
        cmocka_unit_test(whatever_happens_to_a_torn_window_nothing_is_lost),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
