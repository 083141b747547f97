/* SPDX-License-Identifier: Apache-2.0 */
/* How a path is resolved: POSIX.1-2024 4.16; path_resolution(7), symlink(7), limits.h(0p). */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int look(const char *path)
{
    struct stat st;

    return stat(path, &st);
}

static int look_no_follow(const char *path)
{
    struct stat st;

    return lstat(path, &st);
}

static int go(const char *path)
{
    return chdir(path);
}

static int change_mode(const char *path)
{
    return chmod(path, 0755);
}

static int change_owner(const char *path)
{
    return chown(path, (uid_t)-1, (gid_t)-1);
}

static int cut(const char *path)
{
    return truncate(path, 0);
}

static int check_access(const char *path)
{
    return access(path, F_OK);
}

static int set_times(const char *path)
{
    return (int)syscall(SYS_utimensat, AT_FDCWD, path, NULL, 0); /* glibc refuses NULL itself */
}

static int list(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* opendir() of NULL crashes */
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    return dir ? closedir(dir) : -1;
}

static int file_system(const char *path)
{
    struct statvfs st;

    return statvfs(path, &st);
}

/* Calls that no other file of claims has. */
static void calls(void)
{
    static const struct {
        const char *name;
        int (*call)(const char *path);
    } rows[] = {
        {"stat", look},           {"lstat", look_no_follow}, {"chdir", go},
        {"chmod", change_mode},   {"chown", change_owner},   {"truncate", cut},
        {"access", check_access}, {"utimensat", set_times},  {"opendir", list},
        {"statvfs", file_system},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        px_bad_paths(rows[i].name, rows[i].call);
        FAILS(rows[i].call("none"), ENOENT, "%s: what is not there", rows[i].name);
    }
}

/* A slash behind a name: it has to be a directory, and a link is followed. */
static void slashes(void)
{
    static const struct {
        const char *name;
        int (*call)(const char *path);
        int directory; /* error for one */
    } rows[] = {
        {"stat", look, 0},           {"lstat", look_no_follow, 0}, {"chdir", go, 0},
        {"chmod", change_mode, 0},   {"chown", change_owner, 0},   {"truncate", cut, EISDIR},
        {"access", check_access, 0}, {"utimensat", set_times, 0},  {"opendir", list, 0},
    };
    int top = open(".", O_PATH);

    NEED(top >= 0 && px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    NEED(symlink("f", "to-f") == 0 && symlink("d", "to-d") == 0 && symlink("none", "l") == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const char *const paths[] = {"d/", "d//", "d/.", "to-d/", ".//d/", "d/../d/"};

        for (size_t j = 0; j < COUNT(paths); j++) {
            EQUAL(rows[i].call(paths[j]) ? errno : 0, rows[i].directory, "%s of %s", rows[i].name,
                  paths[j]);
            NEED(fchdir(top) == 0);
        }
        FAILS(rows[i].call("f/"), ENOTDIR, "%s of a file and a slash", rows[i].name);
        FAILS(rows[i].call("to-f/"), ENOTDIR, "%s of a link to a file and a slash", rows[i].name);
        FAILS(rows[i].call("l/"), ENOENT, "%s of a link to nowhere and a slash", rows[i].name);
        FAILS(rows[i].call("none/"), ENOENT, "%s of what is not there and a slash", rows[i].name);
    }
    NEED(close(top) == 0);
}

static void dots(void)
{
    ino_t top = px_ino(".");

    NEED(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && symlink("a/b", "l") == 0);
    EQUAL(px_ino("./a/./b/../../a"), px_ino("a"), "dots lead where they say");
    EQUAL(px_ino("a/b/../.."), top, "two dots twice");
    EQUAL(px_ino("l/.."), px_ino("a"), "two dots behind a link: the parent of where it leads");
    EQUAL(px_ino("l/."), px_ino("a/b"), "a dot behind a link");
    EQUAL(px_ino("a//b///.."), px_ino("a"), "several slashes are one");
    EQUAL(px_ino("/.."), px_ino("/"), "the root is its own parent");
    FAILS(look("a/none/.."), ENOENT, "two dots behind what is not there");
    NEED(px_make(PX_REG, "...", 0644) == 0 && px_make(PX_REG, "..f", 0644) == 0);
    NEED(px_make(PX_REG, ".f", 0644) == 0);
    CLAIM(px_exists("...") && px_exists("..f") && px_exists(".f"),
          "other names may begin with dots");
    NEED(rename("a/b", "b") == 0);
    EQUAL(px_ino("b/.."), top, "two dots in a directory that was moved");
    NEED(chdir("b") == 0 && rename("../b", "../a/b") == 0);
    EQUAL(px_ino(".."), px_ino("../../a"), "and in the working directory");
}

/* Names */

static void every_byte(void)
{
    char name[8];
    int n = 0;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    for (int byte = 1; byte < 256; byte++) {
        int fd;

        if (byte == '/') {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%c", byte);
        if (byte == '.') {
            (void)snprintf(name, sizeof(name), "x.");
        }
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (OK(fd, "a name of the byte %02x", byte) >= 0) {
            NEED(close(fd) == 0);
            n++;
        }
    }
    EQUAL(px_count("."), n, "each of them is another name");
    for (int byte = 1; byte < 256; byte++) {
        if (byte != '/' && byte != '.') {
            (void)snprintf(name, sizeof(name), "%c", byte);
            EQUAL(unlink(name), 0, "the name of the byte %02x is found", byte);
        }
    }
}

static void spelling(void)
{
    static const char *const pairs[][2] = {
        {"a", "A"},
        {"\xc3\xa4", "a\xcc\x88"},    /* one letter, composed and not */
        {"\xe2\x84\xab", "\xc3\x85"}, /* Angstrom and A with a ring */
        {"x", "x "},
        {"y", "y."},
        {"\xff\xfe", "\xff"},         /* no UTF-8 */
        {"\xc0\xaf", "\xed\xa0\x80"}, /* overlong, a surrogate */
        {"con", "nul"},
        {"z\n", "z\r"},
    };

    for (size_t i = 0; i < COUNT(pairs); i++) {
        NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
        NEED(px_make(PX_REG, pairs[i][0], 0644) == 0);
        CLAIM(!px_exists(pairs[i][1]), "names that look alike are two: pair %zu", i);
        EQUAL(px_make(PX_REG, pairs[i][1], 0644), 0, "both are made: pair %zu", i);
        EQUAL(px_count("."), 2, "both are listed: pair %zu", i);
        EQUAL(unlink(pairs[i][0]), 0, "one is taken away: pair %zu", i);
        CLAIM(px_exists(pairs[i][1]), "the other stays: pair %zu", i);
        NEED(unlink(pairs[i][1]) == 0 && chdir("..") == 0 && rmdir("d") == 0);
    }
}

static void name_lengths(void)
{
    static const size_t lens[] = {1, 2, 8, 16, 31, 63, 64, 127, 128, 200, 254, PX_NAME_MAX};

    for (size_t i = 0; i < COUNT(lens); i++) {
        const char *name = px_long_name('n', lens[i]);

        EQUAL(px_make(PX_REG, name, 0644), 0, "a file with a name of %zu bytes", lens[i]);
        CLAIM(px_exists(name), "is found by the name of %zu bytes", lens[i]);
        EQUAL(px_count("."), 1, "and listed by the name of %zu bytes", lens[i]);
        NEED(unlink(name) == 0);
    }
    EQUAL(px_make(PX_DIR, px_long_name('\xff', PX_NAME_MAX), 0755), 0,
          "a directory of 255 bytes that are no text");
    EQUAL(pathconf(".", _PC_NAME_MAX), PX_NAME_MAX, "pathconf says what a name may have");
}

/* Two names that differ in their last byte only, at the greatest length. */
static void long_and_alike(void)
{
    char a[PX_NAME_MAX + 1], b[PX_NAME_MAX + 1];

    (void)snprintf(a, sizeof(a), "%s", px_long_name('n', PX_NAME_MAX));
    (void)snprintf(b, sizeof(b), "%s", px_long_name('n', PX_NAME_MAX));
    b[PX_NAME_MAX - 1] = 'm';
    NEED(px_write_file(a, "a", 1) == 0);
    CLAIM(!px_exists(b), "a name that differs in its last byte is not there");
    NEED(px_write_file(b, "bb", 2) == 0);
    CLAIM(px_stat(a).st_size == 1 && px_stat(b).st_size == 2,
          "both names have a file of their own");
    EQUAL(rename(a, b), 0, "one of them replaces the other");
    CLAIM(!px_exists(a) && px_stat(b).st_size == 1, "and is what is left");
}

/* Paths */

/* A path of @len bytes to "f" in the working directory, by way of "./". */
static void path_of(char *path, size_t len)
{
    size_t at = 0;

    while (len - at > 1) {
        path[at++] = '.';
        path[at++] = '/';
        if (len - at == 2) {
            path[at++] = '/';
        }
    }
    path[at++] = 'f';
    path[at] = 0;
}

static void path_lengths(void)
{
    static const size_t lens[] = {255, 256, 1023, 1024, 2048, 4094, PATH_MAX - 1};
    char path[PATH_MAX + 16];

    NEED(px_write_file("f", "text", 4) == 0);
    for (size_t i = 0; i < COUNT(lens); i++) {
        path_of(path, lens[i]);
        NEED(strlen(path) == lens[i]);
        EQUAL(look(path), 0, "a path of %zu bytes", lens[i]);
    }
    path_of(path, PATH_MAX);
    FAILS(look(path), ENAMETOOLONG, "a path of PATH_MAX bytes without its NUL");
    FAILS(look(px_long_name('x', PATH_MAX + 100)), ENAMETOOLONG, "a name longer than any path");
}

#define DEEP 100

/* Deeper than a path can say, step by step: by chdir down, by openat, and by .. up. */
static void deep(void)
{
    int top = open(".", O_PATH), at = dup(top);
    const char *name = px_long_name('d', 200);
    char path[PATH_MAX];
    int made = 0, gone = 0;
    struct stat st;

    NEED(top >= 0 && at >= 0);
    for (int i = 0; i < DEEP; i++) {
        made += mkdir(name, 0755) == 0 && chdir(name) == 0;
    }
    EQUAL(made, DEEP, "a chain of directories of 20,000 bytes");
    EQUAL(px_write_file("f", "text", 4), 0, "a file at its end");
    EQUAL(px_stat("f").st_size, 4, "which is found there");
    FAILS(getcwd(path, sizeof(path)) ? 0 : -1, ERANGE, "the path there is longer than PATH_MAX");
    NEED(fchdir(top) == 0);
    for (int i = 0; i < DEEP; i++) {
        int next = openat(at, name, O_PATH | O_DIRECTORY);

        NEED(next >= 0 && close(at) == 0);
        at = next;
    }
    EQUAL(faccessat(at, "f", F_OK, 0), 0, "openat comes to its end");
    EQUAL(unlinkat(at, "f", 0), 0, "where the file is taken away");
    NEED(fchdir(at) == 0);
    for (int i = 0; i < DEEP; i++) {
        gone += chdir("..") == 0 && rmdir(name) == 0;
    }
    EQUAL(gone, DEEP, "all of them are removed on the way up");
    NEED(fstat(top, &st) == 0);
    EQUAL(px_ino("."), st.st_ino, "which ends where it began");
    NEED(close(at) == 0 && close(top) == 0);
}

/* Links on the way */

static void chains(void)
{
    char from[16], to[16];

    NEED(px_write_file("f", "text", 4) == 0 && mkdir("d", 0755) == 0);
    NEED(px_make(PX_REG, "d/f", 0644) == 0 && symlink("f", "l1") == 0 && symlink("d", "k1") == 0);
    for (int i = 2; i <= 41; i++) {
        (void)snprintf(from, sizeof(from), "l%d", i - 1);
        (void)snprintf(to, sizeof(to), "l%d", i);
        NEED(symlink(from, to) == 0);
        from[0] = to[0] = 'k';
        NEED(symlink(from, to) == 0);
    }
    EQUAL(look("l8"), 0, "eight links in a row: SYMLOOP_MAX of POSIX");
    EQUAL(look("l40"), 0, "forty links in a row");
    FAILS(look("l41"), ELOOP, "forty-one links in a row");
    EQUAL(look("k40/f"), 0, "forty links to a directory in the way");
    FAILS(look("k41/f"), ELOOP, "forty-one links to a directory in the way");
    FAILS(look("k20/../k21/f"), ELOOP, "all links of a path count together");
    EQUAL(look("k20/../k20/f"), 0, "so that twice twenty may be");
    EQUAL(look_no_follow("l41"), 0, "the last is not followed by lstat");
    NEED(symlink("b", "a") == 0 && symlink("a", "b") == 0 && symlink("c/x", "c") == 0);
    FAILS(look("a"), ELOOP, "two links that lead to each other");
    FAILS(look("c"), ELOOP, "a link that leads below itself");
    FAILS(look("a/x"), ELOOP, "two links that lead to each other, in the way");
    EQUAL(unlink("a"), 0, "a link of a loop is unlinked");
}

/* Rights */

/* a/b/c/f: search at each level, as each class; reading is not needed, and does not help. */
static void search(void)
{
    static const char *const levels[] = {"a", "a/b", "a/b/c"};
    static const struct {
        const char *who;
        unsigned user, shift;
    } rows[] = {{"owner", 0, 6}, {"group", 1, 3}, {"others", 2, 0}};

    for (size_t i = 0; i < COUNT(levels); i++) {
        NEED(mkdir(levels[i], 0711) == 0 && chmod(levels[i], 0711) == 0);
        NEED(chown(levels[i], px_uid(0), px_uid(1)) == 0);
    }
    NEED(px_make(PX_REG, "a/b/c/f", 0666) == 0 && chmod("a/b/c/f", 0666) == 0);
    for (size_t level = 0; level < COUNT(levels); level++) {
        for (size_t i = 0; i < COUNT(rows); i++) {
            for (unsigned rights = 0; rights < 8; rights++) {
                unsigned others = 0777u & ~(7u << rows[i].shift) & ~(rights * 0111u);

                NEED(chmod(levels[level], others | rights << rows[i].shift) == 0);
                px_become(px_uid(rows[i].user), px_uid(rows[i].user), NULL, 0);
                EQUAL(look("a/b/c/f") ? errno : 0, rights & 1 ? 0 : EACCES,
                      "%s: rights %o of %s on the way to a file", levels[level], rights,
                      rows[i].who);
                px_become_root();
            }
        }
        NEED(chmod(levels[level], 0711) == 0);
    }
}

static void search_calls(void)
{
    int d;

    NEED(mkdir("d", 0755) == 0 && px_write_file("d/f", "text", 4) == 0 && chmod("d", 0744) == 0);
    NEED(chmod("d/f", 0777) == 0 && symlink("d/f", "l") == 0 && mkdir("d/e", 0777) == 0);
    NEED(chown("d/f", px_uid(0), px_uid(0)) == 0 && chown("d/e", px_uid(0), px_uid(0)) == 0);
    d = open("d", O_RDONLY);
    NEED(d >= 0);
    px_become_user(0);
    FAILS(look("d/f"), EACCES, "stat");
    FAILS(look_no_follow("d/f"), EACCES, "lstat");
    FAILS(look("l"), EACCES, "stat of a link into it");
    FAILS(look("d/none"), EACCES, "stat of what is not in it: that is not told");
    FAILS(change_mode("d/f"), EACCES, "chmod of one's own file");
    FAILS(change_owner("d/f"), EACCES, "chown of one's own file");
    FAILS(cut("d/f"), EACCES, "truncate");
    FAILS(set_times("d/f"), EACCES, "utimensat");
    FAILS(open("d/f", O_RDONLY), EACCES, "open");
    FAILS(faccessat(AT_FDCWD, "d/f", F_OK, AT_EACCESS), EACCES, "access");
    FAILS(go("d/e"), EACCES, "chdir to one's own directory");
    FAILS(go("d"), EACCES, "chdir to it");
    FAILS(look("d/."), EACCES, "its .");
    FAILS(look("d/.."), EACCES, "its ..");
    EQUAL(look("d"), 0, "stat of itself is allowed");
    EQUAL(px_count("d"), 2, "who may read it sees the names");
    FAILS(fstatat(d, "f", &(struct stat){0}, 0), EACCES, "by a descriptor that root has opened");
    FAILS(fchdir(d), EACCES, "fchdir by that");
    px_become_root();
    EQUAL(look("d/f"), 0, "root searches everywhere");
    NEED(chmod("d", 0711) == 0);
    px_become_user(0);
    EQUAL(look("d/f"), 0, "who may search finds what is in it");
    FAILS(px_count("d"), EACCES, "but does not read the names");
    EQUAL(go("d"), 0, "and may go there");
    px_become_root();
    NEED(chmod(".", 0700) == 0);
    px_become_user(0);
    FAILS(look("f"), EACCES, "the right to search the working directory, taken away");
    px_become_root();
    NEED(close(d) == 0);
}

/* Two mounts */

static void seen_elsewhere(void)
{
    int d;

    NEED(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && px_write_file("a/b/f", "x", 1) == 0);
    d = open("a/b", O_PATH);
    NEED(d >= 0 && rename(px_other("a"), px_other("z")) == 0);
    FAILS(look("a/b/f"), ENOENT, "a directory of the path was renamed there");
    EQUAL(look("z/b/f"), 0, "its new name leads on");
    EQUAL(faccessat(d, "f", F_OK, 0), 0, "and so does a descriptor below it");
    NEED(symlink("z/b", px_other("l")) == 0);
    EQUAL(look("l/f"), 0, "a link made there leads on");
    NEED(unlink(px_other("l")) == 0 && symlink("nowhere", px_other("l")) == 0);
    FAILS(look("l/f"), ENOENT, "until it leads elsewhere");
    NEED(rename(px_other("z/b/f"), px_other("f")) == 0 && rmdir(px_other("z/b")) == 0);
    NEED(px_write_file(px_other("z/b"), "", 0) == 0);
    FAILS(look("z/b/f"), ENOTDIR, "a directory of the path became a file there");
    NEED(close(d) == 0);
}

static void search_elsewhere(void)
{
    NEED(mkdir("a", 0755) == 0 && px_make(PX_REG, "a/f", 0644) == 0);
    px_become_user(0);
    EQUAL(look("a/f"), 0, "a file in a directory that all may search");
    px_become_root();
    NEED(chmod(px_other("a"), 0700) == 0);
    px_become_user(0);
    FAILS(look("a/f"), EACCES, "the right taken away there counts here at once");
    px_become_root();
    NEED(chown(px_other("a"), px_uid(0), 0) == 0);
    px_become_user(0);
    EQUAL(look("a/f"), 0, "and so does its new owner");
    px_become_root();
}

const struct px_group px_path[] = {
    {"calls", calls, 0},
    {"slashes", slashes, 0},
    {"dots", dots, 0},
    {"every-byte", every_byte, 0},
    {"spelling", spelling, 0},
    {"name-lengths", name_lengths, 0},
    {"long-and-alike", long_and_alike, 0},
    {"path-lengths", path_lengths, 0},
    {"deep", deep, 0},
    {"chains", chains, 0},
    {"search", search, PX_ROOT},
    {"search-calls", search_calls, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"search-elsewhere", search_elsewhere, PX_TWO | PX_ROOT},
    {NULL, NULL, 0},
};
