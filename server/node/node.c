/* SPDX-License-Identifier: Apache-2.0 */
#include "server/node/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/log/log.h"
#include "common/wire/method.h"
#include "server/node/node_impl.h"

#define FILES_OF_OTHERS 2048u /* connections, the metadata log, indexes, files read directly */
#define POOL_KEEP_BYTES (64u << 20)
#define POOL_MAX_BYTES  (160u << 20)
#define LEAVE_NS        HF_NS_PER_SEC /* for another node to take the lead */
#define LEAVE_POLL_NS   (5 * HF_NS_PER_MS)

static char *sentence(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *sentence(const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    return text;
}

void node_set_map(struct hf_node *node, struct hf_map *map)
{
    if (node->map.group_count != 0 && map->epoch.v <= node->map.epoch.v) {
        hf_map_fini(map);
        return;
    }
    hf_map_fini(&node->map);
    node->map = *map;
}

/* The configuration first: it is this machine's own view. */
const char *node_addr(struct hf_node *node, struct hf_node_id id)
{
    const struct hf_map_node *known = hf_map_node(&node->map, id);
    const struct hf_config_node *configured = hf_config_node(node->config, id);

    return configured ? configured->address : known ? known->addr : NULL;
}

struct hf_node_id node_leader(const struct hf_node *node)
{
    struct hf_node_id leader = {0};

    if (node->log) {
        leader = hf_raft_driver_leader(hf_meta_log_driver(node->log));
    }
    return leader.v ? leader : node->leader;
}

bool node_may_lead(const struct hf_node *node, struct hf_node_id id)
{
    return hf_config_node(node->config, id) || hf_map_node(&node->map, id);
}

struct hf_rpc_peer *node_peer(struct hf_node *node, struct hf_node_id id)
{
    const char *addr = node_addr(node, id);
    struct hf_rpc_peer_options options = {
        .addr = addr,
        .self = node->identity,
        .expect_cluster = node->config->cluster,
        .pool = node->pool,
    };

    if (id.v > HF_NODES_MAX || !addr) {
        return NULL;
    }
    if (!node->peers[id.v] && hf_rpc_peer_new(node->env, &options, &node->peers[id.v]) != 0) {
        node->peers[id.v] = NULL;
    }
    return node->peers[id.v];
}

static void map_told(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_map map;
    int err = node_may_lead(node, req->peer->node) ? 0 : -EPERM;

    if (!err) {
        err = hf_msg_map_decode(req->msg, req->msg_len, &map);
    }
    if (!err) {
        node_set_map(node, &map);
    }
    hf_rpc_reply(req, err, NULL, 0, NULL);
}

static void on_request(void *ctx, struct hf_rpc_request *req)
{
    struct hf_node *node = ctx;

    if (node->stopping && req->method >= HF_M_META_OP && req->method < HF_M_RAFT &&
        node->meta_node_count > 1) {
        meta_service_not_leader(node, req); /* another one leads, or will */
    } else if (node->stopping) {
        hf_rpc_reply(req, -HF_ENOTREADY, NULL, 0, NULL);
    } else if (req->method == HF_M_COPY) {
        copy_service_request(node, req);
    } else if (req->method == HF_M_NODE_MAP) {
        map_told(node, req);
    } else if (req->method == HF_M_RAFT || req->method == HF_M_RAFT_FOUND) {
        raft_net_request(node, req);
    } else if (req->method >= HF_M_ADMIN) {
        admin_service_request(node, req);
    } else if (req->method >= HF_M_META_OP) {
        meta_service_request(node, req);
    } else {
        store_service_request(node, req);
    }
}

static void on_closed(void *ctx, struct hf_rpc_conn *conn)
{
    store_service_closed(ctx, conn);
}

/* Of the files that may be open, what the store may use for segments. */
static uint32_t segments_max(uint32_t files_max)
{
    return files_max / 2 > FILES_OF_OTHERS ? files_max - FILES_OF_OTHERS : files_max / 2;
}

static int start_store(struct hf_node *node, char **ret_error)
{
    char dir[4200];
    struct hf_store_options options = {
        .dir = dir,
        .cluster = node->config->cluster,
        .node = node->self->id,
        .pool = node->pool,
        .segment_bytes = node->self->segment_bytes,
        .reserve_put_bytes = node->self->reserve_bytes,
        .capacity_bytes = node->self->capacity_bytes,
        .segments_max = segments_max(node->options.files_max),
        .on_bad_object = heartbeat_bad_object,
        .ctx = node,
    };

    (void)snprintf(dir, sizeof(dir), "%s/store", node->self->data);
    if (node->options.open_index) {
        int err = node->options.open_index(node->options.ctx, &options.index_base);

        if (err) {
            return err;
        }
    }
    return hf_store_open(node->env, &options, &node->store, ret_error);
}

static int open_replica(struct hf_node *node, const char *dir, char **ret_error)
{
    struct hf_leader_node nodes[HF_NODES_MAX];
    struct hf_replica_options options = {
        .dir = dir,
        .cluster = node->config->cluster,
        .base = node->options.meta.open ? &node->options.meta : NULL,
        .nodes = nodes,
        .node_count = node->config->node_count,
        .copies = node->config->copies,
        .min_copies = node->config->min_copies,
        .groups = node->config->groups,
        .alone = node->meta_node_count == 1,
        .session_ttl_ns = node->config->session_ttl_ns,
        .node_timeout_ns = node->config->node_timeout_ns,
        .merge_delay_ns = node->options.merge_delay_ns,
    };

    for (uint32_t i = 0; i < node->config->node_count; i++) {
        const struct hf_config_node *n = &node->config->nodes[i];

        nodes[i] = (struct hf_leader_node){
            .id = n->id, .weight = n->weight, .addr = n->address, .domain = n->domain};
    }
    leader_stores_init(node, &options.stores);
    return hf_replica_open(node->env, &options, &node->replica, ret_error);
}

static int open_log(struct hf_node *node, const char *dir, char **ret_error)
{
    struct hf_node_id members[HF_RAFT_MEMBERS_MAX];
    struct hf_meta_log_options options = {
        .dir = dir,
        .cluster = node->config->cluster,
        .self = node->self->id,
        .members = members,
        .member_count = node->meta_node_count,
        .segment_bytes = node->options.log_segment_bytes,
        .keep_bytes = node->options.log_keep_bytes,
        .pool = node->pool,
    };
    struct hf_store_stats stats;

    hf_store_stats(node->store, &stats);
    options.must_join = node->was_member || stats.objects > 0;
    for (uint32_t i = 0; i < node->meta_node_count; i++) {
        members[i] = node->meta_nodes[i]->id;
    }
    if (!node->self->metadata) { /* made a metadata node by people, not by the configuration */
        members[options.member_count++] = node->self->id;
        options.must_join = true;
    }
    raft_net_init(node, &options.net);
    return hf_meta_log_open(node->env, node->replica, &options, &node->log, ret_error);
}

static int start_replica(struct hf_node *node, char **ret_error)
{
    char dir[4200];
    struct hf_map copy;
    int err;

    (void)snprintf(dir, sizeof(dir), "%s/meta", node->self->data);
    err = open_replica(node, dir, ret_error);
    err = err ? err : open_log(node, dir, ret_error);
    if (!err && hf_map_dup(hf_replica_map(node->replica), &copy) == 0) {
        node_set_map(node, &copy);
    }
    return err;
}

static int one_name(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return 1;
}

const char *node_member_path(const struct hf_node *node, char *buf, size_t size_bytes)
{
    (void)snprintf(buf, size_bytes, "%s/member", node->self->data);
    return buf;
}

static int load_member(struct hf_node *node)
{
    char path[4200];
    char *text = NULL;
    int err = hf_disk_slurp(hf_env_disk(node->env), node_member_path(node, path, sizeof(path)),
                            HF_UUID_STR_MAX + 1, &text, NULL);

    free(text);
    node->was_member = !err;
    return err == -ENOENT ? 0 : err;
}

/* It was made a metadata node once. */
static bool has_metadata(struct hf_node *node)
{
    char dir[4200];

    (void)snprintf(dir, sizeof(dir), "%s/meta/vote", node->self->data);
    return hf_disk_list(hf_env_disk(node->env), dir, one_name, NULL) == 1;
}

void node_become_metadata(struct hf_node *node)
{
    char *error = NULL;
    int err;

    if (node->join_failed) {
        return;
    }
    hf_log(HF_LOG_INFO, "node", "becomes a metadata node", "what=\"a leader addresses it\"");
    hf_env_starting_up(node->env, true);
    err = start_replica(node, &error);
    hf_env_starting_up(node->env, false);
    if (err) {
        node->join_failed = true; /* said once; a start tries again */
        hf_log(HF_LOG_ERROR, "node", "cannot hold metadata", "error=\"%s\"",
               error ? error : hf_err_text(err));
        hf_replica_abandon(node->replica);
        node->replica = NULL;
    } else {
        hf_meta_log_start(node->log);
    }
    free(error);
}

static int start_server(struct hf_node *node, char **ret_error)
{
    const struct hf_rpc_service service = {.request = on_request, .closed = on_closed, .ctx = node};
    struct hf_rpc_server_options options = {
        .addr = node->self->address, .self = node->identity, .pool = node->pool};
    int err = hf_rpc_server_new(node->env, &options, &service, &node->server);

    if (err == -EADDRINUSE) {
        *ret_error = sentence("%s: the port is in use; stop the process that has it, or give node "
                              "%u another address in %s",
                              node->self->address, node->self->id.v, node->config->path);
    } else if (err) {
        *ret_error =
            sentence("%s: cannot listen: %s; is the address one of this machine's? "
                     "(node %u in %s)",
                     node->self->address, hf_err_text(err), node->self->id.v, node->config->path);
    }
    return err;
}

static void node_free(struct hf_node *node)
{
    heartbeat_stop(node);
    hf_timer_fini(&node->stop_timer);
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        hf_rpc_peer_free(node->peers[i]);
    }
    raft_net_free(node);
    hf_meta_log_abandon(node->log);
    hf_replica_abandon(node->replica);
    hf_rpc_server_free(node->server);
    hf_store_close(node->store, NULL, NULL); /* after a failed start: it has no work yet */
    hf_map_fini(&node->map);
    hf_bufpool_free(node->pool);
    free(node);
}

int hf_node_start(struct hf_env *env, const struct hf_config *config, struct hf_node_id id,
                  const struct hf_node_options *options, struct hf_node **ret, char **ret_error)
{
    struct hf_node *node = calloc(1, sizeof(*node));
    int err;

    *ret_error = NULL;
    if (!node) {
        return -ENOMEM;
    }
    node->env = env;
    node->config = config;
    node->self = hf_config_node(config, id);
    node->options = options ? *options : (struct hf_node_options){0};
    HF_ASSERT(node->self != NULL);
    for (uint32_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].metadata) {
            node->meta_nodes[node->meta_node_count++] = &config->nodes[i];
        }
    }
    node->leader = node->meta_nodes[0]->id;
    TAILQ_INIT(&node->partials);
    node->identity.cluster = config->cluster;
    node->identity.node = id;
    (void)snprintf(node->identity.name, sizeof(node->identity.name), "node %u", id.v);
    if (!node->self->data[0]) {
        *ret_error = sentence("node %u has no data directory in %s; add data = \"/...\"", id.v,
                              config->path);
        free(node);
        return -EINVAL;
    }
    err = hf_bufpool_new(POOL_KEEP_BYTES, POOL_MAX_BYTES, &node->pool);
    /* The listener first: a taken port is found before the disk is touched. */
    if (!err) {
        err = start_server(node, ret_error);
    }
    if (!err) {
        err = start_store(node, ret_error);
    }
    if (!err) {
        err = load_member(node);
    }
    if (!err && (node->self->metadata || has_metadata(node))) {
        err = start_replica(node, ret_error);
    }
    if (err) {
        node_free(node);
        return err;
    }
    if (node->log) {
        hf_meta_log_start(node->log);
    }
    heartbeat_start(node);
    hf_log(HF_LOG_INFO, "node", "started", "node=%u address=%s data=%s metadata=%s", id.v,
           node->self->address, node->self->data, node->replica ? "yes" : "no");
    *ret = node;
    return 0;
}

/* Its background work holds buffers of the pool until it is closed. */
static void store_closed(void *ctx)
{
    struct hf_node *node = ctx;
    void (*stopped)(void *) = node->stopped;
    void *stopped_ctx = node->stopped_ctx;

    node->store = NULL;
    node_free(node);
    stopped(stopped_ctx);
}

/* Operations of the store still under way keep the node; they end by themselves. */
static void stop_wait(void *ctx)
{
    struct hf_node *node = ctx;

    if (node->inflight > 0) {
        hf_timer_arm(&node->stop_timer, 5 * HF_NS_PER_MS);
        return;
    }
    hf_rpc_server_free(node->server); /* and the objects of which not all frames have come */
    node->server = NULL;
    hf_store_close(node->store, store_closed, node);
}

static void free_peers(struct hf_node *node)
{
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        hf_rpc_peer_free(node->peers[i]);
        node->peers[i] = NULL;
    }
}

static void replica_closed(void *ctx)
{
    struct hf_node *node = ctx;

    node->replica = NULL;
    free_peers(node);
    hf_timer_init(&node->stop_timer, node->env, stop_wait, node);
    hf_timer_arm(&node->stop_timer, 1);
}

static void log_closed(void *ctx)
{
    struct hf_node *node = ctx;

    node->log = NULL;
    hf_replica_close(node->replica, replica_closed, node);
    free_peers(node); /* it waits for its calls to the stores: they end now */
}

static void stop_now(struct hf_node *node)
{
    node->stopping = true;
    heartbeat_stop(node);
    if (node->log) {
        hf_meta_log_close(node->log, log_closed, node);
        raft_net_free(node); /* questions and messages end now */
    } else {
        replica_closed(node);
    }
}

/* Leadership was offered to another; its time is bounded. */
static void leave_wait(void *ctx)
{
    struct hf_node *node = ctx;

    if (hf_replica_leads(node->replica) && hf_env_mono_ns(node->env) < node->leave_until_ns) {
        hf_timer_arm(&node->stop_timer, LEAVE_POLL_NS);
        return;
    }
    hf_timer_fini(&node->stop_timer);
    stop_now(node);
}

void hf_node_stop(struct hf_node *node, void (*done)(void *ctx), void *ctx)
{
    const char *error;

    node->stopped = done;
    node->stopped_ctx = ctx;
    if (node->log && hf_replica_leads(node->replica) &&
        hf_raft_driver_transfer(hf_meta_log_driver(node->log), (struct hf_node_id){0}, &error) ==
            0) {
        node->leave_until_ns = hf_env_mono_ns(node->env) + LEAVE_NS;
        hf_timer_init(&node->stop_timer, node->env, leave_wait, node);
        hf_timer_arm(&node->stop_timer, LEAVE_POLL_NS);
        return;
    }
    stop_now(node);
}
