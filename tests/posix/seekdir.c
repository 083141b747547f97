/* SPDX-License-Identifier: Apache-2.0 */
/* telldir(), seekdir(), getdents64(): POSIX.1-2024 seekdir, telldir; getdents(2). */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SOME         300

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A name is "n" and a number, and as many dots as its last digits say: of various lengths. */
static void number_name(char *name, size_t size, int number)
{
    (void)snprintf(name, size, "n%d%.*s", number, number % 20, "....................");
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

static void list_numbers(DIR *dir, unsigned char *seen, int max)
{
    struct dirent *entry;

    while ((entry = readdir(dir)) != NULL) {
        int number = number_of(entry->d_name);

        if (number >= 0 && number < max) {
            seen[number]++;
        }
    }
}

static int not_once(const unsigned char *seen, int count)
{
    int n = 0;

    for (int i = 0; i < count; i++) {
        n += seen[i] != 1;
    }
    return n;
}

/* Positions */

struct place {
    long at; /* before the name was read */
    char name[96];
};

static int read_places(DIR *dir, struct place *places, int max)
{
    int n = 0;

    for (;; n++) {
        long at = telldir(dir);
        struct dirent *entry = readdir(dir);

        if (!entry || n == max) {
            return n;
        }
        places[n].at = at;
        (void)snprintf(places[n].name, sizeof(places[n].name), "%.95s", entry->d_name);
    }
}

static int misplaced(DIR *dir, const struct place *places, int from, int n, int step)
{
    int wrong = 0;

    for (int i = from; i >= 0 && i < n; i += step) {
        struct dirent *entry;

        seekdir(dir, places[i].at);
        wrong += telldir(dir) != places[i].at;
        entry = readdir(dir);
        wrong += !entry || strcmp(entry->d_name, places[i].name) != 0;
    }
    return wrong;
}

static void positions(void)
{
    static struct place places[SOME + 2];
    struct dirent *entry;
    long end;
    DIR *dir, *other;
    int n, twice = 0;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, SOME);
    dir = opendir(".");
    NEED(dir != NULL);
    n = read_places(dir, places, SOME + 2);
    EQUAL(n, SOME + 2, "each name has a position");
    for (int i = 1; i < n; i++) {
        for (int j = 0; j < i; j++) {
            twice += places[i].at == places[j].at;
        }
    }
    EQUAL(twice, 0, "and no two have the same");
    end = telldir(dir);
    EQUAL(misplaced(dir, places, 0, n, 1), 0, "seekdir forward through all of them");
    EQUAL(misplaced(dir, places, n - 1, n, -1), 0, "seekdir backward through all of them");
    EQUAL(misplaced(dir, places, 5, n, 37), 0, "seekdir by steps");
    seekdir(dir, end);
    entry = readdir(dir);
    CLAIM(!entry, "seekdir to the end");
    other = opendir(".");
    NEED(other != NULL);
    EQUAL(misplaced(other, places, n - 1, n, -7), 0, "positions hold for another open directory");
    NEED(closedir(dir) == 0 && closedir(other) == 0);
}

/* A position leads to the same name when names before and after it come and go. */
static void stable_positions(void)
{
    static struct place places[SOME + 2];
    static unsigned char seen[3 * SOME];
    char name[96];
    int n, wrong = 0;
    DIR *dir;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, SOME);
    dir = opendir(".");
    NEED(dir != NULL);
    n = read_places(dir, places, SOME + 2);
    NEED(n == SOME + 2);
    for (int i = 0; i < SOME; i += 3) { /* 0, 3, 6 .. go, others come */
        number_name(name, sizeof(name), i);
        NEED(unlink(name) == 0);
        make_numbered(SOME + i, SOME + i + 3);
    }
    for (int i = 0; i < n; i++) {
        int number = number_of(places[i].name);

        if (number >= 0 && number % 3 != 0) {
            struct dirent *entry;
            bool found = false;

            seekdir(dir, places[i].at);
            for (int j = 0; j < 8 * SOME && !found && (entry = readdir(dir)) != NULL; j++) {
                found = strcmp(entry->d_name, places[i].name) == 0;
                if (!found && number_of(entry->d_name) >= 0 && number_of(entry->d_name) < SOME) {
                    break; /* an old name: it had another position */
                }
            }
            wrong += !found;
        }
    }
    EQUAL(wrong, 0, "a position leads to its name, or to new names before that");
    seekdir(dir, places[n / 2].at);
    list_numbers(dir, seen, 3 * SOME);
    wrong = 0;
    for (int i = 0; i < n; i++) {
        int number = number_of(places[i].name);

        if (number >= 0 && number % 3 != 0) {
            wrong += seen[number] != (i >= n / 2);
        }
    }
    EQUAL(wrong, 0, "from a position on, old names are those that came after it");
    NEED(closedir(dir) == 0);
}

/* getdents64 */

struct raw_dirent {
    uint64_t ino;
    int64_t off;
    unsigned short len;
    unsigned char type;
    char name[];
};

static long raw_list(int fd, void *buffer, size_t size)
{
    return syscall(SYS_getdents64, fd, buffer, size);
}

static void raw_sizes(void)
{
    static const size_t sizes[] = {280, 300, 512, 1000, 4096, 32768, 1u << 20};
    static char buffer[1u << 20] __attribute__((aligned(8)));
    static unsigned char seen[SOME];
    int fd, path_fd;

    NEED(mkdir("d", 0755) == 0 && chdir("d") == 0);
    make_numbered(0, SOME);
    fd = open(".", O_RDONLY | O_DIRECTORY);
    NEED(fd >= 0);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        int dots = 0, bad = 0;
        long n;

        memset(seen, 0, sizeof(seen));
        NEED(lseek(fd, 0, SEEK_SET) == 0);
        while ((n = raw_list(fd, buffer, sizes[i])) > 0) {
            for (long at = 0; at < n;) {
                const struct raw_dirent *entry = (const struct raw_dirent *)(buffer + at);
                int number = number_of(entry->name);

                bad += entry->len % 8 != 0 || entry->ino == 0 || at + entry->len > n;
                dots += is_dot(entry->name);
                if (number >= 0 && number < SOME) {
                    seen[number]++;
                }
                at += entry->len;
            }
        }
        EQUAL(n, 0, "getdents64 by %zu bytes ends", sizes[i]);
        EQUAL(not_once(seen, SOME), 0, "getdents64 by %zu bytes has each name once", sizes[i]);
        EQUAL(dots, 2, "getdents64 by %zu bytes has both dots", sizes[i]);
        EQUAL(bad, 0, "getdents64 by %zu bytes has whole entries", sizes[i]);
    }
    NEED(lseek(fd, 0, SEEK_SET) == 0);
    FAILS(raw_list(fd, buffer, 16), EINVAL, "getdents64 with no room for one entry");
    FAILS(raw_list(-1, buffer, 4096), EBADF, "getdents64 of what is not open");
    path_fd = open(".", O_PATH);
    NEED(path_fd >= 0);
    FAILS(raw_list(path_fd, buffer, 4096), EBADF, "getdents64 of an O_PATH descriptor");
    NEED(close(path_fd) == 0);
    EQUAL(raw_list(fd, buffer, 24), 24, "getdents64 with room for just one");
    EQUAL(lseek(fd, 0, SEEK_CUR), ((struct raw_dirent *)buffer)->off,
          "the offset is that of the entry that was read");
    NEED(close(fd) == 0);
    fd = open("n0", O_RDONLY);
    NEED(fd >= 0);
    FAILS(raw_list(fd, buffer, 4096), ENOTDIR, "getdents64 of a file");
    NEED(close(fd) == 0 && mkdir("e", 0755) == 0);
    fd = open("e", O_RDONLY);
    NEED(fd >= 0 && rmdir("e") == 0);
    FAILS(raw_list(fd, buffer, 4096), ENOENT, "getdents64 of a removed directory");
    NEED(close(fd) == 0);
}

/* Two mounts */

static void seen_elsewhere(void)
{
    static struct place places[SOME + 2];
    DIR *dir, *there;
    int n;

    make_numbered(0, SOME);
    dir = opendir(".");
    there = opendir(px_other("."));
    NEED(dir && there);
    n = read_places(dir, places, SOME + 2);
    NEED(n == SOME + 2);
    EQUAL(misplaced(there, places, n - 1, n, -1), 0, "positions taken here hold there");
    NEED(closedir(dir) == 0 && closedir(there) == 0);
}

const struct px_group px_seekdir[] = {
    {"positions", positions, 0},
    {"stable-positions", stable_positions, 0},
    {"raw-sizes", raw_sizes, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
