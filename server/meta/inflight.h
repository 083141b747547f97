/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inflight.h - names and inodes that entries in flight are about to change; leader memory.
 *
 * An UNLINK or a RENAME over something carries the sessions that hold the victim open, so its
 * proposer must know which inode the name will mean when the entry is applied: it waits while
 * another entry in flight touches the same (parent, name). While it is in flight its victim is
 * guarded: an OPEN of that inode is answered only after it.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_INFLIGHT_H
#define HF_META_INFLIGHT_H

#include "common/base/ids.h"
#include "server/meta/hmap.h"

struct hf_name_mark { /* one name of an entry in flight; embedded */
    struct hf_hmap_node node;
    struct hf_ino parent;
    const char *name; /* borrowed until hf_inflight_del() */
    size_t len;
};

struct hf_guard_mark { /* the victim of an entry in flight; embedded */
    struct hf_hmap_node node;
    struct hf_ino ino;
};

struct hf_inflight {
    struct hf_hmap names, guards;
    uint64_t seed;
};

/** Errors: -ENOMEM. */
int hf_inflight_init(struct hf_inflight *inflight, uint64_t seed);
void hf_inflight_fini(struct hf_inflight *inflight);

bool hf_inflight_busy(const struct hf_inflight *inflight, struct hf_ino parent, const char *name,
                      size_t len);
/** mark->parent, name and len are set. */
void hf_inflight_add(struct hf_inflight *inflight, struct hf_name_mark *mark);
void hf_inflight_del(struct hf_inflight *inflight, struct hf_name_mark *mark);

bool hf_inflight_guarded(const struct hf_inflight *inflight, struct hf_ino ino);
void hf_inflight_guard(struct hf_inflight *inflight, struct hf_guard_mark *mark, struct hf_ino ino);
void hf_inflight_unguard(struct hf_inflight *inflight, struct hf_guard_mark *mark);

#endif
