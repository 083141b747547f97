/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix.h - claims about a file system, from POSIX.1-2024 and the Linux manual pages.
 *
 *     static void replaces(void)
 *     {
 *         NEED(px_make(PX_REG, "a", 0644) == 0);
 *         OK(rename("a", "b"), "rename gives a file another name");
 *         FAILS(rename("a", "b"), ENOENT, "rename of what is not there");
 *         CLAIM(px_exists("b"), "the other name is there");
 *     }
 *
 *     const struct px_group px_rename[] = {
 *         {"replaces", replaces, 0},
 *         {NULL, NULL, 0},
 *     };
 *
 * A group runs in a process of its own, in an empty directory that is its working directory, with
 * umask 022, and within PX_GROUP_S. What fails is said at once; the group goes on. NEED is no
 * claim: without it the rest of the group would say nothing, and the group has failed.
 *
 * A claim's text says what holds, in terms of the interface; in a table it names the row, so that
 * no two claims of a file have the same text. Each is counted once for each time it is made.
 */
#ifndef HF_TESTS_POSIX_H
#define HF_TESTS_POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define PX_GROUP_S  120 /* a group that takes longer has failed */
#define PX_ROOT     1u  /* needs root: becomes other users, makes devices */
#define PX_TWO      2u  /* needs a second mount: px_other() */
#define PX_SLOW     4u  /* only with --slow */
#define PX_USERS    4u
#define PX_NAME_MAX 255

struct px_group {
    const char *name;
    void (*run)(void);
    unsigned flags;
};

/* One line for each file; the order is that of the report. */
#define PX_FILES(X)                                                                                \
    X(access)                                                                                      \
    X(acl)                                                                                         \
    X(chmod)                                                                                       \
    X(chown)                                                                                       \
    X(coherence)                                                                                   \
    X(copy)                                                                                        \
    X(direct)                                                                                      \
    X(fallocate)                                                                                   \
    X(handle)                                                                                      \
    X(ioctl)                                                                                       \
    X(link)                                                                                        \
    X(lock)                                                                                        \
    X(lock_wait)                                                                                   \
    X(mkdir)                                                                                       \
    X(mknod)                                                                                       \
    X(mmap)                                                                                        \
    X(open)                                                                                        \
    X(open_flags)                                                                                  \
    X(path)                                                                                        \
    X(read)                                                                                        \
    X(readdir)                                                                                     \
    X(rename)                                                                                      \
    X(rmdir)                                                                                       \
    X(seek)                                                                                        \
    X(seekdir)                                                                                     \
    X(setid)                                                                                       \
    X(status)                                                                                      \
    X(symlink)                                                                                     \
    X(sync)                                                                                        \
    X(times)                                                                                       \
    X(truncate)                                                                                    \
    X(umask)                                                                                       \
    X(unlink)                                                                                      \
    X(unlinked)                                                                                    \
    X(utimens)                                                                                     \
    X(write)                                                                                       \
    X(xattr)

#define X(file) extern const struct px_group px_##file[];
PX_FILES(X)
#undef X

/* Claims */

#define CLAIM(holds, ...)       px_claim(__FILE__, __LINE__, (holds), -1, __VA_ARGS__)
#define OK(call, ...)           px_ok(__FILE__, __LINE__, (long)(call), __VA_ARGS__)
#define FAILS(call, error, ...) px_fails(__FILE__, __LINE__, (long)(call), error, __VA_ARGS__)
/** The numbers are equal; both are said when they are not. */
#define EQUAL(have, want, ...)                                                                     \
    px_equal(__FILE__, __LINE__, (long long)(have), (long long)(want), __VA_ARGS__)
/** @error 0: as OK, else as FAILS; for tables. */
#define GIVES(call, error, ...)                                                                    \
    ((error) != 0 ? px_fails(__FILE__, __LINE__, (long)(call), error, __VA_ARGS__)                 \
                  : px_ok(__FILE__, __LINE__, (long)(call), __VA_ARGS__) != -1)
#define NEED(holds) ((holds) ? (void)0 : px_not_ready(__FILE__, __LINE__, #holds))

/** Returns @holds. @error: errno to be said, -1: none. */
bool px_claim(const char *file, int line, bool holds, int error, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/** The call returned no -1. Returns what it returned. */
long px_ok(const char *file, int line, long ret, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/** The call returned -1 with errno @error. True: it did. */
bool px_fails(const char *file, int line, long ret, int error, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
bool px_equal(const char *file, int line, long long have, long long want, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/** Ends the group. */
void px_not_ready(const char *file, int line, const char *what) __attribute__((noreturn));

/**
 * The kernel makes it impossible on this file system; docs/posix.md says why, under @key. True:
 * leave the claims out. (On a file system that is not FUSE: always false.)
 */
bool px_impossible(const char *key);

/* Users: never root, with no supplementary groups unless given. PX_ROOT groups only. */

/** uid (and gid) of user 0 .. PX_USERS - 1. */
uid_t px_uid(unsigned user);
/** From here on this process is that user, with @gid and the groups; permissions apply. */
void px_become(uid_t uid, gid_t gid, const gid_t *groups, size_t count);
void px_become_user(unsigned user);
void px_become_root(void);

/* Files */

enum px_type { PX_REG, PX_DIR, PX_FIFO, PX_SOCK, PX_LINK, PX_CHR, PX_BLK, PX_TYPES };
/** "regular file", "directory", ... */
const char *px_type_name(enum px_type type);
mode_t px_type_mode(enum px_type type);
/** PX_TYPES when only root may make it and this is not root, else PX_CHR. */
int px_type_count(void);
/** A link leads to "nowhere". Returns 0 or -1 with errno. */
int px_make(enum px_type type, const char *path, mode_t mode);
/** A regular file of these bytes. */
int px_write_file(const char *path, const void *bytes, size_t len);
/** What a file holds; *ret_len of it. NULL-terminated, malloc'd; NULL: errno. */
char *px_read_file(const char *path, size_t *ret_len);
/** Bytes (none of them zero) that depend on @seed and on their place in the file. */
void px_fill(void *bytes, size_t len, uint64_t at, unsigned seed);
bool px_is_filled(const void *bytes, size_t len, uint64_t at, unsigned seed);
bool px_is_zero(const void *bytes, size_t len);
/** A regular file of @len such bytes. */
int px_make_filled(const char *path, size_t len, unsigned seed);
/** Are the bytes of an open file those, from @at on? @seed 0: zero. Reads by pread. */
bool px_holds(int fd, uint64_t at, size_t len, unsigned seed);
/** Has that name anything behind it (a link itself counts)? */
bool px_exists(const char *path);
/** lstat; all zero when it fails. */
struct stat px_stat(const char *path);
/** st_ino, or 0. */
ino_t px_ino(const char *path);
/** Names in a directory without . and ..; -1: errno. */
int px_count(const char *dir);
/** A name of @len bytes, all @byte, in one of a few buffers used in turn. */
const char *px_long_name(char byte, size_t len);
/** The same directory through the second mount, in one of a few buffers used in turn. */
const char *px_other(const char *path);
/** An address of nothing: EFAULT. The compiler does not know. */
void *px_nowhere(void);
/** Time passes so far that time stamps differ. */
void px_tick(void);
/** fn(arg) in a child; its exit status (0 .. 255), or -1. Claims made there count. */
int px_child(int (*fn)(void *arg), void *arg);
/** fn(arg) in a child that is not waited for; px_wait() gives what px_child() does. */
pid_t px_start(int (*fn)(void *arg), void *arg);
int px_wait(pid_t pid);
/** "EPERM" ... */
const char *px_errno_name(int error);
/** Is @a later than @b? Are they the same? */
bool px_later(struct timespec a, struct timespec b);
bool px_same(struct timespec a, struct timespec b);

/* Claims that many calls share; @name is the call's, @call makes it on @path. */

/** What is wrong with a path. In a directory without "f", "loop", "dangling" and "none". */
void px_bad_paths(const char *name, int (*call)(const char *path));
/**
 * A call that changes a directory needs write and search permission in it: each combination of
 * rights, as its owner, its group, by a supplementary group and as another. PX_ROOT groups only.
 *
 * @ready  makes what is to be at @path before the call, as root; NULL: nothing
 */
void px_needs_write(const char *name, int (*ready)(const char *path),
                    int (*call)(const char *path));

#endif
