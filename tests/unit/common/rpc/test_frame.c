/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/bytes.h"
#include "common/rpc/calls.h"
#include "common/rpc/out.h"

#define GOLDEN HF_SOURCE_DIR "/tests/golden/frame.hex"

static const struct hf_rpc_identity who = {
    .cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .node = {3},
    .session = {0x1122334455667788},
    .name = "node 3",
};

static size_t make(size_t which, uint8_t *ret)
{
    static const struct iovec bulk = {"bulk bytes", 10};
    struct hf_frame frame = {.kind = HF_FRAME_HELLO, .msg_len = HF_HELLO_BYTES};
    size_t len = HF_FRAME_HEADER_BYTES;

    switch (which) {
    case 0:
        hf_hello_encode(&who, ret + len);
        len += HF_HELLO_BYTES;
        break;
    case 1:
        frame = (struct hf_frame){.kind = HF_FRAME_REQUEST,
                                  .method = 32,
                                  .msg_len = 7,
                                  .bulk_len = 10,
                                  .id = 0x0102030405060708,
                                  .timeout_ms = 30000,
                                  .flags = HF_FRAME_URGENT,
                                  .bulk_sum = hf_frame_bulk_sum(&bulk, 1)};
        memcpy(ret + len, "messagebulk bytes", 17);
        len += 17;
        break;
    case 2:
        frame = (struct hf_frame){.kind = HF_FRAME_REPLY, .method = 32, .id = 9, .error = 71};
        break;
    case 3:
        frame = (struct hf_frame){.kind = HF_FRAME_PING};
        break;
    case 4:
        frame = (struct hf_frame){.kind = HF_FRAME_GOODBYE, .error = 72};
        break;
    case 5:
        frame = (struct hf_frame){.kind = HF_FRAME_REQUEST,
                                  .method = 36,
                                  .msg_len = 7,
                                  .bulk_len = 10,
                                  .flags = HF_FRAME_URGENT | HF_FRAME_ONEWAY,
                                  .bulk_sum = hf_frame_bulk_sum(&bulk, 1)};
        memcpy(ret + len, "messagebulk bytes", 17);
        len += 17;
        break;
    default:
        return 0;
    }
    hf_frame_encode(&frame, ret);
    hf_frame_seal(ret, frame.msg_len);
    return len;
}

static void frames_have_their_golden_bytes(void **state)
{
    bool write = getenv("HF_GOLDEN_WRITE") != NULL;
    FILE *f = fopen(GOLDEN, write ? "w" : "r");
    uint8_t bytes[512];
    char line[2048], want[2048];
    size_t len;

    (void)state;
    assert_non_null(f);
    for (size_t i = 0; (len = make(i, bytes)) > 0; i++) {
        for (size_t k = 0; k < len; k++) {
            (void)snprintf(want + 2 * k, 4, "%02x\n", bytes[k]);
        }
        if (write) {
            (void)fputs(want, f);
        } else {
            assert_non_null(fgets(line, sizeof(line), f));
            assert_string_equal(line, want);
        }
    }
    (void)fclose(f);
}

static void every_changed_byte_is_noticed(void **state)
{
    uint8_t bytes[512];
    size_t len;

    (void)state;
    for (size_t i = 0; (len = make(i, bytes)) > 0; i++) {
        struct hf_frame frame;
        const char *why;

        assert_int_equal(hf_frame_decode(bytes, &frame, &why), 0);
        assert_int_equal(hf_frame_check(&frame, bytes), 0);
        for (size_t at = 0; at < HF_FRAME_HEADER_BYTES + frame.msg_len; at++) {
            for (unsigned flip = 1; flip < 256; flip <<= 1) {
                struct hf_frame got;

                bytes[at] ^= (uint8_t)flip;
                assert_true(hf_frame_decode(bytes, &got, &why) != 0 ||
                            HF_FRAME_HEADER_BYTES + got.msg_len > sizeof(bytes) ||
                            hf_frame_check(&got, bytes) != 0);
                bytes[at] ^= (uint8_t)flip;
            }
        }
    }
}

static void hello_round_trips_and_is_checked(void **state)
{
    uint8_t bytes[HF_HELLO_BYTES + 8] = {0};
    struct hf_rpc_identity got;

    (void)state;
    hf_hello_encode(&who, bytes);
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), 0);
    assert_true(hf_uuid_equal(&got.cluster, &who.cluster));
    assert_true(got.node.v == 3 && got.session.v == who.session.v);
    assert_string_equal(got.name, "node 3");
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES + 8, &got), 0); /* a later version's */
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES - 1, &got), -EBADMSG);
    bytes[40] = '\n';
    memset(bytes + 41, 'x', 63); /* no NUL */
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), 0);
    assert_int_equal(strlen(got.name), 63);
    assert_int_equal(got.name[0], '?');
    hf_put_le16(bytes + 24, HF_NODES_MAX + 1);
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), -EBADMSG);
    hf_hello_encode(&who, bytes);
    hf_put_le16(bytes, 2); /* speaks 2 to 9 */
    hf_put_le16(bytes + 2, 9);
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), -EPROTO);
    hf_put_le16(bytes, 1); /* speaks 1 to 9: fine */
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), 0);
    hf_put_le16(bytes + 2, 0);
    assert_int_equal(hf_hello_decode(bytes, HF_HELLO_BYTES, &got), -EBADMSG);
}

static uint32_t released;

static void count_release(void *ctx)
{
    (void)ctx;
    released++;
}

static struct hf_out *new_out(uint64_t id, bool urgent, const struct iovec *iov, int count)
{
    const struct hf_frame frame = {
        .kind = HF_FRAME_REQUEST, .id = id, .flags = urgent ? HF_FRAME_URGENT : 0};
    const struct hf_rpc_bulk bulk = {.iov = iov, .iov_count = count, .release = count_release};
    struct hf_out *out = hf_out_new(&frame, NULL, &bulk);

    assert_non_null(out);
    return out;
}

/* Send up to @max bytes to the end of @ret. */
static size_t take(struct hf_outq *q, uint8_t *ret, size_t max)
{
    struct iovec iov[4];
    size_t bytes, at = 0;
    int count = hf_outq_gather(q, iov, 4, max, &bytes);

    for (int i = 0; i < count && at < max; i++) {
        size_t n = iov[i].iov_len < max - at ? iov[i].iov_len : max - at;

        memcpy(ret + at, iov[i].iov_base, n);
        at += n;
    }
    hf_outq_advance(q, at);
    return at;
}

/* Ids of the frames in @bytes, in order. */
static void expect_order(const uint8_t *bytes, size_t len, const uint64_t *ids)
{
    size_t at = 0;

    while (at < len) {
        assert_int_equal(hf_get_le32(bytes + at), HF_FRAME_MAGIC);
        assert_int_equal(hf_get_le64(bytes + at + 16), *ids++);
        at += HF_FRAME_HEADER_BYTES + hf_get_le32(bytes + at + 12);
    }
    assert_int_equal(at, len);
    assert_int_equal(*ids, 0);
}

static void urgent_frames_overtake_but_never_split(void **state)
{
    static uint8_t data[1000], sent[8192];
    const struct iovec iov[2] = {{data, 300}, {data + 300, 700}};
    struct hf_outq q;
    size_t len;

    (void)state;
    released = 0;
    for (size_t step = 1; step < 1200; step += 7) {
        hf_outq_init(&q);
        for (uint64_t id = 1; id <= 3; id++) {
            hf_outq_push(&q, new_out(id, false, iov, 2));
        }
        len = take(&q, sent, step); /* of the first (or the second) frame */
        assert_int_equal(q.urgent_bytes, 0);
        hf_outq_push(&q, new_out(9, true, NULL, 0));
        hf_outq_push(&q, new_out(8, true, NULL, 0));
        assert_int_equal(q.urgent_bytes, 2 * HF_FRAME_HEADER_BYTES);
        while (!hf_outq_empty(&q)) {
            len += take(&q, sent + len, step);
            assert_true(q.urgent_bytes <= q.bytes);
        }
        assert_int_equal(q.bytes, 0);
        assert_int_equal(q.urgent_bytes, 0);
        if (step < 1064) {
            expect_order(sent, len, (const uint64_t[]){1, 9, 8, 2, 3, 0});
        } else if (step > 1064) {
            expect_order(sent, len, (const uint64_t[]){1, 2, 9, 8, 3, 0});
        }
        hf_outq_fini(&q);
    }
    assert_int_equal(released % 5, 0);
    assert_true(released > 0);
}

static uint64_t bulk_sum_of(bool summed, size_t bulk_len)
{
    static uint8_t data[HF_FRAME_BULK_MAX];
    const struct hf_frame frame = {.kind = HF_FRAME_REPLY};
    const struct iovec iov = {data, bulk_len};
    const struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .summed = summed};
    struct hf_out *out = hf_out_new(&frame, NULL, &bulk);
    struct hf_frame got;
    const char *why;

    assert_non_null(out);
    assert_int_equal(hf_frame_decode(out->iov[0].iov_base, &got, &why), 0);
    hf_out_free(out);
    assert_true(got.bulk_sum == 0 || got.bulk_sum == hf_frame_bulk_sum(&iov, 1));
    return got.bulk_sum;
}

static void bulk_without_sums_of_its_own_is_covered(void **state)
{
    (void)state;
    assert_true(bulk_sum_of(false, 0) == 0);
    assert_true(bulk_sum_of(false, 1) != 0);
    assert_true(bulk_sum_of(false, (64u << 10) + 1) != 0);
    assert_true(bulk_sum_of(false, HF_FRAME_BULK_MAX) != 0);
    assert_true(bulk_sum_of(true, 64u << 10) != 0);
    assert_true(bulk_sum_of(true, (64u << 10) + 1) == 0);
}

static void withdrawn_bulk_is_not_touched_again(void **state)
{
    static uint8_t data[1000], sent[8192];
    const struct iovec iov[2] = {{data, 300}, {data + 300, 700}};
    struct hf_outq q;
    struct hf_out *first, *second, *slot;

    (void)state;
    for (size_t part = 0; part < 1064; part += 13) {
        size_t len;

        released = 0;
        memset(data, 'd', sizeof(data));
        hf_outq_init(&q);
        first = new_out(1, false, iov, 2);
        second = new_out(2, false, iov, 2);
        hf_out_watch(second, &slot);
        slot = second;
        hf_outq_push(&q, first);
        hf_outq_push(&q, second);
        hf_outq_push(&q, new_out(3, false, NULL, 0));
        len = part ? take(&q, sent, part) : 0;
        assert_int_equal(hf_outq_withdraw(&q, second), 0);
        assert_null(slot);
        assert_int_equal(hf_outq_withdraw(&q, first), 0);
        assert_int_equal(released, 2);
        memset(data, 'x', sizeof(data));
        while (!hf_outq_empty(&q)) {
            len += take(&q, sent + len, 100);
        }
        expect_order(sent, len, part ? (const uint64_t[]){1, 3, 0} : (const uint64_t[]){3, 0});
        assert_null(memchr(sent + 64, 'x', len - 64));
        assert_int_equal(released, 3);
        hf_outq_fini(&q);
    }
}

static void calls_come_out_by_deadline_and_are_found_by_id(void **state)
{
    enum { N = 500 };
    static struct call_state s[N];
    struct calls c;
    uint64_t x = 1, before = 0, old;

    (void)state;
    calls_init(&c);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < N; i++) {
            x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
            s[i] = (struct call_state){.deadline_ns = x >> 40};
            assert_int_equal(calls_add(&c, &s[i]), 0);
        }
        for (int i = 0; i < N; i += 3) {
            assert_ptr_equal(calls_find(&c, s[i].id), &s[i]);
            old = s[i].id;
            calls_remove(&c, &s[i]);
            assert_null(calls_find(&c, old));
        }
        for (before = 0; calls_first(&c);) {
            assert_true(calls_first(&c)->deadline_ns >= before);
            before = calls_first(&c)->deadline_ns;
            calls_remove(&c, calls_first(&c));
        }
    }
    assert_null(calls_find(&c, UINT64_MAX));
    calls_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_have_their_golden_bytes),
        cmocka_unit_test(every_changed_byte_is_noticed),
        cmocka_unit_test(hello_round_trips_and_is_checked),
        cmocka_unit_test(urgent_frames_overtake_but_never_split),
        cmocka_unit_test(bulk_without_sums_of_its_own_is_covered),
        cmocka_unit_test(withdrawn_bulk_is_not_touched_again),
        cmocka_unit_test(calls_come_out_by_deadline_and_are_found_by_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
