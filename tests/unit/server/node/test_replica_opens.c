/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds which file open, as the leader knows it: across unlinks, renames, restarts and claims.
 */
#include "tests/unit/server/node/replica_world.h"

static void an_open_file_outlives_its_name_until_it_is_released(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(lookup(w, "a"), -ENOENT);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(usage(w).orphans, 1);
    assert_int_equal(inode_read(w, &s, HF_RD_OPEN, ino), -ESTALE);
    assert_int_equal(inode_read(w, &t, HF_RD_RELEASE, ino), 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(usage(w).orphans, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void a_file_nobody_holds_goes_with_its_name(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(usage(w).orphans, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static int lookup_by(struct world *w, const struct session *s, const char *name)
{
    struct hf_meta_read rd = {.op = HF_RD_LOOKUP,
                              .session = s->id,
                              .ino = {HF_INO_ROOT},
                              .name = name,
                              .name_len = strlen(name)};

    return run_read(w, &rd).err;
}

static void a_file_unlinked_between_look_and_open_can_be_opened(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a"), other = create(w, &s, "b");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, other), 0);
    assert_int_equal(lookup_by(w, &t, "a"), 0);
    assert_int_equal(lookup_by(w, &t, "b"), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, ino), 0);
    hf_sim_run_ns(w->sim, 2 * SEC); /* what was looked up is forgotten */
    assert_int_equal(unlink_name(w, &s, "b"), 0);
    assert_int_not_equal(inode_read(w, &t, HF_RD_OPEN, other), 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, ino), 0); /* held open */
    assert_int_equal(inode_read(w, &t, HF_RD_RELEASE, ino), 0);
    hf_sim_run_ns(w->sim, 2 * SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void a_file_looked_up_and_never_opened_goes_soon_after_its_name(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(lookup_by(w, &t, "a"), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(getattr(w, ino), 0);
    hf_sim_run_ns(w->sim, 3 * SEC / 2);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static int rename_by(struct world *w, struct session *s, const char *from, const char *to)
{
    struct hf_meta_op op = {.op = HF_OP_RENAME,
                            .session = s->id,
                            .stream = ++s->stream,
                            .parent = {HF_INO_ROOT},
                            .name = from,
                            .name_len = strlen(from),
                            .parent2 = {HF_INO_ROOT},
                            .name2 = to,
                            .name2_len = strlen(to)};

    return run_op(w, &op).err;
}

/* One process of a mount looks the name up, another one renames over it. */
static void a_file_replaced_between_look_and_open_can_be_opened(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a"), second = create(w, &s, "b");

    (void)create(w, &s, "c");
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, second), 0);
    assert_int_equal(lookup_by(w, &s, "a"), 0);
    assert_int_equal(rename_by(w, &s, "b", "a"), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_OPEN, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_OPEN, ino), 0); /* another one that looked it up */
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    hf_sim_run_ns(w->sim, SEC / 2);
    assert_int_equal(getattr(w, ino), -ENOENT);
    assert_int_equal(lookup_by(w, &s, "a"), 0);
    assert_int_equal(rename_by(w, &s, "c", "a"), 0);
    assert_int_equal(getattr(w, second), 0);
    hf_sim_run_ns(w->sim, 3 * SEC / 2); /* nobody opened it */
    assert_int_equal(getattr(w, second), -ENOENT);
    assert_int_equal(usage(w).orphans, 0);
}

static struct hf_ino make_link(struct world *w, struct session *s, const char *name)
{
    struct hf_meta_op op = create_of(s, name);

    op.mode = S_IFLNK | 0777;
    op.target = "x";
    op.target_len = 1;
    assert_int_equal(run_op(w, &op).err, 0);
    return op.ino;
}

/* Another mount walks through it meanwhile. */
static void a_link_replaced_between_look_and_readlink_can_be_read(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = make_link(w, &s, "a");

    (void)make_link(w, &s, "b");
    assert_int_equal(lookup_by(w, &t, "a"), 0);
    assert_int_equal(rename_by(w, &s, "b", "a"), 0);
    assert_int_equal(inode_read(w, &t, HF_RD_READLINK, ino), 0);
    hf_sim_run_ns(w->sim, 3 * SEC / 2);
    assert_int_equal(inode_read(w, &t, HF_RD_READLINK, ino), -ENOENT);
    assert_int_equal(usage(w).orphans, 0);
}

/* Its own look was for this. */
static void a_file_that_its_finder_unlinks_goes_at_once(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");

    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, ino), 0);
    assert_int_equal(lookup_by(w, &s, "a"), 0);
    assert_int_equal(unlink_name(w, &s, "a"), 0);
    assert_int_equal(usage(w).orphans, 0);
    hf_sim_run_ns(w->sim, SEC / 2);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static void rename_over_an_open_file_keeps_it_for_its_holder(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino old = create(w, &s, "a");
    struct hf_meta_op op;

    (void)create(w, &s, "b");
    op = (struct hf_meta_op){.op = HF_OP_RENAME,
                             .session = s.id,
                             .stream = ++s.stream,
                             .parent = {HF_INO_ROOT},
                             .name = "b",
                             .name_len = 1,
                             .parent2 = {HF_INO_ROOT},
                             .name2 = "a",
                             .name2_len = 1};
    assert_int_equal(run_op(w, &op).err, 0);
    assert_int_equal(getattr(w, old), 0);
    op = (struct hf_meta_op){
        .op = HF_OP_ORPHAN_RELEASE, .session = s.id, .stream = ++s.stream, .ino = old};
    assert_int_equal(run_op(w, &op).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, old), -ENOENT);
}

static void an_open_during_an_unlink_is_answered_after_it(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = unlink_of(&s, "a");
    struct hf_meta_read rd = {.op = HF_RD_OPEN, .session = t.id, .ino = ino};
    struct answer unlinked, opened;

    start_op(w, &op, &unlinked);
    start_read(w, &rd, &opened);
    wait_for(w, &opened);
    assert_true(unlinked.done);
    assert_int_equal(unlinked.reply.err, 0);
    assert_int_equal(opened.reply.err, -ESTALE);
}

static void a_release_during_an_unlink_leaves_no_orphan(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_op op = unlink_of(&s, "a");
    uint64_t pair[2] = {ino.v, 0};
    struct hf_meta_read rd = {.op = HF_RD_RELEASE, .session = s.id, .inos = pair, .ino_count = 2};
    struct answer unlinked, released;

    start_op(w, &op, &unlinked);
    start_read(w, &rd, &released);
    wait_for(w, &unlinked);
    wait_for(w, &released);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(usage(w).orphans, 0);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

static int link_as(struct world *w, struct session *s, struct hf_ino ino, const char *name)
{
    struct hf_meta_op op = {.op = HF_OP_LINK,
                            .session = s->id,
                            .stream = ++s->stream,
                            .ino = ino,
                            .parent = {HF_INO_ROOT},
                            .name = name,
                            .name_len = strlen(name)};

    return run_op(w, &op).err;
}

static void a_file_without_a_name_is_there_while_it_is_held(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino named = make_unnamed(w, &s), unnamed = make_unnamed(w, &s);

    hf_sim_run_ns(w->sim, 20 * SEC); /* past a sweep */
    assert_int_equal(getattr(w, unnamed), 0);
    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, unnamed), -ESTALE); /* nobody else's */
    assert_int_equal(inode_read(w, &s, HF_RD_OPEN, unnamed), 0);
    assert_int_equal(link_as(w, &s, named, "a"), 0);
    assert_int_equal(inode_read(w, &t, HF_RD_OPEN, named), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, named), 0);
    assert_int_equal(inode_read(w, &s, HF_RD_RELEASE, unnamed), 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, named), 0);
    assert_int_equal(getattr(w, unnamed), -ENOENT);
    assert_int_equal(usage(w).orphans, 0);
}

static void after_a_restart_a_file_without_a_name_is_there_if_it_is_claimed(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino kept = make_unnamed(w, &s), dropped = make_unnamed(w, &s);
    struct hf_ino named = make_unnamed(w, &s);

    assert_int_equal(link_as(w, &s, named, "a"), 0);
    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(usage(w).orphans, 2);
    assert_int_equal(unlink_name(w, &t, "a"), 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, named), 0); /* whoever made it may have it open */
    assert_int_equal(renew(w, &s, (uint64_t[]){kept.v, 0, named.v, 0}, 4, 0).err, 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, named), 0);
    assert_int_equal(getattr(w, dropped), -ENOENT);
    assert_int_equal(link_as(w, &s, kept, "b"), 0);
    assert_int_equal(lookup(w, "b"), 0);
}

static void after_a_restart_an_unclaimed_file_is_kept(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino kept = create(w, &s, "kept"), dropped = create(w, &s, "dropped");

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(unlink_name(w, &t, "kept"), 0);
    assert_int_equal(unlink_name(w, &t, "dropped"), 0);
    assert_int_equal(usage(w).orphans, 2);
    assert_int_equal(renew(w, &s, (uint64_t[]){kept.v, 0}, 2, 0).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, kept), 0);
    assert_int_equal(getattr(w, dropped), -ENOENT);
}

/* An opening without an answer is sent again to the next leader, behind what the session claimed,
 * which does not name it: the file is being let go. */
static void an_opening_behind_the_claims_does_not_hold_what_they_let_go(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    struct hf_meta_read claims = {.op = HF_RD_RENEW, .session = s.id};
    const struct hf_meta_read again = {.op = HF_RD_OPEN, .session = s.id, .ino = ino, .cookie = 4};
    struct answer claimed, opened;

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(unlink_name(w, &t, "a"), 0);
    assert_int_equal(getattr(w, ino), 0);
    claims.cookie = run_read(w, &claims).next_cookie;
    claims.flags = HF_RENEW_CLAIM;
    start_read(w, &claims, &claimed);
    start_read(w, &again, &opened);
    wait_for(w, &claimed);
    wait_for(w, &opened);
    assert_int_equal(claimed.reply.err, 0);
    assert_int_equal(claimed.reply.next_cookie, 0);
    assert_int_equal(opened.reply.err, -ESTALE);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

/* Its connection did not break when the node led anew: it does not know that it has to claim. */
static void a_renewal_that_claims_nothing_says_nothing_of_open_files(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "open");
    const struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s.id};

    assert_int_equal(unlink_name(w, &t, "open"), 0);
    crash(w);
    boot(w);
    assert_int_not_equal(run_read(w, &rd).next_cookie, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(renew(w, &s, (uint64_t[]){ino.v, 0}, 2, 0).err, 0);
    assert_int_equal(run_read(w, &rd).next_cookie, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
}

/* Made before the file was opened, and long on their way: to a node that did not lead then. */
static void claims_made_for_another_leader_say_nothing(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "open");
    struct hf_meta_read late = {.op = HF_RD_RENEW, .session = s.id};

    crash(w);
    boot(w);
    late.cookie = run_read(w, &late).next_cookie;
    late.flags = HF_RENEW_CLAIM;
    assert_int_not_equal(late.cookie, 0);
    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    assert_int_equal(unlink_name(w, &t, "open"), 0);
    assert_int_not_equal(run_read(w, &late).next_cookie, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(renew(w, &s, (uint64_t[]){ino.v, 0}, 2, 0).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
}

/* Part @rd of the claims, of pairs from @first on. */
static struct hf_meta_reply claim_part(struct world *w, struct hf_meta_read *rd, uint64_t first,
                                       uint32_t pairs, uint32_t more)
{
    static uint64_t inos[HF_RENEW_CLAIMS_MAX];

    for (uint32_t i = 0; i < pairs; i++) {
        inos[2 * i] = first + i;
        inos[2 * i + 1] = 0;
    }
    rd->flags = HF_RENEW_CLAIM | more;
    rd->inos = inos;
    rd->ino_count = 2 * pairs;
    return run_read(w, rd);
}

/* More is open than one message takes: no part but the last says what is not held. */
static void claims_in_parts_count_when_the_last_has_come(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino held = create(w, &s, "held"), closed = create(w, &s, "closed");
    struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s.id};
    struct hf_meta_reply reply;

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    rd.cookie = run_read(w, &rd).next_cookie;
    reply = claim_part(w, &rd, 1000000, HF_RENEW_CLAIMS_MAX / 2, HF_RENEW_MORE);
    assert_int_equal(reply.count, HF_RENEW_CLAIMS_MAX);
    assert_int_not_equal(reply.next_cookie, 0);
    assert_int_not_equal(reply.next_cookie, rd.cookie);
    assert_int_equal(unlink_name(w, &t, "held"), 0);
    assert_int_equal(unlink_name(w, &t, "closed"), 0);
    hf_sim_run_ns(w->sim, 20 * SEC); /* past a sweep */
    assert_int_equal(getattr(w, held), 0);
    assert_int_equal(getattr(w, closed), 0);
    rd.cookie = reply.next_cookie;
    reply = claim_part(w, &rd, held.v, 1, 0);
    assert_int_equal(reply.err, 0);
    assert_int_equal(reply.next_cookie, 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, held), 0);
    assert_int_equal(getattr(w, closed), -ENOENT);
}

/* A part of a telling that was broken off comes late, and would pass for one of the next. */
static void a_late_part_of_claims_counts_for_nothing(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino held = create(w, &s, "held");
    struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s.id}, late = rd;
    const struct hf_meta_read ask = rd;
    struct hf_meta_reply reply;

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    rd.cookie = run_read(w, &ask).next_cookie;
    late.cookie = claim_part(w, &rd, 1000000, 2, HF_RENEW_MORE).next_cookie; /* its last */
    rd.cookie = run_read(w, &ask).next_cookie;                               /* anew */
    assert_int_not_equal(rd.cookie, late.cookie);
    rd.cookie = claim_part(w, &rd, 1000000, 2, HF_RENEW_MORE).next_cookie;
    assert_int_equal(unlink_name(w, &t, "held"), 0);
    reply = claim_part(w, &late, 1000002, 1, 0);
    assert_int_not_equal(reply.next_cookie, 0);
    assert_int_equal(reply.count, 0);
    assert_int_not_equal(claim_part(w, &rd, held.v, 1, 0).next_cookie, 0); /* begin anew */
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, held), 0);
    assert_int_equal(renew(w, &s, (uint64_t[]){held.v, 0}, 2, 0).err, 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, held), 0);
}

/* Its sender knows of no parts. */
static void claims_that_were_cut_let_nothing_go(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino held = create(w, &s, "held");
    struct hf_meta_read rd = {.op = HF_RD_RENEW, .session = s.id};
    struct hf_meta_op end = {.op = HF_OP_SESSION_CLOSE, .session = s.id};
    struct hf_meta_reply reply;

    crash(w);
    boot(w);
    (void)renew(w, &t, NULL, 0, 0);
    rd.cookie = run_read(w, &rd).next_cookie;
    reply = claim_part(w, &rd, 1000000, HF_RENEW_CLAIMS_MAX / 2, 0);
    assert_int_equal(reply.err, 0);
    assert_int_equal(reply.next_cookie, 0); /* it goes on */
    assert_int_equal(unlink_name(w, &t, "held"), 0);
    hf_sim_run_ns(w->sim, 20 * SEC);
    assert_int_equal(getattr(w, held), 0);
    assert_int_equal(run_op(w, &end).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, held), -ENOENT);
}

/* What comes late from a connection that the client gave up holds nothing again. */
static void claims_that_come_twice_count_once(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1);
    struct hf_ino ino = create(w, &s, "open");
    uint64_t pair[2] = {ino.v, 0};
    struct hf_meta_read claims = {.op = HF_RD_RENEW, .session = s.id};
    struct hf_meta_read release = {
        .op = HF_RD_RELEASE, .session = s.id, .inos = pair, .ino_count = 2};

    crash(w);
    boot(w);
    claims.cookie = run_read(w, &claims).next_cookie;
    claims.flags = HF_RENEW_CLAIM;
    claims.inos = pair;
    claims.ino_count = 2;
    assert_int_equal(run_read(w, &claims).err, 0);
    assert_int_equal(unlink_name(w, &s, "open"), 0);
    assert_int_equal(getattr(w, ino), 0);
    assert_int_equal(run_read(w, &release).err, 0);
    assert_int_equal(run_read(w, &claims).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

/* The answer to a release was lost: it comes again, behind the next opening. */
static void a_release_does_not_reach_past_a_later_opening(void **state)
{
    struct world *w = *state;
    struct session s = open_session(w, 1), t = open_session(w, 2);
    struct hf_ino ino = create(w, &s, "a");
    uint64_t pair[2] = {ino.v, 3};
    const struct hf_meta_read again = {.op = HF_RD_OPEN, .session = s.id, .ino = ino, .cookie = 4};
    struct hf_meta_read release = {
        .op = HF_RD_RELEASE, .session = s.id, .inos = pair, .ino_count = 2};

    assert_int_equal(run_read(w, &again).err, 0);
    assert_int_equal(run_read(w, &release).err, 0);
    assert_int_equal(unlink_name(w, &t, "a"), 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), 0);
    pair[1] = 4;
    assert_int_equal(run_read(w, &release).err, 0);
    hf_sim_run_ns(w->sim, SEC);
    assert_int_equal(getattr(w, ino), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_open_file_outlives_its_name_until_it_is_released),
        T(a_file_nobody_holds_goes_with_its_name),
        T(a_file_unlinked_between_look_and_open_can_be_opened),
        T(a_file_looked_up_and_never_opened_goes_soon_after_its_name),
        T(a_link_replaced_between_look_and_readlink_can_be_read),
        T(a_file_replaced_between_look_and_open_can_be_opened),
        T(a_file_that_its_finder_unlinks_goes_at_once),
        T(rename_over_an_open_file_keeps_it_for_its_holder),
        T(an_open_during_an_unlink_is_answered_after_it),
        T(a_release_during_an_unlink_leaves_no_orphan),
        T(a_file_without_a_name_is_there_while_it_is_held),
        T(after_a_restart_a_file_without_a_name_is_there_if_it_is_claimed),
        T(after_a_restart_an_unclaimed_file_is_kept),
        T(a_release_does_not_reach_past_a_later_opening),
        T(an_opening_behind_the_claims_does_not_hold_what_they_let_go),
        T(a_renewal_that_claims_nothing_says_nothing_of_open_files),
        T(claims_made_for_another_leader_say_nothing),
        T(claims_that_come_twice_count_once),
        T(claims_in_parts_count_when_the_last_has_come),
        T(a_late_part_of_claims_counts_for_nothing),
        T(claims_that_were_cut_let_nothing_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
