/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_file.h - the container of a snapshot: a body, and a tail that vouches for each byte.
 *
 * Threads: worker; blocks.
 */
#ifndef HF_TABLE_SNAPSHOT_FILE_H
#define HF_TABLE_SNAPSHOT_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/env/env.h"
#include "common/table/snapshot.h"
#include "common/table/snapshot_format.h"

struct hf_snapshot_tail {
    enum hf_snapshot_kind kind;
    uint64_t body_bytes;
    uint64_t body_sum;
    uint64_t rows;
    uint64_t digest;
};

void hf_snapshot_tail_encode(const struct hf_snapshot_tail *tail,
                             uint8_t ret[HF_SNAPSHOT_TAIL_BYTES]);
/** Errors: -EBADMSG  among others when it is not that of a file of @file_bytes. */
int hf_snapshot_tail_decode(const uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES], uint64_t file_bytes,
                            struct hf_snapshot_tail *ret);

/* What is exported: fills the empty file and all of *ret but file_bytes. */
struct hf_snapshot_source {
    enum hf_snapshot_kind kind;
    int (*write_body)(void *ctx, struct hf_file *file, const char *path, const atomic_bool *stop,
                      struct hf_table_snapshot *ret);
    void *ctx;
};

/**
 * A new file at @path: body, tail, synced, and its directory too. Gone again when that fails.
 * Errors: the body's; -ENOSPC, -EIO, -ECANCELED, -ENOMEM
 */
int hf_snapshot_write(struct hf_env *env, const char *path, const struct hf_snapshot_source *source,
                      const atomic_bool *stop, struct hf_table_snapshot *ret);

/** The tail alone. Errors: -EBADMSG, -EIO. */
int hf_snapshot_read_tail(struct hf_file *file, struct hf_snapshot_tail *ret);
/** Compare the body with its sum. Errors: -EBADMSG, -EIO, -ECANCELED, -ENOMEM. */
int hf_snapshot_check_body(struct hf_file *file, const struct hf_snapshot_tail *tail,
                           const atomic_bool *stop);

static inline bool hf_snapshot_stopped(const atomic_bool *stop)
{
    return atomic_load_explicit(stop, memory_order_relaxed);
}

#endif
