/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_cluster.h - hf_session_* and hf_io_* in memory: the real state machine, a map of objects.
 *
 * Operations are applied in order after a chance delay and answered after another, in any order;
 * looks see the state of some moment between question and answer. Puts check that lent bytes do not
 * change. Faults: puts and commits that fail.
 *
 * Include it in one file of a test program: it defines the symbols of client/meta and client/io.
 */
#ifndef TESTS_LIB_FAKE_CLUSTER_H
#define TESTS_LIB_FAKE_CLUSTER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/io/io.h"
#include "client/meta/session.h"
#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/table/table.h"
#include "server/meta/state.h"
#include "tests/lib/sim_env.h"
#include "tests/sweep/sweep.h"

#define FC_LOOK_BYTES (2u << 20)
#define FC_OBJECTS    65536u

struct fc_object {
    struct hf_oid oid;
    uint32_t len;
    uint8_t *data;
    struct fc_object *next;
};

struct fc_event { /* something due later */
    struct hf_timer timer;
    void (*fn)(struct fc_event *event);
    struct fc_cluster *cluster;
    struct hf_meta_call *call;
    struct hf_meta_reply reply;
    uint8_t *msg;
    size_t msg_len;
    uint8_t *bulk;
    size_t bulk_len;
    void *arg;
    void (*done)(void *ctx, int err);
    int err;
    struct fc_event *next;
};

struct fc_cluster {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_table_model *model;
    struct hf_table *table;
    struct hf_meta *meta;
    struct hf_bufpool *pool;
    uint64_t index;
    struct hf_session_id session;
    uint64_t stream, applied_ops;
    uint64_t next_ino, ino_end, next_seq;
    struct fc_event *ops, **ops_tail; /* submitted, not applied */
    uint8_t *look;
    struct fc_object *objects[FC_OBJECTS];
    uint64_t object_count, puts_running;
    uint64_t budget_max, budget_used, reservable, spare;
    uint64_t space_windows; /* the most that one PUNCH or ALLOCATE went through */
    uint32_t waits;         /* budget waits under way */
    /* faults: one in so many; 0: never */
    uint32_t put_fail_one_in, commit_fail_one_in;
    int put_err, commit_err;
    uint64_t delay_max_ns;
    uint64_t op_delay_ns; /* of operations, on top of that */
    bool gets_held;       /* none is answered before it is false */
    bool lost;
    unsigned map_refreshes;
    uint64_t holders[4]; /* that whatever takes a name away says */
    uint32_t holder_count;
    bool keep_replaced; /* who renames over a file may be about to open it */
    uint32_t open_looks, releases, waits_ended, extent_looks;
    uint64_t opened_ino, opened_number; /* by the last OPEN: as much as is known of open files */
};

struct hf_session {
    struct fc_cluster *c;
};
struct hf_io {
    struct fc_cluster *c;
};

static struct hf_session fc_session;
static struct hf_io fc_io;

static uint64_t fc_below(struct fc_cluster *c, uint64_t end)
{
    return hf_sim_random_below(c->sim, end);
}

static uint64_t fc_delay(struct fc_cluster *c)
{
    return fc_below(c, c->delay_max_ns) + 1;
}

static void fc_fire(void *ctx)
{
    struct fc_event *event = ctx;

    hf_timer_disarm(&event->timer);
    event->fn(event);
}

static struct fc_event *fc_event_new(struct fc_cluster *c, void (*fn)(struct fc_event *event))
{
    struct fc_event *event = calloc(1, sizeof(*event));

    HF_ASSERT(event);
    event->fn = fn;
    event->cluster = c;
    hf_timer_init(&event->timer, c->env, fc_fire, event);
    return event;
}

static void fc_event_later(struct fc_event *event, void (*fn)(struct fc_event *event))
{
    event->fn = fn;
    hf_timer_arm(&event->timer, fc_delay(event->cluster));
}

static uint8_t *fc_dup(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);

    HF_ASSERT(copy);
    memcpy(copy, data, len);
    return copy;
}

static void fc_event_free(struct fc_event *event)
{
    hf_timer_fini(&event->timer);
    free(event->msg);
    free(event->bulk);
    free(event);
}

/* The state machine */

static void fc_apply(struct fc_cluster *c, struct hf_meta_op *op, struct hf_meta_reply *reply)
{
    struct hf_meta_entry entry = {
        .index = ++c->index, .term = 1, .time_ns = hf_env_wall_ns(c->env), .op = op};

    hf_sweep_hold();
    HF_ASSERT(hf_meta_apply(c->meta, &entry, reply) == 0);
    hf_sweep_release();
}

static void fc_answer(struct fc_event *event)
{
    event->reply.bulk = event->bulk;
    event->reply.bulk_len = event->bulk_len;
    event->call->done(event->call, &event->reply);
    fc_event_free(event);
}

static void fc_op_due(struct fc_event *event)
{
    struct fc_cluster *c = event->cluster;
    struct fc_event *head = c->ops; /* whichever tick is due: the first is applied */
    struct hf_meta_op op;
    void *mem = NULL;

    fc_event_free(event);
    c->ops = head->next;
    if (!c->ops) {
        c->ops_tail = &c->ops;
    }
    hf_sweep_hold();
    HF_ASSERT(hf_meta_op_decode(head->msg, head->msg_len, head->bulk, head->bulk_len, &op, &mem) ==
              0);
    hf_sweep_release();
    if (c->lost) {
        head->reply.err = -HF_EFENCED;
    } else if (op.op == HF_OP_WRITE && c->commit_fail_one_in &&
               fc_below(c, c->commit_fail_one_in) == 0) {
        head->reply.err = c->commit_err;
    } else {
        op.session = c->session;
        op.stream = ++c->stream;
        if (c->keep_replaced && op.op == HF_OP_RENAME) {
            op.holders = &c->session.v;
            op.holder_count = 1;
        } else if (op.op == HF_OP_UNLINK || op.op == HF_OP_RENAME) {
            op.holders = c->holders;
            op.holder_count = c->holder_count;
        }
        fc_apply(c, &op, &head->reply);
        c->applied_ops++;
    }
    hf_meta_op_release(mem);
    free(head->bulk);
    head->bulk_len = head->reply.bulk_len;
    head->bulk = head->bulk_len > 0 ? fc_dup(head->reply.bulk, head->bulk_len) : NULL;
    fc_event_later(head, fc_answer);
}

static uint64_t fc_windows(const struct hf_meta_op *op)
{
    uint64_t end = op->offset + op->length;

    if (op->op != HF_OP_PUNCH && op->op != HF_OP_ALLOCATE) {
        return 0;
    }
    return (end + HF_WINDOW_BYTES - 1) / HF_WINDOW_BYTES - op->offset / HF_WINDOW_BYTES;
}

/* As the leader makes it. */
static struct hf_meta_op fc_logged(struct fc_cluster *c, const struct hf_meta_op *op)
{
    struct hf_meta_op logged = *op;

    if (op->flags & HF_ALLOC_RESERVE) {
        logged.size = op->size < c->reservable ? c->reservable - op->size : 0;
    }
    if (op->op == HF_OP_SETATTR && (op->mask & HF_SET_SIZE)) {
        logged.flags |= HF_TRUNCATE_BOUNDED;
    }
    logged.time_ns = op->time_ns ? op->time_ns : hf_env_wall_ns(c->env);
    c->space_windows = fc_windows(op) > c->space_windows ? fc_windows(op) : c->space_windows;
    return logged;
}

void hf_session_op(struct hf_session *session, const struct hf_meta_op *op,
                   struct hf_meta_call *call)
{
    struct fc_cluster *c = session->c;
    struct fc_event *event = fc_event_new(c, fc_answer);
    struct hf_meta_op logged = fc_logged(c, op);
    uint8_t msg[HF_RPC_MSG_MAX];

    event->call = call;
    HF_ASSERT(hf_meta_op_encode(&logged, msg, &event->msg_len) == 0);
    event->msg = fc_dup(msg, event->msg_len);
    if (op->bulk_len > 0) {
        event->bulk = malloc(op->bulk_len);
        HF_ASSERT(event->bulk);
        memcpy(event->bulk, op->bulk, op->bulk_len);
        event->bulk_len = op->bulk_len;
    }
    *c->ops_tail = event;
    c->ops_tail = &event->next;
    hf_timer_arm(&fc_event_new(c, fc_op_due)->timer, c->op_delay_ns + fc_delay(c));
}

/* What is an orphan goes, unless it was opened again under a higher number. */
static void fc_release(struct fc_cluster *c, const struct hf_meta_read *rd)
{
    for (uint32_t i = 0; i + 1 < rd->ino_count; i += 2) {
        struct hf_meta_op op = {
            .op = HF_OP_ORPHAN_RELEASE, .session = c->session, .ino = {rd->inos[i]}};
        struct hf_session_id holder;
        struct hf_meta_reply reply = {0};
        struct hf_ino found;

        if (rd->inos[i] == c->opened_ino && rd->inos[i + 1] < c->opened_number) {
            continue;
        }
        if (hf_meta_orphans(c->meta, (struct hf_ino){op.ino.v - 1},
                            (struct hf_session_id){UINT64_MAX}, &found, &holder, 1) == 1 &&
            found.v == op.ino.v) {
            fc_apply(c, &op, &reply);
        }
    }
}

static void fc_read_due(struct fc_event *event)
{
    struct fc_cluster *c = event->cluster;
    struct hf_meta_read rd;
    void *mem = NULL;

    hf_sweep_hold();
    HF_ASSERT(hf_meta_read_decode(event->msg, event->msg_len, &rd, &mem) == 0);
    hf_sweep_release();
    rd.session = c->session;
    if (rd.op == HF_RD_OPEN) {
        c->open_looks++;
        rd.op = HF_RD_GETATTR;
    }
    if (c->lost) {
        event->reply.err = -HF_EFENCED;
    } else if (rd.op == HF_RD_RELEASE) {
        c->releases += rd.ino_count / 2;
        fc_release(c, &rd);
    } else if (rd.op == HF_RD_LOCK_WAIT) {
        event->reply.err = -EAGAIN;
        c->waits_ended += rd.lock_type == F_UNLCK;
    } else {
        c->extent_looks += rd.op == HF_RD_EXTENTS;
        hf_sweep_hold();
        hf_meta_read(c->meta, &rd, &event->reply, c->look, FC_LOOK_BYTES);
        hf_sweep_release();
        if (event->reply.bulk_len > 0) {
            event->bulk = malloc(event->reply.bulk_len);
            HF_ASSERT(event->bulk);
            memcpy(event->bulk, event->reply.bulk, event->reply.bulk_len);
            event->bulk_len = event->reply.bulk_len;
        }
    }
    hf_meta_op_release(mem);
    fc_event_later(event, fc_answer);
}

void hf_session_unwanted(struct hf_meta_call *call)
{
    (void)call; /* nothing is sent twice here */
}

void hf_session_read(struct hf_session *session, const struct hf_meta_read *rd,
                     struct hf_meta_call *call)
{
    struct fc_event *event = fc_event_new(session->c, fc_read_due);
    uint8_t msg[HF_RPC_MSG_MAX];

    event->call = call;
    if (rd->op == HF_RD_OPEN) {
        session->c->opened_ino = rd->ino.v;
        session->c->opened_number = rd->cookie;
    }
    HF_ASSERT(hf_meta_read_encode(rd, msg, &event->msg_len) == 0);
    event->msg = fc_dup(msg, event->msg_len);
    fc_event_later(event, fc_read_due);
}

static void fc_wait_done(struct fc_event *event)
{
    void (*done)(void *, int) = event->done;
    void *arg = event->arg;
    int err = event->err;

    event->cluster->waits--;
    fc_event_free(event);
    done(arg, err);
}

static void fc_wait(struct fc_cluster *c, void (*done)(void *ctx, int err), void *ctx, int err)
{
    struct fc_event *event = fc_event_new(c, fc_wait_done);

    event->done = done;
    event->arg = ctx;
    event->err = err;
    c->waits++;
    fc_event_later(event, fc_wait_done);
}

int hf_session_next_ino(struct hf_session *session, struct hf_ino *ret)
{
    struct fc_cluster *c = session->c;

    if (c->lost) {
        return -HF_EFENCED;
    }
    if (fc_below(c, 4) == 0) {
        return -EAGAIN;
    }
    HF_ASSERT(c->next_ino < c->ino_end);
    ret->v = c->next_ino++;
    return 0;
}

void hf_session_wait_ino(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    fc_wait(session->c, done, ctx, 0);
}

int hf_session_take_budget(struct hf_session *session, uint64_t bytes)
{
    struct fc_cluster *c = session->c;

    if (c->budget_used + bytes > c->budget_max) {
        return -EAGAIN;
    }
    c->budget_used += bytes;
    return 0;
}

void hf_session_give_budget(struct hf_session *session, uint64_t bytes)
{
    HF_ASSERT(session->c->budget_used >= bytes);
    session->c->budget_used -= bytes;
}

void hf_session_spend_budget(struct hf_session *session, uint64_t bytes)
{
    hf_session_give_budget(session, bytes);
}

void hf_session_no_space(struct hf_session *session)
{
    (void)session;
}

void hf_session_refresh_map(struct hf_session *session)
{
    session->c->map_refreshes++;
}

void hf_session_wait_budget(struct hf_session *session, uint64_t bytes,
                            void (*done)(void *ctx, int err), void *ctx)
{
    fc_wait(session->c, done, ctx, bytes > session->c->budget_max ? -ENOSPC : 0);
}

void hf_session_drop_spare(struct hf_session *session, void (*done)(void *ctx, int err), void *ctx)
{
    session->c->reservable += session->c->spare;
    session->c->spare = 0;
    fc_wait(session->c, done, ctx, 0);
}

bool hf_session_live(const struct hf_session *session)
{
    return !session->c->lost;
}

/* Objects */

struct fc_put {
    struct fc_cluster *c;
    struct hf_io_put *put;
    struct iovec *iov;
    uint64_t *sums;
    uint32_t count, cap, bytes;
    struct hf_timer timer;
};

static uint64_t fc_sum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = 14695981039346656037u, w;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 1099511628211u;
    }
    for (; len > 0; len--) {
        h = (h ^ *p++) * 1099511628211u;
    }
    return h;
}

static struct fc_object **fc_find(struct fc_cluster *c, const struct hf_oid *oid)
{
    struct fc_object **at = &c->objects[oid->seq % FC_OBJECTS];

    while (*at && !hf_oid_equal(&(*at)->oid, oid)) {
        at = &(*at)->next;
    }
    return at;
}

static void fc_store(struct fc_put *p)
{
    struct fc_cluster *c = p->c;
    struct fc_object *o = calloc(1, sizeof(*o));
    struct hf_io_put *put = p->put;
    uint32_t at = 0;

    HF_ASSERT(o);
    o->data = malloc(p->bytes);
    HF_ASSERT(o->data);
    for (uint32_t i = 0; i < p->count; i++) {
        HF_ASSERT(fc_sum(p->iov[i].iov_base, p->iov[i].iov_len) == p->sums[i]);
        memcpy(o->data + at, p->iov[i].iov_base, p->iov[i].iov_len);
        at += (uint32_t)p->iov[i].iov_len;
    }
    o->len = p->bytes;
    o->oid = (struct hf_oid){.session = c->session.v, .seq = c->next_seq++};
    o->oid.group = (uint16_t)(o->oid.seq % 4);
    *fc_find(c, &o->oid) = o;
    c->object_count++;
    put->oid = o->oid;
    put->len_bytes = p->bytes;
    put->digest = fc_sum(o->data, o->len);
    put->holders = 7;
    put->epoch = hf_meta_map(c->meta)->groups[o->oid.group].epoch;
}

static void fc_put_due(void *ctx)
{
    struct fc_put *p = ctx;
    struct fc_cluster *c = p->c;
    struct hf_io_put *put = p->put;
    int err = 0;

    hf_timer_fini(&p->timer);
    if (c->lost) {
        err = -HF_EFENCED;
    } else if (c->put_fail_one_in && fc_below(c, c->put_fail_one_in) == 0) {
        err = c->put_err;
    } else {
        fc_store(p);
    }
    free(p->iov);
    free(p->sums);
    free(p);
    c->puts_running--;
    put->done(put, err);
}

void hf_io_put_begin(struct hf_io *io, struct hf_io_put *put)
{
    struct fc_put *p = calloc(1, sizeof(*p));

    HF_ASSERT(p);
    p->c = io->c;
    p->put = put;
    put->impl[0] = p;
    io->c->puts_running++;
    hf_timer_init(&p->timer, io->c->env, fc_put_due, p);
}

void hf_io_put_append(struct hf_io_put *put, const struct iovec *iov, int iov_count)
{
    struct fc_put *p = put->impl[0];

    for (int i = 0; i < iov_count; i++) {
        HF_ASSERT(iov[i].iov_len > 0);
        if (p->count == p->cap) {
            p->cap = p->cap * 2 + 16;
            p->iov = realloc(p->iov, p->cap * sizeof(*p->iov));
            p->sums = realloc(p->sums, p->cap * sizeof(*p->sums));
            HF_ASSERT(p->iov && p->sums);
        }
        p->sums[p->count] = fc_sum(iov[i].iov_base, iov[i].iov_len);
        p->iov[p->count++] = iov[i];
        p->bytes += (uint32_t)iov[i].iov_len;
    }
    HF_ASSERT(p->bytes <= HF_OBJECT_BYTES_MAX);
}

void hf_io_put_finish(struct hf_io_put *put)
{
    struct fc_put *p = put->impl[0];

    HF_ASSERT(p->bytes > 0);
    hf_timer_arm(&p->timer, fc_delay(p->c) * 8);
}

struct fc_get {
    struct fc_cluster *c;
    struct hf_io_get *get;
    struct hf_timer timer;
};

static void fc_slices(struct fc_cluster *c, struct hf_io_get *get, const struct fc_object *o)
{
    uint32_t at = 0;

    get->slice_count = 0;
    while (at < get->len_bytes) {
        struct hf_io_slice *s = &get->slices[get->slice_count++];
        uint32_t left = get->len_bytes - at, n = left;

        if (get->slice_count < HF_IO_SLICES_MAX && fc_below(c, 3) == 0) {
            n = 1 + (uint32_t)fc_below(c, left);
        }
        s->off_bytes = (uint32_t)fc_below(c, 100);
        s->len_bytes = n;
        hf_sweep_hold();
        s->buf = hf_buf_get(c->pool, s->off_bytes + n);
        hf_sweep_release();
        HF_ASSERT(s->buf);
        memcpy(s->buf->data + s->off_bytes, o->data + get->off_bytes + at, n);
        at += n;
    }
}

static void fc_get_due(void *ctx)
{
    struct fc_get *g = ctx;
    struct hf_io_get *get = g->get;
    struct fc_object *o = *fc_find(g->c, &get->oid);
    int err = o ? 0 : -HF_ENOOBJECT;

    if (g->c->gets_held) {
        hf_timer_arm(&g->timer, 10 * HF_NS_PER_MS);
        return;
    }
    if (o) {
        HF_ASSERT(get->off_bytes + get->len_bytes <= o->len && get->len_bytes > 0);
        fc_slices(g->c, get, o);
    }
    hf_timer_fini(&g->timer);
    free(g);
    get->done(get, err);
}

void hf_io_get(struct hf_io *io, struct hf_io_get *get)
{
    struct fc_get *g = calloc(1, sizeof(*g));

    HF_ASSERT(g);
    g->c = io->c;
    g->get = get;
    hf_timer_init(&g->timer, io->c->env, fc_get_due, g);
    hf_timer_arm(&g->timer, fc_delay(io->c));
}

void hf_io_prefetch(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                    uint32_t len_bytes)
{
    struct fc_object *o = *fc_find(io->c, oid);

    HF_ASSERT(!o || off_bytes + len_bytes <= o->len);
}

/* Life */

static void fc_format(struct fc_cluster *c)
{
    struct hf_meta_reply reply;
    struct hf_meta_op op = {
        .op = HF_OP_FORMAT, .uuid = {{1}}, .count = 3, .size = 2, .mode = 4, .offset = 77};
    uint64_t members[2] = {0x030201, 0};

    fc_apply(c, &op, &reply);
    for (uint16_t n = 1; n <= 3; n++) {
        op = (struct hf_meta_op){.op = HF_OP_NODE_ADD,
                                 .node = {n},
                                 .text = "127.0.0.1:7000",
                                 .name = "rack",
                                 .name_len = 4,
                                 .count = 100,
                                 .node_state = HF_NODE_UP};
        fc_apply(c, &op, &reply);
        HF_ASSERT(reply.err == 0);
    }
    for (uint32_t g = 0; g < 4; g++) {
        op = (struct hf_meta_op){
            .op = HF_OP_GROUP_SET, .count = g, .holders = members, .holder_count = 2};
        fc_apply(c, &op, &reply);
        HF_ASSERT(reply.err == 0);
    }
    op = (struct hf_meta_op){
        .op = HF_OP_SESSION_OPEN, .uuid = {{9}}, .text = "mount", .ttl_ns = 30 * HF_NS_PER_SEC};
    fc_apply(c, &op, &reply);
    HF_ASSERT(reply.err == 0);
    c->session = reply.session;
    c->next_ino = reply.first_ino.v;
    c->ino_end = c->next_ino + reply.ino_count;
}

static struct fc_cluster *fc_new(uint64_t seed)
{
    struct fc_cluster *c = calloc(1, sizeof(*c));
    struct hf_table_base *base;

    HF_ASSERT(c);
    hf_sweep_hold();
    c->sim = hf_sim_new(seed);
    c->env = hf_sim_env(c->sim);
    c->model = hf_table_model_new();
    c->look = malloc(FC_LOOK_BYTES);
    c->ops_tail = &c->ops;
    c->next_seq = 1;
    c->budget_max = UINT64_MAX / 2;
    c->reservable = UINT64_MAX;
    c->delay_max_ns = 300 * HF_NS_PER_US;
    HF_ASSERT(c->model && c->look);
    HF_ASSERT(hf_bufpool_new(16u << 20, 0, &c->pool) == 0);
    HF_ASSERT(hf_table_base_model(c->model, &base) == 0);
    HF_ASSERT(hf_table_open(c->env, base, NULL, &c->table) == 0);
    HF_ASSERT(hf_meta_open(c->table, &c->meta) == 0);
    fc_format(c);
    hf_sweep_release();
    fc_session.c = c;
    fc_io.c = c;
    return c;
}

static void fc_free(struct fc_cluster *c)
{
    for (uint32_t i = 0; i < FC_OBJECTS; i++) {
        while (c->objects[i]) {
            struct fc_object *o = c->objects[i];

            c->objects[i] = o->next;
            free(o->data);
            free(o);
        }
    }
    hf_meta_close(c->meta);
    hf_table_close(c->table);
    hf_table_model_free(c->model);
    hf_bufpool_free(c->pool);
    hf_sim_free(c->sim);
    free(c->look);
    free(c);
}

static bool fc_flag(void *ctx)
{
    return *(bool *)ctx;
}

#endif
