/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - what libfuse 3.14 does not show: bits of requests and of the INIT reply, as bytes.
 *
 * FUSE_HANDLE_KILLPRIV_V2 lets the file system clear suid, sgid and capabilities itself; without it
 * the kernel asks for security.capability before every write (PLATFORM.md section 3). libfuse 3.14
 * cannot ask for it, so the INIT reply is changed on its way out, and the flags that then come with
 * WRITE, SETATTR, OPEN and CREATE are read from the request before libfuse parses it.
 *
 * FUSE_TMPFILE (7.37) is laid out as CREATE: it becomes one, whose name means nothing.
 *
 * Likewise FUSE_SETXATTR_EXT: the kernel then says when an ACL takes S_ISGID away. The field that
 * says so is cut out of the request, which libfuse does not know that long.
 */
#ifndef HF_FUSE_RAW_H
#define HF_FUSE_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

struct hf_raw {
    uint64_t init_unique; /* of the INIT request; 0: none outstanding */
    uint32_t init_flags;  /* what the kernel offers */
    uint32_t init_flags2;
    bool killpriv; /* negotiated */
    bool setxattr_ext;
    bool kill;              /* the request being processed: privileges go */
    bool tmpfile;           /* ... is no CREATE, but a TMPFILE */
    struct timespec btime;  /* of the attributes about to be sent */
    uint8_t statx_out[288]; /* the reply that is being sent */
};

/** Note a request about to be processed, and make it one that libfuse knows. Short ones are left to
 *  libfuse to refuse. Returns its length from here on. */
size_t hf_raw_request(struct hf_raw *raw, void *data, size_t len);
/** Change a reply about to be written, if it is one to INIT or STATX. */
void hf_raw_reply(struct hf_raw *raw, struct iovec *iov, int iov_count);

#endif
