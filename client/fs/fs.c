/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/fs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define DIRTY_MAX_DEFAULT (UINT64_C(128) << 20)
#define DIRTY_MAX_MIN     (UINT64_C(4) << 20)
#define DIRTY_AGE_DEFAULT (5 * HF_NS_PER_SEC)
#define READAHEAD_DEFAULT (UINT64_C(8) << 20)
#define RELEASE_DELAY_NS  (50 * HF_NS_PER_MS)

/* Rings of requests */

void hf_req_ring_add(struct hf_fs_req **ring, struct hf_fs_req *req)
{
    struct hf_fs_req *head = *ring;

    if (!head) {
        req->next = req->prev = req;
        *ring = req;
        return;
    }
    req->next = head;
    req->prev = head->prev;
    head->prev->next = req;
    head->prev = req;
}

void hf_req_ring_remove(struct hf_fs_req **ring, struct hf_fs_req *req)
{
    if (req->next == req) {
        *ring = NULL;
    } else {
        req->prev->next = req->next;
        req->next->prev = req->prev;
        if (*ring == req) {
            *ring = req->next;
        }
    }
    req->next = req->prev = NULL;
}

/* Requests */

void hf_fs_begin(struct hf_fs *fs, struct hf_fs_req *req)
{
    req->fs = fs;
    req->begin_seq = fs->settle_seq;
    req->inode = req->inode2 = NULL;
    req->of = req->of2 = NULL;
    req->after = NULL;
    req->then = NULL;
    req->looks = false;
    req->keep_cache = false;
    req->next = req->prev = NULL;
    req->file = NULL;
    req->data = NULL;
    req->data_len = 0;
    req->eof = false;
    req->iov = NULL;
    req->iov_count = 0;
    req->count = 0;
    req->arg = NULL;
    req->mem = req->mem2 = NULL;
    req->buf = NULL;
    req->state = 0;
    req->target = 0; /* a number of an earlier use is not one of this opening */
}

void hf_fs_hold(struct hf_fs_req *req, struct hf_inode *inode)
{
    if (!req->inode) {
        req->inode = inode;
        req->err_seq = inode->err_seq;
    } else {
        HF_ASSERT(!req->inode2);
        req->inode2 = inode;
        req->err_seq2 = inode->err_seq;
    }
}

/* What a request holds, apart from it: done() may free the request. */
struct held {
    struct hf_inode *inode, *inode2;
    struct hf_buf *buf;
    void *mem, *mem2;
};

static struct held let_go(struct hf_fs_req *req)
{
    struct held held = {req->inode, req->inode2, req->buf, req->mem, req->mem2};

    req->inode = req->inode2 = NULL;
    req->buf = NULL;
    req->mem = req->mem2 = NULL;
    return held;
}

static void held_free(struct hf_fs *fs, const struct held *held)
{
    free(held->mem);
    free(held->mem2);
    hf_buf_unref(held->buf);
    if (held->inode) {
        hf_fs_inode_unref(fs, held->inode);
    }
    if (held->inode2) {
        hf_fs_inode_unref(fs, held->inode2);
    }
}

void hf_fs_finish(struct hf_fs_req *req, int err)
{
    struct hf_fs *fs = req->fs;
    struct held held = let_go(req);

    req->done(req, err);
    held_free(fs, &held);
}

int hf_fs_return(struct hf_fs_req *req, int err)
{
    if (err != HF_FS_PENDING) {
        struct held held = let_go(req);

        held_free(req->fs, &held);
    }
    return err;
}

static void answered(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_fs_req *req = call->ctx;
    int err = reply->err;

    req->attr = reply->attr;
    hf_fs_overlay(req, &req->attr);
    req->data = reply->bulk;
    req->data_len = reply->bulk_len;
    req->eof = reply->eof;
    if (req->after) {
        err = req->after(req, reply);
    }
    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

int hf_fs_look(struct hf_fs *fs, const struct hf_meta_read *rd, struct hf_fs_req *req)
{
    req->call.done = answered;
    req->call.ctx = req;
    hf_session_read(fs->session, rd, &req->call);
    return HF_FS_PENDING;
}

int hf_fs_mutate(struct hf_fs *fs, const struct hf_meta_op *op, struct hf_fs_req *req)
{
    req->call.done = answered;
    req->call.ctx = req;
    hf_session_op(fs->session, op, &req->call);
    return HF_FS_PENDING;
}

struct quiet {
    struct hf_meta_call call;
    struct hf_fs *fs;
};

static void quiet_done(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct quiet *quiet = call->ctx;

    (void)reply; /* lost with the session; nobody waits */
    quiet->fs->calls--;
    free(quiet);
}

void hf_fs_look_quietly(struct hf_fs *fs, const struct hf_meta_read *rd)
{
    struct quiet *quiet = fs->lost ? NULL : calloc(1, sizeof(*quiet));

    if (quiet) {
        quiet->call.done = quiet_done;
        quiet->call.ctx = quiet;
        quiet->fs = fs;
        fs->calls++;
        hf_session_read(fs->session, rd, &quiet->call);
    }
}

/* What is open, as the leader is told */

static void release_send(void *ctx)
{
    struct hf_fs *fs = ctx;
    struct hf_meta_read rd = {
        .op = HF_RD_RELEASE, .inos = fs->released, .ino_count = fs->released_count};

    hf_timer_disarm(&fs->release_timer);
    if (fs->released_count > 0) { /* what it is not told, it holds until the session ends */
        hf_fs_look_quietly(fs, &rd);
    }
    fs->released_count = 0;
}

static struct hf_fs_file *file_new(struct hf_fs *fs, struct hf_ino ino, uint32_t open_flags)
{
    struct hf_fs_file *file = calloc(1, sizeof(*file));

    if (!file) {
        return NULL;
    }
    file->inode = hf_fs_inode_get(fs, ino);
    if (!file->inode) {
        free(file);
        return NULL;
    }
    file->fs = fs;
    file->open_flags = open_flags;
    file->err_seen = file->inode->err_seq;
    hf_fs_inode_opened(fs, file->inode);
    file->inode->mappable += (open_flags & O_ACCMODE) == O_RDWR;
    fs->open_count++;
    LIST_INSERT_HEAD(&fs->files, file, in_fs);
    return file;
}

struct hf_ino hf_fs_file_ino(const struct hf_fs_file *file)
{
    return file->inode->ino;
}

bool hf_fs_mappable(struct hf_fs *fs, struct hf_ino ino)
{
    const struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    return inode && inode->mappable > 0;
}

static int opened(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_inode *inode;

    if (reply->err) {
        return reply->err;
    }
    req->file = file_new(req->fs, reply->attr.ino, req->flags);
    if (!req->file) {
        return -ENOMEM;
    }
    inode = req->file->inode;
    if (reply->attr.nlink == 0 && !inode->orphan) { /* made without a name, or unlinked elsewhere */
        inode->orphan = true;
        inode->shared = req->state != HF_CREATE_OPEN;
    }
    inode->open_number = req->target > inode->open_number ? req->target : inode->open_number;
    req->keep_cache = inode->cache_version && inode->cache_version == reply->attr.data_version;
    inode->cache_version = reply->attr.data_version;
    if (inode->opens == (req->inode ? 2u : 1u)) { /* the kernel has no pages, or the right ones */
        inode->told_version = reply->attr.data_version;
        inode->told_mtime_ns = reply->attr.mtime_ns;
        inode->told_turn = 0;
    }
    return 0;
}

static int open_answered(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    int err = opened(req, reply);

    hf_fs_inode_closed(req->fs, req->inode);
    return err;
}

/*
 * What is known of the file here may be all that there is of its last bytes: it is held from here
 * on, and neither a close nor the loss of its name throws them away before there is an answer. Nor
 * does the release of an opening that was asked for later, and answered and closed before this one.
 */
int hf_fs_open(struct hf_fs *fs, struct hf_ino ino, uint32_t open_flags, struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_OPEN, .ino = ino, .cookie = ++fs->open_number};
    struct hf_inode *inode = hf_fs_inode_get(fs, ino);

    hf_fs_begin(fs, req);
    if (!inode) {
        return -ENOMEM;
    }
    req->flags = open_flags;
    req->target = rd.cookie;
    req->after = open_answered;
    hf_fs_hold(req, inode);
    hf_fs_inode_opened(fs, inode);
    return hf_fs_look(fs, &rd, req);
}

static int created(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    bool there = reply->err == -EEXIST && !(req->flags & O_EXCL);
    int err = there ? -ESTALE : opened(req, reply);

    if (req->inode || !HF_BUG(made_not_claimed)) {
        hf_fs_inode_closed(req->fs, req->inode); /* it was held since it was asked for */
    }
    return err;
}

static int create_go(struct hf_fs_req *req);

static void create_ino(void *ctx, int err)
{
    struct hf_fs_req *req = ctx;

    if (!err) {
        err = create_go(req);
    }
    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

static struct hf_meta_op create_op(const struct hf_fs_req *req)
{
    struct hf_meta_op op = {
        .op = HF_OP_CREATE,
        .parent = req->ino,
        .name = req->mem,
        .name_len = req->mem ? strlen(req->mem) : 0,
        .mode = req->mode,
        .umask = req->umask,
        .uid = req->uid,
        .gid = req->gid,
        .rdev = req->off_bytes,
        .target = req->mem2,
        .target_len = req->mem2 ? strlen(req->mem2) : 0,
        .flags = req->state,
    };

    if (!op.name) {
        op.op = HF_OP_TMPFILE;
        op.flags = req->flags & O_EXCL ? 0 : HF_TMPFILE_LINKABLE;
    }
    return op;
}

/*
 * Make what the request describes; waits for an inode number when there is none. What will be open
 * is held from here on: when the answer is lost with the leader, the next one hears of it before it
 * is asked again, and does not take it for closed.
 */
static int create_go(struct hf_fs_req *req)
{
    struct hf_fs *fs = req->fs;
    struct hf_meta_op op = create_op(req);
    int err = hf_session_next_ino(fs->session, &op.ino);

    if (err == -EAGAIN) {
        hf_session_wait_ino(fs->session, create_ino, req);
        return HF_FS_PENDING;
    }
    if (!err && req->state == HF_CREATE_OPEN && !HF_BUG(made_not_claimed)) {
        struct hf_inode *inode = hf_fs_inode_get(fs, op.ino);

        if (!inode) {
            return -ENOMEM;
        }
        hf_fs_inode_opened(fs, inode);
        hf_fs_hold(req, inode);
    }
    return err ? err : hf_fs_mutate(fs, &op, req);
}

/* @name NULL: none. */
static int create(struct hf_fs *fs, struct hf_ino parent, const char *name, const char *target,
                  struct hf_fs_req *req)
{
    int err;

    if (fs->lost) {
        return fs->lost;
    }
    req->ino = parent;
    req->mem = name ? strdup(name) : NULL;
    req->mem2 = target ? strdup(target) : NULL;
    err = (!name || req->mem) && (!target || req->mem2) ? create_go(req) : -ENOMEM;
    return hf_fs_return(req, err);
}

int hf_fs_create(struct hf_fs *fs, struct hf_ino parent, const char *name, uint32_t mode,
                 uint32_t open_flags, struct hf_fs_req *req)
{
    hf_fs_begin(fs, req);
    req->mode = mode;
    req->off_bytes = 0;
    req->state = HF_CREATE_OPEN;
    req->flags = open_flags;
    req->after = created;
    return create(fs, parent, name, NULL, req);
}

int hf_fs_tmpfile(struct hf_fs *fs, struct hf_ino parent, uint32_t mode, uint32_t open_flags,
                  struct hf_fs_req *req)
{
    return hf_fs_create(fs, parent, NULL, mode, open_flags, req);
}

int hf_fs_mknod(struct hf_fs *fs, struct hf_ino parent, const char *name, uint32_t mode,
                uint64_t rdev, const char *target, struct hf_fs_req *req)
{
    hf_fs_begin(fs, req);
    req->mode = mode;
    req->off_bytes = rdev;
    req->state = 0;
    return create(fs, parent, name, target, req);
}

void hf_fs_inode_opened(struct hf_fs *fs, struct hf_inode *inode)
{
    if (inode->opens++ == 0) {
        TAILQ_INSERT_TAIL(&fs->opened_inodes, inode, in_opened);
        if (!fs->opened_next) {
            fs->opened_next = inode;
        }
    }
}

void hf_fs_inode_closed(struct hf_fs *fs, struct hf_inode *inode)
{
    HF_ASSERT(inode->opens > 0);
    if (--inode->opens > 0) {
        return;
    }
    if (fs->opened_next == inode) {
        fs->opened_next = TAILQ_NEXT(inode, in_opened);
    }
    TAILQ_REMOVE(&fs->opened_inodes, inode, in_opened);
    if (fs->released_count == HF_ARRAY_LEN(fs->released)) {
        release_send(fs);
    }
    fs->released[fs->released_count++] = inode->ino.v;
    fs->released[fs->released_count++] = inode->open_number;
    if (inode->orphan) { /* its space is free then */
        release_send(fs);
    } else if (fs->released_count == 2) {
        hf_timer_arm(&fs->release_timer, RELEASE_DELAY_NS);
    }
    hf_fs_inode_last_close(fs, inode);
}

/* It is not open any more; the inode's reference stays. */
static void file_close(struct hf_fs_file *file)
{
    struct hf_fs *fs = file->fs;

    file->inode->mappable -= (file->open_flags & O_ACCMODE) == O_RDWR;
    fs->open_count--;
    LIST_REMOVE(file, in_fs);
    hf_fs_inode_closed(fs, file->inode);
}

static void file_free(struct hf_fs_file *file)
{
    hf_fs_inode_unref(file->fs, file->inode);
    free(file);
}

void hf_fs_release(struct hf_fs_file *file)
{
    hf_lock_release(file);
    file_close(file);
    file_free(file);
}

void hf_fs_release_all(struct hf_fs *fs)
{
    while (!LIST_EMPTY(&fs->files)) {
        struct hf_fs_file *file = LIST_FIRST(&fs->files);

        file_close(file);
        LIST_INSERT_HEAD(&fs->closed, file, in_fs); /* requests under way may refer to it */
    }
}

void hf_fs_shutdown(struct hf_fs *fs)
{
    fs->lost = -EIO;
    hf_fs_release_all(fs);
    hf_timer_disarm(&fs->age_timer);
    hf_timer_disarm(&fs->wait_timer);
    hf_timer_disarm(&fs->cuts_timer);
    hf_timer_disarm(&fs->release_timer);
    hf_fs_cuts_time(fs); /* they end */
}

uint32_t hf_fs_open_inodes(struct hf_fs *fs, bool more, uint64_t *ret, uint32_t max)
{
    struct hf_inode *inode = more ? fs->opened_next : TAILQ_FIRST(&fs->opened_inodes);
    uint32_t n = 0;

    for (; inode && n + 2 <= max; inode = TAILQ_NEXT(inode, in_opened)) {
        ret[n++] = inode->ino.v;
        ret[n++] = inode->open_number;
    }
    fs->opened_next = inode;
    return n;
}

/* Life */

static void age_due(void *ctx)
{
    hf_flush_kick(ctx);
}

int hf_fs_new(struct hf_env *env, const struct hf_fs_options *o, struct hf_fs **ret)
{
    struct hf_fs *fs = calloc(1, sizeof(*fs));

    if (!fs) {
        return -ENOMEM;
    }
    fs->env = env;
    fs->session = o->session;
    fs->io = o->io;
    fs->pool = o->pool;
    fs->dirty_max_bytes = DIRTY_MAX_DEFAULT;
    fs->dirty_target_bytes = DIRTY_MAX_DEFAULT / 2;
    fs->extent_bytes_max = HF_FS_EXTENT_BYTES;
    fs->dirty_max_age_ns = DIRTY_AGE_DEFAULT;
    fs->flush_streams = o->flush_streams ? o->flush_streams : 4;
    fs->readahead_bytes = o->readahead_bytes ? o->readahead_bytes : READAHEAD_DEFAULT;
    TAILQ_INIT(&fs->idle_inodes);
    TAILQ_INIT(&fs->gone_inodes);
    TAILQ_INIT(&fs->opened_inodes);
    TAILQ_INIT(&fs->dirty_inodes);
    TAILQ_INIT(&fs->flushes);
    TAILQ_INIT(&fs->inline_inodes);
    LIST_INIT(&fs->files);
    hf_arena_init(&fs->arena, o->pool);
    fs->op_timeout_ns = o->op_timeout_ns ? o->op_timeout_ns : HF_OP_TIMEOUT_NS;
    hf_timer_init(&fs->age_timer, env, age_due, fs);
    hf_timer_init(&fs->wait_timer, env, hf_fs_writers_time, fs);
    hf_timer_init(&fs->cuts_timer, env, hf_fs_cuts_time, fs);
    hf_timer_init(&fs->release_timer, env, release_send, fs);
    fs->commit_extents = malloc(HF_COMMIT_EXTENTS_MAX * sizeof(*fs->commit_extents));
    fs->commit_inodes = malloc(HF_FS_FLUSH_INODES * sizeof(*fs->commit_inodes));
    fs->commit_bulk = malloc(HF_INLINE_BYTES_MAX);
    if (!fs->commit_extents || !fs->commit_inodes || !fs->commit_bulk) {
        hf_fs_free(fs);
        return -ENOMEM;
    }
    (void)hf_fs_set_limits(fs, o->dirty_max_bytes, o->dirty_target_bytes, o->dirty_max_age_ns);
    *ret = fs;
    return 0;
}

void hf_fs_free(struct hf_fs *fs)
{
    struct hf_inode *inode;

    if (!fs) {
        return;
    }
    HF_ASSERT(fs->open_count == 0);
    fs->lost = -EIO;
    while (!LIST_EMPTY(&fs->closed)) {
        struct hf_fs_file *file = LIST_FIRST(&fs->closed);

        LIST_REMOVE(file, in_fs);
        file_free(file);
    }
    while ((inode = TAILQ_FIRST(&fs->dirty_inodes)) != NULL) {
        hf_fs_inode_drop_dirty(fs, inode);
    }
    hf_relocate_fini(fs);
    HF_ASSERT(TAILQ_EMPTY(&fs->flushes) && fs->calls == 0);
    hf_timer_fini(&fs->age_timer);
    hf_timer_fini(&fs->wait_timer);
    hf_timer_fini(&fs->cuts_timer);
    hf_timer_fini(&fs->release_timer);
    hf_fs_inode_table_free(fs);
    hf_arena_fini(&fs->arena);
    free(fs->commit_extents);
    free(fs->commit_inodes);
    free(fs->commit_bulk);
    free(fs);
}

static void drop_everything(struct hf_fs *fs)
{
    struct hf_inode *inode;

    while ((inode = TAILQ_FIRST(&fs->dirty_inodes)) != NULL) {
        inode->err = -EIO;
        inode->err_seq++;
        fs->stats.flush_errors++;
        fs->stats.lost_bytes += inode->dirty.dirty_bytes;
        hf_log(HF_LOG_ERROR, "fs", "dirty data dropped", "ino=%llu bytes=%llu err=session lost",
               (unsigned long long)inode->ino.v, (unsigned long long)inode->dirty.dirty_bytes);
        hf_fs_inode_drop_dirty(fs, inode);
    }
}

void hf_fs_session_lost(struct hf_fs *fs, int why)
{
    if (!fs->lost) {
        hf_log(HF_LOG_ERROR, "fs", "session lost",
               "why=%s dirty_bytes=%llu: unmount and mount again", hf_err_name(why),
               (unsigned long long)(fs->dirty_bytes + fs->flush_bytes));
        fs->lost = -EIO;
        drop_everything(fs);
    }
}

/* The user's command */

int hf_fs_set_limits(struct hf_fs *fs, uint64_t max, uint64_t target, uint64_t age_ns)
{
    if (max && max < DIRTY_MAX_MIN) {
        return -EINVAL;
    }
    fs->dirty_max_bytes = max ? max : fs->dirty_max_bytes;
    if (target) {
        fs->dirty_target_bytes = target;
    } else if (max) {
        fs->dirty_target_bytes = max / 2;
    }
    fs->dirty_max_age_ns = age_ns ? age_ns : fs->dirty_max_age_ns;
    hf_timer_disarm(&fs->age_timer); /* set for the old age */
    hf_fs_writers_wake(fs);
    hf_flush_kick(fs);
    return 0;
}

static uint64_t age_of(const struct hf_fs *fs, const struct hf_inode *inode)
{
    return hf_env_mono_ns(fs->env) - inode->dirty_since_ns;
}

void hf_fs_stats(const struct hf_fs *fs, struct hf_fs_stats *ret)
{
    const struct hf_inode *inode = TAILQ_FIRST(&fs->dirty_inodes);

    *ret = fs->stats;
    ret->dirty_bytes = fs->dirty_bytes;
    ret->flush_bytes = fs->flush_bytes;
    ret->memory_bytes = fs->arena.mem_bytes;
    ret->oldest_age_ns = inode ? age_of(fs, inode) : 0;
    ret->flushes = fs->flush_count;
    ret->open_files = fs->open_count;
    ret->dirty_max_bytes = fs->dirty_max_bytes;
    ret->dirty_target_bytes = fs->dirty_target_bytes;
    ret->dirty_max_age_ns = fs->dirty_max_age_ns;
    for (; inode; inode = TAILQ_NEXT(inode, in_list)) {
        ret->dirty_files++;
    }
    if (fs->writers) {
        const struct hf_fs_req *req = fs->writers;

        do {
            ret->writers_waiting++;
            req = req->next;
        } while (req != fs->writers);
    }
}

uint32_t hf_fs_dirty_files(const struct hf_fs *fs, struct hf_fs_dirty_file *ret, uint32_t max)
{
    const struct hf_inode *inode;
    const struct hf_flush *flush;
    uint32_t n = 0;

    TAILQ_FOREACH (inode, &fs->dirty_inodes, in_list) {
        if (n == max) {
            return n;
        }
        ret[n++] = (struct hf_fs_dirty_file){
            .ino = inode->ino,
            .bytes = inode->dirty.dirty_bytes + inode->dirty.busy_bytes,
            .age_ns = age_of(fs, inode),
        };
    }
    TAILQ_FOREACH (flush, &fs->flushes, in_fs) {
        for (const struct hf_flush_part *part = flush->parts; part && n < max; part = part->next) {
            if (!part->inode->listed && part == TAILQ_FIRST(&part->inode->parts)) {
                ret[n++] = (struct hf_fs_dirty_file){
                    .ino = part->inode->ino,
                    .bytes = part->inode->dirty.busy_bytes,
                };
            }
        }
    }
    return n;
}

/* A sync of everything waits for the parts up to req->target; err_seq counts what stayed behind. */
static bool sync_waits(const struct hf_fs *fs, const struct hf_fs_req *req)
{
    const struct hf_flush *flush;

    TAILQ_FOREACH (flush, &fs->flushes, in_fs) {
        if (flush->parts && flush->parts->seq + HF_BUG(sync_misses_last) <= req->target) {
            return true;
        }
    }
    return false;
}

static int sync_outcome(const struct hf_fs_req *req)
{
    const struct hf_fs *fs = req->fs;
    bool failed = fs->stats.flush_errors != req->off_bytes || req->err_seq > 0;

    return fs->lost || (failed && !HF_BUG(sync_ignores_errors)) ? -EIO : 0;
}

void hf_fs_syncs_wake(struct hf_fs *fs)
{
    struct hf_fs_req *req = fs->syncs;

    while (req) {
        if (!sync_waits(fs, req)) {
            hf_req_ring_remove(&fs->syncs, req);
            hf_fs_finish(req, sync_outcome(req)); /* may do anything: look again from the start */
            req = fs->syncs;
        } else {
            req = req->next == fs->syncs ? NULL : req->next;
        }
    }
}

static void sync_one_done(struct hf_fs_req *req)
{
    hf_fs_finish(req, sync_outcome(req));
}

int hf_fs_sync(struct hf_fs *fs, struct hf_ino ino, bool wait, struct hf_fs_req *req)
{
    struct hf_inode *inode;
    int err;

    hf_fs_begin(fs, req);
    req->off_bytes = fs->stats.flush_errors;
    req->err_seq = 0;
    if (ino.v) {
        bool waits;

        if (!hf_fs_inode_find(fs, ino)) {
            return 0;
        }
        inode = hf_fs_inode_get(fs, ino); /* it may be idle */
        err = hf_flush_inode(fs, inode, wait);
        waits = wait && !err && hf_flush_wait(inode, req, sync_one_done);
        hf_fs_inode_unref(fs, inode); /* what is on its way holds it */
        return waits ? HF_FS_PENDING : err && wait ? err : sync_outcome(req);
    }
    err = hf_flush_all(fs, wait);
    if (err && wait) {
        return err;
    }
    req->target = fs->part_seq;
    if (!wait || !sync_waits(fs, req)) {
        return sync_outcome(req);
    }
    hf_req_ring_add(&fs->syncs, req);
    return HF_FS_PENDING;
}

void hf_fs_check_invariants(const struct hf_fs *fs)
{
    uint64_t dirty = 0, flushing = 0, shown = 0, open = 0;
    uint32_t streams = 0;
    size_t extents = 0;
    const struct hf_flush *flush;
    const struct hf_inode *opened;

    for (uint32_t i = 0; i < fs->hash_size; i++) {
        for (const struct hf_inode *inode = fs->hash[i]; inode; inode = inode->hash_next) {
            const struct hf_flush_part *part;
            bool unsent = false;

            hf_dirty_check_invariants(&inode->dirty);
            HF_ASSERT(inode->counted_bytes == inode->dirty.dirty_bytes);
            HF_ASSERT(inode->listed == (inode->dirty.dirty_bytes > 0 || inode->stream));
            HF_ASSERT(!inode->idle || inode->refs == 0);
            open += inode->opens > 0;
            streams += inode->stream != NULL;
            dirty += inode->dirty.dirty_bytes;
            extents += inode->extents.cost_bytes;
            shown += inode->dirty.busy_bytes;
            TAILQ_FOREACH (part, &inode->parts, in_inode) {
                HF_ASSERT(!(part->submitted && unsent) ||
                          HF_BUG(commit_out_of_order)); /* commits leave in order */
                unsent = unsent || !part->submitted;
            }
        }
    }
    TAILQ_FOREACH (opened, &fs->opened_inodes, in_opened) {
        HF_ASSERT(opened->opens > 0 && open > 0);
        open--;
    }
    TAILQ_FOREACH (flush, &fs->flushes, in_fs) {
        flushing += flush->bytes;
    }
    HF_ASSERT(open == 0); /* all are claimed */
    HF_ASSERT(streams == fs->stream_count);
    HF_ASSERT(dirty == fs->dirty_bytes && flushing == fs->flush_bytes && shown <= flushing);
    HF_ASSERT(fs->arena.mem_bytes >= dirty + flushing || fs->arena.slab_count == 0 || dirty == 0);
    HF_ASSERT(fs->budget_bytes <= dirty + flushing || fs->lost); /* goes with the session */
    HF_ASSERT(extents == fs->extent_bytes);
}
