/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reaper.h - deletes objects that no extent names any more, on every member of their group.
 *
 *   dead row ──seen──► WAITING ──grace──► DELETING ──all members confirmed──► OBJECTS_GONE ──► row
 * gone └─ only absent members left ─► STUCK ──map changes──┘
 *
 * The grace is for readers: a client may be fetching the object by extents that were true when it
 * asked. It is counted in memory, from when the row was first seen; after a restart it begins anew.
 * Members that are down keep the row alive until they return.
 *
 * Only the state machine's count of references makes an object dead, in an entry that a majority
 * has committed; and what is dead stays so, for an id enters once. So a leader that was deposed and
 * does not know it yet deletes nothing that another one needs. Its word that objects are gone is an
 * entry like any other.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_REAPER_H
#define HF_META_REAPER_H

#include "common/base/ids.h"
#include "common/env/env.h"
#include "server/meta/hmap.h"

#define HF_REAPER_GRACE_NS    (10 * HF_NS_PER_SEC)
#define HF_REAPER_OBJECTS_MAX 65536u /* in memory at a time; the rest waits in the table */

struct hf_leader;
struct hf_dead;

struct hf_dead_list {
    struct hf_dead *head, *tail;
    uint32_t count;
};

struct hf_reaper {
    struct hf_hmap by_oid;
    struct hf_dead_list active; /* in order of being seen */
    struct hf_dead_list stuck;
    struct hf_timer timer;
    bool scan_started; /* scan_after counts */
    struct hf_oid scan_after;
    uint64_t scan_again_ns; /* the next pass over the rows not before */
    uint64_t unstick_ns;
};

/** Errors: -ENOMEM. */
int hf_reaper_init(struct hf_leader *leader);
void hf_reaper_start(struct hf_leader *leader);
void hf_reaper_stop(struct hf_leader *leader);
void hf_reaper_fini(struct hf_leader *leader);
/** There may be dead objects, or the map changed. */
void hf_reaper_kick(struct hf_leader *leader);
/** Members came or went. */
void hf_reaper_unstick(struct hf_leader *leader);

/** Each dead object is on one list; who is asked to delete it is at it. */
void hf_reaper_check_invariants(const struct hf_leader *leader);

#endif
