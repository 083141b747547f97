/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft_types.h - every kind of bytes of server/raft/wire.h behind one signature: decode, then
 * encode what came out.
 */
#ifndef TESTS_LIB_RAFT_TYPES_H
#define TESTS_LIB_RAFT_TYPES_H

#include <errno.h>

#include "server/raft/wire.h"

#define RAFT_BYTES_MAX HF_RAFT_ENTRY_BYTES_MAX /* of input and output */

static inline int raft_recode_msg(const void *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_raft_msg m;
    int err = hf_raft_msg_decode(bytes, len, &m);

    if (err == 0) {
        err = hf_raft_msg_encode(&m, ret, ret_len) ? -EDOM : 0;
    }
    return err;
}

static inline int raft_recode_config(const void *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_raft_config config;
    int err = hf_raft_config_decode(bytes, len, &config);

    if (err == 0) {
        *ret_len = hf_raft_config_encode(&config, ret);
    }
    return err;
}

/* All of them, one behind the other. */
static inline int raft_recode_entries(const void *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    const uint8_t *at = bytes;
    size_t out = 0;

    for (uint64_t index = 7; len > 0; index++) {
        struct hf_raft_entry e;
        size_t used;
        int err = hf_raft_entry_decode(at, len, index, &e, &used);

        if (err) {
            return err;
        }
        if (e.index != index || used != hf_raft_entry_bytes(&e) || used > len) {
            return -EDOM;
        }
        hf_raft_entry_encode(&e, ret + out);
        out += used;
        at += used;
        len -= used;
    }
    *ret_len = out;
    return 0;
}

static inline int raft_recode_found(const void *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_raft_found m;
    int err = hf_raft_found_decode(bytes, len, &m);

    if (err == 0) {
        err = hf_raft_found_encode(&m, ret, ret_len) ? -EDOM : 0;
    }
    return err;
}

/** Errors: the decoder's; -EDOM: a bug. @len <= RAFT_BYTES_MAX, and room for as much in @ret. */
static const struct raft_type {
    const char *name;
    int (*recode)(const void *bytes, size_t len, uint8_t *ret, size_t *ret_len);
} raft_types[] = {
    {"msg", raft_recode_msg},
    {"config", raft_recode_config},
    {"entries", raft_recode_entries},
    {"found", raft_recode_found},
};
#define RAFT_TYPE_COUNT (sizeof(raft_types) / sizeof(raft_types[0]))

#endif
