/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.c - mutations: admission, order, proposal, apply, and what follows an apply.
 *
 *     hf_leader_op ──► admit ──► session's queue ──► propose ──► log ──► apply ──► done
 *                        └─refused─► refuse_task ──► done
 *
 * A session's mutations are proposed in the order they came, so that its stream has no gaps; the
 * head of its queue waits only for entries in flight on the same name, and those never wait.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"
#include "server/meta/session.h"
#include "server/meta/window.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2u
#endif

static bool is_stream_op(enum hf_op op)
{
    return op == HF_OP_INO_RANGE || (op >= HF_OP_CREATE && op <= HF_OP_TMPFILE) ||
           (op >= HF_OP_SETATTR && op <= HF_OP_RELOCATE) || op == HF_OP_LOCK ||
           op == HF_OP_LOCK_RELEASE || op == HF_OP_ORPHAN_RELEASE;
}

/* May a client send this? Its meaning is checked when it is applied. */
static int admissible(const struct hf_meta_op *op)
{
    if (op->op == HF_OP_SESSION_OPEN) {
        return op->stream == 0 && op->session.v == 0 ? 0 : -EINVAL;
    }
    if (op->op == HF_OP_SESSION_CLOSE) {
        return op->session.v > 0 ? 0 : -EINVAL;
    }
    if (!is_stream_op(op->op)) {
        return -EPERM; /* the leader's own, or none of this version */
    }
    return op->stream > 0 && op->session.v > 0 ? 0 : -EINVAL;
}

/* Answers */

static void lop_free(struct hf_lop *lop)
{
    lop->leader->queue_bytes -= lop->bytes;
    lop->leader->reserving_bytes -= lop->reserving_bytes;
    hf_meta_op_release(lop->op_mem);
    free(lop->holders);
    free(lop->recoded);
    free(lop);
}

static void lop_answer(struct hf_lop *lop, const struct hf_meta_reply *reply)
{
    hf_leader_done_fn done = lop->done;
    void *ctx = lop->ctx;

    lop_free(lop);
    if (done) {
        done(ctx, reply);
    }
}

static void list_push(struct hf_lop_list *list, struct hf_lop *lop)
{
    lop->next = NULL;
    if (list->tail) {
        list->tail->next = lop;
    } else {
        list->head = lop;
    }
    list->tail = lop;
}

static void refuse(struct hf_leader *leader, struct hf_lop *lop, int err)
{
    lop->err = err;
    list_push(&leader->refused, lop);
    hf_env_post(leader->env, &leader->refuse_task);
}

void hf_leader_refuse_list(struct hf_leader *leader, struct hf_lop_list *list, int err)
{
    struct hf_lop *next;

    for (struct hf_lop *lop = list->head; lop; lop = next) {
        next = lop->next;
        refuse(leader, lop, err);
    }
    *list = (struct hf_lop_list){0};
}

static void refuse_run(struct hf_task *task)
{
    struct hf_leader *leader = hf_container_of(task, struct hf_leader, refuse_task);
    struct hf_lop_list list = leader->refused;
    struct hf_lop *next;

    leader->refused = (struct hf_lop_list){0};
    for (struct hf_lop *lop = list.head; lop; lop = next) {
        struct hf_meta_reply reply = {.err = lop->err};

        next = lop->next;
        lop_answer(lop, &reply);
    }
}

/* Holders */

struct holder_list {
    uint64_t *ids;
    uint32_t count, cap;
    struct hf_leader *leader;
    struct hf_session_id but; /* has looked it up to unlink it */
    int err;
};

static void holder_add(void *ctx, struct hf_session_id id)
{
    struct holder_list *list = ctx;

    if (HF_BUG(two_holders_kept) && list->count == 2) {
        return;
    }
    if (list->count == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 8;
        uint64_t *ids = realloc(list->ids, cap * sizeof(*ids));

        if (!ids) {
            list->err = -ENOMEM;
            return;
        }
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->count++] = id.v;
}

static void recent_add(void *ctx, struct hf_session_id id)
{
    struct holder_list *list = ctx;

    if (id.v == list->but.v || !hf_sessions_find(list->leader, id)) {
        return;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->ids[i] == id.v) {
            return;
        }
    }
    holder_add(list, id);
}

/* Sessions that hold @ino open, or are about to, and those that have not told yet. */
static struct holder_list find_holders(struct hf_leader *leader, struct hf_ino ino,
                                       struct hf_session_id but)
{
    struct holder_list list = {.leader = leader, .but = but};

    hf_opens_holders(&leader->opens, ino, holder_add, &list);
    hf_recent_each(&leader->recent, ino, hf_env_mono_ns(leader->env), recent_add, &list);
    for (struct hf_lsession *s = leader->sessions.head;
         s && leader->sessions.unclaimed > 0 && !HF_BUG(unclaimed_not_asked); s = s->next) {
        if (!s->claimed && !hf_opens_has(&leader->opens, s->opens.id, ino)) {
            holder_add(&list, s->opens.id);
        }
    }
    return list;
}

/* The name whose inode may lose its last link by this; NULL: none. */
static const char *victim_name(const struct hf_meta_op *op, struct hf_ino *ret_parent,
                               size_t *ret_len)
{
    if (op->op == HF_OP_UNLINK || op->op == HF_OP_RMDIR) {
        *ret_parent = op->parent;
        *ret_len = op->name_len;
        return op->name;
    }
    if (op->op == HF_OP_RENAME && !(op->flags & RENAME_EXCHANGE)) {
        *ret_parent = op->parent2;
        *ret_len = op->name2_len;
        return op->name2;
    }
    return NULL;
}

/* Log the op as it is now, not as it came. */
static int recode(struct hf_lop *lop)
{
    uint8_t *msg = malloc(HF_RPC_MSG_MAX);
    size_t len;
    int err;

    if (!msg) {
        return -ENOMEM;
    }
    err = hf_meta_op_encode(&lop->op, msg, &len);
    if (err) {
        free(msg);
        return err;
    }
    lop->recoded = msg;
    lop->proposal.msg = msg;
    lop->proposal.msg_len = (uint32_t)len;
    return 0;
}

static int fill_holders(struct hf_leader *leader, struct hf_lop *lop)
{
    struct hf_ino parent;
    size_t len;
    const char *name = victim_name(&lop->op, &parent, &len);
    struct holder_list list = {0};
    struct hf_session_id but = {0};
    struct hf_attr attr;
    bool found;
    int err = 0;

    /*
     * Each UNLINK comes behind a look at the name by the same kernel, and would leave a row to be
     * released. Another process of that mount which is about to open the file is told ESTALE; its
     * kernel looks the name up once more, and finds none, which is true. Behind a RENAME the name
     * is there all the time: the second try may meet the next one, and so the first must do.
     */
    if (lop->op.op != HF_OP_RENAME) {
        but = lop->op.session;
    }
    found = name && hf_leader_lookup(leader, parent, name, len, &attr) == 0;
    if (hf_meta_failed(leader->meta)) {
        return -HF_ENOTLEADER; /* nobody here knows who holds what by that name */
    }
    if (found) {
        list = find_holders(leader, attr.ino, but);
        err = list.err;
        if (!err) {
            hf_inflight_guard(&leader->inflight, &lop->victim, attr.ino);
        }
    }
    lop->holders = list.ids; /* what a client wrote there counts for nothing */
    if (!err && (list.count > 0 || lop->op.holder_count > 0)) {
        lop->op.holders = list.ids;
        lop->op.holder_count = list.count;
        err = HF_BUG(holders_not_logged) ? 0 : recode(lop);
    }
    return err;
}

/* A session that would never be evicted is none. */
static int bound_ttl(struct hf_leader *leader, struct hf_lop *lop)
{
    uint64_t ttl_ns = lop->op.ttl_ns ? lop->op.ttl_ns : leader->session_ttl_ns;

    ttl_ns = ttl_ns > HF_LEADER_SESSION_TTL_MAX_NS ? HF_LEADER_SESSION_TTL_MAX_NS : ttl_ns;
    if (ttl_ns == lop->op.ttl_ns) {
        return 0;
    }
    lop->op.ttl_ns = ttl_ns;
    return recode(lop);
}

static bool reserves(const struct hf_meta_op *op)
{
    return (op->op == HF_OP_ALLOCATE || op->op == HF_OP_PUNCH) && (op->flags & HF_ALLOC_RESERVE);
}

/* Every replica has to refuse the same: the entry says how much may be reserved. A client that is
 * going to reserve more gets nothing if it cannot get all. */
static int bound_reserved(struct hf_leader *leader, struct hf_lop *lop)
{
    uint64_t room = hf_space_reservable(leader);

    lop->op.size = lop->op.size < room ? room - lop->op.size : 0;
    lop->reserving_bytes = lop->op.length < lop->op.size ? lop->op.length : lop->op.size;
    leader->reserving_bytes += lop->reserving_bytes;
    return recode(lop);
}

/* Entries say so by themselves: those of earlier leaders do not, and are applied as they were. */
static int bound_truncate(struct hf_lop *lop)
{
    if (lop->op.flags & HF_TRUNCATE_BOUNDED) {
        return 0;
    }
    lop->op.flags |= HF_TRUNCATE_BOUNDED;
    return recode(lop);
}

static int complete(struct hf_leader *leader, struct hf_lop *lop)
{
    const struct hf_meta_op *op = &lop->op;

    if (op->op == HF_OP_SESSION_OPEN) {
        return bound_ttl(leader, lop);
    }
    if (reserves(op)) {
        return bound_reserved(leader, lop);
    }
    if (op->op == HF_OP_SETATTR && (op->mask & HF_SET_SIZE)) {
        return bound_truncate(lop);
    }
    return fill_holders(leader, lop);
}

/* Order */

static bool must_wait(const struct hf_leader *leader, const struct hf_meta_op *op)
{
    struct hf_ino parent;
    size_t len;
    const char *name = victim_name(op, &parent, &len);

    if (name && hf_inflight_busy(&leader->inflight, parent, name, len) &&
        !HF_BUG(victim_unordered)) {
        return true;
    }
    return false;
}

static void mark_names(struct hf_leader *leader, struct hf_lop *lop)
{
    const struct hf_meta_op *op = &lop->op;

    if (op->op < HF_OP_CREATE || op->op > HF_OP_RENAME || !op->name) {
        return;
    }
    lop->names[0] =
        (struct hf_name_mark){.parent = op->parent, .name = op->name, .len = op->name_len};
    lop->name_count = 1;
    if (op->op == HF_OP_RENAME && op->name2) {
        lop->names[1] =
            (struct hf_name_mark){.parent = op->parent2, .name = op->name2, .len = op->name2_len};
        lop->name_count = HF_BUG(rename_target_unmarked) ? 1 : 2;
    }
    for (uint32_t i = 0; i < lop->name_count; i++) {
        hf_inflight_add(&leader->inflight, &lop->names[i]);
    }
}

static void unmark(struct hf_leader *leader, struct hf_lop *lop)
{
    for (uint32_t i = 0; i < lop->name_count; i++) {
        hf_inflight_del(&leader->inflight, &lop->names[i]);
    }
    lop->name_count = 0;
    if (lop->victim.ino.v) {
        hf_inflight_unguard(&leader->inflight, &lop->victim);
    }
}

static void lop_failed(struct hf_mlog_proposal *proposal, int err);

static void propose(struct hf_leader *leader, struct hf_lop *lop)
{
    int err = complete(leader, lop);

    if (err) {
        unmark(leader, lop);
        refuse(leader, lop, err);
        (void)hf_leader_broke(leader);
        return;
    }
    mark_names(leader, lop);
    lop->proposal.failed = lop_failed;
    leader->log->propose(leader->log->ctx, &lop->proposal);
}

static void pump_session(struct hf_leader *leader, struct hf_lsession *session)
{
    while (session->queue_head && !must_wait(leader, &session->queue_head->op)) {
        struct hf_lop *lop = session->queue_head;

        leader->queued_ops--;
        session->queue_head = lop->next;
        if (!session->queue_head) {
            session->queue_tail = NULL;
        }
        lop->next = NULL;
        propose(leader, lop);
    }
}

void hf_leader_pump(struct hf_leader *leader)
{
    for (struct hf_lsession *s = leader->sessions.head; s && leader->queued_ops > 0; s = s->next) {
        if (s->queue_head) {
            pump_session(leader, s);
        }
    }
}

/* Admission */

static struct hf_lop *lop_new(struct hf_leader *leader, const void *msg, size_t msg_len,
                              const void *bulk, size_t bulk_len, hf_leader_done_fn done, void *ctx)
{
    struct hf_lop *lop = calloc(1, sizeof(*lop) + msg_len + bulk_len);

    HF_ASSERT_MEMORY(lop); /* answers need memory too: there is nothing better to do */
    lop->leader = leader;
    lop->done = done;
    lop->ctx = ctx;
    lop->bytes = sizeof(*lop) + msg_len + bulk_len;
    leader->queue_bytes += lop->bytes;
    if (msg_len) {
        memcpy(lop->data, msg, msg_len);
    }
    if (bulk_len) {
        memcpy(lop->data + msg_len, bulk, bulk_len);
    }
    lop->proposal.msg = lop->data;
    lop->proposal.msg_len = (uint32_t)msg_len;
    lop->proposal.bulk = bulk_len ? lop->data + msg_len : NULL;
    lop->proposal.bulk_len = (uint32_t)bulk_len;
    return lop;
}

/* 0: propose or queue it. */
static int admit(struct hf_leader *leader, struct hf_lop *lop, struct hf_lsession **ret_session)
{
    struct hf_lsession *session;
    int err;

    if (!hf_leader_serving(leader)) {
        return hf_leader_unready_error(leader);
    }
    if (leader->queue_bytes > HF_LEADER_QUEUE_BYTES_MAX) {
        return -HF_ENOTREADY;
    }
    if (lop->proposal.msg_len == 0) {
        return -EBADMSG;
    }
    err = hf_meta_op_decode(lop->proposal.msg, lop->proposal.msg_len, lop->proposal.bulk,
                            lop->proposal.bulk_len, &lop->op, &lop->op_mem);
    if (!err) {
        err = admissible(&lop->op);
    }
    if (err || lop->op.op == HF_OP_SESSION_OPEN) {
        return err;
    }
    session = hf_sessions_find(leader, lop->op.session);
    if (!session) {
        return -HF_EFENCED;
    }
    hf_sessions_heard(leader, session);
    if (lop->op.stream > session->queued_stream + 1) {
        return -HF_EGAP; /* would be the outcome of applying it: spare the log */
    }
    if (reserves(&lop->op) && !hf_space_known(leader)) {
        return -HF_ENOTREADY;
    }
    *ret_session = session;
    return 0;
}

/* What a client that may only read sends all the same: numbers, locks, the end of what it holds. */
static bool is_readers(enum hf_op op)
{
    return op == HF_OP_INO_RANGE || op == HF_OP_LOCK || op == HF_OP_LOCK_RELEASE ||
           op == HF_OP_ORPHAN_RELEASE || op == HF_OP_SESSION_CLOSE;
}

/* Its number has an outcome in the log as that of any other, or the stream would end here. */
static int make_refused(struct hf_lop *lop)
{
    const struct hf_meta_op *op = &lop->op;

    lop->op = (struct hf_meta_op){.op = HF_OP_REFUSED,
                                  .session = op->session,
                                  .stream = op->stream,
                                  .acked = op->acked,
                                  .time_ns = op->time_ns};
    lop->proposal.bulk = NULL;
    lop->proposal.bulk_len = 0;
    return recode(lop);
}

/* More windows than one entry goes through? By its length alone: what the file holds may be
 * something else when the entry is applied. */
static bool is_too_wide(const struct hf_meta_op *op)
{
    if ((op->op != HF_OP_PUNCH && op->op != HF_OP_ALLOCATE) || op->offset > HF_FILE_BYTES_MAX ||
        op->length > HF_FILE_BYTES_MAX - op->offset) {
        return false; /* or no file has the range */
    }
    return hf_windows(op->offset + op->length) - op->offset / HF_WINDOW_BYTES >
           HF_SPACE_WINDOWS_MAX;
}

/* Into what every replica refuses with -EFBIG, and always has: entries of earlier leaders that are
 * as wide are applied as they were. Its number has its outcome. */
static int make_too_large(struct hf_lop *lop)
{
    lop->op.length = UINT64_MAX;
    lop->op.flags = 0;
    return recode(lop);
}

void hf_leader_op(struct hf_leader *leader, bool read_only, const void *msg, size_t msg_len,
                  const void *bulk, size_t bulk_len, hf_leader_done_fn done, void *ctx)
{
    bool fits = msg_len <= HF_RPC_MSG_MAX && bulk_len <= HF_LEADER_BULK_MAX &&
                leader->queue_bytes <= HF_LEADER_QUEUE_BYTES_MAX;
    struct hf_lsession *session = NULL;
    struct hf_lop *lop;
    int err;

    hf_assert_loop(leader->env);
    lop = lop_new(leader, msg, fits ? msg_len : 0, bulk, fits ? bulk_len : 0, done, ctx);
    err = admit(leader, lop, &session);
    if (!err && read_only && session && !is_readers(lop->op.op)) {
        err = make_refused(lop);
    } else if (!err && session && is_too_wide(&lop->op)) {
        err = make_too_large(lop);
    }
    if (err) {
        refuse(leader, lop, err);
        return;
    }
    if (!session) {
        propose(leader, lop);
        return;
    }
    if (HF_BUG(resend_answered) && lop->op.stream <= session->queued_stream &&
        lop->op.stream > hf_session_stream(leader->meta, lop->op.session)->last) {
        refuse(leader, lop, 0);
        return;
    }
    if (lop->op.stream > session->queued_stream) {
        session->queued_stream = lop->op.stream;
    }
    if (session->queue_tail) {
        session->queue_tail->next = lop;
    } else {
        session->queue_head = lop;
    }
    session->queue_tail = lop;
    leader->queued_ops++;
    pump_session(leader, session);
}

void hf_leader_propose(struct hf_leader *leader, const struct hf_meta_op *op,
                       hf_leader_done_fn done, void *ctx)
{
    uint8_t *msg = malloc(HF_RPC_MSG_MAX);
    struct hf_lop *lop;
    size_t len = 0;
    int err = msg ? hf_meta_op_encode(op, msg, &len) : -ENOMEM;

    lop = lop_new(leader, msg, err ? 0 : len, NULL, 0, done, ctx);
    free(msg);
    if (!err) {
        err = hf_meta_op_decode(lop->proposal.msg, lop->proposal.msg_len, NULL, 0, &lop->op,
                                &lop->op_mem);
    }
    if (!err && (leader->state == HF_LEADER_FAILED || leader->state == HF_LEADER_CLOSING)) {
        err = hf_leader_unready_error(leader);
    }
    if (err) {
        refuse(leader, lop, err);
        return;
    }
    lop->proposal.failed = lop_failed;
    leader->log->propose(leader->log->ctx, &lop->proposal);
}

void hf_leader_propose_oids(struct hf_leader *leader, enum hf_op op, struct hf_node_id node,
                            struct hf_oid *oids, uint32_t count)
{
    while (count > 0) {
        uint32_t part = count > HF_LEADER_OIDS_PER_ENTRY ? HF_LEADER_OIDS_PER_ENTRY : count;
        struct hf_meta_op entry = {.op = op, .node = node, .oids = oids, .oid_count = part};

        hf_leader_propose(leader, &entry, NULL, NULL);
        oids += part;
        count -= part;
    }
}

/* What follows an apply, in leader memory */

static void map_told(struct hf_task *task)
{
    struct hf_leader *leader = hf_container_of(task, struct hf_leader, map_task);
    const struct hf_map *map = hf_meta_map(leader->meta);

    if (leader->state == HF_LEADER_CLOSING || leader->map_epoch_told == map->epoch.v) {
        return;
    }
    leader->map_epoch_told = map->epoch.v;
    leader->stores.map_changed(leader->stores.ctx, map);
}

static void after_map(struct hf_leader *leader)
{
    hf_env_post(leader->env, &leader->map_task); /* once for all entries of a batch */
    hf_nodes_map_changed(leader);
    hf_copier_kick(leader);
    hf_reaper_unstick(leader);
}

static void after_session(struct hf_leader *leader, const struct hf_meta_op *op,
                          struct hf_meta_reply *reply)
{
    struct hf_lsession *session;
    bool known;

    if (reply->err) {
        return;
    }
    if (op->op != HF_OP_SESSION_OPEN) {
        hf_sessions_closed(leader, op->session);
        if (op->op == HF_OP_SESSION_EVICT) {
            hf_nodes_audit(leader); /* what it had put and not committed */
        }
        return;
    }
    known = hf_sessions_find(leader, reply->session) != NULL;
    session = hf_sessions_opened(leader, reply->session, reply->ttl_ns);
    if (session) {
        /* A new session holds nothing. An opening repeated after a restart may hold a lot. */
        if (!known) {
            hf_sessions_claimed(leader, session);
        }
        reply->budget_bytes = hf_space_grant(leader, session, HF_SPACE_FIRST_BYTES);
        reply->budget_inodes = HF_SPACE_INODES;
    }
    reply->map_epoch = hf_meta_map(leader->meta)->epoch.v;
}

static void after_create(struct hf_leader *leader, const struct hf_meta_op *op,
                         const struct hf_meta_reply *reply)
{
    struct hf_lsession *session = hf_sessions_find(leader, op->session);
    bool open = op->op == HF_OP_TMPFILE || (op->flags & HF_CREATE_OPEN);

    if (!reply->err && open && S_ISREG(reply->attr.mode) && session) {
        /* Past the bound of one session: unlinked while open the file goes stale. */
        (void)hf_opens_add(&leader->opens, &session->opens, reply->attr.ino, 0);
    }
}

static void after_apply(struct hf_leader *leader, const struct hf_meta_op *op, struct hf_ino victim,
                        struct hf_meta_reply *reply)
{
    struct hf_lsession *session;

    switch (op->op) {
    case HF_OP_SESSION_OPEN:
    case HF_OP_SESSION_CLOSE:
    case HF_OP_SESSION_EVICT:
        after_session(leader, op, reply);
        break;
    case HF_OP_CREATE:
    case HF_OP_TMPFILE:
        after_create(leader, op, reply);
        break;
    case HF_OP_UNLINK:
    case HF_OP_RMDIR:
    case HF_OP_RENAME:
        if (!reply->err) {
            hf_purger_unlinked(leader, victim, op->holders, op->holder_count);
            hf_purger_kick(leader);
            hf_reaper_kick(leader);
        }
        break;
    case HF_OP_LOCK:
    case HF_OP_LOCK_RELEASE:
        hf_waiters_recheck(leader, op->ino);
        break;
    case HF_OP_ORPHAN_RELEASE:
        session = hf_sessions_find(leader, op->session);
        if (session && !reply->err) {
            hf_opens_del(&leader->opens, &session->opens, op->ino, UINT64_MAX);
        }
        hf_purger_kick(leader);
        hf_reaper_kick(leader);
        break;
    case HF_OP_WRITE:
    case HF_OP_RELOCATE:
        hf_space_named(leader, op);
        if (reply->err) {
            hf_inventory_refused(leader, op, reply->err);
        }
        hf_copier_kick(leader);
        hf_reaper_kick(leader);
        break;
    case HF_OP_DEGRADED_ADD:
        hf_copier_kick(leader);
        hf_reaper_kick(leader);
        break;
    case HF_OP_SETATTR:
    case HF_OP_PUNCH:
    case HF_OP_CLONE:
    case HF_OP_PURGE:
        hf_purger_kick(leader);
        hf_reaper_kick(leader);
        break;
    case HF_OP_NONE:
    case HF_OP_INO_RANGE:
    case HF_OP_LINK:
    case HF_OP_SETXATTR:
    case HF_OP_REMOVEXATTR:
    case HF_OP_ALLOCATE:
    case HF_OP_NODE_STATE:
    case HF_OP_NODE_ADD:
    case HF_OP_DEGRADED_CLEAR:
    case HF_OP_OBJECTS_GONE:
    case HF_OP_FORMAT:
    case HF_OP_GROUP_SET:
    case HF_OP_REFUSED:
        break;
    }
}

static void lop_failed(struct hf_mlog_proposal *proposal, int err)
{
    struct hf_lop *lop = hf_container_of(proposal, struct hf_lop, proposal);
    struct hf_leader *leader = lop->leader;
    struct hf_meta_reply reply = {.err = err};

    unmark(leader, lop);
    lop_answer(lop, &reply);
    hf_leader_pump(leader);
    hf_leader_reads_unguard(leader);
}

int hf_leader_committed(const struct hf_mlog_entry *entry, struct hf_mlog_proposal *proposal)
{
    struct hf_lop *lop = hf_container_of(proposal, struct hf_lop, proposal);
    struct hf_leader *leader = lop->leader;
    uint64_t map_epoch = hf_meta_map(leader->meta)->epoch.v;
    struct hf_meta_entry committed = {
        .index = entry->index, .term = entry->term, .time_ns = entry->time_ns, .op = &lop->op};
    struct hf_meta_reply reply = {0};
    struct hf_ino victim;
    int err = hf_meta_apply(leader->meta, &committed, &reply);

    if (err) {
        return err;
    }
    leader->ops++;
    victim = lop->victim.ino;
    unmark(leader, lop);
    after_apply(leader, &lop->op, victim, &reply);
    if (hf_meta_map(leader->meta)->epoch.v != map_epoch) {
        after_map(leader);
    }
    lop_answer(lop, &reply);
    hf_leader_pump(leader);
    hf_leader_reads_unguard(leader);
    (void)hf_leader_broke(leader); /* by what followed: the entry itself is applied */
    return 0;
}

int hf_leader_ops_init(struct hf_leader *leader)
{
    leader->refuse_task.fn = refuse_run;
    leader->map_task.fn = map_told;
    return hf_inflight_init(&leader->inflight, hf_env_random_u64(leader->env));
}

void hf_leader_ops_fini(struct hf_leader *leader)
{
    struct hf_lop_list list = leader->refused;
    struct hf_lop *next;

    for (struct hf_lop *lop = list.head; lop; lop = next) {
        next = lop->next;
        lop_free(lop);
    }
    hf_inflight_fini(&leader->inflight);
}

void hf_leader_ops_check(const struct hf_leader *leader)
{
    size_t bytes = 0;

    for (const struct hf_lsession *s = leader->sessions.head; s; s = s->next) {
        HF_ASSERT(!s->queue_head || must_wait(leader, &s->queue_head->op));
        for (const struct hf_lop *lop = s->queue_head; lop; lop = lop->next) {
            HF_ASSERT(lop->leader == leader && lop->name_count == 0 && lop->victim.ino.v == 0);
            bytes += lop->bytes;
        }
    }
    for (const struct hf_lop *lop = leader->refused.head; lop; lop = lop->next) {
        HF_ASSERT(lop->err && lop->name_count == 0 && lop->victim.ino.v == 0);
        bytes += lop->bytes;
    }
    HF_ASSERT(!leader->refused.head || leader->refuse_task.queued);
    HF_ASSERT(bytes <= leader->queue_bytes);
    /* What is left of it is with the log: nothing else has names in flight, guards or space. */
    HF_ASSERT(bytes < leader->queue_bytes ||
              (leader->inflight.names.count == 0 && leader->inflight.guards.count == 0));
    HF_ASSERT(leader->queue_bytes > 0 || leader->reserving_bytes == 0);
}
