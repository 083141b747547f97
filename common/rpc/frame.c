/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/frame.h"

#include <errno.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/checksum/checksum.h"

#define AT(field) offsetof(struct hf_frame_header_format, field)

void hf_frame_encode(const struct hf_frame *frame, uint8_t ret[HF_FRAME_HEADER_BYTES])
{
    memset(ret, 0, HF_FRAME_HEADER_BYTES);
    hf_put_le32(ret + AT(magic), HF_FRAME_MAGIC);
    ret[AT(version)] = HF_FRAME_VERSION;
    ret[AT(kind)] = (uint8_t)frame->kind;
    hf_put_le16(ret + AT(method), frame->method);
    hf_put_le32(ret + AT(msg_len), frame->msg_len);
    hf_put_le32(ret + AT(bulk_len), frame->bulk_len);
    hf_put_le64(ret + AT(id), frame->id);
    hf_put_le32(ret + AT(timeout_ms), frame->timeout_ms);
    hf_put_le32(ret + AT(error), frame->error);
    hf_put_le32(ret + AT(flags), frame->flags);
    hf_put_le64(ret + AT(bulk_sum), frame->bulk_sum);
}

void hf_frame_seal(uint8_t *header, size_t msg_len)
{
    hf_put_le64(header + AT(sum), 0);
    hf_put_le64(header + AT(sum),
                hf_hash64(header, HF_FRAME_HEADER_BYTES + msg_len, HF_FRAME_SUM_SEED));
}

int hf_frame_check(const struct hf_frame *frame, uint8_t *header)
{
    uint64_t sum;

    hf_put_le64(header + AT(sum), 0);
    sum = hf_hash64(header, HF_FRAME_HEADER_BYTES + (size_t)frame->msg_len, HF_FRAME_SUM_SEED);
    hf_put_le64(header + AT(sum), frame->sum);
    return sum == frame->sum ? 0 : -EBADMSG;
}

uint64_t hf_frame_bulk_sum(const struct iovec *iov, int iov_count)
{
    uint64_t sum = hf_hash64_iov(iov, iov_count, HF_FRAME_SUM_SEED);

    return sum ? sum : 1;
}

static bool bulk_allowed(enum hf_frame_kind kind)
{
    return kind == HF_FRAME_REQUEST || kind == HF_FRAME_REPLY;
}

int hf_frame_decode(const uint8_t header[HF_FRAME_HEADER_BYTES], struct hf_frame *ret,
                    const char **ret_why)
{
    struct hf_frame f = {
        .kind = (enum hf_frame_kind)header[AT(kind)],
        .method = hf_get_le16(header + AT(method)),
        .msg_len = hf_get_le32(header + AT(msg_len)),
        .bulk_len = hf_get_le32(header + AT(bulk_len)),
        .id = hf_get_le64(header + AT(id)),
        .timeout_ms = hf_get_le32(header + AT(timeout_ms)),
        .error = hf_get_le32(header + AT(error)),
        .flags = hf_get_le32(header + AT(flags)),
        .sum = hf_get_le64(header + AT(sum)),
        .bulk_sum = hf_get_le64(header + AT(bulk_sum)),
    };

    if (hf_get_le32(header + AT(magic)) != HF_FRAME_MAGIC) {
        *ret_why = "not a frame";
    } else if (header[AT(version)] != HF_FRAME_VERSION) {
        *ret_why = "unknown frame version";
    } else if (f.kind < HF_FRAME_HELLO || f.kind > HF_FRAME_GOODBYE) {
        *ret_why = "unknown frame kind";
    } else if (f.msg_len > HF_RPC_MSG_MAX) {
        *ret_why = "oversized message";
    } else if (f.bulk_len > HF_FRAME_BULK_MAX) {
        *ret_why = "oversized bulk";
    } else if (f.bulk_len && !bulk_allowed(f.kind)) {
        *ret_why = "bulk where none belongs";
    } else {
        *ret = f;
        return 0;
    }
    return -EBADMSG;
}

#undef AT
#define AT(field) offsetof(struct hf_hello_format, field)

void hf_hello_encode(const struct hf_rpc_identity *id, uint8_t ret[HF_HELLO_BYTES])
{
    memset(ret, 0, HF_HELLO_BYTES);
    hf_put_le16(ret + AT(version_min), HF_PROTOCOL_MIN);
    hf_put_le16(ret + AT(version_max), HF_PROTOCOL_MAX);
    memcpy(ret + AT(cluster), id->cluster.b, sizeof(id->cluster.b));
    hf_put_le16(ret + AT(node), id->node.v);
    hf_put_le64(ret + AT(session), id->session.v);
    memcpy(ret + AT(name), id->name, strnlen(id->name, sizeof(id->name) - 1));
}

int hf_hello_decode(const uint8_t *msg, size_t len, struct hf_rpc_identity *ret)
{
    struct hf_rpc_identity id = {0};
    uint16_t min, max;

    if (len < HF_HELLO_BYTES) {
        return -EBADMSG;
    }
    min = hf_get_le16(msg + AT(version_min));
    max = hf_get_le16(msg + AT(version_max));
    if (min > max) {
        return -EBADMSG;
    }
    if (min > HF_PROTOCOL_MAX || max < HF_PROTOCOL_MIN) {
        return -EPROTO;
    }
    memcpy(id.cluster.b, msg + AT(cluster), sizeof(id.cluster.b));
    id.node.v = hf_get_le16(msg + AT(node));
    id.session.v = hf_get_le64(msg + AT(session));
    if (id.node.v > HF_NODES_MAX) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < sizeof(id.name) - 1 && msg[AT(name) + i]; i++) {
        uint8_t c = msg[AT(name) + i];

        id.name[i] = c < ' ' || c > '~' || c == '"' ? '?' : (char)c;
    }
    *ret = id;
    return 0;
}
