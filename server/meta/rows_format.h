/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows_format.h - the rows of the metadata tables: tags of keys, sizes of values.
 *
 * A key is one tag byte and big-endian fields, so that bytes order as numbers do. A value is one
 * version byte and little-endian fields. docs/format/meta.md shows every byte.
 */
#ifndef HF_META_ROWS_FORMAT_H
#define HF_META_ROWS_FORMAT_H

#include <assert.h>

#include "common/base/limits.h"
#include "common/table/table.h"

/* First byte of a key. Numbers are never reused. */
enum hf_row {
    HF_ROW_FORMAT = 0x01,         /* (only the tag): settings fixed when the cluster was made */
    HF_ROW_NODE = 0x02,           /* node u16 */
    HF_ROW_GROUP = 0x03,          /* group u16 */
    HF_ROW_INODE = 0x10,          /* ino u64 */
    HF_ROW_DIRENT = 0x11,         /* parent u64, cookie u64 */
    HF_ROW_SYMLINK = 0x12,        /* ino u64 */
    HF_ROW_XATTR = 0x13,          /* ino u64, name */
    HF_ROW_WINDOW = 0x14,         /* ino u64, window u64 */
    HF_ROW_ALLOC = 0x15,          /* ino u64 */
    HF_ROW_OBJECT = 0x20,         /* oid 16 */
    HF_ROW_DEAD = 0x21,           /* oid 16 */
    HF_ROW_DEGRADED = 0x22,       /* node u16, oid 16 */
    HF_ROW_SEQS = 0x23,           /* session u64, sequence / 512 u64 */
    HF_ROW_SESSION = 0x30,        /* session u64 */
    HF_ROW_SESSION_UUID = 0x31,   /* uuid 16 */
    HF_ROW_RESULT = 0x32,         /* session u64, stream u64 */
    HF_ROW_INOS = 0x33,           /* session u64, ino / 512 u64 */
    HF_ROW_LOCKS = 0x40,          /* ino u64, space u8 */
    HF_ROW_SESSION_LOCKS = 0x41,  /* session u64, ino u64 */
    HF_ROW_ORPHAN = 0x50,         /* ino u64, session u64 */
    HF_ROW_SESSION_ORPHAN = 0x51, /* session u64, ino u64 */
    HF_ROW_PURGE = 0x52,          /* ino u64 */
};

#define HF_ROW_VERSION 1u /* of every value so far */

#define HF_ROW_FORMAT_BYTES      48u
#define HF_ROW_NODE_BYTES        200u
#define HF_ROW_GROUP_BYTES       32u
#define HF_ROW_INODE_BYTES       128u
#define HF_ROW_DIRENT_HEAD       12u /* then the name */
#define HF_ROW_WINDOW_HEAD       16u /* then the extents, then the inline bytes */
#define HF_ROW_WINDOW_EXTENT     28u
#define HF_ROW_ALLOC_HEAD        8u /* then the ranges */
#define HF_ROW_ALLOC_RANGE       16u
#define HF_ROW_OBJECT_BYTES      40u
#define HF_ROW_DEAD_BYTES        8u
#define HF_ROW_BITMAP_BYTES      72u /* version, 7 zero, 512 bits */
#define HF_ROW_SESSION_HEAD      52u /* then the name */
#define HF_ROW_SESSION_UUID_SIZE 16u
#define HF_ROW_LOCK_BYTES        48u
#define HF_ROW_MARK_BYTES        1u /* a row that only has to exist */

#define HF_BITMAP_BITS 512u

/* Bounds of one window's vector, so that it fits a value. Commits keep to the first pair. */
#define HF_WINDOW_EXTENTS_COMMIT 16384u
#define HF_WINDOW_INLINE_COMMIT  (128u << 10)
#define HF_WINDOW_EXTENTS_MAX    18000u
#define HF_WINDOW_INLINE_MAX     (512u << 10)

#define HF_ALLOC_RANGES_MAX       1024u /* of one inode */
#define HF_LOCKS_PER_INODE_MAX    4096u
#define HF_XATTR_INODE_BYTES_MAX  (1u << 20) /* values of one inode together */
#define HF_INLINE_PURGE_WINDOWS   16u   /* files up to this are given up in the unlink itself */
#define HF_TRUNCATE_WINDOWS       1024u /* more than these are cut off in the background */
#define HF_CLONE_BYTES_MAX        (UINT64_C(4) << 30)
#define HF_SESSION_INOS           4096u /* granted when a session opens */
#define HF_SESSION_INOS_GRANT_MAX 65536u
#define HF_META_MARK_BYTES        200u

static_assert(HF_ROW_WINDOW_HEAD + HF_WINDOW_EXTENTS_MAX * HF_ROW_WINDOW_EXTENT +
                      HF_WINDOW_INLINE_MAX <=
                  HF_TABLE_VALUE_MAX,
              "a full window fits one value");
static_assert(HF_WINDOW_EXTENTS_FEW + 2 * HF_COMMIT_EXTENTS_MAX <= HF_WINDOW_EXTENTS_COMMIT,
              "each extent of a commit cuts one in two");
static_assert(1 + 8 + HF_XATTR_NAME_MAX <= HF_TABLE_KEY_MAX, "a name fits a key");
static_assert(HF_META_MARK_BYTES <= HF_TABLE_MARK_MAX, "the mark fits");
static_assert(HF_LOCKS_PER_INODE_MAX * HF_ROW_LOCK_BYTES + 8 <= HF_TABLE_VALUE_MAX, "locks fit");
static_assert(HF_SESSION_INOS % HF_BITMAP_BITS == 0, "grants are whole bitmaps");

#endif
