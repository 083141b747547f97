/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ids.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/bytes.h"

int hf_oid_cmp(const struct hf_oid *a, const struct hf_oid *b)
{
    if (a->group != b->group) {
        return a->group < b->group ? -1 : 1;
    }
    if (a->session != b->session) {
        return a->session < b->session ? -1 : 1;
    }
    if (a->seq != b->seq) {
        return a->seq < b->seq ? -1 : 1;
    }
    return 0;
}

void hf_oid_encode(const struct hf_oid *oid, uint8_t ret[HF_OID_BYTES])
{
    hf_put_be16(ret, oid->group);
    hf_put_be64(ret + 2, oid->session);
    hf_put_be16(ret + 10, (uint16_t)(oid->seq >> 32));
    hf_put_be32(ret + 12, (uint32_t)oid->seq);
}

struct hf_oid hf_oid_decode(const uint8_t bytes[HF_OID_BYTES])
{
    return (struct hf_oid){
        .group = hf_get_be16(bytes),
        .session = hf_get_be64(bytes + 2),
        .seq = (uint64_t)hf_get_be16(bytes + 10) << 32 | hf_get_be32(bytes + 12),
    };
}

uint64_t hf_oid_hash(const struct hf_oid *oid)
{
    uint64_t h = oid->session * UINT64_C(0x9e3779b97f4a7c15);

    h ^= (oid->seq | (uint64_t)oid->group << 48) * UINT64_C(0xc2b2ae3d27d4eb4f);
    h ^= h >> 29;
    h *= UINT64_C(0x165667b19e3779f9);
    return h ^ h >> 32;
}

const char *hf_oid_str(const struct hf_oid *oid, char ret[HF_OID_STR_MAX])
{
    (void)snprintf(ret, HF_OID_STR_MAX, "%03x.%" PRIx64 ".%" PRIx64, oid->group, oid->session,
                   oid->seq);
    return ret;
}

bool hf_uuid_is_zero(const struct hf_uuid *u)
{
    static const struct hf_uuid zero;

    return hf_uuid_equal(u, &zero);
}

const char *hf_uuid_str(const struct hf_uuid *u, char ret[HF_UUID_STR_MAX])
{
    size_t at = 0;

    for (size_t i = 0; i < sizeof(u->b); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            ret[at++] = '-';
        }
        (void)snprintf(ret + at, HF_UUID_STR_MAX - at, "%02x", u->b[i]);
        at += 2;
    }
    return ret;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

int hf_uuid_parse(const char *text, struct hf_uuid *ret)
{
    struct hf_uuid u;

    if (strlen(text) != HF_UUID_STR_MAX - 1) {
        return -EINVAL;
    }
    for (size_t i = 0; i < sizeof(u.b); i++) {
        int hi, lo;

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (*text++ != '-') {
                return -EINVAL;
            }
        }
        hi = hex_digit(text[0]);
        lo = hex_digit(text[1]);
        if (hi < 0 || lo < 0) {
            return -EINVAL;
        }
        u.b[i] = (uint8_t)(hi << 4 | lo);
        text += 2;
    }
    *ret = u;
    return 0;
}
