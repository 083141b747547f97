/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relocate.c - small synced writes leave the metadata: inline bytes are packed into one object.
 *
 *     noted ──enough, or a while──► read the extents of each file ──► one object ──► RELOCATE
 *
 * A commit of inline bytes costs one round trip, but the metadata is no place for data. What this
 * mount committed inline is gathered in the background, many files in one object, and put on the
 * stores. The commit names the digest of the bytes that it replaces: where something else was
 * written meanwhile, by whomever, it changes nothing. A failure anywhere leaves the bytes inline,
 * where they are safe, and they are noted again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"

#define INODE_BYTES  (64u << 10) /* one file's: at once, well before its window refuses more */
#define TOTAL_BYTES  (4u << 20)  /* all files' */
#define INODES_MAX   256u
#define EXTENTS_MAX  HF_COMMIT_EXTENTS_MAX
#define OBJECT_BYTES (1u << 20)

struct hf_relocation {
    struct hf_fs *fs;
    bool dead; /* the file system is gone: free it when the call ends */
    struct hf_meta_call call;
    struct hf_io_put put;
    struct hf_inode *inodes[INODES_MAX]; /* a reference each */
    uint64_t from[INODES_MAX], end[INODES_MAX];
    uint32_t inode_count, next;
    struct hf_wr_extent extents[EXTENTS_MAX];
    uint32_t extent_count;
    uint32_t bytes;
    uint8_t data[OBJECT_BYTES];
};

static void start(struct hf_fs *fs);

static void relocation_end(struct hf_relocation *r, int err)
{
    struct hf_fs *fs = r->fs;

    if (r->dead) {
        free(r);
        return;
    }
    fs->relocation = NULL;
    fs->calls--;
    for (uint32_t i = 0; i < r->inode_count; i++) {
        if (err && err != -ENOENT && err != -EROFS && !fs->lost) { /* later, with what has come */
            hf_relocate_note(fs, r->inodes[i], r->from[i], r->end[i], 1);
        }
        hf_fs_inode_unref(fs, r->inodes[i]);
    }
    free(r);
    if (!err && fs->inline_bytes >= TOTAL_BYTES) {
        start(fs);
    } else if (!TAILQ_EMPTY(&fs->inline_inodes) && !fs->relocate_timer.armed) {
        hf_timer_arm(&fs->relocate_timer, fs->dirty_max_age_ns);
    }
}

static void relocated(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_relocation *r = call->ctx;

    for (uint32_t i = 0; i < r->inode_count && reply->err == 0 && !r->dead; i++) {
        r->inodes[i]->no_inline = 0;
    }
    relocation_end(r, reply->err);
}

static void durable(struct hf_io_put *put, int err)
{
    struct hf_relocation *r = put->ctx;
    struct hf_wr_object object = {.oid = put->oid,
                                  .len_bytes = put->len_bytes,
                                  .digest = put->digest,
                                  .holders = put->holders,
                                  .epoch = put->epoch};
    struct hf_meta_op op = {
        .op = HF_OP_RELOCATE,
        .objects = &object,
        .object_count = 1,
        .extents = r->extents,
        .extent_count = r->extent_count,
    };

    if (err || r->dead || r->fs->lost) {
        relocation_end(r, err ? err : -HF_EFENCED);
        return;
    }
    r->call.done = relocated;
    r->call.ctx = r;
    hf_session_op(r->fs->session, &op, &r->call);
}

static void put_object(struct hf_relocation *r)
{
    struct iovec iov = {.iov_base = r->data, .iov_len = r->bytes};

    if (r->bytes == 0) {
        relocation_end(r, 0); /* all of it was written over or is gone */
        return;
    }
    r->put.done = durable;
    r->put.ctx = r;
    hf_io_put_begin(r->fs->io, &r->put);
    hf_io_put_append(&r->put, &iov, 1);
    hf_io_put_finish(&r->put);
}

/* Take what is inline in [from, end). False: the object or the commit is full. */
static bool take(struct hf_relocation *r, uint32_t index, const struct hf_extent *v, uint32_t count,
                 const uint8_t *bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t off = v[i].off_bytes, end = off + v[i].len_bytes;
        uint32_t pos = v[i].pos_bytes;

        if (v[i].oid.session != 0 || end <= r->from[index] || off >= r->end[index]) {
            continue;
        }
        if (r->extent_count == EXTENTS_MAX || r->bytes + v[i].len_bytes > OBJECT_BYTES) {
            return false;
        }
        memcpy(r->data + r->bytes, bytes + pos, v[i].len_bytes);
        r->extents[r->extent_count++] = (struct hf_wr_extent){
            .ino = r->inodes[index]->ino,
            .off_bytes = off,
            .len_bytes = v[i].len_bytes,
            .object = 0,
            .pos_bytes = r->bytes,
            .digest = hf_hash64(bytes + pos, v[i].len_bytes, 0),
        };
        r->bytes += v[i].len_bytes;
    }
    return true;
}

static void read_next(struct hf_relocation *r);

static void have_extents(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_relocation *r = call->ctx;
    uint32_t index = r->next, count = 0;
    struct hf_extent *v = NULL;
    const uint8_t *bytes;
    size_t bytes_len;
    int err = reply->err;

    if (r->dead || r->fs->lost || err == -HF_EFENCED) {
        relocation_end(r, -HF_EFENCED);
        return;
    }
    if (!err) {
        err = hf_extents_decode(reply->bulk, reply->bulk_len, &v, &count, &bytes, &bytes_len);
    }
    if (!err && take(r, index, v, count, bytes)) {
        uint64_t stop = reply->next_cookie;

        r->next++;
        if (stop > r->from[index] && stop < r->end[index] && stop < reply->attr.size) {
            hf_relocate_note(r->fs, r->inodes[index], stop, r->end[index], 1); /* the rest later */
        }
    } else if (!err) { /* full: this one, and those behind it, in the next object */
        for (; r->inode_count > index; r->inode_count--) {
            uint32_t last = r->inode_count - 1;

            hf_relocate_note(r->fs, r->inodes[last], r->from[last], r->end[last], 1);
            hf_fs_inode_unref(r->fs, r->inodes[last]);
        }
    } else {
        r->next++; /* gone, or unreadable: it stays as it is */
    }
    free(v);
    read_next(r);
}

static void read_next(struct hf_relocation *r)
{
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS};

    if (r->next == r->inode_count) {
        put_object(r);
        return;
    }
    rd.ino = r->inodes[r->next]->ino;
    rd.offset = r->from[r->next];
    rd.length = r->end[r->next] - r->from[r->next];
    r->call.done = have_extents;
    r->call.ctx = r;
    hf_session_read(r->fs->session, &rd, &r->call);
}

static void start(struct hf_fs *fs)
{
    struct hf_relocation *r;
    struct hf_inode *inode;

    if (fs->relocation || fs->lost || TAILQ_EMPTY(&fs->inline_inodes)) {
        return;
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        return; /* they stay inline until the next commit comes by */
    }
    r->fs = fs;
    fs->relocation = r;
    fs->calls++;
    while (r->inode_count < INODES_MAX && (inode = TAILQ_FIRST(&fs->inline_inodes)) != NULL) {
        TAILQ_REMOVE(&fs->inline_inodes, inode, in_inline);
        fs->inline_bytes -= inode->inline_bytes;
        inode->inline_bytes = 0;
        r->from[r->inode_count] = inode->inline_from;
        r->end[r->inode_count] = inode->inline_end;
        r->inodes[r->inode_count++] = inode; /* the list's reference */
    }
    read_next(r);
}

static void timer(void *ctx)
{
    start(ctx);
}

void hf_relocate_note(struct hf_fs *fs, struct hf_inode *inode, uint64_t off, uint64_t end,
                      uint32_t bytes)
{
    if (inode->inline_bytes == 0) {
        inode->inline_from = off;
        inode->inline_end = end;
        hf_fs_inode_ref(inode);
        TAILQ_INSERT_TAIL(&fs->inline_inodes, inode, in_inline);
    }
    inode->inline_from = off < inode->inline_from ? off : inode->inline_from;
    inode->inline_end = end > inode->inline_end ? end : inode->inline_end;
    inode->inline_bytes += bytes;
    fs->inline_bytes += bytes;
    if (!fs->relocate_timer.env) {
        hf_timer_init(&fs->relocate_timer, fs->env, timer, fs);
    }
    if (inode->inline_bytes >= INODE_BYTES || fs->inline_bytes >= TOTAL_BYTES) {
        start(fs);
    } else if (!fs->relocate_timer.armed) {
        hf_timer_arm(&fs->relocate_timer, fs->dirty_max_age_ns);
    }
}

void hf_relocate_fini(struct hf_fs *fs)
{
    struct hf_inode *inode;

    hf_timer_fini(&fs->relocate_timer);
    if (fs->relocation) {
        for (uint32_t i = 0; i < fs->relocation->inode_count; i++) {
            hf_fs_inode_unref(fs, fs->relocation->inodes[i]);
        }
        fs->relocation->dead = true;
        fs->relocation = NULL;
        fs->calls--;
    }
    while ((inode = TAILQ_FIRST(&fs->inline_inodes)) != NULL) {
        TAILQ_REMOVE(&fs->inline_inodes, inode, in_inline);
        inode->inline_bytes = 0;
        hf_fs_inode_unref(fs, inode);
    }
}
