/* SPDX-License-Identifier: Apache-2.0 */
#include "common/checksum/checksum.h"

#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include <xxh_x86dispatch.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"

static uint64_t block_seed(const struct hf_oid *oid, uint32_t block)
{
    return hf_oid_hash(oid) + (uint64_t)block * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t hf_checksum_block(const struct hf_oid *oid, uint32_t block, const void *data,
                           size_t len_bytes)
{
    return XXH3_64bits_withSeed(data, len_bytes, block_seed(oid, block));
}

void hf_checksum_blocks(const struct hf_oid *oid, uint32_t first, const void *data,
                        size_t len_bytes, uint64_t *ret)
{
    const uint8_t *p = data;

    for (uint32_t i = 0; len_bytes > 0; i++) {
        size_t n = len_bytes < HF_BLOCK_BYTES ? len_bytes : HF_BLOCK_BYTES;

        ret[i] = hf_checksum_block(oid, first + i, p, n);
        p += n;
        len_bytes -= n;
    }
}

void hf_checksum_iov(const struct hf_oid *oid, uint32_t first, const struct iovec *iov,
                     int iov_count, uint64_t *ret)
{
    uint8_t joined[HF_BLOCK_BYTES]; /* a block that straddles pieces is gathered here */
    size_t held = 0;
    uint32_t block = first;

    for (int i = 0; i < iov_count; i++) {
        const uint8_t *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left > 0) {
            size_t n;

            if (held == 0 && left >= HF_BLOCK_BYTES) {
                n = HF_BLOCK_BYTES;
                ret[block - first] = hf_checksum_block(oid, block, p, n);
                block++;
            } else {
                n = left < HF_BLOCK_BYTES - held ? left : HF_BLOCK_BYTES - held;
                memcpy(joined + held, p, n);
                held += n;
                if (held == HF_BLOCK_BYTES) {
                    ret[block - first] = hf_checksum_block(oid, block, joined, held);
                    block++;
                    held = 0;
                }
            }
            p += n;
            left -= n;
        }
    }
    if (held > 0) {
        ret[block - first] = hf_checksum_block(oid, block, joined, held);
    }
}

int hf_checksum_verify(const struct hf_oid *oid, uint32_t first, const void *data, size_t len_bytes,
                       const uint64_t *sums)
{
    const uint8_t *p = data;

    for (int i = 0; len_bytes > 0; i++) {
        size_t n = len_bytes < HF_BLOCK_BYTES ? len_bytes : HF_BLOCK_BYTES;

        if (hf_checksum_block(oid, first + (uint32_t)i, p, n) != sums[i]) {
            return i;
        }
        p += n;
        len_bytes -= n;
    }
    return -1;
}

uint64_t hf_checksum_digest(uint64_t len_bytes, const uint64_t *sums, uint32_t count)
{
    uint64_t h = len_bytes * UINT64_C(0x9e3779b97f4a7c15);

    for (uint32_t i = 0; i < count; i++) {
        uint8_t le[8];

        hf_put_le64(le, sums[i]);
        h = XXH3_64bits_withSeed(le, sizeof(le), h);
    }
    return h;
}

uint64_t hf_hash64(const void *data, size_t len_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len_bytes, seed);
}

uint64_t hf_hash64_iov(const struct iovec *iov, int iov_count, uint64_t seed)
{
    XXH3_state_t state;

    if (iov_count == 1) {
        return hf_hash64(iov[0].iov_base, iov[0].iov_len, seed);
    }
    XXH3_INITSTATE(&state);
    HF_ASSERT(XXH3_64bits_reset_withSeed(&state, seed) == XXH_OK);
    for (int i = 0; i < iov_count; i++) {
        HF_ASSERT(XXH3_64bits_update(&state, iov[i].iov_base, iov[i].iov_len) == XXH_OK);
    }
    return XXH3_64bits_digest(&state);
}
