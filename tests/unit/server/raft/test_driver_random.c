/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers under random faults: kills, power cuts, one-way cuts, lost messages, failing and full
 * disks, wiped stores, transfers, all under proposals and reads. cluster.h checks what must hold.
 * HF_DRIVER_SEEDS=N runs N seeds, HF_DRIVER_SEED=N that one only.
 */
#include "tests/unit/server/raft/cluster.h"

#define SEEDS 200u

static uint64_t running, snapshots, leads, reads, entries, lost;

static uint64_t chance(struct cluster *c, uint64_t end)
{
    return hf_sim_random_below(c->sim, end);
}

static struct cl_node *any(struct cluster *c)
{
    return &c->nodes[chance(c, c->count)];
}

static void disk_fault(struct cl_node *n)
{
    static const enum hf_sim_fault kinds[] = {HF_SIM_FAULT_WRITE_EIO, HF_SIM_FAULT_SYNC_EIO,
                                              HF_SIM_FAULT_NOSPC,     HF_SIM_FAULT_SHORT,
                                              HF_SIM_FAULT_POWER_CUT, HF_SIM_FAULT_CRASH};
    static const char *const parts[] = {"/log/", "/vote/", "incoming", "state", "snapshot"};
    struct hf_sim_disk *disk = hf_sim_disk(n->env);
    const uint64_t at = hf_sim_disk_calls(disk) + chance(n->c, 40);
    const enum hf_sim_fault kind = kinds[chance(n->c, 6)];

    if (chance(n->c, 2)) {
        hf_sim_disk_fail_at(disk, at, kind);
    } else {
        hf_sim_disk_fail_path(disk, at, kind, parts[chance(n->c, 5)], NULL);
    }
}

/* A store may be lost only while the others are well: then nothing that counts is lost. */
static bool all_well(struct cluster *c)
{
    const struct cl_node *leader = cl_leader(c);
    const struct hf_raft_config *config;

    if (!leader || c->count < 3) {
        return false;
    }
    config = &leader->state.config;
    if (cl_status(cl_leader(c)).commit_index != cl_status(cl_leader(c)).last_index) {
        return false;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        struct hf_raft_driver_status s = cl_status(&c->nodes[i]);

        if (s.state != HF_RAFT_RUNNING || s.abstaining || c->nodes[i].failed ||
            s.durable_index != cl_status(cl_leader(c)).durable_index ||
            !hf_raft_config_has(config, c->nodes[i].id, HF_RAFT_VOTER)) {
            return false;
        }
    }
    return true;
}

static void lose_store(struct cl_node *n)
{
    const uint64_t what = chance(n->c, 4);

    lost++;
    cl_kill(n, CL_POWER);
    n->damaged = true;
    if (what == 0 || what == 1) {
        cl_wipe(n, CL_DIR "/log");
    }
    if (what == 0 || what == 2) {
        cl_wipe(n, CL_DIR "/vote");
    }
    if (what == 0 || what == 3) { /* a log that begins behind what was applied */
        cl_wipe(n, CL_DIR);
    }
}

static void watch_damaged(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct cl_node *n = &c->nodes[i];
        struct hf_raft_driver_status s = cl_status(n);

        if (n->damaged && s.state == HF_RAFT_RUNNING && !s.abstaining && !n->driver->hard.abstain &&
            n->driver->writes == 0) {
            n->damaged = false;
        }
    }
}

static void act_once(struct cluster *c)
{
    struct cl_node *n = any(c), *leader = cl_leader(c);
    const char *why;

    switch (chance(c, 26)) {
    case 0:
        cl_kill(n, chance(c, 2) ? CL_POWER : CL_CRASH);
        break;
    case 1:
        if (leader) {
            cl_kill(leader, chance(c, 2) ? CL_POWER : CL_CRASH);
        }
        break;
    case 2:
        c->cut[chance(c, c->count)][chance(c, c->count)] = true;
        break;
    case 3:
    case 4:
        memset(c->cut, 0, sizeof(c->cut));
        c->loss_per_mille = 0;
        break;
    case 5:
        c->loss_per_mille = (uint32_t)chance(c, 200);
        break;
    case 6:
    case 7:
        disk_fault(n);
        break;
    case 8:
        if (leader) {
            (void)hf_raft_driver_transfer(leader->driver, (struct hf_node_id){0}, &why);
        }
        break;
    case 9:
        if (n->driver) {
            hf_raft_driver_unreachable(n->driver, any(c)->id);
        }
        break;
    case 10:
        hf_sim_set_job_delay(n->env, chance(c, 3) ? 100 * HF_NS_PER_US : 300 * MSEC);
        break;
    case 11:
        if (all_well(c)) {
            lose_store(n);
        }
        break;
    case 12:
        if (n->driver && !n->failed) {
            cl_close(n);
        }
        break;
    case 13:
        hf_sim_run_ns(c->sim, chance(c, 5 * SEC));
        break;
    default:
        for (uint64_t i = chance(c, 12); i > 0; i--) {
            (void)cl_propose(leader && chance(c, 10) ? leader : any(c));
        }
        for (uint64_t i = chance(c, 4); i > 0; i--) {
            cl_read(leader && chance(c, 10) ? leader : any(c));
        }
    }
}

static void tend(struct cluster *c, bool all)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct cl_node *n = &c->nodes[i];

        if (n->driver && (n->failed || hf_sim_disk_is_off(hf_sim_disk(n->env))) &&
            (all || chance(c, 5) == 0)) {
            cl_kill(n, CL_CRASH);
        }
        if (!n->driver && (all || chance(c, 6) == 0)) {
            if (cl_try_start(n) != 0) { /* a fault of its disk, which a new start may not heal */
                cl_kill(n, CL_POWER);
            }
        }
    }
    watch_damaged(c);
}

static void heal(struct cluster *c)
{
    memset(c->cut, 0, sizeof(c->cut));
    c->loss_per_mille = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        hf_sim_set_job_delay(c->nodes[i].env, 100 * HF_NS_PER_US);
        /* a directory that failed to sync would do so for ever */
        cl_kill(&c->nodes[i], CL_POWER);
    }
    tend(c, true);
}

static void run(uint64_t seed)
{
    static const uint32_t counts[] = {3, 3, 3, 3, 3, 5, 5, 1};
    struct cluster *c = cl_new(seed, counts[seed % 8]);

    c->keep_bytes = chance(c, 2) ? 2000 : 0;
    c->checkpoint_every = 5 + chance(c, 60);
    c->bulk_max = chance(c, 3) ? 300 : 20000;
    c->segment_bytes = chance(c, 2) ? 128u << 10 : 512u << 10;
    c->pad_bytes = chance(c, 8) ? 0 : 2500000;
    c->save_ns = chance(c, 3) ? 0 : chance(c, SEC);
    c->chatty = chance(c, 2);
    if (getenv("HF_TEST_LOG")) {
        (void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    }
    tend(c, true);
    (void)cl_wait_leader(c);
    for (uint32_t i = 0; i < 150; i++) {
        act_once(c);
        hf_sim_run_ns(c->sim, chance(c, 4) ? chance(c, 20 * MSEC) : chance(c, 800 * MSEC));
        tend(c, false);
    }
    heal(c);
    for (uint32_t i = 0; i < 40; i++) {
        hf_sim_run_ns(c->sim, SEC);
        tend(c, true);
    }
    cl_settle(c);
    for (uint32_t i = 0; i < c->count; i++) {
        snapshots += c->nodes[i].snapshots_loaded;
        leads += c->nodes[i].leads;
    }
    reads += c->reads_done;
    entries += c->truth_last;
    cl_free(c);
}

static void seeds(void **state)
{
    const char *one = getenv("HF_DRIVER_SEED"), *many = getenv("HF_DRIVER_SEEDS");
    const char *from = getenv("HF_DRIVER_FROM");
    const uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    const uint64_t count = many ? strtoull(many, NULL, 10) : SEEDS;

    (void)state;
    if (one) {
        run(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = first; seed < first + count; seed++) {
        running = seed;
        run(seed);
    }
}

static int tell_seed(void **state)
{
    (void)state;
    (void)fprintf(stderr,
                  "last seed %llu: entries %llu reads %llu leads %llu snapshots %llu stores lost "
                  "%llu\n",
                  (unsigned long long)running, (unsigned long long)entries,
                  (unsigned long long)reads, (unsigned long long)leads,
                  (unsigned long long)snapshots, (unsigned long long)lost);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(seeds, tell_seed)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
