/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_draw.c - the operation of a number: a function of the seed and of what the model holds. */
#include "tests/posix/torture/fsx.h"

unsigned fsx_owner(const struct fsx *fsx, uint64_t index)
{
    if (!fsx->drawn) {
        return fsx->ops[index].process % fsx->config->processes;
    }
    return (unsigned)(torture_hash(fsx->config->seed ^ 0x70726f63, index) % fsx->config->processes);
}

/* Small ones, pages, and now and then large ones. */
static uint64_t draw_len(struct torture_rng *rng, uint64_t max)
{
    static const unsigned weights[] = {25, 30, 30, 15};
    static const uint64_t limits[] = {64, 5000, 65536};
    unsigned kind = torture_weighted(rng, weights, 4);
    uint64_t below = kind < 3 && limits[kind] < max ? limits[kind] : max;

    return 1 + torture_draw(rng, below);
}

static uint64_t round_some(struct torture_rng *rng, uint64_t value)
{
    static const uint64_t units[] = {512, 4096, 65536, 1 << 20, 4 << 20};

    if (torture_chance(rng, 30)) {
        uint64_t unit = units[torture_draw(rng, 5)];

        value = value / unit * unit;
        value += torture_chance(rng, 20) && value ? (uint64_t)-1 : 0;
    }
    return value;
}

/* Anywhere, about the end, or in the file. */
static uint64_t draw_off(struct torture_rng *rng, uint64_t size, uint64_t max)
{
    static const unsigned weights[] = {20, 20, 60};
    uint64_t off;

    switch (torture_weighted(rng, weights, 3)) {
    case 0:
        off = torture_draw(rng, max);
        break;
    case 1:
        off = size + torture_draw(rng, 8192);
        off = off > 8192 ? off - torture_draw(rng, 8192) : off;
        break;
    default:
        off = torture_draw(rng, size + 1);
        break;
    }
    off = round_some(rng, off);
    return off < max ? off : max - 1;
}

static uint16_t draw_how(struct torture_rng *rng, enum fsx_kind kind)
{
    uint16_t how = 0;

    how |= torture_chance(rng, 50) ? FSX_CLOSING : 0;
    how |= torture_chance(rng, 50) ? FSX_SOFT : 0;
    how |= torture_chance(rng, 50) ? FSX_KEEP : 0;
    how |= torture_chance(rng, 30) ? FSX_PATH : 0;
    how |= torture_chance(rng, 15) ? FSX_SYNC : 0;
    how |= torture_chance(rng, 50) ? FSX_OTHER : 0;
    if (kind == FSX_READ || kind == FSX_WRITE) {
        static const unsigned weights[] = {40, 12, 22, 10, 8, 8};
        static const uint16_t ways[] = {0,           FSX_DIRECT, FSX_MMAP,
                                        FSX_SEEKING, FSX_VECTOR, FSX_APPEND};

        how |= ways[torture_weighted(rng, weights, 6)];
        how |= how & FSX_MMAP && torture_chance(rng, 50) ? FSX_HELD : 0;
    }
    return how;
}

/* Only what the kind heeds: a line of the log says no more than that. */
static uint16_t heeded(enum fsx_kind kind, uint16_t how)
{
    static const uint16_t heeds[FSX_KIND_COUNT] = {
        [FSX_READ] = FSX_DIRECT | FSX_MMAP | FSX_HELD | FSX_SEEKING | FSX_VECTOR,
        [FSX_WRITE] =
            FSX_DIRECT | FSX_MMAP | FSX_HELD | FSX_SEEKING | FSX_VECTOR | FSX_APPEND | FSX_SYNC,
        [FSX_TRUNCATE] = FSX_PATH,
        [FSX_ZERO] = FSX_KEEP,
        [FSX_ALLOCATE] = FSX_KEEP,
        [FSX_COPY] = FSX_OTHER,
        [FSX_STAT] = FSX_PATH,
        [FSX_FSYNC] = FSX_SYNC,
    };

    return how & (heeds[kind] | FSX_CLOSING | FSX_SOFT);
}

static uint64_t clip(uint64_t off, uint64_t len, uint64_t max)
{
    return len < max - off ? len : max - off;
}

static void draw_copy(struct torture_rng *rng, const struct fsx *fsx, struct fsx_op *op)
{
    uint64_t max = fsx->config->max_bytes, gap;
    unsigned to = op->file ^ (op->how & FSX_OTHER ? 1u : 0u);

    op->to = draw_off(rng, fsx->shared->files[to].size, max);
    op->len = clip(op->to, clip(op->off, op->len, max), max);
    gap = op->to > op->off ? op->to - op->off : op->off - op->to;
    if (to == op->file && gap < op->len) {
        op->len = gap; /* ranges of one file must not overlap; 0: nothing is copied */
    }
}

/* Within @max, and within the file when it is mapped. */
static void fit(const struct fsx *fsx, struct fsx_op *op)
{
    uint64_t max = fsx->config->max_bytes, size = fsx->shared->files[op->file].size;

    if (op->how & FSX_DIRECT) {
        op->off = op->off / FSX_ALIGN * FSX_ALIGN;
        op->len = (op->len + FSX_ALIGN - 1) / FSX_ALIGN * FSX_ALIGN;
    }
    if (op->how & FSX_APPEND) {
        op->off = size < max ? size : max - 1;
    }
    if (op->how & FSX_MMAP && size > 0) {
        op->off = op->off % size;
    }
    op->len = clip(op->off, op->len, max);
}

struct fsx_op fsx_draw(const struct fsx *fsx, uint64_t index)
{
    const struct fsx_config *config = fsx->config;
    struct torture_rng rng = {torture_hash(config->seed, index)};
    enum fsx_kind kind = torture_weighted(&rng, config->weights, FSX_KIND_COUNT);
    struct fsx_op op = {.id = (uint32_t)index,
                        .kind = (uint8_t)kind,
                        .process = (uint8_t)fsx_owner(fsx, index),
                        .file = torture_chance(&rng, 20)};
    const struct fsx_model *model = &fsx->shared->files[op.file];

    op.mount = model->home;
    op.mount ^= config->dirs[1] && torture_chance(&rng, 30);
    op.how = heeded(kind, draw_how(&rng, kind) & config->hows);
    op.off = index && torture_chance(&rng, 25)
                 ? fsx->ops[index - 1].off /* where something just happened */
                 : draw_off(&rng, model->size, config->max_bytes);
    op.len = draw_len(&rng, config->max_bytes);
    if (kind == FSX_COPY) {
        draw_copy(&rng, fsx, &op);
    } else {
        fit(fsx, &op);
    }
    if (kind == FSX_WRITE && op.how & FSX_APPEND && model->size == config->max_bytes) {
        op.kind = FSX_READ;
        op.how = heeded(FSX_READ, op.how);
    }
    return op;
}
