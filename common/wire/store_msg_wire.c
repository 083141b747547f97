/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/store_msg.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/base/err.h"
#include "common/wire/arena_wire.h"
#include "proto/holdfast.pb-c.h"

static_assert(sizeof(((struct wire_oids *)0)->bytes) / HF_OID_BYTES == HF_MSG_OIDS_MAX,
              "wire_oids holds the longest list");

void hf_msg_release(void *mem)
{
    arena_free((struct arena *)mem);
}

/* ------------------------------------------------------------------------------------ put, get */

int hf_msg_put_encode(const struct hf_msg_put *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__PutRequest pb;
    uint8_t oid[HF_OID_BYTES];

    if (m->sum_count > HF_OBJECT_BLOCKS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__put_request__init(&pb);
    hf_oid_encode(&m->oid, oid);
    WIRE_SET_BYTES(pb, oid, &oid[0], sizeof(oid));
    WIRE_SET(pb, group_epoch, m->group_epoch.v);
    WIRE_SET(pb, offset, m->off_bytes);
    WIRE_SET(pb, last, m->last);
    WIRE_SET(pb, length, m->len_bytes);
    WIRE_SET(pb, repair, m->repair);
    WIRE_SET(pb, abandon, m->abandon);
    pb.n_sums = m->sum_count;
    pb.sums = (uint64_t *)m->sums;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_put_decode(const void *msg, size_t len, struct hf_msg_put *ret, void **ret_mem)
{
    const Hf__Wire__PutRequest *pb;
    struct hf_msg_put m = {0};
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__put_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__PutRequest *)unpacked;
    if (!pb->has_oid || !wire_get_oid(&pb->oid, &m.oid) || pb->offset % HF_BLOCK_BYTES != 0 ||
        pb->offset >= HF_OBJECT_BYTES_MAX || pb->length > HF_OBJECT_BYTES_MAX ||
        pb->n_sums > HF_OBJECT_BLOCKS_MAX) {
        arena_free(a);
        return -EBADMSG;
    }
    m.group_epoch.v = pb->group_epoch;
    m.off_bytes = pb->offset;
    m.last = pb->last != 0;
    m.repair = pb->repair != 0;
    m.abandon = pb->abandon != 0;
    m.len_bytes = pb->length;
    m.sums = pb->n_sums ? pb->sums : NULL;
    m.sum_count = (uint32_t)pb->n_sums;
    *ret = m;
    *ret_mem = a;
    return 0;
}

int hf_msg_get_encode(const struct hf_msg_get *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__GetRequest pb;
    uint8_t oid[HF_OID_BYTES];

    hf__wire__get_request__init(&pb);
    hf_oid_encode(&m->oid, oid);
    WIRE_SET_BYTES(pb, oid, &oid[0], sizeof(oid));
    WIRE_SET(pb, offset, m->off_bytes);
    WIRE_SET(pb, length, m->len_bytes);
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_get_decode(const void *msg, size_t len, struct hf_msg_get *ret)
{
    const Hf__Wire__GetRequest *pb;
    struct hf_msg_get m = {0};
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__get_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__GetRequest *)unpacked;
    good = pb->has_oid && wire_get_oid(&pb->oid, &m.oid) && pb->offset % HF_BLOCK_BYTES == 0 &&
           pb->offset < HF_OBJECT_BYTES_MAX && pb->length <= HF_FRAME_BULK_MAX;
    m.off_bytes = pb->offset;
    m.len_bytes = pb->length;
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

int hf_msg_get_reply_encode(const struct hf_msg_get_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                            size_t *ret_len)
{
    Hf__Wire__GetReply pb;

    if (m->sum_count > HF_OBJECT_BLOCKS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__get_reply__init(&pb);
    WIRE_SET(pb, object_length, m->object_len_bytes);
    pb.n_sums = m->sum_count;
    pb.sums = (uint64_t *)m->sums;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_get_reply_decode(const void *msg, size_t len, struct hf_msg_get_reply *ret,
                            void **ret_mem)
{
    const Hf__Wire__GetReply *pb;
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__get_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__GetReply *)unpacked;
    if (pb->object_length > HF_OBJECT_BYTES_MAX || pb->n_sums > HF_OBJECT_BLOCKS_MAX) {
        arena_free(a);
        return -EBADMSG;
    }
    *ret = (struct hf_msg_get_reply){
        .object_len_bytes = pb->object_length,
        .sums = pb->n_sums ? pb->sums : NULL,
        .sum_count = (uint32_t)pb->n_sums,
    };
    *ret_mem = a;
    return 0;
}

/* -------------------------------------------------------------------------------------- object ids
 */

int hf_msg_oids_encode(const struct hf_msg_oids *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__OidsRequest pb;
    struct wire_oids oids;

    if (m->count > HF_MSG_OIDS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__oids_request__init(&pb);
    for (uint32_t i = 0; i < m->count; i++) {
        wire_put_oids(&oids, i, &m->oids[i]);
    }
    pb.n_oids = m->count;
    pb.oids = oids.column;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_oids_decode(const void *msg, size_t len, struct hf_msg_oids *ret, void **ret_mem)
{
    const Hf__Wire__OidsRequest *pb;
    const void *unpacked;
    struct hf_oid *oids;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__oids_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__OidsRequest *)unpacked;
    err = wire_get_oids(a, pb->oids, pb->n_oids, HF_MSG_OIDS_MAX, &oids);
    if (err) {
        arena_free(a);
        return err;
    }
    *ret = (struct hf_msg_oids){.oids = oids, .count = (uint32_t)pb->n_oids};
    *ret_mem = a;
    return 0;
}

int hf_msg_check_reply_encode(const struct hf_msg_check_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                              size_t *ret_len)
{
    Hf__Wire__CheckReply pb;
    uint32_t errors[HF_MSG_OIDS_MAX];

    if (m->count > HF_MSG_OIDS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__check_reply__init(&pb);
    for (uint32_t i = 0; i < m->count; i++) {
        errors[i] = hf_err_to_wire(m->errs[i]);
    }
    pb.n_errors = pb.n_lengths = pb.n_digests = m->count;
    pb.errors = errors;
    pb.lengths = (uint32_t *)m->lens;
    pb.digests = (uint64_t *)m->digests;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_check_reply_decode(const void *msg, size_t len, struct hf_msg_check_reply *ret,
                              void **ret_mem)
{
    const Hf__Wire__CheckReply *pb;
    const void *unpacked;
    struct arena *a;
    int *errs = NULL;
    int err;

    err = wire_unpack(&hf__wire__check_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__CheckReply *)unpacked;
    if (pb->n_errors <= HF_MSG_OIDS_MAX && pb->n_lengths == pb->n_errors &&
        pb->n_digests == pb->n_errors) {
        errs = arena_array(a, pb->n_errors, sizeof(*errs));
    }
    if (!errs) {
        err = arena_error(a);
        arena_free(a);
        return err;
    }
    for (size_t i = 0; i < pb->n_errors; i++) {
        errs[i] = hf_err_from_wire(pb->errors[i]);
    }
    *ret = (struct hf_msg_check_reply){
        .errs = errs,
        .lens = pb->lengths,
        .digests = pb->digests,
        .count = (uint32_t)pb->n_errors,
    };
    *ret_mem = a;
    return 0;
}

int hf_msg_list_encode(const struct hf_msg_list *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__ListRequest pb;
    uint8_t after[HF_OID_BYTES];

    hf__wire__list_request__init(&pb);
    WIRE_SET(pb, group, m->group);
    if (m->has_after) {
        hf_oid_encode(&m->after, after);
        WIRE_SET_BYTES(pb, after, &after[0], sizeof(after));
    }
    WIRE_SET(pb, max, m->max);
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_list_decode(const void *msg, size_t len, struct hf_msg_list *ret)
{
    const Hf__Wire__ListRequest *pb;
    struct hf_msg_list m = {0};
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__list_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__ListRequest *)unpacked;
    good = pb->group < HF_GROUPS_MAX && (!pb->has_after || wire_get_oid(&pb->after, &m.after));
    m.group = (uint16_t)pb->group;
    m.has_after = pb->has_after != 0;
    m.max = pb->max;
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

int hf_msg_list_reply_encode(const struct hf_msg_list_reply *m, uint8_t ret[HF_RPC_MSG_MAX],
                             size_t *ret_len)
{
    Hf__Wire__ListReply pb;
    struct wire_oids oids;
    uint32_t quarantined[HF_MSG_OIDS_MAX];

    if (m->count > HF_MSG_OIDS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__list_reply__init(&pb);
    for (uint32_t i = 0; i < m->count; i++) {
        wire_put_oids(&oids, i, &m->oids[i]);
        quarantined[i] = m->quarantined[i];
    }
    pb.n_oids = pb.n_lengths = pb.n_digests = pb.n_quarantined = m->count;
    pb.oids = oids.column;
    pb.lengths = (uint32_t *)m->lens;
    pb.digests = (uint64_t *)m->digests;
    pb.quarantined = quarantined;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_list_reply_decode(const void *msg, size_t len, struct hf_msg_list_reply *ret,
                             void **ret_mem)
{
    const Hf__Wire__ListReply *pb;
    const void *unpacked;
    struct hf_oid *oids;
    struct arena *a;
    bool *quarantined = NULL;
    int err;

    err = wire_unpack(&hf__wire__list_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__ListReply *)unpacked;
    err = wire_get_oids(a, pb->oids, pb->n_oids, HF_MSG_OIDS_MAX, &oids);
    if (err == 0 && pb->n_lengths == pb->n_oids && pb->n_digests == pb->n_oids &&
        pb->n_quarantined == pb->n_oids) {
        quarantined = arena_array(a, pb->n_oids, sizeof(*quarantined));
    }
    if (!quarantined) {
        err = arena_error(a);
        arena_free(a);
        return err;
    }
    for (size_t i = 0; i < pb->n_oids; i++) {
        quarantined[i] = pb->quarantined[i] != 0;
    }
    *ret = (struct hf_msg_list_reply){
        .oids = oids,
        .lens = pb->lengths,
        .digests = pb->digests,
        .quarantined = quarantined,
        .count = (uint32_t)pb->n_oids,
    };
    *ret_mem = a;
    return 0;
}

/* ---------------------------------------------------------------------------------------- copy */

int hf_msg_copy_encode(const struct hf_msg_copy *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__CopyRequest pb;
    uint8_t oid[HF_OID_BYTES];
    char *sources[HF_REPLICAS_MAX];

    if (m->source_count > HF_REPLICAS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__copy_request__init(&pb);
    hf_oid_encode(&m->oid, oid);
    WIRE_SET_BYTES(pb, oid, &oid[0], sizeof(oid));
    WIRE_SET(pb, length, m->len_bytes);
    WIRE_SET(pb, digest, m->digest);
    for (uint32_t i = 0; i < m->source_count; i++) {
        sources[i] = (char *)m->sources[i];
        if (!memchr(sources[i], '\0', HF_ADDR_BYTES_MAX)) {
            return -EMSGSIZE;
        }
    }
    pb.n_sources = m->source_count;
    pb.sources = sources;
    return wire_pack(&pb.base, ret, ret_len);
}

static bool copy_get(const Hf__Wire__CopyRequest *pb, struct hf_msg_copy *m)
{
    if (!pb->has_oid || !wire_get_oid(&pb->oid, &m->oid) || pb->length == 0 ||
        pb->length > HF_OBJECT_BYTES_MAX || pb->n_sources > HF_REPLICAS_MAX) {
        return false;
    }
    m->len_bytes = pb->length;
    m->digest = pb->digest;
    m->source_count = (uint32_t)pb->n_sources;
    for (size_t i = 0; i < pb->n_sources; i++) {
        if (!wire_get_text(pb->sources[i], m->sources[i], HF_ADDR_BYTES_MAX)) {
            return false;
        }
    }
    return true;
}

int hf_msg_copy_decode(const void *msg, size_t len, struct hf_msg_copy *ret)
{
    struct hf_msg_copy m = {0};
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__copy_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    good = copy_get((const Hf__Wire__CopyRequest *)unpacked, &m);
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

/* ------------------------------------------------------------------------- stats and heartbeats */

static void stats_put(Hf__Wire__StoreStatsReply *pb, const struct hf_msg_store_stats *m)
{
    hf__wire__store_stats_reply__init(pb);
    WIRE_SET(*pb, state, m->state);
    WIRE_SET(*pb, capacity, m->capacity_bytes);
    WIRE_SET(*pb, free, m->free_bytes);
    WIRE_SET(*pb, live, m->live_bytes);
    WIRE_SET(*pb, objects, m->objects);
    WIRE_SET(*pb, segments, m->segments);
    WIRE_SET(*pb, quarantined, m->quarantined);
    WIRE_SET(*pb, puts, m->puts);
    WIRE_SET(*pb, gets, m->gets);
    WIRE_SET(*pb, deletes, m->deletes);
    WIRE_SET(*pb, put_bytes, m->put_bytes);
    WIRE_SET(*pb, get_bytes, m->get_bytes);
    WIRE_SET(*pb, syncs, m->syncs);
    WIRE_SET(*pb, compacted, m->compacted);
    WIRE_SET(*pb, recycled, m->recycled);
}

static void stats_get(const Hf__Wire__StoreStatsReply *pb, struct hf_msg_store_stats *m)
{
    *m = (struct hf_msg_store_stats){
        .state = pb->state,
        .capacity_bytes = pb->capacity,
        .free_bytes = pb->free,
        .live_bytes = pb->live,
        .objects = pb->objects,
        .segments = pb->segments,
        .quarantined = pb->quarantined,
        .puts = pb->puts,
        .gets = pb->gets,
        .deletes = pb->deletes,
        .put_bytes = pb->put_bytes,
        .get_bytes = pb->get_bytes,
        .syncs = pb->syncs,
        .compacted = pb->compacted,
        .recycled = pb->recycled,
    };
}

int hf_msg_store_stats_encode(const struct hf_msg_store_stats *m, uint8_t ret[HF_RPC_MSG_MAX],
                              size_t *ret_len)
{
    Hf__Wire__StoreStatsReply pb;

    stats_put(&pb, m);
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_store_stats_decode(const void *msg, size_t len, struct hf_msg_store_stats *ret)
{
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__store_stats_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    stats_get((const Hf__Wire__StoreStatsReply *)unpacked, ret);
    arena_free(a);
    return 0;
}

int hf_msg_heartbeat_encode(const struct hf_msg_heartbeat *m, uint8_t ret[HF_RPC_MSG_MAX],
                            size_t *ret_len)
{
    Hf__Wire__Heartbeat pb;
    Hf__Wire__StoreStatsReply stats;
    struct wire_oids oids;

    if (m->bad_count > HF_MSG_OIDS_MAX || !memchr(m->addr, '\0', sizeof(m->addr))) {
        return -EMSGSIZE;
    }
    hf__wire__heartbeat__init(&pb);
    WIRE_SET(pb, node, m->node.v);
    if (!hf_uuid_is_zero(&m->store)) {
        WIRE_SET_BYTES(pb, store_uuid, &m->store.b[0], sizeof(m->store.b));
    }
    pb.addr = m->addr[0] ? (char *)m->addr : NULL;
    WIRE_SET(pb, map_epoch, m->map_epoch);
    stats_put(&stats, &m->stats);
    pb.stats = &stats;
    for (uint32_t i = 0; i < m->bad_count; i++) {
        wire_put_oids(&oids, i, &m->bad[i]);
    }
    pb.n_bad_oids = m->bad_count;
    pb.bad_oids = oids.column;
    WIRE_SET(pb, start, m->start);
    WIRE_SET(pb, noted, m->noted);
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_heartbeat_decode(const void *msg, size_t len, struct hf_msg_heartbeat *ret,
                            void **ret_mem)
{
    const Hf__Wire__Heartbeat *pb;
    struct hf_msg_heartbeat m = {0};
    const void *unpacked;
    struct hf_oid *bad;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__heartbeat__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__Heartbeat *)unpacked;
    err = wire_get_oids(a, pb->bad_oids, pb->n_bad_oids, HF_MSG_OIDS_MAX, &bad);
    if (err || pb->node > HF_NODES_MAX ||
        !wire_get_uuid(pb->has_store_uuid, &pb->store_uuid, &m.store) ||
        !wire_get_text(pb->addr, m.addr, sizeof(m.addr))) {
        arena_free(a);
        return -EBADMSG;
    }
    m.node.v = (uint16_t)pb->node;
    m.map_epoch = pb->map_epoch;
    if (pb->stats) {
        stats_get(pb->stats, &m.stats);
    }
    m.bad = bad;
    m.bad_count = (uint32_t)pb->n_bad_oids;
    m.start = pb->start;
    m.noted = pb->noted;
    *ret = m;
    *ret_mem = a;
    return 0;
}

int hf_msg_heartbeat_reply_encode(const struct hf_msg_heartbeat_reply *m,
                                  uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__HeartbeatReply pb;

    hf__wire__heartbeat_reply__init(&pb);
    WIRE_SET(pb, map_epoch, m->map_epoch);
    WIRE_SET(pb, state, (uint32_t)m->state);
    WIRE_SET(pb, start, m->start);
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_heartbeat_reply_decode(const void *msg, size_t len, struct hf_msg_heartbeat_reply *ret)
{
    const Hf__Wire__HeartbeatReply *pb;
    struct hf_msg_heartbeat_reply m;
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__heartbeat_reply__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__HeartbeatReply *)unpacked;
    good = pb->state < HF_NODE_STATE_COUNT;
    m.map_epoch = pb->map_epoch;
    m.state = (enum hf_node_state)pb->state;
    m.start = pb->start;
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

/* ------------------------------------------------------------------------------ administration */

int hf_msg_admin_encode(const struct hf_msg_admin *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    Hf__Wire__AdminRequest pb;

    if (m->arg_count > HF_ADMIN_ARGS_MAX) {
        return -EMSGSIZE;
    }
    hf__wire__admin_request__init(&pb);
    pb.command = (char *)m->command;
    pb.n_args = m->arg_count;
    pb.args = (char **)m->args;
    return wire_pack(&pb.base, ret, ret_len);
}

int hf_msg_admin_decode(const void *msg, size_t len, struct hf_msg_admin *ret, void **ret_mem)
{
    const Hf__Wire__AdminRequest *pb;
    struct hf_msg_admin m = {0};
    const void *unpacked;
    struct arena *a;
    int err;

    err = wire_unpack(&hf__wire__admin_request__descriptor, msg, len, &a, &unpacked);
    if (err) {
        return err;
    }
    pb = (const Hf__Wire__AdminRequest *)unpacked;
    if (!pb->command || pb->n_args > HF_ADMIN_ARGS_MAX) {
        arena_free(a);
        return -EBADMSG;
    }
    m.command = pb->command;
    m.arg_count = (uint32_t)pb->n_args;
    for (size_t i = 0; i < pb->n_args; i++) {
        m.args[i] = pb->args[i];
    }
    *ret = m;
    *ret_mem = a;
    return 0;
}
