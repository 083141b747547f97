/* SPDX-License-Identifier: Apache-2.0 */
/* symlink(), symlinkat(), readlink(): POSIX.1-2024 symlink, readlink; symlink(2), readlink(2). */
#include <stdlib.h>
#include <string.h>

#include "tests/posix/posix.h"

#define TARGET_MAX 4095

static int make_link(const char *path)
{
    return symlink("target", path);
}

static int read_link(const char *path)
{
    char text[16];

    return readlink(path, text, sizeof(text)) < 0 ? -1 : 0;
}

static bool leads_to(const char *path, const char *target)
{
    char text[TARGET_MAX + 2];
    ssize_t n = readlink(path, text, sizeof(text));

    return n == (ssize_t)strlen(target) && memcmp(text, target, (size_t)n) == 0;
}

/* Targets: any text is kept, byte by byte. */

static void lengths(void)
{
    static const size_t lens[] = {1,    2,    59,   60,   61,   127,  128,  255,       256,
                                  1000, 1023, 1024, 2047, 2048, 4000, 4094, TARGET_MAX};

    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        const char *target = px_long_name('t', lens[i]);

        if (OK(symlink(target, "l"), "a target of %zu bytes", lens[i])) {
            continue;
        }
        CLAIM(leads_to("l", target), "a target of %zu bytes is read", lens[i]);
        EQUAL(px_stat("l").st_size, lens[i], "a link's size is its target's: %zu", lens[i]);
        NEED(unlink("l") == 0);
    }
    FAILS(symlink(px_long_name('t', TARGET_MAX + 1), "l"), ENAMETOOLONG, "a target of 4,096 bytes");
    FAILS(symlink("", "l"), ENOENT, "an empty target");
    FAILS(symlink(px_nowhere(), "l"), EFAULT, "a target that is no address");
    CLAIM(!px_exists("l"), "of which none was made");
}

static void targets(void)
{
    static const char *const rows[] = {
        "none",        "/",      "//",        "/none/such",      "..",       ".",        "./",
        "../../../..", "a/../b", "trailing/", "slashes//in//it", " ",        "\n",       "\\",
        "-",           "\"'",    "*?[",       "\x01\x7f",        "\xff\xfe", "\xc3\xa4",
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        NEED(symlink(rows[i], "l") == 0);
        CLAIM(leads_to("l", rows[i]), "the target of row %zu is kept as it is", i);
        NEED(unlink("l") == 0);
    }
    for (unsigned byte = 1; byte < 256; byte++) {
        const char *target = px_long_name((char)byte, 3);

        NEED(symlink(target, "l") == 0);
        CLAIM(leads_to("l", target), "the byte %02x in a target", byte);
        NEED(unlink("l") == 0);
    }
}

static void attributes(void)
{
    struct stat st, target;

    NEED(px_make(PX_REG, "f", 0640) == 0);
    target = px_stat("f");
    (void)umask(077);
    OK(symlink("f", "l"), "a link to a file");
    st = px_stat("l");
    EQUAL(st.st_mode, S_IFLNK | 0777, "a link's mode does not depend on the umask");
    EQUAL(st.st_nlink, 1, "a link has one link");
    EQUAL(st.st_uid, geteuid(), "a link is its maker's");
    CLAIM(st.st_ino != target.st_ino, "a link has an inode of its own");
    EQUAL(px_stat("f").st_nlink, 1, "what it leads to does not count it");
    NEED(stat("l", &st) == 0);
    EQUAL(st.st_ino, target.st_ino, "stat follows it");
    OK(chmod("l", 0600), "chmod follows it");
    EQUAL(px_stat("f").st_mode & 07777, 0600, "to the file's mode");
    EQUAL(px_stat("l").st_mode, S_IFLNK | 0777, "the link's stays");
    FAILS(fchmodat(AT_FDCWD, "l", 0700, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP,
          "a link's own mode cannot be changed");
    OK(utimensat(AT_FDCWD, "l", (struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 2}},
                 AT_SYMLINK_NOFOLLOW),
       "a link's own times are set");
    EQUAL(px_stat("l").st_mtim.tv_sec, 2, "and kept");
    EQUAL(px_stat("f").st_mtim.tv_sec, target.st_mtim.tv_sec, "the file keeps its own");
    OK(truncate("l", 10), "truncate follows it");
    EQUAL(px_stat("f").st_size, 10, "to the file's size");
    EQUAL(px_stat("l").st_size, 1, "the link's is that of its target");
}

/* readlink */

static void reads(void)
{
    char text[16];
    int fd, f;

    NEED(symlink("target", "l") == 0 && mkdir("d", 0755) == 0 && symlink("l", "d/m") == 0);
    memset(text, '#', sizeof(text));
    EQUAL(readlink("l", text, sizeof(text)), 6, "readlink returns the length");
    CLAIM(memcmp(text, "target#", 7) == 0, "readlink writes no terminating NUL");
    memset(text, '#', sizeof(text));
    EQUAL(readlink("l", text, 3), 3, "readlink into a short buffer");
    CLAIM(memcmp(text, "tar#", 4) == 0, "readlink writes no more than there is room for");
    EQUAL(readlink("l", text, 6), 6, "readlink into a buffer that just suffices");
    FAILS(readlink("l", text, 0), EINVAL, "readlink into no buffer");
    FAILS(readlink("l", px_nowhere(), 6), EFAULT, "readlink into no address");
    FAILS(readlink("l/", text, 6), ENOENT, "readlink of a link to nowhere and a slash");
    FAILS(readlink("none", text, 6), ENOENT, "readlink of what is not there");
    px_bad_paths("readlink", read_link);
    for (int i = 0; i < px_type_count(); i++) {
        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        if (i != PX_LINK) {
            FAILS(readlink("x", text, 6), EINVAL, "readlink of a %s",
                  px_type_name((enum px_type)i));
        }
        NEED(remove("x") == 0);
    }
    fd = open("d", O_RDONLY);
    NEED(fd >= 0 && px_make(PX_REG, "f", 0644) == 0);
    EQUAL(readlinkat(fd, "m", text, sizeof(text)), 1, "readlinkat in an open directory");
    FAILS(readlinkat(-1, "m", text, 6), EBADF, "readlinkat: a directory that is not open");
    f = open("f", O_RDONLY);
    NEED(f >= 0);
    FAILS(readlinkat(f, "m", text, 6), ENOTDIR, "readlinkat: a directory that is a file");
    FAILS(readlinkat(f, "", text, 6), ENOENT, "readlinkat: an empty path of a file");
    NEED(close(fd) == 0 && close(f) == 0);
    fd = open("l", O_PATH | O_NOFOLLOW);
    NEED(fd >= 0 && unlink("l") == 0);
    EQUAL(readlinkat(fd, "", text, sizeof(text)), 6, "a link that is open and unlinked is read");
    NEED(close(fd) == 0 && symlink("another", "l") == 0 && rename("d/m", "l") == 0);
    NEED(symlink("another", "m") == 0);
    fd = open("m", O_PATH | O_NOFOLLOW);
    NEED(fd >= 0 && rename("l", "m") == 0);
    EQUAL(readlinkat(fd, "", text, sizeof(text)), 7,
          "a link that is open and was replaced is read");
    CLAIM(memcmp(text, "another", 7) == 0, "and leads to where it led");
    NEED(close(fd) == 0);
}

/* symlink: names */

static void names(void)
{
    int d, f;

    px_bad_paths("symlink", make_link);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        ino_t ino;

        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        ino = px_ino("x");
        FAILS(make_link("x"), EEXIST, "the name is that of a %s", name);
        EQUAL(px_ino("x"), ino, "the %s keeps it", name);
        NEED(remove("x") == 0);
    }
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    FAILS(make_link("new/"), ENOENT, "a new name and a slash");
    FAILS(make_link("d/"), EEXIST, "a directory's name and a slash");
    FAILS(make_link("."), EEXIST, "the name .");
    FAILS(make_link("d/.."), EEXIST, "the name ..");
    OK(make_link(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
    d = open("d", O_PATH);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0);
    OK(symlinkat("t", d, "l"), "symlinkat in an open directory");
    CLAIM(leads_to("d/l", "t"), "and there it is");
    FAILS(symlinkat("t", -1, "l"), EBADF, "symlinkat in a directory that is not open");
    FAILS(symlinkat("t", f, "l"), ENOTDIR, "symlinkat in a file");
    NEED(unlink("d/l") == 0 && rmdir("d") == 0);
    FAILS(symlinkat("t", d, "l"), ENOENT, "symlinkat in a removed directory");
    NEED(close(d) == 0 && close(f) == 0);
}

/* Where links lead */

static void follows(void)
{
    char path[4096 + 16];
    size_t len = 0;

    NEED(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && px_write_file("d/f", "text", 4) == 0);
    NEED(getcwd(path, 4096) != NULL);
    len = strlen(path);
    NEED(symlink("../f", "d/e/up") == 0);
    EQUAL(access("d/e/up", F_OK), 0, "a target without a slash before it begins where the link is");
    (void)snprintf(path + len, sizeof(path) - len, "/d/f");
    NEED(symlink(path, "d/e/root") == 0);
    EQUAL(access("d/e/root", F_OK), 0, "a target from the root");
    NEED(symlink("late", "early") == 0);
    FAILS(access("early", F_OK), ENOENT, "a target that is not there yet");
    NEED(px_make(PX_REG, "late", 0644) == 0);
    EQUAL(access("early", F_OK), 0, "and then is");
    NEED(rename("d/e/up", "up") == 0);
    FAILS(access("up", F_OK), ENOENT, "a link that was moved leads from its new place");
    NEED(symlink("d/", "slash") == 0 && symlink("d/f/", "file-slash") == 0);
    EQUAL(access("slash/f", F_OK), 0, "a target of a directory and a slash");
    FAILS(access("file-slash", F_OK), ENOTDIR, "a target of a file and a slash");
    NEED(symlink("d/f", "to-f") == 0 && symlink("d", "to-d") == 0);
    FAILS(access("to-f/", F_OK), ENOTDIR, "a link to a file and a slash");
    FAILS(access("to-f/x", F_OK), ENOTDIR, "a link to a file in the way");
    FAILS(mkdir("early", 0755), EEXIST, "mkdir does not follow a link");
    NEED(unlink("late") == 0);
    FAILS(mkdir("early", 0755), EEXIST, "mkdir does not follow a link to nowhere");
    FAILS(rmdir("to-d"), ENOTDIR, "rmdir does not follow a link");
    NEED(symlink("to-d", "two") == 0 && symlink("two", "three") == 0);
    EQUAL(access("three/f", F_OK), 0, "a link to a link to a link");
    NEED(unlink("to-d") == 0 && symlink("d/e", "to-d") == 0);
    FAILS(access("three/f", F_OK), ENOENT, "a link made anew leads elsewhere");
    EQUAL(access("three/root", F_OK), 0, "by way of those that lead to it");
}

static void times(void)
{
    struct stat d, l;

    NEED(mkdir("d", 0755) == 0);
    d = px_stat("d");
    px_tick();
    NEED(make_link("d/l") == 0);
    CLAIM(px_later(px_stat("d").st_mtim, d.st_mtim), "the directory's mtime moves on");
    CLAIM(px_later(px_stat("d").st_ctim, d.st_ctim), "the directory's ctime moves on");
    l = px_stat("d/l");
    CLAIM(px_later(l.st_mtim, d.st_mtim) && px_later(l.st_ctim, d.st_ctim),
          "the link's own times are those of its making");
    d = px_stat("d");
    px_tick();
    NEED(make_link("d/l") == -1);
    CLAIM(!px_later(px_stat("d").st_mtim, d.st_mtim), "a symlink that fails changes no time");
    NEED(read_link("d/l") == 0);
    CLAIM(!px_later(px_stat("d/l").st_ctim, l.st_ctim), "readlink leaves the link's ctime");
}

/* Rights */

static void rights(void)
{
    struct stat st;

    px_needs_write("symlink", NULL, make_link);
    NEED(mkdir("d", 0755) == 0 && mkdir("hidden", 0700) == 0);
    NEED(px_make(PX_REG, "hidden/f", 0666) == 0 && symlink("../hidden/f", "d/l") == 0);
    px_become_user(0);
    OK(read_link("d/l"), "readlink of a link of another");
    FAILS(stat("d/l", &st), EACCES, "following it needs to search where it leads");
    px_become_root();
    NEED(chmod("d", 0766) == 0);
    px_become_user(0);
    FAILS(read_link("d/l"), EACCES, "readlink needs to search the directory");
    px_become_root();
    NEED(chmod("d", 0777) == 0);
    px_become(px_uid(0), px_uid(1), NULL, 0);
    NEED(make_link("d/mine") == 0);
    EQUAL(px_stat("d/mine").st_uid, px_uid(0), "a link belongs to the effective user");
    EQUAL(px_stat("d/mine").st_gid, px_uid(1), "a link belongs to the effective group");
    px_become_root();
    OK(lchown("d/mine", px_uid(2), px_uid(3)), "lchown changes the link's owner");
    CLAIM(px_stat("d/mine").st_uid == px_uid(2) && px_stat("d/mine").st_gid == px_uid(3),
          "which it then has");
    EQUAL(px_stat("d/mine").st_mode, S_IFLNK | 0777, "and its mode stays");
}

/* Two mounts */

static void seen_elsewhere(void)
{
    NEED(symlink("first", "l") == 0);
    CLAIM(leads_to(px_other("l"), "first"), "a link is read through the other mount");
    FAILS(make_link(px_other("l")), EEXIST, "its name is taken there");
    NEED(unlink(px_other("l")) == 0 && symlink("second", px_other("l")) == 0);
    CLAIM(leads_to("l", "second"), "a link made anew there is the new one here");
    NEED(symlink("third", "m") == 0 && rename(px_other("m"), px_other("l")) == 0);
    CLAIM(leads_to("l", "third"), "and so is one that replaced it by rename");
    NEED(px_write_file(px_other("third"), "text", 4) == 0);
    EQUAL(access("l", F_OK), 0, "it leads to what was made there");
    NEED(unlink(px_other("third")) == 0);
    FAILS(access("l", F_OK), ENOENT, "and to nothing when that is gone");
    NEED(unlink(px_other("l")) == 0 && mkdir(px_other("l"), 0755) == 0);
    FAILS(read_link("l"), EINVAL, "a link that became a directory there is one here");
}

const struct px_group px_symlink[] = {
    {"lengths", lengths, 0},
    {"targets", targets, 0},
    {"attributes", attributes, 0},
    {"reads", reads, 0},
    {"names", names, 0},
    {"follows", follows, 0},
    {"times", times, 0},
    {"rights", rights, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
