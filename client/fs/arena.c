/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

void hf_arena_init(struct hf_arena *arena, struct hf_bufpool *pool)
{
    *arena = (struct hf_arena){.pool = pool};
}

void hf_arena_fini(struct hf_arena *arena)
{
    if (arena->current) {
        hf_slab_unref(arena->current);
        arena->current = NULL;
    }
    HF_ASSERT(arena->slab_count == 0 && arena->mem_bytes == 0);
}

/* A current slab that nobody else refers to is filled again from its start. */
static uint32_t room(const struct hf_arena *arena)
{
    const struct hf_slab *slab = arena->current;

    if (!slab) {
        return 0;
    }
    return slab->refs == 1 ? HF_SLAB_BYTES : HF_SLAB_BYTES - slab->used_bytes;
}

size_t hf_arena_need(const struct hf_arena *arena, size_t len)
{
    size_t left = room(arena);

    if (len <= left) {
        return 0;
    }
    return (len - left + HF_SLAB_BYTES - 1) / HF_SLAB_BYTES * (HF_SLAB_BYTES + HF_BLOCK_BYTES);
}

static struct hf_slab *slab_new(struct hf_arena *arena, struct hf_buf *buf)
{
    struct hf_slab *slab = malloc(sizeof(*slab));

    if (!slab) {
        return NULL;
    }
    *slab = (struct hf_slab){.arena = arena, .buf = buf, .refs = 1};
    arena->mem_bytes += buf->cap_bytes;
    arena->slab_count++;
    return slab;
}

void hf_slab_unref(struct hf_slab *slab)
{
    HF_ASSERT(slab->refs > 0);
    if (--slab->refs > 0) {
        return;
    }
    HF_ASSERT(slab->arena->mem_bytes >= slab->buf->cap_bytes && slab->arena->slab_count > 0);
    slab->arena->mem_bytes -= slab->buf->cap_bytes;
    slab->arena->slab_count--;
    hf_buf_unref(slab->buf);
    free(slab);
}

static int next_slab(struct hf_arena *arena)
{
    struct hf_buf *buf = hf_buf_get(arena->pool, HF_SLAB_BYTES);
    struct hf_slab *slab;

    if (!buf) {
        return -ENOMEM;
    }
    slab = slab_new(arena, buf);
    if (!slab) {
        hf_buf_unref(buf);
        return -ENOMEM;
    }
    if (arena->current) {
        hf_slab_unref(arena->current);
    }
    arena->current = slab;
    return 0;
}

int hf_arena_append(struct hf_arena *arena, const void *data, uint32_t len,
                    struct hf_slab **ret_slab, uint32_t *ret_pos, uint32_t *ret_len)
{
    struct hf_slab *slab = arena->current;

    HF_ASSERT(len > 0);
    if (slab && slab->refs == 1) {
        slab->used_bytes = 0;
    }
    if (room(arena) == 0) {
        int err = next_slab(arena);

        if (err) {
            return err;
        }
        slab = arena->current;
    }
    len = len < room(arena) ? len : room(arena);
    memcpy(hf_slab_at(slab, slab->used_bytes), data, len);
    *ret_slab = hf_slab_ref(slab);
    *ret_pos = slab->used_bytes;
    *ret_len = len;
    slab->used_bytes += len;
    return 0;
}

struct hf_slab *hf_arena_adopt(struct hf_arena *arena, struct hf_buf *buf)
{
    struct hf_slab *slab = slab_new(arena, buf);

    if (slab) {
        slab->used_bytes = (uint32_t)buf->cap_bytes;
    }
    return slab;
}
