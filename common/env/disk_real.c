/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/env/env_real_impl.h"

#define FILE_MODE 0600
#define DIR_MODE  0700

#define RETRY_EINTR(ret, call)                                                                     \
    do {                                                                                           \
        (ret) = (call);                                                                            \
    } while ((ret) < 0 && errno == EINTR)

struct real_file {
    struct hf_file file;
    int fd;
};

/* Files */

static int fd_of(const struct hf_file *file)
{
    return ((const struct real_file *)file)->fd;
}

static int iov_clamp(int iov_count)
{
    return iov_count < IOV_MAX ? iov_count : IOV_MAX;
}

static void real_close(struct hf_file *file)
{
    (void)close(fd_of(file)); /* what must not be lost was synced */
    free(file);
}

static ssize_t real_preadv(struct hf_file *file, const struct iovec *iov, int iov_count,
                           uint64_t off)
{
    ssize_t n;

    if (off > INT64_MAX) {
        return -EINVAL;
    }
    RETRY_EINTR(n, preadv(fd_of(file), iov, iov_clamp(iov_count), (off_t)off));
    return n < 0 ? -errno : n;
}

static ssize_t real_pwritev(struct hf_file *file, const struct iovec *iov, int iov_count,
                            uint64_t off)
{
    ssize_t n;

    if (off > INT64_MAX) {
        return -EINVAL;
    }
    RETRY_EINTR(n, pwritev(fd_of(file), iov, iov_clamp(iov_count), (off_t)off));
    return n < 0 ? -errno : n;
}

static ssize_t real_preadv_nowait(struct hf_file *file, const struct iovec *iov, int iov_count,
                                  uint64_t off)
{
    ssize_t n;

    if (off > INT64_MAX) { /* preadv2 takes -1 for "the current position" */
        return -EINVAL;
    }
    RETRY_EINTR(n, preadv2(fd_of(file), iov, iov_clamp(iov_count), (off_t)off, RWF_NOWAIT));
    if (n < 0) {
        return errno == EOPNOTSUPP || errno == ENOSYS ? -EAGAIN : -errno;
    }
    return n;
}

static int real_sync(struct hf_file *file)
{
    int r;

    RETRY_EINTR(r, fdatasync(fd_of(file)));
    return r < 0 ? -errno : 0;
}

static int real_truncate(struct hf_file *file, uint64_t len_bytes)
{
    int r;

    if (len_bytes > INT64_MAX) {
        return -EINVAL;
    }
    RETRY_EINTR(r, ftruncate(fd_of(file), (off_t)len_bytes));
    return r < 0 ? -errno : 0;
}

static int real_allocate(struct hf_file *file, uint64_t len_bytes)
{
    int err;

    if (len_bytes > INT64_MAX) {
        return -EINVAL;
    }
    if (len_bytes == 0) {
        return 0;
    }
    do {
        err = posix_fallocate(fd_of(file), 0, (off_t)len_bytes);
    } while (err == EINTR);
    return -err;
}

static int real_size(struct hf_file *file, uint64_t *ret_bytes)
{
    struct stat st;

    if (fstat(fd_of(file), &st) != 0) {
        return -errno;
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static const struct hf_file_ops file_ops = {
    .close = real_close,
    .preadv = real_preadv,
    .pwritev = real_pwritev,
    .preadv_nowait = real_preadv_nowait,
    .sync = real_sync,
    .truncate = real_truncate,
    .allocate = real_allocate,
    .size = real_size,
};

static int open_flags(unsigned flags)
{
    int o = O_CLOEXEC;

    o |= flags & HF_FILE_READ_ONLY ? O_RDONLY : O_RDWR;
    o |= flags & HF_FILE_CREATE ? O_CREAT : 0;
    o |= flags & HF_FILE_EXCL ? O_EXCL : 0;
    o |= flags & HF_FILE_DIRECT ? O_DIRECT : 0;
    return o;
}

static int real_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret)
{
    struct real_file *file = malloc(sizeof(*file));
    int fd;

    (void)disk;
    if (!file) {
        return -ENOMEM;
    }
    RETRY_EINTR(fd, open(path, open_flags(flags), FILE_MODE));
    if (fd < 0) {
        int err = -errno;

        free(file);
        return err;
    }
    *file = (struct real_file){.file = {.ops = &file_ops}, .fd = fd};
    *ret = &file->file;
    return 0;
}

/* Directories */

static int sync_dir(const char *path)
{
    int fd, r;
    int err = 0;

    RETRY_EINTR(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) {
        return -errno;
    }
    RETRY_EINTR(r, fsync(fd));
    if (r < 0) {
        err = -errno;
    }
    (void)close(fd);
    return err;
}

static int real_sync_dir(struct hf_disk *disk, const char *path)
{
    (void)disk;
    return sync_dir(path);
}

/* @path up to @len is made when missing; its parent is synced when that, or @always, is so. */
static int make_one(char *path, size_t len, size_t parent_len, bool always)
{
    const char saved = path[len];
    struct stat st;
    bool made;
    int err = 0;

    path[len] = '\0';
    made = mkdir(path, DIR_MODE) == 0;
    if (!made) {
        err = errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -errno;
        if (err == -EEXIST) {
            err = -ENOTDIR;
        }
    }
    path[len] = saved;
    if (!err && (made || always)) {
        const char *parent = parent_len ? path : "/";
        const char at = path[parent_len];

        path[parent_len] = '\0';
        err = sync_dir(parent_len ? parent : "/");
        path[parent_len] = at;
    }
    return err;
}

static int real_mkdir(struct hf_disk *disk, const char *path)
{
    char *copy = strdup(path);
    size_t parent_len = 0;
    int err = 0;

    (void)disk;
    if (!copy) {
        return -ENOMEM;
    }
    for (size_t len = 1; !err && copy[0] && copy[len - 1]; len++) {
        if ((copy[len] == '/' || copy[len] == '\0') && copy[len - 1] != '/') {
            bool last = copy[len + strspn(copy + len, "/")] == '\0';

            /* The last one is synced even when it exists: a crash may have come between. */
            err = make_one(copy, len, parent_len, last);
            parent_len = len;
            if (last) {
                break;
            }
        }
    }
    free(copy);
    return err;
}

static int real_unlink(struct hf_disk *disk, const char *path)
{
    (void)disk;
    return unlink(path) == 0 ? 0 : -errno;
}

static int real_rename(struct hf_disk *disk, const char *from, const char *to)
{
    (void)disk;
    return rename(from, to) == 0 ? 0 : -errno;
}

static int real_list(struct hf_disk *disk, const char *path, int (*fn)(void *ctx, const char *name),
                     void *ctx)
{
    DIR *dir = opendir(path);
    int ret = 0;

    (void)disk;
    if (!dir) {
        return -errno;
    }
    while (!ret) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!entry) {
            ret = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            ret = fn(ctx, entry->d_name);
        }
    }
    (void)closedir(dir);
    return ret;
}

static int real_space(struct hf_disk *disk, const char *path, struct hf_disk_space *ret)
{
    struct statvfs st;
    int r;

    (void)disk;
    RETRY_EINTR(r, statvfs(path, &st));
    if (r < 0) {
        return -errno;
    }
    *ret = (struct hf_disk_space){
        .total_bytes = (uint64_t)st.f_blocks * st.f_frsize,
        .free_bytes = (uint64_t)st.f_bavail * st.f_frsize,
    };
    return 0;
}

/* Lock files */

static int read_pid(int fd)
{
    char text[16];
    ssize_t n;
    long pid;

    RETRY_EINTR(n, pread(fd, text, sizeof(text) - 1, 0));
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT_MAX ? (int)pid : 0;
}

static int take_lock(int fd, int *ret_pid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char text[16];
    int len, r;
    ssize_t n;

    RETRY_EINTR(r, fcntl(fd, F_OFD_SETLK, &lock));
    if (r < 0) {
        if (errno != EAGAIN && errno != EACCES) {
            return -errno;
        }
        if (ret_pid) {
            *ret_pid = read_pid(fd);
        }
        return -EBUSY;
    }
    len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    RETRY_EINTR(n, pwrite(fd, text, (size_t)len, 0));
    if (n < 0) {
        return -errno;
    }
    RETRY_EINTR(r, ftruncate(fd, len));
    return r < 0 ? -errno : 0;
}

static int real_lock(struct hf_disk *disk, const char *path, struct hf_file **ret, int *ret_pid)
{
    struct hf_file *file;
    int err = real_open(disk, path, HF_FILE_CREATE, &file);

    if (err) {
        return err;
    }
    err = take_lock(fd_of(file), ret_pid);
    if (err) {
        real_close(file);
        return err;
    }
    *ret = file;
    return 0;
}

static const struct hf_disk_ops disk_ops = {
    .open = real_open,
    .mkdir = real_mkdir,
    .unlink = real_unlink,
    .rename = real_rename,
    .list = real_list,
    .sync_dir = real_sync_dir,
    .space = real_space,
    .lock = real_lock,
};

struct hf_disk *hf_disk_real(void)
{
    static struct hf_disk disk = {.ops = &disk_ops};

    return &disk;
}
