/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_meta.c - node ls; meta status, transfer, add-voter, remove-voter.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/leader.h"
#include "client/cli/show.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define LOOK_TIMEOUT_NS   (5 * HF_NS_PER_SEC)
#define ASK_TIMEOUT_NS    (2 * HF_NS_PER_SEC) /* each of several nodes, in turn */
#define CHANGE_TIMEOUT_NS (60 * HF_NS_PER_SEC)
#define ADD_TIMEOUT_NS    (3600 * HF_NS_PER_SEC)
#define STALLED_NS        (120 * HF_NS_PER_SEC)
#define GOES_ON                                                                                    \
    "if it was accepted, it goes on without this command: 'holdfast meta status' shows how far"

static int open_cluster(const struct cli_args *args, struct cli_cluster *cluster)
{
    struct hf_config *config;
    int status = cli_config_load(args, NULL, &config);

    return status == CLI_DONE ? cli_cluster_open(cluster, config) : status;
}

/* The node that is meant by an argument; NULL after a complaint. */
static const struct hf_config_node *node_named(const struct cli_args *args,
                                               const struct cli_cluster *cluster, const char *name)
{
    char *end;
    unsigned long id = strtoul(name, &end, 10);
    const struct hf_config_node *n =
        *end || end == name || id > HF_NODES_MAX
            ? NULL
            : hf_config_node(cluster->config, (struct hf_node_id){(uint16_t)id});

    if (!n) {
        (void)cli_misuse(args, "'%s' is not a node of %s", name, cluster->config->path);
    }
    return n;
}

/* The leader's meta-status. Complains. */
static int leader_meta(struct cli_cluster *cluster, json_t **ret, char ret_addr[HF_ADDR_BYTES_MAX])
{
    const struct cli_leader_ask ask = {.command = "meta-status",
                                       .timeout_ns = LOOK_TIMEOUT_NS,
                                       .wait_ns = cluster->config->client.open_timeout_ns};
    char *error = NULL;
    int status = CLI_DONE;

    if (cli_leader_admin(cluster, &ask, ret, ret_addr, &error) != 0) {
        status = cli_fail("%s", error ? error : "out of memory");
    }
    free(error);
    return status;
}

/* --- node ls --- */

int cmd_node_ls(const struct cli_args *args)
{
    const struct cli_leader_ask ask = {.command = "meta-status", .timeout_ns = LOOK_TIMEOUT_NS};
    struct cli_cluster cluster;
    json_t *cluster_status = NULL, *meta = NULL;
    int status = open_cluster(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    status = cli_ask_leader(&cluster, "status", NULL, 0, LOOK_TIMEOUT_NS, &cluster_status);
    if (status == CLI_DONE) {
        json_t *nodes;

        /* Without it only the leader's role is known. */
        (void)cli_leader_admin(&cluster, &ask, &meta, NULL, NULL);
        nodes = show_merge_nodes(cluster_status, meta);
        if (cli_flag(args, "json")) {
            cli_print_json(nodes);
        } else {
            show_nodes(nodes, stdout);
        }
        json_decref(nodes);
    }
    json_decref(meta);
    json_decref(cluster_status);
    cli_cluster_close(&cluster);
    return status;
}

/* --- meta status --- */

static bool asked(const json_t *answers, const char *addr)
{
    const json_t *o;
    size_t i;

    json_array_foreach(answers, i, o)
    {
        const char *at = json_string_value(json_object_get(o, "address"));

        if (at && strcmp(at, addr) == 0) {
            return true;
        }
    }
    return false;
}

static void ask_node(struct cli_cluster *cluster, int node, const char *addr, json_t *answers)
{
    json_t *json = NULL;
    int err = cli_admin(cluster, addr, "meta-status", NULL, 0, ASK_TIMEOUT_NS, &json);

    if (!err && !json_is_object(json)) {
        json_decref(json);
        err = -EBADMSG;
    }
    if (err) {
        json = json_object();
        (void)json_object_set_new(json, "error",
                                  json_string(err == -ENOSYS
                                                  ? "its holdfastd is of an older version"
                                                  : hf_err_text(err)));
    }
    if (!json_is_integer(json_object_get(json, "node"))) {
        (void)json_object_set_new(json, "node", json_integer(node));
    }
    (void)json_object_set_new(json, "address", json_string(addr));
    (void)json_array_append_new(answers, json);
}

/* Every metadata node of the file, then those that only members know. */
static json_t *ask_all(struct cli_cluster *cluster)
{
    const struct hf_config_node *nodes[HF_NODES_MAX];
    uint32_t count = hf_config_meta_nodes(cluster->config, nodes);
    json_t *answers = json_array();
    size_t end;

    for (uint32_t i = 0; i < count; i++) {
        ask_node(cluster, nodes[i]->id.v, nodes[i]->address, answers);
    }
    end = json_array_size(answers);
    for (size_t i = 0; i < end; i++) {
        const json_t *m;
        size_t j;

        json_array_foreach(json_object_get(json_array_get(answers, i), "members"), j, m)
        {
            const char *addr = json_string_value(json_object_get(m, "address"));

            if (addr && addr[0] && json_array_size(answers) < HF_NODES_MAX &&
                !asked(answers, addr)) {
                ask_node(cluster, (int)json_integer_value(json_object_get(m, "node")), addr,
                         answers);
            }
        }
    }
    return answers;
}

/* One node about itself, as a test or a monitor wants it. */
static int status_of_one(const struct cli_args *args, struct cli_cluster *cluster, const char *name)
{
    const struct hf_config_node *n = node_named(args, cluster, name);
    json_t *answers, *one;
    int status = CLI_DONE;

    if (!n) {
        return CLI_MISUSED;
    }
    answers = json_array();
    ask_node(cluster, n->id.v, n->address, answers);
    one = json_array_get(answers, 0);
    if (json_object_get(one, "error")) {
        status = cli_fail("node %u at %s: %s", n->id.v, n->address,
                          json_string_value(json_object_get(one, "error")));
    } else if (cli_flag(args, "json")) {
        cli_print_json(one);
    } else {
        json_t *meta = show_merge_meta(answers);

        show_meta(meta, stdout);
        json_decref(meta);
    }
    json_decref(answers);
    return status;
}

int cmd_meta_status(const struct cli_args *args)
{
    const char *node = cli_option(args, "node");
    struct cli_cluster cluster;
    json_t *answers, *meta;
    int status = open_cluster(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    if (node) {
        status = status_of_one(args, &cluster, node);
        cli_cluster_close(&cluster);
        return status;
    }
    answers = ask_all(&cluster);
    meta = show_merge_meta(answers);
    if (cli_flag(args, "json")) {
        cli_print_json(meta);
    } else {
        show_meta(meta, stdout);
    }
    if (!json_is_integer(json_object_get(meta, "leader"))) {
        status = cli_fail("no metadata node leads (from %s): more than half of them must be up and "
                          "reach each other",
                          cluster.config->path);
    }
    json_decref(meta);
    json_decref(answers);
    cli_cluster_close(&cluster);
    return status;
}

/* --- changes --- */

/* {"ok":true}, or the sentence that says why not (borrowed from @json). */
static const char *refusal(const json_t *json)
{
    const char *why = json_string_value(json_object_get(json, "error"));

    if (json_is_true(json_object_get(json, "ok"))) {
        return NULL;
    }
    return why && why[0] ? why : "the leader refuses, and does not say why";
}

int cmd_meta_transfer(const struct cli_args *args)
{
    const char *name = args->rest_count ? args->rest[0] : NULL;
    struct cli_cluster cluster;
    json_t *json = NULL, *meta = NULL;
    int status = open_cluster(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    if (name && !node_named(args, &cluster, name)) {
        status = CLI_MISUSED;
    }
    if (status == CLI_DONE) {
        status = cli_ask_leader(&cluster, "meta-transfer", &name, name ? 1 : 0, CHANGE_TIMEOUT_NS,
                                &json);
    }
    if (status == CLI_DONE && refusal(json)) {
        status = cli_fail("%s", refusal(json));
    }
    if (status == CLI_DONE) {
        status = leader_meta(&cluster, &meta, NULL);
    }
    if (status == CLI_DONE) {
        (void)printf("node %d leads, term %" PRId64 "\n",
                     (int)json_integer_value(json_object_get(meta, "node")),
                     (int64_t)json_integer_value(json_object_get(meta, "term")));
    }
    json_decref(meta);
    json_decref(json);
    cli_cluster_close(&cluster);
    return status;
}

/* 1: a member, 0: none, -1: no leader to ask (it was complained of). */
static int is_member(struct cli_cluster *cluster, unsigned node)
{
    json_t *meta = NULL;
    int found = -1;

    if (leader_meta(cluster, &meta, NULL) == CLI_DONE) {
        found = show_member(meta, node) != NULL;
    }
    json_decref(meta);
    return found;
}

/* A leader that removes itself, or dies while it removes, leaves its answer open: what counts is
 * who is a member afterwards. */
static int remove_voter(struct cli_cluster *cluster, unsigned node, const char *name)
{
    const struct cli_leader_ask ask = {.command = "meta-remove",
                                       .words = &name,
                                       .word_count = 1,
                                       .timeout_ns = CHANGE_TIMEOUT_NS,
                                       .wait_ns = cluster->config->client.open_timeout_ns};
    json_t *json = NULL;
    char *error = NULL;
    int status = CLI_DONE;
    int member = is_member(cluster, node);

    if (member <= 0) {
        return member < 0 ? CLI_FAILED
                          : cli_fail("node %u does not hold the metadata; 'holdfast meta status' "
                                     "lists the nodes that do",
                                     node);
    }
    if (cli_leader_admin(cluster, &ask, &json, NULL, &error) != 0 || refusal(json)) {
        member = is_member(cluster, node);
        if (member != 0) {
            status = cli_fail("node %u: %s", node,
                              json    ? refusal(json)
                              : error ? error
                                      : "out of memory");
        }
    }
    free(error);
    json_decref(json);
    return status;
}

int cmd_meta_remove_voter(const struct cli_args *args)
{
    const struct hf_config_node *n;
    struct cli_cluster cluster;
    int status = open_cluster(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    n = node_named(args, &cluster, args->rest[0]);
    status = n ? remove_voter(&cluster, n->id.v, args->rest[0]) : CLI_MISUSED;
    if (status == CLI_DONE) {
        (void)printf("node %u holds the metadata no longer\n", n->id.v);
        if (n->metadata) {
            (void)fprintf(stderr, "set metadata = false for it in %s, on every machine\n",
                          cluster.config->path);
        }
    }
    cli_cluster_close(&cluster);
    return status;
}

/* --- add-voter: asked once per leader, watched until the node votes --- */

enum adding_state { ADDING_IDLE, ADDING_ASKED, ADDING_ACCEPTED, ADDING_REFUSED };

struct adding {
    struct cli_cluster *cluster;
    unsigned node;
    const char *name;
    enum adding_state state;
    char leader[HF_ADDR_BYTES_MAX]; /* that was asked */
    struct hf_rpc_peer *peer;
    struct hf_rpc_call call;
    uint8_t msg[HF_RPC_MSG_MAX];
    json_t *answer;
    struct hf_timer tick;
    int64_t match; /* as last seen */
    uint64_t moved_ns;
    int64_t first_match; /* as first seen, when */
    uint64_t first_ns;   /* 0: not yet */
};

static void tick_stop(void *ctx)
{
    hf_env_real_stop(((struct adding *)ctx)->cluster->env);
}

static void add_answered(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct adding *a = call->ctx;

    if (!err && reply->bulk) {
        json_decref(a->answer);
        a->answer = json_loadb((const char *)reply->bulk->data, reply->bulk->len_bytes, 0, NULL);
    }
    if (err == -ENOSYS) {
        json_decref(a->answer);
        a->answer = json_pack("{s:b, s:s}", "ok", 0, "error",
                              "the leader's holdfastd is of an older version");
        err = 0;
    }
    /* Not the leader, or gone: whoever leads then is asked. */
    a->state = err ? ADDING_IDLE : refusal(a->answer) ? ADDING_REFUSED : ADDING_ACCEPTED;
    hf_env_real_stop(a->cluster->env);
}

static int add_ask(struct adding *a, const char *leader)
{
    struct hf_msg_admin m = {.command = "meta-add", .args = {a->name}, .arg_count = 1};
    size_t len = 0;
    int err;

    hf_rpc_peer_free(a->peer);
    a->peer = NULL;
    memcpy(a->leader, leader, sizeof(a->leader));
    err = cli_peer_new(a->cluster, a->leader, &a->peer);
    if (!err) {
        err = hf_msg_admin_encode(&m, a->msg, &len);
    }
    if (!err) {
        a->call = (struct hf_rpc_call){.method = HF_M_ADMIN,
                                       .msg = a->msg,
                                       .msg_len = len,
                                       .timeout_ns = ADD_TIMEOUT_NS,
                                       .done = add_answered,
                                       .ctx = a};
        a->state = ADDING_ASKED;
        hf_rpc_call(a->peer, &a->call);
    }
    return err;
}

/* Seconds until the node has what the leader has, as fast as until now; -1: not to be told. */
static int64_t add_seconds_left(struct adding *a, const json_t *meta)
{
    int64_t last =
        (int64_t)json_integer_value(json_object_get(json_object_get(meta, "index"), "last"));
    int64_t match =
        (int64_t)json_integer_value(json_object_get(show_member(meta, a->node), "match"));
    uint64_t now = hf_env_mono_ns(a->cluster->env);

    if (!show_member(meta, a->node) || match > last) {
        return -1;
    }
    if (a->first_ns == 0) {
        a->first_ns = now;
        a->first_match = match;
    }
    if (match <= a->first_match) {
        return -1;
    }
    return (int64_t)((double)(now - a->first_ns) / (double)HF_NS_PER_SEC * (double)(last - match) /
                     (double)(match - a->first_match));
}

static void add_progress(struct adding *a, const json_t *meta, bool end)
{
    int64_t left = add_seconds_left(a, meta);
    char joining[128], line[200];

    if (!isatty(STDERR_FILENO)) {
        return;
    }
    (void)show_joining(meta, a->node, joining);
    if (left >= 0 && !end) {
        (void)snprintf(line, sizeof(line), "%s, %" PRId64 " s left", joining, left);
    } else {
        (void)snprintf(line, sizeof(line), "%s", joining);
    }
    (void)fprintf(stderr, "\r%-70s%s", line, end ? "\n" : "");
}

/* False: nothing has moved for a long time. */
static bool add_moves(struct adding *a, const json_t *member)
{
    int64_t match = (int64_t)json_integer_value(json_object_get(member, "match"));
    uint64_t now = hf_env_mono_ns(a->cluster->env);

    if (match != a->match || json_is_true(json_object_get(member, "snapshotting"))) {
        a->match = match;
        a->moved_ns = now;
    }
    return now - a->moved_ns < STALLED_NS;
}

/* One look. CLI_DONE with *ret_voter false: go on. */
static int add_look(struct adding *a, bool *ret_voter)
{
    char leader[HF_ADDR_BYTES_MAX];
    json_t *meta = NULL;
    const json_t *member;
    const char *kind;
    int status = leader_meta(a->cluster, &meta, leader);

    if (status != CLI_DONE) {
        return cli_fail("node %u: %s", a->node, GOES_ON);
    }
    member = show_member(meta, a->node);
    kind = json_string_value(json_object_get(member, "kind"));
    *ret_voter = kind && strcmp(kind, "voter") == 0;
    if (!*ret_voter && a->state == ADDING_REFUSED) {
        status = cli_fail("node %u: %s", a->node, refusal(a->answer));
    } else if (!*ret_voter && !add_moves(a, member)) {
        status =
            cli_fail("node %u has not moved for %d s: is its holdfastd running, and reached by "
                     "node %d? %s",
                     a->node, (int)(STALLED_NS / HF_NS_PER_SEC),
                     (int)json_integer_value(json_object_get(meta, "node")), GOES_ON);
    } else if (!*ret_voter && (a->state == ADDING_IDLE || strcmp(a->leader, leader) != 0)) {
        int err = add_ask(a, leader);

        status = err ? cli_fail("node %u: %s", a->node, hf_err_text(err)) : CLI_DONE;
    }
    add_progress(a, meta, *ret_voter || status != CLI_DONE);
    json_decref(meta);
    return status;
}

static void interrupted(int signum)
{
    static const char text[] = "\n" GOES_ON "\n";

    (void)signum;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(130);
}

static int add_voter(struct adding *a)
{
    bool voter = false;
    int status;

    a->moved_ns = hf_env_mono_ns(a->cluster->env);
    hf_timer_init(&a->tick, a->cluster->env, tick_stop, a);
    (void)signal(SIGINT, interrupted);
    while ((status = add_look(a, &voter)) == CLI_DONE && !voter) {
        hf_timer_arm(&a->tick, HF_NS_PER_SEC); /* an answer ends the wait sooner */
        if (hf_env_real_run(a->cluster->env) != 0) {
            status = cli_fail("the loop failed; %s", GOES_ON);
            break;
        }
        hf_timer_disarm(&a->tick);
    }
    hf_timer_fini(&a->tick);
    hf_rpc_peer_free(a->peer);
    json_decref(a->answer);
    return status;
}

int cmd_meta_add_voter(const struct cli_args *args)
{
    const struct hf_config_node *n;
    struct cli_cluster cluster;
    struct adding *a;
    int status = open_cluster(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    n = node_named(args, &cluster, args->rest[0]);
    a = calloc(1, sizeof(*a));
    if (n && a) {
        a->cluster = &cluster;
        a->node = n->id.v;
        a->name = args->rest[0];
        status = add_voter(a);
    } else {
        status = n ? cli_fail("out of memory") : CLI_MISUSED;
    }
    if (status == CLI_DONE) {
        (void)printf("node %u is a voter\n", n->id.v);
        if (!n->metadata) {
            (void)fprintf(stderr, "set metadata = true for it in %s, on every machine\n",
                          cluster.config->path);
        }
    }
    free(a);
    cli_cluster_close(&cluster);
    return status;
}
