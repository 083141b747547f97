/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.c - FUSE requests to a fault disk. A node's number is its address; a directory is listed
 * anew for each request, so that no handle is kept and none is left when the mount is cut off.
 */
#define FUSE_USE_VERSION 314

#include "tests/lib/faultdisk/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "common/base/assert.h"

#define CACHE_SECONDS 3600.0 /* nobody else changes the tree */

static struct hf_faultdisk *disk_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct hf_node *node_of(struct hf_faultdisk *disk, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? disk->nodes.root : (struct hf_node *)(uintptr_t)ino;
}

/* A call begins with the lock taken, and ends with it given back */

static struct hf_faultdisk *begin(fuse_req_t req, int *ret_err)
{
    struct hf_faultdisk *disk = disk_of(req);

    (void)pthread_mutex_lock(&disk->lock);
    *ret_err = disk->off ? -EIO : 0;
    return disk;
}

static void wait_ms(uint64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* As begin(), for a call that may be slow, or be struck. @name: NULL, or in the directory @ino. */
static struct hf_faultdisk *begin_op(fuse_req_t req, enum hf_fault_op op, fuse_ino_t ino,
                                     const char *name, int *ret_err)
{
    struct hf_faultdisk *disk = begin(req, ret_err);
    const uint64_t ms = disk->faults.delay_ms[op];
    char path[PATH_MAX + NAME_MAX + 2] = "";

    if (ms > 0 && !*ret_err) {
        (void)pthread_mutex_unlock(&disk->lock);
        wait_ms(ms);
        disk = begin(req, ret_err);
    }
    if (*ret_err) {
        return disk;
    }
    if (hf_faults_wants_path(&disk->faults, op)) {
        hf_nodes_path(&disk->nodes, node_of(disk, ino), path);
        if (name) {
            (void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", name);
        }
    }
    *ret_err = hf_faults_strike(&disk->faults, op, path);
    if (*ret_err == -HF_FAULT_OFF) {
        disk->off = true;
        disk->undecided = true;
        *ret_err = -EIO;
    }
    return disk;
}

static void end(struct hf_faultdisk *disk)
{
    (void)pthread_mutex_unlock(&disk->lock);
}

/* Replies */

static void reply_err(fuse_req_t req, int err)
{
    (void)fuse_reply_err(req, -err); /* it fails when the kernel no longer waits */
}

static void reply_entry(fuse_req_t req, int err, const struct fuse_entry_param *entry)
{
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_entry(req, entry);
    }
}

static void reply_attr(fuse_req_t req, int err, const struct stat *st)
{
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_attr(req, st, CACHE_SECONDS);
    }
}

/* The kernel knows one more lookup of it: without a reply it is to be taken back. */
static int look_up(struct hf_faultdisk *disk, fuse_ino_t parent, const char *name,
                   struct fuse_entry_param *ret)
{
    struct hf_node *node;
    int err;

    *ret = (struct fuse_entry_param){.attr_timeout = CACHE_SECONDS, .entry_timeout = CACHE_SECONDS};
    err = hf_nodes_find(&disk->nodes, node_of(disk, parent), name, &node, &ret->attr);
    if (!err) {
        node->lookups++;
        ret->ino = (fuse_ino_t)(uintptr_t)node;
    }
    return err;
}

static int attr_of(struct hf_faultdisk *disk, fuse_ino_t ino, struct stat *ret)
{
    return fstat(node_of(disk, ino)->fd, ret) == 0 ? 0 : -errno;
}

/* Lookup and attributes */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    /* Every write arrives at once, and what the kernel has cached stays right by itself. */
    conn->want &=
        ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry;
    int err;
    struct hf_faultdisk *disk = begin(req, &err);

    if (!err) {
        err = look_up(disk, parent, name, &entry);
    }
    end(disk);
    reply_entry(req, err, &entry);
}

static void forget_one(struct hf_faultdisk *disk, fuse_ino_t ino, uint64_t count)
{
    struct hf_node *node = node_of(disk, ino);

    if (node != disk->nodes.root) {
        HF_ASSERT(node->lookups >= count);
        node->lookups -= count;
    }
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    int off;
    struct hf_faultdisk *disk = begin(req, &off);

    forget_one(disk, ino, count);
    hf_nodes_sweep(&disk->nodes);
    end(disk);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    int off;
    struct hf_faultdisk *disk = begin(req, &off);

    for (size_t i = 0; i < count; i++) {
        forget_one(disk, forgets[i].ino, forgets[i].nlookup);
    }
    hf_nodes_sweep(&disk->nodes);
    end(disk);
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    int err;
    struct hf_faultdisk *disk = begin(req, &err);

    if (!err) {
        err = attr_of(disk, ino, &st);
    }
    end(disk);
    reply_attr(req, err, &st);
}

static int set_times(int fd, const struct stat *attr, int to_set)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

    if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
        times[0].tv_nsec = UTIME_NOW;
    } else if (to_set & FUSE_SET_ATTR_ATIME) {
        times[0] = attr->st_atim;
    }
    if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
        times[1].tv_nsec = UTIME_NOW;
    } else if (to_set & FUSE_SET_ATTR_MTIME) {
        times[1] = attr->st_mtim;
    }
    return futimens(fd, times) == 0 ? 0 : -errno;
}

/* Mode, owner and times are durable at once: nothing here rests on them. */
static int set_attr(struct hf_node *node, const struct stat *attr, int to_set)
{
    const uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
    const gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
    int err = 0;

    if (to_set & FUSE_SET_ATTR_SIZE) {
        err = hf_undo_truncate(&node->bytes, node->fd, (uint64_t)attr->st_size);
    }
    if (!err && to_set & FUSE_SET_ATTR_MODE) {
        err = fchmod(node->fd, attr->st_mode) == 0 ? 0 : -errno;
    }
    if (!err && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
        err = fchown(node->fd, uid, gid) == 0 ? 0 : -errno;
    }
    return err ? err : set_times(node->fd, attr, to_set);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct stat st;
    int err;
    struct hf_faultdisk *disk = to_set & FUSE_SET_ATTR_SIZE
                                    ? begin_op(req, HF_FAULT_WRITE, ino, NULL, &err)
                                    : begin(req, &err);

    if (!err) {
        err = set_attr(node_of(disk, ino), attr, to_set);
    }
    if (!err) {
        err = attr_of(disk, ino, &st);
    }
    end(disk);
    reply_attr(req, err, &st);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;
    int err;
    struct hf_faultdisk *disk = begin(req, &err);

    if (!err && fstatvfs(disk->nodes.root->fd, &st) != 0) {
        err = -errno;
    }
    end(disk);
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_statfs(req, &st);
    }
}

/* Names */

static int made(struct hf_faultdisk *disk, fuse_ino_t parent, const char *name,
                struct fuse_entry_param *ret)
{
    hf_names_made(&disk->names, node_of(disk, parent), name);
    return look_up(disk, parent, name, ret);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct fuse_entry_param entry;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_NAME, parent, name, &err);

    if (!err) {
        int fd = openat(node_of(disk, parent)->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                        mode & 0777);

        if (fd >= 0) {
            (void)close(fd);
            err = made(disk, parent, name, &entry);
        } else {
            /* Without O_EXCL the kernel may not have known that it is there. */
            err = errno == EEXIST && !(fi->flags & O_EXCL) ? look_up(disk, parent, name, &entry)
                                                           : -errno;
        }
    }
    end(disk);
    if (err) {
        reply_err(req, err);
        return;
    }
    fi->keep_cache = 1;
    (void)fuse_reply_create(req, &entry, fi);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param entry;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_NAME, parent, name, &err);

    if (!err) {
        err = mkdirat(node_of(disk, parent)->fd, name, mode & 0777) == 0
                  ? made(disk, parent, name, &entry)
                  : -errno;
    }
    end(disk);
    reply_entry(req, err, &entry);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_NAME, parent, name, &err);

    if (!err) {
        char path[64];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", node_of(disk, ino)->fd);
        err = linkat(AT_FDCWD, path, node_of(disk, parent)->fd, name, AT_SYMLINK_FOLLOW) == 0
                  ? made(disk, parent, name, &entry)
                  : -errno;
    }
    end(disk);
    reply_entry(req, err, &entry);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_NAME, parent, name, &err);

    if (!err) {
        err = hf_names_remove(&disk->names, node_of(disk, parent), name, is_dir);
    }
    end(disk);
    reply_err(req, err);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, false);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, true);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    struct stat st;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_NAME, new_parent, new_name, &err);

    if (!err && flags & ~(unsigned)RENAME_NOREPLACE) {
        err = -EINVAL;
    }
    if (!err && flags & RENAME_NOREPLACE &&
        fstatat(node_of(disk, new_parent)->fd, new_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        err = -EEXIST;
    }
    if (!err) {
        err = hf_names_rename(&disk->names, node_of(disk, parent), name, node_of(disk, new_parent),
                              new_name);
    }
    end(disk);
    reply_err(req, err);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    char *buf = malloc(size);
    size_t used = 0;
    DIR *dir = NULL;
    int err;
    struct hf_faultdisk *disk = begin(req, &err);

    HF_ASSERT(buf != NULL);
    if (!err) {
        int fd = openat(node_of(disk, ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        dir = fd < 0 ? NULL : fdopendir(fd);
        err = dir ? 0 : -errno;
    }
    if (!err && off > 0) {
        seekdir(dir, off);
    }
    while (!err) {
        const struct dirent *entry = readdir(dir);
        struct stat st = {0};
        size_t len;

        if (!entry) {
            break;
        }
        st.st_ino = entry->d_ino;
        st.st_mode = (mode_t)DTTOIF(entry->d_type);
        len = fuse_add_direntry(req, buf + used, size - used, entry->d_name, &st, telldir(dir));
        if (len > size - used) {
            break;
        }
        used += len;
    }
    if (dir) {
        (void)closedir(dir);
    }
    end(disk);
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_buf(req, buf, used);
    }
    free(buf);
}

/* Bytes */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    int err;
    struct hf_faultdisk *disk = begin(req, &err);

    end(disk);
    if (err) {
        reply_err(req, err);
        return;
    }
    fi->keep_cache = 1;
    (void)fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    char *buf = malloc(size);
    ssize_t n = 0;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_READ, ino, NULL, &err);

    HF_ASSERT(buf != NULL);
    if (!err) {
        n = pread(node_of(disk, ino)->fd, buf, size, off);
        err = n < 0 ? -errno : 0;
    }
    end(disk);
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_buf(req, buf, (size_t)n);
    }
    free(buf);
}

static int sync_node(struct hf_faultdisk *disk, struct hf_node *node, int fault)
{
    if (disk->off) {
        return -EIO;
    }
    if (disk->faults.lies && !fault) {
        return 0;
    }
    if (node->is_dir) {
        node->suspect = node->suspect || fault;
        if (node->suspect) {
            return fault ? fault : -EIO;
        }
        hf_names_sync(&disk->names, node);
        hf_nodes_sweep(&disk->nodes); /* of files that are gone for good now */
    } else if (fault) {
        hf_undo_sync_failed(&node->bytes, &disk->rng);
    } else {
        hf_undo_sync(&node->bytes);
    }
    return fault;
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
    int fault;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_SYNC, ino, NULL, &fault);
    int err = sync_node(disk, node_of(disk, ino), fault);

    end(disk);
    reply_err(req, err);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    ssize_t n = 0;
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_WRITE, ino, NULL, &err);

    if (!err) {
        n = hf_undo_write(&node_of(disk, ino)->bytes, node_of(disk, ino)->fd, buf, size,
                          (uint64_t)off);
        err = n < 0 ? (int)n : 0;
    }
    end(disk);
    if (err) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_write(req, (size_t)n);
    }
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    int err;
    struct hf_faultdisk *disk = begin_op(req, HF_FAULT_WRITE, ino, NULL, &err);

    if (!err) {
        err = hf_undo_allocate(&node_of(disk, ino)->bytes, node_of(disk, ino)->fd, mode,
                               (uint64_t)off, (uint64_t)len);
    }
    end(disk);
    reply_err(req, err);
}

const struct fuse_lowlevel_ops hf_faultdisk_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .statfs = op_statfs,
    .create = op_create,
    .mkdir = op_mkdir,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .readdir = op_readdir,
    .fsyncdir = op_fsync,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
};

size_t hf_faultdisk_ops_size(void)
{
    return sizeof(hf_faultdisk_ops);
}
