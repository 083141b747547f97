/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/faultdisk/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"

#define SLOT_BYTES 32

struct place {
    struct hf_node *dir; /* NULL: none */
    char *name;
};

/*
 * made:     to only     removed: from only     renamed: both
 *
 * Its two slots in the attic: "ID.old", what it removed or replaced, while it stands; "ID.new",
 * what it made, while it is undone.
 */
struct hf_name_change {
    struct hf_name_change *prev, *next;
    uint64_t id;
    struct place from, to;
    bool replaced;
    bool chosen; /* to become durable */
};

/* The backing tree */

static void slot_of(const struct hf_name_change *change, const char *kind, char ret[SLOT_BYTES])
{
    (void)snprintf(ret, SLOT_BYTES, "%" PRIu64 ".%s", change->id, kind);
}

static int move(int from_fd, const char *from, int to_fd, const char *to)
{
    return renameat(from_fd, from, to_fd, to) == 0 ? 0 : -errno;
}

static int to_attic(const struct hf_names *names, const struct hf_name_change *change,
                    const struct place *place, const char *kind)
{
    char slot[SLOT_BYTES];

    slot_of(change, kind, slot);
    return move(place->dir->fd, place->name, names->attic_fd, slot);
}

static int from_attic(const struct hf_names *names, const struct hf_name_change *change,
                      const struct place *place, const char *kind)
{
    char slot[SLOT_BYTES];

    slot_of(change, kind, slot);
    return move(names->attic_fd, slot, place->dir->fd, place->name);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static DIR *open_dir(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir && fd >= 0) {
        (void)close(fd);
    }
    return dir;
}

/* Everything below; a disk's directories are few levels deep. */
static void empty_dir(int dir_fd, const char *name)
{
    DIR *dir = open_dir(dir_fd, name);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (!is_dot(entry->d_name) && unlinkat(dirfd(dir), entry->d_name, 0) != 0) {
            empty_dir(dirfd(dir), entry->d_name);
            (void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR); /* looked at by the next cut */
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
}

static int check_kind(const struct hf_node *dir, const char *name, bool is_dir)
{
    struct stat st;
    DIR *stream;
    const struct dirent *entry;
    int err = 0;

    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode) != is_dir) {
        return is_dir ? -ENOTDIR : -EISDIR;
    }
    if (!is_dir) {
        return 0;
    }
    stream = open_dir(dir->fd, name);
    if (!stream) {
        return -errno;
    }
    while (!err && (entry = readdir(stream))) {
        err = is_dot(entry->d_name) ? 0 : -ENOTEMPTY;
    }
    (void)closedir(stream);
    return err;
}

/* Changes */

static struct place place_of(struct hf_node *dir, const char *name)
{
    struct place place = {.dir = dir};

    if (dir) {
        dir->refs++;
        place.name = strdup(name);
        HF_ASSERT(place.name != NULL);
    }
    return place;
}

static void place_fini(struct place *place)
{
    if (place->dir) {
        place->dir->refs--;
    }
    free(place->name);
}

static struct hf_name_change *change_new(struct hf_names *names, struct hf_node *from_dir,
                                         const char *from_name, struct hf_node *to_dir,
                                         const char *to_name)
{
    struct hf_name_change *change = calloc(1, sizeof(*change));

    HF_ASSERT(change != NULL);
    change->id = names->next_id++;
    change->from = place_of(from_dir, from_name);
    change->to = place_of(to_dir, to_name);
    return change;
}

static void change_free(struct hf_name_change *change)
{
    place_fini(&change->from);
    place_fini(&change->to);
    free(change);
}

static void append(struct hf_names *names, struct hf_name_change *change)
{
    change->prev = names->last;
    change->next = NULL;
    if (names->last) {
        names->last->next = change;
    } else {
        names->first = change;
    }
    names->last = change;
    names->count++;
}

static int undo(const struct hf_names *names, const struct hf_name_change *change)
{
    int err;

    if (!change->from.dir) {
        return to_attic(names, change, &change->to, "new");
    }
    if (!change->to.dir) {
        return from_attic(names, change, &change->from, "old");
    }
    err = move(change->to.dir->fd, change->to.name, change->from.dir->fd, change->from.name);
    return err || !change->replaced ? err : from_attic(names, change, &change->to, "old");
}

static int redo(const struct hf_names *names, const struct hf_name_change *change)
{
    int err = 0;

    if (!change->from.dir) {
        return from_attic(names, change, &change->to, "new");
    }
    if (!change->to.dir) {
        return to_attic(names, change, &change->from, "old");
    }
    if (change->replaced) {
        err = to_attic(names, change, &change->to, "old");
    }
    return err ? err
               : move(change->from.dir->fd, change->from.name, change->to.dir->fd, change->to.name);
}

void hf_names_made(struct hf_names *names, struct hf_node *dir, const char *name)
{
    append(names, change_new(names, NULL, NULL, dir, name));
}

int hf_names_remove(struct hf_names *names, struct hf_node *dir, const char *name, bool is_dir)
{
    struct hf_name_change *change;
    int err = check_kind(dir, name, is_dir);

    if (err) {
        return err;
    }
    change = change_new(names, dir, name, NULL, NULL);
    err = to_attic(names, change, &change->from, "old");
    if (err) {
        change_free(change);
        return err;
    }
    append(names, change);
    return 0;
}

int hf_names_rename(struct hf_names *names, struct hf_node *from_dir, const char *from_name,
                    struct hf_node *to_dir, const char *to_name)
{
    struct hf_name_change *change;
    struct stat from, to;
    int err;

    if (fstatat(from_dir->fd, from_name, &from, AT_SYMLINK_NOFOLLOW) != 0) {
        return -errno;
    }
    change = change_new(names, from_dir, from_name, to_dir, to_name);
    change->replaced = fstatat(to_dir->fd, to_name, &to, AT_SYMLINK_NOFOLLOW) == 0;
    if (change->replaced && from.st_ino == to.st_ino) { /* two names of one file: nothing happens */
        change_free(change);
        return 0;
    }
    err = change->replaced ? check_kind(to_dir, to_name, S_ISDIR(from.st_mode)) : 0;
    if (!err) {
        err = redo(names, change);
        if (err && change->replaced) {
            (void)from_attic(names, change, &change->to, "old"); /* -ENOENT: it never left */
        }
    }
    if (err) {
        change_free(change);
        return err;
    }
    append(names, change);
    return 0;
}

/* Syncs */

/* What a durable change replaced is gone. A directory stays in the attic until the next cut: names
 * in it may have waiting changes. */
static void let_go(const struct hf_names *names, const struct hf_name_change *change)
{
    char slot[SLOT_BYTES];

    slot_of(change, "old", slot);
    if (change->from.dir && (!change->to.dir || change->replaced)) {
        (void)unlinkat(names->attic_fd, slot, 0);
    }
}

/* The chosen ones leave the list: they are durable. */
static void drop_chosen(struct hf_names *names)
{
    struct hf_name_change *change = names->first;

    names->first = names->last = NULL;
    names->count = 0;
    while (change) {
        struct hf_name_change *next = change->next;

        if (change->chosen) {
            let_go(names, change);
            change_free(change);
        } else {
            append(names, change);
        }
        change = next;
    }
}

void hf_names_sync(struct hf_names *names, const struct hf_node *dir)
{
    const struct hf_node **needed = calloc(2 * (size_t)names->count + 1, sizeof(*needed));
    size_t count = 1;

    HF_ASSERT(needed != NULL);
    needed[0] = dir;
    for (struct hf_name_change *c = names->last; c; c = c->prev) {
        for (size_t i = 0; i < count && !c->chosen; i++) {
            c->chosen = needed[i] == c->from.dir || needed[i] == c->to.dir;
        }
        if (c->chosen && c->from.dir && c->to.dir && c->from.dir != c->to.dir) {
            needed[count++] = c->from.dir;
            needed[count++] = c->to.dir;
        }
    }
    free(needed);
    drop_chosen(names);
}

/* The cut */

/* A place at which a change was lost: later ones there are lost too. */
static bool blocks(const struct place *lost, const struct place *place, bool by_name)
{
    return lost->dir && lost->dir == place->dir &&
           (!by_name || strcmp(lost->name, place->name) == 0);
}

static bool blocked(const struct hf_names *names, const struct hf_name_change *change, bool by_name)
{
    for (const struct hf_name_change *c = names->first; c != change; c = c->next) {
        if (!c->chosen &&
            (blocks(&c->from, &change->from, by_name) || blocks(&c->from, &change->to, by_name) ||
             blocks(&c->to, &change->from, by_name) || blocks(&c->to, &change->to, by_name))) {
            return true;
        }
    }
    return false;
}

static void choose(struct hf_names *names, struct hf_sim_rng *rng, enum hf_undo_cut mode)
{
    static const unsigned percents[] = {0, 30, 60, 90, 100};
    const unsigned percent = percents[hf_sim_rng_below(rng, HF_ARRAY_LEN(percents))];
    const bool by_name = hf_sim_rng_chance(rng, 50);

    for (struct hf_name_change *c = names->first; c; c = c->next) {
        c->chosen = mode == HF_UNDO_CUT_KEEP || mode == HF_UNDO_CUT_TORN ||
                    (mode == HF_UNDO_CUT_RANDOM && hf_sim_rng_chance(rng, percent) &&
                     !blocked(names, c, by_name));
    }
}

static void forget_changes(struct hf_names *names)
{
    while (names->first) {
        struct hf_name_change *change = names->first;

        names->first = change->next;
        change_free(change);
    }
    names->last = NULL;
    names->count = 0;
}

int hf_names_cut(struct hf_names *names, struct hf_sim_rng *rng, enum hf_undo_cut mode)
{
    int err = 0;

    choose(names, rng, mode);
    for (const struct hf_name_change *c = names->last; !err && c; c = c->prev) {
        err = undo(names, c);
    }
    for (const struct hf_name_change *c = names->first; !err && c; c = c->next) {
        err = c->chosen ? redo(names, c) : 0;
    }
    if (!err) {
        empty_dir(names->attic_fd, ".");
    }
    forget_changes(names);
    return err;
}

/* Lifecycle */

void hf_names_init(struct hf_names *names, int attic_fd)
{
    *names = (struct hf_names){.attic_fd = attic_fd};
    empty_dir(attic_fd, ".");
}

void hf_names_fini(struct hf_names *names)
{
    forget_changes(names);
    empty_dir(names->attic_fd, ".");
    (void)close(names->attic_fd);
}
