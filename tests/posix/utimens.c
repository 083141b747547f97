/* SPDX-License-Identifier: Apache-2.0 */
/* utimensat(), futimens(): POSIX.1-2024 futimens; utimensat(2). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/posix/posix.h"

#define NOFOLLOW AT_SYMLINK_NOFOLLOW

static int set(const char *path, struct timespec atime, struct timespec mtime)
{
    const struct timespec both[2] = {atime, mtime};

    return utimensat(AT_FDCWD, path, both, NOFOLLOW);
}

static struct timespec at(time_t sec, long nsec)
{
    return (struct timespec){.tv_sec = sec, .tv_nsec = nsec};
}

static const struct timespec now = {.tv_nsec = UTIME_NOW}, omit = {.tv_nsec = UTIME_OMIT};

/* Values */

static void values(void)
{
    static const struct {
        const char *text;
        time_t sec;
        long nsec;
    } rows[] = {
        {"the epoch", 0, 0},
        {"a nanosecond", 0, 1},
        {"a second less a nanosecond", 0, 999999999},
        {"a second before 1970", -1, 0},
        {"a nanosecond before 1970", -1, 999999999},
        {"December 1901", -2147483648, 0},
        {"December 1901 and nanoseconds", -2147483647, 123456789},
        {"the last second of 31 bits", 2147483647, 999999999},
        {"the first second of 32 bits", 2147483648, 0},
        {"the last second of 32 bits", 4294967295, 1},
        {"the first second of 33 bits", 4294967296, 987654321},
        {"the year 2242", 8589934591, 5},
    };

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(px_make((enum px_type)i, "x", 0644) == 0);
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
            const struct timespec t = at(rows[r].sec, rows[r].nsec), other = at(77, 88);

            NEED(set("x", t, other) == 0);
            CLAIM(px_same(px_stat("x").st_atim, t), "%s: atime is %s", name, rows[r].text);
            CLAIM(px_same(px_stat("x").st_mtim, other), "%s: mtime beside %s", name, rows[r].text);
            NEED(set("x", other, t) == 0);
            CLAIM(px_same(px_stat("x").st_mtim, t), "%s: mtime is %s", name, rows[r].text);
        }
        NEED(remove("x") == 0);
    }
    NEED(px_make(PX_REG, "f", 0644) == 0);
    OK(set("f", at((time_t)1 << 40, 0), at((time_t)1 << 40, 0)), "a time far in the future");
    CLAIM(px_stat("f").st_mtim.tv_sec > 8589934591, "which is kept as late as can be");
    OK(set("f", at(-((time_t)1 << 40), 0), at(-((time_t)1 << 40), 0)), "a time far in the past");
    CLAIM(px_stat("f").st_mtim.tv_sec <= -2147483648, "which is kept as early as can be");
}

static bool is_about(struct timespec t, struct timespec before)
{
    struct timespec after;

    (void)clock_gettime(CLOCK_REALTIME, &after);
    return !px_later(before, t) && !px_later(t, after);
}

static void now_and_omit(void)
{
    struct timespec before, t = at(1000, 1), u = at(2000, 2);
    struct stat st, was;

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(px_make((enum px_type)i, "x", 0644) == 0 && set("x", t, u) == 0);
        (void)clock_gettime(CLOCK_REALTIME, &before);
        px_tick();
        OK(set("x", now, omit), "%s: NOW and OMIT", name);
        CLAIM(is_about(px_stat("x").st_atim, before), "%s: NOW: atime is now", name);
        CLAIM(px_same(px_stat("x").st_mtim, u), "%s: OMIT: mtime stays", name);
        OK(set("x", omit, now), "%s: OMIT and NOW", name);
        CLAIM(is_about(px_stat("x").st_mtim, before), "%s: NOW: mtime is now", name);
        NEED(set("x", t, u) == 0);
        OK(set("x", omit, t), "%s: OMIT and a time", name);
        st = px_stat("x");
        CLAIM(px_same(st.st_atim, t) && px_same(st.st_mtim, t), "%s: OMIT: atime stays", name);
        OK(set("x", now, now), "%s: NOW and NOW", name);
        st = px_stat("x");
        CLAIM(is_about(st.st_atim, before) && is_about(st.st_mtim, before),
              "%s: both times are now", name);
        NEED(set("x", t, u) == 0);
        OK(utimensat(AT_FDCWD, "x", NULL, NOFOLLOW), "%s: no times", name);
        st = px_stat("x");
        CLAIM(is_about(st.st_atim, before), "%s: no times: atime is now", name);
        CLAIM(px_same(st.st_atim, st.st_mtim), "%s: no times: mtime is the same now", name);
        was = st;
        px_tick();
        OK(set("x", omit, omit), "%s: OMIT and OMIT", name);
        st = px_stat("x");
        CLAIM(px_same(st.st_ctim, was.st_ctim) && px_same(st.st_mtim, was.st_mtim),
              "%s: OMIT and OMIT change nothing, not even ctime", name);
        OK(set("x", t, omit), "%s: a time and OMIT", name);
        CLAIM(px_later(px_stat("x").st_ctim, was.st_ctim), "%s: ctime moves on", name);
        CLAIM(is_about(px_stat("x").st_ctim, before), "%s: ctime is now", name);
        NEED(remove("x") == 0);
    }
}

static void bad_values(void)
{
    static const long bad[] = {-1, 1000000000, 2000000000, UTIME_OMIT - 1, UTIME_NOW + 1};
    struct stat was, st;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    was = px_stat("f");
    px_tick();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FAILS(set("f", at(1, bad[i]), at(1, 1)), EINVAL, "atime with %ld ns", bad[i]);
        FAILS(set("f", at(1, 1), at(1, bad[i])), EINVAL, "mtime with %ld ns", bad[i]);
    }
    st = px_stat("f");
    CLAIM(px_same(st.st_ctim, was.st_ctim) && px_same(st.st_mtim, was.st_mtim),
          "what is refused changes nothing");
    OK(set("f", at(99, UTIME_OMIT), at(99, UTIME_OMIT)), "with OMIT the seconds do not matter");
}

/* Names and descriptors */

static void names(void)
{
    const struct timespec t[2] = {{.tv_sec = 1}, {.tv_sec = 2}};
    int d, f, path;

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("f", "l") == 0 && mkdir("d", 0755) == 0);
    NEED(symlink("loop", "loop") == 0 && px_make(PX_REG, "d/x", 0644) == 0);
    d = open("d", O_RDONLY | O_DIRECTORY);
    f = open("f", O_RDONLY);
    path = open("f", O_PATH);
    NEED(d >= 0 && f >= 0 && path >= 0);
    OK(utimensat(AT_FDCWD, "l", t, 0), "through a link");
    EQUAL(px_stat("f").st_mtim.tv_sec, 2, "the file at its end has the time");
    CLAIM(px_stat("l").st_mtim.tv_sec != 2, "the link does not");
    OK(utimensat(AT_FDCWD, "l", t, NOFOLLOW), "NOFOLLOW of a link");
    EQUAL(px_stat("l").st_mtim.tv_sec, 2, "NOFOLLOW gives the link the time");
    OK(utimensat(d, "x", t, 0), "below an open directory");
    EQUAL(px_stat("d/x").st_mtim.tv_sec, 2, "the file below it has the time");
    NEED(set("f", at(5, 5), at(5, 5)) == 0);
    OK(futimens(f, t), "futimens of what is open for reading");
    EQUAL(px_stat("f").st_mtim.tv_sec, 2, "futimens gives the time");
    OK(futimens(d, t), "futimens of a directory");
    EQUAL(px_stat("d").st_mtim.tv_sec, 2, "futimens gives a directory the time");
    FAILS(futimens(path, t), EBADF, "futimens of an O_PATH descriptor");
    FAILS(futimens(-1, t), EBADF, "futimens of -1");
    FAILS(utimensat(-1, "x", t, 0), EBADF, "the directory is not open");
    FAILS(utimensat(f, "x", t, 0), ENOTDIR, "the directory is a file");
    FAILS(utimensat(AT_FDCWD, "f", t, 0x40000), EINVAL, "an unknown flag");
    FAILS(utimensat(AT_FDCWD, "none", t, 0), ENOENT, "no such file");
    FAILS(utimensat(AT_FDCWD, "", t, 0), ENOENT, "an empty path");
    FAILS(utimensat(AT_FDCWD, "f/x", t, 0), ENOTDIR, "a part of the path is a file");
    FAILS(utimensat(AT_FDCWD, "loop", t, 0), ELOOP, "a loop");
    OK(utimensat(AT_FDCWD, "loop", t, NOFOLLOW), "NOFOLLOW of a loop");
    FAILS(utimensat(AT_FDCWD, px_long_name('n', PX_NAME_MAX + 1), t, 0), ENAMETOOLONG,
          "a name of 256 bytes");
    FAILS(utimensat(AT_FDCWD, "f", px_nowhere(), 0), EFAULT, "times at no address");
    NEED(unlink("f") == 0 && set("d/x", at(5, 5), at(5, 5)) == 0);
    OK(futimens(f, t), "futimens of a file without a name");
    NEED(close(d) == 0 && close(f) == 0 && close(path) == 0);
}

/* Rights */

static const struct {
    const char *text;
    int atime, mtime;  /* UTIME_NOW, UTIME_OMIT, 0: a time */
    int writer, other; /* errors of who may write it, of who may not; the owner always may */
} rows[] = {
    {"NOW and NOW", UTIME_NOW, UTIME_NOW, 0, EACCES},
    {"NOW and OMIT", UTIME_NOW, UTIME_OMIT, EPERM, EPERM},
    {"OMIT and NOW", UTIME_OMIT, UTIME_NOW, EPERM, EPERM},
    {"times", 0, 0, EPERM, EPERM},
    {"a time and NOW", 0, UTIME_NOW, EPERM, EPERM},
    {"NOW and a time", UTIME_NOW, 0, EPERM, EPERM},
    {"a time and OMIT", 0, UTIME_OMIT, EPERM, EPERM},
    {"OMIT and OMIT", UTIME_OMIT, UTIME_OMIT, 0, 0},
};

static void who_may(void)
{
    static const enum px_type some[] = {PX_REG, PX_DIR, PX_FIFO, PX_CHR};

    for (size_t t = 0; t < sizeof(some) / sizeof(some[0]); t++) {
        const char *name = px_type_name(some[t]);

        NEED(px_make(some[t], "x", 0) == 0 && chown("x", px_uid(0), px_uid(1)) == 0);
        NEED(chmod("x", 0020) == 0);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            struct timespec a = at(5, rows[i].atime), m = at(6, rows[i].mtime);

            px_become_user(0);
            OK(set("x", a, m), "%s: %s by the owner, who has no right to write", name,
               rows[i].text);
            px_become_user(1);
            GIVES(set("x", a, m), rows[i].writer, "%s: %s by who may write", name, rows[i].text);
            px_become_user(2);
            GIVES(set("x", a, m), rows[i].other, "%s: %s by who may not", name, rows[i].text);
            px_become_root();
            OK(set("x", a, m), "%s: %s by root", name, rows[i].text);
        }
        px_become_user(1);
        OK(utimensat(AT_FDCWD, "x", NULL, 0), "%s: no times by who may write", name);
        px_become_user(2);
        FAILS(utimensat(AT_FDCWD, "x", NULL, 0), EACCES, "%s: no times by who may not", name);
        px_become_root();
        NEED(remove("x") == 0);
    }
}

/* A link has all rights, and yet only its owner sets its times. */
static void who_may_links(void)
{
    NEED(symlink("x", "l") == 0 && lchown("l", px_uid(0), px_uid(0)) == 0);
    px_become_user(1);
    FAILS(set("l", at(1, 1), at(1, 1)), EPERM, "times of another's link");
    px_become_user(0);
    OK(set("l", at(1, 1), at(1, 1)), "times of one's own link");
    px_become_root();
}

static void open_for_writing(void)
{
    int fd;

    NEED(px_make(PX_REG, "f", 0644) == 0 && chmod("f", 0666) == 0);
    px_become_user(1);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    OK(futimens(fd, NULL), "futimens NULL by who may write");
    px_become_root();
    NEED(chmod("f", 0644) == 0);
    px_become_user(1);
    FAILS(futimens(fd, NULL), EACCES,
          "futimens NULL by who has it open for writing, and may not any more");
    px_become_root();
    NEED(close(fd) == 0);
}

/* With data: cp -p and tar set times after they wrote. */

static void after_writing(void)
{
    const struct timespec t[2] = {{.tv_sec = 11, .tv_nsec = 1}, {.tv_sec = 22, .tv_nsec = 2}};
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct stat st;

    NEED(fd >= 0 && write(fd, "abc", 3) == 3 && futimens(fd, t) == 0);
    NEED(fstat(fd, &st) == 0);
    CLAIM(px_same(st.st_mtim, t[1]), "mtime set after a write is there");
    px_tick();
    NEED(fsync(fd) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_same(st.st_mtim, t[1]), "and after fsync");
    NEED(close(fd) == 0);
    CLAIM(px_same(px_stat("f").st_mtim, t[1]), "and after close");
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && write(fd, "defg", 4) == 4 && set("f", t[0], t[1]) == 0 && close(fd) == 0);
    CLAIM(px_same(px_stat("f").st_mtim, t[1]), "set by name between write and close it is there");
    NEED(truncate("f", 2) == 0 && set("f", t[0], t[1]) == 0);
    CLAIM(px_same(px_stat("f").st_mtim, t[1]), "set after truncate it is there");
    fd = open("f", O_RDWR);
    NEED(fd >= 0 && set("f", t[0], t[1]) == 0 && write(fd, "x", 1) == 1);
    NEED(fstat(fd, &st) == 0);
    CLAIM(px_later(st.st_mtim, t[1]), "a write after it moves mtime");
    NEED(close(fd) == 0);
    CLAIM(px_later(px_stat("f").st_mtim, t[1]), "and so it is after close");
}

static void written_whatever_it_was(void)
{
    static const struct {
        const char *text;
        time_t sec;
    } times[] = {{"the year 2242", 8589934591}, {"before 1970", -5}, {"1901", -2147483648}};
    int fd = open("f", O_CREAT | O_RDWR, 0644);

    NEED(fd >= 0);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct timespec before;
        struct stat st;

        NEED(set("f", now, at(times[i].sec, 7)) == 0 &&
             clock_gettime(CLOCK_REALTIME, &before) == 0);
        px_tick();
        NEED(pwrite(fd, "abc", 3, 0) == 3 && fstat(fd, &st) == 0);
        CLAIM(is_about(st.st_mtim, before), "a write moves mtime to now from %s", times[i].text);
        CLAIM(px_same(px_stat("f").st_mtim, st.st_mtim), "also by its name, from %s",
              times[i].text);
        NEED(fsync(fd) == 0);
        CLAIM(px_same(px_stat("f").st_mtim, st.st_mtim), "fsync leaves it, from %s", times[i].text);
    }
    NEED(close(fd) == 0);
}

static void seen_elsewhere(void)
{
    const struct timespec t[2] = {{.tv_sec = 11, .tv_nsec = 1}, {.tv_sec = 22, .tv_nsec = 2}};
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct stat st;

    NEED(fd >= 0 && px_exists(px_other("f")));
    NEED(futimens(fd, t) == 0);
    st = px_stat(px_other("f"));
    CLAIM(px_same(st.st_mtim, t[1]) && px_same(st.st_atim, t[0]), "times set here are seen there");
    NEED(set(px_other("f"), t[1], t[0]) == 0 && fstat(fd, &st) == 0);
    CLAIM(px_same(st.st_mtim, t[0]) && px_same(st.st_atim, t[1]), "times set there are seen here");
    NEED(write(fd, "abc", 3) == 3 && fsync(fd) == 0);
    NEED(set(px_other("f"), t[0], t[1]) == 0);
    NEED(close(fd) == 0);
    CLAIM(px_same(px_stat("f").st_mtim, t[1]),
          "a time set there stays when the file is closed here");
}

/* A time set behind what was written, with neither closed: both are there. */
static void after_writing_seen_elsewhere(void)
{
    static const size_t sizes[] = {3, 5000, 300000};
    const struct timespec t[2] = {{.tv_sec = 11, .tv_nsec = 1}, {.tv_sec = 22, .tv_nsec = 2}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        static uint8_t bytes[300000];
        int fd = open("f", O_CREAT | O_RDWR, 0644), there;

        there = open(px_other("f"), O_RDONLY);
        NEED(fd >= 0 && there >= 0);
        for (unsigned seed = 1; seed <= 2; seed++) {
            px_fill(bytes, sizes[i], 0, seed);
            NEED(pwrite(fd, bytes, sizes[i], 0) == (ssize_t)sizes[i] && futimens(fd, t) == 0);
            CLAIM(px_same(px_stat(px_other("f")).st_mtim, t[1]),
                  "%zu bytes, a time set after they were written is seen there, turn %u", sizes[i],
                  seed);
            CLAIM(px_holds(there, 0, sizes[i], seed), "and so are they: %zu, turn %u", sizes[i],
                  seed);
        }
        NEED(close(fd) == 0);
        CLAIM(px_same(px_stat(px_other("f")).st_mtim, t[1]),
              "%zu bytes: the time stays when the file is closed here", sizes[i]);
        CLAIM(px_holds(there, 0, sizes[i], 2), "%zu bytes: and so do they", sizes[i]);
        NEED(close(there) == 0 && unlink("f") == 0);
    }
}

const struct px_group px_utimens[] = {
    {"values", values, 0},
    {"now-and-omit", now_and_omit, 0},
    {"bad-values", bad_values, 0},
    {"names", names, 0},
    {"who-may", who_may, PX_ROOT},
    {"who-may-links", who_may_links, PX_ROOT},
    {"open-for-writing", open_for_writing, PX_ROOT},
    {"after-writing", after_writing, 0},
    {"written-whatever-it-was", written_whatever_it_was, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {"after-writing-seen-elsewhere", after_writing_seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
