/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what Raft nodes send each other and keep in their logs, as bytes. docs/format/raft.md.
 *
 *     messages        protobuf RaftMsg, one-way, method HF_M_RAFT; bulk: entries, or a chunk
 *     founding        protobuf RaftFound, request and reply, method HF_M_RAFT_FOUND
 *     configurations  fixed layout: payload of CONFIG entries, mark of a checkpoint
 *     entries         fixed layout, one behind the other: bulk of an append, records of the log
 *
 * Decoders believe nothing: enums, ids, counts, lengths and numbers are in their bounds afterwards.
 * How the numbers of a message go together is for hf_raft_step() to judge.
 * Pure; no threads.
 */
#ifndef HF_RAFT_WIRE_H
#define HF_RAFT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "server/raft/raft.h"

/* Messages */

/** Only what belongs to the message's type is sent. Errors: -EMSGSIZE. */
int hf_raft_msg_encode(const struct hf_raft_msg *msg, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);
/** Fields of other types than the message's are dropped. Errors: -EBADMSG, -ENOMEM. */
int hf_raft_msg_decode(const void *bytes, size_t len, struct hf_raft_msg *ret);

/* Configurations */

#define HF_RAFT_CONFIG_BYTES_MAX 64u

/** @config must be valid. Returns the length. */
size_t hf_raft_config_encode(const struct hf_raft_config *config,
                             uint8_t ret[HF_RAFT_CONFIG_BYTES_MAX]);
/** Errors: -EBADMSG, also when !hf_raft_config_valid(). */
int hf_raft_config_decode(const void *bytes, size_t len, struct hf_raft_config *ret);

/* Entries */

#define HF_RAFT_ENTRY_HEAD_BYTES 32u
#define HF_RAFT_ENTRY_BYTES_MAX  (HF_RAFT_ENTRY_HEAD_BYTES + HF_RPC_MSG_MAX + HF_FRAME_BULK_MAX)

/** With its payload. One that is to be sent must fit HF_FRAME_BULK_MAX as a whole. */
struct hf_raft_entry {
    uint64_t index;
    uint64_t term;
    uint64_t time_ns;    /* the leader's wall clock when it was proposed */
    uint8_t type;        /* enum hf_raft_entry_type */
    const uint8_t *msg;  /* borrowed; NORMAL: the driver's; CONFIG: encoded; NOOP: NULL */
    const uint8_t *bulk; /* borrowed; NORMAL only; NULL: none */
    uint32_t msg_len;    /* <= HF_RPC_MSG_MAX */
    uint32_t bulk_len;   /* <= HF_FRAME_BULK_MAX */
};

size_t hf_raft_entry_bytes(const struct hf_raft_entry *entry);
/** The index is not in the bytes: entries are consecutive. @ret hf_raft_entry_bytes() of room. */
void hf_raft_entry_encode(const struct hf_raft_entry *entry, uint8_t *ret);
/**
 * Take the first entry off @bytes; what it points to is borrowed from there.
 *
 * @index     the entry's, known to the caller
 * @ret_used  bytes it took
 * Errors: -EBADMSG  cut short, out of bounds, unknown type, reserved bytes not zero, a bad
 *                   configuration, a no-op with payload, a NORMAL without message
 */
int hf_raft_entry_decode(const void *bytes, size_t len, uint64_t index, struct hf_raft_entry *ret,
                         size_t *ret_used);

/* Founding: how new nodes agree that they are a new cluster */

enum hf_raft_store_state {
    HF_RAFT_STORE_NEW = 1, /* empty */
    HF_RAFT_STORE_FOUNDED, /* it holds a cluster's log, or held one */
    HF_RAFT_STORE_JOINING, /* empty, and will be filled by a cluster that exists */
};

struct hf_raft_founder {
    struct hf_node_id node;
    uint64_t incarnation; /* of its store then */
};

#define HF_RAFT_DIGESTS_MAX 64u

/** Of the state machine after the entry at index. */
struct hf_raft_digest {
    uint64_t index, value;
};

/** What a node says of its own store; request and reply alike. */
struct hf_raft_found {
    struct hf_node_id node;
    uint64_t incarnation; /* not 0 */
    uint8_t state;        /* enum hf_raft_store_state */
    uint32_t member_count;
    struct hf_node_id members[HF_RAFT_MEMBERS_MAX]; /* metadata nodes of its configuration file,
                                                       each once; at least one */
    uint32_t founder_count; /* who founded the cluster, each once; NEW: none */
    struct hf_raft_founder founders[HF_RAFT_MEMBERS_MAX];
    uint64_t wall_ns;      /* its clock, so that clocks far apart are noticed */
    bool taken_out;        /* its state differed from that of a majority: it takes no part */
    uint32_t digest_count; /* replies only */
    struct hf_raft_digest digests[HF_RAFT_DIGESTS_MAX]; /* of its state; indexes rise strictly */
};

/** Errors: -EMSGSIZE. */
int hf_raft_found_encode(const struct hf_raft_found *found, uint8_t ret[HF_RPC_MSG_MAX],
                         size_t *ret_len);
/** Errors: -EBADMSG, -ENOMEM. */
int hf_raft_found_decode(const void *bytes, size_t len, struct hf_raft_found *ret);

#endif
