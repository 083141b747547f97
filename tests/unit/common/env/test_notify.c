/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/env/notify.h"

struct manager {
    int fd;
    char dir[64];
    struct sockaddr_un addr;
};

static int setup(void **state)
{
    static struct manager m;

    memset(&m, 0, sizeof(m));
    (void)snprintf(m.dir, sizeof(m.dir), "/tmp/hf-test-notify.XXXXXX");
    assert_non_null(mkdtemp(m.dir));
    m.addr.sun_family = AF_UNIX;
    (void)snprintf(m.addr.sun_path, sizeof(m.addr.sun_path), "%s/notify", m.dir);
    m.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(m.fd >= 0);
    assert_int_equal(bind(m.fd, (const struct sockaddr *)&m.addr, sizeof(m.addr)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", m.addr.sun_path, 1), 0);
    *state = &m;
    return 0;
}

static int teardown(void **state)
{
    struct manager *m = *state;

    (void)unsetenv("NOTIFY_SOCKET");
    assert_int_equal(close(m->fd), 0);
    assert_int_equal(unlink(m->addr.sun_path), 0);
    assert_int_equal(rmdir(m->dir), 0);
    return 0;
}

static void heard(struct manager *m, const char *want)
{
    char got[256];
    ssize_t n = recv(m->fd, got, sizeof(got) - 1, 0);

    assert_true(n >= 0);
    got[n] = '\0';
    assert_string_equal(got, want);
}

static void heard_nothing(struct manager *m)
{
    char got[256];

    assert_int_equal(recv(m->fd, got, sizeof(got), 0), -1);
    assert_int_equal(errno, EAGAIN);
}

static void ready_then_stopping_reach_the_manager_once_each(void **state)
{
    struct manager *m = *state;

    hf_notify_ready("node 2 serves 127.0.0.12:7400");
    heard(m, "READY=1\nSTATUS=node 2 serves 127.0.0.12:7400");
    hf_notify_stopping("writing back");
    heard(m, "STOPPING=1\nSTATUS=writing back");
    heard_nothing(m);
}

static void after_detach_nothing_is_said(void **state)
{
    struct manager *m = *state;

    hf_notify_detach();
    hf_notify_ready("x");
    hf_notify_stopping("x");
    heard_nothing(m);
}

static void a_manager_that_is_gone_does_no_harm(void **state)
{
    struct manager *m = *state;

    assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1), 0);
    hf_notify_ready("x");
    hf_notify_stopping("x");
    heard_nothing(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ready_then_stopping_reach_the_manager_once_each, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(after_detach_nothing_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(a_manager_that_is_gone_does_no_harm, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
