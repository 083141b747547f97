/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/raw.h"

#include <string.h>

#include <linux/fuse.h>

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

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
    } else if (in.opcode == FUSE_INIT && len >= 16) {
        struct fuse_init_in init = {0};

        memcpy(&init, body, len < sizeof(init) ? len : sizeof(init));
        raw->init_unique = in.unique;
        raw->init_flags = init.flags;
        raw->init_flags2 = init.flags & FUSE_INIT_EXT ? init.flags2 : 0;
    }
    return len_bytes;
}

void hf_raw_reply(struct hf_raw *raw, const struct iovec *iov, int iov_count)
{
    struct fuse_out_header out;
    struct fuse_init_out init;

    if (raw->init_unique == 0 || iov_count < 2 || iov[0].iov_len < sizeof(out)) {
        return;
    }
    memcpy(&out, iov[0].iov_base, sizeof(out));
    if (out.unique != raw->init_unique) {
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
