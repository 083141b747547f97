/* SPDX-License-Identifier: Apache-2.0 */
#define FUSE_USE_VERSION 314

#include "tests/lib/faultdisk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

/* Lifecycle */

static int open_below(int dir_fd, const char *name, int *ret)
{
    if (mkdirat(dir_fd, name, 0755) != 0 && errno != EEXIST) {
        return -errno;
    }
    *ret = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? -errno : 0;
}

int hf_faultdisk_init(struct hf_faultdisk *disk, const char *backing, const char *mountpoint)
{
    int top, tree = -1, attic = -1;
    int err;

    *disk = (struct hf_faultdisk){.mountpoint = mountpoint};
    (void)pthread_mutex_init(&disk->lock, NULL);
    (void)pthread_cond_init(&disk->changed, NULL);
    if (mkdir(backing, 0755) != 0 && errno != EEXIST) {
        return -errno;
    }
    top = open(backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        return -errno;
    }
    err = open_below(top, "tree", &tree);
    if (!err) {
        err = open_below(top, "attic", &attic);
    }
    if (!err) {
        err = hf_nodes_init(&disk->nodes, tree);
    }
    if (!err) {
        hf_names_init(&disk->names, attic);
    } else {
        (void)close(tree);
        (void)close(attic);
    }
    (void)close(top);
    return err;
}

void hf_faultdisk_fini(struct hf_faultdisk *disk)
{
    hf_names_fini(&disk->names);
    hf_nodes_fini(&disk->nodes);
    (void)pthread_cond_destroy(&disk->changed);
    (void)pthread_mutex_destroy(&disk->lock);
}

/* Power */

static void count(const struct hf_faultdisk *disk, struct hf_faultdisk_stats *ret)
{
    *ret = (struct hf_faultdisk_stats){.off = disk->off, .unsynced_names = disk->names.count};
    for (size_t i = 0; i < HF_NODES_BUCKETS; i++) {
        for (const struct hf_node *node = disk->nodes.bucket[i]; node; node = node->next) {
            ret->unsynced_files += node->bytes.first != NULL;
            ret->unsynced_bytes += node->bytes.unsynced_bytes;
            ret->stale_sectors += node->bytes.stale_count;
        }
    }
}

static int cut_files(struct hf_faultdisk *disk, struct hf_sim_rng *rng, enum hf_undo_cut mode)
{
    int err = 0;

    for (size_t i = 0; i < HF_NODES_BUCKETS; i++) {
        for (struct hf_node *node = disk->nodes.bucket[i]; !err && node; node = node->next) {
            node->suspect = false;
            if (node->bytes.first || node->bytes.stale_count > 0) {
                err = hf_undo_cut(&node->bytes, node->fd, rng, mode);
            }
        }
    }
    return err;
}

int hf_faultdisk_power_cut(struct hf_faultdisk *disk, uint64_t seed, enum hf_undo_cut mode,
                           struct hf_faultdisk_stats *ret)
{
    struct hf_sim_rng rng = {.state = seed};
    int err = -EALREADY;

    (void)pthread_mutex_lock(&disk->lock);
    count(disk, ret);
    if (!disk->off || disk->undecided) {
        disk->off = true;
        disk->undecided = false;
        disk->cuts++;
        err = cut_files(disk, &rng, mode);
        if (!err) {
            err = hf_names_cut(&disk->names, &rng, mode);
        }
        disk->rng = rng;
    }
    (void)pthread_mutex_unlock(&disk->lock);
    return err;
}

/*
 * What the kernel keeps of the mount (pages, names, open files of a process that is still there)
 * goes with the mount, so a new one is made: the connection is cut off, then the mount taken away,
 * even when it is busy.
 */
int hf_faultdisk_restart(struct hf_faultdisk *disk)
{
    uint64_t before;
    int err = 0;

    (void)pthread_mutex_lock(&disk->lock);
    if (!disk->off || disk->undecided) {
        err = disk->off ? -EBUSY : -EALREADY;
        (void)pthread_mutex_unlock(&disk->lock);
        return err;
    }
    hf_faults_clear(&disk->faults);
    before = disk->mounts;
    disk->remount = true;
    disk->unmounted = false;
    (void)pthread_mutex_unlock(&disk->lock);
    if (umount2(disk->mountpoint, MNT_FORCE) != 0) {
        (void)umount2(disk->mountpoint, MNT_DETACH); /* the loop ends by the force above already */
    }
    (void)pthread_mutex_lock(&disk->lock);
    disk->unmounted = true;
    (void)pthread_cond_broadcast(&disk->changed);
    while (disk->mounts == before && !disk->done) {
        (void)pthread_cond_wait(&disk->changed, &disk->lock);
    }
    err = disk->mounts == before ? -EIO : 0;
    (void)pthread_mutex_unlock(&disk->lock);
    return err;
}

/* Rot */

static int flip(int fd, uint64_t off, uint8_t mask)
{
    uint8_t byte;
    ssize_t n = pread(fd, &byte, 1, (off_t)off);

    if (n != 1) {
        return n < 0 ? -errno : -EINVAL;
    }
    byte ^= mask;
    return pwrite(fd, &byte, 1, (off_t)off) == 1 ? 0 : -errno;
}

int hf_faultdisk_rot(struct hf_faultdisk *disk, const char *path, uint64_t off, uint8_t mask)
{
    fuse_ino_t known = 0;
    struct stat st;
    int err, fd;

    (void)pthread_mutex_lock(&disk->lock);
    fd = openat(disk->nodes.root->fd, path + strspn(path, "/"), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    err = fd < 0 || fstat(fd, &st) != 0 ? -errno : flip(fd, off, mask);
    if (!err) {
        const struct hf_node *node = disk->nodes.bucket[st.st_ino % HF_NODES_BUCKETS];

        while (node && node->ino != st.st_ino) {
            node = node->next;
        }
        known = node && node->lookups > 0 ? (fuse_ino_t)(uintptr_t)node : 0;
    }
    (void)pthread_mutex_unlock(&disk->lock);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (known && disk->session) { /* not under the lock: the kernel may write pages back first */
        (void)fuse_lowlevel_notify_inval_inode(disk->session, known, (off_t)off, 1);
    }
    return err;
}

void hf_faultdisk_stats(struct hf_faultdisk *disk, struct hf_faultdisk_stats *ret)
{
    (void)pthread_mutex_lock(&disk->lock);
    count(disk, ret);
    (void)pthread_mutex_unlock(&disk->lock);
}
