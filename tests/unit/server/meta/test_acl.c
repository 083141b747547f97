/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/meta/fixture.h"

#define ROOT        HF_INO_ROOT
#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

static struct fx fx;
static struct fx_session s;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 9);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

struct entry {
    uint16_t tag, perm;
    uint32_t id;
};

static size_t acl_bytes(const struct entry *entries, uint32_t count, uint8_t *ret)
{
    hf_put_le32(ret, 2);
    for (uint32_t i = 0; i < count; i++) {
        hf_put_le16(ret + 4 + i * 8, entries[i].tag);
        hf_put_le16(ret + 6 + i * 8, entries[i].perm);
        hf_put_le32(ret + 8 + i * 8, entries[i].id);
    }
    return 4 + count * 8;
}

static int set(uint64_t ino, const char *name, const struct entry *entries, uint32_t count)
{
    uint8_t bytes[256];
    struct hf_meta_op op = {
        .op = HF_OP_SETXATTR,
        .ino = {ino},
        .name = name,
        .name_len = strlen(name),
        .bulk = bytes,
        .bulk_len = acl_bytes(entries, count, bytes),
    };

    return fx_do(&fx, &s, &op);
}

static int get(uint64_t ino, const char *name)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_GETXATTR, .ino = {ino}, .name = name, .name_len = strlen(name)};

    return fx_read(&fx, &rd);
}

static void assert_acl(uint64_t ino, const char *name, const struct entry *entries, uint32_t count)
{
    uint8_t bytes[256];
    size_t len = acl_bytes(entries, count, bytes);

    assert_int_equal(get(ino, name), 0);
    assert_int_equal(fx.reply.bulk_len, len);
    assert_memory_equal(fx.reply.bulk, bytes, len);
}

static const struct entry named[] = {
    {USER_OBJ, 7, UINT32_MAX}, {USER, 6, 1001},        {GROUP_OBJ, 5, UINT32_MAX},
    {MASK, 6, UINT32_MAX},     {OTHER, 1, UINT32_MAX},
};
static const struct entry plain[] = {
    {USER_OBJ, 7, UINT32_MAX}, {GROUP_OBJ, 5, UINT32_MAX}, {OTHER, 0, UINT32_MAX}};

static void an_access_acl_sets_the_mode(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    struct hf_meta_op remove = {
        .op = HF_OP_REMOVEXATTR, .ino = {ino}, .name = ACL_ACCESS, .name_len = 23};

    (void)state;
    assert_int_equal(set(ino, ACL_ACCESS, named, 5), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0761); /* the group bits are the mask */
    assert_acl(ino, ACL_ACCESS, named, 5);
    assert_int_equal(set(ino, ACL_ACCESS, plain, 3), 0); /* no more than a mode: not kept */
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0750);
    assert_int_equal(get(ino, ACL_ACCESS), -ENODATA);
    assert_int_equal(fx.reply.attr.ino.v, ino); /* who asks for rights needs the mode then */
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0750);
    assert_int_equal(set(ino, ACL_ACCESS, named, 5), 0);
    assert_int_equal(fx_do(&fx, &s, &remove), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0761);
    assert_int_equal(fx_do(&fx, &s, &remove), 0); /* the mode's is always there */
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0761);
}

static void chmod_changes_the_acl(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    const struct entry want[] = {
        {USER_OBJ, 6, UINT32_MAX}, {USER, 6, 1001},        {GROUP_OBJ, 5, UINT32_MAX},
        {MASK, 4, UINT32_MAX},     {OTHER, 0, UINT32_MAX},
    };
    struct hf_meta_op op = {.op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_MODE, .mode = 0640};

    (void)state;
    assert_int_equal(set(ino, ACL_ACCESS, named, 5), 0);
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0640);
    assert_acl(ino, ACL_ACCESS, want, 5);
}

static void default_acls_are_inherited(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), file, sub, link;
    const struct entry want[] = {
        {USER_OBJ, 6, UINT32_MAX}, {USER, 6, 1001},        {GROUP_OBJ, 5, UINT32_MAX},
        {MASK, 6, UINT32_MAX},     {OTHER, 0, UINT32_MAX},
    };

    (void)state;
    assert_int_equal(set(dir, ACL_DEFAULT, named, 5), 0);
    assert_int_equal(fx.reply.attr.mode, S_IFDIR | 0755); /* its own mode stays */
    file = fx_mkfile(&fx, &s, dir, "f");                  /* 0666, umask 022 does not count */
    assert_int_equal(fx_attr(&fx, file).mode, S_IFREG | 0660);
    assert_acl(file, ACL_ACCESS, want, 5);
    assert_int_equal(get(file, ACL_DEFAULT), -ENODATA);
    assert_int_equal(fx_tmpfile(&fx, &s, dir, 0, &file), 0);
    assert_int_equal(fx_attr(&fx, file).mode, S_IFREG | 0660);
    assert_acl(file, ACL_ACCESS, want, 5);
    sub = fx_mkdir(&fx, &s, dir, "s");
    assert_int_equal(fx_attr(&fx, sub).mode, S_IFDIR | 0761);
    assert_acl(sub, ACL_DEFAULT, named, 5);
    assert_acl(sub, ACL_ACCESS, named, 5);
    assert_int_equal(fx_create(&fx, &s, dir, "l", S_IFLNK | 0777, &link), 0);
    assert_int_equal(fx_attr(&fx, link).mode, S_IFLNK | 0777);
    assert_int_equal(get(link, ACL_ACCESS), -ENODATA);
    /* a default ACL that is only a mode gives only a mode */
    assert_int_equal(set(dir, ACL_DEFAULT, plain, 3), 0);
    file = fx_mkfile(&fx, &s, dir, "g");
    assert_int_equal(fx_attr(&fx, file).mode, S_IFREG | 0640);
    assert_int_equal(get(file, ACL_ACCESS), -ENODATA);
    assert_int_equal(set(dir, ACL_DEFAULT, plain, 0), 0); /* empty: away with it */
    assert_int_equal(get(dir, ACL_DEFAULT), -ENODATA);
    file = fx_mkfile(&fx, &s, dir, "h");
    assert_int_equal(fx_attr(&fx, file).mode, S_IFREG | 0644);
}

static void what_is_no_acl_is_refused(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    const struct entry no_mask[] = {
        {USER_OBJ, 7, 0}, {USER, 6, 1}, {GROUP_OBJ, 5, 0}, {OTHER, 1, 0}};
    const struct entry unordered[] = {{GROUP_OBJ, 7, 0}, {USER_OBJ, 5, 0}, {OTHER, 0, 0}};
    const struct entry twice[] = {
        {USER_OBJ, 7, 0}, {GROUP_OBJ, 5, 0}, {GROUP_OBJ, 5, 0}, {OTHER, 0, 0}};
    const struct entry perms[] = {{USER_OBJ, 8, 0}, {GROUP_OBJ, 5, 0}, {OTHER, 0, 0}};
    struct hf_meta_op op = {.op = HF_OP_SETXATTR,
                            .ino = {ino},
                            .name = ACL_ACCESS,
                            .name_len = 23,
                            .bulk = "\1\0\0\0",
                            .bulk_len = 4};

    (void)state;
    assert_int_equal(set(ino, ACL_ACCESS, no_mask, 4), -EINVAL);
    assert_int_equal(set(ino, ACL_ACCESS, unordered, 3), -EINVAL);
    assert_int_equal(set(ino, ACL_ACCESS, twice, 4), -EINVAL);
    assert_int_equal(set(ino, ACL_ACCESS, perms, 3), -EINVAL);
    assert_int_equal(set(ino, ACL_DEFAULT, plain, 3), -EACCES);
    assert_int_equal(fx_do(&fx, &s, &op), -EINVAL); /* version 1 */
    op.bulk_len = 3;
    assert_int_equal(fx_do(&fx, &s, &op), -EINVAL);
    assert_int_equal(fx_attr(&fx, ino).version, 1);
}

static void xattr_flags_and_limits_hold(void **state)
{
    static uint8_t big[HF_XATTR_VALUE_MAX + 1];
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "f");
    char name[300];
    struct hf_meta_op op = {
        .op = HF_OP_SETXATTR, .ino = {ino}, .name = "user.a", .name_len = 6, .bulk = big};
    struct hf_meta_read rd = {.op = HF_RD_LISTXATTR, .ino = {ino}};
    int err = 0, count;

    (void)state;
    op.flags = 2; /* XATTR_REPLACE */
    assert_int_equal(fx_do(&fx, &s, &op), -ENODATA);
    op.flags = 1; /* XATTR_CREATE */
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx_do(&fx, &s, &op), -EEXIST);
    op.flags = 0;
    op.bulk_len = sizeof(big);
    assert_int_equal(fx_do(&fx, &s, &op), -E2BIG);
    op.bulk_len = sizeof(big) - 1;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(get(ino, "user.a"), 0);
    assert_int_equal(fx.reply.bulk_len, HF_XATTR_VALUE_MAX);
    memset(name, 'n', sizeof(name));
    op.name = name;
    op.name_len = 256;
    assert_int_equal(fx_do(&fx, &s, &op), -ERANGE);
    op.name_len = 255;
    op.bulk_len = 0;
    for (count = 0; !err; count++) { /* names fill their list */
        snprintf(name, sizeof(name), "%d", count);
        name[strlen(name)] = 'n';
        err = fx_do(&fx, &s, &op);
    }
    assert_int_equal(err, -ENOSPC);
    assert_true(count > 250);
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_true(fx.reply.bulk_len <= HF_XATTR_LIST_MAX);
    assert_memory_equal((const char *)fx.reply.bulk + fx.reply.bulk_len - 7, "user.a", 7);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "f", 0), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_access_acl_sets_the_mode), T(chmod_changes_the_acl),
        T(default_acls_are_inherited),  T(what_is_no_acl_is_refused),
        T(xattr_flags_and_limits_hold),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
