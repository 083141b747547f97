/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver - runs a fuzz target without a fuzzing compiler.
 *
 *     fuzz_x [runs] [seed files...]     default 20000 mutations, always the same ones
 *
 * First every seed as it is, then mutations of them. Coverage-guided fuzzing links the target with
 * -fsanitize=fuzzer instead.
 */
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_DEFAULT 20000u
#define SEEDS_MAX    256u
#define INPUT_MAX    (128u << 10)

struct seed {
    uint8_t *data;
    size_t len;
};

static struct seed seeds[SEEDS_MAX];
static size_t seed_count;
static uint64_t random_state = 42;

static uint64_t rnd(void)
{
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static size_t below(size_t n)
{
    return n ? (size_t)(rnd() % n) : 0;
}

static void add_seed(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    if (!copy || seed_count == SEEDS_MAX) {
        abort();
    }
    memcpy(copy, data, len);
    seeds[seed_count++] = (struct seed){copy, len};
}

static void add_file(const char *path)
{
    static uint8_t buf[INPUT_MAX];
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        exit(2);
    }
    add_seed(buf, fread(buf, 1, sizeof(buf), f));
    (void)fclose(f);
}

/* One change; returns the new length. */
static size_t mutate(uint8_t *b, size_t len)
{
    static const uint64_t values[] = {
        0,       1,        0x7f,       0x80,       0xff,       0xfff,           0x1000,    0xffff,
        0x10000, 0x100000, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX >> 1, UINT64_MAX};
    size_t at = below(len), n, from;
    uint64_t v;

    switch (below(8)) {
    case 0:
        if (len) {
            b[at] ^= (uint8_t)(1u << below(8));
        }
        return len;
    case 1:
        if (len) {
            b[at] = (uint8_t)rnd();
        }
        return len;
    case 2: /* a telling number, little-endian */
        v = values[below(sizeof(values) / sizeof(values[0]))];
        n = (size_t)1 << below(4);
        if (len >= n) {
            memcpy(b + below(len - n + 1), &v, n);
        }
        return len;
    case 3: /* cut */
        return at;
    case 4: /* take out */
        n = below(len - at) + (len > at);
        memmove(b + at, b + at + n, len - at - n);
        return len - n;
    case 5: /* put in */
        n = 1 + below(16);
        if (len + n > INPUT_MAX) {
            return len;
        }
        memmove(b + at + n, b + at, len - at);
        for (size_t i = 0; i < n; i++) {
            b[at + i] = (uint8_t)rnd();
        }
        return len + n;
    case 6: /* repeat a piece */
        from = below(len);
        n = below(len - from);
        n = n > 4096 ? 4096 : n;
        if (len + n > INPUT_MAX) {
            return len;
        }
        memmove(b + from + n, b + from, len - from);
        return len + n;
    default: { /* go on as another seed does */
        const struct seed *other = &seeds[below(seed_count)];

        from = below(other->len);
        n = other->len - from;
        n = at + n > INPUT_MAX ? INPUT_MAX - at : n;
        memcpy(b + at, other->data + from, n);
        return at + n;
    }
    }
}

int main(int argc, char **argv)
{
    static uint8_t work[INPUT_MAX];
    size_t runs = RUNS_DEFAULT, count = 0;

    for (int i = 1; i < argc; i++) {
        if (isdigit((unsigned char)argv[i][0])) {
            runs = strtoul(argv[i], NULL, 10);
        } else {
            add_file(argv[i]);
        }
    }
    for (size_t len, i = 0; hf_fuzz_seed && (len = hf_fuzz_seed(i, work, sizeof(work))) > 0; i++) {
        add_seed(work, len);
    }
    if (seed_count == 0) {
        add_seed((const uint8_t *)"", 0);
    }
    for (size_t i = 0; i < seed_count; i++, count++) {
        (void)LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].len);
    }
    for (size_t i = 0; i < runs; i++, count++) {
        const struct seed *seed = &seeds[below(seed_count)];
        size_t len = seed->len;
        uint8_t *exact;

        memcpy(work, seed->data, len);
        for (size_t k = 1 + below(3); k > 0; k--) {
            len = mutate(work, len);
        }
        exact = malloc(len ? len : 1); /* so that a read past the end is seen */
        if (!exact) {
            abort();
        }
        memcpy(exact, work, len);
        (void)LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    printf("%zu runs\n", count);
    for (size_t i = 0; i < seed_count; i++) {
        free(seeds[i].data);
    }
    return 0;
}
