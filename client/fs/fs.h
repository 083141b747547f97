/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h - the file system of one mount: names, attributes, data, locks; nothing of FUSE.
 *
 *     hf_fs_write ──► dirty map ──age, size, close, fsync──► flush ──► objects ──► one commit
 *     hf_fs_read  ──► dirty map over extents (asked each time) over objects
 *     all others  ──► one metadata call, with what is dirty laid over its answer
 *
 * A starter returns the outcome when it is known at once (0 or a negative error; done() never runs
 * then), else HF_FS_PENDING, and done() runs exactly once, later. This breaks the usual rule that
 * outcomes come by callback only: a 4 KiB write is answered in less time than posting would take.
 *
 * No leases in this version: attributes, names and extents are asked for at every use.
 *
 * Threads: loop thread only.
 */
#ifndef HF_FS_FS_H
#define HF_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/io/io.h"
#include "client/meta/session.h"
#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/env/env.h"
#include "common/wire/meta_op.h"

#define HF_FS_PENDING 1

struct hf_fs;
struct hf_fs_file; /* an open file */

struct hf_fs_options {
    struct hf_session *session; /* borrowed */
    struct hf_io *io;           /* borrowed */
    struct hf_bufpool *pool;
    uint64_t dirty_max_bytes;    /* 0: 128 MiB */
    uint64_t dirty_target_bytes; /* 0: half of dirty_max */
    uint64_t dirty_max_age_ns;   /* 0: 5 s */
    uint32_t flush_streams;      /* objects that nobody waits for, at a time; 0: 4 */
    uint64_t readahead_bytes;    /* 0: 8 MiB */
    uint64_t op_timeout_ns; /* writers that wait fail after so long without progress; 0: 120 s */
};

int hf_fs_new(struct hf_env *env, const struct hf_fs_options *options, struct hf_fs **ret);
/** The kernel is gone: files still open are closed (their data starts to be flushed). Their locks
 *  stay until the session ends, behind what was written under them. */
void hf_fs_release_all(struct hf_fs *fs);
/** No call goes to the session or to object I/O any more; both may then be freed. */
void hf_fs_shutdown(struct hf_fs *fs);
/** Nothing may be open or in flight; dirty data is dropped (flush first). NULL is a no-op. */
void hf_fs_free(struct hf_fs *fs);
/** From session events: everything dirty is lost, all files report it. */
void hf_fs_session_lost(struct hf_fs *fs, int why);
/** From session events: pairs of inode and number; at most @max numbers. Returns how many: fewer
 *  than @max are the last. @more: those behind what the call before returned. @max is even. */
uint32_t hf_fs_open_inodes(struct hf_fs *fs, bool more, uint64_t *ret, uint32_t max);

/* Requests */

struct hf_fs_lock {
    uint64_t owner;
    const struct hf_fs_file *through; /* NULL: none; its release gives the lock up */
    uint64_t start, length;           /* length 0: to the end */
    uint32_t type;                    /* F_RDLCK, F_WRLCK, F_UNLCK */
    uint32_t pid;
    bool flock;
};

struct hf_inode;

struct hf_fs_set {
    uint32_t mask; /* HF_SET_* */
    uint32_t mode, uid, gid;
    uint64_t size, atime_ns, mtime_ns, ctime_ns;
};

struct hf_fs_req { /* embedded by the caller, alive until done */
    void (*done)(struct hf_fs_req *req, int err);
    void *ctx;
    uint32_t uid, gid, umask; /* of whoever asks */

    /* results; borrowed ones live until done returns, or the next call with this request */
    struct hf_attr attr;
    struct hf_fs_file *file; /* open, create */
    bool keep_cache;  /* open, setattr, setlk: the kernel's pages are those of the contents now */
    uint64_t count;   /* lseek: position; copy, write: bytes */
    const void *data; /* readlink, xattr, readdir (hf_dirent_decode()) */
    size_t data_len;
    bool eof;                  /* readdir */
    struct hf_ino parent;      /* readdir: that of ".."; 0: unknown */
    const struct iovec *iov;   /* read */
    int iov_count;             /* <= HF_FS_IOV_MAX */
    struct hf_fs_lock lock;    /* getlk: the one in the way, or F_UNLCK */
    struct hf_meta_reply stat; /* statfs: total_bytes, free_bytes, inodes */

    /* the file system's own */
    struct hf_fs *fs;
    struct hf_inode *inode, *inode2; /* references */
    struct hf_fs_file *of, *of2;
    struct hf_meta_call call;
    int (*after)(struct hf_fs_req *req, const struct hf_meta_reply *reply);
    void (*then)(struct hf_fs_req *req); /* when what it waits for has ended */
    bool looks; /* it waits for the end of a flush only, not for its outcome */
    struct hf_fs_req *next, *prev;
    uint64_t begin_seq; /* fs->settle_seq when it began */
    uint64_t target, off_bytes, off2_bytes, len_bytes;
    uint64_t err_seq, err_seq2; /* of inode, inode2 when it began */
    struct hf_ino ino, ino2;
    struct hf_fs_set set;
    uint32_t flags, mode, state;
    const void *arg;
    void *mem, *mem2; /* malloc'd */
    struct hf_buf *buf;
};

#define HF_FS_IOV_MAX 512

/* Names. attr: of the file. */
int hf_fs_lookup(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req);
/** The kernel knows the inode no longer: what is cached of it may go. */
void hf_fs_forget(struct hf_fs *fs, struct hf_ino ino);
/** @mode with its type; @target: of a symlink, else NULL. Also mkdir. */
int hf_fs_mknod(struct hf_fs *fs, struct hf_ino parent, const char *name, uint32_t mode,
                uint64_t rdev, const char *target, struct hf_fs_req *req);
/** Create and open. -ESTALE: there is something by now (and no O_EXCL): look up again. */
int hf_fs_create(struct hf_fs *fs, struct hf_ino parent, const char *name, uint32_t mode,
                 uint32_t open_flags, struct hf_fs_req *req);
/** Create without a name, and open; O_EXCL in @open_flags: hf_fs_link() cannot give it one. */
int hf_fs_tmpfile(struct hf_fs *fs, struct hf_ino parent, uint32_t mode, uint32_t open_flags,
                  struct hf_fs_req *req);
int hf_fs_link(struct hf_fs *fs, struct hf_ino ino, struct hf_ino parent, const char *name,
               struct hf_fs_req *req);
int hf_fs_unlink(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req);
int hf_fs_rmdir(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_fs_req *req);
/** @flags RENAME_NOREPLACE, RENAME_EXCHANGE. */
int hf_fs_rename(struct hf_fs *fs, struct hf_ino parent, const char *name, struct hf_ino parent2,
                 const char *name2, uint32_t flags, struct hf_fs_req *req);
int hf_fs_readlink(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req);
/** Entries after @cookie (0: from the start), without "." and ".."; at most @max bytes. */
int hf_fs_readdir(struct hf_fs *fs, struct hf_ino ino, uint64_t cookie, uint32_t max, bool plus,
                  struct hf_fs_req *req);
/** Lay over an attribute of @req's answer (readdir) what is dirty, or was while it was asked. */
void hf_fs_overlay(const struct hf_fs_req *req, struct hf_attr *attr);
/** These attributes are shown to a program: what is dirty is committed with their ctime. */
void hf_fs_told(struct hf_fs *fs, const struct hf_attr *attr);
/**
 * The kernel gets these attributes, of a regular file or anything else. @reads: for a read of its
 * own, which nobody sees.
 *
 * It drops its pages when time or size differ from what it had. Another mount may have changed the
 * contents and set the time back. Returns what a reader's time differs by: to be exclusive-ored
 * into its nanoseconds. 0, or one of 2, 4, 6: another one each time that only this tells contents
 * apart. It stays until the time differs: answers may overtake each other.
 */
long hf_fs_told_contents(struct hf_fs *fs, const struct hf_attr *attr, bool reads);
/** How long the kernel takes a file to be: as it was told, or up to where it wrote. */
void hf_fs_kernel_told(struct hf_fs *fs, const struct hf_attr *attr);
void hf_fs_kernel_wrote(struct hf_fs *fs, struct hf_ino ino, uint64_t end);
void hf_fs_kernel_unsure(struct hf_fs *fs, struct hf_ino ino);
/** May it take it to be @size long? When that is not known: if it has not written further. */
bool hf_fs_kernel_may_see(struct hf_fs *fs, struct hf_ino ino, uint64_t size);

/* Attributes */
int hf_fs_getattr(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req);
/** Set-ID bits go, and security.capability, if req->uid is root or the owner's; else nothing. */
int hf_fs_kill_priv(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req);
int hf_fs_setattr(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_set *set,
                  struct hf_fs_req *req);
int hf_fs_statfs(struct hf_fs *fs, struct hf_fs_req *req);
#define HF_FS_XATTR_KILL 0x100u /* an access ACL takes S_ISGID away */
/** @flags XATTR_CREATE, XATTR_REPLACE, HF_FS_XATTR_KILL. */
int hf_fs_setxattr(struct hf_fs *fs, struct hf_ino ino, const char *name, const void *value,
                   size_t len, uint32_t flags, struct hf_fs_req *req);
int hf_fs_getxattr(struct hf_fs *fs, struct hf_ino ino, const char *name, struct hf_fs_req *req);
int hf_fs_listxattr(struct hf_fs *fs, struct hf_ino ino, struct hf_fs_req *req);
int hf_fs_removexattr(struct hf_fs *fs, struct hf_ino ino, const char *name, struct hf_fs_req *req);

/* Open files. @open_flags: those of open(2). */
int hf_fs_open(struct hf_fs *fs, struct hf_ino ino, uint32_t open_flags, struct hf_fs_req *req);
/** The file is closed for good. Never waits. */
void hf_fs_release(struct hf_fs_file *file);
struct hf_ino hf_fs_file_ino(const struct hf_fs_file *file);
/** May somebody have it mapped and write to it, so that the kernel has bytes that were not sent? */
bool hf_fs_mappable(struct hf_fs *fs, struct hf_ino ino);

#define HF_FS_WRITE_THROUGH 0x1u /* durable and committed before the answer */
#define HF_FS_WRITE_KILL    0x2u /* suid, sgid and security.capability go with it */
#define HF_FS_WRITE_APPEND  0x4u /* to the end of the file, wherever that is; @off: a guess */
#define HF_FS_WRITE_MAPPED  0x8u /* from a mapping: pages that the kernel had already */

/**
 * All of @len, or what of it fits into a file, in req->count; or an error. The bytes are copied, or
 * when @buf is given (@data points into it) and they are many, a reference to it is taken and they
 * are used where they lie. Errors: -ENOSPC, -EFBIG (nothing fits), -EIO (session lost), -ENOMEM;
 * with THROUGH those of the store.
 */
int hf_fs_write(struct hf_fs_file *file, uint64_t off, const void *data, uint32_t len,
                struct hf_buf *buf, uint32_t flags, struct hf_fs_req *req);
/** At most @len (<= 1 MiB) bytes in req->iov; fewer only at the end of the file. */
int hf_fs_read(struct hf_fs_file *file, uint64_t off, uint32_t len, struct hf_fs_req *req);
/** Everything written so far is durable and committed; an error since the last report. */
int hf_fs_fsync(struct hf_fs_file *file, struct hf_fs_req *req);
/** One of its descriptors is closed: like fsync for writers; also gives up @owner's locks. */
int hf_fs_flush(struct hf_fs_file *file, uint64_t owner, struct hf_fs_req *req);
/** @mode: of fallocate(2). */
int hf_fs_fallocate(struct hf_fs_file *file, uint32_t mode, uint64_t off, uint64_t len,
                    struct hf_fs_req *req);
/** SEEK_DATA, SEEK_HOLE; -ENXIO. */
int hf_fs_lseek(struct hf_fs_file *file, uint64_t off, int whence, struct hf_fs_req *req);
/** Share extents. -EOPNOTSUPP: copy the bytes instead. */
int hf_fs_copy(struct hf_fs_file *from, uint64_t from_off, struct hf_fs_file *to, uint64_t to_off,
               uint64_t len, struct hf_fs_req *req);

/* Locks */
int hf_fs_getlk(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_lock *lock,
                struct hf_fs_req *req);
/** @wait: until it is granted, or hf_fs_interrupt(). */
int hf_fs_setlk(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_lock *lock, bool wait,
                struct hf_fs_req *req);
/** End a waiting setlk with -EINTR. May run done() before it returns. */
void hf_fs_interrupt(struct hf_fs_req *req);
/** Give up all of @owner's flock locks (at release), after what was written under them; nobody
 *  waits. */
void hf_fs_unflock(struct hf_fs *fs, struct hf_ino ino, uint64_t owner);

/* The user's command over write-back */

struct hf_fs_stats {
    uint64_t dirty_bytes;   /* written, not yet on their way */
    uint64_t flush_bytes;   /* on their way */
    uint64_t memory_bytes;  /* that both occupy, with slack */
    uint64_t oldest_age_ns; /* 0: nothing dirty */
    uint64_t dirty_files, flushes, open_files;
    uint64_t writers_waiting;
    uint64_t commits, inline_commits, flushed_bytes, flush_errors, lost_bytes;
    uint64_t reads, writes, read_bytes, write_bytes, extent_hits, extent_misses;
    uint64_t dirty_max_bytes, dirty_target_bytes, dirty_max_age_ns;
};
void hf_fs_stats(const struct hf_fs *fs, struct hf_fs_stats *ret);

struct hf_fs_dirty_file {
    struct hf_ino ino;
    uint64_t bytes; /* dirty and on their way */
    uint64_t age_ns;
};
/** Files with dirty data, oldest first. Returns the count. */
uint32_t hf_fs_dirty_files(const struct hf_fs *fs, struct hf_fs_dirty_file *ret, uint32_t max);
/** Flush one file (or all: ino 0); done when it is durable, or with @wait false at once.
 *  Errors: -EIO  something could not be written; -ENOMEM  something was not even tried. */
int hf_fs_sync(struct hf_fs *fs, struct hf_ino ino, bool wait, struct hf_fs_req *req);
/** Live limits; 0 leaves one as it is. Errors: -EINVAL. */
int hf_fs_set_limits(struct hf_fs *fs, uint64_t dirty_max_bytes, uint64_t dirty_target_bytes,
                     uint64_t dirty_max_age_ns);

/** Slow; tests. */
void hf_fs_check_invariants(const struct hf_fs *fs);

#endif
