/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_model.h - faults to inject into a model base.
 *
 * Threads: loop thread only.
 */
#ifndef HF_TABLE_TABLE_MODEL_H
#define HF_TABLE_TABLE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/table/table.h"

/** Every merge from now on fails with @err and changes nothing; 0: they work again. */
void hf_table_model_fail_merges(struct hf_table_model *model, int err);
/** The next merge reports -EIO, and happened all the same (@persisted) or did not. */
void hf_table_model_crash_next_merge(struct hf_table_model *model, bool persisted);
/** Merges that have failed because of these. */
uint64_t hf_table_model_failed(struct hf_table_model *model);
/** Of the rows that are asked for from now on, one in @one_in cannot be read: -EIO; 0: all can. */
void hf_table_model_fail_reads(struct hf_table_model *model, uint32_t one_in);
/** Reads that have failed because of it. */
uint64_t hf_table_model_unread(const struct hf_table_model *model);
/** Flip one bit of a row's value (of its checksum when it is empty). Errors: -ENOENT. */
int hf_table_model_rot(struct hf_table_model *model, const void *key, size_t key_len);

#endif
