/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - READDIR and READDIRPLUS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fuse/call.h"
#include "common/base/bytes.h"

#define DOT_COOKIES 2u /* offsets of "." and ".." come before those of the entries */

struct listing {
    fuse_req_t freq;
    char *buf;
    size_t size, used;
    bool plus;
};

/* False: no room. */
static bool list_add(struct listing *l, const char *name, const struct fuse_entry_param *e,
                     uint64_t next)
{
    size_t n = l->plus ? fuse_add_direntry_plus(l->freq, l->buf + l->used, l->size - l->used, name,
                                                e, (off_t)next)
                       : fuse_add_direntry(l->freq, l->buf + l->used, l->size - l->used, name,
                                           &e->attr, (off_t)next);

    if (n > l->size - l->used) {
        return false;
    }
    l->used += n;
    return true;
}

static bool list_dots(struct listing *l, struct hf_ino ino, struct hf_ino parent, uint64_t from)
{
    struct fuse_entry_param dot = {.attr = {.st_ino = ino.v, .st_mode = S_IFDIR | 0755}};
    struct fuse_entry_param up = dot;

    up.attr.st_ino = parent.v ? parent.v : ino.v;
    return (from > 0 || list_add(l, ".", &dot, 1)) && (from > 1 || list_add(l, "..", &up, 2));
}

static bool list_entry(struct hf_fuse_call *call, struct listing *l, struct hf_dirent *d)
{
    struct fuse_entry_param e = {.attr = {.st_ino = d->ino.v, .st_mode = d->type}};
    char name[HF_NAME_MAX + 1];

    if (d->name_len > HF_NAME_MAX) {
        return true; /* nothing that could be shown */
    }
    memcpy(name, d->name, d->name_len);
    name[d->name_len] = '\0';
    if (l->plus && d->has_attr) {
        hf_fs_overlay(&call->req, &d->attr);
        e = hf_fuse_entry_of(call->fuse, &d->attr);
    }
    return list_add(l, name, &e, d->cookie + DOT_COOKIES);
}

static void reply_listing(struct hf_fuse_call *call)
{
    struct listing l = {.freq = call->freq, .size = call->size, .plus = call->fi.fh};
    struct hf_reader r = hf_reader_init(call->req.data, call->req.data_len);
    struct hf_dirent d;

    l.buf = malloc(l.size);
    if (!l.buf) {
        (void)fuse_reply_err(call->freq, ENOMEM);
        return;
    }
    if (list_dots(&l, call->ino, call->req.parent, call->off)) {
        while (hf_dirent_decode(&r, &d) == 0 && list_entry(call, &l, &d)) {
        }
    }
    (void)fuse_reply_buf(call->freq, l.buf, l.used);
    free(l.buf);
}

static void list(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
    struct hf_fuse_call *call = hf_fuse_call_new(freq, reply_listing);
    uint64_t cookie = off > (off_t)DOT_COOKIES ? (uint64_t)off - DOT_COOKIES : 0;

    if (!call) {
        return;
    }
    call->ino = ino_of(ino);
    call->size = size < HF_FUSE_REQUEST_BYTES ? size : HF_FUSE_REQUEST_BYTES;
    call->off = (uint64_t)off;
    call->fi.fh = plus;
    hf_fuse_call_end(call, hf_fs_readdir(call->fuse->fs, call->ino, cookie, (uint32_t)call->size,
                                         plus, &call->req));
}

void hf_fuse_op_readdir(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off,
                        struct fuse_file_info *fi)
{
    (void)fi;
    list(freq, ino, size, off, false);
}

void hf_fuse_op_readdirplus(fuse_req_t freq, fuse_ino_t ino, size_t size, off_t off,
                            struct fuse_file_info *fi)
{
    (void)fi;
    list(freq, ino, size, off, true);
}
