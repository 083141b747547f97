/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture.h - what both tools share: chance by seed, bytes that name their writer, processes that
 * take turns, a report.
 *
 * Turns: operations are numbered; each belongs to one process, and they run one at a time in the
 * order of their numbers, so that a seed plays the same whatever the scheduler does.
 *
 * A tool ends with 0: all as the model says, 1: a mismatch, 2: it could not be tried.
 */
#ifndef HF_TESTS_TORTURE_H
#define HF_TESTS_TORTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TORTURE_PROCESSES 64u
#define TORTURE_REPORT    16384u

/* Chance */

struct torture_rng {
    uint64_t state;
};

uint64_t torture_hash(uint64_t a, uint64_t b);
uint64_t torture_next(struct torture_rng *rng);
/** 0 .. @below - 1; @below > 0. */
uint64_t torture_draw(struct torture_rng *rng, uint64_t below);
bool torture_chance(struct torture_rng *rng, unsigned percent);
/** An index, as often as its weight says; the sum is > 0. */
unsigned torture_weighted(struct torture_rng *rng, const unsigned *weights, unsigned count);

/** The bytes that operation @id writes at @off of a file: never zero, and others for others. */
void torture_fill(uint8_t *bytes, uint64_t off, size_t len, uint64_t id);

/* Processes */

struct torture_shared { /* in shared memory */
    pthread_mutex_t lock;
    pthread_cond_t turn;
    uint64_t next, count;                 /* of operations */
    uint64_t began_at[TORTURE_PROCESSES]; /* ns, of the one under way; 0: none */
    bool failed;                          /* a mismatch; nothing more runs */
    uint64_t failed_id;
    size_t report_len;
    char report[TORTURE_REPORT];
};

/** Zeroed memory that children share. Ends the program when there is none. */
void *torture_shared_memory(size_t bytes);
void torture_shared_init(struct torture_shared *shared, uint64_t count);
/** Add to the report; the first call marks the failure. */
void torture_report(struct torture_shared *shared, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct torture_play {
    struct torture_shared *shared;
    unsigned processes;
    unsigned stall_s; /* an operation that takes longer has failed */
    bool quiet;       /* no progress */
    const char *tool;
    /* Whose turn is it? NULL: no turns; each process does 0 .. count / processes - 1 of its own. */
    unsigned (*owner)(void *ctx, uint64_t index);
    void (*step)(void *ctx, unsigned process, uint64_t index);
    void (*start)(void *ctx, unsigned process); /* in the new process; or NULL */
    void (*end)(void *ctx, unsigned process);   /* when nothing has failed; or NULL */
    void *ctx;
};
/** Run all operations in child processes. False: shared->failed, or a child died (reported). */
bool torture_play(const struct torture_play *play);

/* Options */

/** "123", "64k", "4m", "1g". False: no such number. */
bool torture_number(const char *text, uint64_t *ret);
uint64_t torture_now_ns(void);

#endif
