/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.c - take the directory, learn whose it is, bring the index up to what the segments say.
 */
#include "server/store/store_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"
#include "common/log/log.h"

#define SWEEP_ROWS       256u
#define INDEX_MEMORY_MAX ((size_t)8 << 20) /* some 80,000 changed rows, then they are merged */
#define INDEX_MEMORY_MIN ((size_t)64 << 10)

/* One sentence for the operator; the error itself is passed through. */
__attribute__((format(printf, 3, 4))) static int fail(char **ret_error, int err, const char *fmt,
                                                      ...)
{
    va_list args;

    if (ret_error && !*ret_error) {
        va_start(args, fmt);
        if (vasprintf(ret_error, fmt, args) < 0) {
            *ret_error = NULL;
        }
        va_end(args);
    }
    return err;
}

/* Directory and identity */

static int take_lock(struct hf_store *store, char **ret_error)
{
    char *path = NULL;
    int pid = 0;
    int err = hf_disk_mkdir(store->disk, store->dir);

    if (err) {
        return fail(ret_error, err, "cannot create %s (%s): give the daemon a directory of its own",
                    store->dir, hf_err_text(err));
    }
    if (asprintf(&path, "%s/lock", store->dir) < 0) {
        return -ENOMEM;
    }
    err = hf_disk_lock(store->disk, path, &store->lock, &pid);
    free(path);
    if (err == -EBUSY) {
        return fail(
            ret_error, err,
            "%s is in use by process %d: stop it first, or give this node another directory",
            store->dir, pid);
    }
    return err ? fail(ret_error, err, "cannot lock %s (%s)", store->dir, hf_err_text(err)) : 0;
}

static int see_segment(void *ctx, const char *name)
{
    size_t len = strlen(name);

    (void)ctx;
    return len > 4 && strcmp(name + len - 4, ".seg") == 0 ? 1 : 0;
}

static int make_identity(struct hf_store *store, const char *path, char **ret_error)
{
    struct hf_store_identity id = {.cluster = store->options.cluster, .node = store->options.node};
    char text[HF_STORE_IDENTITY_MAX];
    int err = hf_disk_list(store->disk, store->segments_dir, see_segment, NULL);

    if (err > 0) {
        return fail(ret_error, -HF_EWRONGCLUSTER,
                    "%s holds segments but %s is missing: put the file back, or start with an "
                    "empty directory and let the cluster refill it",
                    store->segments_dir, path);
    }
    hf_env_random(store->env, id.store.b, sizeof(id.store.b));
    (void)hf_store_identity_format(&id, text);
    err = hf_disk_replace(store->disk, path, text, strlen(text));
    if (err) {
        return fail(ret_error, err, "cannot write %s (%s)", path, hf_err_text(err));
    }
    store->identity = id;
    return 0;
}

static int load_identity(struct hf_store *store, const char *path, char **ret_error)
{
    const struct hf_store_options *o = &store->options;
    char have[HF_UUID_STR_MAX];
    char want[HF_UUID_STR_MAX];
    char *text = NULL;
    int err = hf_disk_slurp(store->disk, path, HF_STORE_IDENTITY_MAX, &text, NULL);

    if (err == -ENOENT) {
        return make_identity(store, path, ret_error);
    }
    if (!err) {
        err = hf_store_identity_parse(text, &store->identity);
    }
    free(text);
    if (err == -EBADMSG) {
        return fail(ret_error, -EIO, "%s is damaged: restore it, or start with an empty directory",
                    path);
    }
    if (err) {
        return fail(ret_error, err, "cannot read %s (%s)", path, hf_err_text(err));
    }
    if (!hf_uuid_equal(&store->identity.cluster, &o->cluster)) {
        return fail(ret_error, -HF_EWRONGCLUSTER,
                    "%s belongs to cluster %s, not %s: correct the configuration or use another "
                    "directory",
                    store->dir, hf_uuid_str(&store->identity.cluster, have),
                    hf_uuid_str(&o->cluster, want));
    }
    if (store->identity.node.v != o->node.v) {
        return fail(ret_error, -HF_EWRONGCLUSTER,
                    "%s belongs to node %u, not %u: a directory stays with its node; correct the "
                    "configuration or use another directory",
                    store->dir, (unsigned)store->identity.node.v, (unsigned)o->node.v);
    }
    return 0;
}

static int identify(struct hf_store *store, char **ret_error)
{
    char *path = NULL;
    int err = hf_disk_mkdir(store->disk, store->segments_dir);

    if (err) {
        return fail(ret_error, err, "cannot create %s (%s)", store->segments_dir, hf_err_text(err));
    }
    if (asprintf(&path, "%s/identity", store->dir) < 0) {
        return -ENOMEM;
    }
    err = load_identity(store, path, ret_error);
    free(path);
    return err;
}

/* The index */

static void forget_sums(struct hf_store *store)
{
    store->segment_count = 0;
    store->stats = (struct hf_store_stats){0};
}

/* Every row, into what they add up to. Errors: -EBADMSG  damaged; -EIO, -ENOMEM. */
static int scan_index(struct hf_store *store)
{
    static const uint8_t lowest[1] = {0};
    struct hf_table_cursor cursor;
    int err = hf_table_seek(store->index, lowest, sizeof(lowest), &cursor);

    while (!err) {
        struct hf_store_row row;

        err = cursor.key_len == HF_OID_BYTES
                  ? hf_store_row_decode(cursor.value, cursor.value_len, &row)
                  : -EBADMSG;
        if (!err) {
            err = hf_store_account(store, &row, 1);
        }
        if (!err) {
            err = hf_table_next(&cursor);
        }
    }
    return err == -ENOENT ? 0 : err;
}

/* The mark of this very store, or -EBADMSG. */
static int read_mark(struct hf_store *store, uint64_t *ret_seq)
{
    uint8_t mark[HF_TABLE_MARK_MAX];
    struct hf_uuid owner;
    size_t len;
    int err = hf_table_mark(store->index, mark, &len);

    *ret_seq = 0;
    if (err || len == 0) {
        return err;
    }
    err = hf_store_mark_decode(mark, len, &owner, ret_seq);
    return err ? err : hf_uuid_equal(&owner, &store->identity.store) ? 0 : -EBADMSG;
}

static int unlink_name(void *ctx, const char *name)
{
    struct hf_store *store = ctx;
    char *path = NULL;
    int err;

    if (asprintf(&path, "%s/%s", store->index_dir, name) < 0) {
        return -ENOMEM;
    }
    err = hf_disk_unlink(store->disk, path);
    free(path);
    return err == -ENOENT ? 0 : err;
}

static int open_table(struct hf_store *store, struct hf_table_base *given, uint64_t *ret_seq)
{
    size_t memory = (size_t)(store->options.segment_bytes / 32);
    struct hf_table_options options = {.freeze_bytes = memory};
    struct hf_table_base *base = given;
    int err = base ? 0 : hf_table_base_lmdb(store->env, store->index_dir, &base);

    options.freeze_bytes = memory > INDEX_MEMORY_MAX   ? INDEX_MEMORY_MAX
                           : memory < INDEX_MEMORY_MIN ? INDEX_MEMORY_MIN
                                                       : memory;
    if (!err) {
        err = hf_table_open(store->env, base, &options, &store->index);
    }
    if (!err) {
        err = read_mark(store, ret_seq);
    }
    if (!err) {
        err = scan_index(store);
    }
    if (err) {
        hf_table_close(store->index);
        store->index = NULL;
        forget_sums(store);
    }
    return err;
}

/* The index is a cache of what the segments say: a damaged one is thrown away. */
static int open_index(struct hf_store *store, uint64_t *ret_seq, char **ret_error)
{
    struct hf_table_base *given = store->options.index_base;
    int err;

    store->options.index_base = NULL;
    err = open_table(store, given, ret_seq);
    if (err == -EBADMSG && !given) {
        hf_log(HF_LOG_WARN, "store", "index damaged",
               "dir=%s next=\"rebuilding from the segments\"", store->index_dir);
        err = hf_disk_list(store->disk, store->index_dir, unlink_name, store);
        if (!err) {
            err = open_table(store, NULL, ret_seq);
        }
    }
    return err ? fail(ret_error, err,
                      "cannot open the index in %s (%s): it may be deleted, it is rebuilt from the "
                      "segments",
                      store->index_dir, hf_err_text(err))
               : 0;
}

/* The segments */

static int replay_notes(struct hf_store *store, const struct hf_seglog_record *r)
{
    uint32_t count = 0;
    int err = r->meta_have_bytes < r->meta_len_bytes
                  ? -EBADMSG
                  : hf_store_notes_count(r->meta_len_bytes, &count);

    for (uint32_t i = 0; !err && i < (HF_BUG(replay_first_note) && count ? 1 : count); i++) {
        struct hf_store_note note;

        err = hf_store_note_decode(r->meta + i * sizeof(struct hf_store_note_disk), &note);
        if (!err) {
            err = hf_store_apply_note(store, &note, r->seq, r->pos, r->header_bytes);
        }
    }
    return err;
}

static int replay(void *ctx, const struct hf_seglog_record *r)
{
    struct hf_store *store = ctx;
    struct hf_store_object object;
    int err = -EBADMSG;

    if (r->type == HF_STORE_RECORD_OBJECT) {
        err = hf_store_object_decode(r->meta, r->meta_have_bytes, r->meta_len_bytes,
                                     r->payload_len_bytes, &object, NULL);
        if (!err) {
            err = hf_store_apply_object(store, &object, r->seq, r->pos, r->header_bytes);
        }
    } else if (r->type == HF_STORE_RECORD_NOTES) {
        err = replay_notes(store, r);
    }
    if (err == -EBADMSG && !store->index_failed) {
        hf_log(HF_LOG_WARN, "store", "record not understood", "segment=%llu offset=%llu type=%u",
               (unsigned long long)r->pos.segment, (unsigned long long)r->pos.off_bytes,
               (unsigned)r->type);
        err = 0;
    }
    return err;
}

static void rot(void *ctx, uint64_t first_seq, uint64_t last_seq, struct hf_seglog_pos pos)
{
    struct hf_store *store = ctx;

    store->rot_records += last_seq - first_seq + 1;
    hf_log(HF_LOG_WARN, "store", "records unreadable",
           "first=%llu last=%llu segment=%llu offset=%llu next=\"the audit finds what is missing\"",
           (unsigned long long)first_seq, (unsigned long long)last_seq,
           (unsigned long long)pos.segment, (unsigned long long)pos.off_bytes);
}

static int open_log(struct hf_store *store, uint64_t mark_seq, char **ret_error)
{
    const struct hf_seglog_options options = {
        .dir = store->segments_dir,
        .pool = HF_POOL_WRITE,
        .segment_bytes = store->options.segment_bytes,
        .spares = 2,
        .identity = store->identity.store,
        .whole_meta_types = 1u << HF_STORE_RECORD_NOTES,
        .replay_after = mark_seq,
        .known_synced = mark_seq,
        .known_number = store->segment_count ? store->segments[store->segment_count - 1].number : 0,
        .replay = replay,
        .rot = rot,
        .verify = hf_store_verify_record,
        .ctx = store,
    };
    int err = hf_seglog_open(store->env, &options, &store->log);

    if (err == -HF_EWRONGCLUSTER) {
        return fail(ret_error, err,
                    "%s holds segments of another store: move them away, files are never mixed",
                    store->segments_dir);
    }
    if (err == -EMFILE || err == -ENFILE) {
        return fail(ret_error, err,
                    "cannot open all segments in %s (%s): allow more open files (ulimit -n, or "
                    "LimitNOFILE= of the service)",
                    store->segments_dir, hf_err_text(err));
    }
    if (err) {
        return fail(ret_error, err, "cannot recover the segments in %s (%s)", store->segments_dir,
                    hf_err_text(err));
    }
    store->applied_seq = hf_seglog_synced_seq(store->log);
    return 0;
}

/* Rows from @key on whose segment cannot be read: up to SWEEP_ROWS of them. */
static int sweep(struct hf_store *store, uint8_t key[HF_OID_BYTES + 1], size_t *key_len,
                 struct hf_oid *oids, uint32_t *ret_count)
{
    struct hf_table_cursor cursor;
    int err = hf_table_seek(store->index, key, *key_len, &cursor);

    *ret_count = 0;
    while (!err && *ret_count < SWEEP_ROWS) {
        struct hf_store_row row;

        err = hf_store_row_decode(cursor.value, cursor.value_len, &row);
        if (!err && row.kind == HF_STORE_ROW_OBJECT && !(row.flags & HF_STORE_ROW_QUARANTINED) &&
            !hf_seglog_segment_readable(store->log, row.segment)) {
            oids[(*ret_count)++] = hf_oid_decode(cursor.key);
            memcpy(key, cursor.key, HF_OID_BYTES);
            key[HF_OID_BYTES] = 0;
            *key_len = HF_OID_BYTES + 1;
        }
        if (!err) {
            err = hf_table_next(&cursor);
        }
    }
    return err == -ENOENT ? 0 : err;
}

/*
 * Somebody removed a segment, or both copies of its header are rotten: its objects are known and
 * gone, which is what quarantine says.
 */
static int quarantine_missing(struct hf_store *store)
{
    struct hf_oid *oids = calloc(SWEEP_ROWS, sizeof(*oids));
    uint8_t key[HF_OID_BYTES + 1] = {0};
    size_t key_len = 1;
    uint32_t count = 0;
    uint64_t total = 0;
    int err = oids ? 0 : -ENOMEM;

    do {
        if (!err) {
            err = sweep(store, key, &key_len, oids, &count);
        }
        for (uint32_t i = 0; !err && i < count; i++) {
            struct hf_store_row row;

            err = hf_store_row_get(store, &oids[i], &row);
            row.flags |= HF_STORE_ROW_QUARANTINED;
            if (!err) {
                err = hf_store_row_put(store, &oids[i], &row);
            }
        }
        total += count;
    } while (!err && count == SWEEP_ROWS);
    free(oids);
    if (total > 0) {
        hf_log(HF_LOG_ERROR, "store", "segments missing",
               "objects=%llu next=\"put the files back before starting, or let repair copy them\"",
               (unsigned long long)total);
    }
    return err;
}

static bool segment_missing(struct hf_store *store)
{
    bool missing = false;

    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct hf_store_segment *s = &store->segments[i];

        s->lost = s->live_bytes > 0 && !hf_seglog_segment_readable(store->log, s->number);
        missing = missing || s->lost;
    }
    return missing;
}

/* Open and close */

static void set_defaults(struct hf_store_options *o)
{
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : HF_STORE_SEGMENT_BYTES;
    o->reserve_put_bytes = o->reserve_put_bytes ? o->reserve_put_bytes : HF_STORE_RESERVE_PUT;
    if (o->reserve_clean_bytes == 0) {
        uint64_t least = o->segment_bytes + o->segment_bytes / 4;

        o->reserve_put_bytes = o->reserve_put_bytes < least ? least : o->reserve_put_bytes;
        o->reserve_clean_bytes = (o->reserve_put_bytes - o->segment_bytes) / 2;
    }
    o->compact_live_percent = o->compact_live_percent ? o->compact_live_percent : 50;
}

static struct hf_store *store_new(struct hf_env *env, const struct hf_store_options *options)
{
    struct hf_store *store = calloc(1, sizeof(*store));

    if (!store) {
        return NULL;
    }
    store->env = env;
    store->disk = hf_env_disk(env);
    store->options = *options;
    set_defaults(&store->options);
    store->parked_tail = &store->parked;
    store->dir = strdup(options->dir);
    if (asprintf(&store->segments_dir, "%s/segments", options->dir) < 0) {
        store->segments_dir = NULL;
    }
    if (asprintf(&store->index_dir, "%s/index", options->dir) < 0) {
        store->index_dir = NULL;
    }
    if (!store->dir || !store->segments_dir || !store->index_dir ||
        hf_sums_cache_new(HF_STORE_SUMS_BYTES, &store->sums) != 0) {
        hf_store_destroy(store);
        return NULL;
    }
    store->options.dir = store->dir;
    return store;
}

void hf_store_destroy(struct hf_store *store)
{
    hf_store_background_stop(store);
    hf_timer_fini(&store->close_poll);
    hf_seglog_close(store->log);
    hf_table_close(store->index);
    hf_sums_cache_free(store->sums);
    hf_file_close(store->lock);
    free(store->segments);
    free(store->dir);
    free(store->segments_dir);
    free(store->index_dir);
    free(store);
}

/* A base that was given belongs to the table, also when no table was made. */
static void discard_base(struct hf_env *env, struct hf_table_base *base)
{
    struct hf_table *table;

    if (base && hf_table_open(env, base, NULL, &table) == 0) {
        hf_table_close(table);
    }
}

int hf_store_open(struct hf_env *env, const struct hf_store_options *options, struct hf_store **ret,
                  char **ret_error)
{
    struct hf_store *store = store_new(env, options);
    uint64_t mark_seq = 0;
    int err;

    if (ret_error) {
        *ret_error = NULL;
    }
    if (!store) {
        discard_base(env, options->index_base);
        return -ENOMEM;
    }
    err = take_lock(store, ret_error);
    if (!err) {
        err = identify(store, ret_error);
    }
    if (!err) {
        err = open_index(store, &mark_seq, ret_error);
    }
    if (!err) {
        err = open_log(store, mark_seq, ret_error);
    }
    if (!err && segment_missing(store)) {
        err = quarantine_missing(store);
    }
    if (!err) {
        hf_store_space_update(store);
        err = store->space_err;
    }
    if (err) {
        (void)fail(ret_error, err, "cannot open the store in %s (%s)", options->dir,
                   hf_err_text(err));
        discard_base(env, store->options.index_base);
        hf_store_destroy(store);
        return err;
    }
    hf_store_background_start(store);
    *ret = store;
    return 0;
}

static void close_poll(void *ctx)
{
    struct hf_store *store = ctx;
    void (*done)(void *ctx) = store->close_done;
    void *done_ctx = store->close_ctx;

    if (!hf_store_idle(store)) {
        hf_timer_arm(&store->close_poll, HF_NS_PER_MS);
        return;
    }
    hf_store_destroy(store);
    if (done) {
        done(done_ctx);
    }
}

void hf_store_close(struct hf_store *store, void (*done)(void *ctx), void *ctx)
{
    if (!store) {
        return;
    }
    hf_assert_loop(store->env);
    store->closing = true;
    store->close_done = done;
    store->close_ctx = ctx;
    hf_store_background_stop(store);
    if (!done && hf_store_idle(store)) {
        hf_store_destroy(store);
        return;
    }
    hf_timer_init(&store->close_poll, store->env, close_poll, store);
    hf_timer_arm(&store->close_poll, done ? 0 : HF_NS_PER_MS);
}
