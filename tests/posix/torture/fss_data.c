/* SPDX-License-Identifier: Apache-2.0 */
/* fss_data.c - contents, modes and attributes of what a name leads to, and files that are held
 * open. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/torture/fsstress.h"

static struct fss_node *node_at(struct fss *fss, uint32_t entry)
{
    return entry == FSS_NONE ? NULL : &fss->model->nodes[fss->model->entries[entry].node];
}

static uint64_t fill_id(const struct fss_op *op)
{
    return (uint64_t)op->process << 32 | op->id;
}

/* Reading and writing */

static bool check_bytes(struct fss *fss, const struct fss_node *node, int fd)
{
    ssize_t n = pread(fd, fss->buf, sizeof(fss->buf), 0);

    if (n < 0 || n != (ssize_t)node->size) {
        fss_fails(fss, "read: %zd bytes (%s), not %u", n, n < 0 ? strerror(errno) : "", node->size);
        return false;
    }
    for (uint32_t i = 0; i < node->size; i++) {
        if (fss->buf[i] != node->bytes[i]) {
            fss_fails(fss, "read: byte %u is 0x%02x, not 0x%02x; the size is %u", i, fss->buf[i],
                      node->bytes[i], node->size);
            return false;
        }
    }
    return true;
}

static bool write_bytes(struct fss *fss, struct fss_node *node, int fd, bool append)
{
    const struct fss_op *op = fss->op;
    uint32_t off = append ? node->size : op->value % 16384, len = 1 + (op->value >> 14) % 16384;
    ssize_t n;

    len = len < FSS_FILE_BYTES - off ? len : FSS_FILE_BYTES - off;
    if (len == 0) {
        return true;
    }
    torture_fill(fss->buf, off, len, fill_id(op));
    n = append ? write(fd, fss->buf, len) : pwrite(fd, fss->buf, len, off);
    if (n != (ssize_t)len) {
        fss_fails(fss, "write: %zd (%s), not %u", n, n < 0 ? strerror(errno) : "", len);
        return false;
    }
    fss_set_size(node, off + len > node->size ? off + len : node->size);
    memcpy(node->bytes + off, fss->buf, len);
    return true;
}

static void do_write(struct fss *fss, const char *path, struct fss_node *node)
{
    static const int errors[] = {
        [FSS_FILE] = 0, [FSS_DIR] = EISDIR, [FSS_LINK] = ELOOP, [FSS_FIFO] = ENXIO};
    bool append = fss->op->value >> 31;
    int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (append ? O_APPEND : 0);
    int fd = open(path, flags);

    if (fss_expect(fss, fd, node ? errors[node->type] : ENOENT, "open to write")) {
        (void)write_bytes(fss, node, fd, append);
        (void)fss_expect(fss, close(fd), 0, "close");
    } else if (fd >= 0) {
        (void)close(fd);
    }
}

static void do_read(struct fss *fss, const char *path, struct fss_node *node)
{
    int fd;

    if (!node || node->type != FSS_FILE) {
        return;
    }
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fss_expect(fss, fd, 0, "open to read")) {
        (void)check_bytes(fss, node, fd);
        (void)fss_expect(fss, close(fd), 0, "close");
    }
}

static void do_truncate(struct fss *fss, const char *path, struct fss_node *node)
{
    static const int errors[] = {
        [FSS_FILE] = 0, [FSS_DIR] = EISDIR, [FSS_LINK] = ENOENT, [FSS_FIFO] = EINVAL};
    uint32_t size = fss->op->value % 20000;

    if (fss_expect(fss, truncate(path, size), node ? errors[node->type] : ENOENT, "truncate")) {
        fss_set_size(node, size);
    }
}

/* Attributes */

static void do_chmod(struct fss *fss, const char *path, struct fss_node *node)
{
    bool missing = !node || node->type == FSS_LINK; /* links lead nowhere */
    mode_t mode = (fss->op->value & 077) | (!missing && node->type == FSS_DIR ? 0700 : 0600);

    if (fss_expect(fss, chmod(path, mode), missing ? ENOENT : 0, "chmod")) {
        node->mode = mode;
    }
}

static bool takes_xattrs(const struct fss_node *node)
{
    return node->type == FSS_FILE || node->type == FSS_DIR;
}

static const char *xattr_name(const struct fss *fss)
{
    static const char *const names[FSS_XATTRS] = {"user.a", "user.b", "user.c.long-name", "user.d"};

    return names[fss->op->value % FSS_XATTRS];
}

static void do_setxattr(struct fss *fss, const char *path, struct fss_node *node)
{
    static const int flags[] = {0, XATTR_CREATE, XATTR_REPLACE};
    uint32_t value = fss->op->value;
    int flag = flags[(value >> 8) % 3], want = node ? 0 : ENOENT;
    uint16_t len = (uint16_t)((value >> 16) % FSS_XATTR_MAX);
    struct fss_xattr *xattr = node ? &node->xattrs[value % FSS_XATTRS] : NULL;

    if (node && !takes_xattrs(node)) {
        want = EPERM;
    } else if (node && flag) {
        want = flag == XATTR_CREATE && xattr->set     ? EEXIST
               : flag == XATTR_REPLACE && !xattr->set ? ENODATA
                                                      : 0;
    }
    torture_fill(fss->buf, 0, len, fill_id(fss->op));
    if (fss_expect(fss, lsetxattr(path, xattr_name(fss), fss->buf, len, flag), want, "setxattr")) {
        xattr->set = true;
        xattr->len = len;
        memcpy(xattr->bytes, fss->buf, len);
    }
}

static void do_removexattr(struct fss *fss, const char *path, struct fss_node *node)
{
    struct fss_xattr *xattr = node ? &node->xattrs[fss->op->value % FSS_XATTRS] : NULL;
    int want = !node ? ENOENT : !takes_xattrs(node) ? EPERM : xattr->set ? 0 : ENODATA;

    if (fss_expect(fss, lremovexattr(path, xattr_name(fss)), want, "removexattr")) {
        xattr->set = false;
    }
}

static void do_getxattr(struct fss *fss, const char *path, const struct fss_node *node)
{
    const struct fss_xattr *xattr = node ? &node->xattrs[fss->op->value % FSS_XATTRS] : NULL;
    int want = !node ? ENOENT : !takes_xattrs(node) || !xattr->set ? ENODATA : 0;
    ssize_t n = lgetxattr(path, xattr_name(fss), fss->buf, sizeof(fss->buf));

    if (fss_expect(fss, n, want, "getxattr") &&
        (n != xattr->len || memcmp(fss->buf, xattr->bytes, xattr->len) != 0)) {
        fss_fails(fss, "getxattr %s: another value, of %zd bytes, not %u", xattr_name(fss), n,
                  xattr->len);
    }
}

/* Files held open */

static void do_hold(struct fss *fss, const char *path, uint32_t entry)
{
    struct fss_node *node = node_at(fss, entry);
    unsigned slot = 0;

    while (slot < FSS_HELD && fss->held[slot].fd >= 0) {
        slot++;
    }
    if (!node || node->type != FSS_FILE || slot == FSS_HELD) {
        return;
    }
    fss->held[slot].fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fss_expect(fss, fss->held[slot].fd, 0, "open to hold")) {
        fss->held[slot].node = fss->model->entries[entry].node;
        node->held++;
    }
}

static void held_read(struct fss *fss, int fd, const struct fss_node *node)
{
    struct stat st;

    if (!fss_expect(fss, fstat(fd, &st), 0, "fstat of a held file")) {
        return;
    }
    if (st.st_nlink != node->nlink || st.st_size != node->size || st.st_ino != node->ino) {
        fss_fails(fss, "held file: nlink %ju, size %jd, inode %ju, not %u, %u, %ju",
                  (uintmax_t)st.st_nlink, (intmax_t)st.st_size, (uintmax_t)st.st_ino, node->nlink,
                  node->size, (uintmax_t)node->ino);
        return;
    }
    (void)check_bytes(fss, node, fd);
}

static void do_held(struct fss *fss)
{
    unsigned slot = fss->op->dir % FSS_HELD;
    int fd = fss->held[slot].fd;
    uint32_t at = fss->held[slot].node;
    struct fss_node *node = &fss->model->nodes[at];

    if (fd < 0) {
        return;
    }
    if (fss->op->kind == FSS_HELD_READ) {
        held_read(fss, fd, node);
    } else if (fss->op->kind == FSS_HELD_WRITE) {
        if (write_bytes(fss, node, fd, false) && fss->mounts > 1) {
            (void)fss_expect(fss, fsync(fd), 0, "fsync"); /* the other mount is to see it */
        }
    } else {
        fss->held[slot].fd = -1;
        (void)fss_expect(fss, close(fd), 0, "close");
        node->held--;
        fss_settle(fss->model, at);
    }
}

void fss_do_data(struct fss *fss, uint32_t dir, uint32_t entry)
{
    const struct fss_op *op = fss->op;
    const char *path = fss_path(fss, op->mount, dir, op->name);
    struct fss_node *node = node_at(fss, entry);
    struct stat st;

    if (op->kind >= FSS_HELD_READ) {
        do_held(fss);
    } else if (op->kind == FSS_HOLD) {
        do_hold(fss, path, entry);
    } else if (op->kind == FSS_WRITE) {
        do_write(fss, path, node);
    } else if (op->kind == FSS_READ) {
        do_read(fss, path, node);
    } else if (op->kind == FSS_TRUNCATE) {
        do_truncate(fss, path, node);
    } else if (op->kind == FSS_CHMOD) {
        do_chmod(fss, path, node);
    } else if (op->kind == FSS_STAT) {
        if (node) {
            (void)fss_check_node(fss, op->mount, path, fss->model->entries[entry].node);
        } else {
            (void)fss_expect(fss, lstat(path, &st), ENOENT, "lstat");
        }
    } else if (fss->has_xattrs && op->kind == FSS_SETXATTR) {
        do_setxattr(fss, path, node);
    } else if (fss->has_xattrs && op->kind == FSS_REMOVEXATTR) {
        do_removexattr(fss, path, node);
    } else if (fss->has_xattrs && op->kind == FSS_GETXATTR) {
        do_getxattr(fss, path, node);
    }
}
