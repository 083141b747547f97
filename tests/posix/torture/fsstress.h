/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsstress.h - names under random operations of many processes, beside a model of them.
 *
 *     DIR/stress.PID/p0 .. pN   each one process's own: the model knows every outcome
 *     DIR/stress.PID/shared     everybody's: each answer must be one that some order allows
 *
 * An operation is drawn from the seed and the model, so that each process plays the same again.
 * Directories are chosen among those that there are, names out of a few, so that operations meet
 * what others left. Through two mounts each takes the one or the other.
 */
#ifndef HF_TESTS_TORTURE_FSSTRESS_H
#define HF_TESTS_TORTURE_FSSTRESS_H

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/posix/torture/torture.h"

#define FSS_MOUNTS     2u
#define FSS_NODES      200u
#define FSS_DIRS_MAX   48u
#define FSS_ENTRIES    180u
#define FSS_NAMES      16u
#define FSS_SHARED     8u /* names in the shared directory, of files and of directories */
#define FSS_FILE_BYTES 32768u
#define FSS_XATTRS     4u
#define FSS_XATTR_MAX  200u
#define FSS_HELD       8u
#define FSS_HISTORY    16u
#define FSS_ROOT       0u /* node: the process's own directory */
#define FSS_NONE       UINT32_MAX

/* name, text, weight */
#define FSS_KINDS(X)                                                                               \
    X(CREATE, "create", 90)                                                                        \
    X(WRITE, "write", 90)                                                                          \
    X(READ, "read", 60)                                                                            \
    X(TRUNCATE, "truncate", 30)                                                                    \
    X(MKDIR, "mkdir", 50)                                                                          \
    X(SYMLINK, "symlink", 25)                                                                      \
    X(MKFIFO, "mkfifo", 10)                                                                        \
    X(LINK_TO, "link", 50)                                                                         \
    X(UNLINK, "unlink", 60)                                                                        \
    X(RMDIR, "rmdir", 25)                                                                          \
    X(RENAME, "rename", 70)                                                                        \
    X(NOREPLACE, "noreplace", 30)                                                                  \
    X(EXCHANGE, "exchange", 30)                                                                    \
    X(CHMOD, "chmod", 30)                                                                          \
    X(SETXATTR, "setxattr", 40)                                                                    \
    X(REMOVEXATTR, "removexattr", 20)                                                              \
    X(GETXATTR, "getxattr", 30)                                                                    \
    X(STAT, "stat", 80)                                                                            \
    X(READDIR, "readdir", 40)                                                                      \
    X(HOLD, "hold", 30)           /* open, and keep it */                                          \
    X(HELD_READ, "held-read", 40) /* whatever became of its names */                               \
    X(HELD_WRITE, "held-write", 20)                                                                \
    X(RELEASE, "release", 15)                                                                      \
    X(PUBLISH, "publish", 40) /* shared: a whole file moves over another */                        \
    X(LOOK, "look", 60)       /* shared: it is a whole file */                                     \
    X(SWAP, "swap", 15)                                                                            \
    X(ALIAS, "alias", 15)                                                                          \
    X(TAKE_AWAY, "take-away", 15)                                                                  \
    X(SHARED_MKDIR, "shared-mkdir", 10)                                                            \
    X(SHARED_RMDIR, "shared-rmdir", 10)                                                            \
    X(SHARED_LIST, "shared-list", 20)

enum fss_kind {
#define X(name, text, weight) FSS_##name,
    FSS_KINDS(X)
#undef X
        FSS_KIND_COUNT
};

struct fss_op {
    uint32_t id;
    uint8_t kind, process, mount;
    uint8_t name, name2;
    uint16_t dir, dir2; /* modulo the directories that there are */
    uint32_t value;     /* sizes, offsets, modes, which xattr, which held file */
};

enum fss_type { FSS_FILE, FSS_DIR, FSS_LINK, FSS_FIFO };

struct fss_xattr {
    bool set;
    uint16_t len;
    uint8_t bytes[FSS_XATTR_MAX];
};

struct fss_node {
    bool used;
    enum fss_type type;
    mode_t mode;
    uint32_t nlink; /* names; not what a directory's subdirectories add */
    uint32_t held;  /* times that it is open */
    uint32_t entry; /* of a directory: the one that leads to it */
    uint32_t subdirs, children;
    uint8_t moved; /* of a directory: mounts (bits) that have not seen where it is now */
    uint64_t ino;
    uint32_t size;
    uint8_t *bytes;
    char target[48];
    struct fss_xattr xattrs[FSS_XATTRS];
};

struct fss_entry {
    bool used;
    uint8_t name;
    uint32_t dir, node;
};

struct fss_model { /* of one process */
    struct fss_node nodes[FSS_NODES];
    struct fss_entry entries[FSS_ENTRIES];
    uint32_t dirs[FSS_DIRS_MAX], dir_count, entry_count;
};

struct fss_config {
    const char *dirs[FSS_MOUNTS];
    uint64_t seed, ops;
    unsigned processes, stall_s;
    unsigned weights[FSS_KIND_COUNT];
    const char *log;
    unsigned plant; /* self-test: 0 none, else which flaw */
    bool quiet;
};

#define FSS_PLANTS 6u

struct fss {
    const struct fss_config *config;
    struct torture_shared *shared;
    const struct fss_op *ops; /* replayed ones, all processes'; NULL: drawn */
    uint64_t op_count;
    char base[FSS_MOUNTS][PATH_MAX - 256]; /* DIR/stress.PID */
    bool has_xattrs, counts_subdirs;
    int log_fd;

    /* of one process */
    unsigned process, mounts;
    struct fss_model *model;
    struct fss_op now;       /* under way */
    const struct fss_op *op; /* &now */
    uint64_t replay_at;
    struct {
        int fd;
        uint32_t node;
    } held[FSS_HELD];
    char history[FSS_HISTORY][512];
    unsigned history_next;
    uint8_t buf[FSS_FILE_BYTES + 1];
};

/* fss_model.c */

void fss_model_init(struct fss_model *model);
const char *fss_name(uint8_t name);
/** The entry of that name, or FSS_NONE. */
uint32_t fss_find(const struct fss_model *model, uint32_t dir, uint8_t name);
/** A new node with one name. FSS_NONE: there is no room. */
uint32_t fss_add(struct fss_model *model, uint32_t dir, uint8_t name, enum fss_type type,
                 mode_t mode);
bool fss_add_entry(struct fss_model *model, uint32_t dir, uint8_t name, uint32_t node);
void fss_remove_entry(struct fss_model *model, uint32_t entry);
/** The node goes when it has no name and is not open. */
void fss_settle(struct fss_model *model, uint32_t node);
void fss_move_entry(struct fss_model *model, uint32_t entry, uint32_t dir, uint8_t name);
void fss_swap_entries(struct fss_model *model, uint32_t a, uint32_t b);
/** Is @dir below, or is it, the directory @above? */
bool fss_is_below(const struct fss_model *model, uint32_t dir, uint32_t above);
void fss_set_size(struct fss_node *node, uint32_t size);
/** Path of a name in @dir, through a mount, in one of a few buffers. */
const char *fss_path(const struct fss *fss, unsigned mount, uint32_t dir, uint8_t name);
const char *fss_dir_path(const struct fss *fss, unsigned mount, uint32_t dir);

/* fss_do.c: names; fss_data.c: contents and attributes; fss_public.c: the shared directory */

void fss_do(struct fss *fss);
/** The mount looks at each directory that was moved through the other one. */
void fss_meet_moved(struct fss *fss, unsigned mount);
void fss_do_data(struct fss *fss, uint32_t dir, uint32_t entry);
void fss_do_public(struct fss *fss);
/** Report. printf's. */
void fss_fails(struct fss *fss, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The call returned -1 with @want, or not -1 and @want is 0. True: it did, and succeeded. */
bool fss_expect(struct fss *fss, long ret, int want, const char *call);
uint8_t *fss_public_bytes(uint32_t process, uint32_t id, uint32_t *ret_len);

/* fss_check.c: the whole tree is as the model says */

bool fss_check_node(struct fss *fss, unsigned mount, const char *path, uint32_t node);
bool fss_check_dir(struct fss *fss, unsigned mount, uint32_t dir);
bool fss_check_tree(struct fss *fss, unsigned mount);
/** The shared directory is the same through all mounts. */
bool fss_check_public(struct fss *fss);

/* fss_log.c */

struct fss_op fss_draw(const struct fss_config *config, unsigned process, uint64_t index);
/** With what it meets, after a '#'. */
void fss_op_text(const struct fss *fss, const struct fss_op *op, char *text, size_t size);
bool fss_op_parse(const char *line, struct fss_op *ret);
/** NULL: said on stderr. */
struct fss_op *fss_log_read(const char *path, const struct fss_config *config, uint64_t *ret_count);

/* fss_run.c */

enum fss_outcome { FSS_CLEAN, FSS_MISMATCH, FSS_CANNOT };
/** Below new directories. @report: of a mismatch. */
enum fss_outcome fss_run(const struct fss_config *config, const struct fss_op *ops, uint64_t count,
                         char report[TORTURE_REPORT]);

#endif
