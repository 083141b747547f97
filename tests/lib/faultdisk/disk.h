/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.h - a fault disk: a tree of files below a backing directory, of which a power cut leaves
 * what was synced, and some of the rest.
 *
 *     ON ──power_cut()──► OFF: every call returns -EIO ──restart()──► ON, mounted anew
 *
 * A fault may switch it off as well, at a certain call; power_cut() then says what is left.
 *
 * BACKING/tree holds what readers see, BACKING/attic what a cut may bring back. Nothing is ever
 * synced there: it is the fault disk's machine that fails, not the one it runs on.
 *
 * Threads: any; everything but `session` is used with the lock held.
 */
#ifndef HF_TESTS_LIB_FAULTDISK_DISK_H
#define HF_TESTS_LIB_FAULTDISK_DISK_H

#include <pthread.h>

#include "tests/lib/faultdisk/faults.h"
#include "tests/lib/faultdisk/names.h"

struct fuse_session;
struct fuse_lowlevel_ops;

struct hf_faultdisk {
    pthread_mutex_t lock;
    bool off;
    bool undecided; /* off by a fault: power_cut() has still to say what is left */
    struct hf_nodes nodes;
    struct hf_names names;
    struct hf_faults faults;
    struct hf_sim_rng rng; /* what a failed sync loses */
    uint64_t cuts;

    /* The mount: main thread; control's rot asks the kernel to forget through it */
    struct fuse_session *session;
    const char *mountpoint;
    bool remount;    /* the session ends only to begin anew */
    bool unmounted;  /* the old mount is gone: a new one would be taken away before that */
    uint64_t mounts; /* so far */
    bool done;
    pthread_cond_t changed; /* of these four */
};

/** Opens, or makes, the disk below @backing. What was there is durable. */
int hf_faultdisk_init(struct hf_faultdisk *disk, const char *backing, const char *mountpoint);
void hf_faultdisk_fini(struct hf_faultdisk *disk);

extern const struct fuse_lowlevel_ops hf_faultdisk_ops;
size_t hf_faultdisk_ops_size(void);

struct hf_faultdisk_stats {
    bool off;
    uint64_t unsynced_files, unsynced_bytes, unsynced_names, stale_sectors;
};

/**
 * The machine loses power now. @ret: what there was to decide.
 * Errors: -EALREADY; -errno of the backing file system: the tree is in disorder, and stays off.
 */
int hf_faultdisk_power_cut(struct hf_faultdisk *disk, uint64_t seed, enum hf_undo_cut mode,
                           struct hf_faultdisk_stats *ret);
/** Power is back, on a new mount; forgets armed faults. Errors: -EALREADY; -EBUSY: a fault
 * switched it off, and no power_cut() has followed; -EIO: not mounted. */
int hf_faultdisk_restart(struct hf_faultdisk *disk);
/** XORs @mask into one byte, which the kernel reads anew. Errors: -ENOENT, -EINVAL (beyond it). */
int hf_faultdisk_rot(struct hf_faultdisk *disk, const char *path, uint64_t off, uint8_t mask);

void hf_faultdisk_stats(struct hf_faultdisk *disk, struct hf_faultdisk_stats *ret);

#endif
