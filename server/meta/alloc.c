/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "server/meta/inode.h"
#include "server/meta/window.h"

/* Ranges */

void hf_alloc_fini(struct hf_alloc *alloc)
{
    free(alloc->v);
    *alloc = (struct hf_alloc){0};
}

static uint64_t length(const struct hf_alloc_range *range)
{
    return range->end_bytes - range->off_bytes;
}

uint64_t hf_alloc_bytes(const struct hf_alloc *alloc)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < alloc->count; i++) {
        bytes += length(&alloc->v[i]);
    }
    return bytes;
}

static int reserve(struct hf_alloc *alloc, uint32_t count)
{
    uint32_t cap = alloc->cap ? alloc->cap : 16;
    struct hf_alloc_range *v;

    if (count <= alloc->cap) {
        return 0;
    }
    while (cap < count) {
        cap *= 2;
    }
    v = realloc(alloc->v, cap * sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    alloc->v = v;
    alloc->cap = cap;
    return 0;
}

/* The first range that ends behind @off. */
static uint32_t find(const struct hf_alloc *alloc, uint64_t off)
{
    uint32_t low = 0, high = alloc->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (alloc->v[mid].end_bytes > off) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

/* What was @count ranges at @at is room for @want; reserved before. */
static void resize(struct hf_alloc *alloc, uint32_t at, uint32_t count, uint32_t want)
{
    memmove(alloc->v + at + want, alloc->v + at + count,
            (alloc->count - at - count) * sizeof(*alloc->v));
    alloc->count = alloc->count - count + want;
}

static int add(struct hf_alloc *alloc, uint64_t off, uint64_t end)
{
    uint32_t at = find(alloc, off ? off - 1 : 0), last;

    if (reserve(alloc, alloc->count + 1)) {
        return -ENOMEM;
    }
    for (last = at; last < alloc->count && alloc->v[last].off_bytes <= end; last++) {
        off = alloc->v[last].off_bytes < off ? alloc->v[last].off_bytes : off;
        end = alloc->v[last].end_bytes > end ? alloc->v[last].end_bytes : end;
    }
    resize(alloc, at, last - at, 1);
    alloc->v[at] = (struct hf_alloc_range){off, end};
    return 0;
}

static int cut(struct hf_alloc *alloc, uint64_t off, uint64_t end)
{
    uint32_t at = find(alloc, off), last;

    if (at < alloc->count && alloc->v[at].off_bytes < off) {
        uint64_t at_end = alloc->v[at].end_bytes;

        if (at_end > end) {
            if (reserve(alloc, alloc->count + 1)) {
                return -ENOMEM;
            }
            resize(alloc, at + 1, 0, 1);
            alloc->v[at + 1] = (struct hf_alloc_range){end, at_end};
        }
        alloc->v[at++].end_bytes = off;
    }
    for (last = at; last < alloc->count && alloc->v[last].end_bytes <= end; last++) {
    }
    resize(alloc, at, last - at, 0);
    if (at < alloc->count && alloc->v[at].off_bytes < end) {
        alloc->v[at].off_bytes = end;
    }
    return 0;
}

static uint32_t count_up_to(const struct hf_alloc *alloc, uint64_t len)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < alloc->count; i++) {
        count += length(&alloc->v[i]) <= len;
    }
    return count;
}

/* What is more than a row holds goes, the shortest first, of equal ones the first. In a pass over
 * them for each bit of a length, however many there are: it is done for each window. */
static void drop_shortest(struct hf_alloc *alloc)
{
    uint32_t excess = alloc->count > HF_ALLOC_RANGES_MAX ? alloc->count - HF_ALLOC_RANGES_MAX : 0;
    uint64_t low = 0, high = HF_FILE_BYTES_MAX; /* the longest that goes is in (low, high] */
    uint32_t kept = 0, equal;

    if (excess == 0) {
        return;
    }
    while (high - low > 1) {
        uint64_t mid = low + (high - low) / 2;

        if (count_up_to(alloc, mid) >= excess) {
            high = mid;
        } else {
            low = mid;
        }
    }
    equal = excess - count_up_to(alloc, low);
    for (uint32_t i = 0; i < alloc->count; i++) {
        uint64_t len = length(&alloc->v[i]);
        bool goes = len < high || (len == high && equal > 0);

        equal -= goes && len == high;
        if (!goes) {
            alloc->v[kept++] = alloc->v[i];
        }
    }
    alloc->count = kept;
}

/* The row */

int hf_alloc_decode(struct hf_alloc *ret, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t after = 0;
    uint32_t count;

    if (len < HF_ROW_ALLOC_HEAD || p[0] != HF_ROW_VERSION) {
        return -EBADMSG;
    }
    count = hf_get_le32(p + 4);
    if (count == 0 || count > HF_ALLOC_RANGES_MAX ||
        len != HF_ROW_ALLOC_HEAD + (size_t)count * HF_ROW_ALLOC_RANGE) {
        return -EBADMSG;
    }
    if (reserve(ret, count)) {
        return -ENOMEM;
    }
    p += HF_ROW_ALLOC_HEAD;
    for (uint32_t i = 0; i < count; i++, p += HF_ROW_ALLOC_RANGE) {
        ret->v[i] = (struct hf_alloc_range){hf_get_le64(p), hf_get_le64(p + 8)};
        if ((i && ret->v[i].off_bytes <= after) || ret->v[i].end_bytes <= ret->v[i].off_bytes ||
            ret->v[i].end_bytes > HF_FILE_BYTES_MAX) {
            return -EBADMSG;
        }
        after = ret->v[i].end_bytes;
    }
    ret->count = count;
    return 0;
}

size_t hf_alloc_row_bytes(const struct hf_alloc *alloc)
{
    return HF_ROW_ALLOC_HEAD + (size_t)alloc->count * HF_ROW_ALLOC_RANGE;
}

void hf_alloc_encode(const struct hf_alloc *alloc, uint8_t *ret)
{
    uint8_t *p = ret + HF_ROW_ALLOC_HEAD;

    memset(ret, 0, HF_ROW_ALLOC_HEAD);
    ret[0] = HF_ROW_VERSION;
    hf_put_le32(ret + 4, alloc->count);
    for (uint32_t i = 0; i < alloc->count; i++, p += HF_ROW_ALLOC_RANGE) {
        hf_put_le64(p, alloc->v[i].off_bytes);
        hf_put_le64(p + 8, alloc->v[i].end_bytes);
    }
}

static int load(struct hf_meta *meta, const struct hf_inode *inode, struct hf_alloc *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    *ret = (struct hf_alloc){0};
    if (!(inode->flags & HF_INODE_RESERVED)) {
        return 0;
    }
    hf_key_u64(&key, HF_ROW_ALLOC, inode->attr.ino.v);
    err = hf_txn_get(meta, &key, &value, &len);
    err = err ? err : hf_alloc_decode(ret, value, len);
    return err ? hf_txn_fail(meta, err) : 0;
}

/* @before: bytes that the row has now. */
static int store(struct hf_meta *meta, struct hf_inode *inode, struct hf_alloc *alloc,
                 uint64_t before)
{
    size_t len = hf_alloc_row_bytes(alloc);
    uint64_t bytes = hf_alloc_bytes(alloc);
    struct hf_key key;
    uint8_t *value;
    int err;

    inode->attr.bytes += bytes - before;
    meta->c.usage.reserved_bytes += bytes - before;
    hf_inode_dirty(inode);
    hf_key_u64(&key, HF_ROW_ALLOC, inode->attr.ino.v);
    if (alloc->count == 0) {
        inode->flags &= ~HF_INODE_RESERVED;
        return before ? hf_txn_del(meta, &key) : 0;
    }
    inode->flags |= HF_INODE_RESERVED;
    err = hf_txn_scratch(meta, len, &value);
    if (err) {
        return err;
    }
    hf_alloc_encode(alloc, value);
    return hf_txn_put(meta, &key, value, len);
}

/* Changes */

/* What extents cover in [off, end) is not reserved. */
static int cut_covered(struct hf_meta *meta, const struct hf_inode *inode, struct hf_alloc *alloc,
                       uint64_t off, uint64_t end)
{
    uint64_t window = off / HF_WINDOW_BYTES, stop = hf_windows(end);
    int err;

    while ((err = hf_window_next(meta, inode->attr.ino, window, stop, &window)) == 0) {
        err = hf_window_look(meta, inode, window, &meta->vec);
        for (uint32_t i = 0; i < meta->vec.count && !err; i++) {
            uint64_t from = window * HF_WINDOW_BYTES + meta->vec.v[i].off_bytes;

            err = cut(alloc, from, from + meta->vec.v[i].len_bytes);
        }
        if (err) {
            return err;
        }
        drop_shortest(alloc);
        window++;
    }
    return err == -ENOENT ? 0 : err;
}

int hf_alloc_reserve(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end,
                     uint64_t limit_bytes)
{
    struct hf_alloc alloc;
    uint64_t before, bytes, all = meta->c.usage.reserved_bytes;
    int err = load(meta, inode, &alloc);

    HF_ASSERT(off < end && end <= HF_FILE_BYTES_MAX);
    before = hf_alloc_bytes(&alloc);
    if (!err) {
        err = add(&alloc, off, end);
        if (!err && inode->attr.bytes > before) {
            err = cut_covered(meta, inode, &alloc, off, end);
        }
        err = err ? hf_txn_fail(meta, err) : 0;
    }
    if (!err) {
        drop_shortest(&alloc);
        bytes = hf_alloc_bytes(&alloc);
        err = bytes > before && all + (bytes - before) > limit_bytes
                  ? -ENOSPC
                  : store(meta, inode, &alloc, before);
    }
    hf_alloc_fini(&alloc);
    return err;
}

int hf_alloc_release_extents(struct hf_meta *meta, struct hf_inode *inode,
                             const struct hf_wr_extent *extents, uint32_t count, uint64_t shift)
{
    struct hf_alloc alloc;
    uint64_t before;
    int err = load(meta, inode, &alloc);

    before = hf_alloc_bytes(&alloc);
    for (uint32_t i = 0; i < count && alloc.count && !err; i++) {
        uint64_t off = extents[i].off_bytes + shift;

        err = cut(&alloc, off, off + extents[i].len_bytes);
        err = err ? hf_txn_fail(meta, err) : 0;
    }
    if (!err && hf_alloc_bytes(&alloc) != before) {
        drop_shortest(&alloc);
        err = store(meta, inode, &alloc, before);
    }
    hf_alloc_fini(&alloc);
    return err;
}

int hf_alloc_release(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end)
{
    struct hf_alloc alloc;
    uint64_t before;
    int err = load(meta, inode, &alloc);

    before = hf_alloc_bytes(&alloc);
    if (!err && alloc.count) {
        err = cut(&alloc, off, end);
        err = err ? hf_txn_fail(meta, err) : 0;
    }
    if (!err && hf_alloc_bytes(&alloc) != before) {
        drop_shortest(&alloc);
        err = store(meta, inode, &alloc, before);
    }
    hf_alloc_fini(&alloc);
    return err;
}

/* Looks */

void hf_meta_rd_reserved(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply)
{
    uint64_t end = rd->length > UINT64_MAX - rd->offset ? UINT64_MAX : rd->offset + rd->length;
    struct hf_alloc alloc = {0};
    struct hf_inode inode;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (!reply->err) {
        reply->err = load(meta, &inode, &alloc);
    }
    for (uint32_t i = 0; i < alloc.count; i++) {
        uint64_t from = alloc.v[i].off_bytes, to = alloc.v[i].end_bytes;

        from = from > rd->offset ? from : rd->offset;
        to = to < end ? to : end;
        reply->count += to > from ? to - from : 0;
    }
    hf_alloc_fini(&alloc);
}
