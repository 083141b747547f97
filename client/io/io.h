/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - objects on stores: puts to every member in parallel, gets with fallback, a clean cache.
 *
 *     put: begin ─ append… ─ finish ──► frames of <= 1 MiB to every writable member ──►
 * done(holders) a member fails ──► the whole object again under a new id in a group without it get:
 * cache ──► best replica ──► verify ──► done;  error, time-out, mismatch ──► next replica
 *
 * Objects are immutable, so cached bytes of an object id are right for ever.
 * This is also the door to other stores: put, get, list.
 *
 * Threads: loop thread only.
 */
#ifndef HF_CLIENT_IO_IO_H
#define HF_CLIENT_IO_IO_H

#include <sys/uio.h>

#include "client/meta/session.h"
#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/env/env.h"

struct hf_io;

struct hf_io_options {
    struct hf_session *session; /* map and object ids; borrowed */
    struct hf_bufpool *pool;
    struct hf_uuid cluster;
    const char *name;
    size_t cache_bytes;      /* clean cache; 0: 64 MiB */
    uint64_t get_timeout_ns; /* per replica; 0: 2 s */
    uint64_t put_timeout_ns; /* per frame, while the member stays UP; 0: 10 s */
    uint64_t op_timeout_ns;  /* puts fail when no group could take one for so long; 0: 120 s */
    uint32_t puts_max;       /* objects in flight, more wait; 0: 8 */
};

int hf_io_new(struct hf_env *env, const struct hf_io_options *options, struct hf_io **ret);
/** Gets and puts in flight end with -ECANCELED before this returns. NULL is a no-op. */
void hf_io_free(struct hf_io *io);
/** Call from session events. */
void hf_io_map_changed(struct hf_io *io);
/** Between turns of the loop: everything is on the list that its state says, and counted right. */
void hf_io_check_invariants(struct hf_io *io);

/* Put */

struct hf_io_put {
    void (*done)(struct hf_io_put *put, int err);
    void *ctx;
    bool urgent; /* somebody waits: goes before puts that do not */
    /* results, valid in done(0): */
    struct hf_oid oid;
    uint32_t len_bytes;
    uint64_t digest;
    uint64_t holders;
    struct hf_epoch epoch;
    void *impl[24];
};

/** Start an object. Its id is chosen (and may be chosen anew) here. Embedded by the caller. */
void hf_io_put_begin(struct hf_io *io, struct hf_io_put *put);
/**
 * More bytes at the end. Pieces are borrowed until done (a failure sends them again) and must not
 * change meanwhile. Full frames leave at once. Total <= HF_OBJECT_BYTES_MAX; each piece > 0.
 */
void hf_io_put_append(struct hf_io_put *put, const struct iovec *iov, int iov_count);
/**
 * No more bytes; at least one was appended. done() when durable on every writable member, and on
 * at least min_copies. Retried under new ids until it succeeds, the session is LOST, the cluster
 * says no, or no group of it could take any for op_timeout. Errors: -ENOSPC, -EIO, -HF_EFENCED,
 * -ECANCELED, -ENOMEM (may come before the finish).
 */
void hf_io_put_finish(struct hf_io_put *put);
uint32_t hf_io_put_bytes(const struct hf_io_put *put);
/** Drop an unfinished or running put; done(-ECANCELED) runs soon. */
void hf_io_put_cancel(struct hf_io_put *put);

/* Get */

struct hf_io_slice { /* bytes of an answer, in order */
    struct hf_buf *buf;
    uint32_t off_bytes;
    uint32_t len_bytes;
};

#define HF_IO_SLICES_MAX 10u

struct hf_io_get {
    struct hf_oid oid;
    uint32_t off_bytes; /* any alignment */
    uint32_t len_bytes; /* <= 4 MiB */
    bool cache;         /* fetch whole 256 KiB-aligned chunks and keep them */
    void (*done)(struct hf_io_get *get, int err);
    void *ctx;
    /* results, valid in done(0); each slice's buf is owned by the caller then */
    struct hf_io_slice slices[HF_IO_SLICES_MAX];
    uint32_t slice_count;
    void *impl[24];
};

/**
 * Read and verify. Errors: -HF_ENOOBJECT  on no replica (fetch the extents afresh), -EIO  no good
 * copy is left, -ETIMEDOUT, -ECANCELED.
 */
void hf_io_get(struct hf_io *io, struct hf_io_get *get);
/** Warm the cache; nobody waits. Dropped when too much is under way. */
void hf_io_prefetch(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                    uint32_t len_bytes);
/** Is all of the range in the cache? */
bool hf_io_cached(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                  uint32_t len_bytes);

struct hf_io_stats {
    uint64_t puts, put_bytes, put_retries;
    uint64_t gets, get_bytes, get_fallbacks, mismatches;
    uint64_t cache_bytes, cache_hits, cache_misses;
};
void hf_io_stats(const struct hf_io *io, struct hf_io_stats *ret);

/** A peer to a node of the map, for calls of other kinds; borrowed, NULL: unknown node. */
struct hf_rpc_peer *hf_io_node_peer(struct hf_io *io, struct hf_node_id node);

#endif
