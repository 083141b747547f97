/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/inflight.h"

#include <string.h>

#include "common/base/assert.h"

int hf_inflight_init(struct hf_inflight *inflight, uint64_t seed)
{
    int err = hf_hmap_init(&inflight->names);

    inflight->seed = seed;
    if (!err) {
        err = hf_hmap_init(&inflight->guards);
    }
    return err;
}

void hf_inflight_fini(struct hf_inflight *inflight)
{
    hf_hmap_fini(&inflight->names);
    hf_hmap_fini(&inflight->guards);
}

static uint64_t name_hash(const struct hf_inflight *inflight, struct hf_ino parent,
                          const char *name, size_t len)
{
    return hf_hash_bytes(inflight->seed ^ hf_hash_u64(parent.v), name, len);
}

bool hf_inflight_busy(const struct hf_inflight *inflight, struct hf_ino parent, const char *name,
                      size_t len)
{
    struct hf_hmap_node *node;

    node = hf_hmap_first(&inflight->names, name_hash(inflight, parent, name, len));
    for (; node; node = hf_hmap_same(node)) {
        struct hf_name_mark *mark = hf_container_of(node, struct hf_name_mark, node);

        if (mark->parent.v == parent.v && mark->len == len && memcmp(mark->name, name, len) == 0) {
            return true;
        }
    }
    return false;
}

void hf_inflight_add(struct hf_inflight *inflight, struct hf_name_mark *mark)
{
    hf_hmap_add(&inflight->names, &mark->node,
                name_hash(inflight, mark->parent, mark->name, mark->len));
}

void hf_inflight_del(struct hf_inflight *inflight, struct hf_name_mark *mark)
{
    hf_hmap_del(&inflight->names, &mark->node);
}

bool hf_inflight_guarded(const struct hf_inflight *inflight, struct hf_ino ino)
{
    struct hf_hmap_node *node = hf_hmap_first(&inflight->guards, hf_hash_u64(ino.v));

    for (; node; node = hf_hmap_same(node)) {
        if (hf_container_of(node, struct hf_guard_mark, node)->ino.v == ino.v) {
            return true;
        }
    }
    return false;
}

void hf_inflight_guard(struct hf_inflight *inflight, struct hf_guard_mark *mark, struct hf_ino ino)
{
    mark->ino = ino;
    hf_hmap_add(&inflight->guards, &mark->node, hf_hash_u64(ino.v));
}

void hf_inflight_unguard(struct hf_inflight *inflight, struct hf_guard_mark *mark)
{
    hf_hmap_del(&inflight->guards, &mark->node);
    mark->ino = (struct hf_ino){0};
}
