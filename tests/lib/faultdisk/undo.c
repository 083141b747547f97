/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/faultdisk/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"

#define SECTOR HF_UNDO_SECTOR_BYTES

struct hf_undo_change {
    struct hf_undo_change *prev, *next;
    bool resize;            /* not a write: off .. off + len is what a truncation takes away */
    uint64_t off;           /* multiple of a sector */
    uint64_t len;           /* bytes; a write: multiple of a sector */
    uint64_t before, after; /* size of the file, bytes */
    size_t old_len;         /* up to the end that the file had; zeros follow */
    uint8_t *old;
    uint8_t *new; /* a write that was undone: len bytes */
};

struct hf_undo_stale {
    uint64_t sector; /* its number */
    uint8_t bytes[SECTOR];
};

static uint64_t sector_down(uint64_t off)
{
    return off - off % SECTOR;
}

static uint64_t sector_up(uint64_t off)
{
    return sector_down(off + SECTOR - 1);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The backing file */

static int file_size(int fd, uint64_t *ret)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return -errno;
    }
    *ret = (uint64_t)st.st_size;
    return 0;
}

/* What is beyond the end reads as zeros. */
static int read_full(int fd, uint8_t *ret, size_t len, uint64_t off)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, ret + done, len - done, (off_t)(off + done));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            memset(ret + done, 0, len - done);
            break;
        }
        done += (size_t)n;
    }
    return 0;
}

static int write_full(int fd, const uint8_t *bytes, size_t len, uint64_t off)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, bytes + done, len - done, (off_t)(off + done));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

static int resize(int fd, uint64_t len)
{
    return ftruncate(fd, (off_t)len) == 0 ? 0 : -errno;
}

/* Changes */

static void change_free(struct hf_undo_change *change)
{
    if (change) {
        free(change->old);
        free(change->new);
        free(change);
    }
}

/* A change to the sectors of [@off, @end), not in the list yet, with what is there now. */
static int change_new(int fd, uint64_t off, uint64_t end, struct hf_undo_change **ret)
{
    struct hf_undo_change *change = calloc(1, sizeof(*change));
    int err;

    HF_ASSERT(change != NULL);
    change->off = sector_down(off);
    change->len = sector_up(end) - change->off;
    err = file_size(fd, &change->before);
    if (!err && change->before > change->off) {
        change->old_len = (size_t)min_u64(change->before - change->off, change->len);
        change->old = malloc(change->old_len);
        HF_ASSERT(change->old != NULL);
        err = read_full(fd, change->old, change->old_len, change->off);
    }
    if (err) {
        change_free(change);
        return err;
    }
    *ret = change;
    return 0;
}

static int change_add(struct hf_undo *undo, int fd, struct hf_undo_change *change)
{
    int err = file_size(fd, &change->after);

    if (err || (change->resize && change->after == change->before)) {
        change_free(change);
        return err;
    }
    change->prev = undo->last;
    if (undo->last) {
        undo->last->next = change;
    } else {
        undo->first = change;
    }
    undo->last = change;
    undo->unsynced_bytes += change->resize ? 0 : change->len;
    return 0;
}

static void forget_changes(struct hf_undo *undo)
{
    while (undo->first) {
        struct hf_undo_change *change = undo->first;

        undo->first = change->next;
        change_free(change);
    }
    undo->last = NULL;
    undo->unsynced_bytes = 0;
}

/* Stale sectors */

static struct hf_undo_stale *stale_find(const struct hf_undo *undo, uint64_t sector)
{
    for (size_t i = 0; i < undo->stale_count; i++) {
        if (undo->stale[i].sector == sector) {
            return &undo->stale[i];
        }
    }
    return NULL;
}

static void stale_remove(struct hf_undo *undo, uint64_t first, uint64_t end)
{
    for (size_t i = undo->stale_count; i-- > 0;) {
        if (undo->stale[i].sector >= first && undo->stale[i].sector < end) {
            undo->stale[i] = undo->stale[--undo->stale_count];
        }
    }
}

/* The durable bytes of a sector that @change, the first of its changes, was to replace. */
static void stale_add(struct hf_undo *undo, const struct hf_undo_change *change, uint64_t sector)
{
    size_t at = (size_t)(sector * SECTOR - change->off);
    struct hf_undo_stale *stale;

    if (undo->stale_count == undo->stale_cap) {
        undo->stale_cap = undo->stale_cap ? 2 * undo->stale_cap : 16;
        undo->stale = reallocarray(undo->stale, undo->stale_cap, sizeof(*undo->stale));
        HF_ASSERT(undo->stale != NULL);
    }
    stale = &undo->stale[undo->stale_count++];
    *stale = (struct hf_undo_stale){.sector = sector};
    if (at < change->old_len) {
        memcpy(stale->bytes, change->old + at, min_u64(SECTOR, change->old_len - at));
    }
}

/* What a sync that succeeds makes of the sectors that an earlier one lost. */
static void stale_overwritten(struct hf_undo *undo)
{
    if (undo->stale_count == 0) {
        return;
    }
    for (const struct hf_undo_change *c = undo->first; c; c = c->next) {
        if (!c->resize) {
            stale_remove(undo, c->off / SECTOR, (c->off + c->len) / SECTOR);
        } else if (c->after < c->before) {
            stale_remove(undo, sector_up(c->after) / SECTOR, UINT64_MAX);
        }
    }
}

/* The cut: back to what is durable */

static int undo_one(int fd, struct hf_undo_change *change)
{
    int err = 0;

    if (!change->resize) {
        change->new = malloc(change->len);
        HF_ASSERT(change->new != NULL);
        err = read_full(fd, change->new, change->len, change->off);
    }
    if (!err) {
        err = resize(fd, change->before);
    }
    return err ? err : write_full(fd, change->old, change->old_len, change->off);
}

static int undo_all(struct hf_undo *undo, int fd)
{
    uint64_t size = 0;
    int err = 0;

    for (struct hf_undo_change *c = undo->last; !err && c; c = c->prev) {
        err = undo_one(fd, c);
    }
    if (!err) {
        err = file_size(fd, &size);
    }
    for (size_t i = 0; !err && i < undo->stale_count; i++) {
        uint64_t off = undo->stale[i].sector * SECTOR;

        if (off < size) {
            err = write_full(fd, undo->stale[i].bytes, min_u64(SECTOR, size - off), off);
        }
    }
    return err;
}

/* The cut: some of what was not durable */

struct settle {
    struct hf_sim_rng *rng;
    unsigned percent; /* chance of one more change to reach the disk */
    uint8_t *stopped; /* by sector: a change was lost, so are all later ones */
    uint64_t limit;   /* a size change was lost that concerned what is beyond */
};

static int settle_write(int fd, const struct hf_undo_change *change, struct settle *settle)
{
    int err = 0;

    for (uint64_t at = 0; !err && at < change->len; at += SECTOR) {
        uint64_t off = change->off + at;
        uint8_t *stopped = &settle->stopped[off / SECTOR];

        if (off >= change->after) {
            break;
        }
        if (!*stopped && off < settle->limit && hf_sim_rng_chance(settle->rng, settle->percent)) {
            err = write_full(fd, change->new + at, min_u64(SECTOR, change->after - off), off);
        } else {
            *stopped = 1;
        }
    }
    return err;
}

static int settle_resize(int fd, const struct hf_undo_change *change, struct settle *settle)
{
    if (settle->limit == UINT64_MAX && hf_sim_rng_chance(settle->rng, settle->percent)) {
        return resize(fd, change->after);
    }
    settle->limit = min_u64(settle->limit, min_u64(change->before, change->after));
    return 0;
}

static unsigned percent_of(struct hf_sim_rng *rng, enum hf_undo_cut mode)
{
    static const unsigned percents[] = {0, 20, 50, 80, 95, 100};

    switch (mode) {
    case HF_UNDO_CUT_RANDOM:
        return percents[hf_sim_rng_below(rng, HF_ARRAY_LEN(percents))];
    case HF_UNDO_CUT_DROP:
        return 0;
    case HF_UNDO_CUT_KEEP:
        return 100;
    case HF_UNDO_CUT_TORN:
        return 50;
    }
    HF_UNREACHABLE();
}

/* One past the last sector that a change wrote. */
static uint64_t sectors_end(const struct hf_undo *undo)
{
    uint64_t end = 0;

    for (const struct hf_undo_change *c = undo->first; c; c = c->next) {
        if (!c->resize && c->off + c->len > end) {
            end = c->off + c->len;
        }
    }
    return end / SECTOR;
}

/* Public */

void hf_undo_fini(struct hf_undo *undo)
{
    forget_changes(undo);
    free(undo->stale);
    *undo = (struct hf_undo){0};
}

ssize_t hf_undo_write(struct hf_undo *undo, int fd, const void *bytes, size_t len_bytes,
                      uint64_t off)
{
    struct hf_undo_change *change;
    int err = change_new(fd, off, off + len_bytes, &change);
    ssize_t n;

    if (err) {
        return err;
    }
    n = pwrite(fd, bytes, len_bytes, (off_t)off);
    if (n < 0) {
        err = -errno;
        change_free(change);
        return err;
    }
    err = change_add(undo, fd, change);
    return err ? err : n;
}

int hf_undo_truncate(struct hf_undo *undo, int fd, uint64_t len_bytes)
{
    struct hf_undo_change *change;
    uint64_t size = 0;
    int err = file_size(fd, &size);

    if (err || size == len_bytes) {
        return err;
    }
    err = change_new(fd, len_bytes, len_bytes < size ? size : len_bytes, &change);
    if (err) {
        return err;
    }
    change->resize = true;
    err = resize(fd, len_bytes);
    if (err) {
        change_free(change);
        return err;
    }
    return change_add(undo, fd, change);
}

int hf_undo_allocate(struct hf_undo *undo, int fd, int mode, uint64_t off, uint64_t len_bytes)
{
    const bool zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
    struct hf_undo_change *change;
    int err;

    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        return -EOPNOTSUPP;
    }
    err = change_new(fd, off, zeroes ? off + len_bytes : off, &change);
    if (err) {
        return err;
    }
    change->resize = !zeroes;
    if (fallocate(fd, mode, (off_t)off, (off_t)len_bytes) != 0) {
        err = -errno;
        change_free(change);
        return err;
    }
    return change_add(undo, fd, change);
}

void hf_undo_sync(struct hf_undo *undo)
{
    stale_overwritten(undo);
    forget_changes(undo);
}

void hf_undo_sync_failed(struct hf_undo *undo, struct hf_sim_rng *rng)
{
    const uint64_t end = sectors_end(undo);
    const unsigned percent = percent_of(rng, HF_UNDO_CUT_RANDOM);
    uint8_t *decided = calloc(1, (size_t)end + 1);

    HF_ASSERT(decided != NULL);
    for (const struct hf_undo_change *c = undo->first; c; c = c->next) {
        for (uint64_t s = c->off / SECTOR; !c->resize && s < (c->off + c->len) / SECTOR; s++) {
            if (decided[s]) {
                continue;
            }
            decided[s] = 1;
            if (hf_sim_rng_chance(rng, percent)) {
                stale_remove(undo, s, s + 1);
            } else if (!stale_find(undo, s)) {
                stale_add(undo, c, s);
            }
        }
    }
    free(decided);
    forget_changes(undo);
}

int hf_undo_cut(struct hf_undo *undo, int fd, struct hf_sim_rng *rng, enum hf_undo_cut mode)
{
    struct settle settle = {.rng = rng, .percent = percent_of(rng, mode), .limit = UINT64_MAX};
    int err;

    settle.stopped = calloc(1, (size_t)sectors_end(undo) + 1);
    HF_ASSERT(settle.stopped != NULL);
    err = undo_all(undo, fd);
    for (struct hf_undo_change *c = undo->first; !err && c; c = c->next) {
        err = c->resize ? settle_resize(fd, c, &settle) : settle_write(fd, c, &settle);
    }
    free(settle.stopped);
    hf_undo_fini(undo);
    return err;
}
