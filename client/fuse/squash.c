/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/squash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/fuse.h>

#include "common/base/assert.h"

#define OPEN_EXEC 0x20u /* FMODE_EXEC of the kernel, in the flags of an OPEN: execve */

static const char acl_space[] = "system.posix_acl_";

/* A request's parts; bounds were checked. */
struct request {
    struct fuse_in_header in;
    const uint8_t *body;
    size_t len; /* of the body */
};

static bool parse(const void *data, size_t len, struct request *ret)
{
    if (len < sizeof(ret->in)) {
        return false;
    }
    memcpy(&ret->in, data, sizeof(ret->in));
    ret->body = (const uint8_t *)data + sizeof(ret->in);
    ret->len = len - sizeof(ret->in);
    return true;
}

/* The fixed part of the body. False: it is shorter. */
static bool fixed(const struct request *r, void *ret, size_t len)
{
    if (r->len < len) {
        return false;
    }
    memcpy(ret, r->body, len);
    return true;
}

/* The string at @at of the body; NULL: none that ends there. */
static const char *text_at(const struct request *r, size_t at)
{
    return at < r->len && memchr(r->body + at, 0, r->len - at) ? (const char *)r->body + at : NULL;
}

static struct hf_squash_step *add(struct hf_squash_plan *plan, enum hf_squash_kind kind,
                                  uint64_t ino)
{
    struct hf_squash_step *step = &plan->steps[plan->count++];

    HF_ASSERT(plan->count <= HF_SQUASH_STEPS_MAX);
    *step = (struct hf_squash_step){.kind = kind, .ino = {ino}};
    return step;
}

static void add_rights(struct hf_squash_plan *plan, uint64_t ino, uint32_t want)
{
    add(plan, HF_SQUASH_RIGHTS, ino)->want = want;
}

static void add_name(struct hf_squash_plan *plan, enum hf_squash_kind kind, uint64_t dir,
                     const char *name)
{
    add(plan, kind, dir)->name = name;
}

/* Names come to the directory, or go. */
static void add_change(struct hf_squash_plan *plan, uint64_t dir)
{
    add_rights(plan, dir, HF_RIGHT_WRITE | HF_RIGHT_EXECUTE);
}

/* Names */

static int plan_lookup(const struct request *r, struct hf_squash_plan *ret)
{
    const char *name = text_at(r, 0);

    if (!name) {
        return -EINVAL;
    }
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) { /* those are for file handles */
        add_rights(ret, r->in.nodeid, HF_RIGHT_EXECUTE);
    }
    return 0;
}

static int plan_mknod(const struct request *r, struct hf_squash_plan *ret)
{
    struct fuse_mknod_in m;

    if (!fixed(r, &m, sizeof(m))) {
        return -EINVAL;
    }
    add_change(ret, r->in.nodeid);
    if (S_ISBLK(m.mode) || (S_ISCHR(m.mode) && m.rdev != 0)) { /* 0: a whiteout */
        ret->err = -EPERM;
    }
    return 0;
}

static int plan_link(const struct request *r, struct hf_squash_plan *ret)
{
    struct fuse_link_in l;

    if (!fixed(r, &l, sizeof(l))) {
        return -EINVAL;
    }
    add_rights(ret, l.oldnodeid, HF_RIGHT_LINK);
    add_change(ret, r->in.nodeid);
    return 0;
}

static int plan_remove(const struct request *r, struct hf_squash_plan *ret)
{
    const char *name = text_at(r, 0);

    if (!name) {
        return -EINVAL;
    }
    add_change(ret, r->in.nodeid);
    add_name(ret, HF_SQUASH_REMOVE, r->in.nodeid, name);
    return 0;
}

static int plan_rename(const struct request *r, size_t head_bytes, uint64_t to, uint32_t flags,
                       struct hf_squash_plan *ret)
{
    const uint64_t from = r->in.nodeid;
    const char *name = text_at(r, head_bytes);
    const char *name2 = name ? text_at(r, head_bytes + strlen(name) + 1) : NULL;

    if (!name2) {
        return -EINVAL;
    }
    add_change(ret, from);
    add_name(ret, HF_SQUASH_REMOVE, from, name);
    add_change(ret, to);
    add_name(ret, HF_SQUASH_REMOVE, to, name2);
    if (from != to) {
        add_name(ret, HF_SQUASH_MOVE, from, name);
        if (flags & RENAME_EXCHANGE) {
            add_name(ret, HF_SQUASH_MOVE, to, name2);
        }
    }
    return 0;
}

static int plan_renames(const struct request *r, struct hf_squash_plan *ret)
{
    struct fuse_rename2_in two = {0};
    struct fuse_rename_in one = {0};

    if (r->in.opcode == FUSE_RENAME2) {
        return fixed(r, &two, sizeof(two)) ? plan_rename(r, sizeof(two), two.newdir, two.flags, ret)
                                           : -EINVAL;
    }
    return fixed(r, &one, sizeof(one)) ? plan_rename(r, sizeof(one), one.newdir, 0, ret) : -EINVAL;
}

/* Files */

static int plan_open(const struct request *r, struct hf_squash_plan *ret)
{
    static const uint32_t modes[] = {
        [O_RDONLY] = HF_RIGHT_READ,
        [O_WRONLY] = HF_RIGHT_WRITE,
        [O_RDWR] = HF_RIGHT_READ | HF_RIGHT_WRITE,
        [O_ACCMODE] = HF_RIGHT_READ | HF_RIGHT_WRITE, /* neither is given, both are asked for */
    };
    struct fuse_open_in o;
    uint32_t want;

    if (!fixed(r, &o, sizeof(o))) {
        return -EINVAL;
    }
    want = modes[o.flags & O_ACCMODE];
    if (r->in.opcode == FUSE_OPEN && (o.flags & OPEN_EXEC)) {
        want = HF_RIGHT_EXECUTE; /* who may run a program need not read it */
    }
    want |= o.flags & O_TRUNC ? HF_RIGHT_WRITE : 0;
    want |= o.flags & O_NOATIME ? HF_RIGHT_OWN : 0;
    add_rights(ret, r->in.nodeid, want);
    return 0;
}

/* Times both to now, which utime(path, NULL) sets, are for writers too. Those that come with a size
 * are the truncation's own. */
static uint32_t times_right(uint32_t valid)
{
    const uint32_t now = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW;

    if (!(valid & (FATTR_ATIME | FATTR_MTIME)) ||
        ((valid & FATTR_SIZE) && !(valid & FATTR_ATIME) && (valid & FATTR_MTIME_NOW))) {
        return 0;
    }
    return (valid & now) == now ? HF_RIGHT_TOUCH : HF_RIGHT_OWN;
}

static int plan_setattr(const struct hf_squash *squash, const struct request *r,
                        struct hf_squash_plan *ret)
{
    struct fuse_setattr_in s;
    struct hf_squash_step *step;

    if (!fixed(r, &s, sizeof(s))) {
        return -EINVAL;
    }
    if ((s.valid & FATTR_UID) && s.uid != squash->anon.uid) {
        return -EPERM;
    }
    step = add(ret, HF_SQUASH_RIGHTS, r->in.nodeid);
    step->gid = s.gid;
    step->want = times_right(s.valid);
    step->want |= s.valid & (FATTR_MODE | FATTR_UID) ? HF_RIGHT_OWN : 0;
    step->want |= s.valid & FATTR_GID ? HF_RIGHT_GROUP : 0;
    step->want |= (s.valid & FATTR_SIZE) && !(s.valid & FATTR_FH) ? HF_RIGHT_WRITE : 0;
    return 0;
}

/* Extended attributes */

static bool is_in(const char *name, const char *space)
{
    return strncmp(name, space, strlen(space)) == 0;
}

static int plan_xattr_change(const struct request *r, const char *name, struct hf_squash_plan *ret)
{
    if (!name) {
        return -EINVAL;
    }
    if (is_in(name, "user.")) {
        add_rights(ret, r->in.nodeid, HF_RIGHT_WRITE | HF_RIGHT_NOT_STICKY);
    } else if (is_in(name, acl_space)) {
        add_rights(ret, r->in.nodeid, HF_RIGHT_OWN);
    } else if (is_in(name, "trusted.") || is_in(name, "security.")) {
        return -EPERM;
    }
    return 0; /* what is in no name space gets its error from client/fs */
}

/* After a SETXATTR's fixed part, which is longer with FUSE_SETXATTR_EXT: @ext. */
static const char *setxattr_name(const struct request *r, bool ext)
{
    return text_at(r, ext ? sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE);
}

static int plan_getxattr(const struct request *r, struct hf_squash_plan *ret)
{
    const char *name = text_at(r, sizeof(struct fuse_getxattr_in));

    if (!name) {
        return -EINVAL;
    }
    if (is_in(name, "trusted.")) {
        return -ENODATA;
    }
    if (is_in(name, "user.")) {
        add_rights(ret, r->in.nodeid, HF_RIGHT_READ);
    }
    return 0;
}

bool hf_squash_is_root(const void *data, size_t len)
{
    struct request r;

    return parse(data, len, &r) && r.in.uid == 0;
}

bool hf_squash_is_change(const void *data, size_t len)
{
    struct fuse_open_in o;
    struct request r;

    if (!parse(data, len, &r)) {
        return false;
    }
    switch (r.in.opcode) {
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
    case FUSE_LINK:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_SETATTR:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
        return true;
    case FUSE_OPEN:
        return fixed(&r, &o, sizeof(o)) &&
               ((o.flags & O_ACCMODE) != O_RDONLY || (o.flags & O_TRUNC));
    default:
        return false; /* what goes by an open file: it was not opened to write */
    }
}

int hf_squash_plan(const struct hf_squash *squash, const void *data, size_t len,
                   struct hf_squash_plan *ret)
{
    struct request r;

    ret->count = 0;
    ret->err = 0;
    if (!parse(data, len, &r)) {
        return -EINVAL;
    }
    switch (r.in.opcode) {
    case FUSE_LOOKUP:
        return plan_lookup(&r, ret);
    case FUSE_MKNOD:
        return plan_mknod(&r, ret);
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
        add_change(ret, r.in.nodeid);
        return 0;
    case FUSE_LINK:
        return plan_link(&r, ret);
    case FUSE_UNLINK:
    case FUSE_RMDIR:
        return plan_remove(&r, ret);
    case FUSE_RENAME:
    case FUSE_RENAME2:
        return plan_renames(&r, ret);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return plan_open(&r, ret);
    case FUSE_SETATTR:
        return plan_setattr(squash, &r, ret);
    case FUSE_SETXATTR:
        return plan_xattr_change(&r, setxattr_name(&r, squash->setxattr_ext), ret);
    case FUSE_REMOVEXATTR:
        return plan_xattr_change(&r, text_at(&r, 0), ret);
    case FUSE_GETXATTR:
        return plan_getxattr(&r, ret);
    default:
        return 0; /* goes by an open file, asks nothing that is secret, or is the kernel's own */
    }
}

/* Rewriting */

/* The mode of a new file, as the kernel leaves it to who is no member of its directory's group. */
static uint32_t new_mode(const struct hf_squash *squash, uint32_t mode, const struct hf_attr *dir)
{
    const uint32_t group_program = S_ISGID | S_IXGRP;

    return dir && (dir->mode & S_ISGID) && (mode & group_program) == group_program
               ? hf_rights_mode(&squash->anon, mode, dir->gid)
               : mode;
}

static void rewrite_setattr(const struct hf_squash *squash, const struct request *r, void *body,
                            const struct hf_attr *attr)
{
    struct fuse_setattr_in s;

    if (fixed(r, &s, sizeof(s))) {
        s.valid |= s.valid & FATTR_SIZE ? FATTR_KILL_SUIDGID : 0;
        if (attr && (s.valid & FATTR_MODE)) {
            s.mode = hf_rights_mode(&squash->anon, s.mode, s.valid & FATTR_GID ? s.gid : attr->gid);
        }
        memcpy(body, &s, sizeof(s));
    }
}

static void rewrite_setxattr(const struct hf_squash *squash, const struct request *r, void *body,
                             const struct hf_attr *attr)
{
    struct fuse_setxattr_in x;

    if (squash->setxattr_ext && attr && attr->gid != squash->anon.gid && fixed(r, &x, sizeof(x))) {
        const char *name = setxattr_name(r, true);

        if (name && strcmp(name, HF_POSIX_ACL_ACCESS) == 0) {
            x.setxattr_flags |= FUSE_SETXATTR_ACL_KILL_SGID;
            memcpy(body, &x, sizeof(x));
        }
    }
}

static void rewrite_write(const struct request *r, void *body)
{
    struct fuse_write_in w;

    if (fixed(r, &w, sizeof(w)) && !(w.write_flags & FUSE_WRITE_CACHE)) {
        w.write_flags |= FUSE_WRITE_KILL_SUIDGID;
        memcpy(body, &w, sizeof(w));
    }
}

void hf_squash_rewrite(const struct hf_squash *squash, void *data, size_t len,
                       const struct hf_attr *attr)
{
    uint8_t *body = (uint8_t *)data + sizeof(struct fuse_in_header);
    struct fuse_create_in c;
    struct fuse_mknod_in m;
    struct request r;

    if (!parse(data, len, &r)) {
        return;
    }
    r.in.uid = squash->anon.uid;
    r.in.gid = squash->anon.gid;
    memcpy(data, &r.in, sizeof(r.in));
    if (r.in.opcode == FUSE_WRITE) {
        rewrite_write(&r, body);
    } else if (r.in.opcode == FUSE_SETATTR) {
        rewrite_setattr(squash, &r, body, attr);
    } else if (r.in.opcode == FUSE_SETXATTR) {
        rewrite_setxattr(squash, &r, body, attr);
    } else if (r.in.opcode == FUSE_MKNOD && fixed(&r, &m, sizeof(m))) {
        m.mode = new_mode(squash, m.mode, attr);
        memcpy(body, &m, sizeof(m));
    } else if ((r.in.opcode == FUSE_CREATE || r.in.opcode == FUSE_TMPFILE) &&
               fixed(&r, &c, sizeof(c))) {
        c.mode = new_mode(squash, c.mode, attr);
        memcpy(body, &c, sizeof(c));
    }
}
