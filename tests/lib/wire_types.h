/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_types.h - every message type behind one signature: decode, then encode what came out.
 */
#ifndef TESTS_LIB_WIRE_TYPES_H
#define TESTS_LIB_WIRE_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "common/wire/meta_op.h"
#include "common/wire/store_msg.h"

/** Errors: the decoder's. An encoder that refuses what was decoded is -EDOM: a bug. */
typedef int (*wire_recode_fn)(const void *msg, size_t len, uint8_t *ret, size_t *ret_len);

#define WIRE_RECODE(name, type)                                                                    \
    static int recode_##name(const void *msg, size_t len, uint8_t *ret, size_t *ret_len)           \
    {                                                                                              \
        type m;                                                                                    \
        int err = hf_##name##_decode(msg, len, &m);                                                \
                                                                                                   \
        if (err == 0) {                                                                            \
            err = hf_##name##_encode(&m, ret, ret_len) ? -EDOM : 0;                                \
        }                                                                                          \
        return err;                                                                                \
    }

#define WIRE_RECODE_MEM(name, type)                                                                \
    static int recode_##name(const void *msg, size_t len, uint8_t *ret, size_t *ret_len)           \
    {                                                                                              \
        type m;                                                                                    \
        void *mem;                                                                                 \
        int err = hf_##name##_decode(msg, len, &m, &mem);                                          \
                                                                                                   \
        if (err == 0) {                                                                            \
            err = hf_##name##_encode(&m, ret, ret_len) ? -EDOM : 0;                                \
            hf_msg_release(mem);                                                                   \
        }                                                                                          \
        return err;                                                                                \
    }

WIRE_RECODE_MEM(msg_put, struct hf_msg_put)
WIRE_RECODE(msg_get, struct hf_msg_get)
WIRE_RECODE_MEM(msg_get_reply, struct hf_msg_get_reply)
WIRE_RECODE_MEM(msg_oids, struct hf_msg_oids)
WIRE_RECODE_MEM(msg_check_reply, struct hf_msg_check_reply)
WIRE_RECODE(msg_list, struct hf_msg_list)
WIRE_RECODE_MEM(msg_list_reply, struct hf_msg_list_reply)
WIRE_RECODE(msg_copy, struct hf_msg_copy)
WIRE_RECODE(msg_store_stats, struct hf_msg_store_stats)
WIRE_RECODE_MEM(msg_heartbeat, struct hf_msg_heartbeat)
WIRE_RECODE(msg_heartbeat_reply, struct hf_msg_heartbeat_reply)
WIRE_RECODE_MEM(msg_admin, struct hf_msg_admin)
WIRE_RECODE_MEM(meta_read, struct hf_meta_read)
WIRE_RECODE(meta_reply, struct hf_meta_reply)

static int recode_msg_map(const void *msg, size_t len, uint8_t *ret, size_t *ret_len)
{
    struct hf_map map;
    int err = hf_msg_map_decode(msg, len, &map);

    if (err == 0) {
        err = hf_msg_map_encode(&map, ret, ret_len) ? -EDOM : 0;
        hf_map_fini(&map);
    }
    return err;
}

static int recode_meta_op(const void *msg, size_t len, uint8_t *ret, size_t *ret_len)
{
    static const uint8_t bulk[HF_INLINE_BYTES_MAX];
    struct hf_meta_op op;
    void *mem;
    int err = hf_meta_op_decode(msg, len, bulk, sizeof(bulk), &op, &mem);

    if (err == 0) {
        err = hf_meta_op_encode(&op, ret, ret_len) ? -EDOM : 0;
        hf_meta_op_release(mem);
    }
    return err;
}

static const struct wire_type {
    const char *name;
    wire_recode_fn recode;
} wire_types[] = {
    {"put", recode_msg_put},
    {"get", recode_msg_get},
    {"get_reply", recode_msg_get_reply},
    {"oids", recode_msg_oids},
    {"check_reply", recode_msg_check_reply},
    {"list", recode_msg_list},
    {"list_reply", recode_msg_list_reply},
    {"copy", recode_msg_copy},
    {"store_stats", recode_msg_store_stats},
    {"heartbeat", recode_msg_heartbeat},
    {"heartbeat_reply", recode_msg_heartbeat_reply},
    {"admin", recode_msg_admin},
    {"map", recode_msg_map},
    {"meta_read", recode_meta_read},
    {"meta_reply", recode_meta_reply},
    {"meta_op", recode_meta_op},
};
#define WIRE_TYPE_COUNT (sizeof(wire_types) / sizeof(wire_types[0]))

#endif
