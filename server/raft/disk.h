/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.h - the log and the vote of one node on its disk; for server/raft only.
 *
 *     DIR/log    records of entries, each beginning where the one before ended or, where entries
 *                were dropped, further back; a record that says "empty from here" after a snapshot
 *     DIR/vote   records of term, vote and what the store is; only the newest counts
 *
 * Two seglogs, so that what must not wait for a batch of entries does not. A record that was synced
 * and is unreadable, a missing log or vote, a hole: all are found at open and told.
 * docs/format/raft.md has every byte. Threads: loop thread; writes run on HF_POOL_LOG.
 */
#ifndef HF_RAFT_DISK_H
#define HF_RAFT_DISK_H

#include "common/env/env.h"
#include "server/raft/items.h"

struct raft_disk;

/** What a node must not forget. */
struct raft_hard {
    struct hf_node_id node; /* whose store this is */
    uint64_t term;
    struct hf_node_id vote; /* 0: none */
    uint64_t incarnation;   /* random, not 0; 0: there is no record */
    uint8_t state;          /* enum hf_raft_store_state */
    bool abstain;
    bool taken_out;         /* the state differed from that of a majority: it is not to be used */
    uint64_t install_index; /* a snapshot on its way into the state; 0: none */
    uint32_t founder_count;
    struct hf_raft_founder founders[HF_RAFT_MEMBERS_MAX];
};

struct raft_disk_found {
    struct raft_hard hard;
    bool vote_lost; /* was synced, cannot be read */
    bool log_lost;  /* entries that were synced cannot be read, or some are missing */
    bool log_empty; /* no record at all */
};

struct raft_write { /* embedded by the caller, alive until done */
    void (*done)(struct raft_write *write, int err);
    void *ctx;
};

struct raft_disk_options {
    const char *dir;
    struct hf_uuid cluster;
    uint64_t segment_bytes;
};

/**
 * @items  filled with the log's entries
 * Errors: those of hf_seglog_open(); -EPROTONOSUPPORT  written by another version
 */
int raft_disk_open(struct hf_env *env, const struct raft_disk_options *options,
                   struct raft_items *items, struct raft_disk_found *ret_found,
                   struct raft_disk **ret, char **ret_error);
/** Only when idle. NULL is a no-op. */
void raft_disk_close(struct raft_disk *disk);
bool raft_disk_idle(const struct raft_disk *disk);
/** Gave up: every write fails from now on. */
bool raft_disk_broken(const struct raft_disk *disk);

/**
 * Entries @first .. @last of @items become the end of the log; last == first - 1: it only ends
 * before @first. Writes are durable in order; when one fails those behind it fail too.
 * done is never called from within. Errors: -EIO, -ENOSPC, -ENOMEM.
 */
void raft_disk_append(struct raft_disk *disk, struct raft_items *items, uint64_t first,
                      uint64_t last, struct raft_write *write);
/** The log is empty, its next entry being @index + 1. */
void raft_disk_reset(struct raft_disk *disk, uint64_t index, struct raft_write *write);
void raft_disk_persist(struct raft_disk *disk, const struct raft_hard *hard,
                       struct raft_write *write);
/** Records before the one with number @seq may go. */
void raft_disk_trim(struct raft_disk *disk, uint64_t seq);

uint64_t raft_disk_bytes(const struct raft_disk *disk);
uint64_t raft_disk_syncs(const struct raft_disk *disk);
/** Both logs; @write_count: of the owner's, under way. */
void raft_disk_check_invariants(const struct raft_disk *disk, uint32_t write_count);
/** Is the record durable, and still there? */
bool raft_disk_holds(const struct raft_disk *disk, uint64_t seq);

#endif
