/* SPDX-License-Identifier: Apache-2.0 */
/* Which call moves which time stamps: POSIX.1-2024 of each call; inode(7). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <time.h>

#include "tests/posix/posix.h"

/* Which call moves what */

#define F "d/f"

static int close_of(int fd)
{
    return fd < 0 ? -1 : close(fd);
}

static int write_bytes(int flags, const char *bytes, size_t len, off_t at)
{
    int fd = open(F, flags);
    ssize_t n = fd < 0 ? -1 : pwrite(fd, bytes, len, at);

    return close_of(fd) || n != (ssize_t)len ? -1 : 0;
}

static int do_create(void)
{
    return close_of(open("d/new", O_CREAT | O_RDWR, 0644));
}
static int do_open(void)
{
    return close_of(open(F, O_CREAT | O_RDWR, 0644));
}
static int do_open_excl(void)
{
    return open(F, O_CREAT | O_EXCL | O_RDWR, 0644) == -1 ? 0 : -1;
}
static int do_open_trunc(void)
{
    return close_of(open(F, O_TRUNC | O_WRONLY));
}
static int do_open_trunc_empty(void)
{
    return close_of(open("d/empty", O_TRUNC | O_WRONLY));
}
static int do_mkdir(void)
{
    return mkdir("d/new", 0755);
}
static int do_mkdir_there(void)
{
    return mkdir("d/sub", 0755) == -1 ? 0 : -1;
}
static int do_symlink(void)
{
    return symlink("x", "d/new");
}
static int do_mknod(void)
{
    return mknod("d/new", S_IFIFO | 0644, 0);
}
static int do_link(void)
{
    return link(F, "e/new");
}
static int do_unlink(void)
{
    return unlink(F);
}
static int do_rmdir(void)
{
    return rmdir("d/sub");
}
static int do_rmdir_full(void)
{
    return rmdir("d") == -1 ? 0 : -1;
}
static int do_write(void)
{
    return write_bytes(O_RDWR, "x", 1, 1);
}
static int do_write_nothing(void)
{
    return write_bytes(O_RDWR, "", 0, 1);
}
static int do_write_behind(void)
{
    return write_bytes(O_RDWR, "x", 1, 1 << 20);
}
static int do_write_same(void)
{
    return write_bytes(O_RDWR, "0", 1, 0);
}
static int do_append(void)
{
    return write_bytes(O_RDWR | O_APPEND, "x", 1, 0);
}
static int do_write_direct(void)
{
    static _Alignas(4096) char bytes[4096];

    return write_bytes(O_RDWR | O_DIRECT, bytes, sizeof(bytes), 0);
}
static int do_truncate_less(void)
{
    return truncate(F, 3);
}
static int do_truncate_more(void)
{
    return truncate(F, 10000);
}
static int do_ftruncate(void)
{
    int fd = open(F, O_RDWR), ret = ftruncate(fd, 3);

    return close_of(fd) || ret;
}
static int do_fallocate(void)
{
    int fd = open(F, O_RDWR), ret = fallocate(fd, 0, 0, 100000);

    return close_of(fd) || ret;
}
static int do_punch(void)
{
    int fd = open(F, O_RDWR);
    int ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5);

    return close_of(fd) || ret;
}
static int do_copy(void)
{
    int from = open("e/g", O_RDONLY), to = open(F, O_RDWR);
    ssize_t n = copy_file_range(from, NULL, to, NULL, 4, 0);

    return close_of(from) || close_of(to) || n != 4;
}
static int do_mmap(void)
{
    int fd = open(F, O_RDWR), ret;
    char *at = fd < 0 ? MAP_FAILED : mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (at == MAP_FAILED) {
        return -1;
    }
    at[1] = 'm';
    ret = msync(at, 10, MS_SYNC);
    return munmap(at, 10) || close_of(fd) || ret;
}
static int do_chmod(void)
{
    return chmod(F, 0600);
}
static int do_chmod_dir(void)
{
    return chmod("d", 0700);
}
static int do_chown(void)
{
    return chown(F, geteuid(), getegid());
}
static int do_lchown(void)
{
    return lchown("d/l", geteuid(), getegid());
}
static int do_setxattr(void)
{
    return setxattr(F, "user.new", "x", 1, 0);
}
static int do_setxattr_dir(void)
{
    return setxattr("d", "user.new", "x", 1, 0);
}
static int do_setxattr_fails(void)
{
    return setxattr(F, "user.there", "x", 1, XATTR_CREATE) == -1 ? 0 : -1;
}
static int do_removexattr(void)
{
    return removexattr(F, "user.there");
}
static int do_getxattr(void)
{
    char value[16];

    return getxattr(F, "user.there", value, sizeof(value)) < 0 ||
           listxattr(F, value, sizeof(value)) < 0;
}
static int do_stat(void)
{
    return access(F, R_OK) || access("d/sub", X_OK);
}
static int do_fsync(void)
{
    int fd = open(F, O_RDWR), ret = fsync(fd);

    return close_of(fd) || ret;
}
static int do_read(void)
{
    char byte;
    int fd = open(F, O_RDONLY);
    ssize_t n = pread(fd, &byte, 1, 0);

    return close_of(fd) || n != 1;
}
static int do_read_noatime(void)
{
    char byte;
    int fd = open(F, O_RDONLY | O_NOATIME);
    ssize_t n = pread(fd, &byte, 1, 0);

    return close_of(fd) || n != 1;
}
static int do_readdir(void)
{
    return px_count("d") < 0;
}
static int do_readlink(void)
{
    char text[8];

    return readlink("d/l", text, sizeof(text)) != 1;
}

/* Objects: d the directory, f the file in it, h its other name, l a link, e another directory. */
static const struct move {
    const char *text;
    int (*act)(void);
    struct {
        const char *path, *moves; /* "amc" or some of it; ? in front: atime may do either */
    } objects[3];
} moves[] = {
    {"creating a file", do_create, {{"d", "mc"}, {F, ""}}},
    {"opening with O_CREAT what is there", do_open, {{"d", ""}, {F, ""}}},
    {"O_EXCL on what is there", do_open_excl, {{"d", ""}, {F, ""}}},
    {"opening with O_TRUNC", do_open_trunc, {{"d", ""}, {F, "mc"}}},
    {"opening an empty file with O_TRUNC", do_open_trunc_empty, {{"d/empty", "mc"}}},
    {"mkdir", do_mkdir, {{"d", "mc"}, {"d/sub", ""}}},
    {"mkdir of what is there", do_mkdir_there, {{"d", ""}, {"d/sub", ""}}},
    {"symlink", do_symlink, {{"d", "mc"}}},
    {"mknod", do_mknod, {{"d", "mc"}}},
    {"link", do_link, {{"e", "mc"}, {"d", ""}, {F, "c"}}},
    {"unlink", do_unlink, {{"d", "mc"}, {"e/h", "c"}}},
    {"rmdir", do_rmdir, {{"d", "mc"}, {F, ""}}},
    {"rmdir of a full directory", do_rmdir_full, {{"d", ""}, {".", ""}}},
    {"write", do_write, {{"d", ""}, {F, "mc"}}},
    {"writing nothing", do_write_nothing, {{F, ""}}},
    {"writing behind the end", do_write_behind, {{F, "mc"}}},
    {"writing what is there", do_write_same, {{F, "mc"}}},
    {"appending", do_append, {{F, "mc"}}},
    {"writing with O_DIRECT", do_write_direct, {{F, "mc"}}},
    {"truncate to less", do_truncate_less, {{F, "mc"}}},
    {"truncate to more", do_truncate_more, {{F, "mc"}}},
    {"ftruncate", do_ftruncate, {{F, "mc"}}},
    {"fallocate behind the end", do_fallocate, {{F, "mc"}}},
    {"punching a hole", do_punch, {{F, "mc"}}},
    {"copy_file_range", do_copy, {{F, "mc"}, {"e/g", "?"}}},
    {"writing a mapping, and msync", do_mmap, {{F, "?mc"}}},
    {"chmod", do_chmod, {{"d", ""}, {F, "c"}}},
    {"chmod of a directory", do_chmod_dir, {{"d", "c"}, {F, ""}}},
    {"chown", do_chown, {{"d", ""}, {F, "c"}}},
    {"lchown", do_lchown, {{"d/l", "c"}, {F, ""}}},
    {"setxattr", do_setxattr, {{"d", ""}, {F, "c"}}},
    {"setxattr of a directory", do_setxattr_dir, {{"d", "c"}, {F, ""}}},
    {"setxattr that fails", do_setxattr_fails, {{F, ""}}},
    {"removexattr", do_removexattr, {{F, "c"}}},
    {"getxattr and listxattr", do_getxattr, {{F, ""}}},
    {"access", do_stat, {{"d", ""}, {F, ""}, {"d/sub", ""}}},
    {"fsync", do_fsync, {{F, ""}}},
    {"reading with O_NOATIME", do_read_noatime, {{F, ""}}},
};

/* relatime at least: an atime that is not newer than mtime moves when the object is read. */
static const struct move reads[] = {
    {"read", do_read, {{F, "a"}, {"d", ""}}},
    {"readdir", do_readdir, {{"d", "a"}, {F, ""}}},
    {"readlink", do_readlink, {{"d/l", "a"}, {"d", ""}}},
};

static void make_tree(void)
{
    NEED(mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0 && mkdir("e", 0755) == 0);
    NEED(px_write_file(F, "0123456789", 10) == 0 && px_write_file("e/g", "abcdef", 6) == 0);
    NEED(setxattr(F, "user.there", "y", 1, 0) == 0 && link(F, "e/h") == 0);
    NEED(px_write_file("d/empty", "", 0) == 0 && symlink("f", "d/l") == 0);
    sync();
}

static void remove_tree(void)
{
    static const char *const names[] = {"d/f", "d/new", "d/l", "d/empty", "d/sub",
                                        "e/g", "e/new", "e/h", "d",       "e"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)remove(names[i]);
    }
}

static void try_move(const struct move *move)
{
    struct stat before[3], after;

    make_tree();
    for (int i = 0; i < 3 && move->objects[i].path; i++) {
        before[i] = px_stat(move->objects[i].path);
    }
    px_tick();
    OK(move->act() ? -1 : 0, "%s", move->text);
    for (int i = 0; i < 3 && move->objects[i].path; i++) {
        const char *path = move->objects[i].path, *which = move->objects[i].moves;
        bool a = strchr(which, 'a'), m = strchr(which, 'm'), c = strchr(which, 'c');

        if (!px_exists(path)) {
            continue;
        }
        after = px_stat(path);
        if (which[0] != '?') {
            CLAIM(a ? px_later(after.st_atim, before[i].st_atim)
                    : px_same(after.st_atim, before[i].st_atim),
                  "%s: atime of %s %s", move->text, path, a ? "moves on" : "stays");
        }
        CLAIM(m ? px_later(after.st_mtim, before[i].st_mtim)
                : px_same(after.st_mtim, before[i].st_mtim),
              "%s: mtime of %s %s", move->text, path, m ? "moves on" : "stays");
        CLAIM(c ? px_later(after.st_ctim, before[i].st_ctim)
                : px_same(after.st_ctim, before[i].st_ctim),
              "%s: ctime of %s %s", move->text, path, c ? "moves on" : "stays");
    }
    remove_tree();
}

static void moved_by(void)
{
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        try_move(&moves[i]);
    }
}

static void moved_by_reading(void)
{
    if (px_impossible("atime")) {
        return;
    }
    for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
        try_move(&reads[i]);
    }
}

static void of_new(void)
{
    struct timespec before, after;

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat st, parent;

        NEED(mkdir("d", 0755) == 0);
        px_tick();
        (void)clock_gettime(CLOCK_REALTIME, &before);
        px_tick(); /* the kernel's coarse clock is behind by up to a tick */
        NEED(px_make((enum px_type)i, "d/x", 0644) == 0);
        (void)clock_gettime(CLOCK_REALTIME, &after);
        st = px_stat("d/x");
        parent = px_stat("d");
        CLAIM(!px_later(before, st.st_mtim) && !px_later(st.st_mtim, after), "%s: mtime is now",
              name);
        CLAIM(px_same(st.st_mtim, st.st_ctim), "%s: ctime is mtime", name);
        CLAIM(px_same(st.st_mtim, st.st_atim), "%s: atime is mtime", name);
        CLAIM(!px_later(st.st_mtim, parent.st_mtim), "%s: the directory's mtime is no older", name);
        NEED(remove("d/x") == 0 && rmdir("d") == 0);
    }
}

/* What is written and not flushed yet has its time; flushing does not make it later. */
static void of_unflushed(void)
{
    struct stat st, first, other;
    int fd = open("f", O_CREAT | O_RDWR, 0644);

    NEED(fd >= 0 && fstat(fd, &st) == 0);
    px_tick();
    NEED(write(fd, "abc", 3) == 3 && fstat(fd, &first) == 0);
    CLAIM(px_later(first.st_mtim, st.st_mtim), "fstat after a write sees its mtime");
    other = px_stat("f");
    CLAIM(px_same(first.st_mtim, other.st_mtim), "stat by name sees the same");
    px_tick();
    NEED(fsync(fd) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_same(st.st_mtim, first.st_mtim), "fsync does not move mtime");
    CLAIM(px_same(st.st_ctim, first.st_ctim), "fsync does not move ctime");
    NEED(write(fd, "def", 3) == 3 && fstat(fd, &first) == 0);
    CLAIM(px_later(first.st_mtim, st.st_mtim), "the next write moves mtime");
    px_tick();
    NEED(close(fd) == 0);
    CLAIM(px_same(px_stat("f").st_mtim, first.st_mtim), "close does not move mtime");
    CLAIM(px_same(px_stat("f").st_ctim, first.st_ctim), "close does not move ctime");
}

static bool write_pieces(int fd, size_t len, size_t step)
{
    static const char piece[1u << 16] = "x";

    for (size_t at = 0; at < len; at += step) {
        if (pwrite(fd, piece, len < sizeof(piece) ? len : sizeof(piece), (off_t)at) < 0) {
            return false;
        }
    }
    return true;
}

static int end_by_fsync(int fd)
{
    return fsync(fd) ? -1 : close(fd);
}
static int end_by_fdatasync(int fd)
{
    return fdatasync(fd) ? -1 : close(fd);
}
static int end_by_rename(int fd)
{
    return rename("f", "g") || rename("g", "f") ? -1 : close(fd);
}

/* What a program was told of a file stays, whatever is written to the disk after that. */
static void of_told(void)
{
    static const struct {
        const char *name;
        size_t len, step;
    } sizes[] = {{"a few bytes", 10, 10}, {"some", 100000, 1u << 16}, {"many", 9u << 20, 300000}};
    static const struct {
        const char *name;
        int (*end)(int fd);
    } ends[] = {{"close", close}, {"fsync", end_by_fsync}, {"fdatasync", end_by_fdatasync}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
            struct stat told, st, named;
            int fd = open("f", O_CREAT | O_TRUNC | O_RDWR, 0644);

            NEED(fd >= 0 && write_pieces(fd, sizes[i].len, sizes[i].step));
            NEED(fstat(fd, &told) == 0);
            px_tick();
            named = px_stat("f");
            NEED(ends[k].end(fd) == 0);
            st = px_stat("f");
            CLAIM(px_same(named.st_ctim, told.st_ctim) && px_same(st.st_ctim, told.st_ctim),
                  "%s after %s bytes: ctime is what was told", ends[k].name, sizes[i].name);
            CLAIM(px_same(st.st_mtim, told.st_mtim), "... and mtime");
        }
    }
}

static void of_told_and_changed(void)
{
    struct stat told, st;
    int fd = open("f", O_CREAT | O_RDWR, 0644);

    NEED(fd >= 0 && write(fd, "abc", 3) == 3 && fstat(fd, &told) == 0);
    px_tick();
    NEED(fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_later(st.st_ctim, told.st_ctim), "chmod after a write moves ctime");
    told = st;
    px_tick();
    NEED(fsync(fd) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_same(st.st_ctim, told.st_ctim), "fsync after both does not");
    NEED(write(fd, "abc", 3) == 3 && fstat(fd, &told) == 0);
    px_tick();
    NEED(write(fd, "def", 3) == 3 && fsync(fd) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_later(st.st_ctim, told.st_ctim), "a write after a look moves ctime");
    NEED(write(fd, "abc", 3) == 3 && fstat(fd, &told) == 0);
    px_tick();
    NEED(end_by_rename(fd) == 0);
    st = px_stat("f");
    CLAIM(!px_later(told.st_ctim, st.st_ctim), "a rename does not take it back");
    CLAIM(px_same(st.st_mtim, told.st_mtim), "... and leaves mtime alone");
}

static void seen_elsewhere(void)
{
    struct stat here, there;
    int fd = open("f", O_CREAT | O_RDWR, 0644);

    NEED(fd >= 0 && px_exists(px_other("f")) && mkdir("d", 0755) == 0);
    here = px_stat(px_other("f"));
    px_tick();
    NEED(write(fd, "abc", 3) == 3 && fsync(fd) == 0 && fstat(fd, &here) == 0);
    there = px_stat(px_other("f"));
    CLAIM(px_same(here.st_mtim, there.st_mtim), "mtime of what is written and synced here");
    CLAIM(px_same(here.st_ctim, there.st_ctim), "its ctime");
    there = here;
    px_tick();
    NEED(write(fd, "def", 3) == 3 && fstat(fd, &here) == 0 && fsync(fd) == 0);
    CLAIM(px_later(here.st_ctim, there.st_ctim), "its ctime moves when it is written again");
    CLAIM(px_same(here.st_ctim, px_stat(px_other("f")).st_ctim),
          "what was told here before it was synced is told there after");
    px_tick();
    NEED(write(fd, "ghi", 3) == 3 && fstat(fd, &here) == 0);
    px_tick();
    NEED(chmod(px_other("f"), 0600) == 0);
    there = px_stat(px_other("f"));
    NEED(fsync(fd) == 0 && fstat(fd, &here) == 0);
    CLAIM(!px_later(there.st_ctim, here.st_ctim), "a change there in between is not taken back");
    px_tick();
    NEED(px_write_file(px_other("f"), "other", 5) == 0);
    there = px_stat(px_other("f"));
    CLAIM(px_later(there.st_mtim, here.st_mtim), "mtime moves on when it is written there");
    NEED(fstat(fd, &here) == 0);
    CLAIM(px_same(here.st_mtim, there.st_mtim), "which is seen through a descriptor here");
    here = px_stat("d");
    px_tick();
    NEED(px_make(PX_FIFO, px_other("d/x"), 0644) == 0);
    there = px_stat("d");
    CLAIM(px_later(there.st_mtim, here.st_mtim), "a directory's mtime when a name is made there");
    px_tick();
    NEED(unlink("d/x") == 0);
    CLAIM(px_later(px_stat(px_other("d")).st_mtim, there.st_mtim),
          "a directory's mtime there when a name is removed here");
    NEED(close(fd) == 0);
}

const struct px_group px_times[] = {
    {"moved-by", moved_by, 0},
    {"moved-by-reading", moved_by_reading, 0},
    {"of-new", of_new, 0},
    {"of-unflushed", of_unflushed, 0},
    {"of-told", of_told, 0},
    {"of-told-and-changed", of_told_and_changed, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
