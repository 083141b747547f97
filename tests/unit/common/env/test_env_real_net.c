/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of the real environment.
 */
#include "tests/unit/common/env/env_real_world.h"

#define TRANSFER_BYTES (8u << 20)

struct echo_side {
    struct hf_stream *stream;
    struct echo *echo;
    uint8_t *buf; /* server: what waits to go back */
    size_t got;
    size_t put;
    bool eof;
};

struct echo {
    struct hf_env *env;
    struct hf_listener *listener;
    struct echo_side server;
    struct echo_side client;
    int connected;
    int connect_err;
    int wrong;
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)((i * 31) ^ (i >> 11));
}

static void server_readable(void *ctx)
{
    struct echo_side *side = ctx;
    struct iovec iov[2] = {
        {.iov_base = side->buf + side->got, .iov_len = (TRANSFER_BYTES - side->got) / 2},
        {.iov_len = 0},
    };
    ssize_t n;

    iov[1].iov_base = side->buf + side->got + iov[0].iov_len;
    iov[1].iov_len = TRANSFER_BYTES + 1 - side->got - iov[0].iov_len;
    n = hf_stream_readv(side->stream, iov, 2);
    if (n == -EAGAIN) {
        return;
    }
    assert_true(n >= 0);
    if (n == 0) {
        side->eof = true;
    }
    side->got += (size_t)n;
    hf_stream_want(side->stream, !side->eof, side->put < side->got);
    if (side->eof && side->put == side->got) {
        hf_stream_close(side->stream);
        side->stream = NULL;
        hf_env_real_stop(side->echo->env);
    }
}

static void server_writable(void *ctx)
{
    struct echo_side *side = ctx;
    const struct iovec iov = {.iov_base = side->buf + side->put, .iov_len = side->got - side->put};
    ssize_t n = hf_stream_writev(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n >= 0);
    side->put += (size_t)n;
    hf_stream_want(side->stream, !side->eof, side->put < side->got);
}

static void server_accept(void *ctx, struct hf_stream *stream)
{
    static const struct hf_stream_events events = {.readable = server_readable,
                                                   .writable = server_writable};
    struct echo *echo = ctx;

    assert_null(echo->server.stream);
    echo->server.stream = stream;
    hf_stream_set_events(stream, &events, &echo->server);
    hf_stream_want(stream, true, false);
}

static void client_connected(void *ctx, int err)
{
    struct echo_side *side = ctx;

    side->echo->connected++;
    side->echo->connect_err = err;
    if (err) {
        hf_env_real_stop(side->echo->env);
    }
}

static void client_readable(void *ctx)
{
    struct echo_side *side = ctx;
    uint8_t buf[65536];
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    ssize_t n = hf_stream_readv(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n > 0);
    for (ssize_t i = 0; i < n; i++) {
        side->echo->wrong += buf[i] != pattern(side->got + (size_t)i);
    }
    side->got += (size_t)n;
    if (side->got == TRANSFER_BYTES) { /* closes from inside its own callback */
        hf_stream_close(side->stream);
        side->stream = NULL;
    }
}

static void client_writable(void *ctx)
{
    struct echo_side *side = ctx;
    const struct iovec iov = {.iov_base = side->buf + side->put,
                              .iov_len = TRANSFER_BYTES - side->put};
    ssize_t n = hf_stream_writev(side->stream, &iov, 1);

    if (n == -EAGAIN) {
        return;
    }
    assert_true(n > 0);
    side->put += (size_t)n;
    hf_stream_want(side->stream, true, side->put < TRANSFER_BYTES);
}

static const struct hf_stream_events client_events = {
    .connected = client_connected, .readable = client_readable, .writable = client_writable};

static void echo_over(struct fixture *f, const char *addr)
{
    struct echo echo = {.env = f->env};

    echo.server.echo = &echo;
    echo.client.echo = &echo;
    echo.server.buf = malloc(TRANSFER_BYTES + 1);
    echo.client.buf = malloc(TRANSFER_BYTES);
    assert_true(echo.server.buf && echo.client.buf);
    for (size_t i = 0; i < TRANSFER_BYTES; i++) {
        echo.client.buf[i] = pattern(i);
    }
    assert_int_equal(hf_net_listen(f->env, addr, server_accept, &echo, &echo.listener), 0);
    assert_int_equal(hf_net_connect(f->env, hf_listener_addr(echo.listener), &client_events,
                                    &echo.client, &echo.client.stream),
                     0);
    assert_int_equal(echo.connected, 0);
    assert_string_equal(hf_stream_peer(echo.client.stream), hf_listener_addr(echo.listener));
    hf_stream_want(echo.client.stream, true, true);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 1);
    assert_int_equal(echo.connect_err, 0);
    assert_int_equal(echo.client.got, TRANSFER_BYTES);
    assert_int_equal(echo.server.got, TRANSFER_BYTES);
    assert_int_equal(echo.wrong, 0);
    assert_null(echo.server.stream);
    hf_listener_close(echo.listener);
    free(echo.server.buf);
    free(echo.client.buf);
}

static void eight_megabytes_come_back_over_tcp(void **state)
{
    echo_over(*state, "127.0.0.1:0");
}

static void eight_megabytes_come_back_over_tcp_version_6(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *listener;
    int err = hf_net_listen(f->env, "[::1]:0", NULL, NULL, &listener);

    if (err == -EADDRNOTAVAIL) {
        skip(); /* this machine has no IPv6 */
    }
    assert_int_equal(err, 0);
    hf_listener_close(listener);
    echo_over(f, "[::1]:0");
}

static void eight_megabytes_come_back_over_a_unix_socket(void **state)
{
    struct fixture *f = *state;
    char addr[256];

    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "sock"));
    echo_over(f, addr);
    assert_int_equal(access(addr + 5, F_OK), -1); /* closing removed it */
}

static int connect_result(struct fixture *f, const char *addr)
{
    struct echo echo = {.env = f->env, .connect_err = 1};
    struct iovec iov = {.iov_base = &echo, .iov_len = 1};

    echo.client.echo = &echo;
    assert_int_equal(
        hf_net_connect(f->env, addr, &client_events, &echo.client, &echo.client.stream), 0);
    hf_stream_want(echo.client.stream, true, true);
    assert_int_equal(hf_stream_readv(echo.client.stream, &iov, 1), -EAGAIN);
    assert_int_equal(echo.connected, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 1);
    assert_int_equal(hf_stream_readv(echo.client.stream, &iov, 1), -ENOTCONN);
    hf_stream_close(echo.client.stream);
    return echo.connect_err;
}

static void a_refused_connection_is_told_by_its_callback(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *listener;
    char addr[256];

    assert_int_equal(hf_net_listen(f->env, "127.0.0.1:0", NULL, NULL, &listener), 0);
    (void)snprintf(addr, sizeof(addr), "%s", hf_listener_addr(listener));
    hf_listener_close(listener);
    assert_int_equal(connect_result(f, addr), -ECONNREFUSED);
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "nobody"));
    assert_int_equal(connect_result(f, addr), -ENOENT);
}

static void no_callback_runs_after_close(void **state)
{
    struct fixture *f = *state;
    struct echo echo = {.env = f->env};
    struct notes notes;
    char addr[256];

    echo.client.echo = &echo;
    notes_init(&notes, f->env);
    notes.stop_at = 1;
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "nobody"));
    assert_int_equal(
        hf_net_connect(f->env, addr, &client_events, &echo.client, &echo.client.stream), 0);
    hf_stream_close(echo.client.stream);
    hf_stream_close(NULL);
    hf_timer_arm(&notes.note[0].timer, 1);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(echo.connected, 0);
    hf_timer_fini(&notes.note[0].timer);
}

static void a_taken_address_is_refused(void **state)
{
    struct fixture *f = *state;
    struct hf_listener *first, *second;
    char addr[256];
    struct stat st;

    assert_int_equal(hf_net_listen(f->env, "127.0.0.1:0", NULL, NULL, &first), 0);
    assert_int_equal(hf_net_listen(f->env, hf_listener_addr(first), NULL, NULL, &second),
                     -EADDRINUSE);
    hf_listener_close(first);
    (void)snprintf(addr, sizeof(addr), "unix:%s", in_dir(f, "taken"));
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &first), 0);
    assert_int_equal(stat(addr + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &second), -EADDRINUSE);
    hf_listener_close(first);
    hf_listener_close(NULL);
}

static void a_socket_that_nobody_answers_on_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct hf_listener *listener;
    struct hf_file *file;
    char addr[256];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", in_dir(f, "stale"));
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    (void)close(fd);
    (void)snprintf(addr, sizeof(addr), "unix:%s", un.sun_path);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &listener), 0);
    hf_listener_close(listener);

    /* A file that is no socket stays. */
    assert_int_equal(hf_disk_open(hf_env_disk(f->env), un.sun_path, HF_FILE_CREATE, &file), 0);
    hf_file_close(file);
    assert_int_equal(hf_net_listen(f->env, addr, NULL, NULL, &listener), -EADDRINUSE);
    assert_int_equal(access(un.sun_path, F_OK), 0);
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:1x",
        "localhost:1",
        ":1",
        "[127.0.0.1]:1",
        "::1:80",
        "[::1:80",
        "unix:",
        "[::1]",
        "127.0.0.1:000001",
        "256.0.0.1:1",
        "[]:1",
    };
    struct fixture *f = *state;
    struct hf_listener *listener;
    struct hf_stream *stream;
    char longest[256] = "unix:/";

    for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
        assert_int_equal(hf_net_listen(f->env, bad[i], NULL, NULL, &listener), -EINVAL);
        assert_int_equal(hf_net_connect(f->env, bad[i], &client_events, NULL, &stream), -EINVAL);
    }
    memset(longest + 6, 'x', 200);
    assert_int_equal(hf_net_listen(f->env, longest, NULL, NULL, &listener), -EINVAL);
}

struct closer {
    struct hf_env *env;
    struct hf_listener *listener;
    int accepted;
};

static void accept_and_close_listener(void *ctx, struct hf_stream *stream)
{
    struct closer *closer = ctx;

    closer->accepted++;
    hf_stream_close(stream);
    hf_listener_close(closer->listener);
    closer->listener = NULL;
    hf_env_real_stop(closer->env);
}

static void ignore_connected(void *ctx, int err)
{
    (void)ctx;
    (void)err;
}

static void a_listener_may_be_closed_while_accepting(void **state)
{
    static const struct hf_stream_events events = {.connected = ignore_connected};
    struct fixture *f = *state;
    struct closer closer = {.env = f->env};
    struct hf_stream *streams[3];

    assert_int_equal(
        hf_net_listen(f->env, "127.0.0.1:0", accept_and_close_listener, &closer, &closer.listener),
        0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &streams[i]),
            0);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(closer.accepted, 1);
    for (int i = 0; i < 3; i++) {
        hf_stream_close(streams[i]);
    }
}

static void accept_and_stop(void *ctx, struct hf_stream *stream)
{
    struct closer *closer = ctx;

    closer->accepted++;
    hf_stream_close(stream);
    hf_env_real_stop(closer->env);
}

static bool has_accepted(void *ctx)
{
    return ((struct closer *)ctx)->accepted > 0;
}

struct fd_hog {
    struct hf_timer timer;
    struct rlimit limit;
};

static void give_fds_back(void *ctx)
{
    struct fd_hog *hog = ctx;

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &hog->limit), 0);
}

static void accepting_goes_on_when_descriptors_are_back(void **state)
{
    static const struct hf_stream_events events = {.connected = ignore_connected};
    struct fixture *f = *state;
    struct closer closer = {.env = f->env};
    struct fd_hog hog;
    struct rlimit none;
    struct hf_stream *stream, *more = NULL;

    assert_int_equal(
        hf_net_listen(f->env, "127.0.0.1:0", accept_and_stop, &closer, &closer.listener), 0);
    assert_int_equal(
        hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &stream), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &hog.limit), 0);
    none = hog.limit;
    none.rlim_cur = 3; /* what is open stays open */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(
        hf_net_connect(f->env, hf_listener_addr(closer.listener), &events, NULL, &more), -EMFILE);
    hf_timer_init(&hog.timer, f->env, give_fds_back, &hog);
    hf_timer_arm(&hog.timer, 20 * HF_NS_PER_MS);
    assert_true(loop_until(f->env, has_accepted, &closer, 30 * HF_NS_PER_SEC));
    assert_int_equal(closer.accepted, 1);
    hf_timer_fini(&hog.timer);
    hf_stream_close(stream);
    hf_listener_close(closer.listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(eight_megabytes_come_back_over_tcp),
        TEST(eight_megabytes_come_back_over_tcp_version_6),
        TEST(eight_megabytes_come_back_over_a_unix_socket),
        TEST(a_refused_connection_is_told_by_its_callback),
        TEST(no_callback_runs_after_close),
        TEST(a_taken_address_is_refused),
        TEST(a_socket_that_nobody_answers_on_is_replaced),
        TEST(what_is_no_address_is_refused),
        TEST(a_listener_may_be_closed_while_accepting),
        TEST(accepting_goes_on_when_descriptors_are_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
