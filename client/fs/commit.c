/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - a durable flush becomes one operation, in the order of its files' parts.
 */
#include <string.h>

#include "client/fs/fs_impl.h"
#include "common/base/assert.h"
#include "common/base/bugs.h"

/* May it submit: is every earlier part of each of its inodes in the stream? While a window is read
 * and written again, what is committed here must stay what was read. */
static bool in_order(const struct hf_flush *flush)
{
    for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
        const struct hf_flush_part *prev = TAILQ_PREV(part, hf_part_list, in_inode);

        if (part->inode->compact || (part->append && hf_append_waits(part))) {
            return false;
        }
        if (prev && !prev->submitted && !HF_BUG(commit_out_of_order)) {
            return false;
        }
    }
    return true;
}

/* Fills the scratch extents; returns their count. */
static uint32_t commit_extents(struct hf_flush *flush, uint32_t object)
{
    struct hf_wr_extent *v = flush->fs->commit_extents;
    uint32_t n = 0, pos = 0;

    for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
        for (uint32_t i = part->piece_from; i < part->piece_to; i++) {
            const struct hf_piece *p = &flush->pieces.v[i];
            struct hf_wr_extent *last = n ? &v[n - 1] : NULL;

            if (last && i > part->piece_from && p->off_bytes % HF_WINDOW_BYTES != 0 &&
                last->off_bytes + last->len_bytes == p->off_bytes) {
                last->len_bytes += p->len_bytes;
            } else {
                HF_ASSERT(n < HF_COMMIT_EXTENTS_MAX);
                v[n++] = (struct hf_wr_extent){.ino = part->inode->ino,
                                               .off_bytes = p->off_bytes,
                                               .len_bytes = p->len_bytes,
                                               .object = object,
                                               .pos_bytes = pos};
            }
            if (object == HF_EXTENT_INLINE) {
                memcpy(flush->fs->commit_bulk + pos, hf_slab_at(p->slab, p->pos_bytes),
                       p->len_bytes);
            }
            pos += p->len_bytes;
        }
    }
    return n;
}

static void committed(struct hf_meta_call *call, const struct hf_meta_reply *reply)
{
    struct hf_flush *flush = call->ctx;

    if (reply->err == 0) {
        for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
            hf_fs_inode_own_version(part->inode,
                                    part == flush->parts ? reply->attr.data_version : 0);
        }
        hf_fs_inode_own_told(flush->parts->inode, reply->attr.data_version);
        if (flush->parts->append) {
            hf_append_placed(flush->parts, &reply->attr);
        }
        if (flush->kind == HF_FLUSH_INLINE) {
            const struct hf_flush_part *part = flush->parts;
            uint64_t from = part->append ? part->end - flush->bytes : flush->pieces.v[0].off_bytes;

            hf_relocate_note(flush->fs, part->inode, from, part->end, flush->bytes);
        }
    } else if (flush->parts->append) {
        hf_append_refused(flush->parts, &reply->attr);
    }
    hf_flush_end(flush, reply->err);
}

/* The ctime that the commit asks for. The one that was told is that of the last commit: what comes
 * before must leave it something to change. */
static uint64_t told_ctime(const struct hf_flush_part *part)
{
    const struct hf_inode *inode = part->inode;
    bool last = inode->dirty.dirty_bytes == 0 && !TAILQ_NEXT(part, in_inode);

    return inode->told_ctime_ns == 0 || last ? inode->told_ctime_ns : HF_CTIME_NEXT;
}

static void submit(struct hf_flush *flush)
{
    struct hf_fs *fs = flush->fs;
    bool is_inline = flush->kind == HF_FLUSH_INLINE;
    struct hf_wr_object object = {.oid = flush->put.oid,
                                  .len_bytes = flush->put.len_bytes,
                                  .digest = flush->put.digest,
                                  .holders = flush->put.holders,
                                  .epoch = flush->put.epoch};
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .objects = is_inline ? NULL : &object,
        .object_count = is_inline ? 0 : 1,
        .extents = fs->commit_extents,
        .extent_count = commit_extents(flush, is_inline ? HF_EXTENT_INLINE : 0),
        .inodes = fs->commit_inodes,
        .bulk = is_inline ? fs->commit_bulk : NULL,
        .bulk_len = is_inline ? flush->bytes : 0,
        .mask = flush->kill ? HF_SET_KILLPRIV : 0,
        .time_ns = hf_env_wall_ns(fs->env),
        .flags = flush->parts->append ? HF_WRITE_APPEND : 0,
        .offset = flush->parts->append ? flush->pieces.v[0].off_bytes : 0,
    };

    for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
        uint64_t told_ns = told_ctime(part);

        part->mtime_ns = part->inode->dirty_mtime_ns;
        part->ctime_ns = told_ns == 0 ? op.time_ns : told_ns == HF_CTIME_NEXT ? 0 : told_ns;
        part->submitted = true;
        fs->commit_inodes[op.inode_count++] = (struct hf_wr_inode){.ino = part->inode->ino,
                                                                   .size_min_bytes = part->end,
                                                                   .mtime_ns = part->mtime_ns,
                                                                   .ctime_ns = told_ns};
    }
    flush->state = HF_FLUSH_COMMITTING;
    flush->call.done = committed;
    flush->call.ctx = flush;
    fs->stats.commits++;
    fs->stats.inline_commits += is_inline;
    hf_session_op(fs->session, &op, &flush->call);
}

/* As far as order allows. */
void hf_flush_commit(struct hf_flush *first)
{
    struct hf_flush *work = first;

    first->work_next = NULL;
    while (work) {
        struct hf_flush *flush = work;

        work = flush->work_next;
        if (flush->state != HF_FLUSH_DURABLE || !in_order(flush)) {
            continue;
        }
        submit(flush);
        for (struct hf_flush_part *part = flush->parts; part; part = part->next) {
            struct hf_flush_part *next = TAILQ_NEXT(part, in_inode);

            if (next && next->flush->state == HF_FLUSH_DURABLE && next->flush != work) {
                bool listed = false;

                for (struct hf_flush *f = work; f && !listed; f = f->work_next) {
                    listed = f == next->flush;
                }
                if (!listed) {
                    next->flush->work_next = work;
                    work = next->flush;
                }
            }
        }
    }
}

void hf_flush_go(struct hf_inode *inode)
{
    const struct hf_flush_part *first = TAILQ_FIRST(&inode->parts);

    if (first && first->flush->state == HF_FLUSH_DURABLE) {
        hf_flush_commit(first->flush);
    }
}
