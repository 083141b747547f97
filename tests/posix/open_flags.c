/* SPDX-License-Identifier: Apache-2.0 */
/* The flags of open(): POSIX.1-2024 open; open(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "tests/posix/posix.h"

/* Opens and closes: 0, or -1 with errno. */
static int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0644);

    return fd < 0 ? -1 : close(fd);
}

/* O_APPEND */

static void appends(void)
{
    char *bytes;
    int a, b;

    NEED(px_write_file("f", "0", 1) == 0);
    a = open("f", O_RDWR | O_APPEND);
    b = open("f", O_WRONLY | O_APPEND);
    NEED(a >= 0 && b >= 0);
    EQUAL(lseek(a, 0, SEEK_CUR), 0, "O_APPEND begins at offset 0 for reading");
    EQUAL(write(a, "1", 1), 1, "one appends");
    EQUAL(write(b, "2", 1), 1, "another appends");
    EQUAL(write(a, "3", 1), 1, "and the first again");
    EQUAL(lseek(a, 0, SEEK_CUR), 4, "the offset is behind what was appended");
    NEED(lseek(a, 0, SEEK_SET) == 0);
    EQUAL(write(a, "4", 1), 1, "after a seek to the start");
    EQUAL(pwrite(a, "5", 1, 0), 1, "pwrite appends, too, whatever its offset");
    NEED(fcntl(a, F_SETFL, 0) == 0);
    EQUAL(pwrite(a, "6", 1, 0), 1, "O_APPEND taken away");
    NEED(fcntl(a, F_SETFL, O_APPEND) == 0);
    EQUAL(pwrite(a, "7", 1, 0), 1, "and set again");
    NEED(ftruncate(b, 7) == 0);
    EQUAL(write(b, "8", 1), 1, "after the file was cut");
    bytes = px_read_file("f", NULL);
    CLAIM(bytes && strcmp(bytes, "61234578") == 0, "each came behind the others: %s", bytes);
    free(bytes);
    NEED(close(a) == 0 && close(b) == 0);
}

#define APPENDERS   4
#define APPENDS     100
#define APPEND_SIZE 37

static int append_some(void *arg)
{
    const char *path = arg;
    int fd = open(path + 1, O_WRONLY | O_APPEND);
    char record[APPEND_SIZE];

    memset(record, path[0], sizeof(record));
    for (int i = 0; fd >= 0 && i < APPENDS; i++) {
        if (write(fd, record, sizeof(record)) != sizeof(record)) {
            return 1;
        }
    }
    return fd < 0 || close(fd);
}

/* Who appends at once: no record is lost or torn. */
static void append_at_once(void)
{
    unsigned seen[APPENDERS] = {0}, torn = 0;
    char *bytes, *names[APPENDERS] = {"af", "bf", "cf", "df"};
    int status = 1, bad = 0;
    size_t len = 0;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    for (int i = 0; i < APPENDERS; i++) {
        pid_t pid = fork();

        NEED(pid >= 0);
        if (pid == 0) {
            _exit(append_some(names[i]));
        }
    }
    for (int i = 0; i < APPENDERS; i++) {
        NEED(wait(&status) > 0);
        bad += status != 0;
    }
    EQUAL(bad, 0, "processes that could not append");
    bytes = px_read_file("f", &len);
    NEED(bytes != NULL);
    EQUAL(len, APPENDERS * APPENDS * APPEND_SIZE, "bytes that four processes appended");
    for (size_t i = 0; i + APPEND_SIZE <= len; i += APPEND_SIZE) {
        for (size_t j = 1; j < APPEND_SIZE; j++) {
            torn += bytes[i + j] != bytes[i];
        }
        seen[(unsigned char)(bytes[i] - 'a') % APPENDERS]++;
    }
    EQUAL(torn, 0, "bytes of appended records among those of another");
    for (int i = 0; i < APPENDERS; i++) {
        EQUAL(seen[i], APPENDS, "records that process %d appended", i);
    }
    free(bytes);
}

/* O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC and flags that exclude each other */

static void follows(void)
{
    NEED(mkdir("d", 0755) == 0 && px_write_file("d/f", "text", 4) == 0);
    NEED(symlink("d", "to-d") == 0 && symlink("d/f", "to-f") == 0);
    OK(try_open("to-d", O_RDONLY | O_DIRECTORY), "O_DIRECTORY: a link to a directory");
    FAILS(try_open("to-f", O_RDONLY | O_DIRECTORY), ENOTDIR, "O_DIRECTORY: a link to a file");
    FAILS(try_open("to-f", O_RDONLY | O_NOFOLLOW), ELOOP, "O_NOFOLLOW: a link to a file");
    FAILS(try_open("to-d", O_RDONLY | O_NOFOLLOW), ELOOP, "O_NOFOLLOW: a link to a directory");
    FAILS(try_open("to-d", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR,
          "O_NOFOLLOW and O_DIRECTORY: a link to a directory");
    OK(try_open("to-d/f", O_RDONLY | O_NOFOLLOW), "O_NOFOLLOW: links in the way are followed");
    OK(try_open("to-d/", O_RDONLY | O_NOFOLLOW), "O_NOFOLLOW: a link and a slash");
    FAILS(try_open("to-f", O_WRONLY | O_TRUNC | O_NOFOLLOW), ELOOP, "O_NOFOLLOW with O_TRUNC");
    EQUAL(px_stat("d/f").st_size, 4, "O_NOFOLLOW with O_TRUNC empties nothing");
    FAILS(try_open("d", O_RDWR | O_DIRECTORY), EISDIR, "O_DIRECTORY: a directory for writing");
    FAILS(try_open("none", O_RDONLY | O_DIRECTORY), ENOENT, "O_DIRECTORY: what is not there");
}

static void descriptors(void)
{
    int a, b;

    NEED(px_write_file("f", "text", 4) == 0);
    a = open("f", O_RDONLY);
    b = open("f", O_WRONLY | O_CLOEXEC | O_SYNC | O_NONBLOCK);
    NEED(a >= 0 && b >= 0);
    EQUAL(fcntl(a, F_GETFD), 0, "a descriptor survives exec");
    EQUAL(fcntl(b, F_GETFD), FD_CLOEXEC, "O_CLOEXEC: it does not");
    EQUAL(fcntl(a, F_GETFL) & O_ACCMODE, O_RDONLY, "F_GETFL has the access mode");
    EQUAL(fcntl(b, F_GETFL) & (O_ACCMODE | O_SYNC | O_NONBLOCK | O_CLOEXEC),
          O_WRONLY | O_SYNC | O_NONBLOCK, "F_GETFL has the flags of the open file");
    FAILS(write(a, "x", 1), EBADF, "what is open for reading is not written");
    FAILS(ftruncate(a, 0), EINVAL, "what is open for reading is not cut");
    FAILS(read(b, (char[1]){0}, 1), EBADF, "what is open for writing is not read");
    NEED(write(b, "TE", 2) == 2);
    EQUAL(lseek(a, 0, SEEK_CUR), 0, "each open has an offset of its own");
    NEED(close(a) == 0 && close(b) == 0);
}

/* O_PATH */

static void path_only(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);
        struct stat st, here;
        int fd;

        NEED(px_make((enum px_type)i, "x", 0750) == 0);
        here = px_stat("x");
        OK(fd = open("x", O_PATH | O_NOFOLLOW), "O_PATH: %s", name);
        EQUAL(fstat(fd, &st), 0, "O_PATH: fstat of a %s", name);
        CLAIM(st.st_ino == here.st_ino && st.st_mode == here.st_mode && st.st_rdev == here.st_rdev,
              "O_PATH: fstat of a %s has what lstat has", name);
        FAILS(read(fd, (char[1]){0}, 1), EBADF, "O_PATH: a %s is not read", name);
        FAILS(write(fd, "x", 1), EBADF, "O_PATH: a %s is not written", name);
        FAILS(fchmod(fd, 0700), EBADF, "O_PATH: fchmod of a %s", name);
        FAILS(fchown(fd, geteuid(), getegid()), EBADF, "O_PATH: fchown of a %s", name);
        FAILS(fgetxattr(fd, "user.x", NULL, 0), EBADF, "O_PATH: fgetxattr of a %s", name);
        NEED(rename("x", "y") == 0);
        EQUAL(fstat(fd, &st), 0, "O_PATH: fstat of a %s that was renamed", name);
        EQUAL(st.st_ino, here.st_ino, "O_PATH: a %s that was renamed is the same", name);
        NEED(close(fd) == 0 && remove("y") == 0);
    }
}

static void path_only_uses(void)
{
    char text[16] = "", path[64];
    int d, f, l;

    NEED(mkdir("d", 0755) == 0 && px_write_file("d/f", "text", 4) == 0);
    NEED(symlink("target", "l") == 0);
    d = open("d", O_PATH);
    f = open("d/f", O_PATH | O_RDWR | O_TRUNC | O_CREAT);
    l = open("l", O_PATH | O_NOFOLLOW);
    NEED(d >= 0 && f >= 0 && l >= 0);
    EQUAL(px_stat("d/f").st_size, 4, "O_PATH: O_TRUNC means nothing");
    FAILS(mmap(NULL, 4096, PROT_READ, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0, EBADF,
          "O_PATH: mmap");
    FAILS(fsync(f), EBADF, "O_PATH: fsync");
    FAILS(ftruncate(f, 0), EBADF, "O_PATH: ftruncate");
    EQUAL(readlinkat(l, "", text, sizeof(text)), 6,
          "O_PATH: readlinkat of a link's own descriptor");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f);
    OK(try_open(path, O_RDWR), "O_PATH: opened for use by /proc/self/fd");
    FAILS(try_open("none", O_PATH), ENOENT, "O_PATH: what is not there");
    OK(faccessat(d, "f", R_OK, 0), "O_PATH: a directory for other calls");
    OK(fchdir(d), "O_PATH: a directory to go to");
    CLAIM(px_exists("f"), "O_PATH: which is then the working directory");
    FAILS(fchdir(f), ENOTDIR, "O_PATH: a file is none to go to");
    NEED(close(d) == 0 && close(f) == 0 && close(l) == 0);
}

static void path_only_rights(void)
{
    int fd;

    NEED(px_make(PX_REG, "f", 0) == 0 && chmod("f", 0) == 0 && mkdir("d", 0755) == 0);
    NEED(px_make(PX_REG, "d/f", 0666) == 0 && chmod("d", 0600) == 0);
    px_become_user(0);
    OK(fd = open("f", O_PATH), "O_PATH needs no right of the file");
    FAILS(open("d/f", O_PATH), EACCES, "O_PATH needs to search the directory");
    px_become_root();
    NEED(close(fd) == 0);
}

/* O_NOATIME */

static void no_atime(void)
{
    static const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    char byte;
    int fd;

    NEED(px_write_file("f", "text", 4) == 0 && utimensat(AT_FDCWD, "f", old, 0) == 0);
    OK(fd = open("f", O_RDONLY | O_NOATIME), "O_NOATIME: of one's own file");
    EQUAL(read(fd, &byte, 1), 1, "O_NOATIME: it is read");
    EQUAL(px_stat("f").st_atim.tv_sec, 1000, "O_NOATIME: its atime stays");
    NEED(close(fd) == 0);
}

static void no_atime_rights(void)
{
    NEED(px_make(PX_REG, "f", 0666) == 0 && chmod("f", 0666) == 0);
    NEED(chown("f", px_uid(0), px_uid(0)) == 0);
    OK(try_open("f", O_RDONLY | O_NOATIME), "O_NOATIME: root");
    px_become_user(0);
    OK(try_open("f", O_RDONLY | O_NOATIME), "O_NOATIME: the owner");
    px_become_user(1);
    FAILS(try_open("f", O_RDONLY | O_NOATIME), EPERM, "O_NOATIME: another");
    OK(try_open("f", O_RDONLY), "who may read without it");
    px_become(px_uid(1), px_uid(0), NULL, 0);
    FAILS(try_open("f", O_RDWR | O_NOATIME), EPERM, "O_NOATIME: the group");
}

/* O_TMPFILE */

static void unnamed(void)
{
    struct stat st;
    char path[64];
    int fd;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    fd = open("d", O_TMPFILE | O_RDWR, 0666);
    NEED(OK(fd, "O_TMPFILE makes a file") >= 0);
    EQUAL(px_count("d"), 0, "O_TMPFILE: which has no name");
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_nlink, 0, "O_TMPFILE: and no link");
    EQUAL(st.st_mode, S_IFREG | 0644, "O_TMPFILE: the umask counts");
    EQUAL(write(fd, "text", 4), 4, "O_TMPFILE: it can be written");
    EQUAL(pread(fd, path, 4, 0), 4, "O_TMPFILE: and read");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "d/x", AT_SYMLINK_FOLLOW), "O_TMPFILE: it gets a name");
    EQUAL(px_ino("d/x"), st.st_ino, "O_TMPFILE: which leads to it");
    EQUAL(px_stat("d/x").st_nlink, 1, "O_TMPFILE: and is its link");
    EQUAL(px_stat("d/x").st_size, 4, "O_TMPFILE: with what was written before");
    NEED(close(fd) == 0);
    fd = open("d", O_TMPFILE | O_WRONLY | O_EXCL, 0600);
    NEED(fd >= 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "d/y", AT_SYMLINK_FOLLOW), ENOENT,
          "O_TMPFILE with O_EXCL: it never gets a name");
    NEED(close(fd) == 0);
    FAILS(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR, "O_TMPFILE: a file");
    FAILS(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT, "O_TMPFILE: what is not there");
}

/* Give what @fd leads to a name. */
static int name_it(int fd, const char *path)
{
    char link_path[64];

    (void)snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, link_path, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

static void unnamed_names(void)
{
    char path[64];
    struct stat before, after;
    int fd, again;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    before = px_stat("d");
    fd = open("d", O_TMPFILE | O_RDWR, 0600);
    NEED(fd >= 0 && write(fd, "text", 4) == 4);
    after = px_stat("d");
    CLAIM(memcmp(&before.st_mtim, &after.st_mtim, sizeof(after.st_mtim)) == 0,
          "O_TMPFILE: the directory does not change");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    OK(again = open(path, O_RDONLY), "O_TMPFILE: it is opened once more");
    NEED(again >= 0);
    EQUAL(read(again, path, 8), 4, "O_TMPFILE: and is the same file");
    FAILS(name_it(fd, "f"), EEXIST, "O_TMPFILE: a name that is taken");
    FAILS(name_it(fd, "none/x"), ENOENT, "O_TMPFILE: a directory that is not there");
    OK(name_it(fd, "x"), "O_TMPFILE: a name in another directory");
    OK(link("x", "d/y"), "O_TMPFILE: a second name");
    EQUAL(px_stat("d/y").st_nlink, 2, "O_TMPFILE: which counts");
    EQUAL(pwrite(fd, "more", 4, 4), 4, "O_TMPFILE: it is written under its names");
    NEED(close(fd) == 0);
    EQUAL(px_stat("x").st_size, 8, "O_TMPFILE: and closed like any other");
    NEED(unlink("x") == 0 && unlink("d/y") == 0);
    EQUAL(read(again, path, 8), 4, "O_TMPFILE: it outlives its names while it is open");
    FAILS(name_it(again, "x"), ENOENT, "O_TMPFILE: it gets a name once");
    NEED(close(again) == 0);
}

static void unnamed_rights(void)
{
    struct stat st;
    int fd;

    NEED(mkdir("shared", 0777) == 0 && mkdir("closed", 0755) == 0 && mkdir("none", 0755) == 0);
    NEED(chown("shared", px_uid(0), px_uid(3)) == 0 && chmod("shared", 02777) == 0);
    NEED(chmod("none", 0666) == 0);
    px_become_user(1);
    FAILS(open("closed", O_TMPFILE | O_RDWR, 0600), EACCES, "O_TMPFILE: no right to write");
    FAILS(open("none", O_TMPFILE | O_RDWR, 0600), EACCES, "O_TMPFILE: no right to search");
    fd = open("shared", O_TMPFILE | O_WRONLY, 0440);
    NEED(OK(fd, "O_TMPFILE: the right to write the directory suffices") >= 0);
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_uid, px_uid(1), "O_TMPFILE: it is its maker's");
    EQUAL(st.st_gid, px_uid(3), "O_TMPFILE: of the group of a set-group-ID directory");
    EQUAL(st.st_mode & 07777, 0440, "O_TMPFILE: of the mode that was said");
    EQUAL(write(fd, "x", 1), 1, "O_TMPFILE: its maker writes it whatever its mode");
    FAILS(name_it(fd, "closed/x"), EACCES, "O_TMPFILE: no name where there is no right to write");
    NEED(close(fd) == 0);
}

static void bad_flags(void)
{
    NEED(mkdir("d", 0755) == 0);
    FAILS(open("d", O_TMPFILE | O_RDONLY, 0600), EINVAL, "O_TMPFILE for reading");
    FAILS(open("d/x", O_CREAT | O_DIRECTORY, 0755), EINVAL, "O_CREAT and O_DIRECTORY");
    CLAIM(!px_exists("d/x"), "which make nothing");
    FAILS(openat(-1, "d", O_RDONLY), EBADF, "a directory that is not open");
}

/* Two mounts */

static void append_record(const char *path, const char *record)
{
    int fd = open(path, O_WRONLY | O_APPEND);

    NEED(fd >= 0 && write(fd, record, strlen(record)) == (ssize_t)strlen(record));
    NEED(close(fd) == 0);
}

static bool write_filled(int fd, size_t len, unsigned seed)
{
    uint8_t *bytes = malloc(len);
    bool all;

    NEED(bytes != NULL);
    px_fill(bytes, len, 0, seed);
    all = write(fd, bytes, len) == (ssize_t)len;
    free(bytes);
    return all;
}

static void unnamed_elsewhere(void)
{
    static const size_t sizes[] = {1, 5000, 300000, 5u << 20};

    NEED(mkdir("d", 0755) == 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fd = open("d", O_TMPFILE | O_RDWR, 0644), there;
        unsigned seed = (unsigned)i + 1;

        NEED(fd >= 0 && write_filled(fd, sizes[i], seed));
        EQUAL(px_count(px_other("d")), 0, "a file without a name is not listed elsewhere");
        NEED(OK(name_it(fd, "d/x"), "it gets a name, open and not synced") == 0);
        there = open(px_other("d/x"), O_RDONLY);
        NEED(OK(there, "under which the other mount finds it") >= 0);
        CLAIM(px_holds(there, 0, sizes[i], seed), "with all its %zu bytes", sizes[i]);
        OK(unlink(px_other("d/x")), "which takes the name away");
        CLAIM(px_holds(fd, 0, sizes[i], seed), "and it is still there where it was made");
        NEED(close(fd) == 0);
        CLAIM(px_holds(there, 0, sizes[i], seed), "and then where it was opened");
        NEED(close(there) == 0);
    }
}

static void appends_elsewhere(void)
{
    char *bytes;
    int here, there;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    for (int i = 0; i < 3; i++) {
        append_record("f", "here ");
        append_record(px_other("f"), "there ");
    }
    bytes = px_read_file("f", NULL);
    CLAIM(bytes && strcmp(bytes, "here there here there here there ") == 0,
          "who opens, appends and closes in turn on two mounts loses nothing");
    free(bytes);
    NEED(truncate("f", 0) == 0);
    here = open("f", O_WRONLY | O_APPEND);
    there = open(px_other("f"), O_WRONLY | O_APPEND);
    NEED(here >= 0 && there >= 0);
    for (int i = 0; i < 3; i++) {
        NEED(write(there, "there ", 6) == 6 && fsync(there) == 0);
        NEED(write(here, "here ", 5) == 5 && fsync(here) == 0);
    }
    NEED(close(here) == 0 && close(there) == 0);
    bytes = px_read_file("f", NULL);
    CLAIM(bytes && strcmp(bytes, "there here there here there here ") == 0,
          "nor do two that have it open, append and sync in turn");
    free(bytes);
}

const struct px_group px_open_flags[] = {
    {"appends", appends, 0},
    {"append-at-once", append_at_once, 0},
    {"follows", follows, 0},
    {"descriptors", descriptors, 0},
    {"path-only", path_only, 0},
    {"path-only-uses", path_only_uses, 0},
    {"path-only-rights", path_only_rights, PX_ROOT},
    {"no-atime", no_atime, 0},
    {"no-atime-rights", no_atime_rights, PX_ROOT},
    {"unnamed", unnamed, 0},
    {"unnamed-names", unnamed_names, 0},
    {"unnamed-rights", unnamed_rights, PX_ROOT},
    {"unnamed-elsewhere", unnamed_elsewhere, PX_TWO},
    {"bad-flags", bad_flags, 0},
    {"appends-elsewhere", appends_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
