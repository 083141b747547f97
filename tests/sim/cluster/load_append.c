/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_append.c - the stream: a file that all clients have open and append to, without a lock.
 *
 * Each record is there whole (I3), once (I6), behind those that its client appended before it
 * (I3); where one other client has read it, all others do, so all see one order (I2); what was
 * synced, or was there for another client, is there (I1), what a client that lives has appended it
 * reads itself (I2), and what is left of a dead one's is a prefix (I3). What meets a full disk
 * before it is synced may be dropped: its writer's next fsync says so (I10).
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

#define STREAM_RECORDS_MAX 8192u
#define STREAM_BYTES_MAX   (UINT64_C(12) << 20)
#define BIG_BYTES_MAX      (900u << 10)
#define BIG_RECORDS        12u /* at once: more than goes in one commit */
#define MIXED_FILES        3u
#define MIXED_HEAD         4096u
#define MIXED_RECORDS      16u
#define MIXED_BYTES        (500u << 10)
#define STREAM_START       ((UINT64_C(4) << 20) - (48u << 10)) /* the end of a window comes soon */

struct head { /* of a record; its bytes follow */
    uint64_t number;
    uint64_t len_bytes; /* with the head */
    uint64_t check;
};

struct entry {
    uint32_t len_bytes;
    uint64_t life; /* session */
    bool written;  /* the write was taken */
    bool dropped;  /* it was not there: the next fsync has to fail */
    bool told;     /* an fsync failed behind it: it may be there or not */
    uint64_t begun_ns;
    uint64_t synced_ns;
    uint64_t shown_ns; /* another client has read it */
    uint64_t shown_at; /* there */
};

struct stream {
    struct entry entries[STREAM_RECORDS_MAX];
    uint64_t count, bytes;
    uint64_t mixed; /* files of that kind made */
    uint32_t big;   /* times that a client would have appended much at once: the first did */
    uint64_t answered_ns[SIM_CLIENTS_MAX]; /* the last fsync, or open */
};

struct stream *stream_new(void)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    HF_ASSERT(stream != NULL);
    return stream;
}

static uint8_t *record_bytes(const struct stream *stream, uint64_t number)
{
    struct head head = {.number = number, .len_bytes = stream->entries[number].len_bytes};
    uint8_t *bytes = malloc(head.len_bytes);

    HF_ASSERT(bytes != NULL);
    head.check = hf_hash64(&head, offsetof(struct head, check), 7);
    contents_pattern(number + 1, 0, bytes, head.len_bytes);
    memcpy(bytes, &head, sizeof(head));
    return bytes;
}

/* Number of the record at @bytes, with @len bytes to the end of the file. Failed: UINT64_MAX. */
static uint64_t check_record(struct sim *s, const uint8_t *bytes, uint64_t len, uint64_t at)
{
    const struct stream *stream = s->load->stream;
    struct head head = {.number = UINT64_MAX};
    uint8_t *want;
    bool same;

    if (len >= sizeof(head)) {
        memcpy(&head, bytes, sizeof(head));
    }
    if (head.number >= stream->count ||
        head.check != hf_hash64(&head, offsetof(struct head, check), 7)) {
        sim_wrong(s, "I3", "the stream holds at %" PRIu64 " what is no record", at);
        return UINT64_MAX;
    }
    want = record_bytes(stream, head.number);
    same = head.len_bytes <= len && memcmp(bytes, want, head.len_bytes) == 0;
    free(want);
    if (!same) {
        sim_wrong(s, "I3", "record %" PRIu64 " of the stream, at %" PRIu64 ", is torn", head.number,
                  at);
        return UINT64_MAX;
    }
    return head.number;
}

/* Not yet synced, may it have met a full disk? */
static bool may_be_dropped(const struct sim *s, const struct entry *e)
{
    return s->options.beyond || load_met_full(s, e->begun_ns);
}

/* Is one of the same life there that was appended behind it? */
static bool stands_before(const struct stream *stream, const bool *seen, uint64_t number)
{
    for (uint64_t k = number + 1; k < stream->count; k++) {
        if (seen[k] && stream->entries[k].life == stream->entries[number].life) {
            return true;
        }
    }
    return false;
}

/* What is missing: of what was synced, of what another had read, of the reader's own, of what
 * stands before one that is there. */
static void check_missing(struct sim *s, const bool *seen, uint64_t read_ns, uint64_t reader)
{
    struct stream *stream = s->load->stream;

    for (uint64_t i = 0; i < stream->count; i++) {
        struct entry *e = &stream->entries[i];
        bool own = e->life == reader;

        if (seen[i]) {
            continue;
        }
        if (e->synced_ns && e->synced_ns < read_ns) {
            sim_wrong(s, "I1", "record %" PRIu64 " of the stream was synced and is not there", i);
            return;
        }
        if (e->shown_ns && e->shown_ns < read_ns) {
            sim_wrong(s, "I1", "record %" PRIu64 " of the stream was there and is no more", i);
            return;
        }
        if (!e->written || e->told || (!own && !stands_before(stream, seen, i))) {
            continue;
        }
        if (e->synced_ns || !may_be_dropped(s, e)) {
            sim_fail(s, own ? "I2" : "I3", "record %" PRIu64 " of the stream is not there for %s",
                     i, own ? "its writer" : "others, and what is behind it is");
            return;
        }
        e->dropped = !s->options.beyond;
    }
}

/* What another client has read is committed. */
static void note_shown(struct sim *s, const bool *seen, uint64_t reader)
{
    struct stream *stream = s->load->stream;

    for (uint64_t i = 0; i < stream->count; i++) {
        struct entry *e = &stream->entries[i];

        if (seen[i] && e->life != reader && !e->shown_ns) {
            e->shown_ns = sim_now(s);
        }
    }
}

/* What is not the reader's own is committed, and stays where it is. */
static void check_place(struct sim *s, uint64_t number, uint64_t at, uint64_t reader)
{
    struct entry *e = &s->load->stream->entries[number];

    if (e->life == reader) {
        return;
    }
    if (e->shown_ns && e->shown_at != at) {
        sim_wrong(s, "I2",
                  "record %" PRIu64 " of the stream is at %" PRIu64 ", and was at %" PRIu64, number,
                  at, e->shown_at);
    }
    e->shown_at = at;
}

/* What was synced, or seen, before another was begun stands before that. */
static uint64_t check_order(struct sim *s, uint64_t number, uint64_t begun_ns, uint64_t reader)
{
    const struct entry *e = &s->load->stream->entries[number];

    if (e->life == reader) {
        return begun_ns;
    }
    if ((e->synced_ns && e->synced_ns < begun_ns) || (e->shown_ns && e->shown_ns < begun_ns)) {
        sim_wrong(s, "I2", "record %" PRIu64 " of the stream stands behind one that came later",
                  number);
    }
    return e->begun_ns > begun_ns ? e->begun_ns : begun_ns;
}

static void check_stream(struct sim *s, const uint8_t *bytes, uint64_t len, uint64_t read_ns,
                         uint64_t reader)
{
    const struct stream *stream = s->load->stream;
    bool *seen = calloc(STREAM_RECORDS_MAX, sizeof(*seen));
    uint64_t at = 0,
             begun_ns = 0; /* the latest begin of what stands before; not the reader's own */

    HF_ASSERT(seen != NULL);
    while (at < len && !s->failed) {
        uint64_t number = check_record(s, bytes + at, len - at, at);

        if (number == UINT64_MAX) {
            break;
        }
        if (seen[number]) {
            sim_wrong(s, "I6", "record %" PRIu64 " of the stream is there twice", number);
            break;
        }
        for (uint64_t k = number + 1; k < stream->count; k++) {
            if (seen[k] && stream->entries[k].life == stream->entries[number].life) {
                sim_wrong(s, "I3", "record %" PRIu64 " of the stream stands behind %" PRIu64,
                          number, k);
                break;
            }
        }
        check_place(s, number, at, reader);
        begun_ns = check_order(s, number, begun_ns, reader);
        seen[number] = true;
        at += stream->entries[number].len_bytes;
    }
    if (!s->failed) {
        s->counts.bytes_checked += len;
        check_missing(s, seen, read_ns, reader);
        note_shown(s, seen, reader);
    }
    free(seen);
}

static int read_stream(struct actor *a, struct hf_fs_file *file, uint64_t life)
{
    uint64_t read_ns = sim_now(a->s), len;
    uint8_t *bytes;
    int err = load_read_from(a, file, STREAM_START, &bytes, &len);

    sim_trace(a->s, "client %u: reads the stream: %s", a->client->number, hf_err_name(err));
    if (!err) {
        check_stream(a->s, bytes, len, read_ns, life);
        free(bytes);
    }
    return err;
}

/* Its size: all that was synced, or was seen, before it was asked for, and what the reader has
 * appended itself, is in it. What is full may have become so meanwhile. */
static int look_at_stream(struct actor *a, struct hf_fs_file *file, uint64_t life, uint64_t *ret)
{
    struct sim *s = a->s;
    struct stream *stream = s->load->stream;
    struct entry *newest = NULL; /* of those that may be dropped */
    uint64_t least = STREAM_START, droppable = 0, begun_ns = sim_now(s), count = stream->count;
    int err = DO(a, hf_fs_getattr(a->fs, hf_fs_file_ino(file), &a->req));

    if (err) {
        return err;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct entry *e = &stream->entries[i];
        bool own = e->life == life && e->written && !e->told;

        if ((e->synced_ns && e->synced_ns <= begun_ns) ||
            (e->shown_ns && e->shown_ns <= begun_ns) || (own && !may_be_dropped(s, e))) {
            least += e->len_bytes;
        } else if (own) {
            droppable += e->len_bytes;
            newest = e;
        }
    }
    if (a->attr.size < least + droppable && newest) {
        newest->dropped = !s->options.beyond;
    }
    if (a->attr.size < least && !s->options.beyond) {
        sim_fail(s, "I2", "client %u: the stream has %" PRIu64 " bytes, of at least %" PRIu64,
                 a->client->number, a->attr.size, least);
    }
    *ret = a->attr.size;
    return 0;
}

static uint32_t draw_len(struct sim *s, bool big)
{
    uint64_t draw = hf_sim_rng_below(&s->rng, 100);
    uint32_t most = big ? BIG_BYTES_MAX : draw < 75 ? 200 : 8u << 10;

    return (uint32_t)(sizeof(struct head) + hf_sim_rng_below(&s->rng, most));
}

/* As the kernel does it: at the end that it last heard of. */
static int append(struct actor *a, struct hf_fs_file *file, uint64_t *end, bool big)
{
    struct sim *s = a->s;
    struct stream *stream = s->load->stream;
    uint64_t number = stream->count;
    bool through = !big && hf_sim_rng_below(&s->rng, 10) == 0;
    struct entry *e = &stream->entries[number];
    uint8_t *bytes;
    int err;

    e->len_bytes = draw_len(s, big);
    if (number + 1 == STREAM_RECORDS_MAX || stream->bytes + e->len_bytes > STREAM_BYTES_MAX) {
        return 0;
    }
    stream->count++;
    stream->bytes += e->len_bytes;
    e->life = hf_session_id(a->client->session).v;
    e->begun_ns = sim_now(s);
    bytes = record_bytes(stream, number);
    err = DO(a, hf_fs_write(file, *end, bytes, e->len_bytes, NULL,
                            HF_FS_WRITE_APPEND | (through ? HF_FS_WRITE_THROUGH : 0), &a->req));
    free(bytes);
    sim_trace(s, "client %u: appends record %" PRIu64 ", %u bytes%s: %s", a->client->number, number,
              e->len_bytes, through ? ", through" : "", hf_err_name(err));
    *end += e->len_bytes;
    e->written = !err;
    s->counts.appends += !err;
    return load_is_full(a, err, e->begun_ns) ? 0 : err;
}

/* All of this life that were written before are synced now; or of all one may be dropped. */
static int sync_stream(struct actor *a, struct hf_fs_file *file)
{
    struct sim *s = a->s;
    struct stream *stream = s->load->stream;
    uint64_t life = hf_session_id(a->client->session).v, count = stream->count;
    uint64_t *answered_ns = &stream->answered_ns[a->client->number];
    bool written[STREAM_RECORDS_MAX];
    int err;

    for (uint64_t i = 0; i < count; i++) {
        written[i] = stream->entries[i].life == life && stream->entries[i].written;
    }
    err = DO(a, hf_fs_fsync(file, &a->req));
    sim_trace(s, "client %u: syncs the stream: %s", a->client->number, hf_err_name(err));
    if (err && !load_is_full(a, err, *answered_ns)) {
        return err;
    }
    *answered_ns = sim_now(s);
    for (uint64_t i = 0; i < count; i++) {
        struct entry *e = &stream->entries[i];

        if (!written[i] || e->synced_ns || e->told) {
            continue;
        }
        if (err) {
            e->told = true;
        } else if (e->dropped) {
            sim_fail(s, "I10",
                     "record %" PRIu64 " of the stream is dropped, and its fsync succeeds", i);
        } else {
            e->synced_ns = sim_now(s);
        }
    }
    if (!err) {
        load_check_clean(a, hf_fs_file_ino(file));
        sim_synced(a->client);
    }
    return 0;
}

static int open_stream(struct actor *a, struct hf_ino top, int flags, struct hf_fs_file **ret)
{
    int err = DO(a, hf_fs_create(a->fs, top, "stream", S_IFREG | 0644, (uint32_t)(flags | O_CREAT),
                                 &a->req));

    if (err == -ESTALE || err == -EEXIST) {
        err = DO(a, hf_fs_lookup(a->fs, top, "stream", &a->req));
        err = err ? err : DO(a, hf_fs_open(a->fs, a->attr.ino, (uint32_t)flags, &a->req));
    }
    *ret = a->file;
    if (!err) { /* it begins there: whoever comes first, or writes the same zero again */
        err = DO(a, hf_fs_write(*ret, STREAM_START - 1, "", 1, NULL, HF_FS_WRITE_THROUGH, &a->req));
    }
    return err;
}

/*
 * A file of this client's alone: what was written at its place, and not synced, is not what is
 * appended behind it (I2).
 */
static int mixed_file(struct actor *a, struct hf_ino top)
{
    struct sim *s = a->s;
    struct stream *stream = s->load->stream;
    uint64_t tag = ++stream->mixed, len = MIXED_HEAD, read_len, begun_ns = sim_now(s);
    uint8_t *want = malloc(MIXED_HEAD + MIXED_RECORDS * MIXED_BYTES), *bytes;
    struct hf_fs_file *file;
    char name[32];
    int err;

    HF_ASSERT(want != NULL);
    contents_pattern(tag, 0, want, MIXED_HEAD + MIXED_RECORDS * MIXED_BYTES);
    (void)snprintf(name, sizeof(name), "mixed%" PRIu64, tag);
    err = DO(a, hf_fs_create(a->fs, top, name, S_IFREG | 0644, O_RDWR | O_CREAT | O_EXCL, &a->req));
    file = a->file;
    err = err ? err : DO(a, hf_fs_write(file, 0, want, MIXED_HEAD, NULL, 0, &a->req));
    while (!err && len < MIXED_HEAD + MIXED_RECORDS * MIXED_BYTES) {
        uint32_t n = (uint32_t)(1 + hf_sim_rng_below(&s->rng, MIXED_BYTES));

        n = n < MIXED_HEAD + MIXED_RECORDS * MIXED_BYTES - len
                ? n
                : (uint32_t)(MIXED_HEAD + MIXED_RECORDS * MIXED_BYTES - len);
        err = DO(a, hf_fs_write(file, len, want + len, n, NULL, HF_FS_WRITE_APPEND, &a->req));
        len += n;
        if (!err && tag % 2 == 0 && hf_sim_rng_below(&s->rng, 4) == 0) { /* again, at its place */
            uint64_t at = hf_sim_rng_below(&s->rng, len - MIXED_HEAD);

            err = DO(a, hf_fs_write(file, at, want + at, MIXED_HEAD, NULL, 0, &a->req));
        }
    }
    err = err ? err : DO(a, hf_fs_fsync(file, &a->req));
    err = err ? err : load_read_all(a, file, &bytes, &read_len);
    sim_trace(s, "client %u: %s: %s", a->client->number, name, hf_err_name(err));
    if (!err) {
        if (read_len != len || memcmp(bytes, want, len) != 0) {
            sim_wrong(s, "I2", "client %u: %s has %" PRIu64 " bytes, of %" PRIu64 ", or other ones",
                      a->client->number, name, read_len, len);
        }
        free(bytes);
        err = DO(a, hf_fs_unlink(a->fs, top, name, &a->req));
    }
    free(want);
    return load_is_full(a, err, begun_ns) ? 0 : err;
}

void stream_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    struct hf_ino top;
    struct hf_fs_file *file;
    uint64_t end = STREAM_START, life; /* end: as the kernel would know it */
    int err = load_dir(a, (struct hf_ino){HF_INO_ROOT}, "shared", &top);

    (void)arg;
    if (err || load_begun(a, "stream", open_stream(a, top, O_RDWR | O_APPEND, &file))) {
        return;
    }
    life = hf_session_id(a->client->session).v;
    s->load->stream->answered_ns[a->client->number] = sim_now(s);
    while (!err && load_goes_on(a)) {
        uint64_t draw = hf_sim_rng_below(&s->rng, 100);

        if (draw == 0 && s->load->stream->mixed < MIXED_FILES) {
            err = mixed_file(a, top);
        } else if (draw < 6) {
            err = read_stream(a, file, life);
        } else if (draw < 22) {
            err = look_at_stream(a, file, life, &end);
        } else if (draw < 60) {
            bool big = draw == 22 && !a->s->load->stream->big++;

            for (uint64_t n = big ? BIG_RECORDS : 1 + hf_sim_rng_below(&s->rng, 8); n > 0 && !err;
                 n--) {
                err = append(a, file, &end, big);
            }
        } else {
            err = append(a, file, &end, false);
            err = err ? err : sync_stream(a, file);
        }
        if (err && !load_is_lost(a, err)) {
            sim_fail(s, "I1", "client %u: the stream: %s", a->client->number, hf_err_name(err));
        }
        actor_sleep(a, hf_sim_rng_below(&s->rng, 700 * SIM_MS));
    }
}

bool stream_final(struct actor *a, struct hf_ino top)
{
    struct hf_fs_file *file;
    int err = open_stream(a, top, O_RDWR, &file);

    err = err ? err : read_stream(a, file, 0);
    if (err && !a->s->options.beyond) {
        sim_fail(a->s, "I1", "the stream cannot be read at the end: %s", hf_err_name(err));
    }
    return !err;
}
