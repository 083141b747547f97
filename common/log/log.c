/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"

#define LINE_BYTES_MAX 2048u /* longer lines end in "..." */

static const char *const level_names[] = {
    [HF_LOG_ERROR] = "error",
    [HF_LOG_WARN] = "warn",
    [HF_LOG_INFO] = "info",
    [HF_LOG_DEBUG] = "debug",
};

static struct {
    enum hf_log_level level; /* atomic */
    pthread_mutex_t lock;    /* protects what follows, and is held while fn runs */
    void (*fn)(void *ctx, const char *line);
    void *ctx;
} sink = {.level = HF_LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

struct line {
    char text[LINE_BYTES_MAX];
    size_t len; /* < LINE_BYTES_MAX - 1: there is room for the line's end */
};

void hf_log_set_level(enum hf_log_level level)
{
    __atomic_store_n(&sink.level, level, __ATOMIC_RELAXED);
}

int hf_log_parse_level(const char *text, enum hf_log_level *ret)
{
    for (size_t i = 0; i < HF_ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret = (enum hf_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

bool hf_log_enabled(enum hf_log_level level)
{
    return level <= __atomic_load_n(&sink.level, __ATOMIC_RELAXED);
}

void hf_log_set_sink(void (*fn)(void *ctx, const char *line), void *ctx)
{
    (void)pthread_mutex_lock(&sink.lock);
    sink.fn = fn;
    sink.ctx = ctx;
    (void)pthread_mutex_unlock(&sink.lock);
}

/*
 * May this place speak now? The first line of a new second also tells how many were kept back
 * before. Two threads at a second's edge may let a line or two more pass.
 */
static bool place_admits(struct hf_log_place *place, uint32_t *ret_suppressed)
{
    struct timespec ts = {0};
    uint64_t seen_s = __atomic_load_n(&place->window_s, __ATOMIC_RELAXED);
    uint64_t now_s;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts); /* zeros on failure: all one window */
    now_s = (uint64_t)ts.tv_sec + 1;
    *ret_suppressed = 0;
    if (seen_s != now_s && __atomic_compare_exchange_n(&place->window_s, &seen_s, now_s, false,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_store_n(&place->count, 0, __ATOMIC_RELAXED);
        *ret_suppressed = __atomic_exchange_n(&place->suppressed, 0, __ATOMIC_RELAXED);
    }
    if (__atomic_fetch_add(&place->count, 1, __ATOMIC_RELAXED) < HF_LOG_BURST) {
        return true;
    }
    (void)__atomic_fetch_add(&place->suppressed, 1 + *ret_suppressed, __ATOMIC_RELAXED);
    return false;
}

static void line_vappend(struct line *line, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
static void line_append(struct line *line, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void line_vappend(struct line *line, const char *fmt, va_list args)
{
    const size_t room = LINE_BYTES_MAX - 1 - line->len;
    int n = vsnprintf(line->text + line->len, room, fmt, args);

    if (n < 0) {
        line->text[line->len] = '\0';
    } else if ((size_t)n >= room) {
        line->len = LINE_BYTES_MAX - 2;
        memcpy(line->text + line->len - 3, "...", 4);
    } else {
        line->len += (size_t)n;
    }
}

static void line_append(struct line *line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    line_vappend(line, fmt, args);
    va_end(args);
}

static void line_begin(struct line *line)
{
    struct timespec ts = {0};
    struct tm tm = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    line->len = strftime(line->text, LINE_BYTES_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    line_append(line, ".%03ldZ ", ts.tv_nsec / 1000000);
}

/* A name that a user chose must not be able to write lines of its own. */
static void line_disarm(struct line *line)
{
    for (size_t i = 0; i < line->len; i++) {
        if ((unsigned char)line->text[i] < ' ' || line->text[i] == 0x7f) {
            line->text[i] = '?';
        }
    }
}

static void line_deliver(struct line *line)
{
    bool taken;

    (void)pthread_mutex_lock(&sink.lock);
    taken = sink.fn != NULL;
    if (taken) {
        sink.fn(sink.ctx, line->text);
    }
    (void)pthread_mutex_unlock(&sink.lock);
    if (!taken) {
        ssize_t n;

        line->text[line->len++] = '\n';
        do {
            n = write(STDERR_FILENO, line->text, line->len); /* one call: lines do not mix */
        } while (n < 0 && errno == EINTR);
    }
}

void hf_log_emit(struct hf_log_place *place, enum hf_log_level level, const char *module,
                 const char *event, const char *fmt, ...)
{
    int saved_errno = errno;
    uint32_t suppressed;
    struct line line;
    va_list args;

    if (!place_admits(place, &suppressed)) {
        return;
    }
    line_begin(&line);
    line_append(&line, "%s %s %s", level_names[level], module, event);
    if (suppressed) {
        line_append(&line, " suppressed=%u", suppressed);
    }
    if (fmt[0]) {
        line_append(&line, " ");
        va_start(args, fmt);
        line_vappend(&line, fmt, args);
        va_end(args);
    }
    line_disarm(&line);
    line_deliver(&line);
    errno = saved_errno;
}
