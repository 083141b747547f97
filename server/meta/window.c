/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/window.h"

#include <errno.h>

#include "common/base/assert.h"
#include "server/meta/inode.h"
#include "server/meta/objects.h"
#include "server/meta/orphan.h"

/* Looks and loads */

static int vec_read(struct hf_meta *meta, struct hf_ino ino, uint64_t window, struct hf_extvec *vec)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_extvec_clear(vec);
    hf_key_u64_u64(&key, HF_ROW_WINDOW, ino.v, window);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    err = hf_extvec_decode(vec, value, len);
    return err ? hf_txn_fail(meta, err) : 0;
}

int hf_window_look(struct hf_meta *meta, const struct hf_inode *inode, uint64_t window,
                   struct hf_extvec *vec)
{
    int err = vec_read(meta, inode->attr.ino, window, vec);

    if (!err && vec->count && hf_window_is_stale(inode, window, vec->epoch)) {
        hf_extvec_clear(vec);
    }
    return err;
}

int hf_window_load(struct hf_meta *meta, const struct hf_inode *inode, uint64_t window)
{
    int err = vec_read(meta, inode->attr.ino, window, &meta->vec_old);

    if (err) {
        return err;
    }
    if (meta->vec_old.count && hf_window_is_stale(inode, window, meta->vec_old.epoch)) {
        hf_extvec_clear(&meta->vec);
        return 0;
    }
    err = hf_extvec_copy(&meta->vec, &meta->vec_old);
    return err ? hf_txn_fail(meta, err) : 0;
}

/* Stores */

/* Count the extents of both vectors on their objects, but for what is the same at both ends. */
static int count_references(struct hf_meta *meta, const struct hf_extvec *old,
                            const struct hf_extvec *new)
{
    uint32_t head = 0, tail = 0;
    int err = 0;

    while (head < old->count && head < new->count &&hf_xt_same(&old->v[head], &new->v[head])) {
        head++;
    }
    while (tail < old->count - head &&
           tail < new->count - head &&hf_xt_same(&old->v[old->count - 1 - tail],
                                                 &new->v[new->count - 1 - tail])) {
        tail++;
    }
    for (uint32_t i = head; i < new->count - tail && !err; i++) {
        if (!hf_xt_is_inline(&new->v[i])) {
            err = hf_objects_count(meta, &new->v[i].oid, 1, new->v[i].len_bytes);
        }
    }
    for (uint32_t i = head; i < old->count - tail && !err; i++) {
        if (!hf_xt_is_inline(&old->v[i])) {
            err = hf_objects_count(meta, &old->v[i].oid, -1, -(int64_t)old->v[i].len_bytes);
        }
    }
    return err;
}

/* Write meta->vec as the row, or delete it when empty. */
static int row_write(struct hf_meta *meta, struct hf_ino ino, uint64_t window)
{
    size_t len = hf_extvec_row_bytes(&meta->vec);
    struct hf_key key;
    uint8_t *value;
    int err;

    hf_key_u64_u64(&key, HF_ROW_WINDOW, ino.v, window);
    if (!meta->vec.count) {
        return meta->vec_old.count ? hf_txn_del(meta, &key) : 0;
    }
    err = hf_txn_scratch(meta, len, &value);
    if (err) {
        return err;
    }
    hf_extvec_encode(&meta->vec, value);
    return hf_txn_put(meta, &key, value, len);
}

int hf_window_store(struct hf_meta *meta, struct hf_inode *inode, uint64_t window, bool commit)
{
    uint64_t covered, covered_old, in_line, in_line_old;
    int err = hf_extvec_compact(&meta->vec);

    if (err) {
        return hf_txn_fail(meta, err);
    }
    covered = hf_extvec_covered(&meta->vec, &in_line);
    covered_old = hf_extvec_covered(&meta->vec_old, &in_line_old);
    /* What makes a window smaller is never refused. */
    if ((meta->vec.count > (commit ? HF_WINDOW_EXTENTS_COMMIT : HF_WINDOW_EXTENTS_MAX) &&
         meta->vec.count > meta->vec_old.count + 1) ||
        (in_line > (commit ? HF_WINDOW_INLINE_COMMIT : HF_WINDOW_INLINE_MAX) &&
         in_line > in_line_old) ||
        meta->vec.count > HF_WINDOW_EXTENTS_MAX) {
        return -E2BIG;
    }
    meta->vec.epoch = inode->trunc_epoch;
    err = count_references(meta, &meta->vec_old, &meta->vec);
    if (err) {
        return err;
    }
    inode->attr.bytes += covered - covered_old;
    meta->c.usage.logical_bytes += covered - covered_old;
    meta->c.usage.inline_bytes += in_line - in_line_old;
    hf_inode_dirty(inode);
    return row_write(meta, inode->attr.ino, window);
}

int hf_window_drop(struct hf_meta *meta, struct hf_inode *inode, uint64_t window)
{
    int err = vec_read(meta, inode->attr.ino, window, &meta->vec_old);

    if (err || !meta->vec_old.count) {
        return err;
    }
    hf_extvec_clear(&meta->vec);
    return hf_window_store(meta, inode, window, false);
}

/* The first window row in [from, to). Errors: -ENOENT. */
static int next_row(struct hf_meta *meta, struct hf_ino ino, uint64_t from, uint64_t to,
                    uint64_t *ret, uint32_t *ret_epoch)
{
    struct hf_table_cursor cursor;
    struct hf_key key;
    int err;

    hf_key_u64_u64(&key, HF_ROW_WINDOW, ino.v, from);
    err = hf_txn_seek(meta, &key, 9, &cursor);
    if (err) {
        return err;
    }
    if (cursor.key_len != 17 || cursor.value_len < HF_ROW_WINDOW_HEAD) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    *ret = hf_get_be64((const uint8_t *)cursor.key + 9);
    *ret_epoch = hf_get_le32((const uint8_t *)cursor.value + 4);
    return *ret < to ? 0 : -ENOENT;
}

int hf_window_next(struct hf_meta *meta, struct hf_ino ino, uint64_t from, uint64_t to,
                   uint64_t *ret)
{
    uint32_t epoch;

    return next_row(meta, ino, from, to, ret, &epoch);
}

int hf_window_drop_from(struct hf_meta *meta, struct hf_inode *inode, uint64_t from, uint64_t to,
                        uint64_t max, uint64_t *ret_next, uint64_t *ret_count)
{
    uint64_t count = 0, window;
    uint32_t epoch;
    int err = 0;

    while (count < max && (err = next_row(meta, inode->attr.ino, from, to, &window, &epoch)) == 0) {
        err = hf_window_drop(meta, inode, window);
        if (err) {
            return err;
        }
        from = window + 1;
        count++;
    }
    *ret_next = from;
    *ret_count = count;
    return err == -ENOENT ? 0 : err;
}

/* Go through the tail, up to @max rows of it, as far as @to. Errors: -ENOENT  there are no more. */
static int drop_stale_to(struct hf_meta *meta, struct hf_inode *inode, uint64_t to, uint64_t max,
                         uint64_t *ret_count)
{
    uint64_t count = 0, window;
    uint32_t epoch;
    int err = 0;

    while (count < max &&
           (err = next_row(meta, inode->attr.ino, inode->stale_from, to, &window, &epoch)) == 0) {
        if (hf_window_is_stale(inode, window, epoch)) {
            err = hf_window_drop(meta, inode, window);
            if (err) {
                return err;
            }
        }
        inode->stale_from = window + 1;
        count++;
    }
    hf_inode_dirty(inode);
    *ret_count = count;
    return err;
}

int hf_window_drop_stale(struct hf_meta *meta, struct hf_inode *inode, uint64_t max,
                         uint64_t *ret_count)
{
    int err = drop_stale_to(meta, inode, UINT64_MAX, max, ret_count);

    if (err == -ENOENT) {
        inode->flags &= ~HF_INODE_STALE_TAIL;
        inode->stale_from = 0;
        return hf_purge_unqueue(meta, inode->attr.ino);
    }
    return err;
}

/* Cut [off, end) out of one window. */
static int punch_one(struct hf_meta *meta, struct hf_inode *inode, uint64_t window, uint32_t off,
                     uint32_t end)
{
    int err = hf_window_load(meta, inode, window);

    if (err || (!meta->vec.count && !meta->vec_old.count)) {
        return err;
    }
    if (hf_extvec_punch(&meta->vec, off, end - off)) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    return hf_window_store(meta, inode, window, false);
}

int hf_window_punch(struct hf_meta *meta, struct hf_inode *inode, uint64_t off, uint64_t end)
{
    uint64_t first = off / HF_WINDOW_BYTES, last = (end - 1) / HF_WINDOW_BYTES, next, count;
    uint32_t head = (uint32_t)(off % HF_WINDOW_BYTES);
    uint32_t tail = (uint32_t)((end - 1) % HF_WINDOW_BYTES) + 1;
    int err = 0;

    HF_ASSERT(off < end);
    if (first == last) {
        return punch_one(meta, inode, first, head, tail);
    }
    if (head) {
        err = punch_one(meta, inode, first++, head, HF_WINDOW_BYTES);
    }
    if (!err && tail == HF_WINDOW_BYTES) {
        last++;
    } else if (!err) {
        err = punch_one(meta, inode, last, 0, tail);
    }
    return err ? err : hf_window_drop_from(meta, inode, first, last, UINT64_MAX, &next, &count);
}

/* From window @keep on all is a tail: whatever is there was stored before. */
static int hide_from(struct hf_meta *meta, struct hf_inode *inode, uint64_t keep)
{
    inode->flags |= HF_INODE_STALE_TAIL;
    inode->trunc_epoch++;
    inode->stale_from = keep;
    hf_inode_dirty(inode);
    return hf_purge_queue(meta, inode->attr.ino);
}

/*
 * [keep, end) is cut off while a tail is there. They become one tail, which begins at @keep:
 * nothing is left of the old one before it, so that no window is hidden that the file keeps.
 * What it takes for that is bounded; -EAGAIN: the purge has to come further first.
 */
static int join_tail(struct hf_meta *meta, struct hf_inode *inode, uint64_t keep, uint64_t end)
{
    uint64_t next, count;
    int err;

    if (keep > inode->stale_from) {
        err = hf_window_drop_from(meta, inode, keep, end, HF_TRUNCATE_WINDOWS, &next, &count);
        if (err || count < HF_TRUNCATE_WINDOWS) {
            return err; /* there were no more: the old tail is as it was */
        }
        err = drop_stale_to(meta, inode, keep, HF_TRUNCATE_WINDOWS, &count);
        if (err && err != -ENOENT) {
            return err;
        }
        if (!err && inode->stale_from < keep) {
            return -EAGAIN;
        }
    }
    return hide_from(meta, inode, keep);
}

int hf_window_truncate(struct hf_meta *meta, struct hf_inode *inode, uint64_t size, bool bounded)
{
    uint64_t keep = hf_windows(size), end = hf_windows(inode->attr.size), next, count;
    bool tail = inode->flags & HF_INODE_STALE_TAIL;
    int err = 0;

    HF_ASSERT(size < inode->attr.size);
    if (size % HF_WINDOW_BYTES) {
        err = punch_one(meta, inode, keep - 1, (uint32_t)(size % HF_WINDOW_BYTES), HF_WINDOW_BYTES);
    }
    if (err) {
        return err;
    }
    if (end - keep <= HF_TRUNCATE_WINDOWS || (tail && !bounded)) {
        return hf_window_drop_from(meta, inode, keep, end, UINT64_MAX, &next, &count);
    }
    return tail ? join_tail(meta, inode, keep, end) : hide_from(meta, inode, keep);
}
