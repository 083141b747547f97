/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin_meta.c - ADMIN commands about the metadata nodes.
 *
 *     meta-status            this node's part in the log; on the leader of all members
 *     meta-transfer [NODE]   give leadership away; answered when another leads
 *     meta-add NODE          a learner, which becomes a voter by itself
 *     meta-remove NODE
 */
#include "server/node/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEARD_LATELY_NS  (2 * HF_NS_PER_SEC)
#define TRANSFER_NS      (2 * HF_NS_PER_SEC)
#define TRANSFER_POLL_NS (5 * HF_NS_PER_MS)

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static void log_status(struct hf_node *node, struct hf_raft_driver_status *ret)
{
    hf_raft_driver_status(hf_meta_log_driver(node->log), ret);
}

bool admin_meta_member(const struct hf_raft_driver_status *log, struct hf_node_id id)
{
    for (uint32_t i = 0; i < log->config.count; i++) {
        if (log->config.members[i].id.v == id.v) {
            return true;
        }
    }
    return false;
}

static const char *role_name(const struct hf_raft_driver_status *log)
{
    switch (log->state) {
    case HF_RAFT_FOUNDING:
        return "founding";
    case HF_RAFT_FAILED:
        return "failed";
    case HF_RAFT_CLOSING:
        return "closing";
    case HF_RAFT_RUNNING:
        break;
    }
    if (log->abstaining) {
        return "joining";
    }
    switch (log->role) {
    case HF_RAFT_LEADER:
        return "leader";
    case HF_RAFT_CANDIDATE:
    case HF_RAFT_PRE_CANDIDATE:
        return "candidate";
    case HF_RAFT_FOLLOWER:
        break;
    }
    return "follower";
}

const char *admin_meta_role(struct hf_node *node)
{
    struct hf_raft_driver_status log;

    log_status(node, &log);
    return role_name(&log);
}

static void compared_json(json_t *o, const struct hf_raft_compared *compared)
{
    if (compared->index) {
        (void)json_object_set_new(o, "digest_index", number(compared->index));
        (void)json_object_set_new(o, "digest_ok", json_boolean(compared->equal));
    }
    if (compared->taken_out) {
        (void)json_object_set_new(o, "taken_out", json_true());
    }
}

static json_t *members_json(struct hf_node *node, const struct hf_raft_driver_status *log)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < log->config.count; i++) {
        const struct hf_raft_member *m = &log->config.members[i];
        const struct hf_raft_peer_status *peer = &log->peers[i];
        const bool self = m->id.v == node->self->id.v;
        const uint64_t match = self ? log->durable_index : peer->match_index;
        const char *addr = node_addr(node, m->id);
        json_t *o = json_object();

        (void)json_object_set_new(o, "node", number(m->id.v));
        (void)json_object_set_new(o, "kind",
                                  json_string(m->kind == HF_RAFT_VOTER ? "voter" : "learner"));
        (void)json_object_set_new(o, "address", json_string(addr ? addr : ""));
        if (log->role == HF_RAFT_LEADER) {
            (void)json_object_set_new(o, "match", number(match));
            (void)json_object_set_new(
                o, "lag", number(log->last_index > match ? log->last_index - match : 0));
            if (self || peer->heard_ns) {
                (void)json_object_set_new(
                    o, "heard_ms_ago",
                    number(self ? 0 : (log->now_ns - peer->heard_ns) / HF_NS_PER_MS));
            }
            (void)json_object_set_new(o, "abstaining", json_boolean(!self && peer->abstaining));
            (void)json_object_set_new(o, "snapshotting", json_boolean(!self && peer->snapshotting));
            compared_json(o, &log->compared[i]);
        }
        (void)json_array_append_new(list, o);
    }
    return list;
}

static json_t *meta_status(struct hf_node *node)
{
    struct hf_raft_driver_status log;
    struct hf_replica_status state;
    json_t *o = json_object(), *index = json_object(), *digest = json_object();
    char hex[17];

    log_status(node, &log);
    hf_replica_status(node->replica, &state);
    (void)json_object_set_new(o, "node", number(node->self->id.v));
    (void)json_object_set_new(o, "role", json_string(role_name(&log)));
    (void)json_object_set_new(o, "term", number(log.term));
    (void)json_object_set_new(o, "leader", number(log.leader.v));
    (void)json_object_set_new(index, "last", number(log.last_index));
    (void)json_object_set_new(index, "commit", number(log.commit_index));
    (void)json_object_set_new(index, "applied", number(state.applied_index));
    (void)json_object_set_new(index, "durable", number(log.durable_index));
    (void)json_object_set_new(index, "checkpoint", number(state.checkpoint_index));
    (void)json_object_set_new(index, "first", number(log.base_index + 1));
    (void)json_object_set_new(o, "index", index);
    (void)json_object_set_new(o, "log_bytes", number(log.log_bytes));
    (void)json_object_set_new(o, "kept_bytes", number(log.kept_bytes));
    (void)json_object_set_new(o, "abstaining", json_boolean(log.abstaining));
    (void)json_object_set_new(o, "taken_out", json_boolean(log.taken_out));
    (void)json_object_set_new(digest, "index", number(state.applied_index));
    (void)snprintf(hex, sizeof(hex), "%016" PRIx64, hf_replica_digest(node->replica));
    (void)json_object_set_new(digest, "value", json_string(hex));
    (void)json_object_set_new(o, "digest", digest);
    if (log.waiting_for[0]) {
        (void)json_object_set_new(o, "waiting_for", json_string(log.waiting_for));
    }
    (void)json_object_set_new(o, "members", members_json(node, &log));
    return o;
}

/* A node's number; 0: none, or no number. */
static struct hf_node_id node_arg(const struct hf_msg_admin *m)
{
    char *end = NULL;
    unsigned long v = m->arg_count > 0 ? strtoul(m->args[0], &end, 10) : 0;

    return (struct hf_node_id){end && *end == '\0' && v <= HF_NODES_MAX ? (uint16_t)v : 0};
}

static json_t *outcome(int err, const char *error)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "ok", json_boolean(err == 0));
    if (err) {
        (void)json_object_set_new(o, "error", json_string(error));
    }
    return o;
}

static int change(struct hf_node *node, const struct hf_msg_admin *m, json_t **ret,
                  int (*fn)(struct hf_raft_driver *driver, struct hf_node_id id,
                            const char **ret_error),
                  bool needs_node)
{
    const struct hf_node_id id = node_arg(m);
    const char *error = NULL;
    int err = -EINVAL;

    if (!hf_replica_leads(node->replica)) {
        return -HF_ENOTLEADER;
    }
    if (!id.v && (needs_node || m->arg_count > 0)) {
        error = "a node's number was expected";
    } else if (id.v && !node_addr(node, id)) {
        error = "no node of that number is in the configuration or the cluster map";
    } else {
        err = fn(hf_meta_log_driver(node->log), id, &error);
    }
    if (err == -HF_ENOTLEADER) {
        return err;
    }
    *ret = outcome(err, error);
    return 0;
}

/* A transfer that has begun: it ends soon, one way or the other. */
struct transfer {
    struct hf_node *node;
    struct hf_rpc_request *req;
    struct hf_timer timer;
    uint64_t until_ns;
};

static void transfer_look(void *ctx)
{
    struct transfer *t = ctx;
    struct hf_node *node = t->node;
    const bool leads = node->replica && hf_replica_leads(node->replica);

    if (leads && !node->stopping && hf_env_mono_ns(node->env) < t->until_ns) {
        hf_timer_arm(&t->timer, TRANSFER_POLL_NS);
        return;
    }
    admin_answer(t->req, 0,
                 outcome(leads ? -ETIMEDOUT : 0,
                         "it did not take over in time: is it up to date and not overloaded? "
                         "'holdfast meta status' tells"));
    hf_timer_fini(&t->timer);
    node->inflight--;
    free(t);
}

bool admin_meta_later(struct hf_node *node, struct hf_rpc_request *req,
                      const struct hf_msg_admin *m)
{
    struct hf_raft_driver_status log;
    struct transfer *t;

    if (strcmp(m->command, "meta-transfer") != 0 || !node->log) {
        return false;
    }
    log_status(node, &log);
    t = log.transferring ? calloc(1, sizeof(*t)) : NULL;
    if (!t) {
        return false;
    }
    t->node = node;
    t->req = req;
    t->until_ns = hf_env_mono_ns(node->env) + TRANSFER_NS;
    node->inflight++; /* the node waits for it */
    hf_timer_init(&t->timer, node->env, transfer_look, t);
    hf_timer_arm(&t->timer, TRANSFER_POLL_NS);
    return true;
}

int admin_meta(struct hf_node *node, const struct hf_msg_admin *m, json_t **ret)
{
    if (strncmp(m->command, "meta-", 5) != 0) {
        return -ENOSYS;
    }
    if (!node->log) {
        return -HF_ENOTLEADER;
    }
    if (strcmp(m->command, "meta-status") == 0) {
        *ret = meta_status(node);
        return 0;
    }
    if (strcmp(m->command, "meta-transfer") == 0) {
        return change(node, m, ret, hf_raft_driver_transfer, false);
    }
    if (strcmp(m->command, "meta-add") == 0) {
        return change(node, m, ret, hf_raft_driver_add, true);
    }
    if (strcmp(m->command, "meta-remove") == 0) {
        return change(node, m, ret, hf_raft_driver_remove, true);
    }
    return -ENOSYS;
}

static void differs(const struct hf_raft_driver_status *log, uint32_t i, json_t *list)
{
    const unsigned id = log->config.members[i].id.v;
    char what[256];

    if (log->compared[i].taken_out) {
        (void)snprintf(what, sizeof(what),
                       "metadata node %u was taken out: its metadata differed from the others'",
                       id);
        admin_warn(list, what,
                   "keep a copy of the directory 'meta' below its data for a report, remove it, "
                   "restart holdfastd there: the leader fills it again");
    } else {
        (void)snprintf(what, sizeof(what),
                       "the metadata of node %u differ from the leader's at entry %" PRIu64, id,
                       log->compared[i].index);
        admin_warn(list, what,
                   "a defect, or a failing disk or memory in one of them; if no majority decides "
                   "which, see docs/operate/metadata.md");
    }
}

void admin_meta_warnings(struct hf_node *node, json_t *list)
{
    struct hf_raft_driver_status log;
    char what[256];

    log_status(node, &log);
    for (uint32_t i = 0; i < log.config.count && log.role == HF_RAFT_LEADER; i++) {
        const struct hf_raft_member *m = &log.config.members[i];
        const struct hf_raft_peer_status *peer = &log.peers[i];

        if (m->id.v == node->self->id.v) {
            continue;
        }
        if (log.compared[i].taken_out || (log.compared[i].index && !log.compared[i].equal)) {
            differs(&log, i, list);
        } else if (!peer->heard_ns || log.now_ns - peer->heard_ns > HEARD_LATELY_NS) {
            (void)snprintf(what, sizeof(what), "metadata node %u is not heard", m->id.v);
            admin_warn(list, what,
                       "start holdfastd on it; if it is gone for good: holdfast meta remove-voter");
        } else if (peer->abstaining || m->kind == HF_RAFT_LEARNER) {
            (void)snprintf(what, sizeof(what), "metadata node %u is being brought up to date",
                           m->id.v);
            admin_warn(list, what, "it becomes a voter by itself; watch: holdfast meta status");
        }
        if (llabs(log.clock_ahead_s[i]) > HF_RAFT_CLOCK_APART_S) {
            (void)snprintf(what, sizeof(what), "the clock of node %u is %lld s %s node %u's",
                           m->id.v, llabs(log.clock_ahead_s[i]),
                           log.clock_ahead_s[i] > 0 ? "ahead of" : "behind", node->self->id.v);
            admin_warn(list, what, "set the clocks: file times jump when leadership moves");
        }
    }
}
