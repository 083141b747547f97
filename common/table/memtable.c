/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/memtable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/bytes.h"

#define CHUNK_BYTES     (64u << 10)
#define CHUNK_LARGE_MIN (CHUNK_BYTES / 4) /* pieces from here get a chunk of their own */
#define POOL_TRIM_MAX   16u               /* chunks freed at a time */
#define FANOUT          32u
#define LEVELS_MAX      16u /* 2^4 rows a level at the very least: never reached */
#define BUCKETS_MIN     64u
#define BUCKETS_HINT    (1u << 20) /* a hint reserves no more than this many */
#define HEAD_BYTES      16u

struct hf_memchunk {
    struct hf_memchunk *next;
    size_t cap;
    uint8_t bytes[] __attribute__((aligned(8)));
};

/* The first bytes of a key, zero-padded, as numbers that order like it. */
struct head {
    uint64_t hi;
    uint64_t lo;
};

struct target {
    struct head head;
    const void *key;
    size_t key_len;
};

/*
 * Entry i: a row and the head of its key. In inner nodes it is the first row that child i held
 * when it was split off; entry 0 stands for everything before entry 1.
 */
struct node {
    uint32_t count;
    uint32_t level; /* 0: leaf */
    uint64_t hi[FANOUT];
    uint64_t lo[FANOUT];
    struct hf_memrow *row[FANOUT];
    struct node *child[]; /* inner nodes: FANOUT */
};

struct hf_memtable {
    struct hf_mempool *pool;
    struct hf_memchunk *chunks; /* of CHUNK_BYTES; the first is being filled */
    struct hf_memchunk *large;
    uint8_t *at;
    uint8_t *end;
    size_t bytes;

    struct node *root;
    struct hf_memrow *first;
    size_t count;
    size_t tombstones;

    struct hf_memrow **buckets;
    size_t bucket_mask;
};

/* Arena */

static struct hf_memchunk *chunk_new(size_t cap)
{
    struct hf_memchunk *chunk = malloc(sizeof(*chunk) + cap);

    if (chunk) {
        chunk->cap = cap;
        chunk->next = NULL;
    }
    return chunk;
}

static void chunks_free(struct hf_memchunk *chunk)
{
    while (chunk) {
        struct hf_memchunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
}

static struct hf_memchunk *pool_take(struct hf_mempool *pool)
{
    struct hf_memchunk *chunk;

    if (!pool || !pool->free) {
        return chunk_new(CHUNK_BYTES);
    }
    chunk = pool->free;
    pool->free = chunk->next;
    pool->count--;
    if (pool->low > pool->count) {
        pool->low = pool->count;
    }
    return chunk;
}

static void pool_give(struct hf_mempool *pool, struct hf_memchunk *chunk)
{
    while (chunk) {
        struct hf_memchunk *next = chunk->next;

        chunk->next = pool->free;
        pool->free = chunk;
        pool->count++;
        chunk = next;
    }
}

void hf_mempool_trim(struct hf_mempool *pool)
{
    size_t idle = pool->low < POOL_TRIM_MAX ? pool->low : POOL_TRIM_MAX;

    for (size_t i = 0; i < idle; i++) {
        struct hf_memchunk *chunk = pool->free;

        pool->free = chunk->next;
        pool->count--;
        free(chunk);
    }
    pool->low = pool->count;
}

void hf_mempool_fini(struct hf_mempool *pool)
{
    chunks_free(pool->free);
    *pool = (struct hf_mempool){0};
}

static void *arena_alloc(struct hf_memtable *mt, size_t size)
{
    struct hf_memchunk *chunk;
    uint8_t *p;

    size = (size + 7) & ~(size_t)7;
    if (size > (size_t)(mt->end - mt->at)) {
        if (size >= CHUNK_LARGE_MIN) {
            chunk = chunk_new(size);
            if (!chunk) {
                return NULL;
            }
            chunk->next = mt->large;
            mt->large = chunk;
            mt->bytes += size;
            return chunk->bytes;
        }
        chunk = pool_take(mt->pool);
        if (!chunk) {
            return NULL;
        }
        chunk->next = mt->chunks;
        mt->chunks = chunk;
        mt->at = chunk->bytes;
        mt->end = chunk->bytes + chunk->cap;
    }
    p = mt->at;
    mt->at += size;
    mt->bytes += size;
    return p;
}

/* Keys */

int hf_memrow_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static struct target target_of(const void *key, size_t key_len)
{
    uint8_t head[HEAD_BYTES] = {0};

    memcpy(head, key, key_len < HEAD_BYTES ? key_len : HEAD_BYTES);
    return (struct target){
        .head = {.hi = hf_get_be64(head), .lo = hf_get_be64(head + 8)},
        .key = key,
        .key_len = key_len,
    };
}

/*
 * Order of entry @i against @t. Heads that differ order like the keys: where one key ends inside
 * its head, the padding is a zero that the other key exceeds there, and a prefix comes first.
 */
static inline int entry_cmp(const struct node *node, uint32_t i, const struct target *t)
{
    if (node->hi[i] != t->head.hi) {
        return node->hi[i] < t->head.hi ? -1 : 1;
    }
    if (node->lo[i] != t->head.lo) {
        return node->lo[i] < t->head.lo ? -1 : 1;
    }
    return hf_memrow_cmp(node->row[i]->key, node->row[i]->key_len, t->key, t->key_len);
}

/* The first entry that is >= @t (or > @t when @after), or count. */
static uint32_t node_bound(const struct node *node, const struct target *t, bool after)
{
    uint32_t from = 0, to = node->count;

    while (from < to) {
        uint32_t mid = (from + to) / 2;
        int order = entry_cmp(node, mid, t);

        if (order < 0 || (after && order == 0)) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return from;
}

static uint32_t node_child(const struct node *node, const struct target *t)
{
    uint32_t i = node_bound(node, t, true);

    return i ? i - 1 : 0;
}

/* Tree: nodes are split on the way down, so that an insertion never has to climb. */

static struct node *node_new(struct hf_memtable *mt, uint32_t level)
{
    struct node *node;

    node = arena_alloc(mt, sizeof(*node) + (level ? FANOUT * sizeof(node->child[0]) : 0));
    if (node) {
        node->count = 0;
        node->level = level;
    }
    return node;
}

static void node_open_gap(struct node *node, uint32_t i)
{
    size_t tail = node->count - i;

    memmove(&node->hi[i + 1], &node->hi[i], tail * sizeof(node->hi[0]));
    memmove(&node->lo[i + 1], &node->lo[i], tail * sizeof(node->lo[0]));
    memmove(&node->row[i + 1], &node->row[i], tail * sizeof(node->row[0]));
    if (node->level) {
        memmove(&node->child[i + 1], &node->child[i], tail * sizeof(node->child[0]));
    }
    node->count++;
}

static void node_move_tail(struct node *to, struct node *from, uint32_t i)
{
    size_t tail = from->count - i;

    memcpy(to->hi, &from->hi[i], tail * sizeof(to->hi[0]));
    memcpy(to->lo, &from->lo[i], tail * sizeof(to->lo[0]));
    memcpy(to->row, &from->row[i], tail * sizeof(to->row[0]));
    if (from->level) {
        memcpy(to->child, &from->child[i], tail * sizeof(to->child[0]));
    }
    to->count = (uint32_t)tail;
    from->count = i;
}

/* Rows that come in key order would leave half-empty nodes behind: split those near the end. */
static int split_child(struct hf_memtable *mt, struct node *parent, uint32_t i,
                       const struct target *t)
{
    struct node *left = parent->child[i];
    struct node *right = node_new(mt, left->level);
    bool append = i == parent->count - 1 && entry_cmp(left, FANOUT - 1, t) < 0;

    if (!right) {
        return -ENOMEM;
    }
    HF_ASSERT(left->count == FANOUT && parent->count < FANOUT);
    node_move_tail(right, left, append ? FANOUT - 1 : FANOUT / 2);
    node_open_gap(parent, i + 1);
    parent->hi[i + 1] = right->hi[0];
    parent->lo[i + 1] = right->lo[0];
    parent->row[i + 1] = right->row[0];
    parent->child[i + 1] = right;
    return 0;
}

static int grow_root(struct hf_memtable *mt, const struct target *t)
{
    struct node *old = mt->root;
    struct node *root = node_new(mt, old ? old->level + 1 : 0);

    if (!root) {
        return -ENOMEM;
    }
    if (old) {
        root->count = 1;
        root->hi[0] = old->hi[0];
        root->lo[0] = old->lo[0];
        root->row[0] = old->row[0];
        root->child[0] = old;
        if (split_child(mt, root, 0, t)) {
            return -ENOMEM;
        }
    }
    mt->root = root;
    return 0;
}

/* The leaf that @t belongs in, with room for it. */
static int leaf_for_insert(struct hf_memtable *mt, const struct target *t, struct node **ret)
{
    struct node *node;
    int err;

    if (!mt->root || mt->root->count == FANOUT) {
        err = grow_root(mt, t);
        if (err) {
            return err;
        }
    }
    node = mt->root;
    HF_ASSERT(node->level < LEVELS_MAX);
    while (node->level) {
        uint32_t i = node_child(node, t);

        if (node->child[i]->count == FANOUT) {
            err = split_child(mt, node, i, t);
            if (err) {
                return err;
            }
            if (entry_cmp(node, i + 1, t) < 0) {
                i++;
            }
        }
        node = node->child[i];
    }
    *ret = node;
    return 0;
}

static int tree_insert(struct hf_memtable *mt, struct hf_memrow *row)
{
    struct target t = target_of(row->key, row->key_len);
    struct node *leaf;
    uint32_t i;
    int err = leaf_for_insert(mt, &t, &leaf);

    if (err) {
        return err;
    }
    i = node_bound(leaf, &t, false);
    node_open_gap(leaf, i);
    leaf->hi[i] = t.head.hi;
    leaf->lo[i] = t.head.lo;
    leaf->row[i] = row;
    if (i) {
        row->next = leaf->row[i - 1]->next;
        leaf->row[i - 1]->next = row;
    } else {
        /* A leaf begins with the row it was split at, so only the first one can grow in front. */
        row->next = mt->first;
        mt->first = row;
    }
    return 0;
}

struct hf_memrow *hf_memtable_seek(const struct hf_memtable *mt, const void *key, size_t key_len)
{
    const struct node *node = mt->root;
    struct target t;
    uint32_t i;

    if (!key_len || !node) {
        return mt->first;
    }
    t = target_of(key, key_len);
    while (node->level) {
        node = node->child[node_child(node, &t)];
    }
    i = node_bound(node, &t, false);
    return i < node->count ? node->row[i] : node->row[i - 1]->next;
}

/* Buckets */

static void buckets_fill(struct hf_memtable *mt)
{
    for (struct hf_memrow *row = mt->first; row; row = row->next) {
        struct hf_memrow **bucket = &mt->buckets[row->key_hash & mt->bucket_mask];

        row->chain = *bucket;
        *bucket = row;
    }
}

static void buckets_grow(struct hf_memtable *mt)
{
    size_t count = (mt->bucket_mask + 1) * 4;
    struct hf_memrow **buckets = calloc(count, sizeof(*buckets));

    if (!buckets) {
        return; /* longer chains are slower, not wrong */
    }
    free(mt->buckets);
    mt->buckets = buckets;
    mt->bucket_mask = count - 1;
    buckets_fill(mt);
}

struct hf_memrow *hf_memtable_find(const struct hf_memtable *mt, uint64_t key_hash, const void *key,
                                   size_t key_len)
{
    struct hf_memrow *row = mt->buckets[key_hash & mt->bucket_mask];

    while (row) {
        if (row->key_hash == key_hash && row->key_len == key_len &&
            memcmp(row->key, key, key_len) == 0) {
            break;
        }
        row = row->chain;
    }
    return row;
}

/* Changes */

static int row_add(struct hf_memtable *mt, const struct hf_memchange *change)
{
    size_t head = offsetof(struct hf_memrow, key) + change->key_len;
    struct hf_memrow *row = arena_alloc(mt, head + change->value_len);
    struct hf_memrow **bucket;

    if (!row) {
        return -ENOMEM;
    }
    *row = (struct hf_memrow){
        .key_hash = change->key_hash,
        .hash = change->hash,
        .value = (uint8_t *)row + head,
        .value_len = (uint32_t)change->value_len,
        .value_cap = (uint32_t)change->value_len,
        .key_len = (uint16_t)change->key_len,
        .deleted = change->deleted,
        .below = change->below,
    };
    memcpy(row->key, change->key, change->key_len);
    if (change->value_len) {
        memcpy(row->value, change->value, change->value_len);
    }
    if (tree_insert(mt, row)) {
        return -ENOMEM;
    }
    bucket = &mt->buckets[change->key_hash & mt->bucket_mask];
    row->chain = *bucket;
    *bucket = row;
    mt->count++;
    mt->tombstones += change->deleted;
    if (mt->count > 2 * (mt->bucket_mask + 1)) {
        buckets_grow(mt);
    }
    return 0;
}

static int row_change(struct hf_memtable *mt, struct hf_memrow *row,
                      const struct hf_memchange *change)
{
    if (change->value_len > row->value_cap) {
        /* Values that grow, grow again: vectors of extents. */
        size_t cap = change->value_len + change->value_len / 2;
        uint8_t *value = arena_alloc(mt, cap);

        if (!value) {
            return -ENOMEM;
        }
        memcpy(value, change->value, change->value_len);
        row->value = value;
        row->value_cap = (uint32_t)cap;
    } else if (change->value_len) {
        memmove(row->value, change->value, change->value_len);
    }
    mt->tombstones += change->deleted;
    mt->tombstones -= row->deleted;
    row->value_len = (uint32_t)change->value_len;
    row->hash = change->hash;
    row->deleted = change->deleted;
    row->below = (row->below && !HF_BUG(below_forgotten)) || change->below;
    return 0;
}

int hf_memtable_apply(struct hf_memtable *mt, struct hf_memrow *row,
                      const struct hf_memchange *change)
{
    return row ? row_change(mt, row, change) : row_add(mt, change);
}

int hf_memtable_absorb(struct hf_memtable *mt, const struct hf_memtable *newer)
{
    int err = 0;

    for (const struct hf_memrow *row = newer->first; row && !err; row = row->next) {
        const struct hf_memchange change = {
            .key = row->key,
            .key_len = row->key_len,
            .key_hash = row->key_hash,
            .value = row->value,
            .value_len = row->value_len,
            .hash = row->hash,
            .deleted = row->deleted,
            .below = row->below,
        };

        err = hf_memtable_apply(mt, hf_memtable_find(mt, row->key_hash, row->key, row->key_len),
                                &change);
    }
    return err;
}

/* Lifecycle */

struct hf_memtable *hf_memtable_new(struct hf_mempool *pool, size_t rows_hint)
{
    struct hf_memtable *mt = calloc(1, sizeof(*mt));
    size_t buckets = BUCKETS_MIN;

    if (!mt) {
        return NULL;
    }
    while (buckets < rows_hint && buckets < BUCKETS_HINT) {
        buckets *= 2;
    }
    mt->pool = pool;
    mt->bucket_mask = buckets - 1;
    mt->buckets = calloc(buckets, sizeof(struct hf_memrow *));
    if (!mt->buckets) {
        free(mt);
        return NULL;
    }
    return mt;
}

void hf_memtable_free(struct hf_memtable *mt)
{
    if (!mt) {
        return;
    }
    chunks_free(mt->large);
    if (mt->pool) {
        pool_give(mt->pool, mt->chunks);
    } else {
        chunks_free(mt->chunks);
    }
    free(mt->buckets);
    free(mt);
}

size_t hf_memtable_count(const struct hf_memtable *mt)
{
    return mt->count;
}

size_t hf_memtable_tombstones(const struct hf_memtable *mt)
{
    return mt->tombstones;
}

size_t hf_memtable_bytes(const struct hf_memtable *mt)
{
    return mt->bytes;
}

void hf_memtable_check_invariants(const struct hf_memtable *mt)
{
    const struct hf_memrow *previous = NULL;
    size_t count = 0, tombstones = 0;

    for (const struct hf_memrow *row = mt->first; row; row = row->next) {
        HF_ASSERT(row->key_hash == hf_memrow_key_hash(row->key, row->key_len));
        HF_ASSERT(hf_memtable_find(mt, row->key_hash, row->key, row->key_len) == row);
        HF_ASSERT(hf_memtable_seek(mt, row->key, row->key_len) == row);
        HF_ASSERT(row->value_len <= row->value_cap);
        HF_ASSERT(!row->deleted || row->value_len == 0);
        HF_ASSERT(row->deleted ||
                  row->hash == hf_memrow_hash(row->key_hash, row->value, row->value_len));
        HF_ASSERT(!previous ||
                  hf_memrow_cmp(previous->key, previous->key_len, row->key, row->key_len) < 0);
        previous = row;
        count++;
        tombstones += row->deleted;
    }
    HF_ASSERT(count == mt->count && tombstones == mt->tombstones);
}
