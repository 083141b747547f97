/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a node's log and vote. Input: byte 0 chooses (bit 0: log or vote; the others: how
 * many of the bytes are the payload, in 128ths), then the bytes. What is taken has one form.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "server/raft/disk_format.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_hard(const uint8_t *data, size_t len)
{
    uint8_t again[RAFT_HARD_BYTES_MAX];
    struct raft_hard hard;

    if (raft_hard_decode(data, len, &hard) == 0) {
        HF_ASSERT(raft_hard_encode(&hard, again) == len && memcmp(again, data, len) == 0);
    }
}

struct walk {
    uint64_t next, bytes;
};

static int entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t len)
{
    struct walk *walk = ctx;
    struct hf_raft_entry e;
    size_t used;

    HF_ASSERT(index == walk->next++ && index <= HF_RAFT_NUMBER_MAX);
    HF_ASSERT(hf_raft_entry_decode(bytes, len, index, &e, &used) == 0 && used == len);
    walk->bytes += len;
    return 0;
}

static void fuzz_log(const uint8_t *data, size_t len, size_t payload_len)
{
    uint8_t again[RAFT_LOG_HEAD_BYTES];
    const size_t meta_len = len - payload_len;
    struct raft_log_head head;
    struct walk walk = {0};

    if (raft_log_record_decode(data, meta_len, data + meta_len, payload_len, &head, NULL, NULL)) {
        return;
    }
    walk.next = head.first_index;
    HF_ASSERT(raft_log_record_decode(data, meta_len, data + meta_len, payload_len, &head, entry,
                                     &walk) == 0);
    HF_ASSERT(walk.next == head.first_index + head.count && walk.bytes == head.bytes);
    raft_log_head_encode(&head, again);
    HF_ASSERT(memcmp(again, data, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    if (data[0] & 1) {
        fuzz_hard(data + 1, len - 1);
    } else {
        fuzz_log(data + 1, len - 1, (len - 1) * (data[0] >> 1) / 128);
    }
    return 0;
}

/* One a line of the golden file. */
size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    char line[2100];
    FILE *f = fopen(HF_SOURCE_DIR "/tests/golden/raft_disk.hex", "r");
    bool more = true;
    const char *hex;
    size_t len = 1;

    HF_ASSERT(f != NULL);
    for (size_t i = 0; i <= index && more; i++) {
        more = fgets(line, sizeof(line), f) != NULL;
    }
    (void)fclose(f);
    hex = more ? strchr(line, ' ') : NULL;
    if (!hex) {
        return 0;
    }
    ret[0] = strncmp(line, "hard", 4) == 0;
    for (hex++; len < cap && hex[0] && hex[0] != '\n'; hex += 2) {
        const char byte[3] = {hex[0], hex[1], '\0'};

        ret[len++] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return len;
}
