/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rpc - calls between two processes over loopback: rate of small ones, bytes of large ones.
 *
 *     bench_rpc [address]        default 127.0.0.1:0; unix:PATH works too
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/env/env_real.h"
#include "common/rpc/rpc.h"

enum { M_ECHO = 1, M_SINK = 2, M_SOURCE = 3 };

static uint8_t megabyte[HF_FRAME_BULK_MAX] __attribute__((aligned(4096)));

static void serve(void *ctx, struct hf_rpc_request *req)
{
    const struct iovec iov = {megabyte, sizeof(megabyte)};
    const struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .summed = true};

    (void)ctx;
    hf_rpc_reply(req, 0, req->msg, req->msg_len, req->method == M_SOURCE ? &bulk : NULL);
}

static void run_server(int fd, const char *addr)
{
    const struct hf_rpc_service service = {.request = serve};
    struct hf_rpc_server_options options = {.addr = addr};
    struct hf_rpc_server *server;
    struct hf_env *env;
    const char *text;

    if (hf_env_real_new(&(struct hf_env_real_options){.cpu = 1}, &env) != 0 ||
        hf_bufpool_new(64u << 20, 0, &options.pool) != 0 ||
        hf_rpc_server_new(env, &options, &service, &server) != 0) {
        _exit(1);
    }
    text = hf_rpc_server_addr(server);
    if (write(fd, text, strlen(text) + 1) < 0) {
        _exit(1);
    }
    (void)hf_env_real_run(env);
    _exit(0);
}

struct run {
    struct hf_env *env;
    struct hf_rpc_peer *peer;
    uint64_t left;
    uint32_t flying;
    int err;
};

struct slot {
    struct hf_rpc_call call;
    struct iovec iov;
    struct run *run;
};

static void next(struct slot *s)
{
    s->run->left--;
    s->run->flying++;
    hf_rpc_call(s->run->peer, &s->call);
}

static void done(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct slot *s = call->ctx;

    (void)reply;
    s->run->flying--;
    if (err) {
        s->run->err = err;
    } else if (s->run->left > 0) {
        next(s);
        return;
    }
    if (s->run->flying == 0) {
        hf_env_real_stop(s->run->env);
    }
}

static void measure(struct run *run, const char *what, uint16_t method, uint64_t count,
                    uint32_t depth)
{
    struct slot *slots = calloc(depth, sizeof(*slots));
    uint64_t start;
    double s;

    run->left = count;
    start = hf_env_mono_ns(run->env);
    for (uint32_t i = 0; slots && i < depth && run->left > 0; i++) {
        slots[i].run = run;
        slots[i].iov = (struct iovec){megabyte, sizeof(megabyte)};
        slots[i].call = (struct hf_rpc_call){
            .method = method,
            .msg = megabyte,
            .msg_len = 64,
            .bulk = {.iov = &slots[i].iov, .iov_count = method == M_SINK, .summed = true},
            .timeout_ns = 30 * HF_NS_PER_SEC,
            .done = done,
            .ctx = &slots[i],
        };
        next(&slots[i]);
    }
    (void)hf_env_real_run(run->env);
    s = (double)(hf_env_mono_ns(run->env) - start) / 1e9;
    printf("%-18s depth %4" PRIu32 ": %9.0f calls/s", what, depth, (double)count / s);
    if (method != M_ECHO) {
        printf(", %.2f GB/s", (double)count * sizeof(megabyte) / s / 1e9);
    }
    printf("%s\n", run->err ? " FAILED" : "");
    free(slots);
}

int main(int argc, char **argv)
{
    struct hf_rpc_peer_options options = {.self.name = "bench"};
    struct run run = {0};
    char addr[HF_ADDR_BYTES_MAX];
    int fds[2];
    pid_t pid;

    if (pipe(fds) != 0) {
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        run_server(fds[1], argc > 1 ? argv[1] : "127.0.0.1:0");
    }
    (void)close(fds[1]);
    if (pid < 0 || read(fds[0], addr, sizeof(addr)) <= 0) {
        return 1;
    }
    options.addr = addr;
    if (hf_env_real_new(&(struct hf_env_real_options){.cpu = 0}, &run.env) != 0 ||
        hf_bufpool_new(64u << 20, 0, &options.pool) != 0 ||
        hf_rpc_peer_new(run.env, &options, &run.peer) != 0) {
        return 1;
    }
    measure(&run, "connect", M_ECHO, 1, 1);
    measure(&run, "small", M_ECHO, 20000, 1);
    measure(&run, "small", M_ECHO, 500000, 16);
    measure(&run, "small", M_ECHO, 1000000, 256);
    measure(&run, "1 MiB to server", M_SINK, 3000, 8);
    measure(&run, "1 MiB from server", M_SOURCE, 3000, 8);
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
    return run.err != 0;
}
