/* SPDX-License-Identifier: Apache-2.0 */
/* Every decoder of a row's value, chosen by the first byte. */
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "server/meta/alloc.h"
#include "server/meta/extents.h"
#include "server/meta/lock.h"
#include "server/meta/rows.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_alloc(const uint8_t *data, size_t len)
{
    struct hf_alloc alloc = {0};

    if (hf_alloc_decode(&alloc, data, len) == 0) {
        HF_ASSERT(hf_alloc_row_bytes(&alloc) == len);
        HF_ASSERT(hf_alloc_bytes(&alloc) <= HF_FILE_BYTES_MAX);
    }
    hf_alloc_fini(&alloc);
}

static void fuzz_window(const uint8_t *data, size_t len)
{
    struct hf_extvec vec = {0};

    if (hf_extvec_decode(&vec, data, len) == 0) {
        uint64_t in_line;

        HF_ASSERT(hf_extvec_covered(&vec, &in_line) <= HF_WINDOW_BYTES);
        HF_ASSERT(hf_extvec_punch(&vec, 1000, 5000) == 0);
        HF_ASSERT(hf_extvec_compact(&vec) == 0);
    }
    hf_extvec_fini(&vec);
}

static void fuzz_locks(const uint8_t *data, size_t len)
{
    struct hf_lockvec vec = {0};

    if (hf_lockvec_decode(&vec, data, len) == 0) {
        const struct hf_lock lock = {.session = {1}, .owner = 1, .start = 5, .end = 50, .type = 1};

        (void)hf_lockvec_conflict(&vec, &lock);
    }
    hf_lockvec_fini(&vec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hf_row_format format;
    struct hf_map_node node;
    struct hf_map_group group;
    struct hf_inode inode;
    struct hf_row_dirent entry;
    struct hf_row_object object;
    struct hf_row_session session;
    struct hf_meta_reply reply;
    struct hf_bitmap bitmap;

    if (len-- == 0) {
        return 0;
    }
    switch (*data++ % 12) {
    case 0:
        (void)hf_row_format_decode(data, len, &format);
        break;
    case 1:
        if (hf_row_node_decode(data, len, &node) == 0) {
            HF_ASSERT(strlen(node.addr) < sizeof(node.addr));
        }
        break;
    case 2:
        (void)hf_row_group_decode(data, len, &group);
        break;
    case 3:
        (void)hf_row_inode_decode(data, len, &inode);
        break;
    case 4:
        if (hf_row_dirent_decode(data, len, &entry) == 0) {
            HF_ASSERT(entry.name_len <= HF_NAME_MAX);
        }
        break;
    case 5:
        fuzz_window(data, len);
        break;
    case 6:
        (void)hf_row_object_decode(data, len, &object);
        break;
    case 7:
        if (hf_row_session_decode(data, len, &session) == 0) {
            HF_ASSERT(strlen(session.name) < sizeof(session.name));
        }
        break;
    case 8:
        (void)hf_row_result_decode(data, len, &reply);
        break;
    case 9:
        (void)hf_row_bitmap_decode(data, len, &bitmap);
        break;
    case 10:
        fuzz_alloc(data, len);
        break;
    default:
        fuzz_locks(data, len);
        break;
    }
    return 0;
}

/* The golden rows, and a lock. */
size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static char line[8192];
    FILE *f;
    const char *hex;
    size_t len = 1;

    ret[0] = (uint8_t)index;
    if (index > 11) {
        return 0;
    }
    if (index == 11) {
        memset(ret + 1, 0, 8 + HF_ROW_LOCK_BYTES);
        ret[1] = HF_ROW_VERSION;
        ret[5] = 1; /* one */
        ret[9] = 3;
        ret[1 + 8 + 24] = 9;
        return 1 + 8 + HF_ROW_LOCK_BYTES;
    }
    f = fopen(HF_SOURCE_DIR "/tests/golden/meta_rows.hex", "r");
    HF_ASSERT(f != NULL);
    for (size_t i = 0; i <= index; i++) {
        HF_ASSERT(fgets(line, sizeof(line), f) != NULL);
    }
    (void)fclose(f);
    hex = strchr(line, ' ');
    HF_ASSERT(hex != NULL);
    for (unsigned byte; len < cap && sscanf(++hex, "%2x", &byte) == 1; hex++) {
        ret[len++] = (uint8_t)byte;
    }
    return len;
}
