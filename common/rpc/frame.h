/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - a frame's header and HELLO as structs, and their bytes (frame_format.h). Pure.
 */
#ifndef HF_RPC_FRAME_H
#define HF_RPC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "common/rpc/frame_format.h"
#include "common/rpc/rpc.h"

struct hf_frame {
    enum hf_frame_kind kind;
    uint16_t method;
    uint32_t msg_len;
    uint32_t bulk_len;
    uint64_t id;
    uint32_t timeout_ms;
    uint32_t error;
    uint32_t flags;
    uint64_t sum;
    uint64_t bulk_sum;
};

/** @ret the header, its sum still zero: hf_frame_seal() when the message is behind it. */
void hf_frame_encode(const struct hf_frame *frame, uint8_t ret[HF_FRAME_HEADER_BYTES]);
/** Sum header and message, which lie one behind the other. */
void hf_frame_seal(uint8_t *header, size_t msg_len);

/**
 * Check everything but the sums. @ret_why: for the log.
 * Errors: -EBADMSG
 */
int hf_frame_decode(const uint8_t header[HF_FRAME_HEADER_BYTES], struct hf_frame *ret,
                    const char **ret_why);
/** Does the sum of header and message hold? Changes and restores the header's sum. */
int hf_frame_check(const struct hf_frame *frame, uint8_t *header);

/** Of bulk; never 0. */
uint64_t hf_frame_bulk_sum(const struct iovec *iov, int iov_count);

void hf_hello_encode(const struct hf_rpc_identity *id, uint8_t ret[HF_HELLO_BYTES]);
/** The name is cut to printable characters. Errors: -EBADMSG; -EPROTO  no common version. */
int hf_hello_decode(const uint8_t *msg, size_t len, struct hf_rpc_identity *ret);

#endif
