/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seglog_impl.h - the log's state, shared by its parts: seglog.c (loop), batch.c (one group
 * commit), recover.c (open), files.c (spares, drops).
 */
#ifndef HF_SEGLOG_SEGLOG_IMPL_H
#define HF_SEGLOG_SEGLOG_IMPL_H

#include "server/seglog/segment.h"

#define HF_BATCH_OPS_MAX     512u
#define HF_BATCH_BYTES_MAX   (32ull << 20)
#define HF_SMALL_FRACTION    64u        /* of a segment, when there is no space for a whole one */
#define HF_BATCH_ARENA_BYTES (1u << 20) /* header pages and copied payloads; grows for one op */

/** A file that waits for its next life. */
struct hf_seglog_spare {
    char name[HF_SEGMENT_NAME_MAX];
};

/** Numbers from .. to were truncated. */
struct hf_seglog_dropped {
    uint64_t from;
    uint64_t to;
};

/**
 * One group commit. The loop fills it, the worker runs it, the loop takes its results; one exists
 * and at most one runs.
 */
struct hf_seglog_batch {
    struct hf_job job;
    struct hf_seglog *log;
    bool running;
    /* in: */
    struct hf_seglog_append *ops; /* in order */
    struct hf_seglog_append **ops_tail;
    uint32_t count;
    uint64_t start_off;
    uint64_t end_off;
    uint64_t synced_seq;
    struct hf_seglog_segment *target; /* NULL: create one first */
    struct hf_seglog_segment *retire; /* seal it first */
    struct hf_segment_create create;
    struct hf_seglog_spare spare;
    bool have_spare;
    /* the worker's: */
    uint8_t *arena;
    size_t arena_cap;
    struct iovec *iov;
    uint32_t iov_cap;
    /* out: */
    struct hf_seglog_segment *fresh;
    int seal_err;
    int create_err;
    int write_err;
};

struct hf_seglog {
    struct hf_env *env;
    struct hf_disk *disk;
    struct hf_seglog_options options;
    char *dir;
    struct hf_seglog_segment **segments; /* in order of number */
    uint32_t segment_count;
    uint32_t segment_cap;
    struct hf_seglog_segment *open; /* the last of them, or NULL */
    uint64_t next_number;           /* of segments and spares; never used twice */
    uint64_t next_seq;
    uint64_t synced_seq;
    bool roll;
    bool short_of_space; /* the next segment is a small one: enough for deletions */
    uint64_t file_bytes; /* of segments */
    struct hf_seglog_append *queue;
    struct hf_seglog_append **queue_tail;
    struct hf_seglog_append *refused; /* fail from the task */
    struct hf_seglog_append **refused_tail;
    int failing; /* a failure that is not told yet: what is appended meanwhile was behind it */
    struct hf_task start_task;
    struct hf_task refuse_task;
    struct hf_seglog_batch batch;
    uint32_t failures; /* in a row */
    struct hf_seglog_spare *spares;
    uint32_t spare_count;
    uint32_t spare_cap;
    struct hf_job prepare_job;
    bool prepare_running;
    struct hf_seglog_spare prepare_spare;
    int prepare_err;
    bool prepare_failed;
    struct hf_seglog_dropped *dropped;
    uint32_t dropped_count;
    uint32_t dropped_cap;
    uint32_t drops_running;
    uint32_t drops_reusing; /* of them, those that become spares */
    bool closing;
    uint32_t reads_running;
    uint64_t trim_seq;
    struct hf_seglog_drop trim_drop;
    bool trim_running;
    struct hf_seglog_stats stats;
};

/* seglog.c */
void hf_seglog_init_queues(struct hf_seglog *log);
int hf_seglog_insert(struct hf_seglog *log, struct hf_seglog_segment *segment);
void hf_seglog_remove(struct hf_seglog *log, struct hf_seglog_segment *segment);
struct hf_seglog_segment *hf_seglog_find(const struct hf_seglog *log, uint64_t number);
/** The segment whose header tells where @segment ends, or NULL. */
struct hf_seglog_segment *hf_seglog_successor(const struct hf_seglog *log,
                                              const struct hf_seglog_segment *segment);
int hf_seglog_note_dropped(struct hf_seglog *log, uint64_t from, uint64_t to);
bool hf_seglog_is_dropped(const struct hf_seglog *log, uint64_t seq);
/** Fill in what a new segment gets; @prev: the one whose end it vouches for. */
void hf_seglog_plan_segment(struct hf_seglog *log, struct hf_segment_create *ret);
/** A closed segment's writer and, when there are many, its entries are not needed any more. */
void hf_seglog_retire(struct hf_seglog_segment *segment, enum hf_seglog_segment_state state);

/* batch.c */
void hf_seglog_batch_run(struct hf_job *job);

/* files.c */
int hf_seglog_add_spare(struct hf_seglog *log, const char *name);
bool hf_seglog_take_spare(struct hf_seglog *log, struct hf_seglog_spare *ret);
/** Prepare spares in the background until there are as many as wanted. */
void hf_seglog_want_spares(struct hf_seglog *log);

/* recover.c */
int hf_seglog_recover(struct hf_seglog *log);

#endif
