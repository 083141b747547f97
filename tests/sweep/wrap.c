/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sweep/spare.h"

#include "tests/sweep/wrap.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/sweep/sweep.h"

/* Defined by the linker's --wrap where spare.h does not name them. */
void __real_free(void *p);
int __real_open64(const char *path, int flags, ...);
ssize_t __real_pread64(int fd, void *buf, size_t len, off_t off);
ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t off);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t off);
ssize_t __real_preadv64v2(int fd, const struct iovec *iov, int count, off_t off, int flags);
int __real_ftruncate64(int fd, off_t len);
int __real_posix_fallocate64(int fd, off_t off, off_t len);

void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t len);
void *__wrap_realloc(void *old, size_t len);
void *__wrap_reallocarray(void *old, size_t count, size_t len);
void *__wrap_aligned_alloc(size_t align, size_t len);
int __wrap_posix_memalign(void **ret, size_t align, size_t len);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t len_max);
int __wrap_vasprintf(char **ret, const char *fmt, va_list args);
int __wrap_asprintf(char **ret, const char *fmt, ...);
void __wrap_free(void *p);
int __wrap_open64(const char *path, int flags, ...);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t off);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int count, off_t off, int flags);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_posix_fallocate64(int fd, off_t off, off_t len);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
DIR *__wrap_opendir(const char *path);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int count);

/* Memory */

static bool fails(void)
{
    if (hf_sweep_on && hf_sweep_alloc_fails()) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

static void *allocated(void *p)
{
    if (hf_sweep_on) {
        hf_sweep_allocated(p);
    }
    return p;
}

void *__wrap_malloc(size_t len)
{
    return fails() ? NULL : allocated(malloc(len));
}

void *__wrap_calloc(size_t count, size_t len)
{
    return fails() ? NULL : allocated(calloc(count, len));
}

void *__wrap_realloc(void *old, size_t len)
{
    void *p;

    if (fails()) {
        return NULL;
    }
    if (hf_sweep_on) {
        hf_sweep_freed(old);
    }
    p = realloc(old, len);
    return allocated(p);
}

void *__wrap_reallocarray(void *old, size_t count, size_t len)
{
    void *p;

    if (fails()) {
        return NULL;
    }
    if (hf_sweep_on) {
        hf_sweep_freed(old);
    }
    p = reallocarray(old, count, len);
    return allocated(p);
}

void *__wrap_aligned_alloc(size_t align, size_t len)
{
    return fails() ? NULL : allocated(aligned_alloc(align, len));
}

int __wrap_posix_memalign(void **ret, size_t align, size_t len)
{
    int err = fails() ? ENOMEM : posix_memalign(ret, align, len);

    if (err == 0) {
        (void)allocated(*ret);
    }
    return err;
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : allocated(strdup(s));
}

char *__wrap_strndup(const char *s, size_t len_max)
{
    return fails() ? NULL : allocated(strndup(s, len_max));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
{
    int n;

    if (fails()) {
        return -1;
    }
    n = vasprintf(ret, fmt, args);
    if (n >= 0) {
        (void)allocated(*ret);
    }
    return n;
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = __wrap_vasprintf(ret, fmt, args);
    va_end(args);
    return n;
}

void __wrap_free(void *p)
{
    if (hf_sweep_on) {
        hf_sweep_freed(p);
    }
    __real_free(p);
}

/* Files */

/* True: the call fails, errno is set. */
static bool io_fails(enum hf_sweep_io io, bool *ret_short)
{
    int err = hf_sweep_on ? hf_sweep_io(io, ret_short) : 0;

    hf_sweep_shares();
    if (err) {
        errno = -err;
    }
    return err != 0;
}

/* Half of the first piece, in whole blocks if it was (direct I/O). False: it has no half. */
static bool halve(const struct iovec *iov, int count, struct iovec *ret_half)
{
    size_t unit = count > 0 && iov->iov_len % 4096 == 0 ? 4096 : 1;

    if (count == 0 || iov->iov_len < 2 * unit) {
        return false;
    }
    ret_half->iov_base = iov->iov_base;
    ret_half->iov_len = iov->iov_len / unit / 2 * unit;
    return true;
}

int __wrap_open64(const char *path, int flags, ...)
{
    const int create = 0100; /* O_CREAT; <fcntl.h> would declare open() once more */
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & create ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (io_fails(flags & create ? HF_SWEEP_IO_TAKES : HF_SWEEP_IO_OTHER, NULL)) {
        return -1;
    }
    return __real_open64(path, flags, mode);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off)
{
    bool make_short = false;

    if (io_fails(HF_SWEEP_IO_READS, &make_short)) {
        return -1;
    }
    return __real_pread64(fd, buf, make_short && len > 1 ? len / 2 : len, off);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off)
{
    bool make_short = false;

    if (io_fails(HF_SWEEP_IO_TRANSFERS, &make_short)) {
        return -1;
    }
    return __real_pwrite64(fd, buf, make_short && len > 1 ? len / 2 : len, off);
}

ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t off)
{
    bool make_short = false;
    struct iovec half;

    if (io_fails(HF_SWEEP_IO_READS, &make_short)) {
        return -1;
    }
    if (make_short && halve(iov, count, &half)) {
        return __real_preadv64(fd, &half, 1, off);
    }
    return __real_preadv64(fd, iov, count, off);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t off)
{
    bool make_short = false;
    struct iovec half;

    if (io_fails(HF_SWEEP_IO_TRANSFERS, &make_short)) {
        return -1;
    }
    if (make_short && halve(iov, count, &half)) {
        return __real_pwritev64(fd, &half, 1, off);
    }
    return __real_pwritev64(fd, iov, count, off);
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    bool make_short = false;
    struct iovec half;

    if (io_fails(HF_SWEEP_IO_READS, &make_short)) {
        return -1;
    }
    if (make_short && halve(iov, count, &half)) {
        return __real_preadv64v2(fd, &half, 1, off, flags);
    }
    return __real_preadv64v2(fd, iov, count, off, flags);
}

int __wrap_ftruncate64(int fd, off_t len)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? -1 : __real_ftruncate64(fd, len);
}

int __wrap_posix_fallocate64(int fd, off_t off, off_t len)
{
    return io_fails(HF_SWEEP_IO_TAKES, NULL) ? errno : __real_posix_fallocate64(fd, off, len);
}

int __wrap_fsync(int fd)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? -1 : fsync(fd);
}

int __wrap_fdatasync(int fd)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? -1 : fdatasync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? -1 : rename(from, to);
}

int __wrap_unlink(const char *path)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? -1 : unlink(path);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return io_fails(HF_SWEEP_IO_TAKES, NULL) ? -1 : mkdir(path, mode);
}

DIR *__wrap_opendir(const char *path)
{
    return io_fails(HF_SWEEP_IO_OTHER, NULL) ? NULL : opendir(path);
}

/* Sockets: an error of the network instead of one of the disk. */

static bool socket_fails(int how)
{
    if (io_fails(HF_SWEEP_IO_OTHER, NULL)) {
        errno = how;
        return true;
    }
    return false;
}

int __wrap_socket(int domain, int type, int protocol)
{
    return socket_fails(EMFILE) ? -1 : socket(domain, type, protocol);
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return socket_fails(ENETUNREACH) ? -1 : connect(fd, addr, len);
}

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return socket_fails(EMFILE) ? -1 : accept4(fd, addr, len, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return socket_fails(ECONNRESET) ? -1 : sendmsg(fd, msg, flags);
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int count)
{
    return socket_fails(ECONNRESET) ? -1 : readv(fd, iov, count);
}
