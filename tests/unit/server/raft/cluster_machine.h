/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster_machine.h - proposals, reads, and the state machine of a node of cluster.h.
 */
#ifndef HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_MACHINE_H
#define HF_TESTS_UNIT_SERVER_RAFT_CLUSTER_MACHINE_H

#include "tests/sweep/sweep.h"
#include "tests/unit/server/raft/cluster_net.h"

/* Proposals and reads */

static inline void cl_failed(struct hf_raft_proposal *raft, int err);

/* NULL: the node is down, or there are enough of them. */
static inline struct cl_proposal *cl_propose_bytes(struct cl_node *n, uint32_t bulk_len)
{
    struct cluster *c = n->c;
    struct cl_proposal *p;

    if (!n->driver || n->closing || c->last_value + 1 >= CL_VALUES_MAX) {
        return NULL;
    }
    p = &c->proposals[++c->last_value];
    assert_int_equal(p->end, CL_FREE);
    *p = (struct cl_proposal){.node = n, .value = c->last_value, .end = CL_PENDING};
    p->bulk = malloc(bulk_len + 1);
    assert_non_null(p->bulk);
    memset(p->bulk, (int)p->value, bulk_len);
    p->raft = (struct hf_raft_proposal){
        .msg = &p->value,
        .msg_len = sizeof(p->value),
        .bulk = p->bulk,
        .bulk_len = bulk_len,
        .failed = cl_failed,
    };
    hf_raft_driver_propose(n->driver, &p->raft);
    assert_int_equal(p->end, CL_PENDING); /* never from within */
    return p;
}

static inline struct cl_proposal *cl_propose(struct cl_node *n)
{
    const uint64_t max = n->c->bulk_max;

    return cl_propose_bytes(n, max ? (uint32_t)hf_sim_random_below(n->c->sim, max) : 0);
}

static inline void cl_end(struct cl_proposal *p, enum cl_end end, int err)
{
    assert_int_equal(p->end, CL_PENDING);
    p->end = end;
    p->err = err;
    free(p->bulk); /* the driver has no business with it any more */
    p->bulk = NULL;
    memset(&p->raft, 0xee, sizeof(p->raft));
}

static inline void cl_read_done(struct hf_raft_read *raft, int err);

static inline void cl_read(struct cl_node *n)
{
    struct cl_read *r;

    if (!n->driver || n->closing) {
        return;
    }
    r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->node = n;
    r->must_see = n->c->acked_index;
    r->raft.done = cl_read_done;
    r->next = n->c->reads;
    if (r->next) {
        r->next->prev = r;
    }
    n->c->reads = r;
    hf_raft_driver_read(n->driver, &r->raft);
}

static inline void cl_read_unlink(struct cl_read *r)
{
    if (r->prev) {
        r->prev->next = r->next;
    } else {
        r->node->c->reads = r->next;
    }
    if (r->next) {
        r->next->prev = r->prev;
    }
}

/* Now and then, from within a callback. */
static inline void cl_chat(struct cl_node *n, uint32_t one_in)
{
    if (n->c->chatty && hf_sim_random_below(n->c->sim, one_in) == 0) {
        (void)cl_propose(n);
    }
    if (n->c->chatty && hf_sim_random_below(n->c->sim, one_in) == 0) {
        if (n->leading) { /* elsewhere it fails at once, and this would go on for ever */
            cl_read(n);
        }
    }
}

static inline void cl_read_done(struct hf_raft_read *raft, int err)
{
    struct cl_read *r = hf_container_of(raft, struct cl_read, raft);
    struct cl_node *n = r->node;

    if (!err) {
        assert_true(n->state.index >= r->must_see);
        n->c->reads_done++;
    } else {
        n->c->reads_failed++;
    }
    cl_read_unlink(r);
    free(r);
    cl_chat(n, 8);
}

static inline void cl_failed(struct hf_raft_proposal *raft, int err)
{
    struct cl_proposal *p = hf_container_of(raft, struct cl_proposal, raft);
    struct cl_node *n = p->node;

    assert_true(err == -HF_ENOTLEADER || err == -HF_ENOTREADY || err == -EIO);
    cl_end(p, CL_FAILED, err);
    cl_chat(n, 4);
}

/* The machine */

static inline uint64_t cl_hash(uint64_t hash, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        hash = (hash ^ (v & 0xff)) * UINT64_C(0x100000001b3);
        v >>= 8;
    }
    return hash;
}

static inline void cl_check_truth(struct cluster *c, const struct hf_raft_entry *e, uint64_t value)
{
    assert_true(e->index < CL_ENTRIES_MAX);
    if (e->index > c->truth_last) {
        assert_int_equal(e->index, c->truth_last + 1);
        c->truth_last = e->index;
        c->truth[e->index].term = e->term;
        c->truth[e->index].time_ns = e->time_ns;
        c->truth[e->index].value = value;
        c->truth[e->index].type = e->type;
        if (value) {
            assert_int_equal(c->value_index[value], 0); /* none twice */
            c->value_index[value] = e->index;
        }
    }
    assert_int_equal(c->truth[e->index].term, e->term);
    assert_int_equal(c->truth[e->index].time_ns, e->time_ns);
    assert_int_equal(c->truth[e->index].value, value);
    assert_int_equal(c->truth[e->index].type, e->type);
}

struct cl_checkpoint {
    struct hf_job job;
    struct cl_node *node;
    struct cl_state state;
    int err;
};

static inline void cl_checkpoint_run(struct hf_job *job)
{
    struct cl_checkpoint *k = hf_container_of(job, struct cl_checkpoint, job);
    const size_t pad = k->node->c->pad_bytes;
    uint8_t *bytes = calloc(1, sizeof(k->state) + pad);

    memcpy(bytes, &k->state, sizeof(k->state));
    memset(bytes + sizeof(k->state), (int)k->state.hash, pad);
    hf_sweep_hold();
    k->err =
        hf_disk_replace(hf_env_disk(k->node->env), CL_DIR "/state", bytes, sizeof(k->state) + pad);
    hf_sweep_release();
    free(bytes);
}

static inline void cl_checkpoint_done(struct hf_job *job)
{
    struct cl_checkpoint *k = hf_container_of(job, struct cl_checkpoint, job);
    struct cl_node *n = k->node;

    n->checkpointing = false;
    if (!k->err && n->driver && !n->closing) {
        n->checkpoint = k->state;
        hf_raft_driver_checkpointed(n->driver, k->state.index);
    }
    free(k);
}

static inline void cl_maybe_checkpoint(struct cl_node *n)
{
    struct cl_checkpoint *k;

    if (n->checkpointing || n->load || !n->driver || n->closing || n->failed ||
        n->since_checkpoint < n->c->checkpoint_every ||
        hf_raft_driver_durable(n->driver) < n->state.index) {
        return;
    }
    k = calloc(1, sizeof(*k));
    assert_non_null(k);
    k->node = n;
    k->state = n->state;
    k->job = (struct hf_job){.run = cl_checkpoint_run, .done = cl_checkpoint_done};
    n->since_checkpoint = 0;
    n->checkpointing = true;
    hf_env_submit(n->env, HF_POOL_DISK, &k->job);
}

static inline int cl_apply(void *ctx, const struct hf_raft_entry *e, struct hf_raft_proposal *raft)
{
    struct cl_node *n = ctx;
    struct cl_state *s = &n->state;
    uint64_t value = 0;

    assert_int_equal(e->index, s->index + 1);
    assert_true(e->term >= s->term);
    assert_false(n->failed || n->closing || n->load);
    if (e->type == HF_RAFT_ENTRY_NORMAL) {
        assert_int_equal(e->msg_len, sizeof(value));
        memcpy(&value, e->msg, sizeof(value));
        assert_in_range(value, 1, n->c->last_value);
        for (uint32_t i = 0; i < e->bulk_len; i++) {
            assert_int_equal(e->bulk[i], (uint8_t)value);
        }
        assert_true(s->count < CL_VALUES_MAX);
        s->values[s->count++] = value;
    } else if (e->type == HF_RAFT_ENTRY_CONFIG) {
        assert_int_equal(hf_raft_config_decode(e->msg, e->msg_len, &s->config), 0);
    }
    cl_check_truth(n->c, e, value);
    s->index = e->index;
    s->term = e->term;
    s->hash = cl_hash(cl_hash(s->hash, e->index), value);
    n->since_checkpoint++;
    if (raft) {
        struct cl_proposal *p = hf_container_of(raft, struct cl_proposal, raft);

        assert_int_equal(p->value, value);
        assert_ptr_equal(p->node, n);
        cl_end(p, CL_APPLIED, 0);
        n->c->acked_index = e->index > n->c->acked_index ? e->index : n->c->acked_index;
    }
    cl_maybe_checkpoint(n);
    cl_chat(n, 30);
    if (n->gives_up) {
        n->gives_up = false;
        hf_raft_driver_give_up(n->driver, -EBADMSG);
        assert_false(n->failed); /* when the step ends */
    }
    return 0;
}

static inline void cl_members(void *ctx, const struct hf_raft_config *config)
{
    struct cl_node *n = ctx;

    assert_int_equal(n->state.index, 0);
    n->state.config = *config;
}

static inline int cl_lead(void *ctx, uint64_t term)
{
    struct cl_node *n = ctx;

    assert_false(n->leading);
    assert_false(n->load != NULL);
    assert_true(n->state.index >= n->c->acked_index); /* all that any leader committed is applied */
    (void)term;
    if (n->cannot_lead) {
        n->cannot_lead = false;
        return -ENOMEM;
    }
    n->leading = true;
    n->leads++;
    cl_chat(n, 2);
    return 0;
}

static inline void cl_follow(void *ctx)
{
    struct cl_node *n = ctx;

    assert_true(n->leading);
    n->leading = false;
    n->follows++;
    /* Proposals have failed before, but for those made while they did. */
    for (uint64_t v = 1; !n->c->chatty && v <= n->c->last_value; v++) {
        assert_false(n->c->proposals[v].node == n && n->c->proposals[v].end == CL_PENDING);
    }
    cl_chat(n, 2);
}

static inline uint64_t cl_digest(void *ctx)
{
    const struct cl_node *n = ctx;

    assert_null(n->load);
    return n->state.hash + n->damage;
}

static inline void cl_durable(void *ctx)
{
    cl_maybe_checkpoint(ctx);
}

static inline void cl_machine_failed(void *ctx, int err)
{
    struct cl_node *n = ctx;

    assert_true(err < 0);
    assert_false(n->failed);
    assert_false(n->closing);
    assert_true(err != -HF_EDIFFERS || n->damage); /* else it imagines a difference */
    n->failed = true;
    n->leading = false;
    hf_sweep_told();
}

struct cl_save {
    struct hf_job job;
    struct hf_timer late;
    struct cl_node *node;
    char path[200];
    struct hf_raft_snapshot snapshot;
    int err;
    void (*done)(void *arg, int err, const struct hf_raft_snapshot *snapshot);
    void *arg;
};

static inline void cl_save_run(struct hf_job *job)
{
    struct cl_save *s = hf_container_of(job, struct cl_save, job);
    struct hf_disk *disk = hf_env_disk(s->node->env);
    struct hf_file *file;
    struct cl_state *state;
    char *bytes = NULL;
    size_t len = 0;

    s->err = hf_disk_slurp(disk, CL_DIR "/state", 64u << 20, &bytes, &len);
    if (s->err) {
        return;
    }
    state = (struct cl_state *)(void *)bytes;
    s->snapshot = (struct hf_raft_snapshot){
        .index = state->index, .term = state->term, .total_bytes = len, .config = state->config};
    s->err = hf_disk_open(disk, s->path, HF_FILE_CREATE, &file);
    if (!s->err) {
        struct iovec iov = {.iov_base = bytes, .iov_len = len};

        s->err = hf_file_write_full(file, &iov, 1, 0);
        hf_file_close(file);
    }
    free(bytes);
}

static inline void cl_save_end(void *ctx)
{
    struct cl_save *s = ctx;

    hf_timer_fini(&s->late);
    if (s->node->c->stale_saves) {
        s->snapshot.index = 1;
    }
    s->done(s->arg, s->err, s->err ? NULL : &s->snapshot);
    free(s);
}

static inline void cl_save_done(struct hf_job *job)
{
    struct cl_save *s = hf_container_of(job, struct cl_save, job);

    hf_timer_init(&s->late, s->node->env, cl_save_end, s);
    hf_timer_arm(&s->late, s->node->c->save_ns);
}

static inline void cl_snapshot_save(void *ctx, const char *path,
                                    void (*done)(void *arg, int err,
                                                 const struct hf_raft_snapshot *snapshot),
                                    void *arg)
{
    struct cl_save *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->node = ctx;
    s->node->c->saves++;
    (void)snprintf(s->path, sizeof(s->path), "%s", path);
    s->done = done;
    s->arg = arg;
    s->job = (struct hf_job){.run = cl_save_run, .done = cl_save_done};
    hf_env_submit(s->node->env, HF_POOL_DISK, &s->job);
}

struct cl_load {
    struct hf_job job;
    struct hf_timer wait;
    struct cl_node *node;
    char path[200];
    uint64_t index, term;
    struct cl_state state;
    int err;
    void (*done)(void *arg, int err);
    void *arg;
};

static inline int cl_state_parse(struct cluster *c, const char *bytes, size_t len,
                                 struct cl_state *ret)
{
    uint64_t hash = 0, at = 0;

    if (len < sizeof(*ret)) {
        return -EBADMSG;
    }
    memcpy(ret, bytes, sizeof(*ret));
    for (size_t i = sizeof(*ret); i < len; i++) {
        if ((uint8_t)bytes[i] != (uint8_t)ret->hash) {
            return -EBADMSG;
        }
    }
    if (ret->index > c->truth_last) {
        return -EBADMSG;
    }
    for (uint64_t i = 1; i <= ret->index; i++) { /* a state is what the entries make of it */
        hash = cl_hash(cl_hash(hash, i), c->truth[i].value);
        if (c->truth[i].value && (at >= ret->count || ret->values[at++] != c->truth[i].value)) {
            return -EBADMSG;
        }
    }
    return hash == ret->hash && at == ret->count ? 0 : -EBADMSG;
}

static inline void cl_load_run(struct hf_job *job)
{
    struct cl_load *l = hf_container_of(job, struct cl_load, job);
    struct hf_disk *disk = hf_env_disk(l->node->env);
    char *bytes = NULL;
    size_t len;

    hf_sweep_hold();
    l->err = hf_disk_slurp(disk, l->path, 64u << 20, &bytes, &len);
    if (!l->err) {
        l->err = cl_state_parse(l->node->c, bytes, len, &l->state);
    }
    if (!l->err && (l->state.index != l->index || l->state.term != l->term)) {
        l->err = -EBADMSG;
    }
    if (!l->err) {
        l->err = hf_disk_replace(disk, CL_DIR "/state", bytes, len);
        l->err = l->err == 0 && l->node->c->late_loads ? -EIO : l->err;
    }
    hf_sweep_release();
    free(bytes);
}

static inline void cl_load_done(struct hf_job *job)
{
    struct cl_load *l = hf_container_of(job, struct cl_load, job);
    struct cl_node *n = l->node;

    n->load = NULL;
    if (!l->err) {
        assert_true(l->state.index > n->state.index); /* nothing goes back */
        n->state = n->checkpoint = l->state;
        n->since_checkpoint = 0;
        n->snapshots_loaded++;
    }
    hf_timer_fini(&l->wait);
    l->done(l->arg, l->err);
    free(l);
}

static inline void cl_load_start(void *ctx)
{
    struct cl_load *l = ctx;

    if (l->node->checkpointing) {
        hf_timer_arm(&l->wait, MSEC);
        return;
    }
    hf_env_submit(l->node->env, HF_POOL_DISK, &l->job);
}

static inline void cl_snapshot_load(void *ctx, const char *path, uint64_t index, uint64_t term,
                                    const struct hf_raft_config *config,
                                    void (*done)(void *arg, int err), void *arg)
{
    struct cl_load *l = calloc(1, sizeof(*l));

    (void)config;
    assert_non_null(l);
    l->node = ctx;
    assert_null(l->node->load);
    assert_false(l->node->leading);
    (void)snprintf(l->path, sizeof(l->path), "%s", path);
    l->index = index;
    l->term = term;
    l->done = done;
    l->arg = arg;
    l->job = (struct hf_job){.run = cl_load_run, .done = cl_load_done};
    l->node->load = l;
    hf_timer_init(&l->wait, l->node->env, cl_load_start, l);
    cl_load_start(l);
}

#endif
