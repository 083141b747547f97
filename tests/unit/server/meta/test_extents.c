/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "server/meta/extents.h"

/* Offsets within this much of the window are used; each byte is one of the model. */
#define SPAN 2048u

/* What a byte of the file is: 0 a hole, else an object and the position in it; or a value. */
struct cell {
    uint64_t seq;
    uint32_t pos;
    uint8_t value;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void check(const struct hf_extvec *vec, const struct cell *model)
{
    struct cell seen[SPAN] = {0};
    uint32_t after = 0;

    for (uint32_t i = 0; i < vec->count; i++) {
        const struct hf_xt *xt = &vec->v[i];

        assert_true(xt->len_bytes > 0 && xt->off_bytes >= after);
        after = hf_xt_end(xt);
        assert_true(after <= SPAN);
        for (uint32_t j = 0; j < xt->len_bytes; j++) {
            struct cell *c = &seen[xt->off_bytes + j];

            if (hf_xt_is_inline(xt)) {
                c->seq = UINT64_MAX;
                c->value = vec->bytes[xt->pos_bytes + j];
            } else {
                c->seq = xt->oid.seq;
                c->pos = xt->pos_bytes + j;
            }
        }
        if (i) {
            const struct hf_xt *prev = xt - 1;

            assert_false(!hf_xt_is_inline(xt) && hf_oid_equal(&prev->oid, &xt->oid) &&
                         hf_xt_end(prev) == xt->off_bytes &&
                         prev->pos_bytes + prev->len_bytes == xt->pos_bytes);
        }
    }
    for (uint32_t i = 0; i < SPAN; i++) {
        assert_true(seen[i].seq == model[i].seq && seen[i].pos == model[i].pos &&
                    seen[i].value == model[i].value);
    }
}

static void recode(struct hf_extvec *vec)
{
    size_t len;
    uint8_t *bytes;

    assert_int_equal(hf_extvec_compact(vec), 0);
    len = hf_extvec_row_bytes(vec);
    bytes = malloc(len);
    assert_non_null(bytes);
    hf_extvec_encode(vec, bytes);
    if (vec->count) {
        assert_int_equal(hf_extvec_decode(vec, bytes, len), 0);
        assert_int_equal(hf_extvec_decode(&(struct hf_extvec){0}, bytes, len - 1), -EBADMSG);
    }
    free(bytes);
}

static void a_vector_equals_an_array_of_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        static struct cell model[SPAN];
        struct hf_extvec vec = {0};
        uint64_t random = seed, seq = 0;

        memset(model, 0, sizeof(model));
        for (int step = 0; step < 300; step++) {
            uint32_t off = (uint32_t)(next_random(&random) % SPAN);
            uint32_t len = 1 + (uint32_t)(next_random(&random) % (step % 7 ? 90 : SPAN));
            uint32_t kind = (uint32_t)(next_random(&random) % 10);
            struct hf_oid oid = {.session = 3, .seq = ++seq};

            len = len < SPAN - off ? len : SPAN - off;
            if (kind < 2) {
                assert_int_equal(hf_extvec_punch(&vec, off, len), 0);
                memset(model + off, 0, len * sizeof(*model));
            } else if (kind < 4) {
                uint8_t bytes[SPAN];

                for (uint32_t i = 0; i < len; i++) {
                    bytes[i] = (uint8_t)next_random(&random);
                    model[off + i] = (struct cell){.seq = UINT64_MAX, .value = bytes[i]};
                }
                assert_int_equal(hf_extvec_set_inline(&vec, off, len, bytes), 0);
            } else {
                uint32_t pos = (uint32_t)(next_random(&random) % 4096);

                if (kind == 9 && off) { /* continue what is there: they must merge */
                    const struct cell *before = &model[off - 1];

                    if (before->seq && before->seq != UINT64_MAX) {
                        oid.seq = before->seq;
                        pos = before->pos + 1;
                    }
                }
                assert_int_equal(hf_extvec_set(&vec, off, len, &oid, pos), 0);
                for (uint32_t i = 0; i < len; i++) {
                    model[off + i] = (struct cell){.seq = oid.seq, .pos = pos + i};
                }
            }
            if (step % 5 == 0) {
                recode(&vec);
            }
            check(&vec, model);
        }
        hf_extvec_fini(&vec);
    }
}

static void sequential_pieces_of_one_object_are_one_extent(void **state)
{
    struct hf_extvec vec = {0};
    const struct hf_oid oid = {.session = 1, .seq = 1};

    (void)state;
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t at = (i * 37) % 64; /* any order */

        assert_int_equal(hf_extvec_set(&vec, at * 4096, 4096, &oid, at * 4096), 0);
    }
    assert_int_equal(vec.count, 1);
    hf_extvec_fini(&vec);
}

static void find_gives_the_first_extent_that_ends_after(void **state)
{
    struct hf_extvec vec = {0};
    const struct hf_oid oid = {.session = 1, .seq = 1};

    (void)state;
    assert_int_equal(hf_extvec_set(&vec, 100, 100, &oid, 0), 0);
    assert_int_equal(hf_extvec_set(&vec, 300, 100, &oid, 0), 0);
    assert_int_equal(hf_extvec_find(&vec, 0), 0);
    assert_int_equal(hf_extvec_find(&vec, 199), 0);
    assert_int_equal(hf_extvec_find(&vec, 200), 1);
    assert_int_equal(hf_extvec_find(&vec, 399), 1);
    assert_int_equal(hf_extvec_find(&vec, 400), 2);
    hf_extvec_fini(&vec);
}

static void decode_refuses_what_breaks_the_invariant(void **state)
{
    struct hf_extvec vec = {0};
    const struct hf_oid oid = {.session = 1, .seq = 1};
    uint8_t good[16 + 2 * 28], bad[sizeof(good)];

    (void)state;
    assert_int_equal(hf_extvec_set(&vec, 100, 100, &oid, 0), 0);
    assert_int_equal(hf_extvec_set(&vec, 300, 100, &oid, 0), 0);
    assert_int_equal(hf_extvec_row_bytes(&vec), sizeof(good));
    hf_extvec_encode(&vec, good);
    assert_int_equal(hf_extvec_decode(&vec, good, sizeof(good)), 0);
    for (uint32_t i = 0; i < 5; i++) {
        memcpy(bad, good, sizeof(good));
        switch (i) {
        case 0:
            bad[0] = 99; /* version */
            break;
        case 1:
            hf_put_le32(bad + 8, 3); /* count */
            break;
        case 2:
            hf_put_le32(bad + 16 + 28, 150); /* overlaps */
            break;
        case 3:
            hf_put_le32(bad + 16 + 28 + 4, HF_WINDOW_BYTES); /* past the window */
            break;
        default:
            hf_put_le32(bad + 16 + 4, 0); /* empty */
            break;
        }
        assert_int_equal(hf_extvec_decode(&vec, bad, sizeof(bad)), -EBADMSG);
    }
    hf_extvec_fini(&vec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vector_equals_an_array_of_bytes),
        cmocka_unit_test(sequential_pieces_of_one_object_are_one_extent),
        cmocka_unit_test(find_gives_the_first_extent_that_ends_after),
        cmocka_unit_test(decode_refuses_what_breaks_the_invariant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
