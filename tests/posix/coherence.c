/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one mount does and another sees: POSIX.1-2024 2.9.7 and write, as far as docs/guarantees.md
 * goes: names and attributes at once, contents by close or fsync.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "tests/posix/posix.h"

#define MIB ((size_t)1 << 20)

/* Each change, made through @at, that every mount has to see: by path, and through what is open. */

static bool do_chmod(const char *at)
{
    return chmod(at, 0640) == 0;
}

static bool do_utimens(const char *at)
{
    const struct timespec t[2] = {{.tv_sec = 1111, .tv_nsec = 5}, {.tv_sec = 2222, .tv_nsec = 7}};

    return utimensat(AT_FDCWD, at, t, 0) == 0;
}

static bool do_shrink(const char *at)
{
    return truncate(at, 10) == 0;
}

static bool do_grow(const char *at)
{
    return truncate(at, 5000000) == 0;
}

static bool do_write(const char *at)
{
    int fd = open(at, O_WRONLY);

    return pwrite(fd, "text", 4, 100) == 4 && close(fd) == 0;
}

static bool do_append(const char *at)
{
    int fd = open(at, O_WRONLY | O_APPEND);

    return write(fd, "text", 4) == 4 && close(fd) == 0;
}

static bool do_sync(const char *at)
{
    int fd = open(at, O_WRONLY);

    return pwrite(fd, "text", 4, 200000) == 4 && fsync(fd) == 0 && close(fd) == 0;
}

static bool do_rewrite(const char *at)
{
    return px_make_filled(at, 300, 9) == 0;
}

static bool do_punch(const char *at)
{
    int fd = open(at, O_WRONLY);

    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536) == 0 &&
           close(fd) == 0;
}

static bool do_link(const char *at)
{
    char name[4096];

    (void)snprintf(name, sizeof(name), "%s.link", at);
    return link(at, name) == 0;
}

static const struct {
    const char *name;
    bool (*go)(const char *at);
} changes[] = {{"chmod", do_chmod},      {"utimensat", do_utimens}, {"a cut", do_shrink},
               {"growth", do_grow},      {"a write", do_write},     {"an append", do_append},
               {"an fsync", do_sync},    {"O_TRUNC", do_rewrite},   {"a hole", do_punch},
               {"another name", do_link}};

static bool same_stat(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_nlink == b->st_nlink &&
           a->st_uid == b->st_uid && a->st_gid == b->st_gid && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool same_bytes(int a, int b)
{
    static uint8_t one[5 * MIB], other[5 * MIB];
    ssize_t n = pread(a, one, sizeof(one), 0), m = pread(b, other, sizeof(other), 0);

    return n >= 0 && n == m && memcmp(one, other, (size_t)n) == 0;
}

static void one_change(size_t i, bool here)
{
    const char *name = changes[i].name, *where = here ? "here" : "there";
    const char *at = here ? "f" : px_other("f"), *from = here ? px_other("f") : "f";
    struct stat a, b, before;
    int fd, mine;

    NEED(px_make_filled("f", 100000, 1) == 0 && chmod("f", 0644) == 0);
    fd = open(from, O_RDONLY);
    NEED(fd >= 0 && px_holds(fd, 0, 100000, 1) && fstat(fd, &before) == 0);
    px_tick();
    CLAIM(changes[i].go(at), "%s %s", name, where);
    a = px_stat(at);
    b = px_stat(from);
    CLAIM(same_stat(&a, &b), "%s %s: the other mount's stat", name, where);
    CLAIM(px_later(b.st_ctim, before.st_ctim), "%s %s: the other mount's ctime", name, where);
    NEED(fstat(fd, &b) == 0);
    CLAIM(same_stat(&a, &b), "%s %s: the other mount's fstat of what it has open", name, where);
    mine = open(at, O_RDONLY);
    NEED(mine >= 0);
    CLAIM(same_bytes(fd, mine), "%s %s: what the other mount has open reads the same", name, where);
    NEED(close(fd) == 0);
    fd = open(from, O_RDONLY);
    CLAIM(same_bytes(fd, mine), "%s %s: opened anew it reads the same", name, where);
    NEED(close(fd) == 0 && close(mine) == 0 && unlink("f") == 0);
    (void)unlink("f.link");
}

static void every_change(void)
{
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        one_change(i, true);
        one_change(i, false);
    }
}

/* Names of every kind: made, renamed, replaced, removed on one, looked for on the other. */

static void names(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        enum px_type type = (enum px_type)i;
        const char *name = px_type_name(type);

        CLAIM(!px_exists(px_other("x")), "%s: not there before", name); /* it is remembered */
        NEED(px_make(type, "x", 0751) == 0);
        CLAIM(px_exists(px_other("x")), "%s made here is there", name);
        EQUAL(px_stat(px_other("x")).st_mode, px_stat("x").st_mode, "%s made here: its mode there",
              name);
        EQUAL(px_ino(px_other("x")), px_ino("x"), "%s made here: its number there", name);
        FAILS(px_make(PX_DIR, px_other("x"), 0755), EEXIST, "%s made here is in the way there",
              name);
        NEED(rename(px_other("x"), px_other("y")) == 0);
        CLAIM(!px_exists("x") && px_exists("y"), "%s renamed there has the new name here", name);
        NEED(px_make(type == PX_DIR ? PX_DIR : PX_REG, "z", 0755) == 0);
        NEED(rename("z", "y") == 0);
        EQUAL(px_ino(px_other("y")), px_ino("y"), "%s replaced here is replaced there", name);
        NEED(remove(px_other("y")) == 0);
        CLAIM(!px_exists("y"), "%s: what replaced it is removed there, and gone here", name);
        FAILS(remove("y"), ENOENT, "%s: there is nothing to remove here", name);
    }
}

static void links(void)
{
    char to[16] = "";

    NEED(symlink("one", "l") == 0 && readlink(px_other("l"), to, sizeof(to)) == 3);
    NEED(unlink("l") == 0 && symlink("other", "l") == 0);
    EQUAL(readlink(px_other("l"), to, sizeof(to)), 5, "a link that was made anew leads elsewhere");
    CLAIM(memcmp(to, "other", 5) == 0, "where it leads there as well");
    NEED(px_write_file("a", "a", 1) == 0);
    for (int i = 0; i < 3; i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "n%d", i);
        NEED(link(i % 2 ? px_other("a") : "a", i % 2 ? px_other(name) : name) == 0);
        EQUAL(px_stat("a").st_nlink, i + 2, "number of links here after %d", i + 1);
        EQUAL(px_stat(px_other("a")).st_nlink, i + 2, "number of links there after %d", i + 1);
    }
}

static bool listed(DIR *dir, const char *name)
{
    struct dirent *entry;
    bool found = false;

    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        found = found || strcmp(entry->d_name, name) == 0;
    }
    return found;
}

static void listings(void)
{
    DIR *here, *there;

    NEED(mkdir("d", 0755) == 0);
    here = opendir("d");
    there = opendir(px_other("d"));
    NEED(here && there);
    for (int i = 0; i < 200; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "d/%d", i);
        NEED(px_write_file(i % 2 ? name : px_other(name), "", 0) == 0);
    }
    EQUAL(px_count("d"), 200, "200 names made by turns are listed here");
    EQUAL(px_count(px_other("d")), 200, "and there");
    CLAIM(listed(here, "198"), "what was open before lists, rewound, what was made there");
    CLAIM(listed(there, "199"), "and there what was made here");
    for (int i = 0; i < 200; i += 2) {
        char name[16];

        (void)snprintf(name, sizeof(name), "d/%d", i);
        NEED(unlink(i % 4 ? name : px_other(name)) == 0);
    }
    EQUAL(px_count("d"), 100, "100 removed by turns are gone here");
    EQUAL(px_count(px_other("d")), 100, "and there");
    CLAIM(!listed(here, "0") && !listed(there, "2"), "also of what was open before");
    NEED(rename("d/1", "d/renamed") == 0);
    CLAIM(listed(there, "renamed") && !listed(there, "1"), "a new name is listed there");
    NEED(closedir(here) == 0 && closedir(there) == 0);
    EQUAL(px_stat("d").st_nlink, px_stat(px_other("d")).st_nlink, "both count the same links");
}

static void directory_times(void)
{
    struct stat before, after;

    NEED(mkdir("d", 0755) == 0);
    before = px_stat(px_other("d"));
    px_tick();
    NEED(mkdir("d/e", 0755) == 0);
    after = px_stat(px_other("d"));
    CLAIM(px_later(after.st_mtim, before.st_mtim), "a directory's mtime moves on there");
    EQUAL(after.st_nlink, before.st_nlink + 1, "and its links");
    before = px_stat("d");
    px_tick();
    NEED(rmdir(px_other("d/e")) == 0);
    after = px_stat("d");
    CLAIM(px_later(after.st_mtim, before.st_mtim), "and here, when the change was there");
    EQUAL(after.st_nlink, before.st_nlink - 1, "with its links");
}

/* Contents: sizes that lie in the metadata, in one object, in many. */

static void close_to_open(void)
{
    static const size_t sizes[] = {1, 100, 4096, 70000, 5 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];

        for (unsigned turn = 1; turn <= 6; turn++) {
            const char *at = turn % 2 ? "f" : px_other("f"), *from = turn % 2 ? px_other("f") : "f";
            uint8_t *bytes = malloc(size);
            int fd = open(at, O_RDWR | O_CREAT, 0644);

            NEED(fd >= 0 && bytes);
            px_fill(bytes, size, 0, turn);
            NEED(write(fd, bytes, size) == (ssize_t)size);
            free(bytes);
            OK(close(fd), "%zu bytes, turn %u: closed", size, turn);
            fd = open(from, O_RDONLY);
            NEED(fd >= 0);
            CLAIM(px_holds(fd, 0, size, turn), "%zu bytes, turn %u: read through the other mount",
                  size, turn);
            NEED(close(fd) == 0);
        }
        NEED(unlink("f") == 0);
    }
}

/* The last close of a duplicate, of a child, of a mapping: each commits. */
static int child_writes(void *arg)
{
    return write(*(int *)arg, "child", 5) == 5 ? 0 : 1;
}

static void other_closes(void)
{
    char bytes[8] = "";
    int fd = open("f", O_RDWR | O_CREAT, 0644), twin = dup(fd), there;

    NEED(fd >= 0 && twin >= 0 && write(fd, "first", 5) == 5 && close(twin) == 0);
    there = open(px_other("f"), O_RDONLY);
    NEED(there >= 0);
    EQUAL(pread(there, bytes, 8, 0), 5, "the close of a duplicate commits what was written");
    EQUAL(px_child(child_writes, &fd), 0, "a child writes and ends");
    EQUAL(pread(there, bytes, 8, 5), 5, "which commits it");
    CLAIM(memcmp(bytes, "child", 5) == 0, "as it was written");
    NEED(close(fd) == 0 && close(there) == 0);
}

/* A rewrite in place of the same size, with times set back: the bytes are new all the same. */
static void same_size_and_time(void)
{
    const struct timespec t[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    int fd, w;

    for (unsigned turn = 1; turn <= 4; turn++) {
        NEED(px_make_filled(px_other("f"), 5000, turn) == 0);
        NEED(utimensat(AT_FDCWD, px_other("f"), t, 0) == 0);
        fd = open("f", O_RDONLY);
        NEED(fd >= 0);
        CLAIM(px_holds(fd, 0, 5000, turn), "same size and mtime, other bytes: turn %u", turn);
        NEED(close(fd) == 0);
    }
    w = open("f", O_WRONLY);
    NEED(w >= 0);
    CLAIM(close(w) == 0, "an open without a write changes nothing");
    EQUAL(px_stat(px_other("f")).st_mtim.tv_sec, 1000, "and no time");
}

static bool rewritten(int fd, unsigned seed, const struct timespec *mtime)
{
    const struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, *mtime};
    uint8_t bytes[5000];

    px_fill(bytes, sizeof(bytes), 0, seed);
    return pwrite(fd, bytes, sizeof(bytes), 0) == sizeof(bytes) && futimens(fd, t) == 0;
}

/* The same, seen through what is open: read, and asked for its time in between. */
static void same_time_while_open(void)
{
    struct timespec mtime;
    int fd, there;

    NEED(px_make_filled("f", 5000, 1) == 0);
    fd = open("f", O_RDWR);
    there = open(px_other("f"), O_RDWR);
    mtime = px_stat("f").st_mtim;
    NEED(fd >= 0 && there >= 0 && px_holds(fd, 0, 5000, 1) && px_holds(there, 0, 5000, 1));
    for (unsigned seed = 2; seed <= 9; seed++) {
        bool here = seed % 3 == 0;

        NEED(rewritten(here ? fd : there, seed, &mtime));
        CLAIM(seed % 2 == 0 || px_same(px_stat(px_other("f")).st_mtim, mtime),
              "rewritten, its time set back: that time is told there, turn %u", seed);
        CLAIM(seed % 2 == 0 || px_same(px_stat("f").st_mtim, mtime), "and here, turn %u", seed);
        CLAIM(px_holds(here ? there : fd, 0, 5000, seed),
              "what the other mount has open reads the new bytes, turn %u", seed);
        CLAIM(px_holds(here ? fd : there, 0, 5000, seed), "and what wrote them, turn %u", seed);
        CLAIM(px_same(px_stat("f").st_mtim, mtime) &&
                  px_same(px_stat(px_other("f")).st_mtim, mtime),
              "the time stays what it was set to, turn %u", seed);
    }
    NEED(close(fd) == 0 && close(there) == 0);
}

/* Both write parts of one file that do not overlap; all is there when both have closed. */
static void parts_of_both(void)
{
    static const size_t parts[] = {1, 10, 4096, 65536};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        uint8_t bytes[65536];
        size_t len = parts[i];
        int here = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644), there;

        there = open(px_other("f"), O_RDWR);
        NEED(here >= 0 && there >= 0);
        for (size_t k = 0; k < 20; k++) {
            px_fill(bytes, len, k * len, 1 + k % 2);
            NEED(pwrite(k % 2 ? there : here, bytes, len, (off_t)(k * len)) == (ssize_t)len);
        }
        NEED(close(there) == 0 && close(here) == 0);
        here = open("f", O_RDONLY);
        there = open(px_other("f"), O_RDONLY);
        NEED(here >= 0 && there >= 0);
        for (size_t k = 0; k < 20; k++) {
            CLAIM(px_holds(here, k * len, len, 1 + k % 2) &&
                      px_holds(there, k * len, len, 1 + k % 2),
                  "part %zu of %zu bytes is on both mounts", k, len);
        }
        NEED(close(here) == 0 && close(there) == 0);
    }
}

/* Appending by turns, each closed: nothing is lost, all is in order. */
static void appended_by_turns(void)
{
    char *have;
    size_t size = 0;
    bool right = true;

    NEED(px_write_file("f", "", 0) == 0);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t bytes[100];
        int fd = open(i % 2 ? "f" : px_other("f"), O_WRONLY | O_APPEND);

        px_fill(bytes, 100, i * 100, 3);
        NEED(fd >= 0 && write(fd, bytes, 100) == 100 && close(fd) == 0);
    }
    have = px_read_file("f", &size);
    EQUAL(size, 10000, "100 records appended by turns: none is lost");
    right = have && size == 10000 && px_is_filled(have, size, 0, 3);
    CLAIM(right, "each is where its turn put it");
    free(have);
}

static void maps(void)
{
    for (unsigned turn = 1; turn <= 4; turn++) {
        const char *at = turn % 2 ? "f" : px_other("f"), *from = turn % 2 ? px_other("f") : "f";
        int fd = open(at, O_RDWR | O_CREAT, 0644);
        uint8_t *map;

        NEED(fd >= 0 && ftruncate(fd, 100000) == 0);
        map = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        NEED(map != MAP_FAILED);
        px_fill(map, 100000, 0, turn);
        NEED(munmap(map, 100000) == 0 && close(fd) == 0);
        fd = open(from, O_RDONLY);
        NEED(fd >= 0);
        map = mmap(NULL, 100000, PROT_READ, MAP_SHARED, fd, 0);
        CLAIM(map != MAP_FAILED && px_is_filled(map, 100000, 0, turn),
              "what was mapped, unmapped and closed is mapped on the other mount, turn %u", turn);
        NEED(munmap(map, 100000) == 0 && close(fd) == 0);
    }
}

/* Rights and owners apply on both at once. */
static void rights(void)
{
    NEED(px_make_filled("f", 10, 1) == 0 && mkdir("d", 0755) == 0 &&
         px_write_file("d/f", "", 0) == 0);
    px_become_user(0);
    OK(close(open(px_other("f"), O_RDONLY)), "a user opens what all may read");
    px_become_root();
    NEED(chmod("f", 0600) == 0);
    px_become_user(0);
    FAILS(open(px_other("f"), O_RDONLY), EACCES, "not after a chmod here");
    px_become_root();
    NEED(chown("f", px_uid(0), px_uid(0)) == 0);
    EQUAL(px_stat(px_other("f")).st_uid, px_uid(0), "a new owner there");
    px_become_user(0);
    OK(close(open(px_other("f"), O_RDONLY)), "who opens it");
    OK(close(open(px_other("d/f"), O_RDONLY)), "a user looks into a directory");
    px_become_root();
    NEED(chmod("d", 0700) == 0);
    px_become_user(0);
    FAILS(open(px_other("d/f"), O_RDONLY), EACCES, "not after it was closed to him here");
    px_become_root();
}

static void attributes(void)
{
    char value[16] = "";

    NEED(px_write_file("f", "", 0) == 0);
    FAILS(getxattr(px_other("f"), "user.a", value, sizeof(value)), ENODATA, "no attribute");
    NEED(setxattr("f", "user.a", "one", 3, 0) == 0);
    EQUAL(getxattr(px_other("f"), "user.a", value, sizeof(value)), 3, "one that was set here");
    NEED(setxattr("f", "user.a", "other", 5, 0) == 0);
    EQUAL(getxattr(px_other("f"), "user.a", value, sizeof(value)), 5, "one that was replaced here");
    CLAIM(memcmp(value, "other", 5) == 0, "has the new value there");
    NEED(removexattr(px_other("f"), "user.a") == 0);
    FAILS(getxattr("f", "user.a", value, sizeof(value)), ENODATA, "one that was removed there");
}

const struct px_group px_coherence[] = {
    {"every-change", every_change, PX_TWO},
    {"names", names, PX_TWO},
    {"links", links, PX_TWO},
    {"listings", listings, PX_TWO},
    {"directory-times", directory_times, PX_TWO},
    {"close-to-open", close_to_open, PX_TWO},
    {"other-closes", other_closes, PX_TWO},
    {"same-size-and-time", same_size_and_time, PX_TWO},
    {"same-time-while-open", same_time_while_open, PX_TWO},
    {"parts-of-both", parts_of_both, PX_TWO},
    {"appended-by-turns", appended_by_turns, PX_TWO},
    {"maps", maps, PX_TWO},
    {"rights", rights, PX_TWO | PX_ROOT},
    {"attributes", attributes, PX_TWO},
    {NULL, NULL, 0},
};
