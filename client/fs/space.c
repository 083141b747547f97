/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.c - fallocate and copy_file_range: what changes many windows of a file at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "client/fs/fs_impl.h"

#define CLONE_BYTES_MAX (UINT64_C(1) << 30) /* of one operation; callers come again */
#define SPACE_NO_SPARE  1u /* tried without what this mount keeps for writes to come */
#define SPACE_COMPACTED 2u /* tried when its windows had been written whole */

/* What these requests of the kernel do not say: who is not root takes set-id bits away. */
static uint32_t change_mask(const struct hf_fs_req *req)
{
    return req->uid ? HF_SET_KILLPRIV : 0;
}

/*
 * Space: the file's data is committed first, so that the order of execution is that of the calls.
 *
 * A large range goes in pieces, from its start: what one entry makes of the metadata is bounded.
 * The size follows the pieces, and nothing lies behind it: whoever dies in between leaves a prefix
 * done, and a file that reads as zeros wherever it has become longer.
 */

/* From off_bytes on, how much of len_bytes goes next. */
static uint64_t space_piece(const struct hf_fs_req *req)
{
    uint64_t window = req->off_bytes / HF_WINDOW_BYTES;
    uint64_t room = (window + HF_SPACE_WINDOWS_MAX) * HF_WINDOW_BYTES - req->off_bytes;

    return req->len_bytes < room ? req->len_bytes : room;
}

static int space_go(struct hf_fs_req *req);

static void space_again(void *ctx, int err)
{
    struct hf_fs_req *req = ctx;

    err = err ? err : space_go(req);
    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

/* With the same piece. What the file was when the first was begun stays what counts. */
static void space_on(struct hf_fs_req *req)
{
    space_again(req, 0);
}

static void space_whole(void *ctx, int err)
{
    struct hf_fs_req *req = ctx;

    hf_flush_barrier_end((struct hf_flush *)req->arg);
    space_again(req, err == -E2BIG ? 0 : err); /* none had too many: somebody has made room */
}

/* A hole cuts an extent in two, and its window has as many as it may: once more when it is whole.
 * Only the first and the last can be to blame: what lies between them goes as a whole. */
static int space_compact(struct hf_fs_req *req)
{
    struct hf_inode *inode = req->inode;
    uint64_t *windows;
    int err;

    if (hf_compact_wait(inode, req, space_on)) {
        return HF_FS_PENDING;
    }
    req->state |= SPACE_COMPACTED;
    windows = malloc(2 * sizeof(*windows));
    req->arg = windows ? hf_flush_barrier(req->fs, inode) : NULL;
    if (!req->arg) {
        free(windows);
        return -ENOMEM;
    }
    windows[0] = req->off_bytes / HF_WINDOW_BYTES;
    windows[1] = (req->off_bytes + space_piece(req) - 1) / HF_WINDOW_BYTES;
    err = hf_compact_windows(req->fs, inode, windows, windows[0] == windows[1] ? 1 : 2, space_whole,
                             req);
    if (err) {
        hf_flush_barrier_end((struct hf_flush *)req->arg);
    }
    return err ? err : HF_FS_PENDING;
}

static int space_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    uint64_t piece = space_piece(req);

    hf_contents_answered(req->inode);
    if (reply->err == -ENOSPC && !(req->state & SPACE_NO_SPARE)) {
        req->state |= SPACE_NO_SPARE;
        hf_session_drop_spare(req->fs->session, space_again, req);
        return HF_FS_PENDING;
    }
    if (reply->err == -E2BIG) {
        return req->state & SPACE_COMPACTED ? -EIO : space_compact(req);
    }
    if (reply->err) {
        return reply->err;
    }
    hf_fs_inode_own_version(req->inode, reply->attr.data_version);
    hf_fs_inode_own_told(req->inode, reply->attr.data_version);
    req->state = 0;
    req->off_bytes += piece;
    req->len_bytes -= piece;
    if (!req->len_bytes || ((req->mode & FALLOC_FL_PUNCH_HOLE) && reply->attr.bytes == 0)) {
        return 0; /* all is done, or there is nothing left in the file */
    }
    return req->fs->lost ? req->fs->lost : space_go(req);
}

/* What the pieces behind the next one will reserve at least: the file has set.size bytes. */
static uint64_t space_more(const struct hf_fs_req *req)
{
    uint64_t rest = req->len_bytes - space_piece(req);

    return rest - (rest < req->set.size ? rest : req->set.size);
}

static int space_go(struct hf_fs_req *req)
{
    struct hf_meta_op op = {.op = HF_OP_ALLOCATE,
                            .ino = req->ino,
                            .mask = change_mask(req),
                            .offset = req->off_bytes,
                            .length = space_piece(req)};
    bool punch = req->mode & FALLOC_FL_PUNCH_HOLE, keep = req->mode & FALLOC_FL_KEEP_SIZE;

    if (hf_compact_wait(req->inode, req, space_on)) {
        return HF_FS_PENDING;
    }
    /* A piece that lay behind the end of the file has nothing to be zeroed but what was appended
     * to the pieces before. */
    if (punch ||
        ((req->mode & FALLOC_FL_ZERO_RANGE) && (keep || req->off_bytes < req->off2_bytes))) {
        op.op = HF_OP_PUNCH;
        op.flags = keep ? 0 : HF_PUNCH_EXTEND;
    } else {
        op.flags = keep ? HF_ALLOC_KEEP_SIZE : 0;
    }
    if (!punch) {
        op.flags |= HF_ALLOC_RESERVE;
        op.size = space_more(req);
    }
    req->after = space_done;
    return hf_contents_mutate(req->fs, &op, req->inode, req);
}

static int space_looked(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err) {
        return reply->err;
    }
    req->off2_bytes = reply->attr.size;
    req->set.size = reply->attr.bytes;
    return space_go(req);
}

/* Of several pieces that reserve space none is begun if there is no room for all. */
static int space_begin(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = req->ino};

    req->off2_bytes = UINT64_MAX;
    if ((req->mode & FALLOC_FL_PUNCH_HOLE) || req->len_bytes == space_piece(req)) {
        return space_go(req);
    }
    req->after = space_looked;
    return hf_fs_look(req->fs, &rd, req);
}

static void space_clean(struct hf_fs_req *req)
{
    int err = req->inode->err_seq != req->err_seq ? req->inode->err : space_begin(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

int hf_fs_fallocate(struct hf_fs_file *file, uint32_t mode, uint64_t off, uint64_t len,
                    struct hf_fs_req *req)
{
    const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct hf_fs *fs = file->fs;
    int err;

    hf_fs_begin(fs, req);
    if (mode & ~known) {
        return -EOPNOTSUPP;
    }
    if (off > HF_FILE_BYTES_MAX || len > HF_FILE_BYTES_MAX - off) {
        return -EFBIG;
    }
    req->ino = file->inode->ino;
    req->mode = mode;
    req->off_bytes = off;
    req->len_bytes = len;
    hf_fs_hold(req, hf_fs_inode_ref(file->inode));
    err = hf_flush_inode(fs, file->inode, true);
    if (err) {
        return hf_fs_return(req, err); /* what is left dirty would come back into the range */
    }
    if (hf_flush_wait(file->inode, req, space_clean)) {
        return HF_FS_PENDING;
    }
    return space_begin(req);
}

/* copy_file_range: both files committed, the source's size asked, then shared */

static int clone_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    hf_contents_answered(req->inode2);
    if (reply->err == 0) {
        req->count = reply->count; /* the source may have been made shorter */
        hf_fs_inode_own_version(req->inode2, 0);
    }
    return reply->err == -E2BIG ? -EOPNOTSUPP : reply->err; /* too many pieces to share */
}

static void clone_ask(struct hf_fs_req *req);

static int clone_size(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_meta_op op = {.op = HF_OP_CLONE,
                            .mask = change_mask(req),
                            .ino = req->inode->ino,
                            .offset = req->off_bytes,
                            .ino2 = req->inode2->ino,
                            .offset2 = req->off2_bytes};

    if (reply->err) {
        return reply->err;
    }
    if (hf_compact_wait(req->inode2, req, clone_ask)) {
        return HF_FS_PENDING;
    }
    if (req->off_bytes >= reply->attr.size) {
        req->count = 0;
        return 0;
    }
    if (req->len_bytes > reply->attr.size - req->off_bytes) {
        req->len_bytes = reply->attr.size - req->off_bytes;
    }
    op.length = req->len_bytes;
    req->after = clone_done;
    return hf_contents_mutate(req->fs, &op, req->inode2, req);
}

static int clone_go(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = req->inode->ino};

    req->after = clone_size;
    return hf_fs_look(req->fs, &rd, req);
}

static void clone_ask(struct hf_fs_req *req)
{
    (void)clone_go(req); /* it is a look: it ends later */
}

static int clone_clean(struct hf_fs_req *req);

static void clone_waited(struct hf_fs_req *req)
{
    int err = clone_clean(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

/* What is left dirty was written before: it belongs into the copy. */
static int clone_clean(struct hf_fs_req *req)
{
    int err = hf_flush_held(req, clone_waited);

    return err ? err : clone_go(req);
}

int hf_fs_copy(struct hf_fs_file *from, uint64_t from_off, struct hf_fs_file *to, uint64_t to_off,
               uint64_t len, struct hf_fs_req *req)
{
    hf_fs_begin(from->fs, req);
    hf_fs_hold(req, hf_fs_inode_ref(from->inode));
    hf_fs_hold(req, hf_fs_inode_ref(to->inode));
    req->off_bytes = from_off;
    req->off2_bytes = to_off;
    req->len_bytes = len < CLONE_BYTES_MAX ? len : CLONE_BYTES_MAX;
    return hf_fs_return(req, clone_clean(req));
}
