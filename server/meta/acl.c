/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/acl.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "server/meta/inode.h"
#include "server/meta/xattr.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* linux/posix_acl_xattr.h: version u32, then entries of tag u16, perm u16, id u32. */
#define ACL_VERSION     2u
#define ACL_HEAD_BYTES  4u
#define ACL_ENTRY_BYTES 8u
#define ACL_ENTRIES_MAX 8191u

enum {
    TAG_USER_OBJ = 0x01,
    TAG_USER = 0x02,
    TAG_GROUP_OBJ = 0x04,
    TAG_GROUP = 0x08,
    TAG_MASK = 0x10,
    TAG_OTHER = 0x20,
};

static_assert(ACL_HEAD_BYTES + ACL_ENTRIES_MAX * ACL_ENTRY_BYTES <= HF_XATTR_VALUE_MAX,
              "any ACL fits an attribute");

/* An ACL's bytes; entries are edited in place. */
struct acl {
    uint32_t count;
    uint8_t b[HF_XATTR_VALUE_MAX];
};

static uint8_t *entry_at(struct acl *acl, uint32_t i)
{
    return acl->b + ACL_HEAD_BYTES + (size_t)i * ACL_ENTRY_BYTES;
}

static uint32_t entry_tag(struct acl *acl, uint32_t i)
{
    return hf_get_le16(entry_at(acl, i));
}

static uint32_t entry_perm(struct acl *acl, uint32_t i)
{
    return hf_get_le16(entry_at(acl, i) + 2);
}

static void entry_set_perm(struct acl *acl, uint32_t i, uint32_t perm)
{
    hf_put_le16(entry_at(acl, i) + 2, (uint16_t)perm);
}

static size_t acl_bytes(const struct acl *acl)
{
    return ACL_HEAD_BYTES + (size_t)acl->count * ACL_ENTRY_BYTES;
}

/* Index of the only entry with @tag, or UINT32_MAX. */
static uint32_t acl_find(struct acl *acl, uint32_t tag)
{
    for (uint32_t i = 0; i < acl->count; i++) {
        if (entry_tag(acl, i) == tag) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* More than what a mode says? */
static bool acl_extended(const struct acl *acl)
{
    return acl->count > 3;
}

/* Tags ascend as they must, each of the three of a mode once, a mask where names are. */
static bool acl_valid(struct acl *acl)
{
    uint32_t last = 0, counts[TAG_OTHER + 1] = {0};

    for (uint32_t i = 0; i < acl->count; i++) {
        uint32_t tag = entry_tag(acl, i);

        if (tag == 0 || tag > TAG_OTHER || (tag & (tag - 1)) || tag < last ||
            entry_perm(acl, i) > 7 || (tag == last && tag != TAG_USER && tag != TAG_GROUP)) {
            return false;
        }
        counts[tag]++;
        last = tag;
    }
    return counts[TAG_USER_OBJ] == 1 && counts[TAG_GROUP_OBJ] == 1 && counts[TAG_OTHER] == 1 &&
           (counts[TAG_MASK] == 1 || (!counts[TAG_USER] && !counts[TAG_GROUP]));
}

/* Errors: -EINVAL. An empty value, or a head alone, is an empty ACL. */
static int acl_parse(const void *value, size_t len, struct acl *ret)
{
    ret->count = 0;
    if (len == 0) {
        return 0;
    }
    if (len > sizeof(ret->b) || len < ACL_HEAD_BYTES || (len - ACL_HEAD_BYTES) % ACL_ENTRY_BYTES ||
        hf_get_le32(value) != ACL_VERSION) {
        return -EINVAL;
    }
    memcpy(ret->b, value, len);
    ret->count = (uint32_t)((len - ACL_HEAD_BYTES) / ACL_ENTRY_BYTES);
    return ret->count == 0 || acl_valid(ret) ? 0 : -EINVAL;
}

static int acl_load(struct hf_meta *meta, struct hf_ino ino, const char *name, struct acl *ret)
{
    const void *value;
    size_t len;
    int err = hf_xattr_get(meta, ino, name, strlen(name), &value, &len);

    if (!err && (acl_parse(value, len, ret) || !ret->count)) {
        err = -EBADMSG;
    }
    if (err) {
        return hf_txn_fail(meta, err == -ENODATA ? -EBADMSG : err);
    }
    return 0;
}

/* The entry that the mode's group bits stand for. */
static uint32_t acl_class(struct acl *acl)
{
    uint32_t mask = acl_find(acl, TAG_MASK);

    return mask != UINT32_MAX ? mask : acl_find(acl, TAG_GROUP_OBJ);
}

static uint32_t acl_mode(struct acl *acl)
{
    return entry_perm(acl, acl_find(acl, TAG_USER_OBJ)) << 6 |
           entry_perm(acl, acl_class(acl)) << 3 | entry_perm(acl, acl_find(acl, TAG_OTHER));
}

static void acl_set_mode(struct acl *acl, uint32_t perm)
{
    entry_set_perm(acl, acl_find(acl, TAG_USER_OBJ), perm >> 6 & 7);
    entry_set_perm(acl, acl_class(acl), perm >> 3 & 7);
    entry_set_perm(acl, acl_find(acl, TAG_OTHER), perm & 7);
}

static bool is_name(const char *name, size_t len, const char *which)
{
    return len == strlen(which) && memcmp(name, which, len) == 0;
}

bool hf_acl_is_name(const char *name, size_t name_len)
{
    return is_name(name, name_len, ACL_ACCESS) || is_name(name, name_len, ACL_DEFAULT);
}

void hf_acl_removed(struct hf_inode *inode, const char *name, size_t name_len)
{
    if (is_name(name, name_len, ACL_ACCESS)) {
        inode->flags &= ~HF_INODE_ACL;
    } else if (is_name(name, name_len, ACL_DEFAULT)) {
        inode->flags &= ~HF_INODE_DEFAULT_ACL;
    }
}

static int acl_store(struct hf_meta *meta, struct hf_inode *inode, const char *name, uint32_t flag,
                     const struct acl *acl)
{
    inode->flags |= flag;
    return hf_xattr_put(meta, inode, name, strlen(name), acl->b, acl_bytes(acl));
}

static int acl_discard(struct hf_meta *meta, struct hf_inode *inode, const char *name,
                       uint32_t flag)
{
    inode->flags &= ~flag;
    return hf_xattr_discard(meta, inode, name, strlen(name));
}

int hf_acl_set(struct hf_meta *meta, struct hf_inode *inode, const struct hf_meta_op *op)
{
    struct acl acl;
    int err = acl_parse(op->bulk, op->bulk_len, &acl);

    if (err) {
        return err;
    }
    if (S_ISLNK(inode->attr.mode)) {
        return -EOPNOTSUPP;
    }
    if (is_name(op->name, op->name_len, ACL_DEFAULT)) {
        if (!S_ISDIR(inode->attr.mode)) {
            return acl.count ? -EACCES : 0;
        }
        return acl.count ? acl_store(meta, inode, ACL_DEFAULT, HF_INODE_DEFAULT_ACL, &acl)
                         : acl_discard(meta, inode, ACL_DEFAULT, HF_INODE_DEFAULT_ACL);
    }
    if (op->mask & HF_SET_KILLPRIV) {
        inode->attr.mode &= ~(uint32_t)S_ISGID;
    }
    if (!acl.count) {
        return acl_discard(meta, inode, ACL_ACCESS, HF_INODE_ACL);
    }
    inode->attr.mode = (inode->attr.mode & ~0777u) | acl_mode(&acl);
    return acl_extended(&acl) ? acl_store(meta, inode, ACL_ACCESS, HF_INODE_ACL, &acl)
                              : acl_discard(meta, inode, ACL_ACCESS, HF_INODE_ACL);
}

int hf_acl_chmod(struct hf_meta *meta, struct hf_inode *inode, uint32_t perm)
{
    struct acl acl;
    int err;

    if (S_ISLNK(inode->attr.mode)) {
        return -EOPNOTSUPP;
    }
    inode->attr.mode = (inode->attr.mode & (uint32_t)S_IFMT) | perm;
    if (!(inode->flags & HF_INODE_ACL)) {
        return 0;
    }
    err = acl_load(meta, inode->attr.ino, ACL_ACCESS, &acl);
    if (err) {
        return err;
    }
    acl_set_mode(&acl, perm);
    return acl_store(meta, inode, ACL_ACCESS, HF_INODE_ACL, &acl);
}

int hf_acl_inherit(struct hf_meta *meta, const struct hf_inode *parent, struct hf_inode *inode,
                   uint32_t umask)
{
    uint32_t perm;
    struct acl acl;
    int err;

    if (S_ISLNK(inode->attr.mode)) {
        return 0;
    }
    if (!(parent->flags & HF_INODE_DEFAULT_ACL)) {
        inode->attr.mode &= ~(umask & 0777);
        return 0;
    }
    err = acl_load(meta, parent->attr.ino, ACL_DEFAULT, &acl);
    if (!err && S_ISDIR(inode->attr.mode)) {
        err = acl_store(meta, inode, ACL_DEFAULT, HF_INODE_DEFAULT_ACL, &acl);
    }
    if (err) {
        return err;
    }
    perm = inode->attr.mode & acl_mode(&acl) & 0777;
    acl_set_mode(&acl, perm);
    inode->attr.mode = (inode->attr.mode & ~0777u) | perm;
    return acl_extended(&acl) ? acl_store(meta, inode, ACL_ACCESS, HF_INODE_ACL, &acl) : 0;
}
