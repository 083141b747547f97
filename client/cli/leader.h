/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader.h - the metadata node that leads, found among all, and asked.
 *
 *     next of the list ──not the leader, names one──► that one (once a round)
 *        ▲   └──refused, silent, not ready──┐
 *        └── a short wait at the round's end, while a node lives and time is left
 *
 * A round in which no node lived (none answered in any way) is the last: there is nothing to wait
 * for. "status" and "meta-status" that a node answers about itself are not the leader's answer. A
 * node that fails while it works on the call is passed over like any other, so what is asked must
 * be right to do twice.
 */
#ifndef HF_CLI_LEADER_H
#define HF_CLI_LEADER_H

#include "client/cli/cluster.h"

struct cli_leader_ask {
    const char *command;
    const char *const *words;
    uint32_t word_count;
    uint64_t timeout_ns; /* of one answer */
    uint64_t wait_ns;    /* while nodes live and none leads; 0: one round */
};

/**
 * Ask whichever metadata node leads.
 *
 * @ret        the leader's answer, the caller's
 * @ret_addr   of the node that answered; may be NULL
 * @ret_error  on failure, sentences that list each node tried and what it said (malloc'd; NULL when
 *             memory is out); may be NULL
 * Errors: -HF_ENOTLEADER  nodes live, none leads
 *         -HF_EDISCONNECTED  none lives
 *         others  the leader's own: -ENOSYS  it does not know the command
 */
int cli_leader_admin(struct cli_cluster *cluster, const struct cli_leader_ask *ask, json_t **ret,
                     char ret_addr[HF_ADDR_BYTES_MAX], char **ret_error);

/** The same for commands: waits as long as mounts do (open_timeout); complains. Returns a CLI
 *  status. */
int cli_ask_leader(struct cli_cluster *cluster, const char *command, const char *const *words,
                   uint32_t word_count, uint64_t timeout_ns, json_t **ret);

#endif
