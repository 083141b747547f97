/* SPDX-License-Identifier: Apache-2.0 */
#include "client/meta/session_impl.h"

#include "common/base/assert.h"

/* A session that lives: whatever the link does, something will go on with it. */
static void check_link(const struct hf_session *s)
{
    switch (s->link) {
    case LINK_DRAINING:
        HF_ASSERT(s->inflight > 0);
        break;
    case LINK_WAITING:
        HF_ASSERT(s->inflight == 0 && s->retry.armed);
        break;
    case LINK_PROBING:
        HF_ASSERT(s->inflight == 1 && s->probing);
        break;
    case LINK_UP:
        HF_ASSERT(s->tick.armed);
        HF_ASSERT(!s->claim_cookie || s->renew_again); /* it goes with the next renewal */
        HF_ASSERT(!s->map_wanted || s->map_inflight || (s->options.read_only && s->probing));
        break;
    }
    HF_ASSERT(s->deadline.armed || (s->state == SESSION_LIVE && s->link == LINK_UP));
}

/* Who waits for numbers or space is looked at again. */
static void check_ranges(const struct hf_session *s)
{
    const bool asks = s->probing || s->renew_again || s->link != LINK_UP;

    HF_ASSERT(s->ino_next <= s->ino_end && s->spent_at_ask <= s->spent);
    HF_ASSERT(s->floor <= s->next_object + 1);
    HF_ASSERT(TAILQ_EMPTY(&s->ino_waiters) || s->ino_inflight || s->wake.armed);
    HF_ASSERT(TAILQ_EMPTY(&s->budget_waiters) || s->wake.armed || (asks && !session_dead(s)));
}

void hf_session_check_invariants(const struct hf_session *s)
{
    const bool alive = s->state == SESSION_OPENING || s->state == SESSION_LIVE;
    const uint32_t calls = stream_check(s);

    HF_ASSERT(!s->freeing && s->current < s->peer_count && s->peer_count <= SESSION_PEERS_MAX);
    HF_ASSERT(s->inflight == calls + s->probing + s->map_inflight);
    HF_ASSERT(s->state != SESSION_LIVE || (s->has_map && (s->id.v > 0 || s->options.read_only)));
    HF_ASSERT(!session_dead(s) ||
              (s->link == LINK_DRAINING && !s->next_op && TAILQ_EMPTY(&s->reads)));
    HF_ASSERT(s->task.queued || !(s->open_note.due || s->close_note.due || s->lost_note.due));
    if (alive) {
        check_link(s);
    }
    check_ranges(s);
    for (uint32_t i = 0; i < s->peer_count; i++) {
        hf_rpc_peer_check_invariants(s->peers[i].rpc);
    }
}
