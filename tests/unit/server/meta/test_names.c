/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/meta/fixture.h"

#include "server/meta/inode.h"

#define ROOT HF_INO_ROOT

static struct fx fx;
static struct fx_session s;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 9);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

static void create_makes_a_file_its_parent_knows(void **state)
{
    uint64_t ino, found;
    struct hf_attr root;

    (void)state;
    assert_int_equal(fx_create(&fx, &s, ROOT, "a", S_IFREG | 0666, &ino), 0);
    assert_int_equal(fx.reply.attr.ino.v, ino);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0644);
    assert_int_equal(fx.reply.attr.nlink, 1);
    assert_int_equal(fx.reply.attr.uid, 1000);
    assert_int_equal(fx.reply.attr2.ino.v, ROOT);
    assert_int_equal(fx.reply.attr2.size, 1);
    assert_int_equal(fx_lookup(&fx, ROOT, "a", &found), 0);
    assert_int_equal(found, ino);
    root = fx_attr(&fx, ROOT);
    assert_int_equal(root.nlink, 2);
    assert_true(root.version > 1 && root.data_version == root.version);
}

static void create_of_an_existing_name_says_what_is_there(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "a");

    (void)state;
    assert_int_equal(fx_create(&fx, &s, ROOT, "a", S_IFREG | 0600, NULL), -EEXIST);
    assert_int_equal(fx.reply.attr.ino.v, ino);
    assert_int_equal(fx_usage(&fx).inodes, 2);
}

static void create_refuses_bad_names_and_parents(void **state)
{
    uint64_t file = fx_mkfile(&fx, &s, ROOT, "f");
    char name[300];

    (void)state;
    memset(name, 'x', sizeof(name));
    name[256] = 0;
    assert_int_equal(fx_create(&fx, &s, ROOT, name, S_IFREG, NULL), -ENAMETOOLONG);
    name[255] = 0;
    assert_int_equal(fx_create(&fx, &s, ROOT, name, S_IFREG, NULL), 0);
    assert_int_equal(fx_create(&fx, &s, ROOT, ".", S_IFREG, NULL), -EINVAL);
    assert_int_equal(fx_create(&fx, &s, ROOT, "..", S_IFREG, NULL), -EINVAL);
    assert_int_equal(fx_create(&fx, &s, ROOT, "a/b", S_IFREG, NULL), -EINVAL);
    assert_int_equal(fx_create(&fx, &s, ROOT, "", S_IFREG, NULL), -EINVAL);
    assert_int_equal(fx_create(&fx, &s, file, "x", S_IFREG, NULL), -ENOTDIR);
    assert_int_equal(fx_create(&fx, &s, 999999, "x", S_IFREG, NULL), -ENOENT);
}

static void create_takes_only_numbers_that_were_granted_and_not_used(void **state)
{
    struct fx_session other;

    (void)state;
    fx_session_open(&fx, &other, 10);
    fx_mkfile(&fx, &s, ROOT, "a");
    s.next_ino--; /* used */
    assert_int_equal(fx_create(&fx, &s, ROOT, "b", S_IFREG, NULL), -EINVAL);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", 0), 0);
    assert_int_equal(fx_create(&fx, &s, ROOT, "b", S_IFREG, NULL), -EINVAL);
    s.next_ino = other.next_ino;
    assert_int_equal(fx_create(&fx, &s, ROOT, "b", S_IFREG, NULL), -EINVAL);
    s.next_ino = 5;
    assert_int_equal(fx_create(&fx, &s, ROOT, "b", S_IFREG, NULL), -EINVAL);
}

static void a_setgid_directory_gives_its_group(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), sub;
    struct hf_meta_op op = {.op = HF_OP_SETATTR,
                            .ino = {dir},
                            .mask = HF_SET_MODE | HF_SET_GID,
                            .mode = 02775,
                            .gid = 50};

    (void)state;
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    sub = fx_mkdir(&fx, &s, dir, "sub");
    assert_int_equal(fx_attr(&fx, sub).gid, 50);
    assert_int_equal(fx_attr(&fx, sub).mode, S_IFDIR | 02755);
    assert_int_equal(fx_attr(&fx, fx_mkfile(&fx, &s, dir, "f")).gid, 50);
    assert_int_equal(fx_tmpfile(&fx, &s, dir, 0, &sub), 0);
    assert_int_equal(fx_attr(&fx, sub).gid, 50);
    assert_int_equal(fx_attr(&fx, dir).nlink, 3);
}

static void symlinks_keep_their_target(void **state)
{
    uint64_t ino;
    struct hf_meta_read rd = {.op = HF_RD_READLINK};

    (void)state;
    assert_int_equal(fx_create(&fx, &s, ROOT, "l", S_IFLNK | 0777, &ino), 0);
    rd.ino.v = ino;
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.bulk_len, 14);
    assert_memory_equal(fx.reply.bulk, "where/it/leads", 14);
    assert_int_equal(fx_attr(&fx, ino).size, 14);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "l", 0), 0);
    assert_int_equal(fx_read(&fx, &rd), -ENOENT);
}

static void who_removes_a_link_is_told_its_target(void **state)
{
    struct hf_meta_op again = {
        .op = HF_OP_UNLINK, .session = s.id, .parent = {ROOT}, .name = "m", .name_len = 1};
    uint64_t ino;

    (void)state;
    assert_int_equal(fx_create(&fx, &s, ROOT, "l", S_IFLNK | 0777, &ino), 0);
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "m"), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "l", 0), 0);
    assert_int_equal(fx.reply.bulk_len, 0); /* it has another name */
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "m", 0), 0);
    again.stream = s.stream;
    assert_int_equal(fx.reply.bulk_len, 14);
    assert_memory_equal(fx.reply.bulk, "where/it/leads", 14);
    assert_int_equal(fx_create(&fx, &s, ROOT, "l", S_IFLNK | 0777, &ino), 0);
    (void)fx_mkfile(&fx, &s, ROOT, "f");
    assert_int_equal(fx_rename(&fx, &s, ROOT, "f", ROOT, "l", 0), 0);
    assert_int_equal(fx.reply.bulk_len, 14);
    assert_memory_equal(fx.reply.bulk, "where/it/leads", 14);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "l", 0), 0);
    assert_int_equal(fx.reply.bulk_len, 0); /* a file */
    assert_int_equal(fx_apply(&fx, &again), 0);
    assert_int_equal(fx.reply.bulk_len, 14); /* the answer was lost: it is the same again */
    assert_memory_equal(fx.reply.bulk, "where/it/leads", 14);
}

static void links_count_names(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "a"), dir = fx_mkdir(&fx, &s, ROOT, "d");

    (void)state;
    assert_int_equal(fx_link(&fx, &s, ino, dir, "b"), 0);
    assert_int_equal(fx.reply.attr.nlink, 2);
    assert_int_equal(fx_link(&fx, &s, ino, dir, "b"), -EEXIST);
    assert_int_equal(fx_link(&fx, &s, dir, ROOT, "x"), -EPERM);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", 0), 0);
    assert_int_equal(fx.reply.attr.nlink, 1);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "b", 0), 0);
    assert_int_equal(fx.reply.attr.nlink, 0);
    assert_int_equal(fx_link(&fx, &s, ino, dir, "c"), -ENOENT);
}

static void rmdir_wants_an_empty_directory(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d");

    (void)state;
    fx_mkfile(&fx, &s, dir, "f");
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "d", 0), -EISDIR);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_RMDIR, ROOT, "d", 0), -ENOTEMPTY);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_RMDIR, dir, "f", 0), -ENOTDIR);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "f", 0), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_RMDIR, ROOT, "d", s.id.v), 0);
    assert_int_equal(fx_attr(&fx, ROOT).nlink, 2);
    /* held open, but nothing can be made in it */
    assert_int_equal(fx_attr(&fx, dir).nlink, 0);
    assert_int_equal(fx_create(&fx, &s, dir, "x", S_IFREG, NULL), -ENOENT);
}

static void rename_replaces_and_moves_directories(void **state)
{
    uint64_t a = fx_mkdir(&fx, &s, ROOT, "a"), b = fx_mkdir(&fx, &s, ROOT, "b"), found;
    uint64_t sub = fx_mkdir(&fx, &s, a, "sub"), f = fx_mkfile(&fx, &s, a, "f");
    uint64_t g = fx_mkfile(&fx, &s, b, "g");

    (void)state;
    assert_int_equal(fx_rename(&fx, &s, a, "f", b, "g", 0), 0);
    assert_int_equal(fx.reply.attr.ino.v, f);
    assert_int_equal(fx.reply.attr2.ino.v, g);
    assert_int_equal(fx.reply.attr2.nlink, 0);
    assert_int_equal(fx_lookup(&fx, b, "g", &found), 0);
    assert_int_equal(found, f);
    assert_int_equal(fx_rename(&fx, &s, a, "sub", b, "sub2", 0), 0);
    assert_int_equal(fx_attr(&fx, a).nlink, 2);
    assert_int_equal(fx_attr(&fx, b).nlink, 3);
    assert_int_equal(fx_lookup(&fx, sub, "..", &found), 0);
    assert_int_equal(found, b);
    fx_fsck(&fx);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "b", sub, "x", 0), -EINVAL);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "b", b, "x", 0), -EINVAL);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "a", b, "g", 0), -ENOTDIR);
    assert_int_equal(fx_rename(&fx, &s, b, "g", ROOT, "a", 0), -EISDIR);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "a", ROOT, "b", 0), -ENOTEMPTY);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "b", ROOT, "a", 0), 0);
    assert_int_equal(fx_attr(&fx, ROOT).nlink, 3);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "a", ROOT, "a", 0), 0);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "none", ROOT, "a", 0), -ENOENT);
}

/* Who has a file handle looks up "." in whatever it is of, and ".." in a directory. */
static void an_inode_is_found_by_its_number(void **state)
{
    static const uint32_t types[] = {S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK};
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), ino, found;

    (void)state;
    for (size_t i = 0; i < HF_ARRAY_LEN(types); i++) {
        assert_int_equal(fx_create(&fx, &s, dir, "n", types[i] | 0600, &ino), 0);
        assert_int_equal(fx_lookup(&fx, ino, ".", &found), 0);
        assert_int_equal(found, ino);
        assert_int_equal(fx.reply.attr.mode & S_IFMT, types[i]);
        assert_int_equal(fx_lookup(&fx, ino, "..", &found), -ENOTDIR);
        assert_int_equal(fx_lookup(&fx, ino, "n", &found), -ENOTDIR);
        assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "n", 0), 0);
        assert_int_equal(fx_lookup(&fx, ino, ".", &found), -ENOENT);
    }
    assert_int_equal(fx_tmpfile(&fx, &s, dir, 0, &ino), 0);
    assert_int_equal(fx_lookup(&fx, ino, ".", &found), -ENOENT); /* held, and not by its name */
    assert_int_equal(fx_lookup(&fx, dir, ".", &found), 0);
    assert_int_equal(found, dir);
    assert_int_equal(fx_lookup(&fx, dir, "..", &found), 0);
    assert_int_equal(found, ROOT);
    assert_int_equal(fx_lookup(&fx, ROOT, "..", &found), 0);
    assert_int_equal(found, ROOT);
}

static void rename_flags_are_kept(void **state)
{
    uint64_t a = fx_mkdir(&fx, &s, ROOT, "a"), f = fx_mkfile(&fx, &s, ROOT, "f"), found;
    uint64_t deep = fx_mkdir(&fx, &s, a, "deep");

    (void)state;
    assert_int_equal(fx_rename(&fx, &s, ROOT, "f", ROOT, "a", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "f", ROOT, "x", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "f", a, "deep", RENAME_EXCHANGE), 0);
    assert_int_equal(fx_lookup(&fx, a, "deep", &found), 0);
    assert_int_equal(found, f);
    assert_int_equal(fx_lookup(&fx, deep, "..", &found), 0);
    assert_int_equal(found, ROOT);
    assert_int_equal(fx_attr(&fx, a).nlink, 2);
    assert_int_equal(fx_attr(&fx, ROOT).nlink, 4);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "a", a, "deep", RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "f", ROOT, "g", RENAME_WHITEOUT), -EINVAL);
}

static void rename_between_names_of_one_inode_does_nothing(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "a");

    (void)state;
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "b"), 0);
    assert_int_equal(fx_rename(&fx, &s, ROOT, "a", ROOT, "b", 0), 0);
    assert_int_equal(fx_lookup(&fx, ROOT, "a", NULL), 0);
    assert_int_equal(fx_attr(&fx, ino).nlink, 2);
}

/* All names from a cookie on; returns the count. */
static uint32_t list(uint64_t dir, uint64_t cookie, uint32_t max, uint32_t flags,
                     uint64_t *ret_cookie, char names[][16])
{
    struct hf_meta_read rd = {.op = HF_RD_READDIR, .ino = {dir}, .max = max, .flags = flags};
    uint32_t count = 0;

    for (rd.cookie = cookie;; rd.cookie = fx.reply.next_cookie) {
        struct hf_reader r;
        struct hf_dirent entry;
        int err;

        assert_int_equal(fx_read(&fx, &rd), 0);
        r = hf_reader_init(fx.reply.bulk, fx.reply.bulk_len);
        while ((err = hf_dirent_decode(&r, &entry)) == 0) {
            assert_true(entry.cookie >= 3 && entry.cookie <= INT64_MAX);
            assert_int_equal(entry.has_attr, flags & HF_READDIR_PLUS);
            snprintf(names[count++], 16, "%.*s", (int)entry.name_len, entry.name);
            *ret_cookie = entry.cookie;
        }
        assert_int_equal(err, -ENOENT);
        if (fx.reply.eof) {
            return count;
        }
    }
}

static void readdir_goes_on_from_a_cookie_whatever_changed(void **state)
{
    static char all[200][16], rest[200][16];
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), cookie, mid = 0;
    struct hf_meta_read rd = {.op = HF_RD_READDIR, .ino = {dir}, .max = 400};
    struct hf_reader r;
    struct hf_dirent entry;
    uint32_t first = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        char name[16];

        snprintf(name, sizeof(name), "f%03d", i);
        fx_mkfile(&fx, &s, dir, name);
    }
    assert_int_equal(list(dir, 0, 0, 0, &cookie, all), 100);
    assert_int_equal(list(dir, 0, 700, HF_READDIR_PLUS, &cookie, rest), 100);
    assert_memory_equal(all, rest, 100 * 16);
    assert_int_equal(fx_read(&fx, &rd), 0);
    r = hf_reader_init(fx.reply.bulk, fx.reply.bulk_len);
    while (!hf_dirent_decode(&r, &entry)) {
        mid = entry.cookie;
        first++;
    }
    assert_true(first > 2 && first < 100);
    for (uint32_t i = 0; i < first; i++) { /* all that was read goes */
        assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, all[i], 0), 0);
    }
    assert_int_equal(list(dir, mid, 0, 0, &cookie, rest), 100 - first);
    assert_memory_equal(all[first], rest[0], (100 - first) * 16);
    rd.max = 10;
    assert_int_equal(fx_read(&fx, &rd), -EINVAL);
}

static void readdir_tells_the_parent(void **state)
{
    uint64_t a = fx_mkdir(&fx, &s, ROOT, "a"), b = fx_mkdir(&fx, &s, a, "b");
    struct hf_meta_read rd = {.op = HF_RD_READDIR, .ino = {b}, .max = 400};

    (void)state;
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.first_ino.v, a);
    assert_int_equal(fx_rename(&fx, &s, a, "b", ROOT, "b", 0), 0);
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.first_ino.v, ROOT);
}

static void names_with_one_hash_live_side_by_side(void **state)
{
    static char names[300][16];
    uint64_t dir, cookie, inos[256];
    char name[16];

    (void)state;
    for (int i = 0; i < FX_REPLICAS; i++) {
        fx.r[i].meta->name_hash_mask = 0;
    }
    dir = fx_mkdir(&fx, &s, ROOT, "d");
    for (int i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        inos[i] = fx_mkfile(&fx, &s, dir, name);
    }
    assert_int_equal(fx_create(&fx, &s, dir, "more", S_IFREG, NULL), -ENOSPC);
    assert_int_equal(list(dir, 0, 0, 0, &cookie, names), 256);
    /* the first goes, the others keep their places; its slot is used again */
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "n0", 0), 0);
    assert_int_equal(fx_lookup(&fx, dir, "n0", NULL), -ENOENT);
    assert_int_equal(fx_lookup(&fx, dir, "n255", &cookie), 0);
    assert_int_equal(cookie, inos[255]);
    assert_int_equal(list(dir, 0, 0, 0, &cookie, names), 255);
    assert_int_equal(fx_rename(&fx, &s, dir, "n7", dir, "again", 0), 0);
    assert_int_equal(fx_lookup(&fx, dir, "again", &cookie), 0);
    assert_int_equal(cookie, inos[7]);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "again", 0), 0);
    for (int i = 1; i < 256; i++) {
        int n = (i * 101) % 255 + 1;

        snprintf(name, sizeof(name), "n%d", n);
        assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, name, 0), n == 7 ? -ENOENT : 0);
    }
    assert_int_equal(list(dir, 0, 0, 0, &cookie, names), 0);
    fx_fsck(&fx);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_RMDIR, ROOT, "d", 0), 0);
}

static void a_path_can_be_told(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "dir"), file = fx_mkfile(&fx, &s, dir, "file");
    struct hf_meta_read rd = {.op = HF_RD_PATH, .ino = {file}};

    (void)state;
    assert_int_equal(fx_read(&fx, &rd), 0);
    assert_int_equal(fx.reply.bulk_len, 9);
    assert_memory_equal(fx.reply.bulk, "/dir/file", 9);
}

static void an_open_file_outlives_its_name(void **state)
{
    uint64_t ino = fx_mkfile(&fx, &s, ROOT, "a");
    struct fx_session other;
    struct hf_meta_op op = {.op = HF_OP_ORPHAN_RELEASE, .ino = {ino}};

    (void)state;
    fx_session_open(&fx, &other, 10);
    assert_int_equal(fx_write(&fx, &s, ino, 0, 5000), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "a", other.id.v), 0);
    assert_int_equal(fx_usage(&fx).orphans, 1);
    assert_int_equal(fx_write(&fx, &s, ino, 5000, 5000), 0);
    assert_int_equal(fx_attr(&fx, ino).size, 10000);
    fx_fsck(&fx);
    assert_int_equal(fx_do(&fx, &s, &op), 0); /* was not the holder */
    assert_int_equal(fx_usage(&fx).orphans, 1);
    assert_int_equal(fx_do(&fx, &other, &op), 0);
    assert_int_equal(fx_usage(&fx).orphans, 0);
    assert_int_equal(fx_usage(&fx).inodes, 1);
    assert_int_equal(fx_usage(&fx).dead, 2);
    assert_int_equal(fx_do(&fx, &other, &op), 0);
}

static void a_file_without_a_name_may_get_one(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), ino, found;
    uint64_t version = fx_attr(&fx, dir).version;
    struct hf_meta_op op = {.op = HF_OP_ORPHAN_RELEASE};

    (void)state;
    assert_int_equal(fx_tmpfile(&fx, &s, dir, HF_TMPFILE_LINKABLE, &ino), 0);
    assert_int_equal(fx.reply.attr.ino.v, ino);
    assert_int_equal(fx.reply.attr.nlink, 0);
    assert_int_equal(fx.reply.attr.mode, S_IFREG | 0644);
    assert_int_equal(fx_attr(&fx, dir).version, version);
    assert_int_equal(fx_usage(&fx).orphans, 1);
    fx_fsck(&fx);
    assert_int_equal(fx_write(&fx, &s, ino, 0, 5000), 0);
    assert_int_equal(fx_link(&fx, &s, ino, dir, "a"), 0);
    assert_int_equal(fx.reply.attr.nlink, 1);
    assert_int_equal(fx_usage(&fx).orphans, 0);
    fx_fsck(&fx);
    op.ino.v = ino;
    assert_int_equal(fx_do(&fx, &s, &op), 0); /* it was held until it had a name */
    assert_int_equal(fx_lookup(&fx, dir, "a", &found), 0);
    assert_int_equal(found, ino);
    assert_int_equal(fx_attr(&fx, ino).size, 5000);
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "b"), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, dir, "a", 0), 0);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "b", s.id.v), 0);
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "c"), -ENOENT); /* once */
    assert_int_equal(fx_do(&fx, &s, &op), 0);
    assert_int_equal(fx_usage(&fx).inodes, 2);
    assert_int_equal(fx_usage(&fx).dead, 1);
}

static void a_file_without_a_name_goes_with_who_made_it(void **state)
{
    struct hf_meta_op close = {.op = HF_OP_SESSION_CLOSE}, release = {.op = HF_OP_ORPHAN_RELEASE};
    uint64_t ino, closed;
    struct fx_session other;
    struct hf_attr attr;

    (void)state;
    fx_session_open(&fx, &other, 10);
    assert_int_equal(fx_tmpfile(&fx, &other, ROOT, HF_TMPFILE_LINKABLE, &closed), 0);
    assert_int_equal(fx_tmpfile(&fx, &other, ROOT, HF_TMPFILE_LINKABLE, &ino), 0);
    assert_int_equal(fx_write(&fx, &other, ino, 0, 5000), 0);
    release.ino.v = closed;
    assert_int_equal(fx_do(&fx, &other, &release), 0);
    assert_int_equal(fx_link(&fx, &other, closed, ROOT, "x"), -ENOENT);
    assert_int_equal(fx_usage(&fx).orphans, 1);
    close.session = other.id;
    assert_int_equal(fx_apply(&fx, &close), 0);
    assert_int_equal(fx_usage(&fx).orphans, 0);
    assert_int_equal(fx_usage(&fx).inodes, 1);
    assert_int_equal(fx_usage(&fx).dead, 1);
    assert_int_equal(fx_getattr(&fx, ino, &attr), -ENOENT);
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "x"), -ENOENT);
}

/* To them it goes on: what the one that unlinks it has written must reach them. */
static void who_takes_the_last_name_is_told_of_other_holders(void **state)
{
    struct fx_session other;
    struct hf_meta_op op = {0};
    uint64_t holders[3];

    (void)state;
    fx_session_open(&fx, &other, 10);
    holders[0] = s.id.v;
    holders[1] = other.id.v;
    holders[2] = 999999; /* gone */
    for (uint32_t i = 0; i < 6; i++) {
        bool replaced = i % 2, last = i < 4;

        fx_mkfile(&fx, &s, ROOT, "f");
        fx_mkfile(&fx, &s, ROOT, "g");
        if (!last) {
            assert_int_equal(fx_link(&fx, &s, s.next_ino - 2, ROOT, "h"), 0);
        }
        op = (struct hf_meta_op){.op = replaced ? HF_OP_RENAME : HF_OP_UNLINK,
                                 .parent = {ROOT},
                                 .name = replaced ? "g" : "f",
                                 .name_len = 1,
                                 .parent2 = {ROOT},
                                 .name2 = "f",
                                 .name2_len = 1,
                                 .holders = holders,
                                 .holder_count = i < 2 ? 1 : 3};
        assert_int_equal(fx_do(&fx, &s, &op), 0);
        assert_int_equal(fx.reply.count, i == 2 || i == 3);
        assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, replaced ? "f" : "g", 0), 0);
        if (!last) {
            assert_int_equal(fx_remove(&fx, &s, HF_OP_UNLINK, ROOT, "h", 0), 0);
        }
    }
}

static void a_file_without_a_name_is_refused_what_it_may_not_have(void **state)
{
    uint64_t file = fx_mkfile(&fx, &s, ROOT, "f"), ino;
    struct hf_meta_op op = {.op = HF_OP_TMPFILE, .parent = {ROOT}, .mode = S_IFIFO | 0600};

    (void)state;
    assert_int_equal(fx_tmpfile(&fx, &s, ROOT, 0, &ino), 0); /* O_EXCL */
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "x"), -ENOENT);
    assert_int_equal(fx_lookup(&fx, ROOT, "x", NULL), -ENOENT);
    s.next_ino--; /* used */
    assert_int_equal(fx_tmpfile(&fx, &s, ROOT, 0, &ino), -EINVAL);
    s.next_ino++;
    op.ino.v = s.next_ino;
    assert_int_equal(fx_do(&fx, &s, &op), -EINVAL);
    assert_int_equal(fx_tmpfile(&fx, &s, file, 0, &ino), -ENOTDIR);
    assert_int_equal(fx_tmpfile(&fx, &s, 999999, 0, &ino), -ENOENT);
    assert_int_equal(fx_tmpfile(&fx, &s, ROOT, HF_TMPFILE_LINKABLE, &ino), 0);
    assert_int_equal(fx_link(&fx, &s, ino, ROOT, "f"), -EEXIST);
    assert_int_equal(fx_usage(&fx).orphans, 2); /* and holders, says fsck */
}

/* As if there were that many more directories in it. */
static void set_links(uint64_t ino, uint32_t nlink)
{
    uint8_t value[HF_ROW_INODE_BYTES];
    struct hf_inode inode;
    struct hf_key key;

    hf_key_u64(&key, HF_ROW_INODE, ino);
    for (int i = 0; i < FX_REPLICAS; i++) {
        assert_int_equal(hf_inode_load(fx.r[i].meta, (struct hf_ino){ino}, &inode), 0);
        inode.attr.nlink = nlink;
        hf_row_inode_encode(&inode, value);
        assert_int_equal(hf_table_put(fx.r[i].table, key.b, key.len, value, sizeof(value)), 0);
    }
}

static void a_directory_takes_more_directories_than_a_file_takes_links(void **state)
{
    uint64_t dir = fx_mkdir(&fx, &s, ROOT, "d"), ino;

    (void)state;
    set_links(dir, HF_LINK_MAX);
    assert_int_equal(fx_create(&fx, &s, dir, "a", S_IFDIR | 0755, &ino), 0);
    assert_int_equal(fx_attr(&fx, dir).nlink, HF_LINK_MAX + 1);
    fx_mkdir(&fx, &s, ROOT, "b");
    assert_int_equal(fx_rename(&fx, &s, ROOT, "b", dir, "b", 0), 0);
    assert_int_equal(fx_attr(&fx, dir).nlink, HF_LINK_MAX + 2);
    assert_int_equal(fx_remove(&fx, &s, HF_OP_RMDIR, dir, "a", 0), 0);
    assert_int_equal(fx_attr(&fx, dir).nlink, HF_LINK_MAX + 1);
    set_links(dir, UINT32_MAX);
    assert_int_equal(fx_create(&fx, &s, dir, "c", S_IFDIR | 0755, &ino), -EMLINK);
    set_links(dir, 3);
    fx_fsck(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(create_makes_a_file_its_parent_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(create_of_an_existing_name_says_what_is_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(create_refuses_bad_names_and_parents, setup, teardown),
        cmocka_unit_test_setup_teardown(create_takes_only_numbers_that_were_granted_and_not_used,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_setgid_directory_gives_its_group, setup, teardown),
        cmocka_unit_test_setup_teardown(symlinks_keep_their_target, setup, teardown),
        cmocka_unit_test_setup_teardown(who_removes_a_link_is_told_its_target, setup, teardown),
        cmocka_unit_test_setup_teardown(links_count_names, setup, teardown),
        cmocka_unit_test_setup_teardown(rmdir_wants_an_empty_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(rename_replaces_and_moves_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(an_inode_is_found_by_its_number, setup, teardown),
        cmocka_unit_test_setup_teardown(rename_flags_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(rename_between_names_of_one_inode_does_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(readdir_tells_the_parent, setup, teardown),
        cmocka_unit_test_setup_teardown(readdir_goes_on_from_a_cookie_whatever_changed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_with_one_hash_live_side_by_side, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_can_be_told, setup, teardown),
        cmocka_unit_test_setup_teardown(an_open_file_outlives_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_without_a_name_may_get_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_without_a_name_goes_with_who_made_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_takes_the_last_name_is_told_of_other_holders, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_without_a_name_is_refused_what_it_may_not_have,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_takes_more_directories_than_a_file_takes_links,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
