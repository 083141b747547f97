/* SPDX-License-Identifier: Apache-2.0 */
/* rmdir(): POSIX.1-2024 rmdir; rmdir(2). */
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

static void removes(void)
{
    struct stat before, after;

    NEED(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
    before = px_stat("d");
    px_tick();
    OK(rmdir("d/e"), "an empty directory is removed");
    after = px_stat("d");
    CLAIM(!px_exists("d/e"), "its name is gone");
    EQUAL(px_count("d"), 0, "and no longer listed");
    EQUAL(after.st_nlink, 2, "its parent has a link less");
    CLAIM(px_later(after.st_mtim, before.st_mtim), "its parent's mtime moves on");
    CLAIM(px_later(after.st_ctim, before.st_ctim), "its parent's ctime moves on");
    FAILS(rmdir("d/e"), ENOENT, "once more");
    OK(mkdir("d/e", 0700), "the name is free");
    EQUAL(px_stat("d/e").st_mode & 07777, 0700, "for another directory");
    NEED(rmdir("d/e") == 0 && px_make(PX_REG, "d/e", 0644) == 0);
    OK(unlink("d/e"), "or for a file");
    OK(rmdir("d"), "a directory that was filled and emptied is removed");
    NEED(mkdir("none", 0755) == 0 && chmod("none", 0) == 0);
    OK(rmdir("none"), "a directory needs no rights of its own to be removed");
}

static void not_empty(void)
{
    struct stat before;

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(mkdir("d", 0755) == 0 && px_make((enum px_type)i, "d/x", 0755) == 0);
        before = px_stat("d");
        FAILS(rmdir("d"), ENOTEMPTY, "there is a %s in it", name);
        EQUAL(px_count("d"), 1, "the %s in it stays", name);
        EQUAL(px_stat("d").st_nlink, before.st_nlink, "its links stay, with a %s in it", name);
        NEED(remove("d/x") == 0);
        OK(rmdir("d"), "the %s in it is gone", name);
    }
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/.hidden", 0644) == 0);
    FAILS(rmdir("d"), ENOTEMPTY, "a name in it begins with a dot");
    NEED(rename("d/.hidden", "d/...") == 0);
    FAILS(rmdir("d"), ENOTEMPTY, "a name in it has three dots");
    NEED(rename("d/...", "out") == 0);
    OK(rmdir("d"), "what was in it was moved out");
    CLAIM(px_exists("out"), "and is where it went");
}

static void names(void)
{
    px_bad_paths("rmdir", rmdir);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        if (i == PX_DIR) {
            continue;
        }
        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        FAILS(rmdir("x"), ENOTDIR, "rmdir of a %s", name);
        CLAIM(px_exists("x"), "the %s stays", name);
        NEED(remove("x") == 0);
    }
    NEED(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && symlink("d", "to-d") == 0);
    NEED(symlink("nowhere", "dangling") == 0);
    FAILS(rmdir("."), EINVAL, "the name .");
    FAILS(rmdir("d/e/."), EINVAL, "a directory's .");
    FAILS(rmdir(".."), ENOTEMPTY, "the name ..");
    FAILS(rmdir("d/e/.."), ENOTEMPTY, "a directory's ..");
    FAILS(rmdir("/"), EBUSY, "the root");
    FAILS(rmdir("to-d"), ENOTDIR, "a link to a directory");
    FAILS(rmdir("to-d/"), ENOTDIR, "a link to a directory and a slash");
    FAILS(rmdir("dangling/"), ENOTDIR, "a link to nowhere and a slash");
    OK(rmdir("to-d/e"), "a link in the way is followed");
    OK(rmdir("d//"), "a directory's name and slashes");
    CLAIM(px_exists("to-d") && !px_exists("d"), "the directory is gone, the link to it is not");
    NEED(mkdir(px_long_name('n', PX_NAME_MAX), 0755) == 0);
    OK(rmdir(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
}

/* A directory that is open, or worked in, and gone. */

static void while_open(void)
{
    struct stat st = {0}, up;
    char path[64];
    int d, f;

    NEED(mkdir("d", 0755) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    NEED(d >= 0);
    OK(rmdir("d"), "a directory is removed while it is open");
    EQUAL(fstat(d, &st), 0, "fstat of it");
    EQUAL(st.st_nlink, 0, "it has no links");
    FAILS(openat(d, "x", O_CREAT | O_WRONLY, 0644), ENOENT, "no file is made in it");
    FAILS(mkdirat(d, "x", 0755), ENOENT, "no directory is made in it");
    FAILS(symlinkat("t", d, "x"), ENOENT, "no link is made in it");
    FAILS(mknodat(d, "x", S_IFIFO | 0644, 0), ENOENT, "no FIFO is made in it");
    FAILS(openat(d, "x", O_RDONLY), ENOENT, "nothing is found in it");
    NEED(px_make(PX_REG, "f", 0644) == 0);
    FAILS(linkat(AT_FDCWD, "f", d, "x", 0), ENOENT, "nothing is linked into it");
    FAILS(renameat(AT_FDCWD, "f", d, "x"), ENOENT, "nothing is moved into it");
    NEED(mkdir("d", 0755) == 0);
    EQUAL(px_count("d"), 0, "another of its name is empty");
    CLAIM(px_ino("d") != st.st_ino, "and another inode");
    f = openat(d, ".", O_RDONLY);
    CLAIM(f >= 0, "its own . is opened");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", d);
    EQUAL(stat(path, &up), 0, "it is looked at by its descriptor");
    EQUAL(up.st_ino, st.st_ino, "and is itself");
    OK(fchmod(d, 0700), "its mode changes");
    NEED(close(d) == 0 && (f < 0 || close(f) == 0));
}

static void while_worked_in(void)
{
    ino_t top = px_ino(".");
    char path[4096];
    struct stat st;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    OK(rmdir("../d"), "the working directory is removed");
    FAILS(getcwd(path, sizeof(path)) ? 0 : -1, ENOENT, "it has no path");
    FAILS(px_make(PX_REG, "f", 0644), ENOENT, "no file is made there");
    FAILS(rmdir("."), EINVAL, "it is not removed again by .");
    EQUAL(stat(".", &st), 0, "stat of .");
    EQUAL(px_count("."), 0, "it lists no names");
    OK(chdir(".."), "one leaves it by ..");
    EQUAL(px_ino("."), top, "and is in its parent");
}

/* Rights */

static int ready(const char *path)
{
    return mkdir(path, 0);
}

static void rights(void)
{
    px_needs_write("rmdir", ready, rmdir);
    NEED(mkdir("d", 0755) == 0 && mkdir("d/full", 0755) == 0 && mkdir("d/full/x", 0755) == 0);
    NEED(mkdir("d/mine", 0700) == 0 && chown("d/mine", px_uid(0), px_uid(0)) == 0);
    px_become_user(0);
    FAILS(rmdir("d/full"), EACCES, "a full directory, without the right: the right comes first");
    FAILS(rmdir("d/mine"), EACCES, "one's own directory in one that one may not write");
    px_become_root();
}

/* Two mounts */

static void seen_elsewhere(void)
{
    struct stat st;
    int d;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, px_other("d/f"), 0644) == 0);
    FAILS(rmdir("d"), ENOTEMPTY, "a directory that was filled there");
    NEED(unlink(px_other("d/f")) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    NEED(d >= 0);
    OK(rmdir(px_other("d")), "one that is open here is removed there");
    CLAIM(!px_exists("d"), "its name is gone here");
    FAILS(openat(d, "x", O_CREAT | O_WRONLY, 0644), ENOENT, "and nothing is made in it here");
    NEED(mkdir(px_other("d"), 0755) == 0);
    EQUAL(px_stat("d").st_nlink, 2, "one made anew there is seen here");
    CLAIM(fstat(d, &st) == -1 || st.st_ino != px_ino("d"), "and is not the one that is open");
    OK(rmdir("d"), "and is removed here");
    FAILS(rmdir(px_other("d")), ENOENT, "once: not there, too");
    EQUAL(px_stat(px_other(".")).st_nlink, 2, "the parent's links are counted there");
    NEED(close(d) == 0);
}

#define RACES 60

/* Fills directories there while they are removed here: what is made is not lost. */
static int fill(void *arg)
{
    int made = 0;

    (void)arg;
    for (int i = 0; i < RACES; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "r%d/f", i);
        made += px_make(PX_REG, px_other(name), 0644) == 0;
    }
    return made;
}

static void full_or_gone(void)
{
    int gone = 0, found = 0, status = 0;
    char name[32];
    pid_t pid;

    for (int i = 0; i < RACES; i++) {
        (void)snprintf(name, sizeof(name), "r%d", i);
        NEED(mkdir(name, 0755) == 0);
    }
    pid = fork();
    if (pid == 0) {
        _exit(fill(NULL));
    }
    for (int i = 0; i < RACES; i++) {
        (void)snprintf(name, sizeof(name), "r%d", i);
        gone += rmdir(name) == 0;
    }
    NEED(pid > 0 && wait(&status) == pid && WIFEXITED(status));
    for (int i = 0; i < RACES; i++) {
        (void)snprintf(name, sizeof(name), "r%d/f", i);
        found += px_exists(name);
    }
    EQUAL(gone + found, RACES, "directories removed here while filled there: gone or full");
    EQUAL(found, WEXITSTATUS(status), "and what was made there is there");
    EQUAL(px_stat(".").st_nlink, 2 + found, "the parent's links are those that are left");
}

const struct px_group px_rmdir[] = {
    {"removes", removes, 0},
    {"not-empty", not_empty, 0},
    {"names", names, 0},
    {"while-open", while_open, 0},
    {"while-worked-in", while_worked_in, 0},
    {"rights", rights, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"full-or-gone", full_or_gone, PX_TWO},
    {NULL, NULL, 0},
};
