/* SPDX-License-Identifier: Apache-2.0 */
#include "server/raft/raft_impl.h"

#include <stdlib.h>

static struct raft_slot *slot_of(const struct raft_log *log, uint64_t index)
{
    return &log->slots[index & (log->capacity - 1)];
}

static uint64_t end_bytes(const struct raft_log *log, uint64_t index)
{
    return index == log->base ? log->base_end_bytes : slot_of(log, index)->end_bytes;
}

int hf_raft_log_reserve(struct raft_log *log, uint64_t free_slots, void *(*alloc)(size_t))
{
    const uint64_t need = log->last - log->base + free_slots;
    uint64_t capacity = log->capacity ? log->capacity : 64;
    struct raft_slot *slots;

    if (need <= log->capacity) {
        return 0;
    }
    while (capacity < need) {
        capacity *= 2;
    }
    slots = (alloc ? alloc : malloc)((size_t)capacity * sizeof(*slots));
    if (!slots) {
        return -ENOMEM;
    }
    for (uint64_t i = log->base + 1; i <= log->last; i++) {
        slots[i & (capacity - 1)] = *slot_of(log, i);
    }
    free(log->slots);
    log->slots = slots;
    log->capacity = capacity;
    return 0;
}

void hf_raft_log_push(struct raft_log *log, uint64_t term, uint8_t type, uint32_t bytes)
{
    const uint64_t end = end_bytes(log, log->last) + bytes;

    HF_ASSERT(log->last - log->base < log->capacity);
    log->last++;
    *slot_of(log, log->last) = (struct raft_slot){.term = term, .end_bytes = end, .type = type};
}

void hf_raft_log_truncate(struct raft_log *log, uint64_t from)
{
    HF_ASSERT(from > log->base && from <= log->last + 1);
    log->last = from - 1;
}

void hf_raft_log_trim(struct raft_log *log, uint64_t to)
{
    const uint64_t term = hf_raft_log_term(log, to), end = end_bytes(log, to);

    log->base = to;
    log->base_term = term;
    log->base_end_bytes = end;
}

void hf_raft_log_reset(struct raft_log *log, uint64_t base, uint64_t base_term)
{
    log->base = base;
    log->base_term = base_term;
    log->base_end_bytes = 0;
    log->last = base;
}

uint64_t hf_raft_log_term(const struct raft_log *log, uint64_t index)
{
    HF_ASSERT(index >= log->base && index <= log->last);
    return index == log->base ? log->base_term : slot_of(log, index)->term;
}

uint64_t hf_raft_log_bytes(const struct raft_log *log, uint64_t after, uint64_t to)
{
    HF_ASSERT(after >= log->base && after <= to && to <= log->last);
    return end_bytes(log, to) - end_bytes(log, after);
}

const struct raft_slot *hf_raft_log_slot(const struct raft_log *log, uint64_t index)
{
    HF_ASSERT(index > log->base && index <= log->last);
    return slot_of(log, index);
}

/* Terms never fall along the log: both searches halve. */

uint64_t hf_raft_log_term_start(const struct raft_log *log, uint64_t index, uint64_t floor)
{
    const uint64_t term = hf_raft_log_term(log, index);
    uint64_t low = raft_max(floor, log->base) + 1, high = index;

    while (low < high) {
        const uint64_t mid = low + (high - low) / 2;

        if (hf_raft_log_term(log, mid) < term) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return high;
}

uint64_t hf_raft_log_term_end(const struct raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t low = log->base, high = raft_min(index, log->last);

    while (low < high) {
        const uint64_t mid = low + (high - low + 1) / 2;

        if (hf_raft_log_term(log, mid) <= term) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return low;
}
