/* SPDX-License-Identifier: Apache-2.0 */
/* Every decoder of a message or of bulk records, chosen by the first byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/wire_types.h"

static void fuzz_extents(const uint8_t *data, size_t len)
{
    struct hf_extent *extents;
    const uint8_t *in;
    size_t in_len, sum = 0;
    uint32_t count;

    if (hf_extents_decode(data, len, &extents, &count, &in, &in_len) == 0) {
        for (uint32_t i = 0; i < count; i++) {
            if (extents[i].oid.session == 0) { /* inline: the bytes are there */
                for (uint32_t k = 0; k < extents[i].len_bytes; k++) {
                    sum += in[extents[i].pos_bytes + k];
                }
            }
        }
        HF_ASSERT(sum <= len * 255 * (count + 1));
        free(extents);
    }
}

static void fuzz_entries(const uint8_t *data, size_t len)
{
    struct hf_reader r = hf_reader_init(data, len);
    struct hf_dirent e;
    int err;

    while ((err = hf_dirent_decode(&r, &e)) == 0) {
        HF_ASSERT(e.name_len > 0 && e.name_len <= HF_NAME_MAX && !memchr(e.name, 0, e.name_len));
    }
    HF_ASSERT(err == -ENOENT || err == -EBADMSG);
}

/* What a decoder takes, its encoder gives back, and that decodes to the same. */
static void fuzz_message(const struct wire_type *type, const uint8_t *data, size_t len)
{
    static uint8_t once[HF_RPC_MSG_MAX], twice[HF_RPC_MSG_MAX];
    size_t once_len, twice_len;
    int err = type->recode(data, len, once, &once_len);

    HF_ASSERT(err == 0 || err == -EBADMSG);
    if (err == 0) {
        HF_ASSERT(type->recode(once, once_len, twice, &twice_len) == 0);
        HF_ASSERT(once_len == twice_len && memcmp(once, twice, once_len) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t which;

    if (len == 0) {
        return 0;
    }
    which = data[0] % (WIRE_TYPE_COUNT + 2);
    if (which < WIRE_TYPE_COUNT) {
        fuzz_message(&wire_types[which], data + 1, len - 1);
    } else if (which == WIRE_TYPE_COUNT) {
        fuzz_extents(data + 1, len - 1);
    } else {
        fuzz_entries(data + 1, len - 1);
    }
    return 0;
}

static size_t golden_seed(size_t index, uint8_t *ret, size_t cap)
{
    static char line[8192];
    FILE *f = fopen(HF_SOURCE_DIR "/tests/golden/wire.hex", "r");
    const char *hex;
    size_t len = 1;

    HF_ASSERT(f != NULL);
    for (size_t i = 0; i <= index; i++) {
        HF_ASSERT(fgets(line, sizeof(line), f) != NULL);
    }
    (void)fclose(f);
    hex = strchr(line, ' ');
    HF_ASSERT(hex != NULL);
    ret[0] = (uint8_t)index;
    for (unsigned byte; len < cap && sscanf(++hex, "%2x", &byte) == 1; hex++) {
        ret[len++] = (uint8_t)byte;
    }
    return len;
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    struct hf_writer w = hf_writer_init(ret + 1, cap - 1);

    ret[0] = (uint8_t)index;
    if (index < WIRE_TYPE_COUNT) {
        return golden_seed(index, ret, cap);
    }
    if (index == WIRE_TYPE_COUNT) {
        hf_write_le32(&w, 2);
        hf_write_le32(&w, 5);
        hf_extent_encode(&(struct hf_extent){4096, 10, 7, {5, 6, 1}}, hf_write_room(&w, 32));
        hf_extent_encode(&(struct hf_extent){8192, 5, 0, {0, 0, 0}}, hf_write_room(&w, 32));
        hf_write_bytes(&w, "hello", 5);
        return (size_t)(w.at - ret);
    }
    if (index == WIRE_TYPE_COUNT + 1) {
        struct hf_dirent e = {.cookie = 1, .ino = {2}, .name = "entry", .name_len = 5};

        hf_dirent_encode(&w, &e);
        e.has_attr = true;
        hf_dirent_encode(&w, &e);
        return (size_t)(w.at - ret);
    }
    return 0;
}
