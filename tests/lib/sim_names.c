/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sim_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

#define NAME_BYTES_MAX 255u

struct place {
    struct hf_sim_inode *dir; /* counted; NULL: nowhere */
    char *name;
};

struct hf_sim_change {
    struct hf_sim_change *next;
    struct place from;
    struct place to;
    struct hf_sim_inode *inode; /* counted */
    bool chosen;                /* for the sync that runs */
};

/* Directories */

static struct hf_sim_entry *dir_find(struct hf_sim_dir *dir, const char *name)
{
    for (size_t i = 0; i < dir->count; i++) {
        if (strcmp(dir->entry[i].name, name) == 0) {
            return &dir->entry[i];
        }
    }
    return NULL;
}

/* The entry's reference to its inode goes to the caller; NULL: there was none. */
static struct hf_sim_inode *dir_take(struct hf_sim_dir *dir, const char *name)
{
    struct hf_sim_entry *entry = dir_find(dir, name);
    struct hf_sim_inode *inode;

    if (!entry) {
        return NULL;
    }
    inode = entry->inode;
    free(entry->name);
    *entry = dir->entry[--dir->count];
    return inode;
}

static void dir_put(struct hf_sim_dir *dir, const char *name, struct hf_sim_inode *inode)
{
    char *copy = strdup(name);

    HF_ASSERT(copy != NULL);
    if (dir->count == dir->cap) {
        dir->cap = dir->cap ? 2 * dir->cap : 8;
        dir->entry = reallocarray(dir->entry, dir->cap, sizeof(*dir->entry));
        HF_ASSERT(dir->entry != NULL);
    }
    hf_sim_inode_ref(inode);
    dir->entry[dir->count++] = (struct hf_sim_entry){.name = copy, .inode = inode};
}

static void dir_clear(struct hf_sim_names *names, struct hf_sim_dir *dir)
{
    while (dir->count > 0) {
        struct hf_sim_entry *entry = &dir->entry[--dir->count];

        free(entry->name);
        hf_sim_inode_unref(names, entry->inode);
    }
    free(dir->entry);
    *dir = (struct hf_sim_dir){0};
}

/* Inodes */

struct hf_sim_inode *hf_sim_inode_new(struct hf_sim_names *names, bool is_dir)
{
    struct hf_sim_inode *inode = calloc(1, sizeof(*inode));

    HF_ASSERT(inode != NULL);
    if (!is_dir) {
        inode->data = hf_sim_data_new();
    }
    inode->next = names->all;
    if (inode->next) {
        inode->next->prev = inode;
    }
    names->all = inode;
    return inode;
}

void hf_sim_inode_ref(struct hf_sim_inode *inode)
{
    inode->refs++;
}

void hf_sim_inode_unref(struct hf_sim_names *names, struct hf_sim_inode *inode)
{
    if (!inode) {
        return;
    }
    HF_ASSERT(inode->refs > 0);
    if (--inode->refs > 0) {
        return;
    }
    if (inode->prev) {
        inode->prev->next = inode->next;
    } else {
        names->all = inode->next;
    }
    if (inode->next) {
        inode->next->prev = inode->prev;
    }
    dir_clear(names, &inode->current);
    dir_clear(names, &inode->durable);
    hf_sim_data_free(inode->data);
    free(inode);
}

/* Changes */

static struct place place_of(struct hf_sim_inode *dir, const char *name)
{
    struct place place = {.dir = dir};

    if (dir) {
        hf_sim_inode_ref(dir);
        place.name = strdup(name);
        HF_ASSERT(place.name != NULL);
    }
    return place;
}

static void place_fini(struct hf_sim_names *names, struct place *place)
{
    free(place->name);
    hf_sim_inode_unref(names, place->dir);
}

static void change_free(struct hf_sim_names *names, struct hf_sim_change *change)
{
    place_fini(names, &change->from);
    place_fini(names, &change->to);
    hf_sim_inode_unref(names, change->inode);
    free(change);
}

static void make_durable(struct hf_sim_names *names, const struct hf_sim_change *change)
{
    if (change->from.dir) {
        hf_sim_inode_unref(names, dir_take(&change->from.dir->durable, change->from.name));
    }
    if (change->to.dir) {
        hf_sim_inode_unref(names, dir_take(&change->to.dir->durable, change->to.name));
        dir_put(&change->to.dir->durable, change->to.name, change->inode);
    }
}

static void take_current(struct hf_sim_names *names, struct hf_sim_inode *dir, const char *name)
{
    struct hf_sim_inode *old = dir_take(&dir->current, name);

    if (old) {
        old->links--;
        hf_sim_inode_unref(names, old);
    }
}

void hf_sim_names_change(struct hf_sim_names *names, struct hf_sim_inode *from_dir,
                         const char *from_name, struct hf_sim_inode *to_dir, const char *to_name,
                         struct hf_sim_inode *inode)
{
    struct hf_sim_change *change = calloc(1, sizeof(*change));

    HF_ASSERT(change != NULL);
    change->from = place_of(from_dir, from_name);
    change->to = place_of(to_dir, to_name);
    change->inode = inode;
    hf_sim_inode_ref(inode);
    if (from_dir) {
        take_current(names, from_dir, from_name);
    }
    if (to_dir) {
        take_current(names, to_dir, to_name);
        dir_put(&to_dir->current, to_name, inode);
        inode->links++;
    }
    *names->tail = change;
    names->tail = &change->next;
}

/* Put back in order, without the chosen ones, which become durable. */
static void apply_chosen(struct hf_sim_names *names)
{
    struct hf_sim_change *change = names->head;

    names->head = NULL;
    names->tail = &names->head;
    while (change) {
        struct hf_sim_change *next = change->next;

        change->next = NULL;
        if (change->chosen) {
            make_durable(names, change);
            change_free(names, change);
        } else {
            *names->tail = change;
            names->tail = &change->next;
        }
        change = next;
    }
}

/*
 * A chosen change takes along every earlier one of the directories it touches, so that durable
 * names are never changed out of order.
 */
void hf_sim_names_sync(struct hf_sim_names *names, struct hf_sim_inode *dir)
{
    struct hf_sim_change **list;
    struct hf_sim_inode **needed;
    size_t count = 0;
    size_t needed_count = 1;

    for (struct hf_sim_change *c = names->head; c; c = c->next) {
        count++;
    }
    list = calloc(count + 1, sizeof(*list));
    needed = calloc(2 * count + 1, sizeof(struct hf_sim_inode *));
    HF_ASSERT(list && needed);
    needed[0] = dir;
    count = 0;
    for (struct hf_sim_change *c = names->head; c; c = c->next) {
        list[count++] = c;
    }
    while (count > 0) {
        struct hf_sim_change *c = list[--count];

        for (size_t i = 0; i < needed_count && !c->chosen; i++) {
            c->chosen = needed[i] == c->from.dir || needed[i] == c->to.dir;
        }
        if (c->chosen && c->from.dir && c->to.dir && c->from.dir != c->to.dir) {
            needed[needed_count++] = c->from.dir;
            needed[needed_count++] = c->to.dir;
        }
    }
    free(list);
    free(needed);
    apply_chosen(names);
}

/* A place at which a change was lost: later ones there are lost too. */
static bool blocks(const struct place *lost, const struct place *place, bool by_name)
{
    return lost->dir && lost->dir == place->dir &&
           (!by_name || strcmp(lost->name, place->name) == 0);
}

static bool blocked(const struct hf_sim_names *names, const struct hf_sim_change *change,
                    bool by_name)
{
    for (const struct hf_sim_change *c = names->head; c != change; c = c->next) {
        if (!c->chosen &&
            (blocks(&c->from, &change->from, by_name) || blocks(&c->from, &change->to, by_name) ||
             blocks(&c->to, &change->from, by_name) || blocks(&c->to, &change->to, by_name))) {
            return true;
        }
    }
    return false;
}

static void settle(struct hf_sim_names *names, struct hf_sim_rng *rng, enum hf_sim_cut mode)
{
    static const unsigned percents[] = {0, 30, 60, 90, 100};
    unsigned percent = percents[hf_sim_rng_below(rng, HF_ARRAY_LEN(percents))];
    bool by_name = hf_sim_rng_chance(rng, 50);

    for (struct hf_sim_change *c = names->head; c; c = c->next) {
        c->chosen = mode == HF_SIM_CUT_KEEP_ALL ||
                    (mode == HF_SIM_CUT_RANDOM && hf_sim_rng_chance(rng, percent) &&
                     !blocked(names, c, by_name));
    }
    apply_chosen(names);
    while (names->head) {
        struct hf_sim_change *change = names->head;

        names->head = change->next;
        change_free(names, change);
    }
    names->tail = &names->head;
}

static void restore_dir(struct hf_sim_names *names, struct hf_sim_inode *inode)
{
    for (size_t i = 0; i < inode->current.count; i++) {
        inode->current.entry[i].inode->links--;
    }
    dir_clear(names, &inode->current);
    for (size_t i = 0; i < inode->durable.count; i++) {
        dir_put(&inode->current, inode->durable.entry[i].name, inode->durable.entry[i].inode);
        inode->durable.entry[i].inode->links++;
    }
    inode->suspect = false;
}

void hf_sim_names_cut(struct hf_sim_names *names, struct hf_sim_rng *rng, enum hf_sim_cut mode)
{
    struct hf_sim_inode *next;

    settle(names, rng, mode);
    for (struct hf_sim_inode *i = names->all; i; i = i->next) {
        hf_sim_inode_ref(i); /* none goes while the list is walked */
        if (i->data) {
            hf_sim_data_cut(i->data, rng, mode);
        }
    }
    for (struct hf_sim_inode *i = names->all; i; i = i->next) {
        if (!i->data) {
            restore_dir(names, i);
        }
    }
    for (struct hf_sim_inode *i = names->all; i; i = next) {
        next = i->next;
        hf_sim_inode_unref(names, i); /* may take others along, but none that is held, as next is */
    }
}

/* Lookup */

int hf_sim_names_find(struct hf_sim_names *names, const char *path, struct hf_sim_inode **ret,
                      struct hf_sim_inode **ret_dir, char ret_name[static 256])
{
    struct hf_sim_inode *dir = names->root;
    struct hf_sim_inode *inode = names->root;
    char name[NAME_BYTES_MAX + 1] = "";

    if (path[0] != '/') {
        return -EINVAL;
    }
    for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
        size_t len = strcspn(path, "/");
        struct hf_sim_entry *entry;

        if (len > NAME_BYTES_MAX) {
            return -ENAMETOOLONG;
        }
        if (!inode) {
            return -ENOENT;
        }
        if (inode->data) {
            return -ENOTDIR;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            return -EINVAL;
        }
        dir = inode;
        entry = dir_find(&dir->current, name);
        inode = entry ? entry->inode : NULL;
        path += len;
    }
    *ret = inode;
    *ret_dir = dir;
    memcpy(ret_name, name, sizeof(name));
    return 0;
}

/* Lifecycle */

void hf_sim_names_init(struct hf_sim_names *names)
{
    *names = (struct hf_sim_names){0};
    names->tail = &names->head;
    names->root = hf_sim_inode_new(names, true);
    hf_sim_inode_ref(names->root);
}

void hf_sim_names_fini(struct hf_sim_names *names)
{
    while (names->head) {
        struct hf_sim_change *change = names->head;

        names->head = change->next;
        change_free(names, change);
    }
    hf_sim_inode_unref(names, names->root);
    HF_ASSERT(names->all == NULL);
}
