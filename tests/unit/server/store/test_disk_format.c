/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes on disk are fixed: tests/golden/disk.hex holds one line a structure, "name hex". When a
 * format changes on purpose: HF_GOLDEN=write runs this and prints the new lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/seglog/seglog_format.h"
#include "server/store/store.h"
#include "server/store/store_format.h"

#define GOLDEN     HF_SOURCE_DIR "/tests/golden/disk.hex"
#define PAGE       HF_SEGMENT_PAGE_BYTES
#define FILE_BYTES (1u << 20)

static const struct hf_segment_key key = {.salt = 0x8877665544332211, .generation = 12};

static const struct hf_segment_header segment = {
    .number = 7,
    .generation = 12,
    .salt = 0x8877665544332211,
    .identity = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .file_bytes = FILE_BYTES,
    .first_seq = 100,
    .prev_segment = 6,
    .prev_end = 0x4000,
};

static const struct hf_record_header record = {
    .seq = 101,
    .synced_seq = 99,
    .payload_sum = 0x0102030405060708,
    .payload_len_bytes = 9000,
    .meta_len_bytes = 8,
    .type = 1,
    .flags = HF_RECORD_SUMMED,
};

static const struct hf_table_entry entry = {
    .off_bytes = 8192,
    .seq = 101,
    .header_bytes = 4096,
    .payload_len_bytes = 9000,
    .meta_len_bytes = 70,
    .type = 1,
    .flags = HF_RECORD_SUMMED,
    .brief = {0xaa, 0xbb, 0xcc},
};

static const struct hf_store_object object = {
    .oid = {.group = 0x0102, .session = 0x1122334455667788, .seq = 0xa1a2a3a4a5a6},
    .len_bytes = 5000,
    .digest = 0x1020304050607080,
    .origin = 6,
    .sum_count = 2,
};

static const struct hf_store_note note = {
    .oid = {.group = 0x0102, .session = 0x1122334455667788, .seq = 0xa1a2a3a4a5a6},
    .kind = HF_STORE_NOTE_QUARANTINED,
    .segment = 6,
    .off_bytes = 0x20000,
};

static const struct hf_store_row row = {
    .kind = HF_STORE_ROW_OBJECT,
    .flags = HF_STORE_ROW_QUARANTINED,
    .header_bytes = 8192,
    .len_bytes = 5000,
    .digest = 0x1020304050607080,
    .segment = 7,
    .off_bytes = 0x20000,
    .seq = 101,
    .ref = 6,
};

static const struct hf_store_identity identity = {
    .cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .store = {{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
    .node = {3},
};

static size_t encode_segment_header(uint8_t *ret)
{
    hf_segment_header_encode(&segment, ret);
    return sizeof(struct hf_segment_header_disk);
}

static size_t encode_record_header(uint8_t *ret)
{
    hf_record_header_encode(&key, 65536, &record, "metadata", ret);
    return sizeof(struct hf_record_header_disk) + 8;
}

static size_t encode_table_entry(uint8_t *ret)
{
    hf_table_entry_encode(&entry, ret);
    return sizeof(struct hf_table_entry_disk);
}

static size_t encode_footer(uint8_t *ret)
{
    struct hf_footer f = {.end_bytes = 65536, .first_seq = 100, .last_seq = 101, .count = 1};
    uint8_t table[sizeof(struct hf_table_entry_disk)];

    f.table_off = FILE_BYTES - hf_segment_table_bytes(1);
    hf_table_entry_encode(&entry, table);
    hf_footer_encode(&key, &f, table, ret);
    return sizeof(struct hf_footer_disk);
}

static size_t encode_payload_sum(uint8_t *ret)
{
    uint8_t payload[5000];
    uint64_t sum;

    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 7);
    }
    sum = hf_record_payload_add(hf_record_payload_begin(&key, 65536), payload, sizeof(payload));
    memcpy(ret, &sum, sizeof(sum));
    return sizeof(sum);
}

static size_t encode_object(uint8_t *ret)
{
    static const uint64_t sums[2] = {0x0807060504030201, 0x1817161514131211};

    return hf_store_object_encode(&object, sums, ret);
}

static size_t encode_note(uint8_t *ret)
{
    hf_store_note_encode(&note, ret);
    return sizeof(struct hf_store_note_disk);
}

static size_t encode_row(uint8_t *ret)
{
    hf_store_row_encode(&row, ret);
    return sizeof(struct hf_store_row_disk);
}

static size_t encode_mark(uint8_t *ret)
{
    hf_store_mark_encode(&identity.store, 101, ret);
    return sizeof(struct hf_store_mark_disk);
}

static size_t encode_identity(uint8_t *ret)
{
    return strlen(hf_store_identity_format(&identity, (char *)ret));
}

static const struct {
    const char *name;
    size_t (*encode)(uint8_t *ret);
} structures[] = {
    {"segment_header", encode_segment_header},
    {"record_header", encode_record_header},
    {"table_entry", encode_table_entry},
    {"footer", encode_footer},
    {"payload_sum", encode_payload_sum},
    {"object", encode_object},
    {"note", encode_note},
    {"row", encode_row},
    {"mark", encode_mark},
    {"identity", encode_identity},
};

#define STRUCTURES (sizeof(structures) / sizeof(structures[0]))

static void the_bytes_are_as_they_always_were(void **state)
{
    FILE *f = fopen(GOLDEN, "r");
    bool print = getenv("HF_GOLDEN") != NULL;

    (void)state;
    if (!print) {
        assert_non_null(f);
    }
    for (size_t i = 0; i < STRUCTURES; i++) {
        static uint8_t bytes[3 * PAGE];
        char line[2048];
        char want[2048] = "";
        size_t len = structures[i].encode(bytes);
        int at = snprintf(line, sizeof(line), "%s ", structures[i].name);

        for (size_t k = 0; k < len; k++) {
            at += snprintf(line + at, sizeof(line) - (size_t)at, "%02x", bytes[k]);
        }
        if (print) {
            (void)fprintf(stderr, "%s\n", line);
            continue;
        }
        assert_non_null(fgets(want, sizeof(want), f));
        want[strcspn(want, "\n")] = '\0';
        assert_string_equal(line, want);
    }
    if (f) {
        (void)fclose(f);
    }
}

static void what_was_written_is_read_back(void **state)
{
    static uint8_t pages[3 * PAGE];
    struct hf_segment_header sh;
    struct hf_record_header rh;
    struct hf_table_entry te;
    struct hf_store_object o;
    struct hf_store_note n;
    struct hf_store_row r;
    struct hf_store_identity id;
    uint64_t sums[HF_OBJECT_BLOCKS_MAX];
    size_t need;
    size_t len;

    (void)state;
    (void)encode_segment_header(pages);
    assert_int_equal(hf_segment_header_decode(pages + PAGE, &sh), 0);
    assert_true(sh.number == 7 && sh.salt == segment.salt && sh.first_seq == 100);
    assert_true(hf_uuid_equal(&sh.identity, &segment.identity) && sh.prev_end == 0x4000);
    (void)encode_record_header(pages);
    assert_int_equal(hf_record_header_decode(&key, 65536, FILE_BYTES, pages, PAGE, &rh, &need), 0);
    assert_int_equal(rh.seq, record.seq);
    assert_memory_equal(rh.meta, "metadata", 8);
    (void)encode_table_entry(pages);
    assert_int_equal(hf_table_entry_decode(pages, FILE_BYTES, &te), 0);
    assert_int_equal(te.payload_len_bytes, 9000);
    len = encode_object(pages);
    assert_int_equal(hf_store_object_decode(pages, len, (uint32_t)len, 5000, &o, sums), 0);
    assert_true(hf_oid_equal(&o.oid, &object.oid) && o.digest == object.digest);
    assert_true(o.origin == 6 && o.sum_count == 2 && sums[1] == 0x1817161514131211);
    (void)encode_note(pages);
    assert_int_equal(hf_store_note_decode(pages, &n), 0);
    assert_int_equal(n.off_bytes, note.off_bytes);
    (void)encode_row(pages);
    assert_int_equal(hf_store_row_decode(pages, sizeof(struct hf_store_row_disk), &r), 0);
    assert_int_equal(r.ref, 6);
    (void)encode_identity(pages);
    pages[encode_identity(pages)] = 0;
    assert_int_equal(hf_store_identity_parse((char *)pages, &id), 0);
    assert_memory_equal(&id, &identity, sizeof(id));
}

static void a_record_is_valid_at_its_place_in_its_life_only(void **state)
{
    static uint8_t pages[3 * PAGE];
    struct hf_segment_key other = key;
    struct hf_record_header h;
    size_t need;

    (void)state;
    (void)encode_record_header(pages);
    assert_int_equal(
        hf_record_header_decode(&key, 65536 + PAGE, FILE_BYTES, pages, PAGE, &h, &need), -EBADMSG);
    other.generation++;
    assert_int_equal(hf_record_header_decode(&other, 65536, FILE_BYTES, pages, PAGE, &h, &need),
                     -EBADMSG);
    other = key;
    other.salt++;
    assert_int_equal(hf_record_header_decode(&other, 65536, FILE_BYTES, pages, PAGE, &h, &need),
                     -EBADMSG);
    assert_int_equal(hf_record_header_decode(&key, 65536, 65536 + PAGE, pages, PAGE, &h, &need),
                     -EBADMSG);
    pages[PAGE - 1] ^= 1; /* the padding counts, too */
    assert_int_equal(hf_record_header_decode(&key, 65536, FILE_BYTES, pages, PAGE, &h, &need),
                     -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_as_they_always_were),
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(a_record_is_valid_at_its_place_in_its_life_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
