/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"
#include "server/meta/acl.h"
#include "server/meta/alloc.h"
#include "server/meta/window.h"
#include "server/meta/xattr.h"

/* Rows */

int hf_inode_load(struct hf_meta *meta, struct hf_ino ino, struct hf_inode *ret)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    hf_key_u64(&key, HF_ROW_INODE, ino.v);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err;
    }
    *ret = (struct hf_inode){.attr.ino = ino};
    err = hf_row_inode_decode(value, len, ret);
    return err ? hf_txn_fail(meta, err) : 0;
}

int hf_inode_look(struct hf_meta *meta, struct hf_ino ino, struct hf_inode *ret)
{
    int err = hf_inode_load(meta, ino, ret);

    if (!err && (ret->flags & HF_INODE_STALE_TAIL) && ret->attr.bytes > ret->attr.size) {
        ret->attr.bytes = ret->attr.size; /* what was cut off goes in the background */
    }
    return !err && ret->state == HF_INODE_PURGING ? -ENOENT : err;
}

/* The operation's inodes, found by number */

static bool slot_same(const struct hf_meta *meta, uint32_t index, const void *key)
{
    return meta->slots[index]->inode.attr.ino.v == ((const struct hf_ino *)key)->v;
}

static uint64_t ino_hash(struct hf_ino ino)
{
    return ino.v * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}

static uint64_t slot_hash(const struct hf_meta *meta, uint32_t index)
{
    return ino_hash(meta->slots[index]->inode.attr.ino);
}

/* A fresh slot for @ino. Errors: -ENOMEM. */
static int slot_add(struct hf_meta *meta, struct hf_ino ino, struct hf_inode_slot **ret)
{
    struct hf_inode_slot *slot;

    if (meta->slot_count == meta->slot_cap) {
        uint32_t cap = meta->slot_cap ? meta->slot_cap * 2 : 16;
        struct hf_inode_slot **slots = realloc(meta->slots, cap * sizeof(struct hf_inode_slot *));

        if (!slots) {
            return hf_txn_fail(meta, -ENOMEM);
        }
        meta->slots = slots;
        while (meta->slot_cap < cap) {
            slots[meta->slot_cap] = malloc(sizeof(struct hf_inode_slot));
            if (!slots[meta->slot_cap]) {
                return hf_txn_fail(meta, -ENOMEM);
            }
            meta->slot_cap++;
        }
    }
    slot = meta->slots[meta->slot_count];
    *slot = (struct hf_inode_slot){.inode.attr.ino = ino};
    if (hf_opindex_add(meta, &meta->slot_index, ino_hash(ino), meta->slot_count, slot_hash)) {
        return hf_txn_fail(meta, -ENOMEM);
    }
    meta->slot_count++;
    *ret = slot;
    return 0;
}

static struct hf_inode_slot *slot_of(struct hf_inode *inode)
{
    return hf_container_of(inode, struct hf_inode_slot, inode);
}

int hf_inode_get(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret)
{
    uint32_t at = hf_opindex_find(meta, &meta->slot_index, ino_hash(ino), slot_same, &ino);
    struct hf_inode_slot *slot;
    struct hf_inode inode;
    int err;

    if (at != UINT32_MAX) {
        *ret = &meta->slots[at]->inode;
        return meta->slots[at]->gone ? -ENOENT : 0;
    }
    err = hf_inode_load(meta, ino, &inode);
    if (!err) {
        err = slot_add(meta, ino, &slot);
    }
    if (err) {
        return err;
    }
    slot->inode = inode;
    *ret = &slot->inode;
    return 0;
}

int hf_inode_get_usable(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret)
{
    int err = hf_inode_get(meta, ino, ret);

    return !err && (*ret)->state == HF_INODE_PURGING ? -ENOENT : err;
}

int hf_inode_get_dir(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret)
{
    int err = hf_inode_get(meta, ino, ret);

    if (err) {
        return err;
    }
    if (!S_ISDIR((*ret)->attr.mode)) {
        return -ENOTDIR;
    }
    return (*ret)->state == HF_INODE_LIVE ? 0 : -ENOENT;
}

int hf_inode_add(struct hf_meta *meta, struct hf_ino ino, struct hf_inode **ret)
{
    struct hf_inode_slot *slot;
    int err = slot_add(meta, ino, &slot);

    if (err) {
        return err;
    }
    slot->dirty = true;
    slot->touched = true;
    *ret = &slot->inode;
    (*ret)->attr.version = 1;
    (*ret)->attr.data_version = 1;
    (*ret)->attr.generation = meta->entry->index;
    (*ret)->attr.atime_ns = meta->now_ns;
    (*ret)->attr.mtime_ns = meta->now_ns;
    (*ret)->attr.ctime_ns = meta->now_ns;
    (*ret)->attr.btime_ns = meta->now_ns;
    meta->c.usage.inodes++;
    return 0;
}

void hf_inode_dirty(struct hf_inode *inode)
{
    slot_of(inode)->dirty = true;
}

uint64_t hf_inode_next_ctime(const struct hf_meta *meta, uint64_t was_ns)
{
    return meta->now_ns > was_ns || was_ns == UINT64_MAX ? meta->now_ns : was_ns + 1;
}

void hf_inode_touch(struct hf_meta *meta, struct hf_inode *inode)
{
    struct hf_inode_slot *slot = slot_of(inode);

    slot->dirty = true;
    if (!slot->touched) {
        slot->touched = true;
        inode->attr.version++;
        inode->attr.ctime_ns = hf_inode_next_ctime(meta, inode->attr.ctime_ns);
    }
}

void hf_inode_touch_data(struct hf_meta *meta, struct hf_inode *inode)
{
    hf_inode_touch(meta, inode);
    inode->attr.data_version = inode->attr.version;
    inode->attr.mtime_ns = meta->now_ns;
}

void hf_inode_remove(struct hf_meta *meta, struct hf_inode *inode)
{
    (void)meta;
    slot_of(inode)->gone = true;
}

int hf_inode_flush(struct hf_meta *meta)
{
    for (uint32_t i = 0; i < meta->slot_count; i++) {
        const struct hf_inode_slot *slot = meta->slots[i];
        uint8_t value[HF_ROW_INODE_BYTES];
        struct hf_key key;
        int err = 0;

        hf_key_u64(&key, HF_ROW_INODE, slot->inode.attr.ino.v);
        if (slot->gone) {
            err = hf_txn_del(meta, &key);
        } else if (slot->dirty) {
            hf_row_inode_encode(&slot->inode, value);
            err = hf_txn_put(meta, &key, value, sizeof(value));
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

/* Attributes */

int hf_inode_drop_caps(struct hf_meta *meta, struct hf_inode *inode)
{
    return hf_xattr_discard(meta, inode, HF_XATTR_CAPS, sizeof(HF_XATTR_CAPS) - 1);
}

int hf_inode_kill_priv(struct hf_meta *meta, struct hf_inode *inode)
{
    uint32_t mode = inode->attr.mode;

    if (S_ISDIR(mode)) {
        return 0;
    }
    inode->attr.mode &= ~(uint32_t)S_ISUID;
    if (mode & S_IXGRP) {
        inode->attr.mode &= ~(uint32_t)S_ISGID;
    }
    if (inode->attr.mode != mode) {
        hf_inode_touch(meta, inode);
    }
    return hf_inode_drop_caps(meta, inode);
}

static int set_size(struct hf_meta *meta, struct hf_inode *inode, uint64_t size, bool bounded)
{
    int err = 0;

    if (S_ISDIR(inode->attr.mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(inode->attr.mode)) {
        return -EINVAL;
    }
    if (size > HF_FILE_BYTES_MAX) {
        return -EFBIG;
    }
    if (size < inode->attr.size) {
        err = hf_window_truncate(meta, inode, size, bounded);
    }
    if (!err && size <= inode->attr.size) { /* what is reserved behind EOF goes, too */
        err = hf_alloc_release(meta, inode, size, UINT64_MAX);
    }
    if (!err) {
        inode->attr.size = size;
        hf_inode_touch_data(meta, inode);
    }
    return err;
}

int hf_meta_op_setattr(struct hf_meta *meta, const struct hf_meta_op *op,
                       struct hf_meta_reply *reply)
{
    struct hf_inode *inode;
    int err = hf_inode_get_usable(meta, op->ino, &inode);

    if (err) {
        return err;
    }
    if ((op->mask & HF_SET_KILLPRIV) || (op->mask & (HF_SET_UID | HF_SET_GID))) {
        err = hf_inode_kill_priv(meta, inode);
    }
    if (!err && (op->mask & HF_SET_MODE)) {
        err = hf_acl_chmod(meta, inode, op->mode & 07777);
    }
    if (!err && (op->mask & HF_SET_SIZE)) {
        err = set_size(meta, inode, op->size, op->flags & HF_TRUNCATE_BOUNDED);
    }
    if (err) {
        return err;
    }
    if (op->mask) {
        hf_inode_touch(meta, inode);
    }
    if (op->mask & HF_SET_UID) {
        inode->attr.uid = op->uid;
    }
    if (op->mask & HF_SET_GID) {
        inode->attr.gid = op->gid;
    }
    if (op->mask & HF_SET_ATIME) {
        inode->attr.atime_ns = op->atime_ns;
    }
    if (op->mask & HF_SET_MTIME) {
        inode->attr.mtime_ns = op->mtime_ns;
    }
    if (op->mask & HF_SET_CTIME) {
        inode->attr.ctime_ns = op->ctime_ns;
    }
    reply->attr = inode->attr;
    return 0;
}
