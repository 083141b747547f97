/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_dev.c - a whole cluster on this machine, below one directory.
 *
 *     DIR/cluster.conf   shared by nodes, mounts, tools
 *     DIR/nodeN.conf     this_node = N and the above
 *     DIR/nN/            data    DIR/nN.log    DIR/nN.pid
 *
 * A pid file counts only while its process was started with that node's configuration.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/leader.h"
#include "common/base/err.h"

#define UP_SECONDS   30
#define DOWN_SECONDS 30
#define PATH_BYTES   4400

struct dev {
    char dir[PATH_MAX]; /* absolute */
    struct hf_config *config;
};

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&ts, NULL);
}

static int dev_dir(const struct cli_args *args, struct dev *dev, bool create)
{
    const char *dir = cli_option(args, "dir");

    memset(dev, 0, sizeof(*dev));
    if (!dir || !dir[0]) {
        return cli_misuse(args, "--dir DIR is missing");
    }
    if (create && mkdir(dir, 0755) != 0 && errno != EEXIST) {
        return cli_fail("%s: %s", dir, strerror(errno));
    }
    if (!realpath(dir, dev->dir)) {
        return cli_fail("%s: %s; 'holdfast dev up --dir DIR' makes one", dir, strerror(errno));
    }
    if (strpbrk(dev->dir, "\"\\\n")) {
        return cli_fail("%s: quotes, backslashes and newlines cannot be in the name", dir);
    }
    return CLI_DONE;
}

static int dev_load(const struct cli_args *args, struct dev *dev)
{
    char path[PATH_BYTES];
    char *error = NULL;
    int status = dev_dir(args, dev, false);

    if (status != CLI_DONE) {
        return status;
    }
    (void)snprintf(path, sizeof(path), "%s/cluster.conf", dev->dir);
    dev->config = calloc(1, sizeof(*dev->config));
    if (!dev->config || hf_config_load(path, dev->config, &error) != 0) {
        status = cli_fail("%s", error ? error : "out of memory");
        free(error);
        free(dev->config);
        dev->config = NULL;
        return status;
    }
    return CLI_DONE;
}

/* The pid of a node that runs, or 0. */
static pid_t node_pid(const struct dev *dev, unsigned id)
{
    char path[PATH_BYTES], want[PATH_BYTES], cmdline[2 * PATH_BYTES];
    long pid = 0;
    size_t n;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/n%u.pid", dev->dir, id);
    f = fopen(path, "re");
    if (!f) {
        return 0;
    }
    if (fscanf(f, "%ld", &pid) != 1) {
        pid = 0;
    }
    (void)fclose(f);
    if (pid <= 1) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", pid);
    f = fopen(path, "re");
    if (!f) {
        return 0;
    }
    n = fread(cmdline, 1, sizeof(cmdline) - 1, f);
    (void)fclose(f);
    cmdline[n] = '\0';
    (void)snprintf(want, sizeof(want), "%s/node%u.conf", dev->dir, id);
    return memmem(cmdline, n, want, strlen(want)) ? (pid_t)pid : 0;
}

static int write_file(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int write_file(const char *path, const char *fmt, ...)
{
    FILE *f = fopen(path, "we");
    va_list ap;

    if (!f) {
        return cli_fail("%s: %s", path, strerror(errno));
    }
    va_start(ap, fmt);
    (void)vfprintf(f, fmt, ap);
    va_end(ap);
    return fclose(f) == 0 ? CLI_DONE : cli_fail("%s: %s", path, strerror(errno));
}

static int new_uuid(char ret[HF_UUID_STR_MAX])
{
    struct hf_uuid uuid;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, uuid.b, sizeof(uuid.b));

    if (fd >= 0) {
        (void)close(fd);
    }
    if (n != (ssize_t)sizeof(uuid.b)) {
        return cli_fail("/dev/urandom: %s", strerror(errno));
    }
    (void)hf_uuid_str(&uuid, ret);
    return CLI_DONE;
}

/* How many of the nodes hold the metadata; -1: --metadata says what cannot be. */
static long metadata_count(const struct cli_args *args, long nodes)
{
    const char *text = cli_option(args, "metadata");
    char *end;
    long count;

    if (!text) {
        return nodes >= 3 ? 3 : 1;
    }
    count = strtol(text, &end, 10);
    return *end || end == text || count > nodes || count > (long)HF_CONFIG_META_MAX || count < 1 ||
                   count % 2 == 0
               ? -1
               : count;
}

static int write_config(const struct cli_args *args, const struct dev *dev)
{
    const char *nodes_text = cli_option(args, "nodes") ? cli_option(args, "nodes") : "3";
    const char *loopback =
        cli_option(args, "loopback") ? cli_option(args, "loopback") : "127.0.0.11";
    const char *port_text = cli_option(args, "port") ? cli_option(args, "port") : "7400";
    char path[PATH_BYTES], uuid[HF_UUID_STR_MAX], *text = NULL, *end;
    long nodes = strtol(nodes_text, &end, 10);
    long port = *end ? 0 : strtol(port_text, &end, 10);
    long metadata = metadata_count(args, nodes);
    struct in_addr base;
    size_t size;
    FILE *f;
    int status;

    if (nodes < 1 || nodes > (long)HF_NODES_MAX) {
        return cli_misuse(args, "--nodes %s: a number from 1 to %u", nodes_text, HF_NODES_MAX);
    }
    if (*end || port < 1 || port > 65535) {
        return cli_misuse(args, "--port %s: a number from 1 to 65535", port_text);
    }
    if (metadata < 0) {
        return cli_misuse(args, "--metadata %s: 1, 3 or 5, and not more than there are nodes",
                          cli_option(args, "metadata"));
    }
    if (inet_pton(AF_INET, loopback, &base) != 1 || (ntohl(base.s_addr) >> 24) != 127) {
        return cli_misuse(args, "--loopback %s: an address like 127.0.0.11", loopback);
    }
    if (new_uuid(uuid) != CLI_DONE) {
        return CLI_FAILED;
    }
    f = open_memstream(&text, &size);
    if (!f) {
        return cli_fail("out of memory");
    }
    (void)fprintf(f, "cluster = \"%s\"\ncopies = %ld\nmin_copies = %d\n", uuid,
                  nodes < 3 ? nodes : 3, nodes < 2 ? 1 : 2);
    for (long i = 1; i <= nodes; i++) {
        struct in_addr addr = {.s_addr = htonl(ntohl(base.s_addr) + (uint32_t)(i - 1))};
        char host[INET_ADDRSTRLEN];

        (void)inet_ntop(AF_INET, &addr, host, sizeof(host));
        (void)fprintf(f, "node \"%ld\" {\n    address = \"%s:%ld\"\n    data = \"%s/n%ld\"\n%s}\n",
                      i, host, port, dev->dir, i, i <= metadata ? "    metadata = true\n" : "");
    }
    (void)fclose(f);
    for (long i = 1; i <= nodes; i++) {
        (void)snprintf(path, sizeof(path), "%s/node%ld.conf", dev->dir, i);
        status = write_file(path, "this_node = %ld\ninclude(\"%s/cluster.conf\")\n", i, dev->dir);
        if (status != CLI_DONE) {
            free(text);
            return status;
        }
    }
    (void)snprintf(path, sizeof(path), "%s/cluster.conf", dev->dir);
    status = write_file(path, "%s", text);
    free(text);
    return status;
}

/* holdfastd lies beside this program when built, in sbin when installed. */
static void daemon_path(char ret[PATH_MAX])
{
    static const char *const places[] = {"%s/holdfastd", "%s/../../server/holdfastd",
                                         "%s/../sbin/holdfastd"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(ret, PATH_MAX, places[i], self);
#pragma GCC diagnostic pop
            if (access(ret, X_OK) == 0) {
                return;
            }
        }
    }
    (void)snprintf(ret, PATH_MAX, "holdfastd");
}

static void show_log_tail(const char *path)
{
    char tail[1025];
    FILE *f = fopen(path, "re");
    const char *at;
    size_t n;

    if (!f) {
        return;
    }
    (void)fseek(f, -1024, SEEK_END);
    n = fread(tail, 1, sizeof(tail) - 1, f);
    (void)fclose(f);
    tail[n] = '\0';
    at = n == 1024 ? strchr(tail, '\n') : tail;
    (void)fputs(at ? at : tail, stderr);
}

static int start_node(const struct dev *dev, unsigned id)
{
    char conf[PATH_BYTES], log[PATH_BYTES], pid_file[PATH_BYTES], program[PATH_MAX];
    pid_t pid = node_pid(dev, id);
    int fd, status;

    if (pid) {
        (void)fprintf(stderr, "node %u runs already, pid %d\n", id, (int)pid);
        return CLI_DONE;
    }
    daemon_path(program);
    (void)snprintf(conf, sizeof(conf), "%s/node%u.conf", dev->dir, id);
    (void)snprintf(log, sizeof(log), "%s/n%u.log", dev->dir, id);
    (void)snprintf(pid_file, sizeof(pid_file), "%s/n%u.pid", dev->dir, id);
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) {
        return cli_fail("%s: %s", log, strerror(errno));
    }
    pid = fork();
    if (pid < 0) {
        (void)close(fd);
        return cli_fail("cannot start node %u: %s", id, strerror(errno));
    }
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void)setsid();
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(fd, STDOUT_FILENO);
        (void)dup2(fd, STDERR_FILENO);
        (void)execlp(program, "holdfastd", "--config", conf, (char *)NULL);
        (void)dprintf(STDERR_FILENO, "holdfastd: %s: %s\n", program, strerror(errno));
        _exit(127);
    }
    (void)close(fd);
    status = write_file(pid_file, "%d\n", (int)pid);
    sleep_ms(150); /* one that cannot start says so at once */
    if (waitpid(pid, NULL, WNOHANG) == pid) {
        (void)unlink(pid_file);
        status = cli_fail("node %u did not start; the end of %s:", id, log);
        show_log_tail(log);
    }
    return status;
}

/* How many nodes the metadata says are up; -1: no answer. */
static int count_up(struct cli_cluster *cluster)
{
    const struct cli_leader_ask ask = {.command = "status", .timeout_ns = HF_NS_PER_SEC};
    json_t *json, *nodes, *node;
    size_t i;
    int up = 0;

    if (cli_leader_admin(cluster, &ask, &json, NULL, NULL) != 0) {
        return -1;
    }
    nodes = json_object_get(json, "nodes");
    json_array_foreach(nodes, i, node)
    {
        const char *state = json_string_value(json_object_get(node, "state"));

        up += state && strcmp(state, "up") == 0;
    }
    json_decref(json);
    return up;
}

static int node_ended(const struct dev *dev, uint32_t node)
{
    char log[PATH_BYTES];
    int status;

    (void)snprintf(log, sizeof(log), "%s/n%u.log", dev->dir, node);
    status = cli_fail("node %u ended; the end of %s:", node, log);
    show_log_tail(log);
    return status;
}

static int wait_up(struct dev *dev)
{
    struct cli_cluster cluster;
    uint32_t want = dev->config->node_count;
    int up = -1;
    int status = cli_cluster_open(&cluster, dev->config);

    dev->config = NULL;
    if (status != CLI_DONE) {
        return status;
    }
    for (int i = 0; i < UP_SECONDS * 10 && up != (int)want; i++) {
        up = count_up(&cluster);
        if (up != (int)want) {
            for (uint32_t n = 1; n <= want; n++) {
                if (!node_pid(dev, cluster.config->nodes[n - 1].id.v)) {
                    cli_cluster_close(&cluster);
                    return node_ended(dev, n);
                }
            }
            sleep_ms(100);
        }
    }
    cli_cluster_close(&cluster);
    if (up != (int)want) {
        return cli_fail("%d of %u nodes are up after %d s; look at %s/n*.log", up < 0 ? 0 : up,
                        want, UP_SECONDS, dev->dir);
    }
    (void)fprintf(stderr, "%u nodes are up\n", want);
    return CLI_DONE;
}

int cmd_dev_up(const struct cli_args *args)
{
    char path[PATH_BYTES];
    struct dev dev;
    int status = dev_dir(args, &dev, true);

    if (status != CLI_DONE) {
        return status;
    }
    (void)snprintf(path, sizeof(path), "%s/cluster.conf", dev.dir);
    if (access(path, F_OK) != 0) {
        status = write_config(args, &dev);
    } else if (cli_option(args, "nodes") || cli_option(args, "loopback") ||
               cli_option(args, "port") || cli_option(args, "metadata")) {
        (void)fprintf(stderr,
                      "%s is kept as it is; --nodes, --metadata, --loopback and --port count "
                      "for a new one\n",
                      path);
    }
    if (status == CLI_DONE) {
        status = dev_load(args, &dev);
    }
    for (uint32_t i = 0; status == CLI_DONE && i < dev.config->node_count; i++) {
        status = start_node(&dev, dev.config->nodes[i].id.v);
    }
    if (status == CLI_DONE) {
        status = wait_up(&dev);
    }
    if (status == CLI_DONE) {
        (void)printf("%s\n", path);
    }
    free(dev.config);
    return status;
}

int cmd_dev_down(const struct cli_args *args)
{
    struct dev dev;
    int status = dev_load(args, &dev);
    bool left = status == CLI_DONE;

    /* Stores first, so that they can tell the metadata node whatever is under way. */
    for (uint32_t i = dev.config ? dev.config->node_count : 0; i-- > 0;) {
        pid_t pid = node_pid(&dev, dev.config->nodes[i].id.v);

        if (pid) {
            (void)kill(pid, SIGCONT);
            (void)kill(pid, SIGTERM);
        }
    }
    for (int tick = 0; left && tick < DOWN_SECONDS * 20; tick++) {
        left = false;
        for (uint32_t i = 0; i < dev.config->node_count; i++) {
            left = left || node_pid(&dev, dev.config->nodes[i].id.v);
        }
        if (left) {
            sleep_ms(50);
        }
    }
    for (uint32_t i = 0; status != CLI_FAILED && dev.config && i < dev.config->node_count; i++) {
        unsigned id = dev.config->nodes[i].id.v;
        pid_t pid = node_pid(&dev, id);
        char path[PATH_BYTES];

        if (pid) {
            status = cli_fail("node %u, pid %d, does not stop; 'holdfast dev kill %u --dir %s'", id,
                              (int)pid, id, dev.dir);
        } else {
            (void)snprintf(path, sizeof(path), "%s/n%u.pid", dev.dir, id);
            (void)unlink(path);
        }
    }
    free(dev.config);
    return status;
}

static char process_state(pid_t pid)
{
    char path[64], state = '?';
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) {
            state = '?';
        }
        (void)fclose(f);
    }
    return state;
}

int cmd_dev_status(const struct cli_args *args)
{
    struct dev dev;
    json_t *list;
    int status = dev_load(args, &dev);
    bool all = true;

    if (status != CLI_DONE) {
        return status;
    }
    list = json_array();
    for (uint32_t i = 0; i < dev.config->node_count; i++) {
        const struct hf_config_node *n = &dev.config->nodes[i];
        pid_t pid = node_pid(&dev, n->id.v);
        const char *state = !pid ? "dead" : process_state(pid) == 'T' ? "stopped" : "running";
        json_t *o = json_pack("{s:i, s:s, s:s, s:i}", "node", (int)n->id.v, "address", n->address,
                              "state", state, "pid", (int)pid);

        all = all && strcmp(state, "running") == 0;
        if (!cli_flag(args, "json")) {
            (void)printf("node %u  %-21s %-8s", n->id.v, n->address, state);
            if (pid) {
                (void)printf(" pid %d", (int)pid);
            }
            (void)putchar('\n');
        }
        (void)json_array_append_new(list, o);
    }
    if (cli_flag(args, "json")) {
        cli_print_json(list);
    }
    json_decref(list);
    free(dev.config);
    return all ? CLI_DONE : CLI_FAILED;
}

static int node_argument(const struct cli_args *args, const struct dev *dev, unsigned *ret)
{
    char *end;
    unsigned long id = strtoul(args->rest[0], &end, 10);

    if (*end || end == args->rest[0] || id > HF_NODES_MAX ||
        !hf_config_node(dev->config, (struct hf_node_id){(uint16_t)id})) {
        return cli_misuse(args, "'%s' is not a node of %s/cluster.conf", args->rest[0], dev->dir);
    }
    *ret = (unsigned)id;
    return CLI_DONE;
}

int cmd_dev_signal(const struct cli_args *args)
{
    const char *verb = args->command->name + strlen("dev ");
    int signum = strcmp(verb, "kill") == 0   ? SIGKILL
                 : strcmp(verb, "stop") == 0 ? SIGSTOP
                                             : SIGCONT;
    struct dev dev;
    unsigned id = 0;
    pid_t pid;
    int status = dev_load(args, &dev);

    if (status != CLI_DONE) {
        return status;
    }
    status = node_argument(args, &dev, &id);
    pid = status == CLI_DONE ? node_pid(&dev, id) : 0;
    if (status == CLI_DONE && !pid) {
        status = cli_fail("node %u does not run; 'holdfast dev start %u --dir %s' starts it", id,
                          id, dev.dir);
    } else if (status == CLI_DONE && kill(pid, signum) != 0) {
        status = cli_fail("node %u, pid %d: %s", id, (int)pid, strerror(errno));
    }
    for (int i = 0; status == CLI_DONE && signum == SIGKILL && i < 500 && node_pid(&dev, id); i++) {
        sleep_ms(10);
    }
    free(dev.config);
    return status;
}

int cmd_dev_start(const struct cli_args *args)
{
    struct dev dev;
    unsigned id = 0;
    int status = dev_load(args, &dev);

    if (status != CLI_DONE) {
        return status;
    }
    status = node_argument(args, &dev, &id);
    if (status == CLI_DONE) {
        status = start_node(&dev, id);
    }
    free(dev.config);
    return status;
}

int cmd_config_check(const struct cli_args *args)
{
    struct hf_config *config = calloc(1, sizeof(*config));
    char *error = NULL;
    int status = CLI_DONE;

    if (!config) {
        return cli_fail("out of memory");
    }
    if (hf_config_load(args->rest[0], config, &error) != 0) {
        status = cli_fail("%s", error ? error : "out of memory");
        free(error);
    } else {
        hf_config_print(config, stdout);
    }
    free(config);
    return status;
}
