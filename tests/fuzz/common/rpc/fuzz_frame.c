/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's or a peer's connection fed arbitrary bytes in pieces, over a fake environment.
 *
 * Input: byte 0 flags (1: repair checksums, so that mutations get behind them; 2: the writer is
 * full now and then; 4: free the server with requests held; 8: the stream hangs at its end; 16: a
 * peer with calls in flight, not a server), byte 1 bytes per read, then the stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/env/env_impl.h"
#include "common/log/log.h"
#include "common/rpc/frame.h"
#include "common/rpc/rpc.h"
#include "tests/fuzz/fuzz.h"

#define TIMERS_MAX 16
#define HELD_MAX   64
#define CALLS      4

struct fake {
    struct hf_env env;
    struct hf_stream stream;
    struct hf_listener listener;
    hf_accept_fn accept;
    void *accept_ctx;
    struct hf_stream_events events;
    void *events_ctx;
    struct hf_task *head, **tail;
    struct hf_timer *timers[TIMERS_MAX];
    uint64_t now_ns;
    uint8_t *in;
    size_t in_len, in_at, piece;
    bool writer_fills, hangs;
    uint32_t writes, connects, done_count;
    bool want_read, want_write, closed;
    struct hf_rpc_request *held[HELD_MAX];
    uint32_t held_count;
    uint32_t sum; /* so that what is borrowed is read */
};

static struct fake f;

static uint64_t fake_ns(struct hf_env *env)
{
    (void)env;
    return ++f.now_ns;
}

static void fake_random(struct hf_env *env, void *ret, size_t len)
{
    (void)env;
    memset(ret, 7, len);
}

static void fake_timer_arm(struct hf_env *env, struct hf_timer *timer, uint64_t delay_ns)
{
    size_t at = 0;

    (void)env;
    (void)delay_ns;
    for (size_t i = 0; i < TIMERS_MAX; i++) {
        if (f.timers[i] == timer) {
            return;
        }
    }
    while (f.timers[at]) {
        HF_ASSERT(++at < TIMERS_MAX);
    }
    f.timers[at] = timer;
}

static void fake_timer_disarm(struct hf_env *env, struct hf_timer *timer)
{
    (void)env;
    for (size_t i = 0; i < TIMERS_MAX; i++) {
        if (f.timers[i] == timer) {
            f.timers[i] = NULL;
        }
    }
}

static void fake_post(struct hf_env *env, struct hf_task *task)
{
    (void)env;
    if (!task->queued) {
        task->queued = true;
        task->next = NULL;
        *f.tail = task;
        f.tail = &task->next;
    }
}

static bool fake_yes(struct hf_env *env)
{
    (void)env;
    return true;
}

static int fake_listen(struct hf_env *env, const char *addr, hf_accept_fn accept, void *ctx,
                       struct hf_listener **ret)
{
    (void)env;
    (void)addr;
    f.accept = accept;
    f.accept_ctx = ctx;
    *ret = &f.listener;
    return 0;
}

static int fake_connect(struct hf_env *env, const char *addr, const struct hf_stream_events *events,
                        void *ctx, struct hf_stream **ret)
{
    (void)env;
    (void)addr;
    if (f.connects++ > 0) {
        return -EMFILE;
    }
    f.events = *events;
    f.events_ctx = ctx;
    *ret = &f.stream;
    return 0;
}

static void fake_listener_close(struct hf_listener *listener)
{
    (void)listener;
}

static void fake_set_events(struct hf_stream *s, const struct hf_stream_events *events, void *ctx)
{
    (void)s;
    f.events = *events;
    f.events_ctx = ctx;
}

static void fake_want(struct hf_stream *s, bool read, bool write)
{
    (void)s;
    HF_ASSERT(!f.closed);
    f.want_read = read;
    f.want_write = write;
}

static ssize_t fake_readv(struct hf_stream *s, const struct iovec *iov, int count)
{
    size_t left = f.in_len - f.in_at, got = 0;

    (void)s;
    HF_ASSERT(!f.closed);
    if (left == 0 && f.hangs) {
        return -EAGAIN;
    }
    left = left < f.piece ? left : f.piece;
    for (int i = 0; i < count && left > 0; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

        memcpy(iov[i].iov_base, f.in + f.in_at, n);
        f.in_at += n;
        got += n;
        left -= n;
    }
    return (ssize_t)got;
}

static ssize_t fake_writev(struct hf_stream *s, const struct iovec *iov, int count)
{
    size_t bytes = 0;

    (void)s;
    HF_ASSERT(!f.closed);
    for (int i = 0; i < count; i++) {
        bytes += iov[i].iov_len;
    }
    if (f.writer_fills) {
        f.writes++;
        if (f.writes % 3 == 0) {
            return -EAGAIN;
        }
        bytes = bytes > 50 ? 50 : bytes;
    }
    return (ssize_t)bytes;
}

static const char *fake_peer(const struct hf_stream *s)
{
    (void)s;
    return "fuzz";
}

static void fake_close(struct hf_stream *s)
{
    (void)s;
    f.closed = true;
    f.want_read = f.want_write = false;
}

static const struct hf_env_ops env_ops = {
    .mono_ns = fake_ns,
    .random = fake_random,
    .timer_arm = fake_timer_arm,
    .timer_disarm = fake_timer_disarm,
    .timer_fini = fake_timer_disarm,
    .post = fake_post,
    .on_loop = fake_yes,
    .listen = fake_listen,
    .connect = fake_connect,
};
static const struct hf_listener_ops listener_ops = {.close = fake_listener_close};
static const struct hf_stream_ops stream_ops = {
    .set_events = fake_set_events,
    .want = fake_want,
    .readv = fake_readv,
    .writev = fake_writev,
    .peer = fake_peer,
    .close = fake_close,
};

static void release_buf(void *ctx)
{
    hf_buf_unref((struct hf_buf *)ctx);
}

static void answer(struct hf_rpc_request *req)
{
    struct hf_buf *buf = req->bulk ? hf_buf_ref(req->bulk) : NULL;
    struct iovec iov = {NULL, 0};
    struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .release = release_buf, .ctx = buf};

    if (buf) {
        iov = (struct iovec){buf->data, buf->len_bytes};
    }
    hf_rpc_reply(req, req->method % 2 ? 0 : -ENOENT, "answer", 6, buf ? &bulk : NULL);
}

static void serve(void *ctx, struct hf_rpc_request *req)
{
    uint8_t sum = 0;

    (void)ctx;
    for (size_t i = 0; i < req->msg_len; i++) {
        sum = (uint8_t)(sum + req->msg[i]);
    }
    for (size_t i = 0; req->bulk && i < req->bulk->len_bytes; i += 512) {
        sum = (uint8_t)(sum + req->bulk->data[i]);
    }
    HF_ASSERT(req->oneway == (req->deadline_ns == UINT64_MAX));
    HF_ASSERT(strnlen(req->peer->name, sizeof(req->peer->name)) < sizeof(req->peer->name));
    if (req->method % 4 == 2 && f.held_count < HELD_MAX && sum != 13) {
        f.held[f.held_count++] = req;
    } else {
        answer(req);
    }
}

static void run_tasks(void)
{
    while (f.head) {
        struct hf_task *task = f.head;

        f.head = task->next;
        if (!f.head) {
            f.tail = &f.head;
        }
        task->queued = false;
        task->fn(task);
    }
}

static void fire_timers(void)
{
    f.now_ns += 20 * HF_NS_PER_SEC;
    for (size_t i = 0; i < TIMERS_MAX; i++) {
        struct hf_timer *timer = f.timers[i];

        if (timer) {
            f.timers[i] = NULL;
            timer->armed = false;
            timer->fn(timer->ctx);
        }
    }
}

/* Make the checksums of what look like frames hold. */
static void repair(uint8_t *in, size_t len)
{
    size_t at = 0;

    while (len - at >= HF_FRAME_HEADER_BYTES) {
        struct hf_frame frame;
        const char *why;
        size_t left = len - at - HF_FRAME_HEADER_BYTES;

        hf_put_le32(in + at, HF_FRAME_MAGIC);
        in[at + 4] = HF_FRAME_VERSION;
        if (hf_frame_decode(in + at, &frame, &why) != 0 || frame.msg_len > left) {
            return;
        }
        left -= frame.msg_len;
        if (frame.bulk_len && frame.bulk_len <= left) {
            const struct iovec iov = {in + at + HF_FRAME_HEADER_BYTES + frame.msg_len,
                                      frame.bulk_len};

            hf_put_le64(in + at + 48, hf_frame_bulk_sum(&iov, 1));
        }
        hf_frame_seal(in + at, frame.msg_len);
        at += HF_FRAME_HEADER_BYTES + frame.msg_len;
        at += frame.bulk_len < left ? frame.bulk_len : left;
    }
}

static void let_go(void)
{
    while (f.held_count > 0) {
        answer(f.held[--f.held_count]);
    }
}

static void play_turns(uint8_t flags, uint32_t turns)
{
    for (uint32_t turn = 0; !f.closed && turn < turns; turn++) {
        if (f.hangs && f.in_at == f.in_len && !f.want_write) {
            break;
        }
        if (f.want_read) {
            f.events.readable(f.events_ctx);
        }
        if (f.want_write) {
            f.events.writable(f.events_ctx);
        }
        run_tasks();
        if (!f.closed && !f.want_read) {
            if (!(flags & 4)) {
                let_go();
                run_tasks();
            } else if (!f.want_write) {
                break;
            }
        }
    }
}

static void play(uint8_t flags)
{
    play_turns(flags, 100000);
    fire_timers();
    run_tasks();
}

static void note_nothing(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

static void fuzz_server(uint8_t flags, struct hf_bufpool *pool)
{
    const struct hf_rpc_service service = {.request = serve};
    struct hf_rpc_server_options options = {.addr = "fuzz", .requests_max = 3, .pool = pool};
    struct hf_rpc_server *server;

    options.self.cluster.b[0] = 1;
    HF_ASSERT(hf_rpc_server_new(&f.env, &options, &service, &server) == 0);
    f.accept(f.accept_ctx, &f.stream);
    play(flags);
    if (flags & 4) {
        hf_rpc_server_free(server);
        let_go();
    } else {
        let_go();
        hf_rpc_server_free(server);
    }
}

static void call_done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    uint8_t sum = 0;

    (void)call;
    (void)err;
    for (size_t i = 0; i < reply->msg_len; i++) {
        sum = (uint8_t)(sum + reply->msg[i]);
    }
    f.done_count++;
    f.sum += sum;
}

static void send_released(void *ctx)
{
    ++*(uint32_t *)ctx;
}

static void fuzz_peer(uint8_t flags, struct hf_bufpool *pool)
{
    struct hf_rpc_peer_options options = {.addr = "fuzz:1", .pool = pool};
    const struct iovec iov = {"bulk", 4};
    uint32_t sends = 0, released = 0;
    const struct hf_rpc_bulk bulk = {
        .iov = &iov, .iov_count = 1, .release = send_released, .ctx = &released};
    struct hf_rpc_call calls[CALLS];
    struct hf_rpc_peer *peer;

    options.expect_cluster.b[0] = 1;
    HF_ASSERT(hf_rpc_peer_new(&f.env, &options, &peer) == 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        calls[i] = (struct hf_rpc_call){.method = 1, .timeout_ns = 1, .done = call_done};
        calls[i].timeout_ns = (i + 1) * 15 * HF_NS_PER_SEC;
        hf_rpc_call(peer, &calls[i]);
    }
    run_tasks();
    f.events.connected(f.events_ctx, 0);
    for (uint32_t i = 0; i < 3; i++) { /* dropped, mostly: the server's HELLO is in the input */
        (void)hf_rpc_send(peer, 36, "one-way", 7, &bulk, 100 * i);
        sends++;
        play_turns(flags, i);
    }
    play(flags);
    fire_timers();
    run_tasks();
    (void)hf_rpc_send(peer, 36, "one-way", 7, &bulk, 100);
    sends++;
    hf_rpc_peer_free(peer);
    run_tasks();
    HF_ASSERT(released == sends);
    HF_ASSERT(f.done_count == CALLS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hf_bufpool *pool;

    if (len < 2) {
        return 0;
    }
    hf_log_set_sink(note_nothing, NULL);
    f = (struct fake){.env.ops = &env_ops,
                      .stream.ops = &stream_ops,
                      .listener.ops = &listener_ops,
                      .piece = data[1] ? 37u * data[1] : SIZE_MAX,
                      .writer_fills = (data[0] & 2) != 0,
                      .hangs = (data[0] & 8) != 0,
                      .in_len = len - 2};
    f.tail = &f.head;
    f.in = malloc(len);
    HF_ASSERT(f.in != NULL);
    memcpy(f.in, data + 2, len - 2);
    if (data[0] & 1) {
        repair(f.in, f.in_len);
    }
    HF_ASSERT(hf_bufpool_new(1u << 20, 160u << 10, &pool) == 0);
    if (data[0] & 16) {
        fuzz_peer(data[0], pool);
    } else {
        fuzz_server(data[0], pool);
    }
    run_tasks();
    HF_ASSERT(f.closed);
    hf_bufpool_free(pool);
    free(f.in);
    return 0;
}

static void seed_frame(struct hf_writer *w, struct hf_frame frame, const void *msg)
{
    static uint8_t bytes[32768];
    const struct iovec iov = {bytes, frame.bulk_len};
    uint8_t *at = hf_write_room(w, HF_FRAME_HEADER_BYTES);

    frame.bulk_sum = frame.bulk_len ? hf_frame_bulk_sum(&iov, 1) : 0;
    hf_frame_encode(&frame, at);
    hf_write_bytes(w, msg, frame.msg_len);
    hf_write_bytes(w, bytes, frame.bulk_len);
    hf_frame_seal(at, frame.msg_len);
}

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static const uint8_t pieces[] = {0, 1, 2, 5, 110};
    static const uint32_t bulks[] = {0, 1, 100, 5000, 20000};
    struct hf_writer w = hf_writer_init(ret, cap);
    struct hf_rpc_identity id = {.cluster = {{1}}, .name = "fuzz"};
    uint8_t hello[HF_HELLO_BYTES];

    if (index >= 120) {
        return 0;
    }
    hf_write_u8(&w, (uint8_t)(index < 80 ? index % 16 : 16 + index % 16));
    hf_write_u8(&w, pieces[index / 8 % 5]);
    hf_hello_encode(&id, hello);
    if (index % 13 != 1) {
        seed_frame(&w, (struct hf_frame){.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES}, hello);
    }
    for (uint16_t i = 0; i < CALLS && index >= 80; i++) {
        seed_frame(&w,
                   (struct hf_frame){.kind = i == 1 ? HF_FRAME_PONG : HF_FRAME_REPLY,
                                     .id = (uint64_t)(i + 1) << 20 | i,
                                     .error = i == 2,
                                     .msg_len = 16,
                                     .bulk_len = i == 1 ? 0 : bulks[(index + i) % 5]},
                   "sixteen bytes...");
    }
    for (uint16_t i = 0; i < (index < 40   ? 8
                              : index < 80 ? 80
                                           : 0);
         i++) { /* more than one turn's share */
        bool bulk = i != 4 && (index < 40 || i % 16 == 0);

        seed_frame(&w,
                   (struct hf_frame){.kind = i == 4 ? HF_FRAME_PING : HF_FRAME_REQUEST,
                                     .method = index < 40 ? i / 2 * 2 : i,
                                     .id = i,
                                     .flags = i % 4, /* urgent, one-way, both, neither */
                                     .msg_len = 16,
                                     .bulk_len = bulk ? bulks[(index + i) % 5] : 0},
                   "sixteen bytes...");
    }
    if (index % 3 == 0) {
        seed_frame(&w, (struct hf_frame){.kind = HF_FRAME_GOODBYE}, NULL);
    }
    return (size_t)(w.at - ret);
}
