/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids.h - identities as types, so that the wrong one does not compile.
 *
 * An object id is (placement group u16, session u64, sequence u48). Ids order by group, then
 * session, then sequence, in memory as on disk (16 bytes, big-endian), so a group can be listed.
 * Session ids are never reused, so object ids never are.
 */
#ifndef HF_BASE_IDS_H
#define HF_BASE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hf_ino {
    uint64_t v;
};

struct hf_session_id {
    uint64_t v; /* top 16 bits: volume, 0 for now */
};

struct hf_epoch {
    uint64_t v;
};

struct hf_node_id {
    uint16_t v; /* 1..HF_NODES_MAX; 0: none */
};

struct hf_uuid {
    uint8_t b[16];
};

struct hf_oid {
    uint64_t session;
    uint64_t seq; /* < 2^48 */
    uint16_t group;
};

#define HF_OID_BYTES    16u
#define HF_OID_SEQ_MAX  ((UINT64_C(1) << 48) - 1)
#define HF_OID_STR_MAX  40u /* "ggg.session.seq" in hex, with its NUL */
#define HF_UUID_STR_MAX 37u
#define HF_INO_ROOT     1u

/** -1, 0 or 1; the order of the encoded bytes. */
int hf_oid_cmp(const struct hf_oid *a, const struct hf_oid *b);

static inline bool hf_oid_equal(const struct hf_oid *a, const struct hf_oid *b)
{
    return a->session == b->session && a->seq == b->seq && a->group == b->group;
}

/** @ret 16 bytes, order-preserving. */
void hf_oid_encode(const struct hf_oid *oid, uint8_t ret[HF_OID_BYTES]);
struct hf_oid hf_oid_decode(const uint8_t bytes[HF_OID_BYTES]);
uint64_t hf_oid_hash(const struct hf_oid *oid);

/** Text for logs and people: "017.2a.1f" (hex). Returns @ret. */
const char *hf_oid_str(const struct hf_oid *oid, char ret[HF_OID_STR_MAX]);

static inline bool hf_uuid_equal(const struct hf_uuid *a, const struct hf_uuid *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}
bool hf_uuid_is_zero(const struct hf_uuid *u);
const char *hf_uuid_str(const struct hf_uuid *u, char ret[HF_UUID_STR_MAX]);
/** Errors: -EINVAL  not the 8-4-4-4-12 hexadecimal form. */
int hf_uuid_parse(const char *text, struct hf_uuid *ret);

#endif
