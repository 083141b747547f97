/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_names.h - a simulated disk's inodes and directories, and which names survive a power cut.
 *
 * Every directory has current entries and durable ones; the changes between them wait, in order,
 * in one list. Inodes are counted by their names (both kinds), by waiting changes and by handles.
 */
#ifndef HF_TESTS_LIB_SIM_NAMES_H
#define HF_TESTS_LIB_SIM_NAMES_H

#include "tests/lib/sim_data.h"

struct hf_sim_inode;

struct hf_sim_entry {
    char *name;
    struct hf_sim_inode *inode;
};

struct hf_sim_dir {
    struct hf_sim_entry *entry;
    size_t count;
    size_t cap;
};

struct hf_sim_inode {
    struct hf_sim_inode *prev, *next; /* all of the disk */
    unsigned refs;
    unsigned links; /* current names */
    unsigned handles;
    struct hf_sim_data *data; /* NULL: a directory */
    struct hf_sim_dir current;
    struct hf_sim_dir durable;
    bool suspect;  /* a sync of this directory failed */
    int locked_by; /* pid; 0: not locked */
};

struct hf_sim_change;

struct hf_sim_names {
    struct hf_sim_inode *root;
    struct hf_sim_inode *all;
    struct hf_sim_change *head; /* not durable yet */
    struct hf_sim_change **tail;
};

void hf_sim_names_init(struct hf_sim_names *names);
void hf_sim_names_fini(struct hf_sim_names *names);

struct hf_sim_inode *hf_sim_inode_new(struct hf_sim_names *names, bool is_dir); /* no reference */
void hf_sim_inode_ref(struct hf_sim_inode *inode);
void hf_sim_inode_unref(struct hf_sim_names *names, struct hf_sim_inode *inode);

/**
 * The inode at @path, NULL in @ret when its last part is missing; also its directory and the
 * start of its last part ("" and the root for "/"). All borrowed.
 * Errors: -EINVAL (not absolute, "." or ".."), -ENAMETOOLONG, -ENOENT, -ENOTDIR.
 */
int hf_sim_names_find(struct hf_sim_names *names, const char *path, struct hf_sim_inode **ret,
                      struct hf_sim_inode **ret_dir, char ret_name[static 256]);

/**
 * One atomic change of names: @from_name goes from @from_dir (NULL: none goes), @inode appears as
 * @to_name in @to_dir (NULL: nowhere), in place of what was there.
 */
void hf_sim_names_change(struct hf_sim_names *names, struct hf_sim_inode *from_dir,
                         const char *from_name, struct hf_sim_inode *to_dir, const char *to_name,
                         struct hf_sim_inode *inode);
void hf_sim_names_sync(struct hf_sim_names *names, struct hf_sim_inode *dir);
/** Names and bytes: what was not durable is decided, current becomes durable. */
void hf_sim_names_cut(struct hf_sim_names *names, struct hf_sim_rng *rng, enum hf_sim_cut mode);

#endif
