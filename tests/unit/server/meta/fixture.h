/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h - a state machine over a table over a model, for tests: one call per operation.
 *
 * Replicas of one fixture apply the same entries; their digests are compared after each.
 */
#ifndef HF_TESTS_META_FIXTURE_H
#define HF_TESTS_META_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/env/env_real.h"
#include "server/meta/state.h"

#define FX_REPLICAS 2
#define FX_SECOND   UINT64_C(1000000000)

struct fx_replica {
    struct hf_table_model *model;
    struct hf_table *table;
    struct hf_meta *meta;
};

struct fx {
    struct hf_env *env;
    struct fx_replica r[FX_REPLICAS];
    uint64_t index;
    uint64_t now_ns;
    struct hf_meta_reply reply; /* of the last operation */
    uint8_t *buf;               /* bulk of the last look */
    int checkpoint_err;
    bool same_digest_each; /* compare after each entry */
};

/* One mount's side of a session. */
struct fx_session {
    struct hf_session_id id;
    uint64_t stream;
    uint64_t next_ino, ino_end;
    uint64_t seq;
};

#define FX_BUF_BYTES (2u << 20)

static inline void fx_open_replica(struct fx *fx, struct fx_replica *r)
{
    struct hf_table_base *base;

    assert_int_equal(hf_table_base_model(r->model, &base), 0);
    assert_int_equal(hf_table_open(fx->env, base, NULL, &r->table), 0);
    assert_int_equal(hf_meta_open(r->table, &r->meta), 0);
}

static inline void fx_close_replica(struct fx_replica *r)
{
    hf_meta_close(r->meta);
    hf_table_close(r->table);
    r->meta = NULL;
    r->table = NULL;
}

static inline void fx_fsck(struct fx *fx)
{
    for (int i = 0; i < FX_REPLICAS; i++) {
        char *text = NULL;
        int err = hf_meta_fsck(fx->r[i].meta, &text);

        if (err) {
            print_error("fsck: %s: %s\n", hf_err_name(err), text ? text : "");
        }
        free(text);
        assert_int_equal(err, 0);
        assert_int_equal(hf_table_rescan(fx->r[i].table), 0);
    }
}

/* Each replica's answer borrows what lies beside it from that replica. */
static inline void fx_same_reply(const struct hf_meta_reply *a, const struct hf_meta_reply *b)
{
    struct hf_meta_reply one = *a, other = *b;

    one.bulk = other.bulk = NULL;
    assert_memory_equal(&one, &other, sizeof(one));
}

/* Apply on every replica: equal replies, equal digests. Returns the outcome. */
static inline int fx_apply(struct fx *fx, const struct hf_meta_op *op)
{
    const struct hf_meta_entry entry = {
        .index = ++fx->index,
        .term = 1,
        .time_ns = fx->now_ns,
        .op = op,
    };

    for (int i = 0; i < FX_REPLICAS; i++) {
        struct hf_meta_reply reply;

        assert_int_equal(hf_meta_apply(fx->r[i].meta, &entry, &reply), 0);
        if (i == 0) {
            fx->reply = reply;
        } else {
            fx_same_reply(&fx->reply, &reply);
            if (reply.bulk_len) {
                assert_memory_equal(fx->reply.bulk, reply.bulk, reply.bulk_len);
            }
            if (fx->same_digest_each) {
                assert_true(hf_table_digest(fx->r[0].table) == hf_table_digest(fx->r[i].table));
            }
        }
    }
    fx->now_ns += 1000;
    return fx->reply.err;
}

static inline int fx_read(struct fx *fx, const struct hf_meta_read *rd)
{
    hf_meta_read(fx->r[0].meta, rd, &fx->reply, fx->buf, FX_BUF_BYTES);
    return fx->reply.err;
}

/* A cluster of three nodes, three copies, four groups, as one FORMAT and what follows. */
static inline void fx_init(struct fx *fx)
{
    const struct hf_env_real_options options = {.disk_threads = 1, .cpu = -1};

    memset(fx, 0, sizeof(*fx));
    assert_int_equal(hf_env_real_new(&options, &fx->env), 0);
    fx->now_ns = 1000 * FX_SECOND;
    fx->same_digest_each = true;
    fx->buf = malloc(FX_BUF_BYTES);
    assert_non_null(fx->buf);
    for (int i = 0; i < FX_REPLICAS; i++) {
        fx->r[i].model = hf_table_model_new();
        assert_non_null(fx->r[i].model);
        fx_open_replica(fx, &fx->r[i]);
    }
}

static inline void fx_format(struct fx *fx)
{
    struct hf_meta_op op = {
        .op = HF_OP_FORMAT, .uuid = {{1}}, .count = 3, .size = 2, .mode = 4, .offset = 77};

    assert_int_equal(fx_apply(fx, &op), 0);
    for (uint16_t n = 1; n <= 3; n++) {
        char addr[32];

        snprintf(addr, sizeof(addr), "127.0.0.1:%u", 7000u + n);
        op = (struct hf_meta_op){
            .op = HF_OP_NODE_ADD,
            .node = {n},
            .text = addr,
            .name = "rack",
            .name_len = 4,
            .count = 100,
            .node_state = HF_NODE_UP,
        };
        assert_int_equal(fx_apply(fx, &op), 0);
    }
    for (uint32_t g = 0; g < 4; g++) {
        uint64_t members[2] = {0x030201, 0};

        op = (struct hf_meta_op){
            .op = HF_OP_GROUP_SET, .count = g, .holders = members, .holder_count = 2};
        assert_int_equal(fx_apply(fx, &op), 0);
    }
}

static inline void fx_fini(struct fx *fx)
{
    fx_fsck(fx);
    for (int i = 0; i < FX_REPLICAS; i++) {
        fx_close_replica(&fx->r[i]);
        hf_table_model_free(fx->r[i].model);
    }
    hf_env_real_free(fx->env);
    free(fx->buf);
}

static inline void fx_on_checkpoint(void *ctx, int err)
{
    struct fx *fx = ctx;

    fx->checkpoint_err = err;
    hf_env_real_stop(fx->env);
}

/* Checkpoint one replica, with the state machine's mark. */
static inline void fx_checkpoint(struct fx *fx, int i)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    size_t len = hf_meta_mark(fx->r[i].meta, mark);

    hf_table_checkpoint(fx->r[i].table, mark, len, fx_on_checkpoint, fx);
    assert_int_equal(hf_env_real_run(fx->env), 0);
    assert_int_equal(fx->checkpoint_err, 0);
}

/* Sessions */

static inline void fx_session_open(struct fx *fx, struct fx_session *s, uint8_t uuid)
{
    const struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .uuid = {{uuid}}, .text = "mount", .ttl_ns = 30 * FX_SECOND};

    assert_int_equal(fx_apply(fx, &op), 0);
    *s = (struct fx_session){
        .id = fx->reply.session,
        .next_ino = fx->reply.first_ino.v,
        .ino_end = fx->reply.first_ino.v + fx->reply.ino_count,
    };
}

/* Number the operation and apply it. */
static inline int fx_do(struct fx *fx, struct fx_session *s, struct hf_meta_op *op)
{
    op->session = s->id;
    op->stream = ++s->stream;
    op->acked = s->stream > 8 ? s->stream - 8 : 0;
    op->time_ns = fx->now_ns;
    return fx_apply(fx, op);
}

static inline int fx_create(struct fx *fx, struct fx_session *s, uint64_t parent, const char *name,
                            uint32_t mode, uint64_t *ret_ino)
{
    struct hf_meta_op op = {
        .op = HF_OP_CREATE,
        .parent = {parent},
        .name = name,
        .name_len = strlen(name),
        .ino = {s->next_ino},
        .mode = mode,
        .umask = 022,
        .uid = 1000,
        .gid = 1000,
    };
    int err;

    if (S_ISLNK(mode)) {
        op.target = "where/it/leads";
        op.target_len = strlen(op.target);
    }
    err = fx_do(fx, s, &op);
    if (!err) {
        s->next_ino++;
    }
    if (ret_ino) {
        *ret_ino = op.ino.v;
    }
    return err;
}

static inline uint64_t fx_mkfile(struct fx *fx, struct fx_session *s, uint64_t parent,
                                 const char *name)
{
    uint64_t ino;

    assert_int_equal(fx_create(fx, s, parent, name, S_IFREG | 0666, &ino), 0);
    return ino;
}

static inline uint64_t fx_mkdir(struct fx *fx, struct fx_session *s, uint64_t parent,
                                const char *name)
{
    uint64_t ino;

    assert_int_equal(fx_create(fx, s, parent, name, S_IFDIR | 0777, &ino), 0);
    return ino;
}

/* A file without a name. */
static inline int fx_tmpfile(struct fx *fx, struct fx_session *s, uint64_t parent, uint32_t flags,
                             uint64_t *ret_ino)
{
    struct hf_meta_op op = {
        .op = HF_OP_TMPFILE,
        .parent = {parent},
        .ino = {s->next_ino},
        .mode = S_IFREG | 0666,
        .umask = 022,
        .uid = 1000,
        .gid = 1000,
        .flags = flags,
    };
    int err = fx_do(fx, s, &op);

    s->next_ino += !err;
    *ret_ino = op.ino.v;
    return err;
}

/* UNLINK or RMDIR, held open by @holder unless 0. */
static inline int fx_remove(struct fx *fx, struct fx_session *s, enum hf_op kind, uint64_t parent,
                            const char *name, uint64_t holder)
{
    struct hf_meta_op op = {
        .op = kind,
        .parent = {parent},
        .name = name,
        .name_len = strlen(name),
        .holders = &holder,
        .holder_count = holder != 0,
    };

    return fx_do(fx, s, &op);
}

static inline int fx_link(struct fx *fx, struct fx_session *s, uint64_t ino, uint64_t parent,
                          const char *name)
{
    struct hf_meta_op op = {
        .op = HF_OP_LINK, .ino = {ino}, .parent = {parent}, .name = name, .name_len = strlen(name)};

    return fx_do(fx, s, &op);
}

static inline int fx_rename(struct fx *fx, struct fx_session *s, uint64_t parent, const char *name,
                            uint64_t parent2, const char *name2, uint32_t flags)
{
    struct hf_meta_op op = {
        .op = HF_OP_RENAME,
        .parent = {parent},
        .name = name,
        .name_len = strlen(name),
        .parent2 = {parent2},
        .name2 = name2,
        .name2_len = strlen(name2),
        .flags = flags,
    };

    return fx_do(fx, s, &op);
}

static inline int fx_lookup(struct fx *fx, uint64_t parent, const char *name, uint64_t *ret_ino)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_LOOKUP, .ino = {parent}, .name = name, .name_len = strlen(name)};
    int err = fx_read(fx, &rd);

    if (!err && ret_ino) {
        *ret_ino = fx->reply.attr.ino.v;
    }
    return err;
}

static inline int fx_getattr(struct fx *fx, uint64_t ino, struct hf_attr *ret)
{
    const struct hf_meta_read rd = {.op = HF_RD_GETATTR, .ino = {ino}};
    int err = fx_read(fx, &rd);

    if (!err) {
        *ret = fx->reply.attr;
    }
    return err;
}

static inline struct hf_attr fx_attr(struct fx *fx, uint64_t ino)
{
    struct hf_attr attr = {0};

    assert_int_equal(fx_getattr(fx, ino, &attr), 0);
    return attr;
}

static inline int fx_truncate(struct fx *fx, struct fx_session *s, uint64_t ino, uint64_t size)
{
    struct hf_meta_op op = {.op = HF_OP_SETATTR, .ino = {ino}, .mask = HF_SET_SIZE, .size = size};

    return fx_do(fx, s, &op);
}

/* One extent of a new object of its own, held by nodes 1, 2, 3. */
static inline int fx_write(struct fx *fx, struct fx_session *s, uint64_t ino, uint64_t off,
                           uint32_t len)
{
    struct hf_wr_object object = {
        .oid = {.group = (uint16_t)(s->seq % 4), .session = s->id.v, .seq = s->seq},
        .len_bytes = len,
        .digest = s->seq * 3,
        .holders = 7,
        .epoch = {100},
    };
    struct hf_wr_extent extent = {.ino = {ino}, .off_bytes = off, .len_bytes = len};
    struct hf_wr_inode inode = {.ino = {ino}, .size_min_bytes = off + len, .mtime_ns = fx->now_ns};
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .objects = &object,
        .extents = &extent,
        .inodes = &inode,
        .object_count = 1,
        .extent_count = 1,
        .inode_count = 1,
    };

    s->seq++;
    return fx_do(fx, s, &op);
}

static inline struct hf_meta_usage fx_usage(struct fx *fx)
{
    struct hf_meta_usage usage;

    hf_meta_usage(fx->r[0].meta, &usage);
    return usage;
}

#endif
