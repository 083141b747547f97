/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/acl.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/wire/posix_acl.h"
#include "server/meta/inode.h"
#include "server/meta/xattr.h"

static int acl_load(struct hf_meta *meta, struct hf_ino ino, const char *name,
                    struct hf_posix_acl *ret)
{
    const void *value;
    size_t len;
    int err = hf_xattr_get(meta, ino, name, strlen(name), &value, &len);

    if (!err && (hf_posix_acl_parse(value, len, ret) || !ret->count)) {
        err = -EBADMSG;
    }
    if (err) {
        return hf_txn_fail(meta, err == -ENODATA ? -EBADMSG : err);
    }
    return 0;
}

static bool is_name(const char *name, size_t len, const char *which)
{
    return len == strlen(which) && memcmp(name, which, len) == 0;
}

bool hf_acl_is_name(const char *name, size_t name_len)
{
    return is_name(name, name_len, HF_POSIX_ACL_ACCESS) ||
           is_name(name, name_len, HF_POSIX_ACL_DEFAULT);
}

void hf_acl_removed(struct hf_inode *inode, const char *name, size_t name_len)
{
    if (is_name(name, name_len, HF_POSIX_ACL_ACCESS)) {
        inode->flags &= ~HF_INODE_ACL;
    } else if (is_name(name, name_len, HF_POSIX_ACL_DEFAULT)) {
        inode->flags &= ~HF_INODE_DEFAULT_ACL;
    }
}

static int acl_store(struct hf_meta *meta, struct hf_inode *inode, const char *name, uint32_t flag,
                     const struct hf_posix_acl *acl)
{
    inode->flags |= flag;
    return hf_xattr_put(meta, inode, name, strlen(name), acl->b, hf_posix_acl_bytes(acl));
}

static int acl_discard(struct hf_meta *meta, struct hf_inode *inode, const char *name,
                       uint32_t flag)
{
    inode->flags &= ~flag;
    return hf_xattr_discard(meta, inode, name, strlen(name));
}

int hf_acl_set(struct hf_meta *meta, struct hf_inode *inode, const struct hf_meta_op *op)
{
    struct hf_posix_acl acl;
    int err = hf_posix_acl_parse(op->bulk, op->bulk_len, &acl);

    if (err) {
        return err;
    }
    if (S_ISLNK(inode->attr.mode)) {
        return -EOPNOTSUPP;
    }
    if (is_name(op->name, op->name_len, HF_POSIX_ACL_DEFAULT)) {
        if (!S_ISDIR(inode->attr.mode)) {
            return acl.count ? -EACCES : 0;
        }
        return acl.count ? acl_store(meta, inode, HF_POSIX_ACL_DEFAULT, HF_INODE_DEFAULT_ACL, &acl)
                         : acl_discard(meta, inode, HF_POSIX_ACL_DEFAULT, HF_INODE_DEFAULT_ACL);
    }
    if (op->mask & HF_SET_KILLPRIV) {
        inode->attr.mode &= ~(uint32_t)S_ISGID;
    }
    if (!acl.count) {
        return acl_discard(meta, inode, HF_POSIX_ACL_ACCESS, HF_INODE_ACL);
    }
    inode->attr.mode = (inode->attr.mode & ~0777u) | hf_posix_acl_mode(&acl);
    return hf_posix_acl_extended(&acl)
               ? acl_store(meta, inode, HF_POSIX_ACL_ACCESS, HF_INODE_ACL, &acl)
               : acl_discard(meta, inode, HF_POSIX_ACL_ACCESS, HF_INODE_ACL);
}

int hf_acl_chmod(struct hf_meta *meta, struct hf_inode *inode, uint32_t perm)
{
    struct hf_posix_acl acl;
    int err;

    if (S_ISLNK(inode->attr.mode)) {
        return -EOPNOTSUPP;
    }
    inode->attr.mode = (inode->attr.mode & (uint32_t)S_IFMT) | perm;
    if (!(inode->flags & HF_INODE_ACL)) {
        return 0;
    }
    err = acl_load(meta, inode->attr.ino, HF_POSIX_ACL_ACCESS, &acl);
    if (err) {
        return err;
    }
    hf_posix_acl_set_mode(&acl, perm);
    return acl_store(meta, inode, HF_POSIX_ACL_ACCESS, HF_INODE_ACL, &acl);
}

int hf_acl_inherit(struct hf_meta *meta, const struct hf_inode *parent, struct hf_inode *inode,
                   uint32_t umask)
{
    uint32_t perm;
    struct hf_posix_acl acl;
    int err;

    if (S_ISLNK(inode->attr.mode)) {
        return 0;
    }
    if (!(parent->flags & HF_INODE_DEFAULT_ACL)) {
        inode->attr.mode &= ~(umask & 0777);
        return 0;
    }
    err = acl_load(meta, parent->attr.ino, HF_POSIX_ACL_DEFAULT, &acl);
    if (!err && S_ISDIR(inode->attr.mode)) {
        err = acl_store(meta, inode, HF_POSIX_ACL_DEFAULT, HF_INODE_DEFAULT_ACL, &acl);
    }
    if (err) {
        return err;
    }
    perm = inode->attr.mode & hf_posix_acl_mode(&acl) & 0777;
    hf_posix_acl_set_mode(&acl, perm);
    inode->attr.mode = (inode->attr.mode & ~0777u) | perm;
    return hf_posix_acl_extended(&acl)
               ? acl_store(meta, inode, HF_POSIX_ACL_ACCESS, HF_INODE_ACL, &acl)
               : 0;
}
