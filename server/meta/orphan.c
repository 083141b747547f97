/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/orphan.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "server/meta/alloc.h"
#include "server/meta/inode.h"
#include "server/meta/lock.h"
#include "server/meta/session.h"
#include "server/meta/window.h"

#define PURGE_WINDOWS_DEFAULT 256u
#define PURGE_WINDOWS_MAX     4096u

int hf_purge_queue(struct hf_meta *meta, struct hf_ino ino)
{
    struct hf_key key;
    bool there;
    int err;

    hf_key_u64(&key, HF_ROW_PURGE, ino.v);
    err = hf_txn_exists(meta, &key, &there);
    if (err || there) {
        return err;
    }
    meta->c.usage.purging++;
    return hf_txn_put_mark(meta, &key);
}

int hf_purge_unqueue(struct hf_meta *meta, struct hf_ino ino)
{
    struct hf_key key;
    bool there;
    int err;

    hf_key_u64(&key, HF_ROW_PURGE, ino.v);
    err = hf_txn_exists(meta, &key, &there);
    if (err || !there) {
        return err;
    }
    meta->c.usage.purging--;
    return hf_txn_del(meta, &key);
}

/* Its extents are gone: all else goes. */
static int purge_finish(struct hf_meta *meta, struct hf_inode *inode)
{
    struct hf_key key;
    int err = 0;

    HF_ASSERT(inode->attr.bytes == 0 && inode->attr.nlink == 0);
    if (inode->xattr_names_bytes) {
        hf_key_u64(&key, HF_ROW_XATTR, inode->attr.ino.v);
        err = hf_txn_del_prefix(meta, &key);
    }
    if (!err && S_ISLNK(inode->attr.mode)) {
        hf_key_u64(&key, HF_ROW_SYMLINK, inode->attr.ino.v);
        err = hf_txn_del(meta, &key);
    }
    if (!err) {
        err = hf_lock_forget_inode(meta, inode->attr.ino);
    }
    if (!err) {
        hf_inode_remove(meta, inode);
        meta->c.usage.inodes--;
    }
    return err;
}

/* Nobody holds it, it has no name. */
static int purge_start(struct hf_meta *meta, struct hf_inode *inode)
{
    uint64_t windows = hf_windows(inode->attr.size);
    bool small = windows <= HF_INLINE_PURGE_WINDOWS && !(inode->flags & HF_INODE_STALE_TAIL);
    int err = 0;

    inode->state = HF_INODE_PURGING;
    inode->flags &= ~HF_INODE_LINKABLE;
    hf_inode_dirty(inode);
    err = hf_alloc_release(meta, inode, 0, UINT64_MAX);
    if (err) {
        return err;
    }
    if (!S_ISREG(inode->attr.mode)) {
        return purge_finish(meta, inode);
    }
    if (small) {
        for (uint64_t w = 0; w < windows && !err; w++) {
            err = hf_window_drop(meta, inode, w);
        }
        return err ? err : purge_finish(meta, inode);
    }
    inode->flags &= ~HF_INODE_STALE_TAIL;
    inode->stale_from = 0; /* from here on: how far the purge has come */
    return hf_purge_queue(meta, inode->attr.ino);
}

static int hold(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_key key;
    int err;

    hf_key_u64_u64(&key, HF_ROW_ORPHAN, ino.v, session.v);
    err = hf_txn_put_mark(meta, &key);
    if (!err) {
        hf_key_u64_u64(&key, HF_ROW_SESSION_ORPHAN, session.v, ino.v);
        err = hf_txn_put_mark(meta, &key);
    }
    return err;
}

static int unhold(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_key key;
    int err;

    hf_key_u64_u64(&key, HF_ROW_ORPHAN, ino.v, session.v);
    err = hf_txn_del(meta, &key);
    if (!err) {
        hf_key_u64_u64(&key, HF_ROW_SESSION_ORPHAN, session.v, ino.v);
        err = hf_txn_del(meta, &key);
    }
    return err;
}

int hf_orphan_drop(struct hf_meta *meta, struct hf_inode *inode, const uint64_t *holders,
                   uint32_t holder_count)
{
    bool held = false;

    HF_ASSERT(inode->state == HF_INODE_LIVE && inode->attr.nlink == 0);
    for (uint32_t i = 0; i < holder_count && !(HF_BUG(one_holder_kept) && held); i++) {
        const struct hf_session_id session = {holders[i]};

        if (hf_session_stream(meta, session)) {
            int err = hold(meta, inode->attr.ino, session);

            if (err) {
                return err;
            }
            held = true;
        }
    }
    if (!held) {
        return purge_start(meta, inode);
    }
    inode->state = HF_INODE_ORPHAN;
    hf_inode_dirty(inode);
    meta->c.usage.orphans++;
    return 0;
}

int hf_orphan_adopt(struct hf_meta *meta, struct hf_inode *inode)
{
    struct hf_table_cursor cursor;
    struct hf_session_id session;
    struct hf_key key;
    int err;

    HF_ASSERT(inode->state == HF_INODE_ORPHAN && (inode->flags & HF_INODE_LINKABLE));
    hf_key_u64(&key, HF_ROW_ORPHAN, inode->attr.ino.v);
    while ((err = hf_txn_seek(meta, &key, key.len, &cursor)) == 0) {
        if (cursor.key_len != 17) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        session.v = hf_get_be64((const uint8_t *)cursor.key + 9);
        err = unhold(meta, inode->attr.ino, session);
        if (err) {
            return err;
        }
    }
    if (err != -ENOENT) {
        return err;
    }
    inode->state = HF_INODE_LIVE;
    inode->flags &= ~HF_INODE_LINKABLE;
    hf_inode_dirty(inode);
    meta->c.usage.orphans--;
    return 0;
}

int hf_orphan_release(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_table_cursor cursor;
    struct hf_inode *inode;
    struct hf_key key;
    bool there;
    int err;

    hf_key_u64_u64(&key, HF_ROW_ORPHAN, ino.v, session.v);
    err = hf_txn_exists(meta, &key, &there);
    if (err || !there) {
        return err;
    }
    err = unhold(meta, ino, session);
    if (err) {
        return err;
    }
    hf_key_u64(&key, HF_ROW_ORPHAN, ino.v);
    err = hf_txn_seek(meta, &key, key.len, &cursor);
    if (err != -ENOENT) {
        return err; /* 0: others hold it */
    }
    err = hf_inode_get(meta, ino, &inode);
    if (err || inode->state != HF_INODE_ORPHAN) {
        return hf_txn_fail(meta, err && err != -ENOENT ? err : -EBADMSG);
    }
    meta->c.usage.orphans--;
    return purge_start(meta, inode);
}

int hf_orphan_release_all(struct hf_meta *meta, struct hf_session_id session)
{
    struct hf_table_cursor cursor;
    struct hf_key from;
    int err;

    hf_key_u64(&from, HF_ROW_SESSION_ORPHAN, session.v);
    while ((err = hf_txn_seek(meta, &from, 9, &cursor)) == 0) {
        struct hf_ino ino;

        if (cursor.key_len != 17) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        ino.v = hf_get_be64((const uint8_t *)cursor.key + 9);
        hf_key_after(&from, cursor.key, cursor.key_len);
        err = hf_orphan_release(meta, ino, session);
        if (err) {
            return err;
        }
    }
    return err == -ENOENT ? 0 : err;
}

int hf_meta_op_orphan_release(struct hf_meta *meta, const struct hf_meta_op *op,
                              struct hf_meta_reply *reply)
{
    (void)reply;
    return hf_orphan_release(meta, op->ino, op->session);
}

/* Give up windows of an inode without a name, from where the last time ended. */
static int purge_windows(struct hf_meta *meta, struct hf_inode *inode, uint64_t max,
                         uint64_t *ret_count)
{
    uint64_t next = inode->stale_from;
    int err = hf_window_drop_from(meta, inode, next, UINT64_MAX, max, &next, ret_count);

    if (err) {
        return err;
    }
    inode->stale_from = next;
    hf_inode_dirty(inode);
    if (*ret_count < max) {
        err = hf_purge_unqueue(meta, inode->attr.ino);
        return err ? err : purge_finish(meta, inode);
    }
    return 0;
}

int hf_meta_op_purge(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    uint64_t max = op->count ? op->count : PURGE_WINDOWS_DEFAULT;
    struct hf_inode *inode;
    int err = hf_inode_get(meta, op->ino, &inode);

    if (err) {
        return err == -ENOENT ? 0 : err; /* done already */
    }
    max = max > PURGE_WINDOWS_MAX ? PURGE_WINDOWS_MAX : max;
    if (inode->state == HF_INODE_PURGING) {
        return purge_windows(meta, inode, max, &reply->count);
    }
    if (inode->flags & HF_INODE_STALE_TAIL) {
        return hf_window_drop_stale(meta, inode, max, &reply->count);
    }
    return 0;
}
