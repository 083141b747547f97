/* SPDX-License-Identifier: Apache-2.0 */
/* mkdir(), mkdirat(): POSIX.1-2024 mkdir; mkdir(2). */
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int make(const char *path)
{
    return mkdir(path, 0755);
}

static void makes(void)
{
    struct stat before = px_stat("."), st, after;

    px_tick();
    OK(mkdir("d", 0751), "a directory is made");
    st = px_stat("d");
    after = px_stat(".");
    EQUAL(st.st_mode, S_IFDIR | 0751, "it is a directory of that mode");
    EQUAL(st.st_nlink, 2, "it has two links");
    EQUAL(st.st_uid, geteuid(), "it is its maker's");
    EQUAL(px_count("d"), 0, "it is empty");
    EQUAL(px_ino("d/."), st.st_ino, "its . leads to it");
    EQUAL(px_ino("d/.."), before.st_ino, "its .. leads to its parent");
    EQUAL(after.st_nlink, before.st_nlink + 1, "its parent has a link more");
    CLAIM(px_later(after.st_mtim, before.st_mtim), "its parent's mtime moves on");
    CLAIM(px_later(after.st_ctim, before.st_ctim), "its parent's ctime moves on");
    CLAIM(px_later(st.st_mtim, before.st_mtim) && px_later(st.st_ctim, before.st_ctim) &&
              px_later(st.st_atim, before.st_atim),
          "its own times are those of its making");
    OK(mkdir("d/d", 0755), "one in it");
    EQUAL(px_stat("d").st_nlink, 3, "it has a link for that");
    OK(mkdir("d/d/d", 0755), "one in that");
    EQUAL(px_stat("d").st_nlink, 3, "it has none for what is deeper");
    EQUAL(px_ino("d/d/d/../.."), st.st_ino, ".. twice leads up twice");
    NEED(px_make(PX_REG, "d/f", 0644) == 0);
    EQUAL(px_stat("d").st_nlink, 3, "it has none for a file");
}

static void masks(void)
{
    static const mode_t masks[] = {0, 022, 027, 077, 0111, 0777};
    static const mode_t modes[] = {0777, 0755, 0700, 0421, 01777, 0};

    for (size_t i = 0; i < COUNT(masks); i++) {
        for (size_t j = 0; j < COUNT(modes); j++) {
            (void)umask(masks[i]);
            NEED(mkdir("d", modes[j]) == 0);
            EQUAL(px_stat("d").st_mode & 07777, modes[j] & ~masks[i],
                  "a directory of mode %04o under umask %04o", modes[j], masks[i]);
            NEED(rmdir("d") == 0);
        }
    }
}

static void names(void)
{
    px_bad_paths("mkdir", make);
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat before;

        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        before = px_stat("x");
        FAILS(make("x"), EEXIST, "the name is that of a %s", name);
        EQUAL(px_ino("x"), before.st_ino, "the %s keeps it", name);
        EQUAL(px_stat("x").st_mode, before.st_mode, "the %s keeps its mode", name);
        NEED(remove("x") == 0);
    }
    NEED(make("d") == 0 && px_make(PX_REG, "f", 0644) == 0 && symlink("d", "to-d") == 0);
    NEED(symlink("new", "dangling") == 0);
    OK(make("slash/"), "a new name and a slash");
    OK(make("slashes//"), "a new name and two slashes");
    FAILS(make("f/"), EEXIST, "a file's name and a slash");
    FAILS(make("d/"), EEXIST, "a directory's name and a slash");
    FAILS(make("."), EEXIST, "the name .");
    FAILS(make(".."), EEXIST, "the name ..");
    FAILS(make("d/."), EEXIST, "a directory's .");
    FAILS(make("new/."), ENOENT, "the . of what is not there");
    FAILS(make("/"), EEXIST, "the root");
    FAILS(make("dangling"), EEXIST, "a link to nowhere");
    CLAIM(!px_exists("new"), "which makes nothing where it leads");
    OK(make("to-d/e"), "a link in the way");
    CLAIM(px_exists("d/e"), "is followed");
    OK(make(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
    FAILS(make(px_long_name('n', PX_NAME_MAX)), EEXIST, "the same once more");
    EQUAL(px_stat(".").st_nlink, 2 + 4, "what failed is not counted in the parent's links");
}

static void at_directories(void)
{
    struct stat st;
    int d, f;

    NEED(make("d") == 0 && px_make(PX_REG, "f", 0644) == 0);
    d = open("d", O_PATH);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0);
    OK(mkdirat(d, "x", 0755), "mkdirat in an open directory");
    CLAIM(px_exists("d/x"), "and there it is");
    FAILS(mkdirat(-1, "x", 0755), EBADF, "mkdirat in a directory that is not open");
    FAILS(mkdirat(f, "x", 0755), ENOTDIR, "mkdirat in a file");
    NEED(rename("d", "e") == 0);
    OK(mkdirat(d, "y", 0755), "mkdirat in an open directory that was renamed");
    CLAIM(px_exists("e/y"), "which is there by its new name");
    NEED(rmdir("e/x") == 0 && rmdir("e/y") == 0 && rmdir("e") == 0);
    FAILS(mkdirat(d, "x", 0755), ENOENT, "mkdirat in a removed directory");
    NEED(make("d") == 0 && chdir("d") == 0 && rmdir("../d") == 0);
    FAILS(make("x"), ENOENT, "mkdir in a removed working directory");
    EQUAL(stat(".", &st), 0, "which is there for stat");
    EQUAL(st.st_nlink, 0, "and has no links");
    NEED(close(d) == 0 && close(f) == 0);
}

#define MANY 400

static void many(void)
{
    int made = 0, gone = 0;
    char name[32];

    NEED(make("d") == 0);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "d/%d", i);
        made += make(name) == 0;
    }
    EQUAL(made, MANY, "many directories in one");
    EQUAL(px_stat("d").st_nlink, MANY + 2, "each is a link to it");
    EQUAL(px_count("d"), MANY, "and listed in it");
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "d/%d", i);
        gone += rmdir(name) == 0;
    }
    EQUAL(gone, MANY, "all of them are removed");
    EQUAL(px_stat("d").st_nlink, 2, "and none counts any more");
}

/* Rights */

static void rights(void)
{
    struct stat st;

    px_needs_write("mkdir", NULL, make);
    NEED(mkdir("plain", 0777) == 0 && chmod("plain", 0777) == 0);
    px_become(px_uid(0), px_uid(1), NULL, 0);
    NEED(mkdir("plain/d", 0) == 0);
    st = px_stat("plain/d");
    EQUAL(st.st_uid, px_uid(0), "a directory belongs to the effective user");
    EQUAL(st.st_gid, px_uid(1), "a directory belongs to the effective group");
    FAILS(make("plain/d/e"), EACCES, "its mode counts for who made it");
    OK(chmod("plain/d", 0700), "who may change it");
    OK(make("plain/d/e"), "and then make one in it");
    px_become_root();
}

/* A set-group-ID directory hands on its group, and the bit to directories. */
static void set_group(void)
{
    struct stat st;

    NEED(mkdir("s", 0777) == 0 && chown("s", px_uid(2), px_uid(3)) == 0);
    NEED(chmod("s", 02777) == 0);
    px_become_user(0);
    NEED(mkdir("s/d", 0755) == 0 && mkdir("s/d/e", 0700) == 0);
    st = px_stat("s/d");
    EQUAL(st.st_uid, px_uid(0), "set-group-ID: a directory in it is its maker's");
    EQUAL(st.st_gid, px_uid(3), "set-group-ID: but of its group");
    EQUAL(st.st_mode & 07777, 02755, "set-group-ID: and has the bit");
    st = px_stat("s/d/e");
    EQUAL(st.st_gid, px_uid(3), "set-group-ID: one in that is of the group, too");
    EQUAL(st.st_mode & 07777, 02700, "set-group-ID: and has the bit, too");
    px_become_root();
    NEED(chmod("s", 01777) == 0);
    px_become_user(0);
    NEED(mkdir("s/plain", 0755) == 0);
    EQUAL(px_stat("s/plain").st_gid, px_uid(0),
          "without the bit a directory is of its maker's group");
    EQUAL(px_stat("s/plain").st_mode & 07777, 0755, "the sticky bit is not handed on");
    px_become_root();
}

/* Two mounts */

static void seen_elsewhere(void)
{
    OK(make(px_other("d")), "the other mount makes a directory");
    FAILS(make("d"), EEXIST, "whose name is taken here");
    EQUAL(px_stat(".").st_nlink, 3, "which is counted here");
    OK(make("d/e"), "and can be used here");
    EQUAL(px_count(px_other("d")), 1, "what is made in it here is listed there");
    EQUAL(px_ino(px_other("d/e/..")), px_ino("d"), "and its .. leads back there");
    NEED(rmdir(px_other("d/e")) == 0 && rmdir("d") == 0);
    FAILS(make(px_other("d/e")), ENOENT, "in a directory that was removed here");
    NEED(make("a") == 0 && make("b") == 0 && make("a/x") == 0);
    NEED(rename(px_other("a/x"), px_other("b/x")) == 0);
    EQUAL(px_ino("b/x/.."), px_ino("b"), "one that was moved there has its new parent here");
    FAILS(make("a/x/y"), ENOENT, "and is not to be found by its old one");
    OK(make("b/x/y"), "but by that");
}

#define RACES 60

static int race(void *arg)
{
    int won = 0;

    (void)arg;
    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        won += make(px_other(name)) == 0;
    }
    return won;
}

/* mkdir as a lock: from two mounts at once, one has it. */
static void one_wins(void)
{
    int won = 0, status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(race(NULL));
    }
    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        won += make(name) == 0;
    }
    NEED(pid > 0 && wait(&status) == pid && WIFEXITED(status));
    EQUAL(won + WEXITSTATUS(status), RACES, "one name from two mounts: one makes it");
    EQUAL(px_stat(".").st_nlink, RACES + 2, "and each is counted once");
}

const struct px_group px_mkdir[] = {
    {"makes", makes, 0},
    {"masks", masks, 0},
    {"names", names, 0},
    {"at-directories", at_directories, 0},
    {"many", many, 0},
    {"rights", rights, PX_ROOT},
    {"set-group", set_group, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"one-wins", one_wins, PX_TWO},
    {NULL, NULL, 0},
};
