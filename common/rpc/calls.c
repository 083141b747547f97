/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/calls.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/bugs.h"

#define SLOT_BITS   20u
#define SLOTS_MAX   (1u << SLOT_BITS)
#define SLOTS_FIRST 64u

struct call_slot {
    struct call_state *call; /* NULL: free */
    uint32_t next_free;
};

void calls_init(struct calls *c)
{
    *c = (struct calls){0};
}

void calls_fini(struct calls *c)
{
    HF_ASSERT(c->count == 0);
    free(c->slots);
    free(c->heap);
    *c = (struct calls){0};
}

static int grow(struct calls *c)
{
    uint32_t count = c->slot_count ? 2 * c->slot_count : SLOTS_FIRST;
    struct call_slot *slots;
    struct call_state **heap;

    if (c->slot_count == SLOTS_MAX) {
        return -EBUSY;
    }
    heap = realloc(c->heap, count * sizeof(*heap));
    if (!heap) {
        return -ENOMEM;
    }
    c->heap = heap;
    slots = realloc(c->slots, count * sizeof(*slots));
    if (!slots) {
        return -ENOMEM;
    }
    c->slots = slots;
    for (uint32_t i = c->slot_count; i < count; i++) {
        slots[i] = (struct call_slot){.next_free = i + 1};
    }
    c->slot_count = count; /* the free list, which was at its end, goes on with the new ones */
    return 0;
}

static void place(struct calls *c, uint32_t at, struct call_state *s)
{
    c->heap[at] = s;
    s->heap_at = at;
}

static void sift_up(struct calls *c, uint32_t at, struct call_state *s)
{
    while (at > 0 && s->deadline_ns < c->heap[(at - 1) / 2]->deadline_ns) {
        place(c, at, c->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(c, at, s);
}

static void sift_down(struct calls *c, uint32_t at, struct call_state *s)
{
    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= c->count) {
            break;
        }
        if (child + 1 < c->count && c->heap[child + 1]->deadline_ns < c->heap[child]->deadline_ns) {
            child++;
        }
        if (s->deadline_ns <= c->heap[child]->deadline_ns) {
            break;
        }
        place(c, at, c->heap[child]);
        at = child;
    }
    place(c, at, s);
}

int calls_add(struct calls *c, struct call_state *s)
{
    uint32_t slot;

    if (c->free_slot == c->slot_count) {
        int err = grow(c);

        if (err) {
            return err;
        }
    }
    slot = c->free_slot;
    c->free_slot = c->slots[slot].next_free;
    c->slots[slot].call = s;
    s->id = (uint64_t)++c->turn << SLOT_BITS | slot;
    sift_up(c, c->count++, s);
    return 0;
}

void calls_remove(struct calls *c, struct call_state *s)
{
    uint32_t slot = (uint32_t)(s->id % SLOTS_MAX);
    struct call_state *last = c->heap[--c->count];

    HF_ASSERT(c->slots[slot].call == s);
    c->slots[slot] = (struct call_slot){.next_free = c->free_slot};
    c->free_slot = slot;
    if (last != s) {
        sift_up(c, s->heap_at, last);
        sift_down(c, last->heap_at, last);
    }
}

struct call_state *calls_find(const struct calls *c, uint64_t id)
{
    uint32_t slot = (uint32_t)(id % SLOTS_MAX);

    if (slot >= c->slot_count || !c->slots[slot].call ||
        (c->slots[slot].call->id != id && !HF_BUG(late_reply_matches))) {
        return NULL;
    }
    return c->slots[slot].call;
}

struct call_state *calls_first(const struct calls *c)
{
    return c->count ? c->heap[0] : NULL;
}

void calls_check_invariants(const struct calls *c)
{
    uint32_t free_count = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        const struct call_state *s = c->heap[i];

        HF_ASSERT(s->heap_at == i && c->slots[s->id % SLOTS_MAX].call == s);
        HF_ASSERT(i == 0 || c->heap[(i - 1) / 2]->deadline_ns <= s->deadline_ns);
    }
    if (c->count == 0) {
        return; /* most peers, most of the time: the rest costs more than all that is above */
    }
    for (uint32_t at = c->free_slot; at != c->slot_count; at = c->slots[at].next_free) {
        HF_ASSERT(at < c->slot_count && !c->slots[at].call && free_count < c->slot_count);
        free_count++;
    }
    HF_ASSERT(c->count + free_count == c->slot_count);
}
