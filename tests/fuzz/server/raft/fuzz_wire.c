/* SPDX-License-Identifier: Apache-2.0 */
/* Every decoder of what Raft nodes send and keep, chosen by the first byte. */
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/raft_types.h"

/* What a decoder takes, its encoder gives back, and that decodes to the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t once[RAFT_BYTES_MAX], twice[RAFT_BYTES_MAX];
    const struct raft_type *type;
    size_t once_len, twice_len;
    int err;

    if (len == 0 || len > RAFT_BYTES_MAX) {
        return 0;
    }
    type = &raft_types[data[0] % RAFT_TYPE_COUNT];
    err = type->recode(data + 1, len - 1, once, &once_len);
    HF_ASSERT(err == 0 || err == -EBADMSG);
    if (err) {
        return 0;
    }
    HF_ASSERT(type->recode(once, once_len, twice, &twice_len) == 0);
    HF_ASSERT(once_len == twice_len && memcmp(once, twice, once_len) == 0);
    if (type->recode == raft_recode_config || type->recode == raft_recode_entries) {
        HF_ASSERT(once_len == len - 1 && memcmp(once, data + 1, once_len) == 0); /* one form */
    }
    return 0;
}

static size_t type_of(const char *name)
{
    size_t i = 0;

    while (strncmp(name, raft_types[i].name, strlen(raft_types[i].name)) != 0) {
        i++;
        HF_ASSERT(i < RAFT_TYPE_COUNT);
    }
    return i;
}

/* One a line of the golden file. */
size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static char line[8192];
    FILE *f = fopen(HF_SOURCE_DIR "/tests/golden/raft.hex", "r");
    bool more = true;
    const char *hex;
    size_t len = 1;

    HF_ASSERT(f != NULL);
    for (size_t i = 0; i <= index && more; i++) {
        more = fgets(line, sizeof(line), f) != NULL;
    }
    (void)fclose(f);
    if (!more) {
        return 0;
    }
    hex = strchr(line, ' ');
    HF_ASSERT(hex != NULL);
    ret[0] = (uint8_t)type_of(line);
    for (unsigned byte; len < cap && sscanf(++hex, "%2x", &byte) == 1; hex++) {
        ret[len++] = (uint8_t)byte;
    }
    return len;
}
