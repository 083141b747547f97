/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/raw.h"

#include <assert.h>
#include <string.h>

#include <linux/fuse.h>

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

/* FUSE_TMPFILE and FUSE_STATX: newer than the oldest headers that this is built with. */

#define OPCODE_TMPFILE 51u
#define OPCODE_STATX   52u
#define STATX_IN_BYTES 24u                 /* struct fuse_getattr_in, then flags and mask */
#define STATX_MARK     (UINT64_C(1) << 63) /* in the number of a request that was a STATX */
#define STATX_HAS      0xfffu              /* STATX_BASIC_STATS | STATX_BTIME */

struct statx_time {
    int64_t sec;
    uint32_t nsec, reserved;
};

struct statx_out {
    uint64_t valid_sec;
    uint32_t valid_nsec, flags;
    uint64_t spare[2];
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare_mode;
    uint64_t ino, size, blocks, attributes_mask;
    struct statx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spare_end[14];
};

static_assert(sizeof(struct statx_out) == sizeof(((struct hf_raw *)0)->statx_out),
              "as the kernel has it");

static size_t statx_request(struct fuse_in_header in, void *data, size_t len)
{
    len -= STATX_IN_BYTES - sizeof(struct fuse_getattr_in);
    in.len = (uint32_t)len;
    in.opcode = FUSE_GETATTR;
    in.unique |= STATX_MARK;
    memcpy(data, &in, sizeof(in));
    return len;
}

/* @iov: of a reply to GETATTR, which a marked number makes one to STATX. */
static void statx_reply(struct hf_raw *raw, struct iovec *iov, int count)
{
    struct fuse_out_header *out = iov[0].iov_base;
    struct fuse_attr_out a;
    struct statx_out x = {.mask = STATX_HAS};

    out->unique &= ~STATX_MARK;
    if (out->error || count < 2 || iov[1].iov_len < sizeof(a)) {
        return;
    }
    memcpy(&a, iov[1].iov_base, sizeof(a));
    x.valid_sec = a.attr_valid;
    x.valid_nsec = a.attr_valid_nsec;
    x.blksize = a.attr.blksize;
    x.nlink = a.attr.nlink;
    x.uid = a.attr.uid;
    x.gid = a.attr.gid;
    x.mode = (uint16_t)a.attr.mode;
    x.ino = a.attr.ino;
    x.size = a.attr.size;
    x.blocks = a.attr.blocks;
    x.atime = (struct statx_time){.sec = (int64_t)a.attr.atime, .nsec = a.attr.atimensec};
    x.mtime = (struct statx_time){.sec = (int64_t)a.attr.mtime, .nsec = a.attr.mtimensec};
    x.ctime = (struct statx_time){.sec = (int64_t)a.attr.ctime, .nsec = a.attr.ctimensec};
    x.btime = (struct statx_time){.sec = raw->btime.tv_sec, .nsec = (uint32_t)raw->btime.tv_nsec};
    x.rdev_major = a.attr.rdev >> 8 & 0xfff;
    x.rdev_minor = (a.attr.rdev & 0xff) | (a.attr.rdev >> 12 & 0xfff00);
    memcpy(raw->statx_out, &x, sizeof(x));
    iov[1] = (struct iovec){.iov_base = raw->statx_out, .iov_len = sizeof(x)};
    out->len = (uint32_t)(sizeof(*out) + sizeof(x));
}

/* Returns the length of what is left: the request as it was before there were flags in it. */
static size_t setxattr_request(struct hf_raw *raw, struct fuse_in_header in, void *data, size_t len)
{
    uint8_t *body = (uint8_t *)data + sizeof(in);
    size_t rest = len - sizeof(in) - sizeof(struct fuse_setxattr_in);
    struct fuse_setxattr_in x;

    memcpy(&x, body, sizeof(x));
    raw->kill = x.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
    memmove(body + FUSE_COMPAT_SETXATTR_IN_SIZE, body + sizeof(x), rest);
    len -= sizeof(x) - FUSE_COMPAT_SETXATTR_IN_SIZE;
    in.len = (uint32_t)len;
    memcpy(data, &in, sizeof(in));
    return len;
}

size_t hf_raw_request(struct hf_raw *raw, void *data, size_t len)
{
    const uint8_t *body = (const uint8_t *)data + sizeof(struct fuse_in_header);
    const size_t len_bytes = len;
    struct fuse_in_header in;

    raw->kill = false;
    raw->tmpfile = false;
    if (len < sizeof(in)) {
        return len;
    }
    memcpy(&in, data, sizeof(in));
    len -= sizeof(in);
    if (in.opcode == FUSE_WRITE && len >= sizeof(struct fuse_write_in)) {
        struct fuse_write_in w;

        memcpy(&w, body, sizeof(w));
        raw->kill = raw->killpriv && (w.write_flags & FUSE_WRITE_KILL_SUIDGID);
    } else if (in.opcode == FUSE_SETATTR && len >= sizeof(struct fuse_setattr_in)) {
        struct fuse_setattr_in s;

        memcpy(&s, body, sizeof(s));
        raw->kill = raw->killpriv && (s.valid & FATTR_KILL_SUIDGID);
    } else if (in.opcode == FUSE_OPEN && len >= sizeof(struct fuse_open_in)) {
        struct fuse_open_in o;

        memcpy(&o, body, sizeof(o));
        raw->kill = raw->killpriv && (o.open_flags & FUSE_OPEN_KILL_SUIDGID);
    } else if (in.opcode == FUSE_SETXATTR && raw->setxattr_ext &&
               len >= sizeof(struct fuse_setxattr_in)) {
        return setxattr_request(raw, in, data, len_bytes);
    } else if (in.opcode == OPCODE_TMPFILE) {
        raw->tmpfile = true;
        in.opcode = FUSE_CREATE;
        memcpy(data, &in, sizeof(in));
    } else if (in.opcode == OPCODE_STATX && len >= STATX_IN_BYTES) {
        return statx_request(in, data, len_bytes);
    } else if (in.opcode == FUSE_INIT && len >= 16) {
        struct fuse_init_in init = {0};

        memcpy(&init, body, len < sizeof(init) ? len : sizeof(init));
        raw->init_unique = in.unique;
        raw->init_flags = init.flags;
        raw->init_flags2 = init.flags & FUSE_INIT_EXT ? init.flags2 : 0;
    }
    return len_bytes;
}

void hf_raw_reply(struct hf_raw *raw, struct iovec *iov, int iov_count)
{
    struct fuse_out_header out;
    struct fuse_init_out init;

    if (iov_count < 1 || iov[0].iov_len < sizeof(out)) {
        return;
    }
    memcpy(&out, iov[0].iov_base, sizeof(out));
    if (out.unique & STATX_MARK) {
        statx_reply(raw, iov, iov_count);
        return;
    }
    if (raw->init_unique == 0 || iov_count < 2 || out.unique != raw->init_unique) {
        return;
    }
    raw->init_unique = 0;
    if (out.error != 0 || iov[1].iov_len < sizeof(init)) {
        return;
    }
    memcpy(&init, iov[1].iov_base, sizeof(init));
    if (raw->init_flags & FUSE_HANDLE_KILLPRIV_V2) {
        init.flags |= FUSE_HANDLE_KILLPRIV_V2;
        raw->killpriv = true;
    }
    if (raw->init_flags & FUSE_SETXATTR_EXT) {
        init.flags |= FUSE_SETXATTR_EXT;
        raw->setxattr_ext = true;
    }
    if ((raw->init_flags & FUSE_INIT_EXT) &&
        (raw->init_flags2 & (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32))) {
        init.flags |= FUSE_INIT_EXT;
        init.flags2 |= (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32);
    }
    memcpy(iov[1].iov_base, &init, sizeof(init));
}
