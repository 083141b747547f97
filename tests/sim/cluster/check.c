/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at nodes from within: after each event, now and then, and at the end. invariants.c lists
 * what is looked for, and who else looks.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/table/table_model.h"
#include "server/meta/leader_impl.h"
#include "server/node/node_impl.h"
#include "server/raft/driver_impl.h"
#include "server/raft/raft_impl.h"
#include "server/store/store_impl.h"
#include "tests/sim/cluster/actor.h"

#define COLLECT_NS       (90 * SIM_S)
#define COPIES_AT_ONCE   2u /* their buffers, of megabytes, are most of what a seed takes */
#define HOLDERS_EVERY_NS (SIM_S / 2)
#define ROWS_EVERY_NS    (5 * SIM_S)
/* Of a machine's events, so many go by until a module of its own is looked at: what is counted
 * wrong stays wrong. */
#define NODE_EVERY   16u
#define LOG_EVERY    512u /* it walks the log */
#define CLIENT_EVERY 16u

/* I9: replicas at one index have one digest, whenever they are there. */

struct digests {
    uint64_t *of; /* by index; 0: not seen */
    uint64_t cap;
};

static struct digests digests; /* of the one run of this process */

static void check_digest(struct sim *s, const struct sim_node *n)
{
    struct hf_replica_status status;
    uint64_t digest, index;

    hf_replica_status(n->node->replica, &status);
    index = status.applied_index;
    if (status.failed || index == 0) {
        return;
    }
    if (index >= digests.cap) {
        uint64_t cap = 2 * index;

        digests.of = reallocarray(digests.of, cap, sizeof(uint64_t));
        HF_ASSERT(digests.of != NULL);
        memset(digests.of + digests.cap, 0, (cap - digests.cap) * sizeof(uint64_t));
        digests.cap = cap;
    }
    digest = hf_replica_digest(n->node->replica);
    if (digests.of[index] == 0) {
        digests.of[index] = digest;
    } else if (digests.of[index] != digest) {
        sim_wrong(s, "I9", "node %u has other metadata at index %" PRIu64 " than another had there",
                  n->id.v, index);
    }
}

/*
 * I1, beneath what users see: a node that runs holds every object that the metadata do not say it
 * lacks. Looked at all the time, for inventories mend what is wrong here before a read can tell.
 */

static bool is_newest(struct sim *s, const struct sim_node *leader)
{
    struct hf_raft_driver_status mine, other;

    hf_raft_driver_status(hf_meta_log_driver(leader->node->log), &mine);
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct hf_node *node = s->nodes[i].node;

        if (node && node->log) {
            hf_raft_driver_status(hf_meta_log_driver(node->log), &other);
            if (other.term > mine.term || other.applied_index > mine.applied_index) {
                return false;
            }
        }
    }
    return true;
}

static void check_holds(struct sim *s, struct hf_meta *meta, uint16_t group,
                        const struct hf_meta_object *object)
{
    const struct hf_map *map = hf_meta_map(meta);

    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        struct hf_store_entry entry;
        char text[HF_OID_STR_MAX];

        if (!n->node || !(hf_map_group_members(map, group) & hf_node_bit(n->id)) ||
            hf_meta_is_degraded(meta, n->id, &object->oid)) {
            continue;
        }
        if (hf_store_lookup(n->node->store, &object->oid, &entry)) {
            if (!n->damaged) {
                sim_fail(s, "I1", "node %u lacks object %s, and the metadata do not know", n->id.v,
                         hf_oid_str(&object->oid, text));
            }
        } else if (entry.digest != object->digest || entry.len_bytes != object->len_bytes) {
            sim_fail(s, "I9", "node %u has another object %s than the metadata say", n->id.v,
                     hf_oid_str(&object->oid, text));
        } else if (entry.quarantined && !n->damaged && !n->rotten) {
            sim_fail(s, "I4", "node %u has set object %s aside, which nothing befell", n->id.v,
                     hf_oid_str(&object->oid, text));
        }
    }
}

/* I8: what was once named and is no more. Open addressing; the session is never 0. */

static struct {
    struct hf_oid *oids;
    size_t cap, count;
} named; /* of the one run of this process */

static size_t named_slot(const struct hf_oid *oid)
{
    size_t i = hf_oid_hash(oid) & (named.cap - 1);

    while (named.oids[i].session && !hf_oid_equal(&named.oids[i], oid)) {
        i = (i + 1) & (named.cap - 1);
    }
    return i;
}

static void name(const struct hf_oid *oid)
{
    if (2 * named.count >= named.cap) {
        struct hf_oid *old = named.oids;
        size_t old_cap = named.cap;

        named.cap = old_cap ? 2 * old_cap : 1024;
        named.oids = calloc(named.cap, sizeof(*named.oids));
        HF_ASSERT(named.oids != NULL);
        for (size_t i = 0; i < old_cap; i++) {
            if (old[i].session) {
                named.oids[named_slot(&old[i])] = old[i];
            }
        }
        free(old);
    }
    if (!named.oids[named_slot(oid)].session) {
        named.oids[named_slot(oid)] = *oid;
        named.count++;
    }
}

/* Every object that the node's store holds, until fn says false. False: it did, or a list failed.
 */
static bool each_held(const struct sim_node *n, struct hf_meta *meta,
                      bool (*fn)(void *ctx, const struct hf_store_entry *held), void *ctx)
{
    for (uint32_t group = 0; group < hf_meta_map(meta)->group_count; group++) {
        struct hf_store_entry held[64];
        uint32_t count = HF_ARRAY_LEN(held);
        struct hf_oid after, *from = NULL;

        while (count == HF_ARRAY_LEN(held)) {
            if (hf_store_list(n->node->store, (uint16_t)group, from, held, HF_ARRAY_LEN(held),
                              &count)) {
                return false;
            }
            for (uint32_t i = 0; i < count; i++) {
                if (!fn(ctx, &held[i])) {
                    return false;
                }
            }
            after = count ? held[count - 1].oid : (struct hf_oid){0};
            from = &after;
        }
    }
    return true;
}

static bool is_named(struct hf_meta *meta, const struct hf_oid *oid)
{
    struct hf_meta_object object;

    return hf_meta_object(meta, oid, &object) == 0;
}

struct gone {
    struct sim *s;
    struct hf_meta *meta;
    const struct sim_node *node;
};

static bool is_not_gone(void *ctx, const struct hf_store_entry *held)
{
    const struct gone *gone = ctx;
    char text[HF_OID_STR_MAX];

    if (held->quarantined && gone->node->set_aside) {
        return true; /* lost before it was deleted, and with it that it was */
    }
    if (named.cap && named.oids[named_slot(&held->oid)].session &&
        !is_named(gone->meta, &held->oid)) {
        sim_fail(gone->s, "I8", "node %u holds object %s, which was deleted everywhere",
                 gone->node->id.v, hf_oid_str(&held->oid, text));
    }
    return !gone->s->failed;
}

/* At rest, with nothing left to delete. A disk that lies or rots forgets deletions, too. */
static void check_gone(struct sim *s, struct hf_meta *meta)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct gone gone = {s, meta, &s->nodes[i]};

        if (!s->nodes[i].rotten) {
            (void)each_held(&s->nodes[i], meta, is_not_gone, &gone);
        }
    }
}

static void check_holders(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);
    struct hf_meta *meta = leader ? hf_replica_meta(leader->node->replica) : NULL;

    if (!leader || !is_newest(s, leader)) {
        return;
    }
    for (uint32_t group = 0; group < hf_meta_map(meta)->group_count; group++) {
        struct hf_meta_object objects[64];
        uint32_t count = HF_ARRAY_LEN(objects);
        struct hf_oid after, *from = NULL;

        while (count == HF_ARRAY_LEN(objects) && !s->failed) {
            count = hf_meta_objects(meta, (uint16_t)group, from, objects, HF_ARRAY_LEN(objects));
            for (uint32_t i = 0; i < count; i++) {
                check_holds(s, meta, (uint16_t)group, &objects[i]);
                name(&objects[i].oid);
            }
            after = count ? objects[count - 1].oid : (struct hf_oid){0};
            from = &after;
        }
    }
}

/* Once for each step of the core: it looks at every entry of its log. */
static void check_raft(struct sim_node *n)
{
    const struct hf_raft *raft = n->node->log ? hf_meta_log_driver(n->node->log)->raft : NULL;

    if (raft && raft->now_ns != n->raft_checked_ns) {
        n->raft_checked_ns = raft->now_ns;
        hf_raft_check_invariants(raft);
    }
}

/* It looks at every object: when one came, went or turned bad, or a segment did. */
static void check_store(struct sim_node *n)
{
    const struct hf_store *store = n->node->store;
    const uint64_t seen[] = {store->applied_seq, store->stats.quarantined, store->segment_count,
                             store->stats.live_bytes};

    if (memcmp(seen, n->store_checked, sizeof(seen)) != 0) {
        memcpy(n->store_checked, seen, sizeof(seen));
        hf_store_check_invariants(n->node->store);
    }
}

/* With --check-every 1 everything is looked at each time. */
static bool is_turn(const struct sim *s, uint32_t look, uint32_t every)
{
    return look % every == 0 || s->options.check_every == 1;
}

/* What it serves, its metadata, and, more rarely, the log of them. */
static void check_node(struct sim_node *n)
{
    const uint32_t look = n->looks++;

    if (is_turn(n->s, look, LOG_EVERY) && n->node->log) {
        hf_raft_driver_check_invariants(hf_meta_log_driver(n->node->log));
    }
    if (!is_turn(n->s, look, NODE_EVERY)) {
        return;
    }
    hf_node_check_invariants(n->node);
    if (n->node->replica) {
        hf_replica_check_invariants(n->node->replica);
    }
}

static void check_client(struct sim_client *c)
{
    if (c->fs) {
        hf_fs_check_invariants(c->fs);
    }
    if (!is_turn(c->s, c->looks++, CLIENT_EVERY)) {
        return;
    }
    if (c->session) {
        hf_session_check_invariants(c->session);
    }
    if (c->io) {
        hf_io_check_invariants(c->io);
    }
}

/* Of the machine whose code the event ran: nobody else's state can have changed. */
static void check_modules(struct sim *s)
{
    const struct hf_env *stepped = hf_sim_stepped(s->world);

    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].node && s->nodes[i].env == stepped) {
            check_raft(&s->nodes[i]);
            check_store(&s->nodes[i]);
            check_node(&s->nodes[i]);
        }
    }
    for (uint32_t i = 0; i < s->client_count; i++) {
        if (s->clients[i].env == stepped) {
            check_client(&s->clients[i]);
        }
    }
}

static void check_every_row(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].node) {
            hf_store_check_invariants(s->nodes[i].node->store);
        }
    }
}

static bool in_checkpoint(const struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct hf_node *node = s->nodes[i].node;

        if (node && node->replica && hf_table_checkpoint_running(node->replica->table)) {
            return true;
        }
    }
    return false;
}

/* So many events into the next checkpoint of either of its tables. */
static bool is_due(const struct sim *s, struct sim_node *n)
{
    bool checkpoint;

    if (!n->kill_after || n->env != hf_sim_stepped(s->world)) {
        return false;
    }
    checkpoint = hf_table_checkpoint_running(n->node->store->index) ||
                 (n->node->replica && hf_table_checkpoint_running(n->node->replica->table));
    return checkpoint && --n->kill_after == 0;
}

/* What waited for a moment of the node, or for a call of its disk. */
static void strike(struct sim *s, struct sim_node *n)
{
    struct hf_sim_disk *disk = hf_sim_disk(n->env);

    if (n->lose_now) {
        sim_trace(s, "node %u loses its store", n->id.v);
        sim_store_lost(n);
    } else if (n->node && hf_sim_disk_has_crashed(disk)) {
        sim_trace(s, "node %u dies at a call of its disk", n->id.v);
        sim_node_kill(n);
    } else if (n->node && hf_sim_disk_is_off(disk)) {
        sim_node_power_cut(n, HF_SIM_CUT_RANDOM);
    } else if (n->node && is_due(s, n)) {
        sim_trace(s, "node %u dies in a checkpoint", n->id.v);
        sim_node_kill(n);
    }
}

/* Who looks from without reads every row. */
static void may_read_all(struct sim *s, bool all)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].unread_one_in) {
            hf_table_model_fail_reads(s->nodes[i].meta, all ? 0 : s->nodes[i].unread_one_in);
        }
    }
}

void sim_check_step(void *ctx)
{
    struct sim *s = ctx;

    for (uint32_t i = 0; i < s->node_count; i++) {
        strike(s, &s->nodes[i]);
    }
    for (uint32_t i = 0; i < s->client_count; i++) {
        if (s->clients[i].die) {
            sim_trace(s, "client %u dies", i);
            sim_client_kill(&s->clients[i]);
        }
    }
    if (s->power_after && in_checkpoint(s) && --s->power_after == 0) {
        s->power_now = true;
    }
    if (s->power_now) {
        sim_trace(s, "all nodes lose power");
        sim_power_cut_all(s, hf_sim_rng_next(&s->rng));
    }
    s->counts.events++;
    may_read_all(s, true);
    check_modules(s);
    if (s->counts.events - s->checked_at >= s->options.check_every) {
        s->checked_at = s->counts.events;
        check_every_row(s);
    }
    may_read_all(s, false);
}

/* I9: the rows are those whose digest was kept. */
static void check_rescan(struct sim *s, const struct sim_node *n, struct hf_table *table)
{
    int err = hf_table_rescan(table);

    if (err) {
        sim_fail(s, "I9", "node %u: a table holds other rows than were put there: %s", n->id.v,
                 hf_err_name(err));
    }
}

/* Of one node that holds metadata, each in turn: between two entries its state is whole (I7). */
static void check_rows(struct sim *s)
{
    struct hf_replica *replica = NULL;
    struct sim_node *n = NULL;
    char *text = NULL;
    int err;

    for (uint32_t i = 0; i < s->node_count && !replica; i++) {
        n = &s->nodes[s->rows_turn++ % s->node_count];
        replica = n->node ? n->node->replica : NULL;
        /* While a snapshot is put in its place, its table lies under what memory held over another.
         */
        replica = replica && !replica->failed && !hf_meta_failed(replica->meta) && !replica->load
                      ? replica
                      : NULL;
    }
    if (!replica) {
        return;
    }
    hf_table_check_rows(replica->table);
    check_rescan(s, n, replica->table);
    if (replica->leader) {
        hf_recent_check_invariants(&replica->leader->recent);
    }
    err = hf_meta_fsck(replica->meta, &text);
    if (err) {
        sim_fail(s, "I7", "node %u: fsck: %s: %s", n->id.v, hf_err_name(err), text ? text : "");
    }
    free(text);
}

void sim_check_tick(struct sim *s)
{
    may_read_all(s, true);
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].node && s->nodes[i].node->replica) {
            check_digest(s, &s->nodes[i]);
        }
    }
    if (sim_now(s) >= s->holders_checked_ns + HOLDERS_EVERY_NS) {
        s->holders_checked_ns = sim_now(s);
        check_holders(s);
    }
    if (sim_now(s) >= s->rows_checked_ns + ROWS_EVERY_NS) {
        s->rows_checked_ns = sim_now(s);
        check_rows(s);
    }
    may_read_all(s, false);
}

/* Convergence */

static bool is_no_bad_copy(void *ctx, const struct hf_store_entry *held)
{
    return !held->quarantined || !is_named(ctx, &held->oid);
}

/* Of something that the metadata name; what nobody names waits for its session's end. */
static bool has_bad_copy(const struct sim_node *n, struct hf_meta *meta)
{
    return !each_held(n, meta, is_no_bad_copy, meta);
}

static bool is_metadata_member(const struct sim_node *leader, struct hf_node_id id)
{
    struct hf_raft_driver_status log;

    hf_raft_driver_status(hf_meta_log_driver(leader->node->log), &log);
    for (uint32_t i = 0; i < log.config.count; i++) {
        if (log.config.members[i].id.v == id.v) {
            return true;
        }
    }
    return false;
}

uint64_t sim_check_members(struct sim *s)
{
    const struct sim_node *leader = sim_leader(s);
    uint64_t members = 0;

    for (uint32_t i = 0; leader && i < s->node_count; i++) {
        members |= (uint64_t)is_metadata_member(leader, s->nodes[i].id) << i;
    }
    return members;
}

/* None while a change of them is not decided: what can be spared is not known then. */
uint64_t sim_check_voters(struct sim *s)
{
    const struct sim_node *leader = sim_leader(s);
    struct hf_raft_driver *driver = leader ? hf_meta_log_driver(leader->node->log) : NULL;
    struct hf_raft_driver_status log = {0};
    uint64_t voters = 0;

    if (driver && driver->raft &&
        driver->raft->config.index <= hf_raft_commit_index(driver->raft)) {
        hf_raft_driver_status(driver, &log);
    }
    for (uint32_t i = 0; i < log.config.count; i++) {
        const struct hf_raft_member *m = &log.config.members[i];

        voters |= m->kind == HF_RAFT_VOTER ? UINT64_C(1) << (m->id.v - 1) : 0;
    }
    return voters;
}

static const char *node_converged(struct sim *s, struct sim_node *n, const struct sim_node *leader)
{
    struct hf_raft_driver_status log;
    struct hf_replica_status mine, theirs;
    struct hf_store_stats store;

    if (!n->node || n->stopping) {
        return "a node does not run";
    }
    hf_store_stats(n->node->store, &store);
    if (store.state != HF_STORE_OK) {
        return "a store takes no writes";
    }
    if (store.quarantined && has_bad_copy(n, hf_replica_meta(leader->node->replica))) {
        return "bad copies are not replaced";
    }
    if (hf_map_node(hf_replica_map(leader->node->replica), n->id)->state != HF_NODE_UP) {
        return "a node is not up";
    }
    if (!is_metadata_member(leader, n->id)) {
        return NULL;
    }
    if (!n->node->log) {
        return "a replica is not open";
    }
    hf_raft_driver_status(hf_meta_log_driver(n->node->log), &log);
    hf_replica_status(n->node->replica, &mine);
    hf_replica_status(leader->node->replica, &theirs);
    if (mine.failed || log.state != HF_RAFT_RUNNING) {
        return "a replica has failed";
    }
    if (log.abstaining) {
        return "a replica abstains";
    }
    return mine.applied_index == theirs.applied_index ? NULL : "a replica lags";
}

static const char *client_converged(const struct sim_client *c)
{
    for (const struct actor *a = c->actors; a; a = a->next) {
        if (!fiber_is_over(a->fiber)) {
            return "a program has not ended";
        }
    }
    return c->state == CLIENT_SERVING ? NULL : "a client is not mounted";
}

void sim_check_say(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct hf_node *node = s->nodes[i].node;
        struct hf_raft_driver_status log = {0};
        struct hf_replica_status replica = {0};

        if (node && node->log) {
            hf_raft_driver_status(hf_meta_log_driver(node->log), &log);
            hf_replica_status(node->replica, &replica);
        }
        sim_trace(
            s,
            "node %u: %s, log: state %d role %d term %" PRIu64 " last %" PRIu64 " durable %" PRIu64
            " committed %" PRIu64 " applied %" PRIu64 "%s, replica: applied %" PRIu64 " err %s",
            i + 1, node ? "runs" : "down", (int)log.state, (int)log.role, log.term, log.last_index,
            log.durable_index, log.commit_index, log.applied_index,
            log.abstaining ? " abstains" : "", replica.applied_index, hf_err_name(replica.failed));
    }
}

/* What a replica or a store cannot go on with, an operator mends by starting the node again. */
static void mend(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        struct hf_replica_status status = {0};
        struct hf_store_stats store;

        if (!n->node || n->stopping) {
            continue;
        }
        hf_store_stats(n->node->store, &store);
        if (n->node->replica) {
            hf_replica_status(n->node->replica, &status);
        }
        if (status.failed == -HF_EDIFFERS) {
            sim_wrong(s, "I9", "node %u took itself out: its metadata differ", n->id.v);
        } else if (status.failed || store.state == HF_STORE_READ_ONLY || n->node->join_failed) {
            if (!n->befallen && !s->options.beyond) {
                sim_fail(s, "alive", "node %u gave up (%s), and nothing had befallen it", n->id.v,
                         status.failed          ? hf_err_name(status.failed)
                         : n->node->join_failed ? "it does not join"
                                                : "its store is read-only");
            }
            s->counts.by_hand++;
            sim_trace(s, "node %u is started again by hand", n->id.v);
            n->start_at_ns = sim_now(s) + SIM_S;
            sim_node_power_cut(n, HF_SIM_CUT_KEEP_ALL);
        }
    }
}

/* All is well: what a store has lost is known, and there again. One that rots, or was lied to,
 * learns what it has lost when it starts again. */
static void note_mended(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];

        n->damaged = n->damaged && n->rotten && n->lives == n->damaged_life;
    }
}

const char *sim_check_converged(struct sim *s)
{
    struct sim_node *leader;
    struct hf_meta_usage usage;
    const char *missing = NULL;

    mend(s);
    leader = sim_leader(s);
    if (!leader) {
        return "nobody leads";
    }
    for (uint32_t i = 0; i < s->node_count && !missing; i++) {
        missing = node_converged(s, &s->nodes[i], leader);
    }
    for (uint32_t i = 0; i < s->client_count && !missing; i++) {
        missing = client_converged(&s->clients[i]);
    }
    hf_meta_usage(hf_replica_meta(leader->node->replica), &usage);
    missing = missing          ? missing
              : usage.degraded ? "copies are missing"
              : usage.purging  ? "removed files are not purged"
              : usage.dead     ? "dead objects are not deleted"
                               : NULL;
    if (!missing && !s->options.beyond) {
        note_mended(s);
    }
    return missing;
}

/* I7, I8, I9 of objects: the stores hold what the metadata name, no more and no less. */

static bool check_group(struct sim *s, struct sim_node *n, struct hf_meta *meta, uint16_t group,
                        const char **ret_why)
{
    bool member = hf_map_group_members(hf_meta_map(meta), group) & hf_node_bit(n->id);
    struct hf_oid after, *from = NULL;

    (void)s;
    for (;;) {
        struct hf_meta_object wanted[64];
        struct hf_store_entry held[64];
        uint32_t want = member ? hf_meta_objects(meta, group, from, wanted, 64) : 0, have = 0;

        if (hf_store_list(n->node->store, group, from, held, 64, &have)) {
            *ret_why = "a store cannot be listed";
            return false;
        }
        for (uint32_t i = 0; i < want || i < have; i++) {
            int order = i >= want ? 1 : i >= have ? -1 : hf_oid_cmp(&wanted[i].oid, &held[i].oid);

            if (order < 0) {
                *ret_why = "an object is missing on a member";
                return false;
            }
            if (order > 0) {
                *ret_why = "a store holds what nobody refers to";
                return false;
            }
            if (wanted[i].digest != held[i].digest || wanted[i].len_bytes != held[i].len_bytes ||
                held[i].quarantined) {
                *ret_why = "a copy is another than the metadata say";
                return false;
            }
        }
        if (want < 64 && have < 64) {
            return true;
        }
        after = held[63].oid;
        from = &after;
    }
}

static const char *check_stores(struct sim *s, struct hf_meta *meta)
{
    const char *why = NULL;

    for (uint32_t i = 0; i < s->node_count; i++) {
        for (uint32_t group = 0; group < hf_meta_map(meta)->group_count; group++) {
            if (!check_group(s, &s->nodes[i], meta, (uint16_t)group, &why)) {
                return why;
            }
        }
    }
    return NULL;
}

static const char *collected(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);
    struct hf_meta_usage usage;

    if (!leader) {
        return "nobody leads";
    }
    hf_meta_usage(hf_replica_meta(leader->node->replica), &usage);
    if (usage.sessions || usage.orphans || usage.purging || usage.dead || usage.degraded) {
        return usage.sessions  ? "sessions do not end"
               : usage.orphans ? "orphans stay"
               : usage.purging ? "removed files are not purged"
               : usage.dead    ? "dead objects are not deleted"
                               : "copies are missing";
    }
    for (uint32_t i = 0; i < s->node_count; i++) {
        const char *missing = node_converged(s, &s->nodes[i], leader);

        if (missing) {
            return missing;
        }
    }
    return check_stores(s, hf_replica_meta(leader->node->replica));
}

/* I1, I4: every copy on a disk that did not rot is whole. The stores read them. */

struct copy {
    struct hf_store_check check;
    struct sim *s;
    uint16_t node;
};

static void copy_checked(void *ctx, int err)
{
    struct copy *copy = ctx;
    char text[HF_OID_STR_MAX];

    copy->s->copies_left--;
    if (err) {
        sim_fail(copy->s, "I4", "node %u: its copy of object %s: %s", copy->node,
                 hf_oid_str(&copy->check.oid, text), hf_err_name(err));
    }
    free(copy);
}

static bool copies_are_few(void *ctx)
{
    struct sim *s = ctx;

    return s->copies_left < COPIES_AT_ONCE || s->failed;
}

static bool copies_are_read(void *ctx)
{
    struct sim *s = ctx;

    return s->copies_left == 0 || s->failed;
}

static bool check_copy(void *ctx, const struct hf_store_entry *held)
{
    struct sim_node *n = ctx;
    struct copy *copy;

    if (held->quarantined) {
        return true;
    }
    copy = calloc(1, sizeof(*copy));
    HF_ASSERT(copy != NULL);
    copy->s = n->s;
    copy->node = n->id.v;
    copy->check = (struct hf_store_check){.oid = held->oid, .done = copy_checked, .ctx = copy};
    n->s->copies_left++;
    hf_store_check(n->node->store, &copy->check);
    return hf_sim_run_until(n->s->world, copies_are_few, n->s, COLLECT_NS) && n->node;
}

static void check_copies(struct sim *s, struct hf_meta *meta)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (!s->nodes[i].rotten && s->nodes[i].node) {
            hf_bufpool_trim(s->nodes[i].node->pool);
            (void)each_held(&s->nodes[i], meta, check_copy, &s->nodes[i]);
        }
    }
    if (!hf_sim_run_until(s->world, copies_are_read, s, COLLECT_NS)) {
        sim_fail(s, "alive", "the stores do not read %u copies", s->copies_left);
    }
}

void sim_check_end(struct sim *s)
{
    uint64_t limit_ns;
    const char *missing;

    check_copies(s, hf_replica_meta(sim_leader(s)->node->replica));
    limit_ns = sim_now(s) + COLLECT_NS;
    check_gone(s, hf_replica_meta(sim_leader(s)->node->replica));
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct hf_store_stats store;

        hf_store_stats(s->nodes[i].node->store, &store);
        s->counts.compactions += store.compacted_segments;
    }
    for (uint32_t i = 0; i < s->client_count; i++) {
        sim_client_kill(&s->clients[i]);
        s->clients[i].start_at_ns = UINT64_MAX;
    }
    while ((missing = collected(s)) && sim_now(s) < limit_ns && !s->failed) {
        hf_sim_run_ns(s->world, SIM_S);
        sim_check_tick(s);
    }
    if (missing) {
        sim_fail(s, "I7", "%s, %u s after the last session", missing,
                 (unsigned)(COLLECT_NS / SIM_S));
    }
    check_modules(s);
    for (uint32_t i = 0; i < s->node_count && !s->failed; i++) {
        const struct sim_node *n = &s->nodes[i];
        char *text = NULL;

        check_rescan(s, n, n->node->store->index);
        if (n->node->replica) {
            check_rescan(s, n, n->node->replica->table);
            if (hf_meta_fsck(hf_replica_meta(n->node->replica), &text)) {
                sim_fail(s, "I7", "node %u: fsck: %s", n->id.v, text ? text : "");
            }
        }
        free(text);
    }
}
