/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin_service.c - ADMIN: what a node tells people and tools, as JSON.
 *
 *     status            of the cluster on the metadata leader, of the node elsewhere
 *     sessions          open sessions
 *     fsck              recount the metadata
 *     compact           compact segments now
 *     meta-*            of the metadata nodes (admin_meta.c)
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/method.h"
#include "server/node/admin.h"

#define SESSIONS_MAX 256u

static const char *const state_names[] = {"ok", "full", "read-only"};

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *stats_json(const struct hf_msg_store_stats *s)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "state",
                              json_string(s->state < 3 ? state_names[s->state] : "unknown"));
    (void)json_object_set_new(o, "capacity_bytes", number(s->capacity_bytes));
    (void)json_object_set_new(o, "free_bytes", number(s->free_bytes));
    (void)json_object_set_new(o, "live_bytes", number(s->live_bytes));
    (void)json_object_set_new(o, "objects", number(s->objects));
    (void)json_object_set_new(o, "segments", number(s->segments));
    (void)json_object_set_new(o, "quarantined", number(s->quarantined));
    (void)json_object_set_new(o, "puts", number(s->puts));
    (void)json_object_set_new(o, "gets", number(s->gets));
    (void)json_object_set_new(o, "deletes", number(s->deletes));
    (void)json_object_set_new(o, "put_bytes", number(s->put_bytes));
    (void)json_object_set_new(o, "get_bytes", number(s->get_bytes));
    (void)json_object_set_new(o, "syncs", number(s->syncs));
    (void)json_object_set_new(o, "compacted_segments", number(s->compacted));
    (void)json_object_set_new(o, "recycled_segments", number(s->recycled));
    return o;
}

static json_t *nodes_json(struct hf_node *node)
{
    static const struct hf_leader_node_info none;
    struct hf_leader_node_info infos[HF_NODES_MAX];
    uint32_t count = hf_replica_nodes(node->replica, infos, HF_NODES_MAX);
    const struct hf_map *map = hf_replica_map(node->replica);
    uint64_t now = hf_env_mono_ns(node->env);
    json_t *list = json_array();
    struct hf_raft_driver_status log;

    hf_raft_driver_status(hf_meta_log_driver(node->log), &log);
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *n = &map->nodes[i];
        const struct hf_leader_node_info *info = &none;
        char uuid[HF_UUID_STR_MAX];
        json_t *o = json_object();

        for (uint32_t j = 0; j < count; j++) {
            if (infos[j].id.v == n->id.v) {
                info = &infos[j];
            }
        }
        (void)json_object_set_new(o, "id", number(n->id.v));
        (void)json_object_set_new(o, "address", json_string(n->addr));
        (void)json_object_set_new(o, "domain", json_string(n->domain));
        (void)json_object_set_new(o, "state", json_string(hf_map_node_state_name(n)));
        (void)json_object_set_new(o, "store", json_string(hf_uuid_str(&n->uuid, uuid)));
        (void)json_object_set_new(o, "metadata", json_boolean(admin_meta_member(&log, n->id)));
        (void)json_object_set_new(o, "lacking", number(info->lacking));
        if (info->heard) {
            (void)json_object_set_new(o, "heard_ms_ago",
                                      number((now - info->last_heard_ns) / HF_NS_PER_MS));
            (void)json_object_set_new(o, "stats", stats_json(&info->stats));
        }
        (void)json_array_append_new(list, o);
    }
    return list;
}

static json_t *sessions_json(struct hf_node *node)
{
    struct hf_leader_session_info *infos = calloc(SESSIONS_MAX, sizeof(*infos));
    uint32_t count = infos ? hf_replica_sessions(node->replica, infos, SESSIONS_MAX) : 0;
    json_t *list = json_array();

    for (uint32_t i = 0; i < count; i++) {
        json_t *o = json_object();

        (void)json_object_set_new(o, "id", number(infos[i].session.id.v));
        (void)json_object_set_new(o, "name", json_string(infos[i].session.name));
        (void)json_object_set_new(o, "idle_ms", number(infos[i].idle_ns / HF_NS_PER_MS));
        (void)json_object_set_new(o, "ttl_ms", number(infos[i].session.ttl_ns / HF_NS_PER_MS));
        (void)json_object_set_new(o, "last_stream", number(infos[i].session.last_stream));
        (void)json_object_set_new(o, "open_files", number(infos[i].open_files));
        (void)json_object_set_new(o, "budget_bytes", number(infos[i].budget_bytes));
        (void)json_array_append_new(list, o);
    }
    free(infos);
    return list;
}

static json_t *metadata_json(struct hf_node *node)
{
    struct hf_replica_status s;
    struct hf_raft_driver_status log;
    struct hf_meta_usage u;
    json_t *o = json_object();

    hf_replica_status(node->replica, &s);
    hf_raft_driver_status(hf_meta_log_driver(node->log), &log);
    hf_meta_usage(hf_replica_meta(node->replica), &u);
    (void)json_object_set_new(o, "leader", number(node->self->id.v));
    (void)json_object_set_new(o, "ready", json_boolean(s.ready && !s.failed));
    (void)json_object_set_new(o, "applied_index", number(s.applied_index));
    (void)json_object_set_new(o, "checkpoint_index", number(s.checkpoint_index));
    (void)json_object_set_new(o, "log_bytes", number(log.log_bytes));
    (void)json_object_set_new(o, "ops", number(s.ops));
    (void)json_object_set_new(o, "reads", number(s.reads));
    (void)json_object_set_new(o, "log_syncs", number(log.syncs));
    (void)json_object_set_new(o, "inodes", number(u.inodes));
    (void)json_object_set_new(o, "logical_bytes", number(u.logical_bytes));
    (void)json_object_set_new(o, "reserved_bytes", number(u.reserved_bytes));
    (void)json_object_set_new(o, "inline_bytes", number(u.inline_bytes));
    (void)json_object_set_new(o, "objects", number(u.objects));
    (void)json_object_set_new(o, "object_bytes", number(u.object_bytes));
    (void)json_object_set_new(o, "degraded", number(u.degraded));
    (void)json_object_set_new(o, "dead", number(u.dead));
    (void)json_object_set_new(o, "orphans", number(u.orphans));
    (void)json_object_set_new(o, "purging", number(u.purging));
    (void)json_object_set_new(o, "copied_objects", number(s.copied_objects));
    (void)json_object_set_new(o, "copied_bytes", number(s.copied_bytes));
    (void)json_object_set_new(o, "deleted_objects", number(s.deleted_objects));
    (void)json_object_set_new(o, "copy_left", number(s.copy_left));
    (void)json_object_set_new(o, "copy_rate_bytes", number(s.copy_rate_bytes));
    return o;
}

void admin_warn(json_t *list, const char *what, const char *fix)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "what", json_string(what));
    (void)json_object_set_new(o, "fix", json_string(fix));
    (void)json_array_append_new(list, o);
}

static json_t *warnings_json(struct hf_node *node)
{
    struct hf_leader_node_info infos[HF_NODES_MAX];
    uint32_t count = hf_replica_nodes(node->replica, infos, HF_NODES_MAX);
    const struct hf_map *map = hf_replica_map(node->replica);
    struct hf_replica_status status;
    struct hf_meta_usage usage;
    json_t *list = json_array();
    char what[256], fix[256];

    hf_replica_status(node->replica, &status);
    hf_meta_usage(hf_replica_meta(node->replica), &usage);
    if (status.failed) {
        admin_warn(list, "the metadata log or table failed; this node serves no metadata",
                   "look at its log, free or replace the disk, start holdfastd again");
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_map_node *n = &map->nodes[i];

        if (n->state == HF_NODE_DOWN) {
            (void)snprintf(what, sizeof(what), "node %u (%s) is down", n->id.v, n->addr);
            (void)snprintf(fix, sizeof(fix), "start holdfastd on it; it catches up by itself");
            admin_warn(list, what, fix);
        } else if (n->state == HF_NODE_UP && hf_uuid_is_zero(&n->uuid)) {
            (void)snprintf(what, sizeof(what), "node %u (%s) was never heard of", n->id.v, n->addr);
            (void)snprintf(fix, sizeof(fix), "start holdfastd on it with this cluster's file");
            admin_warn(list, what, fix);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct hf_msg_store_stats *s = &infos[i].stats;

        if (infos[i].refused) {
            (void)snprintf(what, sizeof(what), "another store claims to be node %u", infos[i].id.v);
            admin_warn(
                list, what,
                "put the node's own data directory back, or give the new store a number of its "
                "own");
        }
        if (infos[i].heard && s->quarantined) {
            (void)snprintf(what, sizeof(what), "node %u has set aside %" PRIu64 " bad copies",
                           infos[i].id.v, s->quarantined);
            admin_warn(list, what, "they are replaced by themselves; check the disk if it goes on");
        }
        if (infos[i].heard && s->state != HF_STORE_OK) {
            (void)snprintf(what, sizeof(what), "the store of node %u is %s", infos[i].id.v,
                           s->state < 3 ? state_names[s->state] : "unknown");
            admin_warn(list, what,
                       s->state == HF_STORE_FULL
                           ? "remove files or add space; deletes still work"
                           : "its disk fails writes: mend or replace it, start holdfastd on it "
                             "again; meanwhile data is kept by the other nodes");
        }
    }
    admin_meta_warnings(node, list);
    if (usage.degraded) {
        (void)snprintf(what, sizeof(what), "%" PRIu64 " copies are missing, %" PRIu64 " B/s copied",
                       usage.degraded, status.copy_rate_bytes);
        admin_warn(list, what, "they are made by themselves once the nodes that lack them are up");
    }
    return list;
}

static json_t *status_json(struct hf_node *node)
{
    json_t *o = json_object();
    char uuid[HF_UUID_STR_MAX];

    (void)json_object_set_new(o, "cluster", json_string(hf_uuid_str(&node->config->cluster, uuid)));
    (void)json_object_set_new(o, "node", number(node->self->id.v));
    if (node->replica && hf_replica_leads(node->replica)) {
        json_t *warnings = warnings_json(node);
        const struct hf_map *map = hf_replica_map(node->replica);

        (void)json_object_set_new(o, "health",
                                  json_string(json_array_size(warnings) ? "warn" : "ok"));
        (void)json_object_set_new(o, "copies", number(map->copies));
        (void)json_object_set_new(o, "min_copies", number(map->min_copies));
        (void)json_object_set_new(o, "map_epoch", number(map->epoch.v));
        (void)json_object_set_new(o, "groups", number(map->group_count));
        (void)json_object_set_new(o, "metadata", metadata_json(node));
        (void)json_object_set_new(o, "nodes", nodes_json(node));
        (void)json_object_set_new(o, "sessions", sessions_json(node));
        (void)json_object_set_new(o, "warnings", warnings);
    } else {
        struct hf_msg_store_stats s;

        store_stats_msg(node, &s);
        const char *addr = node_addr(node, node_leader(node));

        (void)json_object_set_new(o, "metadata_at", json_string(addr ? addr : ""));
        if (node->log) {
            (void)json_object_set_new(o, "role", json_string(admin_meta_role(node)));
        }
        (void)json_object_set_new(o, "map_epoch", number(node->map.epoch.v));
        (void)json_object_set_new(o, "stats", stats_json(&s));
    }
    return o;
}

static json_t *fsck_json(struct hf_node *node, int *ret_err)
{
    json_t *o = json_object();
    char *text = NULL;

    *ret_err = node->replica && hf_replica_leads(node->replica) ? 0 : -HF_ENOTLEADER;
    if (*ret_err == 0) {
        int err = hf_meta_fsck(hf_replica_meta(node->replica), &text);

        (void)json_object_set_new(o, "clean", json_boolean(err == 0));
        (void)json_object_set_new(o, "text", json_string(text ? text : ""));
    }
    free(text);
    return o;
}

static void release_text(void *ctx)
{
    free(ctx);
}

void admin_answer(struct hf_rpc_request *req, int err, json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    if (!err && !text) {
        err = -ENOMEM;
    }
    if (!err) {
        struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
        struct hf_rpc_bulk bulk = {
            .iov = &iov, .iov_count = 1, .release = release_text, .ctx = text};

        hf_rpc_reply(req, 0, NULL, 0, &bulk);
    } else {
        free(text);
        hf_rpc_reply(req, err, NULL, 0, NULL);
    }
}

void admin_service_request(struct hf_node *node, struct hf_rpc_request *req)
{
    struct hf_msg_admin m;
    void *mem = NULL;
    json_t *o = NULL;
    bool later = false;
    int err = hf_msg_admin_decode(req->msg, req->msg_len, &m, &mem);

    if (!err && strcmp(m.command, "status") == 0) {
        o = status_json(node);
    } else if (!err && strcmp(m.command, "fsck") == 0) {
        o = fsck_json(node, &err);
    } else if (!err && strcmp(m.command, "compact") == 0) {
        hf_store_compact_now(node->store);
        o = json_object();
    } else if (!err) {
        err = admin_meta(node, &m, &o);
        later = !err && admin_meta_later(node, req, &m);
    }
    hf_msg_release(mem);
    if (later) {
        json_decref(o);
    } else if (err == -HF_ENOTLEADER) {
        json_decref(o);
        meta_service_not_leader(node, req);
    } else {
        admin_answer(req, err, o);
    }
}
