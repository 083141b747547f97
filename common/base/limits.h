/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - every limit of the system, with the relations between them.
 */
#ifndef HF_BASE_LIMITS_H
#define HF_BASE_LIMITS_H

#include <assert.h>

/* Objects and their checksums. */
#define HF_BLOCK_BYTES       4096u
#define HF_OBJECT_BYTES_MAX  (4u << 20)
#define HF_OBJECT_BLOCKS_MAX (HF_OBJECT_BYTES_MAX / HF_BLOCK_BYTES)
#define HF_WINDOW_BYTES      (4u << 20) /* one extent vector covers this much of a file */
#define HF_FRAME_BULK_MAX    (1u << 20) /* bulk bytes behind one RPC message */
#define HF_RPC_MSG_MAX       (64u << 10)
#define HF_INLINE_BYTES_MAX  (32u << 10) /* file bytes carried inside one commit */

/* Names and files. */
#define HF_NAME_MAX        255u
#define HF_SYMLINK_MAX     4095u
#define HF_XATTR_NAME_MAX  255u
#define HF_XATTR_VALUE_MAX (64u << 10) /* travels as bulk */
#define HF_XATTR_LIST_MAX  (64u << 10)
#define HF_LINK_MAX        65000u
#define HF_FILE_BYTES_MAX  (16ull << 40)

/* Cluster. */
#define HF_NODES_MAX      64u
#define HF_REPLICAS_MAX   5u
#define HF_GROUPS_MAX     4096u
#define HF_GROUPS_DEFAULT 256u
#define HF_ADDR_BYTES_MAX 108u /* text of one address, with its NUL */

/* Sessions. */
#define HF_STREAM_WINDOW      256u  /* results kept, and most mutations in flight, per session */
#define HF_COMMIT_EXTENTS_MAX 1024u /* extents in one write commit */
#define HF_COMMIT_OBJECTS_MAX 16u
#define HF_COMMIT_INODES_MAX  768u
#define HF_WINDOW_EXTENTS_FEW 8192u /* a window that has no more takes any commit */
#define HF_SPACE_WINDOWS_MAX  1024u /* of a file, that one PUNCH or ALLOCATE goes through */

static_assert(HF_OBJECT_BYTES_MAX % HF_BLOCK_BYTES == 0, "objects are whole blocks at most");
static_assert(HF_OBJECT_BYTES_MAX % HF_FRAME_BULK_MAX == 0, "a full object is whole frames");
static_assert(HF_FRAME_BULK_MAX % HF_BLOCK_BYTES == 0, "frames are whole blocks");
static_assert(HF_INLINE_BYTES_MAX <= HF_FRAME_BULK_MAX, "inline bytes fit one frame");
static_assert(HF_XATTR_VALUE_MAX <= HF_FRAME_BULK_MAX, "an attribute fits one frame");

#endif
