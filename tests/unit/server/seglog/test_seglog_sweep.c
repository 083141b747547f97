/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A metadata log's life - appends in groups, truncated tails, trimmed heads, reopenings - cut or
 * failed at every disk call.
 *
 * The model: what each number's payload was, and what was acknowledged. Recovery must give a
 * prefix-exact log: every acknowledged record, in order, nothing truncated by an acknowledged
 * truncation, no hole, and of the unacknowledged ones a prefix.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "server/seglog/seglog.h"
#include "tests/lib/sim_env.h"

#define DIR_PATH "/log"
#define OPS_MAX  400u
#define SEQ_MAX  512u

/* What a killed process had in flight is known to nobody any more. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

struct op {
    struct hf_seglog_append append;
    struct hf_seglog_read read;
    struct world *w;
    struct iovec iov;
    uint8_t payload[6000];
    uint32_t tag; /* tells one life of a number from the next */
    bool truncate;
    uint64_t from;
    bool done;
    int err;
};

struct number {
    uint32_t tags[4]; /* what was written under it; numbers of failed appends are used again */
    uint32_t tag_count;
    uint32_t acked_tag; /* 0: never acknowledged */
    bool gone;          /* truncated, acknowledged */
    bool maybe_gone;    /* truncated, not acknowledged */
    bool replayed;
};

struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_sim_disk *disk;
    struct hf_seglog *log;
    struct op *ops[OPS_MAX];
    uint32_t op_count;
    uint32_t pending;
    struct number numbers[SEQ_MAX];
    uint64_t trimmed; /* records below may be gone */
    uint64_t last_replayed;
    uint32_t rots;
    uint32_t next_tag;
    uint64_t rng;
    uint64_t acked;
    bool bad;
};

static uint32_t below(struct world *w, uint32_t end)
{
    w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->rng >> 33) % end;
}

static bool off(const struct world *w)
{
    return hf_sim_disk_is_off(w->disk);
}

static uint32_t payload_len(uint32_t tag)
{
    return 4 + tag * 397 % 5900;
}

static void payload_fill(uint32_t tag, uint8_t *ret)
{
    uint32_t len = payload_len(tag);

    memcpy(ret, &tag, sizeof(tag));
    for (uint32_t i = sizeof(tag); i < len; i++) {
        ret[i] = (uint8_t)(tag * 17 + i);
    }
}

static void check_payload(const uint8_t *payload, uint32_t len, uint32_t *ret_tag)
{
    static uint8_t want[6000];
    uint32_t tag;

    assert_true(len >= sizeof(tag));
    memcpy(&tag, payload, sizeof(tag));
    assert_int_equal(len, payload_len(tag));
    payload_fill(tag, want);
    assert_memory_equal(payload, want, len);
    *ret_tag = tag;
}

static int on_replay(void *ctx, const struct hf_seglog_record *r)
{
    struct world *w = ctx;
    struct number *n = &w->numbers[r->seq];
    bool known = false;
    uint32_t tag;

    assert_true(r->seq < SEQ_MAX && r->seq > w->last_replayed);
    w->last_replayed = r->seq;
    check_payload(r->payload, r->payload_len_bytes, &tag);
    for (uint32_t i = 0; i < n->tag_count; i++) {
        known = known || n->tags[i] == tag;
    }
    assert_true(known);
    if (r->seq < w->trimmed) {
        return 0; /* its segment may be back */
    }
    if (n->gone) {
        print_error("record %llu came back\n", (unsigned long long)r->seq);
    }
    assert_false(n->gone);
    if (n->acked_tag) {
        assert_int_equal(tag, n->acked_tag);
    }
    n->replayed = true;
    n->acked_tag = tag; /* from now on it is here */
    return 0;
}

static void on_rot(void *ctx, uint64_t first, uint64_t last, struct hf_seglog_pos pos)
{
    struct world *w = ctx;

    (void)first;
    (void)last;
    (void)pos;
    w->rots++;
}

static int try_open(struct world *w)
{
    const struct hf_seglog_options options = {
        .dir = DIR_PATH,
        .pool = HF_POOL_LOG,
        .segment_bytes = 64 << 10,
        .prezero = true,
        .spares = 1,
        .identity = {{7}},
        .replay_payload = true,
        .contiguous = true,
        .replay = on_replay,
        .rot = on_rot,
        .ctx = w,
    };

    w->last_replayed = 0;
    w->rots = 0;
    for (uint32_t i = 0; i < SEQ_MAX; i++) {
        w->numbers[i].replayed = false;
    }
    return hf_seglog_open(w->env, &options, &w->log);
}

/* After an opening: nothing acknowledged is missing; what is missing will never come. */
static void compare(struct world *w)
{
    uint64_t last = hf_seglog_last_seq(w->log);
    uint64_t first = hf_seglog_first_seq(w->log);

    hf_seglog_check_invariants(w->log);
    assert_int_equal(w->rots, 0);
    assert_true(first <= w->trimmed || w->trimmed == 0 || first <= last + 1);
    for (uint64_t seq = 1; seq < SEQ_MAX; seq++) {
        struct number *n = &w->numbers[seq];

        if (!n->replayed && n->acked_tag && !n->gone && !n->maybe_gone && seq >= w->trimmed) {
            print_error("record %llu was acknowledged and is gone\n", (unsigned long long)seq);
            fail();
        }
        if (!n->replayed && seq > last) {
            *n = (struct number){0}; /* never was; the number is free */
        } else if (!n->replayed && seq >= w->trimmed) {
            n->gone = true;
        }
        n->maybe_gone = false;
    }
}

static bool open_again(struct world *w)
{
    for (int i = 0; i < 3; i++) {
        int err = try_open(w);

        if (off(w)) {
            return false;
        }
        if (err == 0) {
            compare(w);
            return true;
        }
        w->log = NULL;
        hf_sim_kill(w->sim);
        hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_RANDOM);
        hf_sim_disk_restart(w->disk);
    }
    fail_msg("the log does not open any more");
    return false;
}

static void op_done(void *ctx, int err)
{
    struct op *op = ctx;
    struct world *w = op->w;
    struct number *n = &w->numbers[op->append.seq];

    assert_false(op->done);
    op->done = true;
    op->err = err;
    w->pending--;
    if (err || op->append.seq == 0) {
        return;
    }
    w->acked++;
    if (op->truncate) {
        for (uint64_t seq = op->from; seq <= op->append.seq; seq++) {
            w->numbers[seq].gone = true;
        }
        return;
    }
    n->acked_tag = op->tag;
}

static struct op *next_op(struct world *w)
{
    struct op *op = calloc(1, sizeof(*op));

    assert_true(w->op_count < OPS_MAX);
    w->ops[w->op_count++] = op;
    op->w = w;
    op->append.done = op_done;
    op->append.ctx = op;
    w->pending++;
    return op;
}

static void append(struct world *w)
{
    uint64_t seq = hf_seglog_last_seq(w->log) + 1;
    struct op *op = next_op(w);

    op->tag = ++w->next_tag;
    payload_fill(op->tag, op->payload);
    op->iov = (struct iovec){.iov_base = op->payload, .iov_len = payload_len(op->tag)};
    op->append.type = 1;
    op->append.sum_payload = true;
    op->append.iov = &op->iov;
    op->append.iov_count = 1;
    op->append.payload_len_bytes = payload_len(op->tag);
    if (!hf_seglog_broken(w->log)) {
        struct number *n = &w->numbers[seq];

        assert_true(seq < SEQ_MAX && n->tag_count < HF_ARRAY_LEN(n->tags));
        n->tags[n->tag_count++] = op->tag;
    }
    hf_seglog_append(w->log, &op->append);
}

static void truncate(struct world *w)
{
    uint64_t last = hf_seglog_last_seq(w->log);
    struct op *op;

    if (last <= hf_seglog_first_seq(w->log)) {
        return;
    }
    op = next_op(w);
    op->truncate = true;
    op->from = last - below(w, (uint32_t)(last - hf_seglog_first_seq(w->log) < 6
                                              ? last - hf_seglog_first_seq(w->log)
                                              : 6));
    for (uint64_t seq = op->from; seq <= last + 1 && seq < SEQ_MAX; seq++) {
        w->numbers[seq].maybe_gone = true;
    }
    hf_seglog_truncate_tail(w->log, op->from, &op->append);
}

static bool settled(void *ctx)
{
    struct world *w = ctx;

    return (w->pending == 0 && hf_seglog_idle(w->log)) || off(w);
}

static void run(struct world *w)
{
    assert_true(hf_sim_run_until(w->sim, settled, w, 60 * HF_NS_PER_SEC));
}

/* Every acknowledged record can be read by its number. */
static void read_all(struct world *w)
{
    for (uint64_t seq = 1; seq < SEQ_MAX && !off(w); seq++) {
        const struct number *n = &w->numbers[seq];
        struct op *op;
        uint32_t tag;

        if (!n->acked_tag || n->gone || n->maybe_gone || seq < hf_seglog_first_seq(w->log) ||
            seq < w->trimmed) {
            continue;
        }
        op = calloc(1, sizeof(*op));
        op->w = w;
        op->read = (struct hf_seglog_read){.seq = seq, .done = op_done, .ctx = op};
        w->pending++;
        hf_seglog_read(w->log, &op->read);
        run(w);
        if (op->done) {
            assert_int_equal(op->err, 0);
            check_payload(op->read.payload, op->read.payload_len_bytes, &tag);
            assert_int_equal(tag, n->acked_tag);
            free(op->read.buf);
        }
        free(op);
    }
}

static bool play(struct world *w)
{
    if (!open_again(w)) {
        return false;
    }
    for (uint32_t step = 0; step < 34 && !off(w); step++) {
        uint32_t dice = below(w, 12);

        if (dice < 8) {
            for (uint32_t n = 1 + below(w, 6); n > 0; n--) {
                append(w);
            }
        } else if (dice < 10) {
            truncate(w);
        } else if (dice == 10 && hf_seglog_last_seq(w->log) > 20) {
            uint64_t seq = hf_seglog_synced_seq(w->log) - 10;

            w->trimmed = seq > w->trimmed ? seq : w->trimmed;
            hf_seglog_trim_head(w->log, seq);
        } else {
            run(w);
            if (!off(w)) {
                hf_seglog_close(w->log);
                if (off(w) || !open_again(w)) {
                    return false;
                }
            }
        }
        if (below(w, 3) > 0 && !off(w)) {
            run(w);
        }
    }
    if (!off(w)) {
        run(w);
    }
    return !off(w);
}

static void crash(struct world *w)
{
    hf_sim_kill(w->sim);
    hf_sim_abandon(w->log);
    w->log = NULL;
    w->pending = 0;
    hf_sim_disk_restart(w->disk);
}

static bool strike(uint64_t seed, uint64_t n, enum hf_sim_fault kind, uint64_t *ret_acked)
{
    struct world *w = calloc(1, sizeof(*w));
    bool struck;
    bool alive;

    w->sim = hf_sim_new(seed * 31337 + n);
    w->env = hf_sim_env(w->sim);
    w->disk = hf_sim_disk(w->env);
    w->rng = seed;
    if (getenv("HF_SWEEP_SHOW")) {
        print_message("seed %llu call %llu\n", (unsigned long long)seed, (unsigned long long)n);
    }
    hf_sim_disk_fail_at(w->disk, n, kind);
    alive = play(w);
    struck = hf_sim_disk_struck(w->disk) > 0;
    hf_sim_disk_clear_faults(w->disk);
    if (alive && n % 2 == 0) {
        hf_seglog_close(w->log);
        hf_sim_disk_drop_caches(w->disk);
    } else {
        hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_RANDOM);
        crash(w);
    }
    /* Twice: the second opening must find what the first one found. */
    for (int i = 0; i < 2; i++) {
        assert_true(open_again(w));
        read_all(w);
        for (int k = 0; k < 5; k++) {
            append(w);
        }
        run(w);
        hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_RANDOM);
        crash(w);
    }
    assert_true(open_again(w));
    read_all(w);
    hf_seglog_close(w->log);
    *ret_acked += w->acked;
    hf_sim_free(w->sim);
    for (uint32_t i = 0; i < w->op_count; i++) {
        free(w->ops[i]);
    }
    free(w);
    return struck;
}

static void sweep(enum hf_sim_fault kind, const char *name)
{
    const char *text = getenv("HF_SWEEP_SEEDS");
    const char *only = getenv("HF_SWEEP_ONLY");
    uint64_t seeds = text ? strtoull(text, NULL, 10) : 1;
    uint64_t acked = 0;
    uint64_t runs = 0;

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        for (uint64_t n = only ? strtoull(only, NULL, 10) : 0; strike(seed, n, kind, &acked); n++) {
            runs++;
        }
    }
    print_message("%s: %llu runs, %llu acknowledged operations checked\n", name,
                  (unsigned long long)runs, (unsigned long long)acked);
    assert_true(runs > 100);
}

static void a_power_cut_at_any_call_keeps_the_acknowledged_prefix(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_POWER_CUT, "power cut");
}

static void a_killed_process_at_any_call_keeps_the_acknowledged_prefix(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_CRASH, "crash");
}

static void a_failed_write_at_any_call_keeps_the_acknowledged_prefix(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_WRITE_EIO, "write EIO");
}

static void a_failed_sync_at_any_call_keeps_the_acknowledged_prefix(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_SYNC_EIO, "sync EIO");
}

static void a_full_disk_at_any_call_keeps_the_acknowledged_prefix(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_NOSPC, "no space");
}

static void short_transfers_at_any_call_change_nothing(void **state)
{
    (void)state;
    sweep(HF_SIM_FAULT_SHORT, "short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_at_any_call_keeps_the_acknowledged_prefix),
        cmocka_unit_test(a_killed_process_at_any_call_keeps_the_acknowledged_prefix),
        cmocka_unit_test(a_failed_write_at_any_call_keeps_the_acknowledged_prefix),
        cmocka_unit_test(a_failed_sync_at_any_call_keeps_the_acknowledged_prefix),
        cmocka_unit_test(a_full_disk_at_any_call_keeps_the_acknowledged_prefix),
        cmocka_unit_test(short_transfers_at_any_call_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
