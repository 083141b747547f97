/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.h - the calls of one peer: found by id, ordered by deadline. For client.c.
 *
 * An id is a slot's index and a turn number: a late answer never meets a later call. The deadlines
 * are a binary heap; a new call usually has the latest one, which costs one comparison.
 */
#ifndef HF_RPC_CALLS_H
#define HF_RPC_CALLS_H

#include <assert.h>
#include <sys/queue.h>

#include "common/rpc/conn.h"
#include "common/rpc/rpc.h"

enum call_phase {
    CALL_WAITING,  /* for a connection */
    CALL_SENT,     /* given to the connection */
    CALL_FINISHED, /* done() runs soon */
};

/* Lives in hf_rpc_call.impl from hf_rpc_call() until done(). */
struct call_state {
    struct hf_rpc_peer *peer;
    uint64_t id;
    uint64_t deadline_ns;
    TAILQ_ENTRY(call_state) link; /* the list of its phase */
    struct hf_out *out;           /* its frame, while it is not wholly sent */
    uint32_t heap_at;
    uint32_t attempt; /* WAITING: connection attempts begun when it came */
    enum call_phase phase;
    int err;
};

static_assert(sizeof(struct call_state) <= sizeof(((struct hf_rpc_call *)0)->impl), "it fits");

TAILQ_HEAD(call_list, call_state);

static inline struct call_state *call_state_of(struct hf_rpc_call *call)
{
    return (struct call_state *)call->impl;
}

static inline struct hf_rpc_call *call_of(struct call_state *s)
{
    return (struct hf_rpc_call *)((char *)s - offsetof(struct hf_rpc_call, impl));
}

struct calls {
    struct call_slot *slots;
    struct call_state **heap; /* [0]: earliest deadline */
    uint32_t slot_count;
    uint32_t free_slot; /* first of the free list; slot_count: none */
    uint32_t count;
    uint32_t turn;
};

void calls_init(struct calls *c);
/** Empty. */
void calls_fini(struct calls *c);
/** Sets s->id. Errors: -ENOMEM; -EBUSY  a million calls at a time. */
int calls_add(struct calls *c, struct call_state *s);
void calls_remove(struct calls *c, struct call_state *s);
/** NULL: no such call (any more). */
struct call_state *calls_find(const struct calls *c, uint64_t id);
/** The one with the earliest deadline; NULL: none. */
struct call_state *calls_first(const struct calls *c);
/** Every call has its slot and its place by deadline; what is not free holds one. */
void calls_check_invariants(const struct calls *c);

#endif
