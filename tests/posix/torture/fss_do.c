/* SPDX-License-Identifier: Apache-2.0 */
/* fss_do.c - operations on names, with the errors that the manual pages and the kernel's order
 * give. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "tests/posix/torture/fsstress.h"

#define PLANT_EVERY 300u
#define MEET_TRIES  5000u

enum plant { PLANT_NONE, PLANT_BYTE, PLANT_NAME, PLANT_MODE, PLANT_XATTR, PLANT_REPLACE };

void fss_fails(struct fss *fss, const char *format, ...)
{
    struct torture_shared *shared = fss->shared;
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (pthread_mutex_lock(&shared->lock)) {
        return;
    }
    if (!shared->failed) { /* the first one; the others only follow */
        torture_report(shared, "process %u: %s\nits last operations:\n", fss->process, text);
        for (unsigned i = 0; i < FSS_HISTORY; i++) {
            const char *line = fss->history[(fss->history_next + i) % FSS_HISTORY];

            torture_report(shared, line[0] ? "  %s\n" : "%s", line);
        }
    }
    (void)pthread_mutex_unlock(&shared->lock);
}

bool fss_expect(struct fss *fss, long ret, int want, const char *call)
{
    int have = ret == -1 ? errno : 0;

    if (have != want) {
        fss_fails(fss, "%s: %s, not %s", call, have ? strerrorname_np(have) : "success",
                  want ? strerrorname_np(want) : "success");
        return false;
    }
    return want == 0;
}

static struct fss_node *node_of(struct fss *fss, uint32_t entry)
{
    return &fss->model->nodes[fss->model->entries[entry].node];
}

static bool is_dir(struct fss *fss, uint32_t entry)
{
    return entry != FSS_NONE && node_of(fss, entry)->type == FSS_DIR;
}

/* Making */

static bool has_room(const struct fss_model *model, enum fss_type type)
{
    return model->entry_count < FSS_ENTRIES - 8 &&
           (type != FSS_DIR || model->dir_count < FSS_DIRS_MAX);
}

static long make(const char *path, enum fss_type type, mode_t mode, const char *target)
{
    int fd;

    switch (type) {
    case FSS_FILE:
        fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode);
        return fd < 0 ? -1 : close(fd);
    case FSS_DIR:
        return mkdir(path, mode);
    case FSS_LINK:
        return symlink(target, path);
    case FSS_FIFO:
        return mkfifo(path, mode);
    }
    return -1;
}

static void do_make(struct fss *fss, uint32_t dir, uint32_t entry, enum fss_type type)
{
    const struct fss_op *op = fss->op;
    const char *path = fss_path(fss, op->mount, dir, op->name);
    mode_t mode = (type == FSS_DIR ? 0700 : type == FSS_LINK ? 0777 : 0600) | (op->value & 077);
    char target[48];
    struct fss_node *node;
    struct stat st;

    (void)snprintf(target, sizeof(target), "nowhere/%u.%u", op->process, op->id);
    if (!has_room(fss->model, type) || !fss_expect(fss, make(path, type, mode, target),
                                                   entry == FSS_NONE ? 0 : EEXIST, "create")) {
        return;
    }
    node = &fss->model->nodes[fss_add(fss->model, dir, op->name, type, mode)];
    if (!fss_expect(fss, lstat(path, &st), 0, "lstat of what was just made")) {
        return;
    }
    node->ino = st.st_ino;
    (void)memcpy(node->target, target, sizeof(target));
}

static void do_link(struct fss *fss, uint32_t dir, uint32_t entry, uint32_t dir2, uint32_t entry2)
{
    const struct fss_op *op = fss->op;
    int want = entry == FSS_NONE ? ENOENT : entry2 != FSS_NONE ? EEXIST : 0;

    want = want == 0 && is_dir(fss, entry) ? EPERM : want;
    if (has_room(fss->model, FSS_FILE) &&
        fss_expect(fss,
                   link(fss_path(fss, op->mount, dir, op->name),
                        fss_path(fss, op->mount, dir2, op->name2)),
                   want, "link")) {
        (void)fss_add_entry(fss->model, dir2, op->name2, fss->model->entries[entry].node);
    }
}

/* Taking away */

static void do_unlink(struct fss *fss, uint32_t dir, uint32_t entry)
{
    int want = entry == FSS_NONE ? ENOENT : is_dir(fss, entry) ? EISDIR : 0;

    if (fss_expect(fss, unlink(fss_path(fss, fss->op->mount, dir, fss->op->name)), want,
                   "unlink")) {
        fss_remove_entry(fss->model, entry);
    }
}

static void do_rmdir(struct fss *fss, uint32_t dir, uint32_t entry)
{
    int want = entry == FSS_NONE               ? ENOENT
               : !is_dir(fss, entry)           ? ENOTDIR
               : node_of(fss, entry)->children ? ENOTEMPTY
                                               : 0;

    if (fss_expect(fss, rmdir(fss_path(fss, fss->op->mount, dir, fss->op->name)), want, "rmdir")) {
        fss_remove_entry(fss->model, entry);
    }
}

/* Renaming: in the order in which Linux looks */

struct names {
    uint32_t dir, entry, dir2, entry2;
};

static int rename_error(struct fss *fss, const struct names *n, unsigned flags)
{
    const struct fss_model *model = fss->model;
    uint32_t node, node2;

    if (n->entry == FSS_NONE || (flags & RENAME_EXCHANGE && n->entry2 == FSS_NONE)) {
        return ENOENT;
    }
    if (flags & RENAME_NOREPLACE && n->entry2 != FSS_NONE) {
        return EEXIST;
    }
    node = model->entries[n->entry].node;
    if (is_dir(fss, n->entry) && fss_is_below(model, n->dir2, node)) {
        return EINVAL;
    }
    if (n->entry2 == FSS_NONE) {
        return 0;
    }
    node2 = model->entries[n->entry2].node;
    if (is_dir(fss, n->entry2) && fss_is_below(model, n->dir, node2)) {
        return flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
    }
    if (node == node2 || flags & RENAME_EXCHANGE) {
        return 0;
    }
    if (is_dir(fss, n->entry) != is_dir(fss, n->entry2)) {
        return is_dir(fss, n->entry) ? ENOTDIR : EISDIR;
    }
    return is_dir(fss, n->entry2) && model->nodes[node2].children ? ENOTEMPTY : 0;
}

static void note_move(struct fss *fss, const struct names *n, uint32_t entry)
{
    if (is_dir(fss, entry) && n->dir != n->dir2) {
        node_of(fss, entry)->moved |= (uint8_t)(1u << (fss->op->mount ^ 1u));
    }
}

static void do_rename(struct fss *fss, const struct names *n, unsigned flags)
{
    const struct fss_op *op = fss->op;
    struct fss_model *model = fss->model;
    int want = rename_error(fss, n, flags);
    unsigned real =
        fss->config->plant == PLANT_REPLACE ? flags & ~(unsigned)RENAME_NOREPLACE : flags;

    if (!fss_expect(fss,
                    renameat2(AT_FDCWD, fss_path(fss, op->mount, n->dir, op->name), AT_FDCWD,
                              fss_path(fss, op->mount, n->dir2, op->name2), real),
                    want, "rename")) {
        return;
    }
    if (n->entry2 != FSS_NONE && model->entries[n->entry].node == model->entries[n->entry2].node) {
        return; /* two names of one file: nothing changes */
    }
    note_move(fss, n, n->entry);
    if (flags & RENAME_EXCHANGE) {
        note_move(fss, n, n->entry2);
        fss_swap_entries(model, n->entry, n->entry2);
        return;
    }
    if (n->entry2 != FSS_NONE) {
        fss_remove_entry(model, n->entry2);
    }
    fss_move_entry(model, n->entry, n->dir2, op->name2);
}

/*
 * A kernel that knows a directory elsewhere has to move what it knows, and may say ESTALE instead
 * while it renames (d_splice_alias(), which only tries for the locks). So the first look is just a
 * look.
 */
void fss_meet_moved(struct fss *fss, unsigned mount)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct stat st;

    for (uint32_t i = 0; i < fss->model->dir_count && fss->mounts > 1; i++) {
        struct fss_node *node = &fss->model->nodes[fss->model->dirs[i]];
        const char *path;
        int ret = -1;

        if (!(node->moved & 1u << mount)) {
            continue;
        }
        path = fss_dir_path(fss, mount, fss->model->dirs[i]);
        for (unsigned k = 0; k < MEET_TRIES && (ret = lstat(path, &st)) && errno == ESTALE; k++) {
            (void)nanosleep(&pause, NULL);
        }
        if (!fss_expect(fss, ret, 0, "lstat of a directory that was moved")) {
            return;
        }
        node->moved &= (uint8_t) ~(1u << mount);
    }
}

/* Flaws for the self-test: behind the model's back */
static void plant(struct fss *fss, uint32_t dir, uint32_t entry)
{
    const char *path = fss_path(fss, 0, dir, fss->op->name);
    struct fss_node *node = entry == FSS_NONE ? NULL : node_of(fss, entry);
    int fd;

    if (!node || node->type != FSS_FILE) {
        return;
    }
    switch ((enum plant)fss->config->plant) {
    case PLANT_BYTE:
        fd = node->size ? open(path, O_WRONLY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            (void)!pwrite(fd, "", 1, node->size / 2);
            (void)close(fd);
        }
        break;
    case PLANT_NAME:
        (void)unlink(path);
        break;
    case PLANT_MODE:
        (void)chmod(path, node->mode ^ 010);
        break;
    case PLANT_XATTR:
        (void)lremovexattr(path, "user.a");
        (void)lsetxattr(path, "user.b", "?", 1, 0);
        break;
    case PLANT_REPLACE:
    case PLANT_NONE:
        break;
    }
}

static void do_name(struct fss *fss, const struct names *n)
{
    switch (fss->op->kind) {
    case FSS_CREATE:
        do_make(fss, n->dir, n->entry, FSS_FILE);
        break;
    case FSS_MKDIR:
        do_make(fss, n->dir, n->entry, FSS_DIR);
        break;
    case FSS_SYMLINK:
        do_make(fss, n->dir, n->entry, FSS_LINK);
        break;
    case FSS_MKFIFO:
        do_make(fss, n->dir, n->entry, FSS_FIFO);
        break;
    case FSS_LINK_TO:
        do_link(fss, n->dir, n->entry, n->dir2, n->entry2);
        break;
    case FSS_UNLINK:
        do_unlink(fss, n->dir, n->entry);
        break;
    case FSS_RMDIR:
        do_rmdir(fss, n->dir, n->entry);
        break;
    case FSS_RENAME:
        do_rename(fss, n, 0);
        break;
    case FSS_NOREPLACE:
        do_rename(fss, n, RENAME_NOREPLACE);
        break;
    case FSS_EXCHANGE:
        do_rename(fss, n, RENAME_EXCHANGE);
        break;
    case FSS_READDIR:
        (void)fss_check_dir(fss, fss->op->mount, n->dir);
        break;
    default:
        fss_do_data(fss, n->dir, n->entry);
        break;
    }
}

void fss_do(struct fss *fss)
{
    const struct fss_op *op = fss->op;
    const struct fss_model *model = fss->model;
    struct names n = {.dir = model->dirs[op->dir % model->dir_count],
                      .dir2 = model->dirs[op->dir2 % model->dir_count]};

    if (op->kind >= FSS_PUBLISH) {
        fss_do_public(fss);
        return;
    }
    fss_meet_moved(fss, op->mount);
    n.entry = fss_find(model, n.dir, op->name);
    n.entry2 = fss_find(model, n.dir2, op->name2);
    do_name(fss, &n);
    if (fss->config->plant && op->id % PLANT_EVERY == PLANT_EVERY - 1) {
        plant(fss, n.dir, fss_find(model, n.dir, op->name));
    }
}
