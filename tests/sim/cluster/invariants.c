/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must always hold (DESIGN 11): each with the rules that it proves, and who looks.
 */
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/sim/cluster/sim.h"

static const struct {
    const char *name;
    const char *text;   /* DESIGN 11 */
    const char *rules;  /* of DESIGN's sections, as far as this version has them */
    const char *checks; /* file: function, and when */
} invariants[] = {
    {"I1", "what fsync acknowledged is readable after any holders - 1 losses and a minority's",
     "3: a quarantined record stays until a good copy is verified. 3.2: a commit names its "
     "holders, what "
     "is missing is known in the same entry; a node that comes back holds nothing until its "
     "inventory. 3.2: a voter without its store neither votes nor acknowledges",
     "load_tree: find_contents(), look_at_file(); load_tree_data: data_error(); load.c: "
     "load_check_clean(); load_shared: check_log(); load_append: check_missing(); twice a second "
     "check.c: check_holds(); at rest run.c: power_test(), loss_test(), and everything read back"},
    {"I2", "metadata are linearizable, a rename is atomic",
     "4: the state machine applies in order; reads are confirmed by a majority",
     "load_tree: change_names(), each answer is shape_expected(); look_at_name() of other "
     "clients; load_tree_data: read_some(), seek_some(); load_shared: names by lin.c, the order of "
     "the log; load_append: look_at_stream(), mixed_file(); load_flags: flags_look_program(); "
     "run.c: "
     "members after power_test()"},
    {"I3", "of a dead client a prefix survives, and extents have their data",
     "4: only the next operation of a session's stream is applied; 3: objects are stored before an "
     "entry names them",
     "load_tree: find_tree() after each death; load_tree_data: tree_reread(); load_shared: "
     "check_file(); load_append: check_missing(), check_record()"},
    {"I4", "nobody reads bytes whose checksum or identity fails",
     "3: a repeated put of an id succeeds only with equal bytes; an id is never used again",
     "every byte that any program reads is one that was written there: contents.c, load_shared: "
     "check_log(), check_file(), load_append: check_record(); check.c: check_holds() (nothing is "
     "set aside that nothing befell), at the end check_copies() (each copy is read)"},
    {"I5", "conflicting holders never overlap, an ended session changes nothing",
     "4: a session past its time is evicted by an entry, its locks go, later commits are refused. "
     "Leases are not there yet: locks stand for them",
     "load_locks: check_granted(), check_refused(), check_deadlock(), check_getlk(), at rest "
     "locks_final(); load_shared: shared_append_program(); load_tree: find_again() waits for the "
     "end of the life before"},
    {"I6", "a request is applied at most once, with its own answer",
     "4: sessions, exactly once; results are kept for a window",
     "load_tree: the change under way at a death happened or not (find_tree()), answers fit "
     "(change_names()); no record twice: load_shared: check_log(), load_append: check_stream(); "
     "load_flags: change()"},
    {"I7", "collected, objects stored are objects referenced; counts recount equal",
     "3: at zero references an object is dead for ever",
     "check.c: check_rows() every five seconds, of one node in turn; at the end check_stores(), "
     "hf_meta_fsck() on every replica"},
    {"I8", "nothing referenced or open is deleted, nothing deleted comes back",
     "3: a used sequence is refused; 4: opens and orphans survive their leader",
     "load_tree: look_at_file() holds some; load_shared: hold() reads them whole whatever replaced "
     "them; check.c at rest: check_gone(), check_stores()"},
    {"I9", "replicas of metadata, and of objects, are equal",
     "4: entries are pure: nothing of a node's own goes into what they do",
     "check.c: check_digest() every 50 ms, at the index that each replica has just reached; "
     "check_holds() twice a second, check_stores() at the end"},
    {"I10", "a reported error is not followed by silent success",
     "6: what is dropped is reported by each open file's next fsync or close",
     "load_tree_data: what read_some() or told_wrong() finds lost, tree_sync_handle() has to be "
     "told; load_tree: sync_what_is_left() of a lost session; load_append: sync_stream()"},
    {"I11", "past what can be survived: stop or EIO, never a guess",
     "3.2, 4: a majority that is lost is not replaced by a guess",
     "all that looks above but what is at rest, with --beyond, where an error, or no answer, is "
     "right; run.c: sim_wrong() gives a wrong answer there this name, and the rule broken"},
    {"alive", "after healing, all converges within a bound",
     "4: elections, catching up, evictions; 3.3: repair",
     "run.c: converge(); check.c: sim_check_converged()"},
    {"code", "what each module holds of itself", "the headers of the modules",
     "check.c: check_modules(), of the machine that an event ran on: the client's file system; the "
     "Raft core when its clock moved, the store when an object or segment came, went or turned "
     "bad; at every 16th event its other modules, at every 512th the Raft log; all stores by "
     "check_every_row(), every 500 events"},
};

bool sim_invariant_known(const char *name)
{
    for (size_t i = 0; i < HF_ARRAY_LEN(invariants); i++) {
        if (strcmp(invariants[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

void sim_invariants_list(void)
{
    for (size_t i = 0; i < HF_ARRAY_LEN(invariants); i++) {
        printf("%-6s %s\n       rules   %s\n       checks  %s\n", invariants[i].name,
               invariants[i].text, invariants[i].rules, invariants[i].checks);
    }
}
