/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

#define HASH_SIZE_MIN 64u

static uint32_t bucket(const struct hf_fs *fs, struct hf_ino ino)
{
    return (uint32_t)((ino.v * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (fs->hash_size - 1);
}

struct hf_inode *hf_fs_inode_find(struct hf_fs *fs, struct hf_ino ino)
{
    struct hf_inode *inode = fs->hash ? fs->hash[bucket(fs, ino)] : NULL;

    while (inode && inode->ino.v != ino.v) {
        inode = inode->hash_next;
    }
    return inode;
}

/* Twice the buckets; without memory the chains just grow. */
static int hash_grow(struct hf_fs *fs)
{
    uint32_t old_size = fs->hash_size, size = old_size ? old_size * 2 : HASH_SIZE_MIN;
    struct hf_inode **old = fs->hash, **hash = calloc(size, sizeof(*hash));

    if (!hash) {
        return old ? 0 : -ENOMEM;
    }
    fs->hash = hash;
    fs->hash_size = size;
    for (uint32_t i = 0; i < old_size; i++) {
        struct hf_inode *next;

        for (struct hf_inode *inode = old[i]; inode; inode = next) {
            uint32_t b = bucket(fs, inode->ino);

            next = inode->hash_next;
            inode->hash_next = hash[b];
            hash[b] = inode;
        }
    }
    free(old);
    return 0;
}

static void inode_free(struct hf_fs *fs, struct hf_inode *inode)
{
    struct hf_inode **at = &fs->hash[bucket(fs, inode->ino)];

    HF_ASSERT(inode->refs == 0 && inode->opens == 0 && TAILQ_EMPTY(&inode->parts));
    HF_ASSERT(hf_dirty_empty(&inode->dirty) && !inode->waiters);
    while (*at != inode) {
        at = &(*at)->hash_next;
    }
    *at = inode->hash_next;
    fs->inode_count--;
    if (inode->idle) {
        TAILQ_REMOVE(&fs->idle_inodes, inode, in_list);
        fs->idle_count--;
    }
    hf_dirty_fini(&inode->dirty);
    hf_fs_inode_clear_extents(fs, inode);
    hf_lock_owners_free(inode);
    free(inode);
}

struct hf_inode *hf_fs_inode_ref(struct hf_inode *inode)
{
    inode->refs++;
    return inode;
}

struct hf_inode *hf_fs_inode_get(struct hf_fs *fs, struct hf_ino ino)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);
    uint32_t b;

    if (inode) {
        if (inode->idle) {
            TAILQ_REMOVE(&fs->idle_inodes, inode, in_list);
            fs->idle_count--;
            inode->idle = false;
        }
        return hf_fs_inode_ref(inode);
    }
    if (fs->inode_count >= fs->hash_size && hash_grow(fs)) {
        return NULL;
    }
    inode = calloc(1, sizeof(*inode));
    if (!inode) {
        return NULL;
    }
    inode->ino = ino;
    inode->refs = 1;
    TAILQ_INIT(&inode->parts);
    hf_dirty_init(&inode->dirty);
    hf_extents_init(&inode->extents);
    b = bucket(fs, ino);
    inode->hash_next = fs->hash[b];
    fs->hash[b] = inode;
    fs->inode_count++;
    return inode;
}

void hf_fs_inode_unref(struct hf_fs *fs, struct hf_inode *inode)
{
    HF_ASSERT(inode->refs > 0);
    if (--inode->refs > 0) {
        return;
    }
    if (inode->orphan || (!inode->extents.valid && inode->cache_version == 0)) {
        inode_free(fs, inode);
        return;
    }
    inode->idle = true;
    TAILQ_INSERT_TAIL(&fs->idle_inodes, inode, in_list);
    fs->idle_count++;
    if (fs->idle_count > HF_FS_IDLE_INODES) {
        inode_free(fs, TAILQ_FIRST(&fs->idle_inodes));
    }
}

bool hf_fs_inode_private(const struct hf_inode *inode)
{
    return inode->orphan && !inode->shared;
}

/* Who waits for its flushes */

void hf_flush_wake(struct hf_inode *inode)
{
    struct hf_fs_req *req = inode->waiters;

    while (req) {
        const struct hf_flush_part *first = TAILQ_FIRST(&inode->parts);

        if (!first || first->seq > req->target) {
            hf_req_ring_remove(&inode->waiters, req);
            req->then(req); /* may do anything: look again from the start */
            req = inode->waiters;
        } else {
            req = req->next == inode->waiters ? NULL : req->next;
        }
    }
}

bool hf_flush_wait(struct hf_inode *inode, struct hf_fs_req *req,
                   void (*then)(struct hf_fs_req *req))
{
    const struct hf_flush_part *last = HF_BUG(fsync_waits_first)
                                           ? TAILQ_FIRST(&inode->parts)
                                           : TAILQ_LAST(&inode->parts, hf_part_list);

    if (!last) {
        return false;
    }
    req->target = last->seq;
    req->then = then;
    hf_req_ring_add(&inode->waiters, req);
    return true;
}

int hf_flush_held(struct hf_fs_req *req, void (*again)(struct hf_fs_req *req))
{
    struct hf_inode *both[2] = {req->inode, req->inode2};

    for (int i = 0; i < 2 && both[i]; i++) {
        int err;

        if (both[i]->err_seq != (i ? req->err_seq2 : req->err_seq)) {
            return both[i]->err;
        }
        if (req->state & (1u << i)) {
            continue;
        }
        req->state |= 1u << i;
        err = hf_flush_inode(req->fs, both[i], true);
        if (err) {
            return err;
        }
        if (hf_flush_wait(both[i], req, again)) {
            return HF_FS_PENDING;
        }
    }
    return 0;
}

/* Inodes without a name */

static void gone_drop(struct hf_fs *fs, struct hf_inode *inode)
{
    TAILQ_REMOVE(&fs->gone_inodes, inode, in_gone);
    fs->gone_count--;
    free(inode->gone);
    inode->gone = NULL;
    hf_fs_inode_unref(fs, inode);
}

void hf_fs_inode_gone(struct hf_fs *fs, const struct hf_attr *attr, bool shared, const void *target,
                      size_t target_len)
{
    struct hf_inode *inode = hf_fs_inode_get(fs, attr->ino);

    if (!inode) {
        return; /* without memory it is as if it had never been */
    }
    inode->orphan = true;
    inode->shared = shared;
    if (inode->gone || !(inode->gone = malloc(sizeof(*inode->gone) + target_len))) {
        hf_fs_inode_unref(fs, inode);
        return;
    }
    inode->gone->attr = *attr;
    inode->gone->target_len = target_len;
    if (target_len) {
        memcpy(inode->gone->target, target, target_len);
    }
    TAILQ_INSERT_TAIL(&fs->gone_inodes, inode, in_gone);
    if (++fs->gone_count > HF_FS_GONE_INODES) {
        gone_drop(fs, TAILQ_FIRST(&fs->gone_inodes));
    }
}

void hf_fs_forget(struct hf_fs *fs, struct hf_ino ino)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    if (inode && inode->gone) {
        gone_drop(fs, inode);
    } else if (inode && inode->idle) {
        inode_free(fs, inode);
    }
}

void hf_fs_inode_table_free(struct hf_fs *fs)
{
    while (!TAILQ_EMPTY(&fs->gone_inodes)) {
        gone_drop(fs, TAILQ_FIRST(&fs->gone_inodes));
    }
    for (uint32_t i = 0; i < fs->hash_size; i++) {
        while (fs->hash[i]) {
            inode_free(fs, fs->hash[i]);
        }
    }
    free(fs->hash);
    fs->hash = NULL;
}

void hf_fs_inode_clear_extents(struct hf_fs *fs, struct hf_inode *inode)
{
    fs->extent_bytes -= inode->extents.cost_bytes;
    hf_extents_clear(&inode->extents);
}

/* Of the open ones but @inode that of which most is cached; NULL: nothing is. */
static struct hf_inode *most_cached(struct hf_fs *fs, const struct hf_inode *inode)
{
    struct hf_inode *most = NULL, *at;

    TAILQ_FOREACH (at, &fs->opened_inodes, in_opened) {
        if (at != inode && at->extents.cost_bytes > (most ? most->extents.cost_bytes : 0)) {
            most = at;
        }
    }
    return most;
}

void hf_fs_inode_count_extents(struct hf_fs *fs, struct hf_inode *inode, size_t before_bytes)
{
    struct hf_inode *other;

    fs->extent_bytes += inode->extents.cost_bytes - before_bytes;
    while (fs->extent_bytes > fs->extent_bytes_max &&
           (other = TAILQ_FIRST(&fs->idle_inodes)) != NULL) {
        inode_free(fs, other);
    }
    while (fs->extent_bytes > fs->extent_bytes_max && (other = most_cached(fs, inode)) != NULL) {
        hf_fs_inode_clear_extents(fs, other); /* who reads it asks again */
    }
}

/* Attributes with what is dirty laid over them */

/* Is it the time of a write elsewhere since @mtime_ns? One that was set may be any; but a write is
 * not later than its commit, which made the ctime. Times are signed: files may be from before 1970.
 */
static bool written_since(const struct hf_attr *attr, uint64_t mtime_ns)
{
    return (int64_t)attr->mtime_ns > (int64_t)mtime_ns &&
           (int64_t)attr->mtime_ns <= (int64_t)attr->ctime_ns;
}

/* A write that lies over @attr. @mtime_ns: its time; 0: one was set since, which stays. */
static void raise(struct hf_attr *attr, uint64_t end, uint64_t mtime_ns, uint64_t ctime_ns)
{
    attr->size = end > attr->size ? end : attr->size;
    if (mtime_ns && !written_since(attr, mtime_ns)) {
        attr->mtime_ns = mtime_ns;
    }
    attr->ctime_ns = ctime_ns > attr->ctime_ns ? ctime_ns : attr->ctime_ns;
}

/*
 * The ctime that the commits under way and those to come will leave, given @ctime_ns. The last of
 * them makes it later than anything seen before, or a mount that saw that would not find it newer.
 */
static uint64_t ctime_ahead(const struct hf_inode *inode, uint64_t ctime_ns)
{
    const struct hf_flush_part *part;
    bool more = inode->dirty.dirty_bytes > 0;
    uint64_t wanted_ns =
        inode->told_ctime_ns > inode->dirty_mtime_ns ? inode->told_ctime_ns : inode->dirty_mtime_ns;

    TAILQ_FOREACH (part, &inode->parts, in_inode) {
        more = more || !part->submitted;
        ctime_ns = part->ctime_ns > ctime_ns ? part->ctime_ns : ctime_ns;
    }
    if (!more) {
        return ctime_ns;
    }
    return wanted_ns > ctime_ns ? wanted_ns : ctime_ns + HF_FS_CTIME_STEP_NS;
}

/* What is dirty may lie where there are bytes already; only what is reserved lies behind EOF. */
static uint64_t bytes_with(const struct hf_attr *attr, uint64_t dirty_bytes)
{
    uint64_t all = attr->bytes + dirty_bytes;

    all = all < attr->size ? all : attr->size;
    return attr->bytes > all ? attr->bytes : all;
}

void hf_fs_inode_overlay(struct hf_inode *inode, struct hf_attr *attr)
{
    if (!hf_dirty_empty(&inode->dirty)) {
        raise(attr, hf_dirty_end(&inode->dirty), inode->dirty_mtime_ns,
              ctime_ahead(inode, attr->ctime_ns));
        attr->bytes = bytes_with(attr, inode->dirty.dirty_bytes + inode->dirty.busy_bytes);
    }
    if (!hf_dirty_empty(&inode->dirty) && inode->kill) {
        attr->mode &= ~(uint32_t)S_ISUID;
        attr->mode &= attr->mode & S_IXGRP ? ~(uint32_t)S_ISGID : ~0u;
    }
    inode->kernel_end = attr->size < inode->kernel_end ? attr->size : inode->kernel_end;
}

void hf_fs_inode_overlay_since(struct hf_inode *inode, const struct hf_fs_req *req,
                               struct hf_attr *attr)
{
    if (inode->settle_seq > req->begin_seq && !HF_BUG(stat_misses_commit)) {
        raise(attr, inode->settled_end, inode->settled_mtime_ns, inode->settled_ctime_ns);
    }
    hf_fs_inode_overlay(inode, attr);
}

void hf_fs_overlay(const struct hf_fs_req *req, struct hf_attr *attr)
{
    struct hf_inode *inode = attr->ino.v ? hf_fs_inode_find(req->fs, attr->ino) : NULL;

    if (inode) {
        (void)hf_append_look(inode, attr);
        hf_fs_inode_overlay_since(inode, req, attr);
    }
}

void hf_fs_told(struct hf_fs *fs, const struct hf_attr *attr)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, attr->ino);

    if (inode && !hf_dirty_empty(&inode->dirty) && attr->ctime_ns > inode->told_ctime_ns) {
        inode->told_ctime_ns = attr->ctime_ns;
    }
}

void hf_fs_inode_own_version(struct hf_inode *inode, uint64_t version)
{
    if (inode->cache_version && version == inode->cache_version + 1) {
        inode->cache_version = version;
    } else if (version != inode->cache_version) {
        inode->cache_version = 0;
    }
}

void hf_fs_inode_drop_dirty(struct hf_fs *fs, struct hf_inode *inode)
{
    hf_fs_inode_ref(inode);
    hf_flush_seal(fs, inode);
    hf_dirty_fini(&inode->dirty);
    hf_append_cut(inode, 0);
    inode->dirty_mtime_ns = 0;
    inode->told_ctime_ns = 0;
    inode->kill = false;
    hf_flush_note(fs, inode);
    hf_flush_go(inode);
    hf_fs_inode_unref(fs, inode);
    hf_fs_budget_trim(fs);
    hf_fs_writers_wake(fs);
}

void hf_fs_inode_last_close(struct hf_fs *fs, struct hf_inode *inode)
{
    if (hf_fs_inode_private(inode)) {
        hf_fs_inode_drop_dirty(fs, inode);
        return;
    }
    (void)hf_flush_inode(fs, inode, false); /* without memory it stays dirty and goes by age */
}
