/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoders of a segment file's pages. Input: byte 0 chooses (bits 0-1: segment header, record
 * header, footer, table entry; bit 2: repair the checksum, so that mutations get behind it), then
 * the page or pages.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "server/seglog/seglog_format.h"
#include "tests/fuzz/fuzz.h"

#define PAGE       HF_SEGMENT_PAGE_BYTES
#define FILE_BYTES (1u << 20)
#define OFF        65536u

static const struct hf_segment_key key = {.salt = 0x1122334455667788, .generation = 3};

static uint64_t keyed(uint64_t off, uint64_t use)
{
    uint64_t words[4] = {htole64(key.salt), htole64(key.generation), htole64(off), htole64(use)};

    return hf_hash64(words, sizeof(words), 0);
}

static void repair(uint8_t *page, size_t len, uint64_t seed)
{
    hf_put_le64(page + 8, hf_hash64(page + 16, len - 16, hf_hash64(page, 8, seed)));
}

static void fuzz_segment_header(uint8_t *page, int mend)
{
    struct hf_segment_header h;

    if (mend) {
        repair(page, PAGE, 0);
    }
    if (hf_segment_header_decode(page, &h) == 0) {
        uint8_t again[2 * PAGE];
        struct hf_segment_header back;

        hf_segment_header_encode(&h, again);
        HF_ASSERT(hf_segment_header_decode(again, &back) == 0 && back.salt == h.salt);
        HF_ASSERT(h.prev_segment < h.number && h.file_bytes % PAGE == 0);
    }
}

static void fuzz_record_header(uint8_t *pages, size_t len, int mend)
{
    struct hf_record_header h;
    size_t need = 0;
    int err = hf_record_header_decode(&key, OFF, FILE_BYTES, pages, len, &h, &need);

    if (err == -EBADMSG && mend) {
        for (size_t n = PAGE; n <= len; n += PAGE) {
            repair(pages, n, keyed(OFF, 1));
            err = hf_record_header_decode(&key, OFF, FILE_BYTES, pages, n, &h, &need);
            if (err == 0) {
                break;
            }
        }
    }
    HF_ASSERT(err == 0 || err == -EBADMSG || (err == -ERANGE && need > 0));
    if (err == 0) {
        HF_ASSERT(h.meta_len_bytes <= HF_RECORD_META_MAX && h.synced_seq < h.seq);
        HF_ASSERT(OFF + hf_record_header_bytes(h.meta_len_bytes) +
                      hf_segment_pages_up(h.payload_len_bytes) <=
                  FILE_BYTES);
        HF_ASSERT(h.meta + h.meta_len_bytes <= pages + len);
    }
}

static void fuzz_footer(uint8_t *page, int mend)
{
    struct hf_footer f;

    if (mend) {
        repair(page, PAGE, keyed(FILE_BYTES - PAGE, 4));
    }
    if (hf_footer_decode(&key, FILE_BYTES, page, &f) == 0) {
        HF_ASSERT(f.table_off + hf_segment_table_bytes(f.count) == FILE_BYTES);
        HF_ASSERT(f.end_bytes <= f.table_off && f.last_seq + 1 >= f.first_seq);
    }
}

static void fuzz_entry(const uint8_t *bytes)
{
    struct hf_table_entry e;

    if (hf_table_entry_decode(bytes, FILE_BYTES / 2, &e) == 0) {
        HF_ASSERT(e.off_bytes + e.header_bytes + e.payload_len_bytes <= FILE_BYTES / 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t pages[3 * PAGE];
    int mend;

    if (len == 0) {
        return 0;
    }
    mend = data[0] & 4;
    memset(pages, 0, sizeof(pages));
    memcpy(pages, data + 1, len - 1 < sizeof(pages) ? len - 1 : sizeof(pages));
    switch (data[0] & 3) {
    case 0:
        fuzz_segment_header(pages, mend);
        break;
    case 1:
        fuzz_record_header(pages, sizeof(pages), mend);
        fuzz_record_header(pages, PAGE, mend);
        break;
    case 2:
        fuzz_footer(pages, mend);
        break;
    default:
        fuzz_entry(pages);
        break;
    }
    return 0;
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static uint8_t meta[5000];
    struct hf_segment_header sh = {.number = 5,
                                   .generation = 3,
                                   .salt = 9,
                                   .file_bytes = FILE_BYTES,
                                   .first_seq = 7,
                                   .prev_segment = 4,
                                   .prev_end = 8192};
    struct hf_record_header rh = {.seq = 9, .synced_seq = 8, .payload_len_bytes = 5000, .type = 1};
    struct hf_table_entry e = {.off_bytes = 8192,
                               .seq = 9,
                               .header_bytes = 4096,
                               .payload_len_bytes = 5000,
                               .meta_len_bytes = 70,
                               .type = 1};
    struct hf_footer f = {.end_bytes = 65536, .first_seq = 7, .last_seq = 9, .count = 3};

    if (index >= 8 || cap < 1 + 3 * PAGE) {
        return 0;
    }
    memset(ret, 0, 1 + 3 * PAGE);
    ret[0] = (uint8_t)(index & 3) | (index & 4);
    switch (index & 3) {
    case 0:
        hf_segment_header_encode(&sh, ret + 1);
        return 1 + PAGE;
    case 1:
        rh.meta_len_bytes = index & 4 ? sizeof(meta) : 64;
        hf_record_header_encode(&key, OFF, &rh, meta, ret + 1);
        return 1 + hf_record_header_bytes(rh.meta_len_bytes);
    case 2:
        f.table_off = FILE_BYTES - hf_segment_table_bytes(f.count);
        hf_footer_encode(&key, &f, meta, ret + 1);
        return 1 + PAGE;
    default:
        hf_table_entry_encode(&e, ret + 1);
        return 1 + sizeof(struct hf_table_entry_disk);
    }
}
