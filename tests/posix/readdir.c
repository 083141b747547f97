/* SPDX-License-Identifier: Apache-2.0 */
/* opendir(), readdir(), rewinddir(): POSIX.1-2024 fdopendir, readdir, rewinddir; readdir(3). */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LARGE        5000
#define SOME         300

static int list(const char *path)
{
    DIR *dir = opendir(path);

    return dir ? closedir(dir) : -1;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A name is "n" and a number, which may have other bytes behind it. */
static void number_name(char *name, size_t size, int number)
{
    (void)snprintf(name, size, "n%d%.*s", number, number % 60,
                   ".a-name-whose-length-depends-on-its-number-0123456789-and-so");
}

static void make_numbered(int from, int to)
{
    char name[96];

    for (int i = from; i < to; i++) {
        number_name(name, sizeof(name), i);
        NEED(mknod(name, S_IFREG | 0644, 0) == 0);
    }
}

static int number_of(const char *name)
{
    return name[0] == 'n' ? atoi(name + 1) : -1;
}

/* Lists "." from where @dir is; counts each number in @seen; returns how many names. */
static int list_numbers(DIR *dir, unsigned char *seen, int max)
{
    struct dirent *entry;
    int n = 0;

    while ((entry = readdir(dir)) != NULL) {
        int number = number_of(entry->d_name);

        if (number >= 0 && number < max) {
            seen[number]++;
            n++;
        }
    }
    return n;
}

static int not_once(const unsigned char *seen, int from, int to)
{
    int n = 0;

    for (int i = from; i < to; i++) {
        n += seen[i] != 1;
    }
    return n;
}

/* What is listed */

static void types(void)
{
    struct dirent *entry;
    int seen = 0, dots = 0;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0);
    for (int i = 0; i < px_type_count(); i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "d/%d", i);
        NEED(px_make((enum px_type)i, name, 0755) == 0);
    }
    dir = opendir("d");
    NEED(dir && chdir("d") == 0);
    while ((entry = readdir(dir)) != NULL) {
        if (is_dot(entry->d_name)) {
            EQUAL(entry->d_type, DT_DIR, "the type of %s", entry->d_name);
            EQUAL(entry->d_ino, px_ino(entry->d_name), "the inode number of %s", entry->d_name);
            dots++;
        } else {
            const char *name = px_type_name((enum px_type)atoi(entry->d_name));

            EQUAL(DTTOIF(entry->d_type), px_stat(entry->d_name).st_mode & S_IFMT,
                  "the listed type of a %s", name);
            EQUAL(entry->d_ino, px_ino(entry->d_name), "the listed inode number of a %s", name);
            seen++;
        }
    }
    EQUAL(dots, 2, ". and .. are listed");
    EQUAL(seen, px_type_count(), "each name is listed once");
    NEED(closedir(dir) == 0);
}

static void empty(void)
{
    struct dirent *entry;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0);
    EQUAL(px_count("d"), 0, "an empty directory has no names");
    dir = opendir("d");
    NEED(dir != NULL);
    NEED(readdir(dir) && readdir(dir));
    errno = 0;
    entry = readdir(dir);
    CLAIM(!entry && errno == 0, "its end is no error");
    errno = 0;
    entry = readdir(dir);
    CLAIM(!entry && errno == 0, "and stays the end");
    NEED(closedir(dir) == 0);
}

static void links(void)
{
    ino_t inos[2] = {0, 0};
    struct dirent *entry;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/a", 0644) == 0 && link("d/a", "d/b") == 0);
    dir = opendir("d");
    NEED(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (!is_dot(entry->d_name)) {
            inos[entry->d_name[0] == 'b'] = entry->d_ino;
        }
    }
    CLAIM(inos[0] != 0 && inos[0] == inos[1], "two names of a file are listed with one inode");
    NEED(closedir(dir) == 0);
}

static void names(void)
{
    bool seen[256] = {false};
    struct dirent *entry;
    int wrong = 0, n = 0;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    for (int len = 1; len <= PX_NAME_MAX; len++) {
        NEED(px_make(PX_REG, px_long_name((char)('a' + len % 26), (size_t)len), 0644) == 0);
    }
    dir = opendir(".");
    NEED(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (!is_dot(entry->d_name)) {
            wrong += len > PX_NAME_MAX || seen[len] || !px_exists(entry->d_name);
            seen[len] = true;
            n++;
        }
    }
    EQUAL(n, PX_NAME_MAX, "a name of each length is listed");
    EQUAL(wrong, 0, "as it is, and once");
    NEED(closedir(dir) == 0);
}

static void errors(void)
{
    struct dirent *entry;
    int fd;
    DIR *dir;

    for (int i = 0; i < px_type_count(); i++) {
        if (i == PX_DIR) {
            continue;
        }
        NEED(px_make((enum px_type)i, "x", 0755) == 0);
        FAILS(list("x"), i == PX_LINK ? ENOENT : ENOTDIR, "opendir of a %s",
              px_type_name((enum px_type)i));
        NEED(remove("x") == 0);
    }
    NEED(mkdir("d", 0755) == 0 && symlink("d", "l") == 0 && px_make(PX_REG, "f", 0644) == 0);
    EQUAL(list("l"), 0, "opendir of a link to a directory");
    fd = open("f", O_RDONLY);
    NEED(fd >= 0);
    FAILS(fdopendir(fd) ? 0 : -1, ENOTDIR, "fdopendir of a file");
    NEED(close(fd) == 0);
    fd = open("d", O_RDONLY | O_DIRECTORY);
    NEED(fd >= 0);
    FAILS(read(fd, (char[64]){0}, 64), EISDIR, "read of a directory");
    EQUAL(fsync(fd), 0, "fsync of a directory");
    FAILS(ftruncate(fd, 0), EINVAL, "ftruncate of a directory");
    dir = fdopendir(fd);
    NEED(dir && rmdir("d") == 0);
    errno = 0;
    entry = readdir(dir);
    CLAIM(!entry, "a removed directory lists nothing, not even . and ..");
    EQUAL(dirfd(dir), fd, "dirfd is what it was opened with");
    NEED(closedir(dir) == 0);
}

/* Many names */

static void large(void)
{
    static unsigned char seen[LARGE];
    char name[96];
    DIR *dir;
    int gone = 0;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, LARGE);
    dir = opendir(".");
    NEED(dir != NULL);
    EQUAL(list_numbers(dir, seen, LARGE), LARGE, "a large directory lists all its names");
    EQUAL(not_once(seen, 0, LARGE), 0, "and each of them once");
    memset(seen, 0, sizeof(seen));
    rewinddir(dir);
    EQUAL(list_numbers(dir, seen, LARGE), LARGE, "after rewinddir it lists them again");
    EQUAL(not_once(seen, 0, LARGE), 0, "and each of them once again");
    for (int i = 0; i < LARGE; i += 2) {
        number_name(name, sizeof(name), i);
        NEED(unlink(name) == 0);
    }
    memset(seen, 0, sizeof(seen));
    rewinddir(dir);
    EQUAL(list_numbers(dir, seen, LARGE), LARGE / 2, "what was taken away is not listed");
    EQUAL(px_count("."), LARGE / 2, "nor by who opens it now");
    NEED(closedir(dir) == 0);
    for (int i = 1; i < LARGE; i += 2) {
        number_name(name, sizeof(name), i);
        gone += unlink(name) == 0;
    }
    EQUAL(gone, LARGE / 2, "the others are found");
    EQUAL(px_count("."), 0, "and then it is empty");
}

/* rm -r: what is listed is taken away at once; nothing is left out. */
static void removed_while_listed(void)
{
    struct dirent *entry;
    int gone = 0, bad = 0;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, 1000);
    dir = opendir(".");
    NEED(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (!is_dot(entry->d_name)) {
            gone += unlink(entry->d_name) == 0;
            bad += px_exists(entry->d_name);
        }
    }
    EQUAL(gone, 1000, "names taken away while they are listed are listed all the same");
    EQUAL(bad, 0, "and are gone");
    NEED(closedir(dir) == 0 && chdir("..") == 0);
    EQUAL(rmdir("d"), 0, "the directory is empty after one pass");
}

/* What is there all the time is listed once, whatever else comes and goes. */
static void changed_while_listed(void)
{
    static unsigned char seen[3000];
    struct dirent *entry;
    int next = 2000, old = 500, n = 0;
    char name[96];
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, 1000); /* 0 .. 499 stay */
    dir = opendir(".");
    NEED(dir != NULL);
    while ((entry = readdir(dir)) != NULL && n++ < 3000) {
        int number = number_of(entry->d_name);

        if (number >= 0 && number < 3000) {
            seen[number]++;
        }
        if (n % 2 && next < 3000) {
            make_numbered(next, next + 1);
            next++;
        }
        if (n % 2 == 0 && old < 1000) {
            number_name(name, sizeof(name), old++);
            NEED(unlink(name) == 0);
        }
    }
    EQUAL(not_once(seen, 0, 500), 0, "names that stay are listed once while others come and go");
    n = 0;
    for (int i = 500; i < 3000; i++) {
        n += seen[i] > 1;
    }
    EQUAL(n, 0, "names that come or go are listed at most once");
    memset(seen, 0, sizeof(seen));
    rewinddir(dir);
    EQUAL(list_numbers(dir, seen, 3000), 500 + (1000 - old) + (next - 2000),
          "rewinddir: what is there now is listed");
    NEED(closedir(dir) == 0);
}

static void rewinds(void)
{
    unsigned char seen[10] = {0};
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, 3);
    dir = opendir(".");
    NEED(dir && list_numbers(dir, seen, 10) == 3);
    make_numbered(3, 5);
    NEED(unlink("n0") == 0);
    memset(seen, 0, sizeof(seen));
    rewinddir(dir);
    EQUAL(list_numbers(dir, seen, 10), 4, "rewinddir: one name is gone and two have come");
    CLAIM(seen[0] == 0 && seen[3] == 1 && seen[4] == 1, "rewinddir: just those");
    NEED(px_make(PX_DIR, "n0", 0755) == 0);
    memset(seen, 0, sizeof(seen));
    rewinddir(dir);
    EQUAL(list_numbers(dir, seen, 10), 5, "rewinddir: a name that has come back");
    CLAIM(seen[0] == 1, "rewinddir: is listed");
    NEED(closedir(dir) == 0);
}

/* Rights, times */

static void rights(void)
{
    static const struct {
        const char *who;
        unsigned user, shift;
    } rows[] = {{"owner", 0, 6}, {"group", 1, 3}, {"others", 2, 0}};
    DIR *dir;

    NEED(mkdir("d", 0700) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    NEED(chown("d", px_uid(0), px_uid(1)) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (unsigned have = 0; have < 8; have++) {
            unsigned others = 0777u & ~(7u << rows[i].shift) & ~(have * 0111u);

            NEED(chmod("d", others | have << rows[i].shift) == 0);
            px_become(px_uid(rows[i].user), px_uid(rows[i].user), NULL, 0);
            EQUAL(px_count("d") == 1 ? 0 : errno, have & 4 ? 0 : EACCES,
                  "%s with rights %o lists a directory", rows[i].who, have);
            px_become_root();
        }
    }
    NEED(chmod("d", 0700) == 0);
    dir = opendir("d");
    NEED(dir && chmod("d", 0) == 0);
    px_become_user(0);
    CLAIM(readdir(dir) != NULL, "rights count when a directory is opened, not when it is read");
    px_become_root();
    NEED(closedir(dir) == 0);
    EQUAL(px_count("d"), 1, "root lists a directory of mode 0");
}

static void times(void)
{
    struct stat before;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0644) == 0);
    before = px_stat("d");
    px_tick();
    NEED(px_count("d") == 1);
    CLAIM(!px_later(px_stat("d").st_mtim, before.st_mtim), "listing leaves the mtime");
    CLAIM(!px_later(px_stat("d").st_ctim, before.st_ctim), "listing leaves the ctime");
}

/* Two mounts */

static void seen_elsewhere(void)
{
    static unsigned char seen[2 * SOME];
    DIR *here, *there;
    char name[96];

    make_numbered(0, SOME);
    there = opendir(px_other("."));
    here = opendir(".");
    NEED(here && there);
    EQUAL(list_numbers(there, seen, SOME), SOME, "what is made here is listed there");
    EQUAL(not_once(seen, 0, SOME), 0, "each name once");
    NEED(closedir(there) == 0);
    for (int i = 0; i < SOME; i += 2) {
        number_name(name, sizeof(name), i);
        NEED(unlink(px_other(name)) == 0);
    }
    memset(seen, 0, sizeof(seen));
    rewinddir(here);
    EQUAL(list_numbers(here, seen, SOME), SOME / 2, "what was taken away there is not listed here");
    for (int i = SOME; i < SOME + 10; i++) {
        number_name(name, sizeof(name), i);
        NEED(px_make(PX_DIR, px_other(name), 0755) == 0);
    }
    memset(seen, 0, sizeof(seen));
    rewinddir(here);
    EQUAL(list_numbers(here, seen, 2 * SOME), SOME / 2 + 10, "what was made there is listed here");
    NEED(closedir(here) == 0);
}

static int churn(void *arg)
{
    char name[96];

    (void)arg;
    for (int i = 0; i < 400; i++) {
        number_name(name, sizeof(name), 1000 + i);
        if (px_make(PX_REG, px_other(name), 0644) ||
            (i >= 20 && (number_name(name, sizeof(name), 1000 + i - 20), unlink(px_other(name))))) {
            return 1;
        }
    }
    return 0;
}

static void listed_while_changed_elsewhere(void)
{
    static unsigned char seen[2000];
    int status = 0, bad = 0;
    pid_t pid;

    make_numbered(0, SOME);
    pid = fork();
    if (pid == 0) {
        _exit(churn(NULL));
    }
    NEED(pid > 0);
    for (int round = 0; round < 20; round++) {
        DIR *dir = opendir(".");

        NEED(dir != NULL);
        memset(seen, 0, sizeof(seen));
        (void)list_numbers(dir, seen, 2000);
        bad += not_once(seen, 0, SOME);
        for (int i = 1000; i < 1400; i++) {
            bad += seen[i] > 1;
        }
        NEED(closedir(dir) == 0);
    }
    NEED(wait(&status) == pid);
    EQUAL(status, 0, "names come and go there");
    EQUAL(bad, 0, "and those that stay are listed here once each time");
}

/* rm -r of one directory: lists and takes away until there is nothing. Returns how many names. */
static int take_away(const char *path)
{
    struct dirent *entry;
    int gone = 0, here = -1;

    while (here) {
        DIR *dir = opendir(path);

        NEED(dir != NULL);
        here = 0;
        while ((entry = readdir(dir)) != NULL) {
            if (!is_dot(entry->d_name)) {
                gone += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
                here++;
            }
        }
        NEED(closedir(dir) == 0);
    }
    return gone;
}

static void removed_by_both(void)
{
    int here, status = 0;
    pid_t pid;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, 250); /* a status is 255 at most */
    NEED(chdir("..") == 0);
    pid = fork();
    if (pid == 0) {
        _exit(take_away(px_other("d")));
    }
    here = take_away("d");
    NEED(pid > 0 && wait(&status) == pid && WIFEXITED(status));
    EQUAL(here + WEXITSTATUS(status), 250, "emptied from two mounts at once: each name goes once");
    EQUAL(px_count("d"), 0, "and none is left");
    EQUAL(rmdir(px_other("d")), 0, "so that the directory can be removed there");
}

const struct px_group px_readdir[] = {
    {"types", types, 0},
    {"empty", empty, 0},
    {"links", links, 0},
    {"names", names, 0},
    {"errors", errors, 0},
    {"large", large, 0},
    {"removed-while-listed", removed_while_listed, 0},
    {"changed-while-listed", changed_while_listed, 0},
    {"rewinds", rewinds, 0},
    {"rights", rights, PX_ROOT},
    {"times", times, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"listed-while-changed-elsewhere", listed_while_changed_elsewhere, PX_TWO},
    {"removed-by-both", removed_by_both, PX_TWO},
    {NULL, NULL, 0},
};
