/* SPDX-License-Identifier: Apache-2.0 */
/* access(), faccessat(), and what mode bits allow: POSIX.1-2024 access, 4.7; access(2). */
#include <dirent.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

/* Who looks at a file of user 0 and group 1. */
static const struct class
{
    const char *name;
    unsigned user, group;
    bool more; /* group 1 is among the supplementary ones */
    unsigned shift;
} classes[] = {
    {"owner", 0, 0, false, 6},
    {"owner in the group", 0, 1, true, 6},
    {"member of the group", 2, 1, false, 3},
    {"supplementary member", 2, 2, true, 3},
    {"other", 3, 3, false, 0},
};

#define CLASSES (sizeof(classes) / sizeof(classes[0]))

struct as { /* in a child: for good, real and effective */
    const struct class *who;
    unsigned rights;
    void (*claims)(const char *who, unsigned rights);
};

static int as_child(void *arg)
{
    const struct as *as = arg;
    const gid_t more[] = {px_uid(1)};
    gid_t gid = px_uid(as->who->group);
    uid_t uid = px_uid(as->who->user);

    NEED(setgroups(as->who->more, more) == 0);
    NEED(setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0);
    as->claims(as->who->name, as->rights);
    fflush(stdout);
    return 0;
}

/* This class has the rights, the others have just the other ones. */
static mode_t mode_for(const struct class *who, unsigned rights)
{
    unsigned rest = 7 - rights;

    return (rest * 0111 & ~(7u << who->shift)) | rights << who->shift;
}

static void each_class(const char *path, void (*claims)(const char *who, unsigned rights))
{
    for (size_t i = 0; i < CLASSES; i++) {
        for (unsigned rights = 0; rights < 8; rights++) {
            struct as as = {&classes[i], rights, claims};

            NEED(chown(path, px_uid(0), px_uid(1)) == 0);
            NEED(chmod(path, mode_for(&classes[i], rights)) == 0);
            NEED(px_child(as_child, &as) == 0);
        }
    }
}

static int want(unsigned rights, unsigned needed)
{
    return (rights & needed) == needed ? 0 : EACCES;
}

static void access_claims(const char *what, const char *who, unsigned rights)
{
    static const unsigned asked[] = {R_OK, W_OK, X_OK, R_OK | X_OK, R_OK | W_OK | X_OK};

    OK(access("x", F_OK), "%s: %s with rights %o: it exists", what, who, rights);
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        GIVES(access("x", (int)asked[i]), want(rights, asked[i]), "%s: %s with rights %o asks %o",
              what, who, rights, asked[i]);
    }
}

static int opened(int fd)
{
    return fd < 0 ? -1 : close(fd);
}

static void file_claims(const char *who, unsigned rights)
{
    char byte;

    access_claims("file", who, rights);
    GIVES(opened(open("x", O_RDONLY)), want(rights, 4), "file: %s with rights %o: O_RDONLY", who,
          rights);
    GIVES(opened(open("x", O_WRONLY)), want(rights, 2), "file: %s with rights %o: O_WRONLY", who,
          rights);
    GIVES(opened(open("x", O_RDWR)), want(rights, 6), "file: %s with rights %o: O_RDWR", who,
          rights);
    GIVES(opened(open("x", O_WRONLY | O_TRUNC)), want(rights, 2),
          "file: %s with rights %o: O_TRUNC", who, rights);
    GIVES(truncate("x", 1), want(rights, 2), "file: %s with rights %o: truncate", who, rights);
    OK(opened(open("x", O_PATH)), "file: %s with rights %o: O_PATH", who, rights);
    CLAIM(px_stat("x").st_ino != 0 && readlink("x", &byte, 1) == -1 && errno == EINVAL,
          "file: %s with rights %o: stat", who, rights);
}

static void files(void)
{
    NEED(px_write_file("x", "abc", 3) == 0);
    each_class("x", file_claims);
}

static int looks(const char *path)
{
    struct stat st;

    return stat(path, &st);
}

static void directory_claims(const char *who, unsigned rights)
{
    int d;

    access_claims("directory", who, rights);
    d = open("x", O_RDONLY | O_DIRECTORY);
    GIVES(opened(d), want(rights, 4), "directory: %s with rights %o: opened to be listed", who,
          rights);
    GIVES(looks("x/f"), want(rights, 1), "directory: %s with rights %o: stat in it", who, rights);
    GIVES(looks("x/."), want(rights, 1), "directory: %s with rights %o: its .", who, rights);
    GIVES(opened(open("x/f", O_RDONLY)), want(rights, 1),
          "directory: %s with rights %o: a file in it", who, rights);
    GIVES(mkdir("x/new", 0755), want(rights, 3), "directory: %s with rights %o: mkdir", who,
          rights);
    GIVES(rmdir("x/new"), rights == 1 || rights == 5 ? ENOENT : want(rights, 3),
          "directory: %s with rights %o: rmdir", who, rights);
    GIVES(symlink("f", "x/l"), want(rights, 3), "directory: %s with rights %o: symlink", who,
          rights);
    GIVES(link("x/f", "x/g"), want(rights, 3), "directory: %s with rights %o: link", who, rights);
    GIVES(rename("x/f", "x/h"), want(rights, 3), "directory: %s with rights %o: rename", who,
          rights);
    (void)rename("x/h", "x/f");
    (void)unlink("x/l");
    (void)unlink("x/g");
    GIVES(chdir("x"), want(rights, 1), "directory: %s with rights %o: chdir", who, rights);
    if ((rights & 5) == 5) {
        EQUAL(px_count("."), 1, "directory: %s with rights %o: is listed", who, rights);
    }
}

static void directories(void)
{
    NEED(mkdir("x", 0755) == 0 && px_write_file("x/f", "abc", 3) == 0);
    NEED(chmod("x/f", 0666) == 0); /* others may link what they may read and write */
    each_class("x", directory_claims);
}

static int exec_child(void *arg)
{
    char *const argv[] = {"x", NULL}, *const env[] = {NULL};

    (void)arg;
    (void)execve("./x", argv, env);
    return errno;
}

static void exec_claims(const char *who, unsigned rights)
{
    /* the interpreter is a binary: it does not read the file */
    EQUAL(px_child(exec_child, NULL), rights & 1 ? 0 : EACCES, "execve: %s with rights %o", who,
          rights);
}

static void executing(void)
{
    NEED(px_write_file("x", "#!/bin/true\n", 12) == 0);
    each_class("x", exec_claims);
    NEED(chmod("x", 0644) == 0);
    EQUAL(px_child(exec_child, NULL), EACCES, "execve by root of what nobody may execute");
    NEED(chmod("x", 0001) == 0);
    EQUAL(px_child(exec_child, NULL), 0, "execve by root of what others may execute");
}

static void root(void)
{
    static const mode_t modes[] = {0, 0666, 0001, 0010, 0100, 0777};

    NEED(px_make(PX_REG, "f", 0600) == 0 && mkdir("d", 0700) == 0);
    NEED(chown("f", px_uid(0), px_uid(0)) == 0 && chown("d", px_uid(0), px_uid(0)) == 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        unsigned mode = modes[i];

        NEED(chmod("f", mode) == 0 && chmod("d", mode) == 0);
        OK(access("f", R_OK | W_OK), "root reads and writes a file of mode %03o", mode);
        GIVES(access("f", X_OK), mode & 0111 ? 0 : EACCES, "root executes a file of mode %03o",
              mode);
        OK(access("d", R_OK | W_OK | X_OK), "root uses a directory of mode %03o", mode);
        OK(opened(open("f", O_RDWR)), "root opens a file of mode %03o", mode);
        OK(opened(open("d/x", O_CREAT | O_RDWR, 0)), "root makes in a directory of mode %03o",
           mode);
        NEED(unlink("d/x") == 0);
    }
}

/* access() asks for the real user, AT_EACCESS for the effective one. */

static int real_and_effective(void *arg)
{
    const uid_t real = px_uid(0), effective = px_uid(1);

    (void)arg;
    NEED(setgroups(0, NULL) == 0 && setresgid(real, effective, effective) == 0);
    NEED(setresuid(real, effective, effective) == 0);
    OK(access("zero", R_OK | W_OK), "access: the real user's file");
    FAILS(access("one", R_OK), EACCES, "access: the effective user's file");
    FAILS(faccessat(AT_FDCWD, "zero", R_OK, AT_EACCESS), EACCES, "EACCESS: the real user's file");
    OK(faccessat(AT_FDCWD, "one", R_OK | W_OK, AT_EACCESS), "EACCESS: the effective user's file");
    OK(faccessat(AT_FDCWD, "zero", R_OK, 0), "faccessat: the real user's file");
    FAILS(faccessat(AT_FDCWD, "one", R_OK, 0), EACCES, "faccessat: the effective user's file");
    FAILS(open("zero", O_RDONLY), EACCES, "open is for the effective user");
    FAILS(access("dir-one/f", F_OK), EACCES, "access: search is the real user's, too");
    OK(faccessat(AT_FDCWD, "dir-one/f", F_OK, AT_EACCESS), "EACCESS: search is the effective's");
    OK(access("group-zero", R_OK), "access: the real group");
    FAILS(access("group-one", R_OK), EACCES, "access: the effective group");
    OK(faccessat(AT_FDCWD, "group-one", R_OK, AT_EACCESS), "EACCESS: the effective group");
    return 0;
}

static void real_or_effective(void)
{
    static const char *const names[] = {"zero", "one", "group-zero", "group-one"};

    for (unsigned i = 0; i < 4; i++) {
        uid_t id = px_uid(i % 2);

        NEED(px_make(PX_REG, names[i], 0600) == 0);
        NEED(chown(names[i], i < 2 ? id : 0, i < 2 ? 0 : id) == 0);
        NEED(chmod(names[i], i < 2 ? 0600 : 0640) == 0);
    }
    NEED(mkdir("dir-one", 0700) == 0 && px_make(PX_REG, "dir-one/f", 0644) == 0);
    NEED(chown("dir-one", px_uid(1), px_uid(1)) == 0);
    EQUAL(px_child(real_and_effective, NULL), 0, "a process with two users ends well");
    px_become_user(1);
    OK(access("zero", R_OK | W_OK), "access: root is the real user");
    FAILS(faccessat(AT_FDCWD, "zero", R_OK, AT_EACCESS), EACCES, "EACCESS: root is only the real");
    px_become_root();
}

static void bad_paths(void)
{
    int d, f;

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("loop", "loop") == 0 && mkdir("d", 0755) == 0);
    NEED(symlink("none", "dangling") == 0 && symlink("f", "l") == 0);
    FAILS(access("none", F_OK), ENOENT, "no such file");
    FAILS(access("none", R_OK), ENOENT, "no such file to be read");
    FAILS(access("", F_OK), ENOENT, "an empty path");
    FAILS(access("f/x", F_OK), ENOTDIR, "a part of the path is a file");
    FAILS(access("f/", F_OK), ENOTDIR, "a file with a slash behind it");
    FAILS(access("loop", F_OK), ELOOP, "a loop");
    FAILS(access("dangling", F_OK), ENOENT, "a link that leads nowhere");
    OK(access("l", R_OK), "a link is followed");
    OK(faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW), "NOFOLLOW of a link itself");
    FAILS(access(px_long_name('n', PX_NAME_MAX + 1), F_OK), ENAMETOOLONG, "a name of 256 bytes");
    FAILS(access(px_long_name('/', 4096), F_OK), ENAMETOOLONG, "a path of 4,096 bytes");
    FAILS(access(px_nowhere(), F_OK), EFAULT, "no address");
    FAILS(access("f", 8), EINVAL, "a bit that is none of R_OK, W_OK, X_OK");
    FAILS(faccessat(AT_FDCWD, "f", F_OK, 0x40000), EINVAL, "an unknown flag");
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0 && px_make(PX_FIFO, "d/x", 0644) == 0);
    OK(faccessat(d, "x", R_OK, 0), "below an open directory");
    FAILS(faccessat(-1, "x", F_OK, 0), EBADF, "the directory is not open");
    FAILS(faccessat(f, "x", F_OK, 0), ENOTDIR, "the directory is a file");
    NEED(close(d) == 0 && close(f) == 0);
}

/* Two mounts */

static void rights_elsewhere(const char *who, unsigned rights)
{
    GIVES(opened(open(px_other("x"), O_RDONLY)), want(rights, 4), "there: %s with rights %o reads",
          who, rights);
    GIVES(opened(open(px_other("x"), O_WRONLY)), want(rights, 2), "there: %s with rights %o writes",
          who, rights);
    GIVES(access(px_other("x"), X_OK), want(rights, 1), "there: %s with rights %o executes", who,
          rights);
}

static void elsewhere(void)
{
    NEED(px_write_file("x", "abc", 3) == 0);
    each_class("x", rights_elsewhere);
}

const struct px_group px_access[] = {
    {"files", files, PX_ROOT},
    {"directories", directories, PX_ROOT},
    {"executing", executing, PX_ROOT},
    {"root", root, PX_ROOT},
    {"real-or-effective", real_or_effective, PX_ROOT},
    {"bad-paths", bad_paths, 0},
    {"elsewhere", elsewhere, PX_ROOT | PX_TWO},
    {NULL, NULL, 0},
};
