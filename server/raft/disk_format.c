/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/disk_format.h"

#include <errno.h>

#include "common/base/assert.h"

#define HARD_ABSTAIN   0x1u
#define HARD_TAKEN_OUT 0x2u

void raft_log_head_encode(const struct raft_log_head *head, uint8_t ret[RAFT_LOG_HEAD_BYTES])
{
    struct hf_writer w = hf_writer_init(ret, RAFT_LOG_HEAD_BYTES);

    hf_write_le32(&w, head->version);
    hf_write_le32(&w, head->flags);
    hf_write_le64(&w, head->first_index);
    hf_write_le32(&w, head->count);
    hf_write_le32(&w, head->bytes);
    hf_write_le64(&w, head->reserved);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int raft_log_head_decode(struct hf_reader *r, struct raft_log_head *ret)
{
    *ret = (struct raft_log_head){.version = hf_read_le32(r)};
    ret->flags = hf_read_le32(r);
    ret->first_index = hf_read_le64(r);
    ret->count = hf_read_le32(r);
    ret->bytes = hf_read_le32(r);
    ret->reserved = hf_read_le64(r);
    if (r->bad) {
        return -EBADMSG;
    }
    if (ret->version != RAFT_LOG_VERSION) {
        return -EPROTONOSUPPORT;
    }
    return (ret->flags & ~RAFT_LOG_IN_META) || ret->reserved != 0 || ret->first_index == 0 ||
                   ret->first_index > HF_RAFT_NUMBER_MAX ||
                   (ret->count > 0 && ret->first_index - 1 > HF_RAFT_NUMBER_MAX - ret->count)
               ? -EBADMSG
               : 0;
}

static int walk(struct hf_reader r, const struct raft_log_head *head,
                int (*fn)(void *ctx, uint64_t index, const uint8_t *bytes, size_t len), void *ctx)
{
    for (uint32_t i = 0; i < head->count; i++) {
        struct hf_raft_entry entry;
        size_t used;
        int err =
            hf_raft_entry_decode(r.at, hf_reader_left(&r), head->first_index + i, &entry, &used);

        if (err) {
            return err;
        }
        err = fn ? fn(ctx, head->first_index + i, r.at, used) : 0;
        if (err) {
            return err;
        }
        (void)hf_read_bytes(&r, used);
    }
    return hf_reader_left(&r) ? -EBADMSG : 0;
}

int raft_log_record_decode(const uint8_t *meta, size_t meta_len, const uint8_t *payload,
                           size_t payload_len, struct raft_log_head *ret_head,
                           int (*fn)(void *ctx, uint64_t index, const uint8_t *bytes, size_t len),
                           void *ctx)
{
    struct hf_reader r = hf_reader_init(meta, meta_len);
    int err = raft_log_head_decode(&r, ret_head);
    bool in_meta = ret_head->flags & RAFT_LOG_IN_META;

    if (err) {
        return err;
    }
    if ((in_meta && payload_len > 0) || (!in_meta && hf_reader_left(&r) > 0)) {
        return -EBADMSG;
    }
    if (!in_meta && payload_len > 0) {
        r = hf_reader_init(payload, payload_len);
    }
    if (hf_reader_left(&r) != ret_head->bytes) {
        return -EBADMSG;
    }
    err = walk(r, ret_head, NULL, NULL);
    return err || !fn ? err : walk(r, ret_head, fn, ctx);
}

size_t raft_hard_encode(const struct raft_hard *hard, uint8_t ret[RAFT_HARD_BYTES_MAX])
{
    uint8_t *at = ret + RAFT_HARD_HEAD_BYTES;

    HF_ASSERT(hard->founder_count <= HF_RAFT_MEMBERS_MAX);
    hf_put_le32(ret, RAFT_VOTE_VERSION);
    hf_put_le32(ret + 4,
                (hard->abstain ? HARD_ABSTAIN : 0) | (hard->taken_out ? HARD_TAKEN_OUT : 0));
    hf_put_le64(ret + 8, hard->term);
    hf_put_le64(ret + 16, hard->vote.v);
    hf_put_le64(ret + 24, hard->incarnation);
    hf_put_le64(ret + 32, hard->install_index);
    hf_put_le32(ret + 40, hard->state);
    hf_put_le32(ret + 44, hard->founder_count);
    hf_put_le64(ret + 48, hard->node.v);
    for (uint32_t i = 0; i < hard->founder_count; i++, at += RAFT_FOUNDER_BYTES) {
        hf_put_le64(at, hard->founders[i].node.v);
        hf_put_le64(at + 8, hard->founders[i].incarnation);
    }
    return (size_t)(at - ret);
}

int raft_hard_decode(const uint8_t *meta, size_t len, struct raft_hard *ret)
{
    struct hf_reader r = hf_reader_init(meta, len);
    uint32_t version = hf_read_le32(&r), flags = hf_read_le32(&r), state;
    uint64_t node, node_self;

    *ret = (struct raft_hard){.abstain = flags & HARD_ABSTAIN, .taken_out = flags & HARD_TAKEN_OUT};
    ret->term = hf_read_le64(&r);
    node = hf_read_le64(&r);
    ret->vote.v = (uint16_t)node;
    ret->incarnation = hf_read_le64(&r);
    ret->install_index = hf_read_le64(&r);
    state = hf_read_le32(&r);
    ret->state = (uint8_t)state;
    ret->founder_count = hf_read_le32(&r);
    node_self = hf_read_le64(&r);
    ret->node.v = (uint16_t)node_self;
    if (!r.bad && version != RAFT_VOTE_VERSION) {
        return -EPROTONOSUPPORT;
    }
    if (r.bad || (flags & ~(HARD_ABSTAIN | HARD_TAKEN_OUT)) || node > UINT16_MAX ||
        node_self == 0 || node_self > UINT16_MAX || ret->incarnation == 0 ||
        state < HF_RAFT_STORE_NEW || state > HF_RAFT_STORE_JOINING ||
        ret->term > HF_RAFT_NUMBER_MAX || ret->install_index > HF_RAFT_NUMBER_MAX ||
        ret->founder_count > HF_RAFT_MEMBERS_MAX) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < ret->founder_count; i++) {
        node = hf_read_le64(&r);
        ret->founders[i].node.v = (uint16_t)node;
        ret->founders[i].incarnation = hf_read_le64(&r);
        if (node == 0 || node > UINT16_MAX) {
            return -EBADMSG;
        }
    }
    return r.bad || hf_reader_left(&r) ? -EBADMSG : 0;
}
