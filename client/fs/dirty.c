/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"

#define WINDOW_OFF(off)   ((uint32_t)((off) % HF_WINDOW_BYTES))
#define WINDOW_INDEX(off) ((off) / HF_WINDOW_BYTES)

/* Makes room for one more of *v. */
static int grow(void **v, uint32_t *cap, uint32_t count, size_t size)
{
    uint32_t more = *cap ? *cap * 2 : 4;
    void *p;

    if (count < *cap) {
        return 0;
    }
    p = realloc(*v, more * size);
    if (!p) {
        return -ENOMEM;
    }
    *v = p;
    *cap = more;
    return 0;
}

void hf_piece_list_fini(struct hf_piece_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        hf_slab_unref(list->v[i].slab);
    }
    free(list->v);
    *list = (struct hf_piece_list){0};
}

static int piece_add(struct hf_piece_list *list, const struct hf_window *w,
                     const struct hf_range *r, uint32_t from, uint32_t to)
{
    if (grow((void **)&list->v, &list->cap, list->count, sizeof(*list->v))) {
        return -ENOMEM;
    }
    list->v[list->count++] = (struct hf_piece){
        .off_bytes = w->index * HF_WINDOW_BYTES + from,
        .len_bytes = to - from,
        .pos_bytes = r->pos_bytes + (from - r->off_bytes),
        .slab = hf_slab_ref(r->slab),
    };
    return 0;
}

/* Windows */

/* Index of the first window >= @index. */
static uint32_t window_find(const struct hf_dirty *d, uint64_t index)
{
    uint32_t lo = 0, hi = d->count;

    if (hi > 0 && d->windows[hi - 1]->index < index) {
        return hi; /* appending, mostly */
    }
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (d->windows[mid]->index < index) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct hf_window *hf_dirty_window(const struct hf_dirty *d, uint64_t index)
{
    uint32_t i = window_find(d, index);

    return i < d->count && d->windows[i]->index == index ? d->windows[i] : NULL;
}

static struct hf_window *window_get(struct hf_dirty *d, uint64_t index)
{
    uint32_t i = window_find(d, index);
    struct hf_window *w;

    if (i < d->count && d->windows[i]->index == index) {
        return d->windows[i];
    }
    if (grow((void **)&d->windows, &d->cap, d->count, sizeof(*d->windows))) {
        return NULL;
    }
    w = calloc(1, sizeof(*w));
    if (!w) {
        return NULL;
    }
    w->index = index;
    memmove(&d->windows[i + 1], &d->windows[i], (d->count - i) * sizeof(*d->windows));
    d->windows[i] = w;
    d->count++;
    return w;
}

static void window_drop_if_empty(struct hf_dirty *d, struct hf_window *w)
{
    uint32_t i;

    if (w->count > 0) {
        return;
    }
    HF_ASSERT(w->dirty_bytes == 0 && w->busy_bytes == 0);
    i = window_find(d, w->index);
    d->count--;
    memmove(&d->windows[i], &d->windows[i + 1], (d->count - i) * sizeof(*d->windows));
    free(w->ranges);
    free(w);
}

/* Ranges of a window */

/* Index of the first range that ends after @off. */
static uint32_t range_find(const struct hf_window *w, uint32_t off)
{
    uint32_t lo = 0, hi = w->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (w->ranges[mid].off_bytes + w->ranges[mid].len_bytes <= off) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void count_bytes(struct hf_dirty *d, struct hf_window *w, const struct hf_flush *flush,
                        uint32_t len, bool add)
{
    if (flush) {
        w->busy_bytes += add ? len : -len;
        d->busy_bytes += add ? (uint64_t)len : -(uint64_t)len;
    } else {
        w->dirty_bytes += add ? len : -len;
        d->dirty_bytes += add ? (uint64_t)len : -(uint64_t)len;
    }
}

static int range_insert(struct hf_window *w, uint32_t i, const struct hf_range *r)
{
    if (grow((void **)&w->ranges, &w->cap, w->count, sizeof(*w->ranges))) {
        return -ENOMEM;
    }
    memmove(&w->ranges[i + 1], &w->ranges[i], (w->count - i) * sizeof(*w->ranges));
    w->ranges[i] = *r;
    w->count++;
    return 0;
}

static void range_delete(struct hf_window *w, uint32_t i, uint32_t n)
{
    w->count -= n;
    if (n > 0) {
        memmove(&w->ranges[i], &w->ranges[i + n], (w->count - i) * sizeof(*w->ranges));
    }
}

/* Cut range @i in two at @at, which is inside of it. */
static int range_split(struct hf_window *w, uint32_t i, uint32_t at)
{
    struct hf_range right = w->ranges[i];
    uint32_t head = at - right.off_bytes;

    HF_ASSERT(head > 0 && head < right.len_bytes);
    right.off_bytes += head;
    right.pos_bytes += head;
    right.len_bytes -= head;
    if (range_insert(w, i + 1, &right)) {
        return -ENOMEM;
    }
    hf_slab_ref(right.slab);
    w->ranges[i].len_bytes = head;
    return 0;
}

/* Make @off a boundary: no range has it inside. *ret: first range at or after it. */
static int boundary(struct hf_window *w, uint32_t off, uint32_t *ret)
{
    uint32_t i = range_find(w, off);

    if (i < w->count && w->ranges[i].off_bytes < off) {
        if (range_split(w, i, off)) {
            return -ENOMEM;
        }
        i++;
    }
    *ret = i;
    return 0;
}

static int window_cut(struct hf_dirty *d, struct hf_window *w, uint32_t from, uint32_t to)
{
    uint32_t a, b;

    if (boundary(w, from, &a) || boundary(w, to, &b)) {
        return -ENOMEM;
    }
    for (uint32_t i = a; i < b; i++) {
        count_bytes(d, w, w->ranges[i].flush, w->ranges[i].len_bytes, false);
        hf_slab_unref(w->ranges[i].slab);
    }
    range_delete(w, a, b - a);
    return 0;
}

/* Ranges i - 1 and i become one where they can. */
static void range_merge(struct hf_window *w, uint32_t i)
{
    struct hf_range *l, *r;

    if (i == 0 || i >= w->count) {
        return;
    }
    l = &w->ranges[i - 1];
    r = &w->ranges[i];
    if (l->flush || r->flush || l->slab != r->slab || l->off_bytes + l->len_bytes != r->off_bytes ||
        l->pos_bytes + l->len_bytes != r->pos_bytes) {
        return;
    }
    l->len_bytes += r->len_bytes;
    hf_slab_unref(r->slab);
    range_delete(w, i, 1);
}

/* Put a DIRTY range into the (empty) place at [off, off + len); consumes the slab's reference. */
static int window_place(struct hf_dirty *d, struct hf_window *w, uint32_t off, uint32_t len,
                        struct hf_slab *slab, uint32_t pos)
{
    uint32_t i = range_find(w, off);
    struct hf_range r = {.off_bytes = off, .len_bytes = len, .pos_bytes = pos, .slab = slab};

    if (i > 0) {
        struct hf_range *l = &w->ranges[i - 1];

        if (!l->flush && l->slab == slab && l->off_bytes + l->len_bytes == off &&
            l->pos_bytes + l->len_bytes == pos) {
            l->len_bytes += len;
            hf_slab_unref(slab);
            count_bytes(d, w, NULL, len, true);
            range_merge(w, i);
            return 0;
        }
    }
    if (range_insert(w, i, &r)) {
        hf_slab_unref(slab);
        return -ENOMEM;
    }
    count_bytes(d, w, NULL, len, true);
    range_merge(w, i + 1);
    return 0;
}

/* Likewise, instead of what is there. Errors: -ENOMEM (that stays). */
static int window_put(struct hf_dirty *d, struct hf_window *w, uint32_t off, uint32_t len,
                      struct hf_slab *slab, uint32_t pos)
{
    /* room for two more first: a range may be split in three, or its both neighbours in two */
    int err = grow((void **)&w->ranges, &w->cap, w->count + 1, sizeof(*w->ranges));

    err = err ? err : window_cut(d, w, off, off + len);
    if (err) {
        hf_slab_unref(slab);
        return err;
    }
    return window_place(d, w, off, len, slab, pos);
}

/* Writing */

/* New bytes for [from, to) of the window, where no DIRTY range is. */
static int window_fill(struct hf_dirty *d, struct hf_window *w, struct hf_arena *arena,
                       uint32_t from, uint32_t to, const uint8_t *data)
{
    while (from < to) {
        struct hf_slab *slab;
        uint32_t pos, n;
        int err = hf_arena_append(arena, data, to - from, &slab, &pos, &n);

        err = err ? err : window_put(d, w, from, n, slab, pos);
        if (err) {
            return err;
        }
        from += n;
        data += n;
    }
    return 0;
}

static int window_write(struct hf_dirty *d, struct hf_window *w, struct hf_arena *arena,
                        uint32_t off, const uint8_t *data, uint32_t len)
{
    uint32_t end = off + len;

    while (off < end) {
        uint32_t i = range_find(w, off);
        const struct hf_range *r = i < w->count ? &w->ranges[i] : NULL;
        uint32_t to = end;
        int err;

        if (r && r->off_bytes <= off &&
            (!r->flush || HF_BUG(busy_written_in_place))) { /* in place */
            uint32_t r_end = r->off_bytes + r->len_bytes;

            to = r_end < end ? r_end : end;
            memcpy(hf_slab_at(r->slab, r->pos_bytes + (off - r->off_bytes)), data, to - off);
        } else { /* up to the next DIRTY range */
            for (; i < w->count && w->ranges[i].off_bytes < end; i++) {
                if (!w->ranges[i].flush) {
                    to = w->ranges[i].off_bytes;
                    break;
                }
            }
            err = window_fill(d, w, arena, off, to, data);
            if (err) {
                return err;
            }
        }
        data += to - off;
        off = to;
    }
    return 0;
}

int hf_dirty_write(struct hf_dirty *d, struct hf_arena *arena, uint64_t off, const void *data,
                   uint32_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        uint32_t left = HF_WINDOW_BYTES - WINDOW_OFF(off);
        uint32_t n = len < left ? len : left;
        struct hf_window *w = window_get(d, WINDOW_INDEX(off));
        int err = w ? window_write(d, w, arena, WINDOW_OFF(off), p, n) : -ENOMEM;

        if (w) {
            window_drop_if_empty(d, w);
        }
        if (err) {
            return err;
        }
        off += n;
        p += n;
        len -= n;
    }
    return 0;
}

int hf_dirty_write_slab(struct hf_dirty *d, uint64_t off, uint32_t len, struct hf_slab *slab,
                        uint32_t pos)
{
    while (len > 0) {
        uint32_t left = HF_WINDOW_BYTES - WINDOW_OFF(off);
        uint32_t n = len < left ? len : left;
        struct hf_window *w = window_get(d, WINDOW_INDEX(off));
        int err = w ? window_put(d, w, WINDOW_OFF(off), n, hf_slab_ref(slab), pos) : -ENOMEM;

        if (w) {
            window_drop_if_empty(d, w);
        }
        if (err) {
            return err;
        }
        off += n;
        pos += n;
        len -= n;
    }
    return 0;
}

int hf_dirty_cut(struct hf_dirty *d, uint64_t off, uint64_t end)
{
    uint32_t i = window_find(d, WINDOW_INDEX(off));

    while (off < end && i < d->count) {
        struct hf_window *w = d->windows[i];
        uint64_t base = w->index * HF_WINDOW_BYTES;
        uint32_t before = d->count;

        if (base >= end) {
            break;
        }
        if (window_cut(d, w, off > base ? (uint32_t)(off - base) : 0,
                       end - base < HF_WINDOW_BYTES ? (uint32_t)(end - base) : HF_WINDOW_BYTES)) {
            return -ENOMEM;
        }
        window_drop_if_empty(d, w);
        i += before == d->count;
    }
    return 0;
}

/* Moving: a new map of all that stays and what moves */

struct moved {
    uint64_t off_bytes; /* in the file */
    struct hf_range range;
};

struct moves {
    struct moved *v;
    uint32_t count, cap;
};

/* What is in [off, end), @shift further on. */
static int moves_add(struct moves *moves, const struct hf_dirty *d, uint64_t off, uint64_t end,
                     uint64_t shift)
{
    for (uint32_t k = window_find(d, WINDOW_INDEX(off)); k < d->count && off < end; k++) {
        const struct hf_window *w = d->windows[k];
        uint64_t base = w->index * HF_WINDOW_BYTES;

        for (uint32_t i = off > base ? range_find(w, (uint32_t)(off - base)) : 0;
             i < w->count && base + w->ranges[i].off_bytes < end; i++) {
            struct moved m = {base + w->ranges[i].off_bytes, w->ranges[i]};
            uint64_t stop = m.off_bytes + m.range.len_bytes;
            uint32_t head = off > m.off_bytes ? (uint32_t)(off - m.off_bytes) : 0;

            if (grow((void **)&moves->v, &moves->cap, moves->count, sizeof(*moves->v))) {
                return -ENOMEM;
            }
            m.off_bytes += head;
            m.range.pos_bytes += head;
            m.range.len_bytes = (uint32_t)((stop < end ? stop : end) - m.off_bytes);
            m.off_bytes += shift;
            moves->v[moves->count++] = m;
        }
    }
    return 0;
}

static int moved_cmp(const void *a, const void *b)
{
    const struct moved *l = a, *r = b;

    return (l->off_bytes > r->off_bytes) - (l->off_bytes < r->off_bytes);
}

/* At the end of the map, by windows. */
static int moved_put(struct hf_dirty *d, const struct moved *m)
{
    struct hf_range r = m->range;
    uint64_t off = m->off_bytes;
    uint32_t left = r.len_bytes;

    while (left > 0) {
        struct hf_window *w = window_get(d, WINDOW_INDEX(off));
        uint32_t room = HF_WINDOW_BYTES - WINDOW_OFF(off);

        r.off_bytes = WINDOW_OFF(off);
        r.len_bytes = left < room ? left : room;
        if (!w || range_insert(w, w->count, &r)) {
            return -ENOMEM; /* the window may be empty: the map is dropped */
        }
        (void)hf_slab_ref(r.slab);
        count_bytes(d, w, r.flush, r.len_bytes, true);
        r.pos_bytes += r.len_bytes;
        off += r.len_bytes;
        left -= r.len_bytes;
    }
    return 0;
}

int hf_dirty_move(struct hf_dirty *d, uint64_t from, uint64_t end, uint64_t to)
{
    uint64_t to_end = to + (end - from);
    uint64_t low = from < to ? from : to, low_end = from < to ? end : to_end;
    uint64_t high = from < to ? to : from, high_end = from < to ? to_end : end;
    struct moves moves = {0};
    struct hf_dirty whole = {0};
    int err = moves_add(&moves, d, 0, low, 0);

    if (!err) {
        err = moves_add(&moves, d, low_end, high, 0);
    }
    if (!err) {
        err = moves_add(&moves, d, high_end, UINT64_MAX, 0);
    }
    if (!err) {
        err = moves_add(&moves, d, from, end, to - from);
    }
    if (!err && moves.count > 0) {
        qsort(moves.v, moves.count, sizeof(*moves.v), moved_cmp);
    }
    for (uint32_t i = 0; i < moves.count && !err; i++) {
        err = moved_put(&whole, &moves.v[i]);
    }
    free(moves.v);
    if (err) {
        hf_dirty_fini(&whole);
        return err;
    }
    hf_dirty_fini(d);
    *d = whole;
    return 0;
}

/* Reading and flushing */

int hf_dirty_snapshot(const struct hf_dirty *d, uint64_t off, uint64_t end,
                      struct hf_piece_list *list)
{
    for (uint32_t k = window_find(d, WINDOW_INDEX(off)); k < d->count; k++) {
        const struct hf_window *w = d->windows[k];
        uint64_t base = w->index * HF_WINDOW_BYTES;
        uint32_t from = off > base ? (uint32_t)(off - base) : 0, to;

        if (base >= end) {
            break;
        }
        to = end - base < HF_WINDOW_BYTES ? (uint32_t)(end - base) : HF_WINDOW_BYTES;
        for (uint32_t i = range_find(w, from); i < w->count && w->ranges[i].off_bytes < to; i++) {
            const struct hf_range *r = &w->ranges[i];
            uint32_t r_end = r->off_bytes + r->len_bytes;

            if (piece_add(list, w, r, r->off_bytes > from ? r->off_bytes : from,
                          r_end < to ? r_end : to)) {
                return -ENOMEM;
            }
        }
    }
    return 0;
}

/* Takes from [from, to) of a window; *left: bytes still wanted. *ret_next: where it stopped. */
static int window_take(struct hf_dirty *d, struct hf_window *w, uint32_t from, uint32_t to,
                       uint64_t *left, uint32_t max_pieces, struct hf_flush *flush,
                       struct hf_piece_list *list, uint32_t *ret_next)
{
    uint32_t i;

    *ret_next = to;
    if (boundary(w, from, &i)) {
        return -ENOMEM;
    }
    for (; i < w->count && w->ranges[i].off_bytes < to; i++) {
        struct hf_range *r = &w->ranges[i];
        uint64_t n;

        if (r->flush) {
            continue;
        }
        if (*left == 0 || list->count >= max_pieces) {
            *ret_next = r->off_bytes;
            return 0;
        }
        n = r->len_bytes < *left ? r->len_bytes : *left;
        n = n < to - r->off_bytes ? n : to - r->off_bytes;
        if (n < r->len_bytes) {
            if (range_split(w, i, r->off_bytes + (uint32_t)n)) {
                return -ENOMEM;
            }
            r = &w->ranges[i];
        }
        if (piece_add(list, w, r, r->off_bytes, r->off_bytes + r->len_bytes)) {
            return -ENOMEM;
        }
        count_bytes(d, w, NULL, r->len_bytes, false);
        r->flush = flush;
        count_bytes(d, w, flush, r->len_bytes, true);
        *left -= n;
    }
    return 0;
}

int hf_dirty_take(struct hf_dirty *d, uint64_t off, uint64_t end, uint64_t max_bytes,
                  uint32_t max_pieces, struct hf_flush *flush, struct hf_piece_list *list,
                  uint64_t *ret_next)
{
    uint64_t next = end;

    for (uint32_t k = window_find(d, WINDOW_INDEX(off)); k < d->count; k++) {
        struct hf_window *w = d->windows[k];
        uint64_t base = w->index * HF_WINDOW_BYTES;
        uint32_t from = off > base ? (uint32_t)(off - base) : 0, to, stop;

        if (base >= end) {
            break;
        }
        to = end - base < HF_WINDOW_BYTES ? (uint32_t)(end - base) : HF_WINDOW_BYTES;
        if (window_take(d, w, from, to, &max_bytes, max_pieces, flush, list, &stop)) {
            return -ENOMEM;
        }
        if (stop != to) {
            next = base + stop;
            break;
        }
    }
    if (ret_next) {
        *ret_next = next;
    }
    return 0;
}

void hf_dirty_settle(struct hf_dirty *d, uint64_t index, const struct hf_flush *flush, bool undo)
{
    struct hf_window *w = hf_dirty_window(d, index);
    uint32_t kept = 0;

    if (!w) {
        return;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        struct hf_range r = w->ranges[i];

        if (r.flush == flush) {
            count_bytes(d, w, flush, r.len_bytes, false);
            if (!undo) {
                hf_slab_unref(r.slab);
                continue;
            }
            r.flush = NULL;
            count_bytes(d, w, NULL, r.len_bytes, true);
        }
        w->ranges[kept++] = r;
    }
    w->count = kept;
    window_drop_if_empty(d, w);
}

uint64_t hf_dirty_end(const struct hf_dirty *d)
{
    const struct hf_window *w;
    const struct hf_range *r;

    if (d->count == 0) {
        return 0;
    }
    w = d->windows[d->count - 1];
    r = &w->ranges[w->count - 1];
    return w->index * HF_WINDOW_BYTES + r->off_bytes + r->len_bytes;
}

uint32_t hf_window_dirty(const struct hf_window *w, uint64_t off, uint64_t end)
{
    uint64_t base = w->index * HF_WINDOW_BYTES;
    uint32_t from = (uint32_t)(off - base), to = (uint32_t)(end - base), bytes = 0;

    if (to - from == HF_WINDOW_BYTES) {
        return w->dirty_bytes;
    }
    for (uint32_t i = range_find(w, from); i < w->count && w->ranges[i].off_bytes < to; i++) {
        const struct hf_range *r = &w->ranges[i];
        uint32_t r_end = r->off_bytes + r->len_bytes;

        if (!r->flush) {
            bytes += (r_end < to ? r_end : to) - (r->off_bytes > from ? r->off_bytes : from);
        }
    }
    return bytes;
}

bool hf_dirty_busy(const struct hf_dirty *d, uint64_t off, uint64_t end)
{
    for (uint32_t k = window_find(d, WINDOW_INDEX(off)); k < d->count; k++) {
        const struct hf_window *w = d->windows[k];
        uint64_t base = w->index * HF_WINDOW_BYTES;

        if (base >= end) {
            break;
        }
        for (uint32_t i = off > base ? range_find(w, (uint32_t)(off - base)) : 0;
             w->busy_bytes > 0 && i < w->count && base + w->ranges[i].off_bytes < end; i++) {
            if (w->ranges[i].flush) {
                return true;
            }
        }
    }
    return false;
}

uint32_t hf_window_run(const struct hf_window *w, uint32_t off)
{
    uint32_t at = off;

    for (uint32_t i = range_find(w, off); i < w->count; i++) {
        const struct hf_range *r = &w->ranges[i];

        if (r->off_bytes > at || r->flush) {
            break;
        }
        at = r->off_bytes + r->len_bytes;
    }
    return at - off;
}

uint64_t hf_dirty_next(const struct hf_dirty *d, uint64_t off)
{
    for (uint32_t k = window_find(d, WINDOW_INDEX(off)); k < d->count; k++) {
        const struct hf_window *w = d->windows[k];
        uint64_t base = w->index * HF_WINDOW_BYTES;
        uint32_t i = off > base ? range_find(w, (uint32_t)(off - base)) : 0;

        if (i < w->count) {
            uint64_t start = base + w->ranges[i].off_bytes;

            return start > off ? start : off;
        }
    }
    return UINT64_MAX;
}

uint64_t hf_dirty_run_end(const struct hf_dirty *d, uint64_t off)
{
    for (;;) {
        const struct hf_window *w = hf_dirty_window(d, WINDOW_INDEX(off));
        uint32_t at = WINDOW_OFF(off), start = at;

        if (!w) {
            return off;
        }
        for (uint32_t i = range_find(w, at); i < w->count && w->ranges[i].off_bytes <= at; i++) {
            at = w->ranges[i].off_bytes + w->ranges[i].len_bytes;
        }
        off += at - start;
        if (at < HF_WINDOW_BYTES || at == start) {
            return off;
        }
    }
}

void hf_dirty_init(struct hf_dirty *d)
{
    *d = (struct hf_dirty){0};
}

void hf_dirty_fini(struct hf_dirty *d)
{
    for (uint32_t k = 0; k < d->count; k++) {
        struct hf_window *w = d->windows[k];

        for (uint32_t i = 0; i < w->count; i++) {
            hf_slab_unref(w->ranges[i].slab);
        }
        free(w->ranges);
        free(w);
    }
    free(d->windows);
    *d = (struct hf_dirty){0};
}

void hf_dirty_check_invariants(const struct hf_dirty *d)
{
    uint64_t dirty = 0, busy = 0;

    for (uint32_t k = 0; k < d->count; k++) {
        const struct hf_window *w = d->windows[k];
        uint32_t w_dirty = 0, w_busy = 0, at = 0;

        HF_ASSERT(k == 0 || d->windows[k - 1]->index < w->index);
        HF_ASSERT(w->count > 0);
        for (uint32_t i = 0; i < w->count; i++) {
            const struct hf_range *r = &w->ranges[i];

            HF_ASSERT(r->len_bytes > 0 && r->off_bytes >= at);
            at = r->off_bytes + r->len_bytes;
            HF_ASSERT(at <= HF_WINDOW_BYTES && r->slab->refs > 0);
            HF_ASSERT(r->pos_bytes + r->len_bytes <= r->slab->buf->cap_bytes);
            *(r->flush ? &w_busy : &w_dirty) += r->len_bytes;
        }
        HF_ASSERT(w_dirty == w->dirty_bytes && w_busy == w->busy_bytes);
        dirty += w_dirty;
        busy += w_busy;
    }
    HF_ASSERT(dirty == d->dirty_bytes && busy == d->busy_bytes);
}
