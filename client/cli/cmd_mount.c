/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_mount.c - mount, umount, dirty, flush, set: mounts of this machine.
 *
 *     holdfast mount ──fork──► the mount's process ──► hf_mount_run
 *          ▲ waits                   │ ready, or why not
 *          └──────── pipe ◄──────────┘
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/fuse/mount.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/env/notify.h"

#define LOG_DIR          "/var/log/holdfast"
#define SOCKET_TIMEOUT   (5 * HF_NS_PER_SEC)
#define FLUSH_TIMEOUT    (3600 * HF_NS_PER_SEC)
#define UMOUNT_TRIES_MAX 50

/* --- mount --- */

struct mount_plan {
    struct hf_config *config;
    struct hf_mount_options options;
    const char *addrs[HF_NODES_MAX];
    char mountpoint[4096];
    int cpu;
    int ready_fd;    /* -1: none */
    bool anon_given; /* -o anonuid or anongid */
};

static int size_option(const char *key, const char *value, uint64_t min, uint64_t *ret)
{
    if (!value || hf_parse_size(value, ret) != 0 || *ret < min) {
        char a[32];

        (void)cli_fail("-o %s=%s: a size of at least %s, like 128MiB", key, value ? value : "",
                       hf_format_size(min, a));
        return CLI_MISUSED;
    }
    return CLI_DONE;
}

static int time_option(const char *key, const char *value, uint64_t *ret)
{
    if (!value || hf_parse_duration(value, ret) != 0 || *ret == 0) {
        (void)cli_fail("-o %s=%s: a time like 500ms or 5s", key, value ? value : "");
        return CLI_MISUSED;
    }
    return CLI_DONE;
}

static int id_option(const char *key, const char *value, uint32_t *ret)
{
    char *end = NULL;
    unsigned long long v =
        value && value[0] >= '0' && value[0] <= '9' ? strtoull(value, &end, 10) : 0;

    if (v < 1 || v > HF_CONFIG_ID_MAX || *end) {
        (void)cli_fail("-o %s=%s: a number from 1 to %llu, like %d (nobody); 0 would be root again",
                       key, value ? value : "", (unsigned long long)HF_CONFIG_ID_MAX,
                       HF_CONFIG_ANON_ID);
        return CLI_MISUSED;
    }
    *ret = (uint32_t)v;
    return CLI_DONE;
}

static int cpu_option(struct mount_plan *plan, const char *value)
{
    char *end = NULL;

    plan->cpu = value ? (int)strtol(value, &end, 10) : -1;
    if (!value || *end || plan->cpu < 0) {
        (void)cli_fail("-o cpu=%s: the number of a CPU", value ? value : "");
        return CLI_MISUSED;
    }
    return CLI_DONE;
}

static int one_option(struct mount_plan *plan, const char *key, const char *value)
{
    static const char *const ignored[] = {
        "rw",         "defaults", "auto",     "noauto",     "user",       "nouser",
        "users",      "_netdev",  "nofail",   "async",      "dirsync",    "noatime",
        "nodiratime", "relatime", "lazytime", "nolazytime", "norelatime", "nostrictatime"};
    struct hf_mount_options *o = &plan->options;

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        if (strcmp(key, ignored[i]) == 0) {
            return CLI_DONE;
        }
    }
    if (strcmp(key, "default_permissions") == 0 || strncmp(key, "x-", 2) == 0 ||
        strncmp(key, "comment", 7) == 0) {
        return CLI_DONE;
    }
    if (strcmp(key, "ro") == 0) {
        o->read_only = true;
    } else if (strcmp(key, "allow_other") == 0 || strcmp(key, "noallow_other") == 0) {
        o->allow_other = key[0] == 'a';
    } else if (strcmp(key, "suid") == 0 || strcmp(key, "nosuid") == 0) {
        o->suid = key[0] == 's';
    } else if (strcmp(key, "dev") == 0 || strcmp(key, "nodev") == 0) {
        o->dev = key[0] == 'd';
    } else if (strcmp(key, "exec") == 0 || strcmp(key, "noexec") == 0) {
        o->noexec = key[0] == 'n';
    } else if (strcmp(key, "root_squash") == 0 || strcmp(key, "no_root_squash") == 0) {
        o->root_squash = key[0] == 'r';
    } else if (strcmp(key, "anonuid") == 0 || strcmp(key, "anongid") == 0) {
        plan->anon_given = true;
        return id_option(key, value, key[4] == 'u' ? &o->anon_uid : &o->anon_gid);
    } else if (strcmp(key, "dirty_max") == 0) {
        return size_option(key, value, 16u << 20, &o->dirty_max_bytes);
    } else if (strcmp(key, "dirty_target") == 0) {
        return size_option(key, value, 1u << 20, &o->dirty_target_bytes);
    } else if (strcmp(key, "cache") == 0) {
        return size_option(key, value, 4u << 20, &o->cache_bytes);
    } else if (strcmp(key, "readahead") == 0) {
        return size_option(key, value, 0, &o->readahead_bytes);
    } else if (strcmp(key, "dirty_max_age") == 0) {
        return time_option(key, value, &o->dirty_max_age_ns);
    } else if (strcmp(key, "op_timeout") == 0) {
        return time_option(key, value, &o->op_timeout_ns);
    } else if (strcmp(key, "cpu") == 0) {
        return cpu_option(plan, value);
    } else {
        (void)cli_fail("-o %s: not an option ('holdfast mount --help' lists them)", key);
        return CLI_MISUSED;
    }
    return CLI_DONE;
}

static int parse_options(struct mount_plan *plan, const char *text)
{
    char *copy = strdup(text ? text : "");
    char *save = NULL;
    int status = CLI_DONE;

    if (!copy) {
        return cli_fail("out of memory");
    }
    for (char *word = strtok_r(copy, ",", &save); word && status == CLI_DONE;
         word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');

        if (value) {
            *value++ = '\0';
        }
        status = one_option(plan, word, value);
    }
    free(copy);
    if (status == CLI_DONE && plan->anon_given && !plan->options.root_squash) {
        (void)cli_fail("-o anonuid and anongid say whom root acts as: add root_squash, or leave "
                       "them out");
        status = CLI_MISUSED;
    }
    return status;
}

static int make_plan(const struct cli_args *args, struct mount_plan *plan)
{
    struct hf_config *c;
    const struct hf_config_node *nodes[HF_NODES_MAX];
    struct stat st;
    int status;

    memset(plan, 0, sizeof(*plan));
    plan->ready_fd = -1;
    plan->cpu = -1;
    status = cli_config_load(args, NULL, &plan->config);
    if (status != CLI_DONE) {
        return status;
    }
    c = plan->config;
    if (stat(args->rest[0], &st) != 0 || !realpath(args->rest[0], plan->mountpoint)) {
        return cli_fail("%s: %s%s", args->rest[0], strerror(errno),
                        errno == ENOTCONN ? "; a mount died here: 'umount' it first" : "");
    }
    if (!S_ISDIR(st.st_mode)) {
        return cli_fail("%s is not a directory", args->rest[0]);
    }
    hf_mount_defaults(&plan->options);
    plan->options.addr_count = hf_config_meta_nodes(c, nodes);
    for (uint32_t i = 0; i < plan->options.addr_count; i++) {
        plan->addrs[i] = nodes[i]->address;
    }
    plan->options.addrs = plan->addrs;
    plan->options.cluster = c->cluster;
    plan->options.mountpoint = plan->mountpoint;
    plan->options.fsname = c->path;
    plan->options.dirty_max_bytes = c->client.dirty_max_bytes;
    plan->options.dirty_target_bytes = c->client.dirty_target_bytes;
    plan->options.dirty_max_age_ns = c->client.dirty_max_age_ns;
    plan->options.flush_streams = c->client.flush_streams;
    plan->options.cache_bytes = c->client.cache_bytes;
    plan->options.readahead_bytes = c->client.readahead_bytes;
    plan->options.op_timeout_ns = c->client.op_timeout_ns;
    plan->options.open_timeout_ns = c->client.open_timeout_ns;
    plan->options.root_squash = c->client.root_squash;
    plan->options.anon_uid = c->client.anon_uid;
    plan->options.anon_gid = c->client.anon_gid;
    status = parse_options(plan, cli_option(args, "o"));
    if (plan->options.dirty_target_bytes > plan->options.dirty_max_bytes) {
        plan->options.dirty_target_bytes = plan->options.dirty_max_bytes / 2;
    }
    return status;
}

/* One byte of outcome, then the sentence. */
static void on_ready(void *ctx, int err, const char *message)
{
    struct mount_plan *plan = ctx;
    char line[1024];
    int n;

    if (plan->ready_fd < 0) {
        if (err) {
            (void)cli_fail("%s", message ? message : hf_err_text(err));
        }
        return;
    }
    n = snprintf(line, sizeof(line), "%c%s", err ? 'E' : 'K',
                 err ? message ? message : hf_err_text(err) : "");
    if (write(plan->ready_fd, line, (size_t)(n < (int)sizeof(line) ? n : (int)sizeof(line) - 1)) <
        0) {
        (void)cli_fail("%s", line + 1);
    }
    (void)close(plan->ready_fd);
    plan->ready_fd = -1;
}

static int serve(struct mount_plan *plan)
{
    const struct hf_env_real_options options = {.cpu = plan->cpu};
    struct hf_env *env;
    int err = hf_env_real_new(&options, &env);

    if (err) {
        on_ready(plan, err, "cannot start");
        return CLI_FAILED;
    }
    hf_log_set_level(plan->config->log_level);
    plan->options.ready = on_ready;
    plan->options.ctx = plan;
    err = hf_mount_run(env, &plan->options);
    hf_env_real_free(env);
    return err ? CLI_FAILED : CLI_DONE;
}

static int open_log(const struct cli_args *args, const struct mount_plan *plan)
{
    const char *given = cli_option(args, "log");
    char path[4400];
    char name[4096];
    int fd;

    if (given) {
        (void)snprintf(path, sizeof(path), "%s", given);
    } else {
        (void)snprintf(name, sizeof(name), "%s", plan->mountpoint + 1);
        for (char *p = name; *p; p++) {
            *p = *p == '/' ? '-' : *p;
        }
        (void)mkdir(LOG_DIR, 0755);
        (void)snprintf(path, sizeof(path), LOG_DIR "/mount-%.200s.log", name);
    }
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 && given) {
        (void)cli_fail("%s: %s", path, strerror(errno));
    }
    return fd < 0 && !given ? open("/dev/null", O_WRONLY | O_CLOEXEC) : fd;
}

static int wait_ready(int fd, pid_t pid)
{
    char line[1024];
    size_t got = 0;
    ssize_t n;

    while ((n = read(fd, line + got, sizeof(line) - 1 - got)) > 0) {
        got += (size_t)n;
    }
    line[got] = '\0';
    (void)close(fd);
    if (got && line[0] == 'K') {
        return CLI_DONE;
    }
    (void)waitpid(pid, NULL, 0);
    return cli_fail("not mounted: %s", got ? line + 1 : "the mount's process ended");
}

int cmd_mount(const struct cli_args *args)
{
    struct mount_plan plan;
    int fds[2] = {-1, -1};
    int log_fd, status = make_plan(args, &plan);
    pid_t pid;

    if (status == CLI_DONE && cli_flag(args, "foreground")) {
        status = serve(&plan);
    } else if (status == CLI_DONE) {
        log_fd = open_log(args, &plan);
        if (log_fd < 0 || pipe2(fds, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
            free(plan.config);
            return cli_fail("cannot start the mount's process: %s", strerror(errno));
        }
        if (pid == 0) {
            int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

            hf_notify_detach(); /* ready is what the parent's exit says; this one outlives it */
            (void)setsid();
            (void)dup2(null, STDIN_FILENO);
            (void)dup2(log_fd, STDOUT_FILENO);
            (void)dup2(log_fd, STDERR_FILENO);
            (void)close(fds[0]);
            plan.ready_fd = fds[1];
            (void)chdir("/");
            _exit(serve(&plan));
        }
        (void)close(fds[1]);
        (void)close(log_fd);
        status = wait_ready(fds[0], pid);
    }
    free(plan.config);
    return status;
}

/* --- talking to a mount's socket --- */

/* A cluster handle without a configuration: mounts of this machine need none. */
static int open_local(struct cli_cluster *cluster)
{
    struct hf_config *config = calloc(1, sizeof(*config));

    return config ? cli_cluster_open(cluster, config) : cli_fail("out of memory");
}

static int ask_mount(const struct cli_file *file, const char *command, const char *const *words,
                     uint32_t word_count, uint64_t timeout_ns, json_t **ret)
{
    struct cli_cluster cluster;
    int status = open_local(&cluster);
    int err;

    if (status != CLI_DONE) {
        return status;
    }
    err = cli_admin(&cluster, file->socket, command, words, word_count, timeout_ns, ret);
    cli_cluster_close(&cluster);
    if (err) {
        return cli_fail("the mount at %s: %s (asked through %s)", file->top, hf_err_text(err),
                        file->socket);
    }
    return CLI_DONE;
}

/* --- umount --- */

static int find_top(const char *path, struct cli_file *file)
{
    char real[4096];
    int status;

    if (cli_mount_find(path, file)) { /* also when it is lost and answers nothing but EIO */
        return CLI_DONE;
    }
    status = cli_file_find(path, file);
    if (status != CLI_DONE) {
        return status;
    }
    if (!realpath(path, real) || strcmp(real, file->top) != 0) {
        return cli_fail("%s is not a mount point; its mount is at %s", path, file->top);
    }
    return CLI_DONE;
}

/* Wait for the process that serves the mount: its end means that everything is durable. */
static int wait_end(int pid_fd, const struct cli_file *file)
{
    struct pollfd p = {.fd = pid_fd, .events = POLLIN};
    bool tty = isatty(STDERR_FILENO) != 0;
    int seconds = 0;

    while (poll(&p, 1, 1000) == 0) {
        seconds++;
        if (tty) {
            (void)fprintf(stderr, "\rwriting back what is dirty, %d s", seconds);
        }
    }
    if (tty && seconds) {
        (void)fputc('\n', stderr);
    }
    (void)close(pid_fd);
    (void)file;
    return CLI_DONE;
}

int cmd_umount(const struct cli_args *args)
{
    const char *flush_words[] = {"0", "wait"};
    bool lazy = cli_flag(args, "lazy");
    struct cli_file file;
    json_t *info = NULL, *flushed = NULL;
    int pid_fd = -1;
    int status = find_top(args->rest[0], &file);

    if (status != CLI_DONE) {
        return status;
    }
    if (ask_mount(&file, "info", NULL, 0, SOCKET_TIMEOUT, &info) == CLI_DONE) {
        pid_fd = (int)syscall(SYS_pidfd_open,
                              (pid_t)json_integer_value(json_object_get(info, "pid")), 0);
        /* Of a lost session nothing can be flushed any more; what was dirty is reported as lost. */
        if (!lazy && json_is_true(json_object_get(info, "live"))) {
            status = ask_mount(&file, "flush", flush_words, 2, FLUSH_TIMEOUT, &flushed);
            json_decref(flushed);
        }
        json_decref(info);
    }
    if (status == CLI_DONE && umount2(file.top, lazy ? MNT_DETACH : 0) != 0) {
        status = errno == EBUSY
                     ? cli_fail("%s is in use; end what uses it ('fuser -vm %s' lists it), or "
                                "detach it with --lazy",
                                file.top, file.top)
                     : cli_fail("%s: %s", file.top, strerror(errno));
    }
    if (status == CLI_DONE && pid_fd >= 0 && !lazy) {
        return wait_end(pid_fd, &file);
    }
    if (pid_fd >= 0) {
        (void)close(pid_fd);
    }
    return status;
}

/* --- dirty, flush, set --- */

static void print_dirty(const char *top, const json_t *json)
{
    const json_t *list = json_object_get(json, "files");
    const json_t *o;
    char a[32];
    size_t i;

    (void)printf("%s: %s dirty, oldest %" PRId64 " ms\n", top,
                 cli_size((uint64_t)json_integer_value(json_object_get(json, "dirty_bytes")), a),
                 (int64_t)json_integer_value(json_object_get(json, "oldest_ms")));
    json_array_foreach(list, i, o)
    {
        (void)printf("  inode %-12" PRId64 " %10s %8" PRId64 " ms\n",
                     (int64_t)json_integer_value(json_object_get(o, "ino")),
                     cli_size((uint64_t)json_integer_value(json_object_get(o, "bytes")), a),
                     (int64_t)json_integer_value(json_object_get(o, "age_ms")));
    }
}

static int show_dirty(const struct cli_args *args, const char *path, bool one_file)
{
    struct cli_file file;
    json_t *json = NULL;
    char ino[24];
    const char *words[] = {ino};
    int status = cli_file_find(path, &file);

    if (status != CLI_DONE) {
        return status;
    }
    (void)snprintf(ino, sizeof(ino), "%" PRIu64, file.ino);
    status =
        ask_mount(&file, "dirty", words, one_file && !file.is_dir ? 1 : 0, SOCKET_TIMEOUT, &json);
    if (status == CLI_DONE && cli_flag(args, "json")) {
        cli_print_json(json);
    } else if (status == CLI_DONE) {
        print_dirty(file.top, json);
    }
    json_decref(json);
    return status;
}

int cmd_dirty(const struct cli_args *args)
{
    FILE *f;
    char *line = NULL;
    size_t cap = 0;
    int status = CLI_DONE, one;

    if (args->rest_count) {
        return show_dirty(args, args->rest[0], true);
    }
    f = fopen("/proc/self/mounts", "re");
    while (f && getline(&line, &cap, f) > 0) {
        char top[4096], type[64];

        if (sscanf(line, "%*s %4095s %63s", top, type) == 2 && strcmp(type, "fuse.holdfast") == 0) {
            one = show_dirty(args, top, false);
            status = one == CLI_DONE ? status : one;
        }
    }
    free(line);
    if (f) {
        (void)fclose(f);
    }
    return status;
}

int cmd_flush(const struct cli_args *args)
{
    bool wait = cli_flag(args, "wait");
    struct cli_file file;
    json_t *json = NULL;
    char ino[24];
    const char *words[] = {ino, wait ? "wait" : "nowait"};
    int status = cli_file_find(args->rest[0], &file);

    if (status != CLI_DONE) {
        return status;
    }
    if (file.is_dir && !file.is_top) {
        return cli_fail("%s is a directory; flush a file, or the whole mount with %s",
                        args->rest[0], file.top);
    }
    (void)snprintf(ino, sizeof(ino), "%" PRIu64, file.is_top ? 0 : file.ino);
    status = ask_mount(&file, "flush", words, 2, wait ? FLUSH_TIMEOUT : SOCKET_TIMEOUT, &json);
    json_decref(json);
    return status;
}

int cmd_set(const struct cli_args *args)
{
    const char *equals = strchr(args->rest[1], '=');
    struct cli_file file;
    json_t *json = NULL;
    char key[64], value[32];
    const char *words[] = {key, value};
    uint64_t v = 0;
    bool age;
    int status;

    if (!equals || equals - args->rest[1] >= (ptrdiff_t)sizeof(key)) {
        return cli_misuse(args, "'%s' is not KEY=VALUE", args->rest[1]);
    }
    (void)snprintf(key, sizeof(key), "%.*s", (int)(equals - args->rest[1]), args->rest[1]);
    age = strcmp(key, "dirty_max_age") == 0;
    if (!age && strcmp(key, "dirty_max") != 0 && strcmp(key, "dirty_target") != 0) {
        return cli_misuse(args, "'%s' cannot be set; dirty_max, dirty_target and dirty_max_age can",
                          key);
    }
    if (age ? hf_parse_duration(equals + 1, &v) : hf_parse_size(equals + 1, &v)) {
        return cli_misuse(args, "'%s' is not a %s", equals + 1, age ? "time" : "size");
    }
    (void)snprintf(value, sizeof(value), "%" PRIu64, age ? v / HF_NS_PER_MS : v);
    status = cli_file_find(args->rest[0], &file);
    if (status == CLI_DONE) {
        status = ask_mount(&file, "set", words, 2, SOCKET_TIMEOUT, &json);
    }
    json_decref(json);
    return status;
}
