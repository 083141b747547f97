/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/rights.h"

#include <errno.h>
#include <sys/stat.h>

static bool permits(const struct hf_rights_who *who, const struct hf_attr *attr,
                    struct hf_posix_acl *acl, uint32_t rwx)
{
    uint32_t mode = attr->mode;

    if (attr->uid == who->uid) {
        mode >>= 6;
    } else if (acl->count > 0 && (mode & S_IRWXG)) { /* else the mask takes everything */
        return hf_posix_acl_allows(acl, attr->gid, who->uid, who->gid, rwx);
    } else if (attr->gid == who->gid) {
        mode >>= 3;
    }
    return (mode & rwx) == rwx;
}

/* What a link could be used for that its maker may not do: a program that becomes its owner, or a
 * file that is written to when somebody trusts the new name. */
static bool may_link(const struct hf_rights_who *who, const struct hf_attr *attr,
                     struct hf_posix_acl *acl)
{
    const uint32_t group_program = S_ISGID | S_IXGRP;

    return attr->uid == who->uid || (S_ISREG(attr->mode) && !(attr->mode & S_ISUID) &&
                                     (attr->mode & group_program) != group_program &&
                                     permits(who, attr, acl, HF_RIGHT_READ | HF_RIGHT_WRITE));
}

bool hf_rights_removes_any(const struct hf_rights_who *who, const struct hf_attr *dir)
{
    return !(dir->mode & S_ISVTX) || dir->uid == who->uid;
}

uint32_t hf_rights_mode(const struct hf_rights_who *who, uint32_t mode, uint32_t gid)
{
    return who->gid == gid ? mode : mode & ~(uint32_t)S_ISGID;
}

int hf_rights_check(const struct hf_rights_who *who, const struct hf_attr *attr,
                    struct hf_posix_acl *acl, uint32_t want, uint32_t gid)
{
    bool owns = attr->uid == who->uid;

    if ((want & HF_RIGHT_OWN) && !owns) {
        return -EPERM;
    }
    if ((want & HF_RIGHT_GROUP) && !(owns && (gid == who->gid || gid == attr->gid))) {
        return -EPERM;
    }
    if ((want & HF_RIGHT_NOT_STICKY) && S_ISDIR(attr->mode) && !hf_rights_removes_any(who, attr)) {
        return -EPERM;
    }
    if ((want & HF_RIGHT_LINK) && !may_link(who, attr, acl)) {
        return -EPERM;
    }
    if ((want & HF_RIGHT_TOUCH) && !owns && !permits(who, attr, acl, HF_RIGHT_WRITE)) {
        return -EACCES;
    }
    return permits(who, attr, acl, want & HF_RIGHT_RWX) ? 0 : -EACCES;
}
