/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/rows.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"

/* A reader past the version byte, which is checked. */
static struct hf_reader row_reader(const void *bytes, size_t len)
{
    struct hf_reader r = hf_reader_init(bytes, len);

    if (hf_read_u8(&r) != HF_ROW_VERSION) {
        r.bad = true;
    }
    return r;
}

static struct hf_writer row_writer(uint8_t *bytes, size_t len)
{
    struct hf_writer w = hf_writer_init(bytes, len);

    hf_write_u8(&w, HF_ROW_VERSION);
    return w;
}

/* Nothing left over and nothing missing. */
static int row_end(const struct hf_reader *r)
{
    return r->bad || r->at != r->end ? -EBADMSG : 0;
}

static void skip(struct hf_writer *w, size_t len)
{
    uint8_t *p = hf_write_room(w, len);

    if (p) {
        memset(p, 0, len);
    }
}

static void read_skip(struct hf_reader *r, size_t len)
{
    (void)hf_read_bytes(r, len);
}

/* Text in a fixed field, zero-filled, with its NUL. */
static void read_text(struct hf_reader *r, char *ret, size_t size)
{
    const uint8_t *p = hf_read_bytes(r, size);

    if (!p || p[size - 1] != 0) {
        r->bad = true;
        return;
    }
    memcpy(ret, p, size);
}

void hf_row_format_encode(const struct hf_row_format *format, uint8_t ret[HF_ROW_FORMAT_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_FORMAT_BYTES);

    skip(&w, 3);
    hf_write_le32(&w, format->copies);
    hf_write_le32(&w, format->min_copies);
    hf_write_le32(&w, format->group_count);
    hf_write_le64(&w, format->epoch);
    hf_write_le64(&w, format->seed);
    hf_write_bytes(&w, format->cluster.b, sizeof(format->cluster.b));
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_format_decode(const void *bytes, size_t len, struct hf_row_format *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    const uint8_t *uuid;

    read_skip(&r, 3);
    ret->copies = hf_read_le32(&r);
    ret->min_copies = hf_read_le32(&r);
    ret->group_count = hf_read_le32(&r);
    ret->epoch = hf_read_le64(&r);
    ret->seed = hf_read_le64(&r);
    uuid = hf_read_bytes(&r, sizeof(ret->cluster.b));
    if (uuid) {
        memcpy(ret->cluster.b, uuid, sizeof(ret->cluster.b));
    }
    if (ret->group_count == 0 || ret->group_count > HF_GROUPS_MAX || ret->copies == 0 ||
        ret->copies > HF_REPLICAS_MAX || ret->min_copies == 0 || ret->min_copies > ret->copies) {
        return -EBADMSG;
    }
    return row_end(&r);
}

void hf_row_node_encode(const struct hf_map_node *node, uint8_t ret[HF_ROW_NODE_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_NODE_BYTES);

    hf_write_u8(&w, (uint8_t)node->state);
    skip(&w, 2);
    hf_write_le32(&w, node->weight);
    hf_write_bytes(&w, node->uuid.b, sizeof(node->uuid.b));
    hf_write_bytes(&w, node->addr, sizeof(node->addr));
    hf_write_bytes(&w, node->domain, sizeof(node->domain));
    hf_write_le32(&w, (uint32_t)node->returned.v);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_node_decode(const void *bytes, size_t len, struct hf_map_node *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    uint8_t state = hf_read_u8(&r);
    const uint8_t *uuid;

    read_skip(&r, 2);
    ret->weight = hf_read_le32(&r);
    uuid = hf_read_bytes(&r, sizeof(ret->uuid.b));
    if (uuid) {
        memcpy(ret->uuid.b, uuid, sizeof(ret->uuid.b));
    }
    read_text(&r, ret->addr, sizeof(ret->addr));
    read_text(&r, ret->domain, sizeof(ret->domain));
    ret->returned.v = hf_read_le32(&r);
    if (state == HF_NODE_NONE || state >= HF_NODE_STATE_COUNT) {
        return -EBADMSG;
    }
    ret->state = (enum hf_node_state)state;
    return row_end(&r);
}

static void write_members(struct hf_writer *w, const struct hf_node_id members[HF_REPLICAS_MAX])
{
    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        hf_write_le16(w, members[i].v);
    }
}

static void read_members(struct hf_reader *r, struct hf_node_id ret[HF_REPLICAS_MAX])
{
    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        ret[i].v = hf_read_le16(r);
        if (ret[i].v > HF_NODES_MAX) {
            r->bad = true;
        }
    }
}

void hf_row_group_encode(const struct hf_map_group *group, uint8_t ret[HF_ROW_GROUP_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_GROUP_BYTES);

    skip(&w, 3);
    hf_write_le64(&w, group->epoch.v);
    write_members(&w, group->acting);
    write_members(&w, group->target);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_group_decode(const void *bytes, size_t len, struct hf_map_group *ret)
{
    struct hf_reader r = row_reader(bytes, len);

    read_skip(&r, 3);
    ret->epoch.v = hf_read_le64(&r);
    read_members(&r, ret->acting);
    read_members(&r, ret->target);
    return row_end(&r);
}

/* Shared by inode rows and stored results. 92 bytes. */
static void write_attr(struct hf_writer *w, const struct hf_attr *attr)
{
    hf_write_le32(w, attr->mode);
    hf_write_le32(w, attr->uid);
    hf_write_le32(w, attr->gid);
    hf_write_le32(w, attr->nlink);
    hf_write_le32(w, (uint32_t)attr->rdev);
    hf_write_le64(w, attr->size);
    hf_write_le64(w, attr->bytes);
    hf_write_le64(w, attr->atime_ns);
    hf_write_le64(w, attr->mtime_ns);
    hf_write_le64(w, attr->ctime_ns);
    hf_write_le64(w, attr->btime_ns);
    hf_write_le64(w, attr->version);
    hf_write_le64(w, attr->data_version);
    hf_write_le64(w, attr->generation);
}

static void read_attr(struct hf_reader *r, struct hf_attr *ret)
{
    ret->mode = hf_read_le32(r);
    ret->uid = hf_read_le32(r);
    ret->gid = hf_read_le32(r);
    ret->nlink = hf_read_le32(r);
    ret->rdev = hf_read_le32(r);
    ret->size = hf_read_le64(r);
    ret->bytes = hf_read_le64(r);
    ret->atime_ns = hf_read_le64(r);
    ret->mtime_ns = hf_read_le64(r);
    ret->ctime_ns = hf_read_le64(r);
    ret->btime_ns = hf_read_le64(r);
    ret->version = hf_read_le64(r);
    ret->data_version = hf_read_le64(r);
    ret->generation = hf_read_le64(r);
}

void hf_row_inode_encode(const struct hf_inode *inode, uint8_t ret[HF_ROW_INODE_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_INODE_BYTES);

    hf_write_u8(&w, (uint8_t)inode->state);
    hf_write_u8(&w, (uint8_t)inode->flags);
    skip(&w, 1);
    write_attr(&w, &inode->attr);
    hf_write_le64(&w, inode->parent.v);
    hf_write_le32(&w, inode->xattr_names_bytes);
    hf_write_le32(&w, inode->xattr_bytes);
    hf_write_le32(&w, inode->trunc_epoch);
    hf_write_le64(&w, inode->stale_from);
    skip(&w, 4);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_inode_decode(const void *bytes, size_t len, struct hf_inode *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    uint8_t state = hf_read_u8(&r);

    ret->flags = hf_read_u8(&r);
    read_skip(&r, 1);
    read_attr(&r, &ret->attr);
    ret->parent.v = hf_read_le64(&r);
    ret->xattr_names_bytes = hf_read_le32(&r);
    ret->xattr_bytes = hf_read_le32(&r);
    ret->trunc_epoch = hf_read_le32(&r);
    ret->stale_from = hf_read_le64(&r);
    read_skip(&r, 4);
    if (state > HF_INODE_PURGING) {
        return -EBADMSG;
    }
    ret->state = (enum hf_inode_state)state;
    return row_end(&r);
}

size_t hf_row_dirent_encode(const struct hf_row_dirent *entry, uint8_t *ret)
{
    struct hf_writer w = row_writer(ret, HF_ROW_DIRENT_HEAD + entry->name_len);

    hf_write_u8(&w, (uint8_t)(entry->type >> 12));
    hf_write_le16(&w, (uint16_t)entry->slots);
    hf_write_le64(&w, entry->ino.v);
    hf_write_bytes(&w, entry->name, entry->name_len);
    HF_ASSERT(!w.bad && w.at == w.end);
    return HF_ROW_DIRENT_HEAD + entry->name_len;
}

int hf_row_dirent_decode(const void *bytes, size_t len, struct hf_row_dirent *ret)
{
    struct hf_reader r = row_reader(bytes, len);

    ret->type = (uint32_t)hf_read_u8(&r) << 12;
    ret->slots = hf_read_le16(&r);
    ret->ino.v = hf_read_le64(&r);
    ret->name_len = hf_reader_left(&r);
    ret->name = (const char *)hf_read_bytes(&r, ret->name_len);
    if (r.bad || ret->name_len > HF_NAME_MAX || (ret->ino.v && ret->name_len == 0) ||
        ret->type > S_IFMT || ret->slots > 256) {
        return -EBADMSG;
    }
    return 0;
}

void hf_row_object_encode(const struct hf_row_object *object, uint8_t ret[HF_ROW_OBJECT_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_OBJECT_BYTES);

    skip(&w, 3);
    hf_write_le32(&w, object->len_bytes);
    hf_write_le32(&w, object->refs);
    skip(&w, 4);
    hf_write_le64(&w, object->live_bytes);
    hf_write_le64(&w, object->digest);
    hf_write_le64(&w, object->lacking);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_object_decode(const void *bytes, size_t len, struct hf_row_object *ret)
{
    struct hf_reader r = row_reader(bytes, len);

    read_skip(&r, 3);
    ret->len_bytes = hf_read_le32(&r);
    ret->refs = hf_read_le32(&r);
    read_skip(&r, 4);
    ret->live_bytes = hf_read_le64(&r);
    ret->digest = hf_read_le64(&r);
    ret->lacking = hf_read_le64(&r);
    if (ret->len_bytes == 0 || ret->len_bytes > HF_OBJECT_BYTES_MAX) {
        return -EBADMSG;
    }
    return row_end(&r);
}

size_t hf_row_session_encode(const struct hf_row_session *session, uint8_t *ret)
{
    size_t name_len = strnlen(session->name, sizeof(session->name) - 1);
    struct hf_writer w = row_writer(ret, HF_ROW_SESSION_HEAD + name_len);

    skip(&w, 3);
    hf_write_bytes(&w, session->uuid.b, sizeof(session->uuid.b));
    hf_write_le64(&w, session->ttl_ns);
    hf_write_le64(&w, session->opened_ns);
    hf_write_le64(&w, session->first_ino.v);
    hf_write_le64(&w, session->ino_count);
    hf_write_bytes(&w, session->name, name_len);
    HF_ASSERT(!w.bad && w.at == w.end);
    return HF_ROW_SESSION_HEAD + name_len;
}

int hf_row_session_decode(const void *bytes, size_t len, struct hf_row_session *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    const uint8_t *uuid, *name;
    size_t name_len;

    read_skip(&r, 3);
    uuid = hf_read_bytes(&r, sizeof(ret->uuid.b));
    if (uuid) {
        memcpy(ret->uuid.b, uuid, sizeof(ret->uuid.b));
    }
    ret->ttl_ns = hf_read_le64(&r);
    ret->opened_ns = hf_read_le64(&r);
    ret->first_ino.v = hf_read_le64(&r);
    ret->ino_count = hf_read_le64(&r);
    name_len = hf_reader_left(&r);
    name = hf_read_bytes(&r, name_len);
    if (r.bad || name_len >= sizeof(ret->name)) {
        return -EBADMSG;
    }
    memset(ret->name, 0, sizeof(ret->name));
    memcpy(ret->name, name, name_len);
    return 0;
}

/* Which parts of a reply follow, in this order. */
#define RESULT_ATTR   0x01u
#define RESULT_ATTR2  0x02u
#define RESULT_INOS   0x04u
#define RESULT_LOCK   0x08u
#define RESULT_COUNT  0x10u
#define RESULT_TARGET 0x20u

size_t hf_row_result_encode(const struct hf_meta_reply *reply, uint8_t ret[HF_ROW_RESULT_MAX])
{
    struct hf_writer w = row_writer(ret, HF_ROW_RESULT_MAX);
    uint8_t parts =
        (uint8_t)((reply->attr.ino.v ? RESULT_ATTR : 0) | (reply->attr2.ino.v ? RESULT_ATTR2 : 0) |
                  (reply->first_ino.v ? RESULT_INOS : 0) | (reply->lock_end ? RESULT_LOCK : 0) |
                  (reply->count ? RESULT_COUNT : 0) | (reply->bulk_len ? RESULT_TARGET : 0));

    hf_write_u8(&w, parts);
    skip(&w, 2);
    hf_write_le32(&w, hf_err_to_wire(reply->err));
    if (parts & RESULT_ATTR) {
        hf_write_le64(&w, reply->attr.ino.v);
        write_attr(&w, &reply->attr);
    }
    if (parts & RESULT_ATTR2) {
        hf_write_le64(&w, reply->attr2.ino.v);
        write_attr(&w, &reply->attr2);
    }
    if (parts & RESULT_INOS) {
        hf_write_le64(&w, reply->first_ino.v);
        hf_write_le64(&w, reply->ino_count);
    }
    if (parts & RESULT_LOCK) {
        hf_write_le32(&w, reply->lock_type);
        hf_write_le32(&w, reply->lock_pid);
        hf_write_le64(&w, reply->lock_start);
        hf_write_le64(&w, reply->lock_end);
    }
    if (parts & RESULT_COUNT) {
        hf_write_le64(&w, reply->count);
    }
    if (parts & RESULT_TARGET) {
        hf_write_le16(&w, (uint16_t)reply->bulk_len);
        hf_write_bytes(&w, reply->bulk, reply->bulk_len);
    }
    HF_ASSERT(!w.bad);
    return (size_t)(w.at - ret);
}

int hf_row_result_decode(const void *bytes, size_t len, struct hf_meta_reply *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    uint8_t parts = hf_read_u8(&r);

    *ret = (struct hf_meta_reply){0};
    read_skip(&r, 2);
    ret->err = hf_err_from_wire(hf_read_le32(&r));
    if (parts & RESULT_ATTR) {
        ret->attr.ino.v = hf_read_le64(&r);
        read_attr(&r, &ret->attr);
    }
    if (parts & RESULT_ATTR2) {
        ret->attr2.ino.v = hf_read_le64(&r);
        read_attr(&r, &ret->attr2);
    }
    if (parts & RESULT_INOS) {
        ret->first_ino.v = hf_read_le64(&r);
        ret->ino_count = hf_read_le64(&r);
    }
    if (parts & RESULT_LOCK) {
        ret->lock_type = hf_read_le32(&r);
        ret->lock_pid = hf_read_le32(&r);
        ret->lock_start = hf_read_le64(&r);
        ret->lock_end = hf_read_le64(&r);
    }
    if (parts & RESULT_COUNT) {
        ret->count = hf_read_le64(&r);
    }
    if (parts & RESULT_TARGET) {
        ret->bulk_len = hf_read_le16(&r);
        ret->bulk = hf_read_bytes(&r, ret->bulk_len);
        if (ret->bulk_len == 0 || ret->bulk_len > HF_SYMLINK_MAX) {
            return -EBADMSG;
        }
    }
    return row_end(&r);
}

void hf_row_bitmap_encode(const struct hf_bitmap *map, uint8_t ret[HF_ROW_BITMAP_BYTES])
{
    struct hf_writer w = row_writer(ret, HF_ROW_BITMAP_BYTES);

    skip(&w, 7);
    hf_write_bytes(&w, map->b, sizeof(map->b));
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_row_bitmap_decode(const void *bytes, size_t len, struct hf_bitmap *ret)
{
    struct hf_reader r = row_reader(bytes, len);
    const uint8_t *bits;

    read_skip(&r, 7);
    bits = hf_read_bytes(&r, sizeof(ret->b));
    if (bits) {
        memcpy(ret->b, bits, sizeof(ret->b));
    }
    return row_end(&r);
}

bool hf_bitmap_is_zero(const struct hf_bitmap *map)
{
    for (size_t i = 0; i < sizeof(map->b); i++) {
        if (map->b[i]) {
            return false;
        }
    }
    return true;
}
