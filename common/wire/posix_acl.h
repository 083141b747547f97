/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix_acl.h - a POSIX ACL in Linux's xattr format: bytes that are checked once and then read and
 * edited in place.
 *
 * Source: POSIX 1003.1e draft 17, as fs/posix_acl.c of Linux has it.
 */
#ifndef HF_WIRE_POSIX_ACL_H
#define HF_WIRE_POSIX_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"

#define HF_POSIX_ACL_ACCESS  "system.posix_acl_access"
#define HF_POSIX_ACL_DEFAULT "system.posix_acl_default"

struct hf_posix_acl {
    uint32_t count; /* of entries; the other functions take none but an ACL with some */
    uint8_t b[HF_XATTR_VALUE_MAX];
};

/** An empty value, or a head alone, is an empty ACL. Errors: -EINVAL. */
int hf_posix_acl_parse(const void *value, size_t len, struct hf_posix_acl *ret);
/** Of b that count. */
size_t hf_posix_acl_bytes(const struct hf_posix_acl *acl);
/** More than what a mode says? */
bool hf_posix_acl_extended(const struct hf_posix_acl *acl);
/** The mode's nine bits: its group bits are the mask where there is one. */
uint32_t hf_posix_acl_mode(struct hf_posix_acl *acl);
void hf_posix_acl_set_mode(struct hf_posix_acl *acl, uint32_t perm);
/**
 * Does it give all of @want (bits of rwx) to somebody who does not own the file?
 *
 * @file_gid  the file's group
 * @uid,@gid  who asks; of no other groups
 */
bool hf_posix_acl_allows(struct hf_posix_acl *acl, uint32_t file_gid, uint32_t uid, uint32_t gid,
                         uint32_t want);

#endif
