/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - aligned, prefaulted, recycled, reference-counted buffers for bulk bytes.
 *
 * A pool hands out buffers of a few fixed size classes, each 4 KiB aligned so that they can be
 * written with O_DIRECT as they are. A freed buffer is kept for reuse up to the pool's limit:
 * the first touch of fresh memory costs more than hashing it (PLATFORM.md section 2).
 *
 * Threads: reference counts and the pool are safe from any thread; contents belong to whoever
 * holds the buffer.
 */
#ifndef HF_BASE_BUF_H
#define HF_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct hf_bufpool;

struct hf_buf {
    uint8_t *data;    /* 4 KiB aligned */
    size_t len_bytes; /* bytes in use, set by the holder */
    size_t cap_bytes; /* multiple of 4 KiB */
    struct hf_bufpool *pool;
    struct hf_buf *next; /* free list, or the holder's own list */
    uint32_t refs;       /* atomic */
    uint32_t size_class;
};

/**
 * @keep_bytes  free buffers kept for reuse, all classes together
 * @max_bytes   most bytes handed out at a time; hf_buf_get() fails beyond; 0: no limit
 * Errors: -ENOMEM
 */
int hf_bufpool_new(size_t keep_bytes, size_t max_bytes, struct hf_bufpool **ret);
/** Every buffer must have come back. NULL is a no-op. */
void hf_bufpool_free(struct hf_bufpool *pool);
/** Give back what is kept for reuse. */
void hf_bufpool_trim(struct hf_bufpool *pool);
size_t hf_bufpool_used_bytes(struct hf_bufpool *pool);

/**
 * A buffer of at least @cap_bytes (1 .. 4 MiB + 64 KiB), len 0, one reference.
 * NULL: out of memory or past the pool's limit; the caller waits or sheds load.
 */
struct hf_buf *hf_buf_get(struct hf_bufpool *pool, size_t cap_bytes);
struct hf_buf *hf_buf_ref(struct hf_buf *buf);
/** Drop one reference; NULL is a no-op. */
void hf_buf_unref(struct hf_buf *buf);

#endif
