/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.c - FUSE requests into calls of client/fs, and their outcomes into replies: exactly one each.
 *
 * No leases yet: every attribute and name is given to the kernel with validity 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "client/fuse/call.h"
#include "client/fuse/convert.h"
#include "common/base/assert.h"
#include "common/base/err.h"

#define SEEK_WRITEBACK_BYTES (UINT64_C(1) << 20)

/* Calls */

static void reply_open(struct hf_fuse_call *call);
static void reply_lseek(struct hf_fuse_call *call);
static void reply_written(struct hf_fuse_call *call);
static void reply_locked(struct hf_fuse_call *call);
static void seek_told(struct hf_fuse_call *call, int err);
static void lock_told(struct hf_fuse_call *call, int err);
static void reply_readlink(struct hf_fuse_call *call);
static void drop_pages(struct hf_fuse_call *call, void (*done)(struct hf_job *job));

/* How far the kernel takes the file to go now; 0: it cannot be told yet. */
static uint64_t wrote(const struct hf_fuse_call *call, uint64_t end, bool failed)
{
    return hf_looked_wrote(&call->fuse->looked, (uint32_t)fuse_req_ctx(call->freq)->pid, call->ino,
                           end, failed);
}

/* Something else than a WRITE comes from a thread. */
static void run_over(struct hf_fuse *fuse, uint32_t thread)
{
    struct hf_ino ino;
    uint64_t end = hf_looked_run_over(&fuse->looked, thread, &ino);

    if (end) {
        hf_fs_kernel_wrote(fuse->fs, ino, end);
    }
}

void hf_fuse_call_end(struct hf_fuse_call *call, int err)
{
    struct hf_fuse *fuse = call->fuse;

    if (err == HF_FS_PENDING) {
        return;
    }
    if (call->changes.v) {
        hf_looked_changed(&fuse->looked, call->changes);
    }
    if (err == -ENOENT && (call->reply == reply_open || call->reply == reply_readlink)) {
        err = -ESTALE; /* the kernel walks the path anew, and finds what replaced it */
    }
    if (err && call->trims) {
        (void)wrote(call, call->off + call->size, true);
    }
    if (err) {
        (void)fuse_reply_err(call->freq, hf_err_errno(err)); /* ENOENT: it was interrupted */
    } else {
        call->reply(call);
    }
    fuse->call_count--;
    call->next = fuse->free_calls;
    fuse->free_calls = call;
}

static void call_changes(struct hf_fuse_call *call, fuse_ino_t ino)
{
    call->changes = ino_of(ino);
    hf_looked_changed(&call->fuse->looked, call->changes);
}

static void call_done(struct hf_fs_req *req, int err)
{
    struct hf_fuse_call *call = req->ctx;

    (call->reply == reply_lseek    ? seek_told
     : call->reply == reply_locked ? lock_told
                                   : hf_fuse_call_end)(call, err);
}

/* NULL: no memory; answered. */
struct hf_fuse_call *hf_fuse_call_new(fuse_req_t freq, void (*reply)(struct hf_fuse_call *call))
{
    struct hf_fuse *fuse = fuse_req_userdata(freq);
    struct hf_fuse_call *call = fuse->free_calls;
    const struct fuse_ctx *who = fuse_req_ctx(freq);

    if (call) {
        fuse->free_calls = call->next;
    } else {
        call = calloc(1, sizeof(*call));
        if (!call) {
            (void)fuse_reply_err(freq, ENOMEM);
            return NULL;
        }
        call->fuse = fuse;
        call->req.done = call_done;
        call->req.ctx = call;
    }
    hf_looked_drop(&fuse->looked, (uint32_t)who->pid);
    if (reply != reply_written) {
        run_over(fuse, (uint32_t)who->pid);
    }
    call->freq = freq;
    call->reply = reply;
    call->changes = (struct hf_ino){0};
    call->trims = false;
    call->looked_seq = fuse->looked.seq;
    call->req.uid = who->uid;
    call->req.gid = who->gid;
    call->req.umask = who->umask;
    fuse->call_count++;
    return call;
}

void hf_fuse_calls_free(struct hf_fuse *fuse)
{
    while (fuse->free_calls) {
        struct hf_fuse_call *call = fuse->free_calls;

        fuse->free_calls = call->next;
        free(call);
    }
}

/* Replies */

struct fuse_entry_param hf_fuse_entry_of(struct hf_fuse *fuse, const struct hf_attr *a)
{
    (void)hf_fs_told_contents(fuse->fs, a, false);
    return (struct fuse_entry_param){
        .ino = a->ino.v, .generation = a->generation, .attr = hf_convert_stat(a)};
}

static void reply_ok(struct hf_fuse_call *call)
{
    (void)fuse_reply_err(call->freq, 0);
}

static void reply_entry(struct hf_fuse_call *call)
{
    struct fuse_entry_param e = hf_fuse_entry_of(call->fuse, &call->req.attr);

    (void)fuse_reply_entry(call->freq, &e);
}

/* The kernel is about to ask for the attributes once more. */
static void keep_for_getattr(struct hf_fuse_call *call)
{
    hf_fs_told(call->fuse->fs, &call->req.attr); /* a stat may be answered with it */
    hf_looked_put(&call->fuse->looked, (uint32_t)fuse_req_ctx(call->freq)->pid, &call->req.attr,
                  call->looked_seq, hf_env_mono_ns(call->fuse->env));
}

static void reply_looked_up(struct hf_fuse_call *call)
{
    keep_for_getattr(call);
    reply_entry(call);
}

/* @reads: to the kernel, for a read or a write of its own. */
static void send_attr(struct hf_fuse *fuse, fuse_req_t freq, const struct hf_attr *attr, bool reads)
{
    struct stat st = hf_convert_stat(attr);
    long turn = hf_fs_told_contents(fuse->fs, attr, reads);

    st.st_mtim.tv_nsec ^= reads ? turn : 0; /* stays below a second: its multiples of 8 do */
    fuse->raw.btime = hf_convert_time(attr->btime_ns); /* for which libfuse has no place */
    (void)fuse_reply_attr(freq, &st, 0);
}

/* stat gives no file. */
static void reply_attr_of_file(struct hf_fuse_call *call)
{
    send_attr(call->fuse, call->freq, &call->req.attr, true);
}

static void reply_attr(struct hf_fuse_call *call)
{
    hf_fs_told(call->fuse->fs, &call->req.attr);
    send_attr(call->fuse, call->freq, &call->req.attr, false);
}

/*
 * The kernel takes the time of this answer for that of its pages. When they may be older, it gets
 * one that is a nanosecond off: the next look differs, and the pages go. Nobody sees it (validity
 * 0).
 */
static void reply_set(struct hf_fuse_call *call)
{
    struct stat st = hf_convert_stat(&call->req.attr);

    hf_fs_kernel_told(call->fuse->fs, &call->req.attr);
    if (call->req.keep_cache) {
        (void)hf_fs_told_contents(call->fuse->fs, &call->req.attr, false);
    } else {
        st.st_mtim.tv_nsec ^= 1;
    }
    (void)fuse_reply_attr(call->freq, &st, 0);
}

/*
 * The kernel would keep what is appended where it thinks that the end is, for everybody who reads.
 * The leader may place it elsewhere: such descriptors go past its pages.
 */
static bool goes_direct(const struct fuse_file_info *fi)
{
    return (fi->flags & O_APPEND) && (fi->flags & O_ACCMODE) != O_RDONLY;
}

static void reply_open(struct hf_fuse_call *call)
{
    call->fi.fh = (uint64_t)(uintptr_t)call->req.file;
    call->fi.direct_io = goes_direct(&call->fi);
    call->fi.keep_cache = call->req.keep_cache;
    if (fuse_reply_open(call->freq, &call->fi) == -ENOENT) {
        hf_fs_release(call->req.file); /* interrupted: the kernel will not release it */
    }
}

static void reply_create(struct hf_fuse_call *call)
{
    struct fuse_entry_param e = hf_fuse_entry_of(call->fuse, &call->req.attr);

    call->fi.fh = (uint64_t)(uintptr_t)call->req.file;
    call->fi.keep_cache = 1; /* nobody has read it */
    call->fi.direct_io = goes_direct(&call->fi);
    keep_for_getattr(call);
    if (fuse_reply_create(call->freq, &e, &call->fi) == -ENOENT) {
        hf_fs_release(call->req.file);
    }
}

static void reply_readlink(struct hf_fuse_call *call)
{
    char target[HF_SYMLINK_MAX + 1];
    size_t len = call->req.data_len < HF_SYMLINK_MAX ? call->req.data_len : HF_SYMLINK_MAX;

    memcpy(target, call->req.data, len);
    target[len] = '\0';
    (void)fuse_reply_readlink(call->freq, target);
}

static void reply_bytes(struct hf_fuse_call *call)
{
    size_t len = call->req.data_len;

    if (call->size == 0) {
        (void)fuse_reply_xattr(call->freq, len);
    } else if (len > call->size) {
        (void)fuse_reply_err(call->freq, ERANGE);
    } else {
        (void)fuse_reply_buf(call->freq, call->req.data, len);
    }
}

/* Names of attributes, each with its zero; "trusted." is for root. */
static void reply_names(struct hf_fuse_call *call)
{
    static const char hidden[] = "trusted.";
    const char *names = call->req.data;
    size_t len = call->req.data_len, used = 0;
    char *shown = malloc(len + 1);

    if (!shown) {
        (void)fuse_reply_err(call->freq, ENOMEM);
        return;
    }
    for (size_t at = 0, n; at < len; at += n) {
        n = strnlen(names + at, len - at - 1) + 1;
        if (fuse_req_ctx(call->freq)->uid == 0 ||
            strncmp(names + at, hidden, sizeof(hidden) - 1) != 0) {
            memcpy(shown + used, names + at, n);
            used += n;
        }
    }
    call->req.data = shown;
    call->req.data_len = used;
    reply_bytes(call);
    call->req.data = NULL;
    free(shown);
}

static void reply_iov(struct hf_fuse_call *call)
{
    if (call->req.iov_count == 0) {
        (void)fuse_reply_buf(call->freq, NULL, 0);
    } else {
        (void)fuse_reply_iov(call->freq, call->req.iov, call->req.iov_count);
    }
}

static void reply_written(struct hf_fuse_call *call)
{
    uint64_t end = call->off + call->req.count;

    end = call->trims ? wrote(call, end, false) : end;
    if (end) {
        hf_fs_kernel_wrote(call->fuse->fs, call->ino, end);
    }
    (void)fuse_reply_write(call->freq, call->req.count);
}

static void reply_lseek(struct hf_fuse_call *call)
{
    (void)fuse_reply_lseek(call->freq, (off_t)call->req.count);
}

static void reply_statfs(struct hf_fuse_call *call)
{
    const struct hf_meta_reply *s = &call->req.stat;
    struct statvfs st = {
        .f_bsize = HF_BLOCK_BYTES,
        .f_frsize = HF_BLOCK_BYTES,
        .f_blocks = s->total_bytes / HF_BLOCK_BYTES,
        .f_bfree = s->free_bytes / HF_BLOCK_BYTES,
        .f_bavail = s->free_bytes / HF_BLOCK_BYTES,
        .f_files = s->inodes + s->free_bytes / HF_BLOCK_BYTES,
        .f_ffree = s->free_bytes / HF_BLOCK_BYTES,
        .f_favail = s->free_bytes / HF_BLOCK_BYTES,
        .f_namemax = HF_NAME_MAX,
    };

    (void)fuse_reply_statfs(call->freq, &st);
}

static void reply_locked(struct hf_fuse_call *call)
{
    reply_ok(call);
}

static void reply_lock(struct hf_fuse_call *call)
{
    const struct hf_fs_lock *lock = &call->req.lock;
    struct flock fl = {.l_type = (short)lock->type,
                       .l_whence = SEEK_SET,
                       .l_start = (off_t)lock->start,
                       .l_len = (off_t)lock->length,
                       .l_pid = (pid_t)lock->pid};

    (void)fuse_reply_lock(call->freq, &fl);
}

/* Names */

static void op_lookup(fuse_req_t freq, fuse_ino_t parent, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_looked_up);

    if (call) {
        hf_fuse_call_end(call, hf_fs_lookup(call->fuse->fs, ino_of(parent), name, &call->req));
    }
}

static void op_forget(fuse_req_t freq, fuse_ino_t ino, uint64_t count)
{
    struct hf_fuse *fuse = fuse_req_userdata(freq);

    (void)count; /* an inode is kept by what is known of it, not by look-ups */
    hf_fs_forget(fuse->fs, ino_of(ino));
    fuse_reply_none(freq);
}

static void op_forget_multi(fuse_req_t freq, size_t count, struct fuse_forget_data *forgets)
{
    struct hf_fuse *fuse = fuse_req_userdata(freq);

    for (size_t i = 0; i < count; i++) {
        hf_fs_forget(fuse->fs, ino_of(forgets[i].ino));
    }
    fuse_reply_none(freq);
}

static void op_mknod(fuse_req_t freq, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_entry);

    if (call) {
        hf_fuse_call_end(
            call, hf_fs_mknod(call->fuse->fs, ino_of(parent), name, mode, rdev, NULL, &call->req));
    }
}

static void op_mkdir(fuse_req_t freq, fuse_ino_t parent, const char *name, mode_t mode)
{
    op_mknod(freq, parent, name, S_IFDIR | (mode & ~(mode_t)S_IFMT), 0);
}

static void op_symlink(fuse_req_t freq, const char *target, fuse_ino_t parent, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_entry);

    if (call) {
        hf_fuse_call_end(call, hf_fs_mknod(call->fuse->fs, ino_of(parent), name, S_IFLNK | 0777, 0,
                                           target, &call->req));
    }
}

static void op_link(fuse_req_t freq, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_entry);

    if (call) {
        hf_fuse_call_end(call,
                         hf_fs_link(call->fuse->fs, ino_of(ino), ino_of(parent), name, &call->req));
    }
}

static void op_unlink(fuse_req_t freq, fuse_ino_t parent, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    if (call) {
        hf_fuse_call_end(call, hf_fs_unlink(call->fuse->fs, ino_of(parent), name, &call->req));
    }
}

static void op_rmdir(fuse_req_t freq, fuse_ino_t parent, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    if (call) {
        hf_fuse_call_end(call, hf_fs_rmdir(call->fuse->fs, ino_of(parent), name, &call->req));
    }
}

static void op_rename(fuse_req_t freq, fuse_ino_t parent, const char *name, fuse_ino_t parent2,
                      const char *name2, unsigned int flags)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    if (call) {
        hf_fuse_call_end(call, hf_fs_rename(call->fuse->fs, ino_of(parent), name, ino_of(parent2),
                                            name2, flags, &call->req));
    }
}

static void op_readlink(fuse_req_t freq, fuse_ino_t ino)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_readlink);

    if (call) {
        hf_fuse_call_end(call, hf_fs_readlink(call->fuse->fs, ino_of(ino), &call->req));
    }
}

/* Directories */

/* Every change of a directory is committed before it is answered. */
static void op_fsyncdir(fuse_req_t freq, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    (void)fi;
    (void)fuse_reply_err(freq, 0);
}

/* Attributes */

static void op_getattr(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = fuse_req_userdata(freq);
    struct hf_fuse_call *call;
    struct hf_attr attr;

    if (!fi && hf_looked_take(&fuse->looked, (uint32_t)fuse_req_ctx(freq)->pid, ino_of(ino),
                              hf_env_mono_ns(fuse->env), &attr)) {
        send_attr(fuse, freq, &attr, false);
        return;
    }
    call = hf_fuse_call_new(freq, fi ? reply_attr_of_file : reply_attr);
    if (call) {
        hf_fuse_call_end(call, hf_fs_getattr(call->fuse->fs, ino_of(ino), &call->req));
    }
}

/* @now_ns is one reading of the clock for both: who sets both to now finds them equal. */
static void set_times(struct hf_fs_set *set, const struct stat *st, int to_set, uint64_t now_ns)
{
    if (to_set & FUSE_SET_ATTR_ATIME) {
        set->mask |= HF_SET_ATIME;
        set->atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now_ns : hf_convert_ns(&st->st_atim);
    }
    if (to_set & FUSE_SET_ATTR_MTIME) {
        set->mask |= HF_SET_MTIME;
        set->mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW ? now_ns : hf_convert_ns(&st->st_mtim);
    }
}

static void set_now(struct hf_fuse_call *call)
{
    hf_fuse_call_end(call, hf_fs_setattr(call->fuse->fs, call->ino, &call->set, &call->req));
}

static void set_written(struct hf_job *job)
{
    struct hf_fuse_call *call = hf_container_of(job, struct hf_fuse_call, job);

    call->fuse->writebacks--;
    set_now(call);
}

/* Does the kernel cut off what a write that failed may have left behind the end that it knows? */
static bool is_trim(fuse_req_t freq, fuse_ino_t ino, const struct stat *st, int to_set)
{
    const int others = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
                       FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
    struct hf_fuse *fuse = fuse_req_userdata(freq);

    return (to_set & FUSE_SET_ATTR_SIZE) && !(to_set & others) &&
           hf_looked_trims(&fuse->looked, (uint32_t)fuse_req_ctx(freq)->pid, ino_of(ino),
                           (uint64_t)st->st_size) &&
           hf_fs_kernel_may_see(fuse->fs, ino_of(ino), (uint64_t)st->st_size);
}

static void op_setattr(fuse_req_t freq, fuse_ino_t ino, struct stat *st, int to_set,
                       struct fuse_file_info *fi)
{
    bool trim = fi && is_trim(freq, ino, st, to_set);
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_set);
    struct hf_fs_set set = {
        .mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid, .size = (uint64_t)st->st_size};

    if (!call) {
        return;
    }
    call_changes(call, ino);
    if (trim) {
        hf_fuse_call_end(call, hf_fs_getattr(call->fuse->fs, ino_of(ino), &call->req));
        return;
    }
    set.mask |= to_set & FUSE_SET_ATTR_MODE ? HF_SET_MODE : 0;
    set.mask |= to_set & FUSE_SET_ATTR_UID ? HF_SET_UID : 0;
    set.mask |= to_set & FUSE_SET_ATTR_GID ? HF_SET_GID : 0;
    set.mask |= to_set & FUSE_SET_ATTR_SIZE ? HF_SET_SIZE : 0;
    set_times(&set, st, to_set, hf_env_wall_ns(call->fuse->env));
    if (call->fuse->raw.kill ||
        (call->fuse->raw.killpriv && (set.mask & (HF_SET_UID | HF_SET_GID)))) {
        set.mask |= HF_SET_KILLPRIV; /* chown always takes them from files */
    }
    if (set.mask == 0 && call->fuse->raw.killpriv) {
        /* chown of no user and no group; or before a write, which takes the bits in any case */
        hf_fuse_call_end(call, hf_fs_kill_priv(call->fuse->fs, ino_of(ino), &call->req));
        return;
    }
    call->ino = ino_of(ino);
    call->set = set;
    /* What was stored to a mapping before this is not to set the time after it. (With a size the
     * kernel has sent it, and waits for this.) */
    if ((set.mask & HF_SET_MTIME) && !(set.mask & HF_SET_SIZE) &&
        call->fuse->state == HF_MOUNT_SERVING && hf_fs_mappable(call->fuse->fs, call->ino)) {
        drop_pages(call, set_written);
    } else {
        set_now(call);
    }
}

static void op_statfs(fuse_req_t freq, fuse_ino_t ino)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_statfs);

    (void)ino;
    if (call) {
        hf_fuse_call_end(call, hf_fs_statfs(call->fuse->fs, &call->req));
    }
}

static void op_setxattr(fuse_req_t freq, fuse_ino_t ino, const char *name, const char *value,
                        size_t size, int flags)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);
    uint32_t all = (uint32_t)flags & (XATTR_CREATE | XATTR_REPLACE);

    if (call) {
        all |= call->fuse->raw.kill ? HF_FS_XATTR_KILL : 0;
        hf_fuse_call_end(
            call, hf_fs_setxattr(call->fuse->fs, ino_of(ino), name, value, size, all, &call->req));
    }
}

static void op_getxattr(fuse_req_t freq, fuse_ino_t ino, const char *name, size_t size)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_bytes);

    if (call) {
        call->size = size;
        hf_fuse_call_end(call, hf_fs_getxattr(call->fuse->fs, ino_of(ino), name, &call->req));
    }
}

static void op_listxattr(fuse_req_t freq, fuse_ino_t ino, size_t size)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_names);

    if (call) {
        call->size = size;
        hf_fuse_call_end(call, hf_fs_listxattr(call->fuse->fs, ino_of(ino), &call->req));
    }
}

static void op_removexattr(fuse_req_t freq, fuse_ino_t ino, const char *name)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    if (call) {
        hf_fuse_call_end(call, hf_fs_removexattr(call->fuse->fs, ino_of(ino), name, &call->req));
    }
}

/* Files */

static void op_open(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_open);

    if (call) {
        call->fi = *fi;
        hf_fuse_call_end(call,
                         hf_fs_open(call->fuse->fs, ino_of(ino), (uint32_t)fi->flags, &call->req));
    }
}

static void op_create(fuse_req_t freq, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_create);
    uint32_t flags = (uint32_t)fi->flags;

    if (!call) {
        return;
    }
    mode = S_IFREG | (mode & ~(mode_t)S_IFMT);
    call->fi = *fi;
    hf_fuse_call_end(
        call, call->fuse->raw.tmpfile
                  ? hf_fs_tmpfile(call->fuse->fs, ino_of(parent), mode, flags, &call->req)
                  : hf_fs_create(call->fuse->fs, ino_of(parent), name, mode, flags, &call->req));
}

static void op_read(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_iov);

    (void)ino;
    if (call) {
        hf_fuse_call_end(call, hf_fs_read(file_of(fi), (uint64_t)off, (uint32_t)size, &call->req));
    }
}

static void op_write(fuse_req_t freq, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_written);
    uint32_t flags = 0;

    if (!call) {
        return;
    }
    call_changes(call, ino);
    call->ino = ino_of(ino);
    call->off = (uint64_t)off;
    call->size = size;
    call->trims = !fi->writepage && (fi->flags & (O_DIRECT | O_APPEND));
    if (call->trims) {
        hf_looked_write(&call->fuse->looked, (uint32_t)fuse_req_ctx(freq)->pid, call->ino);
    }
    flags |= fi->flags & (O_DIRECT | O_DSYNC) ? HF_FS_WRITE_THROUGH : 0; /* O_SYNC has O_DSYNC */
    flags |= call->fuse->raw.kill ? HF_FS_WRITE_KILL : 0;
    flags |= fi->writepage ? HF_FS_WRITE_MAPPED : (fi->flags & O_APPEND) ? HF_FS_WRITE_APPEND : 0;
    hf_fuse_call_end(call, hf_fs_write(file_of(fi), (uint64_t)off, buf, (uint32_t)size,
                                       call->fuse->rx, flags, &call->req));
}

static void op_flush(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    (void)ino;
    if (call) {
        hf_fuse_call_end(call, hf_fs_flush(file_of(fi), fi->lock_owner, &call->req));
    }
}

static void op_release(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = fuse_req_userdata(freq);

    if (fi->flock_release) {
        hf_fs_unflock(fuse->fs, ino_of(ino), fi->lock_owner);
    }
    hf_fs_release(file_of(fi));
    (void)fuse_reply_err(freq, 0);
}

static void op_fsync(fuse_req_t freq, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    (void)ino;
    (void)datasync; /* size and times travel with the data in one commit */
    if (call) {
        hf_fuse_call_end(call, hf_fs_fsync(file_of(fi), &call->req));
    }
}

static void op_fallocate(fuse_req_t freq, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_ok);

    if (call) {
        call_changes(call, ino);
        hf_fs_kernel_unsure(call->fuse->fs, ino_of(ino));
        hf_fuse_call_end(call, hf_fs_fallocate(file_of(fi), (uint32_t)mode, (uint64_t)off,
                                               (uint64_t)len, &call->req));
    }
}

/*
 * The kernel asks where holes are without writing back what is dirty in shared mappings. When
 * somebody may have one, the pages of the hole that would be told are written back, and all is
 * asked again.
 */
static void seek_ask(struct hf_fuse_call *call)
{
    int err = hf_fs_lseek(file_of(&call->fi), call->off, call->whence, &call->req);

    if (err != HF_FS_PENDING) {
        seek_told(call, err);
    }
}

static void writeback_run(struct hf_job *job)
{
    struct hf_fuse_call *call = hf_container_of(job, struct hf_fuse_call, job);
    uint64_t from = call->whence == SEEK_DATA ? call->off : call->seek_at;
    uint64_t len = call->whence == SEEK_HOLE    ? SEEK_WRITEBACK_BYTES
                   : call->seek_at < UINT64_MAX ? call->seek_at - from
                                                : 0; /* all that follows */

    (void)fuse_lowlevel_notify_inval_inode(call->fuse->se, call->ino.v, (off_t)from, (off_t)len);
}

static void writeback_done(struct hf_job *job)
{
    struct hf_fuse_call *call = hf_container_of(job, struct hf_fuse_call, job);

    call->fuse->writebacks--;
    seek_ask(call);
}

static void seek_told(struct hf_fuse_call *call, int err)
{
    uint64_t at = err ? UINT64_MAX : call->req.count;
    bool data = call->whence == SEEK_DATA, known;

    if (err == HF_FS_PENDING) {
        return;
    }
    known = data ? call->asked || at == call->off : err || (call->asked && at == call->seek_at);
    if ((err && err != -ENXIO) || known || call->fuse->state != HF_MOUNT_SERVING ||
        !hf_fs_mappable(call->fuse->fs, call->ino)) {
        hf_fuse_call_end(call, err);
        return;
    }
    call->asked = true;
    call->seek_at = at;
    call->job.run = writeback_run;
    call->job.done = writeback_done;
    call->fuse->writebacks++;
    hf_env_submit(call->fuse->env, HF_POOL_DISK, &call->job);
}

static void op_lseek(fuse_req_t freq, fuse_ino_t ino, off_t off, int whence,
                     struct fuse_file_info *fi)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_lseek);

    if (call) {
        call->ino = ino_of(ino);
        call->fi = *fi;
        call->off = (uint64_t)off;
        call->whence = whence;
        call->asked = false;
        seek_ask(call);
    }
}

static void op_copy_file_range(fuse_req_t freq, fuse_ino_t ino_in, off_t off_in,
                               struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
                               struct fuse_file_info *fi_out, size_t len, int flags)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_written);

    (void)ino_in;
    (void)flags;
    if (call) {
        call_changes(call, ino_out);
        call->ino = ino_of(ino_out);
        call->off = (uint64_t)off_out;
        hf_fuse_call_end(call, hf_fs_copy(file_of(fi_in), (uint64_t)off_in, file_of(fi_out),
                                          (uint64_t)off_out, len, &call->req));
    }
}

/* Locks */

static void interrupted(fuse_req_t freq, void *data)
{
    struct hf_fuse_call *call = data;

    (void)freq;
    hf_fs_interrupt(&call->req);
}

static void drop_pages_run(struct hf_job *job)
{
    struct hf_fuse_call *call = hf_container_of(job, struct hf_fuse_call, job);

    (void)fuse_lowlevel_notify_inval_inode(call->fuse->se, call->ino.v, 0, 0);
}

/* The kernel's pages of call->ino; those that were written come before @done. */
static void drop_pages(struct hf_fuse_call *call, void (*done)(struct hf_job *job))
{
    call->job.run = drop_pages_run;
    call->job.done = done;
    call->fuse->writebacks++;
    hf_env_submit(call->fuse->env, HF_POOL_DISK, &call->job);
}

static void lock_read(struct hf_job *job)
{
    struct hf_fuse_call *call = hf_container_of(job, struct hf_fuse_call, job);

    call->fuse->writebacks--;
    hf_fuse_call_end(call, 0);
}

/* The kernel's pages may be older than what the lock lets its owner read: they go first. */
static void lock_told(struct hf_fuse_call *call, int err)
{
    if (err || call->req.keep_cache || call->fuse->state != HF_MOUNT_SERVING) {
        hf_fuse_call_end(call, err);
        return;
    }
    drop_pages(call, lock_read);
}

static void set_lock(fuse_req_t freq, fuse_ino_t ino, const struct hf_fs_lock *lock, bool wait)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_locked);
    int err;

    if (!call) {
        return;
    }
    call->ino = ino_of(ino);
    err = hf_fs_setlk(call->fuse->fs, call->ino, lock, wait, &call->req);
    if (err == HF_FS_PENDING && wait) {
        fuse_req_interrupt_func(freq, interrupted, call);
    }
    hf_fuse_call_end(call, err);
}

static struct hf_fs_lock lock_of(const struct flock *fl, const struct fuse_file_info *fi)
{
    return (struct hf_fs_lock){.owner = fi->lock_owner,
                               .through = file_of(fi),
                               .start = (uint64_t)fl->l_start,
                               .length = (uint64_t)fl->l_len,
                               .type = (uint32_t)fl->l_type,
                               .pid = (uint32_t)fl->l_pid};
}

static void op_getlk(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_lock);
    struct hf_fs_lock lock = lock_of(fl, fi);

    if (call) {
        hf_fuse_call_end(call, hf_fs_getlk(call->fuse->fs, ino_of(ino), &lock, &call->req));
    }
}

static void op_setlk(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl,
                     int sleep)
{
    struct hf_fs_lock lock = lock_of(fl, fi);

    set_lock(freq, ino, &lock, sleep);
}

static void op_flock(fuse_req_t freq, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
    struct hf_fs_lock lock = {.owner = fi->lock_owner, .flock = true};

    lock.type = op & LOCK_EX ? F_WRLCK : op & LOCK_SH ? F_RDLCK : F_UNLCK;
    set_lock(freq, ino, &lock, !(op & LOCK_NB));
}

/* Start of the connection */

static void want(struct fuse_conn_info *conn, unsigned caps, bool on)
{
    conn->want = on ? conn->want | (conn->capable & caps) : conn->want & ~caps;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct hf_fuse *fuse = userdata;

    conn->max_write = HF_FUSE_REQUEST_BYTES;
    conn->max_read = HF_FUSE_REQUEST_BYTES;
    conn->max_readahead = HF_FUSE_REQUEST_BYTES;
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->time_gran = 1;
    want(conn,
         FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
             FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA |
             FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK |
             FUSE_CAP_EXPORT_SUPPORT,
         true);
    want(conn,
         FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
             FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV |
             FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_CACHE_SYMLINKS,
         false);
    hf_env_post(fuse->env, &fuse->init_task);
}

const struct fuse_lowlevel_ops hf_fuse_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .readdir = hf_fuse_op_readdir,
    .readdirplus = hf_fuse_op_readdirplus,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
    .getlk = op_getlk,
    .setlk = op_setlk,
    .flock = op_flock,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .copy_file_range = op_copy_file_range,
};

size_t hf_fuse_ops_size(void)
{
    return sizeof(hf_fuse_ops);
}
