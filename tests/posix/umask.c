/* SPDX-License-Identifier: Apache-2.0 */
/* umask(): POSIX.1-2024 umask, open, mkdir, mknod; umask(2). ACLs that overrule it: acl.c. */
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/posix/posix.h"

static const mode_t masks[] = {0, 0777, 0022, 0077, 0027, 0002, 0111, 0222, 0444, 0705};

#define MASKS (sizeof(masks) / sizeof(masks[0]))

static unsigned mode_of(const char *path)
{
    return px_stat(path).st_mode & 07777;
}

/* Ways to make something at "x" with a mode. */

static int by_open(mode_t mode)
{
    int fd = open("x", O_CREAT | O_RDWR, mode);

    return fd < 0 ? -1 : close(fd);
}

static int by_openat(mode_t mode)
{
    int d = open(".", O_RDONLY | O_DIRECTORY);
    int fd = openat(d, "x", O_CREAT | O_EXCL | O_WRONLY, mode);

    (void)close(d);
    return fd < 0 ? -1 : close(fd);
}

static int by_creat(mode_t mode)
{
    int fd = creat("x", mode);

    return fd < 0 ? -1 : close(fd);
}

static int by_mkdir(mode_t mode)
{
    return mkdir("x", mode);
}

static int by_mkfifo(mode_t mode)
{
    return mkfifo("x", mode);
}

static int by_mknod(mode_t mode)
{
    return mknod("x", S_IFREG | mode, 0);
}

static int by_mknod_socket(mode_t mode)
{
    return mknod("x", S_IFSOCK | mode, 0);
}

static const struct {
    const char *name;
    int (*make)(mode_t mode);
    mode_t special; /* of these bits the call gives any */
} ways[] = {
    {"open", by_open, 07000},
    {"openat", by_openat, 07000},
    {"creat", by_creat, 07000},
    {"mkdir", by_mkdir, S_ISVTX},
    {"mkfifo", by_mkfifo, 07000},
    {"mknod", by_mknod, 07000},
    {"mknod of a socket", by_mknod_socket, 07000},
};

static void takes_bits(void)
{
    static const mode_t modes[] = {0777, 0666, 0640, 0000, 07777};

    for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
        for (size_t m = 0; m < MASKS; m++) {
            for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
                mode_t want = modes[i] & ~masks[m] & (0777 | ways[w].special);

                (void)umask(masks[m]);
                NEED(ways[w].make(modes[i]) == 0);
                EQUAL(mode_of("x"), want, "%s with mode %04o and umask %03o", ways[w].name,
                      (unsigned)modes[i], (unsigned)masks[m]);
                NEED(remove("x") == 0);
            }
        }
    }
}

/* bind() makes a socket with all rights but those of the umask. */
static void of_bind(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "x"};

    for (size_t m = 0; m < MASKS; m++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        (void)umask(masks[m]);
        NEED(fd >= 0);
        OK(bind(fd, (const struct sockaddr *)&at, sizeof(at)), "bind with umask %03o",
           (unsigned)masks[m]);
        EQUAL(mode_of("x"), 0777 & ~masks[m], "mode of a socket bound with umask %03o",
              (unsigned)masks[m]);
        NEED(close(fd) == 0 && unlink("x") == 0);
    }
}

static int child_makes(void *arg)
{
    (void)arg;
    (void)umask(0);
    return px_make(PX_REG, "child", 0666);
}

static void of_a_process(void)
{
    int fd;

    (void)umask(027);
    EQUAL(umask(07), 027, "umask returns what it was");
    EQUAL(umask(07), 07, "and then what it was set to");
    NEED(px_make(PX_REG, "f", 0666) == 0);
    EQUAL(mode_of("f"), 0660, "the last one counts");
    NEED(px_child(child_makes, NULL) == 0);
    EQUAL(mode_of("child"), 0666, "a child has its own");
    NEED(px_make(PX_REG, "g", 0666) == 0);
    EQUAL(mode_of("g"), 0660, "which leaves the parent's alone");
    (void)umask(077);
    NEED(open("f", O_CREAT | O_RDWR, 0666) >= 0);
    EQUAL(mode_of("f"), 0660, "O_CREAT of what is there takes nothing");
    NEED(rename("f", "h") == 0 && link("h", "i") == 0);
    EQUAL(mode_of("i"), 0660, "nor do rename and link");
    NEED(symlink("x", "l") == 0);
    EQUAL(mode_of("l"), 0777, "a link has all rights");
    (void)umask(0777);
    fd = open("none", O_CREAT | O_RDWR, 0666);
    NEED(fd >= 0);
    EQUAL(write(fd, "x", 1), 1, "a file with no rights at all is written by who made it");
    NEED(close(fd) == 0);
}

const struct px_group px_umask[] = {
    {"takes-bits", takes_bits, 0},
    {"of-bind", of_bind, 0},
    {"of-a-process", of_a_process, 0},
    {NULL, NULL, 0},
};
