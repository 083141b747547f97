/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "server/meta/alloc.h"
#include "server/meta/inode.h"
#include "server/meta/objects.h"
#include "server/meta/window.h"

/* Checks */

/* [off, off + len) lies within what a file may have. Errors: -EFBIG; -EINVAL  empty. */
static int range_check(uint64_t off, uint64_t len)
{
    if (len == 0) {
        return -EINVAL;
    }
    return off > HF_FILE_BYTES_MAX || len > HF_FILE_BYTES_MAX - off ? -EFBIG : 0;
}

static int regular_get(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret)
{
    int err = hf_inode_get_usable(meta, ino, ret);

    if (err || S_ISREG((*ret)->attr.mode)) {
        return err;
    }
    return S_ISDIR((*ret)->attr.mode) ? -EISDIR : -EINVAL;
}

/* A regular file that is about to change. */
static int changed_get(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_ino ino,
                       struct hf_inode **ret)
{
    int err = regular_get(meta, ino, ret);

    if (err) {
        return err;
    }
    return op->mask & HF_SET_KILLPRIV ? hf_inode_kill_priv(meta, *ret)
                                      : hf_inode_drop_caps(meta, *ret);
}

static int write_check_extent(const struct hf_meta_op *op, const struct hf_wr_extent *extent)
{
    uint64_t room = op->bulk_len;

    if (extent->object != HF_EXTENT_INLINE) {
        if (extent->object >= op->object_count) {
            return -EINVAL;
        }
        room = op->objects[extent->object].len_bytes;
    }
    if (extent->pos_bytes > room || extent->len_bytes > room - extent->pos_bytes) {
        return -EINVAL;
    }
    return range_check(extent->off_bytes, extent->len_bytes);
}

/* An append is of one file, and nothing of it lies before its offset. */
static int append_check(const struct hf_meta_op *op)
{
    if (op->inode_count != 1 || op->inodes[0].size_min_bytes < op->offset) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < op->extent_count; i++) {
        if (op->extents[i].ino.v != op->inodes[0].ino.v || op->extents[i].off_bytes < op->offset) {
            return -EINVAL;
        }
    }
    return 0;
}

static int write_check(const struct hf_meta_op *op)
{
    if (op->object_count > HF_COMMIT_OBJECTS_MAX || op->extent_count > HF_COMMIT_EXTENTS_MAX ||
        op->inode_count > HF_COMMIT_INODES_MAX || op->bulk_len > HF_INLINE_BYTES_MAX) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < op->extent_count; i++) {
        int err = write_check_extent(op, &op->extents[i]);

        if (err) {
            return err;
        }
        if (i && op->extents[i - 1].ino.v == op->extents[i].ino.v &&
            op->extents[i - 1].off_bytes + op->extents[i - 1].len_bytes >
                op->extents[i].off_bytes) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < op->inode_count; i++) {
        if (op->inodes[i].size_min_bytes > HF_FILE_BYTES_MAX) {
            return -EFBIG;
        }
    }
    return op->flags & HF_WRITE_APPEND ? append_check(op) : 0;
}

/* Write */

/*
 * The ctime after this commit of an inode that had @was_ns. One that a program was told stays; but
 * another mount that saw @was_ns has to find a later one.
 */
static uint64_t write_ctime(const struct hf_meta *meta, const struct hf_wr_inode *wr,
                            uint64_t was_ns)
{
    uint64_t told_ns = wr->ctime_ns == HF_CTIME_NEXT ? was_ns + 1 : wr->ctime_ns;

    return told_ns > was_ns && told_ns <= meta->latest_ns ? told_ns
                                                          : hf_inode_next_ctime(meta, was_ns);
}

/* How far (modulo 2^64) what is appended lies from where the client thought that it would. */
static int append_shift(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply, uint64_t *ret)
{
    struct hf_inode *inode;
    int err;

    *ret = 0;
    if (!(op->flags & HF_WRITE_APPEND)) {
        return 0;
    }
    err = regular_get(meta, op->inodes[0].ino, &inode);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    reply->attr = inode->attr;
    if (HF_BUG(append_anywhere)) {
        return 0;
    }
    *ret = inode->attr.size - op->offset;
    return op->inodes[0].size_min_bytes - op->offset > HF_FILE_BYTES_MAX - inode->attr.size ? -EFBIG
                                                                                            : 0;
}

/* Sizes and times. Inodes that are gone are passed over. */
static int write_inodes(struct hf_meta *meta, const struct hf_meta_op *op, uint64_t shift)
{
    for (uint32_t i = 0; i < op->inode_count; i++) {
        const struct hf_wr_inode *wr = &op->inodes[i];
        struct hf_inode *inode;
        uint64_t was_ns;
        int err = regular_get(meta, wr->ino, &inode);

        if (err == -ENOENT) {
            continue;
        }
        if (!err) {
            was_ns = inode->attr.ctime_ns;
            err = changed_get(meta, op, wr->ino, &inode);
        }
        if (err) {
            return err;
        }
        hf_inode_touch(meta, inode);
        inode->attr.ctime_ns = write_ctime(meta, wr, was_ns);
        if (wr->size_min_bytes + shift > inode->attr.size) {
            inode->attr.size = wr->size_min_bytes + shift;
            inode->attr.data_version = inode->attr.version;
        }
        if (wr->mtime_ns) {
            inode->attr.mtime_ns = wr->mtime_ns;
        }
    }
    return 0;
}

/* The part of @extent in [off, off + len) of its window goes into meta->vec. */
static int write_piece(struct hf_meta *meta, const struct hf_meta_op *op,
                       const struct hf_wr_extent *extent, uint64_t shift, uint64_t start,
                       uint32_t len)
{
    uint32_t off = (uint32_t)(start % HF_WINDOW_BYTES);
    uint32_t pos = extent->pos_bytes + (uint32_t)(start - (extent->off_bytes + shift));
    int err;

    if (extent->object == HF_EXTENT_INLINE) {
        err = hf_extvec_set_inline(&meta->vec, off, len, (const uint8_t *)op->bulk + pos);
    } else {
        err = hf_extvec_set(&meta->vec, off, len, &op->objects[extent->object].oid, pos);
    }
    return err ? hf_txn_fail(meta, err) : 0;
}

/* All extents of one inode, @count of them from @extents; one load and store per window. */
static int write_extents_of(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_inode *inode, const struct hf_wr_extent *extents,
                            uint32_t count, uint64_t shift)
{
    uint64_t loaded = UINT64_MAX;
    int err = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = extents[i].off_bytes + shift, end = at + extents[i].len_bytes;

        end = end < inode->attr.size ? end : inode->attr.size; /* nothing behind EOF */
        while (at < end) {
            uint64_t window = at / HF_WINDOW_BYTES;
            uint64_t stop = (window + 1) * HF_WINDOW_BYTES;

            stop = stop < end ? stop : end;
            if (window != loaded) {
                err = loaded == UINT64_MAX ? 0 : hf_window_store(meta, inode, loaded, true);
                if (!err) {
                    err = hf_window_load(meta, inode, window);
                }
                loaded = window;
            }
            if (!err) {
                err = write_piece(meta, op, &extents[i], shift, at, (uint32_t)(stop - at));
            }
            if (err) {
                return err;
            }
            at = stop;
        }
    }
    return loaded == UINT64_MAX ? 0 : hf_window_store(meta, inode, loaded, true);
}

static int write_extents(struct hf_meta *meta, const struct hf_meta_op *op, uint64_t shift)
{
    uint32_t count;

    for (uint32_t i = 0; i < op->extent_count; i += count) {
        struct hf_inode *inode;
        int err = regular_get(meta, op->extents[i].ino, &inode);

        for (count = 1;
             i + count < op->extent_count && op->extents[i + count].ino.v == op->extents[i].ino.v;
             count++) {
        }
        if (err == -ENOENT) {
            continue;
        }
        if (!err) {
            uint64_t mtime_ns = inode->attr.mtime_ns;

            hf_inode_touch_data(meta, inode);
            inode->attr.mtime_ns = mtime_ns; /* only as the operation says */
            err = hf_alloc_release_extents(meta, inode, &op->extents[i], count, shift);
        }
        if (!err) {
            err = write_extents_of(meta, op, inode, &op->extents[i], count, shift);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int hf_meta_op_write(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_inode *first;
    uint64_t shift;
    int err = write_check(op);

    if (!err) {
        err = append_shift(meta, op, reply, &shift);
    }
    for (uint32_t i = 0; i < op->object_count && !err; i++) {
        err = hf_objects_enter(meta, &op->objects[i]);
    }
    if (!err) {
        err = write_inodes(meta, op, shift);
    }
    if (!err) {
        err = write_extents(meta, op, shift);
    }
    if (err || !op->inode_count) {
        return err;
    }
    err = hf_inode_get_usable(meta, op->inodes[0].ino, &first);
    if (!err) {
        reply->attr = first->attr;
    }
    return err == -ENOENT ? 0 : err;
}

/* Relocate */

/* Is all of [off, off + len) of the (compacted) vector inline, with these bytes? */
static bool relocate_same(const struct hf_extvec *vec, uint32_t off, uint32_t len, uint64_t digest)
{
    uint32_t i = hf_extvec_find(vec, off);
    const struct hf_xt *xt = &vec->v[i];

    return i < vec->count && hf_xt_is_inline(xt) && xt->off_bytes <= off &&
           off + len <= hf_xt_end(xt) &&
           (HF_BUG(relocate_blind) ||
            hf_hash64(vec->bytes + xt->pos_bytes + (off - xt->off_bytes), len, 0) == digest);
}

static int relocate_extent(struct hf_meta *meta, const struct hf_meta_op *op,
                           const struct hf_wr_extent *extent)
{
    uint64_t window = extent->off_bytes / HF_WINDOW_BYTES;
    uint32_t off = (uint32_t)(extent->off_bytes % HF_WINDOW_BYTES);
    struct hf_inode *inode;
    int err = regular_get(meta, extent->ino, &inode);

    if (err == -ENOENT) {
        return 0;
    }
    if (!err) {
        err = hf_window_load(meta, inode, window);
    }
    if (err || !relocate_same(&meta->vec, off, extent->len_bytes, extent->digest)) {
        return err; /* written meanwhile: this part of the object stays unreferenced */
    }
    err = write_piece(meta, op, extent, 0, extent->off_bytes, extent->len_bytes);
    return err ? err : hf_window_store(meta, inode, window, false);
}

int hf_meta_op_relocate(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply)
{
    int err = write_check(op);

    (void)reply;
    for (uint32_t i = 0; i < op->extent_count && !err; i++) {
        const struct hf_wr_extent *x = &op->extents[i];

        if (x->object == HF_EXTENT_INLINE ||
            x->off_bytes % HF_WINDOW_BYTES + x->len_bytes > HF_WINDOW_BYTES) {
            err = -EINVAL;
        }
    }
    for (uint32_t i = 0; i < op->object_count && !err; i++) {
        err = hf_objects_enter(meta, &op->objects[i]);
    }
    for (uint32_t i = 0; i < op->extent_count && !err; i++) {
        err = relocate_extent(meta, op, &op->extents[i]);
    }
    return err;
}

/* Punch, allocate */

/* The range is reserved where nothing is, or (of a punch) no longer. */
static int space_set(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_inode *inode)
{
    uint64_t end = op->offset + op->length;

    if (op->flags & HF_ALLOC_RESERVE) {
        return hf_alloc_reserve(meta, inode, op->offset, end, op->size);
    }
    return op->op == HF_OP_PUNCH ? hf_alloc_release(meta, inode, op->offset, end) : 0;
}

int hf_meta_op_punch(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    uint64_t end = op->offset + op->length;
    struct hf_inode *inode;
    int err = range_check(op->offset, op->length);

    if (!err) {
        err = changed_get(meta, op, op->ino, &inode);
    }
    if (!err && op->offset < inode->attr.size) {
        err = hf_window_punch(meta, inode, op->offset,
                              end < inode->attr.size ? end : inode->attr.size);
    }
    if (!err) {
        err = space_set(meta, op, inode);
    }
    if (err) {
        return err;
    }
    if ((op->flags & HF_PUNCH_EXTEND) && end > inode->attr.size) {
        inode->attr.size = end;
    }
    hf_inode_touch_data(meta, inode);
    reply->attr = inode->attr;
    return 0;
}

int hf_meta_op_allocate(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply)
{
    uint64_t end = op->offset + op->length;
    struct hf_inode *inode;
    int err = range_check(op->offset, op->length);

    if (!err) {
        err = changed_get(meta, op, op->ino, &inode);
    }
    if (!err) {
        err = space_set(meta, op, inode);
    }
    if (err) {
        return err;
    }
    if (!(op->flags & HF_ALLOC_KEEP_SIZE) && end > inode->attr.size) {
        inode->attr.size = end;
        hf_inode_touch_data(meta, inode);
    } else {
        hf_inode_touch(meta, inode);
    }
    reply->attr = inode->attr;
    return 0;
}

/* Clone */

/* Pieces of the source, by offset in the source range. */
struct piece {
    uint64_t off; /* from the range's start */
    uint32_t len;
    uint32_t pos; /* inline: in pieces.bytes */
    struct hf_oid oid;
};

struct pieces {
    struct piece *v;
    size_t count, cap;
    uint8_t *bytes;
    size_t bytes_len, bytes_cap;
};

static void pieces_fini(struct pieces *pieces)
{
    free(pieces->v);
    free(pieces->bytes);
}

static int pieces_add(struct pieces *pieces, const struct piece *piece, const uint8_t *in_line)
{
    if (pieces->count == pieces->cap) {
        size_t cap = pieces->cap ? pieces->cap * 2 : 256;
        struct piece *v = realloc(pieces->v, cap * sizeof(*v));

        if (!v) {
            return -ENOMEM;
        }
        pieces->v = v;
        pieces->cap = cap;
    }
    pieces->v[pieces->count] = *piece;
    if (in_line) {
        HF_ASSERT(piece->len > 0);
        if (pieces->bytes_len + piece->len > pieces->bytes_cap) {
            size_t cap = (pieces->bytes_len + piece->len) * 2;
            uint8_t *bytes = realloc(pieces->bytes, cap);

            if (!bytes) {
                return -ENOMEM;
            }
            pieces->bytes = bytes;
            pieces->bytes_cap = cap;
        }
        memcpy(pieces->bytes + pieces->bytes_len, in_line, piece->len);
        pieces->v[pieces->count].pos = (uint32_t)pieces->bytes_len;
        pieces->bytes_len += piece->len;
    }
    pieces->count++;
    return 0;
}

/* What [off, off + len) of the source holds. */
static int clone_gather(struct hf_meta *meta, const struct hf_inode *source, uint64_t off,
                        uint64_t len, struct pieces *ret)
{
    uint64_t end = off + len;

    for (uint64_t w = off / HF_WINDOW_BYTES; w * HF_WINDOW_BYTES < end; w++) {
        uint64_t base = w * HF_WINDOW_BYTES;
        int err = hf_window_look(meta, source, w, &meta->vec);

        for (uint32_t i = 0; i < meta->vec.count && !err; i++) {
            const struct hf_xt *xt = &meta->vec.v[i];
            uint64_t from = base + xt->off_bytes, to = from + xt->len_bytes, cut;

            cut = off > from ? off - from : 0;
            to = to < end ? to : end;
            if (from + cut < to) {
                const struct piece piece = {
                    .off = from + cut - off,
                    .len = (uint32_t)(to - from - cut),
                    .pos = xt->pos_bytes + (uint32_t)cut,
                    .oid = xt->oid,
                };

                err = pieces_add(ret, &piece,
                                 hf_xt_is_inline(xt) ? meta->vec.bytes + piece.pos : NULL);
            }
        }
        if (err) {
            return hf_txn_fail(meta, err);
        }
    }
    return 0;
}

/* Make one window of the target, from @at to @end in the range, what the pieces say. @next: the
 * first piece that may reach into it; moved on. */
static int clone_window(struct hf_meta *meta, struct hf_inode *target, uint64_t target_off,
                        const struct pieces *pieces, uint64_t at, uint64_t end, size_t *next)
{
    uint64_t window = (target_off + at) / HF_WINDOW_BYTES;
    uint32_t off = (uint32_t)((target_off + at) % HF_WINDOW_BYTES);
    int err = hf_window_load(meta, target, window);

    if (err) {
        return err;
    }
    err = hf_extvec_punch(&meta->vec, off, (uint32_t)(end - at));
    while (!err && *next < pieces->count && pieces->v[*next].off < end) {
        const struct piece *piece = &pieces->v[*next];
        uint64_t from = piece->off > at ? piece->off : at;
        uint64_t to = piece->off + piece->len < end ? piece->off + piece->len : end;
        uint32_t pos = piece->pos + (uint32_t)(from - piece->off);
        uint32_t to_off = off + (uint32_t)(from - at);

        if (piece->oid.session) {
            err = hf_extvec_set(&meta->vec, to_off, (uint32_t)(to - from), &piece->oid, pos);
        } else {
            err = hf_extvec_set_inline(&meta->vec, to_off, (uint32_t)(to - from),
                                       pieces->bytes + pos);
        }
        if (piece->off + piece->len > end) {
            break; /* goes on in the next window */
        }
        ++*next;
    }
    return err ? hf_txn_fail(meta, err) : hf_window_store(meta, target, window, false);
}

static int clone_range(struct hf_meta *meta, const struct hf_inode *source, uint64_t off,
                       struct hf_inode *target, uint64_t target_off, uint64_t len)
{
    struct pieces pieces = {0};
    size_t next = 0;
    uint64_t end;
    int err = clone_gather(meta, source, off, len, &pieces);

    for (uint64_t at = 0; at < len && !err; at = end) {
        end = at + HF_WINDOW_BYTES - (target_off + at) % HF_WINDOW_BYTES;
        end = end < len ? end : len;
        err = clone_window(meta, target, target_off, &pieces, at, end, &next);
    }
    pieces_fini(&pieces);
    return err;
}

int hf_meta_op_clone(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_inode *source, *target;
    uint64_t len = op->length;
    int err = range_check(op->offset, len);

    if (!err) {
        err = range_check(op->offset2, len);
    }
    if (!err && len > HF_CLONE_BYTES_MAX) {
        err = -E2BIG;
    }
    if (!err) {
        err = regular_get(meta, op->ino, &source);
    }
    if (!err) {
        err = changed_get(meta, op, op->ino2, &target);
    }
    if (err) {
        return err;
    }
    if (op->offset >= source->attr.size) {
        len = 0;
    } else if (len > source->attr.size - op->offset) {
        len = source->attr.size - op->offset;
    }
    if (source == target && op->offset < op->offset2 + len && op->offset2 < op->offset + len) {
        return -EINVAL;
    }
    if (len) {
        if (op->offset2 + len > target->attr.size) {
            target->attr.size = op->offset2 + len;
        }
        err = clone_range(meta, source, op->offset, target, op->offset2, len);
        if (!err) {
            err = hf_alloc_release(meta, target, op->offset2, op->offset2 + len);
        }
        hf_inode_touch_data(meta, target);
    }
    reply->attr = target->attr;
    reply->count = len;
    return err;
}

/* Extents, read */

struct answer {
    uint8_t *buf;
    size_t cap;
    uint32_t count;
    uint8_t *in_line; /* gathered apart, copied behind the records at the end */
    size_t in_line_len, in_line_cap;
};

#define ANSWER_HEAD        8u
#define ANSWER_WINDOWS_MAX 4096u /* looked at for one answer: bounded work */

static bool answer_fits(const struct answer *a, size_t in_line)
{
    return ANSWER_HEAD + (size_t)(a->count + 1) * HF_EXTENT_WIRE_BYTES + a->in_line_len + in_line <=
           a->cap;
}

static int answer_inline(struct answer *a, const uint8_t *bytes, size_t len)
{
    if (a->in_line_len + len > a->in_line_cap) {
        size_t cap = (a->in_line_len + len) * 2;
        uint8_t *p = realloc(a->in_line, cap);

        if (!p) {
            return -ENOMEM;
        }
        a->in_line = p;
        a->in_line_cap = cap;
    }
    HF_ASSERT(a->in_line);
    memcpy(a->in_line + a->in_line_len, bytes, len);
    a->in_line_len += len;
    return 0;
}

/* One window's extents that touch [off, end). @ret_end: where the answer ends when it is full.
 * Errors: -ERANGE  full. */
static int answer_window(const struct hf_extvec *vec, uint64_t base, uint64_t off, uint64_t end,
                         struct answer *a, uint64_t *ret_end)
{
    uint32_t i = off > base ? hf_extvec_find(vec, (uint32_t)(off - base)) : 0;

    for (; i < vec->count && base + vec->v[i].off_bytes < end; i++) {
        const struct hf_xt *xt = &vec->v[i];
        struct hf_extent extent = {
            .off_bytes = base + xt->off_bytes,
            .len_bytes = xt->len_bytes,
            .pos_bytes = hf_xt_is_inline(xt) ? (uint32_t)a->in_line_len : xt->pos_bytes,
            .oid = xt->oid,
        };

        if (!answer_fits(a, hf_xt_is_inline(xt) ? xt->len_bytes : 0)) {
            *ret_end = extent.off_bytes > off ? extent.off_bytes : off;
            return -ERANGE;
        }
        if (hf_xt_is_inline(xt) && answer_inline(a, vec->bytes + xt->pos_bytes, xt->len_bytes)) {
            return -ENOMEM;
        }
        hf_extent_encode(&extent, a->buf + ANSWER_HEAD + (size_t)a->count++ * HF_EXTENT_WIRE_BYTES);
    }
    return 0;
}

static int answer_range(struct hf_meta *meta, const struct hf_inode *inode, uint64_t off,
                        uint64_t end, struct answer *a, uint64_t *ret_end)
{
    uint64_t stop = end < inode->attr.size ? end : inode->attr.size;
    uint64_t w = off / HF_WINDOW_BYTES;

    *ret_end = end;
    for (uint32_t looked = 0; w * HF_WINDOW_BYTES < stop; looked++) {
        int err;

        if (looked >= ANSWER_WINDOWS_MAX) {
            *ret_end = w * HF_WINDOW_BYTES;
            return 0;
        }
        err = hf_window_look(meta, inode, w, &meta->vec);
        if (!err) {
            err = answer_window(&meta->vec, w * HF_WINDOW_BYTES, off, stop, a, ret_end);
        }
        if (err) {
            return err == -ERANGE && a->count ? 0 : err;
        }
        w++;
        if (!meta->vec.count) { /* a hole: to where it ends */
            err = hf_window_next(meta, inode->attr.ino, w, hf_windows(stop), &w);
        }
        if (err) {
            return err == -ENOENT ? 0 : err;
        }
    }
    return 0;
}

void hf_meta_rd_extents(struct hf_meta *meta, const struct hf_meta_read *rd,
                        struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    struct answer a = {
        .buf = buf,
        .cap = buf_bytes < HF_FRAME_BULK_MAX ? buf_bytes : HF_FRAME_BULK_MAX,
    };
    uint64_t end = rd->offset + rd->length;
    struct hf_inode inode;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (!reply->err && !S_ISREG(inode.attr.mode)) {
        reply->err = -EINVAL;
    }
    if (reply->err) {
        return;
    }
    reply->attr = inode.attr;
    reply->data_version = inode.attr.data_version;
    if (rd->if_version && rd->if_version == inode.attr.data_version) {
        reply->err = -HF_ENOTMODIFIED;
        return;
    }
    if (end < rd->offset || rd->length == 0) {
        end = UINT64_MAX;
    }
    reply->err = a.cap < ANSWER_HEAD
                     ? -ERANGE
                     : answer_range(meta, &inode, rd->offset, end, &a, &reply->next_cookie);
    if (!reply->err) {
        size_t records = ANSWER_HEAD + (size_t)a.count * HF_EXTENT_WIRE_BYTES;

        hf_put_le32(buf, a.count);
        hf_put_le32(buf + 4, (uint32_t)a.in_line_len);
        if (a.in_line_len) {
            memcpy(buf + records, a.in_line, a.in_line_len);
        }
        reply->bulk = buf;
        reply->bulk_len = records + a.in_line_len;
    }
    free(a.in_line);
}
