/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "client/fuse/rights.h"
#include "common/base/bytes.h"

enum { ME = 1000, MY_GROUP = 100, OTHER_USER = 7, OTHER_GROUP = 8 };

#define R HF_RIGHT_READ
#define W HF_RIGHT_WRITE
#define X HF_RIGHT_EXECUTE

static const struct hf_rights_who me = {.uid = ME, .gid = MY_GROUP};
static struct hf_posix_acl acl;

static int check(uint32_t mode, uint32_t uid, uint32_t gid, uint32_t want)
{
    const struct hf_attr attr = {.ino = {2}, .mode = mode, .uid = uid, .gid = gid};

    return hf_rights_check(&me, &attr, &acl, want, 0);
}

static int setup(void **state)
{
    (void)state;
    acl.count = 0;
    return 0;
}

static void the_first_class_that_fits_decides(void **state)
{
    (void)state;
    for (uint32_t want = 0; want <= 7; want++) {
        for (uint32_t has = 0; has <= 7; has++) {
            int expected = (has & want) == want ? 0 : -EACCES;

            assert_int_equal(check(S_IFREG | has << 6, ME, MY_GROUP, want), expected);
            assert_int_equal(check(S_IFREG | has << 3, OTHER_USER, MY_GROUP, want), expected);
            assert_int_equal(check(S_IFREG | has, OTHER_USER, OTHER_GROUP, want), expected);
        }
    }
    assert_int_equal(check(S_IFREG | 0077, ME, MY_GROUP, R), -EACCES);
    assert_int_equal(check(S_IFREG | 0707, OTHER_USER, MY_GROUP, R), -EACCES);
}

static void an_acl_decides_for_all_but_the_owner(void **state)
{
    static const uint16_t tags[] = {1, 2, 4, 16, 32}, perms[] = {0, 6, 0, 6, 0};
    uint8_t b[44];

    (void)state;
    hf_put_le32(b, 2);
    for (int i = 0; i < 5; i++) {
        hf_put_le16(b + 4 + i * 8, tags[i]);
        hf_put_le16(b + 6 + i * 8, perms[i]);
        hf_put_le32(b + 8 + i * 8, ME);
    }
    assert_int_equal(hf_posix_acl_parse(b, sizeof(b), &acl), 0);
    assert_int_equal(check(S_IFREG | 0060, OTHER_USER, OTHER_GROUP, R | W), 0);
    assert_int_equal(check(S_IFREG | 0061, OTHER_USER, OTHER_GROUP, X), -EACCES);
    assert_int_equal(check(S_IFREG | 0060, ME, OTHER_GROUP, R), -EACCES); /* the owner's bits */
}

static void some_things_only_the_owner_may(void **state)
{
    const struct hf_attr mine = {.mode = S_IFREG, .uid = ME, .gid = OTHER_GROUP};
    const struct hf_attr theirs = {.mode = S_IFREG, .uid = OTHER_USER, .gid = MY_GROUP};

    (void)state;
    assert_int_equal(check(S_IFREG, ME, MY_GROUP, HF_RIGHT_OWN), 0);
    assert_int_equal(check(S_IFREG | 0777, OTHER_USER, MY_GROUP, HF_RIGHT_OWN), -EPERM);
    assert_int_equal(hf_rights_check(&me, &mine, &acl, HF_RIGHT_GROUP, MY_GROUP), 0);
    assert_int_equal(hf_rights_check(&me, &mine, &acl, HF_RIGHT_GROUP, OTHER_GROUP), 0);
    assert_int_equal(hf_rights_check(&me, &mine, &acl, HF_RIGHT_GROUP, 5), -EPERM);
    assert_int_equal(hf_rights_check(&me, &theirs, &acl, HF_RIGHT_GROUP, MY_GROUP), -EPERM);
}

static void times_are_set_to_now_by_the_owner_or_a_writer(void **state)
{
    (void)state;
    assert_int_equal(check(S_IFREG, ME, MY_GROUP, HF_RIGHT_TOUCH), 0);
    assert_int_equal(check(S_IFREG | 0002, OTHER_USER, OTHER_GROUP, HF_RIGHT_TOUCH), 0);
    assert_int_equal(check(S_IFREG | 0775, OTHER_USER, OTHER_GROUP, HF_RIGHT_TOUCH), -EACCES);
}

static void a_sticky_directory_is_its_owners(void **state)
{
    const struct hf_attr tmp = {.mode = S_IFDIR | S_ISVTX | 0777, .uid = OTHER_USER};
    const struct hf_attr my_tmp = {.mode = S_IFDIR | S_ISVTX | 0777, .uid = ME};
    const struct hf_attr plain = {.mode = S_IFDIR | 0777, .uid = OTHER_USER};

    (void)state;
    assert_false(hf_rights_removes_any(&me, &tmp));
    assert_true(hf_rights_removes_any(&me, &my_tmp));
    assert_true(hf_rights_removes_any(&me, &plain));
    assert_int_equal(hf_rights_check(&me, &tmp, &acl, W | HF_RIGHT_NOT_STICKY, 0), -EPERM);
    assert_int_equal(hf_rights_check(&me, &my_tmp, &acl, W | HF_RIGHT_NOT_STICKY, 0), 0);
    assert_int_equal(check(S_IFREG | S_ISVTX | 0666, OTHER_USER, 0, W | HF_RIGHT_NOT_STICKY), 0);
}

static void links_are_made_to_what_one_may_read_and_write(void **state)
{
    (void)state;
    assert_int_equal(check(S_IFREG | S_ISUID, ME, MY_GROUP, HF_RIGHT_LINK), 0);
    assert_int_equal(check(S_IFREG | 0666, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), 0);
    assert_int_equal(check(S_IFREG | 0664, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), -EPERM);
    assert_int_equal(check(S_IFREG | 04666, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), -EPERM);
    assert_int_equal(check(S_IFREG | 02676, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), -EPERM);
    assert_int_equal(check(S_IFREG | 02666, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), 0);
    assert_int_equal(check(S_IFIFO | 0666, OTHER_USER, OTHER_GROUP, HF_RIGHT_LINK), -EPERM);
}

static void set_group_id_is_for_members(void **state)
{
    (void)state;
    assert_int_equal(hf_rights_mode(&me, 06755, MY_GROUP), 06755);
    assert_int_equal(hf_rights_mode(&me, 06755, OTHER_GROUP), 04755);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
    const struct CMUnitTest tests[] = {
        T(the_first_class_that_fits_decides), T(an_acl_decides_for_all_but_the_owner),
        T(some_things_only_the_owner_may),    T(times_are_set_to_now_by_the_owner_or_a_writer),
        T(a_sticky_directory_is_its_owners),  T(links_are_made_to_what_one_may_read_and_write),
        T(set_group_id_is_for_members),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
