/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contents.h - what a file may hold: the model of one file's bytes.
 *
 *     now    = base + changes         what its only writer reads back, exactly
 *     others, and everybody after a crash, see base with any of the changes in it or not, byte by
 *     byte: each byte is that of base, or of a change since
 *     synced:  changes up to there are in base
 *     left:    what may be left of them for whoever comes after that
 *     adopt:   what was seen after a crash is base from then on
 *     see:     what was seen after an error is now, and may be lost as any change may
 *
 * While somebody looks (a pin), base keeps what it was when they began.
 * Threads: one.
 */
#ifndef HF_TESTS_SIM_CONTENTS_H
#define HF_TESTS_SIM_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contents;

struct contents *contents_new(void);
void contents_free(struct contents *c);

uint64_t contents_size(const struct contents *c);
/** Fill with the bytes that a write named @tag puts at @off. */
void contents_pattern(uint64_t tag, uint64_t off, uint8_t *ret, size_t len);
void contents_write(struct contents *c, uint64_t tag, uint64_t off, size_t len);
/** Bytes of another file, copied as they are now. */
void contents_copy(struct contents *to, uint64_t to_off, const struct contents *from,
                   uint64_t from_off, size_t len);
void contents_truncate(struct contents *c, uint64_t size);
void contents_punch(struct contents *c, uint64_t off, uint64_t len);

/** Number of the last change. */
uint64_t contents_seq(const struct contents *c);
void contents_synced(struct contents *c, uint64_t seq);
/** Nothing has changed since. */
bool contents_is_synced(const struct contents *c);
void contents_adopt(struct contents *c, const uint8_t *bytes, uint64_t size);
void contents_see(struct contents *c, const uint8_t *bytes, uint64_t size);
/** A count of adoptions. */
uint64_t contents_generation(const struct contents *c);
void contents_pin(struct contents *c);
void contents_unpin(struct contents *c);

/** Its writer read this at @off. -1: right; else the first byte that is wrong. */
int64_t contents_is(const struct contents *c, uint64_t off, const uint8_t *bytes, size_t len);
/** Its writer was told of a hole there. -1: right; else the first byte that is not zero. */
int64_t contents_is_hole(const struct contents *c, uint64_t off, uint64_t end);
/** Somebody read this, the whole file. -1: possible; else the first byte that is not, or the size
 *  when it is the size that is not. */
int64_t contents_may_be(const struct contents *c, const uint8_t *bytes, uint64_t size);
/** Likewise, and all that was synced is in it, whoever else looks. */
int64_t contents_may_be_left(const struct contents *c, const uint8_t *bytes, uint64_t size);
/** Sizes and changes, for people. Returns @ret. */
const char *contents_str(const struct contents *c, char ret[512]);

#endif
