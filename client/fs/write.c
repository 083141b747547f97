/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

/* What of the session's budget covers nothing any more goes back. */
void hf_fs_budget_trim(struct hf_fs *fs)
{
    uint64_t live = fs->dirty_bytes + fs->flush_bytes;

    if (fs->budget_bytes > live && !fs->lost) {
        hf_session_give_budget(fs->session, fs->budget_bytes - live);
        fs->budget_bytes = live;
    }
}

/* @bytes of what was dirty lie in the stores now. */
void hf_fs_budget_spend(struct hf_fs *fs, uint64_t bytes)
{
    uint64_t live = fs->dirty_bytes + fs->flush_bytes;
    uint64_t over = fs->budget_bytes > live ? fs->budget_bytes - live : 0;

    bytes = bytes < over ? bytes : over;
    if (bytes && !fs->lost) {
        hf_session_spend_budget(fs->session, bytes);
        fs->budget_bytes -= bytes;
    }
}

#define WRITE_RESERVED 0x80000000u /* of its flags: where it writes, the file has space */

static bool takes_over(const struct hf_buf *buf, uint32_t len)
{
    return buf && len >= HF_FS_TAKE_BYTES;
}

/* Is there memory for it? A first slab always is. */
static bool has_room(const struct hf_fs *fs, const struct hf_buf *buf, uint32_t len)
{
    size_t need = takes_over(buf, len) ? buf->cap_bytes : hf_arena_need(&fs->arena, len);

    return need == 0 || fs->arena.mem_bytes == 0 ||
           fs->arena.mem_bytes + need <= fs->dirty_max_bytes;
}

static int enter(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, const void *data,
                 uint32_t len, struct hf_buf *buf)
{
    struct hf_slab *slab;
    int err;

    if (!takes_over(buf, len)) {
        return hf_dirty_write(&inode->dirty, &fs->arena, off, data, len);
    }
    slab = hf_arena_adopt(&fs->arena, hf_buf_ref(buf));
    if (!slab) {
        hf_buf_unref(buf);
        return -ENOMEM;
    }
    err = hf_dirty_write_slab(&inode->dirty, off, len, slab,
                              (uint32_t)((const uint8_t *)data - buf->data));
    hf_slab_unref(slab);
    return err;
}

/* Must it wait until what is appended has found its place? It says itself where it goes. */
static bool waits_for_append(const struct hf_inode *inode, uint64_t end, uint32_t flags)
{
    return !(flags & HF_FS_WRITE_APPEND) && hf_append_start(inode) < end;
}

/* Durable, with all that was appended before it. */
static int append_through(struct hf_fs *fs, struct hf_inode *inode, struct hf_fs_req *req)
{
    int err;

    hf_fs_hold(req, hf_fs_inode_ref(inode));
    err = hf_flush_inode(fs, inode, true);
    if (!err && hf_flush_wait(inode, req, hf_flush_through_done)) {
        return HF_FS_PENDING;
    }
    err = err ? err : inode->err_seq != req->err_seq ? inode->err : 0;
    return hf_fs_return(req, err);
}

/* In one flush with what was appended before it, or in one of its own. */
static int append(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, const void *data,
                  uint32_t len, struct hf_buf *buf)
{
    int err;

    if (hf_append_full(inode, len) && !HF_BUG(append_torn)) {
        hf_flush_append(fs, inode);
    }
    off = hf_append_place(inode, off);
    if (off > HF_FILE_BYTES_MAX - len) {
        return -EFBIG;
    }
    err = enter(fs, inode, off, data, len, buf);
    if (err) {
        (void)hf_dirty_cut(&inode->dirty, off, off + len);
    } else {
        hf_append_note(inode, off, off + len);
    }
    return err;
}

/* -EAGAIN: no memory or budget now; -ENOSPC: nor later. HF_FS_PENDING: @req ends when it is
 * through. */
static int write_now(struct hf_fs_file *file, uint64_t off, const void *data, uint32_t len,
                     struct hf_buf *buf, uint32_t flags, struct hf_fs_req *req)
{
    struct hf_fs *fs = file->fs;
    struct hf_inode *inode = file->inode;
    bool over;
    int err;

    if (fs->lost && !HF_BUG(lost_takes_writes)) {
        return fs->lost;
    }
    if (waits_for_append(inode, off + len, flags)) {
        if (inode->not_before_ns <= hf_env_mono_ns(fs->env)) {
            (void)hf_flush_inode(fs, inode, true);
        }
        return -EAGAIN;
    }
    if (!has_room(fs, buf, len)) {
        return -EAGAIN;
    }
    if ((flags & WRITE_RESERVED) && hf_dirty_busy(&inode->dirty, off, off + len)) {
        return -ENOSPC; /* what is on its way there takes what is reserved */
    }
    if (!(flags & WRITE_RESERVED)) {
        err = hf_session_take_budget(fs->session, len);
        if (err) {
            return err;
        }
        fs->budget_bytes += len;
    }
    over = (flags & HF_FS_WRITE_THROUGH) && hf_dirty_next(&inode->dirty, off) < off + len;
    err = flags & HF_FS_WRITE_APPEND ? append(fs, inode, off, data, len, buf)
                                     : enter(fs, inode, off, data, len, buf);
    hf_flush_note(fs, inode);
    if (err) {
        hf_fs_budget_trim(fs);
        return err;
    }
    if (fs->budget_bytes > fs->dirty_bytes + fs->flush_bytes) {
        hf_fs_budget_trim(fs); /* it overwrote what was dirty */
    }
    inode->dirty_mtime_ns = hf_env_wall_ns(fs->env);
    inode->told_ctime_ns = 0;
    inode->kill = inode->kill || (flags & HF_FS_WRITE_KILL);
    fs->stats.writes++;
    fs->stats.write_bytes += len;
    if (flags & HF_FS_WRITE_THROUGH && flags & HF_FS_WRITE_APPEND) {
        return append_through(fs, inode, req);
    }
    if (flags & HF_FS_WRITE_THROUGH) {
        err = hf_flush_range(fs, inode, off, off + len, over, req);
        return err ? err : HF_FS_PENDING;
    }
    if (!(flags & HF_FS_WRITE_MAPPED)) { /* that may have been queued before the file was cut */
        inode->kernel_end = off + len > inode->kernel_end ? off + len : inode->kernel_end;
    }
    if (!(flags & HF_FS_WRITE_APPEND)) {
        hf_flush_stream(fs, inode, off, off + len);
    }
    hf_flush_note(fs, inode);
    if (fs->arena.mem_bytes > fs->dirty_target_bytes) {
        hf_flush_kick(fs);
    }
    return 0;
}

static void first_ends(struct hf_fs *fs, int err)
{
    struct hf_fs_req *req = fs->writers;

    fs->asked = NULL;
    hf_req_ring_remove(&fs->writers, req);
    hf_fs_finish(req, err);
}

static void reserved_told(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_fs *fs = call->ctx;
    struct hf_fs_req *req = fs->asked; /* else it got budget meanwhile */

    fs->calls--;
    fs->asking = false;
    fs->asked = NULL;
    if (req && !reply->err && reply->count == req->len_bytes &&
        !hf_dirty_busy(&req->of->inode->dirty, req->off_bytes, req->off_bytes + req->len_bytes)) {
        req->flags |= WRITE_RESERVED;
    } else if (req) {
        first_ends(fs, fs->lost ? fs->lost : -ENOSPC);
    }
    hf_fs_writers_wake(fs);
}

/* Not where the leader says where it goes. */
static bool may_be_reserved(uint32_t flags)
{
    return !(flags & HF_FS_WRITE_APPEND);
}

/* The cluster is full. But where the first waiting writer writes, the file may have space. */
static void ask_reserved(struct hf_fs *fs)
{
    const struct hf_fs_req *req = fs->writers;
    struct hf_meta_read rd = {.op = HF_RD_RESERVED,
                              .ino = req->of->inode->ino,
                              .offset = req->off_bytes,
                              .length = req->len_bytes};

    if (fs->asking) {
        return;
    }
    fs->asking = true;
    fs->asked = fs->writers;
    fs->reserved_call.done = reserved_told;
    fs->reserved_call.ctx = fs;
    fs->calls++;
    hf_session_read(fs->session, &rd, &fs->reserved_call);
}

static void budget_done(void *ctx, int err)
{
    struct hf_fs *fs = ctx;

    fs->budget_wait = false;
    if (err == -ENOSPC && fs->writers && !fs->lost && may_be_reserved(fs->writers->flags)) {
        ask_reserved(fs);
        return;
    }
    if (err && fs->writers) {
        first_ends(fs, err);
    }
    hf_fs_writers_wake(fs);
}

/* The first waiting writer needs either memory, which flushes free, or budget. */
static void writers_wait(struct hf_fs *fs)
{
    const struct hf_fs_req *req = fs->writers;

    if (!fs->budget_wait &&
        !waits_for_append(req->of->inode, req->off_bytes + req->len_bytes, req->flags) &&
        has_room(fs, req->buf, (uint32_t)req->len_bytes)) {
        fs->budget_wait = true;
        hf_session_wait_budget(fs->session, req->len_bytes, budget_done, fs);
    }
    hf_flush_kick(fs);
}

static void first_waits(struct hf_fs *fs, int why)
{
    if (why == -ENOSPC) {
        ask_reserved(fs);
    } else {
        writers_wait(fs);
    }
}

void hf_fs_writers_wake(struct hf_fs *fs)
{
    while (fs->writers) {
        struct hf_fs_req *req = fs->writers;
        int err;

        /* off the ring first: what it wakes may look at the ring again */
        hf_req_ring_remove(&fs->writers, req);
        err = write_now(req->of, req->off_bytes, req->arg, (uint32_t)req->len_bytes, req->buf,
                        req->flags, req);
        if (err == -EAGAIN || (err == -ENOSPC && may_be_reserved(req->flags))) {
            hf_req_ring_add(&fs->writers, req);
            fs->writers = req; /* still the first */
            first_waits(fs, err);
            return;
        }
        fs->asked = fs->asked == req ? NULL : fs->asked;
        if (err != HF_FS_PENDING) {
            hf_fs_finish(req, err);
        }
    }
}

/* Neither memory nor budget became free for too long: nothing is written any more. */
void hf_fs_writers_time(void *ctx)
{
    struct hf_fs *fs = ctx;
    uint64_t waited_ns = hf_env_mono_ns(fs->env) - fs->progress_ns;

    while (fs->writers && waited_ns >= fs->op_timeout_ns) {
        first_ends(fs, -EIO);
    }
    if (fs->writers) {
        hf_timer_arm(&fs->wait_timer, fs->op_timeout_ns - waited_ns);
    }
}

/* Keep what the caller lent, and queue; @why: -EAGAIN or -ENOSPC. */
static int write_later(struct hf_fs_file *file, uint64_t off, const void *data, uint32_t len,
                       struct hf_buf *buf, uint32_t flags, struct hf_fs_req *req, int why)
{
    struct hf_fs *fs = file->fs;

    if (takes_over(buf, len)) {
        req->buf = hf_buf_ref(buf);
        req->arg = data;
    } else {
        req->mem = malloc(len);
        if (!req->mem) {
            return -ENOMEM;
        }
        memcpy(req->mem, data, len);
        req->arg = req->mem;
    }
    req->of = file;
    req->off_bytes = off;
    req->len_bytes = len;
    req->flags = flags;
    hf_req_ring_add(&fs->writers, req);
    if (fs->writers == req) {
        fs->progress_ns = hf_env_mono_ns(fs->env);
        hf_timer_arm(&fs->wait_timer, fs->op_timeout_ns);
        first_waits(fs, why);
    }
    return HF_FS_PENDING;
}

int hf_fs_write(struct hf_fs_file *file, uint64_t off, const void *data, uint32_t len,
                struct hf_buf *buf, uint32_t flags, struct hf_fs_req *req)
{
    struct hf_fs *fs = file->fs;
    int err = -EAGAIN;

    hf_fs_begin(fs, req);
    if (len == 0) {
        return 0;
    }
    if (off >= HF_FILE_BYTES_MAX) {
        return -EFBIG;
    }
    len = len < HF_FILE_BYTES_MAX - off ? len : (uint32_t)(HF_FILE_BYTES_MAX - off);
    req->count = len;
    if (off < file->inode->kernel_end) {
        flags &= ~HF_FS_WRITE_APPEND; /* RWF_NOAPPEND, of which a WRITE says nothing */
    }
    if (!fs->writers) {
        err = write_now(file, off, data, len, buf, flags, req);
    }
    return err == -EAGAIN || (err == -ENOSPC && may_be_reserved(flags))
               ? write_later(file, off, data, len, buf, flags, req, err)
               : err;
}

/* fsync and close */

/* What was not yet reported through this file. */
static int report(struct hf_fs_file *file)
{
    struct hf_inode *inode = file->inode;

    if (inode->err_seq != file->err_seen) {
        int err = inode->err;

        file->err_seen = inode->err_seq;
        inode->err = HF_BUG(error_told_once) ? 0 : err;
        return err;
    }
    return 0;
}

/* 0: all of it is committed; HF_FS_PENDING: @then runs when it is, or has failed. */
static int commit_all(struct hf_fs_file *file, struct hf_fs_req *req,
                      void (*then)(struct hf_fs_req *req))
{
    bool skip = HF_BUG(fsync_skips_busy) && file->inode->dirty.dirty_bytes == 0;
    /* Of a lost session each fsync fails, not only the first: nothing is made durable any more. */
    int err = file->fs->lost ? file->fs->lost : hf_flush_inode(file->fs, file->inode, true);

    if (err) {
        return err;
    }
    return !skip && hf_flush_wait(file->inode, req, then) ? HF_FS_PENDING : 0;
}

static void fsync_done(struct hf_fs_req *req)
{
    hf_fs_finish(req, report(req->of));
}

int hf_fs_fsync(struct hf_fs_file *file, struct hf_fs_req *req)
{
    int err;

    hf_fs_begin(file->fs, req);
    req->of = file;
    err = commit_all(file, req, fsync_done);
    return err ? err : report(file);
}

static int unlocked(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    int err = req->flags ? report(req->of) : 0;

    (void)reply; /* it fails with the session, which takes the locks along */
    return err ? err : (int)req->state;
}

/* What is committed is there for whoever gets the lock. */
static int flush_unlock(struct hf_fs_req *req)
{
    static const struct hf_meta_reply none = {0};

    req->after = unlocked;
    return hf_lock_give_back(req->of->inode, req->lock.owner, req) ? HF_FS_PENDING
                                                                   : unlocked(req, &none);
}

static void flush_clean(struct hf_fs_req *req)
{
    int err = flush_unlock(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

int hf_fs_flush(struct hf_fs_file *file, uint64_t owner, struct hf_fs_req *req)
{
    struct hf_inode *inode = file->inode;
    bool seen = !hf_fs_inode_private(inode);
    bool writes = (file->open_flags & O_ACCMODE) != O_RDONLY && seen;
    bool commits = writes || (hf_lock_writes(inode) && seen); /* its locks may go */
    int err;

    hf_fs_begin(file->fs, req);
    req->of = file;
    req->lock.owner = owner;
    req->flags = writes;
    err = commits ? commit_all(file, req, flush_clean) : 0;
    if (err == HF_FS_PENDING) {
        return err;
    }
    req->state = (uint32_t)err; /* the locks go all the same */
    return flush_unlock(req);
}
