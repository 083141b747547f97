/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sim_data.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* Of one file, or the same in what is current and what is durable; then nobody writes there. */
struct page {
    uint32_t refs;
    uint8_t bytes[HF_SIM_PAGE_BYTES];
};

/* What is written as zeros, whole pages of it (logs are prepared so), takes no memory. */
static struct page zero_page;

struct pages {
    struct page **page; /* NULL: zeros, not in use; zero_page: zeros */
    size_t cap;
    uint64_t size_bytes;
    size_t reserved; /* pages below it are in use, written or not */
    size_t used;     /* reserved + those written above */
};

enum change_kind {
    CHANGE_WRITE,
    CHANGE_TRUNCATE,
    CHANGE_ALLOCATE,
};

struct change {
    struct change *next;
    enum change_kind kind;
    uint64_t off;    /* WRITE */
    uint64_t len;    /* WRITE: bytes; TRUNCATE, ALLOCATE: the new size */
    uint64_t before; /* the size before */
    bool zeros;      /* WRITE: of zeros, without bytes */
    uint8_t bytes[];
};

struct hf_sim_data {
    struct pages current;
    struct pages durable;
    bool diverged;       /* a sync failed: current is not just what is durable with the changes */
    struct change *head; /* pending */
    struct change **tail;
};

/* Pages */

static size_t pages_of(uint64_t bytes)
{
    return (size_t)((bytes + HF_SIM_PAGE_BYTES - 1) / HF_SIM_PAGE_BYTES);
}

static void pages_grow(struct pages *pages, size_t count)
{
    if (count > pages->cap) {
        size_t cap = count > 2 * pages->cap ? count : 2 * pages->cap;

        pages->page = reallocarray(pages->page, cap, sizeof(*pages->page));
        HF_ASSERT(pages->page != NULL);
        memset(pages->page + pages->cap, 0, (cap - pages->cap) * sizeof(*pages->page));
        pages->cap = cap;
    }
}

static void pages_count(struct pages *pages)
{
    pages->used = pages->reserved;
    for (size_t i = pages->reserved; i < pages->cap; i++) {
        pages->used += pages->page[i] != NULL;
    }
}

static struct page *page_ref(struct page *page)
{
    if (page && page != &zero_page) {
        page->refs++;
    }
    return page;
}

static void page_unref(struct page *page)
{
    if (page && page != &zero_page && --page->refs == 0) {
        free(page);
    }
}

static void pages_fini(struct pages *pages)
{
    for (size_t i = 0; i < pages->cap; i++) {
        page_unref(pages->page[i]);
    }
    free(pages->page);
    *pages = (struct pages){0};
}

static void pages_copy(struct pages *to, const struct pages *from)
{
    pages_fini(to);
    pages_grow(to, from->cap);
    for (size_t i = 0; i < from->cap; i++) {
        to->page[i] = page_ref(from->page[i]);
    }
    to->size_bytes = from->size_bytes;
    to->reserved = from->reserved;
    to->used = from->used;
}

static size_t piece_len(uint64_t off, size_t len, size_t unit)
{
    size_t left = unit - (size_t)(off % unit);

    return len < left ? len : left;
}

static size_t pages_read(const struct pages *pages, uint8_t *ret, size_t len, uint64_t off)
{
    size_t done = 0;

    if (off >= pages->size_bytes) {
        return 0;
    }
    if (len > pages->size_bytes - off) {
        len = (size_t)(pages->size_bytes - off);
    }
    while (done < len) {
        size_t index = (size_t)((off + done) / HF_SIM_PAGE_BYTES);
        size_t n = piece_len(off + done, len - done, HF_SIM_PAGE_BYTES);

        if (index < pages->cap && pages->page[index]) {
            memcpy(ret + done, pages->page[index]->bytes + (off + done) % HF_SIM_PAGE_BYTES, n);
        } else {
            memset(ret + done, 0, n);
        }
        done += n;
    }
    return len;
}

/* A page to write into; @whole: all of it. */
static uint8_t *page_of(struct pages *pages, size_t index, bool whole)
{
    struct page **at = &pages->page[index], *old = *at;

    if (!old || old == &zero_page || old->refs > 1) {
        pages->used += !old && index >= pages->reserved;
        *at = malloc(sizeof(**at));
        HF_ASSERT(*at != NULL);
        if (!whole) {
            **at = old ? *old : zero_page;
        }
        (*at)->refs = 1;
        page_unref(old);
    }
    return (*at)->bytes;
}

static void page_clear(struct pages *pages, size_t index)
{
    struct page **page = &pages->page[index];

    pages->used += !*page && index >= pages->reserved;
    page_unref(*page);
    *page = &zero_page;
}

/* @bytes  NULL: zeros */
static void pages_write(struct pages *pages, const uint8_t *bytes, size_t len, uint64_t off)
{
    size_t done = 0;

    if (len == 0) {
        return;
    }
    pages_grow(pages, pages_of(off + len));
    while (done < len) {
        size_t index = (size_t)((off + done) / HF_SIM_PAGE_BYTES);
        size_t n = piece_len(off + done, len - done, HF_SIM_PAGE_BYTES);

        if (bytes) {
            memcpy(page_of(pages, index, n == HF_SIM_PAGE_BYTES) + (off + done) % HF_SIM_PAGE_BYTES,
                   bytes + done, n);
        } else if (n == HF_SIM_PAGE_BYTES) {
            page_clear(pages, index);
        } else {
            memset(page_of(pages, index, false) + (off + done) % HF_SIM_PAGE_BYTES, 0, n);
        }
        done += n;
    }
    if (off + len > pages->size_bytes) {
        pages->size_bytes = off + len;
    }
}

static void pages_truncate(struct pages *pages, uint64_t len)
{
    size_t count = pages_of(len);

    for (size_t i = count; i < pages->cap; i++) {
        page_unref(pages->page[i]);
        pages->page[i] = NULL;
    }
    if (len % HF_SIM_PAGE_BYTES && count <= pages->cap && pages->page[count - 1] &&
        pages->page[count - 1] != &zero_page) {
        memset(page_of(pages, count - 1, false) + len % HF_SIM_PAGE_BYTES, 0,
               HF_SIM_PAGE_BYTES - len % HF_SIM_PAGE_BYTES);
    }
    if (pages->reserved > count) {
        pages->reserved = count;
    }
    pages->size_bytes = len;
    pages_count(pages);
}

static void pages_allocate(struct pages *pages, uint64_t len)
{
    if (pages_of(len) > pages->reserved) {
        pages->reserved = pages_of(len);
    }
    if (len > pages->size_bytes) {
        pages->size_bytes = len;
    }
    pages_count(pages);
}

/* Pending changes */

static void append_change(struct hf_sim_data *data, enum change_kind kind, uint64_t off,
                          const void *bytes, uint64_t len)
{
    size_t extra = bytes ? (size_t)len : 0;
    struct change *change = malloc(sizeof(*change) + extra);

    HF_ASSERT(change != NULL);
    *change = (struct change){.off = off, .len = len, .before = data->current.size_bytes};
    change->kind = kind;
    change->zeros = !bytes;
    if (extra) {
        memcpy(change->bytes, bytes, extra);
    }
    *data->tail = change;
    data->tail = &change->next;
}

static void forget_changes(struct hf_sim_data *data)
{
    while (data->head) {
        struct change *change = data->head;

        data->head = change->next;
        free(change);
    }
    data->tail = &data->head;
}

static const uint8_t *bytes_of(const struct change *change, uint64_t at)
{
    return change->zeros ? NULL : change->bytes + at;
}

static void apply(struct pages *pages, const struct change *change)
{
    switch (change->kind) {
    case CHANGE_WRITE:
        pages_write(pages, bytes_of(change, 0), (size_t)change->len, change->off);
        break;
    case CHANGE_TRUNCATE:
        pages_truncate(pages, change->len);
        break;
    case CHANGE_ALLOCATE:
        pages_allocate(pages, change->len);
        break;
    }
}

static void apply_all(struct pages *pages, const struct hf_sim_data *data)
{
    for (const struct change *change = data->head; change; change = change->next) {
        apply(pages, change);
    }
}

struct settle {
    struct hf_sim_rng *rng;
    unsigned percent; /* chance of one more change to reach the disk */
    uint8_t *stopped; /* by sector: a change was lost, so are all later ones */
    uint64_t limit;   /* a size change was lost that concerned what is beyond */
};

static void settle_write(struct pages *pages, const struct change *change, struct settle *settle)
{
    uint64_t done = 0;

    while (done < change->len) {
        uint64_t off = change->off + done;
        size_t n = piece_len(off, (size_t)(change->len - done), HF_SIM_SECTOR_BYTES);
        uint8_t *stopped = &settle->stopped[off / HF_SIM_SECTOR_BYTES];

        if (!*stopped && off < settle->limit && hf_sim_rng_chance(settle->rng, settle->percent)) {
            pages_write(pages, bytes_of(change, done), n, off);
        } else {
            *stopped = 1;
        }
        done += n;
    }
}

static void settle_size(struct pages *pages, const struct change *change, struct settle *settle)
{
    uint64_t kept = change->before < change->len ? change->before : change->len;

    if (settle->limit == UINT64_MAX && hf_sim_rng_chance(settle->rng, settle->percent)) {
        apply(pages, change);
    } else if (kept < settle->limit) {
        settle->limit = kept;
    }
}

/* Decide for every pending change how much of it is durable, and forget it. */
static void settle_random(struct hf_sim_data *data, struct hf_sim_rng *rng)
{
    static const unsigned percents[] = {0, 20, 50, 80, 95, 100};
    struct settle settle = {.rng = rng, .limit = UINT64_MAX};
    uint64_t end = 0;

    for (const struct change *change = data->head; change; change = change->next) {
        if (change->kind == CHANGE_WRITE && change->off + change->len > end) {
            end = change->off + change->len;
        }
    }
    settle.percent = percents[hf_sim_rng_below(rng, HF_ARRAY_LEN(percents))];
    settle.stopped = calloc(1, (size_t)(end / HF_SIM_SECTOR_BYTES) + 1);
    HF_ASSERT(settle.stopped != NULL);
    for (const struct change *change = data->head; change; change = change->next) {
        if (change->kind == CHANGE_WRITE) {
            settle_write(&data->durable, change, &settle);
        } else {
            settle_size(&data->durable, change, &settle);
        }
    }
    free(settle.stopped);
    forget_changes(data);
}

/* Public */

struct hf_sim_data *hf_sim_data_new(void)
{
    struct hf_sim_data *data = calloc(1, sizeof(*data));

    HF_ASSERT(data != NULL);
    data->tail = &data->head;
    return data;
}

void hf_sim_data_free(struct hf_sim_data *data)
{
    if (data) {
        forget_changes(data);
        pages_fini(&data->current);
        pages_fini(&data->durable);
        free(data);
    }
}

uint64_t hf_sim_data_size(const struct hf_sim_data *data)
{
    return data->current.size_bytes;
}

uint64_t hf_sim_data_used_bytes(const struct hf_sim_data *data)
{
    return (uint64_t)data->current.used * HF_SIM_PAGE_BYTES;
}

size_t hf_sim_data_room(const struct hf_sim_data *data, uint64_t off, size_t len_bytes,
                        uint64_t free_bytes)
{
    const struct pages *pages = &data->current;
    uint64_t free_pages = free_bytes / HF_SIM_PAGE_BYTES;
    size_t done = 0;

    while (done < len_bytes) {
        size_t index = (size_t)((off + done) / HF_SIM_PAGE_BYTES);
        bool there = index < pages->reserved || (index < pages->cap && pages->page[index]);

        if (!there && free_pages-- == 0) {
            break;
        }
        done += piece_len(off + done, len_bytes - done, HF_SIM_PAGE_BYTES);
    }
    return done;
}

size_t hf_sim_data_read(const struct hf_sim_data *data, void *ret, size_t len_bytes, uint64_t off)
{
    return pages_read(&data->current, ret, len_bytes, off);
}

/* Worth knowing only of many. */
static bool is_zeros(const uint8_t *bytes, size_t len)
{
    return len >= HF_SIM_PAGE_BYTES && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

void hf_sim_data_write(struct hf_sim_data *data, const void *bytes, size_t len_bytes, uint64_t off)
{
    HF_ASSERT(off + len_bytes <= HF_SIM_FILE_BYTES_MAX);
    if (is_zeros(bytes, len_bytes)) {
        bytes = NULL;
    }
    append_change(data, CHANGE_WRITE, off, bytes, len_bytes);
    pages_write(&data->current, bytes, len_bytes, off);
}

void hf_sim_data_truncate(struct hf_sim_data *data, uint64_t len_bytes)
{
    HF_ASSERT(len_bytes <= HF_SIM_FILE_BYTES_MAX);
    append_change(data, CHANGE_TRUNCATE, 0, NULL, len_bytes);
    pages_truncate(&data->current, len_bytes);
}

void hf_sim_data_allocate(struct hf_sim_data *data, uint64_t len_bytes)
{
    HF_ASSERT(len_bytes <= HF_SIM_FILE_BYTES_MAX);
    append_change(data, CHANGE_ALLOCATE, 0, NULL, len_bytes);
    pages_allocate(&data->current, len_bytes);
}

/* What is current is durable; the pages of @change are shared. */
static void share(struct hf_sim_data *data, const struct change *change)
{
    struct pages *from = &data->current, *to = &data->durable;
    size_t first = (size_t)(change->off / HF_SIM_PAGE_BYTES);
    size_t end = change->kind == CHANGE_WRITE ? pages_of(change->off + change->len) : from->cap;

    for (size_t i = first; i < end && i < from->cap; i++) {
        page_unref(to->page[i]);
        to->page[i] = page_ref(from->page[i]);
    }
}

void hf_sim_data_sync(struct hf_sim_data *data)
{
    if (data->diverged) {
        apply_all(&data->durable, data);
    } else {
        pages_grow(&data->durable, data->current.cap);
        for (const struct change *change = data->head; change; change = change->next) {
            share(data, change);
        }
        data->durable.size_bytes = data->current.size_bytes;
        data->durable.reserved = data->current.reserved;
        data->durable.used = data->current.used;
    }
    forget_changes(data);
}

void hf_sim_data_sync_failed(struct hf_sim_data *data, struct hf_sim_rng *rng)
{
    settle_random(data, rng);
    data->diverged = true;
}

void hf_sim_data_cut(struct hf_sim_data *data, struct hf_sim_rng *rng, enum hf_sim_cut mode)
{
    switch (mode) {
    case HF_SIM_CUT_RANDOM:
        settle_random(data, rng);
        break;
    case HF_SIM_CUT_LOSE_ALL:
        forget_changes(data);
        break;
    case HF_SIM_CUT_KEEP_ALL:
        hf_sim_data_sync(data);
        break;
    }
    pages_copy(&data->current, &data->durable);
    data->diverged = false;
}

void hf_sim_data_drop_cache(struct hf_sim_data *data)
{
    pages_copy(&data->current, &data->durable);
    apply_all(&data->current, data);
    data->diverged = false;
}

bool hf_sim_data_flip(struct hf_sim_data *data, uint64_t off, uint8_t mask)
{
    struct pages *const both[] = {&data->current, &data->durable};
    const struct change *zeros = NULL;

    if (off >= data->current.size_bytes) {
        return false;
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(both); i++) {
        uint8_t byte;

        if (pages_read(both[i], &byte, 1, off)) {
            byte ^= mask;
            pages_write(both[i], &byte, 1, off);
        }
    }
    for (struct change *change = data->head; change; change = change->next) {
        if (change->kind == CHANGE_WRITE && off >= change->off && off - change->off < change->len) {
            zeros = change->zeros ? change : NULL;
            if (!zeros) {
                change->bytes[off - change->off] ^= mask;
            }
        }
    }
    if (zeros) {
        append_change(data, CHANGE_WRITE, off, &mask, 1);
    }
    return true;
}
