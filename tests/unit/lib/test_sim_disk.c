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

#include "common/base/limits.h"
#include "tests/lib/sim_disk.h"

#define SEEDS 200u

static struct hf_sim_disk *disk_with_dir(uint64_t seed)
{
    struct hf_sim_disk *disk = hf_sim_disk_new(seed);

    assert_int_equal(hf_disk_mkdir(hf_sim_disk_base(disk), "/d"), 0);
    return disk;
}

static struct hf_file *open_at(struct hf_sim_disk *disk, const char *path, unsigned flags)
{
    struct hf_file *file = NULL;

    assert_int_equal(hf_disk_open(hf_sim_disk_base(disk), path, flags, &file), 0);
    return file;
}

static ssize_t write_at(struct hf_file *file, const void *bytes, size_t len, uint64_t off)
{
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

    return hf_file_pwritev(file, &iov, 1, off);
}

static ssize_t read_at(struct hf_file *file, void *ret, size_t len, uint64_t off)
{
    const struct iovec iov = {.iov_base = ret, .iov_len = len};

    return hf_file_preadv(file, &iov, 1, off);
}

static uint64_t size_of(struct hf_file *file)
{
    uint64_t size = UINT64_MAX;

    assert_int_equal(hf_file_size(file, &size), 0);
    return size;
}

/* "/d/f" with @len bytes of @fill, its name and bytes durable; still open. */
static struct hf_file *durable_file(struct hf_sim_disk *disk, int fill, size_t len)
{
    struct hf_file *file = open_at(disk, "/d/f", HF_FILE_CREATE);
    char *bytes = malloc(len + 1);

    assert_non_null(bytes);
    memset(bytes, fill, len);
    assert_int_equal(write_at(file, bytes, len, 0), len);
    assert_int_equal(hf_file_sync(file), 0);
    assert_int_equal(hf_disk_sync_dir(hf_sim_disk_base(disk), "/d"), 0);
    free(bytes);
    return file;
}

static void cut_and_restart(struct hf_sim_disk *disk, enum hf_sim_cut mode)
{
    hf_sim_disk_power_cut(disk, mode);
    hf_sim_disk_restart(disk);
}

static bool exists(struct hf_sim_disk *disk, const char *path)
{
    struct hf_file *file;

    if (hf_disk_open(hf_sim_disk_base(disk), path, HF_FILE_READ_ONLY, &file) != 0) {
        return false;
    }
    hf_file_close(file);
    return true;
}

static void files_behave_like_files(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct hf_file *file, *other;
    char buf[16];

    (void)state;
    assert_int_equal(hf_disk_open(base, "/d/f", 0, &file), -ENOENT);
    assert_int_equal(hf_disk_open(base, "/none/f", HF_FILE_CREATE, &file), -ENOENT);
    assert_int_equal(hf_disk_open(base, "d/f", HF_FILE_CREATE, &file), -EINVAL);
    assert_int_equal(hf_disk_open(base, "/d", 0, &file), -EISDIR);
    file = open_at(disk, "/d/f", HF_FILE_CREATE);
    assert_int_equal(hf_disk_open(base, "/d/f", HF_FILE_CREATE | HF_FILE_EXCL, &other), -EEXIST);
    assert_int_equal(hf_disk_open(base, "/d/f/x", HF_FILE_CREATE, &other), -ENOTDIR);
    assert_int_equal(write_at(file, "abc", 3, 5000), 3);
    assert_int_equal(size_of(file), 5003);
    assert_int_equal(read_at(file, buf, 8, 4998), 5);
    assert_memory_equal(buf, "\0\0abc", 5);
    assert_int_equal(hf_file_truncate(file, 5001), 0);
    assert_int_equal(hf_file_allocate(file, 5010), 0);
    assert_int_equal(read_at(file, buf, 16, 5000), 10);
    assert_memory_equal(buf, "a\0\0\0\0\0\0\0\0\0", 10);
    assert_int_equal(read_at(file, buf, 16, 6000), 0);
    other = open_at(disk, "/d/f", HF_FILE_READ_ONLY);
    assert_int_equal(write_at(other, "x", 1, 0), -EBADF);
    assert_int_equal(hf_disk_rename(base, "/d/f", "/d/g"), 0);
    assert_false(exists(disk, "/d/f"));
    assert_int_equal(hf_disk_unlink(base, "/d/g"), 0);
    assert_int_equal(hf_disk_unlink(base, "/d/g"), -ENOENT);
    assert_int_equal(hf_disk_unlink(base, "/d"), -EISDIR);
    assert_int_equal(read_at(other, buf, 1, 5000), 1); /* still open */
    hf_file_close(file);
    hf_file_close(other);
    hf_sim_disk_free(disk);
    hf_sim_disk_free(NULL);
}

struct names {
    char all[64];
};

static int add_name(void *ctx, const char *name)
{
    struct names *names = ctx;

    (void)strcat(names->all, name);
    return strcmp(name, "stop") == 0 ? -ECANCELED : 0;
}

static void lists_have_every_name_once_and_end_when_told(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct names names = {0};

    (void)state;
    for (char path[] = "/d/a"; path[3] <= 'e'; path[3]++) {
        hf_file_close(open_at(disk, path, HF_FILE_CREATE));
    }
    assert_int_equal(hf_disk_list(base, "/d", add_name, &names), 0);
    assert_int_equal(strlen(names.all), 5);
    for (char c = 'a'; c <= 'e'; c++) {
        assert_non_null(strchr(names.all, c));
    }
    assert_int_equal(hf_disk_mkdir(base, "/e/stop/deeper"), 0);
    assert_int_equal(hf_disk_list(base, "/e/", add_name, &names), -ECANCELED);
    assert_int_equal(hf_disk_list(base, "/none", add_name, &names), -ENOENT);
    hf_sim_disk_free(disk);
}

static void synced_bytes_under_a_synced_name_survive_every_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        char buf[3000];

        (void)durable_file(disk, 'x', sizeof(buf));
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        hf_file_close(open_at(disk, "/d/other", HF_FILE_CREATE));
        cut_and_restart(disk, (enum hf_sim_cut)(seed % 3));
        struct hf_file *file = open_at(disk, "/d/f", 0);
        assert_int_equal(read_at(file, buf, sizeof(buf), 0), sizeof(buf));
        for (size_t i = 0; i < sizeof(buf); i++) {
            assert_int_equal(buf[i], 'x');
        }
        hf_sim_disk_free(disk);
    }
}

static void unsynced_bytes_are_lost_or_kept_by_mode(void **state)
{
    static const struct {
        enum hf_sim_cut mode;
        char want;
    } modes[] = {{HF_SIM_CUT_LOSE_ALL, 'x'}, {HF_SIM_CUT_KEEP_ALL, 'y'}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct hf_sim_disk *disk = disk_with_dir(1);
        struct hf_file *file = durable_file(disk, 'x', 10);
        char c;

        assert_int_equal(write_at(file, "y", 1, 3), 1);
        assert_int_equal(hf_file_truncate(file, 5), 0);
        cut_and_restart(disk, modes[i].mode);
        file = open_at(disk, "/d/f", 0);
        assert_int_equal(read_at(file, &c, 1, 3), 1);
        assert_int_equal(c, modes[i].want);
        assert_int_equal(size_of(file), modes[i].want == 'x' ? 10 : 5);
        hf_sim_disk_free(disk);
    }
}

/* Over many seeds each outcome must be seen, and none that a disk cannot produce. */
static void a_cut_tears_writes_at_sectors_and_nowhere_else(void **state)
{
    enum { SECTORS = 8 };
    unsigned all = 0, none = 0, torn = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        char buf[SECTORS * HF_SIM_SECTOR_BYTES];
        struct hf_file *file = durable_file(disk, 'x', sizeof(buf));
        unsigned kept = 0;

        memset(buf, 'y', sizeof(buf));
        assert_int_equal(write_at(file, buf, sizeof(buf), 0), sizeof(buf));
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        file = open_at(disk, "/d/f", 0);
        assert_int_equal(size_of(file), sizeof(buf));
        assert_int_equal(read_at(file, buf, sizeof(buf), 0), sizeof(buf));
        for (size_t i = 0; i < sizeof(buf); i++) {
            assert_int_equal(buf[i], buf[i - i % HF_SIM_SECTOR_BYTES]);
            kept += i % HF_SIM_SECTOR_BYTES == 0 && buf[i] == 'y';
        }
        all += kept == SECTORS;
        none += kept == 0;
        torn += kept > 0 && kept < SECTORS;
        hf_sim_disk_free(disk);
    }
    assert_true(all > 0 && none > 0 && torn > 0);
}

static void a_sector_never_shows_a_later_write_without_the_earlier_one(void **state)
{
    unsigned first_only = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_file *file = durable_file(disk, 'x', 100);
        char buf[100];

        assert_int_equal(write_at(file, "a", 1, 10), 1);
        assert_int_equal(write_at(file, "b", 1, 20), 1);
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        file = open_at(disk, "/d/f", 0);
        assert_int_equal(read_at(file, buf, sizeof(buf), 0), sizeof(buf));
        assert_true(buf[20] == 'x' || buf[10] == 'a');
        first_only += buf[10] == 'a' && buf[20] == 'x';
        hf_sim_disk_free(disk);
    }
    assert_true(first_only > 0);
}

static void lost_bytes_below_kept_ones_read_as_zeros(void **state)
{
    unsigned holes = 0, shorter = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_file *file = durable_file(disk, 'x', 0);
        char buf[2048];
        uint64_t size;

        memset(buf, 'y', sizeof(buf));
        assert_int_equal(write_at(file, buf, sizeof(buf), 0), sizeof(buf));
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        file = open_at(disk, "/d/f", 0);
        size = size_of(file);
        assert_true(size <= sizeof(buf) && size % HF_SIM_SECTOR_BYTES == 0);
        assert_int_equal(read_at(file, buf, sizeof(buf), 0), size);
        for (size_t i = 0; i < size; i++) {
            assert_true(buf[i] == 'y' || buf[i] == 0);
            holes += buf[i] == 0;
        }
        shorter += size < sizeof(buf);
        hf_sim_disk_free(disk);
    }
    assert_true(holes > 0 && shorter > 0);
}

static void a_name_needs_its_directory_synced(void **state)
{
    unsigned there = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_file *file = open_at(disk, "/d/f", HF_FILE_CREATE);

        assert_int_equal(write_at(file, "abc", 3, 0), 3);
        assert_int_equal(hf_file_sync(file), 0);
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        if (exists(disk, "/d/f")) {
            there++;
            assert_int_equal(size_of(open_at(disk, "/d/f", 0)), 3); /* its bytes were synced */
        }
        hf_sim_disk_free(disk);
    }
    assert_true(there > 0 && there < SEEDS);
}

static void a_replaced_file_is_old_or_new_whatever_is_lost(void **state)
{
    unsigned old = 0, new = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_disk *base = hf_sim_disk_base(disk);
        char *text;
        int err;

        assert_int_equal(hf_disk_replace(base, "/d/f", "old", 3), 0);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + seed % 7, HF_SIM_FAULT_POWER_CUT);
        err = hf_disk_replace(base, "/d/f", "newer", 5);
        hf_sim_disk_power_cut(disk, HF_SIM_CUT_RANDOM);
        hf_sim_disk_restart(disk);
        assert_int_equal(hf_disk_slurp(base, "/d/f", 100, &text, NULL), 0);
        old += strcmp(text, "old") == 0;
        new += strcmp(text, "newer") == 0;
        assert_int_equal(old + new, seed + 1);
        assert_true(err == 0 ? strcmp(text, "newer") == 0 : err == -EIO);
        free(text);
        hf_sim_disk_free(disk);
    }
    assert_true(old > 0 && new > 0);
}

static void an_unsynced_unlink_may_come_back_and_a_synced_one_not(void **state)
{
    unsigned back = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_disk *base = hf_sim_disk_base(disk);

        hf_file_close(durable_file(disk, 'x', 7));
        assert_int_equal(hf_disk_unlink(base, "/d/f"), 0);
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        if (exists(disk, "/d/f")) {
            back++;
            assert_int_equal(size_of(open_at(disk, "/d/f", 0)), 7);
            assert_int_equal(hf_disk_unlink(base, "/d/f"), 0);
        }
        assert_int_equal(hf_disk_sync_dir(base, "/d"), 0);
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        assert_false(exists(disk, "/d/f"));
        hf_sim_disk_free(disk);
    }
    assert_true(back > 0 && back < SEEDS);
}

static void a_rename_between_directories_stays_whole(void **state)
{
    unsigned moved = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_disk *base = hf_sim_disk_base(disk);
        bool there;

        assert_int_equal(hf_disk_mkdir(base, "/e"), 0);
        hf_file_close(open_at(disk, "/d/f", HF_FILE_CREATE));
        if (seed % 2) {
            assert_int_equal(hf_disk_sync_dir(base, "/d"), 0);
        }
        assert_int_equal(hf_disk_rename(base, "/d/f", "/e/g"), 0);
        if (seed % 4 == 0) { /* either directory makes the whole rename durable */
            assert_int_equal(hf_disk_sync_dir(base, "/e"), 0);
        }
        cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        there = exists(disk, "/e/g");
        assert_true(there || seed % 4 != 0);
        assert_false(there && exists(disk, "/d/f"));
        assert_true(there || exists(disk, "/d/f") || seed % 2 == 0);
        moved += there && seed % 4 != 0;
        hf_sim_disk_free(disk);
    }
    assert_true(moved > 0);
}

static void a_failed_sync_is_not_mended_by_a_later_one(void **state)
{
    unsigned lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_file *file = durable_file(disk, 'x', 10);
        char before, after;

        assert_int_equal(write_at(file, "y", 1, 0), 1);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk), HF_SIM_FAULT_SYNC_EIO);
        assert_int_equal(hf_file_sync(file), -EIO);
        assert_int_equal(hf_file_sync(file), 0); /* the lie that Linux tells */
        assert_int_equal(read_at(file, &before, 1, 0), 1);
        assert_int_equal(before, 'y');
        if (seed % 2) {
            cut_and_restart(disk, HF_SIM_CUT_KEEP_ALL);
        } else {
            hf_sim_disk_drop_caches(disk);
        }
        assert_int_equal(read_at(open_at(disk, "/d/f", 0), &after, 1, 0), 1);
        lost += after == 'x';
        hf_sim_disk_free(disk);
    }
    assert_true(lost > 0 && lost < SEEDS);
}

static void a_directory_whose_sync_failed_stays_suspect_until_restart(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);

    (void)state;
    hf_sim_disk_fail_path(disk, 0, HF_SIM_FAULT_SYNC_EIO, "/d", NULL);
    assert_int_equal(hf_disk_sync_dir(base, "/"), 0);
    assert_int_equal(hf_disk_sync_dir(base, "/d"), -EIO);
    assert_int_equal(hf_disk_sync_dir(base, "/d"), -EIO);
    cut_and_restart(disk, HF_SIM_CUT_LOSE_ALL);
    assert_int_equal(hf_disk_sync_dir(base, "/d"), 0);
    hf_sim_disk_free(disk);
}

static void faults_strike_the_first_call_they_concern_once(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct hf_file *file = durable_file(disk, 'x', 100);
    struct hf_file *other = open_at(disk, "/d/other", HF_FILE_CREATE);
    char buf[100];
    uint64_t calls = hf_sim_disk_calls(disk);
    ssize_t n;

    (void)state;
    hf_sim_disk_fail_at(disk, calls, HF_SIM_FAULT_WRITE_EIO);
    hf_sim_disk_fail_at(disk, calls + 2, HF_SIM_FAULT_READ_EIO);
    assert_int_equal(read_at(file, buf, 1, 0), 1);
    assert_int_equal(write_at(file, "y", 1, 0), -EIO);
    assert_int_equal(read_at(file, buf, 1, 0), -EIO);
    assert_int_equal(read_at(file, buf, 1, 0), 1);
    assert_int_equal(buf[0], 'x'); /* the failed write left nothing */
    assert_int_equal(hf_sim_disk_calls(disk), calls + 4);
    assert_int_equal(hf_sim_disk_struck(disk), 2);

    hf_sim_disk_fail_path(disk, 0, HF_SIM_FAULT_NOSPC, "other", NULL);
    assert_int_equal(write_at(file, "x", 1, 0), 1);
    assert_int_equal(write_at(other, "x", 1, 0), -ENOSPC);
    assert_int_equal(write_at(other, "x", 1, 0), 1);

    hf_sim_disk_fail_at(disk, 0, HF_SIM_FAULT_SHORT);
    assert_int_equal(read_at(file, buf, 1, 0), 1); /* cannot be shorter */
    n = read_at(file, buf, 100, 0);
    assert_true(n >= 1 && n < 100);
    hf_sim_disk_fail_at(disk, 0, HF_SIM_FAULT_SHORT);
    n = write_at(file, buf, 100, 0);
    assert_true(n >= 1 && n < 100);

    hf_sim_disk_fail_at(disk, 0, HF_SIM_FAULT_READ_EIO);
    hf_sim_disk_clear_faults(disk);
    assert_int_equal(read_at(file, buf, 1, 0), 1);
    hf_file_close(file);
    hf_file_close(other);
    assert_int_equal(hf_disk_mkdir(base, "/x"), 0);
    hf_sim_disk_free(disk);
}

static void a_power_cut_ends_everything_until_restart(void **state)
{
    unsigned kept = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_disk *base = hf_sim_disk_base(disk);
        struct hf_file *file = durable_file(disk, 'x', 10);
        struct hf_disk_space space;
        char c;
        uint64_t size;

        hf_sim_disk_set_cut(disk, HF_SIM_CUT_KEEP_ALL);
        hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk), HF_SIM_FAULT_POWER_CUT);
        assert_int_equal(write_at(file, "y", 1, 0), -EIO);
        assert_true(hf_sim_disk_is_off(disk));
        assert_int_equal(read_at(file, &c, 1, 0), -EIO);
        assert_int_equal(hf_file_sync(file), -EIO);
        assert_int_equal(hf_file_size(file, &size), -EIO);
        assert_int_equal(hf_disk_space(base, "/d", &space), -EIO);
        assert_int_equal(hf_disk_mkdir(base, "/z"), -EIO);
        hf_sim_disk_restart(disk);
        assert_int_equal(read_at(file, &c, 1, 0), -EIO); /* a handle from before */
        hf_file_close(file);
        assert_int_equal(read_at(open_at(disk, "/d/f", 0), &c, 1, 0), 1);
        kept += c == 'y';
        hf_sim_disk_free(disk);
    }
    assert_true(kept > 0 && kept < SEEDS);
}

static void a_crash_leaves_unsynced_bytes_as_they_were(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct hf_sim_disk *disk = disk_with_dir(seed);
        struct hf_file *file = durable_file(disk, 'x', 10);
        char c;

        assert_int_equal(write_at(file, "y", 1, 0), 1);
        hf_sim_disk_fail_at(disk, 0, HF_SIM_FAULT_CRASH);
        assert_int_equal(hf_file_sync(file), -EIO);
        assert_true(hf_sim_disk_is_off(disk));
        hf_sim_disk_restart(disk);
        file = open_at(disk, "/d/f", 0);
        assert_int_equal(read_at(file, &c, 1, 0), 1);
        assert_int_equal(c, 'y');
        assert_int_equal(hf_file_sync(file), 0);
        cut_and_restart(disk, HF_SIM_CUT_LOSE_ALL);
        assert_int_equal(read_at(open_at(disk, "/d/f", 0), &c, 1, 0), 1);
        assert_int_equal(c, 'y');
        hf_sim_disk_free(disk);
    }
}

static void direct_files_refuse_what_is_not_aligned(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_file *file = open_at(disk, "/d/f", HF_FILE_CREATE | HF_FILE_DIRECT);
    char *block = aligned_alloc(HF_BLOCK_BYTES, 4 * HF_BLOCK_BYTES);
    ssize_t n;

    (void)state;
    assert_non_null(block);
    memset(block, 'b', 4 * HF_BLOCK_BYTES);
    assert_int_equal(write_at(file, block, HF_BLOCK_BYTES, 512), -EINVAL);
    assert_int_equal(write_at(file, block, 512, 0), -EINVAL);
    assert_int_equal(write_at(file, block + 512, HF_BLOCK_BYTES, 0), -EINVAL);
    assert_int_equal(write_at(file, block, 2 * HF_BLOCK_BYTES, 0), 2 * HF_BLOCK_BYTES);
    assert_int_equal(read_at(file, block, HF_BLOCK_BYTES + 1, 0), -EINVAL);
    assert_int_equal(read_at(file, block, 4 * HF_BLOCK_BYTES, HF_BLOCK_BYTES), HF_BLOCK_BYTES);
    hf_sim_disk_fail_at(disk, 0, HF_SIM_FAULT_SHORT);
    n = write_at(file, block, 4 * HF_BLOCK_BYTES, 0);
    assert_true(n > 0 && n < 4 * HF_BLOCK_BYTES && n % HF_BLOCK_BYTES == 0);
    free(block);
    hf_sim_disk_free(disk);
}

static void a_full_disk_says_so_and_deleting_helps(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct hf_file *file;
    struct hf_disk_space space;
    char block[3 * HF_SIM_PAGE_BYTES] = {0};

    (void)state;
    hf_sim_disk_set_capacity(disk, 4 * HF_SIM_PAGE_BYTES);
    file = durable_file(disk, 'x', 2 * HF_SIM_PAGE_BYTES);
    assert_int_equal(hf_disk_space(base, "/d", &space), 0);
    assert_int_equal(space.total_bytes, 4 * HF_SIM_PAGE_BYTES);
    assert_int_equal(space.free_bytes, 2 * HF_SIM_PAGE_BYTES);
    assert_int_equal(write_at(file, block, sizeof(block), 2 * HF_SIM_PAGE_BYTES),
                     2 * HF_SIM_PAGE_BYTES);
    assert_int_equal(write_at(file, block, 1, 4 * HF_SIM_PAGE_BYTES), -ENOSPC);
    assert_int_equal(write_at(file, block, sizeof(block), 0), sizeof(block)); /* over old bytes */
    assert_int_equal(hf_file_allocate(file, 5 * HF_SIM_PAGE_BYTES), -ENOSPC);
    assert_int_equal(hf_file_truncate(file, 1), 0);
    assert_int_equal(hf_file_allocate(file, 4 * HF_SIM_PAGE_BYTES), 0);
    assert_int_equal(hf_disk_space(base, "/d", &space), 0);
    assert_int_equal(space.free_bytes, 0);
    assert_int_equal(hf_disk_unlink(base, "/d/f"), 0);
    assert_int_equal(hf_disk_space(base, "/d", &space), 0);
    assert_int_equal(space.free_bytes, 0); /* still open */
    hf_file_close(file);
    assert_int_equal(hf_disk_space(base, "/d", &space), 0);
    assert_int_equal(space.free_bytes, 4 * HF_SIM_PAGE_BYTES);
    hf_sim_disk_free(disk);
}

static void a_lock_is_busy_until_its_process_dies(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct hf_file *lock, *again;
    int pid = 0;

    (void)state;
    assert_int_equal(hf_disk_lock(base, "/d/lock", &lock, &pid), 0);
    assert_int_equal(hf_disk_lock(base, "/d/lock", &again, &pid), -EBUSY);
    assert_true(pid > 0);
    hf_file_close(lock);
    assert_int_equal(hf_disk_lock(base, "/d/lock", &lock, &pid), 0);
    hf_sim_disk_drop_handles(disk);
    assert_int_equal(hf_disk_lock(base, "/d/lock", &again, NULL), 0);
    hf_file_close(lock);
    assert_int_equal(hf_disk_lock(base, "/d/lock", &lock, NULL), -EBUSY);
    hf_sim_disk_free(disk);
}

static void rot_shows_in_what_is_read_and_stays(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_file *file = durable_file(disk, 'x', 100);
    char c;

    (void)state;
    assert_int_equal(hf_sim_disk_flip(disk, "/d/none", 0, 1), -ENOENT);
    assert_int_equal(hf_sim_disk_flip(disk, "/d/f", 100, 1), -EINVAL);
    assert_int_equal(hf_sim_disk_flip(disk, "/d/f", 50, 0x80), 0);
    assert_int_equal(read_at(file, &c, 1, 50), 1);
    assert_int_equal((unsigned char)c, 'x' ^ 0x80);
    cut_and_restart(disk, HF_SIM_CUT_RANDOM);
    assert_int_equal(read_at(open_at(disk, "/d/f", 0), &c, 1, 50), 1);
    assert_int_equal((unsigned char)c, 'x' ^ 0x80);
    hf_sim_disk_free(disk);
}

static void reading_without_waiting_sometimes_has_to_wait(void **state)
{
    struct hf_sim_disk *disk = disk_with_dir(1);
    struct hf_file *file = durable_file(disk, 'x', 100);
    char buf[100];
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    unsigned waits = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        ssize_t n = hf_file_preadv_nowait(file, &iov, 1, 0);

        assert_true(n == 100 || n == -EAGAIN);
        waits += n == -EAGAIN;
    }
    assert_true(waits > 0 && waits < 100);
    hf_sim_disk_free(disk);
}

/* A run of many operations, told by a checksum of everything that came back. */
static uint64_t busy_run(uint64_t seed)
{
    struct hf_sim_disk *disk = disk_with_dir(seed);
    struct hf_disk *base = hf_sim_disk_base(disk);
    struct hf_sim_rng rng = {.state = 7};
    uint64_t sum = 0;

    for (int i = 0; i < 400; i++) {
        char path[] = "/d/a";
        struct hf_file *file;
        char buf[1500];
        uint64_t off = hf_sim_rng_below(&rng, 20000);

        path[3] = (char)('a' + hf_sim_rng_below(&rng, 5));
        if (hf_disk_open(base, path, HF_FILE_CREATE, &file) != 0) {
            hf_sim_disk_restart(disk);
            continue;
        }
        memset(buf, 'a' + i % 26, sizeof(buf));
        sum = sum * 31 + (uint64_t)write_at(file, buf, sizeof(buf), off);
        sum = sum * 31 + (uint64_t)read_at(file, buf, sizeof(buf), off / 2);
        for (size_t j = 0; j < sizeof(buf); j++) {
            sum = sum * 31 + (unsigned char)buf[j];
        }
        if (i % 5 == 0) {
            sum += (uint64_t)hf_file_sync(file);
        }
        if (i % 11 == 0) {
            sum += (uint64_t)hf_file_truncate(file, off);
        }
        if (i % 7 == 0) {
            sum += (uint64_t)hf_disk_sync_dir(base, "/d");
        }
        if (i % 13 == 0) {
            sum += (uint64_t)hf_disk_rename(base, path, "/d/r");
        }
        if (i % 31 == 0) {
            hf_sim_disk_fail_at(disk, hf_sim_disk_calls(disk) + 3,
                                (enum hf_sim_fault)(i % HF_SIM_FAULT_COUNT));
        }
        if (i % 37 == 0) {
            cut_and_restart(disk, HF_SIM_CUT_RANDOM);
        }
        hf_file_close(file);
    }
    hf_sim_disk_free(disk);
    return sum;
}

static void the_same_seed_gives_the_same_disk(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        assert_true(busy_run(seed) == busy_run(seed));
    }
    assert_true(busy_run(1) != busy_run(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_behave_like_files),
        cmocka_unit_test(lists_have_every_name_once_and_end_when_told),
        cmocka_unit_test(synced_bytes_under_a_synced_name_survive_every_cut),
        cmocka_unit_test(unsynced_bytes_are_lost_or_kept_by_mode),
        cmocka_unit_test(a_cut_tears_writes_at_sectors_and_nowhere_else),
        cmocka_unit_test(a_sector_never_shows_a_later_write_without_the_earlier_one),
        cmocka_unit_test(lost_bytes_below_kept_ones_read_as_zeros),
        cmocka_unit_test(a_name_needs_its_directory_synced),
        cmocka_unit_test(a_replaced_file_is_old_or_new_whatever_is_lost),
        cmocka_unit_test(an_unsynced_unlink_may_come_back_and_a_synced_one_not),
        cmocka_unit_test(a_rename_between_directories_stays_whole),
        cmocka_unit_test(a_failed_sync_is_not_mended_by_a_later_one),
        cmocka_unit_test(a_directory_whose_sync_failed_stays_suspect_until_restart),
        cmocka_unit_test(faults_strike_the_first_call_they_concern_once),
        cmocka_unit_test(a_power_cut_ends_everything_until_restart),
        cmocka_unit_test(a_crash_leaves_unsynced_bytes_as_they_were),
        cmocka_unit_test(direct_files_refuse_what_is_not_aligned),
        cmocka_unit_test(a_full_disk_says_so_and_deleting_helps),
        cmocka_unit_test(a_lock_is_busy_until_its_process_dies),
        cmocka_unit_test(rot_shows_in_what_is_read_and_stays),
        cmocka_unit_test(reading_without_waiting_sometimes_has_to_wait),
        cmocka_unit_test(the_same_seed_gives_the_same_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
