/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

static int name_at(const struct shape *sh, int dir, int name)
{
    for (int i = 0; i < SHAPE_NAMES; i++) {
        if (sh->names[i].used && sh->names[i].dir == dir && sh->names[i].name == name) {
            return i;
        }
    }
    return SHAPE_NONE;
}

int shape_node_at(const struct shape *sh, int dir, int name)
{
    int i = name_at(sh, dir, name);

    return i == SHAPE_NONE ? SHAPE_NONE : sh->names[i].node;
}

int shape_name_count(const struct shape *sh, int dir)
{
    int count = 0;

    for (int i = 0; i < SHAPE_NAMES; i++) {
        count += sh->names[i].used && sh->names[i].dir == dir;
    }
    return count;
}

static int parent_of(const struct shape *sh, int dir)
{
    for (int i = 0; i < SHAPE_NAMES; i++) {
        if (sh->names[i].used && sh->names[i].node == dir) {
            return sh->names[i].dir;
        }
    }
    return SHAPE_NONE;
}

static bool is_below(const struct shape *sh, int dir, int above)
{
    for (; dir != SHAPE_NONE; dir = parent_of(sh, dir)) {
        if (dir == above) {
            return true;
        }
    }
    return false;
}

static int depth_of(const struct shape *sh, int dir)
{
    int depth = 0;

    while ((dir = parent_of(sh, dir)) != SHAPE_NONE) {
        depth++;
    }
    return depth;
}

int shape_free_node(const struct shape *sh)
{
    for (int i = 0; i < SHAPE_NODES; i++) {
        if (!sh->nodes[i].used) {
            return i;
        }
    }
    return SHAPE_NONE;
}

static int free_name(const struct shape *sh)
{
    for (int i = 0; i < SHAPE_NAMES; i++) {
        if (!sh->names[i].used) {
            return i;
        }
    }
    return SHAPE_NONE;
}

static void unname(struct shape *sh, int dir, int name)
{
    int i = name_at(sh, dir, name);
    struct shape_node *node = &sh->nodes[sh->names[i].node];

    sh->names[i].used = false;
    if (node->type == S_IFDIR) {
        node->nlink = 0;
        sh->nodes[dir].nlink--;
    } else {
        node->nlink--;
    }
}

static void give_name(struct shape *sh, int dir, int name, int node)
{
    sh->names[free_name(sh)] = (struct shape_name){true, dir, name, node};
    if (sh->nodes[node].type == S_IFDIR) {
        sh->nodes[dir].nlink++;
    }
}

static void make(struct shape *sh, const struct shape_change *c, uint32_t type, struct hf_ino ino)
{
    int node = c->node;

    sh->nodes[node] = (struct shape_node){.used = true,
                                          .type = type,
                                          .mode = c->mode,
                                          .nlink = type == S_IFDIR ? 2 : 1,
                                          .ino = ino,
                                          .target = c->value};
    give_name(sh, c->dir, c->name, node);
}

static void do_rename(struct shape *sh, const struct shape_change *c)
{
    int from = shape_node_at(sh, c->dir, c->name), to = shape_node_at(sh, c->dir2, c->name2);

    if (from == to) {
        return; /* two names of one file: nothing happens */
    }
    if (c->flags & RENAME_EXCHANGE) {
        struct shape_name *a = &sh->names[name_at(sh, c->dir, c->name)];
        struct shape_name *b = &sh->names[name_at(sh, c->dir2, c->name2)];

        sh->nodes[c->dir].nlink -= sh->nodes[from].type == S_IFDIR;
        sh->nodes[c->dir2].nlink += sh->nodes[from].type == S_IFDIR;
        sh->nodes[c->dir2].nlink -= sh->nodes[to].type == S_IFDIR;
        sh->nodes[c->dir].nlink += sh->nodes[to].type == S_IFDIR;
        a->node = to;
        b->node = from;
        return;
    }
    if (to != SHAPE_NONE) {
        unname(sh, c->dir2, c->name2);
    }
    if (sh->nodes[from].type == S_IFDIR) {
        sh->nodes[c->dir].nlink--;
    }
    sh->names[name_at(sh, c->dir, c->name)].used = false;
    give_name(sh, c->dir2, c->name2, from);
}

void shape_apply(struct shape *sh, const struct shape_change *c, struct hf_ino ino)
{
    switch (c->kind) {
    case CHANGE_NONE:
        break;
    case CHANGE_CREATE:
        make(sh, c, S_IFREG, ino);
        break;
    case CHANGE_MKDIR:
        make(sh, c, S_IFDIR, ino);
        break;
    case CHANGE_SYMLINK:
        make(sh, c, S_IFLNK, ino);
        break;
    case CHANGE_LINK:
        give_name(sh, c->dir, c->name, c->node);
        sh->nodes[c->node].nlink++;
        break;
    case CHANGE_UNLINK:
    case CHANGE_RMDIR:
        unname(sh, c->dir, c->name);
        break;
    case CHANGE_RENAME:
        do_rename(sh, c);
        break;
    case CHANGE_CHMOD:
        sh->nodes[c->node].mode = c->mode;
        break;
    case CHANGE_SETXATTR:
        sh->nodes[c->node].xattrs[c->flags] = (uint32_t)c->value;
        break;
    case CHANGE_REMOVEXATTR:
        sh->nodes[c->node].xattrs[c->flags] = 0;
        break;
    }
}

int shape_expected(const struct shape *sh, const struct shape_change *c)
{
    int at = c->dir == SHAPE_NONE ? SHAPE_NONE : shape_node_at(sh, c->dir, c->name);
    int at2 = c->dir2 == SHAPE_NONE ? SHAPE_NONE : shape_node_at(sh, c->dir2, c->name2);

    switch (c->kind) {
    case CHANGE_CREATE:
    case CHANGE_MKDIR:
    case CHANGE_SYMLINK:
    case CHANGE_LINK:
        return at == SHAPE_NONE ? 0 : -EEXIST;
    case CHANGE_UNLINK:
        return at == SHAPE_NONE ? -ENOENT : 0;
    case CHANGE_RMDIR:
        return at == SHAPE_NONE ? -ENOENT : shape_name_count(sh, at) ? -ENOTEMPTY : 0;
    case CHANGE_RENAME:
        if (at == SHAPE_NONE || ((c->flags & RENAME_EXCHANGE) && at2 == SHAPE_NONE)) {
            return -ENOENT;
        }
        if ((c->flags & RENAME_NOREPLACE) && at2 != SHAPE_NONE) {
            return -EEXIST;
        }
        return at2 != SHAPE_NONE && !c->flags && at2 != at && sh->nodes[at2].type == S_IFDIR &&
                       shape_name_count(sh, at2)
                   ? -ENOTEMPTY
                   : 0;
    case CHANGE_REMOVEXATTR:
        return sh->nodes[c->node].xattrs[c->flags] ? 0 : -ENODATA;
    case CHANGE_NONE:
    case CHANGE_CHMOD:
    case CHANGE_SETXATTR:
        break;
    }
    return 0;
}

bool shape_is_senseless(const struct shape *sh, const struct shape_change *c)
{
    int at = c->dir == SHAPE_NONE ? SHAPE_NONE : shape_node_at(sh, c->dir, c->name);
    int at2 = c->dir2 == SHAPE_NONE ? SHAPE_NONE : shape_node_at(sh, c->dir2, c->name2);

    switch (c->kind) {
    case CHANGE_MKDIR:
        return depth_of(sh, c->dir) >= SHAPE_DEPTH_MAX || c->node == SHAPE_NONE ||
               free_name(sh) == SHAPE_NONE;
    case CHANGE_CREATE:
    case CHANGE_SYMLINK:
        return c->node == SHAPE_NONE || free_name(sh) == SHAPE_NONE;
    case CHANGE_LINK:
        return free_name(sh) == SHAPE_NONE;
    case CHANGE_UNLINK:
        return at != SHAPE_NONE && sh->nodes[at].type == S_IFDIR;
    case CHANGE_RMDIR:
        return at != SHAPE_NONE && sh->nodes[at].type != S_IFDIR;
    case CHANGE_RENAME:
        if (at == SHAPE_NONE) {
            return false;
        }
        if (sh->nodes[at].type == S_IFDIR &&
            (is_below(sh, c->dir2, at) || depth_of(sh, c->dir2) >= SHAPE_DEPTH_MAX)) {
            return true;
        }
        if (at2 != SHAPE_NONE && (c->flags & RENAME_EXCHANGE)) {
            return sh->nodes[at2].type == S_IFDIR &&
                   (is_below(sh, c->dir, at2) || depth_of(sh, c->dir) >= SHAPE_DEPTH_MAX);
        }
        return at2 != SHAPE_NONE && !c->flags &&
               (sh->nodes[at].type == S_IFDIR) != (sh->nodes[at2].type == S_IFDIR);
    case CHANGE_NONE:
    case CHANGE_CHMOD:
    case CHANGE_SETXATTR:
    case CHANGE_REMOVEXATTR:
        break;
    }
    return false;
}

const char *shape_name_text(int name)
{
    static const char *const names[SHAPE_NAME_KINDS] = {"n0", "n1", "n2", "n3", "n4", "n5"};

    return names[name];
}

const char *shape_change_str(const struct shape_change *c, char ret[128])
{
    static const char *const kinds[] = {"none",  "create",   "mkdir",      "symlink",
                                        "link",  "unlink",   "rmdir",      "rename",
                                        "chmod", "setxattr", "removexattr"};

    (void)snprintf(ret, 128, "%s node %d in %d/n%d to %d/n%d flags %u mode %o value %" PRIu64,
                   kinds[c->kind], c->node, c->dir, c->name, c->dir2, c->name2, c->flags, c->mode,
                   c->value);
    return ret;
}
