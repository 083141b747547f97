/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fss_public.c - the directory that all processes change at once. Files appear there whole, by
 * rename, and say who made them: whoever opens one must read all of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/posix/torture/fsstress.h"

struct header {
    uint32_t magic, process, id, len;
};

#define MAGIC      0x66737368u
#define PLANT_TORN 6u

static const char *public_path(const struct fss *fss, char letter, uint8_t name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, PATH_MAX, "%s/shared/%c%u", fss->base[fss->op->mount], letter,
                   name % FSS_SHARED);
    return path;
}

uint8_t *fss_public_bytes(uint32_t process, uint32_t id, uint32_t *ret_len)
{
    uint64_t who = torture_hash(process, id);
    struct header header = {.magic = MAGIC,
                            .process = process,
                            .id = id,
                            .len = (uint32_t)(sizeof(header) + who % 20000)};
    uint8_t *bytes = malloc(header.len);

    if (!bytes) {
        abort();
    }
    torture_fill(bytes, 0, header.len, who);
    memcpy(bytes, &header, sizeof(header));
    *ret_len = header.len;
    return bytes;
}

/* One of these errors is what another process may have caused. */
static bool may(struct fss *fss, long ret, int error, int error2, const char *call)
{
    if (ret == -1 && errno != error && errno != error2) {
        fss_fails(fss, "%s in the shared directory: %s", call, strerror(errno));
    }
    return ret != -1;
}

static void do_publish(struct fss *fss)
{
    const struct fss_op *op = fss->op;
    uint32_t len;
    uint8_t *bytes = fss_public_bytes(op->process, op->id, &len);
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/new%u", fss->base[op->mount], fss->process);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fss_expect(fss, fd, 0, "create of a new file")) {
        uint32_t part = fss->config->plant == PLANT_TORN ? len - 1 : len;

        if (write(fd, bytes, part) != (ssize_t)part) {
            fss_fails(fss, "write: %s", strerror(errno));
        }
        (void)fss_expect(fss, close(fd), 0, "close");
        (void)fss_expect(fss, rename(path, public_path(fss, 's', op->name)), 0,
                         "rename into the shared directory");
    }
    free(bytes);
}

static void do_look(struct fss *fss)
{
    int fd = open(public_path(fss, 's', fss->op->name), O_RDONLY | O_CLOEXEC);
    struct header header;
    uint8_t *want;
    uint32_t len;
    ssize_t n;

    if (!may(fss, fd, ENOENT, 0, "open")) {
        return;
    }
    n = read(fd, fss->buf, sizeof(fss->buf));
    memcpy(&header, fss->buf, sizeof(header));
    if (n < (ssize_t)sizeof(header) || header.magic != MAGIC) {
        fss_fails(fss, "a shared file has %zd bytes (%s), and no header", n,
                  n < 0 ? strerror(errno) : "");
    } else {
        want = fss_public_bytes(header.process, header.id, &len);
        if ((uint32_t)n != len || memcmp(fss->buf, want, len) != 0) {
            fss_fails(fss, "the shared file of operation %u of process %u is not whole: %zd of %u",
                      header.id, header.process, n, len);
        }
        free(want);
    }
    (void)fss_expect(fss, close(fd), 0, "close");
}

static void do_list(struct fss *fss)
{
    char path[PATH_MAX];
    bool seen[2][FSS_SHARED] = {{false}};
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "%s/shared", fss->base[fss->op->mount]);
    dir = opendir(path);
    if (!dir) {
        fss_fails(fss, "opendir of the shared directory: %s", strerror(errno));
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        unsigned number = (unsigned)(name[1] - '0');

        if (name[0] == '.') {
            continue;
        }
        if ((name[0] != 's' && name[0] != 'd') || number >= FSS_SHARED || name[2] ||
            seen[name[0] == 'd'][number]) {
            fss_fails(fss, "the shared directory lists %s%s", name,
                      number < FSS_SHARED ? " again" : "");
            break;
        }
        seen[name[0] == 'd'][number] = true;
    }
    (void)closedir(dir);
}

void fss_do_public(struct fss *fss)
{
    const struct fss_op *op = fss->op;
    const char *name = public_path(fss, 's', op->name), *name2 = public_path(fss, 's', op->name2);

    switch (op->kind) {
    case FSS_PUBLISH:
        do_publish(fss);
        break;
    case FSS_LOOK:
        do_look(fss);
        break;
    case FSS_SWAP:
        (void)may(fss, renameat2(AT_FDCWD, name, AT_FDCWD, name2, RENAME_EXCHANGE), ENOENT, 0,
                  "exchange");
        break;
    case FSS_ALIAS:
        (void)may(fss, link(name, name2), ENOENT, EEXIST, "link");
        break;
    case FSS_TAKE_AWAY:
        (void)may(fss, unlink(name), ENOENT, 0, "unlink");
        break;
    case FSS_SHARED_MKDIR:
        (void)may(fss, mkdir(public_path(fss, 'd', op->name), 0755), EEXIST, 0, "mkdir");
        break;
    case FSS_SHARED_RMDIR:
        (void)may(fss, rmdir(public_path(fss, 'd', op->name)), ENOENT, 0, "rmdir");
        break;
    default:
        do_list(fss);
        break;
    }
}
