/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft_impl.h - the core's state, shared by the files of this room only.
 *
 *     raft.c       lifecycle, dispatch, what every step ends with, getters
 *     log.c        index -> (term, type, size), from the trimmed head to last
 *     election.c   terms, votes, roles, the follower's and the leader's clocks
 *     follow.c     what a leader's append does here; completions of the own log's writes
 *     replicate.c  a leader's view of its peers: what to send, what they hold, commitment
 *     config.c     members, one change at a time, rolled back with its entry
 *     propose.c    proposals and leadership transfer
 *     read.c       reads confirmed by rounds of heartbeats
 *     snapshot.c   chunks to a peer that is too far behind; chunks from a leader
 *     check.c      invariants
 */
#ifndef HF_RAFT_RAFT_IMPL_H
#define HF_RAFT_RAFT_IMPL_H

#include <errno.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "server/raft/raft.h"

#define RAFT_SENDS_PER_STEP 4u  /* append messages to one peer; more follow with its answers */
#define RAFT_ROUNDS_KEPT    64u /* whose start is remembered */
#define RAFT_SPARE_SLOTS    2u  /* reserved beyond any limit: the no-op and a configuration */

/* The log's index */

struct raft_slot {
    uint64_t term;
    uint64_t end_bytes; /* of all payload since the core was made; differences are sizes */
    uint8_t type;
};

struct raft_log {
    struct raft_slot *slots; /* ring: entry i is at i & (capacity - 1) */
    uint64_t capacity;       /* power of two, or 0 */
    uint64_t base, base_term, base_end_bytes;
    uint64_t last;
};

/** Room for @free_slots more entries. Errors: -ENOMEM, with nothing changed. */
int hf_raft_log_reserve(struct raft_log *log, uint64_t free_slots, void *(*alloc)(size_t));
void hf_raft_log_push(struct raft_log *log, uint64_t term, uint8_t type, uint32_t bytes);
void hf_raft_log_truncate(struct raft_log *log, uint64_t from);
void hf_raft_log_trim(struct raft_log *log, uint64_t to);
void hf_raft_log_reset(struct raft_log *log, uint64_t base, uint64_t base_term);
/** @index in base .. last. */
uint64_t hf_raft_log_term(const struct raft_log *log, uint64_t index);
/** Payload bytes of entries above @after, up to @to. */
uint64_t hf_raft_log_bytes(const struct raft_log *log, uint64_t after, uint64_t to);
const struct raft_slot *hf_raft_log_slot(const struct raft_log *log, uint64_t index);
/** The lowest index above @floor whose entry has the term of @index. */
uint64_t hf_raft_log_term_start(const struct raft_log *log, uint64_t index, uint64_t floor);
/** The highest index up to @index, but not below base, whose term is at most @term. */
uint64_t hf_raft_log_term_end(const struct raft_log *log, uint64_t index, uint64_t term);

/* A leader's view of a member */

enum peer_state {
    PEER_PROBE,     /* one message at a time, until prev matches */
    PEER_REPLICATE, /* pipelined */
    PEER_SNAPSHOT,
};

struct inflight {
    uint64_t last_index, bytes;
};

struct peer_snapshot {
    bool asked, open, chunk_sent;
    bool none; /* was to be had: the next heartbeat asks again */
    uint64_t index, term, total_bytes;
    uint64_t offset_bytes; /* what the peer holds */
    uint64_t sent_ns;
    struct hf_raft_config config;
};

struct peer {
    struct hf_node_id id;
    bool voter;
    bool granted; /* its vote, or pre-vote, in the election under way */
    enum peer_state state;
    uint64_t match, next; /* match < next */
    uint64_t probe_end;   /* PROBE: last index the outstanding probe carried */
    bool probe_sent;
    uint64_t stream;      /* rises whenever sending starts over; older results are not believed */
    uint64_t incarnation; /* 0: not heard from yet */
    bool abstaining;      /* what it says does not count */
    bool whole;           /* it may vote, now or once it is a voter */
    uint64_t heard_ns;
    uint64_t acked_round;
    uint32_t inflight_first, inflight_count;
    uint64_t inflight_bytes;
    struct inflight inflight[HF_RAFT_INFLIGHT_MAX];
    struct peer_snapshot snapshot;
};

/* A follower's half-received snapshot */
struct incoming_snapshot {
    struct hf_node_id from; /* 0: none */
    uint64_t index, term, total_bytes;
    uint64_t held_bytes; /* written */
    uint64_t stream;
    uint64_t writing_end_bytes;
    bool writing; /* a WRITE is under way; outlives the transfer it belongs to */
    bool installing;
    struct hf_raft_config config;
};

struct config_at {
    uint64_t index;
    bool valid;
    struct hf_raft_config config;
};

struct read_batch {
    uint64_t first_id, last_id; /* first_id 0: empty */
    uint64_t index, round;
};

struct hf_raft {
    struct hf_raft_options options;
    uint64_t now_ns;
    uint64_t rng;
    struct hf_raft_actions *out; /* within a step */

    /* durable state, and how much of it is durable */
    uint64_t term;
    struct hf_node_id vote;
    bool dirty; /* a PERSIST is due at the end of this step */
    uint64_t persist_seq, persisted_seq;
    bool persist_failed; /* asked again by a tick after persist_retry_ns */
    uint64_t persist_retry_ns;
    struct raft_log log;
    uint64_t durable;
    uint64_t epoch;          /* rises whenever the end of the log is dropped */
    uint64_t fail_epoch;     /* failures of older epochs were dealt with */
    uint64_t write_since_ns; /* since when the oldest write under way has not progressed */
    bool rewrite_due;        /* a write failed: entries above durable are written again */
    uint64_t rewrite_at_ns;
    uint64_t commit, commit_told;

    enum hf_raft_role role;
    struct hf_node_id leader;
    enum hf_raft_role role_told;
    uint64_t role_term_told;
    struct hf_node_id leader_told;

    /* follower */
    bool abstain;
    uint64_t rejoin_index; /* abstaining, re-added: whole once verified and durable up to here */
    uint64_t election_ns;
    uint64_t heard_ns;          /* from the leader */
    uint64_t promised_until_ns; /* no vote for another before: the leader may serve reads */
    uint64_t verified;          /* the leader of this term is known to hold the same up to here */
    bool ack_due;               /* the last append is acknowledged when durable */
    uint64_t last_round, last_stream, last_prev;
    struct incoming_snapshot incoming;

    /* candidate */
    bool transfer_vote;    /* this election was asked for by the leader */
    uint64_t campaign_seq; /* the PERSIST that makes the own vote count */
    bool own_vote_durable;

    /* leader */
    struct peer peers[HF_RAFT_MEMBERS_MAX]; /* of config, self included */
    uint32_t peer_count;
    uint64_t term_start; /* index of the no-op */
    uint64_t heartbeat_at_ns;
    uint64_t round;
    uint64_t round_began_ns[RAFT_ROUNDS_KEPT]; /* by number, modulo */
    bool lease_void;                           /* a transfer was asked for in this term */
    uint64_t streams;                          /* the last number given to a peer's stream */
    bool broadcast; /* every peer gets a message at the end of this step */
    struct hf_node_id transfer_to;
    uint64_t transfer_until_ns;
    bool transfer_sent;
    struct read_batch reading, waiting; /* a round under way; the reads behind it */

    /* configuration; effective when appended */
    struct config_at config, config_prev;
};

/* raft.c */
struct hf_raft_action *hf_raft_act(struct hf_raft *r, enum hf_raft_action_type type);
/** A SEND of the current term; the rest of the message is zero. */
struct hf_raft_msg *hf_raft_send(struct hf_raft *r, enum hf_raft_msg_type type,
                                 struct hf_node_id to);
void hf_raft_commit_to(struct hf_raft *r, uint64_t index);
/** Append one entry of the leader's own: room was reserved. */
void hf_raft_append_own(struct hf_raft *r, uint8_t type, const struct hf_raft_config *config);
void hf_raft_write_begins(struct hf_raft *r);
bool hf_raft_write_stalled(const struct hf_raft *r, uint64_t limit_ns);

/* election.c */
void hf_raft_become_follower(struct hf_raft *r, uint64_t term, struct hf_node_id leader);
void hf_raft_campaign(struct hf_raft *r, bool transfer);
void hf_raft_leader_lost(struct hf_raft *r);
/** The leader was heard, or may have been before a restart: it may rest on this node's vote. */
void hf_raft_promise(struct hf_raft *r);
void hf_raft_election_rearm(struct hf_raft *r);
int hf_raft_on_vote(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_vote_result(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_timeout_now(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_persisted(struct hf_raft *r, const struct hf_raft_event *ev);
void hf_raft_on_tick(struct hf_raft *r);

/* follow.c */
int hf_raft_on_append(struct hf_raft *r, const struct hf_raft_msg *m,
                      const struct hf_raft_head *heads);
int hf_raft_on_appended(struct hf_raft *r, const struct hf_raft_event *ev);
/** A rewrite is due, and the log may be written: not while a snapshot takes its place. */
bool hf_raft_rewrites(const struct hf_raft *r);
void hf_raft_rewrite(struct hf_raft *r);
void hf_raft_log_drop(struct hf_raft *r, uint64_t from);
void hf_raft_check_whole(struct hf_raft *r);

/* replicate.c */
void hf_raft_peer_reset(struct hf_raft *r, struct peer *p, uint64_t next);
void hf_raft_peer_probe(struct hf_raft *r, struct peer *p, uint64_t next);
int hf_raft_on_append_result(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_unreachable(struct hf_raft *r, struct hf_node_id id);
void hf_raft_pump(struct hf_raft *r);
void hf_raft_try_commit(struct hf_raft *r);
/** Did the peer speak for the store we know? Else its progress starts over. */
bool hf_raft_peer_same_store(struct hf_raft *r, struct peer *p, uint64_t incarnation);
void hf_raft_peer_matched(struct hf_raft *r, struct peer *p, uint64_t match);

/* config.c */
struct peer *hf_raft_find(struct hf_raft *r, struct hf_node_id id);
uint32_t hf_raft_quorum(const struct hf_raft *r);
bool hf_raft_self_votes(const struct hf_raft *r);
void hf_raft_config_set(struct hf_raft *r, uint64_t index, const struct hf_raft_config *config);
bool hf_raft_config_can_drop(const struct hf_raft *r, uint64_t from);
void hf_raft_config_drop(struct hf_raft *r, uint64_t from);
void hf_raft_peers_rebuild(struct hf_raft *r);
int hf_raft_on_config(struct hf_raft *r, const struct hf_raft_event *ev);

/* propose.c */
int hf_raft_on_propose(struct hf_raft *r, const struct hf_raft_event *ev);
int hf_raft_on_transfer(struct hf_raft *r, struct hf_node_id target);
void hf_raft_transfer_pump(struct hf_raft *r);

/* read.c */
int hf_raft_on_read(struct hf_raft *r, uint64_t id);
void hf_raft_reads_advance(struct hf_raft *r);
void hf_raft_reads_fail(struct hf_raft *r);
void hf_raft_round_begin(struct hf_raft *r);

/* snapshot.c */
void hf_raft_snapshot_begin(struct hf_raft *r, struct peer *p);
void hf_raft_snapshot_end(struct hf_raft *r, struct peer *p);
void hf_raft_snapshot_pump(struct hf_raft *r, struct peer *p);
int hf_raft_on_snapshot_opened(struct hf_raft *r, const struct hf_raft_event *ev);
int hf_raft_on_snapshot_result(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_snapshot(struct hf_raft *r, const struct hf_raft_msg *m);
int hf_raft_on_snapshot_written(struct hf_raft *r, const struct hf_raft_event *ev);
int hf_raft_on_snapshot_installed(struct hf_raft *r, const struct hf_raft_event *ev);

static inline uint64_t raft_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t raft_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
