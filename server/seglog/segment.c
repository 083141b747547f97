/* SPDX-License-Identifier: Apache-2.0 */
#include "server/seglog/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"
#include "common/base/err.h"

#define PAGE         HF_SEGMENT_PAGE_BYTES
#define HEADER_MAX   (HF_RECORD_PAGES_MAX * PAGE)
#define ZERO_BYTES   (1u << 20)
#define SEARCH_BYTES (256u << 10)
#define TABLE_MAX    (64u << 20)

void *hf_segment_aligned_alloc(size_t len_bytes)
{
    size_t len = (size_t)hf_segment_pages_up(len_bytes ? len_bytes : 1);
    void *p = aligned_alloc(PAGE, len);

    if (p) {
        memset(p, 0, len);
    }
    return p;
}

void hf_segment_free(struct hf_seglog_segment *segment)
{
    if (!segment) {
        return;
    }
    HF_ASSERT(segment->refs == 0);
    hf_file_close(segment->reader);
    hf_file_close(segment->writer);
    free(segment->entries);
    free(segment->path);
    free(segment->dir);
    free(segment);
}

static char *join(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static struct hf_seglog_segment *segment_new(struct hf_disk *disk, const char *dir, uint64_t number)
{
    struct hf_seglog_segment *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->disk = disk;
    s->number = number;
    s->end_bytes = HF_SEGMENT_FIRST_OFF;
    s->dir = strdup(dir);
    if (asprintf(&s->path, "%s/%010" PRIu64 ".seg", dir, number) < 0) {
        s->path = NULL;
    }
    if (!s->dir || !s->path) {
        hf_segment_free(s);
        return NULL;
    }
    return s;
}

static void take_header(struct hf_seglog_segment *s, const struct hf_segment_header *h)
{
    s->key = (struct hf_segment_key){.salt = h->salt, .generation = h->generation};
    s->file_bytes = h->file_bytes;
    s->first_seq = h->first_seq;
    s->last_seq = h->first_seq - 1;
    s->prev_segment = h->prev_segment;
    s->prev_end = h->prev_end;
}

/* Creating */

static int write_zeros(struct hf_file *file, uint64_t len_bytes)
{
    uint64_t piece = len_bytes < ZERO_BYTES ? len_bytes : ZERO_BYTES;
    uint8_t *zeros = hf_segment_aligned_alloc((size_t)piece);
    int err = zeros ? 0 : -ENOMEM;

    for (uint64_t off = 0; !err && off < len_bytes; off += piece) {
        uint64_t n = len_bytes - off < piece ? len_bytes - off : piece;
        struct iovec iov = {.iov_base = zeros, .iov_len = (size_t)n};

        err = hf_file_write_full(file, &iov, 1, off);
    }
    free(zeros);
    return err;
}

/* Give a fresh or odd-sized file its size. */
static int size_file(struct hf_file *file, uint64_t file_bytes, bool prezero)
{
    uint64_t size = 0;
    int err = hf_file_size(file, &size);

    if (!err && size == file_bytes) {
        return 0;
    }
    if (!err && size > file_bytes) {
        return hf_file_truncate(file, file_bytes);
    }
    if (!err) {
        err = hf_file_allocate(file, file_bytes);
    }
    if (!err && prezero) {
        err = write_zeros(file, file_bytes);
    }
    return err;
}

int hf_segment_prepare_spare(struct hf_disk *disk, const char *dir, const char *name,
                             uint64_t file_bytes, bool prezero)
{
    char *path = join(dir, name);
    char *tmp = NULL;
    struct hf_file *file = NULL;
    int err = path && asprintf(&tmp, "%s.tmp", path) >= 0 ? 0 : -ENOMEM;

    if (!err) {
        err = hf_disk_open(disk, tmp, HF_FILE_CREATE | HF_FILE_DIRECT, &file);
    }
    if (!err) {
        err = size_file(file, file_bytes, prezero);
        if (!err) {
            err = hf_file_sync(file);
        }
        hf_file_close(file);
        if (!err) {
            err = hf_disk_rename(disk, tmp, path);
        }
        if (err) {
            (void)hf_disk_unlink(disk, tmp); /* open removes what is left */
        } else {
            err = hf_disk_sync_dir(disk, dir);
        }
    }
    free(tmp);
    free(path);
    return err;
}

/* The generation that a file's next life gets; a reused salt is what it guards against. */
static uint64_t next_generation(struct hf_env *env, struct hf_file *file, uint8_t *pages)
{
    struct hf_segment_header h;

    if (hf_file_read_full(file, pages, 2 * PAGE, 0, NULL) == 0 &&
        (hf_segment_header_decode(pages, &h) == 0 ||
         hf_segment_header_decode(pages + PAGE, &h) == 0)) {
        return h.generation + 1;
    }
    return hf_env_random_u64(env) >> 33;
}

static int write_header(const struct hf_segment_create *how, struct hf_file *file,
                        struct hf_seglog_segment *s)
{
    uint8_t *pages = hf_segment_aligned_alloc(2 * PAGE);
    struct iovec iov = {.iov_base = pages, .iov_len = 2 * PAGE};
    struct hf_segment_header h;
    int err;

    if (!pages) {
        return -ENOMEM;
    }
    h = (struct hf_segment_header){
        .number = how->number,
        .generation = next_generation(how->env, file, pages),
        .salt = hf_env_random_u64(how->env),
        .identity = how->identity,
        .file_bytes = how->file_bytes,
        .first_seq = how->first_seq,
        .prev_segment = how->prev_segment,
        .prev_end = how->prev_end,
    };
    hf_segment_header_encode(&h, pages);
    err = hf_file_write_full(file, &iov, 1, 0);
    if (!err) {
        err = hf_file_sync(file);
    }
    if (!err) {
        take_header(s, &h);
    }
    free(pages);
    return err;
}

static bool lacks_descriptors(int err)
{
    return err == -EMFILE || err == -ENFILE;
}

/*
 * The header is written and synced under the file's old name, then the file is renamed: a name
 * NNNN.seg is never seen without its header.
 *
 * Without descriptors for all of it, the name is taken back. A power cut may undo that: then there
 * is one more segment that is empty.
 */
int hf_segment_create(const struct hf_segment_create *how, struct hf_seglog_segment **ret)
{
    struct hf_disk *disk = hf_env_disk(how->env);
    struct hf_seglog_segment *s = segment_new(disk, how->dir, how->number);
    char *from = how->spare ? join(how->dir, how->spare) : NULL;
    struct hf_file *file = NULL;
    bool renamed = false;
    int err = -ENOMEM;

    if (!how->spare && asprintf(&from, "%s/%010" PRIu64 ".tmp", how->dir, how->number) < 0) {
        from = NULL;
    }
    if (s && from) {
        s->whole_meta_types = how->whole_meta_types;
        err = hf_disk_open(disk, from, HF_FILE_DIRECT | (how->spare ? 0 : HF_FILE_CREATE), &file);
    }
    if (!err) {
        s->writer = file;
        err = size_file(file, how->file_bytes, how->prezero);
    }
    if (!err) {
        err = write_header(how, file, s);
    }
    if (!err) {
        err = hf_disk_rename(disk, from, s->path);
        renamed = !err;
    }
    if (!err) {
        err = HF_BUG(segment_name_unsynced) ? 0 : hf_disk_sync_dir(disk, how->dir);
    }
    if (!err) {
        err = hf_disk_open(disk, s->path, HF_FILE_READ_ONLY, &s->reader);
    }
    if (renamed && lacks_descriptors(err)) {
        renamed = hf_disk_rename(disk, s->path, from) != 0;
    }
    if (err && file && !renamed && !how->spare) {
        (void)hf_disk_unlink(disk, from); /* open removes what is left */
    }
    free(from);
    if (err) {
        hf_segment_free(s);
        return !renamed && (lacks_descriptors(err) || err == -EDQUOT) ? -ENOSPC : err;
    }
    s->state = HF_SEGMENT_OPEN;
    *ret = s;
    return 0;
}

int hf_segment_load(struct hf_env *env, const char *dir, uint64_t number,
                    const struct hf_uuid *identity, struct hf_seglog_segment **ret)
{
    struct hf_seglog_segment *s = segment_new(hf_env_disk(env), dir, number);
    uint8_t *pages = hf_segment_aligned_alloc(2 * PAGE);
    struct hf_segment_header h = {0};
    int err = s && pages ? 0 : -ENOMEM;

    if (!err) {
        err = hf_disk_open(s->disk, s->path, HF_FILE_READ_ONLY, &s->reader);
    }
    if (!err) {
        bool good = false;

        /* Each copy by itself: one may lie on a bad sector. Both unread: no guess is made. */
        for (uint64_t copy = 0; copy < 2 && !good; copy++) {
            int read_err = hf_file_read_full(s->reader, pages, PAGE, copy * PAGE, NULL);

            good = !read_err && hf_segment_header_decode(pages, &h) == 0 && h.number == number;
            err = good ? 0 : read_err ? read_err : err;
        }
        s->state = good ? HF_SEGMENT_UNSEALED : HF_SEGMENT_ROTTEN;
        if (err) {
            s->state = HF_SEGMENT_ROTTEN;
        } else if (good && !hf_uuid_equal(&h.identity, identity)) {
            err = -HF_EWRONGCLUSTER;
        } else if (good) {
            take_header(s, &h);
        } else {
            (void)hf_file_size(s->reader, &s->file_bytes);
        }
    }
    free(pages);
    if (err) {
        hf_segment_free(s);
        return err;
    }
    *ret = s;
    return 0;
}

/* Entries, table, footer */

bool hf_segment_fits(uint64_t file_bytes, uint64_t end_bytes, uint32_t count, uint64_t record_bytes)
{
    uint64_t table = hf_segment_table_bytes((uint64_t)count + 1);

    return table <= file_bytes && end_bytes <= file_bytes - table &&
           record_bytes <= file_bytes - table - end_bytes;
}

int hf_segment_add_entry(struct hf_seglog_segment *s, const struct hf_table_entry *entry)
{
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 64;
        struct hf_table_entry *entries = realloc(s->entries, cap * sizeof(*entries));

        if (!entries) {
            return -ENOMEM;
        }
        s->entries = entries;
        s->cap = cap;
    }
    s->entries[s->count++] = *entry;
    return 0;
}

int hf_segment_seal(struct hf_seglog_segment *s)
{
    uint64_t bytes = hf_segment_table_bytes(s->count);
    struct hf_footer footer = {
        .table_off = s->file_bytes - bytes,
        .end_bytes = s->end_bytes,
        .first_seq = s->first_seq,
        .last_seq = s->last_seq,
        .count = s->count,
    };
    uint8_t *pages = hf_segment_aligned_alloc((size_t)bytes);
    struct iovec iov = {.iov_base = pages, .iov_len = (size_t)bytes};
    int err;

    HF_ASSERT(s->writer && footer.table_off >= s->end_bytes);
    if (!pages || s->lost_entries) {
        free(pages);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        hf_table_entry_encode(&s->entries[i], pages + i * sizeof(struct hf_table_entry_disk));
    }
    hf_footer_encode(&s->key, &footer, pages, pages + bytes - PAGE);
    err = hf_file_write_full(s->writer, &iov, 1, footer.table_off);
    if (!err) {
        err = hf_file_sync(s->writer);
    }
    free(pages);
    return err;
}

static int read_footer(const struct hf_seglog_segment *s, struct hf_footer *ret)
{
    uint8_t page[PAGE];
    int err = hf_file_read_full(s->reader, page, PAGE, s->file_bytes - PAGE, NULL);

    return err ? err : hf_footer_decode(&s->key, s->file_bytes, page, ret);
}

int hf_segment_load_footer(struct hf_seglog_segment *s, struct hf_footer *ret)
{
    int err = read_footer(s, ret);

    if (!err && ret->first_seq != s->first_seq) {
        err = -EBADMSG;
    }
    return err;
}

int hf_segment_load_table(const struct hf_seglog_segment *s, struct hf_table_entry **ret,
                          uint32_t *ret_count)
{
    struct hf_table_entry *entries = NULL;
    struct hf_footer f;
    uint8_t *bytes = NULL;
    uint64_t len;
    uint64_t seq = 0;
    int err = read_footer(s, &f);

    if (err) {
        return err;
    }
    len = (uint64_t)f.count * sizeof(struct hf_table_entry_disk);
    if (len > TABLE_MAX) {
        return -EBADMSG;
    }
    bytes = malloc(len ? (size_t)len : 1);
    entries = calloc(f.count ? f.count : 1, sizeof(*entries));
    err = bytes && entries ? 0 : -ENOMEM;
    if (!err) {
        err = hf_file_read_full(s->reader, bytes, (size_t)len, f.table_off, NULL);
    }
    if (!err) {
        err = hf_footer_check_table(&s->key, &f, bytes);
    }
    for (uint32_t i = 0; !err && i < f.count; i++) {
        err = hf_table_entry_decode(bytes + i * sizeof(struct hf_table_entry_disk), f.end_bytes,
                                    &entries[i]);
        if (!err && (entries[i].seq <= seq || entries[i].seq > f.last_seq)) {
            err = -EBADMSG;
        }
        seq = entries[i].seq;
    }
    free(bytes);
    if (err) {
        free(entries);
        return err;
    }
    *ret = entries;
    *ret_count = f.count;
    return 0;
}

/* Walking record by record */

int hf_segment_read_header(const struct hf_seglog_segment *s, uint64_t off_bytes,
                           uint8_t *ret_pages, struct hf_record_header *ret)
{
    size_t want = HEADER_MAX;
    size_t got = 0;
    size_t need = 0;
    int err;

    if (off_bytes >= s->file_bytes) {
        return -EBADMSG;
    }
    if (want > s->file_bytes - off_bytes) {
        want = (size_t)(s->file_bytes - off_bytes);
    }
    err = hf_file_read_full(s->reader, ret_pages, want, off_bytes, &got);
    if (err && got < PAGE) {
        /* A bad sector behind a short header must not hide it: the first page alone. */
        err = hf_file_read_full(s->reader, ret_pages, PAGE, off_bytes, &got);
        if (err) {
            return err;
        }
    }
    err = hf_record_header_decode(&s->key, off_bytes, s->file_bytes, ret_pages, got, ret, &need);
    return err == -ERANGE ? -EBADMSG : err;
}

static void entry_from_header(uint64_t off_bytes, const struct hf_record_header *h,
                              struct hf_table_entry *ret)
{
    size_t brief = h->meta_len_bytes < sizeof(ret->brief) ? h->meta_len_bytes : sizeof(ret->brief);

    *ret = (struct hf_table_entry){
        .off_bytes = off_bytes,
        .seq = h->seq,
        .header_bytes = hf_record_header_bytes(h->meta_len_bytes),
        .payload_len_bytes = h->payload_len_bytes,
        .meta_len_bytes = h->meta_len_bytes,
        .type = h->type,
        .flags = h->flags,
    };
    memcpy(ret->brief, h->meta, brief);
}

/* First page from @off on that starts a valid record with a number >= @seq; limit: none. */
static uint64_t search_record(const struct hf_seglog_segment *s, uint64_t off, uint64_t limit,
                              uint64_t seq, uint8_t *window, uint8_t *pages,
                              struct hf_record_header *ret)
{
    while (off < limit) {
        uint64_t len = limit - off < SEARCH_BYTES ? limit - off : SEARCH_BYTES;
        size_t got = 0;

        (void)hf_file_read_full(s->reader, window, (size_t)len, off, &got);
        for (size_t at = 0; at + PAGE <= got; at += PAGE) {
            uint32_t magic;

            memcpy(&magic, window + at, sizeof(magic));
            if (le32toh(magic) == HF_RECORD_MAGIC &&
                hf_segment_read_header(s, off + at, pages, ret) == 0 && ret->seq >= seq) {
                return off + at;
            }
        }
        /* An unreadable page is stepped over. */
        off += got >= PAGE ? got / PAGE * PAGE : PAGE;
    }
    return limit;
}

int hf_segment_walk(const struct hf_seglog_segment *s, const struct hf_segment_walk *walk)
{
    uint8_t *pages = hf_segment_aligned_alloc(HEADER_MAX);
    uint8_t *window = malloc(SEARCH_BYTES);
    uint64_t off = HF_SEGMENT_FIRST_OFF;
    uint64_t seq = s->first_seq;
    int err = pages && window ? 0 : -ENOMEM;

    while (!err && off < walk->limit_bytes) {
        struct hf_record_header h;
        struct hf_table_entry entry;

        int bad = hf_segment_read_header(s, off, pages, &h);

        if (bad || h.seq < seq) {
            uint64_t at = search_record(s, off + PAGE, walk->limit_bytes, seq, window, pages, &h);
            bool found = at < walk->limit_bytes;
            struct hf_segment_hole hole = {.off_bytes = off,
                                           .end_bytes = at,
                                           .first_seq = seq,
                                           .next_seq = found ? h.seq : 0,
                                           .read_err = bad == -EBADMSG ? 0 : bad};

            err = walk->hole ? walk->hole(walk->ctx, &hole) : 0;
            off = at;
            if (err || !found) {
                break;
            }
        }
        entry_from_header(off, &h, &entry);
        err = walk->record(walk->ctx, &entry, &h);
        off += entry.header_bytes + hf_segment_pages_up(entry.payload_len_bytes);
        seq = h.seq + 1;
    }
    free(window);
    free(pages);
    return err;
}
