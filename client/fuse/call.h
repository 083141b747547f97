/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - one FUSE request from its arrival to its one reply, between the modules of client/fuse.
 *
 * Threads: loop thread only.
 */
#ifndef HF_FUSE_CALL_H
#define HF_FUSE_CALL_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>

#include "client/fuse/fuse_impl.h"

struct hf_fuse_call {
    struct hf_fs_req req;
    fuse_req_t freq;
    struct hf_fuse *fuse;
    void (*reply)(struct hf_fuse_call *call);
    struct hf_fuse_call *next;
    size_t size;
    uint64_t off;
    struct hf_ino ino;
    bool trims;            /* a write after whose failure the kernel may cut the file */
    struct hf_ino changes; /* an inode that the request changes, or 0 */
    uint64_t looked_seq;   /* a LOOKUP: looked.seq when it began */
    struct fuse_file_info fi;

    int whence; /* lseek */
    bool asked; /* ... before, with seek_at as the answer (UINT64_MAX: none) */
    uint64_t seek_at;
    struct hf_job job;
    struct hf_fs_set set; /* setattr that waits for pages */
};

static inline struct hf_ino ino_of(fuse_ino_t ino)
{
    return (struct hf_ino){ino};
}

static inline struct hf_fs_file *file_of(const struct fuse_file_info *fi)
{
    return (struct hf_fs_file *)(uintptr_t)fi->fh;
}

/** @reply answers it when it ends well. NULL: no memory, and the kernel has been told. */
struct hf_fuse_call *hf_fuse_call_new(fuse_req_t freq, void (*reply)(struct hf_fuse_call *call));
/** Replies and frees @call, unless @err is HF_FS_PENDING: then its request's end will. */
void hf_fuse_call_end(struct hf_fuse_call *call, int err);
struct fuse_entry_param hf_fuse_entry_of(struct hf_fuse *fuse, const struct hf_attr *a);

/* listing.c */
void hf_fuse_op_readdir(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off,
                        struct fuse_file_info *fi);
void hf_fuse_op_readdirplus(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off,
                            struct fuse_file_info *fi);

#endif
