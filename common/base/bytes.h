/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - fixed-width integers in byte strings, and a bounded reader and writer over them.
 *
 * Disk and wire are little-endian; table keys are big-endian, so that bytes order as numbers do.
 * The cursors never pass their end: an overrun makes them `bad` and every later get returns 0, so
 * a decoder checks once, at its end.
 */
#ifndef HF_BASE_BYTES_H
#define HF_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HF_BYTES_ACCESSORS(bits)                                                                   \
    static inline uint##bits##_t hf_get_le##bits(const void *p)                                    \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return le##bits##toh(v);                                                                   \
    }                                                                                              \
    static inline void hf_put_le##bits(void *p, uint##bits##_t v)                                  \
    {                                                                                              \
        v = htole##bits(v);                                                                        \
        memcpy(p, &v, sizeof(v));                                                                  \
    }                                                                                              \
    static inline uint##bits##_t hf_get_be##bits(const void *p)                                    \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return be##bits##toh(v);                                                                   \
    }                                                                                              \
    static inline void hf_put_be##bits(void *p, uint##bits##_t v)                                  \
    {                                                                                              \
        v = htobe##bits(v);                                                                        \
        memcpy(p, &v, sizeof(v));                                                                  \
    }

HF_BYTES_ACCESSORS(16)
HF_BYTES_ACCESSORS(32)
HF_BYTES_ACCESSORS(64)

struct hf_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad; /* something was asked for past the end */
};

static inline struct hf_reader hf_reader_init(const void *data, size_t len_bytes)
{
    const uint8_t *p = (const uint8_t *)data;

    return (struct hf_reader){.at = p, .end = p + len_bytes};
}

/** The next @len bytes, borrowed; NULL (and bad) when fewer are left. */
static inline const uint8_t *hf_read_bytes(struct hf_reader *r, size_t len)
{
    const uint8_t *p = r->at;

    if (r->bad || (size_t)(r->end - r->at) < len) {
        r->bad = true;
        return NULL;
    }
    r->at += len;
    return p;
}

static inline uint8_t hf_read_u8(struct hf_reader *r)
{
    const uint8_t *p = hf_read_bytes(r, 1);

    return p ? *p : 0;
}

static inline uint16_t hf_read_le16(struct hf_reader *r)
{
    const uint8_t *p = hf_read_bytes(r, 2);

    return p ? hf_get_le16(p) : 0;
}

static inline uint32_t hf_read_le32(struct hf_reader *r)
{
    const uint8_t *p = hf_read_bytes(r, 4);

    return p ? hf_get_le32(p) : 0;
}

static inline uint64_t hf_read_le64(struct hf_reader *r)
{
    const uint8_t *p = hf_read_bytes(r, 8);

    return p ? hf_get_le64(p) : 0;
}

static inline size_t hf_reader_left(const struct hf_reader *r)
{
    return r->bad ? 0 : (size_t)(r->end - r->at);
}

struct hf_writer {
    uint8_t *at;
    uint8_t *end;
    bool bad;
};

static inline struct hf_writer hf_writer_init(void *data, size_t cap_bytes)
{
    uint8_t *p = (uint8_t *)data;

    return (struct hf_writer){.at = p, .end = p + cap_bytes};
}

/** Room for @len bytes; NULL (and bad) when there is less. */
static inline uint8_t *hf_write_room(struct hf_writer *w, size_t len)
{
    uint8_t *p = w->at;

    if (w->bad || (size_t)(w->end - w->at) < len) {
        w->bad = true;
        return NULL;
    }
    w->at += len;
    return p;
}

static inline void hf_write_bytes(struct hf_writer *w, const void *data, size_t len)
{
    uint8_t *p = hf_write_room(w, len);

    if (p && len) {
        memcpy(p, data, len);
    }
}

static inline void hf_write_u8(struct hf_writer *w, uint8_t v)
{
    hf_write_bytes(w, &v, 1);
}

static inline void hf_write_le16(struct hf_writer *w, uint16_t v)
{
    uint8_t *p = hf_write_room(w, 2);

    if (p) {
        hf_put_le16(p, v);
    }
}

static inline void hf_write_le32(struct hf_writer *w, uint32_t v)
{
    uint8_t *p = hf_write_room(w, 4);

    if (p) {
        hf_put_le32(p, v);
    }
}

static inline void hf_write_le64(struct hf_writer *w, uint64_t v)
{
    uint8_t *p = hf_write_room(w, 8);

    if (p) {
        hf_put_le64(p, v);
    }
}

#endif
