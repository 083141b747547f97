/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_impl.h - what the parts of the driver share; for server/raft only.
 *
 *     driver.c     opening, closing, status       steps.c      events in, actions out, applying
 *     outbox.c     messages to peers              requests.c   proposals and reads
 *     found.c      founding or joining            members.c    who takes part
 *     transfer.c   snapshots, both ways            digests.c    is the state that of the others?
 *     pins.c       the log stays behind snapshots  check_driver.c  what must hold between them
 */
#ifndef HF_RAFT_DRIVER_IMPL_H
#define HF_RAFT_DRIVER_IMPL_H

#include "server/raft/disk.h"
#include "server/raft/driver.h"

#define RAFT_BATCH_ENTRIES_MAX  1000u /* of one message and one proposal: pieces of one bulk */
#define RAFT_BATCH_BYTES_MAX    HF_RAFT_ENTRY_MAX
#define RAFT_INFLIGHT_MSGS_MAX  32u
#define RAFT_INFLIGHT_BYTES_MAX (16u << 20)
#define RAFT_WINDOW_ENTRIES_MAX 16384u
#define RAFT_WINDOW_BYTES_MAX   (32u << 20)
#define RAFT_LOG_ENTRIES_MAX    (1u << 20)
#define RAFT_PIN_ENTRIES_MAX    (RAFT_LOG_ENTRIES_MAX / 2)
#define RAFT_PIN_SILENT_NS      (10 * HF_NS_PER_SEC)
#define RAFT_CHUNK_BYTES        HF_FRAME_BULK_MAX
#define RAFT_PROMOTE_LAG_MAX    1000u
#define RAFT_HELD_MAX           256u /* messages that wait for a promise; older ones are lost */
#define RAFT_OWN_WRITES_MAX     1u   /* what arrives meanwhile makes the next batch */
#define RAFT_APPLY_AT_ONCE      256u /* then the loop has its turn */
#define RAFT_PATH_MAX           4400u

struct raft_proposals {
    struct hf_raft_proposal *head, *tail;
};

struct raft_reads {
    struct hf_raft_read *head, *tail;
};

/** A message on its way; held until the promise it rests on is durable. */
struct raft_out {
    struct raft_out *next;
    struct hf_raft_driver *driver;
    uint64_t persist_seq;
    struct hf_node_id to;
    struct hf_raft_msg msg;
    struct raft_item **items; /* owned */
    struct iovec *iov;        /* owned */
    uint32_t count;
    struct hf_buf *chunk; /* of a snapshot */
    struct iovec chunk_iov;
};

/** Of the state after certain entries, oldest first. */
struct raft_digests {
    uint32_t count;
    struct hf_raft_digest list[HF_RAFT_DIGESTS_MAX];
};

/** What another member last said of its state. */
struct raft_other {
    struct hf_node_id node; /* 0: none */
    uint64_t incarnation;
    uint64_t heard_ns; /* boot clock */
    bool taken_out;
    bool equal; /* at compared_index, the newest that both had; 0: none yet */
    bool told;  /* of the difference, by the leader here */
    uint64_t compared_index;
    struct raft_digests digests;
};

struct raft_upload; /* a snapshot on its way to a peer (transfer.c) */

/** Entries above index stay for the peer (pins.c). */
struct raft_pin {
    struct hf_node_id peer; /* 0: none */
    uint64_t index;
};

struct hf_raft_driver {
    struct hf_env *env;
    struct hf_raft_driver_options options;
    char dir[4200];
    struct hf_node_id members[HF_RAFT_MEMBERS_MAX];
    enum hf_raft_driver_state state;
    int failed;
    int refused; /* FAILED: what is asked here is answered with this */
    bool started;

    struct hf_raft *raft; /* NULL while FOUNDING */
    struct hf_raft_actions actions;
    bool stepping;
    int gives_up; /* of the machine: FAILED with it when the step under way ends */
    struct hf_timer tick;
    struct hf_timer second; /* founding, members */

    struct raft_disk *disk;
    struct raft_hard hard;
    struct raft_items items;
    uint64_t applied;
    uint64_t trim_to; /* checkpointed; the log is trimmed in a step of its own */
    uint64_t last_time_ns;
    uint64_t syncs;
    struct hf_task run; /* propose, ask reads, apply on, trim */

    bool lead_due; /* leader by the core; its no-op is not applied yet */
    bool leading;  /* machine.lead() was called */

    struct raft_proposals queue;
    size_t queue_bytes;
    uint32_t own_writes;
    bool queue_waits; /* the core's window was full */

    struct raft_reads asked; /* by rising id: first those confirmed, then those not yet */
    struct raft_reads fresh; /* not yet given to the core */
    uint64_t read_id;        /* last given */
    uint64_t confirmed_id;   /* reads up to here may be served once applied */
    uint64_t confirmed_index;

    struct raft_out *held_head, *held_tail;
    uint32_t held;
    uint64_t persisted_seq;
    uint32_t writes; /* of the disk, under way */
    uint32_t sends;  /* not yet released by the network */

    struct raft_upload *uploads; /* open ones, and those that only wait for their jobs */
    uint64_t upload_serial;
    struct raft_pin pins[HF_RAFT_MEMBERS_MAX];
    uint32_t transfer_jobs; /* under way */
    struct {
        struct hf_raft_action action;
        bool installing;
    } incoming;

    struct raft_digests digests; /* of the state here; cleared when a snapshot replaces it */
    struct raft_other others[HF_RAFT_MEMBERS_MAX];

    /* founding */
    struct hf_raft_found heard[HF_RAFT_MEMBERS_MAX]; /* what the others last said of themselves */
    int heard_err[HF_RAFT_MEMBERS_MAX];              /* 1: not asked yet */
    bool asking[HF_RAFT_MEMBERS_MAX];
    int64_t clock_ahead_s[HF_RAFT_MEMBERS_MAX]; /* of this node's time of day, when last heard */
    bool clock_apart[HF_RAFT_MEMBERS_MAX];
    uint32_t questions; /* under way */
    uint64_t waiting_said_ns;
    char waiting_for[160];

    bool known;   /* hard says what the store is: no founding */
    bool unsaved; /* hard, or the emptied log, must be written before taking part */
    bool drop_log;

    /* closing */
    void (*close_done)(void *ctx);
    void *close_ctx;
    struct hf_timer close_timer;
};

/* driver.c */
/** Make the core of what the disk held, with @config where nothing was applied yet. */
int raft_driver_core_new(struct hf_raft_driver *d, const struct hf_raft_config *config);
/** Empty the log, durably, then write what the store is to be from now on, then take part: where
 *  the vote says that a store takes part, a log without any record was lost. */
void raft_driver_begin(struct hf_raft_driver *d);
/** The store is what it is to be, durably: take part. */
void raft_driver_go(struct hf_raft_driver *d);

/* steps.c */
/** What an event's actions may need besides the action. */
struct raft_step_source {
    struct raft_item **items; /* of the message or the proposal; taken as needed (referenced) */
    uint32_t count;
    struct hf_buf *chunk; /* of a snapshot message */
};
/** Give the core an event, carry out what it decides. @source may be NULL. */
int raft_driver_step(struct hf_raft_driver *d, struct hf_raft_event *event,
                     const struct raft_step_source *source);
void raft_driver_run_soon(struct hf_raft_driver *d);
void raft_driver_run(struct hf_task *task);
void raft_driver_fail(struct hf_raft_driver *d, int err, const char *what);
/** raft_driver_fail() without a word: who calls it has said what there is to say. */
void raft_driver_stop(struct hf_raft_driver *d, int err);
/** Write d->hard; @done (may be NULL) on the loop. */
void raft_driver_persist(struct hf_raft_driver *d, void (*done)(struct hf_raft_driver *d, int err));
static inline bool raft_driver_runs(const struct hf_raft_driver *d)
{
    return d->state == HF_RAFT_RUNNING;
}

/* outbox.c */
void raft_out_add(struct hf_raft_driver *d, const struct hf_raft_action *action);
/** Send what waited for promises up to d->persisted_seq. */
void raft_out_flush(struct hf_raft_driver *d);
/** A chunk was read: the message can go. */
void raft_out_chunk(struct raft_out *out, struct hf_buf *chunk);
void raft_out_free(struct raft_out *out);
void raft_out_drop_all(struct hf_raft_driver *d);

/* requests.c */
void raft_requests_pump(struct hf_raft_driver *d);
/** Entries up to d->applied are applied: serve what waited for that. */
void raft_reads_serve(struct hf_raft_driver *d);
void raft_reads_confirmed(struct hf_raft_driver *d, uint64_t last_id, uint64_t index);
/** All of them, and proposals not in the log as well as those in it that are not applied. */
void raft_requests_fail(struct hf_raft_driver *d, int err);

/** Proposals whose entries are in the log from @index on. */
void raft_requests_cut(struct hf_raft_driver *d, uint64_t index, int err);

/* found.c */
void raft_found_start(struct hf_raft_driver *d);
void raft_found_tick(struct hf_raft_driver *d);
/** Ask the other members how they are: finds connections that are dead without having broken, and
 *  clocks far apart. */
void raft_found_greet(struct hf_raft_driver *d);

/* digests.c */
void raft_digests_applied(struct hf_raft_driver *d, uint64_t index);
/** The state becomes another one. */
void raft_digests_clear(struct hf_raft_driver *d);
/** What is noted here, for an answer. */
void raft_digests_tell(const struct hf_raft_driver *d, struct hf_raft_found *found);
/** Another node's answer; this one may be FAILED afterwards. */
void raft_digests_heard(struct hf_raft_driver *d, const struct hf_raft_found *found);
/** At the start of one that was taken out: FAILED. */
void raft_digests_stay_out(struct hf_raft_driver *d);
void raft_digests_status(const struct hf_raft_driver *d, struct hf_raft_driver_status *ret);

/* members.c */
void raft_members_tick(struct hf_raft_driver *d);

/* transfer.c */
/** Remove what transfers of an earlier life left. Start-up. */
void raft_transfer_clean(struct hf_raft_driver *d);
void raft_upload_open(struct hf_raft_driver *d, struct hf_node_id peer);
void raft_upload_close(struct hf_raft_driver *d, struct hf_node_id peer);
/** Read the chunk that @out announces, then send it. */
void raft_upload_read(struct raft_out *out);
void raft_incoming_write(struct hf_raft_driver *d, const struct hf_raft_action *action,
                         struct hf_buf *chunk);
void raft_incoming_install(struct hf_raft_driver *d, const struct hf_raft_action *action);
/** Forget uploads; their jobs are waited for by d->transfer_jobs. */
void raft_transfer_stop(struct hf_raft_driver *d);
void raft_transfer_check(const struct hf_raft_driver *d);

/* pins.c */
/** What @peer will need is above @index. Leader only. */
void raft_pin_set(struct hf_raft_driver *d, struct hf_node_id peer, uint64_t index);
void raft_pin_drop(struct hf_raft_driver *d, struct hf_node_id peer);
/** Pins follow their peers; those that are over go. UINT64_MAX: none is left. */
uint64_t raft_pins_lowest(struct hf_raft_driver *d);
/** One that is over is found, though nothing else happens. */
void raft_pins_tick(struct hf_raft_driver *d);
void raft_pins_check(const struct hf_raft_driver *d);

#endif
