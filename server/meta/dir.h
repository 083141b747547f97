/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir.h - directory entries: rows keyed (directory, cookie).
 *
 *   cookie = keyed hash of the name (55 bits) << 8 | slot      a positive int64, at least 256
 *
 * A name lies in one of the 256 slots of its hash and never moves, so READDIR may go on from any
 * cookie whatever changed. Slot 0 says how many slots to look at; when its own entry goes while
 * later ones are taken it stays as a vacant row. So a look-up is one get, whatever is missing.
 */
#ifndef HF_META_DIR_H
#define HF_META_DIR_H

#include "server/meta/txn.h"

struct hf_dir_entry {
    uint64_t cookie;
    struct hf_ino ino;
    uint32_t type; /* S_IFMT bits */
};

/** A name an entry can have? Errors: -EINVAL ("", ".", "..", '/', NUL), -ENAMETOOLONG. */
int hf_dir_name_check(const char *name, size_t name_len);
/** 55 bits, not 0, shifted by 8: the cookie of slot 0. */
uint64_t hf_dir_hash(const struct hf_meta *meta, const char *name, size_t name_len);

/** Errors: -ENOENT. */
int hf_dir_find(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                struct hf_dir_entry *ret);
/** The name is not there. Errors: -ENOSPC  256 names with one hash. */
int hf_dir_insert(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                  struct hf_ino ino, uint32_t type);
/** The entry, just found, names something else from now on. */
int hf_dir_replace(struct hf_meta *meta, struct hf_ino dir, const char *name, size_t name_len,
                   const struct hf_dir_entry *entry, struct hf_ino ino, uint32_t type);
int hf_dir_remove(struct hf_meta *meta, struct hf_ino dir, const struct hf_dir_entry *entry);

void hf_meta_rd_lookup(struct hf_meta *meta, const struct hf_meta_read *rd,
                       struct hf_meta_reply *reply);
void hf_meta_rd_readdir(struct hf_meta *meta, const struct hf_meta_read *rd,
                        struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);
/** A path from the root, for people. */
void hf_meta_rd_path(struct hf_meta *meta, const struct hf_meta_read *rd,
                     struct hf_meta_reply *reply, uint8_t *buf, size_t buf_bytes);

#endif
