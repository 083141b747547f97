/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/fs/fs_impl.h"

/* Asked for at once; what was asked for in vain is followed by more, up to all there can be. */
#define SEEK_WINDOWS_FIRST 64u
#define SEEK_WINDOWS_MORE  64u

/* Where data is, seen from *pos: extents told for up to @told, and what is dirty here. */
struct view {
    const struct hf_extent *v;
    uint32_t count;
    const struct hf_dirty *dirty;
    uint64_t size;
};

static uint64_t first_data(const struct view *view, uint64_t pos)
{
    uint64_t found = hf_dirty_next(view->dirty, pos);

    for (uint32_t i = 0; i < view->count; i++) {
        const struct hf_extent *e = &view->v[i];

        if (e->off_bytes + e->len_bytes > pos) {
            uint64_t at = e->off_bytes > pos ? e->off_bytes : pos;

            return at < found ? at : found;
        }
    }
    return found;
}

static uint64_t data_end(const struct view *view, uint64_t pos)
{
    for (uint32_t i = 0;;) {
        uint64_t next = hf_dirty_run_end(view->dirty, pos);

        for (; i < view->count && view->v[i].off_bytes <= next; i++) {
            uint64_t end = view->v[i].off_bytes + view->v[i].len_bytes;

            next = end > next ? end : next;
        }
        if (next == pos) {
            return pos;
        }
        pos = next;
    }
}

static int seek_ask(struct hf_fs_req *req);

/* Found, -ENXIO, or ask on from req->off2_bytes. */
static int seek_look(struct hf_fs_req *req, const struct view *view, uint64_t told)
{
    uint64_t pos = req->off2_bytes;

    if (pos >= view->size) {
        req->count = view->size;
        return req->mode == SEEK_HOLE && pos > req->off_bytes ? 0 : -ENXIO;
    }
    if (req->mode == SEEK_DATA) {
        pos = first_data(view, pos);
        if (pos >= view->size && told >= view->size) {
            return -ENXIO;
        }
    } else {
        pos = data_end(view, pos);
        pos = pos < view->size ? pos : view->size;
    }
    if (pos < told || pos == view->size) {
        req->count = pos;
        return 0;
    }
    req->off2_bytes = req->mode == SEEK_DATA ? told : pos;
    return seek_ask(req);
}

static int seek_told(struct hf_fs_req *req, const struct hf_meta_reply *reply)
{
    const struct hf_dirty *dirty = &req->inode->dirty;
    struct view view = {.dirty = dirty, .size = reply->attr.size};
    struct hf_extent *v = NULL;
    const uint8_t *inline_data;
    size_t inline_len;
    uint64_t told = req->len_bytes;
    int err = reply->err;

    if (!err && reply->bulk_len > 0) {
        err = hf_extents_decode(reply->bulk, reply->bulk_len, &v, &view.count, &inline_data,
                                &inline_len);
    }
    if (err) {
        return err;
    }
    if (reply->next_cookie > req->off2_bytes && reply->next_cookie < told) {
        told = reply->next_cookie;
    }
    view.v = v;
    view.size = hf_dirty_end(dirty) > view.size ? hf_dirty_end(dirty) : view.size;
    err = seek_look(req, &view, told);
    free(v);
    return err;
}

static int seek_ask(struct hf_fs_req *req)
{
    uint64_t off = req->off2_bytes / HF_WINDOW_BYTES * HF_WINDOW_BYTES;
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS,
                              .ino = req->inode->ino,
                              .offset = off,
                              .length = (uint64_t)req->state * HF_WINDOW_BYTES};

    req->len_bytes = off + rd.length;
    req->state = req->state < HF_FILE_BYTES_MAX / HF_WINDOW_BYTES ? req->state * SEEK_WINDOWS_MORE
                                                                  : req->state;
    req->after = seek_told;
    return hf_fs_look(req->fs, &rd, req);
}

int hf_fs_lseek(struct hf_fs_file *file, uint64_t off, int whence, struct hf_fs_req *req)
{
    hf_fs_begin(file->fs, req);
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return -EINVAL;
    }
    req->mode = (uint32_t)whence;
    req->off_bytes = req->off2_bytes = off;
    req->state = SEEK_WINDOWS_FIRST;
    hf_fs_hold(req, hf_fs_inode_ref(file->inode));
    return seek_ask(req);
}
