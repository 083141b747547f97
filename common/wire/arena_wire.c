/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/arena_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN       16u
#define CHUNK_BYTES (16u << 10)
#define CHUNK_HEAD  ((sizeof(struct arena_chunk) + ALIGN - 1) & ~(size_t)(ALIGN - 1))
#define ARENA_HEAD  ((sizeof(struct arena) + ALIGN - 1) & ~(size_t)(ALIGN - 1))

static void *pb_alloc(void *ctx, size_t bytes)
{
    return arena_alloc((struct arena *)ctx, bytes);
}

static void pb_free(void *ctx, void *ptr)
{
    (void)ctx;
    (void)ptr; /* all goes with the arena */
}

struct arena *arena_new(size_t room_bytes)
{
    struct arena *a = malloc(ARENA_HEAD + room_bytes);

    if (!a) {
        return NULL;
    }
    a->pb = (ProtobufCAllocator){.alloc = pb_alloc, .free = pb_free, .allocator_data = a};
    a->at = (uint8_t *)a + ARENA_HEAD;
    a->end = a->at + room_bytes;
    a->left_bytes = room_bytes < ARENA_BYTES_MAX ? ARENA_BYTES_MAX - room_bytes : 0;
    a->starved = false;
    a->chunks = NULL;
    return a;
}

void arena_free(struct arena *a)
{
    if (!a) {
        return;
    }
    while (a->chunks) {
        struct arena_chunk *chunk = a->chunks;

        a->chunks = chunk->next;
        free(chunk);
    }
    free(a);
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    uint8_t *p;

    if (bytes > ARENA_BYTES_MAX) {
        return NULL;
    }
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if ((size_t)(a->end - a->at) < bytes) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        struct arena_chunk *chunk;

        if (room > a->left_bytes) {
            return NULL;
        }
        chunk = malloc(CHUNK_HEAD + room);
        if (!chunk) {
            a->starved = true;
            return NULL;
        }
        a->left_bytes -= room;
        chunk->next = a->chunks;
        a->chunks = chunk;
        a->at = (uint8_t *)chunk + CHUNK_HEAD;
        a->end = a->at + room;
    }
    p = a->at;
    a->at += bytes;
    return p;
}

int arena_error(const struct arena *a)
{
    return a->starved ? -ENOMEM : -EBADMSG;
}

void *arena_array(struct arena *a, size_t count, size_t element_bytes)
{
    if (count > ARENA_BYTES_MAX) {
        return NULL;
    }
    return arena_alloc(a, count * element_bytes);
}

int wire_unpack(const ProtobufCMessageDescriptor *type, const void *msg, size_t len,
                struct arena **ret_arena, const void **ret)
{
    struct arena *a;
    const void *m;

    if (len > HF_RPC_MSG_MAX) {
        return -EBADMSG;
    }
    /* The struct, its bytes fields with their alignment, columns about as wide as on the wire. */
    a = arena_new(type->sizeof_message + 512 + 2 * len);
    if (!a) {
        return -ENOMEM;
    }
    m = protobuf_c_message_unpack(type, &a->pb, len, msg ? msg : (const uint8_t *)"");
    if (!m) {
        int err = arena_error(a);

        arena_free(a);
        return err;
    }
    *ret_arena = a;
    *ret = m;
    return 0;
}

int wire_pack(const ProtobufCMessage *m, uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    if (protobuf_c_message_get_packed_size(m) > HF_RPC_MSG_MAX) {
        return -EMSGSIZE;
    }
    *ret_len = protobuf_c_message_pack(m, ret);
    return 0;
}

bool wire_get_name(protobuf_c_boolean has, const ProtobufCBinaryData *field, size_t max,
                   const char **ret, size_t *ret_len)
{
    *ret = NULL;
    *ret_len = 0;
    if (!has) {
        return true;
    }
    if (field->len > max || (field->len && memchr(field->data, '\0', field->len))) {
        return false;
    }
    *ret = field->len ? (const char *)field->data : "";
    *ret_len = field->len;
    return true;
}

bool wire_get_uuid(protobuf_c_boolean has, const ProtobufCBinaryData *field, struct hf_uuid *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (!has) {
        return true;
    }
    if (field->len != sizeof(ret->b)) {
        return false;
    }
    memcpy(ret->b, field->data, sizeof(ret->b));
    return true;
}

bool wire_get_oid(const ProtobufCBinaryData *field, struct hf_oid *ret)
{
    if (field->len != HF_OID_BYTES) {
        return false;
    }
    *ret = hf_oid_decode(field->data);
    return true;
}

int wire_get_oids(struct arena *a, const ProtobufCBinaryData *fields, size_t count, size_t max,
                  struct hf_oid **ret)
{
    struct hf_oid *oids;

    if (count > max) {
        return -EBADMSG;
    }
    oids = arena_array(a, count, sizeof(*oids));
    if (!oids) {
        return arena_error(a);
    }
    for (size_t i = 0; i < count; i++) {
        if (!wire_get_oid(&fields[i], &oids[i])) {
            return -EBADMSG;
        }
    }
    *ret = oids;
    return 0;
}

bool wire_get_text(const char *field, char *ret, size_t cap)
{
    size_t len = field ? strlen(field) : 0;

    if (len >= cap) {
        return false;
    }
    memset(ret, 0, cap);
    if (len) {
        memcpy(ret, field, len);
    }
    return true;
}

void wire_put_oids(struct wire_oids *w, uint32_t at, const struct hf_oid *oid)
{
    hf_oid_encode(oid, w->bytes[at]);
    w->column[at] = (ProtobufCBinaryData){.len = HF_OID_BYTES, .data = w->bytes[at]};
}
