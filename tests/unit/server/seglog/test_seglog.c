/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "server/seglog/seglog.h"

#define SEGMENT_BYTES (256u << 10)

struct world {
    struct hf_env *env;
    char dir[64];
    struct hf_seglog *log;
    int pending;
    uint64_t replayed[4096];
    uint32_t replayed_count;
    uint64_t rot_first, rot_last;
    uint32_t rots;
    struct hf_timer poll;
};

struct op {
    struct hf_seglog_append append;
    struct hf_seglog_read read;
    struct world *w;
    int err;
    bool done;
    struct iovec iov;
    char payload[9000];
    char meta[32];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    const struct hf_env_real_options options = {.cpu = -1};

    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/hf-test-seglog.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(hf_env_real_new(&options, &w->env), 0);
    *state = w;
    return 0;
}

static void poll_idle(void *ctx)
{
    struct world *w = ctx;

    if (w->pending == 0 && (!w->log || hf_seglog_idle(w->log))) {
        hf_env_real_stop(w->env);
    } else {
        hf_timer_arm(&w->poll, HF_NS_PER_MS / 10);
    }
}

static void run(struct world *w)
{
    hf_timer_init(&w->poll, w->env, poll_idle, w);
    hf_timer_arm(&w->poll, 0);
    assert_int_equal(hf_env_real_run(w->env), 0);
    hf_timer_fini(&w->poll);
}

static void shut(struct world *w)
{
    run(w);
    hf_seglog_close(w->log);
    w->log = NULL;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char cmd[128];

    if (w->log) {
        shut(w);
    }
    hf_env_real_free(w->env);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
    assert_int_equal(system(cmd), 0);
    free(w);
    return 0;
}

/* The payload of record @seq. */
static size_t payload_of(uint64_t seq, char *ret)
{
    size_t len = (size_t)(seq * 1237 % 9000);

    for (size_t i = 0; i < len; i++) {
        ret[i] = (char)(seq * 31 + i * 7);
    }
    return len;
}

static int on_replay(void *ctx, const struct hf_seglog_record *record)
{
    struct world *w = ctx;
    char want[9000];
    char meta[32];
    size_t len = payload_of(record->seq, want);

    assert_int_equal(record->payload_len_bytes, len);
    assert_memory_equal(record->payload, want, len);
    (void)snprintf(meta, sizeof(meta), "meta %llu", (unsigned long long)record->seq);
    assert_int_equal(record->meta_have_bytes, sizeof(meta));
    assert_string_equal((const char *)record->meta, meta);
    assert_true(w->replayed_count < HF_ARRAY_LEN(w->replayed));
    w->replayed[w->replayed_count++] = record->seq;
    return 0;
}

static void on_rot(void *ctx, uint64_t first_seq, uint64_t last_seq, struct hf_seglog_pos pos)
{
    struct world *w = ctx;

    (void)pos;
    w->rots++;
    w->rot_first = first_seq;
    w->rot_last = last_seq;
}

static void open_log(struct world *w)
{
    const struct hf_seglog_options options = {
        .dir = w->dir,
        .pool = HF_POOL_LOG,
        .segment_bytes = SEGMENT_BYTES,
        .prezero = true,
        .spares = 1,
        .identity = {{1, 2, 3}},
        .replay_payload = true,
        .contiguous = true,
        .replay = on_replay,
        .rot = on_rot,
        .ctx = w,
    };

    w->replayed_count = 0;
    w->rots = 0;
    assert_int_equal(hf_seglog_open(w->env, &options, &w->log), 0);
    hf_seglog_check_invariants(w->log);
}

static void op_done(void *ctx, int err)
{
    struct op *op = ctx;

    assert_false(op->done);
    op->done = true;
    op->err = err;
    op->w->pending--;
    hf_seglog_check_invariants(op->w->log);
}

static void append(struct world *w, struct op *op)
{
    uint64_t seq = hf_seglog_last_seq(w->log) + 1;
    size_t len = payload_of(seq, op->payload);

    op->w = w;
    op->done = false;
    op->iov = (struct iovec){.iov_base = op->payload, .iov_len = len};
    memset(op->meta, 0, sizeof(op->meta));
    (void)snprintf(op->meta, sizeof(op->meta), "meta %llu", (unsigned long long)seq);
    op->append = (struct hf_seglog_append){.type = 1,
                                           .sum_payload = true,
                                           .meta = op->meta,
                                           .meta_len_bytes = sizeof(op->meta),
                                           .iov = &op->iov,
                                           .iov_count = 1,
                                           .payload_len_bytes = (uint32_t)len,
                                           .done = op_done,
                                           .ctx = op};
    w->pending++;
    hf_seglog_append(w->log, &op->append);
    assert_int_equal(op->append.seq, seq);
}

/* @count records, in groups of @group that arrive together. */
static void append_many(struct world *w, uint32_t count, uint32_t group)
{
    struct op *ops = calloc(group, sizeof(*ops));

    while (count > 0) {
        uint32_t n = count < group ? count : group;

        for (uint32_t i = 0; i < n; i++) {
            append(w, &ops[i]);
        }
        run(w);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(ops[i].done);
            assert_int_equal(ops[i].err, 0);
        }
        count -= n;
    }
    free(ops);
}

static void assert_replayed(struct world *w, uint64_t first, uint64_t last)
{
    assert_int_equal(w->replayed_count, last + 1 - first);
    for (uint32_t i = 0; i < w->replayed_count; i++) {
        assert_int_equal(w->replayed[i], first + i);
    }
}

static void read_back(struct world *w, uint64_t seq, int err)
{
    struct op op = {.w = w};
    char want[9000];
    size_t len = payload_of(seq, want);

    op.read = (struct hf_seglog_read){.seq = seq, .done = op_done, .ctx = &op};
    w->pending++;
    hf_seglog_read(w->log, &op.read);
    run(w);
    assert_int_equal(op.err, err);
    if (!err) {
        assert_int_equal(op.read.payload_len_bytes, len);
        assert_memory_equal(op.read.payload, want, len);
        free(op.read.buf);
    }
}

static void records_come_back_in_order_after_a_clean_close(void **state)
{
    struct world *w = *state;

    open_log(w);
    append_many(w, 300, 7);
    shut(w);
    open_log(w);
    assert_replayed(w, 1, 300);
    assert_int_equal(hf_seglog_last_seq(w->log), 300);
    append_many(w, 10, 3);
    read_back(w, 1, 0);
    read_back(w, 150, 0);
    read_back(w, 310, 0);
    read_back(w, 311, -ENOENT);
    shut(w);
    open_log(w);
    assert_replayed(w, 1, 310);
}

static void appends_that_arrive_together_share_one_sync(void **state)
{
    struct world *w = *state;
    struct hf_seglog_stats before, after;

    open_log(w);
    hf_seglog_stats(w->log, &before);
    append_many(w, 16, 16);
    hf_seglog_stats(w->log, &after);
    assert_int_equal(after.appends - before.appends, 16);
    assert_int_equal(after.syncs - before.syncs, 1);
}

static void a_truncated_tail_is_never_replayed(void **state)
{
    struct world *w = *state;
    struct op op = {.w = w};

    open_log(w);
    append_many(w, 100, 5);
    op.append = (struct hf_seglog_append){.done = op_done, .ctx = &op};
    w->pending++;
    hf_seglog_truncate_tail(w->log, 91, &op.append);
    run(w);
    assert_int_equal(op.err, 0);
    assert_int_equal(hf_seglog_last_seq(w->log), 101);
    read_back(w, 90, 0);
    read_back(w, 91, -ENOENT);
    read_back(w, 101, -ENOENT);
    append_many(w, 9, 5);
    shut(w);
    open_log(w);
    assert_int_equal(w->replayed_count, 99);
    assert_int_equal(w->replayed[89], 90);
    assert_int_equal(w->replayed[90], 102);
    assert_int_equal(w->replayed[98], 110);
    read_back(w, 95, -ENOENT);
}

static void a_trimmed_head_is_gone_and_its_files_are_used_again(void **state)
{
    struct world *w = *state;
    struct hf_seglog_stats stats;

    open_log(w);
    append_many(w, 200, 5);
    hf_seglog_trim_head(w->log, 150);
    run(w);
    assert_true(hf_seglog_first_seq(w->log) > 50 && hf_seglog_first_seq(w->log) <= 150);
    read_back(w, hf_seglog_first_seq(w->log) - 1, -ENOENT);
    read_back(w, hf_seglog_first_seq(w->log), 0);
    append_many(w, 200, 5);
    hf_seglog_stats(w->log, &stats);
    assert_true(stats.recycled > 0);
    {
        uint64_t first = hf_seglog_first_seq(w->log);

        shut(w);
        open_log(w);
        assert_replayed(w, first, 400);
        assert_int_equal(w->rots, 0);
    }
}

static bool exists(struct world *w, uint64_t number, const char *suffix)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%010llu.%s", w->dir, (unsigned long long)number, suffix);
    return access(path, F_OK) == 0;
}

static void a_drop_that_failed_is_tried_again(void **state)
{
    struct world *w = *state;
    char path[128];
    uint64_t first;

    open_log(w);
    append_many(w, 200, 5);
    shut(w);
    open_log(w); /* it used up its spare: the first segment that goes becomes the next one */
    (void)snprintf(path, sizeof(path), "%s/%010u.free", w->dir, 1u);
    assert_int_equal(mkdir(path, 0700), 0);
    hf_seglog_trim_head(w->log, 150);
    run(w);
    assert_true(exists(w, 1, "seg"));
    assert_int_equal(hf_seglog_first_seq(w->log), 1);
    read_back(w, 1, 0);
    assert_int_equal(rmdir(path), 0);
    hf_seglog_trim_head(w->log, 150);
    run(w);
    assert_false(exists(w, 1, "seg") || exists(w, 1, "free"));
    first = hf_seglog_first_seq(w->log);
    assert_true(first > 50 && first <= 150);
    hf_seglog_check_invariants(w->log);
    shut(w);
    open_log(w);
    assert_replayed(w, first, 200);
    assert_int_equal(w->rots, 0);
}

static void a_record_too_large_for_a_segment_is_refused(void **state)
{
    struct world *w = *state;
    struct op op = {.w = w};
    struct iovec iov = {.iov_len = SEGMENT_BYTES};

    iov.iov_base = calloc(1, SEGMENT_BYTES);
    open_log(w);
    op.append = (struct hf_seglog_append){.type = 1,
                                          .iov = &iov,
                                          .iov_count = 1,
                                          .payload_len_bytes = SEGMENT_BYTES,
                                          .done = op_done,
                                          .ctx = &op};
    w->pending++;
    hf_seglog_append(w->log, &op.append);
    run(w);
    assert_int_equal(op.err, -EFBIG);
    free(iov.iov_base);
}

static void a_log_of_another_identity_is_refused(void **state)
{
    struct world *w = *state;
    struct hf_seglog_options options = {
        .dir = w->dir, .pool = HF_POOL_LOG, .segment_bytes = SEGMENT_BYTES, .identity = {{9}}};
    struct hf_seglog *log;

    open_log(w);
    append_many(w, 1, 1);
    shut(w);
    assert_int_equal(hf_seglog_open(w->env, &options, &log), -HF_EWRONGCLUSTER);
}

/* As a crash would leave it: the directory is copied while the log is open, and not sealed. */
static void crash_copy(struct world *w)
{
    char cmd[256];

    (void)snprintf(cmd, sizeof(cmd), "cp -r %s %s.copy", w->dir, w->dir);
    assert_int_equal(system(cmd), 0);
    shut(w);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s && mv %s.copy %s", w->dir, w->dir, w->dir);
    assert_int_equal(system(cmd), 0);
}

static void flip(struct world *w, struct hf_seglog_pos pos, uint64_t off)
{
    char path[128];
    uint8_t byte;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%010llu.seg", w->dir, (unsigned long long)pos.segment);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(pos.off_bytes + off)), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(pos.off_bytes + off)), 1);
    assert_int_equal(close(fd), 0);
}

/* Ten records, each synced by itself; @ret_at where they are. */
static void ten_records(struct world *w, struct hf_seglog_pos ret_at[11])
{
    struct op op;

    open_log(w);
    for (uint64_t seq = 1; seq <= 10; seq++) {
        append(w, &op);
        run(w);
        assert_int_equal(op.err, 0);
        ret_at[seq] = op.append.pos;
    }
    crash_copy(w);
}

static void a_bad_header_below_the_mark_is_rot_and_the_rest_is_found(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at[11];

    ten_records(w, at);
    flip(w, at[4], 20);
    open_log(w);
    assert_int_equal(w->rots, 1);
    assert_true(w->rot_first == 4 && w->rot_last == 4);
    assert_int_equal(w->replayed_count, 9);
    assert_int_equal(w->replayed[3], 5);
    assert_int_equal(hf_seglog_last_seq(w->log), 10);
    /* It is said again: the table that was written has the gap. */
    shut(w);
    open_log(w);
    assert_true(w->rots == 1 && w->rot_first == 4);
}

static void a_bad_payload_below_the_mark_is_rot(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at[11];

    ten_records(w, at);
    flip(w, at[6], 4096 + 100);
    open_log(w);
    assert_true(w->rots == 1 && w->rot_first == 6 && w->rot_last == 6);
    assert_int_equal(w->replayed_count, 9);
    read_back(w, 6, -EBADMSG);
    read_back(w, 7, 0);
}

static void a_bad_record_above_the_mark_is_a_torn_tail(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at[11];

    ten_records(w, at);
    flip(w, at[10], 4096 + 100);
    open_log(w);
    assert_int_equal(w->rots, 0);
    assert_replayed(w, 1, 9);
    assert_int_equal(hf_seglog_last_seq(w->log), 9);
    append_many(w, 1, 1);
    shut(w);
    open_log(w);
    assert_replayed(w, 1, 10);
}

/* One more record, alone in a segment of its own. */
static void append_rolled(struct world *w, struct hf_seglog_pos *ret_at)
{
    struct op op;

    hf_seglog_roll(w->log);
    append(w, &op);
    run(w);
    assert_int_equal(op.err, 0);
    *ret_at = op.append.pos;
}

static void a_torn_record_stays_cut_where_its_empty_segment_does_not_go(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at;
    char free_path[128];
    char path[128];

    open_log(w);
    append_many(w, 10, 5);
    append_rolled(w, &at);
    crash_copy(w);
    flip(w, at, 4096 + 100);
    (void)snprintf(path, sizeof(path), "%s/%010llu.seg", w->dir, (unsigned long long)at.segment);
    (void)snprintf(free_path, sizeof(free_path), "%s/%010llu.free", w->dir,
                   (unsigned long long)at.segment);
    open_log(w);
    assert_replayed(w, 1, 10);
    assert_false(exists(w, at.segment, "seg"));
    /* The power goes before the directory is on the disk: the file has its name again. */
    crash_copy(w);
    assert_int_equal(rename(free_path, path), 0);
    open_log(w);
    assert_replayed(w, 1, 10);
    assert_int_equal(w->rots, 0);
    assert_int_equal(hf_seglog_last_seq(w->log), 10);
    append_many(w, 5, 1);
    shut(w);
    open_log(w);
    assert_replayed(w, 1, 15);
    assert_int_equal(w->rots, 0);
}

static void without_table_and_successor_what_was_synced_is_kept(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at[3];

    open_log(w);
    append_many(w, 10, 5);
    append_rolled(w, &at[0]);
    append_many(w, 1, 1);
    append_rolled(w, &at[1]);
    append_rolled(w, &at[2]);
    shut(w);
    flip(w, (struct hf_seglog_pos){.segment = at[0].segment, .off_bytes = SEGMENT_BYTES - 4096}, 8);
    flip(w, (struct hf_seglog_pos){.segment = at[1].segment}, 30);
    flip(w, (struct hf_seglog_pos){.segment = at[1].segment}, 4096 + 30);
    open_log(w);
    assert_true(w->rots == 1 && w->rot_first == 13 && w->rot_last == 13);
    assert_int_equal(w->replayed_count, 13);
    assert_int_equal(w->replayed[11], 12);
    assert_int_equal(w->replayed[12], 14);
}

static void one_bad_segment_header_copy_does_no_harm(void **state)
{
    struct world *w = *state;
    struct hf_seglog_pos at[11];

    ten_records(w, at);
    flip(w, (struct hf_seglog_pos){.segment = at[1].segment}, 30);
    open_log(w);
    assert_replayed(w, 1, 10);
    assert_int_equal(w->rots, 0);
}

struct numbers {
    uint64_t of[64];
    uint32_t count;
};

static void take_number(void *ctx, const struct hf_seglog_segment_info *info)
{
    struct numbers *numbers = ctx;

    assert_true(numbers->count < HF_ARRAY_LEN(numbers->of));
    numbers->of[numbers->count++] = info->number;
}

static void segments_without_a_header_are_trimmed_with_those_behind_them(void **state)
{
    struct world *w = *state;
    struct numbers n = {0};
    uint64_t first;

    open_log(w);
    append_many(w, 200, 5);
    hf_seglog_segments(w->log, take_number, &n);
    assert_true(n.count > 4);
    shut(w);
    for (uint32_t i = 0; i < 3; i += 2) {
        flip(w, (struct hf_seglog_pos){.segment = n.of[i]}, 30);
        flip(w, (struct hf_seglog_pos){.segment = n.of[i]}, 4096 + 30);
    }
    open_log(w);
    first = hf_seglog_first_seq(w->log); /* of the second segment */
    assert_true(first > 1 && w->rots == 1 && w->rot_first > first && w->rot_last < 150);
    hf_seglog_trim_head(w->log, first);
    run(w);
    assert_true(exists(w, n.of[0], "seg")); /* nothing says yet that it is not needed */
    hf_seglog_trim_head(w->log, w->rot_first);
    run(w);
    assert_false(exists(w, n.of[0], "seg") || exists(w, n.of[1], "seg"));
    assert_true(exists(w, n.of[2], "seg"));
    hf_seglog_trim_head(w->log, 150);
    run(w);
    assert_false(exists(w, n.of[2], "seg"));
    assert_true(hf_seglog_first_seq(w->log) > 50 && hf_seglog_first_seq(w->log) <= 150);
    hf_seglog_check_invariants(w->log);
    shut(w);
    open_log(w);
    assert_int_equal(w->rots, 0);
}

static void a_missing_segment_in_the_middle_is_rot(void **state)
{
    struct world *w = *state;
    char path[128];

    open_log(w);
    append_many(w, 100, 5);
    shut(w);
    (void)snprintf(path, sizeof(path), "%s/%010u.seg", w->dir, 3u);
    assert_int_equal(unlink(path), 0);
    open_log(w);
    assert_int_equal(w->rots, 1);
    assert_true(w->rot_first > 1 && w->rot_last < 100);
    assert_int_equal(w->replayed_count, 100 - (w->rot_last - w->rot_first + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_come_back_in_order_after_a_clean_close, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(appends_that_arrive_together_share_one_sync, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_truncated_tail_is_never_replayed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trimmed_head_is_gone_and_its_files_are_used_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_drop_that_failed_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(
            segments_without_a_header_are_trimmed_with_those_behind_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_too_large_for_a_segment_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_bad_header_below_the_mark_is_rot_and_the_rest_is_found,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_payload_below_the_mark_is_rot, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_record_above_the_mark_is_a_torn_tail, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_torn_record_stays_cut_where_its_empty_segment_does_not_go,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(without_table_and_successor_what_was_synced_is_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_bad_segment_header_copy_does_no_harm, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_segment_in_the_middle_is_rot, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_of_another_identity_is_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
