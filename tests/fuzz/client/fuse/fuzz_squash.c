/* SPDX-License-Identifier: Apache-2.0 */
/* A request of root as the kernel might send it: what is read of it lies within its bytes. */
#include <stdlib.h>
#include <string.h>

#include <linux/fuse.h>

#include "client/fuse/squash.h"
#include "common/base/assert.h"
#include "tests/fuzz/fuzz.h"

size_t hf_fuzz_seed(size_t index, uint8_t *ret, size_t cap)
{
    static const uint32_t opcodes[] = {
        FUSE_LOOKUP, FUSE_MKNOD,   FUSE_MKDIR,   FUSE_CREATE,   FUSE_LINK,       FUSE_UNLINK,
        FUSE_RENAME, FUSE_RENAME2, FUSE_OPEN,    FUSE_OPENDIR,  FUSE_SETATTR,    FUSE_SETXATTR,
        FUSE_WRITE,  FUSE_SYMLINK, FUSE_TMPFILE, FUSE_GETXATTR, FUSE_REMOVEXATTR};
    struct fuse_in_header in = {.nodeid = 5};
    const size_t len = 1 + sizeof(in) + 128;

    if (index >= HF_ARRAY_LEN(opcodes) || len > cap) {
        return 0;
    }
    in.opcode = opcodes[index];
    memset(ret, 0xff, len);
    memcpy(ret + 1, &in, sizeof(in));
    memcpy(ret + len - 64, "user.a\0b\0", 9); /* names, wherever they are looked for */
    memcpy(ret + 1 + sizeof(in) + 8, "user.a\0b\0", 9);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hf_squash squash = {.on = true, .anon = {.uid = 1000, .gid = 100}};
    const struct hf_attr attr = {.ino = {2}, .mode = 042777, .uid = 7, .gid = 8};
    struct hf_squash_plan plan;
    uint8_t *request;

    if (len < 1) {
        return 0;
    }
    squash.setxattr_ext = data[0] & 1;
    len--;
    request = malloc(len + !len); /* of just that size: reads beyond it are seen */
    HF_ASSERT(request);
    memcpy(request, data + 1, len);
    if (hf_squash_plan(&squash, request, len, &plan) == 0) {
        for (uint32_t i = 0; i < plan.count; i++) {
            const char *name = plan.steps[i].name;

            HF_ASSERT(!name || ((const uint8_t *)name > request &&
                                (const uint8_t *)name + strlen(name) < request + len));
        }
    }
    hf_squash_rewrite(&squash, request, len, data[0] & 2 ? &attr : NULL);
    HF_ASSERT(!hf_squash_is_root(request, len));
    free(request);
    return 0;
}
