/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h - what the programs of the clients share: their models, which outlive their lives.
 *
 *     load_append.c  a file to which all append, without a lock
 *     load_locks.c   byte-range and whole-file locks of several processes on each client
 *     load_tree.c    one directory per client, which only its own program changes: exact, but for
 *                    the one change under way when it died; others look at what was synced
 *     load_tree_data.c  the contents of its files
 *     load_shared.c  a log that all append to under a lock, names that all fight for, and files
 *                    that are replaced and removed while others have them open
 *     load_flags.c   names of one program each, changed all at the same time, looked at by all
 */
#ifndef HF_TESTS_SIM_LOAD_H
#define HF_TESTS_SIM_LOAD_H

#include "tests/sim/cluster/actor.h"
#include "tests/sim/cluster/contents.h"
#include "tests/sim/cluster/lin.h"

struct tree;
struct shared;
struct stream;
struct locks;
struct flags;

#define LOAD_FLAGS 6u /* of each client */

struct sim_load {
    struct tree *trees[SIM_CLIENTS_MAX];
    struct shared *shared;
    struct stream *stream;
    struct locks *locks;
    struct flags *flags;
};

/** False: the program is to end. */
bool load_goes_on(const struct actor *a);
/** The session is lost: the program ends, and with it what it was about to do. */
bool load_is_lost(struct actor *a, int err);
/** @err is of @what a program needs to begin; returned again. It fails unless its session is lost
 * or a disk has been full. */
int load_begun(struct actor *a, const char *what, int err);
/** Nothing of the client's life before can happen any more. */
void load_wait_for_end(struct actor *a);
/**
 * May a flush since @since_ns have met a full disk? What was written may be dropped then; the next
 * fsync or close says so (I10).
 */
bool load_met_full(const struct sim *s, uint64_t since_ns);
/** @err of a call, or of what was written behind, since @since_ns: is it ENOSPC, and may it be? */
bool load_is_full(const struct actor *a, int err, uint64_t since_ns);
/** An fsync of @ino, to which nobody else writes here, succeeded: nothing of it may be dirty (I1).
 */
void load_check_clean(struct actor *a, struct hf_ino ino);
/** A name below @dir, made if it is missing; its inode, or an error of a lost session. */
int load_dir(struct actor *a, struct hf_ino dir, const char *name, struct hf_ino *ret);
/** The contents of a file from @off on; *ret is malloc'd. */
int load_read_from(struct actor *a, struct hf_fs_file *file, uint64_t off, uint8_t **ret,
                   uint64_t *ret_len);
int load_read_all(struct actor *a, struct hf_fs_file *file, uint8_t **ret, uint64_t *ret_len);

struct tree *tree_new(void);
/** Finds the tree as it was left, then works on it. @arg  unused */
void tree_program(struct actor *a, void *arg);
/** Looks at the trees of others. @arg  unused */
void tree_look_program(struct actor *a, void *arg);
/** Reads everything that every client's tree must hold. @arg  bool *: set when it is done */
void tree_final_program(struct actor *a, void *arg);

struct shared *shared_new(void);
void shared_append_program(struct actor *a, void *arg);
void shared_names_program(struct actor *a, void *arg);
void shared_files_program(struct actor *a, void *arg);
void shared_final_program(struct actor *a, void *arg);

struct stream *stream_new(void);
/** Appends, syncs and reads. @arg  unused */
void stream_program(struct actor *a, void *arg);
/** Reads it whole; @top: the directory that it is in. */
bool stream_final(struct actor *a, struct hf_ino top);
/** Is what was seen linearizable? */
void shared_check(struct sim *s);

struct locks *locks_new(void);
/** One process that locks and unlocks. @arg  unused */
void locks_program(struct actor *a, void *arg);
/** At rest: are those who wait woken, and told of a deadlock? */
bool locks_final(struct actor *a);

struct flags *flags_new(void);
/** Makes and removes one. @arg  const uint32_t *: which of the client's, below LOAD_FLAGS */
void flags_program(struct actor *a, void *arg);
/** Looks at everybody's. @arg  unused */
void flags_look_program(struct actor *a, void *arg);

#endif
