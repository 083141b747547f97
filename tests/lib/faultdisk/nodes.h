/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodes.h - the files and directories of a fault disk that somebody knows: the kernel, or a change
 * that is not durable yet. Regular files and directories only.
 *
 * One node for each inode of the backing file system, found by its number; a node's descriptor
 * keeps that number from being given away. Threads: the disk's lock is held.
 */
#ifndef HF_TESTS_LIB_FAULTDISK_NODES_H
#define HF_TESTS_LIB_FAULTDISK_NODES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "tests/lib/faultdisk/undo.h"

#define HF_NODES_BUCKETS 1024u

struct hf_node {
    struct hf_node *next; /* of its bucket */
    uint64_t ino;
    int fd; /* a file: for reading and writing; a directory: for reading */
    bool is_dir;
    bool suspect;     /* a directory whose sync failed: none succeeds until the disk restarts */
    uint64_t lookups; /* what the kernel was told of it, less what it forgot */
    unsigned refs;    /* of changes of names */
    struct hf_undo bytes;
};

struct hf_nodes {
    struct hf_node *bucket[HF_NODES_BUCKETS];
    struct hf_node *root; /* never dropped */
};

/** @root_fd is taken, unless it fails. */
int hf_nodes_init(struct hf_nodes *nodes, int root_fd);
void hf_nodes_fini(struct hf_nodes *nodes);

/**
 * The node of @name in @dir, known or new; without a reference of its own: it lives until the next
 * hf_nodes_sweep() unless one is taken.
 * Errors: -errno of the backing file system; -EOPNOTSUPP: neither a file nor a directory.
 */
int hf_nodes_find(struct hf_nodes *nodes, const struct hf_node *dir, const char *name,
                  struct hf_node **ret, struct stat *ret_st);
/** Drop whom nobody knows: whose names are gone with it, or that has nothing unsynced. */
void hf_nodes_sweep(struct hf_nodes *nodes);
/** The kernel has forgotten everything: a new mount. */
void hf_nodes_forget_all(struct hf_nodes *nodes);

/** Where the node lies now, below the root: "/a/b"; what was removed and is still open: "?". */
void hf_nodes_path(const struct hf_nodes *nodes, const struct hf_node *node,
                   char ret[static PATH_MAX]);

#endif
