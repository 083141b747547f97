/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

uint64_t sim_hash(uint64_t a, uint64_t b)
{
    struct hf_sim_rng rng = {.state = a ^ (b * UINT64_C(0x9e3779b97f4a7c15))};

    return hf_sim_rng_next(&rng);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed) {
        return;
    }
    s->failed = true;
    va_start(args, format);
    (void)vsnprintf(s->why, sizeof(s->why), format, args);
    va_end(args);
}

void sim_trace(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    s->trace = sim_hash(s->trace, s->now);
    s->trace = sim_hash(s->trace, a);
    s->trace = sim_hash(s->trace, b);
    s->trace = sim_hash(s->trace, c ^ (uint64_t)what[0] << 56);
    if (s->print) {
        printf("%11.6f %-10s %llu %llu %llu\n", (double)s->now / 1e9, what, (unsigned long long)a,
               (unsigned long long)b, (unsigned long long)c);
    }
}

uint64_t sim_local(const struct sim *s, const struct node *n)
{
    const int64_t now = (int64_t)s->now;

    return n->clock_offset + (uint64_t)(now + now / 100 * n->drift_ppm / 10000);
}

/* The heap: by time, then by order of creation. */

static bool before(const struct ev *a, const struct ev *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

struct ev *sim_at(struct sim *s, uint64_t delay, enum ev_type type, uint32_t node)
{
    const struct ev e = {.at = s->now + delay,
                         .order = ++s->order,
                         .type = type,
                         .node = node,
                         .life = s->nodes[node].life};
    uint32_t i = s->heap_count++;

    if (s->heap_count > s->heap_room) {
        s->heap_room = s->heap_room ? s->heap_room * 2 : 256;
        s->heap = realloc(s->heap, s->heap_room * sizeof(*s->heap));
        HF_ASSERT(s->heap);
    }
    for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        s->heap[i] = s->heap[(i - 1) / 2];
    }
    s->heap[i] = e;
    return &s->heap[i];
}

static struct ev pop(struct sim *s)
{
    const struct ev top = s->heap[0], e = s->heap[--s->heap_count];
    uint32_t i = 0;

    for (;;) {
        uint32_t k = 2 * i + 1;

        if (k >= s->heap_count) {
            break;
        }
        if (k + 1 < s->heap_count && before(&s->heap[k + 1], &s->heap[k])) {
            k++;
        }
        if (!before(&s->heap[k], &e)) {
            break;
        }
        s->heap[i] = s->heap[k];
        i = k;
    }
    if (s->heap_count) {
        s->heap[i] = e;
    }
    return top;
}

/* The network */

void sim_packet_free(struct packet *p)
{
    if (p) {
        free(p->entries);
        free(p);
    }
}

static struct packet *packet_dup(const struct packet *p)
{
    struct packet *copy = malloc(sizeof(*copy));
    const size_t bytes = p->entries ? p->msg.u.append.count * sizeof(*p->entries) : 0;

    HF_ASSERT(copy);
    *copy = *p;
    if (bytes) {
        copy->entries = malloc(bytes);
        HF_ASSERT(copy->entries);
        memcpy(copy->entries, p->entries, bytes);
    }
    return copy;
}

static void deliver_later(struct sim *s, struct packet *p)
{
    uint64_t delay = hf_sim_rng_between(&s->rng, 100000, s->delay_max);

    if (s->slow_net && hf_sim_rng_chance(&s->rng, s->slow_net)) {
        delay += hf_sim_rng_below(&s->rng, 2 * SIM_S);
    }
    sim_at(s, delay, EV_DELIVER, 0)->packet = p;
}

void sim_net_send(struct sim *s, struct packet *p)
{
    const uint32_t from = p->msg.from.v, to = p->msg.to.v;

    if (to > SIM_NODES || s->cut[from][to] || hf_sim_rng_chance(&s->rng, s->loss)) {
        if (to <= SIM_NODES && hf_sim_rng_chance(&s->rng, 20)) {
            sim_at(s, SIM_MS, EV_UNREACHABLE, from)->peer = to;
        }
        sim_packet_free(p);
        return;
    }
    if (hf_sim_rng_chance(&s->rng, s->dup)) {
        deliver_later(s, packet_dup(p));
    }
    deliver_later(s, p);
}

/* Running */

static void tick(struct sim *s, struct node *n, const struct ev *e)
{
    struct hf_raft_event tick_event = {.type = HF_RAFT_EV_TICK};

    if (n->tick_at == e->at) {
        n->tick_at = 0;
        (void)sim_step(s, n, &tick_event, NULL, 0);
    }
}

static void unreachable(struct sim *s, struct node *n, uint32_t peer)
{
    struct hf_raft_event e = {.type = HF_RAFT_EV_UNREACHABLE};

    e.u.unreachable.peer.v = (uint16_t)peer;
    (void)sim_step(s, n, &e, NULL, 0);
}

static void run_event(struct sim *s, const struct ev *e)
{
    struct node *n = &s->nodes[e->node];

    switch (e->type) {
    case EV_TICK:
        tick(s, n, e);
        break;
    case EV_DELIVER:
        sim_deliver(s, e->packet);
        break;
    case EV_DISK:
        sim_disk_done(s, n, e->arg);
        break;
    case EV_UNREACHABLE:
        unreachable(s, n, e->peer);
        break;
    case EV_OPENED:
        sim_opened(s, n, e->peer, e->arg);
        break;
    case EV_CLIENT:
        sim_client(s, e->arg);
        break;
    case EV_ADMIN:
        sim_admin(s, e->arg != 0);
        break;
    case EV_FAULT:
        sim_fault(s);
        break;
    case EV_RESTART:
        if (!n->up) {
            sim_node_start(s, n);
        }
        break;
    case EV_HEAL:
        sim_heal(s);
        break;
    case EV_TRANSFER:
        sim_transfer(s);
        break;
    case EV_LINK:
        sim_link(s, e->arg);
        break;
    }
}

/* A node that is paused or gone does not see the event now, or ever. */
static bool postponed(struct sim *s, const struct ev *e)
{
    const uint32_t at = e->type == EV_DELIVER ? e->packet->msg.to.v : e->node;
    struct node *n = &s->nodes[at];
    const bool of_life = e->type == EV_TICK || e->type == EV_DISK || e->type == EV_UNREACHABLE ||
                         e->type == EV_OPENED;

    if (of_life && (!n->up || e->life != n->life)) {
        return true;
    }
    if ((of_life || e->type == EV_DELIVER) && n->up && n->pause_until > s->now) {
        const struct ev copy = *e;
        struct ev *later = sim_at(s, n->pause_until - s->now, e->type, e->node);

        later->packet = copy.packet;
        later->peer = copy.peer;
        later->arg = copy.arg;
        if (e->type == EV_TICK && n->tick_at == e->at) {
            n->tick_at = later->at;
        }
        return true;
    }
    return false;
}

/* Where everybody stood: the first thing to read after a failure. */
static void dump(const struct sim *s)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        const struct node *n = &s->nodes[i];
        const struct hf_raft_config *config;
        uint64_t index;

        if (!n->up) {
            printf("node %u down, abstain %d\n", i, n->abstain);
            continue;
        }
        config = hf_raft_config(n->raft, &index);
        printf("node %u role %d term %llu leader %u log %llu..%llu commit %llu durable %llu "
               "abstain %d config %llu:",
               i, (int)hf_raft_role(n->raft), (unsigned long long)hf_raft_term(n->raft),
               hf_raft_leader(n->raft).v, (unsigned long long)hf_raft_base_index(n->raft),
               (unsigned long long)hf_raft_last_index(n->raft),
               (unsigned long long)hf_raft_commit_index(n->raft),
               (unsigned long long)hf_raft_durable_index(n->raft), n->abstain,
               (unsigned long long)index);
        for (uint32_t k = 0; k < config->count; k++) {
            printf(" %u%s", config->members[k].id.v,
                   config->members[k].kind == HF_RAFT_VOTER ? "" : "L");
        }
        printf("\n");
    }
}

#define WAITING_MAX 100000u /* hundreds do */

void sim_run(struct sim *s, uint64_t seed, bool print)
{
    memset(s, 0, sizeof(*s));
    s->rng.state = seed * UINT64_C(0x5851f42d4c957f2d) + 1;
    s->seed = seed;
    s->print = print;
    sim_plan(s);
    while (!s->failed && s->heap_count && s->heap[0].at <= SIM_END_AT) {
        const struct ev e = pop(s);

        s->now = e.at;
        if (!postponed(s, &e)) {
            s->events++;
            run_event(s, &e);
        }
        if (s->heap_count > WAITING_MAX && !s->failed) {
            sim_fail(s, "liveness: %u events wait: messages beget messages", s->heap_count);
        }
    }
    if (!s->failed) {
        sim_check_end(s);
    }
    if (s->failed && print) {
        dump(s);
    }
}

static void elog_free(struct elog *log)
{
    free(log->at);
    memset(log, 0, sizeof(*log));
}

void sim_fini(struct sim *s)
{
    while (s->heap_count) {
        const struct ev e = pop(s);

        sim_packet_free(e.packet);
    }
    free(s->heap);
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        if (s->nodes[i].up) {
            sim_node_crash(s, &s->nodes[i]);
        }
        elog_free(&s->nodes[i].cache);
        elog_free(&s->nodes[i].disk);
    }
    while (s->heap_count) {
        sim_packet_free(s->heap[--s->heap_count].packet);
    }
    for (uint64_t i = 0; i < s->origins_room; i++) {
        free(s->origins[i].at);
    }
    free(s->origins);
    free(s->committed);
    free(s->leaders);
}
