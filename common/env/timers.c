/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/timers.h"

#include <stdlib.h>

#include "common/base/assert.h"

struct hf_timer_node {
    uint64_t deadline_ns;
    uint64_t seq;
    size_t index; /* in the heap, while timer->armed */
    struct hf_timer *timer;
};

static bool before(const struct hf_timer_node *a, const struct hf_timer_node *b)
{
    if (a->deadline_ns != b->deadline_ns) {
        return a->deadline_ns < b->deadline_ns;
    }
    return a->seq < b->seq;
}

static void place(struct hf_timers *timers, size_t index, struct hf_timer_node *node)
{
    timers->heap[index] = node;
    node->index = index;
}

static void sift_up(struct hf_timers *timers, size_t index)
{
    struct hf_timer_node *node = timers->heap[index];

    while (index > 0) {
        size_t parent = (index - 1) / 2;

        if (!before(node, timers->heap[parent])) {
            break;
        }
        place(timers, index, timers->heap[parent]);
        index = parent;
    }
    place(timers, index, node);
}

static void sift_down(struct hf_timers *timers, size_t index)
{
    struct hf_timer_node *node = timers->heap[index];

    for (;;) {
        size_t child = 2 * index + 1;

        if (child >= timers->count) {
            break;
        }
        if (child + 1 < timers->count && before(timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (!before(timers->heap[child], node)) {
            break;
        }
        place(timers, index, timers->heap[child]);
        index = child;
    }
    place(timers, index, node);
}

static void take_out(struct hf_timers *timers, size_t index)
{
    struct hf_timer_node *last = timers->heap[--timers->count];

    if (index < timers->count) {
        place(timers, index, last);
        sift_up(timers, index);
        sift_down(timers, last->index);
    }
}

void hf_timers_init(struct hf_timers *timers)
{
    *timers = (struct hf_timers){0};
}

void hf_timers_fini(struct hf_timers *timers)
{
    for (size_t i = 0; i < timers->count; i++) {
        free(timers->heap[i]);
    }
    free(timers->heap);
    *timers = (struct hf_timers){0};
}

void hf_timers_arm(struct hf_timers *timers, struct hf_timer *timer, uint64_t deadline_ns)
{
    struct hf_timer_node *node = timer->impl;

    if (timer->armed) {
        take_out(timers, node->index);
    }
    if (!node) {
        node = calloc(1, sizeof(*node));
        HF_ASSERT_MEMORY(node);
        timer->impl = node;
    }
    if (timers->count == timers->cap) {
        size_t cap = timers->cap ? 2 * timers->cap : 64;
        struct hf_timer_node **heap = reallocarray(timers->heap, cap, sizeof(*heap));

        HF_ASSERT_MEMORY(heap);
        timers->heap = heap;
        timers->cap = cap;
    }
    *node = (struct hf_timer_node){
        .deadline_ns = deadline_ns, .seq = timers->next_seq++, .timer = timer};
    place(timers, timers->count++, node);
    sift_up(timers, node->index);
    timer->armed = true;
}

void hf_timers_disarm(struct hf_timers *timers, struct hf_timer *timer)
{
    struct hf_timer_node *node = timer->impl;

    HF_ASSERT(timer->armed && node->index < timers->count && timers->heap[node->index] == node);
    take_out(timers, node->index);
    timer->armed = false;
}

void hf_timers_forget(struct hf_timer *timer)
{
    HF_ASSERT(!timer->armed);
    free(timer->impl);
    timer->impl = NULL;
}

uint64_t hf_timers_next_ns(const struct hf_timers *timers)
{
    return timers->count ? timers->heap[0]->deadline_ns : UINT64_MAX;
}

struct hf_timer *hf_timers_pop(struct hf_timers *timers, uint64_t now_ns, uint64_t seq_end)
{
    struct hf_timer_node *node = timers->count ? timers->heap[0] : NULL;

    if (!node || node->deadline_ns > now_ns || node->seq >= seq_end) {
        return NULL;
    }
    take_out(timers, 0);
    node->timer->armed = false;
    return node->timer;
}
