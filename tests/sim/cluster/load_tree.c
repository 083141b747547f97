/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory tree that one program changes, with its model: every outcome is known beforehand.
 *
 * When the program dies, at most one change of names or attributes was under way: the tree that the
 * next life finds is the model with that change or without it (I3, I6), once the session of the
 * life before has ended (I5). Contents: contents.h (I1, I3).
 */
#include "tests/sim/cluster/load_tree_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "client/fs/fs_impl.h"

#define HOLD_NS_MAX (8 * SIM_S)

#define SPACE_BYTES (UINT64_C(1) << 20)
#define SPACE_TRIES 3u

static const char *const xattr_names[SHAPE_XATTRS] = {"user.color", "user.taste"};

struct tree *tree_new(void)
{
    struct tree *t = calloc(1, sizeof(*t));

    HF_ASSERT(t != NULL);
    t->shape.nodes[SHAPE_TOP] =
        (struct shape_node){.used = true, .type = S_IFDIR, .mode = 0755, .nlink = 2};
    return t;
}

/* Nodes */

bool tree_is_open(const struct tree *t, int node)
{
    for (int i = 0; i < TREE_HANDLES; i++) {
        if (t->handles[i].file && t->handles[i].node == node) {
            return true;
        }
    }
    return false;
}

void tree_sweep(struct tree *t)
{
    for (int i = 1; i < SHAPE_NODES; i++) {
        struct shape_node *node = &t->shape.nodes[i];

        if (node->used && node->nlink == 0 && !tree_is_open(t, i)) {
            /* Its contents may be in the hands of somebody who looks: they stay. */
            *node = (struct shape_node){0};
        }
    }
}

/* Doing it */

static void target_of(uint64_t value, char ret[32])
{
    (void)snprintf(ret, 32, "t%" PRIu64, value);
}

static int perform(struct actor *a, const struct shape *sh, const struct shape_change *c)
{
    struct hf_fs *fs = a->fs;
    struct hf_ino dir = c->dir == SHAPE_NONE ? (struct hf_ino){0} : sh->nodes[c->dir].ino;
    struct hf_ino dir2 = c->dir2 == SHAPE_NONE ? (struct hf_ino){0} : sh->nodes[c->dir2].ino;
    struct hf_ino ino = c->node == SHAPE_NONE ? (struct hf_ino){0} : sh->nodes[c->node].ino;
    const struct hf_fs_set set = {.mask = HF_SET_MODE, .mode = c->mode};
    char target[32];

    target_of(c->value, target);
    switch (c->kind) {
    case CHANGE_NONE:
        break;
    case CHANGE_CREATE:
        return DO(a, hf_fs_create(fs, dir, shape_name_text(c->name), S_IFREG | c->mode,
                                  O_RDWR | O_CREAT | O_EXCL, &a->req));
    case CHANGE_MKDIR:
        return DO(
            a, hf_fs_mknod(fs, dir, shape_name_text(c->name), S_IFDIR | c->mode, 0, NULL, &a->req));
    case CHANGE_SYMLINK:
        return DO(a, hf_fs_mknod(fs, dir, shape_name_text(c->name), S_IFLNK | c->mode, 0, target,
                                 &a->req));
    case CHANGE_LINK:
        return DO(a, hf_fs_link(fs, ino, dir, shape_name_text(c->name), &a->req));
    case CHANGE_UNLINK:
        return DO(a, hf_fs_unlink(fs, dir, shape_name_text(c->name), &a->req));
    case CHANGE_RMDIR:
        return DO(a, hf_fs_rmdir(fs, dir, shape_name_text(c->name), &a->req));
    case CHANGE_RENAME:
        return DO(a, hf_fs_rename(fs, dir, shape_name_text(c->name), dir2,
                                  shape_name_text(c->name2), c->flags, &a->req));
    case CHANGE_CHMOD:
        return DO(a, hf_fs_setattr(fs, ino, &set, &a->req));
    case CHANGE_SETXATTR:
        return DO(a, hf_fs_setxattr(fs, ino, xattr_names[c->flags], &c->value, sizeof(c->value), 0,
                                    &a->req));
    case CHANGE_REMOVEXATTR:
        return DO(a, hf_fs_removexattr(fs, ino, xattr_names[c->flags], &a->req));
    }
    return 0;
}

/* Chance */

uint64_t tree_below(struct actor *a, uint64_t end)
{
    return hf_sim_rng_below(&a->s->rng, end);
}

int tree_pick(struct actor *a, const struct shape *sh, bool dirs, bool files, bool links)
{
    int start = (int)tree_below(a, SHAPE_NODES);

    for (int i = 0; i < SHAPE_NODES; i++) {
        const struct shape_node *node = &sh->nodes[(start + i) % SHAPE_NODES];

        if (node->used && node->nlink > 0 &&
            ((dirs && node->type == S_IFDIR) || (files && node->type == S_IFREG) ||
             (links && node->type == S_IFLNK))) {
            return (start + i) % SHAPE_NODES;
        }
    }
    return SHAPE_NONE;
}

static struct shape_change draw_change(struct actor *a, struct tree *t)
{
    const struct shape *sh = &t->shape;
    uint64_t draw = tree_below(a, 100);
    struct shape_change c = {.dir = SHAPE_NONE, .dir2 = SHAPE_NONE, .node = SHAPE_NONE};

    c.name = (int)tree_below(a, SHAPE_NAME_KINDS);
    c.name2 = (int)tree_below(a, SHAPE_NAME_KINDS);
    c.value = ++t->tag;
    c.mode = 0600 | (uint32_t)tree_below(a, 0200);
    if (draw < 30 || (draw >= 60 && draw < 88)) {
        c.dir = tree_pick(a, sh, true, false, false);
    }
    if (draw < 30) {
        c.kind = draw < 18 ? CHANGE_CREATE : draw < 25 ? CHANGE_MKDIR : CHANGE_SYMLINK;
        c.node = shape_free_node(sh);
        c.mode = c.kind == CHANGE_SYMLINK ? 0777 : c.mode;
    } else if (draw < 60) {
        c.node = tree_pick(a, sh, true, true, false);
        c.kind = draw < 42 ? CHANGE_CHMOD : draw < 54 ? CHANGE_SETXATTR : CHANGE_REMOVEXATTR;
        c.flags = draw < 42 ? 0 : (uint32_t)tree_below(a, SHAPE_XATTRS);
    } else if (draw < 66) {
        c.kind = CHANGE_LINK;
        c.node = tree_pick(a, sh, false, true, true);
        c.kind = c.node == SHAPE_NONE ? CHANGE_NONE : c.kind;
    } else if (draw < 76) {
        c.kind = CHANGE_UNLINK;
    } else if (draw < 80) {
        c.kind = CHANGE_RMDIR;
    } else if (draw < 88) {
        c.kind = CHANGE_RENAME;
        c.dir2 = tree_pick(a, sh, true, false, false);
        draw = tree_below(a, 10);
        c.flags = draw < 7 ? 0 : draw < 9 ? RENAME_NOREPLACE : RENAME_EXCHANGE;
    }
    return shape_is_senseless(sh, &c) ? (struct shape_change){0} : c;
}

/* False: the session is lost, or the run has failed. */
static bool change_names(struct actor *a, struct tree *t)
{
    struct shape_change c = draw_change(a, t);
    char text[128];
    uint64_t begun_ns = sim_now(a->s);
    int err, want;

    if (c.kind == CHANGE_NONE) {
        return true;
    }
    want = shape_expected(&t->shape, &c);
    t->pending = c;
    err = perform(a, &t->shape, &c);
    sim_trace(a->s, "client %u: %s: %s", a->client->number, shape_change_str(&c, text),
              hf_err_name(err));
    if (load_is_lost(a, err)) {
        return false;
    }
    if (err != want && !load_is_full(a, err, begun_ns)) {
        sim_wrong(a->s, "I2", "client %u: %s: %s, not %s", a->client->number,
                  shape_change_str(&c, text), hf_err_name(err), hf_err_name(want));
        return false;
    }
    t->pending.kind = CHANGE_NONE;
    if (!err) {
        t->version++;
        shape_apply(&t->shape, &c, a->attr.ino);
        if (c.kind == CHANGE_CREATE) {
            t->shape.nodes[c.node].contents = contents_new();
            t->shape.nodes[c.node].clean_ns = sim_now(a->s);
            hf_fs_release(a->file);
        }
        tree_sweep(t);
    }
    return true;
}

/* Finding it again */

enum finding { FOUND, DIFFERENT, LOST };

struct found {
    char name[8];
    struct hf_ino ino;
    uint32_t type;
};

static enum finding list(struct actor *a, struct hf_ino dir, struct found ret[SHAPE_NAME_KINDS + 1],
                         int *ret_count)
{
    int err = DO(a, hf_fs_readdir(a->fs, dir, 0, 64u << 10, false, &a->req));
    struct hf_reader r;
    struct hf_dirent entry;

    *ret_count = 0;
    if (err) {
        return load_is_lost(a, err) ? LOST : DIFFERENT;
    }
    r = hf_reader_init(a->data, a->data_len);
    while (*ret_count <= SHAPE_NAME_KINDS && hf_dirent_decode(&r, &entry) == 0) {
        struct found *f = &ret[(*ret_count)++];

        (void)snprintf(f->name, sizeof(f->name), "%.*s", (int)entry.name_len, entry.name);
        f->ino = entry.ino;
        f->type = entry.type;
    }
    return FOUND;
}

/* Its extended attributes: those names, and no other. */
static enum finding find_xattr_names(struct actor *a, const struct shape_node *node)
{
    int err = DO(a, hf_fs_listxattr(a->fs, node->ino, &a->req));
    bool found[SHAPE_XATTRS] = {false};
    size_t len;

    if (err) {
        return load_is_lost(a, err) ? LOST : DIFFERENT;
    }
    for (size_t at = 0; at < a->data_len; at += len + 1) {
        uint32_t x = 0;

        len = strnlen((const char *)a->data + at, a->data_len - at);
        while (x < SHAPE_XATTRS &&
               strncmp((const char *)a->data + at, xattr_names[x], a->data_len - at) != 0) {
            x++;
        }
        if (x == SHAPE_XATTRS || found[x]) {
            return DIFFERENT;
        }
        found[x] = true;
    }
    for (uint32_t x = 0; x < SHAPE_XATTRS; x++) {
        if (found[x] != (node->xattrs[x] != 0)) {
            return DIFFERENT;
        }
    }
    return FOUND;
}

static enum finding find_xattrs(struct actor *a, const struct shape_node *node)
{
    enum finding end = find_xattr_names(a, node);

    for (uint32_t x = 0; x < SHAPE_XATTRS && end == FOUND; x++) {
        uint64_t value = 0;
        int err = node->xattrs[x] ? DO(a, hf_fs_getxattr(a->fs, node->ino, xattr_names[x], &a->req))
                                  : -ENODATA;

        if (!err && a->data_len == sizeof(value)) {
            memcpy(&value, a->data, sizeof(value));
        }
        if (err && err != -ENODATA) {
            return load_is_lost(a, err) ? LOST : DIFFERENT;
        }
        end = (uint32_t)value == node->xattrs[x] ? FOUND : DIFFERENT;
    }
    return end;
}

static enum finding find_attr(struct actor *a, struct shape_node *node)
{
    char target[32];
    int err = DO(a, hf_fs_getattr(a->fs, node->ino, &a->req));

    if (err) {
        return load_is_lost(a, err) ? LOST : DIFFERENT;
    }
    hf_fs_told(a->fs, &a->attr);
    if ((a->attr.mode & S_IFMT) != node->type || (a->attr.mode & 07777) != node->mode ||
        a->attr.nlink != node->nlink) {
        return DIFFERENT;
    }
    if (node->type == S_IFLNK) {
        err = DO(a, hf_fs_readlink(a->fs, node->ino, &a->req));
        target_of(node->target, target);
        if (!err && (a->data_len != strlen(target) || memcmp(a->data, target, a->data_len) != 0)) {
            return DIFFERENT;
        }
        return !err ? FOUND : load_is_lost(a, err) ? LOST : DIFFERENT;
    }
    return find_xattrs(a, node);
}

/* Is the tree of this shape? Learns inode numbers that the shape does not know. */
static enum finding find_shape(struct actor *a, struct shape *sh)
{
    for (int again = 1; again;) { /* a directory whose number was just learned is looked at next */
        again = 0;
        for (int dir = 0; dir < SHAPE_NODES; dir++) {
            struct found found[SHAPE_NAME_KINDS + 1];
            enum finding end;
            int count;

            if (!sh->nodes[dir].used || sh->nodes[dir].type != S_IFDIR || !sh->nodes[dir].nlink ||
                !sh->nodes[dir].ino.v) {
                continue;
            }
            end = list(a, sh->nodes[dir].ino, found, &count);
            if (end != FOUND) {
                return end;
            }
            if (count != shape_name_count(sh, dir)) {
                return DIFFERENT;
            }
            for (int i = 0; i < count; i++) {
                int node = found[i].name[0] == 'n' ? shape_node_at(sh, dir, found[i].name[1] - '0')
                                                   : SHAPE_NONE;

                if (node == SHAPE_NONE) {
                    return DIFFERENT;
                }
                if (sh->nodes[node].ino.v == 0) {
                    sh->nodes[node].ino = found[i].ino;
                    again = sh->nodes[node].type == S_IFDIR;
                }
                if (sh->nodes[node].ino.v != found[i].ino.v) {
                    return DIFFERENT;
                }
            }
        }
    }
    for (int i = 0; i < SHAPE_NODES; i++) {
        if (sh->nodes[i].used && sh->nodes[i].nlink > 0) {
            enum finding end = find_attr(a, &sh->nodes[i]);

            if (end != FOUND) {
                return end;
            }
        }
    }
    return FOUND;
}

/* With what was under way, or without it. */
static enum finding find_tree(struct actor *a, struct tree *t)
{
    struct shape *sh = malloc(sizeof(*sh));
    enum finding end;

    HF_ASSERT(sh != NULL);
    *sh = t->shape;
    end = find_shape(a, sh);
    if (end == DIFFERENT && t->pending.kind != CHANGE_NONE &&
        shape_expected(sh, &t->pending) == 0) {
        *sh = t->shape;
        shape_apply(sh, &t->pending, (struct hf_ino){0});
        if (t->pending.kind == CHANGE_CREATE) {
            sh->nodes[t->pending.node].contents = contents_new();
        }
        end = find_shape(a, sh);
    }
    if (end == FOUND) {
        t->shape = *sh;
        t->pending.kind = CHANGE_NONE;
    } else if (end == DIFFERENT) {
        char text[128];

        sim_wrong(a->s, "I3", "client %u: its tree is not what it left, with or without: %s",
                  a->client->number, shape_change_str(&t->pending, text));
    }
    free(sh);
    return end;
}

static bool find_contents(struct actor *a, struct tree *t)
{
    for (int i = 0; i < SHAPE_NODES; i++) {
        struct shape_node *node = &t->shape.nodes[i];
        struct hf_fs_file *file;
        int err;

        if (!node->used || node->type != S_IFREG || !node->nlink) {
            continue;
        }
        err = DO(a, hf_fs_open(a->fs, node->ino, O_RDONLY, &a->req));
        if (err) {
            if (!load_is_lost(a, err)) {
                sim_fail(a->s, "I1", "client %u: open of node %d: %s", a->client->number, i,
                         hf_err_name(err));
            }
            return false;
        }
        file = a->file;
        err = tree_reread(a, node, file, contents_adopt);
        if (err && !(a->s->options.beyond && err == -EIO)) {
            return false;
        }
        hf_fs_release(file);
        node->must_report = false; /* whom it was to be told died */
        node->clean_ns = sim_now(a->s);
    }
    return true;
}

/* The tree as the life before left it, and nothing of that life can happen any more. */
static bool find_again(struct actor *a, struct tree *t)
{
    char name[8];
    struct hf_ino top;

    t->known = false;
    memset(t->handles, 0, sizeof(t->handles));
    load_wait_for_end(a);
    (void)snprintf(name, sizeof(name), "c%u", a->client->number);
    if (load_dir(a, (struct hf_ino){HF_INO_ROOT}, name, &top)) {
        return false;
    }
    t->shape.nodes[SHAPE_TOP].ino = top;
    if (find_tree(a, t) != FOUND) {
        return false;
    }
    tree_sweep(t);
    if (!find_contents(a, t)) {
        return false;
    }
    t->version++;
    t->known = true;
    return true;
}

/* Of a lost session: what was not written is lost, and that is said (I10). A success counts. */
static void sync_what_is_left(struct actor *a, struct tree *t)
{
    for (int i = 0; i < TREE_HANDLES; i++) {
        if (t->handles[i].file && !a->s->failed) {
            (void)tree_sync_handle(a, t, &t->handles[i], false);
        }
    }
}

/* What df shows. Of this tree each node is an inode. An error: lost or failed. */
static int look_at_space(struct actor *a, const struct tree *t, uint64_t *ret_free)
{
    int err = DO(a, hf_fs_statfs(a->fs, &a->req));
    uint64_t nodes = 0;

    for (int i = 0; i < SHAPE_NODES; i++) {
        nodes += t->shape.nodes[i].used && t->shape.nodes[i].nlink > 0;
    }
    if (err) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I2", "client %u: statfs: %s", a->client->number, hf_err_name(err));
        }
        return err;
    }
    if (a->stat.free_bytes > a->stat.total_bytes || a->stat.inodes < nodes) {
        sim_fail(a->s, "I2",
                 "client %u: %" PRIu64 " bytes free of %" PRIu64 ", %" PRIu64
                 " inodes, of at least %" PRIu64,
                 a->client->number, a->stat.free_bytes, a->stat.total_bytes, a->stat.inodes, nodes);
    }
    *ret_free = a->stat.free_bytes;
    return a->s->failed ? -ECANCELED : 0;
}

static bool look_at_own(struct actor *a, struct tree *t)
{
    int node = tree_pick(a, &t->shape, true, true, false);
    uint64_t free_bytes;
    enum finding end;

    if (tree_below(a, 2)) {
        return look_at_space(a, t, &free_bytes) == 0;
    }
    end = node == SHAPE_NONE ? FOUND : find_xattr_names(a, &t->shape.nodes[node]);
    if (end == DIFFERENT) {
        sim_wrong(a->s, "I2", "client %u: node %d has other extended attributes than were set",
                  a->client->number, node);
    }
    return end == FOUND;
}

void tree_program(struct actor *a, void *arg)
{
    struct tree *t = a->s->load->trees[a->client->number];

    (void)arg;
    if (!find_again(a, t)) {
        return;
    }
    while (load_goes_on(a)) {
        uint64_t draw = tree_below(a, 100);
        bool go_on = draw < 44   ? change_names(a, t)
                     : draw < 46 ? look_at_own(a, t)
                                 : tree_change_contents(a, t);

        if (!go_on) {
            sync_what_is_left(a, t);
            return;
        }
        actor_sleep(a, tree_below(a, 10) == 0 ? tree_below(a, SIM_S) : tree_below(a, 60 * SIM_MS));
    }
    for (int i = 0; i < TREE_HANDLES; i++) {
        if (t->handles[i].file && !tree_sync_handle(a, t, &t->handles[i], true)) {
            return;
        }
    }
}

/* Others look */

static bool look_at_file(struct actor *a, struct tree *t, int index)
{
    const struct shape_node node = t->shape.nodes[index];
    struct contents *contents = node.contents;
    uint64_t generation = contents_generation(contents), version = t->version;
    uint8_t *bytes = NULL;
    uint64_t len = 0;
    bool held = false;
    int err;

    contents_pin(contents);
    err = DO(a, hf_fs_open(a->fs, node.ino, O_RDONLY, &a->req));
    if (!err) {
        struct hf_fs_file *file = a->file;

        if (tree_below(a, 4) == 0) { /* whatever becomes of its names: what is open is there (I8) */
            held = true;
            actor_sleep(a, tree_below(a, HOLD_NS_MAX));
        }
        err = load_read_all(a, file, &bytes, &len);
        hf_fs_release(file);
    }
    if (load_is_lost(a, err)) {
        return false; /* the pin stays: it makes looks milder, no more */
    }
    if (err && (held || (version == t->version && t->pending.kind == CHANGE_NONE && t->known))) {
        sim_fail(a->s, held ? "I8" : "I1", "client %u: a look at inode %" PRIu64 ": %s",
                 a->client->number, node.ino.v, hf_err_name(err));
    } else if (!err && generation == contents_generation(contents) && t->known) {
        a->s->counts.bytes_checked += len;
        (void)tree_wrong_bytes(a, "I1", &node, contents_may_be(contents, bytes, len), len);
    }
    contents_unpin(contents);
    free(bytes);
    return !a->s->failed;
}

static bool look_at_name(struct actor *a, struct tree *t)
{
    int dir = tree_pick(a, &t->shape, true, false, false);
    int name = (int)tree_below(a, SHAPE_NAME_KINDS);
    int node = shape_node_at(&t->shape, dir, name);
    struct hf_ino want = node == SHAPE_NONE ? (struct hf_ino){0} : t->shape.nodes[node].ino;
    uint64_t version = t->version;
    int err;

    if (t->pending.kind != CHANGE_NONE) {
        return true;
    }
    err = DO(a, hf_fs_lookup(a->fs, t->shape.nodes[dir].ino, shape_name_text(name), &a->req));
    if (load_is_lost(a, err)) {
        return false;
    }
    if (version != t->version || t->pending.kind != CHANGE_NONE || !t->known) {
        return true;
    }
    if (node == SHAPE_NONE ? err != -ENOENT : err || a->attr.ino.v != want.v) {
        sim_wrong(a->s, "I2",
                  "client %u: %s in directory %d of another client: %s, inode %" PRIu64
                  ", not inode %" PRIu64,
                  a->client->number, shape_name_text(name), dir, hf_err_name(err),
                  err ? 0 : a->attr.ino.v, want.v);
        return false;
    }
    return true;
}

void tree_look_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;

    (void)arg;
    while (load_goes_on(a)) {
        struct tree *t = s->load->trees[tree_below(a, s->client_count)];
        int node = tree_pick(a, &t->shape, false, true, false);

        if (t->known && t != s->load->trees[a->client->number]) {
            if (!(node != SHAPE_NONE && tree_below(a, 3) == 0 ? look_at_file(a, t, node)
                                                              : look_at_name(a, t))) {
                return;
            }
        }
        actor_sleep(a, tree_below(a, 600 * SIM_MS));
    }
}

/* At rest: what is reserved is free no longer, unless what is said of the stores just changed. */
static int reserve_space(struct actor *a, const struct tree *t)
{
    const struct hf_ino root = {HF_INO_ROOT};
    int err = DO(a, hf_fs_create(a->fs, root, "space", S_IFREG | 0600, O_RDWR | O_CREAT, &a->req));
    struct hf_fs_file *file = a->file;
    uint64_t before, after = 0;
    bool moves = false;

    for (uint64_t i = 0; i < SPACE_TRIES && !err && !moves; i++) {
        err = look_at_space(a, t, &before);
        err = err ? err : DO(a, hf_fs_fallocate(file, 0, i * SPACE_BYTES, SPACE_BYTES, &a->req));
        err = err ? err : look_at_space(a, t, &after);
        moves = !err && after + SPACE_BYTES / 2 <= before;
        sim_trace(a->s, "free: %" PRIu64 ", then %" PRIu64 ": %s", before, after, hf_err_name(err));
    }
    if (!err && !moves) {
        sim_fail(a->s, "I2", "%" PRIu64 " bytes are reserved, and not less are free, %" PRIu64,
                 SPACE_TRIES * SPACE_BYTES, after);
    }
    if (err) {
        return err;
    }
    hf_fs_release(file);
    return DO(a, hf_fs_unlink(a->fs, root, "space", &a->req));
}

void tree_final_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    int err = s->options.beyond ? 0 : reserve_space(a, s->load->trees[a->client->number]);

    if (err && !s->failed) {
        sim_fail(s, "alive", "space cannot be reserved at the end: %s", hf_err_name(err));
    }

    for (uint32_t i = 0; i < s->client_count && !s->failed; i++) {
        struct tree *t = s->load->trees[i];

        if (t->shape.nodes[SHAPE_TOP].ino.v && find_tree(a, t) == FOUND && find_contents(a, t)) {
            continue;
        }
        if (t->shape.nodes[SHAPE_TOP].ino.v && !s->failed && !s->options.beyond) {
            sim_fail(s, "alive", "the tree of client %u cannot be read at the end", i);
        }
    }
    *(bool *)arg = true;
}
