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
    X(raft, window_of_log, "the window counts from what is durable here")                          \
    /* server/seglog */                                                                            \
    X(seglog, ack_before_sync,                                                                     \
      "a batch of one record is acknowledged, its sync left to the next one")                      \
    X(seglog, fresh_unsynced, "a batch into a fresh segment counts as synced with its header")     \
    X(seglog, sync_retried, "a sync that failed is tried again, and believed")                     \
    X(seglog, segment_name_unsynced, "the name of a fresh segment is not made durable")            \
    X(seglog, segment_number_reused, "a fresh segment may get the number of one that was lost")    \
    X(seglog, torn_record_kept, "a torn record at the end is kept when its header is whole")       \
    X(seglog, tail_not_rewritten,                                                                  \
      "what a failed sync may have dropped is not written again at the start")                     \
    X(seglog, trims_partial,                                                                       \
      "the head is trimmed to within a segment, whose live records go, too")                       \
    X(seglog, record_vouches_itself, "a record says of itself that it was synced")                 \
    X(seglog, failed_record_replayed,                                                              \
      "a record whose batch failed is replayed where the next segment does not follow it")         \
    X(seglog, small_unsynced, "what is written to the small segment of a full disk is not synced") \
    /* server/store */                                                                             \
    X(store, torn_put_kept, "a torn put at the end of the log counts as an object")                \
    X(store, equal_put_at_once,                                                                    \
      "a put that equals one in flight is acknowledged before that one is")                        \
    X(store, put_revives, "a put that comes after the deletion stores the object again")           \
    X(store, delete_skips_moving, "a deletion passes over objects that compaction is moving")      \
    X(store, recycles_live, "a compaction that could not move everything recycles the segment")    \
    X(store, failed_move_counts, "a copy that could not be written counts as moved")               \
    X(store, copies_deleted, "an object deleted while it was read for moving is written again")    \
    X(store, tombstone_lost, "compaction loses tombstones")                                        \
    X(store, replay_first_note, "of a record of many deletions a restart replays the first")       \
    X(store, index_mark_ahead, "the index's mark covers records that are still being written")     \
    X(store, quarantine_not_logged, "a restart forgets which copies are bad")                      \
    X(store, delete_skips_putting, "a deletion passes over objects that are being put")            \
    /* server/meta */                                                                              \
    X(meta, last_forgotten, "a restart takes the oldest result of a session for its last number")  \
    X(meta, results_of_few,                                                                        \
      "the results of the last four operations are kept, whatever is in flight")                   \
    X(meta, session_id_reused,                                                                     \
      "the id of the session evicted last is given again, and its object ids")                     \
    X(meta, evict_keeps_flock, "the end of a session leaves its flock locks")                      \
    X(meta, one_holder_kept, "of the sessions that hold an unlinked file open one is remembered")  \
    X(meta, degraded_clear_all, "a copy made on one node clears what the others lack")             \
    X(meta, stale_epoch_enters,                                                                    \
      "an object put under an older group epoch enters as if nobody lacked it")                    \
    X(meta, returned_counts, "a node that returned counts as holding all that it lacked")          \
    X(meta, relocate_blind, "inline bytes written meanwhile are relocated over")                   \
    X(meta, unclaimed_not_asked,                                                                   \
      "a new leader takes files for closed until their sessions say otherwise")                    \
    X(meta, sweep_before_claim, "a new leader releases what sessions hold before they could tell") \
    X(meta, open_passes_unlink, "an open is granted while the unlink of its file is in flight")    \
    X(meta, holders_not_logged,                                                                    \
      "who holds an unlinked file is known to the leader, and not logged")                         \
    X(meta, victim_unordered, "an unlink does not wait for what is in flight on its name")         \
    X(meta, gone_on_one_word, "a dead object is forgotten when one replica has deleted it")        \
    X(meta, failed_delete_counts, "a deletion that failed counts as made")                         \
    X(meta, stray_of_living, "objects that a living session has not committed yet are deleted")    \
    X(meta, failed_inventory_counts, "a node is up again though its inventory failed")             \
    X(meta, bad_after_copy, "a copy that went bad while it was being made counts as good")         \
    X(meta, waits_come_again, "a wait for a lock that came before begins anew")                    \
    X(meta, trims_ahead,                                                                           \
      "the log is trimmed one checkpoint too far: to the one that is being written")               \
    X(meta, two_holders_kept, "of the sessions that hold a file open the leader names two")        \
    X(meta, rename_target_unmarked,                                                                \
      "an unlink does not wait for a rename to its name that is in flight")                        \
    X(meta, deposed_reads,                                                                         \
      "a leader that nobody hears stays, and answers looks without asking the log")                \
    X(meta, claims_of_another, "claims that were made for another leader count")                   \
    X(meta, resend_answered,                                                                       \
      "an operation that is sent again while it is in flight is answered at once")                 \
    X(meta, append_anywhere, "what is appended goes where the client thinks that the end is")      \
    X(meta, release_of_reopened, "a release that comes late takes a later opening away")           \
    X(meta, read_only_is_up, "a store whose disk fails writes counts as one that takes them")      \
    X(meta, quick_start_trusted, "no inventory of a store that was away too short to be missed")   \
    X(meta, old_life_counts, "what a node took before it came back counts as held")                \
    /* server/node */                                                                              \
    X(node, copy_unverified, "a copy is made of whatever the source sends")                        \
    X(node, delete_skips_copying, "a deletion passes over copies that are being fetched")          \
    X(node, copy_error_lost, "a copy that could not be written counts as made")                    \
    X(node, delete_ack_early, "a deletion is acknowledged before it is durable")                   \
    X(node, list_hides_bad, "an inventory lists copies that were set aside as good")               \
    X(node, bad_told_once, "what went bad is told once, whether the leader answers or not")        \
    X(node, members_not_kept, "a change of the metadata members is not kept with the state")       \
    X(node, put_ack_early, "a put is acknowledged when its last frame has come")                   \
    X(node, unanswered_counts, "a call to a store that is not answered counts as done")            \
    X(node, bad_during_beat, "what goes bad while a heartbeat is under way is not told")           \
    X(node, deletes_first, "of the objects of one deletion the first is deleted")                  \
    X(node, copy_of_nothing, "a copy for which no source had good bytes counts as made")           \
    /* common/table */                                                                             \
    X(table, failed_layer_dropped, "the rows of a merge that failed are forgotten")                \
    X(table, frozen_not_below, "a row deleted while it is being merged stays in the base")         \
    X(table, below_forgotten, "a row put anew and deleted again stays in the base")                \
    X(table, large_in_place,                                                                       \
      "a large value is changed in the layer that is being merged, where it lies")                 \
    /* client/meta */                                                                              \
    X(client_meta, acks_unanswered,                                                                \
      "the first operation that has no answer yet counts as answered")                             \
    X(client_meta, claims_miss_one, "of the files that a mount has open the last is not claimed")  \
    /* client/io */                                                                                \
    X(client_io, holders_count_gone, "members given up during a put are named as holders")         \
    X(client_io, frame_ack_counts,                                                                 \
      "the first frame that a member takes counts as the whole object")                            \
    X(client_io, prefetch_unverified, "what is read ahead is not verified")                        \
    X(client_io, object_id_reused,                                                                 \
      "a put that is tried again takes the next id, and so does the next put")                     \
    X(client_io, paused_counts, "a member that is to be tried again counts as a holder")           \
    X(client_io, old_attempt_counts,                                                               \
      "members that took an object count for the next one that replaces it")                       \
    /* client/fs */                                                                                \
    X(client_fs, commit_out_of_order,                                                              \
      "writes of one file are committed in the order their objects are durable")                   \
    X(client_fs, busy_written_in_place, "bytes on their way out are written over in place")        \
    X(client_fs, fsync_ignores_retry,                                                              \
      "an fsync succeeds when what it flushed failed and goes again later")                        \
    X(client_fs, sync_ignores_errors, "a sync of everything succeeds whatever failed")             \
    X(client_fs, fsync_waits_first, "an fsync waits for the first of the flushes under way")       \
    X(client_fs, truncate_overtakes, "a truncation does not wait for writes on their way out")     \
    X(client_fs, stat_misses_commit,                                                               \
      "attributes asked for before a commit are told after it as they were")                       \
    X(client_fs, read_trusts_cache,                                                                \
      "cached extents are read without asking whether they still stand")                           \
    X(client_fs, rename_passes_data, "a rename over another file does not wait for the data")      \
    X(client_fs, link_passes_data, "a file gets a name before its data is committed")              \
    X(client_fs, made_not_claimed, "a file that is being made is not claimed from a new leader")   \
    X(client_fs, error_told_once, "an error is told to the first file that asks, and to no other") \
    X(client_fs, failed_flush_settles, "a flush that failed and is to go again is forgotten")      \
    X(client_fs, sync_misses_last, "a sync of everything does not wait for the last flush")        \
    X(client_fs, retry_not_waited,                                                                 \
      "who waits for a commit that goes again in another shape does not wait for that")            \
    X(client_fs, link_left_is_orphan,                                                              \
      "a file that lost one of its names is treated as if it had none")                            \
    X(client_fs, through_ignores_error, "a synchronous write succeeds whatever became of it")      \
    X(client_fs, truncate_keeps_end,                                                               \
      "a truncation forgets that what was committed before it reached further")                    \
    X(client_fs, lost_takes_writes, "writes are taken after the session was lost")                 \
    X(client_fs, append_overtakes,                                                                 \
      "what is appended is committed before what was written at its place before it")              \
    X(client_fs, append_torn, "what is appended is flushed up to any byte, not to a record's end") \
    X(client_fs, stale_plan_kept,                                                                  \
      "bytes fetched by older extents are told though the extents have changed")                   \
    X(client_fs, fsync_skips_busy,                                                                 \
      "an fsync that finds nothing to flush does not wait for what is on its way")                 \
    /* common/rpc */                                                                               \
    X(rpc, late_reply_matches,                                                                     \
      "a reply that comes too late answers the call that has its place now")                       \
    X(rpc, reply_sum_unchecked, "the checksum of a reply is not checked")

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
