/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/env/env_impl.h"
#include "common/table/snapshot_file.h"
#include "tests/unit/common/table/snapshot_world.h"

/* Installing */

static void an_installed_base_replaces_one_with_more_history(struct world *w)
{
    struct hf_table *old;
    struct text rows;

    change_rows(w, 0, 2000);
    assert_int_equal(checkpoint(w, "new"), 0);
    rows = rows_of(w->table);
    assert_int_equal(export(w), 0);
    hf_table_close(w->table);

    /* The place to install into has seen many more transactions, and its lock file says so. */
    assert_int_equal(open_at(w, 1, &w->table), 0);
    for (uint32_t i = 0; i < 30; i++) {
        change_rows(w, 100 + i, 100);
        assert_int_equal(checkpoint(w, "old"), 0);
    }
    hf_table_close(w->table);
    assert_int_equal(verify(w), 0);
    assert_int_equal(install_at(w, 1), 0);
    assert_int_equal(open_at(w, 1, &w->table), 0);
    assert_true(holds(w->table, "new", &rows));
    assert_true(hf_table_digest(w->table) == w->verify.snapshot.digest);
    free(rows.bytes);

    /* And it lives on. */
    for (uint32_t i = 0; i < 5; i++) {
        change_rows(w, 200 + i, 500);
        assert_int_equal(checkpoint(w, "newer"), 0);
    }
    rows = rows_of(w->table);
    hf_table_close(w->table);
    assert_int_equal(open_at(w, 1, &w->table), 0);
    assert_true(holds(w->table, "newer", &rows));
    old = w->table;
    assert_int_equal(open_at(w, 0, &w->table), 0);
    hf_table_close(old);
    free(rows.bytes);
}
BOTH_BASES(an_installed_base_replaces_one_with_more_history)

static void the_wrong_kind_of_file_is_not_installed(struct world *w)
{
    const struct text nothing = {0};

    put(w, "a", "1");
    assert_int_equal(checkpoint(w, "1"), 0);
    assert_int_equal(export(w), 0);
    w->kind = w->kind == MODEL ? LMDB : MODEL;
    assert_int_equal(install_at(w, 1), -EBADMSG);
    w->kind = w->kind == MODEL ? LMDB : MODEL;
    assert_int_equal(verify(w), 0);
    assert_place_holds(w, 1, "", &nothing);
}
BOTH_BASES(the_wrong_kind_of_file_is_not_installed)

/* A disk of which the process is cut off after some calls: a crash seen from outside. */

struct cut_disk {
    struct hf_disk disk;
    struct hf_disk *real;
    unsigned left;
    bool struck;
};

struct cut_file {
    struct hf_file file;
    struct hf_file *real;
    struct cut_disk *disk;
};

static bool cut(struct cut_disk *d)
{
    if (d->left) {
        d->left--;
        return false;
    }
    d->struck = true;
    return true;
}

static struct cut_file *cut_of(struct hf_file *file)
{
    return (struct cut_file *)(void *)file;
}

static void cut_close(struct hf_file *file)
{
    hf_file_close(cut_of(file)->real);
    free(cut_of(file));
}

static ssize_t cut_preadv(struct hf_file *file, const struct iovec *iov, int count, uint64_t off)
{
    return hf_file_preadv(cut_of(file)->real, iov, count, off);
}

static int cut_sync(struct hf_file *file)
{
    return cut(cut_of(file)->disk) ? -EIO : hf_file_sync(cut_of(file)->real);
}

static int cut_truncate(struct hf_file *file, uint64_t len_bytes)
{
    return cut(cut_of(file)->disk) ? -EIO : hf_file_truncate(cut_of(file)->real, len_bytes);
}

static int cut_size(struct hf_file *file, uint64_t *ret_bytes)
{
    return hf_file_size(cut_of(file)->real, ret_bytes);
}

static const struct hf_file_ops cut_file_ops = {
    .close = cut_close,
    .preadv = cut_preadv,
    .sync = cut_sync,
    .truncate = cut_truncate,
    .size = cut_size,
};

static struct cut_disk *cut_disk_of(struct hf_disk *disk)
{
    return (struct cut_disk *)(void *)disk;
}

static int cut_open(struct hf_disk *disk, const char *path, unsigned flags, struct hf_file **ret)
{
    struct cut_disk *d = cut_disk_of(disk);
    struct cut_file *file;
    int err;

    if (cut(d)) {
        return -EIO;
    }
    file = calloc(1, sizeof(*file));
    assert_non_null(file);
    *file = (struct cut_file){.file.ops = &cut_file_ops, .disk = d};
    err = hf_disk_open(d->real, path, flags, &file->real);
    if (err) {
        free(file);
        return err;
    }
    *ret = &file->file;
    return 0;
}

static int cut_mkdir(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_mkdir(cut_disk_of(disk)->real, path);
}

static int cut_unlink(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_unlink(cut_disk_of(disk)->real, path);
}

static int cut_rename(struct hf_disk *disk, const char *from, const char *to)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_rename(cut_disk_of(disk)->real, from, to);
}

static int cut_sync_dir(struct hf_disk *disk, const char *path)
{
    return cut(cut_disk_of(disk)) ? -EIO : hf_disk_sync_dir(cut_disk_of(disk)->real, path);
}

static const struct hf_disk_ops cut_disk_ops = {
    .open = cut_open,
    .mkdir = cut_mkdir,
    .unlink = cut_unlink,
    .rename = cut_rename,
    .sync_dir = cut_sync_dir,
};

/* Install, but the process ends after @calls calls of the disk. True: it did not get that far. */
static bool install_cut_short(struct world *w, unsigned calls, int *ret_err)
{
    struct cut_disk d = {.disk.ops = &cut_disk_ops, .real = w->env->disk, .left = calls};

    w->env->disk = &d.disk;
    *ret_err = install_at(w, 1);
    w->env->disk = d.real;
    return !d.struck;
}

static void an_install_cut_short_anywhere_leaves_the_old_base_or_the_new(struct world *w)
{
    struct hf_table *source, *target;
    struct text old_rows, new_rows;
    unsigned old_count = 0, new_count = 0;
    bool whole = false;

    change_rows(w, 0, 500);
    assert_int_equal(checkpoint(w, "new"), 0);
    new_rows = rows_of(w->table);
    source = w->table;
    for (unsigned calls = 0; !whole; calls++) {
        int err;

        remove_base(w, 1);
        hf_table_model_free(w->model[1]);
        w->model[1] = hf_table_model_new();
        assert_non_null(w->model[1]);
        assert_int_equal(open_at(w, 1, &w->table), 0);
        change_rows(w, 7, 300);
        old_rows = rows_of(w->table);
        assert_int_equal(checkpoint(w, "old"), 0);
        hf_table_close(w->table);
        w->table = source;
        assert_int_equal(export(w), 0);

        whole = install_cut_short(w, calls, &err);
        assert_true(!whole || err == 0);
        assert_int_equal(open_at(w, 1, &target), 0);
        if (holds(target, "new", &new_rows)) {
            new_count++;
            w->table = target;
            change_rows(w, 9, 3000); /* grows over a tail that is still there */
            free(old_rows.bytes);
            old_rows = rows_of(target);
            assert_int_equal(checkpoint(w, "newer"), 0);
            hf_table_close(target);
            assert_place_holds(w, 1, "newer", &old_rows);
            w->table = source;
        } else {
            old_count++;
            assert_true(holds(target, "old", &old_rows));
            hf_table_close(target);
            assert_int_not_equal(err, 0);
            assert_int_equal(verify(w), 0); /* still whole: done over, it works */
            assert_int_equal(install_at(w, 1), 0);
            assert_place_holds(w, 1, "new", &new_rows);
        }
        free(old_rows.bytes);
    }
    assert_true(old_count > 0 && new_count > 1);
    free(new_rows.bytes);
}
BOTH_BASES(an_install_cut_short_anywhere_leaves_the_old_base_or_the_new)

static void an_installed_file_has_no_tail(void **state)
{
    struct world w;
    struct stat st;
    char path[100];

    (void)state;
    world_init(&w, LMDB);
    put(&w, "a", "1");
    assert_int_equal(checkpoint(&w, "1"), 0);
    assert_int_equal(export(&w), 0);
    assert_int_equal(install_at(&w, 1), 0);
    snprintf(path, sizeof(path), "%s/data.mdb", w.base[1]);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_size == w.export.snapshot.file_bytes - HF_SNAPSHOT_TAIL_BYTES);
    assert_int_equal(st.st_size % 4096, 0);
    world_fini(&w);
}

int main(void)
{
#define BOTH(name) cmocka_unit_test(name##_model), cmocka_unit_test(name##_lmdb)
    const struct CMUnitTest tests[] = {
        BOTH(an_installed_base_replaces_one_with_more_history),
        BOTH(the_wrong_kind_of_file_is_not_installed),
        BOTH(an_install_cut_short_anywhere_leaves_the_old_base_or_the_new),
        cmocka_unit_test(an_installed_file_has_no_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
