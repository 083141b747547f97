/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: xattr(7), setxattr(2), getxattr(2), listxattr(2), removexattr(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "tests/posix/posix.h"

#define VALUE_MAX 65536

/* Has the list of @path that name? -1: errno */
static int lists(const char *path, const char *name)
{
    static char list[65536];
    ssize_t len = llistxattr(path, list, sizeof(list));

    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1) {
        if (strcmp(list + at, name) == 0) {
            return 1;
        }
    }
    return len < 0 ? -1 : 0;
}

static bool has(const char *path, const char *name, const char *value)
{
    char bytes[256];
    ssize_t len = lgetxattr(path, name, bytes, sizeof(bytes));

    return len == (ssize_t)strlen(value) && memcmp(bytes, value, (size_t)len) == 0;
}

/* Values */

static void one(const char *path, const char *what)
{
    char bytes[64];

    FAILS(getxattr(path, "user.a", bytes, sizeof(bytes)), ENODATA, "%s: none there to get", what);
    FAILS(removexattr(path, "user.a"), ENODATA, "%s: none there to remove", what);
    EQUAL(listxattr(path, NULL, 0), 0, "%s: an empty list", what);
    OK(setxattr(path, "user.a", "value", 5, 0), "%s: set", what);
    EQUAL(getxattr(path, "user.a", NULL, 0), 5, "%s: its length", what);
    EQUAL(getxattr(path, "user.a", bytes, sizeof(bytes)), 5, "%s: get", what);
    CLAIM(memcmp(bytes, "value", 5) == 0, "%s: its bytes", what);
    EQUAL(getxattr(path, "user.a", bytes, 5), 5, "%s: get into just the space", what);
    FAILS(getxattr(path, "user.a", bytes, 4), ERANGE, "%s: get into too little space", what);
    EQUAL(listxattr(path, NULL, 0), 7, "%s: the length of the list", what);
    EQUAL(listxattr(path, bytes, 7), 7, "%s: the list", what);
    CLAIM(memcmp(bytes, "user.a", 7) == 0, "%s: the name in it", what);
    FAILS(listxattr(path, bytes, 6), ERANGE, "%s: list into too little space", what);
    FAILS(setxattr(path, "user.a", "x", 1, XATTR_CREATE), EEXIST, "%s: CREATE of what is there",
          what);
    CLAIM(has(path, "user.a", "value"), "%s: which stays", what);
    OK(setxattr(path, "user.a", "other value", 11, XATTR_REPLACE), "%s: REPLACE", what);
    CLAIM(has(path, "user.a", "other value"), "%s: the longer value", what);
    OK(setxattr(path, "user.a", "", 0, 0), "%s: an empty value", what);
    EQUAL(getxattr(path, "user.a", bytes, sizeof(bytes)), 0, "%s: is there and empty", what);
    FAILS(setxattr(path, "user.b", "x", 1, XATTR_REPLACE), ENODATA, "%s: REPLACE of none", what);
    EQUAL(lists(path, "user.b"), 0, "%s: which makes none", what);
    OK(setxattr(path, "user.b", "y", 1, XATTR_CREATE), "%s: CREATE", what);
    CLAIM(lists(path, "user.a") == 1 && lists(path, "user.b") == 1, "%s: both in the list", what);
    OK(removexattr(path, "user.a"), "%s: remove", what);
    EQUAL(lists(path, "user.a"), 0, "%s: the removed one is not in the list", what);
    CLAIM(has(path, "user.b", "y"), "%s: the other stays", what);
    NEED(removexattr(path, "user.b") == 0);
}

static void values(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && mkdir("d", 0755) == 0);
    one("f", "file");
    one("d", "directory");
}

static void through_descriptors(void)
{
    char bytes[16];
    int fd, path;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    fd = open("f", O_RDONLY);
    path = open("f", O_PATH);
    NEED(fd >= 0 && path >= 0);
    OK(fsetxattr(fd, "user.a", "v", 1, 0), "fsetxattr of what is open for reading");
    CLAIM(has("f", "user.a", "v"), "is there by name");
    EQUAL(fgetxattr(fd, "user.a", bytes, sizeof(bytes)), 1, "fgetxattr");
    EQUAL(flistxattr(fd, bytes, sizeof(bytes)), 7, "flistxattr");
    FAILS(fsetxattr(path, "user.a", "v", 1, 0), EBADF, "fsetxattr of an O_PATH descriptor");
    FAILS(fgetxattr(path, "user.a", bytes, sizeof(bytes)), EBADF, "fgetxattr of an O_PATH one");
    FAILS(flistxattr(path, bytes, sizeof(bytes)), EBADF, "flistxattr of an O_PATH one");
    FAILS(fremovexattr(path, "user.a"), EBADF, "fremovexattr of an O_PATH one");
    NEED(unlink("f") == 0);
    EQUAL(fgetxattr(fd, "user.a", bytes, sizeof(bytes)), 1, "fgetxattr without a name");
    OK(fsetxattr(fd, "user.b", "w", 1, 0), "fsetxattr without a name");
    EQUAL(flistxattr(fd, bytes, sizeof(bytes)), 14, "flistxattr without a name");
    OK(fremovexattr(fd, "user.a"), "fremovexattr without a name");
    NEED(close(fd) == 0 && close(path) == 0);
    FAILS(fsetxattr(-1, "user.a", "v", 1, 0), EBADF, "fsetxattr of -1");
    FAILS(fgetxattr(fd, "user.a", bytes, 1), EBADF, "fgetxattr of a closed descriptor");
}

static void many(void)
{
    char name[32], value[32];
    bool all = true, listed = true, gone = true;

    NEED(px_make(PX_REG, "f", 0644) == 0);
    for (int i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof(name), "user.name-%d", i);
        (void)snprintf(value, sizeof(value), "value-%d", i * 7);
        NEED(setxattr("f", name, value, strlen(value), XATTR_CREATE) == 0);
    }
    for (int i = 0; i < 60; i += 2) {
        (void)snprintf(name, sizeof(name), "user.name-%d", i);
        NEED(removexattr("f", name) == 0);
    }
    for (int i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof(name), "user.name-%d", i);
        (void)snprintf(value, sizeof(value), "value-%d", i * 7);
        gone = gone && (i % 2 || lists("f", name) == 0);
        listed = listed && (i % 2 == 0 || lists("f", name) == 1);
        all = all && (i % 2 == 0 || has("f", name, value));
    }
    CLAIM(gone, "of 60 attributes the 30 removed ones are gone");
    CLAIM(listed, "the other 30 are listed");
    CLAIM(all, "with their values");
}

/* Names and sizes */

static void limits(void)
{
    static char value[VALUE_MAX + 1];
    char name[300] = "user.", bytes[16];
    static const size_t sizes[] = {1, 255, 256, 1000, 2000, 3500};

    NEED(px_make(PX_REG, "f", 0644) == 0);
    memset(name + 5, 'n', 250);
    OK(setxattr("f", name, "x", 1, 0), "a name of 255 bytes");
    EQUAL(lists("f", name), 1, "a name of 255 bytes is listed");
    OK(removexattr("f", name), "a name of 255 bytes is removed");
    name[255] = 'n';
    FAILS(setxattr("f", name, "x", 1, 0), ERANGE, "a name of 256 bytes");
    FAILS(getxattr("f", name, bytes, sizeof(bytes)), ERANGE, "get of a name of 256 bytes");
    FAILS(removexattr("f", name), ERANGE, "remove of a name of 256 bytes");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        static char back[4096];

        memset(value, (int)i + 1, sizes[i]);
        OK(setxattr("f", "user.v", value, sizes[i], 0), "a value of %zu bytes", sizes[i]);
        CLAIM(getxattr("f", "user.v", back, sizeof(back)) == (ssize_t)sizes[i] &&
                  memcmp(value, back, sizes[i]) == 0,
              "a value of %zu bytes comes back", sizes[i]);
    }
    FAILS(setxattr("f", "user.v", value, VALUE_MAX + 1, 0), E2BIG, "a value of 65,537 bytes");
    EQUAL(getxattr("f", "user.v", NULL, 0), 3500, "what was refused leaves the old value");
    OK(setxattr("f", "user.v", "\0a\0", 3, 0), "a value with zeroes");
    EQUAL(getxattr("f", "user.v", bytes, sizeof(bytes)), 3, "has all its bytes");
    CLAIM(memcmp(bytes, "\0a\0", 3) == 0, "and they are the same");
    OK(setxattr("f", "user.\xff\x01/ =", "x", 1, 0), "a name of any bytes");
    EQUAL(lists("f", "user.\xff\x01/ ="), 1, "is listed");
}

static void bad_calls(void)
{
    static const struct {
        const char *text, *name;
        int set, get;
    } rows[] = {
        {"an empty name", "", ERANGE, ERANGE},
        {"a name without a namespace", "name", EOPNOTSUPP, EOPNOTSUPP},
        {"an unknown namespace", "foo.bar", EOPNOTSUPP, EOPNOTSUPP},
        {"a namespace in capitals", "USER.a", EOPNOTSUPP, EOPNOTSUPP},
        {"a namespace with nothing behind it", "user.", EINVAL, EINVAL},
        {"a namespace without its dot", "user", EOPNOTSUPP, EOPNOTSUPP},
        {"an unknown name of the system", "system.foo", EOPNOTSUPP, EOPNOTSUPP},
    };
    char bytes[16];

    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("loop", "loop") == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        FAILS(setxattr("f", rows[i].name, "x", 1, 0), rows[i].set, "set: %s", rows[i].text);
        FAILS(getxattr("f", rows[i].name, bytes, sizeof(bytes)), rows[i].get, "get: %s",
              rows[i].text);
        FAILS(removexattr("f", rows[i].name), rows[i].set, "remove: %s", rows[i].text);
    }
    FAILS(setxattr("f", "user.a", "x", 1, XATTR_CREATE | XATTR_REPLACE | 4), EINVAL,
          "an unknown flag");
    FAILS(setxattr("f", "user.a", "x", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA,
          "CREATE and REPLACE of none");
    FAILS(setxattr("none", "user.a", "x", 1, 0), ENOENT, "no such file");
    FAILS(setxattr("", "user.a", "x", 1, 0), ENOENT, "an empty path");
    FAILS(setxattr("f/x", "user.a", "x", 1, 0), ENOTDIR, "a part of the path is a file");
    FAILS(setxattr("loop", "user.a", "x", 1, 0), ELOOP, "a loop");
    FAILS(listxattr(px_long_name('n', PX_NAME_MAX + 1), bytes, 1), ENAMETOOLONG,
          "a path's name of 256 bytes");
    FAILS(setxattr("f", px_nowhere(), "x", 1, 0), EFAULT, "a name at no address");
    FAILS(setxattr("f", "user.a", px_nowhere(), 1, 0), EFAULT, "a value at no address");
    EQUAL(listxattr("f", NULL, 0), 0, "after all of which there are none");
}

/* What has attributes */

static void types(void)
{
    char bytes[16];

    for (int i = PX_FIFO; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(px_make((enum px_type)i, "x", 0666) == 0);
        FAILS(lsetxattr("x", "user.a", "v", 1, 0), EPERM, "%s: set of a user attribute", name);
        FAILS(lgetxattr("x", "user.a", bytes, sizeof(bytes)), ENODATA,
              "%s: get of a user attribute", name);
        FAILS(lremovexattr("x", "user.a"), EPERM, "%s: remove of a user attribute", name);
        EQUAL(llistxattr("x", bytes, sizeof(bytes)), 0, "%s: an empty list", name);
        NEED(unlink("x") == 0);
    }
}

static void links(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && symlink("f", "l") == 0 && link("f", "g") == 0);
    OK(setxattr("l", "user.a", "v", 1, 0), "setxattr follows a link");
    CLAIM(has("f", "user.a", "v"), "to the file at its end");
    EQUAL(lists("l", "user.a"), 0, "the link has none");
    CLAIM(has("g", "user.a", "v"), "another name of the file has it");
    NEED(rename("f", "h") == 0);
    CLAIM(has("h", "user.a", "v"), "it moves with the file");
    NEED(unlink("g") == 0 && px_make(PX_REG, "h2", 0644) == 0 && rename("h2", "h") == 0);
    EQUAL(lists("h", "user.a"), 0, "a file that replaces it has none");
}

static void trusted(void)
{
    static const char *const names[] = {"trusted.a", "security.px"};
    char bytes[16];

    for (int t = 0; t < PX_TYPES; t++) {
        const char *type = px_type_name((enum px_type)t);

        NEED(px_make((enum px_type)t, "x", 0777) == 0);
        for (int i = 0; i < 2; i++) {
            const char *name = names[i];
            bool hidden = i == 0;

            NEED(lchown("x", 0, 0) == 0);
            OK(lsetxattr("x", name, "v", 1, 0), "%s: %s is set by root", type, name);
            CLAIM(has("x", name, "v"), "%s: %s is read by root", type, name);
            EQUAL(lists("x", name), 1, "%s: %s is listed by root", type, name);
            NEED(lchown("x", px_uid(0), px_uid(0)) == 0);
            px_become_user(0);
            FAILS(lsetxattr("x", name, "w", 1, 0), EPERM, "%s: %s is set by its owner", type, name);
            GIVES(lgetxattr("x", name, bytes, sizeof(bytes)), hidden ? ENODATA : 0,
                  "%s: %s is read by its owner", type, name);
            EQUAL(lists("x", name), !hidden, "%s: %s is listed by its owner", type, name);
            FAILS(lremovexattr("x", name), EPERM, "%s: %s is removed by its owner", type, name);
            px_become_root();
            OK(lremovexattr("x", name), "%s: %s is removed by root", type, name);
        }
        NEED(remove("x") == 0);
    }
}

/* Rights */

static void needs_read_and_write(void)
{
    static const enum px_type some[] = {PX_REG, PX_DIR};
    char bytes[16];

    for (size_t t = 0; t < 2; t++) {
        const char *name = px_type_name(some[t]);

        NEED(px_make(some[t], "x", 0755) == 0);
        for (unsigned rights = 0; rights < 8; rights++) {
            int reads = rights & 4 ? 0 : EACCES, writes = rights & 2 ? 0 : EACCES;

            NEED(setxattr("x", "user.a", "v", 1, 0) == 0 && chmod("x", 0700 | rights) == 0);
            px_become_user(0);
            GIVES(getxattr("x", "user.a", bytes, sizeof(bytes)), reads, "%s with rights %o: get",
                  name, rights);
            GIVES(setxattr("x", "user.b", "w", 1, 0), writes, "%s with rights %o: set", name,
                  rights);
            GIVES(removexattr("x", "user.a"), writes, "%s with rights %o: remove", name, rights);
            OK(listxattr("x", bytes, sizeof(bytes)), "%s with rights %o: list", name, rights);
            px_become_root();
        }
        NEED(remove("x") == 0);
    }
}

/* In a sticky directory's own attributes others write nothing, though they may write in it. */
static void sticky(void)
{
    char bytes[16];

    NEED(mkdir("d", 0777) == 0 && chown("d", px_uid(0), px_uid(0)) == 0 && chmod("d", 01777) == 0);
    px_become_user(0);
    OK(setxattr("d", "user.a", "v", 1, 0), "sticky: set by the owner");
    px_become_user(1);
    FAILS(setxattr("d", "user.b", "v", 1, 0), EPERM, "sticky: set by another");
    FAILS(removexattr("d", "user.a"), EPERM, "sticky: remove by another");
    EQUAL(getxattr("d", "user.a", bytes, sizeof(bytes)), 1, "sticky: get by another");
    px_become_root();
    OK(setxattr("d", "user.b", "v", 1, 0), "sticky: set by root");
    NEED(chmod("d", 0777) == 0);
    px_become_user(1);
    OK(setxattr("d", "user.c", "v", 1, 0), "not sticky: set by another");
    px_become_root();
}

/* File capabilities go when the file changes, whoever changes it. */

static const unsigned char capability[20] = {1, 0, 0, 2, 0, 4}; /* vfs_cap_data, version 2 */

static int caps_write(void)
{
    int fd = open("f", O_WRONLY);
    ssize_t n = write(fd, "x", 1);

    return close(fd) || n != 1;
}

static int caps_append(void)
{
    int fd = open("f", O_WRONLY | O_APPEND);
    ssize_t n = write(fd, "x", 1);

    return close(fd) || n != 1;
}

static int caps_allocate(void)
{
    int fd = open("f", O_WRONLY), ret = fallocate(fd, 0, 0, 100);

    return close(fd) || ret;
}

static int caps_copy(void)
{
    int fd = open("f", O_WRONLY), from = open("from", O_RDONLY);
    ssize_t n = copy_file_range(from, NULL, fd, NULL, 3, 0);

    return close(fd) || close(from) || n != 3;
}

static int caps_truncate(void)
{
    return truncate("f", 1);
}

static int caps_chown(void)
{
    return chown("f", px_uid(1), px_uid(1));
}

static void capabilities(void)
{
    static const struct {
        const char *name;
        int (*change)(void);
    } rows[] = {{"write", caps_write},        {"append", caps_append},
                {"fallocate", caps_allocate}, {"copy_file_range", caps_copy},
                {"truncate", caps_truncate},  {"chown", caps_chown}};
    unsigned char back[32];

    NEED(px_write_file("from", "xyz", 3) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        NEED(px_write_file("f", "abc", 3) == 0);
        OK(setxattr("f", "security.capability", capability, sizeof(capability), 0),
           "capabilities are set before %s", rows[i].name);
        EQUAL(getxattr("f", "security.capability", back, sizeof(back)), sizeof(capability),
              "capabilities are there before %s", rows[i].name);
        NEED(chmod("f", 0755) == 0 && rename("f", "g") == 0 && rename("g", "f") == 0);
        EQUAL(lists("f", "security.capability"), 1, "and after chmod and rename, before %s",
              rows[i].name);
        NEED(rows[i].change() == 0);
        FAILS(getxattr("f", "security.capability", back, sizeof(back)), ENODATA,
              "capabilities after %s", rows[i].name);
        NEED(unlink("f") == 0);
    }
    NEED(px_write_file("f", "abc", 3) == 0);
    FAILS(setxattr("f", "security.capability", "x", 1, 0), EINVAL, "capabilities that are none");
    px_become_user(0);
    FAILS(setxattr("f", "security.capability", capability, sizeof(capability), 0), EPERM,
          "capabilities set by a user");
    px_become_root();
}

/* By an ordinary user, by root; with O_APPEND and without. */
static void capabilities_after_a_write(void)
{
    for (int i = 0; i < 4; i++) {
        bool root = i & 1;
        int flags = O_WRONLY | O_CREAT | (i & 2 ? O_APPEND : 0), fd = open("f", flags, 0755);
        const char *how = i & 2 ? "append" : "write";

        NEED(fd >= 0);
        if (!root) {
            px_become_user(0);
        }
        NEED(write(fd, "x", 1) == 1);
        px_become_root();
        NEED(setxattr("f", "security.capability", capability, sizeof(capability), 0) == 0);
        NEED(fsync(fd) == 0 && close(fd) == 0);
        EQUAL(lists("f", "security.capability"), 1, "capabilities set after the %s of %s stay", how,
              root ? "root" : "a user");
        NEED(unlink("f") == 0);
    }
}

/* Two mounts */

static void seen_elsewhere(void)
{
    NEED(px_make(PX_REG, "f", 0644) == 0 && lists(px_other("f"), "user.a") == 0);
    NEED(setxattr("f", "user.a", "here", 4, 0) == 0);
    CLAIM(has(px_other("f"), "user.a", "here"), "what is set here is there");
    EQUAL(lists(px_other("f"), "user.a"), 1, "and is listed there");
    NEED(setxattr(px_other("f"), "user.a", "there", 5, XATTR_REPLACE) == 0);
    CLAIM(has("f", "user.a", "there"), "what is replaced there is so here");
    FAILS(setxattr(px_other("f"), "user.a", "x", 1, XATTR_CREATE), EEXIST,
          "CREATE there of what was set here");
    NEED(removexattr(px_other("f"), "user.a") == 0);
    EQUAL(lists("f", "user.a"), 0, "what is removed there is not listed here");
    FAILS(removexattr("f", "user.a"), ENODATA, "nor is it there to be removed here");
    OK(setxattr("f", "user.a", "x", 1, XATTR_CREATE), "nor in the way of CREATE here");
}

const struct px_group px_xattr[] = {
    {"values", values, 0},
    {"through-descriptors", through_descriptors, 0},
    {"many", many, 0},
    {"limits", limits, 0},
    {"bad-calls", bad_calls, 0},
    {"types", types, 0},
    {"links", links, 0},
    {"trusted", trusted, PX_ROOT},
    {"needs-read-and-write", needs_read_and_write, PX_ROOT},
    {"sticky", sticky, PX_ROOT},
    {"capabilities-after-a-write", capabilities_after_a_write, PX_ROOT},
    {"capabilities", capabilities, PX_ROOT},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
