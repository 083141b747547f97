/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo.h - what of one file's bytes is not durable yet, over a backing file that holds what
 * readers see.
 *
 *     write:     the bytes that were there are noted, then the backing file is written
 *     sync:      the notes are dropped
 *     cut:       the notes are undone, newest first: the file is what was durable; then of each
 *                512-byte sector some prefix of its writes is done again, of the size changes
 *                some prefix
 *     failed     the same choice is made, but readers go on seeing what was written: a sector
 *     sync:      that was lost is marked stale. No later sync writes it, only a later write to
 *                it; a cut shows its old bytes
 *
 * A sector is written whole, as from the page cache. A write beyond a lost size change has nowhere
 * to go and is lost with it. Threads: the caller's lock is held.
 */
#ifndef HF_TESTS_LIB_FAULTDISK_UNDO_H
#define HF_TESTS_LIB_FAULTDISK_UNDO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/sim_rng.h"

#define HF_UNDO_SECTOR_BYTES 512u

enum hf_undo_cut {
    HF_UNDO_CUT_RANDOM, /* each file has a chance of its own for a sector to survive */
    HF_UNDO_CUT_DROP,   /* what was not synced */
    HF_UNDO_CUT_KEEP,
    HF_UNDO_CUT_TORN, /* each sector with a chance of one half */
};

struct hf_undo_change;
struct hf_undo_stale;

/* Zeroed: everything is durable. */
struct hf_undo {
    struct hf_undo_change *first, *last;
    struct hf_undo_stale *stale; /* array */
    size_t stale_count, stale_cap;
    uint64_t unsynced_bytes; /* of the sectors that were written since the last sync, each time */
};

void hf_undo_fini(struct hf_undo *undo);

/* Each does to @fd, which is open for reading and writing, what its name says. Errors: -errno of
 * the backing file system. */

ssize_t hf_undo_write(struct hf_undo *undo, int fd, const void *bytes, size_t len_bytes,
                      uint64_t off);
int hf_undo_truncate(struct hf_undo *undo, int fd, uint64_t len_bytes);
/** @mode as of fallocate(2): 0, keep size, punch hole, zero range. Errors: -EOPNOTSUPP (others). */
int hf_undo_allocate(struct hf_undo *undo, int fd, int mode, uint64_t off, uint64_t len_bytes);

void hf_undo_sync(struct hf_undo *undo);
void hf_undo_sync_failed(struct hf_undo *undo, struct hf_sim_rng *rng);
/** Afterwards everything is durable. */
int hf_undo_cut(struct hf_undo *undo, int fd, struct hf_sim_rng *rng, enum hf_undo_cut mode);

#endif
