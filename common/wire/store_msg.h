/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_msg.h - object store, map and administration messages as structs, and their bytes.
 *
 * Decoders check sizes and columns; pointers in decoded structs are borrowed from *ret_mem, which
 * hf_msg_release() frees. Encoders write at most HF_RPC_MSG_MAX bytes.
 * Errors of decoders: -EBADMSG, -ENOMEM; of encoders: -EMSGSIZE.
 */
#ifndef HF_WIRE_STORE_MSG_H
#define HF_WIRE_STORE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/placement/map.h"

void hf_msg_release(void *mem);

struct hf_msg_put {
    struct hf_oid oid;
    struct hf_epoch group_epoch;
    uint32_t off_bytes;
    bool last, repair, abandon;
    uint32_t len_bytes;   /* with last */
    const uint64_t *sums; /* with last */
    uint32_t sum_count;
};
int hf_msg_put_encode(const struct hf_msg_put *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_put_decode(const void *msg, size_t len, struct hf_msg_put *ret, void **ret_mem);

struct hf_msg_get {
    struct hf_oid oid;
    uint32_t off_bytes, len_bytes;
};
int hf_msg_get_encode(const struct hf_msg_get *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_get_decode(const void *msg, size_t len, struct hf_msg_get *ret);

struct hf_msg_get_reply {
    uint32_t object_len_bytes;
    const uint64_t *sums;
    uint32_t sum_count;
};
int hf_msg_get_reply_encode(const struct hf_msg_get_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                            size_t *ret_len);
int hf_msg_get_reply_decode(const void *msg, size_t len, struct hf_msg_get_reply *ret,
                            void **ret_mem);

#define HF_MSG_OIDS_MAX 1024u
struct hf_msg_oids {
    const struct hf_oid *oids;
    uint32_t count; /* <= HF_MSG_OIDS_MAX */
};
int hf_msg_oids_encode(const struct hf_msg_oids *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_oids_decode(const void *msg, size_t len, struct hf_msg_oids *ret, void **ret_mem);

struct hf_msg_check_reply {
    const int *errs; /* negative or 0 */
    const uint32_t *lens;
    const uint64_t *digests;
    uint32_t count;
};
int hf_msg_check_reply_encode(const struct hf_msg_check_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                              size_t *ret_len);
int hf_msg_check_reply_decode(const void *msg, size_t len, struct hf_msg_check_reply *ret,
                              void **ret_mem);

struct hf_msg_list {
    uint16_t group;
    bool has_after;
    struct hf_oid after;
    uint32_t max;
};
int hf_msg_list_encode(const struct hf_msg_list *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_list_decode(const void *msg, size_t len, struct hf_msg_list *ret);

struct hf_msg_list_reply {
    const struct hf_oid *oids;
    const uint32_t *lens;
    const uint64_t *digests;
    const bool *quarantined;
    uint32_t count; /* <= HF_MSG_OIDS_MAX */
};
int hf_msg_list_reply_encode(const struct hf_msg_list_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                             size_t *ret_len);
int hf_msg_list_reply_decode(const void *msg, size_t len, struct hf_msg_list_reply *ret,
                             void **ret_mem);

struct hf_msg_copy {
    struct hf_oid oid;
    uint32_t len_bytes;
    uint64_t digest;
    char sources[HF_REPLICAS_MAX][HF_ADDR_BYTES_MAX];
    uint32_t source_count;
};
int hf_msg_copy_encode(const struct hf_msg_copy *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_copy_decode(const void *msg, size_t len, struct hf_msg_copy *ret);

struct hf_msg_store_stats {
    uint32_t state; /* enum hf_store_state */
    uint64_t capacity_bytes, free_bytes, live_bytes, objects, segments, quarantined;
    uint64_t puts, gets, deletes, put_bytes, get_bytes, syncs, compacted, recycled;
};
int hf_msg_store_stats_encode(const struct hf_msg_store_stats *m, uint8_t ret[HF_RPC_MSG_MAX],
                              size_t *ret_len);
int hf_msg_store_stats_decode(const void *msg, size_t len, struct hf_msg_store_stats *ret);

#define HF_HEARTBEAT_BAD_MAX 256u /* of a list so long, some may be missing */

struct hf_msg_heartbeat {
    struct hf_node_id node;
    struct hf_uuid store;
    char addr[HF_ADDR_BYTES_MAX];
    uint64_t map_epoch;
    struct hf_msg_store_stats stats;
    const struct hf_oid *bad;
    uint32_t bad_count;
    uint64_t start; /* a number of this process */
    bool noted;     /* ... which the log has */
};
int hf_msg_heartbeat_encode(const struct hf_msg_heartbeat *m, uint8_t ret[HF_RPC_MSG_MAX],
                            size_t *ret_len);
int hf_msg_heartbeat_decode(const void *msg, size_t len, struct hf_msg_heartbeat *ret,
                            void **ret_mem);

struct hf_msg_heartbeat_reply {
    uint64_t map_epoch;
    enum hf_node_state state;
    uint64_t start; /* that the log has */
};
int hf_msg_heartbeat_reply_encode(const struct hf_msg_heartbeat_reply *m,
                                  uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_heartbeat_reply_decode(const void *msg, size_t len, struct hf_msg_heartbeat_reply *ret);

/** The map whole. Decoding checks ids, counts and that members exist; *ret is then owned
 *  (hf_map_fini()). */
int hf_msg_map_encode(const struct hf_map *map, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_map_decode(const void *msg, size_t len, struct hf_map *ret);

#define HF_ADMIN_ARGS_MAX 16u
struct hf_msg_admin {
    const char *command; /* NUL-terminated */
    const char *args[HF_ADMIN_ARGS_MAX];
    uint32_t arg_count;
};
int hf_msg_admin_encode(const struct hf_msg_admin *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
int hf_msg_admin_decode(const void *msg, size_t len, struct hf_msg_admin *ret, void **ret_mem);

#endif
