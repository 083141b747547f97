/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - operations on names: create (with one or without), link, unlink, rmdir, rename.
 *
 * A directory's link count is 2 and one per directory in it; its size is the count of its entries.
 */
#ifndef HF_META_NAMES_H
#define HF_META_NAMES_H

#include "server/meta/txn.h"

int hf_meta_op_create(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply);
int hf_meta_op_tmpfile(struct hf_meta *meta, const struct hf_meta_op *op,
                       struct hf_meta_reply *reply);
int hf_meta_op_link(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply);
int hf_meta_op_unlink(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply);
int hf_meta_op_rmdir(struct hf_meta *meta, const struct hf_meta_op *op,
                     struct hf_meta_reply *reply);
int hf_meta_op_rename(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply);
void hf_meta_rd_readlink(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);

#endif
