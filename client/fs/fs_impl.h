/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_impl.h - what the modules of client/fs share: the file system, its inodes, its open files.
 *
 *     fs ──► inodes (hash) ──► dirty map, flush parts in order, waiters, extent cache
 *        └─► dirty FIFO of inodes ──► flushes (one object or inline bytes, one commit each)
 *
 * An inode object exists while something is known of it: open files, dirty bytes, calls under way,
 * cached extents, what it was when its last name went. Others are only numbers that pass through.
 *
 * Order: flushes of one inode commit in the order in which they took their ranges (its list of
 * parts); a flush submits its commit when it is durable and every earlier part of each of its
 * inodes has submitted, and while no window of them is being written whole.
 *
 * Threads: loop thread only.
 */
#ifndef HF_FS_FS_IMPL_H
#define HF_FS_FS_IMPL_H

#include <sys/queue.h>

#include "client/fs/arena.h"
#include "client/fs/dirty.h"
#include "client/fs/extents.h"
#include "client/fs/fs.h"

#define HF_FS_TAKE_BYTES     (512u << 10) /* writes from here on keep their receive buffer */
#define HF_FS_STREAM_BYTES   (1u << 20)   /* contiguous from a window's start: it is streamed */
#define HF_FS_STREAMS_MAX    4u    /* windows sent before they are full: stores hold their parts */
#define HF_FS_PIECES_MAX     4096u /* of one flush */
#define HF_FS_FLUSH_INODES   256u  /* of one packed flush: its commit fits a message */
#define HF_FS_RETRY_NS       (UINT64_C(500) * HF_NS_PER_MS)
#define HF_FS_STALE_MAX      8u /* commits under an old epoch, one after the other: a return each */
#define HF_FS_EXTENT_BYTES   ((size_t)32 << 20) /* of cached extents, all files */
#define HF_FS_IDLE_INODES    16384u             /* kept for what is cached of them */
#define HF_FS_GONE_INODES    4096u /* without a name, of which is kept what they were */
#define HF_FS_READ_BYTES_MAX (1u << 20)
#define HF_FS_CTIME_STEP_NS  1000u /* room for the commits before one whose ctime was told */

TAILQ_HEAD(hf_part_list, hf_flush_part);
TAILQ_HEAD(hf_inode_list, hf_inode);

/* A flush's share of one inode. */
struct hf_flush_part {
    struct hf_flush *flush;
    struct hf_inode *inode;              /* a reference */
    TAILQ_ENTRY(hf_flush_part) in_inode; /* in order of taking */
    struct hf_flush_part *next;          /* of the same flush */
    uint64_t seq;                        /* fs->part_seq when it was made */
    uint64_t end;                        /* of the file bytes it holds */
    uint64_t mtime_ns;                   /* sent with the commit; 0: none */
    uint64_t ctime_ns;                   /* that the commit makes; 0: not sent yet, or not known */
    uint32_t piece_from, piece_to;       /* of flush->pieces */
    bool submitted;
    bool append; /* all that its flush has; it goes to the end of the file */
    uint64_t at; /* append: where it lies in the map, all that the flush has */
};

enum hf_flush_state {
    HF_FLUSH_FILLING,    /* taking ranges */
    HF_FLUSH_PUTTING,    /* complete, not yet durable */
    HF_FLUSH_DURABLE,    /* waits for earlier ones to submit */
    HF_FLUSH_COMMITTING, /* in the stream */
    HF_FLUSH_COMPACTING, /* refused: a window has too many extents and is being written whole */
};

enum hf_flush_kind { HF_FLUSH_STREAM, HF_FLUSH_PACKED, HF_FLUSH_INLINE };

/* Dirty bytes on their way out: one object (or inline bytes), one commit. */
struct hf_flush {
    struct hf_fs *fs;
    enum hf_flush_kind kind;
    enum hf_flush_state state;
    bool begun;      /* put under way */
    bool background; /* counts in fs->background */
    bool kill;       /* commit with HF_SET_KILLPRIV */
    struct hf_piece_list pieces;
    uint32_t appended; /* pieces handed to the put */
    uint32_t bytes, extent_count, part_count;
    struct hf_flush_part *parts, *parts_last;
    uint64_t window; /* STREAM */
    struct hf_io_put put;
    struct hf_meta_call call;
    struct hf_fs_req *writer; /* a write-through waits for just this */
    bool over; /* what was written before lay where it writes, and was not committed */
    struct hf_flush *work_next;
    TAILQ_ENTRY(hf_flush) in_fs;
};

/*
 * Who may hold locks. What gives them up is part of it, and takes no memory any more. It stays
 * while a setlk is under way: a close by another thread gives up what the owner has, not what it
 * gets later.
 */
struct hf_lock_owner {
    uint64_t owner;
    bool flock;
    bool holds;                       /* else it has given up what it had, and is asking for more */
    bool writes;                      /* it has asked for an exclusive lock */
    uint32_t asking;                  /* setlk under way */
    const struct hf_fs_file *through; /* the open file of its first lock, or NULL */
    struct hf_lock_owner *next;
    struct hf_fs_req req;      /* the release; before it, what waits for the flushes */
    struct hf_fs_req *waiters; /* ring: setlk of an open file that has the same number by now */
};

/* What an inode was when its last name went. */
struct hf_gone {
    struct hf_attr attr;
    size_t target_len; /* a link */
    char target[];
};

struct hf_inode {
    struct hf_ino ino;
    struct hf_inode *hash_next;
    uint32_t refs;                   /* files, flush parts, requests, dirty list */
    uint32_t opens;                  /* files, and requests that make it, open it or name it */
    uint32_t mappable;               /* of opens: O_RDWR */
    uint64_t open_number;            /* highest that the leader granted; 0: made by this mount */
    TAILQ_ENTRY(hf_inode) in_opened; /* opens > 0 */
    bool orphan;                     /* its last name is gone, or it never had one */
    bool shared;                     /* an orphan that other mounts may have open, too */
    bool listed;                     /* in fs->dirty_inodes (a reference) */
    bool idle;                       /* in fs->idle_inodes (no references) */
    bool solo;                       /* a packed commit with it failed: flush it alone */
    bool kill;                       /* dirty data was written with HF_FS_WRITE_KILL */
    TAILQ_ENTRY(hf_inode) in_list;   /* dirty_inodes or idle_inodes */

    struct hf_dirty dirty;
    uint64_t dirty_since_ns; /* mono */
    uint64_t not_before_ns;  /* a failed flush: background waits until then */
    uint64_t no_inline;      /* index + 1 of a window that takes no more inline bytes; 0: none */
    uint32_t stale;          /* commits in a row that came under an old epoch */
    uint32_t untorn;         /* ... that were refused for windows of too many extents, of which
                              * none had too many */
    uint64_t dirty_mtime_ns; /* wall; 0: the commit leaves the time alone */
    uint64_t told_ctime_ns;  /* since the last write; 0: nobody looked */
    uint64_t append_from, append_end; /* DIRTY, appended: it may move; end 0: none */
    bool undone;             /* what was written at its place was taken, and is DIRTY again */
    uint64_t append_version; /* data_version when it was last said where the end is */
    uint64_t moves;          /* of what was appended: a reader looks again */
    uint64_t kernel_end;  /* the kernel takes the file to be at least as long; not more is known */
    uint64_t kernel_size; /* what it takes it to be, if known */
    bool kernel_known;
    uint64_t counted_bytes; /* of dirty.dirty_bytes in fs->dirty_bytes */
    uint64_t settle_seq;    /* fs->settle_seq of its last commit's answer */
    uint64_t settled_end, settled_mtime_ns, settled_ctime_ns; /* committed since last clean */
    bool settled_clean;
    struct hf_flush *stream;          /* FILLING, or NULL */
    uint64_t inline_from, inline_end; /* file bytes committed inline and not yet relocated */
    uint32_t inline_bytes;            /* of them; 0: not in fs->inline_inodes */
    TAILQ_ENTRY(hf_inode) in_inline;
    struct hf_part_list parts;
    struct hf_compact *compact; /* windows of it are written whole: no flush of it submits */
    uint32_t changes;           /* of the contents: operations under way but for commits */
    struct hf_fs_req *waiters;  /* doubly linked ring by next, prev */

    int err;          /* of the last failed flush */
    uint64_t err_seq; /* counts them; each file has what it reported */

    struct hf_extents extents;
    uint64_t cache_version;       /* data_version of the kernel's pages; 0: unknown */
    uint64_t told_version;        /* data_version at which the kernel last had to drop them ... */
    uint64_t told_mtime_ns;       /* ... and the time that it was told last */
    uint32_t told_turn;           /* hf_fs_told_contents() */
    bool fetching;                /* extents ahead of a reader */
    struct hf_lock_owner *owners; /* that may hold locks through this mount */
    struct hf_lock_owner *ending; /* open files are gone, locks not yet; each has a reference */

    struct hf_gone *gone; /* in fs->gone_inodes (a reference), or NULL */
    TAILQ_ENTRY(hf_inode) in_gone;
};

struct hf_fs_file {
    LIST_ENTRY(hf_fs_file) in_fs;
    struct hf_fs *fs;
    struct hf_inode *inode;
    uint32_t open_flags;
    bool apart; /* not an open one: a reader of the file system's own, of what is committed */
    uint64_t err_seen; /* inode->err_seq reported through this file */
    uint64_t next_off; /* where a sequential reader goes on */
    uint64_t ahead_end;
    uint64_t ahead_bytes;
};

struct hf_fs {
    struct hf_env *env;
    struct hf_session *session;
    struct hf_io *io;
    struct hf_bufpool *pool;
    uint64_t dirty_max_bytes, dirty_target_bytes, dirty_max_age_ns, readahead_bytes;
    uint32_t flush_streams;
    int lost; /* 0, or why */

    struct hf_inode **hash;
    uint32_t hash_size, inode_count; /* size: a power of two */
    struct hf_inode_list idle_inodes;
    uint32_t idle_count;
    struct hf_inode_list gone_inodes; /* FIFO */
    uint32_t gone_count;
    size_t extent_bytes;     /* sum of the inodes' extents.cost_bytes */
    size_t extent_bytes_max; /* HF_FS_EXTENT_BYTES; and what is being read needs */

    struct hf_arena arena;
    struct hf_inode_list dirty_inodes; /* FIFO by dirty_since_ns */
    uint64_t dirty_bytes;              /* sum over inodes */
    uint64_t flush_bytes;              /* in flushes */
    uint64_t budget_bytes;             /* taken from the session */
    TAILQ_HEAD(hf_flush_list, hf_flush) flushes;
    uint32_t flush_count, background, stream_count;
    uint32_t launched; /* flushes that are complete and on their way */
    uint64_t part_seq;
    uint64_t settle_seq; /* counts answers to commits */
    struct hf_timer age_timer;
    struct hf_timer wait_timer; /* of the writers that wait */
    struct hf_timer cuts_timer; /* of truncations to be tried again */
    uint64_t op_timeout_ns;
    uint64_t progress_ns;      /* when a flush last went well, or somebody began to wait */
    struct hf_fs_req *writers; /* FIFO ring: waiting for memory or budget */
    struct hf_fs_req *syncs;   /* ring: of everything, waiting for what is under way */
    struct hf_fs_req *cuts;    /* ring: truncations refused for now; cuts_timer is armed */
    bool budget_wait;
    bool asking;             /* what the file of ... */
    struct hf_fs_req *asked; /* ... the first of them has reserved; NULL: nobody waits for it */
    struct hf_meta_call reserved_call;
    bool in_kick;

    struct hf_inode_list inline_inodes; /* a reference each; FIFO */
    uint64_t inline_bytes;              /* of all of them */
    struct hf_relocation *relocation;   /* under way, or NULL */
    struct hf_timer relocate_timer;

    struct hf_wr_extent *commit_extents; /* scratch: HF_COMMIT_EXTENTS_MAX */
    struct hf_wr_inode *commit_inodes;   /* scratch: HF_FS_FLUSH_INODES */
    uint8_t *commit_bulk;                /* scratch: HF_INLINE_BYTES_MAX */

    struct hf_inode_list opened_inodes; /* FIFO: a walk of it finds what is opened meanwhile */
    struct hf_inode *opened_next;       /* where the walk goes on; NULL: at the end */
    uint64_t released[512];             /* pairs to tell the leader about: inode, number */
    uint32_t released_count;            /* of numbers */
    uint64_t open_number;               /* the last one given out */
    struct hf_timer release_timer;
    uint32_t calls;      /* of the file system's own, under way */
    uint64_t lock_waits; /* counts them: their numbers */
    LIST_HEAD(hf_file_list, hf_fs_file) files;
    struct hf_file_list closed; /* by hf_fs_release_all(), not yet freed */
    uint32_t open_count;
    struct hf_fs_stats stats; /* counters only */
};

/* fs.c */

/** A request of one look or one operation: answer in req->attr and so on, then after(). */
int hf_fs_look(struct hf_fs *fs, const struct hf_meta_read *rd, struct hf_fs_req *req);
int hf_fs_mutate(struct hf_fs *fs, const struct hf_meta_op *op, struct hf_fs_req *req);
/** Free what the request holds and call done(). */
void hf_fs_finish(struct hf_fs_req *req, int err);
/** What a starter returns: an outcome known at once frees what the request holds. */
int hf_fs_return(struct hf_fs_req *req, int err);
void hf_fs_begin(struct hf_fs *fs, struct hf_fs_req *req);
/** Hold an inode (reference) and remember its errors so far. */
void hf_fs_hold(struct hf_fs_req *req, struct hf_inode *inode);
/** One more of inode->opens. The caller has a reference. */
void hf_fs_inode_opened(struct hf_fs *fs, struct hf_inode *inode);
/** One of inode->opens is over; the leader is told of the last. The caller has a reference. */
void hf_fs_inode_closed(struct hf_fs *fs, struct hf_inode *inode);
/** Fire and forget: a look of which only the leader's side matters. */
void hf_fs_look_quietly(struct hf_fs *fs, const struct hf_meta_read *rd);
void hf_req_ring_add(struct hf_fs_req **ring, struct hf_fs_req *req);
void hf_req_ring_remove(struct hf_fs_req **ring, struct hf_fs_req *req);

/* inode.c */

/** NULL: unknown. No reference. */
struct hf_inode *hf_fs_inode_find(struct hf_fs *fs, struct hf_ino ino);
/** With a new reference; created when unknown. NULL: -ENOMEM. */
struct hf_inode *hf_fs_inode_get(struct hf_fs *fs, struct hf_ino ino);
struct hf_inode *hf_fs_inode_ref(struct hf_inode *inode);
void hf_fs_inode_unref(struct hf_fs *fs, struct hf_inode *inode);
/** Nobody but this mount's programs will read what they write to it. */
bool hf_fs_inode_private(const struct hf_inode *inode);
void hf_fs_inode_overlay(struct hf_inode *inode, struct hf_attr *attr);
/** Also what was committed while @req was asking. */
void hf_fs_inode_overlay_since(struct hf_inode *inode, const struct hf_fs_req *req,
                               struct hf_attr *attr);
/** Its own commit or truncation made data_version @version. */
void hf_fs_inode_own_version(struct hf_inode *inode, uint64_t version);
/** attr.c: the same, of what the kernel was told. */
void hf_fs_inode_own_told(struct hf_inode *inode, uint64_t version);
/** attr.c, timer: the truncations that were refused for now. */
void hf_fs_cuts_time(void *fs);
/** Forget everything dirty (an unlinked or truncated file). */
void hf_fs_inode_drop_dirty(struct hf_fs *fs, struct hf_inode *inode);
/**
 * This mount took away the last name of what it has not open as a file: the leader knows it no
 * longer, but a FIFO, a directory or an O_PATH descriptor may hold it. Kept until it is forgotten.
 * @shared  somebody has it open
 * @target  of a link; copied
 */
void hf_fs_inode_gone(struct hf_fs *fs, const struct hf_attr *attr, bool shared, const void *target,
                      size_t target_len);
void hf_fs_inode_table_free(struct hf_fs *fs);
/** Forget the cached extents. */
void hf_fs_inode_clear_extents(struct hf_fs *fs, struct hf_inode *inode);
/** The inode's cached extents took @before_bytes: count, and when all take too much forget those of
 *  idle inodes, then of the open ones that have most. */
void hf_fs_inode_count_extents(struct hf_fs *fs, struct hf_inode *inode, size_t before_bytes);
void hf_fs_inode_last_close(struct hf_fs *fs, struct hf_inode *inode);

/* write.c */

/** Writers waiting for memory or budget may go on. */
void hf_fs_writers_wake(struct hf_fs *fs);
/* Timer: they have waited for long. */
void hf_fs_writers_time(void *fs);
/** A flush has ended: syncs of everything that waited for just that are done. */
void hf_fs_syncs_wake(struct hf_fs *fs);
void hf_fs_budget_trim(struct hf_fs *fs);
void hf_fs_budget_spend(struct hf_fs *fs, uint64_t bytes);

/* flush.c */

/** The inode's dirty bytes changed: (un)list it, stream it, arm timers. */
void hf_flush_note(struct hf_fs *fs, struct hf_inode *inode);
/** After a write of [off, end): stream windows that fill in order. */
void hf_flush_stream(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end);
/** Start flushing all that is dirty of an inode. Errors: -ENOMEM (the rest stays dirty). */
int hf_flush_inode(struct hf_fs *fs, struct hf_inode *inode, bool urgent);
/** The same of every inode, small files together. */
int hf_flush_all(struct hf_fs *fs, bool urgent);
/** No more bytes join the inode's stream. */
void hf_flush_seal(struct hf_fs *fs, struct hf_inode *inode);
/** Start flushing what is appended; what follows is a record of its own. */
void hf_flush_append(struct hf_fs *fs, struct hf_inode *inode);
/**
 * Flush just this range for @writer, who gets the outcome.
 *
 * @over  it lies over what was dirty: it does not go with an error that only the writer is told
 * Errors: -ENOMEM  (done not called)
 */
int hf_flush_range(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end, bool over,
                   struct hf_fs_req *writer);
/**
 * What waits for the inode's flushes from now on waits for this one, which has no bytes, until
 * hf_flush_barrier_end(). NULL: -ENOMEM.
 */
struct hf_flush *hf_flush_barrier(struct hf_fs *fs, struct hf_inode *inode);
void hf_flush_barrier_end(struct hf_flush *barrier);
/** Age and size: start what is due. */
void hf_flush_kick(struct hf_fs *fs);
/** It has ended: its ranges leave the map, are DIRTY again, or go again in another shape. */
void hf_flush_end(struct hf_flush *flush, int err);

/* commit.c */

/** Submit it, when it is durable and its turn, and those that waited for it. */
void hf_flush_commit(struct hf_flush *first);
/** What was DIRTY was dropped, or a window is whole: the first part may have waited for that. */
void hf_flush_go(struct hf_inode *inode);
/** A part has left: waiters whose last one that was go on. */
void hf_flush_wake(struct hf_inode *inode);
/** A then of hf_flush_wait(): it ends with an error reported since it held its inode. */
void hf_flush_through_done(struct hf_fs_req *req);
/** @then runs when every flush of the inode that is under way now has ended; false: none is. */
bool hf_flush_wait(struct hf_inode *inode, struct hf_fs_req *req,
                   void (*then)(struct hf_fs_req *req));
/**
 * The data of the inodes that @req holds is committed: 0, or its error since they were held.
 * HF_FS_PENDING: @again runs, which calls this again. Uses req->state, 0 at first.
 */
int hf_flush_held(struct hf_fs_req *req, void (*again)(struct hf_fs_req *req));

/* append.c: bytes that go to the end of the file, wherever that is */

/** Where the first of them is; UINT64_MAX: none. */
uint64_t hf_append_start(const struct hf_inode *inode);
/** Where the next record goes, for which the kernel says @off. */
uint64_t hf_append_place(const struct hf_inode *inode, uint64_t off);
/** [off, end) is DIRTY and appended. */
void hf_append_note(struct hf_inode *inode, uint64_t off, uint64_t end);
/** What lies behind @size is DIRTY no longer. */
void hf_append_cut(struct hf_inode *inode, uint64_t size);
/** [append_from, *ret_end) goes next, before the part returned. NULL: last. */
struct hf_flush_part *hf_append_next(const struct hf_inode *inode, uint64_t *ret_end);
/** @part is the flush of that, complete. */
void hf_append_taken(struct hf_inode *inode, struct hf_flush_part *part,
                     struct hf_flush_part *behind);
/** May it not be submitted yet? */
bool hf_append_waits(const struct hf_flush_part *part);
/** The last part is new, and of what was not appended: if it may be of what was undone it goes
 *  before what is, but for what is under way. */
void hf_append_yield(struct hf_inode *inode);
/** Does a record of @len bytes not fit in one flush with what is DIRTY and appended? */
bool hf_append_full(const struct hf_inode *inode, uint32_t len);
/** It was committed: the file's attributes right after it. */
void hf_append_placed(struct hf_flush_part *part, const struct hf_attr *attr);
/** It was refused; the file's attributes then. */
void hf_append_refused(struct hf_flush_part *part, const struct hf_attr *attr);
/** hf_dirty_settle() of its ranges, which lie elsewhere by now than where they were taken. */
void hf_append_settle(struct hf_flush_part *part, bool undo);
/** The leader says so of the file: move what floats. True: not before the commit under way has
 *  ended (hf_append_wait()): it may be what @attr tells of. */
bool hf_append_look(struct hf_inode *inode, const struct hf_attr *attr);
void hf_append_wait(struct hf_inode *inode, struct hf_fs_req *req,
                    void (*then)(struct hf_fs_req *req));

/* compact.c */

/**
 * Those of the windows that have very many extents are written whole. From here to done() no flush
 * of the inode is submitted. done(0): there was one; -E2BIG: there was none.
 *
 * @windows  malloc'd, ascending; consumed
 * Errors: -ENOMEM  nothing is begun, done() does not run
 */
int hf_compact_windows(struct hf_fs *fs, struct hf_inode *inode, uint64_t *windows, uint32_t count,
                       void (*done)(void *ctx, int err), void *ctx);
/** No other change of the contents may be sent now: @then runs when it may. False: it may. */
bool hf_compact_wait(struct hf_inode *inode, struct hf_fs_req *req,
                     void (*then)(struct hf_fs_req *req));
/** A commit or another change of the inode has ended: what waits for the last one begins. */
void hf_compact_go(struct hf_inode *inode);
/**
 * A change of the contents other than a commit, and its answer. None is sent while a window is
 * written whole (hf_compact_wait()), and none is begun to be before those under way have ended.
 */
int hf_contents_mutate(struct hf_fs *fs, const struct hf_meta_op *op, struct hf_inode *inode,
                       struct hf_fs_req *req);
void hf_contents_answered(struct hf_inode *inode);

/* relocate.c */

/** [off, end) of the inode was committed inline. */
void hf_relocate_note(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end,
                      uint32_t bytes);
/** Stop; what is inline stays inline. */
void hf_relocate_fini(struct hf_fs *fs);

/* lock.c */

void hf_lock_owners_free(struct hf_inode *inode);
/** Does the owner (of fcntl locks) hold locks through this mount? */
bool hf_lock_held(const struct hf_inode *inode, uint64_t owner, bool flock);
/** May something have been written under a lock that is held through this mount? */
bool hf_lock_writes(const struct hf_inode *inode);
/** Give up the owner's fcntl locks, for @req: HF_FS_PENDING, then req->after(); 0: it has none. */
int hf_lock_give_back(struct hf_inode *inode, uint64_t owner, struct hf_fs_req *req);
/** The file is closed for good: locks taken through it go, after what was written under them. */
void hf_lock_release(const struct hf_fs_file *file);

#endif
