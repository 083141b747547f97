/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orphan.h - inodes without a name: who holds them open, and giving them up.
 *
 *   LIVE --last name goes--> ORPHAN --last holder goes--> PURGING --PURGE..--> gone
 *     \------------ nobody holds it open -----------------^
 *
 * TMPFILE makes an ORPHAN, held by the session that made it; when it is LINKABLE, LINK makes it
 * LIVE. Who holds it open is the leader's to know from then on, as of any file with a name.
 *
 * The purge queue also holds live files with a stale tail (struct hf_inode).
 */
#ifndef HF_META_ORPHAN_H
#define HF_META_ORPHAN_H

#include "server/meta/txn.h"

/**
 * It lost its last name: held by the sessions of @holders that live, or given up, at once when it
 * is small.
 */
int hf_orphan_drop(struct hf_meta *meta, struct hf_inode *inode, const uint64_t *holders,
                   uint32_t holder_count);
/** It gets a name: nobody's hold is to be remembered any more. */
int hf_orphan_adopt(struct hf_meta *meta, struct hf_inode *inode);
/** @session holds the unlinked inode no longer. Not an error when it did not. */
int hf_orphan_release(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session);
/** All that @session holds. */
int hf_orphan_release_all(struct hf_meta *meta, struct hf_session_id session);

/** Into the purge queue and out of it. */
int hf_purge_queue(struct hf_meta *meta, struct hf_ino ino);
int hf_purge_unqueue(struct hf_meta *meta, struct hf_ino ino);

int hf_meta_op_purge(struct hf_meta *meta, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply);
int hf_meta_op_orphan_release(struct hf_meta *meta, const struct hf_meta_op *op,
                              struct hf_meta_reply *reply);

#endif
