/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - one object to every writable member of its group, in frames.
 *
 *   member:  SENDING ──last frame answered──► OK
 *               ▲  └──error──► PAUSED ──delay, or a newer map──┐
 *               └──────────────────────────────────────────────┘
 *            any ──map: not writable any more──► GONE
 *
 * The put is done when every member that the current map calls writable is OK, min_copies acting
 * ones at least. A member that fails makes the whole object go to a group without it, under a new
 * id, where there is one; where there is none its frames are sent again (a repeated put of equal
 * bytes succeeds) until it takes them or the map gives it up. So a copy is missing only when the
 * map says so.
 *
 * Frames refer to the caller's memory: done waits until all of them are back.
 */
#include "client/io/io_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "common/log/log.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define PIECES_MAX     1024 /* of one frame, as RPC takes them */
#define PAUSE_NS       (100 * HF_NS_PER_MS)
#define PAUSE_SHORT_NS (20 * HF_NS_PER_MS)
#define WAITS_DOUBLE   5u /* so often twice as long, while a store has no room for a put */
#define LOOK_NS        (500 * HF_NS_PER_MS) /* at frames that do not come back */
#define OLD_NS         HF_NS_PER_SEC
#define HUNG_NS        (3 * HF_NS_PER_SEC / 2) /* a frame out for so long: its member hangs */
/* A member fails for so long, and the leader neither takes it out nor can: give up. */
#define REFUSED_NS    (10 * HF_NS_PER_SEC)
#define CONFLICTS_MAX 3u

static void put_step(struct io_put *p);
static void put_over(struct io_put *p, int err);

static const struct hf_map *map_of(const struct io_put *p)
{
    return hf_session_map(p->io->options.session);
}

/* --- begin, append, finish --- */

static void put_wake(void *ctx);

static struct io_put *impl_of(const struct hf_io_put *put)
{
    struct io_put *p = put->impl[0];

    HF_ASSERT(p);
    return p;
}

void hf_io_put_begin(struct hf_io *io, struct hf_io_put *put)
{
    struct io_put *p = calloc(1, sizeof(*p));

    hf_assert_loop(io->env);
    HF_ASSERT_MEMORY(p);
    p->sums = malloc(HF_OBJECT_BLOCKS_MAX * sizeof(p->sums[0]));
    p->io = io;
    p->pub = put;
    p->urgent = put->urgent;
    TAILQ_INIT(&p->frames);
    hf_timer_init(&p->timer, io->env, put_wake, p);
    TAILQ_INSERT_TAIL(&io->puts, p, link);
    put->impl[0] = p;
    if (!p->sums) {
        put_over(p, -ENOMEM);
    }
}

static int piece_add(struct io_put *p, const struct iovec *piece)
{
    struct iovec *last = p->piece_count ? &p->pieces[p->piece_count - 1] : NULL;

    if (last && (char *)last->iov_base + last->iov_len == piece->iov_base) {
        last->iov_len += piece->iov_len;
        return 0;
    }
    if (p->piece_count == p->piece_cap) {
        uint32_t cap = p->piece_cap ? 2 * p->piece_cap : 16;
        struct iovec *more = realloc(p->pieces, cap * sizeof(more[0]));

        if (!more) {
            return -ENOMEM;
        }
        p->pieces = more;
        p->piece_cap = cap;
    }
    p->pieces[p->piece_count++] = *piece;
    return 0;
}

void hf_io_put_append(struct hf_io_put *put, const struct iovec *iov, int iov_count)
{
    struct io_put *p = impl_of(put);

    HF_ASSERT(!p->finished);
    for (int i = 0; i < iov_count; i++) {
        HF_ASSERT(iov[i].iov_len > 0 && iov[i].iov_len <= HF_OBJECT_BYTES_MAX - p->len_bytes);
        if (piece_add(p, &iov[i]) != 0) {
            put_over(p, -ENOMEM);
            return;
        }
        p->len_bytes += (uint32_t)iov[i].iov_len;
    }
    put_step(p);
}

void hf_io_put_finish(struct hf_io_put *put)
{
    struct io_put *p = impl_of(put);

    HF_ASSERT(!p->finished && (p->len_bytes > 0 || p->over));
    p->finished = true;
    put_step(p);
}

uint32_t hf_io_put_bytes(const struct hf_io_put *put)
{
    return impl_of(put)->len_bytes;
}

/* --- the end --- */

static void slot_release(struct io_put *p)
{
    struct hf_io *io = p->io;

    if (p->slot_waiting) {
        p->slot_waiting = false;
        TAILQ_REMOVE(&io->slot_waiters, p, slot_link);
    }
    if (p->slot) {
        p->slot = false;
        io->slots_used--;
        if (!TAILQ_EMPTY(&io->slot_waiters)) {
            io_post(io);
        }
    }
}

static void ready_if_quiet(struct io_put *p)
{
    if (TAILQ_EMPTY(&p->frames)) {
        TAILQ_REMOVE(&p->io->puts, p, link);
        TAILQ_INSERT_TAIL(&p->io->puts_ready, p, link);
        p->io->stuck_ns = p->err == 0 || TAILQ_EMPTY(&p->io->puts) ? 0 : p->io->stuck_ns;
        io_post(p->io);
    }
}

static void cancel_frames(struct io_put *p, const struct put_member *m)
{
    struct put_frame *f;

    TAILQ_FOREACH (f, &p->frames, link) {
        if (!m || (f->generation == p->generation && &p->members[f->member] == m)) {
            hf_rpc_cancel(&f->rpc);
        }
    }
}

/* A store that may hold frames of this attempt need not keep them. */
static void abandon_member(struct io_put *p, const struct put_member *m)
{
    struct hf_msg_put msg = {.oid = p->oid, .abandon = true};
    size_t len;

    if (m->state != MEMBER_OK && m->state != MEMBER_GONE && m->next_frame > 0 &&
        hf_msg_put_encode(&msg, p->io->msg, &len) == 0) {
        io_fire(p->io, m->node, HF_M_PUT, len, p->urgent);
    }
}

static void put_over(struct io_put *p, int err)
{
    if (p->over) {
        return;
    }
    p->over = true;
    p->err = err;
    hf_timer_fini(&p->timer);
    slot_release(p);
    cancel_frames(p, NULL);
    if (err && p->has_group && !p->io->freeing) {
        for (uint32_t i = 0; i < p->member_count; i++) {
            abandon_member(p, &p->members[i]);
        }
    }
    ready_if_quiet(p);
}

void hf_io_put_cancel(struct hf_io_put *put)
{
    put_over(impl_of(put), -ECANCELED);
}

static void put_free(struct io_put *p)
{
    for (uint32_t i = 0; i < IO_FRAMES_MAX; i++) {
        hf_buf_unref(p->bounce[i]);
    }
    free(p->pieces);
    free(p->sums);
    free(p);
}

void put_deliver(struct hf_io *io)
{
    struct io_put *p;

    while ((p = TAILQ_FIRST(&io->slot_waiters)) != NULL && !io->freeing &&
           io->slots_used < io->options.puts_max + (p->urgent ? IO_URGENT_SLOTS : 0)) {
        p->slot_waiting = false;
        TAILQ_REMOVE(&io->slot_waiters, p, slot_link);
        put_step(p);
    }
    while ((p = TAILQ_FIRST(&io->puts_ready)) != NULL) {
        struct hf_io_put *put = p->pub;
        int err = p->err;

        TAILQ_REMOVE(&io->puts_ready, p, link);
        put_free(p);
        put->done(put, err);
    }
}

void put_stop_all(struct hf_io *io)
{
    struct io_put *p;

    while ((p = TAILQ_FIRST(&io->puts)) != NULL) {
        HF_ASSERT(TAILQ_EMPTY(&p->frames));
        if (p->over) {
            ready_if_quiet(p);
        } else {
            put_over(p, -ECANCELED);
        }
    }
}

/* --- members --- */

static uint64_t avoid_mask(const struct hf_io *io, bool full_only)
{
    uint64_t now = hf_env_mono_ns(io->env), mask = 0;

    for (uint16_t i = 1; i <= HF_NODES_MAX; i++) {
        const struct io_node *n = &io->nodes[i];

        if (n->full_until_ns > now || (!full_only && n->avoid_until_ns > now)) {
            mask |= hf_node_bit((struct hf_node_id){.v = i});
        }
    }
    return mask;
}

static int pick_group(struct io_put *p)
{
    return hf_map_pick_group(map_of(p), hf_env_random_u64(p->io->env), avoid_mask(p->io, false));
}

/* A group without any node of @avoid, or -1. */
static int other_group(struct io_put *p, uint64_t avoid)
{
    int g = pick_group(p);

    return g >= 0 && !(hf_map_group_members(map_of(p), (uint16_t)g) & avoid) ? g : -1;
}

static uint64_t acting_writable(const struct hf_map *map, uint16_t group)
{
    uint64_t acting = 0;

    for (uint32_t i = 0; i < HF_REPLICAS_MAX; i++) {
        acting |= hf_node_bit(map->groups[group].acting[i]);
    }
    return acting & hf_map_group_writable(map, group);
}

static struct put_member *member_of(struct io_put *p, uint32_t bit)
{
    for (uint32_t i = 0; i < p->member_count; i++) {
        if (p->members[i].node.v == bit + 1) {
            return &p->members[i];
        }
    }
    return NULL;
}

static void member_pause(struct io_put *p, struct put_member *m, uint64_t delay_ns)
{
    m->state = MEMBER_PAUSED;
    m->retry_ns = hf_env_mono_ns(p->io->env) + delay_ns;
    m->round++;
    cancel_frames(p, m);
}

static void member_resume(struct io_put *p, struct put_member *m)
{
    abandon_member(p, m);
    m->state = MEMBER_SENDING;
    m->next_frame = 0;
    m->map_epoch = p->map_epoch;
    m->stale = false;
}

/* What a node took before it came back, for all that is known it has no more. */
static bool has_returned(const struct io_put *p, const struct put_member *m)
{
    const struct hf_map_node *node = hf_map_node(map_of(p), m->node);

    return node && node->returned.v > m->map_epoch;
}

/* Make the members what the map says. */
static void members_sync(struct io_put *p)
{
    const struct hf_map *map = map_of(p);
    uint64_t writable = hf_map_group_writable(map, p->oid.group);

    p->map_epoch = map->epoch.v;
    for (uint32_t i = 0; i < p->member_count; i++) {
        struct put_member *m = &p->members[i];

        if (!(writable & hf_node_bit(m->node)) && m->state != MEMBER_GONE) {
            m->state = MEMBER_GONE;
            m->round++;
            cancel_frames(p, m);
        } else if ((m->state == MEMBER_PAUSED && m->stale) ||
                   (m->state == MEMBER_OK && has_returned(p, m))) {
            member_resume(p, m);
        }
    }
    for (uint32_t bit = 0; bit < HF_NODES_MAX; bit++) {
        struct put_member *m = member_of(p, bit);

        if (!(writable & UINT64_C(1) << bit) || (m && m->state != MEMBER_GONE)) {
            continue;
        }
        if (!m) {
            if (p->member_count == IO_MEMBERS_MAX) {
                continue; /* put_complete() sees that it is missing */
            }
            m = &p->members[p->member_count++];
            *m = (struct put_member){.node = {.v = (uint16_t)(bit + 1)}};
        }
        m->state = MEMBER_SENDING;
        m->next_frame = 0;
        m->map_epoch = p->map_epoch;
        m->refused_ns = 0;
    }
}

static bool group_usable(const struct io_put *p)
{
    const struct hf_map *map = map_of(p);

    return p->oid.group < map->group_count &&
           (uint32_t)__builtin_popcountll(acting_writable(map, p->oid.group)) >= map->min_copies;
}

static void attempt_end(struct io_put *p)
{
    for (uint32_t i = 0; i < p->member_count; i++) {
        abandon_member(p, &p->members[i]);
    }
    cancel_frames(p, NULL);
    p->has_group = false;
    p->io->stats.put_retries++;
}

/* Errors: -EAGAIN  no group can take a put for the moment. */
static int attempt_start(struct io_put *p)
{
    int group = pick_group(p);

    if (group < 0) {
        return -EAGAIN;
    }
    p->generation++;
    p->oid = (struct hf_oid){
        .session = hf_session_id(p->io->options.session).v,
        .seq = HF_BUG(object_id_reused) && p->generation > 1
                   ? p->oid.seq + 1
                   : hf_session_next_object(p->io->options.session),
        .group = (uint16_t)group,
    };
    p->has_group = true;
    p->member_count = HF_BUG(old_attempt_counts) ? p->member_count : 0;
    p->summed = 0;
    members_sync(p);
    return 0;
}

/* Has no put of this client come through for too long, now that one more waits? */
static bool stuck(struct hf_io *io)
{
    uint64_t now = hf_env_mono_ns(io->env);

    io->stuck_ns = io->stuck_ns ? io->stuck_ns : now;
    return now - io->stuck_ns > io->options.op_timeout_ns;
}

/* No group can take it. Errors: -EIO  nor will one: that machines come back does not help, or none
 * has come for too long. */
static int wait_for_group(struct io_put *p)
{
    uint64_t now = hf_env_mono_ns(p->io->env);

    if (stuck(p->io)) {
        return -EIO;
    }
    if (hf_map_may_take_puts(map_of(p))) {
        p->hopeless_ns = 0;
    } else if (p->hopeless_ns == 0) {
        p->hopeless_ns = now;
    } else if (now - p->hopeless_ns > REFUSED_NS) {
        return -EIO;
    }
    hf_session_refresh_map(p->io->options.session);
    return 0;
}

/* --- frames --- */

static uint32_t frames_available(const struct io_put *p)
{
    if (p->finished) {
        return (p->len_bytes + HF_FRAME_BULK_MAX - 1) / HF_FRAME_BULK_MAX;
    }
    /* What ends the object leaves as its last frame, so a full frame waits for what follows. */
    return p->len_bytes ? (p->len_bytes - 1) / HF_FRAME_BULK_MAX : 0;
}

static uint32_t frame_len(const struct io_put *p, uint32_t index)
{
    uint32_t left = p->len_bytes - index * HF_FRAME_BULK_MAX;

    return left < HF_FRAME_BULK_MAX ? left : HF_FRAME_BULK_MAX;
}

/* The pieces of a frame into iov; @ret_end: where the next one starts. Returns how many there are,
 * which may be more than PIECES_MAX. */
static int frame_pieces(const struct io_put *p, uint32_t index, struct iovec *iov,
                        struct frame_start *ret_end)
{
    struct frame_start at = p->starts[index];
    size_t left = frame_len(p, index);
    int n = 0;

    while (left > 0) {
        const struct iovec *piece = &p->pieces[at.piece];
        size_t len = piece->iov_len - at.off_bytes;

        if (len == 0) { /* grown later by what is adjacent, or not */
            at.piece++;
            at.off_bytes = 0;
            continue;
        }
        len = len < left ? len : left;
        if (n < PIECES_MAX) {
            iov[n] = (struct iovec){(char *)piece->iov_base + at.off_bytes, len};
        }
        n++;
        left -= len;
        at.off_bytes += len;
    }
    *ret_end = at;
    return n;
}

static void bounce_fill(struct io_put *p, uint32_t index, struct hf_buf *buf)
{
    struct frame_start at = p->starts[index];
    size_t len = frame_len(p, index);

    while (buf->len_bytes < len) {
        const struct iovec *piece = &p->pieces[at.piece++];
        size_t n = piece->iov_len - at.off_bytes;

        n = n < len - buf->len_bytes ? n : len - buf->len_bytes;
        memcpy(buf->data + buf->len_bytes, (char *)piece->iov_base + at.off_bytes, n);
        buf->len_bytes += n;
        at.off_bytes = 0;
    }
}

/* The frame's bytes as at most PIECES_MAX pieces, and its checksums. Errors: -ENOMEM. */
static int frame_prepare(struct io_put *p, uint32_t index, struct iovec *iov, int *ret_count)
{
    struct frame_start end;
    uint32_t first = index * (HF_FRAME_BULK_MAX / HF_BLOCK_BYTES);
    int count = frame_pieces(p, index, iov, &end);

    if (count > PIECES_MAX) {
        if (!p->bounce[index]) {
            p->bounce[index] = hf_buf_get(p->io->options.pool, HF_FRAME_BULK_MAX);
            if (!p->bounce[index]) {
                return -ENOMEM;
            }
            bounce_fill(p, index, p->bounce[index]);
        }
        iov[0] = (struct iovec){p->bounce[index]->data, p->bounce[index]->len_bytes};
        count = 1;
    }
    p->starts[index + 1] = end;
    if (p->summed == index) {
        hf_checksum_iov(&p->oid, first, iov, count, p->sums + first);
        p->summed++;
    }
    *ret_count = count;
    return 0;
}

static void frame_done(struct hf_rpc_call *rpc, int err, const struct hf_rpc_reply *reply);

/* Errors: -ENOMEM; -ENXIO  the node is not in the map. */
static int frame_send(struct io_put *p, struct put_member *m, const struct iovec *iov, int count)
{
    struct hf_io *io = p->io;
    uint32_t index = m->next_frame;
    struct hf_rpc_peer *peer = io_peer(io, m->node);
    struct put_frame *f = peer ? calloc(1, sizeof(*f)) : NULL;
    struct hf_msg_put msg = {
        .oid = p->oid,
        .group_epoch = map_of(p)->groups[p->oid.group].epoch,
        .off_bytes = index * HF_FRAME_BULK_MAX,
        .last = p->finished && index + 1 == frames_available(p),
    };
    size_t len;

    if (!f) {
        return peer ? -ENOMEM : -ENXIO;
    }
    if (msg.last) {
        msg.len_bytes = p->len_bytes;
        msg.sums = p->sums;
        msg.sum_count = hf_blocks(p->len_bytes);
    }
    if (hf_msg_put_encode(&msg, io->msg, &len) != 0) {
        HF_UNREACHABLE(); /* 8 KiB of checksums at most */
    }
    f->put = p;
    f->generation = p->generation;
    f->round = m->round;
    f->member = (uint32_t)(m - p->members);
    f->last = msg.last;
    f->sent_ns = hf_env_mono_ns(io->env);
    f->rpc.method = HF_M_PUT;
    f->rpc.msg = io->msg;
    f->rpc.msg_len = len;
    f->rpc.bulk.iov = iov;
    f->rpc.bulk.iov_count = count;
    f->rpc.bulk.summed = true;
    f->rpc.timeout_ns = io->options.put_timeout_ns;
    f->rpc.urgent = p->urgent;
    f->rpc.done = frame_done;
    f->rpc.ctx = f;
    TAILQ_INSERT_TAIL(&p->frames, f, link);
    m->next_frame++;
    hf_rpc_call(peer, &f->rpc);
    return 0;
}

/* Frame by frame, so that all members get each one while it is in the CPU's cache. */
static void frames_send(struct io_put *p)
{
    uint32_t available = frames_available(p);
    struct iovec *iov = p->io->iov;

    for (uint32_t index = 0; index < available; index++) {
        int count = 0;

        for (uint32_t i = 0; i < p->member_count; i++) {
            struct put_member *m = &p->members[i];
            int err = 0;

            if (m->state != MEMBER_SENDING || m->next_frame != index) {
                continue;
            }
            if (count == 0) {
                err = frame_prepare(p, index, iov, &count);
            }
            err = err ? err : frame_send(p, m, iov, count);
            if (err) {
                member_pause(p, m, PAUSE_NS);
            }
        }
    }
}

static bool want_slot(const struct io_put *p)
{
    uint32_t available = frames_available(p);

    if (p->finished || !p->has_group) {
        return p->finished || available > 0;
    }
    for (uint32_t i = 0; i < p->member_count; i++) {
        const struct put_member *m = &p->members[i];

        if (m->state == MEMBER_PAUSED ||
            (m->state == MEMBER_SENDING && m->next_frame < available)) {
            return true;
        }
    }
    return !TAILQ_EMPTY(&p->frames);
}

static bool slot_take(struct io_put *p)
{
    struct hf_io *io = p->io;
    struct io_put *other;

    if (p->slot) {
        return true;
    }
    if (io->slots_used < io->options.puts_max + (p->urgent ? IO_URGENT_SLOTS : 0)) {
        p->slot = true;
        io->slots_used++;
        if (p->slot_waiting) {
            p->slot_waiting = false;
            TAILQ_REMOVE(&io->slot_waiters, p, slot_link);
        }
        return true;
    }
    if (p->slot_waiting) {
        return false;
    }
    p->slot_waiting = true;
    TAILQ_FOREACH (other, &io->slot_waiters, slot_link) {
        if (p->urgent && !other->urgent) {
            TAILQ_INSERT_BEFORE(other, p, slot_link);
            return false;
        }
    }
    TAILQ_INSERT_TAIL(&io->slot_waiters, p, slot_link);
    return false;
}

/* --- the step: whatever happened, do what can be done --- */

static bool put_complete(struct io_put *p)
{
    const struct hf_map *map = map_of(p);
    uint64_t writable = hf_map_group_writable(map, p->oid.group), holders = 0;
    struct hf_io_put *put = p->pub;

    for (uint32_t i = 0; i < p->member_count; i++) {
        if (p->members[i].state == MEMBER_OK ||
            (HF_BUG(paused_counts) && p->members[i].state == MEMBER_PAUSED) ||
            (HF_BUG(holders_count_gone) && p->members[i].state == MEMBER_GONE)) {
            holders |= hf_node_bit(p->members[i].node);
        }
    }
    if (!p->finished || (writable & ~holders) ||
        (uint32_t)__builtin_popcountll(holders & acting_writable(map, p->oid.group)) <
            map->min_copies) {
        return false;
    }
    put->oid = p->oid;
    put->len_bytes = p->len_bytes;
    put->digest = hf_checksum_digest(p->len_bytes, p->sums, hf_blocks(p->len_bytes));
    put->holders = holders;
    put->epoch = map->groups[p->oid.group].epoch;
    p->io->stats.puts++;
    p->io->stats.put_bytes += p->len_bytes;
    return true;
}

static void timer_set(struct io_put *p)
{
    uint64_t delay = LOOK_NS;

    for (uint32_t i = 0; p->has_group && i < p->member_count; i++) {
        const struct put_member *m = &p->members[i];

        if (m->state == MEMBER_PAUSED) {
            uint64_t now = hf_env_mono_ns(p->io->env);
            uint64_t left = m->retry_ns > now ? m->retry_ns - now : 0;

            delay = left < delay ? left : delay;
        }
    }
    if (p->slot && !p->has_group) {
        delay = PAUSE_NS;
    }
    if (!p->timer.armed || delay < LOOK_NS) {
        hf_timer_arm(&p->timer, delay);
    }
}

static void put_step(struct io_put *p)
{
    if (p->over) {
        return;
    }
    if (p->io->freeing || !hf_session_live(p->io->options.session)) {
        put_over(p, p->io->freeing ? -ECANCELED : -HF_EFENCED);
        return;
    }
    if (!want_slot(p)) {
        slot_release(p);
        return;
    }
    if (!slot_take(p)) {
        timer_set(p); /* notices a lost session */
        return;
    }
    if (p->has_group && p->map_epoch != map_of(p)->epoch.v) {
        members_sync(p);
    }
    if (p->has_group && !group_usable(p)) {
        attempt_end(p);
    }
    if (!p->has_group && attempt_start(p) != 0) {
        if (wait_for_group(p) != 0) {
            put_over(p, -EIO);
        } else {
            timer_set(p);
        }
        return;
    }
    p->hopeless_ns = 0;
    frames_send(p);
    if (put_complete(p)) {
        put_over(p, 0);
    } else {
        timer_set(p);
    }
}

/* The oldest frame's member hangs: go elsewhere, if there is a group without it. Only once: when
 * everything is slow, moving about makes it slower. */
static void move_from_hung(struct io_put *p, const struct put_frame *f, uint64_t now)
{
    const struct put_member *m = &p->members[f->member];

    if (p->moved || now - f->sent_ns < HUNG_NS || f->generation != p->generation ||
        f->round != m->round || !p->has_group) {
        return;
    }
    io_node_failed(p->io, m->node, -ETIMEDOUT);
    if (other_group(p, hf_node_bit(m->node)) >= 0) {
        p->moved = true;
        attempt_end(p);
    }
}

static void put_wake(void *ctx)
{
    struct io_put *p = ctx;
    uint64_t now = hf_env_mono_ns(p->io->env);
    struct put_frame *f = TAILQ_FIRST(&p->frames);

    if (f && now - f->sent_ns > OLD_NS) {
        hf_session_refresh_map(p->io->options.session);
        move_from_hung(p, f, now);
    }
    for (uint32_t i = 0; p->has_group && i < p->member_count; i++) {
        struct put_member *m = &p->members[i];

        if (m->state == MEMBER_PAUSED) {
            hf_session_refresh_map(p->io->options.session);
            if (m->retry_ns <= now) {
                member_resume(p, m);
            }
        }
    }
    put_step(p);
}

void put_map_changed(struct hf_io *io)
{
    struct io_put *p = TAILQ_FIRST(&io->puts);

    while (p) {
        struct io_put *next = TAILQ_NEXT(p, link);

        put_step(p);
        p = next;
    }
}

/* --- answers --- */

static void member_no_space(struct io_put *p, struct put_member *m)
{
    io_node_failed(p->io, m->node, -ENOSPC);
    if (other_group(p, avoid_mask(p->io, true)) >= 0) {
        attempt_end(p);
    } else {
        put_over(p, -ENOSPC);
    }
}

/* The member took other bytes under this id. */
static void member_conflict(struct io_put *p, struct put_member *m, int err)
{
    char text[HF_OID_STR_MAX];

    hf_log(HF_LOG_ERROR, "io", "put refused", "oid=%s node=%u err=\"%s\"",
           hf_oid_str(&p->oid, text), m->node.v, hf_err_text(err));
    if (++p->conflicts > CONFLICTS_MAX) {
        put_over(p, -EIO);
    } else {
        attempt_end(p);
    }
}

/* Has it failed for too long, now that it fails again? */
static bool hopeless(const struct io_put *p, struct put_member *m)
{
    uint64_t now = hf_env_mono_ns(p->io->env);

    m->refused_ns = m->refused_ns ? m->refused_ns : now;
    return now - m->refused_ns > REFUSED_NS;
}

/* It got other bytes than were summed: damaged on the way, or else in memory here, for good. */
static void member_damaged(struct io_put *p, struct put_member *m)
{
    char text[HF_OID_STR_MAX];

    hf_log(HF_LOG_WARN, "io", "put damaged on the way", "oid=%s node=%u", hf_oid_str(&p->oid, text),
           m->node.v);
    if (hopeless(p, m)) {
        put_over(p, -EIO);
    } else {
        member_pause(p, m, PAUSE_SHORT_NS);
    }
}

static void member_unwell(struct io_put *p, struct put_member *m, int err, bool answered)
{
    io_node_failed(p->io, m->node, err);
    hf_session_refresh_map(p->io->options.session);
    if (other_group(p, hf_node_bit(m->node)) >= 0) {
        attempt_end(p);
        return;
    }
    if (!answered || !hf_session_leader(p->io->options.session)[0]) {
        m->refused_ns = 0; /* the map cannot say so yet, if it is the disk */
    } else if (hopeless(p, m)) {
        put_over(p, -EIO);
        return;
    }
    if (stuck(p->io)) {
        put_over(p, -EIO);
    } else {
        member_pause(p, m, PAUSE_NS);
    }
}

static void member_failed(struct io_put *p, struct put_member *m, int err, bool answered)
{
    switch (-err) {
    case HF_ESTALE_EPOCH:
        hf_session_refresh_map(p->io->options.session);
        member_pause(p, m, PAUSE_SHORT_NS);
        m->stale = true;
        break;
    case EAGAIN:
    case ENOMEM: /* what it sends again is megabytes */
        member_pause(p, m, PAUSE_SHORT_NS << m->waits);
        m->waits += m->waits < WAITS_DOUBLE;
        break;
    case HF_ENOTREADY:
        member_pause(p, m, PAUSE_SHORT_NS);
        break;
    case HF_EFENCED:
        put_over(p, err);
        break;
    case HF_ECONFLICT:
        member_conflict(p, m, err);
        break;
    case HF_ECHECKSUM:
        member_damaged(p, m);
        break;
    case ENOSPC:
        member_no_space(p, m);
        break;
    default:
        member_unwell(p, m, err, answered);
        break;
    }
}

/* Did the store itself say so, or is the way to it broken? */
static bool was_answered(const struct hf_io *io, struct hf_node_id node, int err)
{
    const struct hf_rpc_peer *peer = io->nodes[node.v].peer;

    return err != -ETIMEDOUT && err != -HF_EDISCONNECTED && err != -ECANCELED && peer &&
           hf_rpc_peer_connected(peer);
}

static void frame_done(struct hf_rpc_call *rpc, int err, const struct hf_rpc_reply *reply)
{
    struct put_frame *f = rpc->ctx;
    struct io_put *p = f->put;
    struct put_member *m = &p->members[f->member];
    bool current = f->generation == p->generation && p->has_group && f->round == m->round;
    bool last = f->last;

    (void)reply; /* says nothing */
    TAILQ_REMOVE(&p->frames, f, link);
    free(f);
    if (p->io->freeing) {
        return; /* put_stop_all() ends it */
    }
    if (p->over) {
        ready_if_quiet(p);
        return;
    }
    if (current && err) {
        member_failed(p, m, err, was_answered(p->io, m->node, err));
    } else if (current && (last || (HF_BUG(frame_ack_counts) && p->finished))) {
        if (has_returned(p, m)) {
            member_resume(p, m);
        } else {
            m->state = MEMBER_OK;
        }
    } else if (current) {
        m->waits = 0;
    }
    put_step(p);
}
