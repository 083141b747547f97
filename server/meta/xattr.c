/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/xattr.h"

#include <errno.h>
#include <sys/xattr.h>

#include "server/meta/acl.h"
#include "server/meta/inode.h"

static void xattr_key(struct hf_key *ret, struct hf_ino ino, const char *name, size_t name_len)
{
    hf_key_u64(ret, HF_ROW_XATTR, ino.v);
    hf_key_add_bytes(ret, name, name_len);
}

static int name_check(const char *name, size_t len)
{
    if (!name || !len || memchr(name, 0, len)) {
        return -EINVAL;
    }
    return len > HF_XATTR_NAME_MAX ? -ERANGE : 0;
}

/* The value of a row follows its version byte. */
int hf_xattr_get(struct hf_meta *meta, struct hf_ino ino, const char *name, size_t name_len,
                 const void **ret_value, size_t *ret_len)
{
    struct hf_key key;
    const void *value;
    size_t len;
    int err;

    xattr_key(&key, ino, name, name_len);
    err = hf_txn_get(meta, &key, &value, &len);
    if (err) {
        return err == -ENOENT ? -ENODATA : err;
    }
    if (len < 1 || *(const uint8_t *)value != HF_ROW_VERSION) {
        return hf_txn_fail(meta, -EBADMSG);
    }
    *ret_value = (const uint8_t *)value + 1;
    *ret_len = len - 1;
    return 0;
}

int hf_xattr_put(struct hf_meta *meta, struct hf_inode *inode, const char *name, size_t name_len,
                 const void *value, size_t len)
{
    uint32_t names = inode->xattr_names_bytes, bytes = inode->xattr_bytes;
    struct hf_key key;
    const void *old;
    size_t old_len;
    uint8_t *row;
    int err = hf_xattr_get(meta, inode->attr.ino, name, name_len, &old, &old_len);

    if (err == -ENODATA) {
        names += (uint32_t)name_len + 1;
    } else if (err) {
        return err;
    } else {
        bytes -= (uint32_t)old_len;
    }
    bytes += (uint32_t)len;
    if (names > HF_XATTR_LIST_MAX || bytes > HF_XATTR_INODE_BYTES_MAX) {
        return -ENOSPC;
    }
    err = hf_txn_scratch(meta, len + 1, &row);
    if (err) {
        return err;
    }
    row[0] = HF_ROW_VERSION;
    if (len) {
        memcpy(row + 1, value, len);
    }
    inode->xattr_names_bytes = names;
    inode->xattr_bytes = bytes;
    hf_inode_touch(meta, inode);
    xattr_key(&key, inode->attr.ino, name, name_len);
    return hf_txn_put(meta, &key, row, len + 1);
}

/* Errors: -ENODATA. */
static int xattr_remove(struct hf_meta *meta, struct hf_inode *inode, const char *name,
                        size_t name_len)
{
    struct hf_key key;
    const void *old;
    size_t old_len;
    int err = hf_xattr_get(meta, inode->attr.ino, name, name_len, &old, &old_len);

    if (err) {
        return err;
    }
    inode->xattr_names_bytes -= (uint32_t)name_len + 1;
    inode->xattr_bytes -= (uint32_t)old_len;
    hf_inode_touch(meta, inode);
    xattr_key(&key, inode->attr.ino, name, name_len);
    return hf_txn_del(meta, &key);
}

int hf_xattr_discard(struct hf_meta *meta, struct hf_inode *inode, const char *name,
                     size_t name_len)
{
    int err = inode->xattr_names_bytes ? xattr_remove(meta, inode, name, name_len) : 0;

    return err == -ENODATA ? 0 : err;
}

/* XATTR_CREATE and XATTR_REPLACE. */
static int flags_check(struct hf_meta *meta, const struct hf_meta_op *op)
{
    const void *old;
    size_t old_len;
    int err;

    if (op->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) {
        return -EINVAL;
    }
    if (!op->flags) {
        return 0;
    }
    err = hf_xattr_get(meta, op->ino, op->name, op->name_len, &old, &old_len);
    if (err && err != -ENODATA) {
        return err;
    }
    if (!err && (op->flags & XATTR_CREATE)) {
        return -EEXIST;
    }
    return err && (op->flags & XATTR_REPLACE) ? -ENODATA : 0;
}

int hf_meta_op_setxattr(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply)
{
    struct hf_inode *inode;
    int err = hf_inode_get_usable(meta, op->ino, &inode);

    if (!err) {
        err = name_check(op->name, op->name_len);
    }
    if (!err && op->bulk_len > HF_XATTR_VALUE_MAX) {
        err = -E2BIG;
    }
    if (!err) {
        err = flags_check(meta, op);
    }
    if (err) {
        return err;
    }
    if (hf_acl_is_name(op->name, op->name_len)) {
        err = hf_acl_set(meta, inode, op);
    } else {
        err = hf_xattr_put(meta, inode, op->name, op->name_len, op->bulk, op->bulk_len);
    }
    hf_inode_touch(meta, inode);
    reply->attr = inode->attr;
    return err;
}

int hf_meta_op_removexattr(struct hf_meta *meta, const struct hf_meta_op *op,
                           struct hf_meta_reply *reply)
{
    struct hf_inode *inode;
    int err = hf_inode_get_usable(meta, op->ino, &inode);

    if (!err) {
        err = name_check(op->name, op->name_len);
    }
    if (!err) { /* without an ACL of its own it has the one that its mode says: removed as well */
        err = hf_acl_is_name(op->name, op->name_len)
                  ? hf_xattr_discard(meta, inode, op->name, op->name_len)
                  : xattr_remove(meta, inode, op->name, op->name_len);
    }
    if (err) {
        return err;
    }
    hf_acl_removed(inode, op->name, op->name_len);
    reply->attr = inode->attr;
    return 0;
}

void hf_meta_rd_getxattr(struct hf_meta *meta, const struct hf_meta_read *rd,
                         struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    const void *value;
    struct hf_inode inode;
    size_t len;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (!reply->err) {
        reply->attr = inode.attr;
        reply->err = name_check(rd->name, rd->name_len);
    }
    if (!reply->err) {
        reply->err = hf_xattr_get(meta, rd->ino, rd->name, rd->name_len, &value, &len);
    }
    if (reply->err) {
        return;
    }
    if (len > buf_bytes) {
        reply->err = -ERANGE;
        return;
    }
    if (len) {
        memcpy(buf, value, len);
    }
    reply->bulk = buf;
    reply->bulk_len = len;
}

void hf_meta_rd_listxattr(struct hf_meta *meta, const struct hf_meta_read *rd,
                          struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes)
{
    struct hf_table_cursor cursor;
    struct hf_writer w = hf_writer_init(buf, buf_bytes);
    struct hf_inode inode;
    struct hf_key key;
    int err;

    reply->err = hf_inode_look(meta, rd->ino, &inode);
    if (reply->err) {
        return;
    }
    reply->attr = inode.attr;
    reply->bulk = buf;
    if (!inode.xattr_names_bytes) {
        return;
    }
    hf_key_u64(&key, HF_ROW_XATTR, rd->ino.v);
    for (err = hf_txn_seek(meta, &key, key.len, &cursor); !err;
         err = hf_txn_next(meta, &key, key.len, &cursor)) {
        hf_write_bytes(&w, (const uint8_t *)cursor.key + key.len, cursor.key_len - key.len);
        hf_write_u8(&w, 0);
    }
    if (err != -ENOENT || w.bad) {
        reply->err = w.bad ? -ERANGE : err;
        return;
    }
    reply->bulk_len = (size_t)(w.at - buf);
}
