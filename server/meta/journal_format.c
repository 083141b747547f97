/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/journal_format.h"

#include <errno.h>

#include "common/base/assert.h"

void hf_journal_head_encode(const struct hf_journal_head *head, uint8_t ret[HF_JOURNAL_HEAD_BYTES])
{
    struct hf_writer w = hf_writer_init(ret, HF_JOURNAL_HEAD_BYTES);

    hf_write_le32(&w, head->version);
    hf_write_le32(&w, head->flags);
    hf_write_le64(&w, head->first_index);
    hf_write_le32(&w, head->count);
    hf_write_le32(&w, head->bytes);
    hf_write_le64(&w, head->term);
    hf_write_le64(&w, head->vote);
    hf_write_le64(&w, head->reserved);
    HF_ASSERT(!w.bad && w.at == w.end);
}

int hf_journal_head_decode(struct hf_reader *r, struct hf_journal_head *ret)
{
    *ret = (struct hf_journal_head){
        .version = hf_read_le32(r),
        .flags = hf_read_le32(r),
    };
    ret->first_index = hf_read_le64(r);
    ret->count = hf_read_le32(r);
    ret->bytes = hf_read_le32(r);
    ret->term = hf_read_le64(r);
    ret->vote = hf_read_le64(r);
    ret->reserved = hf_read_le64(r);
    if (r->bad || ret->version != HF_JOURNAL_RECORD_VERSION || (ret->flags & ~HF_JOURNAL_IN_META) ||
        ret->first_index == 0 || ret->first_index > HF_JOURNAL_INDEX_MAX || ret->count == 0) {
        return -EBADMSG;
    }
    return 0;
}

void hf_journal_item_encode(struct hf_writer *w, const struct hf_journal_item *item)
{
    hf_write_le64(w, item->index);
    hf_write_le64(w, item->term);
    hf_write_le64(w, item->time_ns);
    hf_write_le32(w, item->msg_len);
    hf_write_le32(w, item->bulk_len);
    hf_write_bytes(w, item->msg, item->msg_len);
    hf_write_bytes(w, item->bulk, item->bulk_len);
}

int hf_journal_item_decode(struct hf_reader *r, struct hf_journal_item *ret)
{
    *ret = (struct hf_journal_item){0};
    ret->index = hf_read_le64(r);
    ret->term = hf_read_le64(r);
    ret->time_ns = hf_read_le64(r);
    ret->msg_len = hf_read_le32(r);
    ret->bulk_len = hf_read_le32(r);
    if (r->bad || ret->msg_len == 0 || ret->msg_len > HF_RPC_MSG_MAX ||
        ret->bulk_len > HF_FRAME_BULK_MAX) {
        return -EBADMSG;
    }
    ret->msg = hf_read_bytes(r, ret->msg_len);
    ret->bulk = hf_read_bytes(r, ret->bulk_len);
    return r->bad ? -EBADMSG : 0;
}

static int walk(struct hf_reader r, const struct hf_journal_head *head,
                int (*fn)(void *ctx, const struct hf_journal_item *item), void *ctx)
{
    for (uint32_t i = 0; i < head->count; i++) {
        struct hf_journal_item item;
        int err = hf_journal_item_decode(&r, &item);

        if (err || item.index != head->first_index + i) {
            return -EBADMSG;
        }
        err = fn ? fn(ctx, &item) : 0;
        if (err) {
            return err;
        }
    }
    return hf_reader_left(&r) ? -EBADMSG : 0;
}

int hf_journal_record_decode(const uint8_t *meta, size_t meta_len, const uint8_t *payload,
                             size_t payload_len,
                             int (*fn)(void *ctx, const struct hf_journal_item *item), void *ctx)
{
    struct hf_reader r = hf_reader_init(meta, meta_len);
    struct hf_journal_head head;
    int err = hf_journal_head_decode(&r, &head);
    bool in_meta;

    if (err) {
        return err;
    }
    in_meta = head.flags & HF_JOURNAL_IN_META;
    if ((in_meta && payload_len > 0) || (!in_meta && hf_reader_left(&r) > 0)) {
        return -EBADMSG;
    }
    if (!in_meta) {
        r = payload_len ? hf_reader_init(payload, payload_len) : r;
    }
    if (hf_reader_left(&r) != head.bytes) {
        return -EBADMSG;
    }
    err = walk(r, &head, NULL, NULL);
    return err ? err : walk(r, &head, fn, ctx);
}
