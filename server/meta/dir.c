/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/dir.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"
#include "server/meta/inode.h"

#define SLOTS_MAX      256u
#define PATH_DEPTH_MAX 4096u

int hf_dir_name_check(const char *name, size_t name_len)
{
    if (!name || name_len == 0) {
        return -EINVAL;
    }
    if (name_len > HF_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (memchr(name, '/', name_len) || memchr(name, 0, name_len) ||
        (name[0] == '.' && (name_len == 1 || (name_len == 2 && name[1] == '.')))) {
        return -EINVAL;
    }
    return 0;
}

uint64_t hf_dir_hash(const struct hf_meta *meta, const char *name, size_t name_len)
{
    uint64_t hash = (hf_hash64(name, name_len, meta->format.seed) >> 9) & meta->name_hash_mask;

    return (hash ? hash : 1) << 8;
}

/* One slot's row. @ret->name: borrowed until the table's next call. Errors: -ENOENT. */
static int slot_load(struct hf_meta *meta, struct hf_ino dir, uint64_t cookie,
                     struct hf_row_dirent *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_key_u64_u64(&key, HF_ROW_DIRENT, dir.v, cookie);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err;
    }
    err = hf_row_dirent_decode(value, len, ret);
    return err ? hf_txn_fail(meta, err) : 0;
}

static int slot_store(struct hf_meta *meta, struct hf_ino dir, uint64_t cookie,
                      const struct hf_row_dirent *entry)
{
    uint8_t value[HF_ROW_DIRENT_HEAD + HF_NAME_MAX];
    size_t len = hf_row_dirent_encode(entry, value);
    struct hf_key key;

    hf_key_u64_u64(&key, HF_ROW_DIRENT, dir.v, cookie);
    return hf_txn_put(meta, &key, value, len);
}

/*
 * Look through the slots of a name. @ret_free: the first that is not taken (SLOTS_MAX: none),
 * @ret_slots: how many may be taken. Errors: -ENOENT  the name is not there.
 */
static int slots_find(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                      struct hf_dir_entry *ret, uint32_t *ret_free, uint32_t *ret_slots)
{
    uint64_t hash = hf_dir_hash(meta, name, name_len);
    uint32_t slots = 1;

    *ret_free = SLOTS_MAX;
    *ret_slots = 0;
    for (uint32_t i = 0; i < slots; i++) {
        struct hf_row_dirent row;
        int err = slot_load(meta, dir, hash | i, &row);

        if (err && err != -ENOENT) {
            return err;
        }
        if (!err && i == 0) {
            slots = *ret_slots = row.slots;
        }
        if (err || !row.ino.v) {
            *ret_free = *ret_free < i ? *ret_free : i;
        } else if (row.name_len == name_len && memcmp(row.name, name, name_len) == 0) {
            *ret = (struct hf_dir_entry){.cookie = hash | i, .ino = row.ino, .type = row.type};
            return 0;
        }
    }
    if (*ret_free == SLOTS_MAX && slots < SLOTS_MAX) {
        *ret_free = slots;
    }
    return -ENOENT;
}

int hf_dir_find(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                struct hf_dir_entry *ret)
{
    uint32_t free, slots;

    return slots_find(meta, dir, name, name_len, ret, &free, &slots);
}

/* Set how many slots slot 0 tells to look at; it exists. */
static int slots_set(struct hf_meta *meta, struct hf_ino dir, uint64_t hash, uint32_t slots)
{
    char name[HF_NAME_MAX];
    struct hf_row_dirent row;
    int err = slot_load(meta, dir, hash, &row);

    if (err) {
        return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
    }
    memcpy(name, row.name, row.name_len);
    row.name = name;
    row.slots = slots;
    return slot_store(meta, dir, hash, &row);
}

int hf_dir_insert(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                  struct hf_ino ino, uint32_t type)
{
    uint64_t hash = hf_dir_hash(meta, name, name_len);
    struct hf_row_dirent row = {.ino = ino, .type = type, .name = name, .name_len = name_len};
    struct hf_dir_entry found;
    uint32_t slot, slots;
    int err = slots_find(meta, dir, name, name_len, &found, &slot, &slots);

    HF_ASSERT(err);
    if (err != -ENOENT) {
        return err;
    }
    if (slot == SLOTS_MAX) {
        return -ENOSPC;
    }
    if (slot == 0) {
        row.slots = slots ? slots : 1;
    } else if (slot >= slots) {
        err = slots_set(meta, dir, hash, slot + 1);
        if (err) {
            return err;
        }
    }
    return slot_store(meta, dir, hash | slot, &row);
}

int hf_dir_replace(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                   const struct hf_dir_entry *entry, struct hf_ino ino, uint32_t type)
{
    struct hf_row_dirent row;
    int err = slot_load(meta, dir, entry->cookie, &row);

    if (err) {
        return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
    }
    row.ino = ino;
    row.type = type;
    row.name = name;
    row.name_len = name_len;
    return slot_store(meta, dir, entry->cookie, &row);
}

int hf_dir_remove(struct hf_meta *meta, struct hf_ino dir, const struct hf_dir_entry *entry)
{
    uint64_t hash = entry->cookie & ~UINT64_C(255);
    uint32_t slot = (uint32_t)(entry->cookie & 255), slots, top;
    struct hf_row_dirent row;
    struct hf_key key;
    bool there;
    int err = slot_load(meta, dir, hash, &row);

    if (err) {
        return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
    }
    slots = row.slots;
    if (slot == 0 && slots > 1) {
        row = (struct hf_row_dirent){.slots = slots};
        return slot_store(meta, dir, hash, &row);
    }
    hf_key_u64_u64(&key, HF_ROW_DIRENT, dir.v, entry->cookie);
    err = hf_txn_del(meta, &key);
    if (err || slot + 1 < slots || slot == 0) {
        return err;
    }
    /* The last slot went: look at no more than are taken. */
    for (top = slot; top > 1; top--) {
        hf_key_u64_u64(&key, HF_ROW_DIRENT, dir.v, hash | (top - 1));
        err = hf_txn_exists(meta, &key, &there);
        if (err || there) {
            break;
        }
    }
    if (err) {
        return err;
    }
    if (top == 1 && !row.ino.v) {
        hf_key_u64_u64(&key, HF_ROW_DIRENT, dir.v, hash);
        return hf_txn_del(meta, &key);
    }
    return slots_set(meta, dir, hash, top);
}

/* Looks */

void hf_meta_rd_lookup(struct hf_meta *meta, const struct hf_meta_read *rd,
                       struct hf_meta_reply *reply)
{
    struct hf_inode dir, inode;
    struct hf_dir_entry entry;

    bool self = rd->name_len == 1 && rd->name[0] == '.'; /* a file handle's, of any inode */

    reply->err = hf_inode_look(meta, rd->ino, &dir);
    if (!reply->err && !S_ISDIR(dir.attr.mode)) {
        reply->err = !self ? -ENOTDIR : dir.attr.nlink == 0 ? -ENOENT : 0;
    }
    if (reply->err) {
        return;
    }
    reply->attr2 = dir.attr;
    if (self) {
        entry.ino = rd->ino;
    } else if (rd->name_len == 2 && memcmp(rd->name, "..", 2) == 0) {
        entry.ino = dir.parent;
    } else {
        reply->err = hf_dir_name_check(rd->name, rd->name_len);
        if (!reply->err) {
            reply->err = hf_dir_find(meta, rd->ino, rd->name, rd->name_len, &entry);
        }
    }
    if (!reply->err) {
        reply->err = hf_inode_look(meta, entry.ino, &inode);
    }
    if (!reply->err) {
        reply->attr = inode.attr;
    }
}

/* One row as an entry of the answer. Errors: -ERANGE  no room left. */
static int readdir_row(struct hf_meta *meta, const struct hf_meta_read *rd,
                       const struct hf_table_cursor *cursor, struct hf_writer *w,
                       uint64_t *ret_cookie)
{
    struct hf_row_dirent row;
    struct hf_dirent entry;
    struct hf_inode inode;
    char name[HF_NAME_MAX];
    int err = hf_row_dirent_decode(cursor->value, cursor->value_len, &row);

    if (err || cursor->key_len != 17) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    *ret_cookie = hf_get_be64((const uint8_t *)cursor->key + 9);
    if (!row.ino.v) {
        return 0;
    }
    memcpy(name, row.name, row.name_len);
    entry = (struct hf_dirent){
        .cookie = *ret_cookie,
        .ino = row.ino,
        .type = row.type,
        .name = name,
        .name_len = row.name_len,
    };
    if (rd->flags & HF_READDIR_PLUS) {
        err = hf_inode_load(meta, row.ino, &inode);
        if (err) {
            return hf_txn_fail(meta, err == -ENOENT ? -EBADMSG : err);
        }
        entry.has_attr = true;
        entry.attr = inode.attr;
    }
    hf_dirent_encode(w, &entry);
    return w->bad ? -ERANGE : 0;
}

void hf_meta_rd_readdir(struct hf_meta *meta, const struct hf_meta_read *rd,
                        struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    size_t max = rd->max && rd->max < buf_bytes ? rd->max : buf_bytes;
    struct hf_writer w = hf_writer_init(buf, max);
    struct hf_table_cursor cursor;
    struct hf_inode dir;
    struct hf_key key;
    uint64_t cookie = 0;
    int err;

    reply->err = hf_inode_look(meta, rd->ino, &dir);
    if (!reply->err && !S_ISDIR(dir.attr.mode)) {
        reply->err = -ENOTDIR;
    }
    if (reply->err) {
        return;
    }
    reply->attr = dir.attr;
    reply->first_ino = dir.parent;
    reply->next_cookie = rd->cookie;
    if (rd->cookie >= INT64_MAX) {
        reply->eof = true;
        return;
    }
    hf_key_u64_u64(&key, HF_ROW_DIRENT, rd->ino.v, rd->cookie + 1);
    for (err = hf_txn_seek(meta, &key, 9, &cursor); !err;
         err = hf_txn_next(meta, &key, 9, &cursor)) {
        err = readdir_row(meta, rd, &cursor, &w, &cookie);
        if (err) {
            break;
        }
        reply->next_cookie = cookie;
    }
    reply->eof = err == -ENOENT;
    if (err == -ERANGE && w.at == buf) {
        reply->err = -EINVAL; /* not even one fits */
    } else if (err != -ENOENT && err != -ERANGE) {
        reply->err = err;
    }
    reply->bulk = buf;
    reply->bulk_len = (size_t)(w.at - buf);
}

/* The name of @ino in @dir, by going through the directory. Errors: -ENOENT. */
static int name_of(struct hf_meta *meta, struct hf_ino dir, struct hf_ino ino, char *ret,
                   size_t *ret_len)
{
    struct hf_table_cursor cursor;
    struct hf_key key;
    int err;

    hf_key_u64(&key, HF_ROW_DIRENT, dir.v);
    for (err = hf_txn_seek(meta, &key, 9, &cursor); !err;
         err = hf_txn_next(meta, &key, 9, &cursor)) {
        struct hf_row_dirent row;

        err = hf_row_dirent_decode(cursor.value, cursor.value_len, &row);
        if (err) {
            return hf_txn_fail(meta, err);
        }
        if (row.ino.v == ino.v) {
            memcpy(ret, row.name, row.name_len);
            *ret_len = row.name_len;
            return 0;
        }
    }
    return err;
}

void hf_meta_rd_path(struct hf_meta *meta, const struct hf_meta_read *rd,
                     struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    size_t at = buf_bytes; /* the path is built from its end */
    struct hf_ino ino = rd->ino;

    for (uint32_t depth = 0; ino.v != HF_INO_ROOT; depth++) {
        struct hf_inode inode;
        char name[HF_NAME_MAX];
        size_t len = 0;

        reply->err = depth < PATH_DEPTH_MAX ? hf_inode_look(meta, ino, &inode) : -ELOOP;
        if (!reply->err) {
            reply->err = name_of(meta, inode.parent, ino, name, &len);
        }
        if (!reply->err && at < len + 1) {
            reply->err = -ERANGE;
        }
        if (reply->err) {
            return;
        }
        at -= len;
        memcpy(buf + at, name, len);
        buf[--at] = '/';
        ino = inode.parent;
    }
    if (at == buf_bytes && buf_bytes) {
        buf[--at] = '/';
    }
    reply->bulk = buf + at;
    reply->bulk_len = buf_bytes - at;
}
