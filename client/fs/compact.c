/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c - a window of too many small extents is read and written again whole.
 *
 * The metadata bounds the extents of a window. What is refused for that goes again when what is
 * committed of its windows lies in one object each:
 *
 *     changes under way have ended ──► count the extents ──► read ──► put ──► commit ─┐
 *                                        ▲    └─ few ─┐                               │
 *                                        └──── next ──┴───────────────────────────────┘
 *
 * From the first step to the last this mount sends nothing that changes the contents of the file,
 * be it a commit, a truncation or a hole: what was read is still what it has committed there when
 * that is committed again. What is dirty stays out of it, and the file does not become longer. In
 * this version nothing keeps another mount from writing to the same window meanwhile: what it wrote
 * between the read and the commit is overwritten with what was read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"

struct hf_compact {
    struct hf_fs *fs;
    struct hf_fs_file file; /* a reader of its own, not an open one */
    uint64_t *windows;
    uint32_t count, next;
    bool begun;
    bool rewritten;     /* one of the windows */
    uint32_t stale;     /* commits in a row that came under an old epoch */
    uint32_t len_bytes; /* read of the window */
    uint8_t *bytes;     /* HF_WINDOW_BYTES */
    struct hf_fs_req req;
    struct hf_meta_call call;
    struct hf_io_put put;
    void (*done)(void *ctx, int err);
    void *ctx;
};

static uint64_t window_off(const struct hf_compact *compact)
{
    return compact->windows[compact->next] * HF_WINDOW_BYTES;
}

static void compact_end(struct hf_compact *compact, int err)
{
    void (*done)(void *, int) = compact->done;
    void *ctx = compact->ctx;
    struct hf_inode *inode = compact->file.inode;
    struct hf_fs *fs = compact->fs;

    inode->compact = NULL;
    fs->calls--;
    free(compact->windows);
    free(compact->bytes);
    free(compact);
    done(ctx, err);
    hf_flush_go(inode);
    hf_fs_inode_unref(fs, inode);
}

static void window_look(struct hf_compact *compact);
static void window_put(struct hf_compact *compact);

static void window_next(struct hf_compact *compact)
{
    compact->next++;
    if (compact->next < compact->count) {
        window_look(compact);
    } else {
        compact_end(compact, compact->rewritten ? 0 : -E2BIG);
    }
}

static void committed(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_compact *compact = call->ctx;
    struct hf_inode *inode = compact->file.inode;

    if (reply->err == -HF_ESTALE_EPOCH && compact->stale++ < HF_FS_STALE_MAX) {
        hf_session_refresh_map(compact->fs->session); /* those that took it count no more */
        window_put(compact);
        return;
    }
    if (reply->err) {
        compact_end(compact, reply->err);
        return;
    }
    compact->stale = 0;
    hf_fs_inode_own_version(inode, reply->attr.data_version); /* the contents are the same */
    hf_fs_inode_own_told(inode, reply->attr.data_version);
    compact->rewritten = true;
    window_next(compact);
}

static void durable(struct hf_io_put *put, int err)
{
    struct hf_compact *compact = put->ctx;
    struct hf_fs *fs = compact->fs;
    const struct hf_inode *inode = compact->file.inode;
    struct hf_wr_object object = {.oid = put->oid,
                                  .len_bytes = put->len_bytes,
                                  .digest = put->digest,
                                  .holders = put->holders,
                                  .epoch = put->epoch};
    struct hf_wr_extent extent = {
        .ino = inode->ino, .off_bytes = window_off(compact), .len_bytes = compact->len_bytes};
    struct hf_wr_inode wr = {.ino = inode->ino,
                             .ctime_ns = inode->told_ctime_ns ? HF_CTIME_NEXT : 0};
    struct hf_meta_op op = {.op = HF_OP_WRITE,
                            .objects = &object,
                            .object_count = 1,
                            .extents = &extent,
                            .extent_count = 1,
                            .inodes = &wr,
                            .inode_count = 1,
                            .time_ns = hf_env_wall_ns(fs->env)};

    if (err || fs->lost) {
        compact_end(compact, err ? err : fs->lost);
        return;
    }
    compact->call.done = committed;
    fs->stats.commits++;
    hf_session_op(fs->session, &op, &compact->call);
}

static void window_put(struct hf_compact *compact)
{
    struct iovec iov = {.iov_base = compact->bytes, .iov_len = compact->len_bytes};

    if (compact->len_bytes == 0) {
        window_next(compact); /* it was cut off meanwhile */
        return;
    }
    compact->put = (struct hf_io_put){.done = durable, .ctx = compact, .urgent = true};
    hf_io_put_begin(compact->fs->io, &compact->put);
    hf_io_put_append(&compact->put, &iov, 1);
    hf_io_put_finish(&compact->put);
}

static void window_read(struct hf_compact *compact);

static void have_read(struct hf_fs_req *req, int err)
{
    struct hf_compact *compact = req->ctx;
    uint32_t before = compact->len_bytes;

    for (int i = 0; !err && i < req->iov_count; i++) {
        HF_ASSERT(req->iov[i].iov_len <= HF_WINDOW_BYTES - compact->len_bytes);
        memcpy(compact->bytes + compact->len_bytes, req->iov[i].iov_base, req->iov[i].iov_len);
        compact->len_bytes += (uint32_t)req->iov[i].iov_len;
    }
    if (err || compact->fs->lost) {
        compact_end(compact, err ? err : compact->fs->lost);
    } else if (compact->len_bytes < HF_WINDOW_BYTES &&
               compact->len_bytes - before == HF_FS_READ_BYTES_MAX) {
        window_read(compact);
    } else {
        window_put(compact);
    }
}

static void window_read(struct hf_compact *compact)
{
    int err = hf_fs_read(&compact->file, window_off(compact) + compact->len_bytes,
                         HF_FS_READ_BYTES_MAX, &compact->req);

    if (err != HF_FS_PENDING) {
        have_read(&compact->req, err);
    }
}

static void looked(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_compact *compact = call->ctx;
    uint64_t off = window_off(compact), stop = reply->next_cookie;
    struct hf_extent *v = NULL;
    uint32_t count = 0;
    const uint8_t *bytes;
    size_t bytes_len;
    int err = reply->err;

    if (!err && reply->bulk_len > 0) {
        err = hf_extents_decode(reply->bulk, reply->bulk_len, &v, &count, &bytes, &bytes_len);
        free(v);
    }
    if (err || compact->fs->lost) {
        compact_end(compact, err ? err : compact->fs->lost);
    } else if (count > HF_WINDOW_EXTENTS_FEW || (stop > off && stop < off + HF_WINDOW_BYTES)) {
        hf_log(HF_LOG_INFO, "fs", "window written whole", "ino=%llu window=%llu",
               (unsigned long long)compact->file.inode->ino.v,
               (unsigned long long)(off / HF_WINDOW_BYTES));
        compact->len_bytes = 0;
        window_read(compact);
    } else {
        window_next(compact);
    }
}

static void window_look(struct hf_compact *compact)
{
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS,
                              .ino = compact->file.inode->ino,
                              .offset = window_off(compact),
                              .length = HF_WINDOW_BYTES};

    if (compact->fs->lost) {
        compact_end(compact, compact->fs->lost);
        return;
    }
    compact->call.done = looked;
    hf_session_read(compact->fs->session, &rd, &compact->call);
}

bool hf_compact_wait(struct hf_inode *inode, struct hf_fs_req *req,
                     void (*then)(struct hf_fs_req *req))
{
    return inode->compact && hf_flush_wait(inode, req, then);
}

void hf_compact_go(struct hf_inode *inode)
{
    struct hf_compact *compact = inode->compact;
    const struct hf_flush_part *part;

    if (!compact || compact->begun || inode->changes > 0) {
        return;
    }
    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        if (part->flush->state == HF_FLUSH_COMMITTING) {
            return;
        }
    }
    compact->begun = true;
    window_look(compact);
}

int hf_compact_windows(struct hf_fs *fs, struct hf_inode *inode, uint64_t *windows, uint32_t count,
                       void (*done)(void *ctx, int err), void *ctx)
{
    struct hf_compact *compact = calloc(1, sizeof(*compact));
    uint8_t *bytes = malloc(HF_WINDOW_BYTES);

    HF_ASSERT(!inode->compact && count > 0);
    if (!compact || !bytes) {
        free(compact);
        free(bytes);
        free(windows);
        return -ENOMEM;
    }
    fs->calls++;
    inode->compact = compact;
    compact->fs = fs;
    compact->windows = windows;
    compact->count = count;
    compact->bytes = bytes;
    compact->file.fs = fs;
    compact->file.apart = true;
    compact->file.inode = hf_fs_inode_ref(inode);
    compact->file.next_off = UINT64_MAX / 2; /* no read-ahead */
    compact->req.done = have_read;
    compact->req.ctx = compact;
    compact->call.ctx = compact;
    compact->done = done;
    compact->ctx = ctx;
    hf_compact_go(inode);
    return 0;
}

int hf_contents_mutate(struct hf_fs *fs, const struct hf_meta_op *op, struct hf_inode *inode,
                       struct hf_fs_req *req)
{
    inode->changes++;
    return hf_fs_mutate(fs, op, req);
}

void hf_contents_answered(struct hf_inode *inode)
{
    inode->changes--;
    hf_compact_go(inode);
}
