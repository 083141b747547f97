/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.h - the world as vtables: clock, randomness, timers, worker threads, network, disk.
 *
 *     modules ── hf_env_* / hf_stream_* / hf_file_* ──► struct hf_env
 *                                                      ├─ production: libevent, threads, sockets,
 * files └─ simulator:  one seeded scheduler, one thread
 *
 * Nothing outside common/env (and the simulator) touches the real world. One env is one loop: every
 * callback runs on its loop thread, one at a time, to completion.
 *
 * Threads: everything is loop thread only, except hf_env_post() (any thread), clocks and random
 * (any thread), and the hf_disk and hf_file calls, which block and belong on workers or in
 * start-up before the loop runs.
 */
#ifndef HF_ENV_ENV_H
#define HF_ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct hf_env;
struct hf_disk;

#define HF_NS_PER_SEC UINT64_C(1000000000)
#define HF_NS_PER_MS  UINT64_C(1000000)
#define HF_NS_PER_US  UINT64_C(1000)

/* Clock */

uint64_t hf_env_mono_ns(struct hf_env *env);
/** Counts while the machine sleeps; what leases are measured with. */
uint64_t hf_env_boot_ns(struct hf_env *env);
/** Since the epoch; may jump; for people and file times only. */
uint64_t hf_env_wall_ns(struct hf_env *env);

/* Randomness */

/** Cryptographic in production. */
void hf_env_random(struct hf_env *env, void *ret, size_t len_bytes);
uint64_t hf_env_random_u64(struct hf_env *env);

/* Timers: one-shot; embedded by the caller. */

typedef void (*hf_timer_fn)(void *ctx);

struct hf_timer {
    struct hf_env *env;
    hf_timer_fn fn;
    void *ctx;
    void *impl;
    bool armed;
};

void hf_timer_init(struct hf_timer *timer, struct hf_env *env, hf_timer_fn fn, void *ctx);
/** (Re)arm: fn runs once, at least @delay_ns from now. */
void hf_timer_arm(struct hf_timer *timer, uint64_t delay_ns);
void hf_timer_disarm(struct hf_timer *timer);
/** Disarms. Accepts a zeroed timer. */
void hf_timer_fini(struct hf_timer *timer);

/* Tasks: run on the loop soon, in order of posting. */

struct hf_task {
    void (*fn)(struct hf_task *task);
    struct hf_task *next;
    bool queued; /* posting a queued task again is a no-op */
};

/** Any thread. The task's memory is the caller's and lives until fn runs. */
void hf_env_post(struct hf_env *env, struct hf_task *task);

/* Workers */

enum hf_pool_kind {
    HF_POOL_LOG,   /* one thread: the metadata log's writes and syncs */
    HF_POOL_WRITE, /* one thread: segment appends and syncs */
    HF_POOL_DISK,  /* a few threads: cold reads, compaction, scans */
    HF_POOL_TABLE, /* two threads: merges, exports and checks of tables; each may take minutes */
    HF_POOL_COUNT,
};

/**
 * A piece of blocking work. Embedded by the caller, alive until done() returned.
 * run(): worker thread. done(): loop thread, exactly once, never before hf_env_submit() returns.
 * Jobs of a one-thread pool run in order of submission.
 */
struct hf_job {
    void (*run)(struct hf_job *job);
    void (*done)(struct hf_job *job);
    struct hf_job *next;
};

void hf_env_submit(struct hf_env *env, enum hf_pool_kind pool, struct hf_job *job);

/** Abort when not on the loop thread (start-up, before the loop runs, counts as the loop). */
void hf_assert_loop(struct hf_env *env);
/**
 * A part is started up late, while the loop runs: what blocks is allowed on the loop thread until
 * this is called with false. For rare acts of administration; everything else waits meanwhile.
 */
void hf_env_starting_up(struct hf_env *env, bool starting_up);
/** Abort when on the loop thread while the loop runs. */
void hf_assert_worker(struct hf_env *env);

/* Network: byte streams. Addresses are text, "HOST:PORT" (numeric host) or "unix:PATH". */

struct hf_stream;
struct hf_listener;

struct hf_stream_events {
    /** Connected (err 0) or failed; once; for streams made by hf_net_connect() only. */
    void (*connected)(void *ctx, int err);
    /** Bytes, end of stream or an error wait to be read; only while wanted. Level-triggered. */
    void (*readable)(void *ctx);
    /** There is room to write; only while wanted. Level-triggered. */
    void (*writable)(void *ctx);
};

typedef void (*hf_accept_fn)(void *ctx, struct hf_stream *stream); /* owns @stream */

/**
 * Errors: -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EINVAL (not an address)
 */
int hf_net_listen(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                  struct hf_listener **ret);
/** Stops accepting. NULL is a no-op. */
void hf_listener_close(struct hf_listener *listener);
/** The address in use (a port 0 is resolved), borrowed until close. */
const char *hf_listener_addr(const struct hf_listener *listener);

/**
 * Start connecting; events->connected tells how it went. The stream exists at once and may be
 * closed at any time. Errors: -EINVAL (not an address), -EMFILE.
 */
int hf_net_connect(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                   void *ctx, struct hf_stream **ret);

/** Give an accepted stream its callbacks (they start when reading or writing is wanted). */
void hf_stream_set_events(struct hf_stream *stream, const struct hf_stream_events *events,
                          void *ctx);
/** Which callbacks are wanted; both start as false. */
void hf_stream_want(struct hf_stream *stream, bool read, bool write);
/** Bytes moved; 0 on reading: end of stream; -EAGAIN: nothing now; other -errno: broken. */
ssize_t hf_stream_readv(struct hf_stream *stream, const struct iovec *iov, int iov_count);
ssize_t hf_stream_writev(struct hf_stream *stream, const struct iovec *iov, int iov_count);
/** The peer's address as text, borrowed until close. */
const char *hf_stream_peer(const struct hf_stream *stream);
/** No callback runs afterwards. May be called from within one. NULL is a no-op. */
void hf_stream_close(struct hf_stream *stream);

/* Disk: blocking calls. Paths are absolute. All return 0 (or bytes) or -errno. */

struct hf_file;

#define HF_FILE_CREATE    0x1u /* create when missing */
#define HF_FILE_EXCL      0x2u /* with CREATE: fail with -EEXIST */
#define HF_FILE_DIRECT    0x4u /* O_DIRECT: 4 KiB aligned memory, offset and length */
#define HF_FILE_READ_ONLY 0x8u

struct hf_disk_space {
    uint64_t total_bytes;
    uint64_t free_bytes; /* that this process may use */
};

/** The env's disk, for the calls below. */
struct hf_disk *hf_env_disk(struct hf_env *env);

int hf_disk_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret);
/** Also creates missing parents. Existing is not an error. Synced. */
int hf_disk_mkdir(struct hf_disk *disk, const char *path);
int hf_disk_unlink(struct hf_disk *disk, const char *path);
int hf_disk_rename(struct hf_disk *disk, const char *from, const char *to);
/** Names in @path (not "." and ".."), in no order; a non-zero answer of fn ends it and is returned.
 */
int hf_disk_list(struct hf_disk *disk, const char *path, int (*fn)(void *ctx, const char *name),
                 void *ctx);
/** Make creations, renames and unlinks in @path durable. */
int hf_disk_sync_dir(struct hf_disk *disk, const char *path);
int hf_disk_space(struct hf_disk *disk, const char *path, struct hf_disk_space *ret);
/**
 * Exclusive lock file, created when missing, held until hf_file_close(); the holder's pid is
 * written into it. Errors: -EBUSY  held by another process (its pid in *ret_pid, 0 if unknown).
 */
int hf_disk_lock(struct hf_disk *disk, const char *path, struct hf_file **ret, int *ret_pid);

/** NULL is a no-op. Does not sync. */
void hf_file_close(struct hf_file *file);
/** May be short. */
ssize_t hf_file_preadv(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off);
ssize_t hf_file_pwritev(struct hf_file *file, const struct iovec *iov, int iov_count, uint64_t off);
/** Like preadv, from memory only: -EAGAIN when it would have to wait. Loop threads may call it. */
ssize_t hf_file_preadv_nowait(struct hf_file *file, const struct iovec *iov, int iov_count,
                              uint64_t off);
/** fdatasync. After an error the file is suspect: never retry and assume success. */
int hf_file_sync(struct hf_file *file);
int hf_file_truncate(struct hf_file *file, uint64_t len_bytes);
/** Reserve space up to @len_bytes; the size grows to it. */
int hf_file_allocate(struct hf_file *file, uint64_t len_bytes);
int hf_file_size(struct hf_file *file, uint64_t *ret_bytes);

/* Whole transfers: loop over short ones. */

/** Errors: -EIO on a short file (*ret_got, when given, tells how much was there). */
int hf_file_read_full(struct hf_file *file, void *buf, size_t len_bytes, uint64_t off,
                      size_t *ret_got);
/** Modifies @iov. */
int hf_file_write_full(struct hf_file *file, struct iovec *iov, int iov_count, uint64_t off);
/** A small file replaced atomically and durably: written beside, synced, renamed, directory synced.
 */
int hf_disk_replace(struct hf_disk *disk, const char *path, const void *data, size_t len_bytes);
/** A small file whole, NUL-terminated, malloc'd. Errors: -EFBIG past @max_bytes. */
int hf_disk_slurp(struct hf_disk *disk, const char *path, size_t max_bytes, char **ret,
                  size_t *ret_len_bytes);

#endif
