/* SPDX-License-Identifier: Apache-2.0 */
/* fss_check.c - names, types, modes, links, attributes and contents, compared with the model. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/torture/fsstress.h"

static const mode_t modes[] = {
    [FSS_FILE] = S_IFREG, [FSS_DIR] = S_IFDIR, [FSS_LINK] = S_IFLNK, [FSS_FIFO] = S_IFIFO};
static const unsigned char dirent_types[] = {
    [FSS_FILE] = DT_REG, [FSS_DIR] = DT_DIR, [FSS_LINK] = DT_LNK, [FSS_FIFO] = DT_FIFO};

bool fss_check_node(struct fss *fss, unsigned mount, const char *path, uint32_t at)
{
    const struct fss_node *node = &fss->model->nodes[at];
    uint32_t nlink = node->type == FSS_DIR ? 2 + node->subdirs : node->nlink;
    mode_t mode = modes[node->type] | node->mode;
    struct stat st;
    ssize_t n;

    (void)mount;
    if (!fss_expect(fss, lstat(path, &st), 0, path)) {
        return false;
    }
    if (node->type == FSS_DIR && !fss->counts_subdirs) {
        nlink = (uint32_t)st.st_nlink;
    }
    if (st.st_mode != mode || st.st_nlink != nlink || (node->ino && st.st_ino != node->ino) ||
        (node->type == FSS_FILE && st.st_size != node->size)) {
        fss_fails(fss, "%s: mode 0%o, nlink %ju, inode %ju, size %jd, not 0%o, %u, %ju, %u", path,
                  st.st_mode, (uintmax_t)st.st_nlink, (uintmax_t)st.st_ino, (intmax_t)st.st_size,
                  mode, nlink, (uintmax_t)node->ino, node->size);
        return false;
    }
    if (node->type == FSS_LINK) {
        n = readlink(path, (char *)fss->buf, sizeof(fss->buf) - 1);
        fss->buf[n > 0 ? n : 0] = 0;
        if (strcmp((char *)fss->buf, node->target) != 0) {
            fss_fails(fss, "%s leads to %s, not to %s", path, fss->buf, node->target);
            return false;
        }
    }
    return true;
}

static bool check_entry(struct fss *fss, const char *path, uint32_t dir, const struct dirent *entry)
{
    uint32_t found = FSS_NONE;
    const struct fss_node *node;

    for (uint8_t name = 0; name < FSS_NAMES && found == FSS_NONE; name++) {
        if (strcmp(fss_name(name), entry->d_name) == 0) {
            found = fss_find(fss->model, dir, name);
        }
    }
    if (found == FSS_NONE) {
        fss_fails(fss, "%s lists %s, which is not there", path, entry->d_name);
        return false;
    }
    node = &fss->model->nodes[fss->model->entries[found].node];
    if (entry->d_type != DT_UNKNOWN && entry->d_type != dirent_types[node->type]) {
        fss_fails(fss, "%s lists %s with type %u, not %u", path, entry->d_name, entry->d_type,
                  dirent_types[node->type]);
        return false;
    }
    if (node->ino && entry->d_ino != node->ino) {
        fss_fails(fss, "%s lists %s as inode %ju, not %ju", path, entry->d_name,
                  (uintmax_t)entry->d_ino, (uintmax_t)node->ino);
        return false;
    }
    return true;
}

bool fss_check_dir(struct fss *fss, unsigned mount, uint32_t at)
{
    const char *path = fss_dir_path(fss, mount, at);
    uint32_t count = 0, want = fss->model->nodes[at].children;
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool holds = true;

    if (!dir) {
        fss_fails(fss, "opendir %s: %s", path, strerror(errno));
        return false;
    }
    while (holds && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            holds = check_entry(fss, path, at, entry);
            count++;
        }
    }
    if (holds && (errno || count != want)) {
        fss_fails(fss, "%s lists %u names (%s), not %u", path, count, strerror(errno), want);
        holds = false;
    }
    (void)closedir(dir);
    return holds;
}

static bool check_contents(struct fss *fss, const char *path, const struct fss_node *node)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n;

    if (!fss_expect(fss, fd, 0, path)) {
        return false;
    }
    n = read(fd, fss->buf, sizeof(fss->buf));
    (void)close(fd);
    if (n != (ssize_t)node->size || (n > 0 && memcmp(fss->buf, node->bytes, (size_t)n) != 0)) {
        fss_fails(fss, "%s: other contents, %zd bytes, not %u", path, n, node->size);
        return false;
    }
    return true;
}

/* Those that there must be, and no others. */
static bool check_xattrs(struct fss *fss, const char *path, const struct fss_node *node)
{
    ssize_t len = llistxattr(path, (char *)fss->buf, sizeof(fss->buf));
    unsigned listed = 0, want = 0;

    for (ssize_t i = 0; i < len; i += (ssize_t)strlen((char *)fss->buf + i) + 1) {
        listed += strncmp((char *)fss->buf + i, "user.", 5) == 0;
    }
    for (unsigned i = 0; i < FSS_XATTRS; i++) {
        static const char *const names[] = {"user.a", "user.b", "user.c.long-name", "user.d"};
        const struct fss_xattr *xattr = &node->xattrs[i];
        ssize_t n = lgetxattr(path, names[i], fss->buf, sizeof(fss->buf));

        want += xattr->set;
        if ((n >= 0) != xattr->set ||
            (n >= 0 && (n != xattr->len || memcmp(fss->buf, xattr->bytes, xattr->len) != 0))) {
            fss_fails(fss, "%s: %s has %zd bytes, or others, not %d", path, names[i], n,
                      xattr->set ? xattr->len : -1);
            return false;
        }
    }
    if (len < 0 || listed != want) {
        fss_fails(fss, "%s lists %u attributes, not %u", path, listed, want);
        return false;
    }
    return true;
}

bool fss_check_tree(struct fss *fss, unsigned mount)
{
    const struct fss_model *model = fss->model;

    for (uint32_t i = 0; i < model->dir_count; i++) {
        if (!fss_check_dir(fss, mount, model->dirs[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < FSS_ENTRIES; i++) {
        const struct fss_entry *entry = &model->entries[i];
        const struct fss_node *node = &model->nodes[entry->node];
        const char *path;

        if (!entry->used) {
            continue;
        }
        path = fss_path(fss, mount, entry->dir, entry->name);
        if (!fss_check_node(fss, mount, path, entry->node) ||
            (node->type == FSS_FILE && !check_contents(fss, path, node)) ||
            (fss->has_xattrs && node->type <= FSS_DIR && !check_xattrs(fss, path, node))) {
            return false;
        }
    }
    return true;
}

/* Same here and there? */
static bool check_alike(struct fss *fss, char letter, unsigned number)
{
    struct stat st[FSS_MOUNTS] = {{0}};
    char path[PATH_MAX];

    for (unsigned m = 0; m < fss->mounts; m++) {
        (void)snprintf(path, sizeof(path), "%s/shared/%c%u", fss->base[m], letter, number);
        if (lstat(path, &st[m]) && errno != ENOENT) {
            fss_fails(fss, "%s: %s", path, strerror(errno));
            return false;
        }
    }
    if (fss->mounts > 1 && (st[0].st_ino != st[1].st_ino || st[0].st_size != st[1].st_size ||
                            st[0].st_mode != st[1].st_mode || st[0].st_nlink != st[1].st_nlink)) {
        fss_fails(fss, "shared/%c%u differs between the mounts: inodes %ju, %ju", letter, number,
                  (uintmax_t)st[0].st_ino, (uintmax_t)st[1].st_ino);
        return false;
    }
    return true;
}

bool fss_check_public(struct fss *fss)
{
    for (unsigned number = 0; number < FSS_SHARED; number++) {
        if (!check_alike(fss, 's', number) || !check_alike(fss, 'd', number)) {
            return false;
        }
        for (uint8_t m = 0; m < fss->mounts; m++) {
            fss->now = (struct fss_op){.kind = FSS_LOOK, .mount = m, .name = (uint8_t)number};
            fss_do_public(fss);
            fss->now.kind = FSS_SHARED_LIST;
            fss_do_public(fss);
        }
    }
    return !fss->shared->failed;
}
