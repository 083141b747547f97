/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - a whole cluster in one thread: the real nodes and clients over simulated machines.
 *
 *     run.c     phases: faults and work, heal, converge, last looks
 *     world.c   machines, processes, who starts them again
 *     atlas.c   which faults, when, so that the cluster should survive them
 *     actor.c   a user's program on a client, as a fiber
 *     load_*.c  what such programs do, and what they expect
 *     check.c   looks at nodes from within
 *     invariants.c  I1 .. I11: what each proves, and who looks
 *
 * Everything follows from the seed. The first thing found wrong ends the run.
 */
#ifndef HF_TESTS_SIM_SIM_H
#define HF_TESTS_SIM_SIM_H

#include "client/fs/fs.h"
#include "client/io/io.h"
#include "client/meta/session.h"
#include "common/config/config.h"
#include "server/node/node.h"
#include "tests/lib/sim_env.h"
#include "tests/lib/sim_rng.h"

#define SIM_NODES_MAX   5u
#define SIM_CLIENTS_MAX 4u
#define SIM_MS          HF_NS_PER_MS
#define SIM_S           HF_NS_PER_SEC
#define SIM_TICK_NS     (50 * SIM_MS)
#define SIM_FAULTS_NS   (45 * SIM_S)  /* faults and work end */
#define SIM_LEAST_NS    (60 * SIM_S)  /* a run is at least this long */
#define SIM_CONVERGE_NS (120 * SIM_S) /* after healing, all has to be well within this */

#define SIM_FAULTS_LEAST 3u /* drawn, and begun: so many act in each seed */

struct sim;
struct actor;

struct sim_node {
    struct sim *s;
    struct hf_node_id id;
    struct hf_env *env;
    struct hf_table_model *index, *meta; /* what LMDB's files are elsewhere */
    uint32_t unread_one_in;              /* rows of its metadata cannot be read; 0: all can */
    struct hf_disk *real_disk;           /* with options.lmdb_dir; else NULL */
    struct hf_node *node;                /* NULL: not running */
    bool stopping;
    bool damaged;          /* its store may have lost what was synced, and nobody need know yet */
    bool rotten;           /* ... or holds other bytes, and need not know */
    bool set_aside;        /* it was damaged once: it may name what it has lost */
    uint32_t damaged_life; /* lives when it was damaged last */
    bool befallen;         /* something befell its disk or its tables: it may end by itself */
    bool lose_at_sync, lose_now; /* its store: at the next fsync; after this event */
    uint32_t kill_after;         /* its events into the next checkpoint; 0: not */
    uint64_t start_at_ns;        /* UINT64_MAX: not before somebody says so */
    uint32_t lives, failed_starts;
    uint64_t raft_checked_ns, store_checked[4]; /* state in which they were last checked */
    uint32_t looks;                             /* events of its own */
};

enum sim_client_state {
    CLIENT_DOWN,
    CLIENT_MOUNTING,
    CLIENT_SERVING,
    CLIENT_FLUSHING, /* unmounted: what is dirty goes */
    CLIENT_CLOSING,
    CLIENT_CLOSED,
    CLIENT_LOST,
};

struct sim_client {
    struct sim *s;
    uint32_t number;
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_session *session;
    struct hf_io *io;
    struct hf_fs *fs;
    enum sim_client_state state;
    bool leaving, flush_again; /* its programs are to end, then it unmounts */
    bool kill_at_sync, die;    /* at its next fsync; after this event */
    struct hf_fs_req sync;
    struct actor *actors;
    uint64_t start_at_ns;
    uint32_t lives;
    uint64_t ops;              /* of all lives */
    uint32_t looks;            /* events of its own */
    struct hf_session_id last; /* session of the life before: perhaps still known */
};

/* What the faults of a seed add up to; filled in by the atlas. */
enum sim_fault {
    FAULT_KILL,        /* a node's process */
    FAULT_POWER,       /* a node's machine, unsynced writes torn */
    FAULT_POWER_ALL,   /* all nodes at once */
    FAULT_STOP,        /* a node ends in order, and is started again */
    FAULT_PAUSE,       /* a node, or a client */
    FAULT_SUSPEND,     /* a machine sleeps */
    FAULT_CUT,         /* one machine from all others */
    FAULT_CUT_ONE_WAY, /* one machine is not heard, or hears nobody */
    FAULT_CUT_PAIR,    /* two machines from each other */
    FAULT_SPLIT,       /* some machines from the others */
    FAULT_RESET,       /* connections break */
    FAULT_RESETS,      /* ... again and again */
    FAULT_STALLS,      /* packets are lost and sent again */
    FAULT_SLOW_NET,
    FAULT_FLIPS, /* bits change on the way */
    FAULT_SLOW_DISK,
    FAULT_DISK_EIO,  /* a call on the victim's disk fails */
    FAULT_DISK_DEAD, /* nothing can be written to the victim's store, or disk, until healed */
    FAULT_DISK_LIES, /* a write of the victim's is lost, or goes astray */
    FAULT_DISK_FULL,
    FAULT_TABLE, /* checkpoints of the victim's tables fail */
    FAULT_ROWS,  /* rows of the victim's metadata cannot be read */
    FAULT_ROT,   /* bytes of the victim's segments or logs change */
    FAULT_DRIFT,
    FAULT_WALL, /* the time of day jumps */
    FAULT_CLIENT_KILL,
    FAULT_UNMOUNT,    /* a client, in order */
    FAULT_TRANSFER,   /* the lead is handed over */
    FAULT_MEMBERS,    /* a metadata node is added, or removed */
    FAULT_META_LOST,  /* the victim's metadata are gone */
    FAULT_STORE_LOST, /* the victim's segments are gone */
    FAULT_INDEX_LOST, /* a node's index of its store is gone: it is but a cache */
    FAULT_KIND_COUNT,
};
const char *sim_fault_name(enum sim_fault kind);

struct sim_plan; /* atlas.c */
struct sim_load; /* load.c */

struct sim_options {
    uint64_t seed;
    bool trace;           /* print what happens */
    const char *lmdb_dir; /* real LMDB on the real disk, below here; no faults of disks then */
    bool beyond;          /* faults that cannot be survived: stop or EIO, but never a guess (I11) */
    uint32_t check_every; /* events between looks at every row of the stores; 0: 500 */
    uint32_t nodes, clients; /* 0: drawn */
    uint32_t fault_max;      /* of the faults drawn, only so many; UINT32_MAX: all */
    uint64_t faults_until;   /* faults and work end here; 0: SIM_FAULTS_NS */
};

struct sim_counts {
    uint64_t events, faults, by_kind[FAULT_KIND_COUNT];
    uint64_t padded;      /* resets that stand for faults that found nothing */
    uint64_t by_hand;     /* starts of nodes that had given up */
    uint64_t quit;        /* programs that ended early, told an error, in a session that lives */
    uint64_t compactions; /* of the nodes that run at the end */
    uint64_t ops, failed_ops, fsyncs, reads, bytes_checked, appends, registers, crashes, evictions;
    uint64_t flags, looks; /* of load_flags.c: changes, and looks at them */
    uint64_t locks, deadlocks, interrupts;
    uint64_t unchecked;  /* histories of names that are too long to be explained */
    uint64_t second_ops; /* of the client that did the second most */
    uint64_t last_bytes; /* read back and compared at the end */
    uint64_t virtual_ns;
};

struct sim {
    struct sim_options options;
    struct hf_sim_rng rng;
    struct hf_sim *world;
    struct hf_config config;
    uint64_t merge_delay_ns, log_segment_bytes, log_keep_bytes; /* of hf_node_options */
    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct sim_client clients[SIM_CLIENTS_MAX];
    uint32_t client_count;
    struct sim_plan *plan;
    struct sim_load *load;
    bool work_over;                /* no new operations */
    bool power_at_sync, power_now; /* of all nodes: at the next fsync; after this event */
    uint32_t power_after;          /* events into the next checkpoint of metadata; 0: not */
    struct sim_counts counts;
    uint64_t full_ns;    /* when a disk was last full; 0: never; UINT64_MAX: one is */
    uint64_t checked_at; /* events at the last look */
    uint64_t holders_checked_ns, rows_checked_ns;
    uint32_t copies_left; /* that stores are reading for check.c */
    uint32_t rows_turn;   /* whose rows are looked at next */
    bool failed;
    char why[1024];
};

/* run.c */

/** Runs the seed; s->failed tells. Memory is the process's: run each seed in one of its own. */
void sim_run(struct sim *s, const struct sim_options *options);
/** @invariant  "I1" .. "I11", "alive" or "code". Only the first one counts. */
void sim_fail(struct sim *s, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** The same for an answer that is wrong, or success where nothing was done: in a run that goes
 *  beyond what can be survived it is a guess, and fails as I11. Errors are not. */
void sim_wrong(struct sim *s, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sim_trace(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t sim_now(const struct sim *s);

/* invariants.c */

bool sim_invariant_known(const char *name);
/** To stdout: each invariant, the rules that it proves, who looks. */
void sim_invariants_list(void);

/* world.c */

void sim_world_new(struct sim *s);
/** Starts what is due; notices what ended. */
void sim_world_tick(struct sim *s);
void sim_node_kill(struct sim_node *n);
void sim_node_power_cut(struct sim_node *n, enum hf_sim_cut mode);
/** In order; it is started again at n->start_at_ns. */
void sim_node_stop(struct sim_node *n);
void sim_client_kill(struct sim_client *c);
/** The machine loses power, and its metadata with it. */
void sim_node_lose_meta(struct sim_node *n);
/** Likewise its segments. */
void sim_node_lose_store(struct sim_node *n);
/** One in @one_in of the rows of its metadata cannot be read; 0: all can. */
void sim_rows_fail(struct sim_node *n, uint32_t one_in);
/** The process dies, and somebody takes its index away. */
void sim_node_lose_index(struct sim_node *n);
/** Client whose session the leader still knows? */
bool sim_session_known(struct sim *s, struct hf_session_id id);
/** A file is synced: the moment for faults that wait for it. */
void sim_synced(struct sim_client *c);
/** The node that leads and serves; NULL: none. */
struct sim_node *sim_leader(struct sim *s);

/* atlas.c */

void sim_atlas_new(struct sim *s);
/** When the next fault begins or ends; UINT64_MAX: never. */
uint64_t sim_atlas_next(struct sim *s);
void sim_atlas_act(struct sim *s);
/** The node's segments are gone, now. */
void sim_store_lost(struct sim_node *n);
/** All nodes lose power at once. */
void sim_power_cut_all(struct sim *s, uint64_t chance);
/** Healthy and at rest: all nodes lose power, and start again. */
void sim_power_test(struct sim *s);
/** Healthy and at rest: as many nodes lose their stores, and as many their metadata, as can be
 *  survived: one good copy of everything is left, and a majority. */
void sim_loss_test(struct sim *s);
/** Everything is whole again. */
void sim_atlas_heal(struct sim *s);

/* load.c */

void sim_load_new(struct sim *s);
/** A client serves: its programs start. */
void sim_load_client(struct sim_client *c);
/** Everything has converged, as far as it can: read everything back. Returns when done. */
void sim_load_end(struct sim *s);

/* check.c */

/** After every event. */
void sim_check_step(void *ctx);
/** Now and then. */
void sim_check_tick(struct sim *s);
/** Into the trace: where each node stands. */
void sim_check_say(struct sim *s);
/** NULL: converged; else what is still to come. */
const char *sim_check_converged(struct sim *s);
/** Converged: the members of the log, a bit each. */
uint64_t sim_check_members(struct sim *s);
/** Likewise those of them that vote: a learner may not have become a voter yet. */
uint64_t sim_check_voters(struct sim *s);
/** After convergence. */
void sim_check_end(struct sim *s);

#endif
