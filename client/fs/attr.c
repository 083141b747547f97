/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

#define CUT_AGAIN_NS (100 * HF_NS_PER_MS)

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

static void kernel_told(struct hf_inode *inode, const struct hf_attr *attr)
{
    inode->kernel_size = attr->size;
    inode->kernel_known = true;
}

long hf_fs_told_contents(struct hf_fs *fs, const struct hf_attr *attr, bool reads)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, attr->ino);

    if (!inode) {
        return 0; /* not open: the next open drops what there is */
    }
    kernel_told(inode, attr);
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

void hf_fs_kernel_told(struct hf_fs *fs, const struct hf_attr *attr)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, attr->ino);

    if (inode) {
        kernel_told(inode, attr);
    }
}

void hf_fs_kernel_wrote(struct hf_fs *fs, struct hf_ino ino, uint64_t end)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    if (inode && inode->kernel_size < end) {
        inode->kernel_size = end;
    }
}

void hf_fs_kernel_unsure(struct hf_fs *fs, struct hf_ino ino)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    if (inode) {
        inode->kernel_known = false;
    }
}

bool hf_fs_kernel_may_see(struct hf_fs *fs, struct hf_ino ino, uint64_t size)
{
    const struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    return inode && (inode->kernel_known ? size == inode->kernel_size : size >= inode->kernel_end);
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

/* What was cut off before has to be given up further first: once more, a little later. */
static int cut_later(struct hf_fs_req *req)
{
    struct hf_fs *fs = req->fs;

    if (fs->lost) {
        return fs->lost;
    }
    if (!fs->cuts) {
        hf_timer_arm(&fs->cuts_timer, CUT_AGAIN_NS);
    }
    hf_req_ring_add(&fs->cuts, req);
    return HF_FS_PENDING;
}

static int set_done(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_inode *inode = req->inode;

    if (inode && (req->set.mask & HF_SET_SIZE)) {
        hf_contents_answered(inode);
    }
    if (reply->err == -EAGAIN && (req->set.mask & HF_SET_SIZE)) {
        return cut_later(req);
    }
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

static void set_clean(struct hf_fs_req *req);

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

    if (req->inode && (set->mask & HF_SET_SIZE) && hf_compact_wait(req->inode, req, set_clean)) {
        return HF_FS_PENDING;
    }
    if (req->inode && (set->mask & (HF_SET_MTIME | HF_SET_SIZE))) {
        /* what could not be flushed was written before: its commit leaves the time alone */
        req->inode->dirty_mtime_ns = 0;
    }
    req->after = set_done;
    return req->inode && (set->mask & HF_SET_SIZE)
               ? hf_contents_mutate(req->fs, &op, req->inode, req)
               : hf_fs_mutate(req->fs, &op, req);
}

static void set_clean(struct hf_fs_req *req)
{
    int err = set_go(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

void hf_fs_cuts_time(void *ctx)
{
    struct hf_fs *fs = ctx;

    while (fs->cuts) {
        struct hf_fs_req *req = fs->cuts;

        hf_req_ring_remove(&fs->cuts, req);
        if (fs->lost) {
            hf_fs_finish(req, fs->lost);
        } else {
            set_clean(req);
        }
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
        if (hf_dirty_empty(&inode->dirty)) {
            inode->kill = false;
            inode->told_ctime_ns = 0;
        }
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
