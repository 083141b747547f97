/* SPDX-License-Identifier: Apache-2.0 */
/* chmod(), fchmod(), fchmodat(): POSIX.1-2024 chmod, fchmodat; chmod(2). */
#include <stdlib.h>
#include <string.h>

#include "tests/posix/posix.h"

#define ALL 07777u

static mode_t mode_of(const char *path)
{
    return px_stat(path).st_mode & ALL;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Modes */

static const mode_t modes[] = {0,     0001,  0002,  0004,  0010,  0020,  0040,  0100,
                               0200,  0400,  0777,  0644,  01000, 02000, 04000, 07777,
                               01777, 02755, 04755, 06711, 03070, 05707};

static void each_mode(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;

        if (type == PX_LINK) {
            continue;
        }
        NEED(px_make(type, "x", 0600) == 0);
        for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
            NEED(chmod("x", modes[m]) == 0);
            EQUAL(px_stat("x").st_mode, px_type_mode(type) | modes[m],
                  "%s: chmod %04o gives just these bits", px_type_name(type), (unsigned)modes[m]);
        }
        NEED(remove("x") == 0);
    }
    NEED(px_make(PX_REG, "x", 0600) == 0);
    NEED(chmod("x", S_IFDIR | 0640) == 0);
    EQUAL(px_stat("x").st_mode, S_IFREG | 0640, "a type in the mode is ignored");
    (void)umask(077);
    NEED(chmod("x", 0666) == 0);
    EQUAL(mode_of("x"), 0666, "the umask takes nothing from it");
}

static void through_descriptors(void)
{
    int fd = open("f", O_CREAT | O_WRONLY, 0600), path;
    struct stat st;

    NEED(fd >= 0 && mkdir("d", 0700) == 0);
    OK(fchmod(fd, 0751), "fchmod of a file open for writing");
    EQUAL(mode_of("f"), 0751, "the file has the mode that fchmod gave it");
    NEED(close(fd) == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0);
    OK(fchmod(fd, 0640), "fchmod of a file open for reading");
    EQUAL(mode_of("f"), 0640, "reading is enough for fchmod");
    path = open("f", O_PATH);
    NEED(path >= 0);
    FAILS(fchmod(path, 0600), EBADF, "fchmod of an O_PATH descriptor");
    NEED(close(path) == 0 && unlink("f") == 0);
    OK(fchmod(fd, 0604), "fchmod of a file that has no name");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_mode, S_IFREG | 0604, "the file without a name has the mode");
    NEED(close(fd) == 0);
    FAILS(fchmod(fd, 0600), EBADF, "fchmod of a closed descriptor");
    FAILS(fchmod(-1, 0600), EBADF, "fchmod of -1");
    fd = open("d", O_RDONLY | O_DIRECTORY);
    NEED(fd >= 0);
    OK(fchmod(fd, 01775), "fchmod of a directory");
    EQUAL(mode_of("d"), 01775, "the directory has the mode that fchmod gave it");
    NEED(close(fd) == 0);
}

static void links(void)
{
    mode_t link_mode;

    NEED(px_make(PX_REG, "f", 0600) == 0 && symlink("f", "l") == 0 && symlink("l", "ll") == 0);
    link_mode = px_stat("l").st_mode;
    OK(chmod("ll", 0644), "chmod follows links");
    EQUAL(mode_of("f"), 0644, "to the file at their end");
    EQUAL(px_stat("l").st_mode, link_mode, "whose modes stay");
    FAILS(fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP,
          "fchmodat NOFOLLOW of a link");
    EQUAL(mode_of("f"), 0644, "which does nothing to what the link leads to");
    OK(fchmodat(AT_FDCWD, "f", 0601, AT_SYMLINK_NOFOLLOW), "fchmodat NOFOLLOW of a file");
    EQUAL(mode_of("f"), 0601, "NOFOLLOW changes what is no link");
    NEED(link("f", "other") == 0);
    NEED(chmod("other", 0400) == 0);
    EQUAL(mode_of("f"), 0400, "all names of a file have the mode");
    NEED(symlink("none", "dangling") == 0);
    FAILS(chmod("dangling", 0600), ENOENT, "chmod of a link that leads nowhere");
}

static void at_directories(void)
{
    char path[4096];
    int d, f;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0600) == 0 && getcwd(path, 4000));
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("d/f", O_RDONLY);
    NEED(d >= 0 && f >= 0);
    OK(fchmodat(d, "f", 0640, 0), "fchmodat below an open directory");
    EQUAL(mode_of("d/f"), 0640, "the file below the open directory has the mode");
    OK(fchmodat(AT_FDCWD, "d/f", 0641, 0), "fchmodat below the working directory");
    (void)strcat(path, "/d/f");
    OK(fchmodat(-1, path, 0642, 0), "fchmodat of an absolute path needs no directory");
    EQUAL(mode_of("d/f"), 0642, "the absolute path was the one");
    FAILS(fchmodat(-1, "f", 0600, 0), EBADF, "fchmodat: the directory is not open");
    FAILS(fchmodat(f, "f", 0600, 0), ENOTDIR, "fchmodat: the directory is a file");
    FAILS(fchmodat(d, "f", 0600, 0x40000), EINVAL, "fchmodat: an unknown flag");
    NEED(unlink("d/f") == 0 && rmdir("d") == 0);
    FAILS(fchmodat(d, "f", 0600, 0), ENOENT, "fchmodat: the directory was removed");
    NEED(close(d) == 0 && close(f) == 0);
}

static void bad_paths(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("loop", "loop") == 0);
    FAILS(chmod("none", 0600), ENOENT, "no such file");
    FAILS(chmod("", 0600), ENOENT, "an empty path");
    FAILS(chmod("none/f", 0600), ENOENT, "no such directory");
    FAILS(chmod("f/x", 0600), ENOTDIR, "a part of the path is a file");
    FAILS(chmod("f/", 0600), ENOTDIR, "a file with a slash behind it");
    FAILS(chmod("loop", 0600), ELOOP, "a loop");
    FAILS(chmod(px_long_name('n', PX_NAME_MAX + 1), 0600), ENAMETOOLONG, "a name of 256 bytes");
    FAILS(chmod(px_long_name('/', 4096), 0600), ENAMETOOLONG, "a path of 4,096 bytes");
    FAILS(chmod(px_nowhere(), 0600), EFAULT, "no address");
    NEED(px_make(PX_REG, px_long_name('n', PX_NAME_MAX), 0600) == 0);
    OK(chmod(px_long_name('n', PX_NAME_MAX), 0640), "a name of 255 bytes");
    OK(chmod("./././/f", 0600), "a path with dots and slashes");
}

static void keeps_the_rest(void)
{
    struct stat a, b;

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        if (i == PX_LINK) {
            continue;
        }
        NEED(px_make((enum px_type)i, "x", 0644) == 0);
        a = px_stat("x");
        px_tick();
        NEED(chmod("x", 0700) == 0);
        b = px_stat("x");
        CLAIM(!same_time(a.st_ctim, b.st_ctim), "%s: ctime moves on", name);
        CLAIM(same_time(a.st_mtim, b.st_mtim), "%s: mtime stays", name);
        CLAIM(same_time(a.st_atim, b.st_atim), "%s: atime stays", name);
        CLAIM(a.st_ino == b.st_ino && a.st_nlink == b.st_nlink && a.st_uid == b.st_uid &&
                  a.st_gid == b.st_gid && a.st_rdev == b.st_rdev,
              "%s: inode, links, owner, group and device stay", name);
        NEED(remove("x") == 0);
    }
    NEED(px_write_file("x", "abc", 3) == 0 && chmod("x", 06755) == 0);
    EQUAL(px_stat("x").st_size, 3, "the size stays");
    a = px_stat("x");
    px_tick();
    NEED(chmod("x/", 0600) == -1);
    CLAIM(same_time(a.st_ctim, px_stat("x").st_ctim), "a chmod that fails leaves ctime");
}

/* Rights */

/* Who is neither owner nor root may not, whatever the mode grants. */
static void who_may(void)
{
    static const struct {
        const char *who;
        unsigned user, group;
        int error;
    } rows[] = {{"the owner", 0, 0, 0},
                {"the owner, in another group", 0, 2, 0},
                {"a member of the group", 1, 0, EPERM},
                {"another user", 1, 1, EPERM}};

    for (int i = 0; i < PX_TYPES; i++) {
        const char *name = px_type_name((enum px_type)i);

        if (i == PX_LINK) {
            continue;
        }
        NEED(px_make((enum px_type)i, "x", 0777) == 0);
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
            int error = rows[r].error;

            NEED(chown("x", px_uid(0), px_uid(0)) == 0 && chmod("x", 0777) == 0);
            px_become(px_uid(rows[r].user), px_uid(rows[r].group), NULL, 0);
            GIVES(chmod("x", 0700), error, "chmod of a %s by %s", name, rows[r].who);
            px_become_root();
            EQUAL(mode_of("x"), error ? 0777 : 0700, "mode of a %s after chmod by %s", name,
                  rows[r].who);
        }
        NEED(chmod("x", 0) == 0);
        px_become_user(0);
        OK(chmod("x", 0600), "chmod of one's own %s of mode 0", name);
        px_become_root();
        OK(chmod("x", 0644), "chmod by root of another's %s", name);
        NEED(remove("x") == 0);
    }
}

/* One not in the file's group cannot give S_ISGID: it is left out, the rest is done. */
static void set_group_id(void)
{
    static const enum px_type some[] = {PX_REG, PX_DIR, PX_FIFO};
    const gid_t more[] = {px_uid(2), px_uid(3)};

    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        const char *name = px_type_name(some[i]);

        NEED(px_make(some[i], "x", 0777) == 0 && chown("x", px_uid(0), px_uid(3)) == 0);
        px_become_user(0);
        OK(chmod("x", 02755), "%s of a foreign group: chmod 2755", name);
        EQUAL(mode_of("x"), 0755, "%s of a foreign group: gets no S_ISGID", name);
        OK(chmod("x", 05711), "%s of a foreign group: chmod 5711", name);
        EQUAL(mode_of("x"), 05711, "%s of a foreign group: gets S_ISUID and S_ISVTX", name);
        px_become(px_uid(0), px_uid(3), NULL, 0);
        OK(chmod("x", 02755), "%s of the effective group: chmod 2755", name);
        EQUAL(mode_of("x"), 02755, "%s of the effective group: gets S_ISGID", name);
        px_become(px_uid(0), px_uid(0), more, 2);
        NEED(chmod("x", 0755) == 0);
        OK(chmod("x", 02711), "%s of a supplementary group: chmod 2711", name);
        EQUAL(mode_of("x"), 02711, "%s of a supplementary group: gets S_ISGID", name);
        px_become_root();
        NEED(chmod("x", 06777) == 0);
        EQUAL(mode_of("x"), 06777, "%s: root gives S_ISGID for any group", name);
        NEED(remove("x") == 0);
    }
}

static void needs_search(void)
{
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    NEED(chown("d", px_uid(0), px_uid(0)) == 0 && chown("d/f", px_uid(0), px_uid(0)) == 0);
    for (unsigned rights = 0; rights < 8; rights++) {
        NEED(chmod("d", rights << 6) == 0);
        px_become_user(0);
        GIVES(chmod("d/f", 0600 | rights), rights & 1 ? 0 : EACCES,
              "chmod in a directory with rights %o", rights);
        px_become_root();
    }
}

/* Rights are looked at when a file is opened. */
static void takes_effect(void)
{
    char byte;
    int fd;

    NEED(px_write_file("f", "abc", 3) == 0 && chown("f", px_uid(0), px_uid(0)) == 0);
    NEED(mkdir("d", 0755) == 0 && chown("d", px_uid(0), px_uid(0)) == 0);
    px_become_user(0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    NEED(chmod("f", 0) == 0);
    FAILS(open("f", O_RDONLY), EACCES, "a file is not opened once its mode is 0");
    EQUAL(pwrite(fd, "x", 1, 0), 1, "who has it open for writing goes on");
    EQUAL(pread(fd, &byte, 1, 0), 1, "who has it open for reading goes on");
    OK(ftruncate(fd, 1), "ftruncate goes on");
    NEED(close(fd) == 0);
    NEED(px_make(PX_REG, "d/f", 0644) == 0 && chmod("d", 0400) == 0);
    CLAIM(!px_exists("d/f") && errno == EACCES, "nothing is found in a directory without search");
    EQUAL(px_count("d"), 1, "which is listed still");
    NEED(chmod("d", 0100) == 0);
    CLAIM(px_exists("d/f"), "it is found with search only");
    FAILS(open("d", O_RDONLY), EACCES, "and not listed without read");
    NEED(chmod("d", 0500) == 0);
    FAILS(px_make(PX_REG, "d/new", 0644), EACCES, "nothing is made in it without write");
    FAILS(unlink("d/f"), EACCES, "nor removed");
    NEED(chmod("d", 0700) == 0);
    OK(unlink("d/f"), "until the right is back");
    fd = open("mode-0", O_CREAT | O_RDWR, 0);
    NEED(fd >= 0);
    EQUAL(write(fd, "x", 1), 1, "a file made with mode 0 is written by who made it");
    FAILS(open("mode-0", O_RDWR), EACCES, "and not opened again");
    NEED(close(fd) == 0);
    px_become_root();
}

/* Two mounts */

static void seen_elsewhere(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && px_make(PX_DIR, "d", 0755) == 0);
    NEED(px_stat(px_other("f")).st_ino && px_stat(px_other("d")).st_ino);
    NEED(chmod("f", 04711) == 0);
    EQUAL(mode_of(px_other("f")), 04711, "a file's mode is seen through the other mount");
    NEED(chmod(px_other("d"), 03710) == 0);
    EQUAL(mode_of("d"), 03710, "a directory's mode set there is seen here");
    CLAIM(same_time(px_stat("f").st_ctim, px_stat(px_other("f")).st_ctim),
          "ctime is the same through both");
}

static void obeyed_elsewhere(void)
{
    int fd;

    NEED(px_write_file("f", "abc", 3) == 0 && chmod("f", 0644) == 0);
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    px_become_user(1);
    NEED(access(px_other("f"), F_OK) == 0);
    fd = open(px_other("f"), O_RDONLY);
    OK(fd, "a file is opened there");
    (void)close(fd);
    CLAIM(px_exists(px_other("d/f")), "a name is found there");
    px_become_root();
    NEED(chmod("f", 0600) == 0 && chmod("d", 0700) == 0);
    px_become_user(1);
    FAILS(open(px_other("f"), O_RDONLY), EACCES, "a right taken here is gone there at once");
    CLAIM(!px_exists(px_other("d/f")) && errno == EACCES, "search taken here is gone there");
    px_become_root();
    NEED(chmod(px_other("f"), 0606) == 0);
    px_become_user(1);
    fd = open("f", O_RDWR);
    OK(fd, "a right given there is there here");
    (void)close(fd);
    px_become_root();
}

const struct px_group px_chmod[] = {
    {"each-mode", each_mode, 0},
    {"through-descriptors", through_descriptors, 0},
    {"links", links, 0},
    {"at-directories", at_directories, 0},
    {"bad-paths", bad_paths, 0},
    {"keeps-the-rest", keeps_the_rest, 0},
    {"who-may", who_may, PX_ROOT},
    {"set-group-id", set_group_id, PX_ROOT},
    {"needs-search", needs_search, PX_ROOT},
    {"takes-effect", takes_effect, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"obeyed-elsewhere", obeyed_elsewhere, PX_TWO | PX_ROOT},
    {NULL, NULL, 0},
};
