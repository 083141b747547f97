/* SPDX-License-Identifier: Apache-2.0 */
/* A record of the metadata log: meta bytes, and after a length of two bytes the payload. */
#include <string.h>

#include "common/base/assert.h"
#include "server/meta/journal_format.h"
#include "tests/fuzz/fuzz.h"

struct seen {
    uint64_t last;
    size_t bytes;
};

static int see(void *ctx, const struct hf_journal_item *item)
{
    struct seen *seen = ctx;

    HF_ASSERT(item->msg_len > 0 && item->msg_len <= HF_RPC_MSG_MAX);
    HF_ASSERT(seen->last == 0 || item->index == seen->last + 1);
    seen->last = item->index;
    for (uint32_t i = 0; i < item->msg_len; i++) {
        seen->bytes += 1 + (item->msg[i] & 0u); /* every byte is there to be read */
    }
    for (uint32_t i = 0; i < item->bulk_len; i++) {
        seen->bytes += 1 + (item->bulk[i] & 0u);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct seen seen = {0};
    size_t meta_len;

    if (len < 2) {
        return 0;
    }
    meta_len = hf_get_le16(data);
    meta_len = meta_len < len - 2 ? meta_len : len - 2;
    if (hf_journal_record_decode(data + 2, meta_len, data + 2 + meta_len, len - 2 - meta_len, see,
                                 &seen) == 0) {
        HF_ASSERT(seen.bytes <= len);
    }
    return 0;
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    struct hf_journal_head head = {
        .version = HF_JOURNAL_RECORD_VERSION, .first_index = 7, .count = 2, .term = 1};
    struct hf_journal_item item = {.index = 7,
                                   .term = 1,
                                   .time_ns = 99,
                                   .msg = (const uint8_t *)"message",
                                   .bulk = (const uint8_t *)"bulk",
                                   .msg_len = 7,
                                   .bulk_len = 4};
    struct hf_writer w;

    if (index > 1 || cap < 512) {
        return 0;
    }
    w = hf_writer_init(ret + 2 + HF_JOURNAL_HEAD_BYTES, cap - 2 - HF_JOURNAL_HEAD_BYTES);
    hf_journal_item_encode(&w, &item);
    item.index++;
    item.bulk_len = 0;
    hf_journal_item_encode(&w, &item);
    head.bytes = (uint32_t)(w.at - (ret + 2 + HF_JOURNAL_HEAD_BYTES));
    head.flags = index == 0 ? HF_JOURNAL_IN_META : 0;
    hf_journal_head_encode(&head, ret + 2);
    hf_put_le16(ret, (uint16_t)(HF_JOURNAL_HEAD_BYTES + (index == 0 ? head.bytes : 0)));
    return (size_t)(w.at - ret);
}
