/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_do.c - the operations: each as the system has it, then as the model does, then compared. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/posix/torture/fsx.h"

#define VERIFY_BYTES (1u << 20)

static sigjmp_buf bus_error;
static bool flaw_due; /* FSX_PLANT_HANDOVER */

static bool is_planted(const struct fsx *fsx, enum fsx_plant plant)
{
    return fsx->config->plant == plant;
}

static struct fsx_model *model_of(struct fsx *fsx, unsigned file)
{
    return &fsx->shared->files[file];
}

static void fails(struct fsx *fsx, const struct fsx_op *op, const char *what, int error)
{
    char text[256];

    fsx_op_text(op, text, sizeof(text));
    torture_report(&fsx->shared->torture, "%s\n%s: %s\n", text, what, error ? strerror(error) : "");
}

static void differs(struct fsx *fsx, const struct fsx_op *op, const char *what, int64_t have,
                    int64_t want)
{
    char text[256];

    fsx_op_text(op, text, sizeof(text));
    torture_report(&fsx->shared->torture, "%s\n%s: %lld, not %lld; the size is %llu\n", text, what,
                   (long long)have, (long long)want,
                   (unsigned long long)model_of(fsx, op->file)->size);
    fsx_model_history(fsx, op->file, want > 0 ? (uint64_t)want - 1 : 0);
}

/* Files */

static const char *path_of(const struct fsx *fsx, unsigned mount, unsigned file)
{
    static char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s.%u", fsx->config->dirs[mount], fsx->name, file);
    return path;
}

/* -1: reported */
static int fd_of(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file,
                 bool direct)
{
    int *fd = direct ? &fsx->direct_fds[mount][file] : &fsx->fds[mount][file];

    if (*fd < 0) {
        *fd = open(path_of(fsx, mount, file), O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (*fd < 0) {
            fails(fsx, op, direct ? "open with O_DIRECT" : "open", errno);
        }
    }
    return *fd;
}

static bool close_fd(struct fsx *fsx, const struct fsx_op *op, int *fd)
{
    int old = *fd;

    *fd = -1;
    if (old >= 0 && close(old)) {
        fails(fsx, op, "close", errno);
        return false;
    }
    return true;
}

static bool close_file(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file)
{
    if (fsx->maps[mount][file]) {
        (void)munmap(fsx->maps[mount][file], fsx->config->max_bytes);
        fsx->maps[mount][file] = NULL;
    }
    return close_fd(fsx, op, &fsx->direct_fds[mount][file]) &&
           close_fd(fsx, op, &fsx->fds[mount][file]);
}

static bool reopen(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file)
{
    model_of(fsx, file)->soft = false;
    return close_file(fsx, op, mount, file) && fd_of(fsx, op, mount, file, false) >= 0;
}

void fsx_close_all(struct fsx *fsx)
{
    const struct fsx_op none = {.kind = FSX_REOPEN};

    for (unsigned m = 0; m < FSX_MOUNTS; m++) {
        for (unsigned f = 0; f < FSX_FILES; f++) {
            (void)close_file(fsx, &none, m, f);
        }
    }
}

static bool sync_file(struct fsx *fsx, const struct fsx_op *op, unsigned mount, unsigned file,
                      bool data_only)
{
    int fd = fd_of(fsx, op, mount, file, false);

    if (fd < 0) {
        return false;
    }
    if (data_only ? fdatasync(fd) : fsync(fd)) {
        fails(fsx, op, data_only ? "fdatasync" : "fsync", errno);
        return false;
    }
    model_of(fsx, file)->mapped = false;
    return true;
}

/*
 * Where the kernel goes by the size or by pages that it has, and asks nobody: mappings, O_APPEND,
 * and copy_file_range, which ends where it believes the source to end.
 */
static bool needs_fresh_open(const struct fsx_op *op)
{
    return op->how & (FSX_MMAP | FSX_APPEND) || op->kind == FSX_COPY;
}

/* The operation's mount may use the file: what was done through the other is handed over. */
static bool arrive(struct fsx *fsx, const struct fsx_op *op, unsigned file)
{
    struct fsx_model *model = model_of(fsx, file);
    bool holds = true;

    if (model->home != op->mount) {
        fsx->shared->handovers++;
        flaw_due = is_planted(fsx, FSX_PLANT_HANDOVER);
        if (op->how & FSX_CLOSING) {
            holds = fd_of(fsx, op, model->home, file, false) >= 0 &&
                    close_file(fsx, op, model->home, file);
        } else {
            holds = sync_file(fsx, op, model->home, file, false);
        }
        model->mapped = false;
        model->home = op->mount;
        model->soft = true;
        if (holds && !(op->how & FSX_SOFT)) {
            holds = reopen(fsx, op, op->mount, file);
        }
    }
    if (holds && model->soft && needs_fresh_open(op)) {
        holds = reopen(fsx, op, op->mount, file);
    }
    return holds;
}

/* Mappings */

static void on_bus_error(int signal)
{
    (void)signal;
    siglongjmp(bus_error, 1);
}

/* memcpy to or from a mapping. False: SIGBUS. */
static bool touch(uint8_t *to, const uint8_t *from, uint64_t len)
{
    volatile bool holds = false;

    (void)signal(SIGBUS, on_bus_error);
    if (sigsetjmp(bus_error, 1) == 0) {
        memcpy(to, from, len);
        holds = true;
    }
    (void)signal(SIGBUS, SIG_DFL);
    return holds;
}

static bool map_write(struct fsx *fsx, const struct fsx_op *op, uint8_t *map, uint64_t whole,
                      uint64_t skip, uint64_t len)
{
    if (!touch(map + skip, fsx->buf, len)) {
        fails(fsx, op, "SIGBUS within the file", 0);
        return false;
    }
    if (!(op->how & FSX_SYNC)) {
        model_of(fsx, op->file)->mapped = true;
    } else if (msync(map, whole, MS_SYNC)) {
        fails(fsx, op, "msync", errno);
        return false;
    }
    return true;
}

/* The bytes after the end of a last page are zero. */
static bool map_read(struct fsx *fsx, const struct fsx_op *op, const uint8_t *map, uint64_t whole,
                     uint64_t skip, uint64_t len)
{
    static const uint8_t zero[65536];
    uint64_t tail = whole - skip - len;

    if (!touch(fsx->buf, map + skip, len)) {
        fails(fsx, op, "SIGBUS within the file", 0);
        return false;
    }
    if (op->off + len == model_of(fsx, op->file)->size && tail <= sizeof(zero) &&
        memcmp(map + skip + len, zero, tail) != 0) {
        fails(fsx, op, "mapping: not zero after the end of the file", 0);
        return false;
    }
    return true;
}

static uint8_t *held_map(struct fsx *fsx, const struct fsx_op *op, int fd)
{
    uint8_t **map = &fsx->maps[op->mount][op->file];
    void *new;

    if (!*map) {
        new = mmap(NULL, fsx->config->max_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (new == MAP_FAILED) {
            return MAP_FAILED;
        }
        *map = new;
    }
    return *map;
}

/* fsx->buf from or to a shared mapping. */
static bool map_copy(struct fsx *fsx, const struct fsx_op *op, uint64_t len, bool write)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), skip = op->off % page;
    uint64_t whole = (skip + len + page - 1) / page * page;
    int fd = fd_of(fsx, op, op->mount, op->file, false);
    uint8_t *map;
    bool holds;

    if (fd < 0) {
        return false;
    }
    map = op->how & FSX_HELD ? held_map(fsx, op, fd)
                             : mmap(NULL, whole, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED,
                                    fd, (off_t)(op->off - skip));
    if (map == MAP_FAILED) {
        fails(fsx, op, "mmap", errno);
        return false;
    }
    map += op->how & FSX_HELD ? op->off - skip : 0;
    holds = write ? map_write(fsx, op, map, whole, skip, len)
                  : map_read(fsx, op, map, whole, skip, len);
    if (!(op->how & FSX_HELD)) {
        (void)munmap(map, whole);
    }
    return holds;
}

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
    struct fsx_model *model = model_of(fsx, op->file);
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
        if (!map_copy(fsx, op, want, false)) {
            return;
        }
    } else {
        fd = fd_of(fsx, op, op->mount, op->file, op->how & FSX_DIRECT);
        n = fd < 0 ? 0 : read_some(fsx, op, fd);
        if (fd < 0 || n < 0) {
            if (fd >= 0) {
                fails(fsx, op, "read", errno);
            }
            return;
        }
        if ((uint64_t)n != want) {
            differs(fsx, op, "read returns", n, (int64_t)want);
            return;
        }
    }
    if (flaw_due && want > 0) {
        fsx->buf[0] ^= 1;
        flaw_due = false;
    }
    fsx->shared->bytes_read += want;
    (void)fsx_model_check(fsx, op, op->file, op->off, fsx->buf, want, "read");
}

static ssize_t append(struct fsx *fsx, const struct fsx_op *op, uint64_t len)
{
    int flags = O_WRONLY | O_APPEND | O_CLOEXEC | (op->how & FSX_SYNC ? O_SYNC : 0);
    int fd = open(path_of(fsx, op->mount, op->file), flags);
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
    struct fsx_model *model = model_of(fsx, op->file);
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
    if (is_planted(fsx, FSX_PLANT_LOST) && op->id % 100 == 99) {
        n = (ssize_t)len;
    } else if (op->how & FSX_MMAP) {
        n = map_copy(fsx, op, len, true) ? (ssize_t)len : -2;
    } else if (op->how & FSX_APPEND) {
        n = append(fsx, op, len);
    } else {
        fd = fd_of(fsx, op, op->mount, op->file, op->how & FSX_DIRECT);
        n = fd < 0 ? -2 : write_some(fsx, op, fd, len);
    }
    if (n == -1) {
        fails(fsx, op, "write", errno);
    } else if (n >= 0 && (uint64_t)n != len) {
        differs(fsx, op, "write returns", n, (int64_t)len);
    } else if (n >= 0) {
        fsx_model_write(model, off, fsx->buf, len);
        fsx->shared->bytes_written += len;
    }
}

/* Size and space */

static void do_truncate(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = model_of(fsx, op->file);
    uint64_t size = op->off;
    int fd = fd_of(fsx, op, op->mount, op->file, false);

    if (is_planted(fsx, FSX_PLANT_SIZE) && size > model->size) {
        size--;
    }
    if (fd < 0) {
        return;
    }
    if (op->how & FSX_PATH ? truncate(path_of(fsx, op->mount, op->file), (off_t)size)
                           : ftruncate(fd, (off_t)size)) {
        fails(fsx, op, "truncate", errno);
        return;
    }
    fsx_model_resize(model, op->off);
}

static void do_allocate(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = model_of(fsx, op->file);
    bool keep = op->kind == FSX_PUNCH || op->how & FSX_KEEP;
    int mode = keep ? FALLOC_FL_KEEP_SIZE : 0;
    int fd = fd_of(fsx, op, op->mount, op->file, false);
    uint64_t len = op->len;

    mode |= op->kind == FSX_PUNCH ? FALLOC_FL_PUNCH_HOLE : 0;
    mode |= op->kind == FSX_ZERO ? FALLOC_FL_ZERO_RANGE : 0;
    if (is_planted(fsx, FSX_PLANT_PUNCH) && op->kind == FSX_PUNCH && len > 1) {
        len--;
    }
    if (fd < 0) {
        return;
    }
    if (fallocate(fd, mode, (off_t)op->off, (off_t)len)) {
        fails(fsx, op, "fallocate", errno);
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
    struct fsx_model *from = model_of(fsx, op->file);
    uint64_t want = op->off < from->size ? from->size - op->off : 0, done = 0;
    off_t in_off = (off_t)op->off, out_off = (off_t)op->to;
    int in, out;
    ssize_t n;

    if (!arrive(fsx, op, to)) {
        return;
    }
    want = want < op->len ? want : op->len;
    if (is_planted(fsx, FSX_PLANT_COPY) && op->off + want < from->size) {
        in_off++;
    }
    in = fd_of(fsx, op, op->mount, op->file, false);
    out = fd_of(fsx, op, op->mount, to, false);
    if (in < 0 || out < 0) {
        return;
    }
    do {
        n = copy_file_range(in, &in_off, out, &out_off, op->len - done, 0);
        if (n < 0) {
            fails(fsx, op, "copy_file_range", errno);
            return;
        }
        done += (uint64_t)n;
    } while (n > 0 && done < want);
    if (done != want) {
        differs(fsx, op, "copy_file_range copies", (int64_t)done, (int64_t)want);
        return;
    }
    fsx_model_write(model_of(fsx, to), op->to, from->bytes + op->off, want);
    model_of(fsx, to)->mtime = 0;
}

/* Looking */

static void do_seek(struct fsx *fsx, const struct fsx_op *op)
{
    const struct fsx_model *model = model_of(fsx, op->file);
    int fd = fd_of(fsx, op, op->mount, op->file, false);
    uint64_t size = model->size, end;
    off_t data, hole;

    if (fd < 0) {
        return;
    }
    data = lseek(fd, (off_t)op->off, SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
        fails(fsx, op, "SEEK_DATA", errno);
        return;
    }
    if (data >= 0 && ((uint64_t)data < op->off || (uint64_t)data >= size)) {
        differs(fsx, op, "SEEK_DATA gives", data, (int64_t)op->off);
        return;
    }
    end = data >= 0 ? (uint64_t)data : size;
    if (end > op->off && !fsx_model_is_zero(model, op->off, end)) {
        differs(fsx, op, "SEEK_DATA goes over data: gives", data, (int64_t)op->off);
        return;
    }
    hole = lseek(fd, (off_t)op->off, SEEK_HOLE);
    if (op->off >= size) {
        if (hole >= 0 || errno != ENXIO) {
            differs(fsx, op, "SEEK_HOLE at the end gives", hole, -1);
        }
        return;
    }
    if (hole < 0) {
        fails(fsx, op, "SEEK_HOLE", errno);
        return;
    }
    if ((uint64_t)hole < op->off || (uint64_t)hole > size ||
        ((uint64_t)hole < size && model->bytes[hole])) {
        differs(fsx, op, "SEEK_HOLE gives what is none", hole, (int64_t)op->off);
    }
}

static void do_stat(struct fsx *fsx, const struct fsx_op *op)
{
    int fd = fd_of(fsx, op, op->mount, op->file, false);
    struct stat st;

    if (fd < 0) {
        return;
    }
    if (op->how & FSX_PATH ? stat(path_of(fsx, op->mount, op->file), &st) : fstat(fd, &st)) {
        fails(fsx, op, "stat", errno);
    } else if ((uint64_t)st.st_size != model_of(fsx, op->file)->size) {
        differs(fsx, op, "st_size is", st.st_size, (int64_t)model_of(fsx, op->file)->size);
    } else if (model_of(fsx, op->file)->mtime && model_of(fsx, op->file)->mtime != st.st_mtime) {
        differs(fsx, op, "st_mtime is", st.st_mtime, model_of(fsx, op->file)->mtime);
    } else if (st.st_nlink != 1 || !S_ISREG(st.st_mode)) {
        differs(fsx, op, "st_nlink is", (int64_t)st.st_nlink, 1);
    }
}

/* A time that the log can repeat: of the operation. */
static void do_times(struct fsx *fsx, const struct fsx_op *op)
{
    struct fsx_model *model = model_of(fsx, op->file);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000 + op->id}};
    int fd = fd_of(fsx, op, op->mount, op->file, false);

    if (fd >= 0 && futimens(fd, times)) {
        fails(fsx, op, "futimens", errno);
    }
    model->mtime = model->mapped ? 0 : 1000000 + op->id;
}

static void do_chmod(struct fsx *fsx, const struct fsx_op *op)
{
    int fd = fd_of(fsx, op, op->mount, op->file, false);

    if (fd >= 0 && fchmod(fd, op->id % 2 ? 0600 : 0644)) {
        fails(fsx, op, "fchmod", errno);
    }
}

static void do_drop(struct fsx *fsx, const struct fsx_op *op)
{
    if (sync_file(fsx, op, op->mount, op->file, false)) {
        (void)posix_fadvise(fd_of(fsx, op, op->mount, op->file, false), 0, 0, POSIX_FADV_DONTNEED);
    }
}

static void do_peek(struct fsx *fsx, const struct fsx_op *op)
{
    unsigned mount = fsx->config->dirs[1] ? op->mount ^ 1u : op->mount;
    int fd = fd_of(fsx, op, mount, op->file, false);

    if (fd >= 0 && pread(fd, fsx->buf, op->len, (off_t)op->off) < 0) {
        fails(fsx, op, "read", errno);
    }
}

static bool verify_file(struct fsx *fsx, const struct fsx_op *op, unsigned file, int fd)
{
    const struct fsx_model *model = model_of(fsx, file);
    uint64_t step = fsx->config->max_bytes < VERIFY_BYTES ? fsx->config->max_bytes : VERIFY_BYTES;

    for (uint64_t off = 0;; off += step) {
        uint64_t want = off < model->size ? model->size - off : 0;
        ssize_t n = pread(fd, fsx->buf, step, (off_t)off);

        want = want < step ? want : step;
        if (n < 0) {
            fails(fsx, op, "read", errno);
            return false;
        }
        if ((uint64_t)n != want) {
            differs(fsx, op, "read returns", n, (int64_t)want);
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
            int fd = arrive(fsx, &op, f) ? fd_of(fsx, &op, m, f, false) : -1;

            if (fd < 0 || !verify_file(fsx, &op, f, fd)) {
                return;
            }
        }
    }
}

static void flip(struct fsx *fsx, const struct fsx_op *op)
{
    uint64_t size = model_of(fsx, op->file)->size;
    int fd = size ? open(path_of(fsx, 0, op->file), O_RDWR | O_CLOEXEC) : -1;
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

    if (op->kind != FSX_PEEK && !arrive(fsx, op, op->file)) {
        return;
    }
    model_of(fsx, op->file)->mtime = changes(op) ? 0 : model_of(fsx, op->file)->mtime;
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
        (void)sync_file(fsx, op, op->mount, op->file, op->how & FSX_SYNC);
        break;
    case FSX_REOPEN:
        (void)reopen(fsx, op, op->mount, op->file);
        break;
    case FSX_DROP:
        do_drop(fsx, op);
        break;
    case FSX_PEEK:
        do_peek(fsx, op);
        break;
    case FSX_VERIFY:
        fd = fd_of(fsx, op, op->mount, op->file, false);
        (void)(fd >= 0 && verify_file(fsx, op, op->file, fd));
        break;
    case FSX_KIND_COUNT:
        break;
    }
    if (is_planted(fsx, FSX_PLANT_FLIP) && op->id % 1000 == 999) {
        flip(fsx, op);
    }
}
