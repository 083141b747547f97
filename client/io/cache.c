/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - clean bytes of objects by (object, 256 KiB chunk); least recently used goes first.
 *
 * An entry is a run: the buffer that one GET was received into, found under each of its chunks.
 * Concurrent readers of a chunk find the run that is being fetched and wait for it.
 */
#include "client/io/io_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"

int cache_init(struct hf_io *io)
{
    uint32_t want = (uint32_t)(io->options.cache_bytes / IO_CHUNK_BYTES);

    io->hash_size = 1024;
    while (io->hash_size < want && io->hash_size < (1u << 24)) {
        io->hash_size *= 2;
    }
    io->hash = calloc(io->hash_size, sizeof(io->hash[0]));
    if (!io->hash) {
        return -ENOMEM;
    }
    TAILQ_INIT(&io->lru);
    return 0;
}

static struct io_chunk_list *bucket(struct hf_io *io, const struct hf_oid *oid, uint32_t chunk)
{
    uint64_t h = hf_oid_hash(oid) + chunk * UINT64_C(0x9e3779b97f4a7c15);

    h ^= h >> 32;
    return &io->hash[h & (io->hash_size - 1)];
}

struct io_run *cache_find(struct hf_io *io, const struct hf_oid *oid, uint32_t chunk)
{
    struct io_chunk *c;

    LIST_FOREACH (c, bucket(io, oid, chunk), link) {
        if (c->index == chunk && hf_oid_equal(&c->run->oid, oid)) {
            return c->run;
        }
    }
    return NULL;
}

void cache_enter(struct io_run *run)
{
    uint32_t first = run->off_bytes / IO_CHUNK_BYTES;
    uint32_t count = run->len_bytes / IO_CHUNK_BYTES;

    HF_ASSERT(count > 0 && count <= IO_RUN_CHUNKS_MAX);
    run->cached = true;
    for (uint32_t i = 0; i < count; i++) {
        struct io_chunk *c = &run->chunks[i];

        c->run = run;
        c->index = first + i;
        c->hashed = true;
        LIST_INSERT_HEAD(bucket(run->io, &run->oid, c->index), c, link);
    }
}

void cache_forget(struct io_run *run, uint32_t first_chunk)
{
    bool any = false;

    for (uint32_t i = 0; i < IO_RUN_CHUNKS_MAX; i++) {
        struct io_chunk *c = &run->chunks[i];

        if (c->hashed && c->index >= first_chunk) {
            LIST_REMOVE(c, link);
            c->hashed = false;
        }
        any = any || c->hashed;
    }
    if (!any && run->in_lru) {
        run->in_lru = false;
        TAILQ_REMOVE(&run->io->lru, run, link);
        run->io->stats.cache_bytes -= run->buf->cap_bytes;
        run_unref(run);
    }
}

void cache_keep(struct io_run *run)
{
    struct hf_io *io = run->io;

    HF_ASSERT(run->state == RUN_READY && !run->in_lru);
    run->in_lru = true;
    run->refs++;
    TAILQ_INSERT_TAIL(&io->lru, run, link);
    io->stats.cache_bytes += run->buf->cap_bytes;
    while (io->stats.cache_bytes > io->options.cache_bytes) {
        cache_forget(TAILQ_FIRST(&io->lru), 0);
    }
}

void cache_touch(struct io_run *run)
{
    if (run->in_lru) {
        TAILQ_REMOVE(&run->io->lru, run, link);
        TAILQ_INSERT_TAIL(&run->io->lru, run, link);
    }
}

void cache_fini(struct hf_io *io)
{
    while (io->hash && !TAILQ_EMPTY(&io->lru)) {
        cache_forget(TAILQ_FIRST(&io->lru), 0);
    }
    free(io->hash);
    io->hash = NULL;
}
