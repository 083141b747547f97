/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodes.h - the stores as the leader hears them: heartbeats, node states, who is alive.
 *
 *   first heartbeat ──► UP ──unheard──► DOWN ──heard──► RETURNING ──inventory matched──► UP
 *                       └──"my disk fails writes"──► READ_ONLY ──it was started again──┘
 *
 * A READ_ONLY node is no part of what is written, as if it were DOWN; what it holds can be read.
 * A node is its id and its store's uuid: the first store that claims an id becomes it, another one
 * is refused and counts as not heard.
 *
 * Time: monotonic. Threads: loop thread only.
 */
#ifndef HF_META_NODES_H
#define HF_META_NODES_H

#include "common/env/env.h"
#include "common/wire/store_msg.h"

struct hf_leader;
struct hf_inventory;

#define HF_NODES_CLEARS_MAX 256u

struct hf_lnode { /* what the leader knows of one node */
    struct hf_node_id id;
    bool heard;                           /* since this leader started */
    bool proposing;                       /* a NODE_STATE is on its way */
    uint64_t start_proposed, start_noted; /* of its processes: in that; in the log */
    bool refused;                         /* another store claims its id; logged */
    bool doubled;                         /* another process does; logged */
    uint64_t start;                       /* of the process that is heard */
    char addr[HF_ADDR_BYTES_MAX];
    uint64_t heard_ns;
    struct hf_msg_store_stats stats;
    uint64_t named_bytes; /* of objects that entries named since those figures */
    struct hf_oid unnamed_bad[HF_HEARTBEAT_BAD_MAX]; /* bad copies of what no entry names yet */
    uint32_t unnamed_bad_count;
    bool unnamed_bad_missed; /* there were more */
    /* inventory */
    struct hf_inventory *inventory; /* running; NULL: none */
    bool inventory_wanted;
    uint64_t inventory_returned; /* the node's last return when it began */
    uint64_t inventory_ns;       /* the next one not before; after one: when it ended */
    uint64_t inventory_ended;    /* sessions ended when the last one began */
    /* copier */
    struct hf_oid copy_after; /* position of the pass */
    bool copy_started;        /* copy_after counts */
    bool copy_over;           /* the pass has seen every row */
    uint32_t copies, copy_failures;
    uint64_t copy_retry_ns, copy_backoff_ns;
    struct hf_oid clears[HF_NODES_CLEARS_MAX]; /* copied, not yet in the log */
    uint32_t clear_count, clears_in_flight;
    /* reaper */
    bool deleting;
    uint64_t delete_retry_ns, delete_backoff_ns;
};

struct hf_nodes {
    struct hf_lnode nodes[HF_NODES_MAX];
    struct hf_timer timer;
    uint64_t tick_ns, last_tick_ns;
};

void hf_nodes_init(struct hf_leader *leader);
void hf_nodes_start(struct hf_leader *leader);
void hf_nodes_stop(struct hf_leader *leader);
void hf_nodes_fini(struct hf_leader *leader);

struct hf_lnode *hf_nodes_mut(struct hf_leader *leader, struct hf_node_id id);
const struct hf_lnode *hf_nodes_get(const struct hf_leader *leader, struct hf_node_id id);
/** Heard lately, and UP or RETURNING: it can be given work. */
bool hf_nodes_live(const struct hf_leader *leader, struct hf_node_id id);
enum hf_node_state hf_nodes_state(const struct hf_leader *leader, struct hf_node_id id);

void hf_nodes_map_changed(struct hf_leader *leader);
/** Take every node's inventory soon: there may be objects that no entry will name. */
void hf_nodes_audit(struct hf_leader *leader);
/** Its copy is bad. Of what an entry may still name, that is kept in mind until one does. */
void hf_nodes_bad_unnamed(struct hf_leader *leader, struct hf_lnode *node,
                          const struct hf_oid *oid);
/** Its inventory matched (err 0), or has to be made again. */
void hf_nodes_inventory_done(struct hf_leader *leader, struct hf_lnode *node, int err);

#endif
