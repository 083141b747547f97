/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty.h - one file's bytes that no commit names yet: an ordered map of ranges to slabs.
 *
 *     write ──► DIRTY range ──take──► FLUSHING (range.flush) ──settle──► gone
 *                 ▲    ▲                     │     └───── undo ────► DIRTY
 *                 │    └─ overwrite in place └─ overwrite: new bytes shadow the old range; the
 *                 └─ adjacent ones merge        flush keeps its own reference to the slab
 *
 * Windows of HF_WINDOW_BYTES (as extents have them), each a sorted array of ranges.
 * Invariants: ranges ascend, do not overlap, do not cross a window; a window has ranges.
 *
 * Pure bookkeeping; no I/O. Threads: loop thread only.
 */
#ifndef HF_FS_DIRTY_H
#define HF_FS_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "client/fs/arena.h"
#include "common/base/limits.h"

struct hf_flush;

struct hf_range {
    uint32_t off_bytes; /* in the window */
    uint32_t len_bytes;
    uint32_t pos_bytes; /* in the slab */
    struct hf_slab *slab;
    struct hf_flush *flush; /* NULL: DIRTY */
};

struct hf_window {
    uint64_t index; /* file offset / HF_WINDOW_BYTES */
    struct hf_range *ranges;
    uint32_t count, cap;
    uint32_t dirty_bytes; /* in DIRTY ranges */
    uint32_t busy_bytes;  /* in FLUSHING ranges */
};

struct hf_dirty {
    struct hf_window **windows; /* ascending */
    uint32_t count, cap;
    uint64_t dirty_bytes, busy_bytes; /* sums of the windows' */
};

/** A piece of the map as it was: the slab has a reference of the holder's. */
struct hf_piece {
    uint64_t off_bytes; /* in the file */
    uint32_t len_bytes;
    uint32_t pos_bytes;
    struct hf_slab *slab;
};

struct hf_piece_list {
    struct hf_piece *v;
    uint32_t count, cap;
};

/** Drops the references. */
void hf_piece_list_fini(struct hf_piece_list *list);

void hf_dirty_init(struct hf_dirty *dirty);
/** Drops everything. */
void hf_dirty_fini(struct hf_dirty *dirty);

/** Copy @len bytes in. Errors: -ENOMEM  (a prefix may have been written; behind it all is as it
 * was). */
int hf_dirty_write(struct hf_dirty *dirty, struct hf_arena *arena, uint64_t off, const void *data,
                   uint32_t len);
/** Refer to @len bytes of @slab from @pos (references are taken). Errors: -ENOMEM  (likewise). */
int hf_dirty_write_slab(struct hf_dirty *dirty, uint64_t off, uint32_t len, struct hf_slab *slab,
                        uint32_t pos);
/** Forget [off, end), DIRTY and FLUSHING. Errors: -ENOMEM  (splitting a range). */
int hf_dirty_cut(struct hf_dirty *dirty, uint64_t off, uint64_t end);

/** What is in [from, end), DIRTY and FLUSHING, goes to @to; what is there is dropped. Errors:
 * -ENOMEM (nothing has changed). */
int hf_dirty_move(struct hf_dirty *dirty, uint64_t from, uint64_t end, uint64_t to);

/** Append the pieces of [off, end) to @list, references taken. Errors: -ENOMEM. */
int hf_dirty_snapshot(const struct hf_dirty *dirty, uint64_t off, uint64_t end,
                      struct hf_piece_list *list);
/** Mark the DIRTY ranges of [off, end) as @flush's and append them to @list; at most @max_bytes,
 *  *ret_next (may be NULL): where to go on, @end when complete. Errors: -ENOMEM. */
int hf_dirty_take(struct hf_dirty *dirty, uint64_t off, uint64_t end, uint64_t max_bytes,
                  uint32_t max_pieces, struct hf_flush *flush, struct hf_piece_list *list,
                  uint64_t *ret_next);
/** Of window @index: what is @flush's is durable (gone from the map), or (@undo) DIRTY again. */
void hf_dirty_settle(struct hf_dirty *dirty, uint64_t index, const struct hf_flush *flush,
                     bool undo);

/** End of the last range; 0: nothing. */
uint64_t hf_dirty_end(const struct hf_dirty *dirty);
static inline bool hf_dirty_empty(const struct hf_dirty *dirty)
{
    return dirty->count == 0;
}
/** NULL: nothing dirty there. Borrowed until the next change. */
struct hf_window *hf_dirty_window(const struct hf_dirty *dirty, uint64_t index);
/** DIRTY bytes of [off, end) of the file, which lies in the window. */
uint32_t hf_window_dirty(const struct hf_window *window, uint64_t off, uint64_t end);
/** Is something of [off, end) of the file FLUSHING? */
bool hf_dirty_busy(const struct hf_dirty *dirty, uint64_t off, uint64_t end);
/** Contiguous DIRTY bytes from @off (in the window). */
uint32_t hf_window_run(const struct hf_window *window, uint32_t off);
/** First byte >= off that is in the map; UINT64_MAX: none. */
uint64_t hf_dirty_next(const struct hf_dirty *dirty, uint64_t off);
/** End of the contiguous ranges at @off; @off itself: nothing there. */
uint64_t hf_dirty_run_end(const struct hf_dirty *dirty, uint64_t off);

void hf_dirty_check_invariants(const struct hf_dirty *dirty);

#endif
