/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* The largest class holds a full object and its header pages; the 1 MiB class a frame and its page.
 */
static const size_t class_bytes[] = {
    4096, 16384, 65536, 262144, (1u << 20) + 4096, (4u << 20) + 65536};

#define CLASS_COUNT HF_ARRAY_LEN(class_bytes)

struct hf_bufpool {
    pthread_mutex_t lock;
    struct hf_buf *free[CLASS_COUNT]; /* lock */
    size_t free_bytes;                /* lock */
    size_t used_bytes;                /* lock */
    size_t keep_bytes;
    size_t max_bytes;
};

int hf_bufpool_new(size_t keep_bytes, size_t max_bytes, struct hf_bufpool **ret)
{
    struct hf_bufpool *pool = calloc(1, sizeof(*pool));

    if (!pool) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&pool->lock, NULL);
    pool->keep_bytes = keep_bytes;
    pool->max_bytes = max_bytes;
    *ret = pool;
    return 0;
}

static void buf_destroy(struct hf_buf *buf)
{
    free(buf->data);
    free(buf);
}

void hf_bufpool_trim(struct hf_bufpool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        while (pool->free[i]) {
            struct hf_buf *buf = pool->free[i];

            pool->free[i] = buf->next;
            buf_destroy(buf);
        }
    }
    pool->free_bytes = 0;
    (void)pthread_mutex_unlock(&pool->lock);
}

void hf_bufpool_free(struct hf_bufpool *pool)
{
    if (!pool) {
        return;
    }
    HF_ASSERT(pool->used_bytes == 0);
    hf_bufpool_trim(pool);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

size_t hf_bufpool_used_bytes(struct hf_bufpool *pool)
{
    size_t used;

    (void)pthread_mutex_lock(&pool->lock);
    used = pool->used_bytes;
    (void)pthread_mutex_unlock(&pool->lock);
    return used;
}

static struct hf_buf *buf_create(struct hf_bufpool *pool, uint32_t size_class)
{
    struct hf_buf *buf = calloc(1, sizeof(*buf));
    void *data;

    if (!buf) {
        return NULL;
    }
    if (posix_memalign(&data, 4096, class_bytes[size_class]) != 0) {
        free(buf);
        return NULL;
    }
    memset(data, 0, class_bytes[size_class]); /* touch every page once, here */
    buf->data = data;
    buf->cap_bytes = class_bytes[size_class];
    buf->pool = pool;
    buf->size_class = size_class;
    return buf;
}

struct hf_buf *hf_buf_get(struct hf_bufpool *pool, size_t cap_bytes)
{
    struct hf_buf *buf = NULL;
    uint32_t c = 0;
    size_t bytes;

    HF_ASSERT(cap_bytes <= class_bytes[CLASS_COUNT - 1]);
    while (class_bytes[c] < cap_bytes) {
        c++;
    }
    bytes = class_bytes[c];
    (void)pthread_mutex_lock(&pool->lock);
    if (pool->max_bytes && pool->used_bytes + bytes > pool->max_bytes) {
        (void)pthread_mutex_unlock(&pool->lock);
        return NULL;
    }
    pool->used_bytes += bytes;
    buf = pool->free[c];
    if (buf) {
        pool->free[c] = buf->next;
        pool->free_bytes -= bytes;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (!buf) {
        buf = buf_create(pool, c);
        if (!buf) {
            (void)pthread_mutex_lock(&pool->lock);
            pool->used_bytes -= bytes;
            (void)pthread_mutex_unlock(&pool->lock);
            return NULL;
        }
    }
    buf->next = NULL;
    buf->len_bytes = 0;
    __atomic_store_n(&buf->refs, 1, __ATOMIC_RELAXED);
    return buf;
}

struct hf_buf *hf_buf_ref(struct hf_buf *buf)
{
    (void)__atomic_add_fetch(&buf->refs, 1, __ATOMIC_RELAXED);
    return buf;
}

void hf_buf_unref(struct hf_buf *buf)
{
    struct hf_bufpool *pool;

    if (!buf || __atomic_sub_fetch(&buf->refs, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    pool = buf->pool;
    (void)pthread_mutex_lock(&pool->lock);
    pool->used_bytes -= buf->cap_bytes;
    if (pool->free_bytes + buf->cap_bytes <= pool->keep_bytes) {
        pool->free_bytes += buf->cap_bytes;
        buf->next = pool->free[buf->size_class];
        pool->free[buf->size_class] = buf;
        buf = NULL;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (buf) {
        buf_destroy(buf);
    }
}
