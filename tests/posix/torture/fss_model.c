/* SPDX-License-Identifier: Apache-2.0 */
/* fss_model.c - one process's own directory as it must be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/posix/torture/fsstress.h"

#define PATHS 8u

void fss_model_init(struct fss_model *model)
{
    memset(model, 0, sizeof(*model));
    model->nodes[FSS_ROOT] = (struct fss_node){
        .used = true, .type = FSS_DIR, .mode = 0755, .nlink = 1, .entry = FSS_NONE};
    model->dirs[0] = FSS_ROOT;
    model->dir_count = 1;
}

/* Short ones, a long one, one that is no ASCII. */
const char *fss_name(uint8_t name)
{
    static const char *const names[FSS_NAMES] = {
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
        "i",
        "j",
        "k",
        "a b",
        "l.tmp",
        "\xc3\xa9t\xc3\xa9",
        "a-name-that-is-longer-than-the-others-0123456789-0123456789-0123456789",
        "-"};

    return names[name % FSS_NAMES];
}

uint32_t fss_find(const struct fss_model *model, uint32_t dir, uint8_t name)
{
    for (uint32_t i = 0; i < FSS_ENTRIES; i++) {
        const struct fss_entry *entry = &model->entries[i];

        if (entry->used && entry->dir == dir && entry->name == name) {
            return i;
        }
    }
    return FSS_NONE;
}

static uint32_t free_entry(const struct fss_model *model)
{
    for (uint32_t i = 0; i < FSS_ENTRIES; i++) {
        if (!model->entries[i].used) {
            return i;
        }
    }
    return FSS_NONE;
}

static void count_child(struct fss_model *model, uint32_t entry, uint32_t by)
{
    struct fss_node *dir = &model->nodes[model->entries[entry].dir];
    struct fss_node *node = &model->nodes[model->entries[entry].node];

    dir->children += by;
    if (node->type == FSS_DIR) {
        dir->subdirs += by;
        node->entry = entry;
    }
}

bool fss_add_entry(struct fss_model *model, uint32_t dir, uint8_t name, uint32_t node)
{
    uint32_t i = free_entry(model);

    if (i == FSS_NONE) {
        return false;
    }
    model->entries[i] = (struct fss_entry){.used = true, .name = name, .dir = dir, .node = node};
    model->nodes[node].nlink++;
    model->entry_count++;
    count_child(model, i, 1);
    return true;
}

uint32_t fss_add(struct fss_model *model, uint32_t dir, uint8_t name, enum fss_type type,
                 mode_t mode)
{
    uint32_t node = 0;

    while (node < FSS_NODES && model->nodes[node].used) {
        node++;
    }
    if (node == FSS_NODES || (type == FSS_DIR && model->dir_count == FSS_DIRS_MAX)) {
        return FSS_NONE;
    }
    model->nodes[node] = (struct fss_node){.used = true, .type = type, .mode = mode};
    if (!fss_add_entry(model, dir, name, node)) {
        model->nodes[node].used = false;
        return FSS_NONE;
    }
    if (type == FSS_DIR) {
        model->dirs[model->dir_count++] = node;
    }
    return node;
}

void fss_settle(struct fss_model *model, uint32_t node)
{
    struct fss_node *n = &model->nodes[node];

    if (n->nlink > 0 || n->held > 0) {
        return;
    }
    if (n->type == FSS_DIR) {
        uint32_t i = 0;

        while (model->dirs[i] != node) {
            i++;
        }
        model->dirs[i] = model->dirs[--model->dir_count];
    }
    free(n->bytes);
    memset(n, 0, sizeof(*n));
}

void fss_remove_entry(struct fss_model *model, uint32_t entry)
{
    uint32_t node = model->entries[entry].node;

    count_child(model, entry, (uint32_t)-1);
    model->entries[entry].used = false;
    model->entry_count--;
    model->nodes[node].nlink--;
    fss_settle(model, node);
}

void fss_move_entry(struct fss_model *model, uint32_t entry, uint32_t dir, uint8_t name)
{
    count_child(model, entry, (uint32_t)-1);
    model->entries[entry].dir = dir;
    model->entries[entry].name = name;
    count_child(model, entry, 1);
}

void fss_swap_entries(struct fss_model *model, uint32_t a, uint32_t b)
{
    uint32_t node = model->entries[a].node;

    count_child(model, a, (uint32_t)-1);
    count_child(model, b, (uint32_t)-1);
    model->entries[a].node = model->entries[b].node;
    model->entries[b].node = node;
    count_child(model, a, 1);
    count_child(model, b, 1);
}

bool fss_is_below(const struct fss_model *model, uint32_t dir, uint32_t above)
{
    while (dir != above && dir != FSS_ROOT) {
        dir = model->entries[model->nodes[dir].entry].dir;
    }
    return dir == above;
}

void fss_set_size(struct fss_node *node, uint32_t size)
{
    if (!node->bytes) {
        node->bytes = calloc(1, FSS_FILE_BYTES);
        if (!node->bytes) {
            abort();
        }
    }
    if (size < node->size) {
        memset(node->bytes + size, 0, node->size - size);
    }
    node->size = size;
}

/* Paths */

static size_t put_dir(const struct fss *fss, unsigned mount, uint32_t dir, char *path)
{
    const struct fss_node *node = &fss->model->nodes[dir];
    uint32_t chain[FSS_DIRS_MAX], depth = 0;
    int n = snprintf(path, PATH_MAX, "%s/p%u", fss->base[mount], fss->process);
    size_t len = (size_t)n;

    for (; node->entry != FSS_NONE;
         node = &fss->model->nodes[fss->model->entries[node->entry].dir]) {
        chain[depth++] = node->entry;
    }
    while (depth > 0) {
        n = snprintf(path + len, PATH_MAX - len, "/%s",
                     fss_name(fss->model->entries[chain[--depth]].name));
        len += (size_t)n;
    }
    return len;
}

static char *next_path(void)
{
    static char paths[PATHS][2 * PATH_MAX];
    static unsigned next;

    return paths[next++ % PATHS];
}

const char *fss_dir_path(const struct fss *fss, unsigned mount, uint32_t dir)
{
    char *path = next_path();

    (void)put_dir(fss, mount, dir, path);
    return path;
}

const char *fss_path(const struct fss *fss, unsigned mount, uint32_t dir, uint8_t name)
{
    char *path = next_path();
    size_t len = put_dir(fss, mount, dir, path);

    (void)snprintf(path + len, 2 * PATH_MAX - len, "/%s", fss_name(name));
    return path;
}
