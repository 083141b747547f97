/* SPDX-License-Identifier: Apache-2.0 */
/* Files without a name that are open: POSIX.1-2024 unlink, rmdir; unlink(2), linkat(2), proc(5). */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/posix/posix.h"

#define MIB ((size_t)1 << 20)

static struct stat stat_of(int fd)
{
    struct stat st;

    NEED(fstat(fd, &st) == 0);
    return st;
}

static const char *proc_path(int fd)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return path;
}

/* How the name goes. */

static bool by_unlink(void)
{
    return unlink("f") == 0;
}

static bool by_rename(void)
{
    return px_write_file("g", "new", 3) == 0 && rename("g", "f") == 0;
}

static bool by_tree(void)
{
    return mkdir("d", 0755) == 0 && rename("f", "d/f") == 0 && unlink("d/f") == 0 &&
           rmdir("d") == 0;
}

static const struct {
    const char *name;
    bool (*go)(void);
} ways[] = {{"unlinked", by_unlink}, {"replaced", by_rename}, {"gone with its directory", by_tree}};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void goes_on(size_t way, size_t size, bool synced)
{
    const char *name = ways[way].name, *state = synced ? "synced" : "just written";
    uint8_t bytes[5000];
    struct stat before;
    int fd;

    NEED(px_make_filled("f", synced ? size : 0, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    if (!synced) {
        uint8_t *all = malloc(size + 1);

        NEED(all != NULL);
        px_fill(all, size, 0, 1);
        NEED(write(fd, all, size) == (ssize_t)size);
        free(all);
    }
    before = stat_of(fd);
    NEED(ways[way].go());
    EQUAL(stat_of(fd).st_nlink, 0, "%s, %zu bytes %s: no links", name, size, state);
    EQUAL(stat_of(fd).st_ino, before.st_ino, "%s, %zu bytes %s: the same inode", name, size, state);
    EQUAL(stat_of(fd).st_size, size, "%s, %zu bytes %s: its size", name, size, state);
    CLAIM(px_holds(fd, 0, size, 1), "%s, %zu bytes %s: is read", name, size, state);
    px_fill(bytes, 5000, size, 2);
    EQUAL(pwrite(fd, bytes, 5000, (off_t)size), 5000, "%s, %zu bytes %s: is written", name, size,
          state);
    OK(fsync(fd), "%s, %zu bytes %s: is synced", name, size, state);
    CLAIM(px_holds(fd, 0, size, 1) && px_holds(fd, size, 5000, 2),
          "%s, %zu bytes %s: holds what was written", name, size, state);
    OK(ftruncate(fd, (off_t)size / 2), "%s, %zu bytes %s: is cut", name, size, state);
    NEED(ftruncate(fd, (off_t)size) == 0);
    CLAIM(px_holds(fd, 0, size / 2, 1) && px_holds(fd, size / 2, size - size / 2, 0),
          "%s, %zu bytes %s: zeroes behind the cut", name, size, state);
    OK(close(fd), "%s, %zu bytes %s: is closed", name, size, state);
    (void)unlink("f");
}

static void contents(void)
{
    static const size_t sizes[] = {0, 1, 4096, 100000, 5 * MIB};

    for (size_t way = 0; way < WAYS; way++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            goes_on(way, sizes[i], false);
            goes_on(way, sizes[i], true);
        }
    }
}

/* All that can be done with a descriptor. */

static void every_call(void)
{
    const struct timespec t[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd, out;
    off_t at = 0;
    uint8_t *map;

    NEED(px_make_filled("f", 100000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && unlink("f") == 0);
    OK(fchmod(fd, 0600), "fchmod");
    EQUAL(stat_of(fd).st_mode & 07777, 0600, "sets the mode");
    OK(fchown(fd, (uid_t)-1, getegid()), "fchown");
    OK(futimens(fd, t), "futimens");
    EQUAL(stat_of(fd).st_mtim.tv_sec, 2000, "sets mtime");
    EQUAL(stat_of(fd).st_atim.tv_sec, 1000, "and atime");
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 50000), "a hole is punched");
    CLAIM(px_holds(fd, 0, 50000, 0) && px_holds(fd, 50000, 50000, 1), "where it belongs");
    OK(fallocate(fd, 0, 0, 200000), "space is allocated");
    EQUAL(stat_of(fd).st_size, 200000, "and the file longer");
    EQUAL(lseek(fd, 0, SEEK_END), 200000, "its end");
    OK(fcntl(fd, F_SETLK, &lock), "it is locked");
    map = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CLAIM(map != MAP_FAILED, "it is mapped");
    NEED(map != MAP_FAILED);
    px_fill(map, 4096, 0, 3);
    OK(msync(map, 100000, MS_SYNC), "and msynced");
    CLAIM(px_holds(fd, 0, 4096, 3), "what was stored is read");
    out = open("copy", O_RDWR | O_CREAT, 0644);
    NEED(out >= 0);
    EQUAL(copy_file_range(fd, &at, out, NULL, 4096, 0), 4096, "it is copied from");
    CLAIM(px_holds(out, 0, 4096, 3), "what was copied is right");
    at = 0;
    EQUAL(copy_file_range(out, &at, fd, &at, 4096, 0), 4096, "it is copied to");
    NEED(munmap(map, 100000) == 0 && close(out) == 0);
    EQUAL(stat_of(fd).st_nlink, 0, "all the while it has no links");
    NEED(close(fd) == 0);
}

static void by_proc(void)
{
    char path[256] = "";
    struct stat st;
    int fd, again;

    NEED(px_make_filled("f", 5000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && unlink("f") == 0);
    again = open(proc_path(fd), O_RDONLY);
    CLAIM(again >= 0, "it is opened by /proc/self/fd");
    CLAIM(again >= 0 && px_holds(again, 0, 5000, 1), "and read");
    EQUAL(stat(proc_path(fd), &st), 0, "stat by /proc/self/fd");
    EQUAL(st.st_size, 5000, "has its size");
    OK(truncate(proc_path(fd), 100), "truncate by /proc/self/fd");
    EQUAL(stat_of(fd).st_size, 100, "cuts it");
    NEED(readlink(proc_path(fd), path, sizeof(path) - 1) > 0);
    CLAIM(strstr(path, "(deleted)"), "/proc/self/fd says that it was deleted");
    FAILS(linkat(AT_FDCWD, proc_path(fd), AT_FDCWD, "l", AT_SYMLINK_FOLLOW), ENOENT,
          "what has lost its last name gets no other");
    CLAIM(!px_exists("l"), "and that is not there");
    NEED(close(fd) == 0);
    CLAIM(px_holds(again, 0, 100, 1), "it lives as long as the last descriptor");
    NEED(close(again) == 0);
}

static void linked_while_named(void)
{
    int fd;

    NEED(px_make_filled("f", 5000, 1) == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0);
    OK(linkat(AT_FDCWD, proc_path(fd), AT_FDCWD, "l", AT_SYMLINK_FOLLOW),
       "what has a name gets another by /proc/self/fd");
    NEED(unlink("f") == 0);
    EQUAL(stat_of(fd).st_nlink, 1, "it has one of two links then");
    EQUAL(px_ino("l"), stat_of(fd).st_ino, "the other name leads to it");
    NEED(unlink("l") == 0);
    EQUAL(stat_of(fd).st_nlink, 0, "and none when both are gone");
    CLAIM(px_holds(fd, 0, 5000, 1), "it is read still");
    NEED(close(fd) == 0);
}

static void many_of_one_name(void)
{
    int fds[20];
    bool right = true, apart = true;

    for (unsigned i = 0; i < 20; i++) {
        NEED(px_make_filled("f", 1000 + i, i + 1) == 0);
        fds[i] = open("f", O_RDWR);
        NEED(fds[i] >= 0 && unlink("f") == 0);
    }
    for (unsigned i = 0; i < 20; i++) {
        right =
            right && stat_of(fds[i]).st_size == 1000 + i && px_holds(fds[i], 0, 1000 + i, i + 1);
        for (unsigned k = 0; k < i; k++) {
            apart = apart && stat_of(fds[i]).st_ino != stat_of(fds[k]).st_ino;
        }
    }
    CLAIM(right, "twenty files that had one name, one after the other, are each what they were");
    CLAIM(apart, "and have inode numbers of their own");
    for (unsigned i = 0; i < 20; i++) {
        NEED(close(fds[i]) == 0);
    }
    EQUAL(px_count("."), 0, "none is listed");
}

/* A directory that was removed. */

static void directories(void)
{
    DIR *dir;
    int fd;
    struct dirent *entry;
    unsigned names = 0;

    NEED(mkdir("d", 0755) == 0);
    fd = open("d", O_RDONLY | O_DIRECTORY);
    dir = opendir("d");
    NEED(fd >= 0 && dir && rmdir("d") == 0);
    EQUAL(stat_of(fd).st_nlink, 0, "a removed directory has no links");
    while ((entry = readdir(dir)) != NULL) {
        names += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    EQUAL(names, 0, "and no entries");
    FAILS(openat(fd, "x", O_CREAT | O_WRONLY, 0644), ENOENT, "no file is made in it");
    FAILS(mkdirat(fd, "x", 0755), ENOENT, "no directory");
    FAILS(symlinkat("y", fd, "x"), ENOENT, "no link");
    FAILS(openat(fd, "x", O_RDONLY), ENOENT, "nothing is found in it");
    NEED(px_write_file("f", "x", 1) == 0);
    FAILS(linkat(AT_FDCWD, "f", fd, "x", 0), ENOENT, "no file is linked into it");
    FAILS(renameat(AT_FDCWD, "f", fd, "x"), ENOENT, "or renamed");
    NEED(mkdir("d", 0755) == 0 && px_write_file("d/x", "x", 1) == 0);
    FAILS(openat(fd, "x", O_RDONLY), ENOENT, "a new one of that name is another");
    OK(fchmod(fd, 0700), "its mode is set");
    OK(fsync(fd), "it is synced");
    NEED(closedir(dir) == 0 && close(fd) == 0);
}

static void working_directory(void)
{
    char path[4096];

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0 && rmdir("../d") == 0);
    FAILS(getcwd(path, sizeof(path)) ? 0 : -1, ENOENT, "a removed working directory has no path");
    FAILS(open("x", O_CREAT | O_WRONLY, 0644), ENOENT, "nothing is made in it");
    OK(chdir(".."), "it is left by ..");
}

/* Other kinds */

static void other_types(void)
{
    static const enum px_type types[] = {PX_FIFO, PX_LINK, PX_SOCK};

    for (size_t i = 0; i < 3; i++) {
        const char *name = px_type_name(types[i]);
        char target[16] = "";
        int fd;

        NEED(px_make(types[i], "x", 0644) == 0);
        fd = open("x", O_PATH | O_NOFOLLOW);
        NEED(fd >= 0 && unlink("x") == 0);
        EQUAL(stat_of(fd).st_nlink, 0, "%s without a name has no links", name);
        EQUAL(stat_of(fd).st_mode & S_IFMT, px_type_mode(types[i]), "%s is what it was", name);
        if (types[i] == PX_LINK) {
            EQUAL(readlinkat(fd, "", target, sizeof(target)), 7, "%s without a name is read", name);
        }
        NEED(close(fd) == 0);
    }
    {
        char bytes[4];
        int fd;

        NEED(mkfifo("p", 0644) == 0);
        fd = open("p", O_RDWR);
        NEED(fd >= 0 && unlink("p") == 0);
        EQUAL(write(fd, "abc", 3), 3, "a FIFO without a name is written");
        EQUAL(read(fd, bytes, 4), 3, "and read");
        NEED(close(fd) == 0);
    }
}

static int child_reads(void *arg)
{
    int fd = *(int *)arg;

    return px_holds(fd, 0, 5000, 1) && pwrite(fd, "child", 5, 5000) == 5 ? 0 : 1;
}

static void inherited(void)
{
    int fd;

    NEED(px_make_filled("f", 5000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && unlink("f") == 0);
    EQUAL(px_child(child_reads, &fd), 0, "a child reads and writes it");
    EQUAL(stat_of(fd).st_size, 5005, "it is not gone with the child");
    CLAIM(px_holds(fd, 0, 5000, 1), "nor are its bytes");
    NEED(close(fd) == 0);
}

static void one_of_two_names(void)
{
    int fd;

    NEED(px_make_filled("f", 100, 1) == 0 && link("f", "g") == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0 && unlink("f") == 0);
    EQUAL(stat_of(fd).st_nlink, 1, "one of two names is gone");
    NEED(close(fd) == 0);
    fd = open("g", O_RDONLY);
    CLAIM(fd >= 0 && px_holds(fd, 0, 100, 1), "after the close the other leads to it still");
    NEED(close(fd) == 0);
}

/* Two mounts */

static void across_mounts(void)
{
    static const size_t sizes[] = {1, 5000, 300000, 5 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        uint8_t bytes[100];
        int here, there;

        NEED(px_make_filled("f", size, 1) == 0);
        here = open("f", O_RDWR);
        there = open(px_other("f"), O_RDWR);
        NEED(here >= 0 && there >= 0);
        OK(unlink(px_other("f")), "%zu bytes, open here and there: unlinked there", size);
        EQUAL(stat_of(here).st_nlink, 0, "%zu bytes: no links here", size);
        EQUAL(stat_of(there).st_nlink, 0, "%zu bytes: no links there", size);
        CLAIM(px_holds(here, 0, size, 1), "%zu bytes: read here", size);
        px_fill(bytes, 100, size, 2);
        EQUAL(pwrite(here, bytes, 100, (off_t)size), 100, "%zu bytes: written here", size);
        NEED(fsync(here) == 0);
        CLAIM(px_holds(there, 0, size, 1) && px_holds(there, size, 100, 2),
              "%zu bytes: what was synced here is read there", size);
        OK(close(there), "%zu bytes: closed there", size);
        CLAIM(px_holds(here, 0, size, 1) && px_holds(here, size, 100, 2),
              "%zu bytes: and read here still", size);
        OK(ftruncate(here, 10), "%zu bytes: cut here", size);
        OK(close(here), "%zu bytes: closed here", size);
    }
}

/* What is written to it and closed is read by who has it open on the other mount. */
static void written_and_closed(void)
{
    static const size_t sizes[] = {6, 5000, 300000, 5 * MIB};
    static uint8_t bytes[5 * MIB];

    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i / 2];
        const char *how = i % 2 ? "replaced" : "unlinked";
        int here = open("f", O_RDWR | O_CREAT, 0644), there = open(px_other("f"), O_RDONLY);

        NEED(here >= 0 && there >= 0);
        if (i % 2) {
            NEED(px_write_file("g", "", 0) == 0 && rename("g", "f") == 0);
        } else {
            NEED(unlink("f") == 0);
        }
        px_fill(bytes, size, 0, 3);
        EQUAL(pwrite(here, bytes, size, 0), size, "%zu bytes, %s here, open there: written", size,
              how);
        OK(close(here), "%zu bytes, %s here: closed", size, how);
        CLAIM(px_holds(there, 0, size, 3), "%zu bytes, %s here: read there after the close", size,
              how);
        EQUAL(stat_of(there).st_size, size, "%zu bytes, %s here: their number there", size, how);
        NEED(close(there) == 0);
        (void)unlink("f");
    }
}

static void replaced_elsewhere(void)
{
    int fd;

    NEED(px_make_filled("f", 300000, 1) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && px_make_filled(px_other("g"), 1000, 2) == 0);
    OK(rename(px_other("g"), px_other("f")), "a file that is open here is replaced there");
    EQUAL(stat_of(fd).st_nlink, 0, "it has no links here");
    CLAIM(px_holds(fd, 0, 300000, 1), "and is read to its end");
    EQUAL(pwrite(fd, "x", 1, 300000), 1, "and written");
    OK(fsync(fd), "and synced");
    EQUAL(px_stat("f").st_size, 1000, "the name leads to the new one");
    OK(close(fd), "and closed");
    EQUAL(px_stat(px_other("f")).st_size, 1000, "which leaves the new one as it is");
}

static void directory_elsewhere(void)
{
    int fd;

    NEED(mkdir("d", 0755) == 0);
    fd = open("d", O_RDONLY | O_DIRECTORY);
    NEED(fd >= 0);
    OK(rmdir(px_other("d")), "a directory that is open here is removed there");
    FAILS(openat(fd, "x", O_CREAT | O_WRONLY, 0644), ENOENT, "nothing is made in it here");
    CLAIM(!px_exists("d"), "and its name is gone here");
    NEED(close(fd) == 0);
}

const struct px_group px_unlinked[] = {
    {"contents", contents, 0},
    {"every-call", every_call, 0},
    {"by-proc", by_proc, 0},
    {"linked-while-named", linked_while_named, 0},
    {"many-of-one-name", many_of_one_name, 0},
    {"directories", directories, 0},
    {"working-directory", working_directory, 0},
    {"other-types", other_types, 0},
    {"inherited", inherited, 0},
    {"one-of-two-names", one_of_two_names, 0},
    {"across-mounts", across_mounts, PX_TWO},
    {"written-and-closed", written_and_closed, PX_TWO},
    {"replaced-elsewhere", replaced_elsewhere, PX_TWO},
    {"directory-elsewhere", directory_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
