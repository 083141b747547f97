/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_impl.h - one mount's parts, shared by the modules of client/fuse.
 *
 * Threads: loop thread only.
 */
#ifndef HF_FUSE_FUSE_IMPL_H
#define HF_FUSE_FUSE_IMPL_H

#include "client/fs/fs.h"
#include "client/fuse/looked.h"
#include "client/fuse/mount.h"
#include "client/fuse/raw.h"
#include "client/fuse/squash.h"

#define HF_FUSE_REQUEST_BYTES (1u << 20) /* most bytes of one READ or WRITE */

struct fuse_session;
struct fuse_lowlevel_ops;
struct hf_fuse_call;
struct hf_control;

enum hf_mount_state {
    HF_MOUNT_OPENING, /* the session */
    HF_MOUNT_SERVING,
    HF_MOUNT_FLUSHING, /* unmounted; dirty data goes */
    HF_MOUNT_CLOSING,  /* the session */
    HF_MOUNT_CLOSED,   /* and what detached it has not returned yet */
    HF_MOUNT_DONE,
};

struct hf_fuse {
    struct hf_env *env;
    const struct hf_mount_options *options;
    enum hf_mount_state state;
    int result;
    bool told; /* ready() ran */
    char mountpoint[4096];
    unsigned major, minor; /* st_dev of the mount */

    struct hf_bufpool *pool;
    struct hf_session *session;
    struct hf_io *io;
    struct hf_fs *fs;
    struct hf_control *control;

    struct fuse_session *se;
    struct hf_fd_watch *watch;
    struct hf_raw raw;
    struct hf_squash squash;
    bool read_only;    /* by its options, or the cluster says so */
    struct hf_buf *rx; /* the request being read; a large write keeps it */
    struct hf_timer rx_timer, end_timer;
    uint64_t end_bytes, end_ns; /* unmounted: the least that was left; when to give up on it */
    struct hf_task init_task;   /* after INIT: what needs a connection */

    struct hf_looked looked;
    struct hf_fuse_call *free_calls;
    uint32_t call_count; /* unanswered */
    uint32_t writebacks; /* of them: the kernel writes pages back first */
    uint64_t requests;
    struct hf_fs_req sync_req;
    struct hf_job umount_job;
    bool umounting;
    int umount_err; /* of the job */
};

/* ops.c */
extern const struct fuse_lowlevel_ops hf_fuse_ops;
size_t hf_fuse_ops_size(void);
void hf_fuse_calls_free(struct hf_fuse *fuse);

/* gate.c */
/** A request as it was read: to libfuse, now or when it is known that it may be made. */
void hf_gate_request(struct hf_fuse *fuse, void *data, size_t len);

/* control.c */
/** Errors: those of listening; the mount goes on without. */
int hf_control_new(struct hf_fuse *fuse, struct hf_control **ret);
void hf_control_free(struct hf_control *control);

/* mount.c */
void hf_mount_detach(struct hf_fuse *fuse);

#endif
