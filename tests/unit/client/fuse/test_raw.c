/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/fuse.h>
#include <string.h>

#include "client/fuse/raw.h"

/* The kernel offers @flags, and libfuse answers with none. Returns what the kernel is told. */
static uint32_t negotiate(struct hf_raw *raw, uint32_t flags)
{
    struct {
        struct fuse_in_header head;
        struct fuse_init_in init;
    } in = {.head = {.len = sizeof(in), .opcode = FUSE_INIT, .unique = 2},
            .init = {.major = 7, .minor = 38, .flags = flags}};
    struct fuse_out_header head = {.unique = 2};
    struct fuse_init_out out = {.major = 7, .minor = 31};
    struct iovec iov[2] = {{&head, sizeof(head)}, {&out, sizeof(out)}};

    *raw = (struct hf_raw){0};
    assert_int_equal(hf_raw_request(raw, &in, sizeof(in)), sizeof(in));
    hf_raw_reply(raw, iov, 2);
    return out.flags;
}

static void what_the_kernel_does_not_offer_is_not_asked_for(void **state)
{
    const uint32_t both = FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;
    struct hf_raw raw;

    (void)state;
    assert_int_equal(negotiate(&raw, 0), 0);
    assert_false(raw.killpriv || raw.setxattr_ext);
    assert_int_equal(negotiate(&raw, both), both);
    assert_true(raw.killpriv && raw.setxattr_ext);
}

static void an_extended_setxattr_becomes_a_plain_one(void **state)
{
    struct __attribute__((packed)) {
        struct fuse_in_header head;
        struct fuse_setxattr_in x;
        char rest[9];
    } in = {.head = {.len = sizeof(in), .opcode = FUSE_SETXATTR, .unique = 4},
            .x = {.size = 2, .flags = 1, .setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID},
            .rest = "user.a\0v"};
    const uint8_t *body = (const uint8_t *)&in + sizeof(in.head);
    struct hf_raw raw;
    size_t len;

    (void)state;
    (void)negotiate(&raw, FUSE_SETXATTR_EXT);
    len = hf_raw_request(&raw, &in, sizeof(in));
    assert_int_equal(len, sizeof(in) - 8);
    assert_int_equal(in.head.len, len);
    assert_true(raw.kill);
    assert_int_equal(body[0], 2);
    assert_int_equal(body[4], 1);
    assert_memory_equal(body + 8, "user.a\0v", 9);
}

static void without_the_extension_a_setxattr_is_left_alone(void **state)
{
    struct {
        struct fuse_in_header head;
        uint32_t size, flags;
        char rest[16];
    } in = {.head = {.len = sizeof(in), .opcode = FUSE_SETXATTR}, .size = 1, .rest = "user.abc\0v"};
    struct hf_raw raw;

    (void)state;
    (void)negotiate(&raw, 0);
    assert_int_equal(hf_raw_request(&raw, &in, sizeof(in)), sizeof(in));
    assert_false(raw.kill);
    assert_string_equal(in.rest, "user.abc");
}

static void a_statx_is_asked_as_getattr_and_answered_with_the_birth(void **state)
{
    struct {
        struct fuse_in_header head;
        struct fuse_getattr_in get;
        uint32_t flags, mask;
    } in = {.head = {.len = sizeof(in), .opcode = 52, .unique = 6}};
    struct fuse_attr_out attr = {
        .attr = {.ino = 9, .size = 70, .rdev = 0x12300145, .mode = 0100644}};
    struct fuse_out_header out = {.len = sizeof(out) + sizeof(attr)};
    struct iovec iov[2] = {{&out, sizeof(out)}, {&attr, sizeof(attr)}};
    const uint8_t *x = NULL;
    struct hf_raw raw;
    size_t len;

    (void)state;
    (void)negotiate(&raw, 0);
    len = hf_raw_request(&raw, &in, sizeof(in));
    assert_int_equal(len, sizeof(in.head) + sizeof(in.get));
    assert_int_equal(in.head.len, len);
    assert_int_equal(in.head.opcode, FUSE_GETATTR);
    out.unique = in.head.unique;
    raw.btime = (struct timespec){.tv_sec = -2, .tv_nsec = 5};
    hf_raw_reply(&raw, iov, 2);
    assert_int_equal(out.unique, 6);
    assert_int_equal(out.len, sizeof(out) + 288);
    assert_int_equal(iov[1].iov_len, 288);
    x = iov[1].iov_base; /* places of linux/fuse.h 7.39 */
    assert_int_equal(*(const uint32_t *)(x + 32), 0xfff);
    assert_int_equal(*(const uint16_t *)(x + 60), 0100644);
    assert_int_equal(*(const uint64_t *)(x + 64), 9);
    assert_int_equal(*(const uint64_t *)(x + 72), 70);
    assert_int_equal(*(const int64_t *)(x + 112), -2);
    assert_int_equal(*(const uint32_t *)(x + 120), 5);
    assert_int_equal(*(const uint32_t *)(x + 160), 0x001);
    assert_int_equal(*(const uint32_t *)(x + 164), 0x12345);
}

static void a_statx_that_fails_keeps_its_error(void **state)
{
    struct {
        struct fuse_in_header head;
        struct fuse_getattr_in get;
        uint32_t flags, mask;
    } in = {.head = {.len = sizeof(in), .opcode = 52, .unique = 8}};
    struct fuse_out_header out = {.len = sizeof(out), .error = -2};
    struct iovec iov[1] = {{&out, sizeof(out)}};
    struct hf_raw raw;

    (void)state;
    (void)negotiate(&raw, 0);
    (void)hf_raw_request(&raw, &in, sizeof(in));
    out.unique = in.head.unique;
    hf_raw_reply(&raw, iov, 1);
    assert_int_equal(out.unique, 8);
    assert_int_equal(out.len, sizeof(out));
    assert_int_equal(out.error, -2);
}

static void a_tmpfile_is_asked_as_a_create_and_told_apart(void **state)
{
    struct {
        struct fuse_in_header head;
        struct fuse_create_in create;
        char name[8];
    } in = {.head = {.len = sizeof(in), .opcode = 51, .unique = 10}, .name = "/"};
    struct hf_raw raw;

    (void)state;
    (void)negotiate(&raw, 0);
    assert_int_equal(hf_raw_request(&raw, &in, sizeof(in)), sizeof(in));
    assert_int_equal(in.head.opcode, FUSE_CREATE);
    assert_true(raw.tmpfile);
    assert_int_equal(hf_raw_request(&raw, &in, sizeof(in)), sizeof(in)); /* a CREATE by now */
    assert_false(raw.tmpfile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_kernel_does_not_offer_is_not_asked_for),
        cmocka_unit_test(an_extended_setxattr_becomes_a_plain_one),
        cmocka_unit_test(without_the_extension_a_setxattr_is_left_alone),
        cmocka_unit_test(a_statx_is_asked_as_getattr_and_answered_with_the_birth),
        cmocka_unit_test(a_statx_that_fails_keeps_its_error),
        cmocka_unit_test(a_tmpfile_is_asked_as_a_create_and_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
