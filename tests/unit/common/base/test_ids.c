/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/base/err.h"
#include "common/base/ids.h"

static void encoded_object_ids_order_like_the_ids(void **state)
{
    const struct hf_oid ids[] = {
        {.group = 0, .session = 0, .seq = 0},
        {.group = 0, .session = 0, .seq = 256},
        {.group = 0, .session = 1, .seq = 1},
        {.group = 0, .session = 256, .seq = 0},
        {.group = 1, .session = 0, .seq = 1},
        {.group = 255, .session = 0, .seq = 1},
        {.group = 256, .session = 7, .seq = HF_OID_SEQ_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        uint8_t a[HF_OID_BYTES];
        struct hf_oid back;

        hf_oid_encode(&ids[i], a);
        back = hf_oid_decode(a);
        assert_true(hf_oid_equal(&back, &ids[i]));
        for (size_t j = 0; j < sizeof(ids) / sizeof(ids[0]); j++) {
            uint8_t b[HF_OID_BYTES];
            int order;

            hf_oid_encode(&ids[j], b);
            order = memcmp(a, b, HF_OID_BYTES);
            assert_int_equal((order > 0) - (order < 0), hf_oid_cmp(&ids[i], &ids[j]));
        }
    }
}

static void uuid_text_survives_a_round_trip(void **state)
{
    struct hf_uuid u, v;
    char text[HF_UUID_STR_MAX];

    (void)state;
    assert_int_equal(hf_uuid_parse("0123ABCD-4567-89ab-cdef-000102030405", &u), 0);
    assert_string_equal(hf_uuid_str(&u, text), "0123abcd-4567-89ab-cdef-000102030405");
    assert_int_equal(hf_uuid_parse(text, &v), 0);
    assert_true(hf_uuid_equal(&u, &v));
    assert_int_equal(hf_uuid_parse("0123abcd-4567-89ab-cdef-00010203040", &u), -EINVAL);
    assert_int_equal(hf_uuid_parse("0123abcd+4567-89ab-cdef-000102030405", &u), -EINVAL);
}

static void wire_errors_come_back_and_unknown_ones_are_protocol_errors(void **state)
{
    (void)state;
    for (int e = 1; e < HF_ERR_END; e++) {
        uint32_t wire = hf_err_to_wire(-e);
        int back = hf_err_from_wire(wire);

        assert_true(back == -e || (back == -EIO && e != EIO));
    }
    for (int e = HF_ERR_FIRST; e < HF_ERR_END; e++) {
        assert_int_equal(hf_err_from_wire(hf_err_to_wire(-e)), -e);
        assert_true(hf_err_errno(-e) < HF_ERR_FIRST);
    }
    assert_int_equal(hf_err_from_wire(9999), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoded_object_ids_order_like_the_ids),
        cmocka_unit_test(uuid_text_survives_a_round_trip),
        cmocka_unit_test(wire_errors_come_back_and_unknown_ones_are_protocol_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
