/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/leader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/err.h"

#define PAUSE_MIN_NS (50 * HF_NS_PER_MS)
#define PAUSE_MAX_NS (500 * HF_NS_PER_MS)
#define TRIED_MAX    (HF_NODES_MAX + 8u) /* and some that only hints know */

struct tried {
    char addr[HF_ADDR_BYTES_MAX];
    char hint[HF_ADDR_BYTES_MAX]; /* whom it named as the leader, or "" */
    struct hf_node_id node;       /* 0: the configuration does not list it */
    int err;
    bool asked;
};

struct search {
    struct cli_cluster *cluster;
    const struct cli_leader_ask *ask;
    struct tried nodes[TRIED_MAX];
    uint32_t count;
    uint64_t deadline_ns;
    bool told; /* that it waits */
};

enum verdict { ANSWERED, ELSEWHERE, DEAD, FAILED };

static enum verdict judge(int err)
{
    switch (-err) {
    case 0:
        return ANSWERED;
    case HF_ENOTLEADER:
    case HF_ENOTREADY:
        return ELSEWHERE;
    case HF_EDISCONNECTED:
    case HF_EWRONGCLUSTER:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case EPROTO:
        return DEAD;
    default:
        return FAILED;
    }
}

/* Any metadata node answers "meta-status" about itself, and knows who leads. */
static bool follows(const struct hf_config *config, const json_t *json,
                    char ret_hint[HF_ADDR_BYTES_MAX])
{
    const char *role = json_string_value(json_object_get(json, "role"));
    json_int_t leader = json_integer_value(json_object_get(json, "leader"));
    const struct hf_config_node *n =
        leader > 0 && leader <= HF_NODES_MAX
            ? hf_config_node(config, (struct hf_node_id){(uint16_t)leader})
            : NULL;

    (void)snprintf(ret_hint, HF_ADDR_BYTES_MAX, "%s", n ? n->address : "");
    return !role || strcmp(role, "leader") != 0;
}

/* What a node says about itself is not the leader's answer. */
static bool about_itself(const struct search *s, const json_t *json,
                         char ret_hint[HF_ADDR_BYTES_MAX])
{
    const char *at = json_string_value(json_object_get(json, "metadata_at"));

    if (strcmp(s->ask->command, "meta-status") == 0) {
        return follows(s->cluster->config, json, ret_hint);
    }
    if (strcmp(s->ask->command, "status") != 0 || json_object_get(json, "metadata")) {
        return false;
    }
    (void)snprintf(ret_hint, HF_ADDR_BYTES_MAX, "%s", at ? at : "");
    return true;
}

static enum verdict ask_one(struct search *s, struct tried *t, json_t **ret)
{
    json_t *json = NULL;

    t->asked = true;
    t->hint[0] = '\0';
    t->err = cli_admin_hint(s->cluster, t->addr, s->ask->command, s->ask->words, s->ask->word_count,
                            s->ask->timeout_ns, &json, t->hint);
    if (!t->err && about_itself(s, json, t->hint)) {
        json_decref(json);
        t->err = -HF_ENOTLEADER;
    } else if (!t->err) {
        *ret = json;
    }
    return judge(t->err);
}

/* The node of that address, entered if it is new; NULL: none, or no room. */
static struct tried *find(struct search *s, const char *addr)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (strcmp(s->nodes[i].addr, addr) == 0) {
            return &s->nodes[i];
        }
    }
    if (!addr[0] || s->count == TRIED_MAX) {
        return NULL;
    }
    memcpy(s->nodes[s->count].addr, addr, strnlen(addr, HF_ADDR_BYTES_MAX - 1));
    return &s->nodes[s->count++];
}

/* Each node once, and one that was named twice at most. *ret_last: who ended the round. */
static enum verdict run_round(struct search *s, json_t **ret, struct tried **ret_last)
{
    enum verdict round = DEAD;
    bool hinted = false;

    for (uint32_t i = 0; i < s->count; i++) {
        struct tried *t = &s->nodes[i];
        enum verdict v = ask_one(s, t, ret);

        round = v == ELSEWHERE ? ELSEWHERE : round;
        if (v == ELSEWHERE && t->hint[0] && !hinted) {
            hinted = true;
            t = find(s, t->hint);
            v = t ? ask_one(s, t, ret) : v;
        }
        if (v == ANSWERED || v == FAILED) {
            *ret_last = t;
            return v;
        }
    }
    return round;
}

static void pause_ns(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / HF_NS_PER_SEC),
                          .tv_nsec = (long)(ns % HF_NS_PER_SEC)};

    (void)nanosleep(&ts, NULL);
}

static void tell_wait(struct search *s)
{
    if (!s->told && isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "no metadata node leads at the moment; waiting up to %llu s\n",
                      (unsigned long long)(s->ask->wait_ns / HF_NS_PER_SEC));
    }
    s->told = true;
}

static void list_node(const struct tried *t, FILE *out)
{
    const char *said = hf_err_text(t->err);

    if (t->err == -HF_ENOTLEADER && t->hint[0]) {
        (void)fprintf(out, "\n  %-21s does not lead; names %s", t->addr, t->hint);
    } else if (t->err == -HF_ENOTLEADER) {
        (void)fprintf(out, "\n  %-21s does not lead, and knows none that does", t->addr);
    } else {
        (void)fprintf(out, "\n  %-21s %s", t->addr, said);
    }
    if (t->node.v) {
        (void)fprintf(out, " (node %u)", t->node.v);
    }
}

static char *explain(const struct search *s, enum verdict v, const struct tried *last)
{
    const char *path = s->cluster->config->path;
    size_t size;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return NULL;
    }
    if (v == FAILED && last->err == -ENOSYS) {
        (void)fprintf(out, "%s does not know '%s': its holdfastd is of an older version",
                      last->addr, s->ask->command);
    } else if (v == FAILED) {
        (void)fprintf(out, "the metadata node %s refuses '%s': %s", last->addr, s->ask->command,
                      hf_err_text(last->err));
    } else {
        (void)fprintf(out, "%s (from %s):",
                      v == DEAD ? "no metadata node answers" : "no metadata node leads", path);
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->nodes[i].asked) {
                list_node(&s->nodes[i], out);
            }
        }
        (void)fprintf(out, "\n%s",
                      v == DEAD ? "start holdfastd on them"
                                : "more than half of them must be up and reach each other; "
                                  "'holdfast meta status' shows what each waits for");
    }
    return fclose(out) == 0 ? text : NULL;
}

int cli_leader_admin(struct cli_cluster *cluster, const struct cli_leader_ask *ask, json_t **ret,
                     char ret_addr[HF_ADDR_BYTES_MAX], char **ret_error)
{
    const struct hf_config_node *nodes[HF_NODES_MAX];
    struct search *s = calloc(1, sizeof(*s));
    uint64_t pause = PAUSE_MIN_NS;
    struct tried *last = NULL;
    enum verdict v;
    int err;

    if (ret_error) {
        *ret_error = NULL;
    }
    if (!s) {
        return -ENOMEM;
    }
    s->cluster = cluster;
    s->ask = ask;
    s->deadline_ns = hf_env_mono_ns(cluster->env) + ask->wait_ns;
    s->count = hf_config_meta_nodes(cluster->config, nodes);
    for (uint32_t i = 0; i < s->count; i++) {
        (void)snprintf(s->nodes[i].addr, sizeof(s->nodes[i].addr), "%s", nodes[i]->address);
        s->nodes[i].node = nodes[i]->id;
    }
    while ((v = run_round(s, ret, &last)) == ELSEWHERE &&
           hf_env_mono_ns(cluster->env) + pause < s->deadline_ns) {
        tell_wait(s);
        pause_ns(pause);
        pause = 2 * pause < PAUSE_MAX_NS ? 2 * pause : PAUSE_MAX_NS;
    }
    err = v == ELSEWHERE ? -HF_ENOTLEADER : v == DEAD ? -HF_EDISCONNECTED : last->err;
    if (!err && ret_addr) {
        (void)snprintf(ret_addr, HF_ADDR_BYTES_MAX, "%s", last->addr);
    }
    if (err && ret_error) {
        *ret_error = explain(s, v, last);
    }
    free(s);
    return err;
}

int cli_ask_leader(struct cli_cluster *cluster, const char *command, const char *const *words,
                   uint32_t word_count, uint64_t timeout_ns, json_t **ret)
{
    struct cli_leader_ask ask = {
        .command = command,
        .words = words,
        .word_count = word_count,
        .timeout_ns = timeout_ns,
        .wait_ns = cluster->config->client.open_timeout_ns,
    };
    char *error = NULL;
    int status = CLI_DONE;

    if (cli_leader_admin(cluster, &ask, ret, NULL, &error) != 0) {
        status = cli_fail("%s", error ? error : "out of memory");
    }
    free(error);
    return status;
}
