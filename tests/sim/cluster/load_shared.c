/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several clients do to the same things.
 *
 *   log     lock ─ read ─ append one record ─ fsync ─ unlock: every record that was acknowledged,
 *           or was read once, is there, once, in the order of acknowledgement (I1, I2, I5)
 *   names   symbolic links that are created, replaced, moved, exchanged, removed and read by all:
 *           what was seen is linearizable (I2, I6)
 *   files   written beside, synced and renamed into place, or written without a name and given
 *           one; removed; opened by others, who read them whole, however long they hold them (I3,
 *           I8); those that get no name are gone at the end (I7)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/checksum/checksum.h"
#include "tests/sim/cluster/load.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

#define RECORDS_MAX 4096u
#define NAMES       LIN_REGISTERS_MAX
#define OWNER       7u

struct record { /* of the log file; little-endian is the only order here */
    uint64_t number;
    uint64_t client;
    uint64_t check;
};

struct attempt {
    uint64_t begun_ns, acked_ns; /* acked 0: not, or not yet */
    uint64_t seen_ns;            /* a reader had it; 0: nobody */
};

struct shared {
    struct attempt attempts[RECORDS_MAX]; /* by number */
    uint32_t attempt_count;
    struct hf_session_id holder; /* of the lock; 0: nobody is known to have it */
    struct lin_history history;
    struct lin_op *unknown[SIM_CLIENTS_MAX]; /* under way in the life before */
    uint64_t value;                          /* last one given out */
    uint64_t file_value;
};

struct shared *shared_new(void)
{
    struct shared *sh = calloc(1, sizeof(*sh));

    HF_ASSERT(sh != NULL);
    return sh;
}

static uint64_t check_of(uint64_t number, uint64_t client)
{
    const uint64_t words[2] = {number, client};

    return hf_hash64(words, sizeof(words), 99);
}

/* The log */

/*
 * All records that were acknowledged or seen, others at most once and only such as were tried. No
 * record stands behind one that was begun after it had been acknowledged.
 */
static void check_log(struct sim *s, const uint8_t *bytes, uint64_t len, uint64_t read_ns)
{
    struct shared *sh = s->load->shared;
    bool seen[RECORDS_MAX] = {false};
    uint64_t begun_ns = 0; /* the latest of those before */

    if (len % sizeof(struct record)) {
        sim_wrong(s, "I1", "the log has %" PRIu64 " bytes: a record is torn", len);
        return;
    }
    for (uint64_t at = 0; at < len; at += sizeof(struct record)) {
        const struct attempt *attempt;
        struct record r;

        memcpy(&r, bytes + at, sizeof(r));
        if (r.number >= sh->attempt_count || r.check != check_of(r.number, r.client)) {
            sim_wrong(s, "I4", "the log holds at %" PRIu64 " what nobody wrote", at);
            return;
        }
        if (seen[r.number]) {
            sim_wrong(s, "I6", "record %" PRIu64 " is there twice", r.number);
            return;
        }
        seen[r.number] = true;
        attempt = &sh->attempts[r.number];
        if (attempt->acked_ns && attempt->acked_ns < begun_ns) {
            sim_wrong(s, "I2",
                      "record %" PRIu64 " at %" PRIu64 " stands behind one that came later",
                      r.number, at);
            return;
        }
        begun_ns = attempt->begun_ns > begun_ns ? attempt->begun_ns : begun_ns;
    }
    for (uint32_t i = 0; i < sh->attempt_count; i++) {
        struct attempt *attempt = &sh->attempts[i];

        if (seen[i]) {
            attempt->seen_ns = attempt->seen_ns ? attempt->seen_ns : sim_now(s);
            continue;
        }
        if ((attempt->acked_ns && attempt->acked_ns < read_ns) ||
            (attempt->seen_ns && attempt->seen_ns < read_ns)) {
            sim_wrong(s, "I1", "record %u was %s and is not in the log", i,
                      attempt->acked_ns ? "acknowledged" : "there");
            return;
        }
    }
}

static int open_log(struct actor *a, struct hf_ino top, struct hf_ino *ret_ino)
{
    int err = DO(a, hf_fs_create(a->fs, top, "log", S_IFREG | 0644, O_RDWR | O_CREAT, &a->req));

    if (err == -ESTALE || err == -EEXIST) {
        err = DO(a, hf_fs_lookup(a->fs, top, "log", &a->req));
        if (!err) {
            *ret_ino = a->attr.ino;
            err = DO(a, hf_fs_open(a->fs, *ret_ino, O_RDWR, &a->req));
        }
        return err;
    }
    *ret_ino = a->attr.ino;
    return err;
}

/* An error is one of a lost session, or one that leaves the record's fate open. */
static int append_locked(struct actor *a, struct hf_ino ino, struct hf_fs_file *file)
{
    struct sim *s = a->s;
    struct shared *sh = s->load->shared;
    struct record r = {.client = a->client->number};
    uint8_t *bytes;
    uint64_t len, read_ns = sim_now(s);
    int err = load_read_all(a, file, &bytes, &len);

    if (err) {
        return err;
    }
    check_log(s, bytes, len, read_ns);
    free(bytes);
    if (s->failed || sh->attempt_count == RECORDS_MAX) {
        return -ECANCELED;
    }
    r.number = sh->attempt_count++;
    r.check = check_of(r.number, r.client);
    sh->attempts[r.number].begun_ns = sim_now(s);
    err = DO(a, hf_fs_write(file, len, &r, sizeof(r), NULL, 0, &a->req));
    if (!err) {
        err = DO(a, hf_fs_fsync(file, &a->req));
    }
    if (!err) {
        sh->attempts[r.number].acked_ns = sim_now(s);
        s->counts.appends++;
        load_check_clean(a, ino);
        sim_synced(a->client);
    }
    return err;
}

void shared_append_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    struct shared *sh = s->load->shared;
    struct hf_fs_lock lock = {.owner = OWNER, .type = F_WRLCK, .pid = 1};
    struct hf_ino top, ino;
    struct hf_fs_file *file;

    (void)arg;
    if (load_dir(a, (struct hf_ino){HF_INO_ROOT}, "shared", &top) ||
        load_begun(a, "log", open_log(a, top, &ino))) {
        return;
    }
    file = a->file;
    while (load_goes_on(a)) {
        struct hf_session_id me = hf_session_id(a->client->session);
        uint64_t begun_ns;
        int err;

        lock.type = F_WRLCK;
        err = DO(a, hf_fs_setlk(a->fs, ino, &lock, true, &a->req));
        if (err) {
            if (!load_is_lost(a, err)) {
                sim_fail(s, "I5", "client %u: lock: %s", a->client->number, hf_err_name(err));
            }
            return;
        }
        /* One that woke after its session had ended has its answer from before. */
        if (!sim_session_known(s, me)) {
            return;
        }
        if (sh->holder.v && sh->holder.v != me.v && sim_session_known(s, sh->holder) &&
            sim_leader(s)) {
            sim_wrong(s, "I5", "the lock of session %" PRIu64 " was given to %" PRIu64,
                      sh->holder.v, me.v);
            return;
        }
        sh->holder = me;
        begun_ns = sim_now(s);
        err = append_locked(a, ino, file);
        if (load_is_lost(a, err)) {
            return;
        }
        if (err && !load_is_full(a, err, begun_ns)) {
            sim_fail(s, "I1", "client %u: append: %s", a->client->number, hf_err_name(err));
            return;
        }
        if (sh->holder.v == me.v) {
            sh->holder.v = 0;
        }
        lock.type = F_UNLCK;
        err = DO(a, hf_fs_setlk(a->fs, ino, &lock, false, &a->req));
        if (err) {
            if (!load_is_lost(a, err)) {
                sim_fail(s, "I5", "client %u: unlock: %s", a->client->number, hf_err_name(err));
            }
            return;
        }
        actor_sleep(a, 50 * SIM_MS + hf_sim_rng_below(&s->rng, 500 * SIM_MS));
    }
}

/* The names */

static uint32_t lin_process(const struct actor *a)
{
    return a->client->number;
}

static int find(struct actor *a, struct hf_ino top, uint32_t reg, uint64_t *ret)
{
    char name[16];
    int err;

    (void)snprintf(name, sizeof(name), "n%u", reg);
    for (;;) {
        err = DO(a, hf_fs_lookup(a->fs, top, name, &a->req));
        if (err == -ENOENT) {
            *ret = 0;
            return 0;
        }
        if (err) {
            return err;
        }
        err = DO(a, hf_fs_readlink(a->fs, a->attr.ino, &a->req));
        if (err == -ENOENT || err == -ESTALE) {
            continue; /* removed in between: look again, it is one longer read */
        }
        if (!err) {
            char text[32] = "";

            memcpy(text, a->data, a->data_len < 31 ? a->data_len : 31);
            *ret = strtoull(text + 1, NULL, 10);
        }
        return err;
    }
}

static int make_link(struct actor *a, struct hf_ino top, const char *name, uint64_t value)
{
    char target[32];

    (void)snprintf(target, sizeof(target), "v%" PRIu64, value);
    return DO(a, hf_fs_mknod(a->fs, top, name, S_IFLNK | 0777, 0, target, &a->req));
}

/* Do @op; its outcome goes into it. An error: the session is lost, the outcome unknown. */
static int do_name_op(struct actor *a, struct hf_ino top, struct lin_op *op)
{
    char name[16], to[16], spare[32];
    int err = 0;

    (void)snprintf(name, sizeof(name), "n%u", op->reg);
    (void)snprintf(to, sizeof(to), "n%u", op->to);
    switch (op->kind) {
    case LIN_READ:
        err = find(a, top, op->reg, &op->value);
        break;
    case LIN_WRITE:
        (void)snprintf(spare, sizeof(spare), "spare%" PRIu64, op->value);
        err = make_link(a, top, spare, op->value);
        if (!err) {
            err = DO(a, hf_fs_rename(a->fs, top, spare, top, name, 0, &a->req));
        }
        break;
    case LIN_CREATE:
        err = make_link(a, top, name, op->value);
        break;
    case LIN_DELETE:
        err = DO(a, hf_fs_unlink(a->fs, top, name, &a->req));
        break;
    case LIN_MOVE:
        err = DO(a, hf_fs_rename(a->fs, top, name, top, to, 0, &a->req));
        break;
    case LIN_EXCHANGE:
        err = DO(a, hf_fs_rename(a->fs, top, name, top, to, RENAME_EXCHANGE, &a->req));
        break;
    }
    if (err == -EEXIST && op->kind == LIN_CREATE) {
        op->end = LIN_EXISTS;
    } else if (err == -ENOENT && op->kind != LIN_READ && op->kind != LIN_WRITE) {
        op->end = LIN_MISSING;
    } else if (err) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I2", "client %u: %s: %s", a->client->number,
                     lin_op_str(op, (char[128]){0}), hf_err_name(err));
        }
        return -ECANCELED;
    } else {
        op->end = LIN_OK;
    }
    return 0;
}

void shared_names_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    struct shared *sh = s->load->shared;
    uint32_t me = lin_process(a);
    struct hf_ino top;

    (void)arg;
    /* What the life before had under way happens before its session ends, or never. */
    load_wait_for_end(a);
    if (sh->unknown[me]) {
        sh->unknown[me]->return_ns = sim_now(s);
        sh->unknown[me] = NULL;
    }
    if (load_dir(a, (struct hf_ino){HF_INO_ROOT}, "shared", &top)) {
        return;
    }
    while (load_goes_on(a) && sh->history.counts[me] < 500) {
        struct lin_op *op = lin_add(&sh->history, me);
        uint64_t draw = hf_sim_rng_below(&s->rng, 100);

        op->kind = draw < 45   ? LIN_READ
                   : draw < 60 ? LIN_WRITE
                   : draw < 75 ? LIN_CREATE
                   : draw < 85 ? LIN_DELETE
                   : draw < 95 ? LIN_MOVE
                               : LIN_EXCHANGE;
        op->reg = (uint32_t)hf_sim_rng_below(&s->rng, NAMES);
        op->to = (op->reg + 1 + (uint32_t)hf_sim_rng_below(&s->rng, NAMES - 1)) % NAMES;
        op->value = op->kind == LIN_READ ? 0 : ++sh->value;
        op->end = LIN_UNKNOWN;
        op->call_ns = sim_now(s);
        op->return_ns = UINT64_MAX;
        sh->unknown[me] = op;
        if (do_name_op(a, top, op)) {
            return;
        }
        op->return_ns = sim_now(s);
        sh->unknown[me] = NULL;
        s->counts.registers++;
        actor_sleep(a, hf_sim_rng_below(&s->rng, 300 * SIM_MS));
    }
}

/* The files: each begins with its value, which tells its size and the rest of its bytes. */

#define FILES           4
#define FILE_HOLD_NS    (3 * SIM_S)
#define FILE_HEAD_BYTES sizeof(uint64_t)

static uint8_t *file_bytes(uint64_t value, size_t *ret_len)
{
    size_t len = FILE_HEAD_BYTES + (value * UINT64_C(0x9e3779b97f4a7c15) >> 40) %
                                       (value % 4 ? 16u << 10 : 400u << 10);
    uint8_t *bytes = malloc(len);

    HF_ASSERT(bytes != NULL);
    contents_pattern(value, 0, bytes, len);
    memcpy(bytes, &value, FILE_HEAD_BYTES);
    *ret_len = len;
    return bytes;
}

static void trace_file(struct actor *a, const char *what, const char *name, struct hf_ino ino,
                       int err)
{
    sim_trace(a->s, "client %u: %s %s inode %" PRIu64 ": %s", a->client->number, what, name, ino.v,
              hf_err_name(err));
}

static int write_file(struct actor *a, struct hf_fs_file *file, uint64_t value)
{
    size_t len;
    uint8_t *bytes = file_bytes(value, &len);
    int err = DO(a, hf_fs_write(file, 0, bytes, (uint32_t)len, NULL, 0, &a->req));

    free(bytes);
    return err;
}

static void check_file(struct actor *a, const uint8_t *bytes, uint64_t len)
{
    uint64_t value = 0;
    uint8_t *want;
    size_t want_len;

    if (len >= FILE_HEAD_BYTES) {
        memcpy(&value, bytes, FILE_HEAD_BYTES);
    }
    if (value == 0 || value > a->s->load->shared->file_value) {
        sim_wrong(a->s, "I4", "client %u: a file of %" PRIu64 " bytes that nobody wrote",
                  a->client->number, len);
        return;
    }
    want = file_bytes(value, &want_len);
    if (len != want_len || memcmp(bytes, want, len) != 0) {
        sim_wrong(a->s, "I3",
                  "client %u: file %" PRIu64 " has %" PRIu64
                  " bytes, of %zu, or other ones than it "
                  "was renamed with",
                  a->client->number, value, len, want_len);
    }
    a->s->counts.bytes_checked += len;
    free(want);
}

/* Whatever becomes of its name meanwhile, what is open is there. */
static int hold(struct actor *a, const char *name, struct hf_ino ino, struct hf_fs_file *file)
{
    uint8_t *bytes = NULL;
    uint64_t len = 0;
    int err;

    actor_sleep(a, hf_sim_rng_below(&a->s->rng, FILE_HOLD_NS));
    err = load_read_all(a, file, &bytes, &len);
    trace_file(a, "reads", name, ino, err);
    if (!err) {
        check_file(a, bytes, len);
    }
    free(bytes);
    hf_fs_release(file);
    return err;
}

static int open_and_hold(struct actor *a, struct hf_ino top, const char *name)
{
    struct hf_ino ino;
    int err = DO(a, hf_fs_lookup(a->fs, top, name, &a->req));

    ino = a->attr.ino;
    err = err ? err : DO(a, hf_fs_open(a->fs, ino, O_RDONLY, &a->req));
    trace_file(a, "opens", name, ino, err);
    if (err == -ENOENT || err == -ESTALE) {
        return 0;
    }
    return err ? err : hold(a, name, ino, a->file);
}

static int publish(struct actor *a, struct hf_ino top, const char *name)
{
    uint64_t value = ++a->s->load->shared->file_value, begun_ns = sim_now(a->s);
    char spare[32];
    struct hf_fs_file *file;
    struct hf_ino ino;
    int err;

    (void)snprintf(spare, sizeof(spare), "file%" PRIu64, value);
    err =
        DO(a, hf_fs_create(a->fs, top, spare, S_IFREG | 0644, O_RDWR | O_CREAT | O_EXCL, &a->req));
    if (err) {
        return err;
    }
    file = a->file;
    ino = a->attr.ino;
    err = write_file(a, file, value);
    err = err ? err : DO(a, hf_fs_fsync(file, &a->req));
    err = err ? err : DO(a, hf_fs_rename(a->fs, top, spare, top, name, 0, &a->req));
    trace_file(a, "replaces", name, ino, err);
    if (!err && hf_sim_rng_below(&a->s->rng, 3) == 0) {
        return hold(a, name, ino, file);
    }
    if (load_is_full(a, err, begun_ns)) {
        err = DO(a, hf_fs_unlink(a->fs, top, spare, &a->req));
    }
    hf_fs_release(file);
    return err;
}

/* What is written without a name is there whole when it has one, synced or not. */
static int publish_unnamed(struct actor *a, struct hf_ino top, const char *name)
{
    uint64_t value = ++a->s->load->shared->file_value, draw = hf_sim_rng_below(&a->s->rng, 4);
    uint32_t flags = O_RDWR | (draw == 0 ? O_EXCL : 0);
    int err = DO(a, hf_fs_tmpfile(a->fs, top, S_IFREG | 0644, flags, &a->req));
    struct hf_fs_file *file = a->file;
    struct hf_ino ino = a->attr.ino;

    trace_file(a, "makes unnamed", name, ino, err);
    if (err) {
        return err;
    }
    err = write_file(a, file, value);
    if (!err && draw < 2) { /* what a flush behind it could not write would not be there */
        err = DO(a, hf_fs_fsync(file, &a->req));
        actor_sleep(a, hf_sim_rng_below(&a->s->rng, FILE_HOLD_NS));
    }
    if (!err && draw > 0) {
        err = DO(a, hf_fs_link(a->fs, ino, top, name, &a->req));
        trace_file(a, "names", name, ino, err);
    }
    if ((!err || err == -EEXIST) && draw < 3) {
        return hold(a, name, ino, file); /* with or without a name */
    }
    hf_fs_release(file);
    return err == -EEXIST ? 0 : err;
}

void shared_files_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    struct hf_ino top;
    char name[8];
    int err = load_dir(a, (struct hf_ino){HF_INO_ROOT}, "files", &top);

    (void)arg;
    while (!err && load_goes_on(a)) {
        uint64_t draw = hf_sim_rng_below(&s->rng, 100), begun_ns = sim_now(s);

        (void)snprintf(name, sizeof(name), "f%u", (unsigned)hf_sim_rng_below(&s->rng, FILES));
        if (draw < 15) {
            err = publish_unnamed(a, top, name);
        } else if (draw < 30) {
            err = publish(a, top, name);
        } else if (draw < 75) {
            err = open_and_hold(a, top, name);
        } else {
            err = DO(a, hf_fs_unlink(a->fs, top, name, &a->req));
            trace_file(a, "removes", name, (struct hf_ino){0}, err);
            err = err == -ENOENT ? 0 : err;
        }
        if (err && !load_is_full(a, err, begun_ns) && !load_is_lost(a, err)) {
            sim_fail(s, "I8", "client %u: %s of %s: %s", a->client->number,
                     draw < 15   ? "naming"
                     : draw < 30 ? "replacement"
                     : draw < 75 ? "opening and reading"
                                 : "removal",
                     name, hf_err_name(err));
        }
        err = load_is_lost(a, err) ? err : 0;
        actor_sleep(a, hf_sim_rng_below(&s->rng, 400 * SIM_MS));
    }
}

void shared_final_program(struct actor *a, void *arg)
{
    struct shared *sh = a->s->load->shared;
    struct hf_ino top, ino;
    uint8_t *bytes;
    uint64_t len;
    int err = load_dir(a, (struct hf_ino){HF_INO_ROOT}, "shared", &top);

    err = err ? err : open_log(a, top, &ino);
    err = err ? err : load_read_all(a, a->file, &bytes, &len);
    if (err) {
        if (!a->s->options.beyond) {
            sim_fail(a->s, "I1", "the log cannot be read at the end: %s", hf_err_name(err));
        }
        return;
    }
    check_log(a->s, bytes, len, sim_now(a->s));
    free(bytes);
    if (!stream_final(a, top) || (!a->s->options.beyond && !locks_final(a))) {
        return;
    }
    for (uint32_t reg = 0; reg < NAMES; reg++) {
        struct lin_op *op = lin_add(&sh->history, lin_process(a));

        *op = (struct lin_op){.kind = LIN_READ, .reg = reg, .call_ns = sim_now(a->s)};
        err = find(a, top, reg, &op->value);
        op->return_ns = sim_now(a->s);
        if (err) {
            if (!a->s->options.beyond) {
                sim_fail(a->s, "I2", "a name cannot be read at the end: %s", hf_err_name(err));
            }
            return;
        }
    }
    *(bool *)arg = true;
}

void shared_check(struct sim *s)
{
    const struct lin_history *h = &s->load->shared->history;
    size_t stuck[LIN_PROCESSES_MAX];
    char text[128];
    enum lin_verdict verdict = lin_check(h, stuck);

    s->counts.unchecked += verdict == LIN_TOO_MUCH;
    if (verdict != LIN_VIOLATED) {
        return;
    }
    sim_wrong(s, "I2", "what was seen of the shared names is not linearizable");
    for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
        for (size_t i = stuck[p] > 3 ? stuck[p] - 3 : 0; i < h->counts[p] && i < stuck[p] + 3;
             i++) {
            sim_trace(s, "%s client %u: %s", i < stuck[p] ? "explained" : "not    ", p,
                      lin_op_str(&h->ops[p][i], text));
        }
    }
}
