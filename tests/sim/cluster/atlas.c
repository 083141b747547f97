/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault atlas: what is drawn must be survivable, so that whatever goes wrong is a bug.
 *
 *   - What is on disk and synced survives kills and power cuts, so they may hit anybody, and all.
 *   - What destroys bytes (rot, failed and lost writes) hits one node of three or more, the
 * victim: a put may be acknowledged by two of three, and one of those be the victim. At rest, when
 * no copy is missing, all goes that can be spared: sim_loss_test().
 *   - Networks may do anything for a while.
 *
 * The mode that goes beyond (--beyond) destroys whatever it likes, and asks for less: I11.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/table/table_model.h"
#include "server/node/node_impl.h"
#include "tests/sim/cluster/sim.h"

#define FAULTS_MAX 32u
#define DRAWN_MAX  16u
#define PADS_MAX   64u /* one need not find a connection */
#define BEGIN_NS   (5 * SIM_S)

enum target { HITS_ANY, HITS_NODE, HITS_CLIENT, HITS_VICTIM };

/* LASTS: it is over after a while; else it is done at once. */
#define LASTS true

static const struct {
    const char *name;
    enum target hits;
    bool lasts;
} kinds[FAULT_KIND_COUNT] = {
    [FAULT_KILL] = {"kill", HITS_NODE},
    [FAULT_POWER] = {"power", HITS_NODE},
    [FAULT_POWER_ALL] = {"power-all", HITS_ANY},
    [FAULT_STOP] = {"stop", HITS_NODE},
    [FAULT_PAUSE] = {"pause", HITS_ANY},
    [FAULT_SUSPEND] = {"suspend", HITS_ANY},
    [FAULT_CUT] = {"cut", HITS_ANY, LASTS},
    [FAULT_CUT_ONE_WAY] = {"cut-one-way", HITS_ANY, LASTS},
    [FAULT_CUT_PAIR] = {"cut-pair", HITS_ANY, LASTS},
    [FAULT_SPLIT] = {"split", HITS_ANY, LASTS},
    [FAULT_RESET] = {"reset", HITS_ANY},
    [FAULT_RESETS] = {"resets", HITS_ANY, LASTS},
    [FAULT_STALLS] = {"stalls", HITS_ANY, LASTS},
    [FAULT_SLOW_NET] = {"slow-net", HITS_ANY, LASTS},
    [FAULT_FLIPS] = {"flips", HITS_ANY, LASTS},
    [FAULT_SLOW_DISK] = {"slow-disk", HITS_NODE, LASTS},
    [FAULT_DISK_EIO] = {"disk-eio", HITS_VICTIM},
    [FAULT_DISK_DEAD] = {"disk-dead", HITS_VICTIM},
    [FAULT_DISK_LIES] = {"disk-lies", HITS_VICTIM},
    [FAULT_DISK_FULL] = {"disk-full", HITS_NODE, LASTS},
    [FAULT_TABLE] = {"table", HITS_VICTIM, LASTS},
    [FAULT_ROWS] = {"rows", HITS_VICTIM, LASTS},
    [FAULT_ROT] = {"rot", HITS_VICTIM},
    [FAULT_DRIFT] = {"drift", HITS_ANY},
    [FAULT_WALL] = {"wall", HITS_ANY},
    [FAULT_CLIENT_KILL] = {"client-kill", HITS_CLIENT},
    [FAULT_UNMOUNT] = {"unmount", HITS_CLIENT},
    [FAULT_TRANSFER] = {"transfer", HITS_ANY},
    [FAULT_MEMBERS] = {"members", HITS_ANY},
    [FAULT_META_LOST] = {"meta-lost", HITS_VICTIM},
    [FAULT_STORE_LOST] = {"store-lost", HITS_VICTIM},
    [FAULT_INDEX_LOST] = {"index-lost", HITS_NODE},
};

const char *sim_fault_name(enum sim_fault kind)
{
    return kinds[kind].name;
}

struct fault {
    enum sim_fault kind;
    uint64_t begin_ns, end_ns; /* end 0: nothing ends */
    uint32_t a, b;             /* machines: nodes first, then clients */
    uint64_t chance;
    bool begun, over;
    bool armed;      /* it acts at something that is still to come */
    bool struck;     /* ... which has come */
    bool damages;    /* ... and then the store may lack something */
    uint64_t before; /* what struck() compares with, when it began */
};

struct sim_plan {
    struct fault faults[FAULTS_MAX];
    uint32_t count;
    uint32_t victim; /* node; UINT32_MAX: none */
};

static struct hf_env *machine(struct sim *s, uint32_t i)
{
    return i < s->node_count ? s->nodes[i].env : s->clients[i - s->node_count].env;
}

static uint64_t below(struct sim *s, uint64_t end)
{
    return hf_sim_rng_below(&s->rng, end);
}

/* What more than one node may suffer in the mode that goes beyond. */
static const enum sim_fault beyond_kinds[] = {FAULT_ROT, FAULT_DISK_EIO, FAULT_META_LOST,
                                              FAULT_STORE_LOST, FAULT_POWER};

static bool is_allowed(const struct sim *s, enum sim_fault kind)
{
    if (s->options.lmdb_dir &&
        (kinds[kind].hits == HITS_VICTIM || kind == FAULT_DISK_FULL || kind == FAULT_INDEX_LOST)) {
        return false; /* the real disk has no faults */
    }
    if (s->options.beyond) {
        /* A majority of disks that lie about the end of their logs cannot be told from one that
         * was asked to write less. */
        return kind != FAULT_DISK_LIES;
    }
    return (kind != FAULT_MEMBERS || s->node_count == 5) &&
           (kinds[kind].hits != HITS_VICTIM || s->plan->victim != UINT32_MAX);
}

static struct fault draw(struct sim *s)
{
    uint32_t machines = s->node_count + s->client_count;
    struct fault f = {.kind = (enum sim_fault)below(s, FAULT_KIND_COUNT)};

    if (s->options.beyond && below(s, 3) == 0) {
        f.kind = beyond_kinds[below(s, HF_ARRAY_LEN(beyond_kinds))];
    }
    while (!is_allowed(s, f.kind)) {
        f.kind = (enum sim_fault)below(s, FAULT_KIND_COUNT);
    }
    f.begin_ns = BEGIN_NS + below(s, s->options.faults_until - BEGIN_NS);
    f.a = (uint32_t)below(s, machines);
    f.b = (f.a + 1 + (uint32_t)below(s, machines - 1)) % machines;
    f.chance = hf_sim_rng_next(&s->rng);
    if ((f.kind == FAULT_CUT_PAIR || f.kind == FAULT_RESET) && f.a >= s->node_count) {
        f.b = (uint32_t)below(s, s->node_count); /* clients do not talk to each other */
    }
    switch (kinds[f.kind].hits) {
    case HITS_ANY:
        break;
    case HITS_NODE:
        f.a = (uint32_t)below(s, s->node_count);
        break;
    case HITS_CLIENT:
        f.a = s->node_count + (uint32_t)below(s, s->client_count);
        break;
    case HITS_VICTIM:
        f.a = s->options.beyond ? (uint32_t)below(s, s->node_count) : s->plan->victim;
        break;
    }
    if (kinds[f.kind].lasts) {
        f.end_ns = f.begin_ns + SIM_S / 2 + below(s, 12 * SIM_S);
    }
    return f;
}

/* Troubles come in company: soon after the one before, and to the same node where that is possible.
 */
static void follow(struct sim *s, struct fault *f, const struct fault *before)
{
    f->end_ns = f->end_ns ? f->end_ns - f->begin_ns : 0;
    f->begin_ns = before->begin_ns + below(s, below(s, 2) ? SIM_S / 4 : 4 * SIM_S);
    if (f->begin_ns >= s->options.faults_until) {
        f->begin_ns = s->options.faults_until - 1;
    }
    f->end_ns = f->end_ns ? f->end_ns + f->begin_ns : 0;
    if (before->a < s->node_count && f->a < s->node_count && kinds[f->kind].hits != HITS_VICTIM) {
        f->a = before->a;
        f->b = f->b == f->a ? (f->b + 1) % (s->node_count + s->client_count) : f->b;
    }
}

void sim_atlas_new(struct sim *s)
{
    struct fault before = {0};
    uint32_t count;

    s->plan = calloc(1, sizeof(*s->plan));
    HF_ASSERT(s->plan != NULL);
    /* With copies of which only one need be made, none can be spared. */
    s->plan->victim = UINT32_MAX;
    if (s->node_count >= 3 && s->config.min_copies > 1) {
        s->plan->victim = (uint32_t)below(s, s->node_count);
    }
    count = SIM_FAULTS_LEAST + (uint32_t)below(s, DRAWN_MAX - SIM_FAULTS_LEAST);
    for (uint32_t i = 0; i < count; i++) {
        struct fault f = draw(s);

        if (i > 0 && below(s, 3) == 0) {
            follow(s, &f, &before);
        }
        before = f;
        if (i < s->options.fault_max) { /* all are drawn, so that the rest stays the same */
            s->plan->faults[s->plan->count++] = f;
        }
    }
}

uint64_t sim_atlas_next(struct sim *s)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < s->plan->count; i++) {
        const struct fault *f = &s->plan->faults[i];
        uint64_t at = !f->begun ? f->begin_ns : !f->over && f->end_ns ? f->end_ns : UINT64_MAX;

        next = at < next ? at : next;
    }
    return next;
}

/* The power goes where a write was not all that it seemed. */
static void cut_later(struct sim *s, const struct fault *f)
{
    if (s->plan->count < FAULTS_MAX) {
        s->plan->faults[s->plan->count++] = (struct fault){
            .kind = FAULT_POWER,
            .begin_ns = sim_now(s) + SIM_S / 10 + (f->chance >> 8) % (4 * SIM_S),
            .a = f->a,
            .b = f->b,
            .chance = f->chance >> 24 | 1,
        };
    }
}

/* Machines whose bit of @side is set do not reach the others. */
static void split(struct sim *s, uint64_t side)
{
    uint32_t machines = s->node_count + s->client_count;

    for (uint32_t a = 0; a < machines; a++) {
        for (uint32_t b = 0; b < machines; b++) {
            if ((side >> a & 1) != (side >> b & 1)) {
                hf_sim_net_cut(s->world, hf_sim_host(machine(s, a)), hf_sim_host(machine(s, b)));
            }
        }
    }
}

/* The network is what the faults under way make of it. */
static void set_net(struct sim *s)
{
    hf_sim_net_heal(s->world);
    hf_sim_net_set_delay(s->world, 20 * HF_NS_PER_US, 300 * HF_NS_PER_US);
    hf_sim_net_set_stalls(s->world, 0, 0);
    hf_sim_net_set_flips(s->world, 0);
    for (uint32_t i = 0; i < s->plan->count; i++) {
        const struct fault *f = &s->plan->faults[i];
        const char *a = hf_sim_host(machine(s, f->a)), *b = hf_sim_host(machine(s, f->b));

        if (!f->begun || f->over || !f->end_ns) {
            continue;
        }
        if (f->kind == FAULT_CUT) {
            hf_sim_net_cut(s->world, a, "");
            hf_sim_net_cut(s->world, "", a);
        } else if (f->kind == FAULT_CUT_ONE_WAY) {
            hf_sim_net_cut(s->world, f->chance & 1 ? a : "", f->chance & 1 ? "" : a);
        } else if (f->kind == FAULT_CUT_PAIR) {
            hf_sim_net_cut(s->world, a, b);
            hf_sim_net_cut(s->world, b, a);
        } else if (f->kind == FAULT_SPLIT) {
            split(s, f->chance);
        } else if (f->kind == FAULT_STALLS) {
            hf_sim_net_set_stalls(s->world, 1 + (unsigned)(f->chance % 20), 2 * SIM_S);
        } else if (f->kind == FAULT_SLOW_NET) {
            hf_sim_net_set_delay(s->world, SIM_MS, 20 * SIM_MS);
        } else if (f->kind == FAULT_FLIPS) {
            hf_sim_net_set_flips(s->world, 10 + (unsigned)(f->chance % 500));
        }
    }
}

/* Files of the victim's store, of which one is chosen */

struct choice {
    uint64_t chance;
    uint32_t count;
    char name[64];
};

static int choose(void *ctx, const char *name)
{
    struct choice *c = ctx;

    c->count++;
    if (strlen(name) < sizeof(c->name) && c->chance % c->count == 0) {
        (void)snprintf(c->name, sizeof(c->name), "%s", name);
    }
    c->chance = c->chance * 6364136223846793005u + 1;
    return 0;
}

static const char *const rot_dirs[] = {"/data/store/segments", "/data/store/segments",
                                       "/data/meta/log", "/data/meta/vote"};

static void damage(struct sim_node *n, bool rots)
{
    n->damaged = n->set_aside = true;
    n->rotten = n->rotten || rots;
    n->damaged_life = n->lives;
}

static bool rot_at(struct sim *s, const struct fault *f, uint64_t chance)
{
    struct hf_env *env = machine(s, f->a);
    struct choice c = {.chance = chance >> 8};
    const char *dir = rot_dirs[(chance >> 48) % HF_ARRAY_LEN(rot_dirs)];
    char path[128];
    static const uint32_t within[] = {256u << 10, 2u << 20, 16u << 20, 256u << 10};
    uint64_t off = chance % within[chance >> 40 & 3];
    bool hit = false;

    if (hf_disk_list(hf_env_disk(env), dir, choose, &c) || !c.count) {
        return false;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", dir, c.name);
    for (uint32_t i = 0; i < 8; i++) {
        hit = hf_sim_disk_flip(hf_sim_disk(env), path, off + i * 512u, 0x5a) == 0 || hit;
    }
    if (hit && dir == rot_dirs[0]) {
        damage(&s->nodes[f->a], true);
    }
    sim_trace(s, "rot in %s at %" PRIu64 "%s", path, off, hit ? "" : ", which is not there");
    return hit;
}

/* One spot, or up to 32 of them. */
static bool rot(struct sim *s, const struct fault *f)
{
    uint64_t chance = f->chance;
    bool hit = false;

    for (uint32_t i = 0; i < 1u << f->chance % 6; i++) {
        hit = rot_at(s, f, chance) || hit;
        chance = chance * 6364136223846793005u + 1;
    }
    return hit;
}

static struct hf_table_model *table_of(struct sim *s, const struct fault *f)
{
    struct sim_node *n = &s->nodes[f->a];

    return f->chance & 1 ? n->index : n->meta;
}

/* Checkpoints fail for a while, or the next one does, which may have happened all the same. */
static void fail_table(struct sim *s, struct fault *f)
{
    struct hf_table_model *model = table_of(s, f);

    f->armed = true;
    f->before = hf_table_model_failed(model);
    if (f->chance & 2) {
        hf_table_model_fail_merges(model, f->chance & 4 ? -EIO : -ENOSPC);
    } else {
        hf_table_model_crash_next_merge(model, f->chance & 4);
    }
}

/* Some rows of its metadata cannot be read: one in few, or in many. */
static void fail_rows(struct sim *s, struct fault *f)
{
    struct sim_node *n = &s->nodes[f->a];

    f->armed = true;
    f->before = hf_table_model_unread(n->meta);
    sim_rows_fail(n, 1 + (uint32_t)(f->chance >> 4) % (1u << f->chance % 16));
}

static void mend_tables(struct sim_node *n)
{
    hf_table_model_fail_merges(n->index, 0);
    hf_table_model_fail_merges(n->meta, 0);
    sim_rows_fail(n, 0);
}

/* It counts once it has struck. */
static void arm(struct sim *s, struct fault *f, uint64_t after_calls, enum hf_sim_fault kind,
                const char *part)
{
    struct hf_sim_disk *disk = hf_sim_disk(machine(s, f->a));

    f->armed = true;
    hf_sim_disk_fail_path(disk, hf_sim_disk_calls(disk) + after_calls, kind, part, &f->struck);
}

/* @damages: the store, if that is where it strikes. */
static void fail_a_call(struct sim *s, struct fault *f, enum hf_sim_fault kind, bool damages)
{
    bool store = f->chance & 1;

    f->damages = damages && store;
    arm(s, f, f->chance % 30, kind, store ? "/data/store" : "/data/meta");
}

static void disk_error(struct sim *s, struct fault *f)
{
    static const enum hf_sim_fault errors[] = {HF_SIM_FAULT_WRITE_EIO, HF_SIM_FAULT_SYNC_EIO,
                                               HF_SIM_FAULT_READ_EIO, HF_SIM_FAULT_SHORT};

    enum hf_sim_fault kind = errors[(f->chance >> 16) % HF_ARRAY_LEN(errors)];

    fail_a_call(s, f, kind, kind == HF_SIM_FAULT_READ_EIO); /* what cannot be read is set aside */
}

static bool hand_over(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);
    const char *error;

    return leader && hf_raft_driver_transfer(hf_meta_log_driver(leader->node->log),
                                             (struct hf_node_id){0}, &error) == 0;
}

/* Some is left, so that the last segments are small ones, or none. */
static void fill(struct hf_env *env, uint64_t chance)
{
    struct hf_disk_space space = {0};

    (void)hf_disk_space(hf_env_disk(env), "/data", &space);
    hf_sim_disk_set_capacity(hf_sim_disk(env), space.total_bytes - space.free_bytes +
                                                   (chance & 1 ? chance % (24u << 20) : 0));
}

static void cut_power(struct sim *s, struct sim_node *n, uint64_t chance)
{
    static const enum hf_sim_cut modes[] = {HF_SIM_CUT_RANDOM, HF_SIM_CUT_RANDOM,
                                            HF_SIM_CUT_LOSE_ALL, HF_SIM_CUT_KEEP_ALL};

    n->start_at_ns = sim_now(s) + SIM_S + chance % (6 * SIM_S);
    sim_node_power_cut(n, modes[chance % 4]);
}

void sim_power_cut_all(struct sim *s, uint64_t chance)
{
    s->power_at_sync = s->power_now = false;
    s->power_after = 0;
    for (uint32_t i = 0; i < s->node_count; i++) {
        cut_power(s, &s->nodes[i], chance >> i);
    }
}

static void lose_store(struct sim_node *n)
{
    n->befallen = true;
    damage(n, false);
    sim_node_lose_store(n);
}

void sim_store_lost(struct sim_node *n)
{
    n->lose_at_sync = n->lose_now = false;
    n->start_at_ns = sim_now(n->s) + SIM_S + below(n->s, 6 * SIM_S);
    lose_store(n);
}

void sim_loss_test(struct sim *s)
{
    uint64_t voters = sim_check_voters(s);
    uint32_t spare = voters ? ((uint32_t)__builtin_popcountll(voters) - 1) / 2 : 0;
    uint32_t first = (uint32_t)below(s, s->node_count);

    for (uint32_t i = 0; i < s->node_count; i++) {
        first = s->nodes[i].rotten ? i : first; /* what rots there unseen is lost, too */
    }
    for (uint32_t i = 0; i + 1 < s->config.copies; i++) {
        uint32_t at = (first + i) % s->node_count;
        struct sim_node *n = &s->nodes[at];

        n->start_at_ns = sim_now(s) + below(s, SIM_S);
        lose_store(n);
        if (spare && (voters >> at & 1)) {
            spare--;
            n->befallen = true;
            sim_node_lose_meta(n);
        }
    }
}

void sim_power_test(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        cut_power(s, &s->nodes[i], below(s, UINT32_MAX));
        s->nodes[i].start_at_ns = sim_now(s) + below(s, SIM_S);
    }
}

/* Of five nodes; three voters stay. */
static bool change_members(struct sim *s, const struct fault *f)
{
    struct sim_node *leader = sim_leader(s);
    struct hf_raft_driver *driver = leader ? hf_meta_log_driver(leader->node->log) : NULL;
    struct hf_raft_driver_status status;
    struct hf_node_id id = {(uint16_t)(1 + f->chance % s->node_count)};
    const char *error = NULL;
    bool member = false;
    int err = -EINVAL;

    if (!driver) {
        return false;
    }
    hf_raft_driver_status(driver, &status);
    for (uint32_t i = 0; i < status.config.count; i++) {
        member = member || status.config.members[i].id.v == id.v;
    }
    if (!member) {
        err = hf_raft_driver_add(driver, id, &error);
    } else if (status.config.count > 3) {
        err = hf_raft_driver_remove(driver, id, &error);
    }
    sim_trace(s, "node %u is %s: %s", id.v, member ? "removed" : "added", error ? error : "begun");
    return err == 0;
}

/* False: there was nothing that it could befall. */
static bool act(struct sim *s, struct fault *f)
{
    struct hf_env *env = machine(s, f->a);
    struct sim_node *n = f->a < s->node_count ? &s->nodes[f->a] : NULL;
    struct sim_client *c = n ? NULL : &s->clients[f->a - s->node_count];
    uint64_t some_ns = SIM_S / 5 + f->chance % (8 * SIM_S);

    switch (f->kind) {
    case FAULT_KILL:
        if (!n->node) {
            return false;
        }
        if (f->chance % 4 == 0) { /* in the middle of what it does next with its disk */
            arm(s, f, (f->chance >> 2) % 40, HF_SIM_FAULT_CRASH, NULL);
        } else if (f->chance % 4 == 1) {
            n->kill_after = 1 + (uint32_t)(f->chance >> 2) % 24;
            f->armed = true;
        } else {
            sim_node_kill(n);
        }
        return true;
    case FAULT_POWER:
        if (f->chance & 1) {
            cut_power(s, n, f->chance >> 1);
        } else if (!n->node) {
            return false;
        } else { /* in the middle of what its disk does next */
            arm(s, f, (f->chance >> 1) % 40, HF_SIM_FAULT_POWER_CUT, NULL);
        }
        return true;
    case FAULT_POWER_ALL:
        if (f->chance % 3 == 0) {
            sim_power_cut_all(s, f->chance >> 2);
        } else if (f->chance % 3 == 1) {
            s->power_at_sync = f->armed = true;
        } else {
            s->power_after = 1 + (uint32_t)(f->chance >> 2) % 32;
            f->armed = true;
        }
        return true;
    case FAULT_STOP:
        if (!n->node) {
            return false;
        }
        sim_node_stop(n);
        return true;
    case FAULT_PAUSE:
        hf_sim_pause(env, some_ns);
        return n ? n->node != NULL : c->state != CLIENT_DOWN;
    case FAULT_SUSPEND:
        hf_sim_suspend(env, some_ns);
        return true;
    case FAULT_RESET:
        return hf_sim_net_reset(s->world, hf_sim_host(env),
                                f->chance & 1 ? "" : hf_sim_host(machine(s, f->b)));
    case FAULT_SLOW_DISK:
        hf_sim_set_job_delay(env, (1 + f->chance % 400) * SIM_MS);
        return true;
    case FAULT_DISK_EIO:
        disk_error(s, f);
        return true;
    case FAULT_DISK_DEAD:
        arm(s, f, 0, HF_SIM_FAULT_DEAD, f->chance & 1 ? "/data/store" : NULL);
        return true;
    case FAULT_DISK_LIES:
        fail_a_call(s, f, f->chance & 2 ? HF_SIM_FAULT_LOST : HF_SIM_FAULT_ASTRAY, true);
        return true;
    case FAULT_META_LOST:
        n->start_at_ns = sim_now(s) + SIM_S + f->chance % (6 * SIM_S);
        sim_node_lose_meta(n);
        return true;
    case FAULT_STORE_LOST:
        if (f->chance & 1) {
            sim_store_lost(n);
        } else {
            n->lose_at_sync = f->armed = true;
        }
        return true;
    case FAULT_INDEX_LOST:
        if (!n->node) {
            return false;
        }
        sim_node_lose_index(n);
        return true;
    case FAULT_UNMOUNT:
        c->leaving = true;
        return c->state == CLIENT_SERVING;
    case FAULT_TRANSFER:
        return hand_over(s);
    case FAULT_MEMBERS:
        return change_members(s, f);
    case FAULT_DISK_FULL:
        fill(env, f->chance);
        s->full_ns = UINT64_MAX;
        if (f->chance & 2) {
            cut_later(s, f);
        }
        return true;
    case FAULT_TABLE:
        fail_table(s, f);
        return true;
    case FAULT_ROWS:
        fail_rows(s, f);
        return true;
    case FAULT_ROT:
        return rot(s, f);
    case FAULT_DRIFT:
        hf_sim_set_drift(env, (int32_t)(f->chance % 40000) - 20000);
        return true;
    case FAULT_WALL:
        hf_sim_set_wall_ns(env, f->chance & 1 ? hf_env_wall_ns(env) + f->chance % (3600 * SIM_S)
                                              : hf_env_wall_ns(env) - f->chance % (3600 * SIM_S));
        return true;
    case FAULT_CLIENT_KILL:
        if (c->state == CLIENT_DOWN) {
            return false;
        }
        if (f->chance & 1) {
            sim_client_kill(c);
        } else {
            c->kill_at_sync = f->armed = true;
        }
        return true;
    case FAULT_CUT:
    case FAULT_CUT_ONE_WAY:
    case FAULT_CUT_PAIR:
    case FAULT_SPLIT:
    case FAULT_STALLS:
    case FAULT_SLOW_NET:
        set_net(s);
        return true;
    case FAULT_FLIPS:
        f->before = hf_sim_net_flips(s->world);
        f->armed = true;
        set_net(s);
        return true;
    case FAULT_RESETS: /* each time that sim_atlas_act() looks */
        f->armed = true;
        return true;
    case FAULT_KIND_COUNT:
        break;
    }
    HF_UNREACHABLE();
}

static void count(struct sim *s, const struct fault *f)
{
    s->counts.faults++;
    s->counts.by_kind[f->kind]++;
}

/* Of an armed one. */
static bool has_struck(struct sim *s, const struct fault *f)
{
    const struct sim_node *n = f->a < s->node_count ? &s->nodes[f->a] : NULL;
    const struct sim_client *c = n ? NULL : &s->clients[f->a - s->node_count];

    if (f->kind == FAULT_POWER_ALL) {
        return !s->power_at_sync && !s->power_after && !s->power_now;
    }
    if (f->kind == FAULT_CLIENT_KILL) {
        return !c->kill_at_sync && !c->die;
    }
    if (f->kind == FAULT_STORE_LOST) {
        return !n->lose_at_sync && !n->lose_now;
    }
    if (f->kind == FAULT_TABLE) {
        return hf_table_model_failed(table_of(s, f)) > f->before;
    }
    if (f->kind == FAULT_ROWS) {
        return hf_table_model_unread(s->nodes[f->a].meta) > f->before;
    }
    if (f->kind == FAULT_FLIPS) {
        return hf_sim_net_flips(s->world) > f->before;
    }
    return f->struck || (f->kind == FAULT_KILL && f->chance % 4 == 1 && !n->kill_after);
}

static void begin(struct sim *s, struct fault *f)
{
    f->begun = true;
    if (kinds[f->kind].hits == HITS_VICTIM || f->kind == FAULT_DISK_FULL) {
        s->nodes[f->a].befallen = true;
    }
    sim_trace(s, "fault: %s of %s (%s)", kinds[f->kind].name, hf_sim_host(machine(s, f->a)),
              hf_sim_host(machine(s, f->b)));
    if (!act(s, f)) {
        sim_trace(s, "it finds nothing");
    } else if (!f->armed) {
        count(s, f);
    }
}

static bool is_full(const struct sim *s)
{
    for (uint32_t i = 0; i < s->plan->count; i++) {
        const struct fault *f = &s->plan->faults[i];

        if (f->kind == FAULT_DISK_FULL && f->begun && !f->over) {
            return true;
        }
    }
    return false;
}

static void end(struct sim *s, struct fault *f)
{
    f->over = true;
    sim_trace(s, "over: %s of %s", kinds[f->kind].name, hf_sim_host(machine(s, f->a)));
    if (f->kind == FAULT_SLOW_DISK) {
        hf_sim_set_job_delay(machine(s, f->a), 100 * HF_NS_PER_US);
    } else if (f->kind == FAULT_DISK_FULL) {
        hf_sim_disk_set_capacity(hf_sim_disk(machine(s, f->a)), UINT64_C(1) << 40);
        s->full_ns = is_full(s) ? UINT64_MAX : sim_now(s);
    } else if (f->kind == FAULT_TABLE || f->kind == FAULT_ROWS) {
        mend_tables(&s->nodes[f->a]);
    } else {
        set_net(s);
    }
}

/* The chance of a fault that acts several times goes on. */
static void act_again(struct sim *s, struct fault *f)
{
    if (f->kind == FAULT_RESETS && (f->chance >> 33) % 3 == 0 &&
        hf_sim_net_reset(s->world, hf_sim_host(machine(s, f->a)), "")) {
        f->struck = true;
    }
    f->chance = f->chance * 6364136223846793005u + 1;
}

/* What found nothing is made up for: no seed passes without faults. */
static void add_some(struct sim *s)
{
    for (unsigned i = 0; i < PADS_MAX && s->counts.faults < SIM_FAULTS_LEAST; i++) {
        struct fault f = draw(s);

        f.kind = FAULT_RESET;
        f.end_ns = 0;
        s->counts.padded -= s->counts.faults;
        begin(s, &f);
        s->counts.padded += s->counts.faults;
    }
}

void sim_atlas_act(struct sim *s)
{
    for (uint32_t i = 0; i < s->plan->count; i++) {
        struct fault *f = &s->plan->faults[i];

        if (f->armed && has_struck(s, f)) {
            f->armed = false;
            count(s, f);
            if (f->damages) {
                damage(&s->nodes[f->a], f->kind == FAULT_DISK_LIES);
            }
            if (f->kind == FAULT_DISK_EIO && (f->chance & 2)) { /* a restart finds it readable */
                sim_node_kill(&s->nodes[f->a]);
                cut_later(s, f);
            }
        }
        if (!f->begun && f->begin_ns <= sim_now(s)) {
            begin(s, f);
        } else if (f->begun && !f->over && f->end_ns && f->end_ns <= sim_now(s)) {
            end(s, f);
        } else if (f->begun && !f->over && f->end_ns) {
            act_again(s, f);
        }
    }
    if (s->options.fault_max == UINT32_MAX && sim_now(s) + 3 * SIM_S > s->options.faults_until) {
        add_some(s);
    }
}

void sim_atlas_heal(struct sim *s)
{
    for (uint32_t i = 0; i < s->plan->count; i++) {
        s->plan->faults[i].begun = s->plan->faults[i].over = true;
        s->plan->faults[i].armed = false;
    }
    for (uint32_t i = 0; i < s->node_count; i++) {
        s->nodes[i].kill_after = 0;
        s->nodes[i].lose_at_sync = false;
    }
    s->full_ns = s->full_ns == UINT64_MAX ? sim_now(s) : s->full_ns;
    s->power_at_sync = false;
    s->power_after = 0;
    for (uint32_t i = 0; i < s->client_count; i++) {
        s->clients[i].kill_at_sync = false;
    }
    set_net(s);
    for (uint32_t i = 0; i < s->node_count; i++) {
        mend_tables(&s->nodes[i]);
        s->nodes[i].damaged_life = s->nodes[i].lives; /* a fault may have struck just now */
    }
    for (uint32_t i = 0; i < s->node_count + s->client_count; i++) {
        struct hf_env *env = machine(s, i);

        hf_sim_resume(env);
        hf_sim_set_job_delay(env, 100 * HF_NS_PER_US);
        hf_sim_disk_clear_faults(hf_sim_disk(env));
        hf_sim_disk_set_capacity(hf_sim_disk(env), UINT64_C(1) << 40);
    }
}
