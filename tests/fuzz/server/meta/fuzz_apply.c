/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any sequence of operations that decodes: the state machine answers each, and what it is left with
 * adds up. An input is records of (message length u16, bulk length u16, message, bulk). Session and
 * stream number are put right for all but a few, so that operations get past the door.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/env/env_real.h"
#include "server/meta/state.h"
#include "tests/fuzz/fuzz.h"

struct machine {
    struct hf_table_model *model;
    struct hf_table *table;
    struct hf_meta *meta;
    uint64_t index, stream;
    struct hf_session_id session;
    struct hf_meta_reply reply;
};

static struct hf_env *env;

static void apply(struct machine *m, const struct hf_meta_op *op)
{
    const struct hf_meta_entry entry = {
        .index = ++m->index, .term = 1, .time_ns = 1000000 + m->index, .op = op};
    struct hf_meta_read rd = {.op = HF_RD_STREAM, .session = m->session};
    struct hf_meta_reply reply;

    HF_ASSERT(hf_meta_apply(m->meta, &entry, &m->reply) == 0);
    hf_meta_read(m->meta, &rd, &reply, NULL, 0);
    m->stream = reply.last_stream;
}

static void open_session(struct machine *m)
{
    const struct hf_meta_op op = {.op = HF_OP_SESSION_OPEN, .uuid = {{(uint8_t)m->index, 7}}};

    apply(m, &op);
    HF_ASSERT(m->reply.err == 0);
    m->session = m->reply.session;
    m->stream = 0;
}

static void machine_init(struct machine *m)
{
    static const struct hf_env_real_options options = {.disk_threads = 1, .cpu = -1};
    struct hf_meta_op op = {
        .op = HF_OP_FORMAT, .uuid = {{1}}, .count = 1, .size = 1, .mode = 2, .offset = 77};
    struct hf_table_base *base;
    uint64_t member = 1;

    HF_ASSERT(env || hf_env_real_new(&options, &env) == 0);
    *m = (struct machine){.model = hf_table_model_new()};
    HF_ASSERT(m->model && hf_table_base_model(m->model, &base) == 0);
    HF_ASSERT(hf_table_open(env, base, &(struct hf_table_options){.freeze_bytes = 65536},
                            &m->table) == 0);
    HF_ASSERT(hf_meta_open(m->table, &m->meta) == 0);
    apply(m, &op);
    op = (struct hf_meta_op){.op = HF_OP_NODE_ADD, .node = {1}, .text = "h:1", .count = 1};
    apply(m, &op);
    for (uint32_t g = 0; g < 2; g++) {
        op = (struct hf_meta_op){
            .op = HF_OP_GROUP_SET, .count = g, .holders = &member, .holder_count = 1};
        apply(m, &op);
    }
    open_session(m);
}

static void machine_fini(struct machine *m)
{
    char *text = NULL;

    HF_ASSERT(hf_meta_fsck(m->meta, &text) == 0);
    HF_ASSERT(hf_table_rescan(m->table) == 0);
    free(text);
    hf_meta_close(m->meta);
    hf_table_close(m->table);
    hf_table_model_free(m->model);
}

static bool in_stream(enum hf_op op)
{
    return op == HF_OP_INO_RANGE || (op >= HF_OP_CREATE && op <= HF_OP_ORPHAN_RELEASE);
}

static void run(struct machine *m, struct hf_meta_op *op)
{
    if (!hf_meta_session_live(m->meta, m->session)) {
        open_session(m);
    }
    if (op->time_ns % 16 != 15) {
        op->session = m->session;
        op->stream = in_stream(op->op) ? m->stream + 1 : 0;
        for (uint32_t i = 0; i < op->object_count; i++) {
            op->objects[i].oid.session = m->session.v;
        }
    }
    apply(m, op);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hf_reader r = hf_reader_init(data, len);
    struct machine m;

    machine_init(&m);
    for (int i = 0; i < 64 && hf_reader_left(&r) >= 4; i++) {
        size_t msg_len = hf_read_le16(&r), bulk_len = hf_read_le16(&r);
        const uint8_t *msg, *bulk;
        struct hf_meta_op op;
        void *mem;

        msg_len = msg_len < hf_reader_left(&r) ? msg_len : hf_reader_left(&r);
        msg = hf_read_bytes(&r, msg_len);
        bulk_len = bulk_len < hf_reader_left(&r) ? bulk_len : hf_reader_left(&r);
        bulk = hf_read_bytes(&r, bulk_len);
        if (hf_meta_op_decode(msg, msg_len, bulk, bulk_len, &op, &mem) == 0) {
            run(&m, &op);
            hf_meta_op_release(mem);
        }
    }
    machine_fini(&m);
    return 0;
}

#define NAME(n) .name = (n), .name_len = sizeof(n) - 1

/* Small lives of a file system, each operation that there is in one of them. */
size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    const uint64_t ino = 512; /* the first of the first session */
    struct hf_wr_object object = {.oid = {.seq = 1}, .len_bytes = 9000, .holders = 1, .epoch = {9}};
    struct hf_wr_extent extents[] = {
        {.ino = {ino}, .off_bytes = 4190000, .len_bytes = 9000},
        {.ino = {ino}, .off_bytes = 4200000, .len_bytes = 5, .object = HF_EXTENT_INLINE}};
    struct hf_wr_inode inode = {.ino = {ino}, .size_min_bytes = 4200005, .mtime_ns = 5};
    uint64_t holder = 1;
    struct hf_oid oid = {.session = 1, .seq = 1};
    const struct hf_meta_op file = {
        .op = HF_OP_CREATE, .parent = {1}, NAME("f"), .ino = {ino}, .mode = S_IFREG | 0644};
    const struct hf_meta_op dir = {
        .op = HF_OP_CREATE, .parent = {1}, NAME("d"), .ino = {ino + 1}, .mode = S_IFDIR | 0755};
    const struct hf_meta_op write = {
        .op = HF_OP_WRITE,
        .objects = &object,
        .extents = extents,
        .inodes = &inode,
        .object_count = 1,
        .extent_count = 2,
        .inode_count = 1,
        .bulk = "bytes",
        .bulk_len = 5,
    };
    const struct hf_meta_op seeds[][8] = {
        {file,
         dir,
         {.op = HF_OP_RENAME,
          .parent = {1},
          NAME("f"),
          .parent2 = {ino + 1},
          .name2 = "g",
          .name2_len = 1},
         {.op = HF_OP_RENAME,
          .parent = {1},
          NAME("d"),
          .parent2 = {ino + 1},
          .name2 = "g",
          .name2_len = 1,
          .flags = 2}},
        {file,
         write,
         {.op = HF_OP_SETATTR, .ino = {ino}, .mask = 0xff, .size = 100, .mode = 0600},
         {.op = HF_OP_UNLINK, .parent = {1}, NAME("f"), .holders = &holder, .holder_count = 1},
         {.op = HF_OP_ORPHAN_RELEASE, .ino = {ino}},
         {.op = HF_OP_PURGE, .ino = {ino}}},
        {file,
         write,
         {.op = HF_OP_PUNCH, .ino = {ino}, .offset = 4195000, .length = 100},
         {.op = HF_OP_CLONE, .ino = {ino}, .ino2 = {ino}, .offset = 4190000, .length = 2000},
         {.op = HF_OP_ALLOCATE, .ino = {ino}, .length = UINT64_C(1) << 40},
         {.op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_SIZE, .size = 4190005},
         {.op = HF_OP_PURGE, .ino = {ino}, .count = 1}},
        {file,
         {.op = HF_OP_LINK, .ino = {ino}, .parent = {1}, NAME("l")},
         {.op = HF_OP_SETXATTR, .ino = {ino}, NAME("user.a"), .bulk = "v", .bulk_len = 1},
         {.op = HF_OP_SETXATTR,
          .ino = {1},
          NAME("system.posix_acl_default"),
          .bulk = "\2\0\0\0\1\0\7\0\0\0\0\0\4\0\5\0\0\0\0\0\40\0\1\0\0\0\0",
          .bulk_len = 28},
         dir,
         {.op = HF_OP_REMOVEXATTR, .ino = {ino}, NAME("user.a")}},
        {{.op = HF_OP_TMPFILE, .parent = {1}, .ino = {ino}, .mode = S_IFREG | 0644, .flags = 1},
         write,
         {.op = HF_OP_LINK, .ino = {ino}, .parent = {1}, NAME("l")},
         {.op = HF_OP_TMPFILE, .parent = {1}, .ino = {ino + 1}, .mode = S_IFREG},
         {.op = HF_OP_ORPHAN_RELEASE, .ino = {ino + 1}}},
        {file,
         {.op = HF_OP_LOCK, .ino = {ino}, .lock_owner = 1, .lock_type = 1, .length = 10},
         {.op = HF_OP_LOCK, .ino = {ino}, .lock_owner = 1, .lock_type = 2, .offset = 5},
         {.op = HF_OP_LOCK_RELEASE, .ino = {ino}, .lock_owner = 1},
         {.op = HF_OP_SESSION_CLOSE},
         {.op = HF_OP_INO_RANGE, .count = 600}},
        {{.op = HF_OP_NODE_ADD, .node = {2}, .text = "h:2", .count = 1},
         {.op = HF_OP_GROUP_SET, .holders = (uint64_t[]){0x0201, 0}, .holder_count = 2},
         file,
         write,
         {.op = HF_OP_DEGRADED_CLEAR, .node = {2}, .oids = &oid, .oid_count = 1},
         {.op = HF_OP_DEGRADED_ADD, .node = {2}, .oids = &oid, .oid_count = 1},
         {.op = HF_OP_NODE_STATE, .node = {2}, .node_state = HF_NODE_DOWN},
         {.op = HF_OP_GROUP_SET, .holders = (uint64_t[]){1, 0}, .holder_count = 2}},
        {file,
         write,
         {.op = HF_OP_UNLINK, .parent = {1}, NAME("f")},
         {.op = HF_OP_OBJECTS_GONE, .oids = &oid, .oid_count = 1},
         dir,
         {.op = HF_OP_RMDIR, .parent = {1}, NAME("d")},
         {.op = HF_OP_SESSION_EVICT}},
    };
    size_t at = 0;

    if (index >= HF_ARRAY_LEN(seeds)) {
        return 0;
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(seeds[index]) && seeds[index][i].op; i++) {
        static uint8_t msg[HF_RPC_MSG_MAX];
        const struct hf_meta_op *op = &seeds[index][i];
        size_t len;

        HF_ASSERT(hf_meta_op_encode(op, msg, &len) == 0);
        HF_ASSERT(at + 4 + len + op->bulk_len <= cap);
        hf_put_le16(ret + at, (uint16_t)len);
        hf_put_le16(ret + at + 2, (uint16_t)op->bulk_len);
        memcpy(ret + at + 4, msg, len);
        if (op->bulk_len) {
            memcpy(ret + at + 4 + len, op->bulk, op->bulk_len);
        }
        at += 4 + len + op->bulk_len;
    }
    return at;
}
