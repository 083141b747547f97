/* SPDX-License-Identifier: Apache-2.0 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "common/base/assert.h"
#include "tests/lib/faultdisk/control.h"
#include "tests/lib/faultdisk/disk.h"

static const char help[] =
    "faultdisk - a file system that forgets what was not synced, and fails when told to\n"
    "\n"
    "    faultdisk serve BACKING MOUNTPOINT SOCKET\n"
    "        mounted until SIGTERM; says 'ready' when it is. BACKING is made when missing\n"
    "\n"
    "    faultdisk ctl SOCKET power-cut [--seed N] [--mode random|drop|keep|torn]\n"
    "        the machine loses power: what was not synced is kept in part (random), not at all\n"
    "        (drop), as a whole (keep), or each 512-byte sector by chance and all names (torn);\n"
    "        every call fails with EIO until 'restart'\n"
    "    faultdisk ctl SOCKET restart\n"
    "        power is back: mounted anew, and faults are cleared\n"
    "    faultdisk ctl SOCKET fail read|write|sync|name [--path PART] [--after N] [--count N]\n"
    "            [--errno EIO|ENOSPC|OFF]\n"
    "        calls on paths that contain PART: N pass, then so many fail (all, if not given);\n"
    "        OFF: the power goes with the first, and 'power-cut' says what that left\n"
    "    faultdisk ctl SOCKET delay read|write|sync|name MS\n"
    "        every such call takes longer by so much; 0 ends it\n"
    "    faultdisk ctl SOCKET lie\n"
    "        syncs say that they succeeded, and do nothing\n"
    "    faultdisk ctl SOCKET clear\n"
    "        no more faults, delays and lies\n"
    "    faultdisk ctl SOCKET rot PATH OFFSET [MASK]\n"
    "        XORs one byte of a file; PATH is from the mount point on\n"
    "    faultdisk ctl SOCKET stats\n"
    "        JSON: what is unsynced, calls, faults that struck\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misused.\n";

static int fail(const char *what, int err)
{
    (void)fprintf(stderr, "faultdisk: %s: %s\n", what, strerror(-err));
    return 1;
}

/* One mount, from its beginning to its end. *ret_again: the power came back. */
static int serve_mount(struct hf_faultdisk *disk, bool *ret_again)
{
    char *argv[] = {"faultdisk", "-o", "fsname=faultdisk,subtype=faultdisk", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(HF_ARRAY_LEN(argv) - 1, argv);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    int result = -1;

    HF_ASSERT(config != NULL);
    *ret_again = false;
    disk->session = fuse_session_new(&args, &hf_faultdisk_ops, hf_faultdisk_ops_size(), disk);
    if (disk->session && fuse_set_signal_handlers(disk->session) == 0 &&
        fuse_session_mount(disk->session, disk->mountpoint) == 0) {
        if (disk->mounts == 0) {
            (void)printf("ready\n");
            (void)fflush(stdout);
        }
        (void)pthread_mutex_lock(&disk->lock);
        disk->off = false;
        disk->remount = false;
        disk->mounts++;
        (void)pthread_cond_broadcast(&disk->changed);
        (void)pthread_mutex_unlock(&disk->lock);
        result = fuse_session_loop_mt(disk->session, config);
        (void)pthread_mutex_lock(&disk->lock);
        while (disk->remount && !disk->unmounted) {
            (void)pthread_cond_wait(&disk->changed, &disk->lock);
        }
        (void)pthread_mutex_unlock(&disk->lock);
        fuse_session_unmount(disk->session);
        (void)pthread_mutex_lock(&disk->lock);
        *ret_again = disk->remount;
        hf_nodes_forget_all(&disk->nodes);
        (void)pthread_mutex_unlock(&disk->lock);
    }
    if (disk->session) {
        fuse_remove_signal_handlers(disk->session);
        fuse_session_destroy(disk->session);
        disk->session = NULL;
    }
    fuse_loop_cfg_destroy(config);
    fuse_opt_free_args(&args);
    return result;
}

static int serve(const char *backing, const char *mountpoint, const char *socket_path)
{
    struct hf_faultdisk disk;
    struct hf_control control;
    bool again = true;
    int result = 0;
    int err;

    (void)umask(0); /* the kernel has applied the caller's */
    err = hf_faultdisk_init(&disk, backing, mountpoint);
    if (err) {
        return fail(backing, err);
    }
    err = hf_control_start(&control, &disk, socket_path);
    if (err) {
        hf_faultdisk_fini(&disk);
        return fail(socket_path, err);
    }
    while (again) {
        result = serve_mount(&disk, &again);
    }
    (void)pthread_mutex_lock(&disk.lock);
    disk.done = true;
    (void)pthread_cond_broadcast(&disk.changed);
    (void)pthread_mutex_unlock(&disk.lock);
    hf_control_stop(&control);
    hf_faultdisk_fini(&disk);
    return result < 0 ? 1 : 0;
}

int main(int argc, char *argv[])
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || (i == 1 && strcmp(argv[i], "help") == 0)) {
            (void)fputs(help, stdout);
            return 0;
        }
    }
    if (argc == 5 && strcmp(argv[1], "serve") == 0) {
        return serve(argv[2], argv[3], argv[4]);
    }
    if (argc >= 4 && strcmp(argv[1], "ctl") == 0) {
        return hf_control_send(argv[2], argc - 3, argv + 3);
    }
    (void)fputs("faultdisk: wrong arguments; faultdisk --help tells which there are\n", stderr);
    return 2;
}
