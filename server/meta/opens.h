/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opens.h - which session holds which inode open; leader memory.
 *
 * A set of (inode, session) pairs, walked from either side. After a restart it is empty until the
 * sessions claim what they hold. Each pair has the highest number that the session opened it under:
 * a release that comes late, behind an opening under a higher one, does nothing.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_OPENS_H
#define HF_META_OPENS_H

#include "common/base/ids.h"
#include "server/meta/hmap.h"

/** Most pairs of one session: a client cannot fill the leader's memory. */
#define HF_OPENS_PER_SESSION_MAX (1u << 20)

struct hf_open;

struct hf_opens {
    struct hf_hmap by_ino;
};

struct hf_opens_session { /* embedded in what the leader knows of a session */
    struct hf_session_id id;
    struct hf_open *head;
    uint32_t count;
};

/** Errors: -ENOMEM. */
int hf_opens_init(struct hf_opens *opens);
void hf_opens_fini(struct hf_opens *opens);

/** Adding what is there is not an error. Errors: -ENOMEM, -ENFILE. */
int hf_opens_add(struct hf_opens *opens, struct hf_opens_session *session, struct hf_ino ino,
                 uint64_t number);
/** @number  the session's last for it; UINT64_MAX: whatever it is */
void hf_opens_del(struct hf_opens *opens, struct hf_opens_session *session, struct hf_ino ino,
                  uint64_t number);
void hf_opens_drop(struct hf_opens *opens, struct hf_opens_session *session);
bool hf_opens_has(const struct hf_opens *opens, struct hf_session_id session, struct hf_ino ino);
/** Sessions that hold @ino, each passed to fn. */
void hf_opens_holders(const struct hf_opens *opens, struct hf_ino ino,
                      void (*fn)(void *ctx, struct hf_session_id session), void *ctx);

/** Returns how many there are, which is what is counted. */
uint32_t hf_opens_check_session(const struct hf_opens *opens,
                                const struct hf_opens_session *session);

#endif
