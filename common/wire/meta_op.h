/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_op.h - metadata operations and their answers as structs, and their bytes.
 *
 * One flat struct serves every mutation (hf_meta_op), one every look (hf_meta_read), one every
 * answer (hf_meta_reply); which fields count is said at each op. The encoded op is also what the
 * metadata log holds, so its format is as permanent as a disk format.
 *
 * Times are ns since the epoch. "client": chosen by the client from what its session was leased.
 */
#ifndef HF_WIRE_META_OP_H
#define HF_WIRE_META_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/placement/map.h"

/* Mutations. (S): numbered in the session's stream. (L): made by the leader itself. */
enum hf_op {
    HF_OP_NONE = 0,
    /* sessions */
    HF_OP_SESSION_OPEN = 1,  /* uuid (of the mount: repeats find the same session), text name, ttl
                                -> session, first_ino, ino_count, ttl */
    HF_OP_SESSION_CLOSE = 2, /* session */
    HF_OP_SESSION_EVICT = 3, /* (L) session: locks and holds go, later commits are refused */
    HF_OP_INO_RANGE = 4,     /* (S) count -> first_ino, ino_count */
    /* names; (S) all. attr: the file's; attr2: the parent's */
    HF_OP_CREATE = 8,   /* parent, name, ino (client), mode with type, umask, uid, gid, rdev, target
                           (symlink), flags HF_CREATE_OPEN. mkdir, mknod and symlink too.
                           Default ACLs and sgid inheritance apply. -> attr, attr2.
                           -EEXIST -> attr of what is there */
    HF_OP_LINK = 9,     /* ino, parent, name -> attr, attr2 */
    HF_OP_UNLINK = 10,  /* parent, name, holders -> attr (as it is left), attr2; bulk: the target
                           of a link that is gone; count: of other sessions that hold what is */
    HF_OP_RMDIR = 11,   /* parent, name -> attr2 */
    HF_OP_RENAME = 12,  /* parent, name, parent2, name2, flags RENAME_*, holders (of what is
                           replaced) -> attr (moved), attr2 (replaced or exchanged; ino 0: none);
                           bulk, count: as UNLINK, of what was replaced and is gone */
    HF_OP_TMPFILE = 13, /* parent, ino (client), mode (a regular file), umask, uid, gid, flags
                           HF_TMPFILE_LINKABLE: LINK may give it a name. A file without a name,
                           which the session holds open; as if created in the parent. -> attr */
    /* inodes; (S) all. -> attr */
    HF_OP_SETATTR = 16,     /* ino, mask, mode, uid, gid, size, atime, mtime, ctime; flags
                               HF_TRUNCATE_BOUNDED (the leader). -EAGAIN: a size, while what was
                               cut off before is given up; a little later */
    HF_OP_SETXATTR = 17,    /* ino, name, bulk value, flags XATTR_CREATE | XATTR_REPLACE, mask
                               HF_SET_KILLPRIV: an access ACL clears sgid */
    HF_OP_REMOVEXATTR = 18, /* ino, name */
    HF_OP_WRITE = 19, /* objects, extents, inodes; bulk: inline bytes. Extents of one inode ascend.
                         mask HF_SET_KILLPRIV: clear suid, sgid and security.capability.
                         flags HF_WRITE_APPEND: of one inode; what begins at offset goes to the
                         end that the file has now
                         -> attr of inode_inos[0]; of an append also with -E2BIG */
    /* the next three: mask HF_SET_KILLPRIV, as of a write. PUNCH and ALLOCATE: the leader takes
     * them of at most HF_SPACE_WINDOWS_MAX windows; else -EFBIG */
    HF_OP_PUNCH = 20, /* ino, offset, length: the range reads as zeros; the size stays unless flags
                         HF_PUNCH_EXTEND (then at least offset + length: fallocate) */
    HF_OP_CLONE =
        21, /* ino (source), offset, length, ino2 (target), offset2 -> attr of the target */
    HF_OP_ALLOCATE = 22, /* ino, offset, length, flags HF_ALLOC_KEEP_SIZE: only the size is kept;
                            HF_ALLOC_RESERVE: what is not there yet is reserved (of a PUNCH: all of
                            it), size: how many bytes more the client is going to reserve in the
                            same way; logged (the leader): so many of all files may be. -ENOSPC */
    HF_OP_RELOCATE = 23, /* objects, extents (none inline, each within one window, with digest): the
                            inline bytes that are there now lie in these objects too. An extent
                            whose range holds other bytes, or none inline, is passed over; no size,
                            time or version changes */
    /* locks; (S). Non-blocking: -EAGAIN -> lock_* of the one in the way */
    HF_OP_LOCK = 24, /* ino, lock_owner, lock_type (F_RDLCK, F_WRLCK, F_UNLCK), offset, length (0:
                        to the end), lock_pid, flags HF_LOCK_FLOCK; taken -> attr */
    HF_OP_LOCK_RELEASE = 25, /* ino, lock_owner, flags HF_LOCK_FLOCK: everything of the owner */
    /* open files */
    HF_OP_ORPHAN_RELEASE = 26, /* (S), or (L) without a number: ino: this session holds the unlinked
                                  file open no longer */
    /* the cluster's own work (L) */
    HF_OP_PURGE = 32, /* ino, count: give up a bounded part of an unreferenced inode's extents */
    HF_OP_NODE_STATE = 33,     /* node, node_state, uuid, text address, flags HF_NODE_RESTARTED */
    HF_OP_NODE_ADD = 34,       /* node, text address, name failure domain, count weight */
    HF_OP_DEGRADED_CLEAR = 35, /* node, oids: the node holds them now */
    HF_OP_DEGRADED_ADD = 36,   /* node, oids: the node lacks them */
    HF_OP_OBJECTS_GONE = 37,   /* oids: deleted on every member; their rows end */
    HF_OP_FORMAT = 38, /* first entry of a cluster: uuid, count copies, size min_copies, mode group
                          count, offset name-hash seed */
    HF_OP_GROUP_SET = 39, /* count group, holders[0] acting mask order as packed bytes, holders[1]
                             target */
    HF_OP_REFUSED = 48,   /* (S), in place of what a client sent that may only read: -EROFS. The
                             stream goes on */
};

#define HF_CREATE_OPEN        0x1u
#define HF_TMPFILE_LINKABLE   0x1u
#define HF_NODE_RESTARTED     0x1u
#define HF_TRUNCATE_BOUNDED   0x1u
#define HF_WRITE_APPEND       0x1u
#define HF_PUNCH_EXTEND       0x1u
#define HF_ALLOC_KEEP_SIZE    0x1u
#define HF_ALLOC_RESERVE      0x2u
#define HF_LOCK_FLOCK         0x1u
#define HF_RIGHTS_READ_ONLY   0x1u /* hf_meta_reply.rights */
#define HF_RIGHTS_ROOT_SQUASH 0x2u

/* hf_meta_op.mask */
#define HF_SET_MODE     0x001u
#define HF_SET_UID      0x002u
#define HF_SET_GID      0x004u
#define HF_SET_SIZE     0x008u
#define HF_SET_ATIME    0x010u
#define HF_SET_MTIME    0x020u
#define HF_SET_CTIME    0x040u
#define HF_SET_KILLPRIV 0x080u /* clear suid, sgid (if group-executable), security.capability */

/* What changes the bytes or the size of a file takes it away, KILLPRIV or not; SETATTR only with it
 * (the kernel asks for it first). */
#define HF_XATTR_CAPS "security.capability"

#define HF_EXTENT_INLINE UINT32_MAX

struct hf_wr_object {
    struct hf_oid oid;
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t holders;      /* mask of nodes where the put succeeded */
    struct hf_epoch epoch; /* of the group when it was put */
};

struct hf_wr_extent {
    struct hf_ino ino;
    uint64_t off_bytes;
    uint32_t len_bytes;
    uint32_t object;    /* index of hf_wr_object, or HF_EXTENT_INLINE */
    uint32_t pos_bytes; /* in the object, or in the bulk */
    uint64_t digest;    /* RELOCATE: hf_hash64(bytes, len, 0) of the inline bytes; else 0 */
};

struct hf_wr_inode {
    struct hf_ino ino;
    uint64_t size_min_bytes; /* the size becomes at least this */
    uint64_t mtime_ns;       /* 0: unchanged */
    uint64_t ctime_ns;       /* 0: that of the operation; HF_CTIME_NEXT; or one that a program was
                                told: taken if it is later than what is there, else as 0 */
};

/** More of what was told of follows in other commits: just later than what is there. */
#define HF_CTIME_NEXT 1u

/** A mutation. Pointers are borrowed: from the caller, or from the decoder's arena. */
struct hf_meta_op {
    enum hf_op op;
    struct hf_session_id session;
    uint64_t stream; /* 1, 2, ...; 0: not in a stream */
    uint64_t acked;
    uint64_t time_ns;
    struct hf_ino ino, ino2, parent, parent2;
    const char *name, *name2; /* not NUL-terminated; NULL: absent */
    size_t name_len, name2_len;
    uint32_t mode, umask, uid, gid, flags, mask;
    uint64_t rdev;
    const char *target;
    size_t target_len;
    uint64_t size, atime_ns, mtime_ns, ctime_ns;
    uint64_t offset, length, offset2;
    uint32_t lock_type, lock_pid;
    uint64_t lock_owner;
    struct hf_wr_object *objects;
    struct hf_wr_extent *extents;
    struct hf_wr_inode *inodes;
    uint32_t object_count, extent_count, inode_count;
    const void *bulk; /* out of line: inline bytes, an attribute's value */
    size_t bulk_len;
    struct hf_node_id node;
    enum hf_node_state node_state;
    struct hf_uuid uuid;
    const char *text; /* NUL-terminated or NULL */
    uint64_t count, ttl_ns;
    struct hf_oid *oids;
    uint32_t oid_count;
    uint64_t *holders; /* session ids */
    uint32_t holder_count;
};

struct hf_attr {
    struct hf_ino ino;
    uint32_t mode, uid, gid, nlink;
    uint64_t rdev, size, bytes;
    uint64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint64_t version, data_version, generation;
};

enum hf_lease_kind { HF_LEASE_NONE, HF_LEASE_SHARED, HF_LEASE_EXCLUSIVE };

struct hf_lease {
    enum hf_lease_kind kind;
    uint64_t id;
    uint64_t valid_ns;
};

/** The answer to a mutation or a look. Zeroed fields are absent on the wire. */
struct hf_meta_reply {
    int err; /* travels in the frame header */
    struct hf_attr attr, attr2;
    struct hf_lease lease;
    struct hf_session_id session;
    uint64_t last_stream;
    struct hf_ino first_ino;
    uint64_t ino_count, ttl_ns, budget_bytes, budget_inodes, map_epoch;
    uint64_t next_cookie;
    bool eof;
    uint64_t data_version;
    uint32_t lock_type, lock_pid;
    uint64_t lock_start, lock_end; /* end inclusive; UINT64_MAX: no end */
    uint64_t total_bytes, free_bytes, inodes, applied_index, count;
    uint32_t rights, anon_uid, anon_gid; /* SESSION_OPEN: HF_RIGHTS_*, the leader's exports */
    char leader[HF_ADDR_BYTES_MAX];
    const void *bulk;
    size_t bulk_len;
};

/* Looks */
enum hf_rd {
    HF_RD_NONE = 0,
    HF_RD_LOOKUP = 1,    /* ino parent, name -> attr; "." and ".." too; -ENOENT */
    HF_RD_GETATTR = 2,   /* ino -> attr */
    HF_RD_READDIR = 3,   /* ino, cookie (0: start), max bytes, flags HF_READDIR_PLUS -> bulk of
                            entries, next_cookie, eof; first_ino: the parent. No "." and ".." */
    HF_RD_READLINK = 4,  /* ino -> bulk */
    HF_RD_GETXATTR = 5,  /* ino, name -> bulk, attr; -ENODATA -> attr */
    HF_RD_LISTXATTR = 6, /* ino -> bulk: names, each NUL-terminated */
    HF_RD_EXTENTS = 7, /* ino, offset, length, if_version -> attr, data_version, bulk: extents that
                          touch the range; -HF_ENOTMODIFIED. next_cookie: where the answer ends
                          (may be before the range's end; ask on) */
    HF_RD_STATFS = 8,
    HF_RD_GETLK = 9,      /* ino, lock_type, lock_owner, offset, length -> lock_* (F_UNLCK: free) */
    HF_RD_LOCK_WAIT = 10, /* like GETLK; answered when it may be free, or after 20 s: -EAGAIN;
                             -EDEADLK: its holder waits for the one who asks. cookie: the wait's
                             number, the session's own; with F_UNLCK that wait ends: -EINTR */
    HF_RD_OPEN = 11, /* ino, cookie: its number, the session's own and rising -> attr; the session
                        holds it open from now on (leader memory) */
    HF_RD_RELEASE = 12, /* inos: pairs (inode, number): no longer held open, if not opened again
                           under a higher number: an answer may be lost and the request come late */
    HF_RD_RENEW = 13,  /* session alive; want_bytes, floor -> ttl, budget_*, map_epoch, last_stream;
                          next_cookie: 0, or this leader has to hear what the session holds open:
                          renew again with HF_RENEW_CLAIM, cookie: that one, inos: pairs of it all.
                          With HF_RENEW_MORE these are not all: the answer has the next part's
                          next_cookie, and count: numbers taken so far. Another count: begin anew.
                          -HF_EFENCED: evicted */
    HF_RD_STREAM = 14, /* -> last_stream applied for the session */
    HF_RD_PATH = 15,   /* ino -> bulk: a path of it, for people */
    HF_RD_RESERVED = 16, /* ino, offset, length -> count: bytes of the range that are reserved */
};

#define HF_READDIR_PLUS 0x1u
#define HF_RENEW_CLAIM  0x1u
#define HF_RENEW_MORE   0x2u
/** Numbers in one part of the claims; so many without HF_RENEW_MORE were cut by their sender. */
#define HF_RENEW_CLAIMS_MAX 4000u

struct hf_meta_read {
    enum hf_rd op;
    struct hf_session_id session;
    struct hf_ino ino;
    const char *name;
    size_t name_len;
    uint64_t cookie, offset, length, if_version;
    uint32_t max, lock_type, flags;
    uint64_t lock_owner, want_bytes, acked, floor;
    uint64_t *inos;
    uint32_t ino_count;
};

/* Bulk records, fixed little-endian; arrays of them, or for entries one after the other. */

/** Extent in a reply's bulk: 32 bytes, then, after all records, the inline bytes. */
struct hf_extent {
    uint64_t off_bytes; /* in the file */
    uint32_t len_bytes;
    uint32_t pos_bytes; /* in the object; inline: in the bytes after the records */
    struct hf_oid oid;  /* session 0: inline */
};
#define HF_EXTENT_WIRE_BYTES 32u

/** @ret HF_EXTENT_WIRE_BYTES: off u64, len u32, pos u32, oid 16. */
void hf_extent_encode(const struct hf_extent *extent, uint8_t ret[HF_EXTENT_WIRE_BYTES]);
/**
 * The bulk of an EXTENTS answer: count u32, inline length u32, records, inline bytes.
 * Records ascend and do not overlap, inline ones lie within the bytes: checked.
 * @ret_extents malloc'd; @ret_inline borrowed from @bulk. Errors: -EBADMSG, -ENOMEM.
 */
int hf_extents_decode(const void *bulk, size_t bulk_len, struct hf_extent **ret_extents,
                      uint32_t *ret_count, const uint8_t **ret_inline, size_t *ret_inline_len);

/** One directory entry: cookie u64, ino u64, type u32 (S_IFMT bits), name length u16, plus u16
 *  (1: an attr of HF_ATTR_WIRE_BYTES follows), name, [attr]. */
#define HF_ATTR_WIRE_BYTES 128u
struct hf_dirent {
    uint64_t cookie; /* of the entry after this one: what READDIR continues from */
    struct hf_ino ino;
    uint32_t type;
    const char *name; /* borrowed; not NUL-terminated */
    size_t name_len;
    bool has_attr;
    struct hf_attr attr;
};
struct hf_writer;
struct hf_reader;
void hf_attr_encode(const struct hf_attr *attr, uint8_t ret[HF_ATTR_WIRE_BYTES]);
void hf_attr_decode(const uint8_t bytes[HF_ATTR_WIRE_BYTES], struct hf_attr *ret);
/** Sets w->bad when there is no room (nothing is written then). */
void hf_dirent_encode(struct hf_writer *w, const struct hf_dirent *entry);
/** Errors: -ENOENT  no more; -EBADMSG. */
int hf_dirent_decode(struct hf_reader *r, struct hf_dirent *ret);

/* Message bytes. Encoders write at most HF_RPC_MSG_MAX bytes; bulk is apart. */

/** Errors: -EMSGSIZE  does not fit: split the commit. */
int hf_meta_op_encode(const struct hf_meta_op *op, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
/**
 * @ret_mem  one malloc'd block (or several chained) that the op points into; free with
 *           hf_meta_op_release(). Checks bounds, counts and columns, not meaning.
 * Errors: -EBADMSG, -ENOMEM
 */
int hf_meta_op_decode(const void *msg, size_t msg_len, const void *bulk, size_t bulk_len,
                      struct hf_meta_op *ret, void **ret_mem);
void hf_meta_op_release(void *mem);

int hf_meta_read_encode(const struct hf_meta_read *rd, uint8_t ret[HF_RPC_MSG_MAX],
                        size_t *ret_len);
/** Same memory rule as hf_meta_op_decode(). */
int hf_meta_read_decode(const void *msg, size_t msg_len, struct hf_meta_read *ret, void **ret_mem);

int hf_meta_reply_encode(const struct hf_meta_reply *reply, uint8_t ret[HF_RPC_MSG_MAX],
                         size_t *ret_len);
/** err, bulk: set by the caller from the frame. */
int hf_meta_reply_decode(const void *msg, size_t msg_len, struct hf_meta_reply *ret);

#endif
