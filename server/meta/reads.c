/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reads.c - looks: answered one after the other, each from the state as it is when its turn comes.
 *
 * Before that the log must have said that this node still leads and that the state holds all that
 * was committed before the look came: one question for all looks that came while the last was
 * asked. An OPEN waits while an entry in flight unlinks its inode.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

struct hf_lread { /* a copy of a look */
    struct hf_lread *next;
    struct hf_meta_read rd;
    hf_leader_done_fn done;
    void *ctx;
    int err;                           /* refused */
    _Alignas(uint64_t) uint8_t data[]; /* inos, name */
};

static void list_push(struct hf_lread_list *list, struct hf_lread *read)
{
    read->next = NULL;
    if (list->tail) {
        list->tail->next = read;
    } else {
        list->head = read;
    }
    list->tail = read;
    list->count++;
}

static struct hf_lread *list_pop(struct hf_lread_list *list)
{
    struct hf_lread *read = list->head;

    if (read) {
        list->head = read->next;
        if (!list->head) {
            list->tail = NULL;
        }
        list->count--;
    }
    return read;
}

static void answer(struct hf_lread *read, const struct hf_meta_reply *reply)
{
    hf_leader_done_fn done = read->done;
    void *ctx = read->ctx;

    free(read);
    done(ctx, reply);
}

/* Looks for the leader itself */

int hf_leader_getattr(struct hf_leader *leader, struct hf_ino ino, struct hf_attr *ret)
{
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = ino};
    struct hf_meta_reply reply = {0};

    hf_meta_read(leader->meta, &rd, &reply, NULL, 0);
    if (!reply.err) {
        *ret = reply.attr;
    }
    return reply.err;
}

int hf_leader_lookup(struct hf_leader *leader, struct hf_ino parent, const char *name, size_t len,
                     struct hf_attr *ret)
{
    struct hf_meta_read rd = {.op = HF_RD_LOOKUP, .ino = parent, .name = name, .name_len = len};
    struct hf_meta_reply reply = {0};

    hf_meta_read(leader->meta, &rd, &reply, NULL, 0);
    if (!reply.err) {
        *ret = reply.attr;
    }
    return reply.err;
}

/* What needs leader memory */

static void read_open(struct hf_leader *leader, struct hf_lsession *session,
                      const struct hf_meta_read *rd, struct hf_meta_reply *reply)
{
    reply->err = hf_leader_getattr(leader, rd->ino, &reply->attr);
    if (!reply->err && reply->attr.nlink == 0 &&
        !hf_purger_is_holder(leader, rd->ino, session->opens.id)) {
        reply->err = -ESTALE; /* unlinked, and not by name did this session come to it */
    }
    if (!reply->err) {
        reply->err = hf_opens_add(&leader->opens, &session->opens, rd->ino, rd->cookie);
    }
}

static void read_release(struct hf_leader *leader, struct hf_lsession *session,
                         const struct hf_meta_read *rd)
{
    uint64_t id = session->opens.id.v;

    for (uint32_t i = 0; i + 1 < rd->ino_count; i += 2) {
        struct hf_ino ino = {rd->inos[i]};

        hf_opens_del(&leader->opens, &session->opens, ino, rd->inos[i + 1]);
        hf_purger_released(leader, ino, (struct hf_session_id){id});
    }
}

/* The cookie that the claims must carry. No part is the next one twice: what comes late, of a
 * telling that was broken off, counts for nothing. */
static uint64_t claim_cookie(const struct hf_leader *leader, const struct hf_lsession *session)
{
    return session->claim_cookie ? session->claim_cookie : leader->claim_cookie;
}

static void claim_ask(const struct hf_leader *leader, struct hf_lsession *session,
                      struct hf_meta_reply *reply)
{
    if (session->claim_count > 0) {
        session->claim_cookie = claim_cookie(leader, session) + 2; /* odd, as the first: not 0 */
        session->claim_count = 0;
    }
    reply->next_cookie = claim_cookie(leader, session);
}

/* True: that were all, or all that are taken. */
static bool claim(struct hf_leader *leader, struct hf_lsession *session,
                  const struct hf_meta_read *rd, struct hf_meta_reply *reply)
{
    for (uint32_t i = 0; i + 1 < rd->ino_count; i += 2) {
        int err = hf_opens_add(&leader->opens, &session->opens, (struct hf_ino){rd->inos[i]},
                               rd->inos[i + 1]);

        if (err == -ENFILE) {
            return true; /* it holds everything while it lives */
        }
        if (err) {
            reply->err = err;
            return false;
        }
    }
    if ((rd->flags & HF_RENEW_MORE) && rd->ino_count > 0) {
        session->claim_cookie = claim_cookie(leader, session) + 2;
        session->claim_count += rd->ino_count;
        reply->next_cookie = session->claim_cookie;
        reply->count = session->claim_count;
        return false;
    }
    if (rd->ino_count < HF_RENEW_CLAIMS_MAX) {
        hf_sessions_claimed(leader, session);
        hf_purger_claimed(leader, session->opens.id);
    }
    return true;
}

static void read_renew(struct hf_leader *leader, struct hf_lsession *session,
                       const struct hf_meta_read *rd, struct hf_meta_reply *reply)
{
    struct hf_meta_read stream = {.op = HF_RD_STREAM, .session = rd->session};
    bool first = !session->claimed;

    hf_meta_read(leader->meta, &stream, reply, NULL, 0);
    if (reply->err) {
        return;
    }
    if (first && (!(rd->flags & HF_RENEW_CLAIM) ||
                  (rd->cookie != claim_cookie(leader, session) && !HF_BUG(claims_of_another)))) {
        /* What was made for another leader may have been long on its way: more is open now. */
        claim_ask(leader, session, reply);
        return;
    }
    if (first && !claim(leader, session, rd, reply)) {
        return;
    }
    reply->ttl_ns = session->ttl_ns;
    reply->budget_bytes = hf_space_grant(leader, session, rd->want_bytes);
    reply->budget_inodes = HF_SPACE_INODES;
    reply->map_epoch = hf_meta_map(leader->meta)->epoch.v;
}

static bool needs_session(enum hf_rd op)
{
    return op == HF_RD_OPEN || op == HF_RD_RELEASE || op == HF_RD_RENEW || op == HF_RD_LOCK_WAIT ||
           op == HF_RD_STREAM;
}

/* False: parked, the reply is not for now. */
static bool run_special(struct hf_leader *leader, struct hf_lread *read,
                        struct hf_lsession *session, struct hf_meta_reply *reply)
{
    const struct hf_meta_read *rd = &read->rd;
    int err;

    if (rd->op == HF_RD_OPEN) {
        if (hf_inflight_guarded(&leader->inflight, rd->ino) && !HF_BUG(open_passes_unlink)) {
            list_push(&leader->guarded, read);
            return false;
        }
        read_open(leader, session, rd, reply);
    } else if (rd->op == HF_RD_RELEASE) {
        read_release(leader, session, rd);
    } else if (rd->op == HF_RD_RENEW) {
        read_renew(leader, session, rd, reply);
    } else {
        bool again = rd->cookie && rd->cookie <= session->last_wait;

        HF_ASSERT(rd->op == HF_RD_LOCK_WAIT);
        if (rd->cookie > session->last_wait) {
            session->last_wait = rd->cookie;
        }
        if (rd->lock_type == F_UNLCK) {
            hf_waiters_give_up(leader, rd, -EINTR);
        } else if (again && !HF_BUG(waits_come_again)) {
            hf_waiters_give_up(leader, rd, -EAGAIN);
            reply->err = -EAGAIN;
            return true;
        }
        hf_waiters_test(leader, rd, reply);
        if (!reply->err && reply->lock_type != F_UNLCK) {
            err = hf_waiters_add(leader, rd, read->done, read->ctx);
            if (!err) {
                free(read);
                return false;
            }
            *reply = (struct hf_meta_reply){.err = err};
        }
    }
    return true;
}

static void run(struct hf_leader *leader, struct hf_lread *read)
{
    const struct hf_meta_read *rd = &read->rd;
    struct hf_meta_reply reply = {.err = read->err};
    struct hf_lsession *session = NULL;

    if (!reply.err && !hf_leader_serving(leader)) {
        reply.err = hf_leader_unready_error(leader);
    }
    if (!reply.err && (rd->session.v || needs_session(rd->op))) {
        session = hf_sessions_find(leader, rd->session);
        if (session) {
            hf_sessions_heard(leader, session);
        } else {
            reply.err = -HF_EFENCED;
        }
    }
    if (!reply.err) {
        leader->reads_done++;
        if (needs_session(rd->op) && rd->op != HF_RD_STREAM) {
            if (!run_special(leader, read, session, &reply)) {
                (void)hf_leader_broke(leader);
                return;
            }
        } else {
            hf_meta_read(leader->meta, rd, &reply, leader->replica->read_bulk, HF_FRAME_BULK_MAX);
            if (rd->op == HF_RD_LOOKUP && !reply.err && session &&
                (S_ISREG(reply.attr.mode) || S_ISLNK(reply.attr.mode))) {
                hf_recent_note(&leader->recent, reply.attr.ino, session->opens.id,
                               hf_env_mono_ns(leader->env));
            }
            if (rd->op == HF_RD_STATFS && !reply.err) {
                hf_space_statfs(leader, &reply);
            }
        }
    }
    if (hf_leader_serving(leader) && hf_leader_broke(leader)) { /* refused when this leader ends */
        list_push(&leader->reads, read);
        hf_env_post(leader->env, &leader->read_task);
        return;
    }
    answer(read, &reply);
}

static void answer_list(struct hf_lread_list *list, int err)
{
    struct hf_meta_reply reply = {.err = err};
    struct hf_lread_list all = *list;
    struct hf_lread *read;

    *list = (struct hf_lread_list){0};
    while ((read = list_pop(&all))) {
        answer(read, &reply);
    }
}

static void current(struct hf_mlog_read *barrier, int err)
{
    struct hf_leader *leader = hf_container_of(barrier, struct hf_leader, barrier);
    struct hf_lread_list list = leader->round; /* what done() adds has its own turn */
    struct hf_lread *read;

    leader->asking = false;
    leader->round = (struct hf_lread_list){0};
    if (err) {
        answer_list(&list, err);
    }
    while ((read = list_pop(&list))) {
        run(leader, read);
    }
    if (leader->reads.head) {
        hf_env_post(leader->env, &leader->read_task);
    }
}

static void ask(struct hf_task *task)
{
    struct hf_leader *leader = hf_container_of(task, struct hf_leader, read_task);

    if (leader->asking || !leader->reads.head) {
        return;
    }
    if (!hf_leader_serving(leader)) {
        answer_list(&leader->reads, hf_leader_unready_error(leader));
        return;
    }
    leader->round = leader->reads;
    leader->reads = (struct hf_lread_list){0};
    leader->asking = true;
    leader->barrier.done = current;
    if (HF_BUG(deposed_reads)) {
        current(&leader->barrier, 0);
        return;
    }
    leader->log->read(leader->log->ctx, &leader->barrier);
}

void hf_leader_read(struct hf_leader *leader, const struct hf_meta_read *rd, hf_leader_done_fn done,
                    void *ctx)
{
    size_t inos_bytes = rd->inos ? sizeof(uint64_t) * (size_t)rd->ino_count : 0;
    size_t name_bytes = rd->name ? rd->name_len : 0;
    struct hf_lread *read;

    hf_assert_loop(leader->env);
    read = calloc(1, sizeof(*read) + inos_bytes + name_bytes);
    HF_ASSERT_MEMORY(read);
    read->rd = *rd;
    read->done = done;
    read->ctx = ctx;
    read->rd.inos = NULL;
    read->rd.name = NULL;
    if (inos_bytes) {
        memcpy(read->data, rd->inos, inos_bytes);
        read->rd.inos = (uint64_t *)(void *)read->data;
    }
    if (rd->name) {
        memcpy(read->data + inos_bytes, rd->name, name_bytes);
        read->rd.name = (const char *)(read->data + inos_bytes);
    }
    if (leader->reads.count + leader->round.count + leader->guarded.count >= HF_LEADER_READS_MAX) {
        read->err = -HF_ENOTREADY;
    }
    list_push(&leader->reads, read);
    hf_env_post(leader->env, &leader->read_task);
}

/* What they waited for may have failed because this node does not lead any more, and be committed
 * by who does: the log is asked once more, and they park themselves again while there is a guard.
 */
void hf_leader_reads_unguard(struct hf_leader *leader)
{
    struct hf_lread *read;

    if (!leader->guarded.head) {
        return;
    }
    while ((read = list_pop(&leader->guarded))) {
        list_push(&leader->reads, read);
    }
    hf_env_post(leader->env, &leader->read_task);
}

void hf_leader_reads_fail(struct hf_leader *leader, int err)
{
    answer_list(&leader->reads, err); /* those of the round are with the log, which fails them */
    answer_list(&leader->guarded, err);
}

void hf_leader_reads_init(struct hf_leader *leader)
{
    leader->read_task.fn = ask;
}

void hf_leader_reads_fini(struct hf_leader *leader)
{
    struct hf_lread *read;

    while ((read = list_pop(&leader->reads)) || (read = list_pop(&leader->guarded))) {
        free(read);
    }
}

static void check_list(const struct hf_lread_list *list)
{
    const struct hf_lread *last = NULL;
    uint32_t count = 0;

    for (const struct hf_lread *read = list->head; read; read = read->next) {
        last = read;
        count++;
    }
    HF_ASSERT(last == list->tail && count == list->count);
}

void hf_leader_reads_check(const struct hf_leader *leader)
{
    check_list(&leader->reads);
    check_list(&leader->round);
    check_list(&leader->guarded);
    HF_ASSERT(!leader->reads.head || leader->asking || leader->read_task.queued);
    HF_ASSERT((leader->round.head != NULL) == leader->asking);
    for (const struct hf_lread *read = leader->guarded.head; read; read = read->next) {
        HF_ASSERT(hf_inflight_guarded(&leader->inflight, read->rd.ino));
    }
}
