/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_window.c - what one entry gives up of a file's windows is bounded, however it is truncated.
 *
 * Windows come by clones of a template, 1,024 with one operation; each has 1,000 bytes.
 */
#include "tests/unit/server/meta/fixture.h"

#include "server/meta/rows_format.h"
#include "server/meta/window.h"

#define ROOT   HF_INO_ROOT
#define GIB    (UINT64_C(1) << 30)
#define WINDOW ((uint64_t)HF_WINDOW_BYTES)
#define BOUND  ((uint64_t)HF_TRUNCATE_WINDOWS)

static struct fx fx;
static struct fx_session s;
static uint64_t template, first_seq; /* its window i is object first_seq + i */

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 1);
    template = fx_mkfile(&fx, &s, ROOT, "template");
    first_seq = s.seq;
    for (uint64_t i = 0; i < BOUND; i++) {
        assert_int_equal(fx_write(&fx, &s, template, i * WINDOW, 1000), 0);
    }
    assert_int_equal(fx_truncate(&fx, &s, template, BOUND * WINDOW), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

/* @count windows from @window on are the template's first. */
static void fill(uint64_t ino, uint64_t window, uint64_t count)
{
    while (count > 0) {
        struct hf_meta_op op = {.op = HF_OP_CLONE,
                                .ino = {template},
                                .ino2 = {ino},
                                .offset2 = window * WINDOW,
                                .length = (count < BOUND ? count : BOUND) * WINDOW};

        assert_int_equal(fx_do(&fx, &s, &op), 0);
        window += op.length / WINDOW;
        count -= op.length / WINDOW;
    }
}

/* As the leader logs it. */
static int cut(uint64_t ino, uint64_t size)
{
    struct hf_meta_op op = {.op = HF_OP_SETATTR,
                            .ino = {ino},
                            .mask = HF_SET_SIZE | HF_SET_MODE,
                            .mode = 0640,
                            .size = size,
                            .flags = HF_TRUNCATE_BOUNDED};

    return fx_do(&fx, &s, &op);
}

static void purge(uint64_t ino, uint64_t count)
{
    struct hf_meta_op op = {.op = HF_OP_PURGE, .ino = {ino}, .count = count};

    assert_int_equal(fx_apply(&fx, &op), 0);
}

static void purge_all(uint64_t ino)
{
    while (fx_usage(&fx).purging) {
        purge(ino, 700);
        fx_fsck(&fx);
    }
}

static uint64_t rows(uint64_t ino)
{
    uint64_t count = 0;

    for (uint64_t at = 0;
         hf_window_next(fx.r[0].meta, (struct hf_ino){ino}, at, UINT64_MAX, &at) == 0; at++) {
        count++;
    }
    return count;
}

/* The windows that a reader sees, one extent each: their objects, and how long they are. */
static uint64_t shown(uint64_t ino, uint64_t *seqs, uint32_t *lens, uint64_t max)
{
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {ino}};
    uint64_t all = 0;

    for (; rd.offset < HF_FILE_BYTES_MAX; rd.offset = fx.reply.next_cookie) {
        struct hf_extent *extents;
        const uint8_t *in_line;
        size_t in_line_len;
        uint32_t count;

        rd.length = HF_FILE_BYTES_MAX - rd.offset;
        assert_int_equal(fx_read(&fx, &rd), 0);
        assert_int_equal(hf_extents_decode(fx.reply.bulk, fx.reply.bulk_len, &extents, &count,
                                           &in_line, &in_line_len),
                         0);
        for (uint32_t i = 0; i < count && seqs; i++) {
            uint64_t window = extents[i].off_bytes / WINDOW;

            assert_true(window < max && extents[i].off_bytes % WINDOW == 0);
            seqs[window] = extents[i].oid.seq;
            lens[window] = extents[i].len_bytes;
        }
        all += count;
        free(extents);
    }
    return all;
}

static uint64_t seen(uint64_t ino)
{
    return shown(ino, NULL, NULL, 0);
}

static void a_second_cut_joins_the_tail(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");

    (void)state;
    fill(ino, 0, 3 * BOUND);
    assert_int_equal(cut(ino, 0), 0);
    purge(ino, 1000);
    assert_int_equal(fx_truncate(&fx, &s, ino, 1024 * GIB), 0);
    fill(ino, 5, 50); /* before what is left of the tail */
    fill(ino, 2000, 50);
    assert_int_equal(rows(ino), 3 * BOUND - 1000 + 50);
    assert_int_equal(seen(ino), 100);
    assert_int_equal(cut(ino, 10 * WINDOW + 500), 0);
    assert_int_equal(rows(ino), 3 * BOUND - 1000 + 50); /* nothing went yet */
    assert_int_equal(seen(ino), 6);
    assert_int_equal(fx_attr(&fx, ino).size, 10 * WINDOW + 500);
    assert_int_equal(fx_truncate(&fx, &s, ino, 2048 * GIB), 0);
    assert_int_equal(seen(ino), 6);
    fill(ino, 1500, 20);
    assert_int_equal(cut(ino, 3000 * WINDOW), 0); /* little is behind it */
    assert_int_equal(seen(ino), 26);
    fx_fsck(&fx);
    purge_all(ino);
    assert_int_equal(seen(ino), 26);
    assert_int_equal(rows(ino), 26);
    assert_int_equal(fx_attr(&fx, ino).bytes, 25 * 1000 + 500);
}

static void cut_again_and_again_without_a_purge(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");

    (void)state;
    for (uint64_t i = 0; i < 5; i++) {
        fill(ino, i * 2 * BOUND, 2 * BOUND);
        assert_int_equal(seen(ino), 2 * BOUND);
        assert_int_equal(cut(ino, 0), 0);
        assert_int_equal(rows(ino), (i + 1) * 2 * BOUND);
        assert_int_equal(fx_truncate(&fx, &s, ino, 1024 * GIB), 0);
        assert_int_equal(seen(ino), 0);
        assert_int_equal(fx_usage(&fx).purging, 1);
    }
    fill(ino, BOUND, 3);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "f", 0), 0);
    purge_all(ino);
    assert_int_equal(fx_usage(&fx).inodes, 2);
}

/* Behind the start of the tail: by what it takes to leave nothing of it before the cut. */
static void a_cut_within_the_tail_takes_bounded_work(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");

    (void)state;
    fill(ino, 0, 3 * BOUND);
    assert_int_equal(cut(ino, 0), 0);
    assert_int_equal(fx_truncate(&fx, &s, ino, 1024 * GIB), 0);
    fill(ino, 5000, 30);
    assert_int_equal(cut(ino, 4000 * WINDOW), 0); /* few rows behind it: they go */
    assert_int_equal(rows(ino), 3 * BOUND);
    assert_int_equal(seen(ino), 0);
    purge(ino, 2900);
    fill(ino, 2950, 10);
    fill(ino, 3000, 3 * BOUND);
    assert_int_equal(seen(ino), 3 * BOUND + 10);
    assert_int_equal(cut(ino, 3000 * WINDOW), 0); /* few before it */
    assert_int_equal(seen(ino), 10);
    assert_true(rows(ino) >= 2 * BOUND + 10);
    fx_fsck(&fx);
    purge_all(ino);
    assert_int_equal(rows(ino), 10);
}

static void a_cut_within_a_long_tail_waits_for_its_purge(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_attr before, after;

    (void)state;
    fill(ino, 0, 3 * BOUND);
    assert_int_equal(cut(ino, 0), 0);
    fill(ino, 3 * BOUND, 2 * BOUND);
    before = fx_attr(&fx, ino);
    assert_int_equal(cut(ino, 2000 * WINDOW), -EAGAIN);
    after = fx_attr(&fx, ino);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(rows(ino), 5 * BOUND);
    assert_int_equal(seen(ino), 2 * BOUND);
    fx_fsck(&fx);
    purge(ino, 1000);
    assert_int_equal(cut(ino, 2000 * WINDOW), 0);
    assert_int_equal(seen(ino), 0);
    assert_int_equal(fx_attr(&fx, ino).size, 2000 * WINDOW);
    assert_true(rows(ino) >= 2 * BOUND);
    purge_all(ino);
    assert_int_equal(rows(ino), 0);
}

/* Replicas that replay the log of an earlier leader come to the state that the others have. */
static void entries_of_earlier_leaders_do_all_at_once(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op punch = {.op = HF_OP_PUNCH, .ino = {ino}, .length = HF_FILE_BYTES_MAX};

    (void)state;
    fill(ino, 0, 3 * BOUND);
    assert_int_equal(cut(ino, 0), 0);
    assert_int_equal(fx_truncate(&fx, &s, ino, 1024 * GIB), 0);
    assert_int_equal(rows(ino), 3 * BOUND);
    assert_int_equal(fx_truncate(&fx, &s, ino, 0), 0);
    assert_int_equal(rows(ino), 0);
    assert_int_equal(fx_usage(&fx).purging, 1); /* and is found to have nothing to do */
    purge_all(ino);
    fill(ino, 7, 3 * BOUND);
    assert_int_equal(fx_do(&fx, &s, &punch), 0);
    assert_int_equal(rows(ino), 0);
}

/* Random changes against an array of windows. */

#define WINDOWS 6000u

static uint64_t rng, want_seqs[WINDOWS], seqs[WINDOWS];
static uint32_t want_lens[WINDOWS], lens[WINDOWS];
static uint64_t want_size;

static uint64_t rnd(uint64_t n)
{
    rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (rng >> 33) % n;
}

static void forget(uint64_t window, uint64_t end)
{
    for (; window < end; window++) {
        want_seqs[window] = 0;
        want_lens[window] = 0;
    }
}

static void some_fill(uint64_t ino)
{
    uint64_t count = 1 + rnd(rnd(2) ? 10 : BOUND), window = rnd(WINDOWS - count);

    fill(ino, window, count);
    for (uint64_t i = 0; i < count; i++) {
        want_seqs[window + i] = first_seq + i;
        want_lens[window + i] = 1000;
    }
    want_size = (window + count) * WINDOW > want_size ? (window + count) * WINDOW : want_size;
}

static void some_punch(uint64_t ino)
{
    uint64_t count = 1 + rnd(rnd(2) ? 10 : BOUND), window = rnd(WINDOWS - count);
    struct hf_meta_op op = {
        .op = HF_OP_PUNCH, .ino = {ino}, .offset = window * WINDOW, .length = count * WINDOW};

    assert_int_equal(fx_do(&fx, &s, &op), 0);
    forget(window, window + count);
}

/* Was it refused for now? */
static bool some_cut(uint64_t ino)
{
    uint64_t window = rnd(3) ? rnd(WINDOWS - 1) : rnd(3) * 1000, before = rows(ino);
    uint64_t size = window * WINDOW + rnd(2) * 500;
    int err = cut(ino, size);

    assert_true(before - rows(ino) <= 2 * BOUND + 1);
    if (err) {
        assert_int_equal(err, -EAGAIN);
        assert_true(size < want_size && fx_usage(&fx).purging == 1);
        return true;
    }
    if (size < want_size) {
        if (size % WINDOW && want_lens[window] > 500) {
            want_lens[window] = 500;
        }
        forget(hf_windows(size), WINDOWS);
    }
    want_size = size;
    return false;
}

static void compare(uint64_t ino)
{
    memset(seqs, 0, sizeof(seqs));
    memset(lens, 0, sizeof(lens));
    (void)shown(ino, seqs, lens, WINDOWS);
    assert_memory_equal(seqs, want_seqs, sizeof(seqs));
    assert_memory_equal(lens, want_lens, sizeof(lens));
    assert_int_equal(fx_attr(&fx, ino).size, want_size);
}

static void random_cuts_match_a_plain_array(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    uint32_t later = 0;

    (void)state;
    rng = 1;
    want_size = 0;
    forget(0, WINDOWS);
    for (uint32_t step = 0; step < 600; step++) {
        switch (rnd(10)) {
        case 0:
            some_punch(ino);
            break;
        case 1:
            purge(ino, 1 + rnd(rnd(2) ? 10 : 1000));
            break;
        case 2:
        case 3:
            later += some_cut(ino);
            break;
        default:
            some_fill(ino);
            break;
        }
        compare(ino);
        if (step % 20 == 0) {
            fx_fsck(&fx);
        }
    }
    assert_true(later > 0);
    purge_all(ino);
    compare(ino);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_second_cut_joins_the_tail),
        T(cut_again_and_again_without_a_purge),
        T(a_cut_within_the_tail_takes_bounded_work),
        T(a_cut_within_a_long_tail_waits_for_its_purge),
        T(entries_of_earlier_leaders_do_all_at_once),
        T(random_cuts_match_a_plain_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
