/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - what lock.c and lock_wait.c do with locks. */
#ifndef HF_TESTS_POSIX_LOCK_H
#define HF_TESTS_POSIX_LOCK_H

#include <sys/file.h>

#include "tests/posix/posix.h"

static inline int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CREAT, 0644);

    NEED(fd >= 0);
    return fd;
}

static inline int set(int fd, int command, int type, off_t start, off_t len)
{
    struct flock lock = {
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return fcntl(fd, command, &lock);
}

enum kind { POSIX, OFD, FLOCK, KINDS };
static const char *const kinds[] = {"POSIX", "OFD", "flock"};

static inline int lock_by(enum kind kind, int fd, bool exclusive, bool wait)
{
    int type = exclusive ? F_WRLCK : F_RDLCK;

    if (kind == FLOCK) {
        return flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
    }
    if (kind == OFD) {
        return set(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, type, 0, 10);
    }
    return set(fd, wait ? F_SETLKW : F_SETLK, type, 0, 10);
}

static inline int unlock_by(enum kind kind, int fd)
{
    return kind == FLOCK ? flock(fd, LOCK_UN)
                         : set(fd, kind == OFD ? F_OFD_SETLK : F_SETLK, F_UNLCK, 0, 10);
}

#endif
