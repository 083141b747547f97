/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - one segment file: created, written behind its end, sealed, scanned; seglog's own.
 *
 * Threads: the calls that touch the file block and belong on a worker (or start-up). A segment's
 * fields change on the loop only, or on the one worker that creates, writes or seals it while the
 * loop leaves it alone.
 */
#ifndef HF_SEGLOG_SEGMENT_H
#define HF_SEGLOG_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/env/env.h"
#include "server/seglog/seglog.h"
#include "server/seglog/seglog_format.h"

#define HF_SEGMENT_NAME_MAX 64u

struct hf_seglog_drop;

struct hf_seglog_segment {
    struct hf_disk *disk;
    char *dir;
    char *path;
    struct hf_segment_key key;
    uint64_t number;
    uint64_t file_bytes;
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t end_bytes; /* of the last valid record; what lies behind is not ours */
    uint64_t prev_segment;
    uint64_t prev_end;
    uint64_t whole_meta_types;
    enum hf_seglog_segment_state state;
    struct hf_file *reader;
    struct hf_file *writer;         /* O_DIRECT; while OPEN */
    struct hf_table_entry *entries; /* of OPEN ones, and of small closed ones; else NULL */
    uint32_t count;                 /* of entries; valid with entries */
    uint32_t cap;
    uint32_t refs;
    bool dropping;
    bool drop_failed;            /* the file may have any name, or none, until it is tried again */
    bool lost_entries;           /* out of memory: cannot be sealed, only scanned */
    struct hf_seglog_drop *drop; /* waits for refs to reach 0 */
};

/** Entries of a closed segment stay in memory up to this many. */
#define HF_SEGMENT_KEEP_ENTRIES 4096u

void hf_segment_free(struct hf_seglog_segment *segment);

struct hf_segment_create {
    struct hf_env *env;
    const char *dir;
    const char *spare; /* name of a recycled file in dir, or NULL */
    struct hf_uuid identity;
    uint64_t number;
    uint64_t file_bytes;
    uint64_t first_seq;
    uint64_t prev_segment;
    uint64_t prev_end;
    uint64_t whole_meta_types;
    bool prezero;
};

/**
 * A new open segment, durable under its name. A spare is consumed on success only.
 * Errors: -ENOMEM; -ENOSPC  no space, or too few descriptors for one more file; -EIO
 */
int hf_segment_create(const struct hf_segment_create *how, struct hf_seglog_segment **ret);
/** Make a spare file: right size, durable. @name in @dir. */
int hf_segment_prepare_spare(struct hf_disk *disk, const char *dir, const char *name,
                             uint64_t file_bytes, bool prezero);
/**
 * Open an existing file. A segment whose header copies are both bad comes back as ROTTEN.
 * Errors: -ENOMEM, -EMFILE, -ENFILE, -EIO, -HF_EWRONGCLUSTER
 */
int hf_segment_load(struct hf_env *env, const char *dir, uint64_t number,
                    const struct hf_uuid *identity, struct hf_seglog_segment **ret);

/** Room for one more record of @record_bytes and its table entry? */
bool hf_segment_fits(uint64_t file_bytes, uint64_t end_bytes, uint32_t count,
                     uint64_t record_bytes);
/** Errors: -ENOMEM. */
int hf_segment_add_entry(struct hf_seglog_segment *segment, const struct hf_table_entry *entry);
/** Write table and footer, sync. Does not change the state. Worker. Errors: -EIO, -ENOMEM, ... */
int hf_segment_seal(struct hf_seglog_segment *segment);
/** Read the footer: seq range and end. Errors: -EBADMSG, -EIO. */
int hf_segment_load_footer(struct hf_seglog_segment *segment, struct hf_footer *ret);
/** Read and check table and footer; malloc'd. Errors: -EBADMSG, -EIO, -ENOMEM. */
int hf_segment_load_table(const struct hf_seglog_segment *segment, struct hf_table_entry **ret,
                          uint32_t *ret_count);

/** What hf_segment_walk() found at one place. */
struct hf_segment_hole {
    uint64_t off_bytes;
    uint64_t end_bytes; /* where the next valid record starts, or the limit */
    uint64_t first_seq; /* expected here */
    uint64_t next_seq;  /* of the record behind the hole; 0: none up to the limit */
    int read_err;       /* it could not even be read; 0: it is not valid */
};

struct hf_segment_walk {
    uint64_t limit_bytes; /* look no further */
    void *ctx;
    /** A valid record header. Non-zero ends the walk with it. */
    int (*record)(void *ctx, const struct hf_table_entry *entry,
                  const struct hf_record_header *header);
    /** No valid record here. Non-zero ends the walk with it. May be NULL. */
    int (*hole)(void *ctx, const struct hf_segment_hole *hole);
};

/** Record by record from the file itself; behind a bad one, search on at 4 KiB steps. */
int hf_segment_walk(const struct hf_seglog_segment *segment, const struct hf_segment_walk *walk);

/** Header pages of the record at @off_bytes into @ret_pages (HF_RECORD_PAGES_MAX pages). */
int hf_segment_read_header(const struct hf_seglog_segment *segment, uint64_t off_bytes,
                           uint8_t *ret_pages, struct hf_record_header *ret);
/** A zeroed aligned allocation; free() it. */
void *hf_segment_aligned_alloc(size_t len_bytes);

#endif
