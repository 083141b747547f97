/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store decodes from records, rows and its identity file. Input: byte 0 chooses, then the
 * bytes.
 */
#include <string.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"
#include "server/store/store.h"
#include "server/store/store_format.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_object(const uint8_t *data, size_t len)
{
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];
    struct hf_store_object o;
    uint32_t payload = 0;

    if (len >= 20) {
        memcpy(&payload, data + 16, sizeof(payload));
    }
    if (hf_store_object_decode(data, len, (uint32_t)len, payload, &o, sums) == 0) {
        uint8_t again[HF_STORE_OBJECT_META_MAX];

        HF_ASSERT(o.sum_count == hf_blocks(o.len_bytes) && o.len_bytes <= HF_OBJECT_BYTES_MAX);
        HF_ASSERT(hf_store_object_encode(&o, sums, again) == len);
    }
    (void)hf_store_object_decode(data, len, 64, payload, &o, NULL);
}

static void fuzz_text(const uint8_t *data, size_t len)
{
    struct hf_store_identity id;
    char text[HF_STORE_IDENTITY_MAX + 1];
    char again[HF_STORE_IDENTITY_MAX];

    len = len < HF_STORE_IDENTITY_MAX ? len : HF_STORE_IDENTITY_MAX;
    memcpy(text, data, len);
    text[len] = '\0';
    if (hf_store_identity_parse(text, &id) == 0) {
        struct hf_store_identity back;

        HF_ASSERT(hf_store_identity_parse(hf_store_identity_format(&id, again), &back) == 0);
        HF_ASSERT(back.node.v == id.node.v);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t bytes[64] = {0};
    struct hf_store_note note;
    struct hf_store_row row;
    struct hf_uuid uuid;
    uint64_t seq;
    uint32_t count;

    if (len-- == 0) {
        return 0;
    }
    memcpy(bytes, data + 1, len < sizeof(bytes) ? len : sizeof(bytes));
    switch (*data++ % 5) {
    case 0:
        fuzz_object(data, len);
        break;
    case 1:
        if (hf_store_note_decode(bytes, &note) == 0) {
            HF_ASSERT(note.kind == HF_STORE_NOTE_DELETED || note.kind == HF_STORE_NOTE_QUARANTINED);
        }
        if (hf_store_notes_count((uint32_t)len, &count) == 0) {
            HF_ASSERT(count * sizeof(struct hf_store_note_disk) == len);
        }
        break;
    case 2:
        if (hf_store_row_decode(data, len, &row) == 0) {
            uint8_t again[sizeof(struct hf_store_row_disk)];

            HF_ASSERT(row.header_bytes >= HF_BLOCK_BYTES);
            hf_store_row_encode(&row, again);
        }
        break;
    case 3:
        (void)hf_store_mark_decode(data, len, &uuid, &seq);
        break;
    default:
        fuzz_text(data, len);
        break;
    }
    return 0;
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static const uint64_t sums[3] = {1, 2, 3};
    const struct hf_store_object o = {
        .oid = {.group = 1, .session = 2, .seq = 3}, .len_bytes = 9000, .sum_count = 3};
    const struct hf_store_note note = {
        .oid = o.oid, .kind = HF_STORE_NOTE_DELETED, .segment = 1, .off_bytes = 8192};
    const struct hf_store_row row = {.kind = HF_STORE_ROW_OBJECT,
                                     .header_bytes = 4096,
                                     .len_bytes = 9,
                                     .segment = 1,
                                     .off_bytes = 8192,
                                     .seq = 1};
    const struct hf_store_identity id = {.node = {7}};

    if (index >= 5 || cap < HF_STORE_IDENTITY_MAX + 1) {
        return 0;
    }
    memset(ret, 0, HF_STORE_IDENTITY_MAX);
    ret[0] = (uint8_t)index;
    switch (index) {
    case 0:
        return 1 + hf_store_object_encode(&o, sums, ret + 1);
    case 1:
        hf_store_note_encode(&note, ret + 1);
        return 1 + sizeof(struct hf_store_note_disk);
    case 2:
        hf_store_row_encode(&row, ret + 1);
        return 1 + sizeof(struct hf_store_row_disk);
    case 3:
        hf_store_mark_encode(&id.store, 5, ret + 1);
        return 1 + sizeof(struct hf_store_mark_disk);
    default:
        return 1 + strlen(hf_store_identity_format(&id, (char *)ret + 1));
    }
}
