/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/log.h"

#define LINES_MAX 64

struct lines {
    char text[LINES_MAX][4096];
    size_t count; /* may pass LINES_MAX */
};

static void keep(void *ctx, const char *line)
{
    struct lines *lines = ctx;

    if (lines->count < LINES_MAX) {
        (void)snprintf(lines->text[lines->count], sizeof(lines->text[0]), "%s", line);
    }
    lines->count++;
}

static struct lines kept;

static int setup(void **state)
{
    memset(&kept, 0, sizeof(kept));
    hf_log_set_level(HF_LOG_INFO);
    hf_log_set_sink(keep, &kept);
    *state = &kept;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hf_log_set_sink(NULL, NULL);
    return 0;
}

static void a_line_is_a_utc_time_and_then_what_was_said(void **state)
{
    struct lines *lines = *state;
    const char pattern[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    const char *line = lines->text[0];

    hf_log(HF_LOG_WARN, "store", "quarantined", "oid=%s offset=%d", "017.2a.1f", 4096);
    assert_int_equal(lines->count, 1);
    for (size_t i = 0; i < sizeof(pattern) - 1; i++) {
        if (pattern[i] == 'd') {
            assert_true(isdigit((unsigned char)line[i]));
        } else {
            assert_int_equal(line[i], pattern[i]);
        }
    }
    assert_string_equal(line + sizeof(pattern) - 1,
                        "warn store quarantined oid=017.2a.1f offset=4096");
}

static void an_empty_format_leaves_no_trailing_space(void **state)
{
    struct lines *lines = *state;

    hf_log(HF_LOG_INFO, "node", "ready", "%s", "");
    hf_log_emit(&(struct hf_log_place){0}, HF_LOG_INFO, "node", "stopped", "%s", "x=1");
    assert_non_null(strstr(lines->text[1], " info node stopped x=1"));
    memset(lines, 0, sizeof(*lines));
    hf_log(HF_LOG_INFO, "node", "ready", "");
    assert_string_equal(strstr(lines->text[0], " info"), " info node ready");
}

static void lines_below_the_level_are_not_said(void **state)
{
    struct lines *lines = *state;

    hf_log(HF_LOG_DEBUG, "x", "quiet", "");
    assert_int_equal(lines->count, 0);
    hf_log_set_level(HF_LOG_DEBUG);
    hf_log(HF_LOG_DEBUG, "x", "loud", "");
    assert_int_equal(lines->count, 1);
    hf_log_set_level(HF_LOG_ERROR);
    hf_log(HF_LOG_WARN, "x", "quiet", "");
    assert_int_equal(lines->count, 1);
}

static void level_names_parse_and_others_are_refused(void **state)
{
    enum hf_log_level level = HF_LOG_ERROR;

    (void)state;
    assert_int_equal(hf_log_parse_level("debug", &level), 0);
    assert_int_equal(level, HF_LOG_DEBUG);
    assert_int_equal(hf_log_parse_level("Warn", &level), -EINVAL);
    assert_int_equal(hf_log_parse_level("", &level), -EINVAL);
    assert_int_equal(level, HF_LOG_DEBUG);
}

static void control_characters_cannot_forge_a_line(void **state)
{
    struct lines *lines = *state;

    hf_log(HF_LOG_INFO, "fs", "created", "name=%s", "a\n2026 error\x1b[1m\x7f");
    assert_non_null(strstr(lines->text[0], "name=a?2026 error?[1m?"));
    assert_null(strchr(lines->text[0], '\n'));
}

static void a_line_too_long_says_that_it_was_cut(void **state)
{
    struct lines *lines = *state;
    char value[3000];
    size_t len;

    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    hf_log(HF_LOG_INFO, "x", "long", "value=%s", value);
    len = strlen(lines->text[0]);
    assert_true(len < sizeof(value));
    assert_string_equal(lines->text[0] + len - 3, "...");
}

/* The place's window is set by hand to a second that has passed, so that no time need pass. */
static void a_chatty_place_is_held_back_and_later_says_by_how_much(void **state)
{
    struct lines *lines = *state;
    struct hf_log_place place = {0};
    const char *said;
    unsigned suppressed;

    for (unsigned i = 0; i < 3 * HF_LOG_BURST; i++) {
        hf_log_emit(&place, HF_LOG_ERROR, "x", "again", "i=%u", i);
    }
    assert_true(lines->count >= HF_LOG_BURST && lines->count < 3 * HF_LOG_BURST);
    suppressed = place.suppressed;
    assert_true(suppressed > 0);
    place.window_s--;
    lines->count = 0;
    hf_log_emit(&place, HF_LOG_ERROR, "x", "again", "i=%u", 99u);
    assert_int_equal(lines->count, 1);
    said = strstr(lines->text[0], "suppressed=");
    assert_non_null(said);
    assert_int_equal(strtoul(said + strlen("suppressed="), NULL, 10), suppressed);
    assert_int_equal(place.suppressed, 0);
}

static void *chat(void *arg)
{
    struct hf_log_place *place = arg;

    for (int i = 0; i < 1000; i++) {
        hf_log_emit(place, HF_LOG_ERROR, "x", "threads", "");
    }
    return NULL;
}

static void no_line_of_many_threads_is_lost_uncounted(void **state)
{
    struct lines *lines = *state;
    struct hf_log_place place = {0};
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, chat, &place), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(lines->count > 0 && lines->count < 4000);
    for (size_t i = 0; i < lines->count && i < LINES_MAX; i++) {
        const char *said = strstr(lines->text[i], "suppressed=");

        place.suppressed += said ? (uint32_t)strtoul(said + strlen("suppressed="), NULL, 10) : 0;
    }
    assert_int_equal(lines->count + place.suppressed, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_is_a_utc_time_and_then_what_was_said, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_empty_format_leaves_no_trailing_space, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_below_the_level_are_not_said, setup, teardown),
        cmocka_unit_test_setup_teardown(level_names_parse_and_others_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(control_characters_cannot_forge_a_line, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_too_long_says_that_it_was_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_chatty_place_is_held_back_and_later_says_by_how_much,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(no_line_of_many_threads_is_lost_uncounted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
