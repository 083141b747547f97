/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft.h - consensus on one log, as a pure function: step(state, event) -> actions.
 *
 *                  time-out            quorum would vote           quorum voted
 *     FOLLOWER ----------> PRE_CANDIDATE ----------> CANDIDATE ------------> LEADER
 *         ^                     |                        |                      |
 *         +------ a higher term, a live leader, a lost quorum, a stalled disk --+
 *
 * No I/O, clock, thread or chance in here: time arrives in events, the jitter of elections comes
 * from a seed. The driver owns the payload of entries and moves every byte; the core keeps (term,
 * type, size) of each entry and tells the driver what to send, append, truncate and apply.
 *
 * The driver's obligations (docs/design/raft.md has the reasons):
 *  - One event at a time. All actions of a step are taken, in order, before the next step; what a
 *    SEND names (entry heads, payload references) is captured then, for the log may change later.
 *  - A SEND leaves only after the PERSIST of its persist_seq, or a later one, was reported durable.
 *    Any SEND may be dropped; none may be altered.
 *  - APPENDs become durable in order. Each is answered by one APPENDED event with its epoch; after
 *    a failure those already queued behind it fail too. APPEND first drops the log from
 * first_index.
 *  - Payloads are kept until committed, applied and durable here.
 *  - The events of a peer are decoded, not trusted: the core answers nonsense with -EBADMSG.
 *
 * Invariants: base <= commit <= last, base <= durable <= last; terms never fall along the log;
 * at most one configuration entry above commit is ever rolled back.
 * Allocation: hf_raft_new() and the growth of the log's index at the very start of a step, bounded
 * by options.log_entries_max; when it fails the step is refused with nothing changed.
 * Threads: none; the caller's. Time: any monotonic clock, ns; its rate may be wrong.
 */
#ifndef HF_RAFT_RAFT_H
#define HF_RAFT_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"

struct hf_raft;

#define HF_RAFT_MEMBERS_MAX     9u
#define HF_RAFT_MSG_ENTRIES_MAX 4096u               /* entries in one append message or proposal */
#define HF_RAFT_INFLIGHT_MAX    64u                 /* unanswered append messages to one peer */
#define HF_RAFT_ACTIONS_MAX     128u                /* of one step; the core never makes more */
#define HF_RAFT_NUMBER_MAX      (UINT64_C(1) << 62) /* terms and indexes stay below */

/* Entries and configurations */

enum hf_raft_entry_type {
    HF_RAFT_ENTRY_NOOP = 1, /* of a new leader; no payload */
    HF_RAFT_ENTRY_NORMAL,   /* the driver's */
    HF_RAFT_ENTRY_CONFIG,   /* payload: struct hf_raft_config, encoded by the driver */
};

enum hf_raft_member_kind {
    HF_RAFT_VOTER = 1,
    HF_RAFT_LEARNER,
};

struct hf_raft_member {
    struct hf_node_id id;
    uint8_t kind; /* enum hf_raft_member_kind */
};

struct hf_raft_config {
    uint32_t count;
    struct hf_raft_member members[HF_RAFT_MEMBERS_MAX]; /* by rising id */
};

/** What the core knows of an entry. */
struct hf_raft_head {
    uint64_t term;
    uint32_t bytes;                      /* of payload; counts against windows */
    uint8_t type;                        /* enum hf_raft_entry_type */
    const struct hf_raft_config *config; /* of CONFIG entries; borrowed for the call */
};

/* Messages between peers */

enum hf_raft_msg_type {
    HF_RAFT_MSG_PREVOTE = 1,
    HF_RAFT_MSG_PREVOTE_RESULT,
    HF_RAFT_MSG_VOTE,
    HF_RAFT_MSG_VOTE_RESULT,
    HF_RAFT_MSG_APPEND, /* also the heartbeat, with count 0 */
    HF_RAFT_MSG_APPEND_RESULT,
    HF_RAFT_MSG_SNAPSHOT,
    HF_RAFT_MSG_SNAPSHOT_RESULT,
    HF_RAFT_MSG_TIMEOUT_NOW,
};

enum hf_raft_status {
    HF_RAFT_OK = 1,  /* prev matched; match_index is durable and was checked */
    HF_RAFT_REJECT,  /* prev did not match: hint_* says where to go on */
    HF_RAFT_BUSY,    /* alive, but the log cannot be changed now */
    HF_RAFT_ABSTAIN, /* this node's store is new or damaged: nothing it says counts */
};

struct hf_raft_msg {
    enum hf_raft_msg_type type;
    struct hf_node_id from, to;
    uint64_t term;
    union {
        struct {
            uint64_t last_index, last_term;
            bool transfer; /* the leader asked for this election: no stickiness */
        } vote;            /* PREVOTE (term: the one it would have), VOTE */
        struct {
            bool granted;
        } vote_result;
        struct {
            uint64_t prev_index, prev_term;
            uint64_t commit_index;
            uint64_t round;        /* of the leader's heartbeats; echoed */
            uint64_t stream;       /* of the leader's view of this peer; echoed */
            uint64_t incarnation;  /* of the peer as the leader knows it; 0: not yet */
            uint64_t rejoin_index; /* not 0: the peer is a learner by a committed configuration,
                                      and whole again once durable up to here */
            uint32_t count;        /* entries prev_index + 1 .. prev_index + count follow */
        } append;
        struct {
            enum hf_raft_status status;
            uint64_t match_index;
            uint64_t prev_index; /* of the message answered */
            uint64_t hint_index, hint_term;
            uint64_t round, stream;
            uint64_t incarnation; /* of the answering node's store */
            bool whole;           /* it does not abstain: it may be made a voter */
        } append_result;
        struct {
            uint64_t index, snapshot_term; /* of the last entry it stands for */
            uint64_t offset_bytes, total_bytes;
            uint64_t stream;
            uint32_t len_bytes; /* the driver adds the bytes offset .. offset + len */
            struct hf_raft_config config;
        } snapshot;
        struct {
            uint64_t index;
            uint64_t offset_bytes; /* held so far: what to send next */
            uint64_t stream, incarnation;
            uint64_t match_index; /* not 0: the log is durable up to here, stop sending */
        } snapshot_result;
    } u;
};

/* Events */

enum hf_raft_event_type {
    HF_RAFT_EV_TICK = 1, /* at hf_raft_deadline_ns(), or any time */
    HF_RAFT_EV_RECV,
    HF_RAFT_EV_PROPOSE,
    HF_RAFT_EV_READ,
    HF_RAFT_EV_CONFIG,
    HF_RAFT_EV_TRANSFER,
    HF_RAFT_EV_PERSISTED,
    HF_RAFT_EV_APPENDED,
    HF_RAFT_EV_TRIM,
    HF_RAFT_EV_UNREACHABLE, /* a send to the peer failed, or its connection was lost; of the leader:
                               the others are asked for their votes soon */
    HF_RAFT_EV_SNAPSHOT_OPENED,
    HF_RAFT_EV_SNAPSHOT_WRITTEN,
    HF_RAFT_EV_SNAPSHOT_INSTALLED,
};

enum hf_raft_change {
    HF_RAFT_ADD_LEARNER = 1,
    HF_RAFT_PROMOTE, /* learner -> voter; it must have caught up */
    HF_RAFT_DEMOTE,  /* voter -> learner; how an abstaining voter starts over */
    HF_RAFT_REMOVE,
};

struct hf_raft_event {
    enum hf_raft_event_type type;
    uint64_t now_ns;
    union {
        struct {
            const struct hf_raft_msg *msg;
            const struct hf_raft_head *heads; /* msg->u.append.count of them */
        } recv;
        struct {
            const uint32_t *bytes; /* payload size of each entry */
            uint32_t count;        /* 1 .. HF_RAFT_MSG_ENTRIES_MAX */
        } propose;
        struct {
            uint64_t id; /* the driver's: 1, 2, 3 ... without gaps among those accepted */
        } read;
        struct {
            enum hf_raft_change change;
            struct hf_node_id node;
        } config;
        struct {
            struct hf_node_id target; /* 0: the voter that is furthest */
        } transfer;
        struct {
            uint64_t seq;
            int err;
        } persisted;
        struct {
            uint64_t epoch, last_index; /* of the action */
            int err;
        } appended;
        struct {
            uint64_t index; /* <= applied, and <= what is durable: entries up to here are dropped */
        } trim;
        struct {
            struct hf_node_id peer;
        } unreachable;
        struct {
            struct hf_node_id peer;
            int err; /* none to be had now: asked again later */
            uint64_t index, term, total_bytes;
            const struct hf_raft_config *config; /* in force at index */
        } snapshot_opened;
        struct {
            struct hf_node_id from;
            uint64_t index, end_bytes; /* of the action */
            int err;                   /* the transfer starts over */
        } snapshot_written;
        struct {
            uint64_t index; /* of the action */
            int err;
        } snapshot_installed;
    } u;
};

/* Actions */

enum hf_raft_action_type {
    HF_RAFT_ACT_SEND = 1,
    HF_RAFT_ACT_PERSIST,          /* term and vote; answer PERSISTED */
    HF_RAFT_ACT_APPEND,           /* to the own log; answer APPENDED */
    HF_RAFT_ACT_COMMIT,           /* entries up to commit_index may be applied, in order */
    HF_RAFT_ACT_ROLE,             /* role, term or leader changed */
    HF_RAFT_ACT_READ_READY,       /* reads first .. last: serve once applied up to index */
    HF_RAFT_ACT_READ_FAILED,      /* leadership was lost: ask the new leader */
    HF_RAFT_ACT_SNAPSHOT_OPEN,    /* pin the newest checkpoint for peer; answer SNAPSHOT_OPENED */
    HF_RAFT_ACT_SNAPSHOT_CLOSE,   /* peer needs it no longer; an open under way is not answered */
    HF_RAFT_ACT_SNAPSHOT_WRITE,   /* the chunk of the message received; answer SNAPSHOT_WRITTEN */
    HF_RAFT_ACT_SNAPSHOT_INSTALL, /* make it the state, drop the whole log, durably and in an order
                                     that survives a crash; answer SNAPSHOT_INSTALLED */
    HF_RAFT_ACT_ABSTAIN_END,      /* the store is whole: that it abstained is forgotten with the
                                     PERSIST of this step, or a later one */
};

enum hf_raft_source {
    HF_RAFT_FROM_MESSAGE = 1, /* entries skip .. skip + count - 1 of the message in this step */
    HF_RAFT_FROM_PROPOSAL,    /* those of the proposal in this step */
    HF_RAFT_FROM_CORE,        /* one entry, described by head */
    HF_RAFT_FROM_LOG,         /* the driver's cache: a write that failed is made again */
};

enum hf_raft_role {
    HF_RAFT_FOLLOWER = 1,
    HF_RAFT_PRE_CANDIDATE,
    HF_RAFT_CANDIDATE,
    HF_RAFT_LEADER,
};

struct hf_raft_action {
    enum hf_raft_action_type type;
    union {
        struct {
            struct hf_raft_msg msg;
            uint64_t persist_seq; /* hold until this PERSIST is durable; 0: free to go */
        } send;
        struct {
            uint64_t seq, term;
            struct hf_node_id vote; /* 0: none */
        } persist;
        struct {
            uint64_t first_index; /* whatever the log holds from here on is dropped first */
            uint64_t last_index;  /* first_index - 1: only drop */
            uint64_t epoch;
            enum hf_raft_source source;
            uint32_t skip;
            struct hf_raft_head head; /* FROM_CORE; its config is borrowed until the next step */
        } append;
        struct {
            uint64_t index;
        } commit;
        struct {
            enum hf_raft_role role;
            uint64_t term;
            struct hf_node_id leader; /* 0: unknown */
        } role;
        struct {
            uint64_t first_id, last_id, index;
        } read;
        struct {
            struct hf_node_id peer; /* OPEN, CLOSE: to whom; WRITE, INSTALL: from whom */
            uint64_t index, term;
            uint64_t offset_bytes, total_bytes;
            uint32_t len_bytes;
            struct hf_raft_config config; /* INSTALL */
        } snapshot;
    } u;
};

struct hf_raft_actions {
    uint32_t count;
    struct hf_raft_action items[HF_RAFT_ACTIONS_MAX];
};

/* Lifecycle */

struct hf_raft_options {
    struct hf_node_id self;
    uint64_t seed;        /* of election jitter; differs per node */
    uint64_t incarnation; /* random, not 0, made with the store, kept with it; a new one for every
                             start that abstains */
    bool abstain;         /* the store is new, or known to have lost what it acknowledged */
    uint64_t election_timeout_ns; /* elections start after 1 .. 2 of these */
    uint64_t heartbeat_ns;        /* < election_timeout_ns / 2 */
    uint64_t lease_ns; /* reads need no round of heartbeats for so long after one began that a
                          majority answered; voters stick to a leader a quarter longer, whose clocks
                          may so differ by 10 % each; <= election_timeout_ns * 3 / 4; 0: none.
                          Needs a clock that counts while the machine sleeps */
    uint32_t batch_entries_max;  /* of one append message; 1 .. HF_RAFT_MSG_ENTRIES_MAX */
    uint64_t batch_bytes_max;    /* likewise; one entry always fits */
    uint32_t inflight_msgs_max;  /* per peer; 1 .. HF_RAFT_INFLIGHT_MAX */
    uint64_t inflight_bytes_max; /* per peer; one message always fits */
    uint64_t window_entries_max; /* proposed and not committed: above it, -EAGAIN;
                                    <= log_entries_max */
    uint64_t window_bytes_max;
    uint64_t log_entries_max;      /* between the trimmed head and last; only the no-op of a won
                                     election goes beyond */
    uint32_t head_bytes;           /* that an entry's encoding adds; counted for the core's own, in
                                      the sizes the driver gives it is included */
    uint32_t snapshot_chunk_bytes; /* >= 1 */
    uint64_t promote_lag_max;      /* entries a learner may lag and still be promoted */
    void *(*alloc)(size_t bytes);  /* NULL: malloc; what it gives goes to free() */
};

/** What the driver's stores held at start; borrowed for the call. */
struct hf_raft_start {
    uint64_t term;
    struct hf_node_id vote;
    uint64_t snapshot_index, snapshot_term; /* 0, 0 with the first configuration: a new cluster */
    struct hf_raft_config config;           /* in force at snapshot_index; count 0: not known yet */
    uint64_t first_index;                   /* of the log; <= snapshot_index + 1 */
    const struct hf_raft_head *heads;
    uint64_t count;
};

/**
 * A follower that has committed what its snapshot holds.
 *
 * @ret_drop_log  the log given contradicts the snapshot or ends below it (a crash while it was
 *                installed): none of it was taken, the driver drops it before the first step
 * Errors: -EINVAL options; -ENOMEM; -EBADMSG what was stored is no log (abstain, start empty);
 *         -EFBIG more than log_entries_max
 */
int hf_raft_new(const struct hf_raft_options *options, const struct hf_raft_start *start,
                struct hf_raft **ret, bool *ret_drop_log);
/** NULL is a no-op. */
void hf_raft_free(struct hf_raft *raft);

/**
 * Take one event. The actions are carried out whatever is returned; events that were refused change
 * nothing (but the clock).
 *
 * Errors: -ENOMEM          nothing was done; give the event again, or drop it if it may be lost
 *         -EBADMSG         a peer broke the protocol; the message was ignored
 *         -EINVAL          the driver's event makes no sense
 *         -HF_ENOTLEADER   PROPOSE, READ, CONFIG, TRANSFER: ask hf_raft_leader()
 *         -EAGAIN          PROPOSE, READ: the window is full, or leadership is being handed over;
 *                          CONFIG, TRANSFER: not now (nothing of this term is committed yet, the
 *                          learner lags or is not whole, too few of the voters left are heard)
 *         -EBUSY           CONFIG: another change is under way; TRANSFER: another transfer is
 *         -ENOENT, -EEXIST CONFIG, TRANSFER: no such member; it is that already
 *         -EPERM           CONFIG: would leave no voter
 *         -ENOSPC          CONFIG: HF_RAFT_MEMBERS_MAX
 */
int hf_raft_step(struct hf_raft *raft, const struct hf_raft_event *event,
                 struct hf_raft_actions *ret);

/** When the next TICK is due; UINT64_MAX: never. */
uint64_t hf_raft_deadline_ns(const struct hf_raft *raft);

/* State, for drivers, status pages and tests */

enum hf_raft_role hf_raft_role(const struct hf_raft *raft);
uint64_t hf_raft_term(const struct hf_raft *raft);
struct hf_node_id hf_raft_vote(const struct hf_raft *raft);
struct hf_node_id hf_raft_leader(const struct hf_raft *raft);
bool hf_raft_abstaining(const struct hf_raft *raft);
/** A leader that hands leadership over. */
bool hf_raft_transferring(const struct hf_raft *raft);
/** Everything up to here was trimmed or came in a snapshot; its term is still known. */
uint64_t hf_raft_base_index(const struct hf_raft *raft);
uint64_t hf_raft_commit_index(const struct hf_raft *raft);
uint64_t hf_raft_durable_index(const struct hf_raft *raft);
uint64_t hf_raft_last_index(const struct hf_raft *raft);
uint64_t hf_raft_epoch(const struct hf_raft *raft);
/** Errors: -ENOENT  @index is below base or above last. */
int hf_raft_term_at(const struct hf_raft *raft, uint64_t index, uint64_t *ret_term);
/** Type and size too (not for base itself); head.config is NULL. Errors: -ENOENT. */
int hf_raft_head_at(const struct hf_raft *raft, uint64_t index, struct hf_raft_head *ret);
/** The latest configuration, committed or not; @ret_index may be NULL. Borrowed to the next step.
 */
const struct hf_raft_config *hf_raft_config(const struct hf_raft *raft, uint64_t *ret_index);

struct hf_raft_peer_status {
    struct hf_node_id id;
    uint8_t kind; /* enum hf_raft_member_kind */
    bool abstaining, snapshotting;
    uint64_t match_index, next_index;
    uint64_t heard_ns; /* when it last answered */
    uint32_t inflight_msgs;
    uint64_t inflight_bytes;
};
/** Leader only. Errors: -HF_ENOTLEADER, -ENOENT. */
int hf_raft_peer(const struct hf_raft *raft, struct hf_node_id id, struct hf_raft_peer_status *ret);

bool hf_raft_config_has(const struct hf_raft_config *config, struct hf_node_id id,
                        enum hf_raft_member_kind kind);
/** Count, order, kinds, ids. */
bool hf_raft_config_valid(const struct hf_raft_config *config);

/** Asserts everything that must hold between steps; O(log held). */
void hf_raft_check_invariants(const struct hf_raft *raft);

#endif
