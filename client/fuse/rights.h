/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rights.h - what a user of one group may do with one inode: what the kernel decides for everybody
 * (default_permissions), for those whom it would let do anything.
 *
 * Pure. Source: fs/namei.c, fs/attr.c and fs/xattr.c of Linux.
 */
#ifndef HF_FUSE_RIGHTS_H
#define HF_FUSE_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/meta_op.h"
#include "common/wire/posix_acl.h"

/* Wanted, all of them; of a directory EXECUTE is to look names up in it. */
#define HF_RIGHT_EXECUTE    0x01u /* as in a mode; refused: -EACCES */
#define HF_RIGHT_WRITE      0x02u
#define HF_RIGHT_READ       0x04u
#define HF_RIGHT_RWX        0x07u
#define HF_RIGHT_OWN        0x08u /* to be its owner; refused: -EPERM */
#define HF_RIGHT_GROUP      0x10u /* to give it the group @gid: the asker's, or the one it has */
#define HF_RIGHT_TOUCH      0x20u /* set its times to now: its owner, or WRITE */
#define HF_RIGHT_LINK       0x40u /* another name, as with fs.protected_hardlinks */
#define HF_RIGHT_NOT_STICKY 0x80u /* no sticky directory of somebody else */

struct hf_rights_who {
    uint32_t uid, gid;
};

/**
 * @acl  the access ACL; count 0: none
 * @gid  with HF_RIGHT_GROUP
 * Errors: -EACCES, -EPERM, as a system call answers
 */
int hf_rights_check(const struct hf_rights_who *who, const struct hf_attr *attr,
                    struct hf_posix_acl *acl, uint32_t want, uint32_t gid);
/** May names of the inodes of others be taken from the directory? The right to write to it apart.
 */
bool hf_rights_removes_any(const struct hf_rights_who *who, const struct hf_attr *dir);
/** S_ISGID is for members of the group: those of @mode that may be set on a file of group @gid. */
uint32_t hf_rights_mode(const struct hf_rights_who *who, uint32_t mode, uint32_t gid);

#endif
