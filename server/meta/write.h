/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.h - what changes and reads file contents: WRITE, PUNCH, ALLOCATE, CLONE; EXTENTS.
 *
 * Invariant: no extent lies behind EOF, so a file that grows reads as zeros there.
 *
 * PUNCH drops all windows of its range in one entry (about 4 us each), and ALLOCATE looks at them
 * all: the leader takes no more than HF_SPACE_WINDOWS_MAX at a time. Entries of earlier builds may
 * have more, and are applied all the same. CLONE takes up to 4 GiB and says in reply->count how
 * much of that the source had. WRITE answers -E2BIG when a window would hold too many extents or
 * inline bytes: what the client has should go as one object.
 */
#ifndef HF_META_WRITE_H
#define HF_META_WRITE_H

#include "server/meta/txn.h"

int hf_meta_op_write(struct hf_meta *meta, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply);
int hf_meta_op_relocate(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply);
int hf_meta_op_punch(struct hf_meta *meta, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply);
int hf_meta_op_allocate(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply);
int hf_meta_op_clone(struct hf_meta *meta, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply);
void hf_meta_rd_extents(struct hf_meta *meta, const struct hf_meta_read *rd,
                        struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);

#endif
