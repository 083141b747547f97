/* SPDX-License-Identifier: Apache-2.0 */
/* link(), linkat(): POSIX.1-2024 link; link(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

static int link_to_new(const char *path)
{
    return link("mine", path);
}

static int link_from(const char *path)
{
    return link(path, "new");
}

/* Types */

static void types(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        const char *name = px_type_name(type);
        struct stat before, after;

        NEED(px_make(type, "a", 0640) == 0);
        before = px_stat("a");
        px_tick();
        if (type == PX_DIR) {
            FAILS(link("a", "b"), EPERM, "%s gets no second name", name);
            CLAIM(!px_exists("b"), "%s that was refused a name has none", name);
            NEED(rmdir("a") == 0);
            continue;
        }
        OK(link("a", "b"), "%s gets a second name", name);
        after = px_stat("b");
        EQUAL(after.st_ino, before.st_ino, "%s: both names lead to one inode", name);
        EQUAL(after.st_nlink, 2, "%s: and it has two links", name);
        EQUAL(px_stat("a").st_nlink, 2, "%s: by its first name, too", name);
        CLAIM(after.st_mode == before.st_mode && after.st_rdev == before.st_rdev &&
                  after.st_size == before.st_size && after.st_uid == before.st_uid,
              "%s: everything else is as before", name);
        CLAIM(px_later(after.st_ctim, before.st_ctim), "%s: ctime moves on", name);
        CLAIM(!px_later(after.st_mtim, before.st_mtim), "%s: mtime stays", name);
        FAILS(link("a", "b"), EEXIST, "%s: a name that it has already", name);
        FAILS(link("a", "a"), EEXIST, "%s: onto itself", name);
        NEED(unlink("a") == 0);
        EQUAL(px_stat("b").st_nlink, 1, "%s: the second name is left", name);
        EQUAL(px_ino("b"), before.st_ino, "%s: and leads to it still", name);
        NEED(unlink("b") == 0);
    }
}

static void taken_names(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        ino_t ino;

        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        ino = px_ino("x");
        FAILS(link("f", "x"), EEXIST, "the name is that of a %s", name);
        EQUAL(px_ino("x"), ino, "the %s keeps it", name);
        EQUAL(px_stat("f").st_nlink, 1, "a link refused because of a %s is not counted", name);
        NEED(remove("x") == 0);
    }
}

/* What is done by one name is seen by the other. */
static void one_file(void)
{
    struct stat a, b;
    char *bytes;
    int fd;

    NEED(mkdir("d", 0755) == 0 && px_write_file("a", "text", 4) == 0 && link("a", "d/b") == 0);
    fd = open("d/b", O_WRONLY | O_APPEND);
    NEED(fd >= 0 && write(fd, "more", 4) == 4 && close(fd) == 0);
    bytes = px_read_file("a", NULL);
    CLAIM(bytes && strcmp(bytes, "textmore") == 0,
          "what is written by one name is read by another");
    free(bytes);
    NEED(chmod("a", 0604) == 0);
    EQUAL(px_stat("d/b").st_mode & 07777, 0604, "both names have one mode");
    NEED(truncate("d/b", 3) == 0);
    EQUAL(px_stat("a").st_size, 3, "both names have one size");
    NEED(utimensat(AT_FDCWD, "a", (struct timespec[2]){{.tv_sec = 5}, {.tv_sec = 6}}, 0) == 0);
    a = px_stat("a");
    b = px_stat("d/b");
    CLAIM(b.st_mtim.tv_sec == 6 && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec,
          "both names have the same times");
    NEED(unlink("a") == 0);
    bytes = px_read_file("d/b", NULL);
    CLAIM(bytes && strcmp(bytes, "tex") == 0, "it is read when its first name is gone");
    free(bytes);
    OK(link("d/b", "a"), "it gets its first name again");
    EQUAL(px_stat("a").st_nlink, 2, "and has two links again");
}

#define MANY 500

static void many(void)
{
    char name[32];
    int made = 0, gone = 0;
    ino_t ino;

    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    ino = px_ino("f");
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "d/%d", i);
        made += link("f", name) == 0;
    }
    EQUAL(made, MANY, "one file gets many names in one directory");
    EQUAL(px_stat("f").st_nlink, MANY + 1, "each is counted");
    EQUAL(px_count("d"), MANY, "and listed");
    EQUAL(px_ino("d/499"), ino, "the last leads to it");
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "d/%d", i);
        gone += unlink(name) == 0;
    }
    EQUAL(gone, MANY, "all of them are taken away");
    EQUAL(px_stat("f").st_nlink, 1, "and the first is left");
}

/* Paths */

static void paths(void)
{
    NEED(px_make(PX_REG, "mine", 0644) == 0 && mkdir("d", 0755) == 0);
    px_bad_paths("the old path", link_from);
    px_bad_paths("the new path", link_to_new);
    FAILS(link("none", "new"), ENOENT, "the old name does not exist");
    FAILS(link("none", "d"), ENOENT, "the old name does not exist, the new one does");
    FAILS(link("mine/", "new"), ENOTDIR, "the old name has a slash behind it");
    FAILS(link("mine", "new/"), ENOENT, "the new name has a slash behind it");
    FAILS(link("mine", "d/"), EEXIST, "the new name is a directory's, and a slash");
    FAILS(link("mine", "."), EEXIST, "the new name is .");
    FAILS(link("mine", "d/.."), EEXIST, "the new name is ..");
    FAILS(link(".", "new"), EPERM, "the old name is .");
    FAILS(link("mine", "/dev/px-new"), EXDEV, "the new name is on another file system");
    OK(link("mine", px_long_name('n', PX_NAME_MAX)), "the new name has 255 bytes");
    OK(link(px_long_name('n', PX_NAME_MAX), "new"), "the old name has 255 bytes");
    EQUAL(px_stat("mine").st_nlink, 3, "only what was made is counted");
}

static void links_to_links(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0 && symlink("f", "l") == 0);
    NEED(symlink("d", "to-d") == 0 && symlink("none", "dangling") == 0);
    NEED(symlink("loop", "loop") == 0);
    OK(link("l", "a"), "link does not follow a symbolic link");
    EQUAL(px_ino("a"), px_ino("l"), "but names the link itself");
    OK(linkat(AT_FDCWD, "l", AT_FDCWD, "b", AT_SYMLINK_FOLLOW), "AT_SYMLINK_FOLLOW follows");
    EQUAL(px_ino("b"), px_ino("f"), "and names what it leads to");
    OK(link("to-d", "c"), "a link to a directory gets a second name");
    FAILS(linkat(AT_FDCWD, "to-d", AT_FDCWD, "e", AT_SYMLINK_FOLLOW), EPERM,
          "AT_SYMLINK_FOLLOW: a link to a directory");
    OK(link("dangling", "g"), "a link to nowhere gets a second name");
    FAILS(linkat(AT_FDCWD, "dangling", AT_FDCWD, "h", AT_SYMLINK_FOLLOW), ENOENT,
          "AT_SYMLINK_FOLLOW: a link to nowhere");
    OK(link("loop", "i"), "a loop gets a second name");
    FAILS(linkat(AT_FDCWD, "loop", AT_FDCWD, "j", AT_SYMLINK_FOLLOW), ELOOP,
          "AT_SYMLINK_FOLLOW: a loop");
    FAILS(link("f", "dangling"), EEXIST, "the new name is a link to nowhere");
    CLAIM(!px_exists("none"), "which makes nothing");
    OK(link("to-d/../f", "to-d/k"), "links in the way are followed");
    CLAIM(px_exists("d/k"), "in both paths");
}

static void at_directories(void)
{
    char path[64];
    int d, e, f;

    NEED(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0 && px_write_file("d/f", "text", 4) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    e = open("e", O_PATH);
    f = open("d/f", O_RDWR);
    NEED(d >= 0 && e >= 0 && f >= 0);
    OK(linkat(d, "f", e, "g", 0), "from one open directory to another");
    EQUAL(px_ino("e/g"), px_ino("d/f"), "and there it is");
    FAILS(linkat(-1, "f", e, "x", 0), EBADF, "the old directory is not open");
    FAILS(linkat(d, "f", -1, "x", 0), EBADF, "the new directory is not open");
    FAILS(linkat(f, "f", e, "x", 0), ENOTDIR, "the old directory is a file");
    FAILS(linkat(d, "f", f, "x", 0), ENOTDIR, "the new directory is a file");
    FAILS(linkat(d, "f", e, "x", 0x10), EINVAL, "an unknown flag");
    FAILS(linkat(f, "", e, "x", 0), ENOENT, "an empty path without AT_EMPTY_PATH");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f);
    OK(linkat(AT_FDCWD, path, e, "h", AT_SYMLINK_FOLLOW), "an open file gets another name");
    EQUAL(px_stat("e/h").st_nlink, 3, "which is counted");
    NEED(rename("d/f", "e/f") == 0 && rmdir("d") == 0);
    FAILS(linkat(e, "f", d, "x", 0), ENOENT, "the new directory was removed");
    NEED(unlink("e/f") == 0 && unlink("e/g") == 0 && unlink("e/h") == 0);
    FAILS(linkat(AT_FDCWD, path, e, "h", AT_SYMLINK_FOLLOW), ENOENT,
          "an open file whose names are gone gets none again");
    EQUAL(px_count("e"), 0, "so that the directory is empty");
    NEED(close(d) == 0 && close(e) == 0 && close(f) == 0);
}

static void empty_path(void)
{
    int f, d;

    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    f = open("f", O_PATH);
    d = open("d", O_PATH);
    NEED(f >= 0 && d >= 0);
    OK(linkat(f, "", AT_FDCWD, "g", AT_EMPTY_PATH), "AT_EMPTY_PATH: what is open gets a name");
    EQUAL(px_ino("g"), px_ino("f"), "AT_EMPTY_PATH: which leads to it");
    FAILS(linkat(d, "", AT_FDCWD, "e", AT_EMPTY_PATH), EPERM, "AT_EMPTY_PATH: a directory");
    NEED(close(f) == 0 && close(d) == 0);
}

static void times(void)
{
    struct stat d, from;

    NEED(mkdir("d", 0755) == 0 && mkdir("from", 0755) == 0 && px_make(PX_REG, "from/f", 0644) == 0);
    d = px_stat("d");
    from = px_stat("from");
    px_tick();
    NEED(link("from/f", "d/g") == 0);
    CLAIM(px_later(px_stat("d").st_mtim, d.st_mtim), "the new name's directory: mtime moves on");
    CLAIM(px_later(px_stat("d").st_ctim, d.st_ctim), "the new name's directory: ctime moves on");
    CLAIM(!px_later(px_stat("from").st_ctim, from.st_ctim), "the old name's directory: it stays");
    EQUAL(px_stat("d").st_nlink, 2, "a file is no link of its directory");
    d = px_stat("d");
    from = px_stat("from/f");
    px_tick();
    NEED(link("from/f", "d/g") == -1);
    CLAIM(!px_later(px_stat("d").st_mtim, d.st_mtim), "a link that fails: the directory's stays");
    CLAIM(!px_later(px_stat("from/f").st_ctim, from.st_ctim),
          "a link that fails: the file's stays");
}

/* Rights */

static void rights(void)
{
    NEED(px_make(PX_REG, "mine", 0666) == 0 && chmod("mine", 0666) == 0);
    px_needs_write("link", NULL, link_to_new);
    NEED(mkdir("d", 0777) == 0 && chmod("d", 0777) == 0 && mkdir("from", 0755) == 0);
    NEED(px_make(PX_REG, "from/f", 0) == 0 && chmod("from/f", 0) == 0);
    NEED(chown("from/f", px_uid(0), px_uid(0)) == 0);
    px_become_user(0);
    OK(link("from/f", "d/f"), "one's own file of mode 0, in a directory that one may only search");
    px_become_root();
    NEED(chmod("from", 0766) == 0);
    px_become_user(0);
    FAILS(link("from/f", "d/g"), EACCES, "a file in a directory that one may not search");
    px_become_root();
}

/* proc(5), protected_hardlinks: no name for what one neither owns nor may read and write. */
static void of_others(void)
{
    static const struct {
        const char *what;
        enum px_type type;
        mode_t mode;
        bool may;
    } rows[] = {
        {"a file that one may read and write", PX_REG, 0666, true},
        {"a file that one may only read", PX_REG, 0644, false},
        {"a file that one may only write", PX_REG, 0622, false},
        {"a set-user-ID file", PX_REG, 04666, false},
        {"a set-group-ID program", PX_REG, 02676, false},
        {"a FIFO", PX_FIFO, 0666, false},
        {"a socket", PX_SOCK, 0666, false},
    };
    char *on = px_read_file("/proc/sys/fs/protected_hardlinks", NULL);
    bool is_protected = on && on[0] == '1';

    free(on);
    NEED(mkdir("d", 0777) == 0 && chmod("d", 0777) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        NEED(px_make(rows[i].type, "x", 0600) == 0 && chown("x", px_uid(1), px_uid(1)) == 0);
        NEED(chmod("x", rows[i].mode) == 0);
        px_become_user(0);
        EQUAL(link("x", "d/x") ? errno : 0, rows[i].may || !is_protected ? 0 : EPERM,
              "%s of another", rows[i].what);
        px_become_user(1);
        OK(link("x", "d/y"), "%s of one's own", rows[i].what);
        px_become_root();
        OK(link("x", "d/z"), "%s by root", rows[i].what);
        NEED(unlink("x") == 0 && unlink("d/y") == 0 && unlink("d/z") == 0);
        NEED(unlink("d/x") == 0 || errno == ENOENT);
    }
}

/* Two mounts */

static void seen_elsewhere(void)
{
    struct stat st;
    int fd;

    NEED(px_write_file("a", "text", 4) == 0 && mkdir("d", 0755) == 0);
    OK(link(px_other("a"), px_other("b")), "the other mount makes a link");
    EQUAL(px_stat("a").st_nlink, 2, "which is counted here");
    EQUAL(px_ino("b"), px_ino("a"), "and leads to the file");
    FAILS(link("a", "b"), EEXIST, "and its name is taken");
    fd = open("a", O_RDWR);
    NEED(fd >= 0 && unlink(px_other("a")) == 0);
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_nlink, 1, "a name taken away there is not counted where the file is open");
    OK(link("b", "a"), "and may be given again");
    NEED(pwrite(fd, "TEXT", 4, 0) == 4 && fsync(fd) == 0 && close(fd) == 0);
    NEED(unlink("b") == 0);
    EQUAL(px_stat(px_other("a")).st_nlink, 1, "what is left is the same there");
    NEED(unlink(px_other("a")) == 0);
    FAILS(link("a", "c"), ENOENT, "a file whose last name went there");
    NEED(px_make(PX_REG, "f", 0644) == 0 && rmdir(px_other("d")) == 0);
    FAILS(link("f", "d/f"), ENOENT, "into a directory that was removed there");
}

#define RACES 60

/* One name for two files: from two mounts at once, one gets it. */
static int race(void *arg)
{
    int won = 0;

    (void)arg;
    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        won += link(px_other("b"), px_other(name)) == 0;
    }
    return won;
}

static void one_wins(void)
{
    int here = 0, there, status = 0;
    pid_t pid;

    NEED(px_make(PX_REG, "a", 0644) == 0 && px_make(PX_REG, "b", 0644) == 0);
    pid = fork();
    if (pid == 0) {
        _exit(race(NULL));
    }
    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        here += link("a", name) == 0;
    }
    NEED(pid > 0 && wait(&status) == pid && WIFEXITED(status));
    there = WEXITSTATUS(status);
    EQUAL(here + there, RACES, "one name for two files from two mounts: one gets it");
    EQUAL(px_stat("a").st_nlink, 1 + here, "links of the one file are those that were made");
    EQUAL(px_stat("b").st_nlink, 1 + there, "links of the other file are those that were made");
}

const struct px_group px_link[] = {
    {"types", types, 0},
    {"taken-names", taken_names, 0},
    {"one-file", one_file, 0},
    {"many", many, 0},
    {"paths", paths, 0},
    {"links-to-links", links_to_links, 0},
    {"at-directories", at_directories, 0},
    {"empty-path", empty_path, PX_ROOT},
    {"times", times, 0},
    {"rights", rights, PX_ROOT},
    {"of-others", of_others, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"one-wins", one_wins, PX_TWO},
    {NULL, NULL, 0},
};
