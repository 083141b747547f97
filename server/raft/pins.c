/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the log stays for peers that get a snapshot.
 *
 *     asked for: the log as it is ──saved──► from the snapshot on ──installed──► from what the peer
 *     has on ──► it has what is checkpointed, or is silent: over
 *
 * A snapshot is old when it has arrived. If the log behind it were gone by then, the peer would
 * need another one, under load for ever. What is kept is bounded (trim() in steps.c): a peer for
 * which that is not enough loses its pin, and gets another one with its next snapshot.
 */
#include "common/base/assert.h"
#include "server/raft/driver_impl.h"

static_assert(HF_RAFT_KEEP_BYTES < HF_RAFT_PIN_BYTES, "a pin keeps more");
static_assert(HF_RAFT_KEEP_ENTRIES < RAFT_PIN_ENTRIES_MAX, "a pin keeps more");
static_assert(RAFT_PIN_ENTRIES_MAX + RAFT_WINDOW_ENTRIES_MAX < RAFT_LOG_ENTRIES_MAX,
              "a pin leaves room for proposals");

/* Moves the pin of a peer that goes on. False: it is over. */
static bool lasts(const struct hf_raft_driver *d, struct raft_pin *pin)
{
    struct hf_raft_peer_status peer;
    const uint64_t base = hf_raft_base_index(d->raft);

    if (hf_raft_peer(d->raft, pin->peer, &peer) != 0 ||
        hf_env_boot_ns(d->env) - peer.heard_ns > RAFT_PIN_SILENT_NS) {
        return false;
    }
    if (peer.match_index > pin->index) {
        pin->index = peer.match_index;
    }
    /* Nothing is trimmed before the first checkpoint of this process: then the log tells. */
    return pin->index >= base && (peer.match_index < base || peer.match_index < d->trim_to);
}

void raft_pin_set(struct hf_raft_driver *d, struct hf_node_id peer, uint64_t index)
{
    struct raft_pin *pin = NULL;

    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        struct raft_pin *at = &d->pins[i];

        if (at->peer.v == peer.v) {
            pin = at;
            break;
        }
        if (!pin && (at->peer.v == 0 || !lasts(d, at))) {
            pin = at;
        }
    }
    HF_ASSERT(pin); /* who lasts is a member, and this node is one too */
    *pin = (struct raft_pin){.peer = peer, .index = index};
}

void raft_pin_drop(struct hf_raft_driver *d, struct hf_node_id peer)
{
    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        if (d->pins[i].peer.v == peer.v) {
            d->pins[i].peer.v = 0;
        }
    }
}

uint64_t raft_pins_lowest(struct hf_raft_driver *d)
{
    uint64_t lowest = UINT64_MAX;

    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        struct raft_pin *pin = &d->pins[i];

        if (pin->peer.v != 0 && !lasts(d, pin)) {
            pin->peer.v = 0;
        }
        if (pin->peer.v != 0 && pin->index < lowest) {
            lowest = pin->index;
        }
    }
    return lowest;
}

void raft_pins_tick(struct hf_raft_driver *d)
{
    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        if (d->pins[i].peer.v != 0) {
            raft_driver_run_soon(d);
        }
    }
}

void raft_pins_check(const struct hf_raft_driver *d)
{
    for (uint32_t i = 0; i < HF_RAFT_MEMBERS_MAX; i++) {
        for (uint32_t j = i + 1; j < HF_RAFT_MEMBERS_MAX; j++) {
            HF_ASSERT(d->pins[i].peer.v == 0 || d->pins[i].peer.v != d->pins[j].peer.v);
        }
    }
}
