/* SPDX-License-Identifier: Apache-2.0 */
/*
 * assert.h - checks of the program's own state; on in release builds too.
 *
 * Bytes from the wire, the disk, the kernel or the user are never asserted: their decoders return
 * -EBADMSG. Past the decoder, assert freely.
 */
#ifndef HF_BASE_ASSERT_H
#define HF_BASE_ASSERT_H

/** Print the expression, the place and a backtrace to stderr, then abort. */
_Noreturn void hf_assert_fail(const char *expr, const char *file, int line, const char *func);

#define HF_ASSERT(expr) ((expr) ? (void)0 : hf_assert_fail(#expr, __FILE__, __LINE__, __func__))

/**
 * Of an allocation whose failure nobody can be told: an answer, a completion or a deadline that is
 * owed needs it. Says so and aborts, before anything changed; what was acknowledged is durable.
 * Everything else returns -ENOMEM.
 */
#define HF_ASSERT_MEMORY(got)                                                                      \
    ((got) ? (void)0 : hf_assert_fail("out of memory: " #got, __FILE__, __LINE__, __func__))

#define HF_UNREACHABLE() hf_assert_fail("unreachable", __FILE__, __LINE__, __func__)

/** The enclosing struct of an embedded member. */
#define hf_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define HF_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
