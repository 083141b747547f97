/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdb_file.h - one LMDB file of a table: opening it, its errors, the bytes of its rows and mark.
 *
 * Shared by the base (table_lmdb.c) and its snapshots (lmdb_snapshot.c).
 * Threads: any; may block.
 */
#ifndef HF_TABLE_LMDB_FILE_H
#define HF_TABLE_LMDB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "common/table/base.h"
#include "common/table/table_format.h"

/* 1 TiB of address space costs nothing. */
#define HF_LMDB_MAP_MAX  (sizeof(size_t) > 4 ? (size_t)1 << 39 << 1 : (size_t)1 << 30)
#define HF_LMDB_MARK_MAX (sizeof(struct hf_table_mark_disk) + HF_TABLE_MARK_MAX)

/** What an LMDB function returned, as 0 or -errno. */
int hf_lmdb_err(int rc);

/**
 * @flags      of mdb_env_open(); MDB_NOTLS is always among them
 * @map_bytes  at most; less where the system refuses so much
 * Errors: as hf_lmdb_err()
 */
int hf_lmdb_open(const char *path, unsigned flags, size_t map_bytes, MDB_env **ret);
/**
 * Pages past the end of a file that was cut short would kill the process when touched.
 * Errors: -EBADMSG  @file_path, open as @mdb, is too short; -EIO
 */
int hf_lmdb_check_size(struct hf_env *env, MDB_env *mdb, const char *file_path);
/** A disk that fills up cuts a write short, which LMDB takes for an I/O error. Was that it? */
bool hf_lmdb_disk_full(struct hf_env *env, const char *path, uint64_t want_bytes);

/** Fills value and hash. Errors: -EBADMSG. */
int hf_lmdb_row_decode(const MDB_val *val, struct hf_table_base_row *ret);
/** @ret  borrows @buf */
void hf_lmdb_mark_key(uint8_t buf[HF_TABLE_MARK_KEY_BYTES], MDB_val *ret);
size_t hf_lmdb_mark_encode(const struct hf_table_base_mark *mark, uint8_t ret[HF_LMDB_MARK_MAX]);
/** Errors: -EBADMSG. */
int hf_lmdb_mark_decode(const MDB_val *val, struct hf_table_base_mark *ret);

#endif
