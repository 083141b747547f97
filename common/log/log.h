/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - key=value lines with levels, to stderr or a file; rate-limited by the place that logs.
 *
 *     hf_log(HF_LOG_WARN, "store", "quarantined", "oid=%s offset=%llu", ...)
 *     2026-01-02T03:04:05.678Z warn store quarantined oid=017.2a.1f offset=4096
 *
 * Libraries return errors; dispatchers log each failure once, with the object's identity and what
 * to do next. The only mutable global of the code is the sink behind this header.
 * Threads: any.
 */
#ifndef HF_LOG_LOG_H
#define HF_LOG_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum hf_log_level { HF_LOG_ERROR, HF_LOG_WARN, HF_LOG_INFO, HF_LOG_DEBUG };

struct hf_log_place { /* one per call site; zeroed */
    uint64_t window_s;
    uint32_t count;
    uint32_t suppressed;
};

/** At most this many lines a second from one place; the rest are counted and said later. */
#define HF_LOG_BURST 10u

void hf_log_set_level(enum hf_log_level level);
/** "error", "warn", "info", "debug". Errors: -EINVAL. */
int hf_log_parse_level(const char *text, enum hf_log_level *ret);
bool hf_log_enabled(enum hf_log_level level);
/** Also route lines to fn (tests, simulator); NULL: stderr. */
void hf_log_set_sink(void (*fn)(void *ctx, const char *line), void *ctx);

void hf_log_emit(struct hf_log_place *place, enum hf_log_level level, const char *module,
                 const char *event, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/** @event: a few words or one token naming what happened; fmt: key=value pairs, may be "". */
#define hf_log(level, module, event, ...)                                                          \
    do {                                                                                           \
        static struct hf_log_place hf_log_place_;                                                  \
        if (hf_log_enabled(level)) {                                                               \
            hf_log_emit(&hf_log_place_, level, module, event, __VA_ARGS__);                        \
        }                                                                                          \
    } while (0)

#endif
