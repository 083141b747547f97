/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.h - several drivers in one simulated world, over a network that delays, loses and cuts,
 * each under a state machine that keeps a list of numbers.
 *
 *     propose(value) ──► driver ──► list: truth[index] on every node, or one failed()
 *
 * Checked while it runs: every node applies the same entry at an index, a value is applied at one
 * index only, a proposal ends once, a read sees everything that was answered before it began, a
 * store abstains or is taken out only when the test damaged it.
 *
 * A checkpoint is DIR/state: position, configuration, list; DIR/state of another node is its
 * snapshot. Values that a machine proposes from within its callbacks keep the driver honest.
 */
#ifndef HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_H
#define HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_H

#include "tests/unit/server/raft/cluster_machine.h"

/* Nodes */

static inline int cl_read_state(struct cl_node *n)
{
    char *bytes = NULL;
    size_t len;
    int err = hf_disk_slurp(hf_env_disk(n->env), CL_DIR "/state", 64u << 20, &bytes, &len);

    memset(&n->state, 0, sizeof(n->state));
    if (!err) {
        assert_int_equal(cl_state_parse(n->c, bytes, len, &n->state), 0);
    }
    n->checkpoint = n->state;
    free(bytes);
    return err == -ENOENT ? 0 : err;
}

/* Errors: as the disk has them; the node stays down. */
static inline int cl_try_start(struct cl_node *n)
{
    struct cluster *c = n->c;
    struct hf_node_id members[CL_NODES_MAX];
    struct hf_raft_driver_options o = {
        .dir = CL_DIR,
        .cluster = {{1, 2, 3}},
        .self = n->id,
        .members = members,
        .member_count = n->member_count,
        .must_join = n->must_join,
        .segment_bytes = c->segment_bytes,
        .keep_bytes = c->keep_bytes,
        .pin_bytes = c->pin_bytes,
        .digest_every = c->digest_every,
        .machine = {.apply = cl_apply,
                    .members = cl_members,
                    .lead = cl_lead,
                    .follow = cl_follow,
                    .durable = cl_durable,
                    .failed = cl_machine_failed,
                    .digest = cl_digest,
                    .snapshot_save = cl_snapshot_save,
                    .snapshot_load = cl_snapshot_load,
                    .ctx = n},
        .net = {.send = cl_send, .ask = cl_ask, .ctx = n},
    };
    struct hf_raft_driver_status status;
    char *error = NULL;
    int err;

    assert_null(n->driver);
    for (uint32_t i = 0; i < CL_NODES_MAX; i++) {
        members[i].v = (uint16_t)(i + 1);
    }
    n->checkpointing = n->leading = n->failed = n->closing = false;
    n->load = NULL;
    n->since_checkpoint = 0;
    err = cl_read_state(n);
    if (err) {
        return err;
    }
    if (!n->pool) {
        assert_int_equal(hf_bufpool_new(64u << 20, 0, &n->pool), 0);
    }
    o.pool = n->pool;
    o.applied = (struct hf_raft_snapshot){
        .index = n->state.index, .term = n->state.term, .config = n->state.config};
    err = hf_raft_driver_open(n->env, &o, &n->driver, &error);
    if (err) {
        n->driver = NULL;
        if (getenv("HF_TEST_LOG")) {
            (void)fprintf(stderr, "open of %u: %s\n", n->id.v, error ? error : "?");
        }
        free(error);
        return err;
    }
    assert_null(error);
    hf_raft_driver_status(n->driver, &status);
    if (status.abstaining) {
        assert_true(n->damaged); /* else the driver imagines a loss */
        n->damaged = true;
    }
    hf_raft_driver_start(n->driver);
    return 0;
}

static inline void cl_start(struct cl_node *n)
{
    assert_int_equal(cl_try_start(n), 0);
}

/* What it had under way is gone; proposals that were pending may or may not be committed. */
static inline void cl_forget(struct cl_node *n)
{
    struct cluster *c = n->c;
    struct cl_packet *next;

    for (struct cl_packet *p = c->packets; p; p = next) {
        next = p->next;
        /* stage one and questions live with the sender, stage two with the receiver */
        if (p->done || p->release ? p->from == n->id.v : p->to == n->id.v) {
            cl_packet_free(p);
        }
    }
    for (uint64_t v = 1; v <= c->last_value; v++) {
        if (c->proposals[v].node == n && c->proposals[v].end == CL_PENDING) {
            hf_sim_abandon(c->proposals[v].bulk);
            c->proposals[v].bulk = NULL;
            cl_end(&c->proposals[v], CL_GONE, 0);
        }
    }
    for (struct cl_read *r = c->reads, *after; r; r = after) {
        after = r->next;
        if (r->node == n) {
            hf_sim_abandon(r);
            cl_read_unlink(r);
        }
    }
}

enum cl_kill { CL_CRASH, CL_POWER };

static inline void cl_kill(struct cl_node *n, enum cl_kill how)
{
    struct hf_sim_disk *disk = hf_sim_disk(n->env);

    hf_sim_kill_env(n->env);
    if (n->driver) {
        hf_sim_abandon(n->driver);
        cl_forget(n);
    }
    n->driver = NULL;
    n->leading = false;
    if (n->pool) {
        hf_sim_abandon(n->pool);
        n->pool = NULL;
    }
    if (how == CL_POWER || hf_sim_disk_is_off(disk)) {
        hf_sim_disk_power_cut(disk, HF_SIM_CUT_RANDOM);
        hf_sim_disk_restart(disk);
    }
    hf_sim_disk_clear_faults(disk);
}

static inline void cl_closed(void *ctx)
{
    struct cl_node *n = ctx;

    n->driver = NULL;
    n->closing = false;
}

static inline bool cl_is_down(void *ctx)
{
    return ((struct cl_node *)ctx)->driver == NULL;
}

static inline void cl_check_ended(struct cl_node *n)
{
    for (uint64_t v = 1; v <= n->c->last_value; v++) {
        assert_false(n->c->proposals[v].node == n && n->c->proposals[v].end == CL_PENDING);
    }
    for (struct cl_read *r = n->c->reads; r; r = r->next) {
        assert_ptr_not_equal(r->node, n);
    }
}

static inline bool cl_machine_idle(void *ctx)
{
    struct cl_node *n = ctx;

    return !n->checkpointing && !n->load;
}

static inline void cl_close(struct cl_node *n)
{
    const bool led = n->leading;

    if (!n->driver) {
        return;
    }
    n->closing = false;
    hf_raft_driver_close(n->driver, cl_closed, n);
    n->closing = true;
    assert_false(led && n->leading && !n->failed);
    assert_true(hf_sim_run_until(n->c->sim, cl_is_down, n, 60 * SEC));
    assert_true(hf_sim_run_until(n->c->sim, cl_machine_idle, n, 60 * SEC));
    cl_check_ended(n);
}

static inline struct hf_raft_driver_status cl_status(struct cl_node *n)
{
    struct hf_raft_driver_status status = {.state = HF_RAFT_CLOSING};

    if (n->driver) {
        hf_raft_driver_status(n->driver, &status);
    }
    return status;
}

static inline int cl_list_name(void *ctx, const char *name)
{
    char *list = ctx;

    assert_true(strlen(list) + strlen(name) + 2 < 4096);
    strcat(strcat(list, name), "/");
    return 0;
}

/* All files of a directory are gone. */
static inline void cl_wipe(struct cl_node *n, const char *dir)
{
    struct hf_disk *disk = hf_env_disk(n->env);
    char names[4096] = "", path[300];
    char *save = NULL;

    hf_sweep_hold();
    (void)hf_disk_list(disk, dir, cl_list_name, names); /* none if there is no directory */
    for (char *name = strtok_r(names, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        (void)hf_disk_unlink(disk, path);
    }
    hf_sweep_release();
    assert_int_equal(hf_disk_sync_dir(disk, dir), 0);
}

/* Clusters */

static inline void cl_step(void *ctx)
{
    struct cluster *c = ctx;

    if (c->steps++ % 64) {
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        struct hf_raft_driver *d = c->nodes[i].driver;

        if (d) {
            hf_raft_driver_check_invariants(d);
        }
        if (d && d->raft && d->state == HF_RAFT_RUNNING && !d->incoming.installing) {
            uint64_t index = hf_raft_base_index(d->raft) + 1;

            hf_raft_check_invariants(d->raft);
            for (; index <= hf_raft_last_index(d->raft); index++) {
                const struct raft_item *item = raft_items_get(&d->items, index);
                uint64_t term = 0;

                assert_non_null(item);
                assert_int_equal(hf_raft_term_at(d->raft, index, &term), 0);
                assert_int_equal(item->entry.term, term);
                assert_true(index > d->applied || !item->proposal);
            }
            assert_int_equal(d->applied, c->nodes[i].state.index);
        }
    }
}

static inline void cl_no_line(void *ctx, const char *line)
{
    (void)ctx;
    if (getenv("HF_TEST_LOG")) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static inline struct cluster *cl_new(uint64_t seed, uint32_t count)
{
    struct cluster *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    hf_log_set_sink(cl_no_line, NULL);
    c->sim = hf_sim_new(seed);
    c->count = count;
    c->delay_max_ns = MSEC;
    c->segment_bytes = 256u << 10;
    c->checkpoint_every = 50;
    c->digest_every = 7;
    c->proposals = calloc(CL_VALUES_MAX, sizeof(*c->proposals));
    for (uint32_t i = 0; i < count; i++) {
        char host[32];

        (void)snprintf(host, sizeof(host), "10.0.0.%u", i + 1);
        c->nodes[i].c = c;
        c->nodes[i].id.v = (uint16_t)(i + 1);
        c->nodes[i].env = i ? hf_sim_add_env(c->sim, host) : hf_sim_env(c->sim);
        c->nodes[i].member_count = count;
        assert_int_equal(hf_disk_mkdir(hf_env_disk(c->nodes[i].env), CL_DIR), 0);
    }
    hf_sim_on_step(c->sim, cl_step, c);
    return c;
}

static inline void cl_start_all(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (!c->nodes[i].driver) {
            cl_start(&c->nodes[i]);
        }
    }
}

static inline void cl_free(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        cl_close(&c->nodes[i]);
    }
    hf_sim_run_ns(c->sim, SEC);
    while (c->packets) {
        cl_packet_free(c->packets);
    }
    for (uint32_t i = 0; i < c->count; i++) {
        hf_bufpool_free(c->nodes[i].pool);
    }
    assert_null(c->reads);
    free(c->proposals);
    hf_sim_free(c->sim);
    free(c);
}

static inline struct cl_node *cl_leader(struct cluster *c)
{
    struct cl_node *best = NULL;

    for (uint32_t i = 0; i < c->count; i++) {
        struct cl_node *n = &c->nodes[i];

        if (n->driver && n->leading && (!best || cl_status(n).term > cl_status(best).term)) {
            best = n;
        }
    }
    return best;
}

static inline bool cl_has_leader(void *ctx)
{
    return cl_leader(ctx) != NULL;
}

static inline struct cl_node *cl_wait_leader(struct cluster *c)
{
    assert_true(hf_sim_run_until(c->sim, cl_has_leader, c, 60 * SEC));
    return cl_leader(c);
}

static inline struct cl_node *cl_other(struct cluster *c, const struct cl_node *than)
{
    return than == &c->nodes[0] ? &c->nodes[1] : &c->nodes[0];
}

/* All up, whole, voters, and applied the same. */
static inline bool cl_all_equal(void *ctx)
{
    struct cluster *c = ctx;
    const struct cl_node *leader = cl_leader(c);

    for (uint32_t i = 0; leader && i < c->count; i++) {
        const struct cl_node *n = &c->nodes[i];

        if (!n->driver || n->failed || n->load || n->state.index != leader->state.index ||
            n->state.index != c->truth_last || hf_raft_driver_leader(n->driver).v != leader->id.v ||
            cl_status(&c->nodes[i]).abstaining ||
            cl_status(&c->nodes[i]).state != HF_RAFT_RUNNING ||
            cl_status(&c->nodes[i]).last_index != n->state.index) {
            return false;
        }
    }
    return leader != NULL;
}

/* One more value gets through; then every node holds everything that was answered. */
static inline void cl_settle(struct cluster *c)
{
    struct cl_proposal *p = NULL;

    for (uint32_t i = 0; i < 200 && !(p && p->end == CL_APPLIED); i++) {
        const bool chatty = c->chatty;

        c->chatty = false;
        p = cl_propose(cl_wait_leader(c));
        hf_sim_run_ns(c->sim, SEC);
        c->chatty = chatty;
    }
    assert_true(p && p->end == CL_APPLIED);
    c->chatty = false;
    if (!hf_sim_run_until(c->sim, cl_all_equal, c, 120 * SEC)) {
        for (uint32_t i = 0; i < c->count; i++) {
            const struct hf_raft_driver_status s = cl_status(&c->nodes[i]);

            (void)fprintf(stderr,
                          "node %u: state %d role %d term %llu leader %u abstain %d applied %llu "
                          "last %llu commit %llu durable %llu base %llu failed %d truth %llu\n",
                          i + 1, s.state, s.role, (unsigned long long)s.term, s.leader.v,
                          s.abstaining, (unsigned long long)c->nodes[i].state.index,
                          (unsigned long long)s.last_index, (unsigned long long)s.commit_index,
                          (unsigned long long)s.durable_index, (unsigned long long)s.base_index,
                          c->nodes[i].failed, (unsigned long long)c->truth_last);
        }
        fail_msg("the nodes do not become equal");
    }
    for (uint32_t i = 1; i < c->count; i++) {
        assert_int_equal(c->nodes[i].state.hash, c->nodes[0].state.hash);
        assert_int_equal(c->nodes[i].state.count, c->nodes[0].state.count);
    }
    for (uint64_t v = 1; v <= c->last_value; v++) {
        assert_int_not_equal(c->proposals[v].end, CL_PENDING);
        if (c->proposals[v].end == CL_APPLIED) {
            assert_in_range(c->value_index[v], 1, c->truth_last);
        }
    }
}

/* @count values at the leader, all applied. */
static inline void cl_fill(struct cluster *c, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct cl_node *n = cl_wait_leader(c);

        (void)cl_propose(n);
        if (i % 8 == 7) {
            hf_sim_run_ns(c->sim, 5 * MSEC);
        }
    }
    hf_sim_run_ns(c->sim, 100 * MSEC);
}

/* Stores that are lost, and members that lag */

static inline bool cl_is_whole(void *ctx)
{
    struct cl_node *n = ctx;
    const struct cl_node *leader = cl_leader(n->c);

    return leader && cl_status(n).state == HF_RAFT_RUNNING && !cl_status(n).abstaining &&
           hf_raft_config_has(&leader->state.config, n->id, HF_RAFT_VOTER) &&
           n->state.index == leader->state.index;
}

static inline void cl_comes_back(struct cl_node *n)
{
    n->damaged = true;
    cl_start(n);
    assert_true(hf_sim_run_until(n->c->sim, cl_is_whole, n, 60 * SEC));
    hf_sim_run_ns(n->c->sim, SEC);
    n->damaged = false;
}

enum cl_loss { CL_LOST_ALL, CL_LOST_VOTE, CL_LOST_LOG, CL_LOSSES };

static inline void cl_lose(struct cl_node *n, enum cl_loss loss)
{
    cl_kill(n, CL_POWER);
    if (loss != CL_LOST_LOG) {
        cl_wipe(n, CL_DIR "/vote");
    }
    if (loss != CL_LOST_VOTE) {
        cl_wipe(n, CL_DIR "/log");
    }
    if (loss == CL_LOST_ALL) {
        cl_wipe(n, CL_DIR);
    }
}

static inline void cl_lag(struct cluster *c, struct cl_node **ret_n)
{
    c->keep_bytes = 1000;
    c->checkpoint_every = 20;
    cl_start_all(c);
    cl_fill(c, 30);
    *ret_n = cl_other(c, cl_leader(c));
    cl_kill(*ret_n, CL_POWER);
    cl_fill(c, 100);
    hf_sim_run_ns(c->sim, 2 * SEC);
    cl_fill(c, 30);
}

#endif
