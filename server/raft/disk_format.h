/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_format.h - bytes of the records in a node's log and vote; docs/format/raft.md explains them.
 *
 *     ENTRIES   head (32 bytes, first of the record's meta bytes), then the entries: behind the
 *               head when they fit there, else as the record's payload
 *     RESET     head alone
 *     HARD      head and founders (56 + 16 each), in the meta bytes
 *
 * Little-endian. Which bytes are whole, seglog's checksums say. Pure.
 */
#ifndef HF_RAFT_DISK_FORMAT_H
#define HF_RAFT_DISK_FORMAT_H

#include "common/base/bytes.h"
#include "server/raft/disk.h"

#define RAFT_RECORD_ENTRIES 1u /* of seglog, in log/ */
#define RAFT_RECORD_RESET   2u
#define RAFT_RECORD_HARD    1u /* in vote/ */

#define RAFT_LOG_VERSION     2u /* 1: before there was consensus */
#define RAFT_VOTE_VERSION    1u
#define RAFT_LOG_HEAD_BYTES  32u
#define RAFT_HARD_HEAD_BYTES 56u
#define RAFT_FOUNDER_BYTES   16u
#define RAFT_HARD_BYTES_MAX  (RAFT_HARD_HEAD_BYTES + RAFT_FOUNDER_BYTES * HF_RAFT_MEMBERS_MAX)
#define RAFT_LOG_IN_META     0x1u /* the entries follow the head in the meta bytes */

struct raft_log_head {
    uint32_t version;
    uint32_t flags;       /* RAFT_LOG_IN_META */
    uint64_t first_index; /* ENTRIES: the log held before ends before it; RESET: of the next */
    uint32_t count;       /* of entries; 0: the log only ends there */
    uint32_t bytes;       /* of all entries */
    uint64_t reserved;    /* 0 */
};

void raft_log_head_encode(const struct raft_log_head *head, uint8_t ret[RAFT_LOG_HEAD_BYTES]);
/** Errors: -EBADMSG; -EPROTONOSUPPORT  another version. */
int raft_log_head_decode(struct hf_reader *r, struct raft_log_head *ret);

/**
 * A whole ENTRIES record: every entry is checked, then passed to fn in order.
 * @fn     bytes are one encoded entry; may be NULL
 * Errors: -EBADMSG, -EPROTONOSUPPORT, or what fn returned
 */
int raft_log_record_decode(const uint8_t *meta, size_t meta_len, const uint8_t *payload,
                           size_t payload_len, struct raft_log_head *ret_head,
                           int (*fn)(void *ctx, uint64_t index, const uint8_t *bytes, size_t len),
                           void *ctx);

size_t raft_hard_encode(const struct raft_hard *hard, uint8_t ret[RAFT_HARD_BYTES_MAX]);
/** Errors: as above. */
int raft_hard_decode(const uint8_t *meta, size_t len, struct raft_hard *ret);

#endif
