/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <linux/fuse.h>

#include "client/fuse/squash.h"

enum { DIR = 5, DIR2 = 6, ANON = 1000, ANON_GROUP = 100 };

#define R  HF_RIGHT_READ
#define W  HF_RIGHT_WRITE
#define X  HF_RIGHT_EXECUTE
#define WX (HF_RIGHT_WRITE | HF_RIGHT_EXECUTE)

static const struct hf_squash squash = {
    .on = true, .setxattr_ext = true, .anon = {.uid = ANON, .gid = ANON_GROUP}};

static _Alignas(uint64_t) uint8_t request[512];
static size_t request_len;
static struct hf_squash_plan plan;

static int ask(uint32_t opcode, const void *fixed, size_t fixed_len, const void *names,
               size_t names_len)
{
    struct fuse_in_header in = {.opcode = opcode, .nodeid = DIR, .uid = 0, .gid = 0, .pid = 77};

    request_len = sizeof(in) + fixed_len + names_len;
    in.len = (uint32_t)request_len;
    memcpy(request, &in, sizeof(in));
    if (fixed_len) {
        memcpy(request + sizeof(in), fixed, fixed_len);
    }
    if (names_len) {
        memcpy(request + sizeof(in) + fixed_len, names, names_len);
    }
    return hf_squash_plan(&squash, request, request_len, &plan);
}

#define ASK(opcode, fixed, names) ask(opcode, &(fixed), sizeof(fixed), names, sizeof(names))
#define ASK_FIXED(opcode, fixed)  ask(opcode, &(fixed), sizeof(fixed), NULL, 0)
#define ASK_NAME(opcode, names)   ask(opcode, NULL, 0, names, sizeof(names))

/* The plan as text: r:INO:WANT of rights, -:INO:NAME of removing, m:INO:NAME of moving. */
static void planned(const char *want)
{
    char got[256] = "";

    for (uint32_t i = 0; i < plan.count; i++) {
        const struct hf_squash_step *s = &plan.steps[i];
        size_t n = strlen(got);

        if (s->kind == HF_SQUASH_RIGHTS) {
            (void)snprintf(got + n, sizeof(got) - n, " r:%d:%02x", (int)s->ino.v, s->want);
        } else {
            (void)snprintf(got + n, sizeof(got) - n, " %c:%d:%s",
                           s->kind == HF_SQUASH_REMOVE ? '-' : 'm', (int)s->ino.v, s->name);
        }
    }
    assert_string_equal(got[0] ? got + 1 : got, want);
}

static void names_need_rights_on_their_directories(void **state)
{
    const struct fuse_mkdir_in mkdir = {.mode = 0777};
    const struct fuse_rename_in rename = {.newdir = DIR2};
    const struct fuse_rename2_in within = {.newdir = DIR};
    const struct fuse_rename2_in exchange = {.newdir = DIR2, .flags = RENAME_EXCHANGE};
    const struct fuse_link_in link = {.oldnodeid = 9};

    (void)state;
    assert_int_equal(ASK_NAME(FUSE_LOOKUP, "n"), 0);
    planned("r:5:01");
    assert_int_equal(ASK_NAME(FUSE_LOOKUP, ".."), 0);
    planned("");
    assert_int_equal(ASK(FUSE_MKDIR, mkdir, "n"), 0);
    planned("r:5:03");
    assert_int_equal(ASK_NAME(FUSE_SYMLINK, "n\0target"), 0);
    planned("r:5:03");
    assert_int_equal(ASK_NAME(FUSE_UNLINK, "n"), 0);
    planned("r:5:03 -:5:n");
    assert_int_equal(ASK_NAME(FUSE_RMDIR, "n"), 0);
    planned("r:5:03 -:5:n");
    assert_int_equal(ASK(FUSE_LINK, link, "n"), 0);
    planned("r:9:40 r:5:03");
    assert_int_equal(ASK(FUSE_RENAME, rename, "a\0b"), 0);
    planned("r:5:03 -:5:a r:6:03 -:6:b m:5:a");
    assert_int_equal(ASK(FUSE_RENAME2, within, "a\0b"), 0);
    planned("r:5:03 -:5:a r:5:03 -:5:b");
    assert_int_equal(ASK(FUSE_RENAME2, exchange, "a\0b"), 0);
    planned("r:5:03 -:5:a r:6:03 -:6:b m:5:a m:6:b");
}

static void devices_are_for_root_but_whiteouts_are_not(void **state)
{
    struct fuse_mknod_in m = {.mode = S_IFBLK | 0666, .rdev = 5};

    (void)state;
    assert_int_equal(ASK(FUSE_MKNOD, m, "n"), 0);
    planned("r:5:03");
    assert_int_equal(plan.err, -EPERM);
    m.mode = S_IFCHR | 0666;
    assert_int_equal(ASK(FUSE_MKNOD, m, "n"), 0);
    assert_int_equal(plan.err, -EPERM);
    m.rdev = 0;
    assert_int_equal(ASK(FUSE_MKNOD, m, "n"), 0);
    assert_int_equal(plan.err, 0);
    m.mode = S_IFIFO | 0666;
    assert_int_equal(ASK(FUSE_MKNOD, m, "n"), 0);
    planned("r:5:03");
}

static void opening_needs_what_the_flags_say(void **state)
{
    const struct {
        uint32_t flags, want;
    } cases[] = {
        {O_RDONLY, R},        {O_WRONLY | O_APPEND, W},    {O_RDWR, R | W},
        {O_ACCMODE, R | W},   {O_RDONLY | O_TRUNC, R | W}, {O_RDONLY | O_NOATIME, R | HF_RIGHT_OWN},
        {O_RDONLY | 0x20, X}, /* execve */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fuse_open_in o = {.flags = cases[i].flags};

        assert_int_equal(ASK_FIXED(FUSE_OPEN, o), 0);
        assert_int_equal(plan.count, 1);
        assert_int_equal(plan.steps[0].want, cases[i].want);
    }
    assert_int_equal(ASK_FIXED(FUSE_OPENDIR, (struct fuse_open_in){0}), 0);
    planned("r:5:04");
}

static int set(uint32_t valid, uint32_t uid, uint32_t gid)
{
    const struct fuse_setattr_in s = {.valid = valid, .uid = uid, .gid = gid, .mode = 06777};

    return ASK_FIXED(FUSE_SETATTR, s);
}

static void attributes_are_the_owners(void **state)
{
    const uint32_t now = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW;

    (void)state;
    assert_int_equal(set(FATTR_MODE, 0, 0), 0);
    planned("r:5:08");
    assert_int_equal(set(FATTR_UID, 0, 0), -EPERM);
    assert_int_equal(set(FATTR_UID, 1234, 0), -EPERM);
    assert_int_equal(set(FATTR_UID | FATTR_GID, ANON, 42), 0);
    planned("r:5:18");
    assert_int_equal(plan.steps[0].gid, 42);
    assert_int_equal(set(FATTR_SIZE, 0, 0), 0);
    planned("r:5:02");
    assert_int_equal(set(FATTR_SIZE | FATTR_MTIME | FATTR_MTIME_NOW, 0, 0), 0);
    planned("r:5:02");
    assert_int_equal(set(FATTR_SIZE | FATTR_FH, 0, 0), 0);
    planned("r:5:00");
    assert_int_equal(set(now, 0, 0), 0);
    planned("r:5:20");
    assert_int_equal(set(FATTR_MTIME, 0, 0), 0);
    planned("r:5:08");
    assert_int_equal(set(FATTR_MTIME | FATTR_MTIME_NOW, 0, 0), 0); /* utimensat: now, omit */
    planned("r:5:08");
}

static void extended_attributes_go_by_their_name_space(void **state)
{
    const struct fuse_setxattr_in x = {.size = 1};
    const struct fuse_getxattr_in g = {.size = 100};

    (void)state;
    assert_int_equal(ASK(FUSE_SETXATTR, x, "user.a\0v"), 0);
    planned("r:5:82");
    assert_int_equal(ASK(FUSE_SETXATTR, x, "trusted.a\0v"), -EPERM);
    assert_int_equal(ASK(FUSE_SETXATTR, x, "security.a\0v"), -EPERM);
    assert_int_equal(ASK(FUSE_SETXATTR, x, "system.posix_acl_access\0v"), 0);
    planned("r:5:08");
    assert_int_equal(ASK_NAME(FUSE_REMOVEXATTR, "system.posix_acl_default"), 0);
    planned("r:5:08");
    assert_int_equal(ASK_NAME(FUSE_REMOVEXATTR, "trusted.a"), -EPERM);
    assert_int_equal(ASK(FUSE_GETXATTR, g, "user.a"), 0);
    planned("r:5:04");
    assert_int_equal(ASK(FUSE_GETXATTR, g, "trusted.a"), -ENODATA);
    assert_int_equal(ASK(FUSE_GETXATTR, g, "security.capability"), 0);
    planned("");
}

static void what_goes_by_an_open_file_is_not_checked(void **state)
{
    static const uint32_t opcodes[] = {
        FUSE_READ,    FUSE_WRITE,   FUSE_FLUSH,   FUSE_RELEASE,   FUSE_FSYNC,
        FUSE_READDIR, FUSE_GETATTR, FUSE_STATFS,  FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE,
        FUSE_FORGET,  FUSE_INIT,    FUSE_READLINK};
    uint8_t body[80] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        assert_int_equal(ask(opcodes[i], body, sizeof(body), NULL, 0), 0);
        assert_int_equal(plan.count, 0);
    }
}

static void what_is_cut_short_is_refused(void **state)
{
    static const uint32_t opcodes[] = {FUSE_LOOKUP,     FUSE_UNLINK,   FUSE_RMDIR,   FUSE_RENAME,
                                       FUSE_RENAME2,    FUSE_LINK,     FUSE_MKNOD,   FUSE_OPEN,
                                       FUSE_OPENDIR,    FUSE_SETXATTR, FUSE_SETATTR, FUSE_GETXATTR,
                                       FUSE_REMOVEXATTR};

    (void)state;
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        for (size_t len = 0; len < 4; len++) { /* and no name that ends */
            assert_int_equal(ask(opcodes[i], "abc", len, NULL, 0), -EINVAL);
        }
    }
    assert_int_equal(ask(FUSE_RENAME, "12345678a\0b", 11, NULL, 0), -EINVAL);
    assert_int_equal(hf_squash_plan(&squash, request, 3, &plan), -EINVAL);
    assert_false(hf_squash_is_root(request, 3));
}

static void a_request_becomes_the_users(void **state)
{
    struct fuse_in_header in;

    (void)state;
    assert_int_equal(ASK_NAME(FUSE_UNLINK, "n"), 0);
    assert_true(hf_squash_is_root(request, request_len));
    hf_squash_rewrite(&squash, request, request_len, NULL);
    memcpy(&in, request, sizeof(in));
    assert_int_equal(in.uid, ANON);
    assert_int_equal(in.gid, ANON_GROUP);
    assert_int_equal(in.pid, 77);
    assert_false(hf_squash_is_root(request, request_len));
    assert_string_equal((char *)request + sizeof(in), "n");
}

static void *rewritten(const struct hf_attr *attr)
{
    hf_squash_rewrite(&squash, request, request_len, attr);
    return request + sizeof(struct fuse_in_header);
}

static void set_id_bits_go_as_they_would_for_a_user(void **state)
{
    const struct hf_attr theirs = {.ino = {DIR}, .mode = S_IFDIR | 02777, .gid = 42};
    const struct hf_attr ours = {.ino = {DIR}, .mode = S_IFDIR | 02777, .gid = ANON_GROUP};
    const struct fuse_create_in c = {.mode = S_IFREG | 02775};
    const struct fuse_setxattr_in x = {.size = 1};
    struct fuse_write_in w = {.size = 0};

    (void)state;
    (void)ASK(FUSE_CREATE, c, "n");
    assert_int_equal(((struct fuse_create_in *)rewritten(&theirs))->mode, S_IFREG | 0775);
    (void)ASK(FUSE_CREATE, c, "n");
    assert_int_equal(((struct fuse_create_in *)rewritten(&ours))->mode, S_IFREG | 02775);
    (void)set(FATTR_MODE | FATTR_SIZE, 0, 0);
    assert_int_equal(((struct fuse_setattr_in *)rewritten(&theirs))->mode, 04777);
    (void)set(FATTR_MODE | FATTR_SIZE, 0, 0);
    assert_int_equal(((struct fuse_setattr_in *)rewritten(&ours))->mode, 06777);
    assert_true(((struct fuse_setattr_in *)rewritten(&ours))->valid & FATTR_KILL_SUIDGID);
    (void)ASK(FUSE_SETXATTR, x, "system.posix_acl_access\0v");
    assert_true(((struct fuse_setxattr_in *)rewritten(&theirs))->setxattr_flags);
    (void)ASK(FUSE_SETXATTR, x, "system.posix_acl_access\0v");
    assert_false(((struct fuse_setxattr_in *)rewritten(&ours))->setxattr_flags);
    (void)ASK_FIXED(FUSE_WRITE, w);
    assert_int_equal(((struct fuse_write_in *)rewritten(NULL))->write_flags,
                     FUSE_WRITE_KILL_SUIDGID);
    w.write_flags = FUSE_WRITE_CACHE; /* whose it was is not known */
    (void)ASK_FIXED(FUSE_WRITE, w);
    assert_int_equal(((struct fuse_write_in *)rewritten(NULL))->write_flags, FUSE_WRITE_CACHE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_need_rights_on_their_directories),
        cmocka_unit_test(devices_are_for_root_but_whiteouts_are_not),
        cmocka_unit_test(opening_needs_what_the_flags_say),
        cmocka_unit_test(attributes_are_the_owners),
        cmocka_unit_test(extended_attributes_go_by_their_name_space),
        cmocka_unit_test(what_goes_by_an_open_file_is_not_checked),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(a_request_becomes_the_users),
        cmocka_unit_test(set_id_bits_go_as_they_would_for_a_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
