/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsx.h - one file (and a second one to copy with) under random operations, beside a model of it.
 *
 *     draw ──► log ──► hand over to the operation's mount ──► do it ──► model
 *                                                              └──► what was read = model?
 *
 * The files are read and written by several processes and through two mounts, one operation at a
 * time. When the mount changes, what was written is handed over: fsync or close there, and here
 * either a fresh open, or nothing (soft), as docs/guarantees.md allows for read and write. A
 * mapping and O_APPEND need a fresh open: the operation makes one.
 */
#ifndef HF_TESTS_TORTURE_FSX_H
#define HF_TESTS_TORTURE_FSX_H

#include "tests/posix/torture/torture.h"

#define FSX_FILES  2u
#define FSX_MOUNTS 2u
#define FSX_ALIGN  4096u /* of O_DIRECT */

/* name, weight */
#define FSX_KINDS(X)                                                                               \
    X(READ, "read", 240)                                                                           \
    X(WRITE, "write", 260)                                                                         \
    X(TRUNCATE, "truncate", 60)                                                                    \
    X(PUNCH, "punch", 50)                                                                          \
    X(ZERO, "zero", 40)                                                                            \
    X(ALLOCATE, "allocate", 30)                                                                    \
    X(COPY, "copy", 60)                                                                            \
    X(SEEK, "seek", 50)                                                                            \
    X(STAT, "stat", 60)                                                                            \
    X(TIMES, "times", 20)                                                                          \
    X(CHMOD, "chmod", 10)                                                                          \
    X(FSYNC, "fsync", 30)                                                                          \
    X(REOPEN, "reopen", 40)                                                                        \
    X(DROP, "drop", 30)    /* fsync, and the kernel forgets its pages */                           \
    X(PEEK, "peek", 30)    /* a read through the other mount, unchecked: it may fill a cache */    \
    X(VERIFY, "verify", 4) /* all of the file */

enum fsx_kind {
#define X(name, text, weight) FSX_##name,
    FSX_KINDS(X)
#undef X
        FSX_KIND_COUNT
};

/* How, as bits: name, text */
#define FSX_HOWS(X)                                                                                \
    X(DIRECT, "direct") /* O_DIRECT */                                                             \
    X(MMAP, "mmap")     /* through a shared mapping */                                             \
    X(HELD, "held")     /* mmap: through a mapping that stays until the file is closed */          \
    X(APPEND, "append") /* O_APPEND; off is where the end was */                                   \
    X(SEEKING, "lseek") /* lseek and read or write, not pread or pwrite */                         \
    X(VECTOR, "vector") /* preadv, pwritev: in three parts */                                      \
    X(SYNC, "sync")     /* msync; O_SYNC; fdatasync instead of fsync */                            \
    X(KEEP, "keep")     /* FALLOC_FL_KEEP_SIZE */                                                  \
    X(PATH, "path")     /* truncate, stat: by name */                                              \
    X(OTHER, "other")   /* copy: into the other file */                                            \
    X(CLOSING, "close") /* handed over by close, not fsync */                                      \
    X(SOFT, "soft")     /* handed over without a fresh open */

enum fsx_how_bit {
#define X(name, text) FSX_BIT_##name,
    FSX_HOWS(X)
#undef X
        FSX_HOW_COUNT
};

enum fsx_how {
#define X(name, text) FSX_##name = 1 << FSX_BIT_##name,
    FSX_HOWS(X)
#undef X
};

struct fsx_op {
    uint64_t off, len; /* truncate: off is the size */
    uint64_t to;       /* copy */
    uint32_t id;       /* its number when it was drawn; its bytes depend on it */
    uint16_t how;
    uint8_t kind, process, mount, file;
};

/* A flaw planted for the self-test: what a broken file system would do. */
enum fsx_plant {
    FSX_PLANT_NONE,
    FSX_PLANT_FLIP,     /* behind the tool's back one bit changes, once */
    FSX_PLANT_PUNCH,    /* a punched hole lacks its last byte */
    FSX_PLANT_LOST,     /* every hundredth write is not done */
    FSX_PLANT_SIZE,     /* truncate up is a byte short */
    FSX_PLANT_COPY,     /* a copy is of the bytes one further */
    FSX_PLANT_HANDOVER, /* the first byte read after a change of mounts is wrong */
    FSX_PLANT_COUNT
};

struct fsx_config {
    const char *dirs[FSX_MOUNTS]; /* dirs[1]: NULL or the same through another mount */
    uint64_t seed, ops, max_bytes;
    unsigned processes, stall_s;
    unsigned weights[FSX_KIND_COUNT];
    uint16_t hows; /* that may be drawn */
    const char *log;
    enum fsx_plant plant;
    bool quiet;
};

struct fsx_model {  /* of one file */
    uint8_t *bytes; /* shared; zero from size on */
    uint64_t size;
    uint8_t home;  /* the mount of the last operation */
    bool soft;     /* handed over without a fresh open */
    bool mapped;   /* written through a mapping, and not synced since */
    int64_t mtime; /* seconds; set by "times", and nothing changed it since; 0: unknown */
};

struct fsx_shared {
    struct torture_shared torture;
    struct fsx_model files[FSX_FILES];
    uint64_t skipped, bytes_read, bytes_written;
    uint64_t handovers;
};

struct fsx {
    const struct fsx_config *config;
    struct fsx_shared *shared;
    struct fsx_op *ops; /* shared; of those done all, when drawn */
    uint64_t count;
    bool drawn;    /* they are drawn as they are done, else given */
    char name[64]; /* of the files: NAME.0, NAME.1 */
    int log_fd;

    /* of one process */
    bool flaw_due; /* FSX_PLANT_HANDOVER */
    int fds[FSX_MOUNTS][FSX_FILES], direct_fds[FSX_MOUNTS][FSX_FILES];
    uint8_t *maps[FSX_MOUNTS][FSX_FILES]; /* held ones, of max_bytes */
    uint8_t *buf;                         /* aligned; max_bytes and a page */
};

/* fsx_model.c */

void fsx_model_write(struct fsx_model *model, uint64_t off, const uint8_t *bytes, uint64_t len);
void fsx_model_zero(struct fsx_model *model, uint64_t off, uint64_t len, bool keep_size);
void fsx_model_resize(struct fsx_model *model, uint64_t size);
/** Report when [off, off + len) of the model is not @bytes. True: it is. */
bool fsx_model_check(struct fsx *fsx, const struct fsx_op *op, unsigned file, uint64_t off,
                     const uint8_t *bytes, uint64_t len, const char *what);
/** All of the model's bytes there are zero. */
bool fsx_model_is_zero(const struct fsx_model *model, uint64_t off, uint64_t end);
/** The last operations that touched the byte. */
void fsx_model_history(struct fsx *fsx, unsigned file, uint64_t off);

/* fsx_draw.c */

struct fsx_op fsx_draw(const struct fsx *fsx, uint64_t index);
unsigned fsx_owner(const struct fsx *fsx, uint64_t index);

/* fsx_file.c: what fails is reported */

bool fsx_is_planted(const struct fsx *fsx, enum fsx_plant plant);
struct fsx_model *fsx_model_of(struct fsx *fsx, unsigned file);
void fsx_fails(struct fsx *fsx, const struct fsx_op *op, const char *what, int error);
void fsx_differs(struct fsx *fsx, const struct fsx_op *op, const char *what, int64_t have,
                 int64_t want);
/** In one static buffer. */
const char *fsx_path(const struct fsx *fsx, unsigned mount, unsigned file);
/** Opened when it is not yet; -1. */
int fsx_fd(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file, bool direct);
bool fsx_reopen(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file);
void fsx_close_all(struct fsx *fsx);
bool fsx_sync(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file,
              bool data_only);
/** The operation's mount may use the file: what was done through the other is handed over. */
bool fsx_arrive(struct fsx *fsx, const struct fsx_op *op, unsigned file);
/** fsx->buf from or to a shared mapping. */
bool fsx_map_copy(struct fsx *fsx, const struct fsx_op *op, uint64_t len, bool write);

/* fsx_do.c */

/** Do it and check. What does not hold is reported. */
void fsx_do(struct fsx *fsx, const struct fsx_op *op);
/** Read all of both files through all mounts. */
void fsx_verify_all(struct fsx *fsx);

/* fsx_log.c */

/** One line without its end. */
void fsx_op_text(const struct fsx_op *op, char *text, size_t size);
/** False: no operation. */
bool fsx_op_parse(const char *line, struct fsx_op *ret);
/** The operations of a log, in shared memory; 0: said on stderr. */
uint64_t fsx_log_read(const char *path, const struct fsx_config *config, struct fsx_op **ret);
bool fsx_log_write(const char *path, const struct fsx_op *ops, uint64_t count);
/** A kind or a how of that name: not drawn. False: none. */
bool fsx_leave_out(struct fsx_config *config, const char *name);

/* fsx_run.c */

enum fsx_outcome { FSX_CLEAN, FSX_MISMATCH, FSX_CANNOT };
struct fsx_result {
    enum fsx_outcome outcome;
    uint64_t failed_index;
    char report[TORTURE_REPORT];
    struct fsx_op *ops; /* shared; done until failed_index */
    uint64_t count, skipped, bytes_read, bytes_written, handovers;
};
/** On new files. @ops NULL: drawn. fsx_result_free() afterwards. */
void fsx_run(const struct fsx_config *config, struct fsx_op *ops, uint64_t count,
             struct fsx_result *ret);
void fsx_result_free(struct fsx_result *result);

/* fsx_shrink.c */

/**
 * Leave out operations while the run still fails; each is tried @tries times. Returns how many are
 * left in @ops.
 */
uint64_t fsx_shrink(const struct fsx_config *config, struct fsx_op *ops, uint64_t count,
                    unsigned tries);

/* fsx_selftest.c */

/** Each planted flaw must be found and made small. Returns the exit status. */
int fsx_selftest(const struct fsx_config *config);

#endif
