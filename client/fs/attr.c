/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

#define CLONE_BYTES_MAX (UINT64_C(1) << 30) /* of one operation; callers come again */

static int getattr_ask(struct hf_fs_req *req);

static void getattr_again(struct hf_fs_req *req)
{
    (void)getattr_ask(req);
}

static int got_attr(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_inode *inode = hf_fs_inode_find(req->fs, req->ino);

    if (inode && reply->err == 0 && hf_append_look(inode, &reply->attr)) {
        hf_append_wait(inode, req, getattr_again);
        return HF_FS_PENDING;
    }
    if (!inode || reply->err != -ENOENT || !inode->gone) {
        return reply->err;
    }
    req->attr = inode->gone->attr;
    return 0;
}

static int getattr_ask(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = req->ino};

    req->after = got_attr;
    return hf_fs_look(req->fs, &rd, req);
}

int hf_fs_getattr(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req)
{
    hf_fs_begin(fs, req);
    req->ino = ino;
    return getattr_ask(req);
}

/* What the kernel makes of it */

void hf_fs_inode_own_told(struct hf_inode *inode, uint64_t version)
{
    if (version == inode->told_version + 1) {
        inode->told_version = version;
    }
}

long hf_fs_told_contents(struct hf_fs *fs, const struct hf_attr *attr, bool reads)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, attr->ino);

    if (!inode) {
        return 0; /* not open: the next open drops what there is */
    }
    if (attr->mtime_ns != inode->told_mtime_ns) {
        inode->told_mtime_ns = attr->mtime_ns;
        inode->told_version = attr->data_version;
        inode->told_turn = 0;
    } else if (reads && attr->data_version != inode->told_version) {
        inode->told_version = attr->data_version;
        inode->told_turn = inode->told_turn % 3 + 1;
    }
    return 2L * inode->told_turn;
}

/* Setting */

/* Of what has no name any more: known to this mount alone. */
static void set_gone(struct hf_attr *attr, const struct hf_fs_set *set, uint64_t now_ns)
{
    if (set->mask & HF_SET_MODE) {
        attr->mode = (attr->mode & (uint32_t)S_IFMT) | (set->mode & 07777u);
    }
    attr->uid = set->mask & HF_SET_UID ? set->uid : attr->uid;
    attr->gid = set->mask & HF_SET_GID ? set->gid : attr->gid;
    attr->atime_ns = set->mask & HF_SET_ATIME ? set->atime_ns : attr->atime_ns;
    attr->mtime_ns = set->mask & HF_SET_MTIME ? set->mtime_ns : attr->mtime_ns;
    attr->ctime_ns = now_ns;
}

static int set_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_inode *inode = req->inode;

    if (reply->err == -ENOENT && inode && inode->gone) {
        set_gone(&inode->gone->attr, &req->set, hf_env_wall_ns(req->fs->env));
        req->attr = inode->gone->attr;
        return 0;
    }
    if (reply->err) {
        return reply->err;
    }
    if (inode && (req->set.mask & HF_SET_SIZE)) {
        inode->settled_end = HF_BUG(truncate_keeps_end) ? inode->settled_end : 0;
        hf_fs_inode_own_version(inode, reply->attr.data_version);
        hf_fs_inode_own_told(inode, reply->attr.data_version);
        req->attr = reply->attr;
        hf_fs_inode_overlay(inode, &req->attr);
    }
    req->keep_cache =
        inode && inode->cache_version && inode->cache_version == reply->attr.data_version;
    return 0;
}

static int set_go(struct hf_fs_req *req)
{
    const struct hf_fs_set *set = &req->set;
    struct hf_meta_op op = {
        .op = HF_OP_SETATTR,
        .ino = req->ino,
        .mask = set->mask,
        .mode = set->mode,
        .uid = set->uid,
        .gid = set->gid,
        .size = set->size,
        .atime_ns = set->atime_ns,
        .mtime_ns = set->mtime_ns,
        .ctime_ns = set->ctime_ns,
    };

    if (req->inode && (set->mask & (HF_SET_MTIME | HF_SET_SIZE))) {
        /* what could not be flushed was written before: its commit leaves the time alone */
        req->inode->dirty_mtime_ns = 0;
    }
    req->after = set_done;
    return hf_fs_mutate(req->fs, &op, req);
}

static void set_clean(struct hf_fs_req *req)
{
    int err = set_go(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

/*
 * Is what is dirty committed first? A new mode must not lose its bits to what was written before.
 * And a commit that came later would have to leave a new time alone: other mounts that had seen
 * that time would not notice that the contents are new.
 */
static bool set_flushes(const struct hf_inode *inode, uint32_t mask)
{
    return (mask & (HF_SET_SIZE | HF_SET_MTIME)) || (inode->kill && (mask & HF_SET_MODE));
}

int hf_fs_setattr(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_set *set,
                  struct hf_fs_req *req)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    hf_fs_begin(fs, req);
    req->ino = ino;
    req->set = *set;
    if (!inode) {
        return set_go(req);
    }
    hf_fs_hold(req, hf_fs_inode_get(fs, ino));
    if (set->mask & HF_SET_SIZE) {
        hf_flush_seal(fs, inode);
        if (hf_dirty_cut(&inode->dirty, set->size, UINT64_MAX)) {
            return hf_fs_return(req, -ENOMEM);
        }
        hf_append_cut(inode, set->size);
        inode->kernel_end = set->size < inode->kernel_end ? set->size : inode->kernel_end;
        hf_flush_note(fs, inode);
        hf_fs_budget_trim(fs);
    }
    if (set_flushes(inode, set->mask)) {
        int err = hf_flush_inode(fs, inode, true);

        if (err && (set->mask & HF_SET_MODE)) {
            return hf_fs_return(req, err);
        }
        hf_flush_go(inode);
        if (!HF_BUG(truncate_overtakes) && hf_flush_wait(inode, req, set_clean)) {
            return HF_FS_PENDING;
        }
    }
    return set_go(req);
}

static int kill_priv_go(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    uint32_t mode = reply->attr.mode;
    bool may = req->uid == 0 || req->uid == reply->attr.uid;

    if (reply->err || S_ISDIR(mode) || !(mode & (S_ISUID | S_ISGID)) || !may) {
        return reply->err;
    }
    req->set = (struct hf_fs_set){.mask = HF_SET_KILLPRIV};
    return set_go(req);
}

int hf_fs_kill_priv(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino};

    hf_fs_begin(fs, req);
    req->ino = ino;
    req->after = kill_priv_go;
    return hf_fs_look(fs, &rd, req);
}

static int statfs_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    req->stat = *reply;
    return reply->err;
}

int hf_fs_statfs(struct hf_fs *fs, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_STATFS};

    hf_fs_begin(fs, req);
    req->after = statfs_done;
    return hf_fs_look(fs, &rd, req);
}

/* Extended attributes */

/* The namespaces of xattr(7); the kernel's FUSE passes on any name. */
static int xattr_name_check(const char *name)
{
    static const char *const spaces[] = {"user.", "trusted.", "security."};
    size_t len = strnlen(name, HF_XATTR_NAME_MAX + 1);

    if (len == 0 || len > HF_XATTR_NAME_MAX) {
        return -ERANGE;
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(spaces); i++) {
        size_t space_len = strlen(spaces[i]);

        if (strncmp(name, spaces[i], space_len) == 0) {
            return name[space_len] ? 0 : -EINVAL;
        }
    }
    return strcmp(name, "system.posix_acl_access") == 0 ||
                   strcmp(name, "system.posix_acl_default") == 0
               ? 0
               : -EOPNOTSUPP;
}

static int setxattr_send(struct hf_fs_req *req, const char *name, const void *value, size_t len)
{
    struct hf_meta_op op = {.op = HF_OP_SETXATTR,
                            .ino = req->ino,
                            .name = name,
                            .name_len = strlen(name),
                            .bulk = value,
                            .bulk_len = len,
                            .mask = req->flags & HF_FS_XATTR_KILL ? HF_SET_KILLPRIV : 0,
                            .flags = req->flags & ~HF_FS_XATTR_KILL};

    return hf_fs_mutate(req->fs, &op, req);
}

static int set_caps(struct hf_fs_req *req);

static void set_caps_again(struct hf_fs_req *req)
{
    int err = set_caps(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

/* A commit takes capabilities away: not those that are set after the write. */
static int set_caps(struct hf_fs_req *req)
{
    int err = hf_flush_held(req, set_caps_again);

    return err ? err : setxattr_send(req, HF_XATTR_CAPS, req->mem, req->len_bytes);
}

int hf_fs_setxattr(struct hf_fs *fs, struct hf_ino ino, const char *name, const void *value,
                   size_t len, uint32_t flags, struct hf_fs_req *req)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);
    int err = xattr_name_check(name);

    hf_fs_begin(fs, req);
    req->ino = ino;
    req->flags = flags;
    req->len_bytes = len;
    if (err || len > HF_XATTR_VALUE_MAX) {
        return err ? err : -E2BIG;
    }
    if (!inode || strcmp(name, HF_XATTR_CAPS) != 0) {
        return setxattr_send(req, name, value, len);
    }
    hf_fs_hold(req, hf_fs_inode_get(fs, ino));
    req->mem = malloc(len + 1);
    if (!req->mem) {
        return hf_fs_return(req, -ENOMEM);
    }
    memcpy(req->mem, value, len);
    return hf_fs_return(req, set_caps(req));
}

int hf_fs_getxattr(struct hf_fs *fs, struct hf_ino ino, const char *name, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {
        .op = HF_RD_GETXATTR, .ino = ino, .name = name, .name_len = strlen(name)};
    int err = xattr_name_check(name);

    hf_fs_begin(fs, req);
    return err ? err : hf_fs_look(fs, &rd, req);
}

int hf_fs_listxattr(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_LISTXATTR, .ino = ino};

    hf_fs_begin(fs, req);
    return hf_fs_look(fs, &rd, req);
}

int hf_fs_removexattr(struct hf_fs *fs, struct hf_ino ino, const char *name, struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_REMOVEXATTR, .ino = ino, .name = name, .name_len = strlen(name)};
    int err = xattr_name_check(name);

    hf_fs_begin(fs, req);
    return err ? err : hf_fs_mutate(fs, &op, req);
}

/* What these requests of the kernel do not say: who is not root takes set-id bits away. */
static uint32_t change_mask(const struct hf_fs_req *req)
{
    return req->uid ? HF_SET_KILLPRIV : 0;
}

/* Space: the file's data is committed first, so that the order of execution is that of the calls */

static int space_go(struct hf_fs_req *req);

static void space_again(void *ctx, int err)
{
    struct hf_fs_req *req = ctx;

    err = err ? err : space_go(req);
    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

static int space_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err == -ENOSPC && !req->state) {
        req->state = 1; /* once more, without what this mount keeps for writes to come */
        hf_session_drop_spare(req->fs->session, space_again, req);
        return HF_FS_PENDING;
    }
    if (reply->err == 0) {
        hf_fs_inode_own_version(req->inode, reply->attr.data_version);
        hf_fs_inode_own_told(req->inode, reply->attr.data_version);
    }
    return reply->err;
}

static int space_go(struct hf_fs_req *req)
{
    struct hf_meta_op op = {.ino = req->ino,
                            .mask = change_mask(req),
                            .offset = req->off_bytes,
                            .length = req->len_bytes};
    bool keep = req->mode & FALLOC_FL_KEEP_SIZE;

    if (req->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        op.op = HF_OP_PUNCH;
        op.flags = keep ? 0 : HF_PUNCH_EXTEND;
    } else {
        op.op = HF_OP_ALLOCATE;
        op.flags = keep ? HF_ALLOC_KEEP_SIZE : 0;
    }
    op.flags |= req->mode & FALLOC_FL_PUNCH_HOLE ? 0 : HF_ALLOC_RESERVE;
    req->after = space_done;
    return hf_fs_mutate(req->fs, &op, req);
}

static void space_clean(struct hf_fs_req *req)
{
    int err = req->inode->err_seq != req->err_seq ? req->inode->err : space_go(req);

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
    return space_go(req);
}

/* copy_file_range: both files committed, the source's size asked, then shared */

static int clone_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err == 0) {
        req->count = reply->count; /* the source may have been made shorter */
        hf_fs_inode_own_version(req->inode2, 0);
    }
    return reply->err == -E2BIG ? -EOPNOTSUPP : reply->err; /* too many pieces to share */
}

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
    if (req->off_bytes >= reply->attr.size) {
        req->count = 0;
        return 0;
    }
    if (req->len_bytes > reply->attr.size - req->off_bytes) {
        req->len_bytes = reply->attr.size - req->off_bytes;
    }
    op.length = req->len_bytes;
    req->after = clone_done;
    return hf_fs_mutate(req->fs, &op, req);
}

static int clone_go(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = req->inode->ino};

    req->after = clone_size;
    return hf_fs_look(req->fs, &rd, req);
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
