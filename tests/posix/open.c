/* SPDX-License-Identifier: Apache-2.0 */
/* open(), openat(), what is made and who may: POSIX.1-2024 open; open(2). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    const char *name;
    int flags;
} accesses[] = {{"reading", O_RDONLY}, {"writing", O_WRONLY}, {"both", O_RDWR}};

/* Opens and closes: 0, or -1 with errno. */
static int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0644);

    return fd < 0 ? -1 : close(fd);
}

static int create(const char *path)
{
    return try_open(path, O_CREAT | O_WRONLY);
}

static int read_only(const char *path)
{
    return try_open(path, O_RDONLY);
}

/* The types: who can be opened how. */

static void types(void)
{
    static const struct {
        enum px_type type;
        int errors[3], nofollow, directory;
    } rows[] = {
        {PX_REG, {0, 0, 0}, 0, ENOTDIR},
        {PX_DIR, {0, EISDIR, EISDIR}, 0, 0},
        {PX_FIFO, {0, ENXIO, 0}, 0, ENOTDIR},
        {PX_SOCK, {ENXIO, ENXIO, ENXIO}, ENXIO, ENOTDIR},
        {PX_LINK, {ENOENT, ENOENT, ENOENT}, ELOOP, ENOENT},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *name = px_type_name(rows[i].type);

        NEED(px_make(rows[i].type, "x", 0755) == 0);
        for (size_t j = 0; j < COUNT(accesses); j++) {
            int ret = try_open("x", accesses[j].flags | O_NONBLOCK);

            EQUAL(ret ? errno : 0, rows[i].errors[j], "%s opened for %s", name, accesses[j].name);
        }
        EQUAL(try_open("x", O_RDONLY | O_NONBLOCK | O_NOFOLLOW) ? errno : 0, rows[i].nofollow,
              "O_NOFOLLOW: %s", name);
        EQUAL(try_open("x", O_RDONLY | O_NONBLOCK | O_DIRECTORY) ? errno : 0, rows[i].directory,
              "O_DIRECTORY: %s", name);
        FAILS(try_open("x", O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK), EEXIST, "O_EXCL: %s", name);
        NEED(remove("x") == 0);
    }
}

/* O_CREAT */

static void creates(void)
{
    struct stat st;
    int fd = open("a", O_CREAT | O_WRONLY, 0640);

    NEED(fd >= 0);
    NEED(fstat(fd, &st) == 0);
    EQUAL(st.st_mode, S_IFREG | 0640, "what O_CREAT makes is a regular file of that mode");
    EQUAL(st.st_size, 0, "what O_CREAT makes is empty");
    EQUAL(st.st_nlink, 1, "what O_CREAT makes has one link");
    EQUAL(st.st_uid, geteuid(), "what O_CREAT makes is its maker's");
    EQUAL(st.st_ino, px_ino("a"), "its name leads to what was opened");
    EQUAL(write(fd, "text", 4), 4, "what O_CREAT makes can be written");
    NEED(close(fd) == 0);
    OK(fd = open("a", O_CREAT | O_RDWR, 0777), "O_CREAT opens what is there");
    NEED(fstat(fd, &st) == 0 && close(fd) == 0);
    EQUAL(st.st_size, 4, "O_CREAT leaves what is there as it is");
    EQUAL(st.st_mode & 07777, 0640, "O_CREAT leaves the mode of what is there");
    OK(fd = open("none", O_CREAT | O_RDWR, 0), "the mode does not concern who makes the file");
    EQUAL(write(fd, "text", 4), 4, "a file of mode 0 can be written by who made it");
    EQUAL(pread(fd, (char[4]){0}, 4, 0), 4, "a file of mode 0 can be read by who made it");
    NEED(close(fd) == 0);
    OK(fd = open("ro", O_CREAT | O_RDONLY, 0444), "a file is made and opened for reading");
    FAILS(write(fd, "x", 1), EBADF, "what was made for reading is not written");
    NEED(close(fd) == 0);
}

static void creates_through_links(void)
{
    NEED(mkdir("d", 0755) == 0 && symlink("d/target", "l") == 0 && symlink("l", "m") == 0);
    NEED(symlink("loop", "loop") == 0 && symlink("none/x", "far") == 0);
    FAILS(try_open("l", O_CREAT | O_EXCL | O_WRONLY), EEXIST, "O_EXCL: a link to nowhere");
    CLAIM(!px_exists("d/target"), "O_EXCL makes nothing behind a link");
    FAILS(try_open("l", O_CREAT | O_NOFOLLOW | O_WRONLY), ELOOP, "O_NOFOLLOW: a link to nowhere");
    OK(create("m"), "O_CREAT follows links to nowhere");
    CLAIM(S_ISREG(px_stat("d/target").st_mode), "O_CREAT makes what the links lead to");
    CLAIM(S_ISLNK(px_stat("l").st_mode), "O_CREAT leaves the link");
    FAILS(create("far"), ENOENT, "O_CREAT: a link into a directory that is not there");
    FAILS(create("loop"), ELOOP, "O_CREAT: a loop");
    FAILS(read_only("loop"), ELOOP, "a loop");
    OK(try_open("l", O_CREAT | O_WRONLY), "O_CREAT: a link to what is there");
}

static void create_errors(void)
{
    int d;

    px_bad_paths("O_CREAT", create);
    px_bad_paths("without O_CREAT", read_only);
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    FAILS(read_only("none"), ENOENT, "what is not there");
    FAILS(create("d"), EISDIR, "O_CREAT: a directory");
    FAILS(try_open("d", O_CREAT | O_RDONLY), EISDIR, "O_CREAT for reading: a directory");
    FAILS(create("d/"), EISDIR, "O_CREAT: a directory and a slash");
    FAILS(create("new/"), EISDIR, "O_CREAT: a new name and a slash");
    FAILS(create("d/."), EISDIR, "O_CREAT: .");
    FAILS(create("d/.."), EISDIR, "O_CREAT: ..");
    FAILS(read_only("f/"), ENOTDIR, "a file and a slash");
    FAILS(try_open("f", O_CREAT | O_EXCL | O_TRUNC | O_WRONLY), EEXIST, "O_EXCL with O_TRUNC");
    FAILS(try_open("d", O_WRONLY | O_TRUNC), EISDIR, "O_TRUNC: a directory");
    OK(create(px_long_name('n', PX_NAME_MAX)), "O_CREAT: a name of 255 bytes");
    OK(read_only(px_long_name('n', PX_NAME_MAX)), "a name of 255 bytes");
    d = open("d", O_RDONLY);
    NEED(d >= 0 && rmdir("d") == 0);
    FAILS(openat(d, "x", O_CREAT | O_WRONLY, 0644), ENOENT, "O_CREAT in a removed directory");
    NEED(close(d) == 0);
}

static void masks(void)
{
    static const mode_t masks[] = {0, 022, 027, 077, 0111, 0444, 0777};
    static const mode_t modes[] = {0777, 0666, 0600, 0421, 04755, 01777, 0};

    for (size_t i = 0; i < COUNT(masks); i++) {
        for (size_t j = 0; j < COUNT(modes); j++) {
            int fd;

            (void)umask(masks[i]);
            fd = open("x", O_CREAT | O_EXCL | O_WRONLY, modes[j]);
            NEED(fd >= 0 && close(fd) == 0);
            EQUAL(px_stat("x").st_mode & 07777, modes[j] & ~masks[i],
                  "a file of mode %04o under umask %04o", modes[j], masks[i]);
            NEED(unlink("x") == 0);
        }
    }
}

/* O_TRUNC */

static void truncates(void)
{
    struct stat before, after;
    char bytes[8];
    int fd;

    for (size_t i = 1; i < COUNT(accesses); i++) {
        const char *how = accesses[i].name;

        NEED(px_write_file("a", "text", 4) == 0 && chmod("a", 0640) == 0 && link("a", "b") == 0);
        fd = open("b", O_RDWR);
        NEED(fd >= 0);
        before = px_stat("a");
        px_tick();
        OK(try_open("a", accesses[i].flags | O_TRUNC), "O_TRUNC for %s", how);
        after = px_stat("a");
        EQUAL(after.st_size, 0, "O_TRUNC for %s empties the file", how);
        EQUAL(after.st_ino, before.st_ino, "O_TRUNC for %s keeps the inode", how);
        EQUAL(after.st_mode, before.st_mode, "O_TRUNC for %s keeps the mode", how);
        CLAIM(px_later(after.st_mtim, before.st_mtim), "O_TRUNC for %s: mtime moves on", how);
        CLAIM(px_later(after.st_ctim, before.st_ctim), "O_TRUNC for %s: ctime moves on", how);
        EQUAL(read(fd, bytes, sizeof(bytes)), 0, "O_TRUNC for %s: who has it open reads nothing",
              how);
        EQUAL(pwrite(fd, "x", 1, 3), 1, "O_TRUNC for %s: who has it open writes", how);
        EQUAL(pread(fd, bytes, sizeof(bytes), 0), 4, "O_TRUNC for %s: and reads its bytes", how);
        CLAIM(memcmp(bytes, "\0\0\0x", 4) == 0, "O_TRUNC for %s: what was there is gone", how);
        NEED(close(fd) == 0 && unlink("a") == 0 && unlink("b") == 0);
    }
    NEED(px_make(PX_REG, "empty", 0644) == 0);
    before = px_stat("empty");
    px_tick();
    OK(try_open("empty", O_WRONLY | O_TRUNC), "O_TRUNC of an empty file");
    CLAIM(px_later(px_stat("empty").st_mtim, before.st_mtim), "mtime of the empty file moves on");
    OK(try_open("new", O_CREAT | O_TRUNC | O_WRONLY), "O_TRUNC of what O_CREAT makes");
    NEED(symlink("full", "l") == 0 && px_write_file("full", "text", 4) == 0);
    OK(try_open("l", O_WRONLY | O_TRUNC), "O_TRUNC through a link");
    EQUAL(px_stat("full").st_size, 0, "empties what the link leads to");
    NEED(mkfifo("p", 0600) == 0);
    OK(try_open("p", O_RDWR | O_TRUNC), "O_TRUNC of a FIFO has no effect");
}

static void at_directories(void)
{
    char path[4096];
    int d, f;

    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "f", 0644) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("f", O_RDONLY);
    NEED(d >= 0 && f >= 0 && getcwd(path, sizeof(path) - 8));
    OK(close(openat(d, "x", O_CREAT | O_WRONLY, 0644)), "openat makes a file in a directory");
    CLAIM(px_exists("d/x"), "and there it is");
    FAILS(openat(f, "x", O_RDONLY), ENOTDIR, "openat: the directory is a file");
    FAILS(openat(d, "", O_RDONLY), ENOENT, "openat: an empty path");
    (void)memcpy(path + strlen(path), "/f", 3);
    OK(close(openat(-1, path, O_RDONLY)), "openat: a path from the root needs no directory");
    NEED(rename("d", "e") == 0);
    OK(close(openat(d, "x", O_RDONLY)), "openat: the directory may get another name");
    OK(close(openat(d, "../f", O_RDONLY)), "openat: .. from the directory");
    NEED(close(d) == 0 && close(f) == 0);
}

/* What is being executed */

static void text_busy(void)
{
    size_t len;
    char *program = px_read_file("/bin/sleep", &len);
    int status = 0, ready[2];
    char byte;
    pid_t pid;

    NEED(program && px_write_file("run", program, len) == 0 && chmod("run", 0755) == 0);
    free(program);
    NEED(pipe2(ready, O_CLOEXEC) == 0);
    pid = fork();
    if (pid == 0) {
        (void)execl("./run", "run", "60", NULL);
        _exit(1);
    }
    NEED(pid > 0 && close(ready[1]) == 0);
    NEED(read(ready[0], &byte, 1) == 0); /* it runs */
    FAILS(try_open("run", O_WRONLY), ETXTBSY, "a program that runs is not opened for writing");
    FAILS(try_open("run", O_RDWR | O_TRUNC), ETXTBSY, "nor emptied");
    OK(try_open("run", O_RDONLY), "a program that runs is opened for reading");
    NEED(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    CLAIM(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the program ran until it was ended");
    OK(try_open("run", O_WRONLY), "it is opened for writing when it has ended");
}

/* Rights */

/* Only the rights of the class that one belongs to count: the others have the opposite ones. */
static void rights(void)
{
    static const struct {
        const char *who;
        unsigned user, shift;
        bool supplementary;
    } rows[] = {{"owner", 0, 6, false},
                {"group", 1, 3, false},
                {"supplementary group", 2, 3, true},
                {"others", 3, 0, false}};
    const gid_t group = px_uid(1);

    NEED(px_make(PX_REG, "f", 0) == 0 && chown("f", px_uid(0), group) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (unsigned have = 0; have < 8; have++) {
            NEED(chmod("f", (~(have * 0111u) & 0777u & ~(7u << rows[i].shift)) |
                                have << rows[i].shift) == 0);
            px_become(px_uid(rows[i].user), px_uid(rows[i].user), &group, rows[i].supplementary);
            for (size_t j = 0; j < COUNT(accesses); j++) {
                unsigned need = j == 0 ? 4 : j == 1 ? 2 : 6;

                EQUAL(try_open("f", accesses[j].flags) ? errno : 0,
                      (have & need) == need ? 0 : EACCES, "%s with rights %o opens for %s",
                      rows[i].who, have, accesses[j].name);
            }
            EQUAL(try_open("f", O_RDONLY | O_TRUNC) ? errno : 0, (have & 6) == 6 ? 0 : EACCES,
                  "%s with rights %o opens for reading with O_TRUNC", rows[i].who, have);
            px_become_root();
        }
    }
    NEED(chmod("f", 0) == 0);
    for (size_t j = 0; j < COUNT(accesses); j++) {
        OK(try_open("f", accesses[j].flags), "root opens a file of mode 0 for %s",
           accesses[j].name);
    }
}

static void create_rights(void)
{
    int fd;

    px_needs_write("O_CREAT", NULL, create);
    NEED(mkdir("d", 0755) == 0 && px_make(PX_REG, "d/f", 0666) == 0 && chmod("d/f", 0666) == 0);
    px_become_user(0);
    OK(create("d/f"), "O_CREAT of what is there needs no right to write the directory");
    FAILS(try_open("d/f", O_CREAT | O_EXCL | O_WRONLY), EEXIST,
          "O_EXCL: that it is there comes before the right");
    FAILS(create("d/new"), EACCES, "a file in a directory that one may not write");
    CLAIM(!px_exists("d/new"), "which makes none");
    px_become_root();
    NEED(chmod("d", 0777) == 0);
    px_become_user(0);
    fd = open("d/mine", O_CREAT | O_RDWR, 0);
    NEED(fd >= 0);
    FAILS(try_open("d/mine", O_RDONLY), EACCES, "a file of mode 0 is not opened again");
    NEED(chmod("d/mine", 0600) == 0);
    EQUAL(write(fd, "x", 1), 1, "an open file may be written when");
    NEED(chmod("d/mine", 0) == 0);
    EQUAL(write(fd, "x", 1), 1, "and after its mode allows it");
    px_become_user(1);
    EQUAL(write(fd, "x", 1), 1, "rights count when a file is opened, not when it is written");
    px_become_root();
    NEED(close(fd) == 0);
}

static void owners(void)
{
    struct stat st;

    NEED(mkdir("plain", 0777) == 0 && chmod("plain", 0777) == 0);
    NEED(mkdir("set", 0777) == 0 && chown("set", px_uid(2), px_uid(2)) == 0);
    NEED(chmod("set", 02777) == 0);
    px_become(px_uid(0), px_uid(1), NULL, 0);
    NEED(create("plain/f") == 0 && create("set/f") == 0);
    st = px_stat("plain/f");
    EQUAL(st.st_uid, px_uid(0), "a new file belongs to the effective user");
    EQUAL(st.st_gid, px_uid(1), "a new file belongs to the effective group");
    st = px_stat("set/f");
    EQUAL(st.st_uid, px_uid(0), "in a set-group-ID directory: to the user all the same");
    EQUAL(st.st_gid, px_uid(2), "in a set-group-ID directory: to the directory's group");
    EQUAL(st.st_mode & 07777, 0644, "in a set-group-ID directory: without that bit");
    px_become_root();
}

/* Two mounts */

static void seen_elsewhere(void)
{
    char text[8] = "";
    int fd;

    FAILS(read_only("f"), ENOENT, "a name that is not there yet");
    OK(create(px_other("f")), "the other mount makes it");
    FAILS(try_open("f", O_CREAT | O_EXCL | O_WRONLY), EEXIST, "O_EXCL sees what the other made");
    EQUAL(px_ino("f"), px_ino(px_other("f")), "both have the same inode number");
    NEED(px_write_file(px_other("f"), "text", 4) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    EQUAL(read(fd, text, 4), 4, "what the other wrote and closed is read here");
    OK(try_open(px_other("f"), O_WRONLY | O_TRUNC), "the other empties it");
    EQUAL(pread(fd, text, 4, 0), 0, "who has it open here reads nothing");
    NEED(close(fd) == 0);
    NEED(px_make(PX_DIR, "x", 0755) == 0 && read_only(px_other("x")) == 0);
    NEED(rmdir("x") == 0 && px_write_file("x", "text", 4) == 0);
    OK(try_open(px_other("x"), O_WRONLY), "a directory that became a file is one there");
    NEED(unlink("x") == 0);
    FAILS(read_only(px_other("x")), ENOENT, "what was removed here is not opened there");
    OK(create(px_other("x")), "O_CREAT there makes it again");
    CLAIM(px_stat("x").st_size == 0, "a new and empty one");
}

#define RACES 60

static int race(void *arg)
{
    const char *how = arg;
    int won = 0;

    for (int i = 0; i < RACES; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "r%d", i);
        won += try_open(how[0] == 'h' ? name : px_other(name), O_CREAT | O_EXCL | O_WRONLY) == 0;
    }
    return won;
}

static void one_wins(void)
{
    static const char *const hows[] = {"here", "there", "here", "there"};
    int won = 0, status = 0;

    for (size_t i = 0; i < COUNT(hows); i++) {
        pid_t pid = fork();

        NEED(pid >= 0);
        if (pid == 0) {
            _exit(race((void *)(uintptr_t)hows[i]));
        }
    }
    for (size_t i = 0; i < COUNT(hows); i++) {
        NEED(wait(&status) > 0 && WIFEXITED(status));
        won += WEXITSTATUS(status);
    }
    EQUAL(won, RACES, "O_EXCL of one name by four processes on two mounts: one makes it");
    EQUAL(px_count("."), RACES, "and so many names are there");
}

static void rights_elsewhere(void)
{
    NEED(px_make(PX_REG, "f", 0600) == 0 && chmod("f", 0666) == 0);
    px_become_user(0);
    OK(try_open("f", O_RDWR), "a file that all may write");
    px_become_root();
    NEED(chmod(px_other("f"), 0600) == 0);
    px_become_user(0);
    FAILS(read_only("f"), EACCES, "the right taken away there is gone here at once");
    px_become_root();
    NEED(chown(px_other("f"), px_uid(0), 0) == 0);
    px_become_user(0);
    OK(try_open("f", O_RDWR), "who became its owner there may open it here");
    px_become_root();
}

const struct px_group px_open[] = {
    {"types", types, 0},
    {"creates", creates, 0},
    {"creates-through-links", creates_through_links, 0},
    {"create-errors", create_errors, 0},
    {"masks", masks, 0},
    {"truncates", truncates, 0},
    {"at-directories", at_directories, 0},
    {"text-busy", text_busy, 0},
    {"rights", rights, PX_ROOT},
    {"create-rights", create_rights, PX_ROOT},
    {"owners", owners, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"one-wins", one_wins, PX_TWO},
    {"rights-elsewhere", rights_elsewhere, PX_TWO | PX_ROOT},
    {NULL, NULL, 0},
};
