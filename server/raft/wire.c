/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/wire.h"

#include <errno.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/wire/arena_wire.h"
#include "proto/holdfast.pb-c.h"

#define CONFIG_VERSION      1u
#define CONFIG_HEAD_BYTES   4u
#define CONFIG_MEMBER_BYTES 4u

static_assert(CONFIG_HEAD_BYTES + CONFIG_MEMBER_BYTES * HF_RAFT_MEMBERS_MAX <=
                  HF_RAFT_CONFIG_BYTES_MAX,
              "the largest configuration fits");
static_assert(HF_RAFT_CONFIG_BYTES_MAX <= HF_RPC_MSG_MAX, "it is the payload of an entry");

static bool node_good(uint64_t id)
{
    return id >= 1 && id <= HF_NODES_MAX;
}

static bool number_good(uint64_t n)
{
    return n <= HF_RAFT_NUMBER_MAX;
}

/* ------------------------------------------------------------------------------- configurations */

size_t hf_raft_config_encode(const struct hf_raft_config *config,
                             uint8_t ret[HF_RAFT_CONFIG_BYTES_MAX])
{
    uint8_t *at = ret + CONFIG_HEAD_BYTES;

    HF_ASSERT(hf_raft_config_valid(config));
    ret[0] = CONFIG_VERSION;
    ret[1] = (uint8_t)config->count;
    hf_put_le16(ret + 2, 0);
    for (uint32_t i = 0; i < config->count; i++, at += CONFIG_MEMBER_BYTES) {
        hf_put_le16(at, config->members[i].id.v);
        at[2] = config->members[i].kind;
        at[3] = 0;
    }
    return (size_t)(at - ret);
}

int hf_raft_config_decode(const void *bytes, size_t len, struct hf_raft_config *ret)
{
    struct hf_reader r = hf_reader_init(bytes, len);
    struct hf_raft_config config = {0};
    uint8_t version = hf_read_u8(&r);
    uint32_t nonzero;

    config.count = hf_read_u8(&r);
    nonzero = hf_read_le16(&r);
    if (version != CONFIG_VERSION || config.count > HF_RAFT_MEMBERS_MAX) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < config.count; i++) {
        config.members[i].id.v = hf_read_le16(&r);
        config.members[i].kind = hf_read_u8(&r);
        nonzero |= hf_read_u8(&r);
        if (!node_good(config.members[i].id.v)) {
            return -EBADMSG;
        }
    }
    if (r.bad || hf_reader_left(&r) > 0 || nonzero || !hf_raft_config_valid(&config)) {
        return -EBADMSG;
    }
    *ret = config;
    return 0;
}

/* ------------------------------------------------------------------------------------- messages */

static void fill_append(const struct hf_raft_msg *m, Hf__Wire__RaftMsg *pb)
{
    WIRE_SET(*pb, index, m->u.append.prev_index);
    WIRE_SET(*pb, index_term, m->u.append.prev_term);
    WIRE_SET(*pb, commit_index, m->u.append.commit_index);
    WIRE_SET(*pb, count, m->u.append.count);
    WIRE_SET(*pb, round, m->u.append.round);
    WIRE_SET(*pb, stream, m->u.append.stream);
    WIRE_SET(*pb, incarnation, m->u.append.incarnation);
    WIRE_SET(*pb, rejoin_index, m->u.append.rejoin_index);
}

static void fill_append_result(const struct hf_raft_msg *m, Hf__Wire__RaftMsg *pb)
{
    WIRE_SET(*pb, status, (uint32_t)m->u.append_result.status);
    WIRE_SET(*pb, match_index, m->u.append_result.match_index);
    WIRE_SET(*pb, index, m->u.append_result.prev_index);
    WIRE_SET(*pb, hint_index, m->u.append_result.hint_index);
    WIRE_SET(*pb, hint_term, m->u.append_result.hint_term);
    WIRE_SET(*pb, round, m->u.append_result.round);
    WIRE_SET(*pb, stream, m->u.append_result.stream);
    WIRE_SET(*pb, incarnation, m->u.append_result.incarnation);
    WIRE_SET(*pb, whole, m->u.append_result.whole);
}

static void fill_snapshot(const struct hf_raft_msg *m, Hf__Wire__RaftMsg *pb,
                          uint8_t config[HF_RAFT_CONFIG_BYTES_MAX])
{
    size_t config_len = hf_raft_config_encode(&m->u.snapshot.config, config);

    WIRE_SET(*pb, index, m->u.snapshot.index);
    WIRE_SET(*pb, index_term, m->u.snapshot.snapshot_term);
    WIRE_SET(*pb, offset, m->u.snapshot.offset_bytes);
    WIRE_SET(*pb, total, m->u.snapshot.total_bytes);
    WIRE_SET(*pb, stream, m->u.snapshot.stream);
    WIRE_SET(*pb, length, m->u.snapshot.len_bytes);
    WIRE_SET_BYTES(*pb, config, config, config_len);
}

static void fill_snapshot_result(const struct hf_raft_msg *m, Hf__Wire__RaftMsg *pb)
{
    WIRE_SET(*pb, index, m->u.snapshot_result.index);
    WIRE_SET(*pb, offset, m->u.snapshot_result.offset_bytes);
    WIRE_SET(*pb, stream, m->u.snapshot_result.stream);
    WIRE_SET(*pb, incarnation, m->u.snapshot_result.incarnation);
    WIRE_SET(*pb, match_index, m->u.snapshot_result.match_index);
}

int hf_raft_msg_encode(const struct hf_raft_msg *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    uint8_t config[HF_RAFT_CONFIG_BYTES_MAX];
    Hf__Wire__RaftMsg pb;

    hf__wire__raft_msg__init(&pb);
    WIRE_SET(pb, type, (uint32_t)m->type);
    WIRE_SET(pb, from, m->from.v);
    WIRE_SET(pb, to, m->to.v);
    WIRE_SET(pb, term, m->term);
    switch (m->type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        WIRE_SET(pb, index, m->u.vote.last_index);
        WIRE_SET(pb, index_term, m->u.vote.last_term);
        WIRE_SET(pb, transfer, m->u.vote.transfer);
        break;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        WIRE_SET(pb, granted, m->u.vote_result.granted);
        break;
    case HF_RAFT_MSG_APPEND:
        fill_append(m, &pb);
        break;
    case HF_RAFT_MSG_APPEND_RESULT:
        fill_append_result(m, &pb);
        break;
    case HF_RAFT_MSG_SNAPSHOT:
        fill_snapshot(m, &pb, config);
        break;
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        fill_snapshot_result(m, &pb);
        break;
    case HF_RAFT_MSG_TIMEOUT_NOW:
        break;
    }
    return wire_pack(&pb.base, ret, ret_len);
}

static bool take_append(const Hf__Wire__RaftMsg *pb, struct hf_raft_msg *m)
{
    m->u.append.prev_index = pb->index;
    m->u.append.prev_term = pb->index_term;
    m->u.append.commit_index = pb->commit_index;
    m->u.append.count = pb->count;
    m->u.append.round = pb->round;
    m->u.append.stream = pb->stream;
    m->u.append.incarnation = pb->incarnation;
    m->u.append.rejoin_index = pb->rejoin_index;
    return pb->count <= HF_RAFT_MSG_ENTRIES_MAX;
}

static bool take_append_result(const Hf__Wire__RaftMsg *pb, struct hf_raft_msg *m)
{
    m->u.append_result.status = (enum hf_raft_status)pb->status;
    m->u.append_result.match_index = pb->match_index;
    m->u.append_result.prev_index = pb->index;
    m->u.append_result.hint_index = pb->hint_index;
    m->u.append_result.hint_term = pb->hint_term;
    m->u.append_result.round = pb->round;
    m->u.append_result.stream = pb->stream;
    m->u.append_result.incarnation = pb->incarnation;
    m->u.append_result.whole = pb->whole != 0;
    return pb->status >= HF_RAFT_OK && pb->status <= HF_RAFT_ABSTAIN && pb->incarnation != 0;
}

static bool take_snapshot(const Hf__Wire__RaftMsg *pb, struct hf_raft_msg *m)
{
    m->u.snapshot.index = pb->index;
    m->u.snapshot.snapshot_term = pb->index_term;
    m->u.snapshot.offset_bytes = pb->offset;
    m->u.snapshot.total_bytes = pb->total;
    m->u.snapshot.stream = pb->stream;
    m->u.snapshot.len_bytes = pb->length;
    return pb->length <= HF_FRAME_BULK_MAX && pb->offset <= pb->total &&
           pb->length <= pb->total - pb->offset && pb->has_config &&
           hf_raft_config_decode(pb->config.data, pb->config.len, &m->u.snapshot.config) == 0;
}

static bool take_snapshot_result(const Hf__Wire__RaftMsg *pb, struct hf_raft_msg *m)
{
    m->u.snapshot_result.index = pb->index;
    m->u.snapshot_result.offset_bytes = pb->offset;
    m->u.snapshot_result.stream = pb->stream;
    m->u.snapshot_result.incarnation = pb->incarnation;
    m->u.snapshot_result.match_index = pb->match_index;
    return pb->incarnation != 0;
}

/* Also of fields that do not belong to the type: whoever sends such speaks nonsense. */
static bool numbers_good(const Hf__Wire__RaftMsg *pb)
{
    return number_good(pb->term) && number_good(pb->index) && number_good(pb->index_term) &&
           number_good(pb->commit_index) && number_good(pb->round) && number_good(pb->stream) &&
           number_good(pb->match_index) && number_good(pb->hint_index) &&
           number_good(pb->hint_term) && number_good(pb->rejoin_index) && number_good(pb->offset) &&
           number_good(pb->total);
}

static bool take_msg(const Hf__Wire__RaftMsg *pb, struct hf_raft_msg *m)
{
    if (pb->type < HF_RAFT_MSG_PREVOTE || pb->type > HF_RAFT_MSG_TIMEOUT_NOW ||
        !node_good(pb->from) || !node_good(pb->to) || pb->from == pb->to || !numbers_good(pb)) {
        return false;
    }
    m->type = (enum hf_raft_msg_type)pb->type;
    m->from.v = (uint16_t)pb->from;
    m->to.v = (uint16_t)pb->to;
    m->term = pb->term;
    switch (m->type) {
    case HF_RAFT_MSG_PREVOTE:
    case HF_RAFT_MSG_VOTE:
        m->u.vote.last_index = pb->index;
        m->u.vote.last_term = pb->index_term;
        m->u.vote.transfer = pb->transfer != 0;
        return true;
    case HF_RAFT_MSG_PREVOTE_RESULT:
    case HF_RAFT_MSG_VOTE_RESULT:
        m->u.vote_result.granted = pb->granted != 0;
        return true;
    case HF_RAFT_MSG_APPEND:
        return take_append(pb, m);
    case HF_RAFT_MSG_APPEND_RESULT:
        return take_append_result(pb, m);
    case HF_RAFT_MSG_SNAPSHOT:
        return take_snapshot(pb, m);
    case HF_RAFT_MSG_SNAPSHOT_RESULT:
        return take_snapshot_result(pb, m);
    case HF_RAFT_MSG_TIMEOUT_NOW:
        return true;
    }
    return false;
}

int hf_raft_msg_decode(const void *bytes, size_t len, struct hf_raft_msg *ret)
{
    struct hf_raft_msg m;
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__raft_msg__descriptor, bytes, len, &a, &unpacked);
    if (err) {
        return err;
    }
    memset(&m, 0, sizeof(m));
    good = take_msg((const Hf__Wire__RaftMsg *)unpacked, &m);
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

/* -------------------------------------------------------------------------------------- entries */

size_t hf_raft_entry_bytes(const struct hf_raft_entry *entry)
{
    return (size_t)HF_RAFT_ENTRY_HEAD_BYTES + entry->msg_len + entry->bulk_len;
}

/* Does the payload suit the type? */
static bool payload_good(const struct hf_raft_entry *e)
{
    struct hf_raft_config config;

    if (e->msg_len > HF_RPC_MSG_MAX || e->bulk_len > HF_FRAME_BULK_MAX) {
        return false;
    }
    switch ((enum hf_raft_entry_type)e->type) {
    case HF_RAFT_ENTRY_NOOP:
        return e->msg_len == 0 && e->bulk_len == 0;
    case HF_RAFT_ENTRY_NORMAL:
        return e->msg_len > 0;
    case HF_RAFT_ENTRY_CONFIG:
        return e->bulk_len == 0 && hf_raft_config_decode(e->msg, e->msg_len, &config) == 0;
    }
    return false;
}

void hf_raft_entry_encode(const struct hf_raft_entry *e, uint8_t *ret)
{
    struct hf_writer w = hf_writer_init(ret, hf_raft_entry_bytes(e));

    HF_ASSERT(e->term > 0 && number_good(e->term) && payload_good(e));
    hf_write_le64(&w, e->term);
    hf_write_le64(&w, e->time_ns);
    hf_write_le32(&w, e->msg_len);
    hf_write_le32(&w, e->bulk_len);
    hf_write_le64(&w, e->type); /* and 7 bytes of zero */
    hf_write_bytes(&w, e->msg, e->msg_len);
    hf_write_bytes(&w, e->bulk, e->bulk_len);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_raft_entry_decode(const void *bytes, size_t len, uint64_t index, struct hf_raft_entry *ret,
                         size_t *ret_used)
{
    struct hf_reader r = hf_reader_init(bytes, len);
    struct hf_raft_entry e = {.index = index};
    uint64_t type;

    e.term = hf_read_le64(&r);
    e.time_ns = hf_read_le64(&r);
    e.msg_len = hf_read_le32(&r);
    e.bulk_len = hf_read_le32(&r);
    type = hf_read_le64(&r);
    if (r.bad || e.term == 0 || !number_good(e.term) || type > UINT8_MAX ||
        e.msg_len > HF_RPC_MSG_MAX || e.bulk_len > HF_FRAME_BULK_MAX) {
        return -EBADMSG;
    }
    e.type = (uint8_t)type;
    e.msg = e.msg_len ? hf_read_bytes(&r, e.msg_len) : NULL;
    e.bulk = e.bulk_len ? hf_read_bytes(&r, e.bulk_len) : NULL;
    if (r.bad || !payload_good(&e)) {
        return -EBADMSG;
    }
    *ret = e;
    *ret_used = hf_raft_entry_bytes(&e);
    return 0;
}

/* ------------------------------------------------------------------------------------- founding */

int hf_raft_found_encode(const struct hf_raft_found *m, uint8_t ret[HF_RPC_MSG_MAX],
                         size_t *ret_len)
{
    uint32_t members[HF_RAFT_MEMBERS_MAX], founders[HF_RAFT_MEMBERS_MAX];
    uint64_t incarnations[HF_RAFT_MEMBERS_MAX];
    uint64_t indexes[HF_RAFT_DIGESTS_MAX], digests[HF_RAFT_DIGESTS_MAX];
    Hf__Wire__RaftFound pb;

    if (m->member_count > HF_RAFT_MEMBERS_MAX || m->founder_count > HF_RAFT_MEMBERS_MAX ||
        m->digest_count > HF_RAFT_DIGESTS_MAX) {
        return -EMSGSIZE;
    }
    for (uint32_t i = 0; i < m->member_count; i++) {
        members[i] = m->members[i].v;
    }
    for (uint32_t i = 0; i < m->founder_count; i++) {
        founders[i] = m->founders[i].node.v;
        incarnations[i] = m->founders[i].incarnation;
    }
    for (uint32_t i = 0; i < m->digest_count; i++) {
        indexes[i] = m->digests[i].index;
        digests[i] = m->digests[i].value;
    }
    hf__wire__raft_found__init(&pb);
    WIRE_SET(pb, node, m->node.v);
    WIRE_SET(pb, incarnation, m->incarnation);
    WIRE_SET(pb, state, m->state);
    pb.n_members = m->member_count;
    pb.members = members;
    pb.n_founder_nodes = m->founder_count;
    pb.founder_nodes = founders;
    pb.n_founder_incarnations = m->founder_count;
    pb.founder_incarnations = incarnations;
    WIRE_SET(pb, time, m->wall_ns);
    WIRE_SET(pb, taken_out, m->taken_out);
    pb.n_digest_indexes = m->digest_count;
    pb.digest_indexes = indexes;
    pb.n_digests = m->digest_count;
    pb.digests = digests;
    return wire_pack(&pb.base, ret, ret_len);
}

/* A node's id that was not seen before; @seen has a bit for each. */
static bool node_new(uint64_t id, uint64_t *seen)
{
    static_assert(HF_NODES_MAX <= 64, "a bit each");

    if (!node_good(id) || (*seen >> (id - 1) & 1)) {
        return false;
    }
    *seen |= UINT64_C(1) << (id - 1);
    return true;
}

static bool take_digests(const Hf__Wire__RaftFound *pb, struct hf_raft_found *m)
{
    uint64_t last = 0;

    if (pb->n_digests > HF_RAFT_DIGESTS_MAX || pb->n_digest_indexes != pb->n_digests) {
        return false;
    }
    for (size_t i = 0; i < pb->n_digests; i++) {
        if (pb->digest_indexes[i] <= last || !number_good(pb->digest_indexes[i])) {
            return false;
        }
        last = pb->digest_indexes[i];
        m->digests[i] = (struct hf_raft_digest){.index = last, .value = pb->digests[i]};
    }
    m->digest_count = (uint32_t)pb->n_digests;
    return true;
}

static bool take_found(const Hf__Wire__RaftFound *pb, struct hf_raft_found *m)
{
    uint64_t members_seen = 0, founders_seen = 0;

    if (!node_good(pb->node) || pb->incarnation == 0 || pb->state < HF_RAFT_STORE_NEW ||
        pb->state > HF_RAFT_STORE_JOINING || pb->n_members == 0 ||
        pb->n_members > HF_RAFT_MEMBERS_MAX || pb->n_founder_nodes > HF_RAFT_MEMBERS_MAX ||
        pb->n_founder_incarnations != pb->n_founder_nodes ||
        (pb->state == HF_RAFT_STORE_NEW && pb->n_founder_nodes > 0)) {
        return false;
    }
    for (size_t i = 0; i < pb->n_members; i++) {
        if (!node_new(pb->members[i], &members_seen)) {
            return false;
        }
        m->members[i].v = (uint16_t)pb->members[i];
    }
    for (size_t i = 0; i < pb->n_founder_nodes; i++) {
        if (!node_new(pb->founder_nodes[i], &founders_seen) || pb->founder_incarnations[i] == 0) {
            return false;
        }
        m->founders[i].node.v = (uint16_t)pb->founder_nodes[i];
        m->founders[i].incarnation = pb->founder_incarnations[i];
    }
    m->node.v = (uint16_t)pb->node;
    m->incarnation = pb->incarnation;
    m->state = (uint8_t)pb->state;
    m->member_count = (uint32_t)pb->n_members;
    m->founder_count = (uint32_t)pb->n_founder_nodes;
    m->wall_ns = pb->time;
    m->taken_out = pb->taken_out;
    return take_digests(pb, m);
}

int hf_raft_found_decode(const void *bytes, size_t len, struct hf_raft_found *ret)
{
    struct hf_raft_found m;
    const void *unpacked;
    struct arena *a;
    bool good;
    int err;

    err = wire_unpack(&hf__wire__raft_found__descriptor, bytes, len, &a, &unpacked);
    if (err) {
        return err;
    }
    memset(&m, 0, sizeof(m));
    good = take_found((const Hf__Wire__RaftFound *)unpacked, &m);
    arena_free(a);
    if (!good) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}
