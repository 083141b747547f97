/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/opens.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"

struct hf_open {
    struct hf_hmap_node node; /* by inode */
    struct hf_ino ino;
    uint64_t number;
    struct hf_opens_session *session;
    struct hf_open *prev, *next; /* of the session */
};

int hf_opens_init(struct hf_opens *opens)
{
    return hf_hmap_init(&opens->by_ino);
}

static void free_open(void *ctx, struct hf_hmap_node *node)
{
    (void)ctx;
    free(hf_container_of(node, struct hf_open, node));
}

void hf_opens_fini(struct hf_opens *opens)
{
    hf_hmap_each(&opens->by_ino, free_open, NULL);
    hf_hmap_fini(&opens->by_ino);
}

static struct hf_open *find(const struct hf_opens *opens, struct hf_session_id session,
                            struct hf_ino ino)
{
    struct hf_hmap_node *node = hf_hmap_first(&opens->by_ino, hf_hash_u64(ino.v));

    for (; node; node = hf_hmap_same(node)) {
        struct hf_open *open = hf_container_of(node, struct hf_open, node);

        if (open->ino.v == ino.v && open->session->id.v == session.v) {
            return open;
        }
    }
    return NULL;
}

int hf_opens_add(struct hf_opens *opens, struct hf_opens_session *session, struct hf_ino ino,
                 uint64_t number)
{
    struct hf_open *open = find(opens, session->id, ino);

    if (open) {
        open->number = number > open->number ? number : open->number;
        return 0;
    }
    if (session->count >= HF_OPENS_PER_SESSION_MAX) {
        return -ENFILE;
    }
    open = calloc(1, sizeof(*open));
    if (!open) {
        return -ENOMEM;
    }
    open->ino = ino;
    open->number = number;
    open->session = session;
    open->next = session->head;
    if (open->next) {
        open->next->prev = open;
    }
    session->head = open;
    session->count++;
    hf_hmap_add(&opens->by_ino, &open->node, hf_hash_u64(ino.v));
    return 0;
}

static void remove_open(struct hf_opens *opens, struct hf_open *open)
{
    struct hf_opens_session *session = open->session;

    if (open->prev) {
        open->prev->next = open->next;
    } else {
        session->head = open->next;
    }
    if (open->next) {
        open->next->prev = open->prev;
    }
    session->count--;
    hf_hmap_del(&opens->by_ino, &open->node);
    free(open);
}

void hf_opens_del(struct hf_opens *opens, struct hf_opens_session *session, struct hf_ino ino,
                  uint64_t number)
{
    struct hf_open *open = find(opens, session->id, ino);

    if (open && (open->number <= number || HF_BUG(release_of_reopened))) {
        remove_open(opens, open);
    }
}

void hf_opens_drop(struct hf_opens *opens, struct hf_opens_session *session)
{
    while (session->head) {
        remove_open(opens, session->head);
    }
}

bool hf_opens_has(const struct hf_opens *opens, struct hf_session_id session, struct hf_ino ino)
{
    return find(opens, session, ino) != NULL;
}

void hf_opens_holders(const struct hf_opens *opens, struct hf_ino ino,
                      void (*fn)(void *ctx, struct hf_session_id session), void *ctx)
{
    struct hf_hmap_node *node = hf_hmap_first(&opens->by_ino, hf_hash_u64(ino.v));

    for (; node; node = hf_hmap_same(node)) {
        struct hf_open *open = hf_container_of(node, struct hf_open, node);

        if (open->ino.v == ino.v) {
            fn(ctx, open->session->id);
        }
    }
}

/* Each is found by its inode, once. */
uint32_t hf_opens_check_session(const struct hf_opens *opens,
                                const struct hf_opens_session *session)
{
    uint32_t count = 0;

    for (const struct hf_open *open = session->head; open; open = open->next) {
        HF_ASSERT(open->session == session && find(opens, session->id, open->ino) == open);
        HF_ASSERT(!open->next || open->next->prev == open);
        count++;
    }
    HF_ASSERT(count == session->count && count <= HF_OPENS_PER_SESSION_MAX);
    return count;
}
