/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recent.h - which sessions came to an inode by name just now, and so may be about to open it, or
 * to read a link.
 *
 *     LOOKUP name -> inode ──(unlink, or rename over it)──► OPEN, or READLINK, inode
 *
 * A local file system opens in one step; here the entry between the two must name the session as a
 * holder, or its open would fail although the name was there all the time. (Not the one that
 * unlinks, see ops.c.) Forgetful: a bounded table, newest first; what it forgets, or keeps too
 * long, costs one stale open, or a release.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_RECENT_H
#define HF_META_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/ids.h"

#define HF_RECENT_SETS 8192u /* power of two */
#define HF_RECENT_WAYS 4u
#define HF_RECENT_NS   UINT64_C(1000000000)

struct hf_recent_look {
    struct hf_ino ino;
    struct hf_session_id session;
    uint64_t at_ns;
};

struct hf_recent {
    struct hf_recent_look (*sets)[HF_RECENT_WAYS];
};

/** Errors: -ENOMEM. */
int hf_recent_init(struct hf_recent *recent);
void hf_recent_fini(struct hf_recent *recent);
void hf_recent_note(struct hf_recent *recent, struct hf_ino ino, struct hf_session_id session,
                    uint64_t now_ns);
bool hf_recent_has(const struct hf_recent *recent, struct hf_ino ino, struct hf_session_id session,
                   uint64_t now_ns);
/** Each session that came to @ino just now. */
void hf_recent_each(const struct hf_recent *recent, struct hf_ino ino, uint64_t now_ns,
                    void (*fn)(void *ctx, struct hf_session_id session), void *ctx);

/** Walks the whole table: each look in its set, once, the newest first. */
void hf_recent_check_invariants(const struct hf_recent *recent);

#endif
