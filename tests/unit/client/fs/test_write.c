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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_written),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
