/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "client/meta/session_impl.h"
#include "tests/lib/dies.h"
#include "tests/lib/fake_leader.h"
#include "tests/lib/loop.h"
#include "tests/lib/silent.h"

#define CALLS_MAX 2048u

struct call {
    struct hf_meta_call c;
    struct world *w;
    int err;
    uint32_t answers;
    uint64_t ino;
};

struct world {
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct fake_leader leader;
    struct hf_session *session;
    struct hf_session_options options;
    const char *addrs[3];
    bool opened, closed;
    int open_err, close_err, lost_err;
    uint32_t maps, losts, answered, waited;
    int wait_err;
    struct call calls[CALLS_MAX];
    uint32_t call_count, target;
    uint32_t open_count, named; /* inodes held open; of which the claims have named so many */
    struct hf_timer look;
};

static void map_changed(void *ctx)
{
    ((struct world *)ctx)->maps++;
}

static void lost(void *ctx, int why)
{
    struct world *w = ctx;

    w->losts++;
    w->lost_err = why;
}

static uint32_t open_inodes(void *ctx, bool more, uint64_t *ret, uint32_t max)
{
    struct world *w = ctx;
    uint32_t n = 0;

    w->named = more ? w->named : 0;
    for (; w->named < w->open_count && n + 2 <= max; w->named++) {
        ret[n++] = 4711 + w->named;
        ret[n++] = 1;
    }
    return n;
}

static void open_done(void *ctx, int err)
{
    struct world *w = ctx;

    w->opened = true;
    w->open_err = err;
}

static void close_done(void *ctx, int err)
{
    struct world *w = ctx;

    w->closed = true;
    w->close_err = err;
}

/* Again and again between turns of the loop, in every test. */
static void look(void *ctx)
{
    struct world *w = ctx;

    if (w->session) {
        hf_session_check_invariants(w->session);
    }
    hf_timer_arm(&w->look, HF_NS_PER_MS / 4);
}

static int setup(void **state)
{
    struct hf_env_real_options o = {.cpu = -1};
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(hf_env_real_new(&o, &w->env), 0);
    assert_int_equal(hf_bufpool_new(8u << 20, 0, &w->pool), 0);
    fake_leader_init(&w->leader, w->env, w->pool);
    fake_leader_make_map(&w->leader, 3, 3, 8);
    fake_leader_start(&w->leader);
    hf_timer_init(&w->look, w->env, look, w);
    hf_timer_arm(&w->look, 0);
    w->open_count = 1;
    w->addrs[0] = w->leader.addr;
    w->options = (struct hf_session_options){
        .addrs = w->addrs,
        .addr_count = 1,
        .cluster = w->leader.cluster,
        .name = "host:/mnt",
        .pool = w->pool,
        .events = {.map_changed = map_changed, .lost = lost, .open_inodes = open_inodes, .ctx = w},
    };
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    hf_timer_fini(&w->look);
    hf_session_free(w->session);
    fake_leader_fini(&w->leader);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_bufpool_free(w->pool);
    hf_env_real_free(w->env);
    free(w);
    return 0;
}

static void open_session(struct world *w)
{
    assert_int_equal(hf_session_new(w->env, &w->options, &w->session), 0);
    hf_session_open(w->session, open_done, w);
    assert_false(w->opened);
    assert_true(loop_until_flag(w->env, &w->opened));
}

static void call_done(struct hf_meta_call *c, const struct hf_meta_reply *reply)
{
    struct call *call = c->ctx;

    call->err = reply->err;
    call->answers++;
    call->ino = reply->attr.ino.v;
    call->w->answered++;
}

static struct call *next_call(struct world *w)
{
    struct call *call = &w->calls[w->call_count++];

    assert_true(w->call_count <= CALLS_MAX);
    call->w = w;
    call->c.done = call_done;
    call->c.ctx = call;
    return call;
}

static struct call *submit(struct world *w, const char *name)
{
    struct hf_meta_op op = {
        .op = HF_OP_CREATE, .parent = {.v = 1}, .name = name, .name_len = strlen(name)};
    struct call *call = next_call(w);

    hf_session_op(w->session, &op, &call->c);
    assert_int_equal(call->answers, 0);
    return call;
}

static bool all_answered(void *ctx)
{
    struct world *w = ctx;

    return w->answered == w->call_count;
}

static void submit_many(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "f%llu",
                       (unsigned long long)hf_session_last_stream(w->session) + 1);
        (void)submit(w, name);
    }
}

static void wait_answers(struct world *w)
{
    assert_true(loop_until(w->env, all_answered, w, 30 * HF_NS_PER_SEC));
}

/* Every operation was applied once, in order, and got its own answer. */
static void check_exactly_once(struct world *w)
{
    uint64_t last = hf_session_last_stream(w->session);

    assert_int_equal(w->leader.last_stream, last);
    assert_int_equal(hf_session_acked(w->session), last);
    for (uint32_t i = 0; i < w->call_count; i++) {
        const struct call *call = &w->calls[i];
        char name[16];

        assert_int_equal(call->answers, 1);
        assert_int_equal(call->err, call->c.stream % 7 == 0 ? -EEXIST : 0);
        assert_int_equal(call->ino, call->c.stream * 10 + 1);
        (void)snprintf(name, sizeof(name), "f%llu", (unsigned long long)call->c.stream);
        assert_string_equal(w->leader.names[call->c.stream], name);
    }
}

static void open_finds_the_leader_and_fetches_the_map(void **state)
{
    struct world *w = *state;

    open_session(w);
    assert_int_equal(w->open_err, 0);
    assert_true(hf_session_live(w->session));
    assert_int_equal(hf_session_id(w->session).v, 7);
    assert_int_equal(hf_session_map(w->session)->epoch.v, 10);
    assert_string_equal(hf_session_leader(w->session), w->leader.addr);
}

static void every_operation_is_applied_once_and_answered_its_own(void **state)
{
    struct world *w = *state;

    open_session(w);
    submit_many(w, 1000);
    assert_int_equal(w->calls[999].c.stream, 1000);
    wait_answers(w);
    check_exactly_once(w);
}

static void lost_connections_change_nothing(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.drop_every = 97;
    for (int i = 0; i < 10; i++) {
        submit_many(w, 100);
        loop_for(w->env, 3 * HF_NS_PER_MS);
    }
    wait_answers(w);
    w->leader.drop_every = 0;
    check_exactly_once(w);
    assert_true(w->leader.ops > 1000);
    assert_int_equal(w->leader.opens, 1);
    assert_true(w->leader.claims > 0);
    assert_int_equal(w->leader.claimed_ino, 4711);
}

static bool is_claimed(void *ctx)
{
    return !((struct world *)ctx)->leader.unclaimed;
}

static void a_leader_that_knows_no_open_files_is_told_them(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.unclaimed = true;
    assert_true(loop_until(w->env, is_claimed, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->leader.claimed_ino, 4711);
    submit_many(w, 10);
    wait_answers(w);
    check_exactly_once(w);
}

/* More is open than one message takes. */
static void all_that_is_open_is_claimed_in_parts(void **state)
{
    const uint32_t counts[] = {2000, 2001, 10000};
    struct world *w = *state;

    open_session(w);
    for (size_t i = 0; i < HF_ARRAY_LEN(counts); i++) {
        w->open_count = counts[i];
        w->leader.unclaimed = true;
        session_renew_soon(w->session);
        assert_true(loop_until(w->env, is_claimed, w, 10 * HF_NS_PER_SEC));
        assert_int_equal(w->leader.claim_count, 2 * counts[i]);
        assert_int_equal(w->named, counts[i]);
        loop_for(w->env, 20 * HF_NS_PER_MS);
    }
    submit_many(w, 10);
    wait_answers(w);
    check_exactly_once(w);
}

/* The next leader knows nothing of the parts that the one before had. */
static void claims_that_were_broken_off_begin_anew(void **state)
{
    struct world *w = *state;

    w->options.claims_max = 6;
    w->open_count = 31;
    open_session(w);
    w->leader.unclaimed = true;
    w->leader.drop_at_part = 4;
    session_renew_soon(w->session);
    assert_true(loop_until(w->env, is_claimed, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->leader.drop_at_part, 0);
    assert_int_equal(w->leader.claim_count, 62);
    assert_int_equal(w->leader.claimed_ino, 4711 + 30);
    submit_many(w, 10);
    wait_answers(w);
    check_exactly_once(w);
}

static void answers_may_come_in_any_order(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.hold = 100;
    submit_many(w, 1000);
    wait_answers(w);
    check_exactly_once(w);
}

static bool held_window(void *ctx)
{
    return ((struct world *)ctx)->leader.held_count == HF_STREAM_WINDOW - 1;
}

static void no_more_than_the_window_is_in_flight(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.hold = HF_STREAM_WINDOW;
    submit_many(w, HF_STREAM_WINDOW - 1);
    assert_true(loop_until(w->env, held_window, w, 10 * HF_NS_PER_SEC));
    w->leader.hold = 1; /* the next answer lets all out, in reverse */
    submit_many(w, 300);
    wait_answers(w);
    check_exactly_once(w);
}

static void a_gap_is_sent_again(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.gap_at = 20;
    submit_many(w, 100);
    wait_answers(w);
    check_exactly_once(w);
    assert_true(w->leader.gap_at == 0);
}

static void a_failing_leader_answers_nothing(void **state)
{
    struct world *w = *state;

    open_session(w);
    submit_many(w, 10);
    wait_answers(w);
    w->leader.broken = 3; /* applied or not: its -EIO does not tell */
    submit_many(w, 10);
    wait_answers(w);
    assert_int_equal(w->leader.broken, 0);
    check_exactly_once(w);
}

static void an_operation_too_large_takes_no_number(void **state)
{
    struct world *w = *state;
    static uint8_t big[HF_FRAME_BULK_MAX + 1];
    struct hf_meta_op op = {.op = HF_OP_SETXATTR, .bulk = big, .bulk_len = sizeof(big)};
    struct call *call;

    open_session(w);
    call = next_call(w);
    hf_session_op(w->session, &op, &call->c);
    assert_int_equal(call->answers, 0);
    wait_answers(w);
    assert_int_equal(call->err, -EMSGSIZE);
    w->call_count = w->answered = 0;
    memset(w->calls, 0, sizeof(w->calls[0]));
    submit_many(w, 5);
    wait_answers(w);
    check_exactly_once(w);
}

static void a_named_leader_is_followed(void **state)
{
    struct world *w = *state;
    struct fake_leader *other = calloc(1, sizeof(*other));

    assert_non_null(other);
    fake_leader_init(other, w->env, w->pool);
    fake_leader_start(other);
    other->hint = w->leader.addr;
    w->addrs[0] = other->addr; /* only a follower is configured */
    open_session(w);
    assert_int_equal(w->open_err, 0);
    assert_string_equal(hf_session_leader(w->session), w->leader.addr);
    submit_many(w, 10);
    wait_answers(w);
    check_exactly_once(w);
    hf_session_free(w->session);
    w->session = NULL;
    fake_leader_fini(other);
    free(other);
}

/* Its machine vanished: what follower still names it has not noticed yet. */
static void a_silent_node_is_asked_last_even_when_named(void **state)
{
    struct world *w = *state;
    struct fake_leader *follower = calloc(1, sizeof(*follower));
    char addr[SILENT_ADDR_BYTES];
    int silent = silent_listen(addr);
    uint64_t from;

    assert_non_null(follower);
    fake_leader_init(follower, w->env, w->pool);
    fake_leader_start(follower);
    follower->hint = addr;
    w->addrs[0] = addr;
    w->addrs[1] = follower->addr;
    w->addrs[2] = w->leader.addr;
    w->options.addr_count = 3;
    from = hf_env_mono_ns(w->env);
    open_session(w);
    assert_int_equal(w->open_err, 0);
    assert_in_range(hf_env_mono_ns(w->env) - from, 900 * HF_NS_PER_MS, 1800 * HF_NS_PER_MS);
    hf_session_free(w->session);
    w->session = NULL;
    fake_leader_fini(follower);
    free(follower);
    (void)close(silent);
}

static void a_leader_that_starts_is_waited_for(void **state)
{
    struct world *w = *state;

    w->leader.not_ready = 3;
    open_session(w);
    assert_int_equal(w->open_err, 0);
    w->leader.not_ready = 5;
    submit_many(w, 50);
    wait_answers(w);
    check_exactly_once(w);
}

static void addresses_are_tried_in_turn(void **state)
{
    struct world *w = *state;

    w->addrs[0] = "127.0.0.1:1";
    w->addrs[1] = w->leader.addr;
    w->options.addr_count = 2;
    open_session(w);
    assert_int_equal(w->open_err, 0);
}

static void open_without_a_leader_says_what_was_tried(void **state)
{
    struct world *w = *state;

    w->addrs[0] = "127.0.0.1:1";
    w->options.open_timeout_ns = 300 * HF_NS_PER_MS;
    open_session(w);
    assert_int_equal(w->open_err, -ECONNREFUSED);
    assert_false(hf_session_live(w->session));
    assert_non_null(strstr(hf_session_tried(w->session), "127.0.0.1:1 ("));
    assert_non_null(strstr(hf_session_tried(w->session), "refused"));
    assert_int_equal(w->losts, 0);
}

static void another_cluster_is_refused(void **state)
{
    struct world *w = *state;

    w->options.cluster.b[0] ^= 1;
    open_session(w);
    assert_int_equal(w->open_err, -HF_EWRONGCLUSTER);
}

static bool is_lost(void *ctx)
{
    return ((struct world *)ctx)->losts > 0;
}

static void a_fenced_session_answers_everything_so(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.fenced = true;
    submit_many(w, 400);
    wait_answers(w);
    assert_true(loop_until(w->env, is_lost, w, 10 * HF_NS_PER_SEC));
    for (uint32_t i = 0; i < w->call_count; i++) {
        assert_int_equal(w->calls[i].err, -HF_EFENCED);
    }
    assert_int_equal(w->lost_err, -HF_EFENCED);
    assert_int_equal(w->losts, 1);
    assert_false(hf_session_live(w->session));
    w->leader.fenced = false; /* too late */
    submit_many(w, 1);
    wait_answers(w);
    assert_int_equal(w->calls[400].err, -HF_EFENCED);
    assert_int_equal(w->leader.last_stream, 0);
}

static void without_contact_the_session_is_lost(void **state)
{
    struct world *w = *state;
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {.v = 1}};
    struct call *call;

    w->options.op_timeout_ns = 300 * HF_NS_PER_MS;
    open_session(w);
    fake_leader_stop(&w->leader);
    submit_many(w, 3);
    call = next_call(w);
    hf_session_read(w->session, &rd, &call->c);
    wait_answers(w);
    assert_true(loop_until(w->env, is_lost, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->lost_err, -ETIMEDOUT);
    assert_int_equal(w->calls[0].err, -HF_EFENCED);
    assert_int_equal(call->err, -ETIMEDOUT);
}

static void looks_are_repeated_until_answered(void **state)
{
    struct world *w = *state;
    struct hf_meta_read rd = {.op = HF_RD_GETATTR};

    open_session(w);
    fake_leader_stop(&w->leader);
    hf_timer_arm(&w->leader.restart, 50 * HF_NS_PER_MS);
    for (uint32_t i = 0; i < 500; i++) {
        struct call *call = next_call(w);

        rd.ino.v = i + 1;
        rd.op = i == 7 ? HF_RD_LOOKUP : HF_RD_GETATTR;
        hf_session_read(w->session, &rd, &call->c);
    }
    wait_answers(w);
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(w->calls[i].err, i == 7 ? -ENOENT : 0);
        assert_int_equal(w->calls[i].ino, i + 1);
    }
}

/* A wait that was given up must not begin anew at the next leader. */
static void a_look_that_nobody_wants_is_not_sent_again(void **state)
{
    struct world *w = *state;
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {7}};
    struct call *unwanted, *wanted;

    open_session(w);
    w->leader.mute = true;
    unwanted = next_call(w);
    hf_session_read(w->session, &rd, &unwanted->c);
    wanted = next_call(w);
    hf_session_read(w->session, &rd, &wanted->c);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_session_unwanted(&unwanted->c);
    fake_leader_stop(&w->leader);
    w->leader.mute = false;
    hf_timer_arm(&w->leader.restart, 0);
    wait_answers(w);
    assert_int_equal(unwanted->err, -EINTR);
    assert_int_equal(wanted->err, 0);
}

static bool waits_came(void *ctx)
{
    struct world *w = ctx;

    return w->leader.muted_count == w->target;
}

static bool target_answered(void *ctx)
{
    struct world *w = ctx;

    return w->answered == w->target;
}

/* One that is not there is not woken by an unlock, and hides a ring. What is answered at once has
 * room beside them, or nothing would end them. */
static void two_hundred_waiters_but_eight_are_at_the_leader(void **state)
{
    struct world *w = *state;
    struct hf_meta_read rd = {.op = HF_RD_LOCK_WAIT, .ino = {7}, .lock_type = F_WRLCK};

    open_session(w);
    w->leader.mute = true;
    for (uint32_t i = 0; i < 200; i++) {
        rd.cookie = i + 1;
        hf_session_read(w->session, &rd, &next_call(w)->c);
    }
    w->target = 192;
    assert_true(loop_until(w->env, waits_came, w, 10 * HF_NS_PER_SEC));
    loop_for(w->env, 20 * HF_NS_PER_MS);
    assert_int_equal(w->leader.muted_count, 192);
    w->leader.mute = false;
    submit_many(w, 1000);
    w->target = 1000;
    assert_true(loop_until(w->env, target_answered, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->leader.muted_count, 192);
    fake_leader_unmute(&w->leader);
    wait_answers(w); /* the last eight came when there was room */
}

static bool map_came(void *ctx)
{
    return ((struct world *)ctx)->maps > 0;
}

static void a_newer_map_is_fetched_when_an_answer_names_it(void **state)
{
    struct world *w = *state;

    open_session(w);
    fake_leader_set_node(&w->leader, 2, HF_NODE_DOWN);
    submit_many(w, 1);
    assert_true(loop_until(w->env, map_came, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(hf_session_map(w->session)->epoch.v, 11);
    fake_leader_set_node(&w->leader, 2, HF_NODE_UP);
    w->maps = 0;
    hf_session_refresh_map(w->session);
    hf_session_refresh_map(w->session);
    assert_true(loop_until(w->env, map_came, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(hf_session_map(w->session)->epoch.v, 12);
}

static void wait_done(void *ctx, int err)
{
    struct world *w = ctx;

    w->waited++;
    w->wait_err = err;
}

static bool has_waited(void *ctx)
{
    return ((struct world *)ctx)->waited > 0;
}

static void space_is_asked_for_and_given_back(void **state)
{
    struct world *w = *state;
    uint64_t huge = UINT64_C(1) << 30;

    open_session(w);
    assert_int_equal(hf_session_take_budget(w->session, huge), -EAGAIN);
    hf_session_wait_budget(w->session, huge, wait_done, w);
    assert_int_equal(w->waited, 0);
    assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->wait_err, 0);
    assert_int_equal(hf_session_take_budget(w->session, huge), 0);
    hf_session_give_budget(w->session, huge);
}

static void what_is_spare_goes_back_when_it_is_asked_to(void **state)
{
    struct world *w = *state;

    open_session(w);
    hf_session_wait_budget(w->session, 5 << 20, wait_done, w);
    assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(hf_session_take_budget(w->session, 5 << 20), 0);
    w->waited = 0;
    hf_session_drop_spare(w->session, wait_done, w);
    assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->wait_err, 0);
    assert_int_equal(w->leader.want_bytes, 5 << 20);
    assert_int_equal(hf_session_take_budget(w->session, 1), -EAGAIN);
    hf_session_give_budget(w->session, 5 << 20);
}

static void a_full_cluster_has_no_space(void **state)
{
    struct world *w = *state;

    w->leader.space = 1 << 20;
    open_session(w);
    while (hf_session_take_budget(w->session, 1 << 20) != 0) {
        loop_for(w->env, HF_NS_PER_MS); /* until the first renewal */
    }
    hf_session_wait_budget(w->session, 4096, wait_done, w);
    assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->wait_err, -ENOSPC);
    assert_int_equal(hf_session_take_budget(w->session, 4096), -ENOSPC);
    hf_session_wait_budget(w->session, 4096, wait_done, w);
    w->waited = 0;
    hf_session_give_budget(w->session, 1 << 20); /* what others gave back is enough */
    assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->wait_err, 0);
}

static void inode_numbers_are_never_repeated(void **state)
{
    struct world *w = *state;
    static uint8_t seen[20000];
    uint32_t got = 0;

    memset(seen, 0, sizeof(seen));
    open_session(w);
    while (got < 10000) {
        struct hf_ino ino;
        int err = hf_session_next_ino(w->session, &ino);

        if (err) {
            assert_int_equal(err, -EAGAIN);
            w->waited = 0;
            hf_session_wait_ino(w->session, wait_done, w);
            assert_true(loop_until(w->env, has_waited, w, 10 * HF_NS_PER_SEC));
            assert_int_equal(w->wait_err, 0);
            continue;
        }
        assert_true(ino.v >= 1000 && ino.v < sizeof(seen));
        assert_int_equal(seen[ino.v]++, 0);
        got++;
    }
    assert_true(hf_session_next_object(w->session) != hf_session_next_object(w->session));
}

static bool has_renewed(void *ctx)
{
    return ((struct world *)ctx)->leader.renewals >= 5;
}

static void renewals_go_on_and_carry_the_floor(void **state)
{
    struct world *w = *state;

    w->options.ttl_ns = 300 * HF_NS_PER_MS;
    open_session(w);
    while (hf_session_next_object(w->session) < 42) {
    }
    hf_session_set_floor(w->session, 42);
    assert_true(loop_until(w->env, has_renewed, w, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->leader.floor, 42);
    w->leader.fenced = true;
    assert_true(loop_until(w->env, is_lost, w, 10 * HF_NS_PER_SEC));
}

static void close_waits_for_the_stream(void **state)
{
    struct world *w = *state;

    open_session(w);
    submit_many(w, 300);
    hf_session_close(w->session, close_done, w);
    assert_false(w->closed);
    assert_true(loop_until_flag(w->env, &w->closed));
    assert_int_equal(w->close_err, 0);
    assert_int_equal(w->leader.closes, 1);
    check_exactly_once(w);
    assert_int_equal(w->losts, 0);
}

static void close_without_a_leader_is_short_when_nothing_waits(void **state)
{
    struct world *w = *state;
    uint64_t from;

    open_session(w);
    w->leader.mute = true;
    from = hf_env_mono_ns(w->env);
    hf_session_close(w->session, close_done, w);
    assert_true(loop_until(w->env, loop_flag, &w->closed, 10 * HF_NS_PER_SEC));
    assert_int_equal(w->close_err, -ETIMEDOUT);
    assert_in_range(hf_env_mono_ns(w->env) - from, 4 * HF_NS_PER_SEC, 7 * HF_NS_PER_SEC);
}

static void free_ends_what_is_in_flight(void **state)
{
    struct world *w = *state;

    open_session(w);
    w->leader.mute = true;
    submit_many(w, 400);
    loop_for(w->env, 20 * HF_NS_PER_MS);
    hf_session_wait_budget(w->session, UINT64_C(1) << 40, wait_done, w);
    hf_session_free(w->session);
    w->session = NULL;
    assert_true(all_answered(w));
    assert_int_equal(w->waited, 1);
    for (uint32_t i = 0; i < w->call_count; i++) {
        assert_int_equal(w->calls[i].err, -ECANCELED);
    }
}

static void a_tool_looks_without_a_session(void **state)
{
    struct world *w = *state;
    struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {.v = 9}};
    struct call *call;

    w->options.read_only = true;
    open_session(w);
    assert_int_equal(w->open_err, 0);
    assert_int_equal(w->leader.opens, 0);
    assert_int_equal(hf_session_id(w->session).v, 0);
    call = next_call(w);
    hf_session_read(w->session, &rd, &call->c);
    wait_answers(w);
    assert_int_equal(call->err, 0);
    assert_int_equal(call->ino, 9);
    hf_session_close(w->session, close_done, w);
    assert_true(loop_until_flag(w->env, &w->closed));
}

/* What hf_session_check_invariants() is for */

static void an_unbroken_session(void *ctx)
{
    hf_session_check_invariants(ctx);
}

static void a_call_in_flight_that_is_not_counted(void *ctx)
{
    struct hf_session *s = ctx;

    s->inflight--;
    hf_session_check_invariants(s);
}

static void a_number_that_was_never_given(void *ctx)
{
    struct hf_session *s = ctx;

    s->last_stream--;
    hf_session_check_invariants(s);
}

static void a_call_that_is_sent_twice(void *ctx)
{
    struct hf_session *s = ctx;

    s->next_op = TAILQ_FIRST(&s->ops);
    hf_session_check_invariants(s);
}

static void a_look_that_is_not_counted(void *ctx)
{
    struct hf_session *s = ctx;

    s->reads_out++;
    hf_session_check_invariants(s);
}

static void a_waiter_that_nobody_wakes(void *ctx)
{
    struct hf_session *s = ctx;
    struct ino_waiter waiter = {0};

    TAILQ_INSERT_TAIL(&s->ino_waiters, &waiter, link);
    hf_session_check_invariants(s);
}

static void a_link_that_waits_for_nothing(void *ctx)
{
    struct hf_session *s = ctx;

    s->link = LINK_WAITING;
    hf_session_check_invariants(s);
}

static void broken_invariants_are_found(void **state)
{
    struct world *w = *state;

    open_session(w);
    submit_many(w, 20);
    assert_false(dies(an_unbroken_session, w->session));
    assert_true(dies(a_call_in_flight_that_is_not_counted, w->session));
    assert_true(dies(a_number_that_was_never_given, w->session));
    assert_true(dies(a_call_that_is_sent_twice, w->session));
    assert_true(dies(a_look_that_is_not_counted, w->session));
    assert_true(dies(a_waiter_that_nobody_wakes, w->session));
    assert_true(dies(a_link_that_waits_for_nothing, w->session));
    wait_answers(w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(broken_invariants_are_found),
        T(open_finds_the_leader_and_fetches_the_map),
        T(every_operation_is_applied_once_and_answered_its_own),
        T(lost_connections_change_nothing),
        T(a_leader_that_knows_no_open_files_is_told_them),
        T(all_that_is_open_is_claimed_in_parts),
        T(claims_that_were_broken_off_begin_anew),
        T(answers_may_come_in_any_order),
        T(no_more_than_the_window_is_in_flight),
        T(a_gap_is_sent_again),
        T(a_failing_leader_answers_nothing),
        T(an_operation_too_large_takes_no_number),
        T(a_named_leader_is_followed),
        T(a_silent_node_is_asked_last_even_when_named),
        T(a_leader_that_starts_is_waited_for),
        T(addresses_are_tried_in_turn),
        T(open_without_a_leader_says_what_was_tried),
        T(another_cluster_is_refused),
        T(a_fenced_session_answers_everything_so),
        T(without_contact_the_session_is_lost),
        T(looks_are_repeated_until_answered),
        T(a_look_that_nobody_wants_is_not_sent_again),
        T(two_hundred_waiters_but_eight_are_at_the_leader),
        T(a_newer_map_is_fetched_when_an_answer_names_it),
        T(space_is_asked_for_and_given_back),
        T(what_is_spare_goes_back_when_it_is_asked_to),
        T(a_full_cluster_has_no_space),
        T(inode_numbers_are_never_repeated),
        T(renewals_go_on_and_carry_the_floor),
        T(close_waits_for_the_stream),
        T(close_without_a_leader_is_short_when_nothing_waits),
        T(free_ends_what_is_in_flight),
        T(a_tool_looks_without_a_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
