/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoders of a snapshot: byte 0 even: a tail, its checksum repaired, as that of a file of any
 * length; odd: a model's body. (What checksums guard is not opened without them: LMDB's pages.)
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "common/table/model_snapshot.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_tail(const uint8_t *data, size_t len)
{
    uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES] = {0}, again[HF_SNAPSHOT_TAIL_BYTES];
    struct hf_snapshot_tail tail;

    memcpy(bytes, data, len < sizeof(bytes) ? len : sizeof(bytes));
    hf_put_le64(bytes, hf_hash64(bytes + 8, sizeof(bytes) - 8, HF_SNAPSHOT_TAIL_SEED));
    if (hf_snapshot_tail_decode(bytes, 4096 + sizeof(bytes), &tail) == 0) {
        HF_ASSERT(tail.body_bytes == 4096);
        hf_snapshot_tail_encode(&tail, again);
        HF_ASSERT(memcmp(bytes, again, sizeof(bytes)) == 0);
    }
}

static void fuzz_body(const uint8_t *data, size_t len)
{
    struct hf_memtable *rows = hf_memtable_new(NULL, 0);
    struct hf_table_snapshot sum;
    atomic_bool never = false;

    HF_ASSERT(rows);
    if (hf_model_body_decode(data, len, &never, &sum, rows) == 0) {
        struct hf_table_base_mark mark = {.len = sum.mark_len, .digest = sum.digest};
        struct hf_table_snapshot back;
        uint8_t *body;
        size_t body_len;

        HF_ASSERT(hf_memtable_count(rows) == sum.rows);
        memcpy(mark.bytes, sum.mark, sum.mark_len);
        HF_ASSERT(hf_model_body_encode(rows, &mark, &never, &back, &body, &body_len) == 0);
        HF_ASSERT(body_len == len && memcmp(body, data, len) == 0);
        free(body);
    }
    hf_memtable_free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len && data[0] % 2) {
        fuzz_body(data + 1, len - 1);
    } else if (len) {
        fuzz_tail(data + 1, len - 1);
    }
    return 0;
}

static void write_row(struct hf_writer *w, const char *key, const char *value, uint64_t *digest)
{
    size_t key_len = strlen(key), value_len = strlen(value);
    uint64_t hash = hf_memrow_hash(hf_memrow_key_hash(key, key_len), value, value_len);

    hf_write_le64(w, hash);
    hf_write_le32(w, (uint32_t)value_len);
    hf_write_le32(w, (uint32_t)key_len);
    hf_write_bytes(w, key, key_len);
    hf_write_bytes(w, value, value_len);
    *digest += hash;
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    const struct hf_snapshot_tail tail = {
        .kind = HF_SNAPSHOT_LMDB, .body_bytes = 4096, .rows = 7, .digest = 9};
    struct hf_writer w = hf_writer_init(ret, cap);
    uint64_t digest = 0;

    if (index > 1 || cap < 256) {
        return 0;
    }
    hf_write_u8(&w, (uint8_t)index);
    if (index == 0) {
        hf_snapshot_tail_encode(&tail, w.at);
        return 1 + HF_SNAPSHOT_TAIL_BYTES;
    }
    hf_write_le64(&w, 0);
    hf_write_le32(&w, 4);
    hf_write_le32(&w, 0);
    hf_write_bytes(&w, "mark", 4);
    write_row(&w, "a", "1", &digest);
    write_row(&w, "b", "", &digest);
    write_row(&w, "bc", "value", &digest);
    hf_put_le64(ret + 1, digest);
    return (size_t)(w.at - ret);
}
