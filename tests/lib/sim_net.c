/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network.
 *
 *     writev ──► in flight (arrival times, in order) ──deliver──► ready ──► readv
 *
 * Each stream owns what flies towards it. A close is a piece without bytes behind the others: an
 * end, or a reset when the closer left bytes unread. A stream is freed before the next step, so
 * that no event handler has to fear for its own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"
#include "common/env/addr.h"
#include "tests/lib/sim_env_impl.h"

#define WINDOW_BYTES     (256u << 10) /* sent and not yet read, one way */
#define NOTIFY_DELAY_NS  1000u
#define CONNECT_LIMIT_NS (5 * HF_NS_PER_SEC)
#define ADDR_BYTES       160

enum stream_state {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_FAILED,
    STREAM_GONE, /* closed, or its process died */
};

struct piece {
    struct piece *next;
    uint64_t arrives_ns;
    int end; /* 0: bytes; 1: end of stream; -errno: broken */
    size_t len, at;
    uint8_t bytes[];
};

struct pipe {
    struct piece *head;
    struct piece **tail;
};

struct hf_sim_stream {
    struct hf_stream stream;
    struct hf_sim_env *env;
    struct hf_sim_stream *prev, *next;
    struct hf_sim_stream *peer; /* NULL: none yet, or gone */
    char remote_host[HF_SIM_HOST_BYTES];
    char peer_addr[ADDR_BYTES];
    enum stream_state state;
    bool want_read, want_write;
    struct hf_stream_events events;
    void *ctx;

    struct pipe flying, ready;
    size_t window_used;
    uint64_t last_arrival_ns;
    int end;          /* has arrived: 1 or -errno */
    bool peer_closed; /* nothing that is written from now on is read */
    bool half_open;   /* the peer lost power; nobody said so */

    struct hf_sim_listener *listener; /* to be accepted by */
    int connect_err;
    bool connect_timed_out;
    struct hf_sim_event connect_event; /* connecting, or being accepted */
    struct hf_sim_event deliver_event;
    struct hf_sim_event read_event;
    struct hf_sim_event write_event;
};

struct hf_sim_listener {
    struct hf_listener listener;
    struct hf_sim_env *env;
    struct hf_sim_listener *prev, *next;
    char addr[ADDR_BYTES];
    hf_accept_fn accept;
    void *ctx;
    bool gone;
};

#define LINK(head, item)                                                                           \
    do {                                                                                           \
        (item)->prev = NULL;                                                                       \
        (item)->next = (head);                                                                     \
        if ((item)->next) {                                                                        \
            (item)->next->prev = (item);                                                           \
        }                                                                                          \
        (head) = (item);                                                                           \
    } while (0)

#define UNLINK(head, item)                                                                         \
    do {                                                                                           \
        if ((item)->prev) {                                                                        \
            (item)->prev->next = (item)->next;                                                     \
        } else {                                                                                   \
            (head) = (item)->next;                                                                 \
        }                                                                                          \
        if ((item)->next) {                                                                        \
            (item)->next->prev = (item)->prev;                                                     \
        }                                                                                          \
    } while (0)

/* Pieces */

static void pipe_init(struct pipe *pipe)
{
    pipe->head = NULL;
    pipe->tail = &pipe->head;
}

static void pipe_put(struct pipe *pipe, struct piece *piece)
{
    piece->next = NULL;
    *pipe->tail = piece;
    pipe->tail = &piece->next;
}

static struct piece *pipe_take(struct pipe *pipe)
{
    struct piece *piece = pipe->head;

    pipe->head = piece->next;
    if (!pipe->head) {
        pipe->tail = &pipe->head;
    }
    return piece;
}

static void pipe_fini(struct pipe *pipe)
{
    while (pipe->head) {
        free(pipe_take(pipe));
    }
}

static uint64_t net_delay_ns(struct hf_sim *sim)
{
    return hf_sim_rng_between(&sim->rng, sim->net_min_ns, sim->net_max_ns);
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_cut(const struct hf_sim *sim, const char *from, const char *to)
{
    for (unsigned i = 0; i < sim->cut_count; i++) {
        if (begins(from, sim->cuts[i].from) && begins(to, sim->cuts[i].to)) {
            return true;
        }
    }
    return false;
}

/* Callbacks, while there is reason and they are wanted */

static void tell_readable(struct hf_sim_event *event);
static void tell_writable(struct hf_sim_event *event);

static bool can_read(const struct hf_sim_stream *s)
{
    return s->state == STREAM_OPEN && s->want_read && (s->ready.head || s->end);
}

static size_t room(const struct hf_sim_stream *s)
{
    return s->peer ? WINDOW_BYTES - s->peer->window_used : 0;
}

static bool can_write(const struct hf_sim_stream *s)
{
    return s->state == STREAM_OPEN && s->want_write && (room(s) || s->end < 0 || !s->peer);
}

static void poke(struct hf_sim_stream *s)
{
    struct hf_sim_rng *rng = &s->env->sim->rng;

    if (can_read(s) && !s->read_event.queued) {
        hf_sim_schedule(s->env, &s->read_event, hf_sim_rng_below(rng, NOTIFY_DELAY_NS),
                        tell_readable);
    }
    if (can_write(s) && !s->write_event.queued) {
        hf_sim_schedule(s->env, &s->write_event, hf_sim_rng_below(rng, NOTIFY_DELAY_NS),
                        tell_writable);
    }
}

static void tell_readable(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, read_event);

    if (can_read(s)) {
        HF_ASSERT(s->events.readable != NULL);
        s->events.readable(s->ctx);
        poke(s);
    }
}

static void tell_writable(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, write_event);

    if (can_write(s)) {
        HF_ASSERT(s->events.writable != NULL);
        s->events.writable(s->ctx);
        poke(s);
    }
}

/* Delivery */

static void await_delivery(struct hf_sim_stream *s);

static void deliver(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, deliver_event);
    struct hf_sim *sim = s->env->sim;

    if (is_cut(sim, s->remote_host, s->env->host)) {
        return; /* until healed */
    }
    while (s->flying.head && s->flying.head->arrives_ns <= sim->now_ns) {
        struct piece *piece = pipe_take(&s->flying);

        if (!piece->end) {
            pipe_put(&s->ready, piece);
            continue;
        }
        if (piece->end < 0) { /* a reset overtakes what was not read yet */
            pipe_fini(&s->ready);
            pipe_init(&s->ready);
        }
        if (s->end >= 0) {
            s->end = piece->end;
        }
        free(piece);
    }
    await_delivery(s);
    poke(s);
}

static void await_delivery(struct hf_sim_stream *s)
{
    struct hf_sim *sim = s->env->sim;

    if (s->flying.head && !s->deliver_event.queued && s->state != STREAM_GONE) {
        uint64_t at_ns = s->flying.head->arrives_ns;

        hf_sim_schedule(s->env, &s->deliver_event, at_ns > sim->now_ns ? at_ns - sim->now_ns : 0,
                        deliver);
    }
}

static struct piece *piece_new(size_t len, int end)
{
    struct piece *piece = malloc(sizeof(*piece) + len);

    HF_ASSERT(piece != NULL);
    *piece = (struct piece){.len = len, .end = end};
    return piece;
}

/* Towards @s; takes @piece. */
static void send_piece(struct hf_sim_stream *s, struct piece *piece)
{
    struct hf_sim *sim = s->env->sim;
    uint64_t arrives_ns = sim->now_ns + net_delay_ns(sim) + piece->len;

    if (sim->stall_percent && hf_sim_rng_chance(&sim->rng, sim->stall_percent)) {
        arrives_ns += hf_sim_rng_below(&sim->rng, sim->stall_max_ns);
    }
    piece->arrives_ns = arrives_ns > s->last_arrival_ns ? arrives_ns : s->last_arrival_ns + 1;
    s->last_arrival_ns = piece->arrives_ns;
    s->window_used += piece->len;
    pipe_put(&s->flying, piece);
    await_delivery(s);
}

/* Streams */

static struct hf_sim_stream *stream_of(struct hf_stream *stream)
{
    return (struct hf_sim_stream *)stream;
}

static void stream_set_events(struct hf_stream *stream, const struct hf_stream_events *events,
                              void *ctx)
{
    stream_of(stream)->events = *events;
    stream_of(stream)->ctx = ctx;
}

static void stream_want(struct hf_stream *stream, bool read, bool write)
{
    struct hf_sim_stream *s = stream_of(stream);

    s->want_read = read;
    s->want_write = write;
    if (s->state != STREAM_GONE) {
        hf_assert_loop(&s->env->env);
        poke(s);
    }
}

static size_t iov_total(const struct iovec *iov, int iov_count)
{
    size_t total = 0;

    for (int i = 0; i < iov_count; i++) {
        total += iov[i].iov_len;
    }
    return total;
}

/* Often less than could be moved: nobody may count on more than one byte. */
static size_t some_of(struct hf_sim_stream *s, size_t len)
{
    struct hf_sim_rng *rng = &s->env->sim->rng;

    return len > 1 && hf_sim_rng_chance(rng, 20) ? 1 + (size_t)hf_sim_rng_below(rng, len) : len;
}

static int not_open(const struct hf_sim_stream *s)
{
    return s->state == STREAM_CONNECTING ? -EAGAIN : -ENOTCONN;
}

static ssize_t stream_readv(struct hf_stream *stream, const struct iovec *iov, int iov_count)
{
    struct hf_sim_stream *s = stream_of(stream);
    size_t len = iov_total(iov, iov_count);
    size_t done = 0;
    size_t iov_at = 0;

    if (s->state != STREAM_OPEN) {
        return not_open(s);
    }
    if (!s->ready.head) {
        return s->end > 0 ? 0 : s->end < 0 ? s->end : -EAGAIN;
    }
    len = some_of(s, len);
    while (done < len && s->ready.head) {
        struct piece *piece = s->ready.head;
        size_t n = piece->len - piece->at;

        while (iov_at == iov->iov_len) {
            iov++;
            iov_at = 0;
        }
        n = n < len - done ? n : len - done;
        n = n < iov->iov_len - iov_at ? n : iov->iov_len - iov_at;
        memcpy((uint8_t *)iov->iov_base + iov_at, piece->bytes + piece->at, n);
        iov_at += n;
        piece->at += n;
        done += n;
        if (piece->at == piece->len) {
            free(pipe_take(&s->ready));
        }
    }
    s->window_used -= done;
    if (s->peer) {
        poke(s->peer);
    }
    return (ssize_t)done;
}

static bool host_is_up(const struct hf_sim *sim, const char *host)
{
    for (const struct hf_sim_env *env = sim->envs; env; env = env->next) {
        if (strcmp(env->host, host) == 0) {
            return !env->off;
        }
    }
    return true;
}

static void flip_a_bit(struct hf_sim *sim, struct piece *piece)
{
    if (sim->flips_per_100k && hf_sim_rng_below(&sim->rng, 100000) < sim->flips_per_100k) {
        piece->bytes[hf_sim_rng_below(&sim->rng, piece->len)] ^=
            (uint8_t)(1u << hf_sim_rng_below(&sim->rng, 8));
        sim->flips++;
    }
}

static ssize_t stream_writev(struct hf_stream *stream, const struct iovec *iov, int iov_count)
{
    struct hf_sim_stream *s = stream_of(stream);
    size_t len = iov_total(iov, iov_count);
    struct piece *piece;
    size_t done = 0;

    if (s->state != STREAM_OPEN) {
        return not_open(s);
    }
    if (s->end < 0 || (s->end && !s->peer && s->peer_closed)) {
        return -EPIPE;
    }
    if (!s->peer && s->half_open && !host_is_up(s->env->sim, s->remote_host)) {
        return (ssize_t)len;
    }
    if (!s->peer) { /* gone, but not known here: the answer to these bytes is a reset */
        s->peer_closed = true;
        send_piece(s, piece_new(0, -ECONNRESET));
        return (ssize_t)len;
    }
    if (len == 0 || room(s) == 0) {
        return len ? -EAGAIN : 0;
    }
    len = some_of(s, len < room(s) ? len : room(s));
    piece = piece_new(len, 0);
    for (int i = 0; i < iov_count && done < len; i++) {
        size_t n = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

        if (n) {
            memcpy(piece->bytes + done, iov[i].iov_base, n);
        }
        done += n;
    }
    flip_a_bit(s->env->sim, piece);
    hf_sim_mix(s->env->sim, hf_hash64(piece->bytes, len, 0));
    send_piece(s->peer, piece);
    return (ssize_t)len;
}

static const char *stream_peer(const struct hf_stream *stream)
{
    return ((const struct hf_sim_stream *)stream)->peer_addr;
}

/* The peer is told, nothing happens here any more; the memory is still there. */
static void retire(struct hf_sim_stream *s, bool silent)
{
    struct hf_sim *sim = s->env->sim;
    struct hf_sim_event *const events[] = {&s->connect_event, &s->deliver_event, &s->read_event,
                                           &s->write_event};

    for (size_t i = 0; i < HF_ARRAY_LEN(events); i++) {
        hf_sim_cancel(sim, events[i]);
    }
    if (s->peer) {
        if (silent) {
            s->peer->half_open = true;
        } else {
            send_piece(s->peer, piece_new(0, s->window_used ? -ECONNRESET : 1));
        }
        s->peer->peer = NULL;
        poke(s->peer);
        s->peer = NULL;
    }
    pipe_fini(&s->flying);
    pipe_fini(&s->ready);
    pipe_init(&s->flying);
    pipe_init(&s->ready);
    s->state = STREAM_GONE;
    UNLINK(sim->streams, s);
}

static void stream_close(struct hf_stream *stream)
{
    struct hf_sim_stream *s = stream_of(stream);
    struct hf_sim *sim = s->env->sim;

    if (s->state != STREAM_GONE) { /* else its process was killed: the sim's to free */
        retire(s, false);
        LINK(sim->closed, s);
    }
}

static const struct hf_stream_ops stream_ops = {
    .set_events = stream_set_events,
    .want = stream_want,
    .readv = stream_readv,
    .writev = stream_writev,
    .peer = stream_peer,
    .close = stream_close,
};

static struct hf_sim_stream *stream_new(struct hf_sim_env *env, enum stream_state state)
{
    struct hf_sim_stream *s = calloc(1, sizeof(*s));

    HF_ASSERT(s != NULL);
    s->stream.ops = &stream_ops;
    s->env = env;
    s->state = state;
    pipe_init(&s->flying);
    pipe_init(&s->ready);
    LINK(env->sim->streams, s);
    return s;
}

/* Connecting */

static bool is_loopback(const char *addr)
{
    return begins(addr, "127.") || begins(addr, "[::1]");
}

/* "0.0.0.0:PORT" and "[::]:PORT" hear what goes to PORT of their host. */
static bool hears(const struct hf_sim_listener *l, const struct hf_sim_env *from, const char *addr)
{
    const char *port = strrchr(addr, ':');
    bool local = begins(addr, HF_ADDR_UNIX_PREFIX) || is_loopback(addr);
    size_t host_len = strlen(l->env->host);

    if (local && l->env != from) {
        return false;
    }
    if (strcmp(l->addr, addr) == 0) {
        return true;
    }
    if (!begins(l->addr, "0.0.0.0:") && !begins(l->addr, "[::]:")) {
        return false;
    }
    return strcmp(strrchr(l->addr, ':'), port) == 0 &&
           (is_loopback(addr) || (begins(addr, l->env->host) && addr + host_len == port));
}

static struct hf_sim_listener *find_listener(struct hf_sim_env *from, const char *addr)
{
    for (struct hf_sim_listener *l = from->sim->listeners; l; l = l->next) {
        if (hears(l, from, addr)) {
            return l;
        }
    }
    return NULL;
}

static void accepted(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, connect_event);
    struct hf_sim_listener *l = s->listener;

    if (!l) { /* closed in the meantime */
        stream_close(&s->stream);
        return;
    }
    s->listener = NULL;
    l->accept(l->ctx, &s->stream);
}

static void connect_ends(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, connect_event);

    s->state = s->connect_err ? STREAM_FAILED : STREAM_OPEN;
    if (s->events.connected) {
        s->events.connected(s->ctx, s->connect_err);
    }
    if (s->state == STREAM_OPEN) {
        poke(s);
    }
}

static void connect_arrives(struct hf_sim_event *event)
{
    struct hf_sim_stream *s = hf_container_of(event, struct hf_sim_stream, connect_event);
    struct hf_sim *sim = s->env->sim;
    struct hf_sim_listener *l = find_listener(s->env, s->peer_addr);
    struct hf_sim_stream *server;

    if (l) {
        (void)snprintf(s->remote_host, sizeof(s->remote_host), "%s", l->env->host);
    }
    if (is_cut(sim, s->env->host, s->remote_host) || is_cut(sim, s->remote_host, s->env->host) ||
        !host_is_up(sim, s->remote_host)) {
        s->connect_err = -ETIMEDOUT;
        hf_sim_schedule(s->env, &s->connect_event, CONNECT_LIMIT_NS, connect_ends);
        return;
    }
    if (!l) {
        s->connect_err = begins(s->peer_addr, HF_ADDR_UNIX_PREFIX) ? -ENOENT : -ECONNREFUSED;
    } else {
        server = stream_new(l->env, STREAM_OPEN);
        server->peer = s;
        s->peer = server;
        server->listener = l;
        (void)snprintf(server->remote_host, sizeof(server->remote_host), "%s", s->env->host);
        if (begins(s->peer_addr, HF_ADDR_UNIX_PREFIX)) {
            memcpy(server->peer_addr, s->peer_addr, sizeof(server->peer_addr));
        } else {
            (void)snprintf(server->peer_addr, sizeof(server->peer_addr), "%s:%u", s->env->host,
                           sim->next_port++);
        }
        hf_sim_schedule(l->env, &server->connect_event, hf_sim_rng_below(&sim->rng, 1000),
                        accepted);
    }
    hf_sim_schedule(s->env, &s->connect_event, net_delay_ns(sim), connect_ends);
}

/* The host an address names, so that a cut holds for hosts where nobody listens. */
static void host_of(const struct hf_sim_env *env, const char *addr, char ret[HF_SIM_HOST_BYTES])
{
    const char *host = addr;
    size_t len = strlen(addr);
    const char *port = strrchr(addr, ':');

    if (begins(addr, HF_ADDR_UNIX_PREFIX) || is_loopback(addr)) {
        host = env->host;
        len = strlen(host);
    } else if (port) {
        len = (size_t)(port - addr);
    }
    (void)snprintf(ret, HF_SIM_HOST_BYTES, "%.*s", (int)len, host);
}

int hf_sim_net_connect(struct hf_env *e, const char *text, const struct hf_stream_events *events,
                       void *ctx, struct hf_stream **ret)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim_stream *s;
    struct hf_addr addr;
    int err = hf_addr_parse(text, &addr);

    hf_assert_loop(e);
    if (err) {
        return err;
    }
    s = stream_new(env, STREAM_CONNECTING);
    s->events = *events;
    s->ctx = ctx;
    hf_addr_format(&addr, s->peer_addr);
    host_of(env, s->peer_addr, s->remote_host);
    hf_sim_schedule(env, &s->connect_event, net_delay_ns(env->sim), connect_arrives);
    *ret = &s->stream;
    return 0;
}

/* Listeners */

static const char *listener_addr(const struct hf_listener *listener)
{
    return ((const struct hf_sim_listener *)listener)->addr;
}

static void listener_retire(struct hf_sim_listener *l)
{
    struct hf_sim *sim = l->env->sim;

    for (struct hf_sim_stream *s = sim->streams; s; s = s->next) {
        if (s->listener == l) {
            s->listener = NULL;
        }
    }
    UNLINK(sim->listeners, l);
    l->gone = true;
}

static void listener_close(struct hf_listener *listener)
{
    struct hf_sim_listener *l = (struct hf_sim_listener *)listener;

    if (!l->gone) {
        listener_retire(l);
        free(l);
    }
}

static const struct hf_listener_ops listener_ops = {
    .addr = listener_addr,
    .close = listener_close,
};

static bool taken(const struct hf_sim_env *env, const char *addr)
{
    bool local = begins(addr, HF_ADDR_UNIX_PREFIX) || is_loopback(addr) ||
                 begins(addr, "0.0.0.0:") || begins(addr, "[::]:");

    for (const struct hf_sim_listener *l = env->sim->listeners; l; l = l->next) {
        if (strcmp(l->addr, addr) == 0 && (!local || l->env == env)) {
            return true;
        }
    }
    return false;
}

int hf_sim_net_listen(struct hf_env *e, const char *text, hf_accept_fn accept, void *ctx,
                      struct hf_listener **ret)
{
    struct hf_sim_env *env = hf_sim_env_of(e);
    struct hf_sim_listener *l;
    struct hf_addr addr;
    char name[ADDR_BYTES];
    int err = hf_addr_parse(text, &addr);

    hf_assert_loop(e);
    if (err) {
        return err;
    }
    if (addr.sa.sa_family == AF_INET && addr.in4.sin_port == 0) {
        addr.in4.sin_port = htons(env->sim->next_port++);
    } else if (addr.sa.sa_family == AF_INET6 && addr.in6.sin6_port == 0) {
        addr.in6.sin6_port = htons(env->sim->next_port++);
    }
    hf_addr_format(&addr, name);
    if (taken(env, name)) {
        return -EADDRINUSE;
    }
    l = calloc(1, sizeof(*l));
    HF_ASSERT(l != NULL);
    l->listener.ops = &listener_ops;
    l->env = env;
    l->accept = accept;
    l->ctx = ctx;
    memcpy(l->addr, name, sizeof(name));
    LINK(env->sim->listeners, l);
    *ret = &l->listener;
    return 0;
}

/* Deaths and faults */

void hf_sim_net_kill_env(struct hf_sim_env *env, bool silent)
{
    struct hf_sim *sim = env->sim;
    struct hf_sim_listener *next_l;
    struct hf_sim_stream *next_s;

    for (struct hf_sim_listener *l = sim->listeners; l; l = next_l) {
        next_l = l->next;
        if (l->env == env) {
            listener_retire(l);
            LINK(sim->dead_listeners, l);
        }
    }
    for (struct hf_sim_stream *s = sim->streams; s; s = next_s) {
        next_s = s->next;
        if (s->env == env) {
            retire(s, silent);
            LINK(sim->dead, s);
        }
    }
}

static void free_streams(struct hf_sim_stream **list)
{
    while (*list) {
        struct hf_sim_stream *s = *list;

        *list = s->next;
        free(s);
    }
}

void hf_sim_net_bury(struct hf_sim *sim)
{
    free_streams(&sim->closed);
}

void hf_sim_net_fini(struct hf_sim *sim)
{
    for (struct hf_sim_env *env = sim->envs; env; env = env->next) {
        hf_sim_net_kill_env(env, false);
    }
    free_streams(&sim->closed);
    free_streams(&sim->dead);
    while (sim->dead_listeners) {
        struct hf_sim_listener *l = sim->dead_listeners;

        sim->dead_listeners = l->next;
        free(l);
    }
}

void hf_sim_net_set_delay(struct hf_sim *sim, uint64_t min_ns, uint64_t max_ns)
{
    HF_ASSERT(min_ns <= max_ns);
    sim->net_min_ns = min_ns;
    sim->net_max_ns = max_ns;
}

void hf_sim_net_cut(struct hf_sim *sim, const char *from, const char *to)
{
    struct hf_sim_cut_rule *rule = &sim->cuts[sim->cut_count];

    HF_ASSERT(sim->cut_count < HF_SIM_CUTS_MAX);
    sim->cut_count++;
    (void)snprintf(rule->from, sizeof(rule->from), "%s", from);
    (void)snprintf(rule->to, sizeof(rule->to), "%s", to);
}

void hf_sim_net_heal(struct hf_sim *sim)
{
    sim->cut_count = 0;
    for (struct hf_sim_stream *s = sim->streams; s; s = s->next) {
        await_delivery(s);
    }
}

void hf_sim_net_set_stalls(struct hf_sim *sim, unsigned percent, uint64_t max_ns)
{
    sim->stall_percent = percent;
    sim->stall_max_ns = max_ns;
}

void hf_sim_net_set_flips(struct hf_sim *sim, unsigned per_100k)
{
    sim->flips_per_100k = per_100k;
}

uint64_t hf_sim_net_flips(const struct hf_sim *sim)
{
    return sim->flips;
}

void hf_sim_net_reset_all(struct hf_sim *sim)
{
    (void)hf_sim_net_reset(sim, "", "");
}

static bool between(const struct hf_sim_stream *s, const char *a, const char *b)
{
    return (begins(s->env->host, a) && begins(s->remote_host, b)) ||
           (begins(s->env->host, b) && begins(s->remote_host, a));
}

bool hf_sim_net_reset(struct hf_sim *sim, const char *a, const char *b)
{
    bool any = false;

    for (struct hf_sim_stream *s = sim->streams; s; s = s->next) {
        if (s->state == STREAM_OPEN && !s->listener && between(s, a, b)) {
            any = true;
            s->end = -ECONNRESET;
            pipe_fini(&s->flying);
            pipe_fini(&s->ready);
            pipe_init(&s->flying);
            pipe_init(&s->ready);
            s->window_used = 0;
            if (s->peer && s->peer->state == STREAM_OPEN && !s->peer->listener) {
                s->peer->peer = NULL; /* they do not hear of each other any more */
                poke(s->peer);
                s->peer = NULL;
            }
            poke(s);
        }
    }
    return any;
}
