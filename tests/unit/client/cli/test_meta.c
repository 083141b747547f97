/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The meta commands against three metadata nodes that a child process plays; a fourth node is to
 * join.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/rpc/rpc.h"
#include "common/wire/meta_op.h"
#include "common/wire/store_msg.h"

#define CLUSTER "0123abcd-4567-89ab-cdef-000102030405"

enum scene {
    ANSWERS_WHEN_DONE,  /* meta-add is answered when the node votes */
    ANSWERS_WHEN_BEGUN, /* and when it is accepted */
    REFUSES,
    LEADER_CHANGES, /* node 2 leads after the request, and has not heard of it */
    NO_LEADER,
};

struct play {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_uuid cluster;
    enum scene scene;
    struct hf_rpc_server *servers[3];
    struct part {
        struct play *play;
        int node;
    } parts[3];
    int leader, polls;
    bool added, removed_1;
    struct hf_rpc_request *held;
};

static void release(void *ctx)
{
    free(ctx);
}

static void answer(struct hf_rpc_request *req, const char *text)
{
    char *copy = strdup(text);
    struct iovec iov = {.iov_base = copy, .iov_len = strlen(copy)};
    struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .release = release, .ctx = copy};

    hf_rpc_reply(req, 0, NULL, 0, &bulk);
}

static void answer_status(struct play *p, int node, struct hf_rpc_request *req)
{
    char text[1000], first[100] = "{\"node\":1,\"kind\":\"voter\"},", fourth[200] = "";
    bool voter;

    if (node != p->leader) {
        (void)snprintf(text, sizeof(text), "{\"node\":%d,\"role\":\"follower\",\"leader\":%d}",
                       node, p->leader);
        answer(req, text);
        return;
    }
    voter = p->added && ++p->polls >= 3;
    if (p->added) {
        (void)snprintf(fourth, sizeof(fourth), ",{\"node\":4,\"kind\":\"%s\",\"match\":%d}",
                       voter ? "voter" : "learner", p->polls * 10);
    }
    (void)snprintf(text, sizeof(text),
                   "{\"node\":%d,\"role\":\"leader\",\"leader\":%d,\"term\":5,\"index\":{\"last\":"
                   "40},\"members\":[%s{\"node\":2,\"kind\":\"voter\"},{\"node\":3,\"kind\":"
                   "\"voter\"}%s]}",
                   node, node, p->removed_1 ? "" : first, fourth);
    answer(req, text);
    if (voter && p->held) {
        answer(p->held, "{\"ok\":true}");
        p->held = NULL;
    }
}

static void not_leader(struct hf_rpc_request *req)
{
    hf_rpc_reply(req, -HF_ENOTLEADER, NULL, 0, NULL);
}

static void add(struct play *p, struct hf_rpc_request *req)
{
    if (p->scene == REFUSES) {
        answer(req, "{\"ok\":false,\"error\":\"node 4 is down: start holdfastd on it\"}");
        return;
    }
    if (p->scene == LEADER_CHANGES && p->leader == 1) {
        p->leader = 2;
        not_leader(req);
        return;
    }
    p->added = true;
    if (p->scene == ANSWERS_WHEN_DONE) {
        p->held = req;
    } else {
        answer(req, "{\"ok\":true}");
    }
}

static void remove_first(struct play *p, struct hf_rpc_request *req)
{
    if (p->scene == REFUSES) {
        answer(req, "{\"ok\":false,\"error\":\"node 2 is down: no majority would be left\"}");
    } else if (p->removed_1) {
        answer(req, "{\"ok\":false,\"error\":\"node 1 is no member\"}");
    } else { /* the leader removes itself */
        p->removed_1 = true;
        p->leader = 2;
        not_leader(req);
    }
}

static void on_request(void *ctx, struct hf_rpc_request *req)
{
    struct part *part = ctx;
    struct play *p = part->play;
    struct hf_msg_admin m;
    void *mem = NULL;

    if (hf_msg_admin_decode(req->msg, req->msg_len, &m, &mem) != 0) {
        _exit(3);
    }
    if (strcmp(m.command, "meta-status") == 0) {
        answer_status(p, part->node, req);
    } else if (part->node != p->leader) {
        not_leader(req);
    } else if (strcmp(m.command, "meta-add") == 0 && m.arg_count == 1 &&
               strcmp(m.args[0], "4") == 0) {
        add(p, req);
    } else if (strcmp(m.command, "meta-remove") == 0 && m.arg_count == 1) {
        remove_first(p, req);
    } else if (strcmp(m.command, "meta-transfer") == 0 &&
               (m.arg_count == 0 || strcmp(m.args[0], "3") == 0)) {
        p->leader = m.arg_count ? 3 : 2;
        answer(req, "{\"ok\":true}");
    } else {
        hf_rpc_reply(req, -ENOSYS, NULL, 0, NULL);
    }
    hf_msg_release(mem);
}

/* The child: serves until it is killed. */
static void play(enum scene scene, int out)
{
    struct hf_env_real_options options = {.cpu = -1};
    struct play p = {.scene = scene, .leader = scene == NO_LEADER ? 0 : 1};
    char text[2000];
    int len;

    if (hf_env_real_new(&options, &p.env) != 0 || hf_bufpool_new(1u << 20, 0, &p.pool) != 0 ||
        hf_uuid_parse(CLUSTER, &p.cluster) != 0) {
        _exit(3);
    }
    len = snprintf(text, sizeof(text),
                   "cluster = \"" CLUSTER "\"\nnode \"4\" { address = \"127.0.0.1:1\" data = "
                   "\"/n\" metadata = false }\nclient { open_timeout = \"1s\" }\n");
    for (int i = 0; i < 3; i++) {
        struct hf_rpc_service service = {.request = on_request, .ctx = &p.parts[i]};
        struct hf_rpc_server_options o = {
            .addr = "127.0.0.1:0", .self = {.cluster = p.cluster}, .pool = p.pool};

        p.parts[i] = (struct part){&p, i + 1};
        if (hf_rpc_server_new(p.env, &o, &service, &p.servers[i]) != 0) {
            _exit(3);
        }
        len += snprintf(text + len, sizeof(text) - (size_t)len,
                        "node \"%d\" { address = \"%s\" data = \"/n\" }\n", i + 1,
                        hf_rpc_server_addr(p.servers[i]));
    }
    if (write(out, text, (size_t)len) != len || close(out) != 0) {
        _exit(3);
    }
    (void)hf_env_real_run(p.env);
    _exit(3);
}

/* Runs a command against a scene; returns its exit status. */
static int command(enum scene scene, int (*run)(const struct cli_args *), const char *name,
                   const char *word)
{
    static const struct cli_option options[] = {{"config", "FILE", ""}};
    struct cli_command c = {.name = name, .usage = "", .summary = "", .run = run};
    char path[] = "/tmp/hf-meta-XXXXXX", text[2000], *rest[] = {(char *)word};
    struct cli_args args = {
        .command = &c, .values = {path}, .rest = rest, .rest_count = word != NULL};
    int fds[2], fd, status;
    size_t len = 0;
    ssize_t n;
    pid_t child;

    c.options[0] = options[0];
    assert_int_equal(pipe(fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(fds[0]);
        play(scene, fds[1]);
    }
    (void)close(fds[1]);
    while ((n = read(fds[0], text + len, sizeof(text) - len)) > 0) {
        len += (size_t)n;
    }
    (void)close(fds[0]);
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    (void)close(fd);
    status = run(&args);
    (void)unlink(path);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    return status;
}

static void add_voter_ends_when_the_node_votes(void **state)
{
    (void)state;
    assert_int_equal(command(ANSWERS_WHEN_DONE, cmd_meta_add_voter, "meta add-voter", "4"),
                     CLI_DONE);
    assert_int_equal(command(ANSWERS_WHEN_BEGUN, cmd_meta_add_voter, "meta add-voter", "4"),
                     CLI_DONE);
    assert_int_equal(command(LEADER_CHANGES, cmd_meta_add_voter, "meta add-voter", "4"), CLI_DONE);
    assert_int_equal(command(REFUSES, cmd_meta_add_voter, "meta add-voter", "1"), CLI_DONE);
}

static void add_voter_fails_when_it_is_refused_or_nobody_leads(void **state)
{
    (void)state;
    assert_int_equal(command(REFUSES, cmd_meta_add_voter, "meta add-voter", "4"), CLI_FAILED);
    assert_int_equal(command(NO_LEADER, cmd_meta_add_voter, "meta add-voter", "4"), CLI_FAILED);
    assert_int_equal(command(REFUSES, cmd_meta_add_voter, "meta add-voter", "9"), CLI_MISUSED);
    assert_int_equal(command(REFUSES, cmd_meta_add_voter, "meta add-voter", "x"), CLI_MISUSED);
}

static void remove_voter_of_the_leader_itself_is_done(void **state)
{
    (void)state;
    assert_int_equal(command(ANSWERS_WHEN_DONE, cmd_meta_remove_voter, "meta remove-voter", "1"),
                     CLI_DONE);
}

static void remove_voter_fails_when_it_is_refused_or_no_member(void **state)
{
    (void)state;
    assert_int_equal(command(REFUSES, cmd_meta_remove_voter, "meta remove-voter", "1"), CLI_FAILED);
    assert_int_equal(command(REFUSES, cmd_meta_remove_voter, "meta remove-voter", "4"), CLI_FAILED);
}

static void transfer_takes_a_node_or_none(void **state)
{
    (void)state;
    assert_int_equal(command(REFUSES, cmd_meta_transfer, "meta transfer", NULL), CLI_DONE);
    assert_int_equal(command(REFUSES, cmd_meta_transfer, "meta transfer", "3"), CLI_DONE);
    assert_int_equal(command(REFUSES, cmd_meta_transfer, "meta transfer", "2"), CLI_FAILED);
    assert_int_equal(command(NO_LEADER, cmd_meta_transfer, "meta transfer", NULL), CLI_FAILED);
}

static void status_fails_without_a_leader_only(void **state)
{
    (void)state;
    assert_int_equal(command(REFUSES, cmd_meta_status, "meta status", NULL), CLI_DONE);
    assert_int_equal(command(NO_LEADER, cmd_meta_status, "meta status", NULL), CLI_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_voter_ends_when_the_node_votes),
        cmocka_unit_test(add_voter_fails_when_it_is_refused_or_nobody_leads),
        cmocka_unit_test(remove_voter_of_the_leader_itself_is_done),
        cmocka_unit_test(remove_voter_fails_when_it_is_refused_or_no_member),
        cmocka_unit_test(transfer_takes_a_node_or_none),
        cmocka_unit_test(status_fails_without_a_leader_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
