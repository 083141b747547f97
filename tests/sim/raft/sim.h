/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - one seeded run of a raft cluster: the real core, a model of everything else.
 *
 *     world.c   virtual time, the event heap, the network, the trace
 *     disk.c    term, vote and log become durable only after a simulated sync; crashes cut
 *     node.c    the model driver: carries out actions, applies, takes checkpoints
 *     check.c   what must hold after every event
 *     plan.c    faults, clients and the administrator
 *     main.c    the program
 *
 * Everything comes from the seed: the same seed gives the same trace hash.
 */
#ifndef HF_TESTS_SIM_RAFT_SIM_H
#define HF_TESTS_SIM_RAFT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "server/raft/raft.h"
#include "tests/lib/sim_rng.h"

#define SIM_NODES     7u
#define SIM_MS        UINT64_C(1000000)
#define SIM_S         (1000u * SIM_MS)
#define SIM_HEAL_AT   (50u * SIM_S)
#define SIM_QUIET_END (58u * SIM_S)
#define SIM_STOP_AT   (68u * SIM_S)
#define SIM_END_AT    (75u * SIM_S)
#define SIM_TIMEOUT   (300u * SIM_MS)
#define SIM_READS     4096u

struct entry {
    uint64_t term;
    uint64_t value;
    uint32_t bytes;
    uint8_t type;
    struct hf_raft_config config;
};

/* Entries first .. first + count - 1. */
struct elog {
    struct entry *at;
    uint64_t first, count, room;
};

struct checkpoint {
    uint64_t index, term, hash;
    struct hf_raft_config config;
};

enum op_type {
    OP_PERSIST,
    OP_APPEND,
    OP_CHUNK,
    OP_INSTALL,
};

/* A write on its way to the disk; they complete in order. */
struct op {
    enum op_type type;
    uint64_t since_local_ns;
    uint64_t seq, term, epoch, first, last;
    struct hf_node_id vote, peer;
    struct elog entries;
    struct checkpoint snapshot;
    struct op *next;
};

struct queue {
    struct op *first, *last;
    bool running;
};

struct held {
    struct packet *packet;
    uint64_t persist_seq;
    struct held *next;
};

struct node {
    struct hf_node_id id;
    struct hf_raft *raft;
    bool up, member_once, wiped;
    uint32_t life;
    uint64_t pause_until;
    int64_t drift_ppm;
    uint64_t clock_offset;
    uint64_t tick_at; /* of the tick event scheduled; 0: none */

    /* memory */
    struct elog cache;
    uint64_t applied, hash;
    struct hf_raft_config applied_config;
    uint64_t persisted_seq;
    struct held *held_first, *held_last;
    struct queue disks[2]; /* log and snapshots; term and vote, where they have their own */
    struct checkpoint pinned[SIM_NODES + 1];
    uint32_t open_serial[SIM_NODES + 1];
    uint64_t pinned_bytes;
    struct checkpoint incoming;
    uint64_t read_next;
    uint64_t read_floor[SIM_READS];

    /* disk */
    uint64_t term;
    struct hf_node_id vote;
    struct elog disk;
    struct checkpoint snapshot;
    uint64_t incarnation;
    bool abstain;
    uint64_t slow_until, stall_until, fail_until;
    uint64_t slow_ns;

    /* what it told others; checked against what it does */
    uint64_t told_term, voted_term, acked_term, acked_match, last_commit;
    struct hf_node_id voted_for;
    uint64_t last_term;
    uint64_t outside_since;
};

struct packet {
    struct hf_raft_msg msg;
    struct checkpoint snapshot; /* of a chunk */
    struct entry *entries;
};

enum ev_type {
    EV_TICK,
    EV_DELIVER,
    EV_DISK,
    EV_UNREACHABLE,
    EV_OPENED,
    EV_CLIENT,
    EV_ADMIN,
    EV_FAULT,
    EV_RESTART,
    EV_HEAL,
    EV_TRANSFER,
    EV_LINK,
};

struct ev {
    uint64_t at, order;
    enum ev_type type;
    uint32_t node, life, peer, arg;
    struct packet *packet;
};

struct origin {
    uint64_t term, prev_term, value;
    uint8_t type;
};

/* Every version of an entry that any leader wrote at one index. */
struct origins {
    struct origin *at;
    uint32_t count;
};

struct committed {
    uint64_t term, value, hash, commit_term;
};

struct sim {
    struct hf_sim_rng rng;
    uint64_t seed, now, order, trace;
    bool print;
    struct ev *heap;
    uint32_t heap_count, heap_room;
    struct node nodes[SIM_NODES + 1]; /* [0] unused */
    uint32_t voters_first;

    bool cut[SIM_NODES + 1][SIM_NODES + 1];
    uint32_t cut_serial;
    unsigned loss, dup, slow_net;
    uint64_t delay_max;
    bool healed;
    uint64_t window_max;
    bool split_disk; /* term and vote do not wait for the log's writes */
    uint64_t checkpoint_every;

    uint64_t value_next, acked_index, proposed, reads_done, reads_after_heal, commits_after_heal;
    uint64_t events, faults, crashes, elections, snapshots, changes, transfers;

    struct committed *committed; /* [i - 1] */
    uint64_t committed_count, committed_room;
    struct origins *origins;
    uint64_t origins_room;
    struct {
        uint64_t term;
        uint32_t leader;
    } * leaders;
    uint64_t leaders_count, leaders_room;
    struct hf_raft_actions actions;

    bool failed;
    char why[256];
};

/* world.c */
struct ev *sim_at(struct sim *s, uint64_t delay, enum ev_type type, uint32_t node);
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_packet_free(struct packet *p);
void sim_net_send(struct sim *s, struct packet *p);
void sim_run(struct sim *s, uint64_t seed, bool print);
void sim_fini(struct sim *s);
uint64_t sim_hash(uint64_t a, uint64_t b);
uint64_t sim_local(const struct sim *s, const struct node *n);

/* disk.c */
void elog_push(struct elog *log, const struct entry *e);
void elog_cut(struct elog *log, uint64_t from);
void elog_trim(struct elog *log, uint64_t to);
void elog_reset(struct elog *log, uint64_t first);
void elog_copy(struct elog *log, const struct elog *from);
struct entry *elog_get(const struct elog *log, uint64_t index);
uint64_t elog_last(const struct elog *log);
void sim_disk_add(struct sim *s, struct node *n, const struct op *op);
void sim_disk_done(struct sim *s, struct node *n, uint32_t disk);
void sim_disk_crash(struct sim *s, struct node *n);

/* node.c */
int sim_step(struct sim *s, struct node *n, struct hf_raft_event *e, const struct packet *p,
             uint64_t value);
void sim_node_start(struct sim *s, struct node *n);
void sim_node_crash(struct sim *s, struct node *n);
void sim_node_wipe(struct sim *s, struct node *n);
void sim_node_rot(struct sim *s, struct node *n);
void sim_deliver(struct sim *s, struct packet *p);
void sim_opened(struct sim *s, struct node *n, uint32_t peer, uint32_t serial);
struct node *sim_leader(struct sim *s);

/* check.c */
void sim_check_entry(struct sim *s, struct node *n, uint64_t index, uint64_t prev_term,
                     const struct entry *e);
void sim_check_apply(struct sim *s, struct node *n, uint64_t index, const struct entry *e);
void sim_check_snapshot(struct sim *s, const struct node *n, const struct checkpoint *c);
void sim_check_leader(struct sim *s, struct node *n);
void sim_check_sent(struct sim *s, struct node *n, const struct hf_raft_msg *m);
void sim_check_commit(struct sim *s, struct node *n, uint64_t from, uint64_t to);
void sim_check_change(struct sim *s, struct node *n);
void sim_check_start(struct sim *s, struct node *n);
void sim_check_node(struct sim *s, struct node *n, bool tick);
void sim_check_end(struct sim *s);

/* plan.c */
void sim_plan(struct sim *s);
/** @how 0: as ever, and again later; 1: a look; 2: a change and perhaps a look. */
void sim_client(struct sim *s, uint32_t how);
void sim_admin(struct sim *s, bool once);
void sim_fault(struct sim *s);
void sim_heal(struct sim *s);
void sim_link(struct sim *s, uint32_t what);
void sim_transfer(struct sim *s);

#endif
