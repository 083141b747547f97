/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - a table's newest checkpoint as one file: written, checked elsewhere, made a base.
 *
 *     table ──hf_table_export()──► file ──(sent)──► file ──hf_table_verify()──► trusted
 *                                                     └──hf_table_install_*()──► base
 *
 * The file is an image of the base (LMDB's pages, or a model's rows) and behind it a tail with a
 * checksum of every byte: docs/format/snapshot.md. Nothing in a file is believed, and LMDB does
 * not see it, before that checksum holds; it guards against damage, not against forgery.
 *
 * Threads: the ops are submitted on the loop thread and work on HF_POOL_DISK; install blocks.
 */
#ifndef HF_TABLE_SNAPSHOT_H
#define HF_TABLE_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/env/env.h"
#include "common/table/table.h"

/* What a snapshot file holds. */
struct hf_table_snapshot {
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t mark_len;
    uint64_t digest; /* as hf_table_digest() */
    uint64_t rows;
    uint64_t file_bytes;
};

/* Writing one. The caller's until done; zero what is not said here. */
struct hf_table_export {
    const char *path; /* the file; one that is there is replaced */
    atomic_bool stop; /* set it, on any thread, to have it end soon with -ECANCELED */
    void (*done)(void *ctx, int err);
    void *ctx;
    struct hf_table_snapshot snapshot; /* on success */

    /* The table's own */
    struct hf_job job;
    struct hf_table *table;
    int err;
};

/**
 * Write the newest finished checkpoint (or one that finishes meanwhile) to a file, durably, every
 * row's checksum checked on the way. The table may be read, changed and checkpointed meanwhile, but
 * not closed, and no second export may run.
 *
 * A checkpoint that fails ends the export with the same error: the base has to be opened anew, and
 * on a full disk the export's own file is in the way.
 *
 * @op->done  Errors, none of which leaves a file behind:
 *            -ENOENT  no checkpoint was ever finished; -ECANCELED  stopped; -ENOSPC; -EIO;
 *            -EBADMSG  the base is damaged; -ENOMEM
 */
void hf_table_export(struct hf_table *table, struct hf_table_export *op);
bool hf_table_export_running(const struct hf_table *table);

/* Checking one. The caller's until done; zero what is not said here. */
struct hf_table_verify {
    const char *path;
    atomic_bool stop;
    void (*done)(void *ctx, int err);
    void *ctx;
    struct hf_table_snapshot snapshot; /* on success */

    /* The module's own */
    struct hf_env *env;
    struct hf_job job;
    int err;
};

/**
 * Check every byte of a file, then every row and the digest over them.
 * @op->done  Errors: -EBADMSG  not whole, or damaged: fetch it again; -ENOENT  no such file;
 *            -ECANCELED; -EIO; -ENOMEM
 */
void hf_table_verify(struct hf_env *env, struct hf_table_verify *op);

/**
 * Make a verified file the LMDB base in directory @path, which nobody has open. The file is
 * renamed, so it lies on the same file system and is gone afterwards. All or nothing: whenever this
 * is cut short, either the old base is there and the file is still whole, or the new base is there.
 * Errors: -EBADMSG  not an exported LMDB base; -ENOENT; -EXDEV; -ENOSPC; -EIO  after which it is
 *         unknown which base is there
 * Context: worker, or before the loop runs; blocks for a few syncs, whatever the size.
 */
int hf_table_install_lmdb(struct hf_env *env, const char *file_path, const char *path);
/** The same for a model, whose rows are read and checked again. Errors: also -ENOMEM. */
int hf_table_install_model(struct hf_env *env, const char *file_path, struct hf_table_model *model);

#endif
