/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the metadata state machine: one namespace as ordered rows, changed only by log entries.
 *
 *     entry(index, op) ──► hf_meta_apply ──► rows of hf_table      deterministic: equal entries,
 *                              └─► reply (also stored for resends)  equal rows, equal replies
 *
 * Rows (docs/format/meta.md): inodes; directory entries keyed (parent, keyed hash of the name +
 * slot); extent vectors, one value per (inode, 4 MiB window), with inline bytes; xattrs; objects
 * (length, digest, live bytes); sessions and their stored results; locks; orphans; purge queue;
 * cluster map; degraded (object, node); dead objects; usage; settings.
 *
 * Time and ids reach it only inside the entry. No I/O but the table, no clock, no randomness.
 * Threads: loop thread only.
 */
#ifndef HF_META_STATE_H
#define HF_META_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/placement/map.h"
#include "common/table/table.h"
#include "common/wire/meta_op.h"
#include "server/meta/mlog.h"

struct hf_meta;

/** One log entry, next to its index. */
struct hf_meta_entry {
    uint64_t index; /* consecutive from 1 */
    uint64_t term;
    uint64_t time_ns; /* the leader's wall clock when it was proposed; never goes back */
    const struct hf_meta_op *op;
};

/**
 * @table  borrowed; may be empty (before HF_OP_FORMAT) or hold an earlier state
 * Errors: -EBADMSG  rows do not make sense; -ENOMEM; -EIO
 */
int hf_meta_open(struct hf_table *table, struct hf_meta **ret);
void hf_meta_close(struct hf_meta *meta);

/**
 * Apply. Always succeeds as such; reply->err is the operation's outcome. An operation that fails
 * changes nothing but the session's stream (its result is stored too). The reply's bulk is
 * borrowed until the next one.
 *
 * Streams: number last + 1 is applied; a number at or below last answers with the stored result
 * when it is still kept, else -HF_EFENCED; beyond: -HF_EGAP. Sessions unknown or evicted:
 * -HF_EFENCED.
 *
 * A table that fails (-EIO, -EBADMSG, -ENOMEM) is returned: this replica cannot go on.
 */
int hf_meta_apply(struct hf_meta *meta, const struct hf_meta_entry *entry,
                  struct hf_meta_reply *reply);

/** An entry that counts but changes no row. */
void hf_meta_skip(struct hf_meta *meta, uint64_t index, uint64_t term);
/** The log's configuration from here on: kept in the mark, not looked at. */
void hf_meta_set_members(struct hf_meta *meta, const void *members, size_t len);

/** Index of the last entry applied. */
uint64_t hf_meta_applied(const struct hf_meta *meta);

/**
 * Looks that need no leader memory: LOOKUP .. STATFS, GETLK, STREAM, PATH (OPEN, RELEASE, RENEW and
 * LOCK_WAIT are the leader's). @buf: room for the bulk, reply->bulk points into it.
 */
void hf_meta_read(struct hf_meta *meta, const struct hf_meta_read *rd, struct hf_meta_reply *reply,
                  uint8_t *buf, size_t buf_bytes);

/** 0, or why nothing can be applied or read any more: by an entry, or by a look. */
int hf_meta_failed(const struct hf_meta *meta);

/** Mark for a checkpoint of the table: applied index, term. Put back by hf_meta_open(). */
size_t hf_meta_mark(const struct hf_meta *meta, uint8_t ret[HF_TABLE_MARK_MAX]);

/** What a mark says. Errors: -EBADMSG. */
int hf_meta_mark_position(const void *mark, size_t len, struct hf_mlog_position *ret);

/** The map as of the last entry; borrowed until the next apply. Group count 0: not formatted. */
const struct hf_map *hf_meta_map(const struct hf_meta *meta);

/* What the leader's background work looks for. Each lists rows after a position. */

struct hf_meta_session {
    struct hf_session_id id;
    uint64_t ttl_ns;
    uint64_t opened_ns, last_stream;
    char name[64];
};
/** Sessions with id > @after. Returns the count. */
uint32_t hf_meta_sessions(struct hf_meta *meta, struct hf_session_id after,
                          struct hf_meta_session *ret, uint32_t max);
bool hf_meta_session_live(struct hf_meta *meta, struct hf_session_id id);

/** Inodes whose purge waits for nothing any more. */
uint32_t hf_meta_purgeable(struct hf_meta *meta, struct hf_ino after, struct hf_ino *ret,
                           uint32_t max);
/** Unlinked inodes still held open, as pairs with each holder, after the pair given. */
uint32_t hf_meta_orphans(struct hf_meta *meta, struct hf_ino after_ino,
                         struct hf_session_id after_holder, struct hf_ino *ret_inos,
                         struct hf_session_id *ret_holders, uint32_t max);

struct hf_meta_object {
    struct hf_oid oid;
    uint32_t len_bytes;
    uint32_t live_bytes;
    uint64_t digest;
};
/** Errors: -ENOENT. */
int hf_meta_object(struct hf_meta *meta, const struct hf_oid *oid, struct hf_meta_object *ret);
/** Objects of a group after @after (NULL: from the first). */
uint32_t hf_meta_objects(struct hf_meta *meta, uint16_t group, const struct hf_oid *after,
                         struct hf_meta_object *ret, uint32_t max);
/** Objects with no reference left, to be deleted on all members, after @after. */
uint32_t hf_meta_dead(struct hf_meta *meta, const struct hf_oid *after, struct hf_oid *ret,
                      uint32_t max);
/** Objects that @node lacks, after @after. */
uint32_t hf_meta_degraded(struct hf_meta *meta, struct hf_node_id node, const struct hf_oid *after,
                          struct hf_oid *ret, uint32_t max);
bool hf_meta_is_degraded(struct hf_meta *meta, struct hf_node_id node, const struct hf_oid *oid);

struct hf_meta_usage {
    uint64_t inodes;
    uint64_t logical_bytes; /* live bytes of files */
    uint64_t objects;
    uint64_t object_bytes;
    uint64_t inline_bytes;
    uint64_t degraded; /* rows (object, node) */
    uint64_t dead;     /* objects waiting to be deleted */
    uint64_t orphans, purging;
    uint64_t sessions;
    uint64_t reserved_bytes; /* of files, not written yet */
};
void hf_meta_usage(const struct hf_meta *meta, struct hf_meta_usage *ret);

/**
 * Recount everything from the rows: link counts, directory entry counts, object live bytes, usage,
 * extents within their windows and objects, orphans, degraded. Slow; tests and fsck.
 * Errors: -EBADMSG, and @ret_text (malloc'd, may be NULL) says what is wrong.
 */
int hf_meta_fsck(struct hf_meta *meta, char **ret_text);

#endif
