/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/sums_cache.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"

#define SLOTS 4096u

struct entry {
    TAILQ_ENTRY(entry) lru;
    struct entry *next; /* in its slot */
    uint64_t segment;
    uint64_t off_bytes;
    uint32_t count;
    uint64_t sums[];
};

TAILQ_HEAD(entries, entry);

struct hf_sums_cache {
    size_t max_bytes;
    size_t used_bytes;
    struct entries lru; /* newest first */
    struct entry *slots[SLOTS];
};

static size_t entry_bytes(uint32_t count)
{
    return sizeof(struct entry) + sizeof(uint64_t) * count;
}

static struct entry **slot_of(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes)
{
    uint64_t words[2] = {segment, off_bytes};

    return &cache->slots[hf_hash64(words, sizeof(words), 0) % SLOTS];
}

static struct entry *find(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes)
{
    struct entry *e = *slot_of(cache, segment, off_bytes);

    while (e && (e->segment != segment || e->off_bytes != off_bytes)) {
        e = e->next;
    }
    return e;
}

static void evict(struct hf_sums_cache *cache, struct entry *e)
{
    struct entry **at = slot_of(cache, e->segment, e->off_bytes);

    while (*at != e) {
        at = &(*at)->next;
    }
    *at = e->next;
    TAILQ_REMOVE(&cache->lru, e, lru);
    cache->used_bytes -= entry_bytes(e->count);
    free(e);
}

int hf_sums_cache_new(size_t max_bytes, struct hf_sums_cache **ret)
{
    struct hf_sums_cache *cache = calloc(1, sizeof(*cache));

    if (!cache) {
        return -ENOMEM;
    }
    cache->max_bytes = max_bytes;
    TAILQ_INIT(&cache->lru);
    *ret = cache;
    return 0;
}

void hf_sums_cache_free(struct hf_sums_cache *cache)
{
    if (!cache) {
        return;
    }
    while (!TAILQ_EMPTY(&cache->lru)) {
        evict(cache, TAILQ_FIRST(&cache->lru));
    }
    HF_ASSERT(cache->used_bytes == 0);
    free(cache);
}

const uint64_t *hf_sums_cache_get(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes,
                                  uint32_t *ret_count)
{
    struct entry *e = find(cache, segment, off_bytes);

    if (!e) {
        return NULL;
    }
    TAILQ_REMOVE(&cache->lru, e, lru);
    TAILQ_INSERT_HEAD(&cache->lru, e, lru);
    *ret_count = e->count;
    return e->sums;
}

void hf_sums_cache_put(struct hf_sums_cache *cache, uint64_t segment, uint64_t off_bytes,
                       const uint64_t *sums, uint32_t count)
{
    struct entry **slot = slot_of(cache, segment, off_bytes);
    struct entry *e = find(cache, segment, off_bytes);

    if (e) {
        evict(cache, e);
    }
    e = malloc(entry_bytes(count));
    if (!e) {
        return;
    }
    e->segment = segment;
    e->off_bytes = off_bytes;
    e->count = count;
    memcpy(e->sums, sums, sizeof(*sums) * count);
    e->next = *slot;
    *slot = e;
    TAILQ_INSERT_HEAD(&cache->lru, e, lru);
    cache->used_bytes += entry_bytes(count);
    while (cache->used_bytes > cache->max_bytes) {
        evict(cache, TAILQ_LAST(&cache->lru, entries));
    }
}
