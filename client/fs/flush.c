/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flush.c - dirty bytes on their way out: which, when, in what shape, and what becomes of them.
 *
 *     STREAM  a window that fills from its start: its object is sent while it fills
 *     PACKED  a full window; or ranges of many files, oldest first, in one object
 *     INLINE  few bytes that somebody waits for: inside the commit, no object
 *
 *     FILLING ──launch──► PUTTING ──durable──► DURABLE ──earlier parts sent──► COMMITTING ──► end
 *
 * A refused commit goes again in another shape: inline bytes as an object, files that shared one
 * alone. One to a window of too many extents goes again when that was written whole (compact.c).
 *
 * An end with an error that may pass (the ranges are DIRTY again and go later) or that will not
 * (no space, session lost, file gone: the ranges are dropped and the files report it).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define IOV_CHUNK 64

static void flush_discard(struct hf_flush *flush);

/* Making one */

static void put_done(struct hf_io_put *put, int err)
{
    struct hf_flush *flush = put->ctx;

    if (err) {
        hf_flush_end(flush, err);
        return;
    }
    HF_ASSERT(flush->state == HF_FLUSH_PUTTING && put->len_bytes == flush->bytes);
    flush->state = HF_FLUSH_DURABLE;
    flush->fs->background -= flush->background; /* it may wait for one that has no place yet */
    flush->background = false;
    hf_flush_commit(flush);
}

static struct hf_flush *flush_new(struct hf_fs *fs, enum hf_flush_kind kind)
{
    struct hf_flush *flush = calloc(1, sizeof(*flush));

    if (flush) {
        flush->fs = fs;
        flush->kind = kind;
        flush->put.done = put_done;
        flush->put.ctx = flush;
        TAILQ_INSERT_TAIL(&fs->flushes, flush, in_fs);
        fs->flush_count++;
    }
    return flush;
}

/* The flush's part of an inode: its last one, or a new one at the end of the inode's order. */
static struct hf_flush_part *part_get(struct hf_flush *flush, struct hf_inode *inode)
{
    struct hf_flush_part *part = flush->parts_last;

    if (part && part->inode == inode) {
        return part;
    }
    part = calloc(1, sizeof(*part));
    if (!part) {
        return NULL;
    }
    part->flush = flush;
    part->inode = hf_fs_inode_ref(inode);
    part->seq = ++flush->fs->part_seq;
    part->piece_from = part->piece_to = flush->pieces.count;
    TAILQ_INSERT_TAIL(&inode->parts, part, in_inode);
    hf_append_yield(inode);
    *(flush->parts_last ? &flush->parts_last->next : &flush->parts) = part;
    flush->parts_last = part;
    flush->part_count++;
    return part;
}

/* Whose data is taken must not wait behind a stream that nobody completes. */
static void seal_other(struct hf_flush *flush, struct hf_inode *inode)
{
    if (inode->stream && inode->stream != flush) {
        hf_flush_seal(flush->fs, inode);
    }
}

/* Take DIRTY ranges of [off, end), @contiguous ones become one extent; *ret_next: where the flush
 * was full, else @end. */
static int flush_take(struct hf_flush *flush, struct hf_inode *inode, uint64_t off, uint64_t end,
                      uint64_t max_bytes, bool contiguous, uint64_t *ret_next)
{
    struct hf_flush_part *part;
    uint32_t extents_left = HF_COMMIT_EXTENTS_MAX - flush->extent_count;
    uint32_t max_pieces = contiguous ? HF_FS_PIECES_MAX : flush->pieces.count + extents_left;
    int err;

    seal_other(flush, inode);
    part = part_get(flush, inode);
    if (!part) {
        return -ENOMEM;
    }
    flush->kill = flush->kill || inode->kill;
    err = hf_dirty_take(&inode->dirty, off, end, max_bytes, max_pieces, flush, &flush->pieces,
                        ret_next);
    for (; part->piece_to < flush->pieces.count; part->piece_to++) {
        const struct hf_piece *p = &flush->pieces.v[part->piece_to];
        uint64_t p_end = p->off_bytes + p->len_bytes;

        if (part->piece_to == part->piece_from ||
            p[-1].off_bytes + p[-1].len_bytes != p->off_bytes ||
            p->off_bytes % HF_WINDOW_BYTES == 0) {
            flush->extent_count++;
        }
        flush->bytes += p->len_bytes;
        flush->fs->flush_bytes += p->len_bytes;
        part->end = p_end > part->end ? p_end : part->end;
    }
    return err;
}

/* Hand what was taken since the last time to the put. */
static void flush_append(struct hf_flush *flush)
{
    struct iovec iov[IOV_CHUNK];

    if (!flush->begun) {
        hf_io_put_begin(flush->fs->io, &flush->put);
        flush->begun = true;
    }
    while (flush->appended < flush->pieces.count) {
        int n = 0;

        while (n < IOV_CHUNK && flush->appended < flush->pieces.count) {
            const struct hf_piece *p = &flush->pieces.v[flush->appended++];

            iov[n++] = (struct iovec){hf_slab_at(p->slab, p->pos_bytes), p->len_bytes};
        }
        hf_io_put_append(&flush->put, iov, n);
    }
}

static void flush_launch(struct hf_flush *flush, bool urgent)
{
    HF_ASSERT(flush->state == HF_FLUSH_FILLING && flush->bytes > 0);
    HF_ASSERT(flush->bytes <= HF_OBJECT_BYTES_MAX);
    flush->fs->stats.flushed_bytes += flush->bytes;
    flush->fs->launched++;
    if (flush->kind == HF_FLUSH_INLINE) {
        flush->state = HF_FLUSH_DURABLE;
        hf_flush_commit(flush);
        return;
    }
    flush->put.urgent = urgent;
    flush_append(flush);
    flush->state = HF_FLUSH_PUTTING;
    hf_io_put_finish(&flush->put);
}

static void set_stream(struct hf_fs *fs, struct hf_inode *inode, struct hf_flush *flush)
{
    fs->stream_count += flush != NULL;
    fs->stream_count -= inode->stream != NULL;
    inode->stream = flush;
}

void hf_flush_seal(struct hf_fs *fs, struct hf_inode *inode)
{
    struct hf_flush *flush = inode->stream;

    if (flush) {
        set_stream(fs, inode, NULL);
        flush_launch(flush, false);
    }
}

/* Shapes */

struct packer {
    struct hf_fs *fs;
    struct hf_flush *flush; /* FILLING, or NULL */
    bool urgent;
    bool background; /* respect flush_streams */
};

static void packer_launch(struct packer *packer)
{
    struct hf_flush *flush = packer->flush;

    packer->flush = NULL;
    if (!flush) {
        return;
    }
    if (flush->bytes == 0) {
        flush_discard(flush);
        return;
    }
    flush_launch(flush, packer->urgent);
}

/* Has a window of [off, end) refused inline bytes? */
static bool inline_refused(const struct hf_inode *inode, uint64_t off, uint64_t end)
{
    uint64_t base = (inode->no_inline - 1) * HF_WINDOW_BYTES;

    return inode->no_inline && base < end && base + HF_WINDOW_BYTES > off;
}

static bool packer_full(const struct packer *packer)
{
    return packer->background && packer->fs->background >= packer->fs->flush_streams;
}

/* An open flush with room; NULL: the limit of flushes is reached, or no memory. */
static struct hf_flush *packer_open(struct packer *packer)
{
    struct hf_flush *flush = packer->flush;

    if (flush && flush->bytes < HF_OBJECT_BYTES_MAX &&
        flush->extent_count < HF_COMMIT_EXTENTS_MAX && flush->part_count < HF_FS_FLUSH_INODES) {
        return flush;
    }
    packer_launch(packer);
    if (packer_full(packer)) {
        return NULL;
    }
    flush = flush_new(packer->fs, HF_FLUSH_PACKED);
    if (flush && packer->background) {
        flush->background = true;
        packer->fs->background++;
    }
    packer->flush = flush;
    return flush;
}

/* All DIRTY bytes of [off, end), within one window. False: the limit is reached. */
static bool pack_range(struct packer *packer, struct hf_inode *inode, uint64_t off, uint64_t end)
{
    uint64_t index = off / HF_WINDOW_BYTES;

    while (off < end) {
        const struct hf_window *w = hf_dirty_window(&inode->dirty, index);
        struct hf_flush *flush = packer->flush;
        uint32_t bytes = w ? hf_window_dirty(w, off, end) : 0;
        int err;

        if (bytes == 0) {
            return true;
        }
        if (flush && flush->bytes + bytes > HF_OBJECT_BYTES_MAX) {
            packer_launch(packer); /* whole windows stay together */
        }
        flush = packer_open(packer);
        if (!flush) {
            return false;
        }
        err = flush_take(flush, inode, off, end, HF_OBJECT_BYTES_MAX - flush->bytes,
                         bytes == HF_WINDOW_BYTES, &off);
        if (err) {
            packer_launch(packer);
            return false;
        }
        if (off < end) {
            packer_launch(packer);
        }
    }
    return true;
}

/* All DIRTY bytes of one window but for those appended. */
static bool pack_window(struct packer *packer, struct hf_inode *inode, uint64_t index)
{
    uint64_t off = index * HF_WINDOW_BYTES, end = off + HF_WINDOW_BYTES;
    uint64_t from = inode->append_end ? inode->append_from : end;
    uint64_t behind = inode->append_end > off ? inode->append_end : off;

    if (off < from && !pack_range(packer, inode, off, from < end ? from : end)) {
        return false;
    }
    return from >= end || behind >= end || pack_range(packer, inode, behind, end);
}

/* Everything appended, one flush for what ends with a record. */
static bool pack_append(struct packer *packer, struct hf_inode *inode)
{
    while (inode->append_end && !packer_full(packer)) {
        uint64_t from = inode->append_from, end;
        struct hf_flush_part *behind = hf_append_next(inode, &end);
        bool is_inline = packer->urgent && end - from <= HF_INLINE_BYTES_MAX &&
                         !inline_refused(inode, from, end);
        struct hf_flush *flush =
            flush_new(packer->fs, is_inline ? HF_FLUSH_INLINE : HF_FLUSH_PACKED);
        int err;

        if (!flush) {
            return false;
        }
        flush->background = packer->background;
        packer->fs->background += packer->background;
        err = flush_take(flush, inode, from, end, HF_OBJECT_BYTES_MAX, true, NULL);
        if (err || flush->bytes == 0) {
            flush_discard(flush);
            return false;
        }
        hf_append_taken(inode, flush->parts, behind);
        flush_launch(flush, packer->urgent);
    }
    return inode->append_end == 0;
}

static bool pack_inode(struct packer *packer, struct hf_inode *inode)
{
    uint64_t off = 0;
    bool all = true, alone = inode->solo;

    hf_flush_seal(packer->fs, inode);
    /* One commit takes set-user-ID bits from all of its files, or from none. */
    if (alone || (packer->flush && packer->flush->kill != inode->kill)) {
        packer_launch(packer);
    }
    while (all && inode->dirty.dirty_bytes > 0 &&
           (off = hf_dirty_next(&inode->dirty, off)) != UINT64_MAX) {
        all = pack_window(packer, inode, off / HF_WINDOW_BYTES);
        off = (off / HF_WINDOW_BYTES + 1) * HF_WINDOW_BYTES;
    }
    inode->undone = inode->undone && !all;
    if (alone || inode->append_end) {
        packer_launch(packer); /* what is appended must not wait for what stays open */
    }
    return all && pack_append(packer, inode);
}

void hf_flush_append(struct hf_fs *fs, struct hf_inode *inode)
{
    struct packer packer = {.fs = fs};

    /* without memory it goes with what follows */
    (void)(HF_BUG(append_overtakes) ? pack_append : pack_inode)(&packer, inode);
    packer_launch(&packer);
}

static void flush_inline(struct hf_fs *fs, struct hf_inode *inode)
{
    struct hf_flush *flush = flush_new(fs, HF_FLUSH_INLINE);

    if (!flush) {
        return;
    }
    (void)flush_take(flush, inode, 0, UINT64_MAX, HF_INLINE_BYTES_MAX, false, NULL);
    if (flush->bytes > 0) {
        flush_launch(flush, true);
    } else {
        flush_discard(flush);
    }
}

int hf_flush_inode(struct hf_fs *fs, struct hf_inode *inode, bool urgent)
{
    struct packer packer = {.fs = fs, .urgent = urgent};
    bool all = true;

    if (fs->lost) {
        return 0; /* there is nothing dirty any more, or nobody to take it */
    }
    hf_fs_inode_ref(inode);
    hf_flush_seal(fs, inode);
    if (urgent && inode->append_end == 0 && inode->dirty.dirty_bytes > 0 &&
        inode->dirty.dirty_bytes <= HF_INLINE_BYTES_MAX &&
        !inline_refused(inode, hf_dirty_next(&inode->dirty, 0), hf_dirty_end(&inode->dirty))) {
        flush_inline(fs, inode); /* what is left goes as an object */
    }
    if (inode->dirty.dirty_bytes > 0) {
        all = pack_inode(&packer, inode);
        packer_launch(&packer);
    }
    hf_flush_note(fs, inode);
    hf_fs_inode_unref(fs, inode);
    return all ? 0 : -ENOMEM;
}

int hf_flush_all(struct hf_fs *fs, bool urgent)
{
    struct packer packer = {.fs = fs, .urgent = urgent};
    struct hf_inode *inode, *next;
    bool all = true;

    for (inode = TAILQ_FIRST(&fs->dirty_inodes); inode && !fs->lost; inode = next) {
        next = TAILQ_NEXT(inode, in_list);
        all = pack_inode(&packer, inode) && all;
        hf_flush_note(fs, inode);
    }
    packer_launch(&packer);
    return all ? 0 : -ENOMEM;
}

int hf_flush_range(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end, bool over,
                   struct hf_fs_req *writer)
{
    bool is_inline = end - off <= HF_INLINE_BYTES_MAX && !inline_refused(inode, off, end);
    struct hf_flush *flush = flush_new(fs, is_inline ? HF_FLUSH_INLINE : HF_FLUSH_PACKED);
    int err;

    if (!flush) {
        return -ENOMEM;
    }
    err = flush_take(flush, inode, off, end, HF_OBJECT_BYTES_MAX, true, NULL);
    if (err || flush->bytes < end - off) {
        flush_discard(flush);
        hf_flush_note(fs, inode);
        return -ENOMEM;
    }
    flush->writer = writer;
    flush->over = over;
    flush_launch(flush, true);
    hf_flush_note(fs, inode);
    return 0;
}

/* Streaming */

static void stream_window(struct hf_fs *fs, struct hf_inode *inode, uint64_t index)
{
    const struct hf_window *w = hf_dirty_window(&inode->dirty, index);
    struct hf_flush *flush = inode->stream;
    uint32_t start, run;
    uint64_t base = index * HF_WINDOW_BYTES;

    if (flush && flush->window != index) {
        flush = NULL;
    }
    start = flush ? flush->bytes : 0;
    if (!w || (w->dirty_bytes < HF_FS_STREAM_BYTES && start + w->dirty_bytes < HF_WINDOW_BYTES)) {
        return;
    }
    run = hf_window_run(w, start);
    if (run < HF_FS_STREAM_BYTES && (run == 0 || start + run < HF_WINDOW_BYTES)) {
        return;
    }
    if (!flush && run < HF_WINDOW_BYTES && fs->stream_count >= HF_FS_STREAMS_MAX) {
        return; /* when it is full, or by age */
    }
    if (!flush) {
        hf_flush_seal(fs, inode);
        flush = flush_new(fs, HF_FLUSH_STREAM);
        if (!flush) {
            return; /* it goes by age */
        }
        flush->window = index;
        set_stream(fs, inode, flush);
    }
    if (flush_take(flush, inode, base + start, base + start + run, run, true, NULL) ||
        flush->bytes < start + run) {
        /* no memory, or too many pieces: go with what there is */
        set_stream(fs, inode, NULL);
        if (flush->bytes > 0) {
            flush_launch(flush, false);
        } else {
            flush_discard(flush);
        }
        return;
    }
    flush_append(flush);
    if (flush->bytes == HF_WINDOW_BYTES) {
        hf_flush_seal(fs, inode);
    }
}

void hf_flush_stream(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end)
{
    if (inode->not_before_ns || inode->append_end) {
        return; /* its flushes fail at the moment, or what is appended lies behind: by age */
    }
    for (uint64_t w = off / HF_WINDOW_BYTES; w * HF_WINDOW_BYTES < end; w++) {
        stream_window(fs, inode, w);
    }
}

/* Ending */

static bool may_pass(int err)
{
    return err == -EAGAIN || err == -ETIMEDOUT || err == -EIO || err == -ENOMEM ||
           err == -ECANCELED || err == -EMSGSIZE || err == -HF_ESTALE_EPOCH ||
           err == -HF_ENOTREADY || err == -HF_EDISCONNECTED || err == -HF_ENOTLEADER;
}

/* Was somebody told of some of its bytes that they are written? A writer who waits is told how it
 * went; but what he wrote over in the map is there no more. */
static bool acknowledged(const struct hf_flush *flush)
{
    return !flush->writer || flush->over;
}

/* The ranges leave the map, or are DIRTY again. */
static void settle_ranges(struct hf_flush *flush, bool undo)
{
    if (flush->parts && flush->parts->append) {
        hf_append_settle(flush->parts, undo);
        return;
    }
    for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
        uint64_t last = UINT64_MAX, dirty = part->inode->dirty.dirty_bytes;

        for (uint32_t i = part->piece_from; i < part->piece_to; i++) {
            uint64_t index = flush->pieces.v[i].off_bytes / HF_WINDOW_BYTES;

            if (index != last) {
                hf_dirty_settle(&part->inode->dirty, index, flush,
                                undo && !HF_BUG(failed_flush_settles));
                last = index;
            }
        }
        part->inode->undone = part->inode->undone || part->inode->dirty.dirty_bytes > dirty;
    }
}

static void report(struct hf_flush *flush, struct hf_inode *inode, int err, uint64_t bytes)
{
    struct hf_fs *fs = flush->fs;

    if (err == -ENOENT && inode->orphan) {
        return; /* nobody can see the file any more */
    }
    inode->err = err == -ENOENT ? -ESTALE : err == -HF_EFENCED ? -EIO : err;
    inode->err_seq++;
    fs->stats.flush_errors++;
    fs->stats.lost_bytes += bytes;
    hf_log(HF_LOG_ERROR, "fs", bytes ? "dirty data dropped" : "flush failed",
           "ino=%llu bytes=%llu err=%s", (unsigned long long)inode->ino.v,
           (unsigned long long)bytes, hf_err_name(err));
}

/* Ranges of @part stay: in the same turn they go again, or else nobody may say that they went. */
static void syncs_missed(struct hf_fs *fs, const struct hf_flush_part *part, bool again)
{
    struct hf_fs_req *req = fs->syncs;

    while (req) {
        if (part->seq <= req->target) {
            req->target = again ? fs->part_seq : req->target;
            req->err_seq += !again;
        }
        req = req->next == fs->syncs ? NULL : req->next;
    }
}

/* Does somebody wait for the outcome? */
static bool has_waiters(const struct hf_inode *inode)
{
    const struct hf_fs_req *req = inode->waiters;

    while (req && req->looks) {
        req = req->next == inode->waiters ? NULL : req->next;
    }
    return req != NULL;
}

/* What the outcome means for each file. */
static void settle_inodes(struct hf_flush *flush, int err, bool undo, bool again)
{
    struct hf_fs *fs = flush->fs;

    for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
        struct hf_inode *inode = part->inode;
        uint64_t bytes = 0;

        for (uint32_t i = part->piece_from; i < part->piece_to; i++) {
            bytes += flush->pieces.v[i].len_bytes;
        }
        if (!err) {
            uint64_t end = inode->settled_clean ? 0 : inode->settled_end;

            inode->settle_seq = fs->settle_seq;
            inode->settled_end = part->end > end ? part->end : end;
            inode->settled_mtime_ns = part->mtime_ns;
            inode->settled_ctime_ns = part->ctime_ns;
            inode->settled_clean = hf_dirty_empty(&inode->dirty);
            inode->solo = inode->solo && !inode->settled_clean;
            inode->not_before_ns = 0;
            inode->stale = inode->untorn = 0;
        } else if (undo) {
            inode->not_before_ns = hf_env_mono_ns(fs->env) + HF_FS_RETRY_NS;
            inode->solo = inode->solo || flush->part_count > 1;
            inode->kill = inode->kill || flush->kill;
            if (!again && !HF_BUG(fsync_ignores_retry)) {
                syncs_missed(fs, part, false);
                if (has_waiters(inode)) {
                    report(flush, inode, err, 0);
                }
            }
        } else if (acknowledged(flush) && part->piece_to > part->piece_from) {
            inode->moves += part->append;                   /* out of the way of who is reading */
            inode->cache_version = inode->told_version = 0; /* pages hold what is no more */
            report(flush, inode, err, bytes);
        }
        if (hf_dirty_empty(&inode->dirty)) {
            inode->dirty_mtime_ns = 0;
            inode->told_ctime_ns = 0;
            inode->kill = false;
        }
    }
}

void hf_flush_through_done(struct hf_fs_req *req)
{
    hf_fs_finish(req, req->inode->err_seq != req->err_seq ? req->inode->err : 0);
}

/* The refused ranges go again in another shape; who waited for them waits on. */
static void retry_now(struct hf_fs *fs, const struct hf_flush_part *part, struct hf_fs_req *writer)
{
    struct hf_inode *inode = part->inode;
    struct hf_fs_req *req = inode->waiters;
    int err = hf_flush_inode(fs, inode, req || writer || fs->syncs);

    if (!HF_BUG(retry_not_waited)) {
        syncs_missed(fs, part, err == 0);
        while (req) {
            req->target = fs->part_seq;
            req = req->next == inode->waiters ? NULL : req->next;
        }
    }
    if (writer && !err) {
        hf_fs_hold(writer, hf_fs_inode_ref(inode));
        if (hf_flush_wait(inode, writer, hf_flush_through_done)) {
            return;
        }
    }
    if (writer) {
        hf_fs_finish(writer, err ? err : -EIO);
    }
}

static void flush_free(struct hf_flush *flush)
{
    hf_piece_list_fini(&flush->pieces);
    free(flush);
}

/* Parts leave their inodes' order; what waited behind them may go. */
static void parts_end(struct hf_flush *flush, bool again)
{
    struct hf_fs *fs = flush->fs;
    struct hf_flush_part *part = flush->parts;

    while (part) {
        struct hf_flush_part *next = part->next, *behind = TAILQ_NEXT(part, in_inode);
        struct hf_inode *inode = part->inode;

        TAILQ_REMOVE(&inode->parts, part, in_inode);
        if (behind && behind->flush->state == HF_FLUSH_DURABLE) {
            hf_flush_commit(behind->flush);
        }
        hf_compact_go(inode);
        hf_flush_note(fs, inode);
        if (again) {
            retry_now(fs, part, flush->writer);
            flush->writer = NULL;
        }
        hf_flush_wake(inode);
        hf_fs_inode_unref(fs, inode);
        free(part);
        part = next;
    }
}

/* Take it apart. @undo: its ranges are DIRTY again; @again: and go at once, in another shape. */
static void flush_close(struct hf_flush *flush, int err, bool undo, bool again)
{
    struct hf_fs *fs = flush->fs;
    uint64_t stored = err || flush->kind == HF_FLUSH_INLINE ? 0 : flush->bytes;

    fs->settle_seq += err == 0;
    fs->progress_ns = err ? fs->progress_ns : hf_env_mono_ns(fs->env);
    settle_ranges(flush, undo);
    settle_inodes(flush, err, undo, again);
    TAILQ_REMOVE(&fs->flushes, flush, in_fs);
    fs->flush_count--;
    fs->launched -= flush->state != HF_FLUSH_FILLING;
    fs->background -= flush->background;
    fs->flush_bytes -= flush->bytes;
    hf_piece_list_fini(&flush->pieces);
    parts_end(flush, again);
    if (flush->writer) {
        hf_fs_finish(flush->writer, HF_BUG(through_ignores_error) ? 0 : err);
    }
    flush_free(flush);
    hf_fs_syncs_wake(fs);
    hf_fs_budget_spend(fs, stored);
    if (err == -ENOSPC && !fs->lost) {
        hf_session_no_space(fs->session);
    }
    hf_fs_budget_trim(fs);
    hf_fs_writers_wake(fs);
    hf_flush_kick(fs);
}

/* Its windows are whole, or could not be made so: that is no fault of its ranges, they stay. */
static void compacted(void *ctx, int err)
{
    struct hf_flush *flush = ctx;
    /* None of them had too many: somebody else has made room since. Once, it may go on that. */
    bool whole = !err || (err == -E2BIG && flush->parts->inode->untorn++ == 0);
    bool again = whole && !flush->fs->lost;
    bool later = err && err != -E2BIG && err != -ENOENT && acknowledged(flush) && !flush->fs->lost;

    flush_close(flush, err ? err : -E2BIG, again || later, again);
}

/* The windows that it touches. What is appended may have moved since it was taken. */
static int compact(struct hf_flush *flush)
{
    const struct hf_flush_part *part = flush->parts;
    const struct hf_piece *v = flush->pieces.v;
    uint64_t shift = part->append ? part->at - v[0].off_bytes : 0;
    uint64_t *windows = malloc(flush->pieces.count * 2 * sizeof(*windows));
    uint32_t n = 0;

    if (!windows) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < flush->pieces.count; i++) {
        uint64_t first = (v[i].off_bytes + shift) / HF_WINDOW_BYTES;
        uint64_t last = (v[i].off_bytes + shift + v[i].len_bytes - 1) / HF_WINDOW_BYTES;

        if (n == 0 || windows[n - 1] != first) {
            windows[n++] = first;
        }
        if (last != first) {
            windows[n++] = last;
        }
    }
    return hf_compact_windows(flush->fs, part->inode, windows, n, compacted, flush);
}

/* Its files cannot take it in this shape. True: it goes again in another. */
static bool refused(struct hf_flush *flush, int err)
{
    struct hf_flush_part *part = flush->parts;
    int failed;

    if (flush->fs->lost || flush->state != HF_FLUSH_COMMITTING) {
        return false;
    }
    if (err == -HF_ESTALE_EPOCH && part->inode->stale++ < HF_FS_STALE_MAX) {
        hf_session_refresh_map(flush->fs->session); /* those that took it count no more */
        flush_close(flush, err, true, true);
        return true;
    }
    if (err == -HF_EFENCED || may_pass(err)) {
        return false;
    }
    if (flush->part_count > 1) {
        flush_close(flush, err, true, true); /* one of them is to blame: each alone */
        return true;
    }
    if (err != -E2BIG) {
        return false;
    }
    if (flush->kind == HF_FLUSH_INLINE) {
        part->inode->no_inline =
            (part->append ? part->at : flush->pieces.v[0].off_bytes) / HF_WINDOW_BYTES + 1;
    }
    if (flush->kind == HF_FLUSH_INLINE || part->inode->compact) {
        flush_close(flush, err, true, true); /* as an object, or behind what is being made whole */
        return true;
    }
    flush->state = HF_FLUSH_COMPACTING;
    failed = compact(flush);
    if (failed) {
        compacted(flush, failed);
    }
    return true;
}

void hf_flush_end(struct hf_flush *flush, int err)
{
    struct hf_fs *fs = flush->fs;

    if (flush->state == HF_FLUSH_FILLING && flush->parts->inode->stream == flush) {
        set_stream(fs, flush->parts->inode, NULL);
    }
    if (err == -HF_EFENCED) {
        hf_fs_session_lost(fs, err);
    }
    if (err && refused(flush, err)) {
        return;
    }
    flush_close(flush, err, err && acknowledged(flush) && !fs->lost && may_pass(err), false);
}

/* One that never left: its ranges are DIRTY again. */
static void flush_discard(struct hf_flush *flush)
{
    struct hf_fs *fs = flush->fs;

    HF_ASSERT(flush->state == HF_FLUSH_FILLING && !flush->begun);
    settle_ranges(flush, true);
    TAILQ_REMOVE(&fs->flushes, flush, in_fs);
    fs->flush_count--;
    fs->background -= flush->background;
    fs->flush_bytes -= flush->bytes;
    hf_piece_list_fini(&flush->pieces);
    parts_end(flush, false);
    flush_free(flush);
    hf_fs_syncs_wake(fs);
}

struct hf_flush *hf_flush_barrier(struct hf_fs *fs, struct hf_inode *inode)
{
    struct hf_flush *flush = flush_new(fs, HF_FLUSH_PACKED);

    if (flush && !part_get(flush, inode)) {
        flush_discard(flush);
        return NULL;
    }
    return flush;
}

void hf_flush_barrier_end(struct hf_flush *barrier)
{
    flush_discard(barrier);
}

/* Policy */

void hf_flush_note(struct hf_fs *fs, struct hf_inode *inode)
{
    bool want = inode->dirty.dirty_bytes > 0 || inode->stream;

    fs->dirty_bytes += inode->dirty.dirty_bytes - inode->counted_bytes;
    inode->counted_bytes = inode->dirty.dirty_bytes;
    inode->undone = inode->undone && inode->dirty.dirty_bytes > 0;
    if (want == inode->listed) {
        return;
    }
    if (want) {
        inode->listed = true;
        inode->dirty_since_ns = hf_env_mono_ns(fs->env);
        hf_fs_inode_ref(inode);
        TAILQ_INSERT_TAIL(&fs->dirty_inodes, inode, in_list);
        if (!fs->age_timer.armed) {
            hf_timer_arm(&fs->age_timer, fs->dirty_max_age_ns);
        }
    } else {
        inode->listed = false;
        TAILQ_REMOVE(&fs->dirty_inodes, inode, in_list);
        hf_fs_inode_unref(fs, inode);
    }
}

/* Must something go although it is young? */
static bool pressed(const struct hf_fs *fs)
{
    uint64_t staying =
        fs->arena.mem_bytes > fs->flush_bytes ? fs->arena.mem_bytes - fs->flush_bytes : 0;

    /* a writer waits: an open stream is broken off only when nothing else will free memory */
    return staying > fs->dirty_target_bytes || (fs->writers && fs->launched == 0);
}

static void arm_age(struct hf_fs *fs, uint64_t now)
{
    const struct hf_inode *inode = TAILQ_FIRST(&fs->dirty_inodes);
    uint64_t due;

    if (!inode) {
        return;
    }
    due = inode->dirty_since_ns + fs->dirty_max_age_ns;
    due = inode->not_before_ns > due ? inode->not_before_ns : due;
    due = due > now + HF_NS_PER_MS ? due : now + 50 * HF_NS_PER_MS;
    hf_timer_arm(&fs->age_timer, due - now);
}

void hf_flush_kick(struct hf_fs *fs)
{
    struct packer packer = {.fs = fs, .background = true};
    struct hf_inode *inode, *next;
    uint64_t now;

    if (fs->in_kick || fs->lost || TAILQ_EMPTY(&fs->dirty_inodes)) {
        return;
    }
    fs->in_kick = true;
    now = hf_env_mono_ns(fs->env);
    for (inode = TAILQ_FIRST(&fs->dirty_inodes); inode && (packer.flush || !packer_full(&packer));
         inode = next) {
        uint64_t age = now - inode->dirty_since_ns;
        bool due = age >= fs->dirty_max_age_ns || pressed(fs);
        bool company = packer.flush && age >= fs->dirty_max_age_ns / 2;

        next = TAILQ_NEXT(inode, in_list);
        if (!due && !company) {
            break;
        }
        if (inode->not_before_ns > now) {
            continue;
        }
        hf_fs_inode_ref(inode);
        (void)pack_inode(&packer, inode); /* what found no room goes when a flush ends */
        hf_flush_note(fs, inode);
        next = inode->listed ? TAILQ_NEXT(inode, in_list) : next;
        hf_fs_inode_unref(fs, inode);
    }
    packer_launch(&packer);
    arm_age(fs, now);
    fs->in_kick = false;
}
