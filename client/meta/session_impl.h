/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_impl.h - what session.c (link, renewals, map), ranges.c and stream.c (calls) share.
 *
 *   link:  DRAINING ──nothing in flight──► WAITING ──timer──► PROBING ──answered──► UP
 *             ▲                              ▲──────error───────┘                    │
 *             └────────────── any call that failed on its way ───────────────────────┘
 *
 * A link goes UP only by a probe (open, renewal or map) that the leader answered, and DRAINING
 * waits for every call of the old link to end: so what is resent is resent in order, and never
 * next to itself.
 */
#ifndef HF_CLIENT_META_SESSION_IMPL_H
#define HF_CLIENT_META_SESSION_IMPL_H

#include <sys/queue.h>

#include "client/meta/session.h"

#define SESSION_PEERS_MAX 8u

enum session_state { SESSION_NEW, SESSION_OPENING, SESSION_LIVE, SESSION_LOST, SESSION_CLOSED };
enum link_state { LINK_DRAINING, LINK_WAITING, LINK_PROBING, LINK_UP };

struct session_peer {
    char addr[HF_ADDR_BYTES_MAX];
    struct hf_rpc_peer *rpc;
    int last_err;
    bool tried;
    uint64_t silent_ns; /* when it last did not answer at all: the others first; 0: never */
};

enum call_kind { CALL_OP, CALL_READ, CALL_CLOSE };

struct session_call { /* in hf_meta_call.impl */
    TAILQ_ENTRY(session_call) link;
    struct hf_session *session;
    struct hf_rpc_call rpc;
    uint8_t *bytes; /* encoded message, then the bulk; owned */
    size_t msg_len;
    struct iovec bulk;
    enum call_kind kind;
    bool sent;     /* given to rpc, not yet back */
    bool waits;    /* may be answered late: HF_RD_LOCK_WAIT */
    bool unwanted; /* not sent again */
    int err;       /* on the failed list */
};
static_assert(sizeof(struct session_call) <= sizeof(((struct hf_meta_call *)0)->impl),
              "a call's state fits the caller's memory");

TAILQ_HEAD(session_call_list, session_call);

struct budget_waiter {
    TAILQ_ENTRY(budget_waiter) link;
    uint64_t bytes;
    uint32_t tries; /* renewals that asked for it in vain */
    bool asked;     /* the renewal under way includes it */
    bool spare;     /* wants nothing but that no renewal asks for more than is needed */
    void (*done)(void *ctx, int err);
    void *ctx;
};
TAILQ_HEAD(budget_waiter_list, budget_waiter);

struct ino_waiter {
    TAILQ_ENTRY(ino_waiter) link;
    void (*done)(void *ctx, int err);
    void *ctx;
};
TAILQ_HEAD(ino_waiter_list, ino_waiter);

struct session_note { /* a callback that waits for the task */
    void (*done)(void *ctx, int err);
    void *ctx;
    int err;
    bool due;
};

struct hf_session {
    struct hf_env *env;
    struct hf_session_options options;
    char name[64];
    enum session_state state;
    int lost_err;
    bool freeing, freed;

    struct session_peer peers[SESSION_PEERS_MAX];
    uint32_t peer_count, current, round; /* round: peers tried since the last wait */
    bool hinted;                         /* a hint was followed in this round */
    enum link_state link;
    uint32_t inflight; /* rpc calls not yet back */
    uint64_t backoff_ns;
    uint64_t down_since_ns;
    struct hf_timer retry;    /* WAITING */
    struct hf_timer deadline; /* open, close and op timeouts */
    uint64_t open_deadline_ns, close_deadline_ns;

    struct hf_rpc_call probe;
    bool probing; /* probe is in flight */
    bool renew_again;
    struct hf_timer tick;
    uint64_t renew_sent_boot_ns, ttl_ns;
    uint64_t claim_cookie; /* the next renewal claims open inodes, to the leader that gave this */
    uint64_t claim_count;  /* numbers that it has, of claims that go on; 0: begin with the first */
    uint64_t *claims;      /* options.claims_max of them */
    struct hf_timer wake;  /* waiters for space or inode numbers */

    struct hf_uuid uuid; /* of this mount */
    struct hf_session_id id;
    struct hf_session_rights rights;
    uint64_t floor, next_object;

    struct hf_map map;
    bool has_map, map_wanted, map_inflight;
    struct hf_rpc_call map_call;

    struct session_call_list ops;   /* by stream number; answered ones are gone */
    struct session_call *next_op;   /* first of ops not sent; NULL: all are */
    struct session_call_list reads; /* not yet sent */
    struct session_call_list reads_sent;
    struct session_call_list reads_back; /* unanswered; they go before reads */
    struct session_call_list failed;     /* to be ended by the task */
    uint32_t reads_out, waits_out;
    uint64_t last_stream;
    uint32_t refused; /* links lost by a call since one was last answered */
    uint32_t gaps;    /* calls refused for the stream's sake, likewise */

    uint64_t granted, used, asked; /* bytes */
    uint64_t answered;             /* granted by the last renewal */
    uint64_t spent, spent_at_ask;  /* since the session began; when the renewal was sent */
    uint64_t no_space_until_ns;    /* mono */
    uint64_t full_until_ns;        /* take_budget answers -ENOSPC */
    struct budget_waiter_list budget_waiters;

    uint64_t ino_next, ino_end, ino2_first, ino2_count;
    bool ino_inflight;
    struct hf_meta_call ino_call;
    struct ino_waiter_list ino_waiters;

    bool close_sent, closing;
    struct hf_meta_call close_call;
    struct session_note open_note, close_note, lost_note;
    struct hf_task task;
    char tried[1024];
    uint8_t msg[HF_RPC_MSG_MAX]; /* encoder's room */
};

/* session.c */

/** The error says nothing about the request, only about its way there. */
bool session_err_is_link(const struct hf_session *s, int err);
/** Some call's way failed: drain, probe after @delay_ns, resend. */
void session_link_lost(struct hf_session *s, uint64_t delay_ns);
/** A call to the current peer ended with @err. */
void session_peer_failed(struct hf_session *s, int err);
/** A call ended: goes on draining. */
void session_call_back(struct hf_session *s);
/** What any answer tells. */
void session_learn(struct hf_session *s, const struct hf_meta_reply *reply);
void session_lost(struct hf_session *s, int why);
void session_pump(struct hf_session *s);
void session_post(struct hf_session *s);
void session_renew_soon(struct hf_session *s);
bool session_dead(const struct hf_session *s);

/* ranges.c */

void ranges_init(struct hf_session *s);
/** The budget to ask for; everybody who waits is in it. */
uint64_t ranges_want(struct hf_session *s);
/** What the leader answered to the renewal. */
void ranges_granted(struct hf_session *s, uint64_t bytes);
/** s->granted is new. */
void ranges_renewed(struct hf_session *s);
void ranges_fail(struct hf_session *s, int err);

/* stream.c */

void stream_init(struct hf_session *s);
void stream_submit(struct hf_session *s, const struct hf_meta_op *op, enum call_kind kind,
                   struct hf_meta_call *call);
void stream_pump(struct hf_session *s);
/** Ask for every call in flight to come back, unanswered. */
void stream_cancel(struct hf_session *s);
/** All calls are back: everything unanswered is to be sent again. */
void stream_rewind(struct hf_session *s);
/** Move what is not in flight to the failed list. */
void stream_fail_all(struct hf_session *s);
/** End the failed calls. */
void stream_flush_failed(struct hf_session *s);
/** Returns the calls in flight. */
uint32_t stream_check(const struct hf_session *s);

#endif
