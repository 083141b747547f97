/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: what the disk says this node is; arriving messages; closing.
 */
#include "server/raft/driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

static_assert(sizeof(struct hf_raft_config) >= 4 + 4 * HF_RAFT_MEMBERS_MAX,
              "the core counts no less than an entry with a configuration takes");

#define CLOSE_POLL_NS (2 * HF_NS_PER_MS)
#define MEMBERS_NS    HF_NS_PER_SEC

/* Opening */

static int say(char **ret_error, int err, const char *dir, const char *what)
{
    if (!*ret_error && asprintf(ret_error, "metadata in %s: %s", dir, what) < 0) {
        *ret_error = NULL;
    }
    return err;
}

static bool only_voter(const struct hf_raft_driver *d)
{
    const struct hf_raft_config *config = &d->options.applied.config;
    uint32_t voters = 0;

    if (config->count == 0) {
        return d->options.member_count == 1;
    }
    for (uint32_t i = 0; i < config->count; i++) {
        voters += config->members[i].kind == HF_RAFT_VOTER;
    }
    return voters == 1 && hf_raft_config_has(config, d->options.self, HF_RAFT_VOTER);
}

static uint64_t fresh_incarnation(struct hf_raft_driver *d)
{
    uint64_t number;

    do {
        number = hf_env_random_u64(d->env);
    } while (number == 0);
    return number;
}

static void empty_log(struct hf_raft_driver *d)
{
    raft_items_reset(&d->items, d->options.applied.index + 1);
    d->drop_log = d->unsaved = true;
}

/* The log must reach the checkpoint and agree with it; else what it acknowledged is gone, unless a
 * snapshot was being installed. */
static bool log_fits(struct hf_raft_driver *d)
{
    const struct hf_raft_snapshot *applied = &d->options.applied;
    const uint64_t last = d->items.first ? raft_items_last(&d->items) : 0;
    const struct raft_item *item = raft_items_get(&d->items, applied->index);
    const bool fits = last >= applied->index &&
                      (d->items.first == 0 || d->items.first <= applied->index + 1) &&
                      (!item || item->entry.term == applied->term);

    if (!fits && d->hard.install_index == applied->index && applied->index > 0) {
        empty_log(d);
        return true;
    }
    return fits;
}

/* The cluster is this node, as far as no checkpoint says otherwise. */
static void alone(struct hf_raft_driver *d)
{
    d->hard.founders[0] = (struct hf_raft_founder){d->options.self, d->hard.incarnation};
    d->hard.founder_count = 1;
    d->hard.state = HF_RAFT_STORE_FOUNDED;
    d->unsaved = true;
}

static int judge(struct hf_raft_driver *d, const struct raft_disk_found *found, char **ret_error)
{
    const bool was_member = !found->log_empty || d->options.applied.index > 0 || found->vote_lost;
    /* Of entries that it has, the record that it is new knows nothing: what came after it is lost.
     */
    const bool forgot =
        d->hard.state == HF_RAFT_STORE_NEW && (d->items.count > 0 || d->options.applied.index > 0);
    const bool no_vote = found->vote_lost || forgot || (d->hard.incarnation == 0 && was_member);
    /* A store that takes part has a record in its log from the beginning. */
    const bool none = d->hard.state == HF_RAFT_STORE_FOUNDED && found->log_empty;
    const bool no_log = d->hard.state != HF_RAFT_STORE_NEW && d->hard.incarnation != 0 &&
                        (none || found->log_lost || !log_fits(d));

    if (d->hard.incarnation && d->hard.node.v != d->options.self.v) {
        (void)asprintf(ret_error,
                       "metadata in %s belong to node %u, this is node %u: is the directory a copy "
                       "of another node's? Give each node its own",
                       d->dir, d->hard.node.v, d->options.self.v);
        return -HF_EWRONGCLUSTER;
    }
    d->hard.node = d->options.self;
    if (d->hard.taken_out) { /* whatever else is wrong with it */
        d->known = true;
        return 0;
    }
    if ((no_log || (no_vote && (found->log_lost || !log_fits(d)))) && only_voter(d)) {
        return say(ret_error, -EBADMSG, d->dir,
                   "entries that were acknowledged are missing from the log or unreadable, and no "
                   "other node has them: restore the metadata directory from a copy");
    }
    if (no_vote && only_voter(d)) {
        hf_log(HF_LOG_WARN, "raft", "vote lost", "what=\"nobody else votes: it does not matter\"");
        d->hard.incarnation = fresh_incarnation(d);
        alone(d);
    } else if (no_vote || no_log) {
        hf_log(
            HF_LOG_ERROR, "raft", "store damaged",
            "node=%u lost=\"%s\" what=\"what it promised is not known any more: it neither votes "
            "nor acknowledges until the leader has brought it up to date\"",
            d->options.self.v, no_vote ? "vote" : "log");
        d->hard.state = HF_RAFT_STORE_JOINING;
        d->hard.abstain = true;
        empty_log(d);
    }
    if (d->hard.abstain) { /* a new life: what an earlier one acknowledged is not believed of it */
        d->hard.incarnation = fresh_incarnation(d);
        d->unsaved = true;
    }
    if (d->hard.incarnation == 0) {
        d->hard.incarnation = fresh_incarnation(d);
        d->hard.state = HF_RAFT_STORE_NEW;
        d->unsaved = true;
    }
    if (d->hard.install_index && !d->drop_log) { /* it came to its end, or to nothing */
        d->hard.install_index = 0;
        d->unsaved = true;
    }
    d->known = d->hard.state != HF_RAFT_STORE_NEW;
    return 0;
}

static void fill_heads(const struct hf_raft_driver *d, struct hf_raft_head *heads,
                       struct hf_raft_config *configs)
{
    for (uint64_t i = 0; i < d->items.count; i++) {
        const struct raft_item *item = raft_items_get(&d->items, d->items.first + i);

        heads[i] = (struct hf_raft_head){
            .term = item->entry.term, .bytes = item->bytes, .type = item->entry.type};
        if (item->entry.type == HF_RAFT_ENTRY_CONFIG) {
            HF_ASSERT(hf_raft_config_decode(item->entry.msg, item->entry.msg_len, configs) == 0);
            heads[i].config = configs++;
        }
    }
}

static uint64_t count_configs(const struct hf_raft_driver *d)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < d->items.count; i++) {
        count += raft_items_get(&d->items, d->items.first + i)->entry.type == HF_RAFT_ENTRY_CONFIG;
    }
    return count;
}

int raft_driver_core_new(struct hf_raft_driver *d, const struct hf_raft_config *config)
{
    const struct hf_raft_options options = {
        .self = d->options.self,
        .seed = hf_env_random_u64(d->env),
        .incarnation = d->hard.incarnation,
        .abstain = d->hard.abstain,
        .election_timeout_ns = d->options.election_ns,
        .heartbeat_ns = d->options.heartbeat_ns,
        .lease_ns = d->options.election_ns / 5 * 2,
        .batch_entries_max = RAFT_BATCH_ENTRIES_MAX,
        .batch_bytes_max = RAFT_BATCH_BYTES_MAX,
        .inflight_msgs_max = RAFT_INFLIGHT_MSGS_MAX,
        .inflight_bytes_max = RAFT_INFLIGHT_BYTES_MAX,
        .window_entries_max = RAFT_WINDOW_ENTRIES_MAX,
        .window_bytes_max = RAFT_WINDOW_BYTES_MAX,
        .log_entries_max = RAFT_LOG_ENTRIES_MAX,
        .head_bytes = HF_RAFT_ENTRY_HEAD_BYTES,
        .snapshot_chunk_bytes = RAFT_CHUNK_BYTES,
        .promote_lag_max = RAFT_PROMOTE_LAG_MAX,
    };
    struct hf_raft_head *heads = calloc(d->items.count + 1, sizeof(*heads));
    struct hf_raft_config *configs = calloc(count_configs(d) + 1, sizeof(*configs));
    struct hf_raft_start start = {
        .term = d->hard.term,
        .vote = d->hard.vote,
        .snapshot_index = d->options.applied.index,
        .snapshot_term = d->options.applied.term,
        .config = d->options.applied.index ? d->options.applied.config : *config,
        .first_index = d->items.first ? d->items.first : d->options.applied.index + 1,
        .heads = heads,
        .count = d->items.count,
    };
    bool drop = false;
    int err = heads && configs ? 0 : -ENOMEM;

    if (!err) {
        fill_heads(d, heads, configs);
        err = hf_raft_new(&options, &start, &d->raft, &drop);
    }
    HF_ASSERT(err || !drop); /* judge() saw to that */
    if (!err && d->options.applied.index == 0 && config->count > 0) {
        d->options.machine.members(d->options.machine.ctx, config);
    }
    free(heads);
    free(configs);
    return err;
}

static void founders_config(const struct hf_raft_driver *d, struct hf_raft_config *ret)
{
    *ret = (struct hf_raft_config){.count = d->hard.founder_count};
    for (uint32_t i = 0; i < d->hard.founder_count; i++) {
        ret->members[i] = (struct hf_raft_member){d->hard.founders[i].node, HF_RAFT_VOTER};
    }
}

static int open_state(struct hf_raft_driver *d, char **ret_error)
{
    const struct raft_disk_options options = {
        .dir = d->dir, .cluster = d->options.cluster, .segment_bytes = d->options.segment_bytes};
    struct raft_disk_found found;
    struct hf_raft_config config;
    int err = hf_disk_mkdir(hf_env_disk(d->env), d->dir);

    raft_transfer_clean(d);
    err = err ? err : raft_disk_open(d->env, &options, &d->items, &found, &d->disk, ret_error);
    if (err) {
        return err;
    }
    d->hard = found.hard;
    err = judge(d, &found, ret_error);
    if (err) {
        return err;
    }
    if (!d->known && d->options.member_count == 1) {
        if (d->options.must_join) {
            return say(ret_error, -ENOENT, d->dir,
                       "the cluster's metadata are missing, and this node was part of it already; "
                       "put the directory back, or, to begin with nothing, remove the data "
                       "directories of all nodes");
        }
        alone(d); /* founded without asking anybody */
        empty_log(d);
        d->known = true;
    }
    for (uint64_t i = 0; i < d->items.count; i++) {
        const uint64_t time_ns = raft_items_get(&d->items, d->items.first + i)->entry.time_ns;

        d->last_time_ns = time_ns > d->last_time_ns ? time_ns : d->last_time_ns;
    }
    if (d->items.first == 0) {
        raft_items_reset(&d->items, d->options.applied.index + 1);
    }
    founders_config(d, &config);
    return d->known && !d->hard.taken_out ? raft_driver_core_new(d, &config) : 0;
}

static void tick(void *ctx)
{
    struct hf_raft_driver *d = ctx;
    struct hf_raft_event event = {.type = HF_RAFT_EV_TICK};

    (void)raft_driver_step(d, &event, NULL);
    d->queue_waits = false;
    raft_requests_pump(d);
}

static void second(void *ctx)
{
    struct hf_raft_driver *d = ctx;

    if (d->state == HF_RAFT_FOUNDING) {
        raft_found_tick(d);
        hf_timer_arm(&d->second, MEMBERS_NS / 2);
    } else if (raft_driver_runs(d)) {
        raft_members_tick(d);
        raft_found_greet(d);
        raft_pins_tick(d);
        hf_timer_arm(&d->second, MEMBERS_NS);
    }
}

int hf_raft_driver_open(struct hf_env *env, const struct hf_raft_driver_options *options,
                        struct hf_raft_driver **ret, char **ret_error)
{
    struct hf_raft_driver *d = calloc(1, sizeof(*d));
    int err;

    *ret_error = NULL;
    if (!d) {
        return -ENOMEM;
    }
    HF_ASSERT(options->member_count <= HF_RAFT_MEMBERS_MAX);
    d->env = env;
    d->options = *options;
    (void)snprintf(d->dir, sizeof(d->dir), "%s", options->dir);
    d->options.dir = d->dir;
    memcpy(d->members, options->members, options->member_count * sizeof(d->members[0]));
    d->options.members = d->members;
    d->options.segment_bytes =
        options->segment_bytes ? options->segment_bytes : HF_RAFT_SEGMENT_BYTES;
    d->options.keep_bytes = options->keep_bytes ? options->keep_bytes : HF_RAFT_KEEP_BYTES;
    d->options.pin_bytes = options->pin_bytes ? options->pin_bytes : HF_RAFT_PIN_BYTES;
    d->options.digest_every = options->digest_every ? options->digest_every : HF_RAFT_DIGEST_EVERY;
    d->options.election_ns = options->election_ns ? options->election_ns : HF_RAFT_ELECTION_NS;
    d->options.heartbeat_ns = options->heartbeat_ns ? options->heartbeat_ns : HF_RAFT_HEARTBEAT_NS;
    d->applied = options->applied.index;
    d->run.fn = raft_driver_run;
    hf_timer_init(&d->tick, env, tick, d);
    hf_timer_init(&d->second, env, second, d);
    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        d->heard_err[i] = 1;
    }
    err = open_state(d, ret_error);
    if (err) {
        (void)say(ret_error, err, d->dir, hf_err_text(err));
        hf_raft_driver_abandon(d);
        return err;
    }
    *ret = d;
    return 0;
}

/* Taking part */

void raft_driver_go(struct hf_raft_driver *d)
{
    d->state = HF_RAFT_RUNNING;
    hf_timer_arm(&d->second, MEMBERS_NS);
    raft_found_greet(d);
    tick(d);
}

static void saved(struct hf_raft_driver *d, int err)
{
    if (err) {
        raft_driver_fail(d, err, "the vote cannot be written");
    } else if (d->state == HF_RAFT_FOUNDING) {
        d->known = true;
        raft_driver_go(d);
    }
}

static void log_begun(struct raft_write *write, int err)
{
    struct hf_raft_driver *d = write->ctx;

    free(write);
    d->writes--;
    if (err) {
        raft_driver_fail(d, err, "the log cannot be emptied");
        return;
    }
    if (d->state == HF_RAFT_FOUNDING) {
        d->hard.install_index = 0;
        raft_driver_persist(d, saved);
    }
}

void raft_driver_begin(struct hf_raft_driver *d)
{
    struct raft_write *write = calloc(1, sizeof(*write));

    HF_ASSERT_MEMORY(write);
    *write = (struct raft_write){.done = log_begun, .ctx = d};
    d->writes++;
    raft_disk_reset(d->disk, d->options.applied.index, write);
}

void hf_raft_driver_start(struct hf_raft_driver *d)
{
    hf_assert_loop(d->env);
    HF_ASSERT(!d->started);
    d->started = true;
    if (d->hard.taken_out) {
        raft_digests_stay_out(d);
    } else if (!d->known) {
        raft_found_start(d);
    } else if (d->drop_log) {
        raft_driver_begin(d);
    } else if (d->unsaved) {
        raft_driver_persist(d, saved);
    } else {
        raft_driver_go(d);
    }
}

/* Messages */

static int parse_entries(const struct hf_raft_msg *msg, const struct hf_buf *bulk,
                         struct raft_item **items, struct hf_raft_head *heads,
                         struct hf_raft_config *configs)
{
    const uint8_t *at = bulk ? bulk->data : NULL;
    size_t left = bulk ? bulk->len_bytes : 0;
    uint32_t configs_used = 0;

    for (uint32_t i = 0; i < msg->u.append.count; i++) {
        size_t used;
        int err =
            left ? raft_item_parse(at, left, msg->u.append.prev_index + 1 + i, &items[i], &used)
                 : -EBADMSG;

        if (err) {
            return err;
        }
        at += used;
        left -= used;
        heads[i] = (struct hf_raft_head){
            .term = items[i]->entry.term, .bytes = items[i]->bytes, .type = items[i]->entry.type};
        if (heads[i].type == HF_RAFT_ENTRY_CONFIG) {
            if (configs_used == HF_RAFT_MEMBERS_MAX ||
                hf_raft_config_decode(items[i]->entry.msg, items[i]->entry.msg_len,
                                      &configs[configs_used]) != 0) {
                return -EBADMSG;
            }
            heads[i].config = &configs[configs_used++];
        }
    }
    return left ? -EBADMSG : 0;
}

void hf_raft_driver_received(struct hf_raft_driver *d, struct hf_node_id from, const void *msg,
                             size_t msg_len, struct hf_buf *bulk)
{
    struct hf_raft_config configs[HF_RAFT_MEMBERS_MAX];
    struct hf_raft_head heads[RAFT_BATCH_ENTRIES_MAX];
    struct raft_item *items[RAFT_BATCH_ENTRIES_MAX] = {NULL};
    struct raft_step_source source = {.items = items};
    struct hf_raft_event event = {.type = HF_RAFT_EV_RECV};
    struct hf_raft_msg m;
    int err;

    hf_assert_loop(d->env);
    if (!raft_driver_runs(d)) {
        return;
    }
    err = hf_raft_msg_decode(msg, msg_len, &m);
    if (!err && (m.from.v != from.v || m.to.v != d->options.self.v)) {
        err = -EBADMSG;
    }
    if (!err && m.type == HF_RAFT_MSG_APPEND) {
        source.count = m.u.append.count;
        err = source.count <= RAFT_BATCH_ENTRIES_MAX
                  ? parse_entries(&m, bulk, items, heads, configs)
                  : -EBADMSG;
        event.u.recv.heads = heads;
    } else if (!err && m.type == HF_RAFT_MSG_SNAPSHOT) {
        err = (bulk ? bulk->len_bytes : 0) == m.u.snapshot.len_bytes ? 0 : -EBADMSG;
        source.chunk = bulk;
    }
    if (!err) {
        event.u.recv.msg = &m;
        err = raft_driver_step(d, &event, &source);
    }
    for (uint32_t i = 0; i < source.count && i < RAFT_BATCH_ENTRIES_MAX; i++) {
        raft_item_unref(items[i]);
    }
    if (err == -EBADMSG) {
        hf_log(HF_LOG_WARN, "raft", "message refused", "from=%u", from.v);
    }
    raft_requests_pump(d);
}

void hf_raft_driver_unreachable(struct hf_raft_driver *d, struct hf_node_id peer)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_UNREACHABLE};

    event.u.unreachable.peer = peer;
    if (d->stepping) {
        return; /* a send found out; what is lost shows by itself */
    }
    (void)raft_driver_step(d, &event, NULL);
}

void hf_raft_driver_checkpointed(struct hf_raft_driver *d, uint64_t index)
{
    if (d->hard.install_index && !d->incoming.installing && raft_driver_runs(d)) {
        d->hard.install_index = 0; /* it came to nothing, and the state is no snapshot's now */
        raft_driver_persist(d, NULL);
    }
    d->trim_to = index > d->trim_to ? index : d->trim_to;
    raft_driver_run_soon(d);
}

/* Looking */

struct hf_node_id hf_raft_driver_leader(const struct hf_raft_driver *d)
{
    return d->raft && raft_driver_runs(d) ? hf_raft_leader(d->raft) : (struct hf_node_id){0};
}

uint64_t hf_raft_driver_durable(const struct hf_raft_driver *d)
{
    return d->raft ? hf_raft_durable_index(d->raft) : 0;
}

void hf_raft_driver_status(const struct hf_raft_driver *d, struct hf_raft_driver_status *ret)
{
    *ret = (struct hf_raft_driver_status){
        .state = d->state,
        .leading = d->leading,
        .term = d->hard.term,
        .abstaining = d->hard.abstain,
        .taken_out = d->hard.taken_out,
        .leader = hf_raft_driver_leader(d),
        .applied_index = d->applied,
        .log_bytes = d->disk ? raft_disk_bytes(d->disk) : 0,
        .kept_bytes = d->items.bytes,
        .syncs = d->syncs,
        .now_ns = hf_env_boot_ns(d->env),
    };
    memcpy(ret->waiting_for, d->waiting_for, sizeof(ret->waiting_for));
    if (!d->raft) {
        return;
    }
    ret->role = hf_raft_role(d->raft);
    ret->transferring = hf_raft_transferring(d->raft);
    ret->term = hf_raft_term(d->raft);
    ret->abstaining = hf_raft_abstaining(d->raft);
    ret->last_index = hf_raft_last_index(d->raft);
    ret->commit_index = hf_raft_commit_index(d->raft);
    ret->durable_index = hf_raft_durable_index(d->raft);
    ret->base_index = hf_raft_base_index(d->raft);
    ret->config = *hf_raft_config(d->raft, NULL);
    for (uint32_t i = 0; i < ret->config.count; i++) {
        (void)hf_raft_peer(d->raft, ret->config.members[i].id, &ret->peers[i]);
        for (uint32_t k = 0; k < d->options.member_count; k++) {
            if (d->members[k].v == ret->config.members[i].id.v) {
                ret->clock_ahead_s[i] = d->clock_ahead_s[k];
            }
        }
    }
    raft_digests_status(d, ret);
}

/* Closing */

static void driver_free(struct hf_raft_driver *d)
{
    hf_timer_fini(&d->tick);
    hf_timer_fini(&d->second);
    hf_timer_fini(&d->close_timer);
    raft_out_drop_all(d);
    hf_raft_free(d->raft);
    raft_disk_close(d->disk);
    raft_items_fini(&d->items);
    free(d);
}

static bool busy(const struct hf_raft_driver *d)
{
    return d->writes > 0 || d->sends > 0 || d->transfer_jobs > 0 || d->questions > 0 ||
           d->run.queued || !raft_disk_idle(d->disk);
}

static void close_poll(void *ctx)
{
    struct hf_raft_driver *d = ctx;
    void (*done)(void *) = d->close_done;
    void *done_ctx = d->close_ctx;

    if (busy(d)) {
        hf_timer_arm(&d->close_timer, CLOSE_POLL_NS);
        return;
    }
    driver_free(d);
    if (done) {
        done(done_ctx);
    }
}

void hf_raft_driver_close(struct hf_raft_driver *d, void (*done)(void *ctx), void *ctx)
{
    const bool led = d->leading;

    hf_assert_loop(d->env);
    HF_ASSERT(d->state != HF_RAFT_CLOSING && !d->stepping);
    d->state = HF_RAFT_CLOSING;
    d->close_done = done;
    d->close_ctx = ctx;
    d->leading = d->lead_due = false;
    hf_timer_disarm(&d->tick);
    hf_timer_disarm(&d->second);
    raft_out_drop_all(d);
    raft_requests_fail(d, -HF_ENOTREADY);
    raft_transfer_stop(d);
    if (led) {
        d->options.machine.follow(d->options.machine.ctx);
    }
    hf_timer_init(&d->close_timer, d->env, close_poll, d);
    hf_timer_arm(&d->close_timer, 0);
}

void hf_raft_driver_abandon(struct hf_raft_driver *d)
{
    if (!d) {
        return;
    }
    HF_ASSERT(!d->started);
    if (d->disk && !raft_disk_idle(d->disk)) { /* spare segments are being made */
        d->state = HF_RAFT_CLOSING;
        hf_timer_init(&d->close_timer, d->env, close_poll, d);
        hf_timer_arm(&d->close_timer, CLOSE_POLL_NS);
        return;
    }
    driver_free(d);
}
