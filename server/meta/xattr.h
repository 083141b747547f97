/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xattr.h - extended attributes: one row each. The two POSIX ACLs are attributes with a meaning.
 */
#ifndef HF_META_XATTR_H
#define HF_META_XATTR_H

#include "server/meta/txn.h"

/** @ret_value  borrowed until the table's next change. Errors: -ENODATA. */
int hf_xattr_get(struct hf_meta *meta, struct hf_ino ino, const char *name, size_t name_len,
                 const void **ret_value, size_t *ret_len);
/** No check of the name's meaning. Errors: -ENOSPC  too many or too much on this inode. */
int hf_xattr_put(struct hf_meta *meta, struct hf_inode *inode, const char *name, size_t name_len,
                 const void *value, size_t len);
/** Remove when there. */
int hf_xattr_discard(struct hf_meta *meta, struct hf_inode *inode, const char *name,
                     size_t name_len);

int hf_meta_op_setxattr(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply);
int hf_meta_op_removexattr(struct hf_meta *meta, const struct hf_meta_op *op,
                           struct hf_meta_reply *reply);
void hf_meta_rd_getxattr(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);
void hf_meta_rd_listxattr(struct hf_meta *meta, const struct hf_meta_read *rd,
                          struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);

#endif
