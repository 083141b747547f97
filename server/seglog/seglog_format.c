/* SPDX-License-Identifier: Apache-2.0 */
#include "server/seglog/seglog_format.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"

#define CHECKSUM_OFF 8u /* in every header and footer */

enum key_use { KEY_HEADER = 1, KEY_PAYLOAD, KEY_TABLE, KEY_FOOTER };

static uint64_t keyed_seed(const struct hf_segment_key *key, uint64_t off_bytes, enum key_use use)
{
    uint64_t words[4] = {htole64(key->salt), htole64(key->generation), htole64(off_bytes),
                         htole64((uint64_t)use)};

    return hf_hash64(words, sizeof(words), 0);
}

/* Of @len bytes whose checksum field counts as zero. */
static uint64_t page_sum(const uint8_t *page, size_t len_bytes, uint64_t seed)
{
    uint64_t head = hf_hash64(page, CHECKSUM_OFF, seed);

    return hf_hash64(page + CHECKSUM_OFF + 8, len_bytes - CHECKSUM_OFF - 8, head);
}

static void page_seal(uint8_t *page, size_t len_bytes, uint64_t seed)
{
    hf_put_le64(page + CHECKSUM_OFF, page_sum(page, len_bytes, seed));
}

static bool page_sealed(const uint8_t *page, size_t len_bytes, uint64_t seed)
{
    return hf_get_le64(page + CHECKSUM_OFF) == page_sum(page, len_bytes, seed);
}

/* Segment header */

void hf_segment_header_encode(const struct hf_segment_header *header, uint8_t *ret_pages)
{
    memset(ret_pages, 0, 2 * HF_SEGMENT_PAGE_BYTES);
    for (uint16_t copy = 0; copy < 2; copy++) {
        uint8_t *page = ret_pages + (size_t)copy * HF_SEGMENT_PAGE_BYTES;
        struct hf_segment_header_disk d = {
            .magic = htole32(HF_SEGMENT_MAGIC),
            .version = htole16(HF_SEGMENT_VERSION),
            .copy = htole16(copy),
            .number = htole64(header->number),
            .generation = htole64(header->generation),
            .salt = htole64(header->salt),
            .file_bytes = htole64(header->file_bytes),
            .first_seq = htole64(header->first_seq),
            .prev_segment = htole64(header->prev_segment),
            .prev_end = htole64(header->prev_end),
        };

        memcpy(d.identity, header->identity.b, sizeof(d.identity));
        memcpy(page, &d, sizeof(d));
        page_seal(page, HF_SEGMENT_PAGE_BYTES, 0);
    }
}

int hf_segment_header_decode(const uint8_t *page, struct hf_segment_header *ret)
{
    struct hf_segment_header_disk d;
    struct hf_segment_header h;

    memcpy(&d, page, sizeof(d));
    if (le32toh(d.magic) != HF_SEGMENT_MAGIC || le16toh(d.version) != HF_SEGMENT_VERSION ||
        le16toh(d.copy) > 1 || !page_sealed(page, HF_SEGMENT_PAGE_BYTES, 0)) {
        return -EBADMSG;
    }
    h = (struct hf_segment_header){
        .number = le64toh(d.number),
        .generation = le64toh(d.generation),
        .salt = le64toh(d.salt),
        .file_bytes = le64toh(d.file_bytes),
        .first_seq = le64toh(d.first_seq),
        .prev_segment = le64toh(d.prev_segment),
        .prev_end = le64toh(d.prev_end),
    };
    memcpy(h.identity.b, d.identity, sizeof(d.identity));
    if (h.file_bytes < HF_SEGMENT_BYTES_MIN || h.file_bytes > HF_SEGMENT_BYTES_MAX ||
        h.file_bytes % HF_SEGMENT_PAGE_BYTES != 0 || h.first_seq == 0 || h.number == 0 ||
        h.prev_segment >= h.number || h.prev_end % HF_SEGMENT_PAGE_BYTES != 0) {
        return -EBADMSG;
    }
    *ret = h;
    return 0;
}

/* Record header */

void hf_record_header_encode(const struct hf_segment_key *key, uint64_t off_bytes,
                             const struct hf_record_header *header, const void *meta,
                             uint8_t *ret_pages)
{
    size_t len = hf_record_header_bytes(header->meta_len_bytes);
    struct hf_record_header_disk d = {
        .magic = htole32(HF_RECORD_MAGIC),
        .version = htole16(HF_RECORD_VERSION),
        .type = header->type,
        .flags = header->flags,
        .seq = htole64(header->seq),
        .synced_seq = htole64(header->synced_seq),
        .payload_len_bytes = htole32(header->payload_len_bytes),
        .meta_len_bytes = htole32(header->meta_len_bytes),
        .payload_sum = htole64(header->payload_sum),
    };

    HF_ASSERT(header->meta_len_bytes <= HF_RECORD_META_MAX);
    memcpy(ret_pages, &d, sizeof(d));
    if (header->meta_len_bytes) {
        memcpy(ret_pages + sizeof(d), meta, header->meta_len_bytes);
    }
    memset(ret_pages + sizeof(d) + header->meta_len_bytes, 0,
           len - sizeof(d) - header->meta_len_bytes);
    page_seal(ret_pages, len, keyed_seed(key, off_bytes, KEY_HEADER));
}

int hf_record_header_decode(const struct hf_segment_key *key, uint64_t off_bytes,
                            uint64_t file_bytes, const uint8_t *pages, size_t len_bytes,
                            struct hf_record_header *ret, size_t *ret_need)
{
    struct hf_record_header_disk d;
    struct hf_record_header h;
    size_t header_bytes;

    if (len_bytes < sizeof(d)) {
        return -EBADMSG;
    }
    memcpy(&d, pages, sizeof(d));
    h = (struct hf_record_header){
        .seq = le64toh(d.seq),
        .synced_seq = le64toh(d.synced_seq),
        .payload_sum = le64toh(d.payload_sum),
        .payload_len_bytes = le32toh(d.payload_len_bytes),
        .meta_len_bytes = le32toh(d.meta_len_bytes),
        .type = d.type,
        .flags = d.flags,
        .meta = pages + sizeof(d),
    };
    if (le32toh(d.magic) != HF_RECORD_MAGIC || le16toh(d.version) != HF_RECORD_VERSION ||
        h.type == 0 || (h.flags & ~HF_RECORD_SUMMED) != 0 || h.seq == 0 || h.synced_seq >= h.seq ||
        h.meta_len_bytes > HF_RECORD_META_MAX) {
        return -EBADMSG;
    }
    header_bytes = hf_record_header_bytes(h.meta_len_bytes);
    if (off_bytes > file_bytes || header_bytes > file_bytes - off_bytes ||
        hf_segment_pages_up(h.payload_len_bytes) > file_bytes - off_bytes - header_bytes) {
        return -EBADMSG;
    }
    if (len_bytes < header_bytes) {
        *ret_need = header_bytes;
        return -ERANGE;
    }
    if (!page_sealed(pages, header_bytes, keyed_seed(key, off_bytes, KEY_HEADER))) {
        return -EBADMSG;
    }
    *ret = h;
    return 0;
}

uint64_t hf_record_payload_begin(const struct hf_segment_key *key, uint64_t off_bytes)
{
    return keyed_seed(key, off_bytes, KEY_PAYLOAD);
}

uint64_t hf_record_payload_add(uint64_t sum, const void *data, size_t len_bytes)
{
    const uint8_t *p = data;

    while (len_bytes > 0) {
        size_t n = len_bytes < HF_SEGMENT_PAGE_BYTES ? len_bytes : HF_SEGMENT_PAGE_BYTES;

        sum = hf_hash64(p, n, sum);
        p += n;
        len_bytes -= n;
    }
    return sum;
}

/* Table and footer */

void hf_table_entry_encode(const struct hf_table_entry *entry, uint8_t *ret)
{
    struct hf_table_entry_disk d = {
        .off_pages = htole32((uint32_t)(entry->off_bytes / HF_SEGMENT_PAGE_BYTES)),
        .header_pages = (uint8_t)(entry->header_bytes / HF_SEGMENT_PAGE_BYTES),
        .type = entry->type,
        .flags = entry->flags,
        .seq = htole64(entry->seq),
        .payload_len_bytes = htole32(entry->payload_len_bytes),
        .meta_len_bytes = htole32(entry->meta_len_bytes),
    };

    memcpy(d.brief, entry->brief, sizeof(d.brief));
    memcpy(ret, &d, sizeof(d));
}

int hf_table_entry_decode(const uint8_t *bytes, uint64_t end_bytes, struct hf_table_entry *ret)
{
    struct hf_table_entry_disk d;
    struct hf_table_entry e;

    memcpy(&d, bytes, sizeof(d));
    e = (struct hf_table_entry){
        .off_bytes = (uint64_t)le32toh(d.off_pages) * HF_SEGMENT_PAGE_BYTES,
        .seq = le64toh(d.seq),
        .header_bytes = (uint32_t)d.header_pages * HF_SEGMENT_PAGE_BYTES,
        .payload_len_bytes = le32toh(d.payload_len_bytes),
        .meta_len_bytes = le32toh(d.meta_len_bytes),
        .type = d.type,
        .flags = d.flags,
    };
    memcpy(e.brief, d.brief, sizeof(d.brief));
    if (e.off_bytes < HF_SEGMENT_FIRST_OFF || e.type == 0 || e.seq == 0 ||
        (e.flags & ~HF_RECORD_SUMMED) != 0 || e.meta_len_bytes > HF_RECORD_META_MAX ||
        e.header_bytes != hf_record_header_bytes(e.meta_len_bytes) || e.off_bytes > end_bytes ||
        e.header_bytes > end_bytes - e.off_bytes ||
        hf_segment_pages_up(e.payload_len_bytes) > end_bytes - e.off_bytes - e.header_bytes) {
        return -EBADMSG;
    }
    *ret = e;
    return 0;
}

static uint64_t table_sum(const struct hf_segment_key *key, const struct hf_footer *footer,
                          const uint8_t *table)
{
    return hf_hash64(table, (size_t)footer->count * sizeof(struct hf_table_entry_disk),
                     keyed_seed(key, footer->table_off, KEY_TABLE));
}

void hf_footer_encode(const struct hf_segment_key *key, struct hf_footer *footer,
                      const uint8_t *table, uint8_t *ret_page)
{
    uint64_t page_off =
        footer->table_off + hf_segment_table_bytes(footer->count) - HF_SEGMENT_PAGE_BYTES;
    struct hf_footer_disk d;

    footer->table_sum = table_sum(key, footer, table);
    d = (struct hf_footer_disk){
        .magic = htole32(HF_FOOTER_MAGIC),
        .version = htole16(HF_FOOTER_VERSION),
        .table_off = htole64(footer->table_off),
        .table_sum = htole64(footer->table_sum),
        .end_bytes = htole64(footer->end_bytes),
        .first_seq = htole64(footer->first_seq),
        .last_seq = htole64(footer->last_seq),
        .count = htole32(footer->count),
        .entry_bytes = htole32(sizeof(struct hf_table_entry_disk)),
    };
    memset(ret_page, 0, HF_SEGMENT_PAGE_BYTES);
    memcpy(ret_page, &d, sizeof(d));
    page_seal(ret_page, HF_SEGMENT_PAGE_BYTES, keyed_seed(key, page_off, KEY_FOOTER));
}

int hf_footer_decode(const struct hf_segment_key *key, uint64_t file_bytes, const uint8_t *page,
                     struct hf_footer *ret)
{
    uint64_t page_off = file_bytes - HF_SEGMENT_PAGE_BYTES;
    struct hf_footer_disk d;
    struct hf_footer f;

    memcpy(&d, page, sizeof(d));
    if (le32toh(d.magic) != HF_FOOTER_MAGIC || le16toh(d.version) != HF_FOOTER_VERSION ||
        le32toh(d.entry_bytes) != sizeof(struct hf_table_entry_disk) ||
        !page_sealed(page, HF_SEGMENT_PAGE_BYTES, keyed_seed(key, page_off, KEY_FOOTER))) {
        return -EBADMSG;
    }
    f = (struct hf_footer){
        .table_off = le64toh(d.table_off),
        .table_sum = le64toh(d.table_sum),
        .end_bytes = le64toh(d.end_bytes),
        .first_seq = le64toh(d.first_seq),
        .last_seq = le64toh(d.last_seq),
        .count = le32toh(d.count),
    };
    if (f.first_seq == 0 || f.last_seq < f.first_seq - 1 || f.last_seq == UINT64_MAX ||
        f.count > f.last_seq - (f.first_seq - 1) || f.end_bytes % HF_SEGMENT_PAGE_BYTES != 0 ||
        f.end_bytes < HF_SEGMENT_FIRST_OFF || f.end_bytes > file_bytes ||
        hf_segment_table_bytes(f.count) > file_bytes - f.end_bytes ||
        f.table_off != file_bytes - hf_segment_table_bytes(f.count)) {
        return -EBADMSG;
    }
    *ret = f;
    return 0;
}

int hf_footer_check_table(const struct hf_segment_key *key, const struct hf_footer *footer,
                          const uint8_t *table)
{
    return table_sum(key, footer, table) == footer->table_sum ? 0 : -EBADMSG;
}
