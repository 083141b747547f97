/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_store - what one store does on this disk, without network.
 *
 *     bench_store DIR [object MiB in all]        DIR is made; remove it afterwards
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum/checksum.h"
#include "common/env/env_real.h"
#include "server/store/store.h"

#define SLOTS_MAX 64u

struct slot {
    struct bench *b;
    struct hf_store_put put;
    struct hf_store_get get;
    struct hf_buf *bufs[4];
    uint64_t *sums;
    uint64_t started_ns;
};

struct bench {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_store *store;
    struct slot slots[SLOTS_MAX];
    uint32_t object_bytes;
    uint64_t next, count, finished;
    uint64_t base_seq;
    uint64_t *ns;
    int err;
    bool reading;
};

static void start(struct slot *slot);

static void finish(void *ctx, int err)
{
    struct slot *slot = ctx;
    struct bench *b = slot->b;

    if (err && !b->err) {
        b->err = err;
    }
    if (b->reading && !err) {
        hf_buf_unref(slot->get.buf);
        hf_buf_unref(slot->get.sums_buf);
    }
    b->ns[b->finished++] = hf_env_mono_ns(b->env) - slot->started_ns;
    if (b->next < b->count) {
        start(slot);
    } else if (b->finished == b->count) {
        hf_env_real_stop(b->env);
    }
}

static void start(struct slot *slot)
{
    struct bench *b = slot->b;
    struct hf_oid oid = {.group = 1, .session = 1, .seq = b->base_seq + b->next++};

    slot->started_ns = hf_env_mono_ns(b->env);
    if (b->reading) {
        oid.seq = b->base_seq + hf_env_random_u64(b->env) % b->count;
        slot->get = (struct hf_store_get){
            .oid = oid, .range = {.len_bytes = b->object_bytes}, .done = finish, .ctx = slot};
        hf_store_get(b->store, &slot->get);
        return;
    }
    slot->put = (struct hf_store_put){.oid = oid,
                                      .len_bytes = b->object_bytes,
                                      .bufs = slot->bufs,
                                      .buf_count = (b->object_bytes + (1u << 20) - 1) >> 20,
                                      .sums = slot->sums,
                                      .done = finish,
                                      .ctx = slot};
    hf_store_put(b->store, &slot->put);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void run(struct bench *b, const char *name, uint32_t object_bytes, uint64_t count,
                uint32_t depth, bool reading)
{
    uint64_t from, ns;

    b->object_bytes = object_bytes;
    b->count = count;
    b->next = b->finished = 0;
    b->reading = reading;
    b->ns = calloc(count, sizeof(*b->ns));
    from = hf_env_mono_ns(b->env);
    for (uint32_t i = 0; i < depth; i++) {
        start(&b->slots[i]);
    }
    (void)hf_env_real_run(b->env);
    ns = hf_env_mono_ns(b->env) - from;
    qsort(b->ns, count, sizeof(*b->ns), by_value);
    printf("%-28s %8.0f MB/s %9.0f /s   p50 %6.0f us  p99 %6.0f us%s\n", name,
           (double)count * object_bytes * 1e3 / (double)ns, (double)count * 1e9 / (double)ns,
           (double)b->ns[count / 2] / 1e3, (double)b->ns[count * 99 / 100] / 1e3,
           b->err ? "  FAILED" : "");
    free(b->ns);
    if (!reading) {
        b->base_seq += count;
    }
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct hf_store_options options = {.cluster = {{1}}, .node = {1}};
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
    char *error = NULL;

    if (argc < 2 || hf_env_real_new(&(struct hf_env_real_options){.cpu = -1}, &b.env) != 0 ||
        hf_bufpool_new(256u << 20, 0, &b.pool) != 0) {
        (void)fprintf(stderr, "usage: bench_store DIR [MiB]\n");
        return 2;
    }
    options.dir = argv[1];
    options.pool = b.pool;
    if (hf_store_open(b.env, &options, &b.store, &error) != 0) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    for (uint32_t i = 0; i < SLOTS_MAX; i++) {
        struct slot *slot = &b.slots[i];

        slot->b = &b;
        slot->sums = calloc(HF_OBJECT_BLOCKS_MAX, sizeof(*slot->sums));
        for (uint32_t k = 0; k < 4 && (i < 8 || k == 0); k++) {
            slot->bufs[k] = hf_buf_get(b.pool, i < 8 ? 1u << 20 : 4096);
            memset(slot->bufs[k]->data, (int)(i + k), i < 8 ? 1u << 20 : 4096);
            slot->bufs[k]->len_bytes = i < 8 ? 1u << 20 : 4096;
        }
    }
    b.base_seq = hf_env_random_u64(b.env) & 0xffffffffff;
    run(&b, "put 4 MiB, 1 at a time", 4u << 20, mib / 8, 1, false);
    run(&b, "put 4 MiB, 4 at a time", 4u << 20, mib / 4, 4, false);
    b.base_seq -= mib / 4;
    run(&b, "get 4 MiB, 4 at a time", 4u << 20, mib / 4, 4, true);
    b.base_seq += mib / 4;
    run(&b, "put 4 KiB, 1 at a time", 4096, 3000, 1, false);
    run(&b, "put 4 KiB, 64 at a time", 4096, 50000, 64, false);
    b.base_seq -= 50000;
    run(&b, "get 4 KiB, 1 at a time", 4096, 20000, 1, true);
    run(&b, "get 4 KiB, 64 at a time", 4096, 50000, 64, true);
    run(&b, "get 4 KiB again", 4096, 50000, 64, true);
    return b.err ? 1 : 0;
}
