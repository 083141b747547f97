/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.h - one mount, from its session to its last flushed byte.
 *
 *   open session ──► mount(2) ──► ready(0) ──► serve ──► unmounted ──► flush all ──► close session
 *
 * One reactor serves /dev/fuse, the sockets to the cluster and the mount's control socket,
 * unix:HF_MOUNT_RUN_DIR/mount-<major>:<minor>.sock, which answers HF_M_ADMIN:
 *
 *   info                     {mountpoint, pid, cluster, session, leader, root_squash, read_only}
 *   dirty [INO]              {dirty_bytes, oldest_ms, files: [{ino, bytes, age_ms}]}
 *   flush INO|0 [wait|nowait]  {flushed: true}; with wait when it is durable
 *   stats                    everything counted
 *   set KEY VALUE            dirty_max, dirty_target (bytes), dirty_max_age (ms): at once
 *   umount                   detach from the kernel; the process ends when all is durable
 *
 * SIGTERM and SIGINT do what umount does. While something else is mounted over the mount point
 * that is left alone: the mount goes on, and its log says so.
 */
#ifndef HF_FUSE_MOUNT_H
#define HF_FUSE_MOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"
#include "common/env/env.h"

#define HF_MOUNT_RUN_DIR "/run/holdfast"

struct hf_mount_options {
    const char *const *addrs; /* of the metadata nodes */
    uint32_t addr_count;
    struct hf_uuid cluster;
    const char *mountpoint; /* an existing directory */
    const char *fsname;     /* shown as the source in /proc/mounts; NULL: "holdfast" */
    bool read_only;
    bool allow_other;            /* the default for root: hf_mount_defaults() */
    bool suid, dev;              /* allow set-user-id and devices; default: nosuid, nodev */
    bool noexec;                 /* no program is run from it */
    bool root_squash;            /* root acts as this ordinary user: client/fuse/squash.h */
    uint32_t anon_uid, anon_gid; /* not 0 */
    uint64_t dirty_max_bytes;    /* 0: 128 MiB */
    uint64_t dirty_target_bytes; /* 0: half of dirty_max */
    uint64_t dirty_max_age_ns;   /* 0: 5 s */
    uint32_t flush_streams;      /* 0: 4 */
    uint64_t cache_bytes;        /* clean data; 0: 64 MiB */
    uint64_t readahead_bytes;    /* 0: 8 MiB */
    uint64_t op_timeout_ns;      /* without the cluster for this long calls fail; 0: 120 s */
    uint64_t open_timeout_ns;    /* to find the leader when mounting; 0: 10 s */
    /**
     * Runs once: err 0 when the file system can be used, else what hf_mount_run() will return,
     * with one sentence for people. Loop thread.
     */
    void (*ready)(void *ctx, int err, const char *message);
    void *ctx;
};

/** Zero but for allow_other, which root has. */
void hf_mount_defaults(struct hf_mount_options *ret);

/**
 * Mount and serve until unmounted and clean. Runs the loop of @env (hf_env_real_new()).
 * Errors: -ETIMEDOUT, -ECONNREFUSED, -HF_EWRONGCLUSTER, -ENOENT, -ENOTDIR, -EPERM, -ENOMEM: not
 * mounted; -EIO: unmounted, but dirty data could not be written (each file is logged).
 */
int hf_mount_run(struct hf_env *env, const struct hf_mount_options *options);

#endif
