/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purger.h - drives the end of unlinked inodes: bounded PURGE entries, and the release of orphans
 * that their holder holds no longer.
 *
 * A holder named by the entry that unlinked the file may have closed it meanwhile, or may never
 * have held it (it had not told yet, after a restart): what the leader's open files do not show is
 * released by an entry of the leader's own. One that only came to the name just now is released
 * when that is forgotten (recent.h). A slow sweep finds what every other way missed.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_PURGER_H
#define HF_META_PURGER_H

#include "common/base/ids.h"
#include "common/env/env.h"

#define HF_PURGER_PARALLEL  4u
#define HF_PURGER_LOOKS_MAX 4096u /* more are left to the sweep */

struct hf_leader;

struct hf_purger_look {
    struct hf_ino ino;
    struct hf_session_id session;
    uint64_t due_ns; /* monotonic */
};

struct hf_purger {
    struct hf_timer timer, sweep;
    struct hf_timer looks_timer; /* armed while there are some */
    struct hf_purger_look
        *looks; /* a ring by due_ns: held by a look just now, and by nothing else */
    uint32_t looks_first, looks_count;
    struct hf_ino busy[HF_PURGER_PARALLEL]; /* 0: free */
    uint64_t backoff_ns;
};

/** Errors: -ENOMEM. */
int hf_purger_init(struct hf_leader *leader);
void hf_purger_start(struct hf_leader *leader);
void hf_purger_stop(struct hf_leader *leader);
void hf_purger_fini(struct hf_leader *leader);
/** There may be something to purge. */
void hf_purger_kick(struct hf_leader *leader);
/** @session closed @ino. */
void hf_purger_released(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session);
/** @session told for the first time what it holds. */
void hf_purger_claimed(struct hf_leader *leader, struct hf_session_id session);
/** @ino was unlinked naming these holders. */
void hf_purger_unlinked(struct hf_leader *leader, struct hf_ino ino, const uint64_t *holders,
                        uint32_t holder_count);
/** Does an entry name @session as a holder of the unlinked @ino, and is none on its way that
 *  releases it? */
bool hf_purger_is_holder(struct hf_leader *leader, struct hf_ino ino, struct hf_session_id session);

#endif
