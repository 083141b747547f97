/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_format.h - every byte of a frame's header and of HELLO; docs/format/wire.md in words.
 *
 *     | header 64 | message msg_len | bulk bulk_len |
 *
 * Little-endian throughout. Reserved bytes are sent as zero and not looked at.
 */
#ifndef HF_RPC_FRAME_FORMAT_H
#define HF_RPC_FRAME_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HF_FRAME_MAGIC   UINT32_C(0x4d524648) /* "HFRM" */
#define HF_FRAME_VERSION 1u                   /* of this header; never changes within HELLO */

/* Versions of the protocol above the frames, negotiated by HELLO. */
#define HF_PROTOCOL_MIN 1u
#define HF_PROTOCOL_MAX 1u

enum hf_frame_kind {
    HF_FRAME_HELLO = 1,
    HF_FRAME_REQUEST = 2,
    HF_FRAME_REPLY = 3,
    HF_FRAME_PING = 4,
    HF_FRAME_PONG = 5,
    HF_FRAME_GOODBYE = 6,
};

/* Flags. Unknown ones are not looked at. */
#define HF_FRAME_URGENT UINT32_C(0x1) /* overtakes what waits to be sent; so does its reply */
#define HF_FRAME_ONEWAY UINT32_C(0x2) /* REQUEST: not answered; its id and timeout are 0 */

struct hf_frame_header_format {
    uint32_t magic;
    uint8_t version;
    uint8_t kind;
    uint16_t method; /* REQUEST and its REPLY */
    uint32_t msg_len;
    uint32_t bulk_len;
    uint64_t id; /* chosen by the caller, echoed by the reply */
    uint32_t timeout_ms;
    uint32_t error; /* wire number: REPLY, GOODBYE */
    uint32_t flags;
    uint32_t reserved0;
    uint64_t sum;      /* XXH3-64 of header (sum as zero) and message */
    uint64_t bulk_sum; /* of the bulk; 0: not covered */
    uint8_t reserved1[8];
};

#define HF_FRAME_HEADER_BYTES 64u
#define HF_FRAME_SUM_SEED     UINT64_C(0x484f4c4446415354)

static_assert(sizeof(struct hf_frame_header_format) == HF_FRAME_HEADER_BYTES, "64 bytes");
static_assert(offsetof(struct hf_frame_header_format, msg_len) == 8, "layout");
static_assert(offsetof(struct hf_frame_header_format, id) == 16, "layout");
static_assert(offsetof(struct hf_frame_header_format, error) == 28, "layout");
static_assert(offsetof(struct hf_frame_header_format, sum) == 40, "layout");
static_assert(offsetof(struct hf_frame_header_format, bulk_sum) == 48, "layout");

/* The message of HELLO. A later version appends; a reader takes what it knows. */
struct hf_hello_format {
    uint16_t version_min;
    uint16_t version_max;
    uint32_t flags; /* none yet: sent as zero, not looked at */
    uint8_t cluster[16];
    uint16_t node;
    uint8_t reserved[6];
    uint64_t session;
    char name[64]; /* padded with NUL; the last byte is NUL */
};

#define HF_HELLO_BYTES 104u

static_assert(sizeof(struct hf_hello_format) == HF_HELLO_BYTES, "104 bytes");
static_assert(offsetof(struct hf_hello_format, cluster) == 8, "layout");
static_assert(offsetof(struct hf_hello_format, node) == 24, "layout");
static_assert(offsetof(struct hf_hello_format, session) == 32, "layout");
static_assert(offsetof(struct hf_hello_format, name) == 40, "layout");

#endif
