/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode.h - inodes: loaded once per operation, changed in memory, written at commit.
 */
#ifndef HF_META_INODE_H
#define HF_META_INODE_H

#include "server/meta/txn.h"

/** A copy of the row, for looks. Errors: -ENOENT. */
int hf_inode_load(struct hf_meta *meta, struct hf_ino ino, struct hf_inode *ret);
/** The same without those that are being given up. */
int hf_inode_look(struct hf_meta *meta, struct hf_ino ino, struct hf_inode *ret);

/** The operation's own copy, in any state; good until the operation ends. Errors: -ENOENT. */
int hf_inode_get(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret);
/** Not one that is being given up. Errors: -ENOENT. */
int hf_inode_get_usable(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret);
/** A directory names can be made in. Errors: -ENOENT (also: removed), -ENOTDIR. */
int hf_inode_get_dir(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret);
/** A new one, zeroed, with its version and times. */
int hf_inode_add(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret);

/** The ctime of a change now: later than @was_ns even if the client's clock is behind. */
uint64_t hf_inode_next_ctime(const struct hf_meta *meta, uint64_t was_ns);
/** Changed: version and ctime are new. */
void hf_inode_touch(struct hf_meta *meta, struct hf_inode *inode);
/** Contents changed: mtime and data version, too. */
void hf_inode_touch_data(struct hf_meta *meta, struct hf_inode *inode);
/** To be written, without a new version. */
void hf_inode_dirty(struct hf_inode *inode);
/** Its row goes at commit. */
void hf_inode_remove(struct hf_meta *meta, struct hf_inode *inode);
int hf_inode_flush(struct hf_meta *meta);

/** security.capability goes: of a file that anyone writes. */
int hf_inode_drop_caps(struct hf_meta *meta, struct hf_inode *inode);
/** suid, sgid if group-executable, and security.capability go. */
int hf_inode_kill_priv(struct hf_meta *meta, struct hf_inode *inode);

int hf_meta_op_setattr(struct hf_meta *meta, const struct hf_meta_op *op,
                       struct hf_meta_reply *reply);
#endif
