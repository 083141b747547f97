/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_do.c - the operations: each as the system has it, then as the model does, then compared. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/posix/torture/fsx.h"

#define VERIFY_BYTES (1u << 20)

/* Reading and writing */

static unsigned parts_of(const struct fsx_op *op, uint8_t *bytes, uint64_t len, struct iovec *iov)
{
    uint64_t first = len / 3, second = len / 2;

    iov[0] = (struct iovec){bytes, len};
    if (!(op->how & FSX_VECTOR) || first == 0) {
        return 1;
    }
    iov[0].iov_len = first;
    iov[1] = (struct iovec){bytes + first, second - first};
    iov[2] = (struct iovec){bytes + second, len - second};
    return 3;
}

static ssize_t read_some(struct fsx *fsx, const struct fsx_op *op, int fd)
{
    struct iovec iov[3];
    unsigned parts = parts_of(op, fsx->buf, op->len, iov);

    if (op->how & FSX_SEEKING) {
        return lseek(fd, (off_t)op->off, SEEK_SET) < 0 ? -1 : read(fd, fsx->buf, op->len);
    }
    return parts > 1 ? preadv(fd, iov, (int)parts, (off_t)op->off)
                     : pread(fd, fsx->buf, op->len, (off_t)op->off);
}

static void do_read(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = fsx_model_of(fsx, op->file);
    uint64_t want = op->off < model->size ? model->size - op->off : 0;
    ssize_t n;
    int fd;

    want = want < op->len ? want : op->len;
    memset(fsx->buf, 0xee, op->len);
    if (op->how & FSX_MMAP) {
        if (want == 0) {
            fsx->shared->skipped++;
            return;
        }
        if (!fsx_map_copy(fsx, op, want, false)) {
            return;
        }
    } else {
        fd = fsx_fd(fsx, op, op->mount, op->file, op->how & FSX_DIRECT);
        n = fd < 0 ? 0 : read_some(fsx, op, fd);
        if (fd < 0 || n < 0) {
            if (fd >= 0) {
                fsx_fails(fsx, op, "read", errno);
            }
            return;
        }
        if ((uint64_t)n != want) {
            fsx_differs(fsx, op, "read returns", n, (int64_t)want);
            return;
        }
    }
    if (fsx->flaw_due && want > 0) {
        fsx->buf[0] ^= 1;
        fsx->flaw_due = false;
    }
    fsx->shared->bytes_read += want;
    (void)fsx_model_check(fsx, op, op->file, op->off, fsx->buf, want, "read");
}

static ssize_t append(struct fsx *fsx, const struct fsx_op *op, uint64_t len)
{
    int flags = O_WRONLY | O_APPEND | O_CLOEXEC | (op->how & FSX_SYNC ? O_SYNC : 0);
    int fd = open(fsx_path(fsx, op->mount, op->file), flags);
    ssize_t n = fd < 0 ? -1 : write(fd, fsx->buf, len);

    return fd >= 0 && close(fd) ? -1 : n;
}

static ssize_t write_some(struct fsx *fsx, const struct fsx_op *op, int fd, uint64_t len)
{
    struct iovec iov[3];
    unsigned parts = parts_of(op, fsx->buf, len, iov);

    if (op->how & FSX_SEEKING) {
        return lseek(fd, (off_t)op->off, SEEK_SET) < 0 ? -1 : write(fd, fsx->buf, len);
    }
    if (parts > 1 || op->how & FSX_SYNC) {
        return pwritev2(fd, iov, (int)parts, (off_t)op->off, op->how & FSX_SYNC ? RWF_DSYNC : 0);
    }
    return pwrite(fd, fsx->buf, len, (off_t)op->off);
}

static void do_write(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = fsx_model_of(fsx, op->file);
    uint64_t off = op->how & FSX_APPEND ? model->size : op->off, len = op->len, room;
    ssize_t n;
    int fd;

    room = (op->how & FSX_MMAP ? model->size : fsx->config->max_bytes);
    room = off < room ? room - off : 0;
    len = len < room ? len : room;
    if (len == 0) {
        fsx->shared->skipped++;
        return;
    }
    torture_fill(fsx->buf, off, len, op->id);
    if (fsx_is_planted(fsx, FSX_PLANT_LOST) && op->id % 100 == 99) {
        n = (ssize_t)len;
    } else if (op->how & FSX_MMAP) {
        n = fsx_map_copy(fsx, op, len, true) ? (ssize_t)len : -2;
    } else if (op->how & FSX_APPEND) {
        n = append(fsx, op, len);
    } else {
        fd = fsx_fd(fsx, op, op->mount, op->file, op->how & FSX_DIRECT);
        n = fd < 0 ? -2 : write_some(fsx, op, fd, len);
    }
    if (n == -1) {
        fsx_fails(fsx, op, "write", errno);
    } else if (n >= 0 && (uint64_t)n != len) {
        fsx_differs(fsx, op, "write returns", n, (int64_t)len);
    } else if (n >= 0) {
        fsx_model_write(model, off, fsx->buf, len);
        fsx->shared->bytes_written += len;
    }
}

/* Size and space */

static void do_truncate(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = fsx_model_of(fsx, op->file);
    uint64_t size = op->off;
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);

    if (fsx_is_planted(fsx, FSX_PLANT_SIZE) && size > model->size) {
        size--;
    }
    if (fd < 0) {
        return;
    }
    if (op->how & FSX_PATH ? truncate(fsx_path(fsx, op->mount, op->file), (off_t)size)
                           : ftruncate(fd, (off_t)size)) {
        fsx_fails(fsx, op, "truncate", errno);
        return;
    }
    fsx_model_resize(model, op->off);
}

static void do_allocate(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = fsx_model_of(fsx, op->file);
    bool keep = op->kind == FSX_PUNCH || op->how & FSX_KEEP;
    int mode = keep ? FALLOC_FL_KEEP_SIZE : 0;
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);
    uint64_t len = op->len;

    mode |= op->kind == FSX_PUNCH ? FALLOC_FL_PUNCH_HOLE : 0;
    mode |= op->kind == FSX_ZERO ? FALLOC_FL_ZERO_RANGE : 0;
    if (fsx_is_planted(fsx, FSX_PLANT_PUNCH) && op->kind == FSX_PUNCH && len > 1) {
        len--;
    }
    if (fd < 0) {
        return;
    }
    if (fallocate(fd, mode, (off_t)op->off, (off_t)len)) {
        fsx_fails(fsx, op, "fallocate", errno);
    } else if (op->kind == FSX_ALLOCATE) {
        if (!keep && op->off + op->len > model->size) {
            fsx_model_resize(model, op->off + op->len);
        }
    } else {
        uint64_t end = op->off + op->len;

        if (keep && end > model->size) {
            end = op->off < model->size ? model->size : op->off;
        }
        fsx_model_zero(model, op->off, end - op->off, keep);
    }
}

static void do_copy(struct fsx *fsx, const struct fsx_op *op)
{
    unsigned to = op->file ^ (op->how & FSX_OTHER ? 1u : 0u);
    struct fsx_model *from = fsx_model_of(fsx, op->file);
    uint64_t want = op->off < from->size ? from->size - op->off : 0, done = 0;
    off_t in_off = (off_t)op->off, out_off = (off_t)op->to;
    int in, out;
    ssize_t n;

    if (!fsx_arrive(fsx, op, to)) {
        return;
    }
    want = want < op->len ? want : op->len;
    if (fsx_is_planted(fsx, FSX_PLANT_COPY) && op->off + want < from->size) {
        in_off++;
    }
    in = fsx_fd(fsx, op, op->mount, op->file, false);
    out = fsx_fd(fsx, op, op->mount, to, false);
    if (in < 0 || out < 0) {
        return;
    }
    do {
        n = copy_file_range(in, &in_off, out, &out_off, op->len - done, 0);
        if (n < 0) {
            fsx_fails(fsx, op, "copy_file_range", errno);
            return;
        }
        done += (uint64_t)n;
    } while (n > 0 && done < want);
    if (done != want) {
        fsx_differs(fsx, op, "copy_file_range copies", (int64_t)done, (int64_t)want);
        return;
    }
    fsx_model_write(fsx_model_of(fsx, to), op->to, from->bytes + op->off, want);
    fsx_model_of(fsx, to)->mtime = 0;
}

/* Looking */

static void do_seek(struct fsx *fsx, const struct fsx_op *op)
{
    const struct fsx_model *model = fsx_model_of(fsx, op->file);
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);
    uint64_t size = model->size, end;
    off_t data, hole;

    if (fd < 0) {
        return;
    }
    data = lseek(fd, (off_t)op->off, SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
        fsx_fails(fsx, op, "SEEK_DATA", errno);
        return;
    }
    if (data >= 0 && ((uint64_t)data < op->off || (uint64_t)data >= size)) {
        fsx_differs(fsx, op, "SEEK_DATA gives", data, (int64_t)op->off);
        return;
    }
    end = data >= 0 ? (uint64_t)data : size;
    if (end > op->off && !fsx_model_is_zero(model, op->off, end)) {
        fsx_differs(fsx, op, "SEEK_DATA goes over data: gives", data, (int64_t)op->off);
        return;
    }
    hole = lseek(fd, (off_t)op->off, SEEK_HOLE);
    if (op->off >= size) {
        if (hole >= 0 || errno != ENXIO) {
            fsx_differs(fsx, op, "SEEK_HOLE at the end gives", hole, -1);
        }
        return;
    }
    if (hole < 0) {
        fsx_fails(fsx, op, "SEEK_HOLE", errno);
        return;
    }
    if ((uint64_t)hole < op->off || (uint64_t)hole > size ||
        ((uint64_t)hole < size && model->bytes[hole])) {
        fsx_differs(fsx, op, "SEEK_HOLE gives what is none", hole, (int64_t)op->off);
    }
}

static void do_stat(struct fsx *fsx, const struct fsx_op *op)
{
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);
    struct stat st;

    if (fd < 0) {
        return;
    }
    if (op->how & FSX_PATH ? stat(fsx_path(fsx, op->mount, op->file), &st) : fstat(fd, &st)) {
        fsx_fails(fsx, op, "stat", errno);
    } else if ((uint64_t)st.st_size != fsx_model_of(fsx, op->file)->size) {
        fsx_differs(fsx, op, "st_size is", st.st_size, (int64_t)fsx_model_of(fsx, op->file)->size);
    } else if (fsx_model_of(fsx, op->file)->mtime &&
               fsx_model_of(fsx, op->file)->mtime != st.st_mtime) {
        fsx_differs(fsx, op, "st_mtime is", st.st_mtime, fsx_model_of(fsx, op->file)->mtime);
    } else if (st.st_nlink != 1 || !S_ISREG(st.st_mode)) {
        fsx_differs(fsx, op, "st_nlink is", (int64_t)st.st_nlink, 1);
    }
}

/* A time that the log can repeat: of the operation. */
static void do_times(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = fsx_model_of(fsx, op->file);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000 + op->id}};
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);

    if (fd >= 0 && futimens(fd, times)) {
        fsx_fails(fsx, op, "futimens", errno);
    }
    model->mtime = model->mapped ? 0 : 1000000 + op->id;
}

static void do_chmod(struct fsx *fsx, const struct fsx_op *op)
{
    int fd = fsx_fd(fsx, op, op->mount, op->file, false);

    if (fd >= 0 && fchmod(fd, op->id % 2 ? 0600 : 0644)) {
        fsx_fails(fsx, op, "fchmod", errno);
    }
}

static void do_drop(struct fsx *fsx, const struct fsx_op *op)
{
    if (fsx_sync(fsx, op, op->mount, op->file, false)) {
        (void)posix_fadvise(fsx_fd(fsx, op, op->mount, op->file, false), 0, 0, POSIX_FADV_DONTNEED);
    }
}

static void do_peek(struct fsx *fsx, const struct fsx_op *op)
{
    unsigned mount = fsx->config->dirs[1] ? op->mount ^ 1u : op->mount;
    int fd = fsx_fd(fsx, op, mount, op->file, false);

    if (fd >= 0 && pread(fd, fsx->buf, op->len, (off_t)op->off) < 0) {
        fsx_fails(fsx, op, "read", errno);
    }
}

static bool verify_file(struct fsx *fsx, const struct fsx_op *op, unsigned file, int fd)
{
    const struct fsx_model *model = fsx_model_of(fsx, file);
    uint64_t step = fsx->config->max_bytes < VERIFY_BYTES ? fsx->config->max_bytes : VERIFY_BYTES;

    for (uint64_t off = 0;; off += step) {
        uint64_t want = off < model->size ? model->size - off : 0;
        ssize_t n = pread(fd, fsx->buf, step, (off_t)off);

        want = want < step ? want : step;
        if (n < 0) {
            fsx_fails(fsx, op, "read", errno);
            return false;
        }
        if ((uint64_t)n != want) {
            fsx_differs(fsx, op, "read returns", n, (int64_t)want);
            return false;
        }
        if (!fsx_model_check(fsx, op, file, off, fsx->buf, want, "all of it")) {
            return false;
        }
        if (want < step) {
            return true;
        }
    }
}

void fsx_verify_all(struct fsx *fsx)
{
    for (unsigned m = 0; m < (fsx->config->dirs[1] ? 2u : 1u); m++) {
        for (unsigned f = 0; f < FSX_FILES; f++) {
            struct fsx_op op = {.id = (uint32_t)fsx->count,
                                .kind = FSX_VERIFY,
                                .mount = (uint8_t)m,
                                .file = (uint8_t)f};
            int fd = fsx_arrive(fsx, &op, f) ? fsx_fd(fsx, &op, m, f, false) : -1;

            if (fd < 0 || !verify_file(fsx, &op, f, fd)) {
                return;
            }
        }
    }
}

static void flip(struct fsx *fsx, const struct fsx_op *op)
{
    uint64_t size = fsx_model_of(fsx, op->file)->size;
    int fd = size ? open(fsx_path(fsx, 0, op->file), O_RDWR | O_CLOEXEC) : -1;
    uint8_t byte;

    if (fd >= 0 && pread(fd, &byte, 1, (off_t)size / 2) == 1) {
        byte ^= 0x10;
        (void)!pwrite(fd, &byte, 1, (off_t)size / 2);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static bool changes(const struct fsx_op *op)
{
    return op->kind == FSX_WRITE || op->kind == FSX_TRUNCATE || op->kind == FSX_PUNCH ||
           op->kind == FSX_ZERO || op->kind == FSX_ALLOCATE;
}

void fsx_do(struct fsx *fsx, const struct fsx_op *op)
{
    int fd;

    if (op->kind != FSX_PEEK && !fsx_arrive(fsx, op, op->file)) {
        return;
    }
    fsx_model_of(fsx, op->file)->mtime = changes(op) ? 0 : fsx_model_of(fsx, op->file)->mtime;
    switch ((enum fsx_kind)op->kind) {
    case FSX_READ:
        do_read(fsx, op);
        break;
    case FSX_WRITE:
        do_write(fsx, op);
        break;
    case FSX_TRUNCATE:
        do_truncate(fsx, op);
        break;
    case FSX_PUNCH:
    case FSX_ZERO:
    case FSX_ALLOCATE:
        do_allocate(fsx, op);
        break;
    case FSX_COPY:
        do_copy(fsx, op);
        break;
    case FSX_SEEK:
        do_seek(fsx, op);
        break;
    case FSX_STAT:
        do_stat(fsx, op);
        break;
    case FSX_TIMES:
        do_times(fsx, op);
        break;
    case FSX_CHMOD:
        do_chmod(fsx, op);
        break;
    case FSX_FSYNC:
        (void)fsx_sync(fsx, op, op->mount, op->file, op->how & FSX_SYNC);
        break;
    case FSX_REOPEN:
        (void)fsx_reopen(fsx, op, op->mount, op->file);
        break;
    case FSX_DROP:
        do_drop(fsx, op);
        break;
    case FSX_PEEK:
        do_peek(fsx, op);
        break;
    case FSX_VERIFY:
        fd = fsx_fd(fsx, op, op->mount, op->file, false);
        (void)(fd >= 0 && verify_file(fsx, op, op->file, fd));
        break;
    case FSX_KIND_COUNT:
        break;
    }
    if (fsx_is_planted(fsx, FSX_PLANT_FLIP) && op->id % 1000 == 999) {
        flip(fsx, op);
    }
}
