/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl.h - POSIX ACLs: the attributes system.posix_acl_access and _default, in Linux's xattr format.
 *
 * The mode's group bits are the mask of the access ACL: a chmod changes the ACL and a new ACL
 * changes the mode. An access ACL that says no more than a mode is not kept. A new file takes its
 * access ACL from its directory's default ACL, cut by the mode asked for; the umask counts only
 * without one. Source: POSIX 1003.1e draft 17, as fs/posix_acl.c of Linux has it.
 */
#ifndef HF_META_ACL_H
#define HF_META_ACL_H

#include "server/meta/txn.h"

/** One of the two names? */
bool hf_acl_is_name(const char *name, size_t name_len);
/**
 * SETXATTR of one of them. Errors: -EINVAL  not an ACL; -EACCES  a default ACL of no directory;
 * -EOPNOTSUPP  symlink
 */
int hf_acl_set(struct hf_meta *meta, struct hf_inode *inode, const struct hf_meta_op *op);
/** REMOVEXATTR took @name away, whatever it was. */
void hf_acl_removed(struct hf_inode *inode, const char *name, size_t name_len);
/** @perm: the lower 12 bits. Errors: -EOPNOTSUPP  symlink. */
int hf_acl_chmod(struct hf_meta *meta, struct hf_inode *inode, uint32_t perm);
/** Give a new inode, whose mode is as asked for, what its directory says. */
int hf_acl_inherit(struct hf_meta *meta, const struct hf_inode *parent, struct hf_inode *inode,
                   uint32_t umask);

#endif
