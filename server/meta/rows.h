/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - keys and values of the metadata rows as structs.
 *
 * Encoders write what rows_format.h says; decoders check everything and return -EBADMSG. Pure.
 * Extent vectors have their own codec (extents.h).
 */
#ifndef HF_META_ROWS_H
#define HF_META_ROWS_H

#include "common/base/bytes.h"
#include "common/placement/map.h"
#include "common/wire/meta_op.h"
#include "server/meta/rows_format.h"

struct hf_key {
    size_t len;
    uint8_t b[HF_TABLE_KEY_MAX];
};

static inline void hf_key_tag(struct hf_key *ret, enum hf_row row)
{
    ret->b[0] = (uint8_t)row;
    ret->len = 1;
}

static inline void hf_key_add_u64(struct hf_key *key, uint64_t v)
{
    hf_put_be64(key->b + key->len, v);
    key->len += 8;
}

static inline void hf_key_add_u16(struct hf_key *key, uint16_t v)
{
    hf_put_be16(key->b + key->len, v);
    key->len += 2;
}

static inline void hf_key_add_oid(struct hf_key *key, const struct hf_oid *oid)
{
    hf_oid_encode(oid, key->b + key->len);
    key->len += HF_OID_BYTES;
}

static inline void hf_key_add_bytes(struct hf_key *key, const void *bytes, size_t len)
{
    memcpy(key->b + key->len, bytes, len);
    key->len += len;
}

static inline void hf_key_u64(struct hf_key *ret, enum hf_row row, uint64_t a)
{
    hf_key_tag(ret, row);
    hf_key_add_u64(ret, a);
}

static inline void hf_key_u64_u64(struct hf_key *ret, enum hf_row row, uint64_t a, uint64_t b)
{
    hf_key_tag(ret, row);
    hf_key_add_u64(ret, a);
    hf_key_add_u64(ret, b);
}

static inline void hf_key_oid(struct hf_key *ret, enum hf_row row, const struct hf_oid *oid)
{
    hf_key_tag(ret, row);
    hf_key_add_oid(ret, oid);
}

static inline void hf_key_degraded(struct hf_key *ret, struct hf_node_id node,
                                   const struct hf_oid *oid)
{
    hf_key_tag(ret, HF_ROW_DEGRADED);
    hf_key_add_u16(ret, node.v);
    hf_key_add_oid(ret, oid);
}

/* Settings that FORMAT fixed, and the map's epoch. */
struct hf_row_format {
    struct hf_uuid cluster;
    uint32_t copies, min_copies, group_count;
    uint64_t epoch;
    uint64_t seed; /* of name hashes */
};
void hf_row_format_encode(const struct hf_row_format *format, uint8_t ret[HF_ROW_FORMAT_BYTES]);
int hf_row_format_decode(const void *bytes, size_t len, struct hf_row_format *ret);

/* id is in the key. */
void hf_row_node_encode(const struct hf_map_node *node, uint8_t ret[HF_ROW_NODE_BYTES]);
int hf_row_node_decode(const void *bytes, size_t len, struct hf_map_node *ret);
void hf_row_group_encode(const struct hf_map_group *group, uint8_t ret[HF_ROW_GROUP_BYTES]);
int hf_row_group_decode(const void *bytes, size_t len, struct hf_map_group *ret);

enum hf_inode_state {
    HF_INODE_LIVE,    /* has a name */
    HF_INODE_ORPHAN,  /* has none, or none yet; some session holds it open */
    HF_INODE_PURGING, /* is being given up; as good as gone */
};

#define HF_INODE_ACL         0x1u /* has an access ACL */
#define HF_INODE_DEFAULT_ACL 0x2u
#define HF_INODE_STALE_TAIL  0x4u  /* see trunc_epoch */
#define HF_INODE_LINKABLE    0x8u  /* an orphan from birth: LINK may give it a name */
#define HF_INODE_RESERVED    0x10u /* has reserved ranges: alloc.h */

struct hf_inode {
    struct hf_attr attr;  /* bytes: covered or reserved; size of a directory: its entries */
    struct hf_ino parent; /* directory: where it is; else where it was last named (a hint) */
    enum hf_inode_state state;
    uint32_t flags;
    uint32_t xattr_names_bytes; /* with a NUL each */
    uint32_t xattr_bytes;       /* values */
    /*
     * STALE_TAIL: a truncate left windows behind that are not given up yet: those from
     * stale_from on whose vector has an epoch below trunc_epoch. They read as holes.
     */
    uint32_t trunc_epoch;
    uint64_t stale_from;
};
void hf_row_inode_encode(const struct hf_inode *inode, uint8_t ret[HF_ROW_INODE_BYTES]);
/** ino is in the key: not touched. */
int hf_row_inode_decode(const void *bytes, size_t len, struct hf_inode *ret);

struct hf_row_dirent {
    struct hf_ino ino; /* 0: vacant; only in slot 0 while later slots are taken */
    uint32_t type;     /* S_IFMT bits */
    uint32_t slots;    /* slot 0: how many slots of this hash may be taken, 1 .. 256 */
    const char *name;  /* borrowed */
    size_t name_len;
};
/** @ret HF_ROW_DIRENT_HEAD + name_len bytes; returns that. */
size_t hf_row_dirent_encode(const struct hf_row_dirent *entry, uint8_t *ret);
int hf_row_dirent_decode(const void *bytes, size_t len, struct hf_row_dirent *ret);

struct hf_row_object {
    uint32_t len_bytes;
    uint32_t refs;       /* extents that name it */
    uint64_t live_bytes; /* their sum; clones may make it more than the length */
    uint64_t digest;
    uint64_t lacking; /* mask of members without a copy; each has a degraded row */
};
void hf_row_object_encode(const struct hf_row_object *object, uint8_t ret[HF_ROW_OBJECT_BYTES]);
int hf_row_object_decode(const void *bytes, size_t len, struct hf_row_object *ret);

struct hf_row_session {
    struct hf_uuid uuid;
    uint64_t ttl_ns, opened_ns;
    struct hf_ino first_ino;
    uint64_t ino_count;
    char name[64];
};
/** Returns the length; @ret has room for HF_ROW_SESSION_HEAD + 64. */
size_t hf_row_session_encode(const struct hf_row_session *session, uint8_t *ret);
int hf_row_session_decode(const void *bytes, size_t len, struct hf_row_session *ret);

/* Stored results: what of a reply a resend must see again. */
#define HF_ROW_RESULT_MAX (512u + HF_SYMLINK_MAX)
size_t hf_row_result_encode(const struct hf_meta_reply *reply, uint8_t ret[HF_ROW_RESULT_MAX]);
/** The reply's bulk is borrowed from @bytes. */
int hf_row_result_decode(const void *bytes, size_t len, struct hf_meta_reply *ret);

/* 512 bits: sequences used, inode numbers left. */
struct hf_bitmap {
    uint8_t b[HF_BITMAP_BITS / 8];
};
void hf_row_bitmap_encode(const struct hf_bitmap *map, uint8_t ret[HF_ROW_BITMAP_BYTES]);
int hf_row_bitmap_decode(const void *bytes, size_t len, struct hf_bitmap *ret);

static inline bool hf_bitmap_test(const struct hf_bitmap *map, uint64_t bit)
{
    return (map->b[bit / 8 % sizeof(map->b)] >> (bit % 8)) & 1;
}

static inline void hf_bitmap_flip(struct hf_bitmap *map, uint64_t bit)
{
    map->b[bit / 8 % sizeof(map->b)] ^= (uint8_t)(1u << (bit % 8));
}

bool hf_bitmap_is_zero(const struct hf_bitmap *map);

#endif
