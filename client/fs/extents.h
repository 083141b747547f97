/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extents.h - the committed extents of one file as last told, by window, all of one data_version.
 *
 * A cache of what HF_RD_EXTENTS answered: whoever uses it asks at the same time whether the version
 * still stands. Another version empties it. Inline bytes are kept with their window.
 *
 * Pure bookkeeping. Threads: loop thread only.
 */
#ifndef HF_FS_EXTENTS_H
#define HF_FS_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire/meta_op.h"

#define HF_EXTENTS_WINDOWS_MAX 1024u /* of one file; then it starts anew */

struct hf_extent_window {
    uint64_t index;
    uint32_t count;
    uint32_t inline_bytes;
    struct hf_extent *v;  /* ascending, clipped to the window */
    uint8_t *inline_data; /* pos_bytes of inline extents points in here */
};

struct hf_extents {
    bool valid;
    uint64_t version;                  /* data_version */
    uint64_t size;                     /* of the file */
    struct hf_extent_window **windows; /* ascending */
    uint32_t count, cap;
    size_t cost_bytes; /* memory of all windows */
};

void hf_extents_init(struct hf_extents *extents);
void hf_extents_clear(struct hf_extents *extents);
/**
 * Enter an answer for [off, end), whole windows; with another version than the held one it
 * replaces everything. Errors: -ENOMEM (emptied).
 */
int hf_extents_install(struct hf_extents *extents, uint64_t version, uint64_t size, uint64_t off,
                       uint64_t end, const struct hf_extent *v, uint32_t count,
                       const uint8_t *inline_data);
/** NULL: not known. */
const struct hf_extent_window *hf_extents_window(const struct hf_extents *extents, uint64_t index);
/** Are all windows that [off, end) touches known? */
bool hf_extents_cover(const struct hf_extents *extents, uint64_t off, uint64_t end);

#endif
