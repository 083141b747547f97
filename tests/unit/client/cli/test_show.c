/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "client/cli/show.h"

#define STATUS                                                                                     \
    "{\"metadata\":{\"leader\":2},\"nodes\":["                                                     \
    "{\"id\":1,\"address\":\"127.0.0.11:7400\",\"domain\":\"rack-a\",\"state\":\"up\","            \
    "\"lacking\":3,\"heard_ms_ago\":250,\"stats\":{\"free_bytes\":1073741824,\"objects\":42}},"    \
    "{\"id\":2,\"address\":\"127.0.0.12:7400\",\"domain\":\"rack-b\",\"state\":\"up\"},"           \
    "{\"id\":3,\"address\":\"127.0.0.13:7400\",\"domain\":\"rack-c\",\"state\":\"down\","          \
    "\"lacking\":0}]}"
#define LEADER                                                                                     \
    "{\"node\":1,\"address\":\"127.0.0.11:7400\",\"role\":\"leader\",\"term\":7,\"leader\":1,"     \
    "\"index\":{\"last\":120,\"commit\":119,\"applied\":118,\"durable\":120,\"checkpoint\":100},"  \
    "\"log_bytes\":1048576,\"members\":["                                                          \
    "{\"node\":1,\"kind\":\"voter\",\"address\":\"127.0.0.11:7400\",\"match\":120,\"lag\":0},"     \
    "{\"node\":2,\"kind\":\"voter\",\"address\":\"127.0.0.12:7400\",\"match\":110,\"lag\":10,"     \
    "\"heard_ms_ago\":40,\"digest_index\":100,\"digest_ok\":false},"                               \
    "{\"node\":4,\"kind\":\"learner\",\"address\":\"127.0.0.14:7400\",\"match\":60,\"lag\":60,"    \
    "\"snapshotting\":true}]}"

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    return json;
}

static void lines_are(void (*show)(const json_t *, FILE *), const json_t *json, const char *want)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    show(json, out);
    (void)fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static void nodes_are_shown_with_their_part_in_the_metadata(void **state)
{
    json_t *status = parse(STATUS), *meta = parse(LEADER);
    json_t *nodes = show_merge_nodes(status, meta);

    (void)state;
    lines_are(show_nodes, nodes,
              "node  address                domain        state      metadata        free   "
              "objects   lacking  heard\n"
              "1     127.0.0.11:7400        rack-a        up         leader       1.0 GiB   "
              "     42         3  0.2 s\n"
              "2     127.0.0.12:7400        rack-b        up         voter              -   "
              "      -         -  -\n"
              "3     127.0.0.13:7400        rack-c        down       -                  -   "
              "      -         0  -\n");
    json_decref(nodes);
    json_decref(meta);
    json_decref(status);
}

static void without_meta_status_only_the_leader_is_known(void **state)
{
    json_t *status = parse(STATUS);
    json_t *nodes = show_merge_nodes(status, NULL);

    (void)state;
    assert_int_equal(json_array_size(nodes), 3);
    for (size_t i = 0; i < 3; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(nodes, i), "role"));

        assert_string_equal(role, i == 1 ? "leader" : "-");
    }
    json_decref(nodes);
    json_decref(status);
}

static void metadata_nodes_are_shown_with_what_is_wrong(void **state)
{
    json_t *answers = parse(
        "[" LEADER ",{\"node\":2,\"address\":\"127.0.0.12:7400\",\"role\":\"follower\",\"term\":7},"
        "{\"node\":3,\"address\":\"127.0.0.13:7400\",\"error\":\"Connection refused\"},"
        "{\"node\":4,\"address\":\"127.0.0.14:7400\",\"role\":\"joining\",\"abstaining\":true,"
        "\"waiting_for\":\"a snapshot of node 1\"},"
        "{\"node\":5,\"address\":\"127.0.0.15:7400\",\"role\":\"failed\",\"taken_out\":true}]");
    json_t *meta = show_merge_meta(answers);

    (void)state;
    lines_are(show_meta, meta,
              "leader   node 1, term 7\n"
              "entries  119 committed, 118 applied, checkpoint at 100, log 1.0 MiB\n"
              "node  address                role       kind          match       lag    heard\n"
              "1     127.0.0.11:7400        leader     voter           120         0        -\n"
              "2     127.0.0.12:7400        follower   voter           110        10    0.0 s  "
              "ITS METADATA DIFFERS FROM THE LEADER'S at entry 100\n"
              "3     127.0.0.13:7400        -          -                 -         -        -  "
              "does not answer: Connection refused\n"
              "4     127.0.0.14:7400        joining    learner          60        60        -  "
              "does not vote: its log lost entries, it is made whole again; is sent a snapshot; "
              "waits for a snapshot of node 1\n"
              "5     127.0.0.15:7400        failed     -                 -         -        -  "
              "TAKEN OUT, ITS METADATA DIFFERED: remove its directory, restart it\n");
    json_decref(meta);
    json_decref(answers);
}

static void the_leader_is_the_one_of_the_newest_term(void **state)
{
    json_t *answers =
        parse("[{\"node\":1,\"role\":\"leader\",\"term\":7},{\"node\":2,\"role\":\"leader\","
              "\"term\":9},{\"node\":3,\"role\":\"follower\",\"term\":9}]");
    json_t *meta = show_merge_meta(answers);

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(meta, "leader")), 2);
    assert_int_equal(json_integer_value(json_object_get(meta, "term")), 9);
    json_decref(meta);
    json_array_clear(answers);
    meta = show_merge_meta(answers);
    assert_true(json_is_null(json_object_get(meta, "leader")));
    json_decref(meta);
    json_decref(answers);
}

static void a_member_that_was_not_asked_is_shown_too(void **state)
{
    json_t *answers = parse("[" LEADER "]");
    json_t *meta = show_merge_meta(answers);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    assert_non_null(out);
    show_meta(meta, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "\n4     127.0.0.14:7400        -          learner "));
    free(text);
    json_decref(meta);
    json_decref(answers);
}

static void a_joining_node_shows_how_far_it_is(void **state)
{
    json_t *meta = parse(LEADER);
    char text[128];

    (void)state;
    assert_string_equal(show_joining(meta, 4, text), "learner, entry 60 of 120 (50%), a snapshot");
    assert_string_equal(show_joining(meta, 2, text), "voter");
    assert_string_equal(show_joining(meta, 5, text), "not a member yet");
    json_decref(meta);
}

/* What a node of another version, or a broken one, may send. */
static void nonsense_is_shown_and_harms_nothing(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "7",
        "[7,null,\"x\",{\"node\":\"one\",\"role\":3,\"members\":7}]",
        "{\"nodes\":[[],{\"id\":\"x\",\"stats\":[]}],\"members\":{}}",
        "[{\"role\":\"leader\",\"index\":[],\"members\":[null,{\"node\":null}]}]"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *json = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        json_t *nodes = show_merge_nodes(json, json);
        json_t *meta = show_merge_meta(json);
        FILE *out = fopen("/dev/null", "w");
        char text[128];

        assert_non_null(out);
        show_nodes(nodes, out);
        show_meta(meta, out);
        (void)show_joining(json, 1, text);
        (void)fclose(out);
        json_decref(meta);
        json_decref(nodes);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_shown_with_their_part_in_the_metadata),
        cmocka_unit_test(without_meta_status_only_the_leader_is_known),
        cmocka_unit_test(metadata_nodes_are_shown_with_what_is_wrong),
        cmocka_unit_test(the_leader_is_the_one_of_the_newest_term),
        cmocka_unit_test(a_member_that_was_not_asked_is_shown_too),
        cmocka_unit_test(a_joining_node_shows_how_far_it_is),
        cmocka_unit_test(nonsense_is_shown_and_harms_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
