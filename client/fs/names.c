/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/fs_impl.h"
#include "common/base/bugs.h"

static int name_check(const char *name)
{
    size_t len = strnlen(name, HF_NAME_MAX + 1);

    return len == 0 ? -ENOENT : len > HF_NAME_MAX ? -ENAMETOOLONG : 0;
}

int hf_fs_lookup(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = parent, .name = name, .name_len = strlen(name)};
    int err = name_check(name);

    hf_fs_begin(fs, req);
    return err ? err : hf_fs_look(fs, &rd, req);
}

static int got_target(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    const struct hf_inode *inode =
        reply->err == -ENOENT ? hf_fs_inode_find(req->fs, req->ino) : NULL;

    if (!inode || !inode->gone || inode->gone->target_len == 0) {
        return reply->err;
    }
    req->attr = inode->gone->attr;
    req->data = inode->gone->target;
    req->data_len = inode->gone->target_len;
    return 0;
}

int hf_fs_readlink(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_READLINK, .ino = ino};

    hf_fs_begin(fs, req);
    req->ino = ino;
    req->after = got_target;
    return hf_fs_look(fs, &rd, req);
}

static int listed(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    req->parent = reply->first_ino;
    return reply->err;
}

int hf_fs_readdir(struct hf_fs *fs, struct hf_ino ino, uint64_t cookie, uint32_t max, bool plus,
                  struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_READDIR,
                              .ino = ino,
                              .cookie = cookie,
                              .max = max,
                              .flags = plus ? HF_READDIR_PLUS : 0};

    hf_fs_begin(fs, req);
    req->after = listed;
    return hf_fs_look(fs, &rd, req);
}

/*
 * Link and rename: what gets a name has its data committed first, so that a crash of this client
 * leaves under that name the old contents or the new ones, never an empty file.
 */

static bool is_clean(const struct hf_inode *inode)
{
    return hf_dirty_empty(&inode->dirty) && TAILQ_EMPTY(&inode->parts);
}

/* 0: the data of req->inode is committed; HF_FS_PENDING: @then runs when it is, or has failed. */
static int commit_first(struct hf_fs_req *req, void (*then)(struct hf_fs_req *req))
{
    int err = hf_flush_inode(req->fs, req->inode, true);

    return err ? err : hf_flush_wait(req->inode, req, then) ? HF_FS_PENDING : 0;
}

/* What has no name yet was held open since it was to get one. */
static int link_end(struct hf_fs_req *req, int err)
{
    if (req->state) {
        req->inode->orphan = err != 0;
        hf_fs_inode_closed(req->fs, req->inode);
    }
    return err;
}

static int linked(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    return link_end(req, reply->err);
}

static int link_go(struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_LINK,
        .ino = req->ino,
        .parent = req->ino2,
        .name = req->mem,
        .name_len = strlen(req->mem),
    };

    req->after = linked;
    return hf_fs_mutate(req->fs, &op, req);
}

static void link_clean(struct hf_fs_req *req)
{
    if (req->inode->err_seq != req->err_seq) {
        hf_fs_finish(req, link_end(req, req->inode->err));
    } else {
        (void)link_go(req);
    }
}

int hf_fs_link(struct hf_fs *fs, struct hf_ino ino, struct hf_ino parent, const char *name,
               struct hf_fs_req *req)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);
    int err = name_check(name);

    hf_fs_begin(fs, req);
    if (err) {
        return err;
    }
    req->ino = ino;
    req->ino2 = parent;
    req->mem = strdup(name);
    if (!req->mem) {
        return -ENOMEM;
    }
    if (!inode) {
        return link_go(req);
    }
    hf_fs_hold(req, hf_fs_inode_get(fs, ino));
    if (inode->orphan && inode->opens > 0) {
        req->state = 1;
        hf_fs_inode_opened(fs, inode); /* closed before the name is there it would be given up */
    }
    err = is_clean(inode) || HF_BUG(link_passes_data) ? 0 : commit_first(req, link_clean);
    if (err) {
        return err == HF_FS_PENDING ? err : hf_fs_return(req, link_end(req, err));
    }
    return link_go(req);
}

/* A name of it is gone; @attr is how it was left, and the reply has the target of a link.
 * @replaced: by a rename, and who looked the name up before it may be about to open the file. */
static void name_gone(struct hf_fs *fs, const struct hf_attr *attr,
                      const struct hf_meta_reply *reply, bool replaced)
{
    struct hf_inode *inode = attr->ino.v ? hf_fs_inode_find(fs, attr->ino) : NULL;
    bool open = inode && inode->opens > 0;

    if (attr->ino.v == 0 || (attr->nlink > 0 && !HF_BUG(link_left_is_orphan))) {
        return;
    }
    if (inode && !S_ISDIR(attr->mode)) {
        inode->orphan = true;
        inode->shared = reply->count > 0;
        if (!open && !inode->shared && !replaced && !hf_dirty_empty(&inode->dirty)) {
            inode = hf_fs_inode_get(fs, attr->ino);
            hf_fs_inode_drop_dirty(fs, inode);
            hf_fs_inode_unref(fs, inode);
        }
    }
    if (attr->nlink == 0 && !open) {
        hf_fs_inode_gone(fs, attr, reply->count > 0, reply->bulk, reply->bulk_len);
    }
}

static int unlinked(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err == 0) {
        name_gone(req->fs, &reply->attr, reply, false);
    }
    return reply->err;
}

int hf_fs_unlink(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_UNLINK, .parent = parent, .name = name, .name_len = strlen(name)};
    int err = name_check(name);

    hf_fs_begin(fs, req);
    req->after = unlinked;
    return err ? err : hf_fs_mutate(fs, &op, req);
}

int hf_fs_rmdir(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_RMDIR, .parent = parent, .name = name, .name_len = strlen(name)};
    int err = name_check(name);

    hf_fs_begin(fs, req);
    req->after = unlinked;
    return err ? err : hf_fs_mutate(fs, &op, req);
}

/* Rename */

static int renamed(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err == 0 && !(req->flags & RENAME_EXCHANGE)) {
        name_gone(req->fs, &reply->attr2, reply, true);
    }
    return reply->err;
}

static int rename_go(struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_RENAME,
        .parent = req->ino,
        .name = req->mem,
        .name_len = strlen(req->mem),
        .parent2 = req->ino2,
        .name2 = req->mem2,
        .name2_len = strlen(req->mem2),
        .flags = req->flags,
    };

    req->after = renamed;
    return hf_fs_mutate(req->fs, &op, req);
}

static int rename_clean(struct hf_fs_req *req);

static void rename_waited(struct hf_fs_req *req)
{
    int err = rename_clean(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

static int rename_clean(struct hf_fs_req *req)
{
    int err = hf_flush_held(req, rename_waited);

    return err ? err : rename_go(req);
}

static void rename_hold(struct hf_fs_req *req, struct hf_ino ino)
{
    struct hf_inode *inode = hf_fs_inode_find(req->fs, ino);

    if (inode && inode != req->inode && !HF_BUG(rename_passes_data) && !is_clean(inode)) {
        hf_fs_hold(req, hf_fs_inode_ref(inode));
    }
}

static int rename_other(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (!reply->err) {
        rename_hold(req, reply->attr.ino);
    }
    return rename_clean(req); /* the operation says what is wrong with that name */
}

static int rename_source(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = req->ino2, .name = req->mem2, .name_len = strlen(req->mem2)};

    if (reply->err) {
        return reply->err;
    }
    rename_hold(req, reply->attr.ino);
    if (req->flags & RENAME_EXCHANGE) { /* both move */
        req->after = rename_other;
        return hf_fs_look(req->fs, &rd, req);
    }
    return rename_clean(req);
}

int hf_fs_rename(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_ino parent2,
                 const char *name2, uint32_t flags, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = parent, .name = name, .name_len = strlen(name)};
    int err = name_check(name);

    hf_fs_begin(fs, req);
    err = err ? err : name_check(name2);
    if (err) {
        return err;
    }
    req->ino = parent;
    req->ino2 = parent2;
    req->flags = flags;
    req->mem = strdup(name);
    req->mem2 = strdup(name2);
    if (!req->mem || !req->mem2) {
        return hf_fs_return(req, -ENOMEM);
    }
    if (TAILQ_EMPTY(&fs->dirty_inodes) && TAILQ_EMPTY(&fs->flushes)) {
        return rename_go(req);
    }
    req->after = rename_source;
    return hf_fs_look(fs, &rd, req);
}
