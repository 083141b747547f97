/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_ops.h - the cluster map as rows: format, nodes, groups; and the map in memory made of them.
 */
#ifndef HF_META_MAP_OPS_H
#define HF_META_MAP_OPS_H

#include "server/meta/txn.h"

/** Rebuild meta->format and meta->map from the rows. */
int hf_map_ops_load(struct hf_meta *meta);

int hf_meta_op_format(struct hf_meta *meta, const struct hf_meta_op *op,
                      struct hf_meta_reply *reply);
/** A node that is there already gets the new address, domain and weight; it starts as UP unless
 *  the operation says otherwise. */
int hf_meta_op_node_add(struct hf_meta *meta, const struct hf_meta_op *op,
                        struct hf_meta_reply *reply);
int hf_meta_op_node_state(struct hf_meta *meta, const struct hf_meta_op *op,
                          struct hf_meta_reply *reply);
/** Members that leave the group owe it no copies any more. Who joins is the leader's to compare:
 *  what it lacks comes with DEGRADED_ADD. */
int hf_meta_op_group_set(struct hf_meta *meta, const struct hf_meta_op *op,
                         struct hf_meta_reply *reply);

#endif
