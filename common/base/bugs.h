/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bugs.h - mistakes planted all over the tree, to prove that the simulations would find them.
 *
 * Only a build with the option planted_bugs has them, and there one at a time is switched on by
 * name: hf_bug_select(), a simulator's --bug NAME, or HF_BUG=NAME in the environment. In every
 * other build HF_BUG() is the constant false, and the code behind it compiles to nothing.
 */
#ifndef HF_BASE_BUGS_H
#define HF_BASE_BUGS_H

#include <stdbool.h>

/* module, name (unique in the whole list), what goes wrong; sorted by module */
#define HF_BUGS(X)                                                                                 \
    /* server/raft */                                                                              \
    X(raft, commit_old_term, "a leader commits entries of older terms by counting")                \
    X(raft, ack_whole_log, "a follower acknowledges its whole log, not what the leader checked")   \
    X(raft, ack_before_durable, "a follower acknowledges before its disk has it")                  \
    X(raft, commit_unverified, "a follower commits past the entries it checked")                   \
    X(raft, vote_twice, "a second candidate of the same term gets a vote too")                     \
    X(raft, vote_not_persisted, "messages do not wait for term and vote to be durable")            \
    X(raft, vote_stale_log, "votes go to candidates with older logs")                              \
    X(raft, old_term_append, "appends of an older term are accepted")                              \
    X(raft, leader_counts_unflushed, "the leader counts its own log before it is durable")         \
    X(raft, late_append_result, "the completion of a dropped append counts")                       \
    X(raft, no_conflict_check, "entries that conflict are kept")                                   \
    X(raft, truncate_always, "an append truncates even where it agrees")                           \
    X(raft, config_no_rollback, "a configuration stays when its entry is dropped")                 \
    X(raft, config_two_at_once, "configuration changes do not wait for each other")                \
    X(raft, config_before_own_commit, "a new leader changes the configuration at once")            \
    X(raft, learner_counts, "learners count for commitment")                                       \
    X(raft, read_no_round, "reads do not wait for a round of heartbeats")                          \
    X(raft, read_before_own_commit, "reads do not wait for an entry of the leader's term")         \
    X(raft, read_old_round, "a round that began before the read confirms it")                      \
    X(raft, lease_no_promise, "voters elect another while the leader counts on them")              \
    X(raft, lease_too_long, "the leader counts on the voters for longer than they promise")        \
    X(raft, lease_after_transfer, "the leader serves by its lease after it asked another to lead") \
    X(raft, abstain_votes, "a node that lost its log votes")                                       \
    X(raft, abstain_acks, "a node that lost its log is counted at once")                           \
    X(raft, result_of_old_term, "append results of an older term count")                           \
    X(raft, send_error_advances, "a send error counts as an acknowledgement")                      \
    X(raft, append_error_ignored, "a failed append counts as durable")                             \
    X(raft, append_error_keeps_log, "after a failed append the log is not written again")          \
    X(raft, snapshot_wrong_term, "an installed snapshot takes the leader's term as its own")       \
    X(raft, snapshot_keeps_log, "an installed snapshot leaves the old log's end")                  \
    X(raft, overlap_misplaced, "appends overlapping the trimmed head land at the wrong index")     \
    X(raft, probe_never_backs_up, "a rejected probe is sent again unchanged")                      \
    X(raft, inflight_leak, "the window to a peer is not freed by acknowledgements")                \
    X(raft, no_check_quorum, "a leader without a quorum stays")                                    \
    X(raft, no_stall_check, "a leader whose disk stalls stays")                                    \
    X(raft, no_backpressure, "proposals are never refused")                                        \
    X(raft, own_vote_early, "a candidate counts its own vote before it is durable")                \
    X(raft, removed_leader_stays, "a leader that was removed goes on")                             \
    X(raft, no_noop, "a new leader appends nothing of its own")                                    \
    X(raft, prevotes_count, "pre-votes count as votes")                                            \
    X(raft, learner_quorum, "the leader takes a learner that it hears for a part of its quorum")   \
    X(raft, learner_confirms, "learners confirm reads")                                            \
    X(raft, restart_skips_config, "after a restart only the configuration of the snapshot counts") \
    X(raft, persist_under_way, "a message waits for the PERSIST of its own step only")             \
    X(raft, probe_below_match, "a peer is probed below what it acknowledged")                      \
    X(raft, removed_keeps_snapshot, "the snapshot for a member that was removed stays open")       \
    X(raft, deposed_keeps_snapshot, "snapshots stay open when leadership is lost")                 \
    X(raft, config_own_disk, "a change waits until the one before is on the leader's own disk")    \
    X(raft, change_own_disk, "a new leader changes members once its own disk has its entry")       \
    X(raft, lost_leader_frees, "a broken connection to the leader ends the promise")               \
    X(raft, rewrite_durable, "entries that are written again count as durable at once")            \
    X(raft, campaign_during_install, "a node stands for election while a snapshot is installed")   \
    X(raft, stall_clock_restarts, "each append restarts the clock of a stalled disk")              \
    X(raft, demoted_leader_counts, "a leader that is a learner by now counts its own log")         \
    X(raft, demoted_leader_stays, "a leader that became a learner goes on")                        \
    X(raft, vote_in_known_term, "a vote in a term that was known before is not written")           \
    X(raft, step_down_forgets_vote, "a candidate that steps down may vote again in its term")      \
    X(raft, old_term_snapshot, "snapshots of an older term are accepted")                          \
    X(raft, rebuild_by_position,                                                                   \
      "a change of members gives peers the progress of their neighbours")                          \
    X(raft, drop_durable_keeps, "late writes count when something durable was dropped")            \
    X(raft, window_of_log, "the window counts from what is durable here")

enum hf_bug {
    HF_BUG_none,
#define HF_BUG_ENUM(module, name, text) HF_BUG_##name,
    HF_BUGS(HF_BUG_ENUM)
#undef HF_BUG_ENUM
        HF_BUG_end,
};

/** One row per bug; the first is "none". */
struct hf_bug_row {
    const char *module, *name, *text;
};

extern const struct hf_bug_row hf_bug_rows[HF_BUG_end];

#ifdef HF_PLANTED_BUGS
/* The one mutable global beside the log sink: that build only, and set before anything starts. */
extern enum hf_bug hf_bug_active;
#define HF_BUG(name) (hf_bug_active == HF_BUG_##name)
#else
#define HF_BUG(name) false
#endif

/**
 * Switch one bug on, and the one before off.
 *
 * @name  "none": off
 * Errors: -ENOENT   no bug has that name
 *         -ENOTSUP  this build has none
 */
int hf_bug_select(const char *name);

/** What is switched on: a row of hf_bug_rows. */
const struct hf_bug_row *hf_bug_selected(void);

#endif
