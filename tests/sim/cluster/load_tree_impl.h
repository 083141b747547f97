/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_tree_impl.h - what the two halves of the tree's program share.
 *
 *     load_tree.c       names and attributes; the tree found again; others look
 *     load_tree_data.c  contents
 */
#ifndef HF_TESTS_SIM_LOAD_TREE_IMPL_H
#define HF_TESTS_SIM_LOAD_TREE_IMPL_H

#include "tests/sim/cluster/load.h"
#include "tests/sim/cluster/shape.h"

#define TREE_HANDLES 4

struct tree_handle {
    struct hf_fs_file *file;
    int node;
};

struct tree {
    struct shape shape;
    struct shape_change pending; /* under way, or of unknown fate */
    struct tree_handle handles[TREE_HANDLES];
    uint64_t version; /* counts changes of the shape */
    uint64_t tag;     /* last one given out */
    bool known;       /* the model is what the tree is */
};

bool tree_is_open(const struct tree *t, int node);
/** Nodes without a name that nobody has open. */
void tree_sweep(struct tree *t);
uint64_t tree_below(struct actor *a, uint64_t end);
/** A random node of one of these types that has a name; SHAPE_NONE: there is none. */
int tree_pick(struct actor *a, const struct shape *sh, bool dirs, bool files, bool links);

/** Writes, reads and so on. False: the session is lost, or the run has failed. */
bool tree_change_contents(struct actor *a, struct tree *t);
bool tree_sync_handle(struct actor *a, struct tree *t, struct tree_handle *h, bool close);
/** Read it whole: what is there now is what counts from here on. An error: lost or failed. */
int tree_reread(struct actor *a, struct shape_node *node, struct hf_fs_file *file,
                void (*take)(struct contents *c, const uint8_t *bytes, uint64_t size));
/** @at  -1: right */
bool tree_wrong_bytes(struct actor *a, const char *invariant, const struct shape_node *node,
                      int64_t at, uint64_t size);

#endif
