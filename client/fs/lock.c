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
 * The same holds for locks that go with their open file. Nobody waits for that, but a lock of the
 * next open file that has the same number.
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
#include "common/base/assert.h"

void hf_lock_owners_free(struct hf_inode *inode)
{
    while (inode->owners) {
        struct hf_lock_owner *owner = inode->owners;

        inode->owners = owner->next;
        free(owner);
    }
}

/* In inode->owners or inode->ending. */
static struct hf_lock_owner **owner_find(struct hf_lock_owner **at, uint64_t owner, bool flock)
{
    while (*at && ((*at)->owner != owner || (*at)->flock != flock)) {
        at = &(*at)->next;
    }
    return at;
}

bool hf_lock_held(const struct hf_inode *inode, uint64_t owner, bool flock)
{
    struct hf_lock_owner *owners = inode->owners;
    const struct hf_lock_owner *note = *owner_find(&owners, owner, flock);

    return note && note->holds;
}

bool hf_lock_writes(const struct hf_inode *inode)
{
    const struct hf_lock_owner *note = inode->owners;

    while (note && !note->writes) {
        note = note->next;
    }
    return note != NULL;
}

static void note_holds(struct hf_lock_owner *note, const struct hf_fs_lock *lock)
{
    if (!note->holds) {
        note->holds = true;
        note->through = lock->through;
    }
    note->writes = note->writes || lock->type == F_WRLCK;
}

/* Remember who asks, and may hold locks: only their closes ask for a release. */
static int owner_asks(struct hf_inode *inode, const struct hf_fs_lock *lock)
{
    struct hf_lock_owner *note = *owner_find(&inode->owners, lock->owner, lock->flock);

    if (!note) {
        note = calloc(1, sizeof(*note));
        if (!note) {
            return -ENOMEM;
        }
        note->owner = lock->owner;
        note->flock = lock->flock;
        note->next = inode->owners;
        inode->owners = note;
    }
    note->asking++;
    note_holds(note, lock);
    return 0;
}

/* A setlk has its answer. A close that came before may have given up what the owner had. */
static int owner_told(struct hf_fs_req *req, int err)
{
    struct hf_lock_owner **at = owner_find(&req->inode->owners, req->lock.owner, req->lock.flock);
    struct hf_lock_owner *note = *at;

    if (req->lock.type == F_UNLCK) {
        return err;
    }
    note->asking--;
    if (!err) {
        note_holds(note, &req->lock);
    } else if (!note->holds && !note->asking) {
        *at = note->next;
        free(note);
    }
    return err;
}

static struct hf_meta_op release_of(const struct hf_inode *inode, const struct hf_lock_owner *note)
{
    return (struct hf_meta_op){.op = HF_OP_LOCK_RELEASE,
                               .ino = inode->ino,
                               .lock_owner = note->owner,
                               .flags = note->flock ? HF_LOCK_FLOCK : 0};
}

static void note_done(struct hf_fs_req *req, int err)
{
    (void)err; /* lost with the session; nobody waits */
    req->fs->calls--;
    free(hf_container_of(req, struct hf_lock_owner, req));
}

/* Take the note from its list; note_done() ends it. */
static struct hf_lock_owner *note_take(struct hf_fs *fs, struct hf_inode *inode,
                                       struct hf_lock_owner **at)
{
    struct hf_lock_owner *note = *at;

    *at = note->next;
    hf_fs_begin(fs, &note->req);
    hf_fs_hold(&note->req, hf_fs_inode_ref(inode));
    note->req.done = note_done;
    fs->calls++;
    return note;
}

/* Give up all that the owner has; the session's end does it, too. */
static void note_release(struct hf_lock_owner *note)
{
    struct hf_fs_req *req = &note->req;
    struct hf_meta_op op = release_of(req->inode, note);

    if (req->fs->lost) {
        hf_fs_finish(req, 0);
    } else {
        (void)hf_fs_mutate(req->fs, &op, req);
    }
}

int hf_lock_give_back(struct hf_inode *inode, uint64_t owner, struct hf_fs_req *req)
{
    struct hf_lock_owner **at = owner_find(&inode->owners, owner, false);
    struct hf_lock_owner *note = *at;
    struct hf_meta_op op;

    if (!note || !note->holds || req->fs->lost) { /* lost: so are its locks */
        return 0;
    }
    op = release_of(inode, note);
    if (note->asking) { /* another thread, that waits: what it will get stays */
        note->holds = note->writes = false;
    } else {
        *at = note->next;
        free(note);
    }
    return hf_fs_mutate(req->fs, &op, req);
}

/* What could not be committed keeps no lock: fsync and close tell of it. */
static void end_clean(struct hf_fs_req *req)
{
    struct hf_lock_owner *note = hf_container_of(req, struct hf_lock_owner, req);
    struct hf_lock_owner **at = &req->inode->ending;
    struct hf_fs_req *waiters = note->waiters;

    while (*at != note) {
        at = &(*at)->next;
    }
    *at = note->next;
    note_release(note);
    while (waiters) {
        struct hf_fs_req *waiter = waiters;

        hf_req_ring_remove(&waiters, waiter);
        waiter->then(waiter); /* its operation follows in the stream */
    }
}

/*
 * Give up all that a noted owner has when its open file goes. Its descriptors may be closed, and
 * committed, for long: stores to a mapping of it come after that.
 */
static void owner_end(struct hf_fs *fs, struct hf_inode *inode, struct hf_lock_owner **at)
{
    bool dirty = !hf_dirty_empty(&inode->dirty) || !TAILQ_EMPTY(&inode->parts);
    bool seen = (*at)->writes && !hf_fs_inode_private(inode);
    struct hf_lock_owner *note = note_take(fs, inode, at);

    if (!dirty || !seen || fs->lost) {
        note_release(note);
        return;
    }
    note->next = inode->ending;
    inode->ending = note;
    (void)hf_flush_inode(fs, inode, true); /* without memory it stays dirty and goes by age */
    if (!hf_flush_wait(inode, &note->req, end_clean)) {
        end_clean(&note->req);
    }
}

/*
 * An open file description's own locks: their owner is one that no FLUSH names. (A process's locks
 * are gone by now: each process that had the file open has sent a FLUSH.)
 */
void hf_lock_release(const struct hf_fs_file *file)
{
    struct hf_lock_owner **at = &file->inode->owners;

    while (*at) {
        if ((*at)->holds && !(*at)->asking && (*at)->through == file) {
            owner_end(file->fs, file->inode, at);
            at = &file->inode->owners; /* a flush may wake others: look again from the start */
        } else {
            at = &(*at)->next;
        }
    }
}

void hf_fs_unflock(struct hf_fs *fs, struct hf_ino ino, uint64_t owner)
{
    struct hf_inode *inode = hf_fs_inode_find(fs, ino);
    struct hf_lock_owner **at = inode ? owner_find(&inode->owners, owner, true) : NULL;

    if (at && *at && !(*at)->asking) {
        owner_end(fs, inode, at);
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
        hf_fs_finish(req, owner_told(req, err));
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
    return reply->err ? owner_told(req, reply->err) : lock_try(req);
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
        int err = req->mode ? -EINTR : lock_wait(req); /* interrupted during the try */

        return err == HF_FS_PENDING ? err : owner_told(req, err);
    }
    return owner_told(req, reply->err ? reply->err : granted(req, &reply->attr));
}

static int lock_try(struct hf_fs_req *req)
{
    return lock_set(req, req->lock.type, lock_tried);
}

static void lock_clean(struct hf_fs_req *req)
{
    (void)lock_try(req);
}

/* Is the lock one under which others may not see what was written, and will no longer be? */
static bool lock_ends(struct hf_inode *inode, const struct hf_fs_lock *lock)
{
    const struct hf_lock_owner *note = *owner_find(&inode->owners, lock->owner, lock->flock);

    return lock->type != F_WRLCK && note && note->writes && !hf_fs_inode_private(inode);
}

/* What could not be committed keeps no lock: fsync and close tell of it. */
static int lock_commit(struct hf_fs_req *req)
{
    struct hf_inode *inode = req->inode;

    if (lock_ends(inode, &req->lock)) {
        (void)hf_flush_inode(req->fs, inode, true); /* without memory: stays dirty, goes by age */
        if (hf_flush_wait(inode, req, lock_clean)) {
            return HF_FS_PENDING;
        }
    }
    return lock_try(req);
}

static void lock_next(struct hf_fs_req *req)
{
    (void)lock_commit(req);
}

int hf_fs_setlk(struct hf_fs *fs, struct hf_ino ino, const struct hf_fs_lock *lock, bool wait,
                struct hf_fs_req *req)
{
    struct hf_inode *inode = hf_fs_inode_get(fs, ino);
    struct hf_lock_owner *end;

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
    if (lock->type != F_UNLCK && owner_asks(inode, lock)) {
        return hf_fs_return(req, -ENOMEM);
    }
    end = *owner_find(&inode->ending, lock->owner, lock->flock);
    if (end) { /* of an open file before; its release would take this lock, too */
        req->then = lock_next;
        hf_req_ring_add(&end->waiters, req);
        return HF_FS_PENDING;
    }
    return lock_commit(req);
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
    hf_fs_finish(req, owner_told(req, -EINTR));
}
