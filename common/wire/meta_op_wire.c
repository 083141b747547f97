/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/meta_op.h"

#include <errno.h>
#include <string.h>

#include "common/wire/arena_wire.h"
#include "common/wire/store_msg.h"
#include "proto/holdfast.pb-c.h"

/* A mutation that names its holders must fit one message; more sessions than this never hold one
 * file open without the leader splitting the list. */
#define HOLDERS_MAX 4096u
#define INOS_MAX    4096u /* open files in one RENEW */
static_assert(HF_RENEW_CLAIMS_MAX <= INOS_MAX, "a part of the claims fits one RENEW");

static bool op_known(uint32_t op)
{
    switch ((enum hf_op)op) {
    case HF_OP_SESSION_OPEN:
    case HF_OP_SESSION_CLOSE:
    case HF_OP_SESSION_EVICT:
    case HF_OP_INO_RANGE:
    case HF_OP_CREATE:
    case HF_OP_LINK:
    case HF_OP_UNLINK:
    case HF_OP_RMDIR:
    case HF_OP_RENAME:
    case HF_OP_TMPFILE:
    case HF_OP_SETATTR:
    case HF_OP_SETXATTR:
    case HF_OP_REMOVEXATTR:
    case HF_OP_WRITE:
    case HF_OP_RELOCATE:
    case HF_OP_PUNCH:
    case HF_OP_CLONE:
    case HF_OP_ALLOCATE:
    case HF_OP_LOCK:
    case HF_OP_LOCK_RELEASE:
    case HF_OP_ORPHAN_RELEASE:
    case HF_OP_PURGE:
    case HF_OP_NODE_STATE:
    case HF_OP_NODE_ADD:
    case HF_OP_DEGRADED_CLEAR:
    case HF_OP_DEGRADED_ADD:
    case HF_OP_OBJECTS_GONE:
    case HF_OP_FORMAT:
    case HF_OP_GROUP_SET:
    case HF_OP_REFUSED:
        return true;
    case HF_OP_NONE:
        break;
    }
    return false;
}

static bool rd_known(uint32_t op)
{
    return op > HF_RD_NONE && op <= HF_RD_RESERVED;
}

/* ---------------------------------------------------------------------------------- mutations */

/* Columns of a mutation while it is encoded. Large: one on the stack of a leaf, never zeroed. */
struct op_columns {
    uint64_t object_digests[HF_COMMIT_OBJECTS_MAX];
    uint64_t object_holders[HF_COMMIT_OBJECTS_MAX];
    uint64_t object_epochs[HF_COMMIT_OBJECTS_MAX];
    uint32_t object_lengths[HF_COMMIT_OBJECTS_MAX];
    uint8_t object_ids[HF_COMMIT_OBJECTS_MAX][HF_OID_BYTES];
    ProtobufCBinaryData object_column[HF_COMMIT_OBJECTS_MAX];
    uint64_t extent_inos[HF_COMMIT_EXTENTS_MAX];
    uint64_t extent_offsets[HF_COMMIT_EXTENTS_MAX];
    uint32_t extent_lengths[HF_COMMIT_EXTENTS_MAX];
    uint32_t extent_objects[HF_COMMIT_EXTENTS_MAX];
    uint32_t extent_positions[HF_COMMIT_EXTENTS_MAX];
    uint64_t inode_inos[HF_COMMIT_INODES_MAX];
    uint64_t inode_sizes[HF_COMMIT_INODES_MAX];
    uint64_t inode_mtimes[HF_COMMIT_INODES_MAX];
    uint64_t inode_ctimes[HF_COMMIT_INODES_MAX];
    uint64_t extent_digests[HF_COMMIT_EXTENTS_MAX];
};

static int encode_with_columns(const struct hf_meta_op *op, Hf__Wire__MetaOp *m,
                               uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    struct op_columns c;

    for (uint32_t i = 0; i < op->object_count; i++) {
        const struct hf_wr_object *o = &op->objects[i];

        hf_oid_encode(&o->oid, c.object_ids[i]);
        c.object_column[i] = (ProtobufCBinaryData){.len = HF_OID_BYTES, .data = c.object_ids[i]};
        c.object_lengths[i] = o->len_bytes;
        c.object_digests[i] = o->digest;
        c.object_holders[i] = o->holders;
        c.object_epochs[i] = o->epoch.v;
    }
    m->n_object_ids = m->n_object_lengths = m->n_object_digests = m->n_object_holders =
        m->n_object_epochs = op->object_count;
    m->object_ids = c.object_column;
    m->object_lengths = c.object_lengths;
    m->object_digests = c.object_digests;
    m->object_holders = c.object_holders;
    m->object_epochs = c.object_epochs;
    for (uint32_t i = 0; i < op->extent_count; i++) {
        const struct hf_wr_extent *e = &op->extents[i];

        c.extent_inos[i] = e->ino.v;
        c.extent_offsets[i] = e->off_bytes;
        c.extent_lengths[i] = e->len_bytes;
        c.extent_objects[i] = e->object;
        c.extent_positions[i] = e->pos_bytes;
        c.extent_digests[i] = e->digest;
    }
    m->n_extent_inos = m->n_extent_offsets = m->n_extent_lengths = m->n_extent_objects =
        m->n_extent_positions = op->extent_count;
    m->extent_inos = c.extent_inos;
    m->extent_offsets = c.extent_offsets;
    m->extent_lengths = c.extent_lengths;
    m->extent_objects = c.extent_objects;
    m->extent_positions = c.extent_positions;
    m->n_extent_digests = op->op == HF_OP_RELOCATE ? op->extent_count : 0;
    m->extent_digests = c.extent_digests;
    for (uint32_t i = 0; i < op->inode_count; i++) {
        c.inode_inos[i] = op->inodes[i].ino.v;
        c.inode_sizes[i] = op->inodes[i].size_min_bytes;
        c.inode_mtimes[i] = op->inodes[i].mtime_ns;
        c.inode_ctimes[i] = op->inodes[i].ctime_ns;
        m->n_inode_ctimes = op->inodes[i].ctime_ns ? op->inode_count : m->n_inode_ctimes;
    }
    m->n_inode_inos = m->n_inode_sizes = m->n_inode_mtimes = op->inode_count;
    m->inode_inos = c.inode_inos;
    m->inode_sizes = c.inode_sizes;
    m->inode_mtimes = c.inode_mtimes;
    m->inode_ctimes = c.inode_ctimes;
    return wire_pack(&m->base, ret, ret_len);
}

static int encode_with_oids(const struct hf_meta_op *op, Hf__Wire__MetaOp *m,
                            uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    struct wire_oids oids;

    for (uint32_t i = 0; i < op->oid_count; i++) {
        wire_put_oids(&oids, i, &op->oids[i]);
    }
    m->n_oids = op->oid_count;
    m->oids = oids.column;
    return op->object_count || op->extent_count || op->inode_count
               ? encode_with_columns(op, m, ret, ret_len)
               : wire_pack(&m->base, ret, ret_len);
}

int hf_meta_op_encode(const struct hf_meta_op *op, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__MetaOp m;

    /* What the decoder would refuse never leaves. */
    if (op->object_count > HF_COMMIT_OBJECTS_MAX || op->extent_count > HF_COMMIT_EXTENTS_MAX ||
        op->inode_count > HF_COMMIT_INODES_MAX || op->oid_count > HF_MSG_OIDS_MAX ||
        op->holder_count > HOLDERS_MAX || op->name_len > HF_NAME_MAX ||
        op->name2_len > HF_NAME_MAX || op->target_len > HF_SYMLINK_MAX ||
        (op->text && strlen(op->text) > HF_NAME_MAX)) {
        return -EMSGSIZE;
    }
    hf__wire__meta_op__init(&m);
    WIRE_SET(m, op, (uint32_t)op->op);
    WIRE_SET(m, session, op->session.v);
    WIRE_SET(m, stream, op->stream);
    WIRE_SET(m, acked, op->acked);
    WIRE_SET(m, time, op->time_ns);
    WIRE_SET(m, ino, op->ino.v);
    WIRE_SET(m, ino2, op->ino2.v);
    WIRE_SET(m, parent, op->parent.v);
    WIRE_SET(m, parent2, op->parent2.v);
    WIRE_SET_BYTES(m, name, op->name, op->name_len);
    WIRE_SET_BYTES(m, name2, op->name2, op->name2_len);
    WIRE_SET_BYTES(m, target, op->target, op->target_len);
    WIRE_SET(m, mode, op->mode);
    WIRE_SET(m, umask, op->umask);
    WIRE_SET(m, uid, op->uid);
    WIRE_SET(m, gid, op->gid);
    WIRE_SET(m, flags, op->flags);
    WIRE_SET(m, mask, op->mask);
    WIRE_SET(m, rdev, op->rdev);
    WIRE_SET(m, size, op->size);
    WIRE_SET(m, atime, op->atime_ns);
    WIRE_SET(m, mtime, op->mtime_ns);
    WIRE_SET(m, ctime, op->ctime_ns);
    WIRE_SET(m, offset, op->offset);
    WIRE_SET(m, length, op->length);
    WIRE_SET(m, offset2, op->offset2);
    WIRE_SET(m, lock_type, op->lock_type);
    WIRE_SET(m, lock_pid, op->lock_pid);
    WIRE_SET(m, lock_owner, op->lock_owner);
    WIRE_SET(m, node, op->node.v);
    WIRE_SET(m, node_state, (uint32_t)op->node_state);
    if (!hf_uuid_is_zero(&op->uuid)) {
        WIRE_SET_BYTES(m, uuid, op->uuid.b, sizeof(op->uuid.b));
    }
    m.text = (char *)op->text;
    WIRE_SET(m, count, op->count);
    WIRE_SET(m, ttl, op->ttl_ns);
    m.n_holders = op->holder_count;
    m.holders = op->holders;
    if (op->oid_count) {
        return encode_with_oids(op, &m, ret, ret_len);
    }
    if (op->object_count || op->extent_count || op->inode_count) {
        return encode_with_columns(op, &m, ret, ret_len);
    }
    return wire_pack(&m.base, ret, ret_len);
}

static int decode_objects(struct arena *a, const Hf__Wire__MetaOp *m, struct hf_meta_op *op)
{
    size_t n = m->n_object_ids;

    if (n > HF_COMMIT_OBJECTS_MAX || m->n_object_lengths != n || m->n_object_digests != n ||
        m->n_object_holders != n || m->n_object_epochs != n) {
        return -EBADMSG;
    }
    if (n == 0) {
        return 0;
    }
    op->objects = arena_array(a, n, sizeof(*op->objects));
    if (!op->objects) {
        return arena_error(a);
    }
    for (size_t i = 0; i < n; i++) {
        struct hf_wr_object *o = &op->objects[i];

        if (!wire_get_oid(&m->object_ids[i], &o->oid) || m->object_lengths[i] == 0 ||
            m->object_lengths[i] > HF_OBJECT_BYTES_MAX) {
            return -EBADMSG;
        }
        o->len_bytes = m->object_lengths[i];
        o->digest = m->object_digests[i];
        o->holders = m->object_holders[i];
        o->epoch.v = m->object_epochs[i];
    }
    op->object_count = (uint32_t)n;
    return 0;
}

/* Within its object, or within the inline bytes. */
static bool extent_valid(const struct hf_meta_op *op, const struct hf_wr_extent *e)
{
    uint64_t limit;

    if (e->object == HF_EXTENT_INLINE) {
        limit = op->bulk_len;
    } else if (e->object < op->object_count) {
        limit = op->objects[e->object].len_bytes;
    } else {
        return false;
    }
    return e->len_bytes > 0 && (uint64_t)e->pos_bytes + e->len_bytes <= limit &&
           e->off_bytes <= UINT64_MAX - e->len_bytes;
}

static int decode_extents(struct arena *a, const Hf__Wire__MetaOp *m, struct hf_meta_op *op)
{
    size_t n = m->n_extent_inos;

    if (n > HF_COMMIT_EXTENTS_MAX || m->n_extent_offsets != n || m->n_extent_lengths != n ||
        m->n_extent_objects != n || m->n_extent_positions != n ||
        m->n_extent_digests != (m->op == HF_OP_RELOCATE ? n : 0)) {
        return -EBADMSG;
    }
    if (n == 0) {
        return 0;
    }
    op->extents = arena_array(a, n, sizeof(*op->extents));
    if (!op->extents) {
        return arena_error(a);
    }
    for (size_t i = 0; i < n; i++) {
        struct hf_wr_extent *e = &op->extents[i];

        e->ino.v = m->extent_inos[i];
        e->off_bytes = m->extent_offsets[i];
        e->len_bytes = m->extent_lengths[i];
        e->object = m->extent_objects[i];
        e->pos_bytes = m->extent_positions[i];
        e->digest = m->n_extent_digests ? m->extent_digests[i] : 0;
        if (!extent_valid(op, e)) {
            return -EBADMSG;
        }
    }
    op->extent_count = (uint32_t)n;
    return 0;
}

static int decode_inodes(struct arena *a, const Hf__Wire__MetaOp *m, struct hf_meta_op *op)
{
    size_t n = m->n_inode_inos;

    if (n > HF_COMMIT_INODES_MAX || m->n_inode_sizes != n || m->n_inode_mtimes != n ||
        (m->n_inode_ctimes && m->n_inode_ctimes != n)) {
        return -EBADMSG;
    }
    if (n == 0) {
        return 0;
    }
    op->inodes = arena_array(a, n, sizeof(*op->inodes));
    if (!op->inodes) {
        return arena_error(a);
    }
    for (size_t i = 0; i < n; i++) {
        op->inodes[i] = (struct hf_wr_inode){
            .ino.v = m->inode_inos[i],
            .size_min_bytes = m->inode_sizes[i],
            .mtime_ns = m->inode_mtimes[i],
            .ctime_ns = m->n_inode_ctimes ? m->inode_ctimes[i] : 0,
        };
    }
    op->inode_count = (uint32_t)n;
    return 0;
}

static void decode_scalars(const Hf__Wire__MetaOp *m, struct hf_meta_op *op)
{
    op->op = (enum hf_op)m->op;
    op->session.v = m->session;
    op->stream = m->stream;
    op->acked = m->acked;
    op->time_ns = m->time;
    op->ino.v = m->ino;
    op->ino2.v = m->ino2;
    op->parent.v = m->parent;
    op->parent2.v = m->parent2;
    op->mode = m->mode;
    op->umask = m->umask;
    op->uid = m->uid;
    op->gid = m->gid;
    op->flags = m->flags;
    op->mask = m->mask;
    op->rdev = m->rdev;
    op->size = m->size;
    op->atime_ns = m->atime;
    op->mtime_ns = m->mtime;
    op->ctime_ns = m->ctime;
    op->offset = m->offset;
    op->length = m->length;
    op->offset2 = m->offset2;
    op->lock_type = m->lock_type;
    op->lock_pid = m->lock_pid;
    op->lock_owner = m->lock_owner;
    op->node.v = (uint16_t)m->node;
    op->node_state = (enum hf_node_state)m->node_state;
    op->text = m->text;
    op->count = m->count;
    op->ttl_ns = m->ttl;
}

static int decode_op(struct arena *a, const Hf__Wire__MetaOp *m, struct hf_meta_op *op)
{
    int err;

    if (!op_known(m->op) || m->node > HF_NODES_MAX || m->node_state >= HF_NODE_STATE_COUNT ||
        !wire_get_uuid(m->has_uuid, &m->uuid, &op->uuid) ||
        (m->text && strlen(m->text) > HF_NAME_MAX) || m->n_holders > HOLDERS_MAX ||
        !wire_get_name(m->has_name, &m->name, HF_NAME_MAX, &op->name, &op->name_len) ||
        !wire_get_name(m->has_name2, &m->name2, HF_NAME_MAX, &op->name2, &op->name2_len) ||
        !wire_get_name(m->has_target, &m->target, HF_SYMLINK_MAX, &op->target, &op->target_len)) {
        return -EBADMSG;
    }
    decode_scalars(m, op);
    op->holder_count = (uint32_t)m->n_holders;
    op->holders = m->n_holders ? m->holders : NULL;
    err = decode_objects(a, m, op);
    if (err == 0) {
        err = decode_extents(a, m, op);
    }
    if (err == 0) {
        err = decode_inodes(a, m, op);
    }
    if (err == 0 && m->n_oids) {
        err = wire_get_oids(a, m->oids, m->n_oids, HF_MSG_OIDS_MAX, &op->oids);
        op->oid_count = (uint32_t)m->n_oids;
    }
    return err;
}

int hf_meta_op_decode(const void *msg, size_t msg_len, const void *bulk, size_t bulk_len,
                      struct hf_meta_op *ret, void **ret_mem)
{
    struct hf_meta_op op = {.bulk = bulk, .bulk_len = bulk_len};
    struct arena *a;
    const void *m;
    int err;

    err = wire_unpack(&hf__wire__meta_op__descriptor, msg, msg_len, &a, &m);
    if (err) {
        return err;
    }
    err = decode_op(a, (const Hf__Wire__MetaOp *)m, &op);
    if (err) {
        arena_free(a);
        return err;
    }
    *ret = op;
    *ret_mem = a;
    return 0;
}

void hf_meta_op_release(void *mem)
{
    arena_free((struct arena *)mem);
}

/* -------------------------------------------------------------------------------------- looks */

int hf_meta_read_encode(const struct hf_meta_read *rd, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__MetaRead m;

    if (rd->name_len > HF_NAME_MAX || rd->ino_count > INOS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__meta_read__init(&m);
    WIRE_SET(m, op, (uint32_t)rd->op);
    WIRE_SET(m, session, rd->session.v);
    WIRE_SET(m, ino, rd->ino.v);
    WIRE_SET_BYTES(m, name, rd->name, rd->name_len);
    WIRE_SET(m, cookie, rd->cookie);
    WIRE_SET(m, offset, rd->offset);
    WIRE_SET(m, length, rd->length);
    WIRE_SET(m, if_version, rd->if_version);
    WIRE_SET(m, max, rd->max);
    WIRE_SET(m, lock_type, rd->lock_type);
    WIRE_SET(m, lock_owner, rd->lock_owner);
    WIRE_SET(m, flags, rd->flags);
    WIRE_SET(m, want_bytes, rd->want_bytes);
    WIRE_SET(m, acked, rd->acked);
    WIRE_SET(m, floor, rd->floor);
    m.n_inos = rd->ino_count;
    m.inos = rd->inos;
    return wire_pack(&m.base, ret, ret_len);
}

int hf_meta_read_decode(const void *msg, size_t msg_len, struct hf_meta_read *ret, void **ret_mem)
{
    struct hf_meta_read rd = {0};
    const Hf__Wire__MetaRead *m;
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__meta_read__descriptor, msg, msg_len, &a, &unpacked);
    if (err) {
        return err;
    }
    m = (const Hf__Wire__MetaRead *)unpacked;
    /* MAP asks with if_version alone: no op is fine there, and refused by whoever dispatches looks.
     */
    if ((m->op != HF_RD_NONE && !rd_known(m->op)) || m->n_inos > INOS_MAX ||
        !wire_get_name(m->has_name, &m->name, HF_NAME_MAX, &rd.name, &rd.name_len)) {
        arena_free(a);
        return -EBADMSG;
    }
    rd.op = (enum hf_rd)m->op;
    rd.session.v = m->session;
    rd.ino.v = m->ino;
    rd.cookie = m->cookie;
    rd.offset = m->offset;
    rd.length = m->length;
    rd.if_version = m->if_version;
    rd.max = m->max;
    rd.lock_type = m->lock_type;
    rd.lock_owner = m->lock_owner;
    rd.flags = m->flags;
    rd.want_bytes = m->want_bytes;
    rd.acked = m->acked;
    rd.floor = m->floor;
    rd.inos = m->n_inos ? m->inos : NULL;
    rd.ino_count = (uint32_t)m->n_inos;
    *ret = rd;
    *ret_mem = a;
    return 0;
}

/* ------------------------------------------------------------------------------------ answers */

static bool attr_put(Hf__Wire__Attr *m, const struct hf_attr *attr)
{
    static const struct hf_attr zero;

    if (memcmp(attr, &zero, sizeof(zero)) == 0) {
        return false;
    }
    hf__wire__attr__init(m);
    WIRE_SET(*m, ino, attr->ino.v);
    WIRE_SET(*m, mode, attr->mode);
    WIRE_SET(*m, uid, attr->uid);
    WIRE_SET(*m, gid, attr->gid);
    WIRE_SET(*m, nlink, attr->nlink);
    WIRE_SET(*m, rdev, attr->rdev);
    WIRE_SET(*m, size, attr->size);
    WIRE_SET(*m, bytes, attr->bytes);
    WIRE_SET(*m, atime, attr->atime_ns);
    WIRE_SET(*m, mtime, attr->mtime_ns);
    WIRE_SET(*m, ctime, attr->ctime_ns);
    WIRE_SET(*m, btime, attr->btime_ns);
    WIRE_SET(*m, version, attr->version);
    WIRE_SET(*m, data_version, attr->data_version);
    WIRE_SET(*m, generation, attr->generation);
    return true;
}

static void attr_get(const Hf__Wire__Attr *m, struct hf_attr *attr)
{
    if (!m) {
        return;
    }
    attr->ino.v = m->ino;
    attr->mode = m->mode;
    attr->uid = m->uid;
    attr->gid = m->gid;
    attr->nlink = m->nlink;
    attr->rdev = m->rdev;
    attr->size = m->size;
    attr->bytes = m->bytes;
    attr->atime_ns = m->atime;
    attr->mtime_ns = m->mtime;
    attr->ctime_ns = m->ctime;
    attr->btime_ns = m->btime;
    attr->version = m->version;
    attr->data_version = m->data_version;
    attr->generation = m->generation;
}

int hf_meta_reply_encode(const struct hf_meta_reply *reply, uint8_t ret[HF_RPC_MSG_MAX],
                         size_t *ret_len)
{
    Hf__Wire__MetaReply m;
    Hf__Wire__Attr attr, attr2;
    Hf__Wire__Lease lease;

    if (!memchr(reply->leader, '\0', sizeof(reply->leader))) {
        return -EMSGSIZE;
    }
    hf__wire__meta_reply__init(&m);
    m.attr = attr_put(&attr, &reply->attr) ? &attr : NULL;
    m.attr2 = attr_put(&attr2, &reply->attr2) ? &attr2 : NULL;
    if (reply->lease.kind != HF_LEASE_NONE || reply->lease.id || reply->lease.valid_ns) {
        hf__wire__lease__init(&lease);
        WIRE_SET(lease, kind, (uint32_t)reply->lease.kind);
        WIRE_SET(lease, id, reply->lease.id);
        WIRE_SET(lease, valid, reply->lease.valid_ns);
        m.lease = &lease;
    }
    WIRE_SET(m, session, reply->session.v);
    WIRE_SET(m, last_stream, reply->last_stream);
    WIRE_SET(m, first_ino, reply->first_ino.v);
    WIRE_SET(m, ino_count, reply->ino_count);
    WIRE_SET(m, ttl, reply->ttl_ns);
    WIRE_SET(m, budget_bytes, reply->budget_bytes);
    WIRE_SET(m, budget_inodes, reply->budget_inodes);
    WIRE_SET(m, map_epoch, reply->map_epoch);
    WIRE_SET(m, next_cookie, reply->next_cookie);
    WIRE_SET(m, eof, reply->eof);
    WIRE_SET(m, data_version, reply->data_version);
    WIRE_SET(m, lock_type, reply->lock_type);
    WIRE_SET(m, lock_pid, reply->lock_pid);
    WIRE_SET(m, lock_start, reply->lock_start);
    WIRE_SET(m, lock_end, reply->lock_end);
    WIRE_SET(m, total_bytes, reply->total_bytes);
    WIRE_SET(m, free_bytes, reply->free_bytes);
    WIRE_SET(m, inodes, reply->inodes);
    WIRE_SET(m, applied_index, reply->applied_index);
    WIRE_SET(m, count, reply->count);
    WIRE_SET(m, rights, reply->rights);
    WIRE_SET(m, anon_uid, reply->anon_uid);
    WIRE_SET(m, anon_gid, reply->anon_gid);
    m.leader = reply->leader[0] ? (char *)reply->leader : NULL;
    return wire_pack(&m.base, ret, ret_len);
}

static int decode_reply(const Hf__Wire__MetaReply *m, struct hf_meta_reply *reply)
{
    if (!wire_get_text(m->leader, reply->leader, sizeof(reply->leader))) {
        return -EBADMSG;
    }
    attr_get(m->attr, &reply->attr);
    attr_get(m->attr2, &reply->attr2);
    if (m->lease) {
        if (m->lease->kind > HF_LEASE_EXCLUSIVE) {
            return -EBADMSG;
        }
        reply->lease.kind = (enum hf_lease_kind)m->lease->kind;
        reply->lease.id = m->lease->id;
        reply->lease.valid_ns = m->lease->valid;
    }
    reply->session.v = m->session;
    reply->last_stream = m->last_stream;
    reply->first_ino.v = m->first_ino;
    reply->ino_count = m->ino_count;
    reply->ttl_ns = m->ttl;
    reply->budget_bytes = m->budget_bytes;
    reply->budget_inodes = m->budget_inodes;
    reply->map_epoch = m->map_epoch;
    reply->next_cookie = m->next_cookie;
    reply->eof = m->eof != 0;
    reply->data_version = m->data_version;
    reply->lock_type = m->lock_type;
    reply->lock_pid = m->lock_pid;
    reply->lock_start = m->lock_start;
    reply->lock_end = m->lock_end;
    reply->total_bytes = m->total_bytes;
    reply->free_bytes = m->free_bytes;
    reply->inodes = m->inodes;
    reply->applied_index = m->applied_index;
    reply->count = m->count;
    reply->rights = m->rights;
    reply->anon_uid = m->anon_uid;
    reply->anon_gid = m->anon_gid;
    return 0;
}

int hf_meta_reply_decode(const void *msg, size_t msg_len, struct hf_meta_reply *ret)
{
    struct hf_meta_reply reply = {0};
    struct arena *a;
    const void *m;
    int err;

    err = wire_unpack(&hf__wire__meta_reply__descriptor, msg, msg_len, &a, &m);
    if (err) {
        return err;
    }
    err = decode_reply((const Hf__Wire__MetaReply *)m, &reply);
    arena_free(a);
    if (err == 0) {
        *ret = reply;
    }
    return err;
}
