/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sim_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/env/env_impl.h"
#include "tests/lib/sim_names.h"
#include "tests/sweep/sweep.h"

#define FAULTS_MAX       16u
#define CAPACITY_DEFAULT (UINT64_C(1) << 40)
#define SIM_PID          4242

struct fault {
    enum hf_sim_fault kind;
    uint64_t n;
    char *part;   /* NULL: any path */
    bool *struck; /* or NULL */
};

struct sim_file {
    struct hf_file file;
    struct hf_sim_disk *disk;
    struct sim_file *prev, *next; /* all of the disk */
    struct hf_sim_inode *inode;   /* counted; NULL: the process or the machine died since */
    char *path;
    unsigned flags;
    bool holds_lock;
};

struct hf_sim_disk {
    struct hf_disk base;
    struct hf_sim_rng rng;
    struct hf_sim_names names;
    struct sim_file *files;
    uint64_t capacity_bytes;
    bool off, crashed;
    uint64_t calls;
    struct fault faults[FAULTS_MAX];
    unsigned fault_count;
    unsigned struck;
    enum hf_sim_cut cut;
};

/* One counted call: may it happen, and what becomes of it? */

enum call_kind {
    CALL_OTHER,
    CALL_READ,
    CALL_WRITE,
    CALL_ALLOCATE,
    CALL_TRUNCATE,
    CALL_SYNC,
    CALL_CREATE,
    CALL_NAME, /* of what is there */
};

enum call_end {
    CALL_ENDS_WELL,
    CALL_ENDS_IN_CUT,
    CALL_ENDS_IN_CRASH,
};

struct call {
    bool make_short, lost, astray;
    enum call_end end;
};

static bool concerns(enum hf_sim_fault fault, enum call_kind call, bool can_be_short)
{
    switch (fault) {
    case HF_SIM_FAULT_WRITE_EIO:
        return call == CALL_WRITE || call == CALL_TRUNCATE || call == CALL_ALLOCATE;
    case HF_SIM_FAULT_SYNC_EIO:
        return call == CALL_SYNC;
    case HF_SIM_FAULT_READ_EIO:
        return call == CALL_READ;
    case HF_SIM_FAULT_NOSPC:
    case HF_SIM_FAULT_QUOTA:
        return call == CALL_WRITE || call == CALL_ALLOCATE || call == CALL_CREATE;
    case HF_SIM_FAULT_SHORT:
        return can_be_short;
    case HF_SIM_FAULT_LOST:
    case HF_SIM_FAULT_ASTRAY:
        return call == CALL_WRITE;
    case HF_SIM_FAULT_DEAD:
        return call != CALL_READ && call != CALL_OTHER;
    case HF_SIM_FAULT_POWER_CUT:
    case HF_SIM_FAULT_CRASH:
        return true;
    case HF_SIM_FAULT_COUNT:
        break;
    }
    return false;
}

static void remove_fault(struct hf_sim_disk *disk, unsigned index)
{
    free(disk->faults[index].part);
    disk->fault_count--;
    memmove(&disk->faults[index], &disk->faults[index + 1],
            (disk->fault_count - index) * sizeof(disk->faults[0]));
}

/* HF_SIM_FAULT_COUNT: none strikes. */
static enum hf_sim_fault strike(struct hf_sim_disk *disk, enum call_kind kind, bool can_be_short,
                                const char *path, uint64_t n)
{
    for (unsigned i = 0; i < disk->fault_count; i++) {
        const struct fault *fault = &disk->faults[i];
        enum hf_sim_fault what = fault->kind;

        if (n >= fault->n && concerns(what, kind, can_be_short) &&
            (!fault->part || strstr(path, fault->part))) {
            disk->struck++;
            if (fault->struck) {
                *fault->struck = true;
            }
            if (what != HF_SIM_FAULT_DEAD) {
                remove_fault(disk, i);
            }
            return what;
        }
    }
    return HF_SIM_FAULT_COUNT;
}

static void end_here(struct hf_sim_disk *disk, enum call_end end)
{
    if (end == CALL_ENDS_IN_CUT) {
        hf_sim_disk_power_cut(disk, disk->cut);
    } else {
        hf_sim_disk_drop_handles(disk);
        disk->off = disk->crashed = true;
    }
}

static enum hf_sweep_io kind_for_sweep(enum call_kind kind, bool can_be_short)
{
    bool takes_space = concerns(HF_SIM_FAULT_NOSPC, kind, can_be_short);

    if (can_be_short) {
        return takes_space ? HF_SWEEP_IO_TRANSFERS : HF_SWEEP_IO_READS;
    }
    return takes_space ? HF_SWEEP_IO_TAKES : HF_SWEEP_IO_OTHER;
}

static int enter(struct hf_sim_disk *disk, enum call_kind kind, bool can_be_short, const char *path,
                 struct call *call)
{
    uint64_t n = disk->calls++;
    int err;

    *call = (struct call){0};
    if (disk->off) {
        return -EIO;
    }
    err = hf_sweep_io(kind_for_sweep(kind, can_be_short), &call->make_short);
    if (err) {
        return err;
    }
    switch (strike(disk, kind, can_be_short, path, n)) {
    case HF_SIM_FAULT_WRITE_EIO:
    case HF_SIM_FAULT_SYNC_EIO:
    case HF_SIM_FAULT_READ_EIO:
    case HF_SIM_FAULT_DEAD:
        return -EIO;
    case HF_SIM_FAULT_NOSPC:
        return -ENOSPC;
    case HF_SIM_FAULT_QUOTA:
        return -EDQUOT;
    case HF_SIM_FAULT_SHORT:
        call->make_short = true;
        break;
    case HF_SIM_FAULT_LOST:
        call->lost = true;
        break;
    case HF_SIM_FAULT_ASTRAY:
        call->astray = true;
        break;
    case HF_SIM_FAULT_CRASH:
        call->end = CALL_ENDS_IN_CRASH;
        break;
    case HF_SIM_FAULT_POWER_CUT:
        call->end = CALL_ENDS_IN_CUT;
        break;
    case HF_SIM_FAULT_COUNT:
        break;
    }
    if (call->end && hf_sim_rng_chance(&disk->rng, 50)) { /* before anything happened */
        end_here(disk, call->end);
        return -EIO;
    }
    return 0;
}

static ssize_t leave(struct hf_sim_disk *disk, const struct call *call, ssize_t ret)
{
    if (call->end == CALL_ENDS_WELL) {
        return ret;
    }
    end_here(disk, call->end);
    return -EIO;
}

/* Space: what has a current name or is open. */

static uint64_t used_bytes(const struct hf_sim_disk *disk)
{
    uint64_t used = 0;

    for (const struct hf_sim_inode *i = disk->names.all; i; i = i->next) {
        if (i->data && (i->links || i->handles)) {
            used += hf_sim_data_used_bytes(i->data);
        }
    }
    return used;
}

static uint64_t free_bytes(const struct hf_sim_disk *disk)
{
    uint64_t used = used_bytes(disk);

    return used < disk->capacity_bytes ? disk->capacity_bytes - used : 0;
}

/* Files */

static struct sim_file *file_of(struct hf_file *file)
{
    return (struct sim_file *)file;
}

static void detach(struct sim_file *file)
{
    struct hf_sim_inode *inode = file->inode;

    if (inode) {
        if (file->holds_lock) {
            inode->locked_by = 0;
        }
        inode->handles--;
        file->inode = NULL;
        hf_sim_inode_unref(&file->disk->names, inode);
    }
}

static void sim_close(struct hf_file *f)
{
    struct sim_file *file = file_of(f);

    detach(file);
    if (file->prev) {
        file->prev->next = file->next;
    } else {
        file->disk->files = file->next;
    }
    if (file->next) {
        file->next->prev = file->prev;
    }
    free(file->path);
    free(file);
}

static int iov_total(const struct iovec *iov, int iov_count, size_t *ret)
{
    size_t total = 0;

    if (iov_count < 0 || iov_count > 1024) {
        return -EINVAL;
    }
    for (int i = 0; i < iov_count; i++) {
        if (__builtin_add_overflow(total, iov[i].iov_len, &total)) {
            return -EINVAL;
        }
    }
    *ret = total;
    return 0;
}

static int check_transfer(const struct sim_file *file, const struct iovec *iov, int iov_count,
                          uint64_t off, size_t *ret_len)
{
    int err = iov_total(iov, iov_count, ret_len);

    if (err || off > INT64_MAX) {
        return -EINVAL;
    }
    if (!(file->flags & HF_FILE_DIRECT)) {
        return 0;
    }
    for (int i = 0; i < iov_count; i++) {
        if ((uintptr_t)iov[i].iov_base % HF_BLOCK_BYTES || iov[i].iov_len % HF_BLOCK_BYTES) {
            return -EINVAL;
        }
    }
    return off % HF_BLOCK_BYTES ? -EINVAL : 0;
}

/* Some, but not all, of @len; whole blocks when direct. */
static size_t shorten(struct sim_file *file, size_t len)
{
    size_t unit = file->flags & HF_FILE_DIRECT ? HF_BLOCK_BYTES : 1;
    size_t units = len / unit;

    return units > 1 ? unit * (1 + (size_t)hf_sim_rng_below(&file->disk->rng, units - 1)) : len;
}

static bool can_be_short(const struct sim_file *file, size_t len)
{
    return len > (file->flags & HF_FILE_DIRECT ? HF_BLOCK_BYTES : 1);
}

/* At most @len bytes. */
static ssize_t read_into(struct sim_file *file, const struct iovec *iov, int iov_count,
                         uint64_t off, size_t len)
{
    size_t done = 0;

    for (int i = 0; i < iov_count && done < len; i++) {
        size_t want = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;
        size_t n = hf_sim_data_read(file->inode->data, iov[i].iov_base, want, off + done);

        done += n;
        if (n < want) {
            break;
        }
    }
    return (ssize_t)done;
}

static ssize_t sim_preadv(struct hf_file *f, const struct iovec *iov, int iov_count, uint64_t off)
{
    struct sim_file *file = file_of(f);
    struct call call;
    size_t len = 0;
    int bad = check_transfer(file, iov, iov_count, off, &len);
    int err = enter(file->disk, CALL_READ, can_be_short(file, len), file->path, &call);

    if (err || !file->inode) {
        return -EIO;
    }
    if (bad) {
        return leave(file->disk, &call, bad);
    }
    if (call.make_short) {
        len = shorten(file, len);
    }
    return leave(file->disk, &call, read_into(file, iov, iov_count, off, len));
}

static ssize_t sim_preadv_nowait(struct hf_file *f, const struct iovec *iov, int iov_count,
                                 uint64_t off)
{
    struct sim_file *file = file_of(f);

    if (hf_sim_rng_chance(&file->disk->rng, 30)) {
        return -EAGAIN;
    }
    return sim_preadv(f, iov, iov_count, off);
}

static ssize_t write_from(struct sim_file *file, const struct iovec *iov, int iov_count,
                          uint64_t off, size_t len)
{
    size_t unit = file->flags & HF_FILE_DIRECT ? HF_BLOCK_BYTES : 1;
    size_t room = hf_sim_data_room(file->inode->data, off, len, free_bytes(file->disk));
    uint8_t *bytes;
    size_t done = 0;

    room -= room % unit;
    if (len > 0 && room == 0) {
        return -ENOSPC;
    }
    len = room;
    bytes = malloc(len + 1);
    HF_ASSERT(bytes != NULL);
    for (int i = 0; i < iov_count && done < len; i++) {
        size_t n = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

        if (n) {
            memcpy(bytes + done, iov[i].iov_base, n);
        }
        done += n;
    }
    if (len) {
        hf_sim_data_write(file->inode->data, bytes, len, off);
    }
    free(bytes);
    return (ssize_t)len;
}

/* Another place for a write to @off, on a block of the file as it is. */
static uint64_t astray(struct sim_file *file, uint64_t off, size_t len)
{
    uint64_t size = hf_sim_data_size(file->inode->data);
    uint64_t places = size > len ? (size - len) / HF_SIM_PAGE_BYTES + 1 : 1;

    return hf_sim_rng_below(&file->disk->rng, places) * HF_SIM_PAGE_BYTES + off % HF_SIM_PAGE_BYTES;
}

static ssize_t sim_pwritev(struct hf_file *f, const struct iovec *iov, int iov_count, uint64_t off)
{
    struct sim_file *file = file_of(f);
    struct call call;
    size_t len = 0;
    int bad = check_transfer(file, iov, iov_count, off, &len);
    int err = enter(file->disk, CALL_WRITE, can_be_short(file, len), file->path, &call);

    if (err || !file->inode) {
        return err ? err : -EIO;
    }
    if (!bad && file->flags & HF_FILE_READ_ONLY) {
        bad = -EBADF;
    }
    if (!bad && (off > HF_SIM_FILE_BYTES_MAX || len > HF_SIM_FILE_BYTES_MAX - off)) {
        bad = -EFBIG;
    }
    if (bad) {
        return leave(file->disk, &call, bad);
    }
    if (call.make_short) {
        len = shorten(file, len);
    }
    if (call.lost) {
        return leave(file->disk, &call, (ssize_t)len);
    }
    if (call.astray) {
        off = astray(file, off, len);
    }
    return leave(file->disk, &call, write_from(file, iov, iov_count, off, len));
}

static int sim_sync(struct hf_file *f)
{
    struct sim_file *file = file_of(f);
    struct call call;
    int err = enter(file->disk, CALL_SYNC, false, file->path, &call);

    if (!file->inode || file->disk->off) {
        return -EIO;
    }
    if (err) {
        hf_sim_data_sync_failed(file->inode->data, &file->disk->rng);
        return err;
    }
    hf_sim_data_sync(file->inode->data);
    return (int)leave(file->disk, &call, 0);
}

static int check_resize(const struct sim_file *file, uint64_t len_bytes)
{
    if (file->flags & HF_FILE_READ_ONLY) {
        return -EINVAL;
    }
    return len_bytes > HF_SIM_FILE_BYTES_MAX ? -EFBIG : 0;
}

static int sim_truncate(struct hf_file *f, uint64_t len_bytes)
{
    struct sim_file *file = file_of(f);
    struct call call;
    int err = enter(file->disk, CALL_TRUNCATE, false, file->path, &call);

    if (err || !file->inode) {
        return err ? err : -EIO;
    }
    err = check_resize(file, len_bytes);
    if (!err) {
        hf_sim_data_truncate(file->inode->data, len_bytes);
    }
    return (int)leave(file->disk, &call, err);
}

static int sim_allocate(struct hf_file *f, uint64_t len_bytes)
{
    struct sim_file *file = file_of(f);
    struct call call;
    int err = enter(file->disk, CALL_ALLOCATE, false, file->path, &call);

    if (err || !file->inode) {
        return err ? err : -EIO;
    }
    err = check_resize(file, len_bytes);
    if (!err && hf_sim_data_room(file->inode->data, 0, (size_t)len_bytes, free_bytes(file->disk)) <
                    len_bytes) {
        err = -ENOSPC;
    }
    if (!err && len_bytes) {
        hf_sim_data_allocate(file->inode->data, len_bytes);
    }
    return (int)leave(file->disk, &call, err);
}

static int sim_size(struct hf_file *f, uint64_t *ret_bytes)
{
    struct sim_file *file = file_of(f);

    if (!file->inode || file->disk->off) {
        return -EIO;
    }
    *ret_bytes = hf_sim_data_size(file->inode->data);
    return 0;
}

static const struct hf_file_ops file_ops = {
    .close = sim_close,
    .preadv = sim_preadv,
    .pwritev = sim_pwritev,
    .preadv_nowait = sim_preadv_nowait,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .size = sim_size,
};

/* Names */

static struct hf_sim_disk *disk_of(struct hf_disk *disk)
{
    return (struct hf_sim_disk *)disk;
}

/* Takes no fault into account. */
static int open_inode(struct hf_sim_disk *disk, const char *path, unsigned flags,
                      struct sim_file **ret)
{
    struct hf_sim_inode *inode, *dir;
    struct sim_file *file;
    char name[256];
    int err = hf_sim_names_find(&disk->names, path, &inode, &dir, name);

    if (err) {
        return err;
    }
    if (!inode && !(flags & HF_FILE_CREATE)) {
        return -ENOENT;
    }
    if (inode && flags & HF_FILE_CREATE && flags & HF_FILE_EXCL) {
        return -EEXIST;
    }
    if (inode && !inode->data) {
        return -EISDIR;
    }
    if (!inode) {
        inode = hf_sim_inode_new(&disk->names, false);
        hf_sim_names_change(&disk->names, NULL, NULL, dir, name, inode);
    }
    file = calloc(1, sizeof(*file));
    HF_ASSERT(file != NULL);
    *file =
        (struct sim_file){.file = {.ops = &file_ops}, .disk = disk, .inode = inode, .flags = flags};
    file->path = strdup(path);
    HF_ASSERT(file->path != NULL);
    file->next = disk->files;
    if (file->next) {
        file->next->prev = file;
    }
    disk->files = file;
    hf_sim_inode_ref(inode);
    inode->handles++;
    *ret = file;
    return 0;
}

static int sim_open(struct hf_disk *d, const char *path, unsigned flags, struct hf_file **ret)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct sim_file *file = NULL;
    struct call call;
    int err = enter(disk, flags & HF_FILE_CREATE ? CALL_CREATE : CALL_OTHER, false, path, &call);

    if (err) {
        return err;
    }
    err = open_inode(disk, path, flags, &file);
    err = (int)leave(disk, &call, err);
    if (err) {
        if (file) {
            sim_close(&file->file);
        }
        return err;
    }
    *ret = &file->file;
    return 0;
}

static int make_dirs(struct hf_sim_disk *disk, const char *path)
{
    char *part = strdup(path);
    int err = 0;

    HF_ASSERT(part != NULL);
    for (size_t len = 1; !err && part[0] && len <= strlen(path); len++) {
        struct hf_sim_inode *inode, *dir;
        char name[256];

        if (path[len] != '/' && path[len] != '\0') {
            continue;
        }
        part[len] = '\0';
        err = hf_sim_names_find(&disk->names, part, &inode, &dir, name);
        part[len] = path[len];
        if (!err && !inode) {
            hf_sim_names_change(&disk->names, NULL, NULL, dir, name,
                                hf_sim_inode_new(&disk->names, true));
        } else if (!err && inode->data) {
            err = -ENOTDIR;
        }
        if (!err && dir->suspect) {
            err = -EIO;
        }
        if (!err) {
            hf_sim_names_sync(&disk->names, dir);
        }
    }
    free(part);
    return err;
}

static int sim_mkdir(struct hf_disk *d, const char *path)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct call call;
    int err = enter(disk, CALL_CREATE, false, path, &call);

    return err ? err : (int)leave(disk, &call, make_dirs(disk, path));
}

static int unlink_name(struct hf_sim_disk *disk, const char *path)
{
    struct hf_sim_inode *inode, *dir;
    char name[256];
    int err = hf_sim_names_find(&disk->names, path, &inode, &dir, name);

    if (err) {
        return err;
    }
    if (!inode) {
        return -ENOENT;
    }
    if (!inode->data) {
        return -EISDIR;
    }
    hf_sim_names_change(&disk->names, dir, name, NULL, NULL, inode);
    return 0;
}

static int sim_unlink(struct hf_disk *d, const char *path)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct call call;
    int err = enter(disk, CALL_NAME, false, path, &call);

    return err ? err : (int)leave(disk, &call, unlink_name(disk, path));
}

static int rename_name(struct hf_sim_disk *disk, const char *from, const char *to)
{
    struct hf_sim_inode *inode, *dir, *old, *to_dir;
    char name[256], to_name[256];
    size_t from_len = strlen(from);
    int err = hf_sim_names_find(&disk->names, from, &inode, &dir, name);

    if (!err) {
        err = hf_sim_names_find(&disk->names, to, &old, &to_dir, to_name);
    }
    if (err) {
        return err;
    }
    if (!inode) {
        return -ENOENT;
    }
    if (inode == old) {
        return 0;
    }
    if (inode == disk->names.root || (old && !old->data)) {
        return inode->data ? -EISDIR : -ENOTEMPTY;
    }
    if (!inode->data && (old || (strncmp(from, to, from_len) == 0 && to[from_len] == '/'))) {
        return old ? -ENOTDIR : -EINVAL; /* EINVAL: a directory into itself */
    }
    hf_sim_names_change(&disk->names, dir, name, to_dir, to_name, inode);
    return 0;
}

static int sim_rename(struct hf_disk *d, const char *from, const char *to)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct call call;
    int err = enter(disk, CALL_NAME, false, to, &call);

    return err ? err : (int)leave(disk, &call, rename_name(disk, from, to));
}

static int find_dir(struct hf_sim_disk *disk, const char *path, struct hf_sim_inode **ret)
{
    struct hf_sim_inode *parent;
    char name[256];
    int err = hf_sim_names_find(&disk->names, path, ret, &parent, name);

    if (!err && !*ret) {
        err = -ENOENT;
    } else if (!err && (*ret)->data) {
        err = -ENOTDIR;
    }
    return err;
}

/* The callback may change the directory: it is given copies, in an order of chance. */
static int list_names(struct hf_sim_disk *disk, const struct hf_sim_inode *dir,
                      int (*fn)(void *ctx, const char *name), void *ctx)
{
    size_t count = dir->current.count;
    char **copy = calloc(count + 1, sizeof(char *));
    int ret = 0;

    HF_ASSERT(copy != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)hf_sim_rng_below(&disk->rng, i + 1);

        copy[i] = copy[at];
        copy[at] = strdup(dir->current.entry[i].name);
        HF_ASSERT(copy[at] != NULL);
    }
    for (size_t i = 0; i < count && !ret; i++) {
        ret = fn(ctx, copy[i]);
    }
    for (size_t i = 0; i < count; i++) {
        free(copy[i]);
    }
    free(copy);
    return ret;
}

static int sim_list(struct hf_disk *d, const char *path, int (*fn)(void *ctx, const char *name),
                    void *ctx)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct hf_sim_inode *dir;
    struct call call;
    int err = enter(disk, CALL_OTHER, false, path, &call);

    if (err) {
        return err;
    }
    err = (int)leave(disk, &call, find_dir(disk, path, &dir));
    return err ? err : list_names(disk, dir, fn, ctx);
}

static int sim_sync_dir(struct hf_disk *d, const char *path)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct hf_sim_inode *dir;
    struct call call;
    int failed = enter(disk, CALL_SYNC, false, path, &call);
    int err;

    if (disk->off) {
        return -EIO;
    }
    err = find_dir(disk, path, &dir);
    if (!err && failed) {
        dir->suspect = true;
    }
    if (!err && dir->suspect) {
        err = -EIO;
    }
    if (!err) {
        hf_sim_names_sync(&disk->names, dir);
    }
    return (int)leave(disk, &call, err);
}

static int sim_space(struct hf_disk *d, const char *path, struct hf_disk_space *ret)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct hf_sim_inode *inode, *dir;
    struct call call;
    char name[256];
    int err = enter(disk, CALL_OTHER, false, path, &call);

    if (err) {
        return err;
    }
    err = hf_sim_names_find(&disk->names, path, &inode, &dir, name);
    err = (int)leave(disk, &call, !err && !inode ? -ENOENT : err);
    if (!err) {
        *ret = (struct hf_disk_space){.total_bytes = disk->capacity_bytes,
                                      .free_bytes = free_bytes(disk)};
    }
    return err;
}

static int lock_file(struct hf_sim_disk *disk, const char *path, struct sim_file **ret,
                     int *ret_pid)
{
    struct sim_file *file;
    char text[16];
    int err = open_inode(disk, path, HF_FILE_CREATE, &file);

    if (err) {
        return err;
    }
    if (file->inode->locked_by) {
        if (ret_pid) {
            *ret_pid = file->inode->locked_by;
        }
        sim_close(&file->file);
        return -EBUSY;
    }
    (void)snprintf(text, sizeof(text), "%d\n", SIM_PID);
    hf_sim_data_truncate(file->inode->data, 0);
    hf_sim_data_write(file->inode->data, text, strlen(text), 0);
    file->inode->locked_by = SIM_PID;
    file->holds_lock = true;
    *ret = file;
    return 0;
}

static int sim_lock(struct hf_disk *d, const char *path, struct hf_file **ret, int *ret_pid)
{
    struct hf_sim_disk *disk = disk_of(d);
    struct sim_file *file = NULL;
    struct call call;
    int err = enter(disk, CALL_CREATE, false, path, &call);

    if (err) {
        return err;
    }
    err = (int)leave(disk, &call, lock_file(disk, path, &file, ret_pid));
    if (err) {
        if (file) {
            sim_close(&file->file);
        }
        return err;
    }
    *ret = &file->file;
    return 0;
}

static const struct hf_disk_ops disk_ops = {
    .open = sim_open,
    .mkdir = sim_mkdir,
    .unlink = sim_unlink,
    .rename = sim_rename,
    .list = sim_list,
    .sync_dir = sim_sync_dir,
    .space = sim_space,
    .lock = sim_lock,
};

/* Public */

struct hf_sim_disk *hf_sim_disk_new(uint64_t seed)
{
    struct hf_sim_disk *disk = calloc(1, sizeof(*disk));

    HF_ASSERT(disk != NULL);
    disk->base.ops = &disk_ops;
    disk->rng.state = seed;
    disk->capacity_bytes = CAPACITY_DEFAULT;
    disk->cut = HF_SIM_CUT_RANDOM;
    hf_sim_names_init(&disk->names);
    return disk;
}

void hf_sim_disk_free(struct hf_sim_disk *disk)
{
    if (disk) {
        while (disk->files) {
            sim_close(&disk->files->file);
        }
        hf_sim_disk_clear_faults(disk);
        hf_sim_names_fini(&disk->names);
        free(disk);
    }
}

struct hf_disk *hf_sim_disk_base(struct hf_sim_disk *disk)
{
    return &disk->base;
}

void hf_sim_disk_power_cut(struct hf_sim_disk *disk, enum hf_sim_cut mode)
{
    hf_sim_disk_drop_handles(disk);
    disk->off = true;
    hf_sim_names_cut(&disk->names, &disk->rng, mode);
}

bool hf_sim_disk_is_off(const struct hf_sim_disk *disk)
{
    return disk->off;
}

bool hf_sim_disk_has_crashed(const struct hf_sim_disk *disk)
{
    return disk->crashed;
}

void hf_sim_disk_restart(struct hf_sim_disk *disk)
{
    hf_sim_disk_drop_handles(disk);
    for (unsigned i = disk->fault_count; i > 0; i--) {
        if (disk->faults[i - 1].kind != HF_SIM_FAULT_DEAD) {
            remove_fault(disk, i - 1);
        }
    }
    disk->off = false;
}

void hf_sim_disk_drop_handles(struct hf_sim_disk *disk)
{
    for (struct sim_file *file = disk->files; file; file = file->next) {
        detach(file);
    }
    if (disk->crashed) {
        disk->off = disk->crashed = false;
    }
}

void hf_sim_disk_drop_caches(struct hf_sim_disk *disk)
{
    for (struct hf_sim_inode *i = disk->names.all; i; i = i->next) {
        if (i->data) {
            hf_sim_data_drop_cache(i->data);
        }
    }
}

uint64_t hf_sim_disk_calls(const struct hf_sim_disk *disk)
{
    return disk->calls;
}

void hf_sim_disk_fail_at(struct hf_sim_disk *disk, uint64_t n, enum hf_sim_fault kind)
{
    hf_sim_disk_fail_path(disk, n, kind, NULL, NULL);
}

void hf_sim_disk_fail_path(struct hf_sim_disk *disk, uint64_t n, enum hf_sim_fault kind,
                           const char *part, bool *struck)
{
    struct fault *fault = &disk->faults[disk->fault_count];

    HF_ASSERT(disk->fault_count < FAULTS_MAX && kind < HF_SIM_FAULT_COUNT);
    *fault =
        (struct fault){.kind = kind, .n = n, .part = part ? strdup(part) : NULL, .struck = struck};
    HF_ASSERT(!part || fault->part);
    disk->fault_count++;
}

void hf_sim_disk_clear_faults(struct hf_sim_disk *disk)
{
    while (disk->fault_count > 0) {
        remove_fault(disk, disk->fault_count - 1);
    }
}

unsigned hf_sim_disk_struck(const struct hf_sim_disk *disk)
{
    return disk->struck;
}

void hf_sim_disk_set_cut(struct hf_sim_disk *disk, enum hf_sim_cut mode)
{
    disk->cut = mode;
}

int hf_sim_disk_flip(struct hf_sim_disk *disk, const char *path, uint64_t off, uint8_t mask)
{
    struct hf_sim_inode *inode, *dir;
    char name[256];
    int err = hf_sim_names_find(&disk->names, path, &inode, &dir, name);

    if (err || !inode) {
        return err ? err : -ENOENT;
    }
    if (!inode->data) {
        return -EISDIR;
    }
    return hf_sim_data_flip(inode->data, off, mask) ? 0 : -EINVAL;
}

void hf_sim_disk_set_capacity(struct hf_sim_disk *disk, uint64_t bytes)
{
    disk->capacity_bytes = bytes;
}
