/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objects.h - object rows: how often and how much of each is referenced, who lacks a copy.
 *
 *   (enters with its extents) ──► row ──last reference goes──► dead row ──OBJECTS_GONE──► nothing
 *
 * Invariants: an id enters once (sequences used are kept as bitmaps while the session lives, and
 * session ids are never used again); a row has at least one reference; each bit of `lacking` has
 * its degraded row.
 */
#ifndef HF_META_OBJECTS_H
#define HF_META_OBJECTS_H

#include "server/meta/txn.h"

/**
 * A new object of the session whose operation this is. Extents of the same operation refer to it.
 * Errors: -EINVAL  another session's id, a used sequence, sizes
 *         -HF_ESTALE_EPOCH  too few holders, put with an old map: put anew with the current one
 *         -EAGAIN  too few holders: put anew
 */
int hf_objects_enter(struct hf_meta *meta, const struct hf_wr_object *object);
/** References come and go; the object exists or entered in this operation. */
int hf_objects_count(struct hf_meta *meta, const struct hf_oid *oid, int64_t refs,
                     int64_t live_bytes);
/** At commit. */
int hf_objects_flush(struct hf_meta *meta);

int hf_objects_load(struct hf_meta *meta, const struct hf_oid *oid, struct hf_row_object *ret);
/** @nodes leave the group: what they lack of it is nobody's business any more. */
int hf_objects_forget_members(struct hf_meta *meta, uint16_t group, uint64_t nodes);
/** The session ended: its sequences need no guard. */
int hf_objects_forget_session(struct hf_meta *meta, struct hf_session_id session);

int hf_meta_op_degraded_clear(struct hf_meta *meta, const struct hf_meta_op *op,
                              struct hf_meta_reply *reply);
int hf_meta_op_degraded_add(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply);
int hf_meta_op_objects_gone(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply);

#endif
