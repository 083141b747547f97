/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.c - records at the end of a file that other mounts append to as well.
 *
 * Where a record goes, the leader says: a commit of HF_WRITE_APPEND goes to the end that the file
 * has when it is applied. Until then the bytes float: they lie in the dirty map where they would
 * go if nobody else appended, the end as this mount knows it, and move when it is told better: by
 * the commit of what was appended before them, or by a newer size of the file.
 *
 *     [append_from, append_end)  floating, DIRTY
 *     parts with append          floating, on their way; they commit one after the other
 *
 * A flush takes what floats whole, up to a record's end, so that no record is torn; before it, all
 * that was written at its place, which may be what makes the end. If that fails and goes again
 * (inode->undone) what is appended waits for it; for what is written later it does not.
 * docs/design/append.md.
 */
#include <errno.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

static uint64_t part_stop(const struct hf_flush_part *part)
{
    return part->at + part->flush->bytes;
}

uint64_t hf_append_start(const struct hf_inode *inode)
{
    const struct hf_flush_part *part;
    uint64_t start = inode->append_end ? inode->append_from : UINT64_MAX;

    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        start = part->append && part->at < start ? part->at : start;
    }
    return start;
}

/* 0: nothing floats. */
static uint64_t append_stop(const struct hf_inode *inode)
{
    const struct hf_flush_part *part;
    uint64_t stop = inode->append_end;

    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        stop = part->append && part_stop(part) > stop ? part_stop(part) : stop;
    }
    return stop;
}

static const struct hf_flush_part *committing(const struct hf_inode *inode)
{
    const struct hf_flush_part *first = TAILQ_FIRST(&inode->parts);

    return first && first->append && first->submitted ? first : NULL;
}

uint64_t hf_append_place(const struct hf_inode *inode, uint64_t off)
{
    uint64_t stop = append_stop(inode), end = hf_dirty_end(&inode->dirty);

    return stop ? stop : off > end ? off : end;
}

void hf_append_note(struct hf_inode *inode, uint64_t off, uint64_t end)
{
    if (inode->append_end == 0) {
        inode->append_from = inode->append_end = off;
    }
    inode->append_from = off < inode->append_from ? off : inode->append_from;
    inode->append_end = end > inode->append_end ? end : inode->append_end;
}

void hf_append_cut(struct hf_inode *inode, uint64_t size)
{
    inode->append_end = size < inode->append_end ? size : inode->append_end;
    if (inode->append_end <= inode->append_from) {
        inode->append_from = inode->append_end = 0;
    }
}

/* Taking */

struct hf_flush_part *hf_append_next(const struct hf_inode *inode, uint64_t *ret_end)
{
    struct hf_flush_part *part, *behind = NULL;

    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        if (part->append && part->at > inode->append_from) {
            behind = part; /* what was refused goes again before what was taken behind it */
            break;
        }
    }
    *ret_end = behind && behind->at < inode->append_end ? behind->at : inode->append_end;
    return behind;
}

void hf_append_taken(struct hf_inode *inode, struct hf_flush_part *part,
                     struct hf_flush_part *behind)
{
    struct hf_flush_part *p;

    part->append = true;
    part->at = inode->append_from;
    TAILQ_REMOVE(&inode->parts, part, in_inode);
    if (behind) {
        TAILQ_INSERT_BEFORE(behind, part, in_inode);
        part->seq = behind->seq;
    } else {
        TAILQ_INSERT_TAIL(&inode->parts, part, in_inode);
        part->seq = ++part->flush->fs->part_seq;
    }
    TAILQ_FOREACH (p, &inode->parts, in_inode) { /* in order of their places */
        if (p->append && p->at == inode->append_from) {
            inode->append_from = part_stop(p);
        }
    }
    if (inode->append_from >= inode->append_end) {
        inode->append_from = inode->append_end = 0;
    }
}

/* Is something DIRTY that was not appended? */
static bool has_positioned(const struct hf_inode *inode)
{
    const struct hf_flush_part *part;
    uint64_t floating = inode->append_end - inode->append_from;

    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        if (part->append && part->at >= inode->append_from && part->at < inode->append_end) {
            floating -= part->flush->bytes < floating ? part->flush->bytes : floating;
        }
    }
    return inode->dirty.dirty_bytes > floating;
}

bool hf_append_waits(const struct hf_flush_part *part)
{
    const struct hf_inode *inode = part->inode;

    return TAILQ_PREV(part, hf_part_list, in_inode) ||
           (inode->undone && has_positioned(inode) && !HF_BUG(append_overtakes)) ||
           (inode->append_end && inode->append_from < part->at);
}

/* With those that were taken before it, for which nothing had to yield: they keep their order. */
void hf_append_yield(struct hf_inode *inode)
{
    struct hf_flush_part *first = TAILQ_FIRST(&inode->parts), *p, *next;

    while (first && (!first->append || first->submitted)) {
        first = TAILQ_NEXT(first, in_inode);
    }
    if (!first || !inode->undone) {
        return;
    }
    for (p = TAILQ_NEXT(first, in_inode); p; p = next) {
        next = TAILQ_NEXT(p, in_inode);
        if (!p->append) {
            TAILQ_REMOVE(&inode->parts, p, in_inode);
            TAILQ_INSERT_BEFORE(first, p, in_inode);
            p->seq = first->seq; /* who waits for that one waits for this */
        }
    }
}

bool hf_append_full(const struct hf_inode *inode, uint32_t len)
{
    uint64_t bytes = inode->append_end - inode->append_from + len;
    uint32_t pieces = 3; /* of the record itself, at most */

    if (inode->append_end == 0) {
        return false;
    }
    for (uint64_t i = inode->append_from / HF_WINDOW_BYTES; i * HF_WINDOW_BYTES < inode->append_end;
         i++) {
        const struct hf_window *w = hf_dirty_window(&inode->dirty, i);

        pieces += w ? w->count : 0;
    }
    return bytes > HF_OBJECT_BYTES_MAX || pieces > HF_FS_PIECES_MAX;
}

/* Moving */

/* All that floats at @from or behind it goes to @to. Errors: -ENOMEM  it stays: a guess anyway. */
static int move(struct hf_inode *inode, uint64_t from, uint64_t to)
{
    struct hf_flush_part *part;
    int err = hf_dirty_move(&inode->dirty, from, append_stop(inode), to);

    if (err) {
        return err;
    }
    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        part->at += part->append && part->at >= from ? to - from : 0;
    }
    if (inode->append_end && inode->append_from >= from) {
        inode->append_from += to - from;
        inode->append_end += to - from;
    }
    inode->moves++;
    return 0;
}

void hf_append_placed(struct hf_flush_part *part, const struct hf_attr *attr)
{
    struct hf_inode *inode = part->inode;
    uint64_t stop = part_stop(part);

    if (attr->ino.v == 0) {
        return; /* the file is gone */
    }
    part->end = attr->size;
    inode->append_version = attr->data_version;
    if (attr->size == stop) {
        return;
    }
    inode->moves++; /* it went elsewhere itself */
    if (append_stop(inode) > stop) {
        (void)move(inode, stop, attr->size);
    }
}

void hf_append_refused(struct hf_flush_part *part, const struct hf_attr *attr)
{
    if (attr->ino.v && attr->size != part->at) {
        part->inode->append_version = attr->data_version;
        (void)move(part->inode, part->at, attr->size);
    }
}

static void undone(struct hf_flush_part *part)
{
    uint64_t end = hf_dirty_run_end(&part->inode->dirty, part->at), stop = part_stop(part);

    end = end < stop ? end : stop;
    if (end > part->at) {
        hf_append_note(part->inode, part->at, end);
    }
    part->append = false;
}

void hf_append_settle(struct hf_flush_part *part, bool undo)
{
    uint64_t last = (part_stop(part) - 1) / HF_WINDOW_BYTES;

    for (uint64_t index = part->at / HF_WINDOW_BYTES; index <= last; index++) {
        hf_dirty_settle(&part->inode->dirty, index, part->flush, undo);
    }
    if (undo) {
        undone(part);
    }
}

bool hf_append_look(struct hf_inode *inode, const struct hf_attr *attr)
{
    uint64_t start = hf_append_start(inode);
    const struct hf_flush_part *first = TAILQ_FIRST(&inode->parts);

    if (start == UINT64_MAX || attr->size == start || attr->data_version < inode->append_version) {
        return false;
    }
    if (attr->size < start &&
        (hf_dirty_next(&inode->dirty, 0) < start || (first && !first->append))) {
        return false; /* what lies before it here is not committed */
    }
    if (committing(inode)) {
        return true; /* is it ours, or another's? */
    }
    inode->append_version = attr->data_version;
    (void)move(inode, start, attr->size);
    return false;
}

void hf_append_wait(struct hf_inode *inode, struct hf_fs_req *req,
                    void (*then)(struct hf_fs_req *req))
{
    const struct hf_flush_part *part = committing(inode);

    HF_ASSERT(part);
    req->target = part->seq;
    req->then = then;
    req->looks = true;
    hf_req_ring_add(&inode->waiters, req);
}
