/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/posix/posix.h"

#include <dirent.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/posix/run.h"

#define FIRST_UID  61900 /* nobody's on an ordinary system */
#define BUFFERS    16
#define FUSE_MAGIC 0x65735546

/* Claims */

static void say(const char *file, int line, const char *text, const char *what)
{
    const char *base = strrchr(file, '/');

    printf("FAILS %s:%d %s: %s%s%s\n", base ? base + 1 : file, line, px_run.group, text,
           what[0] ? ": " : "", what);
    fflush(stdout);
}

static bool count(bool holds)
{
    __atomic_fetch_add(holds ? &px_run.counts->held : &px_run.counts->failed, 1, __ATOMIC_RELAXED);
    return holds;
}

bool px_claim(const char *file, int line, bool holds, int error, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!count(holds)) {
        say(file, line, text, error >= 0 ? px_errno_name(error) : "");
    }
    return holds;
}

long px_ok(const char *file, int line, long ret, const char *format, ...)
{
    int error = errno;
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!count(ret != -1)) {
        say(file, line, text, px_errno_name(error));
    }
    return ret;
}

bool px_fails(const char *file, int line, long ret, int error, const char *format, ...)
{
    int have = errno;
    char text[512], what[64];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!count(ret == -1 && have == error)) {
        (void)snprintf(what, sizeof(what), "%s, not %s",
                       ret == -1 ? px_errno_name(have) : "success", px_errno_name(error));
        say(file, line, text, what);
        return false;
    }
    return true;
}

bool px_equal(const char *file, int line, long long have, long long want, const char *format, ...)
{
    char text[512], what[64];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!count(have == want)) {
        (void)snprintf(what, sizeof(what), "%lld, not %lld", have, want);
        say(file, line, text, what);
    }
    return have == want;
}

void px_not_ready(const char *file, int line, const char *what)
{
    int error = errno;

    px_become_root();
    count(false);
    say(file, line, what, px_errno_name(error));
    _exit(PX_NOT_READY);
}

bool px_impossible(const char *key)
{
    struct statfs fs;

    if (statfs(".", &fs) || fs.f_type != FUSE_MAGIC) {
        return false;
    }
    printf("impossible %s: %s\n", px_run.group, key);
    fflush(stdout);
    __atomic_fetch_add(&px_run.counts->impossible, 1, __ATOMIC_RELAXED);
    return true;
}

/* Users */

uid_t px_uid(unsigned user)
{
    return FIRST_UID + user;
}

void px_become(uid_t uid, gid_t gid, const gid_t *groups, size_t count_groups)
{
    px_become_root();
    NEED(setgroups(count_groups, groups) == 0);
    NEED(setegid(gid) == 0);
    NEED(seteuid(uid) == 0);
}

void px_become_user(unsigned user)
{
    px_become(px_uid(user), px_uid(user), NULL, 0);
}

void px_become_root(void)
{
    if (getuid() == 0 && geteuid() != 0) {
        (void)!seteuid(0);
        (void)!setegid(0);
        (void)!setgroups(0, NULL);
    }
}

/* Files */

static const struct {
    const char *name;
    mode_t mode;
} types[PX_TYPES] = {
    [PX_REG] = {"regular file", S_IFREG},   [PX_DIR] = {"directory", S_IFDIR},
    [PX_FIFO] = {"FIFO", S_IFIFO},          [PX_SOCK] = {"socket", S_IFSOCK},
    [PX_LINK] = {"symbolic link", S_IFLNK}, [PX_CHR] = {"character device", S_IFCHR},
    [PX_BLK] = {"block device", S_IFBLK},
};

const char *px_type_name(enum px_type type)
{
    return types[type].name;
}

mode_t px_type_mode(enum px_type type)
{
    return types[type].mode;
}

int px_type_count(void)
{
    return getuid() == 0 ? PX_TYPES : PX_CHR;
}

int px_make(enum px_type type, const char *path, mode_t mode)
{
    int ret = 0;

    switch (type) {
    case PX_REG:
        ret = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
        ret = ret < 0 ? ret : close(ret);
        break;
    case PX_DIR:
        ret = mkdir(path, mode);
        break;
    case PX_LINK:
        ret = symlink("nowhere", path);
        break;
    case PX_FIFO:
    case PX_SOCK:
    case PX_CHR:
    case PX_BLK:
        ret = mknod(path, types[type].mode | mode, makedev(1, 3));
        break;
    case PX_TYPES:
        break;
    }
    return ret;
}

int px_write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    ssize_t n = fd < 0 ? -1 : write(fd, bytes, len);

    if (fd >= 0 && close(fd)) {
        return -1;
    }
    return n == (ssize_t)len ? 0 : -1;
}

char *px_read_file(const char *path, size_t *ret_len)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    char *bytes = NULL;
    size_t len = 0;
    ssize_t n = 1;

    if (fd < 0 || fstat(fd, &st)) {
        return NULL;
    }
    bytes = malloc((size_t)st.st_size + 65536);
    while (bytes && n > 0) {
        n = read(fd, bytes + len, (size_t)st.st_size + 65535 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    if (!bytes || n < 0) {
        free(bytes);
        return NULL;
    }
    bytes[len] = 0;
    if (ret_len) {
        *ret_len = len;
    }
    return bytes;
}

static uint8_t filling(uint64_t at, unsigned seed)
{
    return (uint8_t)(1 + (at + (at >> 8) * 7 + (at >> 16) * 13 + seed * 101) % 255);
}

void px_fill(void *bytes, size_t len, uint64_t at, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)bytes)[i] = filling(at + i, seed);
    }
}

bool px_is_filled(const void *bytes, size_t len, uint64_t at, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        if (((const uint8_t *)bytes)[i] != filling(at + i, seed)) {
            return false;
        }
    }
    return true;
}

bool px_is_zero(const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (((const uint8_t *)bytes)[i] != 0) {
            return false;
        }
    }
    return true;
}

int px_make_filled(const char *path, size_t len, unsigned seed)
{
    uint8_t *bytes = malloc(len + 1);
    int ret;

    NEED(bytes != NULL);
    px_fill(bytes, len, 0, seed);
    ret = px_write_file(path, bytes, len);
    free(bytes);
    return ret;
}

bool px_holds(int fd, uint64_t at, size_t len, unsigned seed)
{
    uint8_t *bytes = malloc(len + 1);
    size_t have = 0;
    ssize_t n = 1;
    bool holds;

    NEED(bytes != NULL);
    while (have < len && n > 0) {
        n = pread(fd, bytes + have, len - have, (off_t)(at + have));
        have += n > 0 ? (size_t)n : 0;
    }
    holds = have == len && (seed ? px_is_filled(bytes, len, at, seed) : px_is_zero(bytes, len));
    free(bytes);
    return holds;
}

bool px_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

struct stat px_stat(const char *path)
{
    struct stat st;

    if (lstat(path, &st)) {
        memset(&st, 0, sizeof(st));
    }
    return st;
}

ino_t px_ino(const char *path)
{
    return px_stat(path).st_ino;
}

int px_count(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int n = 0;

    if (!d) {
        return -1;
    }
    while ((entry = readdir(d)) != NULL) {
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(d);
    return n;
}

const char *px_long_name(char byte, size_t len)
{
    static char names[BUFFERS][8192];
    static unsigned next;
    char *name = names[next++ % BUFFERS];

    NEED(len < sizeof(names[0]));
    memset(name, byte, len);
    name[len] = 0;
    return name;
}

const char *px_other(const char *path)
{
    static char paths[BUFFERS][4096];
    static unsigned next;
    char *other = paths[next++ % BUFFERS];

    (void)snprintf(other, sizeof(paths[0]), "%s/%s", px_run.other, path);
    return other;
}

void *px_nowhere(void)
{
    static void *volatile nowhere = (void *)1;

    return nowhere;
}

void px_tick(void)
{
    const struct timespec some = {.tv_nsec = 20000000};

    (void)nanosleep(&some, NULL);
}

pid_t px_start(int (*fn)(void *arg), void *arg)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        int status;

        (void)alarm(PX_GROUP_S); /* outlives no group that hangs */
        status = fn(arg);
        fflush(stdout);
        _exit(status);
    }
    return pid;
}

int px_wait(pid_t pid)
{
    int status;

    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : -1;
}

int px_child(int (*fn)(void *arg), void *arg)
{
    return px_wait(px_start(fn, arg));
}

const char *px_errno_name(int error)
{
    const char *name = strerrorname_np(error);

    return name ? name : "?";
}

bool px_later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

bool px_same(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Claims that many calls share */

void px_bad_paths(const char *name, int (*call)(const char *path))
{
    char long_part[PX_NAME_MAX + 8];
    const struct {
        const char *what, *path;
        int error;
    } rows[] = {
        {"an empty path", "", ENOENT},
        {"no address", NULL, EFAULT},
        {"a directory that is not there", "none/x", ENOENT},
        {"a link to nowhere in the way", "dangling/x", ENOENT},
        {"a file in the way", "f/x", ENOTDIR},
        {"a file and a dot", "f/.", ENOTDIR},
        {"a file and two dots", "f/..", ENOTDIR},
        {"a loop in the way", "loop/x", ELOOP},
        {"a name of 256 bytes", px_long_name('n', PX_NAME_MAX + 1), ENAMETOOLONG},
        {"a name of 256 bytes in the way", long_part, ENAMETOOLONG},
        {"a path of 4,096 bytes", px_long_name('/', 4096), ENAMETOOLONG},
    };

    (void)snprintf(long_part, sizeof(long_part), "%s/x", px_long_name('n', PX_NAME_MAX + 1));
    NEED(px_make(PX_REG, "f", 0666) == 0 && symlink("loop", "loop") == 0);
    NEED(symlink("none", "dangling") == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        FAILS(call(rows[i].path), rows[i].error, "%s: %s", name, rows[i].what);
    }
    NEED(unlink("f") == 0 && unlink("loop") == 0 && unlink("dangling") == 0);
}

void px_needs_write(const char *name, int (*ready)(const char *path), int (*call)(const char *path))
{
    static const struct {
        const char *who;
        unsigned user, shift;
        bool supplementary;
    } rows[] = {
        {"owner", 0, 6, false},
        {"group", 1, 3, false},
        {"supplementary group", 2, 3, true},
        {"others", 3, 0, false},
    };
    const gid_t group = px_uid(1);

    NEED(mkdir("rights", 0777) == 0 && chown("rights", px_uid(0), group) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned rights = 0; rights < 8; rights++) {
            unsigned others = 0777u & ~(7u << rows[i].shift) & ~((rights * 0111u) & 0777u);
            uid_t uid = px_uid(rows[i].user);

            NEED(!ready || ready("rights/x") == 0);
            NEED(chmod("rights", others | rights << rows[i].shift) == 0);
            px_become(uid, uid, &group, rows[i].supplementary);
            if ((rights & 3) == 3) {
                OK(call("rights/x"), "%s: rights %o of %s", name, rights, rows[i].who);
            } else {
                FAILS(call("rights/x"), EACCES, "%s: rights %o of %s", name, rights, rows[i].who);
            }
            px_become_root();
            NEED(!px_exists("rights/x") || remove("rights/x") == 0);
        }
    }
    NEED(rmdir("rights") == 0);
}
