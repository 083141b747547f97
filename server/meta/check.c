/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/leader_impl.h"

#include "common/base/assert.h"

static void check_store_calls(const struct hf_leader *leader)
{
    uint32_t calls = leader->copier.inflight;

    for (uint32_t i = 0; i < HF_NODES_MAX; i++) {
        const struct hf_lnode *node = &leader->nodes.nodes[i];

        HF_ASSERT(node->id.v == i + 1 && node->unnamed_bad_count <= HF_HEARTBEAT_BAD_MAX);
        HF_ASSERT(!node->unnamed_bad_missed || node->unnamed_bad_count > 0);
        calls += node->deleting;
    }
    HF_ASSERT(calls <= leader->store_calls); /* the rest are those of inventories */
}

static void check_purger(const struct hf_leader *leader)
{
    const struct hf_ino *busy = leader->purger.busy;
    bool any = false;

    for (uint32_t i = 0; i < HF_PURGER_PARALLEL; i++) {
        for (uint32_t k = 0; k < i; k++) {
            HF_ASSERT(busy[i].v == 0 || busy[i].v != busy[k].v);
        }
        any = any || busy[i].v > 0;
    }
    HF_ASSERT(!any || leader->queue_bytes > 0); /* its entry is on its way */
}

void hf_leader_check_invariants(struct hf_leader *leader)
{
    const enum hf_leader_state state = leader->state;

    HF_ASSERT((leader->starting_left > 0) == (state == HF_LEADER_STARTING) ||
              state == HF_LEADER_FAILED || state == HF_LEADER_CLOSING);
    HF_ASSERT(leader->close_timer.armed == (state == HF_LEADER_CLOSING));
    hf_sessions_check_invariants(leader);
    hf_leader_ops_check(leader);
    hf_leader_reads_check(leader);
    hf_copier_check_invariants(leader);
    hf_reaper_check_invariants(leader);
    check_store_calls(leader);
    check_purger(leader);
    if (hf_leader_serving(leader)) {
        hf_waiters_check_invariants(leader);
    } else {
        HF_ASSERT(leader->waiters.count == 0); /* told when it stopped to serve */
    }
}

void hf_replica_check_invariants(struct hf_replica *replica)
{
    bool found = !replica->leader;

    HF_ASSERT(!replica->leader || (!replica->closing && !replica->load));
    for (struct hf_leader *leader = replica->leaders; leader; leader = leader->next) {
        HF_ASSERT(leader->replica == replica && leader->meta == replica->meta);
        HF_ASSERT(leader == replica->leader || leader->state == HF_LEADER_CLOSING);
        HF_ASSERT(leader != replica->leader || leader->state != HF_LEADER_CLOSING);
        HF_ASSERT(!replica->failed || !hf_leader_serving(leader));
        hf_leader_check_invariants(leader);
        found = found || leader == replica->leader;
    }
    HF_ASSERT(found);
    HF_ASSERT(replica->checkpoint_index <= hf_meta_applied(replica->meta));
    HF_ASSERT(replica->running_index <= hf_meta_applied(replica->meta));
    HF_ASSERT(replica->failed || replica->closing || !replica->log.propose ||
              replica->checkpoint_timer.armed);
    hf_table_check_invariants(replica->table);
}
