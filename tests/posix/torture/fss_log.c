/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fss_log.c - operations drawn from the seed, and as lines and back:
 * "17 p1 m0 rename dir=3 name=4 dir2=9 name2=4 value=17 # d/a -> d/b/a"
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/posix/torture/fsstress.h"

static const char *const kinds[FSS_KIND_COUNT] = {
#define X(name, text, weight) [FSS_##name] = text,
    FSS_KINDS(X)
#undef X
};

struct fss_op fss_draw(const struct fss_config *config, unsigned process, uint64_t index)
{
    struct torture_rng rng = {torture_hash(config->seed * 64 + process, index)};
    struct fss_op op = {.id = (uint32_t)index, .process = (uint8_t)process};

    op.kind = (uint8_t)torture_weighted(&rng, config->weights, FSS_KIND_COUNT);
    op.mount = config->dirs[1] && torture_chance(&rng, 50);
    op.dir = (uint16_t)torture_next(&rng);
    op.dir2 = torture_chance(&rng, 40) ? op.dir : (uint16_t)torture_next(&rng);
    op.name = (uint8_t)torture_draw(&rng, FSS_NAMES);
    op.name2 = (uint8_t)torture_draw(&rng, FSS_NAMES);
    op.value = (uint32_t)torture_next(&rng);
    return op;
}

/* Below the process's own directory. */
static const char *short_path(const struct fss *fss, const char *path)
{
    size_t base = strlen(fss->base[0]);

    return strlen(path) > base ? path + base + 1 : path;
}

void fss_op_text(const struct fss *fss, const struct fss_op *op, char *text, size_t size)
{
    const struct fss_model *model = fss->model;
    uint32_t dir = model->dirs[op->dir % model->dir_count];
    uint32_t dir2 = model->dirs[op->dir2 % model->dir_count];
    bool two = op->kind == FSS_LINK_TO || op->kind == FSS_RENAME || op->kind == FSS_NOREPLACE ||
               op->kind == FSS_EXCHANGE;
    int n = snprintf(text, size, "%u p%u m%u %s dir=%u name=%u dir2=%u name2=%u value=%u", op->id,
                     op->process, op->mount, kinds[op->kind], op->dir, op->name, op->dir2,
                     op->name2, op->value);

    if (op->kind < FSS_HELD_READ && n > 0 && (size_t)n < size) {
        (void)snprintf(text + n, size - (size_t)n, " # %s%s%s",
                       short_path(fss, fss_path(fss, 0, dir, op->name)), two ? " -> " : "",
                       two ? short_path(fss, fss_path(fss, 0, dir2, op->name2)) : "");
    }
}

bool fss_op_parse(const char *line, struct fss_op *ret)
{
    unsigned process, mount, dir, name, dir2, name2;
    char kind[32];

    memset(ret, 0, sizeof(*ret));
    if (sscanf(line, "%u p%u m%u %31s dir=%u name=%u dir2=%u name2=%u value=%u", &ret->id, &process,
               &mount, kind, &dir, &name, &dir2, &name2, &ret->value) != 9 ||
        process >= TORTURE_PROCESSES || mount >= FSS_MOUNTS || name >= FSS_NAMES ||
        name2 >= FSS_NAMES || dir > UINT16_MAX || dir2 > UINT16_MAX) {
        return false;
    }
    while (ret->kind < FSS_KIND_COUNT && strcmp(kinds[ret->kind], kind) != 0) {
        ret->kind++;
    }
    ret->process = (uint8_t)process;
    ret->mount = (uint8_t)mount;
    ret->dir = (uint16_t)dir;
    ret->name = (uint8_t)name;
    ret->dir2 = (uint16_t)dir2;
    ret->name2 = (uint8_t)name2;
    return ret->kind < FSS_KIND_COUNT;
}

struct fss_op *fss_log_read(const char *path, const struct fss_config *config, uint64_t *ret_count)
{
    FILE *file = fopen(path, "re");
    struct fss_op *ops = NULL;
    char *line = NULL;
    size_t cap = 0, room = 0;
    uint64_t n = 0;
    bool fine = file != NULL;

    while (fine && getline(&line, &cap, file) > 0) {
        if (n == room) {
            room = room * 2 + 1024;
            ops = reallocarray(ops, room, sizeof(*ops));
            fine = ops != NULL;
        }
        if (fine && line[0] != '#') {
            fine = fss_op_parse(line, &ops[n]) && (ops[n].mount == 0 || config->dirs[1]);
            n++;
        }
    }
    if (!fine || n == 0) {
        fprintf(stderr, "holdfast-fsstress: %s: %s (line %llu)\n", path,
                file ? "no operation, or of a second mount" : strerror(errno),
                (unsigned long long)n);
        free(ops);
        ops = NULL;
    }
    free(line);
    if (file) {
        (void)fclose(file);
    }
    *ret_count = n;
    return ops;
}
