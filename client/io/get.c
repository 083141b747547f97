/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get.c - reads of objects: from the cache, or from the best replica that has good bytes.
 *
 *     get ──► parts ──► run (cached, being fetched, or new)
 *     run ──► replica ──► verify ──► READY ──► its parts ──► gets whose parts are all there
 *                └─ error, time-out, mismatch ──► next replica; after the last one a fresh map
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

#define FETCH_TIMEOUT_NS (30 * HF_NS_PER_SEC)
/* Every replica that answers has said "no such object", the others are DOWN for so long: believe
 * them, so that a reader with old extents fetches new ones. */
#define MISSING_NS     (3 * HF_NS_PER_SEC)
#define ROUND_STEP_NS  (50 * HF_NS_PER_MS)
#define ROUND_DELAY_NS (500 * HF_NS_PER_MS)

static void fetch_next(struct io_run *run);

/* --- runs --- */

static void fetch_round(void *ctx);

struct io_run *run_new(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                       uint32_t len_bytes)
{
    struct io_run *run = calloc(1, sizeof(*run));

    if (!run) {
        return NULL;
    }
    HF_ASSERT(off_bytes % HF_BLOCK_BYTES == 0 && len_bytes > 0 && len_bytes <= HF_FRAME_BULK_MAX);
    run->io = io;
    run->oid = *oid;
    run->off_bytes = off_bytes;
    run->len_bytes = len_bytes;
    run->refs = 1;
    TAILQ_INIT(&run->parts);
    hf_timer_init(&run->timer, io->env, fetch_round, run);
    TAILQ_INSERT_TAIL(&io->fetching, run, link);
    return run;
}

void run_unref(struct io_run *run)
{
    HF_ASSERT(run->refs > 0);
    if (--run->refs == 0) {
        HF_ASSERT(!run->in_lru && TAILQ_EMPTY(&run->parts));
        hf_buf_unref(run->buf);
        free(run);
    }
}

static void get_part_done(struct io_part *part, int err)
{
    struct io_get *g = part->get;

    part->waiting = false;
    g->err = g->err ? g->err : err;
    if (--g->pending == 0) {
        g->ready = true;
        TAILQ_REMOVE(&g->io->gets, g, link);
        TAILQ_INSERT_TAIL(&g->io->gets_ready, g, link);
        io_post(g->io);
    }
}

/* The fetch has ended: READY with a buffer, or FAILED. Drops the fetch's reference. */
static void run_over(struct io_run *run, enum run_state state, int err)
{
    struct hf_io *io = run->io;
    struct io_part *part;

    HF_ASSERT(run->state == RUN_FETCHING);
    run->state = state;
    run->err = err;
    hf_timer_fini(&run->timer);
    TAILQ_REMOVE(&io->fetching, run, link);
    if (run->prefetch) {
        io->prefetch_bytes -= (uint64_t)IO_CHUNK_BYTES * IO_RUN_CHUNKS_MAX;
    }
    if (run->cached && state == RUN_READY) {
        cache_forget(run, (run->off_bytes + run->len_bytes + IO_CHUNK_BYTES - 1) / IO_CHUNK_BYTES);
        cache_keep(run);
    } else if (run->cached) {
        cache_forget(run, 0);
    }
    while ((part = TAILQ_FIRST(&run->parts)) != NULL) {
        TAILQ_REMOVE(&run->parts, part, link);
        get_part_done(part, err);
    }
    run_unref(run);
}

/* --- one fetch --- */

void run_start(struct io_run *run)
{
    run->deadline_ns = hf_env_mono_ns(run->io->env) + FETCH_TIMEOUT_NS;
    fetch_round(run);
}

/* It failed just now, here or as a metadata node. */
static bool is_slow(const struct hf_io *io, struct hf_node_id node)
{
    const struct hf_map_node *n = hf_map_node(hf_session_map(io->options.session), node);

    return io->nodes[node.v].slow_until_ns > hf_env_mono_ns(io->env) ||
           (n && hf_session_silent(io->options.session, n->addr));
}

/* Replicas in the map's order, the slow ones last. */
static void fetch_round(void *ctx)
{
    struct io_run *run = ctx;
    struct hf_io *io = run->io;
    const struct hf_map *map = hf_session_map(io->options.session);
    struct hf_node_id all[2 * HF_REPLICAS_MAX];
    uint32_t count = 0;

    run->reader = run->reader_count = 0;
    run->missing = run->bad = run->damaged = run->unreachable = false;
    if (run->oid.group < map->group_count) {
        count = hf_map_group_readers(map, run->oid.group, hf_oid_hash(&run->oid), all);
    }
    for (int slow = 0; slow < 2; slow++) {
        for (uint32_t i = 0; i < count; i++) {
            if (is_slow(io, all[i]) == (slow == 1)) {
                run->readers[run->reader_count++] = all[i];
            }
        }
    }
    fetch_next(run);
}

/* Are all members of the group that are not known to be down among those that answered? */
static bool unreachable_is_down(struct io_run *run)
{
    const struct hf_map *map = hf_session_map(run->io->options.session);

    for (uint32_t i = 0; i < run->reader_count; i++) {
        const struct hf_map_node *n = hf_map_node(map, run->readers[i]);

        if (n && n->state != HF_NODE_DOWN &&
            run->io->nodes[n->id.v].slow_until_ns > hf_env_mono_ns(run->io->env)) {
            return false;
        }
    }
    return true;
}

static void fetch_round_over(struct io_run *run)
{
    struct hf_io *io = run->io;
    uint64_t now = hf_env_mono_ns(io->env), delay;
    bool may_pass = run->reader_count == 0 || run->unreachable || run->damaged;

    run->round++;
    run->bad_ever = run->bad_ever || run->bad;
    if (run->round >= 2 && !may_pass) {
        run_over(run, RUN_FAILED, run->bad || !run->missing ? -EIO : -HF_ENOOBJECT);
        return;
    }
    if (run->missing && !run->bad_ever && now + FETCH_TIMEOUT_NS > run->deadline_ns + MISSING_NS &&
        unreachable_is_down(run)) {
        run_over(run, RUN_FAILED, -HF_ENOOBJECT);
        return;
    }
    if (now >= run->deadline_ns) {
        run_over(run, RUN_FAILED, !run->bad_ever && run->timed_out ? -ETIMEDOUT : -EIO);
        return;
    }
    hf_session_refresh_map(io->options.session);
    delay = run->round * ROUND_STEP_NS;
    hf_timer_arm(&run->timer, delay < ROUND_DELAY_NS ? delay : ROUND_DELAY_NS);
}

/* Errors: -EBADMSG  not an answer to what was asked; -HF_ECHECKSUM. */
static int check_reply(struct io_run *run, const struct hf_rpc_reply *reply, uint32_t *ret_len)
{
    struct hf_msg_get_reply m;
    void *mem = NULL;
    uint32_t len;
    int err = hf_msg_get_reply_decode(reply->msg, reply->msg_len, &m, &mem);

    if (err) {
        return -EBADMSG;
    }
    if (m.object_len_bytes <= run->off_bytes || m.object_len_bytes > HF_OBJECT_BYTES_MAX) {
        hf_msg_release(mem);
        return -EBADMSG;
    }
    len = m.object_len_bytes - run->off_bytes;
    len = len < run->len_bytes ? len : run->len_bytes;
    if (!reply->bulk || reply->bulk->len_bytes != len || m.sum_count != hf_blocks(len)) {
        err = -EBADMSG;
    } else if (!(HF_BUG(prefetch_unverified) && run->prefetch) &&
               hf_checksum_verify(&run->oid, run->off_bytes / HF_BLOCK_BYTES, reply->bulk->data,
                                  len, m.sums) >= 0) {
        err = -HF_ECHECKSUM;
    }
    hf_msg_release(mem);
    *ret_len = len;
    return err;
}

static void report_bad(struct io_run *run, struct hf_node_id node, int err)
{
    struct hf_io *io = run->io;
    struct hf_msg_oids m = {.oids = &run->oid, .count = 1};
    char text[HF_OID_STR_MAX];
    size_t len;

    io->stats.mismatches++;
    hf_log(HF_LOG_WARN, "io", "bad copy", "oid=%s node=%u offset=%u err=\"%s\"",
           hf_oid_str(&run->oid, text), node.v, run->off_bytes, hf_err_text(err));
    if (hf_msg_oids_encode(&m, io->msg, &len) == 0) {
        io_fire(io, node, HF_M_REPORT_BAD, len, false);
    }
}

static void fetch_failed(struct io_run *run, struct hf_node_id node, int err)
{
    struct hf_io *io = run->io;

    io->stats.get_fallbacks++;
    switch (-err) {
    case HF_ENOOBJECT:
        run->missing = true;
        break;
    case HF_ECHECKSUM: /* the way there; if it is the copy, its store will say so */
        run->bad = run->damaged = true;
        break;
    case HF_EQUARANTINED:
    case EBADMSG:
    case EPROTO:
    case EIO:
        run->bad = true;
        break;
    default: /* nobody there, or busy */
        run->unreachable = true;
        run->timed_out = run->timed_out || err == -ETIMEDOUT;
        io_node_failed(io, node, err);
        break;
    }
}

static void fetch_done(struct hf_rpc_call *rpc, int err, const struct hf_rpc_reply *reply)
{
    struct io_run *run = rpc->ctx;
    struct hf_node_id node = run->readers[run->reader];
    uint32_t len = 0;

    if (run->io->freeing) {
        run_over(run, RUN_FAILED, -ECANCELED);
        return;
    }
    if (err == -EINVAL) { /* starts past the object's end */
        run_over(run, RUN_FAILED, -EIO);
        return;
    }
    if (!err) {
        err = reply ? check_reply(run, reply, &len) : -EBADMSG;
        if (err) {
            report_bad(run, node, err);
        }
    }
    if (!err) {
        run->buf = hf_buf_ref(reply->bulk);
        run->len_bytes = len;
        run->io->stats.get_bytes += len;
        run_over(run, RUN_READY, 0);
        return;
    }
    fetch_failed(run, node, err);
    run->reader++;
    fetch_next(run);
}

static void fetch_next(struct io_run *run)
{
    struct hf_io *io = run->io;
    struct hf_msg_get m = {
        .oid = run->oid, .off_bytes = run->off_bytes, .len_bytes = run->len_bytes};
    struct hf_rpc_peer *peer = NULL;
    size_t len;

    while (run->reader < run->reader_count) {
        peer = io_peer(io, run->readers[run->reader]);
        if (peer) {
            break;
        }
        run->unreachable = true;
        run->reader++;
    }
    if (!peer) {
        fetch_round_over(run);
        return;
    }
    if (hf_msg_get_encode(&m, io->msg, &len) != 0) {
        HF_UNREACHABLE(); /* a fixed, small message */
    }
    memset(&run->rpc, 0, sizeof(run->rpc));
    run->rpc.method = HF_M_GET;
    run->rpc.msg = io->msg;
    run->rpc.msg_len = len;
    run->rpc.timeout_ns = io->options.get_timeout_ns;
    run->rpc.done = fetch_done;
    run->rpc.ctx = run;
    hf_rpc_call(peer, &run->rpc);
}

/* --- gets --- */

static int get_add(struct io_get *g, struct io_run *run, uint32_t off_bytes, uint32_t end_bytes)
{
    struct io_part *part = &g->parts[g->part_count];

    if (g->part_count == HF_ARRAY_LEN(g->parts)) {
        return -EIO;
    }
    g->part_count++;
    part->get = g;
    part->run = run;
    part->off_bytes = off_bytes;
    part->len_bytes = end_bytes - off_bytes;
    run->refs++;
    if (run->state == RUN_FETCHING) {
        part->waiting = true;
        g->pending++;
        TAILQ_INSERT_TAIL(&run->parts, part, link);
    }
    return 0;
}

/* Fetch @count chunks from @chunk into the cache. NULL: no memory. */
static struct io_run *chunks_fetch(struct hf_io *io, const struct hf_oid *oid, uint32_t chunk,
                                   uint32_t count)
{
    struct io_run *run = run_new(io, oid, chunk * IO_CHUNK_BYTES, count * IO_CHUNK_BYTES);

    if (run) {
        cache_enter(run);
    }
    return run;
}

/* How many chunks from @chunk to before @end are of the same @run (NULL: missing). */
static uint32_t same_run(struct hf_io *io, const struct hf_oid *oid, struct io_run *run,
                         uint32_t chunk, uint32_t end)
{
    uint32_t n = 1;

    while (chunk + n < end && n < IO_RUN_CHUNKS_MAX && cache_find(io, oid, chunk + n) == run) {
        n++;
    }
    return n;
}

static int get_cached(struct io_get *g, const struct hf_oid *oid, uint32_t off, uint32_t end)
{
    struct hf_io *io = g->io;
    uint32_t chunk = off / IO_CHUNK_BYTES;
    uint32_t chunk_end = (end + IO_CHUNK_BYTES - 1) / IO_CHUNK_BYTES;

    while (chunk < chunk_end) {
        struct io_run *run = cache_find(io, oid, chunk), *fresh = NULL;
        uint32_t n = same_run(io, oid, run, chunk, chunk_end);
        uint32_t to = (chunk + n) * IO_CHUNK_BYTES, from = chunk * IO_CHUNK_BYTES;
        int err;

        if (run) {
            io->stats.cache_hits += n;
            cache_touch(run);
        } else {
            io->stats.cache_misses += n;
            run = fresh = chunks_fetch(io, oid, chunk, n);
            if (!run) {
                return -ENOMEM;
            }
        }
        err = get_add(g, run, from > off ? from : off, to < end ? to : end);
        if (fresh) {
            run_start(fresh);
        }
        if (err) {
            return err;
        }
        chunk += n;
    }
    return 0;
}

static int get_direct(struct io_get *g, const struct hf_oid *oid, uint32_t off, uint32_t end)
{
    while (off < end) {
        uint32_t start = off / HF_BLOCK_BYTES * HF_BLOCK_BYTES;
        uint32_t stop = (end + HF_BLOCK_BYTES - 1) / HF_BLOCK_BYTES * HF_BLOCK_BYTES;
        struct io_run *run;
        int err;

        stop = stop - start < HF_FRAME_BULK_MAX ? stop : start + HF_FRAME_BULK_MAX;
        run = run_new(g->io, oid, start, stop - start);
        if (!run) {
            return -ENOMEM;
        }
        err = get_add(g, run, off, stop < end ? stop : end);
        run_start(run);
        if (err) {
            return err;
        }
        off = stop;
    }
    return 0;
}

static bool range_ok(uint32_t off_bytes, uint32_t len_bytes)
{
    return len_bytes > 0 && off_bytes < HF_OBJECT_BYTES_MAX &&
           len_bytes <= HF_OBJECT_BYTES_MAX - off_bytes;
}

void hf_io_get(struct hf_io *io, struct hf_io_get *get)
{
    struct io_get *g = calloc(1, sizeof(*g));
    uint32_t end = get->off_bytes + get->len_bytes;
    int err;

    hf_assert_loop(io->env);
    HF_ASSERT_MEMORY(g);
    get->impl[0] = g;
    get->slice_count = 0;
    g->pub = get;
    g->io = io;
    g->pending = 1; /* ours, while parts are added */
    TAILQ_INSERT_TAIL(&io->gets, g, link);
    io->stats.gets++;
    if (io->freeing) {
        err = -ECANCELED;
    } else if (!range_ok(get->off_bytes, get->len_bytes)) {
        err = -EIO; /* no extent names such bytes, unless the metadata is damaged */
    } else if (get->cache || hf_io_cached(io, &get->oid, get->off_bytes, get->len_bytes)) {
        err = get_cached(g, &get->oid, get->off_bytes, end);
    } else {
        err = get_direct(g, &get->oid, get->off_bytes, end);
    }
    get_part_done(&(struct io_part){.get = g}, err);
}

static int slices_copied(struct io_get *g)
{
    struct hf_io_get *get = g->pub;
    struct hf_buf *buf = hf_buf_get(g->io->options.pool, get->len_bytes);

    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct io_part *part = &g->parts[i];

        memcpy(buf->data + (part->off_bytes - get->off_bytes),
               part->run->buf->data + (part->off_bytes - part->run->off_bytes), part->len_bytes);
    }
    buf->len_bytes = get->len_bytes;
    get->slices[0] = (struct hf_io_slice){.buf = buf, .len_bytes = get->len_bytes};
    get->slice_count = 1;
    return 0;
}

static int slices_make(struct io_get *g)
{
    struct hf_io_get *get = g->pub;

    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct io_part *part = &g->parts[i];
        const struct io_run *run = part->run;

        if (part->off_bytes + part->len_bytes > run->off_bytes + run->len_bytes) {
            return -EIO; /* past the object's end: no extent may name that */
        }
    }
    if (g->part_count > HF_IO_SLICES_MAX) {
        return slices_copied(g);
    }
    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct io_part *part = &g->parts[i];

        get->slices[get->slice_count++] = (struct hf_io_slice){
            .buf = hf_buf_ref(part->run->buf),
            .off_bytes = part->off_bytes - part->run->off_bytes,
            .len_bytes = part->len_bytes,
        };
    }
    return 0;
}

void get_deliver(struct hf_io *io)
{
    struct io_get *g;

    while ((g = TAILQ_FIRST(&io->gets_ready)) != NULL) {
        struct hf_io_get *get = g->pub;
        int err = g->err;

        TAILQ_REMOVE(&io->gets_ready, g, link);
        if (!err) {
            err = slices_make(g);
        }
        for (uint32_t i = 0; i < g->part_count; i++) {
            run_unref(g->parts[i].run);
        }
        free(g);
        get->done(get, err);
    }
}

void get_stop_all(struct hf_io *io)
{
    while (!TAILQ_EMPTY(&io->fetching)) {
        run_over(TAILQ_FIRST(&io->fetching), RUN_FAILED, -ECANCELED);
    }
    HF_ASSERT(TAILQ_EMPTY(&io->gets));
}

/* --- warming --- */

void hf_io_prefetch(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                    uint32_t len_bytes)
{
    uint32_t chunk = off_bytes / IO_CHUNK_BYTES, end;

    if (io->freeing || !range_ok(off_bytes, len_bytes)) {
        return;
    }
    end = (off_bytes + len_bytes + IO_CHUNK_BYTES - 1) / IO_CHUNK_BYTES;
    while (chunk < end) {
        struct io_run *run = cache_find(io, oid, chunk);
        uint32_t n = same_run(io, oid, run, chunk, end);

        if (!run) {
            if (io->prefetch_bytes + HF_FRAME_BULK_MAX > IO_PREFETCH_MAX) {
                return;
            }
            run = chunks_fetch(io, oid, chunk, n);
            if (!run) {
                return;
            }
            run->prefetch = true;
            io->prefetch_bytes += (uint64_t)IO_CHUNK_BYTES * IO_RUN_CHUNKS_MAX;
            run_start(run);
        }
        chunk += n;
    }
}

bool hf_io_cached(struct hf_io *io, const struct hf_oid *oid, uint32_t off_bytes,
                  uint32_t len_bytes)
{
    uint32_t end;

    if (!range_ok(off_bytes, len_bytes)) {
        return false;
    }
    end = (off_bytes + len_bytes + IO_CHUNK_BYTES - 1) / IO_CHUNK_BYTES;
    for (uint32_t c = off_bytes / IO_CHUNK_BYTES; c < end; c++) {
        struct io_run *run = cache_find(io, oid, c);

        if (!run || run->state != RUN_READY) {
            return false;
        }
    }
    return true;
}
