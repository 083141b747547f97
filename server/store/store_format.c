/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/store_format.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "server/seglog/seglog.h"
#include "server/store/store.h"

static_assert(HF_STORE_OBJECT_META_MAX <= HF_SEGLOG_META_MAX, "a full object's sums fit");
static_assert(HF_STORE_NOTES_MAX * sizeof(struct hf_store_note_disk) <= HF_SEGLOG_META_MAX,
              "notes fit");
static_assert(sizeof(struct hf_store_object_disk) == HF_SEGLOG_BRIEF_BYTES,
              "a segment's table is enough to rebuild the index");

uint32_t hf_store_object_encode(const struct hf_store_object *object, const uint64_t *sums,
                                uint8_t *ret)
{
    struct hf_store_object_disk d = {
        .len_bytes = htole32(object->len_bytes),
        .digest = htole64(object->digest),
        .origin = htole64(object->origin),
        .sum_count = htole32(object->sum_count),
    };

    HF_ASSERT(object->sum_count <= HF_OBJECT_BLOCKS_MAX);
    hf_oid_encode(&object->oid, d.oid);
    memcpy(ret, &d, sizeof(d));
    for (uint32_t i = 0; i < object->sum_count; i++) {
        hf_put_le64(ret + sizeof(d) + 8 * (size_t)i, sums[i]);
    }
    return (uint32_t)sizeof(d) + 8 * object->sum_count;
}

int hf_store_object_decode(const uint8_t *meta, size_t have_bytes, uint32_t meta_len_bytes,
                           uint32_t payload_len_bytes, struct hf_store_object *ret,
                           uint64_t *ret_sums)
{
    struct hf_store_object_disk d;
    struct hf_store_object o;

    if (have_bytes < sizeof(d)) {
        return -EBADMSG;
    }
    memcpy(&d, meta, sizeof(d));
    o = (struct hf_store_object){
        .oid = hf_oid_decode(d.oid),
        .len_bytes = le32toh(d.len_bytes),
        .digest = le64toh(d.digest),
        .origin = le64toh(d.origin),
        .sum_count = le32toh(d.sum_count),
    };
    if (o.len_bytes == 0 || o.len_bytes > HF_OBJECT_BYTES_MAX || d.flags != 0 ||
        o.sum_count != hf_blocks(o.len_bytes) || payload_len_bytes != o.len_bytes ||
        meta_len_bytes != sizeof(d) + 8 * o.sum_count) {
        return -EBADMSG;
    }
    if (ret_sums) {
        if (have_bytes < meta_len_bytes) {
            return -EBADMSG;
        }
        for (uint32_t i = 0; i < o.sum_count; i++) {
            ret_sums[i] = hf_get_le64(meta + sizeof(d) + 8 * (size_t)i);
        }
    }
    *ret = o;
    return 0;
}

void hf_store_note_encode(const struct hf_store_note *note, uint8_t *ret)
{
    struct hf_store_note_disk d = {
        .kind = (uint8_t)note->kind,
        .segment = htole64(note->segment),
        .off_bytes = htole64(note->off_bytes),
    };

    hf_oid_encode(&note->oid, d.oid);
    memcpy(ret, &d, sizeof(d));
}

int hf_store_note_decode(const uint8_t *bytes, struct hf_store_note *ret)
{
    struct hf_store_note_disk d;

    memcpy(&d, bytes, sizeof(d));
    if (d.kind != HF_STORE_NOTE_DELETED && d.kind != HF_STORE_NOTE_QUARANTINED) {
        return -EBADMSG;
    }
    *ret = (struct hf_store_note){
        .oid = hf_oid_decode(d.oid),
        .kind = (enum hf_store_note_kind)d.kind,
        .segment = le64toh(d.segment),
        .off_bytes = le64toh(d.off_bytes),
    };
    return 0;
}

int hf_store_notes_count(uint32_t meta_len_bytes, uint32_t *ret)
{
    uint32_t count = meta_len_bytes / (uint32_t)sizeof(struct hf_store_note_disk);

    if (count == 0 || count > HF_STORE_NOTES_MAX ||
        meta_len_bytes % sizeof(struct hf_store_note_disk) != 0) {
        return -EBADMSG;
    }
    *ret = count;
    return 0;
}

void hf_store_row_encode(const struct hf_store_row *row,
                         uint8_t ret[sizeof(struct hf_store_row_disk)])
{
    struct hf_store_row_disk d = {
        .kind = (uint8_t)row->kind,
        .flags = row->flags,
        .header_pages = (uint8_t)(row->header_bytes / HF_BLOCK_BYTES),
        .len_bytes = htole32(row->len_bytes),
        .digest = htole64(row->digest),
        .segment = htole64(row->segment),
        .off_bytes = htole64(row->off_bytes),
        .seq = htole64(row->seq),
        .ref = htole64(row->ref),
    };

    memcpy(ret, &d, sizeof(d));
}

int hf_store_row_decode(const void *bytes, size_t len_bytes, struct hf_store_row *ret)
{
    struct hf_store_row_disk d;
    struct hf_store_row row;

    if (len_bytes != sizeof(d)) {
        return -EBADMSG;
    }
    memcpy(&d, bytes, sizeof(d));
    if ((d.kind != HF_STORE_ROW_OBJECT && d.kind != HF_STORE_ROW_TOMBSTONE) ||
        (d.flags & ~HF_STORE_ROW_QUARANTINED) != 0) {
        return -EBADMSG;
    }
    row = (struct hf_store_row){
        .kind = (enum hf_store_row_kind)d.kind,
        .flags = d.flags,
        .header_bytes = d.header_pages * HF_BLOCK_BYTES,
        .len_bytes = le32toh(d.len_bytes),
        .digest = le64toh(d.digest),
        .segment = le64toh(d.segment),
        .off_bytes = le64toh(d.off_bytes),
        .seq = le64toh(d.seq),
        .ref = le64toh(d.ref),
    };
    if (row.segment == 0 || row.seq == 0 || row.off_bytes % HF_BLOCK_BYTES != 0 ||
        row.header_bytes == 0 || row.header_bytes > 3 * HF_BLOCK_BYTES ||
        (row.kind == HF_STORE_ROW_OBJECT &&
         (row.len_bytes == 0 || row.len_bytes > HF_OBJECT_BYTES_MAX))) {
        return -EBADMSG;
    }
    *ret = row;
    return 0;
}

void hf_store_mark_encode(const struct hf_uuid *store, uint64_t seq,
                          uint8_t ret[sizeof(struct hf_store_mark_disk)])
{
    struct hf_store_mark_disk d = {
        .magic = htole32(HF_STORE_MARK_MAGIC),
        .version = htole32(HF_STORE_MARK_VERSION),
        .seq = htole64(seq),
    };

    memcpy(d.store, store->b, sizeof(d.store));
    memcpy(ret, &d, sizeof(d));
}

int hf_store_mark_decode(const uint8_t *bytes, size_t len_bytes, struct hf_uuid *ret_store,
                         uint64_t *ret_seq)
{
    struct hf_store_mark_disk d;

    if (len_bytes != sizeof(d)) {
        return -EBADMSG;
    }
    memcpy(&d, bytes, sizeof(d));
    if (le32toh(d.magic) != HF_STORE_MARK_MAGIC || le32toh(d.version) != HF_STORE_MARK_VERSION) {
        return -EBADMSG;
    }
    memcpy(ret_store->b, d.store, sizeof(d.store));
    *ret_seq = le64toh(d.seq);
    return 0;
}

/* The identity file is text: an operator reads it, and copies it when he must. */

const char *hf_store_identity_format(const struct hf_store_identity *identity,
                                     char ret[HF_STORE_IDENTITY_MAX])
{
    char cluster[HF_UUID_STR_MAX];
    char store[HF_UUID_STR_MAX];

    (void)snprintf(ret, HF_STORE_IDENTITY_MAX, "holdfast-store 1\ncluster %s\nstore %s\nnode %u\n",
                   hf_uuid_str(&identity->cluster, cluster), hf_uuid_str(&identity->store, store),
                   (unsigned)identity->node.v);
    return ret;
}

/* "KEY VALUE\n" at *@text; the value, cut out into @ret. */
static bool take_line(const char **text, const char *key, char *ret, size_t ret_size)
{
    size_t key_len = strlen(key);
    const char *value = *text + key_len + 1;
    const char *end = strchr(*text, '\n');

    if (!end || strncmp(*text, key, key_len) != 0 || (*text)[key_len] != ' ' || end < value ||
        (size_t)(end - value) >= ret_size) {
        return false;
    }
    memcpy(ret, value, (size_t)(end - value));
    ret[end - value] = '\0';
    *text = end + 1;
    return true;
}

int hf_store_identity_parse(const char *text, struct hf_store_identity *ret)
{
    struct hf_store_identity id;
    char value[64];
    char *end;
    unsigned long node;

    if (!take_line(&text, "holdfast-store", value, sizeof(value)) || strcmp(value, "1") != 0 ||
        !take_line(&text, "cluster", value, sizeof(value)) ||
        hf_uuid_parse(value, &id.cluster) != 0 ||
        !take_line(&text, "store", value, sizeof(value)) || hf_uuid_parse(value, &id.store) != 0 ||
        !take_line(&text, "node", value, sizeof(value)) || value[0] < '0' || value[0] > '9') {
        return -EBADMSG;
    }
    errno = 0;
    node = strtoul(value, &end, 10);
    if (errno || *end != '\0' || node > UINT16_MAX || *text != '\0') {
        return -EBADMSG;
    }
    id.node.v = (uint16_t)node;
    *ret = id;
    return 0;
}
