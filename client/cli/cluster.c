/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/fuse/mountinfo.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define DEFAULT_CONFIG "/etc/holdfast/cluster.conf"
#define SOCKET_DIR     "/run/holdfast"
#define FS_TYPE        "fuse.holdfast"

/* @err  of the look for it. Is it one of ours? */
static bool is_mount(int err, const struct hf_mountinfo *at, struct cli_file *ret)
{
    if (err || strcmp(at->type, FS_TYPE) != 0) {
        return false;
    }
    ret->dev = makedev(at->major, at->minor);
    (void)snprintf(ret->top, sizeof(ret->top), "%s", at->top);
    (void)snprintf(ret->source, sizeof(ret->source), "%s", at->source);
    return true;
}

static void name_socket(struct cli_file *file)
{
    (void)snprintf(file->socket, sizeof(file->socket), "unix:" SOCKET_DIR "/mount-%u:%u.sock",
                   major(file->dev), minor(file->dev));
}

bool cli_mount_find(const char *path, struct cli_file *ret)
{
    char at[sizeof(ret->top)];
    char cwd[sizeof(ret->top)];
    struct hf_mountinfo mount;
    size_t len;

    memset(ret, 0, sizeof(*ret));
    if (path[0] == '/') {
        (void)snprintf(at, sizeof(at), "%s", path);
    } else if (!getcwd(cwd, sizeof(cwd)) ||
               snprintf(at, sizeof(at), "%s/%s", cwd, path) >= (int)sizeof(at)) {
        return false;
    }
    for (len = strlen(at); len > 1 && at[len - 1] == '/'; len--) {
        at[len - 1] = '\0';
    }
    ret->ino = HF_INO_ROOT;
    ret->is_dir = ret->is_top = true;
    if (!is_mount(hf_mountinfo_at(at, &mount), &mount, ret)) {
        return false;
    }
    name_socket(ret);
    return true;
}

int cli_file_find(const char *path, struct cli_file *ret)
{
    struct hf_mountinfo mount;
    struct stat st;
    int err;

    memset(ret, 0, sizeof(*ret));
    if (lstat(path, &st) != 0) {
        return cli_fail("%s: %s", path, strerror(errno));
    }
    ret->ino = st.st_ino;
    ret->dev = st.st_dev;
    ret->size_bytes = (uint64_t)st.st_size;
    ret->is_dir = S_ISDIR(st.st_mode);
    ret->is_top = st.st_ino == HF_INO_ROOT;
    err = hf_mountinfo_of(major(st.st_dev), minor(st.st_dev), &mount);
    if (!is_mount(err, &mount, ret)) {
        return cli_fail("%s is not in a Holdfast mount ('holdfast mount --help' tells how to "
                        "make one)",
                        path);
    }
    name_socket(ret);
    return CLI_DONE;
}

int cli_config_load(const struct cli_args *args, const struct cli_file *file,
                    struct hf_config **ret)
{
    const char *path = cli_option(args, "config");
    struct hf_config *config = calloc(1, sizeof(*config));
    char *error = NULL;

    if (!path && file) {
        path = file->source;
    }
    if (!path) {
        path = getenv("HOLDFAST_CONFIG");
    }
    if (!path) {
        path = DEFAULT_CONFIG;
    }
    if (!config) {
        return cli_fail("out of memory");
    }
    if (hf_config_load(path, config, &error) != 0) {
        int status = cli_fail("%s", error ? error : "out of memory");

        free(error);
        free(config);
        return status;
    }
    *ret = config;
    return CLI_DONE;
}

int cli_cluster_open(struct cli_cluster *cluster, struct hf_config *config)
{
    const struct hf_env_real_options options = {.cpu = -1};
    int err;

    memset(cluster, 0, sizeof(*cluster));
    cluster->config = config;
    err = hf_env_real_new(&options, &cluster->env);
    if (!err) {
        err = hf_bufpool_new(8u << 20, 0, &cluster->pool);
    }
    if (err) {
        cli_cluster_close(cluster);
        return cli_fail("cannot start: %s", hf_err_text(err));
    }
    return CLI_DONE;
}

void cli_cluster_close(struct cli_cluster *cluster)
{
    hf_io_free(cluster->io);
    hf_session_free(cluster->session);
    hf_env_real_free(cluster->env);
    hf_bufpool_free(cluster->pool);
    free(cluster->config);
    memset(cluster, 0, sizeof(*cluster));
}

struct opened {
    struct hf_env *env;
    int err;
};

static void on_opened(void *ctx, int err)
{
    struct opened *o = ctx;

    o->err = err;
    hf_env_real_stop(o->env);
}

int cli_cluster_connect(struct cli_cluster *cluster)
{
    const struct hf_config *config = cluster->config;
    const struct hf_config_node *nodes[HF_NODES_MAX];
    const char *addrs[HF_NODES_MAX];
    struct hf_session_options options = {
        .addrs = addrs,
        .cluster = config->cluster,
        .name = "holdfast command",
        .pool = cluster->pool,
        .open_timeout_ns = config->client.open_timeout_ns,
        .op_timeout_ns = config->client.op_timeout_ns,
        .read_only = true,
    };
    struct hf_io_options io_options = {
        .pool = cluster->pool, .cluster = config->cluster, .name = "holdfast command"};
    struct opened o = {.env = cluster->env, .err = -EIO};
    int err;

    options.addr_count = hf_config_meta_nodes(config, nodes);
    for (uint32_t i = 0; i < options.addr_count; i++) {
        addrs[i] = nodes[i]->address;
    }
    err = hf_session_new(cluster->env, &options, &cluster->session);
    if (!err) {
        hf_session_open(cluster->session, on_opened, &o);
        err = hf_env_real_run(cluster->env);
    }
    if (!err && o.err) {
        return cli_fail("the cluster does not answer: tried %s; is it running? (%s)",
                        hf_session_tried(cluster->session), config->path);
    }
    io_options.session = cluster->session;
    if (!err) {
        err = hf_io_new(cluster->env, &io_options, &cluster->io);
    }
    return err ? cli_fail("cannot start: %s", hf_err_text(err)) : CLI_DONE;
}

struct called {
    struct hf_rpc_call call;
    struct hf_env *env;
    bool over;
    int err;
    uint8_t *msg;
    size_t len;
    struct hf_buf *bulk;
};

static void on_called(struct hf_rpc_call *call, int err, const struct hf_rpc_reply *reply)
{
    struct called *c = call->ctx;

    c->over = true;
    c->err = err;
    if (reply->msg_len > 0 && reply->msg_len <= HF_RPC_MSG_MAX) {
        memcpy(c->msg, reply->msg, reply->msg_len);
        c->len = reply->msg_len;
    }
    if (reply->bulk) {
        c->bulk = hf_buf_ref(reply->bulk);
    }
    hf_env_real_stop(c->env);
}

int cli_call(struct cli_cluster *cluster, struct hf_rpc_peer *peer, uint16_t method,
             const void *msg, size_t msg_len, uint64_t timeout_ns, uint8_t ret_msg[HF_RPC_MSG_MAX],
             size_t *ret_len, struct hf_buf **ret_bulk)
{
    struct called c = {.env = cluster->env, .msg = ret_msg, .err = -EIO};

    c.call.method = method;
    c.call.msg = msg;
    c.call.msg_len = msg_len;
    c.call.timeout_ns = timeout_ns;
    c.call.done = on_called;
    c.call.ctx = &c;
    hf_rpc_call(peer, &c.call);
    while (!c.over) { /* another call's answer may have stopped the loop */
        if (hf_env_real_run(cluster->env) != 0) {
            return -EIO;
        }
    }
    if (ret_len) {
        *ret_len = c.len;
    }
    if (ret_bulk) {
        *ret_bulk = c.bulk;
    } else {
        hf_buf_unref(c.bulk);
    }
    return c.err;
}

int cli_peer_new(struct cli_cluster *cluster, const char *addr, struct hf_rpc_peer **ret)
{
    struct hf_rpc_peer_options options = {
        .addr = addr,
        .self = {.cluster = cluster->config->cluster, .name = "holdfast command"},
        .expect_cluster = cluster->config->cluster,
        .pool = cluster->pool,
    };

    return hf_rpc_peer_new(cluster->env, &options, ret);
}

/* "not the leader" comes with a message that may name who is. */
static void take_hint(const uint8_t *msg, size_t len, char ret_leader[HF_ADDR_BYTES_MAX])
{
    struct hf_meta_reply reply = {0};

    ret_leader[0] = '\0';
    if (len > 0 && hf_meta_reply_decode(msg, len, &reply) == 0) {
        (void)snprintf(ret_leader, HF_ADDR_BYTES_MAX, "%s", reply.leader);
    }
}

int cli_admin_hint(struct cli_cluster *cluster, const char *addr, const char *command,
                   const char *const *words, uint32_t word_count, uint64_t timeout_ns, json_t **ret,
                   char ret_leader[HF_ADDR_BYTES_MAX])
{
    struct hf_msg_admin m = {.command = command, .arg_count = word_count};
    struct hf_rpc_peer *peer = NULL;
    struct hf_buf *bulk = NULL;
    uint8_t *msg = malloc(HF_RPC_MSG_MAX);
    size_t len = 0;
    int err = msg ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < word_count; i++) {
        m.args[i] = words[i];
    }
    if (!err) {
        err = cli_peer_new(cluster, addr, &peer);
    }
    if (!err) {
        err = hf_msg_admin_encode(&m, msg, &len);
    }
    if (!err) {
        err = cli_call(cluster, peer, HF_M_ADMIN, msg, len, timeout_ns, msg, &len, &bulk);
        if (err == -HF_ENOTLEADER) {
            take_hint(msg, len, ret_leader);
        }
    }
    if (!err) {
        *ret = bulk ? json_loadb((const char *)bulk->data, bulk->len_bytes, 0, NULL) : NULL;
        err = *ret ? 0 : -EBADMSG;
    }
    hf_buf_unref(bulk);
    hf_rpc_peer_free(peer);
    free(msg);
    return err;
}

int cli_admin(struct cli_cluster *cluster, const char *addr, const char *command,
              const char *const *words, uint32_t word_count, uint64_t timeout_ns, json_t **ret)
{
    char leader[HF_ADDR_BYTES_MAX];

    return cli_admin_hint(cluster, addr, command, words, word_count, timeout_ns, ret, leader);
}

struct looked {
    struct hf_meta_call call;
    struct hf_env *env;
    struct hf_meta_reply *reply;
    void *bulk;
};

static void on_looked(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct looked *l = call->ctx;

    *l->reply = *reply;
    if (reply->bulk_len) {
        l->bulk = malloc(reply->bulk_len);
        if (l->bulk) {
            memcpy(l->bulk, reply->bulk, reply->bulk_len);
        } else {
            l->reply->err = -ENOMEM;
        }
    }
    l->reply->bulk = l->bulk;
    hf_env_real_stop(l->env);
}

int cli_read(struct cli_cluster *cluster, const struct hf_meta_read *rd,
             struct hf_meta_reply *ret_reply, void **ret_bulk)
{
    struct looked l = {.env = cluster->env, .reply = ret_reply};

    l.call.done = on_looked;
    l.call.ctx = &l;
    hf_session_read(cluster->session, rd, &l.call);
    if (hf_env_real_run(cluster->env) != 0) {
        return -EIO;
    }
    *ret_bulk = l.bulk;
    return ret_reply->err;
}

void cli_print_json(const json_t *json)
{
    (void)json_dumpf(json, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
}
