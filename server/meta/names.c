/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/names.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "server/meta/acl.h"
#include "server/meta/dir.h"
#include "server/meta/inode.h"
#include "server/meta/orphan.h"
#include "server/meta/session.h"

/* An entry came to @dir (delta 1) or left it (-1), of a directory or not. */
static void dir_changed(struct hf_meta *meta, struct hf_inode *dir, int entries, int subdirs)
{
    dir->attr.size += (uint64_t)(int64_t)entries;
    dir->attr.nlink += (uint32_t)subdirs;
    hf_inode_touch_data(meta, dir);
}

/* Its links are counted exactly, and as many as there can be: HF_LINK_MAX is for files. */
static int subdir_limit(const struct hf_inode *dir)
{
    return dir->attr.nlink == UINT32_MAX ? -EMLINK : 0;
}

/* An inode that an entry names: it exists, whatever happened. */
static int inode_of_entry(struct hf_meta *meta, const struct hf_dir_entry *entry,
                          struct hf_inode **ret)
{
    int err = hf_inode_get(meta, entry->ino, ret);

    return err == -ENOENT ? hf_txn_fail(meta, -EBADMSG) : err;
}

/* Create */

static int create_check(const struct hf_meta_op *op)
{
    uint32_t type = op->mode & S_IFMT;

    switch (type) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    case S_IFLNK:
        if (!op->target || op->target_len == 0) {
            return -ENOENT;
        }
        if (op->target_len > HF_SYMLINK_MAX) {
            return -ENAMETOOLONG;
        }
        return memchr(op->target, 0, op->target_len) ? -EINVAL : 0;
    default:
        return -EINVAL;
    }
    return op->rdev > UINT32_MAX ? -EINVAL : 0;
}

static int symlink_store(struct hf_meta *meta, struct hf_inode *inode, const struct hf_meta_op *op)
{
    uint8_t value[1 + HF_SYMLINK_MAX];
    struct hf_key key;

    value[0] = HF_ROW_VERSION;
    memcpy(value + 1, op->target, op->target_len);
    hf_key_u64(&key, HF_ROW_SYMLINK, inode->attr.ino.v);
    inode->attr.size = op->target_len;
    return hf_txn_put(meta, &key, value, 1 + op->target_len);
}

/* The inode itself, as its directory and the caller want it. */
static int create_inode(struct hf_meta *meta, const struct hf_meta_op *op,
                        const struct hf_inode *parent, struct hf_inode **ret)
{
    struct hf_inode *inode;
    int err = hf_session_use_ino(meta, op->session, op->ino);

    if (!err) {
        err = hf_inode_add(meta, op->ino, &inode);
    }
    if (err) {
        return err;
    }
    inode->parent = parent->attr.ino;
    inode->attr.mode = op->mode & (uint32_t)(S_IFMT | 07777);
    inode->attr.uid = op->uid;
    inode->attr.gid = op->gid;
    inode->attr.nlink = S_ISDIR(op->mode) ? 2 : 1;
    if (S_ISCHR(op->mode) || S_ISBLK(op->mode)) {
        inode->attr.rdev = op->rdev;
    }
    if (parent->attr.mode & S_ISGID) {
        inode->attr.gid = parent->attr.gid;
        inode->attr.mode |= S_ISDIR(op->mode) ? S_ISGID : 0;
    }
    if (S_ISLNK(op->mode)) {
        inode->attr.mode = S_IFLNK | 0777;
        err = symlink_store(meta, inode, op);
    } else {
        err = hf_acl_inherit(meta, parent, inode, op->umask);
    }
    *ret = inode;
    return err;
}

int hf_meta_op_create(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply)
{
    bool is_dir = S_ISDIR(op->mode);
    struct hf_inode *parent, *inode;
    struct hf_dir_entry entry;
    int err = hf_inode_get_dir(meta, op->parent, &parent);

    if (!err) {
        err = hf_dir_name_check(op->name, op->name_len);
    }
    if (!err) {
        err = create_check(op);
    }
    if (err) {
        return err;
    }
    err = hf_dir_find(meta, op->parent, op->name, op->name_len, &entry);
    if (!err) {
        err = inode_of_entry(meta, &entry, &inode);
        if (!err) {
            reply->attr = inode->attr;
            reply->attr2 = parent->attr;
        }
        return err ? err : -EEXIST;
    }
    if (err == -ENOENT) {
        err = is_dir ? subdir_limit(parent) : 0;
    }
    if (!err) {
        err = create_inode(meta, op, parent, &inode);
    }
    if (!err) {
        err = hf_dir_insert(meta, op->parent, op->name, op->name_len, op->ino, op->mode & S_IFMT);
    }
    if (err) {
        return err;
    }
    dir_changed(meta, parent, 1, is_dir);
    reply->attr = inode->attr;
    reply->attr2 = parent->attr;
    return 0;
}

/* Of a directory it takes what a name in it would give it; the directory does not change. */
int hf_meta_op_tmpfile(struct hf_meta *meta, const struct hf_meta_op *op,
                       struct hf_meta_reply *reply)
{
    struct hf_inode *parent, *inode;
    int err = hf_inode_get_dir(meta, op->parent, &parent);

    if (!err && !S_ISREG(op->mode)) {
        err = -EINVAL;
    }
    if (!err) {
        err = create_inode(meta, op, parent, &inode);
    }
    if (err) {
        return err;
    }
    inode->attr.nlink = 0;
    err = hf_orphan_drop(meta, inode, &op->session.v, 1);
    if (err) {
        return err;
    }
    inode->flags |= op->flags & HF_TMPFILE_LINKABLE ? HF_INODE_LINKABLE : 0;
    reply->attr = inode->attr;
    return 0;
}

/* Link */

int hf_meta_op_link(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_inode *parent, *inode;
    struct hf_dir_entry entry;
    int err = hf_inode_get_dir(meta, op->parent, &parent);

    if (!err) {
        err = hf_dir_name_check(op->name, op->name_len);
    }
    if (!err) {
        err = hf_inode_get_usable(meta, op->ino, &inode);
    }
    if (err) {
        return err;
    }
    if (S_ISDIR(inode->attr.mode)) {
        return -EPERM;
    }
    if (inode->state != HF_INODE_LIVE && !(inode->flags & HF_INODE_LINKABLE)) {
        return -ENOENT;
    }
    if (inode->attr.nlink >= HF_LINK_MAX) {
        return -EMLINK;
    }
    err = hf_dir_find(meta, op->parent, op->name, op->name_len, &entry);
    if (err != -ENOENT) {
        return err ? err : -EEXIST;
    }
    err =
        hf_dir_insert(meta, op->parent, op->name, op->name_len, op->ino, inode->attr.mode & S_IFMT);
    if (!err && inode->state != HF_INODE_LIVE) {
        err = hf_orphan_adopt(meta, inode);
    }
    if (err) {
        return err;
    }
    inode->attr.nlink++;
    inode->parent = op->parent;
    hf_inode_touch(meta, inode);
    dir_changed(meta, parent, 1, 0);
    reply->attr = inode->attr;
    reply->attr2 = parent->attr;
    return 0;
}

/* Unlink, rmdir */

static int symlink_load(struct hf_meta *meta, struct hf_ino ino, const void **ret, size_t *ret_len)
{
    const uint8_t *value = NULL;
    struct hf_key key;
    const void *row;
    size_t len;
    int err;

    hf_key_u64(&key, HF_ROW_SYMLINK, ino.v);
    err = hf_txn_get(meta, &key, &row, &len);
    if (err) {
        return err;
    }
    value = row;
    if (len < 2 || len - 1 > HF_SYMLINK_MAX || value[0] != HF_ROW_VERSION) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    *ret = value + 1;
    *ret_len = len - 1;
    return 0;
}

/* Nobody can ask for it any more; who removed it may still hold the link by O_PATH. */
static int symlink_tell(struct hf_meta *meta, struct hf_ino ino, struct hf_meta_reply *reply)
{
    const void *target;
    size_t len;
    int err = symlink_load(meta, ino, &target, &len);

    if (err) {
        return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
    }
    memcpy(meta->target, target, len);
    reply->bulk = meta->target;
    reply->bulk_len = len;
    return 0;
}

/* Who holds it open but for the one that asks: they may read what that one writes to it. */
static uint64_t count_others(const struct hf_meta *meta, const struct hf_meta_op *op)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < op->holder_count; i++) {
        const struct hf_session_id holder = {op->holders[i]};

        count += holder.v != op->session.v && hf_session_stream(meta, holder);
    }
    return count;
}

/* A name of @inode went; the last one takes the inode along. */
static int name_gone(struct hf_meta *meta, struct hf_inode *inode, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply)
{
    int err = 0;

    hf_inode_touch(meta, inode);
    if (S_ISDIR(inode->attr.mode)) {
        inode->attr.nlink = 0;
    } else {
        inode->attr.nlink--;
    }
    if (inode->attr.nlink) {
        return 0;
    }
    reply->count = count_others(meta, op);
    if (S_ISLNK(inode->attr.mode)) {
        err = symlink_tell(meta, inode->attr.ino, reply);
    }
    return err ? err : hf_orphan_drop(meta, inode, op->holders, op->holder_count);
}

/* What UNLINK or RMDIR names. */
static int find_named(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_inode **ret_dir,
                      struct hf_dir_entry *ret_entry, struct hf_inode **ret_inode)
{
    int err = hf_inode_get_dir(meta, op->parent, ret_dir);

    if (!err) {
        err = hf_dir_name_check(op->name, op->name_len);
    }
    if (!err) {
        err = hf_dir_find(meta, op->parent, op->name, op->name_len, ret_entry);
    }
    return err ? err : inode_of_entry(meta, ret_entry, ret_inode);
}

static int remove_named(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_inode *parent,
                        const struct hf_dir_entry *entry, struct hf_inode *inode,
                        struct hf_meta_reply *reply)
{
    int err = hf_dir_remove(meta, op->parent, entry);

    if (!err) {
        err = name_gone(meta, inode, op, reply);
    }
    if (err) {
        return err;
    }
    dir_changed(meta, parent, -1, S_ISDIR(inode->attr.mode) ? -1 : 0);
    reply->attr = inode->attr;
    reply->attr2 = parent->attr;
    return 0;
}

int hf_meta_op_unlink(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply)
{
    struct hf_inode *parent, *inode;
    struct hf_dir_entry entry;
    int err = find_named(meta, op, &parent, &entry, &inode);

    if (!err && S_ISDIR(inode->attr.mode)) {
        err = -EISDIR;
    }
    return err ? err : remove_named(meta, op, parent, &entry, inode, reply);
}

int hf_meta_op_rmdir(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_inode *parent, *inode;
    struct hf_dir_entry entry;
    int err = find_named(meta, op, &parent, &entry, &inode);

    if (!err && !S_ISDIR(inode->attr.mode)) {
        err = -ENOTDIR;
    }
    if (!err && inode->attr.size) {
        err = -ENOTEMPTY;
    }
    return err ? err : remove_named(meta, op, parent, &entry, inode, reply);
}

/* Rename */

struct rename {
    struct hf_inode *from_dir, *to_dir;
    struct hf_inode *moved, *other; /* other: what is at the new name; NULL: nothing */
    struct hf_dir_entry from, to;
};

/* Is @ino @dir itself or above it? */
static int is_ancestor(struct hf_meta *meta, struct hf_ino ino, const struct hf_inode *dir,
                       bool *ret)
{
    struct hf_inode at = *dir;

    *ret = false;
    for (uint64_t depth = 0; depth <= meta->c.usage.inodes; depth++) {
        int err;

        if (at.attr.ino.v == ino.v) {
            *ret = true;
            return 0;
        }
        if (at.attr.ino.v == HF_INO_ROOT) {
            return 0;
        }
        err = hf_inode_load(meta, at.parent, &at);
        if (err) {
            return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
        }
    }
    return hf_txn_fail(meta, -EBADMSG); /* a cycle */
}

static bool is_dir(const struct hf_inode *inode)
{
    return inode && S_ISDIR(inode->attr.mode);
}

static int rename_find(struct hf_meta *meta, const struct hf_meta_op *op, struct rename *ret)
{
    int err = hf_inode_get_dir(meta, op->parent, &ret->from_dir);

    if (!err) {
        err = hf_inode_get_dir(meta, op->parent2, &ret->to_dir);
    }
    if (!err) {
        err = hf_dir_name_check(op->name, op->name_len);
    }
    if (!err) {
        err = hf_dir_name_check(op->name2, op->name2_len);
    }
    if (!err) {
        err = hf_dir_find(meta, op->parent, op->name, op->name_len, &ret->from);
    }
    if (!err) {
        err = inode_of_entry(meta, &ret->from, &ret->moved);
    }
    if (err) {
        return err;
    }
    ret->other = NULL;
    err = hf_dir_find(meta, op->parent2, op->name2, op->name2_len, &ret->to);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    return inode_of_entry(meta, &ret->to, &ret->other);
}

/* Neither directory may end up below itself. */
static int rename_check_loops(struct hf_meta *meta, const struct rename *r, bool exchange)
{
    bool above = false;
    int err = 0;

    if (r->from_dir == r->to_dir) {
        return 0;
    }
    if (is_dir(r->moved)) {
        err = is_ancestor(meta, r->moved->attr.ino, r->to_dir, &above);
    }
    if (!err && !above && exchange && is_dir(r->other)) {
        err = is_ancestor(meta, r->other->attr.ino, r->from_dir, &above);
    }
    return !err && above ? -EINVAL : err;
}

static int rename_exchange(struct hf_meta *meta, const struct hf_meta_op *op, struct rename *r)
{
    int up = is_dir(r->other) - is_dir(r->moved); /* of directories, into from_dir */
    int err = 0;

    if (r->from_dir != r->to_dir && up) {
        err = subdir_limit(up > 0 ? r->from_dir : r->to_dir);
    }
    if (!err) {
        err = hf_dir_replace(meta, op->parent, op->name, op->name_len, &r->from, r->other->attr.ino,
                             r->other->attr.mode & S_IFMT);
    }
    if (!err) {
        err = hf_dir_replace(meta, op->parent2, op->name2, op->name2_len, &r->to,
                             r->moved->attr.ino, r->moved->attr.mode & S_IFMT);
    }
    if (err) {
        return err;
    }
    r->moved->parent = op->parent2;
    r->other->parent = op->parent;
    hf_inode_touch(meta, r->moved);
    hf_inode_touch(meta, r->other);
    dir_changed(meta, r->from_dir, 0, up);
    dir_changed(meta, r->to_dir, 0, -up);
    return 0;
}

/* May what is at the new name make way? */
static int rename_check_replace(const struct rename *r)
{
    if (!r->other) {
        return is_dir(r->moved) && r->from_dir != r->to_dir ? subdir_limit(r->to_dir) : 0;
    }
    if (is_dir(r->other) && !is_dir(r->moved)) {
        return -EISDIR;
    }
    if (!is_dir(r->other) && is_dir(r->moved)) {
        return -ENOTDIR;
    }
    return is_dir(r->other) && r->other->attr.size ? -ENOTEMPTY : 0;
}

static int rename_move(struct hf_meta *meta, const struct hf_meta_op *op, struct rename *r,
                       struct hf_meta_reply *reply)
{
    uint32_t type = r->moved->attr.mode & S_IFMT;
    int err = rename_check_replace(r);

    if (!err && r->other) {
        err = hf_dir_replace(meta, op->parent2, op->name2, op->name2_len, &r->to,
                             r->moved->attr.ino, type);
    } else if (!err) {
        err = hf_dir_insert(meta, op->parent2, op->name2, op->name2_len, r->moved->attr.ino, type);
    }
    if (!err) {
        err = hf_dir_remove(meta, op->parent, &r->from);
    }
    if (!err && r->other) {
        err = name_gone(meta, r->other, op, reply);
    }
    if (err) {
        return err;
    }
    r->moved->parent = op->parent2;
    hf_inode_touch(meta, r->moved);
    dir_changed(meta, r->from_dir, -1, -is_dir(r->moved));
    dir_changed(meta, r->to_dir, r->other ? 0 : 1, is_dir(r->moved) - is_dir(r->other));
    return 0;
}

int hf_meta_op_rename(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply)
{
    bool exchange = (op->flags & RENAME_EXCHANGE) != 0;
    struct rename r;
    int err;

    if ((op->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        (exchange && (op->flags & RENAME_NOREPLACE))) {
        return -EINVAL;
    }
    err = rename_find(meta, op, &r);
    HF_ASSERT(err || r.moved);
    if (!err && exchange && !r.other) {
        err = -ENOENT;
    }
    if (!err && r.other && (op->flags & RENAME_NOREPLACE)) {
        err = -EEXIST;
    }
    if (!err && r.other != r.moved) {
        err = rename_check_loops(meta, &r, exchange);
        if (!err) {
            err = exchange ? rename_exchange(meta, op, &r) : rename_move(meta, op, &r, reply);
        }
    } /* else two names of one inode: POSIX says to do nothing */
    if (err) {
        return err;
    }
    reply->attr = r.moved->attr;
    if (r.other && r.other != r.moved) {
        reply->attr2 = r.other->attr;
    }
    return 0;
}

void hf_meta_rd_readlink(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    struct hf_inode inode;
    const void *target;
    size_t len;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (!reply->err && !S_ISLNK(inode.attr.mode)) {
        reply->err = -EINVAL;
    }
    if (!reply->err) {
        reply->err = symlink_load(meta, rd->ino, &target, &len);
    }
    if (!reply->err && len > buf_bytes) {
        reply->err = -ERANGE;
    }
    if (reply->err) {
        return;
    }
    memcpy(buf, target, len);
    reply->attr = inode.attr;
    reply->bulk = buf;
    reply->bulk_len = len;
}
