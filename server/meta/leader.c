/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader.c - lifecycle of the metadata service: open and replay, format, checkpoints, closing.
 */
#include "server/meta/leader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/leader_impl.h"

#define CHECKPOINT_POLL_NS  HF_NS_PER_SEC
#define CHECKPOINT_RETRY_NS (5 * HF_NS_PER_SEC)
#define CLOSE_POLL_NS       (2 * HF_NS_PER_MS)
#define PATH_BYTES_MAX      4096u
#define SEED_BYTES          8u

static void set_state(struct hf_leader *leader, enum hf_leader_state state)
{
    static const bool may[HF_LEADER_STATE_COUNT][HF_LEADER_STATE_COUNT] = {
        [HF_LEADER_OPENED] =
            {[HF_LEADER_STARTING] = true, [HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_STARTING] =
            {[HF_LEADER_READY] = true, [HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_READY] = {[HF_LEADER_FAILED] = true, [HF_LEADER_CLOSING] = true},
        [HF_LEADER_FAILED] = {[HF_LEADER_CLOSING] = true},
    };

    HF_ASSERT(may[leader->state][state]);
    leader->state = state;
}

int hf_leader_unready_error(const struct hf_leader *leader)
{
    return leader->state == HF_LEADER_FAILED ? -EIO : -HF_ENOTREADY;
}

static void stop_parts(struct hf_leader *leader)
{
    hf_sessions_stop(leader);
    hf_nodes_stop(leader);
    hf_copier_stop(leader);
    hf_reaper_stop(leader);
    hf_purger_stop(leader);
    hf_timer_disarm(&leader->checkpoint_timer);
}

static void refuse_waiting(struct hf_leader *leader, int err)
{
    for (struct hf_lsession *s = leader->sessions.head; s; s = s->next) {
        struct hf_lop_list queue = {s->queue_head, s->queue_tail};

        s->queue_head = s->queue_tail = NULL;
        hf_leader_refuse_list(leader, &queue, err);
    }
    leader->queued_ops = 0;
    hf_waiters_fail(leader, err);
}

void hf_leader_fail(struct hf_leader *leader, int err, const char *what)
{
    if (leader->failed) {
        return;
    }
    leader->failed = err;
    hf_log(HF_LOG_ERROR, "meta", "failed",
           "err=%s applied=%llu what=\"%s; this node serves no metadata any more. Check its disk, "
           "then restart holdfastd\"",
           hf_err_name(err), (unsigned long long)hf_meta_applied(leader->meta), what);
    if (leader->state != HF_LEADER_CLOSING) {
        set_state(leader, HF_LEADER_FAILED);
        stop_parts(leader);
        refuse_waiting(leader, -EIO);
    }
}

static void journal_failed(void *ctx, int err)
{
    hf_leader_fail(ctx, err, "the metadata log failed");
}

/* Checkpoints */

static void checkpoint_done(void *ctx, int err)
{
    struct hf_leader *leader = ctx;

    if (err) {
        hf_log(HF_LOG_ERROR, "meta", "checkpoint failed",
               "err=%s index=%llu what=\"tried again; the log keeps growing until it works: free "
               "space on the disk of the metadata directory\"",
               hf_err_name(err), (unsigned long long)leader->running_index);
        leader->checkpoint_retry_ns = hf_env_mono_ns(leader->env) + CHECKPOINT_RETRY_NS;
        return;
    }
    /* Only to the checkpoint before this one: should the table prove damaged, there is a way
     * back (design section 4). */
    if (leader->state != HF_LEADER_CLOSING) {
        hf_journal_trim(leader->journal, leader->checkpoint_position);
    }
    leader->checkpoint_index = leader->running_index;
    leader->checkpoint_position = leader->running_position;
}

static void checkpoint(struct hf_leader *leader)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t len = hf_meta_mark(leader->meta, mark);

    leader->running_index = hf_meta_applied(leader->meta);
    leader->running_position = leader->journal_closed ? 0 : hf_journal_position(leader->journal);
    hf_table_checkpoint(leader->table, mark, len, checkpoint_done, leader);
}

void hf_leader_maybe_checkpoint(struct hf_leader *leader)
{
    if (leader->state == HF_LEADER_READY && hf_table_wants_checkpoint(leader->table) &&
        !hf_table_checkpoint_running(leader->table) &&
        hf_env_mono_ns(leader->env) >= leader->checkpoint_retry_ns) {
        checkpoint(leader);
    }
}

static void checkpoint_poll(void *ctx)
{
    struct hf_leader *leader = ctx;

    hf_leader_maybe_checkpoint(leader);
    hf_timer_arm(&leader->checkpoint_timer, CHECKPOINT_POLL_NS);
}

/* Opening */

static int replay(void *ctx, const struct hf_journal_entry *entry)
{
    struct hf_leader *leader = ctx;
    struct hf_meta_op op;
    struct hf_meta_entry committed = {
        .index = entry->index, .term = entry->term, .time_ns = entry->time_ns, .op = &op};
    struct hf_meta_reply reply;
    void *mem = NULL;
    int err;

    err = hf_meta_op_decode(entry->msg, entry->msg_len, entry->bulk, entry->bulk_len, &op, &mem);
    if (!err) {
        err = hf_meta_apply(leader->meta, &committed, &reply);
    }
    hf_meta_op_release(mem);
    return err;
}

static int say(char **ret_error, int err, const char *dir, const char *what)
{
    if (!*ret_error &&
        asprintf(ret_error, "metadata in %s: %s (%s)", dir, what, hf_err_text(err)) < 0) {
        *ret_error = NULL;
    }
    return err;
}

static int open_table(struct hf_leader *leader, const struct hf_leader_options *options,
                      char **ret_error)
{
    struct hf_table_base *base = options->table_base;
    char path[PATH_BYTES_MAX];
    int err = 0;

    if (!base) {
        (void)snprintf(path, sizeof(path), "%s/table", options->dir);
        err = hf_table_base_lmdb(leader->env, path, &base);
    }
    if (!err) {
        err = hf_table_open(leader->env, base, NULL, &leader->table);
    }
    if (!err) {
        err = hf_meta_open(leader->table, &leader->meta);
    }
    if (err) {
        return say(
            ret_error, err, options->dir,
            "the table cannot be opened; restore the directory from a copy if it is damaged");
    }
    leader->checkpoint_index = hf_meta_applied(leader->meta);
    return 0;
}

static int open_journal(struct hf_leader *leader, const struct hf_leader_options *options,
                        char **ret_error)
{
    char path[PATH_BYTES_MAX];
    struct hf_journal_options journal_options = {
        .dir = path,
        .pool = options->pool,
        .identity = options->cluster,
        .segment_bytes = options->log_segment_bytes,
        .applied_index = leader->checkpoint_index,
        .replay = replay,
        .failed = journal_failed,
        .ctx = leader,
    };
    struct hf_journal_status status;
    int err;

    (void)snprintf(path, sizeof(path), "%s/log", options->dir);
    err = hf_journal_open(leader->env, &journal_options, &leader->journal, ret_error);
    if (err) {
        return err;
    }
    hf_journal_status(leader->journal, &status);
    leader->checkpoint_position = status.replay_position;
    return 0;
}

static int check_cluster(struct hf_leader *leader, const struct hf_leader_options *options,
                         char **ret_error)
{
    const struct hf_map *map = hf_meta_map(leader->meta);

    if (map->group_count > 0 && !hf_uuid_equal(&map->cluster, &options->cluster)) {
        return say(ret_error, -HF_EWRONGCLUSTER, options->dir,
                   "it belongs to another cluster; set the cluster's id or another directory");
    }
    if (map->group_count == 0 && options->objects_here) {
        return say(ret_error, -ENOENT, options->dir,
                   "the cluster's metadata are missing, but this node's store holds objects that "
                   "they named; put the directory back, or, to begin with nothing, remove the data "
                   "directories of all nodes");
    }
    return 0;
}

/* Copies of the nodes of the configuration that the map does not hold. */
static int note_new_nodes(struct hf_leader *leader, const struct hf_leader_options *options)
{
    const struct hf_map *map = hf_meta_map(leader->meta);

    leader->new_nodes =
        calloc(options->node_count ? options->node_count : 1, sizeof(*leader->new_nodes));
    if (!leader->new_nodes) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < options->node_count; i++) {
        const struct hf_leader_node *node = &options->nodes[i];
        struct hf_leader_node *copy = &leader->new_nodes[leader->new_node_count];

        if (map->group_count > 0 && hf_map_node(map, node->id)) {
            continue;
        }
        *copy = *node;
        leader->new_node_count++;
        copy->addr = strdup(node->addr ? node->addr : "");
        copy->domain = strdup(node->domain ? node->domain : "");
        if (!copy->addr || !copy->domain) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void leader_free(struct hf_leader *leader)
{
    hf_sessions_fini(leader);
    hf_waiters_fini(leader);
    hf_opens_fini(&leader->opens);
    hf_reaper_fini(leader);
    hf_leader_reads_fini(leader);
    hf_leader_ops_fini(leader);
    hf_meta_close(leader->meta);
    hf_table_close(leader->table);
    for (uint32_t i = 0; i < leader->new_node_count; i++) {
        free((char *)leader->new_nodes[i].addr);
        free((char *)leader->new_nodes[i].domain);
    }
    free(leader->new_nodes);
    free(leader);
}

static int init_parts(struct hf_leader *leader)
{
    int err = hf_leader_ops_init(leader);

    err = err ? err : hf_leader_reads_init(leader);
    err = err ? err : hf_opens_init(&leader->opens);
    err = err ? err : hf_waiters_init(leader);
    err = err ? err : hf_reaper_init(leader);
    hf_nodes_init(leader);
    hf_copier_init(leader);
    hf_purger_init(leader);
    hf_timer_init(&leader->checkpoint_timer, leader->env, checkpoint_poll, leader);
    return err;
}

static struct hf_leader *leader_new(struct hf_env *env, const struct hf_leader_options *options)
{
    struct hf_leader *leader = calloc(1, sizeof(*leader));

    if (!leader) {
        return NULL;
    }
    leader->env = env;
    leader->pool = options->pool;
    leader->stores = options->stores;
    leader->cluster = options->cluster;
    leader->copies = options->copies ? options->copies : 1;
    leader->min_copies = options->min_copies ? options->min_copies : leader->copies;
    leader->groups = options->groups ? options->groups : HF_GROUPS_DEFAULT;
    leader->session_ttl_ns =
        options->session_ttl_ns ? options->session_ttl_ns : HF_LEADER_SESSION_TTL_NS;
    leader->node_timeout_ns =
        options->node_timeout_ns ? options->node_timeout_ns : HF_LEADER_NODE_TIMEOUT_NS;
    leader->reserve_bytes =
        options->reserve_bytes ? options->reserve_bytes : HF_LEADER_RESERVE_BYTES;
    return leader;
}

int hf_leader_open(struct hf_env *env, const struct hf_leader_options *options,
                   struct hf_leader **ret, char **ret_error)
{
    struct hf_leader *leader = leader_new(env, options);
    int err;

    *ret_error = NULL;
    if (!leader) {
        return -ENOMEM;
    }
    err = open_table(leader, options, ret_error);
    err = err ? err : init_parts(leader);
    err = err ? err : open_journal(leader, options, ret_error);
    err = err ? err : check_cluster(leader, options, ret_error);
    err = err ? err : hf_sessions_init(leader);
    err = err ? err : note_new_nodes(leader, options);
    if (err) {
        (void)say(ret_error, err, options->dir, "cannot be opened");
        hf_journal_abandon(leader->journal);
        leader_free(leader);
        return err;
    }
    *ret = leader;
    return 0;
}

/* Starting: the entries that make a cluster of nothing, or add nodes to one */

static void ready(struct hf_leader *leader)
{
    set_state(leader, HF_LEADER_READY);
    leader->started_ns = hf_env_mono_ns(leader->env);
    hf_sessions_start(leader);
    hf_nodes_start(leader);
    hf_copier_start(leader);
    hf_reaper_start(leader);
    hf_purger_start(leader);
    hf_timer_arm(&leader->checkpoint_timer, CHECKPOINT_POLL_NS);
    hf_env_post(leader->env, &leader->map_task);
    hf_log(HF_LOG_INFO, "meta", "serving", "applied=%llu sessions=%u nodes=%u groups=%u",
           (unsigned long long)hf_meta_applied(leader->meta), leader->sessions.count,
           hf_meta_map(leader->meta)->node_count, hf_meta_map(leader->meta)->group_count);
}

static void propose_groups(struct hf_leader *leader);

static void start_step_done(void *ctx, const struct hf_meta_reply *reply)
{
    struct hf_leader *leader = ctx;

    if (reply->err) {
        hf_log(HF_LOG_ERROR, "meta", "start failed",
               "err=%s what=\"check copies, min_copies, "
               "groups and the nodes in the configuration\"",
               hf_err_name(reply->err));
        if (hf_meta_map(leader->meta)->group_count == 0) {
            hf_leader_fail(leader, reply->err, "the cluster could not be formatted");
        }
    }
    if (--leader->starting_left == 0 && leader->state == HF_LEADER_STARTING) {
        propose_groups(leader);
        if (leader->starting_left == 0) {
            ready(leader);
        }
    }
}

static void start_step(struct hf_leader *leader, const struct hf_meta_op *op)
{
    leader->starting_left++;
    hf_leader_propose(leader, op, start_step_done, leader);
}

/* Members for groups that have none. */
static void propose_groups(struct hf_leader *leader)
{
    const struct hf_map *map = hf_meta_map(leader->meta);

    for (uint32_t group = 0; group < map->group_count; group++) {
        struct hf_node_id members[HF_REPLICAS_MAX];
        uint64_t packed = 0;
        struct hf_meta_op op = {
            .op = HF_OP_GROUP_SET, .count = group, .holders = &packed, .holder_count = 1};
        uint32_t count;

        if (map->groups[group].acting[0].v) {
            continue;
        }
        count = hf_map_propose(map, (uint16_t)group, members);
        for (uint32_t i = 0; i < count; i++) {
            packed |= (uint64_t)members[i].v << (8 * i);
        }
        if (count > 0) {
            start_step(leader, &op);
        }
    }
}

static void propose_format(struct hf_leader *leader)
{
    uint8_t seed[SEED_BYTES];
    uint64_t seed_number;
    struct hf_meta_op op = {.op = HF_OP_FORMAT,
                            .uuid = leader->cluster,
                            .count = leader->copies,
                            .size = leader->min_copies,
                            .mode = leader->groups};

    hf_env_random(leader->env, seed, sizeof(seed));
    memcpy(&seed_number, seed, sizeof(seed_number));
    op.offset = seed_number;
    start_step(leader, &op);
}

void hf_leader_start(struct hf_leader *leader)
{
    set_state(leader, HF_LEADER_STARTING);
    leader->starting_left = 1; /* this one */
    if (hf_meta_map(leader->meta)->group_count == 0) {
        propose_format(leader);
    }
    for (uint32_t i = 0; i < leader->new_node_count; i++) {
        const struct hf_leader_node *node = &leader->new_nodes[i];
        struct hf_meta_op op = {.op = HF_OP_NODE_ADD,
                                .node = node->id,
                                .text = node->addr,
                                .name = node->domain,
                                .name_len = strlen(node->domain),
                                .count = node->weight};

        start_step(leader, &op);
    }
    start_step_done(leader, &(struct hf_meta_reply){0});
}

/* Closing */

static bool busy(const struct hf_leader *leader)
{
    return leader->store_calls > 0 || leader->queue_bytes > 0 || leader->refuse_task.queued ||
           leader->reads.head || leader->read_task.queued || leader->map_task.queued ||
           hf_table_checkpoint_running(leader->table);
}

static void close_step(void *ctx)
{
    struct hf_leader *leader = ctx;
    void (*done)(void *ctx) = leader->close_done;
    void *done_ctx = leader->close_ctx;

    if (!leader->journal_closed || busy(leader)) {
        hf_timer_arm(&leader->close_timer, CLOSE_POLL_NS);
        return;
    }
    if (!leader->closing_checkpointed) {
        leader->closing_checkpointed = true;
        if (!leader->failed && hf_table_dirty(leader->table)) {
            checkpoint(leader); /* spares the next start the replay */
        }
        hf_timer_arm(&leader->close_timer, CLOSE_POLL_NS);
        return;
    }
    hf_timer_fini(&leader->close_timer);
    leader_free(leader);
    done(done_ctx);
}

static void journal_closed(void *ctx)
{
    struct hf_leader *leader = ctx;

    leader->journal = NULL;
    leader->journal_closed = true;
}

void hf_leader_close(struct hf_leader *leader, void (*done)(void *ctx), void *ctx)
{
    hf_assert_loop(leader->env);
    stop_parts(leader);
    set_state(leader, HF_LEADER_CLOSING);
    leader->close_done = done;
    leader->close_ctx = ctx;
    refuse_waiting(leader, -HF_ENOTREADY);
    hf_leader_reads_fail(leader, -HF_ENOTREADY);
    hf_timer_init(&leader->close_timer, leader->env, close_step, leader);
    hf_timer_arm(&leader->close_timer, CLOSE_POLL_NS);
    hf_journal_close(leader->journal, journal_closed, leader);
}

/* Looking */

const struct hf_map *hf_leader_map(const struct hf_leader *leader)
{
    return hf_meta_map(leader->meta);
}

struct hf_meta *hf_leader_meta(struct hf_leader *leader)
{
    return leader->meta;
}

void hf_leader_status(struct hf_leader *leader, struct hf_leader_status *ret)
{
    struct hf_journal_status journal = {0};

    if (leader->journal) {
        hf_journal_status(leader->journal, &journal);
    }
    *ret = (struct hf_leader_status){
        .applied_index = hf_meta_applied(leader->meta),
        .synced_index = journal.synced_index,
        .log_bytes = journal.log_bytes,
        .checkpoint_index = leader->checkpoint_index,
        .ops = leader->ops,
        .reads = leader->reads_done,
        .log_syncs = journal.syncs,
        .copied_objects = leader->copied_objects,
        .copied_bytes = leader->copied_bytes,
        .deleted_objects = leader->deleted_objects,
        .copy_left = hf_copier_left_bytes(leader),
        .copy_rate_bytes = hf_copier_rate_bytes(leader),
        .ready = leader->state == HF_LEADER_READY,
        .failed = leader->failed,
    };
}

uint32_t hf_leader_sessions(struct hf_leader *leader, struct hf_leader_session_info *ret,
                            uint32_t max)
{
    uint64_t now_ns = hf_env_boot_ns(leader->env);
    struct hf_session_id after = {0};
    uint32_t count = 0;

    while (count < max && hf_meta_sessions(leader->meta, after, &ret[count].session, 1) == 1) {
        const struct hf_lsession *session = hf_sessions_find(leader, ret[count].session.id);

        after = ret[count].session.id;
        ret[count].idle_ns = session ? now_ns - session->heard_ns : 0;
        ret[count].budget_bytes = session ? session->budget_bytes : 0;
        ret[count].open_files = session ? session->opens.count : 0;
        count++;
    }
    return count;
}
