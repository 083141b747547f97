/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.c - recount everything from the rows and compare with what the rows and counters say.
 *
 * Rows are walked in key order, tag by tag. What one kind of row says about another is gathered in
 * arrays ordered by inode or object and compared at the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "server/meta/acl.h"
#include "server/meta/alloc.h"
#include "server/meta/dir.h"
#include "server/meta/inode.h"
#include "server/meta/lock.h"
#include "server/meta/objects.h"
#include "server/meta/session.h"
#include "server/meta/state.h"
#include "server/meta/window.h"

struct seen_inode {
    struct hf_inode inode;
    uint64_t names, entries, subdirs; /* names: entries that name it */
    struct hf_ino named_in;           /* the last directory that does */
    uint64_t bytes, holders;
    uint64_t xattr_names_bytes, xattr_bytes;
    bool queued, symlink, acl, default_acl, stale, reserved;
};

struct seen_object {
    struct hf_oid oid;
    struct hf_row_object row;
    uint64_t refs, live_bytes, lacking;
};

struct fsck {
    struct hf_meta *meta;
    struct seen_inode *inodes;
    size_t inode_count, inode_cap;
    struct seen_object *objects;
    size_t object_count, object_cap;
    uint64_t orphan_rows; /* minus those of the other direction */
    struct hf_meta_usage usage;
    char *text;
};

/* Say what is wrong. Returns -EBADMSG. */
__attribute__((format(printf, 2, 3))) static int wrong(struct fsck *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    free(f->text);
    if (vasprintf(&f->text, format, args) < 0) {
        f->text = NULL;
    }
    va_end(args);
    return -EBADMSG;
}

static struct seen_inode *find_inode(struct fsck *f, uint64_t ino)
{
    size_t low = 0, high = f->inode_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (f->inodes[mid].inode.attr.ino.v < ino) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < f->inode_count && f->inodes[low].inode.attr.ino.v == ino ? &f->inodes[low] : NULL;
}

static struct seen_object *find_object(struct fsck *f, const struct hf_oid *oid)
{
    size_t low = 0, high = f->object_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (hf_oid_cmp(&f->objects[mid].oid, oid) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < f->object_count && hf_oid_equal(&f->objects[low].oid, oid) ? &f->objects[low]
                                                                            : NULL;
}

static int grow(void **array, size_t *cap, size_t count, size_t elem)
{
    size_t n = *cap ? *cap * 2 : 256;
    void *p;

    if (count < *cap) {
        return 0;
    }
    p = realloc(*array, n * elem);
    if (!p) {
        return -ENOMEM;
    }
    *array = p;
    *cap = n;
    return 0;
}

/* One function per kind of row; the key's length is checked. */

static int row_inode(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    struct seen_inode *seen;
    int err = grow((void **)&f->inodes, &f->inode_cap, f->inode_count, sizeof(*f->inodes));

    (void)key_len;
    if (err) {
        return err;
    }
    seen = &f->inodes[f->inode_count++];
    *seen = (struct seen_inode){0};
    seen->inode.attr.ino.v = hf_get_be64(key + 1);
    if (hf_row_inode_decode(value, len, &seen->inode)) {
        return wrong(f, "inode %" PRIu64 ": bad row", seen->inode.attr.ino.v);
    }
    f->usage.inodes++;
    f->usage.orphans += seen->inode.state == HF_INODE_ORPHAN;
    return 0;
}

static int row_dirent(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    uint64_t dir = hf_get_be64(key + 1), cookie = hf_get_be64(key + 9);
    struct seen_inode *parent = find_inode(f, dir), *child;
    struct hf_row_dirent row;

    (void)key_len;
    if (hf_row_dirent_decode(value, len, &row)) {
        return wrong(f, "directory %" PRIu64 ": bad entry", dir);
    }
    if (!parent || !S_ISDIR(parent->inode.attr.mode)) {
        return wrong(f, "entry in %" PRIu64 ", which is no directory", dir);
    }
    if (!row.ino.v) {
        return (cookie & 255) == 0 && row.slots > 1
                   ? 0
                   : wrong(f, "directory %" PRIu64 ": vacant entry", dir);
    }
    child = find_inode(f, row.ino.v);
    if (!child) {
        return wrong(f, "directory %" PRIu64 ": '%.*s' names %" PRIu64 ", which is missing", dir,
                     (int)row.name_len, row.name, row.ino.v);
    }
    if ((child->inode.attr.mode & S_IFMT) != row.type ||
        hf_dir_hash(f->meta, row.name, row.name_len) != (cookie & ~UINT64_C(255)) ||
        hf_dir_name_check(row.name, row.name_len)) {
        return wrong(f, "directory %" PRIu64 ": '%.*s' has the wrong type or place", dir,
                     (int)row.name_len, row.name);
    }
    parent->entries++;
    parent->subdirs += S_ISDIR(row.type);
    child->names++;
    child->named_in.v = dir;
    return 0;
}

static int row_symlink(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                       size_t len)
{
    struct seen_inode *seen = find_inode(f, hf_get_be64(key + 1));

    (void)key_len;
    if (!seen || !S_ISLNK(seen->inode.attr.mode) || seen->inode.attr.size != len - 1 ||
        *(const uint8_t *)value != HF_ROW_VERSION) {
        return wrong(f, "symlink %" PRIu64 ": bad row", hf_get_be64(key + 1));
    }
    seen->symlink = true;
    return 0;
}

static int row_xattr(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    struct seen_inode *seen = find_inode(f, hf_get_be64(key + 1));
    const char *name = (const char *)key + 9;
    size_t name_len = key_len - 9;

    if (!seen || len < 1 || *(const uint8_t *)value != HF_ROW_VERSION) {
        return wrong(f, "attribute of %" PRIu64 ": bad row", hf_get_be64(key + 1));
    }
    seen->xattr_names_bytes += name_len + 1;
    seen->xattr_bytes += len - 1;
    if (hf_acl_is_name(name, name_len)) {
        bool is_default = name[name_len - 1] == 't';

        seen->acl |= !is_default;
        seen->default_acl |= is_default;
    }
    return 0;
}

static int extent_check(struct fsck *f, const struct seen_inode *seen, uint64_t window,
                        const struct hf_xt *xt)
{
    struct seen_object *object;

    if (hf_xt_is_inline(xt)) {
        f->usage.inline_bytes += xt->len_bytes;
        return 0;
    }
    object = find_object(f, &xt->oid);
    if (!object || xt->pos_bytes + xt->len_bytes > object->row.len_bytes) {
        char text[HF_OID_STR_MAX];

        return wrong(f, "inode %" PRIu64 " window %" PRIu64 ": extent outside of object %s",
                     seen->inode.attr.ino.v, window, hf_oid_str(&xt->oid, text));
    }
    object->refs++;
    object->live_bytes += xt->len_bytes;
    return 0;
}

static int window_check(struct fsck *f, struct seen_inode *seen, uint64_t window,
                        const struct hf_extvec *vec)
{
    uint64_t covered, in_line;

    if (hf_window_is_stale(&seen->inode, window, vec->epoch)) {
        seen->stale = true;
    } else if (seen->inode.state != HF_INODE_PURGING &&
               window * HF_WINDOW_BYTES + hf_xt_end(&vec->v[vec->count - 1]) >
                   seen->inode.attr.size) {
        return wrong(f, "inode %" PRIu64 " window %" PRIu64 ": extent behind EOF",
                     seen->inode.attr.ino.v, window);
    }
    for (uint32_t i = 0; i < vec->count; i++) {
        if (extent_check(f, seen, window, &vec->v[i])) {
            return -EBADMSG;
        }
    }
    covered = hf_extvec_covered(vec, &in_line);
    seen->bytes += covered;
    f->usage.logical_bytes += covered;
    return 0;
}

static int row_window(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    uint64_t ino = hf_get_be64(key + 1), window = hf_get_be64(key + 9);
    struct seen_inode *seen = find_inode(f, ino);
    struct hf_extvec vec = {0};
    int err = hf_extvec_decode(&vec, value, len);

    (void)key_len;
    if (!err && seen && S_ISREG(seen->inode.attr.mode)) {
        err = window_check(f, seen, window, &vec);
    } else {
        err = wrong(f, "inode %" PRIu64 " window %" PRIu64 ": bad row", ino, window);
    }
    hf_extvec_fini(&vec);
    return err;
}

static int row_object(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    struct seen_object *seen;
    int err = grow((void **)&f->objects, &f->object_cap, f->object_count, sizeof(*f->objects));

    (void)key_len;
    if (err) {
        return err;
    }
    seen = &f->objects[f->object_count++];
    *seen = (struct seen_object){.oid = hf_oid_decode(key + 1)};
    if (hf_row_object_decode(value, len, &seen->row)) {
        return wrong(f, "object: bad row");
    }
    f->usage.objects++;
    f->usage.object_bytes += seen->row.len_bytes;
    return 0;
}

static int row_dead(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                    size_t len)
{
    struct hf_oid oid = hf_oid_decode(key + 1);
    char text[HF_OID_STR_MAX];

    (void)key_len;
    (void)value;
    if (len != HF_ROW_DEAD_BYTES || find_object(f, &oid)) {
        return wrong(f, "object %s is dead and alive", hf_oid_str(&oid, text));
    }
    f->usage.dead++;
    return 0;
}

static int row_degraded(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                        size_t len)
{
    const struct hf_node_id node = {hf_get_be16(key + 1)};
    struct hf_oid oid = hf_oid_decode(key + 3);
    struct seen_object *object = find_object(f, &oid);
    char text[HF_OID_STR_MAX];

    (void)key_len;
    (void)value;
    (void)len;
    if (!object || !hf_map_node(&f->meta->map, node)) {
        return wrong(f, "degraded: object %s or node %u is missing", hf_oid_str(&oid, text),
                     node.v);
    }
    object->lacking |= hf_node_bit(node);
    f->usage.degraded++;
    return 0;
}

static int row_of_session(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                          size_t len)
{
    (void)key_len;
    (void)value;
    (void)len;
    if (!hf_session_stream(f->meta, (struct hf_session_id){hf_get_be64(key + 1)})) {
        return wrong(f, "row %02x of session %" PRIu64 ", which is over", key[0],
                     hf_get_be64(key + 1));
    }
    f->usage.sessions += key[0] == HF_ROW_SESSION;
    f->orphan_rows -= key[0] == HF_ROW_SESSION_ORPHAN;
    return 0;
}

static int row_locks(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    const struct hf_ino ino = {hf_get_be64(key + 1)};
    struct hf_lockvec vec = {0};
    int err = hf_lockvec_decode(&vec, value, len);

    (void)key_len;
    if (err || !find_inode(f, ino.v)) {
        err = wrong(f, "locks of %" PRIu64 ": bad row", ino.v);
    }
    for (uint32_t i = 0; i < vec.count && !err; i++) {
        struct hf_key index;
        bool there;

        hf_key_u64_u64(&index, HF_ROW_SESSION_LOCKS, vec.v[i].session.v, ino.v);
        err = hf_txn_exists(f->meta, &index, &there);
        if (!err && !there) {
            err = wrong(f, "lock on %" PRIu64 " is not in its session's list", ino.v);
        }
    }
    hf_lockvec_fini(&vec);
    return err;
}

static int row_orphan(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    struct seen_inode *seen = find_inode(f, hf_get_be64(key + 1));
    const struct hf_session_id session = {hf_get_be64(key + 9)};

    (void)key_len;
    (void)value;
    (void)len;
    if (!seen || !hf_session_stream(f->meta, session)) {
        return wrong(f, "orphan %" PRIu64 ": inode or session is missing", hf_get_be64(key + 1));
    }
    seen->holders++;
    f->orphan_rows++;
    return 0;
}

static int row_purge(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    struct seen_inode *seen = find_inode(f, hf_get_be64(key + 1));

    (void)key_len;
    (void)value;
    (void)len;
    if (!seen) {
        return wrong(f, "purge queue: inode %" PRIu64 " is missing", hf_get_be64(key + 1));
    }
    seen->queued = true;
    f->usage.purging++;
    return 0;
}

/* No extent that is read covers any of a range. */
static int range_check(struct fsck *f, const struct seen_inode *seen,
                       const struct hf_alloc_range *range)
{
    uint64_t window = range->off_bytes / HF_WINDOW_BYTES;
    int err;

    while ((err = hf_window_next(f->meta, seen->inode.attr.ino, window,
                                 hf_windows(range->end_bytes), &window)) == 0) {
        struct hf_extvec *vec = &f->meta->vec;
        uint64_t base = window++ * HF_WINDOW_BYTES;

        err = hf_window_look(f->meta, &seen->inode, base / HF_WINDOW_BYTES, vec);
        if (err) {
            return err;
        }
        for (uint32_t i = 0; i < vec->count; i++) {
            if (base + vec->v[i].off_bytes < range->end_bytes &&
                base + hf_xt_end(&vec->v[i]) > range->off_bytes) {
                return wrong(f,
                             "inode %" PRIu64 ": [%" PRIu64 ", %" PRIu64 ") is reserved and has "
                             "extents",
                             seen->inode.attr.ino.v, range->off_bytes, range->end_bytes);
            }
        }
    }
    return err == -ENOENT ? 0 : err;
}

static int row_alloc(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    struct seen_inode *seen = find_inode(f, hf_get_be64(key + 1));
    struct hf_alloc alloc = {0};
    int err = hf_alloc_decode(&alloc, value, len);

    (void)key_len;
    if (!seen || !S_ISREG(seen->inode.attr.mode) || seen->inode.state == HF_INODE_PURGING) {
        err = wrong(f, "ranges of %" PRIu64 ": no such file", hf_get_be64(key + 1));
    } else if (err) {
        (void)wrong(f, "ranges of %" PRIu64 ": bad row", hf_get_be64(key + 1));
    } else {
        seen->reserved = true;
        seen->bytes += hf_alloc_bytes(&alloc);
        f->usage.reserved_bytes += hf_alloc_bytes(&alloc);
    }
    for (uint32_t i = 0; i < alloc.count && !err; i++) {
        err = range_check(f, seen, &alloc.v[i]);
    }
    hf_alloc_fini(&alloc);
    return err;
}

static int row_any(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                   size_t len)
{
    (void)f;
    (void)key;
    (void)key_len;
    (void)value;
    (void)len;
    return 0;
}

/* Objects and inodes first, before what refers to them. key_len 0: at least 10. */
static const struct walk {
    enum hf_row row;
    size_t key_len;
    int (*check)(struct fsck *f, const uint8_t *key, size_t key_len, const void *value, size_t len);
} walks[] = {
    {HF_ROW_FORMAT, 1, row_any},
    {HF_ROW_NODE, 3, row_any},
    {HF_ROW_GROUP, 3, row_any},
    {HF_ROW_INODE, 9, row_inode},
    {HF_ROW_OBJECT, 17, row_object},
    {HF_ROW_DIRENT, 17, row_dirent},
    {HF_ROW_SYMLINK, 9, row_symlink},
    {HF_ROW_XATTR, 0, row_xattr},
    {HF_ROW_WINDOW, 17, row_window},
    {HF_ROW_ALLOC, 9, row_alloc},
    {HF_ROW_DEAD, 17, row_dead},
    {HF_ROW_DEGRADED, 19, row_degraded},
    {HF_ROW_SEQS, 17, row_of_session},
    {HF_ROW_SESSION, 9, row_of_session},
    {HF_ROW_SESSION_UUID, 17, row_any},
    {HF_ROW_RESULT, 17, row_of_session},
    {HF_ROW_INOS, 17, row_of_session},
    {HF_ROW_LOCKS, 10, row_locks},
    {HF_ROW_SESSION_LOCKS, 17, row_of_session},
    {HF_ROW_ORPHAN, 17, row_orphan},
    {HF_ROW_SESSION_ORPHAN, 17, row_of_session},
    {HF_ROW_PURGE, 9, row_purge},
};

static int walk_rows(struct fsck *f, const struct walk *walk, uint64_t *ret_rows)
{
    struct hf_table_cursor cursor;
    struct hf_key prefix, at;
    int err;

    hf_key_tag(&prefix, walk->row);
    at = prefix;
    /* Checks may look rows up, so the position is sought anew each time. */
    while ((err = hf_txn_seek(f->meta, &at, prefix.len, &cursor)) == 0) {
        uint8_t key[HF_TABLE_KEY_MAX];
        size_t key_len = cursor.key_len;

        memcpy(key, cursor.key, key_len);
        if (walk->key_len ? key_len != walk->key_len : key_len < 10) {
            return wrong(f, "row %02x: bad key", key[0]);
        }
        hf_key_after(&at, cursor.key, cursor.key_len);
        ++*ret_rows;
        err = walk->check(f, key, key_len, cursor.value, cursor.value_len);
        if (err) {
            return err;
        }
    }
    return err == -ENOENT ? 0 : err;
}

/* What was gathered, compared */

static int check_names(struct fsck *f, const struct seen_inode *seen)
{
    const struct hf_inode *inode = &seen->inode;
    uint64_t names = inode->attr.ino.v == HF_INO_ROOT ? 1 : inode->state == HF_INODE_LIVE;
    uint64_t ino = inode->attr.ino.v;

    if (S_ISDIR(inode->attr.mode)) {
        if (seen->names + (ino == HF_INO_ROOT) != names ||
            (inode->state == HF_INODE_LIVE && inode->attr.nlink != 2 + seen->subdirs) ||
            inode->attr.size != seen->entries ||
            (seen->names && seen->named_in.v != inode->parent.v)) {
            return wrong(f, "directory %" PRIu64 ": links, entries or parent do not add up", ino);
        }
        return 0;
    }
    if (inode->attr.nlink != seen->names || (seen->names != 0) != (names != 0)) {
        return wrong(f, "inode %" PRIu64 ": %u links, %" PRIu64 " names", ino, inode->attr.nlink,
                     seen->names);
    }
    return 0;
}

static int check_inode(struct fsck *f, const struct seen_inode *seen)
{
    const struct hf_inode *inode = &seen->inode;
    uint64_t ino = inode->attr.ino.v;
    bool tail = inode->flags & HF_INODE_STALE_TAIL;

    if (check_names(f, seen)) {
        return -EBADMSG;
    }
    if ((seen->holders != 0) != (inode->state == HF_INODE_ORPHAN) ||
        seen->queued != (inode->state == HF_INODE_PURGING || tail) || (seen->stale && !tail) ||
        ((inode->flags & HF_INODE_LINKABLE) && inode->state != HF_INODE_ORPHAN)) {
        return wrong(f, "inode %" PRIu64 ": holders or purge queue do not match its state", ino);
    }
    if (inode->attr.bytes != seen->bytes) {
        return wrong(f, "inode %" PRIu64 ": %" PRIu64 " bytes counted, %" PRIu64 " found", ino,
                     inode->attr.bytes, seen->bytes);
    }
    if (inode->xattr_names_bytes != seen->xattr_names_bytes ||
        inode->xattr_bytes != seen->xattr_bytes ||
        seen->acl != ((inode->flags & HF_INODE_ACL) != 0) ||
        seen->default_acl != ((inode->flags & HF_INODE_DEFAULT_ACL) != 0)) {
        return wrong(f, "inode %" PRIu64 ": attributes do not add up", ino);
    }
    if (seen->reserved != ((inode->flags & HF_INODE_RESERVED) != 0)) {
        return wrong(f, "inode %" PRIu64 ": its flag says otherwise about reserved ranges", ino);
    }
    if (seen->symlink != S_ISLNK(inode->attr.mode)) {
        return wrong(f, "inode %" PRIu64 ": symlink without its target", ino);
    }
    return 0;
}

/* Every directory leads up to the root (or to a directory that was removed while held). */
static int check_reach(struct fsck *f, const struct seen_inode *seen)
{
    const struct seen_inode *at = seen;

    for (size_t depth = 0; depth <= f->inode_count; depth++) {
        if (at->inode.attr.ino.v == HF_INO_ROOT || at->inode.state != HF_INODE_LIVE) {
            return 0;
        }
        at = find_inode(f, at->named_in.v);
        if (!at) {
            break;
        }
    }
    return wrong(f, "inode %" PRIu64 " does not lead to the root", seen->inode.attr.ino.v);
}

static int check_objects(struct fsck *f)
{
    for (size_t i = 0; f->objects && i < f->object_count; i++) {
        const struct seen_object *seen = &f->objects[i];
        char text[HF_OID_STR_MAX];

        if (seen->refs == 0 || seen->refs != seen->row.refs ||
            seen->live_bytes != seen->row.live_bytes) {
            return wrong(f,
                         "object %s: %u references, %" PRIu64 " live bytes counted; %" PRIu64
                         ", %" PRIu64 " found",
                         hf_oid_str(&seen->oid, text), seen->row.refs, seen->row.live_bytes,
                         seen->refs, seen->live_bytes);
        }
        if (seen->lacking != seen->row.lacking ||
            (seen->lacking & ~hf_map_group_members(&f->meta->map, seen->oid.group))) {
            return wrong(f, "object %s: degraded rows do not match", hf_oid_str(&seen->oid, text));
        }
    }
    return 0;
}

static int check_usage(struct fsck *f)
{
    const struct hf_meta_usage *have = &f->meta->c.usage, *found = &f->usage;
    const struct {
        const char *name;
        uint64_t have, found;
    } pairs[] = {
        {"inodes", have->inodes, found->inodes},
        {"logical bytes", have->logical_bytes, found->logical_bytes},
        {"objects", have->objects, found->objects},
        {"object bytes", have->object_bytes, found->object_bytes},
        {"inline bytes", have->inline_bytes, found->inline_bytes},
        {"degraded", have->degraded, found->degraded},
        {"dead", have->dead, found->dead},
        {"orphans", have->orphans, found->orphans},
        {"purging", have->purging, found->purging},
        {"sessions", have->sessions, found->sessions},
        {"reserved bytes", have->reserved_bytes, found->reserved_bytes},
        {"session rows", f->meta->stream_count, found->sessions},
        {"orphan rows by session", 0, f->orphan_rows},
    };

    for (size_t i = 0; i < HF_ARRAY_LEN(pairs); i++) {
        if (pairs[i].have != pairs[i].found) {
            return wrong(f, "usage: %" PRIu64 " %s counted, %" PRIu64 " found", pairs[i].have,
                         pairs[i].name, pairs[i].found);
        }
    }
    return 0;
}

static int check_all(struct fsck *f)
{
    uint64_t rows = 0, all = 0;
    struct hf_table_cursor cursor;
    int err = 0;

    for (size_t i = 0; i < HF_ARRAY_LEN(walks) && !err; i++) {
        err = walk_rows(f, &walks[i], &rows);
    }
    if (err) {
        return err;
    }
    for (err = hf_table_seek(f->meta->table, NULL, 0, &cursor); !err;
         err = hf_table_next(&cursor)) {
        all++;
    }
    if (err != -ENOENT) {
        return err;
    }
    if (all != rows) {
        return wrong(f, "%" PRIu64 " rows of no known kind", all - rows);
    }
    for (size_t i = 0; i < f->inode_count; i++) {
        if (check_inode(f, &f->inodes[i]) || check_reach(f, &f->inodes[i])) {
            return -EBADMSG;
        }
    }
    return check_objects(f) || check_usage(f) ? -EBADMSG : 0;
}

int hf_meta_fsck(struct hf_meta *meta, char **ret_text)
{
    struct fsck f = {.meta = meta};
    int err = meta->failed;

    if (!err) {
        err = check_all(&f);
    }
    free(f.inodes);
    free(f.objects);
    if (ret_text) {
        *ret_text = f.text;
    } else {
        free(f.text);
    }
    return err;
}
