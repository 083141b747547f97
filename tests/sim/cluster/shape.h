/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.h - the model of a directory tree: its names and attributes, and what a change must answer.
 *
 * Of a few nodes, a few names in each directory, a few levels. Contents are kept beside
 * (contents.h). Threads: one.
 */
#ifndef HF_TESTS_SIM_SHAPE_H
#define HF_TESTS_SIM_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/ids.h"

#define SHAPE_NODES      40
#define SHAPE_NAMES      64
#define SHAPE_NAME_KINDS 6 /* "n0" .. "n5" in every directory */
#define SHAPE_DEPTH_MAX  3
#define SHAPE_XATTRS     2 /* names of extended attributes */
#define SHAPE_TOP        0
#define SHAPE_NONE       (-1)

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

struct contents;

struct shape_node {
    bool used;
    uint32_t type, mode, nlink;
    struct hf_ino ino; /* 0: made by a change of which nobody knows whether it happened */
    struct contents *contents;
    uint32_t xattrs[SHAPE_XATTRS]; /* values; 0: none */
    uint64_t target;
    uint64_t clean_ns; /* when nothing of it was unsynced, the last time that this was known */
    bool must_report;  /* bytes were lost of which nobody has heard yet */
    bool vague;        /* unreadable after a death or an error: any change may be missing */
};

struct shape_name {
    bool used;
    int dir, name, node;
};

enum shape_change_kind {
    CHANGE_NONE,
    CHANGE_CREATE,
    CHANGE_MKDIR,
    CHANGE_SYMLINK,
    CHANGE_LINK,
    CHANGE_UNLINK,
    CHANGE_RMDIR,
    CHANGE_RENAME,
    CHANGE_CHMOD,
    CHANGE_SETXATTR,
    CHANGE_REMOVEXATTR,
};

struct shape_change {
    enum shape_change_kind kind;
    int node, dir, name, dir2, name2;
    uint32_t flags, mode; /* flags of an attribute: which one */
    uint64_t value;
};

struct shape { /* copied to try a change */
    struct shape_node nodes[SHAPE_NODES];
    struct shape_name names[SHAPE_NAMES];
};

/** The node that a name in a directory names; SHAPE_NONE. */
int shape_node_at(const struct shape *sh, int dir, int name);
int shape_name_count(const struct shape *sh, int dir);
int shape_free_node(const struct shape *sh);

/** What the change has to answer. */
int shape_expected(const struct shape *sh, const struct shape_change *c);
/** The kernel, or the model's size, rules it out. */
bool shape_is_senseless(const struct shape *sh, const struct shape_change *c);
/** The change succeeds; @ino of what it made. Contents are not touched. */
void shape_apply(struct shape *sh, const struct shape_change *c, struct hf_ino ino);

const char *shape_name_text(int name);
/** Returns @ret. */
const char *shape_change_str(const struct shape_change *c, char ret[128]);

#endif
