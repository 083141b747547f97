/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed records in the bulk of META_READ's answers. */
#include "common/wire/meta_op.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"

#define DIRENT_FIXED_BYTES 24u /* cookie 8, ino 8, type 4, name length 2, plus 2 */

void hf_extent_encode(const struct hf_extent *extent, uint8_t ret[HF_EXTENT_WIRE_BYTES])
{
    hf_put_le64(ret, extent->off_bytes);
    hf_put_le32(ret + 8, extent->len_bytes);
    hf_put_le32(ret + 12, extent->pos_bytes);
    hf_oid_encode(&extent->oid, ret + 16);
}

static struct hf_extent extent_decode(const uint8_t bytes[HF_EXTENT_WIRE_BYTES])
{
    return (struct hf_extent){
        .off_bytes = hf_get_le64(bytes),
        .len_bytes = hf_get_le32(bytes + 8),
        .pos_bytes = hf_get_le32(bytes + 12),
        .oid = hf_oid_decode(bytes + 16),
    };
}

/* @floor: where the extent before ended. */
static bool extent_valid(const struct hf_extent *e, uint64_t floor, size_t inline_len)
{
    uint64_t end, limit = e->oid.session ? HF_OBJECT_BYTES_MAX : inline_len;

    if (e->len_bytes == 0 || e->off_bytes < floor ||
        __builtin_add_overflow(e->off_bytes, e->len_bytes, &end)) {
        return false;
    }
    return (uint64_t)e->pos_bytes + e->len_bytes <= limit;
}

int hf_extents_decode(const void *bulk, size_t bulk_len, struct hf_extent **ret_extents,
                      uint32_t *ret_count, const uint8_t **ret_inline, size_t *ret_inline_len)
{
    struct hf_reader r = hf_reader_init(bulk, bulk_len);
    uint32_t count = hf_read_le32(&r);
    uint32_t inline_len = hf_read_le32(&r);
    struct hf_extent *extents;
    uint64_t floor = 0;

    if (r.bad || (uint64_t)count * HF_EXTENT_WIRE_BYTES + inline_len != hf_reader_left(&r)) {
        return -EBADMSG;
    }
    extents = malloc(count ? count * sizeof(*extents) : 1);
    if (!extents) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        extents[i] = extent_decode(hf_read_bytes(&r, HF_EXTENT_WIRE_BYTES));
        if (!extent_valid(&extents[i], floor, inline_len)) {
            free(extents);
            return -EBADMSG;
        }
        floor = extents[i].off_bytes + extents[i].len_bytes;
    }
    *ret_extents = extents;
    *ret_count = count;
    *ret_inline = hf_read_bytes(&r, inline_len);
    *ret_inline_len = inline_len;
    return 0;
}

void hf_attr_encode(const struct hf_attr *attr, uint8_t ret[HF_ATTR_WIRE_BYTES])
{
    struct hf_writer w = hf_writer_init(ret, HF_ATTR_WIRE_BYTES);

    memset(ret, 0, HF_ATTR_WIRE_BYTES);
    hf_write_le64(&w, attr->ino.v);
    hf_write_le32(&w, attr->mode);
    hf_write_le32(&w, attr->uid);
    hf_write_le32(&w, attr->gid);
    hf_write_le32(&w, attr->nlink);
    hf_write_le64(&w, attr->rdev);
    hf_write_le64(&w, attr->size);
    hf_write_le64(&w, attr->bytes);
    hf_write_le64(&w, attr->atime_ns);
    hf_write_le64(&w, attr->mtime_ns);
    hf_write_le64(&w, attr->ctime_ns);
    hf_write_le64(&w, attr->btime_ns);
    hf_write_le64(&w, attr->version);
    hf_write_le64(&w, attr->data_version);
    hf_write_le64(&w, attr->generation);
    HF_ASSERT(!w.bad); /* 112 bytes; the last 16 are zero */
}

void hf_attr_decode(const uint8_t bytes[HF_ATTR_WIRE_BYTES], struct hf_attr *ret)
{
    struct hf_reader r = hf_reader_init(bytes, HF_ATTR_WIRE_BYTES);

    ret->ino.v = hf_read_le64(&r);
    ret->mode = hf_read_le32(&r);
    ret->uid = hf_read_le32(&r);
    ret->gid = hf_read_le32(&r);
    ret->nlink = hf_read_le32(&r);
    ret->rdev = hf_read_le64(&r);
    ret->size = hf_read_le64(&r);
    ret->bytes = hf_read_le64(&r);
    ret->atime_ns = hf_read_le64(&r);
    ret->mtime_ns = hf_read_le64(&r);
    ret->ctime_ns = hf_read_le64(&r);
    ret->btime_ns = hf_read_le64(&r);
    ret->version = hf_read_le64(&r);
    ret->data_version = hf_read_le64(&r);
    ret->generation = hf_read_le64(&r);
}

void hf_dirent_encode(struct hf_writer *w, const struct hf_dirent *entry)
{
    size_t len = DIRENT_FIXED_BYTES + entry->name_len + (entry->has_attr ? HF_ATTR_WIRE_BYTES : 0);
    uint8_t *p;

    HF_ASSERT(entry->name_len > 0 && entry->name_len <= HF_NAME_MAX);
    p = hf_write_room(w, len);
    if (!p) {
        return;
    }
    hf_put_le64(p, entry->cookie);
    hf_put_le64(p + 8, entry->ino.v);
    hf_put_le32(p + 16, entry->type);
    hf_put_le16(p + 20, (uint16_t)entry->name_len);
    hf_put_le16(p + 22, entry->has_attr ? 1 : 0);
    memcpy(p + DIRENT_FIXED_BYTES, entry->name, entry->name_len);
    if (entry->has_attr) {
        hf_attr_encode(&entry->attr, p + DIRENT_FIXED_BYTES + entry->name_len);
    }
}

int hf_dirent_decode(struct hf_reader *r, struct hf_dirent *ret)
{
    struct hf_dirent e = {0};
    const uint8_t *name, *attr = NULL;
    uint16_t name_len, plus;

    if (!r->bad && hf_reader_left(r) == 0) {
        return -ENOENT;
    }
    e.cookie = hf_read_le64(r);
    e.ino.v = hf_read_le64(r);
    e.type = hf_read_le32(r);
    name_len = hf_read_le16(r);
    plus = hf_read_le16(r);
    name = hf_read_bytes(r, name_len);
    if (plus == 1) {
        attr = hf_read_bytes(r, HF_ATTR_WIRE_BYTES);
    }
    if (r->bad || plus > 1 || name_len == 0 || name_len > HF_NAME_MAX ||
        memchr(name, '\0', name_len) || memchr(name, '/', name_len)) {
        return -EBADMSG;
    }
    e.name = (const char *)name;
    e.name_len = name_len;
    if (attr) {
        e.has_attr = true;
        hf_attr_decode(attr, &e.attr);
    }
    *ret = e;
    return 0;
}
