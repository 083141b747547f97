/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's log and vote: the bytes of their records (tests/golden/raft_disk.hex; HF_GOLDEN=write
 * prints new lines when a format changes on purpose), and what is found again on a disk that loses
 * power, fails or rots.
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

#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/disk_format.h"
#include "tests/lib/sim_env.h"

#define GOLDEN  HF_SOURCE_DIR "/tests/golden/raft_disk.hex"
#define DIR     "/raft"
#define SEC     HF_NS_PER_SEC
#define WRITES  64u
#define ENTRIES 4096u

/* ------------------------------------------------------------------------------------- records */

static const struct raft_hard hard_example = {
    .node = {3},
    .term = 0x0102030405060708,
    .vote = {2},
    .incarnation = 0x1122334455667788,
    .state = HF_RAFT_STORE_FOUNDED,
    .abstain = true,
    .install_index = 0x0908070605040302,
    .founder_count = 2,
    .founders = {{{1}, 0xa1a2a3a4a5a6a7a8}, {{3}, 0xb1b2b3b4b5b6b7b8}},
};

static size_t entries_example(uint8_t *ret)
{
    const struct hf_raft_entry noop = {.index = 7, .term = 8, .type = HF_RAFT_ENTRY_NOOP};
    const struct hf_raft_entry normal = {.index = 8,
                                         .term = 8,
                                         .time_ns = 1700000000000000000,
                                         .type = HF_RAFT_ENTRY_NORMAL,
                                         .msg = (const uint8_t *)"message",
                                         .bulk = (const uint8_t *)"bulk",
                                         .msg_len = 7,
                                         .bulk_len = 4};

    hf_raft_entry_encode(&noop, ret);
    hf_raft_entry_encode(&normal, ret + hf_raft_entry_bytes(&noop));
    return hf_raft_entry_bytes(&noop) + hf_raft_entry_bytes(&normal);
}

static size_t make_entries(uint8_t *ret)
{
    const size_t bytes = entries_example(ret + RAFT_LOG_HEAD_BYTES);
    const struct raft_log_head head = {.version = RAFT_LOG_VERSION,
                                       .flags = RAFT_LOG_IN_META,
                                       .first_index = 7,
                                       .count = 2,
                                       .bytes = (uint32_t)bytes};

    raft_log_head_encode(&head, ret);
    return RAFT_LOG_HEAD_BYTES + bytes;
}

static size_t make_reset(uint8_t *ret)
{
    const struct raft_log_head head = {
        .version = RAFT_LOG_VERSION, .flags = RAFT_LOG_IN_META, .first_index = 0x0102030405060708};

    raft_log_head_encode(&head, ret);
    return RAFT_LOG_HEAD_BYTES;
}

static size_t make_hard(uint8_t *ret)
{
    return raft_hard_encode(&hard_example, ret);
}

static const struct golden {
    const char *name;
    size_t (*make)(uint8_t *ret);
} golden[] = {{"entries", make_entries}, {"reset", make_reset}, {"hard", make_hard}};

static void everything_has_its_golden_bytes(void **state)
{
    FILE *f = getenv("HF_GOLDEN") ? NULL : fopen(GOLDEN, "r");

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[1024];
        char want[2100], line[2100];
        const size_t len = golden[i].make(bytes);
        int at = snprintf(want, sizeof(want), "%s ", golden[i].name);

        for (size_t k = 0; k < len; k++) {
            at += snprintf(want + at, sizeof(want) - (size_t)at, "%02x", bytes[k]);
        }
        (void)snprintf(want + at, sizeof(want) - (size_t)at, "\n");
        if (!f) {
            (void)fputs(want, stdout);
            continue;
        }
        assert_non_null(fgets(line, sizeof(line), f));
        assert_string_equal(line, want);
    }
    if (f) {
        (void)fclose(f);
    }
}

static void a_hard_record_comes_back(void **state)
{
    uint8_t bytes[RAFT_HARD_BYTES_MAX];
    struct raft_hard back;
    size_t len = raft_hard_encode(&hard_example, bytes);

    (void)state;
    assert_int_equal(raft_hard_decode(bytes, len, &back), 0);
    assert_memory_equal(&back, &hard_example, sizeof(back));
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(raft_hard_decode(bytes, cut, &back), -EBADMSG);
    }
    for (uint32_t flags = 0; flags < 4; flags++) {
        struct raft_hard hard = hard_example;

        hard.abstain = flags & 1;
        hard.taken_out = flags & 2;
        len = raft_hard_encode(&hard, bytes);
        assert_int_equal(raft_hard_decode(bytes, len, &back), 0);
        assert_memory_equal(&back, &hard, sizeof(back));
    }
}

/* A number of @width bytes at @off becomes @v: refused with @err. */
struct spoil {
    size_t off, width;
    uint64_t v;
    int err;
};

static void spoil(uint8_t *bytes, const struct spoil *s)
{
    for (size_t i = 0; i < s->width; i++) {
        bytes[s->off + i] = (uint8_t)(s->v >> 8 * i);
    }
}

static void a_hard_record_with_nonsense_is_refused(void **state)
{
    static const struct spoil spoils[] = {
        {0, 4, 2, -EPROTONOSUPPORT},               /* version */
        {4, 4, 4, -EBADMSG},                       /* flags */
        {8, 8, HF_RAFT_NUMBER_MAX + 1, -EBADMSG},  /* term */
        {16, 8, 65536, -EBADMSG},                  /* vote */
        {24, 8, 0, -EBADMSG},                      /* incarnation */
        {32, 8, HF_RAFT_NUMBER_MAX + 1, -EBADMSG}, /* install_index */
        {40, 4, 0, -EBADMSG},                      /* state */
        {40, 4, 4, -EBADMSG},
        {44, 4, 1, -EBADMSG}, /* founders: bytes follow */
        {44, 4, 3, -EBADMSG}, /* missing */
        {44, 4, HF_RAFT_MEMBERS_MAX + 1, -EBADMSG},
        {48, 8, 0, -EBADMSG}, /* node */
        {48, 8, 65536, -EBADMSG},
        {56, 8, 0, -EBADMSG}, /* founder */
        {56, 8, 65536, -EBADMSG},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
        uint8_t bytes[RAFT_HARD_BYTES_MAX];
        struct raft_hard back;
        const size_t len = make_hard(bytes);

        spoil(bytes, &spoils[i]);
        assert_int_equal(raft_hard_decode(bytes, len, &back), spoils[i].err);
    }
}

static int count_entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t len)
{
    uint64_t *next = ctx;

    (void)bytes;
    assert_true(len >= HF_RAFT_ENTRY_HEAD_BYTES);
    assert_int_equal(index, (*next)++);
    return 0;
}

static int refuse_entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)index;
    (void)bytes;
    (void)len;
    return -ENOMEM;
}

static void an_entries_record_comes_back_in_meta_bytes_or_payload(void **state)
{
    uint8_t bytes[1024];
    struct raft_log_head head;
    const size_t len = make_entries(bytes);
    uint64_t next = 7;

    (void)state;
    assert_int_equal(raft_log_record_decode(bytes, len, NULL, 0, &head, count_entry, &next), 0);
    assert_int_equal(next, 9);
    assert_int_equal(head.first_index, 7);
    assert_int_equal(raft_log_record_decode(bytes, len, NULL, 0, &head, refuse_entry, NULL),
                     -ENOMEM);
    assert_int_equal(raft_log_record_decode(bytes, len, bytes, 1, &head, NULL, NULL), -EBADMSG);
    bytes[4] = 0; /* as a payload */
    next = 7;
    assert_int_equal(raft_log_record_decode(bytes, RAFT_LOG_HEAD_BYTES, bytes + RAFT_LOG_HEAD_BYTES,
                                            len - RAFT_LOG_HEAD_BYTES, &head, count_entry, &next),
                     0);
    assert_int_equal(next, 9);
    assert_int_equal(raft_log_record_decode(bytes, len, NULL, 0, &head, NULL, NULL), -EBADMSG);
    for (size_t cut = 0; cut < len; cut++) {
        (void)make_entries(bytes);
        assert_int_equal(raft_log_record_decode(bytes, cut, NULL, 0, &head, NULL, NULL), -EBADMSG);
    }
}

static void an_entries_record_with_nonsense_is_refused(void **state)
{
    static const struct spoil spoils[] = {
        {0, 4, 1, -EPROTONOSUPPORT}, /* version */
        {4, 4, 3, -EBADMSG},         /* flags */
        {8, 8, 0, -EBADMSG},         /* first_index */
        {8, 8, HF_RAFT_NUMBER_MAX + 1, -EBADMSG},
        {8, 8, HF_RAFT_NUMBER_MAX, -EBADMSG}, /* the second one is beyond */
        {16, 4, 1, -EBADMSG},                 /* count */
        {16, 4, 3, -EBADMSG},
        {20, 4, 1, -EBADMSG}, /* bytes */
        {24, 8, 1, -EBADMSG}, /* reserved */
        {32, 8, 0, -EBADMSG}, /* an entry's term */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
        uint8_t bytes[1024];
        struct raft_log_head head;
        const size_t len = make_entries(bytes);

        spoil(bytes, &spoils[i]);
        assert_int_equal(raft_log_record_decode(bytes, len, NULL, 0, &head, NULL, NULL),
                         spoils[i].err);
    }
}

/* ---------------------------------------------------------------------------------------- disk */

struct write {
    struct raft_write base;
    bool done;
    int err;
};

struct world {
    struct hf_sim *sim;
    struct hf_env *env;
    struct raft_disk *disk;
    struct raft_items items;
    struct raft_disk_found found;
    struct write writes[WRITES];
    uint32_t count;
    uint64_t term;
};

static void no_line(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

static int try_open(struct world *w)
{
    const struct raft_disk_options options = {
        .dir = DIR, .cluster = {{1, 2, 3}}, .segment_bytes = 64u << 10};
    char *error = NULL;
    int err = raft_disk_open(w->env, &options, &w->items, &w->found, &w->disk, &error);

    assert_true(err || !error);
    free(error);
    return err;
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    hf_log_set_sink(no_line, NULL);
    w->sim = hf_sim_new(seed);
    w->env = hf_sim_env(w->sim);
    w->term = 1;
    assert_int_equal(hf_disk_mkdir(hf_env_disk(w->env), DIR), 0);
    assert_int_equal(try_open(w), 0);
    assert_true(w->found.log_empty && !w->found.log_lost && !w->found.vote_lost);
    return w;
}

static bool is_idle(void *ctx)
{
    struct world *w = ctx;

    return raft_disk_idle(w->disk);
}

static void wait(struct world *w)
{
    assert_true(hf_sim_run_until(w->sim, is_idle, w, 60 * SEC));
}

static void world_close(struct world *w)
{
    if (w->disk) {
        wait(w);
        raft_disk_close(w->disk);
        w->disk = NULL;
    }
    raft_items_fini(&w->items);
}

static void world_free(struct world *w)
{
    world_close(w);
    hf_sim_free(w->sim);
    free(w);
}

static void power_cut(struct world *w)
{
    struct hf_sim_disk *disk = hf_sim_disk(w->env);

    hf_sim_kill_env(w->env);
    hf_sim_abandon(w->disk);
    w->disk = NULL;
    raft_items_fini(&w->items); /* those being written stay, abandoned */
    hf_sim_disk_power_cut(disk, HF_SIM_CUT_RANDOM);
    hf_sim_disk_restart(disk);
    hf_sim_disk_clear_faults(disk);
    w->count = 0;
}

static void reopen(struct world *w)
{
    world_close(w);
    assert_int_equal(try_open(w), 0);
}

static void written(struct raft_write *base, int err)
{
    struct write *write = base->ctx;

    assert_false(write->done);
    write->done = true;
    write->err = err;
}

static struct write *next_write(struct world *w)
{
    struct write *write = &w->writes[w->count++];

    assert_true(w->count <= WRITES);
    *write = (struct write){.base = {.done = written, .ctx = write}};
    return write;
}

static uint32_t bulk_len(uint64_t index, uint64_t term)
{
    return (uint32_t)((index * 977 + term * 31) % 700);
}

/* Entries @first .. @last of this term. */
static struct write *append(struct world *w, uint64_t first, uint64_t last)
{
    struct write *write = next_write(w);

    raft_items_cut(&w->items, first);
    for (uint64_t i = first; i <= last; i++) {
        struct raft_item *item;
        uint8_t bulk[700];
        const struct hf_raft_entry entry = {.index = i,
                                            .term = w->term,
                                            .time_ns = i,
                                            .type = HF_RAFT_ENTRY_NORMAL,
                                            .msg = (const uint8_t *)"m",
                                            .bulk = bulk,
                                            .msg_len = 1,
                                            .bulk_len = bulk_len(i, w->term)};

        memset(bulk, (int)(i + w->term), sizeof(bulk));
        item = raft_item_new(&entry);
        assert_non_null(item);
        assert_int_equal(raft_items_push(&w->items, item), 0);
    }
    raft_disk_append(w->disk, &w->items, first, last, &write->base);
    assert_false(write->done);
    return write;
}

static void append_now(struct world *w, uint64_t first, uint64_t last)
{
    struct write *write = append(w, first, last);

    wait(w);
    assert_true(write->done && write->err == 0);
    w->count = 0;
}

static void check_items(struct world *w, uint64_t first, uint64_t last, const uint64_t *terms)
{
    assert_int_equal(w->items.first, first);
    assert_int_equal(raft_items_last(&w->items), last);
    for (uint64_t i = first; i <= last; i++) {
        const struct raft_item *item = raft_items_get(&w->items, i);

        assert_int_equal(item->entry.index, i);
        assert_int_equal(item->entry.term, terms[i]);
        assert_int_equal(item->entry.bulk_len, bulk_len(i, terms[i]));
        for (uint32_t k = 0; k < item->entry.bulk_len; k++) {
            assert_int_equal(item->entry.bulk[k], (uint8_t)(i + terms[i]));
        }
    }
}

static void what_was_appended_overwritten_and_dropped_comes_back(void **state)
{
    struct world *w = world_new(1);
    uint64_t terms[ENTRIES] = {0};

    (void)state;
    append_now(w, 1, 50); /* more than the meta bytes hold */
    w->term = 2;
    append_now(w, 31, 40);
    append_now(w, 36, 35); /* only an end */
    for (uint64_t i = 1; i <= 35; i++) {
        terms[i] = i <= 30 ? 1 : 2;
    }
    check_items(w, 1, 35, terms);
    for (uint32_t i = 0; i < 2; i++) {
        reopen(w);
        assert_false(w->found.log_empty || w->found.log_lost || w->found.vote_lost);
        check_items(w, 1, 35, terms);
    }
    world_free(w);
}

static void a_log_that_was_emptied_begins_behind(void **state)
{
    struct world *w = world_new(2);
    struct write *write;
    uint64_t terms[ENTRIES] = {0};

    (void)state;
    append_now(w, 1, 20);
    write = next_write(w);
    raft_items_reset(&w->items, 101);
    raft_disk_reset(w->disk, 100, &write->base);
    wait(w);
    assert_int_equal(write->err, 0);
    reopen(w);
    assert_int_equal(w->items.first, 101);
    assert_int_equal(w->items.count, 0);
    w->term = terms[101] = terms[102] = 3;
    append_now(w, 101, 102);
    reopen(w);
    assert_false(w->found.log_lost);
    check_items(w, 101, 102, terms);
    world_free(w);
}

static void persist(struct world *w, const struct raft_hard *hard, int err)
{
    struct write *write = next_write(w);

    raft_disk_persist(w->disk, hard, &write->base);
    wait(w);
    assert_int_equal(write->err, err);
    w->count = 0;
}

static void only_the_newest_vote_counts(void **state)
{
    struct world *w = world_new(3);
    struct raft_hard hard = hard_example;

    (void)state;
    for (uint64_t term = 1; term <= 40; term++) { /* several segments; the older ones go */
        hard.term = term;
        persist(w, &hard, 0);
    }
    reopen(w);
    assert_memory_equal(&w->found.hard, &hard, sizeof(hard));
    assert_false(w->found.vote_lost);
    world_free(w);
}

/* What is on the disk under @dir, and where. */
static int newest_segment(void *ctx, const char *name)
{
    char *newest = ctx;

    if (strstr(name, ".seg") && strcmp(name, newest) > 0) {
        (void)snprintf(newest, 32, "%s", name);
    }
    return 0;
}

static void flip(struct world *w, const char *dir, const char *name, uint64_t off)
{
    char path[128];

    (void)snprintf(path, sizeof(path), DIR "/%s/%s", dir, name);
    assert_int_equal(hf_sim_disk_flip(hf_sim_disk(w->env), path, off, 0x10), 0);
}

static void a_flipped_vote_is_told(void **state)
{
    struct world *w = world_new(4);
    struct raft_hard hard = hard_example;
    char newest[32] = "";

    (void)state;
    persist(w, &hard, 0);
    hard.term++;
    persist(w, &hard, 0);
    world_close(w);
    assert_int_equal(hf_disk_list(hf_env_disk(w->env), DIR "/vote", newest_segment, newest), 0);
    flip(w, "vote", newest, 2 * 4096 + 4096 + 70); /* the second record */
    assert_int_equal(try_open(w), 0);
    assert_true(w->found.vote_lost);
    world_free(w);
}

/* Records 1 .. 8 of five entries each; @n is flipped. */
static struct world *with_rot(uint32_t n, bool overwrite)
{
    struct world *w = world_new(5);

    for (uint64_t i = 0; i < 8; i++) {
        if (overwrite && i == 5) { /* the sixth drops what the fifth holds, and more */
            w->term = 2;
            append_now(w, 16, 20);
        } else {
            append_now(w, overwrite && i > 5 ? 5 * i - 9 : 5 * i + 1,
                       overwrite && i > 5 ? 5 * i - 5 : 5 * i + 5);
        }
    }
    world_close(w);
    flip(w, "log", "0000000001.seg", 2 * 4096 + (n - 1) * 4096 + 70);
    assert_int_equal(try_open(w), 0);
    return w;
}

static void a_flipped_record_takes_what_was_before_with_it(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 8; n++) {
        struct world *w = with_rot(n, false);

        /* The end is gone for good; a checkpoint may cover what came before the rest. */
        assert_int_equal(w->found.log_lost, n == 8);
        if (n < 8) {
            assert_int_equal(w->items.first, 5 * n + 1);
            assert_int_equal(raft_items_last(&w->items), 40);
        }
        world_free(w);
    }
}

/* What it dropped would come back, and look whole. */
static void a_flipped_record_that_overwrote_others_is_not_overlooked(void **state)
{
    struct world *w = with_rot(6, true);

    (void)state;
    assert_true(w->found.log_lost || w->items.first == 21);
    world_free(w);
}

static void a_log_whose_only_records_are_flipped_is_lost(void **state)
{
    struct world *w = world_new(6);

    (void)state;
    append_now(w, 1, 3);
    append_now(w, 4, 5);
    world_close(w);
    flip(w, "log", "0000000001.seg", 2 * 4096 + 70);
    flip(w, "log", "0000000001.seg", 2 * 4096 + 4096 + 70);
    assert_int_equal(try_open(w), 0);
    assert_true(w->found.log_lost);
    world_free(w);
}

/* A script of appends, an overwriting, votes and an emptying; @ret_acked: what was told durable. */
static uint32_t script(struct world *w)
{
    static const uint64_t steps[][3] = {
        /* term, first, last; term 0: emptied up to first */
        {1, 1, 10},  {1, 11, 90}, {2, 50, 60},   {2, 61, 61},   {3, 40, 39},
        {3, 40, 45}, {0, 200, 0}, {4, 201, 230}, {5, 220, 221},
    };
    struct raft_hard hard = hard_example;
    uint32_t acked = 0;

    for (uint32_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct write *log, *vote = next_write(w);

        w->term = steps[i][0];
        hard.term = i + 1;
        if (w->term == 0) {
            log = next_write(w);
            raft_items_reset(&w->items, steps[i][1] + 1);
            raft_disk_reset(w->disk, steps[i][1], &log->base);
        } else {
            log = append(w, steps[i][1], steps[i][2]);
        }
        raft_disk_persist(w->disk, &hard, &vote->base);
        (void)hf_sim_run_until(w->sim, is_idle, w, 5 * SEC);
        if (!log->done || log->err || !vote->done || vote->err) {
            break;
        }
        acked++;
    }
    return acked;
}

/* After @steps of the script: the end of the log, and some entry's term. */
static bool log_is(const struct world *w, uint32_t steps)
{
    static const struct {
        uint64_t first, last, index, term;
    } want[] = {
        {0, 0, 0, 0},   {1, 10, 10, 1}, {1, 90, 90, 1},   {1, 60, 60, 2},     {1, 61, 61, 2},
        {1, 39, 39, 1}, {1, 45, 45, 3}, {201, 200, 0, 0}, {201, 230, 230, 4}, {201, 221, 221, 5},
    };
    const struct raft_item *item;

    if (steps >= sizeof(want) / sizeof(want[0])) {
        return false;
    }
    if (steps == 0) {
        return w->found.log_empty;
    }
    item = raft_items_get(&w->items, want[steps].index);
    return w->items.first == want[steps].first && raft_items_last(&w->items) == want[steps].last &&
           (want[steps].index == 0 || (item && item->entry.term == want[steps].term));
}

static void whatever_power_cut_keeps_what_was_told_durable(void **state)
{
    bool struck = true;

    (void)state;
    for (uint64_t n = 0; struck; n++) {
        struct world *w = world_new(100 + n);
        struct hf_sim_disk *disk = hf_sim_disk(w->env);
        uint32_t acked;

        wait(w);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + n, HF_SIM_FAULT_POWER_CUT);
        acked = script(w);
        struck = hf_sim_disk_struck(disk) > 0;
        assert_true(struck || acked == 9);
        power_cut(w);
        assert_int_equal(try_open(w), 0);
        assert_false(w->found.log_lost || w->found.vote_lost);
        assert_true(log_is(w, acked) || log_is(w, acked + 1) ||
                    (acked == 1 && w->items.first == 1)); /* an append of several records */
        assert_in_range(w->found.hard.term, acked, acked + 1);
        world_free(w);
    }
}

static void a_write_that_failed_is_made_again_and_nothing_is_missing(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 40; n++) {
        struct world *w = world_new(200 + n);
        struct hf_sim_disk *disk = hf_sim_disk(w->env);
        struct write *first, *second;
        uint64_t terms[ENTRIES];

        append_now(w, 1, 10);
        hf_sim_disk_fail_path(disk, 0, n % 2 ? HF_SIM_FAULT_WRITE_EIO : HF_SIM_FAULT_SYNC_EIO,
                              "/log/", NULL);
        first = append(w, 11, 20);
        for (uint64_t i = 0; i < n && !first->done; i++) {
            (void)hf_sim_step(w->sim);
        }
        if (first->done) {
            world_free(w);
            break;
        }
        /* Nobody told yet that it failed: what is written behind it fails as well. */
        second = append(w, 21, 30);
        wait(w);
        assert_true(first->done && second->done);
        assert_true(first->err && second->err);
        w->count = 0;
        raft_disk_append(w->disk, &w->items, 11, 30, &next_write(w)->base);
        wait(w);
        assert_int_equal(w->writes[0].err, 0);
        power_cut(w);
        assert_int_equal(try_open(w), 0);
        assert_false(w->found.log_lost);
        for (uint64_t i = 0; i < ENTRIES; i++) {
            terms[i] = 1;
        }
        check_items(w, 1, 30, terms);
        world_free(w);
    }
}

static void three_failures_in_a_row_are_the_end(void **state)
{
    struct world *w = world_new(7);

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct write *write;

        assert_false(raft_disk_broken(w->disk));
        hf_sim_disk_fail_path(hf_sim_disk(w->env), 0, HF_SIM_FAULT_WRITE_EIO, "/log/", NULL);
        write = append(w, 1, 5);
        wait(w);
        assert_int_equal(write->err, -EIO);
    }
    assert_true(raft_disk_broken(w->disk));
    assert_false(append(w, 1, 5)->done);
    wait(w);
    assert_int_equal(w->writes[3].err, -EIO);
    reopen(w);
    append_now(w, 1, 5);
    world_free(w);
}

static void what_is_trimmed_makes_room_and_the_rest_comes_back(void **state)
{
    struct world *w = world_new(8);
    uint64_t terms[ENTRIES], before;

    (void)state;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        terms[i] = 1;
    }
    for (uint64_t i = 0; i < 40; i++) {
        append_now(w, 50 * i + 1, 50 * i + 50);
    }
    before = raft_disk_bytes(w->disk);
    assert_true(before > 600000);
    raft_items_trim(&w->items, 1900);
    raft_disk_trim(w->disk, raft_items_get(&w->items, 1901)->seq);
    wait(w);
    assert_true(raft_disk_bytes(w->disk) < before / 4);
    power_cut(w);
    assert_int_equal(try_open(w), 0);
    assert_false(w->found.log_lost);
    assert_in_range(w->items.first, 1000, 1901);
    check_items(w, w->items.first, 2000, terms);
    world_free(w);
}

/* Wherever the segments end: the first that is left may begin with what was replaced later. */
static void what_was_overwritten_at_the_beginning_of_the_log_is_no_loss(void **state)
{
    bool began_later = false;

    (void)state;
    for (uint64_t n = 3; n < 40; n++) {
        struct world *w = world_new(9);
        uint64_t terms[ENTRIES];

        for (uint64_t i = 0; i < n; i++) {
            append_now(w, 5 * i + 1, 5 * i + 5);
        }
        w->term = 2;
        append_now(w, 5 * n - 7, 5 * n);
        for (uint64_t i = 0; i < ENTRIES; i++) {
            terms[i] = i < 5 * n - 7 ? 1 : 2;
        }
        raft_items_trim(&w->items, 5 * n - 8);
        raft_disk_trim(w->disk, raft_items_get(&w->items, 5 * n - 7)->seq);
        reopen(w);
        assert_false(w->found.log_lost);
        assert_true(w->items.first <= 5 * n - 7);
        check_items(w, w->items.first, 5 * n, terms);
        began_later = began_later || w->items.first == 5 * n - 7;
        world_free(w);
    }
    assert_true(began_later);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_has_its_golden_bytes),
        cmocka_unit_test(a_hard_record_comes_back),
        cmocka_unit_test(a_hard_record_with_nonsense_is_refused),
        cmocka_unit_test(an_entries_record_comes_back_in_meta_bytes_or_payload),
        cmocka_unit_test(an_entries_record_with_nonsense_is_refused),
        cmocka_unit_test(what_was_appended_overwritten_and_dropped_comes_back),
        cmocka_unit_test(a_log_that_was_emptied_begins_behind),
        cmocka_unit_test(only_the_newest_vote_counts),
        cmocka_unit_test(a_flipped_vote_is_told),
        cmocka_unit_test(a_flipped_record_takes_what_was_before_with_it),
        cmocka_unit_test(a_flipped_record_that_overwrote_others_is_not_overlooked),
        cmocka_unit_test(a_log_whose_only_records_are_flipped_is_lost),
        cmocka_unit_test(whatever_power_cut_keeps_what_was_told_durable),
        cmocka_unit_test(a_write_that_failed_is_made_again_and_nothing_is_missing),
        cmocka_unit_test(three_failures_in_a_row_are_the_end),
        cmocka_unit_test(what_is_trimmed_makes_room_and_the_rest_comes_back),
        cmocka_unit_test(what_was_overwritten_at_the_beginning_of_the_log_is_no_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
