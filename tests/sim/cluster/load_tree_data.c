/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_tree_data.c - contents of the files of a tree: every byte is known beforehand (contents.h).
 */
#include "tests/sim/cluster/load_tree_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "client/fs/fs_impl.h"

#define FILE_BYTES_MAX  (6u << 20)
#define WRITE_BYTES_MAX (1u << 20)

static void trace_data(struct actor *a, const char *what, const struct shape_node *node,
                       uint64_t off, uint64_t len, int err)
{
    sim_trace(a->s, "client %u: %s inode %" PRIu64 " %" PRIu64 "+%" PRIu64 ": %s",
              a->client->number, what, node->ino.v, off, len, hf_err_name(err));
}

static struct tree_handle *any_handle(struct actor *a, struct tree *t)
{
    struct tree_handle *h = &t->handles[tree_below(a, TREE_HANDLES)];
    int node, err;

    if (h->file) {
        return h;
    }
    node = tree_pick(a, &t->shape, false, true, false);
    if (node == SHAPE_NONE || tree_is_open(t, node)) { /* one handle has to report every error */
        return NULL;
    }
    err = DO(a, hf_fs_open(a->fs, t->shape.nodes[node].ino, O_RDWR, &a->req));
    if (err) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I2", "client %u: open of node %d: %s", a->client->number, node,
                     hf_err_name(err));
        }
        return NULL;
    }
    *h = (struct tree_handle){a->file, node};
    trace_data(a, "open", &t->shape.nodes[node], 0, 0, err);
    return h;
}

bool tree_wrong_bytes(struct actor *a, const char *invariant, const struct shape_node *node,
                      int64_t at, uint64_t size)
{
    char text[512];

    if (at >= 0) {
        sim_wrong(a->s, invariant,
                  "client %u: inode %" PRIu64 ", %" PRIu64 " bytes read, is wrong at %" PRId64
                  " (%s)",
                  a->client->number, node->ino.v, size, at, contents_str(node->contents, text));
    }
    return at >= 0;
}

int tree_reread(struct actor *a, struct shape_node *node, struct hf_fs_file *file,
                void (*take)(struct contents *c, const uint8_t *bytes, uint64_t size))
{
    uint8_t *bytes;
    uint64_t len;
    int err = load_read_all(a, file, &bytes, &len);

    if (err) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I1", "client %u: read of inode %" PRIu64 ": %s", a->client->number,
                     node->ino.v, hf_err_name(err));
        }
        node->vague = node->vague || (a->s->options.beyond && err == -EIO);
        return err;
    }
    node->vague = false;
    a->s->counts.bytes_checked += len;
    if (!tree_wrong_bytes(a, "I3", node, contents_may_be_left(node->contents, bytes, len), len)) {
        take(node->contents, bytes, len);
    }
    free(bytes);
    return a->s->failed ? -ECANCELED : 0;
}

/* Of what is not synced, may any have been dropped? The next fsync or close says so. */
static bool may_be_dropped(const struct actor *a, const struct shape_node *node)
{
    return !contents_is_synced(node->contents) && load_met_full(a->s, node->clean_ns);
}

static void all_synced(struct actor *a, struct shape_node *node, uint64_t seq)
{
    contents_synced(node->contents, seq);
    if (contents_is_synced(node->contents)) {
        node->clean_ns = sim_now(a->s);
    }
}

/* An error was reported for data: any of what is not synced may be there or not. False: lost. */
static bool data_error(struct actor *a, struct tree *t, struct tree_handle *h, const char *what,
                       int err)
{
    struct shape_node *node = &t->shape.nodes[h->node];

    if (load_is_lost(a, err)) {
        return false;
    }
    if (!load_is_full(a, err, node->clean_ns)) {
        sim_fail(a->s, "I1", "client %u: %s: %s", a->client->number, what, hf_err_name(err));
        return false;
    }
    node->must_report = false;
    return tree_reread(a, node, h->file, contents_see) == 0;
}

bool tree_sync_handle(struct actor *a, struct tree *t, struct tree_handle *h, bool close)
{
    struct shape_node *node = &t->shape.nodes[h->node];
    uint64_t seq = contents_seq(node->contents);
    struct hf_fs_file *file = h->file;
    int err = close ? DO(a, hf_fs_flush(file, 1, &a->req)) : DO(a, hf_fs_fsync(file, &a->req));

    trace_data(a, close ? "close" : "fsync", node, 0, contents_size(node->contents), err);
    if (err && !data_error(a, t, h, close ? "close" : "fsync", err)) {
        return false;
    }
    if (!err) {
        sim_synced(a->client);
        if (close && node->nlink == 0) {
            /* Nobody can see it any more: closing it does not write back. */
        } else if (node->must_report) {
            sim_wrong(a->s, "I10",
                      "client %u: inode %" PRIu64 " lost bytes, and its fsync succeeds",
                      a->client->number, node->ino.v);
        } else {
            load_check_clean(a, node->ino);
        }
        if ((!close || node->nlink > 0) && !node->vague) {
            all_synced(a, node, seq);
        }
    }
    if (close) {
        hf_fs_release(file);
        h->file = NULL;
        tree_sweep(t);
    }
    return true;
}

static uint64_t draw_size(struct actor *a)
{
    uint64_t draw = tree_below(a, 100);

    return draw < 60   ? tree_below(a, 8u << 10)
           : draw < 93 ? tree_below(a, 128u << 10)
           : draw < 98 ? tree_below(a, 1u << 20)
                       : WRITE_BYTES_MAX;
}

static bool has_no_news(const struct tree_handle *h)
{
    return h->file->err_seen == h->file->inode->err_seq;
}

/* Everything that this client has written. An error that came before is told by its file's fsync.
 */
static bool sync_all(struct actor *a, struct tree *t)
{
    uint64_t seqs[TREE_HANDLES] = {0}, begun_ns = sim_now(a->s);
    int err;

    for (int i = 0; i < TREE_HANDLES; i++) {
        const struct tree_handle *h = &t->handles[i];
        const struct shape_node *node = &t->shape.nodes[h->node];

        if (h->file && has_no_news(h) && !node->must_report && !node->vague) {
            seqs[i] = contents_seq(t->shape.nodes[h->node].contents);
        }
    }
    err = DO(a, hf_fs_sync(a->fs, (struct hf_ino){0}, true, &a->req));
    sim_trace(a->s, "client %u: sync: %s", a->client->number, hf_err_name(err));
    if (load_is_lost(a, err)) {
        return false;
    }
    /* What a full disk refused is told as EIO here, and as ENOSPC by the file's own fsync. */
    if (err && !(err == -EIO && load_met_full(a->s, begun_ns))) {
        sim_fail(a->s, "I1", "client %u: sync: %s", a->client->number, hf_err_name(err));
    }
    for (int i = 0; !err && i < TREE_HANDLES; i++) {
        struct shape_node *node = &t->shape.nodes[t->handles[i].node];

        if (seqs[i]) {
            load_check_clean(a, node->ino);
            all_synced(a, node, seqs[i]);
        }
    }
    if (!err) {
        sim_synced(a->client);
    }
    return !a->s->failed;
}

static bool write_some(struct actor *a, struct tree *t, struct tree_handle *h, uint64_t len)
{
    struct shape_node *node = &t->shape.nodes[h->node];
    bool through = tree_below(a, 20) == 0, was_clean = contents_is_synced(node->contents);
    uint64_t size = contents_size(node->contents);
    uint64_t off = tree_below(a, 100) < 40 ? size : tree_below(a, size + 4096);
    uint64_t tag = ++t->tag * 16 + a->client->number;
    uint8_t *bytes;
    int err;

    if (off + len > FILE_BYTES_MAX) {
        off = 0;
    }
    len = len > WRITE_BYTES_MAX ? WRITE_BYTES_MAX : len;
    if (tree_below(a, 3) == 0) { /* whole blocks, as the kernel's cache writes them */
        off &= ~UINT64_C(4095);
        len = (len + 4095) & ~UINT64_C(4095);
        len = len > WRITE_BYTES_MAX ? WRITE_BYTES_MAX : len;
    }
    bytes = malloc(len);
    HF_ASSERT(bytes != NULL);
    contents_pattern(tag, off, bytes, len);
    contents_write(node->contents, tag, off, len); /* from here on it may be seen */
    err = DO(a, hf_fs_write(h->file, off, bytes, (uint32_t)len, NULL,
                            through ? HF_FS_WRITE_THROUGH : 0, &a->req));
    free(bytes);
    trace_data(a, through ? "write through" : "write", node, off, len, err);
    if (!err && through && was_clean && has_no_news(h) && !node->vague) {
        load_check_clean(a, node->ino);
        all_synced(a, node, contents_seq(node->contents));
    }
    return !err || data_error(a, t, h, "write", err);
}

static bool truncate_some(struct actor *a, struct tree *t, struct tree_handle *h)
{
    struct shape_node *node = &t->shape.nodes[h->node];
    struct hf_fs_set set = {.mask = HF_SET_SIZE,
                            .size = tree_below(a, contents_size(node->contents) + 8192)};
    int err;

    contents_truncate(node->contents, set.size);
    err = DO(a, hf_fs_setattr(a->fs, node->ino, &set, &a->req));
    trace_data(a, "truncate", node, set.size, 0, err);
    return !err || data_error(a, t, h, "truncate", err);
}

/* Holes, zeros with space, space alone. */
static bool space_some(struct actor *a, struct tree *t, struct tree_handle *h)
{
    static const struct {
        const char *name;
        uint32_t mode;
    } modes[] = {{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
                 {"zero", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE},
                 {"allocate", FALLOC_FL_KEEP_SIZE}};
    struct shape_node *node = &t->shape.nodes[h->node];
    uint64_t off = tree_below(a, contents_size(node->contents) + 1), len = draw_size(a) + 1;
    uint32_t m = (uint32_t)tree_below(a, HF_ARRAY_LEN(modes));
    int err;

    if (modes[m].mode != FALLOC_FL_KEEP_SIZE) {
        contents_punch(node->contents, off, len);
    }
    err = DO(a, hf_fs_fallocate(h->file, modes[m].mode, off, len, &a->req));
    trace_data(a, modes[m].name, node, off, len, err);
    return !err || data_error(a, t, h, modes[m].name, err);
}

static bool read_some(struct actor *a, struct tree *t, struct tree_handle *h)
{
    struct shape_node *node = &t->shape.nodes[h->node];
    uint64_t size = contents_size(node->contents);
    uint64_t off = tree_below(a, size + 1), len = draw_size(a);
    uint64_t want = off + len > size ? size - off : len;
    int64_t at;
    int err = DO(a, hf_fs_read(h->file, off, (uint32_t)len, &a->req));

    if (err) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I1", "client %u: read of node %d: %s", a->client->number, h->node,
                     hf_err_name(err));
        }
        return false;
    }
    a->s->counts.reads++;
    a->s->counts.bytes_checked += want;
    at = contents_is(node->contents, off, a->data, a->data_len);
    at = at < 0 && a->data_len < want ? (int64_t)(off + a->data_len) : at;
    trace_data(a, at >= 0 ? "other read of" : "read of", node, off, a->data_len, err);
    if (at >= 0 && node->vague) {
        return tree_reread(a, node, h->file, contents_adopt) == 0;
    }
    if (at >= 0 && may_be_dropped(a, node)) {
        node->must_report = true;
        return tree_reread(a, node, h->file, contents_see) == 0;
    }
    return !tree_wrong_bytes(a, "I2", node, at, a->data_len);
}

/* What was told of a file's bytes is not so. False: lost or failed. */
static bool told_wrong(struct actor *a, struct tree_handle *h, struct shape_node *node, int64_t at)
{
    if (may_be_dropped(a, node)) {
        node->must_report = true;
        return tree_reread(a, node, h->file, contents_see) == 0;
    }
    return !tree_wrong_bytes(a, "I2", node, at, contents_size(node->contents));
}

static int seek(struct actor *a, struct tree_handle *h, const struct shape_node *node, uint64_t off,
                int whence)
{
    int err = DO(a, hf_fs_lseek(h->file, off, whence, &a->req));

    trace_data(a, whence == SEEK_DATA ? "seek data in" : "seek hole in", node, off,
               err ? 0 : a->count - off, err);
    if (!err && (a->count < off || a->count > contents_size(node->contents))) {
        sim_wrong(a->s, "I2",
                  "client %u: inode %" PRIu64 ": a seek from %" PRIu64 " ends at %" PRIu64
                  ", of %" PRIu64,
                  a->client->number, node->ino.v, off, a->count, contents_size(node->contents));
        return -ECANCELED;
    }
    if (err && err != -ENXIO && !load_is_lost(a, err)) {
        sim_fail(a->s, "I1", "client %u: seek in inode %" PRIu64 ": %s", a->client->number,
                 node->ino.v, hf_err_name(err));
    }
    return err;
}

/*
 * Nothing but zeros lies between a place and the next data. A hole reaches to the next data; there
 * is one at the end of each file. (What was never written may be told as data.)
 */
static bool seek_some(struct actor *a, struct tree *t, struct tree_handle *h)
{
    struct shape_node *node = &t->shape.nodes[h->node];
    uint64_t size = contents_size(node->contents), off = tree_below(a, size + 1), end = size;
    bool holes = tree_below(a, 2);
    int64_t at;
    int err;

    if (node->vague) {
        return true;
    }
    if (holes) {
        err = seek(a, h, node, off, SEEK_HOLE);
        if (err == -ENXIO && off < size && may_be_dropped(a, node)) {
            return told_wrong(a, h, node, (int64_t)off); /* its end may be among what was dropped */
        }
        if (err == -ENXIO ? off < size : !err && off >= size) {
            sim_wrong(a->s, "I2", "client %u: inode %" PRIu64 ", hole at or behind %" PRIu64 ": %s",
                      a->client->number, node->ino.v, off, hf_err_name(err));
        }
        if (err || a->s->failed) {
            return err == -ENXIO && !a->s->failed;
        }
        off = a->count;
    }
    err = seek(a, h, node, off, SEEK_DATA);
    if (err && err != -ENXIO) {
        return false;
    }
    end = err ? size : a->count;
    at = contents_is_hole(node->contents, off, end);
    at = at < 0 && holes && end == off && off < size ? (int64_t)off : at;
    return at < 0 || told_wrong(a, h, node, at);
}

/* Extents are shared; where that cannot be, nothing happens. */
static bool copy_some(struct actor *a, struct tree *t, struct tree_handle *h)
{
    struct tree_handle *to = &t->handles[tree_below(a, TREE_HANDLES)];
    struct shape_node *from_node = &t->shape.nodes[h->node], *node = &t->shape.nodes[to->node];
    uint64_t size = contents_size(from_node->contents), off = tree_below(a, size + 1), to_off, len;
    int err;

    if (!to->file || from_node->vague || from_node->must_report || may_be_dropped(a, from_node)) {
        return true; /* what the source has lost, and told to nobody, would be told of the target */
    }
    to_off = tree_below(a, contents_size(node->contents) + 4096);
    len = draw_size(a) + 1;
    if (tree_below(a, 3) == 0) {
        off &= ~UINT64_C(4095);
        to_off &= ~UINT64_C(4095);
    }
    len = len < size - off ? len : size - off;
    if (to_off + len > FILE_BYTES_MAX ||
        (to->node == h->node && off < to_off + len && to_off < off + len)) {
        return true;
    }
    if (len > 0) {
        contents_copy(node->contents, to_off, from_node->contents, off, len);
    }
    err = DO(a, hf_fs_copy(h->file, off, to->file, to_off, len ? len : 1, &a->req));
    trace_data(a, "copy from", from_node, off, len, err);
    trace_data(a, "copy to", node, to_off, len, err);
    if (err) {
        return (err == -EOPNOTSUPP ? tree_reread(a, node, to->file, contents_see) == 0
                                   : data_error(a, t, to, "copy", err)) &&
               tree_reread(a, from_node, h->file, contents_see) == 0;
    }
    if (a->count != len) {
        sim_wrong(a->s, "I2",
                  "client %u: %" PRIu64 " bytes of inode %" PRIu64 " copied, of %" PRIu64,
                  a->client->number, a->count, from_node->ino.v, len);
    }
    return !a->s->failed;
}

/* Flushes of one file in company. */
static bool write_in_a_hurry(struct actor *a, struct tree *t, struct tree_handle *h)
{
    bool go_on = true;

    for (uint64_t count = 2 + tree_below(a, 6); go_on && count > 0; count--) {
        go_on = write_some(a, t, h, draw_size(a) + 1);
    }
    return go_on;
}

/* As a database does: small, each one synced, more than a window takes inline. */
static bool write_and_sync(struct actor *a, struct tree *t, struct tree_handle *h)
{
    bool go_on = true;

    for (uint64_t count = 20 + tree_below(a, 60); go_on && h->file && count > 0; count--) {
        go_on = write_some(a, t, h, tree_below(a, 5000) + 1) && tree_sync_handle(a, t, h, false);
    }
    return go_on;
}

bool tree_change_contents(struct actor *a, struct tree *t)
{
    struct tree_handle *h = any_handle(a, t);
    uint64_t draw = tree_below(a, 100);

    if (!h) {
        return a->client->state == CLIENT_SERVING && !a->s->failed;
    }
    if (draw < 45) {
        return draw == 0  ? write_and_sync(a, t, h)
               : draw < 9 ? write_in_a_hurry(a, t, h)
                          : write_some(a, t, h, draw_size(a) + 1);
    }
    if (draw < 61) {
        return read_some(a, t, h);
    }
    if (draw < 65) {
        return draw < 63 ? seek_some(a, t, h) : copy_some(a, t, h);
    }
    if (draw < 72) {
        return truncate_some(a, t, h);
    }
    if (draw < 76) {
        return space_some(a, t, h);
    }
    return draw < 82 ? sync_all(a, t) : tree_sync_handle(a, t, h, draw >= 90);
}
