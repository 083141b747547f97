/* SPDX-License-Identifier: Apache-2.0 */
#define FUSE_USE_VERSION 314

#include "client/fuse/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "client/fuse/fuse_impl.h"
#include "client/fuse/mountinfo.h"
#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/env/notify.h"
#include "common/log/log.h"

#define REQUESTS_PER_TURN 16
#define RX_BYTES          (HF_FUSE_REQUEST_BYTES + HF_BLOCK_BYTES)
#define RX_RETRY_NS       HF_NS_PER_MS
#define FLUSH_RETRY_NS    (500 * HF_NS_PER_MS)
#define POOL_KEEP_BYTES   ((size_t)192 << 20)

static void flush_all(struct hf_fuse *fuse);

void hf_mount_defaults(struct hf_mount_options *ret)
{
    *ret = (struct hf_mount_options){.allow_other = geteuid() == 0};
}

static void tell(struct hf_fuse *fuse, int err, const char *message)
{
    if (!fuse->told && fuse->options->ready) {
        fuse->told = true;
        fuse->options->ready(fuse->options->ctx, err, message);
    }
}

static void stop(struct hf_fuse *fuse, int result)
{
    fuse->result = fuse->result ? fuse->result : result;
    fuse->state = HF_MOUNT_DONE;
    hf_env_real_stop(fuse->env);
}

/* The end: everything dirty goes, then the session */

static void session_closed(void *ctx, int err)
{
    struct hf_fuse *fuse = ctx;

    if (err) {
        hf_log(HF_LOG_WARN, "mount", "session not closed", "err=%s: it ends by itself",
               hf_err_name(err));
    }
    if (fuse->umounting) { /* /dev/fuse may say the end first; the job is a part of @fuse */
        fuse->state = HF_MOUNT_CLOSED;
    } else {
        stop(fuse, 0);
    }
}

/* Nobody is left whom an error could tell, and the cluster may come back: so it is tried as long as
 * it helps, and for op_timeout beyond. */
static bool is_hopeless(struct hf_fuse *fuse, uint64_t left_bytes)
{
    uint64_t now_ns = hf_env_mono_ns(fuse->env), timeout_ns = fuse->options->op_timeout_ns;

    if (fuse->end_ns == 0 || left_bytes < fuse->end_bytes) {
        fuse->end_bytes = left_bytes;
        fuse->end_ns = now_ns + (timeout_ns ? timeout_ns : HF_OP_TIMEOUT_NS);
    }
    return now_ns >= fuse->end_ns;
}

static void flushed(struct hf_fs_req *req, int err)
{
    struct hf_fuse *fuse = req->ctx;
    struct hf_fs_stats stats;
    uint64_t left_bytes;

    hf_fs_stats(fuse->fs, &stats);
    left_bytes = stats.dirty_bytes + stats.flush_bytes;
    if (left_bytes > 0 && hf_session_live(fuse->session) && !is_hopeless(fuse, left_bytes)) {
        hf_timer_arm(&fuse->end_timer, FLUSH_RETRY_NS);
        return;
    }
    if (err || stats.lost_bytes + left_bytes > 0) {
        hf_log(HF_LOG_ERROR, "mount", "not everything was written", "mountpoint=%s lost_bytes=%llu",
               fuse->mountpoint, (unsigned long long)(stats.lost_bytes + left_bytes));
        fuse->result = -EIO;
        hf_fs_shutdown(fuse->fs); /* nothing of it may go behind the close */
    }
    fuse->state = HF_MOUNT_CLOSING;
    hf_session_close(fuse->session, session_closed, fuse);
}

static void flush_all(struct hf_fuse *fuse)
{
    int err;

    if (fuse->writebacks > 0) { /* they use the connection */
        hf_timer_arm(&fuse->end_timer, FLUSH_RETRY_NS);
        return;
    }
    fuse->sync_req.done = flushed;
    fuse->sync_req.ctx = fuse;
    err = hf_fs_sync(fuse->fs, (struct hf_ino){0}, true, &fuse->sync_req);
    if (err != HF_FS_PENDING) {
        flushed(&fuse->sync_req, err);
    }
}

static void flush_again(void *ctx)
{
    flush_all(ctx);
}

static void unmounted(struct hf_fuse *fuse)
{
    if (fuse->state != HF_MOUNT_SERVING) {
        return;
    }
    hf_log(HF_LOG_INFO, "mount", "unmounted", "mountpoint=%s", fuse->mountpoint);
    fuse->state = HF_MOUNT_FLUSHING;
    hf_notify_stopping("unmounted; writing back what is dirty");
    hf_fd_watch_free(fuse->watch);
    fuse->watch = NULL;
    hf_fs_release_all(fuse->fs);
    flush_all(fuse);
}

/* Detaching, off the loop: the kernel may call back into this file system while it does. */

/* 0, or why it is still mounted: -EBUSY: something else lies over it, which is not ours to take. */
static int detach(struct hf_fuse *fuse)
{
    char *argv[] = {"fusermount3", "-u", "-z", "--", fuse->mountpoint, NULL};
    bool known = fuse->major || fuse->minor;
    struct hf_mountinfo top;
    int err, status;
    pid_t pid;

    if (known && hf_mountinfo_at(fuse->mountpoint, &top) == 0 &&
        (top.major != fuse->major || top.minor != fuse->minor)) {
        return -EBUSY;
    }
    if (umount2(fuse->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
        return 0;
    }
    if (errno != EPERM) {
        return -errno;
    }
    err = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (err) {
        return -err;
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : -EPERM;
}

static void umount_run(struct hf_job *job)
{
    struct hf_fuse *fuse = hf_container_of(job, struct hf_fuse, umount_job);

    fuse->umount_err = detach(fuse);
}

static void umount_ran(struct hf_job *job)
{
    struct hf_fuse *fuse = hf_container_of(job, struct hf_fuse, umount_job);

    fuse->umounting = false; /* the end comes over /dev/fuse, when the last user is gone */
    if (fuse->state == HF_MOUNT_CLOSED) {
        stop(fuse, 0);
    } else if (fuse->state == HF_MOUNT_SERVING && fuse->umount_err) {
        hf_log(HF_LOG_WARN, "mount", "not unmounted", "mountpoint=%s err=%s: it goes on; %s",
               fuse->mountpoint, hf_err_name(fuse->umount_err),
               fuse->umount_err == -EBUSY
                   ? "something else is mounted over it: unmount that, then try again"
                   : "unmount it with umount -l");
    }
}

void hf_mount_detach(struct hf_fuse *fuse)
{
    if (fuse->umounting || fuse->state != HF_MOUNT_SERVING) {
        return;
    }
    fuse->umounting = true;
    fuse->umount_job.run = umount_run;
    fuse->umount_job.done = umount_ran;
    hf_env_submit(fuse->env, HF_POOL_DISK, &fuse->umount_job);
}

static void on_signal(void *ctx, int signum)
{
    struct hf_fuse *fuse = ctx;

    hf_log(HF_LOG_INFO, "mount", "signal", "signal=%d state=%d", signum, (int)fuse->state);
    if (fuse->state == HF_MOUNT_OPENING) {
        tell(fuse, -EINTR, "interrupted");
        stop(fuse, -EINTR);
    } else {
        hf_mount_detach(fuse);
    }
}

/* Requests */

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct hf_fuse *fuse = userdata;

    hf_raw_reply(&fuse->raw, iov, count);
    return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
    (void)userdata;
    return read(fd, buf, len);
}

static const struct fuse_custom_io custom_io = {.writev = io_writev, .read = io_read};

/* False: nothing more to read now. */
static bool serve_one(struct hf_fuse *fuse)
{
    ssize_t n;

    if (!fuse->rx) {
        fuse->rx = hf_buf_get(fuse->pool, RX_BYTES);
        if (!fuse->rx) { /* no memory now: requests wait in the kernel */
            hf_fd_watch_set(fuse->watch, false);
            hf_timer_arm(&fuse->rx_timer, RX_RETRY_NS);
            return false;
        }
    }
    n = read(fuse_session_fd(fuse->se), fuse->rx->data, RX_BYTES);
    if (n <= 0) {
        if (n < 0 && (errno == EINTR || errno == ENOENT)) {
            return true; /* that request was taken back */
        }
        if (n == 0 || errno != EAGAIN) {
            unmounted(fuse); /* ENODEV; anything else does not mend itself */
        }
        return false;
    }
    fuse->requests++;
    fuse->rx->len_bytes = (size_t)n;
    hf_gate_request(fuse, fuse->rx->data, (size_t)n);
    if (__atomic_load_n(&fuse->rx->refs, __ATOMIC_RELAXED) > 1) { /* a write keeps it */
        hf_buf_unref(fuse->rx);
        fuse->rx = NULL;
    }
    return true;
}

static void readable(void *ctx)
{
    struct hf_fuse *fuse = ctx;

    for (int i = 0; i < REQUESTS_PER_TURN && serve_one(fuse); i++) {
    }
}

static void rx_retry(void *ctx)
{
    struct hf_fuse *fuse = ctx;

    if (fuse->watch) {
        hf_fd_watch_set(fuse->watch, true);
    }
}

/* Mounting */

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, text, strlen(text)); /* a tuning; the default works too */
        (void)close(fd);
    }
}

/* After INIT: the kernel has cut the read-ahead to what it offered. */
static void after_init(struct hf_task *task)
{
    struct hf_fuse *fuse = hf_container_of(task, struct hf_fuse, init_task);
    char path[96];

    (void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", fuse->major,
                   fuse->minor);
    write_text(path, "1024");
}

static int add_options(struct hf_fuse *fuse, struct fuse_args *args)
{
    const struct hf_mount_options *o = fuse->options;
    char text[512];
    int n =
        snprintf(text, sizeof(text), "fsname=%.255s,subtype=holdfast,max_read=%u%s%s%s%s%s",
                 o->fsname ? o->fsname : "holdfast", HF_FUSE_REQUEST_BYTES, ",default_permissions",
                 o->allow_other ? ",allow_other" : "", fuse->read_only ? ",ro" : "",
                 o->suid ? ",suid" : ",nosuid", o->noexec ? ",noexec" : "");

    if (n < 0 || (size_t)n >= sizeof(text) || fuse_opt_add_arg(args, "holdfast") ||
        fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, text) ||
        (o->dev && (fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, "dev")))) {
        return -ENOMEM;
    }
    return 0;
}

static int mount_it(struct hf_fuse *fuse)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int err = add_options(fuse, &args), fd;

    if (!err) {
        fuse->se = fuse_session_new(&args, &hf_fuse_ops, hf_fuse_ops_size(), fuse);
        err = fuse->se ? 0 : -EINVAL;
    }
    fuse_opt_free_args(&args);
    if (err) {
        return err;
    }
    errno = 0;
    if (fuse_session_mount(fuse->se, fuse->mountpoint)) {
        err = errno ? -errno : -EPERM;
        fuse_session_destroy(fuse->se);
        fuse->se = NULL;
        return err;
    }
    fd = fuse_session_fd(fuse->se);
    err = fuse_session_custom_io(fuse->se, &custom_io, fd);
    HF_ASSERT(!err);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return hf_env_real_watch_fd(fuse->env, fd, readable, fuse, &fuse->watch);
}

static int start_fs(struct hf_fuse *fuse)
{
    const struct hf_mount_options *o = fuse->options;
    struct hf_io_options io = {
        .session = fuse->session,
        .pool = fuse->pool,
        .cluster = o->cluster,
        .name = fuse->mountpoint,
        .cache_bytes = o->cache_bytes,
        .op_timeout_ns = o->op_timeout_ns,
    };
    struct hf_fs_options fs = {
        .session = fuse->session,
        .pool = fuse->pool,
        .dirty_max_bytes = o->dirty_max_bytes,
        .dirty_target_bytes = o->dirty_target_bytes,
        .dirty_max_age_ns = o->dirty_max_age_ns,
        .flush_streams = o->flush_streams,
        .readahead_bytes = o->readahead_bytes,
        .op_timeout_ns = o->op_timeout_ns,
    };
    int err = hf_io_new(fuse->env, &io, &fuse->io);

    fs.io = fuse->io;
    return err ? err : hf_fs_new(fuse->env, &fs, &fuse->fs);
}

/* What the cluster says is added to what this mount was told; its user for root counts. */
static void take_rights(struct hf_fuse *fuse)
{
    const struct hf_session_rights r = hf_session_rights(fuse->session);

    fuse->read_only |= r.read_only;
    if (r.root_squash) {
        fuse->squash.on = true;
        fuse->squash.anon = (struct hf_rights_who){.uid = r.anon_uid, .gid = r.anon_gid};
    }
    if (r.read_only || r.root_squash) {
        hf_log(HF_LOG_INFO, "mount", "rights", "mountpoint=%s read_only=%d root_squash=%d",
               fuse->mountpoint, fuse->read_only, fuse->squash.on);
    }
}

static void session_open(void *ctx, int err)
{
    struct hf_fuse *fuse = ctx;
    struct hf_mountinfo at;
    char text[1024] = "";

    if (fuse->state != HF_MOUNT_OPENING) {
        return;
    }
    if (err) {
        (void)snprintf(text, sizeof(text), "no metadata leader answered: %s; tried %s",
                       hf_err_text(err), hf_session_tried(fuse->session));
    } else {
        take_rights(fuse);
        err = start_fs(fuse);
        err = err ? err : mount_it(fuse);
        if (err) {
            (void)snprintf(text, sizeof(text), "cannot mount on %.900s: %s", fuse->mountpoint,
                           hf_err_text(err));
        }
    }
    if (err) {
        tell(fuse, err, text);
        stop(fuse, err);
        return;
    }
    fuse->state = HF_MOUNT_SERVING;
    err = hf_mountinfo_at(fuse->mountpoint, &at);
    if (!err) {
        fuse->major = at.major;
        fuse->minor = at.minor;
    }
    err = err ? err : hf_control_new(fuse, &fuse->control);
    if (err) {
        hf_log(HF_LOG_WARN, "mount", "no control socket",
               "mountpoint=%s err=%s: holdfast dirty and flush do not reach this mount",
               fuse->mountpoint, hf_err_name(err));
    }
    hf_log(HF_LOG_INFO, "mount", "mounted", "mountpoint=%s device=%u:%u session=%llu leader=%s",
           fuse->mountpoint, fuse->major, fuse->minor,
           (unsigned long long)hf_session_id(fuse->session).v, hf_session_leader(fuse->session));
    hf_notify_ready("mounted");
    tell(fuse, 0, "mounted");
}

static void map_changed(void *ctx)
{
    struct hf_fuse *fuse = ctx;

    if (fuse->io) {
        hf_io_map_changed(fuse->io);
    }
}

static void session_lost(void *ctx, int why)
{
    struct hf_fuse *fuse = ctx;

    if (fuse->fs) {
        hf_fs_session_lost(fuse->fs, why);
    }
}

static uint32_t open_inodes(void *ctx, bool more, uint64_t *ret, uint32_t max)
{
    struct hf_fuse *fuse = ctx;

    return fuse->fs ? hf_fs_open_inodes(fuse->fs, more, ret, max) : 0;
}

static int start(struct hf_fuse *fuse)
{
    const struct hf_mount_options *o = fuse->options;
    char host[64] = "", name[256];
    struct hf_session_options s = {
        .addrs = o->addrs,
        .addr_count = o->addr_count,
        .cluster = o->cluster,
        .name = name,
        .op_timeout_ns = o->op_timeout_ns,
        .open_timeout_ns = o->open_timeout_ns,
        .events = {.map_changed = map_changed,
                   .lost = session_lost,
                   .open_inodes = open_inodes,
                   .ctx = fuse},
    };
    int err = hf_bufpool_new(POOL_KEEP_BYTES, 0, &fuse->pool);

    if (err) {
        return err;
    }
    if (!realpath(o->mountpoint, fuse->mountpoint)) {
        return -errno;
    }
    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(name, sizeof(name), "%s:%.180s", host, fuse->mountpoint);
    s.pool = fuse->pool;
    err = hf_session_new(fuse->env, &s, &fuse->session);
    if (err) {
        return err;
    }
    (void)hf_env_real_on_signal(fuse->env, SIGTERM, on_signal, fuse); /* else: as by default */
    (void)hf_env_real_on_signal(fuse->env, SIGINT, on_signal, fuse);
    hf_session_open(fuse->session, session_open, fuse);
    return 0;
}

/* Requests still unanswered are answered into the void. */
static void teardown(struct hf_fuse *fuse)
{
    hf_control_free(fuse->control);
    hf_fd_watch_free(fuse->watch);
    if (fuse->fs) {
        hf_fs_shutdown(fuse->fs);
    }
    hf_io_free(fuse->io);
    hf_session_free(fuse->session);
    hf_fs_free(fuse->fs);
    if (fuse->se) {
        fuse_session_unmount(fuse->se);
        fuse_session_destroy(fuse->se);
    }
    hf_fuse_calls_free(fuse);
    hf_buf_unref(fuse->rx);
    hf_timer_fini(&fuse->rx_timer);
    hf_timer_fini(&fuse->end_timer);
    hf_bufpool_free(fuse->pool);
}

int hf_mount_run(struct hf_env *env, const struct hf_mount_options *options)
{
    struct hf_fuse *fuse = calloc(1, sizeof(*fuse));
    int err;

    if (!fuse) {
        return -ENOMEM;
    }
    fuse->env = env;
    fuse->options = options;
    fuse->read_only = options->read_only;
    fuse->squash = (struct hf_squash){.on = options->root_squash,
                                      .anon = {.uid = options->anon_uid, .gid = options->anon_gid}};
    fuse->init_task.fn = after_init;
    hf_timer_init(&fuse->rx_timer, env, rx_retry, fuse);
    hf_timer_init(&fuse->end_timer, env, flush_again, fuse);
    err = start(fuse);
    if (!err) {
        err = hf_env_real_run(env);
        err = err ? err : fuse->result;
    } else {
        tell(fuse, err, hf_err_text(err));
    }
    teardown(fuse);
    free(fuse);
    return err;
}
