/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/leader.h"
#include "common/base/err.h"
#include "common/wire/store_msg.h"
#include "tests/lib/loop.h"

#define FAKES 3

struct world;

struct fake { /* a metadata node that answers ADMIN as told */
    struct world *w;
    struct hf_rpc_server *server;
    int err;            /* answered, unless 0 */
    uint32_t err_count; /* so many times; 0: always */
    const char *hint;   /* with -HF_ENOTLEADER */
    const char *answer; /* JSON */
    uint32_t asked;
    char last[64], first_word[64];
};

struct world {
    struct cli_cluster cluster;
    struct fake fakes[FAKES + 1]; /* the last one is not in the configuration */
};

static void release(void *ctx)
{
    free(ctx);
}

static void on_request(void *ctx, struct hf_rpc_request *req)
{
    struct fake *f = ctx;
    struct hf_msg_admin m;
    void *mem = NULL;

    f->asked++;
    assert_int_equal(hf_msg_admin_decode(req->msg, req->msg_len, &m, &mem), 0);
    (void)snprintf(f->last, sizeof(f->last), "%s", m.command);
    (void)snprintf(f->first_word, sizeof(f->first_word), "%s", m.arg_count ? m.args[0] : "");
    hf_msg_release(mem);
    if (f->err) {
        struct hf_meta_reply reply = {0};
        uint8_t msg[HF_RPC_MSG_MAX];
        size_t len = 0;
        int err = f->err;

        if (f->hint) {
            (void)snprintf(reply.leader, sizeof(reply.leader), "%s", f->hint);
            assert_int_equal(hf_meta_reply_encode(&reply, msg, &len), 0);
        }
        if (f->err_count > 0 && --f->err_count == 0) {
            f->err = 0;
        }
        hf_rpc_reply(req, err, msg, len, NULL);
    } else {
        char *text = strdup(f->answer);
        struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
        struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .release = release, .ctx = text};

        hf_rpc_reply(req, 0, NULL, 0, &bulk);
    }
}

static void fake_start(struct world *w, struct fake *f)
{
    struct hf_rpc_service service = {.request = on_request, .ctx = f};
    struct hf_rpc_server_options o = {.addr = "127.0.0.1:0",
                                      .self = {.cluster = w->cluster.config->cluster},
                                      .pool = w->cluster.pool};

    f->w = w;
    f->answer = "{\"ok\":true}";
    assert_int_equal(hf_rpc_server_new(w->cluster.env, &o, &service, &f->server), 0);
}

static const char *addr(struct world *w, int i)
{
    return hf_rpc_server_addr(w->fakes[i].server);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct hf_config *config = calloc(1, sizeof(*config));

    assert_non_null(w);
    assert_non_null(config);
    config->cluster.b[0] = 7;
    (void)strcpy(config->path, "/the/cluster.conf");
    assert_int_equal(cli_cluster_open(&w->cluster, config), CLI_DONE);
    for (uint16_t i = 0; i <= FAKES; i++) {
        fake_start(w, &w->fakes[i]);
    }
    for (uint16_t i = 0; i < FAKES; i++) {
        config->nodes[i].id.v = (uint16_t)(i + 1);
        config->nodes[i].metadata = true;
        (void)strcpy(config->nodes[i].address, addr(w, i));
        w->fakes[i].err = -HF_ENOTLEADER;
    }
    config->node_count = FAKES;
    *state = w;
    return 0;
}

static void fake_stop(struct fake *f)
{
    hf_rpc_server_free(f->server);
    f->server = NULL;
}

static int teardown(void **state)
{
    struct world *w = *state;

    for (int i = 0; i <= FAKES; i++) {
        fake_stop(&w->fakes[i]);
    }
    loop_for(w->cluster.env, 20 * HF_NS_PER_MS);
    cli_cluster_close(&w->cluster);
    free(w);
    return 0;
}

static int ask(struct world *w, const char *command, uint64_t wait_ns, json_t **ret,
               char **ret_error)
{
    static const char *const words[] = {"2"};
    struct cli_leader_ask a = {.command = command,
                               .words = words,
                               .word_count = 1,
                               .timeout_ns = 5 * HF_NS_PER_SEC,
                               .wait_ns = wait_ns};

    return cli_leader_admin(&w->cluster, &a, ret, NULL, ret_error);
}

static void answered_by(struct world *w, int i, const char *command)
{
    json_t *json = NULL;
    char *error = NULL;

    assert_int_equal(ask(w, command, 5 * HF_NS_PER_SEC, &json, &error), 0);
    assert_null(error);
    assert_true(json_is_object(json));
    json_decref(json);
    assert_string_equal(w->fakes[i].last, command);
    assert_string_equal(w->fakes[i].first_word, "2");
}

static void the_named_leader_is_asked_next(void **state)
{
    struct world *w = *state;

    w->fakes[0].hint = addr(w, 2);
    w->fakes[2].err = 0;
    answered_by(w, 2, "fsck");
    assert_int_equal(w->fakes[0].asked, 1);
    assert_int_equal(w->fakes[1].asked, 0);
}

static void without_a_name_the_next_one_is_asked(void **state)
{
    struct world *w = *state;

    w->fakes[1].err = 0;
    answered_by(w, 1, "fsck");
    assert_int_equal(w->fakes[0].asked, 1);
}

static void a_dead_node_and_a_name_of_a_dead_node_are_passed_over(void **state)
{
    struct world *w = *state;
    char dead[HF_ADDR_BYTES_MAX];

    (void)strcpy(dead, addr(w, 0));
    fake_stop(&w->fakes[0]);
    w->fakes[1].hint = dead;
    w->fakes[2].err = 0;
    answered_by(w, 2, "fsck");
}

static void a_leader_that_the_file_does_not_list_is_followed(void **state)
{
    struct world *w = *state;

    w->fakes[0].hint = addr(w, FAKES);
    answered_by(w, FAKES, "fsck");
}

static void an_election_is_waited_for(void **state)
{
    struct world *w = *state;

    w->fakes[2].err_count = 3;
    answered_by(w, 2, "fsck");
    assert_int_equal(w->fakes[2].asked, 4);
    w->fakes[2].err = -HF_ENOTREADY;
    w->fakes[2].err_count = 2;
    answered_by(w, 2, "fsck");
}

static void status_of_a_node_about_itself_is_not_the_clusters(void **state)
{
    struct world *w = *state;
    char text[200];

    (void)snprintf(text, sizeof(text), "{\"node\":1,\"metadata_at\":\"%s\"}", addr(w, 1));
    w->fakes[0].err = w->fakes[1].err = 0;
    w->fakes[0].answer = text;
    w->fakes[1].answer = "{\"node\":2,\"metadata\":{\"leader\":2}}";
    answered_by(w, 1, "status");
    w->fakes[0].answer = "{\"node\":1,\"role\":\"follower\",\"leader\":2}";
    w->fakes[1].answer = "{\"node\":2,\"role\":\"leader\",\"leader\":2}";
    answered_by(w, 1, "meta-status");
    assert_int_equal(w->fakes[2].asked, 0);
}

static void says(const char *error, const char *what)
{
    assert_non_null(error);
    if (!strstr(error, what)) {
        fail_msg("\"%s\" does not say \"%s\"", error, what);
    }
}

static void without_a_leader_each_node_is_listed_with_what_it_said(void **state)
{
    struct world *w = *state;
    json_t *json = NULL;
    char *error = NULL;
    char named[100];

    fake_stop(&w->fakes[1]);
    w->fakes[0].hint = w->cluster.config->nodes[1].address;
    assert_int_equal(ask(w, "fsck", 300 * HF_NS_PER_MS, &json, &error), -HF_ENOTLEADER);
    assert_null(json);
    assert_true(w->fakes[2].asked >= 2);
    says(error, "no metadata node leads");
    says(error, "/the/cluster.conf");
    (void)snprintf(named, sizeof(named), "does not lead; names %s", w->fakes[0].hint);
    says(error, named);
    says(error, "refused (node 2)");
    says(error, "knows none that does (node 3)");
    free(error);
}

static void where_no_node_lives_nothing_is_waited_for(void **state)
{
    struct world *w = *state;
    uint64_t start = hf_env_mono_ns(w->cluster.env);
    json_t *json = NULL;
    char *error = NULL;

    for (int i = 0; i < FAKES; i++) {
        fake_stop(&w->fakes[i]);
    }
    assert_int_equal(ask(w, "fsck", 600 * HF_NS_PER_SEC, &json, &error), -HF_EDISCONNECTED);
    assert_true(hf_env_mono_ns(w->cluster.env) - start < 60 * HF_NS_PER_SEC);
    says(error, "no metadata node answers");
    says(error, "start holdfastd");
    free(error);
}

static void the_leaders_own_error_ends_the_search(void **state)
{
    struct world *w = *state;
    json_t *json = NULL;
    char *error = NULL;

    w->fakes[0].hint = addr(w, 2);
    w->fakes[2].err = -ENOSYS;
    assert_int_equal(ask(w, "meta-add", HF_NS_PER_SEC, &json, &error), -ENOSYS);
    says(error, "does not know 'meta-add'");
    free(error);
    w->fakes[2].err = -EIO;
    assert_int_equal(ask(w, "meta-add", HF_NS_PER_SEC, &json, &error), -EIO);
    says(error, "refuses 'meta-add'");
    free(error);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_named_leader_is_asked_next),
        TEST(without_a_name_the_next_one_is_asked),
        TEST(a_dead_node_and_a_name_of_a_dead_node_are_passed_over),
        TEST(a_leader_that_the_file_does_not_list_is_followed),
        TEST(an_election_is_waited_for),
        TEST(status_of_a_node_about_itself_is_not_the_clusters),
        TEST(without_a_leader_each_node_is_listed_with_what_it_said),
        TEST(where_no_node_lives_nothing_is_waited_for),
        TEST(the_leaders_own_error_ends_the_search),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
