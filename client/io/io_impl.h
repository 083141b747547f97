/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_impl.h - what io.c (nodes, tasks), put.c, get.c, cache.c and check.c share.
 *
 * A put or get of the caller points to a malloc'd struct of ours, which lives until the caller's
 * done has run and every RPC that refers to it is back.
 */
#ifndef HF_CLIENT_IO_IO_IMPL_H
#define HF_CLIENT_IO_IO_IMPL_H

#include <sys/queue.h>

#include "client/io/io.h"
#include "common/base/limits.h"
#include "common/rpc/rpc.h"

#define IO_CHUNK_BYTES    (256u << 10)
#define IO_RUN_CHUNKS_MAX (HF_FRAME_BULK_MAX / IO_CHUNK_BYTES)
#define IO_PREFETCH_MAX   (8u << 20) /* bytes in flight */
#define IO_MEMBERS_MAX    (2u * HF_REPLICAS_MAX)
#define IO_FRAMES_MAX     (HF_OBJECT_BYTES_MAX / HF_FRAME_BULK_MAX)
#define IO_URGENT_SLOTS   2u /* beyond puts_max: somebody waits, and may be in the way of others */

struct io_node {
    struct hf_rpc_peer *peer; /* NULL: not used yet */
    char addr[HF_ADDR_BYTES_MAX];
    uint64_t slow_until_ns;  /* gets try it last */
    uint64_t avoid_until_ns; /* puts prefer groups without it */
    uint64_t full_until_ns;  /* it said -ENOSPC */
};

struct io_fire { /* a call whose answer nobody waits for */
    struct hf_rpc_call rpc;
    struct hf_io *io;
};

/* --- runs: bytes of one object, on their way or in the cache (get.c, cache.c) --- */

struct io_run;

struct io_chunk { /* one 256 KiB chunk of a run, in the cache's hash */
    LIST_ENTRY(io_chunk) link;
    struct io_run *run;
    uint32_t index; /* chunk of the object */
    bool hashed;
};

struct io_part { /* of a get, waiting for a run */
    TAILQ_ENTRY(io_part) link;
    struct io_get *get;
    struct io_run *run;            /* one reference */
    uint32_t off_bytes, len_bytes; /* in the object */
    bool waiting;
};

TAILQ_HEAD(io_part_list, io_part);

enum run_state { RUN_FETCHING, RUN_READY, RUN_FAILED };

struct io_run {
    TAILQ_ENTRY(io_run) link; /* io->fetching, or the LRU */
    struct hf_io *io;
    struct hf_oid oid;
    uint32_t off_bytes, len_bytes; /* multiples of 4 KiB until READY; then what there is */
    enum run_state state;
    uint32_t refs; /* fetching: 1; the LRU: 1; each part: 1 */
    bool cached, prefetch, in_lru;
    int err;
    struct hf_buf *buf; /* READY */
    struct io_chunk chunks[IO_RUN_CHUNKS_MAX];
    struct io_part_list parts; /* waiting */
    /* the fetch */
    struct hf_rpc_call rpc;
    struct hf_timer timer;
    struct hf_node_id readers[2 * HF_REPLICAS_MAX];
    uint32_t reader_count, reader, round;
    uint64_t deadline_ns;
    bool missing, bad, unreachable; /* what this round's replicas said */
    bool damaged;                   /* bad, and it is not the store that said so */
    bool timed_out, bad_ever;
};

struct io_get {
    TAILQ_ENTRY(io_get) link; /* io->gets, then io->gets_ready */
    struct hf_io_get *pub;
    struct hf_io *io;
    uint32_t part_count, pending;
    int err;
    bool ready;
    struct io_part parts[HF_OBJECT_BYTES_MAX / IO_CHUNK_BYTES + 2];
};

/* --- puts (put.c) --- */

enum member_state { MEMBER_SENDING, MEMBER_PAUSED, MEMBER_OK, MEMBER_GONE };

struct put_member {
    struct hf_node_id node;
    enum member_state state;
    uint32_t round; /* answers of earlier ones are ignored */
    uint32_t next_frame;
    uint64_t map_epoch; /* when it was begun to send to */
    bool stale;         /* PAUSED for a newer map */
    uint32_t waits;     /* one after the other, for room or memory of its store */
    uint64_t retry_ns;
    uint64_t refused_ns; /* since when it answers with errors; 0: it does not */
};

struct put_frame {
    TAILQ_ENTRY(put_frame) link;
    struct hf_rpc_call rpc;
    struct io_put *put;
    uint32_t generation, round, member;
    bool last;
    uint64_t sent_ns;
};

TAILQ_HEAD(put_frame_list, put_frame);

struct frame_start { /* where a frame begins in the pieces */
    uint32_t piece;
    size_t off_bytes;
};

struct io_put {
    TAILQ_ENTRY(io_put) link;      /* io->puts or io->puts_ready */
    TAILQ_ENTRY(io_put) slot_link; /* io->slot_waiters */
    struct hf_io *io;
    struct hf_io_put *pub;
    struct iovec *pieces;
    uint32_t piece_count, piece_cap;
    uint32_t len_bytes;
    bool finished, over, slot, slot_waiting, urgent;
    int err;
    /* this attempt */
    bool has_group;
    uint32_t generation;
    struct hf_oid oid;
    uint64_t map_epoch; /* members are as of */
    struct put_member members[IO_MEMBERS_MAX];
    uint32_t member_count;
    uint64_t *sums;
    uint32_t summed; /* frames */
    struct frame_start starts[IO_FRAMES_MAX + 1];
    struct hf_buf *bounce[IO_FRAMES_MAX]; /* frames of too many pieces, copied */
    uint32_t conflicts;
    bool moved;                   /* away from a member that hung; once */
    uint64_t hopeless_ns;         /* since when the disks of too many members fail; 0: not */
    struct put_frame_list frames; /* in flight, of all attempts */
    struct hf_timer timer;
};

TAILQ_HEAD(io_run_list, io_run);
TAILQ_HEAD(io_get_list, io_get);
TAILQ_HEAD(io_put_list, io_put);
LIST_HEAD(io_chunk_list, io_chunk);

struct hf_io {
    struct hf_env *env;
    struct hf_io_options options;
    char name[64];
    bool freeing, freed;
    struct io_node nodes[HF_NODES_MAX + 1]; /* by id */
    uint32_t fires;
    /* puts */
    struct io_put_list puts;       /* all but ready */
    struct io_put_list puts_ready; /* done is due */
    struct io_put_list slot_waiters;
    uint32_t slots_used;
    uint64_t stuck_ns; /* since when puts wait and none came through; 0: they do not */
    /* gets */
    struct io_get_list gets, gets_ready;
    struct io_run_list fetching;
    struct io_run_list lru; /* oldest first */
    struct io_chunk_list *hash;
    uint32_t hash_size; /* power of two */
    uint64_t prefetch_bytes;
    struct hf_io_stats stats;
    struct hf_task task;
    struct iovec iov[1024];      /* room for one frame's pieces */
    uint8_t msg[HF_RPC_MSG_MAX]; /* encoder's room */
};

/* io.c */
struct hf_rpc_peer *io_peer(struct hf_io *io, struct hf_node_id node);
void io_post(struct hf_io *io);
/** Nothing waits for the answer. @len: bytes of io->msg. */
void io_fire(struct hf_io *io, struct hf_node_id node, uint16_t method, size_t len, bool urgent);
void io_node_failed(struct hf_io *io, struct hf_node_id node, int err);

/* put.c */
void put_map_changed(struct hf_io *io);
void put_deliver(struct hf_io *io);
void put_stop_all(struct hf_io *io); /* peers are gone: every put ends */

/* get.c */
void get_deliver(struct hf_io *io);
void get_stop_all(struct hf_io *io);
struct io_run *run_new(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                       uint32_t len_bytes);
void run_start(struct io_run *run);
void run_unref(struct io_run *run);

/* cache.c */
int cache_init(struct hf_io *io);
void cache_fini(struct hf_io *io);
/** The run, READY or FETCHING, that covers a chunk; NULL: none. */
struct io_run *cache_find(struct hf_io *io, const struct hf_oid *oid, uint32_t chunk);
/** Enter the chunks of a run that is about to be fetched. */
void cache_enter(struct io_run *run);
/** The run is READY: keep it, within the limit. */
void cache_keep(struct io_run *run);
/** Forget the chunks of a run from @first_chunk on; all of them are gone: leaves the LRU too. */
void cache_forget(struct io_run *run, uint32_t first_chunk);
void cache_touch(struct io_run *run);

#endif
