/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

void hf_extents_init(struct hf_extents *x)
{
    *x = (struct hf_extents){0};
}

static void window_free(struct hf_extent_window *w)
{
    free(w->v);
    free(w->inline_data);
    free(w);
}

void hf_extents_clear(struct hf_extents *x)
{
    for (uint32_t i = 0; i < x->count; i++) {
        window_free(x->windows[i]);
    }
    free(x->windows);
    *x = (struct hf_extents){0};
}

static size_t window_cost(const struct hf_extent_window *w)
{
    return sizeof(*w) + w->count * sizeof(*w->v) + w->inline_bytes;
}

static uint32_t find(const struct hf_extents *x, uint64_t index)
{
    uint32_t lo = 0, hi = x->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (x->windows[mid]->index < index) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

const struct hf_extent_window *hf_extents_window(const struct hf_extents *x, uint64_t index)
{
    uint32_t i = find(x, index);

    return i < x->count && x->windows[i]->index == index ? x->windows[i] : NULL;
}

bool hf_extents_cover(const struct hf_extents *x, uint64_t off, uint64_t end)
{
    if (!x->valid) {
        return false;
    }
    for (uint64_t w = off / HF_WINDOW_BYTES; w * HF_WINDOW_BYTES < end; w++) {
        if (!hf_extents_window(x, w)) {
            return false;
        }
    }
    return true;
}

static int place(struct hf_extents *x, struct hf_extent_window *w)
{
    uint32_t i = find(x, w->index);

    if (i < x->count && x->windows[i]->index == w->index) {
        x->cost_bytes += window_cost(w) - window_cost(x->windows[i]);
        window_free(x->windows[i]);
        x->windows[i] = w;
        return 0;
    }
    if (x->count == x->cap) {
        uint32_t cap = x->cap ? x->cap * 2 : 4;
        void *p = realloc(x->windows, cap * sizeof(*x->windows));

        if (!p) {
            return -ENOMEM;
        }
        x->windows = p;
        x->cap = cap;
    }
    memmove(&x->windows[i + 1], &x->windows[i], (x->count - i) * sizeof(*x->windows));
    x->windows[i] = w;
    x->count++;
    x->cost_bytes += window_cost(w);
    return 0;
}

/* The part of @e in [base, base + window), as an extent of its own. */
static bool clip(const struct hf_extent *e, uint64_t base, struct hf_extent *ret)
{
    uint64_t end = e->off_bytes + e->len_bytes, stop = base + HF_WINDOW_BYTES;
    uint64_t from = e->off_bytes > base ? e->off_bytes : base, to = end < stop ? end : stop;

    if (from >= to) {
        return false;
    }
    *ret = *e;
    ret->off_bytes = from;
    ret->len_bytes = (uint32_t)(to - from);
    ret->pos_bytes += (uint32_t)(from - e->off_bytes);
    return true;
}

static struct hf_extent_window *window_make(uint64_t index, const struct hf_extent *v,
                                            uint32_t count, const uint8_t *inline_data)
{
    struct hf_extent_window *w = calloc(1, sizeof(*w));
    uint32_t at = 0;

    if (!w) {
        return NULL;
    }
    w->index = index;
    w->v = malloc((count ? count : 1) * sizeof(*w->v));
    if (!w->v) {
        window_free(w);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct hf_extent e;

        if (clip(&v[i], index * HF_WINDOW_BYTES, &e)) {
            w->v[w->count++] = e;
            w->inline_bytes += e.oid.session == 0 ? e.len_bytes : 0;
        }
    }
    if (w->inline_bytes == 0) {
        return w;
    }
    w->inline_data = malloc(w->inline_bytes);
    if (!w->inline_data) {
        window_free(w);
        return NULL;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        struct hf_extent *e = &w->v[i];

        if (e->oid.session == 0) {
            memcpy(w->inline_data + at, inline_data + e->pos_bytes, e->len_bytes);
            e->pos_bytes = at;
            at += e->len_bytes;
        }
    }
    return w;
}

int hf_extents_install(struct hf_extents *x, uint64_t version, uint64_t size, uint64_t off,
                       uint64_t end, const struct hf_extent *v, uint32_t count,
                       const uint8_t *inline_data)
{
    uint32_t first = 0;

    HF_ASSERT(off % HF_WINDOW_BYTES == 0);
    if (!x->valid || x->version != version || x->count >= HF_EXTENTS_WINDOWS_MAX) {
        hf_extents_clear(x);
    }
    x->valid = true;
    x->version = version;
    x->size = size;
    for (uint64_t i = off / HF_WINDOW_BYTES; i * HF_WINDOW_BYTES < end; i++) {
        uint64_t base = i * HF_WINDOW_BYTES;
        struct hf_extent_window *w;
        uint32_t n;

        while (first < count && v[first].off_bytes + v[first].len_bytes <= base) {
            first++;
        }
        for (n = first; n < count && v[n].off_bytes < base + HF_WINDOW_BYTES; n++) {
        }
        w = window_make(i, v + first, n - first, inline_data);
        if (!w || place(x, w)) {
            if (w) {
                window_free(w);
            }
            hf_extents_clear(x);
            return -ENOMEM;
        }
    }
    return 0;
}
