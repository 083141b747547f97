/* SPDX-License-Identifier: Apache-2.0 */
/* chown(), lchown(), fchown(), fchownat(): POSIX.1-2024 chown, fchownat; chown(2). */
#include <stdlib.h>
#include <string.h>

#include "tests/posix/posix.h"

#define SAME ((uid_t)-1)

static bool owned(const char *path, uid_t uid, gid_t gid)
{
    struct stat st = px_stat(path);

    return st.st_ino && st.st_uid == uid && st.st_gid == gid;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What is changed */

static void each_type(void)
{
    struct stat a, b;

    for (int i = 0; i < PX_TYPES; i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(px_make((enum px_type)i, "x", 0751) == 0);
        a = px_stat("x");
        px_tick();
        OK(lchown("x", 4000000000u, 4000000001u), "%s: owner and group above 2^31", name);
        b = px_stat("x");
        CLAIM(b.st_uid == 4000000000u && b.st_gid == 4000000001u, "%s: has both", name);
        CLAIM(!same_time(a.st_ctim, b.st_ctim), "%s: ctime moves on", name);
        CLAIM(same_time(a.st_mtim, b.st_mtim), "%s: mtime stays", name);
        EQUAL(b.st_mode, a.st_mode, "%s: a mode without set-id bits stays", name);
        OK(lchown("x", 7, SAME), "%s: the owner alone", name);
        CLAIM(owned("x", 7, 4000000001u), "%s: the group stays where -1 was given", name);
        OK(lchown("x", SAME, 8), "%s: the group alone", name);
        CLAIM(owned("x", 7, 8), "%s: the owner stays where -1 was given", name);
        OK(lchown("x", SAME, SAME), "%s: neither", name);
        CLAIM(owned("x", 7, 8), "%s: both stay where -1 was given", name);
        OK(lchown("x", 0, 0), "%s: back to root", name);
        CLAIM(owned("x", 0, 0), "%s: is root's", name);
        NEED(remove("x") == 0);
    }
}

static void links(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    NEED(symlink("f", "l") == 0 && symlink("l", "ll") == 0 && symlink("d", "ld") == 0);
    OK(chown("ll", 11, 12), "chown follows links");
    CLAIM(owned("f", 11, 12), "chown through links changes the file at their end");
    CLAIM(owned("l", 0, 0) && owned("ll", 0, 0), "chown through links leaves them alone");
    OK(lchown("ll", 13, 14), "lchown takes the link");
    CLAIM(owned("ll", 13, 14) && owned("l", 0, 0), "lchown changes that one");
    CLAIM(owned("f", 11, 12), "lchown leaves what it leads to");
    OK(fchownat(AT_FDCWD, "l", 15, 16, AT_SYMLINK_NOFOLLOW), "fchownat NOFOLLOW takes the link");
    CLAIM(owned("l", 15, 16) && owned("f", 11, 12), "fchownat NOFOLLOW leaves what it leads to");
    OK(fchownat(AT_FDCWD, "l", 17, 18, 0), "fchownat follows links");
    CLAIM(owned("f", 17, 18) && owned("l", 15, 16), "fchownat changes the file at their end");
    OK(chown("ld/.", 21, 22), "chown of a directory through a link");
    CLAIM(owned("d", 21, 22) && owned("ld", 0, 0), "the directory changes, the link does not");
    NEED(symlink("none", "dangling") == 0);
    FAILS(chown("dangling", 1, 1), ENOENT, "chown of a link that leads nowhere");
    OK(lchown("dangling", 1, 1), "lchown of a link that leads nowhere");
    NEED(link("f", "g") == 0 && chown("g", 31, 32) == 0);
    CLAIM(owned("f", 31, 32), "all names of a file have its owner");
}

static void through_descriptors(void)
{
    int fd, path;
    struct stat st;

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("f", "l") == 0);
    fd = open("f", O_RDONLY);
    path = open("l", O_PATH | O_NOFOLLOW);
    NEED(fd >= 0 && path >= 0);
    OK(fchown(fd, 5, 6), "fchown of a file open for reading");
    CLAIM(owned("f", 5, 6), "it has the owner that fchown gave it");
    FAILS(fchown(path, 7, 8), EBADF, "fchown of an O_PATH descriptor");
    OK(fchownat(path, "", 7, 8, AT_EMPTY_PATH), "fchownat EMPTY_PATH of a link's descriptor");
    CLAIM(owned("l", 7, 8) && owned("f", 5, 6), "EMPTY_PATH changes the link");
    OK(fchownat(fd, "", 9, 10, AT_EMPTY_PATH), "fchownat EMPTY_PATH of an open file");
    CLAIM(owned("f", 9, 10), "EMPTY_PATH changes the file");
    FAILS(fchownat(fd, "", 9, 10, 0), ENOENT, "an empty path without EMPTY_PATH");
    NEED(unlink("f") == 0);
    OK(fchown(fd, 11, 12), "fchown of a file without a name");
    NEED(fstat(fd, &st) == 0);
    CLAIM(st.st_uid == 11 && st.st_gid == 12, "the file without a name has the owner");
    NEED(close(fd) == 0 && close(path) == 0);
    FAILS(fchown(fd, 1, 1), EBADF, "fchown of a closed descriptor");
    FAILS(fchown(-1, 1, 1), EBADF, "fchown of -1");
}

static void bad_paths(void)
{
    uid_t me = geteuid();
    gid_t group = getegid();
    int d, f;

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("loop", "loop") == 0 && mkdir("d", 0755) == 0);
    FAILS(chown("none", me, group), ENOENT, "no such file");
    FAILS(chown("", me, group), ENOENT, "an empty path");
    FAILS(lchown("", me, group), ENOENT, "an empty path of lchown");
    FAILS(chown("none/f", me, group), ENOENT, "no such directory");
    FAILS(chown("f/x", me, group), ENOTDIR, "a part of the path is a file");
    FAILS(lchown("f/", me, group), ENOTDIR, "a file with a slash behind it");
    FAILS(chown("loop", me, group), ELOOP, "a loop");
    FAILS(lchown("loop/x", me, group), ELOOP, "a loop on the way of lchown");
    OK(lchown("loop", me, group), "lchown of a loop itself");
    FAILS(chown(px_long_name('n', PX_NAME_MAX + 1), me, group), ENAMETOOLONG,
          "a name of 256 bytes");
    FAILS(lchown(px_long_name('/', 4096), me, group), ENAMETOOLONG, "a path of 4,096 bytes");
    FAILS(chown(px_nowhere(), me, group), EFAULT, "no address");
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0 && px_make(PX_REG, "d/x", 0644) == 0);
    OK(fchownat(d, "x", me, group, 0), "below an open directory");
    FAILS(fchownat(-1, "x", me, group, 0), EBADF, "the directory is not open");
    FAILS(fchownat(f, "x", me, group, 0), ENOTDIR, "the directory is a file");
    FAILS(fchownat(d, "x", me, group, 0x40000), EINVAL, "an unknown flag");
    NEED(unlink("d/x") == 0 && rmdir("d") == 0);
    FAILS(fchownat(d, "x", me, group, 0), ENOENT, "the directory was removed");
    NEED(close(d) == 0 && close(f) == 0);
}

/* Who may: users by number; 9 is no user here, and stands for -1. */

struct who_row {
    const char *text;
    unsigned who, group, uid, gid;
    int error;
};

/* The file is user 0's, its group is 0. Who has the supplementary group 3. */
static const struct who_row who_rows[] = {
    {"the owner keeps owner and group", 0, 0, 0, 0, 0},
    {"the owner gives their effective group", 0, 2, 9, 2, 0},
    {"the owner gives a supplementary group", 0, 0, 9, 3, 0},
    {"the owner gives a supplementary group, and names themselves", 0, 0, 0, 3, 0},
    {"the owner gives a foreign group", 0, 0, 9, 1, EPERM},
    {"the owner, no member of its group, names the group it has", 0, 2, 9, 0, 0},
    {"the owner gives it to another", 0, 0, 1, 9, EPERM},
    {"the owner gives it to root", 0, 0, 8, 9, EPERM},
    {"the owner gives it to another, with a group of their own", 0, 0, 1, 3, EPERM},
    {"the owner keeps it, with a foreign group", 0, 0, 0, 1, EPERM},
    {"another takes it", 1, 1, 1, 9, EPERM},
    {"another takes its group", 1, 1, 9, 1, EPERM},
    {"another gives a supplementary group", 1, 1, 9, 3, EPERM},
    {"another names the owner and group that it has", 1, 1, 0, 0, EPERM},
    {"another names the owner it has", 1, 1, 0, 9, EPERM},
    {"another names the group it has", 1, 1, 9, 0, EPERM},
    {"a member of the group takes it", 1, 0, 1, 9, EPERM},
    {"a member of the group gives the group it has", 1, 0, 9, 0, EPERM},
};

static uid_t number(unsigned user)
{
    return user == 9 ? SAME : user == 8 ? 0 : px_uid(user);
}

static void who_may(void)
{
    static const enum px_type some[] = {PX_REG, PX_DIR, PX_LINK, PX_FIFO, PX_CHR};
    const gid_t more[] = {px_uid(3)};

    for (size_t t = 0; t < sizeof(some) / sizeof(some[0]); t++) {
        const char *name = px_type_name(some[t]);

        NEED(px_make(some[t], "x", 0777) == 0);
        for (size_t i = 0; i < sizeof(who_rows) / sizeof(who_rows[0]); i++) {
            const struct who_row *row = &who_rows[i];
            uid_t uid = row->error || row->uid == 9 ? px_uid(0) : number(row->uid);
            gid_t gid = row->error || row->gid == 9 ? px_uid(0) : number(row->gid);

            NEED(lchown("x", px_uid(0), px_uid(0)) == 0);
            px_become(px_uid(row->who), px_uid(row->group), more, 1);
            GIVES(lchown("x", number(row->uid), number(row->gid)), row->error, "%s: %s", name,
                  row->text);
            px_become_root();
            CLAIM(owned("x", uid, gid), "%s: owner and group after: %s", name, row->text);
        }
        NEED(remove("x") == 0);
    }
}

static void gives_rights(void)
{
    NEED(px_write_file("f", "abc", 3) == 0 && chmod("f", 0640) == 0);
    NEED(chown("f", px_uid(0), px_uid(0)) == 0);
    px_become_user(1);
    FAILS(open("f", O_RDONLY), EACCES, "another does not read it");
    FAILS(chmod("f", 0600), EPERM, "nor change its mode");
    px_become_root();
    NEED(chown("f", SAME, px_uid(1)) == 0);
    px_become_user(1);
    OK(close(open("f", O_RDONLY)), "who is of its new group reads it");
    FAILS(open("f", O_WRONLY), EACCES, "and does not write it");
    px_become_root();
    NEED(chown("f", px_uid(1), px_uid(0)) == 0);
    px_become_user(1);
    OK(close(open("f", O_RDWR)), "the new owner writes it");
    OK(chmod("f", 0600), "the new owner changes its mode");
    px_become_user(0);
    FAILS(open("f", O_RDONLY), EACCES, "the old owner does not read it any more");
    FAILS(chown("f", px_uid(0), SAME), EPERM, "nor takes it back");
    px_become_root();
}

static void needs_search(void)
{
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    NEED(chown("d", px_uid(0), px_uid(0)) == 0 && chown("d/f", px_uid(0), px_uid(0)) == 0);
    for (unsigned rights = 0; rights < 8; rights++) {
        NEED(chmod("d", rights << 6) == 0);
        px_become_user(0);
        GIVES(chown("d/f", SAME, px_uid(0)), rights & 1 ? 0 : EACCES,
              "in a directory with rights %o", rights);
        px_become_root();
    }
}

/* Set-id bits */

/* chown(2): S_ISUID goes, S_ISGID goes unless it stood for mandatory locking. */
static mode_t want_mode(enum px_type type, mode_t mode)
{
    if (type == PX_DIR) {
        return mode;
    }
    mode &= ~(mode_t)S_ISUID;
    return mode & S_IXGRP ? mode & ~(mode_t)S_ISGID : mode;
}

static void clears_set_id(void)
{
    static const enum px_type some[] = {PX_REG, PX_FIFO, PX_DIR};
    static const mode_t rights[] = {0644, 0755, 0744, 0654, 0611, 01666};
    const gid_t more[] = {px_uid(3)};

    for (size_t t = 0; t < sizeof(some) / sizeof(some[0]); t++) {
        const char *name = px_type_name(some[t]);

        NEED(px_make(some[t], "x", 0600) == 0);
        for (unsigned i = 0; i < 4 * sizeof(rights) / sizeof(rights[0]); i++) {
            mode_t mode = (i % 4 << 10) | rights[i / 4], want = want_mode(some[t], mode);

            NEED(chown("x", px_uid(0), px_uid(0)) == 0 && chmod("x", mode) == 0);
            NEED(chown("x", px_uid(1), px_uid(1)) == 0);
            EQUAL(px_stat("x").st_mode & 07777, want, "%s of mode %04o: root gives it away", name,
                  (unsigned)mode);
            NEED(chown("x", px_uid(0), px_uid(0)) == 0 && chmod("x", mode) == 0);
            px_become(px_uid(0), px_uid(0), more, 1);
            NEED(chown("x", SAME, px_uid(3)) == 0);
            EQUAL(px_stat("x").st_mode & 07777, want,
                  "%s of mode %04o: the owner changes the group", name, (unsigned)mode);
            px_become_root();
        }
        NEED(remove("x") == 0);
    }
    NEED(px_make(PX_REG, "f", 0600) == 0 && chmod("f", 06755) == 0);
    NEED(chown("f", px_uid(0), px_uid(0)) == 0 && chmod("f", 06755) == 0);
    px_become_user(1);
    NEED(chown("f", px_uid(1), SAME) == -1);
    px_become_root();
    EQUAL(px_stat("f").st_mode & 07777, 06755, "a chown that is refused clears nothing");
}

/* Two mounts */

static void seen_elsewhere(void)
{
    int fd;

    NEED(px_write_file("f", "abc", 3) == 0 && chmod("f", 06750) == 0);
    NEED(px_stat(px_other("f")).st_ino != 0);
    fd = open(px_other("f"), O_RDONLY);
    NEED(fd >= 0);
    NEED(chown("f", px_uid(0), px_uid(1)) == 0);
    CLAIM(owned(px_other("f"), px_uid(0), px_uid(1)), "owner and group are seen there");
    EQUAL(px_stat(px_other("f")).st_mode & 07777, 0750, "and that set-id bits are gone");
    px_become_user(1);
    OK(close(open(px_other("f"), O_RDONLY)), "the new group reads it there");
    px_become_user(0);
    OK(close(open(px_other("f"), O_RDWR)), "the new owner writes it there");
    OK(chmod(px_other("f"), 0600), "and changes its mode there");
    px_become_root();
    NEED(fchown(fd, px_uid(2), px_uid(2)) == 0);
    CLAIM(owned("f", px_uid(2), px_uid(2)), "fchown there is seen here");
    px_become_user(0);
    FAILS(open("f", O_RDONLY), EACCES, "who lost it there does not read it here");
    px_become_root();
    NEED(close(fd) == 0);
}

const struct px_group px_chown[] = {
    {"each-type", each_type, PX_ROOT},
    {"links", links, PX_ROOT},
    {"through-descriptors", through_descriptors, PX_ROOT},
    {"bad-paths", bad_paths, 0},
    {"who-may", who_may, PX_ROOT},
    {"gives-rights", gives_rights, PX_ROOT},
    {"needs-search", needs_search, PX_ROOT},
    {"clears-set-id", clears_set_id, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO | PX_ROOT},
    {NULL, NULL, 0},
};
