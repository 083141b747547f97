/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/log/log.h"
#include "server/meta/journal.h"
#include "server/meta/journal_format.h"
#include "tests/lib/sim_env.h"

#define ENTRIES_MAX   512u
#define SEC           HF_NS_PER_SEC
#define SEGMENT_BYTES (128u << 10)

struct world;

struct item { /* one proposed entry */
    struct hf_journal_entry entry;
    struct world *w;
    uint32_t number;
    bool done;
    int err;
    uint8_t msg[HF_RPC_MSG_MAX];
};

struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct hf_bufpool *pool;
    struct hf_journal *journal;
    struct item *items[ENTRIES_MAX];
    uint32_t item_count;
    uint32_t done_count;
    uint64_t done_index;
    uint32_t failed_calls;
    /* of the last replay */
    uint64_t replay_first, replay_last, replay_time_ns;
    uint32_t replay_count;
    uint32_t replay_numbers[ENTRIES_MAX];
    int replay_err;
    bool closed;
};

static void no_line(void *ctx, const char *line)
{
    (void)ctx;
    if (getenv("HF_TEST_LOG")) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static int replayed(void *ctx, const struct hf_journal_entry *entry)
{
    struct world *w = ctx;
    uint32_t number;

    if (w->replay_err) {
        return w->replay_err;
    }
    assert_true(w->replay_count == 0 || entry->index == w->replay_last + 1);
    assert_true(entry->time_ns >= w->replay_time_ns);
    assert_true(entry->msg_len >= sizeof(number));
    memcpy(&number, entry->msg, sizeof(number));
    for (uint32_t i = sizeof(number); i < entry->msg_len; i++) {
        assert_int_equal(((const uint8_t *)entry->msg)[i], (uint8_t)(number + i));
    }
    w->replay_first = w->replay_count ? w->replay_first : entry->index;
    w->replay_last = entry->index;
    w->replay_time_ns = entry->time_ns;
    w->replay_numbers[w->replay_count++] = number;
    return 0;
}

static void failed(void *ctx, int err)
{
    assert_true(err < 0);
    ((struct world *)ctx)->failed_calls++;
}

static int try_open(struct world *w, uint64_t applied_index)
{
    struct hf_journal_options options = {
        .dir = "/log",
        .pool = w->pool,
        .identity = {{1}},
        .segment_bytes = SEGMENT_BYTES,
        .applied_index = applied_index,
        .replay = replayed,
        .failed = failed,
        .ctx = w,
    };
    char *error = NULL;
    int err;

    w->replay_count = 0;
    w->replay_first = w->replay_last = w->replay_time_ns = 0;
    err = hf_journal_open(w->env, &options, &w->journal, &error);
    assert_true((err != 0) == (error != NULL));
    free(error);
    if (err) {
        w->journal = NULL;
        hf_sim_run_ns(w->sim, SEC);
    }
    return err;
}

static void closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static bool is_closed(void *ctx)
{
    return ((struct world *)ctx)->closed;
}

static void shut(struct world *w)
{
    if (w->journal) {
        w->closed = false;
        hf_journal_close(w->journal, closed, w);
        w->journal = NULL;
        assert_true(hf_sim_run_until(w->sim, is_closed, w, 60 * SEC));
    }
}

static void forget_items(struct world *w)
{
    for (uint32_t i = 0; i < w->item_count; i++) {
        free(w->items[i]);
    }
    w->item_count = w->done_count = 0;
    w->done_index = 0;
}

static void crash(struct world *w)
{
    hf_sim_kill_env(w->env);
    if (w->journal) {
        hf_sim_abandon(w->journal);
    }
    hf_sim_abandon(w->pool);
    w->journal = NULL;
    assert_int_equal(hf_bufpool_new(16u << 20, 0, &w->pool), 0);
    hf_sim_disk_power_cut(hf_sim_disk(w->env), HF_SIM_CUT_RANDOM);
    hf_sim_disk_restart(hf_sim_disk(w->env));
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    hf_log_set_sink(no_line, NULL);
    w->sim = hf_sim_new(seed);
    w->env = hf_sim_env(w->sim);
    assert_int_equal(hf_bufpool_new(16u << 20, 0, &w->pool), 0);
    return w;
}

static void world_free(struct world *w)
{
    shut(w);
    hf_sim_free(w->sim);
    hf_bufpool_free(w->pool);
    forget_items(w);
    free(w);
}

static int setup(void **state)
{
    struct world *w = world_new(1);

    assert_int_equal(try_open(w, 0), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void entry_done(struct hf_journal_entry *entry, int err)
{
    struct item *item = (struct item *)entry;
    struct world *w = item->w;

    assert_false(item->done);
    item->done = true;
    item->err = err;
    if (!err) {
        assert_int_equal(entry->index, w->done_index ? w->done_index + 1 : entry->index);
        w->done_index = entry->index;
        w->done_count++;
    }
}

static struct item *propose(struct world *w, uint32_t len)
{
    struct item *item = calloc(1, sizeof(*item));

    assert_non_null(item);
    assert_true(w->item_count < ENTRIES_MAX);
    item->w = w;
    item->number = w->item_count;
    memcpy(item->msg, &item->number, sizeof(item->number));
    for (uint32_t i = sizeof(item->number); i < len; i++) {
        item->msg[i] = (uint8_t)(item->number + i);
    }
    item->entry.done = entry_done;
    item->entry.msg = item->msg;
    item->entry.msg_len = len;
    w->items[w->item_count++] = item;
    hf_journal_propose(w->journal, &item->entry);
    assert_false(item->done);
    return item;
}

static bool all_done(void *ctx)
{
    struct world *w = ctx;

    return w->item_count == 0 || w->items[w->item_count - 1]->done;
}

static void wait_all(struct world *w)
{
    assert_true(hf_sim_run_until(w->sim, all_done, w, 60 * SEC));
}

static struct hf_journal_status status(struct world *w)
{
    struct hf_journal_status status;

    hf_journal_status(w->journal, &status);
    return status;
}

/* Format */

static int collect(void *ctx, const struct hf_journal_item *item)
{
    *(struct hf_journal_item *)ctx = *item;
    return 0;
}

static void the_bytes_of_a_record_are_fixed(void **state)
{
    static const uint8_t golden[] = {
        1,   0,   0,   0,   1,  0, 0, 0, /* version, in meta */
        5,   0,   0,   0,   0,  0, 0, 0,
        1,   0,   0,   0,   37, 0, 0, 0, /* index 5, one entry of 37 bytes */
        1,   0,   0,   0,   0,  0, 0, 0,
        0,   0,   0,   0,   0,  0, 0, 0, /* term, vote */
        0,   0,   0,   0,   0,  0, 0, 0, /* reserved */
        5,   0,   0,   0,   0,  0, 0, 0,
        1,   0,   0,   0,   0,  0, 0, 0, /* index, term */
        8,   7,   6,   5,   4,  3, 2, 1,
        3,   0,   0,   0,   2,  0, 0, 0, /* time, lengths */
        'm', 's', 'g', 'b', 'k'};
    struct hf_journal_head head = {.version = 1,
                                   .flags = HF_JOURNAL_IN_META,
                                   .first_index = 5,
                                   .count = 1,
                                   .bytes = 37,
                                   .term = 1};
    struct hf_journal_item item = {.index = 5,
                                   .term = 1,
                                   .time_ns = UINT64_C(0x0102030405060708),
                                   .msg = (const uint8_t *)"msg",
                                   .bulk = (const uint8_t *)"bk",
                                   .msg_len = 3,
                                   .bulk_len = 2},
                           got = {0};
    uint8_t bytes[sizeof(golden)];
    struct hf_writer w =
        hf_writer_init(bytes + HF_JOURNAL_HEAD_BYTES, sizeof(bytes) - HF_JOURNAL_HEAD_BYTES);

    (void)state;
    hf_journal_head_encode(&head, bytes);
    hf_journal_item_encode(&w, &item);
    assert_false(w.bad);
    assert_memory_equal(bytes, golden, sizeof(golden));
    assert_int_equal(hf_journal_record_decode(golden, sizeof(golden), NULL, 0, collect, &got), 0);
    assert_int_equal(got.time_ns, item.time_ns);
    assert_memory_equal(got.msg, "msg", 3);
    assert_memory_equal(got.bulk, "bk", 2);
}

static void records_that_lie_are_refused(void **state)
{
    struct hf_journal_head head = {.version = 1, .first_index = 5, .count = 1, .bytes = 35};
    struct hf_journal_item item = {.index = 5, .msg = (const uint8_t *)"msg", .msg_len = 3}, got;
    uint8_t meta[HF_JOURNAL_HEAD_BYTES], payload[64];
    struct hf_writer w = hf_writer_init(payload, sizeof(payload));

    (void)state;
    hf_journal_item_encode(&w, &item);
    hf_journal_head_encode(&head, meta);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 35, collect, &got), 0);
    assert_int_equal(hf_journal_record_decode(meta, 47, payload, 35, collect, &got), -EBADMSG);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 34, collect, &got), -EBADMSG);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 36, collect, &got), -EBADMSG);
    head.count = 2;
    hf_journal_head_encode(&head, meta);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 35, collect, &got), -EBADMSG);
    head.count = 1;
    head.first_index = 6;
    hf_journal_head_encode(&head, meta);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 35, collect, &got), -EBADMSG);
    head.first_index = 5;
    head.version = 2;
    hf_journal_head_encode(&head, meta);
    assert_int_equal(hf_journal_record_decode(meta, 48, payload, 35, collect, &got), -EBADMSG);
}

/* Order, batches */

static void entries_commit_in_order_and_replay_as_proposed(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 0; i < 100; i++) {
        (void)propose(w, 8 + i * 7);
        if (i % 9 == 0) {
            hf_sim_run_ns(w->sim, 50 * HF_NS_PER_US);
        }
    }
    wait_all(w);
    assert_int_equal(w->done_count, 100);
    shut(w);
    assert_int_equal(try_open(w, 0), 0);
    assert_int_equal(w->replay_count, 100);
    assert_int_equal(w->replay_first, 1);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(w->replay_numbers[i], i);
    }
}

static void what_arrives_during_a_sync_shares_the_next(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 0; i < 50; i++) {
        (void)propose(w, 100);
    }
    wait_all(w);
    assert_int_equal(status(w).syncs, 1);
    (void)propose(w, 100);
    while (w->items[50]->entry.index == 0 || status(w).synced_index == 50) {
        if (w->item_count < 80) {
            (void)propose(w, 100);
        }
        assert_true(hf_sim_step(w->sim));
    }
    wait_all(w);
    assert_true(status(w).syncs <= 3);
}

static void more_than_one_batch_holds_goes_in_several(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 0; i < 60; i++) {
        (void)propose(w, HF_RPC_MSG_MAX);
    }
    wait_all(w);
    assert_int_equal(w->done_count, 60);
    assert_true(status(w).syncs >= 2);
    shut(w);
    assert_int_equal(try_open(w, 0), 0);
    assert_int_equal(w->replay_count, 60);
}

static void only_entries_above_the_checkpoint_are_replayed(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 0; i < 20; i++) {
        (void)propose(w, 50);
        wait_all(w);
    }
    shut(w);
    assert_int_equal(try_open(w, 15), 0);
    assert_int_equal(w->replay_first, 16);
    assert_int_equal(w->replay_count, 5);
    (void)propose(w, 50);
    wait_all(w);
    assert_int_equal(w->items[20]->entry.index, 21);
}

static void time_never_goes_back(void **state)
{
    struct world *w = *state;
    uint64_t now_ns = hf_env_wall_ns(w->env);

    hf_sim_set_wall_ns(w->env, now_ns + 100 * SEC);
    (void)propose(w, 50);
    wait_all(w);
    hf_sim_set_wall_ns(w->env, now_ns);
    (void)propose(w, 50);
    wait_all(w);
    assert_true(w->items[1]->entry.time_ns >= w->items[0]->entry.time_ns);
    shut(w);
    assert_int_equal(try_open(w, 0), 0);
    (void)propose(w, 50);
    assert_true(w->items[2]->entry.time_ns >= w->items[0]->entry.time_ns);
    wait_all(w);
}

/* Trimming */

static void trimming_drops_what_no_replay_needs(void **state)
{
    struct world *w = *state;
    uint64_t position = 0, index = 0;

    for (uint32_t i = 0; i < 100; i++) {
        (void)propose(w, 8000);
        wait_all(w);
        if (i == 60) {
            position = hf_journal_position(w->journal);
            index = w->done_index;
        }
    }
    hf_journal_trim(w->journal, position);
    hf_sim_run_ns(w->sim, SEC);
    shut(w);
    assert_int_equal(try_open(w, index), 0);
    assert_int_equal(w->replay_first, index + 1);
    assert_int_equal(w->replay_last, 100);
    shut(w);
    /* An older table does not fit what is left of the log: that is noticed. */
    assert_int_equal(try_open(w, 2), -EBADMSG);
}

static void a_log_that_ends_before_the_checkpoint_is_refused(void **state)
{
    struct world *w = *state;

    (void)propose(w, 50);
    wait_all(w);
    shut(w);
    assert_int_equal(try_open(w, 5), -EBADMSG);
}

static void what_replay_returns_ends_the_opening(void **state)
{
    struct world *w = *state;

    (void)propose(w, 50);
    wait_all(w);
    shut(w);
    w->replay_err = -ENOMEM;
    assert_int_equal(try_open(w, 0), -ENOMEM);
}

/* Failures */

static void one_failed_write_or_sync_is_got_over(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 2; kind++) {
        unsigned struck = 1;

        for (uint64_t n = 0; struck; n++) {
            struct world *w = world_new(n + 1);
            struct hf_sim_disk *disk = hf_sim_disk(w->env);
            uint32_t acked;

            assert_int_equal(try_open(w, 0), 0);
            hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n,
                                kind ? HF_SIM_FAULT_SYNC_EIO : HF_SIM_FAULT_WRITE_EIO);
            for (uint32_t i = 0; i < 30; i++) {
                (void)propose(w, 6000);
                if (i % 4 == 0) {
                    wait_all(w);
                }
            }
            wait_all(w);
            acked = w->done_count;
            /* A failed sync of the directory is never got over: no new segment is safe. */
            assert_true(acked == 30 || (kind == 1 && w->failed_calls == 1));
            struck = hf_sim_disk_struck(disk);
            hf_sim_disk_clear_faults(disk);
            crash(w);
            assert_int_equal(try_open(w, 0), 0);
            assert_in_range(w->replay_count, acked, 30);
            for (uint32_t i = 0; i < w->replay_count; i++) {
                assert_int_equal(w->replay_numbers[i], i);
            }
            world_free(w);
        }
    }
}

static void repeated_failures_fail_it_for_good(void **state)
{
    struct world *w = *state;
    struct hf_sim_disk *disk = hf_sim_disk(w->env);

    for (uint32_t i = 0; i < 16; i++) {
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk), HF_SIM_FAULT_WRITE_EIO);
    }
    (void)propose(w, 50);
    (void)propose(w, 50);
    wait_all(w);
    assert_int_equal(w->failed_calls, 1);
    assert_int_equal(w->items[0]->err, -EIO);
    assert_int_equal(w->items[1]->err, -EIO);
    assert_int_equal(status(w).failed, -EIO);
    hf_sim_disk_clear_faults(disk);
    (void)propose(w, 50);
    wait_all(w);
    assert_int_equal(w->items[2]->err, -EIO);
    assert_int_equal(w->failed_calls, 1);
}

static void without_space_entries_wait_and_go_on_in_order(void **state)
{
    struct world *w = *state;
    struct hf_sim_disk *disk = hf_sim_disk(w->env);

    hf_sim_run_ns(w->sim, SEC); /* spares are made */
    hf_sim_disk_set_capacity(disk, 4096);
    for (uint32_t i = 0; i < 100; i++) {
        (void)propose(w, 20000);
        hf_sim_run_ns(w->sim, 10 * HF_NS_PER_MS);
    }
    hf_sim_run_ns(w->sim, 5 * SEC);
    assert_true(w->done_count < 100);
    hf_sim_disk_set_capacity(disk, UINT64_C(1) << 30);
    wait_all(w);
    assert_int_equal(w->done_count, 100);
    assert_int_equal(w->failed_calls, 0);
    crash(w);
    assert_int_equal(try_open(w, 0), 0);
    assert_int_equal(w->replay_count, 100);
}

static void rot_of_what_was_acknowledged_is_refused(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 10; k++) {
        struct world *w = world_new(k + 1);
        int err;

        assert_int_equal(try_open(w, 0), 0);
        for (uint32_t i = 0; i < 10; i++) {
            (void)propose(w, 50);
            wait_all(w);
        }
        crash(w);
        /* Behind the two pages of the segment's header every record is one page. */
        assert_int_equal(
            hf_sim_disk_flip(hf_sim_disk(w->env), "/log/0000000001.seg", (2 + k) * 4096 + 60, 0xff),
            0);
        err = try_open(w, 0);
        if (k < 9) {
            assert_int_equal(err, -EBADMSG);
        } else { /* nothing was written after it: a torn tail looks the same */
            assert_true(err == -EBADMSG || w->replay_count == 9);
        }
        world_free(w);
    }
}

static void whatever_power_cut_leaves_a_prefix_with_all_that_was_acknowledged(void **state)
{
    unsigned struck = 1;
    uint64_t n;

    (void)state;
    for (n = 0; struck; n++) {
        struct world *w = world_new(1000 + n);
        struct hf_sim_disk *disk = hf_sim_disk(w->env);
        uint32_t acked;

        assert_int_equal(try_open(w, 0), 0);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n, HF_SIM_FAULT_POWER_CUT);
        for (uint32_t i = 0; i < 40 && !hf_sim_disk_is_off(disk); i++) {
            (void)propose(w, i % 3 ? 300 : 30000);
            if (i % 5 == 4) {
                hf_sim_run_ns(w->sim, 5 * HF_NS_PER_MS);
            }
            if (i == 25) {
                hf_journal_trim(w->journal, hf_journal_position(w->journal));
            }
        }
        hf_sim_run_ns(w->sim, 100 * HF_NS_PER_MS);
        struck = hf_sim_disk_struck(disk);
        acked = w->done_count;
        crash(w);
        for (uint32_t i = 0; i < 2; i++) { /* and the recovery may be cut as well */
            int err = try_open(w, acked > 20 ? 20 : 0);

            assert_int_equal(err, 0);
            assert_true(w->replay_count + (acked > 20 ? 20 : 0) >= acked);
            assert_true(w->replay_count + (acked > 20 ? 20 : 0) <= w->item_count);
            for (uint32_t k = 0; k < w->replay_count; k++) {
                assert_int_equal(w->replay_numbers[k], k + (acked > 20 ? 20 : 0));
            }
            crash(w);
        }
        world_free(w);
    }
    assert_true(n > 20);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_of_a_record_are_fixed),
        cmocka_unit_test(records_that_lie_are_refused),
        T(entries_commit_in_order_and_replay_as_proposed),
        T(what_arrives_during_a_sync_shares_the_next),
        T(more_than_one_batch_holds_goes_in_several),
        T(only_entries_above_the_checkpoint_are_replayed),
        T(time_never_goes_back),
        T(trimming_drops_what_no_replay_needs),
        T(a_log_that_ends_before_the_checkpoint_is_refused),
        T(what_replay_returns_ends_the_opening),
        cmocka_unit_test(one_failed_write_or_sync_is_got_over),
        T(repeated_failures_fail_it_for_good),
        T(without_space_entries_wait_and_go_on_in_order),
        cmocka_unit_test(rot_of_what_was_acknowledged_is_refused),
        cmocka_unit_test(whatever_power_cut_leaves_a_prefix_with_all_that_was_acknowledged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
