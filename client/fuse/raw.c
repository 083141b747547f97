/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/raw.h"

#include <string.h>

#include <linux/fuse.h>

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

void hf_raw_request(struct hf_raw *raw, const void *data, size_t len)
{
    const uint8_t *body = (const uint8_t *)data + sizeof(struct fuse_in_header);
    struct fuse_in_header in;

    raw->kill = false;
    if (len < sizeof(in)) {
        return;
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
    } else if (in.opcode == FUSE_INIT && len >= 16) {
        struct fuse_init_in init = {0};

        memcpy(&init, body, len < sizeof(init) ? len : sizeof(init));
        raw->init_unique = in.unique;
        raw->init_flags = init.flags;
        raw->init_flags2 = init.flags & FUSE_INIT_EXT ? init.flags2 : 0;
    }
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
    if ((raw->init_flags & FUSE_INIT_EXT) &&
        (raw->init_flags2 & (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32))) {
        init.flags |= FUSE_INIT_EXT;
        init.flags2 |= (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32);
    }
    memcpy(iov[1].iov_base, &init, sizeof(init));
}
