/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_snapshot.h - a model base as a snapshot file, written and read through the env's disk.
 *
 * Threads: worker; blocks.
 */
#ifndef HF_TABLE_MODEL_SNAPSHOT_H
#define HF_TABLE_MODEL_SNAPSHOT_H

#include "common/table/base.h"
#include "common/table/snapshot_file.h"

/** The whole body, malloc'd. Errors: -EBADMSG  rows or digest do not fit; -ECANCELED, -ENOMEM. */
int hf_model_body_encode(const struct hf_memtable *rows, const struct hf_table_base_mark *mark,
                         const atomic_bool *stop, struct hf_table_snapshot *ret, uint8_t **ret_body,
                         size_t *ret_len);
/**
 * @ret_rows  empty, gets the rows; NULL: only check them
 * Errors: -EBADMSG, -ECANCELED, -ENOMEM
 */
int hf_model_body_decode(const uint8_t *body, size_t len, const atomic_bool *stop,
                         struct hf_table_snapshot *ret, struct hf_memtable *ret_rows);

/** Read and decode the body of @file, whose sum was checked. Errors: as decode; -EIO. */
int hf_model_snapshot_scan(struct hf_file *file, uint64_t body_bytes, const atomic_bool *stop,
                           struct hf_table_snapshot *ret, struct hf_memtable *ret_rows);

#endif
