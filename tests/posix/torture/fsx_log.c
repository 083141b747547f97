/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_log.c - operations as lines, "17 p0 m1 f0 write off=4096 len=100 direct", and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/posix/torture/fsx.h"

static const char *const kinds[FSX_KIND_COUNT] = {
#define X(name, text, weight) [FSX_##name] = text,
    FSX_KINDS(X)
#undef X
};

static const char *const hows[FSX_HOW_COUNT] = {
#define X(name, text) [FSX_BIT_##name] = text,
    FSX_HOWS(X)
#undef X
};

void fsx_op_text(const struct fsx_op *op, char *text, size_t size)
{
    size_t n = 0;
    int add = snprintf(text, size, "%u p%u m%u f%u %s off=%llu", op->id, op->process, op->mount,
                       op->file, kinds[op->kind], (unsigned long long)op->off);

    n = add > 0 ? (size_t)add : 0;
    if (op->kind != FSX_TRUNCATE && n < size) {
        add = snprintf(text + n, size - n, " len=%llu", (unsigned long long)op->len);
        n += add > 0 ? (size_t)add : 0;
    }
    if (op->kind == FSX_COPY && n < size) {
        add = snprintf(text + n, size - n, " to=%llu", (unsigned long long)op->to);
        n += add > 0 ? (size_t)add : 0;
    }
    for (unsigned i = 0; i < FSX_HOW_COUNT && n < size; i++) {
        if (op->how & 1u << i) {
            add = snprintf(text + n, size - n, " %s", hows[i]);
            n += add > 0 ? (size_t)add : 0;
        }
    }
}

static bool find(const char *const *names, unsigned count, const char *name, unsigned *ret)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool parse_word(const char *word, struct fsx_op *op)
{
    unsigned index;

    if (strncmp(word, "off=", 4) == 0) {
        return torture_number(word + 4, &op->off);
    }
    if (strncmp(word, "len=", 4) == 0) {
        return torture_number(word + 4, &op->len);
    }
    if (strncmp(word, "to=", 3) == 0) {
        return torture_number(word + 3, &op->to);
    }
    if (find(hows, FSX_HOW_COUNT, word, &index)) {
        op->how = (uint16_t)(op->how | 1u << index);
        return true;
    }
    return false;
}

bool fsx_op_parse(const char *line, struct fsx_op *ret)
{
    unsigned id, process, mount, file, kind;
    char name[32], rest[256], *save = NULL;
    int at = 0;

    memset(ret, 0, sizeof(*ret));
    if (sscanf(line, "%u p%u m%u f%u %31s%n", &id, &process, &mount, &file, name, &at) != 5 ||
        process >= TORTURE_PROCESSES || mount >= FSX_MOUNTS || file >= FSX_FILES ||
        !find(kinds, FSX_KIND_COUNT, name, &kind) || strlen(line + at) >= sizeof(rest)) {
        return false;
    }
    *ret = (struct fsx_op){.id = id,
                           .process = (uint8_t)process,
                           .mount = (uint8_t)mount,
                           .file = (uint8_t)file,
                           .kind = (uint8_t)kind};
    (void)strcpy(rest, line + at);
    for (char *word = strtok_r(rest, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        if (!parse_word(word, ret)) {
            return false;
        }
    }
    return true;
}

/* What the tool may do with it: files stay below their largest size. */
static bool is_within(const struct fsx_config *config, const struct fsx_op *op)
{
    uint64_t max = config->max_bytes;

    return op->off <= max && op->len <= max - op->off && op->to <= max &&
           (op->kind != FSX_COPY || op->len <= max - op->to) && (op->mount == 0 || config->dirs[1]);
}

uint64_t fsx_log_read(const char *path, const struct fsx_config *config, struct fsx_op **ret)
{
    FILE *file = fopen(path, "re");
    char line[512];
    uint64_t lines = 0, n = 0;
    struct fsx_op *ops;

    if (!file) {
        fprintf(stderr, "holdfast-fsx: %s: %s\n", path, strerror(errno));
        return 0;
    }
    while (fgets(line, sizeof(line), file)) {
        lines++;
    }
    rewind(file);
    ops = torture_shared_memory((lines + 1) * sizeof(*ops));
    for (uint64_t i = 0; i < lines && fgets(line, sizeof(line), file); i++) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        if (!fsx_op_parse(line, &ops[n]) || !is_within(config, &ops[n])) {
            fprintf(stderr, "holdfast-fsx: %s:%llu: no operation that --size and --dir2 allow\n",
                    path, (unsigned long long)i + 1);
            n = 0;
            break;
        }
        n++;
    }
    (void)fclose(file);
    *ret = ops;
    return n;
}

bool fsx_log_write(const char *path, const struct fsx_op *ops, uint64_t count)
{
    FILE *file = fopen(path, "we");
    char text[256];

    if (!file) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        fsx_op_text(&ops[i], text, sizeof(text));
        fprintf(file, "%s\n", text);
    }
    return fclose(file) == 0;
}

bool fsx_leave_out(struct fsx_config *config, const char *name)
{
    unsigned index;

    if (find(kinds, FSX_KIND_COUNT, name, &index)) {
        config->weights[index] = 0;
        return true;
    }
    if (find(hows, FSX_HOW_COUNT, name, &index)) {
        config->hows = (uint16_t)(config->hows & ~(1u << index));
        return true;
    }
    return false;
}
