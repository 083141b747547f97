/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations of three sessions against a plain model of a POSIX tree whose files are arrays
 * of bytes. Two replicas apply the same log; one of them crashes now and then and replays from its
 * last checkpoint.
 *
 * A file's model holds a few regions of bytes around the boundaries of 4 MiB windows; everything
 * between them stays a hole.
 */
#include "tests/unit/server/meta/fixture.h"

#include "common/base/bytes.h"
#include "common/checksum/checksum.h"
#include "server/meta/txn.h"

#define REGIONS      3u
#define REGION_BYTES 600u
#define CELLS        (REGIONS * REGION_BYTES)
#define NODES        96
#define NAMES        8
#define SESSIONS     3
#define STEPS        1500

struct node {
    bool used; /* exists, with a name or held */
    uint64_t ino;
    uint32_t type, perm;
    uint32_t nlink; /* of a directory: not kept */
    int parent;     /* of a directory */
    uint64_t size;
    uint32_t holders; /* mask of sessions, once unlinked */
    bool linkable;    /* never had a name, may get one */
    uint8_t xattr;    /* value of user.x; 0: none */
    uint8_t cells[CELLS];
};

struct logged {
    uint8_t *msg, *bulk;
    size_t msg_len, bulk_len;
    uint64_t time_ns;
    struct hf_meta_reply reply;
};

static struct fx fx;
static struct fx_session s[SESSIONS];
static uint8_t next_uuid[2];
static struct node nodes[NODES];
static int entries[NODES][NAMES]; /* node + 1; 0: none */
static struct logged *entry_log;
static size_t log_count, log_cap;
static uint64_t rng;
static uint64_t hash_mask; /* few different hashes in every second run */

static uint64_t rnd(uint64_t n)
{
    uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % n;
}

static uint64_t cell_off(uint32_t cell)
{
    uint32_t region = cell / REGION_BYTES, at = cell % REGION_BYTES;

    return region ? (uint64_t)region * HF_WINDOW_BYTES - REGION_BYTES / 2 + at : at;
}

static uint8_t object_byte(const struct hf_oid *oid, uint32_t pos)
{
    uint8_t key[HF_OID_BYTES];

    hf_oid_encode(oid, key);
    return (uint8_t)(hf_hash64(key, sizeof(key), pos) | 1);
}

/* The log */

static int apply(struct hf_meta_op *op)
{
    static uint8_t msg[HF_RPC_MSG_MAX];
    struct logged *l;
    struct hf_meta_op decoded;
    void *mem;
    int err;

    if (log_count == log_cap) {
        log_cap = log_cap ? log_cap * 2 : 256;
        entry_log = realloc(entry_log, log_cap * sizeof(*entry_log));
        assert_non_null(entry_log);
    }
    l = &entry_log[log_count++];
    *l = (struct logged){.time_ns = fx.now_ns, .bulk_len = op->bulk_len};
    assert_int_equal(hf_meta_op_encode(op, msg, &l->msg_len), 0);
    l->msg = malloc(l->msg_len);
    l->bulk = malloc(l->bulk_len + 1);
    assert_true(l->msg && l->bulk);
    memcpy(l->msg, msg, l->msg_len);
    if (l->bulk_len) {
        memcpy(l->bulk, op->bulk, l->bulk_len);
    }
    assert_int_equal(hf_meta_op_decode(l->msg, l->msg_len, l->bulk, l->bulk_len, &decoded, &mem),
                     0);
    err = fx_apply(&fx, &decoded);
    hf_meta_op_release(mem);
    l->reply = fx.reply;
    return err;
}

static int run(struct fx_session *session, struct hf_meta_op *op)
{
    op->session = session->id;
    op->stream = ++session->stream;
    op->acked = session->stream > 20 ? session->stream - 20 : 0;
    op->time_ns = fx.now_ns;
    return apply(op);
}

/* Replica 1 loses its memory and catches up from its checkpoint. */
static void crash(void)
{
    struct fx_replica *r = &fx.r[1];
    uint64_t digest = hf_table_digest(r->table);

    fx_close_replica(r);
    fx_open_replica(&fx, r);
    r->meta->name_hash_mask = hash_mask;
    for (uint64_t i = hf_meta_applied(r->meta); i < log_count; i++) {
        const struct logged *l = &entry_log[i];
        struct hf_meta_reply reply;
        struct hf_meta_op op;
        void *mem;
        const struct hf_meta_entry entry = {
            .index = i + 1, .term = 1, .time_ns = l->time_ns, .op = &op};

        assert_int_equal(hf_meta_op_decode(l->msg, l->msg_len, l->bulk, l->bulk_len, &op, &mem), 0);
        assert_int_equal(hf_meta_apply(r->meta, &entry, &reply), 0);
        fx_same_reply(&reply, &l->reply);
        hf_meta_op_release(mem);
    }
    assert_true(hf_table_digest(r->table) == digest);
}

/* An operation sent again gets the answer it got. */
static void resend(struct fx_session *session)
{
    for (size_t i = log_count; i-- > 0 && i + 15 > log_count;) {
        struct logged *l = &entry_log[i];
        struct hf_meta_reply first = l->reply;
        struct hf_meta_op op;
        void *mem;
        int err;

        assert_int_equal(hf_meta_op_decode(l->msg, l->msg_len, l->bulk, l->bulk_len, &op, &mem), 0);
        if (op.session.v == session->id.v && op.stream && op.stream + 15 > session->stream) {
            err = apply(&op);
            assert_int_equal(err, first.err);
            assert_memory_equal(&fx.reply, &first, sizeof(first));
            hf_meta_op_release(mem);
            return;
        }
        hf_meta_op_release(mem);
    }
}

/* The model */

static int node_new(void)
{
    for (int i = 1; i < NODES; i++) {
        if (!nodes[i].used) {
            nodes[i] = (struct node){.used = true};
            memset(entries[i], 0, sizeof(entries[i]));
            return i;
        }
    }
    return -1;
}

static bool is_dir(int n)
{
    return S_ISDIR(nodes[n].type);
}

/* A directory with a name, mostly. */
static int pick_dir(void)
{
    for (int tries = 0; tries < 40; tries++) {
        int n = (int)rnd(NODES);

        if (nodes[n].used && is_dir(n) && (nodes[n].nlink || rnd(20) == 0)) {
            return n;
        }
    }
    return 0;
}

static int pick_file(void)
{
    for (int tries = 0; tries < 60; tries++) {
        int n = (int)rnd(NODES);

        if (nodes[n].used && S_ISREG(nodes[n].type)) {
            return n;
        }
    }
    return -1;
}

static bool empty(int dir)
{
    for (int i = 0; i < NAMES; i++) {
        if (entries[dir][i]) {
            return false;
        }
    }
    return true;
}

static bool above(int dir, int of)
{
    for (; of; of = nodes[of].parent) {
        if (of == dir) {
            return true;
        }
    }
    return dir == 0;
}

static const char *name_of(int name)
{
    static const char *const names[NAMES] = {"a", "b", "c", "dd", "ee", "fff", "g", "h"};

    return names[name];
}

static void lose_name(int n, uint32_t holders)
{
    nodes[n].nlink = is_dir(n) ? 0 : nodes[n].nlink - 1;
    if (nodes[n].nlink == 0) {
        nodes[n].holders = holders;
        nodes[n].used = holders != 0;
    }
}

static void write_cell(struct node *node, uint32_t cell, uint8_t value)
{
    if (cell_off(cell) < node->size) {
        node->cells[cell] = value;
    }
}

static void zero_from(struct node *node, uint64_t off, uint64_t end)
{
    for (uint32_t c = 0; c < CELLS; c++) {
        if (cell_off(c) >= off && cell_off(c) < end) {
            node->cells[c] = 0;
        }
    }
}

/* Operations: what the model says must be what the state machine says. */

static void op_create(struct fx_session *session)
{
    static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK};
    int dir = pick_dir(), name = (int)rnd(NAMES), n, want = 0;
    uint32_t type = types[rnd(HF_ARRAY_LEN(types))];
    struct hf_meta_op op = {
        .op = HF_OP_CREATE,
        .parent = {nodes[dir].ino},
        .name = name_of(name),
        .name_len = strlen(name_of(name)),
        .ino = {session->next_ino},
        .mode = type | 0777,
        .umask = (uint32_t)rnd(0777),
        .target = "t",
        .target_len = type == S_IFLNK,
    };

    if (nodes[dir].nlink == 0) {
        want = -ENOENT;
    } else if (entries[dir][name]) {
        want = -EEXIST;
    }
    n = want ? -1 : node_new();
    if (!want && n < 0) {
        return;
    }
    assert_int_equal(run(session, &op), want);
    if (!want) {
        session->next_ino++;
        nodes[n].ino = op.ino.v;
        nodes[n].type = type;
        nodes[n].perm = type == S_IFLNK ? 0777 : 0777 & ~op.umask;
        nodes[n].nlink = 1;
        nodes[n].parent = dir;
        nodes[n].size = type == S_IFLNK;
        entries[dir][name] = n + 1;
    }
}

static void op_tmpfile(struct fx_session *session)
{
    int dir = pick_dir(), n, want = nodes[dir].nlink == 0 ? -ENOENT : 0;
    struct hf_meta_op op = {
        .op = HF_OP_TMPFILE,
        .parent = {nodes[dir].ino},
        .ino = {session->next_ino},
        .mode = S_IFREG | 0777,
        .umask = (uint32_t)rnd(0777),
        .flags = rnd(4) ? HF_TMPFILE_LINKABLE : 0,
    };

    n = want ? -1 : node_new();
    if (!want && n < 0) {
        return;
    }
    assert_int_equal(run(session, &op), want);
    if (!want) {
        session->next_ino++;
        nodes[n].ino = op.ino.v;
        nodes[n].type = S_IFREG;
        nodes[n].perm = 0777 & ~op.umask;
        nodes[n].holders = 1u << (session - s);
        nodes[n].linkable = op.flags != 0;
    }
}

static void op_link(struct fx_session *session)
{
    int dir = pick_dir(), name = (int)rnd(NAMES), n = pick_file(), want = 0;
    struct hf_meta_op op = {
        .op = HF_OP_LINK,
        .parent = {nodes[dir].ino},
        .name = name_of(name),
        .name_len = strlen(name_of(name)),
    };

    if (n < 0) {
        return;
    }
    op.ino.v = nodes[n].ino;
    if (nodes[dir].nlink == 0 || (nodes[n].nlink == 0 && !nodes[n].linkable)) {
        want = -ENOENT;
    } else if (entries[dir][name]) {
        want = -EEXIST;
    }
    assert_int_equal(run(session, &op), want);
    if (!want) {
        entries[dir][name] = n + 1;
        nodes[n].nlink++;
        nodes[n].holders = 0;
        nodes[n].linkable = false;
    }
}

/* Sessions that hold what goes, as ids and as a mask. */
static uint32_t pick_holders(uint64_t ret[SESSIONS + 1], uint32_t *ret_count)
{
    uint32_t mask = 0;

    *ret_count = 0;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        if (rnd(4) == 0) {
            ret[(*ret_count)++] = s[i].id.v;
            mask |= 1u << i;
        }
    }
    if (rnd(4) == 0) {
        ret[(*ret_count)++] = 999999; /* long gone: does not count */
    }
    return mask;
}

static void op_remove(struct fx_session *session)
{
    int dir = pick_dir(), name = (int)rnd(NAMES), n = entries[dir][name] - 1, want = 0;
    uint64_t holders[SESSIONS + 1];
    struct hf_meta_op op = {
        .op = rnd(2) ? HF_OP_UNLINK : HF_OP_RMDIR,
        .parent = {nodes[dir].ino},
        .name = name_of(name),
        .name_len = strlen(name_of(name)),
        .holders = holders,
    };
    uint32_t mask = pick_holders(holders, &op.holder_count);

    if (nodes[dir].nlink == 0 || n < 0) {
        want = -ENOENT;
    } else if (op.op == HF_OP_UNLINK) {
        want = is_dir(n) ? -EISDIR : 0;
    } else if (!is_dir(n)) {
        want = -ENOTDIR;
    } else if (!empty(n)) {
        want = -ENOTEMPTY;
    }
    assert_int_equal(run(session, &op), want);
    if (!want) {
        entries[dir][name] = 0;
        lose_name(n, mask);
    }
}

static void op_rename(struct fx_session *session)
{
    static const uint32_t flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    int dir = pick_dir(), dir2 = pick_dir(), name = (int)rnd(NAMES), name2 = (int)rnd(NAMES);
    int n = entries[dir][name] - 1, n2 = entries[dir2][name2] - 1, want = 0;
    uint64_t holders[SESSIONS + 1];
    struct hf_meta_op op = {
        .op = HF_OP_RENAME,
        .parent = {nodes[dir].ino},
        .name = name_of(name),
        .name_len = strlen(name_of(name)),
        .parent2 = {nodes[dir2].ino},
        .name2 = name_of(name2),
        .name2_len = strlen(name_of(name2)),
        .flags = flags[rnd(HF_ARRAY_LEN(flags))],
        .holders = holders,
    };
    uint32_t mask = pick_holders(holders, &op.holder_count);
    bool exchange = op.flags == RENAME_EXCHANGE;

    if (nodes[dir].nlink == 0 || nodes[dir2].nlink == 0 || n < 0 || (exchange && n2 < 0)) {
        want = -ENOENT;
    } else if (n2 >= 0 && op.flags == RENAME_NOREPLACE) {
        want = -EEXIST;
    } else if (n == n2) {
        want = 0;
    } else if ((is_dir(n) && above(n, dir2)) ||
               (exchange && is_dir(n2) && dir != dir2 && above(n2, dir))) {
        want = -EINVAL;
    } else if (!exchange && n2 >= 0) {
        want = is_dir(n2) && !is_dir(n)   ? -EISDIR
               : !is_dir(n2) && is_dir(n) ? -ENOTDIR
               : is_dir(n2) && !empty(n2) ? -ENOTEMPTY
                                          : 0;
    }
    assert_int_equal(run(session, &op), want);
    if (want || n == n2) {
        return;
    }
    entries[dir2][name2] = n + 1;
    nodes[n].parent = dir2;
    entries[dir][name] = exchange ? n2 + 1 : 0;
    if (exchange) {
        nodes[n2].parent = dir;
    } else if (n2 >= 0) {
        lose_name(n2, mask);
    }
}

static void op_write(struct fx_session *session)
{
    static const uint64_t holders[] = {7, 7, 3, 5, 6, 4};
    struct hf_wr_object objects[2];
    struct hf_wr_extent extents[16];
    struct hf_wr_inode inodes[4];
    uint32_t cells[16];
    uint8_t bulk[2048];
    struct hf_meta_op op = {
        .op = HF_OP_WRITE,
        .objects = objects,
        .extents = extents,
        .inodes = inodes,
        .object_count = (uint32_t)rnd(3),
        .bulk = bulk,
    };
    uint32_t files = 1 + (uint32_t)rnd(4), used[2] = {0, 0};
    int picked[4], want = 0;

    for (uint32_t i = 0; i < op.object_count; i++) {
        objects[i] = (struct hf_wr_object){
            .oid = {.group = (uint16_t)rnd(4), .session = session->id.v, .seq = session->seq++},
            .holders = holders[rnd(HF_ARRAY_LEN(holders))],
            .epoch = {1000},
        };
        want = objects[i].holders == 4 ? -EAGAIN : want;
    }
    for (uint32_t f = 0; f < files; f++) {
        struct hf_wr_inode *inode = &inodes[op.inode_count];
        uint32_t cell = (uint32_t)rnd(200);

        picked[f] = pick_file();
        for (uint32_t i = 0; i < f && picked[f] >= 0; i++) {
            picked[f] = picked[i] == picked[f] ? -1 : picked[f];
        }
        if (picked[f] < 0) {
            continue;
        }
        *inode = (struct hf_wr_inode){
            .ino = {nodes[picked[f]].ino},
            .mtime_ns = fx.now_ns,
            .ctime_ns = (const uint64_t[]){0, HF_CTIME_NEXT, fx.now_ns, 2}[rnd(4)]};
        for (uint32_t e = 0; e < 4 && cell < CELLS; e++) {
            struct hf_wr_extent *x = &extents[op.extent_count];
            uint32_t room = REGION_BYTES - cell % REGION_BYTES, kind = (uint32_t)rnd(3);

            *x = (struct hf_wr_extent){.ino = inode->ino, .off_bytes = cell_off(cell)};
            x->len_bytes = 1 + (uint32_t)rnd(room < 120 ? room : 120);
            if (kind < op.object_count) {
                x->object = kind;
                x->pos_bytes = used[kind];
                used[kind] += x->len_bytes;
            } else {
                x->object = HF_EXTENT_INLINE;
                x->pos_bytes = (uint32_t)op.bulk_len;
                for (uint32_t i = 0; i < x->len_bytes; i++) {
                    bulk[op.bulk_len++] = (uint8_t)(1 + rnd(255));
                }
            }
            cells[op.extent_count++] = cell;
            if (rnd(8)) { /* else it may lie behind EOF and is cut */
                inode->size_min_bytes = x->off_bytes + x->len_bytes;
            }
            cell += x->len_bytes + (uint32_t)rnd(500);
        }
        op.inode_count++;
    }
    for (uint32_t i = 0; i < op.object_count; i++) {
        objects[i].len_bytes = used[i] ? used[i] : 1;
    }
    assert_int_equal(run(session, &op), want);
    if (want) {
        return;
    }
    for (uint32_t i = 0; i < op.inode_count; i++) {
        for (int n = 0; n < NODES; n++) {
            if (nodes[n].used && nodes[n].ino == inodes[i].ino.v &&
                nodes[n].size < inodes[i].size_min_bytes) {
                nodes[n].size = inodes[i].size_min_bytes;
            }
        }
    }
    for (uint32_t i = 0; i < op.extent_count; i++) {
        const struct hf_wr_extent *x = &extents[i];

        for (int n = 0; n < NODES; n++) {
            if (!nodes[n].used || nodes[n].ino != x->ino.v) {
                continue;
            }
            for (uint32_t j = 0; j < x->len_bytes; j++) {
                write_cell(&nodes[n], cells[i] + j,
                           x->object == HF_EXTENT_INLINE
                               ? bulk[x->pos_bytes + j]
                               : object_byte(&objects[x->object].oid, x->pos_bytes + j));
            }
        }
    }
}

static void op_truncate(struct fx_session *session)
{
    int n = pick_file();
    struct hf_meta_op op = {
        .op = HF_OP_SETATTR,
        .mask = HF_SET_SIZE,
        .size = cell_off((uint32_t)rnd(CELLS)),
        .flags = rnd(2) ? HF_TRUNCATE_BOUNDED : 0,
    };

    if (n < 0) {
        return;
    }
    if (rnd(8) == 0) {
        op.size += UINT64_C(3000) * HF_WINDOW_BYTES; /* so that cutting it is put off */
    }
    op.ino.v = nodes[n].ino;
    assert_int_equal(run(session, &op), 0);
    zero_from(&nodes[n], op.size, UINT64_MAX);
    nodes[n].size = op.size;
}

static void op_punch(struct fx_session *session)
{
    int n = pick_file();
    uint64_t a = cell_off((uint32_t)rnd(CELLS)), b = cell_off((uint32_t)rnd(CELLS));
    struct hf_meta_op op = {
        .op = HF_OP_PUNCH,
        .offset = a < b ? a : b,
        .length = a < b ? b - a : a - b,
        .flags = rnd(4) ? 0 : HF_PUNCH_EXTEND,
        .size = UINT64_MAX,
    };

    if (n < 0 || !op.length) {
        return;
    }
    op.ino.v = nodes[n].ino;
    op.flags |= rnd(2) ? HF_ALLOC_RESERVE : 0;
    if (rnd(3) == 0) {
        op.op = HF_OP_ALLOCATE;
        op.flags ^= HF_ALLOC_KEEP_SIZE; /* the bit that says of a PUNCH that the file grows */
    }
    assert_int_equal(run(session, &op), 0);
    if (op.op == HF_OP_PUNCH) {
        zero_from(&nodes[n], op.offset, op.offset + op.length);
    }
    if (op.op == HF_OP_ALLOCATE) {
        op.flags ^= HF_ALLOC_KEEP_SIZE;
    }
    if ((op.flags & HF_PUNCH_EXTEND) && nodes[n].size < op.offset + op.length) {
        nodes[n].size = op.offset + op.length;
    }
}

static void op_clone(struct fx_session *session)
{
    int from = pick_file(), to = pick_file();
    uint32_t cell = (uint32_t)rnd(CELLS), cell2 = (uint32_t)rnd(CELLS);
    uint32_t room = REGION_BYTES - cell % REGION_BYTES;
    uint32_t room2 = REGION_BYTES - cell2 % REGION_BYTES;
    struct hf_meta_op op = {.op = HF_OP_CLONE};
    uint64_t len;

    if (from < 0 || to < 0 || from == to) {
        return;
    }
    room = room < room2 ? room : room2;
    len = 1 + rnd(room);
    op.ino.v = nodes[from].ino;
    op.ino2.v = nodes[to].ino;
    op.offset = cell_off(cell);
    op.offset2 = cell_off(cell2);
    op.length = len;
    assert_int_equal(run(session, &op), 0);
    if (op.offset >= nodes[from].size) {
        len = 0;
    } else if (len > nodes[from].size - op.offset) {
        len = nodes[from].size - op.offset;
    }
    assert_int_equal(fx.reply.count, len);
    if (len && op.offset2 + len > nodes[to].size) {
        nodes[to].size = op.offset2 + len;
    }
    for (uint32_t i = 0; i < len; i++) {
        nodes[to].cells[cell2 + i] = nodes[from].cells[cell + i];
    }
}

static void op_xattr(struct fx_session *session)
{
    int n = pick_file();
    uint8_t value = (uint8_t)(1 + rnd(200));
    struct hf_meta_op op = {
        .op = rnd(3) ? HF_OP_SETXATTR : HF_OP_REMOVEXATTR, .name = "user.x", .name_len = 6};

    if (n < 0) {
        return;
    }
    op.ino.v = nodes[n].ino;
    if (op.op == HF_OP_SETXATTR) {
        op.bulk = &value;
        op.bulk_len = 1;
    }
    assert_int_equal(run(session, &op), op.op == HF_OP_SETXATTR || nodes[n].xattr ? 0 : -ENODATA);
    nodes[n].xattr = op.op == HF_OP_SETXATTR ? value : 0;
}

static void op_lock(struct fx_session *session)
{
    int n = pick_file();
    struct hf_meta_op op = {
        .op = HF_OP_LOCK,
        .lock_owner = 1 + rnd(2),
        .lock_type = (uint32_t)(rnd(3) == 0 ? F_UNLCK
                                : rnd(2)    ? F_RDLCK
                                            : F_WRLCK),
        .offset = rnd(50),
        .length = rnd(30),
        .flags = rnd(3) ? 0 : HF_LOCK_FLOCK,
    };
    int err;

    if (n < 0) {
        return;
    }
    op.ino.v = nodes[n].ino;
    err = run(session, &op);
    assert_true(err == 0 || err == -EAGAIN);
}

static void forget_holder(int session)
{
    for (int n = 0; n < NODES; n++) {
        if (nodes[n].used && nodes[n].nlink == 0 && nodes[n].holders) {
            nodes[n].holders &= ~(1u << session);
            nodes[n].used = nodes[n].holders != 0;
        }
    }
}

static void op_release(struct fx_session *session)
{
    int n = pick_file();
    struct hf_meta_op op = {.op = HF_OP_ORPHAN_RELEASE};

    if (n < 0) {
        return;
    }
    op.ino.v = nodes[n].ino;
    assert_int_equal(run(session, &op), 0);
    if (nodes[n].nlink == 0) {
        nodes[n].holders &= ~(1u << (session - s));
        nodes[n].used = nodes[n].holders != 0;
    }
}

static void open_session(struct fx_session *session)
{
    struct hf_meta_op op = {.op = HF_OP_SESSION_OPEN, .text = "m", .ttl_ns = FX_SECOND};

    next_uuid[0]++;
    next_uuid[1] = (uint8_t)(next_uuid[1] + (next_uuid[0] == 0));
    memcpy(op.uuid.b + 3, next_uuid, 2);
    op.uuid.b[0] = 1;
    assert_int_equal(apply(&op), 0);
    *session = (struct fx_session){.id = fx.reply.session, .next_ino = fx.reply.first_ino.v};
}

static void op_session(struct fx_session *session)
{
    struct hf_meta_op op = {.op = rnd(2) ? HF_OP_SESSION_CLOSE : HF_OP_SESSION_EVICT,
                            .session = session->id};

    if (rnd(10)) {
        return;
    }
    assert_int_equal(apply(&op), 0);
    forget_holder((int)(session - s));
    assert_int_equal(apply(&op), -HF_EFENCED);
    open_session(session);
}

/* What the leader does in the background. */
static void op_leader(struct fx_session *session)
{
    struct hf_meta_op op = {.op = HF_OP_PURGE, .count = 1 + rnd(3)};
    struct hf_node_id node = {(uint16_t)(1 + rnd(3))};
    struct hf_oid oids[8];
    struct hf_ino ino;

    (void)session;
    switch (rnd(4)) {
    case 0:
        if (hf_meta_purgeable(fx.r[0].meta, (struct hf_ino){0}, &ino, 1)) {
            op.ino = ino;
            assert_int_equal(apply(&op), 0);
        }
        break;
    case 1:
        op = (struct hf_meta_op){.op = HF_OP_OBJECTS_GONE, .oids = oids};
        op.oid_count = hf_meta_dead(fx.r[0].meta, NULL, oids, 8);
        assert_int_equal(apply(&op), 0);
        break;
    case 2:
        op = (struct hf_meta_op){.op = HF_OP_DEGRADED_CLEAR, .oids = oids, .node = node};
        op.oid_count = hf_meta_degraded(fx.r[0].meta, node, NULL, oids, 8);
        assert_int_equal(apply(&op), 0);
        break;
    default:
        op = (struct hf_meta_op){
            .op = HF_OP_NODE_STATE, .node = node, .node_state = rnd(2) ? HF_NODE_UP : HF_NODE_DOWN};
        assert_int_equal(apply(&op), 0);
        break;
    }
}

/* Comparison */

static void check_contents(const struct node *node)
{
    static uint8_t seen[CELLS];
    struct hf_meta_read rd = {.op = HF_RD_EXTENTS, .ino = {node->ino}, .length = UINT64_MAX};
    uint64_t covered = 0;

    memset(seen, 0, sizeof(seen));
    for (rd.offset = 0; rd.offset != UINT64_MAX; rd.offset = fx.reply.next_cookie) {
        struct hf_extent *extents;
        const uint8_t *in_line;
        uint32_t count;
        size_t in_line_len;

        rd.length = UINT64_MAX - rd.offset;
        assert_int_equal(fx_read(&fx, &rd), 0);
        assert_int_equal(hf_extents_decode(fx.reply.bulk, fx.reply.bulk_len, &extents, &count,
                                           &in_line, &in_line_len),
                         0);
        for (uint32_t i = 0; i < count; i++) {
            const struct hf_extent *x = &extents[i];

            covered += x->len_bytes;
            for (uint32_t c = 0; c < CELLS; c++) {
                uint64_t at = cell_off(c) - x->off_bytes;

                if (cell_off(c) < x->off_bytes || at >= x->len_bytes) {
                    continue;
                }
                covered--;
                seen[c] = x->oid.session ? object_byte(&x->oid, x->pos_bytes + (uint32_t)at)
                                         : in_line[x->pos_bytes + at];
            }
        }
        free(extents);
    }
    assert_int_equal(covered, 0); /* nothing outside of the cells */
    assert_memory_equal(seen, node->cells, sizeof(seen));
}

static void check_tree(void)
{
    for (int n = 0; n < NODES; n++) {
        const struct node *node = &nodes[n];
        struct hf_attr attr;

        if (!node->used) {
            if (node->ino) {
                assert_int_equal(fx_getattr(&fx, node->ino, &attr), -ENOENT);
            }
            continue;
        }
        assert_int_equal(fx_getattr(&fx, node->ino, &attr), 0);
        assert_int_equal(attr.mode, node->type | node->perm);
        if (is_dir(n)) {
            uint64_t count = 0;

            for (int i = 0; i < NAMES; i++) {
                uint64_t ino;
                int err = node->nlink ? fx_lookup(&fx, node->ino, name_of(i), &ino) : -ENOENT;

                assert_int_equal(err, entries[n][i] ? 0 : -ENOENT);
                if (!err) {
                    assert_int_equal(ino, nodes[entries[n][i] - 1].ino);
                    count++;
                }
            }
            assert_int_equal(attr.size, count);
            continue;
        }
        assert_int_equal(attr.nlink, node->nlink);
        assert_int_equal(attr.size, node->size);
        if (S_ISREG(node->type)) {
            check_contents(node);
        }
    }
    fx_fsck(&fx);
}

static void start(uint64_t seed)
{
    rng = seed * 1000003;
    log_count = 0;
    memset(nodes, 0, sizeof(nodes));
    memset(entries, 0, sizeof(entries));
    fx_init(&fx);
    hash_mask = seed % 2 ? UINT64_MAX : 3;
    for (int i = 0; i < FX_REPLICAS; i++) {
        fx.r[i].meta->name_hash_mask = hash_mask;
    }
    for (int step = 0; step < 8; step++) { /* FORMAT and the map, through the log */
        uint64_t members[2] = {0x030201, 0};
        struct hf_meta_op op = {.op = HF_OP_GROUP_SET,
                                .count = (uint64_t)(step - 4),
                                .holders = members,
                                .holder_count = 2};

        if (step == 0) {
            op = (struct hf_meta_op){.op = HF_OP_FORMAT, .uuid = {{1}}, .count = 3, .size = 2};
            op.mode = 4;
            op.offset = seed;
        } else if (step < 4) {
            op = (struct hf_meta_op){
                .op = HF_OP_NODE_ADD, .node = {(uint16_t)step}, .text = "h:1", .count = 100};
        }
        assert_int_equal(apply(&op), 0);
    }
    for (int i = 0; i < SESSIONS; i++) {
        open_session(&s[i]);
    }
    nodes[0] =
        (struct node){.used = true, .ino = HF_INO_ROOT, .type = S_IFDIR, .perm = 0755, .nlink = 1};
}

static void finish(void)
{
    /* Quiesce: everything unlinked, purged and collected leaves nothing behind. */
    for (int i = 0; i < SESSIONS; i++) {
        struct hf_meta_op op = {.op = HF_OP_SESSION_CLOSE, .session = s[i].id};

        assert_int_equal(apply(&op), 0);
    }
    for (struct hf_ino ino; hf_meta_purgeable(fx.r[0].meta, (struct hf_ino){0}, &ino, 1);) {
        struct hf_meta_op op = {.op = HF_OP_PURGE, .ino = ino};

        assert_int_equal(apply(&op), 0);
    }
    assert_int_equal(fx_usage(&fx).orphans, 0);
    fx_fini(&fx);
    for (size_t i = 0; i < log_count; i++) {
        free(entry_log[i].msg);
        free(entry_log[i].bulk);
    }
    free(entry_log);
    entry_log = NULL;
    log_cap = 0;
}

static void random_operations_match_a_plain_tree(void **state)
{
    static void (*const ops[])(struct fx_session * session) = {
        op_create,  op_create, op_create,  op_link,   op_remove, op_remove,  op_rename, op_rename,
        op_tmpfile, op_write,  op_write,   op_write,  op_write,  op_punch,   op_clone,  op_truncate,
        op_xattr,   op_lock,   op_release, op_leader, op_leader, op_session, resend,
    };
    const char *only = getenv("HF_SEED");

    (void)state;
    for (uint64_t seed = only ? strtoull(only, NULL, 10) : 1; seed <= (only ? 0 : 6) || only;
         seed++) {
        start(seed);
        print_message("seed %llu\n", (unsigned long long)seed);
        for (int step = 0; step < STEPS; step++) {
            ops[rnd(HF_ARRAY_LEN(ops))](&s[rnd(SESSIONS)]);
            if (rnd(150) == 0) {
                fx_checkpoint(&fx, (int)rnd(FX_REPLICAS));
            }
            if (rnd(200) == 0) {
                crash();
            }
            if (step % 50 == 49) {
                check_tree();
            }
        }
        finish();
        if (only) {
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations_match_a_plain_tree)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
