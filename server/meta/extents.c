/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "server/meta/rows_format.h"

void hf_extvec_fini(struct hf_extvec *vec)
{
    free(vec->v);
    free(vec->bytes);
    *vec = (struct hf_extvec){0};
}

void hf_extvec_clear(struct hf_extvec *vec)
{
    vec->count = 0;
    vec->bytes_len = 0;
    vec->epoch = 0;
}

static int reserve(struct hf_extvec *vec, uint32_t count)
{
    uint32_t cap = vec->cap ? vec->cap : 16;
    struct hf_xt *v;

    if (count <= vec->cap) {
        return 0;
    }
    while (cap < count) {
        cap *= 2;
    }
    v = realloc(vec->v, (size_t)cap * sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    vec->v = v;
    vec->cap = cap;
    return 0;
}

static int reserve_bytes(struct hf_extvec *vec, uint32_t len)
{
    uint32_t cap = vec->bytes_cap ? vec->bytes_cap : 4096;
    uint8_t *bytes;

    if (len <= vec->bytes_cap) {
        return 0;
    }
    while (cap < len) {
        cap *= 2;
    }
    bytes = realloc(vec->bytes, cap);
    if (!bytes) {
        return -ENOMEM;
    }
    vec->bytes = bytes;
    vec->bytes_cap = cap;
    return 0;
}

int hf_extvec_copy(struct hf_extvec *to, const struct hf_extvec *from)
{
    if (reserve(to, from->count) || reserve_bytes(to, from->bytes_len)) {
        return -ENOMEM;
    }
    if (from->count) {
        memcpy(to->v, from->v, from->count * sizeof(*to->v));
    }
    if (from->bytes_len) {
        memcpy(to->bytes, from->bytes, from->bytes_len);
    }
    to->count = from->count;
    to->bytes_len = from->bytes_len;
    to->epoch = from->epoch;
    return 0;
}

uint32_t hf_extvec_find(const struct hf_extvec *vec, uint32_t off)
{
    uint32_t low = 0, high = vec->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (hf_xt_end(&vec->v[mid]) > off) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

/* Make room at @at for one extent; reserved before. */
static void open_slot(struct hf_extvec *vec, uint32_t at)
{
    memmove(vec->v + at + 1, vec->v + at, (vec->count - at) * sizeof(*vec->v));
    vec->count++;
}

static void close_slots(struct hf_extvec *vec, uint32_t at, uint32_t count)
{
    memmove(vec->v + at, vec->v + at + count, (vec->count - at - count) * sizeof(*vec->v));
    vec->count -= count;
}

/* Nothing covers [off, off + len) afterwards. Room for one more extent is reserved.
 * Returns where an extent of that range would go. */
static uint32_t cut(struct hf_extvec *vec, uint32_t off, uint32_t len)
{
    uint32_t end = off + len, at = hf_extvec_find(vec, off), last;

    if (at < vec->count && vec->v[at].off_bytes < off) {
        struct hf_xt *xt = &vec->v[at];
        uint32_t xt_end = hf_xt_end(xt), head = off - xt->off_bytes;

        if (xt_end > end) { /* split in two */
            open_slot(vec, at);
            vec->v[at].len_bytes = head;
            xt = &vec->v[at + 1];
            xt->pos_bytes += end - xt->off_bytes;
            xt->off_bytes = end;
            xt->len_bytes = xt_end - end;
            return at + 1;
        }
        xt->len_bytes = head;
        at++;
    }
    for (last = at; last < vec->count && hf_xt_end(&vec->v[last]) <= end; last++) {
    }
    close_slots(vec, at, last - at);
    if (at < vec->count && vec->v[at].off_bytes < end) {
        uint32_t gone = end - vec->v[at].off_bytes;

        vec->v[at].off_bytes += gone;
        vec->v[at].pos_bytes += gone;
        vec->v[at].len_bytes -= gone;
    }
    return at;
}

static bool continues(const struct hf_xt *a, const struct hf_xt *b)
{
    return hf_xt_end(a) == b->off_bytes && a->pos_bytes + a->len_bytes == b->pos_bytes &&
           hf_oid_equal(&a->oid, &b->oid);
}

/* Join the extent at @at with its neighbours where they continue each other. */
static void join(struct hf_extvec *vec, uint32_t at)
{
    if (at + 1 < vec->count && continues(&vec->v[at], &vec->v[at + 1])) {
        vec->v[at].len_bytes += vec->v[at + 1].len_bytes;
        close_slots(vec, at + 1, 1);
    }
    if (at > 0 && continues(&vec->v[at - 1], &vec->v[at])) {
        vec->v[at - 1].len_bytes += vec->v[at].len_bytes;
        close_slots(vec, at, 1);
    }
}

int hf_extvec_set(struct hf_extvec *vec, uint32_t off, uint32_t len, const struct hf_oid *oid,
                  uint32_t pos)
{
    uint32_t at;

    HF_ASSERT(len > 0 && off < HF_WINDOW_BYTES && len <= HF_WINDOW_BYTES - off);
    if (reserve(vec, vec->count + 2)) {
        return -ENOMEM;
    }
    at = cut(vec, off, len);
    open_slot(vec, at);
    vec->v[at] = (struct hf_xt){.off_bytes = off, .len_bytes = len, .pos_bytes = pos, .oid = *oid};
    join(vec, at);
    return 0;
}

int hf_extvec_set_inline(struct hf_extvec *vec, uint32_t off, uint32_t len, const void *bytes)
{
    const struct hf_oid none = {0};
    uint32_t pos = vec->bytes_len;

    if (reserve(vec, vec->count + 2) || reserve_bytes(vec, pos + len)) {
        return -ENOMEM;
    }
    memcpy(vec->bytes + pos, bytes, len);
    vec->bytes_len += len;
    return hf_extvec_set(vec, off, len, &none, pos);
}

int hf_extvec_punch(struct hf_extvec *vec, uint32_t off, uint32_t len)
{
    HF_ASSERT(len > 0 && off < HF_WINDOW_BYTES && len <= HF_WINDOW_BYTES - off);
    if (reserve(vec, vec->count + 1)) {
        return -ENOMEM;
    }
    (void)cut(vec, off, len);
    return 0;
}

uint64_t hf_extvec_covered(const struct hf_extvec *vec, uint64_t *ret_inline)
{
    uint64_t covered = 0, in_line = 0;

    for (uint32_t i = 0; i < vec->count; i++) {
        covered += vec->v[i].len_bytes;
        in_line += hf_xt_is_inline(&vec->v[i]) ? vec->v[i].len_bytes : 0;
    }
    *ret_inline = in_line;
    return covered;
}

int hf_extvec_compact(struct hf_extvec *vec)
{
    uint64_t need;
    uint32_t len = 0, out = 0;
    uint8_t *bytes;

    if (!vec->bytes_len) {
        return 0;
    }
    (void)hf_extvec_covered(vec, &need);
    bytes = malloc(need ? need : 1);
    if (!bytes) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < vec->count; i++) {
        struct hf_xt xt = vec->v[i];

        if (hf_xt_is_inline(&xt)) {
            memcpy(bytes + len, vec->bytes + xt.pos_bytes, xt.len_bytes);
            xt.pos_bytes = len;
            len += xt.len_bytes;
        }
        if (out && continues(&vec->v[out - 1], &xt)) {
            vec->v[out - 1].len_bytes += xt.len_bytes;
        } else {
            vec->v[out++] = xt;
        }
    }
    HF_ASSERT(len == need);
    free(vec->bytes);
    vec->bytes = bytes;
    vec->bytes_len = len;
    vec->bytes_cap = (uint32_t)(need ? need : 1);
    vec->count = out;
    return 0;
}

size_t hf_extvec_row_bytes(const struct hf_extvec *vec)
{
    return HF_ROW_WINDOW_HEAD + (size_t)vec->count * HF_ROW_WINDOW_EXTENT + vec->bytes_len;
}

void hf_extvec_encode(const struct hf_extvec *vec, uint8_t *ret)
{
    uint8_t *p = ret + HF_ROW_WINDOW_HEAD;

    memset(ret, 0, HF_ROW_WINDOW_HEAD);
    ret[0] = HF_ROW_VERSION;
    hf_put_le32(ret + 4, vec->epoch);
    hf_put_le32(ret + 8, vec->count);
    hf_put_le32(ret + 12, vec->bytes_len);
    for (uint32_t i = 0; i < vec->count; i++, p += HF_ROW_WINDOW_EXTENT) {
        const struct hf_xt *xt = &vec->v[i];

        hf_put_le32(p, xt->off_bytes);
        hf_put_le32(p + 4, xt->len_bytes);
        hf_put_le32(p + 8, xt->pos_bytes);
        hf_oid_encode(&xt->oid, p + 12);
    }
    if (vec->bytes_len) {
        memcpy(p, vec->bytes, vec->bytes_len);
    }
}

/* The extent is sound by itself and after the one that ends at @after. */
static bool xt_ok(const struct hf_xt *xt, uint32_t after, uint32_t bytes_len)
{
    uint32_t room = hf_xt_is_inline(xt) ? bytes_len : HF_OBJECT_BYTES_MAX;

    return xt->len_bytes > 0 && xt->off_bytes >= after && xt->off_bytes < HF_WINDOW_BYTES &&
           xt->len_bytes <= HF_WINDOW_BYTES - xt->off_bytes && xt->pos_bytes <= room &&
           xt->len_bytes <= room - xt->pos_bytes;
}

int hf_extvec_decode(struct hf_extvec *vec, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint32_t count, bytes_len, after = 0;

    hf_extvec_clear(vec);
    if (len < HF_ROW_WINDOW_HEAD || p[0] != HF_ROW_VERSION) {
        return -EBADMSG;
    }
    count = hf_get_le32(p + 8);
    bytes_len = hf_get_le32(p + 12);
    if (count == 0 || count > HF_WINDOW_EXTENTS_MAX || bytes_len > HF_WINDOW_INLINE_MAX ||
        len != HF_ROW_WINDOW_HEAD + (size_t)count * HF_ROW_WINDOW_EXTENT + bytes_len) {
        return -EBADMSG;
    }
    if (reserve(vec, count) || reserve_bytes(vec, bytes_len)) {
        return -ENOMEM;
    }
    vec->epoch = hf_get_le32(p + 4);
    p += HF_ROW_WINDOW_HEAD;
    for (uint32_t i = 0; i < count; i++, p += HF_ROW_WINDOW_EXTENT) {
        struct hf_xt *xt = &vec->v[i];

        *xt = (struct hf_xt){
            .off_bytes = hf_get_le32(p),
            .len_bytes = hf_get_le32(p + 4),
            .pos_bytes = hf_get_le32(p + 8),
            .oid = hf_oid_decode(p + 12),
        };
        if (!xt_ok(xt, after, bytes_len)) {
            return -EBADMSG;
        }
        after = hf_xt_end(xt);
    }
    if (bytes_len) {
        memcpy(vec->bytes, p, bytes_len);
    }
    vec->count = count;
    vec->bytes_len = bytes_len;
    return 0;
}
