/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events in, actions out: one event at a time, all its actions in order before the next. What the
 * machine asks for from within apply() waits for a turn of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

/* Writes */

enum write_kind { WRITE_LOG, WRITE_VOTE, WRITE_PLAIN };

struct write {
    struct raft_write base;
    struct hf_raft_driver *driver;
    enum write_kind kind;
    uint64_t epoch, last;                            /* LOG */
    bool own;                                        /* LOG: of proposals */
    uint64_t seq;                                    /* VOTE */
    void (*done)(struct hf_raft_driver *d, int err); /* PLAIN */
};

static void log_written(struct hf_raft_driver *d, const struct write *w, int err)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_APPENDED};

    event.u.appended.epoch = w->epoch;
    event.u.appended.last_index = w->last;
    event.u.appended.err = err;
    d->own_writes -= w->own ? 1 : 0;
    (void)raft_driver_step(d, &event, NULL);
    if (!err && d->options.machine.durable) {
        d->options.machine.durable(d->options.machine.ctx);
    }
    raft_requests_pump(d);
}

static void vote_written(struct hf_raft_driver *d, uint64_t seq, int err)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_PERSISTED};

    event.u.persisted.seq = seq;
    event.u.persisted.err = err;
    if (!err && seq > d->persisted_seq) {
        d->persisted_seq = seq;
    }
    (void)raft_driver_step(d, &event, NULL);
    raft_out_flush(d);
}

static void written(struct raft_write *base, int err)
{
    struct write *w = base->ctx;
    struct hf_raft_driver *d = w->driver;

    d->writes--;
    if (err && raft_driver_runs(d)) {
        hf_log(HF_LOG_ERROR, "raft", "log write failed",
               "err=%s what=\"tried again; look at the disk of %s\"", hf_err_name(err), d->dir);
        if (raft_disk_broken(d->disk)) {
            raft_driver_fail(d, err, "the metadata log cannot be written");
        }
    }
    if (w->kind == WRITE_PLAIN) {
        if (w->done) {
            w->done(d, err);
        }
    } else if (raft_driver_runs(d)) {
        if (w->kind == WRITE_LOG) {
            d->syncs++;
            log_written(d, w, err);
        } else {
            vote_written(d, w->seq, err);
        }
    }
    free(w);
}

static struct write *write_new(struct hf_raft_driver *d, enum write_kind kind)
{
    struct write *w = calloc(1, sizeof(*w));

    HF_ASSERT_MEMORY(w); /* what may not be forgotten has to be written */
    w->base = (struct raft_write){.done = written, .ctx = w};
    w->driver = d;
    w->kind = kind;
    d->writes++;
    return w;
}

void raft_driver_persist(struct hf_raft_driver *d, void (*done)(struct hf_raft_driver *d, int err))
{
    struct write *w = write_new(d, WRITE_PLAIN);

    w->done = done;
    raft_disk_persist(d->disk, &d->hard, &w->base);
}

static void persist(struct hf_raft_driver *d, const struct hf_raft_action *a)
{
    struct write *w = write_new(d, WRITE_VOTE);

    w->seq = a->u.persist.seq;
    d->hard.term = a->u.persist.term;
    d->hard.vote = a->u.persist.vote;
    raft_disk_persist(d->disk, &d->hard, &w->base);
}

/* Appending */

static struct raft_item *core_item(const struct hf_raft_action *a, uint64_t time_ns)
{
    const struct hf_raft_head *head = &a->u.append.head;
    uint8_t config[HF_RAFT_CONFIG_BYTES_MAX];
    struct hf_raft_entry entry = {
        .index = a->u.append.first_index,
        .term = head->term,
        .time_ns = time_ns,
        .type = head->type,
    };

    if (head->config) {
        entry.msg = config;
        entry.msg_len = (uint32_t)hf_raft_config_encode(head->config, config);
    }
    return raft_item_new(&entry);
}

static void append(struct hf_raft_driver *d, const struct hf_raft_action *a,
                   const struct raft_step_source *source)
{
    const uint64_t first = a->u.append.first_index, last = a->u.append.last_index;
    struct write *w = write_new(d, WRITE_LOG);

    w->epoch = a->u.append.epoch;
    w->last = last;
    w->own = a->u.append.source == HF_RAFT_FROM_PROPOSAL;
    d->own_writes += w->own ? 1 : 0;
    if (a->u.append.source == HF_RAFT_FROM_LOG) {
        raft_requests_cut(d, last + 1, -HF_ENOTLEADER);
        raft_items_cut(&d->items, last + 1);
    } else {
        raft_requests_cut(d, first, -HF_ENOTLEADER);
        raft_items_cut(&d->items, first);
        for (uint64_t i = first; i <= last; i++) {
            struct raft_item *item =
                a->u.append.source == HF_RAFT_FROM_CORE
                    ? core_item(a, d->last_time_ns)
                    : raft_item_ref(source->items[a->u.append.skip + i - first]);

            HF_ASSERT_MEMORY(item && raft_items_push(&d->items, item) == 0);
            if (item->entry.time_ns > d->last_time_ns) {
                d->last_time_ns = item->entry.time_ns;
            }
        }
    }
    raft_disk_append(d->disk, &d->items, first, last, &w->base);
}

/* Applying */

/* False: this replica cannot go on. */
static bool lead_now(struct hf_raft_driver *d)
{
    int err;

    d->lead_due = false;
    d->leading = true;
    err = d->options.machine.lead(d->options.machine.ctx, hf_raft_term(d->raft));
    if (err) {
        d->leading = false; /* it never led: it is not told to follow */
        raft_driver_fail(d, err, "it could not begin to lead");
    }
    return !err;
}

/* False: this replica cannot go on. */
static bool apply_one(struct hf_raft_driver *d)
{
    struct raft_item *item = raft_items_get(&d->items, d->applied + 1);
    struct hf_raft_proposal *proposal;
    bool goes_on = true;
    int err;

    HF_ASSERT(item);
    (void)raft_item_ref(item); /* apply() may lead to the log being trimmed */
    proposal = item->proposal;
    item->proposal = NULL;
    d->applied++;
    err = d->options.machine.apply(d->options.machine.ctx, &item->entry, proposal);
    if (err) {
        d->applied--;
        item->proposal = proposal; /* it fails with all that waits */
        raft_driver_fail(d, err, "an entry could not be applied");
        raft_item_unref(item);
        return false;
    }
    raft_digests_applied(d, d->applied);
    if (d->lead_due && item->entry.type == HF_RAFT_ENTRY_NOOP &&
        item->entry.term == hf_raft_term(d->raft)) {
        goes_on = lead_now(d);
    }
    raft_item_unref(item);
    return goes_on;
}

static void apply_some(struct hf_raft_driver *d)
{
    uint32_t count = 0;

    while (raft_driver_runs(d) && d->applied < hf_raft_commit_index(d->raft) &&
           !d->incoming.installing) {
        if (count++ == RAFT_APPLY_AT_ONCE) {
            raft_driver_run_soon(d);
            break;
        }
        if (!apply_one(d)) {
            return;
        }
    }
    if (count > 0) {
        d->queue_waits = false;
        raft_reads_serve(d);
    }
}

/* Roles */

static void role(struct hf_raft_driver *d, const struct hf_raft_action *a)
{
    static const char *const names[] = {"", "follower", "pre-candidate", "candidate", "leader"};
    const bool leads = a->u.role.role == HF_RAFT_LEADER;

    if (a->u.role.role != HF_RAFT_PRE_CANDIDATE) {
        hf_log(HF_LOG_INFO, "raft", "role", "role=%s term=%llu leader=%u", names[a->u.role.role],
               (unsigned long long)a->u.role.term, a->u.role.leader.v);
    }
    if (d->leading && !leads) {
        d->leading = false;
        raft_requests_fail(d, -HF_ENOTLEADER);
        d->options.machine.follow(d->options.machine.ctx);
    }
    d->lead_due = leads && !d->leading;
    d->queue_waits = false;
    if (!leads) {
        raft_requests_fail(d, -HF_ENOTLEADER);
    }
}

static void reads_failed(struct hf_raft_driver *d)
{
    raft_requests_fail(d, -HF_ENOTLEADER); /* leadership is lost: all of them */
}

/* The store is whole: written by the PERSIST of this step, which is made again until it succeeds,
 * and which everything that rests on it waits for. */
static void abstain_end(struct hf_raft_driver *d)
{
    d->hard.abstain = false;
    d->hard.state = HF_RAFT_STORE_FOUNDED;
    hf_log(HF_LOG_INFO, "raft", "store whole",
           "what=\"this node's metadata are complete again; it may vote\"");
}

static void act(struct hf_raft_driver *d, const struct hf_raft_action *a,
                const struct raft_step_source *source)
{
    switch (a->type) {
    case HF_RAFT_ACT_SEND:
        raft_out_add(d, a);
        break;
    case HF_RAFT_ACT_PERSIST:
        persist(d, a);
        break;
    case HF_RAFT_ACT_APPEND:
        append(d, a, source);
        break;
    case HF_RAFT_ACT_COMMIT:
        break; /* applied after the step */
    case HF_RAFT_ACT_ROLE:
        role(d, a);
        break;
    case HF_RAFT_ACT_READ_READY:
        raft_reads_confirmed(d, a->u.read.last_id, a->u.read.index);
        break;
    case HF_RAFT_ACT_READ_FAILED:
        reads_failed(d);
        break;
    case HF_RAFT_ACT_SNAPSHOT_OPEN:
        raft_upload_open(d, a->u.snapshot.peer);
        break;
    case HF_RAFT_ACT_SNAPSHOT_CLOSE:
        raft_upload_close(d, a->u.snapshot.peer);
        break;
    case HF_RAFT_ACT_SNAPSHOT_WRITE:
        raft_incoming_write(d, a, source->chunk);
        break;
    case HF_RAFT_ACT_SNAPSHOT_INSTALL:
        raft_incoming_install(d, a);
        break;
    case HF_RAFT_ACT_ABSTAIN_END:
        abstain_end(d);
        break;
    }
}

static void tick_arm(struct hf_raft_driver *d)
{
    const uint64_t now_ns = hf_env_boot_ns(d->env), due_ns = hf_raft_deadline_ns(d->raft);

    if (due_ns != UINT64_MAX) {
        hf_timer_arm(&d->tick, due_ns > now_ns ? due_ns - now_ns : 0);
    }
}

static void step_ends(struct hf_raft_driver *d)
{
    d->stepping = false;
    if (d->gives_up) {
        raft_driver_fail(d, d->gives_up, "its metadata cannot be served");
    }
}

void hf_raft_driver_give_up(struct hf_raft_driver *d, int err)
{
    hf_assert_loop(d->env);
    HF_ASSERT(err < 0);
    d->gives_up = d->gives_up ? d->gives_up : err;
    if (!d->stepping) {
        step_ends(d);
    }
}

int raft_driver_step(struct hf_raft_driver *d, struct hf_raft_event *event,
                     const struct raft_step_source *source)
{
    int err;

    if (!raft_driver_runs(d)) {
        return -HF_ENOTREADY;
    }
    HF_ASSERT(!d->stepping);
    d->stepping = true;
    event->now_ns = hf_env_boot_ns(d->env); /* leases count while the machine sleeps */
    err = hf_raft_step(d->raft, event, &d->actions);
    for (uint32_t i = 0; i < d->actions.count && raft_driver_runs(d); i++) {
        act(d, &d->actions.items[i], source);
    }
    if (raft_driver_runs(d) && d->applied < hf_raft_commit_index(d->raft)) {
        if (hf_raft_role(d->raft) == HF_RAFT_LEADER) {
            apply_some(d);
        } else {
            raft_driver_run_soon(d); /* the write of what came with it goes first */
        }
    }
    step_ends(d);
    if (raft_driver_runs(d)) {
        tick_arm(d);
    }
    return err;
}

/* What waits for a turn of its own */

void raft_driver_run_soon(struct hf_raft_driver *d)
{
    hf_env_post(d->env, &d->run);
}

/* Is more kept above @to, @bytes of it, than there need be? */
static bool too_much(const struct hf_raft_driver *d, uint64_t to, uint64_t bytes, bool pinned)
{
    const uint64_t entries = raft_items_last(&d->items) - to;

    return pinned ? bytes > d->options.pin_bytes || entries > RAFT_PIN_ENTRIES_MAX
                  : bytes > d->options.keep_bytes || entries > HF_RAFT_KEEP_ENTRIES;
}

/* Entries up to where a checkpoint reaches may go, but for what peers that lag a little need or
 * that get a snapshot, and for a last one that is durable: a store that takes part is told by it
 * from one that lost its log.
 */
static void trim(struct hf_raft_driver *d)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_TRIM};
    uint64_t to = d->items.first - 1, bytes = d->items.bytes;
    const uint64_t durable = hf_raft_durable_index(d->raft), pin = raft_pins_lowest(d);
    const struct raft_item *item;

    while (to < d->trim_to && to + 1 < durable && too_much(d, to, bytes, to >= pin)) {
        item = raft_items_get(&d->items, to + 1);
        bytes -= item->bytes;
        to++;
    }
    item = raft_items_get(&d->items, to + 1);
    if (to < d->items.first || !item || item->seq == 0) {
        return;
    }
    event.u.trim.index = to;
    if (to > hf_raft_base_index(d->raft) && raft_driver_step(d, &event, NULL) != 0) {
        return;
    }
    raft_items_trim(&d->items, to);
    raft_disk_trim(d->disk, item->seq);
}

void raft_driver_run(struct hf_task *task)
{
    struct hf_raft_driver *d = hf_container_of(task, struct hf_raft_driver, run);

    if (!raft_driver_runs(d)) {
        raft_requests_pump(d);
        return;
    }
    d->stepping = true;
    apply_some(d);
    step_ends(d);
    if (raft_driver_runs(d) && d->trim_to >= d->items.first) {
        trim(d);
    }
    raft_requests_pump(d);
}

void raft_driver_fail(struct hf_raft_driver *d, int err, const char *what)
{
    if (d->failed || d->state == HF_RAFT_CLOSING) { /* nobody wants to know any more */
        return;
    }
    hf_log(HF_LOG_ERROR, "raft", "failed",
           "err=%s applied=%llu what=\"%s; this node serves no metadata any more. Check its disk "
           "(dmesg, smartctl), then restart holdfastd\"",
           hf_err_name(err), (unsigned long long)d->applied, what);
    raft_driver_stop(d, err);
}

/* Can anybody else lead? */
static bool others_vote(const struct hf_raft_driver *d)
{
    const struct hf_raft_config *config = d->raft ? hf_raft_config(d->raft, NULL) : NULL;

    for (uint32_t i = 0; config && i < config->count; i++) {
        if (config->members[i].kind == HF_RAFT_VOTER &&
            config->members[i].id.v != d->options.self.v) {
            return true;
        }
    }
    return false;
}

void raft_driver_stop(struct hf_raft_driver *d, int err)
{
    /* Who asked this leader may ask the next one. */
    const bool others = err == -HF_EDIFFERS || others_vote(d), follows = d->leading && others;

    d->failed = err;
    d->refused = others ? -HF_ENOTLEADER : -EIO;
    d->state = HF_RAFT_FAILED;
    hf_timer_disarm(&d->tick);
    hf_timer_disarm(&d->second);
    d->lead_due = d->leading = false;
    raft_out_drop_all(d);
    raft_requests_fail(d, d->refused);
    if (follows) {
        d->options.machine.follow(d->options.machine.ctx);
    }
    d->options.machine.failed(d->options.machine.ctx, err);
}
