/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/lin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/checksum/checksum.h"

#define TRIED_MAX (UINT64_C(1) << 21)

struct state {
    uint32_t at[LIN_PROCESSES_MAX];
    uint64_t regs[LIN_REGISTERS_MAX];
    uint32_t padding[2]; /* zero: compared and hashed as bytes */
};

struct search {
    const struct lin_history *h;
    struct state *tried; /* open addressing; capacity is a power of two */
    bool *taken;
    size_t cap, count;
    size_t best;
    size_t *stuck;
};

struct lin_op *lin_add(struct lin_history *h, uint32_t process)
{
    if (h->counts[process] == h->caps[process]) {
        h->caps[process] = h->caps[process] ? 2 * h->caps[process] : 64;
        h->ops[process] = reallocarray(h->ops[process], h->caps[process], sizeof(struct lin_op));
        HF_ASSERT(h->ops[process] != NULL);
    }
    h->ops[process][h->counts[process]] = (struct lin_op){0};
    return &h->ops[process][h->counts[process]++];
}

void lin_fini(struct lin_history *h)
{
    for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
        free(h->ops[p]);
    }
    *h = (struct lin_history){0};
}

static size_t slot_of(const struct search *s, const struct state *state)
{
    size_t i = hf_hash64(state, sizeof(*state), 1) & (s->cap - 1);

    while (s->taken[i] && memcmp(&s->tried[i], state, sizeof(*state)) != 0) {
        i = (i + 1) & (s->cap - 1);
    }
    return i;
}

static void tables_new(struct search *s, size_t cap)
{
    s->cap = cap;
    s->tried = calloc(cap, sizeof(*s->tried));
    s->taken = calloc(cap, sizeof(*s->taken));
    HF_ASSERT(s->tried && s->taken);
}

/* True: it was not there before. */
static bool remember(struct search *s, const struct state *state)
{
    size_t i = slot_of(s, state);

    if (s->taken[i]) {
        return false;
    }
    s->taken[i] = true;
    s->tried[i] = *state;
    s->count++;
    if (2 * s->count > s->cap) {
        struct state *tried = s->tried;
        bool *taken = s->taken;
        size_t cap = s->cap;

        tables_new(s, 2 * cap);
        for (size_t k = 0; k < cap; k++) {
            if (taken[k]) {
                i = slot_of(s, &tried[k]);
                s->taken[i] = true;
                s->tried[i] = tried[k];
            }
        }
        free(tried);
        free(taken);
    }
    return true;
}

/* Does @op, done in @regs, end as it did? Changes @regs. */
static bool apply(const struct lin_op *op, enum lin_end end, uint64_t regs[LIN_REGISTERS_MAX])
{
    uint64_t *a = &regs[op->reg], *b = &regs[op->to];
    uint64_t old;

    switch (op->kind) {
    case LIN_READ:
        return *a == op->value;
    case LIN_WRITE:
        *a = op->value;
        return end == LIN_OK;
    case LIN_CREATE:
        if (*a) {
            return end == LIN_EXISTS;
        }
        *a = op->value;
        return end == LIN_OK;
    case LIN_DELETE:
        if (!*a) {
            return end == LIN_MISSING;
        }
        *a = 0;
        return end == LIN_OK;
    case LIN_MOVE:
        if (!*a) {
            return end == LIN_MISSING;
        }
        old = *a;
        *a = 0;
        *b = old;
        return end == LIN_OK;
    case LIN_EXCHANGE:
        if (!*a || !*b) {
            return end == LIN_MISSING;
        }
        old = *a;
        *a = *b;
        *b = old;
        return end == LIN_OK;
    }
    return false;
}

static const struct lin_op *next_of(const struct search *s, const struct state *state, uint32_t p)
{
    return state->at[p] < s->h->counts[p] ? &s->h->ops[p][state->at[p]] : NULL;
}

/* Nothing that is still to come may have ended before this began. */
static bool may_be_next(const struct search *s, const struct state *state, const struct lin_op *op)
{
    for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
        const struct lin_op *other = next_of(s, state, p);

        if (other && other->return_ns < op->call_ns) {
            return false;
        }
    }
    return true;
}

static enum lin_verdict search(struct search *s, const struct state *state)
{
    size_t explained = 0;
    bool over = true;

    if (!remember(s, state)) {
        return LIN_VIOLATED;
    }
    if (s->count > TRIED_MAX) {
        return LIN_TOO_MUCH;
    }
    for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
        explained += state->at[p];
    }
    if (explained > s->best) {
        s->best = explained;
        for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
            s->stuck[p] = state->at[p];
        }
    }
    for (uint32_t p = 0; p < LIN_PROCESSES_MAX; p++) {
        const struct lin_op *op = next_of(s, state, p);
        bool unknown = op && op->end == LIN_UNKNOWN;

        if (!op) {
            continue;
        }
        over = false;
        if (!may_be_next(s, state, op)) {
            continue;
        }
        for (int happens = unknown ? 0 : 1; happens < 2; happens++) {
            struct state next = *state;
            enum lin_verdict verdict;

            next.at[p]++;
            if (happens && !apply(op, unknown ? LIN_OK : op->end, next.regs)) {
                continue;
            }
            verdict = search(s, &next);
            if (verdict != LIN_VIOLATED) {
                return verdict;
            }
        }
    }
    return over ? LIN_LINEARIZABLE : LIN_VIOLATED;
}

enum lin_verdict lin_check(const struct lin_history *h, size_t ret_stuck[LIN_PROCESSES_MAX])
{
    struct search s = {.h = h, .stuck = ret_stuck};
    const struct state begin = {0};
    enum lin_verdict verdict;

    memset(ret_stuck, 0, LIN_PROCESSES_MAX * sizeof(*ret_stuck));
    tables_new(&s, 1024);
    verdict = search(&s, &begin);
    free(s.tried);
    free(s.taken);
    return verdict;
}

const char *lin_op_str(const struct lin_op *op, char ret[128])
{
    static const char *const kinds[] = {"read", "write", "create", "delete", "move", "exchange"};
    static const char *const ends[] = {"ok", "exists", "missing", "unknown"};

    (void)snprintf(ret, 128, "%s %u %u value %" PRIu64 " %s [%.6f, %.6f]", kinds[op->kind], op->reg,
                   op->to, op->value, ends[op->end], (double)op->call_ns / 1e9,
                   (double)op->return_ns / 1e9);
    return ret;
}
