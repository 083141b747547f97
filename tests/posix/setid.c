/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Set-id bits: taken away when a file changes (POSIX.1-2024 write, ftruncate; inode(7)), and
 * handed down by directories (POSIX.1-2024 open, mkdir; inode(7), mkdir(2)).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/posix/posix.h"

#define BITS 07777u

static mode_t mode_of(const char *path)
{
    return px_stat(path).st_mode & BITS;
}

/* Changes of "f", which is open for reading and writing at a descriptor; "src" has some bytes. */

static int by_write(int fd)
{
    return (int)write(fd, "x", 1);
}

static int by_pwrite_behind(int fd)
{
    return (int)pwrite(fd, "x", 1, 100000);
}

static int by_pwritev(int fd)
{
    struct iovec iov[2] = {{.iov_base = "ab", .iov_len = 2}, {.iov_base = "cd", .iov_len = 2}};

    return (int)pwritev(fd, iov, 2, 1);
}

static int by_append(int fd)
{
    int other = open("f", O_WRONLY | O_APPEND);
    int ret = other < 0 ? -1 : (int)write(other, "x", 1);

    (void)fd;
    (void)close(other);
    return ret;
}

static int by_ftruncate_less(int fd)
{
    return ftruncate(fd, 1);
}

static int by_ftruncate_more(int fd)
{
    return ftruncate(fd, 1000);
}

static int by_truncate(int fd)
{
    (void)fd;
    return truncate("f", 0);
}

static int by_open_truncate(int fd)
{
    int other = open("f", O_WRONLY | O_TRUNC);

    (void)fd;
    return other < 0 ? -1 : close(other);
}

static int by_fallocate(int fd)
{
    return fallocate(fd, 0, 0, 10000);
}

static int by_punch(int fd)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}

static int by_zero_range(int fd)
{
    return fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096);
}

static int by_copy(int fd)
{
    int src = open("src", O_RDONLY);
    loff_t from = 0, to = 0;
    int ret = src < 0 ? -1 : (int)copy_file_range(src, &from, fd, &to, 5, 0);

    (void)close(src);
    return ret;
}

static const struct {
    const char *name;
    int (*change)(int fd);
} changes[] = {
    {"write", by_write},
    {"pwrite behind the end", by_pwrite_behind},
    {"pwritev", by_pwritev},
    {"a write that appends", by_append},
    {"ftruncate to less", by_ftruncate_less},
    {"ftruncate to more", by_ftruncate_more},
    {"truncate", by_truncate},
    {"open with O_TRUNC", by_open_truncate},
    {"fallocate", by_fallocate},
    {"punching a hole", by_punch},
    {"zeroing a range", by_zero_range},
    {"copy_file_range", by_copy},
};

#define CHANGES (sizeof(changes) / sizeof(changes[0]))

/* S_ISGID without group execution was mandatory locking, and stays for members of the group. */
static mode_t want_mode(mode_t mode)
{
    mode &= ~(mode_t)S_ISUID;
    return mode & S_IXGRP ? mode & ~(mode_t)S_ISGID : mode;
}

static int make_changed(mode_t mode, unsigned user)
{
    NEED(px_write_file("f", "0123456789", 10) == 0);
    NEED(chown("f", px_uid(user), px_uid(user)) == 0 && chmod("f", mode) == 0);
    return open("f", O_RDWR);
}

static void who_changes(unsigned owner, bool by_root, const char *who)
{
    static const mode_t modes[] = {04777, 02777, 06777, 06767, 02767, 07766};

    NEED(px_write_file("src", "01234", 5) == 0 && chmod("src", 0644) == 0);
    for (size_t c = 0; c < CHANGES; c++) {
        for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
            mode_t mode = modes[m], want = by_root ? mode : want_mode(mode);
            struct stat st;
            int fd = make_changed(mode, owner);

            NEED(fd >= 0);
            if (!by_root) {
                px_become(px_uid(0), px_uid(owner), NULL, 0);
            }
            OK(changes[c].change(fd), "%s of a file of mode %04o by %s", changes[c].name,
               (unsigned)mode, who);
            NEED(fstat(fd, &st) == 0);
            EQUAL(st.st_mode & BITS, want, "mode %04o after %s by %s", (unsigned)mode,
                  changes[c].name, who);
            px_become_root();
            NEED(close(fd) == 0);
            EQUAL(mode_of("f"), want, "mode %04o after %s by %s, and close", (unsigned)mode,
                  changes[c].name, who);
            NEED(unlink("f") == 0);
        }
    }
}

static void changed_by_owner(void)
{
    who_changes(0, false, "the owner");
}

static void changed_by_member(void)
{
    who_changes(1, false, "a member of the group");
}

static void changed_by_root(void)
{
    who_changes(0, true, "root");
}

/* What changes nothing clears nothing. */
/* chown(2) of neither owner nor group is a chown all the same. */
static void chown_of_nobody(void)
{
    static const struct {
        mode_t mode, want;
    } rows[] = {{06755, 0755}, {04644, 0644}, {02750, 0750}, {0644, 0644}};

    for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
        mode_t mode = rows[i / 2].mode;
        const char *who = i % 2 ? "root" : "its owner";

        NEED(px_make(PX_REG, "f", 0644) == 0 && chown("f", px_uid(0), px_uid(0)) == 0);
        NEED(chmod("f", mode) == 0);
        if (i % 2 == 0) {
            px_become_user(0);
        }
        OK(chown("f", (uid_t)-1, (gid_t)-1), "chown to nobody by %s of mode %04o", who, mode);
        px_become_root();
        EQUAL(mode_of("f"), rows[i / 2].want, "its mode after that of %s, %04o before", who, mode);
        NEED(unlink("f") == 0);
    }
    NEED(mkdir("d", 0755) == 0 && chmod("d", 06755) == 0);
    OK(chown("d", (uid_t)-1, (gid_t)-1), "chown to nobody of a directory");
    EQUAL(mode_of("d"), 06755, "which keeps its bits");
    NEED(px_make(PX_REG, "f", 0644) == 0 && chmod("f", 04777) == 0);
    px_become_user(1);
    (void)!chown("f", (uid_t)-1, (gid_t)-1); /* EPERM, or nothing */
    px_become_root();
    EQUAL(mode_of("f"), 04777, "who does not own it takes no bits by it");
}

static void left_alone(void)
{
    char byte;
    int fd = make_changed(06777, 1), readable;

    readable = open("f", O_RDONLY);
    NEED(fd >= 0 && readable >= 0);
    px_become_user(0);
    EQUAL(pread(fd, &byte, 1, 0), 1, "reading");
    EQUAL(mode_of("f"), 06777, "reading leaves the bits");
    EQUAL(write(fd, "", 0), 0, "writing no bytes");
    EQUAL(mode_of("f"), 06777, "writing no bytes leaves the bits");
    FAILS(write(readable, "x", 1), EBADF, "writing where it is open for reading");
    FAILS(ftruncate(readable, 1), EINVAL, "truncating where it is open for reading");
    FAILS(chmod("f", 0777), EPERM, "a chmod that is refused");
    EQUAL(mode_of("f"), 06777, "what fails leaves the bits");
    px_become_root();
    NEED(link("f", "g") == 0 && unlink("g") == 0);
    px_become_user(0);
    EQUAL(mode_of("f"), 06777, "a second name leaves the bits");
    OK(rename("f", "g"), "another name");
    EQUAL(mode_of("g"), 06777, "another name leaves the bits");
    EQUAL(write(fd, "x", 1), 1, "writing under another name");
    EQUAL(mode_of("g"), 0777, "takes the bits");
    px_become_root();
    NEED(chmod("g", 04755) == 0);
    EQUAL(mode_of("g"), 04755, "a chmod after the write gives them back");
    NEED(fsync(fd) == 0 && close(fd) == 0 && close(readable) == 0);
    EQUAL(mode_of("g"), 04755, "and the write that went before does not take them later");
}

/* Directories with S_ISGID */

static void hands_down(void)
{
    static const struct {
        mode_t dir, made, want;
        bool group; /* of the directory */
    } rows[] = {{0777, 0755, 0755, false},
                {02777, 0755, 0755, true},
                {02777, 0644, 0644, true},
                {03777, 0755, 0755, true}};
    char text[64];

    for (int t = 0; t < PX_CHR; t++) {
        const char *name = px_type_name((enum px_type)t);

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            mode_t want = rows[i].want;
            struct stat st;

            if (t == PX_LINK) {
                want = px_make(PX_LINK, "l", 0) == 0 ? mode_of("l") : 0;
                NEED(unlink("l") == 0);
            }
            want |= t == PX_DIR && rows[i].group ? S_ISGID : 0;
            NEED(mkdir("d", 0777) == 0 && chown("d", px_uid(3), px_uid(2)) == 0);
            NEED(chmod("d", rows[i].dir) == 0);
            (void)snprintf(text, sizeof(text), "%s of mode %04o in a directory of mode %04o", name,
                           (unsigned)rows[i].made, (unsigned)rows[i].dir);
            px_become_user(0);
            OK(px_make((enum px_type)t, "d/x", rows[i].made), "%s is made", text);
            px_become_root();
            st = px_stat("d/x");
            EQUAL(st.st_uid, px_uid(0), "%s: its owner is who made it", text);
            EQUAL(st.st_gid, rows[i].group ? px_uid(2) : px_uid(0), "%s: its group", text);
            EQUAL(st.st_mode & BITS, want, "%s: its mode", text);
            NEED(remove("d/x") == 0 && rmdir("d") == 0);
        }
    }
}

/* Who makes a set-group-id program for a group that is not theirs does not get the bit. */
static void made_with_set_group_id(void)
{
    static const struct {
        const char *text;
        mode_t made, want;
        unsigned group;
    } rows[] = {
        {"no member, group may execute", 02755, 0755, 0},
        {"no member, all bits", 06777, 04777, 0},
        {"no member, group may not execute", 02745, 02745, 0},
        {"a member, group may execute", 02755, 02755, 2},
    };

    NEED(mkdir("d", 0777) == 0 && chown("d", px_uid(3), px_uid(2)) == 0 && chmod("d", 02777) == 0);
    (void)umask(0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        px_become(px_uid(0), px_uid(rows[i].group), NULL, 0);
        NEED(px_make(PX_REG, "d/x", rows[i].made) == 0);
        NEED(mknod("d/n", S_IFREG | rows[i].made, 0) == 0);
        NEED(px_make(PX_FIFO, "d/p", rows[i].made) == 0);
        px_become_root();
        EQUAL(mode_of("d/x"), rows[i].want, "open, %s: mode", rows[i].text);
        EQUAL(mode_of("d/n"), rows[i].want, "mknod, %s: mode", rows[i].text);
        EQUAL(mode_of("d/p"), rows[i].want, "FIFO, %s: mode", rows[i].text);
        EQUAL(px_stat("d/x").st_gid, px_uid(2), "open, %s: group", rows[i].text);
        NEED(unlink("d/x") == 0 && unlink("d/n") == 0 && unlink("d/p") == 0);
    }
    NEED(px_make(PX_REG, "d/x", 06777) == 0);
    EQUAL(mode_of("d/x"), 06777, "open, root: mode");
    NEED(mkdir("plain", 0777) == 0 && chmod("plain", 0777) == 0);
    px_become_user(0);
    NEED(px_make(PX_REG, "plain/x", 06777) == 0);
    EQUAL(mode_of("plain/x"), 06777, "open, in a directory without S_ISGID: mode");
    NEED(mkdir("plain/d", 06777) == 0);
    EQUAL(mode_of("plain/d") & 0777, 0777, "mkdir with set-id bits gives the rest");
    px_become_root();
}

static void deep(void)
{
    NEED(mkdir("a", 0777) == 0 && chown("a", 0, px_uid(2)) == 0 && chmod("a", 02777) == 0);
    px_become_user(0);
    NEED(mkdir("a/b", 0755) == 0 && mkdir("a/b/c", 0700) == 0);
    NEED(px_make(PX_REG, "a/b/c/f", 0644) == 0);
    px_become_root();
    EQUAL(px_stat("a/b/c/f").st_gid, px_uid(2), "three directories down the group is the same");
    EQUAL(mode_of("a/b/c"), 02700, "and the bit is there");
    NEED(mkdir("plain", 0777) == 0 && px_make(PX_REG, "plain/f", 0644) == 0);
    NEED(mkdir("plain/d", 0755) == 0);
    NEED(rename("plain/f", "a/f") == 0 && rename("plain/d", "a/d") == 0);
    EQUAL(px_stat("a/f").st_gid, 0, "a file that moves in keeps its group");
    EQUAL(px_stat("a/d").st_gid, 0, "a directory that moves in keeps its group");
    EQUAL(mode_of("a/d"), 0755, "and its mode");
    NEED(px_make(PX_REG, "plain/g", 0644) == 0 && link("plain/g", "a/g") == 0);
    EQUAL(px_stat("a/g").st_gid, 0, "a file that is linked in keeps its group");
    NEED(chmod("a", 0777) == 0 && mkdir("a/e", 0755) == 0 && mkdir("a/b/e", 0755) == 0);
    EQUAL(px_stat("a/e").st_gid, 0, "once the bit is gone new directories have the maker's group");
    EQUAL(mode_of("a/b/e"), 02755, "while those made before hand it down still");
}

/* Two mounts */

static void elsewhere(void)
{
    int fd = make_changed(06777, 1), there;

    NEED(fd >= 0);
    there = open(px_other("f"), O_RDWR);
    NEED(there >= 0 && mode_of(px_other("f")) == 06777);
    px_become_user(0);
    EQUAL(write(there, "x", 1), 1, "a write there");
    px_become_root();
    NEED(fsync(there) == 0);
    EQUAL(mode_of("f"), 0777, "takes the bits, which is seen here");
    NEED(chmod("f", 04777) == 0 && mode_of("f") == 04777);
    px_become_user(0);
    EQUAL(write(there, "y", 1), 1, "a write there, after a chmod here");
    NEED(fsync(there) == 0);
    EQUAL(mode_of("f"), 0777, "takes what the chmod gave");
    px_become_root();
    NEED(chmod("f", 04777) == 0);
    px_become_user(0);
    OK(ftruncate(there, 0), "ftruncate there, after a chmod here");
    EQUAL(mode_of("f"), 0777, "takes it again");
    px_become_root();
    NEED(close(fd) == 0 && close(there) == 0);
    NEED(mkdir("d", 0777) == 0 && chown("d", 0, px_uid(2)) == 0 && chmod("d", 02777) == 0);
    NEED(mkdir(px_other("d/e"), 0755) == 0);
    EQUAL(px_stat("d/e").st_gid, px_uid(2), "a directory made there has the group given here");
    EQUAL(mode_of("d/e"), 02755, "and the bit");
}

const struct px_group px_setid[] = {
    {"changed-by-owner", changed_by_owner, PX_ROOT},
    {"changed-by-member", changed_by_member, PX_ROOT},
    {"changed-by-root", changed_by_root, PX_ROOT},
    {"chown-of-nobody", chown_of_nobody, PX_ROOT},
    {"left-alone", left_alone, PX_ROOT},
    {"hands-down", hands_down, PX_ROOT},
    {"made-with-set-group-id", made_with_set_group_id, PX_ROOT},
    {"deep", deep, PX_ROOT},
    {"elsewhere", elsewhere, PX_TWO | PX_ROOT},
    {NULL, NULL, 0},
};
