/* SPDX-License-Identifier: Apache-2.0 */
/* rename(), renameat2(): POSIX.1-2024 rename; rename(2). */
#include <stdlib.h>
#include <string.h>

#include "tests/posix/posix.h"

#define RENAME_NOREPLACE_ 1u
#define RENAME_EXCHANGE_  2u
#define RENAME_WHITEOUT_  4u

static int rename2(const char *from, const char *to, unsigned flags)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

/* Every type onto every type: who replaces what, and what is left when nobody does. */

static int want_error(enum px_type from, enum px_type to)
{
    if (from == PX_DIR && to != PX_DIR) {
        return ENOTDIR;
    }
    return from != PX_DIR && to == PX_DIR ? EISDIR : 0;
}

static void one_onto_another(enum px_type from, enum px_type to)
{
    const char *what = px_type_name(from), *onto = px_type_name(to);
    int error = want_error(from, to);
    ino_t ino, old;

    NEED(px_make(from, "from", 0755) == 0 && px_make(to, "to", 0755) == 0);
    ino = px_ino("from");
    old = px_ino("to");
    if (error) {
        FAILS(rename("from", "to"), error, "%s renamed onto a %s", what, onto);
        EQUAL(px_ino("from"), ino, "%s refused by a %s keeps its name", what, onto);
        EQUAL(px_ino("to"), old, "%s that refused a %s is there", onto, what);
        NEED(remove("from") == 0);
    } else {
        OK(rename("from", "to"), "%s replaces a %s", what, onto);
        CLAIM(!px_exists("from"), "%s that replaced a %s has no old name", what, onto);
        EQUAL(px_ino("to"), ino, "%s that replaced a %s is what the name leads to", what, onto);
    }
    NEED(remove("to") == 0);
}

static void replaces(void)
{
    for (int from = 0; from < px_type_count(); from++) {
        for (int to = 0; to < px_type_count(); to++) {
            one_onto_another((enum px_type)from, (enum px_type)to);
        }
    }
}

static void moves(void)
{
    NEED(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        const char *name = px_type_name(type);
        struct stat before, after;

        NEED(px_make(type, "d/a", 0751) == 0);
        before = px_stat("d/a");
        OK(rename("d/a", "d/b"), "%s gets another name", name);
        CLAIM(!px_exists("d/a"), "%s has lost its old name", name);
        OK(rename("d/b", "e/a"), "%s goes to another directory", name);
        CLAIM(!px_exists("d/b"), "%s has left its directory", name);
        after = px_stat("e/a");
        EQUAL(after.st_ino, before.st_ino, "%s is the same inode after two renames", name);
        EQUAL(after.st_mode, before.st_mode, "%s keeps its mode", name);
        EQUAL(after.st_nlink, before.st_nlink, "%s keeps its number of links", name);
        EQUAL(after.st_mtim.tv_sec * 1000000000LL + after.st_mtim.tv_nsec,
              before.st_mtim.tv_sec * 1000000000LL + before.st_mtim.tv_nsec,
              "%s keeps the time of its last change of contents", name);
        OK(rename("e/a", "e/a"), "%s onto itself", name);
        CLAIM(px_exists("e/a"), "%s renamed onto itself is there", name);
        NEED(remove("e/a") == 0);
    }
}

static void hard_links(void)
{
    struct stat st;

    NEED(px_make(PX_REG, "a", 0644) == 0 && link("a", "b") == 0);
    OK(rename("a", "b"), "two names of one file: nothing is done");
    CLAIM(px_exists("a") && px_exists("b"), "both names of one file are there");
    EQUAL(px_stat("a").st_nlink, 2, "and it has two links");
    NEED(px_make(PX_REG, "c", 0644) == 0);
    OK(rename("c", "b"), "one of two names is replaced");
    EQUAL(px_stat("a").st_nlink, 1, "the file whose name was replaced has one link less");
    st = px_stat("b");
    EQUAL(st.st_nlink, 1, "the file that replaced it has one");
}

static void replaced_while_open(void)
{
    char text[8] = "";
    struct stat st;
    int fd;

    NEED(px_write_file("old", "old", 3) == 0 && px_write_file("new", "new", 3) == 0);
    fd = open("old", O_RDWR);
    NEED(fd >= 0);
    OK(rename("new", "old"), "a file is replaced while it is open");
    EQUAL(pread(fd, text, sizeof(text), 0), 3,
          "the replaced file is read through what has it open");
    CLAIM(memcmp(text, "old", 3) == 0, "and has its own bytes");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_nlink, 0, "it has no links");
    EQUAL(pwrite(fd, "more", 4, 3), 4, "it can be written");
    EQUAL(pread(fd, text, sizeof(text), 0), 7, "and holds what was written");
    NEED(close(fd) == 0);
}

static void directories(void)
{
    nlink_t top = px_stat(".").st_nlink;

    NEED(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && mkdir("a/b/c", 0755) == 0);
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("full", 0755) == 0);
    NEED(px_make(PX_REG, "full/x", 0644) == 0 && mkdir("empty", 0755) == 0);
    FAILS(rename("a", "a/b"), EINVAL, "a directory into itself");
    FAILS(rename("a", "a/b/c/d"), EINVAL, "a directory into what is below it");
    FAILS(rename("a/b/c", "a"), ENOTEMPTY, "a directory onto one that it is in");
    FAILS(rename("empty", "full"), ENOTEMPTY, "a directory onto one that is not empty");
    CLAIM(px_exists("empty") && px_exists("full/x"), "after which both are as they were");
    OK(rename("full", "empty"), "a full directory replaces an empty one");
    CLAIM(px_exists("empty/x") && !px_exists("full"), "with what is in it");
    EQUAL(px_stat(".").st_nlink, top + 2, "the parent counts one directory less");
    OK(rename("a/b", "b"), "a directory moves up");
    EQUAL(px_stat("a").st_nlink, 2, "its old parent has lost a link");
    EQUAL(px_ino("b/.."), px_ino("."), "its .. leads to the new parent");
    OK(rename("b", "a/b"), "and back");
    EQUAL(px_stat("a").st_nlink, 3, "which gains the link again");
    EQUAL(px_ino("a/b/.."), px_ino("a"), "its .. leads back");
}

static void bad_paths(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    NEED(symlink("loop", "loop") == 0 && symlink("f", "to-f") == 0 && symlink("d", "to-d") == 0);
    FAILS(rename("none", "x"), ENOENT, "the old name does not exist");
    FAILS(rename("", "x"), ENOENT, "the old name is empty");
    FAILS(rename("f", ""), ENOENT, "the new name is empty");
    FAILS(rename("none/f", "x"), ENOENT, "a directory of the old path does not exist");
    FAILS(rename("f", "none/x"), ENOENT, "a directory of the new path does not exist");
    FAILS(rename("f/x", "x"), ENOTDIR, "a part of the old path is a file");
    FAILS(rename("f", "f/x"), ENOTDIR, "a part of the new path is a file");
    FAILS(rename("loop/x", "x"), ELOOP, "a part of the old path is a loop");
    FAILS(rename("f", "loop/x"), ELOOP, "a part of the new path is a loop");
    FAILS(rename("f/", "x"), ENOTDIR, "a file's old name with a slash behind it");
    FAILS(rename("f", "x/"), ENOTDIR, "a file's new name with a slash behind it");
    OK(rename("d/", "e/"), "a directory's names may have slashes behind them");
    NEED(rename("e", "d") == 0);
    FAILS(rename(".", "x"), EBUSY, "the old name is .");
    FAILS(rename("d/..", "x"), EBUSY, "the old name is ..");
    FAILS(rename("d", "."), EBUSY, "the new name is .");
    FAILS(rename("d", "d/.."), EBUSY, "the new name is ..");
    FAILS(rename(px_long_name('n', PX_NAME_MAX + 1), "x"), ENAMETOOLONG,
          "the old name has 256 bytes");
    FAILS(rename("f", px_long_name('n', PX_NAME_MAX + 1)), ENAMETOOLONG,
          "the new name has 256 bytes");
    OK(rename("f", px_long_name('n', PX_NAME_MAX)), "the new name has 255 bytes");
    OK(rename(px_long_name('n', PX_NAME_MAX), "f"), "the old name has 255 bytes");
    FAILS(rename(px_long_name('/', 4096), "x"), ENAMETOOLONG, "the old path has 4,096 bytes");
    FAILS(rename("f", px_long_name('/', 4096)), ENAMETOOLONG, "the new path has 4,096 bytes");
    FAILS(rename(NULL, "x"), EFAULT, "the old path is no address");
    FAILS(rename("f", NULL), EFAULT, "the new path is no address");
    OK(rename("to-f", "t"), "a link itself is renamed");
    EQUAL(px_stat("t").st_mode & S_IFMT, S_IFLNK, "and is a link still");
    CLAIM(px_exists("f"), "what it leads to stays");
    OK(rename("f", "t"), "a link itself is replaced");
    EQUAL(px_stat("t").st_mode & S_IFMT, S_IFREG, "by the file");
}

static void at_directories(void)
{
    int d, e, f;

    NEED(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    e = open("e", O_PATH | O_DIRECTORY);
    f = open("d/f", O_RDONLY);
    NEED(d >= 0 && e >= 0 && f >= 0);
    OK(renameat(d, "f", e, "g"), "from one open directory to another");
    CLAIM(px_exists("e/g") && !px_exists("d/f"), "and there it is");
    OK(renameat(e, "g", AT_FDCWD, "h"), "to the working directory");
    FAILS(renameat(-1, "f", e, "g"), EBADF, "the old directory is not open");
    FAILS(renameat(AT_FDCWD, "h", -1, "g"), EBADF, "the new directory is not open");
    FAILS(renameat(f, "f", e, "g"), ENOTDIR, "the old directory is a file");
    FAILS(renameat(AT_FDCWD, "h", f, "g"), ENOTDIR, "the new directory is a file");
    NEED(rmdir("d") == 0);
    FAILS(renameat(AT_FDCWD, "h", d, "g"), ENOENT, "the new directory was removed");
    NEED(close(d) == 0 && close(e) == 0 && close(f) == 0);
}

/* Flags */

static void noreplace(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        const char *name = px_type_name(type);

        NEED(px_make(type, "a", 0755) == 0);
        OK(rename2("a", "b", RENAME_NOREPLACE_), "NOREPLACE: %s to a free name", name);
        for (int j = 0; j < px_type_count(); j++) {
            NEED(px_make((enum px_type)j, "c", 0755) == 0);
            FAILS(rename2("b", "c", RENAME_NOREPLACE_), EEXIST, "NOREPLACE: %s onto a %s", name,
                  px_type_name((enum px_type)j));
            NEED(remove("c") == 0);
        }
        FAILS(rename2("b", "b", RENAME_NOREPLACE_), EEXIST, "NOREPLACE: %s onto itself", name);
        NEED(remove("b") == 0);
    }
}

static void exchange(void)
{
    NEED(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    for (int i = 0; i < px_type_count(); i++) {
        for (int j = 0; j < px_type_count(); j++) {
            const char *a = px_type_name((enum px_type)i), *b = px_type_name((enum px_type)j);
            ino_t one, other;

            NEED(px_make((enum px_type)i, "d/a", 0755) == 0);
            NEED(px_make((enum px_type)j, "e/b", 0755) == 0);
            one = px_ino("d/a");
            other = px_ino("e/b");
            OK(rename2("d/a", "e/b", RENAME_EXCHANGE_), "EXCHANGE: %s and %s", a, b);
            EQUAL(px_ino("e/b"), one, "EXCHANGE: %s is where the %s was", a, b);
            EQUAL(px_ino("d/a"), other, "EXCHANGE: %s is where the %s had been", b, a);
            EQUAL(px_stat("d").st_nlink, 2 + (j == PX_DIR),
                  "EXCHANGE: links of the directory that a %s left for a %s", a, b);
            NEED(remove("d/a") == 0 && remove("e/b") == 0);
        }
    }
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d/in", 0755) == 0);
    FAILS(rename2("f", "none", RENAME_EXCHANGE_), ENOENT, "EXCHANGE: the new name does not exist");
    FAILS(rename2("none", "f", RENAME_EXCHANGE_), ENOENT, "EXCHANGE: the old name does not exist");
    FAILS(rename2("d", "d/in", RENAME_EXCHANGE_), EINVAL, "EXCHANGE: a directory and one in it");
    FAILS(rename2("d/in", "d", RENAME_EXCHANGE_), EINVAL, "EXCHANGE: a directory and one it is in");
    OK(rename2("f", "f", RENAME_EXCHANGE_), "EXCHANGE: a file with itself");
    OK(rename2("d", "e", RENAME_EXCHANGE_), "EXCHANGE: a full directory and an empty one");
    CLAIM(px_exists("e/in"), "EXCHANGE: what is in a directory goes along");
}

static void bad_flags(void)
{
    NEED(px_make(PX_REG, "a", 0644) == 0 && px_make(PX_REG, "b", 0644) == 0);
    FAILS(rename2("a", "b", RENAME_NOREPLACE_ | RENAME_EXCHANGE_), EINVAL,
          "NOREPLACE and EXCHANGE exclude each other");
    FAILS(rename2("a", "b", RENAME_WHITEOUT_ | RENAME_EXCHANGE_), EINVAL,
          "WHITEOUT and EXCHANGE exclude each other");
    FAILS(rename2("a", "b", 1u << 20), EINVAL, "an unknown flag");
    CLAIM(px_exists("a") && px_exists("b"), "after which both are there");
}

/* Times */

static void times(void)
{
    struct stat d, e, f, g;

    NEED(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    NEED(px_make(PX_REG, "e/g", 0644) == 0 && link("e/g", "g") == 0);
    d = px_stat("d");
    e = px_stat("e");
    f = px_stat("d/f");
    g = px_stat("g");
    px_tick();
    NEED(rename("d/f", "e/g") == 0);
    CLAIM(px_later(px_stat("d").st_mtim, d.st_mtim), "the old directory's mtime moves on");
    CLAIM(px_later(px_stat("d").st_ctim, d.st_ctim), "the old directory's ctime moves on");
    CLAIM(px_later(px_stat("e").st_mtim, e.st_mtim), "the new directory's mtime moves on");
    CLAIM(px_later(px_stat("e").st_ctim, e.st_ctim), "the new directory's ctime moves on");
    CLAIM(px_later(px_stat("e/g").st_ctim, f.st_ctim), "the file's ctime moves on");
    CLAIM(!px_later(px_stat("e/g").st_mtim, f.st_mtim), "the file's mtime stays");
    CLAIM(px_later(px_stat("g").st_ctim, g.st_ctim), "the replaced file's ctime moves on");
    d = px_stat("d");
    px_tick();
    NEED(rename("d/none", "d/x") == -1);
    CLAIM(!px_later(px_stat("d").st_mtim, d.st_mtim), "a rename that fails changes no time");
}

/* Rights */

static void needs_write_and_search(void)
{
    NEED(mkdir("from", 0777) == 0 && mkdir("to", 0777) == 0);
    NEED(chown("from", px_uid(0), px_uid(0)) == 0 && chown("to", px_uid(0), px_uid(0)) == 0);
    for (unsigned rights = 0; rights < 8; rights++) {
        bool may = (rights & 3) == 3;

        NEED(px_make(PX_REG, "from/f", 0644) == 0);
        NEED(chmod("from", rights << 6) == 0 && chmod("to", 0700) == 0);
        px_become_user(0);
        if (may) {
            OK(rename("from/f", "to/f"), "out of a directory with rights %o", rights);
        } else {
            FAILS(rename("from/f", "to/f"), EACCES, "out of a directory with rights %o", rights);
        }
        px_become_root();
        NEED(may || rename("from/f", "to/f") == 0);
        NEED(chmod("to", rights << 6) == 0 && chmod("from", 0700) == 0);
        NEED(rename("to/f", "from/f") == 0);
        px_become_user(0);
        if (may) {
            OK(rename("from/f", "to/f"), "into a directory with rights %o", rights);
        } else {
            FAILS(rename("from/f", "to/f"), EACCES, "into a directory with rights %o", rights);
        }
        px_become_root();
        NEED(remove(may ? "to/f" : "from/f") == 0);
        NEED(mkdir("from/d", 0755) == 0 && chown("from/d", px_uid(0), px_uid(0)) == 0);
        NEED(chmod("from/d", rights << 6) == 0 && chmod("to", 0700) == 0);
        px_become_user(0);
        if (rights & 2) { /* its .. changes */
            OK(rename("from/d", "to/d"), "a directory of one's own with rights %o moves", rights);
        } else {
            FAILS(rename("from/d", "to/d"), EACCES, "a directory of one's own with rights %o moves",
                  rights);
        }
        px_become_root();
        NEED(rmdir(rights & 2 ? "to/d" : "from/d") == 0);
    }
}

/* A sticky directory: who owns the file, or the directory, or is root, may take the name away. */
static void sticky(void)
{
    static const struct {
        unsigned dir, file;
        bool may;
    } rows[] = {{0, 0, true}, {0, 1, true}, {1, 0, true}, {1, 1, false}};

    NEED(mkdir("plain", 0777) == 0 && chmod("plain", 0777) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int type = 0; type < PX_TYPES; type++) {
            const char *name = px_type_name((enum px_type)type);
            char text[128];

            (void)snprintf(text, sizeof(text), "%s of %s in a sticky directory of %s", name,
                           rows[i].file ? "another" : "one's own",
                           rows[i].dir ? "another" : "one's own");
            NEED(mkdir("s", 0777) == 0 && px_make((enum px_type)type, "s/x", 0777) == 0);
            NEED(lchown("s/x", px_uid(rows[i].file), px_uid(rows[i].file)) == 0);
            NEED(chown("s", px_uid(rows[i].dir), px_uid(rows[i].dir)) == 0);
            NEED(chmod("s", 01777) == 0);
            px_become_user(0);
            NEED(px_make(type == PX_DIR ? PX_DIR : PX_REG, "plain/mine", 0755) == 0);
            if (rows[i].may) {
                OK(rename("plain/mine", "s/x"), "%s is replaced", text);
                OK(rename("s/x", "plain/mine"), "what replaced a %s moves out", text);
            } else {
                FAILS(rename("plain/mine", "s/x"), EPERM, "%s is replaced", text);
                if (type == PX_DIR) { /* of another: its .. may not change either */
                    CLAIM(rename("s/x", "plain/y") == -1 && (errno == EPERM || errno == EACCES),
                          "%s moves out", text);
                } else {
                    FAILS(rename("s/x", "plain/y"), EPERM, "%s moves out", text);
                }
            }
            px_become_root();
            (void)remove("s/x");
            NEED(remove("plain/mine") == 0 && rmdir("s") == 0);
        }
    }
    NEED(mkdir("s", 01777) == 0 && chmod("s", 01777) == 0 && px_make(PX_REG, "s/x", 0600) == 0);
    NEED(chown("s/x", px_uid(1), px_uid(1)) == 0 && chown("s", px_uid(2), px_uid(2)) == 0);
    OK(rename("s/x", "s/y"), "root in a sticky directory");
}

/* Two mounts */

static void seen_elsewhere(void)
{
    char *bytes;
    int fd;

    NEED(px_write_file("a", "first", 5) == 0);
    CLAIM(px_exists(px_other("a")), "a file is seen through the other mount");
    OK(rename("a", "b"), "it is renamed here");
    CLAIM(!px_exists(px_other("a")), "the old name is gone there");
    CLAIM(px_exists(px_other("b")), "the new one is there");
    NEED(px_write_file(px_other("c"), "second", 6) == 0);
    fd = open("b", O_RDONLY);
    NEED(fd >= 0);
    OK(rename(px_other("c"), px_other("b")), "it is replaced there");
    bytes = px_read_file("b", NULL);
    CLAIM(bytes && strcmp(bytes, "second") == 0, "the name leads to the new file here");
    free(bytes);
    bytes = calloc(1, 16);
    NEED(bytes != NULL);
    EQUAL(read(fd, bytes, 16), 5, "who has the replaced one open here reads it");
    CLAIM(strcmp(bytes, "first") == 0, "and its bytes");
    free(bytes);
    NEED(close(fd) == 0);
    NEED(mkdir("d", 0755) == 0 && mkdir(px_other("d/e"), 0755) == 0);
    FAILS(rename("d", "d/e/f"), EINVAL, "a directory into what was made in it there");
    NEED(px_write_file(px_other("full"), "", 0) == 0 && mkdir("x", 0755) == 0);
    NEED(px_write_file(px_other("x/f"), "", 0) == 0 && mkdir("y", 0755) == 0);
    FAILS(rename("y", "x"), ENOTEMPTY, "onto a directory that was filled there");
    FAILS(rename2("y", "full", RENAME_NOREPLACE_), EEXIST, "NOREPLACE sees what was made there");
    NEED(remove(px_other("x/f")) == 0);
    OK(rename("y", "x"), "onto a directory that was emptied there");
}

const struct px_group px_rename[] = {
    {"replaces", replaces, 0},
    {"moves", moves, 0},
    {"hard-links", hard_links, 0},
    {"replaced-while-open", replaced_while_open, 0},
    {"directories", directories, 0},
    {"bad-paths", bad_paths, 0},
    {"at-directories", at_directories, 0},
    {"noreplace", noreplace, 0},
    {"exchange", exchange, 0},
    {"bad-flags", bad_flags, 0},
    {"times", times, 0},
    {"needs-write-and-search", needs_write_and_search, PX_ROOT},
    {"sticky", sticky, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
