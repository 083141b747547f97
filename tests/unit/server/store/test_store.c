/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/store/world.h"

static int setup(void **state)
{
    struct world *w = world_new(1);

    w->segment_bytes = 1 << 20;
    *state = w;
    return 0;
}

static int setup_large(void **state)
{
    *state = world_new(1);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void an_object_is_read_back_with_its_checksums(void **state)
{
    struct world *w = *state;

    world_open(w);
    for (uint32_t id = 0; id < 16; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    assert_int_equal(put_one(w, 255), 0);
    world_verify(w);
    assert_int_equal(get_one(w, 7, 4096, 8192), 0);
    assert_int_equal(get_one(w, 255, 3 << 20, 2 << 20), 0);
    assert_int_equal(get_one(w, 7, len_of(7) / 4096 * 4096, 4096), 0);
    assert_int_equal(get_one(w, 7, 1 << 20, 4096), -EINVAL);
    assert_int_equal(get_one(w, 100, 0, 4096), -HF_ENOOBJECT);
    assert_int_equal(check_one(w, 7), 0);
    assert_int_equal(check_one(w, 100), -HF_ENOOBJECT);
}

static void objects_survive_a_clean_reopen(void **state)
{
    struct world *w = *state;

    world_open(w);
    for (uint32_t id = 0; id < 40; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    assert_int_equal(del_one(w, 3), 0);
    world_close(w);
    world_open(w);
    world_verify(w);
    assert_int_equal(put_one(w, 41), 0);
    world_verify(w);
}

static void puts_that_arrive_together_share_one_sync(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(8, sizeof(*ops));
    struct hf_store_stats before, after;

    world_open(w);
    hf_store_stats(w->store, &before);
    for (uint32_t id = 0; id < 8; id++) {
        put_start(w, &ops[id], id);
    }
    world_run(w);
    hf_store_stats(w->store, &after);
    assert_int_equal(after.puts - before.puts, 8);
    assert_int_equal(after.syncs - before.syncs, 1);
    world_verify(w);
    free(ops);
}

static void an_equal_put_succeeds_and_a_different_one_conflicts(void **state)
{
    struct world *w = *state;
    struct op *a = calloc(3, sizeof(*a));
    struct hf_store_stats before, after;

    world_open(w);
    hf_store_stats(w->store, &before);
    /* In flight together. */
    put_start(w, &a[0], 3);
    put_start(w, &a[1], 3);
    put_fill(w, &a[2], 3, 32 << 10);
    a[2].sums[0] ^= 1;
    w->pending++;
    hf_store_put(w->store, &a[2].put);
    world_run(w);
    assert_int_equal(a[0].err, 0);
    assert_int_equal(a[1].err, 0);
    assert_int_equal(a[2].err, -HF_ECONFLICT);
    /* One after the other. */
    assert_int_equal(put_one(w, 3), 0);
    put_fill(w, &a[2], 3, 32 << 10);
    a[2].sums[1] ^= 1;
    w->pending++;
    hf_store_put(w->store, &a[2].put);
    world_run(w);
    assert_int_equal(a[2].err, -HF_ECONFLICT);
    hf_store_stats(w->store, &after);
    assert_int_equal(after.puts - before.puts, 1);
    world_verify(w);
    free(a);
}

static void a_deleted_object_is_gone_and_its_id_is_refused(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    world_open(w);
    assert_int_equal(put_one(w, 5), 0);
    assert_int_equal(del_one(w, 5), 0);
    assert_int_equal(get_one(w, 5, 0, 4096), -HF_ENOOBJECT);
    assert_int_equal(put_one(w, 5), -HF_ECONFLICT);
    assert_int_equal(del_one(w, 5), 0);
    assert_int_equal(del_one(w, 77), 0);
    w->fate[77] = ABSENT;
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.objects, 0);
    assert_int_equal(stats.live_bytes, 0);
    world_close(w);
    world_open(w);
    assert_int_equal(put_one(w, 5), -HF_ECONFLICT);
    world_verify(w);
}

static void a_delete_waits_for_a_put_in_flight(void **state)
{
    struct world *w = *state;
    struct op *ops = calloc(2, sizeof(*ops));
    uint32_t id = 6;

    world_open(w);
    put_start(w, &ops[0], id);
    del_start(w, &ops[1], &id, 1);
    world_run(w);
    assert_int_equal(ops[0].err, 0);
    assert_int_equal(ops[1].err, 0);
    assert_int_equal(w->fate[id], DELETED);
    world_verify(w);
    free(ops);
}

static void a_list_has_one_groups_objects_in_order(void **state)
{
    struct world *w = *state;
    struct hf_store_entry e[4];
    uint32_t count = 0;

    world_open(w);
    for (uint32_t id = 0; id < 40; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    assert_int_equal(del_one(w, 7), 0);
    assert_int_equal(hf_store_list(w->store, 2, NULL, e, 4, &count), 0);
    assert_int_equal(count, 4); /* 2, 12, 17, 22: 7 is deleted */
    assert_int_equal(e[0].oid.seq, 2);
    assert_int_equal(e[1].oid.seq, 12);
    assert_int_equal(e[3].oid.seq, 22);
    assert_int_equal(hf_store_list(w->store, 2, &e[3].oid, e, 4, &count), 0);
    assert_int_equal(count, 3); /* 27, 32, 37 */
    assert_int_equal(e[2].oid.seq, 37);
    assert_int_equal(hf_store_list(w->store, 2, &e[2].oid, e, 4, &count), 0);
    assert_int_equal(count, 0);
}

static void a_second_open_is_refused_with_the_holder(void **state)
{
    struct world *w = *state;
    struct hf_table_model *other = hf_table_model_new();
    struct hf_store *first;
    char *error = NULL;

    assert_non_null(other);
    world_open(w);
    first = w->store;
    assert_int_equal(world_try_open(w, other, &error), -EBUSY);
    w->store = first;
    assert_non_null(strstr(error, "in use"));
    free(error);
    hf_table_model_free(other);
}

static void a_directory_of_another_cluster_or_node_is_refused(void **state)
{
    struct world *w = *state;
    struct hf_store_options options = {
        .dir = DIR_PATH, .cluster = {{9}}, .node = {4}, .pool = w->pool, .segment_bytes = 1 << 20};
    struct hf_table_model *other = hf_table_model_new();
    struct hf_store *store;
    char *error = NULL;

    assert_non_null(other);
    world_open(w);
    world_close(w);
    assert_int_equal(hf_table_base_model(other, &options.index_base), 0);
    assert_int_equal(hf_store_open(w->env, &options, &store, &error), -HF_EWRONGCLUSTER);
    assert_non_null(strstr(error, "belongs to cluster"));
    free(error);
    options.cluster = (struct hf_uuid){{1, 2, 3}};
    options.node.v = 5;
    assert_int_equal(hf_table_base_model(other, &options.index_base), 0);
    assert_int_equal(hf_store_open(w->env, &options, &store, &error), -HF_EWRONGCLUSTER);
    assert_non_null(strstr(error, "belongs to node 4"));
    free(error);
    hf_table_model_free(other);
}

static void segments_without_their_identity_are_refused(void **state)
{
    struct world *w = *state;
    char *error = NULL;

    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    world_close(w);
    assert_int_equal(hf_disk_unlink(hf_env_disk(w->env), DIR_PATH "/identity"), 0);
    assert_int_equal(world_try_open(w, NULL, &error), -HF_EWRONGCLUSTER);
    assert_non_null(strstr(error, "identity is missing"));
    free(error);
}

/* One byte of an object's record: header pages first. */
static void flip_object(struct world *w, uint32_t id, uint64_t off_in_record)
{
    struct hf_oid oid = oid_of(id);
    struct hf_store_row row;
    char path[128];

    assert_int_equal(hf_store_row_get(w->store, &oid, &row), 0);
    (void)snprintf(path, sizeof(path), DIR_PATH "/segments/%010llu.seg",
                   (unsigned long long)row.segment);
    assert_int_equal(hf_sim_disk_flip(w->disk, path, row.off_bytes + off_in_record, 0x10), 0);
}

static void a_flipped_byte_is_found_by_check_and_quarantined_for_good(void **state)
{
    struct world *w = *state;
    struct hf_table_model *fresh = hf_table_model_new();
    struct hf_store_entry e;
    struct hf_oid oid = oid_of(7);

    assert_non_null(fresh);
    world_open(w);
    for (uint32_t id = 0; id < 12; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    flip_object(w, 7, 4096 + 70000);
    assert_int_equal(check_one(w, 7), -HF_ECHECKSUM);
    assert_int_equal(w->bad_objects, 1);
    assert_int_equal(check_one(w, 7), -HF_EQUARANTINED);
    assert_int_equal(get_one(w, 7, 0, 4096), -HF_EQUARANTINED);
    assert_int_equal(check_one(w, 6), 0);
    /* Also after a rebuild of the index. */
    world_close(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    assert_int_equal(hf_store_lookup(w->store, &oid, &e), 0);
    assert_true(e.quarantined);
    /* Repair brings it back, for good. */
    assert_int_equal(repair_one(w, 7), 0);
    world_verify(w);
    world_close(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    world_verify(w);
    world_close(w);
    hf_table_model_free(fresh);
}

static void a_flipped_header_is_found_by_check_and_by_get(void **state)
{
    struct world *w = *state;

    world_open(w);
    for (uint32_t id = 0; id < 12; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_close(w);
    world_open(w); /* no cached checksums */
    flip_object(w, 7, 100);
    flip_object(w, 3, 200);
    assert_int_equal(check_one(w, 7), -HF_ECHECKSUM);
    assert_int_equal(get_one(w, 3, 0, 4096), -EIO);
    assert_int_equal(get_one(w, 3, 0, 4096), -HF_EQUARANTINED);
    assert_int_equal(w->bad_objects, 2);
    w->quarantine_ok = true;
    world_verify(w);
}

static void behind_a_torn_header_the_other_records_are_found(void **state)
{
    struct world *w = *state;
    struct hf_table_model *fresh = hf_table_model_new();
    struct hf_store_entry e;
    struct hf_oid bad = oid_of(3);

    assert_non_null(fresh);
    world_open(w);
    for (uint32_t id = 0; id < 8; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    flip_object(w, 3, 64);
    /* The machine stops: the segment has no table, it is scanned. */
    hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_LOSE_ALL);
    world_crash(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    assert_int_equal(hf_store_lookup(w->store, &bad, &e), -HF_ENOOBJECT);
    w->fate[3] = ABSENT;
    world_verify(w);
    assert_int_equal(w->store->rot_records, 1);
    assert_int_equal(put_one(w, 3), 0);
    world_verify(w);
    world_close(w);
    hf_table_model_free(fresh);
}

static void a_lost_index_is_rebuilt_equal(void **state)
{
    struct world *w = *state;
    struct hf_table_model *fresh = hf_table_model_new();
    uint64_t digest;

    assert_non_null(fresh);
    world_open(w);
    for (uint32_t id = 0; id < 80; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    for (uint32_t id = 0; id < 80; id += 3) {
        assert_int_equal(del_one(w, id), 0);
    }
    hf_store_compact_now(w->store);
    world_run_ns(w, 30 * HF_NS_PER_SEC);
    assert_int_equal(hf_table_rescan(w->store->index), 0);
    digest = hf_table_digest(w->store->index);
    world_close(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    assert_true(hf_table_digest(w->store->index) == digest);
    world_verify(w);
    world_close(w);
    hf_table_model_free(fresh);
}

static void compaction_gives_the_space_of_deleted_objects_back(void **state)
{
    struct world *w = *state;
    struct hf_store_stats before, after;

    world_open(w);
    for (uint32_t id = 0; id < 120; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    for (uint32_t id = 0; id < 120; id++) {
        if (id % 4 != 0) {
            assert_int_equal(del_one(w, id), 0);
        }
    }
    hf_store_stats(w->store, &before);
    hf_store_compact_now(w->store);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &after);
    assert_true(after.recycled_segments >= 3);
    assert_true(after.segments < before.segments);
    world_verify(w);
    world_close(w);
    world_open(w);
    world_verify(w);
}

/* Its file could not be removed: it stayed until the next start. */
static void a_segment_that_could_not_go_goes_later(void **state)
{
    struct world *w = *state;
    struct hf_store_stats failing, after;

    world_open(w);
    for (uint32_t id = 0; id < 120; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    hf_sim_disk_fail_path(w->disk, 0, HF_SIM_FAULT_DEAD, "/segments/0000000002.", NULL);
    for (uint32_t id = 0; id < 120; id++) {
        assert_int_equal(del_one(w, id), 0);
    }
    hf_store_compact_now(w->store);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &failing);
    assert_true(failing.recycled_segments >= 3);
    hf_sim_disk_clear_faults(w->disk);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &after);
    assert_int_equal(after.segments, failing.segments - 1);
    world_close(w);
}

static void note_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static void closing_waits_for_a_compaction_that_holds_buffers(void **state)
{
    struct world *w = *state;
    bool closed = false;

    world_open(w);
    for (uint32_t id = 0; id < 120; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    for (uint32_t id = 0; id < 120; id++) {
        if (id % 4 != 0) {
            assert_int_equal(del_one(w, id), 0);
        }
    }
    hf_store_compact_now(w->store);
    assert_false(hf_store_idle(w->store));
    hf_store_close(w->store, note_closed, &closed);
    w->store = NULL;
    assert_false(closed);
    assert_true(hf_sim_run_until(w->sim, is_true, &closed, 60 * HF_NS_PER_SEC));
    hf_bufpool_free(w->pool); /* asserts that nothing of it is held */
    assert_int_equal(hf_bufpool_new(64 << 10, 0, &w->pool), 0);
    world_open(w);
    world_verify(w);
}

static void segments_full_of_living_objects_are_left_alone(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    /* Five of 180 KiB fit into one segment of 1 MiB, which leaves a tail unused. */
    w->live_percent = 95;
    world_open(w);
    for (uint32_t id = 7; id < 248; id += 8) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.compacted_segments, 0);
}

static uint64_t tombstones_in(const struct world *w)
{
    uint64_t tombstones = 0;

    for (uint32_t i = 0; i < w->store->segment_count; i++) {
        tombstones += w->store->segments[i].tombstones;
    }
    return tombstones;
}

static void tombstones_go_once_what_they_bury_is_gone(void **state)
{
    struct world *w = *state;

    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(del_one(w, id), 0);
    }
    assert_int_equal(tombstones_in(w), 60);
    /* The tombstones' own segment must be closed before it can be compacted. */
    for (uint32_t i = 0; i < 4; i++) {
        hf_seglog_roll(w->store->log);
        for (uint32_t k = 0; k < 6; k++) {
            assert_int_equal(put_one(w, 60 + i * 6 + k), 0);
        }
        hf_store_compact_now(w->store);
        world_run_ns(w, 60 * HF_NS_PER_SEC);
    }
    world_verify(w);
    assert_int_equal(tombstones_in(w), 0);
    world_close(w);
    world_open(w);
    world_verify(w);
}

static void a_bad_copy_is_never_dropped_by_compaction(void **state)
{
    struct world *w = *state;
    struct hf_oid oid = oid_of(5);
    struct hf_store_entry e;

    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    flip_object(w, 5, 4096 + 5000);
    for (uint32_t id = 0; id < 60; id++) {
        if (id % 8 != 5) {
            assert_int_equal(del_one(w, id), 0);
        }
    }
    hf_store_compact_now(w->store);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_int_equal(w->bad_objects, 1);
    assert_int_equal(hf_store_lookup(w->store, &oid, &e), 0);
    assert_true(e.quarantined);
    assert_true(hf_seglog_has_segment(w->store->log, 1));
    assert_int_equal(repair_one(w, 5), 0);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_false(hf_seglog_has_segment(w->store->log, 1));
    world_verify(w);
}

static void a_segment_that_an_older_one_holds_waits_for_it_to_go(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    hf_sim_disk_fail_path(w->disk, 0, HF_SIM_FAULT_SYNC_EIO, "/segments/00", NULL);
    assert_int_equal(put_one(w, 2), -EIO);
    w->fate[2] = ABSENT;
    assert_int_equal(put_one(w, 3), 0); /* in the segment that says where the failed one ends */
    flip_object(w, 1, 4096 + 100);
    assert_int_equal(check_one(w, 1), -HF_ECHECKSUM);
    hf_seglog_roll(w->store->log);
    assert_int_equal(put_one(w, 4), 0);
    assert_int_equal(del_one(w, 3), 0);
    hf_store_compact_now(w->store);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_true(hf_seglog_has_segment(w->store->log, 1));
    assert_true(hf_seglog_has_segment(w->store->log, 2));
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.compacted_segments, 1);
    assert_int_equal(repair_one(w, 1), 0);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_false(hf_seglog_has_segment(w->store->log, 1));
    assert_false(hf_seglog_has_segment(w->store->log, 2));
    world_verify(w);
}

static void below_the_reserve_puts_stop_and_deletes_work(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;
    uint32_t id;

    hf_sim_disk_set_capacity(w->disk, 8 << 20);
    world_open(w);
    for (id = 0; id < 250; id++) {
        int err = put_one(w, id);

        if (err) {
            assert_int_equal(err, -ENOSPC);
            break;
        }
    }
    assert_true(id > 60 && id < 250);
    for (uint32_t k = 0; k < id; k++) {
        assert_int_equal(del_one(w, k), 0);
    }
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_OK);
    assert_int_equal(put_one(w, 251), 0);
    world_verify(w);
}

/* Every segment of it is alive for the most part: to free one, all that lives there is moved. */
static void a_full_store_of_which_a_part_is_deleted_takes_puts_again(void **state)
{
    struct world *w = *state;
    uint32_t id = 0, more = 0;
    int err = 0;

    w->segment_bytes = 1 << 20;
    w->own_reserves = true;
    hf_sim_disk_set_capacity(w->disk, 10 << 20);
    world_open(w);
    while (id < 250 && err == 0) {
        err = put_one(w, id++);
    }
    assert_int_equal(err, -ENOSPC);
    for (uint32_t k = 0; k + 1 < id; k++) {
        if (k % 5 < 2) {
            assert_int_equal(del_one(w, k), 0);
        }
    }
    world_run_ns(w, 120 * HF_NS_PER_SEC);
    while (id < 250 && (err = put_one(w, id++)) == 0) {
        more++;
    }
    assert_true(more > 20);
    world_verify(w);
}

static void a_store_opened_on_a_full_disk_notices_that_there_is_room_again(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    hf_sim_disk_set_capacity(w->disk, 8 << 20);
    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    world_close(w);
    hf_sim_disk_set_capacity(w->disk, 1 << 20);
    world_open(w);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_FULL);
    hf_sim_disk_set_capacity(w->disk, 16 << 20);
    world_run_ns(w, 5 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_OK);
    assert_int_equal(put_one(w, 2), 0);
    world_verify(w);
}

/* Who is told that there is little left writes nothing: no put wakes the store. */
static void an_idle_store_notices_what_others_do_on_its_disk(void **state)
{
    struct world *w = *state;
    struct hf_store_stats little, much;

    hf_sim_disk_set_capacity(w->disk, 8 << 20);
    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &little);
    assert_int_equal(little.state, HF_STORE_OK);
    hf_sim_disk_set_capacity(w->disk, 64 << 20);
    world_run_ns(w, 10 * HF_NS_PER_SEC);
    hf_store_stats(w->store, &much);
    assert_true(much.free_bytes > little.free_bytes + (32 << 20));
    world_verify(w);
}

static void deletes_work_where_no_whole_segment_fits(void **state)
{
    struct world *w = *state;

    w->segment_bytes = 8 << 20;
    world_open(w);
    for (uint32_t id = 0; id < 80; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_close(w);
    hf_sim_disk_set_capacity(w->disk, (8 << 20) + (400 << 10));
    world_open(w);
    assert_int_equal(put_one(w, 90), -ENOSPC);
    w->fate[90] = ABSENT;
    for (uint32_t id = 0; id < 80; id++) {
        assert_int_equal(del_one(w, id), 0);
    }
    hf_store_compact_now(w->store);
    world_run_ns(w, 30 * HF_NS_PER_SEC);
    assert_int_equal(put_one(w, 91), 0);
    world_verify(w);
    world_close(w);
    world_open(w);
    world_verify(w);
}

/* Segment @number cannot be made. */
static void over_quota(struct world *w, uint32_t number)
{
    char part[32];

    (void)snprintf(part, sizeof(part), "%010u.tmp", (unsigned)number);
    hf_sim_disk_fail_path(w->disk, 0, HF_SIM_FAULT_QUOTA, part, NULL);
}

static void a_store_over_its_quota_is_full_and_not_broken(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    hf_seglog_roll(w->store->log);
    for (uint32_t number = 2; number < 10; number += 2) { /* more often than a disk may fail */
        over_quota(w, number);
        over_quota(w, number + 1); /* a small one */
        assert_int_equal(put_one(w, 2), -ENOSPC);
    }
    assert_int_equal(hf_sim_disk_struck(w->disk), 8);
    hf_store_stats(w->store, &stats);
    assert_int_not_equal(stats.state, HF_STORE_READ_ONLY);
    assert_int_equal(put_one(w, 3), 0);
    world_close(w);
    over_quota(w, 11);
    world_open(w);
    assert_int_equal(hf_sim_disk_struck(w->disk), 9);
    assert_int_equal(put_one(w, 2), 0);
    world_verify(w);
}

static void after_three_failed_syncs_the_store_is_read_only(void **state)
{
    struct world *w = *state;
    struct hf_store_stats stats;

    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    for (uint32_t i = 0; i < 3; i++) {
        hf_sim_disk_fail_path(w->disk, 0, HF_SIM_FAULT_SYNC_EIO, "/segments/00", NULL);
        assert_int_equal(put_one(w, 2 + i), -EIO);
    }
    hf_store_stats(w->store, &stats);
    assert_int_equal(stats.state, HF_STORE_READ_ONLY);
    assert_int_equal(put_one(w, 9), -EIO);
    assert_int_equal(get_one(w, 1, 0, 4096), 0);
    world_close(w);
    world_open(w);
    assert_int_equal(put_one(w, 9), 0);
    world_verify(w);
}

static void a_put_after_a_failed_sync_goes_to_a_new_segment(void **state)
{
    struct world *w = *state;

    world_open(w);
    assert_int_equal(put_one(w, 1), 0);
    hf_sim_disk_fail_path(w->disk, 0, HF_SIM_FAULT_SYNC_EIO, "/segments/00", NULL);
    assert_int_equal(put_one(w, 2), -EIO);
    assert_int_equal(put_one(w, 3), 0);
    assert_int_equal(get_one(w, 2, 0, 4096), -HF_ENOOBJECT);
    w->fate[2] = ABSENT; /* a later segment vouches for that: it never comes back */
    world_verify(w);
    hf_sim_disk_power_cut(w->disk, HF_SIM_CUT_KEEP_ALL);
    world_crash(w);
    world_open(w);
    world_verify(w);
}

static void a_missing_segment_quarantines_its_objects(void **state)
{
    struct world *w = *state;
    struct hf_store_entry e;
    struct hf_oid oid = oid_of(3);

    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_run_ns(w, 30 * HF_NS_PER_SEC); /* the index reaches its base */
    world_close(w);
    assert_int_equal(hf_disk_unlink(hf_env_disk(w->env), DIR_PATH "/segments/0000000001.seg"), 0);
    world_open(w);
    assert_int_equal(hf_store_lookup(w->store, &oid, &e), 0);
    assert_true(e.quarantined);
    assert_int_equal(get_one(w, 3, 0, 4096), -HF_EQUARANTINED);
    w->quarantine_ok = true;
    world_verify(w);
}

static const char *first_segment = DIR_PATH "/segments/0000000001.seg";

/* 60 objects that the index knows; rot in both copies of the header that the first ones have. */
static void rot_first_segment(struct world *w)
{
    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_run_ns(w, 30 * HF_NS_PER_SEC);
    world_close(w);
    assert_int_equal(hf_sim_disk_flip(w->disk, first_segment, 30, 0x10), 0);
    assert_int_equal(hf_sim_disk_flip(w->disk, first_segment, 4096 + 30, 0x10), 0);
}

static void a_rotten_segment_quarantines_its_objects_and_goes_with_the_last_of_them(void **state)
{
    struct world *w = *state;
    uint32_t repaired = 0;

    rot_first_segment(w);
    world_open(w);
    assert_int_equal(get_one(w, 3, 0, 4096), -HF_EQUARANTINED);
    for (uint32_t id = 0; id < 60; id++) {
        struct hf_oid oid = oid_of(id);
        struct hf_store_entry e;

        assert_int_equal(hf_store_lookup(w->store, &oid, &e), 0);
        if (e.quarantined && id % 8 != 5) {
            assert_int_equal(put_one(w, id), 0);
            repaired++;
        }
    }
    assert_true(repaired > 5 && repaired < 30);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_true(hf_seglog_has_segment(w->store->log, 1)); /* 5 lies there */
    assert_int_equal(del_one(w, 5), 0);
    for (uint32_t id = 13; id < 60; id += 8) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_false(hf_seglog_has_segment(w->store->log, 1));
    world_verify(w);
    world_close(w);
    world_open(w);
    world_verify(w);
}

static void a_rotten_segment_of_which_nothing_is_known_stays(void **state)
{
    struct world *w = *state;
    struct hf_table_model *fresh = hf_table_model_new();

    assert_non_null(fresh);
    rot_first_segment(w);
    assert_int_equal(world_try_open(w, fresh, NULL), 0);
    assert_int_equal(get_one(w, 3, 0, 4096), -HF_ENOOBJECT);
    world_run_ns(w, 60 * HF_NS_PER_SEC);
    assert_true(hf_seglog_has_segment(w->store->log, 1));
    world_close(w);
    hf_table_model_free(fresh);
}

static int drop_file(void *ctx, const char *name)
{
    struct world *w = ctx;
    char path[256];

    (void)snprintf(path, sizeof(path), DIR_PATH "/segments/%s", name);
    return hf_disk_unlink(hf_env_disk(w->env), path);
}

/* The segments that are made then must not pass for those that the index knows. */
static void with_all_segments_gone_every_object_is_quarantined(void **state)
{
    struct world *w = *state;

    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(put_one(w, id), 0);
    }
    world_run_ns(w, 30 * HF_NS_PER_SEC); /* the index reaches its base */
    world_close(w);
    assert_int_equal(hf_disk_list(hf_env_disk(w->env), DIR_PATH "/segments", drop_file, w), 0);
    world_open(w);
    for (uint32_t id = 0; id < 60; id++) {
        assert_int_equal(get_one(w, id, 0, 4096), -HF_EQUARANTINED);
    }
    w->quarantine_ok = true;
    assert_int_equal(put_one(w, 60), 0);
    world_verify(w);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_object_is_read_back_with_its_checksums, setup_large,
                                        teardown),
        T(objects_survive_a_clean_reopen),
        T(puts_that_arrive_together_share_one_sync),
        T(an_equal_put_succeeds_and_a_different_one_conflicts),
        T(a_deleted_object_is_gone_and_its_id_is_refused),
        T(a_delete_waits_for_a_put_in_flight),
        T(a_list_has_one_groups_objects_in_order),
        T(a_second_open_is_refused_with_the_holder),
        T(a_directory_of_another_cluster_or_node_is_refused),
        T(segments_without_their_identity_are_refused),
        T(a_flipped_byte_is_found_by_check_and_quarantined_for_good),
        T(a_flipped_header_is_found_by_check_and_by_get),
        T(behind_a_torn_header_the_other_records_are_found),
        T(a_lost_index_is_rebuilt_equal),
        T(compaction_gives_the_space_of_deleted_objects_back),
        T(a_segment_that_could_not_go_goes_later),
        T(closing_waits_for_a_compaction_that_holds_buffers),
        T(segments_full_of_living_objects_are_left_alone),
        T(tombstones_go_once_what_they_bury_is_gone),
        T(a_bad_copy_is_never_dropped_by_compaction),
        T(a_segment_that_an_older_one_holds_waits_for_it_to_go),
        T(below_the_reserve_puts_stop_and_deletes_work),
        T(a_full_store_of_which_a_part_is_deleted_takes_puts_again),
        T(a_store_opened_on_a_full_disk_notices_that_there_is_room_again),
        T(an_idle_store_notices_what_others_do_on_its_disk),
        T(deletes_work_where_no_whole_segment_fits),
        T(a_store_over_its_quota_is_full_and_not_broken),
        T(after_three_failed_syncs_the_store_is_read_only),
        T(a_put_after_a_failed_sync_goes_to_a_new_segment),
        T(a_missing_segment_quarantines_its_objects),
        T(a_rotten_segment_quarantines_its_objects_and_goes_with_the_last_of_them),
        T(a_rotten_segment_of_which_nothing_is_known_stays),
        T(with_all_segments_gone_every_object_is_quarantined),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
