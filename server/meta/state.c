/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/meta/alloc.h"
#include "server/meta/dir.h"
#include "server/meta/inode.h"
#include "server/meta/lock.h"
#include "server/meta/map_ops.h"
#include "server/meta/names.h"
#include "server/meta/objects.h"
#include "server/meta/orphan.h"
#include "server/meta/session.h"
#include "server/meta/write.h"
#include "server/meta/xattr.h"

/* A client's clock may be ahead of the leader's by this much, no more. */
#define CLIENT_AHEAD_NS_MAX (10 * HF_NS_PER_SEC)

/* The mark: version, counters, length of the members, members. An older one has a counter less. */

#define MARK_FIELDS       15u
#define MARK_FIELDS_BYTES (MARK_FIELDS * sizeof(uint64_t))
#define MARK_OLD_BYTES    (HF_META_MARK_BYTES - sizeof(uint64_t))

static_assert(HF_META_MARK_BYTES == 2 * sizeof(uint64_t) + MARK_FIELDS_BYTES + HF_MLOG_MEMBERS_MAX,
              "the mark is full");

size_t hf_meta_mark(const struct hf_meta *meta, uint8_t ret[HF_TABLE_MARK_MAX])
{
    const struct hf_meta_usage *u = &meta->c.usage;
    const uint64_t fields[MARK_FIELDS] = {
        meta->c.applied,  meta->c.term, meta->c.next_session, meta->c.next_ino, u->inodes,
        u->logical_bytes, u->objects,   u->object_bytes,      u->inline_bytes,  u->degraded,
        u->dead,          u->orphans,   u->purging,           u->sessions,      u->reserved_bytes,
    };
    struct hf_writer w = hf_writer_init(ret, HF_META_MARK_BYTES);

    memset(ret, 0, HF_META_MARK_BYTES);
    hf_write_le64(&w, HF_ROW_VERSION);
    for (size_t i = 0; i < HF_ARRAY_LEN(fields); i++) {
        hf_write_le64(&w, fields[i]);
    }
    hf_write_le64(&w, meta->members_len);
    hf_write_bytes(&w, meta->members, meta->members_len);
    HF_ASSERT(!w.bad);
    return HF_META_MARK_BYTES;
}

static size_t mark_fields(size_t len)
{
    return len == MARK_OLD_BYTES ? MARK_FIELDS - 1 : MARK_FIELDS;
}

int hf_meta_mark_position(const void *mark, size_t len, struct hf_mlog_position *ret)
{
    struct hf_reader r = hf_reader_init(mark, len);
    const uint8_t *members;
    uint64_t version;

    *ret = (struct hf_mlog_position){0};
    if (len == 0) {
        return 0;
    }
    version = hf_read_le64(&r);
    ret->index = hf_read_le64(&r);
    ret->term = hf_read_le64(&r);
    (void)hf_read_bytes(&r, mark_fields(len) * sizeof(uint64_t) - 2 * sizeof(uint64_t));
    ret->members_len = hf_read_le64(&r);
    if (r.bad || (len != HF_META_MARK_BYTES && len != MARK_OLD_BYTES) ||
        version != HF_ROW_VERSION || ret->members_len > sizeof(ret->members)) {
        return -EBADMSG;
    }
    members = hf_read_bytes(&r, ret->members_len);
    if (r.bad) {
        return -EBADMSG;
    }
    memcpy(ret->members, members, ret->members_len);
    return 0;
}

static int mark_read(struct hf_meta *meta)
{
    struct hf_meta_usage *u = &meta->c.usage;
    uint64_t *const fields[MARK_FIELDS] = {
        &meta->c.applied,  &meta->c.term,    &meta->c.next_session,
        &meta->c.next_ino, &u->inodes,       &u->logical_bytes,
        &u->objects,       &u->object_bytes, &u->inline_bytes,
        &u->degraded,      &u->dead,         &u->orphans,
        &u->purging,       &u->sessions,     &u->reserved_bytes,
    };
    uint8_t mark[HF_TABLE_MARK_MAX];
    struct hf_mlog_position position;
    struct hf_table_cursor cursor;
    struct hf_reader r;
    size_t len;
    int err = hf_table_mark(meta->table, mark, &len);

    if (err) {
        return err;
    }
    if (len == 0) { /* nothing was ever applied: there can be no rows */
        meta->c = (struct hf_meta_counters){.next_session = 1, .next_ino = HF_BITMAP_BITS};
        err = hf_table_seek(meta->table, NULL, 0, &cursor);
        return err == -ENOENT ? 0 : err ? err : -EBADMSG;
    }
    err = hf_meta_mark_position(mark, len, &position);
    if (err) {
        return err;
    }
    memcpy(meta->members, position.members, position.members_len);
    meta->members_len = position.members_len;
    r = hf_reader_init(mark, len);
    (void)hf_read_le64(&r);
    for (size_t i = 0; i < mark_fields(len); i++) {
        *fields[i] = hf_read_le64(&r);
    }
    return r.bad ? -EBADMSG : 0;
}

/* Lifecycle */

int hf_meta_open(struct hf_table *table, struct hf_meta **ret)
{
    struct hf_meta *meta = calloc(1, sizeof(*meta));
    int err;

    if (!meta) {
        return -ENOMEM;
    }
    meta->table = table;
    meta->name_hash_mask = UINT64_MAX;
    err = mark_read(meta);
    if (!err) {
        err = hf_map_ops_load(meta);
    }
    if (!err) {
        err = hf_session_load_all(meta);
    }
    if (err) {
        hf_meta_close(meta);
        return err;
    }
    *ret = meta;
    return 0;
}

void hf_meta_close(struct hf_meta *meta)
{
    if (!meta) {
        return;
    }
    hf_txn_fini(meta);
    hf_map_fini(&meta->map);
    free(meta->streams);
    free(meta);
}

/* Apply */

/* What an operation does, and whether it belongs to a session's stream. */
enum stream_rule { IN_STREAM, NO_STREAM, EITHER };

struct op_kind {
    int (*run)(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply);
    enum stream_rule rule;
};

static int op_refused(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply)
{
    (void)meta;
    (void)op;
    (void)reply;
    return -EROFS;
}

static const struct op_kind op_kinds[] = {
    [HF_OP_SESSION_OPEN] = {hf_meta_op_session_open, NO_STREAM},
    [HF_OP_SESSION_CLOSE] = {hf_meta_op_session_end, EITHER},
    [HF_OP_SESSION_EVICT] = {hf_meta_op_session_end, NO_STREAM},
    [HF_OP_INO_RANGE] = {hf_meta_op_ino_range, IN_STREAM},
    [HF_OP_CREATE] = {hf_meta_op_create, IN_STREAM},
    [HF_OP_LINK] = {hf_meta_op_link, IN_STREAM},
    [HF_OP_UNLINK] = {hf_meta_op_unlink, IN_STREAM},
    [HF_OP_RMDIR] = {hf_meta_op_rmdir, IN_STREAM},
    [HF_OP_RENAME] = {hf_meta_op_rename, IN_STREAM},
    [HF_OP_TMPFILE] = {hf_meta_op_tmpfile, IN_STREAM},
    [HF_OP_SETATTR] = {hf_meta_op_setattr, IN_STREAM},
    [HF_OP_SETXATTR] = {hf_meta_op_setxattr, IN_STREAM},
    [HF_OP_REMOVEXATTR] = {hf_meta_op_removexattr, IN_STREAM},
    [HF_OP_WRITE] = {hf_meta_op_write, IN_STREAM},
    [HF_OP_RELOCATE] = {hf_meta_op_relocate, IN_STREAM},
    [HF_OP_PUNCH] = {hf_meta_op_punch, IN_STREAM},
    [HF_OP_CLONE] = {hf_meta_op_clone, IN_STREAM},
    [HF_OP_ALLOCATE] = {hf_meta_op_allocate, IN_STREAM},
    [HF_OP_LOCK] = {hf_meta_op_lock, IN_STREAM},
    [HF_OP_LOCK_RELEASE] = {hf_meta_op_lock_release, IN_STREAM},
    [HF_OP_ORPHAN_RELEASE] = {hf_meta_op_orphan_release, EITHER},
    [HF_OP_PURGE] = {hf_meta_op_purge, NO_STREAM},
    [HF_OP_NODE_STATE] = {hf_meta_op_node_state, NO_STREAM},
    [HF_OP_NODE_ADD] = {hf_meta_op_node_add, NO_STREAM},
    [HF_OP_DEGRADED_CLEAR] = {hf_meta_op_degraded_clear, NO_STREAM},
    [HF_OP_DEGRADED_ADD] = {hf_meta_op_degraded_add, NO_STREAM},
    [HF_OP_OBJECTS_GONE] = {hf_meta_op_objects_gone, NO_STREAM},
    [HF_OP_FORMAT] = {hf_meta_op_format, NO_STREAM},
    [HF_OP_GROUP_SET] = {hf_meta_op_group_set, NO_STREAM},
    [HF_OP_REFUSED] = {op_refused, IN_STREAM},
};

/* One operation as a transaction. reply->err is its outcome; meta->failed says it went wrong. */
static void run(struct hf_meta *meta, const struct op_kind *kind, const struct hf_meta_op *op,
                struct hf_meta_reply *reply)
{
    hf_txn_begin(meta);
    reply->err = kind->run(meta, op, reply);
    if (meta->failed || reply->err) {
        (void)hf_txn_rollback(meta); /* a failure sticks in meta->failed */
        return;
    }
    if (!hf_txn_commit(meta) && meta->map_changed) {
        (void)hf_map_ops_load(meta);
    }
}

/* An operation of a session's stream: once, with its own answer. */
static void run_in_stream(struct hf_meta *meta, const struct op_kind *kind,
                          const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_stream_state *state = hf_session_stream(meta, op->session);

    if (!state) {
        reply->err = -HF_EFENCED;
        return;
    }
    if (op->stream <= state->last) {
        int err = hf_session_result(meta, state, op->stream, reply);

        reply->err = err ? err : reply->err;
        return;
    }
    if (op->stream > state->last + 1) {
        reply->err = -HF_EGAP;
        reply->last_stream = state->last;
        return;
    }
    run(meta, kind, op, reply);
    state = meta->failed ? NULL : hf_session_stream(meta, op->session);
    if (state) { /* not when it closed itself */
        (void)hf_session_store_result(meta, state, op->acked, reply);
    }
}

static void dispatch(struct hf_meta *meta, const struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    const struct op_kind *kind = NULL;

    if ((size_t)op->op < HF_ARRAY_LEN(op_kinds) && op_kinds[op->op].run) {
        kind = &op_kinds[op->op];
    }
    if (!kind) {
        reply->err = -ENOSYS;
    } else if (!meta->format.group_count && op->op != HF_OP_FORMAT) {
        reply->err = -HF_ENOTREADY;
    } else if ((kind->rule == IN_STREAM && !op->stream) ||
               (kind->rule == NO_STREAM && op->stream)) {
        reply->err = -EINVAL;
    } else if (op->stream) {
        run_in_stream(meta, kind, op, reply);
    } else {
        run(meta, kind, op, reply);
    }
}

int hf_meta_apply(struct hf_meta *meta, const struct hf_meta_entry *entry,
                  struct hf_meta_reply *reply)
{
    const struct hf_meta_op *op = entry->op;

    *reply = (struct hf_meta_reply){0};
    if (meta->failed) {
        return meta->failed;
    }
    HF_ASSERT(entry->index == meta->c.applied + 1);
    meta->entry = entry;
    meta->latest_ns = entry->time_ns + CLIENT_AHEAD_NS_MAX;
    meta->now_ns = op->time_ns ? op->time_ns : entry->time_ns;
    meta->now_ns = meta->now_ns < meta->latest_ns ? meta->now_ns : meta->latest_ns;
    dispatch(meta, op, reply);
    meta->entry = NULL;
    if (meta->failed) {
        return meta->failed;
    }
    meta->c.applied = entry->index;
    meta->c.term = entry->term;
    return 0;
}

void hf_meta_skip(struct hf_meta *meta, uint64_t index, uint64_t term)
{
    HF_ASSERT(index == meta->c.applied + 1);
    meta->c.applied = index;
    meta->c.term = term;
}

void hf_meta_set_members(struct hf_meta *meta, const void *members, size_t len)
{
    HF_ASSERT(len <= sizeof(meta->members));
    memcpy(meta->members, members, len);
    meta->members_len = len;
}

uint64_t hf_meta_applied(const struct hf_meta *meta)
{
    return meta->c.applied;
}

int hf_meta_failed(const struct hf_meta *meta)
{
    return meta->failed;
}

const struct hf_map *hf_meta_map(const struct hf_meta *meta)
{
    return &meta->map;
}

void hf_meta_usage(const struct hf_meta *meta, struct hf_meta_usage *ret)
{
    *ret = meta->c.usage;
}

/* Looks */

static void rd_getattr(struct hf_meta *meta, const struct hf_meta_read *rd,
                       struct hf_meta_reply *reply)
{
    struct hf_inode inode;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (!reply->err) {
        reply->attr = inode.attr;
    }
}

static void rd_stream(struct hf_meta *meta, const struct hf_meta_read *rd,
                      struct hf_meta_reply *reply)
{
    const struct hf_stream_state *state = hf_session_stream(meta, rd->session);

    if (state) {
        reply->last_stream = state->last;
    } else {
        reply->err = -HF_EFENCED;
    }
}

void hf_meta_read(struct hf_meta *meta, const struct hf_meta_read *rd, struct hf_meta_reply *reply,
                  uint8_t *buf, size_t buf_bytes)
{
    *reply = (struct hf_meta_reply){.applied_index = meta->c.applied};
    if (meta->failed || !meta->format.group_count) {
        reply->err = meta->failed ? meta->failed : -HF_ENOTREADY;
        return;
    }
    switch (rd->op) {
    case HF_RD_LOOKUP:
        hf_meta_rd_lookup(meta, rd, reply);
        break;
    case HF_RD_GETATTR:
        rd_getattr(meta, rd, reply);
        break;
    case HF_RD_READDIR:
        hf_meta_rd_readdir(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_READLINK:
        hf_meta_rd_readlink(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_GETXATTR:
        hf_meta_rd_getxattr(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_LISTXATTR:
        hf_meta_rd_listxattr(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_EXTENTS:
        hf_meta_rd_extents(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_STATFS:
        reply->inodes = meta->c.usage.inodes;
        break;
    case HF_RD_GETLK:
        hf_meta_rd_getlk(meta, rd, reply);
        break;
    case HF_RD_STREAM:
        rd_stream(meta, rd, reply);
        break;
    case HF_RD_PATH:
        hf_meta_rd_path(meta, rd, reply, buf, buf_bytes);
        break;
    case HF_RD_RESERVED:
        hf_meta_rd_reserved(meta, rd, reply);
        break;
    case HF_RD_NONE:
    case HF_RD_LOCK_WAIT:
    case HF_RD_OPEN:
    case HF_RD_RELEASE:
    case HF_RD_RENEW:
        reply->err = -ENOSYS; /* the leader's own */
        break;
    }
    if (reply->err && reply->err != -HF_ENOTMODIFIED && reply->err != -ENODATA) {
        *reply = (struct hf_meta_reply){.err = reply->err, .applied_index = meta->c.applied};
    }
}
