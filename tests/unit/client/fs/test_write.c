/* SPDX-License-Identifier: Apache-2.0 */
/* test_write.c - writes at the end of what a file may have. */
#include "tests/unit/client/fs/fs_world.h"

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

/* A file of all the bytes that there may be; of its data the last byte is the last. */
static void check_last(struct world *w, struct actor *a)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(WAIT(w, &o, hf_fs_getattr(w->fs, a->ino, &o.req)), 0);
    assert_int_equal(o.req.attr.size, HF_FILE_BYTES_MAX);
    assert_int_equal(WAIT(w, &o, hf_fs_lseek(a->file, HF_FILE_BYTES_MAX - 1, SEEK_DATA, &o.req)),
                     0);
    assert_int_equal(o.req.count, HF_FILE_BYTES_MAX - 1);
}

static void what_fits_is_written(void **state)
{
    static const struct {
        uint32_t fits, len, flags;
    } rows[] = {{4096, 8192, 0},
                {4096, 8192, HF_FS_WRITE_THROUGH},
                {1, 8192, 0},
                {700000, 1u << 20, 0},
                {100, 5000, HF_FS_WRITE_APPEND},
                {700000, 1u << 20, HF_FS_WRITE_APPEND | HF_FS_WRITE_THROUGH}};
    struct world w;

    (void)state;
    world_init(&w, 80);
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        struct hf_buf *buf = hf_buf_get(w.c->pool, rows[i].len);
        const uint64_t off = HF_FILE_BYTES_MAX - rows[i].fits;
        const struct hf_fs_set set = {.mask = HF_SET_SIZE,
                                      .size = rows[i].flags & HF_FS_WRITE_APPEND ? off : 0};
        struct actor *a = &w.actors[0];
        struct once o;

        assert_non_null(buf);
        assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set, &o.req)), 0);
        memset(buf->data, 7, rows[i].len);
        assert_int_equal(
            WAIT(&w, &o,
                 hf_fs_write(a->file, off, buf->data, rows[i].len, buf, rows[i].flags, &o.req)),
            0);
        assert_int_equal(o.req.count, rows[i].fits);
        check_last(&w, a);
        for (uint64_t k = 0; k < 2; k++) {
            assert_int_equal(WAIT(&w, &o,
                                  hf_fs_write(a->file, HF_FILE_BYTES_MAX + k, buf->data, 1, NULL,
                                              rows[i].flags, &o.req)),
                             -EFBIG);
        }
        hf_buf_unref(buf);
    }
    end(&w);
}

/* The kernel says of each write of an ordinary user that set-user-ID bits go with it. */
static void what_ordinary_users_write_is_streamed(void **state)
{
    const struct hf_fs_set set_id = {.mask = HF_SET_MODE, .mode = 04755};
    static uint8_t data[1u << 20];
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_stats stats;
    struct once o;

    (void)state;
    world_init(&w, 81);
    w.fs->dirty_target_bytes = 64u << 20; /* nothing is sent to free memory */
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set_id, &o.req)), 0);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(WAIT(&w, &o,
                              hf_fs_write(a->file, i * sizeof(data), data, sizeof(data), NULL,
                                          HF_FS_WRITE_KILL, &o.req)),
                         0);
    }
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.commits, 1); /* the first 4 MiB */
    assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, a->ino, &o.req)), 0);
    assert_int_equal(o.req.attr.mode & S_ISUID, 0);
    end(&w);
}

static void write_to_all(struct world *w, struct hf_fs_file **files, uint32_t count, uint64_t off)
{
    static uint8_t data[1u << 20];
    struct once o;

    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(
            WAIT(w, &o, hf_fs_write(files[i], off, data, sizeof(data), NULL, 0, &o.req)), 0);
    }
}

/* A store holds the parts of a window that is not full yet; it has room for few. */
static void few_windows_are_sent_before_they_are_full(void **state)
{
    struct hf_fs_file *files[HF_FS_STREAMS_MAX + 3];
    const uint32_t count = HF_ARRAY_LEN(files);
    struct world w;
    struct hf_fs_stats stats;
    struct once o;

    (void)state;
    world_init(&w, 84);
    assert_int_equal(hf_fs_set_limits(w.fs, 64u << 20, 48u << 20, HF_NS_PER_SEC * 30), 0);
    for (uint32_t i = 0; i < count; i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "s%u", i);
        assert_int_equal(WAIT(&w, &o,
                              hf_fs_create(w.fs, (struct hf_ino){HF_INO_ROOT}, name, S_IFREG | 0600,
                                           O_RDWR, &o.req)),
                         0);
        files[i] = o.req.file;
    }
    write_to_all(&w, files, count, 0);
    assert_int_equal(w.fs->stream_count, HF_FS_STREAMS_MAX);
    for (uint64_t off = 1; off < 4; off++) {
        write_to_all(&w, files, count, off << 20);
    }
    assert_int_equal(w.fs->stream_count, 0);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.commits, count);
    for (uint32_t i = 0; i < count; i++) {
        hf_fs_release(files[i]);
    }
    end(&w);
}

/* What takes the bits and what leaves them is not of one commit. */
static void files_of_root_keep_their_bits(void **state)
{
    const struct hf_fs_set set_id = {.mask = HF_SET_MODE, .mode = 04755};
    struct world w;
    struct hf_fs_stats stats;
    struct once o;

    (void)state;
    world_init(&w, 82);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, w.actors[i].ino, &set_id, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o,
                              hf_fs_write(w.actors[i].file, 0, "abc", 3, NULL,
                                          i < FILES / 2 ? HF_FS_WRITE_KILL : 0, &o.req)),
                         0);
    }
    assert_int_equal(WAIT(&w, &o, hf_fs_sync(w.fs, (struct hf_ino){0}, true, &o.req)), 0);
    hf_fs_stats(w.fs, &stats);
    assert_in_range(stats.commits, 2, FILES - 1); /* those of a kind together */
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, w.actors[i].ino, &o.req)), 0);
        assert_int_equal(!(o.req.attr.mode & S_ISUID), i < FILES / 2);
    }
    end(&w);
}

/* Nothing is left of what would have taken them. */
static void bits_stay_when_what_was_written_before_is_cut_off(void **state)
{
    const struct hf_fs_set set_id = {.mask = HF_SET_MODE, .mode = 04755};
    const struct hf_fs_set cut = {.mask = HF_SET_SIZE};
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 83);
    assert_int_equal(
        WAIT(&w, &o, hf_fs_write(a->file, 0, "abc", 3, NULL, HF_FS_WRITE_KILL, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &cut, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setattr(w.fs, a->ino, &set_id, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_write(a->file, 0, "def", 3, NULL, 0, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_getattr(w.fs, a->ino, &o.req)), 0);
    assert_int_not_equal(o.req.attr.mode & S_ISUID, 0);
    end(&w);
}

static int write_bytes(struct world *w, struct actor *a, uint64_t off, uint32_t len, uint32_t flags)
{
    struct hf_buf *buf = hf_buf_get(w->c->pool, len);
    struct once o;
    int err;

    assert_non_null(buf);
    a->off = off;
    a->len = len;
    model_write(a);
    memcpy(buf->data, a->bytes + off, len);
    err = WAIT(w, &o, hf_fs_write(a->file, off, buf->data, len, buf, flags, &o.req));
    hf_buf_unref(buf);
    return err;
}

static void fail_all(struct world *w, int err)
{
    w->c->put_fail_one_in = w->c->commit_fail_one_in = err != 0;
    w->c->put_err = w->c->commit_err = err;
}

/* What it lies over was acknowledged, and is in the map no more: it must not go with the error. */
static void what_a_failed_write_through_lies_over_is_not_lost(void **state)
{
    static const struct {
        uint32_t off, len, off2, len2;
        bool busy; /* the older bytes are on their way, which fails as well */
    } rows[] = {
        {0, 8192, 0, 65536, false},
        {0, 8192, 4096, 512, false},
        {65536, 8192, 0, 1u << 20, false},
        {0, 1u << 20, 500, 700000, false},
        {5000, 100000, 0, 1u << 20, true},
        {0, 9000, 1000, 3000, true},
        {4190000, 9000, 4194000, 1000, false},
    };

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        struct world w;
        struct actor *a = &w.actors[0];
        struct once o;

        world_init(&w, 85 + i);
        fail_all(&w, -HF_ENOTREADY);
        assert_int_equal(write_bytes(&w, a, rows[i].off, rows[i].len, 0), 0);
        if (rows[i].busy) {
            assert_int_equal(WAIT(&w, &o, hf_fs_sync(w.fs, a->ino, false, &o.req)), 0);
        }
        assert_int_equal(write_bytes(&w, a, rows[i].off2, rows[i].len2, HF_FS_WRITE_THROUGH),
                         -HF_ENOTREADY);
        fail_all(&w, 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        end_cold(&w, a);
    }
}

/* It can never be written: whoever has the file open is told, not the writer alone. */
static void what_a_write_through_takes_along_is_reported(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_file *second;
    struct once o;

    (void)state;
    world_init(&w, 97);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    second = o.req.file;
    fail_all(&w, -ENOSPC);
    assert_int_equal(write_bytes(&w, a, 0, 65536, HF_FS_WRITE_THROUGH), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(second, &o.req)), 0); /* nobody else wrote */
    assert_int_equal(write_bytes(&w, a, 0, 8192, 0), 0);
    assert_int_equal(write_bytes(&w, a, 4096, 65536, HF_FS_WRITE_THROUGH), -ENOSPC);
    fail_all(&w, 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(second, &o.req)), -ENOSPC);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(second, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ENOSPC);
    hf_fs_release(second);
    end(&w);
}

/* Nothing lay there: it goes with the error, and does not come later. */
static void a_write_through_that_failed_is_not_tried_again(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_stats stats;
    struct once o;

    (void)state;
    world_init(&w, 98);
    assert_int_equal(write_bytes(&w, a, 0, 5000, HF_FS_WRITE_THROUGH), 0);
    assert_int_equal(write_bytes(&w, a, 100000, 5000, 0), 0);
    fail_all(&w, -EIO);
    assert_int_equal(write_bytes(&w, a, 0, 100000, HF_FS_WRITE_THROUGH), -EIO);
    fail_all(&w, 0);
    hf_fs_stats(w.fs, &stats);
    assert_int_equal(stats.dirty_bytes, 5000);
    assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_written),
        cmocka_unit_test(what_ordinary_users_write_is_streamed),
        cmocka_unit_test(few_windows_are_sent_before_they_are_full),
        cmocka_unit_test(files_of_root_keep_their_bits),
        cmocka_unit_test(bits_stay_when_what_was_written_before_is_cut_off),
        cmocka_unit_test(what_a_failed_write_through_lies_over_is_not_lost),
        cmocka_unit_test(what_a_write_through_takes_along_is_reported),
        cmocka_unit_test(a_write_through_that_failed_is_not_tried_again),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
