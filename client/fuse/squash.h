/* SPDX-License-Identifier: Apache-2.0 */
/*
 * squash.h - a request of root as one of an ordinary user: which rights it needs, and its bytes
 * changed so that the user makes it.
 *
 *     request of uid 0 ──► plan ──► (gate.c asks for attributes and ACLs) ──► rewrite ──► libfuse
 *
 * The kernel checks everybody's rights (default_permissions) but lets root do anything, so what
 * root asks for is checked here. Not asked at all, and so not checked: chdir(2) and access(2),
 * which the kernel answers itself, and what goes by an open file, which was checked when it was
 * opened; write-back, which is uid 0 too, is of that kind.
 *
 * Whoever is root on a client can become any user there; this keeps root's programs from doing by
 * their power what nobody meant them to do. It does not keep an attacker out.
 *
 * Pure: bytes in, steps out.
 */
#ifndef HF_FUSE_SQUASH_H
#define HF_FUSE_SQUASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/fuse/rights.h"
#include "common/base/ids.h"

#define HF_SQUASH_STEPS_MAX 6u

struct hf_squash {
    bool on;
    bool setxattr_ext;         /* as struct hf_raw has it: how long a SETXATTR is */
    struct hf_rights_who anon; /* whom root acts as */
};

enum hf_squash_kind {
    HF_SQUASH_RIGHTS, /* ino: want, gid of hf_rights_check() */
    HF_SQUASH_REMOVE, /* name of directory ino, whose rights came before: may go from it */
    HF_SQUASH_MOVE,   /* name of directory ino: if a directory, its ".." may be written */
};

struct hf_squash_step {
    enum hf_squash_kind kind;
    struct hf_ino ino;
    const char *name; /* in the request */
    uint32_t want, gid;
};

struct hf_squash_plan {
    struct hf_squash_step steps[HF_SQUASH_STEPS_MAX];
    uint32_t count; /* 0: nothing to be checked */
    int err;        /* after the steps: no ordinary user may do it; or 0 */
};

/** Is it one that root makes? */
bool hf_squash_is_root(const void *data, size_t len);
/** Would it change anything, or open a file to change it? */
bool hf_squash_is_change(const void *data, size_t len);
/**
 * In the order in which the kernel would check.
 * Errors: -EPERM, -ENODATA  whatever the inode, no ordinary user may; -EINVAL  malformed
 */
int hf_squash_plan(const struct hf_squash *squash, const void *data, size_t len,
                   struct hf_squash_plan *ret);
/**
 * Have the user make it: also no bits of set-ID that only root may give, or keep by a write.
 *
 * @attr  of the inode of the first step; NULL: there was none, or nothing is known of it
 */
void hf_squash_rewrite(const struct hf_squash *squash, void *data, size_t len,
                       const struct hf_attr *attr);

#endif
