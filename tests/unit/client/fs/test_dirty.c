/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/dirty.h"

#define FILE_BYTES (10u << 20)

/* What the map must be: for each byte whether and in what state it is there, and its value. */
struct model {
    uint8_t *value;
    uint8_t *state; /* 0 absent, 1 dirty, 2.. flush number */
};

struct fake_flush { /* stands for a struct hf_flush: only its address counts */
    struct hf_piece_list pieces;
    uint8_t *copy; /* the bytes as they were taken */
    bool open;
};

struct world {
    struct hf_bufpool *pool;
    struct hf_arena arena;
    struct hf_dirty dirty;
    struct model model;
    struct fake_flush flushes[6];
    uint64_t rng;
};

static uint64_t below(struct world *w, uint64_t end)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng % end;
}

static struct hf_flush *flush_at(struct world *w, int i)
{
    return (struct hf_flush *)(void *)&w->flushes[i];
}

static void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->rng = seed * 0x9e3779b97f4a7c15u + 1;
    assert_int_equal(hf_bufpool_new(8u << 20, 0, &w->pool), 0);
    hf_arena_init(&w->arena, w->pool);
    hf_dirty_init(&w->dirty);
    w->model.value = calloc(1, FILE_BYTES);
    w->model.state = calloc(1, FILE_BYTES);
    assert_non_null(w->model.value);
    assert_non_null(w->model.state);
}

static void world_fini(struct world *w)
{
    for (int i = 0; i < 6; i++) {
        hf_piece_list_fini(&w->flushes[i].pieces);
        free(w->flushes[i].copy);
    }
    hf_dirty_fini(&w->dirty);
    hf_arena_fini(&w->arena);
    assert_int_equal(hf_bufpool_used_bytes(w->pool), 0);
    hf_bufpool_free(w->pool);
    free(w->model.value);
    free(w->model.state);
}

static void some_range(struct world *w, uint64_t *off, uint32_t *len)
{
    static const uint32_t most[] = {1, 100, 4096, 5000, 65536, 1u << 20, 3u << 20};

    *len = 1 + (uint32_t)below(w, most[below(w, 7)]);
    *off = below(w, FILE_BYTES - *len);
    if (below(w, 2)) {
        *off &= ~UINT64_C(4095);
    }
}

static void write_some(struct world *w, bool adopt)
{
    uint64_t off;
    uint32_t len;
    uint8_t fill = (uint8_t)below(w, 256);

    some_range(w, &off, &len);
    for (uint32_t i = 0; i < len; i++) {
        w->model.value[off + i] = (uint8_t)(fill + i * 7);
    }
    if (adopt) {
        struct hf_buf *buf = hf_buf_get(w->pool, len + 80);
        struct hf_slab *slab;

        assert_non_null(buf);
        memcpy(buf->data + 80, w->model.value + off, len);
        slab = hf_arena_adopt(&w->arena, buf);
        assert_non_null(slab);
        assert_int_equal(hf_dirty_write_slab(&w->dirty, off, len, slab, 80), 0);
        hf_slab_unref(slab);
    } else {
        assert_int_equal(hf_dirty_write(&w->dirty, &w->arena, off, w->model.value + off, len), 0);
    }
    memset(w->model.state + off, 1, len);
}

static void take_some(struct world *w)
{
    int i = (int)below(w, 6);
    struct fake_flush *f = &w->flushes[i];
    uint64_t off, next, at = 0;
    uint32_t len;

    if (f->open) {
        return;
    }
    some_range(w, &off, &len);
    assert_int_equal(hf_dirty_take(&w->dirty, off, off + len, 1 + below(w, 4u << 20),
                                   1 + (uint32_t)below(w, 50), flush_at(w, i), &f->pieces, &next),
                     0);
    f->open = true;
    f->copy = malloc(FILE_BYTES);
    for (uint32_t k = 0; k < f->pieces.count; k++) {
        const struct hf_piece *p = &f->pieces.v[k];

        assert_true(p->off_bytes >= off && p->off_bytes + p->len_bytes <= off + len);
        assert_memory_equal(hf_slab_at(p->slab, p->pos_bytes), w->model.value + p->off_bytes,
                            p->len_bytes);
        for (uint32_t b = 0; b < p->len_bytes; b++) {
            assert_int_equal(w->model.state[p->off_bytes + b], 1);
        }
        memset(w->model.state + p->off_bytes, 2 + i, p->len_bytes);
        memcpy(f->copy + at, hf_slab_at(p->slab, p->pos_bytes), p->len_bytes);
        at += p->len_bytes;
    }
    for (uint64_t b = off; b < next && b < off + len; b++) { /* nothing was left behind */
        assert_int_not_equal(w->model.state[b], 1);
    }
}

static void settle_some(struct world *w)
{
    int i = (int)below(w, 6);
    struct fake_flush *f = &w->flushes[i];
    bool undo = below(w, 3) == 0;
    uint64_t at = 0;

    if (!f->open) {
        return;
    }
    for (uint32_t k = 0; k < f->pieces.count; k++) { /* what was lent has not changed */
        const struct hf_piece *p = &f->pieces.v[k];

        assert_memory_equal(hf_slab_at(p->slab, p->pos_bytes), f->copy + at, p->len_bytes);
        at += p->len_bytes;
    }
    for (uint64_t win = 0; win * HF_WINDOW_BYTES < FILE_BYTES; win++) {
        hf_dirty_settle(&w->dirty, win, flush_at(w, i), undo);
    }
    for (uint64_t b = 0; b < FILE_BYTES; b++) {
        if (w->model.state[b] == 2 + i) {
            w->model.state[b] = undo ? 1 : 0;
        }
    }
    hf_piece_list_fini(&f->pieces);
    free(f->copy);
    f->copy = NULL;
    f->open = false;
}

static void compare(struct world *w)
{
    struct hf_piece_list list = {0};
    uint64_t at = 0, end = 0, dirty = 0, busy = 0;

    hf_dirty_check_invariants(&w->dirty);
    assert_int_equal(hf_dirty_snapshot(&w->dirty, 0, FILE_BYTES, &list), 0);
    for (uint32_t k = 0; k < list.count; k++) {
        const struct hf_piece *p = &list.v[k];

        for (; at < p->off_bytes; at++) {
            assert_int_equal(w->model.state[at], 0);
        }
        assert_memory_equal(hf_slab_at(p->slab, p->pos_bytes), w->model.value + at, p->len_bytes);
        for (uint32_t b = 0; b < p->len_bytes; b++, at++) {
            assert_int_not_equal(w->model.state[at], 0);
        }
        end = at;
    }
    for (; at < FILE_BYTES; at++) {
        assert_int_equal(w->model.state[at], 0);
    }
    for (uint64_t b = 0; b < FILE_BYTES; b++) {
        dirty += w->model.state[b] == 1;
        busy += w->model.state[b] > 1;
    }
    hf_piece_list_fini(&list);
    assert_int_equal(hf_dirty_end(&w->dirty), end);
    assert_int_equal(w->dirty.dirty_bytes, dirty);
    assert_int_equal(w->dirty.busy_bytes, busy);
    for (int i = 0; i < 8; i++) {
        uint64_t off = below(w, FILE_BYTES), b = off;

        while (b < FILE_BYTES && w->model.state[b]) {
            b++;
        }
        assert_int_equal(hf_dirty_run_end(&w->dirty, off), b);
        for (b = off; b < FILE_BYTES && !w->model.state[b]; b++) {
        }
        assert_true(hf_dirty_next(&w->dirty, off) == (b < FILE_BYTES ? b : UINT64_MAX));
    }
}

static void the_map_is_the_model_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world w;

        world_init(&w, seed);
        for (int step = 0; step < 400; step++) {
            uint64_t off;
            uint32_t len;

            switch (below(&w, 8)) {
            case 0:
            case 1:
            case 2:
                write_some(&w, false);
                break;
            case 3:
                write_some(&w, true);
                break;
            case 4:
            case 5:
                take_some(&w);
                break;
            case 6:
                settle_some(&w);
                break;
            default:
                some_range(&w, &off, &len);
                assert_int_equal(hf_dirty_cut(&w.dirty, off, off + len), 0);
                memset(w.model.state + off, 0, len);
                break;
            }
            if (step % 5 == 0) {
                compare(&w);
            }
        }
        world_fini(&w);
    }
}

static void what_moves_is_all_there_and_the_rest_stays(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t from, to, span;
        uint8_t *value, *marks;
        struct world w;

        world_init(&w, seed);
        for (int step = 0; step < 12; step++) {
            write_some(&w, step % 3 == 0);
            if (step % 4 == 3) {
                take_some(&w);
            }
        }
        span = 1 + below(&w, FILE_BYTES / 2);
        from = below(&w, FILE_BYTES - span);
        to = below(&w, FILE_BYTES - span);
        assert_int_equal(hf_dirty_move(&w.dirty, from, from + span, to), 0);
        value = malloc(span);
        marks = malloc(span);
        assert_true(value && marks);
        memcpy(value, w.model.value + from, span);
        memcpy(marks, w.model.state + from, span);
        memset(w.model.state + from, 0, span);
        memcpy(w.model.value + to, value, span);
        memcpy(w.model.state + to, marks, span);
        free(value);
        free(marks);
        compare(&w);
        world_fini(&w);
    }
}

static void sequential_writes_become_one_range_a_slab(void **state)
{
    struct world w;
    uint8_t block[4096] = {1};

    (void)state;
    world_init(&w, 1);
    for (uint64_t off = 0; off < HF_WINDOW_BYTES; off += sizeof(block)) {
        assert_int_equal(hf_dirty_write(&w.dirty, &w.arena, off, block, sizeof(block)), 0);
    }
    assert_int_equal(w.dirty.count, 1);
    assert_int_equal(w.dirty.windows[0]->count, 4);
    assert_int_equal(w.dirty.windows[0]->dirty_bytes, HF_WINDOW_BYTES);
    assert_int_equal(w.arena.slab_count, 4);
    assert_int_equal(hf_window_run(w.dirty.windows[0], 0), HF_WINDOW_BYTES);
    world_fini(&w);
}

static void overwriting_in_place_takes_no_memory(void **state)
{
    struct world w;
    uint8_t block[4096] = {1};

    (void)state;
    world_init(&w, 1);
    for (int i = 0; i < 10000; i++) {
        block[0] = (uint8_t)i;
        assert_int_equal(hf_dirty_write(&w.dirty, &w.arena, 8192, block, sizeof(block)), 0);
    }
    assert_int_equal(w.arena.slab_count, 1);
    assert_int_equal(w.dirty.dirty_bytes, 4096);
    assert_int_equal(
        *hf_slab_at(w.dirty.windows[0]->ranges[0].slab, w.dirty.windows[0]->ranges[0].pos_bytes),
        (uint8_t)9999);
    world_fini(&w);
}

static void a_slab_nobody_refers_to_is_filled_again(void **state)
{
    struct world w;
    uint8_t block[4096] = {1};

    (void)state;
    world_init(&w, 1);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(hf_dirty_write(&w.dirty, &w.arena, 0, block, sizeof(block)), 0);
        assert_int_equal(hf_dirty_cut(&w.dirty, 0, 4096), 0);
    }
    assert_int_equal(w.arena.slab_count, 1);
    assert_int_equal(w.arena.current->used_bytes, 4096);
    world_fini(&w);
}

/* What was on its way out was cut first: had that failed, too, it would have been gone. */
static void a_write_without_memory_leaves_what_was_there(void **state)
{
    struct hf_bufpool *pool;
    struct hf_arena arena;
    struct hf_dirty dirty;
    struct fake_flush flush = {0};
    struct hf_flush *taker = (struct hf_flush *)(void *)&flush;
    uint8_t *bytes = malloc(HF_SLAB_BYTES);

    (void)state;
    assert_non_null(bytes);
    assert_int_equal(hf_bufpool_new(0, HF_SLAB_BYTES + HF_SLAB_BYTES / 2, &pool), 0);
    hf_arena_init(&arena, pool);
    hf_dirty_init(&dirty);
    memset(bytes, 'a', HF_SLAB_BYTES);
    assert_int_equal(hf_dirty_write(&dirty, &arena, 0, bytes, HF_SLAB_BYTES), 0);
    assert_int_equal(
        hf_dirty_take(&dirty, 0, HF_SLAB_BYTES, UINT64_MAX, 1, taker, &flush.pieces, NULL), 0);
    memset(bytes, 'b', HF_SLAB_BYTES);
    assert_int_equal(hf_dirty_write(&dirty, &arena, 100, bytes, 100), -ENOMEM);
    assert_int_equal(dirty.busy_bytes, HF_SLAB_BYTES);
    hf_piece_list_fini(&flush.pieces);
    hf_dirty_settle(&dirty, 0, taker, true);
    hf_dirty_check_invariants(&dirty);
    assert_int_equal(dirty.dirty_bytes, HF_SLAB_BYTES);
    hf_dirty_fini(&dirty);
    hf_arena_fini(&arena);
    hf_bufpool_free(pool);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_is_the_model_whatever_happens),
        cmocka_unit_test(what_moves_is_all_there_and_the_rest_stays),
        cmocka_unit_test(sequential_writes_become_one_range_a_slab),
        cmocka_unit_test(overwriting_in_place_takes_no_memory),
        cmocka_unit_test(a_slab_nobody_refers_to_is_filled_again),
        cmocka_unit_test(a_write_without_memory_leaves_what_was_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
