/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "server/meta/inode.h"

#define LOCKS_HEAD 8u

enum space { SPACE_POSIX, SPACE_FLOCK, SPACE_COUNT };

/* Arithmetic */

void hf_lockvec_fini(struct hf_lockvec *vec)
{
    free(vec->v);
    *vec = (struct hf_lockvec){0};
}

static bool same_owner(const struct hf_lock *a, const struct hf_lock *b)
{
    return a->session.v == b->session.v && a->owner == b->owner;
}

static bool overlap(const struct hf_lock *a, const struct hf_lock *b)
{
    return a->start <= b->end && b->start <= a->end;
}

static bool in_the_way(const struct hf_lock *at, const struct hf_lock *wanted)
{
    return wanted->type != F_UNLCK && overlap(at, wanted) && !same_owner(at, wanted) &&
           (at->type == F_WRLCK || wanted->type == F_WRLCK);
}

const struct hf_lock *hf_lockvec_conflict(const struct hf_lockvec *vec, const struct hf_lock *lock)
{
    for (uint32_t i = 0; i < vec->count; i++) {
        if (in_the_way(&vec->v[i], lock)) {
            return &vec->v[i];
        }
    }
    return NULL;
}

static int reserve(struct hf_lockvec *vec, uint32_t count)
{
    uint32_t cap = vec->cap ? vec->cap : 8;
    struct hf_lock *v;

    if (count <= vec->cap) {
        return 0;
    }
    while (cap < count) {
        cap *= 2;
    }
    v = realloc(vec->v, cap * sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    vec->v = v;
    vec->cap = cap;
    return 0;
}

static void remove_at(struct hf_lockvec *vec, uint32_t at)
{
    memmove(vec->v + at, vec->v + at + 1, (vec->count - at - 1) * sizeof(*vec->v));
    vec->count--;
}

static bool before(const struct hf_lock *a, const struct hf_lock *b)
{
    if (a->start != b->start) {
        return a->start < b->start;
    }
    return a->session.v != b->session.v ? a->session.v < b->session.v : a->owner < b->owner;
}

/* Room is reserved. */
static void insert(struct hf_lockvec *vec, const struct hf_lock *lock)
{
    uint32_t at = 0;

    while (at < vec->count && before(&vec->v[at], lock)) {
        at++;
    }
    memmove(vec->v + at + 1, vec->v + at, (vec->count - at) * sizeof(*vec->v));
    vec->v[at] = *lock;
    vec->count++;
}

/* Take the range from what its owner holds. At most one lock is split in two. */
static void carve(struct hf_lockvec *vec, const struct hf_lock *lock)
{
    for (uint32_t i = 0; i < vec->count;) {
        struct hf_lock old = vec->v[i], part;

        if (!same_owner(&old, lock) || !overlap(&old, lock)) {
            i++;
            continue;
        }
        remove_at(vec, i);
        if (old.start < lock->start) {
            part = old;
            part.end = lock->start - 1;
            insert(vec, &part);
            i++; /* it went in at or before i */
        }
        if (old.end > lock->end) {
            part = old;
            part.start = lock->end + 1;
            insert(vec, &part); /* behind; does not overlap */
        }
    }
}

/* Grow @lock by the owner's neighbours of the same type, which go. */
static void absorb(struct hf_lockvec *vec, struct hf_lock *lock)
{
    for (uint32_t i = 0; i < vec->count;) {
        const struct hf_lock *at = &vec->v[i];

        if (same_owner(at, lock) && at->type == lock->type &&
            ((lock->start > 0 && at->end == lock->start - 1) ||
             (lock->end < UINT64_MAX && at->start == lock->end + 1))) {
            lock->start = at->start < lock->start ? at->start : lock->start;
            lock->end = at->end > lock->end ? at->end : lock->end;
            remove_at(vec, i);
        } else {
            i++;
        }
    }
}

int hf_lockvec_set(struct hf_lockvec *vec, const struct hf_lock *lock)
{
    struct hf_lock wanted = *lock;

    if (reserve(vec, vec->count + 3)) {
        return -ENOMEM;
    }
    carve(vec, lock);
    if (wanted.type != F_UNLCK) {
        absorb(vec, &wanted);
        insert(vec, &wanted);
    }
    return 0;
}

/* Rows */

static void locks_key(struct hf_key *ret, struct hf_ino ino, enum space space)
{
    hf_key_u64(ret, HF_ROW_LOCKS, ino.v);
    ret->b[ret->len++] = (uint8_t)space;
}

int hf_lockvec_decode(struct hf_lockvec *vec, const void *bytes, size_t len)
{
    struct hf_reader r = hf_reader_init(bytes, len);
    uint32_t count;

    if (hf_read_u8(&r) != HF_ROW_VERSION) {
        return -EBADMSG;
    }
    (void)hf_read_bytes(&r, 3);
    count = hf_read_le32(&r);
    vec->count = 0;
    if (r.bad || count == 0 || count > HF_LOCKS_PER_INODE_MAX ||
        hf_reader_left(&r) != (size_t)count * HF_ROW_LOCK_BYTES) {
        return -EBADMSG;
    }
    if (reserve(vec, count)) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct hf_lock *lock = &vec->v[i];

        lock->session.v = hf_read_le64(&r);
        lock->owner = hf_read_le64(&r);
        lock->start = hf_read_le64(&r);
        lock->end = hf_read_le64(&r);
        lock->type = hf_read_le32(&r);
        lock->pid = hf_read_le32(&r);
        (void)hf_read_le64(&r);
        if (lock->start > lock->end || (lock->type != F_RDLCK && lock->type != F_WRLCK)) {
            return -EBADMSG;
        }
    }
    vec->count = count;
    return 0;
}

static int locks_load(struct hf_meta *meta, struct hf_ino ino, enum space space,
                      struct hf_lockvec *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    ret->count = 0;
    locks_key(&key, ino, space);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    err = hf_lockvec_decode(ret, value, len);
    return err ? hf_txn_fail(meta, err) : 0;
}

static int locks_store(struct hf_meta *meta, struct hf_ino ino, enum space space,
                       const struct hf_lockvec *vec)
{
    size_t len = LOCKS_HEAD + (size_t)vec->count * HF_ROW_LOCK_BYTES;
    struct hf_writer w;
    struct hf_key key;
    uint8_t *value;
    int err;

    locks_key(&key, ino, space);
    if (!vec->count) {
        return hf_txn_del(meta, &key);
    }
    err = hf_txn_scratch(meta, len, &value);
    if (err) {
        return err;
    }
    w = hf_writer_init(value, len);
    hf_write_le32(&w, HF_ROW_VERSION);
    hf_write_le32(&w, vec->count);
    for (uint32_t i = 0; i < vec->count; i++) {
        const struct hf_lock *lock = &vec->v[i];

        hf_write_le64(&w, lock->session.v);
        hf_write_le64(&w, lock->owner);
        hf_write_le64(&w, lock->start);
        hf_write_le64(&w, lock->end);
        hf_write_le32(&w, lock->type);
        hf_write_le32(&w, lock->pid);
        hf_write_le64(&w, 0);
    }
    HF_ASSERT(!w.bad && w.at == w.end);
    return hf_txn_put(meta, &key, value, len);
}

static bool session_has(const struct hf_lockvec *vec, struct hf_session_id session)
{
    for (uint32_t i = 0; i < vec->count; i++) {
        if (vec->v[i].session.v == session.v) {
            return true;
        }
    }
    return false;
}

/* The row (session, ino) exists while the session has any lock on the inode. */
static int session_index(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_lockvec vec = {0};
    struct hf_key key;
    bool has = false, there;
    int err = 0;

    for (int space = 0; space < SPACE_COUNT && !err && !has; space++) {
        err = locks_load(meta, ino, (enum space)space, &vec);
        has = !err && session_has(&vec, session);
    }
    hf_lockvec_fini(&vec);
    hf_key_u64_u64(&key, HF_ROW_SESSION_LOCKS, session.v, ino.v);
    if (!err) {
        err = hf_txn_exists(meta, &key, &there);
    }
    if (err || has == there) {
        return err;
    }
    return has ? hf_txn_put_mark(meta, &key) : hf_txn_del(meta, &key);
}

/* Operations */

static enum space space_of(uint32_t flags)
{
    return flags & HF_LOCK_FLOCK ? SPACE_FLOCK : SPACE_POSIX;
}

/* Errors: -EINVAL. */
static int lock_of(uint32_t type, uint32_t flags, uint64_t off, uint64_t len, struct hf_lock *ret)
{
    if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK) {
        return -EINVAL;
    }
    ret->type = type;
    ret->start = off;
    ret->end = len == 0 || off + (len - 1) < off ? UINT64_MAX : off + (len - 1);
    if (space_of(flags) == SPACE_FLOCK) {
        ret->start = 0;
        ret->end = UINT64_MAX;
    }
    return 0;
}

static void lock_report(const struct hf_lock *lock, struct hf_meta_reply *reply)
{
    reply->lock_type = lock->type;
    reply->lock_pid = lock->pid;
    reply->lock_start = lock->start;
    reply->lock_end = lock->end;
}

static int lock_apply(struct hf_meta *meta, struct hf_ino ino, enum space space,
                      const struct hf_lock *lock, struct hf_meta_reply *reply)
{
    struct hf_lockvec vec = {0};
    const struct hf_lock *other;
    int err = locks_load(meta, ino, space, &vec);

    other = err ? NULL : hf_lockvec_conflict(&vec, lock);
    if (other) {
        lock_report(other, reply);
        err = -EAGAIN;
    }
    if (!err && (vec.count || lock->type != F_UNLCK)) {
        err = hf_lockvec_set(&vec, lock);
        if (err) {
            (void)hf_txn_fail(meta, err);
        }
        if (!err && vec.count > HF_LOCKS_PER_INODE_MAX) {
            err = -ENOLCK;
        }
        if (!err) {
            err = locks_store(meta, ino, space, &vec);
        }
        if (!err) {
            err = session_index(meta, ino, lock->session);
        }
    }
    hf_lockvec_fini(&vec);
    return err;
}

int hf_meta_op_lock(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_lock lock = {.session = op->session, .owner = op->lock_owner, .pid = op->lock_pid};
    struct hf_inode *inode;
    int err = lock_of(op->lock_type, op->flags, op->offset, op->length, &lock);

    if (!err) {
        err = hf_inode_get_usable(meta, op->ino, &inode);
    }
    if (!err) {
        err = lock_apply(meta, op->ino, space_of(op->flags), &lock, reply);
    }
    if (!err && lock.type != F_UNLCK) {
        reply->attr = inode->attr; /* what its owner may read from now on */
    }
    return err;
}

int hf_meta_op_lock_release(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply)
{
    const struct hf_lock lock = {
        .session = op->session,
        .owner = op->lock_owner,
        .end = UINT64_MAX,
        .type = F_UNLCK,
    };

    return lock_apply(meta, op->ino, space_of(op->flags), &lock, reply);
}

int hf_lock_in_the_way(struct hf_meta *meta, const struct hf_meta_read *rd, struct hf_lockvec *ret)
{
    struct hf_lock lock = {.session = rd->session, .owner = rd->lock_owner};
    struct hf_inode inode;
    uint32_t left = 0;
    int err = lock_of(rd->lock_type, rd->flags, rd->offset, rd->length, &lock);

    err = err ? err : hf_inode_look(meta, rd->ino, &inode);
    err = err ? err : locks_load(meta, rd->ino, space_of(rd->flags), ret);
    for (uint32_t i = 0; !err && i < ret->count; i++) {
        if (in_the_way(&ret->v[i], &lock)) {
            ret->v[left++] = ret->v[i];
        }
    }
    ret->count = left;
    return err;
}

void hf_meta_rd_getlk(struct hf_meta *meta, const struct hf_meta_read *rd,
                      struct hf_meta_reply *reply)
{
    struct hf_lockvec others = {0};

    reply->err = hf_lock_in_the_way(meta, rd, &others);
    reply->lock_type = F_UNLCK;
    if (others.count) {
        lock_report(&others.v[0], reply);
    }
    hf_lockvec_fini(&others);
}

/* Endings */

int hf_lock_forget_inode(struct hf_meta *meta, struct hf_ino ino)
{
    struct hf_lockvec vec = {0};
    int err = 0;

    for (int space = 0; space < SPACE_COUNT && !err; space++) {
        struct hf_key key;

        err = locks_load(meta, ino, (enum space)space, &vec);
        if (err || !vec.count) {
            continue;
        }
        for (uint32_t i = 0; i < vec.count && !err; i++) {
            hf_key_u64_u64(&key, HF_ROW_SESSION_LOCKS, vec.v[i].session.v, ino.v);
            err = hf_txn_del(meta, &key);
        }
        if (!err) {
            locks_key(&key, ino, (enum space)space);
            err = hf_txn_del(meta, &key);
        }
    }
    hf_lockvec_fini(&vec);
    return err;
}

static int forget_session_on(struct hf_meta *meta, struct hf_ino ino, struct hf_session_id session)
{
    struct hf_lockvec vec = {0};
    int err = 0;

    for (int space = 0; space < (HF_BUG(evict_keeps_flock) ? SPACE_FLOCK : SPACE_COUNT) && !err;
         space++) {
        uint32_t left = 0;

        err = locks_load(meta, ino, (enum space)space, &vec);
        if (err || !session_has(&vec, session)) {
            continue;
        }
        for (uint32_t i = 0; i < vec.count; i++) {
            if (vec.v[i].session.v != session.v) {
                vec.v[left++] = vec.v[i];
            }
        }
        vec.count = left;
        err = locks_store(meta, ino, (enum space)space, &vec);
    }
    hf_lockvec_fini(&vec);
    return err ? err : session_index(meta, ino, session);
}

int hf_lock_forget_session(struct hf_meta *meta, struct hf_session_id session)
{
    struct hf_table_cursor cursor;
    struct hf_key from;
    int err;

    hf_key_u64(&from, HF_ROW_SESSION_LOCKS, session.v);
    while ((err = hf_txn_seek(meta, &from, 9, &cursor)) == 0) {
        struct hf_ino ino;

        if (cursor.key_len != 17) {
            return hf_txn_fail(meta, -EBADMSG);
        }
        ino.v = hf_get_be64((const uint8_t *)cursor.key + 9);
        hf_key_after(&from, cursor.key, cursor.key_len);
        err = forget_session_on(meta, ino, session);
        if (err) {
            return err;
        }
    }
    return err == -ENOENT ? 0 : err;
}
