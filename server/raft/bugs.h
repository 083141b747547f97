/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bugs.h - mistakes planted in the core, to prove that the simulation would find them.
 *
 * Only a build with the option planted_bugs has them, and there one at a time is switched on by
 * name (hf-raft-sim --bug NAME). In every other build HF_RAFT_BUG() is the constant false, and the
 * code behind it compiles to nothing.
 */
#ifndef HF_RAFT_BUGS_H
#define HF_RAFT_BUGS_H

/* name, what goes wrong */
#define HF_RAFT_BUGS(X)                                                                            \
    X(commit_old_term, "a leader commits entries of older terms by counting")                      \
    X(ack_whole_log, "a follower acknowledges its whole log, not what the leader checked")         \
    X(ack_before_durable, "a follower acknowledges before its disk has it")                        \
    X(commit_unverified, "a follower commits past the entries it checked")                         \
    X(vote_twice, "a second candidate of the same term gets a vote too")                           \
    X(vote_not_persisted, "messages do not wait for term and vote to be durable")                  \
    X(vote_stale_log, "votes go to candidates with older logs")                                    \
    X(old_term_append, "appends of an older term are accepted")                                    \
    X(leader_counts_unflushed, "the leader counts its own log before it is durable")               \
    X(late_append_result, "the completion of a dropped append counts")                             \
    X(no_conflict_check, "entries that conflict are kept")                                         \
    X(truncate_always, "an append truncates even where it agrees")                                 \
    X(config_no_rollback, "a configuration stays when its entry is dropped")                       \
    X(config_two_at_once, "configuration changes do not wait for each other")                      \
    X(config_before_own_commit, "a new leader changes the configuration at once")                  \
    X(learner_counts, "learners count for commitment")                                             \
    X(read_no_round, "reads do not wait for a round of heartbeats")                                \
    X(read_before_own_commit, "reads do not wait for an entry of the leader's term")               \
    X(read_old_round, "a round that began before the read confirms it")                            \
    X(lease_no_promise, "voters elect another while the leader counts on them")                    \
    X(lease_too_long, "the leader counts on the voters for longer than they promise")              \
    X(lease_after_transfer, "the leader serves by its lease after it asked another to lead")       \
    X(abstain_votes, "a node that lost its log votes")                                             \
    X(abstain_acks, "a node that lost its log is counted at once")                                 \
    X(result_of_old_term, "append results of an older term count")                                 \
    X(send_error_advances, "a send error counts as an acknowledgement")                            \
    X(append_error_ignored, "a failed append counts as durable")                                   \
    X(append_error_keeps_log, "after a failed append the log is not written again")                \
    X(snapshot_wrong_term, "an installed snapshot takes the leader's term as its own")             \
    X(snapshot_keeps_log, "an installed snapshot leaves the old log's end")                        \
    X(overlap_misplaced, "appends overlapping the trimmed head land at the wrong index")           \
    X(probe_never_backs_up, "a rejected probe is sent again unchanged")                            \
    X(inflight_leak, "the window to a peer is not freed by acknowledgements")                      \
    X(no_check_quorum, "a leader without a quorum stays")                                          \
    X(no_stall_check, "a leader whose disk stalls stays")                                          \
    X(no_backpressure, "proposals are never refused")                                              \
    X(own_vote_early, "a candidate counts its own vote before it is durable")                      \
    X(removed_leader_stays, "a leader that was removed goes on")                                   \
    X(no_noop, "a new leader appends nothing of its own")                                          \
    X(prevotes_count, "pre-votes count as votes")                                                  \
    X(learner_quorum, "the leader takes a learner that it hears for a part of its quorum")         \
    X(learner_confirms, "learners confirm reads")                                                  \
    X(restart_skips_config, "after a restart only the configuration of the snapshot counts")       \
    X(persist_under_way, "a message waits for the PERSIST of its own step only")                   \
    X(probe_below_match, "a peer is probed below what it acknowledged")                            \
    X(removed_keeps_snapshot, "the snapshot for a member that was removed stays open")             \
    X(deposed_keeps_snapshot, "snapshots stay open when leadership is lost")                       \
    X(config_own_disk, "a change waits until the one before is on the leader's own disk")          \
    X(change_own_disk, "a new leader changes members once its own disk has its entry")             \
    X(lost_leader_frees, "a broken connection to the leader ends the promise")                     \
    X(rewrite_durable, "entries that are written again count as durable at once")                  \
    X(campaign_during_install, "a node stands for election while a snapshot is installed")         \
    X(stall_clock_restarts, "each append restarts the clock of a stalled disk")                    \
    X(demoted_leader_counts, "a leader that is a learner by now counts its own log")               \
    X(demoted_leader_stays, "a leader that became a learner goes on")                              \
    X(vote_in_known_term, "a vote in a term that was known before is not written")                 \
    X(step_down_forgets_vote, "a candidate that steps down may vote again in its term")            \
    X(old_term_snapshot, "snapshots of an older term are accepted")                                \
    X(rebuild_by_position, "a change of members gives peers the progress of their neighbours")     \
    X(drop_durable_keeps, "late writes count when something durable was dropped")                  \
    X(window_of_log, "the window counts from what is durable here")

enum hf_raft_bug {
    HF_RAFT_BUG_none,
#define HF_RAFT_BUG_ENUM(name, text) HF_RAFT_BUG_##name,
    HF_RAFT_BUGS(HF_RAFT_BUG_ENUM)
#undef HF_RAFT_BUG_ENUM
        HF_RAFT_BUG_end,
};

#ifdef HF_PLANTED_BUGS
/* The one mutable global of the room: it exists in that build only, and is set before any step. */
extern enum hf_raft_bug hf_raft_bug_active;
#define HF_RAFT_BUG(name) (hf_raft_bug_active == HF_RAFT_BUG_##name)
#else
#define HF_RAFT_BUG(name) false
#endif

#endif
