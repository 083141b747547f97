/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of every row's value are fixed: tests/golden/meta_rows.hex holds one line a row, "name
 * hex". HF_GOLDEN_WRITE=1 in the environment writes the file anew; do so only to add rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/meta/extents.h"
#include "server/meta/alloc.h"
#include "server/meta/rows.h"

#define GOLDEN HF_SOURCE_DIR "/tests/golden/meta_rows.hex"

struct row {
    const char *name;
    size_t (*make)(uint8_t *ret);
    /* Decode, and encode what came out. Returns the decoder's error. */
    int (*again)(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len);
};

static const struct hf_uuid uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct hf_attr attr = {
    .mode = S_IFREG | 0644,
    .uid = 1000,
    .gid = 1001,
    .nlink = 2,
    .rdev = 0x801,
    .size = 123456789,
    .bytes = 4096,
    .atime_ns = 1700000000000000001,
    .mtime_ns = 1700000000000000002,
    .ctime_ns = 1700000000000000003,
    .btime_ns = 1700000000000000004,
    .version = 7,
    .data_version = 6,
    .generation = 99,
};

static size_t make_format(uint8_t *ret)
{
    const struct hf_row_format v = {uuid, 3, 2, 256, 9, 0x1122334455667788};

    hf_row_format_encode(&v, ret);
    return HF_ROW_FORMAT_BYTES;
}

static int again_format(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_row_format v;
    int err = hf_row_format_decode(bytes, len, &v);

    if (!err) {
        hf_row_format_encode(&v, ret);
        *ret_len = HF_ROW_FORMAT_BYTES;
    }
    return err;
}

static size_t make_node(uint8_t *ret)
{
    struct hf_map_node v = {.state = HF_NODE_RETURNING, .weight = 250, .uuid = uuid};

    strcpy(v.addr, "10.0.0.1:7000");
    strcpy(v.domain, "rack 1");
    hf_row_node_encode(&v, ret);
    return HF_ROW_NODE_BYTES;
}

static int again_node(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_map_node v;
    int err = hf_row_node_decode(bytes, len, &v);

    if (!err) {
        hf_row_node_encode(&v, ret);
        *ret_len = HF_ROW_NODE_BYTES;
    }
    return err;
}

static size_t make_group(uint8_t *ret)
{
    const struct hf_map_group v = {{8}, {{2}, {1}, {64}}, {{64}, {1}}};

    hf_row_group_encode(&v, ret);
    return HF_ROW_GROUP_BYTES;
}

static int again_group(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_map_group v;
    int err = hf_row_group_decode(bytes, len, &v);

    if (!err) {
        hf_row_group_encode(&v, ret);
        *ret_len = HF_ROW_GROUP_BYTES;
    }
    return err;
}

static size_t make_inode(uint8_t *ret)
{
    const struct hf_inode v = {
        .attr = attr,
        .parent = {5},
        .state = HF_INODE_ORPHAN,
        .flags = HF_INODE_ACL | HF_INODE_STALE_TAIL,
        .xattr_names_bytes = 20,
        .xattr_bytes = 300,
        .trunc_epoch = 4,
        .stale_from = 0x123456,
    };

    hf_row_inode_encode(&v, ret);
    return HF_ROW_INODE_BYTES;
}

static int again_inode(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_inode v = {0};
    int err = hf_row_inode_decode(bytes, len, &v);

    if (!err) {
        hf_row_inode_encode(&v, ret);
        *ret_len = HF_ROW_INODE_BYTES;
    }
    return err;
}

static size_t make_dirent(uint8_t *ret)
{
    const struct hf_row_dirent v = {{77}, S_IFDIR, 2, "a name", 6};

    return hf_row_dirent_encode(&v, ret);
}

static int again_dirent(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_row_dirent v;
    int err = hf_row_dirent_decode(bytes, len, &v);

    if (!err) {
        *ret_len = hf_row_dirent_encode(&v, ret);
    }
    return err;
}

static size_t make_window(uint8_t *ret)
{
    struct hf_extvec v = {.epoch = 3};
    const struct hf_oid oid = {.group = 7, .session = 8, .seq = 9};
    size_t len;

    assert_int_equal(hf_extvec_set(&v, 4096, 8192, &oid, 100), 0);
    assert_int_equal(hf_extvec_set_inline(&v, 0, 5, "hello"), 0);
    assert_int_equal(hf_extvec_compact(&v), 0);
    hf_extvec_encode(&v, ret);
    len = hf_extvec_row_bytes(&v);
    hf_extvec_fini(&v);
    return len;
}

static int again_window(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_extvec v = {0};
    int err = hf_extvec_decode(&v, bytes, len);

    if (!err) {
        hf_extvec_encode(&v, ret);
        *ret_len = hf_extvec_row_bytes(&v);
    }
    hf_extvec_fini(&v);
    return err;
}

static size_t make_object(uint8_t *ret)
{
    const struct hf_row_object v = {4194304, 3, 5000000, 0x0102030405060708, 6};

    hf_row_object_encode(&v, ret);
    return HF_ROW_OBJECT_BYTES;
}

static int again_object(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_row_object v;
    int err = hf_row_object_decode(bytes, len, &v);

    if (!err) {
        hf_row_object_encode(&v, ret);
        *ret_len = HF_ROW_OBJECT_BYTES;
    }
    return err;
}

static size_t make_session(uint8_t *ret)
{
    const struct hf_row_session v = {uuid, 30000000000, 17, {512}, 4096, "mount of host"};

    return hf_row_session_encode(&v, ret);
}

static int again_session(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_row_session v;
    int err = hf_row_session_decode(bytes, len, &v);

    if (!err) {
        *ret_len = hf_row_session_encode(&v, ret);
    }
    return err;
}

static size_t make_result(uint8_t *ret)
{
    struct hf_meta_reply v = {
        .err = -EEXIST,
        .attr = attr,
        .attr2 = attr,
        .first_ino = {512},
        .ino_count = 512,
        .lock_type = 1,
        .lock_pid = 33,
        .lock_start = 5,
        .lock_end = UINT64_MAX,
        .count = 12,
        .bulk = "target",
        .bulk_len = 6,
    };

    v.attr.ino.v = 10;
    v.attr2.ino.v = 1;
    return hf_row_result_encode(&v, ret);
}

static int again_result(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_meta_reply v;
    int err = hf_row_result_decode(bytes, len, &v);

    if (!err) {
        *ret_len = hf_row_result_encode(&v, ret);
    }
    return err;
}

static size_t make_bitmap(uint8_t *ret)
{
    struct hf_bitmap v = {{0}};

    hf_bitmap_flip(&v, 0);
    hf_bitmap_flip(&v, 512 + 9);
    hf_bitmap_flip(&v, 511);
    hf_row_bitmap_encode(&v, ret);
    return HF_ROW_BITMAP_BYTES;
}

static int again_bitmap(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_bitmap v;
    int err = hf_row_bitmap_decode(bytes, len, &v);

    if (!err) {
        hf_row_bitmap_encode(&v, ret);
        *ret_len = HF_ROW_BITMAP_BYTES;
    }
    return err;
}

static size_t make_alloc(uint8_t *ret)
{
    struct hf_alloc_range v[2] = {{4096, 8192}, {UINT64_C(1) << 40, HF_FILE_BYTES_MAX}};
    const struct hf_alloc alloc = {.v = v, .count = 2};

    hf_alloc_encode(&alloc, ret);
    return hf_alloc_row_bytes(&alloc);
}

static int again_alloc(const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_alloc alloc = {0};
    int err = hf_alloc_decode(&alloc, bytes, len);

    if (!err) {
        hf_alloc_encode(&alloc, ret);
        *ret_len = hf_alloc_row_bytes(&alloc);
    }
    hf_alloc_fini(&alloc);
    return err;
}

static const struct row rows[] = {
    {"format", make_format, again_format}, {"node", make_node, again_node},
    {"group", make_group, again_group},    {"inode", make_inode, again_inode},
    {"dirent", make_dirent, again_dirent}, {"window", make_window, again_window},
    {"object", make_object, again_object}, {"session", make_session, again_session},
    {"result", make_result, again_result}, {"bitmap", make_bitmap, again_bitmap},
    {"alloc", make_alloc, again_alloc},
};

static void every_row_has_its_golden_bytes(void **state)
{
    bool write = getenv("HF_GOLDEN_WRITE") != NULL;
    FILE *f = fopen(GOLDEN, write ? "w" : "r");
    static char line[8192], want[8192];

    (void)state;
    assert_non_null(f);
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        uint8_t bytes[1024];
        size_t len = rows[i].make(bytes);
        int at = snprintf(want, sizeof(want), "%s ", rows[i].name);

        for (size_t j = 0; j < len; j++) {
            at += snprintf(want + at, sizeof(want) - (size_t)at, "%02x", bytes[j]);
        }
        (void)snprintf(want + at, sizeof(want) - (size_t)at, "\n");
        if (write) {
            assert_true(fputs(want, f) >= 0);
            continue;
        }
        assert_non_null(fgets(line, sizeof(line), f));
        assert_string_equal(line, want);
    }
    assert_int_equal(fclose(f), 0);
}

static void every_row_survives_decoding(void **state)
{
    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        uint8_t bytes[1024], again[1024];
        size_t len = rows[i].make(bytes), again_len = 0;

        assert_int_equal(rows[i].again(bytes, len, again, &again_len), 0);
        assert_int_equal(again_len, len);
        assert_memory_equal(again, bytes, len);
    }
}

static void decoders_refuse_other_versions_and_lengths(void **state)
{
    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        uint8_t bytes[1024], again[1024];
        size_t len = rows[i].make(bytes), again_len;
        bool open_end = strcmp(rows[i].name, "dirent") == 0 || strcmp(rows[i].name, "session") == 0;

        bytes[0]++;
        assert_int_equal(rows[i].again(bytes, len, again, &again_len), -EBADMSG);
        bytes[0]--;
        for (size_t cut = 0; cut < len && !open_end; cut++) {
            assert_int_equal(rows[i].again(bytes, cut, again, &again_len), -EBADMSG);
        }
        bytes[len] = 0;
        if (!open_end) {
            assert_int_equal(rows[i].again(bytes, len + 1, again, &again_len), -EBADMSG);
        }
        assert_int_equal(rows[i].again(bytes, 3, again, &again_len), -EBADMSG);
    }
}

static void keys_order_as_their_numbers(void **state)
{
    struct hf_key a, b;

    (void)state;
    hf_key_u64_u64(&a, HF_ROW_WINDOW, 5, 255);
    hf_key_u64_u64(&b, HF_ROW_WINDOW, 5, 256);
    assert_true(memcmp(a.b, b.b, a.len) < 0);
    assert_int_equal(a.len, 17);
    hf_key_u64_u64(&b, HF_ROW_WINDOW, 4, UINT64_MAX);
    assert_true(memcmp(b.b, a.b, a.len) < 0);
    hf_key_degraded(&a, (struct hf_node_id){1}, &(struct hf_oid){2, 3, 4});
    assert_memory_equal(a.b, "\x22\0\1\0\4\0\0\0\0\0\0\0\2\0\0\0\0\0\3", 19);
    assert_int_equal(a.len, 19);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_its_golden_bytes),
        cmocka_unit_test(every_row_survives_decoding),
        cmocka_unit_test(decoders_refuse_other_versions_and_lengths),
        cmocka_unit_test(keys_order_as_their_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
