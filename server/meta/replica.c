/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.c - the state of one node: opening, applying, checkpoints, closing; its leader, if any.
 */
#include "server/meta/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/log/log.h"
#include "common/table/snapshot.h"
#include "server/meta/leader_impl.h"

#define CHECKPOINT_POLL_NS  HF_NS_PER_SEC
#define CHECKPOINT_RETRY_NS (5 * HF_NS_PER_SEC)
#define CLOSE_POLL_NS       (2 * HF_NS_PER_MS)

static void note_failed(struct hf_replica *replica, int err, const char *what)
{
    if (replica->failed) {
        return;
    }
    replica->failed = err;
    hf_log(HF_LOG_ERROR, "meta", "failed",
           "err=%s applied=%llu what=\"%s; this node serves no metadata any more. %s, then restart "
           "holdfastd\"",
           hf_err_name(err), (unsigned long long)hf_meta_applied(replica->meta), what,
           err == -HF_EDIFFERS ? "Remove its metadata directory" : "Check its disk");
    hf_timer_disarm(&replica->checkpoint_timer);
}

void hf_replica_fail(struct hf_replica *replica, int err, const char *what)
{
    if (!replica->failed) {
        note_failed(replica, err, what);
        replica->log.give_up(replica->log.ctx, err);
    }
}

void hf_replica_log_failed(struct hf_replica *replica, int err)
{
    note_failed(replica, err,
                err == -HF_EDIFFERS ? "its metadata differ from those of a majority"
                                    : "the metadata log failed");
    if (replica->leader) {
        hf_leader_failed(replica->leader);
    }
}

/* Checkpoints */

static void checkpoint_done(void *ctx, int err)
{
    struct hf_replica *replica = ctx;
    uint64_t before = replica->checkpoint_index;

    if (err) {
        hf_log(HF_LOG_ERROR, "meta", "checkpoint failed",
               "err=%s index=%llu what=\"tried again; the log keeps growing until it works: free "
               "space on the disk of the metadata directory\"",
               hf_err_name(err), (unsigned long long)replica->running_index);
        replica->checkpoint_retry_ns = hf_env_mono_ns(replica->env) + CHECKPOINT_RETRY_NS;
        return;
    }
    replica->checkpointed = true;
    replica->checkpoint_index = replica->running_index;
    /* Only to the checkpoint before this one: should the table prove damaged, there is a way
     * back (design section 4). */
    if (!replica->closing && before > 0) {
        replica->log.checkpointed(replica->log.ctx, before);
    }
}

static void checkpoint(struct hf_replica *replica)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t len = hf_meta_mark(replica->meta, mark);

    replica->running_index = hf_meta_applied(replica->meta);
    if (HF_BUG(trims_ahead) && !replica->closing) {
        replica->log.checkpointed(replica->log.ctx, replica->running_index);
    }
    hf_table_checkpoint(replica->table, mark, len, checkpoint_done, replica);
}

static void maybe_checkpoint(struct hf_replica *replica)
{
    if (!replica->failed && !replica->closing && !replica->load &&
        hf_table_wants_checkpoint(replica->table) && !hf_table_checkpoint_running(replica->table) &&
        hf_env_mono_ns(replica->env) >= replica->checkpoint_retry_ns &&
        replica->log.durable(replica->log.ctx) >= hf_meta_applied(replica->meta)) {
        checkpoint(replica);
    }
}

static void checkpoint_poll(void *ctx)
{
    struct hf_replica *replica = ctx;

    maybe_checkpoint(replica);
    hf_timer_arm(&replica->checkpoint_timer, CHECKPOINT_POLL_NS);
}

void hf_replica_durable(struct hf_replica *replica)
{
    maybe_checkpoint(replica);
}

/* Opening */

static int say(char **ret_error, int err, const char *dir, const char *what)
{
    if (!*ret_error &&
        asprintf(ret_error, "metadata in %s: %s (%s)", dir, what, hf_err_text(err)) < 0) {
        *ret_error = NULL;
    }
    return err;
}

static int lmdb_open(void *ctx, struct hf_table_base **ret)
{
    struct hf_replica *replica = ctx;
    char path[sizeof(replica->dir) + 8];

    (void)snprintf(path, sizeof(path), "%s/table", replica->dir);
    return hf_table_base_lmdb(replica->env, path, ret);
}

static int lmdb_install(void *ctx, const char *file)
{
    struct hf_replica *replica = ctx;
    char path[sizeof(replica->dir) + 8];

    (void)snprintf(path, sizeof(path), "%s/table", replica->dir);
    return hf_table_install_lmdb(replica->env, file, path);
}

static int open_table(struct hf_replica *replica)
{
    struct hf_table_options options = {.merge_delay_ns = replica->merge_delay_ns};
    struct hf_table_base *base;
    int err = replica->base.open(replica->base.ctx, &base);

    err = err ? err : hf_table_open(replica->env, base, &options, &replica->table);
    return err ? err : hf_meta_open(replica->table, &replica->meta);
}

static void close_table(struct hf_replica *replica)
{
    hf_meta_close(replica->meta);
    hf_table_close(replica->table);
    replica->meta = NULL;
    replica->table = NULL;
}

static int check_cluster(struct hf_replica *replica, const struct hf_replica_options *options,
                         char **ret_error)
{
    const struct hf_map *map = hf_meta_map(replica->meta);

    if (map->group_count > 0 && !hf_uuid_equal(&map->cluster, &options->cluster)) {
        return say(ret_error, -HF_EWRONGCLUSTER, options->dir,
                   "it belongs to another cluster; set the cluster's id or another directory");
    }
    return 0;
}

static int copy_nodes(struct hf_replica *replica, const struct hf_replica_options *options)
{
    replica->nodes = calloc(options->node_count ? options->node_count : 1, sizeof(*replica->nodes));
    if (!replica->nodes) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < options->node_count; i++) {
        const struct hf_leader_node *node = &options->nodes[i];
        struct hf_leader_node *copy = &replica->nodes[i];

        *copy = *node;
        replica->node_count++;
        copy->addr = strdup(node->addr ? node->addr : "");
        copy->domain = strdup(node->domain ? node->domain : "");
        if (!copy->addr || !copy->domain) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void replica_free(struct hf_replica *replica)
{
    close_table(replica);
    for (uint32_t i = 0; i < replica->node_count; i++) {
        free((char *)replica->nodes[i].addr);
        free((char *)replica->nodes[i].domain);
    }
    free(replica->nodes);
    free(replica->read_bulk);
    hf_timer_fini(&replica->checkpoint_timer);
    hf_timer_fini(&replica->close_timer);
    free(replica);
}

static struct hf_replica *replica_new(struct hf_env *env, const struct hf_replica_options *options)
{
    struct hf_replica *replica = calloc(1, sizeof(*replica));

    if (!replica) {
        return NULL;
    }
    replica->env = env;
    replica->stores = options->stores;
    replica->cluster = options->cluster;
    replica->base =
        options->base
            ? *options->base
            : (struct hf_replica_base){.open = lmdb_open, .install = lmdb_install, .ctx = replica};
    (void)snprintf(replica->dir, sizeof(replica->dir), "%s", options->dir);
    replica->copies = options->copies ? options->copies : 1;
    replica->min_copies = options->min_copies ? options->min_copies : replica->copies;
    replica->groups = options->groups ? options->groups : HF_GROUPS_DEFAULT;
    replica->session_ttl_ns =
        options->session_ttl_ns ? options->session_ttl_ns : HF_LEADER_SESSION_TTL_NS;
    replica->node_timeout_ns =
        options->node_timeout_ns ? options->node_timeout_ns : HF_LEADER_NODE_TIMEOUT_NS;
    replica->merge_delay_ns = options->merge_delay_ns;
    replica->reserve_bytes =
        options->reserve_bytes ? options->reserve_bytes : HF_LEADER_RESERVE_BYTES;
    hf_timer_init(&replica->checkpoint_timer, env, checkpoint_poll, replica);
    return replica;
}

static void note_position(struct hf_replica *replica)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t len = 0;

    /* It was read before, and understood. */
    HF_ASSERT(hf_table_mark(replica->table, mark, &len) == 0 &&
              hf_meta_mark_position(mark, len, &replica->opened) == 0);
    replica->checkpoint_index = replica->opened.index;
    replica->checkpointed = len > 0;
}

int hf_replica_open(struct hf_env *env, const struct hf_replica_options *options,
                    struct hf_replica **ret, char **ret_error)
{
    struct hf_replica *replica = replica_new(env, options);
    int err;

    *ret_error = NULL;
    if (!replica) {
        return -ENOMEM;
    }
    err = open_table(replica);
    if (err) {
        (void)say(ret_error, err, options->dir,
                  options->alone ? "the table cannot be opened; restore the directory from a copy "
                                   "if it is damaged"
                                 : "the table cannot be opened; if it is damaged, remove the "
                                   "directory: the other metadata nodes fill it again");
    }
    err = err ? err : check_cluster(replica, options, ret_error);
    err = err ? err : copy_nodes(replica, options);
    if (!err) {
        /* Of its own: clients can use up the pool, and this node must be able to lead then. */
        replica->read_bulk = aligned_alloc(HF_BLOCK_BYTES, HF_FRAME_BULK_MAX);
        err = replica->read_bulk ? 0 : -ENOMEM;
    }
    if (err) {
        (void)say(ret_error, err, options->dir, "cannot be opened");
        replica_free(replica);
        return err;
    }
    note_position(replica);
    *ret = replica;
    return 0;
}

void hf_replica_attach(struct hf_replica *replica, const struct hf_mlog *log)
{
    replica->log = *log;
    hf_timer_arm(&replica->checkpoint_timer, CHECKPOINT_POLL_NS);
}

void hf_replica_position(const struct hf_replica *replica, struct hf_mlog_position *ret)
{
    *ret = replica->opened;
}

/* Applying */

static int apply_op(struct hf_replica *replica, const struct hf_mlog_entry *entry)
{
    struct hf_meta_op op;
    struct hf_meta_entry committed = {
        .index = entry->index, .term = entry->term, .time_ns = entry->time_ns, .op = &op};
    struct hf_meta_reply reply;
    void *mem = NULL;
    int err =
        hf_meta_op_decode(entry->msg, entry->msg_len, entry->bulk, entry->bulk_len, &op, &mem);

    if (!err) {
        err = hf_meta_apply(replica->meta, &committed, &reply);
    }
    hf_meta_op_release(mem);
    return err;
}

int hf_replica_apply(struct hf_replica *replica, const struct hf_mlog_entry *entry,
                     struct hf_mlog_proposal *proposal)
{
    int err = replica->failed;

    hf_assert_loop(replica->env);
    if (!err && entry->kind == HF_MLOG_OP) {
        err = proposal ? hf_leader_committed(entry, proposal) : apply_op(replica, entry);
    } else if (!err) {
        hf_meta_skip(replica->meta, entry->index, entry->term);
        if (entry->kind == HF_MLOG_MEMBERS) {
            hf_meta_set_members(replica->meta, entry->msg, entry->msg_len);
        }
    }
    if (err) { /* by it the log fails, and ends the leader here as there is another one or not */
        note_failed(replica, err, "an entry could not be applied to the table");
    } else {
        maybe_checkpoint(replica);
    }
    return err;
}

void hf_replica_set_members(struct hf_replica *replica, const void *members, size_t len)
{
    hf_meta_set_members(replica->meta, members, len);
}

/* Leading */

int hf_replica_lead(struct hf_replica *replica)
{
    int err;

    if (replica->failed || replica->closing) {
        return replica->failed;
    }
    HF_ASSERT(!replica->leader);
    replica->leader = hf_leader_new(replica);
    if (!replica->leader) {
        err = hf_meta_failed(replica->meta);
        err = err ? err : -ENOMEM;
        note_failed(replica, err, "it could not begin to lead");
        return err;
    }
    replica->leader->next = replica->leaders;
    replica->leaders = replica->leader;
    hf_leader_start(replica->leader);
    return 0;
}

static void stop_leading(struct hf_replica *replica, int err)
{
    struct hf_leader *leader = replica->leader;

    replica->leader = NULL;
    if (leader) {
        hf_leader_close(leader, err);
    }
}

void hf_replica_follow(struct hf_replica *replica)
{
    stop_leading(replica, replica->closing ? -HF_ENOTREADY : -HF_ENOTLEADER);
}

void hf_replica_leader_gone(struct hf_replica *replica, struct hf_leader *leader)
{
    struct hf_leader **at = &replica->leaders;

    while (*at != leader) {
        at = &(*at)->next;
    }
    *at = leader->next;
}

/* Snapshots */

struct save {
    struct hf_table_export op;
    struct hf_replica *replica;
    void (*done)(void *arg, int err, const struct hf_mlog_position *position, uint64_t bytes);
    void *arg;
    struct hf_task soon;
    int err;
    char path[4400];
};

static void save_end(struct save *save, int err)
{
    struct hf_mlog_position position;

    save->replica->saves--;
    if (!err) {
        err = hf_meta_mark_position(save->op.snapshot.mark, save->op.snapshot.mark_len, &position);
    }
    save->done(save->arg, err, err ? NULL : &position, save->op.snapshot.file_bytes);
    free(save);
}

static void save_refused(struct hf_task *task)
{
    struct save *save = hf_container_of(task, struct save, soon);

    save_end(save, save->err);
}

static void saved(void *ctx, int err)
{
    save_end(ctx, err);
}

void hf_replica_save(struct hf_replica *replica, const char *path,
                     void (*done)(void *arg, int err, const struct hf_mlog_position *position,
                                  uint64_t bytes),
                     void *arg)
{
    struct save *save = calloc(1, sizeof(*save));

    HF_ASSERT_MEMORY(save);
    save->replica = replica;
    save->done = done;
    save->arg = arg;
    replica->saves++;
    if (replica->failed || replica->closing || replica->load || !replica->checkpointed ||
        hf_table_export_running(replica->table)) {
        save->err = -EAGAIN;
        save->soon.fn = save_refused;
        hf_env_post(replica->env, &save->soon);
        return;
    }
    (void)snprintf(save->path, sizeof(save->path), "%s", path);
    save->op.path = save->path;
    save->op.done = saved;
    save->op.ctx = save;
    hf_table_export(replica->table, &save->op);
}

struct hf_replica_load {
    struct hf_table_verify verify;
    struct hf_replica *replica;
    struct hf_timer wait; /* for what uses the table */
    struct hf_job install;
    int err;
    uint64_t index;
    void (*done)(void *arg, int err);
    void *arg;
    char path[4400];
};

static void load_end(struct hf_replica_load *load, int err)
{
    struct hf_replica *replica = load->replica;
    void (*done)(void *arg, int err) = load->done;
    void *arg = load->arg;

    replica->load = NULL;
    hf_timer_fini(&load->wait);
    free(load);
    done(arg, err);
}

static void install_run(struct hf_job *job)
{
    struct hf_replica_load *load = hf_container_of(job, struct hf_replica_load, install);

    load->err = load->replica->base.install(load->replica->base.ctx, load->path);
}

static void install_done(struct hf_job *job)
{
    struct hf_replica_load *load = hf_container_of(job, struct hf_replica_load, install);
    struct hf_replica *replica = load->replica;
    const uint64_t applied = hf_meta_applied(replica->meta);

    if (load->err) {
        hf_log(HF_LOG_ERROR, "meta", "snapshot not installed", "err=%s", hf_err_name(load->err));
    }
    close_table(replica);
    if (open_table(replica) != 0) {
        /* Nothing can be told of a state that cannot be read: the process ends, the next start
         * finds what there is. */
        hf_log(HF_LOG_ERROR, "meta", "table lost",
               "dir=%s what=\"it cannot be opened any more after a snapshot; restart holdfastd\"",
               replica->dir);
        abort();
    }
    for (struct hf_leader *leader = replica->leaders; leader; leader = leader->next) {
        leader->meta = replica->meta; /* closing ones may still look */
    }
    note_position(replica);
    if (load->err && replica->opened.index != applied) {
        /* What memory held over the checkpoint went with the table, or the new one is there but
         * may not stay: only a start puts it and the log together again. */
        note_failed(replica, load->err, "a snapshot could not be put in place");
        load->err = -ENOTRECOVERABLE;
    }
    load_end(load, load->err);
}

/* Nothing is applied meanwhile, nobody leads here: the table is only looked at, and what it looks
 * at stays there until it is closed. */
static void load_switch(void *ctx)
{
    struct hf_replica_load *load = ctx;
    struct hf_replica *replica = load->replica;

    if (hf_table_checkpoint_running(replica->table) || replica->saves > 0) {
        hf_timer_arm(&load->wait, CLOSE_POLL_NS);
        return;
    }
    load->install = (struct hf_job){.run = install_run, .done = install_done};
    hf_env_submit(replica->env, HF_POOL_TABLE, &load->install);
}

static void verified(void *ctx, int err)
{
    struct hf_replica_load *load = ctx;
    struct hf_mlog_position position;

    if (!err) {
        err = hf_meta_mark_position(load->verify.snapshot.mark, load->verify.snapshot.mark_len,
                                    &position);
    }
    if (!err && position.index != load->index) {
        err = -EBADMSG;
    }
    if (err || load->replica->closing || load->replica->failed) {
        load_end(load, err ? err : -HF_ENOTREADY);
        return;
    }
    load_switch(load);
}

void hf_replica_load(struct hf_replica *replica, const char *path, uint64_t index,
                     void (*done)(void *arg, int err), void *arg)
{
    struct hf_replica_load *load = calloc(1, sizeof(*load));

    HF_ASSERT_MEMORY(load);
    HF_ASSERT(!replica->load && !replica->leader);
    load->replica = replica;
    load->index = index;
    load->done = done;
    load->arg = arg;
    (void)snprintf(load->path, sizeof(load->path), "%s", path);
    hf_timer_init(&load->wait, replica->env, load_switch, load);
    replica->load = load;
    load->verify.path = load->path;
    load->verify.done = verified;
    load->verify.ctx = load;
    hf_table_verify(replica->env, &load->verify);
}

/* Closing */

static void close_step(void *ctx)
{
    struct hf_replica *replica = ctx;
    void (*done)(void *ctx) = replica->close_done;
    void *done_ctx = replica->close_ctx;

    if (replica->leaders || replica->saves > 0 || replica->load ||
        hf_table_checkpoint_running(replica->table)) {
        hf_timer_arm(&replica->close_timer, CLOSE_POLL_NS);
        return;
    }
    if (!replica->closing_checkpointed) {
        replica->closing_checkpointed = true;
        /* Spares the next start the replay. The log is closed: all of it is durable. */
        if (!replica->failed && hf_table_dirty(replica->table)) {
            checkpoint(replica);
        }
        hf_timer_arm(&replica->close_timer, CLOSE_POLL_NS);
        return;
    }
    replica_free(replica);
    done(done_ctx);
}

void hf_replica_close(struct hf_replica *replica, void (*done)(void *ctx), void *ctx)
{
    hf_assert_loop(replica->env);
    replica->closing = true;
    replica->close_done = done;
    replica->close_ctx = ctx;
    hf_timer_disarm(&replica->checkpoint_timer);
    stop_leading(replica, -HF_ENOTREADY);
    hf_timer_init(&replica->close_timer, replica->env, close_step, replica);
    hf_timer_arm(&replica->close_timer, CLOSE_POLL_NS);
}

void hf_replica_abandon(struct hf_replica *replica)
{
    if (replica) {
        replica_free(replica);
    }
}

/* For clients and stores */

struct refusal {
    struct hf_task task;
    hf_leader_done_fn done;
    void *ctx;
    int err;
};

static void refused(struct hf_task *task)
{
    struct refusal *refusal = hf_container_of(task, struct refusal, task);
    struct hf_meta_reply reply = {.err = refusal->err};

    refusal->done(refusal->ctx, &reply);
    free(refusal);
}

static void refuse(struct hf_replica *replica, hf_leader_done_fn done, void *ctx)
{
    struct refusal *refusal = calloc(1, sizeof(*refusal));

    HF_ASSERT_MEMORY(refusal);
    *refusal = (struct refusal){
        .task = {.fn = refused},
        .done = done,
        .ctx = ctx,
        .err = replica->closing ? -HF_ENOTREADY : -HF_ENOTLEADER,
    };
    hf_env_post(replica->env, &refusal->task);
}

void hf_replica_op(struct hf_replica *replica, bool read_only, const void *msg, size_t msg_len,
                   const void *bulk, size_t bulk_len, hf_leader_done_fn done, void *ctx)
{
    if (replica->leader) {
        hf_leader_op(replica->leader, read_only, msg, msg_len, bulk, bulk_len, done, ctx);
    } else {
        refuse(replica, done, ctx);
    }
}

void hf_replica_read(struct hf_replica *replica, const struct hf_meta_read *rd,
                     hf_leader_done_fn done, void *ctx)
{
    if (replica->leader) {
        hf_leader_read(replica->leader, rd, done, ctx);
    } else {
        refuse(replica, done, ctx);
    }
}

int hf_replica_heartbeat(struct hf_replica *replica, const struct hf_msg_heartbeat *beat,
                         struct hf_msg_heartbeat_reply *ret)
{
    if (!replica->leader || replica->failed) {
        return -HF_ENOTLEADER; /* of this one, who sends it would hear for ever */
    }
    hf_leader_heartbeat(replica->leader, beat, ret);
    return 0;
}

/* Looking */

const struct hf_map *hf_replica_map(const struct hf_replica *replica)
{
    return hf_meta_map(replica->meta);
}

struct hf_meta *hf_replica_meta(struct hf_replica *replica)
{
    return replica->meta;
}

bool hf_replica_leads(const struct hf_replica *replica)
{
    return replica->leader != NULL;
}

uint64_t hf_replica_digest(const struct hf_replica *replica)
{
    return hf_table_digest(replica->table);
}

uint32_t hf_replica_nodes(struct hf_replica *replica, struct hf_leader_node_info *ret, uint32_t max)
{
    return replica->leader ? hf_leader_nodes(replica->leader, ret, max) : 0;
}

void hf_replica_status(struct hf_replica *replica, struct hf_replica_status *ret)
{
    struct hf_leader *leader = replica->leader;

    *ret = (struct hf_replica_status){
        .applied_index = hf_meta_applied(replica->meta),
        .checkpoint_index = replica->checkpoint_index,
        .leads = leader != NULL,
        .failed = replica->failed,
    };
    if (leader) {
        ret->ready = hf_leader_serving(leader);
        ret->ops = leader->ops;
        ret->reads = leader->reads_done;
        ret->copied_objects = leader->copied_objects;
        ret->copied_bytes = leader->copied_bytes;
        ret->deleted_objects = leader->deleted_objects;
        ret->copy_left = hf_copier_left_bytes(leader);
        ret->copy_rate_bytes = hf_copier_rate_bytes(leader);
    }
}

uint32_t hf_replica_sessions(struct hf_replica *replica, struct hf_leader_session_info *ret,
                             uint32_t max)
{
    uint64_t now_ns = hf_env_boot_ns(replica->env);
    struct hf_session_id after = {0};
    uint32_t count = 0;

    while (replica->leader && count < max &&
           hf_meta_sessions(replica->meta, after, &ret[count].session, 1) == 1) {
        const struct hf_lsession *session =
            hf_sessions_find(replica->leader, ret[count].session.id);

        after = ret[count].session.id;
        ret[count].idle_ns = session ? now_ns - session->heard_ns : 0;
        ret[count].budget_bytes = session ? session->budget_bytes : 0;
        ret[count].open_files = session ? session->opens.count : 0;
        count++;
    }
    return count;
}
