/* SPDX-License-Identifier: Apache-2.0 */
#include "client/io/io_impl.h"

#include "common/base/assert.h"

/* --- puts --- */

static void check_frame(const struct io_put *p, const struct put_frame *f)
{
    HF_ASSERT(f->put == p && f->generation <= p->generation);
    if (f->generation == p->generation) {
        HF_ASSERT(f->member < p->member_count && f->round <= p->members[f->member].round);
    }
}

/* Of one attempt: no node is sent the object twice at a time. */
static void check_members(const struct io_put *p)
{
    uint64_t nodes = 0;

    for (uint32_t i = 0; i < p->member_count; i++) {
        const struct put_member *m = &p->members[i];

        HF_ASSERT(!(nodes & hf_node_bit(m->node)) && m->next_frame <= p->summed);
        HF_ASSERT(m->state != MEMBER_OK || (p->finished && m->next_frame == p->summed));
        nodes |= hf_node_bit(m->node);
    }
}

static uint32_t check_put(const struct io_put *p)
{
    const struct put_frame *f;

    HF_ASSERT(!(p->slot && p->slot_waiting));
    HF_ASSERT(p->over ? !p->slot && !p->slot_waiting && !TAILQ_EMPTY(&p->frames) : p->err == 0);
    HF_ASSERT(p->timer.armed || !(p->slot || p->slot_waiting)); /* it goes on by itself */
    HF_ASSERT(p->piece_count <= p->len_bytes && p->summed <= IO_FRAMES_MAX);
    TAILQ_FOREACH (f, &p->frames, link) {
        check_frame(p, f);
    }
    if (p->has_group && !p->over) {
        check_members(p);
    }
    return p->slot;
}

static void check_puts(const struct hf_io *io)
{
    const struct io_put *p, *first = TAILQ_FIRST(&io->slot_waiters);
    uint32_t slots = 0, waiting = 0;

    TAILQ_FOREACH (p, &io->puts, link) {
        slots += check_put(p);
        waiting += p->slot_waiting;
    }
    TAILQ_FOREACH (p, &io->puts_ready, link) {
        HF_ASSERT(p->over && TAILQ_EMPTY(&p->frames));
    }
    TAILQ_FOREACH (p, &io->slot_waiters, slot_link) {
        HF_ASSERT(p->slot_waiting);
        waiting--;
    }
    HF_ASSERT(waiting == 0 && slots == io->slots_used);
    HF_ASSERT(slots <= io->options.puts_max + IO_URGENT_SLOTS);
    HF_ASSERT(!first || io->task.queued || /* a free slot is given away */
              slots >= io->options.puts_max + (first->urgent ? IO_URGENT_SLOTS : 0));
}

/* --- gets --- */

static void check_get(const struct io_get *g)
{
    uint32_t waiting = 0;

    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct io_part *part = &g->parts[i];

        HF_ASSERT(part->get == g && part->run->refs > 0);
        HF_ASSERT(part->waiting == (part->run->state == RUN_FETCHING));
        waiting += part->waiting;
    }
    HF_ASSERT(waiting == g->pending && (waiting == 0) == g->ready);
}

static void check_fetching(const struct hf_io *io)
{
    const struct io_run *run;
    uint64_t prefetch = 0;

    TAILQ_FOREACH (run, &io->fetching, link) {
        const struct io_part *part;
        uint32_t refs = 1;

        TAILQ_FOREACH (part, &run->parts, link) {
            HF_ASSERT(part->run == run && part->waiting);
            refs++;
        }
        HF_ASSERT(run->state == RUN_FETCHING && !run->in_lru && run->refs == refs);
        HF_ASSERT(run->reader <= run->reader_count && !run->buf);
        prefetch += run->prefetch ? (uint64_t)IO_CHUNK_BYTES * IO_RUN_CHUNKS_MAX : 0;
    }
    HF_ASSERT(prefetch == io->prefetch_bytes && prefetch <= IO_PREFETCH_MAX);
}

/* Every run that is kept can be found, and counts. */
static void check_cache(struct hf_io *io)
{
    const struct io_run *run;
    uint64_t bytes = 0;

    TAILQ_FOREACH (run, &io->lru, link) {
        uint32_t found = 0;

        HF_ASSERT(run->state == RUN_READY && run->in_lru && run->refs > 0);
        for (uint32_t i = 0; i < IO_RUN_CHUNKS_MAX; i++) {
            if (run->chunks[i].hashed) {
                HF_ASSERT(cache_find(io, &run->oid, run->chunks[i].index) == run);
                found++;
            }
        }
        HF_ASSERT(found > 0 && run->len_bytes <= run->buf->cap_bytes);
        bytes += run->buf->cap_bytes;
    }
    HF_ASSERT(bytes == io->stats.cache_bytes && bytes <= io->options.cache_bytes);
}

void hf_io_check_invariants(struct hf_io *io)
{
    const struct io_get *g;

    HF_ASSERT(!io->freeing);
    check_puts(io);
    TAILQ_FOREACH (g, &io->gets, link) {
        HF_ASSERT(!g->ready);
        check_get(g);
    }
    TAILQ_FOREACH (g, &io->gets_ready, link) {
        HF_ASSERT(g->ready);
        check_get(g);
    }
    HF_ASSERT(io->task.queued || (TAILQ_EMPTY(&io->puts_ready) && TAILQ_EMPTY(&io->gets_ready)));
    check_fetching(io);
    check_cache(io);
    for (uint32_t i = 1; i <= HF_NODES_MAX; i++) {
        if (io->nodes[i].peer) {
            hf_rpc_peer_check_invariants(io->nodes[i].peer);
        }
    }
}
