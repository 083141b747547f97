/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfastd - one node of a Holdfast cluster.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/config/config.h"
#include "common/env/env_real.h"
#include "common/env/notify.h"
#include "common/log/log.h"
#include "server/node/node.h"

#define FILES_FEW 16384u /* 3.5 TiB of segments, and connections */

struct daemon {
    struct hf_env *env;
    struct hf_node *node;
    bool stopping;
};

static const char usage[] =
    "usage: holdfastd --config FILE [--node N] [--log-level LEVEL] [--cpu N]\n"
    "\n"
    "Runs one node of a Holdfast cluster in the foreground until SIGTERM or SIGINT.\n"
    "\n"
    "  --config FILE      the cluster's configuration (holdfast config check FILE checks it)\n"
    "  --node N           which of its nodes this is; not needed when the file says this_node,\n"
    "                     or lists only one\n"
    "  --log-level LEVEL  error, warn, info (default) or debug\n"
    "  --cpu N            keep the main thread on this CPU\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 stopped as asked, 1 failed (the reason is on stderr), 2 misused.\n";

static void stopped(void *ctx)
{
    struct daemon *d = ctx;

    d->node = NULL;
    hf_env_real_stop(d->env);
}

static void on_signal(void *ctx, int signum)
{
    struct daemon *d = ctx;

    if (d->stopping) {
        return;
    }
    d->stopping = true;
    hf_log(HF_LOG_INFO, "node", "stopping", "signal=%d", signum);
    hf_notify_stopping("answering what is under way, then a checkpoint");
    hf_node_stop(d->node, stopped, d);
}

/* The store is open, the listener bound; what arrives before the loop runs waits in its backlog. */
static void tell_ready(const struct hf_config *config, struct hf_node_id id)
{
    const struct hf_config_node *self = hf_config_node(config, id);
    char text[HF_ADDR_BYTES_MAX + 64];

    (void)snprintf(text, sizeof(text), "node %u serves %s%s", id.v, self->address,
                   self->metadata ? ", and the metadata" : "");
    hf_notify_ready(text);
}

/* Every segment of the store and every connection is one. */
static uint32_t raise_files(void)
{
    uint32_t max = hf_env_real_raise_files();

    if (max < FILES_FEW) {
        hf_log(HF_LOG_WARN, "node", "few open files allowed",
               "limit=%u next=\"the store is full when it has used them up: raise the hard limit "
               "(ulimit -Hn, or LimitNOFILE= of the service)\"",
               max);
    }
    return max;
}

static int run(const struct hf_config *config, struct hf_node_id id, int cpu)
{
    struct hf_env_real_options options = {.cpu = cpu};
    struct hf_node_options node_options = {.files_max = raise_files()};
    struct daemon d = {0};
    char *error = NULL;
    int err = hf_env_real_new(&options, &d.env);

    if (err) {
        (void)fprintf(stderr, "holdfastd: cannot start: %s\n", hf_err_text(err));
        return 1;
    }
    err = hf_node_start(d.env, config, id, &node_options, &d.node, &error);
    if (err) {
        (void)fprintf(stderr, "holdfastd: node %u: %s\n", id.v, error ? error : hf_err_text(err));
        free(error);
        hf_env_real_free(d.env);
        return 1;
    }
    err = hf_env_real_on_signal(d.env, SIGTERM, on_signal, &d);
    if (!err) {
        err = hf_env_real_on_signal(d.env, SIGINT, on_signal, &d);
    }
    if (!err) {
        tell_ready(config, id);
        err = hf_env_real_run(d.env);
    }
    if (err) {
        (void)fprintf(stderr, "holdfastd: %s\n", hf_err_text(err));
    }
    hf_env_real_free(d.env);
    return err ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"node", required_argument, NULL, 'n'},
        {"log-level", required_argument, NULL, 'l'},
        {"cpu", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    struct hf_config *config;
    const char *file = NULL;
    struct hf_node_id id = {0};
    enum hf_log_level level = HF_LOG_INFO;
    bool level_set = false;
    char *error = NULL;
    int cpu = -1;
    int status;
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            file = optarg;
            break;
        case 'n':
            id.v = (uint16_t)strtoul(optarg, NULL, 10);
            if (id.v == 0 || id.v > HF_NODES_MAX) {
                (void)fprintf(stderr, "holdfastd: --node %s: a number from 1 to %u\n", optarg,
                              HF_NODES_MAX);
                return 2;
            }
            break;
        case 'l':
            level_set = true;
            if (hf_log_parse_level(optarg, &level) != 0) {
                (void)fprintf(stderr, "holdfastd: --log-level %s: error, warn, info or debug\n",
                              optarg);
                return 2;
            }
            break;
        case 'p':
            cpu = (int)strtol(optarg, NULL, 10);
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        case 'V':
            (void)puts("holdfastd " HF_VERSION);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    if (!file || optind != argc) {
        (void)fputs(usage, stderr);
        return 2;
    }
    config = calloc(1, sizeof(*config));
    if (!config) {
        return 1;
    }
    if (hf_config_load(file, config, &error) != 0) {
        (void)fprintf(stderr, "holdfastd: %s\n", error ? error : "out of memory");
        free(error);
        free(config);
        return 1;
    }
    if (id.v == 0) {
        id = config->this_node;
    }
    if (id.v == 0 && config->node_count == 1) {
        id = config->nodes[0].id;
    }
    if (id.v == 0 || !hf_config_node(config, id)) {
        (void)fprintf(stderr, "holdfastd: %s lists %u nodes; say which one this is with --node N\n",
                      file, config->node_count);
        free(config);
        return 2;
    }
    hf_log_set_level(level_set ? level : config->log_level);
    status = run(config, id, cpu);
    free(config);
    return status;
}
