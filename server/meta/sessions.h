/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions.h - what the leader knows of each live session, and the end of those it hears no more.
 *
 *     (applied SESSION_OPEN, or found at start) ──► HEARD ──silent for its TTL──► EVICTING ──► gone
 *
 * After a restart every session counts as just heard, and as holding any file open until its first
 * RENEW has told what it holds, in several parts where it is much: an unlink before the last part
 * names it as a holder.
 *
 * Time: boot clock. Threads: loop thread only.
 */
#ifndef HF_META_SESSIONS_H
#define HF_META_SESSIONS_H

#include "common/env/env.h"
#include "server/meta/opens.h"

struct hf_leader;
struct hf_lop;

struct hf_lsession {
    struct hf_hmap_node node;
    struct hf_opens_session opens; /* with the id */
    struct hf_lsession *prev, *next;
    uint64_t ttl_ns;
    uint64_t heard_ns;      /* boot clock */
    uint64_t queued_stream; /* highest number taken in; <= answered + window */
    uint64_t budget_bytes;
    uint64_t last_wait;    /* highest number of a wait for a lock that came, or was ended */
    uint64_t claim_cookie; /* that its next claims carry; 0: the leader's */
    uint64_t claim_count;  /* numbers in the parts that have come; 0: none has */
    bool claimed;          /* told what it holds open since this leader started */
    bool evicting;         /* the entry is on its way */
    struct hf_lop *queue_head, *queue_tail; /* wait, in order, for a name in flight */
};

struct hf_sessions {
    struct hf_hmap by_id;
    struct hf_lsession *head;
    uint32_t count, unclaimed;
    uint64_t id_max; /* highest id ever seen: nothing is known of ids above it */
    uint64_t ended;  /* count of ends seen */
    struct hf_timer timer;
    uint64_t tick_ns, last_tick_ns;
};

/** Loads the live ones from the state. Errors: -ENOMEM. */
int hf_sessions_init(struct hf_leader *leader);
void hf_sessions_start(struct hf_leader *leader);
void hf_sessions_stop(struct hf_leader *leader);
void hf_sessions_fini(struct hf_leader *leader);

/** NULL: unknown or ended. */
struct hf_lsession *hf_sessions_find(struct hf_leader *leader, struct hf_session_id id);
/** A session was opened (or its opening repeated). NULL: out of memory. */
struct hf_lsession *hf_sessions_opened(struct hf_leader *leader, struct hf_session_id id,
                                       uint64_t ttl_ns);
/** A session ended: its open files, waiters and queue go. */
void hf_sessions_closed(struct hf_leader *leader, struct hf_session_id id);
/** It told what it holds open. */
void hf_sessions_claimed(struct hf_leader *leader, struct hf_lsession *session);
void hf_sessions_heard(struct hf_leader *leader, struct hf_lsession *session);
/** The sessions are those of the applied state; what they hold open and what waits is counted. */
void hf_sessions_check_invariants(const struct hf_leader *leader);

#endif
