/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - the memory that dirty bytes live in: slabs filled from front to back, counted whole.
 *
 *     append ──► current slab (1 MiB) ──full──► next slab
 *     adopt  ──► a received buffer becomes a slab of its own: no copy
 *
 * A slab lives while a range of a dirty map, a flush or a reader refers to it, or while it is being
 * filled. What is counted is whole slabs, so slack counts too: mem_bytes is real memory.
 *
 * Threads: loop thread only.
 */
#ifndef HF_FS_ARENA_H
#define HF_FS_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/limits.h"

#define HF_SLAB_BYTES (1u << 20)

struct hf_arena;

struct hf_slab {
    struct hf_arena *arena;
    struct hf_buf *buf;
    uint32_t refs;
    uint32_t used_bytes; /* appended so far; adopted: all */
};

struct hf_arena {
    struct hf_bufpool *pool;
    struct hf_slab *current; /* NULL: none; holds one reference */
    size_t mem_bytes;        /* capacity of all slabs */
    uint32_t slab_count;
};

void hf_arena_init(struct hf_arena *arena, struct hf_bufpool *pool);
/** Every range must be gone. */
void hf_arena_fini(struct hf_arena *arena);

/** Memory that appending @len bytes would add. */
size_t hf_arena_need(const struct hf_arena *arena, size_t len);
/**
 * Copy up to @len bytes behind the last ones; 0 < *ret_len <= len. *ret_slab has a new reference.
 * Errors: -ENOMEM
 */
int hf_arena_append(struct hf_arena *arena, const void *data, uint32_t len,
                    struct hf_slab **ret_slab, uint32_t *ret_pos, uint32_t *ret_len);
/** Take over a buffer (its reference is consumed). NULL: -ENOMEM, the reference stays. */
struct hf_slab *hf_arena_adopt(struct hf_arena *arena, struct hf_buf *buf);

static inline struct hf_slab *hf_slab_ref(struct hf_slab *slab)
{
    slab->refs++;
    return slab;
}
void hf_slab_unref(struct hf_slab *slab);
static inline uint8_t *hf_slab_at(const struct hf_slab *slab, uint32_t pos)
{
    return slab->buf->data + pos;
}

#endif
