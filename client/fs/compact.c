/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c - a window of too many small extents is read and written again whole.
 *
 * The metadata bounds the extents of a window. A commit beyond the bound is refused; then what is
 * committed of the window joins what is dirty, and goes as one object. In this version nothing
 * keeps another mount from writing to the same window meanwhile: what it wrote between the read and
 * the commit is overwritten with what was read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/log/log.h"

struct compact {
    struct hf_fs *fs;
    struct hf_fs_file file; /* a reader of its own, not an open one */
    struct hf_fs_req req;
    uint64_t at, end;
    uint32_t asked;
    uint8_t *bytes;
    void (*done)(void *ctx, int err);
    void *ctx;
};

static void compact_end(struct compact *compact, int err)
{
    void (*done)(void *, int) = compact->done;
    void *ctx = compact->ctx;
    struct hf_inode *inode = compact->file.inode;
    struct hf_fs *fs = compact->fs;

    fs->calls--;
    free(compact->bytes);
    free(compact);
    done(ctx, err);
    hf_fs_inode_unref(fs, inode);
}

/* Bytes of [from, to) that are not in the map enter it. */
static int fill(struct compact *compact, uint64_t from, uint64_t to)
{
    struct hf_inode *inode = compact->file.inode;
    uint64_t at = from;
    int err = 0;

    while (at < to && !err) {
        uint64_t stop = hf_dirty_run_end(&inode->dirty, at);

        if (stop == at) {
            stop = hf_dirty_next(&inode->dirty, at);
            stop = stop < to ? stop : to;
            err = hf_dirty_write(&inode->dirty, &compact->fs->arena, at,
                                 compact->bytes + (at - from), (uint32_t)(stop - at));
        }
        at = stop;
    }
    hf_flush_note(compact->fs, inode);
    return err;
}

static void compact_next(struct compact *compact);

static void have_read(struct hf_fs_req *req, int err)
{
    struct compact *compact = req->ctx;
    uint64_t n = 0;

    for (int i = 0; !err && i < req->iov_count; i++) {
        memcpy(compact->bytes + n, req->iov[i].iov_base, req->iov[i].iov_len);
        n += req->iov[i].iov_len;
    }
    if (!err && n > 0) {
        err = fill(compact, compact->at, compact->at + n);
    }
    compact->at = n < compact->asked ? compact->end : compact->at + n;
    if (err) {
        compact_end(compact, err);
    } else {
        compact_next(compact);
    }
}

static void compact_next(struct compact *compact)
{
    uint64_t left = compact->end - compact->at;
    int err;

    if (compact->at >= compact->end) {
        compact_end(compact, 0);
        return;
    }
    compact->asked = left < HF_FS_READ_BYTES_MAX ? (uint32_t)left : HF_FS_READ_BYTES_MAX;
    err = hf_fs_read(&compact->file, compact->at, compact->asked, &compact->req);
    if (err != HF_FS_PENDING) {
        have_read(&compact->req, err);
    }
}

void hf_compact_window(struct hf_fs *fs, struct hf_inode *inode, uint64_t index,
                       void (*done)(void *ctx, int err), void *ctx)
{
    struct compact *compact = calloc(1, sizeof(*compact));
    uint8_t *bytes = malloc(HF_FS_READ_BYTES_MAX);

    if (!compact || !bytes) {
        free(compact);
        free(bytes);
        done(ctx, -ENOMEM);
        return;
    }
    hf_log(HF_LOG_INFO, "fs", "window written whole", "ino=%llu window=%llu",
           (unsigned long long)inode->ino.v, (unsigned long long)index);
    fs->calls++;
    compact->fs = fs;
    compact->bytes = bytes;
    compact->file.fs = fs;
    compact->file.apart = true;
    compact->file.inode = hf_fs_inode_ref(inode);
    compact->file.next_off = UINT64_MAX / 2; /* no read-ahead */
    compact->req.done = have_read;
    compact->req.ctx = compact;
    compact->at = index * HF_WINDOW_BYTES;
    compact->end = compact->at + HF_WINDOW_BYTES;
    compact->end = hf_append_start(inode) < compact->end ? hf_append_start(inode) : compact->end;
    compact->done = done;
    compact->ctx = ctx;
    compact_next(compact);
}
