/* SPDX-License-Identifier: Apache-2.0 */
/* unlink(), unlinkat(), remove(): POSIX.1-2024 unlink, remove; unlink(2), remove(3). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "tests/posix/posix.h"

static int remove_directory_at(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

static int unlink_at(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

/* Types */

static void types(void)
{
    static const struct {
        const char *name;
        int (*call)(const char *path);
        int directory, others; /* errors */
    } calls[] = {
        {"unlink", unlink, EISDIR, 0},
        {"unlinkat", unlink_at, EISDIR, 0},
        {"AT_REMOVEDIR", remove_directory_at, 0, ENOTDIR},
        {"remove", remove, 0, 0},
    };

    for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++) {
        for (int i = 0; i < px_type_count(); i++) {
            const char *name = px_type_name((enum px_type)i);
            int want = i == PX_DIR ? calls[c].directory : calls[c].others;

            NEED(px_make((enum px_type)i, "x", 0755) == 0);
            EQUAL(calls[c].call("x") ? errno : 0, want, "%s of a %s", calls[c].name, name);
            EQUAL(px_exists("x"), want != 0, "%s of a %s: the name goes if it succeeds",
                  calls[c].name, name);
            EQUAL(px_count("."), want != 0, "%s of a %s: what is listed is what is there",
                  calls[c].name, name);
            NEED(want == 0 || remove("x") == 0);
            FAILS(calls[c].call("x"), ENOENT, "%s of a %s that is gone", calls[c].name, name);
        }
    }
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    FAILS(remove("d"), ENOTEMPTY, "remove of a directory that is not empty");
    FAILS(unlink("d"), EISDIR, "unlink of a directory that is not empty");
    FAILS(remove_directory_at("d"), ENOTEMPTY, "AT_REMOVEDIR: a directory that is not empty");
}

static void paths(void)
{
    int d, f;

    px_bad_paths("unlink", unlink);
    px_bad_paths("AT_REMOVEDIR", remove_directory_at);
    px_bad_paths("remove", remove);
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("f", "l") == 0 && symlink("d", "to-d") == 0);
    FAILS(unlink("f/"), ENOTDIR, "a file and a slash");
    FAILS(unlink("none/"), ENOENT, "what is not there, and a slash");
    FAILS(unlink("to-d/"), ENOTDIR, "a link to a directory and a slash");
    FAILS(unlink("d/"), EISDIR, "a directory and a slash");
    FAILS(unlink("."), EISDIR, "unlink of .");
    FAILS(unlink("d/.."), EISDIR, "unlink of ..");
    FAILS(remove_directory_at("."), EINVAL, "AT_REMOVEDIR: .");
    FAILS(remove_directory_at("d/.."), ENOTEMPTY, "AT_REMOVEDIR: ..");
    FAILS(remove_directory_at("to-d"), ENOTDIR, "AT_REMOVEDIR: a link to a directory");
    FAILS(unlinkat(AT_FDCWD, "f", 0x10), EINVAL, "an unknown flag");
    OK(unlink("l"), "a link itself is taken away");
    CLAIM(px_exists("f"), "not what it leads to");
    OK(unlink("to-d/f"), "links in the way are followed");
    CLAIM(!px_exists("d/f"), "to what is taken away");
    d = open("d", O_PATH);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0 && px_make(PX_REG, "d/f", 0644) == 0 && mkdir("d/d", 0755) == 0);
    OK(unlinkat(d, "f", 0), "unlinkat in an open directory");
    OK(unlinkat(d, "d", AT_REMOVEDIR), "AT_REMOVEDIR in an open directory");
    EQUAL(px_count("d"), 0, "which is empty then");
    FAILS(unlinkat(-1, "f", 0), EBADF, "unlinkat in a directory that is not open");
    FAILS(unlinkat(f, "f", 0), ENOTDIR, "unlinkat in a file");
    NEED(rmdir("d") == 0);
    FAILS(unlinkat(d, "f", 0), ENOENT, "unlinkat in a removed directory");
    NEED(px_make(PX_REG, px_long_name('n', PX_NAME_MAX), 0644) == 0);
    OK(unlink(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
    NEED(close(d) == 0 && close(f) == 0);
}

static void one_of_two_names(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat before, after;

        if (i == PX_DIR) {
            continue;
        }
        NEED(px_make((enum px_type)i, "a", 0644) == 0 && link("a", "b") == 0);
        before = px_stat("a");
        px_tick();
        OK(unlink("b"), "one of two names of a %s", name);
        after = px_stat("a");
        EQUAL(after.st_nlink, 1, "%s has one link less", name);
        EQUAL(after.st_ino, before.st_ino, "%s is the same by its other name", name);
        CLAIM(px_later(after.st_ctim, before.st_ctim), "%s: ctime moves on", name);
        CLAIM(!px_later(after.st_mtim, before.st_mtim), "%s: mtime stays", name);
        NEED(unlink("a") == 0);
    }
}

static void times(void)
{
    struct stat d, f;
    int fd;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    fd = open("d/f", O_RDONLY);
    d = px_stat("d");
    f = px_stat("d/f");
    NEED(fd >= 0);
    px_tick();
    NEED(unlink("d/f") == 0);
    CLAIM(px_later(px_stat("d").st_mtim, d.st_mtim), "the directory's mtime moves on");
    CLAIM(px_later(px_stat("d").st_ctim, d.st_ctim), "the directory's ctime moves on");
    NEED(fstat(fd, &d) == 0);
    CLAIM(px_later(d.st_ctim, f.st_ctim), "the ctime of the file that is open moves on");
    d = px_stat("d");
    px_tick();
    NEED(unlink("d/f") == -1);
    CLAIM(!px_later(px_stat("d").st_mtim, d.st_mtim), "an unlink that fails changes no time");
    NEED(close(fd) == 0);
}

/* Files without a name */

static void while_open(void)
{
    char text[16] = "";
    struct stat st;
    int fd;

    NEED(px_write_file("f", "text", 4) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    OK(unlink("f"), "a file is unlinked while it is open");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_nlink, 0, "it has no links");
    EQUAL(st.st_size, 4, "but its size");
    EQUAL(pread(fd, text, sizeof(text), 0), 4, "it is read");
    CLAIM(memcmp(text, "text", 4) == 0, "and has its bytes");
    EQUAL(pwrite(fd, "more", 4, 4), 4, "it is written");
    OK(fsync(fd), "and synced");
    EQUAL(pread(fd, text, sizeof(text), 0), 8, "and has what was written to it");
    CLAIM(memcmp(text, "textmore", 8) == 0, "byte by byte");
    OK(ftruncate(fd, 2), "it is cut");
    EQUAL(pread(fd, text, sizeof(text), 0), 2, "and has what is left");
    OK(ftruncate(fd, 100000), "and made longer");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_size, 100000, "its size is the longer one");
    OK(fchmod(fd, 0600), "its mode changes");
    OK(fchown(fd, geteuid(), getegid()), "its owner is set");
    OK(futimens(fd, (struct timespec[2]){{.tv_sec = 7}, {.tv_sec = 8}}), "its times are set");
    NEED(fstat(fd, &st) == 0);
    CLAIM((st.st_mode & 07777) == 0600 && st.st_mtim.tv_sec == 8, "and have what was set");
    OK(fsetxattr(fd, "user.x", "v", 1, 0), "an attribute is set");
    EQUAL(fgetxattr(fd, "user.x", text, sizeof(text)), 1, "and read");
    CLAIM(!px_exists("f"), "all of which gives it no name");
    OK(close(fd), "it is closed");
}

static void replaced_while_open(void)
{
    char text[8] = "", path[64];
    struct stat st;
    int old, new, again;

    NEED(px_write_file("f", "old", 3) == 0);
    old = open("f", O_RDWR);
    NEED(old >= 0 && unlink("f") == 0);
    OK(new = open("f", O_CREAT | O_EXCL | O_RDWR, 0644), "the name is free for another file");
    NEED(fstat(old, &st) == 0);
    CLAIM(st.st_ino != px_ino("f"), "which has another inode number");
    EQUAL(write(new, "new!", 4), 4, "the new one is written");
    EQUAL(pread(old, text, sizeof(text), 0), 3, "the old one has its size");
    CLAIM(memcmp(text, "old", 3) == 0, "and its bytes");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", old);
    OK(again = open(path, O_RDONLY), "the old one is opened once more by its descriptor");
    NEED(close(old) == 0);
    EQUAL(pread(again, text, sizeof(text), 0), 3, "and read when the first has been closed");
    CLAIM(memcmp(text, "old", 3) == 0, "with the same bytes");
    NEED(close(again) == 0 && close(new) == 0);
    EQUAL(px_stat("f").st_size, 4, "the new one is there");
}

static int read_later(void *arg)
{
    char text[8] = "";

    return pread(*(int *)arg, text, sizeof(text), 0) == 4 && memcmp(text, "text", 4) == 0;
}

static void held_otherwise(void)
{
    int fd, copy;
    char *map;

    NEED(px_write_file("f", "text", 4) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    copy = dup(fd);
    NEED(map != MAP_FAILED && copy >= 0 && unlink("f") == 0 && close(fd) == 0);
    EQUAL(px_child(read_later, &copy), 1, "a child reads the unlinked file it has inherited");
    NEED(close(copy) == 0);
    CLAIM(memcmp(map, "text", 4) == 0, "a mapping holds the file when no descriptor does");
    map[0] = 'T';
    OK(msync(map, 4096, MS_SYNC), "it is written through the mapping");
    CLAIM(memcmp(map, "Text", 4) == 0, "and has what was written");
    NEED(munmap(map, 4096) == 0);
}

#define HELD 50

/* Many at once: each has its own bytes. */
static void many_open(void)
{
    int fds[HELD], good = 0;
    char name[16], bytes[20000];

    for (int i = 0; i < HELD; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        memset(bytes, 'a' + i % 26, sizeof(bytes));
        fds[i] = open(name, O_CREAT | O_RDWR, 0600);
        NEED(fds[i] >= 0 && write(fds[i], bytes, sizeof(bytes)) == sizeof(bytes));
        NEED(unlink(name) == 0);
    }
    EQUAL(px_count("."), 0, "none of the open files has a name");
    OK(fsync(fds[0]), "one is synced");
    for (int i = 0; i < HELD; i++) {
        bool same = pread(fds[i], bytes, sizeof(bytes), 0) == sizeof(bytes);

        for (size_t j = 0; j < sizeof(bytes); j++) {
            same = same && bytes[j] == 'a' + i % 26;
        }
        good += same;
        NEED(close(fds[i]) == 0);
    }
    EQUAL(good, HELD, "each of many files without a name has its own bytes");
}

/* What is held without being open as a file: each has its attributes, and no link. */
static void types_while_held(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat before, st = {0};
        int fd;

        NEED(px_make((enum px_type)i, "x", 0750) == 0);
        before = px_stat("x");
        fd = open("x", O_PATH | O_NOFOLLOW);
        NEED(fd >= 0 && remove("x") == 0);
        EQUAL(fstat(fd, &st), 0, "fstat of a %s without a name", name);
        EQUAL(st.st_nlink, 0, "a %s without a name has no links", name);
        CLAIM(st.st_ino == before.st_ino && st.st_mode == before.st_mode,
              "a %s without a name is what it was", name);
        NEED(px_make((enum px_type)i, "x", 0750) == 0);
        EQUAL(fstat(fd, &st), 0, "fstat of a %s whose name another has", name);
        CLAIM(st.st_ino != px_ino("x"), "a %s whose name another has is not that", name);
        NEED(close(fd) == 0 && remove("x") == 0);
    }
}

static void fifo_while_open(void)
{
    struct stat st = {0};
    char byte;
    int fd;

    NEED(mkfifo("p", 0600) == 0);
    fd = open("p", O_RDWR);
    NEED(fd >= 0 && unlink("p") == 0);
    EQUAL(write(fd, "x", 1), 1, "a FIFO without a name is written");
    EQUAL(read(fd, &byte, 1), 1, "and the FIFO is read");
    EQUAL(fstat(fd, &st), 0, "fstat of a FIFO that is open and has no name");
    EQUAL(st.st_nlink, 0, "which has no links");
    NEED(close(fd) == 0);
}

/* Rights */

static int ready_file(const char *path)
{
    return px_make(PX_REG, path, 0);
}

static void rights(void)
{
    px_needs_write("unlink", ready_file, unlink);
}

/* A sticky directory: who owns the file, or the directory, or is root, may take the name away. */
static void sticky(void)
{
    for (unsigned row = 0; row < 4; row++) {
        unsigned dir = row / 2, file = row % 2;

        for (int i = 0; i < PX_TYPES; i++) {
            const char *name = px_type_name((enum px_type)i);
            const char *whose = file ? "another's" : "one's own", *in = dir ? "another's" : "own";

            NEED(mkdir("s", 0777) == 0 && px_make((enum px_type)i, "s/x", 0777) == 0);
            NEED(lchown("s/x", px_uid(file), px_uid(file)) == 0);
            NEED(chown("s", px_uid(dir), px_uid(0)) == 0 && chmod("s", 01777) == 0);
            px_become_user(0);
            EQUAL(remove("s/x") ? errno : 0, dir && file ? EPERM : 0,
                  "%s %s in a sticky directory: %s", whose, name, in);
            px_become_root();
            NEED(px_exists("s/x") == (dir && file));
            if (px_exists("s/x")) {
                OK(remove("s/x"), "root in a sticky directory: %s", name);
            }
            NEED(rmdir("s") == 0);
        }
    }
}

/* Two mounts */

static void open_elsewhere(void)
{
    char text[16] = "";
    struct stat st;
    int fd, there;

    NEED(px_write_file("f", "text", 4) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    OK(unlink(px_other("f")), "the other mount unlinks what is open here");
    CLAIM(!px_exists("f"), "the name is gone here");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_nlink, 0, "it has no links where it is open");
    EQUAL(pread(fd, text, sizeof(text), 0), 4, "it is read where it is open");
    CLAIM(memcmp(text, "text", 4) == 0, "and has the bytes that it had");
    EQUAL(pwrite(fd, "more", 4, 4), 4, "it is written where it is open");
    OK(fsync(fd), "what was written is synced where it is open");
    EQUAL(pread(fd, text, sizeof(text), 0), 8, "what was written is read where it is open");
    NEED(px_write_file(px_other("f"), "other", 5) == 0);
    EQUAL(pread(fd, text, sizeof(text), 0), 8, "a new file of the name is not what is open");
    there = open(px_other("f"), O_RDONLY);
    NEED(there >= 0 && unlink("f") == 0);
    EQUAL(pread(there, text, sizeof(text), 0), 5, "what was unlinked here is read there");
    CLAIM(memcmp(text, "other", 5) == 0, "with its own bytes");
    NEED(close(fd) == 0 && close(there) == 0);
    NEED(px_write_file("g", "both", 4) == 0);
    fd = open("g", O_RDONLY);
    there = open(px_other("g"), O_RDONLY);
    NEED(fd >= 0 && there >= 0 && unlink("g") == 0 && close(fd) == 0);
    EQUAL(pread(there, text, sizeof(text), 0), 4, "open on both, closed on one: read on the other");
    NEED(close(there) == 0);
}

#define RACES 60

static int race(void *arg)
{
    int won = 0;

    (void)arg;
    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        won += unlink(px_other(name)) == 0;
    }
    return won;
}

static void one_wins(void)
{
    int won = 0, status = 0;
    char name[16];
    pid_t pid;

    for (int i = 0; i < RACES; i++) {
        (void)snprintf(name, sizeof(name), "r%d", i);
        NEED(px_make(PX_REG, name, 0644) == 0);
    }
    pid = fork();
    if (pid == 0) {
        _exit(race(NULL));
    }
    for (int i = 0; i < RACES; i++) {
        (void)snprintf(name, sizeof(name), "r%d", i);
        won += unlink(name) == 0;
    }
    NEED(pid > 0 && wait(&status) == pid && WIFEXITED(status));
    EQUAL(won + WEXITSTATUS(status), RACES, "one name unlinked from two mounts: one does it");
    EQUAL(px_count("."), 0, "and none is left");
}

const struct px_group px_unlink[] = {
    {"types", types, 0},
    {"paths", paths, 0},
    {"one-of-two-names", one_of_two_names, 0},
    {"times", times, 0},
    {"while-open", while_open, 0},
    {"replaced-while-open", replaced_while_open, 0},
    {"held-otherwise", held_otherwise, 0},
    {"many-open", many_open, 0},
    {"types-while-held", types_while_held, 0},
    {"fifo-while-open", fifo_while_open, 0},
    {"rights", rights, PX_ROOT},
    {"sticky", sticky, PX_ROOT},
    {"open-elsewhere", open_elsewhere, PX_TWO},
    {"one-wins", one_wins, PX_TWO},
    {NULL, NULL, 0},
};
