/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena_wire.h - protobuf bytes to and from structs: a bounded arena for unpacking, and the little
 * rules that all of them share. For protobuf encoders only: *_wire.c, server/raft/wire.c.
 *
 * An unpacked message and what a decoder makes of it live in one arena: one malloc for a small
 * message. It refuses to grow past ARENA_BYTES_MAX, so no message makes a decoder allocate more.
 */
#ifndef HF_WIRE_ARENA_WIRE_H
#define HF_WIRE_ARENA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/base/ids.h"
#include "common/base/limits.h"

#define ARENA_BYTES_MAX (1u << 20)

struct arena_chunk {
    struct arena_chunk *next;
};

struct arena { /* at the front of its own first block */
    ProtobufCAllocator pb;
    uint8_t *at;
    uint8_t *end;
    size_t left_bytes; /* that may still be allocated */
    bool starved;      /* there was no memory; past the bound is another thing */
    struct arena_chunk *chunks;
};

/** @room_bytes  expected need; more comes in chunks. NULL: out of memory. */
struct arena *arena_new(size_t room_bytes);
/** NULL is a no-op. */
void arena_free(struct arena *a);
/** 16-byte aligned, not zeroed. NULL: out of memory or past the bound. */
void *arena_alloc(struct arena *a, size_t bytes);
/** Of an allocation that gave NULL: -ENOMEM, or -EBADMSG for what is past the bound. */
int arena_error(const struct arena *a);
/** @count elements; also for 0 a non-NULL pointer. */
void *arena_array(struct arena *a, size_t count, size_t element_bytes);

/**
 * Unpack into a new arena. @ret_arena is freed with arena_free(), the message with it.
 * Errors: -EBADMSG, -ENOMEM
 */
int wire_unpack(const ProtobufCMessageDescriptor *type, const void *msg, size_t len,
                struct arena **ret_arena, const void **ret);
/** Errors: -EMSGSIZE. */
int wire_pack(const ProtobufCMessage *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len);

/* An optional scalar is sent when it is not zero. */
#define WIRE_SET(pb, field, value)                                                                 \
    do {                                                                                           \
        if ((value) != 0) {                                                                        \
            (pb).has_##field = 1;                                                                  \
            (pb).field = (value);                                                                  \
        }                                                                                          \
    } while (0)

/* A bytes field is sent when its pointer is there, also if empty. */
#define WIRE_SET_BYTES(pb, field, ptr, bytes)                                                      \
    do {                                                                                           \
        if (ptr) {                                                                                 \
            (pb).has_##field = 1;                                                                  \
            (pb).field.len = (bytes);                                                              \
            (pb).field.data = (uint8_t *)(ptr);                                                    \
        }                                                                                          \
    } while (0)

/** Bytes without NUL, at most @max of them; absent: NULL. */
bool wire_get_name(protobuf_c_boolean has, const ProtobufCBinaryData *field, size_t max,
                   const char **ret, size_t *ret_len);
/** Exactly 16 bytes; absent: zero. */
bool wire_get_uuid(protobuf_c_boolean has, const ProtobufCBinaryData *field, struct hf_uuid *ret);
/** Exactly 16 bytes; must be there. */
bool wire_get_oid(const ProtobufCBinaryData *field, struct hf_oid *ret);
/** At most @max; *ret from the arena. Errors: -EBADMSG. */
int wire_get_oids(struct arena *a, const ProtobufCBinaryData *fields, size_t count, size_t max,
                  struct hf_oid **ret);
/** Text into a fixed array; absent: empty. False: too long. */
bool wire_get_text(const char *field, char *ret, size_t cap);

/** Encoded ids, and the column that points at them. */
struct wire_oids {
    uint8_t bytes[1024][HF_OID_BYTES];
    ProtobufCBinaryData column[1024];
};
void wire_put_oids(struct wire_oids *w, uint32_t at, const struct hf_oid *oid);

#endif
