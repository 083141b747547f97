/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets on libevent's raw events. A callback's last act is the user's function, which may close
 * and so free the stream: nothing of it is touched afterwards.
 */
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/env/addr.h"
#include "common/env/env_real_impl.h"

#define ACCEPT_BATCH_MAX 64
#define ACCEPT_PAUSE_NS  (100 * HF_NS_PER_MS) /* when out of descriptors */

enum stream_state {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_FAILED, /* never got connected */
};

struct real_stream {
    struct hf_stream stream;
    struct hf_env_real *env;
    int fd;
    enum stream_state state;
    int connect_err; /* known at once, to be told later */
    bool want_read;
    bool want_write;
    struct event read_event;
    struct event write_event; /* while CONNECTING: the outcome */
    struct hf_stream_events events;
    void *ctx;
    char peer[HF_ADDR_TEXT_BYTES];
};

struct real_listener {
    struct hf_listener listener;
    struct hf_env_real *env;
    int fd;
    struct event event;
    struct hf_timer pause;
    hf_accept_fn accept;
    void *ctx;
    bool *closed; /* set when closed from inside the accept callback */
    char addr[HF_ADDR_TEXT_BYTES];
    struct sockaddr_un un; /* family 0: not a unix socket */
    dev_t un_dev;
    ino_t un_ino;
};

/* Streams */

static struct real_stream *stream_of(struct hf_stream *stream)
{
    return (struct real_stream *)stream;
}

static void set_event(struct event *event, bool wanted, bool was_wanted)
{
    if (wanted != was_wanted) {
        HF_ASSERT((wanted ? event_add(event, NULL) : event_del(event)) == 0);
    }
}

static void stream_want(struct hf_stream *s, bool read, bool write)
{
    struct real_stream *stream = stream_of(s);

    if (stream->state == STREAM_OPEN) {
        set_event(&stream->read_event, read, stream->want_read);
        set_event(&stream->write_event, write, stream->want_write);
    }
    stream->want_read = read;
    stream->want_write = write;
}

static void stream_set_events(struct hf_stream *s, const struct hf_stream_events *events, void *ctx)
{
    struct real_stream *stream = stream_of(s);

    stream->events = *events;
    stream->ctx = ctx;
}

static int iov_clamp(int iov_count)
{
    return iov_count < IOV_MAX ? iov_count : IOV_MAX;
}

static ssize_t stream_readv(struct hf_stream *s, const struct iovec *iov, int iov_count)
{
    struct real_stream *stream = stream_of(s);
    ssize_t n;

    if (stream->state != STREAM_OPEN) {
        return stream->state == STREAM_CONNECTING ? -EAGAIN : -ENOTCONN;
    }
    do {
        n = readv(stream->fd, iov, iov_clamp(iov_count));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t stream_writev(struct hf_stream *s, const struct iovec *iov, int iov_count)
{
    struct real_stream *stream = stream_of(s);
    const struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                               .msg_iovlen = (size_t)iov_clamp(iov_count)};
    ssize_t n;

    if (stream->state != STREAM_OPEN) {
        return stream->state == STREAM_CONNECTING ? -EAGAIN : -ENOTCONN;
    }
    do {
        n = sendmsg(stream->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static const char *stream_peer(const struct hf_stream *s)
{
    return ((const struct real_stream *)s)->peer;
}

static void stream_close(struct hf_stream *s)
{
    struct real_stream *stream = stream_of(s);

    (void)event_del(&stream->read_event);
    (void)event_del(&stream->write_event);
    (void)close(stream->fd);
    free(stream);
}

static const struct hf_stream_ops stream_ops = {
    .set_events = stream_set_events,
    .want = stream_want,
    .readv = stream_readv,
    .writev = stream_writev,
    .peer = stream_peer,
    .close = stream_close,
};

static void connect_finished(struct real_stream *stream)
{
    int err = stream->connect_err;
    socklen_t len = sizeof(err);

    if (!err && getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
        err = errno;
    }
    (void)event_del(&stream->write_event);
    if (err) {
        stream->state = STREAM_FAILED;
    } else {
        stream->state = STREAM_OPEN;
        set_event(&stream->read_event, stream->want_read, false);
        set_event(&stream->write_event, stream->want_write, false);
    }
    if (stream->events.connected) {
        stream->events.connected(stream->ctx, -err);
    }
}

static void stream_readable(evutil_socket_t fd, short what, void *arg)
{
    struct real_stream *stream = arg;

    (void)fd;
    (void)what;
    hf_env_real_awake(stream->env);
    HF_ASSERT(stream->events.readable != NULL);
    stream->events.readable(stream->ctx);
}

static void stream_writable(evutil_socket_t fd, short what, void *arg)
{
    struct real_stream *stream = arg;

    (void)fd;
    (void)what;
    hf_env_real_awake(stream->env);
    if (stream->state == STREAM_CONNECTING) {
        connect_finished(stream);
        return;
    }
    HF_ASSERT(stream->events.writable != NULL);
    stream->events.writable(stream->ctx);
}

/*
 * Takes @fd on success. Socket buffers are left to the kernel: asking for a size turns its own
 * tuning off and is capped below what that tuning reaches.
 */
static struct real_stream *stream_new(struct hf_env_real *env, int fd, enum stream_state state,
                                      const struct hf_addr *peer)
{
    struct real_stream *stream = calloc(1, sizeof(*stream));
    const int on = 1;

    if (!stream) {
        return NULL;
    }
    stream->stream.ops = &stream_ops;
    stream->env = env;
    stream->fd = fd;
    stream->state = state;
    hf_addr_format(peer, stream->peer);
    if (event_assign(&stream->read_event, env->base, fd, EV_READ | EV_PERSIST, stream_readable,
                     stream) != 0 ||
        event_assign(&stream->write_event, env->base, fd, EV_WRITE | EV_PERSIST, stream_writable,
                     stream) != 0) {
        free(stream);
        return NULL;
    }
    if (peer->sa.sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only slower without */
    }
    return stream;
}

static int open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return errno == ENFILE ? -EMFILE : -errno;
    }
    return fd;
}

int hf_net_real_connect(struct hf_env *e, const char *text, const struct hf_stream_events *events,
                        void *ctx, struct hf_stream **ret)
{
    struct hf_env_real *env = hf_env_real_of(e);
    struct real_stream *stream;
    struct hf_addr addr;
    int fd, err;

    hf_assert_loop(e);
    err = hf_addr_parse(text, &addr);
    if (err) {
        return err;
    }
    fd = open_socket(addr.sa.sa_family);
    if (fd < 0) {
        return fd;
    }
    stream = stream_new(env, fd, STREAM_CONNECTING, &addr);
    if (!stream) {
        (void)close(fd);
        return -ENOMEM;
    }
    stream->events = *events;
    stream->ctx = ctx;
    if (connect(fd, &addr.sa, addr.len_bytes) == 0) {
        event_active(&stream->write_event, EV_WRITE, 0);
    } else if (errno == EINPROGRESS || errno == EINTR) {
        HF_ASSERT(event_add(&stream->write_event, NULL) == 0);
    } else {
        /* EAGAIN: a unix listener's queue is full */
        stream->connect_err = errno == EAGAIN ? ECONNREFUSED : errno;
        event_active(&stream->write_event, EV_WRITE, 0);
    }
    *ret = &stream->stream;
    return 0;
}

/* Listeners */

static void accept_again(void *ctx)
{
    struct real_listener *listener = ctx;

    HF_ASSERT(event_add(&listener->event, NULL) == 0);
}

static void accept_pause(struct real_listener *listener)
{
    (void)event_del(&listener->event);
    hf_timer_arm(&listener->pause, ACCEPT_PAUSE_NS);
}

static bool out_of_resources(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* False: nothing more for now, or the listener is gone. */
static bool accept_one(struct real_listener *listener)
{
    struct hf_addr peer = {.len_bytes = sizeof(peer.un)};
    struct real_stream *stream;
    bool closed = false;
    int fd = accept4(listener->fd, &peer.sa, &peer.len_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (out_of_resources(errno)) {
            accept_pause(listener);
            return false;
        }
        /* Other errors are of the one connection that broke before it was taken. */
        return errno != EAGAIN && errno != EBADF && errno != EINVAL;
    }
    if (listener->un.sun_family == AF_UNIX) { /* the peer has no name: give it the listener's */
        peer.un = listener->un;
        peer.len_bytes = sizeof(peer.un);
    }
    stream = stream_new(listener->env, fd, STREAM_OPEN, &peer);
    if (!stream) {
        (void)close(fd);
        accept_pause(listener);
        return false;
    }
    // cppcheck-suppress autoVariables ; taken back below, or the listener is gone
    listener->closed = &closed;
    listener->accept(listener->ctx, &stream->stream);
    if (closed) {
        return false;
    }
    listener->closed = NULL;
    return true;
}

static void listener_readable(evutil_socket_t fd, short what, void *arg)
{
    struct real_listener *listener = arg;

    (void)fd;
    (void)what;
    hf_env_real_awake(listener->env);
    for (int i = 0; i < ACCEPT_BATCH_MAX; i++) {
        if (!accept_one(listener)) {
            break;
        }
    }
}

static const char *listener_addr(const struct hf_listener *l)
{
    return ((const struct real_listener *)l)->addr;
}

static void listener_close(struct hf_listener *l)
{
    struct real_listener *listener = (struct real_listener *)l;
    struct stat st;

    if (listener->closed) {
        *listener->closed = true;
    }
    (void)event_del(&listener->event);
    hf_timer_fini(&listener->pause);
    /* Tidy up, but never another's socket at the same path. */
    if (listener->un.sun_family == AF_UNIX && lstat(listener->un.sun_path, &st) == 0 &&
        st.st_dev == listener->un_dev && st.st_ino == listener->un_ino) {
        (void)unlink(listener->un.sun_path);
    }
    (void)close(listener->fd);
    free(listener);
}

static const struct hf_listener_ops listener_ops = {
    .addr = listener_addr,
    .close = listener_close,
};

/* Is @addr a socket that nobody listens on any more? */
static bool stale_socket(const struct hf_addr *addr)
{
    struct stat st;
    bool refused;
    int fd;

    if (lstat(addr->un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    fd = open_socket(AF_UNIX);
    if (fd < 0) {
        return false;
    }
    refused = connect(fd, &addr->sa, addr->len_bytes) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return refused;
}

static int bind_unix(int fd, const struct hf_addr *addr)
{
    if (fchmod(fd, 0600) != 0) { /* before bind: the path never exists with another mode */
        return -errno;
    }
    if (bind(fd, &addr->sa, addr->len_bytes) == 0) {
        return 0;
    }
    if (errno != EADDRINUSE || !stale_socket(addr)) {
        return -errno;
    }
    if (unlink(addr->un.sun_path) != 0 || bind(fd, &addr->sa, addr->len_bytes) != 0) {
        return -errno;
    }
    return 0;
}

static int bind_and_listen(struct real_listener *listener, struct hf_addr *addr)
{
    const int on = 1;
    struct stat st;
    int err = 0;

    if (addr->sa.sa_family == AF_UNIX) {
        err = bind_unix(listener->fd, addr);
        if (!err && lstat(addr->un.sun_path, &st) == 0) {
            listener->un = addr->un;
            listener->un_dev = st.st_dev;
            listener->un_ino = st.st_ino;
        }
    } else if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
               bind(listener->fd, &addr->sa, addr->len_bytes) != 0) {
        err = -errno;
    }
    if (err) {
        return err;
    }
    addr->len_bytes = sizeof(addr->un);
    if (listen(listener->fd, SOMAXCONN) != 0 ||
        getsockname(listener->fd, &addr->sa, &addr->len_bytes) != 0) {
        return -errno;
    }
    hf_addr_format(addr, listener->addr);
    return 0;
}

int hf_net_real_listen(struct hf_env *e, const char *text, hf_accept_fn accept, void *ctx,
                       struct hf_listener **ret)
{
    struct hf_env_real *env = hf_env_real_of(e);
    struct real_listener *listener;
    struct hf_addr addr;
    int err;

    hf_assert_loop(e);
    err = hf_addr_parse(text, &addr);
    if (err) {
        return err;
    }
    listener = calloc(1, sizeof(*listener));
    if (!listener) {
        return -ENOMEM;
    }
    listener->listener.ops = &listener_ops;
    listener->env = env;
    listener->accept = accept;
    listener->ctx = ctx;
    hf_timer_init(&listener->pause, e, accept_again, listener);
    listener->fd = open_socket(addr.sa.sa_family);
    if (listener->fd < 0) {
        err = listener->fd;
        free(listener);
        return err;
    }
    err = bind_and_listen(listener, &addr);
    if (!err && (event_assign(&listener->event, env->base, listener->fd, EV_READ | EV_PERSIST,
                              listener_readable, listener) != 0 ||
                 event_add(&listener->event, NULL) != 0)) {
        err = -ENOMEM;
    }
    if (err) {
        (void)close(listener->fd);
        free(listener);
        return err;
    }
    *ret = &listener->listener;
    return 0;
}
