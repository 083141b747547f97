/* SPDX-License-Identifier: Apache-2.0 */
#include "server/node/meta_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"

struct hf_meta_log {
    struct hf_replica *replica;
    struct hf_raft_driver *driver;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* From the replica to the driver. Both have room for the other's part. */

struct proposal { /* in hf_mlog_proposal.impl */
    struct hf_raft_proposal raft;
    struct hf_mlog_proposal *mlog;
};
static_assert(sizeof(struct proposal) <= sizeof(((struct hf_mlog_proposal *)0)->impl), "room");

struct read { /* in hf_mlog_read.impl */
    struct hf_raft_read raft;
    struct hf_mlog_read *mlog;
};
static_assert(sizeof(struct read) <= sizeof(((struct hf_mlog_read *)0)->impl), "room");

static void proposal_failed(struct hf_raft_proposal *raft, int err)
{
    struct hf_mlog_proposal *mlog = hf_container_of(raft, struct proposal, raft)->mlog;

    mlog->failed(mlog, err);
}

static void propose(void *ctx, struct hf_mlog_proposal *mlog)
{
    struct hf_meta_log *log = ctx;
    struct proposal *proposal = (struct proposal *)(void *)mlog->impl;

    *proposal = (struct proposal){
        .raft = {.msg = mlog->msg,
                 .bulk = mlog->bulk,
                 .msg_len = mlog->msg_len,
                 .bulk_len = mlog->bulk_len,
                 .failed = proposal_failed},
        .mlog = mlog,
    };
    hf_raft_driver_propose(log->driver, &proposal->raft);
}

static void read_done(struct hf_raft_read *raft, int err)
{
    struct hf_mlog_read *mlog = hf_container_of(raft, struct read, raft)->mlog;

    mlog->done(mlog, err);
}

static void read(void *ctx, struct hf_mlog_read *mlog)
{
    struct hf_meta_log *log = ctx;
    struct read *r = (struct read *)(void *)mlog->impl;

    *r = (struct read){.raft = {.done = read_done}, .mlog = mlog};
    hf_raft_driver_read(log->driver, &r->raft);
}

static void checkpointed(void *ctx, uint64_t index)
{
    hf_raft_driver_checkpointed(((struct hf_meta_log *)ctx)->driver, index);
}

static uint64_t durable(void *ctx)
{
    return hf_raft_driver_durable(((struct hf_meta_log *)ctx)->driver);
}

static void give_up(void *ctx, int err)
{
    hf_raft_driver_give_up(((struct hf_meta_log *)ctx)->driver, err);
}

/* From the driver to the replica */

static int apply(void *ctx, const struct hf_raft_entry *entry, struct hf_raft_proposal *raft)
{
    static const enum hf_mlog_kind kinds[] = {
        [HF_RAFT_ENTRY_NOOP] = HF_MLOG_NOOP,
        [HF_RAFT_ENTRY_NORMAL] = HF_MLOG_OP,
        [HF_RAFT_ENTRY_CONFIG] = HF_MLOG_MEMBERS,
    };
    struct hf_meta_log *log = ctx;
    const struct hf_mlog_entry out = {
        .index = entry->index,
        .term = entry->term,
        .time_ns = entry->time_ns,
        .kind = HF_BUG(members_not_kept) && entry->type == HF_RAFT_ENTRY_CONFIG
                    ? HF_MLOG_NOOP
                    : kinds[entry->type],
        .msg = entry->msg,
        .bulk = entry->bulk,
        .msg_len = entry->msg_len,
        .bulk_len = entry->bulk_len,
    };

    return hf_replica_apply(log->replica, &out,
                            raft ? hf_container_of(raft, struct proposal, raft)->mlog : NULL);
}

static void members(void *ctx, const struct hf_raft_config *config)
{
    uint8_t bytes[HF_RAFT_CONFIG_BYTES_MAX];
    size_t len = hf_raft_config_encode(config, bytes);

    hf_replica_set_members(((struct hf_meta_log *)ctx)->replica, bytes, len);
}

static int lead(void *ctx, uint64_t term)
{
    (void)term;
    return hf_replica_lead(((struct hf_meta_log *)ctx)->replica);
}

static void follow(void *ctx)
{
    hf_replica_follow(((struct hf_meta_log *)ctx)->replica);
}

static void more_durable(void *ctx)
{
    hf_replica_durable(((struct hf_meta_log *)ctx)->replica);
}

static void failed(void *ctx, int err)
{
    hf_replica_log_failed(((struct hf_meta_log *)ctx)->replica, err);
}

static uint64_t digest(void *ctx)
{
    return hf_replica_digest(((struct hf_meta_log *)ctx)->replica);
}

static int snapshot_of(const struct hf_mlog_position *position, struct hf_raft_snapshot *ret)
{
    *ret = (struct hf_raft_snapshot){.index = position->index, .term = position->term};
    return position->members_len == 0
               ? 0
               : hf_raft_config_decode(position->members, position->members_len, &ret->config);
}

struct save {
    void (*done)(void *arg, int err, const struct hf_raft_snapshot *snapshot);
    void *arg;
};

static void saved(void *arg, int err, const struct hf_mlog_position *position, uint64_t bytes)
{
    struct save *save = arg;
    struct hf_raft_snapshot snapshot;

    err = err ? err : snapshot_of(position, &snapshot);
    if (!err) {
        snapshot.total_bytes = bytes;
    }
    save->done(save->arg, err, err ? NULL : &snapshot);
    free(save);
}

static void snapshot_save(void *ctx, const char *path,
                          void (*done)(void *arg, int err, const struct hf_raft_snapshot *snapshot),
                          void *arg)
{
    struct hf_meta_log *log = ctx;
    struct save *save = malloc(sizeof(*save));

    HF_ASSERT_MEMORY(save);
    *save = (struct save){done, arg};
    hf_replica_save(log->replica, path, saved, save);
}

static void snapshot_load(void *ctx, const char *path, uint64_t index, uint64_t term,
                          const struct hf_raft_config *config, void (*done)(void *arg, int err),
                          void *arg)
{
    struct hf_meta_log *log = ctx;

    (void)term; /* both are in the file as well */
    (void)config;
    hf_replica_load(log->replica, path, index, done, arg);
}

/* Lifecycle */

int hf_meta_log_open(struct hf_env *env, struct hf_replica *replica,
                     const struct hf_meta_log_options *options, struct hf_meta_log **ret,
                     char **ret_error)
{
    struct hf_meta_log *log = calloc(1, sizeof(*log));
    struct hf_raft_driver_options raft = {
        .dir = options->dir,
        .cluster = options->cluster,
        .self = options->self,
        .members = options->members,
        .member_count = options->member_count,
        .must_join = options->must_join,
        .segment_bytes = options->segment_bytes,
        .keep_bytes = options->keep_bytes,
        .digest_every = options->digest_every,
        .election_ns = options->election_ns,
        .heartbeat_ns = options->heartbeat_ns,
        .pool = options->pool,
        .machine = {.apply = apply,
                    .members = members,
                    .lead = lead,
                    .follow = follow,
                    .durable = more_durable,
                    .failed = failed,
                    .digest = digest,
                    .snapshot_save = snapshot_save,
                    .snapshot_load = snapshot_load,
                    .ctx = log},
        .net = options->net,
    };
    struct hf_mlog_position position;
    int err;

    *ret_error = NULL;
    if (!log) {
        return -ENOMEM;
    }
    log->replica = replica;
    hf_replica_position(replica, &position);
    err = snapshot_of(&position, &raft.applied);
    err = err ? err : hf_raft_driver_open(env, &raft, &log->driver, ret_error);
    if (err) {
        free(log);
        return err;
    }
    hf_replica_attach(replica, &(struct hf_mlog){.propose = propose,
                                                 .read = read,
                                                 .checkpointed = checkpointed,
                                                 .durable = durable,
                                                 .give_up = give_up,
                                                 .ctx = log});
    *ret = log;
    return 0;
}

void hf_meta_log_start(struct hf_meta_log *log)
{
    hf_raft_driver_start(log->driver);
}

static void closed(void *ctx)
{
    struct hf_meta_log *log = ctx;
    void (*done)(void *) = log->closed;
    void *done_ctx = log->closed_ctx;

    free(log);
    done(done_ctx);
}

void hf_meta_log_close(struct hf_meta_log *log, void (*done)(void *ctx), void *ctx)
{
    log->closed = done;
    log->closed_ctx = ctx;
    hf_raft_driver_close(log->driver, closed, log);
}

void hf_meta_log_abandon(struct hf_meta_log *log)
{
    if (log) {
        hf_raft_driver_abandon(log->driver);
        free(log);
    }
}

struct hf_raft_driver *hf_meta_log_driver(struct hf_meta_log *log)
{
    return log->driver;
}
