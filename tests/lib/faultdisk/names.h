/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - which names of a fault disk survive a power cut.
 *
 * The backing tree holds the names that are seen now. Changes wait, in order, in one list, until a
 * sync of one of their directories; a file that was removed or replaced waits in the attic. A cut
 * undoes all of them, newest first, and does some again: for each directory, or for each name, a
 * prefix of its changes. A rename from one directory into another stays whole. A sync of a file
 * makes no name durable.
 *
 * As tests/lib/sim_names.h, which does the same in memory. Threads: the disk's lock is held.
 */
#ifndef HF_TESTS_LIB_FAULTDISK_NAMES_H
#define HF_TESTS_LIB_FAULTDISK_NAMES_H

#include "tests/lib/faultdisk/nodes.h"

struct hf_name_change;

struct hf_names {
    struct hf_name_change *first, *last; /* not durable yet */
    uint64_t count;
    uint64_t next_id;
    int attic_fd;
};

/** @attic_fd: an empty directory on the file system of the tree; taken. */
void hf_names_init(struct hf_names *names, int attic_fd);
void hf_names_fini(struct hf_names *names);

/* Errors: -errno of the backing file system. */

/** @name was made in @dir: file, directory or link. */
void hf_names_made(struct hf_names *names, struct hf_node *dir, const char *name);
/** Takes a file, or an empty directory, away. Errors: also -EISDIR, -ENOTDIR, -ENOTEMPTY. */
int hf_names_remove(struct hf_names *names, struct hf_node *dir, const char *name, bool is_dir);
int hf_names_rename(struct hf_names *names, struct hf_node *from_dir, const char *from_name,
                    struct hf_node *to_dir, const char *to_name);

/** A chosen change takes along every earlier one of the directories it touches. */
void hf_names_sync(struct hf_names *names, const struct hf_node *dir);
/** Afterwards everything is durable. */
int hf_names_cut(struct hf_names *names, struct hf_sim_rng *rng, enum hf_undo_cut mode);

#endif
