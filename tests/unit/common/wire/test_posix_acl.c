/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/bytes.h"
#include "common/wire/posix_acl.h"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
enum { X = 1, W = 2, R = 4, FILE_GID = 50, ANY = 7 };

struct entry {
    uint16_t tag, perm;
    uint32_t id;
};

static struct hf_posix_acl acl;

static int parse(const struct entry *entries, uint32_t count)
{
    uint8_t b[256];

    hf_put_le32(b, 2);
    for (uint32_t i = 0; i < count; i++) {
        hf_put_le16(b + 4 + i * 8, entries[i].tag);
        hf_put_le16(b + 6 + i * 8, entries[i].perm);
        hf_put_le32(b + 8 + i * 8, entries[i].id);
    }
    return hf_posix_acl_parse(b, 4 + count * 8, &acl);
}

static const struct entry full[] = {
    {USER_OBJ, 7, 0}, {USER, R | W, 10}, {USER, 0, 11},    {GROUP_OBJ, R, 0},
    {GROUP, W, 60},   {GROUP, 0, 61},    {MASK, R | W, 0}, {OTHER, R | X, 0},
};

static bool allows(uint32_t uid, uint32_t gid, uint32_t want)
{
    return hf_posix_acl_allows(&acl, FILE_GID, uid, gid, want);
}

static void a_named_user_gets_what_the_entry_and_the_mask_say(void **state)
{
    (void)state;
    assert_int_equal(parse(full, 8), 0);
    assert_true(allows(10, 99, R | W));
    assert_false(allows(10, 99, X)); /* though all others have it */
    assert_false(allows(11, 99, R));
    assert_false(allows(11, FILE_GID, R)); /* the user's entry is found first */
}

static void one_entry_of_a_group_has_to_give_all(void **state)
{
    (void)state;
    assert_int_equal(parse(full, 8), 0);
    assert_true(allows(ANY, FILE_GID, R));
    assert_false(allows(ANY, FILE_GID, R | W));
    assert_true(allows(ANY, 60, W));
    assert_false(allows(ANY, 60, R));
    assert_false(allows(ANY, 61, R)); /* a member is none of the others */
    assert_true(allows(ANY, 99, R | X));
    assert_false(allows(ANY, 99, W));
}

static void the_mask_cuts_all_but_the_others(void **state)
{
    struct entry e[8];

    (void)state;
    memcpy(e, full, sizeof(e));
    e[6].perm = X;
    assert_int_equal(parse(e, 8), 0);
    assert_false(allows(10, 99, R));
    assert_false(allows(ANY, FILE_GID, R));
    assert_false(allows(ANY, 60, W));
    assert_true(allows(ANY, 99, R | X));
}

static void without_a_mask_the_groups_entry_counts(void **state)
{
    const struct entry plain[] = {{USER_OBJ, 7, 0}, {GROUP_OBJ, R | X, 0}, {OTHER, W, 0}};

    (void)state;
    assert_int_equal(parse(plain, 3), 0);
    assert_true(allows(ANY, FILE_GID, R | X));
    assert_false(allows(ANY, FILE_GID, W));
    assert_true(allows(ANY, 99, W));
    assert_false(allows(ANY, 99, R));
}

static void what_is_no_acl_is_refused(void **state)
{
    const struct entry no_mask[] = {
        {USER_OBJ, 7, 0}, {USER, 7, 1}, {GROUP_OBJ, 7, 0}, {OTHER, 7, 0}};
    const struct entry disorder[] = {{GROUP_OBJ, 7, 0}, {USER_OBJ, 7, 0}, {OTHER, 7, 0}};

    (void)state;
    assert_int_equal(parse(no_mask, 4), -EINVAL);
    assert_int_equal(parse(disorder, 3), -EINVAL);
    assert_int_equal(hf_posix_acl_parse("\2\0\0\0x", 5, &acl), -EINVAL);
    assert_int_equal(hf_posix_acl_parse("\1\0\0\0", 4, &acl), -EINVAL);
    assert_int_equal(parse(NULL, 0), 0);
    assert_int_equal(acl.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_named_user_gets_what_the_entry_and_the_mask_say),
        cmocka_unit_test(one_entry_of_a_group_has_to_give_all),
        cmocka_unit_test(the_mask_cuts_all_but_the_others),
        cmocka_unit_test(without_a_mask_the_groups_entry_counts),
        cmocka_unit_test(what_is_no_acl_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
