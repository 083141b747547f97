/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inventory.h - what one node really holds, compared with what the metadata say it holds.
 *
 *     for each group it is a member of, page by page in id order:
 *         note the metadata's objects ──► ask the node for its list ──► merge the two
 *     in the metadata, not (or bad, or other) on the node ──► DEGRADED_ADD
 *     on the node, unknown to the metadata, its session ended ──► deleted there
 *
 * The metadata's page is taken before the node is asked: what it names was durable on its holders
 * when its entry was applied, so a list made later must show it.
 *
 * Threads: loop thread only.
 */
#ifndef HF_META_INVENTORY_H
#define HF_META_INVENTORY_H

struct hf_leader;
struct hf_lnode;
struct hf_meta_op;

/** Ends in hf_nodes_inventory_done(), unless cancelled. None may be running for the node. */
void hf_inventory_start(struct hf_leader *leader, struct hf_lnode *node);
/** No-op when none is running. */
void hf_inventory_cancel(struct hf_leader *leader, struct hf_lnode *node);
/**
 * The commit was applied, and refused with @err: its objects, which no other will name, are deleted
 * where they may lie. What is not reached waits for an inventory after the end of its session.
 */
void hf_inventory_refused(struct hf_leader *leader, const struct hf_meta_op *op, int err);

#endif
