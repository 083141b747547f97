/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdb_snapshot.h - an LMDB base as a snapshot file.
 *
 * Rows are appended one by one to a fresh LMDB file, which packs them: rather than by LMDB's own
 * compacting copy, because this can be stopped, checks each row, and leaves damage behind.
 *
 * Threads: worker; blocks.
 */
#ifndef HF_TABLE_LMDB_SNAPSHOT_H
#define HF_TABLE_LMDB_SNAPSHOT_H

#include <lmdb.h>

#include "common/table/snapshot_file.h"

/** As hf_table_base_ops.export. @mdb is only read. */
int hf_lmdb_snapshot_write(struct hf_env *env, MDB_env *mdb, MDB_dbi dbi, const char *path,
                           const atomic_bool *stop, struct hf_table_snapshot *ret);
/**
 * Read a file whose body was checked: every row, the digest, the mark.
 * Errors: -EBADMSG, -EIO, -ECANCELED, -ENOMEM
 */
int hf_lmdb_snapshot_scan(struct hf_env *env, const char *path, uint64_t body_bytes,
                          const atomic_bool *stop, struct hf_table_snapshot *ret);

#endif
