/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/contents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

enum change_kind { CHANGE_BYTES, CHANGE_TRUNCATE, CHANGE_PUNCH };

struct change {
    enum change_kind kind;
    uint64_t seq, off, len; /* TRUNCATE: off is the size */
    uint64_t size;          /* of the file afterwards */
    uint8_t *bytes;         /* BYTES: owned */
};

struct image {
    uint8_t *bytes;
    uint64_t size, cap;
};

struct contents {
    struct image now, base;
    struct change *changes;
    size_t count, cap;
    uint64_t seq, synced, generation;
    uint32_t pins;
};

static void image_resize(struct image *m, uint64_t size)
{
    if (size > m->cap) {
        m->cap = size > 2 * m->cap ? size : 2 * m->cap;
        m->bytes = realloc(m->bytes, m->cap);
        HF_ASSERT(m->bytes != NULL);
    }
    if (size > m->size) {
        memset(m->bytes + m->size, 0, size - m->size);
    }
    m->size = size;
}

static void image_apply(struct image *m, const struct change *change)
{
    uint64_t end = change->off + change->len;

    switch (change->kind) {
    case CHANGE_BYTES:
        if (end > m->size) {
            image_resize(m, end);
        }
        memcpy(m->bytes + change->off, change->bytes, change->len);
        break;
    case CHANGE_TRUNCATE:
        image_resize(m, change->off);
        break;
    case CHANGE_PUNCH:
        end = end < m->size ? end : m->size;
        if (change->off < end) {
            memset(m->bytes + change->off, 0, end - change->off);
        }
        break;
    }
}

struct contents *contents_new(void)
{
    struct contents *c = calloc(1, sizeof(*c));

    HF_ASSERT(c != NULL);
    return c;
}

static void forget_changes(struct contents *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(c->changes[i].bytes);
    }
    c->count -= count;
    if (count > 0) {
        memmove(c->changes, c->changes + count, c->count * sizeof(*c->changes));
    }
}

void contents_free(struct contents *c)
{
    if (c) {
        forget_changes(c, c->count);
        free(c->changes);
        free(c->now.bytes);
        free(c->base.bytes);
        free(c);
    }
}

uint64_t contents_size(const struct contents *c)
{
    return c->now.size;
}

/* The eight bytes at 8 * @number. */
static uint64_t pattern_word(uint64_t tag, uint64_t number)
{
    return ((number + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ tag) * UINT64_C(0xbf58476d1ce4e5b9);
}

void contents_pattern(uint64_t tag, uint64_t off, uint8_t *ret, size_t len)
{
    size_t done = 0;

    while (done < len) {
        uint64_t at = off + done, skip = at % 8;
        uint64_t word = pattern_word(tag, at / 8) >> (skip * 8);
        size_t part = 8 - skip < len - done ? 8 - skip : len - done;

        memcpy(ret + done, &word, part);
        for (done += part; len - done >= 8; done += 8) {
            word = pattern_word(tag, (off + done) / 8);
            memcpy(ret + done, &word, 8);
        }
    }
}

static void add(struct contents *c, struct change change)
{
    change.seq = ++c->seq;
    image_apply(&c->now, &change);
    change.size = c->now.size;
    if (c->count == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        c->changes = reallocarray(c->changes, c->cap, sizeof(*c->changes));
        HF_ASSERT(c->changes != NULL);
    }
    c->changes[c->count++] = change;
}

static uint8_t *bytes_new(size_t len)
{
    uint8_t *bytes = malloc(len);

    HF_ASSERT(bytes != NULL);
    return bytes;
}

void contents_write(struct contents *c, uint64_t tag, uint64_t off, size_t len)
{
    uint8_t *bytes = bytes_new(len);

    contents_pattern(tag, off, bytes, len);
    add(c, (struct change){.kind = CHANGE_BYTES, .off = off, .len = len, .bytes = bytes});
}

void contents_copy(struct contents *to, uint64_t to_off, const struct contents *from,
                   uint64_t from_off, size_t len)
{
    uint8_t *bytes = bytes_new(len);

    HF_ASSERT(from_off + len <= from->now.size);
    memcpy(bytes, from->now.bytes + from_off, len);
    add(to, (struct change){.kind = CHANGE_BYTES, .off = to_off, .len = len, .bytes = bytes});
}

void contents_truncate(struct contents *c, uint64_t size)
{
    add(c, (struct change){.kind = CHANGE_TRUNCATE, .off = size});
}

void contents_punch(struct contents *c, uint64_t off, uint64_t len)
{
    add(c, (struct change){.kind = CHANGE_PUNCH, .off = off, .len = len});
}

uint64_t contents_seq(const struct contents *c)
{
    return c->seq;
}

bool contents_is_synced(const struct contents *c)
{
    return c->synced == c->seq;
}

static void fold(struct contents *c)
{
    size_t count = 0;

    while (!c->pins && count < c->count && c->changes[count].seq <= c->synced) {
        image_apply(&c->base, &c->changes[count++]);
    }
    forget_changes(c, count);
}

void contents_synced(struct contents *c, uint64_t seq)
{
    c->synced = seq > c->synced ? seq : c->synced;
    fold(c);
}

void contents_adopt(struct contents *c, const uint8_t *bytes, uint64_t size)
{
    forget_changes(c, c->count);
    image_resize(&c->base, size);
    image_resize(&c->now, size);
    if (size) {
        memcpy(c->base.bytes, bytes, size);
        memcpy(c->now.bytes, bytes, size);
    }
    c->generation++;
}

void contents_see(struct contents *c, const uint8_t *bytes, uint64_t size)
{
    contents_truncate(c, size);
    if (size) {
        uint8_t *copy = bytes_new(size);

        memcpy(copy, bytes, size);
        add(c, (struct change){.kind = CHANGE_BYTES, .len = size, .bytes = copy});
    }
}

uint64_t contents_generation(const struct contents *c)
{
    return c->generation;
}

void contents_pin(struct contents *c)
{
    c->pins++;
}

void contents_unpin(struct contents *c)
{
    HF_ASSERT(c->pins > 0);
    c->pins--;
    fold(c);
}

static int64_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
    if (len == 0 || memcmp(a, b, len) == 0) {
        return -1;
    }
    for (size_t i = 0;; i++) {
        if (a[i] != b[i]) {
            return (int64_t)i;
        }
    }
}

int64_t contents_is(const struct contents *c, uint64_t off, const uint8_t *bytes, size_t len)
{
    uint64_t have = off < c->now.size ? c->now.size - off : 0;
    int64_t at = have ? first_difference(c->now.bytes + off, bytes, len < have ? len : have) : -1;

    if (at < 0 && len > have) {
        at = (int64_t)have;
    }
    return at < 0 ? -1 : at + (int64_t)off;
}

int64_t contents_is_hole(const struct contents *c, uint64_t off, uint64_t end)
{
    for (uint64_t at = off; at < end && at < c->now.size; at++) {
        if (c->now.bytes[at]) {
            return (int64_t)at;
        }
    }
    return -1;
}

/* Any of the changes from number @first on may be in @base. */
static bool may_be_byte(const struct contents *c, const struct image *base, size_t first,
                        uint64_t at, uint8_t byte)
{
    bool cleared = at >= base->size;

    if (at < base->size && base->bytes[at] == byte) {
        return true;
    }
    for (size_t i = first; i < c->count; i++) {
        const struct change *change = &c->changes[i];

        if (change->kind == CHANGE_TRUNCATE) {
            cleared |= at >= change->off;
        } else if (at >= change->off && at - change->off < change->len) {
            if (change->kind == CHANGE_PUNCH) {
                cleared = true;
            } else if (change->bytes[at - change->off] == byte) {
                return true;
            }
        }
    }
    return cleared && byte == 0;
}

static int64_t may_be(const struct contents *c, const struct image *base, size_t first,
                      const uint8_t *bytes, uint64_t size)
{
    uint64_t least = base->size, most = base->size;

    for (size_t i = first; i < c->count; i++) {
        least = c->changes[i].size < least ? c->changes[i].size : least;
        most = c->changes[i].size > most ? c->changes[i].size : most;
    }
    if (size < least || size > most) {
        return (int64_t)size;
    }
    if (size == c->now.size && first_difference(c->now.bytes, bytes, size) < 0) {
        return -1;
    }
    for (uint64_t at = 0; at < size; at++) {
        uint64_t have = base->size < size ? base->size : size;

        if (at < have) { /* what is as it was may stay so */
            int64_t same = first_difference(base->bytes + at, bytes + at, have - at);

            at = same < 0 ? have : at + (uint64_t)same;
        }
        if (at < size && !may_be_byte(c, base, first, at, bytes[at])) {
            return (int64_t)at;
        }
    }
    return -1;
}

int64_t contents_may_be(const struct contents *c, const uint8_t *bytes, uint64_t size)
{
    return may_be(c, &c->base, 0, bytes, size);
}

int64_t contents_may_be_left(const struct contents *c, const uint8_t *bytes, uint64_t size)
{
    struct image base = {0};
    size_t first = 0;
    int64_t at;

    if (c->count == 0 || c->changes[0].seq > c->synced) {
        return contents_may_be(c, bytes, size);
    }
    image_resize(&base, c->base.size);
    if (base.size) {
        memcpy(base.bytes, c->base.bytes, base.size);
    }
    while (first < c->count && c->changes[first].seq <= c->synced) { /* a pin keeps them */
        image_apply(&base, &c->changes[first++]);
    }
    at = may_be(c, &base, first, bytes, size);
    free(base.bytes);
    return at;
}

const char *contents_str(const struct contents *c, char ret[512])
{
    static const char *const kinds[] = {"write", "truncate", "punch"};
    size_t first = c->count > 8 ? c->count - 8 : 0;
    int n =
        snprintf(ret, 512, "synced %" PRIu64 " bytes, now %" PRIu64 ", %zu changes:", c->base.size,
                 c->now.size, c->count);

    for (size_t i = first; i < c->count && n > 0 && n < 450; i++) {
        n += snprintf(ret + n, 512 - (size_t)n, " %s %" PRIu64 "+%" PRIu64 "=%" PRIu64,
                      kinds[c->changes[i].kind], c->changes[i].off, c->changes[i].len,
                      c->changes[i].size);
    }
    return ret;
}
