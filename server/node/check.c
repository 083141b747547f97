/* SPDX-License-Identifier: Apache-2.0 */
#include "server/node/node_impl.h"

#include "common/base/assert.h"

/* It is heard as long as it runs, and what went bad stays on the list until a leader knows. */
static void check_heartbeat(const struct hf_node *node)
{
    HF_ASSERT(node->bad_told <= node->bad_count && node->bad_count <= HF_HEARTBEAT_BAD_MAX);
    HF_ASSERT(node->beat_running || node->bad_told == 0);
    HF_ASSERT(node->beat_running != node->beat_timer.armed || node->stopping);
    HF_ASSERT(!node->beat_running || node->beat_to.v > 0);
    for (uint32_t i = 0; i < node->bad_count; i++) {
        HF_ASSERT(node->bad[i].group < node->map.group_count || node->map.group_count == 0);
    }
}

/* A replica has its log, but for a while when it is closed. */
static void check_parts(const struct hf_node *node)
{
    HF_ASSERT(!node->log || node->replica);
    HF_ASSERT(!node->replica || node->log || node->stopping);
    HF_ASSERT(!node->join_failed || !node->replica);
    /* The server goes when the store has no work left, and takes what clients had begun with it. */
    HF_ASSERT(node->server || (node->stopping && node->inflight == 0 && node->partial_count == 0));
}

void hf_node_check_invariants(const struct hf_node *node)
{
    check_heartbeat(node);
    check_parts(node);
    store_service_check(node);
    if (node->server) {
        hf_rpc_server_check_invariants(node->server);
    }
    for (uint32_t i = 0; i <= HF_NODES_MAX; i++) {
        if (node->peers[i]) {
            hf_rpc_peer_check_invariants(node->peers[i]);
        }
    }
    raft_net_check(node);
}
