/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster_net.h - what a cluster of drivers is made of, and its network (cluster.h explains).
 */
#ifndef HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_NET_H
#define HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_NET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"
#include "tests/lib/sim_env.h"

#define CL_NODES_MAX   5u
#define CL_VALUES_MAX  8192u
#define CL_ENTRIES_MAX 20000u
#define CL_DIR         "/meta"
#define SEC            HF_NS_PER_SEC
#define MSEC           HF_NS_PER_MS

struct cluster;

struct cl_state { /* what a checkpoint holds */
    uint64_t index, term, count, hash;
    struct hf_raft_config config;
    uint64_t values[CL_VALUES_MAX];
};

enum cl_end { CL_FREE, CL_PENDING, CL_APPLIED, CL_FAILED, CL_GONE };

struct cl_proposal {
    struct hf_raft_proposal raft;
    struct cl_node *node;
    uint8_t *bulk;
    uint64_t value;
    enum cl_end end;
    int err;
};

struct cl_read {
    struct hf_raft_read raft;
    struct cl_read *prev, *next; /* under way */
    struct cl_node *node;
    uint64_t must_see; /* index */
};

struct cl_node {
    struct cluster *c;
    struct hf_env *env;
    struct hf_node_id id;
    struct hf_raft_driver *driver; /* NULL: down */
    struct hf_bufpool *pool;
    struct cl_state state, checkpoint;
    bool checkpointing, leading, failed, closing;
    bool cannot_lead; /* the next time that it should */
    bool gives_up;    /* while it applies the next entry */
    bool damaged;     /* by the test, and not whole again yet */
    struct cl_load *load;
    uint32_t member_count; /* of its configuration file */
    bool must_join;
    uint64_t since_checkpoint;
    uint64_t damage; /* of its state: added to the digest it tells */
    uint32_t snapshots_loaded, leads, follows;
};

struct cl_packet {
    struct cl_packet *prev, *next;
    struct cluster *c;
    struct hf_timer timer;
    uint16_t from, to;
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t msg_len;
    int err; /* of an answer */
    const struct iovec *iov;
    int iov_count;
    uint8_t *bulk;
    size_t bulk_len;
    void (*release)(void *arg);
    void (*done)(void *arg, int err, const void *msg, size_t msg_len);
    void *arg;
};

struct cluster {
    struct hf_sim *sim;
    uint32_t count;
    struct cl_node nodes[CL_NODES_MAX];
    struct cl_packet *packets;
    uint64_t sent_ns[CL_NODES_MAX][CL_NODES_MAX], arrives_ns[CL_NODES_MAX][CL_NODES_MAX];
    bool cut[CL_NODES_MAX][CL_NODES_MAX]; /* from, to */
    uint32_t loss_per_mille;
    uint64_t delay_max_ns;
    uint64_t chunk_delay_max_ns; /* more, for messages with much bulk, and those behind them */
    uint64_t keep_bytes, pin_bytes, segment_bytes, checkpoint_every, pad_bytes;
    uint64_t digest_every;
    uint64_t saves;
    uint64_t save_ns; /* how long a snapshot takes to be written */
    bool late_loads;  /* snapshots fail to load when they are in their place */
    bool stale_saves; /* machines give snapshots that are too old */
    bool chatty;      /* machines propose and read from within their callbacks */
    uint32_t bulk_max;

    struct {
        uint64_t term, time_ns, value;
        uint8_t type;
    } truth[CL_ENTRIES_MAX];
    uint64_t truth_last;
    uint64_t acked_index; /* of the last entry applied with its proposal */
    uint64_t value_index[CL_VALUES_MAX];
    struct cl_proposal *proposals; /* by value */
    uint64_t last_value;
    struct cl_read *reads;
    uint64_t reads_done, reads_failed, steps;
};

/* The network */

static inline struct cl_node *cl_node(struct cluster *c, uint32_t id)
{
    assert_in_range(id, 1, c->count);
    return &c->nodes[id - 1];
}

static inline void cl_packet_free(struct cl_packet *p)
{
    if (p->prev) {
        p->prev->next = p->next;
    } else {
        p->c->packets = p->next;
    }
    if (p->next) {
        p->next->prev = p->prev;
    }
    hf_timer_fini(&p->timer);
    free(p->bulk);
    free(p);
}

/* In order, each a little later than the one before. */
static inline void cl_schedule(struct cl_packet *p, struct hf_env *env, uint64_t *last_ns,
                               uint64_t max_ns, void (*fn)(void *ctx))
{
    const uint64_t now_ns = hf_sim_now_ns(p->c->sim);
    uint64_t at_ns = now_ns + 1000 + hf_sim_random_below(p->c->sim, max_ns);

    at_ns = at_ns > *last_ns ? at_ns : *last_ns + 1;
    *last_ns = at_ns;
    hf_timer_fini(&p->timer);
    hf_timer_init(&p->timer, env, fn, p);
    hf_timer_arm(&p->timer, at_ns - now_ns);
}

static inline bool cl_lost(struct cl_packet *p)
{
    struct cluster *c = p->c;

    return c->cut[p->from - 1][p->to - 1] || !cl_node(c, p->to)->driver ||
           cl_node(c, p->to)->closing || hf_sim_random_below(c->sim, 1000) < c->loss_per_mille;
}

static inline void cl_arrives(void *ctx)
{
    struct cl_packet *p = ctx;
    struct cl_node *to = cl_node(p->c, p->to);
    struct hf_buf *bulk = NULL;

    if (!cl_lost(p)) {
        if (p->bulk_len > 0) {
            bulk = hf_buf_get(to->pool, p->bulk_len);
            assert_non_null(bulk);
            memcpy(bulk->data, p->bulk, p->bulk_len);
            bulk->len_bytes = p->bulk_len;
        }
        hf_raft_driver_received(to->driver, (struct hf_node_id){p->from}, p->msg, p->msg_len, bulk);
        hf_buf_unref(bulk);
    }
    cl_packet_free(p);
}

/* Only now the pieces are read, and given back. */
static inline void cl_leaves(void *ctx)
{
    struct cl_packet *p = ctx;
    size_t len = 0;

    for (int i = 0; i < p->iov_count; i++) {
        len += p->iov[i].iov_len;
    }
    assert_true(len <= HF_FRAME_BULK_MAX);
    p->bulk = malloc(len + 1);
    assert_non_null(p->bulk);
    for (int i = 0; i < p->iov_count; i++) {
        memcpy(p->bulk + p->bulk_len, p->iov[i].iov_base, p->iov[i].iov_len);
        p->bulk_len += p->iov[i].iov_len;
    }
    p->release(p->arg);
    p->release = NULL;
    if (cl_lost(p)) {
        cl_packet_free(p);
        return;
    }
    cl_schedule(p, cl_node(p->c, p->to)->env, &p->c->arrives_ns[p->from - 1][p->to - 1],
                p->c->delay_max_ns +
                    (p->bulk_len > HF_FRAME_BULK_MAX / 2 ? p->c->chunk_delay_max_ns : 0),
                cl_arrives);
}

static inline struct cl_packet *cl_packet_new(struct cl_node *from, struct hf_node_id to,
                                              const void *msg, size_t msg_len)
{
    struct cl_packet *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    assert_true(msg_len <= sizeof(p->msg));
    p->c = from->c;
    p->from = from->id.v;
    p->to = to.v;
    memcpy(p->msg, msg, msg_len);
    p->msg_len = msg_len;
    p->next = p->c->packets;
    if (p->next) {
        p->next->prev = p;
    }
    p->c->packets = p;
    return p;
}

static inline void cl_send(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                           const struct iovec *iov, int iov_count, void (*release)(void *arg),
                           void *arg)
{
    struct cl_node *from = ctx;
    struct cl_packet *p = cl_packet_new(from, to, msg, msg_len);

    p->iov = iov;
    p->iov_count = iov_count;
    p->release = release;
    p->arg = arg;
    if (to.v < 1 || to.v > p->c->count) { /* a member of the configuration that does not exist */
        p->to = p->from;
    }
    cl_schedule(p, from->env, &p->c->sent_ns[p->from - 1][p->to - 1], 50 * HF_NS_PER_US, cl_leaves);
}

static inline void cl_answered(void *ctx)
{
    struct cl_packet *p = ctx;
    void (*done)(void *, int, const void *, size_t) = p->done;

    p->done = NULL;
    if (cl_node(p->c, p->from)->driver) {
        done(p->arg, p->err, p->msg, p->msg_len);
    }
    cl_packet_free(p);
}

static inline void cl_asked(void *ctx)
{
    struct cl_packet *p = ctx;
    struct cl_node *to = cl_node(p->c, p->to);
    uint8_t reply[HF_RPC_MSG_MAX];
    uint64_t any_ns = 0;

    p->err = -ETIMEDOUT;
    if (!cl_lost(p)) {
        p->err = hf_raft_driver_asked(to->driver, p->msg, p->msg_len, reply, &p->msg_len);
        memcpy(p->msg, reply, p->err ? 0 : p->msg_len);
    }
    cl_schedule(p, cl_node(p->c, p->from)->env, &any_ns,
                p->err == -ETIMEDOUT ? 300 * MSEC : p->c->delay_max_ns, cl_answered);
}

static inline void cl_ask(void *ctx, struct hf_node_id to, const void *msg, size_t msg_len,
                          void (*done)(void *arg, int err, const void *msg, size_t msg_len),
                          void *arg)
{
    struct cl_node *from = ctx;
    struct cl_packet *p = cl_packet_new(from, to, msg, msg_len);
    uint64_t any_ns = 0;

    p->done = done;
    p->arg = arg;
    assert_false(from->closing);
    cl_schedule(p, from->env, &any_ns, p->c->delay_max_ns, cl_asked);
}

#endif
