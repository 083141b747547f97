/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - byte-range and whole-file locks: tried at the metadata, waited for by a long poll.
 *
 *     try ──granted──► done        try ──in the way, wait──► LOCK_WAIT ──free, or 20 s──► try
 *
 * Who gives up an exclusive lock, or makes it a shared one, has what was written committed first:
 *
 *     commit ──done, or failed──► try
 *
 * An interrupt ends the wait at once; the poll under way then belongs to nobody, and the leader is
 * told to give it up: an owner that waits is part of what it looks at for deadlocks. See
 * docs/design/locks.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/fs/fs_impl.h"

void hf_lock_owners_free(struct hf_inode *inode)
{
    while (inode->owners) {
        struct hf_lock_owner *owner = inode->owners;

        inode->owners = owner->next;
        free(owner);
    }
}

static struct hf_lock_owner **owner_find(struct hf_inode *inode, uint64_t owner, bool flock)
{
    struct hf_lock_owner **at = &inode->owners;

    while (*at && ((*at)->owner != owner || (*at)->flock != flock)) {
        at = &(*at)->next;
    }
    return at;
}

bool hf_lock_held(const struct hf_inode *inode, uint64_t owner, bool flock)
{
    return *owner_find((struct hf_inode *)(uintptr_t)inode, owner, flock) != NULL;
}

bool hf_lock_writes(const struct hf_inode *inode)
{
    const struct hf_lock_owner *note = inode->owners;

    while (note && !note->writes) {
        note = note->next;
    }
    return note != NULL;
}

/* Remember who may hold locks: only their closes ask for a release. */
static int owner_note(struct hf_inode *inode, const struct hf_fs_lock *lock)
{
    struct hf_lock_owner *note = *owner_find(inode, lock->owner, lock->flock);

    if (note) {
        note->writes = note->writes || lock->type == F_WRLCK;
        return 0;
    }
    note = malloc(sizeof(*note));
    if (!note) {
        return -ENOMEM;
    }
    *note = (struct hf_lock_owner){.owner = lock->owner,
                                   .flock = lock->flock,
                                   .writes = lock->type == F_WRLCK,
                                   .through = lock->through,
                                   .next = inode->owners};
    inode->owners = note;
    return 0;
}

/* What asks for a release of all that a noted owner has; the note goes. */
static struct hf_meta_op owner_drop(struct hf_inode *inode, struct hf_lock_owner **at)
{
    struct hf_lock_owner *note = *at;
    struct hf_meta_op op = {.op = HF_OP_LOCK_RELEASE,
                            .ino = inode->ino,
                            .lock_owner = note->owner,
                            .flags = note->flock ? HF_LOCK_FLOCK : 0};

    *at = note->next;
    free(note);
    return op;
}

void hf_lock_drop(struct hf_fs *fs, struct hf_inode *inode, uint64_t owner, bool flock)
{
    struct hf_lock_owner **at = owner_find(inode, owner, flock);

    if (*at) {
        struct hf_meta_op op = owner_drop(inode, at);

        hf_fs_mutate_quietly(fs, &op);
    }
}

int hf_lock_give_back(struct hf_inode *inode, uint64_t owner, struct hf_fs_req *req)
{
    struct hf_lock_owner **at = owner_find(inode, owner, false);
    struct hf_meta_op op;

    if (!*at || req->fs->lost) { /* lost: so are its locks */
        return 0;
    }
    op = owner_drop(inode, at);
    return hf_fs_mutate(req->fs, &op, req);
}

/*
 * An open file description's own locks: their owner is one that no FLUSH names. (A process's locks
 * are gone by now: each process that had the file open has sent a FLUSH.)
 */
void hf_lock_release(const struct hf_fs_file *file)
{
    struct hf_lock_owner *note = file->inode->owners, *next;

    for (; note; note = next) {
        next = note->next;
        if (note->through == file) {
            hf_lock_drop(file->fs, file->inode, note->owner, note->flock);
        }
    }
}

void hf_fs_unflock(struct hf_fs *fs, struct hf_ino ino, uint64_t owner)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);

    if (inode) {
        hf_lock_drop(fs, inode, owner, true);
    }
}

/* Asking */

static int got_lock(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    struct hf_fs_lock *lock = &req->lock;

    if (reply->err) {
        return reply->err;
    }
    lock->type = reply->lock_type;
    lock->pid = reply->lock_pid;
    lock->start = reply->lock_start;
    lock->length = reply->lock_end == UINT64_MAX ? 0 : reply->lock_end - reply->lock_start + 1;
    return 0;
}

int hf_fs_getlk(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_lock *lock,
                struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_GETLK,
                              .ino = ino,
                              .lock_type = lock->type,
                              .lock_owner = lock->owner,
                              .offset = lock->start,
                              .length = lock->length};

    hf_fs_begin(fs, req);
    req->lock = *lock;
    req->after = got_lock;
    return hf_fs_look(fs, &rd, req);
}

/* Setting */

#define LOCK_TRYING  1u /* states */
#define LOCK_WAITING 2u

#define LOCK_WAITS   0x1u /* flags */
#define LOCK_CHANGES 0x2u /* its owner may have another flock, which is not given up yet */

struct lock_poll {
    struct hf_meta_call call;
    struct hf_fs *fs;
    struct hf_fs_req *req; /* NULL: interrupted */
    uint64_t number;
};

static int lock_try(struct hf_fs_req *req);

static void polled(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct lock_poll *poll = call->ctx;
    struct hf_fs_req *req = poll->req;
    int err = reply->err;

    poll->fs->calls--;
    free(poll);
    if (!req) {
        return;
    }
    req->arg = NULL;
    if (err == 0 || err == -EAGAIN || err == -ETIMEDOUT) {
        err = lock_try(req);
    }
    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

static int lock_wait(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_LOCK_WAIT,
                              .ino = req->ino,
                              .lock_type = req->lock.type,
                              .lock_owner = req->lock.owner,
                              .offset = req->lock.start,
                              .length = req->lock.length,
                              .flags = req->lock.flock ? HF_LOCK_FLOCK : 0};
    struct lock_poll *poll = calloc(1, sizeof(*poll));

    if (!poll) {
        return -ENOMEM;
    }
    poll->number = rd.cookie = ++req->fs->lock_waits;
    poll->call.done = polled;
    poll->call.ctx = poll;
    poll->fs = req->fs;
    poll->req = req;
    req->arg = poll;
    req->state = LOCK_WAITING;
    req->fs->calls++;
    hf_session_read(req->fs->session, &rd, &poll->call);
    return HF_FS_PENDING;
}

static int lock_set(struct hf_fs_req *req, uint32_t type,
                    int (*after)(struct hf_fs_req *req, const struct hf_meta_reply *reply))
{
    struct hf_meta_op op = {.op = HF_OP_LOCK,
                            .ino = req->ino,
                            .lock_owner = req->lock.owner,
                            .lock_type = type,
                            .lock_pid = req->lock.pid,
                            .offset = req->lock.start,
                            .length = req->lock.length,
                            .flags = req->lock.flock ? HF_LOCK_FLOCK : 0};

    req->state = LOCK_TRYING;
    req->after = after;
    return hf_fs_mutate(req->fs, &op, req);
}

static int gave_up(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    return reply->err ? reply->err : lock_try(req);
}

/* Nobody changes the file any more, and what was changed is committed: pages of before must go. */
static int granted(struct hf_fs_req *req, const struct hf_attr *attr)
{
    struct hf_inode *inode = req->inode;

    if (S_ISREG(attr->mode)) { /* not of F_UNLCK, nor of a directory */
        req->keep_cache = inode->cache_version && inode->cache_version == attr->data_version;
        inode->cache_version = attr->data_version;
    }
    return 0;
}

static int lock_tried(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    if (reply->err == -EAGAIN && (req->flags & LOCK_CHANGES)) {
        req->flags &= ~LOCK_CHANGES;
        return lock_set(req, F_UNLCK, gave_up);
    }
    if (reply->err == -EAGAIN && (req->flags & LOCK_WAITS)) {
        if (req->mode) { /* interrupted while the try was under way */
            return -EINTR;
        }
        return lock_wait(req);
    }
    return reply->err ? reply->err : granted(req, &reply->attr);
}

static int lock_try(struct hf_fs_req *req)
{
    return lock_set(req, req->lock.type, lock_tried);
}

/* What could not be committed keeps no lock: fsync and close tell of it. */
static void lock_clean(struct hf_fs_req *req)
{
    int err = lock_try(req);

    if (err != HF_FS_PENDING) {
        hf_fs_finish(req, err);
    }
}

/* Is the lock one under which others may not see what was written, and will no longer be? */
static bool lock_ends(struct hf_inode *inode, const struct hf_fs_lock *lock)
{
    const struct hf_lock_owner *note = *owner_find(inode, lock->owner, lock->flock);

    return lock->type != F_WRLCK && note && note->writes && !hf_fs_inode_private(inode);
}

int hf_fs_setlk(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_lock *lock, bool wait,
                struct hf_fs_req *req)
{
    struct hf_inode *inode = hf_fs_inode_get(fs, ino);

    hf_fs_begin(fs, req);
    if (!inode) {
        return -ENOMEM;
    }
    hf_fs_hold(req, inode);
    req->ino = ino;
    req->lock = *lock;
    req->flags = wait ? LOCK_WAITS : 0;
    req->flags |= lock->flock && hf_lock_held(inode, lock->owner, true) ? LOCK_CHANGES : 0;
    req->mode = 0;
    req->keep_cache = true;
    if (lock->type != F_UNLCK && owner_note(inode, lock)) {
        return hf_fs_return(req, -ENOMEM);
    }
    if (lock_ends(inode, lock)) {
        (void)hf_flush_inode(fs, inode, true); /* without memory it stays dirty and goes by age */
        if (hf_flush_wait(inode, req, lock_clean)) {
            return HF_FS_PENDING;
        }
    }
    return hf_fs_return(req, lock_try(req));
}

void hf_fs_interrupt(struct hf_fs_req *req)
{
    struct hf_meta_read rd = {.op = HF_RD_LOCK_WAIT,
                              .ino = req->ino,
                              .lock_type = F_UNLCK,
                              .lock_owner = req->lock.owner};
    struct lock_poll *poll;

    if (req->state != LOCK_WAITING) {
        req->mode = 1; /* what is under way is answered first */
        return;
    }
    poll = (struct lock_poll *)(uintptr_t)req->arg;
    poll->req = NULL;
    req->arg = NULL;
    rd.cookie = poll->number;
    hf_session_unwanted(&poll->call);
    hf_fs_look_quietly(req->fs, &rd);
    hf_fs_finish(req, -EINTR);
}
