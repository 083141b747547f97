/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/posix_acl.h"

#include <assert.h>
#include <errno.h>

#include "common/base/bytes.h"

/* linux/posix_acl_xattr.h: version u32, then entries of tag u16, perm u16, id u32. */
#define ACL_VERSION     2u
#define ACL_HEAD_BYTES  4u
#define ACL_ENTRY_BYTES 8u
#define ACL_ENTRIES_MAX 8191u

enum {
    TAG_USER_OBJ = 0x01,
    TAG_USER = 0x02,
    TAG_GROUP_OBJ = 0x04,
    TAG_GROUP = 0x08,
    TAG_MASK = 0x10,
    TAG_OTHER = 0x20,
};

static_assert(ACL_HEAD_BYTES + ACL_ENTRIES_MAX * ACL_ENTRY_BYTES <= HF_XATTR_VALUE_MAX,
              "any ACL fits an attribute");

static uint8_t *entry_at(struct hf_posix_acl *acl, uint32_t i)
{
    return acl->b + ACL_HEAD_BYTES + (size_t)i * ACL_ENTRY_BYTES;
}

static uint32_t entry_tag(struct hf_posix_acl *acl, uint32_t i)
{
    return hf_get_le16(entry_at(acl, i));
}

static uint32_t entry_perm(struct hf_posix_acl *acl, uint32_t i)
{
    return hf_get_le16(entry_at(acl, i) + 2);
}

static uint32_t entry_id(struct hf_posix_acl *acl, uint32_t i)
{
    return hf_get_le32(entry_at(acl, i) + 4);
}

static void entry_set_perm(struct hf_posix_acl *acl, uint32_t i, uint32_t perm)
{
    hf_put_le16(entry_at(acl, i) + 2, (uint16_t)perm);
}

size_t hf_posix_acl_bytes(const struct hf_posix_acl *acl)
{
    return ACL_HEAD_BYTES + (size_t)acl->count * ACL_ENTRY_BYTES;
}

/* Index of the only entry with @tag, or UINT32_MAX. */
static uint32_t acl_find(struct hf_posix_acl *acl, uint32_t tag)
{
    for (uint32_t i = 0; i < acl->count; i++) {
        if (entry_tag(acl, i) == tag) {
            return i;
        }
    }
    return UINT32_MAX;
}

bool hf_posix_acl_extended(const struct hf_posix_acl *acl)
{
    return acl->count > 3;
}

/* Tags ascend as they must, each of the three of a mode once, a mask where names are. */
static bool acl_valid(struct hf_posix_acl *acl)
{
    uint32_t last = 0, counts[TAG_OTHER + 1] = {0};

    for (uint32_t i = 0; i < acl->count; i++) {
        uint32_t tag = entry_tag(acl, i);

        if (tag == 0 || tag > TAG_OTHER || (tag & (tag - 1)) || tag < last ||
            entry_perm(acl, i) > 7 || (tag == last && tag != TAG_USER && tag != TAG_GROUP)) {
            return false;
        }
        counts[tag]++;
        last = tag;
    }
    return counts[TAG_USER_OBJ] == 1 && counts[TAG_GROUP_OBJ] == 1 && counts[TAG_OTHER] == 1 &&
           (counts[TAG_MASK] == 1 || (!counts[TAG_USER] && !counts[TAG_GROUP]));
}

int hf_posix_acl_parse(const void *value, size_t len, struct hf_posix_acl *ret)
{
    ret->count = 0;
    if (len == 0) {
        return 0;
    }
    if (len > sizeof(ret->b) || len < ACL_HEAD_BYTES || (len - ACL_HEAD_BYTES) % ACL_ENTRY_BYTES ||
        hf_get_le32(value) != ACL_VERSION) {
        return -EINVAL;
    }
    memcpy(ret->b, value, len);
    ret->count = (uint32_t)((len - ACL_HEAD_BYTES) / ACL_ENTRY_BYTES);
    return ret->count == 0 || acl_valid(ret) ? 0 : -EINVAL;
}

/* The entry that the mode's group bits stand for. */
static uint32_t acl_class(struct hf_posix_acl *acl)
{
    uint32_t mask = acl_find(acl, TAG_MASK);

    return mask != UINT32_MAX ? mask : acl_find(acl, TAG_GROUP_OBJ);
}

uint32_t hf_posix_acl_mode(struct hf_posix_acl *acl)
{
    return entry_perm(acl, acl_find(acl, TAG_USER_OBJ)) << 6 |
           entry_perm(acl, acl_class(acl)) << 3 | entry_perm(acl, acl_find(acl, TAG_OTHER));
}

void hf_posix_acl_set_mode(struct hf_posix_acl *acl, uint32_t perm)
{
    entry_set_perm(acl, acl_find(acl, TAG_USER_OBJ), perm >> 6 & 7);
    entry_set_perm(acl, acl_class(acl), perm >> 3 & 7);
    entry_set_perm(acl, acl_find(acl, TAG_OTHER), perm & 7);
}

bool hf_posix_acl_allows(struct hf_posix_acl *acl, uint32_t file_gid, uint32_t uid, uint32_t gid,
                         uint32_t want)
{
    uint32_t mask = acl_find(acl, TAG_MASK), rest = mask != UINT32_MAX ? entry_perm(acl, mask) : 7;
    bool member = false;

    for (uint32_t i = 0; i < acl->count; i++) {
        uint32_t tag = entry_tag(acl, i), perm = entry_perm(acl, i);

        if (tag == TAG_USER && entry_id(acl, i) == uid) {
            return (perm & rest & want) == want;
        }
        if ((tag == TAG_GROUP_OBJ && file_gid == gid) ||
            (tag == TAG_GROUP && entry_id(acl, i) == gid)) {
            member = true; /* one entry of a group has to give all of it */
            if ((perm & want) == want) {
                return (perm & rest & want) == want;
            }
        }
        if (tag == TAG_OTHER) {
            return !member && (perm & want) == want;
        }
    }
    return false;
}
