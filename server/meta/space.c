/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/space.h"

#include "server/meta/leader_impl.h"

struct room {
    uint64_t nodes;
    uint64_t free_min_bytes;
    uint64_t capacity_bytes;
};

static uint64_t less(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* @live  only of stores that can be written now; else of all that this leader has heard */
static struct room room_of(const struct hf_leader *leader, bool live)
{
    const struct hf_map *map = hf_meta_map(leader->meta);
    struct room room = {.free_min_bytes = UINT64_MAX};

    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct hf_lnode *node = hf_nodes_get(leader, map->nodes[i].id);
        uint64_t free_bytes = node->stats.free_bytes;

        if (live ? !hf_nodes_live(leader, map->nodes[i].id) : !node->heard) {
            continue;
        }
        free_bytes -= less(free_bytes, leader->reserve_bytes);
        free_bytes -= less(free_bytes, node->named_bytes);
        room.nodes++;
        room.capacity_bytes += node->stats.capacity_bytes;
        room.free_min_bytes = less(room.free_min_bytes, free_bytes);
    }
    return room;
}

/* Too few to write anything are a matter of patience, not of space: it counts as it was last told.
 */
static struct room look(const struct hf_leader *leader)
{
    struct room room = room_of(leader, true);

    return room.nodes < hf_meta_map(leader->meta)->min_copies ? room_of(leader, false) : room;
}

static uint64_t copies(const struct hf_leader *leader, uint64_t nodes)
{
    uint64_t n = less(hf_meta_map(leader->meta)->copies, nodes);

    return n ? n : 1;
}

/* Record headers and padding: 1/32, as a packed object of 128 KiB has. */
static uint64_t net(uint64_t bytes)
{
    return bytes - bytes / 32;
}

uint64_t hf_space_usable(const struct hf_leader *leader)
{
    struct room room = look(leader);

    if (room.nodes == 0) { /* none has reported yet: writers go on */
        return HF_SPACE_FIRST_BYTES * (leader->sessions.count + 1);
    }
    return net(room.free_min_bytes / copies(leader, room.nodes) * room.nodes);
}

/* Files have them, and nobody has written there. */
static uint64_t reserved(const struct hf_leader *leader)
{
    struct hf_meta_usage usage;

    hf_meta_usage(leader->meta, &usage);
    return usage.reserved_bytes;
}

bool hf_space_known(const struct hf_leader *leader)
{
    return hf_env_mono_ns(leader->env) - leader->started_ns >= leader->node_timeout_ns ||
           (look(leader).nodes > 0 && leader->sessions.unclaimed == 0);
}

uint64_t hf_space_reservable(const struct hf_leader *leader)
{
    uint64_t usable = hf_space_usable(leader), granted = 0;

    for (const struct hf_lsession *s = leader->sessions.head; s; s = s->next) {
        granted += s->budget_bytes;
    }
    return usable - less(usable, granted);
}

uint64_t hf_space_grant(struct hf_leader *leader, struct hf_lsession *session, uint64_t want_bytes)
{
    uint64_t usable = hf_space_usable(leader), others = 0, rest, most;

    for (const struct hf_lsession *s = leader->sessions.head; s; s = s->next) {
        others += s == session ? 0 : s->budget_bytes;
    }
    others += reserved(leader) + leader->reserving_bytes;
    rest = usable - less(usable, others);
    most = rest;
    if (leader->sessions.count > 1) {
        most = rest / 2;
    }
    session->budget_bytes = less(want_bytes, most);
    return session->budget_bytes;
}

void hf_space_named(struct hf_leader *leader, const struct hf_meta_op *op)
{
    for (uint32_t i = 0; i < op->object_count; i++) {
        for (uint64_t left = op->objects[i].holders; left; left &= left - 1) {
            leader->nodes.nodes[__builtin_ctzll(left)].named_bytes +=
                op->objects[i].len_bytes + HF_SPACE_RECORD_BYTES;
        }
    }
}

void hf_space_statfs(const struct hf_leader *leader, struct hf_meta_reply *reply)
{
    struct room room = look(leader);

    reply->total_bytes = net(room.capacity_bytes / copies(leader, room.nodes));
    reply->free_bytes = hf_space_usable(leader);
    reply->free_bytes -= less(reply->free_bytes, reserved(leader));
    reply->free_bytes = less(reply->free_bytes, reply->total_bytes);
}
