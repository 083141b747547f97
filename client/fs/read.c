/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - reading: what is dirty here over what is committed, as the metadata says at this moment.
 *
 *     snapshot of the dirty pieces
 *        └─► ask for the extents, "unless they are still version v"   ┐ at the same time
 *        └─► get the objects of the extents known as version v        ┘
 *              still v: answer when both came;   another version: get those of the new extents
 *
 * The snapshot is taken before the question is sent: what is committed while the question travels
 * is then in one of the two. An object that is nowhere (cleaned away under an old extent) makes the
 * extents be asked for afresh; -EIO only when they have not changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define TRIES_MAX     5
#define AHEAD_MIN     (UINT64_C(2) << 20)
#define SMALL_FILE    (256u << 10) /* its objects are always kept */
#define AHEAD_WINDOWS 4u
#define ZEROS_BYTES   (64u << 10)

static const uint8_t zeros[ZEROS_BYTES];

/* A committed piece of the answer. */
struct part {
    uint64_t off_bytes; /* in the file */
    uint32_t len_bytes;
    uint32_t pos_bytes; /* in the get's bytes, or in the inline copy */
    int get;            /* index, -1: inline */
};

struct fetch {
    struct hf_io_get get;
    struct read *read;
    int err;
};

/* Extents told so far: an answer may end early, even inside of a window. */
struct told {
    struct hf_extent *v;
    uint32_t count;
    uint8_t *inline_data;
    size_t inline_len;
};

struct read {
    struct hf_fs_req *req; /* NULL once answered */
    struct hf_fs *fs;
    struct hf_fs_file *file;
    uint64_t off, end;
    bool sequential;
    struct hf_piece_list dirty;
    uint64_t dirty_end; /* of the whole file, when it began */
    uint64_t moves;     /* of what is appended, then */
    int anew;           /* times that it began again for that */

    struct hf_meta_call call;
    bool asking, valid;     /* valid: the plan is of the version that was confirmed */
    uint64_t asked_version; /* if_version of the question; 0: none */
    uint64_t asked_off, asked_end, told_to;
    struct told told;
    uint64_t told_version;
    uint64_t version, size;
    int err, tries;
    uint64_t missing_version; /* an object of it was nowhere */
    bool missing;

    struct part *parts;
    uint32_t part_count;
    struct fetch *fetches;
    uint32_t fetch_count, fetch_pending;
    uint8_t *inline_data;

    struct iovec *iov;
    int iov_count;
    void *flat; /* when there are too many pieces */
};

static void read_ask(struct read *read);
static void read_step(struct read *read);
static void read_end(struct read *read, int err);

/* The plan: which gets, and where their bytes go */

static void plan_drop(struct read *read)
{
    HF_ASSERT(read->fetch_pending == 0);
    for (uint32_t i = 0; i < read->fetch_count; i++) {
        struct hf_io_get *get = &read->fetches[i].get;

        for (uint32_t k = 0; read->fetches[i].err == 0 && k < get->slice_count; k++) {
            hf_buf_unref(get->slices[k].buf);
        }
    }
    free(read->parts);
    free(read->fetches);
    free(read->inline_data);
    read->parts = NULL;
    read->fetches = NULL;
    read->inline_data = NULL;
    read->part_count = read->fetch_count = 0;
}

static void fetched(struct hf_io_get *get, int err)
{
    struct fetch *fetch = get->ctx;
    struct read *read = fetch->read;

    fetch->err = err;
    read->fetch_pending--;
    read_step(read);
}

static bool covered_by_dirty(const struct read *read, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < read->dirty.count && from < to; i++) {
        const struct hf_piece *p = &read->dirty.v[i];

        if (p->off_bytes <= from && p->off_bytes + p->len_bytes > from) {
            from = p->off_bytes + p->len_bytes;
        }
    }
    return from >= to;
}

/* Adds the part of an extent that is asked for; a get of its own unless it continues the last. */
static void plan_extent(struct read *read, const struct hf_extent_window *w,
                        const struct hf_extent *e)
{
    uint64_t from = e->off_bytes > read->off ? e->off_bytes : read->off;
    uint64_t to = e->off_bytes + e->len_bytes < read->end ? e->off_bytes + e->len_bytes : read->end;
    uint32_t pos = e->pos_bytes + (uint32_t)(from - e->off_bytes), len = (uint32_t)(to - from);
    struct part *part = &read->parts[read->part_count];
    struct hf_io_get *last = read->fetch_count ? &read->fetches[read->fetch_count - 1].get : NULL;

    if (from >= to || covered_by_dirty(read, from, to)) {
        return;
    }
    *part = (struct part){.off_bytes = from, .len_bytes = len, .get = -1};
    read->part_count++;
    if (e->oid.session == 0) {
        part->pos_bytes = (uint32_t)(from - read->off);
        memcpy(read->inline_data + part->pos_bytes, w->inline_data + pos, len);
        return;
    }
    if (last && hf_oid_equal(&last->oid, &e->oid) && last->off_bytes + last->len_bytes == pos) {
        part->get = (int)read->fetch_count - 1;
        part->pos_bytes = last->len_bytes;
        last->len_bytes += len;
        return;
    }
    part->get = (int)read->fetch_count;
    read->fetches[read->fetch_count++] = (struct fetch){
        .read = read,
        .err = -ECANCELED,
        .get = {.oid = e->oid,
                .off_bytes = pos,
                .len_bytes = len,
                .cache = read->sequential || read->size <= SMALL_FILE,
                .done = fetched},
    };
}

static int plan_alloc(struct read *read, const struct hf_extents *x)
{
    uint32_t most = 0;
    bool inlines = false;

    for (uint64_t i = read->off / HF_WINDOW_BYTES; i * HF_WINDOW_BYTES < read->end; i++) {
        const struct hf_extent_window *w = hf_extents_window(x, i);

        most += w->count;
        inlines = inlines || w->inline_bytes > 0;
    }
    read->parts = malloc((most + 1) * sizeof(*read->parts));
    read->fetches = malloc((most + 1) * sizeof(*read->fetches));
    read->inline_data = inlines ? malloc(read->end - read->off) : NULL;
    return read->parts && read->fetches && (read->inline_data || !inlines) ? 0 : -ENOMEM;
}

/* Reading ahead */

struct ahead {
    struct hf_meta_call call;
    struct hf_fs *fs;
    struct hf_inode *inode;
    uint64_t off, end;
};

/* Add an answer to what was told before it. */
static int told_add(struct told *t, const struct hf_meta_reply *reply)
{
    struct hf_extent *v = NULL;
    uint32_t count = 0;
    const uint8_t *inline_data = NULL;
    size_t inline_len = 0;
    void *p;
    int err;

    if (reply->bulk_len == 0) {
        return 0;
    }
    err = hf_extents_decode(reply->bulk, reply->bulk_len, &v, &count, &inline_data, &inline_len);
    if (err) {
        return err;
    }
    if (t->count + count < t->count ||
        (p = realloc(t->v, (t->count + count + 1) * sizeof(*v))) == NULL) {
        free(v);
        return -ENOMEM;
    }
    t->v = p;
    if ((p = realloc(t->inline_data, t->inline_len + inline_len + 1)) == NULL) {
        free(v);
        return -ENOMEM;
    }
    t->inline_data = p;
    if (inline_len > 0) {
        memcpy(t->inline_data + t->inline_len, inline_data, inline_len);
    }
    for (uint32_t i = 0; i < count; i++) {
        v[i].pos_bytes += v[i].oid.session == 0 ? (uint32_t)t->inline_len : 0;
        t->v[t->count++] = v[i];
    }
    t->inline_len += inline_len;
    free(v);
    return 0;
}

static void told_clear(struct told *t)
{
    free(t->v);
    free(t->inline_data);
    *t = (struct told){0};
}

static int told_install(struct hf_fs *fs, struct told *t, struct hf_inode *inode,
                        const struct hf_meta_reply *reply, uint64_t off, uint64_t end)
{
    size_t before;
    int err;

    if (inode->extents.cost_bytes > fs->extent_bytes_max / 4) {
        hf_fs_inode_clear_extents(fs, inode); /* one file's share */
    }
    before = inode->extents.cost_bytes;
    err = hf_extents_install(&inode->extents, reply->data_version, reply->attr.size, off, end, t->v,
                             t->count, t->inline_data);
    hf_fs_inode_count_extents(fs, inode, before);
    told_clear(t);
    return err;
}

/* Where an answer that was to reach @end ends. */
static uint64_t told_end(const struct hf_meta_reply *reply, uint64_t off, uint64_t end)
{
    return reply->next_cookie > off && reply->next_cookie < end ? reply->next_cookie : end;
}

static void ahead_told(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct ahead *ahead = call->ctx;
    struct hf_inode *inode = ahead->inode;
    struct told t = {0};

    inode->fetching = false;
    if (reply->err == 0 &&
        (!inode->extents.valid || inode->extents.version == reply->data_version)) {
        uint64_t end = told_end(reply, ahead->off, ahead->end) / HF_WINDOW_BYTES * HF_WINDOW_BYTES;

        if (end > ahead->off && told_add(&t, reply) == 0) {
            (void)told_install(ahead->fs, &t, inode, reply, ahead->off, end); /* else readers ask */
        }
    }
    told_clear(&t);
    ahead->fs->calls--;
    hf_fs_inode_unref(ahead->fs, inode);
    free(ahead);
}

static void ahead_extents(struct hf_fs *fs, struct hf_inode *inode, uint64_t off)
{
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = inode->ino, .offset = off};
    struct ahead *ahead;

    if (inode->fetching || (ahead = calloc(1, sizeof(*ahead))) == NULL) {
        return;
    }
    inode->fetching = true;
    rd.length = AHEAD_WINDOWS * HF_WINDOW_BYTES;
    ahead->fs = fs;
    ahead->inode = hf_fs_inode_ref(inode);
    ahead->off = off;
    ahead->end = off + rd.length;
    ahead->call.done = ahead_told;
    ahead->call.ctx = ahead;
    fs->calls++;
    hf_session_read(fs->session, &rd, &ahead->call);
}

/* After a sequential read that ends at @end: have the next bytes on their way. */
static void read_ahead(struct hf_fs_file *file, uint64_t end)
{
    struct hf_fs *fs = file->fs;
    const struct hf_extents *x = &file->inode->extents;
    uint64_t from = file->ahead_end > end ? file->ahead_end : end;
    uint64_t to = end + file->ahead_bytes;

    to = to < x->size ? to : x->size;
    if (from >= to || (to - from < file->ahead_bytes / 4 && to < x->size)) {
        return;
    }
    while (from < to) {
        const struct hf_extent_window *w = hf_extents_window(x, from / HF_WINDOW_BYTES);
        uint64_t stop = (from / HF_WINDOW_BYTES + 1) * HF_WINDOW_BYTES;

        if (!w) {
            ahead_extents(fs, file->inode, from / HF_WINDOW_BYTES * HF_WINDOW_BYTES);
            break;
        }
        stop = stop < to ? stop : to;
        for (uint32_t i = 0; i < w->count; i++) {
            const struct hf_extent *e = &w->v[i];
            uint64_t a = e->off_bytes > from ? e->off_bytes : from;
            uint64_t b = e->off_bytes + e->len_bytes < stop ? e->off_bytes + e->len_bytes : stop;

            if (a < b && e->oid.session != 0) {
                hf_io_prefetch(fs->io, &e->oid, e->pos_bytes + (uint32_t)(a - e->off_bytes),
                               (uint32_t)(b - a));
            }
        }
        from = stop;
    }
    file->ahead_end = from;
    file->ahead_bytes =
        file->ahead_bytes * 2 < fs->readahead_bytes ? file->ahead_bytes * 2 : fs->readahead_bytes;
}

/* Kernel read-ahead makes neighbours arrive out of order by a few requests. */
static bool note_pattern(struct hf_fs_file *file, uint64_t off, uint64_t end)
{
    bool sequential = off <= file->next_off + HF_FS_READ_BYTES_MAX &&
                      off + 2 * HF_FS_READ_BYTES_MAX >= file->next_off;

    if (!sequential) {
        file->ahead_bytes = 0;
        file->ahead_end = 0;
        file->next_off = end;
        return false;
    }
    if (file->ahead_bytes == 0) {
        file->ahead_bytes =
            AHEAD_MIN < file->fs->readahead_bytes ? AHEAD_MIN : file->fs->readahead_bytes;
    }
    file->next_off = end > file->next_off ? end : file->next_off;
    return true;
}

/* Planning */

/* From the extent cache, which covers the range; starts the gets. */
static int plan_make(struct read *read)
{
    const struct hf_extents *x = &read->file->inode->extents;

    read->version = x->version;
    read->size = x->size;
    if (plan_alloc(read, x)) {
        plan_drop(read);
        return -ENOMEM;
    }
    for (uint64_t i = read->off / HF_WINDOW_BYTES; i * HF_WINDOW_BYTES < read->end; i++) {
        const struct hf_extent_window *w = hf_extents_window(x, i);

        for (uint32_t k = 0; k < w->count; k++) {
            plan_extent(read, w, &w->v[k]);
        }
    }
    read->fetch_pending = read->fetch_count;
    for (uint32_t i = 0; i < read->fetch_count; i++) {
        read->fetches[i].get.ctx = &read->fetches[i];
        hf_io_get(read->fs->io, &read->fetches[i].get);
    }
    if (read->sequential && read->off < read->size) {
        read_ahead(read->file, read->end);
    }
    return 0;
}

/* Assembling */

static int iov_add(struct read *read, const void *p, uint64_t len)
{
    if (read->iov_count == HF_FS_IOV_MAX) {
        return -E2BIG;
    }
    read->iov[read->iov_count++] = (struct iovec){(void *)(uintptr_t)p, len};
    return 0;
}

static int add_zeros(struct read *read, uint64_t len)
{
    int err = 0;

    while (len > 0 && !err) {
        uint64_t n = len < ZEROS_BYTES ? len : ZEROS_BYTES;

        err = iov_add(read, zeros, n);
        len -= n;
    }
    return err;
}

static int add_slices(struct read *read, const struct hf_io_get *get, uint32_t pos, uint64_t len)
{
    int err = 0;

    for (uint32_t i = 0; i < get->slice_count && len > 0 && !err; i++) {
        const struct hf_io_slice *s = &get->slices[i];

        if (pos < s->len_bytes) {
            uint64_t n = s->len_bytes - pos < len ? s->len_bytes - pos : len;

            err = iov_add(read, s->buf->data + s->off_bytes + pos, n);
            len -= n;
            pos = 0;
        } else {
            pos -= s->len_bytes;
        }
    }
    HF_ASSERT(err || len == 0);
    return err;
}

/* Committed bytes of [from, to): parts, zeros between them. */
static int add_committed(struct read *read, uint32_t *cursor, uint64_t from, uint64_t to)
{
    int err = 0;

    while (from < to && !err) {
        const struct part *p;
        uint64_t stop;

        while (*cursor < read->part_count &&
               read->parts[*cursor].off_bytes + read->parts[*cursor].len_bytes <= from) {
            (*cursor)++;
        }
        p = *cursor < read->part_count ? &read->parts[*cursor] : NULL;
        if (!p || p->off_bytes >= to) {
            return add_zeros(read, to - from);
        }
        if (p->off_bytes > from) {
            err = add_zeros(read, p->off_bytes - from);
            from = p->off_bytes;
            continue;
        }
        stop = p->off_bytes + p->len_bytes < to ? p->off_bytes + p->len_bytes : to;
        if (p->get < 0) {
            err = iov_add(read, read->inline_data + p->pos_bytes + (from - p->off_bytes),
                          stop - from);
        } else {
            err = add_slices(read, &read->fetches[p->get].get,
                             p->pos_bytes + (uint32_t)(from - p->off_bytes), stop - from);
        }
        from = stop;
    }
    return err;
}

static int assemble_pieces(struct read *read, uint64_t end)
{
    uint64_t at = read->off;
    uint32_t cursor = 0;
    int err = 0;

    for (uint32_t i = 0; i < read->dirty.count && at < end && !err; i++) {
        const struct hf_piece *p = &read->dirty.v[i];
        uint64_t stop = p->off_bytes + p->len_bytes < end ? p->off_bytes + p->len_bytes : end;

        if (p->off_bytes >= end) {
            break;
        }
        if (stop <= at) {
            continue;
        }
        if (p->off_bytes > at) {
            err = add_committed(read, &cursor, at, p->off_bytes);
            at = p->off_bytes;
        }
        if (!err) {
            err = iov_add(read, hf_slab_at(p->slab, p->pos_bytes + (uint32_t)(at - p->off_bytes)),
                          stop - at);
            at = stop;
        }
    }
    return err || at >= end ? err : add_committed(read, &cursor, at, end);
}

/* Too many pieces for one answer: the same walk in steps, each copied. */
static int assemble_flat(struct read *read, uint64_t end)
{
    uint64_t off = read->off, at = off;
    uint8_t *flat = malloc(end - off);
    int err = 0;

    if (!flat) {
        return -ENOMEM;
    }
    read->flat = flat;
    while (at < end && !err) {
        uint64_t step = end - at < 64 * 1024 ? end - at : 64 * 1024;

        for (;;) { /* a step of one byte is always one piece */
            read->off = at;
            read->iov_count = 0;
            err = assemble_pieces(read, at + step);
            if (err != -E2BIG) {
                break;
            }
            step = (step + 1) / 2;
        }
        for (int i = 0; i < read->iov_count && !err; i++) {
            memcpy(flat + (at - off), read->iov[i].iov_base, read->iov[i].iov_len);
            at += read->iov[i].iov_len;
        }
    }
    read->off = off;
    read->iov_count = 1;
    read->iov[0] = (struct iovec){flat, end - off};
    return err;
}

static int assemble(struct read *read)
{
    uint64_t size = read->size > read->dirty_end ? read->size : read->dirty_end;
    uint64_t end = read->end < size ? read->end : size;
    struct hf_inode *inode = read->file->inode;
    int err;

    if (size < read->end && size < inode->kernel_end && !read->file->apart) {
        inode->kernel_end = size; /* from a short answer the kernel learns where the file ends */
    }
    inode->kernel_known = inode->kernel_known && size >= read->end;
    read->iov_count = 0;
    if (read->off >= end) {
        return 0;
    }
    read->iov = malloc(HF_FS_IOV_MAX * sizeof(*read->iov));
    if (!read->iov) {
        return -ENOMEM;
    }
    err = assemble_pieces(read, end);
    return err == -E2BIG ? assemble_flat(read, end) : err;
}

/* One read */

static void read_free(struct read *read)
{
    plan_drop(read);
    told_clear(&read->told);
    hf_piece_list_fini(&read->dirty);
    free(read->iov);
    free(read->flat);
    free(read);
}

static int read_dirty(struct read *read)
{
    const struct hf_inode *inode = read->file->inode;

    hf_piece_list_fini(&read->dirty);
    read->moves = inode->moves;
    if (read->file->apart) {
        return 0;
    }
    read->dirty_end = hf_dirty_end(&inode->dirty);
    return hf_dirty_snapshot(&inode->dirty, read->off, read->end, &read->dirty);
}

/* From the start: what was appended here lies elsewhere than when it began. */
static void read_anew(struct hf_fs_req *req)
{
    struct read *read = (struct read *)req->arg;

    plan_drop(read);
    read->valid = false;
    read->tries = 0; /* read->anew bounds it */
    if (read_dirty(read)) {
        read_end(read, -ENOMEM);
    } else {
        read_ask(read);
    }
}

/*
 * What is appended has its place when somebody has read it: it is committed first. One that cannot
 * be now is told behind what is committed. False: it is read anew.
 */
static bool append_settled(struct read *read)
{
    struct hf_inode *inode = read->file->inode;
    const struct hf_attr attr = {.size = read->size, .data_version = read->version};
    uint64_t start = hf_append_start(inode);

    if (read->file->apart || ++read->anew > TRIES_MAX * 20) {
        return true;
    }
    read->req->arg = read;
    read->req->looks = true;
    if (start < UINT64_MAX && (start < read->end || read->size < read->end)) {
        if (inode->not_before_ns <= hf_env_mono_ns(read->fs->env) &&
            hf_flush_inode(read->fs, inode, true) == 0 &&
            hf_flush_wait(inode, read->req, read_anew)) {
            return false;
        }
        if (hf_append_look(inode, &attr)) {
            hf_append_wait(inode, read->req, read_anew);
            return false;
        }
    }
    if (inode->moves != read->moves) {
        read_anew(read->req);
        return false;
    }
    return true;
}

static void read_end(struct read *read, int err)
{
    struct hf_fs_req *req = read->req;
    struct hf_fs *fs = read->fs;
    struct hf_inode *inode = read->file->inode;

    err = err ? err : assemble(read);
    if (!err) {
        if (inode->cache_version != read->version && !read->file->apart) {
            inode->cache_version = 0; /* its pages are now of two versions */
        }
        req->iov = read->iov;
        req->iov_count = read->iov_count;
    }
    hf_fs_finish(req, err);
    read_free(read);
    hf_fs_writers_wake(fs); /* it may have held the memory they wait for */
}

/* An object was nowhere: ask afresh, give up when nothing has changed. */
static bool retry(struct read *read)
{
    if ((read->missing && read->missing_version == read->version) || read->tries >= TRIES_MAX) {
        return false;
    }
    read->missing = true;
    read->missing_version = read->version;
    read->tries++;
    plan_drop(read);
    read->valid = false;
    hf_fs_inode_clear_extents(read->fs, read->file->inode);
    read_ask(read);
    return true;
}

static int fetch_error(const struct read *read)
{
    int err = 0;

    for (uint32_t i = 0; i < read->fetch_count; i++) {
        int e = read->fetches[i].err;

        if (e && (!err || e != -HF_ENOOBJECT)) {
            err = e;
        }
    }
    return err;
}

static void read_step(struct read *read)
{
    int err;

    if (read->asking || read->fetch_pending > 0) {
        return;
    }
    if (read->err) {
        read_end(read, read->err);
        return;
    }
    if (!read->valid) { /* the gets were of an older version */
        plan_drop(read);
        if (!hf_extents_cover(&read->file->inode->extents, read->off, read->end)) {
            read_ask(read);
            return;
        }
        err = plan_make(read);
        if (err) {
            read_end(read, err);
            return;
        }
        read->valid = true;
        if (read->fetch_pending > 0) {
            return;
        }
    }
    err = fetch_error(read);
    if (err == -HF_ENOOBJECT) {
        if (retry(read)) {
            return;
        }
        hf_log(HF_LOG_ERROR, "fs", "object is nowhere", "ino=%llu offset=%llu: run scrub",
               (unsigned long long)read->file->inode->ino.v, (unsigned long long)read->off);
        err = -EIO;
    }
    if (err || append_settled(read)) {
        read_end(read, err);
    }
}

static void read_send(struct read *read, uint64_t off, uint64_t end);

/* An answer with extents: enter it, or ask on behind it. True: asked on. */
static bool take_answer(struct read *read, const struct hf_meta_reply *reply)
{
    uint64_t need = (read->end + HF_WINDOW_BYTES - 1) / HF_WINDOW_BYTES * HF_WINDOW_BYTES;
    uint64_t to = told_end(reply, read->told_to, read->asked_end);

    if (read->told_to > read->asked_off && read->told_version != reply->data_version) {
        told_clear(&read->told); /* it changed between the answers: from the start */
        read_send(read, read->asked_off, read->asked_end);
        return true;
    }
    read->told_version = reply->data_version;
    read->err = told_add(&read->told, reply);
    if (!read->err && to < need) {
        read->asked_end = need;
        read->told_to = to;
        read_send(read, to, need);
        return true;
    }
    if (!read->err) {
        to = to / HF_WINDOW_BYTES * HF_WINDOW_BYTES;
        read->err =
            told_install(read->fs, &read->told, read->file->inode, reply, read->asked_off, to);
        read->valid = !read->err && read->parts &&
                      (read->version == reply->data_version || HF_BUG(stale_plan_kept));
    }
    return false;
}

static void told(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct read *read = call->ctx;

    read->asking = false;
    if (++read->tries > TRIES_MAX * 20 && !read->err) {
        read->err = -EIO; /* it changes faster than it can be read */
    } else if (reply->err == -HF_ENOTMODIFIED) {
        read->valid = read->parts && read->asked_version == read->version;
    } else if (reply->err) {
        read->err = reply->err;
    } else if (take_answer(read, reply)) {
        return;
    }
    read_step(read);
}

/* Extents of [off, end), which goes on from what was told of [asked_off, off). */
static void read_send(struct read *read, uint64_t off, uint64_t end)
{
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS,
                              .ino = read->file->inode->ino,
                              .offset = off,
                              .length = end - off,
                              .if_version = read->asked_version};

    read->told_to = off;
    read->asking = true;
    read->call.done = told;
    read->call.ctx = read;
    hf_session_read(read->fs->session, &rd, &read->call);
}

/* Ask for the extents: with a plan of a version, whether it still stands; else from the first
 * window that is not known on (an answer may end early). */
static void read_ask(struct read *read)
{
    const struct hf_inode *inode = read->file->inode;
    uint64_t off = read->off / HF_WINDOW_BYTES * HF_WINDOW_BYTES;
    uint64_t end = (read->end + HF_WINDOW_BYTES - 1) / HF_WINDOW_BYTES * HF_WINDOW_BYTES;

    if (!read->parts) {
        while (off + HF_WINDOW_BYTES < end && inode->extents.valid &&
               hf_extents_window(&inode->extents, off / HF_WINDOW_BYTES)) {
            off += HF_WINDOW_BYTES;
        }
        if (read->sequential && end < off + AHEAD_WINDOWS * HF_WINDOW_BYTES) {
            end = off + AHEAD_WINDOWS * HF_WINDOW_BYTES;
        }
    }
    told_clear(&read->told);
    read->asked_off = off;
    read->asked_end = end;
    read->asked_version = read->parts ? read->version : 0;
    read_send(read, off, end);
}

static struct read *read_new(struct hf_fs_file *file, uint64_t off, uint64_t end,
                             struct hf_fs_req *req)
{
    struct read *read = calloc(1, sizeof(*read));

    if (!read) {
        return NULL;
    }
    read->req = req;
    read->fs = file->fs;
    read->file = file;
    read->off = off;
    read->end = end;
    if (read_dirty(read)) {
        read_free(read);
        return NULL;
    }
    return read;
}

int hf_fs_read(struct hf_fs_file *file, uint64_t off, uint32_t len, struct hf_fs_req *req)
{
    struct hf_fs *fs = file->fs;
    struct read *read;

    hf_fs_begin(fs, req);
    len = len < HF_FS_READ_BYTES_MAX ? len : HF_FS_READ_BYTES_MAX;
    if (len == 0 || off >= HF_FILE_BYTES_MAX) {
        return 0;
    }
    read = read_new(file, off, off + len, req);
    if (!read) {
        return -ENOMEM;
    }
    hf_fs_hold(req, hf_fs_inode_ref(file->inode));
    fs->stats.reads++;
    fs->stats.read_bytes += len;
    read->sequential = note_pattern(file, off, off + len);
    if (hf_extents_cover(&file->inode->extents, off, off + len)) {
        fs->stats.extent_hits++;
        if (plan_make(read)) {
            read_free(read);
            return hf_fs_return(req, -ENOMEM);
        }
        if (HF_BUG(read_trusts_cache) && read->fetch_pending > 0) {
            read->valid = true;
            return HF_FS_PENDING;
        }
    } else {
        fs->stats.extent_misses++;
    }
    read_ask(read);
    return HF_FS_PENDING;
}
